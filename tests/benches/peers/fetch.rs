//! Downloading from a far seeder: how much of the line is used, from the program's start until it reports a complete
//! and checked download.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use everseed_tests::dial::ready;
use everseed_tests::dir::Dir;
use everseed_tests::download::{BLOCK, Download, Wish};
use everseed_tests::far::{Far, Way};
use everseed_tests::leecher::{Work, leech};
use everseed_tests::process::Process;
use everseed_tests::seeder::everseed;

use crate::args::Row;
use crate::bench::Bench;
use crate::clients::{self, Client};
use crate::data::Set;
use crate::figures::Figure;

/// A line to a seeder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) title: &'static str,
    round_trip_ms: u64,
    rate_mbps: u64,
}

/// The cases; a [`Figure`] holds an index into them.
pub(crate) const CASES: [Case; 2] = [
    Case {
        title: "downloading, 100 ms, 200 Mbit/s: Mbit/s",
        round_trip_ms: 100,
        rate_mbps: 200,
    },
    Case {
        title: "downloading, 250 ms, 100 Mbit/s: Mbit/s",
        round_trip_ms: 250,
        rate_mbps: 100,
    },
];

/// Measures all cases. The seeder is libtorrent. The floor is a leecher that checks and writes nothing.
pub(crate) fn fetch(bench: &mut Bench, client: Client) -> Result<(), String> {
    if !matches!(
        client,
        Client::Everseed | Client::Floor | Client::Libtorrent
    ) {
        return Ok(());
    }
    if let Some(package) = Client::Libtorrent.missing() {
        return Err(format!("its seeder is not installed (package {package})"));
    }
    let size = bench.args.size;
    let set = bench.random(size.pick(96, 96, 2) << 20);
    let cases = (0..).zip(CASES).take(size.pick(2, 2, 1));
    let wanted: Vec<_> = cases
        .filter(|(_, case)| bench.args.wants(case.title))
        .collect();
    let result = wanted.into_iter().try_for_each(|(number, case)| {
        let took = one(bench, client, case, &set)?;
        let bits = set.first().len as f64 * 8.0;
        bench.add(
            Figure::Fetch(number),
            client,
            bits / took.as_secs_f64() / 1e6,
        );
        Ok(())
    });
    bench.keep(set);
    result
}

fn one(bench: &Bench, client: Client, case: Case, set: &Set) -> Result<Duration, String> {
    let round_trip = Duration::from_millis(case.round_trip_ms);
    let far = Far::new(&bench.net, Way::new(round_trip, case.rate_mbps * 1_000_000));
    far.use_congestion_control(&bench.net, &bench.args.congestion);
    let (dir, torrent) = (Dir::new("fetch"), set.first());
    let seeder = SocketAddr::new(far.ip().into(), PORT);
    let mut argv = far.enter();
    argv.extend(clients::libtorrent(
        &set.torrents,
        &set.data,
        seeder,
        "default",
    ));
    let _seeder = Process::start("libtorrent", &argv, &dir.join("seeder.log"));
    let (hash, pieces) = (torrent.hash, torrent.pieces());
    let near = Some(far.near_ip());
    if ready(near, seeder, hash, pieces, Instant::now(), PATIENCE).is_none() {
        return Err("its seeder does not answer".to_owned());
    }
    let listen = SocketAddr::new(far.near_ip().into(), PORT).to_string();
    let out = dir.sub("files");
    let (path, peer) = (torrent.path.display().to_string(), seeder.to_string());
    let to = out.display().to_string();
    let start = Instant::now();
    let argv = match client {
        Client::Floor => return leecher(&far, seeder, set),
        Client::Libtorrent => {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_get.py");
            let words = ["/usr/bin/python3", script, &path, &to, &listen];
            let words = words
                .into_iter()
                .chain(["--peer", &peer, "--no-trackers", "--plain"]);
            words.map(str::to_owned).collect()
        }
        _ => {
            let (program, state) = (everseed(), dir.sub("state").display().to_string());
            let words = [&program, "get", &path, "--no-seed", "--peer", &peer];
            let places = ["--listen", &listen, "--out", &to, "--state", &state];
            let words = words.into_iter().chain(places).map(str::to_owned);
            let options = bench.args.options(Row::Fetch);
            words.chain(options).collect::<Vec<_>>()
        }
    };
    let mut process = Process::start(client.name(), &argv, &dir.join("log"));
    // The time ends with this line, because libtorrent takes another second to end.
    let says = match client {
        Client::Libtorrent => "torrent_finished",
        _ => "complete: ",
    };
    while !process.output().contains(says) && start.elapsed() < PATIENCE {
        std::thread::sleep(TICK);
    }
    let took = start.elapsed();
    let code = process.wait(PATIENCE);
    let same = |a: &Path, b: &Path| std::fs::read(a).ok() == std::fs::read(b).ok();
    if code != 0 || !same(&out.join(&torrent.name), &set.data.join(&torrent.name)) {
        return Err(format!("ended with {code}, and not with the same bytes"));
    }
    Ok(took)
}

/// The time that a leecher takes that only counts bytes.
fn leecher(far: &Far, seeder: SocketAddr, set: &Set) -> Result<Duration, String> {
    let (torrent, start) = (set.first(), Instant::now());
    let blocks = torrent.len / BLOCK;
    let work = Work {
        to: seeder,
        from: Some(far.near_ip()),
        peers: 1,
        limit: PATIENCE,
        patience: PATIENCE,
        check: None,
    };
    let wish = Wish {
        hash: torrent.hash,
        piece_len: u32::try_from(torrent.piece_len).expect("a small piece"),
        blocks,
        from: 0,
        wanted: blocks,
        depth: 250,
    };
    let outcome = leech(&work, |_| Download::from_peer(wish)).map_err(|e| e.to_string())?;
    match outcome.complete() {
        true => Ok(start.elapsed()),
        false => Err("the leecher did not get all".to_owned()),
    }
}

const PORT: u16 = 21_000;
const TICK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);
