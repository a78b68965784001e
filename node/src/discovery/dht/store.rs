//! The store of peers that others announced to us (BEP 5).
//!
//! | there are at most | when there are as many |
//! |---|---|
//! | as many entries as lent slots, 512 | no token is given, so nobody announces, until some have expired |
//! | [`PER_TORRENT`] of a torrent | the same for that torrent |
//! | [`PER_NETWORK`] of a torrent from one /24 (IPv6: /64), and [`PER_NETWORK_IN_ALL`] of all | the same for that network |
//!
//! Whoever is there may announce itself again. Entries are sorted by torrent, and forgotten after [`LIFETIME`].

use core::ops::Range;
use core::time::Duration;

use everseed_core::krpc::NodeId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use super::endpoint::Endpoint;

/// A lent slot for one peer of one torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredPeer {
    info_hash: NodeId,
    at: Endpoint,
    /// Minutes modulo 2^15, and whether it is a seed.
    stamp: u16,
}

const _: () = assert!(size_of::<StoredPeer>() <= 40);

impl StoredPeer {
    /// An unused slot.
    pub(crate) const EMPTY: StoredPeer = StoredPeer {
        info_hash: NodeId([0; 20]),
        at: Endpoint::NONE,
        stamp: 0,
    };

    fn is_seed(&self) -> bool {
        self.stamp & 1 == 1
    }
}

/// See the module.
///
/// Invariant: the first `len` entries are in use, and sorted by info-hash.
#[derive(Debug)]
pub(crate) struct Store<'m> {
    entries: &'m mut [StoredPeer],
    len: usize,
}

impl<'m> Store<'m> {
    pub(crate) fn new(entries: &'m mut [StoredPeer]) -> Store<'m> {
        Store { entries, len: 0 }
    }

    /// Peers that are known, of all torrents.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether an announce from here would be taken.
    pub(crate) fn takes(&self, info_hash: NodeId, from: Endpoint) -> bool {
        let torrent = self.peers(info_hash);
        if torrent.iter().any(|e| e.at.same_host(from)) {
            return true;
        }
        let network = from.network();
        let of_network = |e: &&StoredPeer| e.at.network() == network;
        self.len < self.entries.len()
            && torrent.len() < PER_TORRENT
            && torrent.iter().filter(of_network).count() < PER_NETWORK
            && self.all().iter().filter(of_network).count() < PER_NETWORK_IN_ALL
    }

    /// Notes a peer; answers whether it is kept.
    pub(crate) fn announce(
        &mut self,
        now: Instant,
        info_hash: NodeId,
        at: Endpoint,
        seed: bool,
    ) -> bool {
        let stamp = minutes(now) << 1 | u16::from(seed);
        let range = self.range(info_hash);
        let mut known = self.entries[range.clone()].iter_mut();
        if let Some(known) = known.find(|e| e.at == at) {
            known.stamp = stamp;
            return true;
        }
        // A host may announce one port more only if it is not one too many.
        let network = at.network();
        let torrent = &self.entries[range.clone()];
        let of_network = torrent.iter().filter(|e| e.at.network() == network);
        if of_network.count() >= PER_NETWORK || !self.takes(info_hash, at) {
            return false;
        }
        if self.len == self.entries.len() || range.len() >= PER_TORRENT {
            return false;
        }
        self.entries[range.end..=self.len].rotate_right(1);
        self.entries[range.end] = StoredPeer {
            info_hash,
            at,
            stamp,
        };
        self.len += 1;
        true
    }

    /// Peers of a torrent.
    pub(crate) fn peers(&self, info_hash: NodeId) -> &[StoredPeer] {
        &self.entries[self.range(info_hash)]
    }

    /// Some torrents by chance, up to the room that there is, and how many there are in all (BEP 51).
    pub(crate) fn sample(&self, rng: &mut Rng, out: &mut [NodeId]) -> (usize, u32) {
        let starts =
            |all: &[StoredPeer], at: usize| at == 0 || all[at - 1].info_hash != all[at].info_hash;
        let all = self.all();
        let (mut filled, mut seen) = (0, 0);
        for at in (0..all.len()).filter(|&at| starts(all, at)) {
            // Each torrent has the same chance to be among those that are told.
            seen += 1;
            if filled < out.len() {
                out[filled] = all[at].info_hash;
                filled += 1;
            } else if let Some(slot) = out.get_mut(rng.below(seen) as usize) {
                *slot = all[at].info_hash;
            }
        }
        (filled, seen)
    }

    /// Forgets those that have not announced for long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let now = minutes(now);
        let mut kept = 0;
        for at in 0..self.len {
            let age = now.wrapping_sub(self.entries[at].stamp >> 1) & MINUTES;
            if u64::from(age) * 60 < LIFETIME.as_secs() {
                self.entries[kept] = self.entries[at];
                kept += 1;
            }
        }
        self.len = kept;
    }

    fn all(&self) -> &[StoredPeer] {
        &self.entries[..self.len]
    }

    fn range(&self, info_hash: NodeId) -> Range<usize> {
        let start = self.all().partition_point(|e| e.info_hash < info_hash);
        let end = self.all().partition_point(|e| e.info_hash <= info_hash);
        start..end
    }
}

impl StoredPeer {
    /// Where the peer is.
    pub(crate) fn at(&self) -> Endpoint {
        self.at
    }

    /// Whether it is of use to one who wants no seeds.
    pub(crate) fn serves(&self, noseed: bool) -> bool {
        !(noseed && self.is_seed())
    }

    /// Whether it said that it has all.
    pub(crate) fn has_all(&self) -> bool {
        self.is_seed()
    }
}

#[allow(clippy::cast_possible_truncation)] // They go round.
fn minutes(now: Instant) -> u16 {
    (now.as_micros() / 60_000_000) as u16 & MINUTES
}

/// Minutes go round after 22 days; nothing is kept for nearly as long.
const MINUTES: u16 = 0x7fff;

/// Peers of one torrent.
pub(crate) const PER_TORRENT: usize = 32;

/// Peers of one torrent from one network.
pub(crate) const PER_NETWORK: usize = 4;

/// Entries of one network for all torrents together.
pub(crate) const PER_NETWORK_IN_ALL: usize = 32;

/// Who does not announce again within this time is forgotten; clients do after 15 to 30 minutes.
pub(crate) const LIFETIME: Duration = Duration::from_secs(45 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn at(ip: [u8; 4], port: u16) -> Endpoint {
        SocketAddr::from((ip, port)).into()
    }

    fn hash(n: u8) -> NodeId {
        NodeId([n; 20])
    }

    const NOW: Instant = Instant::from_secs(600);

    #[test]
    fn limits() {
        // Announces in turn, `n` of `count`: the torrent, the address and the port. How many are kept?
        type Nth = fn(u8) -> (u8, [u8; 4], u16);
        let table: [(&str, u8, Nth, usize); 7] = [
            ("the same", 50, |_| (1, [20, 0, 0, 1], 6881), 1),
            ("networks", 50, |n| (1, [20, n, 0, 1], 6881), PER_TORRENT),
            ("hosts", 50, |n| (1, [20, 0, 0, n], 6881), PER_NETWORK),
            ("ports", 50, |n| (1, [20, 0, 0, 1], n.into()), PER_NETWORK),
            (
                "torrents",
                50,
                |n| (n, [20, 0, 0, 1], 6881),
                PER_NETWORK_IN_ALL,
            ),
            ("at home", 50, |n| (1, [10, 0, 0, n], 6881), PER_TORRENT),
            ("all", 200, |n| (n, [20, n, 0, 1], 6881), 64),
        ];
        for (name, count, nth, kept) in table {
            let mut room = [StoredPeer::EMPTY; 64];
            let mut store = Store::new(&mut room);
            for n in 1..=count {
                let (torrent, ip, port) = nth(n);
                store.announce(NOW, hash(torrent), at(ip, port), false);
            }
            assert_eq!(store.len(), kept, "{name}");
            assert!(store.all().is_sorted_by_key(|e| e.info_hash));
        }
    }

    #[test]
    fn who_is_there_may_come_again() {
        let mut room = [StoredPeer::EMPTY; 4];
        let mut store = Store::new(&mut room);
        for n in 1..=4 {
            assert!(store.takes(hash(1), at([20, n, 0, 1], 1)));
            assert!(store.announce(NOW, hash(1), at([20, n, 0, 1], 1), n == 1));
        }
        assert!(!store.takes(hash(1), at([20, 5, 0, 1], 1)));
        assert!(store.takes(hash(1), at([20, 1, 0, 1], 1)));
        let later = NOW + LIFETIME / 2;
        assert!(store.announce(later, hash(1), at([20, 1, 0, 1], 1), true));
        assert!(!store.announce(later, hash(1), at([20, 1, 0, 1], 2), true));
        store.expire(NOW + LIFETIME);
        assert_eq!(store.len(), 1);
        assert!(store.peers(hash(1))[0].has_all() && !store.peers(hash(1))[0].serves(true));
        store.expire(NOW + 2 * LIFETIME);
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn minutes_go_round() {
        let mut room = [StoredPeer::EMPTY; 4];
        let mut store = Store::new(&mut room);
        let late = Instant::from_secs(0x7fff * 60);
        store.announce(late, hash(1), at([20, 0, 0, 1], 1), false);
        store.expire(late + LIFETIME / 2);
        assert_eq!(store.len(), 1);
        store.expire(late + LIFETIME);
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn samples() {
        let mut room = [StoredPeer::EMPTY; 200];
        let mut store = Store::new(&mut room);
        let mut rng = Rng::new(1);
        for n in 0..60 {
            for peer in 0..3 {
                store.announce(NOW, hash(n), at([20, n, peer, 1], 1), false);
            }
        }
        let mut seen = [0; 60];
        for _ in 0..2000 {
            let mut out = [hash(255); 8];
            assert_eq!(store.sample(&mut rng, &mut out), (8, 60));
            out.iter()
                .for_each(|hash| seen[usize::from(hash.0[0])] += 1);
        }
        assert!(seen.iter().all(|&n| (150..400).contains(&n)), "{seen:?}");
        let mut out = [hash(255); 80];
        assert_eq!(store.sample(&mut rng, &mut out), (60, 60));
    }
}
