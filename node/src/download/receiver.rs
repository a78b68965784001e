//! Blocks that come, and what becomes of them: written, verified, told to others.

use everseed_core::bits;
use everseed_core::geometry::{BLOCK, BlockRef, PieceIndex, Span, TorrentId};
use everseed_core::pool::BlockId;
use everseed_core::time::Instant;

use crate::download::evidence::{Evidence, Verdict};
use crate::download::pending_blocks::{PendingBlock, State};
use crate::download::pieces_in_progress;
use crate::peer::{Payload, Reason};
use crate::swarm::admission::origin;
use crate::torrent;
use crate::upload::request_queue::NONE;
use crate::{Action, Node, StorageError};

/// Bytes that a peer may send unasked before it is let go.
const UNASKED_MAX: u32 = 16 * BLOCK;

impl<'m> Node<'m> {
    /// The head of a `piece` message.
    pub(crate) fn piece(&mut self, slot: usize, block: BlockRef) -> Result<(), Reason> {
        let conn = &self.peers[slot];
        let hit = |pending: &PendingBlock| {
            pending.state == State::Asked && self.block_ref(pending) == Some(block)
        };
        match self.download.pending.find(&conn.download.pending, hit) {
            Some(at) => {
                if let Some(pending) = self.download.pending.get_mut(at) {
                    pending.state = State::Arriving;
                }
                self.peers[slot].download.receiving = at;
                self.peers[slot].link.payload = Payload::Block;
                Ok(())
            }
            None => self.unasked(slot, block.len),
        }
    }

    /// A block comes that nobody waits for: it passes by, and too much of it is charged.
    fn unasked(&mut self, slot: usize, len: u32) -> Result<(), Reason> {
        let conn = &mut self.peers[slot];
        conn.link.payload = Payload::Unasked;
        if conn.download.excused > 0 {
            conn.download.excused -= 1;
            return Ok(());
        }
        conn.download.unrequested = conn.download.unrequested.saturating_add(len);
        if conn.download.unrequested > UNASKED_MAX {
            Err(Reason::Unasked)
        } else {
            Ok(())
        }
    }

    /// Bytes of the block that arrives.
    pub(crate) fn block_bytes(&mut self, slot: usize, bytes: &[u8]) {
        let at = self.peers[slot].download.receiving;
        let Some(pending) = self.download.pending.get(at) else {
            return;
        };
        let got = pending.got as usize;
        let room = self.download.blocks.bytes_mut(pending.block);
        if let Some(room) = room.and_then(|all| all.get_mut(got..got + bytes.len())) {
            room.copy_from_slice(bytes);
        }
        self.block_came(slot, bytes.len());
    }

    /// Where to read a block to directly: what is left of it.
    pub(crate) fn block_space(&mut self, slot: usize) -> Option<&mut [u8]> {
        let pending = self
            .download
            .pending
            .get(self.peers[slot].download.receiving)?;
        let (got, len) = (pending.got as usize, pending.len as usize);
        self.download
            .blocks
            .bytes_mut(pending.block)?
            .get_mut(got..len)
    }

    /// Whether the next bytes are read into their block, as the scratch is shorter than that.
    pub(crate) fn reads_in_place(&self, slot: usize) -> bool {
        self.peers[slot].download.receiving != NONE && self.swarm.scratch.len() < BLOCK as usize
    }

    /// So many more bytes of the block are there.
    #[allow(clippy::cast_possible_truncation)] // A block's length is a u32.
    pub(crate) fn block_came(&mut self, slot: usize, len: usize) {
        let at = self.peers[slot].download.receiving;
        let Some(pending) = self.download.pending.get_mut(at) else {
            return;
        };
        pending.got += len as u32;
        let whole = pending.got >= pending.len;
        let conn = &mut self.peers[slot];
        conn.download.downloaded = conn.download.downloaded.saturating_add(len as u64);
        self.download.downloaded = self.download.downloaded.saturating_add(len as u64);
        if let Some(torrent) = conn.link.torrent.and_then(|id| self.torrents.get_mut(id)) {
            torrent.downloaded = torrent.downloaded.saturating_add(len as u64);
        }
        if whole {
            self.block_is_here(slot, at);
        }
    }

    /// A block is complete: it is to be written.
    fn block_is_here(&mut self, slot: usize, at: u16) {
        let conn = &mut self.peers[slot];
        conn.download.receiving = NONE;
        conn.download.last_block_at = conn.link.last_received_at;
        conn.link.payload = Payload::Skip;
        conn.download.pipeline = conn.download.pipeline.saturating_add(1);
        conn.download.retractions = 0;
        let (from, id) = (origin(conn.link.addr), conn.link.torrent);
        conn.download.owes = false;
        if core::mem::take(&mut conn.download.snubbed) | core::mem::take(&mut conn.download.slow) {
            self.count_active_sources();
        }
        let refused = id.is_some_and(|id| !self.fetches(id));
        self.download
            .pending
            .unlink(&mut self.peers[slot].download.pending, at);
        let Some(pending) = self.download.pending.get_mut(at) else {
            return;
        };
        if refused {
            let pending = *pending;
            return self.free_pending(at, pending);
        }
        pending.state = State::Write;
        let pending = *pending;
        self.download.pending.push(&mut self.download.writes, at);
        let (bytes, secret) = (
            self.download.blocks.bytes_mut(pending.block),
            &self.download.secret,
        );
        let whole = bytes.and_then(|all| all.get(..pending.len as usize));
        self.download
            .in_progress
            .came(pending.partial, pending.index, from, || {
                secret.of(pending.index, whole.unwrap_or_default())
            });
        if id
            .and_then(|id| self.torrents.get(id))
            .is_some_and(|t| t.endgame)
        {
            // Whoever snubbed us left it open.
            self.download
                .in_progress
                .taken(pending.partial, pending.index);
            self.cancel_twins(at, &pending);
        }
    }

    /// Takes back what other peers were asked for, as the block is here.
    fn cancel_twins(&mut self, at: u16, pending: &PendingBlock) {
        let twin = |(slot, f): &(u16, &PendingBlock)| {
            *slot != at && f.partial == pending.partial && f.index == pending.index
        };
        // At most one for each connection.
        for _ in 0..self.peers.len() {
            let found = self.download.pending.in_use().find(twin);
            let Some((other, conn)) = found.map(|(slot, f)| (slot, f.conn)) else {
                return;
            };
            self.cancel_pending(usize::from(conn), other);
        }
    }

    /// What the host is to do for a download: write a block, or verify a piece.
    pub(crate) fn storage_action(&mut self) -> Option<Action> {
        let at = self.download.writes.head;
        if let Some(pending) = self.download.pending.get(at).copied() {
            self.download.pending.unlink(&mut self.download.writes, at);
            let span = self.span(&pending);
            if let (Some(span), Some(slot)) = (span, self.download.pending.get_mut(at)) {
                slot.state = State::Writing;
                return Some(Action::Write {
                    block: pending.block,
                    span,
                });
            }
        }
        if !self.download.to_verify {
            return None;
        }
        let torrents = &self.torrents;
        let active = |id| {
            torrents
                .get(id)
                .is_some_and(|t| t.state == torrent::State::Active)
        };
        if let Some(partial) = self.download.in_progress.take_written(active) {
            let id = partial.torrent?;
            let piece = torrents.get(id)?.geometry?.piece(partial.piece)?;
            return Some(Action::Verify {
                torrent: id,
                piece,
                fresh: false,
            });
        }
        self.download.to_verify = false;
        None
    }

    fn span(&self, pending: &PendingBlock) -> Option<Span> {
        let partial = self.download.in_progress.get(pending.partial)?;
        let torrent = partial.torrent?;
        let geometry = self.torrents.get(torrent)?.geometry?;
        let (_, offset) = geometry.locate(self.block_ref(pending)?)?;
        Some(Span {
            torrent,
            offset,
            len: pending.len,
        })
    }

    /// A block comes back from the host.
    pub(crate) fn block_written(
        &mut self,
        block: BlockId,
        bytes: &'m mut [u8],
        result: Result<(), StorageError>,
    ) {
        if !self.download.blocks.put_back(block, bytes) {
            return;
        }
        let Some(pending) = self.download.pending.get(block.slot).copied() else {
            return;
        };
        match (pending.state, result) {
            (State::Writing, Ok(())) => {
                self.download
                    .in_progress
                    .written(pending.partial, pending.index);
                self.download.to_verify = true;
            }
            (State::Writing, Err(StorageError::Pieces { first, end })) => {
                let id = self
                    .download
                    .in_progress
                    .get(pending.partial)
                    .and_then(|p| p.torrent);
                self.free_pending(block.slot, pending);
                return id.map_or((), |id| self.leave_out(id, first..end));
            }
            (State::Writing, Err(error)) => self.refused(&pending, error),
            _ => {}
        }
        self.free_pending(block.slot, pending);
    }

    /// A torrent's storage takes no writes: nothing more is asked for.
    fn refused(&mut self, pending: &PendingBlock, error: StorageError) {
        let Some(id) = self
            .download
            .in_progress
            .get(pending.partial)
            .and_then(|p| p.torrent)
        else {
            return;
        };
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.refused = Some(error);
        }
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent == Some(id) {
                self.drop_all_pending(slot, true);
            }
        }
    }

    /// A torrent's storage may take writes again.
    pub(crate) fn writable(&mut self, id: TorrentId) {
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.refused = None;
            self.download.request_all = true;
        }
    }

    /// A piece that was downloaded has been verified; false if it was none.
    pub(crate) fn downloaded_piece(
        &mut self,
        now: Instant,
        id: TorrentId,
        piece: PieceIndex,
        good: bool,
    ) -> bool {
        let Some(slot) = self.download.in_progress.find(id, piece) else {
            return false;
        };
        if self.download.in_progress.get(slot).map(|p| p.state)
            != Some(pieces_in_progress::State::Verifying)
        {
            return false;
        }
        if !good {
            self.bad_piece(id, slot);
            return true;
        }
        let evidence = self
            .download
            .in_progress
            .get(slot)
            .map(|partial| partial.evidence);
        self.end_partial(slot);
        if let Some(evidence) = evidence {
            self.judge(&evidence);
        }
        // It may be had already, by a late answer, and not be wanted any more.
        let lacked = self.torrents.get(id).is_some_and(|t| {
            self.torrents.contains(t.wanted, piece) && !self.torrents.contains(t.have, piece)
        });
        if !self.torrents.verified(id, piece, true) {
            log::warn!("no memory to note that piece {} is here", piece.get());
            self.unreadable(id);
            return true;
        }
        self.tell_have(id, piece);
        if let Some(torrent) = self.torrents.get_mut(id).filter(|_| lacked) {
            torrent.missing = torrent.missing.saturating_sub(1);
            if torrent.missing == 0 {
                self.finished(now, id);
            }
        }
        true
    }

    /// Everybody is told of a piece.
    pub(crate) fn tell_have(&mut self, id: TorrentId, piece: PieceIndex) {
        self.swarm.have_log.add(id, piece.get());
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent == Some(id) && self.peers[slot].is_open() {
                self.peers.make_ready(slot);
            }
        }
    }

    /// A piece was bad: who gave all of it is charged, and it is fetched from one peer.
    fn bad_piece(&mut self, id: TorrentId, slot: u16) {
        let Some(partial) = self.download.in_progress.get(slot) else {
            return;
        };
        log::debug!("piece {} is bad", partial.piece);
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.bad_pieces = torrent.bad_pieces.saturating_add(1);
        }
        if let Some((giver, strikes)) = self.download.in_progress.again(slot) {
            self.charge(giver, strikes);
        }
        self.download.request_all = true;
    }

    /// A piece is good: who gave it gets credit, and who gave bad copies of it before is found out.
    fn judge(&mut self, evidence: &Evidence) {
        for giver in evidence.sources() {
            self.swarm.bans.credit(giver);
            for conn in self.peers.iter_mut().filter(|conn| conn.is_open()) {
                conn.download.good_pieces += u32::from(origin(conn.link.addr) == giver);
            }
        }
        for verdict in evidence.verdicts() {
            match verdict {
                Verdict::Proven(giver, strikes) => self.charge(giver, strikes),
                Verdict::Acquitted(giver, strikes) => self.swarm.bans.acquit(giver, strikes),
            }
        }
    }

    fn charge(&mut self, giver: u64, strikes: u8) {
        if self.swarm.bans.charge(self.now, giver, strikes) {
            self.expel(giver);
        }
    }

    /// Closes the connections of a banned origin.
    fn expel(&mut self, giver: u64) {
        for slot in 0..self.peers.len() {
            if self.peers[slot].is_live() && origin(self.peers[slot].link.addr) == giver {
                self.close(slot, Reason::BadPieces);
            }
        }
    }

    /// All that is wanted is here.
    pub(crate) fn finished(&mut self, now: Instant, id: TorrentId) {
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent != Some(id) {
                continue;
            }
            self.drop_all_pending(slot, false);
            self.forget_bits(slot);
            self.review(slot);
            if self.peers[slot].is_open()
                && let Err(reason) = self.both_seeds(slot)
            {
                self.close(slot, reason);
            }
        }
        // What is in progress is not wanted any more.
        self.forget_partials(id);
        let Some(torrent) = self.torrents.get_mut(id) else {
            return;
        };
        torrent.endgame = false;
        torrent.counts = crate::memory::ranges::LentRange::EMPTY;
        torrent.begun = torrent::Bits::None;
        if torrent.have == torrent::Bits::All {
            self.discovery.announcer.completed(now, id);
        }
    }

    /// Nothing of a torrent is in progress any more.
    pub(crate) fn forget_partials(&mut self, id: TorrentId) {
        for at in 0..self.download.pending.len() {
            let Ok(at) = u16::try_from(at) else { return };
            let Some(pending) = self.download.pending.get(at).copied() else {
                return;
            };
            let its = self.download.in_progress.get(pending.partial);
            if its.is_none_or(|p| p.torrent != Some(id)) {
                continue;
            }
            match pending.state {
                State::Write => {
                    self.download.pending.unlink(&mut self.download.writes, at);
                    self.free_pending(at, pending);
                }
                State::Writing => {
                    if let Some(pending) = self.download.pending.get_mut(at) {
                        pending.state = State::Dropped;
                        pending.partial = NONE;
                    }
                }
                // Those of connections go with them.
                _ => {}
            }
        }
        loop {
            let next = self
                .download
                .in_progress
                .of(id)
                .next()
                .map(|(slot, _)| slot);
            let Some(slot) = next else { return };
            self.end_partial(slot);
        }
    }
}

/// The first piece from `from` on that is in the set of these bits.
pub(crate) fn next_set(bytes: &[u8], from: u32, pieces: u32) -> Option<u32> {
    (from..pieces).find(|&piece| bits::get(bytes, piece))
}
