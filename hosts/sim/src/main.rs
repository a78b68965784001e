//! `everseed-sim`: runs a scenario, prints its table and draws its chart.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use everseed_sim::replay::replay;
use everseed_sim::scenarios::{self, NAMES, Settings};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
everseed-sim - swarms of everseed nodes in virtual time

Usage: everseed-sim [OPTIONS] SCENARIO
       everseed-sim replay FILE

  flash-crowd   1, 10, 100 .. leechers start at once, with one seed
  free-riders   a fifth of the leechers never upload
  churn         peers come one by one, and leave when they are complete
  faults        crashes, full disks, bad blocks, broken connections, partitions
  poison        many peers send a bad block now and then
  tracker-dies  the only tracker dies after a minute, then more peers come
  magnet        from an info-hash to the first piece, through routers of each kind
  queries       DHT queries of a seed of 1, 100 and 10,000 torrents in an hour
  eclipse       a hundred nodes of one network try to hide a torrent in the DHT
  replay        repeats the calls that `everseed seed --trace FILE` recorded, and
                fails where the node here answers differently

Options:
      --seed N      seed of the random numbers; a failure prints it (default: 1)
      --peers N     the most leechers (default: 1000)
      --pieces N    number of pieces (default: 1024)
      --blocks N    blocks of 16 KiB in a piece (default: 4)
      --up BYTES    upload of each host per second (default: 262144)
      --slots N     how many peers a host serves at a time (default: 4)
      --nodes N     nodes of the DHT (default: 1000)
      --svg FILE    write a chart to FILE
  -h, --help        print this
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("everseed-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), lexopt::Error> {
    let mut parser = Parser::from_env();
    let mut settings = Settings::default();
    let (mut name, mut file, mut svg) = (None, None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("seed") => settings.seed = parser.value()?.parse()?,
            Arg::Long("peers") => settings.peers = parser.value()?.parse()?,
            Arg::Long("pieces") => settings.pieces = parser.value()?.parse()?,
            Arg::Long("blocks") => settings.blocks = parser.value()?.parse()?,
            Arg::Long("up") => settings.up = parser.value()?.parse()?,
            Arg::Long("slots") => settings.slots = parser.value()?.parse()?,
            Arg::Long("nodes") => settings.nodes = parser.value()?.parse()?,
            Arg::Long("svg") => svg = Some(parser.value()?),
            Arg::Short('h') | Arg::Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            Arg::Value(value) if name.is_none() => name = Some(value.string()?),
            Arg::Value(value) if name.as_deref() == Some("replay") && file.is_none() => {
                file = Some(value);
            }
            other => return Err(other.unexpected()),
        }
    }
    let Some(name) = name else {
        return Err(format!("which one? {}", NAMES.join(", ")).into());
    };
    if name == "replay" {
        let path = PathBuf::from(file.ok_or("replay needs a FILE")?);
        return Ok(replayed(&path)?);
    }
    let outcome = scenarios::run(&name, settings);
    let outcome = outcome.ok_or_else(|| format!("{name}: there is {}", NAMES.join(", ")))?;
    print!("{}", outcome.table);
    if let Some(path) = svg {
        let written = std::fs::write(&path, outcome.chart.svg());
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn replayed(path: &Path) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let trace = std::fs::read(path).map_err(|error| named(&error))?;
    let replay = replay(&trace).map_err(|error| named(&error))?;
    print!("{replay}");
    match replay.difference {
        None => Ok(()),
        Some(_) => Err(named(&"the answers differ")),
    }
}
