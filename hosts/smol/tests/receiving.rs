//! Receiving a block allocates nothing. All allocations of the process are counted during a download.

#![allow(missing_docs)]

mod counting;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use counting::allocations;
use everseed::options::get::Fetch;
use everseed::options::run::Config;
use everseed::options::seed::SeedArgs;
use everseed::session::{Attendance, Front};
use everseed_core::geometry::BLOCK;
use everseed_core::hash::{Sha1, Smol};
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message};

/// Blocks of a piece.
const BLOCKS: u32 = 4;
const PIECES: u32 = 1024;

/// Every byte of the content.
const BYTE: u8 = 7;

#[test]
fn receiving_allocates_nothing() {
    let folder = std::env::temp_dir().join(format!("everseed-receiving-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let torrent = folder.join("x.torrent");
    fs::write(&torrent, metainfo()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fetch = Fetch {
        out: folder.join("out"),
        peers: vec![listener.local_addr().unwrap()],
        ..Fetch::default()
    };
    fs::create_dir(&fetch.out).unwrap();
    let args = arguments(&torrent, &folder);
    std::thread::spawn(move || {
        everseed::session::run(
            Config::of_get(args, &fetch),
            Attendance::Attended,
            Front::nobody(),
        )
        .unwrap()
    });
    let (stream, _) = listener.accept().unwrap();
    let mut seeder = Seeder::greet(stream, &torrent);
    let all = PIECES * BLOCKS;
    // The first blocks open files and let queues grow, which happens once.
    seeder.serve(all / 4);
    let before = allocations();
    seeder.serve(all / 2);
    let count = allocations() - before;
    seeder.serve(all - all / 4 - all / 2);
    let file = folder.join("out/content");
    let whole = || fs::read(&file).is_ok_and(|bytes| bytes.iter().all(|&byte| byte == BYTE));
    let mut patience = 600;
    while !whole() {
        patience -= 1;
        assert!(patience > 0, "what was downloaded never was what was sent");
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(count, 0, "allocations while {} blocks came", all / 2);
}

fn arguments(torrent: &Path, folder: &Path) -> SeedArgs {
    SeedArgs {
        paths: vec![torrent.to_owned()],
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        state: folder.join("state"),
        slots: Some(8),
        quiet: true,
        ..SeedArgs::default()
    }
}

fn metainfo() -> Vec<u8> {
    let piece = vec![BYTE; (BLOCKS * BLOCK) as usize];
    let mut sha1 = Smol::default();
    sha1.update(&piece);
    let hash = sha1.finish();
    let head = format!(
        "d4:infod6:lengthi{}e4:name7:content12:piece lengthi{}e6:pieces{}:",
        PIECES * BLOCKS * BLOCK,
        BLOCKS * BLOCK,
        20 * PIECES
    );
    [head.as_bytes(), &hash.repeat(PIECES as usize), b"ee"].concat()
}

/// A peer that has all pieces, and allocates nothing while it sends them.
struct Seeder {
    stream: TcpStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// The bytes of a `piece` message.
    message: Vec<u8>,
    /// Requests that are not answered yet.
    asked: Vec<Message>,
}

impl Seeder {
    fn greet(mut stream: TcpStream, torrent: &Path) -> Seeder {
        let features = Features {
            fast: true,
            extended: true,
            dht: false,
        };
        let hello = Handshake {
            features,
            info_hash: everseed_disk::read_torrent(torrent).unwrap().info_hash,
            peer_id: [9; 20],
        };
        let mut theirs = [0; Handshake::LEN];
        stream.read_exact(&mut theirs).unwrap();
        stream.write_all(&hello.encode()).unwrap();
        for message in [Message::HaveAll, Message::Unchoke] {
            stream.write_all(message.encode().bytes()).unwrap();
        }
        Seeder {
            stream,
            decoder: Decoder::new(),
            buffer: vec![0; 64 * 1024],
            message: vec![BYTE; 13 + BLOCK as usize],
            asked: Vec::with_capacity(4096),
        }
    }

    /// Answers the next `blocks` requests.
    fn serve(&mut self, blocks: u32) {
        for _ in 0..blocks {
            while self.asked.is_empty() {
                self.hear();
            }
            let Message::Request(block) = self.asked.remove(0) else {
                panic!("only requests are kept");
            };
            let head = Message::Piece(block).encode();
            self.message[..13].copy_from_slice(head.bytes());
            self.stream
                .write_all(&self.message[..13 + block.len as usize])
                .unwrap();
        }
    }

    fn hear(&mut self) {
        let len = self.stream.read(&mut self.buffer).unwrap();
        assert!(len > 0, "everseed hung up");
        let mut bytes = &self.buffer[..len];
        while let Some(item) = self.decoder.next(&mut bytes).unwrap() {
            if let Item::Message(message @ Message::Request(_)) = item {
                self.asked.push(message);
            }
        }
    }
}
