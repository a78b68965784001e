//! Peers are found here: whom to call, and when each tracker is told what.

pub mod announcer;
pub mod candidates;
pub(crate) mod pex;
pub mod port_mapper;
pub mod scope;
pub mod udp_tracker;

use everseed_core::time::Instant;

use crate::discovery::announcer::Announcer;
use crate::discovery::candidates::{Candidates, Named, PeerSource};
use crate::torrent::Torrents;

/// See the module.
#[derive(Debug)]
pub(crate) struct Discovery<'m> {
    pub(crate) candidates: Candidates<'m>,
    pub(crate) announcer: Announcer<'m>,
    /// By it, trackers know us again when our address has changed.
    pub(crate) key: u32,
}

impl Discovery<'_> {
    /// Takes an address that somebody named, if its torrent is awake and may have peers from there: a private one has
    /// those alone that its trackers name (BEP 27).
    pub(crate) fn hear_of(&mut self, now: Instant, torrents: &Torrents<'_>, named: Named) {
        let private = torrents.publicity(named.torrent).is_private();
        let welcome = !private || named.source == PeerSource::Tracker;
        if welcome && torrents.get(named.torrent).is_some() {
            self.candidates.add(now, named);
        }
    }
}
