//! A full node prefers peers by the priority of BEP 40.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use everseed_core::priority::priority;
use everseed_core::wire::Message;
use everseed_node::{Have, Publicity, Reason};

use common::{HASH, Setup, World};

const OURS: &str = "203.0.113.7:6881";

/// A node whose connections are all taken by interested peers, two of which are unchoked.
fn full(publicity: Publicity) -> (World, Vec<SocketAddr>) {
    let setup = Setup {
        conns: 12,
        slots: 2,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let id = world.torrent;
    world.node.publish(world.now, id, publicity);
    let addrs: Vec<SocketAddr> = (0..12)
        .map(|n| ([80 + n, 4, 5, 6], 50_000).into())
        .collect();
    for &addr in &addrs {
        let peer = world.connect_from(addr).expect("a place");
        world.peers[peer].greet(HASH, true);
        world.peers[peer].say(&[Message::Interested]);
        world.settle();
    }
    (world, addrs)
}

/// Connects from `addr`, a second time if the first only made room. Returns whether it was accepted.
fn call(world: &mut World, addr: SocketAddr) -> bool {
    for _ in 0..2 {
        if let Some(peer) = world.connect_from(addr) {
            world.peers[peer].greet(HASH, true);
            world.peers[peer].say(&[Message::Interested]);
            world.settle();
            return true;
        }
        world.settle();
    }
    false
}

#[test]
fn the_lowest_priority_gives_way_to_a_higher_one() {
    for publicity in [Publicity::NONE, Publicity::PRIVATE] {
        let (mut world, addrs) = full(publicity);
        let ours = OURS.parse().unwrap();
        let rank = |addr: &SocketAddr| priority(ours, *addr);
        let mut others: Vec<SocketAddr> = (1..=70).map(|n| ([n, 7, 7, 7], 50_000).into()).collect();
        others.sort_by_key(rank);
        world.pass(Duration::from_secs(61));
        let best = others.pop().unwrap();
        assert!(
            !call(&mut world, best),
            "as long as nobody knows where we are reached"
        );
        world.node.reached_at(world.now, ours);
        assert!(!call(&mut world, others[0]), "it has the lowest");
        assert!(call(&mut world, best), "it has the highest");
        let served = |addr: &SocketAddr| {
            let peer = world.peers.iter().find(|p| p.addr == *addr).unwrap();
            peer.unchoked
        };
        // Of the choked peers the two lowest left: one for this connection, one to make room for the next.
        let mut waiting: Vec<SocketAddr> = addrs.iter().copied().filter(|a| !served(a)).collect();
        waiting.sort_by_key(rank);
        assert_eq!(world.closed.len(), 2);
        for addr in &waiting[..2] {
            assert_eq!(world.closed.get(addr), Some(&Reason::Crowded));
        }
        // Whoever connects afterwards, the best one stays. This takes less time than the limit for silent peers.
        for (n, &addr) in others.iter().enumerate().rev().take(8) {
            world.pass(Duration::from_secs(20));
            call(&mut world, addr);
            assert!(world.peers.iter().filter(|p| p.open).count() <= 12, "{n}");
        }
        let lasting = |addr: &SocketAddr| world.peers.iter().any(|p| p.open && p.addr == *addr);
        assert!(lasting(&best), "nobody has a higher one");
    }
}
