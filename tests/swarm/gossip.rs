//! Peers find each other without a tracker: in the local network (LSD, BEP 14), and through other peers (PEX, BEP 11).

use std::net::SocketAddr;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Neighbour, Net};
use everseed_tests::seeder::{Getter, Setup, make};

/// A tracker that does not exist.
const DEAD: &str = "http://127.0.0.1:9/announce";

/// everseed seeds on one machine. On a second machine another everseed finds it, then libtorrent with default settings.
#[test]
fn by_lsd_alone() {
    let net = Net::new();
    let neighbour = Neighbour::new(&net);
    let content = Content::file("near.bin", 4 << 20, 14);
    let dir = Dir::new("seed");
    let torrent = dir.join("near.torrent");
    make(content.path(), &torrent, &["-t", DEAD]);
    let listen = SocketAddr::new(Neighbour::OURS, 6881);
    let setup = Setup::new(&torrent, listen).data(content.parent());
    let mut seeder = setup.start(&dir);
    let there = "172.16.5.2:7000".parse().unwrap();
    let enter = neighbour.enter();
    let getter = Getter::start_in(&torrent, there, Dir::new("get"), &["--no-seed"], &enter);
    let (code, got) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    let mut client = Client::Libtorrent.download_by_default(&torrent, &neighbour);
    client.wait_until_complete(&content);
    seeder.stop();
}

/// A peer that knows only a slow peer is told of the seed by it.
#[test]
fn by_pex_alone() {
    let net = Net::new();
    let content = Content::file("told.bin", 4 << 20, 15);
    let dir = Dir::new("seed");
    let torrent = dir.join("told.torrent");
    make(content.path(), &torrent, &["-t", DEAD]);
    let (hub, full) = (net.addr(Family::V4), net.addr(Family::V4));
    // The hub has no piece and knows the seed. The later peer knows only the hub, which is too slow to help it.
    let setup = Setup::new(&torrent, full).data(content.parent());
    let mut seeder = setup.start(&dir);
    let seed = full.to_string();
    let args = ["--peer", &seed, "--down", "20k", "--up", "1k"];
    let mut first = Getter::start(&torrent, hub, Dir::new("hub"), &args);
    first.wait_for("listening: ");
    let known = hub.to_string();
    let args = ["--peer", &known, "--no-seed"];
    let getter = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
    let (code, got) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    first.stop();
    seeder.stop();
}
