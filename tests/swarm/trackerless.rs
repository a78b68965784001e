//! Real clients and everseed find each other through the DHT alone, PEX alone, or LSD alone. Each client has content
//! that everseed wants, and wants content that everseed has. No tracker answers.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use everseed_tests::client::{Client, Download, name};
use everseed_tests::content::{Content, allocated};
use everseed_tests::dial::dial_from;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Neighbour, Net, set_up_ours};
use everseed_tests::peer::{INTERESTED, InfoHash, handshake, message};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{Getter, Seeder, Setup, make};
use everseed_tests::service::Service;
use everseed_tests::tracker::Opentracker;
use everseed_tests::way::{Task, Way};
use everseed_tests::{PATIENCE, wait};

#[test]
fn by_the_dht_alone() {
    meet(Way::Dht, Family::V4);
}

#[test]
fn by_the_dht_alone_over_ipv6() {
    meet(Way::Dht, Family::V6);
}

#[test]
fn by_pex_alone() {
    meet(Way::Pex, Family::V4);
}

#[test]
fn by_pex_alone_over_ipv6() {
    meet(Way::Pex, Family::V6);
}

#[test]
fn by_lsd_alone() {
    meet(Way::Lsd, Family::V4);
}

#[test]
fn by_lsd_alone_over_ipv6() {
    meet(Way::Lsd, Family::V6);
}

/// everseed knows one client, which tells it of another peer by PEX.
#[test]
fn clients_tell_us_by_pex() {
    let net = Net::new();
    let dir = Dir::new("trackerless");
    let clients = Client::WITH_DEFAULTS.into_iter();
    thread::scope(|scope| {
        for (client, n) in clients
            .filter(|client| client.knows(Way::Pex, Family::V4))
            .zip(0..)
        {
            let shared = Shared::new(&dir, &format!("of {client:?}"), n);
            let [hub, ours, told] = [(); 3].map(|()| net.addr(Family::V4));
            scope.spawn(move || {
                let task = Task {
                    way: Way::Pex,
                    listen: hub,
                    nodes: &[],
                    what: &[&shared.torrent],
                    enter: &[],
                };
                let fill = |files: &Path| _ = shared.content.copy_to(files);
                let _client = client.stay_by(&task, &fill);
                let what = format!("{client:?} to answer");
                wait(&what, PATIENCE, || answers(hub, shared.hash).ok());
                let (known, down) = (hub.to_string(), ["--down", "1k"]);
                let args = [&only(Way::Pex)[..], &["--peer", &known], &down].concat();
                let mut getter = Getter::start(&shared.torrent, ours, Dir::new("get"), &args);
                // aria2 tells a peer only of peers that connect later.
                getter.wait_for("| 1 peer");
                let listener = TcpListener::bind(told).unwrap();
                listener.set_nonblocking(true).unwrap();
                let _told = call_by_pex(told, hub, shared.hash);
                wait(&format!("{client:?} to tell of {told}"), PATIENCE, || {
                    let (_, from) = listener.accept().ok()?;
                    (from.ip() == ours.ip()).then_some(())
                });
                getter.stop();
            });
        }
    });
}

/// The only tracker is killed during a download, which goes on. Later peers, everseed and libtorrent, find the others
/// in the DHT, or through the one peer that they know.
#[test]
fn the_tracker_dies() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("orphaned.bin", 4 << 20, 20);
    let (tracker, torrent) = (net.addr(Family::V4), dir.join("orphaned.torrent"));
    let announce = format!("http://{tracker}/announce");
    let hash = make(content.path(), &torrent, &["-t", &announce]);
    let mut tracker = Opentracker::start(tracker, &[hash]);
    let nodes = Nodes::new(&net, Way::Dht, Family::V4);
    let known = nodes.addrs[0].to_string();
    let here = net.addr(Family::V4);
    let mut seeder = Setup::new(&torrent, here)
        .data(content.parent())
        .args(["--lsd", "off", "--dht-node", &known])
        .up_bps(Some(1 << 20))
        .start(&dir);
    let start = |args: &[&str]| {
        let args = [&["--no-seed", "--lsd", "off"], args].concat();
        let listen = net.addr(Family::V4);
        let getter = Getter::start(&torrent, listen, Dir::new("get"), &args);
        (listen.to_string(), getter)
    };
    // The first peer uses only the tracker.
    let (_, getter) = start(&["--dht", "off", "--pex", "off"]);
    let got = getter.files();
    wait("a part of it", PATIENCE, || {
        (allocated(&got) > 1 << 19).then_some(())
    });
    tracker.process().signal(Signal::KILL);
    tracker.process().wait(PATIENCE);
    assert!(allocated(&got) < 4 << 20, "it was complete before");
    let mut getters = vec![getter];
    getters.push(start(&["--pex", "off", "--dht-node", &known]).1);
    let (hub, mut slow) = start(&["--dht", "off", "--peer", &here.to_string(), "--down", "1k"]);
    slow.wait_for("listening: ");
    getters.push(start(&["--dht", "off", "--peer", &hub]).1);
    let task = Task {
        way: Way::Dht,
        listen: net.addr(Family::V4),
        nodes: &nodes.addrs,
        what: &[&torrent],
        enter: &[],
    };
    let mut download = Client::Libtorrent.stay_by(&task, &|_| {});
    for getter in getters {
        let (code, dir) = getter.end();
        assert_eq!(code, 0);
        content.assert_same_in(&dir.join("files"), true);
    }
    download.wait_until_complete(&content);
    slow.stop();
    seeder.stop();
}

/// A tracker that does not exist.
const DEAD: &str = "http://127.0.0.1:9/announce";

/// A client, the content that everseed seeds to it, and the content that it seeds to everseed.
struct Pair {
    client: Client,
    listen: SocketAddr,
    ours: Shared,
    theirs: Shared,
}

/// Content, its .torrent and its magnet link.
struct Shared {
    content: Content,
    hash: InfoHash,
    torrent: PathBuf,
    link: PathBuf,
}

impl Shared {
    fn new(dir: &Dir, name: &str, seed: u64) -> Shared {
        let content = Content::file(name, 1 << 20, seed);
        let torrent = dir.join(format!("{name}.torrent"));
        let hash = make(content.path(), &torrent, &["-t", DEAD]);
        let link = dir.join(format!("{name}.magnet"));
        fs::write(&link, format!("magnet:?xt=urn:btih:{hash}")).unwrap();
        Shared {
            content,
            hash,
            torrent,
            link,
        }
    }

    /// The file to begin with: with the DHT the magnet link, otherwise the .torrent.
    fn name(&self, way: Way) -> &Path {
        match way {
            Way::Dht => &self.link,
            _ => &self.torrent,
        }
    }
}

/// Each client downloads a torrent of its own from everseed, and everseed downloads one from each client.
fn meet(way: Way, family: Family) {
    let net = Net::new();
    let place = Place::new(&net, way, family);
    let dir = Dir::new("trackerless");
    let pairs: Vec<Pair> = Client::WITH_DEFAULTS
        .into_iter()
        .filter(|client| client.knows(way, family))
        .zip(0..)
        .map(|(client, n)| Pair {
            client,
            listen: place.addr(&net, n),
            ours: Shared::new(&dir, &format!("for {client:?}"), 2 * n),
            theirs: Shared::new(&dir, &format!("of {client:?}"), 2 * n + 1),
        })
        .collect();
    let nodes = Nodes::new(&net, way, family);
    let called = pairs.iter().filter(|pair| pair.client.calls(way));
    let (home, here) = (Dir::new("seed"), place.ours(&net));
    let mut seeds = seed(&home, way, here, called.clone(), &nodes);
    for pair in called {
        nodes.wait_until_they_know(&pair.ours, here);
    }
    let downloads: Vec<Download> = pairs
        .iter()
        .map(|pair| {
            let task = Task {
                way,
                listen: pair.listen,
                nodes: &nodes.addrs,
                what: &[&pair.theirs.torrent, pair.ours.name(way)],
                enter: &place.enter,
            };
            let fill = |files: &Path| _ = pair.theirs.content.copy_to(files);
            pair.client.stay_by(&task, &fill)
        })
        .collect();
    let hub = (way == Way::Pex).then(|| Hub::new(net.addr(family), here, &pairs));
    thread::scope(|scope| {
        for (pair, mut download) in pairs.iter().zip(downloads) {
            let (net, place, nodes, hub) = (&net, &place, &nodes, &hub);
            scope.spawn(move || {
                nodes.wait_until_they_know(&pair.theirs, pair.listen);
                let known = nodes.addrs.first().or(hub.as_ref().map(|hub| &hub.addr));
                let getter = get(way, pair.theirs.name(way), place.ours(net), known);
                let home = Dir::new("seed");
                let seeder = (!pair.client.calls(way)).then(|| {
                    nodes.wait_until_they_know(&pair.ours, pair.listen);
                    seed(&home, way, place.ours(net), [pair].into_iter(), nodes)
                });
                let (code, dir) = getter.end();
                assert_eq!(code, 0, "exit code of a download from {:?}", pair.client);
                pair.theirs.content.assert_same_in(&dir.join("files"), true);
                download.wait_until_complete(&pair.ours.content);
                drop(seeder);
            });
        }
    });
    seeds.stop();
}

/// The addresses of everseed and the clients.
struct Place {
    family: Family,
    /// The machine of the clients, for LSD: multicast needs another interface than loopback.
    neighbour: Option<Neighbour>,
    enter: Vec<String>,
    next: AtomicU16,
}

impl Place {
    fn new(net: &Net, way: Way, family: Family) -> Place {
        let neighbour = (way == Way::Lsd).then(|| Neighbour::new(net));
        if let Some(there) = &neighbour {
            let mut lines = "route add 239.0.0.0/8 dev there\n".to_owned();
            for n in 0..Client::WITH_DEFAULTS.len() {
                lines += &format!("address add 172.16.5.{}/24 dev there\n", 10 + n);
                lines += &format!("address add fd00:5::{:x}/64 dev there nodad\n", 16 + n);
            }
            there.set_up(&lines);
            set_up_ours(net, "address add fd00:5::1/64 dev here nodad\n");
        }
        if (way, family) == (Way::Dht, Family::V6) {
            // Transmission starts its DHT only if there is a route to the internet.
            let lines = "address add 2001:db8::1/128 dev lo nodad\nroute add 2000::/3 dev lo\n";
            set_up_ours(net, lines);
        }
        let enter = neighbour.as_ref().map_or(Vec::new(), Neighbour::enter);
        Place {
            family,
            neighbour,
            enter,
            next: AtomicU16::new(6881),
        }
    }

    /// An address for everseed.
    fn ours(&self, net: &Net) -> SocketAddr {
        let port = self.next.fetch_add(1, Ordering::Relaxed);
        match (&self.neighbour, self.family) {
            (None, family) => net.addr(family),
            (_, Family::V4) => SocketAddr::new(Neighbour::OURS, port),
            (_, Family::V6) => SocketAddr::new("fd00:5::1".parse().unwrap(), port),
        }
    }

    fn addr(&self, net: &Net, n: u64) -> SocketAddr {
        let ip: IpAddr = match (&self.neighbour, self.family) {
            (None, family) => return net.addr(family),
            (_, Family::V4) => format!("172.16.5.{}", 10 + n).parse().unwrap(),
            (_, Family::V6) => format!("fd00:5::{:x}", 16 + n).parse().unwrap(),
        };
        SocketAddr::new(ip, 6900 + u16::try_from(n).unwrap())
    }
}

/// The first nodes of the DHT. There are nine, because Transmission searches only when it knows so many.
struct Nodes {
    addrs: Vec<SocketAddr>,
    _nodes: Vec<(Seeder, Dir)>,
}

impl Nodes {
    fn new(net: &Net, way: Way, family: Family) -> Nodes {
        let count = if way == Way::Dht { 9 } else { 0 };
        let content = Content::file("other.bin", 20_000, 7);
        let mut addrs: Vec<SocketAddr> = Vec::new();
        let mut nodes = Vec::new();
        for n in 0..count {
            let (dir, addr) = (Dir::new("node"), net.addr(family));
            let data = dir.sub("data").join(format!("other {n}.bin"));
            fs::copy(content.path(), &data).unwrap();
            let mut setup = Setup::new(&data, addr).args(only(way));
            for known in &addrs {
                setup = setup.args(["--dht-node".to_owned(), known.to_string()]);
            }
            nodes.push((setup.start(&dir), dir));
            addrs.push(addr);
        }
        Nodes {
            addrs,
            _nodes: nodes,
        }
    }

    /// Waits until `peer` has announced the torrent to one of the nodes.
    fn wait_until_they_know(&self, shared: &Shared, peer: SocketAddr) {
        let Some(&first) = self.addrs.first() else {
            return;
        };
        let question = [
            &b"d1:ad2:id20:somebody asks a node9:info_hash20:"[..],
            &shared.hash.0,
            b"e1:q9:get_peers1:t1:x1:y1:qe",
        ]
        .concat();
        let known = compact(peer);
        let socket = UdpSocket::bind((first.ip(), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let what = format!(
            "a node of the DHT to know {peer} for {}",
            shared.content.name()
        );
        wait(&what, PATIENCE, || {
            for node in &self.addrs {
                let _ = socket.send_to(&question, node);
            }
            let mut packet = [0; 2048];
            let answers = std::iter::from_fn(|| {
                socket
                    .recv(&mut packet)
                    .ok()
                    .map(|len| packet[..len].to_vec())
            });
            let told = answers
                .into_iter()
                .any(|answer| answer.windows(known.len()).any(|part| part == known));
            thread::sleep(Duration::from_millis(200));
            told.then_some(())
        });
    }
}

/// The options that leave everseed one way to find peers.
fn only(way: Way) -> [&'static str; 6] {
    let on = |this| if way == this { "on" } else { "off" };
    [
        "--dht",
        on(Way::Dht),
        "--pex",
        on(Way::Pex),
        "--lsd",
        on(Way::Lsd),
    ]
}

/// Starts everseed as the seeder of the clients' content.
fn seed<'a>(
    dir: &Dir,
    way: Way,
    listen: SocketAddr,
    pairs: impl Iterator<Item = &'a Pair>,
    nodes: &Nodes,
) -> Seeder {
    let data = dir.sub("data");
    let mut torrents = Vec::new();
    for pair in pairs {
        pair.ours.content.copy_to(&data);
        torrents.push(pair.ours.torrent.display());
    }
    let mut setup = Setup::new(Path::new(&torrents[0].to_string()), listen)
        .args(&torrents[1..])
        .data(&data)
        .args(only(way));
    for node in &nodes.addrs {
        setup = setup.args(["--dht-node".to_owned(), node.to_string()]);
    }
    setup.start(dir)
}

/// Starts a download that knows at most one node or peer.
fn get(way: Way, what: &Path, listen: SocketAddr, known: Option<&SocketAddr>) -> Getter {
    let known = known.map(SocketAddr::to_string);
    let mut args = only(way).to_vec();
    args.push("--no-seed");
    if let Some(known) = &known {
        let key = if way == Way::Dht {
            "--dht-node"
        } else {
            "--peer"
        };
        args.extend([key, known]);
    }
    Getter::start(Path::new(&name(what)), listen, Dir::new("get"), &args)
}

/// A peer that all others know. It has no piece, downloads next to nothing, and tells each peer of the others (PEX).
struct Hub {
    addr: SocketAddr,
    _service: Service,
    _dir: Dir,
}

impl Hub {
    fn new(addr: SocketAddr, seeds: SocketAddr, pairs: &[Pair]) -> Hub {
        let dir = Dir::new("hub");
        let files = dir.sub("files").display().to_string();
        let mut config = "dht = \"off\"\nlsd = \"off\"\ndown = \"1k\"\nup = \"1k\"\n".to_owned();
        for pair in pairs {
            let client = pair.listen;
            // A peer that does not answer at first is tried again only a minute later.
            for shared in [&pair.ours, &pair.theirs] {
                let what = format!("{:?} to answer for {}", pair.client, shared.content.name());
                wait(&what, PATIENCE, || answers(client, shared.hash).ok());
            }
            for (shared, peers) in [
                (&pair.ours, format!("\"{seeds}\", \"{client}\"")),
                (&pair.theirs, format!("\"{client}\"")),
            ] {
                let torrent = shared.torrent.display();
                config += &format!(
                    "[[get]]\ntorrent = \"{torrent}\"\nout = \"{files}\"\npeer = [{peers}]\n"
                );
            }
        }
        Hub {
            addr,
            _service: Service::start(&dir, addr, &config, &[]),
            _dir: dir,
        }
    }
}

/// Connects as a peer of which others may tell: it names its port, is interested, and reads what it gets.
fn call_by_pex(from: SocketAddr, to: SocketAddr, hash: InfoHash) -> TcpStream {
    let SocketAddr::V4(listen) = from else {
        panic!("{from} is no IPv4 address")
    };
    let mut stream = dial_from(*listen.ip(), to).unwrap();
    let mut greeting = handshake(hash, false);
    // The bit of the extension protocol (BEP 10).
    greeting[25] |= 0x10;
    stream.write_all(&greeting).unwrap();
    // aria2 disconnects if more arrives before its own handshake.
    stream.read_exact(&mut [0; 68]).unwrap();
    let extended = format!("\0d1:md6:ut_pexi1ee1:pi{}ee", listen.port());
    let said = [message(20, extended.as_bytes()), message(INTERESTED, &[])].concat();
    stream.write_all(&said).unwrap();
    let mut reader = stream.try_clone().unwrap();
    thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    stream
}

/// Succeeds if a handshake is answered.
fn answers(addr: SocketAddr, hash: InfoHash) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&handshake(hash, false))?;
    stream.read_exact(&mut [0; 68])
}

/// An address in the DHT's compact form.
fn compact(addr: SocketAddr) -> Vec<u8> {
    let port = addr.port().to_be_bytes();
    match addr.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &port].concat(),
        IpAddr::V6(ip) => [&ip.octets()[..], &port].concat(),
    }
}
