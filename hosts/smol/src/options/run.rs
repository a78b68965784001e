//! The arguments of `everseed run`, and its configuration file as a whole; see `keys` for what may stand in it.

use std::path::PathBuf;

use lexopt::Parser;

use crate::options::args::{self, Argument, Stop};
use crate::options::config::{self, Table};
use crate::options::finding::{Finding, Weight};
use crate::options::get::Fetch;
pub use crate::options::item::Item;
use crate::options::keys::{self, Own, Wrong, global, item};
use crate::options::rates::Rates;
use crate::options::seed::SeedArgs;
use crate::secrets::mask_urls;
use crate::text::escape;

/// The text of `everseed run --help`.
pub const HELP: &str = "\
everseed run - run as a service, configured by a file

Usage: everseed run [OPTIONS]

One file says all: what to seed, what to download, folders to watch, limits. Its
keys have the names of the options of seed and get. The packages contain a
commented example, everseed.toml.

Watched folders are looked at every 10 s, and the names in them every 30 s even
if the folder's time of change stays. New content in them is looked at after
10 s, then after pauses that double, up to an hour. While peers are connected it
is looked at every half minute, otherwise once an hour, and before a peer is
served. The state of a torrent that is gone is kept for 30 days.

Options:
  -c, --config FILE    the file (default: /etc/everseed.toml)
      --check-config   print all errors in the file, and keys that cannot be
                       carried out here, and end; exit code 1 if there are any
  -v, --verbose        log more; repeat it for still more
  -h, --help           print this
  -V, --version        print the version

everseed stays in the foreground and logs to standard error. SIGINT or SIGTERM
stops it within a second. It tells systemd when it is ready, reloads or stops,
and that it is alive (watchdog).

SIGHUP reads the file again. If it has errors, all are logged, and the service
goes on as before. Limits (up, down, [[rates]], slots, max-peers, ratio, time),
check, log, and things to watch, seed or get change at once, and peers stay
connected. For other keys, for peers or torrents that need more memory, and for
a first download everseed restarts itself under the same process id, and all
peers have to connect again.

Examples:
  everseed run -c everseed.toml --check-config
  everseed run -c everseed.toml
";

/// The configuration file if none is named.
pub const FILE: &str = "/etc/everseed.toml";

/// The state folder if none is named.
const STATE: &str = "/var/lib/everseed";

/// The arguments of `everseed run`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunArgs {
    /// The configuration file.
    pub config: PathBuf,
    /// Only check the configuration.
    pub check: bool,
    /// Number of levels to log beyond the file's.
    pub verbose: usize,
}

/// The contents of a configuration file.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The options that hold for everything.
    pub seed: SeedArgs,
    /// How torrents of watched folders are downloaded; `None` if they are only seeded.
    pub download: Option<Fetch>,
    /// Download limit in bytes per second.
    pub down: Option<u64>,
    /// Limits by hour; the first that matches counts.
    pub rates: Vec<Rates>,
    /// Watched folders: their torrents, files and folders are seeded.
    pub watch: Vec<PathBuf>,
    /// The most torrents of watched folders that are awake, 1 to 20,000.
    pub torrents: u16,
    /// Whether the state may be kept in memory (tmpfs).
    pub state_in_ram: bool,
    /// The `[[seed]]` and `[[get]]` entries.
    pub items: Vec<Item>,
}

/// The lines of keys and entries in the file.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lines {
    keys: Vec<(String, usize)>,
    items: Vec<Table>,
}

impl Lines {
    fn new(tables: &[Table], items: Vec<Table>) -> Lines {
        let settings = tables.iter().take(1).flat_map(|table| &table.settings);
        Lines {
            keys: settings.map(|s| (s.key.clone(), s.line)).collect(),
            items,
        }
    }

    /// The line of a general key; the first line if it is absent.
    pub(crate) fn key(&self, key: &str) -> usize {
        let found = self.keys.iter().find(|(name, _)| name == key);
        found.map_or(1, |(_, line)| *line)
    }

    /// The line of a key of one of [`Config::items`]; the entry's first line if it is absent.
    pub(crate) fn item(&self, number: usize, key: &str) -> usize {
        let table = self.items.get(number);
        let setting = table.and_then(|t| t.settings.iter().find(|s| s.key == key));
        setting
            .map(|s| s.line)
            .or(table.map(|t| t.line))
            .unwrap_or(1)
    }
}

impl RunArgs {
    /// Parses the arguments after `everseed run`.
    pub fn parse(mut parser: Parser) -> Result<RunArgs, Stop> {
        let mut run = RunArgs {
            config: PathBuf::from(FILE),
            check: false,
            verbose: 0,
        };
        while let Some(given) = args::next(&mut parser, HELP)? {
            match given {
                Argument::Value(value) => return Err(args::surplus("run", &value)),
                Argument::Option(option) => match option {
                    "--config" => run.config = args::path_of(&mut parser, "--config")?,
                    "--check-config" => run.check = true,
                    "--verbose" => run.verbose += 1,
                    name => return Err(args::unknown(HELP, name)),
                },
            }
        }
        Ok(run)
    }

    /// The text of a finding, with the file's name and the line.
    pub(crate) fn tell(&self, finding: &Finding) -> String {
        let waits = match finding.weight {
            Weight::Waits => "; it is waited for",
            _ => "",
        };
        self.locate(finding.line, &format!("{}{waits}", finding.text))
    }

    fn locate(&self, line: usize, text: &str) -> String {
        let shown = escape(self.config.as_os_str().as_encoded_bytes());
        // The file may hold a tracker's passkey, and this text goes to a log.
        format!("{shown}:{line}: {}", escape(&mask_urls(text)))
    }
}

impl Config {
    /// Reads the file. Its errors are left out and reported, so that the rest can be checked too.
    pub(crate) fn read(args: &RunArgs) -> Result<(Config, Lines, Vec<Finding>), String> {
        let shown = escape(args.config.as_os_str().as_encoded_bytes()).to_string();
        let text = std::fs::read(&args.config).map_err(|error| {
            format!("{shown}: {error}; name the configuration file with --config FILE")
        })?;
        let text = match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..good]
                    .split(|byte| *byte == b'\n')
                    .count();
                return Err(args.locate(line, "it is not UTF-8"));
            }
        };
        let (mut config, lines, wrong) = Config::parse(&text, args.verbose);
        config.seed.make.configuration = std::path::absolute(&args.config).ok();
        let found = wrong.into_iter().map(|(line, text)| Finding {
            line,
            text,
            weight: Weight::Fatal,
        });
        Ok((config, lines, found.collect()))
    }

    fn parse(text: &str, verbose: usize) -> (Config, Lines, Vec<Wrong>) {
        let (tables, errors) = config::parse(text);
        let errors = errors.into_iter().map(|error| (error.line, error.text));
        let mut wrong: Vec<Wrong> = errors.collect();
        let mut seed = SeedArgs::default();
        let mut fetch = Fetch::default();
        let mut own = Own::default();
        let (mut items, mut item_lines, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for table in &tables {
            match table.name.as_str() {
                "" => wrong.extend(global(table, &mut seed, &mut fetch, &mut own)),
                "seed" | "get" => {
                    let (item, complaints) = item(table, &fetch);
                    wrong.extend(complaints);
                    item_lines.extend(item.is_some().then(|| table.clone()));
                    items.extend(item);
                }
                "rates" => match keys::rates(table) {
                    Ok(read) => rates.push(read),
                    Err(complaints) => wrong.extend(complaints),
                },
                name => {
                    let text =
                        format!("there is no [[{name}]]; it is [[seed]], [[get]] or [[rates]]");
                    wrong.push((table.line, text));
                }
            }
        }
        if items.is_empty() && own.watch.is_empty() && wrong.is_empty() {
            let text = "there is nothing to do: write watch = \"/FOLDER\", [[seed]] or [[get]]";
            wrong.push((1, text.to_owned()));
        }
        (0..verbose).for_each(|_| seed.log = seed.log.increment_severity());
        // The folder that systemd made for the state, or would make.
        let given = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        let given = given.filter(|state| state.is_absolute());
        let state = own.state.or(given).unwrap_or_else(|| STATE.into());
        let seed = SeedArgs {
            state,
            ..seed.listening()
        };
        // The download limit is for all downloads together.
        let down = fetch.down.take();
        let config = Config {
            seed,
            download: own.download.then_some(fetch),
            down,
            rates,
            watch: own.watch,
            torrents: own.torrents,
            state_in_ram: own.state_in_ram,
            items,
        };
        wrong.sort_by_key(|(line, _)| *line);
        (config, Lines::new(&tables, item_lines), wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::keys::NOT_HERE;
    use crate::options::seed::CheckMode;
    use crate::options::table::options;
    use crate::options::{get, seed};
    use log::LevelFilter;
    use std::path::Path;
    use std::time::Duration;

    fn parse(text: &str) -> Result<Config, String> {
        all(text).map_err(|wrong| wrong[0].clone())
    }

    fn all(text: &str) -> Result<Config, Vec<String>> {
        let (config, _, wrong) = Config::parse(text, 0);
        let wrong = wrong.iter().map(|(line, text)| format!("{line}: {text}"));
        let wrong: Vec<String> = wrong.collect();
        match wrong.is_empty() {
            true => Ok(config),
            false => Err(wrong),
        }
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let text = "up = \"fast\"\nslots =\nwach = \"/a\"\n[[seed]]\npath = \"a\"\nratio = 2\n\
                    [[get]]\ntime = \"long\"\n[[sed]]\n";
        let lines = all(text).unwrap_err();
        let lines: Vec<&str> = lines.iter().filter_map(|l| l.split(':').next()).collect();
        assert_eq!(lines, ["1", "2", "3", "5", "6", "7", "7", "8", "9"]);
        // Each value of a list, and what stands after a list that has no end.
        let text = "watch = [\"a\", \"/b\", \"c\"]\nlisten = [\"x\", \"0.0.0.0:1\", \"y z\"\n[[seed]]\n\
                    path = 3\n[[get]]\ntorrent = \"/t\"\nout = \"/o\"\npeer = [\"p\", \"q\"]\n";
        let lines = all(text).unwrap_err();
        let lines: Vec<&str> = lines.iter().filter_map(|l| l.split(':').next()).collect();
        assert_eq!(lines, ["1", "1", "2", "4", "8", "8"]);
    }

    #[test]
    fn everything_at_once() {
        let config = parse(
            r#"
            watch = ["/srv/share", "/srv/more"]
            download = true
            out = "/srv/data"
            data = "/srv/data"
            torrents = 9
            state = "/var/lib/x"
            state-in-ram = true
            log = "info"
            quiet = true
            tracker = ["udp://t:80", "http://t/a"]
            exclude = ["*.nfo", "*.txt"]
            private = true
            source = "S"
            listen = "0.0.0.0:7000"
            slots = 3
            max-peers = 50
            up = "500k"
            down = 250000
            check = "lazy"
            sequential = true
            [[rates]]
            hours = "08:00-23:00"
            days = ["mon-thu", "fri"]
            up = "200k"
            [[seed]]
            path = "/srv/film.mkv"
            [[get]]
            torrent = "https://example.org/x.torrent"
            out = "/srv/x"
            only = ["1", "*.flac"]
            prealloc = "full"
            no-seed = true
            ratio = 1.5
            time = 30
            peer = "192.0.2.1:1"
            "#,
        )
        .unwrap();
        assert_eq!(config.watch.len(), 2);
        assert_eq!((config.torrents, config.state_in_ram), (9, true));
        assert_eq!(config.seed.state, Path::new("/var/lib/x"));
        assert_eq!((config.seed.slots, config.seed.max_peers), (Some(3), 50));
        assert_eq!(
            (config.seed.up, config.down),
            (Some(500_000), Some(250_000))
        );
        assert_eq!(
            (config.seed.check, config.seed.quiet),
            (CheckMode::Lazy, true)
        );
        assert_eq!(config.seed.log, LevelFilter::Info);
        assert_eq!(config.seed.make.trackers.len(), 2);
        let make = &config.seed.make;
        assert_eq!((make.choice.exclude.len(), make.private), (2, true));
        assert!(!config.seed.listen_default && config.seed.listen.len() == 1);
        assert_eq!((config.rates.len(), config.rates[0].up), (1, Some(200_000)));
        let download = config.download.unwrap();
        assert_eq!(download.out, Path::new("/srv/data"));
        assert!(download.sequential && !download.no_seed);
        assert_eq!(config.items[0].path, Path::new("/srv/film.mkv"));
        assert_eq!(config.items[0].fetch, None);
        let fetch = config.items[1].fetch.clone().unwrap();
        assert_eq!(fetch.only, ["1", "*.flac"]);
        assert!(fetch.full && fetch.no_seed && fetch.sequential);
        assert_eq!(fetch.ratio, Some(1500));
        assert_eq!(fetch.time, Some(Duration::from_secs(1800)));
        assert_eq!(fetch.out, Path::new("/srv/x"));
    }

    /// Whoever adds an option to a command gets it here too, or says why not.
    #[test]
    fn every_option_is_a_key() {
        for option in options(seed::HELP).chain(options(get::HELP)) {
            let key = option.name.trim_start_matches('-');
            if NOT_HERE.contains(&key) {
                continue;
            }
            let read = parse(&format!("{key} = []\n"));
            let said = read.err().unwrap_or_default();
            assert!(!said.contains("there is no key"), "{said}");
        }
    }

    #[test]
    fn refusals() {
        let table = [
            ("", "1: there is nothing to do"),
            (
                "watch = \"share\"",
                "1: watch: \"share\" is not a whole path",
            ),
            (
                "wach = \"/a\"",
                "1: there is no key wach here; did you mean watch?",
            ),
            ("\nup = \"fast\"", "2: up: \"fast\" is not a rate"),
            ("up = [1, 2]", "1: up: one value, not a list"),
            ("quiet = \"yes\"", "1: quiet: write true or false"),
            ("log = \"loud\"", "1: log: \"loud\" is not error"),
            ("help = true", "1: there is no key help here"),
            ("torrents = 0", "1: torrents: \"0\" is not a number"),
            ("[[sed]]", "1: there is no [[sed]]"),
            ("[[seed]]", "1: [[seed]] needs path"),
            (
                "[[rates]]\nhours = \"1:00-2:00\"",
                "1: [[rates]] needs up or down",
            ),
            (
                "[[rates]]\nhours = \"8-9\"\nup = 1",
                "2: hours: \"8-9\" is not hours like 08:00-23:00",
            ),
            (
                "[[rates]]\ndays = [\"mon\", \"no\"]\nup = 1",
                "2: days: \"mon,no\" is not days like",
            ),
            ("[[rates]]\nup = \"fast\"", "2: up: \"fast\" is not a rate"),
            (
                "[[rates]]\nday = \"mon\"",
                "2: there is no key day here; did you mean days?",
            ),
            ("[[get]]\ntorrent = \"/x.torrent\"", "1: [[get]] needs out"),
            (
                "[[seed]]\npath = \"/a\"\nratio = 2",
                "3: there is no key ratio here",
            ),
        ];
        for (text, complaint) in table {
            let said = parse(text).unwrap_err();
            assert!(said.starts_with(complaint), "{text}: {said}");
        }
    }

    #[test]
    fn the_example_is_good() {
        let example = include_str!("../../packages/everseed.toml");
        let config = parse(example).unwrap();
        assert_eq!(config.watch, [Path::new("/srv/everseed")]);
        // What it shows commented out has to be good too.
        let all: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(shown) if !shown.starts_with(' ') => format!("{shown}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        parse(&all).unwrap();
        for option in options(seed::HELP).chain(options(get::HELP)) {
            let key = option.name.trim_start_matches('-');
            let shown = example.contains(&format!("{key} = "));
            assert!(shown || NOT_HERE.contains(&key), "{key} is not shown");
        }
    }
}
