//! Slow peers: what becomes of the blocks that they owe, and of the pieces that lack those.
//!
//! Only whole blocks count, so that a byte now and then is no better than silence. A late block is requested
//! from another peer too, if that has nothing else to send. The first that comes is taken, and the other requests
//! are cancelled.

use core::time::Duration;

use everseed_core::geometry::TorrentId;

use crate::broken::broken;
use crate::context::Context;
use crate::download::Download;
use crate::download::offers::RETRACTIONS_MAX;
use crate::download::pending_blocks::{BlockState, PendingBlock};
use crate::download::pieces_in_progress;
use crate::peer::origin;
use crate::peer::{Conn, PIPELINE_MIN, Payload};
use crate::wake::Wake;

/// A peer that sent no whole block for so long, though requested, has snubbed us. One block at a time is requested
/// from it, and from others too.
const SNUBBED_AFTER: Duration = Duration::from_secs(60);

/// A peer that sent no whole block for so long is slow: few blocks are requested from it, and it has no share of them.
const SLOW_AFTER: Duration = Duration::from_secs(20);

/// A block that does not come within this time is requested from a second peer, which has nothing else to send. The
/// first time is for the last blocks of a download, the second for all others.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// All who snubbed us have together no more than this part of the blocks, while others give.
const SNUBBERS_SHARE: usize = 8;

/// After so long a request to a peer that snubs us counts as lost. It is cancelled, and made again.
const LOST_AFTER: Duration = Duration::from_secs(120);

/// The time between two searches for slow peers, if all blocks are on their way and the last search found none.
const LOOK_FOR_SLOW: Duration = Duration::from_secs(1);

/// After so long without its block a peer may lose a piece that is requested from it alone.
const ALONE_PATIENCE: Duration = Duration::from_secs(20);

/// A late block is requested from so many peers at a time that are at least half as fast as the next one.
const ENDGAME_PEERS: usize = 2;

impl Download<'_> {
    /// At each sweep: decides whether a peer is slow or snubs us, and cuts its pipeline to what it sent in `period`.
    pub(crate) fn sweep_pending(&mut self, cx: &mut Context<'_>, slot: usize, period: Duration) {
        if let Some(id) = cx.peers[slot]
            .link
            .torrent
            .filter(|_| cx.lacks_metadata(slot))
        {
            return self.sweep_metadata(cx, slot, id);
        }
        let conn = &mut cx.peers[slot];
        let came = conn.download.downloaded - conn.download.downloaded_swept;
        conn.download.downloaded_swept = conn.download.downloaded;
        conn.download.retractions = 0;
        let oldest = self.pending.get(conn.download.pending.head);
        let oldest = oldest.map(|pending| cx.now - pending.requested_at);
        conn.download.shorten_pipeline(came, period, oldest);
        let waits = conn.download.pending.len > 0
            && conn.download.pending.head != conn.download.pending.unsent;
        if waits && !conn.download.snubbed && cx.now - conn.download.last_block_at >= SNUBBED_AFTER
        {
            log::debug!("{}: it snubs us", conn.link.addr);
            conn.download.snubbed = true;
            conn.download.pipeline = PIPELINE_MIN;
            self.cancel_pending_beyond(cx, slot, 1);
            self.open_pending_to_others(cx, slot);
            self.count_active_sources(cx);
        } else if waits && !conn.download.slow && cx.now - conn.download.last_block_at >= SLOW_AFTER
        {
            conn.download.slow = true;
            conn.download.pipeline = PIPELINE_MIN;
            if conn.download.pending.len > PIPELINE_MIN {
                self.cancel_pending_beyond(cx, slot, PIPELINE_MIN);
            }
            self.count_active_sources(cx);
        }
        let at = cx.peers[slot].download.pending.head;
        let is_lost = |block: &PendingBlock| {
            block.state == BlockState::Requested && cx.now - block.requested_at >= LOST_AFTER
        };
        if waits && cx.peers[slot].download.snubbed && self.pending.get(at).is_some_and(is_lost) {
            self.cancel_pending(cx, slot, at);
        }
        self.release_exclusive_piece(cx, slot);
        if cx.peers[slot].is_open() && cx.peers[slot].download.interested {
            self.update_interest(cx, slot);
            self.request_blocks(cx, slot);
        }
    }

    /// No block is free: takes one from whoever waits longest with what it was asked for, for somebody who
    /// has none or is much faster. Who snubbed us loses the last one, others keep it to the faster.
    pub(crate) fn take_from_slow(&mut self, cx: &mut Context<'_>, slot: usize) -> bool {
        let me = &cx.peers[slot];
        if me.download.snubbed || cx.now < self.none_slow_until {
            return false;
        }
        let loses = |conn: &Conn| {
            let faster = me.download.recent() > 4 * conn.download.recent();
            let few = !conn.download.snubbed && conn.download.pending.len < 2;
            faster || me.download.pending.len == 0 && !few
        };
        let late = |conn: &Conn| {
            conn.download.owes
                && conn.download.pending.len > 0
                && cx.now - conn.download.last_block_at >= PATIENCE
        };
        let all = || (0..cx.peers.len()).filter(|&s| s != slot && late(&cx.peers[s]));
        let slow = all().filter(|&s| loses(&cx.peers[s]));
        let Some(slowest) = slow.min_by_key(|&s| cx.peers[s].download.last_block_at) else {
            if all().next().is_none() {
                self.none_slow_until = cx.now + LOOK_FOR_SLOW;
            }
            return false;
        };
        // The peer that loses it is not asked for more now, or two would take it from each other.
        let last = cx.peers[slowest].download.pending.tail;
        self.cancel_pending(cx, slowest, last);
        self.blocks.free() > 0
    }

    /// Whether a block is requested from a peer that snubbed us.
    pub(crate) fn may_request_from_snubber(&self, cx: &Context<'_>, slot: usize) -> bool {
        let conn = &cx.peers[slot];
        // What it sends now is not wanted any more.
        if conn.link.payload == Payload::Unrequested && conn.link.decoder.payload_left() > 0 {
            return false;
        }
        let snubbed = cx.peers.iter().filter(|c| c.download.snubbed);
        let theirs: usize = snubbed.map(|c| usize::from(c.download.pending.len)).sum();
        self.active_sources == 0 || theirs * SNUBBERS_SHARE < self.blocks.len()
    }

    /// A peer snubs us: the block that is requested from it may be requested from others.
    pub(crate) fn open_pending_to_others(&mut self, cx: &mut Context<'_>, slot: usize) {
        let at = cx.peers[slot].download.pending.head;
        let Some(pending) = self.pending.get(at).copied() else {
            return;
        };
        let Some((partial, id)) = self
            .in_progress
            .get(pending.partial)
            .and_then(|partial| Some((partial, partial.torrent?)))
        else {
            return broken("a piece in progress of a block that was requested");
        };
        if partial.evidence.alone {
            if self
                .possible_sources(cx, id, partial.piece)
                .next()
                .is_some()
            {
                self.cancel_pending(cx, slot, at);
            }
            return;
        }
        if let Some(torrent) = cx.torrents.get_mut(id) {
            torrent.endgame = true;
        }
        let others = |(other, f): (u16, &PendingBlock)| other != at && f.is_same(&pending);
        if !self.pending.in_use().any(others) {
            self.in_progress.reopen(pending.partial, pending.index);
        }
    }

    /// A block that was requested from others already: one of the last, or one that does not come. So a slow peer
    /// holds up neither the end nor a piece.
    pub(crate) fn late_block(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        id: TorrentId,
    ) -> Option<(u16, u32)> {
        let torrent = cx.torrents.get(id)?;
        let begun = u32::try_from(self.in_progress.of(id).count()).unwrap_or(u32::MAX);
        let endgame = begun >= torrent.missing;
        let me = cx.peers.id(slot);
        let is_late = |f: &PendingBlock| match f.state {
            BlockState::Requested | BlockState::Reserved if endgame => true,
            BlockState::Receiving if endgame => cx.now - f.requested_at >= LAST_PATIENCE,
            BlockState::Requested | BlockState::Reserved | BlockState::Receiving => {
                cx.now - f.requested_at >= PATIENCE
            }
            _ => false,
        };
        let fits = |f: &PendingBlock| {
            let partial = self.in_progress.get(f.partial);
            is_late(f)
                && partial.is_some_and(|p| {
                    p.torrent == Some(id) && p.is_for(me) && self.may_request(cx, slot, p.piece)
                })
        };
        if !cx.peers[slot].download.unchoked && !cx.lacks_metadata(slot) {
            return None;
        }
        let late = self.pending.in_use().map(|(_, f)| f).filter(|f| fits(f));
        let oldest = late
            .filter(|f| self.has_few_sources(cx, slot, f))
            .min_by_key(|f| f.requested_at)?;
        let found = (oldest.partial, oldest.index);
        if let Some(torrent) = cx.torrents.get_mut(id) {
            torrent.endgame = true;
        }
        Some(found)
    }

    /// Whether a late block may be requested from one peer more. Only peers that are at least half as fast count.
    fn has_few_sources(&self, cx: &Context<'_>, slot: usize, block: &PendingBlock) -> bool {
        let recent = cx.peers[slot].download.recent();
        let mut others = 0;
        for (_, other) in self.pending.in_use().filter(|(_, o)| o.is_same(block)) {
            let Some(holder) = other.source.peer() else {
                continue;
            };
            if holder == slot {
                return false;
            }
            others += usize::from(2 * cx.peers[holder].download.recent() >= recent);
        }
        others < ENDGAME_PEERS
    }

    /// Whether a piece that was bad may be fetched from this peer. Whose copy was begun goes on with it, unless
    /// another is four times as fast. A peer that gave a bad copy is asked last. One with less than a quarter of
    /// another's good pieces leaves it to that other.
    pub(crate) fn may_claim(
        &self,
        cx: &Context<'_>,
        slot: usize,
        id: TorrentId,
        partial: &pieces_in_progress::PieceInProgress,
    ) -> bool {
        if partial.exclusive.is_some() {
            return true;
        }
        let me = &cx.peers[slot];
        let begun = |conn: &Conn| partial.evidence.sole == Some(origin(conn.link.addr));
        let failed = |conn: &Conn| partial.evidence.failed(origin(conn.link.addr));
        let mut others = self.possible_sources(cx, id, partial.piece);
        if me.download.snubbed {
            return others.next().is_none();
        }
        if begun(me) {
            return true;
        }
        !others.any(|other| {
            let conn = &cx.peers[other];
            match (failed(me), failed(conn)) {
                _ if begun(conn) => 4 * conn.download.recent() >= me.download.recent(),
                (true, false) => true,
                (false, true) => false,
                _ => conn.download.good_pieces > 4 * me.download.good_pieces.max(1),
            }
        })
    }

    /// The peers from which a piece could be requested.
    fn possible_sources<'a>(
        &'a self,
        cx: &'a Context<'_>,
        id: TorrentId,
        piece: u32,
    ) -> impl Iterator<Item = usize> {
        (0..cx.peers.len()).filter(move |&slot| {
            let conn = &cx.peers[slot];
            let open = conn.link.torrent == Some(id) && conn.is_open();
            open && !conn.download.snubbed
                && conn.download.retractions < RETRACTIONS_MAX
                && self.may_request(cx, slot, piece)
        })
    }

    /// A piece that was bad comes from one peer alone. If that is slow and another is much faster, it is released.
    fn release_exclusive_piece(&mut self, cx: &mut Context<'_>, slot: usize) {
        let conn = &cx.peers[slot];
        let (Some(first), Some(id)) = (
            self.pending.get(conn.download.pending.head),
            conn.link.torrent,
        ) else {
            return;
        };
        let at = first.partial;
        let Some(partial) = self.in_progress.get(at) else {
            return broken("a piece in progress of a block that was requested");
        };
        if !partial.evidence.alone || cx.now - first.requested_at < ALONE_PATIENCE {
            return;
        }
        // Another one may have had nothing to send yet, if this is the last piece.
        let faster = |other: usize| {
            conn.download.snubbed || cx.peers[other].download.recent() > 4 * conn.download.recent()
        };
        if !self.possible_sources(cx, id, partial.piece).any(faster) {
            return;
        }
        log::debug!(
            "{}: another peer fetches piece {}",
            conn.link.addr,
            partial.piece
        );
        while let Some(pending) = self
            .pending
            .find(&cx.peers[slot].download.pending, |f| f.partial == at)
        {
            self.cancel_pending(cx, slot, pending);
        }
        cx.wakes.add(Wake::Request);
    }
}

#[cfg(test)]
mod tests {
    use everseed_core::geometry::BLOCK;
    use everseed_core::time::Instant;

    use super::*;
    use crate::api::Have;
    use crate::download::tests::requested_from;
    use crate::parts::Parts;
    use crate::parts::small::{parts, peer};

    /// A peer that was asked for four blocks and another that serves us too.
    fn slow_and_other() -> (Parts<'static>, TorrentId, usize, usize) {
        let (mut parts, id) = parts(Have::Nothing);
        let slow = requested_from(&mut parts, id);
        let Parts { cx, download, .. } = &mut parts;
        let other = peer(cx, id, true);
        download.availability.peer_has_all(cx, other);
        let side = &mut cx.peers[other].download;
        (side.interested, side.unchoked) = (true, true);
        (parts, id, slow, other)
    }

    #[test]
    fn who_loses_a_block_to_whom() {
        // Seconds without a block, blocks that are pending at the other, blocks that each sent of late: is one taken.
        for (seconds, pending, sent, taken) in [
            (9, 0, [0, 0], false),
            (10, 0, [0, 0], true),
            (10, 1, [0, 0], false),
            (10, 1, [1, 4], false),
            (10, 1, [1, 5], true),
        ] {
            let (mut parts, _, slow, other) = slow_and_other();
            let Parts { cx, download, .. } = &mut parts;
            while download.blocks.free() > 0 {
                download.blocks.take();
            }
            for (slot, blocks) in [slow, other].into_iter().zip(sent) {
                cx.peers[slot].download.downloaded = blocks * u64::from(BLOCK);
            }
            cx.peers[other].download.pending.len = pending;
            cx.now = cx.now + Duration::from_secs(seconds);
            let case = (seconds, pending, sent);
            assert_eq!(download.take_from_slow(cx, other), taken, "{case:?}");
            let left = cx.peers[slow].download.pending.len;
            assert_eq!(left, 4 - u16::from(taken), "{case:?}");
        }
    }

    #[test]
    fn slow_peers_are_looked_for_once_a_second() {
        let (mut parts, _, slow, other) = slow_and_other();
        let Parts { cx, download, .. } = &mut parts;
        while download.blocks.free() > 0 {
            download.blocks.take();
        }
        let started = cx.now;
        // Nobody is late.
        assert!(!download.take_from_slow(cx, other));
        cx.peers[slow].download.last_block_at = Instant::ZERO;
        for (ms, taken) in [(999, false), (1000, true)] {
            cx.now = started + Duration::from_millis(ms);
            assert_eq!(download.take_from_slow(cx, other), taken, "{ms} ms");
        }
    }

    #[test]
    fn a_late_block_is_requested_from_a_second_peer() {
        // Seconds since the request, whether all that is missing is begun, whether it is being received.
        for (seconds, endgame, receiving, requested) in [
            (9, false, false, false),
            (10, false, false, true),
            (10, false, true, true),
            (0, true, false, true),
            (4, true, true, false),
            (5, true, true, true),
        ] {
            let (mut parts, id, slow, other) = slow_and_other();
            let Parts { cx, download, .. } = &mut parts;
            if endgame {
                let begun = download.in_progress.of(id).count();
                cx.torrents.get_mut(id).unwrap().missing = u32::try_from(begun).unwrap();
            }
            let mut at = cx.peers[slow].download.pending.head;
            while let Some(pending) = download.pending.get_mut(at) {
                if receiving {
                    pending.state = BlockState::Receiving;
                }
                at = pending.next;
            }
            cx.now = cx.now + Duration::from_secs(seconds);
            let found = download.late_block(cx, other, id);
            let case = (seconds, endgame, receiving);
            assert_eq!(found.is_some(), requested, "{case:?}");
            // Not twice from the same.
            assert_eq!(download.late_block(cx, slow, id), None, "{case:?}");
        }
    }

    #[test]
    fn peers_that_snub_us_have_a_share_of_the_blocks() {
        // Of six blocks: those that are pending at peers that snub us, peers that do not.
        for (pending, sources, may) in [(0, 1, true), (1, 1, false), (1, 0, true)] {
            let (mut parts, _, _, other) = slow_and_other();
            let Parts { cx, download, .. } = &mut parts;
            let side = &mut cx.peers[other].download;
            (side.snubbed, side.pending.len) = (true, pending);
            download.active_sources = sources;
            let is = download.may_request_from_snubber(cx, other);
            assert_eq!(is, may, "{pending} {sources}");
        }
    }

    #[test]
    fn from_whom_a_piece_comes_that_was_bad() {
        // Of us and another: who sent a bad copy, whose copy has begun, good pieces, blocks of late. Whether it may be us.
        type Case = ([bool; 2], Option<usize>, [u32; 2], [u64; 2], bool);
        let cases: [Case; 9] = [
            ([false, false], None, [0, 0], [0, 0], true),
            ([true, false], None, [0, 0], [0, 0], false),
            ([false, true], None, [0, 9], [0, 0], true),
            ([true, true], None, [0, 0], [0, 0], true),
            ([false, false], None, [1, 5], [0, 0], false),
            ([false, false], None, [1, 4], [0, 0], true),
            ([false, false], Some(0), [0, 9], [0, 9], true),
            ([false, false], Some(1), [0, 0], [4, 1], false),
            ([false, false], Some(1), [0, 0], [5, 1], true),
        ];
        for case in cases {
            let (failed, begun, good, sent, may) = case;
            let (mut parts, id, slow, other) = slow_and_other();
            let Parts { cx, download, .. } = &mut parts;
            let both = [other, slow];
            for n in 0..2 {
                let side = &mut cx.peers[both[n]].download;
                (side.good_pieces, side.downloaded) = (good[n], sent[n]);
            }
            let from = both.map(|slot| origin(cx.peers[slot].link.addr));
            let mut partial = *download.in_progress.of(id).next().unwrap().1;
            partial.evidence.alone = true;
            for n in (0..2).filter(|&n| failed[n]) {
                partial.evidence.restart(from[n]);
                partial.evidence.bad();
            }
            partial.evidence.sole = begun.map(|n| from[n]);
            let is = download.may_claim(cx, other, id, &partial);
            assert_eq!(is, may, "{case:?}");
        }
    }

    #[test]
    fn a_piece_is_released_that_only_a_slow_peer_may_send() {
        // Seconds since the request, blocks that the other sent of late.
        for (seconds, sent, released) in [(19, 9, false), (20, 0, false), (20, 9, true)] {
            let (mut parts, id, slow, other) = slow_and_other();
            let Parts { cx, download, .. } = &mut parts;
            let all: [_; 2] = {
                let mut of = download.in_progress.of(id).map(|(at, _)| at);
                [of.next().unwrap(), of.next().unwrap()]
            };
            for at in all {
                download.in_progress.get_mut(at).unwrap().evidence.alone = true;
            }
            cx.peers[other].download.downloaded = sent;
            cx.now = cx.now + Duration::from_secs(seconds);
            download.release_exclusive_piece(cx, slow);
            let left = cx.peers[slow].download.pending.len;
            assert_eq!(left, if released { 2 } else { 4 }, "{seconds} {sent}");
            assert_eq!(cx.wakes.has(Wake::Request), released, "{seconds} {sent}");
        }
    }
}
