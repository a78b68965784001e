//! The loans of the kernel's memory to each peer's socket, by the rule in [`shares`](super::shares): how much may be
//! written now, and when a share returns.

use std::net::IpAddr;
use std::time::Duration;

use everseed_core::time::Instant;
use everseed_node::{ConnId, Event, Limits, Reason};
use socket2::SockRef;

use super::shares::{Loan, REACH, Share};
use super::{Peer, Reactor, find};
use crate::net::memory::{LEAST_HELD, MOST_HELD};
use crate::net::socket::{Portion, UNACCEPTED, UNSERVED_WRITTEN};
use crate::net::sockopt;

impl Reactor {
    /// The number of bytes that may be written to a peer now; `None` if it has to wait for a share.
    pub(super) fn room(&mut self, now: Instant, id: ConnId) -> Option<usize> {
        let served = self.node.serves(id);
        let peer = find(&mut self.peers, id)?;
        let had = peer.loan.share;
        let (has, bytes) = self.lending.claim(had, served);
        if has != had {
            peer.loan = Loan {
                share: has,
                limit: bytes,
                lent: bytes,
                waits: None,
                used: had != Share::Nothing,
                left: u32::MAX,
                taken: now,
                ..peer.loan
            };
            if has == Share::Large {
                self.held.serve(&peer.stream, Portion::of(bytes));
            }
        }
        peer.loan.denied = served && has != Share::Large;
        let limit = peer.loan.limit;
        if self.lending.short || has == Share::Nothing {
            self.lending.look_soon(now);
        }
        if has == Share::Nothing {
            peer.loan.waits.get_or_insert(now);
            return None;
        }
        self.make_room_for_blocks(now, id);
        match served && has == Share::Large {
            true => self.room_in(now, id, Portion::of(limit)),
            false => Some(UNSERVED_WRITTEN),
        }
    }

    /// The number of bytes that the kernel takes now in one piece. `None` until it says that it takes many, because
    /// bytes that are read and not taken were read for nothing.
    fn room_in(&mut self, now: Instant, id: ConnId, portion: Portion) -> Option<usize> {
        let peer = find(&mut self.peers, id)?;
        // If the kernel does not tell, the write is tried.
        let held = sockopt::unacknowledged(&peer.stream).map_or(0, |bytes| bytes as usize);
        let unsent = match held {
            0 => 0,
            _ => sockopt::unsent(&peer.stream),
        };
        if portion.is_low(held, unsent) && !sockopt::takes_more(&peer.stream) {
            peer.writable = false;
            self.full(now, id);
            return None;
        }
        Some(portion.room(held, unsent))
    }

    /// A peer's socket is full: its share may grow if the peer can use more.
    pub(super) fn full(&mut self, now: Instant, id: ConnId) {
        let served = self.node.serves(id);
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let Loan {
            share,
            limit,
            asked,
            ..
        } = peer.loan;
        if share != Share::Large || !served || limit >= MOST_HELD || now - asked < ASK {
            return;
        }
        peer.loan.asked = now;
        if !self.lending.can_grow(limit) && !self.is_any_idle() {
            return;
        }
        let peer = find(&mut self.peers, id);
        let Some(bytes) = peer.and_then(|peer| sockopt::on_their_way(&peer.stream)) else {
            return;
        };
        let wanted = usize::try_from(bytes.saturating_mul(REACH)).unwrap_or(usize::MAX);
        self.give_more(now, id, wanted);
    }

    /// Serves as many peers as there is memory for, now that one has come or left.
    pub(super) fn fit_slots(&mut self, now: Instant) {
        let limits = self.node.limits();
        let slots = self.lending.slots(limits.most_slots.into());
        let most_slots = u16::try_from(slots).unwrap_or(u16::MAX);
        if most_slots != limits.most_slots {
            (self.node).set_limits(
                now,
                Limits {
                    most_slots,
                    ..limits
                },
            );
        }
    }

    /// Raises the large share of a peer whose socket is full and that could use `wanted` bytes, as far as bytes are free.
    pub(super) fn give_more(&mut self, now: Instant, id: ConnId, wanted: usize) {
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let limit = peer.loan.limit;
        let grown = self.lending.grown(limit, wanted);
        // A small growth is not worth the calls.
        if grown >= limit + limit / 8 {
            self.set_limit(id, grown);
        } else if wanted > limit && limit < self.lending.equal(self.lending.large) / 2 {
            self.lending.short = true;
            self.lending.look_soon(now);
        }
        if grown < wanted.min(MOST_HELD) && self.is_any_idle() {
            self.lending.look_soon(now);
        }
    }

    /// Whether a peer that is not served any more has a large share. A look takes it back once the peer has taken what it
    /// was sent.
    fn is_any_idle(&self) -> bool {
        let mut peers = self.peers.iter().flatten();
        peers.any(|peer| peer.loan.share == Share::Large && !self.node.serves(peer.id))
    }

    /// Sets the bytes of a large share. Bytes that the kernel holds already stay lent.
    fn set_limit(&mut self, id: ConnId, limit: usize) {
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let lent = peer.loan.lent.max(limit);
        self.lending.lent += lent - peer.loan.lent;
        (peer.loan.limit, peer.loan.lent) = (limit, lent);
        self.held.serve(&peer.stream, Portion::of(limit));
        self.set_unread(id);
    }

    /// Raises the receive buffer of a peer to hold the blocks that we requested, before a request is sent.
    fn make_room_for_blocks(&mut self, now: Instant, id: ConnId) {
        let need = self.held.for_blocks(self.node.blocks_requested(id));
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        // Bytes that it needs no more are free for others.
        let grows = need > peer.loan.blocks;
        let lacks = need > self.lending.level && now - self.lending.level_at >= ASK;
        peer.loan.blocks = peer.loan.blocks.max(need);
        if grows || lacks {
            self.share_room_for_blocks(now);
        }
        self.set_unread(id);
    }

    /// Bytes that the kernel may hold of blocks from a peer that is called. It may need them at once: the window of a
    /// socket grows from what it begins with, two or three times in each round trip. When others need all, those that
    /// were requested nothing lose them. A caller's window begins with a listener's small buffer.
    pub(super) fn room_to_begin(&self) -> usize {
        let level = self.lending.level;
        let peers = self.peers.iter().flatten();
        let lent: usize = peers.map(|peer| peer.loan.blocks.min(level)).sum();
        let begins = self.held.for_blocks(BEGINS).min(level);
        match lent + begins <= self.held.blocks() {
            true => begins,
            false => 0,
        }
    }

    /// Divides the kernel's memory for incoming blocks among the peers that we requested blocks from.
    fn share_room_for_blocks(&mut self, now: Instant) {
        let before = self.lending.level;
        let peers = self.peers.iter().flatten();
        let all: usize = peers.map(|peer| peer.loan.blocks).sum();
        let exceeds = all > self.held.blocks();
        if exceeds {
            for peer in self.peers.iter_mut().flatten() {
                peer.loan.blocks = self.held.for_blocks(self.node.blocks_requested(peer.id));
            }
        }
        let needs = || {
            let peers = self.peers.iter().flatten();
            peers.map(|peer| peer.loan.blocks as u64)
        };
        let level = level(self.held.blocks() as u64, needs);
        self.lending.level = usize::try_from(level).unwrap_or(usize::MAX);
        self.lending.level_at = now;
        if exceeds || self.lending.level != before {
            for slot in 0..self.peers.len() {
                if let Some(peer) = &self.peers[slot] {
                    self.set_unread(peer.id);
                }
            }
        }
    }

    fn set_unread(&mut self, id: ConnId) {
        let level = self.lending.level;
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let unread = match peer.loan.share {
            _ if peer.loan.blocks > 0 => peer.loan.blocks.min(level).max(UNACCEPTED),
            Share::Large => Portion::of(peer.loan.limit).received,
            _ => UNACCEPTED,
        };
        if std::mem::replace(&mut peer.loan.unread, unread) != unread {
            sockopt::change_received(&peer.stream, unread);
        }
    }

    /// Returns a new share of a peer to whom nothing was written.
    pub(super) fn return_unused(&mut self, id: ConnId) {
        if let Some(peer) = find(&mut self.peers, id)
            && peer.loan.share == Share::Small
            && !peer.loan.used
        {
            peer.loan.share = Share::Nothing;
            self.lending.change(Share::Small, Share::Nothing);
        }
    }

    /// Takes the share of a peer that left. Bytes that it did not take are not kept for it, except at the program's
    /// end.
    pub(super) fn take_back(&mut self, now: Instant, peer: &Peer, reason: Option<Reason>) {
        self.lending.change(peer.loan.share, Share::Nothing);
        self.lending.lent -= peer.loan.lent;
        self.lending.leave();
        self.fit_slots(now);
        if peer.loan.share != Share::Nothing
            && reason != Some(Reason::Stopping)
            && sockopt::unacknowledged(&peer.stream).is_none_or(|bytes| bytes > 0)
        {
            let _ = SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO));
        }
        if self.lending.look_at.is_some() {
            self.lending.look_at = Some(now);
        }
    }

    /// Looks which peers have taken what they were sent, and gives their shares to those that wait.
    pub(super) fn look(&mut self, now: Instant) {
        self.lending.look_at = None;
        for slot in 0..self.peers.len() {
            self.collect(now, slot);
        }
        let waits = |peer: &Peer| peer.loan.waits.is_some();
        let mut short = std::mem::take(&mut self.lending.short);
        if short {
            self.even_out();
            short = self.lending.short;
        }
        if !short && !self.peers.iter().flatten().any(waits) {
            return;
        }
        self.count_crowds();
        self.part_with_the_stuck(now);
        while self.lending.small < self.lending.places {
            let waiting = self.peers.iter().flatten().filter(|peer| waits(peer));
            let first = waiting.min_by_key(|peer| (peer.loan.crowd, peer.loan.waits));
            let Some((id, ip)) = first.map(|peer| (peer.id, peer.addr.ip())) else {
                return;
            };
            self.count_in(ip);
            if let Some(peer) = find(&mut self.peers, id) {
                peer.loan.waits = None;
            }
            self.send(now, id);
        }
        self.lending.look_soon(now);
    }

    /// Cuts all large shares of more than an equal part, and raises those of less as far as bytes are free. Bytes that
    /// the kernel still holds of a cut share become free at a later look.
    fn even_out(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            peer.loan.denied &= self.node.serves(peer.id);
        }
        let denied = |peer: &&Peer| peer.loan.denied;
        self.lending.denied = self.peers.iter().flatten().filter(denied).count();
        self.lending.has_room();
        self.lending.short |= self.lending.denied > 0;
        let all = self.lending.large + self.lending.denied;
        let equal = self.lending.equal(all).max(LEAST_HELD);
        let first = self.lending.first(all);
        for slot in 0..self.peers.len() {
            if let Some(peer) = &self.peers[slot]
                && peer.loan.limit > equal
            {
                self.set_limit(peer.id, equal);
            }
        }
        for slot in 0..self.peers.len() {
            let Some(peer) = &self.peers[slot] else {
                continue;
            };
            let (id, loan) = (peer.id, peer.loan);
            if loan.share == Share::Large && loan.limit < first {
                let free = self.lending.free();
                self.set_limit(id, first.min(loan.lent + free));
                self.lending.short |= loan.lent + free < first;
            }
            self.lending.short |= loan.lent > loan.limit;
        }
    }

    /// Takes back a share if its peer has taken what it was sent.
    fn collect(&mut self, now: Instant, slot: usize) {
        let Some(peer) = &mut self.peers[slot] else {
            return;
        };
        let loan = &mut peer.loan;
        let (has, served) = (loan.share, self.node.serves(peer.id));
        let is_cut = loan.lent > loan.limit;
        if has == Share::Nothing {
            return;
        }
        if has == Share::Large && served && !is_cut {
            // If the share is cut later, the peer's patience begins then.
            (loan.left, loan.taken) = (u32::MAX, now);
            return;
        }
        // If the kernel does not tell, it is believed to hold nothing once it takes more.
        let left = sockopt::unacknowledged(&peer.stream);
        let left = left.unwrap_or(u32::from(!peer.writable));
        if is_cut {
            let held = left as usize + Portion::of(loan.limit).received;
            let lent = loan.lent.min(held.max(loan.limit));
            self.lending.lent -= loan.lent - lent;
            loan.lent = lent;
        }
        if left < loan.left {
            (loan.left, loan.taken) = (left, now);
        }
        if left > 0 || (has == Share::Large && served) {
            return;
        }
        if has == Share::Large {
            self.held.serve_no_longer(&peer.stream);
        }
        self.lending.lent -= peer.loan.lent;
        (peer.loan.limit, peer.loan.lent) = (0, 0);
        peer.loan.share = Share::Nothing;
        self.lending.change(has, Share::Nothing);
        let id = peer.id;
        self.set_unread(id);
    }

    /// Counts the shares of each IP address.
    fn count_crowds(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            peer.loan.crowd = 0;
        }
        for slot in 0..self.peers.len() {
            if let Some(peer) = &self.peers[slot]
                && peer.loan.share != Share::Nothing
            {
                self.count_in(peer.addr.ip());
            }
        }
    }

    fn count_in(&mut self, ip: IpAddr) {
        let same = |peer: &&mut Peer| peer.addr.ip() == ip;
        for peer in self.peers.iter_mut().flatten().filter(same) {
            peer.loan.crowd = peer.loan.crowd.saturating_add(1);
        }
    }

    /// Disconnects peers that take nothing while others wait for their share.
    fn part_with_the_stuck(&mut self, now: Instant) {
        for slot in 0..self.peers.len() {
            let Some(peer) = &self.peers[slot] else {
                continue;
            };
            let Loan {
                share, limit, lent, ..
            } = peer.loan;
            let served = share == Share::Large && lent <= limit && self.node.serves(peer.id);
            let stuck = now - peer.loan.taken >= patience(peer.loan.crowd);
            if share != Share::Nothing && !served && stuck {
                log::debug!("{}: it takes nothing, and others wait", peer.addr);
                let id = peer.id;
                self.node.event(now, Event::Closed(id));
                self.busy = true;
            }
        }
    }
}

/// The time for which a peer may take nothing while others wait, if `crowd` peers share its IP address.
fn patience(crowd: u16) -> Duration {
    (PATIENCE / u32::from(crowd.max(1))).max(LEAST_PATIENCE)
}

/// The most that each may have of `total`, so that all together have no more, and nothing is left over while
/// somebody needs more; [`u64::MAX`] if everybody may have what it needs.
fn level<I: Iterator<Item = u64>>(total: u64, needs: impl Fn() -> I) -> u64 {
    let mut level = 0;
    loop {
        let (mut left, mut more) = (total, 0_u64);
        for need in needs() {
            match need <= level {
                true => left = left.saturating_sub(need),
                false => more = more.saturating_add(1),
            }
        }
        // Those who need less than an equal part leave more for the others each time.
        let Some(next) = left.checked_div(more) else {
            return u64::MAX;
        };
        if next <= level {
            return level;
        }
        level = next;
    }
}

/// The pause between two questions whether a peer can use more.
const ASK: Duration = Duration::from_millis(20);

/// Blocks that a called peer has room for before it is known what will be requested: more than the 14 KiB that a
/// sender begins with.
const BEGINS: u16 = 2;

/// Long enough for a packet to be lost and sent again a few times; the shorter one, for a crowd, once.
const PATIENCE: Duration = Duration::from_secs(8);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use everseed_node::Have;

    use super::*;
    use crate::net::engine::tests;

    /// Large shares of peers that are not served any more go to a peer that can use more.
    #[test]
    fn what_lies_idle_goes_to_who_can_use_it() {
        let mut engine = tests::engine();
        let content = tests::content(false);
        engine.add(None, &content, Have::All, 0).unwrap();
        let reactor = &mut *engine.shared.lock();
        let now = reactor.clock.now();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..7)
            .map(|_| {
                let client = TcpStream::connect(addr).unwrap();
                let (stream, from) = listener.accept().unwrap();
                reactor.welcome(now, stream, from);
                client
            })
            .collect();
        let served = reactor.peers[0].as_mut().unwrap();
        served.writable = true;
        let served = served.id;
        let hello = tests::hello(content.metainfo().info_hash);
        tests::says(&mut reactor.node, now, served, &hello);
        // Interested.
        tests::says(&mut reactor.node, now, served, &[0, 0, 0, 1, 2]);
        reactor.node.tick(now);
        reactor.act(now);
        assert!(reactor.node.serves(served));
        for slot in 1..clients.len() {
            let (share, bytes) = reactor.lending.claim(Share::Nothing, true);
            let loan = &mut reactor.peers[slot].as_mut().unwrap().loan;
            (loan.share, loan.limit, loan.lent) = (share, bytes, bytes);
        }
        let limit = |reactor: &Reactor| reactor.peers[0].as_ref().unwrap().loan.limit;
        let (before, large) = (limit(reactor), reactor.lending.large);
        assert!(before > 0 && large > 1);
        reactor.lending.look_at = None;
        reactor.give_more(now, served, MOST_HELD);
        let idle = reactor.lending.look_at.expect("a look");
        reactor.look(idle);
        assert_eq!(reactor.lending.large, 1);
        for _ in 0..9 {
            reactor.give_more(idle, served, MOST_HELD);
        }
        // But for an eighth.
        let (most, has) = (reactor.lending.equal(1), limit(reactor));
        assert!(
            has >= most / 8 * 7 - 8 && has > 2 * before,
            "{has} of {most}"
        );
        // Nothing lies idle any more, and nobody looks.
        assert_eq!(reactor.lending.look_at, None);
    }

    /// The node knows for how many there is memory as soon as one comes, and whoever sets limits changes nothing of it.
    #[test]
    fn slots_are_as_many_as_there_is_memory_for() {
        let engine = tests::engine();
        let most_slots = || {
            engine
                .shared
                .ask(|reactor| reactor.node.limits().most_slots)
        };
        let before = most_slots();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, from) = listener.accept().unwrap();
        engine.shared.change(|reactor| {
            reactor.welcome(reactor.clock.now(), stream, from);
            let room = reactor.lending.equal(1) / LEAST_HELD;
            let slots = usize::from(reactor.node.limits().most_slots);
            assert!(slots <= room && slots >= room / 2, "{slots} of {room}");
        });
        let more = most_slots();
        assert!(more > before, "{more} after {before}");
        let limits = engine.shared.ask(|reactor| reactor.node.limits());
        engine.node.set_limits(Limits {
            most_slots: before,
            ..limits
        });
        assert_eq!(most_slots(), more);
    }

    #[test]
    fn a_crowd_has_less_patience() {
        assert_eq!(patience(0), PATIENCE);
        assert_eq!(patience(2), PATIENCE / 2);
        assert_eq!(patience(1000), LEAST_PATIENCE);
    }

    #[test]
    fn what_some_do_not_need_the_others_have() {
        for (total, needs, most) in [
            (100, &[][..], u64::MAX),
            (100, &[0], u64::MAX),
            (100, &[100], u64::MAX),
            (100, &[101], 100),
            (100, &[50, 50], u64::MAX),
            (100, &[60, 50], 50),
            (100, &[1000, 10], 90),
            (100, &[1000, 1000, 10], 45),
            (100, &[30, 40, 1000], 35),
            (100, &[1000, 1, 20, 30], 49),
            (3, &[5, 5, 5, 5], 0),
            (0, &[5], 0),
            (u64::MAX, &[u64::MAX, u64::MAX], u64::MAX / 2),
        ] {
            assert_eq!(
                level(total, || needs.iter().copied()),
                most,
                "{total} for {needs:?}"
            );
        }
    }

    /// Whatever they need: all is used, or everybody has enough.
    #[test]
    fn all_is_used_and_no_more() {
        let mut seed = 1_u64;
        for _ in 0..2000 {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 40
            };
            let needs: [u64; 8] = core::array::from_fn(|_| next() >> (next() % 20));
            let total = next();
            let most = level(total, || needs.iter().copied());
            let all: u64 = needs.iter().map(|need| need.min(&most)).sum();
            assert!(all <= total, "{total} for {needs:?}");
            let enough = needs.iter().all(|need| *need <= most);
            assert!(enough || total - all < 8, "{total} for {needs:?}");
        }
    }
}
