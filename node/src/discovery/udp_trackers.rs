//! All current announces to UDP trackers, each with one `Exchange` for each address family.
//!
//! An [`UdpAnnounce`] lives as long as one job of the [`announcer`](crate::discovery::announcer). The host resolves
//! the tracker's name, moves datagrams and shows the outcome to people. The rest is done here. A tracker learns
//! a peer's address from the packet, so a dual-stack peer announces by both families (BEP 7). One answer is a success:
//! not every name has both families, and not every house has IPv6. The other family then has `GRACE` to answer.
//!
//! Invariant: the end of each announce is reported exactly once.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::udp::Response;
use everseed_core::tracker::{Family, Report};

use crate::discovery::announcer::{AnnounceId, Job};
use crate::discovery::scope::Scope;
use crate::discovery::udp_tracker::{Announced, Exchange, UdpError};
use crate::memory::lazy_table::LazyTable;

/// A lent slot for one announce.
#[derive(Debug)]
pub struct UdpAnnounce {
    job: Job,
    stage: Stage,
    /// Path and query of the tracker's URL (BEP 41).
    url_data: heapless::String<URL_MAX>,
    exchanges: [Option<Exchange>; 2],
    /// The time at which the wait for the other family ends.
    late_at: Option<Instant>,
    /// The peers in the answer.
    peers: u16,
    /// Whether the host is asked to wake the torrent for them.
    wakes: bool,
    result: Result<Announced, UdpError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It waits for answers.
    Running,
    /// It has an outcome, which was not reported yet.
    Ended,
    /// The outcome was reported: the slot is free.
    Told,
}

/// The end of an announce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UdpOutcome {
    /// The job.
    pub job: Job,
    /// The tracker's answer, or the reason why there is none.
    pub result: Result<Announced, UdpError>,
    /// The peers in the answer, at most [`MAX_PEERS`], and none that is nearer to us than the tracker.
    pub peers: u16,
}

/// All announces to UDP trackers.
#[derive(Debug)]
pub(crate) struct UdpTrackers<'m> {
    slots: LazyTable<'m, UdpAnnounce>,
    /// The number of slots that are not [`Stage::Told`]. If it is 0, no slot is looked at.
    live: usize,
}

impl<'m> UdpTrackers<'m> {
    pub(crate) fn new(slots: LazyTable<'m, UdpAnnounce>) -> UdpTrackers<'m> {
        UdpTrackers { slots, live: 0 }
    }

    /// Begins an announce. Returns false if there is no free slot, no address, or the URL is too long.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        job: Job,
        addrs: [Option<SocketAddr>; 2],
        url_data: &str,
        seed: u64,
    ) -> bool {
        let Ok(url_data) = heapless::String::try_from(url_data) else {
            return false;
        };
        // The two families get different transaction ids.
        let mut rng = Rng::new(seed);
        let announce = UdpAnnounce {
            job,
            stage: Stage::Running,
            url_data,
            exchanges: addrs.map(|addr| Some(Exchange::new(now, addr?, &mut rng))),
            late_at: None,
            peers: 0,
            wakes: false,
            result: Err(UdpError::Cancelled),
        };
        if announce.exchanges.iter().all(Option::is_none) {
            return false;
        }
        let free = self.slots.iter().position(|a| a.stage == Stage::Told);
        let room = match free {
            Some(free) => {
                self.slots[free] = announce;
                true
            }
            None => self.slots.push(announce).is_some(),
        };
        self.live += usize::from(room);
        room
    }

    /// The next packet to send. `report` gives the contents of a job's announce.
    pub(crate) fn poll_datagram(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        report: impl Fn(&Job) -> Report,
    ) -> Option<(SocketAddr, usize)> {
        for announce in self.running() {
            let due = |e: &&mut Exchange| e.deadline().is_some_and(|at| at <= now);
            for exchange in announce.exchanges.iter_mut().flatten().filter(due) {
                let report = report(&announce.job).by(exchange.family());
                let sent = exchange.poll_datagram(now, &report, &announce.url_data, packet);
                if sent.is_some() {
                    return sent;
                }
            }
        }
        None
    }

    /// Takes a packet. `on_peer` gets the job, and each peer that its sender may name.
    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &[u8],
        on_peer: &mut dyn FnMut(&Job, SocketAddr),
    ) {
        if self.live == 0 || Response::decode(packet, Family::of(from.ip())).is_none() {
            return;
        }
        for announce in self.running() {
            let UdpAnnounce {
                job,
                exchanges,
                peers,
                ..
            } = announce;
            for exchange in exchanges.iter_mut().flatten() {
                let tracker = Scope::of(exchange.tracker().ip());
                let mut keep = |peer: SocketAddr| {
                    if *peers < MAX_PEERS && tracker.may_name(peer.ip()) {
                        *peers += 1;
                        on_peer(job, peer);
                    }
                };
                if exchange.datagram(now, from, packet, &mut keep) {
                    return announce.settle(now);
                }
            }
        }
        for announce in self.running() {
            let exchanges = announce.exchanges.iter_mut().flatten();
            exchanges.for_each(|exchange| exchange.count_guess(from));
        }
    }

    /// Notes that datagrams cannot be sent to this address.
    pub(crate) fn unreachable(&mut self, now: Instant, addr: SocketAddr) {
        for announce in self.running() {
            let asked = |e: &&mut Exchange| e.is_tracker(addr);
            let exchanges = announce.exchanges.iter_mut().flatten();
            exchanges.filter(asked).for_each(Exchange::fail);
            announce.settle(now);
        }
    }

    /// Gives up trackers that were silent for too long, and jobs that are not `wanted` any more.
    pub(crate) fn tick(&mut self, now: Instant, wanted: impl Fn(AnnounceId) -> bool) {
        for announce in self.running() {
            let exchanges = announce.exchanges.iter_mut().flatten();
            exchanges.for_each(|exchange| exchange.tick(now));
            announce.settle(now);
            if announce.stage == Stage::Running && !wanted(announce.job.id) {
                announce.stage = Stage::Ended;
            }
        }
    }

    /// The next announce that has ended. Its outcome can be read until another announce begins.
    pub(crate) fn poll(&mut self) -> Option<Job> {
        if self.live == 0 {
            return None;
        }
        let ended = |a: &&mut UdpAnnounce| a.stage == Stage::Ended;
        let announce = self.slots.iter_mut().find(ended)?;
        announce.stage = Stage::Told;
        self.live -= 1;
        Some(announce.job)
    }

    /// Notes that the torrent of an ended announce should be woken, if the answer has peers.
    pub(crate) fn wake_for(&mut self, id: AnnounceId) -> bool {
        let its = |a: &&mut UdpAnnounce| a.job.id == id && a.stage == Stage::Told;
        let announce = self.slots.iter_mut().find(its);
        let announce = announce.filter(|announce| announce.peers > 0);
        announce.is_some_and(|announce| {
            announce.wakes = true;
            true
        })
    }

    /// The next torrent to wake.
    pub(crate) fn poll_wake(&mut self) -> Option<TorrentId> {
        let mut all = self.slots.iter_mut();
        let announce = all.find(|announce| announce.wakes)?;
        announce.wakes = false;
        Some(announce.job.torrent)
    }

    /// The tracker's answer to an announce that has just ended.
    pub(crate) fn answer(&self, id: AnnounceId) -> Option<Announced> {
        self.outcome(id)?.result.ok()
    }

    /// The end of the announce that [`poll`](Self::poll) has just returned.
    pub(crate) fn outcome(&self, id: AnnounceId) -> Option<UdpOutcome> {
        let its = |a: &&UdpAnnounce| a.stage == Stage::Told && a.job.id == id;
        let announce = self.slots.iter().find(its)?;
        Some(UdpOutcome {
            job: announce.job,
            result: announce.result.clone(),
            peers: announce.peers,
        })
    }

    /// The time to call [`tick`](Self::tick) or [`poll_datagram`](Self::poll_datagram) again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.live == 0 {
            return None;
        }
        let running = self.slots.iter().filter(|a| a.stage == Stage::Running);
        running.filter_map(UdpAnnounce::deadline).min()
    }

    fn running(&mut self) -> impl Iterator<Item = &mut UdpAnnounce> {
        // Without announces, no slot is looked at.
        let all = self
            .slots
            .iter_mut()
            .take(if self.live > 0 { MOST as usize } else { 0 });
        all.filter(|announce| announce.stage == Stage::Running)
    }
}

impl UdpAnnounce {
    fn deadline(&self) -> Option<Instant> {
        let exchanges = self.exchanges.iter().flatten();
        exchanges
            .filter_map(Exchange::deadline)
            .chain(self.late_at)
            .min()
    }

    /// Makes one outcome of two, when there are both or the second is late.
    fn settle(&mut self, now: Instant) {
        let (mut waits, mut best) = (false, None);
        for exchange in self.exchanges.iter().flatten() {
            match exchange.outcome() {
                None => waits = true,
                Some(outcome) => best = Some(better(best, outcome)),
            }
        }
        let Some(best) = best else { return };
        let answered = best.is_ok();
        if waits && !(answered && self.late_at.is_some_and(|at| at <= now)) {
            if answered {
                self.late_at.get_or_insert(now + GRACE);
            }
            return;
        }
        self.result = best.clone();
        self.stage = Stage::Ended;
    }
}

type Outcome = Result<Announced, UdpError>;

/// The outcome of two that says more about the tracker. Of two answers the longer interval counts.
fn better<'a>(first: Option<&'a Outcome>, second: &'a Outcome) -> &'a Outcome {
    let telling = |outcome: &Outcome| match outcome {
        Ok(announced) => (4, announced.intervals.interval_s()),
        Err(UdpError::Refused(_)) => (3, 0),
        Err(UdpError::Silent) => (2, 0),
        Err(UdpError::Unreachable) => (1, 0),
        Err(UdpError::Cancelled) => (0, 0),
    };
    match first {
        Some(first) if telling(first) >= telling(second) => first,
        _ => second,
    }
}

/// The number of peers that are kept of one announce.
pub const MAX_PEERS: u16 = 200;

/// The longest path and query of a tracker's URL in bytes: two options of BEP 41.
pub const URL_MAX: usize = 510;

/// The number of announces at a time: more than the announcer has jobs in flight.
pub const MOST: u32 = 16;

/// How long to wait for the second family after the first has answered.
const GRACE: Duration = Duration::from_secs(5);

const _: () = assert!(size_of::<UdpAnnounce>() <= 1200);

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::mem::MaybeUninit;
    use everseed_core::hash::InfoHash;
    use everseed_core::tracker::AnnounceEvent;

    extern crate std;
    use std::boxed::Box;
    use std::vec::Vec;

    const V4: &str = "192.0.2.1:6969";
    const V6: &str = "[2001:db8::1]:6969";

    fn trackers(places: usize) -> UdpTrackers<'static> {
        let room: &mut [MaybeUninit<_>] = Box::leak(Box::new_uninit_slice(places));
        let refs = Vec::leak((0..places).map(|_| None).collect());
        UdpTrackers::new(LazyTable::new(room, refs))
    }

    fn job(slot: u16) -> Job {
        Job {
            id: AnnounceId { slot, tenancy: 3 },
            torrent: TorrentId {
                slot: 4,
                tenancy: 5,
            },
            tier: 0,
            tracker: 0,
            event: AnnounceEvent::Started,
        }
    }

    fn report(job: &Job) -> Report {
        Report {
            port_v6: 0,
            info_hash: InfoHash([1; 20]),
            peer_id: [2; 20],
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            key: 5,
            num_want: 50,
            event: job.event,
        }
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn begin(udp: &mut UdpTrackers<'_>, now: Instant, slot: u16, addrs: &[&str]) -> bool {
        let of = |family| {
            let mut all = addrs.iter().map(|text| addr(text));
            all.find(|addr| Family::of(addr.ip()) == family)
        };
        let addrs = [of(Family::V4), of(Family::V6)];
        udp.begin(now, job(slot), addrs, "/announce", u64::from(slot) + 1)
    }

    fn sent(udp: &mut UdpTrackers<'_>, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut packet = [0; 640];
        let mut all = Vec::new();
        while let Some((to, len)) = udp.poll_datagram(now, &mut packet, report) {
            all.push((to, packet[..len].to_vec()));
        }
        all
    }

    /// The answer to each packet, with these peers.
    fn answer(request: &[u8], interval: u8, peers: &[u8]) -> Vec<u8> {
        match request[11] {
            0 => [&request[8..16], &[5; 8]].concat(),
            _ => {
                let numbers = [0, 0, interval, 0, 0, 0, 0, 1, 0, 0, 0, 2];
                [&request[8..16], &numbers, peers].concat()
            }
        }
    }

    /// Answers what is sent to any of `to`; answers with the peers.
    fn serve(
        udp: &mut UdpTrackers<'_>,
        now: Instant,
        to: &[&str],
        reply: &dyn Fn(&[u8]) -> Vec<u8>,
    ) -> Vec<SocketAddr> {
        let mut peers = Vec::new();
        loop {
            let mut requests = sent(udp, now);
            requests.retain(|(at, _)| to.iter().any(|to| addr(to) == *at));
            if requests.is_empty() {
                return peers;
            }
            for (at, request) in requests {
                udp.datagram(now, at, &reply(&request), &mut |_, peer| peers.push(peer));
            }
        }
    }

    fn outcome(udp: &mut UdpTrackers<'_>) -> Option<UdpOutcome> {
        let job = udp.poll()?;
        udp.outcome(job.id)
    }

    #[test]
    fn both_families_are_told_and_the_longer_interval_counts() {
        let now = Instant::from_secs(9);
        let mut udp = trackers(1);
        assert!(begin(&mut udp, now, 0, &[V4, V6]));
        assert!(!begin(&mut udp, now, 1, &[V4]), "there is one place");
        let reply = |request: &[u8]| answer(request, 4, &[192, 0, 2, 9, 0, 80]);
        let first = Cell::new(true);
        let longer = |request: &[u8]| {
            let announce = request[11] == 1;
            let interval = if announce && first.take() { 8 } else { 4 };
            answer(request, interval, &[])
        };
        serve(&mut udp, now, &[V4, V6], &longer);
        let told = outcome(&mut udp).unwrap();
        assert_eq!(told.result.unwrap().intervals.interval_s(), 8 << 8);
        // The other family has some time.
        let mut late = trackers(1);
        assert!(begin(&mut late, now, 0, &[V4, V6]));
        let named = serve(&mut late, now, &[V4], &reply);
        assert_eq!(named, [addr("192.0.2.9:80")]);
        late.tick(now, |_| true);
        assert_eq!(outcome(&mut late), None);
        late.tick(now + GRACE, |_| true);
        let ended = outcome(&mut late).unwrap();
        assert_eq!((ended.result.unwrap().seeders, ended.peers), (2, 1));
        assert_eq!((outcome(&mut udp), udp.deadline()), (None, None));
        assert!(begin(&mut udp, now, 1, &[V4]), "the place is free again");
    }

    #[test]
    fn the_telling_error_is_told() {
        let start = Instant::from_secs(9);
        let refuse = |request: &[u8]| [&[0, 0, 0, 3], &request[12..16], b"no"].concat();
        for (refuses, unreachable, cancelled, expected) in [
            (
                true,
                false,
                false,
                UdpError::Refused("no".try_into().unwrap()),
            ),
            (false, false, false, UdpError::Silent),
            (false, true, false, UdpError::Unreachable),
            (false, false, true, UdpError::Cancelled),
        ] {
            let mut udp = trackers(2);
            begin(&mut udp, start, 0, &[V4, V6]);
            let mut now = start;
            if refuses {
                serve(&mut udp, now, &[V4], &refuse);
            }
            if unreachable {
                udp.unreachable(now, addr(V4));
                assert_eq!(outcome(&mut udp), None);
                udp.unreachable(now, addr(V6));
            }
            let mut turns = 0;
            while let Some(at) = udp.deadline() {
                now = now.max(at);
                udp.tick(now, |_| !cancelled);
                sent(&mut udp, now);
                turns += 1;
                assert!(turns < 20, "{expected:?}");
            }
            assert_eq!(outcome(&mut udp).unwrap().result, Err(expected));
            assert!((now - start).as_secs() <= 105);
        }
    }

    #[test]
    fn each_answer_finds_its_exchange() {
        let now = Instant::from_secs(9);
        let mut udp = trackers(3);
        let others = ["192.0.2.2:80", "192.0.2.3:80"];
        for (slot, to) in (0..).zip([V4, others[0], others[1]]) {
            begin(&mut udp, now, slot, &[to]);
        }
        // All three answer from one address, in another order.
        for _ in 0..2 {
            let requests = sent(&mut udp, now);
            assert_eq!(requests.len(), 3);
            for (_, request) in requests.iter().rev() {
                udp.datagram(
                    now,
                    addr(others[1]),
                    &answer(request, 8, &[]),
                    &mut |_, _| {},
                );
            }
        }
        for slot in 0..3 {
            let ended = outcome(&mut udp).unwrap();
            assert_eq!((ended.job, ended.result.is_ok()), (job(slot), true));
        }
    }

    #[test]
    fn guesses_and_other_peoples_datagrams() {
        let now = Instant::from_secs(9);
        let mut udp = trackers(1);
        begin(&mut udp, now, 0, &[V4]);
        let requests = sent(&mut udp, now);
        let good = answer(&requests[0].1, 8, &[]);
        let mut wrong = good.clone();
        wrong[7] ^= 1;
        let stranger = addr("192.0.2.66:1");
        // A packet that is no answer of a tracker, such as one of a DHT node, does not count as a guess.
        for _ in 0..1000 {
            udp.datagram(now, stranger, b"d1:ad2:id20:", &mut |_, _| {});
        }
        for _ in 0..super::super::udp_tracker::GUESSES {
            udp.datagram(now, stranger, &wrong, &mut |_, _| {});
        }
        udp.datagram(now, stranger, &good, &mut |_, _| {});
        assert!(sent(&mut udp, now).is_empty(), "the guess is not believed");
        udp.datagram(now, addr(V4), &good, &mut |_, _| {});
        assert_eq!(sent(&mut udp, now).len(), 1);
    }

    #[test]
    fn peers_that_a_tracker_may_name() {
        let now = Instant::from_secs(9);
        for (tracker, expected) in [(V4, 1), ("192.168.1.1:80", 2), ("127.0.0.1:80", 3)] {
            let mut udp = trackers(1);
            begin(&mut udp, now, 0, &[tracker]);
            let peers = [
                [127, 0, 0, 1, 0, 80],
                [192, 168, 1, 7, 0, 80],
                [192, 0, 2, 9, 0, 80],
            ]
            .concat();
            let reply = |request: &[u8]| answer(request, 8, &peers);
            let named = serve(&mut udp, now, &[tracker], &reply);
            assert_eq!(named.len(), expected, "{tracker}");
        }
        let mut udp = trackers(1);
        begin(&mut udp, now, 0, &[V4]);
        let reply = |request: &[u8]| answer(request, 8, &[9; 6 * 300]);
        let named = serve(&mut udp, now, &[V4], &reply);
        assert_eq!(named.len(), usize::from(MAX_PEERS));
        assert_eq!(outcome(&mut udp).unwrap().peers, MAX_PEERS);
    }
}
