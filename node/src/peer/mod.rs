//! One peer's connection, made of parts: what the socket carries, what we upload on it, what we download
//! from it, and the extensions that both sides speak.
//!
//! Invariants: a slot's id is good for one tenancy; a slot in `LinkState::Free` is in no list; a connection that
//! is `Open` belongs to a torrent.

mod conn;
mod download;
mod extensions;
mod link;
pub(crate) mod outbox;
mod peers;
mod reason;
mod upload;

pub use crate::peer::conn::ConnId;
pub(crate) use crate::peer::conn::{Conn, origin};
pub(crate) use crate::peer::download::{Has, PIPELINE_MIN};
pub(crate) use crate::peer::link::{LinkState, Payload};
pub(crate) use crate::peer::peers::Peers;
pub use crate::peer::reason::Reason;
pub(crate) use crate::peer::upload::NO_PIECE;
