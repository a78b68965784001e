//! This machine's addresses towards the internet, which may come late, vanish and change.
//!
//! No connection is closed when they do: one that does not work any more ends by itself.
//!
//! While file descriptors are short the addresses cannot be looked up. What was known stays, and the next look tries again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use everseed_core::tracker::Family;

use super::reach::Reach;
use crate::net::address::outgoing;
use crate::net::engine::Engine;
use crate::net::way::{Exit, Way};

/// This machine's addresses towards the internet.
pub(super) struct Network {
    /// The addresses that trackers were last told.
    known: [Option<IpAddr>; 2],
    /// The time since which each is gone.
    gone: [Option<Instant>; 2],
    /// The present addresses, as of this way and this number of changes of the network.
    ips: [Option<IpAddr>; 2],
    way: Way,
    changes: Option<u64>,
    /// The next time at which trackers may be told. A line that comes and goes must not call them every few seconds.
    next: Instant,
}

impl Network {
    pub(super) fn new(way: &Way) -> Network {
        let found = now(way);
        let changes = found.is_ok().then_some(0);
        let known = found.unwrap_or_default();
        let gone = known.map(|ip| ip.is_none().then(Instant::now));
        Network {
            known,
            gone,
            ips: known,
            way: way.clone(),
            changes,
            next: Instant::now(),
        }
    }

    /// `changes` is how often the network has changed until now.
    pub(super) fn has_changed(&mut self, way: &Way, changes: u64, at: Instant) -> bool {
        self.follow(way, changes, now);
        self.is_news(self.ips, at)
    }

    /// Looks the addresses up by `now`, if something has changed since that last succeeded.
    fn follow(
        &mut self,
        way: &Way,
        changes: u64,
        now: impl FnOnce(&Way) -> io::Result<[Option<IpAddr>; 2]>,
    ) {
        if (self.changes != Some(changes) || self.way != *way)
            && let Ok(ips) = now(way)
        {
            (self.ips, self.way, self.changes) = (ips, way.clone(), Some(changes));
        }
    }

    /// Whether there is a new address, or one again that was gone for long. A vanished address alone does not count:
    /// it may come back before anybody notices.
    fn is_news(&mut self, ips: [Option<IpAddr>; 2], now: Instant) -> bool {
        let mut news = false;
        for (at, ip) in ips.into_iter().enumerate() {
            match (ip, self.gone[at]) {
                (None, None) => self.gone[at] = Some(now),
                (None, Some(_)) => {}
                (Some(_), since) => {
                    let long = since.is_some_and(|since| now - since >= LONG_GONE);
                    news |= self.known[at] != ip || long;
                }
            }
        }
        if news && now < self.next {
            return false;
        }
        for (at, ip) in ips.into_iter().enumerate().filter(|(_, ip)| ip.is_some()) {
            (self.known[at], self.gone[at]) = (ip, None);
        }
        if news {
            self.next = now + PAUSE;
        }
        news
    }
}

/// Tells the node the addresses at which the internet may see us, for the preference of peers (BEP 40).
pub(super) fn say_ours(engine: &mut Engine, reach: &Reach) {
    let ips = now(&engine.way_out).unwrap_or_default();
    for ip in ips.into_iter().flatten() {
        let port = reach.told_port(Family::of(ip));
        engine.node.reached_at(SocketAddr::new(ip, port));
    }
}

/// The present addresses: of the interfaces that calls go out by, or those that the routes give.
fn now(way: &Way) -> io::Result<[Option<IpAddr>; 2]> {
    let of = |family| match way.is_tied() {
        true => Ok(way.exit(family).map(Exit::ip)),
        false => outgoing(family == Family::V4),
    };
    Ok([of(Family::V4)?, of(Family::V6)?])
}

/// After this time without a network trackers may have forgotten us, and our retries have long pauses.
const LONG_GONE: Duration = Duration::from_secs(60);

/// The time for which trackers are not told again.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_changes() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let ip = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let mut network = Network {
            known: [ip(1), None],
            gone: [None, Some(start)],
            ips: [ip(1), None],
            way: Way::default(),
            changes: Some(0),
            next: start,
        };
        for (s, v4, news) in [
            (0, ip(1), false),
            // Away for a moment.
            (10, None, false),
            (20, ip(1), false),
            // Away for long.
            (30, None, false),
            (80, None, false),
            (90, ip(1), true),
            (100, ip(1), false),
            // Another one, soon after.
            (110, ip(2), false),
            (150, ip(2), true),
            (160, ip(2), false),
            // It comes and goes.
            (170, ip(1), false),
            (180, ip(2), false),
            (190, ip(3), false),
            (220, ip(3), true),
        ] {
            assert_eq!(network.is_news([v4, None], at(s)), news, "{s}");
        }
        // IPv6 came late.
        assert!(network.is_news([ip(3), Some(IpAddr::from([1; 16]))], at(280)));
    }

    /// A look that fails is made again, and nothing counts as gone meanwhile.
    #[test]
    fn a_look_fails() {
        let way = Way::default();
        let ips = [1, 2].map(|n: u8| [Some(IpAddr::from([192, 0, 2, n])), None]);
        let mut network = Network {
            known: ips[0],
            gone: [None; 2],
            ips: ips[0],
            way: way.clone(),
            changes: Some(0),
            next: Instant::now(),
        };
        network.follow(&way, 0, |_| Ok(ips[1]));
        assert_eq!(network.ips, ips[0]);
        network.follow(&way, 1, |_| Err(io::ErrorKind::OutOfMemory.into()));
        assert_eq!(network.ips, ips[0]);
        network.follow(&way, 1, |_| Ok(ips[1]));
        assert_eq!(network.ips, ips[1]);
    }
}
