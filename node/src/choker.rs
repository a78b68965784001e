//! Whom to unchoke: a plain function over a slice.
//!
//! Tit for tat: as long as a torrent is incomplete, those of its peers who gave most in the last two
//! rounds are served first (BEP 3), before the peers of torrents that are only seeded. A seed serves
//! whom it can serve fastest, which brings most copies into the swarm in the least
//! time; a rotating optimistic slot goes to whoever has waited longest, so nobody starves (the idea
//! is BEP 3's, section on choking). Of those who wait, the ones whose address has the fewest slots
//! already come first, so that nobody waits for a crowd.

use core::cmp::Reverse;

use everseed_core::time::Instant;

/// One interested peer, as the choker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Slot of its connection.
    pub conn: u16,
    /// Whether it is unchoked now.
    pub unchoked: bool,
    /// Whether it is unchoked because its turn came, not for its speed.
    pub optimistic: bool,
    /// Bytes that it gave in the last two rounds, of a torrent that is being downloaded.
    pub gave: u64,
    /// Bytes sent to it since the last round.
    pub sent: u64,
    /// Whether it is unchoked and took nothing for a whole round.
    pub idle: bool,
    /// Since when it is choked or unchoked.
    pub since: Instant,
    /// Its address, as far as it tells hosts apart.
    pub origin: u64,
    /// Slots that its address has; found out by [`choose`].
    pub company: u16,
}

impl Rank {
    /// An unused entry.
    pub const EMPTY: Rank = Rank {
        conn: 0,
        unchoked: false,
        optimistic: false,
        gave: 0,
        sent: 0,
        idle: false,
        since: Instant::ZERO,
        origin: 0,
        company: 0,
    };
}

/// Of `slots` upload slots, how many are optimistic: one in eight, and at least one when there are
/// two.
pub fn optimistic_slots(slots: usize) -> usize {
    if slots < 2 { 0 } else { (slots / 8).max(1) }
}

/// How many upload slots suit this capacity in bytes per second: the square root of 0.6 times as many
/// kB/s, as the first clients did it, so that each peer gets more when there is more; at least 4, and
/// at most 250. While it is not known, 8 find it out.
pub fn automatic_slots(capacity_bps: u64) -> u16 {
    if capacity_bps == 0 {
        return 8;
    }
    let root = (capacity_bps * 6 / 10_000).isqrt();
    u16::try_from(root).unwrap_or(u16::MAX).clamp(4, 250)
}

/// Decides who holds the `slots` upload slots from now on, by setting `unchoked` and `optimistic`.
///
/// Whoever is idle keeps its slot only if nobody waits for it.
///
/// With `rotate`, the optimistic slots pass on to those who have waited longest and their former
/// holders compete by speed. With a single slot, that slot itself rotates.
pub fn choose(ranks: &mut [Rank], slots: usize, rotate: bool) {
    if ranks.len() <= slots {
        ranks.iter_mut().for_each(|rank| {
            rank.optimistic = false;
            rank.unchoked = true;
        });
        return;
    }
    let optimistic = if slots == 1 && rotate {
        1
    } else {
        optimistic_slots(slots)
    };
    if rotate {
        ranks.iter_mut().for_each(|rank| rank.optimistic = false);
    }
    count_company(ranks);
    // Who gave most, then the fastest of those who hold a slot by speed, then whoever has waited
    // longest.
    ranks.sort_unstable_by_key(|rank| match (rank.unchoked, rank.optimistic) {
        _ if rank.gave > 0 => (0u8, Reverse(rank.gave), 0, rank.since),
        _ if rank.idle => (4, Reverse(0), 0, rank.since),
        (true, false) => (1, Reverse(rank.sent), 0, rank.since),
        (true, true) => (2, Reverse(0), 0, rank.since),
        (false, _) => (3, Reverse(0), rank.company, rank.since),
    });
    let by_speed = slots.saturating_sub(optimistic);
    let (fast, rest) = ranks.split_at_mut(by_speed.min(ranks.len()));
    for rank in fast {
        rank.unchoked = true;
        rank.optimistic = false;
    }
    // Of the rest, those who keep or get an optimistic slot; a peer that just lost its place by
    // speed waits from now on, behind everyone who waits already.
    rest.sort_unstable_by_key(|rank| match (rank.unchoked, rank.optimistic) {
        _ if rank.idle => (2u8, 0, rank.since),
        (true, true) => (0, 0, rank.since),
        (false, _) => (1, rank.company, rank.since),
        (true, false) => (2, 0, rank.since),
    });
    for (place, rank) in rest.iter_mut().enumerate() {
        rank.unchoked = place < optimistic;
        rank.optimistic = rank.unchoked;
    }
}

/// Tells everyone how many slots its address has.
fn count_company(ranks: &mut [Rank]) {
    ranks.sort_unstable_by_key(|rank| rank.origin);
    for neighbours in ranks.chunk_by_mut(|a, b| a.origin == b.origin) {
        let served = neighbours.iter().filter(|rank| rank.unchoked).count();
        let served = u16::try_from(served).unwrap_or(u16::MAX);
        neighbours.iter_mut().for_each(|n| n.company = served);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn peer(conn: u16, unchoked: bool, sent: u64, since: u64) -> Rank {
        Rank {
            conn,
            unchoked,
            sent,
            since: Instant::from_secs(since),
            ..Rank::EMPTY
        }
    }

    fn unchoked(ranks: &[Rank]) -> Vec<u16> {
        let mut conns: Vec<u16> = ranks
            .iter()
            .filter(|r| r.unchoked)
            .map(|r| r.conn)
            .collect();
        conns.sort_unstable();
        conns
    }

    #[test]
    fn slots_follow_the_capacity() {
        let table = [
            (0, 8),
            (1, 4),
            (10_000, 4),
            (100_000, 7),
            (1_000_000, 24),
            (12_500_000, 86),
            (u64::MAX / 10, 250),
        ];
        for (capacity, slots) in table {
            assert_eq!(automatic_slots(capacity), slots, "{capacity} B/s");
        }
    }

    #[test]
    fn everybody_while_there_is_room() {
        let mut ranks = [peer(0, false, 0, 0), peer(1, true, 5, 0)];
        choose(&mut ranks, 2, false);
        assert_eq!(unchoked(&ranks), [0, 1]);
    }

    #[test]
    fn the_fastest_stay_and_the_longest_waiting_gets_its_turn() {
        let mut ranks = [
            peer(0, true, 100, 1),
            peer(1, true, 300, 1),
            peer(2, true, 200, 1),
            peer(3, false, 0, 9),
            peer(4, false, 0, 3),
        ];
        choose(&mut ranks, 3, true);
        assert_eq!(unchoked(&ranks), [1, 2, 4]);
        // Between rotations the optimistic holder keeps its slot, however slow it is.
        choose(&mut ranks, 3, false);
        assert_eq!(unchoked(&ranks), [1, 2, 4]);
    }

    #[test]
    fn the_idle_make_room() {
        let mut ranks = [
            peer(0, true, 0, 1),
            peer(1, true, 5, 1),
            peer(2, true, 0, 1),
            peer(3, false, 0, 2),
        ];
        (ranks[0].idle, ranks[0].optimistic, ranks[2].idle) = (true, true, true);
        choose(&mut ranks, 3, false);
        assert_eq!(
            unchoked(&ranks),
            [0, 1, 3],
            "as nobody else waits, one of the idle stays"
        );
        let mut ranks = [peer(0, true, 0, 1), peer(1, false, 0, 2)];
        ranks[0].idle = true;
        choose(&mut ranks, 1, false);
        assert_eq!(unchoked(&ranks), [1]);
    }

    #[test]
    fn a_single_slot_rotates() {
        let mut ranks = [peer(0, true, 100, 1), peer(1, false, 0, 2)];
        choose(&mut ranks, 1, false);
        assert_eq!(unchoked(&ranks), [0]);
        choose(&mut ranks, 1, true);
        assert_eq!(unchoked(&ranks), [1]);
        choose(&mut ranks, 1, false);
        assert_eq!(unchoked(&ranks), [1]);
    }

    #[test]
    fn nobody_starves() {
        for slots in [1, 2, 3, 16] {
            let mut ranks: Vec<Rank> = (0..40).map(|i| peer(i, false, 0, 0)).collect();
            let mut served = [false; 40];
            for round in 1..=400 {
                let before: Vec<(u16, bool)> = ranks.iter().map(|r| (r.conn, r.unchoked)).collect();
                choose(&mut ranks, slots, round % 3 == 0);
                assert_eq!(unchoked(&ranks).len(), slots);
                for rank in &mut ranks {
                    let was = before.iter().any(|&(conn, on)| conn == rank.conn && on);
                    if was != rank.unchoked {
                        rank.since = Instant::from_secs(round);
                    }
                    served[usize::from(rank.conn)] |= rank.unchoked;
                    // Low numbers are fast, high numbers hardly move.
                    rank.sent = if rank.unchoked {
                        1000 - u64::from(rank.conn)
                    } else {
                        0
                    };
                }
            }
            assert_eq!(served, [true; 40], "{slots} slots");
        }
    }
}
