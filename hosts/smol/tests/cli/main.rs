//! The commands' output, exit codes and messages, as scripts see them.
#![allow(missing_docs)]

mod configuration;
mod making;
mod seeding;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

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
