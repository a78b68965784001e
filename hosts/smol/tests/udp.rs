//! A node announces to UDP trackers on loopback, through the host's sockets.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use everseed::client::announce::{
    AnnounceError, AnnounceFault, find_udp_tracker, parse, udp_fault,
};
use everseed::client::http::{Caller, Limits};
use everseed::net::udp::{Received, Udp};
use everseed::net::way::Way;
use everseed_core::geometry::Geometry;
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant as NodeTime;
use everseed_core::tracker::Family;
use everseed_heap::Heap;
use everseed_node::discovery::udp_tracker::Announced;
use everseed_node::memory::Sizes;
use everseed_node::{Action, Event, Have, Identity, Memory, Node, PACKET_MAX};
use smol::block_on;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(10),
    body: 64 * 1024,
};

/// A tracker's answer.
struct Answer {
    announced: Announced,
    /// The number of peers that it named.
    peers: u16,
    /// The peer that the node called first.
    first: Option<SocketAddr>,
}

/// A node announces a torrent to the tracker at `url`. Its datagrams are moved until the announce has ended.
fn tell(url: &str) -> Result<Answer, AnnounceError> {
    let way = Way::from(&[Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    let parsed = parse(url)?;
    let addrs = block_on(find_udp_tracker(&parsed, Caller::Torrent, &way, &LIMITS))?;
    let mut udp = Udp::default();
    udp.follow(&way, |_| 0);
    let begun = Instant::now();
    let now = || NodeTime::from_secs(1) + begun.elapsed();
    let mut node = node();
    let Some(Action::Announce(job)) = node.poll(now()) else {
        panic!("an announce is due");
    };
    assert!(node.announce_by_udp(now(), job, addrs, parsed.target, 42));
    let mut first = None;
    loop {
        let mut packet = [0; PACKET_MAX];
        while let Some((to, len)) = node.poll_datagram(now(), &mut packet) {
            if udp.send(to, &packet[..len]).is_err() {
                node.event(now(), Event::Unreachable(to));
            }
        }
        for family in [Family::V4, Family::V6] {
            while let Some(received) = udp.receive(family) {
                match received {
                    Received::From(from, packet) => node.datagram(now(), from, packet),
                    Received::Unreachable(addr) => node.event(now(), Event::Unreachable(addr)),
                }
            }
        }
        node.tick(now());
        while let Some(action) = node.poll(now()) {
            match action {
                Action::Connect { addr, .. } => first = first.or(Some(addr)),
                Action::UdpAnnounced { id } => {
                    let outcome = node.udp_outcome(id).unwrap();
                    assert_eq!(outcome.job, job);
                    return match outcome.result {
                        Ok(announced) => Ok(Answer {
                            announced,
                            peers: outcome.peers,
                            first,
                        }),
                        Err(error) => Err(AnnounceError {
                            host: parsed.host.to_owned(),
                            fault: udp_fault(error).unwrap(),
                        }),
                    };
                }
                _ => {}
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it has no end");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A node that announces one torrent.
fn node() -> Node<'static> {
    let sizes = Sizes {
        conns: 2,
        requests: 1,
        registry: 1,
        torrents: 1,
        bits: 8,
        tiers: 1,
        udp_announces: 1,
        dht: 0,
        candidates: 200,
        scratch: 512,
        ..Sizes::NONE
    };
    let identity = Identity {
        peer_id: [0x62; 20],
        port: 6881,
        client: "test",
    };
    let limits = everseed_node::Limits {
        slots: None,
        most_slots: 1,
        peers: 2,
        upload_bps: None,
        download_bps: None,
    };
    let mut node = Node::new(Memory::lend(&sizes, &mut Heap), identity, limits, 7);
    let geometry = Geometry::new(1000, 16 * 1024).unwrap();
    let id = node
        .add(InfoHash([0x61; 20]), geometry, Have::All, 0)
        .unwrap();
    node.announce(NodeTime::from_secs(1), id, 0, 1).unwrap();
    node
}

/// A tracker that answers each UDP packet with `answer` of it.
fn udp_tracker(
    bind: &str,
    mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind(bind).unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            if let Some(answer) = answer(&packet[..len]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    addr
}

/// The answer of a good tracker: it accepts connect requests, and answers announces with `peers`.
fn well_behaved(packet: &[u8], peers: &[u8]) -> Option<Vec<u8>> {
    match packet[11] {
        0 => Some([&packet[8..16], &[5; 8]].concat()),
        _ => {
            assert_eq!((packet[..8].to_vec(), packet[16]), (vec![5; 8], 0x61));
            assert_eq!(packet[98..], *b"\x02\x09/announce");
            let numbers = [0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2];
            Some([&packet[8..16], &numbers, peers].concat())
        }
    }
}

#[test]
fn udp_over_each_family() {
    let table: [(&str, &[u8], &str); 2] = [
        ("127.0.0.1:0", &[192, 0, 2, 1, 0x1a, 0xe1], "192.0.2.1:6881"),
        (
            "[::1]:0",
            &[
                0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80,
            ],
            "[2001:db8::1]:80",
        ),
    ];
    for (bind, peers, expected) in table {
        let addr = udp_tracker(bind, move |packet| well_behaved(packet, peers));
        let answer = tell(&format!("udp://{addr}/announce")).unwrap();
        assert_eq!(
            (answer.peers, answer.first),
            (1, Some(expected.parse().unwrap()))
        );
        let Announced {
            intervals,
            seeders,
            leechers,
        } = answer.announced;
        assert_eq!((seeders, leechers), (2, 1));
        assert_eq!(intervals.interval_s(), 1800);
    }
}

/// The connect request and the announce are sent once each.
#[test]
fn each_request_is_sent_once() {
    let (sent, seen) = mpsc::channel();
    let addr = udp_tracker("127.0.0.1:0", move |packet| {
        let _ = sent.send(packet[11]);
        well_behaved(packet, &[])
    });
    tell(&format!("udp://{addr}/announce")).unwrap();
    let seen: Vec<u8> = seen.try_iter().collect();
    assert_eq!(seen, [0, 1], "a connect and an announce");
}

#[test]
fn udp_failures_are_told() {
    for (words, said) in [
        (&b"go away"[..], "127.0.0.1: the tracker says: go away"),
        (b"Go away.\0", "127.0.0.1: the tracker says: Go away."),
        (b"", "127.0.0.1: the tracker refuses, and does not say why"),
        (
            b"\r\n\0",
            "127.0.0.1: the tracker refuses, and does not say why",
        ),
    ] {
        let addr = udp_tracker("127.0.0.1:0", move |packet| match packet[11] {
            0 => well_behaved(packet, &[]),
            _ => Some([&[0, 0, 0, 3], &packet[12..16], words].concat()),
        });
        let error = tell(&format!("udp://{addr}/announce")).err().unwrap();
        assert_eq!(error.to_string(), said);
    }

    // A closed port is noticed at once, not after a timeout of two minutes.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let begun = Instant::now();
    let error = tell(&format!("udp://{addr}/announce")).err().unwrap();
    assert!(matches!(error.fault, AnnounceFault::Unreachable), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// A local address that a torrent names is called only if its path is that of a tracker.
#[test]
fn udp_reaches_no_other_service() {
    let addr = udp_tracker("127.0.0.1:0", |_| panic!("nobody may call here"));
    for path in ["", "/", "/x.cgi"] {
        let error = tell(&format!("udp://{addr}{path}"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("inside this network"), "{error}");
    }
}

/// A tracker may answer from another of its addresses, and with packets of more than 8 KiB.
#[test]
fn udp_answers_from_elsewhere_and_long_ones() {
    for other in ["127.0.0.1", "127.0.0.2"] {
        let asked = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = asked.local_addr().unwrap();
        let answering = match other {
            "127.0.0.1" => asked.try_clone().unwrap(),
            other => UdpSocket::bind((other, addr.port())).unwrap(),
        };
        thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((_, from)) = asked.recv_from(&mut packet) {
                let mut answer = packet[8..16].to_vec();
                match answer[3] {
                    0 => answer.extend([9; 8]),
                    _ => {
                        answer.extend([0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 1]);
                        (1..1500_u16).for_each(|port| {
                            answer.extend([127, 0, 0, 1]);
                            answer.extend(port.to_be_bytes());
                        });
                        assert!(answer.len() > 8192);
                    }
                }
                answering.send_to(&answer, from).unwrap();
            }
        });
        let answer = tell(&format!("udp://{addr}/announce")).unwrap();
        assert_eq!(answer.peers, 200);
        assert_eq!(answer.first, Some("127.0.0.1:1".parse().unwrap()));
    }
}

#[test]
fn urls_that_cannot_be() {
    let long = format!("udp://127.0.0.1:1/{}", "a".repeat(510));
    for (url, part) in [
        (&*long, "too long"),
        ("udp://me:pw@t.example:1/announce", "takes no user name"),
        ("udp://t.example:0/announce", "strange port"),
    ] {
        let error = tell(url).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// A closed port is reported as unreachable.
#[test]
fn udp_to_nobody() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let error = tell(&format!("udp://{addr}/announce")).err().unwrap();
    assert!(matches!(error.fault, AnnounceFault::Unreachable), "{error}");
}
