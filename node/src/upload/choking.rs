//! The choking rounds, which decide which peers are served (BEP 3). What happens between them is in `slots`.

// There are at most `u16::MAX` slots.
#![allow(clippy::cast_possible_truncation)]

use core::time::Duration;

use everseed_core::time::Instant;

use crate::api::Limits;
use crate::context::Context;
use crate::peer::{Conn, origin};
use crate::upload::Upload;
use crate::upload::choker::{self, Rank};
use crate::upload::suggest::suggest;
use crate::wake::Wake;

/// The time between choking rounds (BEP 3).
pub(super) const ROUND: Duration = Duration::from_secs(10);

/// The optimistic slots rotate every so many rounds, which makes 30 s (BEP 3).
const ROUNDS_PER_ROTATION: u32 = 3;

impl Upload<'_> {
    /// The choking round, if ten seconds have passed since the last one.
    pub(crate) fn choking_round_if_due(&mut self, cx: &mut Context<'_>, limits: &Limits) {
        if self.next_round <= cx.now {
            self.next_round = cx.now + ROUND;
            self.rounds = self.rounds.wrapping_add(1);
            let rotate = self.rounds.is_multiple_of(ROUNDS_PER_ROTATION);
            self.choking_round(cx, limits, rotate);
        }
    }

    /// Decides anew whom to serve (BEP 3).
    pub(crate) fn choking_round(&mut self, cx: &mut Context<'_>, limits: &Limits, rotate: bool) {
        self.slots = self.suitable_slots(limits);
        let len = self.line_up(cx);
        let (conns, throttled) = (&cx.peers, cx.wakes.has(Wake::SendAtRate));
        let rank = |slot| {
            let conn = &conns[usize::from(slot)];
            Rank {
                unchoked: conn.upload.unchoked,
                optimistic: conn.upload.optimistic,
                // In the last rounds: nothing, if it snubs us.
                received: conn.download.recent(),
                sent: conn.upload.uploaded - conn.upload.uploaded_before,
                // A choked one that does not even read what it was sent has no use for a slot.
                idle: match conn.upload.unchoked {
                    true => hardly_takes(cx.now, conn, throttled, 2 * ROUND),
                    false => refuses(cx.now, conn, ROUND),
                },
                since: waiting_since(cx.now, conn),
                unchoked_from_same_ip: conn.upload.unchoked_from_same_ip,
            }
        };
        let slots = usize::from(self.slots);
        let chosen = choker::choose(&mut self.ranks[..len], rank, slots, rotate);
        for conn in cx.peers.iter_mut() {
            conn.upload.uploaded_before = conn.upload.uploaded;
            conn.download.downloaded_before =
                [conn.download.downloaded_before[1], conn.download.downloaded];
        }
        for place in 0..len {
            let slot = usize::from(self.ranks[place]);
            let unchoked = place < chosen.by_speed + chosen.optimistic;
            cx.peers[slot].upload.optimistic = unchoked && place >= chosen.by_speed;
            match (cx.peers[slot].upload.unchoked, unchoked) {
                (false, true) => self.unchoke(cx, slot),
                (true, false) => self.choke(cx, slot),
                _ => {}
            }
        }
    }

    /// Lines up who is interested, and finds out how many slots the address of each has; answers how many they are.
    pub(super) fn line_up(&mut self, cx: &mut Context<'_>) -> usize {
        let interested = |conn: &Conn| conn.is_open() && conn.upload.interested;
        let len = cx.peers.line_up(self.ranks, interested);
        self.count_unchoked_from_same_ip(cx, len);
        len
    }

    /// Finds out how many slots the address of each of those has who are lined up.
    fn count_unchoked_from_same_ip(&mut self, cx: &mut Context<'_>, len: usize) {
        let conns = &mut cx.peers;
        let mut rest = &self.ranks[..len];
        while let Some(&first) = rest.first() {
            let address = origin(conns[usize::from(first)].link.addr);
            let same = |slot: &&u16| origin(conns[usize::from(**slot)].link.addr) == address;
            let (neighbours, others) = rest.split_at(rest.iter().take_while(same).count());
            let unchoked = |slot: &&u16| conns[usize::from(**slot)].upload.unchoked;
            let served = neighbours.iter().filter(unchoked).count() as u16;
            for &slot in neighbours {
                conns[usize::from(slot)].upload.unchoked_from_same_ip = served;
            }
            rest = others;
        }
    }

    pub(super) fn unchoke(&mut self, cx: &mut Context<'_>, slot: usize) {
        let conn = &mut cx.peers[slot];
        conn.upload.unchoked = true;
        conn.upload.had_slot = true;
        conn.upload.choke_changed_at = cx.now;
        suggest(cx, slot);
        cx.peers.make_ready(slot);
    }

    /// Chokes a peer. What it asked for is rejected under Fast (BEP 6) and forgotten otherwise.
    pub(crate) fn choke(&mut self, cx: &mut Context<'_>, slot: usize) {
        let conn = &mut cx.peers[slot];
        conn.upload.unchoked = false;
        conn.upload.optimistic = false;
        conn.link.outbox.choked();
        conn.upload.choke_changed_at = cx.now;
        if conn.link.features.fast {
            self.queue.reject(&conn.upload.requests, None);
        } else {
            self.queue.clear(&mut conn.upload.requests);
        }
        cx.peers.make_ready(slot);
    }
}

/// Whether a peer has had a slot for so long and not taken a block's worth in that time, through no fault of ours. While
/// the rate limit is `throttled`, whoever asks for anything may be waiting for it.
pub(super) fn hardly_takes(now: Instant, conn: &Conn, throttled: bool, time: Duration) -> bool {
    let asks = conn.upload.requests.len() > 0 || conn.link.outbox.mid_message();
    let used_at = conn.upload.took_block_at.max(conn.upload.choke_changed_at);
    conn.upload.unchoked
        && now - used_at >= time
        && conn.upload.awaits_verify.is_none()
        && !(asks && throttled && !refuses(now, conn, ROUND))
}

/// Whether a peer has taken nothing for so long though it could have had a block.
pub(crate) fn refuses(now: Instant, conn: &Conn, time: Duration) -> bool {
    (conn.upload.offered_at).is_some_and(|offered_at| now - offered_at >= time)
}

/// Since when a peer waits for its turn. For newcomers time counts three times, so that they soon have something to
/// trade (BEP 3).
fn waiting_since(now: Instant, conn: &Conn) -> Instant {
    let extra = if !conn.upload.unchoked && is_new(now, conn) {
        2 * (now - conn.upload.choke_changed_at)
    } else {
        Duration::ZERO
    };
    let micros = u64::try_from(extra.as_micros()).unwrap_or(u64::MAX);
    Instant::from_micros(
        conn.upload
            .choke_changed_at
            .as_micros()
            .saturating_sub(micros),
    )
}

/// Whether a peer is new, and has nothing from us yet.
pub(super) fn is_new(now: Instant, conn: &Conn) -> bool {
    conn.upload.uploaded == 0 && now - conn.link.opened_at < NEWCOMER
}

/// How long a peer is a newcomer.
const NEWCOMER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::outbox::Out;

    const NOW: Instant = Instant::from_secs(1000);

    fn ago(seconds: u64) -> Instant {
        Instant::from_secs(1000 - seconds)
    }

    fn conn() -> Conn {
        Conn::new(NOW, 0, ([10, 0, 0, 1], 6881).into(), true)
    }

    #[test]
    fn who_hardly_takes_anything() {
        // Unchoked since, took a block's worth, asks, throttled, offered a block since: whether that is hardly anything.
        let cases = [
            (20, 90, false, false, None, true),
            (19, 90, false, false, None, false),
            (60, 20, false, false, None, true),
            (60, 19, false, false, None, false),
            (20, 90, true, false, None, true),
            // It may be waiting for the rate limit, unless it does not take what it is offered.
            (20, 90, true, true, None, false),
            (20, 90, true, true, Some(9), false),
            (20, 90, true, true, Some(10), true),
            (20, 90, false, true, None, true),
        ];
        for (since, took, asks, throttled, offered, expected) in cases {
            let mut conn = conn();
            conn.upload.unchoked = true;
            conn.upload.choke_changed_at = ago(since);
            conn.upload.took_block_at = ago(took);
            conn.upload.offered_at = offered.map(ago);
            conn.link.outbox.current = asks.then_some(Out::Unchoke);
            let hardly = hardly_takes(NOW, &conn, throttled, 2 * ROUND);
            assert_eq!(
                hardly, expected,
                "{since} {took} {asks} {throttled} {offered:?}"
            );
        }
        assert!(
            !hardly_takes(NOW, &conn(), false, 2 * ROUND),
            "it is choked"
        );
    }

    #[test]
    fn a_trickle_is_a_block_in_the_end() {
        let mut conn = conn();
        let block = u64::from(everseed_core::geometry::BLOCK);
        // Seconds, bytes that went out then: when a block was last taken.
        for (at, bytes, took) in [
            (1, block - 1, 0),
            (2, 1, 2),
            (3, block - 1, 2),
            (4, block, 4),
            (5, 3 * block, 5),
        ] {
            (conn.upload).add_uploaded(Instant::from_secs(at), bytes);
            assert_eq!(conn.upload.took_block_at, Instant::from_secs(took), "{at}");
        }
    }

    #[test]
    fn newcomers_wait_three_times_as_long() {
        // Choked since, connected since, bytes that it has from us: how long it counts as waiting.
        for (since, connected, bytes, waited) in [
            (10, 10, 0, 30),
            (10, 59, 0, 30),
            (10, 60, 0, 10),
            (10, 10, 1, 10),
        ] {
            let mut conn = conn();
            conn.upload.choke_changed_at = ago(since);
            conn.link.opened_at = ago(connected);
            conn.upload.uploaded = bytes;
            assert_eq!(
                waiting_since(NOW, &conn),
                ago(waited),
                "{since} {connected} {bytes}"
            );
        }
        let mut served = conn();
        served.upload.unchoked = true;
        served.upload.choke_changed_at = ago(10);
        assert_eq!(waiting_since(NOW, &served), ago(10));
    }
}
