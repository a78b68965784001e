//! The command line: finds the command, sets its exit code, and starts the log.
//!
//! Results go to standard output, everything else to standard error. Scripts rely on the exit codes, which do not
//! change: see [`HELP`].

mod check;
mod edit;
mod front;
pub(crate) mod make;
mod making;
mod notices;
mod run;
mod show;
mod status;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use lexopt::{Arg, Parser};

use crate::allocator;
use crate::failure::{FAILURE, Failure, USAGE, finish};
use crate::logging::start_log;
use crate::options::args::{self, Stop};
use crate::options::run::Config;
use crate::options::{get, seed};
use crate::printing;
use crate::session::{self, Attendance, outlive_long_files};
use crate::text::{Output, escape, say};

/// The text of `everseed --help`.
pub const HELP: &str = "\
everseed - a BitTorrent peer for machines that run without supervision
It keeps files available from a router, Raspberry Pi or NAS, in little memory.

Usage: everseed COMMAND [OPTIONS] ...

Commands:
  seed PATH...        share files, folders and torrents until stopped
  get TORRENT...      download torrents, then keep seeding them
  run                 run as a service, configured by a file
  make PATH           make a .torrent
  edit TORRENT        change the trackers, web seeds, comment or source of one
  show TORRENT        print the content of a .torrent or magnet link
  check TORRENT DIR   compare files with a .torrent
  help [COMMAND]      print the options of a command, as COMMAND --help does

Examples:
  everseed seed film.mkv                     share a file, nothing else needed
  everseed seed x.torrent --data /srv        share data that is already there
  everseed get x.torrent -o /srv             download, then seed
  everseed make photos/ -t udp://t.example:80/announce
                                             make photos.torrent for a tracker
  everseed check x.torrent /srv              find damaged pieces

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 bad or missing data (check).
Those of get are in its help.

The variable EVERSEED_LOG sets the log level: error, warn, info, debug or trace.
";

/// The commands, each with its help text.
pub const COMMANDS: &[(&str, &str)] = &[
    ("seed", seed::HELP),
    ("get", get::HELP),
    ("run", crate::options::run::HELP),
    ("make", make::HELP),
    ("edit", edit::HELP),
    ("show", show::HELP),
    ("check", check::HELP),
    ("help", HELP),
];

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    allocator::begin();
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
    let code = conclude(command.as_deref(), outcome);
    printing::finish();
    code
}

fn dispatch(command: &OsStr, parser: Parser) -> Result<ExitCode, Failure> {
    match command.to_str() {
        Some("seed") => {
            let args = seed::SeedArgs::parse(parser)?;
            start_log(args.log);
            run_session(Config::of_seed(args))
        }
        Some("get") => {
            let (args, fetch) = get::Fetch::parse(parser)?;
            start_log(args.log);
            run_session(Config::of_get(args, &fetch))
        }
        Some("run") => run::run(parser),
        // Not inlined: a session would have their room on the stack, too, as long as it runs.
        Some("make") => make::run(parser),
        Some("edit") => edit::run(parser),
        Some("show") => show::run(parser),
        Some("check") => check::run(parser),
        Some("help") => help(parser),
        _ => Err(unknown(command)),
    }
}

/// Runs a session as `seed`, `get` or `run` configured it.
fn run_session(config: Config) -> Result<ExitCode, Failure> {
    session::run(config, Attendance::Attended, front::of(status::interval)?)
}

fn help(mut parser: Parser) -> Result<ExitCode, Failure> {
    let topic = match args::next(&mut parser, HELP)? {
        None => return print(HELP),
        Some(args::Argument::Value(topic)) => topic,
        Some(args::Argument::Option(option)) => {
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
