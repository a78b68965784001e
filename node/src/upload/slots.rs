//! Upload slots: how many there are, and who gets one between the choking rounds.
//!
//! If nobody said how many, their number follows the capacity: the upload limit, or what was sent in the last seconds.
//! It grows as soon as more was sent, and falls at a choking round.
//!
//! A newcomer has a block soon, however many are served: if no slot is free it takes over the optimistic one that was
//! held the longest.

use core::time::Duration;

use crate::api::Limits;
use crate::context::Context;
use crate::peer::Conn;
use crate::upload::Upload;
use crate::upload::choker::{automatic_slots, optimistic_slots};
use crate::upload::choking::{ROUND, is_new};
use crate::wake::Wake;

impl Upload<'_> {
    /// How many peers suit the capacity.
    pub(crate) fn suitable_slots(&self, limits: &Limits) -> u16 {
        let automatic = match limits.upload_bps {
            Some(bps) => automatic_slots(bps),
            // It is at least what was sent, and peers may be what is slow.
            None => automatic_slots(self.speed.bps).max(automatic_slots(0)),
        };
        let slots = limits.slots.unwrap_or(automatic.min(limits.most_slots));
        slots.max(1)
    }

    /// Notes that bytes of a block went out.
    pub(crate) fn note_sent(&mut self, cx: &mut Context<'_>, bytes: u64) {
        self.uploaded = self.uploaded.saturating_add(bytes);
        self.rate.take(cx.now, bytes);
        let settled = self.speed.note(cx.now, bytes);
        cx.wakes.add_if(Wake::FillSlots, settled);
    }

    /// Unchokes interested peers, the longest waiting first, while upload slots are free: between
    /// the rounds nobody waits for nothing.
    pub(crate) fn fill_slots(&mut self, cx: &mut Context<'_>, limits: &Limits) {
        self.slots = self.slots.max(self.suitable_slots(limits));
        let unchoked = cx.peers.iter().filter(|c| c.upload.unchoked).count();
        for _ in unchoked..usize::from(self.slots) {
            let first = (0..cx.peers.len())
                .filter(|&slot| waits(&cx.peers[slot]))
                .min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at);
            let Some(slot) = first else { return };
            self.unchoke(cx, slot);
        }
        for _ in 0..optimistic_slots(usize::from(self.slots)) {
            let Some(holder) = self.ripe(cx) else { return };
            let Some(newcomer) = self.newcomer(cx) else {
                return;
            };
            self.choke(cx, holder);
            self.unchoke(cx, newcomer);
            cx.peers[newcomer].upload.optimistic = true;
        }
    }

    /// Who has had an optimistic slot the longest, if that was long enough. While fewer than there should be are
    /// optimistic, who took least since the last round.
    fn ripe(&self, cx: &Context<'_>) -> Option<usize> {
        let served = || (0..cx.peers.len()).filter(|&slot| cx.peers[slot].upload.unchoked);
        let optimistic = |slot: &usize| cx.peers[*slot].upload.optimistic;
        let had_its_turn = |slot: &usize| {
            let upload = &cx.peers[*slot].upload;
            let turn = cx.now - upload.choke_changed_at;
            turn >= TURN && (upload.uploaded > 0 || turn >= ROUND)
        };
        if served().filter(optimistic).count() >= optimistic_slots(usize::from(self.slots)) {
            let ripe = served().filter(optimistic).filter(had_its_turn);
            return ripe.min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at);
        }
        let others = served().filter(|slot| !optimistic(slot));
        others.filter(had_its_turn).min_by_key(|&slot| {
            let conn = &cx.peers[slot];
            let sent = conn.upload.uploaded - conn.upload.uploaded_before;
            (conn.download.recent(), sent)
        })
    }

    /// The newcomer that waits the longest, if its address has no slot yet.
    fn newcomer(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        let now = cx.now;
        let is_newcomer = |conn: &Conn| waits(conn) && is_new(now, conn);
        if !cx.peers.iter().any(is_newcomer) {
            return None;
        }
        self.line_up(cx);
        let alone = |slot: &usize| {
            let conn = &cx.peers[*slot];
            is_newcomer(conn) && conn.upload.unchoked_from_same_ip == 0
        };
        let newcomers = (0..cx.peers.len()).filter(alone);
        newcomers.min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at)
    }
}

fn waits(conn: &Conn) -> bool {
    conn.is_open() && conn.upload.interested && !conn.upload.unchoked
}

/// How long who has an optimistic slot keeps it though a newcomer waits, if it got something: most have a block by
/// then.
const TURN: Duration = Duration::from_secs(1);
