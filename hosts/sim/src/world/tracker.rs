//! The tracker that hosts announce to.

use everseed_core::time::Instant;
use everseed_core::tracker::{AnnounceEvent, Intervals};
use everseed_node::discovery::announcer::Job;
use everseed_node::{Event, PeerSource};

use crate::router::Nat;
use crate::world::World;

/// The most peers in an answer of the tracker.
const NAMED: usize = 50;

/// How long a host waits for a dead tracker, in microseconds.
pub(super) const TIME_OUT: u64 = 15_000_000;

impl World {
    /// The tracker answers with the addresses of some hosts.
    pub(super) fn answer(&mut self, host: usize, job: Job) {
        if !self.hosts[host].alive {
            return;
        }
        let torrent = self.hosts[host].torrent;
        if job.event != AnnounceEvent::Stopped {
            let count = self.hosts.len();
            for n in 0..NAMED.min(count) {
                // All hosts if there are few, else random ones.
                let other = match count <= NAMED {
                    true => n,
                    false => self.rng.below(u32::try_from(count).unwrap_or(0)) as usize,
                };
                let named = &self.hosts[other];
                if other != host && named.alive && named.profile.nat == Nat::Open {
                    let now = Instant::from_micros(self.now);
                    let event = Event::Peer(torrent, self.hosts[other].addr, PeerSource::Tracker);
                    self.hosts[host].node.event(now, event);
                }
            }
        }
        let interval = Intervals::told(Some(120), None);
        self.tell(host, Event::Announced(job.id, interval));
    }
}
