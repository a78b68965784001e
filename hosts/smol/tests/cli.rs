//! The commands' output, exit codes and messages, as scripts see them.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use miniz_oxide::deflate::compress_to_vec;
use rustix::process::{Pid, Signal, kill_process};

/// A folder for one test, removed at the test's end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("everseed-cli-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn everseed(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everseed"));
    command.current_dir(folder).args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

/// The exit code, standard output and standard error of a run.
fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = everseed(folder, args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn made_shown_checked() {
    let scratch = Scratch::new();
    scratch.write("share/a\x1b[31m", &[1; 20_000]);
    scratch.write("share/sub/b", &[2; 50_000]);
    scratch.write("share/empty", b"");
    let make = [
        "make",
        "share",
        "-t",
        "http://t/a?x=1",
        "-t",
        "udp://u:80",
        "-s",
        "16",
        "-c",
        "hi\x07",
        "-w",
        "http://w/",
    ];
    let (code, out, err) = run(&scratch.0, &make);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    let path = scratch.0.join("share.torrent");
    assert_eq!(lines[0], format!("torrent: {}", path.display()));
    let hash = lines[1].strip_prefix("info-hash: ").unwrap();
    let magnet = format!(
        "magnet: magnet:?xt=urn:btih:{hash}&dn=share&tr=http%3A%2F%2Ft%2Fa%3Fx%3D1&tr=udp%3A%2F%2Fu%3A80"
    );
    assert_eq!(lines[2..], [magnet.as_str()]);

    let (code, out, _) = run(&scratch.0, &["show", "share.torrent"]);
    assert_eq!(code, 0);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "name: share\ninfo-hash: {hash}\n{magnet}\nsize: 68.3 KiB (70000 bytes)\n\
         pieces: 5 of 16.0 KiB (16384 bytes)\nprivate: no\ncreated by: everseed/{version}\n\
         comment: hi\\u{{7}}\ntracker (tier 1): http://t/a?x=1\ntracker (tier 2): udp://u:80\n\
         web seed: http://w/\nfiles: 3\n     1           20000  a_[31m (renamed)\n     2               0  empty\n     3           50000  sub/b\n\
         renamed: 1, as a file cannot have the name that the torrent gives it, or another one has it\n"
    );
    assert_eq!(out, expected);

    let check = ["check", "share.torrent", "."];
    let (code, out, err) = run(&scratch.0, &check);
    let good = "ok       a_[31m\nok       empty\nok       sub/b\npieces: 5 of 5 good\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, good, ""));
    let mut bytes = vec![2; 50_000];
    bytes[49_999] = 3;
    scratch.write("share/sub/b", &bytes);
    fs::remove_file(scratch.0.join("share/empty")).unwrap();
    let (code, out, _) = run(&scratch.0, &["check", "share.torrent", "share"]);
    let bad = "ok       a_[31m\nmissing  empty (nothing is needed)\nbad      sub/b (pieces 4)\n\
               pieces: 4 of 5 good\n";
    assert_eq!((code, out.as_str()), (3, bad));
    // An empty file alone is no loss.
    scratch.write("share/sub/b", &[2; 50_000]);
    let (code, out, _) = run(&scratch.0, &check);
    let good = "ok       a_[31m\nmissing  empty (nothing is needed)\nok       sub/b\npieces: 5 of 5 good\n";
    assert_eq!((code, out.as_str()), (0, good));
    fs::create_dir(scratch.0.join("share/empty")).unwrap();
    assert_eq!(run(&scratch.0, &check).0, 3);
}

/// Every option that a help names is accepted, by name and by letter, with a value or without as the help says.
#[test]
fn every_option_of_a_help_is_read() {
    use everseed::cli::COMMANDS;
    use everseed::options::table as options;
    let scratch = Scratch::new();
    for (command, help) in COMMANDS {
        for option in options::options(help) {
            if ["--help", "--version"].contains(&option.name) {
                continue;
            }
            let by_name = format!("{}=", option.name);
            let by_letter = option.short.map(|letter| format!("-{letter}="));
            for given in [Some(by_name), by_letter].into_iter().flatten() {
                let (code, _, err) = run(&scratch.0, &[command, &given]);
                assert_eq!(code, 2, "{command} {given}: {err}");
                assert!(!err.contains("has no option"), "{command} {given}: {err}");
                let alone = err.contains("takes no value");
                assert_eq!(alone, option.value.is_empty(), "{command} {given}: {err}");
            }
        }
    }
}

/// `--check-config` prints all errors at once, those of the text and those of the files that it names, each with the
/// line of its key.
#[test]
fn a_configuration_is_checked_whole() {
    let scratch = Scratch::new();
    scratch.write("share/a.flac", &[1; 20_000]);
    scratch.write("bad.torrent", b"nonsense");
    assert_eq!(run(&scratch.0, &["make", "share"]).0, 0);
    let here = scratch.0.display();
    let config = format!(
        "state = \"{here}/state\"\nstate-in-ram = true\nlisten = \"127.0.0.1:0\"\nup = \"fast\"\n\
         watch = [\"{here}/share/a.flac\", \"share\"]\nslots\n\
         [[get]]\ntorrent = \"{here}/share.torrent\"\nout = \"{here}/bad.torrent\"\n\
         only = [\"*.flac\", \"*.mp3\", \"7\"]\ntime = \"long\"\n\
         [[seed]]\npath = \"{here}/bad.torrent\"\ndata = \"{here}/gone\"\n[[sed]]\n"
    );
    scratch.write("everseed.toml", config.as_bytes());
    let check = ["run", "--check-config", "-c", "everseed.toml"];
    let (code, out, err) = run(&scratch.0, &check);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let expected = [
        "4: up: \"fast\" is not a rate",
        "5: watch: \"share\" is not a whole path",
        "6: this is no `key = value`",
        "9: out: ",
        "10: only *.mp3: the torrent holds no such file",
        "10: only 7: the torrent holds no such file",
        "11: time: \"long\" is not a number of minutes",
        "13: ",
        "14: ",
        "15: there is no [[sed]]",
    ];
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{out}");
    for (line, expected) in lines.iter().zip(expected) {
        let expected = format!("everseed.toml:{expected}");
        assert!(line.starts_with(&expected), "{expected}: {out}");
    }
    assert!(lines[8].ends_with("it is waited for"), "{out}");
    // A start refuses the configuration with the same messages.
    let (code, _, err) = run(&scratch.0, &["run", "-c", "everseed.toml"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("everseed.toml:4: ") && err.contains("everseed.toml:15: "),
        "{err}"
    );
    scratch.write("everseed.toml", b"watch = \"/srv\"\n\n\n# caf\xe9\n");
    let (code, _, err) = run(&scratch.0, &check);
    assert!(
        code == 1 && err.contains("everseed.toml:4: it is not UTF-8"),
        "{err}"
    );
}

/// The state and the configuration in use are shared by nothing that somebody names.
#[test]
fn passkeys_are_not_shared() {
    let scratch = Scratch::new();
    for file in ["state/lock", "state/made/0", "state/given/0.torrent"] {
        scratch.write(file, b"passkey");
    }
    scratch.write("state/catalogue", b"passkey");
    scratch.write("state/films/film", b"film");
    let here = scratch.0.display();
    let entry = |path: &str| format!("[[seed]]\npath = \"{here}/{path}\"\n");
    let config = format!(
        "state = \"{here}/state\"\nstate-in-ram = true\nlisten = \"127.0.0.1:0\"\n\
         watch = [\"{here}/state\", \"{here}/state/given\", \"{here}/state/films\"]\n{}{}{}",
        entry("state/given"),
        entry("state/catalogue"),
        entry("state/films/film")
    );
    scratch.write("everseed.toml", config.as_bytes());
    let check = ["run", "--check-config", "-c", "everseed.toml"];
    let (code, out, _) = run(&scratch.0, &check);
    let secret = "it belongs to the state of everseed";
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len()), (1, 4), "{out}");
    for (line, number) in lines.iter().zip([4, 4, 6, 8]) {
        let start = format!("everseed.toml:{number}: ");
        assert!(line.starts_with(&start) && line.contains(secret), "{out}");
    }
    for path in ["state", "state/given", "state/made/0", "state/catalogue"] {
        for args in [
            &["make", path][..],
            &["seed", "--state=other", "--listen=127.0.0.1:0", path],
        ] {
            let (code, _, err) = run(&scratch.0, args);
            let says = format!("{path} belongs to the state or the configuration");
            assert!(code == 1 && err.contains(&says), "{args:?}: {err}");
        }
    }
    assert_eq!(run(&scratch.0, &["make", "state/films"]).0, 0);
}

/// A configuration may name a compressed .torrent.
#[test]
fn a_packed_torrent_in_a_configuration() {
    let scratch = Scratch::new();
    scratch.write("film", b"film");
    assert_eq!(run(&scratch.0, &["make", "film"]).0, 0);
    let torrent = fs::read(scratch.0.join("film.torrent")).unwrap();
    let packed = compress_to_vec(&torrent, 6);
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let whole = [&head, &packed[..], &[0; 8]].concat();
    scratch.write("film.torrent.gz", &whole);
    scratch.write("cut.torrent.gz", &whole[..40]);
    let here = scratch.0.display();
    for (file, good) in [("film", true), ("cut", false)] {
        let config = format!(
            "state = \"{here}/state\"\nstate-in-ram = true\nlisten = \"127.0.0.1:0\"\n\
             [[seed]]\npath = \"{here}/{file}.torrent.gz\"\n[[get]]\ntorrent = \"{here}/{file}.torrent.gz\"\n\
             out = \"{here}\"\nonly = \"1\"\n"
        );
        scratch.write("everseed.toml", config.as_bytes());
        let check = ["run", "--check-config", "-c", "everseed.toml"];
        let (code, out, _) = run(&scratch.0, &check);
        assert_eq!(code == 0, good, "{out}");
    }
}

/// Whoever has chosen no place for the state is told if a reboot would lose it.
#[test]
fn a_usual_state_in_memory() {
    let scratch = Scratch::new();
    scratch.write("bad.torrent", b"nonsense");
    let name = format!("everseed-cli-usual-{}", std::process::id());
    let memory = Path::new("/dev/shm").join(name);
    let chosen = format!("--state={}", memory.display());
    for (state, warned) in [(None, true), (Some(chosen.as_str()), false)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everseed"));
        command
            .current_dir(&scratch.0)
            .env("XDG_STATE_HOME", &memory);
        command.args(["seed", "--listen=127.0.0.1:0", "bad.torrent"]);
        let output = command.args(state).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let says = err.contains("this state is in memory") && err.contains("--state DIR");
        assert_eq!(says, warned, "{err}");
    }
    fs::remove_dir_all(memory).unwrap();
}

#[test]
fn what_goes_wrong_is_said() {
    let scratch = Scratch::new();
    scratch.write("nonsense.torrent", b"nonsense");
    scratch.write("folder.torrent/x", b"x");
    scratch.write("film", b"x");
    scratch.write("photo", b"jpeg");
    assert_eq!(run(&scratch.0, &["make", "film"]).0, 0);
    let full = format!("--state={}", scratch.0.join("state").display());
    let cases: [(&[&str], i32, &str); 22] = [
        (&[], 2, "everseed: which command?"),
        (
            &["sed"],
            2,
            "everseed: there is no command \"sed\"; did you mean seed?",
        ),
        (
            &["--verson"],
            2,
            "everseed: there is no option --verson; did you mean --version?",
        ),
        (&["make"], 2, "everseed: make needs a file or folder"),
        (&["make", "gone"], 1, "everseed: gone: No such file"),
        (&["show", "gone"], 1, "everseed: gone: No such file"),
        (
            &["show", "nonsense.torrent"],
            1,
            "everseed: nonsense.torrent: not a torrent",
        ),
        (&["check", "nonsense.torrent"], 2, "everseed: check needs"),
        (
            &["show", "folder.torrent"],
            1,
            "everseed: folder.torrent: it is a folder, pipe or device",
        ),
        (
            &["check", "film.torrent", "gone"],
            1,
            "everseed: gone: No such file",
        ),
        (
            &["make", "film", "-o", "photo"],
            1,
            "everseed: photo is there already and is no torrent",
        ),
        (
            &["make", "film", "-o", "/dev/full"],
            1,
            "everseed: /dev/full is there already and is no torrent",
        ),
        (
            &["make", "film", "-o", "folder.torrent"],
            1,
            "everseed: folder.torrent is a folder; name the file",
        ),
        (
            &["make", "film", "-o", "-"],
            1,
            "everseed: a .torrent is written to a file, not to standard output",
        ),
        (
            &["edit", "film.torrent", "-c", "x", "-o", "-"],
            1,
            "everseed: a .torrent is written to a file, not to standard output",
        ),
        (
            &["make", "film", "-o", "gone/x.torrent"],
            1,
            "everseed: gone/x.torrent cannot be written: No such file",
        ),
        (
            &["seed", &full, "--listen=127.0.0.1:0", "/dev/full"],
            1,
            "everseed: /dev/full is a device, socket or FIFO",
        ),
        (
            &["get", &full, "folder.torrent"],
            1,
            "everseed: folder.torrent is a folder; give the .torrent file or its URL",
        ),
        (
            &["get", &full, "nonsense.torrent"],
            25,
            "everseed: nonsense.torrent: not a torrent",
        ),
        (
            &["get", &full, "ftp://example.org/x.torrent"],
            1,
            "everseed: ftp://example.org/x.torrent: only http and https",
        ),
        (
            &[
                "get",
                &full,
                "--listen=127.0.0.1:0",
                "film.torrent",
                "-o",
                "photo",
            ],
            1,
            "everseed: --out photo: that is a file; give a folder",
        ),
        (
            &["seed", "--slots", "x"],
            2,
            "everseed: --slots: \"x\" is not a number",
        ),
    ];
    for (args, code, says) in cases {
        let (got, out, err) = run(&scratch.0, args);
        assert_eq!((got, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.starts_with(says), "{args:?}: {err}");
        assert_eq!(err.contains("--help"), code == 2, "{err}");
    }
    assert_eq!(fs::read(scratch.0.join("photo")).unwrap(), b"jpeg");
    // An existing .torrent is replaced.
    assert_eq!(run(&scratch.0, &["make", "film", "-c", "new"]).0, 0);
}

#[test]
fn help_and_version_everywhere() {
    let here = Path::new(".");
    for command in ["seed", "get", "run", "make", "edit", "show", "check"] {
        for args in [
            &[command, "--help"][..],
            &[command, "-h"],
            &["help", command],
        ] {
            let (code, out, err) = run(here, args);
            assert_eq!((code, err.as_str()), (0, ""));
            assert!(out.starts_with(&format!("everseed {command} - ")), "{out}");
            let long = out.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None);
        }
        assert!(run(here, &[command, "-V"]).1.starts_with("everseed 0."));
    }
    assert!(run(here, &["-V"]).1.starts_with("everseed 0."));
    let (_, out, _) = run(here, &["--help"]);
    assert!(out.starts_with("everseed - "));
    assert_eq!(out.lines().find(|line| line.chars().count() > 80), None);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let scratch = Scratch::new();
    for n in 0..3000 {
        scratch.write(&format!("many/{n:0100}"), b"x");
    }
    assert_eq!(run(&scratch.0, &["make", "many"]).0, 0);
    let binary = env!("CARGO_BIN_EXE_everseed");
    for command in ["show many.torrent", "check many.torrent .", "help seed"] {
        let script = format!("{binary} {command} | true; echo ${{PIPESTATUS[0]}}");
        let mut bash = Command::new("bash");
        let output = bash.current_dir(&scratch.0).args(["-c", &script]).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((text.as_str(), err.as_str()), ("0\n", ""), "{command}");
    }
    // A full disk is a failure.
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut show = Command::new(binary);
    show.current_dir(&scratch.0).args(["show", "many.torrent"]);
    let output = show.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

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

/// A file with a name in an old code page and unreadable files are left out and named. The torrent has the others.
#[test]
fn what_cannot_be_taken_is_named_and_the_rest_is_made() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let scratch = Scratch::new();
    for name in ["b", "c", "secret"] {
        scratch.write(&format!("share/{name}"), &[1; 20_000]);
    }
    scratch.write("share/locked/x", b"x");
    let share = scratch.0.join("share");
    fs::write(
        share.join(std::ffi::OsStr::from_bytes(b"caf\xe9.txt")),
        b"x",
    )
    .unwrap();
    for locked in ["secret", "locked"] {
        let nobody = fs::Permissions::from_mode(0o000);
        fs::set_permissions(share.join(locked), nobody).unwrap();
    }
    // Root may read all files, so another user runs `make`.
    let root = rustix::process::geteuid().is_root();
    let ask = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everseed"));
        command
            .current_dir(&scratch.0)
            .args(["make", "share"])
            .args(more);
        if root {
            chown(&scratch.0, Some(65534), Some(65534)).unwrap();
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), err)
    };
    let (code, err) = ask(&[]);
    assert_eq!(code, 0, "{err}");
    for named in [
        "left out, its name is not UTF-8",
        "caf\\xe9.txt",
        "left out, it cannot be read (Permission denied",
        "share/secret",
        "share/locked",
    ] {
        assert!(err.contains(named), "{err}");
    }
    let (_, out, _) = run(&scratch.0, &["show", "share.torrent"]);
    assert!(out.contains("files: 2\n"), "{out}");
    let (code, err) = ask(&["--strict"]);
    assert_eq!(code, 1, "{err}");
    for locked in ["secret", "locked"] {
        let anybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(share.join(locked), anybody).unwrap();
    }
}

#[test]
fn a_torrent_is_edited() {
    let scratch = Scratch::new();
    scratch.write("film", &[1; 50_000]);
    let made = ["make", "film", "-t", "http://old/a", "-c", "x", "--no-date"];
    assert_eq!(run(&scratch.0, &made).0, 0);
    let shown = || run(&scratch.0, &["show", "film.torrent"]).1;
    let hash = |shown: &str| {
        let line = shown.lines().find(|line| line.starts_with("info-hash"));
        line.unwrap().to_owned()
    };
    let before = shown();
    let edit = [
        "edit",
        "film.torrent",
        "-t",
        "http://new/a,udp://u:1",
        "-t",
        "http://v/a",
    ];
    let (code, out, err) = run(
        &scratch.0,
        &[&edit[..], &["-c", "", "-w", "http://w/"]].concat(),
    );
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("tr=http%3A%2F%2Fnew%2Fa"), "{out}");
    let after = shown();
    assert_eq!(hash(&before), hash(&after));
    for line in [
        "tracker (tier 1): http://new/a",
        "tracker (tier 1): udp://u:1",
        "tracker (tier 2): http://v/a",
        "web seed: http://w/",
    ] {
        assert!(after.contains(&format!("{line}\n")), "{after}");
    }
    assert!(
        !after.contains("comment") && !after.contains("old"),
        "{after}"
    );
    let source = [
        "edit",
        "film.torrent",
        "--source",
        "SITE",
        "-o",
        "site.torrent",
    ];
    let (code, _, err) = run(&scratch.0, &source);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("another torrent for trackers and peers"),
        "{err}"
    );
    assert_eq!(shown(), after, "the given one stays");
    let site = run(&scratch.0, &["show", "site.torrent"]).1;
    assert!(
        site.contains("source: SITE\n") && hash(&site) != hash(&after),
        "{site}"
    );
    assert_eq!(run(&scratch.0, &["check", "site.torrent", "."]).0, 0);
    // `make --source` gives the same info-hash.
    assert_eq!(run(&scratch.0, &["make", "film", "--source", "SITE"]).0, 0);
    assert_eq!(hash(&shown()), hash(&site));
    let (code, _, err) = run(&scratch.0, &["edit", "film.torrent"]);
    assert!(code == 2 && err.contains("needs what to change"), "{err}");
    scratch.write("packed.torrent", b"\x1f\x8b\x08");
    let (code, _, err) = run(&scratch.0, &["show", "packed.torrent"]);
    assert!(code == 1 && err.contains("unpack it first"), "{err}");
    let (code, _, err) = run(&scratch.0, &["edit", "film", "-c", "x"]);
    assert!(code == 1 && err.contains("not a torrent"), "{err}");
    let (code, _, err) = run(
        &scratch.0,
        &["edit", "site.torrent", "-c", "x", "-o", "film"],
    );
    assert!(code == 1 && err.contains("not replaced"), "{err}");
}

/// A pattern that leaves nothing out is named, because it may be mistyped.
#[test]
fn patterns_that_leave_nothing_out_are_named() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.0.join("d/sub")).unwrap();
    for name in ["a", "b.nfo", "sub/c.nfo"] {
        scratch.write(&format!("d/{name}"), &[1; 9]);
    }
    let excluded = ["*.nfo", "**/sub", "*.NFO", "sub/*", "*.{nfo,txt}"];
    let excluded = excluded.iter().flat_map(|pattern| ["--exclude", pattern]);
    let args: Vec<&str> = ["make", "d"].into_iter().chain(excluded).collect();
    let (code, _, err) = run(&scratch.0, &args);
    assert_eq!(code, 0, "{err}");
    let idle = err.lines().filter(|line| line.contains("left nothing out"));
    let expected = ["*.NFO", "sub/*", "*.{nfo,txt}"];
    let expected = expected.map(|pattern| format!("--exclude {pattern}: it left nothing out"));
    assert!(idle.eq(expected), "{err}");
}

/// Odd options are named, and the torrent is made all the same.
#[test]
fn what_is_odd_about_a_torrent_is_said() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    scratch.write("film", &[1; 50_000]);
    fs::create_dir(scratch.0.join("d")).unwrap();
    let latin1 = std::ffi::OsStr::from_bytes(b"d/caf\xe9.txt");
    fs::write(scratch.0.join(latin1), [1; 9]).unwrap();
    scratch.write("d/a", &[1; 9]);
    let table: [(&[&str], Option<&str>); 7] = [
        (&["make", "film"], None),
        (
            &["make", "film", "--exclude", "film"],
            Some("is one file, and is taken"),
        ),
        (&["make", "film", "-p"], Some("names no tracker")),
        (&["make", "film", "-p", "-t", "http://t/announce"], None),
        (
            &["make", "d", "--exclude", "caf*", "--strict"],
            Some("left out, excluded"),
        ),
        (
            &[
                "make",
                "film",
                "-p",
                "-t",
                "http://t/announce",
                "-o",
                "p.torrent",
            ],
            None,
        ),
        (&["edit", "p.torrent", "-t", ""], Some("names no tracker")),
    ];
    for (args, said) in table {
        let (code, _, err) = run(&scratch.0, args);
        assert_eq!(code, 0, "{args:?}: {err}");
        let is_said = said.map_or(err.is_empty(), |said| err.contains(said));
        assert!(is_said, "{args:?}: {err}");
    }
    // A link to a .torrent stays a link, and its target is edited.
    std::os::unix::fs::symlink("p.torrent", scratch.0.join("link.torrent")).unwrap();
    let (code, _, err) = run(
        &scratch.0,
        &["edit", "link.torrent", "-t", "http://t/", "-c", "new"],
    );
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(scratch.0.join("link.torrent").is_symlink());
    assert!(
        run(&scratch.0, &["show", "p.torrent"])
            .1
            .contains("comment: new")
    );
    let empty = run(
        &scratch.0,
        &["make", "film", "-c", "", "-o", "film.torrent"],
    );
    assert_eq!(empty.0, 0);
    let bytes = fs::read(scratch.0.join("film.torrent")).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("comment"));
}
