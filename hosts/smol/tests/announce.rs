//! Announces to small trackers on loopback, by HTTP and UDP, over IPv4 and IPv6.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use everseed::client::announce::{AnnounceError, AnnounceFault, Answer, announce};
use everseed::client::http::{Caller, Limits};
use everseed::net::way::Way;
use everseed_core::hash::InfoHash;
use everseed_core::tracker::{AnnounceEvent, Report};
use smol::block_on;

const REPORT: Report = Report {
    info_hash: InfoHash([0x61; 20]),
    peer_id: [0x62; 20],
    port: 6881,
    uploaded: 1,
    downloaded: 0,
    left: 0,
    key: 7,
    num_want: 50,
    event: AnnounceEvent::Started,
};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(10),
    body: 64 * 1024,
};

fn tell(url: &str) -> Result<Answer, AnnounceError> {
    let from = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    block_on(announce(
        url,
        Caller::Torrent,
        &REPORT,
        b"an id",
        &Way::from(&from),
        &LIMITS,
        42,
    ))
}

/// A tracker that answers every HTTP request with `body`; it lives as long as the test process.
fn http_tracker(bind: &str, status: &'static str, body: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind(bind).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 2048];
            let len = stream.read(&mut head).unwrap();
            let head = str::from_utf8(&head[..len]).unwrap();
            let query = format!("GET /announce?info_hash={}&peer_id=", "a".repeat(20));
            assert!(head.starts_with(&query) && head.contains("&trackerid=an%20id "));
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    addr
}

/// A tracker that answers each UDP packet with what `answer` makes of it.
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

/// Connects whoever asks, and answers announces with `peers`.
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
fn http_over_each_family() {
    let body = b"d8:intervali900e10:incompletei3e5:peers6:\xc0\0\x02\x01\x1a\xe110:tracker id1:x\
        15:warning message4:slowe";
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let addr = http_tracker(bind, "200 OK", body.to_vec());
        let answer = tell(&format!("http://{addr}/announce")).unwrap();
        assert_eq!(answer.intervals.interval_s(), 900);
        assert_eq!(answer.peers, ["192.0.2.1:6881".parse().unwrap()]);
        assert_eq!((answer.seeders, answer.leechers), (None, Some(3)));
        assert_eq!(answer.tracker_id, b"x");
        assert_eq!(answer.warning.as_deref(), Some("slow"));
    }
}

#[test]
fn http_failures_are_told() {
    let table: [(&'static str, &[u8], &str); 4] = [
        (
            "200 OK",
            b"d14:failure reason7:go awaye",
            "the tracker says: go away",
        ),
        (
            "403 Forbidden",
            b"d14:failure reason7:go awaye",
            "the tracker says: go away",
        ),
        ("503 Busy", b"<html>", "the tracker answered with HTTP 503"),
        ("200 OK", b"<html>", "the answer is not a tracker's"),
    ];
    for (status, body, expected) in table {
        let addr = http_tracker("127.0.0.1:0", status, body.to_vec());
        let error = tell(&format!("http://{addr}/announce")).unwrap_err();
        assert_eq!(error.to_string(), format!("127.0.0.1: {expected}"));
    }
    let body = b"d14:failure reason4:busy8:retry ini10ee".to_vec();
    let addr = http_tracker("127.0.0.1:0", "200 OK", body);
    let error = tell(&format!("http://{addr}/announce")).unwrap_err();
    assert_eq!(error.retry_in(), Some(Duration::from_secs(600)));
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
        assert_eq!(answer.peers, [expected.parse().unwrap()]);
        assert_eq!((answer.seeders, answer.leechers), (Some(2), Some(1)));
        assert_eq!(answer.intervals.interval_s(), 1800);
    }
}

#[test]
fn udp_failures_are_told() {
    let addr = udp_tracker("127.0.0.1:0", |packet| match packet[11] {
        0 => well_behaved(packet, &[]),
        _ => Some([&[0, 0, 0, 3], &packet[12..16], b"go away"].concat()),
    });
    let error = tell(&format!("udp://{addr}/announce")).unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1: the tracker says: go away");

    // Nobody listens: known at once, not after two minutes.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let begun = Instant::now();
    let error = tell(&format!("udp://{addr}/announce")).unwrap_err();
    assert!(matches!(error.fault, AnnounceFault::Udp(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// What torrents name inside the house is called only as a tracker.
#[test]
fn udp_reaches_no_other_service() {
    let addr = udp_tracker("127.0.0.1:0", |_| panic!("nobody may call here"));
    for path in ["", "/", "/x.cgi"] {
        let error = tell(&format!("udp://{addr}{path}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("inside this network"), "{error}");
    }
}

#[test]
fn urls_that_cannot_be() {
    for (url, part) in [
        ("wss://t.example/announce", "begins with neither"),
        ("udp://me:pw@t.example:1/announce", "takes no user name"),
        ("udp://t.example/announce", "no port"),
    ] {
        let error = tell(url).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Six good answers of trackers that are in use.
#[test]
fn answers_that_are_not_to_the_letter() {
    let peer = b"5:peers6:\x7f\0\0\x01\x1a\xe1e";
    let body = |head: &[u8]| [head, peer].concat();
    let plain = || body(b"d8:intervali900e");
    let many = "X: y\r\n".repeat(100);
    let table: [(&str, Vec<u8>); 7] = [
        ("Content-Length: 5000\r\n", plain()),
        ("X-Powered-By : PHP\r\n", plain()),
        (&many, plain()),
        ("X-A: a,\r\n\tb\r\n", plain()),
        ("", body(b"d8:intervali99999999999999999999e")),
        ("", body(b"d8:intervali0900e")),
        ("", body("\u{feff}d8:intervali900e".as_bytes())),
    ];
    for (lines, body) in table {
        let answer = [b"HTTP/1.1 200 OK\r\n", lines.as_bytes(), b"\r\n", &body].concat();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 2048]).unwrap();
                let _ = stream.write_all(&answer);
            }
        });
        let answer = tell(&format!("http://{addr}/announce"));
        let answer = answer.unwrap_or_else(|e| panic!("{lines}: {e}"));
        assert_eq!(answer.peers, ["127.0.0.1:6881".parse().unwrap()], "{lines}");
    }
}

/// Names are looked up, few of them.
#[test]
fn peers_that_have_names() {
    let named = "d2:ip9:localhost4:porti7ee".repeat(100);
    let body = format!("d8:intervali900e5:peersl{named}ee");
    let addr = http_tracker("127.0.0.1:0", "200 OK", body.into_bytes());
    let answer = tell(&format!("http://{addr}/announce")).unwrap();
    let few = answer.peers.len() <= 16;
    let here = |peer: &SocketAddr| peer.ip().is_loopback() && peer.port() == 7;
    assert!(few && !answer.peers.is_empty() && answer.peers.iter().all(here));
}

/// A tracker of several addresses answers from another one than was asked, and one of many peers in long packets.
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
        assert_eq!(answer.peers.len(), 200);
        assert_eq!(answer.peers[199], "127.0.0.1:200".parse().unwrap());
    }
}

/// Who listens nowhere is known at once.
#[test]
fn udp_to_nobody() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let error = tell(&format!("udp://{addr}/announce")).unwrap_err();
    assert!(matches!(error.fault, AnnounceFault::Udp(_)), "{error}");
}
