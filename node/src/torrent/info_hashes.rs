//! The info-hashes by which peers name a torrent.

use everseed_core::hash::InfoHash;

/// One, or two of a hybrid torrent (BEP 52): the SHA-1 of its `info`, and the first 20 bytes of its SHA-256. Peers of
/// either swarm name theirs, and are answered by the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InfoHashes {
    /// What trackers are told, and peers that we call.
    pub(crate) first: InfoHash,
    pub(crate) second: Option<InfoHash>,
}

impl InfoHashes {
    pub(crate) const fn one(first: InfoHash) -> InfoHashes {
        InfoHashes {
            first,
            second: None,
        }
    }

    /// The one by which a connection names the torrent.
    pub(crate) fn of(&self, by_second: bool) -> InfoHash {
        let second = self.second.filter(|_| by_second);
        second.unwrap_or(self.first)
    }
}
