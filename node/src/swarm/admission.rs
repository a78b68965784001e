//! Who gets a place, and who leaves when there is none for others.
//!
//! Whoever speaks the protocol and wants something is useful, and stays. But seeming so costs
//! nothing, so no address keeps more places than others while others come: a crowd behind one
//! address, be it one attacker or a NAT, shrinks until it has no more than the next.

// There are at most `u16::MAX` slots.
#![allow(clippy::cast_possible_truncation)]

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::time::Instant;

use crate::Node;
use crate::peer::{Conn, ConnId, Reason, State, origin};

/// Callers who have not finished their handshake have this part of the places. While there are more, the one
/// that has waited longest leaves when somebody calls, if it had so long.
const GREETING_SHARE: usize = 4;
const HANDSHAKE_GRACE: Duration = Duration::from_secs(2);

/// Nobody who is not interested is asked to leave for a newcomer before this.
const UNINTERESTED_GRACE: Duration = Duration::from_secs(60);

/// So many connections from one address are no crowd yet.
const COMPANY: usize = 8;

impl Node<'_> {
    /// Takes a connection that a peer made. `None` when there is no place: drop the socket.
    ///
    /// Callers who have not finished their handshake may have a quarter of the places, and for two seconds
    /// whatever is free: of more than that the oldest leaves. The last free place goes to the newcomer, and
    /// the least useful connection leaves for the next one: who has not finished its handshake for two
    /// seconds, then one of the address with the most such callers if there are more than a quarter, then
    /// who has not been interested for a minute, the longest first. If there is nobody of the kind, an address (IPv6: a /64) with
    /// more than its share of the connections loses one to an address with fewer. If there is none
    /// either, later ones are refused, and a newcomer from a crowded address leaves the last place to
    /// others. Who sent bad pieces again and again is refused too. A refusal may be a matter of carrying out what [`poll`](Self::poll) asks for.
    pub fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<ConnId> {
        self.now = now;
        let place = match self.stopping || self.swarm.bans.is_banned(now, origin(from)) {
            true => None,
            false => self.place_for(now, from),
        };
        let Some(slot) = place else {
            self.swarm.turned_away += 1;
            return None;
        };
        Some(self.open(now, slot, from, true))
    }

    /// A free slot, and who leaves for it.
    fn place_for(&mut self, now: Instant, from: SocketAddr) -> Option<usize> {
        self.part_with_silent(now);
        let Some(slot) = self.peers.vacant() else {
            // Calls of ours took the last one.
            if let Some(victim) = self.least_useful(now, from) {
                self.close(victim, Reason::Crowded);
            }
            return None;
        };
        let after = usize::from(self.peers.live) + 1;
        let last = after >= self.places();
        let victim = last.then(|| self.least_useful(now, from)).flatten();
        match victim {
            Some(victim) => self.close(victim, Reason::Crowded),
            None if after > self.places() || last && self.is_crowd(from) => return None,
            None => {}
        }
        Some(slot)
    }

    /// Connections at a time, at most.
    pub(crate) fn places(&self) -> usize {
        let wanted = usize::from(self.limits.peers.max(1));
        self.peers.capacity().min(wanted)
    }

    /// Whose place a newcomer from this address may have.
    pub(crate) fn least_useful(&mut self, now: Instant, from: SocketAddr) -> Option<usize> {
        let oldest = |state: fn(&Conn) -> Option<Instant>, grace: Duration| {
            let of_kind = (0..self.peers.len()).filter_map(|s| Some((state(&self.peers[s])?, s)));
            of_kind
                .filter(|&(since, _)| now - since >= grace)
                .min()
                .map(|(_, slot)| slot)
        };
        let greeting: fn(&Conn) -> Option<Instant> =
            |c| (c.link.state == State::Greeting).then_some(c.link.opened_at);
        let uninterested: fn(&Conn) -> Option<Instant> =
            |c| (c.is_open() && !c.upload.interested).then_some(c.upload.choke_changed_at);
        let uninterested = oldest(uninterested, UNINTERESTED_GRACE);
        oldest(greeting, HANDSHAKE_GRACE)
            .or_else(|| self.of_many_silent())
            .or(uninterested)
            .or_else(|| self.of_a_crowd(from))
    }

    /// Callers who have not finished their handshake, and how many they may be.
    fn silent(&self) -> (usize, usize) {
        let most = self.places().div_ceil(GREETING_SHARE);
        (usize::from(self.peers.handshaking), most)
    }

    /// Lets the oldest caller go who has not finished its handshake, if there are more than there may be.
    fn part_with_silent(&mut self, now: Instant) {
        let (silent, most) = self.silent();
        let late =
            |conn: &Conn| conn.is_silent_caller() && now - conn.link.opened_at >= HANDSHAKE_GRACE;
        let late = (0..self.peers.len()).filter(|&slot| late(&self.peers[slot]));
        if silent >= most
            && let Some(oldest) = late.min_by_key(|&slot| self.peers[slot].link.opened_at)
        {
            self.close(oldest, Reason::Crowded);
        }
    }

    /// While callers who have not finished their handshake are too many, the oldest of the address that has
    /// most of them, however young: who floods us so pushes out itself.
    fn of_many_silent(&mut self) -> Option<usize> {
        let (silent, most) = self.silent();
        if silent < most {
            return None;
        }
        let (address, size) = self.largest_crowd(Conn::is_silent_caller)?;
        let of_it = |conn: &Conn| {
            conn.is_silent_caller() && (size == 1 || origin(conn.link.addr) == address)
        };
        let all = (0..self.peers.len()).filter(|&slot| of_it(&self.peers[slot]));
        all.min_by_key(|&slot| self.peers[slot].link.opened_at)
    }

    /// Whether there are many connections from this address.
    pub(crate) fn is_crowd(&self, from: SocketAddr) -> bool {
        self.neighbours(origin(from)) >= COMPANY
    }

    /// A connection from the address that has the most, if a newcomer's has fewer: one that is not
    /// served, and of those the one that was sent least.
    fn of_a_crowd(&mut self, from: SocketAddr) -> Option<usize> {
        let (crowd, size) = self.largest_crowd(Conn::is_live)?;
        // The newcomer counts too: two addresses do not take places from each other in turns.
        if size <= COMPANY || size <= self.neighbours(origin(from)) + 1 {
            return None;
        }
        let of_it = |&slot: &usize| {
            let conn = &self.peers[slot];
            conn.is_live() && origin(conn.link.addr) == crowd
        };
        (0..self.peers.len()).filter(of_it).min_by_key(|&slot| {
            let conn = &self.peers[slot];
            (
                conn.upload.unchoked,
                conn.is_open(),
                conn.upload.interested,
                conn.upload.uploaded,
            )
        })
    }

    /// The origin with the most connections of a kind, and how many. The choker's scratch serves to sort them.
    fn largest_crowd(&mut self, of_kind: fn(&Conn) -> bool) -> Option<(u64, usize)> {
        let len = self.peers.line_up(self.upload.ranks, of_kind);
        let address = |slot: u16| origin(self.peers[usize::from(slot)].link.addr);
        let crowds = self.upload.ranks[..len].chunk_by(|&a, &b| address(a) == address(b));
        let largest = crowds.max_by_key(|crowd| crowd.len())?;
        Some((address(*largest.first()?), largest.len()))
    }

    fn neighbours(&self, of: u64) -> usize {
        let near = |c: &&Conn| c.is_live() && origin(c.link.addr) == of;
        self.peers.iter().filter(near).count()
    }
}
