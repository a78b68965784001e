//! What a host told its node, and what the node answered: written down by a host, told again to
//! another node by a simulator.
//!
//! A trace is a [`Head`] and then any number of [`Entry`]s. Everything here is plain data with serde's
//! data model; hosts encode it with postcard. A node that is made from the same head and told the same
//! gives the same answers, on any machine: the first answer that differs is where a bug shows.

use core::net::SocketAddr;

use everseed_core::geometry::{Geometry, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use everseed_core::time::Instant;
use everseed_core::wire::PeerId;
use serde::{Deserialize, Serialize};

use crate::api::{Action, Event, Identity, Limits, Order, StorageError, Wanted};
use crate::memory::Sizes;
use crate::{AddError, Bodies, ConnId, Have, Job, Node, Publicity};

/// The version of the format; a trace is understood by the version that wrote it.
pub const VERSION: u16 = 7;

/// How the node was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head<'a> {
    /// [`VERSION`].
    pub version: u16,
    /// The memory that it was lent.
    pub sizes: Sizes,
    /// [`Identity::peer_id`].
    pub peer_id: PeerId,
    /// [`Identity::port`].
    pub port: u16,
    /// [`Identity::client`].
    pub client: &'a str,
    /// Its limits.
    pub limits: Limits,
    /// What decides everything that is left to chance.
    pub seed: u64,
}

impl<'a> Head<'a> {
    /// The head of a node that is made from these.
    pub fn new(sizes: Sizes, identity: &Identity, limits: Limits, seed: u64) -> Head<'a> {
        Head {
            version: VERSION,
            sizes,
            peer_id: identity.peer_id,
            port: identity.port,
            client: identity.client,
            limits,
            seed,
        }
    }
}

/// One call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// When.
    pub at: Instant,
    /// What was told.
    #[serde(borrow)]
    pub input: Input<'a>,
    /// What the node answered.
    pub output: Output,
}

/// What a node can be told: its methods that change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Input<'a> {
    /// [`Node::add`].
    Add {
        /// The torrent.
        info_hash: InfoHash,
        /// Bytes of its content.
        total: u64,
        /// Bytes of its pieces.
        piece_len: u32,
        /// What is there.
        #[serde(borrow)]
        have: Have<'a>,
        /// Bytes sent before.
        uploaded: u64,
    },
    /// [`Node::know`].
    Know(InfoHash),
    /// [`Node::wake`].
    Wake {
        /// The torrent.
        id: TorrentId,
        /// Bytes of its content.
        total: u64,
        /// Bytes of its pieces.
        piece_len: u32,
        /// What is there.
        #[serde(borrow)]
        have: Have<'a>,
        /// Bytes sent before.
        uploaded: u64,
    },
    /// [`Node::add_unknown`].
    AddUnknown(InfoHash),
    /// [`Node::wake_unknown`].
    WakeUnknown(TorrentId),
    /// [`Node::begin_content`].
    BeginContent {
        /// The torrent.
        id: TorrentId,
        /// Bytes of its content.
        total: u64,
        /// Bytes of its pieces.
        piece_len: u32,
        /// What is there.
        #[serde(borrow)]
        have: Have<'a>,
        /// Bytes sent before.
        uploaded: u64,
    },
    /// [`Node::sleep`].
    Sleep(TorrentId),
    /// [`Node::announce_anew`].
    AnnounceAnew,
    /// [`Node::set_limits`].
    SetLimits(Limits),
    /// [`Node::offer_metadata`].
    OfferMetadata(TorrentId, u32),
    /// [`Node::download`].
    Download(TorrentId, #[serde(borrow)] Wanted<'a>, Order),
    /// [`Node::announce`].
    Announce(TorrentId, u8, u8),
    /// [`Node::remove`].
    Remove(TorrentId),
    /// [`Node::stop`].
    Stop,
    /// [`Node::accept`].
    Accept(SocketAddr),
    /// [`Node::recv_space`].
    RecvSpace(ConnId),
    /// [`Node::received`].
    Received(ConnId, &'a [u8]),
    /// [`Node::event`].
    Event(#[serde(borrow)] Event<'a>),
    /// [`Node::poll`].
    Poll,
    /// [`Node::transmit`] into a buffer of so many bytes.
    Transmit(ConnId, u32),
    /// [`Node::transmitted`].
    Transmitted(ConnId, u32),
    /// [`Node::take_block`].
    TakeBlock(BlockId),
    /// [`Node::written`].
    Written(BlockId, Result<(), StorageError>),
    /// [`Node::tick`].
    Tick,
    /// [`Node::forget_trackers`].
    ForgetTrackers(TorrentId),
    /// [`Node::publish`].
    Publish(TorrentId, Publicity),
    /// [`Node::reached_at`].
    ReachedAt(SocketAddr),
    /// [`Node::announce_by_udp`].
    AnnounceByUdp {
        /// The job.
        job: Job,
        /// Where the tracker is.
        addrs: [Option<SocketAddr>; 2],
        /// Path and query of its URL.
        url_data: &'a str,
        /// Chance.
        seed: u64,
    },
    /// [`Node::datagram`].
    Datagram(SocketAddr, &'a [u8]),
    /// [`Node::poll_datagram`] into a buffer of so many bytes.
    PollDatagram(u32),
}

/// What a node answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Output {
    /// Nothing, as the call has no answer.
    Done,
    /// A torrent's id, or why there is none.
    Torrent(Result<TorrentId, AddError>),
    /// Whether it could be done.
    Accepted(bool),
    /// A connection's id, if there was a place.
    Conn(Option<ConnId>),
    /// So many bytes: of room, or to be sent.
    Len(u32),
    /// What the host is to do.
    Action(Option<Action>),
    /// To whom a datagram goes, and how long it is.
    Datagram(Option<(SocketAddr, u32)>),
}

/// Tells a node what another one was told.
#[derive(Debug)]
pub struct Player<'p, 'm> {
    /// The blocks that are away, by slot: as many as the node has.
    pub away: &'p mut [Option<&'m mut [u8]>],
    /// What is to be sent is put there: as long as the longest that was recorded.
    pub buffer: &'p mut [u8],
}

impl<'m> Player<'_, 'm> {
    /// Tells it one thing, and answers with its answer.
    pub fn play(&mut self, node: &mut Node<'m>, now: Instant, input: &Input<'_>) -> Output {
        match *input {
            Input::Add {
                info_hash,
                total,
                piece_len,
                have,
                uploaded,
            } => match Geometry::new(total, u64::from(piece_len)) {
                Ok(geometry) => Output::Torrent(node.add(info_hash, geometry, have, uploaded)),
                Err(_) => Output::Done,
            },
            Input::Know(info_hash) => Output::Torrent(node.know(info_hash)),
            Input::Wake {
                id,
                total,
                piece_len,
                have,
                uploaded,
            } => match Geometry::new(total, u64::from(piece_len)) {
                Ok(geometry) => {
                    Output::Accepted(node.wake(now, id, geometry, have, uploaded).is_ok())
                }
                Err(_) => Output::Done,
            },
            Input::AddUnknown(info_hash) => Output::Torrent(node.add_unknown(now, info_hash)),
            Input::WakeUnknown(id) => Output::Accepted(node.wake_unknown(now, id).is_ok()),
            Input::BeginContent {
                id,
                total,
                piece_len,
                have,
                uploaded,
            } => match Geometry::new(total, u64::from(piece_len)) {
                Ok(geometry) => {
                    let begun = node.begin_content(now, id, geometry, have, uploaded);
                    Output::Accepted(begun.is_ok())
                }
                Err(_) => Output::Done,
            },
            Input::Sleep(id) => {
                node.sleep(id);
                Output::Done
            }
            Input::AnnounceAnew => {
                node.announce_anew(now);
                Output::Done
            }
            Input::SetLimits(limits) => {
                node.set_limits(now, limits);
                Output::Done
            }
            Input::OfferMetadata(id, len) => {
                node.offer_metadata(id, len);
                Output::Done
            }
            Input::Download(id, wanted, order) => {
                Output::Accepted(node.download(now, id, wanted, order).is_ok())
            }
            Input::Announce(id, tier, trackers) => {
                Output::Accepted(node.announce(now, id, tier, trackers).is_ok())
            }
            Input::Remove(id) => {
                node.remove(now, id);
                Output::Done
            }
            Input::ForgetTrackers(id) => {
                node.forget_trackers(now, id);
                Output::Done
            }
            Input::Publish(id, publicity) => {
                node.publish(now, id, publicity);
                Output::Done
            }
            Input::ReachedAt(addr) => {
                node.reached_at(now, addr);
                Output::Done
            }
            Input::Stop => {
                node.stop(now);
                Output::Done
            }
            Input::Accept(from) => Output::Conn(node.accept(now, from)),
            Input::RecvSpace(id) => Output::Len(len(node.recv_space(id).map_or(0, |s| s.len()))),
            Input::Received(id, bytes) => {
                let space = node.recv_space(id).unwrap_or_default();
                let len = bytes.len().min(space.len());
                space[..len].copy_from_slice(&bytes[..len]);
                node.received(now, id, len);
                Output::Done
            }
            Input::Event(event) => {
                node.event(now, event);
                Output::Done
            }
            Input::Poll => Output::Action(node.poll(now)),
            Input::Transmit(id, room) => {
                let room = self.buffer.len().min(room as usize);
                let mut bodies = Bodies::new();
                Output::Len(len(node.transmit(
                    now,
                    id,
                    &mut self.buffer[..room],
                    &mut bodies,
                )))
            }
            Input::Transmitted(id, len) => {
                node.transmitted(now, id, len as usize);
                Output::Done
            }
            Input::TakeBlock(block) => {
                let taken = node.take_block(block);
                let there = taken.is_some();
                if let Some(place) = self.away.get_mut(usize::from(block.slot)) {
                    *place = taken.or(place.take());
                }
                Output::Accepted(there)
            }
            Input::Written(block, result) => {
                let place = self.away.get_mut(usize::from(block.slot));
                if let Some(bytes) = place.and_then(Option::take) {
                    node.written(block, bytes, result);
                }
                Output::Done
            }
            Input::Tick => {
                node.tick(now);
                Output::Done
            }
            Input::AnnounceByUdp {
                job,
                addrs,
                url_data,
                seed,
            } => Output::Accepted(node.announce_by_udp(now, job, addrs, url_data, seed)),
            Input::Datagram(from, packet) => {
                node.datagram(now, from, packet);
                Output::Done
            }
            Input::PollDatagram(room) => {
                let room = self.buffer.len().min(room as usize);
                let sent = node.poll_datagram(now, &mut self.buffer[..room]);
                Output::Datagram(sent.map(|(to, sent)| (to, len(sent))))
            }
        }
    }
}

/// A length as traces have it.
pub fn len(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
