//! [`Stage`] of a torrent: its metadata is fetched, as long as only the info-hash is known; then its content.

use everseed_core::time::Instant;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The metadata is fetched; since when the current size is tried.
    Metadata { since: Instant },
    /// The metadata is here and has the right hash; whether the host was told.
    Fetched { told: bool },
    /// The metadata is known: content is fetched and served.
    Content,
}
