//! A seeder on async-std serves peers that are plain blocking sockets.
#![allow(missing_docs)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_std::task::{self, JoinHandle};
use everseed_async_std::{Handle, Seeder};
use everseed_core::geometry::{BLOCK, BlockRef, Geometry};
use everseed_core::hash::InfoHash;
use everseed_core::rng::Rng;
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message};
use everseed_disk::make::{Options, make};
use everseed_disk::{Content, ReadError, read_torrent};
use everseed_node::Have;

#[test]
fn every_byte_arrives() {
    for have in [Have::All, Have::Unverified] {
        let seed = Seed::new(have);
        let got = Peer::connect(&seed).download(0..seed.geometry.pieces());
        assert!(got == seed.bytes);
        assert_eq!(seed.handle.stats().uploaded, seed.bytes.len() as u64);
    }
}

#[test]
fn nonsense_is_dropped_and_disturbs_nobody() {
    let seed = Seed::new(Have::All);
    let half = seed.geometry.pieces() / 2;
    let mut peer = Peer::connect(&seed);
    let mut got = peer.download(0..half);
    for case in 0..60 {
        let mut stream = TcpStream::connect(seed.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut nonsense = vec![0; 4096];
        Rng::new(case).fill(&mut nonsense);
        if case % 2 == 0 {
            stream.write_all(&hello(seed.info_hash, case)).unwrap();
            // A length above any message's.
            nonsense[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
        }
        let _ = stream.write_all(&nonsense);
        assert!(is_closed(&mut stream), "case {case}");
    }
    got.extend(peer.download(half..seed.geometry.pieces()));
    assert!(got == seed.bytes);
}

#[test]
fn more_than_there_is_room_for() {
    let seed = Seed::new(Have::All);
    let mut peer = Peer::connect(&seed);
    let silent: Vec<_> = (0..200)
        .filter_map(|_| TcpStream::connect(seed.addr).ok())
        .collect();
    assert!(peer.download(0..seed.geometry.pieces()) == seed.bytes);
    drop(silent);
}

#[test]
fn a_damaged_piece_is_not_served() {
    let seed = Seed::with(Have::Unverified, |file, bytes| {
        let mut bytes = bytes.to_vec();
        bytes[PIECE as usize] ^= 1;
        fs::write(file, bytes).unwrap();
    });
    let mut peer = Peer::connect(&seed);
    let block = BlockRef {
        index: 1,
        begin: 0,
        len: BLOCK,
    };
    peer.interest();
    peer.say(Message::Request(block));
    peer.until(|message| message == Message::Reject(block));
    assert!(peer.download(0..1) == seed.bytes[..PIECE as usize]);
}

#[test]
fn a_file_that_vanished_ends_it() {
    let seed = Seed::with(Have::All, |file, _| fs::remove_file(file).unwrap());
    let mut peer = Peer::connect(&seed);
    peer.interest();
    peer.say(Message::Request(BlockRef {
        index: 0,
        begin: 0,
        len: BLOCK,
    }));
    assert!(is_closed(&mut peer.stream));
    let error = task::block_on(seed.task).to_string();
    assert!(error.contains("content.bin"), "{error}");
}

#[test]
fn who_is_called_may_download() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let seed = Seed::new(Have::All);
    seed.handle.call(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let mut peer = Peer::greet(stream, &seed);
    assert!(peer.download(0..seed.geometry.pieces()) == seed.bytes);
}

#[test]
fn cancelling_lets_everybody_go() {
    let seed = Seed::new(Have::All);
    let mut peer = Peer::connect(&seed);
    peer.download(0..1);
    task::block_on(seed.task.cancel());
    assert!(is_closed(&mut peer.stream));
    assert!(TcpStream::connect(seed.addr).is_err());
    assert_eq!(seed.handle.stats().peers, 0);
}

const ANY: &str = "127.0.0.1:0";
const PIECE: u32 = 4 * BLOCK;
const PATIENCE: Duration = Duration::from_secs(20);

/// Length of content whose last piece and last block are short.
const LEN: usize = 40 * PIECE as usize + BLOCK as usize + 777;

/// A seeder that runs until this is dropped.
struct Seed {
    _folder: Folder,
    bytes: Vec<u8>,
    geometry: Geometry,
    info_hash: InfoHash,
    addr: SocketAddr,
    handle: Handle,
    task: JoinHandle<ReadError>,
}

impl Seed {
    fn new(have: Have<'_>) -> Seed {
        Seed::with(have, |_, _| ())
    }

    /// Like [`Seed::new`]. `spoil` may change the file after the torrent was made.
    fn with(have: Have<'_>, spoil: impl FnOnce(&Path, &[u8])) -> Seed {
        let (folder, content, bytes) = content();
        spoil(&folder.0.join("content.bin"), &bytes);
        let (geometry, info_hash) = (content.geometry(), content.metainfo().info_hash);
        let seeder = Seeder::new(content, have, ANY.parse().unwrap()).unwrap();
        Seed {
            _folder: folder,
            bytes,
            geometry,
            info_hash,
            addr: seeder.local_addr().unwrap(),
            handle: seeder.handle(),
            task: task::spawn(seeder.run()),
        }
    }
}

fn content() -> (Folder, Content, Vec<u8>) {
    let folder = Folder::new();
    let (file, torrent) = (folder.0.join("content.bin"), folder.0.join("x.torrent"));
    let mut bytes = vec![0; LEN];
    Rng::new(1).fill(&mut bytes);
    fs::write(&file, &bytes).unwrap();
    let options = Options {
        piece_len: Some(PIECE),
        ..Options::default()
    };
    make(&file, &torrent, &options, &mut |_| ()).unwrap();
    let metainfo = read_torrent(&torrent).unwrap();
    let content = Content::open(&torrent, &metainfo, &folder.0, &folder.0).unwrap();
    (folder, content, bytes)
}

/// A peer that downloads.
struct Peer {
    stream: TcpStream,
    geometry: Geometry,
    decoder: Decoder,
    interested: bool,
}

impl Peer {
    fn connect(seed: &Seed) -> Peer {
        Peer::greet(TcpStream::connect(seed.addr).unwrap(), seed)
    }

    fn greet(mut stream: TcpStream, seed: &Seed) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&hello(seed.info_hash, 1000)).unwrap();
        let mut answer = [0; Handshake::LEN];
        stream.read_exact(&mut answer).unwrap();
        let answer = Handshake::decode(&answer).unwrap();
        assert_eq!(answer.info_hash, seed.info_hash);
        Peer {
            stream,
            geometry: seed.geometry,
            decoder: Decoder::new(),
            interested: false,
        }
    }

    fn say(&mut self, message: Message) {
        self.stream.write_all(message.encode().bytes()).unwrap();
    }

    fn interest(&mut self) {
        if !std::mem::replace(&mut self.interested, true) {
            self.say(Message::Interested);
            self.until(|message| message == Message::Unchoke);
        }
    }

    /// Requests some pieces, all at once, and returns their bytes.
    fn download(&mut self, pieces: std::ops::Range<u32>) -> Vec<u8> {
        self.interest();
        let mut bytes = Vec::new();
        let mut asked = 0;
        for index in pieces {
            let piece = self.geometry.piece(index).unwrap();
            let size = self.geometry.piece_size(piece);
            for begin in (0..size).step_by(BLOCK as usize) {
                let len = BLOCK.min(size - begin);
                self.say(Message::Request(BlockRef { index, begin, len }));
                asked += len as usize;
            }
        }
        // The node answers in the order of the requests.
        while bytes.len() < asked {
            self.next(&mut |_| (), &mut bytes);
        }
        bytes
    }

    fn until(&mut self, wanted: impl Fn(Message) -> bool) {
        let mut found = false;
        while !found {
            self.next(&mut |message| found |= wanted(message), &mut Vec::new());
        }
    }

    /// Reads once; blocks go to `bytes`.
    fn next(&mut self, on: &mut dyn FnMut(Message), bytes: &mut Vec<u8>) {
        let mut buffer = [0; 32 * 1024];
        let len = self.stream.read(&mut buffer).unwrap();
        assert!(len > 0, "hung up");
        let mut input = &buffer[..len];
        while let Some(item) = self.decoder.next(&mut input).unwrap() {
            match item {
                Item::Message(message) => on(message),
                Item::Payload { bytes: part, .. } => bytes.extend(part),
            }
        }
    }
}

fn hello(info_hash: InfoHash, number: u64) -> [u8; Handshake::LEN] {
    let mut peer_id = *b"-XX0000-............";
    peer_id[12..].copy_from_slice(&number.to_be_bytes());
    let features = Features {
        fast: true,
        ..Features::default()
    };
    let handshake = Handshake {
        features,
        info_hash,
        peer_id,
    };
    handshake.encode()
}

/// Whether the other end closes the connection before our timeout.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A folder for one test, removed at the test's end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "everseed-async-std-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
