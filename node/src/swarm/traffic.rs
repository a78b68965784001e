//! The next action for a connection, and the accounting of bytes that were sent on it.

use everseed_core::extension::{Metadata, OurHandshake};
use everseed_core::hash::InfoHash;
use everseed_core::wire::{Features, Handshake};

use crate::api::Action;
use crate::broken::broken;
use crate::download::pending_blocks;
use crate::parts::Parts;
use crate::peer::outbox::Out;
use crate::peer::{ConnId, LinkState};
use crate::rate::QUANTUM;
use crate::swarm::Swarm;
use crate::swarm::inbound;
use crate::swarm::outbound::{Cursor, Greeting, View};
use crate::torrent::Torrent;
use crate::upload::request_queue;
use crate::wake::Wake;

impl Swarm<'_> {
    /// What a connection that is due needs.
    pub(crate) fn action(&mut self, on: &mut Parts<'_>, slot: usize) -> Option<Action> {
        let conn = on.cx.peers.id(slot);
        match on.cx.peers[slot].link.state {
            LinkState::Free => None,
            LinkState::Closing(reason) => {
                let addr = on.cx.peers[slot].link.addr;
                on.cx.peers.free(slot);
                Some(Action::Close { conn, addr, reason })
            }
            LinkState::Dial => {
                on.cx.peers.set_state(slot, LinkState::Dialling);
                Some(Action::Connect {
                    conn,
                    addr: on.cx.peers[slot].link.addr,
                })
            }
            LinkState::Wake => {
                on.cx.peers.set_state(slot, LinkState::Waking);
                let torrent = on.cx.peers[slot].link.torrent;
                if torrent.is_none() {
                    broken("a torrent that a peer waits for");
                }
                torrent.map(|torrent| Action::Wake { torrent })
            }
            LinkState::Dialling | LinkState::Waking => None,
            LinkState::Greeting | LinkState::Open => self.traffic(on, slot, conn),
        }
    }

    pub(crate) fn traffic(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        conn: ConnId,
    ) -> Option<Action> {
        if on.cx.peers[slot].upload.queue_full && self.readable(on, slot) > 0 {
            on.cx.peers[slot].upload.queue_full = false;
            on.cx.peers.make_ready(slot);
            return Some(Action::Receive { conn });
        }
        let view = self.view(on, slot);
        let cursor = Cursor::new(view.conn);
        let awaits = cursor.awaits(&view);
        let body = matches!(cursor.peek(&view), Some(Out::Piece(_)));
        let anything = cursor.peek(&view).is_some();
        on.cx.peers[slot].upload.awaits_verify = awaits;
        if body && on.upload.rate.level(on.cx.now) < QUANTUM {
            on.cx.wakes.add(Wake::SendAtRate);
            return None;
        }
        if anything {
            if body {
                on.cx.peers[slot].upload.offered_at.get_or_insert(on.cx.now);
            }
            return Some(Action::Transmit { conn });
        }
        let torrent = on.cx.peers[slot].link.torrent?;
        let piece = awaits?;
        let entry = on.cx.torrents.get_mut(torrent)?;
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

    pub(crate) fn view<'a>(&'a self, on: &'a Parts<'_>, slot: usize) -> View<'a> {
        let conn = &on.cx.peers[slot];
        let torrent = conn.link.torrent.and_then(|id| on.cx.torrents.get(id));
        let named_by = |t: &Torrent| t.info_hashes.of(conn.link.by_second_hash);
        let info_hash = torrent.map_or(InfoHash([0; 20]), named_by);
        let peer_id = self.identity.peer_id;
        let told = |id| on.discovery.seeker.is_told(&on.cx, id);
        let handshake = Handshake {
            features: Features {
                dht: conn.link.torrent.is_some_and(told),
                ..inbound::FEATURES
            },
            info_hash,
            peer_id,
        };
        let greeting = Greeting {
            handshake,
            extended: OurHandshake {
                port: self.port_for(conn.link.addr),
                reqq: request_queue::REQQ,
                upload_only: conn
                    .link
                    .torrent
                    .is_none_or(|id| !on.cx.torrents.is_downloading(id)),
                metadata: Metadata::Silent,
                pex: conn
                    .link
                    .torrent
                    .is_some_and(|id| on.cx.torrents.publicity(id).pex()),
                client: self.identity.client,
            },
        };
        View {
            conn,
            torrent,
            torrents: &on.cx.torrents,
            queue: &on.upload.queue,
            pending: &on.download.pending,
            in_progress: &on.download.in_progress,
            have_log: &self.have_log,
            pex: self.pex.to(on.cx.peers.id(slot)),
            greeting,
        }
    }

    /// Accounts for bytes of a message that went out.
    pub(crate) fn sent(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        out: Out,
        fresh: bool,
        body: u32,
    ) {
        let conn = &mut on.cx.peers[slot];
        match out {
            Out::Piece(_) | Out::Reject(_) | Out::Metadata(_) if fresh => {
                on.upload.queue.pop(&mut conn.upload.requests);
            }
            Out::Cancel(_) if fresh => _ = conn.download.cancels.remove(0),
            Out::Suggest(piece) if fresh => {
                (conn.upload.to_suggest, conn.upload.last_suggested) = (None, Some(piece))
            }
            Out::Request(_) | Out::MetadataRequest(_) if fresh => {
                let at = conn.download.pending.unsent;
                conn.download.pending.unsent = on.download.pending.next(at);
                if let Some(pending) = on.download.pending.get_mut(at) {
                    (pending.state, pending.requested_at) =
                        (pending_blocks::BlockState::Requested, on.cx.now);
                }
            }
            _ => {}
        }
        // Only content counts, and is limited.
        if body == 0 || matches!(out, Out::Metadata(_)) {
            return;
        }
        on.upload.last_served = on.cx.peers.id(slot).slot;
        if let Out::Piece(block) = out {
            on.upload.block_sent(&mut on.cx, slot, block);
        }
        let conn = &mut on.cx.peers[slot];
        let body = u64::from(body);
        conn.upload.add_uploaded(on.cx.now, body);
        let torrent = conn.link.torrent;
        on.upload.bytes_sent(&mut on.cx, body);
        if let Some(torrent) = torrent.and_then(|id| on.cx.torrents.get_mut(id)) {
            // It began with what a record on disk says.
            torrent.uploaded = torrent.uploaded.saturating_add(body);
        }
    }
}
