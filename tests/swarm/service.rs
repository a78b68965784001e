//! `everseed run`: torrents, disks, ports and networks that come and go while a service runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everseed_tests::client::Client;
use everseed_tests::content::{Content, allocated};
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Peer};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{Setup, make};
use everseed_tests::service::Service;
use everseed_tests::{PATIENCE, wait};

/// Files that appear in a watched folder are seeded, and files that leave it are stopped. A restart knows them all.
#[test]
fn a_watched_folder() {
    let net = Net::new();
    let dir = Dir::new("run");
    let share = dir.sub("share");
    let listen = net.addr(Family::V4);
    let config = format!("watch = \"{}\"\n", share.display());
    let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
    let named = format!("NOTIFY_SOCKET={}", dir.join("notify").display());
    let wrapper = ["env".to_owned(), named];
    let mut service = Service::start(&dir, listen, &config, &wrapper);
    let mut said = [0; 64];
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let len = socket.recv(&mut said).unwrap();
    assert_eq!(&said[..len], b"READY=1");

    let content = Content::folder("album", &[("a", 3 << 20), ("b/c", 1 << 20)]);
    let unfinished = share.join("film.mkv.part");
    fs::write(&unfinished, "not yet").unwrap();
    content.copy_to(&share);
    service.wait_for("seeding: album", 1);
    let torrent = service.torrent();
    for client in Client::ALL {
        let mut download = client.download(&torrent, net.addr(Family::V4));
        download.finish(&content);
    }
    let second = Content::file("second.bin", 1 << 20, 5);
    let other = dir.sub("other");
    make(second.path(), &other.join("second.torrent"), &[]);
    second.copy_to(&share);
    fs::copy(other.join("second.torrent"), share.join("second.torrent")).unwrap();
    service.wait_for("seeding: second.bin", 1);

    fs::rename(share.join("album"), dir.join("album")).unwrap();
    service.wait_for("stopped: album", 1);
    assert!(dir.join("album/a").is_file(), "data is kept");
    fs::rename(dir.join("album"), share.join("album")).unwrap();
    service.wait_for("seeding: album", 2);
    let start = Instant::now();
    service.stop();
    let took = start.elapsed();
    // It waits for no next look at the folders.
    assert!(took < Duration::from_secs(5), "stopping took {took:?}");
    let before = service.process.output();
    assert!(!before.contains("film.mkv"), "{before}");
    // A file that a .torrent describes is not seeded a second time by itself.
    assert_eq!(before.matches("seeding: second.bin").count(), 1, "{before}");

    let mut service = Service::start(&dir, listen, &config, &wrapper);
    service.wait_for("seeding: album", 1);
    service.wait_for("seeding: second.bin", 1);
    service.stop();
    let output = service.process.output();
    assert!(!output.contains("hashed"), "{output}");
}

/// SIGHUP: items come and go at once, an error changes nothing, and another `memory` restarts everseed in place.
#[test]
fn the_configuration_changes() {
    let net = Net::new();
    let dir = Dir::new("run");
    let listen = net.addr(Family::V4);
    let (a, b) = (
        Content::file("a.bin", 100_000, 1),
        Content::file("b.bin", 100_000, 2),
    );
    let seed = |content: &Content| format!("[[seed]]\npath = \"{}\"\n", content.path().display());
    let mut service = Service::start(&dir, listen, &seed(&a), &[]);
    service.wait_for("seeding: a.bin", 1);
    service.reload(listen, &(seed(&a) + &seed(&b)));
    service.wait_for("seeding: b.bin", 1);
    service.reload(listen, "wach = \"/\"\n");
    service.wait_for(
        "everseed.toml:3: there is no key wach here; did you mean watch?",
        1,
    );
    service.reload(listen, &seed(&b));
    service.wait_for("stopped: a.bin", 1);
    let output = service.process.output();
    assert!(!output.contains("stopped: b.bin"), "{output}");

    let pid = service.process.pid();
    service.reload(listen, &format!("memory = \"10MiB\"\n{}", seed(&b)));
    service.wait_for("it starts anew", 1);
    service.wait_for("seeding: b.bin", 2);
    assert_eq!(service.process.pid(), pid);
    let mut download =
        Client::Libtorrent.download(&torrents(&dir)[&b.name().to_owned()], net.addr(Family::V4));
    download.finish(&b);
    service.stop();
}

/// The .torrent files in the state, by the torrent's name.
fn torrents(dir: &Dir) -> std::collections::HashMap<String, std::path::PathBuf> {
    let mut found = std::collections::HashMap::new();
    for entry in fs::read_dir(dir.join("state")).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "torrent") {
            let shown = everseed_tests::seeder::run([Path::new("show"), &path]);
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            let name = text.lines().find_map(|l| l.strip_prefix("name: "));
            found.insert(name.expect("a name").to_owned(), path);
        }
    }
    found
}

/// A service waits for a port that another program has.
#[test]
fn a_port_that_is_taken() {
    let net = Net::new();
    let dir = Dir::new("run");
    let listen = net.addr(Family::V4);
    let other = TcpListener::bind(listen).unwrap();
    let content = Content::file("port.bin", 1 << 20, 3);
    let config = format!("[[seed]]\npath = \"{}\"\n", content.path().display());
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: port.bin", 1);
    service.wait_for(&format!("cannot listen on {listen}"), 1);
    drop(other);
    service.wait_for("it listens now", 1);
    let mut download = Client::Aria2.download(service.torrent(), net.addr(Family::V4));
    download.finish(&content);
    service.stop();
}

/// This machine's address changes: trackers get another announce, and new links name the new address.
#[test]
fn the_network_changes() {
    let net = Net::new();
    let dir = Dir::new("run");
    let tracker = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in tracker.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2000];
            let len = stream.read(&mut request).unwrap();
            let started = String::from_utf8_lossy(&request[..len]).contains("event=started");
            let answer = b"HTTP/1.0 200 OK\r\n\r\nd8:intervali1800e5:peers0:e";
            stream.write_all(answer).unwrap();
            count.fetch_add(usize::from(started), Ordering::Relaxed);
        }
    });
    let hears = |times| {
        let what = format!("the tracker to be told {times} times");
        wait(&what, PATIENCE, || {
            (asked.load(Ordering::Relaxed) >= times).then_some(())
        });
    };
    let (first, second) = (net.ip(Family::V4), net.ip(Family::V4));
    let port = net.addr(Family::V4).port();
    let content = Content::file("network.bin", 100_000, 3);
    let told = Content::file("told.bin", 100_000, 4);
    let torrent = dir.join("told.torrent");
    make(told.path(), &torrent, &["-t", &url]);
    let config = format!(
        "[[seed]]\npath = \"{}\"\n[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
        content.path().display(),
        torrent.display(),
        told.parent().display(),
    );
    let anywhere = SocketAddr::from(([0, 0, 0, 0], port));
    // everseed finds its own address by the route to this network.
    let route = |ip: IpAddr| {
        let args = ["route", "replace", "192.0.2.0/24", "dev", "lo", "src"];
        let ip = ip.to_string();
        let done = Command::new("ip").args(args).arg(ip).status().unwrap();
        assert!(done.success(), "ip route");
    };
    route(first);
    let mut service = Service::start(&dir, anywhere, &config, &[]);
    service.wait_for("seeding: told.bin", 1);
    service.wait_for("seeding: network.bin", 1);
    hears(1);
    let link = |ip| format!("tr=http%3A%2F%2F{ip}%3A{port}%2Fannounce");
    service.wait_for(&link(first), 1);
    let torrent = torrents(&dir)[&content.name().to_owned()].clone();
    let hash = InfoHash::parse(&torrent.file_stem().unwrap().to_string_lossy());
    let mut peer = Peer::unchoked(SocketAddr::new(first, port), hash, false);
    route(second);
    hears(2);
    service.wait_for(&link(second), 1);
    // Connected peers stay, and a client with the new .torrent finds everseed.
    peer.block(0, 0, 1000);
    let mut download = Client::Aria2.download(torrent, net.addr(Family::V4));
    download.finish(&content);
    let output = service.process.output();
    assert!(!output.contains("being checked"), "{output}");
    assert!(!output.contains("stopped: "), "{output}");
    service.stop();
}

/// A state in memory is refused unless the configuration allows it.
#[test]
fn state_in_memory() {
    let net = Net::new();
    let listen = net.addr(Family::V4);
    let content = Content::file("state.bin", 1000, 3);
    for allowed in [false, true] {
        let dir = Dir::new("run");
        let script = format!(
            "mount -t tmpfs none '{}' && exec \"$@\"",
            dir.sub("state").display()
        );
        let config = format!(
            "state-in-ram = {allowed}\n[[seed]]\npath = \"{}\"\n",
            content.path().display()
        );
        let mut service = Service::start(&dir, listen, &config, &mounts(&script));
        if allowed {
            service.wait_for("seeding: state.bin", 1);
            service.stop();
        } else {
            assert_eq!(service.process.wait(PATIENCE), 1);
            let output = service.process.output();
            assert!(output.contains("would be in memory (tmpfs)"), "{output}");
        }
    }
}

/// A disk is unmounted at a start, in the middle of a download, and after it. Nothing is written below its mount point,
/// and the download goes on by itself when the disk is back.
#[test]
fn a_disk_goes_and_comes_back() {
    a_disk_with(&Content::file("disk.bin", 48 << 20, 4));
}

/// The same with many files, some of which would be made while the disk is away.
#[test]
fn a_disk_of_many_files_goes_and_comes_back() {
    let names: Vec<String> = (0..96).map(|n| format!("{n:02}")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), 1 << 19)).collect();
    a_disk_with(&Content::folder("disk.bin", &files));
}

fn a_disk_with(content: &Content) {
    let net = Net::new();
    let seeds = Dir::new("seed");
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.clone().up_bps(Some(4 << 20)).start(&seeds);
    let listen = net.addr(Family::V4);
    let dir = Dir::new("run");
    // A folder stands for the disk, and is mounted in the service's own mounts only. So the test sees what lies below
    // the mount point.
    let (disk, mount) = (dir.sub("disk"), dir.sub("mount"));
    let script = |mounted: bool| {
        format!(
            "cd /; m() {{ mount --bind '{disk}' '{mount}'; }}; {first}; \
             (while kill -0 $$ 2>/dev/null; do \
               [ -e '{dir}/away' ] && umount -l '{mount}' && rm '{dir}/away'; \
               [ -e '{dir}/back' ] && m && rm '{dir}/back'; \
               sleep 0.1; done) & exec \"$@\"",
            disk = disk.display(),
            mount = mount.display(),
            dir = dir.path().display(),
            first = if mounted { "m" } else { ":" },
        )
    };
    let order = |what: &str| {
        fs::write(dir.join(what), "").unwrap();
        wait(what, PATIENCE, || (!dir.join(what).exists()).then_some(()));
    };
    let nothing_below = || {
        let below: Vec<_> = fs::read_dir(&mount).unwrap().flatten().collect();
        assert!(below.is_empty(), "written below the mount point: {below:?}");
    };
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\n",
        seeder.torrent().display(),
        mount.display()
    );
    let mut service = Service::start(&dir, listen, &config, &mounts(&script(true)));
    service.wait_for("downloading: disk.bin", 1);
    wait("some of it", PATIENCE, || {
        (allocated(&disk) > 8 << 20).then_some(())
    });
    service.stop();
    nothing_below();

    // The disk is away at the next start.
    let mut service = Service::start(&dir, listen, &config, &mounts(&script(false)));
    service.wait_for("is not mounted", 1);
    thread::sleep(Duration::from_secs(11));
    nothing_below();
    assert!(!service.process.output().contains("downloading: "));
    order("back");
    service.wait_for("downloading: disk.bin", 1);
    let output = service.process.output();
    assert!(!output.contains("48.0 MiB of 48.0 MiB to come"), "{output}");

    // The disk goes away during the download.
    order("away");
    thread::sleep(Duration::from_secs(4));
    nothing_below();
    order("back");
    service.wait_for("complete: disk.bin", 1);
    content.assert_same_in(&disk, true);
    nothing_below();

    // The disk of a complete download goes away. When it is back, the download is seeded again.
    order("away");
    let mut download = Client::Aria2.download(seeder.torrent(), net.addr(Family::V4));
    service.wait_for("it is not served until its files are back", 1);
    nothing_below();
    order("back");
    service.wait_for("its files are back", 1);
    seeder.process.signal(Signal::KILL);
    seeder.process.wait(PATIENCE);
    let mut seeder = setup.start(&seeds);
    download.finish(content);
    service.stop();
    seeder.stop();
}

/// Content on a read-only disk is seeded.
#[test]
fn read_only_media() {
    let net = Net::new();
    let dir = Dir::new("run");
    let content = Content::odd_folder();
    content.copy_to(&dir.sub("disk"));
    let script = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,ro,bind '{0}' && ! touch '{0}/x' && exec \"$@\"",
        dir.join("disk").display()
    );
    let config = format!("watch = \"{}\"\n", dir.join("disk").display());
    let listen = net.addr(Family::V4);
    let mut service = Service::start(&dir, listen, &config, &mounts(&script));
    service.wait_for("seeding: odd", 1);
    let mut download = Client::Libtorrent.download(service.torrent(), net.addr(Family::V4));
    download.finish(&content);
    service.stop();
}

/// A wrapper that runs `script` with mounts of its own, in which `"$@"` is the program and its arguments.
fn mounts(script: &str) -> Vec<String> {
    ["unshare", "-m", "sh", "-c", script, "sh"]
        .map(str::to_owned)
        .to_vec()
}
