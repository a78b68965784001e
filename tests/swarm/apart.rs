//! `incomplete`: a download lies in a folder of its own until it is complete, and is then moved to its final place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::Peer;
use everseed_tests::seeder::{Getter, Seeder, Setup, sent};
use everseed_tests::service::Service;
use everseed_tests::slow::SlowDisk;
use everseed_tests::{PATIENCE, wait};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;

struct World {
    net: Net,
    dir: Dir,
    content: Content,
    seeder: Seeder,
    torrent: PathBuf,
    /// The folder in which the unfinished download lies.
    apart: PathBuf,
    _apart: Dir,
}

impl World {
    /// The seeder is so slow that a test can act before the download is complete.
    fn new(apart: Dir) -> World {
        let (net, dir) = (Net::new(), Dir::new("apart"));
        let content = Content::folder("album", &[("a", 3 * MIB), ("b/c", MIB), ("empty", 0)]);
        let setup = Setup::new(content.path(), net.addr(Family::V4));
        let seeder = setup.args(["-s", "64K"]).up_bps(Some(MIB)).start(&dir);
        let torrent = seeder.torrent();
        let hash = torrent.file_stem().unwrap().to_string_lossy().into_owned();
        World {
            net,
            dir,
            content,
            seeder,
            torrent,
            apart: apart.join(format!("{hash}.part")),
            _apart: apart,
        }
    }

    fn get(&self, dir: Dir, args: &[&str]) -> Getter {
        let apart = self.apart.parent().unwrap().to_str().unwrap();
        let args = [&["--incomplete", apart][..], args].concat();
        Getter::start(&self.torrent, self.net.addr(Family::V4), dir, &args)
    }

    /// Waits until a part of the first file is on the disk.
    fn wait_for_some(&self) {
        let file = self.apart.join("album/a");
        wait("some of the download", PATIENCE, || {
            let there = fs::metadata(&file).is_ok_and(|there| there.len() > 1);
            there.then_some(())
        });
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// The download is killed in the middle and started again, then moved: to the same disk and to another one. Only the
/// blocks that were on their way are downloaded twice. Connected peers stay, and the unfinished folder is gone.
#[test]
fn it_is_moved_when_it_is_complete() {
    for apart in [Dir::new("incomplete"), Dir::in_memory("incomplete")] {
        let mut world = World::new(apart);
        let mut getter = world.get(Dir::new("get"), &[]);
        world.wait_for_some();
        assert!(is_empty(&getter.files()));
        getter.wait_for("downloading: album");
        let dir = getter.kill();
        let mut getter = world.get(dir, &[]);
        // The log goes on in the same file.
        let addr = wait("the download to go on", PATIENCE, || {
            let output = getter.process.output();
            let lines = output.lines();
            let mut listening = lines.filter_map(|l| l.strip_prefix("listening: "));
            let goes_on = output.matches("downloading: album").count() == 2;
            goes_on.then(|| listening.next_back().unwrap().parse().unwrap())
        });
        let mut peer = Peer::unchoked(addr, world.seeder.info_hash(), true);
        getter.wait_for("complete: album");
        // This peer was connected before the move.
        peer.block(3, 0, 16384);
        world.content.assert_same_in(&getter.files(), true);
        assert!(!world.apart.exists(), "nothing is left apart");
        assert_eq!(fs::read_dir(getter.files()).unwrap().count(), 1);
        let mut client = Client::ALL[0].download(&world.torrent, world.net.addr(Family::V4));
        client.finish(&world.content);
        let (code, dir) = getter.stop();
        assert_eq!(code, 0);
        // The next start knows that the download is complete, and where it lies.
        let mut getter = world.get(dir, &[]);
        wait("it to be complete again", PATIENCE, || {
            let output = getter.process.output();
            getter.process.assert_alive();
            (output.matches("complete: album").count() == 2).then_some(())
        });
        let (code, dir) = getter.stop();
        assert_eq!(code, 0);
        world.content.assert_same_in(&dir.join("files"), true);
        world.seeder.stop();
        let sent = sent(&world.dir, &world.seeder.info_hash());
        assert!(sent < 9 * MIB, "{sent}");
    }
}

/// The final folder cannot be synced, and its disk cannot rename without overwriting. The download is served from the
/// final folder all the same. If it was copied from another disk, that copy stays until the next start.
#[test]
#[ignore = "needs root and FUSE"]
fn a_place_that_cannot_be_synced_is_its_place() {
    for apart in ["on the same disk", "on another one"] {
        let disk = SlowDisk::new();
        let (out, same) = (disk.at().join("out"), disk.at().join("apart"));
        fs::create_dir(&out).unwrap();
        let mut world = World::new(Dir::new("incomplete"));
        if apart == "on the same disk" {
            fs::create_dir(&same).unwrap();
            world.apart = same.join(world.apart.file_name().unwrap());
        }
        disk.fail_at("fsyncdir", "out", Errno::IO);
        let dir = Dir::new("get");
        symlink(&out, dir.join("files")).unwrap();
        let mut getter = world.get(dir, &[]);
        getter.wait_for("complete: album");
        getter.wait_for("may be undone by a power cut");
        world.content.assert_same_in(&out, true);
        let output = getter.process.output();
        let addr = output.lines().find_map(|l| l.strip_prefix("listening: "));
        let addr = addr.expect("an address").parse().expect("an address");
        let mut peer = Peer::unchoked(addr, world.seeder.info_hash(), true);
        peer.block(3, 0, 16384);
        assert_eq!(
            world.apart.join("album/a").exists(),
            apart == "on another one"
        );
        let (code, dir) = getter.stop();
        assert_eq!(code, 0);
        // The next start finds the download in its final place, and removes what is left elsewhere.
        disk.heal();
        let mut getter = world.get(dir, &[]);
        wait("it to be complete again", PATIENCE, || {
            getter.process.assert_alive();
            let output = getter.process.output();
            (output.matches("complete: album").count() == 2).then_some(())
        });
        assert!(!world.apart.exists(), "{apart}");
        let (code, _dir) = getter.stop();
        assert_eq!(code, 0);
        world.content.assert_same_in(&out, true);
        world.seeder.stop();
    }
}

/// A download that began in its final place goes on there. Other files of the same name in that place are not touched.
#[test]
fn what_is_in_its_place_stays_there() {
    let mut world = World::new(Dir::new("incomplete"));
    // The download was begun without `incomplete`, or by another client.
    let dir = Dir::new("get");
    let place = dir.sub("files/album");
    fs::copy(world.content.path().join("a"), place.join("a")).unwrap();
    let mut getter = world.get(dir, &[]);
    getter.wait_for("downloading: album, 1.00 MiB of 4.00 MiB to come");
    getter.wait_for("complete: album");
    let (code, dir) = getter.stop();
    assert_eq!(code, 0);
    world.content.assert_same_in(&dir.join("files"), true);
    assert!(!world.apart.exists());

    // Somebody puts something there while it is downloaded.
    let mut getter = world.get(Dir::new("get"), &[]);
    world.wait_for_some();
    let theirs = getter.files().join("album");
    fs::create_dir_all(&theirs).unwrap();
    fs::write(theirs.join("letters.txt"), "dear").unwrap();
    getter.wait_for("album is there already, where it is to be moved to; move that away");
    assert_eq!(
        fs::read_to_string(theirs.join("letters.txt")).unwrap(),
        "dear"
    );
    assert!(!theirs.join("a").exists());
    // The download is served while it waits to be moved.
    let mut client = Client::ALL[0].download(&world.torrent, world.net.addr(Family::V4));
    client.finish(&world.content);
    fs::rename(&theirs, getter.files().join("letters")).unwrap();
    getter.wait_for("complete: album");
    let (code, dir) = getter.stop();
    assert_eq!(code, 0);
    assert!(world.content.is_same_as(&dir.join("files/album")));
    assert!(!world.apart.exists());
    world.seeder.stop();
}

/// A download of some files is moved when these are complete. A later download of the rest follows.
#[test]
fn some_files_first_and_the_rest_later() {
    for apart in [Dir::new("incomplete"), Dir::in_memory("incomplete")] {
        let mut world = World::new(apart);
        let getter = world.get(Dir::new("get"), &["--only", "b/c", "--no-seed"]);
        let (code, dir) = getter.end();
        assert_eq!(code, 0);
        let there = fs::read(dir.join("files/album/b/c")).unwrap();
        assert!(there == fs::read(world.content.path().join("b/c")).unwrap());
        assert!(!world.apart.exists());
        let getter = world.get(dir, &["--no-seed"]);
        let (code, dir) = getter.end();
        assert_eq!(code, 0);
        world.content.assert_same_in(&dir.join("files"), true);
        world.seeder.stop();
    }
}

/// The disk of the final place is unmounted during the download. Nothing is written below its mount point, and the
/// download is moved when the disk is back.
#[test]
fn its_disk_is_waited_for() {
    let mut world = World::new(Dir::new("incomplete"));
    let dir = Dir::new("run");
    let disk = dir.sub("disk");
    let mount = || {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=9m", "test"])
            .arg(&disk)
            .status();
        assert!(done.unwrap().success());
        fs::create_dir_all(disk.join("films")).unwrap();
    };
    let unmount = || {
        assert!(
            Command::new("umount")
                .arg(&disk)
                .status()
                .unwrap()
                .success()
        )
    };
    mount();
    let listen = world.net.addr(Family::V4);
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\nincomplete = \"{}\"\n",
        world.torrent.display(),
        disk.join("films").display(),
        world.apart.parent().unwrap().display(),
    );
    let mut service = Service::start(&dir, listen, &config, &[]);
    world.wait_for_some();
    service.wait_for("downloading: album", 1);
    unmount();
    // As on a machine where somebody made that folder by mistake.
    fs::create_dir_all(disk.join("films")).unwrap();
    service.wait_for("is not mounted", 1);
    let mut peer = Peer::unchoked(listen, world.seeder.info_hash(), true);
    peer.block(5, 0, 16384);
    assert!(is_empty(&disk.join("films")));
    mount();
    service.wait_for("complete: album", 1);
    world.content.assert_same_in(&disk.join("films"), true);
    assert!(!world.apart.exists());
    service.stop();
    unmount();
    assert!(is_empty(&disk.join("films")));
    world.seeder.stop();
}

/// A service never makes the `incomplete` folder that its configuration names. It waits until the folder exists.
#[test]
fn a_service_waits_for_the_folder() {
    let mut world = World::new(Dir::new("incomplete"));
    let dir = Dir::new("run");
    let out = dir.sub("out");
    let apart = world.apart.parent().unwrap().join("later");
    let config = format!(
        "incomplete = \"{}\"\n[[get]]\ntorrent = \"{}\"\nout = \"{}\"\n",
        apart.display(),
        world.torrent.display(),
        out.display(),
    );
    let mut service = Service::start(&dir, world.net.addr(Family::V4), &config, &[]);
    service.wait_for("later: it is not there, and not made", 1);
    assert!(!apart.exists() && is_empty(&out));
    fs::create_dir(&apart).unwrap();
    service.wait_for("complete: album", 1);
    world.content.assert_same_in(&out, true);
    assert!(is_empty(&apart));
    service.stop();
    world.seeder.stop();
}
