//! The choker decides which peers to unchoke: a plain function that puts a slice in order.
//!
//! Tit for tat (BEP 3): while a torrent is incomplete, the peers that gave most in the last two rounds are served
//! first. Peers of torrents that are only seeded come after them. A seed serves the peers that it can serve fastest,
//! which brings most copies into the swarm in the least time. A rotating optimistic slot goes to the peer that has
//! waited longest, so that none starves (BEP 3, choking). Of waiting peers, those whose address has the fewest slots
//! come first, so that nobody waits for a crowd.

use core::cmp::Reverse;

use everseed_core::geometry::BLOCK;
use everseed_core::time::Instant;

/// One interested peer, as the choker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Whether it is unchoked now.
    pub unchoked: bool,
    /// Whether it is unchoked because its turn came, not for its speed.
    pub optimistic: bool,
    /// Bytes that it gave in the last two rounds, of a torrent that is being downloaded.
    pub received: u64,
    /// Bytes sent to it since the last round.
    pub sent: u64,
    /// Whether it is unchoked and took hardly anything in two rounds, or choked and does not read.
    pub idle: bool,
    /// Since when it is choked or unchoked.
    pub since: Instant,
    /// Slots that its address has.
    pub unchoked_from_same_ip: u16,
}

/// How many of the first in order are served from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// For their speed.
    pub by_speed: usize,
    /// After those, because their turn came.
    pub optimistic: usize,
}

/// Of `slots` upload slots, how many are optimistic: one in eight, and at least one when there are
/// two.
pub(crate) fn optimistic_slots(slots: usize) -> usize {
    if slots < 2 { 0 } else { (slots / 8).max(1) }
}

/// How many upload slots suit this capacity in bytes per second; 8 while it is not known (0).
///
/// Up to [`MODEST`], each slot gets two blocks a second. The square root of 0.6 times the kB/s, as the first clients had
/// it, is taken if that is more: so each peer gets more when there is more. The answer is between 4 and 250.
pub(crate) fn automatic_slots(capacity_bps: u64) -> u16 {
    if capacity_bps == 0 {
        return 8;
    }
    let root = (capacity_bps.saturating_mul(6) / 10_000).isqrt();
    let each = (capacity_bps / (2 * u64::from(BLOCK))).min(MODEST);
    u16::try_from(root.max(each))
        .unwrap_or(u16::MAX)
        .clamp(4, 250)
}

/// The most slots for which two blocks a second each are enough; more slots need a capacity of which each gets more.
const MODEST: u64 = 64;

/// Decides who of `peers` holds the `slots` upload slots from now on, by putting them first.
///
/// Whoever is idle keeps its slot only if nobody waits for it.
///
/// With `rotate`, the optimistic slots pass on to those who have waited longest and their former
/// holders compete by speed. With a single slot, that slot itself rotates.
pub(crate) fn choose(
    peers: &mut [u16],
    rank: impl Fn(u16) -> Rank,
    slots: usize,
    rotate: bool,
) -> Chosen {
    if peers.len() <= slots {
        return Chosen {
            by_speed: peers.len(),
            optimistic: 0,
        };
    }
    let optimistic = if slots == 1 && rotate {
        1
    } else {
        optimistic_slots(slots)
    };
    // Who gave most, then the fastest of those who hold a slot by speed, then whoever has waited
    // longest.
    peers.sort_unstable_by_key(|&peer| {
        let rank = rank(peer);
        match (rank.unchoked, rank.optimistic && !rotate) {
            _ if rank.received > 0 => (0u8, Reverse(rank.received), 0, rank.since),
            _ if rank.idle => (4, Reverse(0), 0, rank.since),
            (true, false) => (1, Reverse(rank.sent), 0, rank.since),
            (true, true) => (2, Reverse(0), 0, rank.since),
            (false, _) => (3, Reverse(0), rank.unchoked_from_same_ip, rank.since),
        }
    });
    let by_speed = slots.saturating_sub(optimistic);
    // Of the rest, those who keep or get an optimistic slot; a peer that just lost its place by
    // speed waits from now on, behind everyone who waits already.
    peers[by_speed..].sort_unstable_by_key(|&peer| {
        let rank = rank(peer);
        match (rank.unchoked, rank.optimistic && !rotate) {
            _ if rank.idle => (2u8, 0, rank.since),
            (true, true) => (0, 0, rank.since),
            (false, _) => (1, rank.unchoked_from_same_ip, rank.since),
            (true, false) => (2, 0, rank.since),
        }
    });
    Chosen {
        by_speed,
        optimistic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn peer(unchoked: bool, sent: u64, since: u64) -> Rank {
        Rank {
            unchoked,
            optimistic: false,
            received: 0,
            sent,
            idle: false,
            since: Instant::from_secs(since),
            unchoked_from_same_ip: 0,
        }
    }

    /// Does as was chosen, and says who is served.
    fn choose(ranks: &mut [Rank], slots: usize, rotate: bool) -> Vec<u16> {
        let mut peers: Vec<u16> = (0..ranks.len() as u16).collect();
        let rank = |peer| ranks[usize::from(peer)];
        let chosen = super::choose(&mut peers, rank, slots, rotate);
        let served = chosen.by_speed + chosen.optimistic;
        for (place, &peer) in peers.iter().enumerate() {
            let rank = &mut ranks[usize::from(peer)];
            rank.unchoked = place < served;
            rank.optimistic = rank.unchoked && place >= chosen.by_speed;
        }
        peers.truncate(served);
        peers.sort_unstable();
        peers
    }

    #[test]
    fn slots_follow_the_capacity() {
        let table = [
            (0, 8),
            (1, 4),
            (10_000, 4),
            (100_000, 7),
            (1_000_000, 30),
            (2_500_000, 64),
            (6_000_000, 64),
            (12_500_000, 86),
            (u64::MAX, 250),
        ];
        for (capacity, slots) in table {
            assert_eq!(automatic_slots(capacity), slots, "{capacity} B/s");
        }
    }

    #[test]
    fn everybody_while_there_is_room() {
        let mut ranks = [peer(false, 0, 0), peer(true, 5, 0)];
        assert_eq!(choose(&mut ranks, 2, false), [0, 1]);
    }

    #[test]
    fn the_fastest_stay_and_the_longest_waiting_gets_its_turn() {
        let mut ranks = [
            peer(true, 100, 1),
            peer(true, 300, 1),
            peer(true, 200, 1),
            peer(false, 0, 9),
            peer(false, 0, 3),
        ];
        assert_eq!(choose(&mut ranks, 3, true), [1, 2, 4]);
        // Between rotations the optimistic holder keeps its slot, however slow it is.
        assert_eq!(choose(&mut ranks, 3, false), [1, 2, 4]);
    }

    #[test]
    fn the_idle_make_room() {
        let mut ranks = [
            peer(true, 0, 1),
            peer(true, 5, 1),
            peer(true, 0, 1),
            peer(false, 0, 2),
        ];
        (ranks[0].idle, ranks[0].optimistic, ranks[2].idle) = (true, true, true);
        assert_eq!(
            choose(&mut ranks, 3, false),
            [0, 1, 3],
            "as nobody else waits, one of the idle stays"
        );
        let mut ranks = [peer(true, 0, 1), peer(false, 0, 2)];
        ranks[0].idle = true;
        assert_eq!(choose(&mut ranks, 1, false), [1]);
    }

    #[test]
    fn whose_address_has_slots_already_waits() {
        let mut ranks = [
            peer(true, 9, 1),
            peer(false, 0, 1),
            peer(false, 0, 2),
            peer(false, 0, 3),
        ];
        (
            ranks[1].unchoked_from_same_ip,
            ranks[2].unchoked_from_same_ip,
        ) = (1, 1);
        assert_eq!(choose(&mut ranks, 2, true), [0, 3]);
        assert_eq!(choose(&mut ranks, 3, true), [0, 1, 3]);
    }

    #[test]
    fn a_single_slot_rotates() {
        let mut ranks = [peer(true, 100, 1), peer(false, 0, 2)];
        assert_eq!(choose(&mut ranks, 1, false), [0]);
        assert_eq!(choose(&mut ranks, 1, true), [1]);
        assert_eq!(choose(&mut ranks, 1, false), [1]);
    }

    #[test]
    fn nobody_starves() {
        for slots in [1, 2, 3, 16] {
            let mut ranks: Vec<Rank> = (0..40).map(|_| peer(false, 0, 0)).collect();
            let mut served = [false; 40];
            for round in 1..=400 {
                let before = ranks.clone();
                let chosen = choose(&mut ranks, slots, round % 3 == 0);
                assert_eq!(chosen.len(), slots);
                for (number, rank) in ranks.iter_mut().enumerate() {
                    if before[number].unchoked != rank.unchoked {
                        rank.since = Instant::from_secs(round);
                    }
                    served[number] |= rank.unchoked;
                    // Low numbers are fast, high numbers hardly move.
                    rank.sent = if rank.unchoked {
                        1000 - number as u64
                    } else {
                        0
                    };
                }
            }
            assert_eq!(served, [true; 40], "{slots} slots");
        }
    }
}
