//! Clients that find peers in one way only: by the DHT, by PEX, or by LSD.
//!
//! The ways of each client, in the versions of Debian 12:
//!
//! | client | DHT (BEP 5, 32) | PEX (BEP 11) | LSD (BEP 14) |
//! |---|---|---|---|
//! | Transmission | IPv4, IPv6 | IPv4, IPv6 | IPv4 |
//! | aria2 | IPv4, IPv6 | IPv4, IPv6 | IPv4 |
//! | libtorrent | IPv4, IPv6 | IPv4, IPv6 | IPv4, IPv6 |
//! | rTorrent | IPv4, is found only | IPv4 | none |
//!
//! rTorrent 0.9.8 announces itself in the DHT. But it takes the `6:` before each address in a node's answer for the
//! first part of the address, and calls none of these peers (rakshasa/libtorrent#545 has mended that).

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::client::{Client, Download, name};
use crate::dir::Dir;
use crate::net::Family;
use crate::process::program;

/// A way to find peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The distributed hash table.
    Dht,
    /// Peer exchange: peers tell of peers (PEX).
    Pex,
    /// Multicast in the local network (LSD).
    Lsd,
}

/// The task of a client.
#[derive(Debug)]
pub struct Task<'a> {
    /// The way to find peers.
    pub way: Way,
    /// The address on which it listens.
    pub listen: SocketAddr,
    /// DHT nodes to begin with.
    pub nodes: &'a [SocketAddr],
    /// Torrent files, or `.magnet` files with a link in each.
    pub what: &'a [&'a Path],
    /// The command that runs a program on the client's machine.
    pub enter: &'a [String],
}

impl Client {
    /// Whether the client supports this way.
    pub fn knows(self, way: Way, family: Family) -> bool {
        match (self, way, family) {
            (Client::Libtorrent, _, _) => true,
            (Client::Rtorrent, Way::Lsd, _) | (Client::Rtorrent, _, Family::V6) => false,
            (_, Way::Lsd, family) => family == Family::V4,
            _ => true,
        }
    }

    /// Whether the client calls peers that it finds this way. Otherwise it is called by them.
    pub fn calls(self, way: Way) -> bool {
        (self, way) != (Client::Rtorrent, Way::Dht)
    }

    /// Starts the client on what `fill` puts into its download folder, and lets it verify that. It downloads the rest
    /// and stays.
    pub fn stay_by(self, task: &Task, fill: &dyn Fn(&Path)) -> Download {
        let dir = self.dir();
        fill(&dir.sub("files"));
        let argv = match self {
            Client::Transmission => transmission(task, &dir),
            Client::Aria2 => aria2(task, &dir),
            Client::Libtorrent => libtorrent(task, &dir),
            Client::Rtorrent => rtorrent(task, &dir),
        };
        let name = format!("{self:?} at {} by {:?} alone", task.listen, task.way);
        self.start(name, [task.enter, &argv].concat(), dir)
    }
}

impl Task<'_> {
    fn names(&self) -> Vec<String> {
        self.what.iter().map(|what| name(what)).collect()
    }

    fn is(&self, way: Way) -> bool {
        self.way == way
    }
}

/// The daemon, and its remote control, which adds the torrents.
fn transmission(task: &Task, dir: &Dir) -> Vec<String> {
    let config = dir.sub("config");
    let ip = task.listen.ip().to_string();
    let (v4, v6) = match task.listen {
        SocketAddr::V4(_) => (&*ip, "::1"),
        SocketAddr::V6(_) => ("127.0.0.1", &*ip),
    };
    let files = dir.sub("files").display().to_string();
    let is = |way| task.is(way).to_string();
    let settings = [
        ("bind-address-ipv4", format!("\"{v4}\"")),
        ("bind-address-ipv6", format!("\"{v6}\"")),
        ("peer-port", task.listen.port().to_string()),
        ("port-forwarding-enabled", "false".to_owned()),
        ("dht-enabled", is(Way::Dht)),
        ("lpd-enabled", is(Way::Lsd)),
        ("pex-enabled", is(Way::Pex)),
        ("utp-enabled", "false".to_owned()),
        ("download-dir", format!("\"{files}\"")),
        ("rpc-bind-address", format!("\"{}\"", control(task).ip())),
        ("rpc-port", control(task).port().to_string()),
        ("rpc-host-whitelist-enabled", "false".to_owned()),
        ("rpc-whitelist-enabled", "false".to_owned()),
    ];
    let lines = settings.map(|(key, value)| format!("  \"{key}\": {value}"));
    let json = format!("{{\n{}\n}}\n", lines.join(",\n"));
    fs::write(config.join("settings.json"), json).expect("writing settings");
    if task.is(Way::Dht) {
        // As if it had known these nodes before: of nodes that its owner names, it calls one in 15 s.
        fs::write(config.join("dht.dat"), known_before(task.nodes))
            .expect("writing nodes of the DHT");
    }
    let script = dir.join("start.sh");
    let text = r#"#!/bin/sh
        setpriv --pdeathsig KILL "$1" --foreground --config-dir "$2" &
        remote=$3 port=$4
        shift 4
        for name in "$@"; do
            while ! "$remote" "$port" -a "$name"; do sleep 0.1; done
        done
        wait
    "#;
    fs::write(&script, text).expect("writing a script");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("a script's mode");
    let mut argv = vec![
        script.display().to_string(),
        program("transmission-daemon", "transmission-daemon"),
        config.display().to_string(),
        program("transmission-remote", "transmission-cli"),
        control(task).to_string(),
    ];
    argv.extend(task.names());
    argv
}

/// Transmission's file of known DHT nodes.
fn known_before(nodes: &[SocketAddr]) -> Vec<u8> {
    let mut compact = [Vec::new(), Vec::new()];
    for node in nodes {
        let of = &mut compact[usize::from(node.is_ipv6())];
        match node.ip() {
            IpAddr::V4(ip) => of.extend(ip.octets()),
            IpAddr::V6(ip) => of.extend(ip.octets()),
        }
        of.extend(node.port().to_be_bytes());
    }
    let mut kept = b"d2:id20:transmission is here".to_vec();
    for (key, nodes) in [("5:nodes", &compact[0]), ("6:nodes6", &compact[1])] {
        kept.extend(format!("{key}{}:", nodes.len()).into_bytes());
        kept.extend(nodes);
    }
    kept.push(b'e');
    kept
}

/// The address of Transmission's remote control, which is always IPv4.
fn control(task: &Task) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], task.listen.port()))
}

fn aria2(task: &Task, dir: &Dir) -> Vec<String> {
    let v6 = task.listen.is_ipv6();
    let port = task.listen.port();
    let mut argv = vec![
        program("aria2c", "aria2"),
        "--no-conf".to_owned(),
        "--force-sequential".to_owned(),
        format!("--dir={}", dir.sub("files").display()),
        format!("--interface={}", task.listen.ip()),
        format!("--listen-port={port}"),
        format!("--dht-listen-port={port}"),
        format!("--disable-ipv6={}", !v6),
        "--async-dns=false".to_owned(),
        format!("--enable-dht={}", task.is(Way::Dht)),
        format!("--enable-dht6={}", task.is(Way::Dht) && v6),
        format!(
            "--dht-listen-addr6={}",
            if v6 {
                task.listen.ip().to_string()
            } else {
                String::new()
            }
        ),
        format!("--dht-file-path={}", dir.join("dht").display()),
        format!("--dht-file-path6={}", dir.join("dht6").display()),
        format!("--bt-enable-lpd={}", task.is(Way::Lsd)),
        format!("--enable-peer-exchange={}", task.is(Way::Pex)),
        "--check-integrity=true".to_owned(),
        "--bt-hash-check-seed=true".to_owned(),
        "--seed-ratio=0".to_owned(),
        "--file-allocation=none".to_owned(),
        "--show-console-readout=false".to_owned(),
        "--summary-interval=0".to_owned(),
    ];
    argv.retain(|arg| !arg.ends_with('='));
    for node in task.nodes.iter().take(1) {
        let key = if v6 {
            "dht-entry-point6"
        } else {
            "dht-entry-point"
        };
        argv.push(format!("--{key}={node}"));
    }
    argv.extend(task.names());
    argv
}

fn libtorrent(task: &Task, dir: &Dir) -> Vec<String> {
    program("python3", "python3-libtorrent");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_way.py");
    let mut argv = vec![
        // Debian's own Python, for which Debian's libtorrent is built.
        "/usr/bin/python3".to_owned(),
        script.to_owned(),
        format!("{:?}", task.way).to_lowercase(),
        task.listen.to_string(),
        dir.sub("files").display().to_string(),
    ];
    argv.extend(task.nodes.iter().map(|node| format!("--node={node}")));
    argv.extend(task.names());
    argv
}

fn rtorrent(task: &Task, dir: &Dir) -> Vec<String> {
    let port = task.listen.port();
    let mut lines = vec![
        "system.daemon.set = true".to_owned(),
        format!("session.path.set = {}", dir.sub("session").display()),
        format!("directory.default.set = {}", dir.sub("files").display()),
        format!("network.bind_address.set = {}", task.listen.ip()),
        format!("network.port_range.set = {port}-{port}"),
        "network.port_random.set = no".to_owned(),
        "trackers.use_udp.set = no".to_owned(),
        format!(
            "protocol.pex.set = {}",
            if task.is(Way::Pex) { "yes" } else { "no" }
        ),
        format!(
            "dht.mode.set = {}",
            if task.is(Way::Dht) { "on" } else { "disable" }
        ),
        format!("dht.port.set = {port}"),
    ];
    for (n, node) in task.nodes.iter().enumerate() {
        lines.push(format!(
            "schedule2 = node{n}, 1, 0, \"dht.add_node={node}\""
        ));
    }
    let settings: PathBuf = dir.join("settings");
    fs::write(&settings, lines.join("\n") + "\n").expect("writing settings");
    let mut argv = vec![
        program("rtorrent", "rtorrent"),
        "-n".to_owned(),
        "-o".to_owned(),
        format!("import={}", settings.display()),
    ];
    argv.extend(task.names());
    argv
}
