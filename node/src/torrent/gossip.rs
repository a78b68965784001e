//! [`Gossip`]: the peers of a torrent that came and left, numbered for PEX (BEP 11).
//!
//! Arrivals have numbers, from 1 on, and so have departures. What a peer was told is two numbers, however many others
//! there are: all arrivals up to one, all departures up to the other. The latest [`RING`] departures are remembered.
//! A seed that left is not told of as gone but as there, for [`LATELY_MIN`] minutes: seeds part with seeds, and
//! others want them.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use everseed_core::pex::{Flags, Peer};
use everseed_core::time::Instant;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gossip {
    /// The number of the last arrival; after four thousand million of them nobody is told of another.
    pub(crate) arrivals: u32,
    /// The number of the last departure.
    pub(crate) departures: u32,
    ring: [Departure; RING as usize],
}

/// A peer that left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// An IPv4 address is mapped.
    ip: [u8; 16],
    port: u16,
    flags: Flags,
    /// When it left, in minutes, which go round in 45 days.
    minute: u16,
    /// Its number when it came.
    pub(crate) arrival: u32,
}

/// Departures that are remembered.
const RING: u32 = 16;

/// For so many minutes others are told of a seed that left.
const LATELY_MIN: u16 = 60;

impl Gossip {
    pub(crate) const EMPTY: Gossip = Gossip {
        arrivals: 0,
        departures: 0,
        ring: [Departure {
            ip: [0; 16],
            port: 0,
            flags: Flags::NONE,
            minute: 0,
            arrival: 0,
        }; RING as usize],
    };

    /// A peer came; answers with its number. If it was here before, that is forgotten.
    pub(crate) fn came(&mut self, addr: SocketAddr) -> u32 {
        for departure in &mut self.ring {
            if departure.arrival > 0 && departure.addr() == addr {
                departure.arrival = 0;
            }
        }
        self.arrivals = self.arrivals.saturating_add(1);
        self.arrivals
    }

    /// The peer of this number left; the one that left longest ago is forgotten.
    pub(crate) fn left(&mut self, now: Instant, arrival: u32, peer: Peer) {
        let ip = match peer.addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let place = (self.departures % RING) as usize;
        self.ring[place] = Departure {
            ip: ip.octets(),
            port: peer.addr.port(),
            flags: peer.flags,
            minute: minute(now),
            arrival,
        };
        self.departures = self.departures.wrapping_add(1);
    }

    /// Seeds that left of late.
    pub(crate) fn seeds_lately(&self, now: Instant) -> impl Iterator<Item = (u32, Peer)> {
        let lately = move |d: &&Departure| minute(now).wrapping_sub(d.minute) < LATELY_MIN;
        let seeds = self.ring.iter().filter(|d| d.arrival > 0 && d.is_seed());
        seeds.filter(lately).map(|d| (d.arrival, d.peer()))
    }

    /// Those that left after so many departures, of the arrivals up to `told`.
    pub(crate) fn gone(&self, since: u32, told: u32) -> impl Iterator<Item = SocketAddr> {
        let count = self.departures.wrapping_sub(since).min(RING);
        let all = (1..=count).map(|back| (self.departures.wrapping_sub(back) % RING) as usize);
        let all = all.map(|place| &self.ring[place]);
        let known = move |d: &&Departure| d.arrival > 0 && d.arrival <= told && !d.is_seed();
        all.filter(known).map(Departure::addr)
    }
}

impl Departure {
    fn is_seed(&self) -> bool {
        self.flags.has(Flags::SEED)
    }

    fn addr(&self) -> SocketAddr {
        let ip = IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical();
        SocketAddr::new(ip, self.port)
    }

    fn peer(&self) -> Peer {
        Peer {
            addr: self.addr(),
            flags: self.flags,
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // It goes round.
fn minute(now: Instant) -> u16 {
    (now.as_micros() / 60_000_000) as u16
}

const _: () = assert!(size_of::<Gossip>() <= 460);

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    extern crate std;
    use std::vec::Vec;

    fn peer(n: u8, seed: bool) -> Peer {
        Peer {
            addr: SocketAddr::from(([10, 0, 0, n], 6881)),
            flags: Flags::NONE.with(Flags::SEED, seed),
        }
    }

    #[test]
    fn departures_and_seeds() {
        let mut gossip = Gossip::EMPTY;
        let now = Instant::from_secs(1_000_000);
        for n in 1..=20 {
            assert_eq!(gossip.came(peer(n, false).addr), u32::from(n));
        }
        // Who was told of ten hears of those of them that left since, but not of seeds.
        for n in [3, 12, 7] {
            gossip.left(now, n.into(), peer(n, n == 7));
        }
        let gone = |gossip: &Gossip, since| -> Vec<SocketAddr> { gossip.gone(since, 10).collect() };
        assert_eq!(gone(&gossip, 0), [peer(3, false).addr]);
        assert_eq!(gone(&gossip, 1), []);
        let lately = |gossip: &Gossip, now| gossip.seeds_lately(now).collect::<Vec<_>>();
        assert_eq!(lately(&gossip, now), [(7, peer(7, true))]);
        assert_eq!(lately(&gossip, now + Duration::from_secs(3601)), []);
        // Who is back did not leave.
        assert_eq!(gossip.came(peer(7, false).addr), 21);
        assert_eq!(gossip.came(peer(3, false).addr), 22);
        assert_eq!(
            (gone(&gossip, 0), lately(&gossip, now)),
            (Vec::new(), Vec::new())
        );
        // No more are remembered than there is room for.
        for n in 100..=200 {
            gossip.left(now, 5, peer(n, false));
        }
        assert_eq!(gone(&gossip, 0).len(), RING as usize);
        assert_eq!(gone(&gossip, 100)[0], peer(200, false).addr);
    }
}
