//! Connections from the first to the last: the slot that each has, calls to others, ends.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;

use crate::Node;
use crate::api::Action;
use crate::discovery::candidates::{Fate, Standing};
use crate::peer::origin;
use crate::peer::{Conn, ConnId, Reason, State};
use crate::swarm::timers;
use crate::torrent;

impl Node<'_> {
    pub(crate) fn open(
        &mut self,
        now: Instant,
        slot: usize,
        addr: SocketAddr,
        incoming: bool,
    ) -> ConnId {
        self.peers.open(now, slot, addr, incoming);
        self.swarm.next_sweep.get_or_insert(now + timers::PERIOD);
        self.peers.id(slot)
    }

    pub(crate) fn connected(&mut self, now: Instant, id: ConnId) {
        let Some(slot) = self.peers.slot(id) else {
            return;
        };
        if self.peers[slot].link.state == State::Dialling {
            self.peers.set_state(slot, State::Greeting);
            let conn = &mut self.peers[slot];
            conn.link.opened_at = now;
            conn.link.last_received_at = now;
            self.peers.make_ready(slot);
        }
    }

    /// Ends a connection; `poll` tells the host.
    pub(crate) fn close(&mut self, slot: usize, reason: Reason) {
        if !self.peers[slot].is_live() {
            return;
        }
        log::debug!("{}: closed, {reason}", self.peers[slot].link.addr);
        self.swarm.turned_away += u64::from(matches!(reason, Reason::Crowded | Reason::Asleep));
        let fate = self.fate(slot, reason);
        self.with_download(|d, cx| d.drop_all_pending(cx, slot, false));
        self.with_download(|d, cx| d.forget_bits(cx, slot));
        let conn = &mut self.peers[slot];
        let (candidate, torrent) = (conn.link.candidate.take(), conn.link.torrent.take());
        let callable = conn.callable();
        self.upload.queue.clear(&mut conn.upload.requests);
        self.upload.slot_freed |= conn.upload.unchoked;
        conn.upload.unchoked = false;
        conn.upload.interested = false;
        let served_us = core::mem::take(&mut conn.download.unchoked);
        self.peers.set_state(slot, State::Closing(reason));
        if served_us {
            self.with_download(|d, cx| d.count_active_sources(cx));
        }
        let downloads = torrent.is_some_and(|id| self.torrents.is_downloading(id));
        match (candidate, fate, torrent.zip(callable)) {
            (Some(candidate), ..) => self
                .discovery
                .candidates
                .done(self.now, candidate, fate, !downloads),
            // Whoever called us and gave us something is worth a call, if it can be called.
            (None, Fate::Good { .. }, Some((id, addr))) if downloads => {
                self.discovery
                    .candidates
                    .add(self.now, id, addr, Standing::Good);
            }
            _ => {}
        }
        if let Some(torrent) = torrent.and_then(|id| self.torrents.get_mut(id)) {
            torrent.conns -= 1;
        }
        self.peers.make_ready(slot);
    }

    pub(crate) fn close_all(&mut self, torrent: TorrentId, reason: Reason) {
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent == Some(torrent) {
                self.close(slot, reason);
            }
        }
    }

    /// Whether there is a place for a call that nobody who calls us needs.
    pub(crate) fn may_dial(&self) -> bool {
        !self.stopping && self.peers.dialling < MAX_DIALS && self.room_to_dial()
    }

    pub(crate) fn room_to_dial(&self) -> bool {
        // Who has only called has no say in it: whoever is called comes before.
        let (live, places) = (usize::from(self.peers.live), self.places());
        live < places && live - usize::from(self.peers.handshaking) < (places / 2).max(1)
    }

    /// Begins a connection to a candidate that is due.
    pub(crate) fn dial(&mut self, now: Instant) -> Option<Action> {
        let due = self
            .discovery
            .candidates
            .deadline()
            .is_some_and(|at| at <= now);
        if !due || !self.may_dial() {
            return None;
        }
        let slot = self.peers.vacant()?;
        loop {
            let (candidate, torrent, addr) = self.discovery.candidates.take(now)?;
            let active = |t: &&mut torrent::Torrent| t.state == torrent::State::Active;
            if self.swarm.bans.is_banned(now, origin(addr)) {
                self.discovery
                    .candidates
                    .done(now, candidate, Fate::Failed, true);
            } else if let Some(known) = self.connection_to(torrent, addr) {
                // It is called when that ends.
                self.peers[known].link.candidate = Some(candidate);
            } else if let Some(entry) = self.torrents.get_mut(torrent).filter(active) {
                entry.conns += 1;
                self.open(now, slot, addr, false);
                self.peers[slot].link.candidate = Some(candidate);
                self.peers[slot].link.torrent = Some(torrent);
                return self.action(now, slot);
            } else {
                self.discovery
                    .candidates
                    .done(now, candidate, Fate::Later, true);
            }
        }
    }

    /// The connection of a torrent to the peer that can be called there.
    fn connection_to(&self, torrent: TorrentId, addr: SocketAddr) -> Option<usize> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let its = |c: &Conn| {
            let free = c.is_live() && c.link.torrent == Some(torrent) && c.link.candidate.is_none();
            free && c.callable() == Some(addr)
        };
        self.peers.iter().position(its)
    }

    /// Of two connections to one peer, the one that stays takes over where it can be called.
    pub(crate) fn inherit(&mut self, stays: usize, goes: usize) {
        let place = |conn: &Conn| conn.link.addr.ip().to_canonical();
        if place(&self.peers[stays]) != place(&self.peers[goes]) {
            return;
        }
        if self.peers[stays].link.candidate.is_none() {
            self.peers[stays].link.candidate = self.peers[goes].link.candidate.take();
        }
        if self.peers[stays].link.listen_port == 0 {
            let callable = self.peers[goes].callable();
            self.peers[stays].link.listen_port = callable.map_or(0, |addr| addr.port());
        }
    }
}

/// Connections that are being made at a time.
const MAX_DIALS: u16 = 8;

/// How long making a connection may take.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
