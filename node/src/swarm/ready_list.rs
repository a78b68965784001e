//! What connections need of the host: the list of those that `poll` has to look at, and what each
//! of them is due.
//!
//! Invariant: a connection is in the list exactly if its `due` is set.

use everseed_core::extension::Hello;
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::wire::Handshake;

use crate::download::pending_blocks;
use crate::peer::{Conn, ConnId, State};
use crate::swarm::inbound;
use crate::swarm::outbound;
use crate::swarm::outbound::Out;
use crate::swarm::outbound::{Cursor, Greeting, View};
use crate::upload::rates::QUANTUM;
use crate::upload::request_queue;
use crate::upload::request_queue::NONE;
use crate::{Action, Node};

impl Node<'_> {
    /// Puts a connection into the list that `poll` works off.
    pub(crate) fn due(&mut self, slot: usize) {
        if core::mem::replace(&mut self.conns[slot].link.ready, true) {
            return;
        }
        self.conns[slot].link.next_ready = NONE;
        let here = self.id(slot).slot;
        match self.conns.get_mut(usize::from(self.last_due)) {
            Some(last) => last.link.next_ready = here,
            None => self.first_due = here,
        }
        self.last_due = here;
    }

    /// Makes everybody due, beginning behind the one that had its turn last, so that a tight rate
    /// limit goes round.
    pub(crate) fn due_all(&mut self) {
        let len = self.conns.len();
        let first = usize::from(self.last_served) + 1;
        for slot in (first..len).chain(0..first.min(len)) {
            if self.conns[slot].is_live() {
                self.due(slot);
            }
        }
    }

    pub(crate) fn next_due(&mut self) -> Option<usize> {
        let slot = usize::from(self.first_due);
        let conn = self.conns.get_mut(slot)?;
        conn.link.ready = false;
        self.first_due = conn.link.next_ready;
        if self.first_due == NONE {
            self.last_due = NONE;
        }
        Some(slot)
    }

    /// What a connection that is due needs.
    pub(crate) fn action(&mut self, now: Instant, slot: usize) -> Option<Action> {
        let conn = self.id(slot);
        match self.conns[slot].link.state {
            State::Free => None,
            State::Closing(reason) => {
                let addr = self.conns[slot].link.addr;
                let due = (
                    self.conns[slot].link.ready,
                    self.conns[slot].link.next_ready,
                );
                self.conns[slot] = Conn {
                    tenancy: conn.tenancy.wrapping_add(1),
                    ..Conn::EMPTY
                };
                (
                    self.conns[slot].link.ready,
                    self.conns[slot].link.next_ready,
                ) = due;
                self.live -= 1;
                Some(Action::Close { conn, addr, reason })
            }
            State::Dial => {
                self.conns[slot].link.state = State::Dialling;
                Some(Action::Connect {
                    conn,
                    addr: self.conns[slot].link.addr,
                })
            }
            State::Wake => {
                self.conns[slot].link.state = State::Waking;
                let torrent = self.conns[slot].link.torrent?;
                Some(Action::Wake { torrent })
            }
            State::Dialling | State::Waking => None,
            State::Greeting | State::Open => self.traffic(now, slot, conn),
        }
    }

    pub(crate) fn traffic(&mut self, now: Instant, slot: usize, conn: ConnId) -> Option<Action> {
        if self.conns[slot].upload.queue_full && self.readable(slot) > 0 {
            self.conns[slot].upload.queue_full = false;
            self.due(slot);
            return Some(Action::Receive { conn });
        }
        let view = self.view(slot);
        let cursor = Cursor::new(view.conn);
        let awaits = cursor.awaits(&view);
        let body = matches!(cursor.peek(&view), Some(outbound::Out::Piece(_)));
        let anything = cursor.peek(&view).is_some();
        self.conns[slot].upload.awaits_verify = awaits;
        if body && self.bucket.level(now) < QUANTUM {
            self.throttled = true;
            return None;
        }
        if anything {
            return Some(Action::Transmit { conn });
        }
        let torrent = self.conns[slot].link.torrent?;
        let piece = awaits?;
        let entry = self.torrents.get_mut(torrent)?;
        if entry.verifying.is_some() {
            return None;
        }
        entry.verifying = Some(piece);
        Some(Action::Verify {
            torrent,
            piece,
            fresh: false,
        })
    }

    pub(crate) fn view(&self, slot: usize) -> View<'_> {
        let conn = &self.conns[slot];
        let torrent = conn.link.torrent.and_then(|id| self.torrents.get(id));
        let info_hash = torrent.map_or(InfoHash([0; 20]), |t| t.info_hash);
        let peer_id = self.identity.peer_id;
        let handshake = Handshake {
            features: inbound::FEATURES,
            info_hash,
            peer_id,
        };
        let greeting = Greeting {
            handshake,
            hello: Hello {
                port: self.identity.port,
                reqq: request_queue::REQQ,
                upload_only: conn.link.torrent.is_none_or(|id| !self.is_downloading(id)),
                metadata_size: None,
                client: self.identity.client,
            },
        };
        View {
            conn,
            torrent,
            torrents: &self.torrents,
            queue: &self.queue,
            pending: &self.pending,
            in_progress: &self.in_progress,
            news: &self.news,
            greeting,
        }
    }

    /// Accounts for bytes of a message that went out.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        slot: usize,
        out: outbound::Out,
        fresh: bool,
        body: u32,
    ) {
        let conn = &mut self.conns[slot];
        match out {
            Out::Piece(_) | Out::Reject(_) | Out::Metadata(_) if fresh => {
                self.queue.pop(&mut conn.upload.requests);
            }
            Out::Cancel(_) if fresh => _ = conn.download.cancels.remove(0),
            Out::Suggest(piece) if fresh => {
                (conn.upload.to_suggest, conn.upload.last_suggested) = (None, Some(piece))
            }
            Out::Request(_) if fresh => {
                let at = conn.download.pending.unsent;
                conn.download.pending.unsent = self.pending.next(at);
                if let Some(pending) = self.pending.get_mut(at) {
                    (pending.state, pending.asked) = (pending_blocks::State::Asked, now);
                }
            }
            _ => {}
        }
        // Only content counts, and is limited.
        if body == 0 || matches!(out, outbound::Out::Metadata(_)) {
            return;
        }
        self.last_served = self.id(slot).slot;
        if let outbound::Out::Piece(block) = out {
            self.note_given(now, slot, block);
        }
        let conn = &mut self.conns[slot];
        let body = u64::from(body);
        conn.upload.uploaded = conn.upload.uploaded.saturating_add(body);
        self.uploaded = self.uploaded.saturating_add(body);
        self.bucket.take(now, body);
        if let Some(torrent) = conn.link.torrent.and_then(|id| self.torrents.get_mut(id)) {
            // It began with what a record on disk says.
            torrent.uploaded = torrent.uploaded.saturating_add(body);
        }
    }
}
