//! What to ask of whom: interest, how many blocks at a time, which ones, and the end of a download.

use everseed_core::geometry::{BLOCK, BlockRef, TorrentId};
use everseed_core::time::Instant;

use crate::Node;
use crate::Order;

use crate::download::availability::Has;
use crate::download::offers::RETRACTIONS_MAX;
use crate::download::pending_blocks::{PendingBlock, State};
use crate::download::picker::{Choice, Rule};
use crate::download::pieces_in_progress;
use crate::download::pieces_in_progress::PiecesInProgress;
use crate::swarm::admission::origin;
use crate::torrent;
use crate::upload::rates::QUANTUM;
use crate::upload::request_queue::NONE;

/// Blocks that one peer is asked for at a time, at most.
const PIPELINE_MAX: u16 = 250;

/// The first few pieces are any that come soon, to have something to trade (BEP 3).
const RANDOM_FIRST: u32 = 4;

impl Node<'_> {
    /// Whether something of this torrent is missing, wanted and can be written.
    pub(crate) fn fetches(&self, id: TorrentId) -> bool {
        self.torrents.get(id).is_some_and(|t| {
            t.is_active_download() && t.refused.is_none() && t.state == torrent::State::Active
        })
    }

    /// Asks a peer for as many blocks as it should be asked for now.
    pub(crate) fn ask(&mut self, now: Instant, slot: usize) {
        let conn = &self.peers[slot];
        let Some(id) = conn
            .link
            .torrent
            .filter(|_| conn.is_open() && conn.download.interested)
        else {
            return;
        };
        let target = self.pipeline(slot);
        // Not one at a time, as each message to send costs more than it carries.
        if conn.download.pending.len > target - target.div_ceil(4) || !self.fetches(id) {
            return;
        }
        let offers = conn.download.unchoked || !conn.download.allowed_fast.is_empty();
        if !offers
            || conn.download.retractions >= RETRACTIONS_MAX
            || conn.download.snubbed && !self.may_try(slot)
        {
            return;
        }
        if conn.download.pending.len == 0 && !conn.download.owes {
            self.peers[slot].download.last_block_at = now;
        }
        while self.peers[slot].download.pending.len < target {
            if self.download.blocks.free() == 0 && !self.take_from_slow(now, slot) {
                self.download.waits_for_block = true;
                break;
            }
            if self.download.rate.level(now) < QUANTUM {
                self.download.waits_for_rate = true;
                break;
            }
            let Some((partial, index)) = self.choose(now, slot, id) else {
                break;
            };
            self.reserve(now, slot, partial, index);
            if self.peers[slot].download.snubbed {
                self.open_pending_to_others(slot);
                break;
            }
        }
        if self.peers[slot].download.pending.len == 0
            && !self.download.waits_for_rate
            && !self.download.waits_for_block
        {
            self.review(slot);
        }
        self.peers.make_ready(slot);
    }

    /// Asks everybody who could be asked for more, beginning with another one each time.
    pub(crate) fn ask_all(&mut self, now: Instant) {
        let len = self.peers.len();
        let first = self.rng.below(u32::try_from(len).unwrap_or(0)) as usize;
        for slot in (first..len).chain(0..first) {
            if self.peers[slot].download.interested {
                self.ask(now, slot);
            }
        }
    }

    /// How many blocks to ask a peer for at a time: what it sends in about two seconds, its share of
    /// the blocks that there is memory for, and not more than it keeps.
    fn pipeline(&self, slot: usize) -> u16 {
        let conn = &self.peers[slot];
        if conn.download.snubbed {
            return 1;
        }
        let share = self.download.blocks.len() / usize::from(self.download.active_sources.max(1));
        let share = u16::try_from(share).unwrap_or(u16::MAX).max(2);
        let most = share.min(conn.download.reqq).clamp(1, PIPELINE_MAX);
        conn.download.pipeline.min(most)
    }

    /// Counts those who share the blocks.
    pub(crate) fn count_active_sources(&mut self) {
        let active_sources = self.peers.iter().filter(|c| c.shares()).count();
        self.download.active_sources = u16::try_from(active_sources).unwrap_or(u16::MAX);
    }

    /// Finds out whether a peer has anything that we want (BEP 3, interested).
    pub(crate) fn review(&mut self, slot: usize) {
        let wants = match self.peers[slot].link.torrent {
            Some(id) if self.is_downloading(id) => {
                self.choice(slot, id).is_some_and(|choice| choice.any())
            }
            _ => false,
        };
        if self.peers[slot].download.interested != wants {
            self.peers[slot].download.interested = wants;
            self.count_active_sources();
            self.peers.make_ready(slot);
        }
    }

    /// Whether something of a torrent is wanted and missing, though it may not be asked for now.
    pub(crate) fn is_downloading(&self, id: TorrentId) -> bool {
        self.torrents
            .get(id)
            .is_some_and(|t| t.is_active_download())
    }

    fn choice(&self, slot: usize, id: TorrentId) -> Option<Choice<'_>> {
        let torrent = self.torrents.get(id)?;
        let pieces = torrent.pieces();
        let rule = match torrent.order {
            Order::Sequential => Rule::First,
            // A seed is asked for what only it has.
            Order::Rarest
                if self.peers[slot].download.has != Has::All
                    && self.torrents.count(torrent.have, pieces) < RANDOM_FIRST =>
            {
                Rule::Random
            }
            Order::Rarest => Rule::Rarest,
        };
        Some(Choice {
            pieces,
            wanted: self.torrents.set(torrent.wanted),
            had: self.torrents.set(torrent.have),
            begun: crate::download::picker::Set::None,
            has: self.has(slot),
            counts: torrent.counts.get(self.download.availability.counts),
            rule,
        })
    }

    /// The block to ask a peer for next: of a piece in progress, of a new piece, or in the endgame one
    /// that another peer was asked for.
    fn choose(&mut self, now: Instant, slot: usize, id: TorrentId) -> Option<(u16, u32)> {
        let (me, may) = (self.peers.id(slot), |node: &Self, piece| {
            node.may_ask(slot, piece)
        });
        let fits = |node: &Self, partial: &pieces_in_progress::PieceInProgress| {
            partial.torrent == Some(id)
                && partial.state == pieces_in_progress::State::Fetching
                && partial.open > 0
                && partial.is_for(me)
                && may(node, partial.piece)
                && (!partial.evidence.alone || node.may_claim(slot, id, partial))
        };
        let last = self.peers[slot].download.last_partial;
        let mut found = self
            .download
            .in_progress
            .get(last)
            .filter(|p| fits(self, p))
            .map(|_| last);
        if found.is_none() {
            // It is soon known who spoiled it.
            let mut begun = self.download.in_progress.of(id);
            let alone = begun.find(|(_, p)| p.evidence.alone && fits(self, p));
            found = alone.map(|(partial, _)| partial);
        }
        if found.is_none() && self.peers[slot].download.has == Has::All {
            // What only a seed has is asked of the seed, rather than help for what others send.
            found = self.begin(slot, id, true);
        }
        let sequential = self.torrents.get(id)?.order == Order::Sequential;
        if found.is_none() && sequential {
            // What is late is what is waited for.
            let late = self.again(now, slot, id);
            if late.is_some() {
                return late;
            }
        }
        if found.is_none() {
            let begun = self
                .download
                .in_progress
                .of(id)
                .filter(|(_, p)| fits(self, p));
            let best = begun.min_by_key(|(_, p)| if sequential { p.piece } else { p.missing });
            found = best.map(|(partial, _)| partial);
        }
        if found.is_none() {
            found = self.begin(slot, id, false);
        }
        let Some(partial) = found else {
            return self.again(now, slot, id);
        };
        self.peers[slot].download.last_partial = partial;
        if self.download.in_progress.get(partial)?.evidence.alone {
            let origin = origin(self.peers[slot].link.addr);
            self.download.in_progress.claim(partial, me, origin);
        }
        let index = self.download.in_progress.ask(partial)?;
        Some((partial, index))
    }

    /// Whether a peer has a piece and would send it.
    pub(crate) fn may_ask(&self, slot: usize, piece: u32) -> bool {
        let conn = &self.peers[slot];
        (conn.download.unchoked || conn.download.allowed_fast.contains(&piece))
            && self.has(slot).contains(piece)
    }

    /// Begins another piece with a peer; if `unique`, only one that no other has but seeds.
    fn begin(&mut self, slot: usize, id: TorrentId, unique: bool) -> Option<u16> {
        let torrent = self.torrents.get(id)?;
        let (geometry, begun) = (torrent.geometry?, torrent.begun);
        let fresh = |node: &Self, piece: u32| {
            let torrent = node.torrents.get(id);
            let piece = geometry.piece(piece);
            torrent.zip(piece).is_some_and(|(t, piece)| {
                node.torrents.contains(t.wanted, piece)
                    && !node.torrents.contains(t.have, piece)
                    && !node.torrents.contains(t.begun, piece)
            })
        };
        let hint = |node: &Self, piece: &u32| node.may_ask(slot, *piece) && fresh(node, *piece);
        let conn = &self.peers[slot];
        let counts = torrent.counts.get(self.download.availability.counts);
        let rare = |piece: &u32| counts.get(*piece as usize).is_none_or(|&count| count == 0);
        // Only what is rare anyway: a suggestion is no order.
        let suggested = conn
            .download
            .suggested
            .filter(|piece| hint(self, piece) && rare(piece));
        let allowed = || {
            conn.download
                .allowed_fast
                .iter()
                .copied()
                .find(|piece| hint(self, piece))
        };
        let piece = if self.peers[slot].download.unchoked {
            // The generator is taken out so that the choice may look at the whole node.
            let mut rng = self.rng.clone();
            let choice = Choice {
                begun: self.torrents.set(begun),
                ..self.choice(slot, id)?
            };
            let picked = suggested.or_else(|| choice.pick(&mut rng));
            let picked = picked.filter(|piece| !unique || rare(piece));
            self.rng = rng;
            picked
        } else {
            allowed()
        };
        let piece = geometry.piece(piece?)?;
        self.peers[slot].download.suggested = None;
        let size = geometry.piece_size(piece);
        let suspicious = torrent.bad_pieces > 0;
        let begin = |in_progress: &mut PiecesInProgress<'_>| {
            in_progress.begin(id, piece.get(), size, suspicious)
        };
        let begun = begin(&mut self.download.in_progress).or_else(|| {
            // A peer that could be asked for nothing else needs the place more than a piece of which
            // nothing is on its way.
            let idle = self.peers[slot].download.pending.len == 0;
            if !(idle && self.evict_partial()) {
                return None;
            }
            begin(&mut self.download.in_progress)
        });
        self.download.waits_for_piece |= begun.is_none();
        let begun = begun?;
        self.torrents.set_begun(id, piece, true);
        Some(begun)
    }

    /// Gives up the piece in progress of which least is here and nothing on its way.
    fn evict_partial(&mut self) -> bool {
        match self.download.in_progress.idlest() {
            Some(slot) => {
                self.end_partial(slot);
                true
            }
            None => false,
        }
    }

    /// Forgets a piece in progress, of which no block may be on its way.
    pub(crate) fn end_partial(&mut self, slot: u16) {
        let Some(partial) = self.download.in_progress.get(slot) else {
            return;
        };
        let (id, piece) = (partial.torrent, partial.piece);
        self.download.in_progress.end(slot);
        self.download.request_all |= core::mem::take(&mut self.download.waits_for_piece);
        if let Some(id) = id
            && let Some(geometry) = self.torrents.get(id).and_then(|t| t.geometry)
            && let Some(piece) = geometry.piece(piece)
        {
            self.torrents.set_begun(id, piece, false);
        }
    }

    /// Gives a block that a peer is to be asked for its place.
    fn reserve(&mut self, now: Instant, slot: usize, partial: u16, index: u32) {
        let (Some(block), Some(piece)) = (
            self.download.blocks.take(),
            self.download.in_progress.get_mut(partial),
        ) else {
            return;
        };
        piece.pending += 1;
        let len = piece.block_len(index);
        self.download.rate.take(now, u64::from(len));
        let conn = self.peers.id(slot).slot;
        if let Some(pending) = self.download.pending.get_mut(block.slot) {
            *pending = PendingBlock {
                state: State::Reserved,
                block,
                conn,
                partial,
                index,
                len,
                asked: now,
                ..PendingBlock::EMPTY
            };
            self.peers[slot].download.owes = true;
            self.download
                .pending
                .push(&mut self.peers[slot].download.pending, block.slot);
        }
    }

    /// What a pending block asks for.
    pub(crate) fn block_ref(&self, pending: &PendingBlock) -> Option<BlockRef> {
        Some(BlockRef {
            index: self.download.in_progress.get(pending.partial)?.piece,
            begin: pending.index * BLOCK,
            len: pending.len,
        })
    }

    /// Waits no longer for a block of a connection; it can be asked for elsewhere.
    pub(crate) fn drop_pending(&mut self, slot: usize, at: u16) {
        if !self
            .download
            .pending
            .unlink(&mut self.peers[slot].download.pending, at)
        {
            return;
        }
        let Some(pending) = self.download.pending.get(at).copied() else {
            return;
        };
        let conn = &mut self.peers[slot];
        if conn.download.receiving == at {
            conn.download.receiving = NONE;
            conn.link.payload = crate::peer::Payload::Unasked;
        } else if pending.state == State::Asked {
            conn.download.excused = conn.download.excused.saturating_add(1);
        }
        self.free_pending(at, pending);
    }

    /// Frees a pending block that is in no list.
    pub(crate) fn free_pending(&mut self, at: u16, pending: PendingBlock) {
        if let Some(slot) = self.download.pending.get_mut(at) {
            *slot = PendingBlock::EMPTY;
        }
        self.download.blocks.release(pending.block);
        // What somebody is asked for who snubbed us is open to others.
        let counts = |f: &PendingBlock| match f.state {
            State::Asked | State::Arriving => !self.peers[usize::from(f.conn)].download.snubbed,
            _ => true,
        };
        let twin = |(_, f): (u16, &PendingBlock)| f.is_same(&pending) && counts(f);
        // Only then another peer may have been asked for it too.
        let endgame = self
            .download
            .in_progress
            .get(pending.partial)
            .and_then(|p| p.torrent);
        let endgame = endgame.and_then(|id| self.torrents.get(id));
        let twin = endgame.is_some_and(|t| t.endgame) && self.download.pending.in_use().any(twin);
        if !twin {
            self.download
                .in_progress
                .unask(pending.partial, pending.index);
        }
        if let Some(partial) = self.download.in_progress.get_mut(pending.partial) {
            partial.pending -= 1;
            if partial.pending == 0 {
                partial.exclusive = None;
            }
        }
        self.fed();
    }

    /// There is a free block: whoever went without may be asked now, if it is worth the while.
    pub(crate) fn fed(&mut self) {
        if self.download.waits_for_block
            && self.download.blocks.free() > self.download.blocks.len() / 8
        {
            self.download.waits_for_block = false;
            self.download.request_all = true;
        }
    }

    /// Waits no longer for anything from a connection.
    pub(crate) fn drop_all_pending(&mut self, slot: usize, but_asked: bool) {
        let mut at = self.peers[slot].download.pending.head;
        while let Some(pending) = self.download.pending.get(at) {
            let (state, next) = (pending.state, self.download.pending.next(at));
            if !(but_asked && state != State::Reserved) {
                self.drop_pending(slot, at);
                self.download.request_all = true;
            }
            at = next;
        }
    }

    /// Takes back what was asked of a connection, but for the oldest `keep` blocks.
    pub(crate) fn cancel_pending_beyond(&mut self, slot: usize, keep: u16) {
        let mut at = self.peers[slot].download.pending.head;
        for _ in 0..keep {
            at = self.download.pending.next(at);
        }
        while self.download.pending.get(at).is_some() {
            let next = self.download.pending.next(at);
            self.cancel_pending(slot, at);
            at = next;
        }
        self.download.request_all = true;
    }

    /// Takes one request back (BEP 3, cancel).
    pub(crate) fn cancel_pending(&mut self, slot: usize, at: u16) {
        let Some(pending) = self.download.pending.get(at) else {
            return;
        };
        if pending.state == State::Asked
            && let Some(block) = self.block_ref(pending)
        {
            // If there is no room the block just comes.
            let _ = self.peers[slot].download.cancels.push(block);
            self.peers.make_ready(slot);
        }
        self.drop_pending(slot, at);
    }
}
