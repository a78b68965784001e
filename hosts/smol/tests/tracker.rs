//! The built-in tracker over real sockets.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use everseed::client::http::{Caller, Limits, get};
use everseed::net::way::Way;
use everseed::web::tracker::{PeerTable, serve};
use everseed_core::hash::{InfoHash, Sha1 as _, Smol};
use everseed_core::time::Instant;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor, block_on};

const A: InfoHash = InfoHash([0x61; 20]);

/// Runs `client` beside a tracker that also serves one .torrent.
fn with_tracker<F: Future<Output = ()>>(
    bind: &str,
    shared: Option<(InfoHash, PathBuf)>,
    client: impl FnOnce(SocketAddr) -> F,
) {
    let listener = Async::<TcpListener>::bind(bind.parse::<SocketAddr>().unwrap()).unwrap();
    let addr = listener.get_ref().local_addr().unwrap();
    let mut table = PeerTable::new(1, 10, 6881, 1);
    table.add(A).unwrap();
    let table = RefCell::new(table);
    let executor = LocalExecutor::new();
    let tracker = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (table, shared) = (&table, shared.clone());
            let work = async move {
                let file = |hash| {
                    Some(shared.clone()?.1).filter(|_| shared.as_ref().is_some_and(|s| s.0 == hash))
                };
                let now = || Instant::from_secs(1);
                let _ = serve(stream, table, &now, &|_| false, &file).await;
            };
            executor.spawn(work).detach();
        }
    };
    let client = client(addr);
    block_on(executor.run(async { smol::future::or(tracker, client).await }));
}

#[test]
fn announces_are_answered_over_both_families() {
    for (bind, expected) in [
        ("127.0.0.1:0", &b"5:peers6:\x7f\0\0\x01\x1a\xe1e"[..]),
        (
            "[::1]:0",
            b"5:peers0:6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e",
        ),
    ] {
        with_tracker(bind, None, |addr| async move {
            let url = format!(
                "http://{addr}/announce?info_hash={}&port=1&left=1",
                "a".repeat(20)
            );
            let response = get(&url, Caller::Owner, &Way::default(), &Limits::default())
                .await
                .unwrap();
            assert_eq!(response.status, 200);
            assert!(response.body.ends_with(expected), "{:?}", response.body);
        });
    }
}

/// The info-hash and bytes of a torrent with the tracker `announce` and the keys `private` in its `info`.
fn torrent(pieces: usize, announce: &str, private: &str) -> (InfoHash, Vec<u8>) {
    let (length, hashes) = (pieces * 16384, 20 * pieces);
    let mut info =
        format!("d6:lengthi{length}e4:name1:x12:piece lengthi16384e6:pieces{hashes}:").into_bytes();
    info.extend((0..=250_u8).cycle().take(hashes));
    info.extend(private.as_bytes());
    info.push(b'e');
    let mut sha1 = Smol::default();
    sha1.update(&info);
    let head = format!("d8:announce{}:{announce}4:info", announce.len());
    let torrent = [head.as_bytes(), &info, b"e"].concat();
    (InfoHash(sha1.finish()), torrent)
}

#[test]
fn a_big_torrent_file_arrives_whole() {
    let (hash, bytes) = torrent(50_000, "http://t.example/announce", "");
    let path = std::env::temp_dir().join(format!("everseed-test-{}.torrent", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let limits = Limits {
        body: 2 << 20,
        ..Limits::default()
    };
    let ask = |hash: InfoHash| {
        let (path, status) = (path.clone(), std::cell::Cell::new((0, Vec::new())));
        with_tracker("127.0.0.1:0", Some((hash, path)), |addr| {
            let status = &status;
            async move {
                let url = format!("http://{addr}/{hash}.torrent");
                let answer = get(&url, Caller::Owner, &Way::default(), &limits)
                    .await
                    .unwrap();
                status.set((answer.status, answer.body));
            }
        });
        status.take()
    };
    assert!(ask(hash) == (200, bytes));
    assert_eq!(
        ask(InfoHash([5; 20])).0,
        404,
        "another torrent is there now"
    );
    let passkey = "http://t.example/0123456789abcdef0123456789abcdef/announce";
    for (announce, private) in [
        ("http://t.example/announce", "7:privatei1e"),
        ("http://t.example/announce?passkey=x", ""),
        (passkey, ""),
    ] {
        let (hash, bytes) = torrent(1, announce, private);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(ask(hash).0, 404, "{announce} {private}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ask(hash).0, 404);
    // Opening this pipe would block for ever, because no program writes into it.
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(ask(hash).0, 404);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn split_and_overlong_heads() {
    with_tracker("127.0.0.1:0", None, |addr| async move {
        let mut stream = Async::<TcpStream>::connect(addr).await.unwrap();
        for byte in b"GET / HTTP/1.1\r\n\r\n" {
            stream.write_all(&[*byte]).await.unwrap();
            smol::Timer::after(Duration::from_millis(1)).await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));

        let mut stream = Async::<TcpStream>::connect(addr).await.unwrap();
        stream.write_all(&[b'x'; 20_000]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
    });
}
