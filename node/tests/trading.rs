//! A node downloads from scripted peers: which blocks it requests from which peer, when it snubs a peer, and which
//! peers it unchokes for their blocks.

mod common;

use std::time::Duration;

use common::{PIECES, Setup, World};
use everseed_core::geometry::BlockRef;
use everseed_core::wire::Message;
use everseed_node::Event;

const SECOND: Duration = Duration::from_secs(1);

fn setup() -> Setup {
    Setup {
        blocks: 32,
        ..Setup::default()
    }
}

fn pieces_of(asked: &[BlockRef]) -> Vec<u32> {
    let mut pieces: Vec<u32> = asked.iter().map(|block| block.index).collect();
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

fn unchoked(world: &World) -> Vec<usize> {
    let all = 0..world.peers.len();
    all.filter(|&peer| world.peers[peer].unchoked).collect()
}

/// The peer names the number of requests that it keeps (`reqq`).
fn keeps(world: &mut World, peer: usize, reqq: usize) {
    let hello = format!("d4:reqqi{reqq}ee");
    let len = u32::try_from(hello.len()).unwrap();
    world.peers[peer].say(&[Message::Extended { id: 0, len }]);
    world.peers[peer].inbox.extend(hello.bytes());
}

/// The peers send requested blocks until no request is left.
fn give_all(world: &mut World, peers: &[usize]) {
    loop {
        let gave = peers.iter().filter(|&&p| world.peers[p].give()).count();
        if gave == 0 {
            return;
        }
        world.settle();
    }
}

fn is_complete(world: &World) -> bool {
    world.node.torrent(world.torrent).unwrap().good == PIECES
}

/// Three of ten peers send blocks to us. They have three of the four slots, and the others share the fourth in turn.
#[test]
fn who_gives_is_served() {
    let mut world = World::downloading(&setup(), 4);
    let others: Vec<usize> = (0..7).map(|_| world.leecher(true)).collect();
    let givers: Vec<usize> = (0..3).map(|_| world.seed_peer(true)).collect();
    let mut turns = Vec::new();
    for second in 1..=110 {
        if second % 6 == 0 {
            givers.iter().for_each(|&peer| {
                world.peers[peer].give();
            });
        }
        world.settle();
        world.pass(SECOND);
        if second < 30 {
            continue;
        }
        let served = unchoked(&world);
        assert!(
            givers.iter().all(|peer| served.contains(peer)),
            "after {second} s {served:?} are served, and {givers:?} give"
        );
        turns.extend(served.into_iter().filter(|peer| others.contains(peer)));
    }
    assert!(!is_complete(&world), "they trade to the end of the test");
    turns.dedup();
    assert!(turns.len() >= 3, "only {turns:?} had a turn");
}

/// With fewer slots than uploading peers, those that upload more are unchoked.
#[test]
fn who_gives_more_goes_first() {
    let mut world = World::downloading(&setup(), 4);
    let givers: Vec<usize> = (0..6).map(|_| world.seed_peer(true)).collect();
    for second in 1..=45 {
        // The first three send three times as much.
        for &peer in &givers {
            if second % (if peer < 3 { 3 } else { 9 }) == 0 {
                world.peers[peer].give();
            }
        }
        world.settle();
        world.pass(SECOND);
        let served = unchoked(&world);
        if second >= 30 {
            assert!(
                [0, 1, 2].iter().all(|peer| served.contains(peer)),
                "after {second} s {served:?} are served"
            );
        }
    }
    assert!(!is_complete(&world));
}

/// If no peer uploads to us, a newcomer is unchoked before peers that have waited longer.
#[test]
fn newcomers_need_not_wait_long() {
    let mut world = World::downloading(&setup(), 4);
    (0..12).for_each(|_| {
        world.leecher(true);
    });
    // After this time the other peers do not count as new any more.
    world.pass(75 * SECOND);
    let newcomer = world.leecher(true);
    let (mut before, mut turns) = (unchoked(&world), Vec::new());
    while !world.peers[newcomer].unchoked {
        world.pass(SECOND);
        let served = unchoked(&world);
        turns.extend(served.iter().copied().filter(|p| !before.contains(p)));
        before = served;
    }
    // Idle peers lost three slots, which went to the peers that had waited longest.
    let first = turns.iter().position(|&peer| peer == newcomer).unwrap();
    assert!(first <= 3, "before the newcomer came {turns:?}");
}

/// A complete node unchokes the peers that download fastest, whatever other peers uploaded before.
#[test]
fn a_seed_serves_who_takes_most() {
    let mut world = World::downloading(&setup(), 16);
    let giver = world.seed_peer(true);
    let takers: Vec<usize> = (0..4).map(|_| world.leecher(true)).collect();
    give_all(&mut world, &[giver]);
    assert!(is_complete(&world));
    // The uploader is silent now. The others download a block a second while they are unchoked.
    let mut without = 0;
    for _ in 0..90 {
        for &peer in &takers {
            if world.peers[peer].unchoked {
                world.peers[peer].ask(0, 1);
            }
        }
        world.settle();
        world.pass(SECOND);
        without += u32::from(takers.iter().all(|&peer| world.peers[peer].unchoked));
    }
    assert!(without >= 30, "the slots were theirs for {without} s");
}

/// A peer that sends nothing for a minute is snubbed: only one block at a time is requested from it, and its earlier
/// blocks do not get it a slot. Its next block ends that.
#[test]
fn snubbed_and_forgiven() {
    let mut world = World::downloading(&setup(), 0);
    let silent = world.seed_peer(true);
    let asked = world.peers[silent].asked.clone();
    assert!(asked.len() >= 4, "{asked:?}");
    world.pass(50 * SECOND);
    assert_eq!(world.peers[silent].cancelled, []);
    world.pass(20 * SECOND);
    assert_eq!(world.peers[silent].asked, asked[..1]);
    assert_eq!(world.peers[silent].cancelled, asked[1..]);
    // It rejects the cancelled requests, as Fast requires, and does not get them again.
    for &block in &asked[1..] {
        world.peers[silent].say(&[Message::Reject(block)]);
    }
    world.settle();
    assert_eq!(world.peers[silent].asked, asked[..1]);
    world.peers[silent].give();
    world.settle();
    assert!(world.peers[silent].asked.len() >= 4, "it is forgiven");
    give_all(&mut world, &[silent]);
    assert!(is_complete(&world));
}

/// A peer loses a request, and nobody else has the block: the peer is asked again.
#[test]
fn a_request_that_was_lost() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.seed_peer(true);
    for times in 1..4 {
        let lost = world.peers[peer].asked.remove(0);
        give_all(&mut world, &[peer]);
        assert!(!is_complete(&world));
        for _ in 0..13 {
            world.peers[peer].say(&[Message::KeepAlive]);
            world.settle();
            world.pass(10 * SECOND);
        }
        assert_eq!(world.peers[peer].asked, [lost], "{times}");
        assert_eq!(world.peers[peer].cancelled, vec![lost; times]);
    }
    give_all(&mut world, &[peer]);
    assert!(is_complete(&world));
}

/// A peer that is snubbed does not delay the download.
#[test]
fn others_take_over_from_who_snubs() {
    let mut world = World::downloading(&setup(), 12);
    let silent = world.seed_peer(true);
    (0..10).for_each(|_| {
        world.peers[silent].give();
        world.settle();
    });
    world.pass(90 * SECOND);
    let others: Vec<usize> = (0..4).map(|_| world.seed_peer(true)).collect();
    give_all(&mut world, &others);
    assert!(is_complete(&world));
}

/// From a peer that chokes us, only blocks of its allowed fast pieces are requested.
#[test]
fn allowed_fast_while_choked() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.leecher(true);
    world.peers[peer].say(&[
        Message::HaveAll,
        Message::AllowedFast(3),
        Message::AllowedFast(17),
    ]);
    world.settle();
    assert_eq!(world.peers[peer].requests(), 4);
    give_all(&mut world, &[peer]);
    assert_eq!(world.verified, [3, 17]);
    assert_eq!(world.peers[peer].requests(), 8);
    world.peers[peer].say(&[Message::Unchoke]);
    world.settle();
    give_all(&mut world, &[peer]);
    assert!(is_complete(&world));
}

/// An allowed fast piece whose blocks are rejected is not requested again until the peer unchokes us.
#[test]
fn allowed_fast_and_rejected() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.leecher(true);
    world.peers[peer].say(&[Message::HaveAll, Message::AllowedFast(3)]);
    world.settle();
    assert_eq!(pieces_of(&world.peers[peer].asked), [3]);
    for _ in 0..10 {
        world.peers[peer].refuse();
        world.pass(10 * SECOND);
    }
    assert!(world.peers[peer].requests() <= 8, "it is asked again");
    world.peers[peer].say(&[Message::Unchoke]);
    world.settle();
    give_all(&mut world, &[peer]);
    assert!(is_complete(&world));
}

/// A suggested piece is begun first. A peer that suggests a piece that does not exist is disconnected.
#[test]
fn suggested_pieces_first() {
    for piece in [0, 7, 19] {
        let mut world = World::downloading(&setup(), 0);
        let peer = world.leecher(true);
        let suggest = Message::Suggest(piece);
        world.peers[peer].say(&[Message::HaveAll, suggest, Message::Unchoke]);
        world.settle();
        assert_eq!(world.peers[peer].asked[0].index, piece);
    }
    let mut world = World::downloading(&setup(), 0);
    let peer = world.leecher(true);
    world.peers[peer].say(&[Message::HaveAll, Message::Suggest(PIECES)]);
    world.settle();
    assert!(!world.peers[peer].open);
}

/// Only pieces that a peer has are requested from it, whichever message named them.
#[test]
fn only_what_a_peer_has() {
    let mut world = World::downloading(&setup(), 0);
    let fast = world.leecher(true);
    world.peers[fast].say(&[Message::HaveNone, Message::Unchoke]);
    world.settle();
    assert_eq!(world.peers[fast].asked, []);
    assert!(!world.peers[fast].messages.contains(&Message::Interested));
    world.peers[fast].say(&[Message::Have(5)]);
    world.settle();
    assert!(world.peers[fast].messages.contains(&Message::Interested));
    assert_eq!(pieces_of(&world.peers[fast].asked), [5]);
    let plain = world.leecher(false);
    world.peers[plain].say(&[Message::Bitfield { len: 3 }]);
    world.peers[plain].inbox.extend([0, 0x10, 0]);
    world.peers[plain].say(&[Message::Unchoke]);
    world.settle();
    assert_eq!(pieces_of(&world.peers[plain].asked), [11]);
    give_all(&mut world, &[fast, plain]);
    world.verified.sort_unstable();
    assert_eq!(world.verified, [5, 11]);
    world.pass(6 * SECOND);
    let said = &world.peers[plain].messages;
    assert!(said.contains(&Message::NotInterested), "{said:?}");
}

/// Blocks of a piece in progress are requested only from peers that have the piece and would send it.
#[test]
fn who_helps_with_a_piece() {
    let mut world = World::downloading(&setup(), 0);
    let slow = world.leecher(true);
    keeps(&mut world, slow, 1);
    world.peers[slow].say(&[Message::HaveAll, Message::Suggest(3), Message::Unchoke]);
    world.settle();
    assert_eq!(pieces_of(&world.peers[slow].asked), [3]);
    let table: [(&[Message], &[u32]); 3] = [
        (&[Message::HaveAll, Message::AllowedFast(5)], &[5]),
        (
            &[Message::HaveNone, Message::Have(6), Message::Unchoke],
            &[6],
        ),
        (
            &[Message::HaveNone, Message::Have(3), Message::Unchoke],
            &[3],
        ),
    ];
    for (says, asked) in table {
        let peer = world.leecher(true);
        world.peers[peer].say(says);
        world.settle();
        assert_eq!(pieces_of(&world.peers[peer].asked), asked);
    }
}

/// Of the pieces in progress, the one with the fewest missing blocks is completed first.
#[test]
fn the_nearest_to_its_end_first() {
    let mut world = World::downloading(&setup(), 0);
    for (piece, gives) in [(7, 0), (3, 2), (5, 1)] {
        let slow = world.leecher(true);
        keeps(&mut world, slow, 1);
        let suggest = Message::Suggest(piece);
        world.peers[slow].say(&[Message::HaveAll, suggest, Message::Unchoke]);
        world.settle();
        for _ in 0..gives {
            world.peers[slow].give();
            world.settle();
        }
        assert_eq!(pieces_of(&world.peers[slow].asked), [piece]);
    }
    let helper = world.leecher(true);
    keeps(&mut world, helper, 1);
    let has = [3, 5, 7].map(Message::Have);
    world.peers[helper].say(&[Message::HaveNone, has[2], has[1], has[0], Message::Unchoke]);
    world.settle();
    assert_eq!(pieces_of(&world.peers[helper].asked), [3]);
}

/// While the disk is full, no block is requested.
#[test]
fn nothing_is_asked_for_a_full_disk() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.seed_peer(true);
    let before = world.peers[peer].requests();
    world.full = true;
    give_all(&mut world, &[peer]);
    world.pass(30 * SECOND);
    assert_eq!(world.peers[peer].requests(), before);
    assert_eq!(world.node.blocks_free(), world.node.blocks());
    world.full = false;
    world.node.event(world.now, Event::Writable(world.torrent));
    world.settle();
    give_all(&mut world, &[peer]);
    assert!(is_complete(&world));
}

/// One of two seeds stops sending near the end. Its blocks are requested from the other seed too, and then cancelled.
#[test]
fn the_endgame() {
    let mut world = World::downloading(&setup(), 16);
    let (stuck, other) = (world.seed_peer(true), world.seed_peer(true));
    let kept = world.peers[stuck].asked.clone();
    assert!(kept.len() >= 2);
    // No time passes, so that no peer is snubbed.
    give_all(&mut world, &[other]);
    assert!(is_complete(&world));
    let mut cancelled = world.peers[stuck].cancelled.clone();
    cancelled.retain(|block| kept.contains(block));
    assert!(!cancelled.is_empty(), "nothing was cancelled");
    assert!(world.peers[stuck].asked.len() + cancelled.len() >= kept.len());
    // Blocks that crossed the cancels are not held against the peer, and no block of memory is lost.
    kept.iter()
        .for_each(|&block| world.peers[stuck].send(block));
    world.settle();
    assert_eq!(world.node.blocks_free(), world.node.blocks());
}

/// A peer never has more requests than its `reqq` (BEP 10).
#[test]
fn no_more_than_it_keeps() {
    for reqq in [1, 3] {
        let mut world = World::downloading(&setup(), 0);
        let peer = world.leecher(true);
        keeps(&mut world, peer, reqq);
        world.peers[peer].say(&[Message::HaveAll, Message::Unchoke]);
        world.settle();
        let mut most = 0;
        while world.peers[peer].give() {
            world.settle();
            most = most.max(world.peers[peer].asked.len());
        }
        assert_eq!(most, reqq);
        assert!(is_complete(&world));
    }
}

/// The more blocks a peer sends, the more are requested from it at a time.
#[test]
fn the_pipeline_grows() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.seed_peer(true);
    assert_eq!(world.peers[peer].asked.len(), 4);
    for _ in 0..24 {
        world.peers[peer].give();
        world.settle();
    }
    assert!(world.peers[peer].asked.len() > 16);
}

/// Without Fast a choke drops all requests. The blocks are requested from other peers, and those that crossed the choke
/// are ignored.
#[test]
fn a_choke_drops_the_requests() {
    let mut world = World::downloading(&setup(), 16);
    let peer = world.seed_peer(false);
    let asked = world.peers[peer].asked.clone();
    world.peers[peer].say(&[Message::Choke]);
    world.settle();
    let other = world.seed_peer(false);
    give_all(&mut world, &[other]);
    assert!(is_complete(&world));
    asked
        .iter()
        .for_each(|&block| world.peers[peer].send(block));
    world.settle();
    assert_eq!(world.node.blocks_free(), world.node.blocks());
    assert!(world.peers[other].cancelled.is_empty());
}

/// A peer that unchokes us and rejects every request gets a request now and then, not as fast as it can reject.
#[test]
fn a_storm_of_rejects() {
    let mut world = World::downloading(&setup(), 0);
    let peer = world.seed_peer(true);
    let other = world.leecher(true);
    world.peers[other].say(&[Message::HaveAll]);
    for _ in 0..60 {
        for _ in 0..200 {
            world.peers[peer].refuse();
            world.settle();
        }
        world.pass(SECOND);
    }
    let requests = world.peers[peer].requests();
    assert!(
        (12..600).contains(&requests),
        "{requests} requests a minute"
    );
    // The peer sends blocks from now on.
    give_all(&mut world, &[peer]);
    world.pass(6 * SECOND);
    give_all(&mut world, &[peer]);
    assert!(is_complete(&world));
}

/// The same for a peer that chokes and unchokes us all the time.
#[test]
fn a_storm_of_chokes() {
    for fast in [false, true] {
        let mut world = World::downloading(&setup(), 0);
        let peer = world.seed_peer(fast);
        for _ in 0..60 {
            for _ in 0..100 {
                world.peers[peer].say(&[Message::Choke]);
                if fast {
                    world.peers[peer].refuse();
                }
                world.peers[peer].asked.clear();
                world.settle();
                world.peers[peer].say(&[Message::Unchoke]);
                world.settle();
            }
            world.pass(SECOND);
        }
        let requests = world.peers[peer].requests();
        assert!(
            (12..1500).contains(&requests),
            "{requests} requests a minute"
        );
        world.pass(6 * SECOND);
        give_all(&mut world, &[peer]);
        assert!(is_complete(&world));
    }
}
