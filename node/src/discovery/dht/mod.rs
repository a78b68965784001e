//! The DHT, the distributed hash table in which peers are found without a tracker (BEP 5, 32, 33, 42, 43, 51).
//!
//! | module | what it is |
//! |---|---|
//! | `routes` | the nodes that we know |
//! | `lookup` | how those closest to a target are found, and told of us |
//! | `calls` | queries that wait for an answer |
//! | `budget` | how much may be sent |
//! | `flood` | who asks too much |
//! | `store`, `tokens` | peers that others announced, and who may announce |
//! | `replies` | what others are answered |
//! | `votes`, `reach` | our own address, and whether it can be reached |
//! | `net`, `hints`, `kept` | how we get in and stay in: from nothing, and from the last run |
//! | [`turns`] | whose turn it is to be announced |
//! | [`memory`] | what it lives in: at most 40 KiB |

mod budget;
pub(crate) mod calls;
mod endpoint;
mod flood;
mod hints;
mod input;
mod kept;
mod lookup;
pub mod memory;
mod net;
mod output;
mod reach;
mod replies;
mod routes;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
pub mod turns;
mod votes;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use everseed_core::hash::InfoHash;
use everseed_core::krpc::{
    Body, ERROR_GENERIC, ERROR_PROTOCOL, Message, NodeId, Query, Response, Want,
};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::Family;
use serde::{Deserialize, Serialize};

use self::budget::{Budget, Urgency, Wait};
use self::calls::{Calls, LookupId, Purpose};
use self::endpoint::{Endpoint, FAMILIES, index};
use self::flood::Askers;
use self::hints::{Hints, Origin};
pub use self::kept::KEPT_MAX;
pub use self::lookup::Announce;
use self::lookup::{Goal, Lookup, Phase, Step};
use self::memory::Memory;
use self::net::{Net, PLENTY};
use self::reach::Reach;
use self::replies::{Reply, ReplyBody, ReplyData};
use self::routes::{K, Routes};
use self::store::Store;
use self::tokens::{Secrets, Tokens};

/// A node of the DHT.
///
/// # How to drive it
///
/// Hand over datagrams that arrive with [`datagram`](Self::datagram). Send what
/// [`poll_datagram`](Self::poll_datagram) gives, until it gives nothing more: after each `datagram`,
/// [`search`](Self::search), [`hint`](Self::hint) and [`guess`](Self::guess), and when the
/// [`deadline`](Self::deadline) has come. Whoever is awake anyway looks at [`is_due`](Self::is_due), which may be so
/// a little earlier. While no torrent needs the DHT, [`rest`](Self::rest) silences it. IPv4 addresses are passed as
/// such, never mapped into IPv6.
///
/// Peers are handed out while a search goes on, as soon as they are known. When it is over,
/// [`poll_finished`](Self::poll_finished) says so once; until then it keeps its place.
///
/// The caller must not name private torrents here in any way (BEP 27).
///
/// # How it gets in
///
/// By nodes that were [kept](Self::keep) from the last run, by [hints](Self::hint) and by [guesses](Self::guess). If none
/// of them answers, [`poll_names`](Self::poll_names) asks the host to resolve the names that it was given, and to hint at
/// their addresses.
#[derive(Debug)]
pub struct Dht<'m> {
    mode: Mode,
    /// Nothing is to be found or announced.
    at_rest: bool,
    /// Hints that were asked since any node answered.
    unanswered_hints: u8,
    /// By family, IPv4 first.
    nets: [Net<'m>; 2],
    lookups: &'m mut [Lookup],
    calls: Calls<'m>,
    budget: Budget<'m>,
    askers: Askers<'m>,
    store: Store<'m>,
    tokens: Tokens,
    hints: Hints,
    reach: Reach,
    replies: heapless::Deque<Reply, REPLIES>,
    rng: Rng,
    /// When the table is looked after next.
    upkeep_at: Instant,
    names_at: Instant,
    names_wait: Duration,
    /// Whether somebody waits for a search and no name was asked for yet.
    names_now: bool,
    /// Whether a rest has put them off since they were last resolved.
    names_put_off: bool,
    wake_at: Instant,
    stats: Stats,
}

/// How far a node takes part in the DHT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Nothing is sent, nothing answered.
    Off,
    /// It asks and answers.
    #[default]
    On,
    /// It asks, but answers nothing and says so (BEP 43).
    ReadOnly,
}

/// A search for the peers of a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// The torrent, which is not private.
    pub info_hash: InfoHash,
    /// What is announced to the closest nodes, if anything.
    pub announce: Option<Announce>,
    /// Whether a person waits for it.
    pub urgent: bool,
    /// Whether peers that have all of it are of no use (BEP 33).
    pub noseed: bool,
}

/// A search that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Peers that were told of, some perhaps more than once.
    pub peers: u16,
    /// Nodes that took the announce.
    pub announced: u8,
}

/// Numbers about the DHT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Nodes that answer, by IPv4 and IPv6.
    pub nodes: [u16; 2],
    /// Peers that others announced to us.
    pub stored: u16,
    /// Queries that were sent.
    pub queries: u64,
    /// Answers to them.
    pub answers: u64,
    /// Queries of others that were answered.
    pub replies: u64,
    /// Queries of others that were not, as there were too many of them.
    pub dropped: u64,
    /// Datagrams that make no sense.
    pub malformed: u64,
}

impl<'m> Dht<'m> {
    /// A node in `memory`; `seed` decides everything that is left to chance, and no stranger may know it. `families` are
    /// those that the host can send to, IPv4 first.
    pub fn new(
        now: Instant,
        memory: Memory<'m>,
        mode: Mode,
        families: [bool; 2],
        seed: u64,
    ) -> Dht<'m> {
        let mut secrets = Secrets::new(seed);
        let mut rng = Rng::new(secrets.seed());
        let (own_v4, own_v6) = (NodeId(secrets.draw()), NodeId(secrets.draw()));
        let v4 = Routes::new(own_v4, memory.routes_v4);
        let v6 = Routes::new(own_v6, memory.routes_v6);
        let [by_v4, by_v6] = families;
        let most = memory.lookups.len().min(usize::from(u8::MAX));
        let upkeep_at = now + Duration::from_micros(rng.below(10_000_000).into());
        Dht {
            mode,
            at_rest: false,
            unanswered_hints: 0,
            nets: [Net::new(now, v4, by_v4), Net::new(now, v6, by_v6)],
            lookups: memory.lookups.split_at_mut(most).0,
            calls: Calls::new(memory.calls),
            budget: Budget::new(memory.destinations),
            askers: Askers::new(memory.askers),
            store: Store::new(memory.store),
            tokens: Tokens::new(now, secrets.seed()),
            hints: Hints::new(),
            reach: Reach::new(now),
            replies: heapless::Deque::new(),
            rng,
            upkeep_at,
            names_at: now + NAMES_AFTER_OTHERS,
            names_wait: FIRST_NAMES,
            names_now: false,
            names_put_off: false,
            wake_at: now,
            stats: Stats::default(),
        }
    }

    /// Sets the mode, and the families that the host can send to, IPv4 first. Without memory the mode is [`Mode::Off`].
    pub fn configure(&mut self, now: Instant, mode: Mode, families: [bool; 2]) {
        self.mode = match self.lookups.is_empty() {
            true => Mode::Off,
            false => mode,
        };
        for (net, is_on) in self.nets.iter_mut().zip(families) {
            net.is_on = is_on;
        }
        if self.mode == Mode::Off {
            self.lookups.iter_mut().for_each(Lookup::free);
        }
        self.wake_at = now;
    }

    /// Begins or ends a rest, in which no query is sent and none answered; hints are kept for later. After a rest, peers
    /// and trackers have a few seconds to name nodes before names are resolved. They have them once, until names are
    /// resolved or a node answers: short rests, one after another, would put that off for ever.
    pub fn rest(&mut self, now: Instant, rests: bool) {
        if self.at_rest && !rests && !self.names_put_off {
            self.names_put_off = true;
            self.names_at = self.names_at.max(now + NAMES_AFTER_OTHERS);
        }
        self.at_rest = rests;
        self.wake_at = now;
    }

    fn is_on(&self) -> bool {
        self.mode != Mode::Off && !self.at_rest
    }

    /// How far it takes part.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes a datagram. `on_peer` is told of peers that were looked for.
    pub fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &[u8],
        on_peer: &mut dyn FnMut(InfoHash, SocketAddr),
    ) {
        if !self.is_on() {
            return;
        }
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let at = Endpoint::from(from);
        if !at.is_possible() || !self.nets[index(at.family())].is_on {
            return;
        }
        self.wake_at = now;
        match Message::decode(packet) {
            Err(_) => self.stats.malformed += 1,
            Ok(message) => match message.body {
                Body::Query(id, query) => self.query(now, from, packet.len(), &message, id, query),
                Body::Response(response) => self.response(now, at, &message, &response, on_peer),
                Body::Error { .. } => {
                    if let Some(purpose) = self.calls.answered(message.transaction, at) {
                        self.refused(now, at, purpose);
                    }
                }
            },
        }
    }

    /// The next datagram to send, if there is one: where to, and its length in `packet`, which should have room for
    /// [`PACKET_MAX`] bytes.
    pub fn poll_datagram(
        &mut self,
        now: Instant,
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        if !self.is_on() {
            return None;
        }
        self.pass_time(now);
        while let Some(reply) = self.replies.pop_front() {
            let [v4, v6] = &self.nets;
            let mut library = ReplyData {
                routes: [&v4.routes, &v6.routes],
                store: &self.store,
                tokens: &mut self.tokens,
                rng: &mut self.rng,
            };
            if let Some(len) = library.write(now, &reply, packet) {
                self.stats.replies += 1;
                return Some((reply.to(), len));
            }
        }
        let mut wait = Wait(None);
        if let Some(sent) = self.next_query(now, packet, &mut wait) {
            return Some(sent);
        }
        self.wake_at = self.next_wake(now, wait);
        None
    }

    /// When to poll again, if nothing comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_on().then_some(self.wake_at)
    }

    /// Whether polling is of use now, which it is from a little before the [`deadline`](Self::deadline) on: so a host that
    /// is awake anyway need not wake up again.
    pub fn is_due(&self, now: Instant) -> bool {
        let early = if self.is_poor() {
            Duration::ZERO
        } else {
            EARLY
        };
        self.is_on() && (self.wake_at <= now || self.upkeep_at <= now + early)
    }

    /// Begins a search for the peers of a torrent, in each family; `false` if there is no place for another one. One that
    /// is underway goes on, and becomes urgent if this is. Searches that are not urgent leave half of the places free.
    pub fn search(&mut self, now: Instant, search: &Search) -> bool {
        if !self.is_on() {
            return false;
        }
        let target = NodeId::from(search.info_hash);
        let urgency = if search.urgent {
            Urgency::Now
        } else {
            Urgency::Later
        };
        let goal = search.announce.map_or(Goal::Peers, Goal::Announce);
        let known = self.nets.iter().any(|net| net.routes.len() > 0);
        self.names_now |= search.urgent && !known;
        self.wake_at = now;
        let its = |l: &&mut Lookup| l.phase != Phase::Free && l.target == target;
        let mut underway = false;
        for lookup in self.lookups.iter_mut().filter(its) {
            underway = true;
            if search.urgent {
                lookup.urgency = urgency;
            }
        }
        if underway {
            return true;
        }
        let of_use = |net: &Net<'_>| net.is_on && (!known || net.routes.len() > 0);
        let families = FAMILIES.map(|f| of_use(&self.nets[index(f)]).then_some(f));
        let needed = families.iter().flatten().count();
        if needed == 0 || self.places(urgency) < needed {
            return false;
        }
        for family in families.into_iter().flatten() {
            self.begin(now, family, target, goal, urgency, search.noseed);
        }
        true
    }

    /// Ends a search, as its torrent is gone.
    pub fn forget(&mut self, info_hash: InfoHash) {
        let target = NodeId::from(info_hash);
        let its = |l: &&mut Lookup| l.phase != Phase::Free && l.target == target;
        self.lookups
            .iter_mut()
            .filter(its)
            .for_each(|lookup| lookup.free());
    }

    /// A search that is over, told once.
    pub fn poll_finished(&mut self) -> Option<Finished> {
        let over = |l: &Lookup| l.phase == Phase::Done && l.goal != Goal::Nodes;
        let others = |target| {
            let running = |l: &Lookup| l.is_running() && l.target == target;
            self.lookups.iter().any(running)
        };
        let done = self.lookups.iter().find(|l| over(l) && !others(l.target));
        let target = done?.target;
        let (mut peers, mut announced) = (0_u16, 0_u8);
        let its = |l: &&mut Lookup| over(l) && l.target == target;
        for lookup in self.lookups.iter_mut().filter(its) {
            peers = peers.saturating_add(lookup.peers);
            announced = announced.saturating_add(lookup.announced);
            lookup.free();
        }
        Some(Finished {
            info_hash: target.into(),
            peers,
            announced,
        })
    }

    /// Whether there are a place and nodes for a search that is not urgent: then begin the next torrent's.
    pub fn is_ready(&self) -> bool {
        let ready = |net: &Net<'_>| net.is_on && net.is_ready();
        let families = self
            .nets
            .iter()
            .filter(|net| net.is_on && net.routes.len() > 0);
        self.is_on()
            && self.nets.iter().any(ready)
            && self.places(Urgency::Later) >= families.count()
    }

    /// Adds an address at which there should be a node: configured, resolved, told by a peer (BEP 5, `PORT`) or in a
    /// torrent.
    pub fn hint(&mut self, now: Instant, addr: SocketAddr) {
        let at = Endpoint::from(addr);
        let net = &self.nets[index(at.family())];
        if self.mode == Mode::Off || !net.is_on || net.routes.contains(at) {
            return;
        }
        // Who knows enough nodes has time.
        let plenty = net.routes.good() >= PLENTY;
        self.hints
            .add(at, if plenty { Origin::Heard } else { Origin::Given });
        self.wake_at = now;
    }

    /// Adds the address of a peer, as most peers have a node on the same port. It is asked in its turn, as long as few
    /// nodes are known.
    pub fn guess(&mut self, now: Instant, addr: SocketAddr) {
        let at = Endpoint::from(addr);
        let net = &self.nets[index(at.family())];
        let poor = net.is_on && net.routes.good() < K && !net.routes.contains(at);
        if poor && self.mode != Mode::Off {
            self.hints.add(at, Origin::Heard);
            if self.is_poor() {
                self.upkeep_at = self.upkeep_at.min(now + UPKEEP_POOR);
            }
            self.wake_at = now;
        }
    }

    /// Whether the host is to resolve the names that it was given, and to hint at their addresses: no node answers. Peers
    /// and trackers have a few seconds to name nodes first, unless a person waits. It is asked again after a minute, then
    /// after twice as long each time, up to an hour.
    pub fn poll_names(&mut self, now: Instant) -> bool {
        let due = now >= self.names_at || self.names_now;
        if !self.is_on() || !self.is_lost() || !due {
            return false;
        }
        self.names_now = false;
        self.names_put_off = false;
        self.names_at = now + self.names_wait;
        self.names_wait = (self.names_wait * 2).min(LAST_NAMES);
        true
    }

    /// Whether no known node answers, and none is left to ask.
    fn is_lost(&self) -> bool {
        let dead = |net: &Net<'_>| net.routes.good() == 0;
        self.nets.iter().all(dead) && self.hints.is_empty() && self.calls.deadline().is_none()
    }

    /// Notes that strangers can reach us: a port is mapped, or a stranger called.
    pub fn reachable(&mut self) {
        self.reach.reached();
    }

    /// Whether a stranger has called, or could.
    pub fn is_reachable(&self) -> bool {
        self.reach.is_known()
    }

    /// Our address as others see it, if enough of them agree.
    pub fn external(&self, family: Family) -> Option<IpAddr> {
        self.nets[index(family)].votes.elected()
    }

    /// Numbers.
    pub fn stats(&self) -> Stats {
        let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        Stats {
            nodes: [0, 1].map(|net: usize| count(self.nets[net].routes.good())),
            stored: count(self.store.len()),
            ..self.stats
        }
    }

    /// Writes our ids and good nodes for the next run, at most [`KEPT_MAX`] bytes. It is worth calling at a stop, else
    /// hourly at most.
    pub fn keep(&self, out: &mut [u8]) -> Option<usize> {
        let [v4, v6] = &self.nets;
        kept::write([&v4.routes, &v6.routes], out)
    }

    /// Reads what the last run kept; to be told at the start.
    pub fn restore(&mut self, now: Instant, kept: &[u8]) {
        let [v4, v6] = &mut self.nets;
        kept::read(kept, [&mut v4.routes, &mut v6.routes]);
        if self.nets.iter().any(|net| net.routes.len() > 0) {
            self.names_at = now + NAMES_AFTER_OTHERS;
            self.names_now = false;
        }
        self.wake_at = now;
    }

    /// Free places for a lookup of this urgency.
    fn places(&self, urgency: Urgency) -> usize {
        let free = self.lookups.iter().filter(|l| l.phase == Phase::Free);
        let reserved = match urgency {
            Urgency::Now => 0,
            Urgency::Later => self.lookups.len() / 2,
        };
        free.count().saturating_sub(reserved)
    }

    /// Begins a lookup in a free place.
    fn begin(
        &mut self,
        now: Instant,
        family: Family,
        target: NodeId,
        goal: Goal,
        urgency: Urgency,
        noseed: bool,
    ) {
        let Some(lookup) = self.lookups.iter_mut().find(|l| l.phase == Phase::Free) else {
            return;
        };
        lookup.begin(now, family, target, goal, urgency);
        lookup.noseed = noseed;
        for (id, at) in self.nets[index(family)].routes.closest(target, false) {
            lookup.offer(id, at);
        }
    }
}

/// Our name and version, as nodes tell it.
const VERSION: &[u8] = b"ES\0\x01";

/// Answers that wait to be sent; the queries beyond them are dropped.
const REPLIES: usize = 4;

/// Between queries that keep the table true; and while it is poor and nodes are at hand.
const UPKEEP: Duration = Duration::from_secs(10);
const UPKEEP_POOR: Duration = Duration::from_secs(1);

/// Such a query goes out so much earlier if the host is awake anyway.
const EARLY: Duration = Duration::from_millis(2500);

/// The wait before names are resolved again; then it doubles, up to the last.
const FIRST_NAMES: Duration = Duration::from_secs(60);
const LAST_NAMES: Duration = Duration::from_secs(3600);

/// Nodes that were kept have so long to answer before names are resolved, and peers and trackers to name some.
const NAMES_AFTER_OTHERS: Duration = Duration::from_secs(5);

/// The longest datagram that is sent, in bytes.
pub const PACKET_MAX: usize = 1200;
