//! Discovery finds peers: by trackers, the DHT, PEX and LSD; and keeps the candidates to call.

pub mod announcer;
pub mod candidates;
pub mod dht;
pub(crate) mod lsd;
pub(crate) mod pex;
pub mod port_mapper;
pub mod scope;
pub(crate) mod seeker;
pub mod udp_tracker;
pub mod udp_trackers;
pub(crate) mod utp;

use core::net::SocketAddr;

use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::tracker::Intervals;
use everseed_core::tracker::Report;

use crate::api::{Action, Identity};
use crate::context::Context;
use crate::discovery::announcer::{Announcer, Job};
use crate::discovery::candidates::{Candidates, Named, PeerSource};
use crate::discovery::lsd::Lsd;
use crate::discovery::seeker::Seeker;
use crate::discovery::udp_trackers::UdpTrackers;
use crate::discovery::utp::Utp;
use crate::peer::origin;
use crate::torrent::Torrents;

/// See the module.
#[derive(Debug)]
pub(crate) struct Discovery<'m> {
    pub(crate) candidates: Candidates<'m>,
    pub(crate) announcer: Announcer<'m>,
    pub(crate) udp: UdpTrackers<'m>,
    pub(crate) lsd: Lsd,
    pub(crate) seeker: Seeker<'m>,
    pub(crate) utp: Utp,
    /// By it, trackers know us again when our address has changed.
    pub(crate) key: u32,
}

impl Discovery<'_> {
    /// Takes an LSD packet of somebody in a network of ours (BEP 14).
    pub(crate) fn lsd_received(
        &mut self,
        now: Instant,
        torrents: &Torrents<'_>,
        from: SocketAddr,
        packet: &[u8],
    ) {
        // What is not awake finds him when it wakes up, as he calls us.
        let (candidates, seeker) = (&mut self.candidates, &mut self.seeker);
        self.lsd
            .received(now, &torrents.registry, from, packet, |torrent, addr| {
                let named = Named {
                    torrent,
                    addr,
                    source: PeerSource::Lsd,
                    by: Some(origin(from)),
                };
                seeker.guess(now, torrents, torrent, addr);
                if torrents.get(torrent).is_some() {
                    candidates.add(now, named);
                }
            });
    }

    /// Takes an address that somebody named, if its torrent is awake. A private torrent takes those alone that its
    /// trackers name (BEP 27).
    pub(crate) fn add_candidate(&mut self, now: Instant, torrents: &Torrents<'_>, named: Named) {
        let private = torrents.publicity(named.torrent).is_private();
        let welcome = !private || named.source == PeerSource::Tracker;
        if welcome && torrents.get(named.torrent).is_some() {
            self.seeker.guess(now, torrents, named.torrent, named.addr);
            self.candidates.add(now, named);
        }
    }

    /// Takes a datagram of whoever sent it.
    pub(crate) fn datagram(&mut self, cx: &Context<'_>, from: SocketAddr, packet: &[u8]) {
        let (candidates, seeker) = (&mut self.candidates, &mut self.seeker);
        let is_call = self.utp.datagram(from, packet);
        if is_call || seeker.datagram(cx, candidates, from, packet) {
            return;
        }
        let mut on_peer = |job: &Job, peer| {
            // What is asleep is woken for them.
            if cx.torrents.get(job.torrent).is_some() || cx.torrents.is_asleep(job.torrent) {
                let named = Named {
                    torrent: job.torrent,
                    addr: peer,
                    source: PeerSource::Tracker,
                    by: None,
                };
                seeker.guess(cx.now, &cx.torrents, job.torrent, peer);
                candidates.add(cx.now, named);
            }
        };
        self.udp.datagram(cx.now, from, packet, &mut on_peer);
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant) {
        let announcer = &self.announcer;
        self.udp.tick(now, |id| announcer.awaits(id));
    }

    /// When to [`tick`](Self::tick) or poll again, peers to call aside.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let trackers = [self.announcer.deadline(), self.udp.deadline()];
        let all = trackers.into_iter().chain([self.seeker.deadline()]);
        all.flatten().min()
    }

    /// A tracker has answered.
    pub(crate) fn announced(
        &mut self,
        cx: &mut Context<'_>,
        id: announcer::AnnounceId,
        told: Intervals,
    ) {
        let (now, torrents) = (cx.now, &cx.torrents);
        let downloads = |id| torrents.is_downloading(id);
        self.announcer
            .answered(now, id, told, downloads, &mut cx.rng);
    }

    /// Looks for downloads that have nobody: what is known of peers of theirs is tried sooner, and trackers are asked.
    pub(crate) fn find_for_the_lone(&mut self, cx: &Context<'_>) {
        for torrent in cx.torrents.all().filter(|t| cx.has_nobody(t.id())) {
            self.candidates.left_alone(cx.now, torrent.id());
            self.announcer.left_alone(cx.now, torrent.id());
        }
    }

    /// The next thing that the host is to do about trackers.
    pub(crate) fn action(&mut self, cx: &mut Context<'_>) -> Option<Action> {
        if let Some(torrent) = self.udp.poll_wake() {
            return Some(Action::Wake { torrent });
        }
        while let Some(torrent) = self.seeker.poll_ended() {
            if cx.torrents.is_asleep(torrent) && self.candidates.any_of(torrent) {
                return Some(Action::Wake { torrent });
            }
        }
        if self.seeker.dht.poll_names(cx.now) {
            return Some(Action::FindDhtNodes);
        }
        let Some(job) = self.udp.poll() else {
            let job = self.announcer.poll(cx.now, |id| cx.has_nobody(id));
            return job.map(Action::Announce);
        };
        let answer = self.udp.answer(job.id);
        match answer {
            Some(answer) => {
                let told = answer.intervals;
                self.announced(cx, job.id, told);
            }
            None => self.announcer.failed(cx.now, job.id, None, &mut cx.rng),
        }
        if cx.torrents.is_asleep(job.torrent) {
            // Perhaps they cannot call us.
            let wanted = answer.is_some_and(|answer| answer.leechers > 0);
            if !(wanted && self.udp.wake_for(job.id)) {
                self.candidates.forget(job.torrent);
            }
        }
        Some(Action::UdpAnnounced { id: job.id })
    }
}

/// The report to a tracker for a job.
pub(crate) fn report(
    torrents: &Torrents<'_>,
    identity: &Identity,
    ports: [u16; 2],
    key: u32,
    num_want: u16,
    job: &Job,
) -> Report {
    let torrent = torrents.get(job.torrent);
    // What sleeps is complete.
    let left = torrent.map_or(0, |torrent| torrents.left(torrent));
    let (sent, got) = torrents.registry.moved(job.torrent);
    let info_hash = torrents.registry.info_hash(job.torrent);
    Report {
        info_hash: info_hash.unwrap_or(InfoHash([0; 20])),
        peer_id: identity.peer_id,
        port: ports[0],
        port_v6: ports[1],
        uploaded: sent + torrent.map_or(0, |t| t.uploaded - t.uploaded_before),
        downloaded: got + torrent.map_or(0, |t| t.downloaded),
        left,
        key,
        num_want,
        event: job.event,
    }
}

/// Peers that a tracker is asked for: as many as could be called until the next announce.
pub(crate) const NUM_WANT: u16 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Have;
    use crate::parts::small::parts;
    use crate::torrent::publicity::Publicity;

    #[test]
    fn whose_word_counts_for_which_torrent() {
        // A private one has those alone that its trackers name (BEP 27), and one that sleeps needs none.
        for (publicity, awake, source, taken) in [
            (Publicity::NONE, true, PeerSource::Tracker, true),
            (Publicity::NONE, true, PeerSource::Pex, true),
            (Publicity::NONE, false, PeerSource::Tracker, false),
            (Publicity::PRIVATE, true, PeerSource::Tracker, true),
            (Publicity::PRIVATE, true, PeerSource::User, false),
            (Publicity::PRIVATE, true, PeerSource::Caller, false),
            (Publicity::PRIVATE, true, PeerSource::Dht, false),
            (Publicity::PRIVATE, true, PeerSource::Lsd, false),
            (Publicity::PRIVATE, true, PeerSource::Pex, false),
            (Publicity::PRIVATE, true, PeerSource::Magnet, false),
        ] {
            let (mut parts, torrent) = parts(Have::All);
            let (discovery, torrents) = (&mut parts.discovery, &mut parts.cx.torrents);
            torrents.registry.set_publicity(torrent, publicity);
            if !awake {
                torrents.sleep(torrent);
            }
            let named = Named {
                torrent,
                addr: ([192, 0, 2, 1], 6881).into(),
                source,
                by: None,
            };
            discovery.add_candidate(parts.cx.now, torrents, named);
            let is = discovery.candidates.any_of(torrent);
            assert_eq!(is, taken, "{publicity:?} {awake} {source:?}");
        }
    }
}
