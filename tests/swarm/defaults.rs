//! Clients with their default settings download from everseed and seed to it, through the built-in tracker alone. Each
//! client has a machine of its own beside everseed's, so that no other peer can help it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Neighbour, Net};
use everseed_tests::seeder::{Getter, Setup, make};

#[test]
fn torrents_from_everseed() {
    each(|client| from_everseed(client, false));
}

#[test]
fn magnet_links_from_everseed() {
    each(|client| from_everseed(client, true));
}

#[test]
fn torrents_to_everseed() {
    each(to_everseed);
}

/// Where everseed listens.
const LISTEN: SocketAddr = SocketAddr::new(Neighbour::OURS, 6881);

/// Runs `work` for each client, all at the same time.
fn each(work: fn(Client)) {
    thread::scope(|scope| {
        for client in Client::WITH_DEFAULTS {
            scope.spawn(move || work(client));
        }
    });
}

/// The README's first command: `seed PATH`, and somebody gets the torrent or the link.
fn from_everseed(client: Client, link: bool) {
    let net = Net::new();
    let neighbour = Neighbour::new(&net);
    let dir = Dir::new("seed");
    let content = Content::file("defaults.bin", 4_000_001, 110);
    let mut seeder = Setup::new(content.path(), LISTEN).start(&dir);
    let mut torrent = seeder.torrent();
    if link {
        torrent = dir.join("link.magnet");
        fs::write(&torrent, seeder.value("magnet")).unwrap();
    }
    let mut download = client.download_by_default(&torrent, &neighbour);
    download.wait_until_complete(&content);
    seeder.stop();
}

/// A client seeds, and everseed, which is the tracker too, downloads.
fn to_everseed(client: Client) {
    let net = Net::new();
    let neighbour = Neighbour::new(&net);
    let dir = Dir::new("torrent");
    let content = Content::file("defaults.bin", 4_000_001, 111);
    let torrent = dir.join("this.torrent");
    let tracker = format!("http://{LISTEN}/announce");
    make(content.path(), &torrent, &["-t", &tracker]);
    let getter = Getter::start(&torrent, LISTEN, Dir::new("get"), &["--no-seed", "-v"]);
    let fill = |files: &Path| _ = content.copy_to(files);
    let mut seeder = client.seed_by_default(&torrent, &neighbour, &fill);
    let (code, dir) = getter.end_beside(&mut seeder);
    assert_eq!(code, 0, "exit code of a download from {client:?}");
    content.assert_same_in(&dir.join("files"), true);
}
