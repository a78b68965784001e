//! The built-in tracker over real sockets.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use everseed::http::{Limits, get};
use everseed::tracker::{Table, serve};
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor, block_on};

const A: InfoHash = InfoHash([0x61; 20]);

/// Runs `client` beside a tracker that finds the torrent file of `A` at `path`.
fn with_tracker<F: Future<Output = ()>>(
    bind: &str,
    path: Option<PathBuf>,
    client: impl FnOnce(SocketAddr) -> F,
) {
    let listener = Async::<TcpListener>::bind(bind.parse::<SocketAddr>().unwrap()).unwrap();
    let addr = listener.get_ref().local_addr().unwrap();
    let mut table = Table::new(1, 10, 6881, 1);
    table.add(A).unwrap();
    let table = RefCell::new(table);
    let executor = LocalExecutor::new();
    let tracker = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (table, path) = (&table, path.clone());
            let work = async move {
                let file = |info_hash| path.clone().filter(|_| info_hash == A);
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
            let response = get(&url, None, &Limits::default()).await.unwrap();
            assert_eq!(response.status, 200);
            assert!(response.body.ends_with(expected), "{:?}", response.body);
        });
    }
}

#[test]
fn a_big_torrent_file_arrives_whole() {
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let path = std::env::temp_dir().join(format!("everseed-test-{}.torrent", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let limits = Limits {
        body: 1 << 20,
        ..Limits::default()
    };
    with_tracker("127.0.0.1:0", Some(path.clone()), |addr| async move {
        let url = format!("http://{addr}/{A}.torrent");
        let response = get(&url, None, &limits).await.unwrap();
        assert!(response.status == 200 && response.body == bytes);
    });
    std::fs::remove_file(&path).unwrap();
    with_tracker("127.0.0.1:0", None, |addr| async move {
        let url = format!("http://{addr}/{A}.torrent");
        let response = get(&url, None, &limits).await.unwrap();
        assert_eq!(response.status, 404);
    });
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
