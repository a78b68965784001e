//! Who may have the kernel hold how much, so that all together stay within the budget: the rule. What follows of it
//! for sockets is `lending`'s.
//!
//! A peer that is served has a large share. Everybody else has a small one, called a place, from when something
//! is written to it until the kernel says that it took that. Who finds none waits, and there is a look at those
//! who have one all the time that somebody waits: who takes nothing leaves, the sooner the more places its address
//! has.
//!
//! There is a number of places, and a number of bytes for all peers themselves and all large shares together. What
//! peers who are not there would take is lent to those who are served, but for what the next [`KEPT`] of them need.
//! When they come, shares are cut down, and who finds no memory waits to be accepted until that was taken. Of the
//! bytes for large shares
//!
//! - a peer begins with [`NEAR`], which do for one that is near, or with an equal part of all if that is less.
//! - When its socket is full and what is on its way to it at its rate would fill more ([`REACH`] times its rate and
//!   its round trip), its share grows, twofold at most, out of what is free. Somebody served alone may have nearly
//!   all; an eighth is kept for those who are served next.
//! - When somebody who is served finds less than it may begin with, or could use more and has less than an equal
//!   part, or peers come, those who have more than that are cut down to it. What the kernel holds already stays lent
//!   until it is acknowledged, that of choked peers too, so that the sum holds at every instant.
//!
//! The kernel may hold of blocks what those who were asked for them need, with what it adds to that. If that is more
//! than it may hold of all, they have equal parts, but for those who need less: one that is far away may have nearly
//! all beside others that send little.
//!
//! Invariant: `small` peers have a small share and `large` a large one; `lent` is the sum of what the latter have,
//! and with what the peers themselves take at most `bytes`; what peers have for
//! blocks, at most `level` each, is no more than there is for all.

use std::time::Duration;

use everseed_core::time::Instant;

use crate::memory::{LEAST_HELD, MOST_HELD, PeerBytes};
use crate::net::socket::UNACCEPTED;

/// What a peer has of the kernel's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Share {
    /// Nothing is there.
    Nothing,
    Small,
    Large,
}

/// How a peer stands with its share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loan {
    pub(super) share: Share,
    /// Bytes of a large share that may be there from now on, and those that are not free for others, as the kernel
    /// may still hold them.
    pub(super) limit: usize,
    pub(super) lent: usize,
    /// Whether it was served, and found no large share.
    pub(super) denied: bool,
    /// When it was asked last whether it can use more.
    pub(super) asked: Instant,
    /// Since when it waits for one, if it does.
    pub(super) waits: Option<Instant>,
    /// Whether something was written since the share was lent.
    pub(super) used: bool,
    /// Bytes that were there at the last look, and when they became fewer last.
    pub(super) left: u32,
    pub(super) taken: Instant,
    /// Bytes that may be there unread.
    pub(super) unread: usize,
    /// Bytes of blocks that it may be about to send.
    pub(super) blocks: usize,
    /// Places that its address has, as of the last look.
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

    /// Notes that something was written with it.
    pub(super) fn wrote(&mut self) {
        self.left = u32::MAX;
        self.used = true;
    }
}

/// The shares that there are.
#[derive(Debug)]
pub(super) struct Lending {
    pub(super) places: usize,
    /// Bytes for peers and their large shares.
    bytes: usize,
    /// What a peer takes of them itself.
    each: PeerBytes,
    /// Peers that may be there, that are, and that were at a time at most.
    most: usize,
    here: usize,
    ever: usize,
    /// Bytes that are lent to those who are served.
    pub(super) lent: usize,
    pub(super) small: usize,
    pub(super) large: usize,
    /// Peers that are served and found no large share, as of the last look.
    pub(super) denied: usize,
    /// Bytes of blocks that may come at most from one who was asked for them, and when that was reckoned.
    pub(super) level: usize,
    pub(super) level_at: Instant,
    /// Whether somebody makes do with less than is due to it.
    pub(super) short: bool,
    /// When to look whether somebody took what it was sent, if somebody waits for that.
    pub(super) look_at: Option<Instant>,
}

impl Lending {
    /// Shares of `lent` bytes when all of `most` peers are there, who then take `each` so much.
    pub(super) fn new(places: usize, lent: usize, most: usize, each: PeerBytes) -> Lending {
        Lending {
            places,
            bytes: lent + most * each.all(),
            each,
            most,
            here: 0,
            ever: 0,
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

    /// Whether there is memory for a peer who comes. If not, shares are to be cut down.
    pub(super) fn has_room(&mut self) -> bool {
        let free = self.bytes.saturating_sub(self.taken() + self.lent);
        self.short |= free < self.kept() / 2;
        free >= self.needs(1)
    }

    /// A peer is there, in a slot below `end`: those are used from the first one on.
    pub(super) fn come(&mut self, end: usize) {
        self.here += 1;
        self.ever = self.ever.max(end);
    }

    pub(super) fn leave(&mut self) {
        self.here -= 1;
    }

    /// Bytes that peers take themselves: what the program had for one stays with it.
    fn taken(&self) -> usize {
        self.here * self.each.kernel + self.ever * self.each.program
    }

    /// Bytes for the next so many who come, as far as they may.
    fn needs(&self, peers: usize) -> usize {
        let new = peers.min(self.most.saturating_sub(self.ever));
        peers.min(self.most.saturating_sub(self.here)) * self.each.kernel + new * self.each.program
    }

    /// Bytes that are kept for the next who come.
    fn kept(&self) -> usize {
        self.needs(KEPT)
    }

    /// Bytes that may be lent in all while so many are there, and those that are free.
    fn lendable(&self) -> usize {
        self.bytes.saturating_sub(self.taken() + self.kept())
    }

    pub(super) fn free(&self) -> usize {
        self.lendable().saturating_sub(self.lent)
    }

    /// The share that a peer has from now on that has this one and is served, or not; and the bytes of a large one
    /// that is new.
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

    /// An equal part for each of so many.
    pub(super) fn equal(&self, served: usize) -> usize {
        self.lendable() / served.max(1)
    }

    /// What each of so many begins with.
    pub(super) fn first(&self, served: usize) -> usize {
        self.equal(served).min(NEAR)
    }

    /// Whether a large share of `limit` bytes that is full could become more.
    pub(super) fn can_grow(&self, limit: usize) -> bool {
        self.grown(limit, MOST_HELD) >= limit + limit / 8 || limit < self.equal(self.large) / 2
    }

    /// The bytes that a large share of `limit` grows to when it is full and could have `wanted`.
    pub(super) fn grown(&self, limit: usize, wanted: usize) -> usize {
        let free = self.free().saturating_sub(self.lendable() / 8);
        let most = (limit + free).min(2 * limit).min(MOST_HELD);
        // One that is near was cut down when others were there.
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

/// Bytes that do for a peer that is near: as many blocks as are written at a time, and once more what the kernel
/// sends of them.
const NEAR: usize = 512 * 1024;

/// What a peer can use, in what is on its way to it at its rate: that in packets with what the kernel adds to them,
/// the next write, and room to find out that it can have more.
pub(super) const REACH: u64 = 4;

/// Peers that may come before shares are cut down for them: as many as are accepted in two turns.
const KEPT: usize = 64;

/// The time between looks while somebody waits.
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
