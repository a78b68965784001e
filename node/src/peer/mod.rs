//! One connection: who is at the other end, what was said, what is owed.
//!
//! Invariants: the slot's id is good for one tenancy; a slot in `State::Free` is in no list; a
//! connection that is `Open` belongs to a torrent.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use everseed_core::geometry::{BlockRef, PieceIndex, TorrentId};
use everseed_core::time::Instant;
use everseed_core::wire::{Decoder, Features, Handshake, PeerId, WireError};
use serde::{Deserialize, Serialize};

use crate::download::availability::Has;
use crate::download::pending_blocks;
use crate::swarm::outbound::Outbox;
use crate::upload::request_queue::{List, NONE};

/// A connection's slot and the tenancy that it was given for; a stale id matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct ConnId {
    /// Index of the slot, below the number of slots lent: hosts may index their sockets by it.
    pub slot: u16,
    /// How often the slot had been let before.
    pub tenancy: u16,
}

/// A lent slot for one connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) tenancy: u16,
    pub(crate) state: State,
    pub(crate) addr: SocketAddr,
    /// Whether the peer dialled us.
    pub(crate) incoming: bool,
    /// The port on which it says that it can be called, if it dialled us (BEP 10); 0 if untold.
    pub(crate) listens: u16,
    /// Its place among the candidates, if we dialled it or were told to.
    pub(crate) candidate: Option<u16>,
    pub(crate) torrent: Option<TorrentId>,
    pub(crate) peer_id: PeerId,
    /// What both sides support.
    pub(crate) features: Features,

    pub(crate) hello: [u8; Handshake::LEN],
    pub(crate) handshake_len: u8,
    pub(crate) decoder: Decoder,
    pub(crate) payload: Payload,

    /// Whether it wants what we have.
    pub(crate) interested: bool,
    /// Pieces that it has.
    pub(crate) have: u32,
    /// The id by which it wants the messages of BEP 9; 0 for not at all.
    pub(crate) ut_metadata: u8,
    /// Pieces of `info` that it has asked for.
    pub(crate) metadata_asked: u32,
    /// Whether it said that it will never download (BEP 21).
    pub(crate) upload_only: bool,

    /// Which pieces it has, while the torrent is downloaded.
    pub(crate) has: Has,
    /// Whether it serves us.
    pub(crate) unchoked_us: bool,
    /// Whether it has what we want; `outbox` knows what it was told.
    pub(crate) wants: bool,
    /// Blocks asked of it.
    pub(crate) pending: pending_blocks::List,
    /// The pending block whose block it sends.
    pub(crate) arriving: u16,
    /// The piece in progress that it was asked for last.
    pub(crate) partial: u16,
    /// How many blocks to ask it for at a time.
    pub(crate) pipeline: u16,
    /// How many requests it keeps (BEP 10).
    pub(crate) reqq: u16,
    /// Blocks that may come though we do not wait for them any more.
    pub(crate) excused: u16,
    /// Bytes that came besides blocks.
    pub(crate) talked: u64,
    /// Bytes that came unasked.
    pub(crate) unasked: u32,
    /// Requests to take back.
    pub(crate) cancels: heapless::Vec<BlockRef, CANCELS>,
    /// Pieces that it serves though it chokes us (BEP 6), and one that it suggests.
    pub(crate) allowed: heapless::Vec<u32, ALLOWED>,
    pub(crate) suggested: Option<u32>,
    /// A piece to suggest to it, and the one that it was told last.
    pub(crate) hint: Option<u32>,
    pub(crate) hinted: Option<u32>,
    /// Bytes of blocks that came from it, and how many at the last choking rounds.
    pub(crate) downloaded: u64,
    pub(crate) downloaded_before: [u64; 2],
    /// `downloaded` at the last sweep.
    pub(crate) downloaded_swept: u64,
    /// Whether it has not sent for long what it was asked for.
    pub(crate) snubbed: bool,
    /// Whether it is so slow that it has no share of the blocks, and whether it was asked for some and sent
    /// none since.
    pub(crate) slow: bool,
    pub(crate) owes: bool,
    /// Good pieces that its address had a share in.
    pub(crate) good: u32,
    /// How much it took back of what it had offered, see `serving_us`.
    pub(crate) retractions: u8,
    /// When a block came from it last, or when it was asked after a pause.
    pub(crate) last_block_at: Instant,

    /// Whether we serve it; `outbox` knows what it was told.
    pub(crate) unchoked: bool,
    pub(crate) optimistic: bool,
    /// Slots that its address has, for the choker.
    pub(crate) unchoked_from_same_ip: u16,
    /// When `unchoked` changed last, or when it became interested.
    pub(crate) since: Instant,
    pub(crate) requests: List,
    pub(crate) outbox: Outbox,
    /// Whether reading waits until some request is served.
    pub(crate) full: bool,
    /// Pieces whose last blocks went out lately, and when the latest did; see `suspicion`.
    pub(crate) given: [u32; GIVEN],
    pub(crate) given_at: Instant,
    /// The piece that has to be verified before anything more can be sent.
    pub(crate) awaits: Option<PieceIndex>,

    pub(crate) opened: Instant,
    pub(crate) heard: Instant,
    /// When bytes were sent last, or when there began to be something to send.
    pub(crate) sent: Instant,
    pub(crate) uploaded: u64,
    /// `uploaded` at the last choking round.
    pub(crate) uploaded_before: u64,

    /// The next connection that waits for `poll`.
    pub(crate) next_due: u16,
    pub(crate) due: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// No connection.
    Free,
    /// The host is to dial.
    Dial,
    /// The host dials.
    Dialling,
    /// Connected; the peer's handshake is not complete.
    Greeting,
    /// It named a torrent that is asleep: the host is to wake it.
    Wake,
    /// The host wakes it.
    Waking,
    /// Both know which torrent it is about.
    Open,
    /// To be dropped by the host.
    Closing(Reason),
}

/// What the payload that passes through is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payload {
    Skip,
    Bitfield {
        at: u32,
    },
    /// An extended message for this id (BEP 10), of which so many bytes have passed.
    Extended {
        id: u8,
        at: u32,
    },
    /// The block of the pending block that arrives.
    Block,
    /// A block that nobody waits for.
    Unasked,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// The host said that it is gone.
    Gone,
    /// The bytes are no BitTorrent.
    NotBitTorrent,
    /// It asked for a torrent that is not served here.
    UnknownTorrent,
    /// It is this node itself.
    Ourselves,
    /// The same peer is connected already.
    Duplicate,
    /// Neither side needs anything of the other.
    BothSeeds,
    /// A malformed message.
    Wire(WireError),
    /// A bitfield of another torrent's size.
    BadBitfield,
    /// A message of an extension that was not agreed on, or an index that does not exist.
    BadMessage,
    /// It sends blocks that it was not asked for.
    Unasked,
    /// It sent bad pieces.
    BadPieces,
    /// A request for what does not exist or is longer than a block.
    BadRequest,
    /// A request for a piece that is not here, from a peer that understands no reject.
    MissingPiece,
    /// It did not finish its handshake in time.
    SlowHandshake,
    /// Nothing came for minutes.
    Idle,
    /// It asks but does not read what is sent.
    Stalled,
    /// Somebody who needs it more gets the place.
    Crowded,
    /// The torrent was removed, or cannot be read now.
    TorrentGone,
    /// The node stops.
    Stopping,
    /// The torrent went to sleep, or could not be woken.
    Asleep,
    /// It says much that is of no use.
    Talk,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Gone => "it hung up",
            Reason::NotBitTorrent => "it speaks no BitTorrent",
            Reason::UnknownTorrent => "it wants a torrent that is not served here",
            Reason::Ourselves => "it is this node itself",
            Reason::Duplicate => "it is connected already",
            Reason::BothSeeds => "neither side needs anything",
            Reason::Wire(error) => return error.fmt(f),
            Reason::BadBitfield => "its bitfield does not fit the torrent",
            Reason::BadMessage => "it sent a message that makes no sense here",
            Reason::Unasked => "it sends blocks that it was not asked for",
            Reason::BadPieces => "what it sent did not have the right hash",
            Reason::BadRequest => "it asked for something that does not exist",
            Reason::MissingPiece => "it asked for a piece that is missing here",
            Reason::SlowHandshake => "its handshake did not come in time",
            Reason::Idle => "it was silent for too long",
            Reason::Stalled => "it does not read what it asked for",
            Reason::Crowded => "its place was needed for another peer",
            Reason::TorrentGone => "its torrent is not served any more",
            Reason::Stopping => "everseed stops",
            Reason::Talk => "it talks without end",
            Reason::Asleep => "its torrent is asleep, and cannot be woken now",
        })
    }
}

/// Requests to take back that are remembered; what was asked beyond them just comes.
pub(crate) const CANCELS: usize = 4;

/// Pieces whose last blocks went out that are remembered, and what stands for none.
pub(crate) const GIVEN: usize = 4;
pub(crate) const NO_PIECE: u32 = u32::MAX;

/// Pieces allowed fast that are remembered.
const ALLOWED: usize = 8;

/// Blocks that are asked for at once, to begin with and at least.
pub(crate) const PIPELINE_MIN: u16 = 4;

/// How many requests a peer keeps that does not say so.
const REQQ_UNTOLD: u16 = 250;

impl Conn {
    /// An unused slot.
    pub(crate) const EMPTY: Conn = Conn {
        tenancy: 0,
        state: State::Free,
        addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        incoming: false,
        listens: 0,
        candidate: None,
        torrent: None,
        peer_id: [0; 20],
        features: Features {
            fast: false,
            extended: false,
            dht: false,
        },
        hello: [0; Handshake::LEN],
        handshake_len: 0,
        decoder: Decoder::new(),
        payload: Payload::Skip,
        interested: false,
        have: 0,
        ut_metadata: 0,
        metadata_asked: 0,
        upload_only: false,
        has: Has::Nothing,
        unchoked_us: false,
        wants: false,
        pending: pending_blocks::List::EMPTY,
        arriving: NONE,
        partial: NONE,
        pipeline: PIPELINE_MIN,
        reqq: REQQ_UNTOLD,
        excused: 0,
        talked: 0,
        unasked: 0,
        cancels: heapless::Vec::new(),
        allowed: heapless::Vec::new(),
        suggested: None,
        hint: None,
        hinted: None,
        downloaded: 0,
        downloaded_before: [0; 2],
        downloaded_swept: 0,
        snubbed: false,
        slow: false,
        owes: false,
        good: 0,
        retractions: 0,
        last_block_at: Instant::ZERO,
        unchoked: false,
        optimistic: false,
        unchoked_from_same_ip: 0,
        since: Instant::ZERO,
        requests: List::EMPTY,
        outbox: Outbox::NEW,
        full: false,
        given: [NO_PIECE; GIVEN],
        given_at: Instant::ZERO,
        awaits: None,
        opened: Instant::ZERO,
        heard: Instant::ZERO,
        sent: Instant::ZERO,
        uploaded: 0,
        uploaded_before: 0,
        next_due: NONE,
        due: false,
    };

    /// Whether there is a socket, or soon will be.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, State::Free | State::Closing(_))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it called us and has not finished its handshake.
    pub(crate) fn is_silent_caller(&self) -> bool {
        self.incoming && self.state == State::Greeting
    }

    /// Whether it has a share of the blocks that are on their way.
    pub(crate) fn shares(&self) -> bool {
        self.is_open() && self.unchoked_us && self.wants && !self.snubbed && !self.slow
    }

    /// Bytes of blocks that came from it in the last two choking rounds.
    pub(crate) fn recent(&self) -> u64 {
        self.downloaded - self.downloaded_before[0]
    }

    /// Where it can be called, as far as we know.
    pub(crate) fn callable(&self) -> Option<SocketAddr> {
        let port = match self.incoming {
            true => self.listens,
            false => self.addr.port(),
        };
        (port > 0).then(|| SocketAddr::new(self.addr.ip().to_canonical(), port))
    }
}

const _: () = assert!(size_of::<Conn>() <= 640);
