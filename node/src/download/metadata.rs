//! Metadata from peers (BEP 9): the `info` of a torrent of which only the info-hash is known.
//!
//! It is a piece like any other, see [`unknown`](crate::torrent::unknown): its blocks are pending, written and verified
//! like those of content. What differs is how they are asked for, and that nobody knows its size:
//!
//! - The size that the first peer tells is tried, and those who tell the same are asked, [`REQUESTS`] blocks at a
//!   time each; the last blocks, and those of a piece of a few, are asked of several.
//! - Another size, the one that most peers tell, is tried once no peer is left that tells this one; or when this one
//!   takes too long ([`PATIENCE`], [`SLOWEST_BPS`]).
//! - Who rejects is not asked for [`HOLD`], who does not answer within [`ANSWER`] for [`SILENCE_HOLD`], and who
//!   contradicts itself not before its next handshake.
//! - If the hash is wrong, the next copy comes from one origin alone, and whoever gave all of a bad copy is
//!   banned at once: see [`evidence`](crate::download::evidence).
//! - Sizes above [`METADATA_MAX`], and those that there is no memory for, are not believed.

use core::time::Duration;

use everseed_core::geometry::{BLOCK, TorrentId};
use everseed_core::metadata::{HEAD_MAX, METADATA_MAX, Message, NoMessage, decode};

use crate::api::MetadataStats;
use crate::broken::broken;
use crate::context::Context;
use crate::download::Download;
use crate::download::pending_blocks::{BlockState, PendingBlock};
use crate::memory::ids::NONE;
use crate::peer::{Conn, Payload, Reason, origin};
use crate::torrent::Torrent;
use crate::torrent::stage::Stage;
use crate::wake::Wake;

/// Blocks that a peer is asked for at a time.
const REQUESTS: u16 = 2;

/// For so long who rejected a request is asked no more.
const HOLD: Duration = Duration::from_secs(30);

/// A block has to come within this time, or the peer is asked no more for a while.
const ANSWER: Duration = Duration::from_secs(20);
const SILENCE_HOLD: Duration = Duration::from_secs(60);

/// A size is tried for so long, and what it takes at this rate, before another one has its turn.
const PATIENCE: Duration = Duration::from_secs(30);
const SLOWEST_BPS: u32 = 64 * 1024;

impl Download<'_> {
    /// Asks a peer for as many blocks of metadata as it should be asked for now.
    pub(crate) fn request_metadata(&mut self, cx: &mut Context<'_>, slot: usize, id: TorrentId) {
        if !cx.torrents.fetches(id) || !self.hands_out(cx, &cx.peers[slot]) {
            return;
        }
        self.settle_size(cx, slot, id);
        if !self.may_request(cx, slot, 0) {
            return;
        }
        let download = &mut cx.peers[slot].download;
        if download.pending.len == 0 && !download.owes {
            download.last_block_at = cx.now;
        }
        while cx.peers[slot].download.pending.len < REQUESTS && self.may_reserve(cx, slot) {
            let Some((partial, index)) = self.choose_metadata(cx, slot, id) else {
                break;
            };
            self.reserve(cx, slot, partial, index);
        }
        cx.peers.make_ready(slot);
    }

    /// The block of metadata to ask a peer for next.
    fn choose_metadata(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        id: TorrentId,
    ) -> Option<(u16, u32)> {
        let begun = self.in_progress.of(id).next().map(|(partial, _)| partial);
        let partial = match begun {
            Some(partial) => partial,
            None => {
                let (piece, size) = cx.torrents.get(id)?.metadata_piece()?;
                // From the first copy on it is known who gave what.
                self.begin_piece(cx, slot, id, piece, size, true)?
            }
        };
        let piece = self.in_progress.get(partial)?;
        if !self.fits(cx, slot, id, piece) {
            return self.late_block(cx, slot, id);
        }
        if piece.evidence.alone {
            let (me, origin) = (cx.peers.id(slot), origin(cx.peers[slot].link.addr));
            self.in_progress.claim(partial, me, origin);
        }
        let index = self.in_progress.take_open(partial)?;
        Some((partial, index))
    }

    /// Whether a peer hands out metadata of a size that is believed.
    fn hands_out(&self, cx: &Context<'_>, conn: &Conn) -> bool {
        let size = conn.extensions.metadata_size;
        conn.is_open()
            && conn.extensions.ut_metadata != 0
            && cx.now >= conn.extensions.metadata_hold
            && (1..=METADATA_MAX).contains(&size)
            && self.in_progress.has_room_for(size)
    }

    /// Whether a peer hands out metadata of the size that is tried.
    pub(crate) fn may_request_metadata(&self, cx: &Context<'_>, slot: usize) -> bool {
        let tried = cx.torrent_of(slot).and_then(|t| t.metadata_piece());
        let conn = &cx.peers[slot];
        tried.is_some_and(|(_, size)| size == conn.extensions.metadata_size)
            && self.hands_out(cx, conn)
    }

    /// How far the metadata of a torrent is.
    pub(crate) fn metadata_stats(&self, cx: &Context<'_>, torrent: &Torrent) -> MetadataStats {
        let its = |conn: &&Conn| conn.link.torrent == Some(torrent.id()) && conn.is_open();
        let mut stats = MetadataStats {
            size: torrent.geometry.map_or(0, |g| g.piece_len()),
            missing: torrent
                .geometry
                .map_or(0, |g| g.piece_len().div_ceil(BLOCK)),
            bad_copies: torrent.bad_pieces,
            refused: torrent.refused,
            ..MetadataStats::default()
        };
        for conn in cx.peers.iter().filter(its) {
            let size = conn.extensions.metadata_size;
            let offers = conn.extensions.ut_metadata != 0 && size > 0;
            stats.peers += 1;
            stats.offers += u16::from(offers);
            if offers && (size > METADATA_MAX || !self.in_progress.has_room_for(size)) {
                stats.too_large = stats.too_large.max(size);
            }
        }
        if !torrent.fetches_metadata() {
            stats.missing = 0;
        } else if let Some((_, piece)) = self.in_progress.of(torrent.id()).next() {
            stats.missing = piece.missing;
        }
        stats
    }

    /// A peer tells another size than the one that is tried, or the first: decides which one is tried.
    fn settle_size(&mut self, cx: &mut Context<'_>, slot: usize, id: TorrentId) {
        let Some(torrent) = cx.torrents.get(id) else {
            return;
        };
        let Stage::Metadata { since } = torrent.stage else {
            return;
        };
        let tried = torrent.metadata_piece().map_or(0, |(_, size)| size);
        if tried == cx.peers[slot].extensions.metadata_size {
            return;
        }
        let most = PATIENCE + Duration::from_secs(u64::from(tried / SLOWEST_BPS));
        let theirs = |conn: &&Conn| conn.link.torrent == Some(id) && self.hands_out(cx, conn);
        let told = || {
            cx.peers
                .iter()
                .filter(theirs)
                .map(|c| c.extensions.metadata_size)
        };
        if told().any(|size| size == tried) && cx.now - since < most {
            return;
        }
        let votes = |size: u32| told().filter(|&other| other == size).count();
        let others = told().filter(|&size| size != tried);
        // Of those that equally many tell, the smallest costs least to try.
        let Some(size) = others.max_by_key(|&size| (votes(size), u32::MAX - size)) else {
            return;
        };
        let begun = self.in_progress.of(id).next().map(|(partial, _)| partial);
        if let Some(partial) = begun {
            self.give_up(cx, partial);
        }
        if !cx.torrents.try_size(cx.now, id, size) {
            log::warn!("no memory is left to fetch the metadata of another torrent");
        }
    }

    /// Looks after what was asked of a peer that hands out metadata.
    pub(crate) fn sweep_metadata(&mut self, cx: &mut Context<'_>, slot: usize, id: TorrentId) {
        let first = self.pending.get(cx.peers[slot].download.pending.head);
        let late = first
            .is_some_and(|f| f.state != BlockState::Reserved && cx.now - f.requested_at >= ANSWER);
        if late {
            self.pause_metadata(cx, slot, SILENCE_HOLD);
        }
        self.request_metadata(cx, slot, id);
    }

    /// A peer is not asked for a while, and what it was asked for is open to others.
    fn pause_metadata(&mut self, cx: &mut Context<'_>, slot: usize, time: Duration) {
        log::debug!("{}: not asked for metadata", cx.peers[slot].link.addr);
        cx.peers[slot].extensions.metadata_hold = cx.now + time;
        self.drop_all_pending(cx, slot, false);
        cx.wakes.add(Wake::Request);
    }

    /// A message about metadata begins to come. If a block is awaited it is taken here, and the answer is yes.
    pub(crate) fn metadata_begins(&mut self, cx: &mut Context<'_>, slot: usize) -> bool {
        if !cx.lacks_metadata(slot) {
            return false;
        }
        let asked = |f: &PendingBlock| f.state == BlockState::Requested;
        let Some(at) = self.pending.find(&cx.peers[slot].download.pending, asked) else {
            return false;
        };
        if let Some(pending) = self.pending.get_mut(at) {
            (pending.state, pending.got) = (BlockState::Receiving, 0);
        }
        cx.peers[slot].download.receiving = at;
        cx.peers[slot].link.payload = Payload::MetadataHead;
        true
    }

    /// Takes bytes of such a message, until its dictionary is read. Answers with the piece of `info` that the
    /// peer asks for, if that is what it says.
    #[allow(clippy::cast_possible_truncation)] // Far below 4 GiB.
    pub(crate) fn metadata_bytes(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        bytes: &[u8],
        last: bool,
    ) -> Result<Option<u32>, Reason> {
        let at = cx.peers[slot].download.receiving;
        let Some(pending) = self.pending.get_mut(at) else {
            broken("a pending block that metadata is gathered in");
            return Ok(None);
        };
        let had = pending.got as usize;
        let taken = bytes.len().min(HEAD_MAX - had);
        let Some(room) = self.blocks.bytes_mut(pending.block) else {
            broken("the bytes of a pending block");
            return Ok(None);
        };
        // Whatever follows the dictionary belongs into its block, which may be another one.
        let mut head = [0; HEAD_MAX];
        room[had..had + taken].copy_from_slice(&bytes[..taken]);
        head[..had + taken].copy_from_slice(&room[..had + taken]);
        let head = &head[..had + taken];
        let decoded = decode(head);
        if decoded == Err(NoMessage::Truncated) && !last && head.len() < HEAD_MAX {
            pending.got = head.len() as u32;
            return Ok(None);
        }
        (pending.state, pending.got) = (BlockState::Requested, 0);
        cx.peers[slot].download.receiving = NONE;
        cx.peers[slot].link.payload = Payload::Skip;
        match decoded {
            Ok((Message::Request { piece }, _)) => return Ok(Some(piece)),
            Ok((Message::Data { piece, total_size }, len)) => {
                let (rest, more) = (&head[len..], &bytes[taken..]);
                let left = cx.peers[slot].link.decoder.payload_left() as usize;
                let size = (rest.len() + more.len() + left) as u32;
                if self.metadata_block(cx, slot, piece, total_size, size)? {
                    for bytes in [rest, more].into_iter().filter(|b| !b.is_empty()) {
                        self.block_bytes(cx, slot, bytes);
                    }
                }
            }
            Ok((Message::Reject { .. }, _)) => self.pause_metadata(cx, slot, HOLD),
            Err(_) => self.contradicts(cx, slot),
        }
        Ok(None)
    }

    /// A block of metadata comes, of so many bytes; answers whether it is one that is waited for.
    fn metadata_block(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        index: u32,
        total_size: Option<u32>,
        len: u32,
    ) -> Result<bool, Reason> {
        let hit = |f: &PendingBlock| f.state == BlockState::Requested && f.index == index;
        let Some(at) = self.pending.find(&cx.peers[slot].download.pending, hit) else {
            self.unrequested(cx, slot, len)?;
            return Ok(false);
        };
        let told = cx.peers[slot].extensions.metadata_size;
        let fits = total_size.is_none_or(|total| total == told);
        let Some(pending) = self.pending.get_mut(at).filter(|f| fits && f.len == len) else {
            self.contradicts(cx, slot);
            return Ok(false);
        };
        pending.state = BlockState::Receiving;
        cx.peers[slot].download.receiving = at;
        cx.peers[slot].link.payload = Payload::Block;
        Ok(true)
    }

    /// What a peer says does not fit what it said before: it is not asked again on this connection, unless it
    /// sends another extended handshake.
    fn contradicts(&mut self, cx: &mut Context<'_>, slot: usize) {
        log::debug!("{}: it contradicts itself", cx.peers[slot].link.addr);
        cx.peers[slot].extensions.metadata_size = 0;
        self.pause_metadata(cx, slot, HOLD);
    }
}

#[cfg(test)]
mod tests;
