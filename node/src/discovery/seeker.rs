//! The seeker: it has the DHT search for the peers of each public torrent in turn, and adds them to the candidates.
//!
//! A download without a known peer does not wait for its turn: its search begins as soon as it is published, with the
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
    /// One for each place of the registry, if there are any.
    turns: &'m mut [Turn],
    /// Torrents that have their turns. Without any the DHT is at rest.
    published: u16,
    /// When it is looked whose turn it is next.
    look_at: Instant,
    /// Torrents that sleep and were looked for.
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

    /// A torrent may be known to the DHT from now on, or may not any more. Peers are told to call `ports`, by IPv4 first,
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

    /// A torrent is gone, or is not for the DHT any more.
    pub(crate) fn forget(&mut self, cx: &Context<'_>, id: TorrentId) {
        self.end(cx.now, usize::from(id.slot));
        if let Some(info_hash) = cx.torrents.registry.info_hash(id) {
            self.dht.forget(info_hash);
        }
    }

    /// A place has no turn any more.
    fn end(&mut self, now: Instant, slot: usize) {
        let turn = self.turns.get_mut(slot).filter(|turn| **turn != Turn::OFF);
        let Some(turn) = turn else { return };
        *turn = Turn::OFF;
        self.published -= 1;
        if self.published == 0 {
            self.dht.rest(now, true);
        }
    }

    /// Whether peers of a torrent are told that we know of the DHT, so that they say where their node is (BEP 5, `port`).
    pub(crate) fn is_told(&self, cx: &Context<'_>, id: TorrentId) -> bool {
        self.dht.mode() != Mode::Off && cx.torrents.publicity(id).dht()
    }

    /// Whether they are told where ours is: one that answers nothing is nowhere.
    pub(crate) fn tells_port(&self) -> bool {
        self.dht.mode() == Mode::On
    }

    /// There is a peer of a torrent at this address, which may have its node of the DHT on the same port.
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

    /// Takes a datagram of whoever sent it; answers whether it was for the DHT.
    pub(crate) fn datagram(
        &mut self,
        cx: &Context<'_>,
        candidates: &mut Candidates<'_>,
        from: SocketAddr,
        packet: &[u8],
    ) -> bool {
        // A tracker's answer begins with a number that is small (BEP 15), a node's with a dictionary.
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
                // We are among those that are told of.
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
                // Whoever has no port has nothing to announce.
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
                // As many as can end at once have a place.
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

    /// A torrent that sleeps and was looked for, to be woken if there are peers of it to call.
    pub(crate) fn poll_ended(&mut self) -> Option<TorrentId> {
        self.ended.pop_front()
    }

    /// When to poll again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.dht.deadline()
    }

    /// Has the torrent of a place looked for; `false` if there is no place for another search.
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
        // What sleeps is complete.
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

/// Searches that may end at once: there are no more lookups.
const ENDED: usize = 4;

/// Of many torrents it is not looked whose turn it is more often than this, unless a search has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
