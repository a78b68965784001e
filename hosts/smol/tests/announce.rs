//! Announces to HTTP trackers on loopback, over IPv4 and IPv6.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use everseed::client::announce::{AnnounceError, Answer, announce};
use everseed::client::http::{Caller, Limits};
use everseed::net::way::Way;
use everseed_core::hash::InfoHash;
use everseed_core::tracker::{AnnounceEvent, Report};
use smol::block_on;

const REPORT: Report = Report {
    info_hash: InfoHash([0x61; 20]),
    peer_id: [0x62; 20],
    port: 7001,
    port_v6: 7002,
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
            // Over IPv6 the announce names another port: a router forwards ports only for IPv4.
            let port = if addr.is_ipv4() { 7001 } else { 7002 };
            assert!(head.contains(&format!("&port={port}&")), "{head}");
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    addr
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

/// What a refusal says of the next call, in its own words or in those of HTTP.
#[test]
fn trackers_ask_to_be_left_alone() {
    let table: [(&'static str, &[u8], u64); 5] = [
        ("429 Slow\r\nRetry-After: 120", b"slow down", 120),
        ("503 Busy\r\nRetry-After: 7", b"", 7),
        (
            "429 x\r\nRetry-After: 120",
            b"d14:failure reason4:busye",
            120,
        ),
        (
            "503 x\r\nRetry-After: 7",
            b"d14:failure reason4:busy8:retry ini1ee",
            60,
        ),
        (
            "200 OK",
            b"d14:failure reason4:busy12:min intervali300ee",
            300,
        ),
    ];
    for (status, body, wait_s) in table {
        let addr = http_tracker("127.0.0.1:0", status, body.to_vec());
        let error = tell(&format!("http://{addr}/announce")).unwrap_err();
        assert_eq!(
            error.retry_in(),
            Some(Duration::from_secs(wait_s)),
            "{status}"
        );
    }
}

/// Of an answer with very many peers, or one that was cut off, those that came are used.
#[test]
fn answers_that_are_too_long_or_cut() {
    let many: Vec<u8> = (0..30_000_u32)
        .flat_map(|n| [&(0x0b00_0000 + n).to_be_bytes()[..], &[0, 7]].concat())
        .collect();
    let head = format!("d8:intervali900e5:peers{}:", many.len()).into_bytes();
    let peers = [&head, &many[..]].concat();
    for (body, least) in [
        ([&peers[..], b"e"].concat(), 200),
        (peers[..100].to_vec(), 11),
    ] {
        let addr = http_tracker("127.0.0.1:0", "200 OK", body);
        let answer = tell(&format!("http://{addr}/announce")).unwrap();
        assert_eq!(answer.intervals.interval_s(), 900);
        assert_eq!(answer.peers.len(), least);
    }
}

#[test]
fn urls_that_cannot_be() {
    for (url, part) in [
        ("wss://t.example/announce", "begins with neither"),
        ("udp://me:pw@t.example:1/announce", "takes no user name"),
        ("udp://t.example:0/announce", "strange port"),
    ] {
        let error = tell(url).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Good answers of real trackers that break the rules of HTTP or bencode in some way.
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

/// Peers with names instead of addresses are looked up, at most 16 of an answer.
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
