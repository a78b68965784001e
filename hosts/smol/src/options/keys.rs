//! The keys of a configuration file, from which the options of `seed` and `get` are set.
//!
//! Invariant: a key has the name of its option on the command line, and its value is parsed by the same code. So
//! every option is a key, and means the same in both places.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::Parser;
use log::LevelFilter;

use crate::options::args::{self, Stop};
use crate::options::config::{Setting, Table};
use crate::options::get::{self, Fetch};
use crate::options::item::Item;
use crate::options::making;
use crate::options::rates::Rates;
use crate::options::seed::{self, SeedArgs};
use crate::options::table::options;

/// A line, and the error in it.
pub(super) type Wrong = (usize, String);

/// Keys that are not options of another command.
pub(super) struct Own {
    pub(super) watch: Vec<PathBuf>,
    pub(super) state: Option<PathBuf>,
    pub(super) state_in_ram: bool,
    pub(super) download: bool,
    pub(super) torrents: u16,
}

impl Default for Own {
    fn default() -> Own {
        Own {
            watch: Vec::new(),
            state: None,
            state_in_ram: false,
            download: false,
            torrents: 50,
        }
    }
}

const OWN: &[&str] = &[
    "watch",
    "download",
    "torrents",
    "state",
    "state-in-ram",
    "log",
];

/// Options of the command line that have no key, or another form of key.
pub(super) const NOT_HERE: &[&str] = &["help", "version", "verbose"];

/// Options that may be repeated; their keys have lists.
const REPEATED: &[&str] = &[
    "--tracker",
    "--web-seed",
    "--include",
    "--exclude",
    "--file",
    "--listen",
    "--only",
    "--peer",
    "--dht-node",
];

/// Options of one torrent, which may stand in its entry.
const OF_ONE: &[&str] = &[
    "data",
    "file",
    "rename",
    "out",
    "incomplete",
    "only",
    "sequential",
    "prealloc",
    "overwrite",
    "umask",
    "group",
    "no-seed",
    "ratio",
    "time",
    "peer",
];

/// Those of them that make sense for data that exists already.
const OF_SEED: &[&str] = &["data", "file", "rename"];

pub(super) fn global(
    table: &Table,
    seed: &mut SeedArgs,
    fetch: &mut Fetch,
    own: &mut Own,
) -> Vec<Wrong> {
    let settings = table.settings.iter();
    let read = settings.map(|setting| global_one(setting, seed, fetch, own));
    read.filter_map(Result::err).flatten().collect()
}

fn global_one(
    setting: &Setting,
    seed: &mut SeedArgs,
    fetch: &mut Fetch,
    own: &mut Own,
) -> Result<(), Vec<Wrong>> {
    match setting.key.as_str() {
        "watch" => own.watch = paths(setting)?,
        "download" => own.download = flag(setting)?,
        "torrents" => {
            let text = single(setting)?;
            own.torrents = args::number(text, 1, 20_000).ok_or_else(|| {
                wrong(
                    setting,
                    &format!("\"{text}\" is not a number from 1 to 20000"),
                )
            })?;
        }
        "state" => own.state = Some(path(setting)?),
        "state-in-ram" => own.state_in_ram = flag(setting)?,
        "log" => {
            let text = single(setting)?;
            seed.log = text
                .parse()
                .ok()
                .filter(|level| *level != LevelFilter::Off)
                .ok_or_else(|| {
                    let what = "is not error, warn, info, debug or trace";
                    wrong(setting, &format!("\"{text}\" {what}"))
                })?;
        }
        "quiet" => seed.quiet = flag(setting)?,
        // Two torrents with a file of the same path would take it from each other.
        "overwrite" => return Err(wrong(setting, "it belongs to one torrent, in its [[get]]")),
        "file" => return Err(wrong(setting, "it belongs to one torrent, in its [[seed]]")),
        _ => option(setting, seed, fetch)?,
    }
    Ok(())
}

/// Parses limits by hour.
pub(super) fn rates(table: &Table) -> Result<Rates, Vec<Wrong>> {
    let mut rates = Rates::default();
    let mut read = |setting: &Setting| -> Result<(), Vec<Wrong>> {
        let text = match setting.key.as_str() {
            "days" => setting.values.join(","),
            _ => single(setting)?.to_owned(),
        };
        let (read, what) = match setting.key.as_str() {
            "hours" => (rates.set_hours(&text), "hours like 08:00-23:00"),
            "days" => (rates.set_days(&text), "days like mon-fri or sat, sun"),
            "up" | "down" => {
                let rate = args::rate(&text);
                match setting.key.as_str() {
                    "up" => rates.up = rate,
                    _ => rates.down = rate,
                }
                let what = "a rate like 500k or 2M (leave it out for the usual limit)";
                (rate.map(drop), what)
            }
            _ => return Err(unknown(setting, &["hours", "days", "up", "down"])),
        };
        read.ok_or_else(|| wrong(setting, &format!("\"{text}\" is not {what}")))
    };
    let settings = table.settings.iter();
    let mut wrong: Vec<Wrong> = settings.filter_map(|s| read(s).err()).flatten().collect();
    if wrong.is_empty() && rates.up.is_none() && rates.down.is_none() {
        wrong.push((table.line, "[[rates]] needs up or down, or both".to_owned()));
    }
    match wrong.is_empty() {
        true => Ok(rates),
        false => Err(wrong),
    }
}

/// Parses an entry as far as possible, and returns its errors.
pub(super) fn item(table: &Table, defaults: &Fetch) -> (Option<Item>, Vec<Wrong>) {
    let download = table.name == "get";
    let mut fetch = Fetch {
        only: Vec::new(),
        peers: Vec::new(),
        ..defaults.clone()
    };
    let mut seed = SeedArgs::default();
    let mut given = None;
    let key = if download { "torrent" } else { "path" };
    let mut read = |setting: &Setting| -> Result<(), Vec<Wrong>> {
        let name = setting.key.as_str();
        if name == key {
            let text = single(setting)?;
            let url = ["http://", "https://", "magnet:"];
            let url = url.iter().any(|start| text.starts_with(start));
            given = Some(match download && url {
                true => PathBuf::from(text),
                false => path(setting)?,
            });
            Ok(())
        } else if (download && OF_ONE.contains(&name) && name != "data")
            || (!download && OF_SEED.contains(&name))
        {
            option(setting, &mut seed, &mut fetch)
        } else {
            let known: Vec<&str> = match download {
                true => {
                    let of_get = OF_ONE.iter().copied().filter(|key| *key != "data");
                    ["torrent"].into_iter().chain(of_get).collect()
                }
                false => [&["path"], OF_SEED].concat(),
            };
            Err(unknown(setting, &known))
        }
    };
    let settings = table.settings.iter();
    let mut wrong: Vec<Wrong> = settings.filter_map(|s| read(s).err()).flatten().collect();
    let is_there = |key| table.settings.iter().any(|setting| setting.key == key);
    if !is_there(key) {
        wrong.push((table.line, format!("[[{}]] needs {key}", table.name)));
    }
    if download && fetch.out.as_os_str().is_empty() && !is_there("out") {
        let text = "[[get]] needs out = \"/FOLDER\", here or before the first [[ ]]";
        wrong.push((table.line, text.to_owned()));
    }
    let link = given.as_ref().and_then(|path: &PathBuf| path.to_str());
    if let Err(error) = fetch.take_link(link.unwrap_or_default()) {
        wrong.push((table.line, error));
    }
    let item = given.map(|path| Item {
        path,
        data: seed.data,
        files: seed.files,
        fetch: download.then(|| Box::new(fetch)),
    });
    (item, wrong)
}

/// Sets an option that the command line has too, parsed by the same code.
fn option(setting: &Setting, seed: &mut SeedArgs, fetch: &mut Fetch) -> Result<(), Vec<Wrong>> {
    let name = format!("--{}", setting.key);
    let here = !NOT_HERE.contains(&setting.key.as_str());
    let is_of = |help| here && options(help).any(|option| option.name == name);
    let (of_seed, of_get) = (is_of(seed::HELP), is_of(get::HELP));
    match name.as_str() {
        "--sequential" => fetch.sequential = flag(setting)?,
        "--overwrite" => fetch.overwrite = flag(setting)?,
        "--no-seed" => fetch.no_seed = flag(setting)?,
        "--share-torrent" => seed.share_torrent = flag(setting)?,
        "--data" => seed.data = Some(path(setting)?),
        "--out" => fetch.out = path(setting)?,
        "--incomplete" => fetch.incomplete = Some(path(setting)?),
        _ if making::FLAGS.contains(&name.as_str()) => {
            making::flag(&mut seed.make, &name, flag(setting)?);
        }
        _ if !of_seed && !of_get => {
            let known = options(seed::HELP).chain(options(get::HELP));
            let known = known.map(|option| option.name.trim_start_matches('-'));
            let known: Vec<&str> = OWN.iter().copied().chain(known).collect();
            return Err(unknown(setting, &known));
        }
        _ => {
            let repeats = REPEATED.contains(&name.as_str());
            if setting.list && !repeats {
                return Err(wrong(setting, "one value, not a list"));
            }
            let mut wrong = Vec::new();
            for value in &setting.values {
                let mut parser = Parser::from_args([OsString::from(value)]);
                let read = match of_seed {
                    true => seed.option(&name, &mut parser),
                    false => fetch.option(&name, &mut parser, seed),
                };
                if let Err(Stop::Usage(text)) = read {
                    wrong.push((setting.line, text.trim_start_matches('-').to_owned()));
                }
            }
            if !wrong.is_empty() {
                return Err(wrong);
            }
        }
    }
    Ok(())
}

fn wrong(setting: &Setting, what: &str) -> Vec<Wrong> {
    vec![(setting.line, format!("{}: {what}", setting.key))]
}

fn unknown(setting: &Setting, known: &[&str]) -> Vec<Wrong> {
    let near = args::nearest(&setting.key, known);
    let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    let text = format!("there is no key {} here{hint}", setting.key);
    vec![(setting.line, text)]
}

fn single(setting: &Setting) -> Result<&str, Vec<Wrong>> {
    match setting.values.as_slice() {
        [value] if !setting.list => Ok(value),
        _ => Err(wrong(setting, "one value, not a list")),
    }
}

fn flag(setting: &Setting) -> Result<bool, Vec<Wrong>> {
    match single(setting)? {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(setting, "write true or false")),
    }
}

fn path(setting: &Setting) -> Result<PathBuf, Vec<Wrong>> {
    whole(setting, single(setting)?)
}

fn paths(setting: &Setting) -> Result<Vec<PathBuf>, Vec<Wrong>> {
    let values = setting.values.iter();
    let (paths, wrong): (Vec<_>, Vec<_>) = values
        .map(|text| whole(setting, text))
        .partition(Result::is_ok);
    match wrong.is_empty() {
        true => Ok(paths.into_iter().flatten().collect()),
        false => Err(wrong
            .into_iter()
            .filter_map(Result::err)
            .flatten()
            .collect()),
    }
}

/// Paths must be absolute, because a service has no folder of its own.
fn whole(setting: &Setting, text: &str) -> Result<PathBuf, Vec<Wrong>> {
    match Path::new(text).is_absolute() {
        true => Ok(PathBuf::from(text)),
        false => Err(wrong(
            setting,
            &format!("\"{text}\" is not a whole path, which begins with /"),
        )),
    }
}
