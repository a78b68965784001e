//! What a service tells systemd, to a socket of our own.

use std::os::unix::net::UnixDatagram;

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Message, Peer};
use everseed_tests::process::Signal;
use everseed_tests::service::Service;

/// A service manager, and what starts a service under it.
fn manager(dir: &Dir, watchdog_us: u64) -> (UnixDatagram, Vec<String>) {
    let path = dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let wrapper = [
        "env".to_owned(),
        format!("NOTIFY_SOCKET={}", path.display()),
        format!("WATCHDOG_USEC={watchdog_us}"),
    ];
    (socket, wrapper.to_vec())
}

/// The next message that is no sign of life, and how many of these came before.
fn next(socket: &UnixDatagram) -> (String, usize) {
    let mut bytes = [0; 500];
    for alive in 0.. {
        let len = socket.recv(&mut bytes).expect("a message to the manager");
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        if text != "WATCHDOG=1" {
            return (text, alive);
        }
    }
    unreachable!();
}

/// The next one that begins so.
fn next_of(socket: &UnixDatagram, begin: &str) -> String {
    loop {
        let (text, _) = next(socket);
        if text.starts_with(begin) {
            return text;
        }
        assert!(text.starts_with("STATUS="), "{text} before {begin}");
    }
}

#[test]
fn it_hears_how_the_service_is() {
    let net = Net::new();
    let dir = Dir::new("run");
    let listen = net.addr(Family::V4);
    let content = Content::file("told.bin", 100_000, 1);
    let seed = format!("[[seed]]\npath = \"{}\"\n", content.path().display());
    let (socket, wrapper) = manager(&dir, 1_000_000);
    let mut service = Service::start(&dir, listen, &seed, &wrapper);
    assert_eq!(next(&socket).0, "READY=1");
    loop {
        let (text, alive) = next(&socket);
        if text == "STATUS=1 torrent; 0 peers, 0 served" {
            // It was looked at ten seconds after the first time.
            assert!(alive > 3, "{alive}");
            break;
        }
    }
    // Whether it is taken or not, it ends.
    for config in [&format!("up = \"9M\"\n{seed}"), "wach = 1\n", &seed] {
        service.reload(listen, config);
        let text = next_of(&socket, "RELOADING=1\nMONOTONIC_USEC=");
        let (_, us) = text.rsplit_once('=').unwrap();
        assert!(us.parse::<u64>().is_ok(), "{text}");
        next_of(&socket, "READY=1");
    }
    // In place it starts anew, and says so when it has.
    let pid = service.process.pid();
    service.reload(listen, &format!("memory = \"12MiB\"\n{seed}"));
    next_of(&socket, "RELOADING=1");
    next_of(&socket, "READY=1");
    assert_eq!(service.process.pid(), pid);
    service.process.signal(Signal::TERM);
    next_of(&socket, "STOPPING=1");
    assert_eq!(service.process.wait(PATIENCE), 0);
}

/// One that reads nothing, and whose queue is full soon, holds up nobody.
#[test]
fn one_that_does_not_listen() {
    let net = Net::new();
    let dir = Dir::new("run");
    let listen = net.addr(Family::V4);
    let content = Content::file("told.bin", 40 * 16_384, 1);
    let seed = format!("[[seed]]\npath = \"{}\"\n", content.path().display());
    let (socket, wrapper) = manager(&dir, 100_000);
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    let fill = || while full.send_to(b"X", dir.join("notify")).is_ok() {};
    let mut service = Service::start(&dir, listen, &seed, &wrapper);
    service.wait_for("seeding: told.bin", 1);
    fill();
    let hash = InfoHash::parse(&service.torrent().file_stem().unwrap().to_string_lossy());
    let mut peer = Peer::unchoked(listen, hash, false);
    for piece in 0..40 {
        fill();
        peer.request(piece, 0, 16_384);
        while !matches!(peer.expect("a block"), Message::Piece { .. }) {}
    }
    service.stop();
    drop(socket);
}
