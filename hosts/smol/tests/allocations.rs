//! Serving a block allocates nothing, and neither does reading a message. All allocations of the process are counted.

#![allow(missing_docs)]

mod counting;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use counting::allocations;
use everseed::options::run::Config;
use everseed::options::seed::SeedArgs;
use everseed::session::{Attendance, Front};
use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message};

#[test]
fn serving_allocates_nothing() {
    let folder = std::env::temp_dir().join(format!("everseed-allocations-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let addr = seed(&folder);
    let mut peers = [
        Peer::connect(addr, &folder, 1),
        Peer::connect(addr, &folder, 2),
    ];
    // The first blocks open files and let buffers grow, which happens once.
    peers.iter_mut().for_each(|peer| peer.download(500));
    let before = allocations();
    for _ in 0..20 {
        peers.iter_mut().for_each(|peer| peer.download(500));
    }
    let served = allocations() - before;
    // With a `have` for each piece the peers would count as seeds, and be disconnected.
    for _ in 0..30 {
        peers.iter_mut().for_each(Peer::chat);
    }
    let count = allocations() - before;
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(served, 0, "allocations while 20,000 blocks were served");
    assert_eq!(count, 0, "allocations while 1,020 other messages came");
}

/// Seeds a file from another thread of this process, until the process ends.
fn seed(folder: &Path) -> SocketAddr {
    let file = folder.join("content");
    std::fs::write(&file, vec![7; 64 * BLOCK as usize]).unwrap();
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let args = SeedArgs {
        paths: vec![file],
        listen: vec![everseed::net::listen::Listen::At(addr)],
        state: folder.join("state"),
        slots: Some(8),
        quiet: true,
        ..SeedArgs::default()
    };
    std::thread::spawn(move || {
        everseed::session::run(Config::of_seed(args), Attendance::Attended, Front::nobody())
            .unwrap()
    });
    addr
}

/// A peer that allocates nothing while it downloads.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    requests: Vec<u8>,
}

impl Peer {
    fn connect(addr: SocketAddr, folder: &Path, number: u8) -> Peer {
        let end = Instant::now() + Duration::from_secs(60);
        let mut stream = loop {
            match TcpStream::connect(addr) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let torrent = torrent_in(&folder.join("state"));
        let features = Features {
            fast: true,
            extended: true,
            dht: false,
        };
        let hello = Handshake {
            features,
            info_hash: everseed_disk::read_torrent(&torrent).unwrap().info_hash,
            peer_id: [number; 20],
        };
        stream.write_all(&hello.encode()).unwrap();
        stream
            .write_all(Message::Interested.encode().bytes())
            .unwrap();
        let mut theirs = [0; Handshake::LEN];
        stream.read_exact(&mut theirs).unwrap();
        let mut peer = Peer {
            stream,
            decoder: Decoder::new(),
            buffer: vec![0; 256 * 1024],
            requests: Vec::with_capacity(17 * 500),
        };
        peer.until(|message| message == Message::Unchoke);
        peer
    }

    /// Requests `blocks` blocks at once, and reads them.
    fn download(&mut self, blocks: u32) {
        self.requests.clear();
        for n in 0..blocks {
            // The file is so small that a piece is one block.
            let request = Message::Request(BlockRef {
                index: n % 64,
                begin: 0,
                len: BLOCK,
            });
            self.requests.extend_from_slice(request.encode().bytes());
        }
        self.stream.write_all(&self.requests).unwrap();
        let mut left = blocks;
        self.until(|message| {
            left -= u32::from(matches!(message, Message::Piece(_)));
            left == 0
        });
    }

    /// Sends one message of each kind, and waits until everseed has read them all.
    fn chat(&mut self) {
        self.requests.clear();
        let block = BlockRef {
            index: 1,
            begin: 0,
            len: BLOCK,
        };
        let hello = b"d1:md11:ut_metadatai3ee1:v4:test4:reqqi250ee";
        let metadata = b"d8:msg_typei0e5:piecei0ee";
        let extended = |id, bytes: &[u8]| Message::Extended {
            id,
            len: u32::try_from(bytes.len()).unwrap(),
        };
        let unknown = Message::Unknown { id: 99, len: 4 };
        let messages: [(Message, &[u8]); 17] = [
            (Message::KeepAlive, b""),
            (Message::NotInterested, b""),
            (Message::Interested, b""),
            (Message::Have(3), b""),
            (Message::Have(4), b""),
            (Message::Cancel(block), b""),
            (Message::Unchoke, b""),
            (Message::Choke, b""),
            (Message::Suggest(5), b""),
            (Message::AllowedFast(6), b""),
            (Message::Reject(block), b""),
            (Message::Port(6881), b""),
            (extended(0, hello), hello),
            (extended(1, metadata), metadata),
            (extended(77, metadata), metadata),
            (unknown, b"what"),
            (Message::Request(block), b""),
        ];
        for (message, payload) in messages {
            self.requests.extend_from_slice(message.encode().bytes());
            self.requests.extend_from_slice(payload);
        }
        self.stream.write_all(&self.requests).unwrap();
        // The request at the end is answered, by a block or, if the peer was choked meanwhile, by a reject.
        self.until(|message| matches!(message, Message::Piece(_) | Message::Reject(_)));
    }

    /// Reads until a message satisfies, with its payload.
    fn until(&mut self, mut satisfied: impl FnMut(Message) -> bool) {
        let mut done = false;
        while !done || self.decoder.payload_left() > 0 {
            let len = self.stream.read(&mut self.buffer).unwrap();
            assert!(len > 0, "the seeder hung up");
            let mut bytes = &self.buffer[..len];
            while let Some(item) = self.decoder.next(&mut bytes).unwrap() {
                if let Item::Message(message) = item {
                    done |= satisfied(message);
                }
            }
        }
    }
}

/// Waits for the .torrent that is made. Its name is the info-hash once it is complete.
fn torrent_in(state: &Path) -> PathBuf {
    let end = Instant::now() + Duration::from_secs(60);
    let torrent = |path: &PathBuf| {
        let named = path.file_stem().is_some_and(|stem| stem.len() == 40);
        named && path.extension().is_some_and(|e| e == "torrent")
    };
    while Instant::now() < end {
        if let Ok(files) = std::fs::read_dir(state)
            && let Some(path) = files.map(|entry| entry.unwrap().path()).find(torrent)
        {
            return path;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no torrent was made");
}
