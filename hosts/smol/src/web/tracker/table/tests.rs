use super::*;
use everseed_core::tracker::CompactPeers;
use std::collections::HashSet;

const A: InfoHash = InfoHash([1; 20]);
const B: InfoHash = InfoHash([2; 20]);

fn table(max_peers: usize) -> PeerTable {
    let mut table = PeerTable::new(2, max_peers, 6881, 1);
    table.add(A).unwrap();
    table.add(B).unwrap();
    table
}

fn leecher(addr: &str) -> Announce {
    Announce {
        info_hash: A,
        addr: addr.parse().unwrap(),
        complete: false,
        num_want: 50,
        event: AnnounceEvent::None,
    }
}

fn told(chosen: &Chosen) -> Vec<String> {
    let v4 = CompactPeers::new(&chosen.v4, Family::V4);
    let v6 = CompactPeers::new(&chosen.v6, Family::V6);
    v4.chain(v6).map(|addr| addr.to_string()).collect()
}

/// Announces at `s` seconds; the numbers and the peers told.
fn tell(table: &mut PeerTable, s: u64, announce: &Announce) -> (Scrape, Vec<String>) {
    let local = match announce.addr {
        SocketAddr::V4(_) => "[::ffff:203.0.113.1]:80",
        SocketAddr::V6(_) => "[2001:db8::1]:80",
    };
    let now = Instant::from_secs(s);
    let (numbers, chosen) = table
        .announce(now, announce, local.parse().unwrap())
        .unwrap();
    (numbers, told(&chosen))
}

#[test]
fn the_seeder_is_in_the_answer_and_then_the_others() {
    let mut table = table(10);
    let (numbers, peers) = tell(&mut table, 0, &leecher("192.0.2.1:1"));
    assert_eq!(peers, ["203.0.113.1:6881"]);
    assert_eq!((numbers.complete, numbers.incomplete), (1, 1));
    let (_, peers) = tell(&mut table, 1, &leecher("[2001:db8::9]:2"));
    assert_eq!(peers, ["192.0.2.1:1", "[2001:db8::1]:6881"]);
    let seed = Announce {
        complete: true,
        ..leecher("192.0.2.3:3")
    };
    let (numbers, peers) = tell(&mut table, 2, &seed);
    assert_eq!(peers, ["192.0.2.1:1", "[2001:db8::9]:2"]);
    assert_eq!((numbers.complete, numbers.incomplete), (2, 2));
    let other_seed = Announce {
        addr: "192.0.2.4:4".parse().unwrap(),
        ..seed
    };
    let (_, peers) = tell(&mut table, 2, &other_seed);
    assert_eq!(peers, ["192.0.2.1:1", "[2001:db8::9]:2"]);
    // Nobody is told of itself, or twice.
    let (_, peers) = tell(&mut table, 3, &leecher("192.0.2.1:1"));
    assert_eq!(peers.len(), 4);
    assert!(!peers.contains(&"192.0.2.1:1".to_owned()));
    let elsewhere = Announce {
        info_hash: B,
        ..leecher("192.0.2.9:9")
    };
    assert_eq!(tell(&mut table, 3, &elsewhere).1, ["203.0.113.1:6881"]);
}

/// Our address in our network means nothing outside; the public one does everywhere.
#[test]
fn strangers_are_told_the_public_address() {
    let mut table = table(10);
    let home = "[::ffff:192.168.1.2]:80";
    let told_to = |table: &mut PeerTable, asker: &str, local: &str| {
        let (_, chosen) = table
            .announce(Instant::ZERO, &leecher(asker), local.parse().unwrap())
            .unwrap();
        let mut told = told(&chosen);
        // Others who asked.
        told.retain(|addr| addr.ends_with(":6881") || addr.ends_with(":7"));
        told
    };
    let (near, far) = ("192.168.1.9:1", "198.51.100.9:1");
    assert_eq!(told_to(&mut table, near, home), ["192.168.1.2:6881"]);
    assert!(told_to(&mut table, far, home).is_empty());
    assert!(told_to(&mut table, "[2001:db8::9]:1", "[fd00::1]:80").is_empty());
    let public = ["203.0.113.5:7", "203.0.113.6:7", "[2001:db8::5]:7"];
    table.set_public(&public.map(|addr| addr.parse().unwrap()));
    let outside = ["203.0.113.5:7", "[2001:db8::5]:7"];
    assert_eq!(told_to(&mut table, far, home), outside);
    let both = ["192.168.1.2:6881", outside[0], outside[1]];
    assert_eq!(told_to(&mut table, near, home), both);
    // Who stands outside itself is not told twice.
    table.port = 7;
    assert_eq!(told_to(&mut table, far, "203.0.113.5:7"), outside);
}

#[test]
fn leaving_silence_and_completion() {
    let mut table = table(10);
    let peer = leecher("192.0.2.1:1");
    let with = |event, complete| Announce {
        event,
        complete,
        ..peer
    };
    tell(&mut table, 0, &peer);
    let completed = with(AnnounceEvent::Completed, true);
    let (numbers, _) = tell(&mut table, 1, &completed);
    assert_eq!((numbers.downloaded, numbers.complete), (1, 2));
    let (numbers, _) = tell(&mut table, 2, &completed);
    assert_eq!(numbers.downloaded, 1, "it was complete already");
    let (numbers, peers) = tell(&mut table, 3, &with(AnnounceEvent::Stopped, true));
    assert_eq!((numbers.complete, peers.len()), (1, 0));
    assert_eq!(table.peers(), 0);
    tell(&mut table, 10, &peer);
    tell(&mut table, 10 + 240, &leecher("192.0.2.2:2"));
    assert_eq!(table.peers(), 2);
    tell(&mut table, 10 + 241, &leecher("192.0.2.2:2"));
    assert_eq!(table.peers(), 1);
}

#[test]
fn a_full_table_loses_the_most_silent() {
    let mut table = table(3);
    for (s, addr) in ["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3"]
        .iter()
        .enumerate()
    {
        tell(&mut table, s as u64, &leecher(addr));
    }
    tell(&mut table, 5, &leecher("192.0.2.1:1"));
    let (_, peers) = tell(&mut table, 6, &leecher("192.0.2.4:4"));
    assert_eq!(peers.len(), 4, "those that were there when it asked");
    let (_, peers) = tell(&mut table, 7, &leecher("192.0.2.4:4"));
    let peers: HashSet<_> = peers.iter().map(String::as_str).collect();
    assert_eq!(
        peers,
        HashSet::from(["203.0.113.1:6881", "192.0.2.1:1", "192.0.2.3:3"])
    );
    assert_eq!((table.peers(), table.peers.capacity()), (3, 3));
    let mut none = PeerTable::new(1, 0, 1, 1);
    none.add(A).unwrap();
    tell(&mut none, 0, &leecher("192.0.2.1:1"));
    assert_eq!(none.peers(), 0);
}

#[test]
fn one_origin_cannot_fill_the_table() {
    for host in ["192.0.2.1", "[2001:db8::9]"] {
        let mut table = table(1000);
        tell(&mut table, 0, &leecher("198.51.100.1:1"));
        for port in 1..=500 {
            let addr = format!("{host}:{port}");
            tell(&mut table, 1, &leecher(&addr));
        }
        assert_eq!(table.peers(), 1 + MAX_PER_ORIGIN);
    }
    let mut table = table(1000);
    for n in 1..=500 {
        let addr = format!("[2001:db8:0:0:{n}::1]:1");
        tell(&mut table, 1, &leecher(&addr));
    }
    assert_eq!(table.peers(), MAX_PER_ORIGIN, "one /64 is one origin");
}

#[test]
fn big_swarms_are_told_in_parts_that_differ() {
    let mut table = table(2000);
    for n in 0..1000 {
        let addr = format!("10.0.{}.{}:1", n / 250, n % 250);
        tell(&mut table, 1, &leecher(&addr));
    }
    let mut seen = HashSet::new();
    let asker = leecher("10.9.9.9:1");
    for _ in 0..200 {
        let (_, peers) = tell(&mut table, 2, &asker);
        assert_eq!(peers.len(), 50);
        assert_eq!(peers.iter().collect::<HashSet<_>>().len(), 50);
        assert_eq!(peers[0], "203.0.113.1:6881");
        seen.extend(peers);
    }
    assert!(seen.len() > 900, "{}", seen.len());
    let greedy = Announce {
        num_want: usize::MAX,
        ..asker
    };
    assert_eq!(tell(&mut table, 2, &greedy).1.len(), MAX_PEERS_TOLD);
    let modest = Announce {
        num_want: 0,
        ..asker
    };
    assert_eq!(tell(&mut table, 2, &modest).1.len(), 0);
}

#[test]
fn who_announces_is_called_once_for_each_time() {
    let mut table = table(10);
    let calls = |table: &mut PeerTable, s, answer| {
        let mut calls = Vec::new();
        table.call(Instant::from_secs(s), |info_hash, addr, complete| {
            assert_eq!(info_hash, A);
            calls.push((addr.port(), complete));
            answer
        });
        calls
    };
    assert!(!table.has_uncalled());
    tell(&mut table, 10, &leecher("192.0.2.1:1"));
    let seed = Announce {
        complete: true,
        ..leecher("192.0.2.2:2")
    };
    tell(&mut table, 11, &seed);
    assert_eq!(calls(&mut table, 11, true), [], "it may call us");
    assert_eq!(calls(&mut table, 12, true), [(1, false)]);
    assert_eq!(calls(&mut table, 13, false), [(2, true)], "not yet");
    assert_eq!(calls(&mut table, 14, true), [(2, true)]);
    assert_eq!(calls(&mut table, 20, true), []);
    assert!(!table.has_uncalled());
    tell(&mut table, 20, &leecher("192.0.2.1:1"));
    assert!(table.has_uncalled());
    assert_eq!(calls(&mut table, 22, true), [(1, false)]);
    // Who leaves is not called.
    tell(&mut table, 30, &leecher("192.0.2.3:3"));
    let stopped = Announce {
        event: AnnounceEvent::Stopped,
        ..leecher("192.0.2.3:3")
    };
    tell(&mut table, 31, &stopped);
    assert_eq!(calls(&mut table, 40, true), []);
}

#[test]
fn addresses_are_told_as_far_as_they_reach() {
    let mut table = table(10);
    tell(&mut table, 0, &leecher("127.0.0.1:1"));
    tell(&mut table, 0, &leecher("192.168.1.7:1"));
    assert_eq!(tell(&mut table, 0, &leecher("127.0.0.1:2")).1.len(), 3);
    assert_eq!(tell(&mut table, 0, &leecher("192.168.1.8:1")).1.len(), 2);
    assert_eq!(tell(&mut table, 0, &leecher("192.0.2.1:1")).1.len(), 1);
}

#[test]
fn only_its_own_torrents() {
    let mut table = table(10);
    let foreign = Announce {
        info_hash: InfoHash([3; 20]),
        ..leecher("192.0.2.1:1")
    };
    let local = "203.0.113.1:80".parse().unwrap();
    assert_eq!(table.announce(Instant::ZERO, &foreign, local), None);
    assert_eq!(table.scrape(foreign.info_hash), None);
    tell(&mut table, 0, &leecher("192.0.2.1:1"));
    let other = Announce {
        info_hash: B,
        ..leecher("192.0.2.1:1")
    };
    tell(&mut table, 0, &other);
    assert_eq!(table.add(foreign.info_hash), Err(Full));
    assert_eq!(table.add(A), Ok(()));
    table.remove(B);
    table.remove(A);
    assert_eq!((table.peers(), table.scrape(A)), (0, None));
    assert_eq!(table.add(foreign.info_hash), Ok(()));
    let later = Instant::ZERO + Duration::from_secs(1);
    assert!(table.announce(later, &foreign, local).is_some());
    // Who has no peers makes room.
    assert_eq!(table.add(A), Ok(()));
    assert_eq!(table.add(B), Ok(()));
    assert_eq!(
        (table.find(A), table.find(foreign.info_hash)),
        (None, Some(0))
    );
}
