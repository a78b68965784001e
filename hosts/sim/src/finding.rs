//! Scenarios about finding peers: without a tracker, after the tracker died, through routers, and among liars.

use everseed_node::Publicity;

use crate::chart::{Chart, Line};
use crate::crowd::{Conduct, GANG};
use crate::router::Nat;
use crate::scenarios::{Outcome, Settings, profile, world};
use crate::world::{HASH, Profile, World};

/// Makes a DHT of this many nodes, and gives them some minutes to learn of each other. Every tenth node is silent and
/// every twentieth lies, unless `honest` is set.
fn grow(world: &mut World, nodes: usize, honest: bool) {
    for n in 0..nodes.max(2) {
        let conduct = match n {
            _ if honest => Conduct::Honest,
            n if n % 20 == 13 => Conduct::Liar,
            n if n % 10 == 7 => Conduct::Silent,
            _ => Conduct::Honest,
        };
        let member = world.add_member(conduct);
        if conduct != Conduct::Honest {
            // A silent node asks nobody, so the others learn of it only here.
            for _ in 0..10 {
                let to = world.below(u32::try_from(member).unwrap_or(1)) as usize;
                world.introduce(member, to);
            }
        }
        if n % 20 == 19 {
            pass(world, 2.0);
        }
    }
    pass(world, 180.0);
}

/// Lets this many seconds pass.
fn pass(world: &mut World, seconds: f64) {
    let end = world.seconds() + seconds;
    world.cue(seconds, PASSED);
    while world.step(end + 1.0) {
        if world.cues.pop().is_some() {
            return;
        }
    }
}

/// The cue of [`pass`].
const PASSED: u32 = u32::MAX;

fn dht() -> Publicity {
    Publicity::NONE.with_dht()
}

/// A world without a tracker, with a DHT.
fn trackerless(settings: &Settings, honest: bool) -> World {
    let mut world = world(settings);
    world.publicity = dht();
    world.has_tracker = false;
    world.loss = 100;
    grow(&mut world, settings.nodes, honest);
    world
}

/// Half of the hosts can be called. The others are behind routers of all kinds.
fn behind(n: usize) -> Nat {
    match n % 2 {
        0 => Nat::Open,
        _ => Nat::ALL[1 + n / 2 % 3],
    }
}

/// Leechers come for two minutes, and the only tracker dies after one. With the tracker only, those who come later find
/// no peers. The same is run with PEX (BEP 11), with a DHT (BEP 5), and with both.
///
/// # Panics
/// If a leecher does not finish although there is a DHT.
pub fn tracker_dies(settings: Settings) -> Outcome {
    let count = settings.peers.clamp(4, 60);
    let ways = [
        ("the tracker alone", Publicity::NONE),
        ("and PEX", Publicity::NONE.with_pex()),
        ("and the DHT", dht()),
        ("and both", dht().with_pex()),
    ];
    let mut table = format!(
        "{:<18} {:>8} {:>8} {:>8}\n",
        "found by", "finish", "mean s", "last s"
    );
    let mut lines = Vec::new();
    for (name, publicity) in ways {
        let mut world = world(&settings);
        world.publicity = publicity;
        if publicity.dht() {
            grow(&mut world, settings.nodes, false);
        }
        let start = world.seconds();
        world.add(profile(&settings), true);
        for n in 0..count {
            world.cue(120.0 * n as f64 / count as f64, 0);
        }
        world.cue(60.0, 1);
        let mut hosts = Vec::new();
        let patience = start + 3600.0 + 40.0 * world.total() as f64 / settings.up as f64;
        while world.step(patience) {
            for cue in std::mem::take(&mut world.cues) {
                if cue == 1 {
                    world.tracker_runs = false;
                    continue;
                }
                let nat = behind(hosts.len());
                hosts.push(world.add(
                    Profile {
                        nat,
                        ..profile(&settings)
                    },
                    false,
                ));
            }
            if hosts.len() == count && hosts.iter().all(|&h| world.finished(h).is_some()) {
                break;
            }
        }
        let mut times: Vec<f64> = hosts.iter().filter_map(|&h| world.finished(h)).collect();
        times.iter_mut().for_each(|at| *at -= start);
        times.sort_by(f64::total_cmp);
        let (seed, done) = (world.seed, times.len());
        let all = done == count || !publicity.dht();
        assert!(all, "seed {seed}: {done} of {count} finish by {name}");
        let mean = times.iter().sum::<f64>() / done.max(1) as f64;
        let last = times.last().copied().unwrap_or(0.0);
        table += &format!(
            "{name:<18} {:>8} {mean:>8.0} {last:>8.0}\n",
            format!("{done}/{count}")
        );
        lines.push(Line {
            name: name.to_owned(),
            points: (1..)
                .zip(&times)
                .map(|(n, &at)| (at, f64::from(n)))
                .collect(),
        });
    }
    Outcome {
        table,
        chart: chart("The tracker dies after a minute", "peers complete", lines),
    }
}

fn chart(title: &str, y: &str, lines: Vec<Line>) -> Chart {
    Chart {
        title: title.to_owned(),
        x: "seconds".to_owned(),
        y: y.to_owned(),
        log: (false, false),
        lines,
    }
}

/// Seconds from the start of these hosts until they had a peer, the metadata, and a piece. Each list is sorted.
fn waits(world: &World, hosts: &[usize]) -> [Vec<f64>; 3] {
    let mut waits = [const { Vec::new() }; 3];
    for &host in hosts {
        let reached = world.reached(host);
        let at = [reached.peer, reached.metadata, reached.piece];
        for (waits, at) in waits.iter_mut().zip(at) {
            let at =
                at.unwrap_or_else(|| panic!("seed {}: host {host} waits for ever", world.seed));
            waits.push((at - reached.started) as f64 / 1e6);
        }
    }
    waits.iter_mut().for_each(|w| w.sort_by(f64::total_cmp));
    waits
}

/// The median and the range, as text.
fn spread(sorted: &[f64]) -> String {
    let at = |n: usize| sorted.get(n).copied().unwrap_or(0.0);
    let (least, most) = (at(0), at(sorted.len().saturating_sub(1)));
    format!("{:.2} ({least:.2} to {most:.2})", at(sorted.len() / 2))
}

/// Starts a host every ten seconds that knows only the info-hash, and waits until all have a piece.
fn fetch(world: &mut World, profiles: impl Iterator<Item = Profile>) -> Vec<usize> {
    let mut hosts = Vec::new();
    for profile in profiles {
        hosts.push(world.add_magnet(profile));
        pass(world, 10.0);
    }
    for _ in 0..60 {
        if hosts.iter().all(|&h| world.reached(h).piece.is_some()) {
            break;
        }
        pass(world, 10.0);
    }
    hosts
}

/// Hosts begin with an info-hash only. Measures how long they take to find a peer, the metadata and a piece, through
/// each kind of router. The DHT has silent and lying nodes, and one datagram of a hundred is lost.
///
/// # Panics
/// If a host does not find the seed.
pub fn magnet(settings: Settings) -> Outcome {
    let mut world = trackerless(&settings, false);
    world.add(profile(&settings), true);
    pass(&mut world, 60.0);
    let mut table = format!(
        "{} nodes, each {FETCHERS} times, seconds from the start\n{:<12} {:>22} {:>22} {:>22}\n",
        settings.nodes, "router", "first peer", "metadata", "first piece"
    );
    let mut lines = Vec::new();
    for nat in Nat::ALL {
        let fetcher = Profile {
            nat,
            ..profile(&settings)
        };
        let hosts = fetch(&mut world, (0..FETCHERS).map(|_| fetcher));
        let waits = waits(&world, &hosts);
        let [peer, metadata, piece] = [0, 1, 2].map(|n: usize| spread(&waits[n]));
        table += &format!("{:<12} {peer:>22} {metadata:>22} {piece:>22}\n", nat.name());
        lines.push(Line {
            name: nat.name().to_owned(),
            points: (1..)
                .zip(&waits[2])
                .map(|(n, &at)| (at, f64::from(n)))
                .collect(),
        });
        // A world for each kind, because hosts that have the torrent are peers of the next host.
        hosts.into_iter().for_each(|host| world.stop(host));
        pass(&mut world, 200.0);
    }
    Outcome {
        table,
        chart: chart("From an info-hash to the first piece", "downloads", lines),
    }
}

/// The number of downloads for each kind of router.
const FETCHERS: usize = 5;

/// Counts the DHT queries of a seed of 1, 100 and 10,000 torrents in the hour after its start.
///
/// # Panics
/// If there are more than the budget allows.
pub fn queries(settings: Settings) -> Outcome {
    let mut table = format!(
        "{:>8} {:>9} {:>10} {:>13} {:>15} {:>18}\n",
        "torrents",
        "queries",
        "at rest/min",
        "most a second",
        "flows in 180 s",
        "most in two minutes"
    );
    let mut lines = Vec::new();
    for torrents in [1, 100, 10_000] {
        let mut world = trackerless(&settings, true);
        world.watched = Some(0);
        let start = world.seconds();
        let since = world.now().as_micros() as u64;
        world.add(
            Profile {
                asleep: torrents - 1,
                ..profile(&settings)
            },
            true,
        );
        pass(&mut world, 180.0);
        let flows = world.flows(0);
        pass(&mut world, 3600.0 - 180.0);
        let (all, busiest, widest) = world.query_numbers(since);
        let rest = world.query_numbers(since + 120_000_000).0 as f64 / 58.0;
        table += &format!(
            "{torrents:>8} {all:>9} {rest:>10.1} {busiest:>13} {flows:>15} {widest:>18}\n"
        );
        let seed = world.seed;
        assert!(
            widest <= 200,
            "seed {seed}: {widest} destinations in two minutes"
        );
        if torrents == 1 {
            assert!(rest <= 12.0, "seed {seed}: {rest} queries a minute");
            assert!(flows <= 40, "seed {seed}: {flows} flows in 180 s");
        }
        let asked = world.queries.iter().filter(|q| q.0 >= since);
        let at = |&(at, _): &(u64, _)| at as f64 / 1e6 - start;
        lines.push(Line {
            name: format!("{torrents} torrents"),
            points: asked.map(at).zip((1..).map(f64::from)).collect(),
        });
    }
    Outcome {
        table,
        chart: chart("What a seed asks in an hour", "queries", lines),
    }
}

/// A hundred nodes of one /24 try to hide a torrent: their ids are the closest to its info-hash. They are there before
/// it is announced, and while others look it up. The same is run without them.
///
/// # Panics
/// If a host does not find the torrent.
pub fn eclipse(settings: Settings) -> Outcome {
    let mut table = format!(
        "{:<16} {:>22} {:>22}\n",
        "", "first peer s", "first piece s"
    );
    let mut lines = Vec::new();
    for (name, gang) in [("alone", 0), ("with a gang", GANG)] {
        let mut world = trackerless(&settings, true);
        let honest = world.crowd.len();
        for n in 0..gang {
            let member = world.add_member(Conduct::Gang(HASH));
            for to in (usize::from(n) % 5..honest).step_by(5) {
                world.introduce(member, to);
            }
            pass(&mut world, 1.0);
        }
        pass(&mut world, 200.0);
        world.add(profile(&settings), true);
        pass(&mut world, 60.0);
        let fetcher = profile(&settings);
        let hosts = fetch(&mut world, (0..FETCHERS).map(|_| fetcher));
        let waits = waits(&world, &hosts);
        table += &format!(
            "{name:<16} {:>22} {:>22}\n",
            spread(&waits[0]),
            spread(&waits[2])
        );
        lines.push(Line {
            name: name.to_owned(),
            points: (1..)
                .zip(&waits[2])
                .map(|(n, &at)| (at, f64::from(n)))
                .collect(),
        });
    }
    Outcome {
        table,
        chart: chart(
            "A hundred nodes that would hide a torrent",
            "downloads",
            lines,
        ),
    }
}
