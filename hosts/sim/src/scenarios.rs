//! Scenarios: each runs a swarm, prints numbers about it, and asserts what must be true of it.

use crate::chart::{Chart, Line};
use crate::finding;
use crate::router::Nat;
use crate::world::{Profile, World};

/// The settings of a run of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The seed of all random numbers.
    pub seed: u64,
    /// The most leechers.
    pub peers: usize,
    /// Pieces of the content.
    pub pieces: u32,
    /// Blocks of 16 KiB in a piece.
    pub blocks: u32,
    /// The upload capacity of each host, in bytes per second.
    pub up: u64,
    /// How many peers each host serves at a time.
    pub slots: u16,
    /// The number of nodes of the DHT, in scenarios with a DHT.
    pub nodes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 1,
            peers: 1000,
            pieces: 1024,
            blocks: 4,
            up: 256 * 1024,
            slots: 4,
            nodes: 1000,
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The table, and sentences about it.
    pub table: String,
    /// A chart of the same numbers.
    pub chart: Chart,
}

/// The name of a scenario.
pub const NAMES: [&str; 9] = [
    "flash-crowd",
    "free-riders",
    "churn",
    "faults",
    "poison",
    "tracker-dies",
    "magnet",
    "queries",
    "eclipse",
];

/// Runs the scenario of this name.
pub fn run(name: &str, settings: Settings) -> Option<Outcome> {
    match name {
        "flash-crowd" => Some(flash_crowd(settings)),
        "free-riders" => Some(free_riders(settings)),
        "churn" => Some(churn(settings)),
        "faults" => Some(faults(settings)),
        "poison" => Some(poison(settings)),
        "tracker-dies" => Some(finding::tracker_dies(settings)),
        "magnet" => Some(finding::magnet(settings)),
        "queries" => Some(finding::queries(settings)),
        "eclipse" => Some(finding::eclipse(settings)),
        _ => None,
    }
}

pub(crate) fn profile(settings: &Settings) -> Profile {
    Profile {
        up: settings.up,
        // Each host can receive more than it can send, so the upload decides.
        down: settings.up * 8,
        slots: settings.slots,
        nat: Nat::Open,
        free_rider: false,
        lies: 0,
        asleep: 0,
    }
}

/// The longest time that a swarm may take, in virtual seconds.
const LIMIT: f64 = 200_000.0;

pub(crate) fn world(settings: &Settings) -> World {
    World::new(settings.seed, settings.pieces, settings.blocks)
}

/// Runs until all of these hosts are complete, and fails if they do not become so.
fn until_finished(world: &mut World, hosts: &[usize]) {
    let mut steps = 0u64;
    let mut waiting: Vec<usize> = hosts.to_vec();
    while !waiting.is_empty() {
        let going = world.step(LIMIT);
        steps += 1;
        if steps.is_multiple_of(1000) {
            waiting.retain(|&host| world.finished(host).is_none());
        }
        if steps.is_multiple_of(1_000_000) {
            world.tidy();
        }
        if !going {
            waiting.retain(|&host| world.finished(host).is_none());
            assert!(
                waiting.is_empty(),
                "seed {}: {} of {} hosts never finish, host {} lacks {} bytes",
                world.seed,
                waiting.len(),
                hosts.len(),
                waiting[0],
                world.stats(waiting[0]).left,
            );
        }
    }
}

/// The same, but each host leaves when it is complete.
fn until_finished_and_gone(world: &mut World, hosts: &[usize]) {
    let mut waiting = hosts.len();
    while waiting > 0 && world.step(LIMIT) {
        for host in std::mem::take(&mut world.complete) {
            world.stop(host);
            waiting -= 1;
        }
    }
    let seed = world.seed;
    assert_eq!(waiting, 0, "seed {seed}: so many hosts never finish");
}

/// The times at which these hosts were complete, in seconds, sorted.
fn times(world: &World, hosts: &[usize]) -> Vec<f64> {
    let mut times: Vec<f64> = hosts.iter().filter_map(|&h| world.finished(h)).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len().max(1) as f64
}

/// The time in which one host receives the content from another.
fn alone(world: &World, settings: &Settings) -> f64 {
    world.total() as f64 / settings.up as f64
}

/// N leechers start at the same time. The origin has the same upload capacity as each of them. A server that sends the
/// content to each of them takes N times as long as for one. The shortest time that is possible for a swarm of equals
/// is `1 + floor(log2 N) / pieces` times as long (Mundinger, Weber and Weiss, 2008).
pub fn flash_crowd(settings: Settings) -> Outcome {
    let mut table = format!(
        "{:>6} {:>10} {:>10} {:>10} {:>10} {:>8}\n",
        "peers", "server s", "optimum s", "mean s", "last s", "ratio"
    );
    let mut lines = ["server", "optimum", "swarm, last", "swarm, mean"].map(|name| Line {
        name: name.to_owned(),
        points: Vec::new(),
    });
    let mut count = 1;
    while count <= settings.peers {
        let mut world = world(&settings);
        world.add(profile(&settings), true);
        let hosts: Vec<_> = (0..count)
            .map(|_| world.add(profile(&settings), false))
            .collect();
        until_finished(&mut world, &hosts);
        world.assert_rest();
        let one = alone(&world, &settings);
        let times = times(&world, &hosts);
        let (last, mean) = (times.last().copied().unwrap_or(0.0), mean(&times));
        let optimum = one * (1.0 + f64::from(count.ilog2()) / f64::from(settings.pieces));
        let server = one * count as f64;
        table += &format!(
            "{count:>6} {server:>10.0} {optimum:>10.0} {mean:>10.0} {last:>10.0} {:>8.2}\n",
            last / optimum
        );
        for (line, y) in lines.iter_mut().zip([server, optimum, last, mean]) {
            line.points.push((count as f64, y));
        }
        count *= 10;
    }
    Outcome {
        table,
        chart: Chart {
            title: "Time until everybody has the file".to_owned(),
            x: "leechers that arrive at once".to_owned(),
            y: "seconds".to_owned(),
            log: (true, true),
            lines: lines.to_vec(),
        },
    }
}

/// A fifth of the leechers never upload. Those who upload finish earlier. The origin sends eight times as fast as the
/// others. A host that is complete leaves, because many seeds would serve everybody.
pub fn free_riders(settings: Settings) -> Outcome {
    let mut world = world(&settings);
    let origin = Profile {
        up: settings.up * 8,
        ..profile(&settings)
    };
    world.add(origin, true);
    let (mut sharing, mut riding) = (Vec::new(), Vec::new());
    for n in 0..settings.peers.min(200) {
        let free_rider = n % 5 == 0;
        let host = world.add(
            Profile {
                free_rider,
                ..profile(&settings)
            },
            false,
        );
        if free_rider {
            &mut riding
        } else {
            &mut sharing
        }
        .push(host);
    }
    let all: Vec<_> = sharing.iter().chain(&riding).copied().collect();
    until_finished_and_gone(&mut world, &all);
    let (shared, rode) = (times(&world, &sharing), times(&world, &riding));
    let one = alone(&world, &settings);
    let origin = world.stats(0).uploaded as f64 / world.total() as f64;
    let table = format!(
        "{:>14} {:>8} {:>8} {:>8}\n{:>14} {:>8} {:>8.0} {:>8.0}\n{:>14} {:>8} {:>8.0} {:>8.0}\n\
         free riders wait {:.2} times as long; one from one takes {one:.0} s; \
         the origin sent {origin:.1} copies\n",
        "",
        "peers",
        "mean s",
        "last s",
        "contributors",
        shared.len(),
        mean(&shared),
        shared.last().copied().unwrap_or(0.0),
        "free riders",
        rode.len(),
        mean(&rode),
        rode.last().copied().unwrap_or(0.0),
        mean(&rode) / mean(&shared),
    );
    let line = |name: &str, times: &[f64]| Line {
        name: name.to_owned(),
        points: [(0.0, 0.0)]
            .into_iter()
            .chain(
                (1..)
                    .zip(times)
                    .map(|(n, &t)| (t, 100.0 * f64::from(n) / times.len() as f64)),
            )
            .collect(),
    };
    Outcome {
        table,
        chart: Chart {
            title: "Who shares is served".to_owned(),
            x: "seconds".to_owned(),
            y: "% complete".to_owned(),
            log: (false, false),
            lines: vec![line("contributors", &shared), line("free riders", &rode)],
        },
    }
}

/// Peers come one after another and leave as soon as they are complete. The origin leaves too, when one seeder that
/// stays has everything.
pub fn churn(settings: Settings) -> Outcome {
    let mut world = world(&settings);
    let origin = world.add(profile(&settings), true);
    let stays = world.add(profile(&settings), false);
    let one = alone(&world, &settings);
    let count = settings.peers.min(300);
    let gap = one / 10.0;
    for n in 0..count {
        world.cue(gap * n as f64, 0);
    }
    let mut present = Line {
        name: "peers".to_owned(),
        points: vec![(0.0, 0.0)],
    };
    let (mut came, mut waits) = (0, Vec::new());
    let (mut steps, mut origin_left) = (0u64, None);
    while waits.len() < count || origin_left.is_none() {
        let going = world.step(LIMIT);
        for _ in world.cues.drain(..).collect::<Vec<_>>() {
            world.add(profile(&settings), false);
            came += 1;
        }
        for host in std::mem::take(&mut world.complete) {
            if host == stays {
                world.stop(origin);
                origin_left = Some(world.seconds());
                continue;
            }
            world.stop(host);
            let started = (world.reached(host).started - 1_000_000) as f64 / 1e6;
            waits.push(world.seconds() - started);
        }
        steps += 1;
        if steps.is_multiple_of(100_000) {
            world.tidy();
            let here = 1 + came - waits.len();
            present.points.push((world.seconds(), here as f64));
        }
        let late = count - waits.len();
        assert!(
            going || late == 0,
            "seed {}: {late} never finish",
            world.seed
        );
    }
    present.points.push((world.seconds(), 1.0));
    waits.sort_by(f64::total_cmp);
    let sent = world.stats(stays).uploaded as f64 / world.total() as f64;
    let table = format!(
        "{count} peers came, one each {gap:.0} s, and left when they were complete: all were, the mean after {:.0} s, \
         the slowest after {:.0} s; one from one takes {one:.0} s.\n\
         The origin left after {:.0} s; the seeder that stayed sent {sent:.1} copies in {:.0} s.\n",
        mean(&waits),
        waits.last().copied().unwrap_or(0.0),
        origin_left.unwrap_or(0.0),
        world.seconds(),
    );
    Outcome {
        table,
        chart: Chart {
            title: "Peers come and go, the file stays".to_owned(),
            x: "seconds".to_owned(),
            y: "peers on line".to_owned(),
            log: (false, false),
            lines: vec![present],
        },
    }
}

/// Poisoners have everything, send one bad block of eight, and reconnect now and then. There are half as many as
/// leechers. Everybody finishes, and only poisoners are banned: the world asserts that. The numbers are compared with
/// the same swarm without poisoners.
pub fn poison(settings: Settings) -> Outcome {
    let count = settings.peers.clamp(4, 60);
    let run = |poisoners: usize| {
        let mut world = world(&settings);
        world.add(profile(&settings), true);
        let poisoner = Profile {
            lies: 8,
            ..profile(&settings)
        };
        let liars: Vec<_> = (0..poisoners).map(|_| world.add(poisoner, true)).collect();
        let hosts: Vec<_> = (0..count)
            .map(|_| world.add(profile(&settings), false))
            .collect();
        let one = alone(&world, &settings);
        for n in 0..50 {
            world.cue(one * f64::from(n) / 20.0, 0);
        }
        let mut waiting = hosts.clone();
        while !waiting.is_empty() && world.step(LIMIT) {
            for _ in world.cues.drain(..).collect::<Vec<_>>() {
                liars.iter().for_each(|&liar| world.break_one(liar));
                waiting.retain(|&host| world.finished(host).is_none());
            }
            if world.seconds() > 2.5 * one {
                break;
            }
        }
        until_finished(&mut world, &hosts);
        world.assert_rest();
        let bad: u32 = hosts.iter().map(|&h| world.stats(h).bad_pieces).sum();
        (times(&world, &hosts), bad)
    };
    let (clean, _) = run(0);
    let (poisoned, bad) = run(count / 2);
    let last = |times: &[f64]| times.last().copied().unwrap_or(0.0);
    let table = format!(
        "{count} peers and {} poisoners: {bad} bad pieces.\nAll finished, the mean after {:.0} s, the last \
         after {:.0} s; without poisoners {:.0} and {:.0} s.\n",
        count / 2,
        mean(&poisoned),
        last(&poisoned),
        mean(&clean),
        last(&clean),
    );
    let line = |name: &str, times: &[f64]| Line {
        name: name.to_owned(),
        points: (1..).zip(times).map(|(n, &t)| (t, f64::from(n))).collect(),
    };
    Outcome {
        table,
        chart: Chart {
            title: "One block of eight is poison".to_owned(),
            x: "seconds".to_owned(),
            y: "peers complete".to_owned(),
            log: (false, false),
            lines: vec![line("poisoned", &poisoned), line("clean", &clean)],
        },
    }
}

/// All faults at the same time. Connections break. Machines crash and lose what was not synced. Disks are full, slow,
/// or write wrong bytes. A peer sends bad blocks, the network falls apart, and half of the hosts cannot be dialled.
pub fn faults(settings: Settings) -> Outcome {
    let mut world = world(&settings);
    world.add(profile(&settings), true);
    let liar = Profile {
        lies: 1,
        ..profile(&settings)
    };
    world.add(liar, true);
    let count = settings.peers.clamp(4, 60);
    let mut hosts = Vec::new();
    for n in 0..count {
        let nat = [Nat::Open, Nat::Restricted][n % 2];
        hosts.push(world.add(
            Profile {
                nat,
                ..profile(&settings)
            },
            false,
        ));
    }
    let one = alone(&world, &settings);
    for n in 0..40u32 {
        world.cue(one * f64::from(n) / 10.0, n % 10);
    }
    let (mut crashes, mut breaks) = (0, 0);
    let mut full: Option<usize> = None;
    let mut spoils: Option<usize> = None;
    while world.step(LIMIT) {
        for cue in std::mem::take(&mut world.cues) {
            let some = world.below(u32::try_from(count).unwrap_or(1)) as usize;
            let host = hosts[some];
            match cue {
                0 | 4 => {
                    crashes += 1;
                    world.crash(host);
                }
                1 | 5 => {
                    breaks += 5;
                    (0..5).for_each(|_| world.break_one(host));
                }
                2 => {
                    full = Some(host);
                    world.storage(host).room = Some(3);
                }
                6 => {
                    if let Some(host) = full.take() {
                        world.storage(host).room = None;
                        world.writable(host);
                    }
                }
                3 => world.part(Some(count / 2)),
                7 => world.part(None),
                // Writing 16 KiB in 50 ms is slower than the blocks arrive.
                8 => world.storage(host).slow = 50_000,
                // One such disk at a time, because the peers that sent the spoiled blocks are blamed.
                _ => match spoils.take() {
                    Some(host) => world.storage(host).spoils = None,
                    None => {
                        spoils = Some(host);
                        world.storage(host).spoils = Some(30);
                    }
                },
            }
            world.storage(host).sync();
        }
        if full.is_none() && hosts.iter().all(|&h| world.finished(h).is_some()) {
            break;
        }
    }
    if let Some(host) = full {
        world.storage(host).room = None;
        world.writable(host);
    }
    world.part(None);
    until_finished(&mut world, &hosts);
    world.assert_rest();
    let times = times(&world, &hosts);
    let bad: u32 = hosts.iter().map(|&h| world.stats(h).bad_pieces).sum();
    let table = format!(
        "{count} peers, half of them behind NAT, beside a seed and a liar: {crashes} crashes, \
         {breaks} broken connections, {bad} bad pieces.\nAll finished, the mean after {:.0} s, the \
         last after {:.0} s; one from one takes {one:.0} s.\n",
        mean(&times),
        times.last().copied().unwrap_or(0.0),
    );
    Outcome {
        table,
        chart: Chart {
            title: "Whatever goes wrong".to_owned(),
            x: "seconds".to_owned(),
            y: "peers complete".to_owned(),
            log: (false, false),
            lines: vec![Line {
                name: "complete".to_owned(),
                points: (1..).zip(&times).map(|(n, &t)| (t, f64::from(n))).collect(),
            }],
        },
    }
}
