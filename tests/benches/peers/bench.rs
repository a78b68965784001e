//! A run of the bench: its network, its clients, its results.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use everseed_tests::dial::{allow_many_sockets, ready};
use everseed_tests::far::Far;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::program;
use everseed_tests::usage;

use crate::args::{Args, Row};
use crate::clients::{Client, Running};
use crate::data::{Set, Torrent};
use crate::figures::Figure;
use crate::machine;
use crate::tracker;

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) net: Net,
    /// The clients that are wanted and installed.
    pub(crate) clients: Vec<Client>,
    /// Remarks that are printed below the figures.
    pub(crate) notes: Vec<String>,
    /// Errors of clients, and clients that are not installed.
    pub(crate) failures: Vec<String>,
    /// One value for each round.
    values: HashMap<(Figure, Client), Vec<f64>>,
    /// CPU seconds of OpenSSL's SHA-1 for a GiB.
    pub(crate) openssl: Vec<f64>,
    ips: HashMap<Client, IpAddr>,
    port: u16,
    sets: HashMap<u64, Set>,
    pub(crate) tracker: String,
    start: Instant,
    /// The number of the round. It is the seed by which lines lose packets, so that all clients lose the same ones.
    pub(crate) round: u64,
    /// The load of the machine before the run.
    pub(crate) load: String,
}

/// A client that is ready to serve.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) running: Running,
    /// The time from its start until it offers all pieces.
    pub(crate) ready: Duration,
    /// Its CPU time until then.
    pub(crate) cpu: Duration,
}

impl Bench {
    pub(crate) fn new(args: Args) -> Bench {
        allow_many_sockets();
        let net = Net::new();
        let mut notes = Vec::new();
        if !use_cubic() {
            notes.push("The congestion control is the system's, not cubic".to_owned());
        }
        let missing: Vec<_> = args
            .clients
            .iter()
            .filter_map(|client| Some((*client, client.missing()?)))
            .collect();
        let clients = args.clients.iter().copied();
        let clients: Vec<_> = clients.filter(|c| c.missing().is_none()).collect();
        let ips = clients.iter().map(|c| (*c, net.ip(Family::V4))).collect();
        let tracker = tracker::start(net.addr(Family::V4));
        let mut bench = Bench {
            args,
            net,
            clients,
            notes,
            failures: Vec::new(),
            values: HashMap::new(),
            openssl: Vec::new(),
            ips,
            port: 20_000,
            sets: HashMap::new(),
            tracker,
            start: Instant::now(),
            round: 0,
            load: machine::load(),
        };
        for (client, package) in missing {
            let title = client.title();
            let note = format!("{title} is not installed (Debian package {package})");
            eprintln!("{note}");
            bench.failures.push(note.clone());
            bench.notes.push(note);
        }
        bench
    }

    /// A file of `len` random bytes, which is made once and used again.
    pub(crate) fn random(&mut self, len: u64) -> Set {
        self.sets
            .remove(&len)
            .unwrap_or_else(|| Set::random(len, &self.tracker))
    }

    /// Gives a file back for the next measurement.
    pub(crate) fn keep(&mut self, set: Set) {
        self.sets.insert(set.first().len, set);
    }

    /// The address of a client in this run.
    pub(crate) fn ip(&self, client: Client) -> IpAddr {
        self.ips[&client]
    }

    /// Starts a client and waits until it offers all pieces.
    pub(crate) fn start(
        &mut self,
        client: Client,
        row: Row,
        torrents: &[Torrent],
        set: &Set,
    ) -> Result<Started, String> {
        self.start_near(None, client, row, torrents, set)
    }

    /// The same at the near end of a line to a far machine.
    pub(crate) fn start_near(
        &mut self,
        far: Option<&Far>,
        client: Client,
        row: Row,
        torrents: &[Torrent],
        set: &Set,
    ) -> Result<Started, String> {
        self.port += 1;
        let ip = far.map_or(self.ip(client), |far| far.near_ip().into());
        let addr = SocketAddr::new(ip, self.port);
        let start = Instant::now();
        let running = client.start(torrents, &set.data, addr, &self.args.options(row));
        let last = torrents.last().expect("a torrent");
        let (hash, pieces) = (last.hash, last.pieces());
        let found = match far {
            // A client that listens on one interface is reached only through that one.
            Some(far) => far.inside(|| ready(Some(far.ip()), addr, hash, pieces, start, PATIENCE)),
            None if client.is_peer() => ready(None, addr, hash, pieces, start, PATIENCE),
            None => listens(addr, start),
        };
        let Some(ready) = found else {
            let said = running.last_words();
            return Err(format!("is not ready after {PATIENCE:?}; it said {said}"));
        };
        let cpu = usage::cpu(running.pid());
        Ok(Started {
            running,
            ready,
            cpu,
        })
    }

    /// Records a value of this round.
    pub(crate) fn add(&mut self, figure: Figure, client: Client, value: f64) {
        let (seconds, who, what) = (
            self.start.elapsed().as_secs(),
            client.title(),
            figure.title(),
        );
        eprintln!("{seconds:5} s  {who:24} {what} {value:.4}");
        self.values.entry((figure, client)).or_default().push(value);
    }

    /// One value for each round.
    pub(crate) fn values(&self, figure: Figure, client: Client) -> &[f64] {
        self.values
            .get(&(figure, client))
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn note_failure(&mut self, client: Client, row: Row, result: Result<(), String>) {
        if let Err(error) = result {
            let note = format!("{}, {}: {error}", client.title(), row.name());
            eprintln!("  {note}");
            self.failures.push(note.clone());
            self.notes.push(note);
        }
    }

    /// Sleeps, so that clients finish what they still do.
    pub(crate) fn settle(&self, seconds: u64) {
        let each = self.args.size.pick(1000, 1000, 50);
        std::thread::sleep(Duration::from_millis(seconds * each));
    }
}

/// Has loopback use cubic. BBR, which some systems use, measures a path that loopback does not have. A route may name
/// any congestion control, a network namespace only some.
fn use_cubic() -> bool {
    let route = "route replace table local local 10.0.0.0/8 dev lo src 10.0.0.254 congctl cubic";
    let ip = Command::new(program("ip", "iproute2"))
        .args(route.split(' '))
        .status();
    ip.is_ok_and(|status| status.success())
}

fn listens(addr: SocketAddr, start: Instant) -> Option<Duration> {
    while start.elapsed() < PATIENCE {
        if std::net::TcpStream::connect(addr).is_ok() {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    None
}

const PATIENCE: Duration = Duration::from_secs(30);

/// A number of bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// How much more MiB `after` is than `before`.
pub(crate) fn mib_more(before: u64, after: u64) -> f64 {
    mib(after) - mib(before)
}
