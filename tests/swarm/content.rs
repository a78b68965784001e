//! Each client downloads each kind of content from everseed, complete.

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Setup, make};

use crate::seed_to;

#[test]
fn one_gib_to_transmission() {
    seed_to(
        &[Client::Transmission],
        Family::V4,
        &Content::one_gib(),
        &[],
    );
}

#[test]
fn one_gib_to_aria2() {
    seed_to(&[Client::Aria2], Family::V4, &Content::one_gib(), &[]);
}

#[test]
fn one_gib_to_libtorrent() {
    seed_to(&[Client::Libtorrent], Family::V4, &Content::one_gib(), &[]);
}

#[test]
fn odd_folder_to_transmission() {
    seed_to(
        &[Client::Transmission],
        Family::V4,
        &Content::odd_folder(),
        &[],
    );
}

#[test]
fn odd_folder_to_aria2() {
    seed_to(&[Client::Aria2], Family::V4, &Content::odd_folder(), &[]);
}

#[test]
fn odd_folder_to_libtorrent() {
    seed_to(
        &[Client::Libtorrent],
        Family::V4,
        &Content::odd_folder(),
        &[],
    );
}

#[test]
fn pieces_of_16_mib_to_transmission() {
    big_pieces(Client::Transmission);
}

#[test]
fn pieces_of_16_mib_to_aria2() {
    big_pieces(Client::Aria2);
}

#[test]
fn pieces_of_16_mib_to_libtorrent() {
    big_pieces(Client::Libtorrent);
}

#[test]
fn without_checking_first() {
    let content = Content::file("lazy.bin", 64 << 20, 7);
    seed_to(&Client::ALL, Family::V4, &content, &["--check", "lazy"]);
}

#[test]
fn sent_past_our_memory() {
    for content in [
        Content::file("past.bin", 64 << 20, 8),
        Content::odd_folder(),
    ] {
        seed_to(&Client::ALL, Family::V4, &content, &["--send", "sendfile"]);
    }
}

/// The torrent is made beforehand, with pieces of 16 MiB and a short last piece.
fn big_pieces(client: Client) {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("big pieces.bin", (80 << 20) + 12_345, 5);
    let torrent = dir.join("big.torrent");
    let listen = net.addr(Family::V4);
    let tracker = format!("http://{listen}/announce");
    make(content.path(), &torrent, &["-s", "16M", "-t", &tracker]);
    let mut seeder = Setup::new(&torrent, listen)
        .data(content.parent())
        .start(&dir);
    client
        .download(&torrent, net.addr(Family::V4))
        .finish(&content);
    seeder.stop();
}
