//! The types that a host and its node exchange: [`Identity`] and [`Limits`] at the start, then [`Action`]s out,
//! [`Event`]s in, and statistics.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use everseed_core::tracker::Intervals;
use everseed_core::wire::PeerId;
use serde::{Deserialize, Serialize};

use crate::discovery::announcer::{AnnounceId, Job};
use crate::discovery::candidates::PeerSource;
use crate::peer::{ConnId, Reason};

/// The identity of this node on the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its peer id (BEP 20).
    pub peer_id: PeerId,
    /// The TCP port on which it can be reached.
    pub port: u16,
    /// The client's name and version, told to peers (BEP 10, `v`); at most 32 bytes of it.
    pub client: &'static str,
}

/// Limits on what a node uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Peers that are served at a time, at least 1; `None` follows the upload capacity: two blocks a second for
    /// each, up to 64, or the square root of 0.6 times the kB/s. That is 4 to 250, and without an upload limit at
    /// least 8.
    pub slots: Option<u16>,
    /// Peers that are served at a time at most: what the host has memory for.
    pub most_slots: u16,
    /// Connections at a time, at least 1, as far as there is memory. When it is lowered, open connections stay until
    /// a more useful peer comes.
    pub peers: u16,
    /// Bytes of content per second to all peers together; `None` is no limit.
    pub upload_bps: Option<u64>,
    /// Bytes of content per second from all peers together; `None` is no limit.
    pub download_bps: Option<u64>,
}

/// An action that the host is to carry out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Dial this address; answer with [`Event::Connected`] or [`Event::Closed`].
    Connect {
        /// The connection.
        conn: ConnId,
        /// Whom to dial.
        addr: SocketAddr,
    },
    /// There is something to send: if the socket is writable, [`Node::transmit`](crate::Node::transmit).
    Transmit {
        /// The connection.
        conn: ConnId,
    },
    /// There is room again for what this peer sends.
    Receive {
        /// The connection.
        conn: ConnId,
    },
    /// Close the socket. The id is stale from now on.
    Close {
        /// The connection.
        conn: ConnId,
        /// The address of the peer.
        addr: SocketAddr,
        /// Why it ended.
        reason: Reason,
    },
    /// A peer asks for a torrent that is asleep: open it and call [`Node::wake`](crate::Node::wake), or
    /// [`Node::sleep`](crate::Node::sleep) if that cannot be.
    Wake {
        /// The torrent.
        torrent: TorrentId,
    },
    /// Hash a piece, or all of a torrent's metadata while that is fetched. Answer with [`Event::Verified`],
    /// [`Event::Unread`] or [`Event::Unreadable`].
    Verify {
        /// The torrent.
        torrent: TorrentId,
        /// The piece.
        piece: PieceIndex,
        /// Whether to read it from the disk itself, not from a cache: a peer seems to have found it damaged.
        fresh: bool,
    },
    /// Write a received block of a torrent's content, or of its metadata while that is fetched. Take its bytes with
    /// [`Node::take_block`](crate::Node::take_block), and give them back with [`Node::written`](crate::Node::written).
    Write {
        /// The block.
        block: BlockId,
        /// Where it belongs; its bytes are the first `span.len` of the buffer.
        span: Span,
    },
    /// All metadata of a torrent that was added by its info-hash is written and verified: make a torrent of it, and call
    /// [`Node::begin_content`](crate::Node::begin_content).
    Fetched {
        /// The torrent.
        torrent: TorrentId,
        /// Bytes of its `info`.
        len: u32,
    },
    /// Send the packet of [`Node::lsd_packet`](crate::Node::lsd_packet) to the LSD group of each family, by every
    /// interface (BEP 14).
    SendLsd,
    /// Make this announce, with what [`Node::report`](crate::Node::report) says; answer with [`Event::Announced`] or
    /// [`Event::AnnounceFailed`]. If the tracker speaks UDP, [`Node::announce_by_udp`](crate::Node::announce_by_udp)
    /// does the rest.
    Announce(Job),
    /// No node of the DHT answers: resolve the names that the owner gave, and pass their addresses to
    /// [`Node::dht_node`](crate::Node::dht_node). The node asks again later.
    FindDhtNodes,
    /// An announce by UDP has ended; [`Node::udp_outcome`](crate::Node::udp_outcome) has its result, for people to see.
    /// Nothing is left to do.
    UdpAnnounced {
        /// Which.
        id: AnnounceId,
    },
}

/// Something that happened, which the host tells its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event<'a> {
    /// The connection that [`Action::Connect`] asked for is there.
    Connected(ConnId),
    /// A connection could not be made, was closed by the peer, or broke.
    Closed(ConnId),
    /// Whether a piece has the hash that it should have.
    Verified(TorrentId, PieceIndex, bool),
    /// A piece cannot be read. It is neither offered nor downloaded again until it is verified as good.
    Unread(TorrentId, PieceIndex),
    /// A torrent's storage cannot be read: its peers are let go until it is restored.
    Unreadable(TorrentId),
    /// A torrent's storage can be read again, and is as it was.
    Readable(TorrentId),
    /// A torrent's storage was checked anew, and holds this.
    Restored(TorrentId, #[serde(borrow)] Have<'a>),
    /// A torrent's storage was changed by somebody, and presumably holds this. Peers stay; each piece is
    /// verified again before more of it is sent, and all of them one after the other.
    Changed(TorrentId, #[serde(borrow)] Have<'a>),
    /// Pieces that could not be read may be readable again: every piece that is not known to be good is verified, one
    /// after the other; of a download only those that should be there.
    Recheck(TorrentId),
    /// A torrent's storage, which refused a write, may take writes again.
    Writable(TorrentId),
    /// The address of a peer of the torrent, and who named it. One that the user named is called for ever.
    Peer(TorrentId, SocketAddr, PeerSource),
    /// A tracker has answered, and wants to be asked again after so long.
    Announced(AnnounceId, Intervals),
    /// A tracker did not answer, answered nonsense, or refused; it may have said for how long it
    /// does not want to be asked.
    AnnounceFailed(AnnounceId, Option<Duration>),
    /// The host's socket reports that no datagram reaches this address.
    Unreachable(SocketAddr),
}

/// Numbers about a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TorrentStats {
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Bytes of content sent.
    pub uploaded: u64,
    /// Open connections.
    pub conns: u16,
    /// Pieces that peers are told of.
    pub have: u32,
    /// Pieces that were verified.
    pub good: u32,
    /// Whether its storage can be read.
    pub readable: bool,
    /// Bytes of content received, those of bad pieces included.
    pub downloaded: u64,
    /// Wanted pieces, those that are here included.
    pub wanted: u32,
    /// Bytes of wanted pieces that are not there yet.
    pub left: u64,
    /// Downloaded pieces that had a wrong hash.
    pub bad_pieces: u32,
    /// Why nothing is asked for, if writing failed.
    pub refused: Option<StorageError>,
}

/// How far the metadata of a torrent is that was added by its info-hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MetadataStats {
    /// Connected peers of the torrent.
    pub peers: u16,
    /// The number of them that hand out its metadata.
    pub offers: u16,
    /// The largest size that one of them told and that was refused: it is above
    /// [`METADATA_MAX`](everseed_core::metadata::METADATA_MAX), or there is no memory for it. 0 for none.
    pub too_large: u32,
    /// The size that is tried in bytes; 0 for none yet.
    pub size: u32,
    /// Blocks of 16 KiB that are not here yet.
    pub missing: u32,
    /// Copies that were whole and had not the right hash.
    pub bad_copies: u32,
    /// Why nothing is asked for, if writing failed.
    pub refused: Option<StorageError>,
}

/// The pieces that a download lacks and no connected peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Pieces that are wanted and missing.
    pub pieces: u32,
    /// The first of them.
    pub first: PieceIndex,
    /// Connected peers of the torrent.
    pub peers: u16,
}

/// Which pieces of a torrent are to be downloaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wanted<'a> {
    /// All.
    All,
    /// The pieces whose bit is set, one bit per piece in wire order.
    Some(&'a [u8]),
}

/// In which order pieces are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Order {
    /// The first few at random, then the rarest first: best for the swarm.
    #[default]
    Rarest,
    /// From the first to the last.
    Sequential,
}

/// Why a write failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StorageError {
    /// There is no space left.
    Full,
    /// Anything else.
    Failed,
    /// The pieces from `first` to the one before `end` take no writes, others do. They are not asked
    /// for until [`Node::download`](crate::Node::download) says that they are wanted.
    Pieces {
        /// The first.
        first: u32,
        /// The one after the last.
        end: u32,
    },
}

/// Numbers about the whole node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Connections with a finished handshake.
    pub peers: u16,
    /// The number of them that are interested.
    pub interested: u16,
    /// The number of them that are unchoked.
    pub unchoked: u16,
    /// Bytes of content sent.
    pub uploaded: u64,
    /// Bytes of content received.
    pub downloaded: u64,
    /// Peers that were refused or disconnected because connections or awake torrents were too few, or as they are
    /// banned.
    pub turned_away: u64,
}

/// There is no room for a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AddError {
    /// All torrent slots are taken.
    Torrents,
    /// As many torrents are known, awake or asleep, as there may be.
    Registry,
    /// There is no memory for blocks, or not enough for a piece of this size.
    Blocks,
    /// The memory for bitfields is used up.
    Bits,
    /// The torrent is there already.
    Duplicate,
}

impl core::fmt::Display for AddError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            AddError::Torrents => "there are as many torrents as this node was given room for",
            AddError::Registry => {
                "there are as many torrents, awake or asleep, as this node was given room for"
            }
            AddError::Bits => "no memory is left for the bitfield of another incomplete torrent",
            AddError::Blocks => "there is no memory to download pieces of this size",
            AddError::Duplicate => "this torrent is served already",
        })
    }
}

/// A body for the host to put into the buffer of [`Node::transmit`](crate::Node::transmit).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body {
    /// Which bytes of the torrent it is of.
    pub source: BodySource,
    /// Where the gap for it is, in bytes from the start of the buffer; it is `span.len` long.
    pub at: usize,
    /// Where its message begins in the buffer, or goes on: so many bytes can be sent without this body.
    pub before: usize,
    /// What belongs there.
    pub span: Span,
}

/// What a [`Body`]'s span is a part of: content, or `info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodySource {
    /// Its content.
    Content,
    /// The raw `info` of its torrent file (BEP 9); only of torrents for which
    /// [`Node::offer_metadata`](crate::Node::offer_metadata) was called.
    Info,
}

/// The bodies of one [`Node::transmit`](crate::Node::transmit), in order.
pub type Bodies = heapless::Vec<Body, 16>;

/// Which pieces of a torrent there are when it is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Have<'a> {
    /// None.
    Nothing,
    /// All, and every one was verified.
    All,
    /// Presumably all: each piece is verified before it is first served.
    Unverified,
    /// Presumably these, one bit per piece in wire order, and verified as above.
    Presumed(&'a [u8]),
    /// These, verified, one bit per piece in wire order.
    Some(&'a [u8]),
}
