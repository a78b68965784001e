//! A node serves honest peers, though others take slots, requests and connections for nothing.

#![allow(missing_docs)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HASH, Setup, World};
use everseed_core::wire::Message;
use everseed_node::{Event, Have, PeerSource, Reason};

/// Two unchoked peers fill the whole pool of requests and do not read. The other peers stay connected, and their
/// messages are read again as soon as the pool has room.
#[test]
fn a_used_up_pool_costs_no_bystander_its_place() {
    let setup = Setup {
        requests: 480,
        slots: 2,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let hogs = [world.leecher(true), world.leecher(true)];
    let waiting = [
        world.leecher(true),
        world.leecher(false),
        world.leecher(true),
    ];
    for hog in hogs {
        world.peers[hog].reads = false;
        world.peers[hog].ask(0, 240);
    }
    world.settle();
    for peer in waiting {
        world.peers[peer].say(&[Message::KeepAlive]);
        world.peers[peer].ask(0, 3);
    }
    world.settle();
    assert!(waiting.iter().all(|&peer| world.peers[peer].open));
    for hog in hogs {
        world.peers[hog].reads = true;
        world.node.transmitted(world.now, world.peers[hog].id, 0);
    }
    world.settle();
    assert!(
        waiting
            .iter()
            .all(|&peer| world.peers[peer].inbox.is_empty())
    );
    let rejects = waiting.map(|peer| world.peers[peer].rejects());
    assert_eq!(rejects, [3, 0, 3], "they are choked");
}

/// A peer that sends thousands of messages and nothing useful is disconnected. One that sends as many in half an hour
/// stays.
#[test]
fn talk_without_end() {
    let mut world = World::new(&Setup::default(), Have::All);
    let chatter = |world: &mut World, peer: usize, messages: usize| {
        for _ in 0..messages / 100 {
            world.peers[peer].say(&[Message::KeepAlive; 100]);
            world.settle();
        }
    };
    let talker = world.leecher(true);
    chatter(&mut world, talker, 16_000);
    assert!(world.peers[talker].open);
    chatter(&mut world, talker, 4_000);
    let addr = world.peers[talker].addr;
    assert_eq!(world.closed.get(&addr), Some(&Reason::Talk));

    let slow = world.leecher(true);
    for _ in 0..30 {
        chatter(&mut world, slow, 1_000);
        world.pass(Duration::from_secs(63));
    }
    assert!(world.peers[slow].open);
}

/// Without Fast a choke drops all requests (BEP 3), so the peer has to get it even if it is unchoked again before it
/// reads.
#[test]
fn a_choke_is_told_though_an_unchoke_follows() {
    let setup = Setup {
        slots: 1,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let slow = world.leecher(false);
    let rivals = [world.leecher(true), world.leecher(true)];
    world.peers[slow].reads = false;
    world.peers[slow].ask(0, 50);
    world.settle();
    while !rivals.iter().any(|&rival| world.peers[rival].unchoked) {
        world.pass(Duration::from_secs(5));
    }
    for rival in rivals {
        world.peers[rival].say(&[Message::NotInterested]);
    }
    world.settle();
    world.peers[slow].reads = true;
    world.node.transmitted(world.now, world.peers[slow].id, 0);
    world.settle();
    let told = &world.peers[slow].messages;
    let last = told.len() - 2;
    assert_eq!(told[last..], [Message::Choke, Message::Unchoke]);
}

/// Requests of a choked peer are ignored (BEP 3). So requests that follow `interested` directly take no room in the
/// pool.
#[test]
fn requests_before_the_unchoke_are_ignored() {
    let setup = Setup {
        requests: 100,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let eager = world.connect().unwrap();
    world.peers[eager].greet(HASH, false);
    world.settle();
    world.peers[eager].say(&[Message::Interested]);
    world.peers[eager].ask(0, 200);
    world.settle();
    assert!(world.peers[eager].unchoked);
    assert_eq!(world.peers[eager].pieces(), 0);
    world.peers[eager].ask(0, 200);
    world.settle();
    assert_eq!(world.peers[eager].pieces(), 200);
}

/// A peer that has a slot and downloads nothing loses it to a waiting peer.
#[test]
fn who_takes_nothing_holds_no_slot() {
    for asks in [0, 100] {
        let mut world = World::new(&Setup::default(), Have::All);
        for _ in 0..20 {
            let peer = world.leecher(true);
            world.peers[peer].reads = false;
            world.peers[peer].ask(0, asks);
        }
        let honest = world.leecher(true);
        let mut waited = 0;
        while !world.peers[honest].unchoked {
            world.pass(Duration::from_secs(10));
            waited += 10;
            assert!(waited <= 120, "{asks}");
        }
        for _ in 0..20 {
            world.peers[honest].ask(0, 8);
            world.settle();
            world.pass(Duration::from_secs(10));
            assert!(world.peers[honest].unchoked, "{asks}");
        }
        assert_eq!(world.peers[honest].pieces(), 160);
    }
}

/// A hundred waiting connections of one address do not all have a turn before other peers.
#[test]
fn a_crowd_from_one_address_does_not_hold_all_slots() {
    let setup = Setup {
        conns: 128,
        slots: 8,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    for port in 1..=100 {
        let peer = world.connect_from(from(1, port)).unwrap();
        world.peers[peer].greet(HASH, true);
        world.peers[peer].say(&[Message::Interested]);
        world.settle();
    }
    let honest = [
        world.leecher(true),
        world.leecher(true),
        world.leecher(true),
    ];
    for _ in 0..8 {
        for peer in honest {
            let peer = &mut world.peers[peer];
            if peer.unchoked {
                peer.ask(0, 4);
            }
        }
        world.settle();
        world.pass(Duration::from_secs(5));
    }
    assert!(honest.iter().all(|&peer| world.peers[peer].unchoked));
}

fn from(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

/// However many connections one address makes, peers of other addresses are accepted.
#[test]
fn a_crowd_from_one_address_keeps_nobody_out() {
    let setup = Setup {
        conns: 40,
        ..Setup::default()
    };
    for (greets, wants) in [(false, false), (true, false), (true, true)] {
        let mut world = World::new(&setup, Have::All);
        let settled: Vec<usize> = (0..10).map(|_| world.leecher(true)).collect();
        let mut port = 1;
        let mut honest = Vec::new();
        for host in 2..22 {
            for _ in 0..50 {
                port += 1;
                if let Some(peer) = world.connect_from(from(1, port)) {
                    if greets {
                        world.peers[peer].greet(HASH, true);
                    }
                    if wants {
                        world.peers[peer].say(&[Message::Interested]);
                    }
                }
                world.settle();
            }
            let peer = world.connect_from(from(host, 50_000));
            let peer = peer.unwrap_or_else(|| panic!("{host} was refused, {greets} {wants}"));
            world.peers[peer].greet(HASH, true);
            world.peers[peer].say(&[Message::Interested]);
            world.settle();
            honest.push(peer);
            // All connections are open or counted as turned away.
            let came = 10 + u64::from(host - 1) * 51;
            let here = world.peers.iter().filter(|peer| peer.open).count() as u64;
            assert_eq!(world.node.stats().turned_away, came - here);
        }
        let open = |peer: &usize| world.peers[*peer].open;
        assert!(settled.iter().all(open) && honest.iter().all(open));
    }
}

/// A thousand peers connect and send nothing, or half a handshake. Few of them stay at a time, and not for long. Honest
/// peers between them are accepted, and the node can call others.
#[test]
fn half_a_handshake_holds_no_place() {
    for hosts in [1, 10, 200] {
        for half in [false, true] {
            let setup = Setup {
                conns: 40,
                ..Setup::default()
            };
            let mut world = World::new(&setup, Have::All);
            let mut honest = Vec::new();
            for n in 0..1000_u16 {
                let host = u8::try_from(n % hosts).unwrap() + 10;
                let peer = world.connect_from(from(host, 1 + n));
                if let Some(peer) = peer.filter(|_| half) {
                    world.peers[peer].inbox.extend(b"\x13BitTorrent protocol");
                }
                world.settle();
                if n % 100 == 99 {
                    let late = SocketAddr::from(([203, 0, 113, u8::try_from(n / 100).unwrap()], 1));
                    let peer = world.connect_from(late).expect("a place");
                    world.settle();
                    // Some more silent peers connect before its handshake arrives.
                    for more in 0..5 {
                        world.connect_from(from(host, 2000 + 10 * n + more));
                        world.settle();
                    }
                    assert!(world.peers[peer].open, "{hosts} hosts, after {n}");
                    world.peers[peer].greet(HASH, true);
                    world.peers[peer].say(&[Message::Interested]);
                    world.settle();
                    honest.push(peer);
                }
                world.pass(Duration::from_millis(10));
            }
            assert!(honest.iter().all(|&peer| world.peers[peer].open));
            let addr = "198.51.100.1:6881".parse().unwrap();
            world.node.event(
                world.now,
                Event::Peer(world.torrent, addr, PeerSource::Tracker),
            );
            world.settle();
            assert_eq!(world.dialled.len(), 1, "{hosts} hosts: a call");
            world.pass(Duration::from_secs(15));
            let open = world.peers.iter().filter(|peer| peer.open).count();
            assert_eq!(open, honest.len(), "{hosts} hosts: who is left");
        }
    }
}

/// Of peers that send no handshake for more than two seconds, few stay connected.
#[test]
fn few_are_silent() {
    let setup = Setup {
        conns: 40,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    for n in 0..60 {
        world.connect_from(from(10 + n, 1));
        world.settle();
        world.pass(Duration::from_millis(250));
        let open = world.peers.iter().filter(|peer| peer.open).count();
        assert!(open <= 11, "{open} after {n}");
    }
}

/// Many peers behind one address (NAT, or a test on one machine) stay connected as long as no other address needs their
/// places.
#[test]
fn neighbours_do_not_push_each_other_out() {
    let setup = Setup {
        conns: 40,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let mut inside = Vec::new();
    for port in 1..=100 {
        if let Some(peer) = world.connect_from(from(1, port)) {
            world.peers[peer].greet(HASH, true);
            world.peers[peer].say(&[Message::Interested]);
            inside.push(peer);
        }
        world.settle();
    }
    let open = inside.iter().filter(|&&peer| world.peers[peer].open);
    assert_eq!((open.count(), inside.len()), (39, 39));
}

/// A seed disconnects a partial seed that wants nothing (BEP 21), like a seed.
#[test]
fn who_only_uploads_and_wants_nothing_parts() {
    let hello = b"d11:upload_onlyi1ee";
    for wants in [false, true] {
        let mut world = World::new(&Setup::default(), Have::All);
        let peer = world.connect().unwrap();
        world.peers[peer].greet(HASH, true);
        if wants {
            world.peers[peer].say(&[Message::Interested]);
        }
        let len = u32::try_from(hello.len()).unwrap();
        world.peers[peer].say(&[Message::Extended { id: 0, len }]);
        world.peers[peer].inbox.extend(hello);
        world.settle();
        assert_eq!(world.peers[peer].open, wants);
    }
}

/// A peer lost its network and connects again before its old connection has timed out. The new connection replaces it.
#[test]
fn a_peer_that_comes_back_replaces_its_silent_self() {
    let mut world = World::new(&Setup::default(), Have::All);
    let peer_id = *b"-XX0000-abcdefghijkl";
    let greet = |world: &mut World, addr| {
        let peer = world.connect_from(addr).unwrap();
        world.peers[peer].greet_as(HASH, true, peer_id);
        world.settle();
        peer
    };
    let first = greet(&mut world, from(1, 1));
    let early = greet(&mut world, from(1, 2));
    assert!(world.peers[first].open && !world.peers[early].open);
    world.pass(Duration::from_secs(40));
    let stranger = greet(&mut world, from(2, 1));
    assert!(world.peers[first].open && !world.peers[stranger].open);
    let again = greet(&mut world, from(1, 3));
    assert!(!world.peers[first].open && world.peers[again].open);
    assert!(world.peers[again].handshake.is_some());
}
