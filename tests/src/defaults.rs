//! Clients with the settings that they come with, as people have them: DHT, peer exchange, encryption, uTP and all.
//!
//! Each has a machine of its own beside everseed's, a [`Neighbour`](crate::net::Neighbour), so that even its port and
//! its addresses are its own: on one machine libtorrent announces itself from everseed's address too, and calls itself
//! there. What differs from the defaults, and why:
//!
//! | client | setting | reason |
//! |---|---|---|
//! | all | `HOME`, folders for downloads and state | nothing of the machine's user is touched |
//! | Transmission | `/etc/transmission-daemon/settings.json` of Debian is copied | the daemon writes into it |
//! | aria2 | `--check-integrity` where it has the content | it takes no file that it did not make otherwise |
//! | aria2 | `--seed-ratio=0` where it has the content | it leaves when it has sent as much as there is, some of it unread |
//! | libtorrent | what it prints | so that a test that fails shows why |
//! | rTorrent | `system.daemon.set` | there is no terminal |

use std::fs;
use std::path::Path;

use crate::client::{Client, name};
use crate::dir::Dir;
use crate::process::program;

/// What starts a client on `torrent`, with its downloads in `files` in `dir`.
pub(crate) fn argv(client: Client, torrent: &Path, dir: &Dir) -> Vec<String> {
    let files = dir.sub("files").display().to_string();
    let home = format!("HOME={}", dir.sub("home").display());
    let rest = match client {
        Client::Transmission => transmission(torrent, dir, &files),
        Client::Aria2 => aria2(torrent, &files),
        Client::Libtorrent => libtorrent(torrent, &files),
        Client::Rtorrent => rtorrent(torrent, &files),
    };
    ["env".to_owned(), home].into_iter().chain(rest).collect()
}

/// The daemon, and its remote control that is told of the torrent. The folder comes after the torrent: before it, it is
/// a request of its own, which is lost while the daemon still starts.
fn transmission(torrent: &Path, dir: &Dir, files: &str) -> Vec<String> {
    let config = dir.sub("config");
    let settings = fs::read("/etc/transmission-daemon/settings.json");
    // Without it, or without being allowed to read it, the daemon has its own.
    let settings = settings.unwrap_or_else(|_| b"{}".to_vec());
    fs::write(config.join("settings.json"), settings).expect("writing settings");
    let daemon = program("transmission-daemon", "transmission-daemon");
    let remote = program("transmission-remote", "transmission-cli");
    let script = r#"
        setpriv --pdeathsig KILL "$1" --foreground --config-dir "$2" &
        while ! "$3" --auth transmission:transmission -a "$5" -w "$4"; do sleep 0.2; done
        wait
    "#;
    let config = config.display().to_string();
    let name = name(torrent);
    let words = [
        "sh", "-c", script, "sh", &daemon, &config, &remote, files, &name,
    ];
    words.map(str::to_owned).into()
}

fn aria2(torrent: &Path, files: &str) -> Vec<String> {
    let has_content = fs::read_dir(files).is_ok_and(|mut files| files.next().is_some());
    let mut argv = vec![program("aria2c", "aria2"), format!("--dir={files}")];
    if has_content {
        argv.extend(["--check-integrity", "--seed-ratio=0"].map(str::to_owned));
    }
    argv.push(name(torrent));
    argv
}

fn libtorrent(torrent: &Path, files: &str) -> Vec<String> {
    program("python3", "python3-libtorrent");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_get.py");
    let name = name(torrent);
    // Debian's own Python, because that is where its libtorrent is. It listens where it likes.
    let words = [
        "/usr/bin/python3",
        script,
        &name,
        files,
        "-",
        "--defaults",
        "--stay",
    ];
    words.map(str::to_owned).into()
}

fn rtorrent(torrent: &Path, files: &str) -> Vec<String> {
    let program = program("rtorrent", "rtorrent");
    let name = name(torrent);
    let words = [&program, "-d", files, "-o", "system.daemon.set=true", &name];
    words.map(str::to_owned).into()
}
