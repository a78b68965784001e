//! The budget: how many datagrams are sent, so that the connection table of a home router bears it.
//!
//! | what is sent | at most |
//! |---|---|
//! | queries | [`QUERIES_PER_S`] a second, [`QUERY_BURST`] at once after a pause |
//! | queries that nobody waits for | as above, but [`RESERVE`] of the burst and a quarter of the destinations are left to those that somebody waits for |
//! | distinct destinations (address and port) of queries in [`WINDOW`] | as many as there are lent slots, 200 |
//! | answers | [`REPLIES_PER_S`] a second, [`REPLY_BURST`] at once after a pause |
//!
//! A query beyond the budget waits; an answer beyond it is dropped.

use core::time::Duration;

use everseed_core::time::Instant;

use super::endpoint::Endpoint;

/// A lent slot for one destination of the last two minutes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    key: u32,
    /// When it was sent to last, in seconds; 0 is never.
    sent_s: u32,
}

impl Destination {
    /// Nobody.
    pub(crate) const EMPTY: Destination = Destination { key: 0, sent_s: 0 };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget<'m> {
    queries: Bucket,
    replies: Bucket,
    destinations: &'m mut [Destination],
}

/// How soon somebody wants the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// A person waits.
    Now,
    /// It has time.
    Later,
}

/// When it is worth trying again, as far as the budget decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(pub(crate) Option<Instant>);

impl Wait {
    pub(crate) fn until(&mut self, at: Instant) {
        self.0 = Some(self.0.map_or(at, |known| known.min(at)));
    }
}

impl<'m> Budget<'m> {
    pub(crate) fn new(destinations: &'m mut [Destination]) -> Budget<'m> {
        destinations.fill(Destination::EMPTY);
        Budget {
            queries: Bucket::new(QUERIES_PER_S, QUERY_BURST),
            replies: Bucket::new(REPLIES_PER_S, REPLY_BURST),
            destinations,
        }
    }

    /// Takes a query to `to` from the budget. If it has to wait, the error says until when at least.
    pub(crate) fn query(
        &mut self,
        now: Instant,
        to: Endpoint,
        urgency: Urgency,
    ) -> Result<(), Instant> {
        self.queries.ready(now, reserve(urgency))?;
        let slot = self.destination(now, to, urgency)?;
        self.destinations[slot] = Destination {
            key: to.key(),
            sent_s: seconds(now),
        };
        self.queries.take(now);
        Ok(())
    }

    /// Whether a query may be sent, to any destination; the error says until when it has to wait.
    pub(crate) fn ready(&self, now: Instant, urgency: Urgency) -> Result<(), Instant> {
        self.queries.ready(now, reserve(urgency))
    }

    /// Takes an answer from the budget; if it may not be sent, it is dropped.
    pub(crate) fn reply(&mut self, now: Instant) -> bool {
        let may = self.replies.ready(now, 0).is_ok();
        if may {
            self.replies.take(now);
        }
        may
    }

    /// Whether a query went to `to` in the last two minutes, so that routers let it answer.
    pub(crate) fn sent_lately(&self, now: Instant, to: Endpoint) -> bool {
        let key = to.key();
        let sent = |d: &Destination| d.key == key && is_recent(now, d);
        self.destinations.iter().any(sent)
    }

    /// The slot for a destination: its own, or one that is not counted any more.
    fn destination(&self, now: Instant, to: Endpoint, urgency: Urgency) -> Result<usize, Instant> {
        let key = to.key();
        let recent = |d: &&Destination| is_recent(now, d);
        let known = |d: &Destination| d.key == key && is_recent(now, d);
        if let Some(slot) = self.destinations.iter().position(known) {
            return Ok(slot);
        }
        let most = match urgency {
            Urgency::Now => self.destinations.len(),
            Urgency::Later => self.destinations.len() / 4 * 3,
        };
        let free = self.destinations.iter().position(|d| !is_recent(now, d));
        match free {
            Some(slot) if self.destinations.iter().filter(recent).count() < most => Ok(slot),
            _ => {
                let oldest = self.destinations.iter().filter(recent);
                let oldest = oldest.map(|d| d.sent_s).min().unwrap_or(0);
                let free_at = Instant::from_secs(u64::from(oldest)) + WINDOW;
                Err(free_at.max(now + SHORTEST_WAIT))
            }
        }
    }
}

fn is_recent(now: Instant, destination: &Destination) -> bool {
    let age = u64::from(seconds(now).saturating_sub(destination.sent_s));
    destination.sent_s > 0 && age <= WINDOW.as_secs()
}

/// Whole seconds, from 1 on, so that 0 is never.
fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000)
        .unwrap_or(u32::MAX)
        .max(1)
}

const fn reserve(urgency: Urgency) -> u32 {
    match urgency {
        Urgency::Now => 0,
        Urgency::Later => RESERVE,
    }
}

/// So many a second, and some more at once after a pause.
///
/// `spent_until` is when all that was taken will have been refilled, so `(spent_until - now) / every` were taken.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    every: Duration,
    burst: u32,
    spent_until: Instant,
}

impl Bucket {
    const fn new(per_s: u32, burst: u32) -> Bucket {
        Bucket {
            every: Duration::from_micros(1_000_000 / per_s as u64),
            burst,
            spent_until: Instant::ZERO,
        }
    }

    /// Whether one may be taken and `reserve` others left; if not, when.
    fn ready(&self, now: Instant, reserve: u32) -> Result<(), Instant> {
        let may_be_spent = self.every * (self.burst - 1 - reserve);
        match self.spent_until - now > may_be_spent {
            true => Err(now + (self.spent_until - now - may_be_spent)),
            false => Ok(()),
        }
    }

    fn take(&mut self, now: Instant) {
        self.spent_until = self.spent_until.max(now) + self.every;
    }
}

/// Queries a second.
pub(crate) const QUERIES_PER_S: u32 = 5;

/// Queries at once after a pause.
pub(crate) const QUERY_BURST: u32 = 20;

/// Of the burst, what queries that nobody waits for leave over.
pub(crate) const RESERVE: u32 = 8;

/// Destinations are counted over this time.
pub(crate) const WINDOW: Duration = Duration::from_secs(120);

/// Answers a second.
pub(crate) const REPLIES_PER_S: u32 = 20;

/// Answers at once after a pause.
pub(crate) const REPLY_BURST: u32 = 40;

/// A full table of destinations is looked at again after this time at the earliest.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, SocketAddr};

    fn at(n: u32) -> Endpoint {
        SocketAddr::from((Ipv4Addr::from(0x0800_0000 + n), 6881)).into()
    }

    /// Queries that go out within a time, if there is always one more.
    fn sent(budget: &mut Budget<'_>, from: Instant, secs: u64, urgency: Urgency, to: u32) -> u32 {
        let (mut now, mut sent) = (from, 0);
        while now - from < Duration::from_secs(secs) {
            match budget.query(now, at(sent % to), urgency) {
                Ok(()) => sent += 1,
                Err(next) => now = next,
            }
        }
        sent
    }

    #[test]
    fn rates_and_bursts() {
        for (urgency, secs, expected) in [
            (Urgency::Now, 1, 24),
            (Urgency::Now, 60, 319),
            (Urgency::Later, 1, 16),
            (Urgency::Later, 60, 311),
        ] {
            let mut room = [Destination::EMPTY; 200];
            let mut budget = Budget::new(&mut room);
            let start = Instant::from_secs(9);
            assert_eq!(
                sent(&mut budget, start, secs, urgency, 10),
                expected,
                "{urgency:?} {secs}"
            );
        }
    }

    #[test]
    fn destinations() {
        let mut room = [Destination::EMPTY; 200];
        let mut budget = Budget::new(&mut room);
        let start = Instant::ZERO;
        // Two minutes would do for 620 queries, but not to as many destinations.
        assert_eq!(sent(&mut budget, start, 119, Urgency::Later, 10_000), 150);
        let now = start + Duration::from_secs(119);
        assert!(budget.query(now, at(149), Urgency::Later).is_ok(), "known");
        assert!(budget.query(now, at(999), Urgency::Later).is_err());
        assert!(budget.query(now, at(999), Urgency::Now).is_ok(), "reserved");
        assert!(budget.sent_lately(now, at(999)) && !budget.sent_lately(now, at(998)));
        let later = now + Duration::from_secs(121);
        assert!(!budget.sent_lately(later, at(999)));
        assert!(budget.query(later, at(998), Urgency::Later).is_ok());
    }

    #[test]
    fn never_above_the_limits_in_any_window() {
        let mut rng = everseed_core::rng::Rng::new(4);
        let mut room = [Destination::EMPTY; 200];
        let mut budget = Budget::new(&mut room);
        extern crate std;
        let mut log = std::vec::Vec::new();
        let mut now = Instant::from_secs(1);
        for _ in 0..5000 {
            now = now + Duration::from_micros(rng.below(400_000).into());
            let urgency = if rng.below(2) == 0 {
                Urgency::Now
            } else {
                Urgency::Later
            };
            let to = rng.below(600);
            if budget.query(now, at(to), urgency).is_ok() {
                log.push((now, to));
            }
        }
        for (n, &(start, _)) in log.iter().enumerate() {
            let within = |secs| {
                let end = start + Duration::from_secs(secs);
                log[n..].iter().take_while(move |(at, _)| *at < end)
            };
            assert!(within(1).count() <= 25 && within(60).count() <= 320);
            let distinct: std::collections::BTreeSet<_> = within(119).map(|(_, to)| to).collect();
            assert!(distinct.len() <= 200, "{}", distinct.len());
        }
    }

    #[test]
    fn answers() {
        let mut budget = Budget::new(&mut []);
        let now = Instant::from_secs(5);
        let sent = (0..100).filter(|_| budget.reply(now)).count();
        assert_eq!(sent, 40);
        let later = now + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| budget.reply(later)).count(), 10);
    }
}
