//! Incomplete and damaged content: good pieces are served, bad ones are never sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer};
use everseed_tests::seeder::{Setup, make};

const BLOCK: u32 = 16 * 1024;
const PIECE: u32 = 4 * BLOCK;
const PIECES: u32 = 40;
const LEN: u64 = PIECE as u64 * PIECES as u64;

/// The pieces that are damaged.
const BAD: [u32; 4] = [0, 7, 8, 39];

#[test]
fn checked_first() {
    bad_pieces_stay("first");
}

#[test]
fn checked_when_asked_for() {
    bad_pieces_stay("lazy");
}

fn bad_pieces_stay(check: &str) {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("damaged.bin", LEN, 70);
    let torrent = dir.join("damaged.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    let copy = content.copy_to(&dir.sub("data"));
    damage(&copy, &BAD);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(&dir.sub("data"));
    let mut seeder = setup.args(["--check", check]).start(&dir);

    let mut peer = Peer::greet(seeder.addr(), hash, true);
    let told = match peer.expect("what pieces there are") {
        Message::HaveAll => vec![0xff; 5],
        Message::Bitfield(bits) => bits,
        other => panic!("{other:?} instead of what pieces there are"),
    };
    let has = |piece: u32| told[piece as usize / 8] & (0x80 >> (piece % 8)) != 0;
    for piece in 0..PIECES {
        let bad = BAD.contains(&piece);
        assert!(has(piece) || bad, "good piece {piece} is not offered");
        assert!(
            !has(piece) || !bad || check == "lazy",
            "bad piece {piece} is offered"
        );
    }

    let mut peer = Peer::unchoked(seeder.addr(), hash, true);
    let source = File::open(content.path()).unwrap();
    for piece in 0..PIECES {
        for block in 0..4 {
            peer.request(piece, block * BLOCK, BLOCK);
        }
        for _ in 0..4 {
            let answer = next_answer(&mut peer);
            match answer {
                Message::Reject(index, _, _) => assert!(BAD.contains(&index), "{index} rejected"),
                Message::Piece {
                    index,
                    begin,
                    bytes,
                } => {
                    assert!(!BAD.contains(&index), "a block of bad piece {index} left");
                    let mut ours = vec![0; BLOCK as usize];
                    let at = u64::from(index) * u64::from(PIECE) + u64::from(begin);
                    source.read_exact_at(&mut ours, at).unwrap();
                    assert!(bytes == ours, "other bytes at {index}:{begin}");
                }
                other => panic!("{other:?} instead of a block"),
            }
        }
    }
    seeder.stop();
}

/// Two seeders miss different pieces. Clients get all content from both together.
#[test]
fn two_halves_make_a_whole() {
    let net = Net::new();
    let content = Content::odd_folder();
    let (one, two) = (Dir::new("seed"), Dir::new("seed"));
    let listen = net.addr(Family::V4);
    let torrent = one.join("halves.torrent");
    let tracker = format!("http://{listen}/announce");
    make(content.path(), &torrent, &["-s", "32K", "-t", &tracker]);

    let first = content.copy_to(&one.sub("data"));
    fs::remove_dir_all(first.join("small")).unwrap();
    let copy = content.copy_to(&two.sub("data"));
    let big = copy.join("big.bin");
    File::options()
        .write(true)
        .open(big)
        .unwrap()
        .set_len(1000)
        .unwrap();

    let setup = |dir: &Dir, addr| Setup::new(&torrent, addr).data(&dir.sub("data"));
    let mut first = setup(&one, listen).start(&one);
    let mut second = setup(&two, net.addr(Family::V4)).start(&two);
    let start = |client: Client| client.download(&torrent, net.addr(Family::V4));
    for mut download in Client::ALL.map(start) {
        download.finish(&content);
    }
    second.stop();
    first.stop();
}

fn next_answer(peer: &mut Peer) -> Message {
    loop {
        let message = peer.expect("a block or a reject");
        if matches!(message, Message::Piece { .. } | Message::Reject(..)) {
            return message;
        }
    }
}

/// Flips one bit in each of these pieces.
fn damage(file: &Path, pieces: &[u32]) {
    let file = File::options().read(true).write(true).open(file).unwrap();
    for piece in pieces {
        let at = u64::from(*piece) * u64::from(PIECE) + 12_345;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 0x10;
        file.write_all_at(&byte, at).unwrap();
    }
}
