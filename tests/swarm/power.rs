//! Power cuts: the process is killed, and data that was not synced is lost.
//!
//! The tests make a disk of their own, which needs root and loop devices. `tests/run` runs them as one step.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use everseed_disk::check::{CHUNK, Check};
use everseed_disk::read_torrent;
use everseed_tests::content::{Content, allocated};
use everseed_tests::dir::Dir;
use everseed_tests::disk::Disk;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Seeder, Setup, make, sent};

const MIB: u64 = 1 << 20;

/// A seeder, and a disk that holds a download from it and its state.
struct Stage {
    net: Net,
    disk: Disk,
    dir: Dir,
    content: Content,
    seeder: Seeder,
}

impl Stage {
    fn new(name: &str, size: u64, seed: u64, up_bps: Option<u64>) -> Stage {
        let (net, dir) = (Net::new(), Dir::new("seed"));
        let content = Content::file(name, size, seed);
        let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(up_bps);
        let seeder = setup.start(&dir);
        let disk = Disk::new(256 * MIB);
        Stage {
            net,
            disk,
            dir,
            content,
            seeder,
        }
    }

    fn get(&self, args: &[&str]) -> Getter {
        let at = |name| self.disk.at().join(name).display().to_string();
        let (files, state) = (at("files"), at("state"));
        let mut all = vec!["--out", &files, "--state", &state];
        all.extend(args);
        let listen = self.net.addr(Family::V4);
        let mut getter = Getter::start(&self.seeder.torrent(), listen, Dir::new("get"), &all);
        getter.wait_for("listening: ");
        getter
    }

    /// Downloads the rest, and returns how many bytes the seeder sent in all.
    fn finish(mut self) -> u64 {
        let (code, _) = self.get(&["--no-seed"]).end();
        assert_eq!(code, 0, "exit code of the last download");
        self.content
            .assert_same_in(&self.disk.at().join("files"), true);
        self.seeder.stop();
        sent(&self.dir, &self.seeder.info_hash())
    }
}

/// The power is cut again and again, at random moments. Durable pieces are not downloaded again, and in the end all
/// bytes are right.
#[test]
#[ignore = "needs root and loop devices"]
fn cut_at_random_moments() {
    const CUTS: u32 = 10;
    let stage = Stage::new("cut.bin", 64 * MIB, 95, Some(16 * MIB));
    let file = stage.disk.at().join("files/cut.bin");
    let mut chance = 4711_u64;
    let mut next = || {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        chance >> 42
    };
    let mut durable = 0;
    // Each round downloads up to 4 MiB more, so that ten rounds do not complete the download.
    for cut in 0..CUTS {
        let getter = stage.get(&[]);
        // A moment is an amount that was written, because time says little on a busy machine. It is between 0 and 4 MiB
        // since the last start.
        let goal = allocated(&file) + next();
        everseed_tests::wait("some of it", everseed_tests::PATIENCE, || {
            (allocated(&file) >= goal).then_some(())
        });
        if cut % 2 == 0 {
            durable = allocated(&file);
            stage.disk.sync();
            thread::sleep(Duration::from_millis(next() >> 17));
        }
        getter.kill();
        stage.disk.cut();
        let left = allocated(&file);
        assert!(
            left >= durable,
            "{left} of {durable} durable bytes are left"
        );
    }
    assert!(durable > 8 * MIB, "only {durable} bytes were ever durable");
    let mut getter = stage.get(&[]);
    getter.wait_for("downloading: ");
    let output = getter.process.output();
    let to_come = to_come(&output);
    getter.kill();
    // Pieces in progress were lost too; with one peer there are few.
    assert!(
        to_come <= 64 * MIB - durable + 4 * MIB,
        "{durable} bytes are durable: {output}"
    );
    stage.finish();
}

/// The power is cut when `get` has just ended. All content is on the disk, and nothing is downloaded again.
#[test]
#[ignore = "needs root and loop devices"]
fn cut_when_complete() {
    let stage = Stage::new("done.bin", 48 * MIB, 96, None);
    let (code, _) = stage.get(&["--no-seed"]).end();
    assert_eq!(code, 0);
    stage.disk.cut();
    stage
        .content
        .assert_same_in(&stage.disk.at().join("files"), true);
    let sent = stage.finish();
    assert_eq!(sent, 48 * MIB, "bytes that were sent");
}

/// The power is cut right after a clean stop. The next start needs no check, and all pieces are right.
#[test]
#[ignore = "needs root and loop devices"]
fn cut_after_a_clean_stop() {
    let stage = Stage::new("stopped.bin", 48 * MIB, 97, Some(16 * MIB));
    let getter = stage.get(&[]);
    let file = stage.disk.at().join("files/stopped.bin");
    everseed_tests::wait("some of it", everseed_tests::PATIENCE, || {
        (allocated(&file) > 8 * MIB).then_some(())
    });
    assert_eq!(
        getter.stop().0,
        7,
        "exit code of a download that was stopped"
    );
    stage.disk.cut();
    let mut getter = stage.get(&[]);
    getter.wait_for("downloading: ");
    let output = getter.process.output();
    assert!(!output.contains("being checked"), "{output}");
    getter.kill();
    let sent = stage.finish();
    assert!(sent <= 56 * MIB, "{sent} bytes were sent");
}

/// The power is cut during a check of content that another program has just written. The record of the check is
/// durable, the content is not. No piece counts as verified that is lost.
#[test]
#[ignore = "needs root and loop devices"]
fn a_check_that_is_cut() {
    const PIECE: usize = 16384;
    const PIECES: u32 = 256;
    let disk = Disk::new(64 * MIB);
    let dir = Dir::new("check");
    let source = Content::file("checked.bin", u64::from(PIECES) * PIECE as u64, 98);
    let torrent = dir.join("checked.torrent");
    make(source.path(), &torrent, &["-s", "16K"]);
    let right = fs::read(source.path()).unwrap();
    let (data, state) = (disk.at().join("data"), disk.at().join("state"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&state).unwrap();
    let file = data.join("checked.bin");
    fs::write(&file, vec![0; right.len()]).unwrap();
    disk.sync();
    let metainfo = read_torrent(&torrent).unwrap();
    let open = || everseed_disk::Content::open(&torrent, &metainfo, &data, &state).unwrap();
    let mut scratch = vec![0; CHUNK];
    let mut known = 0;
    for cut in 1..=4 {
        let content = open();
        // The length of the file does not change, as with other clients.
        let end = right.len() / 4 * cut;
        let there = File::options().write(true).open(&file).unwrap();
        there.write_all_at(&right[..end], 0).unwrap();
        drop(there);
        let mut check = Check::resume(&content);
        for _ in 0..PIECES - 10 {
            if check.left(&content) > 0 {
                check.step(&content, &mut scratch).unwrap();
            }
        }
        check.checkpoint().unwrap().save(&content).unwrap();
        for entry in fs::read_dir(&state).unwrap().flatten() {
            File::open(entry.path()).unwrap().sync_all().unwrap();
        }
        File::open(&state).unwrap().sync_all().unwrap();
        drop((check, content));
        disk.cut();
        let content = open();
        let mut finish = |mut check: Check| {
            while check.left(&content) > 0 {
                check.step(&content, &mut scratch).unwrap();
            }
            check.finish(&content, &mut || true).unwrap().unwrap()
        };
        let resumed = Check::resume(&content);
        known += resumed.done();
        assert_eq!(finish(resumed), finish(Check::new(&content)), "cut {cut}");
    }
    assert!(known > 0, "no record outlived the cut");
}

/// The bytes of `downloading: NAME, 12.5 MiB of 64.0 MiB to come`, rounded as there.
fn to_come(output: &str) -> u64 {
    let line = output.lines().find(|l| l.starts_with("downloading: "));
    let mut words = line.unwrap_or_default().split(' ').skip(2);
    let number: f64 = words.next().and_then(|n| n.parse().ok()).expect("a number");
    let unit = match words.next() {
        Some("B") => 1.0,
        Some("KiB") => 1024.0,
        Some("MiB") => 1024.0 * 1024.0,
        other => panic!("{other:?} is no unit: {output}"),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = (number * unit) as u64;
    bytes
}
