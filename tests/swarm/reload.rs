//! SIGHUP: a running service takes over its changed configuration, or goes on with the old one.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Message, Peer};
use everseed_tests::seeder::{Setup, run};
use everseed_tests::service::Service;

/// A service that seeds a file of 40 pieces, and a connected peer.
struct World {
    service: Service,
    listen: SocketAddr,
    peer: Peer,
    next: u32,
    /// The lines of the configuration that seed the file.
    seed: String,
    _content: Content,
    dir: Dir,
}

impl World {
    fn new(net: &Net) -> World {
        World::under(net, &[])
    }

    /// The same, started by the program `wrapper`.
    fn under(net: &Net, wrapper: &[String]) -> World {
        let dir = Dir::new("run");
        let listen = net.addr(Family::V4);
        let content = Content::file("film.bin", 40 * 16_384, 5);
        let seed = format!("[[seed]]\npath = \"{}\"\n", content.path().display());
        let mut service = Service::start(&dir, listen, &seed, wrapper);
        service.wait_for("seeding: film.bin", 1);
        let hash = service.torrent();
        let hash = InfoHash::parse(&hash.file_stem().unwrap().to_string_lossy());
        let peer = Peer::unchoked(listen, hash, false);
        World {
            service,
            listen,
            peer,
            next: 0,
            seed,
            _content: content,
            dir,
        }
    }

    /// Requests the next block over the same connection, and waits for it.
    fn is_served(&mut self) {
        self.peer.request(self.next, 0, 16_384);
        self.next += 1;
        while !matches!(self.peer.expect("a block"), Message::Piece { .. }) {}
    }

    fn check_config(&self) -> (i32, String) {
        let file = self.dir.join("everseed.toml");
        let args = ["run", "--check-config", "-c", file.to_str().unwrap()];
        let done = run(args);
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        (done.status.code().unwrap_or(-1), said.into_owned())
    }
}

/// A configuration that a start would refuse changes nothing. All its errors are logged with their lines, and
/// `--check-config` prints the same.
#[test]
fn what_cannot_be_carried_out() {
    let net = Net::new();
    let mut world = World::new(&net);
    let not_a_torrent = world.dir.join("x.torrent");
    fs::write(&not_a_torrent, "no torrent").unwrap();
    let bad_item = format!("[[seed]]\npath = \"{}\"\n", not_a_torrent.display());
    let seed = world.seed.clone();
    let cases = [
        (format!("memory = \"400k\"\n{seed}"), &["3"][..]),
        (format!("trace = \"/nowhere/x\"\n{seed}"), &["3"]),
        // Errors in the text and errors of the disk are reported together.
        (
            format!("up = \"fast\"\nwach = 1\n{seed}{bad_item}"),
            &["3", "4", "8"],
        ),
        (
            format!("trace = \"/nowhere/x\"\nmemory = \"400k\"\n{seed}{bad_item}"),
            &["3", "4", "8"],
        ),
    ];
    for (number, (config, lines)) in (1..).zip(cases) {
        world.service.reload(world.listen, &config);
        let kept = "it goes on with the configuration as it was";
        world.service.wait_for(kept, number);
        let (code, said) = world.check_config();
        assert_eq!(code, 1, "{said}");
        for line in lines {
            let place = format!("everseed.toml:{line}: ");
            world.service.wait_for(&place, 1);
            assert!(said.contains(&place), "{line}: {said}");
        }
        world.is_served();
    }
    // The state's folder cannot be made, or is in memory.
    let file = world.dir.join("everseed.toml");
    for (number, state) in (5..).zip(["/proc/everseed", "/dev/shm/everseed"]) {
        let listen = world.listen;
        let config = format!("state = \"{state}\"\nlisten = \"{listen}\"\n{seed}");
        fs::write(&file, config).unwrap();
        world
            .service
            .process
            .signal(everseed_tests::process::Signal::HUP);
        world
            .service
            .wait_for("it goes on with the configuration as it was", number);
        let (code, said) = world.check_config();
        assert!(code == 1 && said.contains("everseed.toml:1: "), "{said}");
        world.is_served();
    }
    // Another program has the port: at a start everseed would wait for it.
    let other = net.addr(Family::V4);
    let _taken = TcpListener::bind(other).unwrap();
    world.service.reload(other, &seed);
    world
        .service
        .wait_for("it goes on with the configuration as it was", 7);
    world
        .service
        .wait_for(&format!("cannot listen on {other}"), 1);
    world.is_served();
    world.service.reload(world.listen, &seed);
    world.service.wait_for("the configuration was read", 1);
    let (code, said) = world.check_config();
    assert!(code == 0 && said.contains("good"), "{said}");
    // A missing file is waited for, as at a start.
    let more = format!("{seed}[[seed]]\npath = \"/nowhere/to/be/seen\"\n");
    world.service.reload(world.listen, &more);
    world.service.wait_for("/nowhere/to/be/seen", 1);
    world.service.wait_for("the configuration was read", 2);
    let (code, said) = world.check_config();
    assert!(code == 0 && said.contains("everseed.toml:6: "), "{said}");
    world.is_served();
    world.service.stop();
}

/// Limits change, and no peer is disconnected.
#[test]
fn limits() {
    let net = Net::new();
    let mut world = World::new(&net);
    let limits = [
        "up = \"100k\"\n",
        "up = \"2M\"\nslots = 2\ndown = \"1M\"\n",
        "slots = 8\nmax-peers = 20\nlog = \"info\"\ncheck = \"lazy\"\nquiet = true\n",
        "",
    ];
    for (number, limits) in (1..).zip(limits) {
        let config = format!("{limits}{}", world.seed);
        world.service.reload(world.listen, &config);
        world.service.wait_for("the configuration was read", number);
        for _ in 0..4 {
            world.is_served();
        }
    }
    let output = world.service.process.output();
    assert!(!output.contains("it starts anew"), "{output}");
    assert!(!output.contains("stopped: "), "{output}");
    world.service.stop();
}

/// `[[rates]]` hold at local hours. The time zone is chosen so that it is half past twelve. The limits change while a
/// peer is served.
#[test]
fn rates_by_the_hour() {
    let net = Net::new();
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let utc = i64::try_from(since / 60 % (24 * 60)).unwrap();
    // The number in TZ is what has to be added to local time to get UTC.
    let behind = utc - (12 * 60 + 30);
    let sign = if behind < 0 { "-" } else { "" };
    let (hours, minutes) = (behind.abs() / 60, behind.abs() % 60);
    let zone = format!("TZ=AAA{sign}{hours}:{minutes:02}");
    let mut world = World::under(&net, &["env".to_owned(), zone]);
    let hours = |hours: &str| format!("[[rates]]\nhours = \"{hours}\"\nup = \"2048Ki\"\n");
    let limits = [
        ("", hours("13:00-12:00")),
        ("", hours("12:00-13:00")),
        ("up = \"1024Ki\"\n", hours("12:00-13:00")),
        ("up = \"1024Ki\"\n", hours("23:00-12:00")),
        ("", "[[rates]]\ndown = \"1024Ki\"\n".to_owned()),
    ];
    for (number, (usual, hours)) in (1..).zip(limits) {
        world.is_served();
        let config = format!("log = \"info\"\n{usual}{hours}{}", world.seed);
        world.service.reload(world.listen, &config);
        world.service.wait_for("the configuration was read", number);
        world.is_served();
    }
    world.service.stop();
    let output = world.service.process.output();
    let said = output
        .lines()
        .filter_map(|l| l.split_once("limits from now on: "));
    let said: Vec<&str> = said.map(|(_, limits)| limits).collect();
    let expected = [
        "up at most 2.00 MiB/s, down without a limit",
        "up at most 1.00 MiB/s, down without a limit",
        "up without a limit, down at most 1.00 MiB/s",
    ];
    assert_eq!(said, expected, "{output}");
}

/// A reload adds a download and twenty files to seed, which are treated like those of the start. Goals of seeding
/// change without a restart.
#[test]
fn what_comes_by_a_reload() {
    let net = Net::new();
    let seeds = Dir::new("seed");
    let wanted = Content::file("wanted.bin", 1 << 20, 6);
    let mut seeder = Setup::new(wanted.path(), net.addr(Family::V4)).start(&seeds);
    let mut world = World::new(&net);
    let out = world.dir.sub("out");
    let mut config = world.seed.clone();
    let contents: Vec<_> = (0..20)
        .map(|n| Content::file(&format!("{n:02}.bin"), 20_000, n))
        .collect();
    for content in &contents {
        let _ = write!(
            config,
            "[[seed]]\npath = \"{}\"\n",
            content.path().display()
        );
    }
    config += &seeder.entry(&out);
    world.service.reload(world.listen, &config);
    world.service.wait_for("complete: wanted.bin", 1);
    wanted.assert_same_in(&out, true);
    for content in &contents {
        let name = content.name();
        world.service.wait_for(&format!("seeding: {name}"), 1);
    }
    // The download has sent nothing, and a ratio of 0 is reached at once.
    world
        .service
        .reload(world.listen, &format!("{config}ratio = 0.0\n"));
    world.service.wait_for("it has reached its goal", 1);
    // Notices are printed by another thread than the log.
    world.service.wait_for("stopped: wanted.bin", 1);
    let output = world.service.process.output();
    assert_eq!(output.matches("it starts anew").count(), 1, "{output}");
    assert_eq!(output.matches("stopped: ").count(), 1, "{output}");
    world.service.stop();
    seeder.stop();
}
