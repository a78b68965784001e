//! Messages of peers about serving us: choke, unchoke, and those of the Fast extension (BEP 6).
//!
//! A peer that retracts its offers again and again, by rejects or chokes, would get requests as fast as it can do that.
//! So retractions are counted until a block comes. Beyond [`RETRACTIONS_MAX`] it gets no request before the next sweep.

use everseed_core::geometry::BlockRef;

use crate::context::Context;
use crate::download::Download;
use crate::download::pending_blocks::{BlockState, PendingBlock};
use crate::peer::Reason;
use crate::wake::Wake;

type Verdict = Result<(), Reason>;

/// The retractions that a peer may make between two sweeps; a reject is one.
pub(crate) const RETRACTIONS_MAX: u8 = 32;

/// A choke counts as so many retractions.
const CHOKE: u8 = 4;

impl Download<'_> {
    /// The peer chokes us. Without Fast this drops our requests (BEP 3); with it each is still answered (BEP 6).
    pub(crate) fn choked_us(&mut self, cx: &mut Context<'_>, slot: usize) -> Verdict {
        let fast = cx.peers[slot].link.features.fast;
        let conn = &mut cx.peers[slot];
        conn.download.retractions = conn.download.retractions.saturating_add(CHOKE);
        conn.download.unchoked = false;
        conn.download.owes = false;
        self.drop_all_pending(cx, slot, fast);
        self.count_active_sources(cx);
        Ok(())
    }

    /// The peer unchokes us.
    pub(crate) fn unchoked_us(&mut self, cx: &mut Context<'_>, slot: usize) -> Verdict {
        cx.peers[slot].download.unchoked = true;
        self.count_active_sources(cx);
        Ok(())
    }

    /// The peer rejects a request (BEP 6). The block may be requested from others.
    pub(crate) fn rejected(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        block: BlockRef,
    ) -> Verdict {
        let hit = |pending: &PendingBlock| {
            pending.state == BlockState::Requested && self.block_ref(cx, pending) == Some(block)
        };
        if let Some(at) = self.pending.find(&cx.peers[slot].download.pending, hit) {
            let conn = &mut cx.peers[slot];
            if conn.download.unchoked {
                conn.download.retractions = conn.download.retractions.saturating_add(1);
            }
            conn.download.owes = false;
            // After a reject, other pieces than this one are requested first.
            conn.download
                .allowed_fast
                .retain(|&piece| piece != block.index);
            self.drop_pending(cx, slot, at);
            cx.wakes.add(Wake::Request);
        }
        let conn = &mut cx.peers[slot];
        conn.download.excused = conn.download.excused.saturating_sub(1);
        Ok(())
    }

    /// The peer suggests a piece (BEP 6).
    pub(crate) fn suggested(&mut self, cx: &mut Context<'_>, slot: usize, piece: u32) -> Verdict {
        if piece >= cx.pieces_of(slot) {
            return Err(Reason::BadMessage);
        }
        cx.peers[slot].download.suggested = Some(piece);
        Ok(())
    }

    /// The peer sends this piece even while it chokes us (BEP 6). The first few are remembered.
    pub(crate) fn allowed(&mut self, cx: &mut Context<'_>, slot: usize, piece: u32) -> Verdict {
        if piece >= cx.pieces_of(slot) {
            return Err(Reason::BadMessage);
        }
        let allowed = &mut cx.peers[slot].download.allowed_fast;
        if !allowed.contains(&piece) {
            let _ = allowed.push(piece);
        }
        Ok(())
    }
}
