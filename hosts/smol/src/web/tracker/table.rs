//! The built-in tracker's table of torrents and peers, and the choice of peers for an answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use everseed_core::hash::InfoHash;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::{AnnounceEvent, Family, Scrape, write_compact};

use super::callers::{AnnounceRates, origin};
use crate::net::scope::Scope;
use crate::url::{Scheme, Url};

/// The tracker's torrents and peers.
#[derive(Debug)]
pub struct PeerTable {
    torrents: Vec<Torrent>,
    pub(super) peers: Vec<Peer>,
    max_torrents: usize,
    max_peers: usize,
    /// The TCP port on which the seeder itself accepts peers.
    port: u16,
    /// Whether a peer may not have been given to [`PeerTable::call`] yet.
    uncalled: bool,
    /// The seeder's addresses from outside its network.
    public: Vec<SocketAddr>,
    /// Host names by which requests may call us.
    pub(super) names: Vec<String>,
    /// Host names that torrents use for us.
    pub(super) learned: Vec<String>,
    pub(super) rates: AnnounceRates,
    rng: Rng,
}

/// The tracker has no room for another torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

#[derive(Clone, Copy, Debug)]
struct Torrent {
    info_hash: InfoHash,
    /// The number of peers that became complete.
    downloaded: u32,
    /// Whether we have all of it ourselves.
    complete: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    info_hash: InfoHash,
    pub(super) addr: SocketAddr,
    complete: bool,
    seen: Instant,
    /// Whether it was given to [`PeerTable::call`] since its announce.
    called: bool,
}

/// A peer's announce, its address included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Announce {
    pub(super) info_hash: InfoHash,
    pub(super) addr: SocketAddr,
    pub(super) complete: bool,
    pub(super) num_want: usize,
    pub(super) event: AnnounceEvent,
}

/// The compact peers of an answer, by family.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Chosen {
    pub(super) v4: Vec<u8>,
    pub(super) v6: Vec<u8>,
}

impl PeerTable {
    /// A tracker for this many torrents and peers, for a seeder that accepts peers on `port`. `seed` decides which
    /// peers are named to whom.
    pub fn new(max_torrents: usize, max_peers: usize, port: u16, seed: u64) -> PeerTable {
        PeerTable {
            torrents: Vec::with_capacity(max_torrents),
            peers: Vec::with_capacity(max_peers),
            max_torrents,
            max_peers,
            port,
            uncalled: false,
            public: Vec::new(),
            names: Vec::new(),
            learned: Vec::new(),
            rates: AnnounceRates::new(),
            rng: Rng::new(seed),
        }
    }

    /// Sets the seeder's addresses from outside: the first of each family counts.
    pub(crate) fn set_public(&mut self, addrs: &[SocketAddr]) {
        let first = |v4| addrs.iter().find(|addr| addr.is_ipv4() == v4).copied();
        self.public = first(true).into_iter().chain(first(false)).collect();
    }

    /// Accepts the host name in a torrent's tracker URL as ours, if port and path could be this tracker's. If there
    /// are too many names, the earliest is forgotten.
    pub(crate) fn learn(&mut self, tracker: &str) {
        let Ok(url) = Url::parse(tracker) else {
            return;
        };
        let name = url.host;
        let may_be =
            url.scheme == Scheme::Http && url.port == self.port && url.target == "/announce";
        if !may_be || name.parse::<IpAddr>().is_ok() || self.learned.iter().any(|n| n == name) {
            return;
        }
        if self.learned.len() == LEARNED {
            self.learned.remove(0);
        }
        self.learned.push(name.to_owned());
    }

    /// Accepts these host names as ours. Addresses and local names are always accepted.
    pub(crate) fn set_names(&mut self, names: Vec<String>) {
        self.names = names;
    }

    /// Serves a torrent from now on.
    pub fn add(&mut self, info_hash: InfoHash) -> Result<(), Full> {
        if self.find(info_hash).is_some() {
            return Ok(());
        }
        if self.torrents.len() >= self.max_torrents {
            let idle = |t: &Torrent| self.of(t.info_hash).next().is_none();
            let idle = self.torrents.iter().position(idle).ok_or(Full)?;
            self.torrents.remove(idle);
        }
        self.torrents.push(Torrent {
            info_hash,
            downloaded: 0,
            complete: true,
        });
        Ok(())
    }

    /// Sets whether we have all of a torrent ourselves. A torrent counts as complete until this is called.
    pub fn set_complete(&mut self, info_hash: InfoHash, complete: bool) {
        if let Some(torrent) = self.find(info_hash) {
            self.torrents[torrent].complete = complete;
        }
    }

    /// Whether a peer waits to be given to [`call`](Self::call).
    pub(crate) fn has_uncalled(&self) -> bool {
        self.uncalled
    }

    /// Gives out peers for us to call, once for each of their announces, after they had [`GRACE`] to call us. `call`
    /// gets the torrent, the address and whether the peer is complete. If it returns false, it is asked again later.
    pub(crate) fn call(
        &mut self,
        now: Instant,
        mut call: impl FnMut(InfoHash, SocketAddr, bool) -> bool,
    ) {
        if !self.uncalled {
            return;
        }
        self.uncalled = false;
        for peer in self.peers.iter_mut().filter(|peer| !peer.called) {
            peer.called =
                now.since(peer.seen) >= GRACE && call(peer.info_hash, peer.addr, peer.complete);
            self.uncalled |= !peer.called;
        }
    }

    /// Stops serving a torrent.
    pub fn remove(&mut self, info_hash: InfoHash) {
        self.torrents.retain(|t| t.info_hash != info_hash);
        self.peers.retain(|p| p.info_hash != info_hash);
    }

    /// The number of known peers, without the seeder itself.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Takes an announce and chooses peers for the answer. `local` is the address that the request reached. `None` if
    /// the torrent is not ours.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        announce: &Announce,
        local: SocketAddr,
    ) -> Option<(Scrape, Chosen)> {
        let torrent = self.find(announce.info_hash)?;
        self.expire(now);
        let before = self.forget(announce);
        if announce.event == AnnounceEvent::Completed && before != Some(true) {
            let downloaded = &mut self.torrents[torrent].downloaded;
            *downloaded = downloaded.saturating_add(1);
        }
        let chosen = match announce.event {
            AnnounceEvent::Stopped => Chosen::default(),
            _ => {
                let chosen = self.choose(announce, local);
                self.keep(now, announce);
                chosen
            }
        };
        Some((self.numbers(self.torrents[torrent]), chosen))
    }

    /// The numbers of a torrent, the seeder itself included; `None` if it is not ours.
    pub(super) fn scrape(&self, info_hash: InfoHash) -> Option<Scrape> {
        self.find(info_hash)
            .map(|torrent| self.numbers(self.torrents[torrent]))
    }

    pub(super) fn find(&self, info_hash: InfoHash) -> Option<usize> {
        self.torrents.iter().position(|t| t.info_hash == info_hash)
    }

    fn numbers(&self, torrent: Torrent) -> Scrape {
        let mut numbers = Scrape {
            complete: u32::from(torrent.complete),
            downloaded: torrent.downloaded,
            incomplete: u32::from(!torrent.complete),
        };
        for peer in self.of(torrent.info_hash) {
            match peer.complete {
                true => numbers.complete += 1,
                false => numbers.incomplete += 1,
            }
        }
        numbers
    }

    fn of(&self, info_hash: InfoHash) -> impl Iterator<Item = &Peer> {
        let mine = move |peer: &&Peer| peer.info_hash == info_hash;
        self.peers.iter().filter(mine)
    }

    fn expire(&mut self, now: Instant) {
        self.peers
            .retain(|p| now.since(p.seen).as_secs() <= 2 * u64::from(INTERVAL_S));
    }

    /// Removes the announcing peer from the table. Returns whether it was complete, if it was there.
    fn forget(&mut self, announce: &Announce) -> Option<bool> {
        let same = |p: &Peer| p.info_hash == announce.info_hash && p.addr == announce.addr;
        let at = self.peers.iter().position(same)?;
        Some(self.peers.remove(at).complete)
    }

    /// Puts the announcing peer at the end of the table, in place of another if need be. So the first one has been
    /// silent longest.
    fn keep(&mut self, now: Instant, announce: &Announce) {
        let its = origin(announce.addr.ip());
        let neighbour = |p: &Peer| origin(p.addr.ip()) == its;
        let neighbours = self.peers.iter().filter(|p| neighbour(p)).count();
        if neighbours >= MAX_PER_ORIGIN
            && let Some(at) = self.peers.iter().position(neighbour)
        {
            self.peers.remove(at);
        }
        if self.max_peers == 0 {
            return;
        }
        if self.peers.len() >= self.max_peers {
            self.peers.remove(0);
        }
        self.peers.push(Peer {
            info_hash: announce.info_hash,
            addr: announce.addr,
            complete: announce.complete,
            seen: now,
            called: false,
        });
        self.uncalled = true;
    }

    /// Peers for the announcing one. First ourselves: at the address that it called, if that means the same to it,
    /// and at the public one. Then others of its own address family from a random position on, then those of the
    /// other family. Seeds get no seeds; but a client that has just started with a magnet link may say that nothing
    /// is left, as aria2 does.
    fn choose(&mut self, announce: &Announce, local: SocketAddr) -> Chosen {
        let own = Family::of(announce.addr.ip());
        let complete = announce.complete && announce.event != AnnounceEvent::Started;
        let len = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let (front, back) = self.peers.split_at(self.rng.below(len) as usize);
        let asker = Scope::of(announce.addr.ip());
        let useful = |peer: &&Peer| {
            let reachable = asker.may_name(peer.addr.ip());
            peer.info_hash == announce.info_hash && reachable && !(peer.complete && complete)
        };
        let turned = || back.iter().chain(front).filter(useful).map(|p| p.addr);
        let of_own = |addr: &SocketAddr| Family::of(addr.ip()) == own;
        let seeding = self
            .find(announce.info_hash)
            .is_none_or(|t| self.torrents[t].complete);
        // A router that forwards callers to us may have changed the destination address.
        let local = SocketAddr::new(local.ip().to_canonical(), self.port);
        let near =
            Some(local).filter(|addr| asker.may_name(addr.ip()) && !self.public.contains(addr));
        let ours = near.iter().chain(&self.public).copied();
        let ours = ours.filter(|_| !(complete && seeding));
        let all = ours
            .chain(turned().filter(of_own))
            .chain(turned().filter(|addr| !of_own(addr)));
        let mut chosen = Chosen::default();
        for addr in all.take(announce.num_want.min(MAX_PEERS_TOLD)) {
            let list = match Family::of(addr.ip()) {
                Family::V4 => &mut chosen.v4,
                Family::V6 => &mut chosen.v6,
            };
            list.extend_from_slice(write_compact(addr, &mut [0; 18]));
        }
        chosen
    }
}

/// A peer that announces is told of us and usually calls us. It is called only if it has not done so within this
/// time.
const GRACE: Duration = Duration::from_secs(2);

/// Seconds between announces that clients are asked for. Short, because a small swarm wants to know newcomers soon.
pub(super) const INTERVAL_S: u32 = 120;

/// The shortest interval in seconds that clients are asked to keep.
pub(super) const MIN_INTERVAL_S: u32 = 30;

/// The most host names that are learned from torrents.
pub(super) const LEARNED: usize = 64;

/// The most peers of one origin.
pub(super) const MAX_PER_ORIGIN: usize = 64;

/// The most peers in one answer, and the number if the client names none.
pub(super) const MAX_PEERS_TOLD: usize = 200;
pub(super) const DEFAULT_PEERS_TOLD: usize = 50;

#[cfg(test)]
mod tests;
