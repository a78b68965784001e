//! A .torrent cannot take too much memory: a server sends an endless one, and another one names 300,000 trackers.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Setup, make};
use everseed_tests::usage::{anonymous, settled, tcp_memory};
use everseed_tests::{PATIENCE, wait};

#[test]
fn a_torrent_without_an_end() {
    let many = "x".repeat(0x10000);
    let chunk = format!("10000\r\n{many}\r\n");
    let table = [
        ("", &many),
        ("Transfer-Encoding: chunked\r\n", &chunk),
        ("Content-Length: 67000000000\r\n", &many),
    ];
    for (header, part) in table {
        let net = Net::new();
        let server = endless(net.addr(Family::V4), header, part.clone());
        let url = format!("http://{server}/x.torrent");
        let addr = net.addr(Family::V4);
        let mut getter = Getter::start(Path::new(&url), addr, Dir::new("get"), &[]);
        let pid = getter.process.pid();
        let (ended, most) = (AtomicBool::new(false), anonymous(pid));
        let most = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = most;
                while !ended.load(Ordering::Relaxed) {
                    most = most.max(anonymous(pid) + tcp_memory(addr.ip()));
                    thread::sleep(Duration::from_millis(5));
                }
                most
            });
            wait("the end", PATIENCE, || getter.process.ended());
            ended.store(true, Ordering::Relaxed);
            watch.join().unwrap()
        });
        let said = getter.process.output();
        let (code, dir) = getter.end();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&url) && said.contains("64.0 MiB"), "{said}");
        assert!(most <= 4 << 20, "{most} bytes for {header:?}");
        let kept = |name: &str| name.ends_with(".torrent") || name.ends_with(".part");
        for file in fs::read_dir(dir.join("state")).unwrap() {
            let name = file.unwrap().file_name();
            assert!(!kept(&name.to_string_lossy()), "{name:?} is left");
        }
    }
}

/// A server that sends `header`, then `part` again and again without an end.
fn endless(addr: SocketAddr, header: &'static str, part: String) -> SocketAddr {
    let listener = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n");
            while stream.write_all(part.as_bytes()).is_ok() {}
        }
    });
    addr
}

#[test]
fn a_torrent_of_very_many_trackers() {
    const TRACKERS: usize = 300_000;
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("trackers.bin", 1 << 20, 80);
    let torrent = dir.join("x.torrent");
    make(
        content.path(),
        &torrent,
        &["-t", "http://10.0.0.200:1/announce"],
    );
    let bytes = fs::read(&torrent).unwrap();
    // All trackers refuse the connection.
    let tier = |n: usize| {
        let url = format!("http://10.0.0.200:{}/announce", 1 + n % 60_000);
        format!("l{}:{url}e", url.len())
    };
    let tiers: String = (0..TRACKERS).map(tier).collect();
    let list = format!("d13:announce-listl{tiers}e");
    fs::write(&torrent, [list.as_bytes(), &bytes[1..]].concat()).unwrap();
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let mut seeder = setup.start(&dir);
    let told = "it names 300000 trackers; the first 100 are used and 299900 left out";
    let said = wait("a word about the trackers", PATIENCE, || {
        seeder.process.assert_alive();
        Some(seeder.process.output()).filter(|said| said.contains(told))
    });
    let taken = settled(seeder.process.pid());
    assert!(taken <= 4 << 20, "{taken} bytes");
    assert!(said.len() < 64 << 10, "{} bytes were said", said.len());
    seeder.stop();
}
