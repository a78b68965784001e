//! `incomplete`: a download is moved to a disk that is full, or that loses power during the copy.

use std::fs;
use std::process::Command;

use everseed_tests::content::{Content, allocated};
use everseed_tests::dir::Dir;
use everseed_tests::disk::Disk;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::Peer;
use everseed_tests::seeder::{Getter, Setup, sent};
use everseed_tests::service::Service;
use everseed_tests::{PATIENCE, wait};

const MIB: u64 = 1 << 20;

/// The complete download stays in its `incomplete` folder and is served from there. The partial copy is removed. The
/// download is moved when the disk has room.
#[test]
fn the_disk_that_it_moves_to_is_full() {
    let (net, seeds, dir, apart) = (
        Net::new(),
        Dir::new("seed"),
        Dir::new("run"),
        Dir::new("apart"),
    );
    let content = Content::folder("album", &[("a", 3 * MIB), ("b", 2 * MIB)]);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&seeds);
    let disk = dir.sub("disk");
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        let done = mount
            .args(["-t", "tmpfs", "-o", options, "test"])
            .arg(&disk)
            .status();
        assert!(done.unwrap().success());
    };
    mount("size=4m");
    let listen = net.addr(Family::V4);
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\nincomplete = \"{}\"\n",
        seeder.torrent().display(),
        disk.display(),
        apart.path().display(),
    );
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("no space is left; make room; it is complete and served", 1);
    wait("the copy to be given up", PATIENCE, || {
        (allocated(&disk) == 0).then_some(())
    });
    let mut peer = Peer::unchoked(listen, seeder.info_hash(), true);
    peer.block(0, 0, 16384);
    mount("remount,size=16m");
    service.wait_for("complete: album", 1);
    content.assert_same_in(&disk, true);
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 1);
    assert_eq!(fs::read_dir(apart.path()).unwrap().count(), 0);
    service.stop();
    seeder.stop();
    let _ = Command::new("umount").arg("-l").arg(&disk).status();
}

/// The original stays until the copy is durable, so that nothing is downloaded twice.
#[test]
#[ignore = "needs root and loop devices"]
fn the_power_goes_while_it_is_copied() {
    const SIZE: u64 = 96 * MIB;
    let (net, seeds, apart) = (Net::new(), Dir::new("seed"), Dir::new("apart"));
    let content = Content::file("cut.bin", SIZE, 99);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&seeds);
    let disk = Disk::new(256 * MIB);
    let out = disk.at().join("files");
    fs::create_dir(&out).unwrap();
    disk.sync();
    let mut dir = Dir::new("get");
    let args = |more: &[&'static str]| {
        let mut args = vec![
            "--incomplete".to_owned(),
            apart.path().display().to_string(),
        ];
        args.extend(["--out".to_owned(), out.display().to_string()]);
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args
    };
    let start = |dir: Dir, args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Getter::start(&seeder.torrent(), net.addr(Family::V4), dir, &args)
    };
    for _ in 0..3 {
        let getter = start(dir, &args(&[]));
        wait("some of the copy", PATIENCE, || {
            (allocated(&out) > 8 * MIB).then_some(())
        });
        dir = getter.kill();
        disk.cut();
        assert!(allocated(apart.path()) >= SIZE || out.join("cut.bin").exists());
    }
    let (code, _dir) = start(dir, &args(&["--no-seed"])).end();
    assert_eq!(code, 0);
    content.assert_same_in(&out, true);
    assert_eq!(fs::read_dir(apart.path()).unwrap().count(), 0);
    seeder.stop();
    let sent = sent(&seeds, &seeder.info_hash());
    assert!(sent <= SIZE + MIB, "{sent} bytes were sent");
}
