//! [`Stage`] of a torrent: first its metadata is fetched, if only the info-hash is known, then its content.

use everseed_core::time::Instant;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The metadata is fetched. The time at which the current size was first tried.
    Metadata { since: Instant },
    /// The metadata is here and has the right hash. Whether this was reported to the host.
    Fetched { told: bool },
    /// The metadata is known. Content is fetched and served.
    Content,
}
