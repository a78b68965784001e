//! Calls: our queries that were sent and not answered yet.
//!
//! A transaction id is 4 bytes: the slot and 16 random bits. An answer counts if it has the id and comes from the
//! address that was asked. After [`PATIENCE`] a query counts as failed and as in flight no more; an answer within
//! [`MEMORY`] is still taken. When all slots wait for an answer, no further query is sent.

use core::time::Duration;

use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use super::endpoint::Endpoint;

/// A lent slot for one query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    to: Endpoint,
    random: u16,
    state: CallState,
    purpose: Purpose,
    sent_at: Instant,
}

impl Call {
    /// An unused slot.
    pub(crate) const EMPTY: Call = Call {
        to: Endpoint::NONE,
        random: 0,
        state: CallState::Free,
        purpose: Purpose::Ping,
        sent_at: Instant::ZERO,
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CallState {
    Free,
    InFlight,
    /// It was given up.
    Late,
}

/// The purpose of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To see whether a node is there, and whom it knows.
    Ping,
    /// A step of a lookup.
    Step(LookupId),
    /// An announce at the end of one.
    Announce(LookupId),
}

/// A lookup's slot, and how many used the slot before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LookupId {
    pub(crate) slot: u8,
    pub(crate) tenancy: u8,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Calls<'m>(&'m mut [Call]);

impl<'m> Calls<'m> {
    pub(crate) fn new(slots: &'m mut [Call]) -> Calls<'m> {
        let len = slots.len().min(usize::from(u8::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(Call::EMPTY);
        Calls(slots)
    }

    /// Whether another query may be sent.
    pub(crate) fn may_begin(&self) -> bool {
        let in_flight = |c: &&Call| c.state == CallState::InFlight;
        let waiting = self.0.iter().filter(in_flight).count();
        waiting < IN_FLIGHT.min(self.0.len())
    }

    /// Notes a query; answers with its transaction id.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        to: Endpoint,
        purpose: Purpose,
        rng: &mut Rng,
    ) -> Option<[u8; 4]> {
        let usable = |c: &&Call| c.state != CallState::InFlight;
        let oldest = |&slot: &usize| (self.0[slot].state == CallState::Late, self.0[slot].sent_at);
        let slots = (0..self.0.len()).filter(|&slot| usable(&&self.0[slot]));
        let slot = slots.min_by_key(oldest)?;
        let [high, low, ..] = rng.bits32().to_be_bytes();
        self.0[slot] = Call {
            to,
            random: u16::from_be_bytes([high, low]),
            state: CallState::InFlight,
            purpose,
            sent_at: now,
        };
        Some([0, u8::try_from(slot).ok()?, high, low])
    }

    /// Whether an answer is one to a query of ours; it is forgotten then.
    pub(crate) fn answered(&mut self, transaction: &[u8], from: Endpoint) -> Option<Purpose> {
        let &[0, slot, high, low] = transaction else {
            return None;
        };
        let call = self.0.get_mut(usize::from(slot))?;
        let ours = call.state != CallState::Free
            && call.random == u16::from_be_bytes([high, low])
            && call.to == from;
        if !ours {
            return None;
        }
        call.state = CallState::Free;
        Some(call.purpose)
    }

    /// A query that has just become late, if there is one.
    pub(crate) fn give_up(&mut self, now: Instant) -> Option<(Endpoint, Purpose)> {
        let old = |c: &&mut Call| c.state == CallState::Late && now - c.sent_at >= MEMORY;
        self.0
            .iter_mut()
            .filter(old)
            .for_each(|c| c.state = CallState::Free);
        let late = |c: &&mut Call| c.state == CallState::InFlight && now - c.sent_at >= PATIENCE;
        let call = self.0.iter_mut().find(late)?;
        call.state = CallState::Late;
        Some((call.to, call.purpose))
    }

    /// Whether an answer is waited for that has this purpose.
    pub(crate) fn await_answer(&self, purpose: Purpose) -> bool {
        let waits = |c: &Call| c.state == CallState::InFlight && c.purpose == purpose;
        self.0.iter().any(waits)
    }

    /// When the next query becomes late.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.0.iter().filter(|c| c.state == CallState::InFlight);
        waiting.map(|c| c.sent_at + PATIENCE).min()
    }
}

/// Queries that wait for an answer at a time.
pub(crate) const IN_FLIGHT: usize = 8;

/// After this time a query counts as not answered.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

/// An answer that comes within this time is welcome.
pub(crate) const MEMORY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn at(last: u8) -> Endpoint {
        SocketAddr::from(([192, 0, 2, last], 6881)).into()
    }

    #[test]
    fn answers_are_known_by_id_and_address() {
        let mut slots = [Call::EMPTY; 4];
        let mut calls = Calls::new(&mut slots);
        let mut rng = Rng::new(1);
        let now = Instant::from_secs(1);
        let id = calls.begin(now, at(1), Purpose::Ping, &mut rng).unwrap();
        for (transaction, from) in [
            (&id[..], at(2)),
            (&id[..3], at(1)),
            (&[], at(1)),
            (&[id[0], id[1] + 1, id[2], id[3]], at(1)),
            (&[id[0], id[1], id[2] ^ 1, id[3]], at(1)),
            (&[1, id[1], id[2], id[3]], at(1)),
        ] {
            assert_eq!(calls.answered(transaction, from), None);
        }
        assert_eq!(calls.answered(&id, at(1)), Some(Purpose::Ping));
        assert_eq!(calls.answered(&id, at(1)), None);
    }

    #[test]
    fn late_answers_and_full_tables() {
        let mut slots = [Call::EMPTY; 12];
        let mut calls = Calls::new(&mut slots);
        let mut rng = Rng::new(1);
        let now = Instant::from_secs(1);
        let mut ids = std::vec::Vec::new();
        while calls.may_begin() {
            ids.push(calls.begin(now, at(1), Purpose::Ping, &mut rng).unwrap());
        }
        assert_eq!(ids.len(), IN_FLIGHT);
        assert_eq!(calls.deadline(), Some(now + PATIENCE));
        assert_eq!(calls.give_up(now + PATIENCE / 2), None);
        let late = now + PATIENCE;
        for _ in 0..IN_FLIGHT {
            assert_eq!(calls.give_up(late), Some((at(1), Purpose::Ping)));
        }
        assert_eq!((calls.give_up(late), calls.deadline()), (None, None));
        // Free slots are used before those of the late.
        while calls.may_begin() {
            calls.begin(late, at(2), Purpose::Ping, &mut rng).unwrap();
        }
        let known = ids
            .iter()
            .filter(|id| calls.answered(&id[..], at(1)).is_some());
        assert_eq!(known.count(), 4);
        let mut none = Calls::new(&mut []);
        assert!(!none.may_begin());
        assert_eq!(none.begin(now, at(1), Purpose::Ping, &mut rng), None);
    }

    extern crate std;
}
