//! Upload slots: how many there are, and who gets one between the choking rounds.
//!
//! If nobody said how many, their number follows the capacity: the upload limit, or what was sent in the last seconds.
//! It grows as soon as more was sent, and falls at a choking round.
//!
//! A newcomer has a block soon, however many are served: if no slot is free it takes over one whose holder hardly uses
//! it, or the optimistic one that was held the longest.

use core::time::Duration;

use everseed_core::time::Instant;

use crate::api::Limits;
use crate::context::Context;
use crate::peer::Conn;
use crate::upload::Upload;
use crate::upload::choker::{automatic_slots, optimistic_slots};
use crate::upload::choking::{hardly_takes, is_new, refuses};
use crate::wake::Wake;

impl Upload<'_> {
    /// How many peers suit the capacity or were asked for, as far as the host has memory for them.
    pub(crate) fn suitable_slots(&self, limits: &Limits) -> u16 {
        let automatic = match limits.upload_bps {
            Some(bps) => automatic_slots(bps),
            // It is at least what was sent, and peers may be what is slow.
            None => automatic_slots(self.speed.bps).max(automatic_slots(0)),
        };
        let slots = limits.slots.unwrap_or(automatic);
        slots.min(limits.most_slots).max(1)
    }

    /// Counts bytes of blocks that went out.
    pub(crate) fn bytes_sent(&mut self, cx: &mut Context<'_>, bytes: u64) {
        self.uploaded = self.uploaded.saturating_add(bytes);
        self.rate.take(cx.now, bytes);
        let settled = self.speed.add(cx.now, bytes);
        cx.wakes.add_if(Wake::FillSlots, settled);
    }

    /// Unchokes interested peers, those that read and have waited the longest first, while upload slots are free: between
    /// the rounds nobody waits for nothing.
    pub(crate) fn fill_slots(&mut self, cx: &mut Context<'_>, limits: &Limits) {
        self.slots = self.slots.max(self.suitable_slots(limits));
        let unchoked = cx.peers.iter().filter(|c| c.upload.unchoked).count();
        for _ in unchoked..usize::from(self.slots) {
            let first = (0..cx.peers.len())
                .filter(|&slot| waits(&cx.peers[slot]))
                .min_by_key(|&slot| {
                    let conn = &cx.peers[slot];
                    (refuses(cx.now, conn, TURN), conn.upload.choke_changed_at)
                });
            let Some(slot) = first else { return };
            self.unchoke(cx, slot);
        }
        self.give_turns(cx, false);
    }

    /// Lets newcomers take over slots that are hardly used, if they wait for a slot and it is time to look.
    ///
    /// This comes before the senders are woken: until then it is known whether they wait for the upload limit.
    pub(crate) fn give_turns_if_due(&mut self, cx: &mut Context<'_>) {
        if self.next_turn.is_some_and(|at| at <= cx.now) {
            self.next_turn = None;
            self.give_turns(cx, true);
        }
    }

    /// Lets newcomers take over slots, and settles when to look again.
    fn give_turns(&mut self, cx: &mut Context<'_>, also_unused: bool) {
        let now = cx.now;
        if !cx.peers.iter().any(|conn| is_newcomer(now, conn)) {
            self.next_turn = None;
            return;
        }
        self.next_turn.get_or_insert(now + TURN);
        let optimistic = optimistic_slots(usize::from(self.slots));
        // Slots that are not used cost nobody anything, so that all of them change hands at once.
        for turn in 0..cx.peers.len() {
            let unused = also_unused.then(|| self.unused(cx)).flatten();
            let ripe = || (turn < optimistic.max(1)).then(|| self.ripe(cx)).flatten();
            let Some(holder) = unused.or_else(ripe) else {
                return;
            };
            let Some(newcomer) = self.newcomer(cx) else {
                return;
            };
            self.choke(cx, holder);
            // Whoever had an optimistic slot the longest keeps it for its speed instead of who hardly used that one.
            let served = (0..cx.peers.len()).filter(|&slot| cx.peers[slot].upload.optimistic);
            let oldest = served
                .clone()
                .min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at);
            if let Some(oldest) = oldest.filter(|_| served.count() >= optimistic) {
                cx.peers[oldest].upload.optimistic = false;
            }
            self.unchoke(cx, newcomer);
            cx.peers[newcomer].upload.optimistic = true;
        }
    }

    /// The peer that has had a slot the longest, hardly uses it, and gives us nothing.
    ///
    /// A host writes to a slow peer seldom, as much at a time as its socket takes: some 100 KB every few seconds. So a
    /// peer that took nothing for a shorter time than [`UNUSED`] may well be reading all the time.
    fn unused(&self, cx: &Context<'_>) -> Option<usize> {
        let throttled = cx.wakes.has(Wake::SendAtRate);
        let unused = |slot: &usize| {
            let conn = &cx.peers[*slot];
            let throttled = throttled && !refuses(cx.now, conn, UNUSED);
            conn.download.recent() == 0 && hardly_takes(cx.now, conn, throttled, UNUSED)
        };
        let unused = (0..cx.peers.len()).filter(unused);
        unused.min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at)
    }

    /// The peer that has had an optimistic slot the longest, if that was long enough. While fewer than there should be are
    /// optimistic, who took least since the last round.
    fn ripe(&self, cx: &Context<'_>) -> Option<usize> {
        let optimistic_slots = optimistic_slots(usize::from(self.slots));
        if optimistic_slots == 0 {
            return None;
        }
        let served = || (0..cx.peers.len()).filter(|&slot| cx.peers[slot].upload.unchoked);
        let optimistic = |slot: &usize| cx.peers[*slot].upload.optimistic;
        let had_its_turn = |slot: &usize| {
            let upload = &cx.peers[*slot].upload;
            let turn = cx.now - upload.choke_changed_at;
            let took_its_chance = upload.uploaded > 0 || refuses(cx.now, &cx.peers[*slot], TURN);
            turn >= TURN && (took_its_chance || turn >= UNUSED)
        };
        // Who uses its slot waits for those who may turn out not to use theirs, and stays instead of them.
        let took_a_block = |slot: usize| {
            let upload = &cx.peers[slot].upload;
            upload.took_block_at > upload.choke_changed_at
        };
        let may_be_unused = |slot: usize| {
            !took_a_block(slot) && cx.now - cx.peers[slot].upload.choke_changed_at <= UNUSED
        };
        if served().filter(optimistic).count() >= optimistic_slots {
            let ripe = served().filter(optimistic).filter(had_its_turn);
            let oldest = ripe.min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at);
            return oldest.filter(|&slot| !took_a_block(slot) || !served().any(may_be_unused));
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
        if !cx.peers.iter().any(|conn| is_newcomer(now, conn)) {
            return None;
        }
        self.line_up(cx);
        let alone = |slot: &usize| {
            let conn = &cx.peers[*slot];
            is_newcomer(now, conn) && conn.upload.unchoked_from_same_ip == 0
        };
        let newcomers = (0..cx.peers.len()).filter(alone);
        newcomers.min_by_key(|&slot| cx.peers[slot].upload.choke_changed_at)
    }
}

/// Whether a peer waits for its first slot. Who had one and did not use it waits as everybody else.
fn is_newcomer(now: Instant, conn: &Conn) -> bool {
    waits(conn) && is_new(now, conn) && !conn.upload.had_slot
}

fn waits(conn: &Conn) -> bool {
    conn.is_open() && conn.upload.interested && !conn.upload.unchoked
}

/// How long who has an optimistic slot keeps it though a newcomer waits, if it got something or takes nothing: most have
/// a block by then.
const TURN: Duration = Duration::from_secs(1);

/// How long a slot may hardly be used while a newcomer waits.
const UNUSED: Duration = Duration::from_secs(4);
