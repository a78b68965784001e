//! What commands do to torrents that sleep.
//!
//! Their descriptions are read from the catalogue by a thread of their own, because a disk may be slow and there may be
//! tens of thousands. The session takes some of them in each turn. The next command is carried out when all of them
//! were handled, so commands keep their order.
//!
//! One that is paused, or has reached its goal, stays asleep whoever names it, and nobody is told of it. One that is to be verified is woken when
//! there is a place for it, one after the other.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_disk::read_torrent;
use everseed_node::Publicity;

use super::asleep::Opening;
use super::command::Which;
use super::index::names_torrent;
use super::library::Library;
use super::notice::Notice;
use super::torrent::goal::Goal;
use super::torrents::Torrents;
use crate::alarm::Alarm;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::storage::catalogue::Catalogue;
use crate::storage::dormant::DormantTorrent;
use crate::storage::state::StateFolder;
use crate::text::escape;

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
    change: Change,
    which: Which,
    /// Whether an item or a torrent was meant so far.
    any: bool,
    /// Those that are left as they are.
    left: usize,
    /// The last time at which something was read for it.
    moved_at: Instant,
    stage: Stage,
}

enum Stage {
    /// These are meant; the catalogue is not read yet.
    Waits(Meant),
    Reads(Receiver<Sleeper>),
}

/// A sleeping torrent that was read: its slot, what the catalogue says of it, and whether it has reached its goal, if
/// that was looked for.
type Sleeper = (u16, DormantTorrent, bool);

/// Sleeping torrents, as the thread that reads the catalogue looks for them.
enum Meant {
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

    fn is_nobody(&self, catalogue: &Catalogue) -> bool {
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
        let total = read_torrent(torrent).map(|metainfo| metainfo.geometry.total());
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

impl Library {
    /// Has a command carried out for those that sleep; `any` is whether it was for an item that is awake.
    pub(super) fn begin_for_sleepers(
        &mut self,
        torrents: &Torrents,
        engine: &Engine,
        change: Change,
        which: &Which,
        any: bool,
    ) {
        let meant = match which {
            Which::All => Meant::All,
            Which::Path(path) => Meant::Path(path.clone()),
            Which::Folder(folder) => Meant::Folder(folder.clone()),
            Which::Torrent(info_hash) => {
                let id = engine.node.find(*info_hash);
                let id = id.filter(|&id| torrents.is_asleep(engine, id));
                Meant::Slots(id.map(|id| id.slot).into_iter().collect())
            }
            Which::Gone(gone) => Meant::Slots(gone.asleep.iter().map(|&(slot, _)| slot).collect()),
            // What is named one by one never sleeps.
            Which::Item(_) => Meant::Slots(Vec::new()),
        };
        let any = any || matches!(which, Which::All | Which::Folder(_) | Which::Gone(_));
        let command = SleeperCommand::new(change, which.clone(), any, meant);
        match &command.stage {
            Stage::Waits(meant) if meant.is_nobody(&torrents.catalogue.borrow()) => command.end(),
            _ => {
                self.for_sleepers.push_back(command);
                torrents.alarm.ring();
            }
        }
    }

    /// Goes on with commands for those that sleep, for some time. Returns whether all are carried out.
    pub(super) fn go_on_for_sleepers(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
    ) -> bool {
        let until = Instant::now() + SLICE;
        if let Some(mut look) = self.looks_for_goals.take()
            && !self.go_on_with(torrents, engine, &mut look, until)
        {
            self.looks_for_goals = Some(look);
        }
        while let Some(mut command) = self.for_sleepers.pop_front() {
            if self.go_on_with(torrents, engine, &mut command, until) {
                command.end();
                self.to_verify
                    .sort_unstable_by_key(|id| (id.slot, id.tenancy));
                self.to_verify.dedup();
                self.next_poll = Instant::now();
                continue;
            }
            self.for_sleepers.push_front(command);
            return false;
        }
        true
    }

    /// Returns whether that was the end of a command.
    fn go_on_with(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        command: &mut SleeperCommand,
        until: Instant,
    ) -> bool {
        match &command.stage {
            Stage::Waits(_) => command.begin_to_read(torrents),
            Stage::Reads(_) => self.change_some(torrents, engine, command, until),
        }
    }

    /// Changes the sleepers that were read. Returns whether these were the last.
    fn change_some(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        command: &mut SleeperCommand,
        until: Instant,
    ) -> bool {
        let Stage::Reads(read) = &command.stage else {
            return false;
        };
        let (mut left, mut handled) = (0, 0);
        let ended = loop {
            if handled == MOST_A_TURN || Instant::now() >= until {
                torrents.alarm.ring();
                break false;
            }
            match read.try_recv() {
                Ok(sleeper) => {
                    handled += 1;
                    let (change, which) = (command.change, &command.which);
                    left += usize::from(!self.change(torrents, engine, change, which, &sleeper));
                }
                // The reader rings when it has read another one, and when it ends.
                Err(TryRecvError::Empty) => break false,
                Err(TryRecvError::Disconnected) => break true,
            }
        };
        command.left += left;
        if handled > 0 {
            command.any = true;
            command.moved_at = Instant::now();
        }
        ended
    }

    /// Whether a command waits for a disk that has not answered for long.
    pub(super) fn is_stuck(&self) -> bool {
        let first = self.for_sleepers.front();
        first.is_some_and(|command| command.moved_at.elapsed() >= STUCK)
    }

    /// Changes a torrent that slept when it was read. Returns false if it is left as it is, which is told for all of them.
    fn change(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        change: Change,
        which: &Which,
        (slot, sleeper, reached): &Sleeper,
    ) -> bool {
        let slot = *slot;
        let info_hash = sleeper.info_hash();
        // Another torrent may have the slot by now.
        let Some(id) = engine.node.find(info_hash).filter(|id| id.slot == slot) else {
            return true;
        };
        if let Which::Gone(gone) = which
            && !gone.asleep.contains(&(slot, info_hash))
        {
            return true;
        }
        if !torrents.is_asleep(engine, id) {
            // It was woken meanwhile.
            let awake = Which::Torrent(info_hash);
            match change {
                Change::Pause => _ = self.pause_items(torrents, engine, &awake),
                Change::Resume => _ = self.resume_items(torrents, &awake),
                Change::Verify => _ = self.verify_items(torrents, engine, &awake),
                Change::Remove if !matches!(which, Which::Gone(_)) => {
                    _ = self.remove_items(torrents, engine, &awake);
                }
                // The next scan finds that an item is gone.
                Change::Remove | Change::SetGoal | Change::LookForGoal => {}
            }
            return true;
        }
        let path = sleeper.path();
        match change {
            Change::Pause => {
                if torrents.pause_sleeper(engine, id, sleeper) {
                    torrents.notices.tell(Notice::Paused(&path));
                }
            }
            Change::Resume => {
                if torrents.resume_sleeper(engine, id, sleeper) {
                    torrents.notices.tell(Notice::Resumed(&path));
                }
            }
            Change::Verify => {
                let silent = torrents.catalogue.borrow().why_silent(id);
                match silent {
                    Some(why) => torrents
                        .notices
                        .tell(Notice::NotVerified { path: &path, why }),
                    None => self.to_verify.push(id),
                }
            }
            Change::LookForGoal if *reached => torrents.end_sleeper(engine, id, sleeper),
            Change::LookForGoal => torrents.go_on_after_goal(engine, id, sleeper),
            Change::Remove if !self.would_be_found(path.parent(), which) => {
                if !matches!(which, Which::Gone(_)) {
                    torrents.set_paused(&path, false);
                }
                self.forget(torrents, engine, id, sleeper);
            }
            Change::Remove if matches!(which, Which::All | Which::Folder(_)) => return false,
            Change::Remove => say_where(&path),
            Change::SetGoal => return false,
        }
        true
    }

    /// The goal of a torrent in a watched folder.
    pub(super) fn goal_of(&self, path: &Path) -> Option<Goal> {
        let fetch = self.config.download.as_ref();
        fetch.filter(|_| names_torrent(path)).and_then(Goal::of)
    }

    /// Looks which of those that sleep have reached their goal: when it has changed, and once an hour if it is a time.
    pub(super) fn look_for_goals(&mut self, torrents: &Torrents, now: Instant) {
        if self.next_goals.is_none_or(|at| now < at) {
            return;
        }
        let goal = self.config.download.as_ref().and_then(Goal::of);
        let has_time = goal.is_some_and(|goal| goal.time.is_some());
        self.next_goals = has_time.then_some(now + GOALS);
        let meant = Meant::Goal(goal, Arc::clone(&torrents.state), self.begun.elapsed());
        let catalogue = torrents.catalogue.borrow();
        if catalogue.count() > 0 && (goal.is_some() || catalogue.has_any_ended()) {
            let look = SleeperCommand::new(Change::LookForGoal, Which::All, true, meant);
            self.looks_for_goals = Some(look);
            torrents.alarm.ring();
        }
    }

    /// Has one of those that are to be verified woken, unless one is.
    pub(super) fn verify_sleepers(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let busy = |torrents: &Torrents| torrents.managed.iter().any(|t| t.checked().is_some());
        let waits = self.verify_after.is_some_and(|at| Instant::now() < at);
        if waits || self.waking.iter().any(|waking| waking.verify) || busy(torrents) {
            return;
        }
        self.verify_after = None;
        while let Some(id) = self.to_verify.pop() {
            if let Some(waking) = self.waking.iter_mut().find(|waking| waking.id == id) {
                waking.verify = true;
                return;
            }
            if let Some(torrent) = torrents.managed.iter_mut().find(|t| t.is_known_as(id)) {
                // It was woken meanwhile.
                torrent.verify(engine);
                return;
            }
            if !torrents.is_asleep(engine, id) {
                // It was removed, which was told.
                continue;
            }
            match self.open(torrents, engine, id, Vec::new(), true) {
                Opening::Begun => {}
                Opening::Refused => continue,
                Opening::Later => self.to_verify.push(id),
            }
            return;
        }
    }
}

impl SleeperCommand {
    fn new(change: Change, which: Which, any: bool, meant: Meant) -> SleeperCommand {
        SleeperCommand {
            change,
            which,
            any,
            left: 0,
            moved_at: Instant::now(),
            stage: Stage::Waits(meant),
        }
    }

    /// Has a thread read the catalogue. Returns true if there is none.
    fn begin_to_read(&mut self, torrents: &Torrents) -> bool {
        let all = Meant::Slots(Vec::new());
        let Stage::Waits(meant) = std::mem::replace(&mut self.stage, Stage::Waits(all)) else {
            return false;
        };
        let alarm = Arc::clone(&torrents.alarm);
        let started = torrents
            .catalogue
            .borrow()
            .snapshot()
            .and_then(|catalogue| {
                let (give, read) = sync_channel(READ_AHEAD);
                let work = move || read_for(&meant, &catalogue, &give, &alarm);
                let thread = thread::Builder::new().name("catalogue".into());
                thread.stack_size(STACK).spawn(work)?;
                Ok(read)
            });
        match started {
            Ok(read) => {
                (self.stage, self.moved_at) = (Stage::Reads(read), Instant::now());
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
    fn end(&self) {
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

impl Torrents {
    /// Whether it sleeps, and is not what was woken and is away.
    pub(super) fn is_asleep(&self, engine: &Engine, id: TorrentId) -> bool {
        engine.node.is_asleep(id)
            && self.catalogue.borrow().holds(id.slot)
            && !self.managed.iter().any(|torrent| torrent.is_known_as(id))
    }

    /// Has the node announce a torrent that sleeps; answers how many tiers of its trackers there was no room for.
    pub(super) fn announce_sleeper(
        &self,
        engine: &Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) -> usize {
        let mut left_out = 0;
        for (tier, trackers) in (0..=u8::MAX).zip(sleeper.tiers_or(&self.named_trackers)) {
            let learn = |url: &String| self.tracker.borrow_mut().learn(url);
            trackers.iter().for_each(learn);
            let trackers = u8::try_from(trackers.len()).unwrap_or(u8::MAX);
            left_out += usize::from(engine.node.announce(id, tier, trackers).is_err());
        }
        left_out
    }

    /// Nobody is told of it and nobody wakes it from now on. Returns false if it was so before.
    fn pause_sleeper(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) -> bool {
        if !self.catalogue.borrow_mut().pause(id, true) {
            return false;
        }
        self.set_paused(&sleeper.path(), true);
        self.silence(engine, id, sleeper);
        true
    }

    /// It goes on. Returns false if it was not paused.
    fn resume_sleeper(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) -> bool {
        if !self.catalogue.borrow_mut().pause(id, false) {
            return false;
        }
        self.set_paused(&sleeper.path(), false);
        self.announce_again(engine, id, sleeper);
        true
    }

    /// It has reached its goal: nobody is told of it from now on.
    fn end_sleeper(&mut self, engine: &mut Engine, id: TorrentId, sleeper: &DormantTorrent) {
        if self.catalogue.borrow_mut().end(id, true) {
            let path = sleeper.path();
            let shown = escape(path.as_os_str().as_encoded_bytes());
            log::warn!(target: EVENT, "{shown}: it has reached its goal");
            self.silence(engine, id, sleeper);
        }
    }

    /// Its goal was changed, and it has not reached the new one.
    fn go_on_after_goal(&mut self, engine: &mut Engine, id: TorrentId, sleeper: &DormantTorrent) {
        if self.catalogue.borrow_mut().end(id, false) {
            self.announce_again(engine, id, sleeper);
        }
    }

    /// Nobody is told of it.
    fn silence(&mut self, engine: &mut Engine, id: TorrentId, sleeper: &DormantTorrent) {
        if sleeper.is_public() {
            engine.node.publish(id, Publicity::NONE);
        }
        engine.node.forget_trackers(id);
        self.tracker.borrow_mut().remove(sleeper.info_hash());
        // Who waits for it is let go.
        engine.sleep(id);
    }

    /// Others are told of it again, unless it is paused or has reached its goal.
    fn announce_again(&mut self, engine: &mut Engine, id: TorrentId, sleeper: &DormantTorrent) {
        if self.catalogue.borrow().why_silent(id).is_some() {
            return;
        }
        engine.node.publish(id, publicity(engine, sleeper));
        let left_out = self.announce_sleeper(engine, id, sleeper);
        if left_out > 0 {
            let path = sleeper.path();
            let shown = escape(path.as_os_str().as_encoded_bytes());
            log::error!(
                "{shown}: no room to announce to {left_out} of its tiers of trackers; raise memory ="
            );
        }
    }
}

/// By what peers of a torrent that sleeps may be found.
pub(super) fn publicity(engine: &Engine, sleeper: &DormantTorrent) -> Publicity {
    match sleeper.is_public() {
        true => engine.publicity,
        false => Publicity::PRIVATE,
    }
}

fn say_nothing_there(which: &Which) {
    log::warn!(target: EVENT, "{}: there is no such item here", which.shown());
}

/// Says that an item of a watched folder has to be removed there.
pub(super) fn say_where(path: &Path) {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    log::warn!(target: EVENT, "{shown}: it is in a watched folder; remove it there");
}

/// The interval at which it is looked which of those that sleep have been seeded for long enough.
const GOALS: Duration = Duration::from_secs(3600);

/// The time that one turn takes for those that sleep, and the most of them.
const SLICE: Duration = Duration::from_millis(20);
pub(super) const MOST_A_TURN: usize = 256;

/// The time after which a disk that tells nothing of the catalogue keeps nobody from stopping the session.
const STUCK: Duration = Duration::from_secs(5);

/// Sleepers that are read before the session takes them; each may take [`LONGEST`](crate::storage::catalogue) bytes.
const READ_AHEAD: usize = 8;

/// Stack of the thread that reads, in bytes.
const STACK: usize = 256 * 1024;
