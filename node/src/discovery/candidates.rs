//! Addresses of peers that could be dialled, for all torrents in one table.
//!
//! How soon an address is called again depends on what is known of it:
//!
//! | it | after its connection ended, or could not be made | is forgotten |
//! |---|---|---|
//! | gave us content or took some, or has what we want | at once, then after 1, 2, 4 .. 60 s | after 64 calls in vain (about an hour); 5 if we seed |
//! | was named by the user | the same | never |
//! | is a stranger that was not reached | after 60, 120, 240, 480 s | after 5 calls in vain |
//! | is a stranger with whom nothing was exchanged | the same | not on that account |
//!
//! A connection that lasted for ten seconds begins the waits anew. Whoever names an address again has it
//! called once, but not within 15 s of the end of its last call.
//!
//! When the table is full, a new address takes the place of a stranger that failed, the one that did
//! most often, then of another that failed; if none has failed yet, the new one is dropped: trackers will
//! name it again. Those that the user named keep their place.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;

use crate::memory::lazy_table::LazyTable;

/// A lent slot for one address.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    entry: Option<(TorrentId, SocketAddr)>,
    retry_at: Instant,
    /// When its last connection ended, or could not be made.
    ended_at: Option<Instant>,
    /// Calls in vain, one after another.
    failures: u8,
    standing: Standing,
    /// It is called, or connected.
    in_use: bool,
}

impl Candidate {
    /// An unused slot.
    pub(crate) const EMPTY: Candidate = Candidate {
        entry: None,
        retry_at: Instant::ZERO,
        ended_at: None,
        failures: 0,
        standing: Standing::Stranger,
        in_use: false,
    };
}

/// What is known of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Standing {
    /// Somebody said that there is a peer.
    Stranger,
    /// It gave us content, took some, or has what we want.
    Good,
    /// The user named it.
    Named,
}

/// How a connection to a candidate went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It could not be reached or hung up before its handshake.
    Failed,
    /// There was a connection, over which nothing came or went that matters.
    Ended,
    /// It was a good connection, and whether it lasted for [`STEADY`].
    Good { steady: bool },
    /// It cannot be called now, through no fault of its own.
    Later,
    /// It has what is left out of our download for now: it is called when that is wanted again.
    Rests,
    /// It is ourselves, a seed as we are, or not worth another call.
    Useless,
}

/// All candidates.
///
/// Invariant: `next` is the earliest `retry_at` of those that are not in use.
#[derive(Debug)]
pub(crate) struct Candidates<'m> {
    slots: LazyTable<'m, Candidate>,
    next: Option<Instant>,
}

impl<'m> Candidates<'m> {
    pub(crate) fn new(slots: LazyTable<'m, Candidate>) -> Candidates<'m> {
        Candidates { slots, next: None }
    }

    /// Notes that `addr` may have peers of `torrent`.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        addr: SocketAddr,
        standing: Standing,
    ) {
        let ip = addr.ip();
        let v4_mapped_nonsense = ip.is_unspecified() || ip.is_multicast();
        if addr.port() == 0 || v4_mapped_nonsense {
            return;
        }
        let entry = Some((torrent, addr));
        let known = self.slots.iter().position(|c| c.entry == entry);
        if let Some(known) = known {
            let known = &mut self.slots[known];
            known.standing = known.standing.max(standing);
            let may = known.ended_at.map(|at| at + RENAMED_AFTER);
            known.retry_at = known.retry_at.min(may.map_or(now, |at| at.max(now)));
            return self.settle();
        }
        if let Some(slot) = self.place() {
            self.slots[slot] = Candidate {
                entry,
                retry_at: now,
                standing,
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
            let failed = |slot: &usize| {
                let slot = &self.slots[*slot];
                !slot.in_use && slot.failures > 0 && slot.standing != Standing::Named
            };
            let all = (0..self.slots.len()).filter(failed);
            let worst = |slot: &usize| {
                let slot = &self.slots[*slot];
                (slot.standing == Standing::Stranger, slot.failures)
            };
            all.max_by_key(worst)
        })
    }

    /// Takes a candidate that is due, those first that are more than strangers, then the one that is due
    /// for the longest; [`done`](Self::done) gives it back.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(u16, TorrentId, SocketAddr)> {
        let due = |c: &Candidate| c.entry.is_some() && !c.in_use && c.retry_at <= now;
        let all = (0..self.slots.len()).filter(|&slot| due(&self.slots[slot]));
        let slot = all.min_by_key(|&slot| {
            let candidate = &self.slots[slot];
            (candidate.standing == Standing::Stranger, candidate.retry_at)
        })?;
        let candidate = &mut self.slots[slot];
        candidate.in_use = true;
        let (torrent, addr) = candidate.entry?;
        self.settle();
        #[allow(clippy::cast_possible_truncation)] // A table has at most `u16::MAX` places.
        Some((slot as u16, torrent, addr))
    }

    /// Gives a candidate back. `seeds` is whether we have all that is wanted of its torrent.
    pub(crate) fn done(&mut self, now: Instant, slot: u16, fate: Fate, seeds: bool) {
        let Some(candidate) = self.slots.get_mut(usize::from(slot)) else {
            return;
        };
        candidate.in_use = false;
        if fate == Fate::Later {
            candidate.retry_at = now + LATER;
            return self.settle();
        }
        if fate == Fate::Rests {
            candidate.retry_at = now + REST;
            return self.settle();
        }
        candidate.ended_at = Some(now);
        match fate {
            Fate::Good { steady } => {
                candidate.standing = candidate.standing.max(Standing::Good);
                if steady {
                    candidate.failures = 0;
                }
            }
            Fate::Ended if candidate.standing == Standing::Stranger => {
                candidate.failures = candidate.failures.min(STRANGER_CALLS - 2);
            }
            _ => {}
        }
        let calls = match candidate.standing {
            Standing::Named => u8::MAX,
            Standing::Good if !seeds => GOOD_CALLS,
            _ => STRANGER_CALLS,
        };
        let failures = match (candidate.standing, fate) {
            (Standing::Stranger, _) | (_, Fate::Good { .. }) => candidate.failures,
            // At once is for those whose connection ended.
            _ => candidate.failures.max(1),
        };
        candidate.failures = failures.saturating_add(1).min(u8::MAX - 1);
        candidate.retry_at = now
            + match (candidate.standing, failures) {
                (Standing::Stranger, _) => BACK_OFF * (1 << failures.min(3)),
                (_, 0) => Duration::ZERO,
                _ => LONGEST_RECALL.min(Duration::from_secs(1 << (failures - 1).min(6))),
            };
        if fate == Fate::Useless || candidate.failures >= calls {
            *candidate = Candidate::EMPTY;
        }
        self.settle();
    }

    /// Has the candidates of a torrent called at once.
    pub(crate) fn recall(&mut self, now: Instant, torrent: TorrentId) {
        let its = |c: &&mut Candidate| c.entry.is_some_and(|(owner, _)| owner == torrent);
        for candidate in self.slots.iter_mut().filter(its) {
            candidate.retry_at = candidate.retry_at.min(now);
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

/// After so many calls in vain an address is forgotten: a stranger's, or that of a peer that took from us
/// while we seed; and that of a peer that gave us some of what we download.
const STRANGER_CALLS: u8 = 5;
const GOOD_CALLS: u8 = 64;

/// The wait after the first call of a stranger in vain, then it doubles.
const BACK_OFF: Duration = Duration::from_secs(60);

/// The longest wait before a peer that is more than a stranger is called again.
const LONGEST_RECALL: Duration = Duration::from_secs(60);

/// The wait before a peer is called whose torrent is not there now.
const LATER: Duration = Duration::from_secs(5);

/// The wait for a peer that we have no need of before something is wanted again.
const REST: Duration = Duration::from_secs(3600);

/// An address that is named again is not called within so long of the end of its last call.
const RENAMED_AFTER: Duration = Duration::from_secs(15);

/// A connection that lasted for so long was no accident.
pub(crate) const STEADY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};

    extern crate std;
    use std::boxed::Box;

    const STRANGER: Standing = Standing::Stranger;

    const T: TorrentId = TorrentId {
        slot: 0,
        tenancy: 0,
    };

    fn two() -> LazyTable<'static, Candidate> {
        let places = std::vec::Vec::from([None, None]);
        LazyTable::new(Box::leak(Box::new_uninit_slice(2)), places.leak())
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
    }

    #[test]
    fn retries_later_and_gives_up() {
        let mut candidates = Candidates::new(two());
        let mut now = Instant::from_secs(1);
        candidates.add(now, T, addr(1), STRANGER);
        candidates.add(now, T, addr(1), STRANGER);
        let mut calls = 0;
        while let Some(due) = candidates.deadline() {
            now = due;
            let (slot, _, to) = candidates.take(now).unwrap();
            assert_eq!(to, addr(1));
            assert_eq!(candidates.take(now), None);
            candidates.done(now, slot, Fate::Failed, false);
            calls += 1;
        }
        assert_eq!(calls, STRANGER_CALLS);
        assert!(now > Instant::from_secs(600));
    }

    #[test]
    fn a_full_table_prefers_the_unknown_to_the_failed() {
        let mut candidates = Candidates::new(two());
        let now = Instant::from_secs(1);
        candidates.add(now, T, addr(1), STRANGER);
        candidates.add(now, T, addr(2), STRANGER);
        candidates.add(now, T, addr(3), STRANGER);
        let (slot, _, first) = candidates.take(now).unwrap();
        candidates.done(now, slot, Fate::Failed, false);
        candidates.add(now, T, addr(4), STRANGER);
        let mut seen = heapless::Vec::<SocketAddr, 4>::new();
        while let Some((_, _, to)) = candidates.take(now) {
            seen.push(to).unwrap();
        }
        assert!(!seen.contains(&first) && seen.contains(&addr(4)) && seen.len() == 2);
        candidates.add(now, T, addr(5), STRANGER);
        candidates.forget(T);
        assert_eq!(candidates.deadline(), None);
    }

    #[test]
    fn impossible_addresses_are_not_kept() {
        let mut candidates = Candidates::new(two());
        candidates.add(Instant::ZERO, T, addr(0), STRANGER);
        candidates.add(
            Instant::ZERO,
            T,
            SocketAddr::from(([0, 0, 0, 0], 6881)),
            STRANGER,
        );
        candidates.add(
            Instant::ZERO,
            T,
            SocketAddr::from(([224, 0, 0, 1], 6881)),
            STRANGER,
        );
        assert_eq!(candidates.deadline(), None);
    }
}
