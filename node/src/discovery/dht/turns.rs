//! Turns: which torrent is announced next, as there may be more than the budget bears.
//!
//! A torrent is due some 25 minutes after its last announce. Of those that are due, the next is the one whose wait,
//! divided by its known peers plus one, is the longest. One without peers after a minute is as urgent as one with
//! nine after ten. So torrents that nobody finds come first, and none is left out for ever.
//!
//! An announce that reached nobody is made again after 5 s, then twice as long each time. One that reached only a few
//! is made again after 30 s, then twice as long each time: once the DHT grows, others will not ask those few. A
//! download that found peers looks again in the same way, unless one of them stays: they may all be gone.

use core::time::Duration;

use everseed_core::time::Instant;

use super::routes::K;

/// A lent slot for one torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// When it is due, in units of [`UNIT`], which go round.
    due: u16,
    /// Peers that were found last time.
    peers: u8,
    state: TurnState,
}

const _: () = assert!(size_of::<Turn>() <= 6);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TurnState {
    /// It is not announced.
    Off,
    /// It waits for its turn; so often in a row it reached nobody, or found nobody who stayed.
    Waits(u8),
    /// The same, but that it only looks whether somebody stayed.
    Hopes(u8),
    /// Its announce is being made.
    Underway(u8),
}

impl Turn {
    /// Of a torrent that is not announced.
    pub const OFF: Turn = Turn {
        due: 0,
        peers: 0,
        state: TurnState::Off,
    };

    /// It is to be announced from now on; answers whether that is news.
    pub fn start(&mut self, now: Instant) -> bool {
        let starts = self.state == TurnState::Off;
        if starts {
            *self = Turn {
                due: units(now),
                peers: 0,
                state: TurnState::Waits(0),
            };
        }
        starts
    }

    /// Whether no peer of it was found yet.
    pub fn found_nobody(&self) -> bool {
        self.peers == 0
    }

    /// Its announce has begun.
    pub fn begun(&mut self) {
        if let TurnState::Waits(failures) | TurnState::Hopes(failures) = self.state {
            self.state = TurnState::Underway(failures);
        }
    }

    /// Whether it is only made again as those that it found may be gone.
    pub fn hopes(&self) -> bool {
        matches!(self.state, TurnState::Hopes(_))
    }

    /// Somebody stayed: it has time until its next announce.
    pub fn put_off(&mut self, now: Instant) {
        self.due = units(now + EVERY);
        self.state = TurnState::Waits(0);
    }

    /// Its announce is over: so many nodes took it, and named so many peers, for whom a download waits or does not.
    /// `chance` is any number.
    pub fn ended(&mut self, now: Instant, announced: u8, peers: u16, waits: bool, chance: u32) {
        let TurnState::Underway(failures) = self.state else {
            return;
        };
        self.peers = u8::try_from(peers).unwrap_or(u8::MAX);
        let again = |first: Duration| first * (1 << failures.min(8));
        let more = failures.saturating_add(1);
        let (wait, state) = match announced {
            0 => (again(FIRST_RETRY), TurnState::Waits(more)),
            _ if waits => (again(FIRST_HOPE), TurnState::Hopes(more)),
            _ if usize::from(announced) < K / 2 => (again(FIRST_HOPE), TurnState::Waits(more)),
            _ => {
                let spread = Duration::from_secs((chance % SPREAD_S).into());
                (EVERY + spread, TurnState::Waits(0))
            }
        };
        self.due = units(now + wait.min(EVERY + Duration::from_secs(SPREAD_S.into())));
        self.state = state;
    }

    /// How urgent it is; 0 if it is not due.
    fn urgency(&self, now: u16) -> u32 {
        let late = now.wrapping_sub(self.due);
        let waits = matches!(self.state, TurnState::Waits(_) | TurnState::Hopes(_));
        let due = late < u16::MAX / 2 && waits;
        match due {
            true => 1 + (u32::from(late) + 1) * 1024 / (u32::from(self.peers) + 1),
            false => 0,
        }
    }
}

/// The torrent whose turn it is, if one is due.
pub fn next(now: Instant, turns: &[Turn]) -> Option<usize> {
    let now = units(now);
    let urgency = |&slot: &usize| turns[slot].urgency(now);
    // Among equals the first.
    let best = (0..turns.len()).rev().max_by_key(urgency)?;
    (urgency(&best) > 0).then_some(best)
}

#[allow(clippy::cast_possible_truncation)] // They go round.
fn units(now: Instant) -> u16 {
    (now.as_micros() / UNIT.as_micros() as u64) as u16
}

/// The grain of the schedule. It goes round after 91 hours; nothing waits for half as long unless there are tens of
/// thousands, and then it waits its turn once more.
const UNIT: Duration = Duration::from_secs(5);

/// Between announces of a torrent, and how much more there may be, by chance. Nodes forget after 30 minutes and more.
pub const EVERY: Duration = Duration::from_secs(25 * 60);
const SPREAD_S: u32 = 180;

/// The wait after an announce that reached nobody; then it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The wait after an announce that reached few nodes, and of a download for one of those whom it found, before it
/// looks again; then it doubles.
const FIRST_HOPE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    /// Announces that each of some torrents gets, if one can be made every `pace` seconds.
    fn announces(peers: &[u16], pace: u64, secs: u64) -> std::vec::Vec<u32> {
        let mut turns = std::vec![Turn::OFF; peers.len()];
        for turn in &mut turns {
            assert!(turn.start(Instant::ZERO));
        }
        let mut made = std::vec![0; peers.len()];
        for s in (0..secs).step_by(usize::try_from(pace).unwrap()) {
            let now = Instant::from_secs(s);
            if let Some(slot) = next(now, &turns) {
                turns[slot].begun();
                assert_ne!(next(now, &turns), Some(slot));
                turns[slot].ended(now, 8, peers[slot], false, 0);
                made[slot] += 1;
            }
        }
        made
    }

    #[test]
    fn all_in_time_if_there_are_few() {
        assert_eq!(announces(&[0; 10], 5, 5 * 1500), [5; 10]);
        assert_eq!(announces(&[3, 200, 0], 5, 5 * 1500), [5; 3]);
    }

    #[test]
    fn those_with_few_peers_first_and_nobody_never() {
        // Twice as many as there is time for.
        let peers: std::vec::Vec<u16> =
            (0..600).map(|n| if n % 2 == 0 { 0 } else { 200 }).collect();
        let made = announces(&peers, 5, 40 * 1500);
        let of = |odd: usize| made.iter().skip(odd).step_by(2);
        assert!(of(0).all(|&n| (36..=40).contains(&n)), "{made:?}");
        assert!(of(1).all(|&n| n >= 1), "{made:?}");
        // Ten thousand, all alike: in turn.
        let made = announces(&[0; 10_000], 6, 6 * 20_000);
        assert!(made.iter().all(|&n| n == 2));
    }

    #[test]
    fn what_reached_few_is_made_again_soon() {
        let table: [(u8, &[u64]); 4] = [
            (0, &[0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 1280]),
            (1, &[0, 30, 60, 120, 240, 480, 960, 1680, 1680]),
            (3, &[0, 30, 60, 120, 240, 480, 960, 1680, 1680]),
            (4, &[0, 1500, 1500]),
        ];
        for (reached, expected) in table {
            let mut turns = [Turn::OFF];
            assert_eq!(next(Instant::ZERO, &turns), None);
            turns[0].start(Instant::ZERO);
            let (mut now, mut waits) = (Instant::ZERO, std::vec::Vec::new());
            for _ in expected {
                let from = now;
                while next(now, &turns).is_none() {
                    now = now + UNIT;
                }
                waits.push((now - from).as_secs());
                turns[0].begun();
                turns[0].ended(now, reached, 0, false, 0);
            }
            assert_eq!(waits, expected, "{reached} nodes");
        }
    }
}
