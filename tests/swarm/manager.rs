//! A service reports its state to systemd. Here a socket of the test stands for systemd.

use std::os::unix::net::UnixDatagram;

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Peer};
use everseed_tests::process::Signal;
use everseed_tests::service::Service;

/// The manager's socket, and the wrapper that starts a service under it.
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

/// The next message that is no `WATCHDOG=1`, and the number of those before it.
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

/// The next message that begins with `begin`; statuses before it are passed over.
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
            // The service reports its status ten seconds after its start.
            assert!(alive > 3, "{alive}");
            break;
        }
    }
    // Each reload is reported as begun and as ended, whether the configuration is good or not.
    for config in [&format!("up = \"9M\"\n{seed}"), "wach = 1\n", &seed] {
        service.reload(listen, config);
        let text = next_of(&socket, "RELOADING=1\nMONOTONIC_USEC=");
        let (_, us) = text.rsplit_once('=').unwrap();
        assert!(us.parse::<u64>().is_ok(), "{text}");
        next_of(&socket, "READY=1");
    }
    // A restart in place is reported as a reload that ends.
    let pid = service.process.pid();
    service.reload(listen, &format!("memory = \"12MiB\"\n{seed}"));
    next_of(&socket, "RELOADING=1");
    next_of(&socket, "READY=1");
    assert_eq!(service.process.pid(), pid);
    service.process.signal(Signal::TERM);
    next_of(&socket, "STOPPING=1");
    assert_eq!(service.process.wait(PATIENCE), 0);
}

/// A manager that reads nothing, so that its socket is full, delays nobody.
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
        peer.block(piece, 0, 16_384);
    }
    service.stop();
    drop(socket);
}
