//! Peers send what no client sends, while a client downloads. The client is not disturbed, and everseed goes on in
//! little memory.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::thread;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::http;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{
    self, BITFIELD, HAVE, INTERESTED, InfoHash, Message, PIECE, Peer, handshake, message, request,
};
use everseed_tests::seeder::{Setup, make};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The everseed that is attacked, and its content.
struct Target {
    addr: SocketAddr,
    hash: InfoHash,
    source: File,
}

/// Returns the connections that stay open after the attack.
type Attack = fn(&Target) -> Vec<Peer>;

const ATTACKS: [(&str, Attack); 14] = [
    ("nonsense", nonsense),
    ("half a handshake", half_handshake),
    ("an unknown torrent", unknown_torrent),
    ("half messages", half_messages),
    ("huge lengths", huge_lengths),
    ("wrong bitfields", wrong_bitfields),
    ("senseless messages", senseless_messages),
    ("requests beyond the end", beyond_the_end),
    ("requests while choked, Fast", choked_fast),
    ("requests while choked", choked),
    ("10,000 requests", burst),
    ("requests without reading", never_reads),
    ("bad HTTP", bad_http),
    ("1,000 connections", connections),
];

#[test]
fn nobody_is_disturbed() {
    raise_file_limit();
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("attacked.bin", LEN, 90);
    let torrent = dir.join("attacked.torrent");
    let listen = net.addr(Family::V4);
    let tracker = format!("http://{listen}/announce");
    let hash = make(content.path(), &torrent, &["-s", "256K", "-t", &tracker]);
    let setup = Setup::new(&torrent, listen).data(content.parent());
    let setup = setup.args(["--slots", "8", "--max-peers", "64"]);
    let mut seeder = setup.start(&dir);
    let target = Target {
        addr: listen,
        hash,
        source: File::open(content.path()).unwrap(),
    };

    // So slow that it downloads during all attacks.
    let limit = ["--max-overall-download-limit=2M"];
    let mut during = Client::Aria2.download_with(&torrent, net.addr(Family::V4), &limit);
    during.wait_for_bytes(1 << 20);
    let mut left_open = Vec::new();
    for (name, attack) in ATTACKS {
        eprintln!("attack: {name}");
        left_open.extend(attack(&target));
        seeder.process.assert_alive();
    }
    let mut after = Client::Libtorrent.download(&torrent, net.addr(Family::V4));
    during.finish(&content);
    after.finish(&content);
    drop(left_open);

    let peak = seeder.process.peak_memory();
    assert!(peak <= MEMORY, "everseed used {peak} bytes");
    seeder.stop();
}

const LEN: u64 = 32 << 20;
const PIECE_LEN: u32 = 256 << 10;
const PIECES: u32 = 128;
const BLOCK: u32 = 16 << 10;
/// Not a promise: far above the memory that 64 peers may take.
const MEMORY: u64 = 64 << 20;

fn nonsense(target: &Target) -> Vec<Peer> {
    let mut bytes = vec![0; 100_000];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    // The first byte makes sure that the random bytes begin neither an HTTP request nor a handshake.
    bytes[0] = 0;
    for len in [1, 20, 68, 100_000] {
        let mut peer = Peer::connect(target.addr);
        peer.send(&bytes[..len]);
        // One byte may be the start of something, so everseed waits for more.
        if len > 1 {
            peer.expect_end("nonsense");
        }
    }
    let mut peer = Peer::greet(target.addr, target.hash, true);
    bytes[0] = 0xfe;
    peer.send(&bytes);
    peer.expect_end("nonsense after the handshake");
    Vec::new()
}

fn half_handshake(target: &Target) -> Vec<Peer> {
    let whole = handshake(target.hash, true);
    let half = |len: usize| {
        let mut peer = Peer::connect(target.addr);
        peer.send(&whole[..len]);
        peer
    };
    [0, 1, 19, 20, 28, 48, 67].map(half).into()
}

fn unknown_torrent(target: &Target) -> Vec<Peer> {
    let mut peer = Peer::connect(target.addr);
    peer.send(&handshake(InfoHash([7; 20]), true));
    peer.expect_end("an unknown torrent");
    Vec::new()
}

fn half_messages(target: &Target) -> Vec<Peer> {
    let half = |bytes: &[u8]| {
        let mut peer = Peer::greet(target.addr, target.hash, true);
        peer.send(bytes);
        peer
    };
    let whole = request(0, 0, BLOCK);
    vec![
        half(&[0]),
        half(&[0, 0, 0]),
        half(&[0, 0, 0, 13]),
        half(&whole[..5]),
        half(&whole[..16]),
        half(&[0, 0, 64, 9, PIECE, 0, 0]),
        half(&message(BITFIELD, &[0; 16])[..12]),
    ]
}

fn huge_lengths(target: &Target) -> Vec<Peer> {
    for len in [u32::MAX, 0x8000_0000, 0x7fff_ffff, 100 << 20] {
        for id in [INTERESTED, BITFIELD, PIECE, 20, 200] {
            let mut peer = Peer::greet(target.addr, target.hash, true);
            peer.send(&len.to_be_bytes());
            peer.send(&[id; 4096]);
            peer.expect_end("a huge length");
        }
    }
    Vec::new()
}

fn wrong_bitfields(target: &Target) -> Vec<Peer> {
    let right = PIECES as usize / 8;
    for len in [0, 1, right - 1, right + 1, 100_000] {
        let mut peer = Peer::greet(target.addr, target.hash, true);
        peer.send(&message(BITFIELD, &vec![0; len]));
        peer.expect_end("a bitfield of the wrong size");
    }
    // Bits beyond the last piece cannot be tested here, because 128 pieces fill all bytes. A second bitfield is against
    // the protocol, but aria2 sends it.
    let mut peer = Peer::greet(target.addr, target.hash, true);
    peer.send(&message(BITFIELD, &vec![0; right]).repeat(10_000));
    vec![peer]
}

fn senseless_messages(target: &Target) -> Vec<Peer> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_be_bytes())
            .collect::<Vec<_>>()
    };
    for bytes in [
        message(HAVE, &words(&[PIECES])),
        message(HAVE, &words(&[u32::MAX])),
        message(HAVE, &[0; 3]),
        message(INTERESTED, &[0]),
        message(peer::REQUEST, &[0; 11]),
    ] {
        let mut peer = Peer::greet(target.addr, target.hash, true);
        peer.send(&bytes);
        peer.expect_end("a senseless message");
    }
    // A block that was not requested, unknown message ids, and a flood of the shortest messages.
    let mut peer = Peer::greet(target.addr, target.hash, true);
    peer.send(&message(PIECE, &[0; 16_392]));
    for id in [9, 13, 17, 20, 21, 99, 255] {
        peer.send(&message(id, &[0; 100]));
    }
    peer.send(&vec![0; 400_000]);
    let flip = [message(INTERESTED, &[]), message(3, &[])].concat();
    peer.send(&flip.repeat(5_000));
    vec![peer]
}

fn beyond_the_end(target: &Target) -> Vec<Peer> {
    for (index, begin, len) in [
        (PIECES, 0, BLOCK),
        (u32::MAX, 0, BLOCK),
        (0, PIECE_LEN, BLOCK),
        (0, PIECE_LEN - 1, 2),
        (PIECES - 1, u32::MAX, BLOCK),
        (u32::MAX, u32::MAX, u32::MAX),
        (0, 0, 0),
        (0, 0, 1 << 20),
        (0, 0, u32::MAX),
        (0, u32::MAX - BLOCK + 1, BLOCK),
    ] {
        for fast in [true, false] {
            let mut peer = Peer::unchoked(target.addr, target.hash, fast);
            peer.send(&request(index, begin, len));
            // everseed may disconnect or reject. A block would be wrong.
            loop {
                match peer.read() {
                    Ok(Message::Piece { .. }) => panic!("a block for {index}:{begin}+{len}"),
                    Ok(Message::Reject(..)) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
    }
    Vec::new()
}

/// With the Fast extension each request of a choked peer is answered by a reject (BEP 6).
fn choked_fast(target: &Target) -> Vec<Peer> {
    let mut peer = Peer::greet(target.addr, target.hash, true);
    for _ in 0..300 {
        peer.request(3, 0, BLOCK);
    }
    let mut rejects = 0;
    while rejects < 300 {
        match peer.expect("a reject") {
            Message::Piece { .. } => panic!("a block for a choked peer"),
            Message::Reject(index, begin, len) => {
                assert_eq!((index, begin, len), (3, 0, BLOCK));
                rejects += 1;
            }
            _ => {}
        }
    }
    Vec::new()
}

/// Without Fast the requests of a choked peer are dropped. The first block is the one requested after the unchoke.
fn choked(target: &Target) -> Vec<Peer> {
    let mut peer = Peer::greet(target.addr, target.hash, false);
    for _ in 0..3_000 {
        peer.request(3, 0, BLOCK);
    }
    peer.send(&message(INTERESTED, &[]));
    while peer.expect("unchoke") != Message::Unchoke {}
    peer.request(4, BLOCK, BLOCK);
    loop {
        if let Message::Piece { index, begin, .. } = peer.expect("a block") {
            assert_eq!((index, begin), (4, BLOCK));
            return Vec::new();
        }
    }
}

/// 10,000 requests at once, read while they are sent. Each is answered, with the right bytes.
fn burst(target: &Target) -> Vec<Peer> {
    const REQUESTS: u32 = 10_000;
    let mut peer = Peer::unchoked(target.addr, target.hash, true);
    let mut sender = Peer {
        stream: peer.stream.try_clone().unwrap(),
    };
    let wish = |n: u32| {
        let block = n.wrapping_mul(2_654_435_761) % (PIECES * 16);
        (block / 16, block % 16 * BLOCK, BLOCK - n % 100)
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let wishes = (0..REQUESTS).map(wish);
            let bytes: Vec<u8> = wishes.flat_map(|(i, b, l)| request(i, b, l)).collect();
            sender.send(&bytes);
        });
        let mut answers = 0;
        let mut ours = vec![0; BLOCK as usize];
        while answers < REQUESTS {
            match peer.expect("an answer to a request") {
                Message::Reject(..) => answers += 1,
                Message::Piece {
                    index,
                    begin,
                    bytes,
                } => {
                    answers += 1;
                    let at = u64::from(index) * u64::from(PIECE_LEN) + u64::from(begin);
                    let ours = &mut ours[..bytes.len()];
                    target.source.read_exact_at(ours, at).unwrap();
                    assert!(bytes == ours, "other bytes at {index}:{begin}");
                }
                _ => {}
            }
        }
    });
    Vec::new()
}

/// Requests more than a socket's buffer holds, and reads nothing.
fn never_reads(target: &Target) -> Vec<Peer> {
    let greedy = |fast: bool| {
        let mut peer = Peer::unchoked(target.addr, target.hash, fast);
        for n in 0..2_000 {
            peer.request(n % PIECES, 0, BLOCK);
        }
        peer
    };
    [true, true, false].map(greedy).into()
}

fn bad_http(target: &Target) -> Vec<Peer> {
    let long = format!("GET /announce?{} HTTP/1.1\r\n\r\n", "x".repeat(200_000));
    let headers = format!("GET /scrape HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(50_000));
    for text in [
        long.as_str(),
        &headers,
        "GET \r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut peer = Peer::connect(target.addr);
        peer.send(text.as_bytes());
        // everseed may send an error page before it closes the connection.
        let _ = peer.stream.read_to_end(&mut Vec::new());
    }
    for path in [
        "/../../../etc/passwd",
        "/%2e%2e/state",
        "/.torrent",
        "//",
        "/%",
    ] {
        let (status, _) = http::get(target.addr, path);
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    // Requests that are never complete.
    let unfinished = ["G", "GET /announce?info_", "GET / HTTP/1.1\r\nHost: "];
    let start = |text: &str| {
        let mut peer = Peer::connect(target.addr);
        peer.send(text.as_bytes());
        peer
    };
    unfinished.map(start).into()
}

/// Many more connections than `--max-peers`, most of them silent.
fn connections(target: &Target) -> Vec<Peer> {
    let open = |n: u32| {
        let mut peer = Peer::connect(target.addr);
        if n.is_multiple_of(10) {
            peer.send(&handshake(target.hash, n.is_multiple_of(20)));
        }
        peer
    };
    (0..1_000).map(open).collect()
}

/// Raises the limit on open files: a thousand sockets are more than a shell usually allows.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= 4096);
    if !enough(current) {
        let raised = Rlimit {
            current: maximum.map(|m| m.min(4096)),
            maximum,
        };
        setrlimit(Resource::Nofile, raised).expect("raising the limit of open files");
    }
}
