//! The faults of a torrent's files: which were named, and when what failed is tried again. The first try comes after
//! a minute, the next ones after pauses that double.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

/// The faults of one torrent.
#[derive(Default)]
pub(super) struct Faults {
    /// Files that were named, by a hash of their path.
    named: Vec<u64>,
    /// Offsets of files that cannot be written.
    pub(super) unwritable: Vec<u64>,
    /// Number of failures since the last try.
    pub(super) failed: u32,
    /// The next try, and the pause before it.
    again: Option<(Instant, Duration)>,
}

/// Whether to name a file with a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    First,
    /// No: too many were named already.
    More,
    /// No: it was named, or the others were said not to be.
    Known,
}

impl Faults {
    /// Notes a failure.
    pub(super) fn note(&mut self, path: &Path, now: Instant) -> Naming {
        self.failed = self.failed.saturating_add(1);
        self.again.get_or_insert((now + FIRST, FIRST));
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let hash = hasher.finish();
        if self.named.contains(&hash) || self.named.len() > NAMED {
            return Naming::Known;
        }
        self.named.push(hash);
        match self.named.len() > NAMED {
            true => Naming::More,
            false => Naming::First,
        }
    }

    /// Has everything tried once within an hour, because something failed before this run.
    pub(super) fn presume(&mut self, now: Instant) {
        self.failed = 1;
        self.again = Some((now + HOUR, HOUR));
    }

    /// Whether the next try is due. If nothing failed since the last try, the faults are forgotten.
    pub(super) fn is_due(&mut self, now: Instant, longest: Duration) -> bool {
        let Some((_, pause)) = self.again.filter(|&(at, _)| at <= now) else {
            return false;
        };
        if self.failed == 0 {
            *self = Faults::default();
            return false;
        }
        let pause = (pause * 2).min(longest);
        (self.failed, self.again) = (0, Some((now + pause, pause)));
        true
    }
}

/// The most files that are named.
const NAMED: usize = 16;

/// The pause before the first try.
const FIRST: Duration = Duration::from_secs(60);

/// The longest pause in a download, and the longest one otherwise.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_named_once() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        for round in 0..3 {
            for file in 0..NAMED {
                let path = format!("file {file}");
                let naming = faults.note(Path::new(&path), now);
                let expected = [Naming::First, Naming::Known][usize::from(round > 0)];
                assert_eq!(naming, expected, "{path}");
            }
        }
        assert_eq!(faults.note(Path::new("another"), now), Naming::More);
        assert_eq!(faults.note(Path::new("and one"), now), Naming::Known);
    }

    #[test]
    fn tried_less_and_less_often_until_nothing_fails() {
        let (mut faults, mut now) = (Faults::default(), Instant::now());
        assert!(!faults.is_due(now, DAY) && faults.again.is_none());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            faults.note(Path::new("file"), now);
            let pause = Duration::from_secs(60 * minutes);
            assert!(!faults.is_due(now + pause - Duration::from_secs(1), HOUR));
            now += pause;
            assert!(faults.is_due(now, HOUR), "{minutes} minutes");
        }
        now += HOUR;
        assert!(!faults.is_due(now, HOUR) && faults.again.is_none());
    }
}
