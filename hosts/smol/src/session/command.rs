//! Commands to a session, as its first ones or while it runs.
//!
//! All front ends (the three verbs, SIGHUP, watched folders) send commands and hear [notices](super::Notice). None
//! reaches around them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use everseed_core::hash::InfoHash;

use super::watch::Seen;
use crate::alarm::Alarm;
use crate::options::get::Fetch;
use crate::options::rates::Rates;
use crate::options::run::{Config, Item};
use crate::secrets::mask_urls;

/// A command.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Seed an item, or download it first if it says so. An item that is there already stays as it is.
    Add(Box<Addition>),
    /// Stop an item and forget it. Its data stays. An item in a watched folder has to be removed there, as it would be
    /// found again.
    Remove(Which),
    /// Pause an item: nothing is sent or requested, and nobody is told of it until [`Resume`](Command::Resume), also
    /// after a restart with the same state.
    Pause(Which),
    /// Go on with a paused item.
    Resume(Which),
    /// Read all of an item from the disk and compare it with its hashes. Bad pieces of a download are downloaded
    /// again. The answer is [`Verified`](super::Notice::Verified), or [`NotVerified`](super::Notice::NotVerified) with
    /// the reason, for each item; what is being opened, or sleeps, has to get a place first.
    Verify(Which),
    /// Change an item's goal, or call other peers for it. What sleeps keeps the goal of its folder.
    SetGoal(Which, Box<Fetch>),
    /// Change the goal of downloads in watched folders, awake or asleep.
    SetFolderGoal(Box<Fetch>),
    /// Seed what is in a folder, now and later.
    Watch(PathBuf),
    /// Stop watching a folder, and stop everything in it.
    Unwatch(PathBuf),
    /// Change the limits, at once.
    SetLimits(Box<SessionLimits>),
    /// Change to another configuration: in place where that is possible, otherwise by starting anew.
    Reload(Box<Config>),
    /// Stop, as SIGTERM does, when the commands before it are carried out.
    Stop,
}

impl Command {
    /// Adds an item that somebody named.
    pub fn add(item: Item) -> Command {
        Command::Add(Box::new(Addition { item, found: None }))
    }
}

/// An item to add.
#[derive(Clone, PartialEq, Debug)]
pub struct Addition {
    /// The item.
    pub item: Item,
    /// The watched folder that it is in, unless somebody named it.
    pub found: Option<Found>,
}

/// The watched folder in which an item was found, and how the item looked.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The watched folder.
    pub(super) folder: PathBuf,
    /// The item's size and times.
    pub(super) seen: Option<Seen>,
}

/// The items that a command is about, awake or asleep.
#[derive(Clone, PartialEq, Debug)]
pub enum Which {
    /// All items.
    All,
    /// The torrent with this info-hash.
    Torrent(InfoHash),
    /// The item that was added like this, whatever its goal is now.
    Item(Box<Item>),
    /// The item at this path.
    Path(PathBuf),
    /// All items in this watched folder.
    Folder(PathBuf),
    /// Items that a watched folder no longer holds.
    Gone(Box<Gone>),
}

impl Which {
    /// The items in words; the passkey of a URL is hidden.
    pub(super) fn shown(&self) -> String {
        match self {
            Which::All => "everything".to_owned(),
            Which::Torrent(info_hash) => info_hash.to_string(),
            Which::Item(item) => mask_urls(&item.path.display().to_string()).to_string(),
            Which::Path(path) | Which::Folder(path) => {
                mask_urls(&path.display().to_string()).to_string()
            }
            Which::Gone(gone) => format!("{} files", gone.paths.len() + gone.asleep.len()),
        }
    }
}

/// Items that were found in a watched folder, and are no longer there or have changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Gone {
    pub(super) paths: Vec<PathBuf>,
    /// Sleeping torrents, each with its slot.
    pub(super) asleep: Vec<(u16, InfoHash)>,
}

/// A session's limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Upload limit in bytes per second.
    pub up: Option<u64>,
    /// Download limit in bytes per second.
    pub down: Option<u64>,
    /// Rates for some hours; the first that matches counts.
    pub rates: Vec<Rates>,
    /// Peers served at a time; `None`: follows the upload capacity.
    pub slots: Option<u16>,
    /// Peers connected at a time.
    pub peers: u16,
}

impl SessionLimits {
    /// The limits in a configuration.
    pub(super) fn of(config: &Config) -> SessionLimits {
        SessionLimits {
            up: config.seed.up,
            down: config.down,
            rates: config.rates.clone(),
            slots: config.seed.slots,
            peers: config.seed.max_peers,
        }
    }

    /// Writes these limits into a configuration.
    pub(super) fn hold_in(self, config: &mut Config) {
        config.seed.up = self.up;
        config.down = self.down;
        config.rates = self.rates;
        config.seed.slots = self.slots;
        config.seed.max_peers = self.peers;
    }
}

/// The commands that lead from one configuration to another. A start begins from an empty one.
pub(super) fn commands(from: &Config, to: &Config) -> Vec<Command> {
    let mut commands = Vec::new();
    if SessionLimits::of(from) != SessionLimits::of(to) {
        commands.push(Command::SetLimits(Box::new(SessionLimits::of(to))));
    }
    if let Some(goal) = to
        .download
        .as_ref()
        .filter(|_| from.download != to.download)
    {
        commands.push(Command::SetFolderGoal(Box::new(goal.clone())));
    }
    for item in &from.items {
        let which = || Which::Item(Box::new(item.clone()));
        match to.items.iter().find(|other| other.is_same(item)) {
            None => commands.push(Command::Remove(which())),
            Some(other) if other.fetch != item.fetch => {
                let goal = other.fetch.clone();
                commands.extend(goal.map(|goal| Command::SetGoal(which(), goal)));
            }
            Some(_) => {}
        }
    }
    let gone = from.watch.iter().filter(|watch| !to.watch.contains(watch));
    commands.extend(gone.cloned().map(Command::Unwatch));
    let new = to.watch.iter().filter(|watch| !from.watch.contains(watch));
    commands.extend(new.cloned().map(Command::Watch));
    let new = to.items.iter().filter(|item| {
        let mut items = from.items.iter();
        !items.any(|other| other.is_same(item))
    });
    commands.extend(new.cloned().map(Command::add));
    commands
}

/// The sender of commands to a session, usable on any thread. Commands that are sent before the session runs are
/// carried out first.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    waiting: Arc<Mutex<VecDeque<Command>>>,
    /// The alarm that wakes the session.
    alarm: Arc<OnceLock<Arc<Alarm>>>,
}

impl Commands {
    /// Sends a command. The session carries it out in its next turn, which comes at once. Returns false, and drops the
    /// command, if [`MOST_WAITING`] wait: then send it again later.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST_WAITING {
            return false;
        }
        waiting.push_back(command);
        drop(waiting);
        if let Some(alarm) = self.alarm.get() {
            alarm.ring();
        }
        true
    }

    /// Sets the alarm that wakes the session.
    pub(super) fn wake_by(&self, alarm: Arc<Alarm>) {
        let alarm = self.alarm.get_or_init(|| alarm);
        alarm.ring();
    }

    /// Whether a command to stop waits.
    pub(super) fn ask_to_stop(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.contains(&Command::Stop)
    }

    /// The next command.
    pub(super) fn next(&self) -> Option<Command> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }
}

/// Commands that wait at a time.
pub const MOST_WAITING: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::seed::SeedArgs;

    fn item(path: &str, no_seed: Option<bool>) -> Item {
        let fetch = no_seed.map(|no_seed| Fetch {
            no_seed,
            ..Fetch::default()
        });
        Item {
            path: path.into(),
            data: None,
            files: Vec::new(),
            fetch: fetch.map(Box::new),
        }
    }

    fn config(up: u64, watch: &[&str], items: &[Item]) -> Config {
        let args = SeedArgs {
            up: Some(up),
            ..SeedArgs::default()
        };
        Config {
            watch: watch.iter().map(PathBuf::from).collect(),
            items: items.to_vec(),
            ..Config::of_seed(args)
        }
    }

    #[test]
    fn a_start_and_changes_are_lists_of_commands() {
        let (a, b) = (item("a", None), item("b", Some(false)));
        let enough = item("b", Some(true));
        let which = |item: &Item| Which::Item(Box::new(item.clone()));
        let add = |item: &Item| Command::add(item.clone());
        let before = config(1, &["x", "y"], &[a.clone(), b.clone()]);
        let limits = |config: &Config| Command::SetLimits(Box::new(SessionLimits::of(config)));
        let faster = config(2, &["x", "y"], &[a.clone(), b.clone()]);
        let goal = Command::SetGoal(which(&b), enough.fetch.clone().unwrap());
        let table = [
            (before.without_items(), before.clone(), {
                let watched = ["x", "y"].map(|folder| Command::Watch(folder.into()));
                [&watched[..], &[add(&a), add(&b)]].concat()
            }),
            (before.clone(), before.clone(), vec![]),
            (before.clone(), faster.clone(), vec![limits(&faster)]),
            (
                before.clone(),
                config(1, &["y", "z"], &[enough, item("c", None)]),
                vec![
                    Command::Remove(which(&a)),
                    goal,
                    Command::Unwatch("x".into()),
                    Command::Watch("z".into()),
                    add(&item("c", None)),
                ],
            ),
        ];
        for (from, to, expected) in table {
            assert_eq!(commands(&from, &to), expected);
        }
    }

    #[test]
    fn commands_come_in_their_order_from_any_thread() {
        let commands = Commands::default();
        let theirs = commands.clone();
        let sent = std::thread::spawn(move || {
            theirs.send(Command::Pause(Which::All)) && theirs.send(Command::Resume(Which::All))
        });
        assert!(sent.join().unwrap());
        commands.wake_by(Alarm::new().unwrap());
        let got = [commands.next(), commands.next(), commands.next()];
        let (pause, resume) = (Command::Pause(Which::All), Command::Resume(Which::All));
        assert_eq!(got, [Some(pause), Some(resume), None]);
    }

    #[test]
    fn who_sends_too_many_hears_of_it() {
        let commands = Commands::default();
        let sent = (0..=MOST_WAITING).map(|_| commands.send(Command::Stop));
        assert_eq!(sent.filter(|&taken| taken).count(), MOST_WAITING);
        assert!(commands.next().is_some() && commands.send(Command::Stop));
    }
}
