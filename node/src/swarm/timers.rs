//! What time alone brings about: choking rounds, timeouts, keep-alives.

// There are at most `u16::MAX` slots.
#![allow(clippy::cast_possible_truncation)]

use core::time::Duration;

use everseed_core::time::Instant;

use crate::Node;
use crate::peer::{Conn, Reason, State};
use crate::swarm::admission::origin;
use crate::swarm::connections::DIAL_TIMEOUT;
use crate::swarm::outbound::keep_alive_due;
use crate::upload::choker::{self, Rank};
use crate::upload::suggest::suggest;

/// How often connections are looked at while there are any.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// The time between choking rounds (BEP 3).
const ROUND: Duration = Duration::from_secs(10);

/// The optimistic slots rotate every so many rounds, which makes 30 s (BEP 3).
const ROUNDS_PER_ROTATION: u32 = 3;

/// How long a handshake may take, and the waking of the torrent that it names.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a peer may be silent: it should send a keep-alive every two minutes (BEP 3).
const IDLE_TIMEOUT: Duration = Duration::from_secs(190);

/// How long a peer may leave unread what it asked for.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

impl Node<'_> {
    /// Looks after every connection.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let mut any = false;
        for slot in 0..self.peers.len() {
            if let Some(reason) = self.overdue(now, slot) {
                self.close(slot, reason);
            }
            if keep_alive_due(&self.peers[slot], now) {
                self.peers[slot].link.outbox.keep_alive = true;
                self.peers.make_ready(slot);
            }
            if self.peers[slot].is_open() {
                self.with_download(|d, cx| d.review_pending(cx, slot, PERIOD));
            }
            any |= self.peers[slot].is_live();
        }
        if self.upload.next_round <= now {
            self.upload.next_round = now + ROUND;
            self.upload.rounds = self.upload.rounds.wrapping_add(1);
            self.choking_round(now, self.upload.rounds.is_multiple_of(ROUNDS_PER_ROTATION));
        }
        self.swarm.next_sweep = any.then(|| now + PERIOD);
    }

    /// Why a connection should end now.
    fn overdue(&self, now: Instant, slot: usize) -> Option<Reason> {
        let conn = &self.peers[slot];
        let owed = conn.upload.requests.len() > 0 || conn.link.outbox.mid_message();
        match conn.link.state {
            State::Dial | State::Dialling if now - conn.link.opened_at > DIAL_TIMEOUT => {
                Some(Reason::Gone)
            }
            State::Greeting if now - conn.link.opened_at > HANDSHAKE_TIMEOUT => {
                Some(Reason::SlowHandshake)
            }
            State::Wake | State::Waking if now - conn.link.opened_at > WAKE_TIMEOUT => {
                Some(Reason::Asleep)
            }
            State::Open if now - conn.link.last_received_at > IDLE_TIMEOUT => Some(Reason::Idle),
            // A rate limit or a slow disk is our fault, not the peer's.
            State::Open
                if owed
                    && now - conn.link.last_sent_at > STALL_TIMEOUT
                    && !self.upload.waits_for_rate
                    && conn.upload.awaits_verify.is_none() =>
            {
                Some(Reason::Stalled)
            }
            _ => None,
        }
    }

    /// Decides anew whom to serve (BEP 3).
    pub(crate) fn choking_round(&mut self, now: Instant, rotate: bool) {
        if self.limits.slots.is_none() {
            let sent = (self.upload.uploaded - self.upload.uploaded_before) / ROUND.as_secs();
            // With a limit the capacity is known; without, it is at least what was sent.
            let capacity = self.limits.upload_bps.unwrap_or(sent);
            let automatic = choker::automatic_slots(capacity);
            self.upload.slots = automatic.min(self.limits.most_slots).max(1);
        }
        self.upload.uploaded_before = self.upload.uploaded;
        let len = self.line_up(|conn| conn.is_open() && conn.upload.interested);
        self.count_unchoked_from_same_ip(len);
        let (conns, throttled) = (&self.peers, self.upload.waits_for_rate);
        let rank = |slot| {
            let conn = &conns[usize::from(slot)];
            Rank {
                unchoked: conn.upload.unchoked,
                optimistic: conn.upload.optimistic,
                // In the last rounds: nothing, if it snubs us.
                received: conn.download.recent(),
                sent: conn.upload.uploaded - conn.upload.uploaded_before,
                idle: takes_nothing(now, conn, throttled),
                since: waiting_since(now, conn),
                unchoked_from_same_ip: conn.upload.unchoked_from_same_ip,
            }
        };
        let slots = usize::from(self.upload.slots);
        let chosen = choker::choose(&mut self.upload.ranks[..len], rank, slots, rotate);
        for conn in self.peers.iter_mut() {
            conn.upload.uploaded_before = conn.upload.uploaded;
            conn.download.downloaded_before =
                [conn.download.downloaded_before[1], conn.download.downloaded];
        }
        for place in 0..len {
            let slot = usize::from(self.upload.ranks[place]);
            let unchoked = place < chosen.by_speed + chosen.optimistic;
            self.peers[slot].upload.optimistic = unchoked && place >= chosen.by_speed;
            match (self.peers[slot].upload.unchoked, unchoked) {
                (false, true) => self.unchoke(now, slot),
                (true, false) => self.choke(now, slot),
                _ => {}
            }
        }
    }

    /// Finds out how many slots the address of each of those has who are lined up.
    fn count_unchoked_from_same_ip(&mut self, len: usize) {
        let conns = &mut self.peers;
        let mut rest = &self.upload.ranks[..len];
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

    /// Unchokes interested peers, the longest waiting first, while upload slots are free: between
    /// the rounds nobody waits for nothing.
    pub(crate) fn fill_slots(&mut self, now: Instant) {
        let unchoked = self.peers.iter().filter(|c| c.upload.unchoked).count();
        for _ in unchoked..usize::from(self.upload.slots) {
            let waits = |slot: &usize| {
                let conn = &self.peers[*slot];
                conn.is_open() && conn.upload.interested && !conn.upload.unchoked
            };
            let first = (0..self.peers.len())
                .filter(waits)
                .min_by_key(|&s| self.peers[s].upload.choke_changed_at);
            let Some(slot) = first else { return };
            self.unchoke(now, slot);
        }
    }

    fn unchoke(&mut self, now: Instant, slot: usize) {
        let conn = &mut self.peers[slot];
        conn.upload.unchoked = true;
        conn.upload.choke_changed_at = now;
        self.with_download(|_, cx| suggest(cx, slot));
        self.peers.make_ready(slot);
    }

    /// Chokes a peer. What it asked for is rejected under Fast (BEP 6) and forgotten otherwise.
    pub(crate) fn choke(&mut self, now: Instant, slot: usize) {
        let conn = &mut self.peers[slot];
        conn.upload.unchoked = false;
        conn.upload.optimistic = false;
        conn.link.outbox.choked();
        conn.upload.choke_changed_at = now;
        if conn.link.features.fast {
            self.upload.queue.reject(&conn.upload.requests, None);
        } else {
            self.upload.queue.clear(&mut conn.upload.requests);
        }
        self.peers.make_ready(slot);
    }
}

/// Whether a peer took nothing for a whole round, through no fault of ours, after one in which it
/// could begin. While the rate limit is `throttled`, whoever asks for anything may be waiting for it.
fn takes_nothing(now: Instant, conn: &Conn, throttled: bool) -> bool {
    let asks = conn.upload.requests.len() > 0 || conn.link.outbox.mid_message();
    conn.upload.unchoked
        && conn.upload.uploaded == conn.upload.uploaded_before
        && now - conn.upload.choke_changed_at >= 2 * ROUND
        && conn.upload.awaits_verify.is_none()
        && !(asks && throttled)
}

/// Since when a peer waits, as far as its turn is concerned: for newcomers time counts three times, so
/// that they soon have something to trade (BEP 3).
fn waiting_since(now: Instant, conn: &Conn) -> Instant {
    let new =
        !conn.upload.unchoked && conn.upload.uploaded == 0 && now - conn.link.opened_at < NEWCOMER;
    let extra = if new {
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

/// How long a peer is a newcomer.
const NEWCOMER: Duration = Duration::from_secs(60);
