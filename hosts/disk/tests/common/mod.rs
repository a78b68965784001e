//! Helpers of this package's tests: a temporary folder, random bytes, and torrents written by hand.
#![allow(missing_docs, dead_code, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use everseed_core::hash::{Sha1, Smol};
use everseed_core::rng::Rng;

/// A folder for one test, removed at the test's end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("everseed-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and makes the folders above it.
    pub fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

/// One file of a torrent written by hand: path, length, and the BEP 47 attributes.
pub struct Listed<'a> {
    pub path: &'a str,
    pub len: usize,
    pub attr: &'a str,
}

/// A multi-file torrent with any list of files, however odd, and the hashes of `content`.
pub fn torrent_of(name: &str, piece_len: usize, files: &[Listed<'_>], content: &[u8]) -> Vec<u8> {
    let mut out = b"d4:infod5:filesl".to_vec();
    for file in files {
        out.push(b'd');
        if !file.attr.is_empty() {
            text(&mut out, "attr");
            text(&mut out, file.attr);
        }
        out.extend(format!("6:lengthi{}e4:pathl", file.len).into_bytes());
        for component in file.path.split('/') {
            text(&mut out, component);
        }
        out.extend(b"ee");
    }
    out.extend(b"e");
    text(&mut out, "name");
    text(&mut out, name);
    out.extend(format!("12:piece lengthi{piece_len}e6:pieces").into_bytes());
    let hashes: Vec<u8> = content
        .chunks(piece_len)
        .flat_map(|piece| {
            let mut sha1 = Smol::default();
            sha1.update(piece);
            sha1.finish()
        })
        .collect();
    out.extend(format!("{}:", hashes.len()).into_bytes());
    out.extend(hashes);
    out.extend(b"ee");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(format!("{}:{text}", text.len()).into_bytes());
}
