//! One node that downloads from scripted peers: what it charges them with, and what it does not.

mod common;

use common::{Setup, World};
use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::wire::Message;
use everseed_node::{Event, Reason};

fn setup() -> Setup {
    Setup {
        blocks: 32,
        ..Setup::default()
    }
}

fn give(world: &mut World, peer: usize, blocks: usize) {
    for _ in 0..blocks {
        world.peers[peer].give();
        world.settle();
    }
}

fn reason(world: &World, peer: usize) -> Option<Reason> {
    world.closed.get(&world.peers[peer].addr).copied()
}

/// Blocks that nobody waits for pass by, and who sends many is let go.
#[test]
fn unasked_blocks() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.leecher(true);
    let block = BlockRef {
        index: 5,
        begin: 0,
        len: BLOCK,
    };
    for _ in 0..16 {
        world.peers[peer].send(block);
        world.settle();
        assert_eq!(world.node.blocks_free(), world.node.blocks());
    }
    assert!(world.peers[peer].open);
    world.peers[peer].send(block);
    world.settle();
    assert_eq!(reason(&world, peer), Some(Reason::Unasked));
    assert_eq!(world.node.torrent(world.torrent).unwrap().downloaded, 0);
}

/// What was asked for and crossed a choke is not charged, however much it is.
#[test]
fn what_crosses_a_choke() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.giver(false);
    give(&mut world, peer, 24);
    let asked = world.peers[peer].asked.clone();
    assert!(asked.len() > 17, "{}", asked.len());
    world.peers[peer].say(&[Message::Choke]);
    world.settle();
    let mut sent = 0;
    for block in asked {
        world.peers[peer].send(block);
        world.settle();
        sent += 1;
        assert!(world.peers[peer].open, "let go after {sent}");
    }
    // More than that was not asked for.
    for _ in 0..17 {
        let again = BlockRef {
            index: 0,
            begin: 0,
            len: BLOCK,
        };
        world.peers[peer].send(again);
        world.settle();
    }
    assert_eq!(reason(&world, peer), Some(Reason::Unasked));
}

/// Who gave two whole pieces that were bad is banned, and so is whoever comes from there.
#[test]
fn bad_pieces_of_one() {
    let mut world = World::downloading(&setup(), 0);
    world.bad.extend(0..common::PIECES);
    let peer = world.giver(true);
    while world.verified.is_empty() {
        give(&mut world, peer, 1);
    }
    assert!(world.peers[peer].open, "one may be an accident");
    let mut gave = 0;
    while world.peers[peer].open {
        give(&mut world, peer, 1);
        gave += 1;
        assert!(gave < 100, "it is never banned");
    }
    assert_eq!(reason(&world, peer), Some(Reason::BadPieces));
    assert_eq!(world.verified.len(), 2);
    let same = world.peers[peer].addr;
    assert_eq!(world.node.accept(world.now, same), None);
}

/// A bad piece of several peers proves little: it is fetched again from one of them alone, and who
/// was not to blame stays.
#[test]
fn bad_pieces_of_several() {
    let mut world = World::downloading(&setup(), 19);
    let (one, two) = (world.giver(true), world.giver(true));
    world.bad.push(19);
    // Each gives one of three blocks in turn.
    for n in 0..3 {
        give(&mut world, [one, two][n % 2], 1);
    }
    assert_eq!(world.verified, [19]);
    assert!(world.peers[one].open && world.peers[two].open);
    world.bad.clear();
    let asked = [one, two].map(|peer| world.peers[peer].asked.len());
    assert!(asked == [3, 0] || asked == [0, 3], "{asked:?}");
    let alone = if asked[0] > 0 { one } else { two };
    give(&mut world, alone, 3);
    assert_eq!(world.verified, [19, 19]);
    assert!(world.node.is_complete(world.torrent));
    assert!(world.peers[one].open && world.peers[two].open);
}

/// The one that a bad piece is fetched from leaves: the other may help again.
#[test]
fn alone_and_gone() {
    let mut world = World::downloading(&setup(), 19);
    let peers = [world.giver(true), world.giver(true)];
    world.bad.push(19);
    for n in 0..3 {
        give(&mut world, peers[n % 2], 1);
    }
    world.bad.clear();
    let alone = usize::from(world.peers[peers[1]].asked.len() == 3);
    give(&mut world, peers[alone], 1);
    let id = world.peers[peers[alone]].id;
    world.node.event(world.now, Event::Closed(id));
    world.settle();
    give(&mut world, peers[1 - alone], 3);
    assert!(world.node.is_complete(world.torrent));
}

/// Who gives as well as it refuses is asked all the time.
#[test]
fn who_refuses_half() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.giver(true);
    let mut turns = 0;
    while !world.node.is_complete(world.torrent) {
        turns += 1;
        assert!(turns < 2_000, "nothing more is asked");
        let asked = world.peers[peer].asked.clone();
        if let Some(&block) = asked.get(1) {
            world.peers[peer].asked.remove(1);
            world.peers[peer].say(&[Message::Reject(block)]);
        }
        give(&mut world, peer, 1);
    }
}
