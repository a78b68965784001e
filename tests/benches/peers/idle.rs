//! Memory and CPU time with idle peers.

use std::thread;
use std::time::{Duration, Instant};

use everseed_tests::dial::Idle;
use everseed_tests::usage;

use crate::args::Row;
use crate::bench::{Bench, Started, mib, mib_more};
use crate::clients::Client;
use crate::data::Set;
use crate::figures::Figure;

/// Measures memory without peers, with 50 idle peers, with 1,000, and when they have left.
pub(crate) fn memory(bench: &mut Bench) {
    let set = bench.random(bench.args.size.pick(64, 32, 2) << 20);
    let mut started = start(bench, Row::Idle, &set);
    // The floor never frees a peer, so its memory says nothing.
    started.retain(|(client, _)| *client != Client::Floor);
    let seen: Vec<_> = thread::scope(|scope| {
        let (bench, set) = (&*bench, &set);
        let watch = |(client, one)| {
            let (client, one): (Client, &Started) = (client, one);
            (
                client,
                scope.spawn(move || come_and_go(bench, client, one, set)),
            )
        };
        let watched: Vec<_> = started
            .iter()
            .map(|(client, one)| (*client, one))
            .map(watch)
            .collect();
        watched
            .into_iter()
            .map(|(client, seen)| (client, seen.join().expect("no panic")))
            .collect()
    });
    for (client, (figures, notes)) in seen {
        figures
            .into_iter()
            .for_each(|(figure, value)| bench.add(figure, client, value));
        let new = |note: &String| !bench.notes.contains(note);
        let new: Vec<_> = notes.into_iter().filter(new).collect();
        bench.notes.extend(new);
    }
    bench.keep(set);
}

/// Starts all clients side by side, because all of them idle.
fn start(bench: &mut Bench, row: Row, set: &Set) -> Vec<(Client, Started)> {
    let mut started = Vec::new();
    for client in bench.clients.clone() {
        match bench.start(client, row, &set.torrents, set) {
            Ok(one) => started.push((client, one)),
            Err(error) => bench.note_failure(client, row, Err(error)),
        }
    }
    started
}

fn come_and_go(
    bench: &Bench,
    client: Client,
    started: &Started,
    set: &Set,
) -> (Vec<(Figure, f64)>, Vec<String>) {
    let (mut figures, mut notes) = (Vec::new(), Vec::new());
    let pid = started.running.pid();
    bench.settle(3);
    let empty = usage::resident(pid);
    figures.push((Figure::Idle0, mib(empty)));
    let many = bench.args.size.pick(1000, 1000, 20);
    for (figure, peers) in [(Figure::Idle50, many.min(50)), (Figure::Idle1000, many)] {
        let idle = visit(client, started, set, peers);
        bench.settle(3);
        let connected = idle.connected();
        if connected * 100 >= peers * 95 {
            figures.push((figure, mib(usage::resident(pid))));
        } else {
            let title = client.title();
            notes.push(format!(
                "{title}: let in and kept {connected} of {peers} idle peers within a minute"
            ));
        }
        drop(idle);
        bench.settle(2);
    }
    bench.settle(2);
    figures.push((Figure::IdleLeft, mib_more(empty, usage::resident(pid))));
    (figures, notes)
}

/// Measures CPU time without peers, then with fifty idle ones.
pub(crate) fn cpu(bench: &mut Bench) {
    let set = bench.random(bench.args.size.pick(64, 32, 2) << 20);
    let started = start(bench, Row::Cpu, &set);
    let seconds = bench.args.size.pick(30, 10, 1);
    bench.settle(bench.args.size.pick(15, 5, 1));
    measure(bench, &started, Figure::Cpu0, seconds);
    let call = |(client, one): &(Client, Started)| visit(*client, one, &set, 50);
    let idle: Vec<_> = started.iter().map(call).collect();
    bench.settle(5);
    measure(bench, &started, Figure::Cpu50, seconds);
    drop(idle);
    bench.keep(set);
}

fn measure(bench: &mut Bench, started: &[(Client, Started)], figure: Figure, seconds: u64) {
    let taken = || {
        started
            .iter()
            .map(|(_, one)| usage::threads_cpu(one.running.pid()))
    };
    let (before, start): (Vec<_>, _) = (taken().collect(), Instant::now());
    thread::sleep(Duration::from_secs(seconds));
    let (after, passed): (Vec<_>, _) = (taken().collect(), start.elapsed());
    for ((before, after), (client, _)) in before.iter().zip(after).zip(started) {
        let cpu = after.saturating_sub(*before);
        bench.add(
            figure,
            *client,
            cpu.as_secs_f64() * 1e3 / passed.as_secs_f64(),
        );
    }
}

fn visit(client: Client, started: &Started, set: &Set, peers: usize) -> Idle {
    let (to, torrent) = (started.running.addr, set.first());
    match client.is_peer() {
        true => Idle::greet(to, torrent.hash, peers),
        false => Idle::browse(to, &torrent.name, peers),
    }
}
