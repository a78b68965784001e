//! Candidates: addresses of peers that could be dialled, in one table for all torrents.
//!
//! How soon an address is called again depends on what is known of it:
//!
//! | it | after its connection ended, or could not be made | is forgotten |
//! |---|---|---|
//! | gave us content or took some, or has what we want | at once, then after 1, 2, 4 .. 60 s | after 64 calls in vain (about an hour); 5 if we seed |
//! | was named by the user | the same | never |
//! | is a stranger that was not reached | after 60, 120, 240, 480 s | after 5 calls in vain; 64 if few are known and we download |
//! | is a stranger with whom nothing was exchanged | the same | not on that account |
//! | is the same, and its call and ours crossed | after 2 s, then the same | not on that account |
//! | is a stranger, and there is nobody else to ask | after 1, 2, 4 .. 60 s | as if it had been good |
//! | said what makes no sense | as if it could not be reached | at once if others can be asked and no user named it |
//!
//! There is nobody else to ask if no peer that is connected has what we want, and not more than `FEW` addresses are
//! known. Then others that failed before do not wait longer than a minute either. Somebody who serves us meanwhile
//! erases none of them: when that peer leaves, they are all there is.
//! A connection that lasted for ten seconds, or brought 256 KiB, begins the waits anew. Whoever names an address again
//! has it called once, but not within 15 s of the end of its last call. Of strangers whose time has come within the
//! same minute, the one that has the highest canonical priority (BEP 40) is called first.
//!
//! Every address has a [`PeerSource`], and every source a share of the table. While there is room, a source may have
//! more than its share. A single peer that names others never has more than a quarter of the table. When the table is
//! full, a new address takes the place of one that is not in use:
//!
//! 1. of a stranger that failed or is banned, the one that failed most often, then of another that did;
//! 2. of one from a source that has more than its share, the one of the lowest canonical priority;
//! 3. of one from its own source, if it has a higher canonical priority.
//!
//! A source that has its share already takes places of its own only, and who has its quarter takes those that it named
//! itself. If there is none, the new address is dropped: it will be named again. Those that the user named keep their
//! place, and those that gave or took content keep it until they fail.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::priority::priority;
use everseed_core::time::Instant;
use serde::{Deserialize, Serialize};

use crate::broken::broken;
use crate::memory::lazy_table::LazyTable;

/// The source of a peer's address. If there are several, the first in this order counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PeerSource {
    /// The user named it.
    User,
    /// A tracker of the torrent named it, ours included.
    Tracker,
    /// It called us, and gave us something.
    Caller,
    /// The DHT did (BEP 5).
    Dht,
    /// It said so itself in our network (BEP 14).
    Lsd,
    /// A connected peer named it (BEP 11).
    Pex,
    /// A magnet link did (`x.pe`, BEP 9).
    Magnet,
}

impl PeerSource {
    const COUNT: usize = PeerSource::Magnet as usize + 1;

    /// The part of `places` that its addresses keep when there are more.
    fn share(self, places: usize) -> usize {
        let share = match self {
            PeerSource::User => places,
            PeerSource::Tracker => places / 2,
            PeerSource::Caller | PeerSource::Dht | PeerSource::Pex => places / 4,
            PeerSource::Lsd | PeerSource::Magnet => places / 8,
        };
        share.max(1)
    }

    fn standing(self) -> Standing {
        match self {
            PeerSource::User => Standing::Named,
            PeerSource::Caller => Standing::Good,
            _ => Standing::Stranger,
        }
    }
}

/// An address that somebody named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    pub(crate) torrent: TorrentId,
    pub(crate) addr: SocketAddr,
    pub(crate) source: PeerSource,
    /// The peer or machine that named it, see [`origin`](crate::peer::origin), if that has to be held to its quarter.
    pub(crate) by: Option<u64>,
}

/// A lent slot for one address.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    entry: Option<(TorrentId, SocketAddr)>,
    retry_at: Instant,
    /// When its last connection ended, or could not be made.
    ended_at: Option<Instant>,
    /// Its canonical priority, as far as our own address is known.
    priority: u32,
    /// Who named it, see [`Named::by`]: as much of that as tells a few of them apart.
    by: Option<u32>,
    source: PeerSource,
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
        priority: 0,
        by: None,
        source: PeerSource::Tracker,
        failures: 0,
        standing: Standing::Stranger,
        in_use: false,
    };
}

/// The standing of an address.
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
    /// The same, but it called us at the same time and hung up on both calls, as clients do not agree on which one stays.
    Crossed,
    /// It was a good connection, and whether it lasted for [`STEADY`] or brought much.
    Good { steady: bool },
    /// It cannot be called now, through no fault of its own.
    Later,
    /// It has only pieces that are left out of our download: it is called when they are wanted again.
    Rests,
    /// It is banned, and was not called. It is not forgotten for that, as it may be the only one when the ban ends.
    Banned,
    /// What it said makes no sense. It is worth another call only if there is nobody else to ask, or the user named it.
    Stumbled,
    /// It is ourselves, a seed as we are, or not worth another call.
    Useless,
}

/// How a torrent needs those that can be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// We have all of it that is wanted.
    Seeds,
    /// Somebody is connected who has what we want.
    IsServed,
    /// Nobody is.
    HasNobody,
}

/// All candidates.
///
/// Invariant: `next` is the earliest `retry_at` of those that are not in use.
#[derive(Debug)]
pub(crate) struct Candidates<'m> {
    slots: LazyTable<'m, Candidate>,
    next: Option<Instant>,
    /// Where the world reaches us, by IPv4 and by IPv6, as far as that is known.
    ours: [SocketAddr; 2],
}

impl<'m> Candidates<'m> {
    pub(crate) fn new(slots: LazyTable<'m, Candidate>) -> Candidates<'m> {
        let unknown = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        Candidates {
            slots,
            next: None,
            ours: unknown.map(|ip| SocketAddr::new(ip, 0)),
        }
    }

    /// Says where the world reaches us, at an address of its family.
    pub(crate) fn set_ours(&mut self, addr: SocketAddr) {
        self.ours[usize::from(addr.is_ipv6())] = addr;
        for slot in 0..self.slots.len() {
            if let Some((_, addr)) = self.slots[slot].entry {
                self.slots[slot].priority = self.priority(addr);
            }
        }
    }

    /// The canonical priority of a peer (BEP 40): the greater one is preferred.
    pub(crate) fn priority(&self, addr: SocketAddr) -> u32 {
        let family = usize::from(addr.ip().to_canonical().is_ipv6());
        priority(self.ours[family], addr)
    }

    /// The same, if it is known where the world reaches us by the family of that address.
    pub(crate) fn priority_if_known(&self, addr: SocketAddr) -> Option<u32> {
        let family = usize::from(addr.ip().to_canonical().is_ipv6());
        (!self.ours[family].ip().is_unspecified()).then(|| self.priority(addr))
    }

    /// Whether the user named the address of this number.
    pub(crate) fn is_named(&self, slot: u16) -> bool {
        let candidate = self.slots.get(usize::from(slot));
        candidate.is_some_and(|candidate| candidate.standing == Standing::Named)
    }

    /// Notes that there may be a peer.
    pub(crate) fn add(&mut self, now: Instant, named: Named) {
        let Named {
            torrent,
            addr,
            source,
            ..
        } = named;
        let ip = addr.ip();
        if addr.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            return;
        }
        let entry = Some((torrent, addr));
        let known = self.slots.iter().position(|c| c.entry == entry);
        if let Some(known) = known {
            let known = &mut self.slots[known];
            known.standing = known.standing.max(source.standing());
            if source < known.source {
                (known.source, known.by) = (source, named.by.map(short));
            }
            let may = known.ended_at.map(|at| at + RENAMED_AFTER);
            known.retry_at = known.retry_at.min(may.map_or(now, |at| at.max(now)));
            return self.settle();
        }
        let priority = self.priority(addr);
        if let Some(slot) = self.place(&named, priority) {
            self.slots[slot] = Candidate {
                entry,
                retry_at: now,
                priority,
                by: named.by.map(short),
                source,
                standing: source.standing(),
                ..Candidate::EMPTY
            };
            self.settle();
        }
    }

    /// A place for a new one, see the module.
    fn place(&mut self, named: &Named, priority: u32) -> Option<usize> {
        let places = self.slots.capacity();
        let by = named.by.map(short);
        let of_the_same = |c: &&Candidate| c.entry.is_some() && c.by == by;
        let crowds =
            by.is_some() && self.slots.iter().filter(of_the_same).count() >= (places / 4).max(1);
        if !crowds {
            let empty = self.slots.iter().position(|c| c.entry.is_none());
            let empty = empty.or_else(|| self.slots.push(Candidate::EMPTY));
            if empty.is_some() {
                return empty;
            }
        }
        let mut count = [0; PeerSource::COUNT];
        for candidate in self.slots.iter().filter(|c| c.entry.is_some()) {
            count[candidate.source as usize] += 1;
        }
        let has_its_share = count[named.source as usize] >= named.source.share(places);
        let worth = |&slot: &usize| {
            let c = &self.slots[slot];
            let own = c.source == named.source;
            if c.in_use || c.standing == Standing::Named || (has_its_share && !own) {
                return None;
            }
            if crowds && c.by != by {
                return None;
            }
            let stranger = c.standing == Standing::Stranger;
            let rule = match (c.failures > 0, stranger) {
                (true, true) => Rule::Failed,
                (true, false) => Rule::FailedGood,
                // Only the user's word weighs more.
                (false, false) if named.source != PeerSource::User => return None,
                (false, _) if !own && count[c.source as usize] > c.source.share(places) => {
                    Rule::Excess
                }
                (false, _) if own && priority > c.priority => Rule::Lower,
                (false, _) if named.source == PeerSource::User => Rule::Lower,
                (false, _) => return None,
            };
            Some((rule, c.standing, u8::MAX - c.failures, c.priority))
        };
        let all = (0..self.slots.len()).filter_map(|slot| Some((worth(&slot)?, slot)));
        all.min().map(|(_, slot)| slot)
    }

    /// Takes a candidate that is due, those first that are more than strangers, then as the module says;
    /// [`done`](Self::done) gives it back.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(u16, TorrentId, SocketAddr)> {
        let due = |c: &Candidate| c.entry.is_some() && !c.in_use && c.retry_at <= now;
        let all = (0..self.slots.len()).filter(|&slot| due(&self.slots[slot]));
        let slot = all.min_by_key(|&slot| {
            let candidate = &self.slots[slot];
            match candidate.standing {
                Standing::Stranger => {
                    let minute = candidate.retry_at.as_micros() / MINUTE_US;
                    (true, minute, u32::MAX - candidate.priority)
                }
                _ => (false, candidate.retry_at.as_micros(), 0),
            }
        })?;
        let candidate = &mut self.slots[slot];
        candidate.in_use = true;
        let (torrent, addr) = candidate.entry?;
        self.settle();
        #[allow(clippy::cast_possible_truncation)] // A table has at most `u16::MAX` places.
        Some((slot as u16, torrent, addr))
    }

    /// Gives a candidate back.
    pub(crate) fn done(&mut self, now: Instant, slot: u16, fate: Fate, need: Need) {
        let Some(&Candidate {
            entry, standing, ..
        }) = self.slots.get(usize::from(slot))
        else {
            return broken("a candidate that was called");
        };
        let torrent = entry.map(|(torrent, _)| torrent);
        let few = need != Need::Seeds && torrent.is_some_and(|torrent| self.are_few(torrent));
        let is_last = few && need == Need::HasNobody;
        let candidate = &mut self.slots[usize::from(slot)];
        candidate.in_use = false;
        if fate == Fate::Later {
            candidate.retry_at = now + LATER;
            return self.settle();
        }
        if fate == Fate::Rests {
            candidate.retry_at = now + REST;
            return self.settle();
        }
        if fate == Fate::Banned {
            candidate.retry_at = now + LONGEST_RECALL;
            // Its place goes to others as if it had failed.
            candidate.failures = candidate.failures.max(1);
            return self.settle();
        }
        candidate.ended_at = Some(now);
        if let Fate::Good { .. } = fate {
            candidate.standing = standing.max(Standing::Good);
        }
        let is_stranger = candidate.standing == Standing::Stranger;
        let calls = match candidate.standing {
            Standing::Named => u8::MAX,
            Standing::Good if need != Need::Seeds => GOOD_CALLS,
            Standing::Stranger if few => GOOD_CALLS,
            _ => STRANGER_CALLS,
        };
        match fate {
            Fate::Good { steady: true } => candidate.failures = 0,
            Fate::Ended | Fate::Crossed if is_stranger => {
                candidate.failures = candidate.failures.min(calls - 2);
            }
            _ => {}
        }
        let waits_long = is_stranger && !is_last;
        let first_crossed = is_stranger && candidate.failures == 0 && fate == Fate::Crossed;
        let failures = match fate {
            Fate::Good { .. } => candidate.failures,
            _ if waits_long => candidate.failures,
            // At once is for those whose connection ended.
            _ => candidate.failures.max(1),
        };
        candidate.failures = failures.saturating_add(1).min(u8::MAX - 1);
        candidate.retry_at = now
            + match failures {
                _ if first_crossed => UNCROSSED,
                _ if waits_long => BACK_OFF * (1 << failures.min(3)),
                0 => Duration::ZERO,
                _ => LONGEST_RECALL.min(Duration::from_secs(1 << (failures - 1).min(6))),
            };
        let is_useless = match fate {
            Fate::Stumbled => !is_last && standing != Standing::Named,
            fate => fate == Fate::Useless,
        };
        if is_useless || candidate.failures >= calls {
            *candidate = Candidate::EMPTY;
        }
        if let Some(torrent) = torrent.filter(|_| is_last) {
            self.hasten(now, torrent);
        }
        self.settle();
    }

    /// No connected peer has a wanted piece of a torrent any more.
    pub(crate) fn left_alone(&mut self, now: Instant, torrent: TorrentId) {
        if self.are_few(torrent) {
            self.hasten(now, torrent);
            self.settle();
        }
    }

    /// Whether few addresses of a torrent are known.
    fn are_few(&self, torrent: TorrentId) -> bool {
        let its = |c: &&Candidate| c.entry.is_some_and(|(owner, _)| owner == torrent);
        self.slots.iter().filter(its).take(FEW + 1).count() <= FEW
    }

    /// The addresses of a torrent that failed do not wait longer than the good ones.
    fn hasten(&mut self, now: Instant, torrent: TorrentId) {
        let its = |c: &&mut Candidate| c.entry.is_some_and(|(owner, _)| owner == torrent);
        let failed = self.slots.iter_mut().filter(its).filter(|c| c.failures > 0);
        for candidate in failed {
            candidate.retry_at = candidate.retry_at.min(now + LONGEST_RECALL);
        }
    }

    /// Has the candidates of a torrent called at once.
    pub(crate) fn recall(&mut self, now: Instant, torrent: TorrentId) {
        let its = |c: &&mut Candidate| c.entry.is_some_and(|(owner, _)| owner == torrent);
        for candidate in self.slots.iter_mut().filter(its) {
            candidate.retry_at = candidate.retry_at.min(now);
        }
        self.settle();
    }

    /// Whether there are any of a torrent.
    pub(crate) fn any_of(&self, torrent: TorrentId) -> bool {
        let its = |c: &Candidate| c.entry.is_some_and(|(owner, _)| owner == torrent);
        self.slots.iter().any(its)
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

/// Why an address gives its place to a new one, the best reason first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rule {
    /// It is a stranger that failed.
    Failed,
    /// It is more than a stranger, and failed.
    FailedGood,
    /// Its source has more than its share.
    Excess,
    /// It has a lower canonical priority.
    Lower,
}

/// As much of an origin as tells a few of them apart.
#[allow(clippy::cast_possible_truncation)] // That is what it is for.
fn short(by: u64) -> u32 {
    (by.wrapping_mul(SPREAD) >> 32) as u32
}

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Strangers that are due within the same one are called in the order of their priority.
const MINUTE_US: u64 = 60_000_000;

/// After so many calls in vain an address is forgotten: a stranger's, or that of a peer that took from us
/// while we seed; and that of a peer that gave us some of what we download.
const STRANGER_CALLS: u8 = 5;
const GOOD_CALLS: u8 = 64;

/// So few addresses are called like good ones if there is nobody else to ask.
pub(crate) const FEW: usize = 4;

/// The wait after the first call of a stranger in vain, then it doubles.
const BACK_OFF: Duration = Duration::from_secs(60);

/// The wait before a stranger is called again whose call crossed ours.
const UNCROSSED: Duration = Duration::from_secs(2);

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
mod tests;
