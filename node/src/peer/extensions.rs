//! [`Extensions`] of a connection: what the peer said in its extended handshake (BEP 10), and the state of PEX.

use everseed_core::time::Instant;

/// How much two peers told each other of others (BEP 11); see `gossip` for the numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pex {
    /// Its number among the arrivals; 0 while nobody knows where it can be called.
    pub(crate) arrival: u32,
    /// The last arrival that it was told of, and how many departures.
    pub(crate) told: u32,
    pub(crate) told_left: u32,
    /// When it may be told again, and when it may tell us again.
    pub(crate) tell_at: Instant,
    pub(crate) hear_at: Instant,
}

impl Pex {
    const EMPTY: Pex = Pex {
        arrival: 0,
        told: 0,
        told_left: 0,
        tell_at: Instant::ZERO,
        hear_at: Instant::ZERO,
    };
}

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
    /// The id by which it wants to be told of peers (BEP 11); 0 for not at all.
    pub(crate) ut_pex: u8,
    /// Whether it prefers encrypted connections.
    pub(crate) encryption: bool,
    /// The state of PEX with it.
    pub(crate) pex: Pex,
    /// Whether it said that it will never download (BEP 21).
    pub(crate) upload_only: bool,
}

impl Extensions {
    pub(crate) const EMPTY: Extensions = Extensions {
        ut_metadata: 0,
        metadata_size: 0,
        metadata_hold: Instant::ZERO,
        metadata_requests: 0,
        ut_pex: 0,
        encryption: false,
        pex: Pex::EMPTY,
        upload_only: false,
    };
}
