//! The life of a connection: its slot, calls to candidates, and its end.

use core::net::SocketAddr;

use everseed_core::geometry::TorrentId;

use crate::api::Action;
use crate::discovery::NUM_WANT;
use crate::discovery::candidates::{Fate, Named, Need, PeerSource};
use crate::parts::Parts;
use crate::peer::origin;
use crate::peer::{Conn, ConnId, LinkState, Reason};
use crate::swarm::Swarm;
use crate::swarm::timers;
use crate::torrent;
use crate::wake::Wake;

impl Swarm<'_> {
    /// Opens a connection in a free slot.
    pub(crate) fn open(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        addr: SocketAddr,
        incoming: bool,
    ) -> ConnId {
        on.cx.peers.open(on.cx.now, slot, addr, incoming);
        self.next_sweep.get_or_insert(on.cx.now + timers::PERIOD);
        on.cx.peers.id(slot)
    }

    /// The host has connected to a peer that we called.
    pub(crate) fn connected(&mut self, on: &mut Parts<'_>, id: ConnId) {
        let Some(slot) = on.cx.peers.slot(id) else {
            return;
        };
        if on.cx.peers[slot].link.state == LinkState::Dialling {
            on.cx.peers.set_state(slot, LinkState::Greeting);
            let conn = &mut on.cx.peers[slot];
            conn.link.opened_at = on.cx.now;
            conn.link.last_received_at = on.cx.now;
            on.cx.peers.make_ready(slot);
        }
    }

    /// Ends a connection; `poll` tells the host.
    pub(crate) fn close(&mut self, on: &mut Parts<'_>, slot: usize, reason: Reason) {
        if !on.cx.peers[slot].is_live() {
            return;
        }
        log::debug!("{}: closed, {reason}", on.cx.peers[slot].link.addr);
        self.turned_away += u64::from(matches!(reason, Reason::Crowded | Reason::Asleep));
        let fate = self.fate(on, slot, reason);
        on.download.drop_all_pending(&mut on.cx, slot, false);
        on.download.availability.forget_bits(&mut on.cx, slot);
        if let Some(torrent) = on.cx.peers[slot].link.torrent {
            self.drop_from_pex(on, slot, torrent, reason);
        }
        let conn = &mut on.cx.peers[slot];
        let (candidate, torrent) = (conn.link.candidate.take(), conn.link.torrent.take());
        let callable = conn.callable();
        on.upload.queue.clear(&mut conn.upload.requests);
        on.cx.wakes.add_if(Wake::FillSlots, conn.upload.unchoked);
        conn.upload.unchoked = false;
        conn.upload.interested = false;
        let served_us = core::mem::take(&mut conn.download.unchoked);
        on.cx.peers.set_state(slot, LinkState::Closing(reason));
        if served_us {
            on.download.count_active_sources(&mut on.cx);
        }
        let need = torrent.map_or(Need::Seeds, |id| self.need(on, id));
        match (candidate, fate, torrent.zip(callable)) {
            (Some(candidate), ..) => on
                .discovery
                .candidates
                .done(on.cx.now, candidate, fate, need),
            // Whoever called us and gave us something is worth a call, if it can be called.
            (None, Fate::Good { .. }, Some((torrent, addr))) if need != Need::Seeds => {
                let named = Named {
                    torrent,
                    addr,
                    source: PeerSource::Caller,
                    by: None,
                };
                on.discovery
                    .add_candidate(on.cx.now, &on.cx.torrents, named);
            }
            _ => {}
        }
        if let Some(torrent) = torrent.and_then(|id| on.cx.torrents.get_mut(id)) {
            torrent.conns -= 1;
        }
        on.cx.peers.make_ready(slot);
    }

    /// How much a torrent needs peers that can be called.
    fn need(&self, on: &Parts<'_>, torrent: TorrentId) -> Need {
        if !on.cx.torrents.is_downloading(torrent) {
            return Need::Seeds;
        }
        match on.cx.has_nobody(torrent) {
            true => Need::HasNobody,
            false => Need::IsServed,
        }
    }

    pub(crate) fn close_all(&mut self, on: &mut Parts<'_>, torrent: TorrentId, reason: Reason) {
        for slot in 0..on.cx.peers.len() {
            if on.cx.peers[slot].link.torrent == Some(torrent) {
                self.close(on, slot, reason);
            }
        }
    }

    /// Whether a peer may be called now: there is room, and few calls are being made.
    pub(crate) fn may_dial(&self, on: &Parts<'_>) -> bool {
        !self.stopping && on.cx.peers.dialling < MAX_DIALS && self.room_to_dial(on)
    }

    /// Whether there is a place for a call. Callers keep half of the places.
    pub(crate) fn room_to_dial(&self, on: &Parts<'_>) -> bool {
        // Who has only called has no say in it: whoever is called comes before.
        let (live, places) = (usize::from(on.cx.peers.live), self.most_connections(on));
        live < places && live - usize::from(on.cx.peers.handshaking) < (places / 2).max(1)
    }

    /// Peers that a tracker is asked for.
    pub(crate) fn num_want(&self, on: &Parts<'_>) -> u16 {
        match self.room_to_dial(on) {
            true => NUM_WANT,
            false => 0,
        }
    }

    /// Begins a connection to a candidate that is due.
    pub(crate) fn dial(&mut self, on: &mut Parts<'_>) -> Option<Action> {
        let due = on
            .discovery
            .candidates
            .deadline()
            .is_some_and(|at| at <= on.cx.now);
        if !due || !self.may_dial(on) {
            return None;
        }
        let slot = on.cx.peers.vacant()?;
        loop {
            let (candidate, torrent, addr) = on.discovery.candidates.take(on.cx.now)?;
            let active = |t: &&mut torrent::Torrent| t.state == torrent::TorrentState::Active;
            if self.bans.is_banned(on.cx.now, origin(addr)) {
                on.discovery
                    .candidates
                    .done(on.cx.now, candidate, Fate::Banned, Need::Seeds);
            } else if let Some(known) = self.connection_to(on, torrent, addr) {
                // It is called when that ends.
                on.cx.peers[known].link.candidate = Some(candidate);
            } else if let Some(entry) = on.cx.torrents.get_mut(torrent).filter(active) {
                entry.conns += 1;
                self.open(on, slot, addr, false);
                let ip = addr.ip().to_canonical();
                let called_us = |c: &Conn| {
                    let its = c.link.torrent == Some(torrent) && c.link.incoming;
                    c.is_open() && its && c.link.addr.ip().to_canonical() == ip
                };
                let crossed = on.cx.peers.iter().any(called_us);
                on.cx.peers[slot].link.crossed = crossed;
                on.cx.peers[slot].link.candidate = Some(candidate);
                on.cx.peers[slot].link.torrent = Some(torrent);
                return self.action(on, slot);
            } else {
                on.discovery
                    .candidates
                    .done(on.cx.now, candidate, Fate::Later, Need::Seeds);
            }
        }
    }

    /// The connection of a torrent to the peer that can be called there.
    fn connection_to(&self, on: &Parts<'_>, torrent: TorrentId, addr: SocketAddr) -> Option<usize> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let its = |c: &Conn| {
            let free = c.is_live() && c.link.torrent == Some(torrent) && c.link.candidate.is_none();
            free && c.callable() == Some(addr)
        };
        on.cx.peers.iter().position(its)
    }

    /// Of two connections to one peer one stays. It takes over from the other where the peer can be called.
    pub(crate) fn take_over_from_twin(&mut self, on: &mut Parts<'_>, stays: usize, goes: usize) {
        let place = |conn: &Conn| conn.link.addr.ip().to_canonical();
        if place(&on.cx.peers[stays]) != place(&on.cx.peers[goes]) {
            return;
        }
        on.cx.peers[stays].link.crossed |=
            on.cx.peers[stays].link.incoming != on.cx.peers[goes].link.incoming;
        if on.cx.peers[stays].link.candidate.is_none() {
            on.cx.peers[stays].link.candidate = on.cx.peers[goes].link.candidate.take();
        }
        if on.cx.peers[stays].link.listen_port == 0 {
            let callable = on.cx.peers[goes].callable();
            on.cx.peers[stays].link.listen_port = callable.map_or(0, |addr| addr.port());
        }
    }
}

/// Connections that are being made at a time.
const MAX_DIALS: u16 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Have;
    use crate::parts::small::{parts, peer};
    use crate::swarm::tests::swarm;

    #[test]
    fn callers_keep_half_of_the_places() {
        // Of eight places: connections, callers without a handshake, calls that are being made, whether we stop. Whether
        // there is room for another call, and whether one may be made now.
        for (live, handshaking, dialling, stopping, room, may) in [
            (0, 0, 0, false, true, true),
            (3, 0, 0, false, true, true),
            (4, 0, 0, false, false, false),
            (7, 4, 0, false, true, true),
            (8, 8, 0, false, false, false),
            (0, 0, 7, false, true, true),
            (0, 0, 8, false, true, false),
            (0, 0, 0, true, true, false),
        ] {
            let (mut parts, _) = parts(Have::Nothing);
            let mut swarm = swarm();
            let peers = &mut parts.cx.peers;
            (peers.live, peers.handshaking, peers.dialling) = (live, handshaking, dialling);
            swarm.stopping = stopping;
            let case = (live, handshaking, dialling, stopping);
            assert_eq!(swarm.room_to_dial(&parts), room, "{case:?}");
            assert_eq!(swarm.may_dial(&parts), may, "{case:?}");
            let wanted = if room { NUM_WANT } else { 0 };
            assert_eq!(swarm.num_want(&parts), wanted, "{case:?}");
        }
    }

    #[test]
    fn only_a_peer_that_is_being_called_is_greeted() {
        for (state, then) in [
            (LinkState::Dial, LinkState::Dial),
            (LinkState::Dialling, LinkState::Greeting),
            (LinkState::Open, LinkState::Open),
        ] {
            let (mut parts, id) = parts(Have::All);
            let slot = peer(&mut parts.cx, id, true);
            parts.cx.peers.set_state(slot, state);
            let conn = parts.cx.peers.id(slot);
            swarm().connected(&mut parts, conn);
            assert_eq!(parts.cx.peers[slot].link.state, then);
        }
    }

    #[test]
    fn whoever_is_connected_or_banned_is_not_called() {
        for (connected, banned, called) in [
            (false, false, true),
            (true, false, false),
            (false, true, false),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            let mut swarm = swarm();
            let slot = peer(&mut parts.cx, id, true);
            let addr = SocketAddr::from(([10, 0, 0, 9], 7000));
            if connected {
                let link = &mut parts.cx.peers[slot].link;
                (link.addr, link.listen_port) = (([10, 0, 0, 9], 50_000).into(), 7000);
            }
            if banned {
                assert!(swarm.bans.charge(parts.cx.now, origin(addr), 4));
            }
            let named = Named {
                torrent: id,
                addr,
                source: PeerSource::User,
                by: None,
            };
            parts.discovery.candidates.add(parts.cx.now, named);
            let action = swarm.dial(&mut parts);
            let connects = matches!(action, Some(Action::Connect { addr: to, .. }) if to == addr);
            assert_eq!(connects, called, "{connected} {banned}");
            // It is called when the connection ends.
            let waits = parts.cx.peers[slot].link.candidate.is_some();
            assert_eq!(waits, connected, "{connected} {banned}");
        }
    }

    #[test]
    fn the_connection_that_stays_knows_where_to_call() {
        // The address and port of the one that ends, its port to be called at: the port that is known then.
        for (goes, listen_port, expected) in [
            ([10, 0, 0, 1], 7000, 7000),
            ([10, 0, 0, 1], 0, 0),
            ([10, 0, 0, 2], 7000, 0),
        ] {
            let (mut parts, id) = parts(Have::All);
            let (a, b) = (peer(&mut parts.cx, id, true), peer(&mut parts.cx, id, true));
            parts.cx.peers[a].link.addr = ([10, 0, 0, 1], 50_000).into();
            let link = &mut parts.cx.peers[b].link;
            (link.addr, link.listen_port) = ((goes, 50_001).into(), listen_port);
            link.candidate = Some(3);
            swarm().take_over_from_twin(&mut parts, a, b);
            let link = &parts.cx.peers[a].link;
            let same = goes == [10, 0, 0, 1];
            assert_eq!(
                (link.listen_port, link.candidate),
                (expected, same.then_some(3))
            );
        }
    }

    #[test]
    fn a_closed_connection_is_counted_if_there_was_no_room() {
        for (reason, turned_away) in [
            (Reason::Crowded, 1),
            (Reason::Asleep, 1),
            (Reason::Gone, 0),
            (Reason::BothSeeds, 0),
        ] {
            let (mut parts, id) = parts(Have::All);
            let mut swarm = swarm();
            let slot = peer(&mut parts.cx, id, true);
            swarm.close_all(&mut parts, id, reason);
            assert_eq!(swarm.turned_away, turned_away, "{reason:?}");
            assert_eq!(parts.cx.peers[slot].link.state, LinkState::Closing(reason));
        }
    }
}
