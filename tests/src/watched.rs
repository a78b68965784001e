//! Watched folders: their configuration, and what is laid into them, up to thousands of small torrents.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::content::Content;
use crate::peer::InfoHash;
use crate::seeder::make;

/// The lines of a configuration that watch a folder, with the data in another one.
pub fn config(watch: &Path, data: &Path) -> String {
    format!(
        "watch = \"{}\"\ndata = \"{}\"\n",
        watch.display(),
        data.display()
    )
}

/// Lays a content and its torrent, which looks old, into these folders; gives its hash.
pub fn lay(content: &Content, watch: &Path, data: &Path) -> InfoHash {
    content.copy_to(data);
    let torrent = watch.join(format!("{}.torrent", content.name()));
    let hash = make(content.path(), &torrent, &[]);
    age(&torrent);
    hash
}

/// The name of the torrent with this number.
pub fn name(n: usize) -> String {
    format!("1-{n:05}")
}

/// Puts torrents of one piece each into a folder and their files into another one. They have a tracker unless
/// `tracker` is empty.
pub fn fill(watch: &Path, data: &Path, numbers: Range<usize>, tracker: &str) {
    let announce = match tracker {
        "" => String::new(),
        url => format!("8:announce{}:{url}", url.len()),
    };
    let content = WORD.repeat(WORDS);
    for n in numbers {
        let name = name(n);
        let head = format!(
            "d{announce}4:infod6:lengthi{}e4:name{}:{name}12:piece lengthi16384e6:pieces20:",
            content.len(),
            name.len()
        );
        let torrent = [head.as_bytes(), &SHA1, b"ee"].concat();
        fs::write(data.join(&name), &content).expect("content");
        // Renamed into place, as a complete file appears.
        let (path, part) = (watch.join(format!("{name}.torrent")), watch.join("x.part"));
        fs::write(&part, torrent).expect("a torrent");
        age(&part);
        fs::rename(&part, &path).expect("a torrent");
    }
}

/// Makes a file look as if it had not changed for long.
pub fn age(path: &Path) {
    let file = fs::File::options().write(true).open(path).expect("a file");
    let before = SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(before).expect("a file's time");
}

/// The content is this word, repeated.
const WORD: &str = "everseed";
const WORDS: usize = 100;

/// The content's hash, from `sha1sum`.
const SHA1: [u8; 20] = [
    0x4d, 0x22, 0xd1, 0xd6, 0x69, 0x01, 0x08, 0xe4, 0x6b, 0x37, 0x23, 0x29, 0x36, 0x58, 0xf7, 0x3f,
    0xef, 0x67, 0xa1, 0x3e,
];
