//! Addresses of peers that could be dialled, for all torrents in one table.
//!
//! When the table is full, a new address takes the place of the one that failed most often; if none
//! has failed yet, the new one is dropped: trackers will name it again.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;

use crate::table::Table;

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
    pub(crate) const EMPTY: Candidate = Candidate {
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
    slots: Table<'m, Candidate>,
    next: Option<Instant>,
}

impl<'m> Candidates<'m> {
    pub(crate) fn new(slots: Table<'m, Candidate>) -> Candidates<'m> {
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
        if let Some(slot) = self.place() {
            self.slots[slot] = Candidate {
                entry: Some((torrent, addr)),
                retry_at: now,
                ..Candidate::EMPTY
            };
            self.settle();
        }
    }

    /// A place for a new one.
    fn place(&mut self) -> Option<usize> {
        let empty = self.slots.iter().position(|c| c.entry.is_none());
        let empty = empty.or_else(|| self.slots.push(Candidate::EMPTY));
        empty.or_else(|| {
            let failed = |slot: &usize| !self.slots[*slot].in_use && self.slots[*slot].failures > 0;
            let all = (0..self.slots.len()).filter(failed);
            all.max_by_key(|&slot| self.slots[slot].failures)
        })
    }

    /// Takes a candidate that is due; [`done`](Self::done) gives it back.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(u16, TorrentId, SocketAddr)> {
        let due = |c: &Candidate| c.entry.is_some() && !c.in_use && c.retry_at <= now;
        let slot = self.slots.iter().position(due)?;
        let candidate = &mut self.slots[slot];
        candidate.in_use = true;
        let (torrent, addr) = candidate.entry?;
        self.settle();
        #[allow(clippy::cast_possible_truncation)] // A table has at most `u16::MAX` places.
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

    extern crate std;
    use std::boxed::Box;

    const T: TorrentId = TorrentId {
        slot: 0,
        tenancy: 0,
    };

    fn two() -> Table<'static, Candidate> {
        let places = std::vec::Vec::from([None, None]);
        Table::new(Box::leak(Box::new_uninit_slice(2)), places.leak())
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
    }

    #[test]
    fn retries_later_and_gives_up() {
        let mut candidates = Candidates::new(two());
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
        let mut candidates = Candidates::new(two());
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
        let mut candidates = Candidates::new(two());
        candidates.add(Instant::ZERO, T, addr(0));
        candidates.add(Instant::ZERO, T, SocketAddr::from(([0, 0, 0, 0], 6881)));
        candidates.add(Instant::ZERO, T, SocketAddr::from(([224, 0, 0, 1], 6881)));
        assert_eq!(candidates.deadline(), None);
    }
}
