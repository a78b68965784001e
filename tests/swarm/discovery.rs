//! everseed and its peers find each other through trackers and magnet links.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::http;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Peer};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{STOP_TIMEOUT, Seeder, Setup, make};
use everseed_tests::tracker::Opentracker;
use everseed_tests::{PATIENCE, wait};

use crate::seed_to;

#[test]
fn built_in_tracker_over_ipv4() {
    let content = Content::file("v4.bin", 3_000_000, 40);
    seed_to(&Client::ALL, Family::V4, &content, &[]);
}

#[test]
fn built_in_tracker_over_ipv6() {
    let content = Content::file("v6.bin", 3_000_000, 41);
    seed_to(&Client::ALL, Family::V6, &content, &[]);
}

/// A client with only the link gets the torrent from everseed, then the content.
#[test]
fn magnet_links() {
    let net = Net::new();
    let dir = Dir::new("seed");
    // So many pieces that the metadata comes in several pieces itself.
    let content = Content::file("magnet.bin", 40_000_000, 49);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.start(&dir);
    let link = dir.join("link.magnet");
    fs::write(&link, seeder.value("magnet")).unwrap();
    for client in Client::ALL {
        let mut download = client.download_with(&link, net.addr(Family::V4), &[]);
        download.finish(&content);
    }
    seeder.stop();
}

#[test]
fn opentracker_over_http() {
    through_opentracker(Opentracker::http);
}

#[test]
fn opentracker_over_udp() {
    through_opentracker(Opentracker::udp);
}

/// everseed announces itself, clients download, and everseed tells the tracker when it stops.
fn through_opentracker(url: fn(&Opentracker) -> String) {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("tracked.bin", 3_000_000, 42);
    let torrent = dir.join("tracked.torrent");
    let (tracker_addr, hash, tracker) = with_opentracker(&net, &content, &torrent, url);
    let mut seeder = seed(&net, &content, &torrent, &dir);
    wait("everseed to announce itself", PATIENCE, || {
        (http::seeds(tracker_addr, hash) == 1).then_some(())
    });
    for client in Client::ALL {
        // aria2 speaks to UDP trackers through its DHT's socket. It is told of no node.
        let extra: &[&str] = match client {
            Client::Aria2 => &["--enable-dht=true"],
            _ => &[],
        };
        let mut download = client.download_with(&torrent, net.addr(Family::V4), extra);
        download.finish(&content);
    }
    // Every client told the tracker when it completed and when it left, except Transmission, which is killed.
    seeder.stop();
    let left = http::seeds(tracker_addr, hash);
    assert!(
        left <= 1,
        "everseed did not tell the tracker that it leaves"
    );
    drop(tracker);
}

/// The owner's trackers also get public torrents that name no tracker, but never private torrents.
#[test]
fn trackers_of_the_owner() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let public = Content::file("public.bin", 300_000, 50);
    let private = Content::file("private.bin", 300_000, 51);
    let torrents = [dir.join("public.torrent"), dir.join("private.torrent")];
    let hash = make(public.path(), &torrents[0], &[]);
    let hidden = make(private.path(), &torrents[1], &["-p"]);
    let addr = net.addr(Family::V4);
    let tracker = Opentracker::start(addr, &[hash, hidden]);
    let files = dir.sub("files");
    public.copy_to(&files);
    private.copy_to(&files);
    let setup = Setup::new(&torrents[1], net.addr(Family::V4)).data(&files);
    let public = torrents[0].display().to_string();
    let mut seeder = setup.args([&*public, "-t", &tracker.http()]).start(&dir);
    wait("everseed to announce what is public", PATIENCE, || {
        (http::seeds(addr, hash) == 1).then_some(())
    });
    assert_eq!(http::seeds(addr, hidden), 0);
    seeder.stop();
    assert_eq!(
        http::seeds(addr, hash),
        0,
        "everseed did not tell that it leaves"
    );
}

/// A client that only accepts connections: everseed has to connect to it.
#[test]
fn everseed_dials_whom_a_tracker_names() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("dialled.bin", 3_000_000, 43);
    let torrent = dir.join("dialled.torrent");
    let (addr, hash, _tracker) = with_opentracker(&net, &content, &torrent, Opentracker::http);
    let mut waiting =
        Client::Libtorrent.download_with(&torrent, net.addr(Family::V4), &["--only-accept"]);
    wait("libtorrent to announce itself", PATIENCE, || {
        let path = format!("/scrape?info_hash={}", http::escape(hash));
        let incomplete = http::integer(&http::get(addr, &path).1, "incomplete");
        (incomplete == Some(1)).then_some(())
    });
    let mut seeder = seed(&net, &content, &torrent, &dir);
    waiting.finish(&content);
    seeder.stop();
}

/// With `--share-torrent` everseed serves the .torrent at the URL that it prints.
#[test]
fn torrent_over_http() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::odd_folder();
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.start(&dir);
    let path = format!("/{}.torrent", seeder.info_hash());
    assert_eq!(http::get(seeder.addr(), &path).0, 404);
    assert_eq!(seeder.values("torrent-url"), [""; 0]);
    seeder.stop();
    let mut seeder = setup.args(["--share-torrent"]).start(&dir);
    let path = format!("/{}.torrent", seeder.info_hash());
    let (status, body) = http::get(seeder.addr(), &path);
    assert_eq!(status, 200);
    assert!(
        body == fs::read(seeder.torrent()).unwrap(),
        "another torrent"
    );
    let url = seeder.value("torrent-url");
    assert_eq!(url, format!("http://{}{path}", seeder.addr()));
    Client::Aria2
        .download(&url, net.addr(Family::V4))
        .finish(&content);
    seeder.stop();
}

/// `/announce` and `/scrape` answer as a client expects.
#[test]
fn built_in_tracker_answers() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("answers.bin", 100_000, 45);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let (addr, hash) = (seeder.addr(), http::escape(seeder.info_hash()));
    assert_eq!(http::seeds(addr, seeder.info_hash()), 1, "everseed itself");

    let announce = |peer: &str, rest: &str| {
        let id = format!("-TT0000-{peer:0>12}");
        let query = format!("info_hash={hash}&peer_id={id}&uploaded=0&downloaded=0&{rest}");
        let (status, body) = http::get(addr, &format!("/announce?{query}"));
        assert_eq!(status, 200, "{query}");
        body
    };
    let answer = announce("1", "left=100000&port=7001&compact=1&event=started");
    let compact = |ip: IpAddr, port: u16| match ip {
        IpAddr::V4(ip) => [&ip.octets()[..], &port.to_be_bytes()].concat(),
        IpAddr::V6(ip) => panic!("{ip} is no IPv4 address"),
    };
    let everseed = compact(addr.ip(), addr.port());
    assert_eq!(http::string(&answer, "peers"), Some(&everseed[..]));
    assert!(http::integer(&answer, "interval").is_some_and(|s| s >= 10));
    // The second peer is told of the first, with the address from which the first connected.
    let answer = announce("2", "left=100000&port=7002&compact=1&event=started");
    let peers = http::string(&answer, "peers").expect("peers");
    assert_eq!(peers.len(), 12, "everseed and the first peer");
    let first = compact(source_towards(addr), 7001);
    assert!(peers.chunks(6).any(|peer| peer == first));
    // A peer that sent `stopped` is not named any more.
    announce("1", "left=0&port=7001&compact=1&event=stopped");
    let answer = announce("2", "left=100000&port=7002&compact=1");
    assert_eq!(http::string(&answer, "peers"), Some(&everseed[..]));

    for bad in ["/announce", "/announce?info_hash=abc", "/announce?port=1"] {
        let (_, body) = http::get(addr, bad);
        let reason = http::string(&body, "failure reason");
        assert!(reason.is_some_and(|r| !r.is_empty()), "{bad} is refused");
    }
    let (_, body) = http::get(addr, &format!("/scrape?info_hash={}", "%00".repeat(20)));
    assert_eq!(http::integer(&body, "complete").unwrap_or(0), 0);
    assert_eq!(http::get(addr, "/nothing/here").0, 404);
    seeder.stop();
}

/// The address from which this machine connects to `addr`.
fn source_towards(addr: SocketAddr) -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(addr).unwrap();
    socket.local_addr().unwrap().ip()
}

/// everseed listens at an IPv4 and an IPv6 address at the same time.
#[test]
fn listens_at_several_addresses() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("several.bin", 1_000_000, 46);
    let (v4, v6) = (net.addr(Family::V4), net.addr(Family::V6));
    let mut seeder = Setup::new(content.path(), v4).listen(v6).start(&dir);
    for addr in [v4, v6] {
        Peer::unchoked(addr, seeder.info_hash(), true);
        assert_eq!(http::get(addr, "/scrape").0, 200);
        let family = if addr.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let peer = format!("--peer={addr}");
        let extra = ["--no-trackers", &peer];
        let mut download =
            Client::Libtorrent.download_with(&seeder.torrent(), net.addr(family), &extra);
        download.finish(&content);
    }
    seeder.stop();
}

/// A tracker that accepts connections and never answers delays neither peers nor a stop.
#[test]
fn silent_tracker() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("silent.bin", 1_000_000, 47);
    let silent = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let url = format!("http://{}/announce", silent.local_addr().unwrap());
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["-t", &url]);
    let mut seeder = setup.start(&dir);
    Peer::unchoked(seeder.addr(), seeder.info_hash(), true);
    seeder.stop();

    // Again with two signals: the second one does not wait for the tracker.
    let mut seeder = setup.start(&dir);
    let mut last = Instant::now();
    seeder.process.signal(Signal::TERM);
    let status = wait("everseed to end", STOP_TIMEOUT, || {
        // The kernel merges signals that come close together, so more are sent from time to time.
        if last.elapsed() > Duration::from_millis(300) {
            last = Instant::now();
            seeder.process.signal(Signal::TERM);
        }
        seeder.process.ended()
    });
    // The exit code would be 0 if it had waited for the tracker.
    assert_eq!(status.code(), Some(130));
}

/// Makes a torrent that names an opentracker, and starts that tracker.
fn with_opentracker(
    net: &Net,
    content: &Content,
    torrent: &Path,
    url: fn(&Opentracker) -> String,
) -> (SocketAddr, InfoHash, Opentracker) {
    let addr = net.addr(Family::V4);
    // The tracker's list needs the info-hash, and the torrent needs the tracker's address, which is not hashed.
    let hash = make(content.path(), torrent, &[]);
    let tracker = Opentracker::start(addr, &[hash]);
    fs::remove_file(torrent).unwrap();
    assert_eq!(make(content.path(), torrent, &["-t", &url(&tracker)]), hash);
    (addr, hash, tracker)
}

fn seed(net: &Net, content: &Content, torrent: &Path, dir: &Dir) -> Seeder {
    let setup = Setup::new(torrent, net.addr(Family::V4));
    setup.data(content.parent()).start(dir)
}
