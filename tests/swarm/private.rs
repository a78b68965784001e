//! Private torrents, passkeys and the state stay private, and the built-in tracker does not tell of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::http;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Peer, handshake};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{Getter, Setup, make, run};
use everseed_tests::service::Service;
use everseed_tests::{PATIENCE, wait};

/// Only its own trackers are told of a private torrent. The built-in tracker does not know it, and neither peers nor
/// HTTP clients get it. everseed never prints its passkey, and only the owner can read the state.
#[test]
fn private_torrents() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("private.bin", 500_000, 30);
    let nobody = net.addr(Family::V4);
    let tracker = format!("http://{nobody}/{PASSKEY}/announce");
    let torrent = dir.join("private.torrent");
    let hash = make(content.path(), &torrent, &["-p", "-t", &tracker]);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let mut seeder = setup.args(["-v", "--share-torrent"]).start(&dir);
    let addr = seeder.addr();
    assert!(!is_told_of(addr, hash));
    assert_eq!(http::get(addr, &format!("/{hash}.torrent")).0, 404);
    assert!(!offers_metadata(addr, hash));
    for line in ["magnet", "torrent-url"] {
        assert_eq!(seeder.values(line), [""; 0]);
    }
    wait("the announce to fail", PATIENCE, || {
        seeder.process.output().contains("failed: ").then_some(())
    });
    assert!(!seeder.process.output().contains(PASSKEY));
    let open = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o077;
    let state = dir.join("state");
    let inside = fs::read_dir(&state).unwrap().map(|e| e.unwrap().path());
    for path in inside.chain([state.clone()]) {
        assert_eq!(open(&path), 0, "{}", path.display());
    }
    let shown = |args: &[&str]| {
        let path = torrent.to_string_lossy();
        let output = run(["show"].iter().chain(args).copied().chain([&*path]));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!shown(&[]).contains(PASSKEY) && !shown(&[]).contains("magnet:"));
    assert!(shown(&["--secrets"]).contains(&tracker));
    seeder.stop();
}

/// The built-in tracker answers for public torrents, and peers get their metadata. It also answers for a private
/// torrent that names this tracker, whose metadata nobody gets.
#[test]
fn public_torrents_and_our_own() {
    let net = Net::new();
    let content = Content::file("public.bin", 500_000, 31);
    let addr = net.addr(Family::V4);
    let own = format!("http://{addr}/announce");
    for (private, with_passkey) in [(false, false), (false, true), (true, false)] {
        let dir = Dir::new("seed");
        let torrent = dir.join("x.torrent");
        let passkey = format!("http://{addr}/{PASSKEY}/announce");
        let mut args = vec!["-t", &own];
        args.extend(private.then_some("-p"));
        args.extend(with_passkey.then_some(["-t", &passkey]).iter().flatten());
        let hash = make(content.path(), &torrent, &args);
        let setup = Setup::new(&torrent, addr).data(content.parent());
        let mut seeder = setup.args(["--share-torrent"]).start(&dir);
        assert!(is_told_of(addr, hash));
        assert_eq!(offers_metadata(addr, hash), !private);
        let given = http::get(addr, &format!("/{hash}.torrent")).0 == 200;
        assert_eq!(given, !private && !with_passkey);
        assert_eq!(seeder.values("torrent-url").len(), usize::from(given));
        assert!(!seeder.process.output().contains(PASSKEY));
        seeder.stop();
    }
}

/// A service logs at the highest level, and its tracker and web server repeat the passkey in their answers. everseed
/// never prints it.
#[test]
fn no_passkey_is_printed() {
    let net = Net::new();
    let dir = Dir::new("run");
    let server = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let addr = server.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let mut head = [0; 2048];
            let len = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..len]);
            let announces = head.contains("/announce");
            // Each torrent gets one of three answers, chosen by its info-hash.
            let hash = head.split("info_hash=").nth(1).unwrap_or_default();
            let hash = hash.split('&').next().unwrap_or_default();
            let sum: u32 = hash.bytes().map(u32::from).sum();
            let answer = match (announces, sum % 3) {
                (false, _) => format!("404 No {PASSKEY}\r\n\r\n{PASSKEY}"),
                (_, 0) => format!("302 Found\r\nLocation: http://x:{PASSKEY}@{addr}/\r\n\r\n"),
                (_, 1) => format!("200 OK\r\n\r\nd14:failure reason38:key {PASSKEY} ?e"),
                _ => format!("200 OK\r\n\r\nd5:peers0:15:warning message38:key {PASSKEY} !e"),
            };
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
        }
    });
    let watch = dir.sub("watch");
    for n in 0..6 {
        fs::write(watch.join(format!("{n}.bin")), [n; 1000]).unwrap();
    }
    let site = format!("http://{addr}/{PASSKEY}");
    let config = format!(
        "watch = \"{}\"\nlog = \"trace\"\nstate-in-ram = true\nout = \"{}\"\n\
         tracker = [\"{site}/announce\", \"{site}x/announce?passkey=y\"]\n\
         [[get]]\ntorrent = \"{site}/x.torrent?key={PASSKEY}\"\n",
        watch.display(),
        dir.sub("out").display(),
    );
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    for text in [
        "the server answers 404",
        "the tracker says: key ***",
        "the tracker warns: key ***",
    ] {
        service.wait_for(text, 1);
    }
    service.wait_for("answered with HTTP 404", 1);
    service.process.signal(Signal::TERM);
    service.process.wait(PATIENCE);
    let mut printed = service.process.output();
    for line in [
        format!("tracker = \"htp://t/{PASSKEY}/announce\""),
        format!("tracker = http://t/{PASSKEY}/announce"),
        format!("tracker = \"http://t/{PASSKEY}/announce\" more"),
    ] {
        let file = dir.join("bad.toml");
        fs::write(&file, format!("{line}\n")).unwrap();
        let output = run(["run", "--check-config", "-c", &file.to_string_lossy()]);
        assert!(!output.status.success(), "{line}");
        printed += &String::from_utf8_lossy(&output.stdout);
        printed += &String::from_utf8_lossy(&output.stderr);
    }
    assert!(!printed.contains(&PASSKEY[..16]), "{printed}");
}

/// Trackers of a torrent are called inside the local network only at paths of trackers. Other pages of the router are
/// never called, not after a redirect either.
#[test]
fn torrents_reach_no_pages_in_the_house() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("reach.bin", 100_000, 32);
    let router = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let addr = router.local_addr().unwrap();
    let (heard, hears) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in router.incoming().flatten() {
            let mut head = [0; 2048];
            let len = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..len]).into_owned();
            let target = head.split(' ').nth(1).unwrap_or("").to_owned();
            let path = target.split('?').next().unwrap().to_owned();
            let _ = heard.send(path);
            let to = format!("http://{addr}/apply.cgi?action=Reboot");
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let torrent = dir.join("reach.torrent");
    let page = format!("http://{addr}/apply.cgi?action=Reboot");
    let udp = format!("udp://{addr}");
    let announce = format!("http://{addr}/announce");
    make(
        content.path(),
        &torrent,
        &["-t", &page, "-t", &udp, "-t", &announce],
    );
    let mut seeder = Setup::new(&torrent, net.addr(Family::V4))
        .data(content.parent())
        .start(&dir);
    let refusals = || {
        seeder
            .process
            .output()
            .matches("is inside this network")
            .count()
    };
    wait("three trackers to fail", PATIENCE, || {
        (refusals() == 3).then_some(())
    });
    let paths: Vec<String> = hears.try_iter().collect();
    assert!(
        !paths.is_empty() && paths.iter().all(|path| path == "/announce"),
        "{paths:?}"
    );
    seeder.stop();
}

/// A peer enters the built-in tracker only by its own announce, not by one that a web page has a browser send. A
/// tracker in the local network may name peers there, but not on this machine.
#[test]
fn nobody_is_dialled_whom_a_stranger_names() {
    let net = Net::new();
    let content = Content::file("dialled.bin", 100_000, 33);
    let dir = Dir::new("get");
    // The tracker is in the local network, so it may name peers there, but not on this machine.
    let (here, house) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind(net.addr(Family::V4)).unwrap(),
    );
    let compact = |addr: SocketAddr| match addr.ip() {
        std::net::IpAddr::V4(ip) => [&ip.octets()[..], &addr.port().to_be_bytes()].concat(),
        std::net::IpAddr::V6(_) => unreachable!("both are IPv4"),
    };
    let named = [
        compact(here.local_addr().unwrap()),
        compact(house.local_addr().unwrap()),
    ]
    .concat();
    let body = [&b"d8:intervali1800e5:peers12:"[..], &named, b"e"].concat();
    let tracker = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in tracker.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(&[b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat());
        }
    });
    let torrent = dir.join("dialled.torrent");
    let hash = make(content.path(), &torrent, &["-t", &url]);
    let listen = net.addr(Family::V4);
    let mut getter = Getter::start(&torrent, listen, dir, &[]);
    getter.wait_for("listening: ");
    // A web page has a browser send an announce.
    let query = format!(
        "/announce?info_hash={}&left=1&port={}",
        http::escape(hash),
        here.local_addr().unwrap().port()
    );
    for header in ["Origin: https://evil.example", "Host: evil.example"] {
        let mut browser = TcpStream::connect(listen).unwrap();
        let request = format!("GET {query} HTTP/1.1\r\n{header}\r\n\r\n");
        browser.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        browser.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    // The peer in the local network is called. The one on this machine stands before it, and would have been called
    // first.
    let (mut called, _) = house.accept().unwrap();
    called.set_read_timeout(Some(PATIENCE)).unwrap();
    called.read_exact(&mut [0; 20]).unwrap();
    here.set_nonblocking(true).unwrap();
    assert!(
        here.accept().is_err(),
        "it called itself a peer of this machine"
    );
    getter.stop();
}

/// Thirty clients at a time request a .torrent and read nothing, within the address space of OpenWrt's script. Another
/// client gets the .torrent all the same.
#[test]
fn a_crowd_asks_for_the_torrent() {
    let net = Net::new();
    let dir = Dir::new("seed");
    // So many pieces that no socket's buffer holds the whole .torrent.
    let content = Content::file("crowd.bin", 128 << 20, 34);
    let torrent = dir.join("crowd.torrent");
    let hash = make(content.path(), &torrent, &["-s", "16"]);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let space = format!("--as={}", (16 + 24) << 20);
    let args = ["--share-torrent", "--check", "lazy"];
    let mut seeder = setup.args(args).under(["prlimit", &space]).start(&dir);
    let addr = seeder.addr();
    let request = format!("GET /{hash}.torrent HTTP/1.1\r\n\r\n");
    let mut crowd: Vec<Peer> = (0..30).map(|_| Peer::connect(addr)).collect();
    for _ in 0..3 {
        crowd
            .iter_mut()
            .for_each(|peer| peer.send(request.as_bytes()));
        let (status, body) = http::get(addr, &format!("/{hash}.torrent"));
        assert_eq!(status, 200);
        assert!(body == fs::read(&torrent).unwrap(), "another torrent");
        crowd = (0..30).map(|_| Peer::connect(addr)).collect();
    }
    seeder.process.assert_alive();
    seeder.stop();
}

/// Whether the tracker at `addr` names peers of a torrent. It never lists torrents to a client that names none.
fn is_told_of(addr: SocketAddr, hash: InfoHash) -> bool {
    let (_, all) = http::get(addr, "/scrape");
    assert!(http::string(&all, "failure reason").is_some());
    assert!(!all.windows(20).any(|part| part == hash.0));
    let escaped = http::escape(hash);
    let query = format!("/announce?info_hash={escaped}&port=7000&left=1");
    let (_, announced) = http::get(addr, &query);
    let told = http::string(&announced, "peers").is_some_and(|peers| !peers.is_empty());
    assert_eq!(http::seeds(addr, hash) == 1, told);
    told
}

/// Whether the extended handshake offers the metadata (BEP 9, 10).
fn offers_metadata(addr: SocketAddr, hash: InfoHash) -> bool {
    let mut peer = Peer::connect(addr);
    let mut hello = handshake(hash, true);
    hello[25] |= 0x10;
    peer.send(&hello);
    let mut came = Vec::new();
    let mut part = [0; 512];
    let has = |came: &[u8], text: &[u8]| came.windows(text.len()).any(|part| part == text);
    while !has(&came, b"1:v") {
        let len = peer.stream.read(&mut part).unwrap();
        assert!(len > 0, "no extended handshake came");
        came.extend_from_slice(&part[..len]);
    }
    has(&came, b"ut_metadata")
}

const PASSKEY: &str = "0123456789abcdef0123456789abcdef";
