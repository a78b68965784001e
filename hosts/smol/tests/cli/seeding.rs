//! `seed`, started, stopped and started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Scratch, run};

/// `everseed seed` with its state in `state` and its output in the file `log`.
struct Seeding {
    child: Child,
    log: PathBuf,
}

impl Seeding {
    fn start(folder: &Path, args: &[&str]) -> Seeding {
        let log = folder.join("log");
        let out = fs::File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_everseed"));
        command.current_dir(folder).args(["seed", "--state=state"]);
        command.args(["--listen=127.0.0.1:0"]).args(args);
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = child.spawn().unwrap();
        Seeding { child, log }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait_for(&self, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.text().contains(wanted) {
            assert!(Instant::now() < end, "no {wanted:?} in:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Stops everseed, and returns its exit code and output.
    fn stop(mut self) -> (i32, String) {
        self.signal(Signal::TERM);
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.text())
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resume_records(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder.join("state")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let records = paths.filter(|path| path.extension().is_some_and(|e| e == "resume"));
    records.map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn a_disk_that_is_not_mounted_costs_nothing() {
    let scratch = Scratch::new();
    let folder = &scratch.0;
    scratch.write("disk/share/a", &[1; 100_000]);
    assert_eq!(run(folder, &["make", "disk/share"]).0, 0);
    let args = ["share.torrent", "--data=disk"];
    let seeding = Seeding::start(folder, &args);
    seeding.wait_for("seeding: share");
    assert_eq!(seeding.stop().0, 0);
    let known = resume_records(folder);
    assert_eq!(known.len(), 1);

    fs::rename(folder.join("disk/share"), folder.join("elsewhere")).unwrap();
    let seeding = Seeding::start(folder, &args);
    seeding.wait_for("disk/share is missing; it is not served until its files are back");
    assert!(!seeding.text().contains("seeding:"));
    assert_eq!(seeding.stop().0, 0);
    assert_eq!(resume_records(folder), known);

    let seeding = Seeding::start(folder, &args);
    seeding.wait_for("is missing");
    fs::rename(folder.join("elsewhere"), folder.join("disk/share")).unwrap();
    seeding.wait_for("seeding: share");
    let (code, text) = seeding.stop();
    assert!(code == 0 && !text.contains("being checked"), "{text}");
}

#[test]
fn one_press_may_arrive_twice() {
    let scratch = Scratch::new();
    scratch.write("a", b"x");
    // The tracker never answers, so everseed's last announce waits.
    let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("-tudp://{}", mute.local_addr().unwrap());
    let mut seeding = Seeding::start(&scratch.0, &["a", &url]);
    seeding.wait_for("seeding: a");
    seeding.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(50));
    seeding.signal(Signal::INT);
    assert_eq!(seeding.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_was_shared_before_has_changed() {
    let scratch = Scratch::new();
    let share = |says: &str| {
        let seeding = Seeding::start(&scratch.0, &["share"]);
        seeding.wait_for("seeding: share");
        let (code, text) = seeding.stop();
        assert_eq!((code, text.contains(says)), (0, true), "{text}");
        let hash = text
            .lines()
            .find_map(|line| line.strip_prefix("info-hash: "));
        assert!(!says.is_empty() || !text.contains("has changed"), "{text}");
        hash.unwrap().to_owned()
    };
    scratch.write("share/a", &[1; 100_000]);
    let first = share("");
    assert_eq!(share(""), first);
    scratch.write("share/b", b"more");
    let says =
        format!("share has changed, so it is a new torrent now; links to the former one, {first},");
    assert_ne!(share(&says), first);
}

/// Other options of `seed` make a new torrent only if they change the info-hash. Otherwise old links stay valid.
#[test]
fn options_of_what_is_shared() {
    let scratch = Scratch::new();
    scratch.write("share/a", &[1; 100_000]);
    scratch.write("share/.DS_Store", b"junk");
    let share = |options: &[&str]| {
        let seeding = Seeding::start(&scratch.0, &[&["share"], options].concat());
        seeding.wait_for("seeding: share");
        let (code, text) = seeding.stop();
        assert_eq!(code, 0, "{text}");
        let mut lines = text.lines();
        let hash = lines.find_map(|line| line.strip_prefix("info-hash: "));
        let anew = text.contains("it is a new torrent now");
        (hash.unwrap().to_owned(), anew, text.contains("left out"))
    };
    let (all, ..) = share(&["--all"]);
    // As with torrents of 0.1.0, which contained all files.
    assert_eq!(share(&[]), (all.clone(), false, false));
    let (sourced, anew, left_out) = share(&["--source", "SITE"]);
    assert!(sourced != all && anew && left_out);
    let same = (sourced, false, false);
    let outer = [
        "--source",
        "SITE",
        "--comment",
        "x",
        "-t",
        "udp://127.0.0.1:9",
    ];
    for options in [&outer[..2], &outer, &outer[..2]] {
        assert_eq!(share(options), same, "{options:?}");
    }
    scratch.write("share/Thumbs.db", b"junk");
    assert_eq!(share(&["--source", "SITE"]), same);
}

#[test]
fn what_was_shared_before_is_waited_for() {
    let scratch = Scratch::new();
    let folder = &scratch.0;
    scratch.write("disk/share/a", &[1; 100_000]);
    let path = folder.join("disk/share");
    let args = [path.to_str().unwrap()];
    let seeding = Seeding::start(folder, &args);
    seeding.wait_for("seeding: share");
    let (_, first) = seeding.stop();
    for mount_point_stays in [true, false] {
        fs::rename(&path, folder.join("elsewhere")).unwrap();
        if mount_point_stays {
            fs::create_dir(&path).unwrap();
        } else {
            fs::remove_dir(folder.join("disk")).unwrap();
        }
        let seeding = Seeding::start(folder, &args);
        seeding.wait_for("it is not served until its files are back");
        let (code, text) = seeding.stop();
        assert_eq!((code, text.lines().nth(1)), (0, first.lines().nth(1)));
        fs::create_dir_all(folder.join("disk")).unwrap();
        fs::rename(folder.join("elsewhere"), &path).unwrap();
    }
}
