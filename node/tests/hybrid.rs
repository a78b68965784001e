//! A torrent with two info-hashes (BEP 52) is found by either.

mod common;

use everseed_core::hash::InfoHash;
use everseed_node::{AddError, Have, Reason};

use common::{HASH, Setup, World};

const SECOND: InfoHash = InfoHash([9; 20]);

#[test]
fn who_names_either_hash_is_answered_by_it_and_served() {
    let mut world = World::new(&Setup::default(), Have::All);
    world.node.add_second_hash(world.torrent, SECOND).unwrap();
    assert_eq!(world.node.find(SECOND), Some(world.torrent));
    let peers = [HASH, SECOND].map(|hash| {
        let peer = world.connect().unwrap();
        world.peers[peer].greet(hash, true);
        world.peers[peer].say(&[everseed_core::wire::Message::Interested]);
        world.settle();
        world.peers[peer].ask(0, 4);
        world.settle();
        let named = world.peers[peer].handshake.map(|h| h.info_hash);
        assert_eq!((named, world.peers[peer].pieces()), (Some(hash), 4));
        peer
    });
    assert_eq!(world.node.torrent(world.torrent).unwrap().conns, 2);
    assert_eq!(world.node.known(), 1);
    // Removing the torrent removes both info-hashes.
    world.node.remove(world.now, world.torrent);
    world.settle();
    assert!(peers.iter().all(|&peer| !world.peers[peer].open));
    assert_eq!(
        (world.node.find(HASH), world.node.find(SECOND)),
        (None, None)
    );
    let late = world.connect().unwrap();
    world.peers[late].greet(SECOND, true);
    world.settle();
    let addr = world.peers[late].addr;
    assert_eq!(world.closed.get(&addr), Some(&Reason::UnknownTorrent));
}

#[test]
fn a_hash_is_of_one_torrent() {
    let mut world = World::new(&Setup::default(), Have::All);
    let other = world.node.know(InfoHash([3; 20])).unwrap();
    for hash in [HASH, InfoHash([3; 20])] {
        let (own, id) = match hash == HASH {
            true => (other, world.torrent),
            false => (world.torrent, other),
        };
        let second = world.node.add_second_hash(own, hash);
        assert_eq!(second, Err(AddError::Duplicate));
        assert_eq!(world.node.find(hash), Some(id));
    }
    // A dormant torrent keeps its second info-hash when it is woken.
    world.node.add_second_hash(other, SECOND).unwrap();
    let peer = world.connect().unwrap();
    world.peers[peer].greet(SECOND, true);
    world.settle();
    assert_eq!(world.asked_for, [other]);
    let (now, geometry) = (world.now, world.geometry);
    world.node.wake(now, other, geometry, Have::All, 0).unwrap();
    world.settle();
    let named = world.peers[peer].handshake.map(|h| h.info_hash);
    assert_eq!(named, Some(SECOND));
}
