//! Carrying out commands.

use std::path::PathBuf;
use std::time::Instant;

use super::Session;
use super::command::{Command, SessionLimits, Which, commands};
use super::item::{ItemStage, LibraryItem};
use super::library::{Library, stop};
use super::notice::Notice;
use super::reload::program;
use super::torrents::Torrents;
use super::watch::Watch;
use crate::logging::flood::EVENT;
use crate::logging::set_log;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::options::run::{Config, Item};
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
            Command::Resume(which) => library.resume(torrents, &which),
            Command::Verify(which) => library.verify(torrents, engine, &which),
            Command::SetGoal(which, goal) => library.set_goal(torrents, &which, &goal),
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
    pub(super) fn add(&mut self, item: Item) {
        if self.items.iter().any(|known| known.item == item) {
            return;
        }
        let stage = match item.fetch {
            Some(_) => ItemStage::Ready,
            None => ItemStage::Found,
        };
        self.items.push(LibraryItem::new(item, None, None, stage));
        self.next_poll = Instant::now();
    }

    /// Calls `each` for all items that are meant. If there are none, a notice says so.
    fn each_of(
        &mut self,
        torrents: &mut Torrents,
        which: &Which,
        mut each: impl FnMut(&mut LibraryItem, &mut Torrents),
    ) {
        let mut any = *which == Which::All;
        for managed in &mut self.items {
            if managed.is(which) {
                any = true;
                each(managed, torrents);
            }
        }
        if !any {
            log::warn!(target: EVENT, "{}: nothing like that is looked after here", shown(which));
        }
    }

    fn remove(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        self.each_of(torrents, which, |managed, torrents| {
            if managed.folder.is_some() {
                // It would be found in its folder again.
                let shown = escape(managed.item.path.as_os_str().as_encoded_bytes());
                return log::warn!(target: EVENT, "{shown}: it is in a watched folder; remove it there");
            }
            stop(torrents, engine, managed);
            managed.stage = ItemStage::Ended(0);
        });
        self.items
            .retain(|managed| managed.folder.is_some() || !managed.is(which));
    }

    fn pause(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        self.each_of(torrents, which, |managed, torrents| {
            if matches!(managed.stage, ItemStage::Paused | ItemStage::Ended(_)) {
                return;
            }
            if let ItemStage::Running(number) = managed.stage {
                torrents.drop_torrent(engine, number);
            }
            managed.stage = ItemStage::Paused;
            torrents.notices.tell(Notice::Paused(&managed.item.path));
        });
        // Links whose metadata is fetched are given up at once, too.
        self.next_poll = Instant::now();
    }

    fn resume(&mut self, torrents: &mut Torrents, which: &Which) {
        self.each_of(torrents, which, |managed, torrents| {
            if managed.stage == ItemStage::Paused {
                managed.stage = match managed.item.fetch {
                    Some(_) => ItemStage::Ready,
                    None => ItemStage::Found,
                };
                torrents.notices.tell(Notice::Resumed(&managed.item.path));
            }
        });
        self.next_poll = Instant::now();
    }

    fn verify(&mut self, torrents: &mut Torrents, engine: &mut Engine, which: &Which) {
        self.each_of(torrents, which, |managed, torrents| {
            let ItemStage::Running(number) = managed.stage else {
                // A torrent that is not served is checked when it is opened, or when its files are back.
                return;
            };
            let mut torrents = torrents.managed.iter_mut();
            if let Some(torrent) = torrents.find(|torrent| torrent.number() == number) {
                torrent.verify(engine);
            }
        });
    }

    fn set_goal(&mut self, torrents: &mut Torrents, which: &Which, goal: &Fetch) {
        self.each_of(torrents, which, |managed, torrents| {
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
        let of_it = |managed: &LibraryItem| managed.folder.as_ref() == Some(&folder);
        for managed in self.items.iter().filter(|managed| of_it(managed)) {
            stop(torrents, engine, managed);
        }
        self.items.retain(|managed| !of_it(managed));
        self.watches.retain(|watch| watch.folder != folder);
        self.forget_unwatched(torrents, engine);
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
        }
    }
}

fn shown(which: &Which) -> String {
    match which {
        Which::All => "everything".to_owned(),
        Which::Torrent(info_hash) => info_hash.to_string(),
        Which::Item(item) => mask_urls(&item.path.display().to_string()).to_string(),
        Which::Path(path) => mask_urls(&path.display().to_string()).to_string(),
    }
}
