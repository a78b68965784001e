//! [`DormantTorrent`]: what it takes to wake a torrent that sleeps, and the [`Line`] that is kept of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use everseed_core::hash::InfoHash;
use serde::{Deserialize, Serialize};

/// A sleeping torrent, as its line describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct DormantTorrent {
    info_hash: [u8; 20],
    path: Vec<u8>,
    data: Option<Vec<u8>>,
    root: Vec<u8>,
    /// The mark of the file or folder from which it was read or made.
    pub(crate) mark: Mark,
    /// Its trackers, by tier.
    pub(crate) tiers: Vec<Vec<String>>,
    /// Whether it is private, which the kind of its line says.
    #[serde(skip)]
    privacy: Privacy,
}

/// Whether a torrent is private.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Privacy {
    /// Its line is from version 0.1.0, which did not say it.
    #[default]
    Unknown,
    Public,
    Private,
}

/// A mark that tells whether a file or folder was changed: length, time of change and number of files.
pub(crate) type Mark = (u64, i64, i64, u64);

impl DormantTorrent {
    /// The torrent of `path`, whose content is at `root`; it was found in `data` if that was given.
    pub(crate) fn new(
        info_hash: InfoHash,
        path: &Path,
        data: Option<&Path>,
        root: &Path,
        mark: Mark,
        tiers: Vec<Vec<String>>,
        private: bool,
    ) -> DormantTorrent {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        DormantTorrent {
            info_hash: info_hash.0,
            path: bytes(path),
            data: data.map(bytes),
            root: bytes(root),
            mark,
            tiers,
            privacy: match private {
                true => Privacy::Private,
                false => Privacy::Public,
            },
        }
    }

    pub(crate) fn info_hash(&self) -> InfoHash {
        InfoHash(self.info_hash)
    }

    /// Whether it is known to be public. Lines of version 0.1.0 do not say so.
    pub(crate) fn is_public(&self) -> bool {
        self.privacy == Privacy::Public
    }

    /// Its trackers by tier; if it is public and has none, the owner's.
    pub(crate) fn tiers_or<'a>(&'a self, spare: &'a [Vec<String>]) -> &'a [Vec<String>] {
        match self.tiers.is_empty() && self.is_public() {
            true => spare,
            false => &self.tiers,
        }
    }

    /// Its .torrent, file or folder in a watched folder.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path))
    }

    /// The folder of its .torrent's data; `None`: beside the .torrent.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        let data = self.data.as_deref()?;
        Some(PathBuf::from(OsStr::from_bytes(data)))
    }

    /// As a line of version 0.1.0 tells of it.
    #[cfg(test)]
    pub(super) fn of_unknown_privacy(self) -> DormantTorrent {
        DormantTorrent {
            privacy: Privacy::Unknown,
            ..self
        }
    }

    /// The content's file or folder.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.root))
    }
}

/// A line of the catalogue.
#[derive(Serialize, Deserialize)]
pub(super) enum Line {
    /// A sleeping torrent, as version 0.1.0 wrote it.
    Asleep(DormantTorrent),
    Gone([u8; 20]),
    Public(DormantTorrent),
    Private(DormantTorrent),
}

impl Line {
    pub(super) fn of(sleeper: DormantTorrent) -> Line {
        match sleeper.privacy {
            Privacy::Unknown => Line::Asleep(sleeper),
            Privacy::Public => Line::Public(sleeper),
            Privacy::Private => Line::Private(sleeper),
        }
    }

    /// The sleeping torrent, or the info-hash of one that is gone.
    pub(super) fn sleeper(self) -> Result<DormantTorrent, InfoHash> {
        let (sleeper, privacy) = match self {
            Line::Gone(info_hash) => return Err(InfoHash(info_hash)),
            Line::Asleep(sleeper) => (sleeper, Privacy::Unknown),
            Line::Public(sleeper) => (sleeper, Privacy::Public),
            Line::Private(sleeper) => (sleeper, Privacy::Private),
        };
        Ok(DormantTorrent { privacy, ..sleeper })
    }
}
