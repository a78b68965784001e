//! A node connects to candidates: which ones, when again, and when no more. A call is a connection that the node makes.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HASH, Peer, Setup, World};
use everseed_core::extension::OurHandshake;
use everseed_core::wire::Message;
use everseed_node::{Event, Have, PeerSource, Reason};

const ADDR: &str = "192.0.2.9:7000";

fn addr() -> SocketAddr {
    ADDR.parse().unwrap()
}

fn downloads() -> World {
    let setup = Setup {
        blocks: 32,
        ..Setup::default()
    };
    World::downloading(&setup, 0)
}

/// Adds four candidates that were never reached, so that another one is not the only source.
fn others(world: &mut World) {
    for last in 1..=4 {
        name(world, SocketAddr::from(([198, 51, 100, last], 7)));
    }
    for (id, _) in std::mem::take(&mut world.dialled) {
        world.node.event(world.now, Event::Closed(id));
        world.settle();
    }
}

/// A tracker names a peer to the node.
fn name(world: &mut World, addr: SocketAddr) {
    let event = Event::Peer(world.torrent, addr, PeerSource::Tracker);
    world.node.event(world.now, event);
    world.settle();
}

/// The peer that was called last accepts the connection, and has all pieces.
fn answer(world: &mut World) -> usize {
    let &(id, addr) = world.dialled.last().expect("a call");
    world.peers.push(Peer::new(id, addr));
    let peer = world.peers.len() - 1;
    world.node.event(world.now, Event::Connected(id));
    world.peers[peer].greet_as(HASH, true, *b"-XX0000-the same one");
    world.peers[peer].say(&[Message::HaveAll, Message::Unchoke]);
    world.settle();
    peer
}

/// Waits until the node calls somebody, a minute at most.
fn until_called(world: &mut World) {
    let end = world.now + Duration::from_secs(61);
    while world.dialled.is_empty() {
        assert!(world.now < end, "called within a minute");
        world.pass(Duration::from_millis(500));
    }
}

fn hang_up(world: &mut World, peer: usize) {
    let id = world.peers[peer].id;
    world.peers[peer].open = false;
    world.node.event(world.now, Event::Closed(id));
    world.settle();
}

/// Lets every call fail for `time`. Returns the seconds at which the node called [`ADDR`].
fn failed_calls(world: &mut World, time: Duration) -> Vec<u64> {
    let (begin, mut calls) = (world.now, Vec::new());
    let fail = |world: &mut World, calls: &mut Vec<u64>| {
        for (id, to) in std::mem::take(&mut world.dialled) {
            if to == addr() {
                calls.push((world.now - begin).as_secs());
            }
            world.node.event(world.now, Event::Closed(id));
            world.settle();
        }
    };
    while world.now - begin < time {
        fail(world, &mut calls);
        world.pass(Duration::from_millis(500));
    }
    calls
}

/// The peer names the port on which it listens (BEP 10).
fn listen(world: &mut World, peer: usize, port: u16) {
    let mut out = [0; 160];
    let hello = OurHandshake {
        port,
        reqq: 250,
        upload_only: false,
        pex: false,
        metadata: everseed_core::extension::Metadata::Silent,
        client: "",
    };
    let len = hello.encode(&mut out).unwrap();
    world.peers[peer].say(&[Message::Extended {
        id: 0,
        len: u32::try_from(len).unwrap(),
    }]);
    world.peers[peer].inbox.extend(&out[..len]);
    world.settle();
}

/// A peer that sent us a block and left is called at once, then more and more rarely, and given up after an hour.
#[test]
fn a_peer_that_was_good_is_called_again() {
    let mut world = downloads();
    name(&mut world, addr());
    let peer = answer(&mut world);
    world.pass(Duration::from_secs(11));
    world.peers[peer].give();
    world.settle();
    world.dialled.clear();
    hang_up(&mut world, peer);
    assert_eq!(world.dialled.len(), 1, "at once");
    let calls = failed_calls(&mut world, Duration::from_secs(10_000));
    assert_eq!(calls[..9], [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    let (count, last) = (calls.len(), calls.last().copied().unwrap_or(0));
    assert!((60..=64).contains(&count), "{count} calls");
    assert!((3_000..4_000).contains(&last), "the last after {last} s");
}

/// Two peers called each other at the same time, and the other client closed both connections. It is called again soon,
/// but only once.
#[test]
fn calls_that_crossed_and_ended() {
    for ours_is_answered in [false, true] {
        let mut world = downloads();
        others(&mut world);
        name(&mut world, addr());
        let &(ours, _) = world.dialled.last().expect("a call");
        let first = ours_is_answered.then(|| answer(&mut world));
        let from = SocketAddr::new(addr().ip(), 50_000);
        let theirs = world.connect_from(from).expect("a place");
        world.peers[theirs].greet_as(HASH, true, *b"-XX0000-the same one");
        world.settle();
        if world.peers[theirs].open {
            hang_up(&mut world, theirs);
        }
        match first {
            Some(first) if world.peers[first].open => hang_up(&mut world, first),
            Some(_) => {}
            None => world.node.event(world.now, Event::Closed(ours)),
        }
        world.settle();
        world.dialled.clear();
        let calls = failed_calls(&mut world, Duration::from_secs(300));
        assert!(calls[0] <= 2, "{ours_is_answered}: {calls:?}");
        // A peer that showed that it has wanted pieces may be called sooner.
        let next = calls[1] - calls[0];
        assert!(ours_is_answered || next >= 60, "{calls:?}");
    }
}

/// The same with a peer that called us before a tracker named it.
#[test]
fn a_call_of_whom_we_have_heard_from() {
    let mut world = downloads();
    others(&mut world);
    let from = SocketAddr::new(addr().ip(), 50_000);
    let theirs = world.connect_from(from).expect("a place");
    world.peers[theirs].greet_as(HASH, true, *b"-XX0000-the same one");
    world.settle();
    name(&mut world, addr());
    let &(ours, _) = world.dialled.last().expect("a call");
    hang_up(&mut world, theirs);
    world.node.event(world.now, Event::Closed(ours));
    world.settle();
    world.dialled.clear();
    let calls = failed_calls(&mut world, Duration::from_secs(300));
    assert!(calls[0] <= 2 && calls[1] >= 60, "{calls:?}");
}

/// A peer that disconnects again and again is called again at once only if the connection lasted.
#[test]
fn nobody_is_hammered() {
    for (lasts, calls_in_a_minute) in [(0, 6), (9, 4), (11, 5)] {
        let mut world = downloads();
        name(&mut world, addr());
        let mut calls = 0;
        let end = world.now + Duration::from_secs(60);
        while world.now < end {
            if world.dialled.is_empty() {
                world.pass(Duration::from_millis(500));
                continue;
            }
            let peer = answer(&mut world);
            world.dialled.clear();
            calls += 1;
            world.peers[peer].give();
            world.settle();
            world.pass(Duration::from_secs(lasts));
            hang_up(&mut world, peer);
        }
        assert!(
            (calls_in_a_minute..=calls_in_a_minute + 1).contains(&calls),
            "{lasts} s: {calls} calls"
        );
    }
}

/// If a tracker names a peer again, the peer is called once more, but not within 15 s of the last call.
#[test]
fn a_peer_that_is_named_again() {
    let mut world = downloads();
    others(&mut world);
    name(&mut world, addr());
    assert_eq!(failed_calls(&mut world, Duration::from_secs(30)), [0]);
    name(&mut world, addr());
    assert_eq!(failed_calls(&mut world, Duration::from_secs(30)), [0]);
    for _ in 0..10 {
        name(&mut world, addr());
    }
    assert_eq!(failed_calls(&mut world, Duration::from_secs(5)), [0]);
    name(&mut world, addr());
    let calls = failed_calls(&mut world, Duration::from_secs(40));
    assert_eq!(calls, [10], "not within 15 s of the last call");
}

/// The only source is away for days: it cannot be reached, or disconnects at once. It is called within seconds, then
/// more slowly, up to once a minute. After an hour it is forgotten until its tracker names it again, every half hour.
/// When it is back, the download completes.
#[test]
fn the_only_source_is_away_for_days() {
    for takes_the_call in [false, true] {
        let mut world = downloads();
        let (mut calls, mut longest, mut last) = (0, [Duration::ZERO; 2], world.now);
        let days = Duration::from_secs(3 * 24 * 3600);
        let (begin, mut named_at) = (world.now, world.now);
        while world.now - begin < days {
            if named_at <= world.now {
                name(&mut world, addr());
                named_at = world.now + Duration::from_secs(1800);
            }
            for (id, _) in std::mem::take(&mut world.dialled) {
                calls += 1;
                let within_an_hour = world.now - begin < Duration::from_secs(3600);
                let longest = &mut longest[usize::from(within_an_hour)];
                *longest = (*longest).max(world.now - last);
                last = world.now;
                if takes_the_call {
                    world.peers.push(Peer::new(id, addr()));
                    let peer = world.peers.len() - 1;
                    world.node.event(world.now, Event::Connected(id));
                    world.peers[peer].greet_as(HASH, true, *b"-XX0000-the same one");
                    world.settle();
                    world.peers[peer].open = false;
                    world.peers.clear();
                }
                world.node.event(world.now, Event::Closed(id));
                world.settle();
            }
            world.pass(Duration::from_millis(500));
        }
        let [later, within_an_hour] = longest;
        assert!(within_an_hour <= Duration::from_secs(61), "{longest:?}");
        assert!(later <= Duration::from_secs(1800), "{longest:?}");
        assert!((3_000..5_000).contains(&calls), "{calls} calls");
        name(&mut world, addr());
        until_called(&mut world);
        let peer = answer(&mut world);
        takes_all(&mut world, peer);
    }
}

/// The peer sends the requested blocks until the download is complete.
fn takes_all(world: &mut World, peer: usize) {
    while !world.peers[peer].asked.is_empty() {
        world.peers[peer].give();
        world.settle();
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.verified.len(), 20, "all of it");
}

/// The only source comes and goes for three days, and sends some blocks each time.
#[test]
fn the_only_source_comes_and_goes_for_days() {
    let mut world = downloads();
    name(&mut world, addr());
    let mut calls = Vec::new();
    for _ in 0..72 {
        // It is away for 59 minutes.
        calls.extend(failed_calls(&mut world, Duration::from_secs(3540)));
        name(&mut world, addr());
        until_called(&mut world);
        let peer = answer(&mut world);
        world.dialled.clear();
        world.pass(Duration::from_secs(1));
        if world.peers[peer].asked.is_empty() {
            break;
        }
        for _ in 0..2 {
            world.peers[peer].give();
            world.settle();
        }
        hang_up(&mut world, peer);
        world.peers.clear();
    }
    assert!(calls.len() > 100, "{}", calls.len());
    assert_eq!(world.verified.len(), 20, "all of it");
}

/// A source is away while another one is connected for hours. When that one leaves, the first is called within a
/// minute.
#[test]
fn the_only_source_outlasts_another() {
    let mut world = downloads();
    name(&mut world, addr());
    failed_calls(&mut world, Duration::from_secs(600));
    let from = SocketAddr::from(([198, 51, 100, 7], 50_000));
    let other = world.connect_from(from).unwrap();
    world.peers[other].greet(HASH, true);
    world.peers[other].say(&[Message::HaveAll]);
    world.settle();
    for _ in 0..120 {
        failed_calls(&mut world, Duration::from_secs(60));
        world.peers[other].say(&[Message::KeepAlive]);
        world.settle();
    }
    hang_up(&mut world, other);
    until_called(&mut world);
    assert!(world.dialled.iter().any(|&(_, to)| to == addr()));
    let peer = answer(&mut world);
    takes_all(&mut world, peer);
}

/// The only source sends nonsense again and again, and is called again within a minute each time.
#[test]
fn the_only_source_stumbles() {
    let mut world = downloads();
    name(&mut world, addr());
    for _ in 0..9 {
        until_called(&mut world);
        let peer = answer(&mut world);
        world.dialled.clear();
        world.peers[peer].inbox.extend([0xff; 9]);
        world.settle();
        assert!(!world.peers[peer].open, "nobody reads on");
        world.peers.clear();
    }
    until_called(&mut world);
    let peer = answer(&mut world);
    takes_all(&mut world, peer);
}

/// The only source has no piece for hours. It stays connected, or is called again when it disconnects. Pieces that it
/// gets later are downloaded.
#[test]
fn the_only_source_has_nothing_for_hours() {
    for hangs_up in [false, true] {
        let mut world = downloads();
        name(&mut world, addr());
        let &(id, to) = world.dialled.last().expect("a call");
        let greet = |world: &mut World, id| {
            world.dialled.clear();
            world.peers.push(Peer::new(id, to));
            world.node.event(world.now, Event::Connected(id));
            let peer = world.peers.len() - 1;
            world.peers[peer].greet_as(HASH, true, *b"-XX0000-the same one");
            world.peers[peer].say(&[Message::HaveNone]);
            world.settle();
            peer
        };
        let mut peer = greet(&mut world, id);
        for minute in 0..300 {
            world.pass(Duration::from_secs(60));
            if hangs_up && minute % 30 == 29 {
                hang_up(&mut world, peer);
                until_called(&mut world);
                let &(id, _) = world.dialled.last().expect("a call");
                peer = greet(&mut world, id);
            }
            world.peers[peer].say(&[Message::KeepAlive]);
            world.settle();
            assert!(world.peers[peer].open, "let go after {minute} minutes");
        }
        for index in 0..20 {
            world.peers[peer].say(&[Message::Have(index)]);
        }
        world.peers[peer].say(&[Message::Unchoke]);
        world.settle();
        takes_all(&mut world, peer);
    }
}

/// A peer that the user named is called again and again, without an end.
#[test]
fn a_peer_that_the_user_named() {
    let mut world = downloads();
    let event = Event::Peer(world.torrent, addr(), PeerSource::User);
    world.node.event(world.now, event);
    world.settle();
    let hours = Duration::from_secs(6 * 3600);
    let calls = failed_calls(&mut world, hours);
    assert_eq!(calls[..4], [0, 1, 3, 7]);
    assert!(calls.len() > 300, "{} calls", calls.len());
    // Other candidates do not push it out of the table.
    for port in 1..100 {
        name(&mut world, SocketAddr::from(([192, 0, 2, 7], port)));
    }
    let mut calls = 0;
    for _ in 0..600 {
        world.pass(Duration::from_secs(1));
        for (id, to) in std::mem::take(&mut world.dialled) {
            calls += usize::from(to == addr());
            world.node.event(world.now, Event::Closed(id));
            world.settle();
        }
    }
    assert!(calls >= 9, "{calls} calls");
}

/// A peer that called us is not called while it is connected. It is recognised by its address, or by its peer id if it
/// did not name its port. When it leaves it is called, if it sent us a block.
#[test]
fn who_called_us() {
    for told in [true, false] {
        let mut world = downloads();
        let from = SocketAddr::new(addr().ip(), 50_000);
        let peer = world.connect_from(from).unwrap();
        world.peers[peer].greet_as(HASH, true, *b"-XX0000-the same one");
        world.peers[peer].say(&[Message::HaveAll, Message::Unchoke]);
        world.settle();
        if told {
            listen(&mut world, peer, addr().port());
        }
        world.pass(Duration::from_secs(20));
        name(&mut world, addr());
        if !told {
            let twin = answer(&mut world);
            assert!(!world.peers[twin].open && world.peers[peer].open);
            world.dialled.clear();
        }
        for _ in 0..10 {
            name(&mut world, addr());
            world.pass(Duration::from_secs(10));
        }
        assert!(world.dialled.is_empty(), "told: {told}");
        world.peers[peer].give();
        world.settle();
        hang_up(&mut world, peer);
        let called: Vec<_> = world.dialled.iter().map(|&(_, addr)| addr).collect();
        assert_eq!(called, [addr()], "told: {told}");
    }
}

/// A peer that called us, named its port and has wanted pieces is called when it leaves, though no tracker names it.
#[test]
fn who_called_us_and_went() {
    for useful in [true, false] {
        let mut world = downloads();
        let from = SocketAddr::new(addr().ip(), 50_000);
        let peer = world.connect_from(from).unwrap();
        world.peers[peer].greet(HASH, true);
        if useful {
            world.peers[peer].say(&[Message::HaveAll, Message::Unchoke]);
        }
        listen(&mut world, peer, addr().port());
        hang_up(&mut world, peer);
        assert_eq!(world.dialled.len(), usize::from(useful));
    }
}

/// A seed calls a leecher that downloaded from it and left, a few times.
#[test]
fn a_seed_calls_who_took_something() {
    let mut world = World::new(&Setup::default(), Have::All);
    name(&mut world, addr());
    let &(id, to) = world.dialled.last().unwrap();
    world.peers.push(Peer::new(id, to));
    world.node.event(world.now, Event::Connected(id));
    world.peers[0].greet(HASH, true);
    world.peers[0].say(&[Message::Interested]);
    world.settle();
    world.peers[0].ask(0, 4);
    world.settle();
    world.pass(Duration::from_secs(20));
    world.dialled.clear();
    hang_up(&mut world, 0);
    let calls = failed_calls(&mut world, Duration::from_secs(3_000));
    assert_eq!(calls, [0, 1, 3, 7], "and no more");
}

/// While a torrent's storage is away, no peer is called. When it is back, the old peers are called again.
#[test]
fn peers_of_a_torrent_that_is_away() {
    let mut world = downloads();
    name(&mut world, addr());
    let peer = answer(&mut world);
    world.peers[peer].give();
    world.settle();
    world.dialled.clear();
    let torrent = world.torrent;
    world.node.event(world.now, Event::Unreadable(torrent));
    world.settle();
    assert_eq!(world.closed[&addr()], Reason::TorrentGone);
    world.pass(Duration::from_secs(600));
    assert!(world.dialled.is_empty());
    world.node.event(world.now, Event::Readable(torrent));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.dialled.len(), 1);
}
