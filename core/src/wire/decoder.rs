//! [`Decoder`]: cuts the bytes of a connection into messages and their payloads.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::geometry::BlockRef;
use crate::wire::id;
use crate::wire::id::{fixed_len, is_known};
use crate::wire::message::{HEAD, Message};

/// The longest message that is accepted, bitfields aside, in bytes after the length prefix: 1 MiB.
pub const MAX_MESSAGE: u32 = 1 << 20;

/// The fault of a byte stream, after which the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WireError {
    /// A message that has another length than its id demands.
    Length {
        /// The message's id.
        id: u8,
        /// The length that it came with.
        len: u32,
    },
    /// A message longer than [`MAX_MESSAGE`].
    TooLong {
        /// The message's id.
        id: u8,
        /// The length that it came with.
        len: u32,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Length { id, len } => write!(f, "message {id} with impossible length {len}"),
            WireError::TooLong { id, len } => write!(f, "message {id} of {len} bytes is too long"),
        }
    }
}

/// One step of decoding: a message head, or bytes of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'b> {
    /// A message; if it has a payload, that follows as [`Item::Payload`].
    Message(Message),
    /// The next bytes of the last message's payload.
    Payload {
        /// At least one byte.
        bytes: &'b [u8],
        /// Whether the payload ends with them.
        last: bool,
    },
}

/// Cuts a byte stream, in any split, into messages.
///
/// Invariant: `have <= 17`, and while `payload > 0` the head is empty.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    head: [u8; HEAD],
    have: u8,
    payload: u32,
}

impl Decoder {
    /// A decoder at the start of a message.
    pub const fn new() -> Decoder {
        Decoder {
            head: [0; HEAD],
            have: 0,
            payload: 0,
        }
    }

    /// The next item; the bytes that it took are gone from the front of `input`. `None` when
    /// `input` is used up.
    pub fn next<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<Item<'b>>, WireError> {
        if self.payload > 0 {
            return Ok(self.pass(input));
        }
        let Some(len) = self.number(input) else {
            return Ok(None);
        };
        if len == 0 {
            self.have = 0;
            return Ok(Some(Item::Message(Message::KeepAlive)));
        }
        if !self.fill(input, 5) {
            return Ok(None);
        }
        let [_, _, _, _, id, ..] = self.head;
        let fixed = fixed_len(id);
        let has_payload = matches!(id, 5 | 7 | 20) || !is_known(id);
        let Some(payload) = len.checked_sub(1).and_then(|rest| rest.checked_sub(fixed)) else {
            return Err(WireError::Length { id, len });
        };
        if payload > 0 && !has_payload {
            return Err(WireError::Length { id, len });
        }
        // A bitfield is as long as the torrent demands, which the caller knows.
        if len > MAX_MESSAGE && id != id::BITFIELD {
            return Err(WireError::TooLong { id, len });
        }
        if !self.fill(input, fixed.saturating_add(5) as usize) {
            return Ok(None);
        }
        let message = self.message(id, payload);
        self.have = 0;
        self.payload = payload;
        Ok(Some(Item::Message(message)))
    }

    /// Bytes of an unfinished head that are kept here.
    pub fn held(&self) -> usize {
        usize::from(self.have)
    }

    /// Bytes of the current payload that are still to come.
    pub fn payload_left(&self) -> u32 {
        self.payload
    }

    /// Notes that so many bytes of the current payload went elsewhere; answers whether it is complete.
    pub fn passed(&mut self, len: usize) -> bool {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.payload = self.payload.saturating_sub(len);
        self.payload == 0
    }

    /// The next slice of a payload.
    fn pass<'b>(&mut self, input: &mut &'b [u8]) -> Option<Item<'b>> {
        let len = input.len().min(self.payload as usize);
        let (bytes, rest) = input.split_at_checked(len)?;
        if bytes.is_empty() {
            return None;
        }
        *input = rest;
        self.payload = self
            .payload
            .saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
        Some(Item::Payload {
            bytes,
            last: self.payload == 0,
        })
    }

    fn number(&mut self, input: &mut &[u8]) -> Option<u32> {
        self.fill(input, 4).then(|| u32_at(&self.head, 0))
    }

    /// Moves bytes into the head until it holds `need`.
    fn fill(&mut self, input: &mut &[u8], need: usize) -> bool {
        let have = usize::from(self.have);
        let missing = need.saturating_sub(have).min(input.len());
        if let Some((bytes, rest)) = input.split_at_checked(missing) {
            for (to, from) in self.head.iter_mut().skip(have).zip(bytes) {
                *to = *from;
                self.have = self.have.saturating_add(1);
            }
            *input = rest;
        }
        usize::from(self.have) >= need
    }

    fn message(&self, id: u8, payload: u32) -> Message {
        let block = |len| BlockRef {
            index: u32_at(&self.head, 5),
            begin: u32_at(&self.head, 9),
            len,
        };
        let exact = || block(u32_at(&self.head, 13));
        match id {
            id::CHOKE => Message::Choke,
            id::UNCHOKE => Message::Unchoke,
            id::INTERESTED => Message::Interested,
            id::NOT_INTERESTED => Message::NotInterested,
            id::HAVE => Message::Have(u32_at(&self.head, 5)),
            id::BITFIELD => Message::Bitfield { len: payload },
            id::REQUEST => Message::Request(exact()),
            id::PIECE => Message::Piece(block(payload)),
            id::CANCEL => Message::Cancel(exact()),
            id::PORT => {
                let [_, _, _, _, _, high, low, ..] = self.head;
                Message::Port(u16::from_be_bytes([high, low]))
            }
            id::SUGGEST => Message::Suggest(u32_at(&self.head, 5)),
            id::HAVE_ALL => Message::HaveAll,
            id::HAVE_NONE => Message::HaveNone,
            id::REJECT => Message::Reject(exact()),
            id::ALLOWED_FAST => Message::AllowedFast(u32_at(&self.head, 5)),
            id::EXTENDED => {
                let [_, _, _, _, _, extended, ..] = self.head;
                Message::Extended {
                    id: extended,
                    len: payload,
                }
            }
            _ => Message::Unknown { id, len: payload },
        }
    }
}

fn u32_at(bytes: &[u8; HEAD], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::vec::Vec;

    const B: BlockRef = BlockRef {
        index: 1,
        begin: 0x0001_0000,
        len: 0x4000,
    };

    /// Every message with the bytes that BEP 3, 5, 6 and 10 prescribe for its head.
    fn table() -> Vec<(Message, Vec<u8>)> {
        let block = [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0x40, 0];
        let with = |head: &[u8]| head.iter().chain(&block).copied().collect::<Vec<u8>>();
        std::vec![
            (Message::KeepAlive, [0; 4].to_vec()),
            (Message::Choke, [0, 0, 0, 1, 0].to_vec()),
            (Message::Unchoke, [0, 0, 0, 1, 1].to_vec()),
            (Message::Interested, [0, 0, 0, 1, 2].to_vec()),
            (Message::NotInterested, [0, 0, 0, 1, 3].to_vec()),
            (Message::Have(258), [0, 0, 0, 5, 4, 0, 0, 1, 2].to_vec()),
            (Message::Bitfield { len: 2 }, [0, 0, 0, 3, 5].to_vec()),
            (Message::Request(B), with(&[0, 0, 0, 13, 6])),
            (
                Message::Piece(B),
                [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 1, 0, 0].to_vec()
            ),
            (Message::Cancel(B), with(&[0, 0, 0, 13, 8])),
            (Message::Port(6881), [0, 0, 0, 3, 9, 0x1a, 0xe1].to_vec()),
            (Message::Suggest(3), [0, 0, 0, 5, 13, 0, 0, 0, 3].to_vec()),
            (Message::HaveAll, [0, 0, 0, 1, 14].to_vec()),
            (Message::HaveNone, [0, 0, 0, 1, 15].to_vec()),
            (Message::Reject(B), with(&[0, 0, 0, 13, 16])),
            (
                Message::AllowedFast(9),
                [0, 0, 0, 5, 17, 0, 0, 0, 9].to_vec()
            ),
            (
                Message::Extended { id: 3, len: 4 },
                [0, 0, 0, 6, 20, 3].to_vec()
            ),
            (
                Message::Unknown { id: 200, len: 0 },
                [0, 0, 0, 1, 200].to_vec()
            ),
        ]
    }

    /// Decodes `stream` cut into slices of `step` bytes; payloads are joined.
    fn decode(stream: &[u8], step: usize) -> Result<(Vec<Message>, Vec<u8>), WireError> {
        let (mut messages, mut payload) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::new();
        for mut slice in stream.chunks(step) {
            while let Some(item) = decoder.next(&mut slice)? {
                match item {
                    Item::Message(message) => messages.push(message),
                    Item::Payload { bytes, last } => {
                        payload.extend_from_slice(bytes);
                        assert_eq!(last, decoder.payload_left() == 0);
                    }
                }
            }
            assert!(slice.is_empty());
        }
        Ok((messages, payload))
    }

    #[test]
    fn every_message_both_ways_in_any_split() {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (message, bytes) in table() {
            assert_eq!(message.encode().bytes(), bytes, "{message:?}");
            assert_eq!(message.head_len() as usize, bytes.len(), "{message:?}");
            stream.extend_from_slice(&bytes);
            stream.extend((0..message.payload()).map(|i| i as u8));
            expected.push(message);
        }
        let (messages, payload) = decode(&stream, stream.len()).unwrap();
        assert_eq!(messages, expected);
        for step in 1..40 {
            assert_eq!(
                decode(&stream, step),
                Ok((expected.clone(), payload.clone())),
                "{step}"
            );
        }
    }

    #[test]
    fn impossible_lengths() {
        let cases: [(&[u8], WireError); 8] = [
            (&[0, 0, 0, 2, 0, 0], WireError::Length { id: 0, len: 2 }),
            (
                &[0, 0, 0, 4, 4, 0, 0, 0],
                WireError::Length { id: 4, len: 4 },
            ),
            (&[0, 0, 0, 12, 6], WireError::Length { id: 6, len: 12 }),
            (&[0, 0, 0, 14, 6], WireError::Length { id: 6, len: 14 }),
            (&[0, 0, 0, 8, 7], WireError::Length { id: 7, len: 8 }),
            (&[0, 0, 0, 1, 20], WireError::Length { id: 20, len: 1 }),
            (
                &[0xff, 0xff, 0xff, 0xff, 7],
                WireError::TooLong {
                    id: 7,
                    len: u32::MAX,
                },
            ),
            (
                &[0x7f, 0, 0, 0, 99],
                WireError::TooLong {
                    id: 99,
                    len: 0x7f00_0000,
                },
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(decode(bytes, 3), Err(error));
        }
        assert!(
            decode(&[0x00, 0x20, 0, 0, 5], 5).is_ok(),
            "bitfields may be long"
        );
    }

    #[test]
    fn noise_neither_panics_nor_sticks() {
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            let mut noise = [0u8; 64];
            rng.fill(&mut noise);
            // Small lengths, so that the noise gets past the first head.
            for i in [0, 1, 2, 17, 18, 19] {
                noise[i] = 0;
            }
            let step = 1 + rng.below(64) as usize;
            let _ = decode(&noise, step);
        }
    }
}
