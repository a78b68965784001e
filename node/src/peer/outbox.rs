//! [`Outbox`] of a connection: what the peer was told, and how much of the current message is sent.

use everseed_core::geometry::{BlockRef, PieceIndex};

/// A message that can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Out {
    Handshake,
    HaveAll,
    HaveNone,
    Bitfield,
    Extended,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Request(BlockRef),
    Cancel(BlockRef),
    Suggest(u32),
    Reject(BlockRef),
    Piece(BlockRef),
    /// A request for a piece of `info` (BEP 9).
    MetadataRequest(u32),
    /// A piece of `info`, or a reject if there is none of that number.
    Metadata(u32),
    /// Where other peers can be called.
    Peers,
    /// Where our node of the DHT is (BEP 5).
    Port,
    KeepAlive,
}

/// The messages that were sent so far.
///
/// Invariant: `done > 0` only while `current` is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbox {
    pub(crate) stage: Stage,
    pub(crate) told_unchoked: bool,
    /// Whether it is to be told of a choke, even if it is unchoked again.
    pub(crate) owes_choke: bool,
    pub(crate) told_interested: bool,
    /// Whether it is to have another extension handshake, as there is more to say now (BEP 10).
    pub(crate) owes_extended: bool,
    /// Whether it is to be told where our node of the DHT is.
    pub(crate) owes_port: bool,
    /// The place in the log of verified pieces up to which it was sent a `have` for each.
    pub(crate) have_log_at: u32,
    /// If the log has lost what it was not sent: the piece from which on it is sent a `have` for each that we have.
    pub(crate) haves_again_from: Option<u32>,
    pub(crate) keep_alive: bool,
    /// The message that has begun, and how many of its bytes are gone.
    pub(crate) current: Option<Out>,
    pub(crate) done: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Handshake,
    Pieces,
    Extended,
    Ready,
}

impl Outbox {
    pub(crate) const NEW: Outbox = Outbox {
        stage: Stage::Handshake,
        told_unchoked: false,
        owes_choke: false,
        told_interested: false,
        owes_extended: false,
        owes_port: false,
        have_log_at: 0,
        haves_again_from: None,
        keep_alive: false,
        current: None,
        done: 0,
    };

    /// Notes that the peer was choked: what it asked for is not served, and it must know.
    pub(crate) fn choked(&mut self) {
        self.owes_choke = self.told_unchoked;
    }

    /// Whether a block of this piece has begun and is not finished.
    pub(crate) fn is_sending(&self, piece: PieceIndex) -> bool {
        matches!(self.current, Some(Out::Piece(block)) if block.index == piece.get())
    }

    /// Whether a message has begun and is not finished.
    pub(crate) fn mid_message(&self) -> bool {
        self.current.is_some()
    }
}
