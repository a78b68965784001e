//! Found by the distributed hash table alone (BEP 5): no tracker, no peer exchange, nobody who is named.

use std::net::SocketAddr;
use std::path::Path;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::Process;
use everseed_tests::seeder::{Getter, Seeder, Setup, make};
use everseed_tests::{PATIENCE, wait};

/// Nobody is there.
const DEAD: &str = "http://127.0.0.1:9/announce";

/// Nothing else tells of peers.
const ALONE: [&str; 6] = ["--pex", "off", "--lsd", "off", "--dht", "on"];

/// A node that seeds something else, for others to begin with.
fn node(dir: &Dir, listen: SocketAddr, begins_at: Option<SocketAddr>) -> Seeder {
    let content = Content::file("other.bin", 100_000, 7);
    content.copy_to(dir.path());
    let setup = Setup::new(&dir.join("other.bin"), listen).args(ALONE);
    match begins_at {
        Some(addr) => setup.args(["--dht-node".to_owned(), addr.to_string()]),
        None => setup,
    }
    .start(dir)
}

fn link(hash: &str) -> String {
    format!("magnet:?xt=urn:btih:{hash}")
}

fn get(what: &Path, listen: SocketAddr, begins_at: SocketAddr) -> Getter {
    let node = begins_at.to_string();
    let args = [&ALONE[..], &["--no-seed", "--dht-node", &node]].concat();
    Getter::start(what, listen, Dir::new("get"), &args)
}

/// Nodes of ours alone, that begin with one address; by IPv6 too. What they knew is kept.
#[test]
fn among_everseeds() {
    let net = Net::new();
    for family in [Family::V4, Family::V6] {
        let (hub, dir) = (Dir::new("hub"), Dir::new("seed"));
        let mut hub = node(&hub, net.addr(family), None);
        let content = Content::file("wanted.bin", 4 << 20, 5);
        let torrent = dir.join("wanted.torrent");
        let hash = make(content.path(), &torrent, &["-t", DEAD]).to_string();
        let setup = Setup::new(&torrent, net.addr(family)).data(content.parent());
        let known = hub.addr().to_string();
        let setup = setup.args(ALONE).args(["--dht-node", &known]);
        let mut seeder = setup.start(&dir);
        // By the torrent, and by no more than its name.
        for what in [torrent.clone(), link(&hash).into()] {
            let (code, got) = get(&what, net.addr(family), hub.addr()).end();
            assert_eq!(code, 0, "{}", what.display());
            content.assert_same_in(&got.join("files"), true);
            // Once more, by those alone that the first run knew.
            std::fs::remove_dir_all(got.join("files")).unwrap();
            let args = [&ALONE[..], &["--no-seed"]].concat();
            let again = Getter::start(&what, net.addr(family), got, &args);
            let (code, got) = again.end();
            assert_eq!(code, 0, "{}", what.display());
            content.assert_same_in(&got.join("files"), true);
        }
        seeder.stop();
        assert!(dir.join("state/dht").exists());
        hub.stop();
    }
}

/// libtorrent finds what everseed seeds, and the other way round.
#[test]
fn with_libtorrent() {
    let net = Net::new();
    let (hub, dir) = (Dir::new("hub"), Dir::new("seed"));
    let mut hub = node(&hub, net.addr(Family::V4), None);
    let content = Content::file("wanted.bin", 4 << 20, 5);
    let torrent = dir.join("wanted.torrent");
    let hash = make(content.path(), &torrent, &["-t", DEAD]).to_string();
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let known = hub.addr().to_string();
    let mut seeder = setup.args(ALONE).args(["--dht-node", &known]).start(&dir);
    let theirs = dir.sub("theirs");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_dht.py");
    let save_path = theirs.display().to_string();
    let listen = net.addr(Family::V4).to_string();
    let argv = [
        "/usr/bin/python3",
        script,
        &listen,
        &known,
        &save_path,
        &link(&hash),
    ];
    let argv = argv.map(str::to_owned);
    let mut client = Process::start("libtorrent", &argv, &dir.join("libtorrent.log"));
    wait("libtorrent to have it", PATIENCE, || {
        client.assert_alive();
        client.output().contains("complete").then_some(())
    });
    content.assert_same_in(&theirs, true);
    seeder.stop();
    // Now it is the only one.
    let (code, got) = get(&torrent, net.addr(Family::V4), hub.addr()).end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    drop(client);
    hub.stop();
}

/// What is private is never named to a node, while what is public is.
#[test]
fn nothing_private() {
    let net = Net::new();
    let (hub, dir) = (Dir::new("hub"), Dir::new("seed"));
    let (private, public) = (
        Content::file("private.bin", 1 << 20, 6),
        Content::file("public.bin", 1 << 20, 8),
    );
    let torrents = [dir.join("private.torrent"), dir.join("public.torrent")];
    let secret = make(private.path(), &torrents[0], &["-t", DEAD, "--private"]);
    let known = make(public.path(), &torrents[1], &["-t", DEAD]);
    let data = dir.sub("data");
    private.copy_to(&data);
    public.copy_to(&data);
    // The hub writes down all that it is told.
    let trace = dir.join("hub.trace");
    let other = Content::file("other.bin", 100_000, 7);
    other.copy_to(hub.path());
    let setup = Setup::new(&hub.join("other.bin"), net.addr(Family::V4)).args(ALONE);
    let mut node = setup.args(["--trace", trace.to_str().unwrap()]).start(&hub);
    let begins_at = node.addr().to_string();
    let setup = Setup::new(&torrents[0], net.addr(Family::V4)).data(&data);
    let setup = setup.args([torrents[1].to_str().unwrap()]).args(ALONE);
    let mut seeder = setup.args(["--dht-node", &begins_at]).start(&dir);
    let (code, _) = get(&torrents[1], net.addr(Family::V4), node.addr()).end();
    assert_eq!(code, 0);
    seeder.stop();
    node.stop();
    let told = std::fs::read(&trace).unwrap();
    let names = |hash: &[u8; 20]| {
        let key = [b"9:info_hash20:", &hash[..]].concat();
        told.windows(key.len()).any(|part| part == key)
    };
    assert!(names(&known.0));
    assert!(!names(&secret.0));
}
