//! `make`, `edit` and `show`.

use std::fs;
use std::process::Command;

use super::{Scratch, run};

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
