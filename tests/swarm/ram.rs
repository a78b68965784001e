//! Memory does not grow with the content: a terabyte, a million pieces, a hundred thousand files.
//!
//! The files are sparse and the hashes are wrong, because everseed reads no piece that no peer requests.

use std::fs::{self, File};

use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::Setup;
use everseed_tests::usage::settled;

#[test]
fn a_terabyte() {
    same_memory("terabyte", 1 << 40, 16 << 20);
}

#[test]
fn a_million_pieces() {
    same_memory("pieces", 16 << 30, 16 << 10);
}

#[test]
fn a_hundred_thousand_files() {
    let names: Vec<_> = (0..100_000).map(|n| format!("{n:06}.bin")).collect();
    let small = memory("small", &[("", 1 << 20)], PIECE);
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let large = memory("files", &files, PIECE);
    assert_same(small, large, 10_000_000 / PIECE);
}

/// Seeding one file of `len` bytes takes as much memory as seeding one MiB.
fn same_memory(name: &str, len: u64, piece_len: u64) {
    let small = memory("small", &[("", 1 << 20)], PIECE);
    let large = memory(name, &[("", len)], piece_len);
    assert_same(small, large, len / piece_len);
}

/// Allows [`MARGIN`] more, and two bits for each piece that is still to be verified.
fn assert_same(small: u64, large: u64, pieces: u64) {
    let most = small + MARGIN + pieces / 4;
    assert!(large <= most, "{large} bytes, {small} for one MiB");
}

/// The private memory of a seeder once it no longer changes, in bytes. Its content is `files` with their lengths in the
/// folder `name`. A file with an empty name is the single file `name`.
fn memory(name: &str, files: &[(&str, u64)], piece_len: u64) -> u64 {
    let net = Net::new();
    let dir = Dir::in_memory("ram");
    let data = dir.sub("data");
    for (file, len) in files {
        let path = if file.is_empty() {
            data.join(name)
        } else {
            data.join(name).join(file)
        };
        let _ = fs::create_dir(path.parent().expect("a folder"));
        let file = File::create(path).and_then(|file| file.set_len(*len));
        file.expect("a sparse file");
    }
    let torrent = dir.join("x.torrent");
    fs::write(&torrent, metainfo(name, files, piece_len)).expect("a torrent");
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(&data);
    let mut seeder = setup.args(["--check", "lazy"]).start(&dir);
    let taken = settled(seeder.process.pid());
    seeder.stop();
    taken
}

/// A torrent with wrong hashes of the same content as in [`memory`].
pub(crate) fn metainfo(name: &str, files: &[(&str, u64)], piece_len: u64) -> Vec<u8> {
    let len: u64 = files.iter().map(|(_, len)| len).sum();
    let entry =
        |(file, len): &(&str, u64)| format!("d6:lengthi{len}e4:pathl{}:{file}ee", file.len());
    let what = match files {
        [("", len)] => format!("6:lengthi{len}e"),
        files => format!("5:filesl{}e", files.iter().map(entry).collect::<String>()),
    };
    let hashes = len.div_ceil(piece_len) * 20;
    let name = format!("4:name{}:{name}", name.len());
    let head = format!("d4:infod{what}{name}12:piece lengthi{piece_len}e6:pieces{hashes}:");
    let mut out = head.into_bytes();
    out.resize(out.len() + usize::try_from(hashes).expect("in memory"), 1);
    out.extend(b"ee");
    out
}

const PIECE: u64 = 16 << 10;

const MARGIN: u64 = 64 << 10;
