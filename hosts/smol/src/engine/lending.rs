//! Who may have the kernel hold how much, so that all together stay within the budget: see `memory`.
//!
//! A peer that is served has a large share. Everybody else has a small one, called a place, from when something
//! is written to it until the kernel says that it took that. There is a number of both; what a peer has left in
//! the kernel keeps its share even when it is choked. Who finds none waits, and there is a look at those who have
//! one all the time that somebody waits: who takes nothing leaves, the sooner the more places its address has.
//!
//! Peers that were asked for blocks share what the kernel may hold of those in equal parts.
//!
//! Invariant: `small` peers have a small share and `large` a large one, which are no more than there are;
//! `givers` peers have room for blocks.

use std::net::IpAddr;
use std::time::Duration;

use everseed_core::time::Instant;
use everseed_node::{ConnId, Event, Reason};
use socket2::SockRef;

use super::{Engine, Peer, find};
use crate::socket::{UNACCEPTED, UNSERVED_WRITTEN};
use crate::sockopt;

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
    slots: usize,
    small: usize,
    large: usize,
    givers: usize,
    /// Whether somebody who is served makes do with a small share.
    short: bool,
    /// When to look whether somebody took what it was sent, if somebody waits for that.
    pub(super) look_at: Option<Instant>,
}

impl Lending {
    pub(super) fn new(places: usize, slots: usize) -> Lending {
        Lending {
            places,
            slots,
            small: 0,
            large: 0,
            givers: 0,
            short: false,
            look_at: None,
        }
    }

    /// The share that a peer has from now on that has this one and is served, or not.
    fn claim(&mut self, has: Share, served: bool) -> Share {
        let gets = match has {
            Share::Large => Share::Large,
            _ if served && self.large < self.slots => Share::Large,
            Share::Nothing if self.small == self.places => Share::Nothing,
            _ => Share::Small,
        };
        self.change(has, gets);
        gets
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
        let has = self.lending.claim(had, served);
        if has != had {
            peer.loan = Loan {
                share: has,
                waits: None,
                used: had != Share::Nothing,
                left: u32::MAX,
                taken: now,
                ..peer.loan
            };
            if has == Share::Large {
                self.held.serve(&peer.stream);
            }
        }
        let short = served && has == Share::Small;
        self.lending.short |= short;
        if short || has == Share::Nothing {
            self.lending.look_soon(now);
        }
        if has == Share::Nothing {
            peer.loan.waits.get_or_insert(now);
            return None;
        }
        self.make_room_for_blocks(id);
        match served && has == Share::Large {
            true => Some(self.buffer.len()),
            false => Some(UNSERVED_WRITTEN),
        }
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
            (false, Share::Large) => self.held.of_requests(),
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
        let short = std::mem::take(&mut self.lending.short);
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

    /// Takes a share back whose owner has taken what it was sent.
    fn collect(&mut self, now: Instant, slot: usize) {
        let Some(peer) = &mut self.peers[slot] else {
            return;
        };
        let (has, served) = (peer.loan.share, self.node.serves(peer.id));
        if has == Share::Nothing || (has == Share::Large && served) {
            return;
        }
        // A kernel that does not tell is believed to hold nothing when it takes more.
        let left = sockopt::unacknowledged(&peer.stream);
        let left = left.unwrap_or(u32::from(!peer.writable));
        if left < peer.loan.left {
            (peer.loan.left, peer.loan.taken) = (left, now);
        }
        if left > 0 {
            return;
        }
        if has == Share::Large {
            self.held.serve_no_longer(&peer.stream);
        }
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

/// The time between looks while somebody waits.
const LOOK: Duration = Duration::from_millis(20);

/// As long as a packet may be lost and sent again a few times; and once, for a crowd.
const PATIENCE: Duration = Duration::from_secs(8);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_round() {
        use Share::{Large, Nothing, Small};
        let mut lending = Lending::new(2, 1);
        // What a peer has, whether it is served, and what it has then.
        let table = [
            (Nothing, false, Small),
            (Nothing, true, Large),
            // Large ones are used up.
            (Nothing, true, Small),
            (Nothing, true, Nothing),
            (Nothing, false, Nothing),
            (Small, true, Small),
            (Large, false, Large),
        ];
        for (has, served, gets) in table {
            assert_eq!(lending.claim(has, served), gets, "{has:?} {served}");
        }
        assert_eq!((lending.small, lending.large), (2, 1));
        lending.change(Large, Nothing);
        assert_eq!(lending.claim(Small, true), Large);
        assert_eq!((lending.small, lending.large), (1, 1));
    }

    #[test]
    fn a_crowd_has_less_patience() {
        assert_eq!(patience(0), PATIENCE);
        assert_eq!(patience(2), PATIENCE / 2);
        assert_eq!(patience(1000), LEAST_PATIENCE);
    }
}
