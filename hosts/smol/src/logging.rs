//! The log: its level, the prefix of its lines, and limits on repeated lines.

pub(crate) mod flood;

use std::io::{IsTerminal, Write};

use log::{Level, LevelFilter};
use rustix::fs::FileType;

use crate::clock::time_of_day;
use crate::text::{clear_live_line, date, escape};

/// Starts the log: `level` unless the environment variable `EVERSEED_LOG` says otherwise.
pub(crate) fn start_log(level: LevelFilter) {
    start(level, Mark::Level);
}

/// Starts the log of a service. Lines to a file or terminal begin with a time; elsewhere whoever keeps the log adds
/// one. The journal gets the level in its own form (sd-daemon(3)).
pub(crate) fn start_service_log(level: LevelFilter) {
    let stderr = rustix::fs::fstat(std::io::stderr());
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let is_journal =
        |stat: &rustix::fs::Stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino);
    let mark = match stderr {
        Ok(stat) if is_journal(&stat) => Mark::Journal,
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Mark::Time,
        _ if std::io::stderr().is_terminal() => Mark::Time,
        _ => Mark::Level,
    };
    start(level, mark);
}

/// The prefix of a line of the log.
#[derive(Clone, Copy)]
enum Mark {
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

fn start(level: LevelFilter, mark: Mark) {
    let builder = &mut env_logger::Builder::new();
    // Unless the environment sets the level, `set_log` may change it later: so the builder's filter lets all pass.
    let most = match std::env::var_os(LOG) {
        Some(_) => level,
        None => LevelFilter::Trace,
    };
    builder.filter_level(most).parse_env(LOG);
    builder.format(move |out, record| {
        // A line may hold text of peers and trackers.
        let mut message = record.args().to_string();
        match flood::admit(record, &message) {
            None => return Ok(()),
            Some(0) => {}
            Some(more) => message += &format!(" (and {more} more like this before)"),
        }
        clear_live_line(&mut std::io::stdout());
        let level = record.level().as_str().to_ascii_lowercase();
        match mark {
            Mark::Level => {}
            Mark::Time => {
                let s = i64::try_from(time_of_day().as_secs()).unwrap_or(0);
                write!(out, "{} ", date(s))?;
            }
            Mark::Journal => {
                let priority = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                return writeln!(out, "<{priority}>{}", escape(&message));
            }
        }
        writeln!(out, "{level}: {}", escape(&message))
    });
    // A second start, as in a test, changes nothing.
    let _ = builder.try_init();
    set_log(level);
}
