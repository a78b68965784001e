//! PEX (BEP 11): peers are told the addresses of others, and tell us of theirs.
//!
//! If the torrent's publicity allows it, every peer is told where the others can be called, once a minute at most. A
//! message names at most 50, in the order in which they came. It is told only addresses that mean the same to it as
//! to us, see [`Scope`]: strangers outside learn nothing of the house. The same rule decides which addresses a peer
//! may name.

use core::net::SocketAddr;

use everseed_core::geometry::TorrentId;
use everseed_core::pex::{self, Flags, MAX_PEERS, Peer};

use crate::broken::broken;
use crate::discovery::candidates::{Named, PeerSource};
use crate::discovery::pex::{First, HEAR_EVERY, TELL_EVERY};
use crate::discovery::scope::Scope;
use crate::parts::Parts;
use crate::peer::{Conn, Reason, origin};
use crate::swarm::Swarm;
use crate::torrent::Torrent;
use crate::torrent::gossip::Gossip;
use crate::wake::Wake;

impl Swarm<'_> {
    /// A peer joins those that others are told of, once it is known where it can be called.
    pub(crate) fn add_to_pex(&mut self, on: &mut Parts<'_>, slot: usize) {
        let conn = &mut on.cx.peers[slot];
        let Some(addr) = conn.callable().filter(|_| conn.is_open()) else {
            return;
        };
        let torrent = conn.link.torrent.and_then(|id| on.cx.torrents.get_mut(id));
        if let Some(torrent) = torrent
            && conn.extensions.pex.arrival == 0
        {
            conn.extensions.pex.arrival = torrent.gossip.came(addr);
            on.cx.wakes.add(Wake::TellPeers);
        }
    }

    /// An open connection ends: its peer leaves those that others are told of.
    pub(crate) fn drop_from_pex(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        torrent: TorrentId,
        reason: Reason,
    ) {
        let freed = self.pex.done(on.cx.peers.id(slot));
        on.cx.wakes.add_if(Wake::TellPeers, freed);
        let Some(peer) = told_of(on, slot, torrent) else {
            return;
        };
        let arrival = on.cx.peers[slot].extensions.pex.arrival;
        // A seed that did nothing wrong is as good as before for those who have not all.
        let well = matches!(
            reason,
            Reason::BothSeeds | Reason::Gone | Reason::Crowded | Reason::Idle
        );
        let flags = match well {
            true => peer.flags,
            false => Flags::NONE,
        };
        if let Some(torrent) = on.cx.torrents.get_mut(torrent) {
            torrent
                .gossip
                .left(on.cx.now, arrival, Peer { flags, ..peer });
        }
    }

    /// Writes the PEX messages that are due, as many as there is room for.
    pub(crate) fn send_pex(&mut self, on: &mut Parts<'_>) {
        while on.cx.wakes.has(Wake::TellPeers) && self.pex.has_room() {
            let len = on.cx.peers.len();
            let (first, rest) = (self.pex.turn.min(len)..len, 0..self.pex.turn.min(len));
            let next = first.chain(rest).find(|&slot| is_due(on, slot));
            let Some(slot) = next else {
                on.cx.wakes.take(Wake::TellPeers);
                return;
            };
            self.pex.turn = slot + 1;
            self.send_pex_to(on, slot);
        }
    }

    /// Writes the PEX message of one peer, if there is something to tell it.
    fn send_pex_to(&mut self, on: &mut Parts<'_>, slot: usize) {
        let conn = &on.cx.peers[slot];
        let Some((id, torrent)) = conn
            .link
            .torrent
            .and_then(|id| Some((id, on.cx.torrents.get(id)?)))
        else {
            return broken("a torrent of whose peers to tell");
        };
        let (told, told_left) = (conn.extensions.pex.told, conn.extensions.pex.told_left);
        let (scope, own) = (Scope::of(conn.link.addr.ip()), conn.callable());
        let concerns = |addr: SocketAddr| scope.may_name(addr.ip()) && Some(addr) != own;
        let mut first = First::default();
        for other in 0..on.cx.peers.len() {
            let arrival = on.cx.peers[other].extensions.pex.arrival;
            if arrival > told
                && let Some(peer) = told_of(on, other, id).filter(|peer| concerns(peer.addr))
            {
                first.take(arrival, peer);
            }
        }
        for (arrival, peer) in torrent.gossip.seeds_lately(on.cx.now) {
            if arrival > told && concerns(peer.addr) {
                first.take(arrival, peer);
            }
        }
        let gone = torrent
            .gossip
            .gone(told_left, told)
            .filter(|&addr| concerns(addr));
        let gone: heapless::Vec<SocketAddr, MAX_PEERS> = gone.take(MAX_PEERS).collect();
        let (arrivals, departures) = (torrent.gossip.arrivals, torrent.gossip.departures);
        let (added, now) = (first.peers(), on.cx.now);
        let to = on.cx.peers.id(slot);
        let extensions = &mut on.cx.peers[slot].extensions;
        extensions.pex.told = first.last().unwrap_or(arrivals);
        extensions.pex.told_left = departures;
        if !added.is_empty() || !gone.is_empty() {
            extensions.pex.tell_at = now + TELL_EVERY;
            self.pex.put(to, extensions.ut_pex, &added, &gone);
            // Who does not read it holds up others.
            on.cx.peers[slot].link.last_sent_at = now;
            on.cx.peers.make_ready(slot);
        }
    }

    /// Takes the PEX message of a peer.
    pub(crate) fn pex_received(&mut self, on: &mut Parts<'_>, slot: usize, message: &[u8]) {
        let now = on.cx.now;
        let conn = &mut on.cx.peers[slot];
        let Some(torrent) = conn.link.torrent else {
            return;
        };
        if !on.cx.torrents.publicity(torrent).pex() || now < conn.extensions.pex.hear_at {
            return;
        }
        conn.extensions.pex.hear_at = now + HEAR_EVERY;
        let (from, scope) = (conn.link.addr, Scope::of(conn.link.addr.ip()));
        let whole = |t: &Torrent| !t.lacks_metadata() && !t.is_active_download();
        let seeds = on.cx.torrents.get(torrent).is_some_and(whole);
        let (discovery, torrents) = (&mut on.discovery, &on.cx.torrents);
        pex::read(message, |peer: Peer| {
            let useful = !seeds || !peer.flags.has(Flags::SEED);
            if useful && scope.may_name(peer.addr.ip()) {
                let named = Named {
                    torrent,
                    addr: peer.addr,
                    source: PeerSource::Pex,
                    by: Some(origin(from)),
                };
                discovery.add_candidate(now, torrents, named);
            }
        });
    }
}

/// Whether a PEX message to a peer is due: there is something new, and it was not told too recently.
fn is_due(on: &Parts<'_>, slot: usize) -> bool {
    let conn = &on.cx.peers[slot];
    let (pex, torrent) = (&conn.extensions.pex, conn.link.torrent);
    if !conn.is_open() || conn.extensions.ut_pex == 0 || on.cx.now < pex.tell_at {
        return false;
    }
    torrent.is_some_and(|id| {
        let news =
            |gossip: &Gossip| gossip.arrivals != pex.told || gossip.departures != pex.told_left;
        on.cx.torrents.publicity(id).pex()
            && on.cx.torrents.get(id).is_some_and(|t| news(&t.gossip))
    })
}

/// The peer of a connection, as others are told of it.
fn told_of(on: &Parts<'_>, slot: usize, torrent: TorrentId) -> Option<Peer> {
    let conn: &Conn = &on.cx.peers[slot];
    let its = conn.is_open() && conn.link.torrent == Some(torrent);
    let addr = conn
        .callable()
        .filter(|_| its && conn.extensions.pex.arrival > 0)?;
    let pieces = on.cx.pieces_of(slot);
    let seed = conn.extensions.upload_only || pieces > 0 && conn.download.have_count >= pieces;
    let flags = Flags::NONE
        .with(Flags::SEED, seed)
        .with(Flags::REACHABLE, !conn.link.incoming)
        .with(Flags::ENCRYPTION, conn.extensions.encryption);
    Some(Peer { addr, flags })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::time::Duration;
    use std::vec::Vec;

    use super::*;
    use crate::api::Have;
    use crate::parts::small::{parts, peer};
    use crate::swarm::tests::swarm;
    use crate::torrent::publicity::Publicity;

    const PUBLIC: Publicity = Publicity::NONE.with_pex();

    /// A peer that can be called at port 7000 and its slot, and that wants PEX messages by the id 5.
    fn callable(parts: &mut Parts<'static>, swarm: &mut Swarm<'_>, id: TorrentId) -> usize {
        let slot = peer(&mut parts.cx, id, true);
        let port = 7000 + u16::try_from(slot).unwrap();
        let conn = &mut parts.cx.peers[slot];
        conn.link.addr.set_ip([60, 0, 0, 1].into());
        (conn.link.listen_port, conn.extensions.ut_pex) = (port, 5);
        swarm.add_to_pex(parts, slot);
        slot
    }

    /// The ports that a peer is to be told of.
    fn told(parts: &Parts<'_>, swarm: &Swarm<'_>, slot: usize) -> Option<Vec<u16>> {
        let (id, message) = swarm.pex.to(parts.cx.peers.id(slot))?;
        assert_eq!(id, 5);
        let mut ports = Vec::new();
        pex::read(message, |peer| ports.push(peer.addr.port()));
        Some(ports)
    }

    #[test]
    fn only_peers_that_can_be_called_are_told_of() {
        for (port, open, arrival) in [(7000, true, 1), (0, true, 0), (7000, false, 0)] {
            let (mut parts, id) = parts(Have::All);
            let slot = peer(&mut parts.cx, id, true);
            parts.cx.peers[slot].link.listen_port = port;
            if !open {
                parts
                    .cx
                    .peers
                    .set_state(slot, crate::peer::LinkState::Greeting);
            }
            let mut swarm = swarm();
            swarm.add_to_pex(&mut parts, slot);
            swarm.add_to_pex(&mut parts, slot);
            assert_eq!(
                parts.cx.peers[slot].extensions.pex.arrival, arrival,
                "{port} {open}"
            );
            assert_eq!(
                parts.cx.wakes.has(Wake::TellPeers),
                arrival > 0,
                "{port} {open}"
            );
        }
    }

    #[test]
    fn whoever_may_be_told_is_told_of_all_others() {
        // The torrent's publicity, and the id by which the peer wants messages: the ports that it is told.
        for (publicity, ut_pex, ports) in [
            (PUBLIC, 5, Some(&[7001, 7002][..])),
            (PUBLIC, 0, None),
            (Publicity::NONE, 5, None),
            (Publicity::PRIVATE, 5, None),
        ] {
            let (mut parts, id) = parts(Have::All);
            let mut swarm = swarm();
            parts.cx.torrents.registry.set_publicity(id, publicity);
            let slots = [(); 3].map(|()| callable(&mut parts, &mut swarm, id));
            let first = slots[0];
            parts.cx.peers[first].extensions.ut_pex = ut_pex;
            swarm.send_pex(&mut parts);
            let is = told(&parts, &swarm, first);
            assert_eq!(is.as_deref(), ports, "{publicity:?} {ut_pex}");
        }
    }

    #[test]
    fn a_peer_is_told_once_a_minute_of_what_is_new() {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        parts.cx.torrents.registry.set_publicity(id, PUBLIC);
        let first = callable(&mut parts, &mut swarm, id);
        callable(&mut parts, &mut swarm, id);
        swarm.send_pex(&mut parts);
        assert_eq!(told(&parts, &swarm, first), Some(std::vec![7001]));
        assert!(swarm.pex.done(parts.cx.peers.id(first)));
        callable(&mut parts, &mut swarm, id);
        for (seconds, ports) in [(59, None), (1, Some(std::vec![7002]))] {
            parts.cx.now = parts.cx.now + Duration::from_secs(seconds);
            parts.cx.wakes.add(Wake::TellPeers);
            for slot in 1..3 {
                swarm.pex.done(parts.cx.peers.id(slot));
            }
            swarm.send_pex(&mut parts);
            assert_eq!(told(&parts, &swarm, first), ports, "after {seconds} s more");
        }
    }

    #[test]
    fn a_seed_that_left_well_is_still_told_of() {
        for (seed, reason, expected) in [
            (true, Reason::BothSeeds, true),
            (true, Reason::Gone, true),
            (true, Reason::BadPieces, false),
            (false, Reason::Gone, false),
        ] {
            let (mut parts, id) = parts(Have::All);
            let mut swarm = swarm();
            let slot = callable(&mut parts, &mut swarm, id);
            parts.cx.peers[slot].extensions.upload_only = seed;
            swarm.drop_from_pex(&mut parts, slot, id, reason);
            let gossip = &parts.cx.torrents.get(id).unwrap().gossip;
            let is = gossip.seeds_lately(parts.cx.now).next().is_some();
            assert_eq!(is, expected, "{seed} {reason:?}");
            assert_eq!(gossip.departures, 1);
        }
    }

    #[test]
    fn whom_a_peer_may_name() {
        // Who names whom, whether it is a seed, what we have, by what peers may be found: whether it is a candidate.
        let (outside, home) = ([60, 0, 0, 1], [192, 168, 0, 7]);
        for (from, named, seed, have, publicity, taken) in [
            (outside, [61, 0, 0, 1], false, Have::All, PUBLIC, true),
            (outside, [61, 0, 0, 1], true, Have::All, PUBLIC, false),
            (outside, [61, 0, 0, 1], true, Have::Nothing, PUBLIC, true),
            (outside, home, false, Have::All, PUBLIC, false),
            (home, [192, 168, 0, 8], false, Have::All, PUBLIC, true),
            (
                outside,
                [61, 0, 0, 1],
                false,
                Have::All,
                Publicity::NONE,
                false,
            ),
            (
                outside,
                [61, 0, 0, 1],
                false,
                Have::All,
                Publicity::PRIVATE,
                false,
            ),
        ] {
            let (mut parts, id) = parts(have);
            parts.cx.torrents.registry.set_publicity(id, publicity);
            let slot = peer(&mut parts.cx, id, true);
            parts.cx.peers[slot].link.addr = (from, 1).into();
            let flags = Flags::NONE.with(Flags::SEED, seed);
            let addr = (named, 7000).into();
            let mut message = [0; pex::MAX_LEN];
            let len = pex::write(&[Peer { addr, flags }], &[], &mut message).unwrap();
            swarm().pex_received(&mut parts, slot, &message[..len]);
            let is = parts.discovery.candidates.any_of(id);
            assert_eq!(
                is, taken,
                "{from:?} {named:?} {seed} {have:?} {publicity:?}"
            );
        }
    }

    #[test]
    fn a_message_that_comes_too_soon_is_ignored() {
        for (seconds, taken) in [(54, false), (55, true)] {
            let (mut parts, id) = parts(Have::All);
            let mut swarm = swarm();
            parts.cx.torrents.registry.set_publicity(id, PUBLIC);
            let slot = callable(&mut parts, &mut swarm, id);
            swarm.pex_received(&mut parts, slot, b"de");
            parts.cx.now = parts.cx.now + Duration::from_secs(seconds);
            let message = b"d5:added6:\x3d\0\0\x01\x1a\xe17:added.f1:\0e";
            swarm.pex_received(&mut parts, slot, message);
            assert_eq!(parts.discovery.candidates.any_of(id), taken, "{seconds} s");
        }
    }
}
