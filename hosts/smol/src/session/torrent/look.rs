//! Looks at a torrent's files, which may vanish, come back or change.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_disk::{ReadError, WriteError};
use everseed_node::{Event, Have};

use super::stage::Stage;
use super::{ASLEEP, AWAY, EVERY, ManagedTorrent, SOON};
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::session::download::{self, DownloadStage};
use crate::session::notice::Notice;
use crate::storage::state::StateFolder;
use crate::storage::worker::{Look, Task};

impl ManagedTorrent {
    /// The files could not be read.
    pub(crate) fn unreadable(&mut self, error: &ReadError) {
        self.leave_for(self.id(), error, what_then(error));
    }

    /// Has the files looked at soon: at most once a second, because somebody may go on writing to them.
    pub(super) fn look_soon(&mut self, touched: bool) {
        self.touched |= touched;
        self.next_look = self.next_look.min(self.looked_at + SOON);
        self.asleep_until = self.next_look;
    }

    /// A download cannot begin, which is logged once.
    pub(super) fn wait_for_files(&mut self, error: &WriteError, news: bool) {
        if news {
            return self.leave(None, error);
        }
        self.stage = Stage::Away(None);
        self.next_look = Instant::now() + AWAY;
    }

    pub(super) fn leave(&mut self, id: Option<TorrentId>, error: &dyn Display) {
        self.leave_for(id, error, FILES_AWAY);
    }

    fn leave_for(&mut self, id: Option<TorrentId>, error: &dyn Display, then: &str) {
        let reason = error.to_string();
        let text = format!(
            "{}: {reason}; {then} every {} s",
            self.name(),
            AWAY.as_secs(),
        );
        // A disk that fails again and again is no news each time.
        match self.reason == reason {
            true => log::error!("{text}"),
            false => log::error!(target: EVENT, "{text}"),
        }
        if self.is_downloading() {
            self.forget_settling();
            self.content.close_folder();
            self.doubt_files();
        }
        self.stage = Stage::Away(id);
        self.reason = reason;
        self.next_look = Instant::now() + AWAY;
        self.give_up_verifying(&error);
    }

    /// Has the files looked at when that is due: whether they are unchanged, or are back.
    pub(crate) fn look(&mut self, engine: &Engine, now: Instant) {
        let ours = self.is_downloading() && !self.is_away();
        if self.looking || self.stage.is_checking() || ours || now < self.next_look {
            return;
        }
        if self.leaves_idle && !self.is_away() && now < self.asleep_until {
            let stats = self.id().and_then(|id| engine.node.torrent(id));
            if stats.is_none_or(|stats| stats.conns == 0) {
                return;
            }
        }
        self.asleep_until = now + ASLEEP;
        self.looking = true;
        self.looked_at = now;
        // A hundredth of a second more for each file, so that a folder of very many is looked at seldom.
        let files = Duration::from_millis(10) * self.content.metainfo().file_count;
        let pause = if self.is_away() {
            AWAY
        } else {
            EVERY.max(files)
        };
        self.next_look = now + pause;
        // To know that a failing disk is back, it has to be read.
        let task = Task::Look(Arc::clone(&self.content), self.number, self.is_away());
        engine.worker.ask(task);
    }

    pub(super) fn looked(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        look: Result<Look, ReadError>,
    ) {
        let placed = match self.is_away() {
            true => self.in_place(state),
            false => Ok(()),
        };
        if let (Stage::Away(id), true, true) = (&self.stage, self.is_downloading(), placed.is_ok())
        {
            let id = *id;
            return self.go_on(engine, state, id, look);
        }
        let look = match (placed.and(look), self.stage.served()) {
            (Ok(look), _) => look,
            (Err(error), Some(id)) => {
                engine.tell(Event::Unreadable(id));
                engine.forget_files(&self.content);
                return self.leave_for(Some(id), &error, what_then(&error));
            }
            (Err(error), _) => return self.still_away(&error),
        };
        if self.is_away() {
            self.keep_place(state);
        }
        let touched = std::mem::take(&mut self.touched);
        let unchanged = look.fingerprint == self.fingerprint && !touched;
        match self.stage {
            Stage::Serving(id) | Stage::Downloading(id) if unchanged && engine.is_readable(id) => {
                self.look_for_damage(engine, id);
            }
            Stage::Serving(id) | Stage::Downloading(id) if !engine.is_readable(id) => {
                self.has_changed = !unchanged;
                // The node has no memory for the bits of verified pieces.
                log::info!("{}: all of it is checked, as memory is short", self.name());
                engine.forget_files(&self.content);
                self.fingerprint = look.fingerprint;
                self.check(engine, Some(id));
            }
            Stage::Serving(id) | Stage::Downloading(id) | Stage::Away(Some(id)) => {
                self.has_changed = !unchanged;
                self.come_back(engine, id, &look, unchanged);
            }
            Stage::Away(None) => {
                log::warn!(target: EVENT, "{}: its files are back", self.name());
                self.begin(engine, state, None, Some(look.fingerprint));
            }
            Stage::Checking { .. } => {}
        }
    }

    /// Goes on with a download whose disk is there, with its files or without them: what is gone comes again.
    fn go_on(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        id: Option<TorrentId>,
        look: Result<Look, ReadError>,
    ) {
        // The disk that it lay on is to be let go, if there is another one now.
        self.content.close_folder();
        // Its files need not exist yet.
        let Some(id) = id else {
            return self.begin_late(engine, state);
        };
        let had_some = engine.node.torrent(id).is_some_and(|stats| stats.good > 0);
        match look {
            Ok(_) if had_some => log::warn!("{}: its files are back, and are checked", self.name()),
            Err(error) if !error.is_absence() => return self.still_away(&error),
            Err(error) if had_some => log::warn!(
                "{}: {error}, but its disk is there: what is gone is downloaded again",
                self.name()
            ),
            _ => {}
        }
        self.keep_place(state);
        self.begin_again(engine, id);
    }

    /// Checks all of a download, and makes what is missing of its files as at its beginning.
    pub(super) fn begin_again(&mut self, engine: &mut Engine, id: TorrentId) {
        engine.forget_files(&self.content);
        self.check(engine, Some(id));
        if let Some(download) = &mut self.download {
            download.stage = DownloadStage::Begins;
        }
    }

    /// Logs why its files are still away, if that has changed.
    fn still_away(&mut self, error: &ReadError) {
        let reason = error.to_string();
        if self.reason != reason {
            log::error!(target: EVENT, "{}: {reason}; it waits for its files", self.name());
            self.reason = reason;
        }
    }

    /// A download's disk is away, or a file of it. Writes may be lost with it, so everything is checked when it is back.
    pub(super) fn vanished(&mut self, engine: &mut Engine, id: TorrentId, error: &dyn Display) {
        engine.tell(Event::Unreadable(id));
        engine.tell(Event::Writable(id));
        engine.forget_files(&self.content);
        self.leave(Some(id), error);
    }

    /// Verifies all pieces again, because somebody asked for it. Nothing is sent of a piece before it is verified. A
    /// check that is running is what was asked for.
    pub(crate) fn verify(&mut self, engine: &mut Engine) {
        match self.stage {
            Stage::Serving(id) | Stage::Downloading(id) => {
                log::warn!("{}: all of it is checked, as was asked for", self.name());
                engine.tell(Event::Unreadable(id));
                engine.forget_files(&self.content);
                self.check(engine, Some(id));
            }
            Stage::Checking { .. } => {}
            Stage::Away(_) => return self.refuse_to_verify(&"its files are away"),
        }
        self.asked_to_verify = true;
    }

    /// Tells that it is not verified although that was asked for.
    fn refuse_to_verify(&self, why: &dyn Display) {
        self.notices.tell(Notice::NotVerified {
            path: &self.content.root(),
            why: &why.to_string(),
        });
    }

    /// Tells whoever asked for a check that it ends, without a result, for this reason.
    pub(super) fn give_up_verifying(&mut self, why: &dyn Display) {
        if std::mem::take(&mut self.asked_to_verify) {
            self.refuse_to_verify(why);
        }
    }

    /// Tells whoever asked for a check that so many pieces are good.
    pub(super) fn tell_verified(&mut self, good: u32) {
        if std::mem::take(&mut self.asked_to_verify) {
            self.notices.tell(Notice::Verified {
                name: self.content.name(),
                pieces: (good, self.content.geometry().pieces()),
            });
        }
    }

    /// Begins a download that had to wait for its disk.
    pub(super) fn begin_late(&mut self, engine: &mut Engine, state: &StateFolder) {
        if let Some(download) = &mut self.download
            && let Err(error) = download::make_folder(&self.content, download)
        {
            return log::debug!("{}: {error}", self.name());
        }
        if self
            .download
            .as_ref()
            .is_some_and(|d| d.last_message.is_empty())
        {
            log::warn!("{}: its disk is there", self.name());
        }
        self.begin(engine, state, None, None);
    }

    /// Logs once how many pieces were found bad since the last look.
    pub(super) fn look_for_damage(&mut self, engine: &Engine, id: TorrentId) {
        let have = engine.node.torrent(id).map_or(0, |stats| stats.have);
        match have < self.reported {
            true => self.say_what_is_missing(engine, id),
            false => self.reported = have,
        }
    }

    /// Serves what is there again: as before if no file has changed, otherwise after verifying each piece. Connected
    /// peers stay.
    pub(super) fn come_back(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        look: &Look,
        unchanged: bool,
    ) {
        engine.forget_files(&self.content);
        let was_away = self.is_away();
        if was_away {
            log::warn!(target: EVENT, "{}: its files are back", self.name());
        }
        if unchanged {
            engine.tell(Event::Readable(id));
        } else {
            log::info!(
                "{}: files have changed, so each piece is verified anew",
                self.name()
            );
            let have = look
                .present
                .as_deref()
                .map_or(Have::Unverified, Have::Presumed);
            if was_away {
                engine.tell(Event::Restored(id, have));
                engine.tell(Event::Recheck(id));
            } else {
                engine.tell(Event::Changed(id, have));
            }
            self.fingerprint = look.fingerprint;
        }
        self.serve(id);
        match was_away {
            true => self.say_what_is_missing(engine, id),
            // What a look found counts once it is verified.
            false => self.look_for_damage(engine, id),
        }
    }
}

/// What is said of files that are away, and of files that could not be opened for a moment.
const FILES_AWAY: &str = "it is not served until its files are back, looked for";
const OPENED_LATER: &str = "it is not served meanwhile, and tried again";

fn what_then(error: &ReadError) -> &'static str {
    match error.is_shortage() {
        true => OPENED_LATER,
        false => FILES_AWAY,
    }
}
