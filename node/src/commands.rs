//! The host's commands about torrents, limits and discovery, and its queries.

use core::net::SocketAddr;

use everseed_core::geometry::{Geometry, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::tracker::{Family, Report};

use crate::api::{
    AddError, Have, Limits, MetadataStats, Order, Stats, Stuck, TorrentStats, Wanted,
};
use crate::audit::audit;
use crate::discovery::announcer::{self, AnnounceId, Job};
use crate::discovery::dht::{Mode as DhtMode, Stats as DhtStats};
use crate::discovery::udp_trackers::UdpOutcome;
use crate::discovery::{self, Discovery};
use crate::input::{Input, Output};
use crate::node::Node;
use crate::peer::{ConnId, Reason};
use crate::torrent;
use crate::torrent::publicity::Publicity;
use crate::wake::Wake;

impl<'m> Node<'m> {
    /// Takes any [`Input`] that moves no bytes. Traces are recorded and replayed by this one function; each input is
    /// also a method of its own.
    ///
    /// # Panics
    /// If it has bytes to be moved.
    pub fn input(&mut self, now: Instant, input: Input<'_>) -> Output {
        match input {
            Input::Add {
                info_hash,
                geometry,
                have,
                uploaded,
            } => return Output::Torrent(self.add(info_hash, geometry, have, uploaded)),
            Input::Know(info_hash) => return Output::Torrent(self.know(info_hash)),
            Input::AddSecondHash(id, hash) => return Output::Room(self.add_second_hash(id, hash)),
            Input::AddUnknown(hash) => return Output::Torrent(self.add_unknown(now, hash)),
            Input::Wake {
                id,
                geometry,
                have,
                uploaded,
            } => return Output::Room(self.wake(now, id, geometry, have, uploaded)),
            Input::WakeUnknown(id) => return Output::Room(self.wake_unknown(now, id)),
            Input::BeginContent {
                id,
                geometry,
                have,
                uploaded,
            } => return Output::Room(self.begin_content(now, id, geometry, have, uploaded)),
            Input::Download(id, wanted, order) => {
                return Output::Room(self.download(now, id, wanted, order));
            }
            Input::Announce(id, tier, trackers) => {
                return Output::Accepted(self.announce(now, id, tier, trackers).is_ok());
            }
            Input::AnnounceByUdp {
                job,
                addrs,
                url_data,
                seed,
            } => return Output::Accepted(self.announce_by_udp(now, job, addrs, url_data, seed)),
            Input::Accept(from) => return Output::Conn(self.accept(now, from)),
            Input::Poll => return Output::Action(self.poll(now)),
            Input::Sleep(id) => self.sleep(id),
            Input::AnnounceAnew => self.announce_anew(now),
            Input::SetLimits(limits) => self.set_limits(now, limits),
            Input::OfferMetadata(id, len) => self.offer_metadata(id, len),
            Input::Remove(id) => self.remove(now, id),
            Input::ForgetTrackers(id) => self.forget_trackers(now, id),
            Input::Publish(id, publicity) => self.publish(now, id, publicity),
            Input::ReachedAt(addr) => self.reached_at(now, addr),
            Input::LsdReceived(from, packet) => self.lsd_received(now, from, packet),
            Input::RenewLsd => self.renew_lsd(now),
            Input::JoinDht(mode, families, kept) => self.join_dht(now, mode, families, kept),
            Input::DhtNode(addr) => self.dht_node(now, addr),
            Input::DhtReachable => self.dht_reachable(),
            Input::Stop => self.stop(now),
            Input::Event(event) => self.event(now, event),
            Input::Transmitted(id, len) => self.transmitted(now, id, len as usize),
            Input::Tick => self.tick(now),
            Input::Datagram(from, packet) => self.datagram(now, from, packet),
            Input::RecvSpace(_) | Input::Received(..) | Input::Transmit(..) => panic!("{BYTES}"),
            Input::TakeBlock(_) | Input::Written(..) | Input::PollDatagram(_) => panic!("{BYTES}"),
        }
        Output::Done
    }

    /// Checks that every slot has its owner and every count is right. Simulators and tests call it as often as they can
    /// afford; a host has no need to.
    ///
    /// # Panics
    /// If not: that is a mistake in this crate, whatever peers and the host did.
    pub fn audit(&self) {
        audit(&self.parts);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.swarm.limits
    }

    /// Changes the limits. Peers whose upload slot is gone are choked; no connection is closed.
    pub fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.parts.cx.now = now;
        let slots_before = self.parts.upload.suitable_slots(&self.swarm.limits);
        self.swarm.limits = limits;
        self.parts.upload.rate.set_rate(now, limits.upload_bps);
        self.parts.download.rate.set_rate(now, limits.download_bps);
        self.wake_senders();
        (self.parts.cx.wakes).turn(Wake::RequestAtRate, Wake::Request);
        if self.parts.upload.suitable_slots(&limits) != slots_before {
            self.parts
                .upload
                .choking_round(&mut self.parts.cx, &limits, false);
        }
    }

    /// Serves a torrent from now on. `uploaded` is what was sent of it before, in bytes. One whose metadata was fetched
    /// goes on with its content.
    pub fn add(
        &mut self,
        info_hash: InfoHash,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<TorrentId, AddError> {
        if let Some(id) = self
            .find(info_hash)
            .filter(|&id| self.metadata(id).is_some())
        {
            let now = self.parts.cx.now;
            return self
                .begin_content(now, id, geometry, have, uploaded)
                .map(|()| id);
        }
        let id = self.parts.cx.torrents.add(info_hash, geometry, have)?;
        if let Some(torrent) = self.parts.cx.torrents.get_mut(id) {
            (torrent.uploaded, torrent.uploaded_before) = (uploaded, uploaded);
        }
        Ok(id)
    }

    /// Adds a torrent that is asleep; see [`Node`].
    pub fn know(&mut self, info_hash: InfoHash) -> Result<TorrentId, AddError> {
        self.parts.cx.torrents.registry.add(info_hash)
    }

    /// Adds a second info-hash to a torrent, awake or asleep: that of a hybrid torrent in the swarm of version 2, cut to
    /// 20 bytes (BEP 52). Peers that call may name either; trackers, and peers that we call, are told the first. It takes
    /// an entry of the registry.
    ///
    /// # Errors
    /// [`AddError::Duplicate`] if another torrent has it or this one is not known, [`AddError::Registry`] if there is
    /// no place.
    pub fn add_second_hash(&mut self, id: TorrentId, info_hash: InfoHash) -> Result<(), AddError> {
        self.parts.cx.torrents.add_second_hash(id, info_hash)
    }

    /// Adds an awake torrent of which only the info-hash is known, and fetches its metadata; see [`Node`].
    pub fn add_unknown(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
    ) -> Result<TorrentId, AddError> {
        self.parts.cx.now = now;
        if self.parts.download.blocks.is_empty() {
            return Err(AddError::Blocks);
        }
        self.parts.cx.torrents.add_unknown(now, info_hash)
    }

    /// Wakes a torrent whose metadata is not known, and goes on with the peers that wait for it.
    pub fn wake_unknown(&mut self, now: Instant, id: TorrentId) -> Result<(), AddError> {
        self.parts.cx.now = now;
        self.parts.cx.torrents.wake_unknown(now, id)?;
        self.swarm.open_waiting(&mut self.parts, id);
        Ok(())
    }

    /// Goes on with the content of a torrent whose metadata was fetched. If there is no memory for it, it stays as
    /// it was.
    pub fn begin_content(
        &mut self,
        now: Instant,
        id: TorrentId,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<(), AddError> {
        self.parts.cx.now = now;
        let unknown = |t: &torrent::Torrent| t.lacks_metadata();
        if !self.parts.cx.torrents.get(id).is_some_and(unknown) {
            return Ok(());
        }
        self.parts.download.forget_partials(&mut self.parts.cx, id);
        self.parts.cx.torrents.begin_content(id, geometry, have)?;
        if let Some(torrent) = self.parts.cx.torrents.get_mut(id) {
            (torrent.uploaded, torrent.uploaded_before) = (uploaded, uploaded);
        }
        if have != Have::All {
            // If there is no room, `download` says so.
            let cx = &mut self.parts.cx;
            self.parts.download.availability.reserve_counts(cx, id);
        }
        self.swarm.settle_early(&mut self.parts, id);
        self.parts.discovery.candidates.recall(now, id);
        Ok(())
    }

    /// How far the metadata of a torrent is; `None` if it is known, or the torrent is asleep or was removed.
    pub fn metadata(&self, id: TorrentId) -> Option<MetadataStats> {
        let torrent = self.parts.cx.torrents.get(id)?;
        torrent.lacks_metadata().then(|| {
            let download = &self.parts.download;
            download.metadata_stats(&self.parts.cx, torrent)
        })
    }

    /// Wakes a torrent that is asleep: serves it as [`add`](Self::add) does, and goes on with the peers that wait for it.
    pub fn wake(
        &mut self,
        now: Instant,
        id: TorrentId,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<(), AddError> {
        self.parts.cx.now = now;
        self.parts.cx.torrents.wake(id, geometry, have)?;
        if let Some(torrent) = self.parts.cx.torrents.get_mut(id) {
            (torrent.uploaded, torrent.uploaded_before) = (uploaded, uploaded);
        }
        // A tracker may have named peers while it slept.
        self.parts.discovery.candidates.recall(now, id);
        self.swarm.open_waiting(&mut self.parts, id);
        Ok(())
    }

    /// Puts a torrent to sleep: its peers are disconnected, and only its info-hash and its announces remain. Peers that
    /// wait for one that is asleep already are disconnected, too.
    pub fn sleep(&mut self, id: TorrentId) {
        self.swarm.close_all(&mut self.parts, id, Reason::Asleep);
        self.parts.download.forget_partials(&mut self.parts.cx, id);
        self.parts.discovery.candidates.forget(id);
        self.parts.cx.torrents.sleep(id);
    }

    /// Says by which means peers of a torrent may be found, awake or asleep. Before this, only the host names peers. The
    /// peers of a torrent that turns out to be private are disconnected, and may come again by its tracker.
    pub fn publish(&mut self, now: Instant, id: TorrentId, publicity: Publicity) {
        self.parts.cx.now = now;
        let before = self.parts.cx.torrents.publicity(id);
        self.parts.cx.torrents.registry.set_publicity(id, publicity);
        match publicity.lsd() {
            true if !before.lsd() => self.parts.discovery.lsd.add(now, id),
            true => {}
            false => self.parts.discovery.lsd.remove(id),
        }
        if publicity.is_private() && !before.is_private() {
            self.part_with_all(id);
        }
        if publicity.dht() != before.dht() {
            if !publicity.dht() && self.is_asleep(id) {
                self.parts.discovery.candidates.forget(id);
            }
            let ports = self.swarm.ports;
            self.parts
                .discovery
                .seeker
                .publish(&self.parts.cx, id, ports);
        }
    }

    /// Joins the DHT in this mode, by the `families` that datagrams can be sent to, IPv4 first. It needs memory
    /// (`Sizes::dht`). `kept` is what [`keep_dht`](Self::keep_dht) wrote in the last run, or empty.
    pub fn join_dht(&mut self, now: Instant, mode: DhtMode, families: [bool; 2], kept: &[u8]) {
        self.parts.cx.now = now;
        let dht = &mut self.parts.discovery.seeker.dht;
        dht.configure(now, mode, families);
        if !kept.is_empty() {
            dht.restore(now, kept);
        }
    }

    /// Adds the address of a possible DHT node: from the owner, from a name that
    /// [`Action::FindDhtNodes`](crate::Action::FindDhtNodes) had resolved, from a torrent or a magnet link.
    pub fn dht_node(&mut self, now: Instant, addr: SocketAddr) {
        self.parts.cx.now = now;
        self.parts.discovery.seeker.dht.hint(now, addr);
    }

    /// Notes that we can be reached from outside: a stranger has called, or a router forwards our port.
    pub fn dht_reachable(&mut self) {
        self.parts.discovery.seeker.dht.reachable();
    }

    /// Writes the DHT's ids and good nodes for the next run, at most [`KEPT_MAX`](crate::discovery::dht::KEPT_MAX)
    /// bytes. Worth calling at a stop, else hourly at most.
    pub fn keep_dht(&self, out: &mut [u8]) -> Option<usize> {
        self.parts.discovery.seeker.dht.keep(out)
    }

    /// Numbers about the DHT.
    pub fn dht_stats(&self) -> DhtStats {
        self.parts.discovery.seeker.dht.stats()
    }

    /// Begins a new round of LSD packets about all torrents, as this machine joined another network.
    pub fn renew_lsd(&mut self, now: Instant) {
        self.parts.cx.now = now;
        self.parts.discovery.lsd.renew(now);
    }

    /// Takes a packet that came to an LSD group (BEP 14). The host checks that its sender is in a network of ours.
    pub fn lsd_received(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.parts.cx.now = now;
        if !self.swarm.stopping {
            let torrents = &self.parts.cx.torrents;
            (self.parts.discovery).lsd_received(now, torrents, from, packet);
        }
    }

    /// Writes the packet that [`Action::SendLsd`](crate::Action::SendLsd) asks for, for the group of a family, in which
    /// peers reach us on `port`. Answers with its length, at most [`PACKET_MAX`](everseed_core::lsd::PACKET_MAX) bytes.
    pub fn lsd_packet(&self, family: Family, port: u16, out: &mut [u8]) -> Option<usize> {
        self.parts.discovery.lsd.write(family, port, out)
    }

    /// Says at which address, of each family, we are reached from outside. Trackers and peers of that family are told its
    /// port. When there is no room for all peers, the canonical priority of its address and theirs decides (BEP 40).
    pub fn reached_at(&mut self, now: Instant, addr: SocketAddr) {
        self.parts.cx.now = now;
        self.swarm.ports[usize::from(addr.is_ipv6())] = addr.port();
        self.parts.discovery.candidates.set_ours(addr);
    }

    /// Closes all connections of a torrent, and forgets its candidates.
    fn part_with_all(&mut self, id: TorrentId) {
        self.swarm
            .close_all(&mut self.parts, id, Reason::OtherTracker);
        self.parts.discovery.candidates.forget(id);
    }

    /// Whether a torrent is known and asleep.
    pub fn is_asleep(&self, id: TorrentId) -> bool {
        self.parts.cx.torrents.is_asleep(id)
    }

    /// The torrent with this info-hash, awake or asleep.
    pub fn find(&self, info_hash: InfoHash) -> Option<TorrentId> {
        self.parts.cx.torrents.find(info_hash)
    }

    /// How many torrents are known, awake and asleep.
    pub fn known(&self) -> usize {
        self.parts.cx.torrents.registry.count()
    }

    /// Hands out the raw `info` of a torrent, `len` bytes, to peers that have only its info-hash
    /// (BEP 9): a [`Body`](crate::Body) may then be of [`BodySource::Info`](crate::BodySource::Info).
    pub fn offer_metadata(&mut self, id: TorrentId, len: u32) {
        if let Some(torrent) = self.parts.cx.torrents.get_mut(id) {
            torrent.metadata_len = Some(len);
        }
    }

    /// Downloads what is missing of a torrent, from now on. What is wanted can be changed by calling
    /// this again.
    pub fn download(
        &mut self,
        now: Instant,
        id: TorrentId,
        wanted: Wanted<'_>,
        order: Order,
    ) -> Result<(), AddError> {
        self.parts.cx.now = now;
        let known = |t: &&torrent::Torrent| !t.lacks_metadata();
        let Some(torrent) = self.parts.cx.torrents.get(id).filter(known) else {
            return Ok(());
        };
        let piece_size = torrent.geometry.map_or(0, |g| g.piece_len());
        if !self.parts.download.in_progress.has_room_for(piece_size)
            || self.parts.download.blocks.is_empty()
        {
            return Err(AddError::Blocks);
        }
        let given = match wanted {
            Wanted::All => None,
            Wanted::Some(bits) => Some(bits),
        };
        // What is wanted stays as it is if there is no room for what that takes.
        if !self.parts.cx.torrents.reserve_begun(id) {
            return Err(AddError::Bits);
        }
        if self.parts.cx.torrents.has_no_counts(id) {
            // What was said since it was complete is not all that the peers have.
            let (availability, cx) = (&mut self.parts.download.availability, &mut self.parts.cx);
            availability.forget_bits_of_all(cx, id);
            if !availability.reserve_counts(cx, id) {
                return Err(AddError::Bits);
            }
        }
        if !self.parts.cx.torrents.set_wanted(id, given) {
            return Err(AddError::Bits);
        }
        let missing = self
            .parts
            .cx
            .torrents
            .get(id)
            .map_or((0, 0), |t| self.parts.cx.torrents.missing(t))
            .0;
        let mut was_finished = false;
        if let Some(torrent) = self.parts.cx.torrents.get_mut(id) {
            was_finished = torrent.downloads && torrent.missing == 0 && missing > 0;
            (torrent.downloads, torrent.order, torrent.missing) = (true, order, missing);
            torrent.begins = false;
            torrent.narrowed = false;
        }
        if was_finished {
            self.parts.discovery.candidates.recall(now, id);
            // What the peers have is known from the next connections on.
            self.swarm
                .close_all(&mut self.parts, id, Reason::TorrentGone);
        }
        for slot in 0..self.parts.cx.peers.len() {
            if self.parts.cx.peers[slot].link.torrent == Some(id)
                && self.parts.cx.peers[slot].is_open()
            {
                self.parts
                    .download
                    .update_interest(&mut self.parts.cx, slot);
                self.parts.download.request_blocks(&mut self.parts.cx, slot);
            }
        }
        Ok(())
    }

    /// Blocks that there is memory for.
    pub fn blocks(&self) -> usize {
        self.parts.download.blocks.len()
    }

    /// Whether every wanted piece of a download is here and verified.
    pub fn is_complete(&self, id: TorrentId) -> bool {
        self.parts
            .cx
            .torrents
            .get(id)
            .is_some_and(|t| t.downloads && t.missing == 0)
    }

    /// Blocks that are free: all of them, when nothing is on its way.
    pub fn blocks_free(&self) -> usize {
        self.parts.download.blocks.free()
    }

    /// Announces a torrent to a tier of `trackers` trackers from now on, see [`announcer`].
    pub fn announce(
        &mut self,
        now: Instant,
        id: TorrentId,
        tier: u8,
        trackers: u8,
    ) -> Result<(), announcer::Full> {
        self.parts.cx.now = now;
        self.parts
            .discovery
            .announcer
            .add(now, id, tier, trackers, &mut self.parts.cx.rng)
    }

    /// Announces to all trackers again with `started`, one after the other, as our address has changed.
    pub fn announce_anew(&mut self, now: Instant) {
        self.parts.cx.now = now;
        self.parts.discovery.announcer.renew(now);
    }

    /// Forgets all tiers of a torrent, whose trackers were replaced: [`announce`](Self::announce) to the new ones next. A
    /// private torrent loses the peers that the old trackers named (BEP 27).
    pub fn forget_trackers(&mut self, now: Instant, id: TorrentId) {
        self.parts.cx.now = now;
        self.parts.discovery.announcer.forget(now, id);
        if self.parts.cx.torrents.publicity(id).is_private() {
            self.part_with_all(id);
        }
    }

    /// The report of a job to its tracker. It asks for peers while there is room for them.
    pub fn report(&self, job: &Job) -> Report {
        let num_want = self.swarm.num_want(&self.parts);
        let (torrents, key) = (&self.parts.cx.torrents, self.parts.discovery.key);
        let crate::swarm::Swarm {
            identity, ports, ..
        } = &self.swarm;
        discovery::report(torrents, identity, *ports, key, num_want, job)
    }

    /// Begins an announce to a UDP tracker, which has an address of one family or both. Its datagrams go through
    /// [`datagram`](Self::datagram) and [`poll_datagram`](Self::poll_datagram), and
    /// [`Action::UdpAnnounced`](crate::Action::UdpAnnounced) says when it has ended. `url_data` is path and query of the
    /// tracker's URL. `seed` is fresh for each call, and no stranger can guess it.
    ///
    /// False if there is no slot or no address, or if `url_data` is longer than
    /// [`URL_MAX`](crate::discovery::udp_trackers::URL_MAX).
    pub fn announce_by_udp(
        &mut self,
        now: Instant,
        job: Job,
        addrs: [Option<SocketAddr>; 2],
        url_data: &str,
        seed: u64,
    ) -> bool {
        self.parts.cx.now = now;
        let Discovery { announcer, udp, .. } = &mut self.parts.discovery;
        announcer.awaits(job.id) && udp.begin(now, job, addrs, url_data, seed)
    }

    /// How an announce by UDP ended, right after [`Action::UdpAnnounced`](crate::Action::UdpAnnounced) told of it.
    pub fn udp_outcome(&self, id: AnnounceId) -> Option<UdpOutcome> {
        self.parts.discovery.udp.outcome(id)
    }

    /// Removes a torrent. Its trackers are not told; they forget it in time.
    pub fn remove(&mut self, now: Instant, id: TorrentId) {
        self.parts.cx.now = now;
        self.swarm
            .close_all(&mut self.parts, id, Reason::TorrentGone);
        self.parts.download.forget_partials(&mut self.parts.cx, id);
        self.parts.discovery.announcer.forget(now, id);
        self.parts.discovery.candidates.forget(id);
        self.parts.discovery.seeker.forget(&self.parts.cx, id);
        self.parts.cx.torrents.remove(id);
    }

    /// Numbers about a torrent; `None` when it is asleep or was removed.
    pub fn torrent(&self, id: TorrentId) -> Option<TorrentStats> {
        self.parts.cx.torrents.stats(id)
    }

    /// Which pieces of a torrent were verified, for the resume record.
    pub fn good(&self, id: TorrentId) -> Have<'_> {
        self.parts.cx.torrents.good(id)
    }

    /// Ids of all torrents that are awake.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentId> {
        self.parts.cx.torrents.ids()
    }

    /// The pieces that a download lacks, if no connected peer has any of them. Looks at every piece.
    pub fn stuck(&self, id: TorrentId) -> Option<Stuck> {
        self.parts
            .download
            .availability
            .stuck(&self.parts.cx.peers, &self.parts.cx.torrents, id)
    }

    /// Numbers about the whole node.
    pub fn stats(&self) -> Stats {
        self.swarm.stats(&self.parts)
    }

    /// Whether a connection has a finished handshake.
    pub fn is_open(&self, id: ConnId) -> bool {
        let slot = self.parts.cx.peers.slot(id);
        slot.is_some_and(|slot| self.parts.cx.peers[slot].is_open())
    }

    /// Whether a peer is served: it is unchoked.
    pub fn serves(&self, id: ConnId) -> bool {
        self.parts
            .cx
            .peers
            .slot(id)
            .is_some_and(|slot| self.parts.cx.peers[slot].upload.unchoked)
    }

    /// Blocks that were requested from a peer, or are about to be.
    pub fn blocks_requested(&self, id: ConnId) -> u16 {
        self.parts
            .cx
            .peers
            .slot(id)
            .map_or(0, |slot| self.parts.cx.peers[slot].download.pending.len)
    }
}

/// The panic of [`Node::input`] for inputs that move bytes.
const BYTES: &str = "what has bytes to be moved has a method";
