//! The schedule of searches for missing files: one at once, then ever more seldom as long as files are missing.

use std::time::{Duration, Instant};

/// Time and pause of the last search.
#[derive(Default, Debug)]
pub(crate) struct Searched {
    at: Option<Instant>,
    /// Pause until the next search.
    pause: Duration,
}

impl Searched {
    /// Whether a search is due; if so, it counts as begun. `missing` tells at each call whether files are missing.
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

/// The pause after the first search.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause. Files missing for long may be missing for good, and a search wakes the disk.
const LAST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
