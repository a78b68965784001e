//! The memory budget: nothing dies of it, whoever comes.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Message, Peer, handshake, message};
use everseed_tests::seeder::{Setup, run};

const BLOCK: usize = 16 * 1024;

/// Blocks asked for ahead.
const AHEAD: usize = 32;

#[test]
fn two_megabytes() {
    crowd("2MiB", 80);
}

#[test]
fn four_megabytes() {
    crowd("4MiB", 200);
}

/// `silent` peers that stay, fifty that download, and some that mean no good, in an address space that
/// a router may allow.
fn crowd(memory: &str, silent: usize) {
    const SPACE: u32 = 16 << 20;
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("crowd.bin", 4 << 20, 60);
    let addr = net.addr(Family::V4);
    let setup = Setup::new(content.path(), addr).args(["--memory", memory, "--max-peers", "1000"]);
    let space = format!("--as={SPACE}");
    let mut seeder = setup.under(["prlimit", &space]).start(&dir);
    let (hash, bytes) = (seeder.info_hash(), std::fs::read(content.path()).unwrap());
    let piece_len = bytes.len() / everseed_tests::seeder::pieces(&seeder.torrent());
    let _silent: Vec<_> = (0..silent).map(|_| Peer::greet(addr, hash, true)).collect();
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || mischief(addr, hash, number));
        }
        for _ in 0..50 {
            scope.spawn(|| download(addr, hash, &bytes, piece_len));
        }
    });
    seeder.process.assert_alive();
    let anonymous = field(seeder.process.pid(), "RssAnon:");
    assert!(anonymous < 2 << 20, "{anonymous} bytes are taken");
    seeder.stop();
}

/// Downloads everything and compares it.
fn download(addr: SocketAddr, hash: InfoHash, bytes: &[u8], piece_len: usize) {
    let mut peer = Peer::unchoked(addr, hash, true);
    let mut missing: Vec<usize> = (0..bytes.len()).step_by(BLOCK).rev().collect();
    let mut asked = Vec::new();
    let mut choked = false;
    while !missing.is_empty() || !asked.is_empty() {
        while !choked
            && asked.len() < AHEAD
            && let Some(at) = missing.pop()
        {
            let [index, begin] =
                [at / piece_len, at % piece_len].map(|n| u32::try_from(n).unwrap());
            let len = BLOCK.min(bytes.len() - at);
            peer.request(index, begin, u32::try_from(len).unwrap());
            asked.push(at);
        }
        match peer.expect("content") {
            Message::Piece {
                index,
                begin,
                bytes: block,
            } => {
                let at = index as usize * piece_len + begin as usize;
                assert!(bytes[at..].starts_with(&block), "block {index}:{begin}");
                asked.retain(|&other| other != at);
            }
            Message::Reject(index, begin, _) => {
                let at = index as usize * piece_len + begin as usize;
                asked.retain(|&other| other != at);
                missing.push(at);
            }
            Message::Choke => choked = true,
            Message::Unchoke => choked = false,
            _ => {}
        }
    }
}

/// Bytes that no peer should send, and requests whose answers nobody reads.
fn mischief(addr: SocketAddr, hash: InfoHash, number: u32) {
    let mut peer = Peer::connect(addr);
    peer.send(&handshake(hash, true));
    match number % 4 {
        0 => peer.send(&u32::MAX.to_be_bytes()),
        1 => peer.send(&[0xff; 100_000]),
        2 => (0..1000).for_each(|_| peer.send(&message(5, &[0xff; 500]))),
        _ => {
            peer.send(&message(2, &[]));
            for _ in 0..2000 {
                peer.request(0, 0, 16 * 1024);
            }
        }
    }
    let _ = peer.stream.flush();
}

/// A number of `/proc/PID/status` that is in KiB there, in bytes.
fn field(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.and_then(|kib| kib.parse::<u64>().ok()).unwrap() * 1024
}

#[test]
fn too_little_is_refused() {
    let content = Content::file("little.bin", 1, 61);
    let dir = Dir::new("state");
    let (path, state) = (
        content.path().display().to_string(),
        dir.path().display().to_string(),
    );
    let output = run(["seed", &path, "--state", &state, "--memory", "500k"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("needs --memory 1"), "{said}");
}
