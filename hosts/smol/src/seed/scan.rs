//! What comes and goes in the watched folders.
//!
//! A folder may hold any number of torrents: those that are in the catalogue are looked up by name, and of
//! those that are new some are taken in at a time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Seed;
use super::index::{Index, is_torrent};
use super::service::{Managed, Service, Stage, stop};
use super::signals::Signals;
use super::watch::settle_mark;
use crate::catalogue::Mark;
use crate::cli::run::{Config, Item};
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
            let folder = self.watches[number].folder.clone();
            let settles = |managed: &Managed| {
                managed.folder.as_ref() == Some(&folder) && managed.stage == Stage::Settling
            };
            let restless = more && self.places(engine) > 0 || self.items.iter().any(settles);
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

    /// Says once that there is no memory for all that is in the folders.
    fn say_if_full(&mut self, engine: &Engine, more: bool) {
        let full = more && engine.node.known() >= self.most_known;
        if full && !self.full {
            let most = self.most_known;
            log::error!(
                "there is memory for {most} torrents, and more are in the watched folders: the others \
                 are not seeded; raise memory ="
            );
        }
        self.full = full;
    }

    /// How many new things may be taken in.
    pub(super) fn places(&self, engine: &Engine) -> usize {
        let coming = |managed: &&Managed| managed.stage.is_coming();
        let taken = engine.node.known() + self.items.iter().filter(coming).count();
        let names = self.most_known.saturating_sub(taken);
        ITEMS_MAX.saturating_sub(self.items.len()).min(names)
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
        let found = match self.read(number, index, places, &seed.signals) {
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
        let missing = index.missing(&seed.catalogue.borrow(), &folder, closely, go_on);
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
        room: usize,
        signals: &Signals,
    ) -> Result<Found, String> {
        let folder = self.watches[number].folder.clone();
        let of_it = |managed: &&Managed| managed.folder.as_ref() == Some(&folder);
        let items: HashSet<PathBuf> = self
            .items
            .iter()
            .filter(of_it)
            .map(|managed| managed.item.path.clone())
            .collect();
        let mut found = Found::default();
        let mut torrents = Vec::new();
        let mut others = Vec::new();
        self.watches[number].read(|path| {
            let asleep = index.see(&path);
            if items.contains(&path) {
                found.known.insert(path);
            } else if !asleep && !index.is_content(&path) {
                let list = match is_torrent(&path) {
                    true => &mut torrents,
                    false => &mut others,
                };
                if list.len() < room {
                    list.push(path);
                } else {
                    found.more = true;
                }
            }
            signals.go_on()
        })?;
        if !(found.more && torrents.len() == room) {
            let left = room - torrents.len();
            found.more |= others.len() > left;
            others.truncate(left);
            torrents.append(&mut others);
        }
        torrents.sort();
        found.new = torrents;
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
            Stage::Settling | Stage::Waiting(_) => true,
            Stage::Running(_) | Stage::Done => is_torrent(&managed.item.path),
            _ => false,
        };
        if !looks {
            return;
        }
        let mark = settle_mark(&managed.item.path, || seed.signals.asked());
        if seed.signals.asked() {
            return;
        }
        let same = mark == managed.mark;
        managed.mark = mark;
        match managed.stage {
            Stage::Settling if same => managed.stage = Stage::Ready,
            Stage::Settling => {}
            _ if same => {}
            _ => {
                stop(seed, engine, managed);
                managed.stage = Stage::Settling;
            }
        }
    }
}

/// Something that appeared in a watched folder.
fn fresh(config: &Config, folder: &Path, path: PathBuf, signals: &Signals) -> Managed {
    let mark = settle_mark(&path, || signals.asked());
    let fetch = config.download.clone().filter(|_| is_torrent(&path));
    let fetch = fetch.map(|mut fetch| {
        if fetch.out.as_os_str().is_empty() {
            let beside = config.seed.data.as_deref().unwrap_or(folder);
            fetch.out = beside.to_owned();
        }
        Box::new(fetch)
    });
    let stage = match mark {
        Some(mark) if is_torrent(&path) && is_old(mark) => Stage::Ready,
        _ => Stage::Settling,
    };
    let data = config.seed.data.clone();
    Managed {
        item: Item { path, data, fetch },
        folder: Some(folder.to_owned()),
        mark,
        said: String::new(),
        stage,
    }
}

/// Whether a torrent file has not been written for some time, as far as the clock can say. If that is wrong
/// it is opened too early, and again later.
fn is_old((_, seconds, _, _): Mark) -> bool {
    let changed = u64::try_from(seconds).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed);
    changed.elapsed().is_ok_and(|age| age >= SETTLED)
}

/// After so long without a change something is complete.
const SETTLED: Duration = Duration::from_secs(10);

/// What is looked after in the folders at most, besides what is asleep.
const ITEMS_MAX: usize = 256;
