//! The handling of received datagrams: queries of others, and answers to ours.

use super::*;

impl Dht<'_> {
    /// Another node asks.
    pub(super) fn query(
        &mut self,
        now: Instant,
        from: SocketAddr,
        asked: usize,
        message: &Message<'_>,
        id: NodeId,
        query: Query<'_>,
    ) {
        let at = Endpoint::from(from);
        let net = &self.nets[index(at.family())];
        if self.mode != Mode::On || id == net.routes.own() || !self.askers.admit(now, at) {
            return;
        }
        let sent_lately = self.budget.sent_lately(now, at);
        // Who calls from our own network says nothing about the rest of the world.
        let next_door = at.is_local() && net.votes.elected().is_some();
        if !sent_lately && !next_door {
            self.reach.reached();
        }
        let unknown = !sent_lately && !net.routes.contains(at);
        if unknown && !message.read_only && net.routes.has_room_for(id, at) {
            self.hints.add(at, Origin::Heard);
        }
        if self.replies.is_full() || !self.budget.reply(now) {
            self.stats.dropped += 1;
            return;
        }
        let what = match query {
            Query::AnnouncePeer {
                info_hash,
                port,
                implied_port,
                token,
                seed,
            } => {
                let port = if implied_port { from.port() } else { port };
                let peer = SocketAddr::new(from.ip(), port).into();
                if !self.tokens.accept(now, from.ip(), token) {
                    ReplyBody::Refusal(ERROR_PROTOCOL)
                } else if self.store.announce(now, info_hash, peer, seed) {
                    ReplyBody::Pong
                } else {
                    ReplyBody::Refusal(ERROR_GENERIC)
                }
            }
            other => Reply::to_query(other),
        };
        let reply = Reply::new(from, message.transaction, asked, what);
        // There is room, as was just seen.
        let _ = self.replies.push_back(reply);
    }

    /// Another node answers.
    pub(super) fn response(
        &mut self,
        now: Instant,
        at: Endpoint,
        message: &Message<'_>,
        response: &Response<'_>,
        on_peer: &mut dyn FnMut(InfoHash, SocketAddr),
    ) {
        let Some(purpose) = self.calls.answered(message.transaction, at) else {
            return;
        };
        self.stats.answers += 1;
        self.unanswered_hints = 0;
        self.hints.remove(at);
        let family = at.family();
        let net = &mut self.nets[index(family)];
        if let Some(ours) = message.observed {
            net.vote(now, at, ours.into(), &mut self.rng);
        }
        if net.answered(now, response.id, at) {
            // Who just began may do with anybody.
            let short = |l: &&mut Lookup| l.family == family && l.is_short();
            for lookup in self.lookups.iter_mut().filter(short) {
                lookup.offer(response.id, at);
            }
        }
        if net.routes.good() > 0 {
            self.names_wait = FIRST_NAMES;
            self.names_put_off = false;
        }
        let nodes = response.nodes.take(K).chain(response.nodes6.take(K));
        self.add_named_nodes(at, purpose, nodes);
        match purpose {
            Purpose::Ping => {}
            Purpose::Announce(_) => {
                if let Some(lookup) = self.lookup(purpose) {
                    lookup.announced(at, true);
                }
            }
            Purpose::Step(_) => self.step_answered(at, purpose, response, on_peer),
        }
        self.settle(now);
    }

    /// Takes the nodes of an answer: those of the lookup's family go to the lookup, others to the hints if they are of use.
    fn add_named_nodes(
        &mut self,
        by: Endpoint,
        purpose: Purpose,
        nodes: impl Iterator<Item = (NodeId, SocketAddr)>,
    ) {
        let target = self.lookup(purpose).map(|l| l.target);
        let mut heard = 0;
        for (id, addr) in nodes {
            let node = Endpoint::from(addr);
            let net = &self.nets[index(node.family())];
            // Nobody outside knows who is at home here.
            if !by.may_name(node) || !net.is_on || id == net.routes.own() {
                continue;
            }
            let its = |l: &&mut Lookup| {
                Some(l.target) == target && l.family == node.family() && l.is_running()
            };
            if let Some(lookup) = self.lookups.iter_mut().find(its) {
                lookup.offer(id, node);
            } else if heard < HEARD && net.routes.has_room_for(id, node) {
                self.hints.add(node, Origin::Heard);
                heard += 1;
            }
        }
    }

    /// A node answers a step of a lookup.
    fn step_answered(
        &mut self,
        at: Endpoint,
        purpose: Purpose,
        response: &Response<'_>,
        on_peer: &mut dyn FnMut(InfoHash, SocketAddr),
    ) {
        let Some(lookup) = self.lookup(purpose).filter(|l| l.goal != Goal::Nodes) else {
            if let Some(lookup) = self.lookup(purpose) {
                lookup.answered(response.id, at, None);
            }
            return;
        };
        lookup.answered(response.id, at, response.token);
        for peer in response.values.take(PEERS) {
            let named = Endpoint::from(peer);
            if named.is_possible() && at.may_name(named) {
                lookup.peers = lookup.peers.saturating_add(1);
                on_peer(lookup.target.into(), peer);
            }
        }
    }

    /// Another node refuses a query. It is there, but of no use.
    pub(super) fn refused(&mut self, now: Instant, at: Endpoint, purpose: Purpose) {
        if let Some(lookup) = self.lookup(purpose) {
            match purpose {
                Purpose::Announce(_) => lookup.announced(at, false),
                _ => lookup.failed(at),
            }
        }
        self.settle(now);
    }

    /// The lookup that a query was for, if it is still there.
    pub(super) fn lookup(&mut self, purpose: Purpose) -> Option<&mut Lookup> {
        let (Purpose::Step(id) | Purpose::Announce(id)) = purpose else {
            return None;
        };
        let lookup = self.lookups.get_mut(usize::from(id.slot))?;
        let its = lookup.tenancy == id.tenancy && lookup.phase != Phase::Free;
        its.then_some(lookup)
    }

    /// Lookups go on that have what they need, or end.
    pub(super) fn settle(&mut self, now: Instant) {
        let others = self.hints.next(Origin::Given).is_some();
        for (slot, lookup) in self.lookups.iter_mut().enumerate() {
            let id = LookupId {
                slot: u8::try_from(slot).unwrap_or(u8::MAX),
                tenancy: lookup.tenancy,
            };
            let more = others || self.calls.await_answer(Purpose::Step(id));
            while lookup.settle(now, more) {}
            if lookup.phase == Phase::Done && lookup.goal == Goal::Nodes {
                self.nets[index(lookup.family)].searched(now);
                lookup.free();
            }
        }
    }
}

/// Nodes of an answer that are hinted at.
const HEARD: usize = 2;

/// Peers of an answer that are handed on.
const PEERS: usize = 50;
