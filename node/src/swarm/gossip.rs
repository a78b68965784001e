//! PEX (BEP 11): peers are told the addresses of others, and tell us of theirs.
//!
//! If the torrent's publicity allows it, every peer is told where the others can be called, once a minute at most. A
//! message names at most 50, in the order in which they came. It is told only addresses that mean the same to it as
//! to us, see [`Scope`]: strangers outside learn nothing of the house. The same rule decides which addresses a peer
//! may name.

use core::net::SocketAddr;

use everseed_core::geometry::TorrentId;
use everseed_core::pex::{self, Flags, MAX_PEERS, Peer};

use crate::broken::broken;
use crate::discovery::candidates::{Named, PeerSource};
use crate::discovery::pex::{First, HEAR_EVERY, TELL_EVERY};
use crate::discovery::scope::Scope;
use crate::parts::Parts;
use crate::peer::{Conn, Reason, origin};
use crate::swarm::Swarm;
use crate::torrent::Torrent;
use crate::torrent::gossip::Gossip;
use crate::wake::Wake;

impl Swarm<'_> {
    /// A peer joins those that others are told of, once it is known where it can be called.
    pub(crate) fn add_to_pex(&mut self, on: &mut Parts<'_>, slot: usize) {
        let conn = &mut on.cx.peers[slot];
        let Some(addr) = conn.callable().filter(|_| conn.is_open()) else {
            return;
        };
        let torrent = conn.link.torrent.and_then(|id| on.cx.torrents.get_mut(id));
        if let Some(torrent) = torrent
            && conn.extensions.pex.arrival == 0
        {
            conn.extensions.pex.arrival = torrent.gossip.came(addr);
            on.cx.wakes.add(Wake::TellPeers);
        }
    }

    /// An open connection ends: its peer leaves those that others are told of.
    pub(crate) fn drop_from_pex(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        torrent: TorrentId,
        reason: Reason,
    ) {
        let freed = self.pex.done(on.cx.peers.id(slot));
        on.cx.wakes.add_if(Wake::TellPeers, freed);
        let Some(peer) = told_of(on, slot, torrent) else {
            return;
        };
        let arrival = on.cx.peers[slot].extensions.pex.arrival;
        // A seed that did nothing wrong is as good as before for those who have not all.
        let well = matches!(
            reason,
            Reason::BothSeeds | Reason::Gone | Reason::Crowded | Reason::Idle
        );
        let flags = match well {
            true => peer.flags,
            false => Flags::NONE,
        };
        if let Some(torrent) = on.cx.torrents.get_mut(torrent) {
            torrent
                .gossip
                .left(on.cx.now, arrival, Peer { flags, ..peer });
        }
    }

    /// Writes the PEX messages that are due, as many as there is room for.
    pub(crate) fn send_pex(&mut self, on: &mut Parts<'_>) {
        while on.cx.wakes.has(Wake::TellPeers) && self.pex.has_room() {
            let len = on.cx.peers.len();
            let (first, rest) = (self.pex.turn.min(len)..len, 0..self.pex.turn.min(len));
            let next = first.chain(rest).find(|&slot| is_due(on, slot));
            let Some(slot) = next else {
                on.cx.wakes.take(Wake::TellPeers);
                return;
            };
            self.pex.turn = slot + 1;
            self.send_pex_to(on, slot);
        }
    }

    /// Writes the PEX message of one peer, if there is something to tell it.
    fn send_pex_to(&mut self, on: &mut Parts<'_>, slot: usize) {
        let conn = &on.cx.peers[slot];
        let Some((id, torrent)) = conn
            .link
            .torrent
            .and_then(|id| Some((id, on.cx.torrents.get(id)?)))
        else {
            return broken("a torrent of whose peers to tell");
        };
        let (told, told_left) = (conn.extensions.pex.told, conn.extensions.pex.told_left);
        let (scope, own) = (Scope::of(conn.link.addr.ip()), conn.callable());
        let concerns = |addr: SocketAddr| scope.may_name(addr.ip()) && Some(addr) != own;
        let mut first = First::default();
        for other in 0..on.cx.peers.len() {
            let arrival = on.cx.peers[other].extensions.pex.arrival;
            if arrival > told
                && let Some(peer) = told_of(on, other, id).filter(|peer| concerns(peer.addr))
            {
                first.take(arrival, peer);
            }
        }
        for (arrival, peer) in torrent.gossip.seeds_lately(on.cx.now) {
            if arrival > told && concerns(peer.addr) {
                first.take(arrival, peer);
            }
        }
        let gone = torrent
            .gossip
            .gone(told_left, told)
            .filter(|&addr| concerns(addr));
        let gone: heapless::Vec<SocketAddr, MAX_PEERS> = gone.take(MAX_PEERS).collect();
        let (arrivals, departures) = (torrent.gossip.arrivals, torrent.gossip.departures);
        let (added, now) = (first.peers(), on.cx.now);
        let to = on.cx.peers.id(slot);
        let extensions = &mut on.cx.peers[slot].extensions;
        extensions.pex.told = first.last().unwrap_or(arrivals);
        extensions.pex.told_left = departures;
        if !added.is_empty() || !gone.is_empty() {
            extensions.pex.tell_at = now + TELL_EVERY;
            self.pex.put(to, extensions.ut_pex, &added, &gone);
            // Who does not read it holds up others.
            on.cx.peers[slot].link.last_sent_at = now;
            on.cx.peers.make_ready(slot);
        }
    }

    /// Takes the PEX message of a peer.
    pub(crate) fn pex_received(&mut self, on: &mut Parts<'_>, slot: usize, message: &[u8]) {
        let now = on.cx.now;
        let conn = &mut on.cx.peers[slot];
        let Some(torrent) = conn.link.torrent else {
            return;
        };
        if !on.cx.torrents.publicity(torrent).pex() || now < conn.extensions.pex.hear_at {
            return;
        }
        conn.extensions.pex.hear_at = now + HEAR_EVERY;
        let (from, scope) = (conn.link.addr, Scope::of(conn.link.addr.ip()));
        let whole = |t: &Torrent| !t.lacks_metadata() && !t.is_active_download();
        let seeds = on.cx.torrents.get(torrent).is_some_and(whole);
        let (discovery, torrents) = (&mut on.discovery, &on.cx.torrents);
        pex::read(message, |peer: Peer| {
            let useful = !seeds || !peer.flags.has(Flags::SEED);
            if useful && scope.may_name(peer.addr.ip()) {
                let named = Named {
                    torrent,
                    addr: peer.addr,
                    source: PeerSource::Pex,
                    by: Some(origin(from)),
                };
                discovery.add_candidate(now, torrents, named);
            }
        });
    }
}

/// Whether there may be something to tell a peer of, and it may be told.
fn is_due(on: &Parts<'_>, slot: usize) -> bool {
    let conn = &on.cx.peers[slot];
    let (pex, torrent) = (&conn.extensions.pex, conn.link.torrent);
    if !conn.is_open() || conn.extensions.ut_pex == 0 || on.cx.now < pex.tell_at {
        return false;
    }
    torrent.is_some_and(|id| {
        let news =
            |gossip: &Gossip| gossip.arrivals != pex.told || gossip.departures != pex.told_left;
        on.cx.torrents.publicity(id).pex()
            && on.cx.torrents.get(id).is_some_and(|t| news(&t.gossip))
    })
}

/// What others are told of a connection.
fn told_of(on: &Parts<'_>, slot: usize, torrent: TorrentId) -> Option<Peer> {
    let conn: &Conn = &on.cx.peers[slot];
    let its = conn.is_open() && conn.link.torrent == Some(torrent);
    let addr = conn
        .callable()
        .filter(|_| its && conn.extensions.pex.arrival > 0)?;
    let pieces = on.cx.pieces_of(slot);
    let seed = conn.extensions.upload_only || pieces > 0 && conn.download.have_count >= pieces;
    let flags = Flags::NONE
        .with(Flags::SEED, seed)
        .with(Flags::REACHABLE, !conn.link.incoming)
        .with(Flags::ENCRYPTION, conn.extensions.encryption);
    Some(Peer { addr, flags })
}
