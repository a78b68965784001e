//! Peers begin a block and do not complete it, in virtual time.

mod common;

use std::time::Duration;

use common::{Peer, Setup, World};
use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::wire::Message;
use everseed_node::{Order, Wanted};

/// A peer that sends `bytes` of its requested blocks every `every`.
struct Trickler {
    peer: usize,
    block: Option<(BlockRef, u32)>,
    bytes: u32,
    every: Duration,
    next: Duration,
}

impl Trickler {
    fn new(world: &mut World, bytes: u32, every: Duration) -> Trickler {
        Trickler {
            peer: world.seed_peer(true),
            block: None,
            bytes,
            every,
            next: Duration::ZERO,
        }
    }

    fn turn(&mut self, world: &mut World, since: Duration) {
        while self.next <= since && self.bytes > 0 {
            self.next += self.every;
            let peer = &mut world.peers[self.peer];
            self.send(peer);
            world.settle();
        }
    }

    fn send(&mut self, peer: &mut Peer) {
        if self.block.is_none() && !peer.asked.is_empty() {
            let block = peer.asked.remove(0);
            peer.say(&[Message::Piece(block)]);
            self.block = Some((block, 0));
        }
        let Some((block, done)) = &mut self.block else {
            return;
        };
        let start = u64::from(block.index) * u64::from(common::PIECE) + u64::from(block.begin);
        let from = start + u64::from(*done);
        let len = self.bytes.min(block.len - *done);
        peer.inbox
            .extend((from..from + u64::from(len)).map(common::content));
        *done += len;
        if *done == block.len {
            self.block = None;
        }
    }
}

/// Each honest peer sends one block in this time.
const TURN: Duration = Duration::from_millis(100);

/// Runs until the download is complete. Returns the seconds that it took.
fn run(world: &mut World, honest: &[usize], tricklers: &mut [Trickler], limit: f64) -> f64 {
    let begin = world.now;
    while !world.node.is_complete(world.torrent) {
        let since = world.now - begin;
        assert!(since.as_secs_f64() < limit, "not complete after {since:?}");
        for &peer in honest {
            world.peers[peer].give();
            world.settle();
        }
        for trickler in tricklers.iter_mut() {
            trickler.turn(world, since);
        }
        world.pass(TURN);
    }
    (world.now - begin).as_secs_f64()
}

fn world(blocks: usize) -> World {
    let setup = Setup {
        blocks,
        ..Setup::default()
    };
    World::downloading(&setup, 0)
}

/// A peer that sends a few bytes delays the end of a download no longer than a silent one.
#[test]
fn a_trickle_is_no_better_than_silence() {
    let seconds = Duration::from_secs;
    let kinds = [
        (0, seconds(1)),
        (1, seconds(40)),
        (20, seconds(1)),
        (BLOCK / 2, seconds(30)),
    ];
    for (bytes, every) in kinds {
        for count in [1, 2, 5] {
            let mut world = world(64);
            let honest = [world.seed_peer(true)];
            let mut slow: Vec<_> = (0..count)
                .map(|_| Trickler::new(&mut world, bytes, every))
                .collect();
            // The honest peer alone sends all blocks in 8 s.
            let took = run(&mut world, &honest, &mut slow, 19.0);
            println!("{count} times {bytes} bytes in {every:?}: {took} s");
        }
    }
}

/// However many slow peers there are, they do not take all pieces in progress and all blocks of memory from a fast one.
#[test]
fn many_that_trickle() {
    for blocks in [16, 32] {
        let mut world = world(blocks);
        let mut slow: Vec<_> = (0..24)
            .map(|_| Trickler::new(&mut world, 1, Duration::from_secs(20)))
            .collect();
        world.pass(Duration::from_secs(61));
        let honest = [world.seed_peer(true)];
        let took = run(&mut world, &honest, &mut slow, 40.0);
        println!("{blocks} blocks: {took} s");
    }
}

/// A slow peer that is the only one completes the download all the same.
#[test]
fn slow_and_alone() {
    let mut world = world(16);
    let every = Duration::from_secs(100);
    let mut slow = [Trickler::new(&mut world, BLOCK / 2, every)];
    // It takes 200 s for a block.
    run(&mut world, &[], &mut slow, 79.0 * 201.0);
}

/// With sequential order a late block is requested from another peer before new pieces are begun.
#[test]
fn in_order_nothing_waits_for_the_slow() {
    let mut world = world(16);
    let mut slow = [Trickler::new(&mut world, 1, Duration::from_secs(5))];
    world.pass(Duration::from_secs(1));
    let order = world
        .node
        .download(world.now, world.torrent, Wanted::All, Order::Sequential);
    order.unwrap();
    let honest = world.seed_peer(true);
    let begin = world.now;
    while !world.verified.contains(&0) {
        let since = world.now - begin;
        assert!(since.as_secs() < 12, "piece 0 is not here");
        world.peers[honest].give();
        world.settle();
        slow[0].turn(&mut world, since);
        world.pass(Duration::from_millis(500));
    }
}

/// The node reports pieces that no connected peer has, once no other piece is missing.
#[test]
fn what_nobody_has() {
    let mut world = World::downloading(
        &Setup {
            blocks: 16,
            ..Setup::default()
        },
        18,
    );
    let id = world.torrent;
    let stuck = |world: &World| {
        world
            .node
            .stuck(id)
            .map(|s| (s.pieces, s.first.get(), s.peers))
    };
    assert_eq!(stuck(&world), Some((2, 18, 0)));
    let some = world.leecher(true);
    world.peers[some].say(&[Message::Bitfield { len: 3 }]);
    world.peers[some].inbox.extend([0xff, 0xff, 0xc0]);
    world.settle();
    assert_eq!(stuck(&world), Some((2, 18, 1)));
    world.peers[some].say(&[Message::Have(18), Message::Unchoke]);
    world.settle();
    assert_eq!(stuck(&world), None, "one of them can be had");
    while world.peers[some].give() {
        world.settle();
    }
    assert_eq!(stuck(&world), Some((1, 19, 1)));
    let seed = world.seed_peer(true);
    assert_eq!(stuck(&world), None);
    while world.peers[seed].give() {
        world.settle();
    }
    assert!(world.node.is_complete(id));
    assert_eq!(stuck(&world), None);
}
