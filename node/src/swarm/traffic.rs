//! What a connection needs of the host, and what becomes of its state when bytes went out.

use everseed_core::extension::Hello;
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::wire::Handshake;

use crate::Node;
use crate::api::Action;
use crate::download::pending_blocks;
use crate::peer::outbox::Out;
use crate::peer::{ConnId, State};
use crate::rate::QUANTUM;
use crate::swarm::inbound;
use crate::swarm::outbound::{Cursor, Greeting, View};
use crate::upload::request_queue;

impl Node<'_> {
    /// What a connection that is due needs.
    pub(crate) fn action(&mut self, now: Instant, slot: usize) -> Option<Action> {
        let conn = self.peers.id(slot);
        match self.peers[slot].link.state {
            State::Free => None,
            State::Closing(reason) => {
                let addr = self.peers[slot].link.addr;
                self.peers.free(slot);
                Some(Action::Close { conn, addr, reason })
            }
            State::Dial => {
                self.peers.set_state(slot, State::Dialling);
                Some(Action::Connect {
                    conn,
                    addr: self.peers[slot].link.addr,
                })
            }
            State::Wake => {
                self.peers.set_state(slot, State::Waking);
                let torrent = self.peers[slot].link.torrent?;
                Some(Action::Wake { torrent })
            }
            State::Dialling | State::Waking => None,
            State::Greeting | State::Open => self.traffic(now, slot, conn),
        }
    }

    pub(crate) fn traffic(&mut self, now: Instant, slot: usize, conn: ConnId) -> Option<Action> {
        if self.peers[slot].upload.queue_full && self.readable(slot) > 0 {
            self.peers[slot].upload.queue_full = false;
            self.peers.make_ready(slot);
            return Some(Action::Receive { conn });
        }
        let view = self.view(slot);
        let cursor = Cursor::new(view.conn);
        let awaits = cursor.awaits(&view);
        let body = matches!(cursor.peek(&view), Some(Out::Piece(_)));
        let anything = cursor.peek(&view).is_some();
        self.peers[slot].upload.awaits_verify = awaits;
        if body && self.upload.rate.level(now) < QUANTUM {
            self.upload.waits_for_rate = true;
            return None;
        }
        if anything {
            return Some(Action::Transmit { conn });
        }
        let torrent = self.peers[slot].link.torrent?;
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
        let conn = &self.peers[slot];
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
                upload_only: conn
                    .link
                    .torrent
                    .is_none_or(|id| !self.torrents.is_downloading(id)),
                metadata_size: None,
                client: self.identity.client,
            },
        };
        View {
            conn,
            torrent,
            torrents: &self.torrents,
            queue: &self.upload.queue,
            pending: &self.download.pending,
            in_progress: &self.download.in_progress,
            news: &self.swarm.have_log,
            greeting,
        }
    }

    /// Accounts for bytes of a message that went out.
    pub(crate) fn sent(&mut self, now: Instant, slot: usize, out: Out, fresh: bool, body: u32) {
        let conn = &mut self.peers[slot];
        match out {
            Out::Piece(_) | Out::Reject(_) | Out::Metadata(_) if fresh => {
                self.upload.queue.pop(&mut conn.upload.requests);
            }
            Out::Cancel(_) if fresh => _ = conn.download.cancels.remove(0),
            Out::Suggest(piece) if fresh => {
                (conn.upload.to_suggest, conn.upload.last_suggested) = (None, Some(piece))
            }
            Out::Request(_) if fresh => {
                let at = conn.download.pending.unsent;
                conn.download.pending.unsent = self.download.pending.next(at);
                if let Some(pending) = self.download.pending.get_mut(at) {
                    (pending.state, pending.asked) = (pending_blocks::State::Asked, now);
                }
            }
            _ => {}
        }
        // Only content counts, and is limited.
        if body == 0 || matches!(out, Out::Metadata(_)) {
            return;
        }
        self.upload.last_served = self.peers.id(slot).slot;
        if let Out::Piece(block) = out {
            self.with_upload(|u, cx| u.note_given(cx, slot, block));
        }
        let conn = &mut self.peers[slot];
        let body = u64::from(body);
        conn.upload.uploaded = conn.upload.uploaded.saturating_add(body);
        self.upload.uploaded = self.upload.uploaded.saturating_add(body);
        self.upload.rate.take(now, body);
        if let Some(torrent) = conn.link.torrent.and_then(|id| self.torrents.get_mut(id)) {
            // It began with what a record on disk says.
            torrent.uploaded = torrent.uploaded.saturating_add(body);
        }
    }
}
