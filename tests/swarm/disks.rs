//! Disks that people take away, fill and format as they like.
//!
//! They need disks of their own, and so root and loop devices: `tests/run` has them as a step.

use std::fs;
use std::io::Read;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::disk::Disk;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer, handshake};
use everseed_tests::seeder::make;
use everseed_tests::service::Service;
use everseed_tests::watched::{age, config};
use everseed_tests::{PATIENCE, wait};

const MIB: u64 = 1 << 20;

/// Reads so many blocks, of which each piece has one.
fn read(peer: &mut Peer, blocks: u32) {
    for block in 0..blocks {
        peer.request(block, 0, 1 << 14);
        while !matches!(peer.expect("a block"), Message::Piece { .. }) {}
    }
}

/// A disk that is seeded from and that nobody reads from can be ejected after a while, and is served again when it is
/// back.
#[test]
#[ignore = "needs root and loop devices"]
fn an_idle_disk_is_ejected() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(32 * MIB));
    let names: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), 1 << 14)).collect();
    let content = Content::folder("idle", &files);
    let torrent = dir.join("idle.torrent");
    let hash = make(content.path(), &torrent, &[]);
    content.copy_to(disk.at());
    let listen = net.addr(Family::V4);
    let config = format!(
        "[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
        torrent.display(),
        disk.at().display()
    );
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: idle", 1);
    // A peer that stays and asks for nothing more keeps no file open.
    let mut peer = Peer::unchoked(listen, hash, true);
    read(&mut peer, 20);
    wait("the disk to be free", PATIENCE, || {
        service.process.assert_alive();
        disk.eject().then_some(())
    });
    disk.plug_in();
    wait("it to be served again", PATIENCE, || {
        service.process.assert_alive();
        let mut peer = Peer::connect(listen);
        peer.send(&handshake(hash, true));
        peer.stream.read_exact(&mut [0; 68]).ok()
    });
    read(&mut Peer::unchoked(listen, hash, true), 20);
    service.stop();
}

/// The disk of the state is full: what is known is seeded, what is new is said to wait, and comes when there is room.
/// Nothing there is written that has not changed.
#[test]
#[ignore = "needs root and loop devices"]
fn a_full_state_disk() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(16 * MIB));
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    let lay = |name: &str, seed: u64| {
        let names: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
        let files: Vec<_> = names
            .iter()
            .map(|n| (n.as_str(), (1 << 14) - seed))
            .collect();
        let content = Content::folder(name, &files);
        let torrent = dir.join("made.torrent");
        let hash = make(content.path(), &torrent, &[]);
        content.copy_to(&data);
        age(&torrent);
        fs::rename(&torrent, watch.join(format!("{name}.torrent"))).unwrap();
        hash
    };
    let state = disk.at().join("state");
    let listen = net.addr(Family::V4);
    let config = config(&watch, &data);
    let hash = lay("known", 0);
    let mut service = Service::start_at(&dir, &state, listen, &config, &[]);
    service.wait_for("seeding: known", 1);
    service.stop();
    let written = || {
        let entries = fs::read_dir(&state).unwrap().flatten();
        let index = entries
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "index"));
        let marks =
            index.map(|path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap()));
        marks.collect::<Vec<u64>>()
    };
    let before = written();
    assert_eq!(before.len(), 1);
    let full = disk.fill();
    let mut service = Service::start_at(&dir, &state, listen, &config, &[]);
    service.wait_for("seeding: known", 1);
    read(&mut Peer::unchoked(listen, hash, true), 20);
    lay("new", 1);
    service.wait_for("No space left on device", 1);
    read(&mut Peer::unchoked(listen, hash, true), 20);
    assert_eq!(
        written(),
        before,
        "the index was written though it is the same"
    );
    fs::remove_file(full).unwrap();
    service.wait_for("seeding: new", 1);
    service.stop();
}
