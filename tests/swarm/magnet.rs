//! everseed downloads by a magnet link: from each client, among peers that lie about the metadata, and after it was
//! killed in the middle.

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

/// A link with nothing but the info-hash and peers.
fn link(hash: &InfoHash, peers: &[SocketAddr]) -> String {
    let hash: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let peers: String = peers.iter().map(|peer| format!("&x.pe={peer}")).collect();
    format!("magnet:?xt=urn:btih:{hash}{peers}")
}

/// Each client on its own seeds a file whose metadata has several blocks, and everseed fetches all from there.
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

/// By the tracker in the link; a second start has the torrent already.
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

/// Of a folder only the file that the link names (BEP 53).
#[test]
fn the_file_that_the_link_names() {
    let net = Net::new();
    // Of whole pieces, so that no neighbour is touched.
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

/// A service downloads what a link in its file names, and after it was killed goes on without the metadata's peers.
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

/// A link that lies in a watched folder is no content to share.
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

/// A file with a link is downloaded where torrents are: what it names of a folder alone. Another link in it is another
/// download, and what nonsense is in it is said; without the file the download ends.
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
    // It goes on after a restart, without anybody.
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

/// What a peer does that has the metadata, or says so.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// It says nothing after its handshake.
    Silent,
    /// It tells another size and gives so much.
    Size(u32),
    /// What it gives is wrong.
    Wrong,
    /// It refuses all.
    Reject,
    /// It gives the first block and no more.
    First,
}

/// Such a peer at an address, for metadata of so many bytes.
fn odd_peer(addr: SocketAddr, hash: InfoHash, info: Vec<u8>, deed: Deed) {
    let listener = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let info = info.clone();
            // Whoever is hung up on is done.
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
    // It speaks the extension protocol (BEP 10).
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
        // Its own id comes back, and the piece stands behind "5:piecei".
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

/// A seed, its info-hash and its metadata.
fn seed(net: &Net, dir: &Dir, content: &Content) -> (everseed_tests::seeder::Seeder, Vec<u8>) {
    let seeder = Setup::new(content.path(), net.addr(Family::V4)).start(dir);
    let torrent = fs::read(seeder.torrent()).unwrap();
    let at = torrent.windows(7).position(|w| w == b"4:infod").unwrap() + 6;
    // `info` is the last thing in what everseed makes.
    (seeder, torrent[at..torrent.len() - 1].to_vec())
}

/// Whoever lies, is silent or refuses holds up nobody for long who gives.
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
        // Each at an address of its own, as bans are by address.
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

/// Killed while the metadata is half here, and while somebody only says that it has it.
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
