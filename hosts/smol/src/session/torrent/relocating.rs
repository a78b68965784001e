//! The move of a complete download from the folder for incomplete ones to its final place, while it is served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use everseed_disk::relocate::{Relocation, apart};
use everseed_disk::{ReadError, WriteError};

use super::ManagedTorrent;
use super::download::DOUBT;
use crate::net::engine::Engine;
use crate::session::download::DownloadStage;
use crate::session::notice::Notice;
use crate::storage::mount_guard::{MountId, MountState, device};
use crate::storage::state::StateFolder;
use crate::storage::worker::{Progress, Task};
use crate::text::escape;

impl ManagedTorrent {
    /// The folder in which it lies until it is complete, and the one that it moves to, if it moves.
    fn way(&self) -> Option<(PathBuf, PathBuf)> {
        let download = self.download.as_ref().filter(|download| !download.moved)?;
        let incomplete = std::path::absolute(download.goal.incomplete.as_ref()?).ok()?;
        let out = std::path::absolute(&download.goal.out).ok()?;
        Some((apart(&incomplete, self.info_hash()), out))
    }

    /// Remembers the disk of the folder that it will move to.
    pub(super) fn keep_target(&self, state: &StateFolder) {
        let Some((from, out)) = self
            .way()
            .filter(|(from, _)| self.content.root().starts_with(from))
        else {
            return;
        };
        drop(from);
        if state.target(self.info_hash(), &out).is_none()
            && let Err(error) = state.remember_target(self.info_hash(), &out)
        {
            let shown = out.display();
            log::warn!("{shown}: {error}: its disk cannot be recorded; make room for the state");
        }
    }

    /// Starts the move, once the download is complete and durable. Returns whether it has to move.
    pub(super) fn relocate(&mut self, engine: &Engine, state: &StateFolder) -> bool {
        let (Some((from, out)), Some(id)) = (self.way(), self.stage.served()) else {
            return false;
        };
        let before = state.target(self.info_hash(), &out);
        let error = match MountId::look(&out, before.as_ref()) {
            MountState::There(_) => None,
            MountState::NotMounted(mount) | MountState::Another(mount) => {
                let path = out.clone();
                Some(WriteError::Place(ReadError::NotMounted { path, mount }))
            }
        };
        if let Some(error) = error {
            self.wait_to_move(&out, &error);
            return true;
        }
        if self.content.root().starts_with(&from) && device(&from) != device(&out) {
            self.notices.tell(Notice::Moving {
                name: self.content.name(),
                to: &out,
            });
        }
        let good = self.good_pieces(engine, id);
        let relocation = Box::new(Relocation::new(from, out, good));
        let Some(download) = &mut self.download else {
            return false;
        };
        let progress = Arc::<Progress>::default();
        download.stage = DownloadStage::Moving(Arc::clone(&progress));
        let content = Arc::clone(&self.content);
        let task = Task::Relocate(content, self.number, progress, relocation);
        engine.worker.ask(task);
        true
    }

    /// The result of the move.
    pub(super) fn relocated(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        relocated: Result<u64, WriteError>,
    ) {
        let Some(download) = &mut self.download else {
            return;
        };
        if let DownloadStage::Moving(_) = download.stage {
            download.stage = DownloadStage::Fetching;
        }
        match relocated {
            Ok(fingerprint) => {
                download.moved = true;
                self.keep_place(state);
                // If a check has begun since, it is synced again after that, and complete then.
                let served = self.stage.served();
                if served.is_some_and(|id| engine.node.is_complete(id)) {
                    self.complete(engine, state, fingerprint);
                }
            }
            Err(error) => {
                let out = download.goal.out.clone();
                self.wait_to_move(&out, &error);
            }
        }
    }

    fn wait_to_move(&mut self, out: &Path, error: &WriteError) {
        let name = escape(self.content.name()).to_string();
        let Some(download) = &mut self.download else {
            return;
        };
        let pause = download.pause;
        (download.retry, download.pause) = (Some(Instant::now() + pause), (pause * 2).min(DOUBT));
        download.full = error.is_no_space();
        log::error!(
            "{name}: {error}; it is complete and served; the move to {} is tried again in {} s",
            escape(out.as_os_str().as_encoded_bytes()),
            pause.as_secs()
        );
    }
}
