//! What the extension handshake of a peer said (BEP 10).

use everseed_core::time::Instant;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Extensions {
    /// The id by which it wants the messages of BEP 9; 0 for not at all.
    pub(crate) ut_metadata: u8,
    /// Bytes of `info` that it says it can hand out; 0 for none.
    pub(crate) metadata_size: u32,
    /// Until when it is not asked for `info`, as it refused or did not answer.
    pub(crate) metadata_hold: Instant,
    /// Pieces of `info` that it requested.
    pub(crate) metadata_requests: u32,
    /// Whether it said that it will never download (BEP 21).
    pub(crate) upload_only: bool,
}

impl Extensions {
    pub(crate) const EMPTY: Extensions = Extensions {
        ut_metadata: 0,
        metadata_size: 0,
        metadata_hold: Instant::ZERO,
        metadata_requests: 0,
        upload_only: false,
    };
}
