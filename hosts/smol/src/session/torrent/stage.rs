//! How far a torrent has come that is awake. What goes with a stage is in it, so that nothing of another one is left
//! over: there is no check without its progress, and nothing is served without the node's id of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use everseed_core::geometry::TorrentId;

use crate::storage::worker::{GIVEN_UP, Progress};

/// See the module.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its files cannot be read; the node knows it, unless they could not since we started.
    Away(Option<TorrentId>),
    /// The worker hashes all of it. If the node knew it before, its peers stay.
    Checking {
        /// Bytes that are behind it.
        progress: Arc<Progress>,
        /// The node's id of it, if it knows it already.
        served_as: Option<TorrentId>,
    },
    /// The node serves it, and files of it are still written.
    Downloading(TorrentId),
    /// The node serves it.
    Serving(TorrentId),
}

impl Stage {
    /// The node's id of it, once it was added.
    pub(super) fn id(&self) -> Option<TorrentId> {
        match self {
            Stage::Serving(id) | Stage::Downloading(id) => Some(*id),
            Stage::Checking { served_as: id, .. } | Stage::Away(id) => *id,
        }
    }

    /// The same while it is served.
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

    /// Bytes that a running check has behind it.
    pub(super) fn checked(&self) -> Option<u64> {
        match self {
            Stage::Checking { progress, .. } => Some(progress.load(Ordering::Relaxed)),
            _ => None,
        }
    }

    /// A running check ends, whatever it found.
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
