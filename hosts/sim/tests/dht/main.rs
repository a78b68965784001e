//! Many nodes of the DHT in a network in memory. They find each other and the peers that they search for, and send no
//! more packets than their budget allows.

#![allow(clippy::cast_possible_truncation)]

mod world;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use everseed_core::hash::InfoHash;
use everseed_core::krpc::{Body, Message, NodeId, Query};
use everseed_core::rng::Rng;
use everseed_node::discovery::dht::PACKET_MAX;
use everseed_sim::crowd::near;
use world::{Host, LATENCY, World, node, public};

const HASH: InfoHash = InfoHash([0x77; 20]);

/// Nodes that begin with one known address find each other.
#[test]
fn everybody_finds_everybody() {
    for nodes in [2, 3, 20, 300] {
        let mut world = World::grown(1, nodes, 0, 0);
        let (seed, searcher) = (nodes - 1, nodes / 2);
        assert!(world.search(seed, HASH, true, true));
        world.run(10.0);
        let told = world.finished.iter().find(|(host, _)| *host == seed);
        let (_, finished) = told.expect("an end");
        assert!(
            usize::from(finished.announced) >= (nodes - 1).min(6),
            "{nodes}: {finished:?}"
        );
        if searcher == seed {
            continue;
        }
        // A new node, which knows only the first one.
        let new = world.join();
        let start = world.now;
        assert!(world.search(new, HASH, false, true));
        world.run(10.0);
        let found = world.found.iter().find(|(host, ..)| *host == new);
        let &(_, at, hash, peer) = found.expect("a peer");
        assert_eq!(
            (hash, peer.ip(), peer.port()),
            (HASH, world.hosts[seed].0.ip(), 7000)
        );
        let trips = (at - start) / (2 * LATENCY);
        assert!(trips <= 8, "{nodes} nodes: {trips} round trips");
    }
}

#[test]
fn liars_and_silent_nodes_between() {
    (1..5).for_each(among_liars);
}

fn among_liars(seed: u64) {
    let mut world = World::grown(seed, 150, 40, 25);
    // Silent hosts and liars are named to many nodes, and so enter their tables.
    for other in 150..world.hosts.len() {
        let (from, now) = (world.hosts[other].0, world.at());
        for _ in 0..10 {
            let to = world.rng.below(150) as usize;
            world.dht(to).hint(now, from);
        }
    }
    world.run(300.0);
    assert!(world.search(140, HASH, true, true));
    world.run(30.0);
    for searcher in [3, 50, 120] {
        assert!(world.search(searcher, HASH, false, true));
    }
    world.run(30.0);
    let seed = world.hosts[140].0.ip();
    for searcher in [3, 50, 120] {
        let found = |f: &&(usize, u64, InfoHash, SocketAddr)| f.0 == searcher && f.3.ip() == seed;
        assert!(world.found.iter().any(|f| found(&f)), "{searcher}");
    }
}

/// A hundred nodes of one /24 network, whose ids are the closest to the torrent, do not hide it.
#[test]
fn an_eclipse_by_one_network() {
    let mut world = World::grown(3, 150, 0, 0);
    for n in 0..100 {
        let at = SocketAddr::from(([66, 6, 6, n], 6881));
        world.add(at, Host::Attacker(near(HASH, n)));
        let now = world.at();
        for host in 0..150 {
            if (host + usize::from(n)) % 5 == 0 {
                world.dht(host).hint(now, at);
            }
        }
        world.run(1.0);
    }
    world.run(200.0);
    assert!(world.search(10, HASH, true, true));
    world.run(20.0);
    let (_, finished) = world.finished[0];
    assert!(finished.announced >= 5, "{finished:?}");
    for searcher in [30, 60, 90] {
        assert!(world.search(searcher, HASH, false, true));
    }
    world.run(20.0);
    for searcher in [30, 60, 90] {
        let seed = world.hosts[10].0.ip();
        assert!(
            world
                .found
                .iter()
                .any(|f| f.0 == searcher && f.3.ip() == seed),
            "{searcher}"
        );
    }
}

/// Runs a node with so many torrents for some hours. Its queries stay within the budget in every window of time.
/// Returns its queries a minute.
fn queries_of_a_seed(torrents: u32, hours: u64) -> f64 {
    let mut world = World::grown(4, 150, 0, 0);
    let host = world.join();
    world.watched = Some(host);
    let start = world.now;
    // Each torrent is searched for every 25 minutes, as far as the budget allows.
    let mut next: Vec<u64> = vec![start; torrents as usize];
    let mut turn = 0;
    while world.now - start < hours * 3_600_000_000 {
        world.run(1.0);
        while world.dht(host).is_ready() && next[turn] <= world.now {
            let mut hash = [0; 20];
            Rng::new(turn as u64).fill(&mut hash);
            if !world.search(host, InfoHash(hash), true, false) {
                break;
            }
            next[turn] = world.now + 1_500_000_000;
            turn = (turn + 1) % next.len();
        }
        world.drive(host);
    }
    let queries = &world.queries;
    let mut distinct = HashMap::<SocketAddr, u32>::new();
    let (mut oldest, mut second) = (0, 0);
    for (n, &(at, to)) in queries.iter().enumerate() {
        *distinct.entry(to).or_default() += 1;
        while at - queries[oldest].0 >= 119_000_000 {
            let gone = distinct.get_mut(&queries[oldest].1).unwrap();
            *gone -= 1;
            if *gone == 0 {
                distinct.remove(&queries[oldest].1);
            }
            oldest += 1;
        }
        assert!(distinct.len() <= 200, "{} destinations", distinct.len());
        while at - queries[second].0 >= 1_000_000 {
            second += 1;
        }
        assert!(n + 1 - second <= 25, "queries in a second");
    }
    let within = queries.iter().filter(|(at, _)| *at - start <= 180_000_000);
    let flows: BTreeSet<_> = within.map(|(_, to)| to).collect();
    let settled = queries
        .iter()
        .filter(|(at, _)| *at - start > 120_000_000)
        .count();
    let minutes = hours as f64 * 60.0 - 2.0;
    let rate = settled as f64 / minutes;
    println!(
        "{torrents} torrents: {rate:.1} queries a minute, {} flows in 180 s",
        flows.len()
    );
    // The host wakes up every ten seconds anyway, which is not counted.
    let of_its_own = |wakes: &[u64]| {
        let after = wakes.iter().filter(|at| **at - start > 120_000_000);
        after.count() as f64 / minutes * 60.0
    };
    let [timers, answers, others] = world.wakes.each_ref().map(|wakes| of_its_own(wakes));
    println!(
        "wake-ups an hour: {timers:.0} for itself, {answers:.0} for answers, {others:.0} for others"
    );
    if torrents <= 1 {
        assert!(flows.len() <= 40, "{} flows", flows.len());
    }
    rate
}

#[test]
fn queries_are_within_the_budget() {
    assert!(queries_of_a_seed(1, 2) <= 12.0);
    assert!(queries_of_a_seed(100, 1) <= 200.0);
    assert!(queries_of_a_seed(10_000, 1) <= 300.0);
}

/// A node that starts with its kept contacts finds its way back into the DHT. A node without any asks for names, more
/// and more rarely.
#[test]
fn kept_nodes_lead_back() {
    let mut world = World::grown(5, 60, 0, 0);
    let mut kept = [0; 2048];
    let len = world.dht(30).keep(&mut kept).unwrap();
    let again = world.add(public(500), node(99, world.now));
    let now = world.at();
    world.dht(again).restore(now, &kept[..len]);
    assert!(!world.dht(again).poll_names(now), "kept nodes come first");
    world.run(60.0);
    assert!(world.dht(again).stats().nodes[0] >= 8);
    // This node knows nobody, so it asks for names again and again, but not often.
    let alone = world.add(public(501), node(98, world.now));
    let start = world.now;
    let mut asked = Vec::new();
    while world.now - start < 3_600_000_000 {
        let now = world.at();
        if world.dht(alone).poll_names(now) {
            asked.push((world.now - start) / 60_000_000);
        }
        world.now += 1_000_000;
    }
    assert_eq!(asked, [0, 1, 3, 7, 15, 31]);
}

/// After a rest, too, well-known names are the last resort: for a few seconds peers may name nodes first.
#[test]
fn names_come_last_after_a_rest() {
    let mut world = World::new(9);
    let alone = world.add(public(0), node(1, world.now));
    for _ in 0..3 {
        let now = world.at();
        world.dht(alone).rest(now, true);
        assert!(!world.dht(alone).poll_names(now));
        world.now += 3_600_000_000;
        let now = world.at();
        world.dht(alone).rest(now, false);
        // Another torrent that is published does not start the few seconds again.
        world.dht(alone).rest(now, false);
        assert!(!world.dht(alone).poll_names(now));
        let later = now + Duration::from_secs(5);
        assert!(world.dht(alone).poll_names(later));
    }
}

/// Many short rests delay the names only once, however long the rests and the times between them are.
#[test]
fn short_rests_put_names_off_once() {
    for (rest_ms, awake_ms) in [
        (1, 1),
        (100, 4_900),
        (6_000, 4_000),
        (60_000, 1),
        (1, 4_999),
    ] {
        let mut world = World::new(9);
        let alone = world.add(public(0), node(1, world.now));
        let (mut awake, mut found) = (0, false);
        while awake < 10_000 && !found {
            let now = world.at();
            world.dht(alone).rest(now, true);
            world.now += rest_ms * 1_000;
            let now = world.at();
            world.dht(alone).rest(now, false);
            world.now += awake_ms * 1_000;
            awake += awake_ms;
            let now = world.at();
            found = world.dht(alone).poll_names(now);
        }
        assert!(found, "{rest_ms} ms of rest, {awake_ms} ms awake");
    }
}

/// A node with few contacts queries one a second, and does not ask to be polled earlier.
#[test]
fn few_nodes_are_no_reason_to_poll_early() {
    let mut world = World::new(9);
    let alone = world.add(public(0), node(1, world.now));
    let now = world.at();
    for n in 1..4 {
        world.dht(alone).guess(now, public(n));
    }
    (world.watched, world.queries) = (Some(alone), Vec::new());
    for _ in 0..500 {
        let (now, before) = (world.at(), world.queries.len());
        world.drive(alone);
        let asked = world.queries.len() - before;
        assert!(asked <= 1 && !world.dht(alone).is_due(now), "{now:?}");
        world.now += 10_000;
    }
    assert_eq!(world.queries.len(), 3);
}

/// While a node has few contacts, it queries peers that may be nodes too. If none of them is one, it becomes slower.
#[test]
fn guesses_lead_in_and_do_not_flood() {
    let mut world = World::grown(6, 30, 0, 0);
    let host = world.hosts.len();
    world.add(public(host), node(7, world.now));
    for n in 0..20 {
        let now = world.at();
        // Most of these peers are no nodes.
        let addr = public(if n % 5 == 3 { n } else { 1000 + n });
        world.dht(host).guess(now, addr);
        world.run(1.0);
    }
    world.run(30.0);
    assert!(world.dht(host).stats().nodes[0] >= 8);
    let alone = world.add(public(900), node(8, world.now));
    (world.watched, world.queries) = (Some(alone), Vec::new());
    let start = world.now;
    for n in 0..3600 {
        let now = world.at();
        world.dht(alone).guess(now, public(2000 + n));
        world.run(1.0);
    }
    let first = world
        .queries
        .iter()
        .filter(|(at, _)| *at - start < 60_000_000)
        .count();
    let all = world.queries.len();
    assert!(
        (16..=30).contains(&first) && all <= 60 * 12,
        "{first} in a minute, {all} in an hour"
    );
}

/// A flood of queries with false senders: no answer is longer than twice its query, and their number is limited.
#[test]
fn floods_do_not_amplify() {
    let mut world = World::grown(6, 40, 0, 0);
    let mut rng = Rng::new(1);
    let (mut came, mut answered) = (0, 0);
    let start = world.now;
    let mut packet = [0; PACKET_MAX];
    for n in 0..20_000_u32 {
        world.now += 1_000;
        let now = world.at();
        let from = SocketAddr::from((rng.bits32().to_be_bytes(), 6881));
        let query = match n % 3 {
            0 => Query::Ping,
            1 => Query::FindNode {
                target: NodeId::random(&mut rng),
                want: Default::default(),
            },
            _ => Query::GetPeers {
                info_hash: NodeId(HASH.0),
                want: Default::default(),
                noseed: false,
                scrape: true,
            },
        };
        let message = Message {
            transaction: b"xx",
            version: b"",
            read_only: false,
            observed: None,
            body: Body::Query(NodeId::random(&mut rng), query),
        };
        let len = message.encode(&mut packet).unwrap();
        let bytes = packet[..len].to_vec();
        came += len;
        let dht = world.dht(5);
        dht.datagram(now, from, &bytes, &mut |_, _| panic!("nobody searches"));
        while let Some((to, len)) = dht.poll_datagram(now, &mut packet) {
            let answer = Message::decode(&packet[..len]).unwrap();
            if !matches!(answer.body, Body::Query(..)) {
                assert!(to == from && len <= 2 * bytes.len());
                answered += 1;
            }
        }
    }
    let secs = (world.now - start) / 1_000_000;
    assert!(
        answered <= 40 + 20 * secs,
        "{answered} answers in {secs} s for {came} bytes"
    );
    let stats = world.dht(5).stats();
    assert!(stats.dropped > 0 && stats.stored == 0);
}

/// Damaged packets never cause a panic, and store no peer.
#[test]
fn nonsense() {
    let mut world = World::grown(7, 3, 0, 0);
    let mut rng = Rng::new(8);
    let now = world.at();
    for _ in 0..20_000 {
        let mut bytes = *b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
        for _ in 0..rng.below(6) {
            let at = rng.below(bytes.len() as u32) as usize;
            bytes[at] = rng.below(256) as u8;
        }
        let len = rng.below(bytes.len() as u32 + 1) as usize;
        let from = SocketAddr::from((rng.bits32().to_be_bytes(), rng.below(65536) as u16));
        let mut packet = [0; PACKET_MAX];
        let dht = world.dht(1);
        dht.datagram(
            now + Duration::from_secs(1),
            from,
            &bytes[..len],
            &mut |_, _| panic!(),
        );
        while dht
            .poll_datagram(now + Duration::from_secs(1), &mut packet)
            .is_some()
        {}
    }
    assert_eq!(world.dht(1).stats().stored, 0);
}
