//! The announcer decides when which tracker is told what (BEP 3, BEP 12, BEP 31).
//!
//! A slot is one tier of one torrent. The announcer knows no URLs: a [`Job`] names torrent, tier and tracker. The
//! host reads the URL from the torrent file, speaks HTTP or UDP, and tells how it went. A tracker of both address
//! families is still one tracker: the host tells it by both, and one answer is enough.
//!
//! The rules:
//!
//! - Every tier is announced to, as clients that seed for a long time do; a swarm that is split over
//!   its tiers is served whole.
//! - Within a tier one tracker is used. The first is chosen by chance; when it fails the next one
//!   follows at once, and the one that answers stays the first from then on. Compared with BEP 12,
//!   this turns the list instead of reordering it.
//! - When a whole tier has failed it is left alone for 15 seconds, then twice as long each time, up to half an hour.
//!   The tracker that failed last may ask for a longer wait (BEP 31), up to a day. It is never given up.
//! - A tracker is told `started` first, and `stopped` only if it has answered before. `completed` is told once, to the
//!   tracker that is used then.
//! - A download that has nobody is announced before the tracker's interval is over: after the least interval that the
//!   tracker takes, which is a minute if it names none, then after twice that, and so on. That begins anew only when a
//!   whole interval has ended and somebody is there, so a peer that comes and goes changes nothing.
//! - When the node stops, trackers of sleeping torrents are told nothing and forget them in time. So ten thousand
//!   torrents take no longer to stop than those that are awake.
//! - All waits vary by a tenth, so that torrents added together drift apart, and the first
//!   announces leave [`PACE`] apart.
//!
//! Invariant: a free slot is in no job; at most [`MAX_IN_FLIGHT`] regular jobs and as many `stopped`
//! ones are under way, so that dead trackers do not delay a farewell.

use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::{AnnounceEvent, Intervals};
use serde::{Deserialize, Serialize};

/// A lent slot for one tier of one torrent.
#[derive(Clone, Copy, Debug)]
pub struct TierSlot {
    torrent: Option<TorrentId>,
    /// How many jobs the slot has given out: the tenancy of the current one.
    job: u16,
    tier: u8,
    trackers: u8,
    /// The tracker that is used, `current < trackers`.
    current: u8,
    /// The tracker that answered last, and so may know us.
    known: Option<u8>,
    /// Trackers of this tier that failed in this round, `tried < trackers`.
    tried: u8,
    /// Rounds that failed, one after the other.
    rounds: u8,
    /// Whether `completed` is still to be told.
    completed: bool,
    /// Whether this ends with `stopped`.
    leaving: bool,
    in_flight: Option<AnnounceEvent>,
    next_at: Instant,
    early: Early,
    /// Announces before the end of an interval, one after another.
    early_count: u8,
}

/// Whether a download that has nobody may be announced before the tracker's interval is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Early {
    /// It may not.
    No,
    /// It is from `next_at` on, which is so many minutes before the interval ends.
    Before(u16),
    /// It could have been, and had somebody.
    Passed,
    /// It is due at `next_at`, whoever is there then, and that ends no interval.
    Due,
}

impl TierSlot {
    /// An unused slot.
    pub const EMPTY: TierSlot = TierSlot {
        torrent: None,
        job: 0,
        tier: 0,
        trackers: 0,
        current: 0,
        known: None,
        tried: 0,
        rounds: 0,
        completed: false,
        leaving: false,
        in_flight: None,
        next_at: Instant::ZERO,
        early: Early::No,
        early_count: 0,
    };
}

const _: () = assert!(size_of::<TierSlot>() <= 32);

/// A job's slot and the tenancy that it was given for; a stale id matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct AnnounceId {
    /// Index of the slot.
    pub slot: u16,
    /// How many jobs the slot had given out before.
    pub tenancy: u16,
}

/// An announce to be made. The host answers each by [`Announcer::answered`] or [`Announcer::failed`], and sets the time
/// limit itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What the answer is to be given for.
    pub id: AnnounceId,
    /// The torrent. With `stopped` it may be one that the node has removed.
    pub torrent: TorrentId,
    /// Index of the tier in the torrent's announce list.
    pub tier: u8,
    /// Index of the tracker in its tier.
    pub tracker: u8,
    /// What it is to be told.
    pub event: AnnounceEvent,
}

/// There is no free slot: the tier is not announced to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// All tiers of all torrents.
///
/// Drive it like the node: carry out what [`poll`](Self::poll) gives until it gives nothing more,
/// poll again at the [`deadline`](Self::deadline) and after each answer.
#[derive(Debug)]
pub struct Announcer<'m> {
    slots: &'m mut [TierSlot],
    used: usize,
    /// Regular jobs under way, and `stopped` ones.
    in_flight: [usize; 2],
    /// No regular job is given out before this.
    paced_until: Instant,
    /// No job is due before this; `None` while there is none to wait for.
    wake: Option<Instant>,
}

impl<'m> Announcer<'m> {
    /// An announcer of as many tiers as there are slots, at most 65,535.
    pub fn new(slots: &'m mut [TierSlot]) -> Announcer<'m> {
        let len = slots.len().min(usize::from(u16::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(TierSlot::EMPTY);
        Announcer {
            slots,
            used: 0,
            in_flight: [0; 2],
            paced_until: Instant::ZERO,
            wake: None,
        }
    }

    /// Announces to a tier of `trackers` trackers from now on. A tier without any needs no slot.
    pub fn add(
        &mut self,
        now: Instant,
        torrent: TorrentId,
        tier: u8,
        trackers: u8,
        rng: &mut Rng,
    ) -> Result<(), Full> {
        if trackers == 0 {
            return Ok(());
        }
        let free = |slot: &&mut TierSlot| slot.torrent.is_none();
        let slot = self.slots.iter_mut().find(free).ok_or(Full)?;
        *slot = TierSlot {
            torrent: Some(torrent),
            job: slot.job,
            tier,
            trackers,
            current: u8::try_from(rng.below(trackers.into())).unwrap_or(0),
            next_at: now,
            ..TierSlot::EMPTY
        };
        self.used += 1;
        self.wake_by(now);
        Ok(())
    }

    /// Tells a torrent's trackers that it was completed just now.
    pub fn completed(&mut self, now: Instant, torrent: TorrentId) {
        for slot in self.slots.iter_mut().filter(|s| s.is_of(torrent)) {
            slot.completed = true;
            // A tier that is failing hears of it when it answers again.
            if slot.known == Some(slot.current) && slot.tried == 0 && slot.rounds == 0 {
                slot.next_at = now;
            }
        }
        self.wake_by(now);
    }

    /// Tells all trackers anew, with `started`.
    pub fn renew(&mut self, now: Instant) {
        let regular = |s: &&mut TierSlot| s.torrent.is_some() && !s.leaving;
        for slot in self.slots.iter_mut().filter(regular) {
            (slot.known, slot.next_at) = (None, now);
            (slot.tried, slot.rounds) = (0, 0);
        }
        self.wake_by(now);
    }

    /// Announces a torrent no longer, but for `stopped`. Its trackers' URLs are wanted until
    /// [`holds`](Self::holds) says no.
    pub fn remove(&mut self, now: Instant, torrent: TorrentId) {
        for index in 0..self.slots.len() {
            if self.slots[index].is_of(torrent) {
                self.leave(now, index);
            }
        }
    }

    /// Announces a torrent no longer, not even `stopped`. A late answer concerns nobody.
    pub fn forget(&mut self, now: Instant, torrent: TorrentId) {
        for index in 0..self.slots.len() {
            if self.slots[index].is_of(torrent) {
                self.drop_slot(now, index);
            }
        }
    }

    /// Announces nothing any more, but for `stopped` where `told` says so of the torrent. What is under way for
    /// it is waited for, until [`is_idle`](Self::is_idle); the host may stop waiting when it likes.
    pub fn stop(&mut self, now: Instant, told: impl Fn(TorrentId) -> bool) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            match slot.torrent {
                Some(torrent) if slot.leaving || told(torrent) => self.leave(now, index),
                Some(_) => self.drop_slot(now, index),
                None => {}
            }
        }
    }

    /// Whether there is nothing to announce, now or later.
    pub fn is_idle(&self) -> bool {
        self.used == 0
    }

    /// Whether there may be another job for a torrent.
    pub fn holds(&self, torrent: TorrentId) -> bool {
        self.slots.iter().any(|slot| slot.is_of(torrent))
    }

    /// Whether a job waits for its answer.
    pub(crate) fn awaits(&self, id: AnnounceId) -> bool {
        let slot = self.slots.get(usize::from(id.slot));
        slot.is_some_and(|slot| slot.job == id.tenancy && slot.in_flight.is_some())
    }

    /// The next announce to make, the one first that is due the longest; `None` until the
    /// [`deadline`](Self::deadline) or an answer.
    pub fn poll(&mut self, now: Instant, has_nobody: impl Fn(TorrentId) -> bool) -> Option<Job> {
        if self.wake? > now {
            return None;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.next_at <= now) {
            if slot.torrent.is_some_and(&has_nobody) {
                continue;
            }
            if let Early::Before(minutes) = slot.early
                && slot.event() == AnnounceEvent::None
            {
                slot.next_at = slot.next_at + MINUTE * u32::from(minutes);
                slot.early = Early::Passed;
            }
        }
        let due = |slot: &TierSlot| self.due_at(slot);
        let all = self.slots.iter().enumerate();
        let next = all
            .filter_map(|(i, slot)| Some((due(slot)?, slot.next_at, i)))
            // Of those that wait for the pace only, the one that has waited the longest.
            .min_by_key(|&(at, since, _)| (at, since));
        self.wake = next.map(|(at, _, _)| at);
        let (_, _, index) = next.filter(|&(at, _, _)| at <= now)?;
        let slot = &mut self.slots[index];
        let torrent = slot.torrent?;
        let event = slot.event();
        let is_whole = matches!(slot.early, Early::No | Early::Passed);
        if is_whole && !has_nobody(torrent) {
            slot.early_count = 0;
        }
        slot.job = slot.job.wrapping_add(1);
        slot.in_flight = Some(event);
        slot.early = Early::No;
        let kind = kind(event);
        self.in_flight[kind] += 1;
        if kind == REGULAR {
            self.paced_until = now + PACE;
        }
        Some(Job {
            id: AnnounceId {
                slot: u16::try_from(index).ok()?,
                tenancy: slot.job,
            },
            torrent,
            tier: slot.tier,
            tracker: match event {
                AnnounceEvent::Stopped => slot.known.unwrap_or(slot.current),
                _ => slot.current,
            },
            event,
        })
    }

    /// A download has nobody any more: it is announced now, if that could have been done before.
    pub(crate) fn left_alone(&mut self, now: Instant, torrent: TorrentId) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_of(torrent)) {
            if slot.early == Early::Passed && slot.next_at > now {
                (slot.next_at, slot.early) = (now, Early::Due);
                self.wake = Some(self.wake.map_or(now, |wake| wake.min(now)));
            }
        }
    }

    /// Takes a tracker's answer to a job.
    /// `downloads` says whether a torrent is downloaded.
    pub fn answered(
        &mut self,
        now: Instant,
        id: AnnounceId,
        told: Intervals,
        downloads: impl Fn(TorrentId) -> bool,
        rng: &mut Rng,
    ) {
        let Some((index, event)) = self.land(now, id) else {
            return;
        };
        let slot = &mut self.slots[index];
        slot.known = Some(slot.current);
        (slot.tried, slot.rounds) = (0, 0);
        slot.completed &= event != AnnounceEvent::Completed;
        slot.next_at = if slot.completed {
            now
        } else {
            let wait = jittered(Duration::from_secs(told.interval_s().into()), rng);
            let least = Duration::from_secs(told.min_interval_s().into());
            let wait = wait.max(least);
            let early = least * (1 << slot.early_count.min(MAX_DOUBLINGS));
            let rest = wait.saturating_sub(early).as_secs() / MINUTE.as_secs();
            slot.early_count = slot.early_count.saturating_add(1);
            slot.early = match u16::try_from(rest) {
                Ok(rest @ 1..) if slot.torrent.is_some_and(downloads) => Early::Before(rest),
                _ => Early::No,
            };
            match slot.early {
                Early::Before(rest) => now + (wait - MINUTE * u32::from(rest)),
                _ => now + wait,
            }
        };
        self.settle(now, index, event);
    }

    /// Takes the failure of a job: silence, nonsense, or a refusal. `retry_in` is for how long the tracker does not
    /// want to be asked (BEP 31, or as HTTP says it); more than a day counts as a day.
    pub fn failed(
        &mut self,
        now: Instant,
        id: AnnounceId,
        retry_in: Option<Duration>,
        rng: &mut Rng,
    ) {
        let Some((index, event)) = self.land(now, id) else {
            return;
        };
        let slot = &mut self.slots[index];
        slot.early = Early::Due;
        slot.tried += 1;
        slot.current = (slot.current + 1) % slot.trackers;
        if slot.tried < slot.trackers {
            slot.next_at = now;
        } else {
            let doubled = BACK_OFF * (1 << slot.rounds.min(MAX_DOUBLINGS));
            let wait = jittered(doubled.min(MAX_BACK_OFF), rng);
            let asked = retry_in.map_or(Duration::ZERO, |wait| wait.min(MAX_RETRY_IN));
            slot.next_at = now + wait.max(asked);
            slot.tried = 0;
            slot.rounds = slot.rounds.saturating_add(1);
        }
        self.settle(now, index, event);
    }

    /// When to poll again; `None` while that depends on answers only.
    pub fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    /// When a slot's next job may be given out, as things stand.
    fn due_at(&self, slot: &TierSlot) -> Option<Instant> {
        slot.torrent?;
        let kind = if slot.leaving { STOPPED } else { REGULAR };
        if slot.in_flight.is_some() || self.in_flight[kind] >= MAX_IN_FLIGHT {
            return None;
        }
        match kind {
            STOPPED => Some(slot.next_at),
            _ => Some(slot.next_at.max(self.paced_until)),
        }
    }

    /// Ends a job: its slot, and what was told.
    fn land(&mut self, now: Instant, id: AnnounceId) -> Option<(usize, AnnounceEvent)> {
        let index = usize::from(id.slot);
        let slot = self.slots.get_mut(index).filter(|s| s.job == id.tenancy)?;
        let event = slot.in_flight.take()?;
        self.in_flight[kind(event)] -= 1;
        // Another one may have waited for the place.
        self.wake_by(now);
        Some((index, event))
    }

    /// After a job: lets a slot go that has said farewell.
    fn settle(&mut self, now: Instant, index: usize, event: AnnounceEvent) {
        if event == AnnounceEvent::Stopped {
            self.release(index);
        } else if self.slots[index].leaving {
            self.leave(now, index);
        }
    }

    fn leave(&mut self, now: Instant, index: usize) {
        let slot = &mut self.slots[index];
        slot.leaving = true;
        if slot.in_flight.is_some() {
            return;
        }
        if slot.known.is_none() {
            self.release(index);
            return;
        }
        slot.next_at = now;
        self.wake_by(now);
    }

    /// Lets a slot go, whatever it waits for.
    fn drop_slot(&mut self, now: Instant, index: usize) {
        if let Some(event) = self.slots[index].in_flight {
            self.in_flight[kind(event)] -= 1;
            // Another one may have waited for the place.
            self.wake_by(now);
        }
        self.release(index);
    }

    fn release(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        *slot = TierSlot {
            job: slot.job,
            ..TierSlot::EMPTY
        };
        self.used -= 1;
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

impl TierSlot {
    fn is_of(&self, torrent: TorrentId) -> bool {
        self.torrent == Some(torrent)
    }

    fn event(&self) -> AnnounceEvent {
        if self.leaving {
            AnnounceEvent::Stopped
        } else if self.known != Some(self.current) {
            AnnounceEvent::Started
        } else if self.completed {
            AnnounceEvent::Completed
        } else {
            AnnounceEvent::None
        }
    }
}

/// Jobs of each kind that are under way at a time.
pub const MAX_IN_FLIGHT: usize = 8;

/// The least time between two regular jobs: a hundred a second, so that starting with ten thousand
/// torrents is no attack on their tracker.
pub const PACE: Duration = Duration::from_millis(10);

/// The wait after the first failure of a whole tier.
const BACK_OFF: Duration = Duration::from_secs(15);

/// What is left of an interval is counted in minutes.
const MINUTE: Duration = Duration::from_secs(60);

/// Where its doubling ends.
const MAX_BACK_OFF: Duration = Duration::from_secs(1800);

/// Enough doublings to reach [`MAX_BACK_OFF`].
const MAX_DOUBLINGS: u8 = 7;

const _: () = assert!(BACK_OFF.as_secs() << MAX_DOUBLINGS >= MAX_BACK_OFF.as_secs());

/// How long a tracker may ask to be left alone.
const MAX_RETRY_IN: Duration = Duration::from_secs(86_400);

const REGULAR: usize = 0;
const STOPPED: usize = 1;

fn kind(event: AnnounceEvent) -> usize {
    match event {
        AnnounceEvent::Stopped => STOPPED,
        _ => REGULAR,
    }
}

/// Between nine and eleven tenths of `wait`.
fn jittered(wait: Duration, rng: &mut Rng) -> Duration {
    wait * (900 + rng.below(201)) / 1000
}

#[cfg(test)]
mod tests;
