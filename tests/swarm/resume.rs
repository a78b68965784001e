//! Downloads go on after they were killed or stopped, on a full disk, on another disk, and with wrong data.

use std::fs;
use std::thread;
use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Setup};

/// A download is killed again and again. In the end it is complete, and few blocks came twice.
#[test]
fn killed_at_random_moments() {
    const KILLS: u64 = 12;
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("killed.bin", 96 << 20, 80);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(16 << 20));
    let mut seeder = setup.start(&dir);
    let listen = net.addr(Family::V4);
    let mut got = Dir::new("get");
    let mut chance = 12_345_u64;
    for _ in 0..KILLS {
        let mut getter = Getter::start(&seeder.torrent(), listen, got, &[]);
        getter.wait_for("listening: ");
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        thread::sleep(Duration::from_millis(chance >> 54));
        got = getter.kill();
        let _ = fs::remove_file(got.join("get.log"));
    }
    let getter = Getter::start(&seeder.torrent(), listen, got, &["--no-seed"]);
    let (code, got) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    seeder.stop();
    // Blocks that were on their way or in incomplete pieces may come twice.
    let in_doubt = KILLS * (8 << 20);
    let sent = everseed_tests::seeder::sent(&dir, &seeder.info_hash());
    assert!(sent <= (96 << 20) + in_doubt, "{sent} bytes were sent");
}

/// After a clean stop a download goes on without a check of its pieces.
#[test]
fn stopped_and_continued() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("stopped.bin", 48 << 20, 81);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(16 << 20));
    let mut seeder = setup.start(&dir);
    let listen = net.addr(Family::V4);
    let getter = Getter::start(&seeder.torrent(), listen, Dir::new("get"), &[]);
    everseed_tests::wait("some of it", everseed_tests::PATIENCE, || {
        (everseed_tests::content::allocated(&getter.files()) > 8 << 20).then_some(())
    });
    let (code, got) = getter.stop();
    assert_eq!(code, 7, "exit code of a download that was stopped");
    let _ = fs::remove_file(got.join("get.log"));
    let mut getter = Getter::start(&seeder.torrent(), listen, got, &["--no-seed"]);
    getter.wait_for("downloading: ");
    let output = getter.process.output();
    assert!(!output.contains("being checked"), "{output}");
    let (code, got) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    seeder.stop();
}

/// With `--overwrite`, bad pieces of an existing file are downloaded again, and good ones are kept.
#[test]
fn wrong_data_at_the_start() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("wrong.bin", 32 << 20, 82);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let got = Dir::new("get");
    let copy = content.copy_to(&got.sub("files"));
    let mut bytes = fs::read(&copy).unwrap();
    bytes[5_000_000..9_000_000].fill(7);
    bytes.truncate(30 << 20);
    fs::write(&copy, bytes).unwrap();
    let listen = net.addr(Family::V4);
    let args = ["--no-seed", "--overwrite"];
    let getter = Getter::start(&seeder.torrent(), listen, got, &args);
    let (code, got) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&got.join("files"), true);
    seeder.stop();
    let sent = everseed_tests::seeder::sent(&dir, &seeder.info_hash());
    assert!(sent < 12 << 20, "{sent} bytes were sent");
}

/// The same torrent is downloaded to another folder on another disk. everseed does not take that for the old disk, not
/// mounted, and does not use the record of the old folder.
#[test]
fn to_another_disk() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("moved.bin", 4 << 20, 84);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let listen = net.addr(Family::V4);
    let torrent = seeder.torrent();
    let (code, got) = Getter::start(&torrent, listen, Dir::new("get"), &["--no-seed"]).end();
    assert_eq!(code, 0);
    let other = got.sub("other").display().to_string();
    let script = format!("mount -t tmpfs none '{other}' && exec \"$@\"");
    let wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned);
    let args = ["--no-seed", "--out", &other];
    let (code, got) = Getter::start_in(&torrent, listen, got, &args, &wrapper).end();
    assert_eq!(code, 0);
    let said = fs::read_to_string(got.join("get.log")).unwrap();
    assert!(said.contains("4.00 MiB of 4.00 MiB to come"), "{said}");
    seeder.stop();
}

/// A download waits while its disk is full, then goes on. If it is stopped meanwhile, the exit code is 9.
#[test]
fn a_full_disk() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("large.bin", 24 << 20, 83);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    for room_comes in [true, false] {
        let got = Dir::new("get");
        let (files, flag) = (got.sub("files"), got.join("flag"));
        // A disk of 32 MiB, half of which another file takes until the flag exists.
        let script = format!(
            "mount -t tmpfs -o size=32m none '{files}' && head -c 16000000 /dev/zero >'{files}/other' && \
             {{ (while [ ! -e '{flag}' ] && [ -d '{dir}' ]; do sleep 0.1; done; rm '{files}/other') & exec \"$@\"; }}",
            files = files.display(),
            flag = flag.display(),
            dir = got.path().display(),
        );
        let wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned);
        let listen = net.addr(Family::V4);
        // The test cannot see the files, which are in everseed's own mounts. So everseed's word has to do.
        let args = if room_comes { &["--no-seed"][..] } else { &[] };
        let mut getter = Getter::start_in(&seeder.torrent(), listen, got, args, &wrapper);
        getter.wait_for("no space is left; make room");
        if room_comes {
            fs::write(&flag, "").unwrap();
            getter.wait_for("complete: large.bin");
            assert_eq!(getter.end().0, 0);
        } else {
            fs::write(&flag, "").unwrap();
            assert_eq!(getter.stop().0, 9, "exit code with a full disk");
        }
    }
    seeder.stop();
}
