//! The resume record of a torrent: which pieces are good, and the bytes that were sent.

use everseed_core::bits;
use everseed_core::resume::{Record, Verified};
use everseed_node::Have;

use super::{ManagedTorrent, Saved};
use crate::net::engine::Engine;
use crate::storage::state::StateFolder;

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

    /// Writes the resume record, if it has changed.
    pub(crate) fn save(&mut self, engine: &Engine, state: &StateFolder) {
        self.save_now(engine, state, false);
    }

    /// As [`save`](Self::save), without waiting for the disk.
    pub(crate) fn save_in_haste(&mut self, engine: &Engine, state: &StateFolder) {
        self.save_now(engine, state, true);
    }

    fn save_now(&mut self, engine: &Engine, state: &StateFolder, in_haste: bool) {
        let Some(id) = self.stage.served() else {
            return;
        };
        // The state before the sync, which makes durable what was verified until then.
        let Some((stats, good)) = engine.node.progress(id) else {
            return;
        };
        if self.is_downloading() && !self.settle() {
            return;
        }
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
