//! Clients with the settings that they come with, through the built-in tracker alone. Each is
//! alone with everseed, on a machine of its own, so that nobody else can help it.

use std::fs;
use std::net::SocketAddr;
use std::thread;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Neighbour, Net};
use everseed_tests::seeder::Setup;

#[test]
fn torrents_from_everseed() {
    each(|client| from_everseed(client, false));
}

#[test]
fn magnet_links_from_everseed() {
    each(|client| from_everseed(client, true));
}

/// Where everseed listens.
const LISTEN: SocketAddr = SocketAddr::new(Neighbour::OURS, 6881);

/// Has each client do something, all at the same time.
fn each(work: fn(Client)) {
    thread::scope(|scope| {
        for client in Client::WITH_DEFAULTS {
            scope.spawn(move || work(client));
        }
    });
}

/// What the README says: `seed PATH`, and give the torrent or the link to anybody.
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
