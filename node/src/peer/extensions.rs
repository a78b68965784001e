//! What the extension handshake of a peer said (BEP 10).

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Extensions {
    /// The id by which it wants the messages of BEP 9; 0 for not at all.
    pub(crate) ut_metadata: u8,
    /// Pieces of `info` that it requested.
    pub(crate) metadata_requests: u32,
    /// Whether it said that it will never download (BEP 21).
    pub(crate) upload_only: bool,
}

impl Extensions {
    pub(crate) const EMPTY: Extensions = Extensions {
        ut_metadata: 0,
        metadata_requests: 0,
        upload_only: false,
    };
}
