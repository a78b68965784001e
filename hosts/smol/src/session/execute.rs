//! Carrying out commands.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Session;
use super::command::{Addition, Command, Gone, SessionLimits, Which, commands};
use super::item::{ItemStage, LibraryItem};
use super::library::{Library, stop};
use super::notice::Notice;
use super::reload::program;
use super::scan;
use super::sleeper_command::Change;
use super::sleepers::say_where;
use super::torrents::Torrents;
use super::watch::Watch;
use crate::logging::flood::EVENT;
use crate::logging::set_log;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::options::run::{Config, Item};
use crate::storage::catalogue::PAUSED;

impl Session {
    /// Carries out the commands that came since the last turn.
    pub(super) fn execute_all(&mut self, engine: &mut Engine) {
        while !self.signals.asked()
            && (self.library).go_on_for_sleepers(&mut self.torrents, engine)
            && let Some(command) = self.commands.next()
        {
            self.execute(engine, command);
        }
        // Whoever asks it to stop does not wait for a disk that does not answer.
        let Session {
            library, commands, ..
        } = self;
        self.stopped |= library.sleepers.is_stuck() && commands.ask_to_stop();
    }

    /// Carries out one command.
    pub(super) fn execute(&mut self, engine: &mut Engine, command: Command) {
        let (library, torrents) = (&mut self.library, &mut self.torrents);
        match command {
            Command::Add(item) => library.add(torrents, *item),
            Command::Remove(which) => library.change(torrents, engine, Change::Remove, &which),
            Command::Pause(which) => library.change(torrents, engine, Change::Pause, &which),
            Command::Resume(which) => library.change(torrents, engine, Change::Resume, &which),
            Command::Verify(which) => library.change(torrents, engine, Change::Verify, &which),
            Command::SetGoal(which, goal) => library.set_goal(torrents, engine, &which, &goal),
            Command::SetFolderGoal(goal) => library.set_folder_goal(torrents, &goal),
            Command::Watch(folder) => library.watch(folder),
            Command::Unwatch(folder) => library.unwatch(torrents, engine, folder),
            Command::SetLimits(limits) => library.set_limits(engine, *limits),
            Command::Reload(config) => self.reload(engine, *config),
            Command::Stop => self.stopped = true,
        }
    }

    /// Changes to another configuration, or starts anew if a changed key is fixed at the start.
    fn reload(&mut self, engine: &mut Engine, config: Config) {
        if !self.library.takes(&config) {
            if let Err(error) = program() {
                log::error!(target: EVENT, "{error}; it goes on with the configuration as it was");
                return self.manager.ready();
            }
            log::warn!(target: EVENT, "the configuration has changed, so it starts anew with it");
            // A service that starts anew reports that it is ready afterwards.
            self.again = true;
            return;
        }
        log::warn!(target: EVENT, "the configuration was read");
        for command in commands(&self.library.config, &config) {
            self.execute(engine, command);
        }
        // The limits are computed again, because their hours may have changed.
        let limits = SessionLimits::of(&config);
        self.library.config = config;
        self.library.set_limits(engine, limits);
        let args = &self.library.config.seed;
        self.torrents.check = args.check;
        set_log(args.log);
        self.numbers = (self.interval)(args.quiet);
        self.library.next_poll = Instant::now();
        self.manager.ready();
    }
}

impl Library {
    /// Adds an item, unless it is there already.
    pub(super) fn add(&mut self, torrents: &Torrents, Addition { mut item, found }: Addition) {
        if let Some(found) = &found {
            // Since the folder was read it may have been given up, or its downloads got another goal.
            if !self
                .watches
                .iter()
                .any(|watch| watch.folder == found.folder)
            {
                return;
            }
            item = scan::item(&self.config, &found.folder, item.path);
        }
        let mut items = self.items.iter();
        let is_there = match &found {
            Some(_) => items.any(|known| known.item.path == item.path),
            None => items.any(|known| known.item == item),
        };
        if is_there {
            return;
        }
        let mut managed = match found {
            Some(found) => scan::found(item, found),
            None => {
                self.next_poll = Instant::now();
                let stage = first_stage(&item);
                LibraryItem::new(item, None, None, stage)
            }
        };
        if torrents.is_paused(&managed.item.path) {
            // It was paused in an earlier run.
            managed.stage = ItemStage::Paused;
            torrents.notices.tell(Notice::Paused(&managed.item.path));
        }
        self.items.push(managed);
    }

    /// Calls `each` for all items that are meant. Returns whether there are any.
    fn each_of(
        &mut self,
        torrents: &mut Torrents,
        which: &Which,
        mut each: impl FnMut(&mut LibraryItem, &mut Torrents),
    ) -> bool {
        let mut any = false;
        for managed in self.items.iter_mut().filter(|managed| managed.is(which)) {
            any = true;
            each(managed, torrents);
        }
        any
    }

    /// Changes the items and sleeping torrents that are meant.
    fn change(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        change: Change,
        which: &Which,
    ) {
        let any = self.change_items(torrents, engine, change, which);
        self.begin_for_sleepers(torrents, engine, change, which, any);
        // Links whose metadata is fetched are given up at once, too.
        self.next_poll = Instant::now();
    }

    /// Changes the items that are meant. Returns whether there are any.
    pub(super) fn change_items(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        change: Change,
        which: &Which,
    ) -> bool {
        if change == Change::Remove {
            return self.remove_items(torrents, engine, which);
        }
        self.each_of(torrents, which, |managed, torrents| match change {
            Change::Pause => managed.pause(torrents, engine),
            Change::Resume => managed.resume(torrents),
            Change::Verify => managed.verify(torrents, engine),
            Change::Remove | Change::SetGoal | Change::LookForGoal => {}
        })
    }

    fn remove_items(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        which: &Which,
    ) -> bool {
        let mut any = false;
        let mut at = 0;
        while let Some(managed) = self.items.get(at) {
            if !managed.is(which) {
                at += 1;
                continue;
            }
            any = true;
            if self.would_be_found(managed.folder.as_deref(), which) {
                say_where(&managed.item.path);
                at += 1;
                continue;
            }
            if !matches!(which, Which::Gone(_)) {
                torrents.set_paused(&managed.item.path, false);
            }
            stop(torrents, engine, managed);
            self.items.remove(at);
        }
        any
    }

    /// Whether what is in this folder would be found there again if it was removed.
    pub(super) fn would_be_found(&self, folder: Option<&Path>, which: &Which) -> bool {
        let is_watched = |folder| self.watches.iter().any(|watch| watch.folder == folder);
        !matches!(which, Which::Gone(_)) && folder.is_some_and(is_watched)
    }

    /// What sleeps has the goal of its folder, see [`set_folder_goal`](Self::set_folder_goal), so another one for some
    /// of it is refused with words.
    fn set_goal(&mut self, torrents: &mut Torrents, engine: &Engine, which: &Which, goal: &Fetch) {
        let any = self.each_of(torrents, which, |managed, torrents| {
            managed.set_goal(torrents, goal);
        });
        self.begin_for_sleepers(torrents, engine, Change::SetGoal, which, any);
    }

    fn set_folder_goal(&mut self, torrents: &mut Torrents, goal: &Fetch) {
        let of_folder = |managed: &&mut LibraryItem| managed.folder.is_some();
        for managed in self.items.iter_mut().filter(of_folder) {
            managed.set_goal(torrents, goal);
        }
        self.config.download = Some(goal.clone());
        self.sleepers.next_goals = Some(Instant::now());
        self.next_poll = Instant::now();
    }

    fn watch(&mut self, folder: PathBuf) {
        if !self.watches.iter().any(|watch| watch.folder == folder) {
            let seed = &self.config.seed;
            let secret = [Some(&seed.state), seed.make.configuration.as_ref()];
            let secret = secret.into_iter().flatten().cloned().collect();
            self.watches.push(Watch::new(folder, secret));
            self.watches_changed();
        }
    }

    fn unwatch(&mut self, torrents: &mut Torrents, engine: &mut Engine, folder: PathBuf) {
        self.watches.retain(|watch| watch.folder != folder);
        self.change(torrents, engine, Change::Remove, &Which::Folder(folder));
        self.watches_changed();
    }

    /// The running scan no longer counts.
    fn watches_changed(&mut self) {
        self.scans.begin_anew();
        self.next_poll = Instant::now();
    }
}

impl LibraryItem {
    fn pause(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        if matches!(self.stage, ItemStage::Paused | ItemStage::Ended(_)) {
            return;
        }
        if let ItemStage::Running(number) = self.stage {
            torrents.drop_torrent(engine, number);
        }
        self.give_up_verifying(&torrents.notices, PAUSED);
        self.stage = ItemStage::Paused;
        torrents.set_paused(&self.item.path, true);
        torrents.notices.tell(Notice::Paused(&self.item.path));
    }

    fn resume(&mut self, torrents: &mut Torrents) {
        if self.stage == ItemStage::Paused {
            self.stage = first_stage(&self.item);
            torrents.set_paused(&self.item.path, false);
            torrents.notices.tell(Notice::Resumed(&self.item.path));
        }
    }

    /// Has the item verified: at once if it runs, and when it runs if it is being opened. Otherwise it is told why it
    /// is not.
    fn verify(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let why = match self.stage {
            ItemStage::Running(number) => {
                if let Some(torrent) = torrents.awake.get_mut(number) {
                    torrent.verify(engine);
                }
                return;
            }
            ItemStage::Paused => PAUSED,
            ItemStage::Ended(_) => "it has ended",
            ItemStage::Waiting(_) => "it cannot be opened now",
            ItemStage::Queued(_) => "it waits for a place",
            ItemStage::Behind(_) => "the same torrent is there already",
            _ => return self.verify = true,
        };
        let path = &self.item.path;
        torrents.notices.tell(Notice::NotVerified { path, why });
    }

    /// Whether this item is meant.
    fn is(&self, which: &Which) -> bool {
        match which {
            Which::All => true,
            Which::Torrent(info_hash) => self.info_hash == Some(*info_hash),
            Which::Item(item) => self.folder.is_none() && item.is_same(&self.item),
            Which::Path(path) => self.item.path == *path,
            Which::Folder(folder) => self.folder.as_ref() == Some(folder),
            Which::Gone(gone) => self.folder.is_some() && gone.paths.contains(&self.item.path),
        }
    }
}

impl Gone {
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.asleep.is_empty()
    }
}

/// The stage in which an item begins.
fn first_stage(item: &Item) -> ItemStage {
    match item.fetch {
        Some(_) => ItemStage::Ready,
        None => ItemStage::Found,
    }
}
