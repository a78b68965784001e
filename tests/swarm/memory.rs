//! The memory budget holds whatever peers do, and everseed goes on within it.

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

/// 150 silent peers, 50 that download and 50 that misbehave are connected at the same time. everseed has an address
/// space as small as a router's, which holds the program, its libraries and its threads' stacks too.
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

/// The most memory that a process took until `over`, with the kernel's memory for sockets of its address.
fn most(pid: u32, addr: SocketAddr, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(anonymous(pid) + tcp_memory(addr.ip()));
        thread::sleep(Duration::from_millis(50));
    }
    most
}

/// The address space of one program on a small router, in bytes.
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

    /// Downloads all blocks and compares them. Connects again when everseed disconnects, as it does with newcomers
    /// while its table is full.
    fn download(&self) {
        let mut missing: Vec<usize> = (0..self.bytes.len()).step_by(BLOCK).rev().collect();
        wait("a whole download", PATIENCE, || self.visit(&mut missing));
    }

    /// Downloads the missing blocks over one connection; `None` if everseed disconnects before the end.
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

/// Sends what no peer should, reads no answer, and stays until everseed disconnects.
fn mischief(torrent: &Torrent<'_>, number: usize) {
    let mut peer = Peer::connect(torrent.addr);
    let greeting = handshake(torrent.hash, number.is_multiple_of(2));
    match number % 10 {
        // Half a handshake, none, nonsense, and one for an unknown torrent.
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

/// What this kind of peer sends after the handshake.
fn badness(torrent: &Torrent<'_>, kind: usize) -> Vec<Vec<u8>> {
    let interested = message(INTERESTED, &[]);
    match kind {
        // An endless message, nonsense, and bitfields of the wrong size.
        4 => vec![u32::MAX.to_be_bytes().to_vec(), vec![0; 300_000]],
        5 => vec![vec![0xff; 100_000]],
        6 => vec![message(5, &[0xff; 500]); 1000],
        // Requests for the same block, and for a piece that does not exist; the peer reads no answer.
        7 => [vec![interested], vec![torrent.request(0); 3000]].concat(),
        8 => [vec![interested], vec![request(u32::MAX, 0, 16_384); 3000]].concat(),
        // Keep-alives.
        _ => vec![vec![0; 4]; 3000],
    }
}

const BLOCK: usize = 16 * 1024;

/// Blocks requested at a time.
const AHEAD: usize = 32;

const INTERESTED: u8 = 2;

/// A download goes on while 20 peers send messages all the time that it has to read and cannot use.
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

/// Sends one message again and again until everseed disconnects.
fn talk(addr: SocketAddr, hash: InfoHash, number: usize, over: &AtomicBool) {
    let mut peer = Peer::connect(addr);
    peer.send(&handshake(hash, true));
    let say = match number % 4 {
        // Keep-alives, `have`, an unknown extension, `interested`.
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

/// everseed is stopped for a while, as if its disk hung, while 150 peers connect and send.
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
        // glibc's allocator keeps a part of the freed memory. The table of requests was lent at the start, for 33
        // peers with 250 requests of 16 bytes each. Its pages stay once requests had to wait in them. So does the
        // buffer of the disk's thread, once a request had to wait for the disk.
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
