//! Admission decides which callers get a connection, and which connection is closed for a newcomer when all are taken.
//!
//! A peer that speaks the protocol and is interested is useful, and stays. An attacker can look useful at no cost. So no
//! address keeps more connections than others while others call. The peers behind one address, an attacker's or a NAT's,
//! leave one by one, until they are no more than those of the next address.
//!
//! Among useful peers the canonical priority decides (BEP 40), which both ends of a connection compute alike. Without it
//! a swarm of full nodes would fall apart into those that came first and those that came late. The priority needs our
//! address as seen from outside. It depends on addresses alone, so it is used for private torrents too. A peer does not
//! leave because of its priority if it is served or serves us, if the user named it, or if it came less than a minute ago.

// There are at most `u16::MAX` slots.
#![allow(clippy::cast_possible_truncation)]

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::time::Instant;

use crate::parts::Parts;
use crate::peer::{Conn, ConnId, LinkState, Reason, origin};
use crate::swarm::Swarm;

/// Callers that have not finished their handshake have this part of the places. While there are more, each new caller
/// makes the oldest of them leave, if that had [`HANDSHAKE_GRACE`].
const GREETING_SHARE: usize = 4;
const HANDSHAKE_GRACE: Duration = Duration::from_secs(2);

/// A peer that is not interested has so long before it leaves for a newcomer.
const UNINTERESTED_GRACE: Duration = Duration::from_secs(60);

/// A connection lasts so long before it gives way to a newcomer of a higher canonical priority.
const PRIORITY_GRACE: Duration = Duration::from_secs(60);

/// The connections that one address may have before they count as a crowd.
const CROWD_MIN: usize = 8;

impl Swarm<'_> {
    /// See [`Node::accept`](crate::Node::accept).
    pub(crate) fn accept(&mut self, on: &mut Parts<'_>, from: SocketAddr) -> Option<ConnId> {
        let place = match self.stopping || self.bans.is_banned(on.cx.now, origin(from)) {
            true => None,
            false => self.slot_for(on, from),
        };
        let Some(slot) = place else {
            self.turned_away += 1;
            return None;
        };
        Some(self.open(on, slot, from, true))
    }

    /// A free slot for a caller. If this was the last one, another connection is closed.
    fn slot_for(&mut self, on: &mut Parts<'_>, from: SocketAddr) -> Option<usize> {
        self.close_oldest_silent(on);
        let Some(slot) = on.cx.peers.vacant() else {
            // Calls of ours took the last one.
            if let Some(victim) = self.least_useful(on, from) {
                self.close(on, victim, Reason::Crowded);
            }
            return None;
        };
        let after = usize::from(on.cx.peers.live) + 1;
        let last = after >= self.most_connections(on);
        let victim = last.then(|| self.least_useful(on, from)).flatten();
        match victim {
            Some(victim) => self.close(on, victim, Reason::Crowded),
            None if after > self.most_connections(on) || last && self.is_crowd(on, from) => {
                return None;
            }
            None => {}
        }
        Some(slot)
    }

    /// Connections at a time, at most.
    pub(crate) fn most_connections(&self, on: &Parts<'_>) -> usize {
        let wanted = usize::from(self.limits.peers.max(1));
        on.cx.peers.capacity().min(wanted)
    }

    /// The connection that is closed for a newcomer from this address, if one may be.
    pub(crate) fn least_useful(&mut self, on: &mut Parts<'_>, from: SocketAddr) -> Option<usize> {
        let oldest = |state: fn(&Conn) -> Option<Instant>, grace: Duration| {
            let of_kind = (0..on.cx.peers.len()).filter_map(|s| Some((state(&on.cx.peers[s])?, s)));
            of_kind
                .filter(|&(since, _)| on.cx.now - since >= grace)
                .min()
                .map(|(_, slot)| slot)
        };
        let greeting: fn(&Conn) -> Option<Instant> =
            |c| (c.link.state == LinkState::Greeting).then_some(c.link.opened_at);
        let uninterested: fn(&Conn) -> Option<Instant> =
            |c| (c.is_open() && !c.upload.interested).then_some(c.upload.choke_changed_at);
        let uninterested = oldest(uninterested, UNINTERESTED_GRACE);
        oldest(greeting, HANDSHAKE_GRACE)
            .or_else(|| self.oldest_of_silent_callers(on))
            .or(uninterested)
            .or_else(|| self.least_useful_of_a_crowd(on, from))
            .or_else(|| self.lowest_priority(on, from))
    }

    /// The number of callers that have not finished their handshake, and how many may be so.
    fn silent_callers(&self, on: &Parts<'_>) -> (usize, usize) {
        let most = self.most_connections(on).div_ceil(GREETING_SHARE);
        (usize::from(on.cx.peers.handshaking), most)
    }

    /// Closes the oldest caller that has not finished its handshake, if there are too many of them.
    fn close_oldest_silent(&mut self, on: &mut Parts<'_>) {
        let (silent, most) = self.silent_callers(on);
        let late = |conn: &Conn| {
            conn.is_silent_caller() && on.cx.now - conn.link.opened_at >= HANDSHAKE_GRACE
        };
        let late = (0..on.cx.peers.len()).filter(|&slot| late(&on.cx.peers[slot]));
        if silent >= most
            && let Some(oldest) = late.min_by_key(|&slot| on.cx.peers[slot].link.opened_at)
        {
            self.close(on, oldest, Reason::Crowded);
        }
    }

    /// While too many callers have not finished their handshake: the oldest of the address that has most of them. So
    /// a flood of calls closes its own connections.
    fn oldest_of_silent_callers(&mut self, on: &mut Parts<'_>) -> Option<usize> {
        let (silent, most) = self.silent_callers(on);
        if silent < most {
            return None;
        }
        let (address, size) = self.largest_crowd(on, Conn::is_silent_caller)?;
        let of_it = |conn: &Conn| {
            conn.is_silent_caller() && (size == 1 || origin(conn.link.addr) == address)
        };
        let all = (0..on.cx.peers.len()).filter(|&slot| of_it(&on.cx.peers[slot]));
        all.min_by_key(|&slot| on.cx.peers[slot].link.opened_at)
    }

    /// Whether there are many connections from this address.
    pub(crate) fn is_crowd(&self, on: &Parts<'_>, from: SocketAddr) -> bool {
        self.connections_from(on, origin(from)) >= CROWD_MIN
    }

    /// A connection from the address that has the most, if a newcomer's has fewer: one that is choked first, and of
    /// those the one that was sent least.
    fn least_useful_of_a_crowd(&mut self, on: &mut Parts<'_>, from: SocketAddr) -> Option<usize> {
        let (crowd, size) = self.largest_crowd(on, Conn::is_live)?;
        // The newcomer counts too: two addresses do not take places from each other in turns.
        if size <= CROWD_MIN || size <= self.connections_from(on, origin(from)) + 1 {
            return None;
        }
        let of_it = |&slot: &usize| {
            let conn = &on.cx.peers[slot];
            conn.is_live() && origin(conn.link.addr) == crowd
        };
        (0..on.cx.peers.len()).filter(of_it).min_by_key(|&slot| {
            let conn = &on.cx.peers[slot];
            (
                conn.upload.unchoked,
                conn.is_open(),
                conn.upload.interested,
                conn.upload.uploaded,
            )
        })
    }

    /// Of the connections that may give way, the one of the lowest canonical priority (BEP 40). `None` if the newcomer's
    /// priority is lower, or its address has many connections already.
    fn lowest_priority(&self, on: &Parts<'_>, from: SocketAddr) -> Option<usize> {
        let candidates = &on.discovery.candidates;
        let newcomer = candidates.priority_if_known(from)?;
        if self.is_crowd(on, from) {
            return None;
        }
        let named = |conn: &Conn| {
            conn.link
                .candidate
                .is_some_and(|at| candidates.is_named(at))
        };
        let may_go = |conn: &Conn| {
            let serves_us = conn.download.unchoked && conn.download.interested;
            let old = on.cx.now - conn.link.opened_at >= PRIORITY_GRACE;
            conn.is_open() && old && !conn.upload.unchoked && !serves_us && !named(conn)
        };
        let all = (0..on.cx.peers.len()).filter(|&slot| may_go(&on.cx.peers[slot]));
        let ranked = all.filter_map(|slot| {
            let addr = on.cx.peers[slot].link.addr;
            Some((candidates.priority_if_known(addr)?, slot))
        });
        let (lowest, slot) = ranked.min()?;
        (lowest < newcomer).then_some(slot)
    }

    /// The origin with the most connections of a kind, and how many. The choker's scratch serves to sort them.
    fn largest_crowd(
        &mut self,
        on: &mut Parts<'_>,
        of_kind: fn(&Conn) -> bool,
    ) -> Option<(u64, usize)> {
        let len = on.cx.peers.line_up(on.upload.ranks, of_kind);
        let address = |slot: u16| origin(on.cx.peers[usize::from(slot)].link.addr);
        let crowds = on.upload.ranks[..len].chunk_by(|&a, &b| address(a) == address(b));
        let largest = crowds.max_by_key(|crowd| crowd.len())?;
        Some((address(*largest.first()?), largest.len()))
    }

    fn connections_from(&self, on: &Parts<'_>, of: u64) -> usize {
        let near = |c: &&Conn| c.is_live() && origin(c.link.addr) == of;
        on.cx.peers.iter().filter(near).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Have;
    use crate::parts::small::{parts, parts_of, peer};
    use crate::swarm::bans::BANNED_AT;
    use crate::swarm::tests::swarm;

    fn from(last: u8) -> SocketAddr {
        ([60, 0, 0, last], 5000).into()
    }

    #[test]
    fn who_is_refused_at_once() {
        for (stopping, banned, taken) in [
            (false, false, true),
            (true, false, false),
            (false, true, false),
        ] {
            let (mut parts, _) = parts(Have::All);
            let mut swarm = swarm();
            swarm.stopping = stopping;
            if banned {
                swarm.bans.charge(parts.cx.now, origin(from(1)), BANNED_AT);
            }
            assert_eq!(swarm.accept(&mut parts, from(1)).is_some(), taken);
            assert_eq!(swarm.turned_away, u64::from(!taken), "{stopping} {banned}");
        }
    }

    #[test]
    fn of_callers_that_say_nothing_the_oldest_leaves() {
        // A quarter of the eight places is for them. Seconds between the second and the third: does the first leave.
        for (seconds, leaves) in [(1, false), (2, true)] {
            let (mut parts, _) = parts(Have::All);
            let mut swarm = swarm();
            let [first, second] = [1, 2].map(|n| {
                let caller = swarm.accept(&mut parts, from(n)).unwrap();
                parts.cx.peers.slot(caller).unwrap()
            });
            parts.cx.now = parts.cx.now + Duration::from_secs(seconds);
            assert!(swarm.accept(&mut parts, from(3)).is_some());
            let crowded = LinkState::Closing(Reason::Crowded);
            let left = [first, second].map(|slot| parts.cx.peers[slot].link.state == crowded);
            assert_eq!(left, [leaves, false], "{seconds} s");
        }
    }

    #[test]
    fn who_leaves_when_all_places_are_taken() {
        // What is so of the peer in the third of eight places, seconds that they have been here: whether it leaves for a
        // newcomer, or the newcomer is refused.
        type Change = fn(&mut Parts<'_>, usize);
        let cases: [(&str, Change, u64, bool); 5] = [
            ("it is as useful as the others", |_, _| (), 60, false),
            (
                "it is not interested",
                |parts, slot| parts.cx.peers[slot].upload.interested = false,
                60,
                true,
            ),
            (
                "it is not, and came a moment ago",
                |parts, slot| parts.cx.peers[slot].upload.interested = false,
                59,
                false,
            ),
            (
                "its handshake takes long",
                |parts, slot| parts.cx.peers.set_state(slot, LinkState::Greeting),
                2,
                true,
            ),
            (
                "its handshake has just begun",
                |parts, slot| parts.cx.peers.set_state(slot, LinkState::Greeting),
                1,
                false,
            ),
        ];
        for (name, change, seconds, leaves) in cases {
            let (mut parts, id) = parts(Have::All);
            let mut swarm = swarm();
            for _ in 0..8 {
                let slot = peer(&mut parts.cx, id, true);
                parts.cx.peers[slot].upload.interested = true;
            }
            change(&mut parts, 2);
            parts.cx.now = parts.cx.now + Duration::from_secs(seconds);
            let leaver = swarm.least_useful(&mut parts, from(1));
            assert_eq!(leaver, leaves.then_some(2), "{name}");
        }
    }

    #[test]
    fn the_largest_crowd_makes_room() {
        // Connections from one address and from a second, and from the newcomer's: whether one of the first leaves.
        for (crowd, second, own, leaves) in [
            (9, 3, 0, true),
            (8, 4, 0, false),
            (9, 3, 8, false),
            (9, 3, 7, true),
        ] {
            let (mut parts, id) = parts_of(Have::All, 20);
            let mut swarm = swarm();
            swarm.limits.peers = 20;
            let addresses = [(crowd, 7), (second, 8), (own, 1)];
            for (count, last) in addresses {
                for _ in 0..count {
                    let slot = peer(&mut parts.cx, id, true);
                    parts.cx.peers[slot].link.addr = from(last);
                    parts.cx.peers[slot].upload.interested = true;
                }
            }
            // Who is served stays longer than who is not.
            parts.cx.peers[0].upload.unchoked = true;
            let leaver = swarm.least_useful(&mut parts, from(1));
            assert_eq!(leaver, leaves.then_some(1), "{crowd} {second} {own}");
            assert_eq!(swarm.is_crowd(&parts, from(7)), crowd >= 8);
        }
    }
}
