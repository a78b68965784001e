//! One iterative lookup in one family (BEP 5). The nodes closest to a target are asked for closer ones, until the [`K`]
//! closest that answer have answered. Then we announce ourselves to them, if that was wanted.
//!
//! It is fast: each answer is used at once, peers are handed out as they come, and a silent node holds up nobody.
//!
//! It is hard to lead astray. Only one node of a /24 (IPv6: /64) takes part. A node's place is that of the id by
//! which it answers. One that failed gives its place to any other. After [`MOST_ASKED`] queries the lookup ends
//! wherever it is.

use core::time::Duration;

use everseed_core::krpc::{NodeId, TOKEN_MAX};
use everseed_core::time::Instant;
use everseed_core::tracker::Family;

use super::budget::Urgency;
use super::endpoint::Endpoint;
use super::routes::K;

/// A lent slot for one lookup.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub(crate) tenancy: u8,
    pub(crate) phase: Phase,
    pub(crate) family: Family,
    pub(crate) goal: Goal,
    pub(crate) target: NodeId,
    pub(crate) urgency: Urgency,
    /// Peers that have all are not asked for.
    pub(crate) noseed: bool,
    started_at: Instant,
    asked: u16,
    /// Peers that were told of.
    pub(crate) peers: u16,
    /// Nodes that took the announce.
    pub(crate) announced: u8,
    candidates: heapless::Vec<LookupNode, CANDIDATES>,
    tokens: [Token; K],
}

const _: () = assert!(size_of::<Lookup>() <= 1344);

/// How far a lookup is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The slot is free.
    Free,
    /// Closer nodes are looked for.
    Searching,
    /// The closest are told.
    Announcing,
    /// It is over.
    Done,
}

/// The goal of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// Nodes.
    Nodes,
    /// Peers of the torrent that is the target.
    Peers,
    /// Peers of a torrent, and the closest nodes are told that we are one.
    Announce(Announce),
}

/// The announce of this node to the closest nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announce {
    /// The TCP ports on which peers reach us from outside, by IPv4 first.
    pub ports: [u16; 2],
    /// We have all of it (BEP 33).
    pub seed: bool,
}

#[derive(Clone, Copy, Debug)]
struct LookupNode {
    id: NodeId,
    at: Endpoint,
    state: NodeState,
    /// The slot of its token, or [`NO_TOKEN`].
    token: u8,
}

const _: () = assert!(size_of::<LookupNode>() <= 40);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NodeState {
    Fresh,
    Asked,
    Answered,
    /// It was told, and has not answered to that yet.
    Told,
    /// It was told, and answered or not.
    Closed,
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    bytes: [u8; TOKEN_MAX],
    len: u8,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Ask this node.
    Ask(Endpoint),
    /// Tell this node about us; [`Lookup::token`] has what to show.
    Tell(Endpoint),
}

impl Lookup {
    /// An unused slot.
    pub(crate) const EMPTY: Lookup = Lookup {
        tenancy: 0,
        phase: Phase::Free,
        family: Family::V4,
        goal: Goal::Nodes,
        target: NodeId([0; 20]),
        urgency: Urgency::Later,
        noseed: false,
        started_at: Instant::ZERO,
        asked: 0,
        peers: 0,
        announced: 0,
        candidates: heapless::Vec::new(),
        tokens: [Token {
            bytes: [0; TOKEN_MAX],
            len: 0,
        }; K],
    };

    /// Begins another lookup in this slot.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        family: Family,
        target: NodeId,
        goal: Goal,
        urgency: Urgency,
    ) {
        *self = Lookup {
            tenancy: self.tenancy.wrapping_add(1),
            phase: Phase::Searching,
            family,
            target,
            goal,
            urgency,
            started_at: now,
            ..Lookup::EMPTY
        };
    }

    /// Ends it, whatever it was at.
    pub(crate) fn free(&mut self) {
        self.phase = Phase::Free;
        self.candidates.clear();
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Searching | Phase::Announcing)
    }

    /// Whether it could do with more nodes to begin with.
    pub(crate) fn is_short(&self) -> bool {
        self.phase == Phase::Searching && self.candidates.len() < K
    }

    /// Somebody knows a node that may be close.
    pub(crate) fn offer(&mut self, id: NodeId, at: Endpoint) {
        if self.phase != Phase::Searching || at.family() != self.family || !at.is_possible() {
            return;
        }
        self.insert(id, at, NodeState::Fresh);
    }

    /// Puts a node into its place by distance; answers where.
    fn insert(&mut self, id: NodeId, at: Endpoint, state: NodeState) -> Option<usize> {
        let same = |c: &LookupNode| c.id == id || c.at.same_host(at);
        if self.candidates.iter().any(same) {
            return None;
        }
        let distance = id.distance(self.target);
        let closer = |c: &LookupNode| c.id.distance(self.target) < distance;
        let crowd = self.candidates.iter().position(|c| c.at.same_network(at));
        if let Some(other) = crowd {
            // Of a network the one that answers, or the one that is closer.
            let other_waits = matches!(
                self.candidates[other].state,
                NodeState::Fresh | NodeState::Failed
            );
            if !other_waits || (closer(&self.candidates[other]) && state == NodeState::Fresh) {
                return None;
            }
            self.candidates.remove(other);
        }
        if self.candidates.is_full() {
            let failed = |c: &LookupNode| c.state == NodeState::Failed;
            let victim = self.candidates.iter().rposition(failed);
            let last = self.candidates.len() - 1;
            let victim = victim.or_else(|| (!closer(&self.candidates[last])).then_some(last))?;
            self.candidates.remove(victim);
        }
        let place = self
            .candidates
            .partition_point(|c| c.id.distance(self.target) < distance);
        let candidate = LookupNode {
            id,
            at,
            state,
            token: NO_TOKEN,
        };
        self.candidates.insert(place, candidate).ok()?;
        Some(place)
    }

    /// What to do next, if anything can be done now.
    pub(crate) fn next(&self) -> Option<Step> {
        let at_a_time = match self.urgency {
            Urgency::Now => K,
            Urgency::Later => CALM,
        };
        let waiting = |c: &&LookupNode| matches!(c.state, NodeState::Asked | NodeState::Told);
        if self.candidates.iter().filter(waiting).count() >= at_a_time {
            return None;
        }
        match self.phase {
            Phase::Searching if self.asked < MOST_ASKED => {
                let fresh = |c: &&LookupNode| c.state == NodeState::Fresh;
                self.front().find(fresh).map(|c| Step::Ask(c.at))
            }
            Phase::Announcing => {
                let untold =
                    |c: &&LookupNode| c.state == NodeState::Answered && c.token != NO_TOKEN;
                self.front().find(untold).map(|c| Step::Tell(c.at))
            }
            _ => None,
        }
    }

    /// The candidates from the closest on, up to the [`K`]th that answered.
    fn front(&self) -> impl Iterator<Item = &LookupNode> {
        let mut answered = 0;
        self.candidates.iter().take_while(move |c| {
            let before = answered;
            let answers = matches!(
                c.state,
                NodeState::Answered | NodeState::Told | NodeState::Closed
            );
            answered += usize::from(answers);
            before < K
        })
    }

    /// Notes that a step was done.
    pub(crate) fn done(&mut self, step: Step) {
        let (at, state) = match step {
            Step::Ask(at) => (at, NodeState::Asked),
            Step::Tell(at) => (at, NodeState::Told),
        };
        self.asked = self.asked.saturating_add(1);
        if let Some(candidate) = self.candidate(at) {
            candidate.state = state;
        }
    }

    /// The token to show to a node.
    pub(crate) fn token(&self, at: Endpoint) -> &[u8] {
        let candidate = self.candidates.iter().find(|c| c.at == at);
        let token = candidate.and_then(|c| self.tokens.get(usize::from(c.token)));
        token.map_or(&[], |t| t.bytes.get(..t.len.into()).unwrap_or_default())
    }

    /// A node has answered a query of the search. Its place is that of the id by which it answers, whatever id was named
    /// before.
    pub(crate) fn answered(&mut self, id: NodeId, at: Endpoint, token: Option<&[u8]>) {
        if self.phase != Phase::Searching {
            return;
        }
        let mut known = self.candidates.iter().position(|c| c.at == at);
        if let Some(place) = known.filter(|&place| self.candidates[place].id != id) {
            self.candidates.remove(place);
            known = None;
        }
        let place = known.or_else(|| self.insert(id, at, NodeState::Answered));
        let Some(place) = place else { return };
        self.candidates[place].state = NodeState::Answered;
        if let Some(token) = token {
            self.keep_token(place, token);
        }
    }

    /// Keeps a token of one of the closest: if there are enough, the farthest loses its own.
    fn keep_token(&mut self, place: usize, token: &[u8]) {
        let used = |slot: u8| self.candidates.iter().any(|c| c.token == slot);
        #[allow(clippy::cast_possible_truncation)] // There are few.
        let free = (0..K as u8).find(|&slot| !used(slot));
        let slot = free.or_else(|| {
            let farthest = self.candidates.iter().rposition(|c| c.token != NO_TOKEN)?;
            if farthest < place {
                return None;
            }
            let slot = self.candidates[farthest].token;
            self.candidates[farthest].token = NO_TOKEN;
            Some(slot)
        });
        let Some(slot) = slot else { return };
        let room = &mut self.tokens[usize::from(slot)];
        let len = token.len().min(TOKEN_MAX);
        room.bytes[..len].copy_from_slice(&token[..len]);
        room.len = u8::try_from(len).unwrap_or(0);
        self.candidates[place].token = slot;
    }

    /// A node has answered an announce, and taken it or not.
    pub(crate) fn announced(&mut self, at: Endpoint, taken: bool) {
        if let Some(candidate) = self.candidate(at).filter(|c| c.state == NodeState::Told) {
            candidate.state = NodeState::Closed;
            self.announced = self.announced.saturating_add(u8::from(taken));
        }
    }

    /// A node has not answered, or lied.
    pub(crate) fn failed(&mut self, at: Endpoint) {
        if let Some(candidate) = self.candidate(at) {
            candidate.state = match candidate.state {
                NodeState::Told => NodeState::Closed,
                NodeState::Asked => NodeState::Failed,
                other => other,
            };
        }
    }

    fn candidate(&mut self, at: Endpoint) -> Option<&mut LookupNode> {
        self.candidates.iter_mut().find(|c| c.at == at)
    }

    /// Goes on to the next phase if this one is over; answers whether it went on.
    ///
    /// `more` says that other nodes are still to be asked or to answer. A search with few candidates waits for them, up
    /// to [`FIRST_NODE`]; else the first node to answer could end it by naming nobody of use.
    pub(crate) fn settle(&mut self, now: Instant, more: bool) -> bool {
        let waits = |c: &LookupNode| matches!(c.state, NodeState::Asked | NodeState::Told);
        let before = self.phase;
        match self.phase {
            Phase::Searching => {
                let early = now - self.started_at < FIRST_NODE;
                let few = self.candidates.is_empty() || (more && self.is_short());
                let enough = self.asked >= MOST_ASKED;
                let open = |c: &LookupNode| waits(c) || (c.state == NodeState::Fresh && !enough);
                if (early && few) || self.front().any(open) {
                    return false;
                }
                self.phase = match self.goal {
                    Goal::Announce(_) => Phase::Announcing,
                    _ => Phase::Done,
                };
            }
            Phase::Announcing => {
                let open = |c: &LookupNode| {
                    waits(c) || (c.state == NodeState::Answered && c.token != NO_TOKEN)
                };
                if !self.front().any(open) {
                    self.phase = Phase::Done;
                }
            }
            _ => {}
        }
        self.phase != before
    }

    /// When it ends if no node turns up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let idle = self.phase == Phase::Searching && self.candidates.is_empty();
        idle.then(|| self.started_at + FIRST_NODE)
    }
}

/// Nodes of a lookup.
const CANDIDATES: usize = 24;

/// No token.
const NO_TOKEN: u8 = u8::MAX;

/// Nodes that a lookup asks at a time if nobody waits for it.
const CALM: usize = 3;

/// Queries of a lookup, its announces not counted.
pub(crate) const MOST_ASKED: u16 = 64;

/// A lookup waits so long for the first node.
pub(crate) const FIRST_NODE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    extern crate std;
    use everseed_core::rng::Rng;
    use std::vec::Vec;

    const NOW: Instant = Instant::from_secs(10);
    const TARGET: NodeId = NodeId([0; 20]);
    const PORT: Announce = Announce {
        ports: [1; 2],
        seed: false,
    };

    fn at(net: u8, host: u8) -> Endpoint {
        SocketAddr::from(([20, 0, net, host], 6881)).into()
    }

    fn id(distance: u8) -> NodeId {
        let mut id = [0; 20];
        id[0] = distance;
        NodeId(id)
    }

    fn lookup(goal: Goal) -> Lookup {
        let mut lookup = Lookup::EMPTY;
        lookup.begin(NOW, Family::V4, TARGET, goal, Urgency::Now);
        lookup
    }

    fn distances(lookup: &Lookup) -> Vec<u8> {
        lookup.candidates.iter().map(|c| c.id.0[0]).collect()
    }

    #[test]
    fn closest_first_until_enough_answered() {
        let mut lookup = lookup(Goal::Announce(PORT));
        assert!(!lookup.settle(NOW, false), "nobody yet");
        for n in (1..=20).rev() {
            lookup.offer(id(n), at(n, 1));
        }
        let mut asked = Vec::new();
        while let Some(step) = lookup.next() {
            let Step::Ask(to) = step else { panic!() };
            asked.push(to);
            lookup.done(step);
        }
        assert!(asked.iter().copied().eq((1..=8).map(|n| at(n, 1))));
        // One is silent: the next one is asked.
        lookup.failed(at(1, 1));
        assert_eq!(lookup.next(), Some(Step::Ask(at(9, 1))));
        lookup.done(Step::Ask(at(9, 1)));
        for n in 2..=9 {
            assert!(!lookup.settle(NOW, false));
            lookup.answered(id(n), at(n, 1), (n != 5).then_some(&[n; 4]));
        }
        assert!(lookup.settle(NOW, false));
        assert_eq!(lookup.phase, Phase::Announcing);
        let mut told = Vec::new();
        while let Some(step) = lookup.next() {
            let Step::Tell(to) = step else { panic!() };
            told.push(to);
            let n = told.len() as u8 + 1;
            assert_eq!(lookup.token(to), [if n < 5 { n } else { n + 1 }; 4]);
            lookup.done(step);
        }
        assert_eq!(told.len(), 7);
        for (n, to) in told.into_iter().enumerate() {
            assert!(!lookup.settle(NOW, false));
            match n {
                0 => lookup.failed(to),
                n => lookup.announced(to, n > 1),
            }
        }
        assert!(lookup.settle(NOW, false));
        assert_eq!((lookup.phase, lookup.announced), (Phase::Done, 5));
    }

    /// The first to answer names nobody of use, while others were asked too.
    #[test]
    fn the_first_answer_does_not_end_it() {
        let mut lookup = lookup(Goal::Peers);
        lookup.answered(id(1), at(1, 1), None);
        for host in 2..=9 {
            lookup.offer(id(host), at(1, host));
        }
        assert_eq!(lookup.next(), None, "all of one network");
        assert!(!lookup.settle(NOW, true));
        // There are always others to ask, of whom nobody is of use.
        let mut alone = lookup.clone();
        assert!(alone.settle(NOW + FIRST_NODE, true));
        assert_eq!(alone.phase, Phase::Done);
        // Somebody else names enough.
        (2..=8).for_each(|n| lookup.offer(id(n), at(n, 1)));
        assert_eq!(lookup.next(), Some(Step::Ask(at(2, 1))));
        (2..=8).for_each(|n| lookup.answered(id(n), at(n, 1), None));
        assert!(lookup.settle(NOW, true), "it is not short any more");
    }

    #[test]
    fn crowds_and_liars() {
        let mut lookup = lookup(Goal::Peers);
        for host in 1..=100 {
            lookup.offer(id(host), at(1, host));
            lookup.offer(id(host), at(host, 1));
        }
        // One of the crowd, and it is the closest.
        assert_eq!(distances(&lookup), (1..=24).collect::<Vec<_>>());
        // A thousand dead nodes do not keep the living out.
        let mut lookup = super::tests::lookup(Goal::Peers);
        for n in 0..60 {
            lookup.offer(id(n), at(n, 1));
            lookup.done(Step::Ask(at(n, 1)));
            lookup.failed(at(n, 1));
        }
        for n in 200..224 {
            lookup.offer(id(n), at(n, 1));
        }
        assert_eq!(distances(&lookup), (200..224).collect::<Vec<_>>());
        // Whoever was said to be close and is not has its own place.
        lookup.answered(id(250), at(200, 1), None);
        assert!(distances(&lookup).starts_with(&[201]) && distances(&lookup).ends_with(&[250]));
        // It ends.
        let mut steps = 0;
        let mut rng = Rng::new(3);
        while lookup.phase != Phase::Done {
            let ip = SocketAddr::from((rng.bits32().to_be_bytes(), 1)).into();
            lookup.offer(NodeId::random(&mut rng), ip);
            while let Some(step) = lookup.next() {
                let Step::Ask(to) = step else { panic!() };
                lookup.done(step);
                lookup.failed(to);
                steps += 1;
            }
            lookup.settle(NOW, false);
        }
        assert!(steps <= MOST_ASKED);
    }

    #[test]
    fn without_a_node_it_waits_and_ends() {
        let mut lookup = lookup(Goal::Peers);
        assert_eq!(lookup.deadline(), Some(NOW + FIRST_NODE));
        assert!(!lookup.settle(NOW, false));
        // Somebody whose id was not known.
        let mut joined = lookup.clone();
        joined.answered(id(3), at(3, 1), None);
        assert!(joined.settle(NOW, false));
        assert!(lookup.settle(NOW + FIRST_NODE, false));
        assert_eq!(lookup.phase, Phase::Done);
    }

    #[test]
    fn tokens_are_those_of_the_closest() {
        let mut lookup = lookup(Goal::Announce(PORT));
        for n in (1..=20).rev() {
            lookup.offer(id(n), at(n, 1));
            lookup.done(Step::Ask(at(n, 1)));
            lookup.answered(id(n), at(n, 1), Some(&[n; 40]));
        }
        for n in 1..=20 {
            let expected = if n <= 8 { &[n; TOKEN_MAX][..] } else { &[] };
            assert_eq!(lookup.token(at(n, 1)), expected);
        }
    }
}
