//! A torrent's download, until it is complete and durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::bits;
use everseed_core::geometry::{PieceIndex, TorrentId};
use everseed_disk::{WriteError, check};
use everseed_node::{Event, Have, Wanted};

use super::goal::Goal;
use super::{AWAY, EVERY, ManagedTorrent};
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::session::download::{DownloadStage, Settling};
use crate::session::fetch::{CHECKSUM, DISK_FULL, UNFINISHED};
use crate::session::notice::{LeftOut, Notice};
use crate::storage::state::StateFolder;
use crate::storage::worker::{Look, Task, Unwritten};
use crate::text::escape;

/// The longest pause before doubtful files are read again.
pub(super) const DOUBT: Duration = Duration::from_secs(600);

impl ManagedTorrent {
    /// Whether files are still written.
    pub(crate) fn is_downloading(&self) -> bool {
        self.download
            .as_ref()
            .is_some_and(|download| download.is_open())
    }

    /// Whether it was seeded as long as its goal says; `None` if it was not downloaded and has none.
    pub(crate) fn is_enough(&self, engine: &Engine) -> Option<bool> {
        let Some(download) = &self.download else {
            return self.is_woken_enough(engine);
        };
        let sent = || {
            let stats = self.id().and_then(|id| engine.node.torrent(id));
            stats.map_or(0, |stats| stats.uploaded)
        };
        let total = self.content.geometry().total();
        let goal = Goal::of(&download.goal).zip(download.seeded());
        let is_reached = goal.is_some_and(|(goal, seeded)| goal.is_reached(seeded, sent, total));
        Some(download.refused().is_some() || is_reached)
    }

    /// Records the seeding time if the goal has one: every ten minutes, and at a stop.
    pub(crate) fn save_seeded(&mut self, state: &StateFolder, in_haste: bool) {
        let info_hash = self.info_hash();
        let Some(time) = self.seeded_unrecorded() else {
            return;
        };
        if let Err(error) = state.remember_seeded(info_hash, time, in_haste) {
            log::warn!(
                "{}: {error}: its seeding time is not recorded; make room for the state",
                self.name()
            );
        }
    }

    fn seeded_unrecorded(&mut self) -> Option<Duration> {
        let Some(download) = &mut self.download else {
            return self.woken.as_mut()?.unrecorded();
        };
        let time = (download.seeded()).filter(|_| download.goal.time.is_some())?;
        let news = time.as_secs() != download.seeded.1.as_secs();
        download.seeded.1 = time;
        news.then_some(time)
    }

    /// Sets another goal from now on, and calls other peers. The choice of files stays, because a link in a `.magnet`
    /// file may have made it.
    pub(crate) fn set_goal(&mut self, goal: &Fetch) {
        if let Some(woken) = &mut self.woken {
            woken.goal = Goal::of(goal);
        }
        if let Some(download) = &mut self.download {
            if download.goal.peers != goal.peers {
                download.told = None;
            }
            let only = std::mem::take(&mut download.goal.only);
            download.goal = Fetch {
                only,
                ..goal.clone()
            };
        }
    }

    /// Peers that the user named and that the node was not told of yet.
    pub(crate) fn named_peers(&mut self, id: TorrentId) -> Vec<SocketAddr> {
        let Some(download) = &mut self.download else {
            return Vec::new();
        };
        if download.told.replace(id) == Some(id) {
            return Vec::new();
        }
        let peers = download.goal.peers.clone();
        if self.content.metainfo().private && !peers.is_empty() {
            log::warn!(
                "{}: it is private, so its peers come from its trackers alone, and those of --peer are not called",
                self.name()
            );
            return Vec::new();
        }
        peers
    }

    /// Bytes that are wanted.
    pub(crate) fn wanted_len(&self) -> u64 {
        let geometry = self.content.geometry();
        match self.download.as_ref().and_then(|d| d.wanted.as_ref()) {
            None => geometry.total(),
            Some(bits) => {
                let wanted = geometry.all_pieces().filter(|p| bits::get(bits, p.get()));
                wanted.map(|p| u64::from(geometry.piece_size(p))).sum()
            }
        }
    }

    /// Wanted bytes that are missing, including those left out.
    pub(crate) fn left(&self, engine: &Engine) -> u64 {
        let Some(id) = self.id().filter(|&id| engine.node.torrent(id).is_some()) else {
            return self.wanted_len();
        };
        let download = self.download.as_ref();
        if !download.is_some_and(|download| download.narrowed || download.kept.is_some()) {
            return engine.node.torrent(id).map_or(0, |stats| stats.left);
        }
        let (geometry, good) = (self.content.geometry(), engine.node.good(id));
        let good = good.have();
        let wanted = download.and_then(|download| download.wanted.as_deref());
        let lacks = |piece: &PieceIndex| {
            let is_good = match good {
                Have::All => true,
                Have::Some(bits) => bits::get(bits, piece.get()),
                _ => false,
            };
            !is_good && wanted.is_none_or(|bits| bits::get(bits, piece.get()))
        };
        let lacking = geometry.all_pieces().filter(lacks);
        lacking.map(|p| u64::from(geometry.piece_size(p))).sum()
    }

    /// The exit code of the download, if it is not that of a success.
    pub(crate) fn exit_code(&self, engine: &Engine) -> Option<u8> {
        let download = self.download.as_ref().filter(|d| d.is_open())?;
        if let Some(code) = download.refused() {
            return Some(code);
        }
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        if download.full {
            Some(DISK_FULL)
        } else if stats.is_some_and(|s| s.good == 0 && s.bad_pieces > 0) {
            Some(CHECKSUM)
        } else {
            Some(UNFINISHED)
        }
    }

    /// Reports the missing part of a download that is given up.
    pub(crate) fn say_unfinished(&self, engine: &Engine) {
        let Some(code) = self.exit_code(engine) else {
            return;
        };
        let refused = self
            .download
            .as_ref()
            .is_some_and(|d| d.refused().is_some());
        let why = match code {
            DISK_FULL => "the disk is full",
            CHECKSUM if refused => "nothing was written",
            CHECKSUM => "what came had the wrong hash",
            _ if self.left(engine) == 0 => "it is still to be moved; the same command goes on",
            _ => "the same command goes on",
        };
        let left = self.left(engine);
        let name = self.content.name();
        self.notices.tell(Notice::Unfinished { name, left, why });
    }

    /// Whether nothing was downloaded yet, so that there is nothing to check.
    pub(super) fn is_empty(&self) -> bool {
        match check::present(&self.content) {
            Ok(Some(bits)) => bits::count(&bits) == 0,
            _ => false,
        }
    }

    pub(super) fn begin_download(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        id: TorrentId,
    ) {
        // Its disk may have gone since, and nothing is made in its absence.
        if let Err(error) = self.in_place(state) {
            engine.remove(id);
            return self.leave(None, &error);
        }
        if !self.claim_files(engine, id) {
            return;
        }
        self.keep_place(state);
        let Some(download) = &self.download else {
            return;
        };
        let obtainable = download.obtainable(self.content.geometry().pieces());
        let wanted = match &obtainable {
            None => Wanted::All,
            Some(bits) => Wanted::Some(bits),
        };
        if let Err(error) = engine.node.download(id, wanted, download.order) {
            log::error!("{}: {error}", self.name());
            return;
        }
        let left = self.left(engine);
        let total = self.wanted_len();
        if left == 0 || engine.node.is_complete(id) {
            // Its completion is reported in a moment, when it is durable.
            return;
        }
        self.notices.tell(Notice::Downloading {
            name: self.content.name(),
            left: (left, total),
        });
    }

    /// Handles what is due in a download. Returns whether the node knows it and requests its pieces.
    pub(crate) fn run_download(&mut self, engine: &mut Engine, now: Instant) -> bool {
        let (Some(id), Some(download)) = (self.stage.served(), &mut self.download) else {
            return false;
        };
        if !download.is_open() {
            return false;
        }
        if download.retry.is_some_and(|at| at <= now) {
            download.retry = None;
            engine.tell(Event::Writable(id));
        }
        let fetches = matches!(download.stage, DownloadStage::Fetching);
        let rests = download.retry.is_none() && matches!(download.settling, Settling::No);
        if fetches && rests && engine.node.is_complete(id) {
            if download.doubt {
                log::warn!(
                    "{}: what was written is read again from the disk",
                    self.name()
                );
                self.check(engine, Some(id));
                return true;
            }
            download.stage = DownloadStage::Syncing;
            self.note_sync(true);
            let task = Task::Sync(Arc::clone(&self.content), self.number);
            engine.worker.ask(task);
        }
        true
    }

    /// A block could not be written. Until the next try the node requests nothing of its file, or nothing at all.
    pub(crate) fn unwritable(&mut self, engine: &mut Engine, fault: &Unwritten) {
        match &fault.pieces {
            Some(pieces) => self.leave_file_out(fault, pieces.start),
            None => self.wait_to_write(engine, &fault.error),
        }
    }

    fn wait_to_write(&mut self, engine: &mut Engine, error: &WriteError) {
        if let (Some(id), true) = (self.stage.served(), error.is_away()) {
            return self.vanished(engine, id, error);
        }
        let Some(download) = &mut self.download else {
            return;
        };
        let again = download.retry.is_none() && download.full == error.is_no_space();
        if !again || download.retry.is_none() {
            log::error!(
                "{}: {error}; the download waits, tried again every {} s",
                escape(self.content.name()),
                AWAY.as_secs()
            );
        }
        download.full = error.is_no_space();
        download.retry = Some(Instant::now() + AWAY);
        if error.is_read_only() {
            // Earlier writes may be lost. The disk is let go, so that somebody can mend it.
            download.doubt = true;
            self.forget_settling();
            engine.forget_files(&self.content);
            self.content.close_folder();
            self.doubt_files();
        }
    }

    /// Everything is complete and synced.
    pub(super) fn synced(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        synced: Result<Look, WriteError>,
    ) {
        let Some(download) = &mut self.download else {
            return;
        };
        if let Settling::InVain = download.settling {
            // It is synced again after the check that has begun since.
            download.settling = Settling::No;
            if let Err(error) = synced {
                self.doubt(&error);
            }
            return;
        }
        download.stage = DownloadStage::Fetching;
        if synced.is_ok() {
            self.note_sync(false);
        }
        // What could not be written or read at first may have come since.
        let left = self.left(engine);
        let has_lost = synced
            .as_ref()
            .is_ok_and(|look| self.has_lost(engine, look));
        let Some(download) = &mut self.download else {
            return;
        };
        match synced {
            Ok(_) if has_lost => {
                if let Some(id) = self.stage.served() {
                    log::warn!(
                        target: EVENT,
                        "{}: some of its files are gone, and are downloaded again",
                        self.name()
                    );
                    self.begin_again(engine, id);
                }
            }
            Ok(_) if download.narrowed && left > 0 => {
                download.stage = DownloadStage::Partly;
                self.notices.tell(Notice::Complete {
                    name: self.content.name(),
                    but: Some((left, LeftOut::Unusable)),
                });
                self.reported = self.pieces_here(engine);
                self.save(engine, state);
            }
            Ok(_) if self.relocate(engine, state) => {}
            Ok(look) => self.complete(engine, state, look.fingerprint),
            Err(error) if error.is_away() => self.wait_to_write(engine, &error),
            Err(error) => self.doubt(&error),
        }
    }

    /// The content lies at its final place, complete and durable.
    pub(super) fn complete(&mut self, engine: &mut Engine, state: &StateFolder, fingerprint: u64) {
        let Some(download) = &mut self.download else {
            return;
        };
        download.stage = DownloadStage::Done(Instant::now());
        let before = state.seeded(self.content.metainfo().info_hash);
        download.seeded = (before, before);
        let kept = download.kept.is_some();
        if let Some(id) = self.stage.served() {
            self.serve(id);
        }
        self.content.set_growing(false);
        engine.forget_files(&self.content);
        self.fingerprint = fingerprint;
        self.next_look = Instant::now() + EVERY;
        self.notices.tell(Notice::Complete {
            name: self.content.name(),
            but: Some((self.left(engine), LeftOut::Kept)).filter(|&(left, _)| kept && left > 0),
        });
        self.reported = self.pieces_here(engine);
        self.save(engine, state);
    }

    /// A write did not reach the disk. The kernel reports that once, so a later sync that succeeds proves nothing.
    fn doubt(&mut self, error: &WriteError) {
        self.doubt_files();
        let Some(download) = &mut self.download else {
            return;
        };
        let pause = download.pause;
        (download.doubt, download.full) = (true, error.is_no_space());
        (download.retry, download.pause) = (Some(Instant::now() + pause), (pause * 2).min(DOUBT));
        log::error!(
            "{}: {error}; some of it may be lost, so all of it is read again from the disk in {} s",
            self.name(),
            pause.as_secs()
        );
    }

    /// Whether good pieces lie in files that are gone.
    fn has_lost(&self, engine: &Engine, look: &Look) -> bool {
        let (Some(present), Some(id)) = (&look.present, self.stage.served()) else {
            return false;
        };
        let good = self.good_pieces(engine, id);
        good.iter()
            .zip(present)
            .any(|(good, there)| good & !there != 0)
    }

    fn pieces_here(&self, engine: &Engine) -> u32 {
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        stats.map_or(0, |stats| stats.have)
    }
}
