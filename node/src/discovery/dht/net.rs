//! [`Net`]: the state of the DHT in one address family: its nodes, our address, and when we look for neighbours again.

use core::time::Duration;

use everseed_core::krpc::NodeId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use super::endpoint::Endpoint;
use super::routes::{K, Routes};
use super::votes::Votes;

/// See the module.
#[derive(Debug)]
pub(crate) struct Net<'m> {
    pub(crate) routes: Routes<'m>,
    pub(crate) votes: Votes,
    /// Whether the host can send to addresses of the family.
    pub(crate) is_on: bool,
    /// When the nodes closest to us are looked for next.
    pub(crate) neighbours_at: Instant,
    /// The wait before they are looked for again if there are few nodes.
    retry: Duration,
    /// They have been looked for once.
    pub(crate) has_looked: bool,
    /// When somewhere else is looked for nodes next, and the wait after that.
    explore_at: Instant,
    explore_wait: Duration,
}

impl<'m> Net<'m> {
    pub(crate) fn new(now: Instant, routes: Routes<'m>, is_on: bool) -> Net<'m> {
        Net {
            routes,
            votes: Votes::new(),
            is_on,
            neighbours_at: now,
            retry: FIRST_RETRY,
            has_looked: false,
            explore_at: now,
            explore_wait: FIRST_EXPLORE,
        }
    }

    /// Counts what a node said about our address. A node whose id does not fit the address takes one that does.
    pub(crate) fn vote(&mut self, now: Instant, voter: Endpoint, ours: Endpoint, rng: &mut Rng) {
        if ours.family() != voter.family() || !self.votes.vote(now, voter, ours.ip()) {
            return;
        }
        if !self.routes.own().fits(ours.ip()) {
            self.routes.rename(NodeId::of(ours.ip(), rng));
            self.neighbours_at = now;
        }
    }

    /// Our neighbours were looked for: while there are few nodes soon again, else after an hour.
    pub(crate) fn searched(&mut self, now: Instant) {
        self.has_looked = true;
        let wait = match self.routes.good() >= K {
            true => {
                self.retry = FIRST_RETRY;
                NEIGHBOURS_EVERY
            }
            false => self.retry,
        };
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.neighbours_at = now + wait;
    }

    /// A node has answered; answers whether it has a place.
    pub(crate) fn answered(&mut self, now: Instant, id: NodeId, at: Endpoint) -> bool {
        if !self.routes.contains(at) {
            self.explore_wait = FIRST_EXPLORE;
        }
        self.routes.answered(now, id, at)
    }

    /// A query that keeps the table true, or has it grow while there are few nodes: whom to ask for which nodes.
    pub(crate) fn upkeep(&mut self, now: Instant, rng: &mut Rng) -> Option<(Endpoint, NodeId)> {
        let stale = self.routes.stalest(now, rng);
        if stale.is_some() || self.routes.good() >= PLENTY || now < self.explore_at {
            return stale;
        }
        self.explore_at = now + self.explore_wait;
        self.explore_wait = (self.explore_wait * 2).min(LAST_RETRY);
        let target = NodeId::random(rng);
        let closest = self.routes.closest(target, true);
        closest.first().map(|(_, at)| (*at, target))
    }

    /// Whether an announce would reach those who are asked for it: there are enough nodes, or there are no more.
    pub(crate) fn is_ready(&self) -> bool {
        let good = self.routes.good();
        good >= K || (good > 0 && self.has_looked)
    }
}

/// The first wait if there are few nodes; then it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The last.
const LAST_RETRY: Duration = Duration::from_secs(600);

/// With so many nodes there is no hurry to know more.
pub(crate) const PLENTY: usize = 32;

/// Between queries for more nodes as long as new ones are found; then it doubles.
const FIRST_EXPLORE: Duration = Duration::from_secs(10);

/// Our neighbours are looked for so often.
const NEIGHBOURS_EVERY: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::routes::Route;
    use core::net::SocketAddr;

    #[test]
    fn an_id_that_fits_the_address() {
        let mut slots = [Route::EMPTY; 16];
        let mut rng = Rng::new(1);
        let mut net = Net::new(
            Instant::ZERO,
            Routes::new(NodeId([0; 20]), &mut slots),
            true,
        );
        let ours: Endpoint = SocketAddr::from(([198, 51, 100, 1], 1)).into();
        for n in 0..8 {
            assert_eq!(net.routes.own(), NodeId([0; 20]));
            let voter = SocketAddr::from(([20, n, 0, 1], 1)).into();
            net.vote(Instant::ZERO, voter, ours, &mut rng);
        }
        let own = net.routes.own();
        assert!(own.fits(ours.ip()));
        // It stays as long as it fits.
        for n in 0..100 {
            let voter = SocketAddr::from(([20, n, 0, 1], 1)).into();
            net.vote(Instant::ZERO, voter, ours, &mut rng);
        }
        assert_eq!(net.routes.own(), own);
    }

    #[test]
    fn few_nodes_are_soon_looked_for_again() {
        let mut slots = [Route::EMPTY; 64];
        let mut net = Net::new(
            Instant::ZERO,
            Routes::new(NodeId([0; 20]), &mut slots),
            true,
        );
        for secs in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
            net.searched(Instant::ZERO);
            assert_eq!(net.neighbours_at, Instant::from_secs(secs));
        }
        assert!(!net.is_ready());
        let node = |n: u8| NodeId([1 << (n % 8); 20].map(|b| b ^ n));
        for n in 0..8 {
            let at = SocketAddr::from(([20, n, 0, 1], 1)).into();
            net.routes.answered(Instant::ZERO, node(n), at);
        }
        assert!(net.is_ready());
        net.searched(Instant::ZERO);
        assert_eq!(net.neighbours_at, Instant::from_secs(3600));
    }
}
