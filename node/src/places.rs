//! Who gets a place, and who leaves when there is none for others.
//!
//! Whoever speaks the protocol and wants something is useful, and stays. But seeming so costs
//! nothing, so no address keeps more places than others while others come: a crowd behind one
//! address, be it one attacker or a NAT, shrinks until it has no more than the next.

// There are at most `u16::MAX` slots.
#![allow(clippy::cast_possible_truncation)]

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use everseed_core::time::Instant;

use crate::Node;
use crate::conn::{Conn, ConnId, Reason, State};

/// Nobody is asked to leave for a newcomer before this.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(2);
const UNINTERESTED_GRACE: Duration = Duration::from_secs(60);

/// So many connections from one address are no crowd yet.
const COMPANY: usize = 8;

impl Node<'_> {
    /// Takes a connection that a peer made. `None` when there is no place: drop the socket.
    ///
    /// The last free place goes to the newcomer, and the least useful connection leaves for the next
    /// one: who has not finished its handshake for two seconds, then who has not been interested for
    /// a minute, the longest first. If there is nobody of the kind, an address (IPv6: a /64) with
    /// more than its share of the connections loses one to an address with fewer. If there is none
    /// either, later ones are refused, and a newcomer from a crowded address leaves the last place to
    /// others. Who sent bad pieces again and again is refused too. A refusal may be a matter of carrying out what [`poll`](Self::poll) asks for.
    pub fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<ConnId> {
        let place = match self.stopping || self.bans.is_banned(now, origin(from)) {
            true => None,
            false => self.place_for(now, from),
        };
        let Some(slot) = place else {
            self.turned_away += 1;
            return None;
        };
        let id = self.open(now, slot, from, State::Greeting);
        self.conns[slot].incoming = true;
        Some(id)
    }

    /// A free slot, and who leaves for it.
    fn place_for(&mut self, now: Instant, from: SocketAddr) -> Option<usize> {
        let slot = self.vacant()?;
        let last = usize::from(self.live) + 1 == self.conns.capacity();
        let victim = last.then(|| self.least_useful(now, from)).flatten();
        match victim {
            Some(victim) => self.close(victim, Reason::Crowded),
            None if last && self.is_crowd(from) => return None,
            None => {}
        }
        Some(slot)
    }

    /// Whose place a newcomer from this address may have.
    pub(crate) fn least_useful(&mut self, now: Instant, from: SocketAddr) -> Option<usize> {
        let oldest = |state: fn(&Conn) -> Option<Instant>, grace: Duration| {
            let of_kind = (0..self.conns.len()).filter_map(|s| Some((state(&self.conns[s])?, s)));
            of_kind
                .filter(|&(since, _)| now - since >= grace)
                .min()
                .map(|(_, slot)| slot)
        };
        let greeting: fn(&Conn) -> Option<Instant> =
            |c| (c.state == State::Greeting).then_some(c.opened);
        let uninterested: fn(&Conn) -> Option<Instant> =
            |c| (c.is_open() && !c.interested).then_some(c.since);
        oldest(greeting, HANDSHAKE_GRACE)
            .or_else(|| oldest(uninterested, UNINTERESTED_GRACE))
            .or_else(|| self.of_a_crowd(from))
    }

    /// Whether there are many connections from this address.
    pub(crate) fn is_crowd(&self, from: SocketAddr) -> bool {
        self.neighbours(origin(from)) >= COMPANY
    }

    /// A connection from the address that has the most, if a newcomer's has fewer: one that is not
    /// served, and of those the one that was sent least.
    fn of_a_crowd(&mut self, from: SocketAddr) -> Option<usize> {
        let (crowd, size) = self.largest_crowd()?;
        // The newcomer counts too: two addresses do not take places from each other in turns.
        if size <= COMPANY || size <= self.neighbours(origin(from)) + 1 {
            return None;
        }
        let of_it = |&slot: &usize| {
            let conn = &self.conns[slot];
            conn.is_live() && origin(conn.addr) == crowd
        };
        (0..self.conns.len()).filter(of_it).min_by_key(|&slot| {
            let conn = &self.conns[slot];
            (
                conn.unchoked,
                conn.is_open(),
                conn.interested,
                conn.uploaded,
            )
        })
    }

    /// The origin with the most connections, and how many. The choker's scratch serves to sort them.
    fn largest_crowd(&mut self) -> Option<(u64, usize)> {
        let len = self.line_up(Conn::is_live);
        let address = |slot: u16| origin(self.conns[usize::from(slot)].addr);
        let crowds = self.ranks[..len].chunk_by(|&a, &b| address(a) == address(b));
        let largest = crowds.max_by_key(|crowd| crowd.len())?;
        Some((address(*largest.first()?), largest.len()))
    }

    /// Puts connections of some kind into `ranks`, those from one address side by side, and says how
    /// many there are.
    pub(crate) fn line_up(&mut self, of_kind: fn(&Conn) -> bool) -> usize {
        let conns = &self.conns;
        let slots = (0..).zip(conns.iter()).filter(|(_, conn)| of_kind(conn));
        let mut len = 0;
        for (place, (slot, _)) in self.ranks.iter_mut().zip(slots) {
            *place = slot;
            len += 1;
        }
        let ranks = &mut self.ranks[..len];
        ranks.sort_unstable_by_key(|&slot| origin(conns[usize::from(slot)].addr));
        len
    }

    fn neighbours(&self, of: u64) -> usize {
        let near = |c: &&Conn| c.is_live() && origin(c.addr) == of;
        self.conns.iter().filter(near).count()
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 host chooses freely in.
pub(crate) fn origin(addr: SocketAddr) -> u64 {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}
