//! A node seeds to scripted peers, in virtual time.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{HASH, PIECES, Setup, World};
use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::rng::Rng;
use everseed_core::tracker::{AnnounceEvent, Intervals};
use everseed_core::wire::Message;
use everseed_node::{Event, Have, Limits, Reason};

fn world() -> World {
    World::new(&Setup::default(), Have::All)
}

fn block(index: u32, begin: u32, len: u32) -> BlockRef {
    BlockRef { index, begin, len }
}

#[test]
fn a_peer_gets_what_it_asks_for() {
    for fast in [true, false] {
        let mut world = world();
        let peer = world.leecher(fast);
        assert!(world.peers[peer].unchoked);
        let first = world.peers[peer].messages[0];
        if fast {
            assert_eq!(first, Message::HaveAll);
        } else {
            assert_eq!(first, Message::Bitfield { len: 3 });
        }
        world.peers[peer].ask(0, 72);
        let last = block(PIECES - 1, 2 * BLOCK, BLOCK - (20_000 - BLOCK));
        world.peers[peer].say(&[Message::Request(last)]);
        world.settle();
        assert_eq!(world.peers[peer].pieces(), 73);
        let sent = 72 * u64::from(BLOCK) + u64::from(last.len);
        assert_eq!(world.peers[peer].received, sent);
        assert_eq!(world.node.stats().uploaded, sent);
        assert_eq!(world.node.torrent(world.torrent).unwrap().uploaded, sent);
    }
}

#[test]
fn bytes_may_come_and_go_in_any_split() {
    for limit in [1, 7, 13, 16_397, 16_396] {
        let mut world = world();
        world.write_limit = limit;
        let peer = world.connect().unwrap();
        world.peers[peer].greet(HASH, true);
        world.peers[peer].say(&[Message::Interested]);
        world.peers[peer].ask(3, 3);
        let bytes = std::mem::take(&mut world.peers[peer].inbox);
        for chunk in bytes.chunks(limit.min(5)) {
            world.peers[peer].inbox.extend(chunk);
            world.settle();
        }
        let got = &world.peers[peer];
        assert_eq!(got.received, 3 * u64::from(BLOCK), "{limit}");
    }
}

/// Bits behind the last piece are ignored, and the peer stays connected.
#[test]
fn spare_bits_say_nothing() {
    for (last, open) in [(0x0f, true), (0x0e, true), (0xef, true), (0xff, false)] {
        let mut world = world();
        let peer = world.leecher(true);
        world.peers[peer].say(&[Message::Bitfield { len: 3 }]);
        world.peers[peer].inbox.extend([0xff, 0xff, last]);
        world.settle();
        world.peers[peer].ask(0, 1);
        world.settle();
        assert_eq!(world.peers[peer].pieces(), 1);
        world.peers[peer].say(&[Message::NotInterested]);
        world.settle();
        let reason = world.closed.get(&world.peers[peer].addr);
        assert_eq!(reason, (!open).then_some(&Reason::BothSeeds), "{last:#x}");
    }
}

/// The extended handshake may come late, twice, or with invalid numbers.
#[test]
fn extended_handshakes_come_when_they_come() {
    for bytes in [
        &b"d1:md11:ut_metadatai3ee4:reqqi99999999999999999999ee"[..],
        b"d1:md11:ut_metadatai0003eee",
        b"de",
        b"nonsense",
        b"",
    ] {
        let mut world = world();
        let peer = world.leecher(true);
        world.peers[peer].ask(0, 1);
        world.settle();
        for id in [7, 0, 0] {
            let len = u32::try_from(bytes.len()).unwrap();
            world.peers[peer].say(&[Message::Extended { id, len }]);
            world.peers[peer].inbox.extend(bytes);
            world.settle();
        }
        world.peers[peer].ask(1, 1);
        world.settle();
        assert_eq!(world.peers[peer].pieces(), 2);
    }
}

/// aria2 sends another bitfield when many pieces were verified at once.
#[test]
fn a_bitfield_may_come_again() {
    let mut world = world();
    let peer = world.leecher(true);
    for _ in 0..3 {
        world.peers[peer].say(&[Message::Bitfield { len: 3 }]);
        world.peers[peer].inbox.extend([0xff, 0xff, 0]);
        world.peers[peer].ask(0, 1);
        world.settle();
    }
    assert_eq!(world.peers[peer].pieces(), 3);
    world.peers[peer].say(&[Message::NotInterested, Message::HaveAll]);
    world.settle();
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::BothSeeds);
}

#[test]
fn a_flood_of_requests_waits_its_turn() {
    let setup = Setup {
        requests: 300,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let (flood, other) = (world.leecher(true), world.leecher(true));
    world.peers[flood].reads = false;
    world.peers[flood].ask(0, 10_000);
    world.settle();
    // It fills its share of the pool, and its further messages are not read. The other peer is served meanwhile.
    assert!(world.peers[flood].inbox.len() > 9_000 * 17);
    world.peers[other].ask(0, 500);
    world.settle();
    assert_eq!(world.peers[other].pieces(), 500);
    world.peers[flood].reads = true;
    world.pass(Duration::from_secs(1));
    let id = world.peers[flood].id;
    // As if its socket became writable.
    let mut rounds = 0;
    while world.peers[flood].pieces() < 10_000 {
        world.node.transmitted(world.now, id, 0);
        world.settle();
        rounds += 1;
        assert!(rounds < 20_000);
    }
    assert!(world.peers[flood].open);
}

#[test]
fn everybody_is_served_in_the_end() {
    let setup = Setup {
        slots: 3,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let peers: Vec<usize> = (0..12).map(|_| world.leecher(true)).collect();
    for _ in 0..60 {
        for &peer in &peers {
            // An unchoked peer requests more blocks, some peers many more than others.
            if world.peers[peer].unchoked {
                world.peers[peer].ask(0, 1 + u32::try_from(peer).unwrap());
            }
            world.peers[peer].say(&[Message::KeepAlive]);
        }
        world.pass(Duration::from_secs(10));
    }
    for &peer in &peers {
        assert!(world.peers[peer].pieces() > 0, "peer {peer} starved");
    }
    let fast = world.peers[peers[11]].received;
    let slow = world.peers[peers[0]].received;
    assert!(fast > 2 * slow, "speed earned nothing: {fast} {slow}");
}

#[test]
fn choking_answers_every_request_under_fast() {
    let setup = Setup {
        slots: 1,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let first = world.leecher(true);
    world.peers[first].reads = false;
    world.peers[first].ask(0, 50);
    world.settle();
    let second = world.leecher(true);
    while !world.peers[second].unchoked {
        world.pass(Duration::from_secs(5));
    }
    world.peers[first].reads = true;
    world.node.transmitted(world.now, world.peers[first].id, 0);
    world.settle();
    let peer = &world.peers[first];
    assert_eq!(peer.pieces() + peer.rejects(), 50);
    assert!(peer.rejects() > 0 && !peer.unchoked);
}

#[test]
fn cancel_is_answered_once() {
    for (fast, rejects) in [(true, 2), (false, 0)] {
        let mut world = world();
        let peer = world.leecher(fast);
        world.peers[peer].reads = false;
        world.peers[peer].ask(0, 3);
        let blocks = [block(0, 0, BLOCK), block(0, 2 * BLOCK, BLOCK)];
        world.peers[peer].say(&blocks.map(Message::Cancel));
        world.settle();
        world.peers[peer].reads = true;
        world.node.transmitted(world.now, world.peers[peer].id, 0);
        world.settle();
        assert_eq!(
            (world.peers[peer].pieces(), world.peers[peer].rejects()),
            (1, rejects)
        );
    }
}

#[test]
fn nothing_unverified_leaves() {
    let mut world = World::new(&Setup::default(), Have::Unverified);
    world.bad = vec![1];
    let peer = world.leecher(true);
    assert_eq!(world.peers[peer].messages[0], Message::HaveAll);
    world.peers[peer].ask(0, 12);
    world.settle();
    assert_eq!(world.verified, [0, 1, 2]);
    assert_eq!(
        (world.peers[peer].pieces(), world.peers[peer].rejects()),
        (8, 4)
    );
    let again = world.leecher(true);
    world.peers[again].ask(0, 12);
    world.settle();
    assert_eq!(world.verified, [0, 1, 2], "a piece is verified once");
    assert_eq!(world.peers[again].messages[0], Message::Bitfield { len: 3 });
    // A peer without Fast knows no rejects, so it is disconnected.
    let plain = world.leecher(false);
    world.peers[plain].ask(4, 1);
    world.settle();
    assert_eq!(world.closed[&world.peers[plain].addr], Reason::MissingPiece);
}

#[test]
fn the_rate_limit_holds() {
    let setup = Setup {
        upload_bps: Some(100_000),
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let peers = [world.leecher(true), world.leecher(true)];
    for peer in peers {
        world.peers[peer].ask(0, 70);
    }
    world.settle();
    let start = world.node.stats().uploaded;
    world.pass(Duration::from_secs(20));
    let sent = world.node.stats().uploaded - start;
    assert!((1_950_000..2_050_000).contains(&sent), "{sent}");
    let [a, b] = peers.map(|peer| world.peers[peer].received);
    assert!(a > sent / 3 && b > sent / 3, "unfair: {a} {b}");
}

/// The limits change while peers are served. All peers stay connected, and the new limits hold.
#[test]
fn other_limits() {
    let setup = Setup {
        slots: 2,
        upload_bps: Some(100_000),
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let peers: Vec<usize> = (0..4).map(|_| world.leecher(true)).collect();
    let ask = |world: &mut World| {
        for &peer in &peers {
            if world.peers[peer].unchoked {
                let requests = (0..4).map(|n| Message::Request(block(n, 0, BLOCK)));
                world.peers[peer].say(&requests.collect::<Vec<_>>());
            }
        }
        world.settle();
    };
    let unchoked = |world: &World| peers.iter().filter(|&&p| world.peers[p].unchoked).count();
    ask(&mut world);
    assert_eq!(unchoked(&world), 2);
    let sent = world.node.stats().uploaded;
    assert!(sent < 8 * u64::from(BLOCK), "{sent}");
    for (slots, upload_bps) in [(2, None), (4, None), (1, Some(1_000_000)), (3, None)] {
        let limits = Limits {
            slots: Some(slots),
            upload_bps,
            ..world.node.limits()
        };
        let now = world.now;
        world.node.set_limits(now, limits);
        world.slots = slots;
        world.settle();
        assert_eq!(unchoked(&world), usize::from(slots));
        ask(&mut world);
    }
    // The first limit does not hold any more.
    let sent = world.node.stats().uploaded;
    assert!(sent >= 8 * u64::from(BLOCK), "{sent}");
    assert!(world.closed.is_empty());
    assert!(peers.iter().all(|&peer| world.peers[peer].open));
}

#[test]
fn info_is_handed_out() {
    let size: u32 = 20_000;
    let ask = |peer: &mut common::Peer, id: u8, text: &[u8]| {
        let len = u32::try_from(text.len()).unwrap();
        peer.say(&[Message::Extended { id, len }]);
        peer.inbox.extend(text);
    };
    for limit in [usize::MAX, 100] {
        let mut world = world();
        world.write_limit = limit;
        world.node.offer_metadata(world.torrent, size);
        let peer = world.leecher(true);
        let hello = String::from_utf8_lossy(&world.peers[peer].extended[0]).into_owned();
        assert!(hello.contains("11:ut_metadatai1e") && hello.contains("13:metadata_sizei20000e"));
        ask(&mut world.peers[peer], 1, b"d8:msg_typei0e5:piecei0ee");
        world.settle();
        assert_eq!(world.peers[peer].extended.len(), 1, "no id for answers yet");
        ask(&mut world.peers[peer], 0, b"d1:md11:ut_metadatai9eee");
        let bytes = std::mem::take(&mut world.peers[peer].inbox);
        for chunk in bytes.chunks(3) {
            world.peers[peer].inbox.extend(chunk);
            world.settle();
        }
        for number in [1, 0, 2] {
            let text = format!("d8:msg_typei0e5:piecei{number}ee");
            ask(&mut world.peers[peer], 1, text.as_bytes());
        }
        world.peers[peer].ask(0, 1);
        world.settle();
        let info = |range: std::ops::Range<u64>| range.map(|at| !common::content(at));
        let mut expected = Vec::from(&b"d8:msg_typei1e5:piecei1e10:total_sizei20000ee"[..]);
        expected.extend(info(16_384..20_000));
        assert!(world.peers[peer].extended[1] == expected);
        let mut expected = Vec::from(&b"d8:msg_typei1e5:piecei0e10:total_sizei20000ee"[..]);
        expected.extend(info(0..16_384));
        assert!(world.peers[peer].extended[2] == expected);
        assert_eq!(world.peers[peer].extended[3], b"d8:msg_typei2e5:piecei2ee");
        let answers = |m: &&Message| matches!(m, Message::Extended { id: 9, .. });
        let got = &world.peers[peer];
        assert_eq!(got.messages.iter().filter(answers).count(), 3);
        assert_eq!(got.pieces(), 1);
        let uploaded = world.node.stats().uploaded;
        assert_eq!(uploaded, u64::from(BLOCK), "only content counts");
        // The number of answers to one peer is limited.
        for _ in 0..100 {
            ask(&mut world.peers[peer], 1, b"d8:msg_typei0e5:piecei0ee");
        }
        world.settle();
        assert_eq!(world.peers[peer].extended.len(), 1 + 4 * 3);
    }
}

#[test]
fn storage_goes_and_comes_back() {
    let mut world = world();
    let peer = world.leecher(true);
    let event = Event::Unreadable(world.torrent);
    world.node.event(world.now, event);
    world.settle();
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::TorrentGone);
    let refused = world.connect().unwrap();
    world.peers[refused].greet(HASH, true);
    world.settle();
    assert_eq!(
        world.closed[&world.peers[refused].addr],
        Reason::UnknownTorrent
    );
    world.node.event(world.now, Event::Readable(world.torrent));
    let back = world.leecher(true);
    world.peers[back].ask(0, 4);
    world.settle();
    assert_eq!((world.peers[back].pieces(), world.verified.len()), (4, 0));
    let event = Event::Restored(world.torrent, Have::Unverified);
    world.node.event(world.now, event);
    let again = world.leecher(true);
    world.peers[again].ask(0, 4);
    world.settle();
    assert_eq!(world.peers[again].pieces(), 4);
    assert_eq!(world.verified, [0]);
}

#[test]
fn trackers_are_told() {
    let mut world = World::new(&Setup::default(), Have::Some(&[0xff, 0, 0]));
    world.node.announce(world.now, world.torrent, 0, 1).unwrap();
    world.settle();
    let job = world.announces[0];
    let report = world.node.report(&job);
    assert_eq!(report.event, AnnounceEvent::Started);
    assert_eq!(
        report.left,
        world.geometry.total() - 8 * u64::from(common::PIECE)
    );
    assert_eq!(
        (report.info_hash, report.uploaded, report.port),
        (HASH, 0, 6881)
    );
    let told = Intervals::told(Some(1800), None);
    world.node.event(world.now, Event::Announced(job.id, told));
    world.pass(Duration::from_secs(2000));
    assert_eq!(world.announces[1].event, AnnounceEvent::None);
    let id = world.announces[1].id;
    world.node.event(world.now, Event::AnnounceFailed(id, None));
    world.pass(Duration::from_secs(60));
    let id = world.announces[2].id;
    world.node.event(world.now, Event::Announced(id, told));
    world.node.stop(world.now);
    world.settle();
    let last = world.announces[3];
    assert_eq!(last.event, AnnounceEvent::Stopped);
    assert!(!world.node.is_stopped());
    world.node.event(world.now, Event::Announced(last.id, told));
    assert!(world.node.is_stopped());
}

#[test]
fn a_removed_torrent_is_gone() {
    let mut world = world();
    let peer = world.leecher(true);
    for tier in 0..2 {
        world
            .node
            .announce(world.now, world.torrent, tier, 1)
            .unwrap();
    }
    world.pass(Duration::from_secs(1));
    // One announce is answered, the other is still under way.
    let jobs = [world.announces[0].id, world.announces[1].id];
    let told = Intervals::told(Some(1800), None);
    world.node.event(world.now, Event::Announced(jobs[0], told));
    world.node.remove(world.now, world.torrent);
    world.settle();
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::TorrentGone);
    world.node.event(world.now, Event::Announced(jobs[1], told));
    world.pass(Duration::from_secs(10_000));
    assert_eq!(world.announces.len(), 2, "nobody is told of it any more");
    world.node.stop(world.now);
    world.settle();
    assert!(world.node.is_stopped());
}

/// Whatever peers send, the node neither panics nor stops serving other peers.
#[test]
fn nonsense_disturbs_nobody() {
    let mut rng = Rng::new(11);
    for round in 0..60 {
        let mut world = World::new(&Setup::default(), Have::Unverified);
        let good = world.leecher(true);
        for _ in 0..8 {
            let Some(peer) = world.connect() else { break };
            world.peers[peer].greet(HASH, rng.below(2) == 0);
            world.write_limit = 1 + rng.below(40_000) as usize;
            for _ in 0..40 {
                let message = random_message(&mut rng);
                world.peers[peer].say(&[message]);
                let payload = rng.below(message.payload().min(64) + 2);
                world.peers[peer].inbox.extend((0..payload).map(|_| 0xa5));
                if rng.below(8) == 0 {
                    world.peers[peer].reads = rng.below(2) == 0;
                    world.settle();
                }
            }
            world.pass(Duration::from_secs(rng.below(20).into()));
        }
        let before = world.peers[good].pieces();
        world.peers[good].say(&[Message::KeepAlive]);
        for _ in 0..10 {
            world.pass(Duration::from_secs(10));
            world.peers[good].say(&[Message::KeepAlive]);
        }
        if world.peers[good].unchoked {
            world.peers[good].ask(0, 4);
            world.settle();
            assert_eq!(world.peers[good].pieces(), before + 4, "round {round}");
        }
        assert!(world.peers[good].open, "round {round}");
    }
}

fn random_message(rng: &mut Rng) -> Message {
    let any = |rng: &mut Rng| match rng.below(4) {
        0 => rng.bits32(),
        _ => rng.below(PIECES + 1),
    };
    let block = block(
        any(rng),
        rng.below(5) * BLOCK,
        [BLOCK, BLOCK, 1, 0, BLOCK + 1][rng.below(5) as usize],
    );
    match rng.below(16) {
        0 => Message::Choke,
        1 => Message::Interested,
        2 => Message::NotInterested,
        3 => Message::Have(any(rng)),
        4 => Message::Bitfield { len: rng.below(5) },
        5 => Message::Piece(BlockRef {
            len: rng.below(9),
            ..block
        }),
        6 => Message::Cancel(block),
        7 => Message::Reject(block),
        8 => Message::HaveAll,
        9 => Message::HaveNone,
        10 => Message::Extended {
            id: u8::try_from(rng.below(3)).unwrap(),
            len: rng.below(60),
        },
        11 => Message::Suggest(any(rng)),
        _ => Message::Request(block),
    }
}
