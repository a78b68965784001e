//! A file, a folder or the disk of a download vanishes. That is logged, and the download goes on by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use everseed_tests::content::{Content, allocated};
use everseed_tests::dir::Dir;
use everseed_tests::disk::Disk;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Seeder, Setup};
use everseed_tests::service::Service;
use everseed_tests::{PATIENCE, wait};

const MIB: u64 = 1 << 20;

/// A slow seeder of two files.
fn seed(net: &Net, dir: &Dir) -> (Content, Seeder) {
    let content = Content::folder("pair", &[("a", 5 * MIB), ("b", 5 * MIB)]);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(MIB));
    let seeder = setup.args(["-s", "64K"]).start(dir);
    (content, seeder)
}

/// A service that downloads the two files to `out`.
fn run(net: &Net, dir: &Dir, seeder: &Seeder, out: &Path) -> Service {
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\n",
        seeder.torrent().display(),
        out.display()
    );
    let mut service = Service::start(dir, net.addr(Family::V4), &config, &[]);
    service.wait_for("downloading: pair", 1);
    service
}

/// Waits until a part of both files is on the disk.
fn wait_for_some(out: &Path) {
    let some = |name: &str| allocated(&out.join("pair").join(name)) > MIB;
    wait("some of it", PATIENCE, || {
        (some("a") && some("b")).then_some(())
    });
}

/// Removes `removed` during a download. What is left counts, and the rest is downloaded again.
fn comes_again(removed: &str) {
    let (net, dir, seeds) = (Net::new(), Dir::new("run"), Dir::new("seed"));
    let (content, mut seeder) = seed(&net, &seeds);
    let out = dir.sub("out");
    let mut service = run(&net, &dir, &seeder, &out);
    wait_for_some(&out);
    let gone = out.join(removed);
    match gone.is_dir() {
        true => fs::remove_dir_all(&gone).unwrap(),
        false => fs::remove_file(&gone).unwrap(),
    }
    service.wait_for("error: pair: ", 1);
    if removed.is_empty() {
        // A service does not make `out`, because it may be on a disk that is away.
        service.wait_for("out is missing", 1);
        fs::create_dir(&out).unwrap();
    }
    service.wait_for("complete: pair", 1);
    assert!(content.is_same_as(&out.join("pair")));
    let said = service.process.output();
    assert!(said.matches("error: ").count() <= 2, "{said}");
    service.stop();
    seeder.stop();
}

#[test]
fn a_file_is_removed() {
    comes_again("pair/a");
}

#[test]
fn its_folder_is_removed() {
    comes_again("pair");
}

/// The folder that `out` names is removed.
#[test]
fn the_folder_around_it_is_removed() {
    comes_again("");
}

/// A complete file is removed while the other one is downloaded.
#[test]
fn a_complete_file_is_removed() {
    let (net, dir, seeds) = (Net::new(), Dir::new("run"), Dir::new("seed"));
    let (content, mut seeder) = seed(&net, &seeds);
    let out = dir.sub("out");
    let config = format!(
        "[[get]]\ntorrent = \"{}\"\nout = \"{}\"\nsequential = true\n",
        seeder.torrent().display(),
        out.display()
    );
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    let second = out.join("pair/b");
    wait("the second file", PATIENCE, || {
        (allocated(&second) > MIB).then_some(())
    });
    fs::remove_file(out.join("pair/a")).unwrap();
    service.wait_for("complete: pair", 1);
    assert!(content.is_same_as(&out.join("pair")));
    service.stop();
    seeder.stop();
}

/// The same with `get`.
#[test]
fn what_is_removed_from_a_get_comes_again() {
    let (net, seeds) = (Net::new(), Dir::new("seed"));
    let (content, mut seeder) = seed(&net, &seeds);
    let listen = net.addr(Family::V4);
    let getter = Getter::start(&seeder.torrent(), listen, Dir::new("get"), &["--no-seed"]);
    let out = getter.files();
    wait_for_some(&out);
    fs::remove_dir_all(out.join("pair")).unwrap();
    let (code, _dir) = getter.end();
    assert_eq!(code, 0);
    assert!(content.is_same_as(&out.join("pair")));
    seeder.stop();
}

/// A disk is pulled out before the kernel has written the download to it, and comes back without it.
#[test]
#[ignore = "needs root and loop devices"]
fn a_disk_returns_without_it() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(64 * MIB));
    let seeds = Dir::new("seed");
    let (content, mut seeder) = seed(&net, &seeds);
    let out = disk.at().join("films");
    fs::create_dir(&out).unwrap();
    disk.sync();
    let mut service = run(&net, &dir, &seeder, &out);
    let some = || fs::metadata(out.join("pair/a")).is_ok_and(|there| there.len() > 1);
    wait("some of it", PATIENCE, || some().then_some(()));
    disk.unplug();
    service.wait_for("it is not served until its files are back", 1);
    disk.plug_in();
    service.wait_for("complete: pair", 1);
    assert!(content.is_same_as(&out.join("pair")));
    service.stop();
    seeder.stop();
}

/// A disk is read-only for a while. That is logged, but not every ten seconds.
#[test]
#[ignore = "needs root and loop devices"]
fn a_disk_becomes_read_only() {
    let (net, dir, disk) = (Net::new(), Dir::new("run"), Disk::new(64 * MIB));
    let seeds = Dir::new("seed");
    let (content, mut seeder) = seed(&net, &seeds);
    let mut service = run(&net, &dir, &seeder, disk.at());
    wait_for_some(disk.at());
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        let tried = mount.args(["-o", how]).arg(disk.at()).output();
        tried.is_ok_and(|done| done.status.success())
    };
    // A normal remount fails while files are open for writing. `abort` has the kernel do it, as after an error.
    assert!(remount("remount,abort"));
    service.wait_for("Read-only file system", 1);
    // everseed closes its files, so that the disk can be repaired.
    wait("the disk to be let go", PATIENCE, || {
        service.process.assert_alive();
        disk.eject().then_some(())
    });
    disk.plug_in();
    service.wait_for("complete: pair", 1);
    assert!(content.is_same_as(&disk.at().join("pair")));
    let said = service.process.output();
    assert!(said.matches("error: ").count() <= 3, "{said}");
    service.stop();
    seeder.stop();
}
