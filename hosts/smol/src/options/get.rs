//! The arguments of `everseed get`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use everseed_core::magnet::{Magnet, Value};
use everseed_disk::Access;
use lexopt::Parser;

use crate::options::args::{self, Argument, Stop};
use crate::options::seed::SeedArgs;

/// The text of `everseed get --help`.
pub const HELP: &str = "\
everseed get - download torrents, then keep seeding them

Usage: everseed get [OPTIONS] TORRENT|URL|MAGNET ...

TORRENT is a .torrent file, URL an http or https address of one. MAGNET is a
magnet link: everseed finds peers through its trackers (tr) and addresses (x.pe)
and the DHT. They send the torrent (at most 30 MiB, less with little --memory),
which is kept in the state folder. If the link (so) or --only selects files,
only these are downloaded.

Existing data is checked and not downloaded again, so the same command goes on
after a stop, a crash or a power cut. everseed writes only to files that it has
made and not completed. Other files that differ from the torrent are named and
left alone. Unfinished files of other clients (NAME.part, NAME.!qB) are used;
with --overwrite the download goes on in them, and they get their final names
when they are complete.

Several torrents are downloaded at the same time. If one fails, everseed says so
at once, and the others go on; the exit code is that of the worst. A torrent
that is named twice is downloaded once. Up to four servers are asked for a
.torrent at a time. Options hold for each torrent, limits for all together, and
all have to fit into --memory. --file and --rename need a single torrent.

Options:
  -o, --out DIR        folder for the torrent's file or folder (default: .)
      --incomplete DIR folder for the unfinished download (DIR/HASH.part). When
                       it is complete, it is moved to --out, or copied and
                       verified if that is another disk. A download that began
                       in --out goes on there
      --only FILE      download only this file: its number in `everseed show`,
                       its path, or a pattern like '*.flac'; repeat it for more
      --file N=PATH    put file number N (see `everseed show`) at PATH beneath
                       the folder; repeat it for more. everseed remembers it
      --rename NAME    call the torrent's file or folder NAME; everseed
                       remembers it
      --sequential     download from the first piece to the last, not the
                       rarest first
      --prealloc HOW   sparse: files grow as they are written; full: reserve
                       all space at the start or, where the file system is slow
                       at that, when a file is first written
                       (default: sparse)
      --overwrite      overwrite existing files that differ from the torrent,
                       although everseed did not make them, or they were changed
                       after they were complete
      --umask MASK     permissions that new files and folders do not get: 002
                       lets their group write, as Samba needs it
                       (default: that of the process)
      --group GROUP    group of new files and folders, by name or number: one
                       that everseed's user is in; root may name any
      --no-seed        stop when the download is complete
      --ratio R        stop when R times its size was uploaded, like 1.5
      --time MINUTES   stop after seeding for so long. Of several torrents each
                       stops at its own goal, and everseed ends with the last
      --peer IP:PORT   a peer to connect to, again and again if need be; repeat
                       it for more. Not for private torrents, which use only
                       their trackers' peers
      --share-torrent  let anybody download the .torrent, as for seed
      --listen IP:PORT|INTERFACE[:PORT]
                       where peers connect, TCP, as for seed; repeat it for
                       several (default: 0.0.0.0:6881 and [::]:6881. If another
                       program has the port, the next free one, unless a public
                       address is given)
      --proxy URL      call trackers and the server of the torrent through a
                       proxy, as for seed
      --pex HOW        on or off, as for seed: peers tell each other of peers
      --lsd HOW        on or off, as for seed: find peers in the local networks
      --dht HOW        on: find peers in the distributed hash table, as for
                       seed; read-only: do not answer other nodes; off: do not
                       use it (default: on)
      --dht-node HOST:PORT
                       a DHT node to begin with, as for seed
      --public-address HOST[:PORT]
                       the address at which others reach us, as for seed
      --port-map WHEN  auto: ask the router to forward our port, as for seed;
                       off: never (default: auto)
      --slots N        peers served at a time, 1 to 5000 (default: as many as
                       suit the upload speed, 4 to 250, if they fit into the
                       memory; a new peer has a turn at once)
      --max-peers N    peers connected at a time, 1 to 20000 (default: 100)
      --memory SIZE    limit for all memory (default: 16MiB)
      --up RATE        upload limit in bytes per second: 500k, 2M, 1.5MiB
      --down RATE      download limit, likewise
      --send HOW       copy or sendfile, as for seed
      --links WHICH    beneath or follow, as for seed
      --trace FILE     record all input of the engine in FILE, to find a bug.
                       It grows by as many bytes as peers send, and peers wait
                       for its disk
      --state DIR      folder for the torrent, check results and which torrents
                       are paused (default: as for seed)
  -q, --quiet          print no progress, log only errors
  -v, --verbose        log more; repeat it for still more
  -h, --help           print this
  -V, --version        print the version

If the disk is full, everseed says so, and goes on when there is room. SIGINT or
SIGTERM stops cleanly.

Exit codes: 0 complete, 1 failure, 2 wrong usage, 7 stopped before it was
complete, 9 stopped while the disk was full, 25 no torrent (not bencoded),
26 a bad torrent, 32 existing files differ from the torrent (see --overwrite),
or it was stopped while peers sent pieces with a wrong hash. Of several torrents
the worst counts: 1, then 2, 25, 26, 32, 9, 7.

Examples:
  everseed get debian.torrent -o /srv           download, then seed
  everseed get https://example.org/x.torrent --no-seed
  everseed get album.torrent --only '*.flac' --only cover.jpg
  everseed get 'magnet:?xt=urn:btih:HASH' -o /srv
  everseed get a.torrent b.torrent --down 2M --no-seed
";

/// The options of a download, and its goal: when to stop seeding.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fetch {
    /// The folder that the content's file or folder goes to.
    pub out: PathBuf,
    /// The folder that it lies in until it is complete.
    pub incomplete: Option<PathBuf>,
    /// The wanted files, by number, path or pattern; empty means all.
    pub only: Vec<String>,
    /// Whether pieces are downloaded in order.
    pub sequential: bool,
    /// Whether all disk space is reserved at the start.
    pub full: bool,
    /// Whether existing files that differ are overwritten.
    pub overwrite: bool,
    /// Permissions and group of the files.
    pub access: Access,
    /// Stop when it is complete.
    pub no_seed: bool,
    /// Stop at this upload ratio, in thousandths.
    pub ratio: Option<u64>,
    /// Stop after seeding for this time.
    pub time: Option<Duration>,
    /// Peers to call at the start.
    pub peers: Vec<SocketAddr>,
    /// Download limit in bytes per second.
    pub down: Option<u64>,
}

impl Fetch {
    /// The same download without its goal and its peers.
    pub(crate) fn without_goal(&self) -> Fetch {
        Fetch {
            no_seed: false,
            ratio: None,
            time: None,
            peers: Vec::new(),
            ..self.clone()
        }
    }

    /// Parses the arguments after `everseed get`.
    pub fn parse(mut parser: Parser) -> Result<(SeedArgs, Fetch), Stop> {
        let mut seed = SeedArgs::default();
        let mut fetch = Fetch {
            out: PathBuf::from("."),
            ..Fetch::default()
        };
        let mut state = None;
        while let Some(given) = args::next(&mut parser, HELP)? {
            match given {
                Argument::Value(path) => seed.paths.push(args::path(path)?),
                Argument::Option(option) => match option {
                    "--state" => state = Some(args::path_of(&mut parser, "--state")?),
                    "--overwrite" => fetch.overwrite = true,
                    "--no-seed" => fetch.no_seed = true,
                    "--sequential" => fetch.sequential = true,
                    "--share-torrent" => seed.share_torrent = true,
                    "--quiet" => {
                        seed.quiet = true;
                        seed.log = log::LevelFilter::Error;
                    }
                    "--verbose" => seed.log = seed.log.increment_severity(),
                    name => fetch.option(name, &mut parser, &mut seed)?,
                },
            }
        }
        // The file selection in a link holds for its torrent alone.
        for path in &seed.paths {
            let mut its = fetch.clone();
            let heeded = its.take_link(path.to_str().unwrap_or_default());
            heeded.map_err(Stop::Usage)?;
        }
        let what = "a .torrent file or its URL, or a magnet link";
        let seed = seed.finish("get", what, state)?;
        Ok((seed, fetch))
    }

    /// Takes the file selection of a magnet link (BEP 53), unless files were named, and its peers. All else in the
    /// link is left to others.
    pub(crate) fn take_link(&mut self, link: &str) -> Result<(), String> {
        let is_magnet = link
            .get(..7)
            .is_some_and(|l| l.eq_ignore_ascii_case("magnet:"));
        if !is_magnet {
            return Ok(());
        }
        let magnet = Magnet::parse(link).map_err(|error| error.to_string())?;
        if let Some(files) = magnet.files().filter(|_| self.only.is_empty()) {
            for range in files {
                // Files are numbered from 0 in the link, and from 1 here.
                let numbers = range.map(|number| (u64::from(number) + 1).to_string());
                self.only
                    .extend(numbers.take(MOST_FILES + 1 - self.only.len()));
                if self.only.len() > MOST_FILES {
                    let text = format!(
                        "the magnet link names more than {MOST_FILES} files (so=): take that out of it, and name \
                         patterns with --only"
                    );
                    return Err(text);
                }
            }
        }
        let text = |value: Value<'_>| String::from_utf8(value.bytes().collect()).ok();
        let peers = magnet.peers().filter_map(text);
        self.peers.extend(
            peers
                .filter_map(|peer| peer.parse::<SocketAddr>().ok())
                .take(MOST_PEERS),
        );
        Ok(())
    }

    /// Parses an option that has a value.
    pub(crate) fn option(
        &mut self,
        name: &str,
        parser: &mut Parser,
        seed: &mut SeedArgs,
    ) -> Result<(), Stop> {
        match name {
            "--out" => self.out = args::path_of(parser, name)?,
            "--incomplete" => self.incomplete = Some(args::path_of(parser, name)?),
            "--only" => self.only.push(args::text(parser, name)?),
            "--prealloc" => {
                self.full = args::word(parser, name, &[("sparse", false), ("full", true)])?;
            }
            "--umask" => {
                let what = "a mask like 022 or 002 (three octal digits, the first of them 0)";
                self.access.umask = Some(args::parsed(parser, name, what, args::umask)?);
            }
            "--group" => self.access.group = Some(args::group(&args::text(parser, name)?)?),
            "--ratio" => {
                let what = "a number like 1.5";
                self.ratio = Some(args::parsed(parser, name, what, args::thousandths)?);
            }
            "--time" => {
                let read = |text: &str| {
                    let minutes = args::thousandths(text)?;
                    (minutes <= MAX_MINUTES * 1000).then(|| Duration::from_millis(minutes * 60))
                };
                self.time = Some(args::parsed(parser, name, "a number of minutes", read)?);
            }
            "--peer" => {
                let what = "an address like 192.0.2.1:6881";
                let addr = args::parsed(parser, name, what, |text| text.parse().ok())?;
                self.peers.push(addr);
            }
            "--down" => {
                let what = "a rate like 500k or 2M in bytes per second (leave it out for no limit)";
                self.down = Some(args::parsed(parser, name, what, args::rate)?);
            }
            "--listen" | "--proxy" | "--pex" | "--lsd" | "--dht" | "--dht-node"
            | "--public-address" | "--port-map" | "--slots" | "--max-peers" | "--memory"
            | "--file" | "--rename" | "--up" | "--send" | "--links" | "--trace" => {
                seed.option(name, parser)?;
            }
            _ => return Err(args::unknown(HELP, name)),
        }
        Ok(())
    }
}

/// Nineteen years.
const MAX_MINUTES: u64 = 10_000_000;

/// The most files that a magnet link may select, and the most peers of it that are called.
const MOST_FILES: usize = 4096;
const MOST_PEERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<(SeedArgs, Fetch), Stop> {
        Fetch::parse(Parser::from_args(args))
    }

    #[test]
    fn everything_at_once() {
        let (seed, fetch) = parse(&[
            "x.torrent",
            "-o",
            "out",
            "--incomplete=part",
            "--only=3",
            "--only",
            "*.flac",
            "--sequential",
            "--prealloc=full",
            "--overwrite",
            "--umask=002",
            "--no-seed",
            "--ratio",
            "1.5",
            "--time=0.5",
            "--peer",
            "192.0.2.1:1",
            "--down",
            "1M",
            "--up=2M",
            "--slots=3",
            "--state=s",
        ])
        .unwrap();
        let expected = Fetch {
            out: "out".into(),
            incomplete: Some("part".into()),
            only: vec!["3".into(), "*.flac".into()],
            sequential: true,
            full: true,
            overwrite: true,
            access: Access {
                umask: Some(0o002),
                group: None,
            },
            no_seed: true,
            ratio: Some(1500),
            time: Some(Duration::from_secs(30)),
            peers: vec!["192.0.2.1:1".parse().unwrap()],
            down: Some(1_000_000),
        };
        assert_eq!(fetch, expected);
        assert_eq!((seed.slots, seed.up), (Some(3), Some(2_000_000)));
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                &["a", "b", "--rename=c"][..],
                "--file and --rename go with one .torrent; get the others by another command",
            ),
            (&[], "get needs a .torrent file or its URL"),
            (&["--ratio=-1", "a"], "--ratio: \"-1\" is not a number"),
            (&["--time=soon", "a"], "--time: \"soon\" is not a number"),
            (
                &["--umask=700", "a"],
                "--umask: \"700\" is not a mask like 022",
            ),
            (
                &["--group=no such group", "a"],
                "--group: there is no group \"no such group\"",
            ),
            (
                &["--prealloc=none", "a"],
                "--prealloc: \"none\" is not sparse or full",
            ),
            (
                &["--onyl=1", "a"],
                "get has no option --onyl; did you mean --only?",
            ),
        ];
        for (args, complaint) in cases {
            match parse(args) {
                Err(Stop::Usage(text)) => assert!(text.starts_with(complaint), "{text}"),
                other => panic!("{args:?}: {other:?}"),
            }
        }
    }
}
