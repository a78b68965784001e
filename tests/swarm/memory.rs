//! The memory budget: it holds, and nothing dies of it, whoever comes.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dial::Idle;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Message, PROTOCOL, Peer, handshake, message, request};
use everseed_tests::seeder::{Getter, Seeder, Setup, pieces, run};
use everseed_tests::usage::{anonymous, tcp_memory};
use everseed_tests::{PATIENCE, wait};
use rustix::process::Signal;

#[test]
fn two_megabytes() {
    crowd("2M", 2_000_000);
}

#[test]
fn four_megabytes() {
    crowd("4M", 4_000_000);
}

/// 200 peers, of which 50 download at the same time, and as many again that mean no good. All in an
/// address space as a router may allow it: the program, its libraries and its threads' stacks are in it.
fn crowd(memory: &str, budget: u64) {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("crowd.bin", 4 << 20, 60);
    let addr = net.addr(Family::V4);
    let setup = Setup::new(content.path(), addr).args(["--memory", memory, "--max-peers", "1000"]);
    let space = format!("--as={ADDRESS_SPACE}");
    let mut seeder = setup.under(["prlimit", &space]).start(&dir);
    let pid = seeder.process.pid();
    let bytes = std::fs::read(content.path()).unwrap();
    let torrent = Torrent::of(&seeder, addr, &bytes);
    let two_hundred = Idle::greet(addr, torrent.hash, 200);
    assert_eq!(two_hundred.connected(), 200);
    drop(two_hundred);
    let silent = Idle::greet(addr, torrent.hash, 150);
    let over = AtomicBool::new(false);
    let all = thread::scope(|scope| {
        let watch = scope.spawn(|| most(pid, addr, &over));
        for number in 0..50 {
            scope.spawn(move || mischief(&torrent, number));
        }
        let downloads: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| torrent.download()))
            .collect();
        downloads
            .into_iter()
            .for_each(|download| download.join().unwrap());
        over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    seeder.process.assert_alive();
    assert!(all <= budget, "{all} bytes of {budget} were taken");
    let silent = silent.connected();
    assert!(silent >= 100, "{silent} of 150 silent peers stayed");
    seeder.stop();
}

/// The most that a process took until it was over, with what the kernel held for its address.
fn most(pid: u32, addr: SocketAddr, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(anonymous(pid) + tcp_memory(addr.ip()));
        thread::sleep(Duration::from_millis(50));
    }
    most
}

/// What a small router has for one of its programs.
const ADDRESS_SPACE: u64 = 16 << 20;

#[derive(Clone, Copy)]
struct Torrent<'a> {
    addr: SocketAddr,
    hash: InfoHash,
    piece_len: usize,
    bytes: &'a [u8],
}

impl<'a> Torrent<'a> {
    fn of(seeder: &Seeder, addr: SocketAddr, bytes: &'a [u8]) -> Torrent<'a> {
        Torrent {
            addr,
            hash: seeder.info_hash(),
            piece_len: bytes.len() / pieces(&seeder.torrent()),
            bytes,
        }
    }

    /// Downloads everything and compares it; comes back when everseed hangs up, as it does on newcomers
    /// while its table is full.
    fn download(&self) {
        let mut missing: Vec<usize> = (0..self.bytes.len()).step_by(BLOCK).rev().collect();
        wait("a whole download", PATIENCE, || self.visit(&mut missing));
    }

    /// Downloads what is missing; `None` when everseed hung up before the end.
    fn visit(&self, missing: &mut Vec<usize>) -> Option<()> {
        let mut peer = Peer::connect(self.addr);
        peer.send(&handshake(self.hash, true));
        std::io::Read::read_exact(&mut peer.stream, &mut [0; 68]).ok()?;
        peer.send(&message(INTERESTED, &[]));
        let mut asked = Vec::new();
        let mut unchoked = false;
        while !missing.is_empty() || !asked.is_empty() {
            while unchoked
                && asked.len() < AHEAD
                && let Some(at) = missing.pop()
            {
                peer.send(&self.request(at));
                asked.push(at);
            }
            let Ok(said) = peer.read() else {
                missing.append(&mut asked);
                return None;
            };
            match said {
                Message::Piece {
                    index,
                    begin,
                    bytes,
                } => {
                    let at = self.offset(index, begin);
                    let same = self.bytes[at..].starts_with(&bytes);
                    assert!(same, "block {index}:{begin}");
                    asked.retain(|&other| other != at);
                }
                Message::Reject(index, begin, _) => {
                    let at = self.offset(index, begin);
                    asked.retain(|&other| other != at);
                    missing.push(at);
                }
                Message::Choke => unchoked = false,
                Message::Unchoke => unchoked = true,
                _ => {}
            }
        }
        Some(())
    }

    fn request(&self, at: usize) -> Vec<u8> {
        let len = BLOCK.min(self.bytes.len() - at);
        let [index, begin, len] = [at / self.piece_len, at % self.piece_len, len]
            .map(|number| u32::try_from(number).expect("a small file"));
        request(index, begin, len)
    }

    fn offset(&self, index: u32, begin: u32) -> usize {
        index as usize * self.piece_len + begin as usize
    }
}

/// Does what no peer should, and stays as long as it is let; what everseed answers is not read.
fn mischief(torrent: &Torrent<'_>, number: usize) {
    let mut peer = Peer::connect(torrent.addr);
    let greeting = handshake(torrent.hash, number.is_multiple_of(2));
    match number % 10 {
        // Half a greeting, no greeting, none of ours.
        0 => peer.send(&greeting[..40]),
        1 => {}
        2 => peer.send(&[0xff; 300_000]),
        3 => peer.send(&[&PROTOCOL[..], &[7; 48]].concat()),
        kind => {
            peer.send(&greeting);
            badness(torrent, kind)
                .into_iter()
                .for_each(|bytes| peer.send(&bytes));
        }
    }
    let _ = peer.stream.set_read_timeout(Some(Duration::from_secs(3)));
    let _ = std::io::Read::read(&mut peer.stream, &mut [0]);
}

/// What a peer may say after a greeting and should not.
fn badness(torrent: &Torrent<'_>, kind: usize) -> Vec<Vec<u8>> {
    let interested = message(INTERESTED, &[]);
    match kind {
        // A message without an end, bytes without sense, bits without a torrent.
        4 => vec![u32::MAX.to_be_bytes().to_vec(), vec![0; 300_000]],
        5 => vec![vec![0xff; 100_000]],
        6 => vec![message(5, &[0xff; 500]); 1000],
        // Requests whose answers nobody reads, for the same block, and for what is not there.
        7 => [vec![interested], vec![torrent.request(0); 3000]].concat(),
        8 => [vec![interested], vec![request(u32::MAX, 0, 16_384); 3000]].concat(),
        // Nothing, very often.
        _ => vec![vec![0; 4]; 3000],
    }
}

const BLOCK: usize = 16 * 1024;

/// Blocks asked for ahead.
const AHEAD: usize = 32;

const INTERESTED: u8 = 2;

/// A download, while 20 peers send all the time what it must take and has no use for.
#[test]
fn a_download_among_those_who_talk() {
    const BUDGET: u64 = 6 << 20;
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("talk.bin", 48 << 20, 63);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(16 << 20));
    let mut seeder = setup.start(&dir);
    let hash = seeder.info_hash();
    let addr = net.addr(Family::V4);
    let args = ["--no-seed", "--memory", "6MiB"];
    let mut getter = Getter::start(&seeder.torrent(), addr, Dir::new("get"), &args);
    getter.wait_for("listening");
    let pid = getter.process.pid();
    let over = AtomicBool::new(false);
    let (all, code, dir) = thread::scope(|scope| {
        let watch = scope.spawn(|| most(pid, addr, &over));
        for number in 0..20 {
            let over = &over;
            scope.spawn(move || talk(addr, hash, number, over));
        }
        let (code, dir) = getter.end();
        over.store(true, Ordering::Relaxed);
        (watch.join().unwrap(), code, dir)
    });
    assert_eq!(code, 0, "exit code");
    content.assert_same_in(&dir.join("files"), true);
    assert!(all <= BUDGET, "{all} bytes of {BUDGET} were taken");
    seeder.stop();
}

/// Says one thing again and again, as long as it is let.
fn talk(addr: SocketAddr, hash: InfoHash, number: usize, over: &AtomicBool) {
    let mut peer = Peer::connect(addr);
    peer.send(&handshake(hash, true));
    let say = match number % 4 {
        // Nothing; a piece that it has; an extension that nobody knows; interest.
        0 => vec![0; 4],
        1 => message(4, &0_u32.to_be_bytes()),
        2 => message(20, &[99; 15_000]),
        _ => message(INTERESTED, &[]),
    };
    let say = say.repeat(60_000 / say.len());
    let _ = peer.stream.set_write_timeout(Some(Duration::from_secs(1)));
    while !over.load(Ordering::Relaxed) {
        if peer.stream.write_all(&say).is_err() {
            return;
        }
    }
}

/// Everseed hangs, as it may when a disk does, while many call and send what they like.
#[test]
fn while_it_hangs() {
    const BUDGET: u64 = 2_000_000;
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("hang.bin", 1 << 20, 64);
    let addr = net.addr(Family::V4);
    let setup = Setup::new(content.path(), addr).args(["--memory", "2M"]);
    let mut seeder = setup.start(&dir);
    let pid = seeder.process.pid();
    let bytes = std::fs::read(content.path()).unwrap();
    let torrent = Torrent::of(&seeder, addr, &bytes);
    seeder.process.signal(Signal::STOP);
    let callers: Vec<_> = thread::scope(|scope| {
        let call = || TcpStream::connect_timeout(&addr, Duration::from_secs(1));
        let calls: Vec<_> = (0..150).map(|_| scope.spawn(call)).collect();
        let callers = calls.into_iter().map(|call| call.join().unwrap());
        callers.filter_map(Result::ok).collect()
    });
    assert!(callers.len() >= 10, "{} callers", callers.len());
    for mut caller in &callers {
        caller.set_nonblocking(true).unwrap();
        while caller.write(&[0xff; 10_000]).is_ok() {}
    }
    thread::sleep(Duration::from_millis(100));
    let all = anonymous(pid) + tcp_memory(addr.ip());
    assert!(all <= BUDGET, "{all} bytes of {BUDGET} were taken");
    seeder.process.signal(Signal::CONT);
    torrent.download();
    seeder.stop();
}

#[test]
fn it_is_given_back() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("given-back.bin", 4 << 20, 62);
    let addr = net.addr(Family::V4);
    let setup = Setup::new(content.path(), addr).args(["--memory", "4MiB", "--slots", "50"]);
    let mut seeder = setup.start(&dir);
    let bytes = std::fs::read(content.path()).unwrap();
    let torrent = Torrent::of(&seeder, addr, &bytes);
    let pid = seeder.process.pid();
    let before = anonymous(pid);
    let idle = Idle::greet(addr, torrent.hash, 40);
    thread::scope(|scope| {
        (0..50).for_each(|_| drop(scope.spawn(|| torrent.download())));
    });
    let during = anonymous(pid);
    drop(idle);
    let what = format!("{before} bytes again, after {during}");
    wait(&what, PATIENCE, || {
        let now = anonymous(pid);
        // The allocator of glibc keeps some of what was freed. The table of requests, 33 peers times 250 of 16
        // bytes, was lent at the start and is used as far as requests had to wait, and so is the buffer of the disk's
        // thread if one of them had to wait for it.
        let (table, buffer) = (33 * 250 * 16, 128 << 10);
        (now <= before + (128 << 10) + table + buffer).then_some(())
    });
    seeder.stop();
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
