//! Torrent files: all parts of an accepted torrent can be read, and lie within its bounds.
#![no_main]

use std::io::Cursor;
use std::path::{Component, Path};

use everseed_core::hash::Smol;
use everseed_core::metainfo::{FileKind, Metainfo};
use everseed_disk::Stream;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let stream = || Stream(Cursor::new(bytes));
    let Ok(torrent) = Metainfo::read::<Smol, _>(stream()) else {
        return;
    };
    let info = torrent.info_range();
    assert!(info.start < info.end && info.end <= bytes.len() as u64);
    let geometry = torrent.geometry;
    for piece in geometry.all_pieces().take(1000) {
        torrent
            .piece_hash(stream(), piece)
            .expect("a hash for each piece");
    }
    torrent.name(stream()).expect("a name");
    let mut total = 0;
    let mut files = torrent.files(stream()).expect("files");
    while let Some(file) = files.next().expect("a list that was accepted") {
        total += file.len;
        let path = file.path;
        if file.kind == FileKind::Data {
            let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
            assert!(Path::new(path).components().all(plain), "{path:?}");
        }
    }
    assert_eq!(total, geometry.total());
    let mut trackers = torrent.trackers(stream()).expect("trackers");
    while let Ok(Some(_)) = trackers.next() {}
    let mut web_seeds = torrent.web_seeds(stream()).expect("web seeds");
    while let Ok(Some(_)) = web_seeds.next() {}
    let mut nodes = torrent.dht_nodes(stream()).expect("nodes");
    while let Ok(Some(_)) = nodes.next() {}
});
