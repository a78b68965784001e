//! Peers find each other through the distributed hash table alone (BEP 5): without tracker, peer exchange or address.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Seeder, Setup, make};

/// A tracker that does not exist.
const DEAD: &str = "http://127.0.0.1:9/announce";

/// Turns off the other ways to find peers.
const ALONE: [&str; 4] = ["--pex", "off", "--lsd", "off"];

/// A DHT node that seeds another torrent. Others begin with it.
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

/// Three everseed nodes begin with one address, over IPv4 and over IPv6. Their contacts outlive a restart.
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
        // With the torrent, then with its info-hash alone.
        for what in [torrent.clone(), link(&hash).into()] {
            let (code, got) = get(&what, net.addr(family), hub.addr()).end();
            assert_eq!(code, 0, "{}", what.display());
            content.assert_same_in(&got.join("files"), true);
            // Again, with only the contacts of the first run.
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

/// The first node comes from the torrent (`nodes`), or from a peer whose DHT node has the same port.
#[test]
fn by_whom_the_torrent_or_a_peer_leads_to() {
    let net = Net::new();
    let (hub, dir) = (Dir::new("hub"), Dir::new("seed"));
    let mut hub = node(&hub, net.addr(Family::V4), None);
    let content = Content::file("wanted.bin", 1 << 20, 5);
    let torrent = dir.join("wanted.torrent");
    make(content.path(), &torrent, &["-t", DEAD]);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let known = hub.addr().to_string();
    let setup = setup.args(ALONE).args(["--dht-node", &known]);
    let mut seeder = setup.start(&dir);
    let mut bytes = std::fs::read(&torrent).unwrap();
    assert_eq!(bytes.pop(), Some(b'e'));
    let ip = hub.addr().ip().to_string();
    let nodes = format!("5:nodesll{}:{ip}i{}eeee", ip.len(), hub.addr().port());
    let with_nodes = dir.join("nodes.torrent");
    std::fs::write(&with_nodes, [&bytes, nodes.as_bytes()].concat()).unwrap();
    for (torrent, args) in [(&with_nodes, &[][..]), (&torrent, &["--peer", &known])] {
        let args = [&ALONE[..], &["--no-seed"], args].concat();
        let got = Getter::start(torrent, net.addr(Family::V4), Dir::new("get"), &args);
        let (code, got) = got.end();
        assert_eq!(code, 0, "{args:?}");
        content.assert_same_in(&got.join("files"), true);
    }
    seeder.stop();
    hub.stop();
}

/// A read-only node is found as a peer, sends `ro`, and answers no query (BEP 43).
#[test]
fn read_only() {
    let net = Net::new();
    let (hub, dir) = (Dir::new("hub"), Dir::new("seed"));
    let other = Content::file("other.bin", 100_000, 7);
    other.copy_to(hub.path());
    let trace = hub.join("hub.trace");
    let setup = Setup::new(&hub.join("other.bin"), net.addr(Family::V4)).args(ALONE);
    let mut hub_node = setup.args(["--trace", trace.to_str().unwrap()]).start(&hub);
    let known = hub_node.addr().to_string();
    let content = Content::file("wanted.bin", 1 << 20, 5);
    let torrent = dir.join("wanted.torrent");
    make(content.path(), &torrent, &["-t", DEAD]);
    let args = ["--pex", "off", "--lsd", "off", "--dht", "read-only"];
    let args = [&args[..], &["--dht-node", &known]].concat();
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let mut seeder = setup.args(&args).start(&dir);
    let stranger = UdpSocket::bind((net.ip(Family::V4), 0)).unwrap();
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    stranger.send_to(ping, seeder.addr()).unwrap();
    let args = [&args[..], &["--no-seed"]].concat();
    let got = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
    assert_eq!(got.end().0, 0);
    // The stranger's first answer comes from the other node.
    stranger.send_to(ping, hub_node.addr()).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, from) = stranger.recv_from(&mut [0; 1500]).unwrap();
    assert_eq!(from, hub_node.addr());
    seeder.stop();
    hub_node.stop();
    let told = std::fs::read(&trace).unwrap();
    assert!(told.windows(7).any(|part| part == b"2:roi1e"));
}

/// The info-hash of a private torrent is never sent to a node; that of a public torrent is.
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
    // The hub records all that it receives.
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
