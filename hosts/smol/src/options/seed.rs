//! The arguments of `everseed seed`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use everseed_disk::Links;
use everseed_disk::make::Options;
use everseed_node::discovery::dht::Mode;
use lexopt::Parser;
use log::LevelFilter;

use crate::net::Sending;
use crate::net::address::PublicAddress;
use crate::net::listen::{Listen, PORT};
use crate::net::proxy::Proxy;
use crate::options::args::{self, Argument, Stop};
use crate::options::making;

/// The text of `everseed seed --help`.
pub const HELP: &str = "\
everseed seed - share files, folders and torrents until stopped

Usage: everseed seed [OPTIONS] PATH...

PATH is a file or folder to share, or a .torrent whose data is already there.
For a file or folder, everseed makes a torrent and keeps it in the state folder;
the same command finds it again at once. It prints the torrent's path, info-hash
and magnet link: give any of them to others. If you name no tracker, everseed is
the tracker too, and you need no other program. Content of a private .torrent
that everseed has seen is refused while that .torrent exists. With --private it
is not.

Options:
      --data DIR       where the data of a .torrent lies: the folder that holds
                       its file or folder, or that file or folder itself
                       (default: beside the .torrent)
      --file N=PATH    file number N (see `everseed show`) lies at PATH beneath
                       the data's folder; repeat it for several. everseed
                       remembers it. Other missing files are searched for by
                       size and hash
      --rename NAME    the torrent's file or folder is called NAME there;
                       everseed remembers it
  -t, --tracker URL    tracker for torrents made here, and for public ones that
                       name none: http, https or udp. Repeat it for several
                       tiers; commas join trackers of one tier
                       (default: the built-in one, for torrents made here)
      --source TEXT    for torrents made here, like the next options: the site
                       that the torrent is for; it changes the info-hash
      --exclude PATTERN, --include PATTERN, --all
                       which files of a folder: see everseed make --help
      --strict         fail if a file cannot be taken
  -s, --piece-size SIZE, -p, --private, --align, -c, --comment TEXT,
  -w, --web-seed URL, --created-by TEXT, --no-date
                       see everseed make --help
      --share-torrent  let anybody download the .torrent at /INFOHASH.torrent,
                       unless it is private or a URL in it has a passkey
                       (default: only peers get it, by the magnet link)
      --listen IP:PORT|INTERFACE[:PORT]
                       where peers connect, TCP; repeat it for several. An
                       interface, like wg0, stands for its addresses, also when
                       they change. Then everseed calls trackers and peers only
                       through it, and nobody while it is away. Names of hosts
                       are looked up as the system does it
                       (default: 0.0.0.0:6881 and [::]:6881)
      --proxy URL      call trackers, and servers of torrents, through a proxy:
                       socks5://HOST:PORT, http://USER:PASSWORD@HOST:PORT. It
                       looks up their names. Peers are called without it, and
                       UDP trackers not at all. Trackers see the proxy's
                       address, so peers cannot call us: we call them
      --pex HOW        on: exchange addresses of peers with the peers of public
                       torrents; off: do not (default: on)
      --lsd HOW        on: find peers of public torrents in the local networks,
                       on all interfaces that are up; if --listen names some,
                       only on those; off: do not (default: on)
      --dht HOW        on: find peers of public torrents in the distributed
                       hash table (by UDP), announce them there, and answer
                       other nodes; read-only: do not answer other nodes;
                       off: do not use it (default: on)
      --dht-node HOST:PORT
                       a DHT node to begin with; repeat it for several
                       (default: nodes of the last run, those that peers name,
                       then a few well-known ones)
      --public-address HOST[:PORT]
                       the address at which others reach this machine from
                       outside: the router's name or address, and the port that
                       it forwards; torrents and links name it
                       (default: our address in the local network)
      --port-map WHEN  auto: ask the router to forward our port, by PCP, NAT-PMP
                       or UPnP, and to let IPv6 connections in; for an hour,
                       renewed while everseed runs. It does not ask if this
                       machine has a public IPv4 address, or if you give
                       a --public-address; off: never ask (default: auto)
      --slots N        peers served at a time, 1 to 5000 (default: as many as
                       suit the upload speed, 4 to 250, if they fit into the
                       memory; a new peer has a turn at once)
      --max-peers N    peers connected at a time, 1 to 20000 (default: 100)
      --memory SIZE    limit for all memory: 4M, 64MiB; fewer peers fit into
                       less (default: 16MiB)
      --up RATE        upload limit in bytes per second: 500k, 2M, 1.5MiB
                       (default: none)
      --check WHEN     first: check all data, then serve it; lazy: start at once
                       and check each piece before it is first served
                       (default: first)
      --send HOW       copy: everseed copies blocks to the socket; sendfile: the
                       kernel sends them. Try that where memory is slow; all
                       peers may wait when the page cache is short
                       (default: copy)
      --links WHICH    beneath: follow links in a folder if they stay in it;
                       follow: follow all links (default: beneath)
      --trace FILE     record all input of the engine in FILE, to find a bug.
                       It grows by as many bytes as peers send, and peers
                       wait while it is written
      --state DIR      folder for made torrents, check results and which
                       torrents are paused
                       (default: $XDG_STATE_HOME/everseed or
                       ~/.local/state/everseed; /var/lib/everseed for root)
  -q, --quiet          print no progress, log only errors
  -v, --verbose        log more; repeat it for still more
  -h, --help           print this
  -V, --version        print the version

Passkeys and passwords in URLs are printed as ***. Magnet links leave out
trackers with a passkey, and private torrents have no magnet link: see everseed
show. Only verified data is served. Files are looked at every half minute,
a folder of 30,000 every five minutes; changed files are verified again. Content
on a disk that is not mounted is looked for every 10 s, and is served again when
it is back.
SIGINT or SIGTERM stops cleanly, a second one at once.

The speed to a far peer also depends on a setting of the system, which everseed
does not change: net.ipv4.tcp_congestion_control (sysctl). cubic fills a line
without packet loss, but only a part of a line with loss. bbr, if the kernel has
it, sent several times as much over such a line, with any
net.core.default_qdisc.

Examples:
  everseed seed film.mkv                       share a file
  everseed seed photos/ -t http://t.example/announce
                                               share a folder through a tracker
  everseed seed debian.torrent --data /srv     share what is in /srv already
  everseed seed --up 500k --check lazy *.iso   many files, at most 500 kB/s
";

/// The default memory budget: a quarter of a small router's memory.
const MEMORY: u64 = 16 << 20;

/// The arguments of `everseed seed`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedArgs {
    /// Files, folders and torrent files; at least one.
    pub paths: Vec<PathBuf>,
    /// The folder of the data of given torrent files; `None`: beside each.
    pub data: Option<PathBuf>,
    /// Paths of the torrent's files by number, beneath its data's folder.
    pub files: Vec<(u64, PathBuf)>,
    /// TCP addresses to listen on; at least one. Port 0 is any free one.
    pub listen: Vec<Listen>,
    /// Whether `listen` is the default. Then a machine without IPv6 is not an error.
    pub listen_default: bool,
    /// The proxy through which trackers are called.
    pub proxy: Option<Arc<Proxy>>,
    /// Whether peers of public torrents exchange addresses (PEX, BEP 11).
    pub pex: bool,
    /// Whether public torrents are announced in the local networks (LSD, BEP 14).
    pub lsd: bool,
    /// Whether the DHT is used for public torrents, and how.
    pub dht: Mode,
    /// DHT nodes to begin with.
    pub dht_nodes: Vec<String>,
    /// The address at which we can be reached from outside our network.
    pub public_address: Option<PublicAddress>,
    /// Whether the router is asked to forward our port.
    pub port_map: bool,
    /// The folder of the state; it may not exist yet.
    pub state: PathBuf,
    /// Peers served at a time, 1 to 5000; `None`: follows the upload capacity.
    pub slots: Option<u16>,
    /// Peers connected at a time, 1 to 20,000.
    pub max_peers: u16,
    /// Memory for everything, in bytes.
    pub memory: u64,
    /// Upload limit in bytes per second.
    pub up: Option<u64>,
    /// When data is verified.
    pub check: CheckMode,
    /// Options of torrents that are made; without trackers they get the built-in one.
    pub make: Options,
    /// Whether everybody may download the torrent files by HTTP.
    pub share_torrent: bool,
    /// How blocks get from files into sockets.
    pub send: Sending,
    /// Which symbolic links are followed.
    pub links: Links,
    /// The file to which everything that the engine is told is written.
    pub trace: Option<PathBuf>,
    /// Whether no progress is printed.
    pub quiet: bool,
    /// The log's level, unless `EVERSEED_LOG` sets it.
    pub log: LevelFilter,
}

/// When data is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckMode {
    /// All of it, before any is served.
    First,
    /// Each piece, before it is first served.
    Lazy,
}

/// The defaults.
impl Default for SeedArgs {
    fn default() -> SeedArgs {
        SeedArgs {
            paths: Vec::new(),
            data: None,
            files: Vec::new(),
            listen: Vec::new(),
            listen_default: false,
            proxy: None,
            pex: true,
            lsd: true,
            dht: Mode::On,
            dht_nodes: Vec::new(),
            public_address: None,
            port_map: true,
            state: PathBuf::new(),
            slots: None,
            max_peers: 100,
            memory: MEMORY,
            up: None,
            check: CheckMode::First,
            make: Options::default(),
            share_torrent: false,
            send: Sending::Copy,
            links: Links::Beneath,
            trace: None,
            quiet: false,
            log: LevelFilter::Warn,
        }
    }
}

impl SeedArgs {
    /// Parses the arguments after `everseed seed`.
    pub fn parse(mut parser: Parser) -> Result<SeedArgs, Stop> {
        let mut seed = SeedArgs::default();
        let mut state = None;
        while let Some(given) = args::next(&mut parser, HELP)? {
            match given {
                Argument::Value(path) => seed.paths.push(args::path(path)?),
                Argument::Option(option) => match option {
                    "--state" => state = Some(args::path_of(&mut parser, "--state")?),
                    "--quiet" => {
                        seed.quiet = true;
                        seed.log = LevelFilter::Error;
                    }
                    "--verbose" => seed.log = seed.log.increment_severity(),
                    "--share-torrent" => seed.share_torrent = true,
                    name if making::flag(&mut seed.make, name, true) => {}
                    name => seed.option(name, &mut parser)?,
                },
            }
        }
        seed.finish("seed", "a file, a folder or a .torrent", state)
    }

    /// Parses an option that has a value.
    pub(crate) fn option(&mut self, name: &str, parser: &mut Parser) -> Result<(), Stop> {
        match name {
            "--file" => self.files.push(args::placed(parser)?),
            "--rename" => self.files.push(args::renamed(parser)?),
            "--data" => self.data = Some(args::path_of(parser, name)?),
            "--listen" => {
                let what = "an address like 0.0.0.0:6881 or [::]:6881, or an interface like wg0";
                let listen = args::parsed(parser, name, what, |text| text.parse().ok())?;
                self.listen.push(listen);
            }
            "--proxy" => {
                // The value is not shown: without a scheme nobody can tell where the password stands in it.
                let proxy = Proxy::parse(&args::text(parser, name)?).ok_or_else(|| {
                    Stop::Usage(format!(
                        "{name}: that is no proxy; write socks5://HOST:PORT or http://HOST:PORT, with USER:PASSWORD@ \
                         before HOST if it needs that"
                    ))
                })?;
                self.proxy = Some(Arc::new(proxy));
            }
            "--pex" => self.pex = args::switch(parser, name)?,
            "--lsd" => self.lsd = args::switch(parser, name)?,
            "--dht" => {
                let words = [
                    ("on", Mode::On),
                    ("read-only", Mode::ReadOnly),
                    ("off", Mode::Off),
                ];
                self.dht = args::word(parser, name, &words)?;
            }
            "--dht-node" => self.dht_nodes.push(args::host_port(parser, name)?),
            "--public-address" => {
                let what =
                    "a name or an IP address, with a port or without, like seed.example.org:6881";
                let public = args::parsed(parser, name, what, PublicAddress::parse)?;
                self.public_address = Some(public);
            }
            "--port-map" => {
                self.port_map = args::word(parser, name, &[("auto", true), ("off", false)])?;
            }
            "--slots" => {
                let read = |text: &str| args::number(text, 1, 5000);
                self.slots = Some(args::parsed(parser, name, "a number from 1 to 5000", read)?);
            }
            "--max-peers" => {
                let read = |text: &str| args::number(text, 1, 20_000);
                self.max_peers = args::parsed(parser, name, "a number from 1 to 20000", read)?;
            }
            "--memory" => {
                let what = "a size like 4M or 64MiB";
                self.memory = args::parsed(parser, name, what, args::rate)?;
            }
            "--up" => {
                let what = "a rate like 500k or 2M in bytes per second (leave it out for no limit)";
                self.up = Some(args::parsed(parser, name, what, args::rate)?);
            }
            "--check" => {
                let words = [("first", CheckMode::First), ("lazy", CheckMode::Lazy)];
                self.check = args::word(parser, name, &words)?;
            }
            "--send" => {
                let words = [("copy", Sending::Copy), ("sendfile", Sending::Sendfile)];
                self.send = args::word(parser, name, &words)?;
            }
            "--links" => self.links = args::links(parser, name)?,
            "--trace" => self.trace = Some(args::path_of(parser, name)?),
            _ if making::option(&mut self.make, name, parser)? => {}
            _ => return Err(args::unknown(HELP, name)),
        }
        Ok(())
    }

    pub(crate) fn finish(
        mut self,
        command: &str,
        needs: &str,
        state: Option<PathBuf>,
    ) -> Result<SeedArgs, Stop> {
        if self.paths.is_empty() {
            return Err(args::missing(command, needs));
        }
        let is_one = self.paths.len() == 1;
        if !self.files.is_empty() && !is_one {
            return Err(Stop::Usage(format!(
                "--file and --rename go with one .torrent; {command} the others by another command"
            )));
        }
        self.state = match state {
            Some(state) => state,
            None => usual_state()
                .ok_or_else(|| args::missing(command, "--state DIR when HOME is not set"))?,
        };
        Ok(self.listening())
    }

    /// Sets the default addresses to listen on, if none was given.
    pub(crate) fn listening(mut self) -> SeedArgs {
        if self.listen.is_empty() {
            self.listen_default = true;
            self.listen = vec![
                Listen::At((Ipv4Addr::UNSPECIFIED, PORT).into()),
                Listen::At((Ipv6Addr::UNSPECIFIED, PORT).into()),
            ];
        }
        self
    }
}

/// The default state folder of the user.
pub(crate) fn usual_state() -> Option<PathBuf> {
    default_state(
        std::env::var_os("XDG_STATE_HOME"),
        std::env::var_os("HOME"),
        rustix::process::geteuid().is_root(),
    )
}

/// The state folder by the XDG base directory rules; for root the one of a service.
fn default_state(xdg: Option<OsString>, home: Option<OsString>, root: bool) -> Option<PathBuf> {
    // These rules say to ignore relative paths in these variables.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(state) = absolute(xdg) {
        Some(state.join("everseed"))
    } else if root {
        Some(PathBuf::from("/var/lib/everseed"))
    } else {
        absolute(home).map(|home| home.join(".local/state/everseed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<SeedArgs, Stop> {
        SeedArgs::parse(Parser::from_args(args))
    }

    #[test]
    fn everything_at_once() {
        let seed = parse(&[
            "a",
            "--listen=127.0.0.1:0",
            "--listen",
            "[::1]:7000",
            "--proxy=socks5://a:b@127.0.0.1:9050",
            "--public-address",
            "seed.example.org:80",
            "--port-map=off",
            "--send",
            "sendfile",
            "--links=follow",
            "--pex",
            "off",
            "--lsd=off",
            "--dht=read-only",
            "--dht-node=dht.example.org:6881",
            "--trace",
            "x.trace",
            "--state",
            "s",
            "--slots",
            "5000",
            "--max-peers=20000",
            "--memory=4M",
            "--up",
            "1.5MiB/s",
            "--check",
            "lazy",
            "-t",
            "udp://t:80",
            "--share-torrent",
            "--tracker=http://t/announce",
            "--source=S",
            "--private",
            "-vv",
            "--data",
            "d",
            "--",
            "-b",
        ]);
        let expected = SeedArgs {
            paths: vec!["a".into(), "-b".into()],
            data: Some("d".into()),
            files: vec![],
            listen: vec![
                "127.0.0.1:0".parse().unwrap(),
                "[::1]:7000".parse().unwrap(),
            ],
            listen_default: false,
            proxy: Proxy::parse("socks5://a:b@127.0.0.1:9050").map(Arc::new),
            pex: false,
            lsd: false,
            dht: Mode::ReadOnly,
            dht_nodes: vec!["dht.example.org:6881".into()],
            public_address: PublicAddress::parse("seed.example.org:80"),
            port_map: false,
            state: "s".into(),
            slots: Some(5000),
            max_peers: 20_000,
            memory: 4_000_000,
            up: Some(1_572_864),
            check: CheckMode::Lazy,
            make: Options {
                trackers: vec![vec!["udp://t:80".into()], vec!["http://t/announce".into()]],
                source: Some("S".into()),
                private: true,
                ..Options::default()
            },
            share_torrent: true,
            send: Sending::Sendfile,
            links: Links::Follow,
            trace: Some("x.trace".into()),
            quiet: false,
            log: LevelFilter::Debug,
        };
        assert_eq!(seed, Ok(expected));
    }

    #[test]
    fn defaults() {
        let seed = parse(&["a", "--state", "s"]).unwrap();
        assert!(seed.listen_default && seed.listen.len() == 2);
        assert_eq!((seed.slots, seed.max_peers, seed.up), (None, 100, None));
        assert_eq!(
            (seed.check, seed.log),
            (CheckMode::First, LevelFilter::Warn)
        );
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                &["--slots", "0", "a"][..],
                "--slots: \"0\" is not a number from 1 to 5000",
            ),
            (&["--slots"], "--slots needs a value"),
            (&["--up", "fast"], "--up: \"fast\" is not a rate"),
            (
                &["--listen", "6881"],
                "--listen: \"6881\" is not an address",
            ),
            (
                &["--proxy", "me:secret@p:1080"],
                "--proxy: that is no proxy; write socks5://",
            ),
            (
                &["--check", "last"],
                "--check: \"last\" is not first or lazy",
            ),
            (
                &["--chek", "lazy"],
                "seed has no option --chek; did you mean --check?",
            ),
            (&["--quiet=1", "a"], "--quiet takes no value"),
            (&["--state", "", "a"], "--state: the path is empty"),
            (&["--data="], "--data: the path is empty"),
            (&[""], "an empty path names nothing"),
            (&[], "seed needs a file, a folder or a .torrent"),
        ];
        for (args, complaint) in cases {
            match parse(args) {
                Err(Stop::Usage(text)) => assert!(text.starts_with(complaint), "{text}"),
                other => panic!("{args:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_is_printed() {
        assert_eq!(parse(&["--slots", "3", "-h"]), Err(Stop::Print(HELP)));
    }

    #[test]
    fn where_state_goes() {
        let state = |xdg: &str, home: &str, root| {
            default_state(Some(xdg.into()), Some(home.into()), root)
                .map(|path| path.into_os_string().into_string().unwrap())
        };
        assert_eq!(state("/x", "/h", true).as_deref(), Some("/x/everseed"));
        assert_eq!(
            state("relative", "/h", false).as_deref(),
            Some("/h/.local/state/everseed")
        );
        assert_eq!(
            state("", "/root", true).as_deref(),
            Some("/var/lib/everseed")
        );
        assert_eq!(state("", "", false), None);
    }
}
