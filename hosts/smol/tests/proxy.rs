//! Trackers are called through proxies. The test's proxies play the tracker too, and only a proxy could resolve the
//! trackers' names.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use everseed::client::announce::{AnnounceFault, Answer, announce, find_udp_tracker, parse};
use everseed::client::http::{Caller, HttpError, HttpFault, Limits, Response, get};
use everseed::net::proxy::{Proxy, ProxyFault};
use everseed::net::udp::Udp;
use everseed::net::way::Way;
use everseed_core::hash::InfoHash;
use everseed_core::rng::Rng;
use everseed_core::tracker::{AnnounceEvent, Report};
use smol::block_on;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(30),
    total: Duration::from_secs(60),
    body: 64 * 1024,
};

const REPORT: Report = Report {
    port_v6: 0,
    info_hash: InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"),
    peer_id: *b"-EV0100-bbbbbbbbbbbb",
    port: 6881,
    uploaded: 0,
    downloaded: 0,
    left: 0,
    key: 7,
    num_want: 50,
    event: AnnounceEvent::Started,
};

/// A tracker's answer with a local peer and one outside.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\n\r\nd8:intervali900e5:peers12:\x7f\0\0\x01\0\x09\xc0\0\x02\x01\x1a\xe1e";

/// A server that calls `talk` for each connection, until the test process ends.
fn serve(talk: impl Fn(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        listener
            .incoming()
            .for_each(|stream| talk(&mut stream.unwrap()));
    });
    addr
}

fn through(scheme: &str, login: &str, proxy: SocketAddr) -> Way {
    let text = format!("{scheme}://{login}{proxy}");
    Way::default().through(Proxy::parse(&text).map(Arc::new))
}

fn tell(url: &str, way: &Way) -> Result<Answer, AnnounceFault> {
    let told = announce(url, Caller::Torrent, &REPORT, &[], way, &LIMITS);
    block_on(told).map_err(|error| error.fault)
}

fn fetch(url: &str, way: &Way) -> Result<Response, HttpError> {
    block_on(get(url, Caller::Owner, way, &LIMITS))
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn read<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The proxy's side of SOCKS, for the tracker's name at port 80. It sends its answers byte by byte; `from` is the
/// address in the last one.
fn socks(stream: &mut TcpStream, login: Option<&[u8]>, from: &[u8]) {
    let mut out = stream.try_clone().unwrap();
    let mut say = |bytes: &[u8]| bytes.iter().for_each(|b| out.write_all(&[*b]).unwrap());
    match login {
        None => {
            assert_eq!(read(stream), [5, 1, 0]);
            say(&[5, 0]);
        }
        Some(login) => {
            assert_eq!(read(stream), [5, 2, 0, 2]);
            say(&[5, 2]);
            let mut said = vec![0; login.len()];
            stream.read_exact(&mut said).unwrap();
            assert_eq!(said, login);
            say(&[1, 0]);
        }
    }
    assert_eq!(read(stream), *b"\x05\x01\0\x03\x0ft.example.valid\0\x50");
    say(&[&[5, 0, 0], from, &[0, 80]].concat());
}

#[test]
fn socks_resolves_names() {
    for (login, from) in [("", &[1, 0, 0, 0, 0][..]), ("me:p%40ss@", b"\x03\x03abc")] {
        let expected = (!login.is_empty()).then_some(&b"\x01\x02me\x04p@ss"[..]);
        let addr = serve(move |stream| {
            socks(stream, expected, from);
            let head = head(stream);
            assert!(head.starts_with("GET /announce?info_hash="), "{head}");
            assert!(head.contains("\r\nHost: t.example.valid\r\n"), "{head}");
            assert!(!head.contains("Proxy"), "{head}");
            stream.write_all(ANSWER).unwrap();
        });
        let way = through("socks5", login, addr);
        let answer = tell("http://t.example.valid/announce", &way).unwrap();
        // The local peer is left out: the proxy is local, but the tracker behind it is not.
        assert_eq!(answer.peers, ["192.0.2.1:6881".parse().unwrap()]);
    }
}

#[test]
fn an_http_proxy_passes_requests_on() {
    let addr = serve(|stream| {
        let head = head(stream);
        let line = "GET http://t.example.valid:81/announce?info_hash=";
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains("\r\nHost: t.example.valid:81\r\n"), "{head}");
        assert!(
            head.contains("\r\nProxy-Authorization: Basic bWU6cHc=\r\n"),
            "{head}"
        );
        stream.write_all(ANSWER).unwrap();
    });
    let way = through("http", "me:pw@", addr);
    assert!(tell("http://t.example.valid:81/announce", &way).is_ok());
}

/// HTTPS goes through the proxy by CONNECT. The error about TLS shows that the connection was made.
#[test]
fn an_http_proxy_connects() {
    let heard = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&heard);
    let addr = serve(move |stream| {
        *log.lock().unwrap() = head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\nX: y\r\n\r\nno TLS");
    });
    let error = fetch("https://t.example.valid/x", &through("http", "", addr)).unwrap_err();
    assert!(matches!(error.fault, HttpFault::Tls(_)), "{error}");
    let head = heard.lock().unwrap();
    let expected = "CONNECT t.example.valid:443 HTTP/1.1\r\nHost: t.example.valid:443\r\n\r\n";
    assert_eq!(*head, expected);
}

/// A test of a fault.
type Is = fn(&ProxyFault) -> bool;

#[test]
fn proxies_that_do_not() {
    use ProxyFault::{Login, Nonsense, Refused, Status};
    let table: [(&str, &str, &[u8], Is); 14] = [
        ("socks5", "http", &[5, 0xff], |f| matches!(f, Login)),
        ("socks5", "http", &[5, 2], |f| matches!(f, Login)),
        ("socks5", "http", &[5, 2, 1, 1], |f| matches!(f, Login)),
        ("socks5", "http", b"", |f| matches!(f, Nonsense)),
        ("socks5", "http", b"HTTP/1.1 400 Bad\r\n\r\n", |f| {
            matches!(f, Nonsense)
        }),
        ("socks5", "http", &[5, 0, 5, 2, 0, 1], |f| {
            matches!(f, Refused("its rules do not allow that"))
        }),
        ("socks5", "http", &[5, 0, 5, 99, 0, 1], |f| {
            matches!(f, Refused("it failed"))
        }),
        ("socks5", "http", &[5, 0, 5, 0, 0, 9], |f| {
            matches!(f, Nonsense)
        }),
        ("socks5", "http", &[5, 0, 5, 0, 0, 3, 255, 1], |f| {
            matches!(f, Nonsense)
        }),
        ("http", "https", b"HTTP/1.1 407 Who?\r\n\r\n", |f| {
            matches!(f, Login)
        }),
        ("http", "http", b"HTTP/1.1 407 Who?\r\n\r\n", |f| {
            matches!(f, Login)
        }),
        ("http", "https", b"HTTP/1.0 403 No\n\n", |f| {
            matches!(f, Status(403))
        }),
        ("http", "https", b"\x05\0", |f| matches!(f, Nonsense)),
        ("http", "https", &[b'x'; 9000], |f| matches!(f, Nonsense)),
    ];
    for (number, (kind, scheme, answer, is)) in table.into_iter().enumerate() {
        let login = if number == 2 { "me:secret@" } else { "" };
        let addr = serve(move |stream| {
            let _ = stream.write_all(answer);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(stream, &mut std::io::sink());
        });
        let url = format!("{scheme}://t.example.valid/announce");
        let error = fetch(&url, &through(kind, login, addr)).unwrap_err();
        match &error.fault {
            HttpFault::Proxy(at, fault) => {
                assert!(is(fault) && *at == addr.to_string(), "{number}: {error}");
            }
            _ => panic!("{number}: {error}"),
        }
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = fetch("http://t.example.valid/", &through("socks5", "", gone)).unwrap_err();
    let fault = HttpFault::Proxy(gone.to_string(), ProxyFault::NoAddress);
    assert_eq!(
        std::mem::discriminant(&error.fault),
        std::mem::discriminant(&fault)
    );
    assert!(
        error.to_string().contains("cannot connect to it"),
        "{error}"
    );
}

/// A request through a proxy that answers nonsense fails, and does not hang.
#[test]
fn proxies_that_talk_nonsense() {
    let answers = Mutex::new(Rng::new(5));
    let addr = serve(move |stream| {
        let mut rng = answers.lock().unwrap();
        let mut bytes = vec![5, 0, 5, 0, 0];
        bytes.truncate(rng.below(6) as usize);
        bytes.extend((0..rng.below(40)).map(|_| rng.bits32().to_le_bytes()[0]));
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    for round in 0..300 {
        let kind = if round % 2 == 0 { "socks5" } else { "http" };
        let url = if round % 3 == 0 { "https" } else { "http" };
        let way = through(kind, "a:b@", addr);
        assert!(fetch(&format!("{url}://t.example.valid/"), &way).is_err());
    }
}

/// With a proxy UDP trackers get no packet, and pages in the local network are not called through the proxy either.
#[test]
fn what_goes_through_no_proxy() {
    let proxy = serve(|_| panic!("it was called"));
    let way = through("socks5", "", proxy);
    let tracker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}/announce", tracker.local_addr().unwrap());
    let parsed = parse(&url).unwrap();
    let found = block_on(find_udp_tracker(&parsed, Caller::Owner, &way, &LIMITS));
    assert!(matches!(found.unwrap_err().fault, AnnounceFault::Proxied));
    // There is no UDP socket through which a packet could leave.
    let mut udp = Udp::default();
    let ours = Way::from(&[[0, 0, 0, 0].into(), [0; 16].into()]);
    let proxied = ours
        .clone()
        .through(Proxy::parse("socks5://127.0.0.1:1").map(Arc::new));
    assert_eq!(udp.follow(&ours, |_| 0).len(), 2);
    assert_eq!(udp.follow(&proxied, |_| 0), []);
    assert!(udp.send(tracker.local_addr().unwrap(), b"x").is_err());
    tracker.set_nonblocking(true).unwrap();
    assert!(tracker.recv(&mut [0; 100]).is_err());
    for url in [
        "http://router.example.valid/x.cgi",
        "http://192.168.1.1/x.cgi",
    ] {
        let error = tell(url, &way).unwrap_err();
        let inside = AnnounceFault::Http(HttpFault::Inside([127, 0, 0, 1].into()));
        assert_eq!(
            std::mem::discriminant(&error),
            std::mem::discriminant(&inside)
        );
    }
}
