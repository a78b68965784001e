//! Transmission, aria2 and libtorrent as downloaders and seeders.
//!
//! In all of them the ways to find peers without a tracker are switched off, so that a test shows only what it is
//! about. All other settings are those that a user has, encryption included.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use crate::content::{Content, allocated};
use crate::defaults;
use crate::dir::Dir;
use crate::net::Neighbour;
use crate::process::{Process, program};
use crate::{PATIENCE, wait};

/// A BitTorrent client that people use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// transmission-daemon.
    Transmission,
    /// aria2c.
    Aria2,
    /// libtorrent (Rasterbar), by a small script.
    Libtorrent,
    /// rTorrent, with its own settings only.
    Rtorrent,
}

impl Client {
    /// The clients for most tests.
    pub const ALL: [Client; 3] = [Client::Transmission, Client::Aria2, Client::Libtorrent];

    /// The clients that also run with their default settings, see [`defaults`].
    pub const WITH_DEFAULTS: [Client; 4] = [
        Client::Transmission,
        Client::Aria2,
        Client::Libtorrent,
        Client::Rtorrent,
    ];

    /// Starts to download `torrent` on another machine, with the client's default settings. `torrent` is a torrent
    /// file, or a `.magnet` file with a link. The client stays when it has everything.
    pub fn download_by_default(self, torrent: &Path, on: &Neighbour) -> Download {
        self.seed_by_default(torrent, on, &|_| {})
    }

    /// As [`download_by_default`](Client::download_by_default), with what `fill` puts into the download folder.
    pub fn seed_by_default(self, torrent: &Path, on: &Neighbour, fill: &dyn Fn(&Path)) -> Download {
        let dir = self.dir();
        fill(&dir.sub("files"));
        let argv = [on.enter(), defaults::argv(self, torrent, &dir)].concat();
        self.start(format!("{self:?} with its defaults"), argv, dir)
    }

    /// Starts to download `torrent`, listening at `listen`. `torrent` is a torrent file; for aria2 it may be a URL of
    /// one.
    pub fn download(self, torrent: impl AsRef<Path>, listen: SocketAddr) -> Download {
        self.download_with(torrent.as_ref(), listen, &[])
    }

    /// [`download`](Client::download) with further arguments of the client's own.
    pub fn download_with(self, torrent: &Path, listen: SocketAddr, extra: &[&str]) -> Download {
        self.run(torrent, listen, extra, &|_| {})
    }

    /// Starts the client on what `fill` puts into its download folder. It downloads the rest and stays.
    pub fn seed(self, torrent: &Path, listen: SocketAddr, fill: &dyn Fn(&Path)) -> Download {
        let stay: &[&str] = match self {
            // It stays anyway.
            Client::Transmission => &[],
            Client::Aria2 => &[
                "--seed-time=9999",
                "--seed-ratio=0",
                "--check-integrity=true",
                "--bt-hash-check-seed=true",
            ],
            Client::Libtorrent => &["--stay"],
            Client::Rtorrent => &[],
        };
        self.run(torrent, listen, stay, fill)
    }

    fn run(
        self,
        torrent: &Path,
        listen: SocketAddr,
        extra: &[&str],
        fill: &dyn Fn(&Path),
    ) -> Download {
        let dir = self.dir();
        fill(&dir.sub("files"));
        let mut argv = match self {
            Client::Transmission => transmission(torrent, &dir, listen),
            Client::Aria2 => aria2(torrent, &dir, listen),
            Client::Libtorrent => libtorrent(torrent, &dir, listen),
            Client::Rtorrent => panic!("rTorrent runs with its own settings only"),
        };
        argv.extend(extra.iter().map(|a| (*a).to_owned()));
        self.start(format!("{self:?} at {listen}"), argv, dir)
    }

    pub(crate) fn dir(self) -> Dir {
        Dir::new(match self {
            Client::Transmission => "transmission",
            Client::Aria2 => "aria2",
            Client::Libtorrent => "libtorrent",
            Client::Rtorrent => "rtorrent",
        })
    }

    pub(crate) fn start(self, name: String, argv: Vec<String>, dir: Dir) -> Download {
        let process = Process::start(&name, &argv, &dir.join("log"));
        Download {
            client: self,
            process,
            name,
            argv,
            restarts: 0,
            dir,
        }
    }
}

/// A download in progress.
#[derive(Debug)]
pub struct Download {
    client: Client,
    process: Process,
    name: String,
    argv: Vec<String>,
    /// The number of times that it ended by itself and was started again.
    restarts: u32,
    dir: Dir,
}

impl Download {
    /// Waits until the client has everything and has ended, then compares.
    pub fn finish(&mut self, content: &Content) {
        let what = format!("{:?} to complete {}", self.client, content.name());
        wait(&what, PATIENCE, || {
            let done = self.is_complete();
            if !done {
                self.look_after();
            }
            done.then_some(())
        });
        // Transmission 3.00 makes no empty files.
        let empty_files = self.client != Client::Transmission;
        content.assert_same_in(&self.files(), empty_files);
    }

    /// Fails if the client has ended. In two cases it is started again a few times, because its end is a fault of its
    /// own:
    /// - Debian's libtorrent crashes now and then.
    /// - transmission-cli ends with success when it looks at a magnet link's torrent in the moment
    ///   between its metadata and its verification, which it takes for stopped.
    pub fn look_after(&mut self) {
        let Some(status) = self.process.ended() else {
            return;
        };
        let gave_up = self.client == Client::Transmission && status.success();
        if self.restarts == RESTARTS || !(gave_up || status.signal().is_some()) {
            self.process.assert_alive();
        }
        self.restarts += 1;
        eprintln!("{} ended early: {status}; started again", self.name);
        let log = self.dir.join("log");
        self.process = Process::start(&self.name, &self.argv, &log);
    }

    /// Waits until a client that stays has everything, then compares.
    pub fn wait_until_complete(&mut self, content: &Content) {
        let what = format!("{:?} to have all of {}", self.client, content.name());
        wait(&what, PATIENCE, || {
            self.look_after();
            let files = self.files().join(content.name());
            content.is_same_as(&files).then_some(())
        });
    }

    /// Whether the client says that it has everything.
    pub fn is_complete(&mut self) -> bool {
        match self.client {
            // It goes on seeding.
            Client::Transmission => self.dir.join("done").exists(),
            Client::Aria2 | Client::Libtorrent | Client::Rtorrent => {
                self.process.ended().is_some_and(|status| status.success())
            }
        }
    }

    /// Waits until about this many bytes have arrived.
    pub fn wait_for_bytes(&mut self, bytes: u64) {
        let what = format!("{:?} to download {bytes} bytes", self.client);
        let files = self.files();
        wait(&what, PATIENCE, || {
            (allocated(&files) >= bytes || self.is_complete()).then_some(())
        });
    }

    /// The client's download folder.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }
}

/// The most times that a client is started again.
const RESTARTS: u32 = 2;

fn transmission(torrent: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    let (watch, files, config) = (dir.sub("watch"), dir.sub("files"), dir.sub("config"));
    let script = dir.join("done.sh");
    let text = format!("#!/bin/sh\n: >'{}'\n", dir.join("done").display());
    fs::write(&script, text).expect("writing a script");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("a script's mode");
    // It binds requests to an IPv6 tracker to its IPv4 address too, so that one stays open then.
    let (v4, v6) = match listen {
        SocketAddr::V4(addr) => (addr.ip().to_string(), "::1".to_owned()),
        SocketAddr::V6(addr) => ("0.0.0.0".to_owned(), addr.ip().to_string()),
    };
    let settings = [
        ("bind-address-ipv4", format!("\"{v4}\"")),
        ("bind-address-ipv6", format!("\"{v6}\"")),
        ("peer-port", listen.port().to_string()),
        ("port-forwarding-enabled", "false".to_owned()),
        ("dht-enabled", "false".to_owned()),
        ("lpd-enabled", "false".to_owned()),
        ("pex-enabled", "false".to_owned()),
        ("utp-enabled", "false".to_owned()),
        ("rpc-enabled", "false".to_owned()),
        ("download-dir", format!("\"{}\"", files.display())),
        ("watch-dir", format!("\"{}\"", watch.display())),
        ("watch-dir-enabled", "true".to_owned()),
        ("script-torrent-done-enabled", "true".to_owned()),
        (
            "script-torrent-done-filename",
            format!("\"{}\"", script.display()),
        ),
    ];
    let lines = settings.map(|(key, value)| format!("  \"{key}\": {value}"));
    let json = format!("{{\n{}\n}}\n", lines.join(",\n"));
    fs::write(config.join("settings.json"), json).expect("writing settings");
    if let Some(link) = magnet(torrent) {
        // The daemon watches for torrent files only.
        return vec![
            program("transmission-cli", "transmission-cli"),
            "--config-dir".to_owned(),
            config.display().to_string(),
            "--download-dir".to_owned(),
            files.display().to_string(),
            "--finish".to_owned(),
            script.display().to_string(),
            link,
        ];
    }
    fs::copy(torrent, watch.join("this.torrent")).expect("copying a torrent");
    vec![
        program("transmission-daemon", "transmission-daemon"),
        "--foreground".to_owned(),
        "--config-dir".to_owned(),
        config.display().to_string(),
    ]
}

fn aria2(torrent: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    let v4_only = listen.is_ipv4();
    vec![
        program("aria2c", "aria2"),
        "--no-conf".to_owned(),
        format!("--dir={}", dir.sub("files").display()),
        format!("--interface={}", listen.ip()),
        format!("--listen-port={}", listen.port()),
        format!("--disable-ipv6={v4_only}"),
        "--async-dns=false".to_owned(),
        "--enable-dht=false".to_owned(),
        format!("--dht-file-path={}", dir.join("dht").display()),
        format!("--dht-listen-port={}", listen.port()),
        "--enable-dht6=false".to_owned(),
        "--bt-enable-lpd=false".to_owned(),
        "--enable-peer-exchange=false".to_owned(),
        // Otherwise a tracker that lost its peers in a restart is asked again only after half an hour.
        "--bt-tracker-interval=2".to_owned(),
        "--seed-time=0".to_owned(),
        "--follow-torrent=mem".to_owned(),
        "--file-allocation=none".to_owned(),
        "--show-console-readout=false".to_owned(),
        "--summary-interval=0".to_owned(),
        name(torrent),
    ]
}

fn libtorrent(torrent: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    program("python3", "python3-libtorrent");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_get.py");
    vec![
        // Debian's own Python, for which Debian's libtorrent is built.
        "/usr/bin/python3".to_owned(),
        script.to_owned(),
        name(torrent),
        dir.sub("files").display().to_string(),
        listen.to_string(),
    ]
}

/// A torrent for a client's command line: the path of its file, or the link in a `.magnet` file.
pub fn name(torrent: &Path) -> String {
    magnet(torrent).unwrap_or_else(|| torrent.display().to_string())
}

/// The link in a `.magnet` file.
fn magnet(torrent: &Path) -> Option<String> {
    let is_magnet = torrent.extension().is_some_and(|e| e == "magnet");
    is_magnet.then(|| fs::read_to_string(torrent).expect("reading a magnet link"))
}
