//! [`World`]: a service on disks that can be made to wait, and what its tests have in common.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Message, Peer, message};
use everseed_tests::seeder::make;
use everseed_tests::service::Service;
use everseed_tests::slow::SlowDisk;
use everseed_tests::watched::age;
use everseed_tests::{PATIENCE, wait};
use rustix::fs::{Advice, fadvise};

/// A service whose state, watched folder and downloads lie on three slow disks, which note the thread of each call. It
/// also seeds a file on another disk, to a connected peer.
pub(super) struct World {
    pub(super) listen: SocketAddr,
    pub(super) state: SlowDisk,
    pub(super) watched: SlowDisk,
    pub(super) downloads: SlowDisk,
    pub(super) service: Service,
    /// The part of the configuration that never changes.
    pub(super) config: String,
    /// The id of the serving thread.
    pub(super) serves: u32,
    pub(super) peer: Peer,
    pub(super) hash: InfoHash,
    pub(super) fast: Content,
    pub(super) dir: Dir,
    pub(super) net: Net,
}

impl World {
    pub(super) fn new(more: &str) -> World {
        let (net, dir) = (Net::new(), Dir::new("serving"));
        let [state, watched, downloads] = [(); 3].map(|()| SlowDisk::new());
        let fast = Content::file("fast.bin", 1 << 20, 2);
        let torrent = dir.join("fast.torrent");
        let hash = make(fast.path(), &torrent, &[]);
        let listen = net.addr(Family::V4);
        let config = format!(
            "{more}watch = \"{}\"\n[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
            watched.at().display(),
            torrent.display(),
            fast.parent().display()
        );
        let folder = state.at().join("state");
        let mut service = Service::start_at(&dir, &folder, listen, &config, &[]);
        service.wait_for("seeding: fast.bin", 1);
        let serves = wait("the serving thread", PATIENCE, || {
            service.process.thread("serve")
        });
        World {
            peer: Peer::unchoked(listen, hash, true),
            listen,
            state,
            watched,
            downloads,
            service,
            config,
            serves,
            hash,
            fast,
            dir,
            net,
        }
    }

    /// Holds the calls `what` for `path` on a disk, does `cause`, which leads to such a call, and asserts that the peer
    /// gets its blocks while the call is held.
    pub(super) fn held(
        &mut self,
        disk: impl Fn(&World) -> &SlowDisk,
        (what, path): (&'static str, &str),
        cause: impl FnOnce(&mut World),
    ) {
        // Opens the file that the peer reads, and has its pieces verified: opening needs the .torrent, which lies on the
        // state's disk.
        self.peer.pieces(0..PIECES);
        disk(self).hold_at(what, path);
        cause(self);
        let why = format!("{what} of {path}");
        let mut next = 0;
        wait(&why, PATIENCE, || {
            self.service.process.assert_alive();
            // One piece after the other, because files that no peer reads are closed, and a piece that is requested again
            // at once is verified again, for which the disk would be waited for.
            self.peer.pieces(next..next + 1);
            next = (next + 1) % PIECES;
            (disk(self).held() > 0).then_some(())
        });
        self.peer.pieces(next..PIECES);
        self.peer.pieces(0..next);
        assert!(disk(self).held() > 0, "{why}");
        disk(self).release();
    }

    /// A file and its .torrent appear in the watched folder, with old times of change.
    pub(super) fn lay(&self, name: &str, seed: u64) -> InfoHash {
        let content = Content::file(name, 1 << 20, seed);
        content.copy_to(self.watched.behind());
        let made = self.dir.join("made.torrent");
        let hash = make(content.path(), &made, &[]);
        age(&made);
        let name = format!("{name}.torrent");
        fs::rename(&made, self.watched.behind().join(name)).expect("a torrent");
        hash
    }

    /// Stops the service, and asserts that the serving thread made no call to the disks.
    pub(super) fn end(mut self) {
        self.service.stop();
        drop(self.fast);
        let disks = [&self.state, &self.watched, &self.downloads];
        for disk in disks {
            let calls = disk.take_calls();
            let by_it: Vec<_> = calls.iter().filter(|c| c.thread == self.serves).collect();
            assert!(by_it.is_empty(), "{by_it:?}");
        }
        let _ = self.net;
    }
}

/// The pieces of the file that the peer reads, each of one block.
const PIECES: u32 = 64;

pub(super) fn state(world: &World) -> &SlowDisk {
    &world.state
}

pub(super) fn watched(world: &World) -> &SlowDisk {
    &world.watched
}

pub(super) fn downloads(world: &World) -> &SlowDisk {
    &world.downloads
}

/// Drops a file from the page cache, so that it is read from its disk again.
pub(super) fn drop_from_cache(path: &Path) {
    let file = File::open(path).expect("a file");
    fadvise(file, 0, None, Advice::DontNeed).expect("it is dropped");
}

/// Writes a valid .torrent of one file, nearly as large as a .torrent may be.
pub(super) fn large_torrent(path: &Path) -> std::io::Result<()> {
    let pieces: u64 = (63 << 20) / 20;
    let head = format!(
        "d4:infod6:lengthi{}e4:name5:large12:piece lengthi16384e6:pieces{}:",
        pieces * 16_384,
        pieces * 20
    );
    let mut file = std::io::BufWriter::new(File::create(path)?);
    file.write_all(head.as_bytes())?;
    for number in 0..pieces {
        let hash = [number.to_be_bytes(); 3].concat();
        file.write_all(&hash[..20])?;
    }
    file.write_all(b"ee")?;
    file.flush()
}

/// Requests the first piece of the metadata (BEP 9), which is to come as extended message 1.
pub(super) fn ask_for_metadata(peer: &mut Peer) {
    let said = loop {
        if let Message::Extended(said) = peer.expect("an extended handshake") {
            break String::from_utf8_lossy(&said).into_owned();
        }
    };
    let (_, number) = said.split_once("ut_metadatai").expect("ut_metadata");
    let (number, _) = number.split_once('e').expect("a number");
    let number: u8 = number.parse().expect("a number");
    peer.send(&message(20, b"\0d1:md11:ut_metadatai1eee"));
    let request = [&[number][..], b"d8:msg_typei0e5:piecei0ee"].concat();
    peer.send(&message(20, &request));
}

/// A tracker that answers nobody; gives the info-hash of each announce.
pub(super) fn announces(tracker: TcpListener) -> Receiver<Option<String>> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in tracker.incoming() {
            let mut request = [0; 2000];
            let len = stream
                .and_then(|mut stream| stream.read(&mut request))
                .unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..len]);
            let hash = request.split("info_hash=").nth(1);
            let hash = hash.and_then(|rest| rest.split('&').next());
            if tell.send(hash.map(str::to_owned)).is_err() {
                return;
            }
        }
    });
    told
}
