//! Peers share a slow uplink: equals get the same, whatever other peers do, and a newcomer gets its first block soon.

#![allow(clippy::cast_possible_truncation)]

mod common;

use std::time::Duration;

use common::{Setup, World};
use everseed_core::geometry::BLOCK;
use everseed_node::{Have, Limits, Reason};

/// 20 Mbit/s.
const RATE: u64 = 2_500_000;

/// Requests that a peer has on their way.
const DEPTH: u32 = 32;

/// How fast a peer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Full,
    /// It reads once in so many steps.
    Every(u32),
    /// It reads nothing after its first block.
    Stops,
    /// It reads nothing at all.
    Never,
}

struct Crowd {
    world: World,
    paces: Vec<Pace>,
    /// The number of requests that each peer made, and of the answered ones.
    asked: Vec<u32>,
    answered: Vec<u32>,
    step: u32,
    /// Bytes sent until each step.
    sent: Vec<u64>,
}

const STEP: Duration = Duration::from_millis(50);

fn crowd(upload_bps: Option<u64>, slots: Option<u16>) -> Crowd {
    let setup = Setup {
        conns: 256,
        requests: 4096,
        slots: u16::MAX,
        upload_bps,
        ..Setup::default()
    };
    let mut world = World::new(&setup, Have::All);
    let limits = Limits {
        slots,
        most_slots: 250,
        ..world.node.limits()
    };
    world.node.set_limits(world.now, limits);
    Crowd {
        world,
        paces: Vec::new(),
        asked: Vec::new(),
        answered: Vec::new(),
        step: 0,
        sent: Vec::new(),
    }
}

impl Crowd {
    fn join(&mut self, pace: Pace) -> usize {
        self.paces.push(pace);
        self.asked.push(0);
        self.answered.push(0);
        self.world.leecher(true)
    }

    /// Three of four peers are equals. One stops reading, and the others are slow.
    fn join_many(&mut self, peers: usize) {
        for number in 0..peers {
            self.join(match number {
                0 => Pace::Stops,
                _ if number < peers / 4 => Pace::Every(2 + number as u32 * 4),
                _ => Pace::Full,
            });
        }
    }

    fn equals(&self) -> Vec<usize> {
        let all = 0..self.paces.len();
        all.filter(|&peer| self.paces[peer] == Pace::Full).collect()
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.step += 1;
            for (number, pace) in self.paces.iter().enumerate() {
                let peer = &mut self.world.peers[number];
                if !peer.open {
                    continue;
                }
                self.answered[number] += (peer.pieces() + peer.rejects()) as u32;
                peer.messages.clear();
                let more = DEPTH.saturating_sub(self.asked[number] - self.answered[number]);
                if peer.unchoked && more > 0 {
                    peer.ask(self.asked[number] + 7 * number as u32, more);
                    self.asked[number] += more;
                }
                peer.reads = match pace {
                    Pace::Full => true,
                    Pace::Every(steps) => self.step.is_multiple_of(*steps),
                    Pace::Stops => peer.received == 0,
                    Pace::Never => false,
                };
                let id = peer.id;
                self.world.transmit(id);
            }
            self.world.settle();
            self.world.pass(STEP);
            self.sent.push(self.world.node.stats().uploaded);
        }
    }

    fn received(&self, peers: &[usize]) -> Vec<u64> {
        let received = peers.iter().map(|&peer| self.world.peers[peer].received);
        received.collect()
    }

    /// Runs until a peer has its first block. Returns the time.
    fn wait(&mut self, peer: usize) -> Duration {
        let start = self.world.now;
        while self.world.peers[peer].received < u64::from(BLOCK) {
            self.run(STEP);
            assert!(self.world.now - start < Duration::from_secs(120));
        }
        self.world.now - start
    }
}

fn jain(numbers: &[u64]) -> f64 {
    let sum: f64 = numbers.iter().map(|&n| n as f64).sum();
    let squares: f64 = numbers.iter().map(|&n| (n as f64).powi(2)).sum();
    sum * sum / (squares * numbers.len() as f64)
}

#[test]
fn a_limit_is_shared_well() {
    for peers in [8, 40] {
        let mut crowd = crowd(Some(RATE), None);
        crowd.join_many(peers);
        crowd.run(Duration::from_secs(5));
        let equals = crowd.equals();
        let (before, from) = (crowd.received(&equals), crowd.sent.len());
        crowd.run(Duration::from_secs(10));
        let newcomer = crowd.join(Pace::Full);
        let waited = crowd.wait(newcomer);
        assert!(waited <= Duration::from_secs(1), "{peers}: {waited:?}");
        crowd.run(Duration::from_secs(10));
        let after = crowd.received(&equals);
        let got: Vec<_> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        let fair = jain(&got);
        assert!(fair >= 0.95, "{peers}: {fair}: {got:?}");
        // Within any ten seconds the limit is used to within 3 %, and a burst is shorter than half a second.
        let ten = 10 * 1000 / STEP.as_millis() as usize;
        for window in crowd.sent[from..].windows(ten + 1) {
            let used = (window[ten] - window[0]) as f64 / (10 * RATE) as f64;
            assert!((used - 1.0).abs() <= 0.03, "{peers}: {used}");
        }
        let step = RATE as f64 * STEP.as_secs_f64();
        let (mut level, mut most, mut last) = (0.0_f64, 0.0_f64, 0);
        for &sent in &crowd.sent {
            level = (level - step).max(0.0) + (sent - last) as f64;
            (most, last) = (most.max(level), sent);
        }
        assert!(most < RATE as f64 / 2.0, "{peers}: {most} at once");
    }
}

/// A newcomer gets its first block within a second, with many slots and with few.
#[test]
fn a_newcomer_has_a_block_soon() {
    for (rate, slots, peers) in [
        (Some(RATE), Some(4), 30),
        (Some(RATE), None, 80),
        (Some(RATE / 10), None, 40),
        (None, Some(8), 30),
    ] {
        let mut crowd = crowd(rate, slots);
        for _ in 0..peers {
            crowd.join(Pace::Full);
        }
        // Until all these peers have had a turn.
        crowd.run(Duration::from_secs(40));
        for _ in 0..3 {
            let newcomer = crowd.join(Pace::Full);
            let waited = crowd.wait(newcomer);
            assert!(
                waited <= Duration::from_secs(1),
                "{rate:?} {slots:?} {peers}: {waited:?}"
            );
            crowd.run(Duration::from_secs(3));
        }
    }
}

/// Peers that read hardly anything, or nothing, hold all slots. A newcomer does not wait long, whether the others still
/// wait for their first block or have had their turn.
#[test]
fn who_takes_hardly_anything_keeps_no_newcomer_waiting() {
    for pace in [Pace::Stops, Pace::Every(2000), Pace::Never] {
        for before in [1, 5, 12, 30, 45] {
            let mut crowd = crowd(None, Some(4));
            for _ in 0..20 {
                crowd.join(pace);
            }
            crowd.run(Duration::from_secs(before));
            for number in 0..3 {
                let newcomer = crowd.join(Pace::Full);
                let waited = crowd.wait(newcomer);
                // The first newcomer may come while most others still wait for their first block.
                let most = if before < 30 && number == 0 { 17 } else { 3 };
                assert!(
                    waited <= Duration::from_secs(most),
                    "{pace:?}, after {before} s, number {number}: {waited:?}"
                );
            }
        }
    }
}

/// A peer that stopped reading loses its slot as soon as that shows, though the rate limit makes others wait too. Later
/// it is disconnected.
#[test]
fn who_reads_nothing_holds_no_slot() {
    let mut crowd = crowd(Some(RATE), Some(4));
    let stuck: Vec<_> = (0..4).map(|_| crowd.join(Pace::Stops)).collect();
    crowd.run(Duration::from_secs(1));
    let others: Vec<_> = (0..8).map(|_| crowd.join(Pace::Full)).collect();
    crowd.run(Duration::from_secs(45));
    let served = |crowd: &Crowd, of: &[usize]| {
        let unchoked = |peer: &&usize| crowd.world.peers[**peer].unchoked;
        of.iter().filter(unchoked).count()
    };
    assert_eq!(served(&crowd, &others), 4);
    crowd.run(Duration::from_secs(60));
    for &peer in &stuck {
        let addr = crowd.world.peers[peer].addr;
        assert_eq!(crowd.world.closed.get(&addr), Some(&Reason::Stalled));
    }
    assert_eq!(crowd.world.closed.len(), stuck.len());
}

/// A hundred peers have slots under a small rate limit. A peer that got nothing because others used up the limit keeps
/// its slot.
#[test]
fn who_has_nothing_for_the_limit_refuses_nothing() {
    let mut crowd = crowd(Some(32 * 1024), Some(100));
    let peers: Vec<_> = (0..100)
        .map(|number| crowd.join(Pace::Every(1 + number % 3)))
        .collect();
    crowd.run(Duration::from_secs(2));
    let mut choked = 0;
    for _ in 0..150 {
        crowd.run(Duration::from_secs(1));
        choked = choked.max(peers.len() - usize::from(crowd.world.node.stats().unchoked));
    }
    assert_eq!((choked, &crowd.world.closed), (0, &Default::default()));
    let fair = jain(&crowd.received(&peers));
    assert!(fair > 0.9, "{fair}");
}

/// Setting the same limits again starts no choking round.
#[test]
fn the_same_limits_change_nothing() {
    let mut crowd = crowd(None, None);
    for _ in 0..70 {
        crowd.join(Pace::Every(10));
    }
    crowd.run(Duration::from_secs(6));
    assert_eq!(crowd.world.node.stats().unchoked, 70);
    // Fewer slots would suit the rate now. The next choking round is after 15 s.
    crowd.paces[1..].fill(Pace::Every(u32::MAX));
    crowd.paces[0] = Pace::Every(15);
    crowd.run(Duration::from_secs(8));
    assert_eq!(crowd.world.node.stats().unchoked, 70);
    let (now, limits) = (crowd.world.now, crowd.world.node.limits());
    crowd.world.node.set_limits(now, limits);
    crowd.world.settle();
    assert_eq!(crowd.world.node.stats().unchoked, 70);
    let slots = Some(5);
    (crowd.world.node).set_limits(now, Limits { slots, ..limits });
    crowd.world.settle();
    assert_eq!(crowd.world.node.stats().unchoked, 5);
}

/// Newcomers that come all the time do not keep the peers before them from their first block.
#[test]
fn newcomers_starve_nobody() {
    let mut crowd = crowd(Some(RATE), Some(8));
    let first: Vec<_> = (0..40).map(|_| crowd.join(Pace::Full)).collect();
    for second in 0..600_u32 {
        crowd.run(Duration::from_secs(1));
        let newcomer = crowd.join(Pace::Full);
        // It stays for a minute.
        if let Some(old) = newcomer.checked_sub(60).filter(|&old| old >= first.len()) {
            let (id, now) = (crowd.world.peers[old].id, crowd.world.now);
            crowd.world.peers[old].open = false;
            (crowd.world.node).event(now, everseed_node::Event::Closed(id));
            crowd.world.settle();
        }
        let waits = |peer: &&usize| crowd.world.peers[**peer].received == 0;
        if first.iter().filter(waits).count() == 0 {
            return println!("all have their first block after {second} s");
        }
    }
    panic!("somebody waits for ever");
}

/// Without a limit the number of slots follows the upload rate within seconds. A pause does not change it.
#[test]
fn slots_follow_what_is_sent() {
    let mut crowd = crowd(None, None);
    let peers: Vec<_> = (0..60).map(|_| crowd.join(Pace::Full)).collect();
    let unchoked = |world: &World| peers.iter().filter(|&&p| world.peers[p].unchoked).count();
    assert_eq!(unchoked(&crowd.world), 8);
    // Each unchoked peer downloads 32 blocks in each step.
    crowd.run(Duration::from_secs(3));
    assert_eq!(unchoked(&crowd.world), 60);
    let now = crowd.world.now;
    while crowd.world.now - now < Duration::from_secs(60) {
        crowd.world.pass(Duration::from_secs(1));
        (crowd.world.peers.iter_mut())
            .for_each(|p| p.say(&[everseed_core::wire::Message::KeepAlive]));
    }
    assert_eq!(unchoked(&crowd.world), 60);
}
