//! What commands do to torrents that sleep.
//!
//! Their descriptions are read from the catalogue by a thread of their own, because a disk may be slow and there may be
//! tens of thousands. The session takes some of them in each turn. The next command is carried out when all of them
//! were handled, so commands keep their order.
//!
//! One that is paused, or has reached its goal, stays asleep whoever names it, and nobody is told of it. One that is to be verified is woken when
//! there is a place for it, one after the other.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use super::asleep::WakeUp;
use super::command::Which;
use super::index::names_torrent;
use super::library::Library;
use super::notice::Notice;
use super::sleeper_command::{Change, Meant, Reading, Sleeper, SleeperCommand};
use super::torrent::goal::Goal;
use super::torrents::Torrents;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::text::escape;

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
        match &command.reading {
            Reading::NotBegun(meant) if meant.is_nobody(&torrents.catalogue.borrow()) => {
                command.end()
            }
            _ => {
                self.sleepers.waiting.push_back(command);
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
        if let Some(mut look) = self.sleepers.looks_for_goals.take()
            && !self.go_on_with(torrents, engine, &mut look, until)
        {
            self.sleepers.looks_for_goals = Some(look);
        }
        while let Some(mut command) = self.sleepers.waiting.pop_front() {
            if self.go_on_with(torrents, engine, &mut command, until) {
                command.end();
                let to_verify = &mut self.sleepers.to_verify;
                to_verify.sort_unstable_by_key(|id| (id.slot, id.tenancy));
                to_verify.dedup();
                self.next_poll = Instant::now();
                continue;
            }
            self.sleepers.waiting.push_front(command);
            return false;
        }
        true
    }

    /// Goes on with a command: the sleepers that were read are changed. Returns whether these were the last.
    fn go_on_with(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        command: &mut SleeperCommand,
        until: Instant,
    ) -> bool {
        let read = match &command.reading {
            Reading::NotBegun(_) => return command.begin_to_read(torrents),
            Reading::Runs(read) => read,
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
                    left += usize::from(
                        !self.change_sleeper(torrents, engine, change, which, &sleeper),
                    );
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

    /// Changes a torrent that slept when it was read. Returns false if it is left as it is, which is told for all of them.
    fn change_sleeper(
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
            // It was woken meanwhile. The next scan finds whether it is gone.
            if !matches!(which, Which::Gone(_)) {
                self.change_items(torrents, engine, change, &Which::Torrent(info_hash));
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
                    None => self.sleepers.to_verify.push(id),
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
        if self.sleepers.next_goals.is_none_or(|at| now < at) {
            return;
        }
        let goal = self.config.download.as_ref().and_then(Goal::of);
        let has_time = goal.is_some_and(|goal| goal.time.is_some());
        self.sleepers.next_goals = has_time.then_some(now + GOALS);
        let meant = Meant::Goal(goal, Arc::clone(&torrents.state), self.begun.elapsed());
        let catalogue = torrents.catalogue.borrow();
        if catalogue.count() > 0 && (goal.is_some() || catalogue.has_any_ended()) {
            let look = SleeperCommand::new(Change::LookForGoal, Which::All, true, meant);
            self.sleepers.looks_for_goals = Some(look);
            torrents.alarm.ring();
        }
    }

    /// Has one of those that are to be verified woken, unless one is.
    pub(super) fn verify_sleepers(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let busy = |torrents: &Torrents| torrents.awake.iter().any(|t| t.checked().is_some());
        let waits = self
            .sleepers
            .verify_after
            .is_some_and(|at| Instant::now() < at);
        if waits || self.waking.iter().any(|waking| waking.verify) || busy(torrents) {
            return;
        }
        self.sleepers.verify_after = None;
        while let Some(id) = self.sleepers.to_verify.pop() {
            if let Some(waking) = self.waking.iter_mut().find(|waking| waking.id == id) {
                waking.verify = true;
                return;
            }
            if let Some(torrent) = torrents.awake.known_as_mut(id) {
                // It was woken meanwhile.
                torrent.verify(engine);
                return;
            }
            if !torrents.is_asleep(engine, id) {
                // It was removed, which was told.
                continue;
            }
            match self.open(torrents, engine, id, Vec::new(), true) {
                WakeUp::Begun => {}
                WakeUp::Refused => continue,
                WakeUp::Later => self.sleepers.to_verify.push(id),
            }
            return;
        }
    }
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
