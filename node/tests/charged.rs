//! A node downloads from scripted peers, and bans or disconnects those that send bad or unrequested blocks, and no
//! others.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HASH, Setup, World};
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

/// Unrequested blocks are ignored, and a peer that sends many of them is disconnected.
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

/// Requested blocks that arrive after a choke are not held against the peer, however many they are.
#[test]
fn what_crosses_a_choke() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.seed_peer(false);
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
    // More blocks than that count as unrequested.
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

/// A peer that alone sent two bad pieces is banned for an hour, with its address. Pieces that were begun before the
/// first bad one was found do not count.
#[test]
fn bad_pieces_of_one() {
    let mut world = World::downloading(&setup(), 0);
    world.bad.extend(0..common::PIECES);
    let peer = world.seed_peer(true);
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
    assert!(world.verified.len() <= 6, "{:?}", world.verified);
    let same = world.peers[peer].addr;
    assert_eq!(world.node.accept(world.now, same), None);
    world.pass(Duration::from_secs(3601));
    assert!(world.node.accept(world.now, same).is_some());
}

/// A bad piece of several peers proves nothing against one of them. It is requested again from one peer alone, and both
/// stay.
#[test]
fn bad_pieces_of_several() {
    let mut world = World::downloading(&setup(), 19);
    let (one, two) = (world.seed_peer(true), world.seed_peer(true));
    world.bad.push(19);
    // They send the three blocks in turn.
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

/// The peer from which a bad piece is requested again leaves. Then the other one may send blocks of it.
#[test]
fn alone_and_gone() {
    let mut world = World::downloading(&setup(), 19);
    let peers = [world.seed_peer(true), world.seed_peer(true)];
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

/// A peer that sends one block for each one that it rejects gets requests all the time.
#[test]
fn who_refuses_half() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.seed_peer(true);
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

/// A peer from `addr` that has all pieces and unchokes us.
fn seed_from(world: &mut World, addr: SocketAddr) -> Option<usize> {
    let peer = world.connect_from(addr)?;
    world.peers[peer].greet(HASH, true);
    world.peers[peer].say(&[Message::HaveAll, Message::Unchoke]);
    world.settle();
    Some(peer)
}

/// One host sends a bad block of each of many pieces, over new connections all the time. In the end the download is
/// complete, the honest peer is still connected, and the host is banned.
#[test]
fn one_host_spoils_what_another_gives() {
    // Few pieces are begun at a time, because those begun before the first bad one do not count.
    let few = Setup {
        blocks: 8,
        ..Setup::default()
    };
    let mut world = World::downloading(&few, 0);
    world.lies = true;
    let honest = world.seed_peer(true);
    let host = |port| SocketAddr::from(([198, 51, 100, 7], port));
    let (mut lies, mut port, mut turns) = (0, 1, 0);
    while !world.node.is_complete(world.torrent) {
        turns += 1;
        assert!(turns < 2_000, "{lies} lies, and it never ends");
        port += 1;
        if let Some(liar) = seed_from(&mut world, host(port)) {
            lies += usize::from(world.peers[liar].lie().is_some());
            world.settle();
            let id = world.peers[liar].id;
            world.peers[liar].open = false;
            world.node.event(world.now, Event::Closed(id));
            world.settle();
        }
        give(&mut world, honest, 3);
        world.pass(Duration::from_secs(1));
    }
    assert!(world.peers[honest].open, "{:?}", reason(&world, honest));
    let bad = world.node.torrent(world.torrent).unwrap().bad_pieces;
    assert_eq!(
        world.node.accept(world.now, host(1)),
        None,
        "{bad} bad pieces of {lies} lies"
    );
    assert!(bad <= 12, "{bad} bad pieces of {lies} lies");
}

/// Several hosts send a bad block now and then. They are banned one after the other, and the download goes on
/// meanwhile.
#[test]
fn several_that_lie_now_and_then() {
    for seed in 0..8 {
        let mut rng = everseed_core::rng::Rng::new(seed);
        let mut world = World::downloading(&setup(), 0);
        world.lies = true;
        let honest = [world.seed_peer(true), world.seed_peer(true)];
        let liars: Vec<usize> = (0..4).map(|_| world.seed_peer(true)).collect();
        let mut turns = 0;
        while !world.node.is_complete(world.torrent) {
            turns += 1;
            assert!(turns < 5_000, "seed {seed}: it never ends");
            for &liar in &liars {
                if world.peers[liar].open && rng.below(3) == 0 {
                    match rng.below(3) {
                        0 => _ = world.peers[liar].lie(),
                        _ => _ = world.peers[liar].give(),
                    }
                    world.settle();
                }
            }
            give(&mut world, honest[turns % 2], 1);
            if turns.is_multiple_of(10) {
                world.pass(Duration::from_secs(1));
            }
        }
        for peer in honest {
            assert!(
                world.peers[peer].open,
                "seed {seed}: {:?}",
                reason(&world, peer)
            );
        }
    }
}

/// If our own disk damages pieces, no peer is disconnected for it.
#[test]
fn our_own_disk_spoils_it() {
    let mut world = World::downloading(&setup(), 0);
    let honest = world.seed_peer(true);
    for turn in 0..2_000 {
        if world.node.is_complete(world.torrent) {
            break;
        }
        // Every tenth copy is bad, whatever the peer sent.
        let last = world.verified.len();
        world.bad.clear();
        if last.is_multiple_of(10) {
            world.bad.extend(0..common::PIECES);
        }
        give(&mut world, honest, 1);
        assert!(world.peers[honest].open, "let go in turn {turn}");
    }
    assert!(world.node.is_complete(world.torrent));
}
