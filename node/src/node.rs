//! [`Node`]: the type that a host drives, and its calls that move bytes or time.

use core::net::SocketAddr;

use everseed_core::pool::BlockId;
use everseed_core::time::Instant;
use everseed_core::tracker::udp::REQUEST_MAX;

use crate::discovery::candidates::Named;
use crate::discovery::{self, Discovery};
use crate::parts::Parts;
use crate::peer::LinkState;
use crate::peer::outbox::Out;
use crate::rate::{Bucket, QUANTUM};
use crate::swarm::Swarm;
use crate::swarm::outbound;
use crate::swarm::outbound::Cursor;
use crate::torrent::registry::EntryState;
use crate::wake::Wake;

use crate::api::{Action, Bodies, Event, Identity, Limits, StorageError};
use crate::memory::{self, Memory};
use crate::peer::{ConnId, Reason};
use crate::torrent;

/// A BitTorrent peer.
///
/// # How to drive it
///
/// The host waits for sockets, answers and the [`deadline`](Node::deadline), tells the node, and
/// then carries out actions until [`poll`](Node::poll) has none left:
///
/// - a listener accepts: [`accept`](Node::accept);
/// - a socket is readable: read at most as many bytes as [`recv_space`](Node::recv_space) gives room
///   for into that room, then [`received`](Node::received). `None` is back-pressure: do not read
///   until [`Action::Receive`] asks for it;
/// - a socket is writable, or `poll` says [`Action::Transmit`]: [`transmit`](Node::transmit) into a
///   buffer, put the bodies into its gaps, send, and tell how much went out with
///   [`transmitted`](Node::transmitted). Between the two, nothing else may be told about this
///   connection;
/// - a datagram came: [`datagram`](Node::datagram);
/// - all else is done: [`poll_datagram`](Node::poll_datagram), until it has none left;
/// - anything else that happened: [`event`](Node::event);
/// - the deadline has come: [`tick`](Node::tick). An early tick is harmless.
///
/// Ids carry a tenancy: whatever is said about a connection or torrent that is gone is ignored, so
/// the host needs no care about late answers. After [`Action::Close`] the connection's slot may be
/// let again at once.
///
/// Time is whatever the host passes in; it should not go backwards.
///
/// # Sleep
///
/// A torrent that no peer asks for need not be awake. [`know`](Node::know) adds one that sleeps, and
/// [`sleep`](Node::sleep) puts one to sleep: only its info-hash and its announces remain. When a peer names it,
/// [`Action::Wake`] asks the host to open its files and to call [`wake`](Node::wake), or `sleep` if that fails. The peer
/// waits meanwhile, as long as a handshake may take. The host decides which torrents sleep.
///
/// # Magnet links
///
/// [`add_unknown`](Node::add_unknown) adds a torrent by its info-hash alone. Its peers are called and its trackers told
/// as usual. [`Action::Write`] and [`Action::Verify`] then mean its metadata: one piece from byte 0 on, whose hash is the
/// info-hash. After [`Action::Fetched`] the host makes a torrent of it, and calls
/// [`begin_content`](Node::begin_content), [`offer_metadata`](Node::offer_metadata) and [`download`](Node::download). The
/// connections go on.
///
/// # What it does not do
///
/// It reads no content: a [`Body`](crate::Body) names what is to be sent, and the host reads it. It does not hash:
/// [`Action::Verify`] asks the host to. Nothing is sent of a piece that was not verified.
///
/// # Example
///
/// A seed and a leecher in one process: their sockets are two buffers, their disks two vectors.
///
/// ```
/// use std::mem::MaybeUninit;
/// use everseed_core::{geometry::Geometry, hash::InfoHash, time::Instant};
/// use everseed_node::memory::{Lender, Sizes};
/// use everseed_node::{Action, Bodies, Event, Have, Identity, Limits, Memory, Node, Order, PeerSource, Wanted};
///
/// struct Heap;
/// impl Lender<'static> for Heap {
///     fn filled<T: Clone>(&mut self, value: T, len: usize) -> &'static mut [T] {
///         vec![value; len].leak()
///     }
///     fn made<T>(&mut self, len: usize, mut make: impl FnMut() -> T) -> &'static mut [T] {
///         Vec::leak((0..len).map(|_| make()).collect())
///     }
///     fn room<T>(&mut self, len: usize) -> &'static mut [MaybeUninit<T>] {
///         Box::leak(Box::new_uninit_slice(len))
///     }
/// }
///
/// // Three pieces of 32 KiB, of which the seed has all and the leecher nothing.
/// let (hash, now) = (InfoHash([7; 20]), Instant::from_secs(1));
/// let geometry = Geometry::new(96 * 1024, 32 * 1024).unwrap();
/// let content: Vec<u8> = (0..96 * 1024).map(|at| (at / 251) as u8).collect();
/// let mut disks = [content.clone(), vec![0; 96 * 1024]];
/// let sizes = Sizes {
///     conns: 1, requests: 64, blocks: 8, in_progress: 3, in_progress_bits: 12, peer_bitfields: 1,
///     counts: 3, registry: 1, torrents: 1, bits: 8, tiers: 0, udp_announces: 0, dht: 0, candidates: 1, scratch: 16 * 1024,
/// };
/// let mut nodes = [b's', b'l'].map(|name| {
///     let identity = Identity { peer_id: [name; 20], port: 6881, client: "example" };
///     let limits = Limits {
///         slots: None, most_slots: 4, peers: 1, upload_bps: None, download_bps: None,
///     };
///     Node::new(Memory::lend(&sizes, &mut Heap), identity, limits, name.into())
/// });
/// let seeded = nodes[0].add(hash, geometry, Have::All, 0).unwrap();
/// let wanted = nodes[1].add(hash, geometry, Have::Nothing, 0).unwrap();
/// nodes[1].download(now, wanted, Wanted::All, Order::Rarest).unwrap();
/// nodes[1].event(now, Event::Peer(wanted, "10.0.0.1:6881".parse().unwrap(), PeerSource::Tracker));
///
/// let (mut conns, mut wires) = ([None, None], [Vec::new(), Vec::new()]);
/// while !nodes[1].is_complete(wanted) {
///     for n in 0..2 {
///         while let Some(action) = nodes[n].poll(now) {
///             match action {
///                 Action::Connect { conn, .. } => {
///                     conns[n] = Some(conn);
///                     conns[1 - n] = nodes[1 - n].accept(now, "10.0.0.2:50000".parse().unwrap());
///                     nodes[n].event(now, Event::Connected(conn));
///                 }
///                 Action::Transmit { conn } => {
///                     let (mut packet, mut bodies) = (vec![0; 64 * 1024], Bodies::new());
///                     let len = nodes[n].transmit(now, conn, &mut packet, &mut bodies);
///                     for body in &bodies {
///                         let (from, len) = (body.span.offset as usize, body.span.len as usize);
///                         packet[body.at..][..len].copy_from_slice(&disks[n][from..][..len]);
///                     }
///                     nodes[n].transmitted(now, conn, len);
///                     wires[1 - n].extend_from_slice(&packet[..len]);
///                 }
///                 Action::Write { block, span } => {
///                     let bytes = nodes[n].take_block(block).unwrap();
///                     let (at, len) = (span.offset as usize, span.len as usize);
///                     disks[n][at..][..len].copy_from_slice(&bytes[..len]);
///                     nodes[n].written(block, bytes, Ok(()));
///                 }
///                 // A host hashes the piece here.
///                 Action::Verify { torrent, piece, .. } => {
///                     let (at, len) = (geometry.piece_offset(piece) as usize, geometry.piece_size(piece) as usize);
///                     let good = disks[n][at..][..len] == content[at..][..len];
///                     nodes[n].event(now, Event::Verified(torrent, piece, good));
///                 }
///                 // Two that have all need nothing of each other any more.
///                 Action::Close { .. } => conns = [None, None],
///                 Action::Receive { .. } | Action::Wake { .. } | Action::Fetched { .. } => {}
///                 Action::Announce(_) | Action::SendLsd => {}
///                 Action::UdpAnnounced { .. } | Action::FindDhtNodes => {}
///             }
///         }
///         let Some(conn) = conns[n] else { continue };
///         while let Some(space) = nodes[n].recv_space(conn).filter(|_| !wires[n].is_empty()) {
///             let len = space.len().min(wires[n].len());
///             space[..len].copy_from_slice(&wires[n][..len]);
///             wires[n].drain(..len);
///             nodes[n].received(now, conn, len);
///         }
///     }
/// }
/// assert_eq!(disks[1], content);
/// assert_eq!(nodes[0].torrent(seeded).unwrap().uploaded, 96 * 1024);
/// ```
#[derive(Debug)]
pub struct Node<'m> {
    pub(crate) swarm: Swarm<'m>,
    pub(crate) parts: Parts<'m>,
}

impl<'m> Node<'m> {
    /// A node in `memory`; `seed` decides everything that is left to chance.
    ///
    /// # Panics
    /// If the scratch is shorter than [`memory::SCRATCH_MIN`].
    pub fn new(memory: Memory<'m>, identity: Identity, limits: Limits, seed: u64) -> Node<'m> {
        assert!(
            memory.scratch.len() >= memory::SCRATCH_MIN,
            "the scratch is too short"
        );
        let (parts, scratch) = Parts::new(memory, &limits, seed);
        Node {
            swarm: Swarm::new(scratch, identity, limits),
            parts,
        }
    }

    /// The bytes of a block that [`Action::Write`] named, to be given back with
    /// [`written`](Self::written). `None` if it was taken already.
    pub fn take_block(&mut self, block: BlockId) -> Option<&'m mut [u8]> {
        self.parts.download.blocks.hand_out(block)
    }

    /// Gives a block back that was written, or could not be. Written means: reading it gives these
    /// bytes; it need not be durable.
    pub fn written(
        &mut self,
        block: BlockId,
        bytes: &'m mut [u8],
        result: Result<(), StorageError>,
    ) {
        let refused = self
            .parts
            .download
            .block_written(&mut self.parts.cx, block, bytes, result);
        if let Some((id, pieces)) = refused {
            self.swarm.leave_out(&mut self.parts, id, pieces);
        }
    }

    /// Closes all connections, refuses new ones, and tells the trackers of torrents that are awake.
    /// [`is_stopped`](Self::is_stopped) says when that is done; the host need not wait for it.
    pub fn stop(&mut self, now: Instant) {
        self.parts.cx.now = now;
        self.swarm.stopping = true;
        let registry = &self.parts.cx.torrents.registry;
        let awake = |torrent| registry.state(torrent) != Some(EntryState::Asleep);
        self.parts.discovery.announcer.stop(now, awake);
        for slot in 0..self.parts.cx.peers.len() {
            self.swarm.close(&mut self.parts, slot, Reason::Stopping);
        }
    }

    /// Whether everybody is gone and every tracker told.
    pub fn is_stopped(&self) -> bool {
        self.swarm.stopping
            && self.parts.cx.peers.live == 0
            && self.parts.discovery.announcer.is_idle()
    }

    /// Takes a connection that a peer made. `None` when there is no place: drop the socket.
    ///
    /// Callers that have not finished their handshake may have a quarter of the places, and for two seconds whatever is
    /// free; beyond that the oldest of them is closed. When the last free place is taken, the least useful connection is
    /// closed for the next caller. It is, in this order:
    ///
    /// 1. one that has not finished its handshake for two seconds;
    /// 2. if callers without a handshake have more than their quarter: one of the address that has most of them;
    /// 3. one that has not been interested for a minute, the longest first;
    /// 4. one of an address (IPv6: a /64) with more than its share of the connections, for an address with fewer;
    /// 5. the one of the lowest canonical priority (BEP 40), for a newcomer of a higher one. It is none that is served or
    ///    serves us, or began less than a minute ago; and only if [`reached_at`](Self::reached_at) was told.
    ///
    /// If there is none of these, the newcomer is refused. So is an address that is banned for bad pieces, and one with
    /// many connections when a single place is left. A place may become free once [`poll`](Self::poll) has no actions
    /// left.
    pub fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<ConnId> {
        self.parts.cx.now = now;
        self.swarm.accept(&mut self.parts, from)
    }

    /// Where to read a connection's next bytes, at least one; `None` when it must wait, or is gone.
    pub fn recv_space(&mut self, id: ConnId) -> Option<&mut [u8]> {
        let slot = self.parts.cx.peers.slot(id)?;
        if self.swarm.reads_in_place(&self.parts, slot) {
            let receiving = self.parts.cx.peers[slot].download.receiving;
            return self.parts.download.block_space(receiving);
        }
        let room = self.swarm.readable(&mut self.parts, slot);
        self.parts.cx.peers[slot].upload.queue_full = room == 0;
        let room = room.min(self.swarm.scratch.len());
        self.swarm
            .scratch
            .get_mut(..room)
            .filter(|space| !space.is_empty())
    }

    /// Takes the `len` bytes that were read into [`recv_space`](Self::recv_space).
    pub fn received(&mut self, now: Instant, id: ConnId, len: usize) {
        self.parts.cx.now = now;
        let Some(slot) = self.parts.cx.peers.slot(id) else {
            return;
        };
        self.parts.cx.peers[slot].link.last_received_at = now;
        if self.swarm.reads_in_place(&self.parts, slot) {
            self.parts.cx.peers[slot].link.decoder.passed(len);
            self.parts
                .download
                .block_bytes_received(&mut self.parts.cx, slot, len);
            self.parts.download.request_blocks(&mut self.parts.cx, slot);
            return;
        }
        // Taken out for the time of parsing, so that the handlers may use the whole swarm.
        let scratch = core::mem::take(&mut self.swarm.scratch);
        let bytes = &scratch[..len];
        let verdict = match self.parts.cx.peers[slot].link.state {
            LinkState::Greeting => self.swarm.handshake_bytes(&mut self.parts, slot, bytes),
            LinkState::Open => self.swarm.messages(&mut self.parts, slot, bytes),
            _ => Ok(()),
        };
        self.swarm.scratch = scratch;
        match verdict {
            Ok(()) => {
                self.parts.download.request_blocks(&mut self.parts.cx, slot);
                self.parts.cx.peers.make_ready(slot);
            }
            Err(reason) => self.swarm.close(&mut self.parts, slot, reason),
        }
    }

    /// Takes an event.
    pub fn event(&mut self, now: Instant, event: Event<'_>) {
        self.parts.cx.now = now;
        match event {
            Event::Connected(id) => self.swarm.connected(&mut self.parts, id),
            Event::Closed(id) => {
                if let Some(slot) = self.parts.cx.peers.slot(id) {
                    self.parts
                        .upload
                        .suspect_last_piece(&mut self.parts.cx, slot);
                    self.swarm.close(&mut self.parts, slot, Reason::Gone);
                }
            }
            Event::Verified(torrent, piece, good) => {
                self.swarm.verified(&mut self.parts, torrent, piece, good)
            }
            Event::Unread(torrent, piece) => {
                self.swarm.piece_unreadable(&mut self.parts, torrent, piece)
            }
            Event::Unreadable(torrent) => self.swarm.suspend(&mut self.parts, torrent),
            Event::Readable(torrent) => {
                if let Some(torrent) = self.parts.cx.torrents.get_mut(torrent) {
                    torrent.state = torrent::TorrentState::Active;
                    self.parts.cx.wakes.add(Wake::Recheck);
                }
            }
            Event::Changed(torrent, have) => {
                self.swarm.storage_changed(&mut self.parts, torrent, have)
            }
            Event::Recheck(torrent) => self.swarm.recheck(&mut self.parts, torrent),
            Event::Restored(torrent, have) => {
                self.swarm.storage_restored(&mut self.parts, torrent, have)
            }
            Event::Writable(torrent) => self
                .parts
                .download
                .storage_writable(&mut self.parts.cx, torrent),
            Event::Peer(torrent, addr, source) => {
                let named = Named {
                    torrent,
                    addr,
                    source,
                    by: None,
                };
                let torrents = &self.parts.cx.torrents;
                self.parts.discovery.add_candidate(now, torrents, named);
            }
            Event::Unreachable(addr) => self.parts.discovery.udp.unreachable(now, addr),
            Event::Announced(id, told) => {
                self.parts.discovery.announced(&mut self.parts.cx, id, told)
            }
            Event::AnnounceFailed(id, wait) => {
                self.parts
                    .discovery
                    .announcer
                    .failed(now, id, wait, &mut self.parts.cx.rng);
            }
        }
    }

    /// The next action for the host to carry out, or `None` until something else happens.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.parts.cx.now = now;
        if self.parts.cx.wakes.take(Wake::FillSlots) {
            let limits = &self.swarm.limits;
            self.parts.upload.fill_slots(&mut self.parts.cx, limits);
        }
        if self.parts.upload.queue.has_room() && self.parts.cx.wakes.take(Wake::ReadAtQueueRoom) {
            self.parts.cx.peers.make_unread_ready();
        }
        if let Some(action) = self.parts.download.storage_action(&mut self.parts.cx) {
            return Some(action);
        }
        if self.parts.cx.wakes.has(Wake::TellFetched) {
            if let Some((torrent, len)) = self.parts.cx.torrents.next_fetched() {
                return Some(Action::Fetched { torrent, len });
            }
            self.parts.cx.wakes.take(Wake::TellFetched);
        }
        if self.parts.cx.wakes.take(Wake::EndDownloads) {
            self.swarm.finish_narrowed(&mut self.parts);
        }
        if self.parts.cx.wakes.take(Wake::Request) {
            self.parts.download.request_from_all(&mut self.parts.cx);
        }
        self.swarm.send_pex(&mut self.parts);
        while let Some(slot) = self.parts.cx.peers.next_ready() {
            if let Some(action) = self.swarm.action(&mut self.parts, slot) {
                return Some(action);
            }
        }
        if let Some(action) = self.swarm.doubt_action(&mut self.parts) {
            return Some(action);
        }
        if !self.swarm.stopping
            && (self.parts.discovery.lsd).poll(now, &self.parts.cx.torrents.registry)
        {
            return Some(Action::SendLsd);
        }
        let dial = self.swarm.dial(&mut self.parts);
        dial.or_else(|| self.parts.discovery.action(&mut self.parts.cx))
    }

    /// Takes a datagram that came to the host's UDP socket: an answer of a tracker, a node of the DHT, a call by uTP.
    pub fn datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.parts.cx.now = now;
        let Parts { cx, discovery, .. } = &mut self.parts;
        discovery.datagram(cx, from, packet);
    }

    /// Writes the next datagram that is due into `packet`, which has room for [`PACKET_MAX`] bytes; answers with
    /// whom to send it to, and its length. `None` until something happens or the deadline comes.
    pub fn poll_datagram(
        &mut self,
        now: Instant,
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        self.parts.cx.now = now;
        if let Some(sent) = self.parts.discovery.utp.poll_datagram(packet) {
            return Some(sent);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.parts.discovery.seeker.dht.is_due(now) {
            let Parts { cx, discovery, .. } = &mut self.parts;
            let ports = self.swarm.ports;
            let sent = discovery.seeker.poll_datagram(cx, ports, packet);
            if sent.is_some() {
                return sent;
            }
        }
        if !due(self.parts.discovery.udp.deadline()) {
            return None;
        }
        let num_want = self.swarm.num_want(&self.parts);
        let (
            cx,
            Swarm {
                identity, ports, ..
            },
        ) = (&self.parts.cx, &self.swarm);
        let Discovery { udp, key, .. } = &mut self.parts.discovery;
        let report =
            |job: &_| discovery::report(&cx.torrents, identity, *ports, *key, num_want, job);
        udp.poll_datagram(now, packet, report)
    }

    /// Writes what is due to a connection into `buf`: whole heads, and gaps for the `bodies` that
    /// the host puts in. Answers with the number of bytes that `buf` then holds.
    ///
    /// The host may send any part of it from the start on. The same call gives the same answer until
    /// [`transmitted`](Self::transmitted) is told what went out.
    pub fn transmit(
        &mut self,
        now: Instant,
        id: ConnId,
        buf: &mut [u8],
        bodies: &mut Bodies,
    ) -> usize {
        self.parts.cx.now = now;
        bodies.clear();
        let Some(slot) = self.parts.cx.peers.slot(id) else {
            return 0;
        };
        // Less than a block is not worth a packet.
        let budget = Some(self.parts.upload.rate.level(now))
            .filter(|&level| level >= QUANTUM)
            .unwrap_or(0);
        let (len, throttled) =
            outbound::fill(&self.swarm.view(&self.parts, slot), budget, buf, bodies);
        self.parts.cx.wakes.add_if(Wake::SendAtRate, throttled);
        if throttled && len == 0 {
            // Others took what the limit allows: this peer was offered nothing.
            self.parts.cx.peers[slot].upload.offered_at = None;
        }
        len
    }

    /// Notes that the first `len` bytes of [`transmit`](Self::transmit)'s answer went out.
    pub fn transmitted(&mut self, now: Instant, id: ConnId, len: usize) {
        self.parts.cx.now = now;
        let Some(slot) = self.parts.cx.peers.slot(id) else {
            return;
        };
        let mut left = u32::try_from(len).unwrap_or(u32::MAX);
        while left > 0 {
            let view = self.swarm.view(&self.parts, slot);
            let mut cursor = Cursor::new(view.conn);
            let Some(out) = cursor.peek(&view) else { break };
            let (done, total) = (cursor.done(), view.len(out));
            let head = view.head_len(out);
            let len = left.min(total - done);
            let body = (done + len).saturating_sub(head.max(done));
            let finished = cursor.advance(&view, out, len, total);
            let fresh = done == 0;
            left -= len;
            self.swarm.sent(&mut self.parts, slot, out, fresh, body);
            self.parts.cx.peers[slot].link.outbox = cursor.outbox();
            if finished && out == Out::Peers {
                let freed = self.swarm.pex.done(id);
                self.parts.cx.wakes.add_if(Wake::TellPeers, freed);
            }
        }
        if len > 0 {
            let conn = &mut self.parts.cx.peers[slot];
            (conn.link.last_sent_at, conn.upload.offered_at) = (now, None);
        }
        self.parts.cx.peers.make_ready(slot);
    }

    /// When [`tick`](Self::tick) is worth calling next.
    pub fn deadline(&self) -> Option<Instant> {
        let wakes = self.parts.cx.wakes;
        let at_rate = |wake: Wake, rate: &Bucket| {
            let waits = wakes.has(wake).then(|| rate.ready_at(rate.filled_at()));
            waits.flatten()
        };
        let send = at_rate(Wake::SendAtRate, &self.parts.upload.rate);
        let request = at_rate(Wake::RequestAtRate, &self.parts.download.rate);
        let dial = if self.swarm.may_dial(&self.parts) {
            self.parts.discovery.candidates.deadline()
        } else {
            None
        };
        let announce = self.parts.discovery.deadline();
        let nearby = match self.swarm.stopping {
            true => None,
            false => self.parts.discovery.lsd.deadline(),
        };
        let turn = self.parts.upload.next_turn;
        let all = [
            self.swarm.next_sweep,
            turn,
            send,
            request,
            dial,
            announce,
            nearby,
        ];
        all.into_iter().flatten().min()
    }

    /// Makes the connections ready that wait for the upload limit.
    pub(crate) fn wake_senders(&mut self) {
        if self.parts.cx.wakes.take(Wake::SendAtRate) {
            let last = self.parts.upload.last_served;
            self.parts.cx.peers.make_all_ready(last);
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant) {
        self.parts.cx.now = now;
        // Before the senders are woken: until then it is known that they wait for the limit.
        if self.swarm.next_sweep.is_some_and(|at| at <= now) {
            self.swarm.sweep(&mut self.parts);
        }
        self.parts.upload.give_turns_if_due(&mut self.parts.cx);
        if self.parts.upload.rate.level(now) >= QUANTUM {
            self.wake_senders();
        }
        if self.parts.download.rate.level(now) >= QUANTUM {
            (self.parts.cx.wakes).turn(Wake::RequestAtRate, Wake::Request);
        }
        self.parts.discovery.tick(now);
    }
}

/// The longest datagram that is sent, in bytes.
pub const PACKET_MAX: usize = REQUEST_MAX;
