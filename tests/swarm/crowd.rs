//! Many clients download at the same time.

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::Setup;

/// Twenty clients of all kinds share six upload slots.
#[test]
fn twenty_at_once() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("crowd.bin", 48 << 20, 20);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["--slots", "6"]);
    let mut seeder = setup.start(&dir);
    let torrent = seeder.torrent();
    let kinds = Client::ALL.iter().cycle().take(20);
    let mut downloads: Vec<_> = kinds
        .map(|client| client.download(&torrent, net.addr(Family::V4)))
        .collect();
    for download in &mut downloads {
        download.finish(&content);
    }
    seeder.stop();
}

/// Several clients download several torrents from one port.
#[test]
fn several_torrents() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let contents = [
        Content::file("first.bin", 5_000_000, 31),
        Content::odd_folder(),
        Content::file("third.bin", 1, 33),
    ];
    let setup = Setup::new(contents[0].path(), net.addr(Family::V4));
    let more = contents[1..].iter().map(|c| c.path().display());
    let mut seeder = setup.args(more).start(&dir);
    let torrents = seeder.values("torrent");
    assert_eq!(torrents.len(), contents.len(), "torrents: {torrents:?}");
    let mut downloads = Vec::new();
    for (content, torrent) in contents.iter().zip(&torrents) {
        for client in Client::ALL {
            downloads.push((content, client.download(torrent, net.addr(Family::V4))));
        }
    }
    for (content, download) in &mut downloads {
        download.finish(content);
    }
    seeder.stop();
}
