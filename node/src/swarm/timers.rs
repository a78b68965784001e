//! The sweep, every five seconds: choking rounds, timeouts, keep-alives, downloads that have nobody.

// There are at most `u16::MAX` slots.
#![allow(clippy::cast_possible_truncation)]

use core::time::Duration;

use crate::parts::Parts;
use crate::peer::{LinkState, Reason};
use crate::swarm::Swarm;
use crate::swarm::outbound::keep_alive_due;
use crate::upload::choking::refuses;
use crate::wake::Wake;

/// The time between two sweeps, while there are connections.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// How long making a connection may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a handshake may take, and the waking of the torrent that it names.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a peer may be silent: it should send a keep-alive every two minutes (BEP 3).
const IDLE_TIMEOUT: Duration = Duration::from_secs(190);

/// How long a peer may leave blocks unread that it requested.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

impl Swarm<'_> {
    /// Closes connections that are overdue, and lets the others have what time brings: keep-alives, new requests.
    pub(crate) fn sweep(&mut self, on: &mut Parts<'_>) {
        let mut any = false;
        for slot in 0..on.cx.peers.len() {
            if let Some(reason) = self.overdue(on, slot) {
                self.close(on, slot, reason);
            }
            if keep_alive_due(&on.cx.peers[slot], on.cx.now) {
                on.cx.peers[slot].link.outbox.keep_alive = true;
                on.cx.peers.make_ready(slot);
            }
            if on.cx.peers[slot].is_open() {
                on.download.sweep_pending(&mut on.cx, slot, PERIOD);
            }
            any |= on.cx.peers[slot].is_live();
        }
        on.discovery.find_for_the_lone(&on.cx);
        on.cx.wakes.add_if(Wake::TellPeers, any);
        on.cx.wakes.add_if(Wake::FillSlots, any);
        let limits = self.limits;
        on.upload.choking_round_if_due(&mut on.cx, &limits);
        self.next_sweep = any.then(|| on.cx.now + PERIOD);
    }

    /// Why a connection should end now.
    fn overdue(&self, on: &Parts<'_>, slot: usize) -> Option<Reason> {
        let conn = &on.cx.peers[slot];
        let owed = conn.upload.requests.len() > 0
            || conn.link.outbox.mid_message()
            || self.pex.to(on.cx.peers.id(slot)).is_some();
        match conn.link.state {
            LinkState::Dial | LinkState::Dialling
                if on.cx.now - conn.link.opened_at > DIAL_TIMEOUT =>
            {
                Some(Reason::Gone)
            }
            LinkState::Greeting if on.cx.now - conn.link.opened_at > HANDSHAKE_TIMEOUT => {
                Some(Reason::SlowHandshake)
            }
            LinkState::Wake | LinkState::Waking
                if on.cx.now - conn.link.opened_at > WAKE_TIMEOUT =>
            {
                Some(Reason::Asleep)
            }
            LinkState::Open if on.cx.now - conn.link.last_received_at > IDLE_TIMEOUT => {
                Some(Reason::Idle)
            }
            // A rate limit or a slow disk is our fault, not the peer's.
            LinkState::Open
                if owed
                    && on.cx.now - conn.link.last_sent_at > STALL_TIMEOUT
                    && (!on.cx.wakes.has(Wake::SendAtRate)
                        || refuses(on.cx.now, conn, STALL_TIMEOUT))
                    && conn.upload.awaits_verify.is_none() =>
            {
                Some(Reason::Stalled)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use everseed_core::geometry::{BLOCK, BlockRef};

    use super::*;
    use crate::api::Have;
    use crate::parts::small::{parts, peer, piece};
    use crate::swarm::tests::swarm;
    use crate::upload::request_queue::ReplyKind;

    #[test]
    fn how_long_each_state_may_last() {
        for (state, seconds, reason) in [
            (LinkState::Dial, 20, Reason::Gone),
            (LinkState::Dialling, 20, Reason::Gone),
            (LinkState::Greeting, 10, Reason::SlowHandshake),
            (LinkState::Wake, 20, Reason::Asleep),
            (LinkState::Waking, 20, Reason::Asleep),
            (LinkState::Open, 190, Reason::Idle),
        ] {
            for (more, expected) in [(0, state), (1, LinkState::Closing(reason))] {
                let (mut parts, id) = parts(Have::All);
                let slot = peer(&mut parts.cx, id, true);
                parts.cx.peers.set_state(slot, state);
                parts.cx.now = parts.cx.now + Duration::from_secs(seconds + more);
                swarm().sweep(&mut parts);
                assert_eq!(
                    parts.cx.peers[slot].link.state, expected,
                    "{seconds} + {more}"
                );
            }
        }
    }

    #[test]
    fn whoever_takes_nothing_of_what_it_requested_is_closed() {
        type Change = fn(&mut Parts<'_>, usize);
        let request = |parts: &mut Parts<'_>, slot: usize| {
            let block = BlockRef {
                index: 0,
                begin: 0,
                len: BLOCK,
            };
            let list = &mut parts.cx.peers[slot].upload.requests;
            parts.upload.queue.push(list, block, ReplyKind::Piece);
        };
        let cases: [(&str, bool, Change, bool); 5] = [
            ("nothing was requested", false, |_, _| (), false),
            ("it reads nothing", true, |_, _| (), true),
            (
                "the disk is slow",
                true,
                |parts, slot| parts.cx.peers[slot].upload.awaits_verify = Some(piece(0)),
                false,
            ),
            (
                "the upload limit is reached",
                true,
                |parts, _| parts.cx.wakes.add(Wake::SendAtRate),
                false,
            ),
            (
                "it is, and there was a block for this peer",
                true,
                |parts, slot| {
                    parts.cx.wakes.add(Wake::SendAtRate);
                    parts.cx.peers[slot].upload.offered_at = Some(parts.cx.now);
                },
                true,
            ),
        ];
        for (name, requested, change, closed) in cases {
            let (mut parts, id) = parts(Have::All);
            let slot = peer(&mut parts.cx, id, true);
            if requested {
                request(&mut parts, slot);
            }
            change(&mut parts, slot);
            for (seconds, closed) in [(60, false), (1, closed)] {
                parts.cx.now = parts.cx.now + Duration::from_secs(seconds);
                let reason = swarm().overdue(&parts, slot);
                assert_eq!(
                    reason,
                    closed.then_some(Reason::Stalled),
                    "{name}, {seconds} s"
                );
            }
        }
    }

    #[test]
    fn the_sweep_rests_without_connections() {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        swarm.sweep(&mut parts);
        assert_eq!(swarm.next_sweep, None);
        peer(&mut parts.cx, id, true);
        swarm.sweep(&mut parts);
        assert_eq!(swarm.next_sweep, Some(parts.cx.now + PERIOD));
        assert!(parts.cx.wakes.has(Wake::TellPeers) && parts.cx.wakes.has(Wake::FillSlots));
    }
}
