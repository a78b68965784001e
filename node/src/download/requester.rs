//! The requester: which blocks are requested from which peer, how many at a time, and whether we are interested.

#[cfg(test)]
mod tests;

use everseed_core::geometry::{BLOCK, BlockRef, PieceIndex, TorrentId};

use crate::api::Order;
use crate::broken::broken;
use crate::context::Context;
use crate::download::Download;

use crate::download::offers::RETRACTIONS_MAX;
use crate::download::pending_blocks::{BlockSource, BlockState, PendingBlock};
use crate::download::picker::{Choice, Rule};
use crate::download::pieces_in_progress::PiecesInProgress;
use crate::download::pieces_in_progress::{self, PieceInProgress};
use crate::memory::ids::NONE;
use crate::peer::Has;
use crate::peer::origin;
use crate::rate::QUANTUM;
use crate::torrent::Torrents;
use crate::wake::Wake;

/// Blocks that are requested from one peer at a time, at most.
const PIPELINE_MAX: u16 = 250;

/// Requests that are sent to a peer together, at most as long as all is well.
const TOGETHER: u16 = 16;

/// The first few pieces are any that come soon, to have something to trade (BEP 3).
const RANDOM_FIRST: u32 = 4;

impl Download<'_> {
    /// Requests as many blocks from a peer as should be pending there now.
    pub(crate) fn request_blocks(&mut self, cx: &mut Context<'_>, slot: usize) {
        let conn = &cx.peers[slot];
        let Some(id) = conn.link.torrent.filter(|_| conn.is_open()) else {
            return;
        };
        if cx.lacks_metadata(slot) {
            return self.request_metadata(cx, slot, id);
        }
        if !conn.download.interested {
            return;
        }
        let target = self.pipeline(cx, slot);
        // Not one at a time, as each message to send costs more than it carries. Nor so many that a far peer waits for
        // them.
        let together = target.div_ceil(4).min(TOGETHER);
        if conn.download.pending.len > target - together || !cx.torrents.fetches(id) {
            return;
        }
        let offers = conn.download.unchoked || !conn.download.allowed_fast.is_empty();
        if !offers
            || conn.download.retractions >= RETRACTIONS_MAX
            || conn.download.snubbed && !self.may_request_from_snubber(cx, slot)
        {
            return;
        }
        if conn.download.pending.len == 0 && !conn.download.owes {
            cx.peers[slot].download.last_block_at = cx.now;
        }
        while cx.peers[slot].download.pending.len < target && self.may_reserve(cx, slot) {
            let Some((partial, index)) = self.choose(cx, slot, id) else {
                break;
            };
            self.reserve(cx, slot, partial, index);
            if cx.peers[slot].download.snubbed {
                self.open_pending_to_others(cx, slot);
                break;
            }
        }
        let waits = cx.wakes.has(Wake::RequestAtRate) || cx.wakes.has(Wake::RequestAtFreeBlocks);
        if cx.peers[slot].download.pending.len == 0 && !waits {
            self.update_interest(cx, slot);
        }
        cx.peers.make_ready(slot);
    }

    /// Whether there are room and rate for one more block of a peer. If not, it is asked again when there are.
    pub(super) fn may_reserve(&mut self, cx: &mut Context<'_>, slot: usize) -> bool {
        if self.blocks.free() == 0 && !self.take_from_slow(cx, slot) {
            cx.wakes.add(Wake::RequestAtFreeBlocks);
            return false;
        }
        if self.rate.level(cx.now) < QUANTUM {
            cx.wakes.add(Wake::RequestAtRate);
            return false;
        }
        true
    }

    /// Requests more blocks from every peer, beginning with another one each time.
    pub(crate) fn request_from_all(&mut self, cx: &mut Context<'_>) {
        let len = cx.peers.len();
        let first = cx.rng.below(u32::try_from(len).unwrap_or(0)) as usize;
        for slot in (first..len).chain(0..first) {
            self.request_blocks(cx, slot);
        }
    }

    /// How many blocks to request from a peer at a time: as many as it sends in about two seconds. It is bounded by
    /// its share of the block memory, and by the requests that it queues.
    fn pipeline(&self, cx: &Context<'_>, slot: usize) -> u16 {
        let conn = &cx.peers[slot];
        if conn.download.snubbed {
            return 1;
        }
        let share = self.blocks.len() / usize::from(self.active_sources.max(1));
        let share = u16::try_from(share).unwrap_or(u16::MAX).max(2);
        let most = share.min(conn.download.reqq).clamp(1, PIPELINE_MAX);
        conn.download.pipeline.min(most)
    }

    /// Counts those who share the blocks.
    pub(crate) fn count_active_sources(&mut self, cx: &mut Context<'_>) {
        let active_sources = cx.peers.iter().filter(|c| c.shares()).count();
        self.active_sources = u16::try_from(active_sources).unwrap_or(u16::MAX);
    }

    /// We are interested in a peer as long as it has a piece that we want (BEP 3, interested).
    pub(crate) fn update_interest(&mut self, cx: &mut Context<'_>, slot: usize) {
        let wants = match cx.peers[slot].link.torrent {
            // Nobody knows what there is to be interested in.
            _ if cx.lacks_metadata(slot) => false,
            Some(id) if cx.torrents.is_downloading(id) => {
                self.choice(cx, slot, id).is_some_and(|choice| choice.any())
            }
            _ => false,
        };
        if cx.peers[slot].download.interested != wants {
            cx.peers[slot].download.interested = wants;
            self.count_active_sources(cx);
            cx.peers.make_ready(slot);
        }
    }

    fn choice<'a>(&'a self, cx: &'a Context<'_>, slot: usize, id: TorrentId) -> Option<Choice<'a>> {
        let torrent = cx.torrents.get(id)?;
        let pieces = torrent.pieces();
        let rule = match torrent.order {
            Order::Sequential => Rule::First,
            // A seed is asked for what only it has.
            Order::Rarest
                if cx.peers[slot].download.has != Has::All
                    && cx.torrents.count(torrent.have, pieces) < RANDOM_FIRST =>
            {
                Rule::Random
            }
            Order::Rarest => Rule::Rarest,
        };
        Some(Choice {
            pieces,
            wanted: cx.torrents.set(torrent.wanted),
            had: cx.torrents.set(torrent.have),
            begun: crate::download::picker::Set::None,
            has: self.availability.has(cx, slot),
            counts: torrent.counts.get(self.availability.counts),
            rule,
        })
    }

    /// The block to request from a peer next: of a piece in progress, of a new piece, or in the endgame one that was
    /// requested from another peer.
    fn choose(&mut self, cx: &mut Context<'_>, slot: usize, id: TorrentId) -> Option<(u16, u32)> {
        let me = cx.peers.id(slot);
        let last = cx.peers[slot].download.last_partial;
        let mut found = self
            .in_progress
            .get(last)
            .filter(|p| self.fits(cx, slot, id, p))
            .map(|_| last);
        if found.is_none() {
            // It is soon known who spoiled it.
            let mut begun = self.in_progress.of(id);
            let alone = begun.find(|(_, p)| p.evidence.alone && self.fits(cx, slot, id, p));
            found = alone.map(|(partial, _)| partial);
        }
        if found.is_none() && cx.peers[slot].download.has == Has::All {
            // What only a seed has is asked of the seed, rather than help for what others send.
            found = self.begin(cx, slot, id, true);
        }
        let sequential = cx.torrents.get(id)?.order == Order::Sequential;
        if found.is_none() && sequential {
            // What is late is what is waited for.
            let late = self.late_block(cx, slot, id);
            if late.is_some() {
                return late;
            }
        }
        if found.is_none() {
            let begun = self
                .in_progress
                .of(id)
                .filter(|(_, p)| self.fits(cx, slot, id, p));
            let best = begun.min_by_key(|(_, p)| if sequential { p.piece } else { p.missing });
            found = best.map(|(partial, _)| partial);
        }
        if found.is_none() {
            found = self.begin(cx, slot, id, false);
        }
        let Some(partial) = found else {
            return self.late_block(cx, slot, id);
        };
        cx.peers[slot].download.last_partial = partial;
        if self.in_progress.get(partial)?.evidence.alone {
            let origin = origin(cx.peers[slot].link.addr);
            self.in_progress.claim(partial, me, origin);
        }
        let index = self.in_progress.take_open(partial)?;
        Some((partial, index))
    }

    /// Whether the next block of a piece in progress may be requested from a peer.
    pub(crate) fn fits(
        &self,
        cx: &Context<'_>,
        slot: usize,
        id: TorrentId,
        partial: &PieceInProgress,
    ) -> bool {
        partial.torrent == Some(id)
            && partial.state == pieces_in_progress::PieceState::Fetching
            && partial.open > 0
            && partial.is_for(cx.peers.id(slot))
            && self.may_request(cx, slot, partial.piece)
            && (!partial.evidence.alone || self.may_claim(cx, slot, id, partial))
    }

    /// Whether a block of a piece may be requested from a peer: it has the piece, and would send it.
    pub(crate) fn may_request(&self, cx: &Context<'_>, slot: usize, piece: u32) -> bool {
        if cx.lacks_metadata(slot) {
            return self.may_request_metadata(cx, slot);
        }
        let conn = &cx.peers[slot];
        (conn.download.unchoked || conn.download.allowed_fast.contains(&piece))
            && self.availability.has(cx, slot).contains(piece)
    }

    /// Begins another piece with a peer; if `unique`, only one that no other has but seeds.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        id: TorrentId,
        unique: bool,
    ) -> Option<u16> {
        let torrent = cx.torrents.get(id)?;
        let (geometry, begun) = (torrent.geometry?, torrent.begun);
        let fresh = |torrents: &Torrents<'_>, piece: u32| {
            let torrent = torrents.get(id);
            let piece = geometry.piece(piece);
            torrent.zip(piece).is_some_and(|(t, piece)| {
                torrents.contains(t.wanted, piece)
                    && !torrents.contains(t.have, piece)
                    && !torrents.contains(t.begun, piece)
            })
        };
        let offered =
            |piece: &u32| self.may_request(cx, slot, *piece) && fresh(&cx.torrents, *piece);
        let conn = &cx.peers[slot];
        let counts = torrent.counts.get(self.availability.counts);
        let rare = |piece: &u32| counts.get(*piece as usize).is_none_or(|&count| count == 0);
        // Only what is rare anyway: a suggestion is no order.
        let suggested = conn
            .download
            .suggested
            .filter(|piece| offered(piece) && rare(piece));
        let allowed = || {
            conn.download
                .allowed_fast
                .iter()
                .copied()
                .find(|piece| offered(piece))
        };
        let piece = if cx.peers[slot].download.unchoked {
            // A copy, as the choice borrows what the generator is in.
            let mut rng = cx.rng.clone();
            let choice = Choice {
                begun: cx.torrents.set(begun),
                ..self.choice(cx, slot, id)?
            };
            let picked = suggested.or_else(|| choice.pick(&mut rng));
            let picked = picked.filter(|piece| !unique || rare(piece));
            cx.rng = rng;
            picked
        } else {
            allowed()
        };
        let piece = geometry.piece(piece?)?;
        cx.peers[slot].download.suggested = None;
        let size = geometry.piece_size(piece);
        let suspicious = torrent.bad_pieces > 0;
        self.begin_piece(cx, slot, id, piece, size, suspicious)
    }

    /// Begins a piece, so that a peer can be asked for its blocks.
    pub(crate) fn begin_piece(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        id: TorrentId,
        piece: PieceIndex,
        size: u32,
        suspicious: bool,
    ) -> Option<u16> {
        let begin = |in_progress: &mut PiecesInProgress<'_>| {
            in_progress.begin(id, piece.get(), size, suspicious)
        };
        let begun = begin(&mut self.in_progress).or_else(|| {
            // A peer that could be asked for nothing else needs the place more than a piece of which
            // nothing is on its way.
            let idle = cx.peers[slot].download.pending.len == 0;
            if !(idle && self.evict_partial(cx)) {
                return None;
            }
            begin(&mut self.in_progress)
        });
        cx.wakes.add_if(Wake::RequestAtPieceEnd, begun.is_none());
        let begun = begun?;
        cx.torrents.set_begun(id, piece, true);
        Some(begun)
    }

    /// Gives up the piece in progress of which least is here and nothing on its way.
    fn evict_partial(&mut self, cx: &mut Context<'_>) -> bool {
        match self.in_progress.idlest() {
            Some(slot) => {
                self.end_partial(cx, slot);
                true
            }
            None => false,
        }
    }

    /// Forgets a piece in progress, of which no block may be on its way.
    pub(crate) fn end_partial(&mut self, cx: &mut Context<'_>, slot: u16) {
        let Some(partial) = self.in_progress.get(slot) else {
            return broken("a piece in progress to end");
        };
        let (id, piece) = (partial.torrent, partial.piece);
        self.in_progress.end(slot);
        cx.wakes.turn(Wake::RequestAtPieceEnd, Wake::Request);
        if let Some(id) = id
            && let Some(geometry) = cx.torrents.get(id).and_then(|t| t.geometry)
            && let Some(piece) = geometry.piece(piece)
        {
            cx.torrents.set_begun(id, piece, false);
        }
    }

    /// Reserves memory for a block that is to be requested from a peer.
    pub(crate) fn reserve(&mut self, cx: &mut Context<'_>, slot: usize, partial: u16, index: u32) {
        let Some(piece) = self.in_progress.get_mut(partial) else {
            return broken("a piece in progress of a block to request");
        };
        let Some(block) = self.blocks.take() else {
            return broken("a free block for a request");
        };
        piece.pending += 1;
        let len = piece.block_len(index);
        self.rate.take(cx.now, u64::from(len));
        let conn = cx.peers.id(slot).slot;
        let Some(pending) = self.pending.get_mut(block.slot) else {
            return broken("a pending block for each block");
        };
        *pending = PendingBlock {
            state: BlockState::Reserved,
            block,
            source: BlockSource::Peer(conn),
            partial,
            index,
            len,
            requested_at: cx.now,
            ..PendingBlock::EMPTY
        };
        let download = &mut cx.peers[slot].download;
        download.owes = true;
        self.pending.push(&mut download.pending, block.slot);
    }

    /// The block that a pending block waits for, as messages name it.
    pub(crate) fn block_ref(&self, _cx: &Context<'_>, pending: &PendingBlock) -> Option<BlockRef> {
        Some(BlockRef {
            index: self.in_progress.get(pending.partial)?.piece,
            begin: pending.index * BLOCK,
            len: pending.len,
        })
    }

    /// Waits no longer for a block from a peer: it may be requested from others.
    pub(crate) fn drop_pending(&mut self, cx: &mut Context<'_>, slot: usize, at: u16) {
        if !self
            .pending
            .unlink(&mut cx.peers[slot].download.pending, at)
        {
            return broken("a block to drop among those of its peer");
        }
        let Some(pending) = self.pending.get(at).copied() else {
            return broken("a pending block in a list");
        };
        let conn = &mut cx.peers[slot];
        if conn.download.receiving == at {
            conn.download.receiving = NONE;
            conn.link.payload = crate::peer::Payload::Unrequested;
        } else if pending.state == BlockState::Requested {
            conn.download.excused = conn.download.excused.saturating_add(1);
        }
        self.free_pending(cx, at, pending);
    }

    /// Frees a pending block that is in no list.
    pub(crate) fn free_pending(&mut self, cx: &mut Context<'_>, at: u16, pending: PendingBlock) {
        if let Some(slot) = self.pending.get_mut(at) {
            *slot = PendingBlock::EMPTY;
        }
        if !self.blocks.release(pending.block) {
            broken("a block to release");
        }
        self.wake_for_free_blocks(cx);
        if pending.state == BlockState::Dropped {
            // Its piece is given up already.
            return;
        }
        // What somebody is asked for who snubbed us is open to others.
        let counts = |f: &PendingBlock| match f.state {
            BlockState::Requested | BlockState::Receiving => f
                .source
                .peer()
                .is_none_or(|slot| !cx.peers[slot].download.snubbed),
            _ => true,
        };
        let twin = |(_, f): (u16, &PendingBlock)| f.is_same(&pending) && counts(f);
        // Only then another peer may have been asked for it too.
        let endgame = self
            .in_progress
            .get(pending.partial)
            .and_then(|p| p.torrent);
        let endgame = endgame.and_then(|id| cx.torrents.get(id));
        let twin = endgame.is_some_and(|t| t.endgame) && self.pending.in_use().any(twin);
        if !twin {
            self.in_progress.reopen(pending.partial, pending.index);
        }
        if let Some(partial) = self.in_progress.get_mut(pending.partial) {
            partial.pending -= 1;
            if partial.pending == 0 {
                partial.exclusive = None;
            }
        }
    }

    /// Wakes the peers that waited for a free block, once there are enough for one more message of requests.
    pub(crate) fn wake_for_free_blocks(&mut self, cx: &mut Context<'_>) {
        let together = self.blocks.len() / 8;
        if self.blocks.free() > together.min(usize::from(TOGETHER)) {
            cx.wakes.turn(Wake::RequestAtFreeBlocks, Wake::Request);
        }
    }

    /// Waits no longer for any block from a peer; with `but_asked` only for those whose requests were not sent.
    pub(crate) fn drop_all_pending(&mut self, cx: &mut Context<'_>, slot: usize, but_asked: bool) {
        let mut at = cx.peers[slot].download.pending.head;
        while let Some(pending) = self.pending.get(at) {
            let (state, next) = (pending.state, self.pending.next(at));
            if !(but_asked && state != BlockState::Reserved) {
                self.drop_pending(cx, slot, at);
                cx.wakes.add(Wake::Request);
            }
            at = next;
        }
    }

    /// Cancels the requests to a peer, all but the oldest `keep`.
    pub(crate) fn cancel_pending_beyond(&mut self, cx: &mut Context<'_>, slot: usize, keep: u16) {
        let mut at = cx.peers[slot].download.pending.head;
        for _ in 0..keep {
            at = self.pending.next(at);
        }
        while self.pending.get(at).is_some() {
            let next = self.pending.next(at);
            self.cancel_pending(cx, slot, at);
            at = next;
        }
        cx.wakes.add(Wake::Request);
    }

    /// Cancels one request (BEP 3, cancel).
    pub(crate) fn cancel_pending(&mut self, cx: &mut Context<'_>, slot: usize, at: u16) {
        let Some(pending) = self.pending.get(at) else {
            return broken("a pending block to cancel");
        };
        // Of metadata nothing can be taken back.
        if pending.state == BlockState::Requested
            && !cx.lacks_metadata(slot)
            && let Some(block) = self.block_ref(cx, pending)
        {
            // If there is no room, the block may still arrive.
            let _ = cx.peers[slot].download.cancels.push(block);
            cx.peers.make_ready(slot);
        }
        self.drop_pending(cx, slot, at);
    }
}
