//! What comes and goes in the watched folders.
//!
//! A folder may hold any number of torrents: those that are in the catalogue are looked up by name, and of
//! those that are new some are taken in at a time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Seed;
use super::index::{Index, is_torrent};
use super::service::{MOST_KNOWN, Managed, Service, Stage, stop};
use super::signals::Signals;
use super::watch::look;
use crate::catalogue::Mark;
use crate::cli::run::{Config, Item};
use crate::cli::text::escape;
use crate::engine::Engine;

/// What is in a folder and not asleep.
#[derive(Default)]
struct Found {
    /// What was there before.
    known: HashSet<PathBuf>,
    /// Some of what is new.
    new: Vec<PathBuf>,
    /// Whether there is more that is new.
    more: bool,
}

impl Service {
    /// Takes in what appeared in the watched folders, and lets go of what is there no longer.
    pub(super) fn scan(&mut self, seed: &mut Seed, engine: &mut Engine) {
        let mut index = None;
        let more = std::mem::take(&mut self.more);
        self.say_if_full(engine, more);
        for number in 0..self.watches.len() {
            let restless = more && self.has_places(engine);
            if !self.is_due(number, restless) {
                self.more |= more;
                continue;
            }
            if index.is_none() {
                match Index::new(&seed.catalogue.borrow(), || seed.signals.go_on()) {
                    Ok(made) => index = Some(made),
                    Err(_) if seed.signals.asked() => return,
                    Err(error) => return log::error!("the catalogue cannot be read: {error}"),
                }
            }
            if let Some(index) = &mut index {
                self.look_into(seed, engine, number, index);
            }
        }
    }

    /// Says once that not all that is in the folders is looked after.
    fn say_if_full(&mut self, engine: &Engine, more: bool) {
        let waiting = |managed: &&Managed| matches!(managed.stage, Stage::Waiting(_));
        let waiting = self.items.iter().filter(waiting).count();
        let most = self.most_known;
        let why = if !more {
            String::new()
        } else if engine.node.known() >= most {
            let advice = match most < MOST_KNOWN {
                true => "raise memory =",
                false => "no memory would do for more",
            };
            format!("there is room for {most} torrents; {advice}")
        } else if waiting >= ITEMS_MAX {
            format!("{waiting} in them cannot be opened; mend or remove those")
        } else {
            String::new()
        };
        if self.full != why && !why.is_empty() {
            log::error!("more is in the watched folders than is seeded: {why}");
        }
        self.full = why;
    }

    /// How many new torrent files and other things may be taken in. Those that run have their own limit; of others some
    /// are looked after at a time, so that a folder of any size takes no more memory.
    pub(super) fn places(&self, engine: &Engine) -> (usize, usize) {
        let mut counts = [0, 0];
        let mut coming = 0;
        for managed in &self.items {
            coming += usize::from(managed.stage.is_coming());
            if !matches!(managed.stage, Stage::Running(_)) {
                counts[usize::from(is_torrent(&managed.item.path))] += 1;
            }
        }
        let names = self.most_known.saturating_sub(engine.node.known() + coming);
        let [others, torrents] = counts.map(|count| ITEMS_MAX.saturating_sub(count).min(names));
        (torrents, others)
    }

    /// Whether there is room for more.
    pub(super) fn has_places(&self, engine: &Engine) -> bool {
        let (torrents, others) = self.places(engine);
        torrents.max(others) > 0
    }

    /// Whether a folder is to be read; what keeps us from it is said once.
    fn is_due(&mut self, number: usize, restless: bool) -> bool {
        let watch = &mut self.watches[number];
        match watch.is_due(restless) {
            Ok(due) => due,
            Err(error) => {
                if watch.said != error {
                    log::error!("{error}");
                    watch.said = error;
                }
                false
            }
        }
    }

    fn look_into(
        &mut self,
        seed: &mut Seed,
        engine: &mut Engine,
        number: usize,
        index: &mut Index,
    ) {
        let folder = self.watches[number].folder.clone();
        let places = self.places(engine);
        let found = match self.read(number, index, places, seed) {
            Ok(found) => found,
            Err(_) if seed.signals.asked() => return,
            Err(error) => {
                log::error!("{error}");
                self.watches[number].said = error;
                return;
            }
        };
        self.watches[number].said.clear();
        self.more |= found.more;
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.items)
                .into_iter()
                .partition(|managed| {
                    managed.folder.as_ref() != Some(&folder)
                        || found.known.contains(&managed.item.path)
                });
        self.items = kept;
        for managed in gone {
            if seed.signals.asked() {
                return;
            }
            stop(seed, engine, &managed);
        }
        // Changes of all torrent files need not be looked for at the start.
        let closely = self.watches[number].was_read();
        let go_on = || seed.signals.go_on();
        let describes = |root: &Path| seed.state.described().holds_real(root);
        let missing = index.missing(&seed.catalogue.borrow(), describes, &folder, closely, go_on);
        match missing {
            Ok(slots) => self.forget(seed, engine, &slots),
            Err(_) if seed.signals.asked() => return,
            Err(error) => log::error!("the catalogue cannot be read: {error}"),
        }
        let known = found.known.into_iter();
        for path in known.chain(found.new) {
            if seed.signals.asked() {
                return;
            }
            self.take_in(&folder, path, seed, engine);
        }
    }

    /// Reads a folder. What is new is taken in some at a time, torrents first: what a torrent describes is
    /// nothing of its own.
    fn read(
        &mut self,
        number: usize,
        index: &mut Index,
        (room, room_for_others): (usize, usize),
        seed: &Seed,
    ) -> Result<Found, String> {
        let folder = self.watches[number].folder.clone();
        let of_it = |managed: &&Managed| managed.folder.as_ref() == Some(&folder);
        let items: HashSet<PathBuf> = self
            .items
            .iter()
            .filter(of_it)
            .map(|managed| managed.item.path.clone())
            .collect();
        let mut roots: Vec<PathBuf> = seed.torrents.iter().map(|t| t.content.root()).collect();
        roots.sort_unstable();
        let described = seed.state.described();
        let mut found = Found::default();
        let mut torrents = Vec::new();
        let mut others = Vec::new();
        let (mut more_torrents, mut left_out, mut example) = (false, 0_usize, None);
        let watch = &mut self.watches[number];
        watch.read(|path| {
            let asleep = index.see(&path);
            if items.contains(&path) {
                found.known.insert(path);
            } else if asleep || index.is_content(&path) {
            } else if is_torrent(&path) {
                match torrents.len() < room {
                    true => torrents.push(path),
                    false => more_torrents = true,
                }
            } else if described.holds(&path) {
                if roots.binary_search(&path).is_err() {
                    left_out += 1;
                    example = example.take().or(Some(path));
                }
            } else if others.len() < room_for_others {
                others.push(path);
            } else {
                found.more = true;
            }
            seed.signals.go_on()
        })?;
        watch.has_more_torrents = more_torrents;
        found.more |= more_torrents;
        torrents.append(&mut others);
        torrents.sort();
        found.new = torrents;
        let mut items = self.items.iter();
        let coming = items.any(|m| m.stage.is_coming() && is_torrent(&m.item.path));
        if !coming && found.new.is_empty() && left_out != watch.left_out {
            watch.left_out = left_out;
            if let Some(example) = example {
                let shown = escape(example.as_os_str().as_encoded_bytes());
                log::warn!(
                    "{}: {left_out} in it not shared by themselves, as they belong to torrents that are not there or \
                     not used, such as {shown}; [[seed]] path = \"{shown}\" would share that one",
                    folder.display()
                );
            }
        }
        Ok(found)
    }

    /// Looks at something in a watched folder.
    fn take_in(&mut self, folder: &Path, path: PathBuf, seed: &mut Seed, engine: &mut Engine) {
        let known = |managed: &&mut Managed| managed.item.path == path;
        let Some(managed) = self.items.iter_mut().find(known) else {
            return self
                .items
                .push(fresh(&self.config, folder, path, &seed.signals));
        };
        if managed.folder.is_none() {
            return;
        }
        // What is served looks after itself, but for a torrent file that was replaced.
        let looks = match managed.stage {
            Stage::Waiting(_) => true,
            Stage::Running(_) | Stage::Done => is_torrent(&managed.item.path),
            _ => false,
        };
        if !looks {
            return;
        }
        let seen = look(&managed.item.path, || seed.signals.asked());
        if seed.signals.asked() || seen.map(|(mark, _)| mark) == managed.mark {
            return;
        }
        stop(seed, engine, managed);
        managed.settle(seen);
    }

    /// Looks at what was still written a moment ago, when it may be complete; answers whether any of it is.
    pub(super) fn settle(&mut self, seed: &Seed, now: Instant) -> bool {
        let mut any = false;
        for managed in &mut self.items {
            if seed.signals.asked() {
                return any;
            }
            if !matches!(managed.stage, Stage::Settling(at) if at <= now) {
                continue;
            }
            let seen = look(&managed.item.path, || seed.signals.asked());
            if seen.is_some_and(|(mark, _)| managed.mark == Some(mark)) {
                managed.stage = Stage::Ready;
                any = true;
            } else {
                managed.settle(seen);
            }
        }
        any
    }
}

impl Managed {
    /// It has changed, and has to stay as it is for some time.
    fn settle(&mut self, seen: Option<(Mark, (i64, i64))>) {
        self.mark = seen.map(|(mark, _)| mark);
        self.failures = 0;
        self.in_doubt = is_torrent(&self.item.path) && self.item.path.is_absolute();
        let age = seen.map_or(Duration::ZERO, |(_, changed)| age(changed));
        self.stage = Stage::Settling(Instant::now() + SETTLED.saturating_sub(age));
    }

    /// It is none of what was seeded before, so that it has to be complete before it is opened.
    pub(super) fn is_new(&mut self, seed: &Seed) {
        match self.folder {
            None => self.stage = Stage::Ready,
            Some(_) => self.settle(look(&self.item.path, || seed.signals.asked())),
        }
    }
}

/// Something that appeared in a watched folder.
fn fresh(config: &Config, folder: &Path, path: PathBuf, signals: &Signals) -> Managed {
    let mark = look(&path, || signals.asked()).map(|(mark, _)| mark);
    let fetch = config.download.clone().filter(|_| is_torrent(&path));
    let fetch = fetch.map(|mut fetch| {
        if fetch.out.as_os_str().is_empty() {
            let beside = config.seed.data.as_deref().unwrap_or(folder);
            fetch.out = beside.to_owned();
        }
        Box::new(fetch)
    });
    let stage = match mark {
        Some((_, s, ns, _)) if is_torrent(&path) && age((s, ns)) >= SETTLED => Stage::Ready,
        _ => Stage::Found,
    };
    let data = config.seed.data.clone();
    let item = Item { path, data, fetch };
    Managed::new(item, Some(folder.to_owned()), mark, stage)
}

/// How long ago something changed, as far as the clock can say: it counts as just now if the clock has been set
/// back since. If it is taken for complete too early it is opened again later.
fn age((seconds, ns): (i64, i64)) -> Duration {
    let of = |n| u64::try_from(n).unwrap_or(0);
    let changed = Duration::from_secs(of(seconds)).saturating_add(Duration::from_nanos(of(ns)));
    let changed = SystemTime::UNIX_EPOCH.checked_add(changed);
    let age = changed.and_then(|changed| changed.elapsed().ok());
    age.unwrap_or(Duration::ZERO)
}

/// After so long without a change something is complete.
const SETTLED: Duration = Duration::from_secs(10);

/// Torrent files that are looked after at a time and do not run, as they are being opened or cannot be; and as many
/// other things.
const ITEMS_MAX: usize = 256;
