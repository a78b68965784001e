//! The serving thread waits for no disk: while a disk holds a call, peers get their blocks. At the end the disks report
//! that the serving thread made no call to them.
//!
//! Most tests make disks of their own, which needs root and FUSE. `tests/run` runs them as one step.

mod world;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use everseed_tests::content::{Content, allocated};
use everseed_tests::dir::Dir;
use everseed_tests::disk::Disk;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer, handshake};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{Setup, make};
use everseed_tests::service::Service;
use everseed_tests::slow::SlowDisk;
use everseed_tests::usage;
use everseed_tests::watched::{age, config, lay};
use everseed_tests::{PATIENCE, wait};
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use world::{
    World, announces, ask_for_metadata, downloads, drop_from_cache, large_torrent, state, watched,
};

/// A peer requests a block from a disk that does not answer. Other peers get blocks from another disk, and this one
/// gets its block when the disk answers again.
#[test]
#[ignore = "needs root and FUSE"]
fn a_disk_that_does_not_answer_keeps_others_from_nothing() {
    let net = Net::new();
    let (disk, dir) = (SlowDisk::new(), Dir::new("serving"));
    let slow = Content::file("slow.bin", 1 << 20, 1);
    let fast = Content::file("fast.bin", 1 << 20, 2);
    slow.copy_to(disk.behind());
    let torrent = dir.join("fast.torrent");
    let hash = make(fast.path(), &torrent, &[]);
    let setup = Setup::new(&disk.at().join("slow.bin"), net.addr(Family::V4));
    let mut seeder = setup.args([fast.path().display()]).start(&dir);
    let slow_hash = seeder.info_hash();
    let mut waits = Peer::unchoked(seeder.addr(), slow_hash, true);
    let mut served = Peer::unchoked(seeder.addr(), hash, true);
    served.pieces(0..64);
    disk.hold();
    waits.request(0, 0, 1 << 14);
    wait("the disk to be asked", PATIENCE, || {
        (disk.held() > 0).then_some(())
    });
    served.pieces(0..64);
    disk.release();
    while !matches!(waits.expect("its block"), Message::Piece { .. }) {}
    seeder.stop();
}

/// The number of a torrent that appears, the disk that holds a call, and the call with its path.
type Held = (u64, fn(&World) -> &SlowDisk, (&'static str, &'static str));

/// Torrents appear in the watched folder, and a disk holds one of the calls that each of them leads to.
fn come(calls: [Held; 4]) {
    let mut world = World::new("");
    for (number, disk, call) in calls {
        let name = format!("{number}.bin");
        world.held(disk, call, |world| {
            world.lay(&name, number);
        });
        let seeding = format!("seeding: {name}");
        world.service.wait_for(&seeding, 1);
    }
    world.end();
}

/// A disk holds the calls with which a new .torrent is found, read and copied. Peers of another torrent get their
/// blocks.
#[test]
#[ignore = "needs root and FUSE"]
fn whoever_waits_for_a_torrent_is_not_the_one_who_serves() {
    come([
        (1, watched, ("readdir", "")),
        (2, watched, ("open", "2.bin.torrent")),
        (3, watched, ("read", "3.bin.torrent")),
        (4, state, ("create", "state/given/")),
    ]);
}

/// A disk holds the calls with which the content of a new torrent is checked and its record is written.
#[test]
#[ignore = "needs root and FUSE"]
fn whoever_waits_for_content_is_not_the_one_who_serves() {
    come([
        (5, state, ("rename", "state/.everseed-")),
        (6, watched, ("lookup", "6.bin")),
        (7, watched, ("open", "7.bin")),
        (8, watched, ("read", "8.bin")),
    ]);
}

/// A disk holds the calls with which a torrent is served and removed, its metadata is sent, and a torrent is made of a
/// new folder.
#[test]
#[ignore = "needs root and FUSE"]
fn whoever_waits_for_a_disk_is_not_the_one_who_serves() {
    let mut world = World::new("");
    // A block of a torrent on the slow disk is requested, then its metadata.
    let hash = world.lay("9.bin", 9);
    world.service.wait_for("seeding: 9.bin", 1);
    let mut peer = Peer::unchoked(world.listen, hash, true);
    world.held(watched, ("getattr", "9.bin"), |_| {
        peer.request(0, 0, 1 << 14)
    });
    while !matches!(peer.expect("its block"), Message::Piece { .. }) {}
    let mut peer = Peer::connect(world.listen);
    let mut greeting = handshake(hash, true);
    greeting[25] |= 0x10;
    peer.send(&greeting);
    let mut answer = [0; 68];
    peer.stream.read_exact(&mut answer).expect("a handshake");
    world.held(state, ("open", "state/given/"), |_| {
        ask_for_metadata(&mut peer);
    });
    while !matches!(peer.expect("metadata"), Message::Extended(said) if said.starts_with(&[1])) {}
    // A .torrent is removed.
    let gone = world.watched.behind().join("9.bin.torrent");
    world.held(state, ("setattr", "state/"), |_| {
        fs::remove_file(gone).expect("a torrent")
    });
    world.service.wait_for("stopped: 9.bin", 1);
    // A folder appears, and a torrent is made of it.
    let tree = Content::folder("tree", &[("a/1", 5), ("b/2", 50_000), ("b/c/3", 7)]);
    world.held(watched, ("readdir", "tree/b"), |world| {
        drop(tree.copy_to(world.watched.behind()));
    });
    world.service.wait_for("seeding: tree", 1);
    world.end();
}

/// A disk holds the calls of a download, from its first file to its last sync. Some downloads complete, one is stopped.
#[test]
#[ignore = "needs root and FUSE"]
fn whoever_waits_for_the_disk_of_a_download_is_not_the_one_who_serves() {
    let mut world = World::new("");
    let seeders = Dir::new("seeder");
    let mut number = 0;
    let mut begin = |world: &mut World, up: Option<u64>| {
        number += 1;
        let wanted = Content::file(&format!("wanted{number}.bin"), 1 << 20, 90 + number);
        let addr = world.net.addr(Family::V4);
        let mut config = world.config.clone();
        let seeder = Setup::new(wanted.path(), addr).up_bps(up).start(&seeders);
        config += &seeder.entry(world.downloads.at());
        world.service.reload(world.listen, &config);
        (wanted, seeder)
    };
    // For the first download the service starts anew, because it needs more memory.
    let (wanted, mut seeder) = begin(&mut world, None);
    let complete = format!("complete: {}", wanted.name());
    world.service.wait_for(&complete, 1);
    seeder.stop();
    world.serves = wait("the serving thread", PATIENCE, || {
        world.service.process.thread("serve")
    });
    world.peer = Peer::unchoked(world.listen, world.hash, true);
    for (disk, call) in [
        (downloads as fn(&World) -> &SlowDisk, ("statfs", "")),
        (downloads, ("create", "wanted")),
        (downloads, ("write", "wanted")),
        (downloads, ("open", "wanted")),
        (state, ("fsync", "state/")),
        (state, ("fsyncdir", "state")),
        (state, ("rename", "state/.everseed-")),
    ] {
        let mut begun = None;
        world.held(disk, call, |world| begun = Some(begin(world, None)));
        let (wanted, mut seeder) = begun.expect("a download");
        world
            .service
            .wait_for(&format!("complete: {}", wanted.name()), 1);
        seeder.stop();
    }
    // A download is stopped in the middle: its pieces are synced, then its record is written.
    let (wanted, mut seeder) = begin(&mut world, Some(100_000));
    let name = wanted.name().to_owned();
    world.service.wait_for(&format!("downloading: {name}"), 1);
    wait("some of it", PATIENCE, || {
        let calls = world.downloads.take_calls();
        let mut calls = calls.iter().filter(|call| call.what == "write");
        assert!(calls.all(|call| call.thread != world.serves));
        let file = world.downloads.behind().join(&name);
        (everseed_tests::content::allocated(&file) > 0).then_some(())
    });
    let record = format!("state/{}.download", seeder.info_hash());
    world.held(state, ("fsync", &record), |world| {
        let config = world.config.clone();
        world.service.reload(world.listen, &config);
    });
    world.service.wait_for(&format!("stopped: {name}"), 1);
    seeder.stop();
    world.end();
}

/// A disk takes long to sync: a complete download, a stopped one, and a copy of one. Meanwhile a peer gets blocks that
/// have to be read from another disk.
#[test]
#[ignore = "needs root and FUSE"]
fn a_sync_that_takes_long_keeps_no_block_from_anybody() {
    let mut world = World::new("");
    let cold = world.lay("cold.bin", 5);
    world.service.wait_for("seeding: cold.bin", 1);
    let path = world.watched.at().join("cold.bin");
    let slow = SlowDisk::new();
    let disk = Disk::behind(&slow, 256 << 20);
    let (here, apart) = (disk.at().display().to_string(), world.dir.sub("apart"));
    let apart = format!("incomplete = \"{}\"\n", apart.display());
    let seeders = Dir::new("seeder");
    // For the first download the service starts anew with more memory.
    for (number, case) in ["first", "complete", "given up", "a copy"]
        .into_iter()
        .enumerate()
    {
        let wanted = Content::file(&format!("{number}.bin"), 1 << 20, 70 + number as u64);
        let up = (case == "given up").then_some(100_000);
        let addr = world.net.addr(Family::V4);
        let mut seeder = Setup::new(wanted.path(), addr).up_bps(up).start(&seeders);
        let get = format!(
            "[[get]]\ntorrent = \"{}\"\nout = \"{here}\"\npeer = \"{}\"\n{}",
            seeder.torrent().display(),
            seeder.addr(),
            if case == "a copy" { &apart } else { "" }
        );
        let config = format!("{}{get}", world.config);
        if case != "first" && case != "given up" {
            slow.hold_at("fsync", "image");
        }
        world.service.reload(world.listen, &config);
        if case == "given up" {
            world
                .service
                .wait_for(&format!("downloading: {}", wanted.name()), 1);
            let file = disk.at().join(wanted.name());
            wait("some of it", PATIENCE, || {
                (allocated(&file) > 0).then_some(())
            });
            slow.hold_at("fsync", "image");
            world.service.reload(world.listen, &world.config);
        }
        if case != "first" {
            wait(case, PATIENCE, || {
                world.service.process.assert_alive();
                world.service.process.syncs(disk.at()).then_some(())
            });
            let mut peer = Peer::unchoked(world.listen, cold, true);
            for _ in 0..3 {
                drop_from_cache(&path);
                peer.pieces(0..64);
            }
            assert!(
                slow.held() > 0 && world.service.process.syncs(disk.at()),
                "{case}"
            );
            slow.release();
        }
        match case {
            "given up" => world.service.wait_for("stopped: 2.bin", 1),
            _ => world
                .service
                .wait_for(&format!("complete: {}", wanted.name()), 1),
        }
        seeder.stop();
    }
    world.service.stop();
}

/// A disk takes long to sync. Meanwhile a download on another disk is synced, and complete. When the service is stopped,
/// the sync fails: the one at the end does not hear of that, and yet nothing of the download is recorded.
#[test]
#[ignore = "needs root and FUSE"]
fn a_sync_that_takes_long_and_fails() {
    let (net, dir, slow) = (Net::new(), Dir::new("get"), SlowDisk::new());
    let disk = Disk::behind(&slow, 64 << 20);
    slow.fail_at("fsync", "image", Errno::IO);
    slow.hold_at("fsync", "image");
    let other = dir.sub("other");
    let mut config = String::new();
    let mut seeds = Vec::new();
    // The other download takes seconds, so that it is complete after the first.
    for (name, out, up) in [
        ("held.bin", disk.at(), None),
        ("other.bin", other.as_path(), Some(400_000)),
    ] {
        let (content, seeds_from) = (Content::file(name, 1 << 20, 30), Dir::new("seeder"));
        let seeder = Setup::new(content.path(), net.addr(Family::V4)).up_bps(up);
        let seeder = seeder.start(&seeds_from);
        config += &seeder.entry(out);
        seeds.push((seeder, content, seeds_from));
    }
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    wait("the sync", PATIENCE, || {
        service.process.assert_alive();
        service.process.syncs(disk.at()).then_some(())
    });
    service.wait_for("complete: other.bin", 1);
    assert!(slow.held() > 0 && service.process.syncs(disk.at()));
    // Only the sync that is held fails.
    slow.heal();
    service.process.signal(Signal::TERM);
    // The session is to come to its own sync first.
    std::thread::sleep(Duration::from_secs(2));
    slow.release();
    assert_eq!(service.process.wait(PATIENCE), 0);
    let recorded: Vec<bool> = seeds
        .iter()
        .map(|(seeder, ..)| {
            let record = format!("state/{}.resume", seeder.info_hash());
            dir.path().join(record).exists()
        })
        .collect();
    assert_eq!(recorded, [false, true]);
    for (seeder, ..) in &mut seeds {
        seeder.stop();
    }
}

/// The disk of what sleeps does not answer. It is announced all the same, and neither commands nor others wait for it.
#[test]
#[ignore = "needs root and FUSE"]
fn a_disk_that_hangs_keeps_no_command_waiting() {
    let (net, dir, slow) = (Net::new(), Dir::new("asleep"), SlowDisk::new());
    let (share, listen) = (dir.sub("share"), net.addr(Family::V4));
    let config = format!(
        "log = \"info\"\ntorrents = 1\nwatch = \"{}\"\ndata = \"{}\"\n",
        share.display(),
        slow.at().display()
    );
    let tracker = TcpListener::bind(net.addr(Family::V4)).expect("a tracker");
    let url = format!("http://{}/announce", tracker.local_addr().expect("bound"));
    let mut service = Service::start(&dir, listen, &config, &[]);
    // One is awake at a time.
    let hashes = [1, 2, 3].map(|number| {
        let name = format!("{number}.bin");
        let content = Content::file(&name, 1 << 20, number);
        content.copy_to(slow.behind());
        let torrent = share.join(format!("{name}.torrent"));
        let hash = make(content.path(), &torrent, &["-t", &url]);
        age(&torrent);
        service.wait_for(&format!("seeding: {name}"), 1);
        hash
    });
    service.wait_for("2.bin: asleep", 1);
    service.stop();
    let told = announces(tracker);
    while told.recv_timeout(Duration::from_secs(1)).is_ok() {}
    slow.hold_at("lookup", "1.bin");
    let mut service = Service::start(&dir, listen, &config, &[]);
    let mut announced = HashSet::new();
    while announced.len() < hashes.len() {
        announced.extend(told.recv_timeout(PATIENCE).expect("an announce"));
    }
    service.reload(listen, &format!("{config}up = \"9MiB\"\n"));
    service.wait_for("the configuration was read", 1);
    service.wait_for("seeding: 3.bin", 1);
    Peer::unchoked(listen, hashes[2], true).pieces(0..64);
    slow.release();
    service.stop();
}

/// A disk holds the calls with which one torrent falls asleep and another is woken by a peer.
#[test]
#[ignore = "needs root and FUSE"]
fn whoever_waits_for_what_sleeps_is_not_the_one_who_serves() {
    let mut world = World::new("torrents = 1\n");
    // One torrent is awake at a time, so each new one sends the one before it to sleep.
    let hashes = [1, 2].map(|number| {
        let call = [("write", "state/catalogue"), ("create", "state/.everseed-")];
        let mut hash = None;
        let call = call[usize::from(number == 1)];
        world.held(state, call, |world| {
            hash = Some(world.lay(&format!("{number}.bin"), number));
        });
        world.service.wait_for(&format!("seeding: {number}.bin"), 1);
        hash.expect("a torrent")
    });
    let mut peer = None;
    world.held(state, ("open", "state/given/"), |world| {
        let mut caller = Peer::connect(world.listen);
        caller.send(&handshake(hashes[0], true));
        peer = Some(caller);
    });
    let mut answer = [0; 68];
    let mut peer = peer.expect("a peer");
    peer.stream.read_exact(&mut answer).expect("a handshake");
    world.end();
}

/// A folder with sleeping torrents is watched no longer, and the disk of the catalogue does not answer. Peers get their
/// blocks, and HTTP clients their answers.
#[test]
#[ignore = "needs root and FUSE"]
fn whoever_waits_for_the_catalogue_keeps_nobody_waiting() {
    let mut world = World::new("torrents = 1\n");
    for number in 1..=3 {
        world.lay(&format!("{number}.bin"), number);
        let seeding = format!("seeding: {number}.bin");
        world.service.wait_for(&seeding, 1);
    }
    world.peer.pieces(0..1);
    let catalogue = File::open(world.state.at().join("state/catalogue")).expect("a catalogue");
    fadvise(&catalogue, 0, None, Advice::DontNeed).expect("nothing of it in memory");
    world.state.hold_at("read", "state/catalogue");
    let lines = world.config.lines();
    let config: Vec<&str> = lines.filter(|line| !line.starts_with("watch")).collect();
    world
        .service
        .reload(world.listen, &(config.join("\n") + "\n"));
    wait("a thread that waits for the catalogue", PATIENCE, || {
        world.peer.pieces(0..1);
        let reads = world.service.process.thread("catalogue");
        reads.filter(|_| world.state.held() > 0)
    });
    world.peer.pieces(0..64);
    let mut http = TcpStream::connect(world.listen).expect("a connection");
    http.write_all(b"GET /scrape HTTP/1.1\r\nHost: everseed\r\n\r\n")
        .expect("a request");
    let mut answer = [0; 9];
    http.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"HTTP/1.1 ");
    assert!(world.state.held() > 0);
    world.state.release();
    world.service.wait_for("stopped: ", 3);
    world.end();
}

/// The largest .torrent, a larger file that is called one, and a tree of many files appear in a watched folder. A disk
/// holds the calls for them, and peers get their blocks.
#[test]
#[ignore = "needs root and FUSE"]
fn a_large_torrent_and_a_large_tree_keep_nobody_waiting() {
    let mut world = World::new("");
    let file = File::create(world.watched.behind().join("huge.torrent"));
    let file = file.and_then(|file| file.set_len(3 << 30));
    file.expect("a sparse file");
    age(&world.watched.behind().join("huge.torrent"));
    world.held(watched, ("read", "large.torrent"), |world| {
        let made = world.dir.join("large.torrent");
        large_torrent(&made).expect("a torrent");
        age(&made);
        fs::copy(&made, world.watched.behind().join("x.part")).expect("a torrent");
        age(&world.watched.behind().join("x.part"));
        let path = world.watched.behind().join("large.torrent");
        fs::rename(world.watched.behind().join("x.part"), path).expect("a torrent");
    });
    // The 64 MiB of the .torrent are copied.
    world.held(state, ("write", "state/given/"), |_| {});
    let tree = world.watched.behind().join("tree");
    for folder in 0..100 {
        let folder = tree.join(format!("{folder:02}"));
        fs::create_dir_all(&folder).expect("a folder");
        for file in 0..30 {
            fs::write(folder.join(format!("{file:02}")), [0; 100]).expect("a file");
        }
    }
    world.held(watched, ("readdir", "tree/77"), |_| {});
    world.held(watched, ("lookup", "tree/99/29"), |_| {});
    world.service.wait_for("seeding: tree", 1);
    world.end();
}

/// A tree of 300,000 files, the largest .torrent and a file of 3 GB that is called one appear at the same time. Of the
/// CPU time for them, less than a fifth is spent on the serving thread.
#[test]
fn what_takes_long_takes_no_time_of_the_serving_thread() {
    let (net, dir) = (Net::new(), Dir::in_memory("huge"));
    let (watch, data, apart) = (dir.sub("watch"), dir.sub("data"), dir.sub("apart"));
    let served = Content::file("served.bin", 1 << 20, 2);
    let hash = lay(&served, &watch, &data);
    let listen = net.addr(Family::V4);
    let config = config(&watch, &data) + "state-in-ram = true\n";
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: served.bin", 1);
    let mut peer = Peer::unchoked(listen, hash, true);

    // Hard links of one file, because 300,000 files would take a gigabyte.
    let tree = apart.join("tree");
    let file = apart.join("file");
    fs::write(&file, [7; 10]).expect("a file");
    for folder in 0..300 {
        let folder = tree.join(format!("{folder:03}"));
        fs::create_dir_all(&folder).expect("a folder");
        for name in 0..1000 {
            fs::hard_link(&file, folder.join(format!("{name:03}"))).expect("a link");
        }
    }
    let (huge, large) = (apart.join("huge.torrent"), apart.join("large.torrent"));
    let sparse = File::create(&huge).and_then(|file| file.set_len(3 << 30));
    sparse.expect("a sparse file");
    large_torrent(&large).expect("a torrent");
    for path in [&huge, &large] {
        age(path);
    }
    for path in [&tree, &huge, &large] {
        fs::rename(path, watch.join(path.file_name().unwrap())).expect("to move it there");
    }

    let pid = service.process.pid();
    let serve = service.process.thread("serve").expect("its thread");
    let spent = || (usage::cpu(pid), usage::thread_cpu(pid, serve));
    let (whole, serving) = spent();
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    let mut blocks = 0;
    // The files of the largest .torrent do not exist, so everseed names it in an error.
    for said in ["seeding: tree", "large.torrent", "huge.torrent"] {
        while !service.process.output().contains(said) {
            service.process.assert_alive();
            assert!(begun.elapsed() < 3 * PATIENCE, "it never said {said}");
            let asked = Instant::now();
            peer.pieces(0..16);
            longest = longest.max(asked.elapsed());
            blocks += 16;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let (whole, serving) = (spent().0 - whole, spent().1 - serving);
    println!("{blocks} blocks, 16 of them in {longest:?} at most; {serving:?} of {whole:?}");
    assert!(serving * 5 < whole, "{serving:?} of {whole:?}");
    service.stop();
}

/// A check that was stopped goes on at the next start.
#[test]
#[ignore = "needs root and FUSE"]
fn a_check_that_is_stopped_goes_on() {
    let (net, dir, disk) = (Net::new(), Dir::new("serving"), SlowDisk::new());
    let content = Content::file("checked.bin", 64 << 20, 3);
    let torrent = dir.join("checked.torrent");
    make(content.path(), &torrent, &["-s", "64K"]);
    content.copy_to(disk.behind());
    let config = format!(
        "[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
        torrent.display(),
        disk.at().display()
    );
    let reads = || {
        disk.take_calls()
            .iter()
            .filter(|c| c.what == "read")
            .count()
    };
    let start = |state: &str| {
        let folder = dir.join(state);
        Service::start_at(&dir, &folder, net.addr(Family::V4), &config, &[])
    };
    let mut service = start("whole");
    service.wait_for("seeding: checked.bin", 1);
    let whole = reads();
    service.stop();
    reads();
    disk.delay(Duration::from_secs(40) / u32::try_from(whole).unwrap(), 7);
    let mut service = start("state");
    let mut first = 0;
    wait("most of it to be checked", 2 * PATIENCE, || {
        service.process.assert_alive();
        first += reads();
        (first > whole * 7 / 10).then_some(())
    });
    service.stop();
    disk.delay(Duration::ZERO, 7);
    reads();
    let mut service = start("state");
    service.wait_for("seeding: checked.bin", 1);
    let rest = reads();
    assert!(rest < whole / 2, "{rest} of {whole} reads, after {first}");
    service.stop();
}
