//! Addresses of peers that could be dialled, for all torrents in one table.
//!
//! When the table is full, a new address takes the place of the one that failed most often; if none
//! has failed yet, the new one is dropped: trackers will name it again.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;

/// A lent slot for one address.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    entry: Option<(TorrentId, SocketAddr)>,
    retry_at: Instant,
    failures: u8,
    in_use: bool,
}

impl Candidate {
    /// An unused slot.
    pub const EMPTY: Candidate = Candidate {
        entry: None,
        retry_at: Instant::ZERO,
        failures: 0,
        in_use: false,
    };
}

/// How a connection to a candidate went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It could not be reached or hung up before its handshake: later, up to [`MAX_FAILURES`] times.
    Failed,
    /// It was a good connection: again after [`AGAIN`].
    Ended,
    /// It is ourselves, a seed as we are, or not worth another call.
    Useless,
}

/// All candidates.
///
/// Invariant: `next` is the earliest `retry_at` of those that are not in use.
#[derive(Debug)]
pub(crate) struct Candidates<'m> {
    slots: &'m mut [Candidate],
    next: Option<Instant>,
}

impl<'m> Candidates<'m> {
    pub(crate) fn new(slots: &'m mut [Candidate]) -> Candidates<'m> {
        let len = slots.len().min(usize::from(u16::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(Candidate::EMPTY);
        Candidates { slots, next: None }
    }

    /// Notes that `addr` may have peers of `torrent`.
    pub(crate) fn add(&mut self, now: Instant, torrent: TorrentId, addr: SocketAddr) {
        let ip = addr.ip();
        let v4_mapped_nonsense = ip.is_unspecified() || ip.is_multicast();
        if addr.port() == 0 || v4_mapped_nonsense {
            return;
        }
        if self.slots.iter().any(|c| c.entry == Some((torrent, addr))) {
            return;
        }
        let rank = |c: &&mut Candidate| match c.entry {
            None => u8::MAX,
            Some(_) if c.in_use => 0,
            Some(_) => c.failures,
        };
        let Some(slot) = self.slots.iter_mut().max_by_key(rank) else {
            return;
        };
        if slot.entry.is_none() || (slot.failures > 0 && !slot.in_use) {
            *slot = Candidate {
                entry: Some((torrent, addr)),
                retry_at: now,
                ..Candidate::EMPTY
            };
        }
        self.settle();
    }

    /// Takes a candidate that is due; [`done`](Self::done) gives it back.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(u16, TorrentId, SocketAddr)> {
        let due = |c: &Candidate| c.entry.is_some() && !c.in_use && c.retry_at <= now;
        let slot = self.slots.iter().position(due)?;
        let candidate = &mut self.slots[slot];
        candidate.in_use = true;
        let (torrent, addr) = candidate.entry?;
        self.settle();
        #[allow(clippy::cast_possible_truncation)] // At most `u16::MAX` slots.
        Some((slot as u16, torrent, addr))
    }

    /// Gives a candidate back.
    pub(crate) fn done(&mut self, now: Instant, slot: u16, fate: Fate) {
        let Some(candidate) = self.slots.get_mut(usize::from(slot)) else {
            return;
        };
        candidate.in_use = false;
        match fate {
            Fate::Failed if candidate.failures + 1 < MAX_FAILURES => {
                candidate.failures += 1;
                candidate.retry_at = now + BACK_OFF * (1 << candidate.failures);
            }
            Fate::Ended => {
                candidate.failures = candidate.failures.saturating_sub(1);
                candidate.retry_at = now + AGAIN;
            }
            Fate::Failed | Fate::Useless => *candidate = Candidate::EMPTY,
        }
        self.settle();
    }

    /// Forgets the candidates of a torrent.
    pub(crate) fn forget(&mut self, torrent: TorrentId) {
        for candidate in self.slots.iter_mut() {
            if candidate.entry.is_some_and(|(owner, _)| owner == torrent) {
                *candidate = Candidate::EMPTY;
            }
        }
        self.settle();
    }

    /// When the next candidate is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn settle(&mut self) {
        let idle = self.slots.iter().filter(|c| c.entry.is_some() && !c.in_use);
        self.next = idle.map(|c| c.retry_at).min();
    }
}

/// After so many failures an address is forgotten.
const MAX_FAILURES: u8 = 5;

/// The wait after the first failure is twice this, then it doubles.
const BACK_OFF: Duration = Duration::from_secs(30);

/// The wait before a peer whose connection ended is called again.
const AGAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};

    const T: TorrentId = TorrentId {
        slot: 0,
        tenancy: 0,
    };

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
    }

    #[test]
    fn retries_later_and_gives_up() {
        let mut slots = [Candidate::EMPTY; 2];
        let mut candidates = Candidates::new(&mut slots);
        let mut now = Instant::from_secs(1);
        candidates.add(now, T, addr(1));
        candidates.add(now, T, addr(1));
        let mut calls = 0;
        while let Some(due) = candidates.deadline() {
            now = due;
            let (slot, _, to) = candidates.take(now).unwrap();
            assert_eq!(to, addr(1));
            assert_eq!(candidates.take(now), None);
            candidates.done(now, slot, Fate::Failed);
            calls += 1;
        }
        assert_eq!(calls, MAX_FAILURES);
        assert!(now > Instant::from_secs(600));
    }

    #[test]
    fn a_full_table_prefers_the_unknown_to_the_failed() {
        let mut slots = [Candidate::EMPTY; 2];
        let mut candidates = Candidates::new(&mut slots);
        let now = Instant::from_secs(1);
        candidates.add(now, T, addr(1));
        candidates.add(now, T, addr(2));
        candidates.add(now, T, addr(3));
        let (slot, _, first) = candidates.take(now).unwrap();
        candidates.done(now, slot, Fate::Failed);
        candidates.add(now, T, addr(4));
        let mut seen = heapless::Vec::<SocketAddr, 4>::new();
        while let Some((_, _, to)) = candidates.take(now) {
            seen.push(to).unwrap();
        }
        assert!(!seen.contains(&first) && seen.contains(&addr(4)) && seen.len() == 2);
        candidates.add(now, T, addr(5));
        candidates.forget(T);
        assert_eq!(candidates.deadline(), None);
    }

    #[test]
    fn impossible_addresses_are_not_kept() {
        let mut slots = [Candidate::EMPTY; 2];
        let mut candidates = Candidates::new(&mut slots);
        candidates.add(Instant::ZERO, T, addr(0));
        candidates.add(Instant::ZERO, T, SocketAddr::from(([0, 0, 0, 0], 6881)));
        candidates.add(Instant::ZERO, T, SocketAddr::from(([224, 0, 0, 1], 6881)));
        assert_eq!(candidates.deadline(), None);
    }
}
