//! The memory ceiling holds whatever a thousand peers send, and however little they read. One crowd sends each message
//! of the protocol; the last crowd sends all of them at random.
//!
//! A thread measures all the time: the process's private memory plus the kernel's memory for its sockets.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everseed_tests::content::Content;
use everseed_tests::dial::{allow_many_sockets, dial_narrow};
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Peer, message, request};
use everseed_tests::seeder::{Getter, Setup, info_hash, pieces};
use everseed_tests::usage::{anonymous, tcp_memory};

use crate::ram::metainfo;

#[test]
fn a_seed_at_sixteen_megabytes() {
    let content = Content::file("ceiling.bin", 32 << 20, 70);
    let setup = |addr| Setup::new(content.path(), addr);
    seed(&setup, 16 << 20, "1000", 1000);
}

/// While few are there, many more are served than there is memory to serve among a thousand.
#[test]
fn a_seed_that_serves_all_it_can() {
    let content = Content::file("ceiling.bin", 32 << 20, 73);
    let setup = |addr| Setup::new(content.path(), addr).args(["--slots", "5000"]);
    seed(&setup, 6 << 20, "1000", 1000);
}

#[test]
fn a_seed_at_two_megabytes() {
    let content = Content::file("ceiling.bin", 8 << 20, 71);
    let setup = |addr| Setup::new(content.path(), addr);
    seed(&setup, 2_000_000, "250", 400);
}

/// A bitfield has 128 KiB, the `info` dictionary 20 MB. The file is sparse, and the hashes are wrong.
#[test]
fn a_seed_of_a_million_pieces() {
    let dir = Dir::in_memory("ceiling");
    let (data, torrent) = (dir.sub("data"), dir.join("x.torrent"));
    let file = File::create(data.join("holes")).and_then(|file| file.set_len(16 << 30));
    file.expect("a sparse file");
    std::fs::write(&torrent, metainfo("holes", &[("", 16 << 30)], 16 << 10)).expect("a torrent");
    let setup = |addr| {
        let setup = Setup::new(&torrent, addr).data(&data);
        setup.args(["--check", "lazy"])
    };
    seed(&setup, 16 << 20, "1000", 1000);
}

/// A seeder within `budget` bytes that takes `max_peers`, among `crowd` peers.
fn seed(setup: &dyn Fn(SocketAddr) -> Setup, budget: u64, max_peers: &str, crowd: usize) {
    allow_many_sockets();
    let net = Net::new();
    net.set_mtu(1500);
    let dir = Dir::new("seed");
    let addr = net.addr(Family::V4);
    let memory = budget.to_string();
    let setup = setup(addr).args(["--memory", &memory, "--max-peers", max_peers]);
    let mut seeder = setup.start(&dir);
    let torrent = Torrent::read(&seeder.torrent(), addr);
    besiege(&torrent, seeder.process.pid(), budget, crowd);
    seeder.process.assert_alive();
    // An honest peer is served afterwards.
    drop(Peer::unchoked(addr, torrent.hash, true));
    seeder.stop();
}

/// The same for a download, from a seeder so slow that all crowds come meanwhile.
#[test]
fn a_download_at_sixteen_megabytes() {
    allow_many_sockets();
    let net = Net::new();
    net.set_mtu(1500);
    let dir = Dir::new("seed");
    let content = Content::file("ceiling.bin", 64 << 20, 72);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(200_000));
    let mut seeder = setup.start(&dir);
    let addr = net.addr(Family::V4);
    let torrent = Torrent::read(&seeder.torrent(), addr);
    let args = ["--memory", "16MiB", "--max-peers", "1000"];
    let mut getter = Getter::start(&seeder.torrent(), addr, Dir::new("get"), &args);
    getter.wait_for("listening");
    besiege(&torrent, getter.process.pid(), 16 << 20, 1000);
    getter.process.assert_alive();
    drop(getter.kill());
    seeder.stop();
}

/// The torrent that the crowds name.
struct Torrent {
    addr: SocketAddr,
    hash: InfoHash,
    pieces: u32,
}

impl Torrent {
    fn read(path: &Path, addr: SocketAddr) -> Torrent {
        Torrent {
            addr,
            hash: info_hash(path),
            pieces: u32::try_from(pieces(path)).expect("a number of pieces"),
        }
    }
}

/// What a peer sends: `first` once, then `then` again and again. Half of the peers stop after a while.
struct Speech {
    name: &'static str,
    first: Vec<u8>,
    then: Vec<u8>,
}

/// Sends one crowd with each speech, and compares the most memory that was taken meanwhile with the budget.
fn besiege(torrent: &Torrent, pid: u32, budget: u64, crowd: usize) {
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut taken = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let now = anonymous(pid) + tcp_memory(torrent.addr.ip());
                most.fetch_max(now, Ordering::Relaxed);
            }
        });
        let mut speeches = speeches(torrent);
        let mut chance = Chance(torrent.pieces.into());
        for speech in &speeches {
            let came = Crowd::gather(torrent.addr, crowd, |_| speech).talk(0);
            let most = most.swap(0, Ordering::Relaxed);
            eprintln!("{most:>9} of {budget}: {came} peers with {}", speech.name);
            taken.push((most, speech.name));
        }
        // At the end each speech repeats its bytes in another order.
        for speech in &mut speeches {
            chance.shuffle(&mut speech.then);
        }
        let any = |_| &speeches[chance.below(speeches.len())];
        let came = Crowd::gather(torrent.addr, crowd, any).talk(100);
        let most = most.swap(0, Ordering::Relaxed);
        eprintln!("{most:>9} of {budget}: {came} peers with everything, who read a little");
        taken.push((most, "everything"));
        over.store(true, Ordering::Relaxed);
    });
    let over: Vec<_> = taken.iter().filter(|(most, ..)| *most > budget).collect();
    assert!(over.is_empty(), "more than {budget} bytes: {over:?}");
}

/// Every message of BEP 3, 5, 6, 9 and 10, and bytes that are no message.
fn speeches(torrent: &Torrent) -> Vec<Speech> {
    let word = |n: u32| n.to_be_bytes();
    let last = torrent.pieces - 1;
    let block = request(last, 0, 16 << 10);
    let (other, cancel) = (request(0, 0, 16 << 10), message(8, &block[5..]));
    let bits = vec![0; torrent.pieces.div_ceil(8) as usize];
    let unasked = message(7, &[0; 16 * 1024 + 8]);
    let interested = message(2, &[]);
    let extended = message(20, b"\0d1:md11:ut_metadatai1eee");
    let info = |piece: u32| {
        message(
            20,
            format!("\x01d8:msg_typei0e5:piecei{}ee", piece % 3).as_bytes(),
        )
    };
    let pages: Vec<u8> = (0..64).flat_map(info).collect();
    let get = format!("GET /{}.torrent HTTP/1.1\r\nHost: x\r\n\r\n", torrent.hash);
    let greet = greeting(torrent.hash, true);
    let plain = greeting(torrent.hash, false);
    let speech = |name, first: &[&[u8]], then: &[u8]| Speech {
        name,
        first: first.concat(),
        then: then.to_vec(),
    };
    vec![
        speech("nothing", &[], &[]),
        speech("half a handshake", &[&greet[..40]], &[]),
        speech("a handshake", &[&greet], &[]),
        speech("a handshake without Fast", &[&plain], &[]),
        speech("nonsense", &[], &[0xff; 1000]),
        speech("nonsense after the handshake", &[&greet], &[0xff; 1000]),
        speech("keep-alives", &[&greet], &[0; 4]),
        speech(
            "chokes",
            &[&greet],
            &[message(0, &[]), message(1, &[])].concat(),
        ),
        speech(
            "interest",
            &[&greet],
            &[interested.clone(), message(3, &[])].concat(),
        ),
        speech("haves", &[&greet], &message(4, &word(0))),
        speech("bitfields", &[&greet], &message(5, &bits)),
        speech("requests while choked", &[&greet], &block),
        speech(
            "requests",
            &[&greet, &interested],
            &[block.clone(), other.clone()].concat(),
        ),
        speech("requests without Fast", &[&plain, &interested], &block),
        speech(
            "requests, cancelled",
            &[&greet, &interested],
            &[block, cancel].concat(),
        ),
        speech(
            "blocks that nobody wants",
            &[&greet, &message(14, &[]), &message(1, &[])],
            &unasked,
        ),
        speech(
            "a long block",
            &[&greet, &message(14, &[])],
            &unasked[..5000],
        ),
        speech("suggestions", &[&greet], &message(13, &word(last))),
        speech("rejects", &[&greet], &message(16, &other[5..])),
        speech(
            "pieces allowed fast",
            &[&greet, &message(14, &[])],
            &message(17, &word(0)),
        ),
        speech("ports", &[&greet], &message(9, &[1, 1])),
        speech("extended handshakes", &[&greet], &extended),
        speech("extended messages", &[&greet], &message(20, &[99; 10_000])),
        speech("requests for the torrent", &[&greet, &extended], &pages),
        speech("GET of the torrent", &[get.as_bytes()], &[]),
        speech("half a GET", &[b"GET /"], &[b'x'; 1000]),
    ]
}

/// A handshake with the bit of the extension protocol (BEP 10).
fn greeting(hash: InfoHash, fast: bool) -> Vec<u8> {
    let mut bytes = everseed_tests::peer::handshake(hash, fast);
    bytes[25] |= 0x10;
    bytes
}

struct Crowd<'a> {
    peers: Vec<Attacker<'a>>,
}

struct Attacker<'a> {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    speech: &'a Speech,
    /// Bytes sent so far, of `first` and then of `then`.
    said: usize,
    number: usize,
}

impl<'a> Crowd<'a> {
    fn gather(
        addr: SocketAddr,
        size: usize,
        mut speech: impl FnMut(usize) -> &'a Speech,
    ) -> Crowd<'a> {
        let peer = |number| Attacker {
            addr,
            stream: None,
            speech: speech(number),
            said: 0,
            number,
        };
        Crowd {
            peers: (0..size).map(peer).collect(),
        }
    }

    /// All peers send all the time, and read up to `reads` bytes a turn. Returns the number of connections made.
    fn talk(mut self, reads: usize) -> usize {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < SIEGE || calls < self.peers.len() {
            let mut dials = DIALS;
            for peer in &mut self.peers {
                if peer.stream.is_some() {
                    peer.turn(reads);
                } else if dials > 0 {
                    peer.dial();
                    dials -= 1;
                    calls += 1;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        calls
    }
}

impl Attacker<'_> {
    /// Connects. Half of the peers share one address, the others have one each.
    fn dial(&mut self) {
        self.stream = dial_narrow(self.addr, self.number.is_multiple_of(2)).ok();
        self.said = 0;
    }

    fn turn(&mut self, reads: usize) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut bytes = [0; 100];
        let read = match reads {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            reads => stream.read(&mut bytes[..reads.min(100)]),
        };
        let wait = |e: &std::io::Error| {
            matches!(
                e.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::NotConnected
            )
        };
        let mut gone = match read {
            Ok(len) => len == 0,
            Err(error) => !wait(&error),
        };
        let speech = self.speech;
        for _ in 0..8 {
            let first = speech
                .first
                .get(self.said..)
                .filter(|rest| !rest.is_empty());
            let then = || {
                let at = self.said - speech.first.len();
                let more = self.number % 4 < 2 || at < ENOUGH;
                speech
                    .then
                    .get(at.checked_rem(speech.then.len())?..)
                    .filter(|_| more)
            };
            let Some(rest) = first.or_else(then) else {
                break;
            };
            match stream.write(rest) {
                Ok(len) => self.said += len,
                Err(error) => {
                    gone |= !wait(&error);
                    break;
                }
            }
        }
        if gone {
            self.stream = None;
        }
    }
}

/// Numbers that look like chance and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }

    /// Repeats parts of what is said in another order.
    fn shuffle(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            if !bytes.is_empty() {
                let at = self.below(bytes.len());
                bytes.extend_from_within(at..);
                bytes.truncate(64 << 10);
            }
        }
    }
}

/// Connections made in one turn: about as many as may wait to be accepted.
const DIALS: usize = 20;

/// Bytes after which half of the peers fall silent. everseed disconnects peers that never stop sending.
const ENOUGH: usize = 40 << 10;

/// How long each crowd stays.
const SIEGE: Duration = Duration::from_millis(1500);
