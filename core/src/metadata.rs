//! Handing out a torrent's `info` to peers that have only its info-hash (BEP 9, `ut_metadata`).
//!
//! A peer asks for pieces of 16 KiB, and gets each after a small dictionary in the same extended
//! message. That is all a magnet link needs of a seed.

use core::fmt::Write as _;

use embedded_io::ErrorType;

use crate::bencode::{Error, Reader, Type};
use crate::text::Bytes;

/// Bytes of every piece of `info` but the last.
pub const METADATA_PIECE: u32 = 16 * 1024;

/// The id by which peers call these messages when they send them to us (BEP 10); it is told in our
/// extended handshake.
pub const OUR_ID: u8 = 1;

/// Reads a message; answers with the piece that is asked for. Other messages concern who downloads,
/// and are `None` as nonsense is.
pub fn decode_request(bytes: &[u8]) -> Option<u32> {
    read(bytes).ok().flatten()
}

fn read(bytes: &[u8]) -> Result<Option<u32>, Error<<&[u8] as ErrorType>::Error>> {
    let (mut kind, mut piece) = (None, None);
    let mut reader: Reader<_> = Reader::new(bytes);
    let mut room = [0; 16];
    reader.dict()?;
    while let Some(key) = reader.key(&mut room)? {
        match (key, reader.peek()?) {
            (b"msg_type", Type::Integer) => kind = Some(reader.integer_clamped()?),
            (b"piece", Type::Integer) => piece = u32::try_from(reader.integer_clamped()?).ok(),
            _ => {}
        }
    }
    Ok(piece.filter(|_| kind == Some(REQUEST)))
}

/// The dictionary of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The piece's bytes follow.
    Data {
        /// Which one.
        piece: u32,
        /// Bytes of the whole `info`.
        total_size: u32,
    },
    /// There is no such piece.
    Reject {
        /// Which one.
        piece: u32,
    },
}

/// The longest [`Reply`] in bytes.
pub const REPLY_MAX: usize = 64;

impl Reply {
    /// Writes the dictionary; answers with its length in bytes, or `None` when `out` has no room.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Bytes::new(out);
        match self {
            Reply::Data { piece, total_size } => {
                let kind = DATA;
                write!(out, "d8:msg_typei{kind}e5:piecei{piece}e").ok()?;
                write!(out, "10:total_sizei{total_size}ee").ok()?;
            }
            Reply::Reject { piece } => {
                write!(out, "d8:msg_typei{REJECT}e5:piecei{piece}ee").ok()?;
            }
        }
        Some(out.len())
    }
}

const REQUEST: i64 = 0;
const DATA: i64 = 1;
const REJECT: i64 = 2;

/// Bytes of a piece of an `info` of `total_size` bytes; `None` if there is no such piece.
pub fn piece_len(total_size: u32, piece: u32) -> Option<u32> {
    let start = piece.checked_mul(METADATA_PIECE)?;
    let rest = total_size.checked_sub(start).filter(|&rest| rest > 0)?;
    Some(rest.min(METADATA_PIECE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn requests() {
        let cases: [(&[u8], Option<u32>); 8] = [
            (b"d8:msg_typei0e5:piecei3ee", Some(3)),
            (b"d5:piecei3e8:msg_typei0ee", Some(3)),
            (b"d8:msg_typei0e5:piecei3e1:x1:yetail", Some(3)),
            (b"d8:msg_typei1e5:piecei3e10:total_sizei9ee", None),
            (b"d8:msg_typei0e5:piecei-1ee", None),
            (b"d8:msg_typei0ee", None),
            (b"d5:piecei3ee", None),
            (b"le", None),
        ];
        for (bytes, piece) in cases {
            assert_eq!(decode_request(bytes), piece, "{bytes:?}");
        }
        let mut rng = Rng::new(2);
        for _ in 0..5000 {
            let mut bytes = *b"d8:msg_typei0e5:piecei3ee";
            let at = rng.below(25) as usize;
            bytes[at] = rng.bits32() as u8;
            let end = 1 + rng.below(25) as usize;
            decode_request(&bytes[..end]);
        }
    }

    #[test]
    fn replies() {
        let mut out = [0; REPLY_MAX];
        let data = Reply::Data {
            piece: 1,
            total_size: 20_000,
        };
        let len = data.encode(&mut out).unwrap();
        assert_eq!(
            &out[..len],
            b"d8:msg_typei1e5:piecei1e10:total_sizei20000ee"
        );
        let longest = Reply::Data {
            piece: u32::MAX,
            total_size: u32::MAX,
        };
        assert!(longest.encode(&mut out).is_some());
        let len = Reply::Reject { piece: 7 }.encode(&mut out).unwrap();
        assert_eq!(&out[..len], b"d8:msg_typei2e5:piecei7ee");
        assert_eq!(data.encode(&mut out[..10]), None);
    }

    #[test]
    fn pieces() {
        let table = [
            (20_000, 0, Some(16_384)),
            (20_000, 1, Some(3_616)),
            (20_000, 2, None),
            (16_384, 1, None),
            (0, 0, None),
            (u32::MAX, u32::MAX, None),
        ];
        for (total, piece, len) in table {
            assert_eq!(piece_len(total, piece), len);
        }
    }
}
