//! Starts each client as a seeder: it serves all peers at once, without limits or encryption, and looks for no peers.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use everseed_tests::dir::Dir;
use everseed_tests::process::{Process, find};
use everseed_tests::seeder::everseed;

use crate::data::Torrent;
use crate::floor;

/// A client that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Client {
    Everseed,
    /// The least that a seeder can do; see [`crate::floor`].
    Floor,
    /// A web server, which shows what the machine can do.
    Nginx,
    Rtorrent,
    Libtorrent,
    /// libtorrent with its settings for the least memory.
    LibtorrentLeast,
    Aria2,
    Transmission,
}

impl Client {
    pub(crate) const ALL: [Client; 8] = [
        Client::Everseed,
        Client::Floor,
        Client::Nginx,
        Client::Rtorrent,
        Client::Libtorrent,
        Client::LibtorrentLeast,
        Client::Aria2,
        Client::Transmission,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Client::Everseed => "everseed",
            Client::Floor => "floor",
            Client::Nginx => "nginx",
            Client::Rtorrent => "rtorrent",
            Client::Libtorrent => "libtorrent",
            Client::LibtorrentLeast => "libtorrent-least",
            Client::Aria2 => "aria2",
            Client::Transmission => "transmission",
        }
    }

    /// The client's name as people write it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Client::Everseed => "everseed",
            Client::Floor => "floor",
            Client::Nginx => "nginx",
            Client::Rtorrent => "rTorrent",
            Client::Libtorrent => "libtorrent",
            Client::LibtorrentLeast => "libtorrent, least memory",
            Client::Aria2 => "aria2",
            Client::Transmission => "Transmission",
        }
    }

    /// Whether it is a BitTorrent client of other people.
    pub(crate) fn is_other(self) -> bool {
        !matches!(self, Client::Everseed | Client::Floor | Client::Nginx)
    }

    /// Whether it speaks BitTorrent.
    pub(crate) fn is_peer(self) -> bool {
        self != Client::Nginx
    }

    /// The Debian package to install, if the client is missing.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let (name, package) = match self {
            Client::Everseed | Client::Floor => return None,
            Client::Nginx => ("nginx", "nginx-light"),
            Client::Rtorrent => ("rtorrent", "rtorrent"),
            Client::Libtorrent | Client::LibtorrentLeast => {
                return (!has_libtorrent()).then_some("python3-libtorrent");
            }
            Client::Aria2 => ("aria2c", "aria2"),
            Client::Transmission => ("transmission-daemon", "transmission-daemon"),
        };
        find(name).is_none().then_some(package)
    }

    /// Starts the client on torrents whose files are in `data`. `options` are everseed's.
    pub(crate) fn start(
        self,
        torrents: &[Torrent],
        data: &Path,
        listen: SocketAddr,
        options: &[String],
    ) -> Running {
        let dir = Dir::new(self.name());
        let argv = match self {
            Client::Everseed => ours(torrents, data, &dir, listen, options),
            Client::Floor => floor::command(&torrents[0], data, listen),
            Client::Nginx => nginx(data, &dir, listen),
            Client::Rtorrent => rtorrent(torrents, data, &dir, listen),
            Client::Libtorrent => libtorrent(torrents, data, listen, "default"),
            Client::LibtorrentLeast => libtorrent(torrents, data, listen, "least"),
            Client::Aria2 => aria2(torrents, data, &dir, listen),
            Client::Transmission => transmission(torrents, data, &dir, listen),
        };
        let process = Process::start(self.name(), &argv, &dir.join("log"));
        Running {
            process,
            addr: listen,
            dir,
        }
    }
}

/// A client that seeds.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    dir: Dir,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The last line that it printed, for error messages.
    pub(crate) fn last_words(&self) -> String {
        let said = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        said.lines().last().unwrap_or("nothing").to_owned()
    }
}

fn has_libtorrent() -> bool {
    let mut import = Command::new("/usr/bin/python3");
    let import = import.args(["-c", "import libtorrent"]);
    let status = import.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn ours(
    torrents: &[Torrent],
    data: &Path,
    dir: &Dir,
    listen: SocketAddr,
    options: &[String],
) -> Vec<String> {
    let mut argv = vec![everseed(), "seed".to_owned()];
    argv.extend(torrents.iter().map(|t| t.path.display().to_string()));
    argv.extend(["--data".to_owned(), data.display().to_string()]);
    argv.extend(["--listen".to_owned(), listen.to_string()]);
    argv.extend([
        "--state".to_owned(),
        dir.join("state").display().to_string(),
    ]);
    argv.extend_from_slice(options);
    argv
}

fn nginx(data: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    let (data, own) = (data.display(), dir.path().display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {own}/{what};\n"))
        .concat();
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = format!(
        "{user} daemon off; master_process off; pid {own}/pid; error_log {own}/errors;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 600;\n\
         {temporary} server {{ listen {listen}; root {data}; }} }}\n"
    );
    let path = dir.join("nginx.conf").display().to_string();
    fs::write(&path, config).expect("writing a configuration");
    let (program, errors) = (
        find("nginx").unwrap_or_default(),
        dir.join("errors").display().to_string(),
    );
    words([&program, "-c", &path, "-e", &errors, "-p", &own.to_string()])
}

fn rtorrent(torrents: &[Torrent], data: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    let (ip, port) = (listen.ip(), listen.port());
    let mut config = format!(
        "network.port_range.set = {port}-{port}\n\
         network.port_random.set = no\n\
         network.bind_address.set = {ip}\n\
         network.local_address.set = {ip}\n\
         directory.default.set = {}\n\
         log.open_file = \"log\", \"{}\"\n\
         log.add_output = \"warn\", \"log\"\n",
        data.display(),
        dir.join("rtorrent.log").display()
    );
    config += "network.max_open_sockets.set = 4000\n\
               network.max_open_files.set = 1000\n\
               network.http.max_open.set = 32\n\
               throttle.max_uploads.set = 5000\n\
               throttle.max_uploads.global.set = 5000\n\
               throttle.max_uploads.div.set = 1\n\
               throttle.min_peers.seed.set = 1\n\
               throttle.max_peers.seed.set = 5000\n\
               throttle.max_peers.normal.set = 5000\n\
               throttle.global_up.max_rate.set_kb = 0\n\
               protocol.encryption.set = none\n\
               protocol.pex.set = no\n\
               trackers.use_udp.set = no\n\
               dht.mode.set = disable\n\
               dht.port.set = 0\n\
               pieces.hash.on_completion.set = no\n\
               session.path.set = \n\
               system.daemon.set = true\n";
    for torrent in torrents {
        config += &format!("load.start = {}\n", torrent.path.display());
    }
    let path = dir.join("rtorrent.rc").display().to_string();
    fs::write(&path, config).expect("writing a configuration");
    let home = format!("HOME={}", dir.path().display());
    let (program, import) = (
        find("rtorrent").unwrap_or_default(),
        format!("import={path}"),
    );
    words(["env", &home, "TERM=xterm", &program, "-n", "-o", &import])
}

pub(crate) fn libtorrent(
    torrents: &[Torrent],
    data: &Path,
    listen: SocketAddr,
    how: &str,
) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_seed.py");
    let (data, listen) = (data.display().to_string(), listen.to_string());
    let mut argv = words(["/usr/bin/python3", script, how, &listen, &data]);
    argv.extend(torrents.iter().map(|t| t.path.display().to_string()));
    argv
}

fn aria2(torrents: &[Torrent], data: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    let list: String = torrents
        .iter()
        .map(|t| format!("{}\n", t.path.display()))
        .collect();
    let path = dir.join("list").display().to_string();
    fs::write(&path, list).expect("writing a list");
    let mut argv = vec![
        find("aria2c").unwrap_or_default(),
        format!("--dir={}", data.display()),
        format!("--interface={}", listen.ip()),
        format!("--listen-port={}", listen.port()),
        format!("--input-file={path}"),
    ];
    argv.extend(words([
        "--no-conf",
        "--seed-ratio=0.0",
        "--seed-time=525600",
        "--disable-ipv6=true",
        "--async-dns=false",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--bt-max-peers=0",
        "--bt-max-open-files=1000",
        "--max-concurrent-downloads=1000",
        "--bt-detach-seed-only=true",
        "--check-integrity=true",
        "--bt-hash-check-seed=true",
        "--allow-overwrite=true",
        "--follow-torrent=mem",
        "--file-allocation=none",
        "--auto-save-interval=0",
        "--show-console-readout=false",
        "--summary-interval=0",
        "--console-log-level=warn",
    ]));
    argv
}

fn transmission(torrents: &[Torrent], data: &Path, dir: &Dir, listen: SocketAddr) -> Vec<String> {
    let watched = dir.sub("watch");
    for torrent in torrents {
        let name = torrent.path.file_name().expect("a torrent has a name");
        fs::copy(&torrent.path, watched.join(name)).expect("copying a torrent");
    }
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let settings = [
        ("bind-address-ipv4", format!("\"{}\"", listen.ip())),
        ("bind-address-ipv6", "\"::1\"".to_owned()),
        ("peer-port", listen.port().to_string()),
        ("download-dir", quoted(data)),
        ("watch-dir", quoted(&watched)),
        ("watch-dir-enabled", "true".to_owned()),
        ("peer-limit-global", "5000".to_owned()),
        ("peer-limit-per-torrent", "5000".to_owned()),
        ("upload-slots-per-torrent", "5000".to_owned()),
        ("encryption", "0".to_owned()),
    ];
    let off = [
        "rpc-enabled",
        "dht-enabled",
        "lpd-enabled",
        "pex-enabled",
        "utp-enabled",
        "port-forwarding-enabled",
        "idle-seeding-limit-enabled",
        "ratio-limit-enabled",
        "incomplete-dir-enabled",
        "download-queue-enabled",
        "seed-queue-enabled",
        "queue-stalled-enabled",
        "speed-limit-up-enabled",
    ];
    let settings = settings
        .into_iter()
        .map(|(key, value)| format!("  \"{key}\": {value}"));
    let off = off.into_iter().map(|key| format!("  \"{key}\": false"));
    let lines: Vec<_> = settings.chain(off).collect();
    let own = dir.path().display().to_string();
    let json = format!("{{\n{}\n}}\n", lines.join(",\n"));
    fs::write(dir.join("settings.json"), json).expect("writing settings");
    let program = find("transmission-daemon").unwrap_or_default();
    words([&program, "--foreground", "--config-dir", &own])
}
