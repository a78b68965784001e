//! The simulator replays what a real everseed recorded with `--trace`.

use std::fs;

use everseed_sim::replay::replay;
use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Setup};

/// A seeder serves a real client and an `everseed get`. A replay of either trace gives the same answers, and a replay
/// of a changed trace gives others.
#[test]
fn replayed() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("traced.bin", 20_000_001, 90);
    let [ours, theirs] = ["seed.trace", "get.trace"].map(|name| dir.join(name));
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.args(["--trace", ours.to_str().unwrap()]).start(&dir);
    let torrent = seeder.torrent();
    let mut client = Client::Aria2.download(&torrent, net.addr(Family::V4));
    client.finish(&content);
    let args = ["--no-seed", "--trace", theirs.to_str().unwrap()];
    let listen = net.addr(Family::V4);
    let (code, _) = Getter::start(&torrent, listen, Dir::new("get"), &args).end();
    assert_eq!(code, 0);
    seeder.stop();

    for (path, content_came) in [(&ours, false), (&theirs, true)] {
        let trace = fs::read(path).unwrap();
        let told = replay(&trace).unwrap();
        assert_eq!((told.difference, told.cut_off), (None, false));
        let all = if content_came {
            told.received
        } else {
            told.sent
        };
        assert!(all > 20_000_001, "{all} bytes of content");
        // The first handshake is found by the protocol's name. A bit of its info-hash is changed.
        let mut spoiled = trace;
        let name = b"\x13BitTorrent protocol";
        let at = spoiled.windows(name.len()).position(|w| w == name).unwrap();
        spoiled[at + name.len() + 8] ^= 1;
        let told = replay(&spoiled).unwrap();
        assert!(told.difference.is_some(), "{told}");
    }
}
