//! What strangers can cause in the log has a rate and a count.
//!
//! Every place in the program that logs has a budget of its own: so many lines at once, then one now and then.
//! What is beyond it is counted, and the count is told with the next line, by [`tell`] if none comes. So it does
//! not have to be known of each line whether a stranger can cause it, in the engine as in libraries.
//!
//! | level | at once | then one every |
//! |---|---|---|
//! | error, warn | 100 | 60 s |
//! | info | 100 | 10 s |
//! | debug, trace | 500 | 1 s |

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{Level, Record};

/// What is known of the places that log, for the whole process as the log is.
static FLOODS: Mutex<Floods> = Mutex::new(Floods { places: Vec::new() });

/// Whether something was left out that was not told yet.
static LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// Whether a line is written; if so, how many like it were left out before it.
pub(super) fn admit(record: &Record<'_>, message: &str) -> Option<u64> {
    if record.target() == COUNT {
        return Some(0);
    }
    let place = (
        record.file_static().or(record.module_path_static()),
        record.line(),
    );
    let Ok(mut floods) = FLOODS.lock() else {
        return Some(0);
    };
    let admitted = floods.admit(Instant::now(), place, record.level(), message);
    if admitted.is_none() {
        LEFT_OUT.store(true, Ordering::Relaxed);
    }
    admitted
}

/// Tells how many lines were left out that no later line told of: those that are due, or all `at_the_end`.
pub(crate) fn tell(at_the_end: bool) {
    if !LEFT_OUT.load(Ordering::Relaxed) {
        return;
    }
    let Ok(mut floods) = FLOODS.lock() else {
        return;
    };
    let due = floods.due(Instant::now(), at_the_end);
    if floods.places.iter().all(|place| place.left_out == 0) {
        LEFT_OUT.store(false, Ordering::Relaxed);
    }
    // Logging takes the lock.
    drop(floods);
    for (level, count, example) in due {
        log::log!(target: COUNT, level, "{count} more lines like this one: {example}");
    }
}

/// A place in the program: file and line.
type CodeSite = (Option<&'static str>, Option<u32>);

struct Floods {
    /// One for each place and level that logged: as many as there are in the program, at most.
    places: Vec<Flood>,
}

struct Flood {
    place: CodeSite,
    level: Level,
    /// When all of its budget is free again.
    free_at: Instant,
    left_out: u64,
    /// The beginning of a line that was left out.
    example: String,
}

impl Floods {
    fn admit(&mut self, now: Instant, place: CodeSite, level: Level, message: &str) -> Option<u64> {
        let same = |flood: &Flood| flood.place == place && flood.level == level;
        let known = self.places.iter().position(same);
        let at = known.unwrap_or_else(|| {
            self.places.push(Flood {
                place,
                level,
                free_at: now,
                left_out: 0,
                example: String::new(),
            });
            self.places.len() - 1
        });
        let flood = &mut self.places[at];
        if flood.spend(now) {
            return Some(std::mem::take(&mut flood.left_out));
        }
        if flood.left_out == 0 {
            flood.example = message.chars().take(EXAMPLE).collect();
        }
        flood.left_out += 1;
        None
    }

    fn due(&mut self, now: Instant, all: bool) -> Vec<(Level, u64, String)> {
        let due = |flood: &mut &mut Flood| flood.left_out > 0 && (all || flood.spend(now));
        let told = |flood: &mut Flood| {
            let count = std::mem::take(&mut flood.left_out);
            (flood.level, count, std::mem::take(&mut flood.example))
        };
        self.places
            .iter_mut()
            .filter_map(|mut flood| due(&mut flood).then(|| told(flood)))
            .collect()
    }
}

impl Flood {
    /// Takes one line from the budget, if there is one.
    fn spend(&mut self, now: Instant) -> bool {
        let (at_once, every) = match self.level {
            Level::Error | Level::Warn => (100, Duration::from_secs(60)),
            Level::Info => (100, Duration::from_secs(10)),
            Level::Debug | Level::Trace => (500, Duration::from_secs(1)),
        };
        let from = self.free_at.max(now);
        let there = from - now <= every * (at_once - 1);
        if there {
            self.free_at = from + every;
        }
        there
    }
}

/// The target of lines that tell a count.
const COUNT: &str = "everseed::logging::flood";

/// Letters of a line that was left out that are kept.
const EXAMPLE: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut floods = Floods { places: Vec::new() };
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let one: CodeSite = (Some("one.rs"), Some(1));
        let mut log = |s, place, level| floods.admit(at(s), place, level, "text");
        let written = (0..2000)
            .filter(|_| log(0, one, Level::Warn) == Some(0))
            .count();
        assert_eq!(written, 100);
        let other: CodeSite = (Some("one.rs"), Some(2));
        assert_eq!(log(0, other, Level::Warn), Some(0), "a budget for each");
        assert_eq!(log(59, one, Level::Warn), None);
        assert_eq!(log(60, one, Level::Warn), Some(1901));
        assert_eq!(log(60, one, Level::Warn), None);
        assert_eq!(floods.due(at(61), false), []);
        let told = (Level::Warn, 1, "text".to_owned());
        assert_eq!(floods.due(at(120), false), [told]);
        assert_eq!(floods.due(at(1000), true), []);
        assert_eq!(floods.admit(at(1000), one, Level::Warn, ""), Some(0));
        assert_eq!(floods.places.len(), 2);
    }

    /// What a stranger can have written in a day from one place, at 150 bytes a line.
    #[test]
    fn a_day_of_it() {
        for (level, most) in [
            (Level::Warn, 250_000),
            (Level::Info, 1_500_000),
            (Level::Debug, 15_000_000),
        ] {
            let mut floods = Floods { places: Vec::new() };
            let start = Instant::now();
            let mut bytes = 0;
            for s in 0..86_400 {
                for _ in 0..3 {
                    let now = start + Duration::from_secs(s);
                    let written = floods.admit(now, (None, None), level, "text");
                    bytes += if written.is_some() { 150 } else { 0 };
                }
            }
            assert!(bytes < most, "{level}: {bytes}");
        }
    }
}
