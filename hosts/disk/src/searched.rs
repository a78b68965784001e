//! When files that are missing are searched for: at once, and then ever more seldom as long as some are.

use std::time::{Duration, Instant};

/// The last search.
#[derive(Default, Debug)]
pub(crate) struct Searched {
    at: Option<Instant>,
    /// Until the next one.
    pause: Duration,
}

impl Searched {
    /// Whether it is time for one, if so it begins. Told each time whether some are missing.
    pub(crate) fn is_due(&mut self, missing: bool) -> bool {
        if !missing {
            *self = Searched::default();
            return false;
        }
        let due = self.at.is_none_or(|at| at.elapsed() >= self.pause);
        if due {
            self.at = Some(Instant::now());
            self.pause = (self.pause * 4).clamp(FIRST_PAUSE, LAST_PAUSE);
        }
        due
    }
}

/// From the first search on.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// What is missing for long may be missing for good, and a search wakes the disk.
const LAST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
