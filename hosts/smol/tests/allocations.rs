//! Serving a block allocates nothing: counted, over the whole process, while a peer downloads.

#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everseed::cli::seed::{Check, SeedArgs, Sending};
use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract that this one has as well.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

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
    // What is made once: open files, buffers that grow to their size.
    peers.iter_mut().for_each(|peer| peer.download(500));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..20 {
        peers.iter_mut().for_each(|peer| peer.download(500));
    }
    let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(count, 0, "allocations while 20,000 blocks were served");
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
        data: None,
        listen: vec![addr],
        listen_default: false,
        state: folder.join("state"),
        slots: Some(8),
        max_peers: 20,
        memory: 16 << 20,
        up: None,
        check: Check::First,
        trackers: Vec::new(),
        send: Sending::Copy,
        trace: None,
        quiet: true,
        log: log::LevelFilter::Warn,
    };
    std::thread::spawn(move || everseed::seed::run(&args, None).unwrap());
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

    /// Asks for so many blocks at once, and reads them.
    fn download(&mut self, blocks: u32) {
        self.requests.clear();
        for n in 0..blocks {
            // So small a file is cut into pieces of one block.
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

    /// Reads until a message has satisfied and all of it is here.
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

/// The torrent that is made, named by its info-hash once it is whole.
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
