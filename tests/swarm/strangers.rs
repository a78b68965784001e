//! A download goes on whatever its peers do: they send bad blocks, trickle, send half a handshake, disconnect, or
//! cannot be reached. It names the pieces that no peer has.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{self, InfoHash, message};
use everseed_tests::seeder::{Getter, Seeder, Setup, make, pieces};

/// A seeder so slow that blocks are requested from other peers too.
fn slow_seed(content: &Content, net: &Net, dir: &Dir) -> Seeder {
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    setup.up_bps(Some(3 << 20)).start(dir)
}

fn get(seeder: &Seeder, net: &Net, args: &[&str]) -> (Getter, SocketAddr) {
    let (peer, listen) = (seeder.addr().to_string(), net.addr(Family::V4));
    let args = [&["--no-seed", "-vv", "--peer", &peer], args].concat();
    let mut getter = Getter::start(&seeder.torrent(), listen, Dir::new("get"), &args);
    getter.wait_for("listening: ");
    (getter, listen)
}

/// A uTP connection (BEP 29) is refused at once, so that the peer does not wait for a timeout.
#[test]
fn calls_by_utp_are_refused() {
    let net = Net::new();
    let dir = Dir::new("utp");
    let content = Content::file("utp.bin", 100_000, 71);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let socket = UdpSocket::bind(net.addr(Family::V4)).unwrap();
    socket.connect(seeder.addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // ST_SYN: type and version, no extension, connection id, two timestamps, window, sequence number, acknowledged one.
    let call = [&[0x41, 0, 7, 9][..], &[0; 12], &[5, 6, 0, 0]].concat();
    socket.send(&call).unwrap();
    let mut refusal = [0; 100];
    let len = socket.recv(&mut refusal).expect("a refusal");
    assert_eq!(len, 20);
    assert_eq!(refusal[..4], [0x31, 0, 7, 9]);
    assert_eq!(refusal[18..20], [5, 6]);
    seeder.stop();
}

fn ends_well(getter: Getter, content: &Content) {
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&dir.join("files"), true);
}

/// Connects as a peer that has all pieces, and passes requests to `answer` until that returns true.
fn call(
    to: SocketAddr,
    hash: InfoHash,
    pieces: usize,
    answer: impl Fn(&mut TcpStream, &[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(&peer::handshake(hash, false))?;
    let mut hello = [0; 68];
    stream.read_exact(&mut hello)?;
    let mut bits = vec![0xff; pieces / 8];
    if !pieces.is_multiple_of(8) {
        bits.push(0xff << (8 - pieces % 8));
    }
    stream.write_all(&message(peer::BITFIELD, &bits))?;
    // Unchoke.
    stream.write_all(&message(1, &[]))?;
    loop {
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        let mut payload = vec![0; u32::from_be_bytes(word) as usize];
        stream.read_exact(&mut payload)?;
        if payload.first() == Some(&peer::REQUEST) && answer(&mut stream, &payload)? {
            return Ok(());
        }
    }
}

/// The message that answers a request with zeros.
fn zeros(request: &[u8]) -> Vec<u8> {
    let len = u32::from_be_bytes(request[9..13].try_into().unwrap());
    let mut block = request[1..9].to_vec();
    block.resize(8 + len as usize, 0);
    message(peer::PIECE, &block)
}

/// One host sends a bad block over each of six connections. The only honest seed stays connected.
#[test]
fn one_host_spoils_pieces_of_the_only_seed() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("spoiled.bin", 20 << 20, 81);
    let mut seeder = slow_seed(&content, &net, &dir);
    let (hash, count) = (seeder.info_hash(), pieces(&seeder.torrent()));
    let (mut getter, listen) = get(&seeder, &net, &[]);
    getter.wait_for(": connected, ");
    for _ in 0..6 {
        thread::spawn(move || {
            call(listen, hash, count, |stream, request| {
                stream.write_all(&zeros(request))?;
                // Closing the socket with unread requests would reset the connection and discard the block.
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new())?;
                Ok(true)
            })
        });
    }
    getter.wait_for(" is bad");
    ends_well(getter, &content);
    seeder.stop();
}

/// Five peers begin a block and send some bytes every five seconds. The download completes without them.
#[test]
fn blocks_that_trickle() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("trickles.bin", 20 << 20, 82);
    let mut seeder = slow_seed(&content, &net, &dir);
    let (hash, count) = (seeder.info_hash(), pieces(&seeder.torrent()));
    let (getter, listen) = get(&seeder, &net, &[]);
    for _ in 0..5 {
        thread::spawn(move || {
            call(listen, hash, count, |stream, request| {
                for byte in zeros(request).chunks(14) {
                    stream.write_all(byte)?;
                    thread::sleep(Duration::from_secs(5));
                }
                Ok(true)
            })
        });
    }
    ends_well(getter, &content);
    seeder.stop();
}

/// Many peers send half a handshake, again and again. A peer with a whole handshake is let in.
#[test]
fn half_handshakes() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("crowded.bin", 5 << 20, 83);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["--max-peers", "20"]);
    let mut seeder = setup.start(&dir);
    let (to, hello) = (seeder.addr(), peer::handshake(seeder.info_hash(), true));
    let half = move || {
        let mut stream = TcpStream::connect(to).ok()?;
        stream.write_all(&hello[..40]).ok()?;
        Some(stream)
    };
    let mut held: Vec<_> = (0..100).filter_map(|_| half()).collect();
    let (done, is_done) = mpsc::channel::<()>();
    let crowd = thread::spawn(move || {
        while is_done.recv_timeout(Duration::from_millis(20)).is_err() {
            held.remove(0);
            held.extend(half());
        }
    });
    let (getter, _) = get(&seeder, &net, &[]);
    ends_well(getter, &content);
    done.send(()).unwrap();
    crowd.join().unwrap();
    seeder.stop();
}

/// everseed connects again to a seed that was away, long before the tracker's next answer.
#[test]
fn a_seed_that_comes_back() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("comes back.bin", 20 << 20, 84);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(2 << 20));
    let mut seeder = setup.start(&dir);
    // Only the tracker names the seed.
    let listen = net.addr(Family::V4);
    let args = ["--no-seed", "-vv"];
    let mut getter = Getter::start(&seeder.torrent(), listen, Dir::new("get"), &args);
    getter.wait_for(": connected, ");
    for _ in 0..2 {
        seeder.stop();
        seeder = setup.start(&dir);
    }
    ends_well(getter, &content);
    seeder.stop();
}

/// A seed connects to a peer that announced to the built-in tracker and does not connect itself.
#[test]
fn who_cannot_call_is_called() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("called.bin", 1 << 20, 85);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hash = seeder.info_hash();
    let escaped: String = hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
    let mut tracker = TcpStream::connect(seeder.addr()).unwrap();
    let query = format!("info_hash={escaped}&peer_id=-XX0000-000000000000&port={port}&left=1");
    let request = format!(
        "GET /announce?{query} HTTP/1.1\r\nHost: {}\r\n\r\n",
        seeder.addr()
    );
    tracker.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    tracker.read_to_end(&mut answer).unwrap();
    let (sent, came) = mpsc::channel();
    thread::spawn(move || sent.send(listener.accept().unwrap().0));
    let mut stream = came.recv_timeout(Duration::from_secs(60)).expect("a call");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut hello = [0; 48];
    stream.read_exact(&mut hello).expect("a handshake");
    assert_eq!(hello[28..], hash.0);
    seeder.stop();
}

/// A download names the missing piece, and the file that it belongs to.
#[test]
fn what_nobody_has_is_said() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::folder("lacks", &[("a.bin", 1 << 20), ("b.bin", 1 << 20)]);
    let torrent = dir.join("lacks.torrent");
    make(content.path(), &torrent, &["-s", "64K"]);
    let copy = content.copy_to(&dir.sub("data"));
    let file = File::options()
        .write(true)
        .open(copy.join("b.bin"))
        .unwrap();
    file.write_all_at(&[0; 100], 70_000).unwrap();
    let listen = net.addr(Family::V4);
    let mut seeder = Setup::new(&torrent, listen)
        .data(&dir.sub("data"))
        .start(&dir);
    let peer = listen.to_string();
    let args = ["--peer", &peer];
    let mut getter = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
    getter.wait_for("96.8%: 1 piece is missing (file b.bin), the 1 connected peer has none of it");
    getter.wait_for("96.8% of 2.00 MiB | 1 piece is missing (file b.bin)");
    assert_eq!(getter.stop().0, 7, "exit code of what is unfinished");
    seeder.stop();
}
