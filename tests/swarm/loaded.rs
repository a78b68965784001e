//! A torrent that a service has loaded stays as it is, whatever happens to its .torrent file.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::disk::Disk;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Message, Peer, handshake, message};
use everseed_tests::seeder::{Setup, info_hash, make};
use everseed_tests::service::Service;
use everseed_tests::watched::{age, config};
use everseed_tests::{PATIENCE, wait};

/// The .torrent is overwritten in place: half written, empty, with garbage, then with another tracker. Its time of
/// change stays the same. Then it is replaced and removed. Connected peers stay, and the metadata that they get always
/// has the right hash. Each complete file takes effect.
#[test]
fn a_torrent_file_that_is_written_over() {
    for named in [true, false] {
        let net = Net::new();
        let dir = Dir::new("loaded");
        let (watch, data) = (dir.sub("watch"), dir.sub("data"));
        let first = Content::file("x.bin", 300_000, 7);
        first.copy_to(&data);
        let other = Content::file("y.bin", 100_000, 8);
        other.copy_to(&data);
        let tracker = TcpListener::bind(net.addr(Family::V4)).unwrap();
        tracker.set_nonblocking(true).unwrap();
        let url = format!("http://{}/announce", tracker.local_addr().unwrap());
        let torrent = |name: &str, content: &Content, trackers: &[&str]| {
            let path = dir.join(name);
            make(content.path(), &path, trackers);
            fs::read(path).unwrap()
        };
        let before = torrent("1.torrent", &first, &[]);
        let tracked = torrent("2.torrent", &first, &["-t", &url]);
        let another = torrent("3.torrent", &other, &[]);
        let hash = info_hash(&dir.join("1.torrent"));
        let path = watch.join("x.torrent");
        fs::write(&path, &before).unwrap();
        age(&path);
        let listen = net.addr(Family::V4);
        let what = match named {
            false => config(&watch, &data),
            true => format!(
                "[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
                path.display(),
                data.display()
            ),
        };
        let mut service = Service::start(&dir, listen, &what, &[]);
        service.wait_for("seeding: x.bin", 1);
        let mut peer = greet(listen, hash).expect("a handshake");
        metadata(&mut peer, &before);

        // Half of the file, an empty one, and garbage, each with the old time of change.
        for bytes in [&tracked[..tracked.len() / 2], b"", b"<html>"] {
            over(&path, bytes);
            metadata(&mut peer, &before);
        }
        service.wait_for("what was loaded of it goes on", 1);
        metadata(&mut peer, &before);
        over(&path, &tracked);
        metadata(&mut peer, &before);
        service.wait_for("it names other trackers now", 1);
        wait("the new tracker is asked", PATIENCE, || {
            tracker.accept().ok()
        });
        metadata(&mut peer, &before);
        // Another file is renamed to this name.
        let part = watch.join("x.part");
        fs::write(&part, &before).unwrap();
        fs::rename(&part, &path).unwrap();
        service.wait_for("it names other trackers now", 2);
        metadata(&mut peer, &before);
        assert!(!service.process.output().contains("stopped: "));

        over(&path, &another);
        // The first peer has had the metadata as often as one peer may ask for it.
        let mut fresh = greet(listen, hash).expect("a handshake");
        metadata(&mut fresh, &before);
        service.wait_for("it is another torrent now", 1);
        service.wait_for("seeding: y.bin", 1);
        let hash = info_hash(&dir.join("3.torrent"));
        // A peer that connects while one torrent leaves and the other comes has to connect again.
        let mut peer = wait("the metadata of the other", PATIENCE, || {
            let mut peer = greet(listen, hash)?;
            try_metadata(&mut peer, &another).then_some(peer)
        });
        fs::remove_file(&path).unwrap();
        metadata(&mut peer, &another);
        if !named {
            service.wait_for("stopped: y.bin", 1);
            let copies = || fs::read_dir(dir.join("state/given")).unwrap().count();
            wait("its copy is gone", PATIENCE, || {
                (copies() == 0).then_some(())
            });
        }
        service.stop();
    }
}

/// Overwrites a file in place, and sets its time of change back.
fn over(path: &Path, bytes: &[u8]) {
    let time: SystemTime = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// A peer that asks for metadata (BEP 10).
fn greet(to: SocketAddr, hash: InfoHash) -> Option<Peer> {
    let mut peer = Peer::connect(to);
    let mut handshake = handshake(hash, false);
    handshake[25] |= 0x10;
    peer.send(&handshake);
    let mut answer = [0; 68];
    peer.stream.read_exact(&mut answer).ok()?;
    peer.send(&message(20, b"\0d1:md11:ut_metadatai1eee"));
    Some(peer)
}

/// Requests the metadata, which has to be that of `torrent`.
fn metadata(peer: &mut Peer, torrent: &[u8]) {
    assert!(try_metadata(peer, torrent), "everseed hung up");
}

/// Like [`metadata`], but returns false if everseed disconnects.
fn try_metadata(peer: &mut Peer, torrent: &[u8]) -> bool {
    peer.send(&message(20, b"\x01d8:msg_typei0e5:piecei0ee"));
    while let Ok(message) = peer.read() {
        if let Message::Extended(payload) = message
            && let Some(at) = payload.windows(2).position(|two| two == b"ee")
            && payload.first() == Some(&1)
        {
            let info = &payload[at + 2..];
            assert!(!info.is_empty(), "rejected");
            let held = torrent.windows(info.len()).any(|bytes| bytes == info);
            assert!(held, "metadata of another torrent");
            return true;
        }
    }
    false
}

/// The .torrent of a `[[get]]` is deleted during the download. The download goes on, also after a restart.
#[test]
fn a_get_whose_torrent_file_is_deleted() {
    let (net, theirs) = (Net::new(), Dir::new("seed"));
    let content = Content::file("kept.bin", 4 << 20, 8);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let setup = setup.args(["-s", "64K"]).up_bps(Some(1 << 20));
    let mut seeder = setup.start(&theirs);
    let dir = Dir::new("run");
    let (out, given) = (dir.sub("out"), dir.join("kept.torrent"));
    fs::copy(seeder.torrent(), &given).unwrap();
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\n",
        given.display(),
        out.display()
    );
    let listen = net.addr(Family::V4);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("downloading: kept.bin", 1);
    fs::remove_file(&given).unwrap();
    let came = || fs::metadata(out.join("kept.bin")).map_or(0, |there| there.len()) > 1;
    wait("some of it", PATIENCE, || came().then_some(()));
    service.stop();
    assert!(!service.process.output().contains("complete: kept.bin"));
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("complete: kept.bin", 1);
    content.assert_same_in(&out, true);
    service.stop();
    // Another restart, now that the download is complete.
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("complete: kept.bin", 1);
    service.stop();
    seeder.stop();
}

/// A gzipped .torrent in a watched folder is overwritten in place, by gzipped and plain ones.
#[test]
fn a_packed_torrent_file_that_is_written_over() {
    let (net, dir) = (Net::new(), Dir::new("run"));
    let (share, made) = (dir.sub("share"), dir.sub("made"));
    let content = Content::file("packed.bin", 300_000, 9);
    content.copy_to(&share);
    let [first, second] = [
        "http://127.0.0.1:1/announce",
        "http://127.0.0.1:1/another-one/announce",
    ]
    .map(|url| {
        let torrent = made.join(format!("{}.torrent", url.len()));
        make(content.path(), &torrent, &["-t", url, "-s", "16K"]);
        let packed = Command::new("gzip")
            .arg("-c")
            .arg(&torrent)
            .output()
            .unwrap();
        assert!(packed.status.success());
        (fs::read(&torrent).unwrap(), packed.stdout)
    });
    let given = share.join("packed.torrent.gz");
    fs::write(&given, &first.1).unwrap();
    let listen = net.addr(Family::V4);
    let config = format!("watch = \"{}\"\n", share.display());
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: packed.bin", 1);
    for (times, bytes) in (1..).zip([&second.1, &first.0, &second.1]) {
        fs::write(&given, bytes).unwrap();
        service.wait_for("it names other trackers now", times);
    }
    let hash = info_hash(&made.join("27.torrent"));
    let mut peer = Peer::unchoked(listen, hash, true);
    peer.block(1, 0, 16384);
    service.stop();
}

/// The .torrent of a private torrent is overwritten by one with another passkey. everseed announces with the new
/// passkey and serves all the time. No peer gets the metadata, before or after (BEP 27).
#[test]
fn a_private_torrent_whose_passkey_changes() {
    let (net, dir) = (Net::new(), Dir::new("run"));
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    let content = Content::file("x.bin", 300_000, 7);
    content.copy_to(&data);
    let bytes = fs::read(content.path()).unwrap();
    let tracker = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let addr = tracker.local_addr().unwrap();
    let [before, after] = ["old", "new-and-longer"].map(|passkey| {
        let torrent = dir.join(format!("{passkey}.torrent"));
        let url = format!("http://{addr}/announce?passkey={passkey}");
        make(content.path(), &torrent, &["-p", "-t", &url]);
        torrent
    });
    let hash = info_hash(&before);
    assert_eq!(hash, info_hash(&after));
    let path = watch.join("x.torrent");
    fs::copy(&before, &path).unwrap();
    age(&path);
    let listen = net.addr(Family::V4);
    let config = config(&watch, &data);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: x.bin", 1);
    let asks = |passkey: &str| {
        let wanted = format!("passkey={passkey}&");
        loop {
            let (mut stream, _) = tracker.accept().unwrap();
            let mut head = [0; 2048];
            let len = stream.read(&mut head).unwrap();
            if String::from_utf8_lossy(&head[..len]).contains(&wanted) {
                return;
            }
        }
    };
    let is_served = || {
        wait("a block", PATIENCE, || {
            // When the tracker changes, peers of a private torrent are disconnected once.
            let mut peer = greet_privately(listen, hash)?;
            loop {
                match peer.read().ok()? {
                    Message::Piece { bytes: block, .. } => {
                        assert!(block == bytes[..16384]);
                        return Some(());
                    }
                    Message::Unchoke => peer.request(0, 0, 16384),
                    Message::Extended(payload) => {
                        let refused = payload.ends_with(b"ee");
                        assert!(payload[0] == 0 || refused, "metadata of a private torrent");
                    }
                    _ => {}
                }
            }
        });
    };
    asks("old");
    is_served();
    over(&path, &fs::read(&after).unwrap());
    is_served();
    asks("new-and-longer");
    is_served();
    service.stop();
}

/// A peer that requests metadata and sends `interested`.
fn greet_privately(to: SocketAddr, hash: InfoHash) -> Option<Peer> {
    let mut peer = greet(to, hash)?;
    peer.send(&message(20, b"\x01d8:msg_typei0e5:piecei0ee"));
    peer.send(&message(2, &[]));
    Some(peer)
}

/// A .torrent of the greatest length is loaded, because a client added a long key. It is overwritten by another one of
/// that length, which is loaded too, then by a longer one, which is not.
#[test]
fn the_longest_torrent_file_is_written_over() {
    let (net, dir) = (Net::new(), Dir::new("run"));
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    let content = Content::file("x.bin", 300_000, 7);
    content.copy_to(&data);
    let long = |url: &str, len: u64| {
        let torrent = dir.join("plain");
        make(content.path(), &torrent, &["-t", url]);
        let plain = fs::read(torrent).unwrap();
        let (head, end) = plain.split_at(plain.len() - 1);
        // The length always has eight digits.
        let added = usize::try_from(len).unwrap() - plain.len() - "6:zzzzzz12345678:".len();
        let key = format!("6:zzzzzz{added:08}:");
        [head, key.as_bytes(), &vec![b'z'; added], end].concat()
    };
    let [one, two] = ["one", "another"]
        .map(|name| long(&format!("http://127.0.0.1:1/{name}/announce"), LONGEST));
    let path = watch.join("x.torrent");
    fs::write(&path, &one).unwrap();
    age(&path);
    let listen = net.addr(Family::V4);
    let config = config(&watch, &data);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: x.bin", 1);
    let hash = info_hash(&dir.join("plain"));
    let plain = fs::read(dir.join("plain")).unwrap();
    let mut peer = greet(listen, hash).expect("a handshake");
    metadata(&mut peer, &plain);
    over(&path, &two);
    metadata(&mut peer, &plain);
    service.wait_for("it names other trackers now", 1);
    metadata(&mut peer, &plain);
    over(&path, &long("http://127.0.0.1:1/announce", LONGEST + 1));
    metadata(&mut peer, &plain);
    service.wait_for("what was loaded of it goes on", 1);
    metadata(&mut peer, &plain);
    service.stop();
}

/// The greatest length of a .torrent, in bytes.
const LONGEST: u64 = everseed_disk::TORRENT_MAX;

/// The disk of the state is full when the .torrent of a seeded torrent is overwritten. The loaded torrent is served on,
/// with its metadata, and the full disk is logged once.
#[test]
fn the_state_is_full_when_it_is_written_over() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(8 << 20));
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    let first = Content::file("x.bin", 300_000, 7);
    first.copy_to(&data);
    let torrent = |url: &str| {
        let torrent = dir.join("x.bin");
        make(first.path(), &torrent, &["-t", url]);
        fs::read(torrent).unwrap()
    };
    let before = torrent("http://127.0.0.1:1/announce");
    let after = torrent("http://127.0.0.1:1/another/announce");
    let hash = info_hash(&dir.join("x.bin"));
    let path = watch.join("x.torrent");
    fs::write(&path, &before).unwrap();
    age(&path);
    let listen = net.addr(Family::V4);
    let config = config(&watch, &data);
    let state = disk.at().join("state");
    let mut service = Service::start_at(&dir, &state, listen, &config, &[]);
    service.wait_for("seeding: x.bin", 1);
    let mut filler = fs::File::create(disk.at().join("filler")).unwrap();
    for len in [1 << 20, 4096, 1] {
        let room = vec![7; len];
        while filler.write_all(&room).is_ok() {}
    }
    let mut peer = greet(listen, hash).expect("a handshake");
    metadata(&mut peer, &before);
    over(&path, &after);
    service.wait_for("no copy of a .torrent can be kept; make room there", 1);
    metadata(&mut peer, &before);
    let mut other = Peer::unchoked(listen, hash, true);
    other.block(0, 0, 16384);
    service.stop();
}
