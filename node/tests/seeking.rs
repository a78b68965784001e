//! The node announces public torrents in the DHT and searches there for their peers. It never does so for other
//! torrents.

mod heap;

use std::net::SocketAddr;
use std::time::Duration;

use everseed_core::geometry::{Geometry, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_node::discovery::dht::Mode;
use everseed_node::memory::Sizes;
use everseed_node::{
    Action, Event, Have, Identity, Limits, Memory, Node, Order, PeerSource, Publicity, Wanted,
};

use heap::Heap;

const HASH: InfoHash = InfoHash([7; 20]);

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([20, u8::try_from(n).unwrap(), 0, 1], 6881))
}

fn node(n: usize) -> Node<'static> {
    let sizes = Sizes {
        conns: 4,
        requests: 64,
        blocks: 4,
        in_progress: 3,
        in_progress_bits: 12,
        peer_bitfields: 1,
        counts: 3,
        registry: 4,
        torrents: 2,
        bits: 8,
        dht: 1,
        candidates: 8,
        scratch: 16 * 1024,
        ..Sizes::NONE
    };
    let identity = Identity {
        peer_id: [u8::try_from(n).unwrap(); 20],
        port: 6881,
        client: "test",
    };
    let limits = Limits {
        slots: None,
        most_slots: 4,
        peers: 4,
        upload_bps: None,
        download_bps: None,
    };
    Node::new(Memory::lend(&sizes, &mut Heap), identity, limits, n as u64)
}

/// Runs all nodes for a second. Returns the torrents that each of them wants to wake.
fn wakes(nodes: &mut [Node<'static>], from: Instant) -> Vec<(usize, TorrentId)> {
    let mut wakes = Vec::new();
    pass(nodes, from, 1, &mut |n, action| {
        if let Action::Wake { torrent } = action {
            wakes.push((n, *torrent));
        }
    });
    wakes
}

/// Runs all nodes for `secs` seconds. Returns the addresses that each of them calls.
fn run(nodes: &mut [Node<'static>], from: Instant, secs: u64) -> Vec<(usize, SocketAddr)> {
    let mut calls = Vec::new();
    pass(nodes, from, secs, &mut |n, action| {
        if let Action::Connect { addr, .. } = action {
            calls.push((n, *addr));
        }
    });
    calls
}

/// Runs all nodes for `secs` seconds.
fn pass(
    nodes: &mut [Node<'static>],
    from: Instant,
    secs: u64,
    on_action: &mut dyn FnMut(usize, &Action),
) {
    pass_steps(nodes, from, secs * 100, on_action);
}

/// The same for a number of steps of ten milliseconds.
fn pass_steps(
    nodes: &mut [Node<'static>],
    from: Instant,
    steps: u64,
    on_action: &mut dyn FnMut(usize, &Action),
) {
    for step in 0..steps {
        let now = from + Duration::from_millis(10 * step);
        for n in 0..nodes.len() {
            if nodes[n].deadline().is_some_and(|at| at <= now) {
                nodes[n].tick(now);
            }
            while let Some(action) = nodes[n].poll(now) {
                on_action(n, &action);
                if let Action::Connect { conn, .. } = action {
                    nodes[n].event(now, everseed_node::Event::Closed(conn));
                }
            }
            let mut packet = [0; 2048];
            while let Some((to, len)) = nodes[n].poll_datagram(now, &mut packet) {
                if let Some(to) = (0..nodes.len()).find(|&other| address(other) == to) {
                    nodes[to].datagram(now, address(n), &packet[..len]);
                }
            }
        }
    }
}

/// Adds another public torrent: a node of the DHT rests while it has none.
fn keep_awake(node: &mut Node<'static>, now: Instant) {
    let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
    let other = InfoHash([9; 20]);
    let other = node.add(other, geometry, Have::All, 0).unwrap();
    node.publish(now, other, Publicity::NONE.with_dht());
}

/// Three nodes of one DHT. The second seeds the torrent, and the third downloads it.
fn network(
    publicity: Publicity,
    modes: [Mode; 3],
) -> (Vec<Node<'static>>, Vec<(usize, SocketAddr)>) {
    let mut now = Instant::from_secs(1);
    let mut nodes: Vec<_> = (0..3).map(node).collect();
    let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
    for (n, node) in nodes.iter_mut().enumerate() {
        node.join_dht(now, modes[n], [true, false], &[]);
        node.dht_node(now, address(0));
    }
    keep_awake(&mut nodes[0], now);
    run(&mut nodes, now, 30);
    now = now + Duration::from_secs(30);
    let seeded = nodes[1].add(HASH, geometry, Have::All, 0).unwrap();
    nodes[1].publish(now, seeded, publicity);
    run(&mut nodes, now, 60);
    now = now + Duration::from_secs(60);
    let wanted = nodes[2].add(HASH, geometry, Have::Nothing, 0).unwrap();
    nodes[2]
        .download(now, wanted, Wanted::All, Order::Rarest)
        .unwrap();
    nodes[2].publish(now, wanted, publicity);
    let calls = run(&mut nodes, now, 10);
    (nodes, calls)
}

#[test]
fn a_seed_is_found_without_a_tracker() {
    let (nodes, calls) = network(Publicity::NONE.with_dht(), [Mode::On; 3]);
    assert!(calls.contains(&(2, address(1))), "{calls:?}");
    assert!(nodes[0].dht_stats().stored > 0);
    // Read-only nodes, which answer no query, are found too.
    let modes = [Mode::On, Mode::ReadOnly, Mode::ReadOnly];
    let (nodes, calls) = network(Publicity::NONE.with_dht(), modes);
    assert!(calls.contains(&(2, address(1))), "{calls:?}");
    assert_eq!(
        nodes[1].dht_stats().replies + nodes[2].dht_stats().replies,
        0
    );
}

#[test]
fn what_is_not_for_the_dht_never_gets_there() {
    let private = Publicity::PRIVATE.with_dht();
    for publicity in [
        private,
        Publicity::NONE,
        Publicity::NONE.with_pex().with_lsd(),
    ] {
        let (nodes, calls) = network(publicity, [Mode::On; 3]);
        assert_eq!(calls, []);
        assert!(nodes.iter().all(|node| node.dht_stats().stored == 0));
        // A node without another public torrent sends nothing at all.
        for node in &nodes[1..] {
            let stats = node.dht_stats();
            assert_eq!((stats.queries, stats.replies), (0, 0));
        }
    }
    let (nodes, calls) = network(Publicity::NONE.with_dht(), [Mode::Off; 3]);
    assert_eq!(calls, []);
    assert!(nodes.iter().all(|node| node.dht_stats().queries == 0));
}

/// A peer of a public torrent that is also a DHT node is added to the table. Peers of private torrents are not.
#[test]
fn peers_lead_in() {
    for (publicity, leads) in [
        (Publicity::NONE.with_dht(), true),
        (Publicity::NONE, false),
        (Publicity::PRIVATE.with_dht(), false),
    ] {
        let now = Instant::from_secs(1);
        let mut nodes: Vec<_> = (0..2).map(node).collect();
        nodes
            .iter_mut()
            .for_each(|node| node.join_dht(now, Mode::On, [true, false], &[]));
        keep_awake(&mut nodes[0], now);
        // Another public torrent keeps this node from resting.
        keep_awake(&mut nodes[1], now);
        let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
        let wanted = nodes[1].add(HASH, geometry, Have::Nothing, 0).unwrap();
        nodes[1].publish(now, wanted, publicity);
        let begun = nodes[1].download(now, wanted, Wanted::All, Order::Rarest);
        begun.unwrap();
        nodes[1].event(now, Event::Peer(wanted, address(0), PeerSource::Tracker));
        run(&mut nodes, now, 20);
        let known = nodes[1].dht_stats().nodes[0];
        assert_eq!(known, u16::from(leads), "{publicity:?}");
    }
}

/// Three nodes that know each other. The second downloads a torrent that sleeps at the third. `reachable` says whether
/// the third node knows that others can call it.
fn one_wants_what_sleeps(now: &mut Instant, reachable: bool) -> (Vec<Node<'static>>, TorrentId) {
    let mut nodes: Vec<_> = (0..3).map(node).collect();
    let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
    let public = Publicity::NONE.with_dht();
    for node in &mut nodes {
        node.join_dht(*now, Mode::On, [true, false], &[]);
        node.dht_node(*now, address(0));
    }
    if reachable {
        nodes[2].dht_reachable();
    }
    keep_awake(&mut nodes[0], *now);
    let wanted = nodes[1].add(HASH, geometry, Have::Nothing, 0).unwrap();
    let begun = nodes[1].download(*now, wanted, Wanted::All, Order::Rarest);
    begun.unwrap();
    nodes[1].publish(*now, wanted, public);
    run(&mut nodes, *now, 30);
    *now = *now + Duration::from_secs(30);
    let asleep = nodes[2].add(HASH, geometry, Have::All, 0).unwrap();
    nodes[2].sleep(asleep);
    nodes[2].publish(*now, asleep, public);
    (nodes, asleep)
}

/// The DHT finds a peer of a sleeping torrent. If others cannot call us, the torrent is woken and calls the peer.
/// Otherwise it sleeps on, because the peer calls us.
#[test]
fn who_cannot_be_called_wakes_what_is_wanted() {
    for reachable in [false, true] {
        let mut now = Instant::from_secs(1);
        let (mut nodes, asleep) = one_wants_what_sleeps(&mut now, reachable);
        let mut woken = Vec::new();
        for _ in 0..60 {
            woken.extend(wakes(&mut nodes, now));
            now = now + Duration::from_secs(1);
        }
        let stats = nodes[2].dht_stats();
        assert_eq!(woken.contains(&(2, asleep)), !reachable, "{stats:?}");
    }
}

/// During a search for a sleeping torrent it turns out that others can call us. A peer that was found before wakes the
/// torrent. A torrent that is not woken keeps no candidates.
#[test]
fn nobody_is_kept_for_a_torrent_that_sleeps_on() {
    let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
    let mut woken_once = false;
    for at in 0..20 {
        let mut now = Instant::from_secs(1);
        let (mut nodes, asleep) = one_wants_what_sleeps(&mut now, false);
        let mut woken = false;
        for step in 0..1000 {
            if step == at {
                nodes[2].dht_reachable();
            }
            pass_steps(&mut nodes, now, 1, &mut |n, action| {
                woken |= n == 2 && matches!(action, Action::Wake { .. });
            });
            now = now + Duration::from_millis(10);
        }
        woken_once |= woken;
        if !woken {
            let have = Have::All;
            nodes[2].wake(now, asleep, geometry, have, 0).unwrap();
            let calls = run(&mut nodes, now, 2);
            assert!(!calls.contains(&(2, address(1))), "{at}: {calls:?}");
        }
    }
    assert!(woken_once);
}

/// The peer that the DHT names is gone. The node searches again, more and more rarely, until a peer stays.
#[test]
fn a_download_that_nobody_serves_looks_again() {
    let mut now = Instant::from_secs(1);
    let mut nodes: Vec<_> = (0..4).map(node).collect();
    let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
    for node in &mut nodes {
        node.join_dht(now, Mode::On, [true, false], &[]);
        node.dht_node(now, address(0));
    }
    keep_awake(&mut nodes[0], now);
    let public = Publicity::NONE.with_dht();
    let mut pass = |nodes: &mut [Node<'static>], secs| {
        let calls = run(nodes, now, secs);
        now = now + Duration::from_secs(secs);
        (now, calls)
    };
    let (at, _) = pass(&mut nodes, 30);
    let gone = nodes[3].add(HASH, geometry, Have::All, 0).unwrap();
    nodes[3].publish(at, gone, public);
    let (at, _) = pass(&mut nodes, 60);
    nodes.pop();
    let wanted = nodes[2].add(HASH, geometry, Have::Nothing, 0).unwrap();
    let begun = nodes[2].download(at, wanted, Wanted::All, Order::Rarest);
    begun.unwrap();
    nodes[2].publish(at, wanted, public);
    let (at, calls) = pass(&mut nodes, 10);
    assert!(calls.contains(&(2, address(3))), "{calls:?}");
    let seeded = nodes[1].add(HASH, geometry, Have::All, 0).unwrap();
    nodes[1].publish(at, seeded, public);
    let before = nodes[2].dht_stats().queries;
    let (_, calls) = pass(&mut nodes, 120);
    assert!(calls.contains(&(2, address(1))), "{calls:?}");
    // The searches become rare.
    pass(&mut nodes, 20 * 60);
    let asked = nodes[2].dht_stats().queries - before;
    assert!(asked < 22 * 12, "{asked}");
}
