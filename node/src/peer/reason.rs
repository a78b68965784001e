//! [`Reason`]: why a connection ends.

use core::fmt;

use everseed_core::wire::WireError;
use serde::{Deserialize, Serialize};

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
    /// Another peer needs the place more.
    Crowded,
    /// The torrent was removed, or cannot be read now.
    TorrentGone,
    /// The node stops.
    Stopping,
    /// The torrent went to sleep, or could not be woken.
    Asleep,
    /// It says much that is of no use.
    Talk,
    /// Its torrent is private, and the tracker that named it is not in use any more (BEP 27).
    OtherTracker,
    /// What it said of its pieces before the metadata was here could not be kept: it is called again.
    Unkept,
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
            Reason::OtherTracker => "its torrent is private and has another tracker",
            Reason::Talk => "it talks without end",
            Reason::Unkept => "it said what it has before that could be kept, and is called again",
            Reason::Asleep => "its torrent is asleep, and cannot be woken now",
        })
    }
}
