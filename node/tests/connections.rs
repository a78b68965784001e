//! Connections of a seed: who gets one, how long it lasts, and which peers are called.

mod common;

use std::time::Duration;

use common::{HASH, OURS, PIECES, Setup, World};
use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::hash::InfoHash;
use everseed_core::wire::{Message, WireError};
use everseed_node::{Event, Have, Limits, PeerSource, Reason};

fn world() -> World {
    World::new(&Setup::default(), Have::All)
}

fn block(index: u32, begin: u32, len: u32) -> BlockRef {
    BlockRef { index, begin, len }
}

#[test]
fn who_is_turned_away() {
    let mut world = world();
    let first = world.leecher(true);
    type Script<'a> = &'a dyn Fn(&mut common::Peer);
    let refused: [(Script<'_>, Reason); 6] = [
        (
            &|p| p.greet(InfoHash([8; 20]), true),
            Reason::UnknownTorrent,
        ),
        (&|p| p.greet_as(HASH, true, OURS), Reason::Ourselves),
        (
            &|p| p.inbox.extend(b"\x13BitTorrent protocoX"),
            Reason::NotBitTorrent,
        ),
        (
            &|p| p.inbox.extend(b"SSH-2.0-OpenSSH"),
            Reason::NotBitTorrent,
        ),
        (&|p| p.inbox.extend([0; 3]), Reason::NotBitTorrent),
        (
            &|p| p.greet_as(HASH, true, *b"-XX0000-\x00\x00\x00\x0000000000"),
            Reason::Duplicate,
        ),
    ];
    assert_eq!(world.peers[first].id.slot, 0);
    for (script, reason) in refused {
        let peer = world.connect().unwrap();
        script(&mut world.peers[peer]);
        world.settle();
        assert_eq!(world.closed.get(&world.peers[peer].addr), Some(&reason));
        assert_eq!(world.peers[peer].pieces(), 0);
    }
    assert!(world.peers[first].open);
}

#[test]
fn what_ends_a_connection() {
    let cases: [(Message, Reason); 7] = [
        (Message::Request(block(0, 0, BLOCK + 1)), Reason::BadRequest),
        (
            Message::Request(block(PIECES, 0, BLOCK)),
            Reason::BadRequest,
        ),
        (
            Message::Request(block(0, 4 * BLOCK - 1, 2)),
            Reason::BadRequest,
        ),
        (
            Message::Request(block(0, u32::MAX, BLOCK)),
            Reason::BadRequest,
        ),
        (Message::Request(block(0, 0, 0)), Reason::BadRequest),
        (Message::Have(PIECES), Reason::BadMessage),
        (Message::Bitfield { len: 4 }, Reason::BadBitfield),
    ];
    for (message, reason) in cases {
        let mut world = world();
        let (good, bad) = (world.leecher(true), world.leecher(true));
        world.peers[bad].say(&[message]);
        world.peers[bad].inbox.extend([0; 4]);
        world.settle();
        assert_eq!(
            world.closed.get(&world.peers[bad].addr),
            Some(&reason),
            "{message:?}"
        );
        world.peers[good].ask(0, 1);
        world.settle();
        assert_eq!(world.peers[good].pieces(), 1);
    }
    let mut world = world();
    let peer = world.leecher(true);
    world.peers[peer].inbox.extend([0xff; 5]);
    world.settle();
    let reason = world.closed[&world.peers[peer].addr];
    assert!(
        matches!(reason, Reason::Wire(WireError::TooLong { .. })),
        "{reason:?}"
    );
}

#[test]
fn silence_is_kept_alive_and_ends() {
    let mut world = world();
    let quiet = world.leecher(true);
    let alive = world.leecher(true);
    for _ in 0..30 {
        world.pass(Duration::from_secs(60));
        world.peers[alive].say(&[Message::KeepAlive]);
    }
    assert_eq!(world.closed[&world.peers[quiet].addr], Reason::Idle);
    assert!(world.peers[alive].open);
    let kept = |m: &&Message| **m == Message::KeepAlive;
    let kept = world.peers[alive].messages.iter().filter(kept).count();
    assert!(
        (14..=18).contains(&kept),
        "{kept} keep-alives in 30 minutes"
    );
    let mute = world.connect().unwrap();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.closed[&world.peers[mute].addr], Reason::SlowHandshake);
}

#[test]
fn a_peer_that_does_not_read_gives_its_place_back() {
    let mut world = world();
    let peer = world.leecher(true);
    world.peers[peer].reads = false;
    world.peers[peer].ask(0, 8);
    for _ in 0..8 {
        world.pass(Duration::from_secs(10));
        world.peers[peer].say(&[Message::KeepAlive]);
    }
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::Stalled);
}

/// The limit of peers becomes smaller than their number. All stay, and a newcomer replaces a peer that is not
/// interested.
#[test]
fn fewer_places() {
    let mut world = world();
    let first: Vec<usize> = (0..4).map(|_| world.leecher(true)).collect();
    let idle = world.connect().unwrap();
    world.peers[idle].greet(common::HASH, true);
    world.settle();
    let limits = Limits {
        peers: 3,
        ..world.node.limits()
    };
    let now = world.now;
    world.node.set_limits(now, limits);
    world.settle();
    assert!(world.closed.is_empty());
    assert!(world.connect().is_none(), "no place was free");
    world.pass(Duration::from_secs(61));
    world.leecher(true);
    assert!(!world.peers[idle].open);
    assert!(first.iter().all(|&peer| world.peers[peer].open));
    assert!(world.connect().is_none(), "no place was free");
}

#[test]
fn newcomers_find_a_place() {
    let setup = Setup {
        conns: 8,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let useful: Vec<usize> = (0..3).map(|_| world.leecher(true)).collect();
    // Two hundred peers that connect and send nothing do not keep others out.
    for _ in 0..200 {
        world.connect();
        world.pass(Duration::from_millis(600));
        world.settle();
    }
    let late = world.leecher(true);
    world.peers[late].ask(0, 1);
    world.settle();
    assert_eq!(world.peers[late].pieces(), 1);
    assert!(useful.iter().all(|&peer| world.peers[peer].open));
}

#[test]
fn peers_are_dialled_and_forgotten() {
    let mut world = world();
    let addr = "192.0.2.9:7000".parse().unwrap();
    world.node.event(
        world.now,
        Event::Peer(world.torrent, addr, PeerSource::Tracker),
    );
    world.settle();
    let (id, to) = world.dialled[0];
    assert_eq!(to, addr);
    world.peers.push(common::Peer::new(id, addr));
    world.node.event(world.now, Event::Connected(id));
    world.settle();
    assert!(world.peers[0].handshake.is_some(), "who dials speaks first");
    world.peers[0].greet(HASH, true);
    world.peers[0].say(&[Message::HaveAll]);
    world.settle();
    // A seed wants nothing, so it is not called again.
    assert_eq!(world.closed[&addr], Reason::BothSeeds);
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.dialled.len(), 1);
}

#[test]
fn an_unreachable_peer_is_tried_less_and_less() {
    let mut world = world();
    let addr = "192.0.2.9:7000".parse().unwrap();
    world.node.event(
        world.now,
        Event::Peer(world.torrent, addr, PeerSource::Tracker),
    );
    for _ in 0..100 {
        world.pass(Duration::from_secs(60));
        if let Some((id, _)) = world.dialled.last() {
            let event = Event::Closed(*id);
            world.node.event(world.now, event);
        }
    }
    assert_eq!(world.dialled.len(), 5);
    assert_eq!(world.node.deadline(), None, "nothing is left to wait for");
}

#[test]
fn stopping_lets_everybody_go() {
    let mut world = world();
    let peer = world.leecher(true);
    world.node.stop(world.now);
    world.settle();
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::Stopping);
    assert!(world.connect().is_none());
}
