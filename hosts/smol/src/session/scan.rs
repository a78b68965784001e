//! Scans of the watched folders: what appears there is added, what vanishes is stopped.
//!
//! A folder may hold any number of torrents. Those in the catalogue are looked up by path; new ones are added some at
//! a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::command::{Addition, Command, Found, Gone, Which};
use super::index::{is_link, is_torrent, names_torrent};
use super::item::{ItemStage, LONGEST_PAUSE, LibraryItem};
use super::library::{Library, stop};
use super::room::MOST_KNOWN;
use super::scout::{FolderChanges, KnownPath, ScoutReport, ScoutRequest, Survey};
use super::torrent::ManagedTorrent;
use super::torrents::Torrents;
use super::watch::{Seen, Watch};
use crate::clock::time_of_day;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::options::run::{Config, Item};
use crate::storage::worker::TorrentNumber;
use crate::text::escape;

impl Library {
    /// Starts a scan of the watched folders, unless one is running.
    pub(super) fn scan(&mut self, torrents: &Torrents, engine: &Engine) {
        if self.scans.is_running() {
            return self.scans.say_if_long();
        }
        if self.watches.is_empty() {
            return;
        }
        let more = std::mem::take(&mut self.scans.more);
        self.say_if_full(engine, more);
        let items = self.items.iter().filter(|managed| managed.folder.is_some());
        let items = items.map(|managed| KnownPath {
            path: managed.item.path.clone(),
            looks: managed.is_looked_at(),
            bad: (managed.bad).filter(|_| matches!(managed.stage, ItemStage::Waiting(_))),
        });
        let mut roots: Vec<PathBuf> = torrents.awake.iter().map(|t| t.content.root()).collect();
        roots.sort_unstable();
        let survey = Survey {
            number: self.scans.set(),
            watches: self.watches.clone(),
            links: self.config.seed.links,
            restless: more && self.has_room_for_new(engine),
            items: items.collect(),
            catalogue: torrents.catalogue.borrow().snapshot(),
            room: self.room_for_new(engine),
            roots,
            downloads: self.config.download.is_some(),
        };
        if self.scout.ask(ScoutRequest::Survey(survey)) {
            self.scans.begin(more);
        }
    }

    /// Removes the state of torrents that are gone, once a day, when it is known which torrents there are.
    pub(super) fn prune(&mut self, torrents: &Torrents, now: Instant) {
        // An item that waits for a disk has not failed.
        let away = |managed: &LibraryItem| {
            use ItemStage::{Queued, Waiting};
            matches!(managed.stage, Queued(_) | Waiting(_)) && managed.failures == 0
        };
        let unsure = |managed: &LibraryItem| managed.stage.is_coming() || away(managed);
        let read = |watch: &Watch| watch.is_read() && watch.last_message.is_empty();
        if self.next_prune > now
            || self.scans.more
            || self.items.iter().any(unsure)
            || !self.watches.iter().all(read)
        {
            return;
        }
        self.next_prune = now + DAY;
        let awake = torrents
            .awake
            .iter()
            .map(ManagedTorrent::info_hash)
            .collect();
        let catalogue = torrents.catalogue.borrow().snapshot();
        self.scout.ask(ScoutRequest::Prune(catalogue, awake));
    }

    /// Handles the scout's reports. Returns whether there were any.
    pub(super) fn take_scout_reports(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
    ) -> bool {
        let mut any = false;
        while !torrents.signals.asked()
            && let Some(report) = self.scout.next()
        {
            any = true;
            match report {
                ScoutReport::Seen(path, seen) => self.seen(torrents, engine, &path, seen),
                ScoutReport::Pruned => {}
                ScoutReport::Surveyed(set, found) => {
                    // If the set of watched folders has changed meanwhile, the next scan tells of them.
                    let Some(more_before) = self.scans.end(set) else {
                        continue;
                    };
                    self.surveyed(torrents, engine, found, more_before);
                    let complete = |managed: &LibraryItem| {
                        managed.is_found_content()
                            && managed.stage == ItemStage::Ready
                            && managed.complete_at >= self.scans.reported()
                    };
                    if self.items.iter().any(complete) {
                        self.next_poll = Instant::now();
                    }
                }
            }
        }
        any
    }

    /// Adds what appeared in the watched folders, and removes what is gone, by commands.
    fn surveyed(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        folders: Vec<(Watch, Result<Option<FolderChanges>, String>)>,
        more_before: bool,
    ) {
        let coming = |m: &LibraryItem| m.stage.is_coming() && is_torrent(&m.item.path);
        let mut coming = self.items.iter().any(coming);
        for (number, (mut watch, found)) in folders.into_iter().enumerate() {
            match found {
                Ok(Some(found)) => {
                    watch.last_message.clear();
                    self.scans.more |= found.more;
                    coming |= !found.new.is_empty();
                    if !coming {
                        say_left_out(&mut watch, &found);
                    }
                    self.send_changes(torrents, engine, &watch.folder, found);
                }
                Ok(None) => self.scans.more |= more_before,
                Err(error) => {
                    self.scans.more |= more_before;
                    if watch.last_message != error {
                        log::error!("{error}");
                        watch.last_message = error;
                    }
                }
            }
            if let Some(place) = self.watches.get_mut(number) {
                *place = watch;
            }
        }
    }

    /// Logs once that the folders hold more than can be added.
    fn say_if_full(&mut self, engine: &Engine, more: bool) {
        let waiting = |managed: &&LibraryItem| {
            use ItemStage::{Behind, Ended, Paused, Queued, Waiting};
            matches!(
                managed.stage,
                Waiting(_) | Queued(_) | Behind(_) | Paused | Ended(_)
            )
        };
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
        } else if waiting >= self.most_items() {
            format!(
                "{waiting} in them cannot be opened, are paused or have reached their goal; mend, resume or remove those"
            )
        } else {
            String::new()
        };
        if self.scans.full != why && !why.is_empty() {
            log::error!("more is in the watched folders than is seeded: {why}");
        }
        self.scans.full = why;
    }

    /// The number of new torrent files and of other new items that may be added. Torrents that run have their own
    /// limit. Of others only some are kept at a time, so that a folder of any size takes no more memory.
    pub(super) fn room_for_new(&self, engine: &Engine) -> (usize, usize) {
        let mut counts = [0, 0];
        let mut coming = 0;
        for managed in &self.items {
            coming += usize::from(managed.stage.is_coming());
            if !matches!(managed.stage, ItemStage::Running(_)) {
                counts[usize::from(names_torrent(&managed.item.path))] += 1;
            }
        }
        let names = self.most_known.saturating_sub(engine.node.known() + coming);
        let most = self.most_items();
        let [others, torrents] = counts.map(|count| most.saturating_sub(count).min(names));
        (torrents, others)
    }

    /// The most items of a kind that are kept and do not run: one for 16 torrents that there is room for, so that
    /// hundreds of useless files keep no good one out.
    fn most_items(&self) -> usize {
        (self.most_known / 16).clamp(ITEMS.0, ITEMS.1)
    }

    /// Whether to add more at once: there is as much room as is on its way. Torrents come first, because content
    /// waits for them.
    pub(super) fn takes_more(&self, engine: &Engine) -> bool {
        let torrents = self.watches.iter().any(|watch| watch.has_more_torrents);
        let of_kind = |managed: &&LibraryItem| names_torrent(&managed.item.path) == torrents;
        let items = self.items.iter().filter(of_kind);
        let coming = items.filter(|managed| managed.stage.is_coming()).count();
        let (room, room_for_others) = self.room_for_new(engine);
        let room = if torrents { room } else { room_for_others };
        self.scans.more && !self.scans.is_running() && room > 0 && room >= coming
    }

    /// Whether there is room for more.
    pub(super) fn has_room_for_new(&self, engine: &Engine) -> bool {
        let (torrents, others) = self.room_for_new(engine);
        torrents.max(others) > 0
    }

    /// What came to a folder and went are commands like those that anybody sends.
    fn send_changes(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        folder: &Path,
        found: FolderChanges,
    ) {
        let gone = Gone {
            paths: found.gone,
            asleep: found.missing,
        };
        for (path, seen) in found.seen {
            self.seen(torrents, engine, &path, seen);
        }
        let gone = (!gone.is_empty()).then(|| Command::Remove(Which::Gone(Box::new(gone))));
        let new = found.new.into_iter().map(|(path, seen)| {
            let found = Some(Found {
                folder: folder.to_owned(),
                seen,
            });
            let item = item(&self.config, folder, path);
            Command::Add(Box::new(Addition { item, found }))
        });
        for command in gone.into_iter().chain(new) {
            // If a command was not taken, the folder is read again.
            self.scans.more |= !self.commands.send(command);
        }
    }

    /// Handles the present state of an item in a watched folder.
    fn seen(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        path: &Path,
        seen: Option<Seen>,
    ) {
        let of_it = |managed: &&mut LibraryItem| managed.item.path == path;
        let Some(managed) = self.items.iter_mut().find(of_it) else {
            return;
        };
        let asked = std::mem::take(&mut managed.looking);
        let same = seen.is_some_and(|(mark, _)| managed.mark == Some(mark));
        match managed.stage {
            ItemStage::Settling(_) if asked && same => {
                managed.stage = ItemStage::Ready;
                managed.complete_at = self.scans.begun();
                if managed.is_found_content() {
                    self.next_poll = Instant::now();
                }
            }
            ItemStage::Settling(_) if asked => managed.settle(seen),
            // Content that is away is waited for.
            ItemStage::Running(_) if managed.is_found_content() && (same || seen.is_none()) => {
                managed.pause = (managed.pause * 2).min(LONGEST_PAUSE);
                managed.next_look = Instant::now() + managed.pause;
            }
            ItemStage::Running(_) if managed.is_found_content() => {
                managed.has_changed(torrents, engine);
                managed.settle(seen);
            }
            ItemStage::Running(_) if is_torrent(path) => managed.saw_torrent_file(seen),
            _ if managed.is_looked_at() && seen.map(|(mark, _)| mark) != managed.mark => {
                stop(torrents, engine, managed);
                managed.settle(seen);
            }
            _ => {}
        }
    }

    /// Makes torrents anew whose content was found to differ from what was verified.
    pub(super) fn remake_changed(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let changed = torrents.awake.iter_mut();
        let changed: Vec<TorrentNumber> = changed
            .filter_map(|torrent| torrent.take_changed().then(|| torrent.number()))
            .collect();
        for number in changed {
            if let Some(managed) = self.item_of(number)
                && managed.is_found_content()
            {
                managed.has_changed(torrents, engine);
                managed.settle(None);
            }
        }
    }

    /// Has items looked at that may have settled, and served content that may have changed.
    pub(super) fn settle(&mut self, now: Instant) {
        let links = self.config.seed.links;
        for managed in &mut self.items {
            let Some(folder) = &managed.folder else {
                continue;
            };
            let at = match managed.stage {
                ItemStage::Settling(at) => at,
                ItemStage::Running(_) if managed.is_found_content() => managed.next_look,
                _ => continue,
            };
            if managed.looking || at > now {
                continue;
            }
            managed.looking = self.scout.ask(ScoutRequest::Look {
                folder: Some(folder.clone()),
                path: managed.item.path.clone(),
                links,
            });
        }
    }
}

impl LibraryItem {
    /// The item has changed, and has to stay unchanged for some time before it is opened.
    fn settle(&mut self, seen: Option<Seen>) {
        self.mark = seen.map(|(mark, _)| mark);
        self.failures = 0;
        self.in_doubt = is_torrent(&self.item.path) && self.item.path.is_absolute();
        let age = seen.map_or(Duration::ZERO, |(_, changed)| age(changed));
        // An item that was taken for complete too early waits twice as long each time.
        let settled = (SETTLED * (1 << self.changes.min(9))).min(LONGEST_PAUSE);
        self.pause = SETTLED;
        self.stage = ItemStage::Settling(Instant::now() + settled.saturating_sub(age));
    }

    /// The content of a served item has changed: links to the former torrent lead nowhere, and a new torrent is made.
    fn has_changed(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        log::warn!(
            target: EVENT,
            "{}: it has changed; it is shared anew once it stays unchanged",
            escape(self.item.path.as_os_str().as_encoded_bytes())
        );
        stop(torrents, engine, self);
        self.changes = self.changes.saturating_add(1);
    }

    /// The item was not seeded before, so it has to settle before it is opened.
    pub(super) fn is_new(&mut self) {
        match self.folder {
            None => self.stage = ItemStage::Ready,
            Some(_) => {
                // Its mark is taken at once.
                self.mark = None;
                self.stage = ItemStage::Settling(Instant::now());
            }
        }
    }

    /// Whether the item is checked for changes when its folder has changed.
    fn is_looked_at(&self) -> bool {
        match self.stage {
            ItemStage::Waiting(_)
            | ItemStage::Queued(_)
            | ItemStage::Behind(_)
            | ItemStage::Running(_) => true,
            ItemStage::Ended(_) => names_torrent(&self.item.path),
            _ => false,
        }
    }
}

/// Logs once how much content is not shared because it belongs to torrents.
fn say_left_out(watch: &mut Watch, found: &FolderChanges) {
    let count = found.left_out;
    if count == watch.left_out {
        return;
    }
    watch.left_out = count;
    if let Some(example) = &found.example {
        let shown = escape(example.as_os_str().as_encoded_bytes());
        log::warn!(
            "{}: {count} in it not shared by themselves, because they belong to torrents that are gone or not \
             used, such as {shown}; [[seed]] path = \"{shown}\" would share that one",
            watch.folder.display()
        );
    }
}

/// The item for something that appeared in a watched folder.
pub(super) fn item(config: &Config, folder: &Path, path: PathBuf) -> Item {
    let fetch = config.download.clone().filter(|_| names_torrent(&path));
    let fetch = fetch.map(|mut fetch| {
        if fetch.out.as_os_str().is_empty() {
            let beside = config.seed.data.as_deref().unwrap_or(folder);
            fetch.out = beside.to_owned();
        }
        Box::new(fetch)
    });
    Item {
        path,
        data: config.seed.data.clone(),
        files: Vec::new(),
        fetch,
    }
}

/// An item that was found in a watched folder, in its first stage.
pub(super) fn found(item: Item, Found { folder, seen }: Found) -> LibraryItem {
    let mark = seen.map(|(mark, _)| mark);
    let names_torrent = names_torrent(&item.path);
    let stage = match mark {
        Some((_, s, ns, _)) if names_torrent && age((s, ns)) >= SETTLED => ItemStage::Ready,
        _ => ItemStage::Found,
    };
    let settles = stage == ItemStage::Found && is_link(&item.path);
    let mut managed = LibraryItem::new(item, Some(folder), mark, stage);
    // Whether the torrent of a link was seeded before shows when the link is read.
    if settles {
        managed.settle(seen);
    }
    managed
}

/// The time since the last change. It counts as zero if the clock was set back since. An item that is taken for
/// complete too early is opened again later.
pub(super) fn age((seconds, ns): (i64, i64)) -> Duration {
    let of = |n| u64::try_from(n).unwrap_or(0);
    let changed = Duration::from_secs(of(seconds)).saturating_add(Duration::from_nanos(of(ns)));
    time_of_day().saturating_sub(changed)
}

/// The interval at which unneeded state is removed.
const DAY: Duration = Duration::from_secs(86_400);

/// The time without a change after which an item counts as complete.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// The least and the most torrent files that are kept and do not run, because they are being opened or cannot be; and
/// as many other such items.
const ITEMS: (usize, usize) = (256, 1024);
