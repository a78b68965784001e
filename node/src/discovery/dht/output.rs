//! The sending of queries: which one is next, and when.

use super::*;

/// A query that is to be sent.
struct Ask<'a> {
    to: Endpoint,
    purpose: Purpose,
    query: Query<'a>,
}

impl Dht<'_> {
    /// Gives up queries that are late, and begins what is due.
    pub(super) fn pass_time(&mut self, now: Instant) {
        while let Some((to, purpose)) = self.calls.give_up(now) {
            self.nets[index(to.family())].routes.failed(now, to);
            self.hints.silent(to);
            if let Some(lookup) = self.lookup(purpose) {
                lookup.failed(to);
            }
        }
        self.settle(now);
        for family in FAMILIES {
            let net = &self.nets[index(family)];
            let due = net.is_on && net.routes.len() > 0 && now >= net.neighbours_at;
            let looks = |l: &Lookup| l.is_running() && l.goal == Goal::Nodes && l.family == family;
            let place = self.places(Urgency::Now) > 1 || self.places(Urgency::Later) > 0;
            if due && place && !self.lookups.iter().any(looks) {
                let own = net.routes.own();
                self.begin(now, family, own, Goal::Nodes, Urgency::Later, false);
            }
        }
    }

    /// The next query, in this order: of lookups that somebody waits for, to nodes that were given, of other
    /// lookups, and to keep the table true.
    pub(super) fn next_query(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        wait: &mut Wait,
    ) -> Option<(SocketAddr, usize)> {
        if !self.calls.may_begin() {
            return None;
        }
        self.step(now, packet, Urgency::Now, wait)
            .or_else(|| self.follow_hint(now, packet, wait))
            .or_else(|| self.step(now, packet, Urgency::Later, wait))
            .or_else(|| self.maintain(now, packet, wait))
    }

    /// The next step of a lookup.
    fn step(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        urgency: Urgency,
        wait: &mut Wait,
    ) -> Option<(SocketAddr, usize)> {
        for slot in 0..self.lookups.len() {
            let lookup = &self.lookups[slot];
            let Some(step) = lookup.next().filter(|_| lookup.urgency == urgency) else {
                continue;
            };
            let (Step::Ask(to) | Step::Tell(to)) = step;
            if let Err(at) = self.budget.query(now, to, urgency) {
                wait.until(at);
                continue;
            }
            let id = LookupId {
                slot: u8::try_from(slot).unwrap_or(u8::MAX),
                tenancy: lookup.tenancy,
            };
            let target = lookup.target;
            let mut token = [0; everseed_core::krpc::TOKEN_MAX];
            let told = lookup.token(to);
            let len = told.len();
            token[..len].copy_from_slice(told);
            let (purpose, query) = match (step, lookup.goal) {
                (Step::Tell(_), Goal::Announce(announce)) => (
                    Purpose::Announce(id),
                    Query::AnnouncePeer {
                        info_hash: target,
                        port: announce.ports[index(to.family())],
                        implied_port: false,
                        token: &token[..len],
                        seed: announce.seed,
                    },
                ),
                (_, goal) => {
                    let noseed = self.lookups[slot].noseed;
                    (Purpose::Step(id), self.goal_query(goal, target, to, noseed))
                }
            };
            self.lookups[slot].done(step);
            return self.send(now, Ask { to, purpose, query }, packet);
        }
        None
    }

    /// The query that serves a goal.
    fn goal_query(&self, goal: Goal, target: NodeId, to: Endpoint, noseed: bool) -> Query<'static> {
        let want = self.want(to.family());
        match goal {
            Goal::Nodes => Query::FindNode { target, want },
            Goal::Peers | Goal::Announce(_) => Query::GetPeers {
                info_hash: target,
                want,
                noseed,
                scrape: false,
            },
        }
    }

    /// Nodes of the other family are wanted only if few are known there (BEP 32).
    fn want(&self, family: Family) -> Want {
        let other = &self.nets[1 - index(family)];
        match other.is_on && other.routes.good() < K {
            true => Want { v4: true, v6: true },
            false => Want::default(),
        }
    }

    /// Asks an address that was given: for the target of a lookup of its family, or for our neighbours.
    fn follow_hint(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        wait: &mut Wait,
    ) -> Option<(SocketAddr, usize)> {
        let to = self.hints.next(Origin::Given)?;
        let own = self.nets[index(to.family())].routes.own();
        let short =
            |l: &Lookup| l.family == to.family() && l.is_short() && l.urgency == Urgency::Now;
        let lookup = self.lookups.iter().position(short);
        let lost = self.nets[index(to.family())].routes.good() == 0;
        let urgency = if lost || lookup.is_some() {
            Urgency::Now
        } else {
            Urgency::Later
        };
        if let Err(at) = self.budget.query(now, to, urgency) {
            wait.until(at);
            return None;
        }
        self.hints.asked(to);
        let (purpose, query) = match lookup {
            Some(slot) => {
                let lookup = &self.lookups[slot];
                let id = LookupId {
                    slot: u8::try_from(slot).unwrap_or(u8::MAX),
                    tenancy: lookup.tenancy,
                };
                let query = self.goal_query(lookup.goal, lookup.target, to, lookup.noseed);
                (Purpose::Step(id), query)
            }
            None => (Purpose::Ping, self.goal_query(Goal::Nodes, own, to, false)),
        };
        self.send(now, Ask { to, purpose, query }, packet)
    }

    /// One query now and then, so that the table stays true and grows.
    fn maintain(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        wait: &mut Wait,
    ) -> Option<(SocketAddr, usize)> {
        if now + EARLY < self.upkeep_at || (self.is_poor() && now < self.upkeep_at) {
            return None;
        }
        if let Err(at) = self.budget.ready(now, Urgency::Later) {
            wait.until(at);
            return None;
        }
        self.store.expire(now);
        self.upkeep_at = now + if self.is_poor() { UPKEEP_POOR } else { UPKEEP };
        let hint = self.hints.next(Origin::Heard);
        let (to, target) = match hint {
            Some(to) => {
                self.hints.remove(to);
                self.unanswered_hints = self.unanswered_hints.saturating_add(1);
                (to, self.nets[index(to.family())].routes.own())
            }
            None => {
                let rng = &mut self.rng;
                let mut nets = self.nets.iter_mut().filter(|net| net.is_on);
                nets.find_map(|net| net.upkeep(now, rng))?
            }
        };
        if let Err(at) = self.budget.query(now, to, Urgency::Later) {
            wait.until(at);
            return None;
        }
        let query = self.goal_query(Goal::Nodes, target, to, false);
        let purpose = Purpose::Ping;
        self.send(now, Ask { to, purpose, query }, packet)
    }

    /// Whether few nodes are known while hints are left to ask. If too many of them were silent it is not: not every peer
    /// has a node.
    pub(super) fn is_poor(&self) -> bool {
        let poor = |net: &Net<'_>| net.routes.good() < K;
        let some = self.hints.next(Origin::Heard).is_some();
        some && self.unanswered_hints < UNANSWERED_HINTS_MAX && self.nets.iter().all(poor)
    }

    /// Writes a query that is within the budget.
    fn send(
        &mut self,
        now: Instant,
        ask: Ask<'_>,
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        let transaction = self.calls.begin(now, ask.to, ask.purpose, &mut self.rng)?;
        let own = self.nets[index(ask.to.family())].routes.own();
        let message = Message {
            transaction: &transaction,
            version: VERSION,
            read_only: self.mode == Mode::ReadOnly || self.reach.only_reads(now),
            observed: None,
            body: Body::Query(own, ask.query),
        };
        let len = message.encode(packet)?;
        self.stats.queries += 1;
        Some((ask.to.addr(), len))
    }

    /// When there will be something to do.
    pub(super) fn next_wake(&self, now: Instant, wait: Wait) -> Instant {
        let lookups = self.lookups.iter().filter_map(Lookup::deadline);
        let neighbours = self.nets.iter();
        let neighbours = neighbours.filter(|net| net.is_on && net.routes.len() > 0);
        let neighbours = neighbours.map(|net| net.neighbours_at);
        let names_at = if self.names_now { now } else { self.names_at };
        let names = self.is_lost().then_some(names_at);
        let all = lookups.chain(neighbours).chain(names).chain(wait.0);
        let all = all.chain(self.calls.deadline()).chain([self.upkeep_at]);
        // What cannot be done now is for a little later, so that time goes on.
        let soonest = all.map(|at| match at <= now {
            true => now + BLOCKED,
            false => at,
        });
        soonest.min().unwrap_or(now + UPKEEP)
    }
}

/// After so many hints without an answer, further ones are asked as seldom as known nodes.
const UNANSWERED_HINTS_MAX: u8 = 16;

/// Work that is due but has no place is tried again after this time.
const BLOCKED: Duration = Duration::from_millis(500);
