//! Strangers cannot fill the log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::http;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, handshake};
use everseed_tests::seeder::Setup;

/// Thousands of strangers announce, name an unknown torrent, and send nonsense. At each log level a few lines of each
/// kind are written, and the others are counted.
#[test]
fn a_flood_is_cut_and_counted() {
    let net = Net::new();
    let content = Content::file("flood.bin", 100_000, 35);
    // A line has some 50 bytes, and two thousand of each kind would come.
    for (args, most) in [(&["-q"][..], 1_000), (&[], 20_000), (&["-vv"], 120_000)] {
        let dir = Dir::new("seed");
        let setup = Setup::new(content.path(), net.addr(Family::V4)).args(args);
        let mut seeder = setup.start(&dir);
        let (addr, hash) = (seeder.addr(), http::escape(seeder.info_hash()));
        let before = seeder.process.output().len();
        for n in 1..=TIMES {
            let query = format!("/announce?info_hash={hash}&left=1&port={n}");
            http::get(addr, &query);
            say(addr, &handshake(InfoHash([n.to_le_bytes()[0]; 20]), true));
            say(addr, b"\x13BitTorrent protoco1");
            say(addr, b"GET /nothing HTTP/1.1\r\n\r\n");
        }
        seeder.stop();
        let output = seeder.process.output();
        let written = output.len() - before;
        assert!(written < most, "{args:?}: {written} bytes of log");
        let counted =
            output.contains(" more like this before") || output.contains(" more lines like this");
        assert_eq!(counted, args == ["-vv"], "{output}");
    }
}

/// Connects, sends `bytes`, and waits until everseed closes the connection.
fn say(addr: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.read_to_end(&mut Vec::new());
}

const TIMES: u32 = 2_000;
