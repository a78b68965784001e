//! The goal of a complete torrent: how long, or how much, it is seeded.
//!
//! A torrent with a goal may sleep. What it sent is known then, as it sends nothing; the time that it sleeps counts as
//! seeding time, within one run of the session, and is looked at once an hour.

use std::time::{Duration, Instant};

use crate::options::get::Fetch;

/// When seeding is enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Goal {
    no_seed: bool,
    /// An upload ratio, in thousandths.
    ratio: Option<u64>,
    pub(crate) time: Option<Duration>,
}

impl Goal {
    /// The goal of a download, if it has one.
    pub(crate) fn of(fetch: &Fetch) -> Option<Goal> {
        let goal = Goal {
            no_seed: fetch.no_seed,
            ratio: fetch.ratio,
            time: fetch.time,
        };
        (goal.no_seed || goal.ratio.is_some() || goal.time.is_some()).then_some(goal)
    }

    /// Whether it is reached by a complete torrent of `total` bytes that was `seeded` for this time and sent so many bytes.
    pub(crate) fn is_reached(&self, seeded: Duration, sent: impl Fn() -> u64, total: u64) -> bool {
        let enough = |ratio| u128::from(sent()) * 1000 >= u128::from(ratio) * u128::from(total);
        self.no_seed
            || self.time.is_some_and(|time| seeded >= time)
            || self.ratio.is_some_and(|ratio: u64| enough(ratio))
    }

    /// Whether the number of bytes sent matters.
    pub(crate) fn has_ratio(&self) -> bool {
        self.ratio.is_some()
    }
}

/// For how long a torrent that was woken was seeded, and its goal, if it has one.
#[derive(Debug)]
pub(super) struct Woken {
    pub(super) goal: Option<Goal>,
    /// Until it was woken, and as it was recorded last.
    before: Duration,
    recorded: Duration,
    since: Instant,
}

impl Woken {
    /// A torrent that was `seeded` for this time until now, when it is woken.
    pub(super) fn new(goal: Option<Goal>, seeded: Duration) -> Woken {
        Woken {
            goal,
            before: seeded,
            recorded: Duration::ZERO,
            since: Instant::now(),
        }
    }

    pub(super) fn seeded(&self) -> Duration {
        self.before + self.since.elapsed()
    }

    /// The seeding time that has to be recorded, because a goal asks for it.
    pub(super) fn unrecorded(&mut self) -> Option<Duration> {
        let seeded = self.seeded();
        self.goal.filter(|goal| goal.time.is_some())?;
        let news = seeded.as_secs() != self.recorded.as_secs();
        self.recorded = seeded;
        news.then_some(seeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_reached() {
        let goal = |no_seed, ratio, minutes: Option<u64>| {
            Goal::of(&Fetch {
                no_seed,
                ratio,
                time: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
                ..Fetch::default()
            })
        };
        assert_eq!(goal(false, None, None), None);
        // Seeded for two minutes, with a ratio of 1.5.
        for (goal, reached) in [
            (goal(true, None, None), true),
            (goal(false, Some(1500), None), true),
            (goal(false, Some(1501), None), false),
            (goal(false, None, Some(2)), true),
            (goal(false, None, Some(3)), false),
            (goal(false, Some(2000), Some(2)), true),
        ] {
            let goal = goal.unwrap();
            assert_eq!(
                goal.is_reached(Duration::from_secs(120), || 300, 200),
                reached,
                "{goal:?}"
            );
        }
    }
}
