//! The peer wire protocol: handshake and messages (BEP 3), Fast extension (BEP 6), extended messages (BEP 10).
//!
//! [`Decoder`] takes the byte stream in any split and gives back [`Item`]s. It holds one message
//! head of at most 17 bytes and no payload: a block, a bitfield or an extended message passes
//! through in whatever slices the bytes arrived. [`Message::encode`] is the way back; payloads are
//! sent by the caller after the head.
//!
//! Only what needs no torrent is checked here: ids, lengths, the handshake's
//! magic. Indices are still bare numbers; [`Geometry`](crate::geometry::Geometry) turns them into
//! valid ones.

mod decoder;
mod handshake;
mod id;
mod message;

pub use decoder::{Decoder, Item, MAX_MESSAGE, WireError};
pub use handshake::{Features, Handshake, PROTOCOL, PeerId};
pub use message::{Head, Message};
