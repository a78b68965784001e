//! Messages by which a peer that has only the info-hash gets a torrent's `info` (BEP 9, `ut_metadata`).
//!
//! A peer asks for pieces of 16 KiB, and gets each after a small dictionary in the same extended
//! message. That is all a magnet link needs of a seed.

use core::fmt::Write as _;

use embedded_io::ErrorType;

use crate::bencode::{Error, ErrorKind, Reader, Type};
use crate::text::Bytes;

/// Bytes of every piece of `info` but the last.
pub const METADATA_PIECE: u32 = 16 * 1024;

/// The id of these messages when peers send them to us (BEP 10). Our extended handshake names it.
pub const OUR_ID: u8 = 1;

/// The longest dictionary before a piece of `info` that is understood, in bytes.
pub const HEAD_MAX: usize = 256;

/// A `ut_metadata` message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// The request for a piece.
    Request {
        /// The number of the piece, from 0.
        piece: u32,
    },
    /// The bytes of a piece follow the dictionary.
    Data {
        /// The number of the piece, from 0.
        piece: u32,
        /// Bytes of the whole `info`, if the peer says how many.
        total_size: Option<u32>,
    },
    /// The refusal to hand out a piece.
    Reject {
        /// The number of the piece, from 0.
        piece: u32,
    },
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoMessage {
    /// The bytes end too soon.
    Truncated,
    /// The bytes are something else.
    Nonsense,
}

/// Reads a message; answers with it and the length of its dictionary in bytes.
pub fn decode(bytes: &[u8]) -> Result<(Message, usize), NoMessage> {
    match read(bytes) {
        Ok((Some(message), len)) => Ok((message, len)),
        Ok((None, _)) => Err(NoMessage::Nonsense),
        Err(error) if error.kind == ErrorKind::Truncated => Err(NoMessage::Truncated),
        Err(_) => Err(NoMessage::Nonsense),
    }
}

type ReadError = Error<<&'static [u8] as ErrorType>::Error>;

fn read(bytes: &[u8]) -> Result<(Option<Message>, usize), ReadError> {
    let (mut kind, mut piece, mut total_size) = (None, None, None);
    let mut reader: Reader<_> = Reader::new(bytes);
    let mut room = [0; 16];
    reader.dict()?;
    while let Some(key) = reader.key(&mut room)? {
        match (key, reader.peek()?) {
            (b"msg_type", Type::Integer) => kind = Some(reader.integer_clamped()?),
            (b"piece", Type::Integer) => piece = u32::try_from(reader.integer_clamped()?).ok(),
            (b"total_size", Type::Integer) => {
                total_size = u32::try_from(reader.integer_clamped()?).ok();
            }
            _ => {}
        }
    }
    let message = match (kind, piece) {
        (Some(REQUEST), Some(piece)) => Some(Message::Request { piece }),
        (Some(DATA), Some(piece)) => Some(Message::Data { piece, total_size }),
        (Some(REJECT), Some(piece)) => Some(Message::Reject { piece }),
        _ => None,
    };
    Ok((
        message,
        usize::try_from(reader.offset()).unwrap_or(usize::MAX),
    ))
}

/// The longest request in bytes.
pub const REQUEST_MAX: usize = 40;

/// The largest `info` that is fetched: 30 MiB, which is a torrent of some million pieces or files.
pub const METADATA_MAX: u32 = 30 * 1024 * 1024;

/// Writes a request for a piece; answers with its length in bytes, or `None` when `out` has no room.
pub fn encode_request(piece: u32, out: &mut [u8]) -> Option<usize> {
    let mut out = Bytes::new(out);
    write!(out, "d8:msg_typei{REQUEST}e5:piecei{piece}ee").ok()?;
    Some(out.len())
}

/// The dictionary of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The piece's bytes follow.
    Data {
        /// The number of the piece, from 0.
        piece: u32,
        /// Bytes of the whole `info`.
        total_size: u32,
    },
    /// There is no such piece.
    Reject {
        /// The number of the piece, from 0.
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
    fn messages() {
        let request = |piece| Message::Request { piece };
        let data = |piece, total_size| Message::Data { piece, total_size };
        type Read = Result<(Message, usize), NoMessage>;
        let cases: [(&[u8], Read); 13] = [
            (b"d8:msg_typei0e5:piecei3ee", Ok((request(3), 25))),
            (b"d5:piecei3e8:msg_typei0ee", Ok((request(3), 25))),
            (b"d8:msg_typei0e5:piecei3e1:x1:yetail", Ok((request(3), 31))),
            (
                b"d8:msg_typei1e5:piecei3e10:total_sizei9eedata",
                Ok((data(3, Some(9)), 41)),
            ),
            (b"d8:msg_typei1e5:piecei3eed", Ok((data(3, None), 25))),
            (
                b"d8:msg_typei1e5:piecei3e10:total_sizei-9ee",
                Ok((data(3, None), 42)),
            ),
            (
                b"d8:msg_typei2e5:piecei4ee",
                Ok((Message::Reject { piece: 4 }, 25)),
            ),
            (b"d8:msg_typei3e5:piecei4ee", Err(NoMessage::Nonsense)),
            (b"d8:msg_typei0e5:piecei-1ee", Err(NoMessage::Nonsense)),
            (b"d8:msg_typei0ee", Err(NoMessage::Nonsense)),
            (b"d5:piecei3ee", Err(NoMessage::Nonsense)),
            (b"le", Err(NoMessage::Nonsense)),
            (b"", Err(NoMessage::Truncated)),
        ];
        for (bytes, message) in cases {
            assert_eq!(decode(bytes), message, "{bytes:?}");
            for end in 0..message.map_or(0, |(_, len)| len) {
                assert_eq!(decode(&bytes[..end]), Err(NoMessage::Truncated));
            }
        }
        let mut room = [0; REQUEST_MAX];
        let len = encode_request(u32::MAX, &mut room).unwrap();
        assert_eq!(decode(&room[..len]), Ok((request(u32::MAX), len)));
        let mut rng = Rng::new(2);
        for _ in 0..5000 {
            let mut bytes = *b"d8:msg_typei1e5:piecei3e10:total_sizei9ee";
            let at = rng.below(41) as usize;
            bytes[at] = rng.bits32() as u8;
            let end = 1 + rng.below(41) as usize;
            let _ = decode(&bytes[..end]);
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
