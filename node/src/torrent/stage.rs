//! What is fetched of a torrent: its metadata, as long as only its info-hash is known, then its content.

use everseed_core::time::Instant;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It is fetched, since then with the size that is tried.
    Metadata { since: Instant },
    /// It is here and has the right hash; whether the host was told.
    Fetched { told: bool },
    /// It is known.
    Content,
}
