//! The stages of an awake torrent. What belongs to a stage is stored in it, so nothing of another stage is left over:
//! no check is without progress, and nothing is served without the node's id.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use everseed_core::geometry::TorrentId;

use crate::storage::worker::{GIVEN_UP, Progress};

/// The stage of an awake torrent.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its files cannot be read. `Some` is the node's id, if they could be read since the start.
    Away(Option<TorrentId>),
    /// The worker hashes all pieces. If the node knew the torrent before, its peers stay.
    Checking {
        /// Bytes that were checked.
        progress: Arc<Progress>,
        /// The node's id, if it knows the torrent already.
        served_as: Option<TorrentId>,
    },
    /// The node serves it, and its files are still written.
    Downloading(TorrentId),
    /// The node serves it.
    Serving(TorrentId),
}

impl Stage {
    /// The node's id, once the torrent was added to it.
    pub(super) fn id(&self) -> Option<TorrentId> {
        match self {
            Stage::Serving(id) | Stage::Downloading(id) => Some(*id),
            Stage::Checking { served_as: id, .. } | Stage::Away(id) => *id,
        }
    }

    /// The node's id while it is served.
    pub(super) fn served(&self) -> Option<TorrentId> {
        match self {
            Stage::Serving(id) | Stage::Downloading(id) => Some(*id),
            Stage::Checking { .. } | Stage::Away(_) => None,
        }
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self, Stage::Away(_))
    }

    pub(super) fn is_checking(&self) -> bool {
        matches!(self, Stage::Checking { .. })
    }

    /// Bytes that a running check has done.
    pub(super) fn checked(&self) -> Option<u64> {
        match self {
            Stage::Checking { progress, .. } => Some(progress.load(Ordering::Relaxed)),
            _ => None,
        }
    }

    /// Gives up a running check.
    pub(super) fn give_up(&self) {
        if let Stage::Checking { progress, .. } = self {
            progress.store(GIVEN_UP, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_stage_knows() {
        let id = TorrentId {
            slot: 3,
            tenancy: 1,
        };
        let checking = |served_as| Stage::Checking {
            progress: Arc::new(Progress::new(7)),
            served_as,
        };
        // The id, the id while it is served, away, and what is checked.
        let table = [
            (Stage::Away(None), (None, None, true, None)),
            (Stage::Away(Some(id)), (Some(id), None, true, None)),
            (checking(None), (None, None, false, Some(7))),
            (checking(Some(id)), (Some(id), None, false, Some(7))),
            (Stage::Downloading(id), (Some(id), Some(id), false, None)),
            (Stage::Serving(id), (Some(id), Some(id), false, None)),
        ];
        for (stage, expected) in table {
            let got = (stage.id(), stage.served(), stage.is_away(), stage.checked());
            assert_eq!(got, expected, "{stage:?}");
            stage.give_up();
            assert!(stage.checked().is_none_or(|done| done == GIVEN_UP));
        }
    }
}
