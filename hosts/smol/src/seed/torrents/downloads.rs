//! What is downloaded, until it is complete and on the disk.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use everseed_core::bits;
use everseed_core::geometry::TorrentId;
use everseed_disk::{WriteError, check, write};
use everseed_node::{Event, Wanted};

use super::{AWAY, EVERY, Phase, Seeded};
use crate::cli::get::Fetch;
use crate::cli::text::{clear_live_line, escape, size};
use crate::engine::Engine;
use crate::seed::fetch::{CHECKSUM, DISK_FULL, UNFINISHED};
use crate::state::State;
use crate::worker::Task;

impl Seeded {
    /// Whether files are still written.
    pub(crate) fn is_downloading(&self) -> bool {
        self.download
            .as_ref()
            .is_some_and(|download| download.is_open())
    }

    /// Whether it was seeded as much as was asked for; `None` if it was not downloaded.
    pub(crate) fn is_enough(&self, engine: &Engine) -> Option<bool> {
        let download = self.download.as_ref()?;
        let goal = &download.goal;
        let sent = |thousandths: u64| {
            let stats = self.id().and_then(|id| engine.node.torrent(id));
            let sent = stats.map_or(0, |stats| u128::from(stats.uploaded) * 1000);
            sent >= u128::from(thousandths) * u128::from(self.content.geometry().total())
        };
        Some(download.done.is_some_and(|done| {
            goal.no_seed
                || goal.time.is_some_and(|time| done.elapsed() >= time)
                || goal.ratio.is_some_and(sent)
        }))
    }

    /// Seeds it for another time from now on, or calls others.
    pub(crate) fn set_goal(&mut self, goal: &Fetch) {
        if let Some(download) = &mut self.download {
            download.goal = goal.clone();
        }
    }

    /// Peers that were named to begin with.
    pub(crate) fn first_peers(&mut self) -> Vec<SocketAddr> {
        let download = self.download.as_mut();
        download.map_or(Vec::new(), |d| std::mem::take(&mut d.goal.peers))
    }

    /// Bytes of what is wanted.
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

    /// The exit code, if it is not that of a success.
    pub(crate) fn exit_code(&self, engine: &Engine) -> Option<u8> {
        let download = self.download.as_ref().filter(|d| d.is_open())?;
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        if download.full {
            Some(DISK_FULL)
        } else if stats.is_some_and(|s| s.good == 0 && s.bad_pieces > 0) {
            Some(CHECKSUM)
        } else {
            Some(UNFINISHED)
        }
    }

    /// Says what is still to come of a download that is left.
    pub(crate) fn say_unfinished(&self, engine: &Engine) {
        let Some(code) = self.exit_code(engine) else {
            return;
        };
        let why = match code {
            DISK_FULL => "the disk is full",
            CHECKSUM => "what came had the wrong hash",
            _ => "the same command goes on",
        };
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        let left = stats.map_or_else(|| self.wanted_len(), |stats| stats.left);
        clear_live_line(&mut io::stdout());
        let (name, left) = (&self.name(), size(left));
        let _ = writeln!(io::stdout(), "unfinished: {name}, {left} to come; {why}");
    }

    /// Whether there is nothing of it yet, so that there is nothing to check.
    pub(super) fn is_empty(&self) -> bool {
        match check::present(&self.content) {
            Ok(Some(bits)) => bits::count(&bits) == 0,
            _ => false,
        }
    }

    pub(super) fn begin_download(&mut self, engine: &mut Engine, id: TorrentId) {
        let Some(download) = &self.download else {
            return;
        };
        let wanted = match &download.wanted {
            None => Wanted::All,
            Some(bits) => Wanted::Some(bits),
        };
        let now = engine.now();
        if let Err(error) = engine.node.download(now, id, wanted, download.order) {
            log::error!("{}: {error}", self.name());
            return;
        }
        let stats = engine.node.torrent(id);
        let left = stats.map_or(0, |stats| stats.left);
        let total = self.wanted_len();
        if left == 0 {
            // That it is complete is said in a moment, when it is durable.
            return;
        }
        clear_live_line(&mut io::stdout());
        let _ = writeln!(
            io::stdout(),
            "downloading: {}, {} of {} to come",
            self.name(),
            size(left),
            size(total),
        );
    }

    /// Looks after a download; answers whether the node knows it and asks for its pieces.
    pub(crate) fn mind_download(&mut self, engine: &mut Engine, now: Instant) -> bool {
        let (Phase::Serving(id), Some(download)) = (self.phase, &mut self.download) else {
            return false;
        };
        if !download.is_open() {
            return false;
        }
        if download.retry.is_some_and(|at| at <= now) {
            download.retry = None;
            engine.tell(Event::Writable(id));
        }
        if engine.node.is_complete(id) && !download.syncing {
            download.syncing = true;
            let task = Task::Sync(Arc::clone(&self.content), self.number);
            engine.worker.ask(task);
        }
        true
    }

    /// A block could not be written: the node asks for nothing until it is tried again.
    pub(crate) fn unwritable(&mut self, engine: &mut Engine, error: &WriteError) {
        if let (Phase::Serving(id), true) = (self.phase, error.is_away()) {
            // What was written may be gone with the disk, so it is checked when that is back.
            engine.tell(Event::Unreadable(id));
            engine.tell(Event::Writable(id));
            engine.forget_files(&self.content);
            return self.leave(Some(id), error);
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
    }

    /// All is complete and on the disk.
    pub(super) fn synced(
        &mut self,
        engine: &mut Engine,
        state: &State,
        synced: Result<u64, WriteError>,
    ) {
        let Some(download) = &mut self.download else {
            return;
        };
        download.syncing = false;
        match synced {
            Ok(fingerprint) => {
                download.done = Some(Instant::now());
                self.content.grows(false);
                engine.forget_files(&self.content);
                self.fingerprint = fingerprint;
                self.next_look = Instant::now() + EVERY;
                clear_live_line(&mut io::stdout());
                let _ = writeln!(io::stdout(), "complete: {}", self.name());
                self.said = self.phase_have(engine);
                self.save(engine, state);
            }
            Err(error) => self.unwritable(engine, &error),
        }
    }

    fn phase_have(&self, engine: &Engine) -> u32 {
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        stats.map_or(0, |stats| stats.have)
    }

    /// Makes durable what an unfinished download has, and takes the fingerprint that goes with it.
    pub(super) fn settle(&mut self) -> bool {
        let done = write::sync(&self.content);
        let done = done.and_then(|()| check::fingerprint(&self.content).map_err(WriteError::Place));
        match done {
            Ok(fingerprint) => {
                self.fingerprint = fingerprint;
                true
            }
            Err(error) => {
                log::warn!(
                    "{}: {error}; a restart will check what is there",
                    self.name()
                );
                false
            }
        }
    }
}
