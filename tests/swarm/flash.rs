//! everseed spares flash: a disk that records each call counts the writes to the state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::Peer;
use everseed_tests::service::Service;
use everseed_tests::slow::SlowDisk;
use everseed_tests::watched::{config, fill, lay};
use everseed_tests::{PATIENCE, wait};

/// Calls that change something on a disk.
const CHANGES: [&str; 9] = [
    "write",
    "create",
    "rename",
    "unlink",
    "setattr",
    "mkdir",
    "fsync",
    "fsyncdir",
    "fallocate",
];

/// How often each call that changes the disk was made since the last count.
fn changes(disk: &SlowDisk) -> BTreeMap<(&'static str, PathBuf), usize> {
    let mut counted = BTreeMap::new();
    for call in disk.take_calls() {
        if CHANGES.contains(&call.what) {
            *counted.entry((call.what, call.path)).or_default() += 1;
        }
    }
    counted
}

fn writes(changes: &BTreeMap<(&str, PathBuf), usize>) -> usize {
    let written = changes.iter().filter(|((what, _), _)| *what == "write");
    written.map(|(_, times)| times).sum()
}

/// A service that seeds writes nothing, neither without peers nor while it serves one. At a stop it writes one record
/// for each torrent of which it sent something.
#[test]
#[ignore = "needs root and FUSE"]
fn a_seeder_writes_nothing() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), SlowDisk::new());
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    fill(&watch, &data, 0..100, "");
    let content = Content::file("served.bin", 4 << 14, 1);
    let hash = lay(&content, &watch, &data);
    let listen = net.addr(Family::V4);
    // Half of the torrents sleep.
    let config = config(&watch, &data) + "torrents = 50\ndht = \"off\"\nlsd = \"off\"\n";
    let state = disk.at().join("state");
    let mut service = Service::start_at(&dir, &state, listen, &config, &[]);
    service.wait_for("seeding: ", 101);
    // The test has to sleep, because it waits for nothing to happen.
    let pass = |service: &mut Service| {
        thread::sleep(Duration::from_secs(20));
        service.process.assert_alive();
    };
    // Waits until the service writes nothing any more, and returns how often it wrote until then.
    let settle = |service: &mut Service| {
        let mut before = 0;
        wait("an idle service", PATIENCE, || {
            pass(service);
            let now = changes(&disk);
            before += writes(&now);
            now.is_empty().then_some(())
        });
        before
    };
    settle(&mut service);
    Peer::unchoked(listen, hash, true).pieces(0..4);
    pass(&mut service);
    assert_eq!(changes(&disk), BTreeMap::new(), "while a peer is served");
    service.stop();
    let written = changes(&disk);
    assert_eq!(writes(&written), 1, "one record: {written:?}");
    let mut service = Service::start_at(&dir, &state, listen, &config, &[]);
    service.wait_for("seeding: ", 50);
    assert_eq!(settle(&mut service), 0, "writes at a start");
    service.stop();
    let written = changes(&disk);
    assert_eq!(writes(&written), 0, "at a stop: {written:?}");
}
