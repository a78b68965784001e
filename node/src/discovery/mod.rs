//! Peers are found here: whom to call, and when each tracker is told what.

pub mod announcer;
pub mod candidates;
pub mod port_mapper;
pub mod udp_tracker;

use crate::discovery::announcer::Announcer;
use crate::discovery::candidates::Candidates;

/// See the module.
#[derive(Debug)]
pub(crate) struct Discovery<'m> {
    pub(crate) candidates: Candidates<'m>,
    pub(crate) announcer: Announcer<'m>,
    /// By it, trackers know us again when our address has changed.
    pub(crate) key: u32,
}
