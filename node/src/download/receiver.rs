//! The receiver: a block from the first byte that a peer sends until it is written and its piece verified.

use core::ops::Range;

use everseed_core::bits;
use everseed_core::geometry::{BLOCK, BlockRef, Span, TorrentId};
use everseed_core::pool::BlockId;

use crate::api::{Action, StorageError};
use crate::broken::broken;
use crate::context::Context;
use crate::download::Download;
use crate::download::pending_blocks::{BlockState, PendingBlock};
use crate::memory::ids::NONE;
use crate::peer::origin;
use crate::peer::{Payload, Reason};
use crate::torrent;
use crate::wake::Wake;

/// Bytes that a peer may send unrequested before its connection is closed.
const UNREQUESTED_MAX: u32 = 16 * BLOCK;

impl<'m> Download<'m> {
    /// The head of a `piece` message.
    pub(crate) fn piece(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        block: BlockRef,
    ) -> Result<(), Reason> {
        let conn = &cx.peers[slot];
        let hit = |pending: &PendingBlock| {
            pending.state == BlockState::Requested && self.block_ref(cx, pending) == Some(block)
        };
        match self.pending.find(&conn.download.pending, hit) {
            Some(at) => {
                if let Some(pending) = self.pending.get_mut(at) {
                    pending.state = BlockState::Receiving;
                }
                cx.peers[slot].download.receiving = at;
                cx.peers[slot].link.payload = Payload::Block;
                Ok(())
            }
            None => self.unrequested(cx, slot, block.len),
        }
    }

    /// A block arrives that was not requested: it is skipped. A peer that sends too many of them is closed.
    pub(crate) fn unrequested(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        len: u32,
    ) -> Result<(), Reason> {
        let conn = &mut cx.peers[slot];
        conn.link.payload = Payload::Unrequested;
        if conn.download.excused > 0 {
            conn.download.excused -= 1;
            return Ok(());
        }
        conn.download.unrequested = conn.download.unrequested.saturating_add(len);
        if conn.download.unrequested > UNREQUESTED_MAX {
            Err(Reason::Unasked)
        } else {
            Ok(())
        }
    }

    /// Copies bytes of the block that arrives to its place.
    pub(crate) fn block_bytes(&mut self, cx: &mut Context<'_>, slot: usize, bytes: &[u8]) {
        let at = cx.peers[slot].download.receiving;
        let Some(pending) = self.pending.get(at) else {
            return broken("a pending block that arrives");
        };
        let got = pending.got as usize;
        let room = self.blocks.bytes_mut(pending.block);
        match room.and_then(|all| all.get_mut(got..got + bytes.len())) {
            Some(room) => room.copy_from_slice(bytes),
            None => broken("room for all of a block"),
        }
        self.block_bytes_received(cx, slot, bytes.len());
    }

    /// Where to read a block to directly: what is left of it.
    pub(crate) fn block_space(&mut self, receiving: u16) -> Option<&mut [u8]> {
        let pending = self.pending.get(receiving)?;
        let (got, len) = (pending.got as usize, pending.len as usize);
        self.blocks.bytes_mut(pending.block)?.get_mut(got..len)
    }

    /// Counts bytes of the block that arrived.
    #[allow(clippy::cast_possible_truncation)] // A block's length is a u32.
    pub(crate) fn block_bytes_received(&mut self, cx: &mut Context<'_>, slot: usize, len: usize) {
        let at = cx.peers[slot].download.receiving;
        let Some(pending) = self.pending.get_mut(at) else {
            return broken("a pending block that arrives");
        };
        pending.got += len as u32;
        let whole = pending.got >= pending.len;
        let conn = &mut cx.peers[slot];
        conn.download.downloaded = conn.download.downloaded.saturating_add(len as u64);
        self.downloaded = self.downloaded.saturating_add(len as u64);
        let content = |t: &&mut torrent::Torrent| !t.lacks_metadata();
        let torrent = conn.link.torrent.and_then(|id| cx.torrents.get_mut(id));
        if let Some(torrent) = torrent.filter(content) {
            torrent.downloaded = torrent.downloaded.saturating_add(len as u64);
        }
        if whole {
            self.block_complete(cx, slot, at);
        }
    }

    /// A block is complete: it is to be written.
    fn block_complete(&mut self, cx: &mut Context<'_>, slot: usize, at: u16) {
        let conn = &mut cx.peers[slot];
        conn.download.receiving = NONE;
        conn.download.last_block_at = conn.link.last_received_at;
        conn.link.payload = Payload::Skip;
        if let Some(pending) = self.pending.get(at) {
            let took = cx.now - pending.requested_at;
            conn.download.lengthen_pipeline(took);
        }
        conn.download.retractions = 0;
        let (from, id) = (origin(conn.link.addr), conn.link.torrent);
        conn.download.owes = false;
        if core::mem::take(&mut conn.download.snubbed) | core::mem::take(&mut conn.download.slow) {
            self.count_active_sources(cx);
        }
        let refused = id.is_some_and(|id| !cx.torrents.fetches(id));
        let listed = &mut cx.peers[slot].download.pending;
        if !self.pending.unlink(listed, at) {
            return broken("a block that arrives among those of its peer");
        }
        let Some(pending) = self.pending.get_mut(at) else {
            return broken("a pending block in a list");
        };
        if refused {
            let pending = *pending;
            return self.free_pending(cx, at, pending);
        }
        pending.state = BlockState::Write;
        let pending = *pending;
        self.pending.push(&mut self.writes, at);
        let (bytes, secret) = (self.blocks.bytes_mut(pending.block), &self.secret);
        let whole = bytes.and_then(|all| all.get(..pending.len as usize));
        debug_assert!(whole.is_some(), "the bytes of a block that is here");
        self.in_progress
            .block_received(pending.partial, pending.index, from, || {
                secret.of(pending.index, whole.unwrap_or_default())
            });
        if id
            .and_then(|id| cx.torrents.get(id))
            .is_some_and(|t| t.endgame)
        {
            // Whoever snubbed us left it open.
            self.in_progress.close(pending.partial, pending.index);
            self.cancel_duplicates(cx, at, &pending);
        }
    }

    /// Cancels the requests for a block at other peers, as it is here.
    fn cancel_duplicates(&mut self, cx: &mut Context<'_>, at: u16, pending: &PendingBlock) {
        let twin = |(slot, f): &(u16, &PendingBlock)| {
            *slot != at && f.partial == pending.partial && f.index == pending.index
        };
        // At most one for each connection.
        for _ in 0..cx.peers.len() {
            let found = self.pending.in_use().find(twin);
            let holder = found.and_then(|(other, f)| Some((other, f.source.peer()?)));
            let Some((other, slot)) = holder else {
                return;
            };
            self.cancel_pending(cx, slot, other);
        }
    }

    /// The next action of the storage for a download: write a block, or verify a piece.
    pub(crate) fn storage_action(&mut self, cx: &mut Context<'_>) -> Option<Action> {
        let at = self.writes.head;
        if let Some(pending) = self.pending.get(at).copied() {
            self.pending.unlink(&mut self.writes, at);
            let span = self.span(cx, &pending);
            if let (Some(span), Some(slot)) = (span, self.pending.get_mut(at)) {
                slot.state = BlockState::Writing;
                return Some(Action::Write {
                    block: pending.block,
                    span,
                });
            }
            broken("a place in its torrent for a block to write");
            self.free_pending(cx, at, pending);
        }
        if !cx.wakes.has(Wake::Verify) {
            return None;
        }
        let torrents = &cx.torrents;
        let active = |id| {
            torrents
                .get(id)
                .is_some_and(|t| t.state == torrent::TorrentState::Active)
        };
        if let Some(partial) = self.in_progress.take_written(active) {
            let geometry = |id| torrents.get(id).and_then(|t| t.geometry);
            let piece = partial.torrent.and_then(geometry);
            let piece = piece.and_then(|g| g.piece(partial.piece));
            if let Some((torrent, piece)) = partial.torrent.zip(piece) {
                return Some(Action::Verify {
                    torrent,
                    piece,
                    fresh: false,
                });
            }
            broken("a torrent with the piece to verify");
            return None;
        }
        cx.wakes.take(Wake::Verify);
        None
    }

    fn span(&self, cx: &Context<'_>, pending: &PendingBlock) -> Option<Span> {
        let partial = self.in_progress.get(pending.partial)?;
        let torrent = partial.torrent?;
        let geometry = cx.torrents.get(torrent)?.geometry?;
        let (_, offset) = geometry.locate(self.block_ref(cx, pending)?)?;
        Some(Span {
            torrent,
            offset,
            len: pending.len,
        })
    }

    /// The host wrote a block, or failed to. Returns the pieces that are to be left out, if their storage failed.
    #[must_use]
    pub(crate) fn block_written(
        &mut self,
        cx: &mut Context<'_>,
        block: BlockId,
        bytes: &'m mut [u8],
        result: Result<(), StorageError>,
    ) -> Option<(TorrentId, Range<u32>)> {
        if !self.blocks.put_back(block, bytes) {
            return None;
        }
        let pending = self.pending.get(block.slot).copied()?;
        match (pending.state, result) {
            (BlockState::Writing, Ok(())) => {
                self.in_progress
                    .block_written(pending.partial, pending.index);
                cx.wakes.add(Wake::Verify);
            }
            (BlockState::Writing, Err(StorageError::Pieces { first, end })) => {
                let id = self
                    .in_progress
                    .get(pending.partial)
                    .and_then(|p| p.torrent);
                self.free_pending(cx, block.slot, pending);
                return id.map(|id| (id, first..end));
            }
            (BlockState::Writing, Err(error)) => self.storage_refused(cx, &pending, error),
            (BlockState::Dropped, _) => {}
            _ => broken("a block that is being written"),
        }
        self.free_pending(cx, block.slot, pending);
        None
    }

    /// A torrent's storage refused a write: no more blocks are requested for it.
    fn storage_refused(
        &mut self,
        cx: &mut Context<'_>,
        pending: &PendingBlock,
        error: StorageError,
    ) {
        let Some(id) = self
            .in_progress
            .get(pending.partial)
            .and_then(|p| p.torrent)
        else {
            return broken("a piece in progress of a block to write");
        };
        if let Some(torrent) = cx.torrents.get_mut(id) {
            torrent.refused = Some(error);
        }
        for slot in 0..cx.peers.len() {
            if cx.peers[slot].link.torrent == Some(id) {
                self.drop_all_pending(cx, slot, true);
            }
        }
    }

    /// A torrent's storage may take writes again.
    pub(crate) fn storage_writable(&mut self, cx: &mut Context<'_>, id: TorrentId) {
        if let Some(torrent) = cx.torrents.get_mut(id) {
            torrent.refused = None;
            cx.wakes.add(Wake::Request);
        }
    }

    /// Forgets a piece in progress, and the blocks of it that are on their way.
    pub(crate) fn give_up(&mut self, cx: &mut Context<'_>, partial: u16) {
        for at in self.pending.slots() {
            let its = |f: &PendingBlock| f.partial == partial;
            let Some(pending) = self.pending.get(at).copied().filter(its) else {
                continue;
            };
            match pending.state {
                BlockState::Free | BlockState::Dropped => {}
                BlockState::Write => {
                    self.pending.unlink(&mut self.writes, at);
                    self.free_pending(cx, at, pending);
                }
                BlockState::Writing => {
                    if let Some(pending) = self.pending.get_mut(at) {
                        (pending.state, pending.partial) = (BlockState::Dropped, NONE);
                    }
                }
                BlockState::Reserved | BlockState::Requested | BlockState::Receiving => {
                    if let Some(slot) = pending.source.peer() {
                        self.cancel_pending(cx, slot, at);
                    }
                }
            }
        }
        self.end_partial(cx, partial);
    }

    /// Nothing of a torrent is in progress any more.
    pub(crate) fn forget_partials(&mut self, cx: &mut Context<'_>, id: TorrentId) {
        for at in self.pending.slots() {
            let its = |f: &PendingBlock| {
                let partial = self.in_progress.get(f.partial);
                partial.is_some_and(|p| p.torrent == Some(id))
            };
            let Some(pending) = self.pending.get(at).copied().filter(its) else {
                continue;
            };
            match pending.state {
                BlockState::Write => {
                    self.pending.unlink(&mut self.writes, at);
                    self.free_pending(cx, at, pending);
                }
                BlockState::Writing => {
                    if let Some(pending) = self.pending.get_mut(at) {
                        pending.state = BlockState::Dropped;
                        pending.partial = NONE;
                    }
                }
                // Those of connections go with them.
                _ => {}
            }
        }
        loop {
            let next = self.in_progress.of(id).next().map(|(slot, _)| slot);
            let Some(slot) = next else { return };
            self.end_partial(cx, slot);
        }
    }
}

/// The first piece from `from` on that is in the set of these bits.
pub(crate) fn next_set(bytes: &[u8], from: u32, pieces: u32) -> Option<u32> {
    (from..pieces).find(|&piece| bits::get(bytes, piece))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::api::Have;
    use crate::download::tests::requested_from;
    use crate::parts::Parts;
    use crate::parts::small::{parts, peer, piece};

    /// The first block that is pending at a peer.
    fn first(parts: &Parts<'_>, slot: usize) -> (u16, BlockRef) {
        let at = parts.cx.peers[slot].download.pending.head;
        let pending = parts.download.pending.get(at).unwrap();
        (at, parts.download.block_ref(&parts.cx, pending).unwrap())
    }

    /// All of the first pending block of a peer arrives.
    fn arrives(parts: &mut Parts<'static>, slot: usize) -> (u16, BlockRef) {
        let (at, block) = first(parts, slot);
        let Parts { cx, download, .. } = parts;
        assert_eq!(download.piece(cx, slot, block), Ok(()));
        download.block_bytes(cx, slot, &std::vec![7; block.len as usize]);
        (at, block)
    }

    #[test]
    fn a_block_arrives_in_parts_and_is_written_and_verified() {
        let (mut parts, id) = parts(Have::Nothing);
        let slot = requested_from(&mut parts, id);
        let (at, block) = first(&parts, slot);
        let Parts { cx, download, .. } = &mut parts;
        assert_eq!(download.piece(cx, slot, block), Ok(()));
        assert_eq!(cx.peers[slot].link.payload, Payload::Block);
        download.block_bytes(cx, slot, &[1; 1000]);
        let rest = download.block_space(at).unwrap();
        assert_eq!(rest.len(), BLOCK as usize - 1000);
        rest.fill(2);
        assert_eq!(download.storage_action(cx), None, "it is not whole");
        download.block_bytes_received(cx, slot, BLOCK as usize - 1000);
        let all = [
            download.downloaded,
            cx.peers[slot].download.downloaded,
            cx.torrents.get(id).unwrap().downloaded,
        ];
        assert_eq!(all, [u64::from(BLOCK); 3]);
        let Some(Action::Write { block, span }) = download.storage_action(cx) else {
            panic!("a block to write");
        };
        assert_eq!((span.torrent, span.len), (id, BLOCK));
        let bytes = download.blocks.hand_out(block).unwrap();
        assert_eq!((bytes[999], bytes[1000]), (1, 2));
        let free = download.blocks.free();
        assert_eq!(download.block_written(cx, block, bytes, Ok(())), None);
        assert_eq!(download.blocks.free(), free + 1);
        assert_eq!(
            download.storage_action(cx),
            None,
            "one block of two is missing"
        );
        // The other block of the piece.
        arrives(&mut parts, slot);
        let Parts { cx, download, .. } = &mut parts;
        let Some(Action::Write { block, span: other }) = download.storage_action(cx) else {
            panic!("a block to write");
        };
        let bytes = download.blocks.hand_out(block).unwrap();
        assert_eq!(download.block_written(cx, block, bytes, Ok(())), None);
        let index = u32::try_from(span.offset.min(other.offset) / (2 * u64::from(BLOCK)));
        let verify = Action::Verify {
            torrent: id,
            piece: piece(index.unwrap()),
            fresh: false,
        };
        assert_eq!(download.storage_action(cx), Some(verify));
        assert_eq!(download.storage_action(cx), None, "once");
    }

    #[test]
    fn blocks_that_were_not_requested_are_skipped_up_to_a_limit() {
        // Cancelled or rejected requests, whose blocks may be on their way: blocks that are skipped before it is too much.
        for (excused, most) in [(0, 16), (3, 19)] {
            let (mut parts, id) = parts(Have::Nothing);
            let Parts { cx, download, .. } = &mut parts;
            let slot = peer(cx, id, true);
            cx.peers[slot].download.excused = excused;
            let block = BlockRef {
                index: 0,
                begin: 0,
                len: BLOCK,
            };
            for n in 0..most {
                assert_eq!(download.piece(cx, slot, block), Ok(()), "{n} of {most}");
                assert_eq!(cx.peers[slot].link.payload, Payload::Unrequested);
            }
            assert_eq!(download.piece(cx, slot, block), Err(Reason::Unasked));
        }
    }

    #[test]
    fn what_a_write_changes() {
        // The result: whether the torrent takes no more, whether pieces are left out, blocks of the piece that are open.
        let bad = StorageError::Pieces { first: 1, end: 3 };
        for (result, refused, left_out, requested) in [
            (Ok(()), false, None, 3),
            (Err(StorageError::Full), true, None, 0),
            (Err(bad), false, Some(1..3), 3),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            let slot = requested_from(&mut parts, id);
            arrives(&mut parts, slot);
            let Parts { cx, download, .. } = &mut parts;
            let Some(Action::Write { block, .. }) = download.storage_action(cx) else {
                panic!("a block to write");
            };
            // Requests that were sent stay, as they are answered; these are not sent yet.
            let mut at = cx.peers[slot].download.pending.head;
            while let Some(pending) = download.pending.get_mut(at) {
                pending.state = BlockState::Reserved;
                at = pending.next;
            }
            let bytes = download.blocks.hand_out(block).unwrap();
            let out = download.block_written(cx, block, bytes, result);
            assert_eq!(out, left_out.map(|range| (id, range)), "{result:?}");
            let is = cx.torrents.get(id).unwrap().refused.is_some();
            assert_eq!(is, refused, "{result:?}");
            let pending = cx.peers[slot].download.pending.len;
            assert_eq!(pending, requested, "{result:?}");
            assert_eq!(
                download.blocks.free(),
                6 - usize::from(pending),
                "{result:?}"
            );
            if refused {
                assert!(!cx.torrents.fetches(id));
                download.storage_writable(cx, id);
                assert!(cx.torrents.fetches(id) && cx.wakes.has(Wake::Request));
            }
        }
    }

    #[test]
    fn a_block_that_is_here_is_cancelled_elsewhere() {
        for endgame in [true, false] {
            let (mut parts, id) = parts(Have::Nothing);
            let slot = requested_from(&mut parts, id);
            let (at, block) = first(&parts, slot);
            let Parts { cx, download, .. } = &mut parts;
            let pending = *download.pending.get(at).unwrap();
            let other = peer(cx, id, true);
            download.reserve(cx, other, pending.partial, pending.index);
            let twin = cx.peers[other].download.pending.head;
            download.pending.get_mut(twin).unwrap().state = BlockState::Requested;
            cx.torrents.get_mut(id).unwrap().endgame = endgame;
            arrives(&mut parts, slot);
            let side = &parts.cx.peers[other].download;
            let left = u16::from(!endgame);
            assert_eq!(side.pending.len, left, "{endgame}");
            let cancels = side.cancels.iter().filter(|&&c| c == block).count();
            assert_eq!(cancels, usize::from(endgame));
        }
    }

    #[test]
    fn a_piece_that_is_given_up_leaves_nothing_behind() {
        for (state, free) in [
            (BlockState::Requested, 6),
            (BlockState::Write, 6),
            // Its bytes come back from the host.
            (BlockState::Writing, 5),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            let slot = requested_from(&mut parts, id);
            let (at, _) = match state {
                BlockState::Requested => first(&parts, slot),
                _ => arrives(&mut parts, slot),
            };
            let Parts { cx, download, .. } = &mut parts;
            if state == BlockState::Writing {
                assert!(download.storage_action(cx).is_some());
            }
            let partial = download.pending.get(at).unwrap().partial;
            let all: std::vec::Vec<_> = download.in_progress.of(id).map(|(at, _)| at).collect();
            assert!(all.contains(&partial));
            for partial in all {
                download.give_up(cx, partial);
            }
            assert_eq!(download.blocks.free(), free, "{state:?}");
            assert!(download.in_progress.of(id).next().is_none());
            assert_eq!(cx.peers[slot].download.pending.len, 0);
            assert_eq!(download.storage_action(cx), None, "{state:?}");
        }
    }

    #[test]
    fn a_torrent_that_goes_takes_its_pieces_in_progress_with_it() {
        let (mut parts, id) = parts(Have::Nothing);
        let slot = requested_from(&mut parts, id);
        arrives(&mut parts, slot);
        let Parts { cx, download, .. } = &mut parts;
        download.drop_all_pending(cx, slot, false);
        download.forget_partials(cx, id);
        assert_eq!(download.blocks.free(), 6);
        assert!(download.in_progress.of(id).next().is_none());
        let torrent = cx.torrents.get(id).unwrap();
        assert_eq!(cx.torrents.count(torrent.begun, 8), 0);
    }
}
