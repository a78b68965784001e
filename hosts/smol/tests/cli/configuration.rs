//! Configurations and states: what is checked before a start, and what is never shared.

use std::fs;
use std::path::Path;
use std::process::Command;

use miniz_oxide::deflate::compress_to_vec;

use super::{Scratch, run};

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
