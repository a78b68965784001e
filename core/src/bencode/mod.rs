//! Bencode (BEP 3): integers, byte strings, lists, dictionaries.
//!
//! [`Reader`] pulls a document from a stream or a slice, piece by piece, and holds none of it;
//! [`Writer`] writes the canonical form. Two faults of real torrents are accepted, as
//! other clients accept them: keys that are not sorted, and a key that comes twice, of which the first counts.
//! Everything else that BEP 3 forbids is an error, which has the offset of the fault.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{DEPTH, Error, ErrorKind, Reader, Type};
pub use write::Writer;
