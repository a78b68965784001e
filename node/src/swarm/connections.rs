//! Connections from the first to the last: the slot that each has, calls to others, ends.
//!
//! Invariant: `live` slots are not free, and `dialling` of them are being called.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;

use crate::discovery::candidates::{Fate, Standing};
use crate::peer::{Conn, ConnId, Reason, State};
use crate::swarm::admission::origin;
use crate::swarm::timers;
use crate::torrent;
use crate::{Action, Node};

impl Node<'_> {
    /// The slot of a connection that is still there.
    pub(crate) fn slot(&self, id: ConnId) -> Option<usize> {
        let slot = usize::from(id.slot);
        let conn = self.conns.get(slot)?;
        (conn.is_live() && conn.tenancy == id.tenancy).then_some(slot)
    }

    #[allow(clippy::cast_possible_truncation)] // A table has at most `u16::MAX` places.
    pub(crate) fn id(&self, slot: usize) -> ConnId {
        ConnId {
            slot: slot as u16,
            tenancy: self.conns[slot].tenancy,
        }
    }

    /// The first slot that is free.
    pub(crate) fn vacant(&mut self) -> Option<usize> {
        let free = self.conns.iter().position(|c| c.link.state == State::Free);
        free.or_else(|| self.conns.push(Conn::EMPTY))
    }

    pub(crate) fn open(
        &mut self,
        now: Instant,
        slot: usize,
        addr: SocketAddr,
        state: State,
    ) -> ConnId {
        self.conns[slot] = Conn::new(now, self.conns[slot].tenancy, addr, state);
        self.live += 1;
        self.next_sweep.get_or_insert(now + timers::PERIOD);
        self.id(slot)
    }

    pub(crate) fn connected(&mut self, now: Instant, id: ConnId) {
        let Some(slot) = self.slot(id) else { return };
        let conn = &mut self.conns[slot];
        if conn.link.state == State::Dialling {
            self.dialling -= 1;
            conn.link.state = State::Greeting;
            conn.link.opened_at = now;
            conn.link.last_received_at = now;
            self.due(slot);
        }
    }

    /// Ends a connection; `poll` tells the host.
    pub(crate) fn close(&mut self, slot: usize, reason: Reason) {
        if !self.conns[slot].is_live() {
            return;
        }
        log::debug!("{}: closed, {reason}", self.conns[slot].link.addr);
        self.turned_away += u64::from(matches!(reason, Reason::Crowded | Reason::Asleep));
        let fate = self.fate(slot, reason);
        self.drop_all_pending(slot, false);
        self.forget_bits(slot);
        let conn = &mut self.conns[slot];
        let (candidate, torrent) = (conn.link.candidate.take(), conn.link.torrent.take());
        let callable = conn.callable();
        self.queue.clear(&mut conn.upload.requests);
        self.slot_freed |= conn.upload.unchoked;
        conn.upload.unchoked = false;
        conn.upload.interested = false;
        if matches!(conn.link.state, State::Dial | State::Dialling) {
            self.dialling -= 1;
        }
        self.silent -= u16::from(conn.is_silent_caller());
        conn.link.state = State::Closing(reason);
        if core::mem::take(&mut conn.download.unchoked) {
            self.count_active_sources();
        }
        let downloads = torrent.is_some_and(|id| self.is_downloading(id));
        match (candidate, fate, torrent.zip(callable)) {
            (Some(candidate), ..) => self.candidates.done(self.now, candidate, fate, !downloads),
            // Whoever called us and gave us something is worth a call, if it can be called.
            (None, Fate::Good { .. }, Some((id, addr))) if downloads => {
                self.candidates.add(self.now, id, addr, Standing::Good);
            }
            _ => {}
        }
        if let Some(torrent) = torrent.and_then(|id| self.torrents.get_mut(id)) {
            torrent.conns -= 1;
        }
        self.due(slot);
    }

    pub(crate) fn close_all(&mut self, torrent: TorrentId, reason: Reason) {
        for slot in 0..self.conns.len() {
            if self.conns[slot].link.torrent == Some(torrent) {
                self.close(slot, reason);
            }
        }
    }

    /// Whether there is a place for a call that nobody who calls us needs.
    pub(crate) fn may_dial(&self) -> bool {
        !self.stopping && self.dialling < MAX_DIALS && self.room_to_dial()
    }

    pub(crate) fn room_to_dial(&self) -> bool {
        // Who has only called has no say in it: whoever is called comes before.
        let (live, places) = (usize::from(self.live), self.places());
        live < places && live - usize::from(self.silent) < (places / 2).max(1)
    }

    /// Begins a connection to a candidate that is due.
    pub(crate) fn dial(&mut self, now: Instant) -> Option<Action> {
        let due = self.candidates.deadline().is_some_and(|at| at <= now);
        if !due || !self.may_dial() {
            return None;
        }
        let slot = self.vacant()?;
        loop {
            let (candidate, torrent, addr) = self.candidates.take(now)?;
            let active = |t: &&mut torrent::Torrent| t.state == torrent::State::Active;
            if self.bans.is_banned(now, origin(addr)) {
                self.candidates.done(now, candidate, Fate::Failed, true);
            } else if let Some(known) = self.connection_to(torrent, addr) {
                // It is called when that ends.
                self.conns[known].link.candidate = Some(candidate);
            } else if let Some(entry) = self.torrents.get_mut(torrent).filter(active) {
                entry.conns += 1;
                self.open(now, slot, addr, State::Dial);
                self.dialling += 1;
                self.conns[slot].link.candidate = Some(candidate);
                self.conns[slot].link.torrent = Some(torrent);
                return self.action(now, slot);
            } else {
                self.candidates.done(now, candidate, Fate::Later, true);
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
        self.conns.iter().position(its)
    }

    /// Of two connections to one peer, the one that stays takes over where it can be called.
    pub(crate) fn inherit(&mut self, stays: usize, goes: usize) {
        let place = |conn: &Conn| conn.link.addr.ip().to_canonical();
        if place(&self.conns[stays]) != place(&self.conns[goes]) {
            return;
        }
        if self.conns[stays].link.candidate.is_none() {
            self.conns[stays].link.candidate = self.conns[goes].link.candidate.take();
        }
        if self.conns[stays].link.listen_port == 0 {
            let callable = self.conns[goes].callable();
            self.conns[stays].link.listen_port = callable.map_or(0, |addr| addr.port());
        }
    }
}

/// Connections that are being made at a time.
const MAX_DIALS: u16 = 8;

/// How long making a connection may take.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
