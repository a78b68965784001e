//! A far peer downloads as fast as the line to it can carry.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dial::dial_from;
use everseed_tests::dir::Dir;
use everseed_tests::download::{BLOCK, Download, Wish};
use everseed_tests::far::{Far, Way};
use everseed_tests::leecher::{Work, leech};
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Setup, pieces};

/// everseed takes at most twice as long as a program that only writes to a socket: with its default settings, with many
/// slots, and with little memory. Both send at the same time, each over a line of its own, so that a busy machine
/// delays both.
#[test]
fn as_fast_as_plain_tcp() {
    let net = Net::new();
    let way = Way::new(Duration::from_millis(100), 100_000_000);
    let (ours, plain) = (Far::new(&net, way), Far::new(&net, way));
    let content = Content::file("far.bin", LEN, 77);
    let bytes = fs::read(content.path()).unwrap();
    for args in [&[][..], &["--slots", "50"], &["--memory", "8M"]] {
        let dir = Dir::new("far");
        let addr = net.addr(Family::V4);
        let mut seeder = Setup::new(content.path(), addr).args(args).start(&dir);
        let blocks = LEN / BLOCK;
        let piece_len = LEN / pieces(&seeder.torrent()) as u64;
        let wish = Wish {
            hash: seeder.info_hash(),
            piece_len: u32::try_from(piece_len).unwrap(),
            blocks,
            from: 0,
            wanted: blocks,
            depth: 250,
        };
        let work = Work {
            to: addr,
            from: Some(ours.ip()),
            peers: 1,
            limit: PATIENCE,
            patience: PATIENCE,
            check: Some(&bytes),
        };
        let listener = TcpListener::bind(net.addr(Family::V4)).unwrap();
        let (got, plainly) = thread::scope(|scope| {
            let plainly = scope.spawn(|| plain_transfer(&listener, &plain));
            let got = ours.inside(|| leech(&work, |_| Download::from_peer(wish)));
            (got.unwrap(), plainly.join().unwrap())
        });
        assert!(got.complete() && got.wrong() == 0, "{args:?}: {got:?}");
        let took = got.time;
        println!("{args:?}: {took:?}, plain TCP {plainly:?}");
        assert!(
            took < 2 * plainly,
            "{args:?}: {took:?}, plain TCP {plainly:?}"
        );
        seeder.stop();
    }
}

/// Sends as many bytes to a far machine through a socket with default options. Returns the time from the first byte to
/// the last.
fn plain_transfer(listener: &TcpListener, far: &Far) -> Duration {
    let to = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let part = vec![0x5a; 256 << 10];
            for _ in 0..LEN / part.len() as u64 {
                stream.write_all(&part).unwrap();
            }
        });
        far.inside(|| receive(far.ip(), to))
    })
}

fn receive(from: Ipv4Addr, to: SocketAddr) -> Duration {
    let mut stream = dial_from(from, to).unwrap();
    let mut part = vec![0; 256 << 10];
    let (mut got, mut first) = (0, None);
    while got < LEN {
        got += stream.read(&mut part).unwrap() as u64;
        first.get_or_insert_with(Instant::now);
    }
    first.unwrap().elapsed()
}

const LEN: u64 = 24 << 20;
