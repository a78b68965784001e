//! The rule that divides the kernel's memory among peers, so that all together stay within the budget. `lending`
//! applies it to the sockets.
//!
//! A served peer has a large share. Every other peer has a small share, called a place, from a write until the kernel
//! says that the peer took it. A peer that finds no place waits. While one waits, those with places are looked at all
//! the time, and one that takes nothing is disconnected: the sooner, the more places its IP address has.
//!
//! The number of places is fixed, and so is the number of bytes for all peers and large shares together. Bytes that
//! absent peers would take are lent to served ones, except what the next [`KEPT`] peers need. When they come, shares
//! are cut, and a caller without memory waits to be accepted until it is free. The bytes for large shares are lent by
//! these rules:
//!
//! - A peer begins with [`NEAR`], which is enough for a near one, or with an equal part of all if that is less.
//! - A share grows when its socket is full and the peer could use more ([`REACH`] times its rate and its round trip).
//!   It at most doubles, from what is free. A peer that is served alone may have nearly all; an eighth is kept for
//!   those served next.
//! - As many peers may be served as there is room for shares of [`LEAST_HELD`], and shares are not cut below that. When
//!   peers come, fewer are served. Whoever loses its slot takes what it was sent; a served peer that finds no large
//!   share meanwhile waits for one.
//! - Shares above an equal part are cut to it in three cases: a served peer finds less than it may begin with; it
//!   could use more and has less than an equal part; or peers come. What the kernel holds already stays lent until it
//!   is acknowledged, also that of choked peers. So the sum holds at every instant.
//!
//! For incoming blocks the kernel may hold what the peers need that we requested them from, with the kernel's
//! overhead. If that exceeds the budget for them, peers have equal parts, or less where they need less. So a far peer
//! may have nearly all beside others that send little. A peer that we call has room for two blocks before anything is
//! requested, while that is free.
//!
//! Invariant: `small` peers have a small share and `large` a large one. `lent` is the sum of the large shares; with
//! the memory of the peers themselves it is at most `bytes`. The peers' parts for incoming blocks, at most `level`
//! each, are together at most the budget for them.

use std::time::Duration;

use everseed_core::time::Instant;

use crate::net::memory::{LEAST_HELD, MOST_HELD, PeerBytes};
use crate::net::socket::UNACCEPTED;

/// A peer's share of the kernel's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Share {
    /// No share: nothing is on its way.
    Nothing,
    Small,
    Large,
}

/// A peer's loan of the kernel's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    pub(super) share: Share,
    /// The bytes that a large share may have from now on, and the bytes that are not free for others because the
    /// kernel may still hold them.
    pub(super) limit: usize,
    pub(super) lent: usize,
    /// Whether it was served, but found no large share.
    pub(super) denied: bool,
    /// When it was last asked whether it can use more.
    pub(super) asked: Instant,
    /// When it began to wait for a share, if it waits.
    pub(super) waits: Option<Instant>,
    /// Whether something was written since the share was lent.
    pub(super) used: bool,
    /// Bytes that the kernel held at the last look, and the last time at which they became fewer.
    pub(super) left: u32,
    pub(super) taken: Instant,
    /// Bytes of its receive buffer.
    pub(super) unread: usize,
    /// Bytes of blocks that we requested, and that it may be about to send.
    pub(super) blocks: usize,
    /// Places of its IP address, as of the last look.
    pub(super) crowd: u16,
}

impl Loan {
    pub(super) const NEW: Loan = Loan {
        share: Share::Nothing,
        limit: 0,
        lent: 0,
        denied: false,
        asked: Instant::ZERO,
        waits: None,
        used: false,
        left: u32::MAX,
        taken: Instant::ZERO,
        unread: UNACCEPTED,
        blocks: 0,
        crowd: 0,
    };

    /// Notes that something was written with the share.
    pub(super) fn wrote(&mut self) {
        self.left = u32::MAX;
        self.used = true;
    }
}

/// All shares.
#[derive(Debug)]
pub(super) struct Lending {
    pub(super) places: usize,
    /// Bytes for peers and their large shares.
    bytes: usize,
    /// Bytes that each peer takes itself.
    each: PeerBytes,
    /// The most peers that may be connected; the number that is; and the highest number so far.
    most: usize,
    here: usize,
    ever: usize,
    /// The most peers that are served at a time while as many are connected as may be.
    sure_slots: usize,
    /// Bytes that are lent to served peers.
    pub(super) lent: usize,
    pub(super) small: usize,
    pub(super) large: usize,
    /// Served peers without a large share, as of the last look.
    pub(super) denied: usize,
    /// The most bytes of blocks that one peer may have on its way to us, and when that was computed.
    pub(super) level: usize,
    pub(super) level_at: Instant,
    /// Whether a peer has less than its due.
    pub(super) short: bool,
    /// The time of the next look whether peers took what they were sent, if one waits for that.
    pub(super) look_at: Option<Instant>,
}

impl Lending {
    /// Shares of `lent` bytes, for the case that all `most` peers are connected and take `each` so much.
    pub(super) fn new(places: usize, lent: usize, most: usize, each: PeerBytes) -> Lending {
        Lending {
            places,
            bytes: lent + most * each.all(),
            each,
            most,
            here: 0,
            ever: 0,
            sure_slots: lent / LEAST_HELD,
            lent: 0,
            small: 0,
            large: 0,
            denied: 0,
            level: usize::MAX,
            level_at: Instant::ZERO,
            short: false,
            look_at: None,
        }
    }

    /// Whether there is memory for one more peer. If not, shares have to be cut.
    pub(super) fn has_room(&mut self) -> bool {
        let free = self.bytes.saturating_sub(self.taken() + self.lent);
        self.short |= free < self.kept() / 2;
        free >= self.needs(1)
    }

    /// A peer has come, in a slot below `end`. Slots are used from the first one on.
    pub(super) fn come(&mut self, end: usize) {
        self.here += 1;
        self.ever = self.ever.max(end);
    }

    pub(super) fn leave(&mut self) {
        self.here -= 1;
    }

    /// Bytes that peers take themselves. Memory that the program took for a slot stays with it.
    fn taken(&self) -> usize {
        self.here * self.each.kernel + self.ever * self.each.program
    }

    /// Bytes for the next `peers` that may come.
    fn needs(&self, peers: usize) -> usize {
        let new = peers.min(self.most.saturating_sub(self.ever));
        peers.min(self.most.saturating_sub(self.here)) * self.each.kernel + new * self.each.program
    }

    /// Bytes that are kept for the next peers.
    fn kept(&self) -> usize {
        self.needs(KEPT)
    }

    /// Bytes that may be lent in all with the present peers, and those of them that are free.
    fn lendable(&self) -> usize {
        self.bytes.saturating_sub(self.taken() + self.kept())
    }

    pub(super) fn free(&self) -> usize {
        self.lendable().saturating_sub(self.lent)
    }

    /// The most peers that may be served at a time, so that each has at least [`LEAST_HELD`]; `before` is the number so
    /// far. An eighth is spared for the next change, so that it seldom changes while peers come and go.
    pub(super) fn slots(&self, before: usize) -> usize {
        let room = self.lendable() / LEAST_HELD;
        match room < before || room > before + before / 4 {
            true => (room - room / 8).max(self.sure_slots),
            false => before,
        }
    }

    /// The new share of a peer that has share `has` and is `served` or not; and the bytes of a large share that is
    /// new.
    pub(super) fn claim(&mut self, has: Share, served: bool) -> (Share, usize) {
        let free = self.free();
        let first = self.first(self.large + self.denied.max(1));
        let wants = served && has != Share::Large;
        self.short |= wants && free < first;
        let gets = match has {
            Share::Large => Share::Large,
            _ if served && free.min(first) >= LEAST_HELD => Share::Large,
            Share::Nothing if self.small == self.places => Share::Nothing,
            _ => Share::Small,
        };
        self.change(has, gets);
        let bytes = match wants && gets == Share::Large {
            true => free.min(first),
            false => 0,
        };
        self.lent += bytes;
        (gets, bytes)
    }

    /// An equal part for each of `served` peers.
    pub(super) fn equal(&self, served: usize) -> usize {
        self.lendable() / served.max(1)
    }

    /// The bytes with which each of `served` peers begins.
    pub(super) fn first(&self, served: usize) -> usize {
        self.equal(served).min(NEAR)
    }

    /// Whether a full large share of `limit` bytes could grow.
    pub(super) fn can_grow(&self, limit: usize) -> bool {
        self.grown(limit, MOST_HELD) >= limit + limit / 8 || limit < self.equal(self.large) / 2
    }

    /// The size to which a full large share of `limit` bytes grows, if the peer can use `wanted`.
    pub(super) fn grown(&self, limit: usize, wanted: usize) -> usize {
        let free = self.free().saturating_sub(self.lendable() / 8);
        let most = (limit + free).min(2 * limit).min(MOST_HELD);
        // The share of a near peer may have been cut while others were there.
        let wanted = wanted.max(self.first(self.large));
        wanted.min(most).max(limit)
    }

    pub(super) fn change(&mut self, from: Share, to: Share) {
        match from {
            Share::Nothing => {}
            Share::Small => self.small -= 1,
            Share::Large => self.large -= 1,
        }
        match to {
            Share::Nothing => {}
            Share::Small => self.small += 1,
            Share::Large => self.large += 1,
        }
    }

    pub(super) fn look_soon(&mut self, now: Instant) {
        self.look_at.get_or_insert(now + LOOK);
    }
}

/// Bytes that are enough for a near peer: the blocks of one write, and as much again that the kernel is sending.
const NEAR: usize = 512 * 1024;

/// Multiple of the bytes on their way to a peer at its rate that it can use: those bytes in packets with the kernel's
/// overhead, the next write, and room to find out that it can have more.
pub(super) const REACH: u64 = 4;

/// Peers that may come before shares are cut for them: as many as two turns accept.
const KEPT: usize = 64;

/// The pause between looks while a peer waits.
pub(super) const LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of so many bytes beside peers that take nothing.
    fn alone(places: usize, bytes: usize) -> Lending {
        let nothing = PeerBytes {
            kernel: 0,
            program: 0,
        };
        Lending::new(places, bytes, 0, nothing)
    }

    #[test]
    fn shares_go_round() {
        use Share::{Large, Nothing, Small};
        let mut lending = alone(2, NEAR + LEAST_HELD / 2);
        // What a peer has, whether it is served, and what it has then.
        let table = [
            (Nothing, false, (Small, 0)),
            (Nothing, true, (Large, NEAR)),
            // Of the bytes too few are left.
            (Nothing, true, (Small, 0)),
            (Nothing, true, (Nothing, 0)),
            (Nothing, false, (Nothing, 0)),
            (Small, true, (Small, 0)),
            (Large, false, (Large, 0)),
            (Large, true, (Large, 0)),
        ];
        for (has, served, gets) in table {
            assert_eq!(lending.claim(has, served), gets, "{has:?} {served}");
        }
        assert_eq!((lending.small, lending.large, lending.lent), (2, 1, NEAR));
        lending.change(Large, Nothing);
        lending.lent = 0;
        assert_eq!(lending.claim(Small, true), (Large, NEAR));
        assert_eq!((lending.small, lending.large), (1, 1));
    }

    /// Those who were there first leave room for fifty as soon as what they have above an equal part is free.
    #[test]
    fn a_crowd_shares_equally() {
        let mut lending = alone(1, 16 * NEAR);
        for _ in 0..16 {
            assert_eq!(lending.claim(Share::Nothing, true), (Share::Large, NEAR));
        }
        let nothing_is_left = (Share::Small, 0);
        assert_eq!(lending.claim(Share::Nothing, true), nothing_is_left);
        assert!(lending.short);
        // As a look finds it: 34 have none, and the 16 are cut.
        lending.denied = 34;
        let equal = lending.equal(lending.large + lending.denied);
        lending.lent = 16 * equal;
        for _ in 0..34 {
            assert_eq!(lending.claim(Share::Small, true), (Share::Large, equal));
            lending.denied -= 1;
            lending.small = 1;
        }
        assert!(lending.lent <= lending.bytes);
    }

    /// The fewer peers are there, the more may be served; the number changes by steps, and falls at once.
    #[test]
    fn slots_follow_the_memory() {
        const EACH: PeerBytes = PeerBytes {
            kernel: 3000,
            program: 1000,
        };
        let mut lending = Lending::new(1, 45 * LEAST_HELD, 5000, EACH);
        // Peers that are there, the most slots so far, and those that there may be.
        for (here, before, slots) in [
            (0, 45, 391),
            (50, 391, 391),
            (600, 391, 391),
            (700, 391, 341),
            (600, 341, 341),
            (4000, 341, 106),
            (4500, 106, 70),
            (5000, 70, 45),
            (5000, 45, 45),
        ] {
            lending.here = here;
            lending.ever = here;
            assert_eq!(lending.slots(before), slots, "{here} peers, {before} slots");
            let least = slots * LEAST_HELD;
            assert!(lending.taken() + lending.kept() + least <= lending.bytes);
        }
    }

    /// What peers who are not there would take is lent, but for what the next of them need, and nobody comes whom
    /// there is no memory for.
    #[test]
    fn what_the_absent_would_take_is_lent() {
        const EACH: PeerBytes = PeerBytes {
            kernel: 3000,
            program: 1000,
        };
        const LENT: usize = 1_000_000;
        // Peers that there may be, that are there, and that were; what is kept for the next, and what may be lent.
        for (most, here, ever, kept, lendable) in [
            (1000, 0, 0, 256_000, LENT + 3_744_000),
            (1000, 50, 50, 256_000, LENT + 3_544_000),
            // What the program took for somebody stays with it.
            (1000, 50, 800, 256_000, LENT + 2_794_000),
            (1000, 50, 1000, 192_000, LENT + 2_658_000),
            (1000, 999, 1000, 3000, LENT),
            (1000, 1000, 1000, 0, LENT),
            (10, 0, 0, 40_000, LENT),
        ] {
            let mut lending = Lending::new(1, LENT, most, EACH);
            (lending.here, lending.ever) = (here, ever);
            let what = format!("{here} of {most} peers, after {ever}");
            assert_eq!(
                (lending.kept(), lending.lendable()),
                (kept, lendable),
                "{what}"
            );
            // When all is lent those for whom it is kept can come, and nobody else.
            lending.lent = lendable;
            let (next, mut came) = (64.min(most - here), 0);
            while here + came < most && lending.has_room() {
                came += 1;
                lending.come(ever.max(here + came));
                assert!(lending.taken() + lending.lent <= lending.bytes, "{what}");
            }
            assert!(came >= next, "{came} more than {what}");
            // Shares are cut down before.
            assert!(lending.short || here + came == most, "{what}");
        }
    }

    #[test]
    fn a_share_grows_with_what_is_on_its_way() {
        const MIB: usize = 1 << 20;
        // All bytes, those that are lent, the share, what it could use, and what it gets.
        for (bytes, lent, limit, wanted, gets) in [
            (16 * MIB, NEAR, NEAR, 100, NEAR),
            (16 * MIB, NEAR, NEAR, NEAR + 1, NEAR + 1),
            (16 * MIB, NEAR, NEAR, 9 * MIB, 2 * NEAR),
            (16 * MIB, 4 * MIB, 4 * MIB, 9 * MIB, MOST_HELD),
            // An eighth is kept.
            (4 * MIB, 3 * MIB, 3 * MIB, 9 * MIB, 3 * MIB + MIB / 2),
            (4 * MIB, 4 * MIB, 3 * MIB, 9 * MIB, 3 * MIB),
        ] {
            let mut lending = alone(1, bytes);
            (lending.lent, lending.large) = (lent, 16);
            assert_eq!(
                lending.grown(limit, wanted),
                gets,
                "{bytes} {lent} {limit} {wanted}"
            );
        }
    }

    /// Whoever comes, the equal parts of all are no more than there is.
    #[test]
    fn equal_parts() {
        for bytes in [LEAST_HELD, 1 << 20, 16 << 20] {
            for served in 1..100 {
                let first = alone(1, bytes).first(served);
                assert!(first * served <= bytes && first <= NEAR, "{bytes} {served}");
            }
        }
    }
}
