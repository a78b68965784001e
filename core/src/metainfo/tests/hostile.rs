//! Torrents of a size that nobody makes, and torrents with random damage.

use std::vec;

use super::*;
use crate::rng::Rng;

/// A torrent of a million pieces that exists nowhere as a whole.
struct Million {
    head: Vec<u8>,
    left: usize,
    read: u64,
}

impl ErrorType for Million {
    type Error = Infallible;
}

impl Read for Million {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut len = self.head.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(self.head.drain(..len)) {
            *to = from;
        }
        if len == 0 {
            len = self.left.min(buf.len());
            buf[..len].fill(b'h');
            self.left -= len;
            if len == 0 {
                (self.head, self.left) = (Vec::new(), 0);
            } else if self.left == 0 {
                self.head = b"ee".to_vec();
            }
        }
        self.read += len as u64;
        Ok(len)
    }
}

#[test]
fn a_million_pieces() {
    let head = "d4:infod6:lengthi549755813888000e4:name1:n12:piece lengthi536870912e\
        6:pieces20480000:";
    assert_eq!(549_755_813_888_000u64 / 536_870_912, 1_024_000);
    let mut torrent = Million {
        head: head.as_bytes().to_vec(),
        left: 20_480_000,
        read: 0,
    };
    let metainfo = Metainfo::read::<Smol, _>(&mut torrent).unwrap();
    assert_eq!(metainfo.geometry.pieces(), 1_024_000);
    assert_eq!(metainfo.pieces_at(), head.len() as u64);
    assert_eq!(torrent.read, head.len() as u64 + 20_480_000 + 2);
    assert!(size_of::<Metainfo>() <= 512);
}

#[test]
fn mutations_never_panic() {
    let files = [entry(40, &["a", "b"]), entry(60, &["c"])].concat();
    let text = format!(
        "d8:announce1:a13:announce-listll1:b1:cee4:info{}8:url-listl1:wee",
        multi(&files, 100)
    );
    assert!(parse(text.as_bytes()).is_ok());
    let mut rng = Rng::new(3);
    let mut good = 0;
    for _ in 0..20_000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u32) as usize;
            match rng.below(4) {
                0 => bytes[at] = b"0123456789ilde:-"[rng.below(16) as usize],
                1 => bytes.truncate(at.max(1)),
                2 if bytes.len() > 1 => _ = bytes.remove(at),
                _ => bytes[at] = rng.bits32() as u8,
            }
        }
        let mut input = file(&bytes);
        let parsed = Metainfo::read::<Smol, _>(&mut input);
        // Once through and no more, in reads of the reader's buffer.
        let reads = bytes.len() / 512 + 3;
        assert!(input.reads <= reads, "{} reads", input.reads);
        let Ok(metainfo) = parsed else {
            continue;
        };
        good += 1;
        input.reads = 0;
        let mut files = metainfo.files(&mut input).unwrap();
        while files.next().unwrap().is_some() {}
        assert!(input.reads <= reads, "{} reads", input.reads);
        let found = list(&metainfo, &bytes);
        assert_eq!(found.len(), metainfo.file_count as usize);
        assert_eq!(
            found.iter().map(|f| f.1).sum::<u64>(),
            metainfo.geometry.total()
        );
        for (path, ..) in &found {
            let bad = |part: &str| matches!(part, "" | "." | "..") || part.len() > MAX_NAME;
            assert!(!path.split('/').any(bad), "{path}");
        }
        let mut trackers = metainfo.trackers(file(&bytes)).unwrap();
        while trackers.next().unwrap().is_some() {}
        let mut seeds = metainfo.web_seeds(file(&bytes)).unwrap();
        while seeds.next().unwrap().is_some() {}
        let mut nodes = metainfo.dht_nodes(file(&bytes)).unwrap();
        while nodes.next().unwrap().is_some() {}
    }
    assert!(good > 500, "{good} mutants live");
    // A file that is replaced while it is used is an error, not a panic.
    let metainfo = parse(text.as_bytes()).unwrap();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = b'!';
        let cut = vec![file(&bytes), file(&text.as_bytes()[..at])];
        for torrent in cut {
            if let Ok(mut files) = metainfo.files(torrent) {
                while let Ok(Some(_)) = files.next() {}
            }
        }
    }
}
