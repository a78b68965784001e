//! The command line: which command, its exit code, and the log.
//!
//! Results go to standard output, everything else to standard error. Exit codes are for scripts and
//! do not change: see [`HELP`].

pub mod args;
mod check;
mod edit;
pub(crate) mod flood;
pub mod get;
pub(crate) mod make;
pub(crate) mod making;
pub mod options;
pub mod run;
pub mod seed;
mod show;
pub mod text;

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use lexopt::{Arg, Parser};
use log::{Level, LevelFilter};
use rustix::fs::FileType;

use crate::cli::args::Stop;
use crate::cli::text::{Output, clear_live_line, date, escape, say};
use crate::clock::time_of_day;
use crate::seed::outlive_long_files;

/// What `everseed --help` prints.
pub const HELP: &str = "\
everseed - a BitTorrent peer for machines that nobody looks at
It keeps files available from a router, Raspberry Pi or NAS, in little memory.

Usage: everseed COMMAND [OPTIONS] ...

Commands:
  seed PATH...        share files, folders and torrents until stopped
  get TORRENT         download a torrent, then keep seeding it
  run                 the service: what a configuration file says
  make PATH           make a .torrent
  edit TORRENT        change trackers, web seeds, comment or source in one
  show TORRENT        print what a .torrent holds
  check TORRENT DIR   compare files with a .torrent
  help [COMMAND]      print the options of a command, as COMMAND --help does

Examples:
  everseed seed film.mkv                     share a file, nothing else needed
  everseed seed x.torrent --data /srv        share data that is already there
  everseed get x.torrent -o /srv             download, then seed
  everseed make photos/ -t udp://t.example:80/announce
                                             make photos.torrent for a tracker
  everseed check x.torrent /srv              find damaged pieces

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 bad or missing data (check);
those of get are in its own help.

EVERSEED_LOG=debug logs more: error, warn, info, debug or trace.
";

/// Exit code when something did not work.
pub const FAILURE: u8 = 1;
/// Exit code when the arguments make no sense.
pub const USAGE: u8 = 2;
/// Exit code of `check` when data is damaged or missing.
pub const DAMAGED: u8 = 3;

/// The commands, and what each prints as its help.
pub const COMMANDS: &[(&str, &str)] = &[
    ("seed", seed::HELP),
    ("get", get::HELP),
    ("run", run::HELP),
    ("make", make::HELP),
    ("edit", edit::HELP),
    ("show", show::HELP),
    ("check", check::HELP),
    ("help", HELP),
];

/// Why a command ended early. What it carries is shown to a person after `everseed: `.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Help was asked for, or the arguments make no sense.
    Stop(Stop),
    /// It did not work.
    Failed(String),
    /// With an exit code of its own.
    Code(String, u8),
}

impl Failure {
    /// For errors that name what they are about.
    fn failed(error: impl Display) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Failure {
        Failure::Stop(stop)
    }
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    outlive_long_files();
    let mut parser = Parser::from_env();
    let (command, outcome) = match parser.next() {
        Ok(Some(Arg::Value(command))) => {
            let outcome = dispatch(&command, parser);
            (command.into_string().ok(), outcome)
        }
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => (None, print(HELP)),
        Ok(Some(Arg::Short('V') | Arg::Long("version"))) => (None, print(args::VERSION)),
        Ok(Some(Arg::Long(name))) => (None, Err(option_first(&format!("--{name}")))),
        Ok(Some(Arg::Short(name))) => (None, Err(option_first(&format!("-{name}")))),
        Ok(None) => (None, Err(usage("which command?".to_owned()))),
        Err(error) => (None, Err(usage(escape(&error.to_string()).to_string()))),
    };
    let command = command.filter(|command| help_of(command).is_some());
    conclude(command.as_deref(), outcome)
}

/// Starts the log: `level` unless the environment variable `EVERSEED_LOG` says otherwise.
pub fn start_log(level: LevelFilter) {
    start(level, Mark::Level);
}

/// The same for a service. Lines have a time when they go to a file or a terminal, as otherwise
/// somebody else adds one; the journal gets the level in its own form (sd-daemon(3)).
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

/// What stands before a line of the log.
#[derive(Clone, Copy)]
enum Mark {
    Level,
    Time,
    Journal,
}

/// Logs as much as `level` from now on, unless the environment variable says otherwise.
pub(crate) fn set_log(level: LevelFilter) {
    if std::env::var_os(LOG).is_none() {
        log::set_max_level(level);
    }
}

/// The environment variable for the log.
const LOG: &str = "EVERSEED_LOG";

fn start(level: LevelFilter, mark: Mark) {
    let builder = &mut env_logger::Builder::new();
    // How much it is may change while it runs: see `set_log`.
    let most = match std::env::var_os(LOG) {
        Some(_) => level,
        None => LevelFilter::Trace,
    };
    builder.filter_level(most).parse_env(LOG);
    builder.format(move |out, record| {
        // What is logged may hold text of peers and trackers.
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
    // A second start, in a test, changes nothing.
    let _ = builder.try_init();
    set_log(level);
}

fn dispatch(command: &OsStr, parser: Parser) -> Result<ExitCode, Failure> {
    match command.to_str() {
        Some("seed") => {
            let args = seed::SeedArgs::parse(parser)?;
            start_log(args.log);
            crate::seed::run(args, None)
        }
        Some("get") => {
            let (args, fetch) = get::Fetch::parse(parser)?;
            start_log(args.log);
            crate::seed::run(args, Some(&fetch))
        }
        Some("run") => run::run(parser),
        Some("make") => make::run(parser),
        Some("edit") => edit::run(parser),
        Some("show") => show::run(parser),
        Some("check") => check::run(parser),
        Some("help") => help(parser),
        _ => Err(unknown(command)),
    }
}

fn help(mut parser: Parser) -> Result<ExitCode, Failure> {
    let topic = match args::next(&mut parser, HELP)? {
        None => return print(HELP),
        Some(args::Given::Value(topic)) => topic,
        Some(args::Given::Option(option)) => {
            return Err(args::unknown(HELP, option).into());
        }
    };
    match topic.to_str().and_then(help_of) {
        Some(help) => print(help),
        None => Err(unknown(&topic)),
    }
}

fn help_of(command: &str) -> Option<&'static str> {
    let mut commands = COMMANDS.iter();
    commands
        .find(|(name, _)| *name == command)
        .map(|(_, help)| *help)
}

fn unknown(command: &OsStr) -> Failure {
    let shown = escape(command.as_encoded_bytes());
    let known: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    let near = command.to_str().and_then(|c| args::nearest(c, &known));
    usage(if let Some(near) = near {
        format!("there is no command \"{shown}\"; did you mean {near}?")
    } else if Path::new(command).exists() {
        format!("there is no command \"{shown}\"; to share it: everseed seed {shown}")
    } else {
        format!("there is no command \"{shown}\"")
    })
}

fn option_first(option: &str) -> Failure {
    let shown = escape(option);
    usage(match args::nearest(option, &["--help", "--version"]) {
        Some(near) => format!("there is no option {shown}; did you mean {near}?"),
        None => format!("{shown} has to stand after the command"),
    })
}

fn usage(text: String) -> Failure {
    Failure::Stop(Stop::Usage(text))
}

fn print(text: &'static str) -> Result<ExitCode, Failure> {
    Err(Failure::Stop(Stop::Print(text)))
}

fn conclude(command: Option<&str>, outcome: Result<ExitCode, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(Failure::Stop(Stop::Print(text))) => {
            let mut out = Output::new();
            out.text(text);
            finish(out, ExitCode::SUCCESS).unwrap_or(ExitCode::from(FAILURE))
        }
        Err(Failure::Stop(Stop::Usage(text))) => {
            say(format_args!("everseed: {text}"));
            match command {
                Some(command) => say(format_args!("Try: everseed {command} --help")),
                None => say(format_args!("Try: everseed --help")),
            }
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(text)) => {
            say(format_args!("everseed: {text}"));
            ExitCode::from(FAILURE)
        }
        Err(Failure::Code(text, code)) => {
            say(format_args!("everseed: {text}"));
            ExitCode::from(code)
        }
    }
}

/// The exit code, unless what was printed did not arrive where it was sent.
fn finish(out: Output, code: ExitCode) -> Result<ExitCode, Failure> {
    match out.finish() {
        Ok(()) => Ok(code),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}
