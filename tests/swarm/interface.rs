//! `listen = "wg0"`: the interface comes, goes and changes, and no packet leaves through another one.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Neighbour, Net, set_up_ours};
use everseed_tests::peer::{InfoHash, Peer};
use everseed_tests::seeder::make;
use everseed_tests::service::Service;
use everseed_tests::{PATIENCE, wait};

/// The world outside: an HTTP tracker, a UDP tracker and a peer. Each reports the addresses that connect to it.
struct World {
    http: Receiver<IpAddr>,
    udp: Receiver<IpAddr>,
    peer: Receiver<IpAddr>,
}

impl World {
    fn new(neighbour: &Neighbour) -> World {
        neighbour.set_up(&format!("address add {OUTSIDE}/32 dev lo\n"));
        let open = || {
            let listener = |port| TcpListener::bind((OUTSIDE, port)).unwrap();
            let udp = UdpSocket::bind((OUTSIDE, TRACKER)).unwrap();
            (listener(TRACKER), udp, listener(PEER))
        };
        let (http, udp, peer) = neighbour.inside(open);
        let answer = b"HTTP/1.0 200 OK\r\n\r\nd8:intervali1800e5:peers0:e";
        World {
            http: hear(http, answer),
            peer: hear(peer, b""),
            udp: hear_udp(udp),
        }
    }

    /// Waits until all three were contacted from this address.
    fn is_called_from(&self, ip: &str) {
        let ip: IpAddr = ip.parse().unwrap();
        for (who, heard) in [
            ("HTTP tracker", &self.http),
            ("UDP tracker", &self.udp),
            ("peer", &self.peer),
        ] {
            wait(
                &format!("the {who} to be called from {ip}"),
                PATIENCE,
                || heard.try_iter().find(|from| *from == ip),
            );
        }
    }
}

fn hear(listener: TcpListener, answer: &'static [u8]) -> Receiver<IpAddr> {
    let (tell, heard) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 2000]);
            let _ = stream.write_all(answer);
            let _ = tell.send(stream.peer_addr().unwrap().ip());
        }
    });
    heard
}

/// A UDP tracker that accepts every connect request and answers announces without peers. It reports who sent them.
fn hear_udp(socket: UdpSocket) -> Receiver<IpAddr> {
    let (tell, heard) = channel();
    thread::spawn(move || {
        let mut packet = [0; 2000];
        while let Ok((_, from)) = socket.recv_from(&mut packet) {
            let answer = match packet[11] {
                0 => [&packet[8..16], &[5; 8]].concat(),
                _ => [&packet[8..16], &[0, 0, 7, 8], &[0; 8]].concat(),
            };
            let _ = socket.send_to(&answer, from);
            let _ = tell.send(from.ip());
        }
    });
    heard
}

/// At first there is no such interface. It comes, goes, and comes back with other addresses. Whatever the routes say,
/// no packet is seen on the cable that leads outside.
#[test]
fn nothing_leaves_by_another() {
    let net = Net::new();
    let neighbour = Neighbour::new(&net);
    neighbour.lay("wan0", "wan");
    neighbour.set_up("address add 192.0.2.2/24 dev wan\n");
    set_up_ours(
        &net,
        "address add 192.0.2.1/24 dev wan0\nroute add default via 192.0.2.2\n",
    );
    let world = World::new(&neighbour);
    let come = |ours: &str| {
        neighbour.lay("vpn0", "vpn");
        neighbour.set_up("address add 10.8.0.2/24 dev vpn\naddress add fd08::2/64 dev vpn nodad\n");
        // The route to the world leads through the other interface, unless a socket is bound to this one.
        set_up_ours(
            &net,
            &format!(
                "address add {ours}/24 dev vpn0\naddress add fd08::1/64 dev vpn0 nodad\n\
                 route add default via 10.8.0.2 dev vpn0 metric 500\n"
            ),
        );
    };
    let go = || set_up_ours(&net, "link delete vpn0\n");

    let dir = Dir::new("run");
    let seeded = Content::file("seeded.bin", 100_000, 3);
    let wanted = Content::file("wanted.bin", 100_000, 4);
    let torrent = |content: &Content, args: &[&str]| {
        let torrent = dir.join(format!("{}.torrent", content.name()));
        let hash = make(content.path(), &torrent, args);
        (torrent.display().to_string(), hash)
    };
    let http = format!("http://{OUTSIDE}:{TRACKER}/announce");
    let udp = format!("udp://{OUTSIDE}:{TRACKER}/announce");
    let (first, hash) = torrent(&seeded, &["-t", &http]);
    let (second, _) = torrent(&wanted, &["-t", &udp]);
    let config = format!(
        "log = \"info\"\n[[seed]]\npath = \"{first}\"\ndata = \"{}\"\n[[get]]\ntorrent = \"{second}\"\nout = \"{}\"\n\
         peer = \"{OUTSIDE}:{PEER}\"\n",
        seeded.parent().display(),
        dir.sub("out").display(),
    );
    let mut service = Service::start(&dir, "vpn0:7000", &config, &[]);
    service.wait_for("vpn0 is not there, is down or has no address", 1);
    service.wait_for("seeding: seeded.bin", 1);
    service.wait_for("downloading: wanted.bin", 1);
    service.wait_for("the interface to call by has no address now", 2);

    come("10.8.0.1");
    service.wait_for("10.8.0.1:7000: it listens now", 1);
    service.wait_for("[fd08::1]:7000: it listens now", 1);
    world.is_called_from("10.8.0.1");
    let served = |to: SocketAddr| {
        let peer = neighbour.inside(move || Peer::unchoked(to, hash, false));
        block_of(peer)
    };
    let peer = served("10.8.0.1:7000".parse().unwrap());
    served("[fd08::1]:7000".parse().unwrap());

    // A second address on the interface disconnects no peer.
    set_up_ours(&net, "address add 10.8.0.9/24 dev vpn0\n");
    service.wait_for("10.8.0.9:7000: it listens now", 1);
    block_of(peer);
    set_up_ours(&net, "address delete 10.8.0.9/24 dev vpn0\n");
    service.wait_for("vpn0 does not have 10.8.0.9 any more", 1);

    go();
    service.wait_for("vpn0 does not have 10.8.0.1 any more", 1);
    assert_eq!(neighbour.packets("wan"), 0, "something left by the other");

    come("10.8.0.77");
    service.wait_for("10.8.0.77:7000: it listens now", 1);
    world.is_called_from("10.8.0.77");
    served("10.8.0.77:7000".parse().unwrap());
    // An interface that is down counts as away.
    set_up_ours(&net, "link set vpn0 down\n");
    service.wait_for("vpn0 does not have 10.8.0.77 any more", 1);
    service.stop();

    assert_eq!(neighbour.packets("wan"), 0, "something left by the other");
    // The counter works: a packet that does leave is seen.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(b"x", (OUTSIDE, 9)).unwrap();
    wait("a packet on the cable", PATIENCE, || {
        (neighbour.packets("wan") > 0).then_some(())
    });
}

/// Requests a block over this connection, and waits for it.
fn block_of(mut peer: Peer) -> Peer {
    peer.block(0, 0, 16_384);
    peer
}

/// `seed` waits for the interface too, and prints links that name its address.
#[test]
fn a_command_waits_for_an_interface() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("lo.bin", 100_000, 3);
    let argv = [
        everseed_tests::seeder::everseed(),
        "seed".into(),
        content.path().display().to_string(),
        "--listen=late0:7001".into(),
        "--state".into(),
        dir.sub("state").display().to_string(),
    ];
    let log = dir.join("log");
    let mut process = everseed_tests::process::Process::start("everseed", &argv, &log);
    let mut says = |text: &str| {
        wait(text, PATIENCE, || {
            process.assert_alive();
            let output = process.output();
            output.contains(text).then_some(output)
        })
    };
    says("late0 is not there");
    let neighbour = Neighbour::new(&net);
    neighbour.lay("late0", "late");
    set_up_ours(&net, "address add 10.99.0.1/24 dev late0\n");
    says("listening: 10.99.0.1:7001");
    let output = says("seeding: lo.bin");
    assert!(
        output.contains("http://10.99.0.1:7001/announce"),
        "{output}"
    );
    let hash = output.lines().find_map(|l| l.strip_prefix("info-hash: "));
    InfoHash::parse(hash.expect("an info-hash"));
}

/// The address of the world outside, and its ports.
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
const TRACKER: u16 = 8000;
const PEER: u16 = 9000;
