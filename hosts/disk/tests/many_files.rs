//! Memory does not grow with the number of files. This test is alone in its process, so that the memory is its own.
#![allow(missing_docs)]

mod common;

use std::fs;

use common::{Listed, Scratch, torrent_of};
use everseed_disk::{Content, FileCache, ReadError, read_torrent};

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_hundred_thousand_files_stay_on_disk() {
    const COUNT: usize = 100_000;
    let scratch = Scratch::new("many");
    let names: Vec<String> = (0..COUNT)
        .map(|n| format!("{}/{}/{n}", n / 1000, n / 50))
        .collect();
    let list: Vec<Listed<'_>> = names
        .iter()
        .map(|name| Listed {
            path: name,
            len: 3,
            attr: "",
        })
        .collect();
    let torrent = torrent_of("many", 1 << 20, &list, &vec![7; 3 * COUNT]);
    let torrent = scratch.write("many.torrent", &torrent);
    for n in [0, 1, 777, 50_000, COUNT - 1] {
        scratch.write(&format!("many/{}", names[n]), &[7; 3]);
    }
    let before = resident();
    let metainfo = read_torrent(&torrent).unwrap();
    let content = Content::open(&torrent, &metainfo, scratch.path(), scratch.path()).unwrap();
    let files = FileCache::new(4);
    for n in [0, 1, 777, 50_000, COUNT - 1] {
        let mut buf = [0; 3];
        content.read(&files, 3 * n as u64, &mut buf).unwrap();
        assert_eq!(buf, [7; 3]);
    }
    let missing = content.read(&files, 3 * 500, &mut [0]);
    assert!(matches!(missing, Err(ReadError::Missing { .. })));
    // The check for equal paths takes a few megabytes for a moment. A table of all paths would take ten.
    let grown = resident().saturating_sub(before);
    assert!(grown < 6 << 20, "grew by {grown} bytes");
}
