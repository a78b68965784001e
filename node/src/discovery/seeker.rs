//! The seeker lets the DHT search for peers of each public torrent in turn, and adds them to the candidates.
//!
//! A download without a known peer does not wait for its turn: its search begins as soon as it is published, from the
//! nodes that are known.
//!
//! A torrent that sleeps is complete; peers that want it find our announce and call us. If nobody is known to reach
//! us, though, we have to call them: the torrent is woken when the search finds peers that lack something. The same
//! holds for peers that a tracker names.
//!
//! Invariant: the DHT is asked only for torrents whose publicity allows it, which that of a private one never does
//! (BEP 27).

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;
use everseed_core::tracker::Family;

use crate::context::Context;
use crate::discovery::candidates::{Candidates, Named, PeerSource};
use crate::discovery::dht::turns::{self, Turn};
use crate::discovery::dht::{Announce, Dht, Mode, Search};
use crate::torrent::Torrents;

/// See the module.
#[derive(Debug)]
pub(crate) struct Seeker<'m> {
    pub(crate) dht: Dht<'m>,
    /// An entry for each place of the registry, if there is a DHT.
    turns: &'m mut [Turn],
    /// The number of torrents that take turns. Without any the DHT is at rest.
    published: u16,
    /// The time of the next turn.
    look_at: Instant,
    /// Sleeping torrents whose search has ended.
    ended: heapless::Deque<TorrentId, ENDED>,
}

impl<'m> Seeker<'m> {
    pub(crate) fn new(mut dht: Dht<'m>, turns: &'m mut [Turn]) -> Seeker<'m> {
        dht.rest(Instant::ZERO, true);
        Seeker {
            dht,
            turns,
            published: 0,
            look_at: Instant::ZERO,
            ended: heapless::Deque::new(),
        }
    }

    /// Allows a torrent in the DHT from now on, or no longer. It is announced with `ports`, IPv4 first,
    /// if they are not 0.
    pub(crate) fn publish(&mut self, cx: &Context<'_>, id: TorrentId, ports: [u16; 2]) {
        let slot = usize::from(id.slot);
        if !cx.torrents.publicity(id).dht() {
            return self.forget(cx, id);
        }
        if let Some(turn) = self.turns.get_mut(slot) {
            self.published += u16::from(turn.start(cx.now));
            self.dht.rest(cx.now, false);
        }
        self.look_at = cx.now;
        let download = |id| cx.torrents.get(id).is_some_and(|t| cx.torrents.left(t) > 0);
        if download(id) {
            self.seek(cx, slot, ports);
        }
    }

    /// A torrent was removed, or must not be in the DHT any more.
    pub(crate) fn forget(&mut self, cx: &Context<'_>, id: TorrentId) {
        self.end(cx.now, usize::from(id.slot));
        if let Some(info_hash) = cx.torrents.registry.info_hash(id) {
            self.dht.forget(info_hash);
        }
    }

    /// Takes a place out of the turns.
    fn end(&mut self, now: Instant, slot: usize) {
        let turn = self.turns.get_mut(slot).filter(|turn| **turn != Turn::OFF);
        let Some(turn) = turn else { return };
        *turn = Turn::OFF;
        self.published -= 1;
        if self.published == 0 {
            self.dht.rest(now, true);
        }
    }

    /// Whether we tell peers of a torrent that we use the DHT. Then they send the port of their node (BEP 5, `port`).
    pub(crate) fn is_told(&self, cx: &Context<'_>, id: TorrentId) -> bool {
        self.dht.mode() != Mode::Off && cx.torrents.publicity(id).dht()
    }

    /// Whether we send them the port of our node: not if it answers no queries.
    pub(crate) fn tells_port(&self) -> bool {
        self.dht.mode() == Mode::On
    }

    /// Notes that a peer of a torrent has this address. Its DHT node may be on the same port.
    pub(crate) fn guess(
        &mut self,
        now: Instant,
        torrents: &Torrents<'_>,
        id: TorrentId,
        addr: SocketAddr,
    ) {
        if torrents.publicity(id).dht() {
            self.dht.guess(now, addr);
        }
    }

    /// Takes a datagram. Returns whether it was for the DHT.
    pub(crate) fn datagram(
        &mut self,
        cx: &Context<'_>,
        candidates: &mut Candidates<'_>,
        from: SocketAddr,
        packet: &[u8],
    ) -> bool {
        // An answer of a tracker begins with a small number (BEP 15), a packet of a node with a dictionary.
        if packet.first() != Some(&b'd') {
            return false;
        }
        let reachable = self.dht.is_reachable();
        let ours = [Family::V4, Family::V6].map(|family| self.dht.external(family));
        let mut on_peer = |info_hash, addr: SocketAddr| {
            let id = cx.torrents.registry.find(info_hash);
            let public = id.filter(|&id| cx.torrents.publicity(id).dht());
            let of_use = |&id: &TorrentId| match cx.torrents.get(id) {
                Some(_) => true,
                // Our own address is among the answers.
                None => cx.torrents.is_asleep(id) && !reachable && !ours.contains(&Some(addr.ip())),
            };
            if let Some(torrent) = public.filter(of_use) {
                let named = Named {
                    torrent,
                    addr,
                    source: PeerSource::Dht,
                    by: None,
                };
                candidates.add(cx.now, named);
            }
        };
        self.dht.datagram(cx.now, from, packet, &mut on_peer);
        true
    }

    /// The next datagram to send, if there is one, see [`Dht::poll_datagram`].
    pub(crate) fn poll_datagram(
        &mut self,
        cx: &mut Context<'_>,
        ports: [u16; 2],
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        while let Some(finished) = self.dht.poll_finished() {
            self.look_at = cx.now;
            let id = cx.torrents.registry.find(finished.info_hash);
            let turn = id.and_then(|id| self.turns.get_mut(usize::from(id.slot)));
            if let Some(turn) = turn {
                // Without a port there is nothing to announce.
                let announced = if ports == [0; 2] {
                    1
                } else {
                    finished.announced
                };
                let waits = id.is_some_and(|id| lacks_peers(cx, id));
                turn.ended(cx.now, announced, finished.peers, waits, cx.rng.bits32());
            }
            let asleep = id.filter(|&id| cx.torrents.is_asleep(id));
            if let Some(id) = asleep {
                // There is room for as many as can end at once.
                let _ = self.ended.push_back(id);
            }
        }
        if cx.now >= self.look_at && self.dht.is_ready() {
            self.look_at = cx.now + LOOK_EVERY;
            while let Some(slot) = turns::next(cx.now, self.turns) {
                if !self.seek(cx, slot, ports) {
                    break;
                }
            }
        }
        self.dht.poll_datagram(cx.now, packet)
    }

    /// A sleeping torrent whose search has ended. The caller wakes it if there are peers to call.
    pub(crate) fn poll_ended(&mut self) -> Option<TorrentId> {
        self.ended.pop_front()
    }

    /// The time to poll again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.dht.deadline()
    }

    /// Starts the search for the torrent of a place. Returns `false` if there is no room for another search.
    fn seek(&mut self, cx: &Context<'_>, slot: usize, ports: [u16; 2]) -> bool {
        let Some(turn) = self.turns.get_mut(slot) else {
            return false;
        };
        let id = cx.torrents.registry.at(slot);
        let id = id.filter(|&id| cx.torrents.publicity(id).dht());
        let info_hash = id.and_then(|id| cx.torrents.registry.info_hash(id));
        let Some((id, info_hash)) = id.zip(info_hash) else {
            self.end(cx.now, slot);
            return true;
        };
        if turn.hopes() && !lacks_peers(cx, id) {
            turn.put_off(cx.now);
            return true;
        }
        let noseed = cx.torrents.is_asleep(id) && !self.dht.is_reachable();
        // A sleeping torrent is complete.
        let left = cx.torrents.get(id).map_or(0, |t| cx.torrents.left(t));
        let search = Search {
            info_hash,
            announce: (ports != [0; 2]).then_some(Announce {
                ports,
                seed: left == 0,
            }),
            urgent: left > 0 && turn.found_nobody(),
            noseed,
        };
        let begun = self.dht.search(cx.now, &search);
        if begun {
            turn.begun();
        }
        begun
    }
}

/// Whether a torrent is downloaded and nobody is connected.
fn lacks_peers(cx: &Context<'_>, id: TorrentId) -> bool {
    let torrent = cx.torrents.get(id);
    torrent.is_some_and(|torrent| torrent.conns == 0 && cx.torrents.left(torrent) > 0)
}

/// The number of searches that may end at once: there are no more lookups.
const ENDED: usize = 4;

/// The least time between two turns, unless a search has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use everseed_core::krpc::{Body, Message, NodeId, Query, Response, Values, put_value};

    use super::*;
    use crate::api::Have;
    use crate::discovery::dht::PACKET_MAX;
    use crate::discovery::dht::memory::{Memory, Sizes};
    use crate::parts::Parts;
    use crate::parts::small::{Heap, parts};
    use crate::torrent::publicity::Publicity;

    const PUBLIC: Publicity = Publicity::NONE.with_dht();
    const PORTS: [u16; 2] = [6881, 0];

    fn node() -> SocketAddr {
        ([20, 1, 0, 1], 6881).into()
    }

    /// A seeker for one torrent, by IPv4.
    fn seeker(now: Instant, mode: Mode) -> Seeker<'static> {
        let memory = Memory::lend(&Sizes::FULL, &mut Heap);
        let dht = Dht::new(now, memory, mode, [true, false], 1);
        Seeker::new(dht, vec![Turn::OFF; 1].leak())
    }

    /// The queries that are sent now.
    fn sent(seeker: &mut Seeker<'_>, cx: &mut Context<'_>) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut all, mut room) = (Vec::new(), [0; PACKET_MAX]);
        while let Some((to, len)) = seeker.poll_datagram(cx, PORTS, &mut room) {
            all.push((to, room[..len].to_vec()));
        }
        all
    }

    /// Answers a query, as a node that knows of a peer.
    fn reply(query: &[u8]) -> Vec<u8> {
        let query = Message::decode(query).unwrap();
        let mut values = [0; 32];
        let len = put_value(([30, 0, 0, 1], 5000).into(), &mut values, 0).unwrap();
        let mut response = Response::empty(NodeId([0xaa; 20]));
        if matches!(query.body, Body::Query(_, Query::GetPeers { .. })) {
            response.values = Values::new(&values[..len]);
        }
        let message = Message {
            transaction: query.transaction,
            version: b"",
            read_only: false,
            observed: None,
            body: Body::Response(response),
        };
        let mut out = vec![0; PACKET_MAX];
        let len = message.encode(&mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn without_a_public_torrent_the_dht_rests() {
        let (mut parts, id) = parts(Have::All);
        let cx = &mut parts.cx;
        let mut seeker = seeker(cx.now, Mode::On);
        assert_eq!(seeker.deadline(), None);
        for (publicity, rests) in [
            (PUBLIC, false),
            (PUBLIC, false),
            (Publicity::PRIVATE, true),
            (PUBLIC, false),
            (Publicity::NONE, true),
        ] {
            cx.torrents.registry.set_publicity(id, publicity);
            seeker.publish(cx, id, PORTS);
            assert_eq!(seeker.deadline().is_none(), rests, "{publicity:?}");
        }
        cx.torrents.registry.set_publicity(id, PUBLIC);
        seeker.publish(cx, id, PORTS);
        seeker.forget(cx, id);
        assert_eq!(seeker.deadline(), None, "it is gone");
    }

    #[test]
    fn what_peers_are_told_of_our_node() {
        for (mode, publicity, told, port) in [
            (Mode::On, PUBLIC, true, true),
            (Mode::On, Publicity::NONE, false, true),
            (Mode::On, Publicity::PRIVATE, false, true),
            (Mode::ReadOnly, PUBLIC, true, false),
            (Mode::Off, PUBLIC, false, false),
        ] {
            let (mut parts, id) = parts(Have::All);
            let cx = &mut parts.cx;
            cx.torrents.registry.set_publicity(id, publicity);
            let seeker = seeker(cx.now, mode);
            let is = (seeker.is_told(cx, id), seeker.tells_port());
            assert_eq!(is, (told, port), "{mode:?} {publicity:?}");
        }
    }

    #[test]
    fn a_download_without_peers_does_not_wait_for_its_turn() {
        // What we have, the number of connections, and whether a search begins at once although only one node is known.
        for (have, conns, asked) in [(Have::Nothing, 0, true), (Have::All, 0, false)] {
            let (mut parts, id) = parts(have);
            let Parts { cx, discovery, .. } = &mut parts;
            cx.torrents.get_mut(id).unwrap().conns = conns;
            cx.torrents.registry.set_publicity(id, PUBLIC);
            let mut seeker = seeker(cx.now, Mode::On);
            seeker.dht.rest(cx.now, false);
            seeker.dht.hint(cx.now, node());
            for (to, query) in sent(&mut seeker, cx) {
                let packet = reply(&query);
                assert!(seeker.datagram(cx, &mut discovery.candidates, to, &packet));
            }
            seeker.publish(cx, id, PORTS);
            let all = sent(&mut seeker, cx);
            let gets = |(_, query): &(SocketAddr, Vec<u8>)| {
                let query = Message::decode(query).unwrap();
                matches!(query.body, Body::Query(_, Query::GetPeers { .. }))
            };
            assert_eq!(all.iter().any(gets), asked, "{have:?}");
        }
    }

    #[test]
    fn only_peers_of_public_torrents_become_candidates() {
        // How peers may be found when the answer comes.
        for (publicity, taken) in [
            (PUBLIC, true),
            (Publicity::NONE, false),
            (Publicity::PRIVATE, false),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            let Parts { cx, discovery, .. } = &mut parts;
            cx.torrents.registry.set_publicity(id, PUBLIC);
            let mut seeker = seeker(cx.now, Mode::On);
            seeker.dht.rest(cx.now, false);
            seeker.dht.hint(cx.now, node());
            seeker.publish(cx, id, PORTS);
            cx.torrents.registry.set_publicity(id, publicity);
            for _ in 0..3 {
                for (to, query) in sent(&mut seeker, cx) {
                    let packet = reply(&query);
                    assert!(seeker.datagram(cx, &mut discovery.candidates, to, &packet));
                }
            }
            assert_eq!(discovery.candidates.any_of(id), taken, "{publicity:?}");
        }
    }

    #[test]
    fn peers_of_public_torrents_may_have_a_node() {
        for (publicity, asked) in [(PUBLIC, true), (Publicity::PRIVATE, false)] {
            let (mut parts, id) = parts(Have::All);
            let cx = &mut parts.cx;
            cx.torrents.registry.set_publicity(id, publicity);
            let mut seeker = seeker(cx.now, Mode::On);
            seeker.dht.rest(cx.now, false);
            let addr = ([30, 0, 0, 1], 5000).into();
            seeker.guess(cx.now, &cx.torrents, id, addr);
            cx.now = cx.now + Duration::from_secs(20);
            let all = sent(&mut seeker, cx);
            let is = all.iter().any(|&(to, _)| to == addr);
            assert_eq!(is, asked, "{publicity:?}");
        }
    }

    #[test]
    fn datagrams_of_trackers_are_left_to_others() {
        let (mut parts, _) = parts(Have::All);
        let Parts { cx, discovery, .. } = &mut parts;
        let mut seeker = seeker(cx.now, Mode::On);
        for (packet, taken) in [
            (&b"d1:x"[..], true),
            (b"\0\0\0\x01\0\0\0\0", false),
            (b"", false),
        ] {
            let is = seeker.datagram(cx, &mut discovery.candidates, node(), packet);
            assert_eq!(is, taken, "{packet:?}");
        }
    }
}
