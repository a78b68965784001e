//! The HTTP tracker protocol: the query of an announce, and the answer to it (BEP 3, 7, 23, 31).
//!
//! [`write_url`] adds an announce to a tracker's URL, [`Response::read`] reads the body of the answer. The host does
//! the HTTP itself.

mod query;
mod response;

pub use query::{percent_decode, percent_encode, write_url};
pub use response::{Peer, Response, ResponseError};
