//! What the thread that serves does not wait for.
//!
//! They need a disk of their own, and so root and FUSE: `tests/run` has them as a step.

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer};
use everseed_tests::seeder::{Setup, make};
use everseed_tests::slow::SlowDisk;
use everseed_tests::{PATIENCE, wait};

/// A peer asks for what lies on a disk that does not answer: others get what lies elsewhere, and it gets its blocks
/// when the disk answers again.
#[test]
#[ignore = "needs root and FUSE"]
fn a_disk_that_does_not_answer_keeps_others_from_nothing() {
    let net = Net::new();
    let (disk, dir) = (SlowDisk::new(), Dir::new("serving"));
    let slow = Content::file("slow.bin", 1 << 20, 1);
    let fast = Content::file("fast.bin", 1 << 20, 2);
    slow.copy_to(disk.behind());
    let torrent = dir.join("fast.torrent");
    let hash = make(fast.path(), &torrent, &[]);
    let setup = Setup::new(&disk.at().join("slow.bin"), net.addr(Family::V4));
    let mut seeder = setup.args([fast.path().display()]).start(&dir);
    let slow_hash = seeder.info_hash();
    let mut waits = Peer::unchoked(seeder.addr(), slow_hash, true);
    let mut served = Peer::unchoked(seeder.addr(), hash, true);
    read(&mut served, 0..64);
    disk.hold();
    waits.request(0, 0, 1 << 14);
    wait("the disk to be asked", PATIENCE, || {
        (disk.held() > 0).then_some(())
    });
    read(&mut served, 0..64);
    disk.release();
    while !matches!(waits.expect("its block"), Message::Piece { .. }) {}
    seeder.stop();
}

/// Reads blocks, of which each piece has one.
fn read(peer: &mut Peer, blocks: std::ops::Range<u32>) {
    for block in blocks {
        peer.request(block, 0, 1 << 14);
        while !matches!(peer.expect("a block"), Message::Piece { .. }) {}
    }
}
