//! Watched folders that others write to: a bad file there harms no other torrent.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::make;
use everseed_tests::service::Service;
use everseed_tests::watched::{age, config, fill};

/// Files that are called .torrent and are none are named, and take neither memory nor room in the state. Everything
/// else is seeded, also a long .torrent.
#[test]
fn anything_called_torrent() {
    let net = Net::new();
    let dir = Dir::new("watched");
    let (share, out) = (dir.sub("share"), dir.sub("out"));
    let fifo = Command::new("mkfifo")
        .arg(share.join("fifo.torrent"))
        .status();
    assert!(fifo.unwrap().success(), "mkfifo");
    let huge = File::create(share.join("huge.torrent")).unwrap();
    huge.set_len(3 << 30).unwrap();
    fs::write(share.join("garbage.torrent"), vec![b'x'; 5 << 20]).unwrap();
    symlink("/dev/zero", share.join("zero.torrent")).unwrap();
    fs::create_dir(share.join("folder.torrent")).unwrap();
    fs::write(share.join("folder.torrent/a"), "a").unwrap();
    // A .torrent with a key of twelve megabytes that a client added.
    let film = Content::file("film.mkv", 1 << 20, 5);
    film.copy_to(&out);
    let torrent = share.join("film.torrent");
    make(film.path(), &torrent, &[]);
    let whole = fs::read(&torrent).unwrap();
    let (head, end) = whole.split_at(whole.len() - 1);
    let added = format!("6:zzzzzz{}:", 12 << 20);
    let long = [head, added.as_bytes(), &vec![b'z'; 12 << 20], end].concat();
    fs::write(&torrent, long).unwrap();
    for name in ["huge", "garbage", "film"] {
        age(&share.join(format!("{name}.torrent")));
    }
    fs::write(share.join("free"), "free").unwrap();
    for download in [false, true] {
        let config = format!(
            "watch = \"{}\"\ndata = \"{}\"\ndownload = {download}\nout = \"{1}\"\n",
            share.display(),
            out.display()
        );
        let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
        let done = if download { "complete" } else { "seeding" };
        service.wait_for(&format!("{done}: film.mkv"), 1);
        service.wait_for("seeding: free", 1);
        if !download {
            service.wait_for("seeding: folder.torrent", 1);
        }
        for (name, why) in [
            ("fifo", "it is a folder, pipe or device"),
            (
                "huge",
                "it has 3221225472 bytes, and a .torrent may have 64 MiB",
            ),
            ("garbage", "not a torrent"),
        ] {
            service.wait_for(&format!("{}/{name}.torrent: {why}", share.display()), 1);
        }
        service.wait_for("zero.torrent", 1);
        let memory = service.anonymous_memory();
        assert!(memory < 24 << 20, "{memory} bytes of memory");
        for entry in fs::read_dir(dir.join("state")).unwrap().flatten() {
            let len = entry.metadata().unwrap().len();
            assert!(len < 13 << 20, "{}: {len} bytes", entry.path().display());
        }
        service.stop();
    }
}

/// As many torrents are awake as `torrents` says. Files that are no torrents do not count.
#[test]
fn no_other_limit_than_torrents() {
    let net = Net::new();
    let dir = Dir::in_memory("watched");
    let (share, data) = (dir.sub("share"), dir.sub("data"));
    fill(&share, &data, 0..300, "");
    for n in 0..200 {
        let path = share.join(format!("0-bad-{n}.torrent"));
        fs::write(&path, "none").unwrap();
        age(&path);
    }
    let config = config(&share, &data) + "state-in-ram = true\ntorrents = 300\nlog = \"info\"\n";
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    service.wait_for("seeding: 1-", 300);
    service.wait_for("not a torrent", 1);
    // A torrent that is still being checked counts as awake.
    assert!(
        !service.process.output().contains(": asleep"),
        "one sleeps though there is room"
    );
    fill(&share, &data, 300..310, "");
    service.wait_for("seeding: 1-", 310);
    service.wait_for(": asleep", 10);
    service.stop();
}

/// A file that grows or is replaced is stopped, and a new torrent is made of it once it stays unchanged. Files that
/// appear and go are noticed though the folder's time of change stays the same, as on some file systems.
#[test]
fn what_a_folder_does_not_tell() {
    let net = Net::new();
    let dir = Dir::new("watched");
    let share = dir.sub("share");
    let config = format!("watch = \"{}\"\n", share.display());
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    let film = share.join("film.mkv");
    fs::write(&film, vec![1; 300_000]).unwrap();
    service.wait_for("seeding: film.mkv", 1);
    // Appending does not change the folder's time.
    let mut file = File::options().append(true).open(&film).unwrap();
    file.write_all(&[2; 300_000]).unwrap();
    service.wait_for("film.mkv: it has changed", 1);
    service.wait_for("stopped: film.mkv", 1);
    service.wait_for("seeding: film.mkv", 2);
    let newer = share.join("film.part");
    fs::write(&newer, vec![3; 600_000]).unwrap();
    fs::rename(&newer, &film).unwrap();
    service.wait_for("film.mkv: it has changed", 2);
    service.wait_for("seeding: film.mkv", 3);
    let made: Vec<u64> = service
        .process
        .output()
        .lines()
        .filter_map(|line| line.strip_prefix("torrent: "))
        .filter_map(|path| everseed_disk::read_torrent(Path::new(path)).ok())
        .map(|metainfo| metainfo.geometry.total())
        .collect();
    assert_eq!(made.last(), Some(&600_000), "{made:?}");

    let time = fs::metadata(&share).unwrap().modified().unwrap();
    let hide = || File::open(&share).unwrap().set_modified(time).unwrap();
    fs::write(share.join("late"), "late").unwrap();
    hide();
    service.wait_for("seeding: late", 1);
    fs::remove_file(&film).unwrap();
    hide();
    service.wait_for("stopped: film.mkv", 3);
    service.stop();
}
