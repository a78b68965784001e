//! The resume record of a torrent: which pieces are good, and the bytes that were sent.

use std::sync::Arc;

use everseed_core::bits;
use everseed_core::resume::{Record, Verified};
use everseed_disk::WriteError;
use everseed_node::{Have, TorrentStats};

use super::{ManagedTorrent, Saved};
use crate::net::engine::{Engine, Good};
use crate::session::download::{DownloadStage, Settling};
use crate::storage::state::StateFolder;
use crate::storage::worker::{Task, settle};

impl ManagedTorrent {
    /// The contents of a record as [`save`](Self::save) would write them.
    pub(super) fn told_by(&self, record: &Record<'_>) -> Saved {
        Saved {
            uploaded: record.uploaded,
            good: match record.verified {
                Verified::Nothing => 0,
                Verified::All => self.content.geometry().pieces(),
                Verified::Some(bits) => bits::count(bits),
            },
            fingerprint: record.fingerprint,
        }
    }

    /// Writes the resume record, if it has changed. What there is of a download is synced by the worker first.
    pub(crate) fn save(&mut self, engine: &Engine, state: &StateFolder) {
        if !self.is_downloading() {
            return self.save_now(engine, state, false);
        }
        let Some((stats, good)) = self.progress(engine) else {
            return;
        };
        let Some(download) = &mut self.download else {
            return;
        };
        let is_syncing = matches!(download.stage, DownloadStage::Syncing)
            || !matches!(download.settling, Settling::No);
        if download.doubt || is_syncing {
            return;
        }
        download.settling = Settling::Yes(stats, good);
        self.note_sync(true);
        let task = Task::Settle(Arc::clone(&self.content), self.number);
        engine.worker.ask(task);
    }

    /// As [`save`](Self::save), and waits for the sync. The torrent ends then.
    pub(crate) fn save_and_wait(&mut self, engine: &Engine, state: &StateFolder) {
        self.save_now(engine, state, false);
    }

    /// As [`save`](Self::save) for what is complete, without waiting for the disk.
    pub(crate) fn save_in_haste(&mut self, engine: &Engine, state: &StateFolder) {
        self.save_now(engine, state, true);
    }

    fn save_now(&mut self, engine: &Engine, state: &StateFolder, in_haste: bool) {
        let Some(progress) = self.progress(engine) else {
            return;
        };
        if self.is_downloading() {
            if self.download.as_ref().is_some_and(|d| d.doubt) {
                return;
            }
            self.note_sync(true);
            let settled = settle(&self.content);
            if !self.takes_sync(settled) {
                return;
            }
        }
        self.record(state, &progress, in_haste);
    }

    /// The present state. Before a sync: that makes durable what was verified until then.
    fn progress(&self, engine: &Engine) -> Option<(TorrentStats, Good)> {
        engine.node.progress(self.stage.served()?)
    }

    /// What there was of the download is durable, or that failed.
    pub(super) fn settled(&mut self, state: &StateFolder, settled: Result<u64, WriteError>) {
        let Some(download) = &mut self.download else {
            return;
        };
        let settling = std::mem::replace(&mut download.settling, Settling::No);
        if let Settling::Yes(stats, good) = settling
            && self.is_downloading()
            && self.takes_sync(settled)
        {
            self.record(state, &(stats, good), false);
        }
    }

    /// Whatever a sync that is going on makes durable may be gone since.
    pub(super) fn forget_settling(&mut self) {
        if let Some(download) = &mut self.download
            && let Settling::Yes(..) = download.settling
        {
            download.settling = Settling::InVain;
        }
    }

    /// Takes the fingerprint of a sync. Returns whether it succeeded.
    fn takes_sync(&mut self, settled: Result<u64, WriteError>) -> bool {
        match settled {
            Ok(fingerprint) => {
                self.note_sync(false);
                self.fingerprint = fingerprint;
                true
            }
            Err(error) => {
                log::warn!(
                    "{}: {error}; what is there is checked before it counts",
                    self.name()
                );
                self.doubt_files();
                if let Some(download) = &mut self.download {
                    download.doubt = true;
                }
                false
            }
        }
    }

    /// Writes the record of this state, if it has changed.
    fn record(
        &mut self,
        state: &StateFolder,
        (stats, good): &(TorrentStats, Good),
        in_haste: bool,
    ) {
        self.save_seeded(state, in_haste);
        // While pieces wait to be verified, only the bytes sent are updated.
        let settled = stats.good == stats.have;
        let now = Saved {
            uploaded: stats.uploaded,
            good: stats.good,
            fingerprint: if settled { self.fingerprint } else { 0 },
        };
        if self.saved == Some(now) {
            return;
        }
        let record = Record {
            info_hash: self.info_hash(),
            uploaded: stats.uploaded,
            fingerprint: now.fingerprint,
            verified: match good.have() {
                _ if !settled => Verified::Nothing,
                Have::All => Verified::All,
                Have::Some(bits) => Verified::Some(bits),
                _ => Verified::Nothing,
            },
        };
        // The result of a first check could be found again.
        let first = self.saved.is_none() && self.download.is_none();
        match state.save(&record, in_haste || first) {
            Ok(()) => self.saved = Some(now),
            Err(error) => log::warn!(
                "{}: {error}: the state of {} is not kept, a restart will verify it again",
                state.folder().display(),
                self.name(),
            ),
        }
    }
}
