//! Who may have the kernel hold how much, so that all together stay within the budget: see `memory`.
//!
//! A peer that is served has a large share. Everybody else has a small one, called a place, from when something
//! is written to it until the kernel says that it took that. Who finds none waits, and there is a look at those
//! who have one all the time that somebody waits: who takes nothing leaves, the sooner the more places its address
//! has.
//!
//! There is a number of places, and a number of bytes for all large shares together, which are lent:
//!
//! - A peer begins with [`NEAR`] bytes, which do for one that is near, or with an equal part of all if that is less.
//! - When its socket is full and what is on its way to it at its rate would fill more ([`REACH`] times its rate and
//!   its round trip), its share grows, twofold at most, out of what is free. Somebody served alone may have nearly
//!   all; an eighth is kept for those who come.
//! - When somebody who is served finds less than it may begin with, or could use more and has less than an equal
//!   part, those who have more than that are cut down to it. What the kernel holds already stays lent until it
//!   is acknowledged, that of choked peers too, so that the sum holds at every instant.
//!
//! Peers that were asked for blocks share what the kernel may hold of those in equal parts.
//!
//! Invariant: `small` peers have a small share and `large` a large one; `lent` is the sum of what the latter have,
//! and at most `bytes`; `givers` peers have room for blocks.

use std::net::IpAddr;
use std::time::Duration;

use everseed_core::time::Instant;
use everseed_node::{ConnId, Event, Reason};
use socket2::SockRef;

use super::{Engine, Peer, find};
use crate::memory::{LEAST_HELD, MOST_HELD};
use crate::net::socket::{Portion, UNACCEPTED, UNSERVED_WRITTEN};
use crate::net::sockopt;

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
    share: Share,
    /// Bytes of a large share that may be there from now on, and those that are not free for others, as the kernel
    /// may still hold them.
    limit: usize,
    lent: usize,
    /// Whether it was served, and found no large share.
    denied: bool,
    /// When it was asked last whether it can use more.
    asked: Instant,
    /// Since when it waits for one, if it does.
    waits: Option<Instant>,
    /// Whether something was written since the share was lent.
    used: bool,
    /// Bytes that were there at the last look, and when they became fewer last.
    left: u32,
    taken: Instant,
    /// Bytes that may be there unread.
    unread: usize,
    /// Whether it is among the givers.
    gives: bool,
    /// Places that its address has, as of the last look.
    crowd: u16,
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
        gives: false,
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
    places: usize,
    /// Bytes that may be lent to those who are served.
    bytes: usize,
    /// Bytes that are.
    lent: usize,
    small: usize,
    large: usize,
    /// Peers that are served and found no large share, as of the last look.
    denied: usize,
    givers: usize,
    /// Whether somebody who is served makes do with less than is due to it.
    short: bool,
    /// When to look whether somebody took what it was sent, if somebody waits for that.
    pub(super) look_at: Option<Instant>,
}

impl Lending {
    pub(super) fn new(places: usize, bytes: usize) -> Lending {
        Lending {
            places,
            bytes,
            lent: 0,
            small: 0,
            large: 0,
            denied: 0,
            givers: 0,
            short: false,
            look_at: None,
        }
    }

    /// The share that a peer has from now on that has this one and is served, or not; and the bytes of a large one
    /// that is new.
    fn claim(&mut self, has: Share, served: bool) -> (Share, usize) {
        let free = self.bytes - self.lent;
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
    fn equal(&self, served: usize) -> usize {
        self.bytes / served.max(1)
    }

    /// What each of so many begins with.
    fn first(&self, served: usize) -> usize {
        self.equal(served).min(NEAR)
    }

    /// The bytes that a large share of `limit` grows to when it is full and could have `wanted`.
    fn grown(&self, limit: usize, wanted: usize) -> usize {
        let free = (self.bytes - self.lent).saturating_sub(self.bytes / 8);
        let most = (limit + free).min(2 * limit).min(MOST_HELD);
        wanted.min(most).max(limit)
    }

    fn change(&mut self, from: Share, to: Share) {
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

    fn look_soon(&mut self, now: Instant) {
        self.look_at.get_or_insert(now + LOOK);
    }
}

impl Engine {
    /// How many bytes may be written to a peer now; `None` if it has to wait for a share.
    pub(super) fn room(&mut self, now: Instant, id: ConnId) -> Option<usize> {
        let served = self.node.serves(id);
        let peer = find(&mut self.peers, id)?;
        let had = peer.loan.share;
        let (has, bytes) = self.lending.claim(had, served);
        if has != had {
            peer.loan = Loan {
                share: has,
                limit: bytes,
                lent: bytes,
                waits: None,
                used: had != Share::Nothing,
                left: u32::MAX,
                taken: now,
                ..peer.loan
            };
            if has == Share::Large {
                self.held.serve(&peer.stream, Portion::of(bytes));
            }
        }
        peer.loan.denied = served && has != Share::Large;
        let limit = peer.loan.limit;
        if self.lending.short || has == Share::Nothing {
            self.lending.look_soon(now);
        }
        if has == Share::Nothing {
            peer.loan.waits.get_or_insert(now);
            return None;
        }
        self.make_room_for_blocks(id);
        match served && has == Share::Large {
            true => Some(Portion::of(limit).written),
            false => Some(UNSERVED_WRITTEN),
        }
    }

    /// A peer's socket is full: it may have more if it can use it.
    pub(super) fn full(&mut self, now: Instant, id: ConnId) {
        let served = self.node.serves(id);
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let Loan {
            share,
            limit,
            asked,
            ..
        } = peer.loan;
        if share != Share::Large || !served || limit >= MOST_HELD || now - asked < ASK {
            return;
        }
        peer.loan.asked = now;
        let Some(bytes) = sockopt::on_their_way(&peer.stream) else {
            return;
        };
        let wanted = usize::try_from(bytes.saturating_mul(REACH)).unwrap_or(usize::MAX);
        let grown = self.lending.grown(limit, wanted);
        // A little more is not worth the calls.
        if grown >= limit + limit / 8 {
            self.set_limit(id, grown);
        } else if wanted > limit && limit < self.lending.equal(self.lending.large) / 2 {
            self.lending.short = true;
            self.lending.look_soon(now);
        }
    }

    /// Has a large share be so many bytes from now on; those that the kernel holds already stay lent.
    fn set_limit(&mut self, id: ConnId, limit: usize) {
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let lent = peer.loan.lent.max(limit);
        self.lending.lent += lent - peer.loan.lent;
        (peer.loan.limit, peer.loan.lent) = (limit, lent);
        self.held.serve(&peer.stream, Portion::of(limit));
        self.set_unread(id);
    }

    /// Has the kernel hold as much of what a peer sends as is to come: what is about to be sent may ask for it.
    fn make_room_for_blocks(&mut self, id: ConnId) {
        let asks = self.node.asks(id);
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let before = self.held.of_blocks(self.lending.givers);
        if asks && !std::mem::replace(&mut peer.loan.gives, true) {
            self.lending.givers += 1;
        }
        if self.held.of_blocks(self.lending.givers) == before {
            return self.set_unread(id);
        }
        for slot in 0..self.peers.len() {
            if let Some(peer) = &mut self.peers[slot] {
                let id = peer.id;
                if peer.loan.gives && !self.node.asks(id) {
                    peer.loan.gives = false;
                    self.lending.givers -= 1;
                }
                self.set_unread(id);
            }
        }
    }

    fn set_unread(&mut self, id: ConnId) {
        let of_blocks = self.held.of_blocks(self.lending.givers);
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let unread = match (peer.loan.gives, peer.loan.share) {
            (true, _) => of_blocks,
            (false, Share::Large) => Portion::of(peer.loan.limit).received,
            (false, _) => UNACCEPTED,
        };
        if std::mem::replace(&mut peer.loan.unread, unread) != unread {
            sockopt::change_received(&peer.stream, unread);
        }
    }

    /// Nothing was to be written, so that a share is not needed that was not there before.
    pub(super) fn return_unused(&mut self, id: ConnId) {
        if let Some(peer) = find(&mut self.peers, id)
            && peer.loan.share == Share::Small
            && !peer.loan.used
        {
            peer.loan.share = Share::Nothing;
            self.lending.change(Share::Small, Share::Nothing);
        }
    }

    /// A peer is gone: its share is free. What it did not take is not kept for it either, but at the end of all.
    pub(super) fn take_back(&mut self, now: Instant, peer: &Peer, reason: Option<Reason>) {
        self.lending.change(peer.loan.share, Share::Nothing);
        self.lending.lent -= peer.loan.lent;
        self.lending.givers -= usize::from(peer.loan.gives);
        if peer.loan.share != Share::Nothing
            && reason != Some(Reason::Stopping)
            && sockopt::unacknowledged(&peer.stream).is_none_or(|bytes| bytes > 0)
        {
            let _ = SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO));
        }
        if self.lending.look_at.is_some() {
            self.lending.look_at = Some(now);
        }
    }

    /// Looks who has taken what it was sent, and gives its share to who waits.
    pub(super) fn look(&mut self, now: Instant) {
        self.lending.look_at = None;
        for slot in 0..self.peers.len() {
            self.collect(now, slot);
        }
        let waits = |peer: &Peer| peer.loan.waits.is_some();
        let mut short = std::mem::take(&mut self.lending.short);
        if short {
            self.even_out(now);
            short = self.lending.short;
        }
        if !short && !self.peers.iter().flatten().any(waits) {
            return;
        }
        self.count_crowds();
        self.part_with_the_stuck(now);
        while self.lending.small < self.lending.places {
            let waiting = self.peers.iter().flatten().filter(|peer| waits(peer));
            let first = waiting.min_by_key(|peer| (peer.loan.crowd, peer.loan.waits));
            let Some((id, ip)) = first.map(|peer| (peer.id, peer.addr.ip())) else {
                return;
            };
            self.count_in(ip);
            if let Some(peer) = find(&mut self.peers, id) {
                peer.loan.waits = None;
            }
            self.send(now, id);
        }
        self.lending.look_soon(now);
    }

    /// Cuts down those who are served and have more than an equal part, and gives what is due to those who have less:
    /// at once, or as the former take what they were sent.
    fn even_out(&mut self, now: Instant) {
        for peer in self.peers.iter_mut().flatten() {
            peer.loan.denied &= self.node.serves(peer.id);
        }
        let denied = |peer: &&Peer| peer.loan.denied;
        self.lending.denied = self.peers.iter().flatten().filter(denied).count();
        self.lending.short |= self.lending.denied > 0;
        let all = self.lending.large + self.lending.denied;
        let (equal, first) = (self.lending.equal(all), self.lending.first(all));
        for slot in 0..self.peers.len() {
            if let Some(peer) = &self.peers[slot]
                && peer.loan.limit > equal
            {
                self.set_limit(peer.id, equal);
            }
        }
        for slot in 0..self.peers.len() {
            let Some(peer) = &self.peers[slot] else {
                continue;
            };
            let (id, loan) = (peer.id, peer.loan);
            if loan.share == Share::Large && loan.limit < first {
                let free = self.lending.bytes - self.lending.lent;
                self.set_limit(id, first.min(loan.lent + free));
                self.lending.short |= loan.lent + free < first;
            }
            // One that has stopped taking what it was sent is not looked at for ever.
            self.lending.short |= loan.lent > loan.limit && now - loan.taken < PATIENCE;
        }
    }

    /// Takes a share back whose owner has taken what it was sent.
    fn collect(&mut self, now: Instant, slot: usize) {
        let Some(peer) = &mut self.peers[slot] else {
            return;
        };
        let loan = &mut peer.loan;
        let (has, served) = (loan.share, self.node.serves(peer.id));
        let is_cut = loan.lent > loan.limit;
        if has == Share::Nothing || (has == Share::Large && served && !is_cut) {
            return;
        }
        // A kernel that does not tell is believed to hold nothing when it takes more.
        let left = sockopt::unacknowledged(&peer.stream);
        let left = left.unwrap_or(u32::from(!peer.writable));
        if is_cut {
            let held = left as usize + Portion::of(loan.limit).received;
            let lent = loan.lent.min(held.max(loan.limit));
            self.lending.lent -= loan.lent - lent;
            loan.lent = lent;
        }
        if has == Share::Large && served {
            return;
        }
        if left < peer.loan.left {
            (peer.loan.left, peer.loan.taken) = (left, now);
        }
        if left > 0 {
            return;
        }
        if has == Share::Large {
            self.held.serve_no_longer(&peer.stream);
        }
        self.lending.lent -= peer.loan.lent;
        (peer.loan.limit, peer.loan.lent) = (0, 0);
        peer.loan.share = Share::Nothing;
        self.lending.change(has, Share::Nothing);
        let id = peer.id;
        self.set_unread(id);
    }

    /// Counts the shares of each address.
    fn count_crowds(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            peer.loan.crowd = 0;
        }
        for slot in 0..self.peers.len() {
            if let Some(peer) = &self.peers[slot]
                && peer.loan.share != Share::Nothing
            {
                self.count_in(peer.addr.ip());
            }
        }
    }

    fn count_in(&mut self, ip: IpAddr) {
        let same = |peer: &&mut Peer| peer.addr.ip() == ip;
        for peer in self.peers.iter_mut().flatten().filter(same) {
            peer.loan.crowd = peer.loan.crowd.saturating_add(1);
        }
    }

    /// Parts with those who take nothing while others wait for their share.
    fn part_with_the_stuck(&mut self, now: Instant) {
        for slot in 0..self.peers.len() {
            let Some(peer) = &self.peers[slot] else {
                continue;
            };
            let served = peer.loan.share == Share::Large && self.node.serves(peer.id);
            let stuck = now - peer.loan.taken >= patience(peer.loan.crowd);
            if peer.loan.share != Share::Nothing && !served && stuck {
                log::debug!("{}: it takes nothing, and others wait", peer.addr);
                let id = peer.id;
                self.node.event(now, Event::Closed(id));
                self.busy = true;
            }
        }
    }
}

/// How long who has a share may take nothing while others wait, as one of so many of its address.
fn patience(crowd: u16) -> Duration {
    (PATIENCE / u32::from(crowd.max(1))).max(LEAST_PATIENCE)
}

/// Bytes that do for a peer that is near: as many blocks as are written at a time, and once more what the kernel
/// sends of them.
const NEAR: usize = 512 * 1024;

/// What a peer can use, in what is on its way to it at its rate: that in packets with what the kernel adds to them,
/// the next write, and room to find out that it can have more.
const REACH: u64 = 4;

/// The time between questions whether a peer can use more.
const ASK: Duration = Duration::from_millis(20);

/// The time between looks while somebody waits.
const LOOK: Duration = Duration::from_millis(5);

/// As long as a packet may be lost and sent again a few times; and once, for a crowd.
const PATIENCE: Duration = Duration::from_secs(8);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_round() {
        use Share::{Large, Nothing, Small};
        let mut lending = Lending::new(2, NEAR + LEAST_HELD / 2);
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
        let mut lending = Lending::new(1, 16 * NEAR);
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
            let mut lending = Lending::new(1, bytes);
            lending.lent = lent;
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
                let first = Lending::new(1, bytes).first(served);
                assert!(first * served <= bytes && first <= NEAR, "{bytes} {served}");
            }
        }
    }

    #[test]
    fn a_crowd_has_less_patience() {
        assert_eq!(patience(0), PATIENCE);
        assert_eq!(patience(2), PATIENCE / 2);
        assert_eq!(patience(1000), LEAST_PATIENCE);
    }
}
