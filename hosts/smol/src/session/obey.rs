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
use super::torrents::Torrents;
use super::watch::Watch;
use crate::logging::flood::EVENT;
use crate::logging::set_log;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::options::run::Config;
use crate::secrets::mask_urls;
use crate::text::escape;

impl Session {
    /// Carries out the commands that came since the last turn.
    pub(super) fn obey_all(&mut self, engine: &mut Engine) {
        while !self.signals.asked()
            && let Some(command) = self.commands.next()
        {
            self.obey(engine, command);
        }
    }

    /// Carries out one command.
    pub(super) fn obey(&mut self, engine: &mut Engine, command: Command) {
        let (library, torrents) = (&mut self.library, &mut self.torrents);
        match command {
            Command::Add(item) => library.add(*item),
            Command::Remove(which) => library.remove(torrents, engine, &which),
            Command::Pause(which) => library.pause(torrents, engine, &which),
            Command::Resume(which) => library.resume(torrents, engine, &which),
            Command::Verify(which) => library.verify(torrents, engine, &which),
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
            self.obey(engine, command);
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
    pub(super) fn add(&mut self, Addition { mut item, found }: Addition) {
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
        let stage = match item.fetch {
            Some(_) => ItemStage::Ready,
            None => ItemStage::Found,
        };
        self.items.push(match found {
            Some(found) => scan::found(item, found),
            None => {
                self.next_poll = Instant::now();
                LibraryItem::new(item, None, None, stage)
            }
        });
    }

    /// Calls `each` for all items that are meant. If there are none, a notice says so.
    fn each_of(
        &mut self,
        torrents: &mut Torrents,
        which: &Which,
        sleepers: usize,
        mut each: impl FnMut(&mut LibraryItem, &mut Torrents),
    ) {
        let mut any = sleepers > 0 || *which == Which::All;
        for managed in &mut self.items {
            if managed.is(which) {
                any = true;
                each(managed, torrents);
            }
        }
        if !any {
            say_nothing_there(which);
        }
    }

    fn remove(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        let sleepers = match which {
            // Which they are is said.
            Which::Gone(gone) => {
                self.forget(torrents, engine, &gone.asleep);
                Vec::new()
            }
            _ => torrents.sleepers(engine, which),
        };
        let mut any = matches!(which, Which::All | Which::Folder(_) | Which::Gone(_));
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
            stop(torrents, engine, managed);
            self.items.remove(at);
        }
        let mut stay = 0;
        for (id, info_hash) in sleepers {
            any = true;
            let sleeper = torrents.catalogue.borrow().read(id.slot);
            let path = sleeper.map(|sleeper| sleeper.path()).unwrap_or_default();
            if !self.would_be_found(path.parent(), which) {
                self.forget(torrents, engine, &[(id.slot, info_hash)]);
            } else if matches!(which, Which::All | Which::Folder(_)) {
                stay += 1;
            } else {
                say_where(&path);
            }
        }
        if stay > 0 {
            log::warn!(target: EVENT, "{stay} torrents asleep are in watched folders; remove them there");
        }
        if !any {
            say_nothing_there(which);
        }
        // Links whose metadata is fetched are given up at once, too.
        self.next_poll = Instant::now();
    }

    /// Whether what is in this folder would be found there again if it was removed.
    fn would_be_found(&self, folder: Option<&Path>, which: &Which) -> bool {
        let is_watched = |folder| self.watches.iter().any(|watch| watch.folder == folder);
        !matches!(which, Which::Gone(_)) && folder.is_some_and(is_watched)
    }

    fn pause(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        let sleepers = torrents.sleepers(engine, which);
        self.each_of(torrents, which, sleepers.len(), |managed, torrents| {
            if matches!(managed.stage, ItemStage::Paused | ItemStage::Ended(_)) {
                return;
            }
            if let ItemStage::Running(number) = managed.stage {
                torrents.drop_torrent(engine, number);
            }
            managed.stage = ItemStage::Paused;
            torrents.notices.tell(Notice::Paused(&managed.item.path));
        });
        for (id, _) in sleepers {
            if let Some(path) = torrents.pause_sleeper(engine, id) {
                torrents.notices.tell(Notice::Paused(&path));
            }
        }
        // Links whose metadata is fetched are given up at once, too.
        self.next_poll = Instant::now();
    }

    fn resume(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        let sleepers = torrents.sleepers(engine, which);
        self.each_of(torrents, which, sleepers.len(), |managed, torrents| {
            if managed.stage == ItemStage::Paused {
                managed.stage = match managed.item.fetch {
                    Some(_) => ItemStage::Ready,
                    None => ItemStage::Found,
                };
                torrents.notices.tell(Notice::Resumed(&managed.item.path));
            }
        });
        for (id, _) in sleepers {
            if let Some(path) = torrents.resume_sleeper(engine, id) {
                torrents.notices.tell(Notice::Resumed(&path));
            }
        }
        self.next_poll = Instant::now();
    }

    fn verify(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        let sleepers = torrents.sleepers(engine, which);
        self.each_of(torrents, which, sleepers.len(), |managed, torrents| {
            let ItemStage::Running(number) = managed.stage else {
                // A torrent that is not served is checked when it is opened, or when its files are back.
                return;
            };
            let mut torrents = torrents.managed.iter_mut();
            if let Some(torrent) = torrents.find(|torrent| torrent.number() == number) {
                torrent.verify(engine);
            }
        });
        let sleepers = sleepers.into_iter().map(|(id, _)| id);
        self.to_verify.extend(sleepers);
        self.to_verify
            .sort_unstable_by_key(|id| (id.slot, id.tenancy));
        self.to_verify.dedup();
        self.next_poll = Instant::now();
    }

    /// What sleeps is complete and has no goal, so that it is seeded whatever is asked for.
    fn set_goal(&mut self, torrents: &mut Torrents, engine: &Engine, which: &Which, goal: &Fetch) {
        let sleepers = torrents.sleepers(engine, which).len();
        if sleepers > 0 {
            log::warn!(
                target: EVENT,
                "{}: {sleepers} asleep are complete and are seeded on, as a goal is for what is downloaded",
                shown(which)
            );
        }
        self.each_of(torrents, which, sleepers, |managed, torrents| {
            managed.set_goal(torrents, goal);
        });
    }

    fn set_folder_goal(&mut self, torrents: &mut Torrents, goal: &Fetch) {
        let of_folder = |managed: &&mut LibraryItem| managed.folder.is_some();
        for managed in self.items.iter_mut().filter(of_folder) {
            managed.set_goal(torrents, goal);
        }
        self.config.download = Some(goal.clone());
    }

    fn watch(&mut self, folder: PathBuf) {
        if !self.watches.iter().any(|watch| watch.folder == folder) {
            self.watches.push(Watch::new(folder));
            self.watches_changed();
        }
    }

    fn unwatch(&mut self, torrents: &mut Torrents, engine: &mut Engine, folder: PathBuf) {
        self.watches.retain(|watch| watch.folder != folder);
        self.remove(torrents, engine, &Which::Folder(folder));
        self.watches_changed();
    }

    /// The running scan no longer counts.
    fn watches_changed(&mut self) {
        (self.survey, self.surveying) = (self.survey + 1, false);
        self.next_poll = Instant::now();
    }
}

impl LibraryItem {
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

fn say_nothing_there(which: &Which) {
    log::warn!(target: EVENT, "{}: there is no such item here", shown(which));
}

fn say_where(path: &Path) {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    log::warn!(target: EVENT, "{shown}: it is in a watched folder; remove it there");
}

fn shown(which: &Which) -> String {
    match which {
        Which::All => "everything".to_owned(),
        Which::Torrent(info_hash) => info_hash.to_string(),
        Which::Item(item) => mask_urls(&item.path.display().to_string()).to_string(),
        Which::Path(path) | Which::Folder(path) => {
            mask_urls(&path.display().to_string()).to_string()
        }
        Which::Gone(gone) => format!("{} files", gone.paths.len() + gone.asleep.len()),
    }
}
