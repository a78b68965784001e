//! Serving fifty near peers at once, and one.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use everseed_tests::download::{BLOCK, Download, Wish};
use everseed_tests::far::Far;
use everseed_tests::leecher::{Outcome, Work, leech};
use everseed_tests::process::find;
use everseed_tests::usage;

use crate::args::Row;
use crate::bench::{Bench, Started, mib, mib_more};
use crate::clients::Client;
use crate::data::Set;
use crate::figures::Figure;

/// Measures fifty peers that download at once.
pub(crate) fn crowd(bench: &mut Bench, client: Client) -> Result<(), String> {
    let size = bench.args.size;
    let set = bench.random(size.pick(64, 64, 2) << 20);
    let peers = size.pick(50, 50, 4);
    let result = bench
        .start(client, Row::Crowd, &set.torrents, &set)
        .and_then(|started| {
            if client.is_peer() {
                bench.add(Figure::Ready, client, started.ready.as_secs_f64());
            }
            bench.settle(1);
            let pid = started.running.pid();
            let empty = usage::resident(pid);
            usage::forget_peak(pid);
            let sampler = Sampler::start(bench.ip(client));
            let load = Load {
                peers,
                depth: DEPTH,
                blocks: set.first().len / BLOCK,
                far: None,
            };
            let (outcome, cpu) = load.run(bench, client, &started, &set)?;
            bench.add(Figure::CrowdTcp, client, mib(sampler.stop()));
            bench.add(Figure::CrowdPeak, client, mib(usage::peak(pid)));
            bench.add(Figure::CrowdCpu, client, per_gib(cpu, outcome.bytes()));
            bench.add(Figure::CrowdRate, client, outcome.rate());
            bench.add(Figure::CrowdFair, client, outcome.fairness());
            bench.settle(3);
            let left = mib_more(empty, usage::resident(pid));
            bench.add(Figure::CrowdLeft, client, left);
            Ok(())
        });
    bench.keep(set);
    result
}

/// Measures the check of a file, the first block, and a download by one peer.
pub(crate) fn one(bench: &mut Bench, client: Client) -> Result<(), String> {
    let size = bench.args.size;
    let small = bench.random(1 << 20);
    let large = bench.random(size.pick(1024, 256, 16) << 20);
    if client == Client::Everseed {
        openssl(
            bench,
            &large.data.join(&large.first().name),
            large.first().len,
        );
    }
    let result = bench
        .start(client, Row::One, &small.torrents, &small)
        .and_then(|started| {
            let least = started.cpu;
            drop(started);
            let started = bench.start(client, Row::One, &large.torrents, &large)?;
            if client.is_peer() && client != Client::Floor {
                let bytes = large.first().len - small.first().len;
                let cpu = started.cpu.saturating_sub(least);
                bench.add(Figure::Hash, client, per_gib(cpu, bytes));
            }
            bench.settle(1);
            first_block(bench, client, &started, &large)?;
            let load = Load {
                peers: 1,
                depth: DEPTH,
                blocks: large.first().len / BLOCK,
                far: None,
            };
            let (outcome, cpu) = load.run(bench, client, &started, &large)?;
            bench.add(Figure::OneCpu, client, per_gib(cpu, outcome.bytes()));
            bench.add(Figure::OneRate, client, outcome.rate());
            Ok(())
        });
    bench.keep(small);
    bench.keep(large);
    result
}

/// Measures the time from the connection to the first block, with several numbers of requests at a time. The slowest
/// counts; after a slow one no other is tried.
fn first_block(
    bench: &mut Bench,
    client: Client,
    started: &Started,
    set: &Set,
) -> Result<(), String> {
    let mut slowest = Duration::ZERO;
    for depth in [1, 16, 256] {
        if slowest > Duration::from_millis(500) {
            break;
        }
        let load = Load {
            peers: 1,
            depth,
            blocks: (depth as u64).min(set.first().len / BLOCK),
            far: None,
        };
        let (outcome, _) = load.run(bench, client, started, set)?;
        slowest = slowest.max(outcome.first().unwrap_or(PATIENCE));
    }
    bench.add(Figure::First, client, slowest.as_secs_f64() * 1e3);
    Ok(())
}

/// The work of the leechers.
pub(crate) struct Load<'a> {
    pub(crate) peers: usize,
    pub(crate) depth: usize,
    /// Blocks that each peer wants.
    pub(crate) blocks: u64,
    /// The far machine of the peers, if they are far, and how long they download.
    pub(crate) far: Option<(&'a Far, Duration)>,
}

impl Load<'_> {
    /// Runs the leechers, and returns their outcome and the seeder's CPU time.
    pub(crate) fn run(
        &self,
        bench: &Bench,
        client: Client,
        started: &Started,
        set: &Set,
    ) -> Result<(Outcome, Duration), String> {
        let (size, torrent) = (bench.args.size, set.first());
        let content = size.is_smoke().then(|| {
            let read = std::fs::read(set.data.join(&torrent.name));
            read.expect("reading what is seeded")
        });
        let work = Work {
            to: started.running.addr,
            from: self.far.map(|(far, _)| far.ip()),
            peers: self.peers,
            limit: (self.far).map_or(Duration::from_secs(size.pick(6, 3, 60)), |(_, limit)| limit),
            patience: PATIENCE,
            check: content.as_deref(),
        };
        let blocks = torrent.len / BLOCK;
        let download = |number: usize| match client.is_peer() {
            false => Download::from_web(&torrent.name, torrent.len),
            true => Download::from_peer(Wish {
                hash: torrent.hash,
                piece_len: u32::try_from(torrent.piece_len).expect("a small piece"),
                blocks,
                from: number as u64 * blocks / self.peers as u64,
                wanted: self.blocks,
                depth: self.depth,
            }),
        };
        let before = usage::cpu(started.running.pid());
        let outcome = match self.far {
            None => leech(&work, download),
            Some((far, _)) => far.inside(|| leech(&work, download)),
        };
        let outcome = outcome.map_err(|e| format!("leeching: {e}"))?;
        let cpu = usage::cpu(started.running.pid()).saturating_sub(before);
        if outcome.bytes() == 0 {
            return Err(format!("served nothing to {} peers", self.peers));
        }
        if size.is_smoke() && (outcome.wrong() > 0 || !outcome.complete()) {
            let (wrong, bytes) = (outcome.wrong(), outcome.bytes());
            return Err(format!(
                "{wrong} wrong blocks, {bytes} bytes to {} peers",
                self.peers
            ));
        }
        Ok((outcome, cpu))
    }
}

/// Measures OpenSSL's CPU time for the SHA-1 of the same file.
fn openssl(bench: &mut Bench, path: &std::path::Path, len: u64) {
    let Some(program) = find("openssl") else {
        bench
            .notes
            .push("OpenSSL is not installed (Debian package openssl)".to_owned());
        return;
    };
    let mut digest = Command::new(program);
    let child = digest
        .args(["dgst", "-sha1"])
        .arg(path)
        .stdout(Stdio::null())
        .spawn();
    let mut child = child.expect("starting openssl");
    // Its CPU time is final once it has ended and waits to be reaped.
    let ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    while !ended() {
        thread::sleep(Duration::from_millis(10));
    }
    let cpu = usage::cpu(child.id());
    let _ = child.wait();
    let value = per_gib(cpu, len);
    eprintln!("  OpenSSL: CPU s per GiB of SHA-1 {value:.4}");
    bench.openssl.push(value);
}

/// A thread that looks ten times a second how much memory the kernel holds for an address's connections. The most
/// counts.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sampler {
    fn start(ip: IpAddr) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(usage::tcp_memory(ip));
                thread::sleep(Duration::from_millis(100));
            }
            most
        });
        Sampler { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a sampler that looks at sockets")
    }
}

fn per_gib(cpu: Duration, bytes: u64) -> f64 {
    cpu.as_secs_f64() / (bytes as f64 / f64::from(1 << 30))
}

/// Requests that each peer has on their way.
const DEPTH: usize = 64;

/// How long a leecher waits for its first bytes.
const PATIENCE: Duration = Duration::from_secs(30);
