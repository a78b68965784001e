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
    /// The action that a connection in the ready list needs, if any.
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

    /// The action of a connection that is open or shakes hands: read, send, or verify a piece first.
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

    /// The state that decides about the messages to a peer.
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
                    .is_none_or(|id| on.cx.torrents.needs_nothing(id)),
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

#[cfg(test)]
mod tests {
    use everseed_core::geometry::{BLOCK, BlockRef};

    use super::*;
    use crate::api::Have;
    use crate::parts::small::{parts, peer, piece};
    use crate::peer::Reason;
    use crate::peer::outbox::Stage;
    use crate::rate::Bucket;
    use crate::swarm::tests::swarm;
    use crate::upload::request_queue::ReplyKind;

    const BLOCK_0: BlockRef = BlockRef {
        index: 0,
        begin: 0,
        len: BLOCK,
    };

    #[test]
    fn what_a_connection_needs_in_each_state() {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        let slot = peer(&mut parts.cx, id, true);
        let (conn, addr) = (parts.cx.peers.id(slot), parts.cx.peers[slot].link.addr);
        let reason = Reason::Idle;
        // We called it, so we speak first.
        parts.cx.peers[slot].link.incoming = false;
        for (state, action, then) in [
            (
                LinkState::Dial,
                Some(Action::Connect { conn, addr }),
                LinkState::Dialling,
            ),
            (LinkState::Dialling, None, LinkState::Dialling),
            (
                LinkState::Greeting,
                Some(Action::Transmit { conn }),
                LinkState::Greeting,
            ),
            (
                LinkState::Wake,
                Some(Action::Wake { torrent: id }),
                LinkState::Waking,
            ),
            (LinkState::Waking, None, LinkState::Waking),
            (
                LinkState::Open,
                Some(Action::Transmit { conn }),
                LinkState::Open,
            ),
            (
                LinkState::Closing(reason),
                Some(Action::Close { conn, addr, reason }),
                LinkState::Free,
            ),
        ] {
            parts.cx.peers.set_state(slot, state);
            assert_eq!(swarm.action(&mut parts, slot), action, "{state:?}");
            assert_eq!(parts.cx.peers[slot].link.state, then, "{state:?}");
        }
        assert_eq!(swarm.action(&mut parts, slot), None, "it is free");
    }

    /// A peer that was told everything and requests a block.
    fn requests(parts: &mut Parts<'_>, slot: usize) {
        let conn = &mut parts.cx.peers[slot];
        conn.link.outbox.stage = Stage::Ready;
        (conn.link.outbox.told_unchoked, conn.upload.unchoked) = (true, true);
        let list = &mut conn.upload.requests;
        parts.upload.queue.push(list, BLOCK_0, ReplyKind::Piece);
    }

    #[test]
    fn a_block_waits_for_the_upload_limit() {
        for (used, waits) in [(0, false), (1_000_000, true)] {
            let (mut parts, id) = parts(Have::All);
            let slot = peer(&mut parts.cx, id, true);
            requests(&mut parts, slot);
            parts.upload.rate = Bucket::new(Some(1000));
            parts.upload.rate.take(parts.cx.now, used);
            let conn = parts.cx.peers.id(slot);
            let action = swarm().action(&mut parts, slot);
            assert_eq!(
                action,
                (!waits).then_some(Action::Transmit { conn }),
                "{used}"
            );
            assert_eq!(parts.cx.wakes.has(Wake::SendAtRate), waits, "{used}");
            // Since then it is the peer that is waited for.
            let offered = parts.cx.peers[slot].upload.offered_at;
            assert_eq!(offered, (!waits).then_some(parts.cx.now), "{used}");
        }
    }

    #[test]
    fn a_piece_that_may_have_changed_is_verified_once_before_it_is_sent() {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        let slot = peer(&mut parts.cx, id, true);
        requests(&mut parts, slot);
        assert!(parts.cx.torrents.doubt(id, Have::All));
        let verify = Action::Verify {
            torrent: id,
            piece: piece(0),
            fresh: false,
        };
        assert_eq!(swarm.action(&mut parts, slot), Some(verify));
        assert_eq!(parts.cx.peers[slot].upload.awaits_verify, Some(piece(0)));
        assert_eq!(swarm.action(&mut parts, slot), None, "it is being verified");
        swarm.verified(&mut parts, id, piece(0), true);
        let conn = parts.cx.peers.id(slot);
        let sends = Some(Action::Transmit { conn });
        assert_eq!(swarm.action(&mut parts, slot), sends);
    }

    #[test]
    fn what_is_sent_is_counted() {
        // The message, bytes of content of it that went out: requests that are left, bytes that count.
        for (out, fresh, body, left, counted) in [
            (Out::Piece(BLOCK_0), true, BLOCK, 0, BLOCK),
            (Out::Piece(BLOCK_0), true, 7, 0, 7),
            (Out::Piece(BLOCK_0), false, 9, 1, 9),
            (Out::Reject(BLOCK_0), true, 0, 0, 0),
            (Out::Metadata(0), true, 500, 0, 0),
            (Out::KeepAlive, true, 0, 1, 0),
        ] {
            let (mut parts, id) = parts(Have::All);
            let slot = peer(&mut parts.cx, id, true);
            requests(&mut parts, slot);
            swarm().sent(&mut parts, slot, out, fresh, body);
            let side = &parts.cx.peers[slot].upload;
            assert_eq!(side.requests.len(), left, "{out:?} {fresh}");
            let torrent = parts.cx.torrents.get(id).unwrap();
            let all = [side.uploaded, torrent.uploaded, parts.upload.uploaded];
            assert_eq!(all, [u64::from(counted); 3], "{out:?} {fresh}");
        }
    }
}
