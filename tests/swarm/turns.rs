//! More torrents than may be awake: one that is of no use at the moment sleeps, and another has its turn.

use std::fs::{self, File};

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{InfoHash, Peer};
use everseed_tests::seeder::{Setup, make};
use everseed_tests::service::Service;
use everseed_tests::watched::{age, fill, lay};
use everseed_tests::{PATIENCE, wait};

/// Two torrents may be awake, and three downloads have no seed. A fourth one, which has a seed, completes all the same.
#[test]
fn a_live_download_among_dead_ones() {
    among_dead_ones(true);
}

/// Two torrents may be awake, and the files of three are missing. A fourth one is seeded all the same.
#[test]
fn a_seed_among_dead_ones() {
    among_dead_ones(false);
}

fn among_dead_ones(download: bool) {
    let net = Net::new();
    let (dir, theirs) = (Dir::new("turns"), Dir::new("seed"));
    let (watch, out) = (dir.sub("watch"), dir.sub("out"));
    for n in 0..3 {
        let dead = Content::file(&format!("dead-{n}"), 40_000, n);
        let torrent = watch.join(format!("dead-{n}.torrent"));
        make(dead.path(), &torrent, &[]);
        age(&torrent);
    }
    let live = Content::file("live", 2 << 20, 77);
    let mut seeder = Setup::new(live.path(), net.addr(Family::V4)).start(&theirs);
    let torrent = watch.join("live.torrent");
    fs::copy(seeder.torrent(), &torrent).unwrap();
    age(&torrent);
    if !download {
        live.copy_to(&out);
    }
    let config = format!(
        "watch = \"{}\"\n{} = \"{}\"\n{}torrents = 2\nlog = \"info\"\n",
        watch.display(),
        if download { "out" } else { "data" },
        out.display(),
        match download {
            true => format!("download = true\npeer = [\"{}\"]\n", seeder.addr()),
            false => String::new(),
        },
    );
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    let whole = if download {
        "complete: live"
    } else {
        "seeding: live"
    };
    service.wait_for(whole, 1);
    if download {
        assert!(live.is_same_as(&out.join("live")));
    }
    service.stop();
    seeder.stop();
}

/// In one folder lie 200 files that are no torrents, and 100 torrents without their files, which is five times what may
/// be awake. What comes last, of another folder, is seeded all the same.
#[test]
fn a_live_one_behind_three_hundred_dead_ones() {
    let net = Net::new();
    let dir = Dir::in_memory("dead");
    let (dead, live, data) = (dir.sub("dead"), dir.sub("live"), dir.sub("data"));
    fill(&dead, &dir.sub("elsewhere"), 0..100, "");
    for n in 0..200 {
        let path = dead.join(format!("0-bad-{n}.torrent"));
        fs::write(&path, format!("none {n}")).unwrap();
        age(&path);
    }
    lay(&Content::file("zz.bin", 50_000, 1), &live, &data);
    let config = format!(
        "watch = [\"{}\", \"{}\"]\ndata = \"{}\"\nstate-in-ram = true\ntorrents = 20\n",
        dead.display(),
        live.display(),
        data.display()
    );
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    service.wait_for("seeding: zz.bin", 1);
    service.stop();
}

/// While a long file is hashed for a new torrent, a short file does not wait, nor does a peer that wakes a torrent.
#[test]
fn a_long_making_keeps_nobody_waiting() {
    let net = Net::new();
    let dir = Dir::new("run");
    let share = dir.sub("share");
    let contents = ["x.bin", "y.bin"].map(|name| Content::file(name, 100_000, 3));
    for content in &contents {
        content.copy_to(&share);
    }
    let listen = net.addr(Family::V4);
    let config = format!("watch = \"{}\"\ntorrents = 1\n", share.display());
    let mut service = Service::start(&dir, listen, &config, &[]);
    let hashes = wait("both to be known", PATIENCE, || {
        let output = service.process.output();
        let lines = output.lines().filter_map(|l| l.strip_prefix("info-hash: "));
        let hashes: Vec<_> = lines.map(InfoHash::parse).collect();
        (hashes.len() == 2).then_some(hashes)
    });
    // A sparse file takes no room, and long to hash.
    let long = File::create(share.join("a long one")).unwrap();
    long.set_len(64 << 30).unwrap();
    let read = |service: &Service| -> u64 { service.process.of_proc("io", "rchar:") };
    let before = read(&service);
    wait("the long one to be hashed", PATIENCE, || {
        (read(&service) > before + (64 << 20)).then_some(())
    });
    for hash in hashes {
        let mut peer = Peer::unchoked(listen, hash, true);
        peer.block(0, 0, 16384);
    }
    assert!(!service.process.output().contains("a long one"));
    fs::write(share.join("short"), [7; 50_000]).unwrap();
    wait("the short one", 2 * PATIENCE, || {
        let output = service.process.output();
        service.process.assert_alive();
        output.contains("short").then_some(())
    });
    let output = service.process.output();
    assert!(!output.contains("a long one"), "{output}");
    service.stop();
}
