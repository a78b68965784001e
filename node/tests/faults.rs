//! A fault of a torrent's storage costs only the pieces that it touches.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{HASH, PIECES, Setup, World};
use everseed_core::geometry::BLOCK;
use everseed_core::wire::Message;
use everseed_node::{Event, Have, Order, PeerSource, Wanted};

fn world() -> World {
    World::new(&Setup::default(), Have::All)
}

fn haves(world: &World, peer: usize) -> Vec<u32> {
    let have = |m: &Message| match m {
        Message::Have(piece) => Some(*piece),
        _ => None,
    };
    world.peers[peer].messages.iter().filter_map(have).collect()
}

#[test]
fn a_piece_that_cannot_be_read_is_withdrawn_alone() {
    let mut world = world();
    let (peer, other) = (world.leecher(true), world.leecher(false));
    let piece = world.geometry.piece(2).unwrap();
    let (id, now) = (world.torrent, world.now);
    world.node.event(now, Event::Unread(id, piece));
    world.peers[peer].ask(0, 16);
    world.peers[other].ask(0, 8);
    world.settle();
    let got = &world.peers[peer];
    assert_eq!((got.open, got.pieces(), got.rejects()), (true, 12, 4));
    let got = &world.peers[other];
    assert_eq!((got.open, got.pieces()), (true, 8));
    let stats = world.node.torrent(id).unwrap();
    assert_eq!((stats.have, stats.good), (PIECES - 1, PIECES - 1));
    assert!(stats.readable && world.verified.is_empty());

    // A new peer gets a bitfield without that piece.
    let newcomer = world.leecher(true);
    assert_eq!(
        world.peers[newcomer].messages[0],
        Message::Bitfield { len: 3 }
    );

    // A recheck fails once more. The next one succeeds, and all peers get a `have`.
    world.unread = vec![2];
    world.node.event(now, Event::Recheck(id));
    world.settle();
    assert_eq!(world.node.torrent(id).unwrap().good, PIECES - 1);
    world.unread.clear();
    world.node.event(now, Event::Recheck(id));
    world.settle();
    assert_eq!(world.verified, [2, 2], "only what is not good");
    assert_eq!(world.node.torrent(id).unwrap().good, PIECES);
    for peer in [peer, other, newcomer] {
        assert_eq!(haves(&world, peer), [2]);
    }
}

#[test]
fn what_was_changed_is_verified_again_and_peers_stay() {
    let mut world = world();
    let (peer, plain) = (world.leecher(true), world.leecher(false));
    world.bad = vec![1];
    let (id, now) = (world.torrent, world.now);
    // The last two pieces are gone, as if a file had been cut.
    let event = Event::Changed(id, Have::Presumed(&[0xff, 0xff, 0xc0]));
    world.node.event(now, event);
    world.peers[peer].ask(0, 8);
    world.peers[plain].ask(8, 4);
    world.bad.extend([18, 19]);
    world.settle();
    let got = &world.peers[peer];
    assert_eq!((got.open, got.pieces(), got.rejects()), (true, 4, 4));
    assert!(world.peers[plain].open && world.peers[plain].pieces() == 4);
    let stats = world.node.torrent(id).unwrap();
    assert_eq!((stats.have, stats.good), (PIECES - 3, PIECES - 3));
    let mut verified = world.verified.clone();
    verified.sort_unstable();
    // A bad piece that a peer had requested is verified a second time when it is its turn.
    verified.dedup();
    assert_eq!(verified, (0..PIECES).collect::<Vec<_>>());
    assert_eq!(world.verified.len(), PIECES as usize + 1);
    // The owner repairs the file.
    world.bad.clear();
    world.node.event(now, Event::Changed(id, Have::Unverified));
    world.settle();
    assert_eq!(world.node.torrent(id).unwrap().good, PIECES);
    let mut told = haves(&world, peer);
    told.sort_unstable();
    assert_eq!(told, [1, 18, 19]);
}

/// A file changes while a block is half sent. The rest is sent once its piece was verified again; if the piece is bad,
/// the peer is disconnected.
#[test]
fn a_block_that_has_begun_waits_for_its_piece() {
    for bad in [false, true] {
        let mut world = world();
        let peer = world.leecher(true);
        world.write_limit = 1000;
        world.peers[peer].reads = false;
        world.peers[peer].ask(0, 1);
        world.settle();
        // A part of it goes out.
        world.peers[peer].reads = true;
        world.transmit(world.peers[peer].id);
        world.bad.extend(bad.then_some(0));
        let event = Event::Changed(world.torrent, Have::Unverified);
        world.node.event(world.now, event);
        world.transmit(world.peers[peer].id);
        let got = world.peers[peer].received;
        assert!(got < 1000, "{got} bytes, some after the change");
        world.settle();
        let got = &world.peers[peer];
        match bad {
            false => assert_eq!((got.open, got.received), (true, u64::from(BLOCK))),
            true => assert!(!got.open && got.received < 1000),
        }
    }
}

/// A piece may be damaged though its file looks unchanged. Peers that leave after it, or request it again, are a hint,
/// and the piece is verified from the disk.
#[test]
fn a_piece_that_peers_find_damaged_is_verified() {
    let mut world = world();
    let peer = world.leecher(true);
    // A peer that downloads a piece and stays is no hint.
    world.peers[peer].ask(4, 4);
    world.settle();
    world.pass(Duration::from_secs(5));
    assert!(world.fresh.is_empty());
    // A peer that leaves right after it is.
    let id = world.peers[peer].id;
    world.node.event(world.now, Event::Closed(id));
    world.settle();
    assert_eq!(world.fresh, [1]);
    // So is a peer that requests it twice, unless the last check was within the same minute.
    let peer = world.leecher(true);
    world.bad = vec![3];
    world.peers[peer].ask(12, 4);
    world.peers[peer].ask(12, 4);
    world.settle();
    assert_eq!(world.fresh, [1]);
    world.pass(Duration::from_secs(61));
    world.peers[peer].ask(12, 1);
    world.settle();
    assert_eq!(world.fresh, [1, 3]);
    world.peers[peer].ask(12, 1);
    world.settle();
    let got = &world.peers[peer];
    assert!(got.open && got.rejects() == 1, "{}", got.rejects());
    assert_eq!(world.node.torrent(world.torrent).unwrap().good, PIECES - 1);
    // A peer that leaves later is no hint.
    world.peers[peer].ask(20, 4);
    world.settle();
    world.pass(Duration::from_secs(70));
    let id = world.peers[peer].id;
    world.node.event(world.now, Event::Closed(id));
    world.settle();
    assert_eq!(world.fresh, [1, 3]);
}

fn downloading() -> World {
    let setup = Setup {
        blocks: 32,
        ..Setup::default()
    };
    World::downloading(&setup, 0)
}

/// The peer sends the requested blocks until no request is left.
fn give_all(world: &mut World, peer: usize) {
    while world.peers[peer].give() {
        world.settle();
    }
}

#[test]
fn pieces_that_take_no_writes_are_left_out() {
    let mut world = downloading();
    world.unwritable = 5..9;
    let peer = world.seed_peer(true);
    give_all(&mut world, peer);
    let id = world.torrent;
    let stats = world.node.torrent(id).unwrap();
    assert_eq!((stats.good, stats.left), (PIECES - 4, 0));
    assert_eq!(stats.refused, None);
    assert!(world.node.is_complete(id));
    // Blocks of these pieces may have been requested before the first write failed.
    let asked = world.peers[peer].requests();
    assert!(asked <= 79 + 8, "{asked} requests for 79 blocks");

    // Writes succeed again, and the rest is downloaded.
    world.unwritable = 0..0;
    let (now, all) = (world.now, Wanted::All);
    world
        .node
        .download(now, id, all, Order::Rarest)
        .expect("room");
    world.settle();
    assert!(!world.peers[peer].open, "its pieces are counted anew");
    let peer = world.seed_peer(true);
    give_all(&mut world, peer);
    assert_eq!(world.node.torrent(id).unwrap().good, PIECES);
}

/// A seed was disconnected because only unwritable pieces were missing. It is called again when these are wanted.
#[test]
fn who_has_what_is_left_out_is_remembered() {
    let mut world = downloading();
    world.unwritable = 5..9;
    let (id, addr) = (world.torrent, "10.1.2.3:6881".parse().unwrap());
    world
        .node
        .event(world.now, Event::Peer(id, addr, PeerSource::Tracker));
    world.settle();
    let (conn, _) = world.dialled[0];
    world.peers.push(common::Peer::new(conn, addr));
    world.node.event(world.now, Event::Connected(conn));
    world.peers[0].greet(HASH, true);
    world.peers[0].say(&[Message::HaveAll, Message::Unchoke]);
    world.settle();
    give_all(&mut world, 0);
    assert!(world.node.is_complete(id) && !world.peers[0].open);
    world.pass(Duration::from_secs(600));
    assert_eq!(world.dialled.len(), 1, "there is nothing to ask it for");
    let (now, all) = (world.now, Wanted::All);
    let again = world.node.download(now, id, all, Order::Rarest);
    again.expect("room");
    world.settle();
    assert_eq!(world.dialled.len(), 2);
}

/// No peer is blamed for a piece that was written and cannot be read back.
#[test]
fn a_piece_that_cannot_be_read_back_charges_nobody() {
    let mut world = downloading();
    world.unread = vec![7];
    let peer = world.seed_peer(true);
    give_all(&mut world, peer);
    let stats = world.node.torrent(world.torrent).unwrap();
    assert_eq!((stats.good, stats.bad_pieces), (PIECES - 1, 0));
    assert_eq!(world.verified.iter().filter(|&&p| p == 7).count(), 1);
    assert_eq!(world.peers[peer].requests(), 79);
    assert_eq!(
        stats.downloaded,
        u64::from(PIECES) * 4 * u64::from(BLOCK) - 20_000
    );
}

#[test]
fn a_node_that_knows_nothing_is_let_be() {
    let mut world = world();
    let id = world.torrent;
    world.node.remove(world.now, id);
    let piece = world.geometry.piece(2).unwrap();
    for event in [
        Event::Unread(id, piece),
        Event::Recheck(id),
        Event::Changed(id, Have::Unverified),
    ] {
        world.node.event(world.now, event);
        world.settle();
    }
    let stranger = world.connect().unwrap();
    world.peers[stranger].greet(HASH, true);
    world.settle();
    assert!(!world.peers[stranger].open);
}
