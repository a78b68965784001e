//! Content under other names than the torrent's: as other clients name files, as the owner says, and after a move.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use everseed_core::hash::{Sha1, Smol};
use everseed_core::rng::Rng;
use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Neighbour, Net};
use everseed_tests::peer::{Message, Peer};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{Getter, Setup, make, run};
use everseed_tests::{PATIENCE, wait};

/// Where everseed listens.
const LISTEN: SocketAddr = SocketAddr::new(Neighbour::OURS, 6881);

/// Paths that real torrents have, component by component.
const NAMES: &[&[&[u8]]] = &[
    &[b"plain.txt"],
    // "Привет" in Windows-1251, and the same in UTF-8.
    &[b"\xcf\xf0\xe8\xe2\xe5\xf2.txt"],
    &["Привет, мир.txt".as_bytes()],
    // In Shift_JIS: "日本" and "テスト".
    &[b"\x93\xfa\x96\x7b", b"\x83\x65\x83\x58\x83\x67.bin"],
    &["delfi\u{301}n.mkv".as_bytes()],
    &["delf\u{ed}n.mkv".as_bytes()],
    &[b"what?*:<>|\".bin"],
    &[b"folder. ", b" file. "],
    &[b"a\tb\x01c"],
    &[b"per%20cent%2Fslash"],
    &[b"UPPER.bin"],
    &[b"deep", b"er", b"and deeper", b"x"],
    &[&[b'n'; 230]],
];

/// Writes a torrent of [`NAMES`] whose tracker is everseed, and its files under numbers instead of their names.
fn lay(torrent: &Path, data: &Path) {
    let mut rng = Rng::new(23);
    let mut content = Vec::new();
    let mut files = Vec::new();
    for (n, path) in NAMES.iter().enumerate() {
        // Some smaller than a piece, some larger, some of the same size.
        let len = [3_000, 70_000, 3_000, 40_001][n % 4] + n / 4 * 1000;
        let mut bytes = vec![0; len];
        rng.fill(&mut bytes);
        fs::write(data.join(format!("{n:02}")), &bytes).unwrap();
        content.extend(bytes);
        files.extend(format!("d6:lengthi{len}e4:pathl").into_bytes());
        for component in *path {
            string(&mut files, component);
        }
        files.extend(b"ee");
    }
    let hashes: Vec<u8> = content
        .chunks(16384)
        .flat_map(|piece| {
            let mut sha1 = Smol::default();
            sha1.update(piece);
            sha1.finish()
        })
        .collect();
    let mut out = b"d8:announce".to_vec();
    string(&mut out, format!("http://{LISTEN}/announce").as_bytes());
    string(&mut out, b"encoding");
    string(&mut out, b"windows-1251");
    out.extend(b"4:infod5:filesl");
    out.extend(files);
    out.extend(b"e4:name7:strange12:piece lengthi16384e6:pieces");
    string(&mut out, &hashes);
    out.extend(b"ee");
    fs::write(torrent, out).unwrap();
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("{}:", bytes.len()).into_bytes());
    out.extend(bytes);
}

/// Whether `everseed check` finds all content.
fn is_whole(torrent: &Path, data: &Path) -> bool {
    run([Path::new("check"), torrent, data]).status.success()
}

#[test]
fn data_that_each_client_laid() {
    thread::scope(|scope| {
        for client in Client::WITH_DEFAULTS {
            scope.spawn(move || laid_by(client));
        }
    });
}

/// A client with its default settings downloads the torrent. everseed finds all files under the client's names, and
/// seeds them.
fn laid_by(client: Client) {
    let net = Net::new();
    let neighbour = Neighbour::new(&net);
    let dir = Dir::new("strange");
    let torrent = dir.join("strange.torrent");
    let data = dir.sub("data");
    lay(&torrent, &data);
    let mut seeder = Setup::new(&torrent, LISTEN).data(&data).start(&dir);
    let mut download = client.download_by_default(&torrent, &neighbour);
    let theirs = download.files();
    wait(&format!("{client:?} to lay all of it"), PATIENCE, || {
        download.look_after();
        is_whole(&torrent, &theirs).then_some(())
    });
    seeder.stop();
    // The client has the only copy now.
    fs::remove_dir_all(&data).unwrap();
    let copy = dir.sub("copy");
    for (n, file) in files_in(&theirs).into_iter().enumerate() {
        // The client's own files are copied too: everseed has to ignore them.
        let to = copy.join(file.strip_prefix(&theirs).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, to).unwrap_or_else(|e| panic!("{n}: {}: {e}", file.display()));
    }
    drop(download);
    let again = Dir::new("again");
    let mut seeder = Setup::new(&torrent, LISTEN).data(&copy).start(&again);
    let peer = LISTEN.to_string();
    let listen = net.addr(Family::V4);
    let args = ["--no-seed", "--peer", &peer];
    let (code, got) = Getter::start(&torrent, listen, Dir::new("get"), &args).end();
    assert_eq!(code, 0, "a download of what {client:?} laid");
    assert!(is_whole(&torrent, &got.join("files")));
    seeder.stop();
}

fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_in(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Paths that `--file` names are remembered, and impossible ones are refused.
#[test]
fn files_that_are_named() {
    let net = Net::new();
    let dir = Dir::new("named");
    let torrent = dir.join("strange.torrent");
    let data = dir.sub("data");
    lay(&torrent, &data);
    let check = |file: &str| {
        let args = ["check", "--file", file];
        let paths = [torrent.as_os_str(), data.as_os_str()];
        let args = args.iter().map(|arg| std::ffi::OsStr::new(*arg));
        run(args.chain(paths)).status.code()
    };
    assert_eq!(check("2=01"), Some(0));
    assert_eq!(check("2=00"), Some(3));
    assert_eq!(check("14=00"), Some(1));
    for usage in ["0=00", "2", "2=", "2=../01", "2=/01", "x=01", "=01"] {
        assert_eq!(check(usage), Some(2), "{usage}");
    }
    let listen = net.addr(Family::V4);
    let setup = Setup::new(&torrent, listen).data(&data);
    let mut seeder = setup.clone().args(["--file", "2=00"]).start(&dir);
    let line = "missing or damaged";
    wait("everseed to believe its owner", PATIENCE, || {
        seeder.process.output().contains(line).then_some(())
    });
    seeder.stop();
    let mut seeder = setup.args(["--file", "2=01"]).start(&dir);
    let peer = listen.to_string();
    let args = ["--no-seed", "--peer", &peer];
    let getter = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
    assert_eq!(getter.end().0, 0);
    seeder.stop();
}

/// Files that are renamed and moved while they are seeded are found, and are served again.
#[test]
fn moved_while_it_is_seeded() {
    let net = Net::new();
    let dir = Dir::new("moved");
    let torrent = dir.join("strange.torrent");
    let data = dir.sub("data");
    lay(&torrent, &data);
    let listen = net.addr(Family::V4);
    let mut seeder = Setup::new(&torrent, listen).data(&data).start(&dir);
    fs::create_dir_all(data.join("series/one")).unwrap();
    for n in 0..NAMES.len() {
        let name = format!("{n:02}");
        fs::rename(
            data.join(&name),
            data.join("series/one").join(format!("new {name}")),
        )
        .unwrap();
    }
    let peer = listen.to_string();
    let args = ["--no-seed", "--peer", &peer];
    let getter = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
    assert_eq!(getter.end().0, 0);
    seeder.process.signal(Signal::TERM);
    assert_eq!(seeder.process.wait(PATIENCE), 0);
}

/// With `--check lazy` a renamed file is searched for too, and served once it was found.
#[test]
fn what_was_moved_is_found_without_a_check() {
    let (net, dir) = (Net::new(), Dir::new("lazy"));
    let content = Content::folder("pair", &[("a", 300_000), ("b", 200_000)]);
    let torrent = dir.join("pair.torrent");
    let hash = make(content.path(), &torrent, &["-s", "16K"]);
    let data = dir.sub("data");
    let copy = content.copy_to(&data);
    fs::rename(copy.join("a"), copy.join("of another name")).unwrap();
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(&data);
    let mut seeder = setup.args(["--check", "lazy"]).start(&dir);
    let bytes = fs::read(content.path().join("a")).unwrap();
    wait("a piece of the file that was renamed", PATIENCE, || {
        let mut peer = Peer::unchoked(seeder.addr(), hash, true);
        peer.request(3, 0, 16384);
        loop {
            match peer.expect("a block or a reject") {
                Message::Piece {
                    index: 3,
                    bytes: block,
                    ..
                } => {
                    assert!(block == bytes[3 * 16384..4 * 16384]);
                    return Some(());
                }
                Message::Reject(3, ..) => return None,
                _ => {}
            }
        }
    });
    seeder.stop();
}
