//! `--public-address`: the address at which others reach this machine is in links and in the tracker's answers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dial::dial_from;
use everseed_tests::dir::Dir;
use everseed_tests::http;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::InfoHash;
use everseed_tests::seeder::Setup;

/// The router's public address, and a stranger's address.
const PUBLIC: &str = "203.0.113.7";
const STRANGER: &str = "203.0.113.9";

/// The tracker does not tell a stranger our local address. Without a public address a note says that links work in the
/// local network only. With one, links name it, and so does the tracker.
#[test]
fn what_strangers_are_told() {
    let net = Net::new();
    let home = net.ip(Family::V4);
    for ip in [PUBLIC, STRANGER] {
        ip_does(&["address", "add", &format!("{ip}/32"), "dev", "lo"]);
    }
    let world = ["route", "replace", "192.0.2.0/24", "dev", "lo", "src"];
    ip_does(&[&world[..], &[&home.to_string()]].concat());
    let port = net.addr(Family::V4).port();
    let dir = Dir::new("seed");
    let content = Content::file("outside.bin", 1 << 20, 5);
    let anywhere = SocketAddr::from(([0, 0, 0, 0], port));
    let here = SocketAddr::new(home, port);
    let setup = Setup::new(content.path(), anywhere);

    let mut seeder = setup.clone().start(&dir);
    let output = seeder.process.output();
    let link = |ip: &str| format!("&tr=http%3A%2F%2F{ip}%3A{port}%2Fannounce");
    assert!(output.contains(&link(&home.to_string())), "{output}");
    let note = format!("that name http://{here}/announce work within your network only");
    assert_eq!(output.matches(&note).count(), 1, "{output}");
    let hash = seeder.info_hash();
    let home_bytes = compact(here);
    assert_eq!(told(here, hash, STRANGER.parse().unwrap()), b"");
    assert!(told(here, hash, home).starts_with(&home_bytes));
    seeder.stop();

    let outside = format!("{PUBLIC}:{port}");
    let mut seeder = setup.args(["--public-address", &outside]).start(&dir);
    let output = seeder.process.output();
    let magnet = format!("{}&x.pe={outside}", link(PUBLIC));
    assert!(
        output.contains(&magnet) && !output.contains("note: "),
        "{output}"
    );
    assert!(!output.contains(&link(&home.to_string())), "{output}");
    let public_bytes = compact(outside.parse().unwrap());
    assert_eq!(told(here, hash, STRANGER.parse().unwrap()), public_bytes);
    let both = told(here, hash, home);
    assert!(
        both.starts_with(&[home_bytes, public_bytes].concat()),
        "{both:?}"
    );
    // The torrent names the public address too.
    for client in Client::ALL {
        let mut download = client.download(seeder.torrent(), net.addr(Family::V4));
        download.finish(&content);
    }
    seeder.stop();
}

/// The peers that the tracker names to a peer at `from`.
fn told(tracker: SocketAddr, hash: InfoHash, from: IpAddr) -> Vec<u8> {
    let IpAddr::V4(from) = from else {
        panic!("{from}");
    };
    let mut stream = dial_from(from, tracker).unwrap();
    let hash = http::escape(hash);
    let request = format!(
        "GET /announce?info_hash={hash}&peer_id=-XX0000-000000000000&port=1&left=1&compact=1 HTTP/1.0\r\n\
         Host: {tracker}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let shown = String::from_utf8_lossy(&answer).into_owned();
    let peers = http::string(&answer, "peers");
    peers.unwrap_or_else(|| panic!("{shown}")).to_vec()
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    match addr.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &addr.port().to_be_bytes()].concat(),
        IpAddr::V6(ip) => [&ip.octets()[..], &addr.port().to_be_bytes()].concat(),
    }
}

fn ip_does(args: &[&str]) {
    let done = Command::new("ip").args(args).status().unwrap();
    assert!(done.success(), "ip {args:?}");
}
