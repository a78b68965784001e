//! Bencode (BEP 3): integers, byte strings, lists, dictionaries.
//!
//! [`Reader`] pulls a document from a stream or a slice, piece by piece, and holds none of it;
//! [`Writer`] writes the canonical form. What real torrents get wrong and other clients accept is
//! accepted: keys that are not sorted, and keys that come twice, of which the first counts. All else
//! that BEP 3 forbids is an error of its own with its place.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{DEPTH, Error, ErrorKind, Reader, Type};
pub use write::Writer;
