//! Clients with their default settings, as people have them: DHT, peer exchange, encryption, uTP and all.
//!
//! Each client has a machine of its own, a [`Neighbour`](crate::net::Neighbour) of everseed's. On one machine
//! libtorrent would announce itself from everseed's address too, and call itself there. The settings that differ from
//! the defaults, and why:
//!
//! | client | setting | reason |
//! |---|---|---|
//! | all | `HOME`, folders for downloads and state | nothing of the machine's user is touched |
//! | Transmission | `/etc/transmission-daemon/settings.json` of Debian is copied | the daemon writes into it |
//! | aria2 | `--check-integrity` if it has the content | without it, it uses no file that it did not make itself |
//! | aria2 | `--seed-ratio=0` if it has the content | otherwise it leaves at ratio 1, even if some of it was not read |
//! | libtorrent | the script prints its state | a failed test shows why |
//! | rTorrent | `system.daemon.set` | there is no terminal |

use std::fs;
use std::path::Path;

use crate::client::{Client, name};
use crate::dir::Dir;
use crate::process::program;

/// The command that starts a client on `torrent`, with its downloads in the folder `files` in `dir`.
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

/// The daemon, and its remote control, which adds the torrent. The folder follows the torrent: before it, it would be
/// a request of its own, which is lost while the daemon is starting.
fn transmission(torrent: &Path, dir: &Dir, files: &str) -> Vec<String> {
    let config = dir.sub("config");
    let settings = fs::read("/etc/transmission-daemon/settings.json");
    // Without that file, or without permission to read it, the daemon uses its own settings.
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
    // Debian's own Python, for which Debian's libtorrent is built. It listens on the addresses that it chooses
    // itself.
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
