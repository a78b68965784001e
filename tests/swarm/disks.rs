//! Disks that people eject, pull out and fill, and disks without sparse files.
//!
//! The tests make disks of their own, which needs root and loop devices. `tests/run` runs them as one step.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use everseed_tests::content::{Content, allocated};
use everseed_tests::dir::Dir;
use everseed_tests::disk::{Disk, Exfat, forget};
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Peer, handshake};
use everseed_tests::seeder::{Setup, make};
use everseed_tests::service::Service;
use everseed_tests::watched::{age, config};
use everseed_tests::{PATIENCE, wait};

const MIB: u64 = 1 << 20;

/// A disk from which no peer reads can be ejected after a while. Its torrent is served again when the disk is back.
#[test]
#[ignore = "needs root and loop devices"]
fn an_idle_disk_is_ejected() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(32 * MIB));
    let names: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), 1 << 14)).collect();
    let content = Content::folder("idle", &files);
    let torrent = dir.join("idle.torrent");
    let hash = make(content.path(), &torrent, &[]);
    content.copy_to(disk.at());
    let listen = net.addr(Family::V4);
    let config = format!(
        "[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
        torrent.display(),
        disk.at().display()
    );
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: idle", 1);
    // A peer that stays and asks for nothing more keeps no file open.
    let mut peer = Peer::unchoked(listen, hash, true);
    peer.pieces(0..20);
    wait("the disk to be free", PATIENCE, || {
        service.process.assert_alive();
        disk.eject().then_some(())
    });
    disk.plug_in();
    wait("it to be served again", PATIENCE, || {
        service.process.assert_alive();
        let mut peer = Peer::connect(listen);
        peer.send(&handshake(hash, true));
        peer.stream.read_exact(&mut [0; 68]).ok()
    });
    Peer::unchoked(listen, hash, true).pieces(0..20);
    service.stop();
}

/// A disk is pulled out in the middle of a download and comes back as another device. The download goes on by itself.
#[test]
#[ignore = "needs root and loop devices"]
fn a_disk_returns_under_another_number() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(128 * MIB));
    let seeds = Dir::new("seed");
    let content = Content::file("disk.bin", 48 * MIB, 4);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(4 * MIB));
    let mut seeder = setup.start(&seeds);
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\npeer = \"{}\"\n",
        seeder.torrent().display(),
        disk.at().display(),
        seeder.addr()
    );
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    service.wait_for("downloading: disk.bin", 1);
    let file = disk.at().join("disk.bin");
    wait("some of it", PATIENCE, || {
        (allocated(&file) > 8 * MIB).then_some(())
    });
    let number =
        |disk: &Disk| std::os::unix::fs::MetadataExt::dev(&fs::metadata(disk.at()).unwrap());
    let before = number(&disk);
    // Data that the kernel had not written yet would be lost.
    disk.sync();
    disk.unplug();
    service.wait_for("it is not served until its files are back", 1);
    // Other disks take the old device number, if it is free by now.
    let others = [(); 2].map(|()| Disk::new(16 * MIB));
    disk.plug_in();
    assert_ne!(number(&disk), before);
    service.wait_for("complete: disk.bin", 1);
    assert!(content.is_same_as(&file));
    service.stop();
    seeder.stop();
    drop(others);
}

/// The disk of the state is full. Known torrents are seeded, and so are new ones that need no index of their files. A
/// torrent that needs an index waits, which is logged, and is seeded when there is room. It comes from a watched folder
/// and from the configuration. An index that has not changed is not written again.
#[test]
#[ignore = "needs root and loop devices"]
fn a_full_state_disk() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(16 * MIB));
    let (watch, data, away) = (dir.sub("watch"), dir.sub("data"), dir.sub("away"));
    let lay = |to: &Path, name: &str, files: u64, len: u64| {
        let names: Vec<String> = (0..files).map(|n| format!("{n:04}")).collect();
        let files: Vec<_> = names.iter().map(|n| (n.as_str(), len)).collect();
        let content = Content::folder(name, &files);
        let torrent = dir.join("made.torrent");
        let hash = make(content.path(), &torrent, &[]);
        content.copy_to(&data);
        age(&torrent);
        fs::rename(&torrent, to.join(format!("{name}.torrent"))).unwrap();
        hash
    };
    let state = disk.at().join("state");
    let listen = net.addr(Family::V4);
    let watched = config(&watch, &data);
    let hash = lay(&watch, "known", 20, 1 << 14);
    let mut service = Service::start_at(&dir, &state, listen, &watched, &[]);
    service.wait_for("seeding: known", 1);
    service.stop();
    let written = || {
        let entries = fs::read_dir(&state).unwrap().flatten();
        let index = entries
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "index"));
        let marks =
            index.map(|path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap()));
        marks.collect::<Vec<u64>>()
    };
    let before = written();
    assert_eq!(before.len(), 1);
    let full = disk.fill();
    let [few_named, many_named] =
        [("few named", 2, 100), ("many named", 2000, 20)].map(|(name, n, len)| {
            lay(&away, name, n, len);
            let torrent = away.join(format!("{name}.torrent"));
            format!(
                "[[seed]]\npath = \"{}\"\ndata = \"{}\"\n",
                torrent.display(),
                data.display()
            )
        });
    let config = watched + &few_named + &many_named;
    let mut service = Service::start_at(&dir, &state, listen, &config, &[]);
    service.wait_for("seeding: known", 1);
    service.wait_for("seeding: few named", 1);
    Peer::unchoked(listen, hash, true).pieces(0..20);
    lay(&watch, "many", 2000, 21);
    let few = lay(&watch, "few", 1, 1 << 14);
    service.wait_for("seeding: few", 2);
    service.wait_for("index could not be written: No space left on device", 2);
    Peer::unchoked(listen, hash, true).pieces(0..20);
    let mut peer = Peer::unchoked(listen, few, true);
    peer.block(0, 0, 1 << 14);
    assert_eq!(
        written(),
        before,
        "the index was written though it is the same"
    );
    fs::remove_file(full).unwrap();
    service.wait_for("seeding: many", 2);
    service.stop();
}

/// On a disk without sparse files a long file is not filled with zeros at once. Peers of other torrents are served
/// meanwhile, and a stop does not wait for the rest of the zeros.
#[test]
#[ignore = "needs root, loop devices and FUSE"]
fn a_long_file_where_nothing_is_sparse() {
    const LEN: u64 = 6 << 30;
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Exfat::new(8 << 30));
    let (seeds, source) = (Dir::new("seed"), Dir::new("source"));
    // A sparse file: its zeros take no room here.
    let film = source.join("film.mkv");
    File::create(&film)
        .and_then(|file| file.set_len(LEN))
        .unwrap();
    let torrent = source.join("film.torrent");
    fs::write(&torrent, torrent_of_zeros(&source, LEN)).unwrap();
    let mut seeder = Setup::new(&torrent, net.addr(Family::V4))
        .data(source.path())
        .up_bps(Some(MIB))
        .start(&seeds);
    let other = Content::file("other.bin", 40 << 14, 1);
    let made = dir.join("other.torrent");
    let hash = make(other.path(), &made, &[]);
    let listen = net.addr(Family::V4);
    let config = format!(
        "[[seed]]\npath = \"{}\"\ndata = \"{}\"\n[[get]]\ntorrent = \"{}\"\nout = \"{}\"\npeer = \"{}\"\n",
        made.display(),
        other.parent().display(),
        torrent.display(),
        disk.at().display(),
        seeder.addr()
    );
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("downloading: film.mkv", 1);
    service.wait_for("seeding: other.bin", 1);
    let file = disk.at().join("film.mkv");
    let len = || fs::metadata(&file).map_or(0, |there| there.len());
    wait("it to grow", PATIENCE, || (len() > 16 * MIB).then_some(()));
    // Read from the disk: the thread that fills the long file has to read this one too.
    forget(other.path());
    Peer::unchoked(listen, hash, true).pieces(0..40);
    assert!(len() < LEN, "it was all made before anybody was served");
    service.stop();
    assert!(len() < LEN, "the stop waited for all of it");
    seeder.stop();
}

/// A torrent of `len` zeros, made from the hash of one piece.
fn torrent_of_zeros(dir: &Dir, len: u64) -> Vec<u8> {
    const PIECE: u64 = 16 << 20;
    let (one, made) = (dir.join("one"), dir.join("one.torrent"));
    File::create(&one)
        .and_then(|file| file.set_len(PIECE))
        .unwrap();
    make(&one, &made, &["-s", "16M"]);
    let bytes = fs::read(&made).unwrap();
    let head = b"6:pieces20:";
    let at = bytes.windows(head.len()).position(|w| w == head).unwrap() + head.len();
    let pieces = bytes[at..at + 20].repeat(usize::try_from(len / PIECE).unwrap());
    let info = format!(
        "d4:infod6:lengthi{len}e4:name8:film.mkv12:piece lengthi{PIECE}e6:pieces{}:",
        pieces.len()
    );
    [info.as_bytes(), &pieces, b"ee"].concat()
}
