//! Limits on the log's lines, because strangers can cause some of them.
//!
//! Every place in the program that logs has a budget: many lines at once, then one now and then. Lines beyond the
//! budget are counted. The next line of that place gives the count, or [`tell`] if none comes. So no line needs to
//! know whether a stranger can cause it, neither in the engine nor in libraries.
//!
//! A lasting fault is not reported every ten seconds. The same warning or error of the same place, word for word,
//! comes once, then after a minute at the earliest, then after pauses that double up to a day. It counts as new if it
//! stayed away for twice the last pause. The number of repetitions is given with it, or by [`tell`]. This holds for
//! the whole program, so no place has to remember what it logged. Lines with the target [`EVENT`] are logged each
//! time.
//!
//! | level | at once | then one every |
//! |---|---|---|
//! | error, warn | 100 | 60 s |
//! | info | 100 | 10 s |
//! | debug, trace | 500 | 1 s |

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{Level, Record};

/// The budgets of all places that log. They belong to the process, as the log does.
static FLOODS: Mutex<Floods> = Mutex::new(Floods::new());

/// Whether left-out lines were not counted in the log yet.
static LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// Decides whether a line is written. If so, returns how many lines like it were left out before.
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
    let (now, level) = (Instant::now(), record.level());
    let admitted = match record.target() == EVENT || level > Level::Warn {
        true => floods.admit(now, place, level, message),
        false => floods.complain(now, place, level, message),
    };
    if admitted.is_none() {
        LEFT_OUT.store(true, Ordering::Relaxed);
    }
    admitted
}

/// Logs the counts of left-out lines that no later line gave: those that are due, or all of them `at_the_end`.
pub(crate) fn tell(at_the_end: bool) {
    if !LEFT_OUT.load(Ordering::Relaxed) {
        return;
    }
    let Ok(mut floods) = FLOODS.lock() else {
        return;
    };
    let due = floods.due(Instant::now(), at_the_end);
    if !floods.keeps_any() {
        LEFT_OUT.store(false, Ordering::Relaxed);
    }
    // The lock is released, because logging takes it again.
    drop(floods);
    for (level, count, example) in due {
        log::log!(target: COUNT, level, "{count} more lines like this one: {example}");
    }
}

/// A place in the program that logs: file and line.
type CodeSite = (Option<&'static str>, Option<u32>);

struct Floods {
    /// One for each place and level that has logged: bounded by the number of such places in the program.
    places: Vec<Flood>,
    /// Recent complaints, at most [`COMPLAINTS`]. The one that may be repeated soonest makes room.
    complaints: Vec<Complaint>,
}

/// A warning or error that was logged.
struct Complaint {
    /// A hash of place, level and words.
    key: u64,
    place: CodeSite,
    level: Level,
    /// The earliest time of its repetition.
    again_at: Instant,
    pause: Duration,
    left_out: u64,
    /// The beginning of the text, once a repetition was left out.
    example: String,
}

struct Flood {
    place: CodeSite,
    level: Level,
    /// The time at which the whole budget is free again.
    free_at: Instant,
    left_out: u64,
    /// The beginning of a line that was left out.
    example: String,
}

impl Floods {
    const fn new() -> Floods {
        Floods {
            places: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Whether left-out lines were not counted in the log yet.
    fn keeps_any(&self) -> bool {
        let places = self.places.iter().map(|place| place.left_out);
        let complaints = self.complaints.iter().map(|complaint| complaint.left_out);
        places.chain(complaints).any(|left_out| left_out > 0)
    }

    /// As [`admit`](Self::admit), for warnings and errors that may come again and again.
    fn complain(
        &mut self,
        now: Instant,
        place: CodeSite,
        level: Level,
        message: &str,
    ) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (place, level, message).hash(&mut hasher);
        let key = hasher.finish();
        let known = self.complaints.iter().position(|known| known.key == key);
        let mut before = 0;
        if let Some(at) = known {
            let complaint = &mut self.complaints[at];
            if now < complaint.again_at {
                if complaint.left_out == 0 {
                    complaint.example = message.chars().take(EXAMPLE).collect();
                }
                complaint.left_out += 1;
                return None;
            }
            before = complaint.say(now);
        } else {
            if self.complaints.len() == COMPLAINTS {
                let soonest = self.complaints.iter().enumerate();
                let soonest = soonest.min_by_key(|(_, c)| (c.left_out > 0, c.again_at));
                let soonest = soonest.map_or(0, |(at, _)| at);
                let gone = self.complaints.swap_remove(soonest);
                self.count(now, gone);
            }
            self.complaints.push(Complaint {
                key,
                place,
                level,
                again_at: now + AGAIN,
                pause: AGAIN,
                left_out: 0,
                example: String::new(),
            });
        }
        let flood = self.admit(now, place, level, message)?;
        Some(before + flood)
    }

    /// Moves the count of a complaint that makes room to its place's budget.
    fn count(&mut self, now: Instant, gone: Complaint) {
        if gone.left_out == 0 {
            return;
        }
        let flood = self.flood(now, gone.place, gone.level);
        if flood.left_out == 0 {
            flood.example = gone.example;
        }
        flood.left_out += gone.left_out;
    }

    fn flood(&mut self, now: Instant, place: CodeSite, level: Level) -> &mut Flood {
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
        &mut self.places[at]
    }

    fn admit(&mut self, now: Instant, place: CodeSite, level: Level, message: &str) -> Option<u64> {
        let flood = self.flood(now, place, level);
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
        let places = self.places.iter_mut();
        let places = places.filter_map(|mut flood| due(&mut flood).then(|| told(flood)));
        let complaints = self.complaints.iter_mut();
        let complaints = complaints.filter(|c| c.left_out > 0 && (all || c.again_at <= now));
        let complaints = complaints.map(|c| (c.level, c.say(now), std::mem::take(&mut c.example)));
        places.chain(complaints).collect()
    }
}

impl Complaint {
    /// The complaint is logged now. Returns how many repetitions were left out before.
    fn say(&mut self, now: Instant) -> u64 {
        // A complaint that stayed away for long is new.
        self.pause = match now.saturating_duration_since(self.again_at) > self.pause {
            true if self.left_out == 0 => AGAIN,
            _ => (self.pause * 2).min(DAY),
        };
        self.again_at = now + self.pause;
        std::mem::take(&mut self.left_out)
    }
}

impl Flood {
    /// Takes one line from the budget, if there is one left.
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

/// The target of events that are logged each time.
pub(crate) const EVENT: &str = "everseed::event";

/// The first and the longest pause between repetitions of a complaint.
const AGAIN: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The most complaints that are remembered.
const COMPLAINTS: usize = 256;

/// The target of lines that give a count.
const COUNT: &str = "everseed::logging::flood";

/// The most letters of a left-out line that are kept.
const EXAMPLE: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut floods = Floods::new();
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

    /// A name that the disk refuses, found every ten seconds for a day.
    #[test]
    fn the_same_complaint_comes_once_and_then_less_and_less_often() {
        let mut floods = Floods::new();
        let start = Instant::now();
        let one: CodeSite = (Some("one.rs"), Some(1));
        let (mut said, mut count) = (Vec::new(), 0);
        for s in (0..86_400).step_by(10) {
            let now = start + Duration::from_secs(s);
            let told = floods.complain(now, one, Level::Error, "/srv/a:b: refused");
            said.extend(told.map(|_| s));
            count += told.map_or(0, |before| 1 + before);
        }
        assert_eq!(said[..5], [0, 60, 180, 420, 900], "seconds");
        assert!(said.len() <= 12, "{said:?}");
        let at = |s| start + Duration::from_secs(s);
        let rest = floods.due(at(86_400), true);
        assert_eq!(count + rest[0].1, 8640, "each is counted");
        // Another file, another place: told at once.
        assert_eq!(
            floods.complain(at(86_400), one, Level::Error, "/srv/c:d: refused"),
            Some(0)
        );
        let two: CodeSite = (Some("one.rs"), Some(2));
        assert_eq!(
            floods.complain(at(86_400), two, Level::Error, "/srv/a:b: refused"),
            Some(0)
        );
    }

    /// What came to its end and begins anew later is new.
    #[test]
    fn what_did_not_come_for_long_is_new() {
        let mut floods = Floods::new();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let place: CodeSite = (None, None);
        let mut say = |s| floods.complain(at(s), place, Level::Warn, "away");
        for s in [0, 60, 180] {
            assert_eq!(say(s), Some(0));
        }
        assert_eq!(say(400), None);
        assert_eq!(say(420), Some(1));
        // The pause is 480 s now, and it did not come for longer.
        assert_eq!(say(420 + 961), Some(0));
        assert_eq!(say(420 + 961 + 59), None);
        assert_eq!(say(420 + 961 + 60), Some(1), "a minute again");
    }

    /// What is left out is told when its pause is over, though it does not come any more.
    #[test]
    fn the_last_of_a_complaint_is_told() {
        let mut floods = Floods::new();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let place: CodeSite = (None, None);
        assert_eq!(floods.complain(at(0), place, Level::Warn, "away"), Some(0));
        assert_eq!(floods.complain(at(20), place, Level::Warn, "away"), None);
        assert!(floods.keeps_any());
        assert_eq!(floods.due(at(59), false), []);
        let told = (Level::Warn, 1, "away".to_owned());
        assert_eq!(floods.due(at(60), false), [told]);
        assert!(!floods.keeps_any());
    }

    /// More complaints than are kept in mind take no more memory, and none is lost without being counted.
    #[test]
    fn any_number_of_complaints() {
        let mut floods = Floods::new();
        let start = Instant::now();
        let mut count = 0;
        for number in 0..5000 {
            let place: CodeSite = (Some("one.rs"), Some(number % 7));
            for _ in 0..1 + number % 3 {
                let text = format!("file {number}");
                let told = floods.complain(start, place, Level::Warn, &text);
                count += told.map_or(0, |before| 1 + before);
            }
        }
        assert!(floods.complaints.len() <= COMPLAINTS && floods.places.len() == 7);
        let rest: u64 = floods.due(start, true).iter().map(|(_, n, _)| n).sum();
        assert_eq!(count + rest, (0..5000).map(|n| 1 + n % 3).sum::<u64>());
    }

    /// What a stranger can have written in a day from one place, at 150 bytes a line.
    #[test]
    fn a_day_of_it() {
        for (level, most) in [
            (Level::Warn, 250_000),
            (Level::Info, 1_500_000),
            (Level::Debug, 15_000_000),
        ] {
            let mut floods = Floods::new();
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
