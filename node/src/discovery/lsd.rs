//! LSD, local service discovery (BEP 14): decides when to announce torrents to the local networks, and takes the
//! packets of others.
//!
//! - A torrent is announced when it is published, and again 2 and 6 s later, because packets get lost.
//! - All are announced once in five minutes, [`PER_PACKET`] in a packet, with a packet every five seconds. Ten thousand
//!   take 35 minutes, then the next round begins.
//! - When a peer announces a torrent that we have, we announce it too, once a minute at most, so that the peer can call
//!   us. [`HEARD`] such torrents are remembered. If there are more in a minute, the others get no answer.
//!
//! The host has the sockets, groups and interfaces, and finds out whether a sender is in one of our networks. Our own
//! packets come back to us. We recognize them by a cookie.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::lsd::{PER_PACKET, Search, write};
use everseed_core::time::Instant;
use everseed_core::tracker::Family;

use crate::torrent::registry::Registry;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lsd {
    cookie: u32,
    /// Torrents that were published lately. If there are more, the others are announced only in the next round.
    fresh: heapless::Vec<Fresh, FRESH>,
    /// Torrents that peers announced, and whether an answer is due; the oldest first.
    heard: heapless::Vec<Heard, HEARD>,
    /// Whether any torrent was ever published so.
    used: bool,
    /// The time of the next round, and the place of the next torrent during a round.
    round_at: Instant,
    walk: Option<u16>,
    /// The time of the next packet of the round.
    packet_at: Instant,
    /// The packet that the host has to send.
    packet: heapless::Vec<InfoHash, PER_PACKET>,
}

#[derive(Clone, Copy, Debug)]
struct Fresh {
    id: TorrentId,
    /// How often it was announced: an index of [`AFTER`].
    told: usize,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    id: TorrentId,
    at: Instant,
    answered: bool,
}

impl Lsd {
    pub(crate) const fn new(cookie: u32) -> Lsd {
        Lsd {
            cookie,
            fresh: heapless::Vec::new(),
            heard: heapless::Vec::new(),
            used: false,
            round_at: Instant::ZERO,
            walk: None,
            packet_at: Instant::ZERO,
            packet: heapless::Vec::new(),
        }
    }

    /// Announces a torrent from now on.
    pub(crate) fn add(&mut self, now: Instant, id: TorrentId) {
        self.used = true;
        self.remove(id);
        let _ = self.fresh.push(Fresh {
            id,
            told: 0,
            at: now,
        });
    }

    /// Announces all torrents from now on.
    pub(crate) fn renew(&mut self, now: Instant) {
        if self.walk.is_none() {
            self.round_at = now;
        }
    }

    /// Stops announcing a torrent.
    pub(crate) fn remove(&mut self, id: TorrentId) {
        self.fresh.retain(|fresh| fresh.id != id);
        self.heard.retain(|heard| heard.id != id);
    }

    /// Takes a packet. Passes on those of its torrents that we have, with the address at which its sender can be
    /// called.
    pub(crate) fn received(
        &mut self,
        now: Instant,
        registry: &Registry<'_>,
        from: SocketAddr,
        packet: &[u8],
        mut on_peer: impl FnMut(TorrentId, SocketAddr),
    ) {
        let Some(search) = Search::read(packet) else {
            return;
        };
        if is_cookie(search.cookie, self.cookie) {
            return;
        }
        let mut addr = from;
        addr.set_port(search.port);
        self.heard
            .retain(|heard| now - heard.at < ANSWER_EVERY || !heard.answered);
        for info_hash in search.info_hashes() {
            let id = registry.find(info_hash);
            let Some(id) = id.filter(|&id| registry.publicity(id).lsd()) else {
                continue;
            };
            on_peer(id, addr);
            if !self.heard.iter().any(|heard| heard.id == id) {
                // There is no room for more answers now.
                let _ = self.heard.push(Heard {
                    id,
                    at: now,
                    answered: false,
                });
            }
        }
    }

    /// Prepares the next packet, if one is due.
    pub(crate) fn poll(&mut self, now: Instant, registry: &Registry<'_>) -> bool {
        if self.deadline().is_none_or(|at| at > now) {
            return false;
        }
        self.packet.clear();
        for heard in self.heard.iter_mut().filter(|heard| !heard.answered) {
            if put(&mut self.packet, registry, heard.id) {
                (heard.answered, heard.at) = (true, now);
            }
        }
        for fresh in self.fresh.iter_mut().filter(|fresh| fresh.at <= now) {
            if put(&mut self.packet, registry, fresh.id) {
                fresh.told += 1;
                fresh.at = now + AFTER.get(fresh.told).copied().unwrap_or_default();
            }
        }
        self.fresh.retain(|fresh| fresh.told < AFTER.len());
        if self.walk.is_some() || self.round_at <= now {
            self.go_round(now, registry);
        }
        !self.packet.is_empty()
    }

    /// Fills a packet with the torrents whose turn it is.
    fn go_round(&mut self, now: Instant, registry: &Registry<'_>) {
        if self.walk.is_none() {
            self.round_at = now + ROUND;
        } else if self.packet_at > now {
            return;
        }
        self.packet_at = now + PACE;
        let mut place = self.walk.unwrap_or(0);
        while let Some(id) = registry.next_from(place) {
            if registry.publicity(id).lsd() && !put(&mut self.packet, registry, id) {
                self.walk = Some(id.slot);
                return;
            }
            place = id.slot.saturating_add(1);
        }
        self.walk = None;
    }

    /// Writes the packet for the group of a family. It says that we accept peers on `port`.
    pub(crate) fn write(&self, family: Family, port: u16, out: &mut [u8]) -> Option<usize> {
        if self.packet.is_empty() {
            return None;
        }
        write(family, port, self.cookie, &self.packet, out)
    }

    /// The time of the next packet.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !self.used {
            return None;
        }
        if self.heard.iter().any(|heard| !heard.answered) {
            return Some(Instant::ZERO);
        }
        let fresh = self.fresh.iter().map(|fresh| fresh.at).min();
        let round = match self.walk {
            Some(_) => self.packet_at,
            None => self.round_at,
        };
        Some(fresh.map_or(round, |at| at.min(round)))
    }
}

/// Puts a torrent into a packet. Returns whether it is in the packet now, or may not be announced at all.
fn put(
    packet: &mut heapless::Vec<InfoHash, PER_PACKET>,
    registry: &Registry<'_>,
    id: TorrentId,
) -> bool {
    let info_hash = registry
        .info_hash(id)
        .filter(|_| registry.publicity(id).lsd());
    info_hash.is_none_or(|hash| packet.contains(&hash) || packet.push(hash).is_ok())
}

fn is_cookie(told: &[u8], ours: u32) -> bool {
    let told = core::str::from_utf8(told).ok();
    told.and_then(|text| u32::from_str_radix(text, 16).ok()) == Some(ours)
}

/// The times between the announces of a new torrent.
const AFTER: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The number of new torrents that are announced more often.
const FRESH: usize = 32;

/// The number of torrents whose last answer is remembered.
const HEARD: usize = 32;

/// The least time between two answers about a torrent.
const ANSWER_EVERY: Duration = Duration::from_secs(60);

/// The time between two rounds.
const ROUND: Duration = Duration::from_secs(300);

/// The time between packets of a round.
const PACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::publicity::Publicity;
    use crate::torrent::registry::Registered;

    extern crate std;
    use std::vec;
    use std::vec::Vec;

    const NEAR: Publicity = Publicity::NONE.with_lsd();

    fn hash(n: u16) -> InfoHash {
        let [a, b] = n.to_le_bytes();
        let mut hash = [7; 20];
        (hash[0], hash[1], hash[2], hash[3]) = (a, b, 0, 0);
        InfoHash(hash)
    }

    fn registry(count: u16) -> Registry<'static> {
        Registry::new(vec![Registered::EMPTY; usize::from(count)].leak())
    }

    /// The announces within a time, each with its second.
    fn told(
        lsd: &mut Lsd,
        registry: &Registry<'_>,
        now: &mut Instant,
        s: u64,
    ) -> Vec<(u64, usize)> {
        let (begin, mut all) = (*now, Vec::new());
        let end = begin + Duration::from_secs(s);
        while lsd.deadline().is_some_and(|at| at < end) {
            *now = (*now).max(lsd.deadline().unwrap());
            if lsd.poll(*now, registry) {
                all.push(((*now - begin).as_secs(), lsd.packet.len()));
                let mut out = [0; everseed_core::lsd::PACKET_MAX];
                assert!(lsd.write(Family::V6, u16::MAX, &mut out).is_some());
            }
        }
        *now = end;
        all
    }

    #[test]
    fn one_torrent() {
        let (mut lsd, mut registry) = (Lsd::new(1), registry(4));
        let mut now = Instant::from_secs(1000);
        assert_eq!(lsd.deadline(), None, "nothing wakes up for nothing");
        for (n, publicity) in [(0, NEAR), (1, Publicity::PRIVATE), (2, Publicity::NONE)] {
            let id = registry.add(hash(n)).unwrap();
            registry.set_publicity(id, publicity);
        }
        lsd.add(now, registry.find(hash(0)).unwrap());
        let all = told(&mut lsd, &registry, &mut now, 1000);
        assert_eq!(all, [(0, 1), (2, 1), (6, 1), (300, 1), (600, 1), (900, 1)]);
    }

    #[test]
    fn ten_thousand_in_turn() {
        let (mut lsd, mut registry) = (Lsd::new(1), registry(11_000));
        let mut now = Instant::from_secs(1000);
        for n in 0..10_000 {
            let id = registry.add(hash(n)).unwrap();
            registry.set_publicity(id, NEAR);
            lsd.add(now, id);
        }
        let all = told(&mut lsd, &registry, &mut now, 2100);
        let count: usize = all.iter().map(|&(_, count)| count).sum();
        assert!(count >= 10_000, "{count} were told of");
        let most = all
            .iter()
            .filter(|&&(s, _)| (600..660).contains(&s))
            .count();
        assert!(most <= 13, "{most} packets in a minute");
    }

    #[test]
    fn who_is_heard_is_answered() {
        let (mut lsd, mut registry) = (Lsd::new(0xbeef), registry(100));
        let mut now = Instant::from_secs(1000);
        for n in 0..60 {
            let id = registry.add(hash(n)).unwrap();
            registry.set_publicity(id, if n < 50 { NEAR } else { Publicity::PRIVATE });
            if n < 50 {
                lsd.add(now, id);
            }
        }
        told(&mut lsd, &registry, &mut now, 250);
        let from: SocketAddr = "192.168.1.9:6771".parse().unwrap();
        let say = |lsd: &mut Lsd, now, cookie, torrents: &[u16]| {
            let torrents: Vec<InfoHash> = torrents.iter().map(|&n| hash(n)).collect();
            let mut out = [0; everseed_core::lsd::PACKET_MAX];
            let len = write(Family::V4, 7000, cookie, &torrents, &mut out).unwrap();
            let mut peers = Vec::new();
            lsd.received(now, &registry, from, &out[..len], |_, addr| {
                peers.push(addr)
            });
            peers
        };
        let addr = "192.168.1.9:7000".parse().unwrap();
        assert_eq!(say(&mut lsd, now, 5, &[3, 4, 55, 200]), [addr, addr]);
        assert_eq!(told(&mut lsd, &registry, &mut now, 1), [(0, 2)]);
        // Once a minute. Our own packets get no answer.
        assert_eq!(say(&mut lsd, now, 5, &[3]), [addr]);
        assert_eq!(say(&mut lsd, now, 0xbeef, &[9]), []);
        assert_eq!(told(&mut lsd, &registry, &mut now, 10), []);
        // Of a flood, as many get an answer as are remembered.
        for n in 0..50 {
            say(&mut lsd, now, n.into(), &[n]);
        }
        let all = told(&mut lsd, &registry, &mut now, 20);
        let count: usize = all.iter().map(|&(_, count)| count).sum();
        assert_eq!(count, HEARD - 2);
    }
}
