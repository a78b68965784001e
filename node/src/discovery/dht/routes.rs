//! The routing table of one family: nodes that answered, more of them the closer they are to us (BEP 5).
//!
//! A bucket holds [`K`] nodes that have as many first bits in common with our id as the bucket's number says; the
//! last bucket holds all that have more. Buckets are never split, so the table is one slice.
//!
//! Who gets a place:
//!
//! - Only who answered a query of ours, or was kept from the last run.
//! - One node of a host, and in a bucket one of a /24 (IPv6: /64). In private networks hosts are told by address and
//!   port, and networks are not looked at.
//! - In a full bucket the one that failed most gives way; then one whose id does not fit its address (BEP 42), if the
//!   new one's does. Else the new one is dropped: who is there for long will be there for longer.
//! - Nobody leaves because it failed, unless somebody takes its place, or it failed [`FAILURES`] times while others
//!   answered. So a table survives a day without a network.

use core::time::Duration;

use everseed_core::hash::Digest;
use everseed_core::krpc::NodeId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use super::endpoint::Endpoint;

/// A lent slot for one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    id: NodeId,
    at: Endpoint,
    /// When it answered last, in seconds from 1 on; 0 if it has not yet.
    heard_s: u32,
    /// Queries in a row that it did not answer.
    failures: u8,
    used: bool,
}

const _: () = assert!(size_of::<Route>() <= 44);

impl Route {
    /// An unused slot.
    pub(crate) const EMPTY: Route = Route {
        id: NodeId([0; 20]),
        at: Endpoint::NONE,
        heard_s: 0,
        failures: 0,
        used: false,
    };

    fn is_good(&self) -> bool {
        self.used && self.heard_s > 0 && self.failures < 2
    }
}

/// Nodes of a bucket, and of an answer (BEP 5).
pub(crate) const K: usize = 8;

/// A few nodes, the closest first.
pub(crate) type Closest = heapless::Vec<(NodeId, Endpoint), K>;

/// See the module.
///
/// Invariant: node `n` of the slice is in bucket `n / K`, which is the one that its id belongs to.
#[derive(Debug)]
pub(crate) struct Routes<'m> {
    own: NodeId,
    slots: &'m mut [Route],
    /// When any node answered last.
    heard_at: Option<Instant>,
}

impl<'m> Routes<'m> {
    /// An empty table; slots beyond a whole bucket are not used.
    pub(crate) fn new(own: NodeId, slots: &'m mut [Route]) -> Routes<'m> {
        let whole = slots.len() / K * K;
        let (slots, _) = slots.split_at_mut(whole);
        slots.fill(Route::EMPTY);
        Routes {
            own,
            slots,
            heard_at: None,
        }
    }

    pub(crate) fn own(&self) -> NodeId {
        self.own
    }

    /// Takes another id. Whoever finds no place in the bucket that it belongs to then is forgotten.
    pub(crate) fn rename(&mut self, own: NodeId) {
        self.own = own;
        for slot in 0..self.slots.len() {
            let route = self.slots[slot];
            let bucket = self.bucket(route.id);
            if !route.used || slot / K == bucket {
                continue;
            }
            self.slots[slot] = Route::EMPTY;
            let mut bucket = self.slots[bucket * K..][..K].iter_mut();
            if let Some(free) = bucket.find(|r| !r.used) {
                *free = route;
            }
        }
    }

    /// A node has answered. Answers whether it has a place. One that has taken another id loses the one of the old.
    pub(crate) fn answered(&mut self, now: Instant, id: NodeId, at: Endpoint) -> bool {
        self.heard_at = Some(now);
        let renamed = |r: &&mut Route| r.used && r.at == at && r.id != id;
        if let Some(renamed) = self.slots.iter_mut().find(renamed) {
            *renamed = Route::EMPTY;
        }
        self.insert(id, at, seconds(now))
    }

    /// A node was kept from the last run; it has a place like others, but has to answer before anybody hears of it.
    pub(crate) fn kept(&mut self, id: NodeId, at: Endpoint) -> bool {
        self.insert(id, at, 0)
    }

    fn insert(&mut self, id: NodeId, at: Endpoint, heard_s: u32) -> bool {
        let new = Route {
            id,
            at,
            heard_s,
            failures: 0,
            used: true,
        };
        let Some(slot) = self.place(&new) else {
            return false;
        };
        // A host has one place: it may have taken another id, or moved to another port.
        let stale = |r: &&mut Route| r.used && r.at.same_host(at) && r.id != id;
        self.slots
            .iter_mut()
            .filter(stale)
            .for_each(|r| *r = Route::EMPTY);
        self.slots[slot] = new;
        true
    }

    /// Whether a node would have a place if it answered, without anybody having to leave.
    pub(crate) fn has_room_for(&self, id: NodeId, at: Endpoint) -> bool {
        let new = Route {
            id,
            at,
            ..Route::EMPTY
        };
        self.place(&new).is_some_and(|slot| !self.slots[slot].used)
    }

    /// The slot for a node, if it may have one.
    fn place(&self, new: &Route) -> Option<usize> {
        if new.id == self.own || !new.at.is_possible() {
            return None;
        }
        let first = self.bucket(new.id) * K;
        let bucket = self.slots.get(first..first + K)?;
        if let Some(known) = bucket.iter().position(|r| r.used && r.id == new.id) {
            let known_route = &bucket[known];
            let may = known_route.at == new.at || known_route.failures > 0;
            return may.then_some(first + known);
        }
        // Another id at the very same address and port is that host's new one. From another port it is a second
        // node, unless the first is not there any more.
        let crowded =
            |r: &Route| r.used && r.at.same_host(new.at) && r.at != new.at && r.failures == 0;
        if self.slots.iter().any(crowded) {
            return None;
        }
        let of_network = |r: &Route| r.used && r.at.same_network(new.at) && !r.at.same_host(new.at);
        let lives = |r: &Route| of_network(r) && r.failures == 0;
        if bucket.iter().any(lives) {
            return None;
        }
        let same = |r: &Route| r.used && (r.at.same_host(new.at) || of_network(r));
        let same = bucket.iter().position(same);
        let free = same.or_else(|| bucket.iter().position(|r| !r.used));
        let failed = (0..K)
            .filter(|&n| bucket[n].failures > 0)
            .max_by_key(|&n| bucket[n].failures);
        let misfit = new.id.fits(new.at.ip()).then(|| {
            let misfit = |r: &Route| !r.id.fits(r.at.ip());
            bucket.iter().position(misfit)
        });
        let place = free.or(failed).or(misfit.flatten())?;
        Some(first + place)
    }

    /// A node has not answered.
    pub(crate) fn failed(&mut self, now: Instant, at: Endpoint) {
        let online = self.heard_at.is_some_and(|heard| now - heard < ONLINE);
        let Some(route) = self.slots.iter_mut().find(|r| r.used && r.at == at) else {
            return;
        };
        route.failures = route.failures.saturating_add(1);
        if route.failures >= FAILURES {
            match online {
                true => *route = Route::EMPTY,
                false => route.failures = FAILURES,
            }
        }
    }

    /// The nodes closest to `target`. Others are told only of those that answered lately (`good`).
    pub(crate) fn closest(&self, target: NodeId, good: bool) -> Closest {
        let mut closest = Closest::new();
        let mut distances = heapless::Vec::<Digest, K>::new();
        for route in self.slots.iter().filter(|r| r.used) {
            if good && !route.is_good() {
                continue;
            }
            let distance = route.id.distance(target);
            let at = distances.partition_point(|d| *d < distance);
            if at == K {
                continue;
            }
            if closest.is_full() {
                closest.pop();
                distances.pop();
            }
            // There is room, as was just made.
            let _ = closest.insert(at, (route.id, route.at));
            let _ = distances.insert(at, distance);
        }
        closest
    }

    /// The node to ask next, to check whether it still answers: one that failed, or the one that was silent the
    /// longest, for [`STALE`] at least. With it an id of its bucket, so that the answer may fill that.
    pub(crate) fn stalest(&self, now: Instant, rng: &mut Rng) -> Option<(Endpoint, NodeId)> {
        let now_s = seconds(now);
        let stale = |r: &&Route| {
            let age = u64::from(now_s.saturating_sub(r.heard_s));
            r.used && (r.failures > 0 || age >= STALE.as_secs())
        };
        let route = self.slots.iter().filter(stale).min_by_key(|r| r.heard_s)?;
        Some((route.at, self.near(self.bucket(route.id), rng)))
    }

    /// A random id of a bucket.
    fn near(&self, bucket: usize, rng: &mut Rng) -> NodeId {
        let NodeId(mut id) = NodeId::random(rng);
        for bit in 0..=bucket {
            let (byte, mask) = (bit / 8, 0x80 >> (bit % 8));
            let own = self.own.0[byte] & mask;
            // The bucket's nodes differ from us in the first bit that is not common.
            let wanted = if bit == bucket { own ^ mask } else { own };
            id[byte] = (id[byte] & !mask) | wanted;
        }
        NodeId(id)
    }

    /// Whether this node answered a query of ours within [`STALE`].
    pub(crate) fn is_proven(&self, now: Instant, at: Endpoint) -> bool {
        let proven = |r: &Route| {
            let age = u64::from(seconds(now).saturating_sub(r.heard_s));
            r.is_good() && r.at == at && age < STALE.as_secs()
        };
        self.slots.iter().any(proven)
    }

    pub(crate) fn contains(&self, at: Endpoint) -> bool {
        self.slots.iter().any(|r| r.used && r.at.same_host(at))
    }

    /// Nodes that answered and did not fail since.
    pub(crate) fn good(&self) -> usize {
        self.slots.iter().filter(|r| r.is_good()).count()
    }

    /// Nodes, whether they answer or not.
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().filter(|r| r.used).count()
    }

    /// The good ones, the last buckets first, which are the ones that are hard to find again.
    fn iter_good(&self) -> impl Iterator<Item = (NodeId, Endpoint)> {
        let good = self.slots.iter().rev().filter(|r| r.is_good());
        good.map(|r| (r.id, r.at))
    }

    /// The good nodes, then those kept from the last run that have not answered yet: a start without a network must not
    /// lose them.
    pub(crate) fn iter_kept(&self) -> impl Iterator<Item = (NodeId, Endpoint)> {
        let mute = self.slots.iter().rev();
        let mute = mute.filter(|r| r.used && r.heard_s == 0);
        self.iter_good().chain(mute.map(|r| (r.id, r.at)))
    }

    fn bucket(&self, id: NodeId) -> usize {
        let last = (self.slots.len() / K).saturating_sub(1);
        (self.own.shared_bits(id) as usize).min(last)
    }
}

/// Whole seconds, from 1 on, so that 0 is never.
fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000)
        .unwrap_or(u32::MAX)
        .max(1)
}

/// A node that was not heard of for so long is asked whether it is there (BEP 5).
pub(crate) const STALE: Duration = Duration::from_secs(900);

/// Somebody who fails so often while others answer is gone.
pub(crate) const FAILURES: u8 = 3;

/// Within this time of an answer of anybody, failing is the fault of who fails.
const ONLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use everseed_core::krpc::is_local;

    const OWN: NodeId = NodeId([0; 20]);
    const NOW: Instant = Instant::from_secs(1000);

    fn at(ip: [u8; 4]) -> Endpoint {
        SocketAddr::from((ip, 6881)).into()
    }

    fn id(first: u8, last: u8) -> NodeId {
        let mut id = [0; 20];
        (id[0], id[19]) = (first, last);
        NodeId(id)
    }

    #[test]
    fn one_of_a_host_and_one_of_a_network_in_a_bucket() {
        // Nodes that answer one after the other; has the last one a place?
        type Node = (NodeId, [u8; 4]);
        let table: [(&[Node], bool); 8] = [
            (&[(id(0x80, 1), [20, 0, 0, 1])], true),
            (&[(OWN, [20, 0, 0, 1])], false),
            // The same host with another id is the same node.
            (
                &[(id(0x80, 1), [20, 0, 0, 1]), (id(0x40, 1), [20, 0, 0, 1])],
                true,
            ),
            // One /24 in a bucket, and in two.
            (
                &[(id(0x80, 1), [20, 0, 0, 1]), (id(0x81, 1), [20, 0, 0, 2])],
                false,
            ),
            (
                &[(id(0x80, 1), [20, 0, 0, 1]), (id(0x40, 1), [20, 0, 0, 2])],
                true,
            ),
            // An id at another address is not believed while the first lives.
            (
                &[(id(0x80, 1), [20, 0, 0, 1]), (id(0x80, 1), [21, 0, 0, 2])],
                false,
            ),
            // At home everybody may.
            (
                &[(id(0x80, 1), [10, 0, 0, 1]), (id(0x81, 1), [10, 0, 0, 2])],
                true,
            ),
            (&[(id(0x80, 1), [0, 0, 0, 0])], false),
        ];
        for (nodes, expected) in table {
            let mut slots = [Route::EMPTY; 32];
            let mut routes = Routes::new(OWN, &mut slots);
            let mut last = None;
            for (id, ip) in nodes {
                last = Some(routes.answered(NOW, *id, at(*ip)));
            }
            assert_eq!(last, Some(expected), "{nodes:?}");
            let hosts: std::collections::BTreeSet<_> =
                routes.iter_good().map(|(_, at)| at.ip()).collect();
            assert_eq!(hosts.len(), routes.len());
        }
    }

    #[test]
    fn a_full_bucket() {
        let mut slots = [Route::EMPTY; 32];
        let mut routes = Routes::new(OWN, &mut slots);
        let mut rng = Rng::new(5);
        for n in 0..8 {
            let ip = [20, n, 0, 1];
            assert!(!is_local(ip.into()));
            assert!(routes.answered(NOW, id(0x80, n), at(ip)));
        }
        assert!(!routes.answered(NOW, id(0x80, 9), at([20, 9, 0, 1])));
        assert!(!routes.has_room_for(id(0x80, 9), at([20, 9, 0, 1])));
        // Who fits its address is preferred to who does not.
        let ip = [20, 10, 0, 1];
        let fit = core::iter::repeat_with(|| NodeId::of(ip.into(), &mut rng));
        let fit = fit.into_iter().find(|id| id.0[0] & 0x80 != 0);
        assert!(routes.answered(NOW, fit.unwrap(), at(ip)));
        assert_eq!(routes.len(), 8);
        // Who failed gives way.
        routes.failed(NOW, at([20, 5, 0, 1]));
        assert!(routes.answered(NOW, id(0x80, 20), at([20, 20, 0, 1])));
        assert!(!routes.contains(at([20, 5, 0, 1])));
        // The other buckets have room.
        assert!(routes.has_room_for(id(0x40, 9), at([20, 9, 0, 1])));
    }

    #[test]
    fn who_fails_stays_while_nobody_answers() {
        for (online, left) in [(true, 0), (false, 1)] {
            let mut slots = [Route::EMPTY; 32];
            let mut routes = Routes::new(OWN, &mut slots);
            routes.answered(NOW, id(0x80, 1), at([20, 0, 0, 1]));
            let later = NOW + Duration::from_secs(if online { 10 } else { 1000 });
            for _ in 0..FAILURES {
                assert_eq!(routes.len(), 1);
                routes.failed(later, at([20, 0, 0, 1]));
            }
            assert_eq!((routes.len(), routes.good()), (left, 0), "{online}");
        }
    }

    #[test]
    fn closest_and_stalest() {
        let mut slots = [Route::EMPTY; 160];
        let mut routes = Routes::new(OWN, &mut slots);
        let mut rng = Rng::new(6);
        let mut all = std::vec::Vec::new();
        for n in 0..200_u8 {
            let (id, at) = (NodeId::random(&mut rng), at([20, n, 0, 1]));
            if routes.answered(NOW + Duration::from_secs(n.into()), id, at) {
                all.push(id);
            }
        }
        routes.kept(id(1, 1), at([30, 0, 0, 1]));
        for _ in 0..50 {
            let target = NodeId::random(&mut rng);
            all.sort_by_key(|id| id.distance(target));
            let closest = routes.closest(target, true);
            assert!(closest.iter().map(|(id, _)| id).eq(&all[..K]));
        }
        assert_eq!(routes.closest(id(1, 1), false)[0].0, id(1, 1));
        // The one that never answered is asked first, then nobody for a while.
        let (stalest, near) = routes.stalest(NOW, &mut rng).unwrap();
        assert_eq!((stalest, OWN.shared_bits(near)), (at([30, 0, 0, 1]), 7));
        routes.answered(NOW, id(1, 1), at([30, 0, 0, 1]));
        assert_eq!(routes.stalest(NOW + STALE / 2, &mut rng), None);
        assert!(routes.stalest(NOW + STALE, &mut rng).is_some());
        assert!(routes.is_proven(NOW, at([30, 0, 0, 1])));
        assert!(!routes.is_proven(NOW + STALE, at([30, 0, 0, 1])));
    }

    #[test]
    fn another_id_of_our_own() {
        let mut slots = [Route::EMPTY; 160];
        let mut routes = Routes::new(OWN, &mut slots);
        let mut rng = Rng::new(7);
        for n in 0..100 {
            routes.answered(NOW, NodeId::random(&mut rng), at([20, n, 0, 1]));
        }
        let before = routes.len();
        for _ in 0..20 {
            routes.rename(NodeId::random(&mut rng));
            for (slot, route) in routes.slots.iter().enumerate().filter(|(_, r)| r.used) {
                assert_eq!(routes.bucket(route.id), slot / K);
            }
        }
        assert!(routes.len() >= 8 && routes.len() <= before);
    }

    extern crate std;
}
