//! Torrents and their files for the measurements.

use std::fs::File;
use std::path::{Path, PathBuf};

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::peer::InfoHash;
use everseed_tests::seeder::make;

/// A torrent of one file.
#[derive(Clone, Debug)]
pub(crate) struct Torrent {
    pub(crate) path: PathBuf,
    pub(crate) hash: InfoHash,
    pub(crate) name: String,
    pub(crate) len: u64,
    pub(crate) piece_len: u64,
}

impl Torrent {
    pub(crate) fn pieces(&self) -> usize {
        usize::try_from(self.len.div_ceil(self.piece_len)).expect("a number of pieces")
    }
}

/// Torrents, and the folder with their files.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) torrents: Vec<Torrent>,
    pub(crate) data: PathBuf,
    /// Kept so that the files stay.
    _content: Option<Content>,
    _dir: Dir,
}

impl Set {
    /// One file of random bytes in pieces of 256 KiB.
    pub(crate) fn random(len: u64, tracker: &str) -> Set {
        let content = Content::file("content.bin", len, len);
        // Otherwise the kernel would write it to the disk during a measurement.
        let synced = File::open(content.path()).and_then(|file| file.sync_all());
        synced.expect("writing content to the disk");
        let dir = Dir::new("torrents");
        Set {
            torrents: vec![torrent(content.path(), &dir, len, 256 << 10, tracker)],
            data: content.parent().to_owned(),
            _content: Some(content),
            _dir: dir,
        }
    }

    /// Sparse files of `len` bytes, each with a torrent of its own.
    pub(crate) fn holes(files: usize, len: u64, piece_len: u64, tracker: &str) -> Set {
        let dir = Dir::new("holes");
        let data = dir.sub("data");
        let one = |number| {
            let path = data.join(format!("{number:05}.bin"));
            let file = File::create(&path).and_then(|file| file.set_len(len));
            file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            torrent(&path, &dir, len, piece_len, tracker)
        };
        Set {
            torrents: (0..files).map(one).collect(),
            data: data.clone(),
            _content: None,
            _dir: dir,
        }
    }

    /// The first torrent.
    pub(crate) fn first(&self) -> &Torrent {
        self.torrents.first().expect("a set with torrents")
    }
}

fn torrent(path: &Path, dir: &Dir, len: u64, piece_len: u64, tracker: &str) -> Torrent {
    let name = path.file_name().expect("content has a name");
    let name = name.to_string_lossy().into_owned();
    let out = dir.join(format!("{name}.torrent"));
    let kib = (piece_len / 1024).to_string();
    Torrent {
        hash: make(path, &out, &["-s", &kib, "-t", tracker]),
        path: out,
        name,
        len,
        piece_len,
    }
}
