//! everseed never uploads faster than `--up`, on any machine.

use std::thread;
use std::time::{Duration, Instant};

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer};
use everseed_tests::seeder::{Setup, make};

const RATE: u64 = 2 << 20;
/// Bytes that may be sent at once after a pause.
const BURST: u64 = RATE / 2;

#[test]
fn one_limit_for_all_peers() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("limited.bin", 4 << 20, 60);
    let torrent = dir.join("limited.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let mut seeder = setup.up_bps(Some(RATE)).start(&dir);
    let addr = seeder.addr();
    let mut peers = [(); 3].map(|()| Peer::unchoked(addr, hash, true));
    let start = Instant::now();
    let blocks = 128;
    thread::scope(|scope| {
        for peer in &mut peers {
            scope.spawn(move || {
                for block in 0..blocks {
                    peer.request(0, (block % 4) * BLOCK, BLOCK);
                }
                let mut left = blocks;
                while left > 0 {
                    if let Message::Piece { .. } = peer.expect("a block") {
                        left -= 1;
                    }
                }
            });
        }
    });
    let bytes = 3 * u64::from(blocks * BLOCK);
    assert_rate(bytes, start.elapsed());
    seeder.stop();
}

#[test]
fn a_client_is_limited() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("limited.bin", 10 << 20, 61);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(RATE));
    let mut seeder = setup.start(&dir);
    let start = Instant::now();
    let mut download = Client::Libtorrent.download(seeder.torrent(), net.addr(Family::V4));
    download.finish(&content);
    assert_rate(10 << 20, start.elapsed());
    seeder.stop();
}

const BLOCK: u32 = 16 * 1024;

fn assert_rate(bytes: u64, took: Duration) {
    let least = Duration::from_millis((bytes - BURST) * 1000 / RATE);
    assert!(
        took >= least,
        "{bytes} bytes took {took:?}, which should be {least:?} at least"
    );
}
