//! everseed downloads from each client, and from peers of which each has only a part.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use everseed_tests::client::{Client, Download};
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{self, InfoHash, message};
use everseed_tests::seeder::{Getter, Setup, make};
use everseed_tests::{PATIENCE, wait};

/// Makes a torrent whose tracker is the `everseed get` that will listen at `listen`.
fn torrent_of(
    content: &Content,
    dir: &Dir,
    listen: SocketAddr,
    args: &[&str],
) -> std::path::PathBuf {
    let torrent = dir.join("this.torrent");
    let tracker = format!("http://{listen}/announce");
    let args = [&["-t", &tracker], args].concat();
    make(content.path(), &torrent, &args);
    torrent
}

/// Each client seeds `content` alone, and everseed downloads it from that client.
fn from_each_client(content: &Content, args: &[&str]) {
    let net = Net::new();
    thread::scope(|scope| {
        for client in Client::ALL {
            let net = &net;
            scope.spawn(move || {
                let dir = Dir::new("torrent");
                let listen = net.addr(Family::V4);
                let torrent = torrent_of(content, &dir, listen, args);
                let getter = Getter::start(&torrent, listen, Dir::new("get"), &["--no-seed", "-v"]);
                let fill = |files: &Path| _ = content.copy_to(files);
                let mut seeder = client.seed(&torrent, net.addr(Family::V4), &fill);
                let (code, dir) = getter.end_beside(&mut seeder);
                assert_eq!(code, 0, "exit code of a download from {client:?}");
                content.assert_same_in(&dir.join("files"), true);
            });
        }
    });
}

#[test]
fn one_file_from_each_client() {
    from_each_client(&Content::file("from clients.bin", 64_000_001, 70), &[]);
}

#[test]
fn the_odd_folder_from_each_client() {
    from_each_client(&Content::odd_folder(), &["-s", "32K"]);
}

#[test]
fn long_pieces_from_each_client() {
    from_each_client(
        &Content::file("long pieces.bin", 80_000_000, 71),
        &["-s", "16M"],
    );
}

/// Two everseeds and three clients have one file of five each. At the end all have all five.
#[test]
fn five_partial_peers_complete_each_other() {
    let net = Net::new();
    let names = ["a", "b", "c", "d", "e"];
    let content = Content::folder("five", &names.map(|name| (name, 4 << 20)));
    let one = |name: &'static str| {
        let content = &content;
        move |files: &Path| {
            let folder = files.join(content.name());
            fs::create_dir_all(&folder).unwrap();
            fs::copy(content.path().join(name), folder.join(name)).unwrap();
        }
    };
    let dirs = [Dir::new("get"), Dir::new("get")];
    let listen = net.addr(Family::V4);
    let torrent = torrent_of(&content, &dirs[0], listen, &["-s", "64K"]);
    let torrent_text = torrent.clone();
    let mut getters = Vec::new();
    for (dir, (name, listen)) in dirs
        .into_iter()
        .zip([("a", listen), ("b", net.addr(Family::V4))])
    {
        one(name)(&dir.sub("files"));
        getters.push(Getter::start(&torrent_text, listen, dir, &["-v"]));
    }
    let clients = Client::ALL.into_iter().zip(["c", "d", "e"]);
    let mut clients: Vec<_> = clients
        .map(|(client, name)| client.seed(&torrent_text, net.addr(Family::V4), &one(name)))
        .collect();
    for getter in &mut getters {
        wait("everseed to have all five", PATIENCE, || {
            clients.iter_mut().for_each(Download::look_after);
            getter
                .process
                .output()
                .contains("complete: five")
                .then_some(())
        });
    }
    for client in &mut clients {
        client.wait_until_complete(&content);
    }
    for getter in getters {
        let (code, dir) = getter.stop();
        assert_eq!(code, 0);
        content.assert_same_in(&dir.join("files"), true);
    }
}

/// A peer that claims to have all pieces and sends zeros for each block.
fn liar(addr: SocketAddr, hash: InfoHash, pieces: usize) {
    let listener = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut hello = [0; 68];
                stream.read_exact(&mut hello)?;
                stream.write_all(&peer::handshake(hash, false))?;
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
                    if payload.first() == Some(&peer::REQUEST) {
                        let len = u32::from_be_bytes(payload[9..13].try_into().unwrap());
                        let mut block = payload[1..9].to_vec();
                        block.resize(8 + len as usize, 0);
                        stream.write_all(&message(peer::PIECE, &block))?;
                    }
                }
                #[allow(unreachable_code)]
                std::io::Result::Ok(())
            });
        }
    });
}

#[test]
fn who_sends_bad_pieces_is_banned() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("disputed.bin", 20 << 20, 72);
    // So slow that many blocks are requested from the other peer.
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(4 << 20));
    let mut seeder = setup.start(&dir);
    let bad = net.addr(Family::V4);
    let pieces = everseed_tests::seeder::pieces(&seeder.torrent());
    liar(bad, seeder.info_hash(), pieces);
    let peer = bad.to_string();
    let args = ["--no-seed", "-vv", "--peer", &peer];
    let mut getter = Getter::start(
        &seeder.torrent(),
        net.addr(Family::V4),
        Dir::new("get"),
        &args,
    );
    getter.wait_for("what it sent did not have the right hash");
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&dir.join("files"), true);
    // Without the seeder the download cannot finish, and the exit code says why.
    let mut alone = Getter::start(
        &seeder.torrent(),
        net.addr(Family::V4),
        Dir::new("get"),
        &["-vv", "--peer", &peer],
    );
    seeder.stop();
    alone.wait_for("what it sent did not have the right hash");
    assert_eq!(alone.stop().0, 32, "exit code after wrong hashes");
}

#[test]
fn selected_files() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let files = [
        ("a.txt", 300_000),
        ("b.bin", 5_000_000),
        ("sub/c.txt", 70_000),
    ];
    let content = Content::folder("choice", &files);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.start(&dir);
    let shown = everseed_tests::seeder::run([Path::new("show"), &seeder.torrent()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let line = shown.lines().find(|line| line.ends_with("  a.txt"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.unwrap_or_else(|| panic!("no number of a.txt: {shown}"));
    let args = ["--no-seed", "--only", "sub/c.txt", "--only", number];
    let getter = Getter::start(
        &seeder.torrent(),
        net.addr(Family::V4),
        Dir::new("get"),
        &args,
    );
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    let folder = dir.join("files/choice");
    for name in ["a.txt", "sub/c.txt"] {
        let same =
            fs::read(folder.join(name)).unwrap() == fs::read(content.path().join(name)).unwrap();
        assert!(same, "{name}");
    }
    let rest = everseed_tests::content::allocated(&folder.join("b.bin"));
    assert!(
        rest < 1 << 20,
        "{rest} bytes of a file that nobody asked for"
    );
    let args = ["--only", "no such file"];
    let getter = Getter::start(
        &seeder.torrent(),
        net.addr(Family::V4),
        Dir::new("get"),
        &args,
    );
    assert_eq!(getter.end().0, 2, "exit code for a file that is not there");
    seeder.stop();
}

/// `--sequential` downloads from the first piece to the last.
#[test]
fn in_order() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("in order.bin", 24 << 20, 74);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(8 << 20));
    let mut seeder = setup.start(&dir);
    let listen = net.addr(Family::V4);
    let getter = Getter::start(
        &seeder.torrent(),
        listen,
        Dir::new("get"),
        &["--sequential"],
    );
    everseed_tests::wait("some of it", everseed_tests::PATIENCE, || {
        (everseed_tests::content::allocated(&getter.files()) > 8 << 20).then_some(())
    });
    let dir = getter.kill();
    let got = fs::read(dir.join("files/in order.bin")).unwrap();
    let right = fs::read(content.path()).unwrap();
    let blocks = || got.chunks(16 << 10).zip(right.chunks(16 << 10));
    let first = blocks().take_while(|(a, b)| a == b).count();
    let all = blocks().filter(|(a, b)| a == b).count();
    assert!(all < 24 << 6, "it was killed too late");
    // Blocks that were on their way lie in a few pieces behind the complete ones.
    assert!(
        first + (4 << 6) > all,
        "{first} of {all} blocks are at the start"
    );
    seeder.stop();
}

/// `--prealloc full` reserves all space before the first block arrives, `sparse` reserves none.
#[test]
fn all_room_at_the_start() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("room.bin", 24 << 20, 75);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let torrent = seeder.torrent();
    seeder.stop();
    for (how, least, most) in [("full", 24 << 20, u64::MAX), ("sparse", 0, 1 << 20)] {
        let args = ["--prealloc", how];
        let mut getter = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
        getter.wait_for("downloading: ");
        let room = everseed_tests::content::allocated(&getter.files());
        assert!((least..=most).contains(&room), "{how}: {room} bytes");
        getter.kill();
    }
}

/// `get URL` downloads the .torrent from a web server. If the server has none, the exit code is 1.
#[test]
fn from_an_address() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("address.bin", 5 << 20, 76);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.args(["--share-torrent"]).start(&dir);
    let get = |name: &str| {
        let url = format!("http://{}/{name}.torrent", seeder.addr());
        let (url, args) = (Path::new(&url), ["--no-seed"]);
        Getter::start(url, net.addr(Family::V4), Dir::new("get"), &args)
    };
    let (code, got) = get(&seeder.info_hash().to_string()).end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    let (code, got) = get("gone").end();
    let said = fs::read_to_string(got.join("get.log")).unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the server answers 404"), "{said}");
    seeder.stop();
}

/// With `--ratio` everseed seeds until it has sent that many times the size.
#[test]
fn served_enough() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("ratio.bin", 8 << 20, 77);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let peer = seeder.addr().to_string();
    let listen = net.addr(Family::V4);
    let args = ["--ratio", "1", "--peer", &peer];
    let mut getter = Getter::start(&seeder.torrent(), listen, Dir::new("get"), &args);
    getter.wait_for("complete: ratio.bin");
    seeder.stop();
    getter.process.assert_alive();
    let other = listen.to_string();
    let args = ["--no-seed", "--peer", &other];
    let torrent = seeder.torrent();
    let (code, got) = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args).end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    assert_eq!(getter.end().0, 0, "exit code of one that served enough");
}

#[test]
fn goals_and_exit_codes() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("goals.bin", 3 << 20, 73);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let torrent = seeder.torrent();
    let get = |torrent: &Path, args: &[&str]| {
        Getter::start(torrent, net.addr(Family::V4), Dir::new("get"), args)
    };
    assert_eq!(get(&torrent, &["--time", "0.01"]).end().0, 0);
    assert_eq!(get(&torrent, &["--ratio", "0"]).end().0, 0);
    seeder.stop();
    let mut alone = get(&torrent, &[]);
    alone.wait_for("downloading: goals.bin");
    let (code, got) = alone.stop();
    assert_eq!(code, 7, "exit code of an unfinished download");
    let said = fs::read_to_string(got.join("get.log")).unwrap();
    assert!(
        said.contains("unfinished: goals.bin, 3.00 MiB to come"),
        "{said}"
    );
    let nonsense = dir.join("nonsense.torrent");
    fs::write(&nonsense, "no torrent").unwrap();
    assert_eq!(get(&nonsense, &[]).end().0, 25);
    fs::write(&nonsense, "d4:infod6:lengthi5eee").unwrap();
    assert_eq!(get(&nonsense, &[]).end().0, 26);
    assert_eq!(get(&dir.join("missing.torrent"), &[]).end().0, 1);
}
