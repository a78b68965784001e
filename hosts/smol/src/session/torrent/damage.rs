//! Damage: pieces that cannot be read and files that cannot be written. Each file is named once, and the rest goes
//! on. What failed is tried again after a minute, then after pauses that double.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use everseed_disk::ReadError;
use everseed_disk::fault::{Extent, Unread};
use everseed_node::{Event, Wanted};

use super::ManagedTorrent;
use super::faults::{DAY, HOUR, Naming};
use crate::net::engine::Engine;
use crate::session::download::DownloadStage;
use crate::storage::worker::{Task, Unwritten};

impl ManagedTorrent {
    /// A piece could not be read, while others can.
    pub(crate) fn unread(&mut self, engine: &mut Engine, fault: &Unread) {
        let now = Instant::now();
        if let (ReadError::Missing { .. }, true) = (&fault.error, self.is_downloading()) {
            // Its blocks would be written into a file that has no name any more.
            if let Some(id) = self.stage.served() {
                self.vanished(engine, id, &fault.error);
            }
            return;
        }
        let gone = fault.error.is_absence() && !self.is_downloading();
        if gone || fault.extent == Extent::Change {
            // The look reports what is missing.
            return self.look_soon(!gone);
        }
        if fault.extent == Extent::Piece {
            self.narrowed();
            // The missing piece is reported here.
            self.reported = self.reported.saturating_sub(1);
            self.name_unread(fault, now);
        }
    }

    /// Names the file of an unreadable piece, unless it was named already.
    pub(super) fn name_unread(&mut self, fault: &Unread, now: Instant) {
        match self.faults.note(fault.error.path(), now) {
            Naming::First => log::error!(
                "{}: {fault}: it is not served, the others are; tried again in a minute, then less and \
                 less often",
                self.name()
            ),
            Naming::More => log::error!("{}: more files than these cannot be read", self.name()),
            Naming::Known => log::debug!("{}: {fault}", self.name()),
        }
    }

    /// A file cannot be written: nothing of it is requested any more.
    pub(super) fn leave_file_out(&mut self, fault: &Unwritten, first: u32) {
        let now = Instant::now();
        let error = &fault.error;
        let geometry = self.content.geometry();
        let at = geometry
            .piece(first)
            .map_or(0, |p| geometry.piece_offset(p));
        self.narrowed();
        match self.faults.note(error.path().unwrap_or(Path::new("")), now) {
            Naming::First => log::error!(
                "{}: {error}; this file is left out and the rest is downloaded; tried again in a minute, \
                 then less and less often",
                self.name()
            ),
            Naming::More => log::error!("{}: more files than these cannot be written", self.name()),
            Naming::Known => return log::debug!("{}: {error}", self.name()),
        }
        self.faults.unwritable.push(at);
    }

    fn narrowed(&mut self) {
        if let Some(download) = &mut self.download {
            download.narrowed = true;
        }
    }

    /// Tries again what failed, if that is due.
    pub(crate) fn try_again(&mut self, engine: &mut Engine, now: Instant) {
        let Some(id) = self.stage.served() else {
            return;
        };
        let downloads = self.is_downloading();
        if !self.faults.is_due(now, if downloads { HOUR } else { DAY }) {
            return;
        }
        if !downloads {
            return engine.tell(Event::Recheck(id));
        }
        let offsets = self.faults.unwritable.clone();
        if offsets.is_empty() {
            return self.want_all(engine);
        }
        let content = Arc::clone(&self.content);
        engine.worker.ask(Task::Try(content, self.number, offsets));
    }

    /// The result of trying whether files can be written again.
    pub(super) fn tried(&mut self, engine: &mut Engine, writable: bool) {
        match writable {
            true => self.want_all(engine),
            // Counts as a failure, so that it is tried again.
            false => self.faults.failed = self.faults.failed.saturating_add(1),
        }
    }

    /// Wants again what was left out of a download.
    fn want_all(&mut self, engine: &mut Engine) {
        let (Some(id), Some(download)) = (self.stage.served(), &mut self.download) else {
            return;
        };
        if !download.is_open() {
            return;
        }
        let obtainable = download.obtainable(self.content.geometry().pieces());
        let wanted = match &obtainable {
            None => Wanted::All,
            Some(bits) => Wanted::Some(bits),
        };
        download.narrowed = false;
        if let DownloadStage::Partly = download.stage {
            download.stage = DownloadStage::Fetching;
        }
        self.faults.unwritable.clear();
        let again = engine.node.download(id, wanted, download.order);
        if let Err(error) = again {
            log::error!("{}: {error}", self.name());
        }
    }
}
