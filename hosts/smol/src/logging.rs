//! The log: its level, the prefix of its lines, and limits on repeated lines.

pub(crate) mod flood;

use std::io::IsTerminal;

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::FileType;

use crate::clock::time_of_day;
use crate::printing::{Stream, print};
use crate::text::{clear_live_line, date, escape};

/// Starts the log: `level` unless the environment variable `EVERSEED_LOG` says otherwise.
pub(crate) fn start_log(level: LevelFilter) {
    start(level, LinePrefix::Level);
}

/// Starts the log of a service. Lines to a file or terminal begin with a time; elsewhere whoever keeps the log adds
/// one. The journal gets the level in its own form (sd-daemon(3)).
pub(crate) fn start_service_log(level: LevelFilter) {
    let stderr = rustix::fs::fstat(std::io::stderr());
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let is_journal =
        |stat: &rustix::fs::Stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino);
    let mark = match stderr {
        Ok(stat) if is_journal(&stat) => LinePrefix::Journal,
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            LinePrefix::Time
        }
        _ if std::io::stderr().is_terminal() => LinePrefix::Time,
        _ => LinePrefix::Level,
    };
    start(level, mark);
}

/// The prefix of a line of the log.
#[derive(Clone, Copy)]
enum LinePrefix {
    Level,
    Time,
    Journal,
}

/// Changes the log's level while the program runs, unless the environment variable sets it.
pub(crate) fn set_log(level: LevelFilter) {
    if std::env::var_os(LOG).is_none() {
        log::set_max_level(level);
    }
}

/// The environment variable that sets the log's level.
const LOG: &str = "EVERSEED_LOG";

fn start(level: LevelFilter, mark: LinePrefix) {
    let builder = &mut env_logger::Builder::new();
    // Unless the environment sets the level, `set_log` may change it later: so the builder's filter lets all pass.
    let most = match std::env::var_os(LOG) {
        Some(_) => level,
        None => LevelFilter::Trace,
    };
    builder.filter_level(most).parse_env(LOG);
    let filter = builder.build();
    let all = filter.filter();
    // A second start, as in a test, changes nothing.
    if log::set_boxed_logger(Box::new(Logger { filter, mark })).is_ok() {
        log::set_max_level(all);
    }
    set_log(level);
}

/// Writes the lines to standard error.
struct Logger {
    /// Decides which lines are written.
    filter: env_logger::Logger,
    mark: LinePrefix,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        if let Some(line) = self.line(record) {
            clear_live_line(Stream::Out);
            // Nobody would read about it.
            let _ = print(Stream::Err, &line);
        }
    }

    fn flush(&self) {}
}

impl Logger {
    /// Formats the line, unless it is left out as one of too many.
    fn line(&self, record: &Record<'_>) -> Option<String> {
        // A line may hold text of peers and trackers.
        let mut message = record.args().to_string();
        match flood::admit(record, &message)? {
            0 => {}
            more => message += &format!(" (and {more} more like this before)"),
        }
        let message = escape(&message);
        let level = record.level().as_str().to_ascii_lowercase();
        Some(match self.mark {
            LinePrefix::Level => format!("{level}: {message}\n"),
            LinePrefix::Time => {
                let s = i64::try_from(time_of_day().as_secs()).unwrap_or(0);
                format!("{} {level}: {message}\n", date(s))
            }
            LinePrefix::Journal => {
                let priority = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                format!("<{priority}>{message}\n")
            }
        })
    }
}
