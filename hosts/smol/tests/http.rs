//! The HTTP client calls servers that answer well, badly or never.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use everseed::client::http::{Caller, HttpError, HttpFault, Limits, Response, get, get_to};
use everseed::net::way::Way;
use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};
use smol::block_on;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(10),
    body: 1000,
};

/// A server that answers each request with `answer` of its head, then closes the connection. It runs until the test
/// process ends.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    serve_streams(move |mut stream| {
        let head = read_head(&mut stream);
        let _ = stream.write_all(&answer(&head));
    })
}

fn serve_streams(talk: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(|stream| talk(stream.unwrap())));
    addr
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn fetch(addr: SocketAddr, target: &str, limits: &Limits) -> Result<Response, HttpError> {
    block_on(get(
        &format!("http://{addr}{target}"),
        Caller::Owner,
        &Way::default(),
        limits,
    ))
}

#[test]
fn bodies_of_every_framing() {
    let addr = serve(|head| {
        let target = head.split(' ').nth(1).unwrap();
        match target {
            "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellomore".to_vec(),
            "/end" => b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(),
            "/chunked" => {
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
                    .to_vec()
            }
            "/interim" => {
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                    .to_vec()
            }
            "/bare" => b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_vec(),
            _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone".to_vec(),
        }
    });
    for target in ["/length", "/end", "/chunked", "/interim", "/bare"] {
        let response = fetch(addr, target, &LIMITS).unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
    }
    let response = fetch(addr, "/other", &LIMITS).unwrap();
    assert_eq!((response.status, &response.body[..]), (404, &b"gone"[..]));
}

#[test]
fn redirects() {
    let addr = serve(|head| {
        let target = head.split(' ').nth(1).unwrap();
        let to = match target {
            "/a" => "b?x",
            "/b?x" => "//HOST/c",
            "/away" => "magnet:?xt=urn:btih:ab&dn=x",
            "/c" => return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            other => other,
        };
        let host = head.split("Host: ").nth(1).unwrap();
        let host = host.split("\r\n").next().unwrap();
        let to = to.replace("HOST", host);
        // Whatever the number says beside.
        let status = if target == "/a" { 300 } else { 302 };
        format!("HTTP/1.1 {status} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    });
    assert_eq!(fetch(addr, "/a", &LIMITS).unwrap().body, b"ok");
    let away = fetch(addr, "/away", &LIMITS).unwrap_err().to_string();
    assert!(away.contains("magnet:?xt=urn:btih:ab&dn=x"), "{away}");
    let round = fetch(addr, "/round", &LIMITS).unwrap_err();
    assert!(matches!(round.fault, HttpFault::Redirects));
    assert_eq!(round.host, "127.0.0.1");
}

/// One whose reader may do with a part gets that, others get an error.
#[test]
fn too_much_is_cut_off_or_refused() {
    let table: [(&str, &[u8]); 3] = [
        ("/length", b"Content-Length: 1001\r\n\r\n"),
        ("/end", b"\r\n"),
        (
            "/chunked",
            b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ),
    ];
    for (name, tail) in table {
        let mut answer = [b"HTTP/1.1 200 OK\r\n", tail].concat();
        answer.resize(answer.len() + 2000, b'x');
        let addr = serve(move |_| answer.clone());
        let cut = fetch(addr, name, &LIMITS).unwrap();
        assert_eq!(cut.body, [b'x'; 1000], "{name}");
        let url = format!("http://{addr}{name}");
        let (way, mut sink) = (Way::default(), |_: &[u8]| Ok(()));
        let whole = get_to(&url, Caller::Owner, &way, &LIMITS, &mut sink);
        let error = block_on(whole).unwrap_err();
        assert!(matches!(error.fault, HttpFault::TooLong), "{error}");
    }
    // A body of exactly the limit is fine.
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1000, b'x');
    let addr = serve(move |_| answer.clone());
    assert_eq!(fetch(addr, "/", &LIMITS).unwrap().body.len(), 1000);
}

#[test]
fn nonsense_is_told_as_such() {
    let endless: &'static [u8] =
        Vec::leak([b"HTTP/1.1 200 OK\r\n", &b"X: y\r\n".repeat(9000)[..]].concat());
    let table: [&[u8]; 6] = [
        b"",
        b"d8:intervali1800ee",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        endless,
    ];
    for answer in table {
        let addr = serve(move |_| answer.to_vec());
        let error = fetch(addr, "/", &LIMITS).unwrap_err();
        let text = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        // If the client closes the connection while the server sends, that may look like a broken one.
        let expected = matches!(error.fault, HttpFault::NotHttp | HttpFault::Broken(_));
        assert!(expected, "{text:?}: {error}");
    }
}

/// A body with a wrong length or without a last chunk is returned as far as it came. Its reader notices if a part is
/// missing.
#[test]
fn what_came_of_a_body_is_given() {
    let table: [&[u8]; 7] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\nX: y\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3 \r\nllo\r\n0\r\nX-Trailer: y\r\n\r\n",
    ];
    for answer in table {
        let addr = serve(move |_| answer.to_vec());
        let text = String::from_utf8_lossy(answer);
        let response = fetch(addr, "/", &LIMITS).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(response.body, b"hello", "{text}");
    }
}

/// Bodies in gzip and deflate are unpacked, named or not, up to the limit of the unpacked size.
#[test]
fn packed_bodies() {
    let gzip = |data: &[u8]| {
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        [&head, &compress_to_vec(data, 6)[..], &[0; 8]].concat()
    };
    let text = b"d8:intervali1800ee";
    let good: [(&str, Vec<u8>); 12] = [
        ("Content-Encoding: gzip\r\n", gzip(text)),
        ("Content-Encoding: x-gzip\r\n", gzip(text)),
        ("", gzip(text)),
        (
            "Content-Encoding: deflate\r\n",
            compress_to_vec_zlib(text, 6),
        ),
        ("Content-Encoding: deflate\r\n", compress_to_vec(text, 6)),
        // Named otherwise than done, and done twice.
        ("Content-Encoding: deflate\r\n", gzip(text)),
        ("Content-Encoding: gzip\r\n", compress_to_vec_zlib(text, 6)),
        ("Content-Encoding: br\r\n", gzip(text)),
        ("Content-Encoding: gzip, gzip\r\n", gzip(&gzip(text))),
        // The header names an encoding, but the body is plain.
        ("Content-Encoding: gzip\r\n", text.to_vec()),
        ("Content-Encoding: deflate\r\n", text.to_vec()),
        ("Content-Encoding: identity\r\n", text.to_vec()),
    ];
    for (line, body) in good {
        let answer = [b"HTTP/1.1 200 OK\r\n", line.as_bytes(), b"\r\n", &body].concat();
        let addr = serve(move |_| answer.clone());
        let response = fetch(addr, "/", &LIMITS).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(response.body, text, "{line}");
    }
    for len in [LIMITS.body, LIMITS.body + 1, 1000 * LIMITS.body] {
        let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &gzip(&vec![b'x'; len])].concat();
        let addr = serve(move |_| answer.clone());
        assert_eq!(fetch(addr, "/", &LIMITS).unwrap().body.len(), LIMITS.body);
    }
}

/// User name and password are sent only to the host in their URL, and are in no error message.
#[test]
fn passwords_are_sent_and_not_shown() {
    let addr = serve(|head| {
        let told = head.contains("\r\nAuthorization: Basic dXNlcjpwdw==\r\n");
        let target = head.split(' ').nth(1).unwrap();
        match (target, told) {
            ("/a", true) => b"HTTP/1.1 302 Found\r\nLocation: b c\r\n\r\n".to_vec(),
            ("/b%20c", true) => b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(),
            ("/away", true) => {
                b"HTTP/1.1 302 Found\r\nLocation: http://localhost:1/x\r\n\r\n".to_vec()
            }
            _ => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec(),
        }
    });
    let ask = |target: &str| {
        let url = format!("http://user:pw@{addr}{target}");
        block_on(get(&url, Caller::Owner, &Way::default(), &LIMITS))
    };
    assert_eq!(ask("/a").unwrap().body, b"hello");
    assert_eq!(fetch(addr, "/a", &LIMITS).unwrap().status, 401);
    let error = ask("/away").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("pw"), "{error:?}");
}

#[test]
fn a_stalled_server_is_given_up() {
    let limits = Limits {
        total: Duration::from_millis(200),
        ..LIMITS
    };
    for first in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let addr = serve_streams(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(first);
            // The connection stays open until the client closes it.
            let _ = stream.read(&mut [0]);
        });
        let begun = Instant::now();
        let error = fetch(addr, "/", &limits).unwrap_err();
        assert!(matches!(error.fault, HttpFault::Slow), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn who_is_not_there_is_named() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let error = fetch(addr, "/", &LIMITS).unwrap_err();
    assert!(matches!(error.fault, HttpFault::Connect(_)));
    assert!(error.to_string().starts_with("127.0.0.1: cannot connect: "));
    let other_family = block_on(get(
        &format!("http://{addr}/"),
        Caller::Owner,
        &Way::from(&[Ipv6Addr::UNSPECIFIED.into()]),
        &LIMITS,
    ));
    let fault = other_family.unwrap_err().fault;
    assert!(matches!(fault, HttpFault::NoAddress));
}

/// HTTPS to a server without TLS is an error, and so is HTTPS in a build without TLS.
#[test]
fn https_to_a_plain_server_fails() {
    let addr = serve_streams(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = block_on(get(
        &format!("https://{addr}/"),
        Caller::Owner,
        &Way::default(),
        &LIMITS,
    ))
    .unwrap_err();
    assert!(matches!(error.fault, HttpFault::Tls(_)), "{error}");
    let has_tls = cfg!(feature = "tls");
    assert_eq!(
        error.to_string().contains("this build has no TLS"),
        !has_tls
    );
}

/// A torrent's tracker may be in the local network. Other pages there, such as the router's, are never called.
#[test]
fn torrents_reach_no_pages_in_the_house() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let addr = serve(move |head| {
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let answer: &[u8] = match target.as_str() {
            "/x/announce" => b"HTTP/1.1 302 Found\r\nLocation: /apply.cgi?action=Reboot\r\n\r\n",
            "/y/announce" => b"HTTP/1.1 302 Found\r\nLocation: /announce\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        log.lock().unwrap().push(target);
        answer.to_vec()
    });
    let port = addr.port();
    let ask = |caller, host: &str, target: &str| {
        let url = format!("http://{host}:{port}{target}");
        block_on(get(&url, caller, &Way::default(), &LIMITS)).map(|response| response.status)
    };
    let (owner, torrent) = (Caller::Owner, Caller::Torrent);
    for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
        for target in ["/apply.cgi?action=Reboot", "/", "", "/apply.cgi?/announce"] {
            let fault = ask(torrent, host, target).unwrap_err().fault;
            assert!(
                matches!(fault, HttpFault::Inside(_)),
                "{host}{target}: {fault}"
            );
        }
    }
    assert_eq!(*heard.lock().unwrap(), [""; 0]);
    assert_eq!(ask(torrent, "127.0.0.1", "/y/announce").unwrap(), 200);
    assert_eq!(ask(torrent, "127.0.0.1", "?passkey=k").unwrap(), 200);
    assert_eq!(heard.lock().unwrap().last().unwrap(), "/?passkey=k");
    assert_eq!(ask(owner, "127.0.0.1", "/x/announce").unwrap(), 200);
    heard.lock().unwrap().clear();
    let fault = ask(torrent, "127.0.0.1", "/x/announce").unwrap_err().fault;
    assert!(matches!(fault, HttpFault::Inside(_)), "{fault}");
    assert_eq!(*heard.lock().unwrap(), ["/x/announce"]);
}
