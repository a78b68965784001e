//! Memory does not grow with the content: a terabyte, a million pieces.
//!
//! The files are holes, and the hashes in the torrents are wrong: nothing is read that nobody asks for.

use std::fs::{self, File};
use std::time::Duration;

use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::Setup;

#[test]
fn a_terabyte() {
    same_memory("terabyte", 1 << 40, 16 << 20);
}

#[test]
fn a_million_pieces() {
    same_memory("pieces", 16 << 30, 16 << 10);
}

/// Seeding `len` bytes takes what seeding one MiB does, give or take [`MARGIN`], and two bits for each
/// piece that is still to be verified.
fn same_memory(name: &str, len: u64, piece_len: u64) {
    let small = memory("small", 1 << 20, 16 << 10);
    let large = memory(name, len, piece_len);
    assert!(
        large <= small + MARGIN + len / piece_len / 4,
        "{name}: {large} bytes, {small} for one MiB"
    );
}

/// Anonymous memory of a seeder of this content, some time after its start.
fn memory(name: &str, len: u64, piece_len: u64) -> u64 {
    let net = Net::new();
    let dir = Dir::new("ram");
    let data = dir.sub("data");
    let torrent = dir.join("x.torrent");
    let file = File::create(data.join(name)).and_then(|file| file.set_len(len));
    file.expect("a sparse file");
    fs::write(&torrent, metainfo(name, len, piece_len)).expect("a torrent");
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(&data);
    let mut seeder = setup.args(["--check", "lazy"]).start(&dir);
    std::thread::sleep(SETTLE);
    let path = format!("/proc/{}/status", seeder.process.pid());
    let status = fs::read_to_string(path).expect("a running seeder");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.trim().parse().ok()).expect("KiB");
    seeder.stop();
    kib * 1024
}

fn metainfo(name: &str, len: u64, piece_len: u64) -> Vec<u8> {
    let mut out = format!("d4:infod6:lengthi{len}e").into_bytes();
    let hashes = len.div_ceil(piece_len) * 20;
    let rest = format!(
        "4:name{}:{name}12:piece lengthi{piece_len}e6:pieces{hashes}:",
        name.len()
    );
    out.extend(rest.bytes());
    out.resize(out.len() + usize::try_from(hashes).expect("in memory"), 1);
    out.extend(b"ee");
    out
}

const MARGIN: u64 = 64 << 10;

const SETTLE: Duration = Duration::from_secs(1);
