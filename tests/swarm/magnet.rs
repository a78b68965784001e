//! everseed downloads by magnet link: from each client, among peers that send wrong metadata, and after it was killed
//! in the middle.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, PROTOCOL, handshake, message};
use everseed_tests::seeder::{Getter, Setup, make};
use everseed_tests::service::Service;

/// A magnet link with only an info-hash and peers.
fn link(hash: &InfoHash, peers: &[SocketAddr]) -> String {
    let hash: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let peers: String = peers.iter().map(|peer| format!("&x.pe={peer}")).collect();
    format!("magnet:?xt=urn:btih:{hash}{peers}")
}

/// Each client alone seeds a file whose metadata has several blocks. everseed gets metadata and content from it.
#[test]
fn from_each_client() {
    let net = Net::new();
    let content = Content::file("magnet from clients.bin", 40_000_001, 170);
    thread::scope(|scope| {
        for client in Client::ALL {
            let (net, content) = (&net, &content);
            scope.spawn(move || {
                let dir = Dir::new("torrent");
                let torrent = dir.join("this.torrent");
                let nobody = "http://127.0.0.1:9/announce";
                let hash = make(content.path(), &torrent, &["-t", nobody]);
                let there = net.addr(Family::V4);
                let fill = |files: &Path| _ = content.copy_to(files);
                let mut seeder = client.seed(&torrent, there, &fill);
                let link = link(&hash, &[there]);
                let args = ["--no-seed", "-v"];
                let here = net.addr(Family::V4);
                let getter = Getter::start(Path::new(&link), here, Dir::new("get"), &args);
                let (code, dir) = getter.end_beside(&mut seeder);
                assert_eq!(code, 0, "exit code of a download from {client:?}");
                content.assert_same_in(&dir.join("files"), true);
            });
        }
    });
}

/// The link names a tracker. A second start has the torrent already, and needs no peer.
#[test]
fn by_a_tracker_and_once_more() {
    let net = Net::new();
    let (dir, content) = (Dir::new("seed"), Content::file("link.bin", 3_000_000, 171));
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let link = seeder.value("magnet");
    let here = net.addr(Family::V4);
    let getter = Getter::start(Path::new(&link), here, Dir::new("get"), &["--no-seed"]);
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&dir.join("files"), true);
    seeder.stop();
    let again = Getter::start(Path::new(&link), here, dir, &["--no-seed"]);
    let (code, dir) = again.end();
    assert_eq!(code, 0);
    content.assert_same_in(&dir.join("files"), true);
}

/// Only the file that the link selects is downloaded (`so`, BEP 53).
#[test]
fn the_file_that_the_link_names() {
    let net = Net::new();
    // Each file has whole pieces, so that no piece belongs to two files.
    let files = [("a", 13 << 14), ("b", 17 << 14), ("c", 5 << 14)];
    let (dir, content) = (Dir::new("seed"), Content::folder("some", &files));
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["-s", "16K"]);
    let mut seeder = setup.start(&dir);
    let link = format!("{}&so=1", seeder.value("magnet"));
    let here = net.addr(Family::V4);
    let getter = Getter::start(Path::new(&link), here, Dir::new("get"), &["--no-seed"]);
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    let got = dir.join("files/some");
    assert_eq!(
        fs::read(got.join("b")).unwrap(),
        fs::read(content.path().join("b")).unwrap()
    );
    assert!(!got.join("a").exists() && !got.join("c").exists());
    seeder.stop();
}

/// A service downloads by a link in its configuration. After a restart it needs no peer for the metadata.
#[test]
fn a_service_with_a_link() {
    let net = Net::new();
    let (dir, content) = (
        Dir::new("seed"),
        Content::file("served.bin", 9_000_000, 172),
    );
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let link = seeder.value("magnet");
    let home = Dir::new("service");
    let out = home.sub("files");
    let config = format!(
        "[[get]]\ntorrent = \"{link}\"\nout = \"{}\"\n",
        out.display()
    );
    let here = net.addr(Family::V4);
    let mut service = Service::start(&home, here, &config, &[]);
    service.wait_for("complete: served.bin", 1);
    content.assert_same_in(&out, true);
    service.stop();
    seeder.stop();
    let mut service = Service::start(&home, here, &config, &[]);
    service.wait_for("complete: served.bin", 1);
    service.stop();
}

/// A .magnet file in a watched folder is not shared as content.
#[test]
fn a_link_in_a_watched_folder() {
    let net = Net::new();
    let home = Dir::new("service");
    let watched = home.sub("watched");
    let hash = InfoHash([7; 20]);
    fs::write(watched.join("x.magnet"), link(&hash, &[])).unwrap();
    let config = format!("watch = [\"{}\"]\n", watched.display());
    let mut service = Service::start(&home, net.addr(Family::V4), &config, &[]);
    service.wait_for(
        "x.magnet: magnet links in watched folders are left alone, as nothing is downloaded there",
        1,
    );
    fs::write(watched.join("y"), "content").unwrap();
    service.wait_for("seeding: y", 1);
    assert!(!service.process.output().contains("seeding: x.magnet"));
    service.stop();
}

/// A .magnet file in a watched folder starts a download of the files that its link selects. Another link in it starts
/// another download, nonsense is logged, and without the file the download is stopped.
#[test]
fn files_with_links() {
    let net = Net::new();
    let files = [("a", 13 << 14), ("b", 17 << 14), ("c", 5 << 14)];
    let (dir, other_dir) = (Dir::new("seed"), Dir::new("seed"));
    let content = Content::folder("some", &files);
    let other = Content::file("other.bin", 500_000, 175);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["-s", "16K"]);
    let mut seeder = setup.start(&dir);
    let mut other_seeder = Setup::new(other.path(), net.addr(Family::V4)).start(&other_dir);
    let home = Dir::new("service");
    let (watched, out) = (home.sub("watched"), home.sub("files"));
    let file = watched.join("x.magnet");
    let config = format!(
        "watch = [\"{}\"]\ndownload = true\ndata = \"{}\"\n",
        watched.display(),
        out.display()
    );
    let here = net.addr(Family::V4);
    let mut service = Service::start(&home, here, &config, &[]);
    fs::write(&file, "magnet:?xt=urn:btih:1 magnet:?xt=urn:btih:2").unwrap();
    service.wait_for("x.magnet: that is not one magnet link", 1);
    let link = seeder.value("magnet");
    fs::write(&file, format!("{link}&so=1\n")).unwrap();
    service.wait_for("complete: some", 1);
    let got = out.join("some");
    let (theirs, ours) = (content.path().join("b"), got.join("b"));
    assert_eq!(fs::read(ours).unwrap(), fs::read(theirs).unwrap());
    assert!(!got.join("a").exists() && !got.join("c").exists());
    // A restart needs no peer.
    seeder.stop();
    service.stop();
    let mut service = Service::start(&home, here, &config, &[]);
    service.wait_for("complete: some", 1);
    let link = format!("\u{feff}{}\r\n", other_seeder.value("magnet"));
    fs::write(&file, link).unwrap();
    service.wait_for("stopped: some", 1);
    service.wait_for("complete: other.bin", 1);
    other.assert_same_in(&out, true);
    fs::remove_file(&file).unwrap();
    service.wait_for("stopped: other.bin", 1);
    service.stop();
    other_seeder.stop();
}

/// What a peer does that claims to have the metadata.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Sends nothing after its handshake.
    Silent,
    /// Names another size, and sends wrong metadata of that size.
    Size(u32),
    /// Sends wrong metadata of the right size.
    Wrong,
    /// Rejects all requests.
    Reject,
    /// Sends the first block and no other.
    First,
}

/// Starts a peer at `addr` that does `deed`; `info` is the right metadata.
fn odd_peer(addr: SocketAddr, hash: InfoHash, info: Vec<u8>, deed: Deed) {
    let listener = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let info = info.clone();
            // The thread ends when everseed disconnects.
            thread::spawn(move || misbehave(stream, hash, &info, deed));
        }
    });
}

fn misbehave(
    mut stream: TcpStream,
    hash: InfoHash,
    info: &[u8],
    deed: Deed,
) -> std::io::Result<()> {
    let mut hello = [0; 68];
    stream.read_exact(&mut hello)?;
    let mut ours = handshake(hash, false);
    // The bit of the extension protocol (BEP 10).
    ours[PROTOCOL.len() + 5] = 0x10;
    stream.write_all(&ours)?;
    let size = match deed {
        Deed::Size(size) => size as usize,
        _ => info.len(),
    };
    let hello = format!("\0d1:md11:ut_metadatai7ee13:metadata_sizei{size}ee");
    stream.write_all(&message(20, hello.as_bytes()))?;
    loop {
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        let mut payload = vec![0; u32::from_be_bytes(word) as usize];
        stream.read_exact(&mut payload)?;
        // everseed uses the peer's id for `ut_metadata`, 7. The piece's number follows "5:piecei".
        if !payload.starts_with(&[20, 7]) {
            continue;
        }
        let text = String::from_utf8_lossy(&payload).into_owned();
        let piece = text
            .split("5:piecei")
            .nth(1)
            .and_then(|t| t.split('e').next());
        let piece: usize = piece.unwrap().parse().unwrap();
        let start = piece * 16384;
        let end = size.min(start + 16384);
        let mut block = match deed {
            Deed::Wrong | Deed::Size(_) => vec![b'd'; end - start],
            _ => info[start..end].to_vec(),
        };
        let kind = match deed {
            Deed::Silent => continue,
            Deed::First if piece > 0 => continue,
            Deed::Reject => {
                block.clear();
                format!("d8:msg_typei2e5:piecei{piece}ee")
            }
            _ => format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{size}ee"),
        };
        let answer = [&[1], kind.as_bytes(), &block].concat();
        stream.write_all(&message(20, &answer))?;
    }
}

/// A seeder and its metadata.
fn seed(net: &Net, dir: &Dir, content: &Content) -> (everseed_tests::seeder::Seeder, Vec<u8>) {
    let seeder = Setup::new(content.path(), net.addr(Family::V4)).start(dir);
    let torrent = fs::read(seeder.torrent()).unwrap();
    let at = torrent.windows(7).position(|w| w == b"4:infod").unwrap() + 6;
    // `info` is the last key in a torrent that everseed makes.
    (seeder, torrent[at..torrent.len() - 1].to_vec())
}

/// Peers that send wrong metadata, nothing or rejects do not delay the honest peer for long.
#[test]
fn among_liars() {
    let net = Net::new();
    let (dir, content) = (Dir::new("seed"), Content::file("lies.bin", 20_000_000, 173));
    let (mut seeder, info) = seed(&net, &dir, &content);
    let hash = seeder.info_hash();
    let deeds = [
        Deed::Silent,
        Deed::Size(20),
        Deed::Size(300_000),
        Deed::Size(31 << 20),
        Deed::Wrong,
        Deed::Reject,
    ];
    let mut peers = Vec::new();
    for (n, deed) in (2..).zip(deeds) {
        // Each has an address of its own, because everseed bans addresses.
        let addr = SocketAddr::from(([127, 0, 0, n], 7000));
        odd_peer(addr, hash, info.clone(), deed);
        peers.push(addr);
    }
    peers.push(seeder.addr());
    let link = link(&hash, &peers);
    let here = net.addr(Family::V4);
    let args = ["--no-seed", "-v", "-v"];
    let getter = Getter::start(Path::new(&link), here, Dir::new("get"), &args);
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&dir.join("files"), true);
    seeder.stop();
}

/// everseed is killed while it has half of the metadata, from a peer that sends no more than that.
#[test]
fn killed_in_the_middle() {
    let net = Net::new();
    let (dir, content) = (
        Dir::new("seed"),
        Content::file("killed.bin", 20_000_000, 174),
    );
    let (mut seeder, info) = seed(&net, &dir, &content);
    let hash = seeder.info_hash();
    let half = SocketAddr::from(([127, 0, 0, 2], 7000));
    odd_peer(half, hash, info, Deed::First);
    let here = net.addr(Family::V4);
    let only_half = link(&hash, &[half]);
    let mut getter = Getter::start(Path::new(&only_half), here, Dir::new("get"), &["-v"]);
    getter.wait_for("1 of 2 blocks, 1 peer");
    let dir = getter.kill();
    let both = link(&hash, &[half, seeder.addr()]);
    let getter = Getter::start(Path::new(&both), here, dir, &["--no-seed", "-v"]);
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&dir.join("files"), true);
    assert!(!dir.join("state").join("x.metadata").exists());
    seeder.stop();
}
