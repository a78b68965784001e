//! A command for torrents that sleep: which are meant, and the thread that reads them from the catalogue.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_disk::identify_torrent;

use super::command::Which;
use super::index::names_torrent;
use super::torrent::goal::Goal;
use super::torrents::Torrents;
use crate::alarm::Alarm;
use crate::logging::flood::EVENT;
use crate::storage::catalogue::Catalogue;
use crate::storage::dormant::DormantTorrent;
use crate::storage::state::StateFolder;

/// What is being done to sleeping torrents.
pub(super) struct SleeperCommands {
    /// Commands that are being carried out, in their order.
    pub(super) waiting: VecDeque<SleeperCommand>,
    /// The next time at which it is looked which have reached their goal.
    pub(super) next_goals: Option<Instant>,
    /// That look, while it goes on. Commands do not wait for it.
    pub(super) looks_for_goals: Option<SleeperCommand>,
    /// Those that are to be verified.
    pub(super) to_verify: Vec<TorrentId>,
    /// When that goes on, if all that are awake had peers.
    pub(super) verify_after: Option<Instant>,
}

impl SleeperCommands {
    pub(super) fn new() -> SleeperCommands {
        SleeperCommands {
            waiting: VecDeque::new(),
            next_goals: Some(Instant::now()),
            looks_for_goals: None,
            to_verify: Vec::new(),
            verify_after: None,
        }
    }

    /// Whether a command waits for a disk that has not answered for long.
    pub(super) fn is_stuck(&self) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|command| command.moved_at.elapsed() >= STUCK)
    }
}

/// What a command does to each torrent that sleeps and is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Pause,
    Resume,
    Verify,
    Remove,
    SetGoal,
    /// Look whether it has reached the goal of its folder.
    LookForGoal,
}

/// A command that is being carried out for those that sleep.
pub(super) struct SleeperCommand {
    pub(super) change: Change,
    pub(super) which: Which,
    /// Whether an item or a torrent was meant so far.
    pub(super) any: bool,
    /// Those that are left as they are.
    pub(super) left: usize,
    /// The last time at which something was read for it.
    pub(super) moved_at: Instant,
    pub(super) reading: Reading,
}

/// The thread that reads the catalogue for a command.
pub(super) enum Reading {
    /// These are meant; the catalogue is not read yet.
    NotBegun(Meant),
    Runs(Receiver<Sleeper>),
}

/// A sleeping torrent that was read: its slot, what the catalogue says of it, and whether it has reached its goal, if
/// that was looked for.
pub(super) type Sleeper = (u16, DormantTorrent, bool);

/// Sleeping torrents, as the thread that reads the catalogue looks for them.
pub(super) enum Meant {
    All,
    Path(PathBuf),
    Folder(PathBuf),
    Slots(Vec<u16>),
    /// Those for which it is news whether they have reached their folder's goal.
    Goal(Option<Goal>, Arc<StateFolder>, Duration),
}

impl Meant {
    fn holds(&self, sleeper: &DormantTorrent) -> bool {
        match self {
            Meant::Path(path) => sleeper.path() == *path,
            Meant::Folder(folder) => sleeper.path().parent() == Some(folder),
            Meant::All | Meant::Slots(_) | Meant::Goal(..) => true,
        }
    }

    pub(super) fn is_nobody(&self, catalogue: &Catalogue) -> bool {
        match self {
            Meant::Slots(slots) => slots.is_empty(),
            _ => catalogue.count() == 0,
        }
    }

    /// Whether a torrent that sleeps has reached the goal that is looked for.
    fn has_reached(&self, sleeper: &DormantTorrent) -> bool {
        let Meant::Goal(Some(goal), state, uptime) = self else {
            return false;
        };
        let (info_hash, path) = (sleeper.info_hash(), sleeper.path());
        if !names_torrent(&path) {
            return false;
        }
        let seeded = state.seeded_asleep(info_hash, *uptime);
        if !goal.has_ratio() {
            return goal.is_reached(seeded, || 0, u64::MAX);
        }
        let made = state.torrent_file(info_hash);
        let torrent = if made.is_file() { &made } else { &path };
        let total = identify_torrent(torrent).map(|metainfo| metainfo.geometry.total());
        // Without its size only its time counts.
        let sent = || state.uploaded(info_hash);
        goal.is_reached(seeded, sent, total.unwrap_or(u64::MAX))
    }

    fn read(&self, catalogue: &Catalogue, take: impl Fn(Sleeper) -> io::Result<()>) {
        let read = match self {
            Meant::Slots(slots) => slots.iter().try_for_each(|&slot| {
                let sleeper = catalogue.read(slot);
                sleeper.map_or(Ok(()), |sleeper| take((slot, sleeper, false)))
            }),
            Meant::Goal(..) => catalogue.each(|slot, sleeper| {
                let reached = self.has_reached(sleeper);
                match reached == catalogue.has_ended(slot) {
                    true => Ok(()),
                    false => take((slot, sleeper.clone(), reached)),
                }
            }),
            _ => catalogue.each(|slot, sleeper| match self.holds(sleeper) {
                true => take((slot, sleeper.clone(), false)),
                false => Ok(()),
            }),
        };
        match read {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                log::error!(
                    "the catalogue cannot be read, so some that sleep stay as they are: {error}"
                );
            }
            _ => {}
        }
    }
}

impl SleeperCommand {
    pub(super) fn new(change: Change, which: Which, any: bool, meant: Meant) -> SleeperCommand {
        SleeperCommand {
            change,
            which,
            any,
            left: 0,
            moved_at: Instant::now(),
            reading: Reading::NotBegun(meant),
        }
    }

    /// Has a thread read the catalogue. Returns true if there is none.
    pub(super) fn begin_to_read(&mut self, torrents: &Torrents) -> bool {
        let all = Meant::Slots(Vec::new());
        let Reading::NotBegun(meant) = std::mem::replace(&mut self.reading, Reading::NotBegun(all))
        else {
            return false;
        };
        let alarm = Arc::clone(&torrents.alarm);
        let catalogue = torrents.catalogue.borrow().snapshot();
        let (give, read) = sync_channel(READ_AHEAD);
        let work = move || read_for(&meant, &catalogue, &give, &alarm);
        let thread = thread::Builder::new().name("catalogue".into());
        match thread.stack_size(STACK).spawn(work) {
            Ok(_) => {
                (self.reading, self.moved_at) = (Reading::Runs(read), Instant::now());
                false
            }
            Err(error) => {
                log::error!(
                    "{}: the catalogue cannot be read, so those that sleep stay as they are: {error}",
                    self.which.shown()
                );
                true
            }
        }
    }

    /// Says what it did not do.
    pub(super) fn end(&self) {
        let (which, left) = (self.which.shown(), self.left);
        match self.change {
            _ if !self.any => say_nothing_there(&self.which),
            Change::Remove if left > 0 => log::warn!(
                target: EVENT,
                "{left} torrents asleep are in watched folders; remove them there"
            ),
            Change::SetGoal if left > 0 => log::warn!(
                target: EVENT,
                "{which}: {left} asleep keep the goal of their folder; change that one"
            ),
            _ => {}
        }
    }
}

fn read_for(meant: &Meant, catalogue: &Catalogue, give: &SyncSender<Sleeper>, alarm: &Alarm) {
    meant.read(catalogue, |sleeper| {
        let given = give.send(sleeper);
        alarm.ring();
        given.map_err(|_| io::ErrorKind::BrokenPipe.into())
    });
}

fn say_nothing_there(which: &Which) {
    log::warn!(target: EVENT, "{}: there is no such item here", which.shown());
}

/// Sleepers that are read before the session takes them; each may take [`LONGEST`](crate::storage::catalogue) bytes.
const READ_AHEAD: usize = 8;

/// The time after which a disk that tells nothing of the catalogue keeps nobody from stopping the session.
const STUCK: Duration = Duration::from_secs(5);

/// Stack of the thread that reads, in bytes.
const STACK: usize = 256 * 1024;
