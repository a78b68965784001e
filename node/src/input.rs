//! [`Input`]: every call that changes a node, as a value; and [`Output`], its answer.
//!
//! A host that records them has a [trace](crate::trace): a node that gets the same inputs gives the same outputs.

use core::net::SocketAddr;

use everseed_core::geometry::{Geometry, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use serde::{Deserialize, Serialize};

use crate::api::{Action, AddError, Event, Have, Limits, Order, StorageError, Wanted};
use crate::discovery::announcer::Job;
use crate::discovery::dht::Mode as DhtMode;
use crate::peer::ConnId;
use crate::torrent::publicity::Publicity;

/// A call that changes a node. [`Node::input`](crate::Node::input) takes those that move no bytes. The others name the
/// length of the buffer that they fill or empty; the method that each names takes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Input<'a> {
    /// [`Node::add`](crate::Node::add).
    Add {
        /// The torrent.
        info_hash: InfoHash,
        /// How its content is cut.
        geometry: Geometry,
        /// The pieces that are there.
        #[serde(borrow)]
        have: Have<'a>,
        /// Bytes sent before.
        uploaded: u64,
    },
    /// [`Node::know`](crate::Node::know).
    Know(InfoHash),
    /// [`Node::wake`](crate::Node::wake).
    Wake {
        /// The torrent.
        id: TorrentId,
        /// How its content is cut.
        geometry: Geometry,
        /// The pieces that are there.
        #[serde(borrow)]
        have: Have<'a>,
        /// Bytes sent before.
        uploaded: u64,
    },
    /// [`Node::add_unknown`](crate::Node::add_unknown).
    AddUnknown(InfoHash),
    /// [`Node::wake_unknown`](crate::Node::wake_unknown).
    WakeUnknown(TorrentId),
    /// [`Node::begin_content`](crate::Node::begin_content).
    BeginContent {
        /// The torrent.
        id: TorrentId,
        /// How its content is cut.
        geometry: Geometry,
        /// The pieces that are there.
        #[serde(borrow)]
        have: Have<'a>,
        /// Bytes sent before.
        uploaded: u64,
    },
    /// [`Node::sleep`](crate::Node::sleep).
    Sleep(TorrentId),
    /// [`Node::announce_anew`](crate::Node::announce_anew).
    AnnounceAnew,
    /// [`Node::set_limits`](crate::Node::set_limits).
    SetLimits(Limits),
    /// [`Node::offer_metadata`](crate::Node::offer_metadata).
    OfferMetadata(TorrentId, u32),
    /// [`Node::download`](crate::Node::download).
    Download(TorrentId, #[serde(borrow)] Wanted<'a>, Order),
    /// [`Node::announce`](crate::Node::announce).
    Announce(TorrentId, u8, u8),
    /// [`Node::remove`](crate::Node::remove).
    Remove(TorrentId),
    /// [`Node::stop`](crate::Node::stop).
    Stop,
    /// [`Node::accept`](crate::Node::accept).
    Accept(SocketAddr),
    /// [`Node::recv_space`](crate::Node::recv_space).
    RecvSpace(ConnId),
    /// [`Node::received`](crate::Node::received).
    Received(ConnId, &'a [u8]),
    /// [`Node::event`](crate::Node::event).
    Event(#[serde(borrow)] Event<'a>),
    /// [`Node::poll`](crate::Node::poll).
    Poll,
    /// [`Node::transmit`](crate::Node::transmit) into a buffer of so many bytes.
    Transmit(ConnId, u32),
    /// [`Node::transmitted`](crate::Node::transmitted).
    Transmitted(ConnId, u32),
    /// [`Node::take_block`](crate::Node::take_block).
    TakeBlock(BlockId),
    /// [`Node::written`](crate::Node::written).
    Written(BlockId, Result<(), StorageError>),
    /// [`Node::tick`](crate::Node::tick).
    Tick,
    /// [`Node::forget_trackers`](crate::Node::forget_trackers).
    ForgetTrackers(TorrentId),
    /// [`Node::publish`](crate::Node::publish).
    Publish(TorrentId, Publicity),
    /// [`Node::reached_at`](crate::Node::reached_at).
    ReachedAt(SocketAddr),
    /// `Node::lsd_received`.
    LsdReceived(SocketAddr, &'a [u8]),
    /// `Node::renew_lsd`.
    RenewLsd,
    /// [`Node::join_dht`](crate::Node::join_dht).
    JoinDht(DhtMode, [bool; 2], &'a [u8]),
    /// [`Node::dht_node`](crate::Node::dht_node).
    DhtNode(SocketAddr),
    /// [`Node::dht_reachable`](crate::Node::dht_reachable).
    DhtReachable,
    /// [`Node::announce_by_udp`](crate::Node::announce_by_udp).
    AnnounceByUdp {
        /// The job.
        job: Job,
        /// The tracker's addresses, one of each family.
        addrs: [Option<SocketAddr>; 2],
        /// Path and query of its URL.
        url_data: &'a str,
        /// See there.
        seed: u64,
    },
    /// [`Node::datagram`](crate::Node::datagram).
    Datagram(SocketAddr, &'a [u8]),
    /// [`Node::poll_datagram`](crate::Node::poll_datagram) into a buffer of so many bytes.
    PollDatagram(u32),
    /// [`Node::add_second_hash`](crate::Node::add_second_hash).
    AddSecondHash(TorrentId, InfoHash),
}

/// The answer of a node to an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Output {
    /// Nothing, as the call has no answer.
    Done,
    /// A torrent's id, or why there is none.
    Torrent(Result<TorrentId, AddError>),
    /// Whether it could be done.
    Accepted(bool),
    /// Whether there was room for it, or why not.
    Room(Result<(), AddError>),
    /// A connection's id, if there was a place.
    Conn(Option<ConnId>),
    /// So many bytes: of room, or to be sent.
    Len(u32),
    /// What the host is to do.
    Action(Option<Action>),
    /// To whom a datagram goes, and how long it is.
    Datagram(Option<(SocketAddr, u32)>),
}

impl Output {
    /// The answer of what has no answer but whether there was room.
    ///
    /// # Panics
    /// If it is another one's.
    pub fn room(self) -> Result<(), AddError> {
        match self {
            Output::Room(answer) => answer,
            other => panic!("{other:?} is another answer"),
        }
    }

    /// The answer of what adds a torrent.
    ///
    /// # Panics
    /// If it is another one's.
    pub fn torrent(self) -> Result<TorrentId, AddError> {
        match self {
            Output::Torrent(answer) => answer,
            other => panic!("{other:?} is another answer"),
        }
    }
}
