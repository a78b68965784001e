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

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::geometry::BlockRef;
use crate::hash::InfoHash;

/// A peer id (BEP 3, BEP 20): 20 bytes of the client's choice.
pub type PeerId = [u8; 20];

/// The longest message that is accepted, bitfields aside, in bytes after the length prefix: 1 MiB.
pub const MAX_MESSAGE: u32 = 1 << 20;

/// The first message of both sides (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// What the sender supports.
    pub features: Features,
    /// The torrent that this connection is about.
    pub info_hash: InfoHash,
    /// Who is sending.
    pub peer_id: PeerId,
}

/// The reserved bits of a handshake that are understood here; all others are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Fast extension: have-all, have-none, reject (BEP 6).
    pub fast: bool,
    /// Extension protocol: extended messages (BEP 10).
    pub extended: bool,
    /// DHT: the `port` message (BEP 5).
    pub dht: bool,
}

impl Features {
    /// What both sides support.
    pub fn and(self, other: Features) -> Features {
        Features {
            fast: self.fast && other.fast,
            extended: self.extended && other.extended,
            dht: self.dht && other.dht,
        }
    }
}

impl Handshake {
    /// Bytes on the wire.
    pub const LEN: usize = 68;

    /// Reads a handshake; `None` when it is no BitTorrent handshake.
    pub fn decode(bytes: &[u8; Handshake::LEN]) -> Option<Handshake> {
        let (protocol, rest) = bytes.split_first_chunk::<20>()?;
        let (reserved, rest) = rest.split_first_chunk::<8>()?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        if protocol != PROTOCOL {
            return None;
        }
        let [.., extended, _, last] = *reserved;
        let features = Features {
            fast: last & FAST != 0,
            extended: extended & EXTENDED != 0,
            dht: last & DHT != 0,
        };
        let peer_id = *rest.first_chunk::<20>()?;
        Some(Handshake {
            features,
            info_hash: InfoHash(*info_hash),
            peer_id,
        })
    }

    /// Writes a handshake.
    pub fn encode(&self) -> [u8; Handshake::LEN] {
        let bit = |on: bool, mask: u8| if on { mask } else { 0 };
        let extended = bit(self.features.extended, EXTENDED);
        let last = bit(self.features.fast, FAST) | bit(self.features.dht, DHT);
        let reserved = [0, 0, 0, 0, 0, extended, 0, last];
        let fields = PROTOCOL
            .iter()
            .chain(&reserved)
            .chain(&self.info_hash.0)
            .chain(&self.peer_id);
        let mut bytes = [0; Handshake::LEN];
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = *from;
        }
        bytes
    }
}

/// Every handshake starts with this: the length of the name, then the name (BEP 3).
pub const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

const EXTENDED: u8 = 0x10;
const FAST: u8 = 0x04;
const DHT: u8 = 0x01;

/// A message's head. Those with `len` are followed by so many bytes of payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Nothing but a sign of life.
    KeepAlive,
    /// Requests will not be served from now on.
    Choke,
    /// Requests will be served from now on.
    Unchoke,
    /// The sender would request if unchoked.
    Interested,
    /// The sender wants nothing.
    NotInterested,
    /// The sender now has this piece.
    Have(u32),
    /// The pieces that the sender has, `len` bytes of [`bits`](crate::bits).
    Bitfield {
        /// Bytes that follow.
        len: u32,
    },
    /// Asks for a block.
    Request(BlockRef),
    /// A block, of which `len` bytes follow.
    Piece(BlockRef),
    /// Takes a request back.
    Cancel(BlockRef),
    /// The sender's DHT node listens on this UDP port (BEP 5).
    Port(u16),
    /// A piece that would be cheap to send (BEP 6).
    Suggest(u32),
    /// The sender is a seed (BEP 6).
    HaveAll,
    /// The sender has nothing yet (BEP 6).
    HaveNone,
    /// This request will not be served (BEP 6).
    Reject(BlockRef),
    /// This piece is served even while choking (BEP 6).
    AllowedFast(u32),
    /// An extended message (BEP 10).
    Extended {
        /// 0 is the handshake, others as the handshake named them.
        id: u8,
        /// Bytes that follow.
        len: u32,
    },
    /// A message that is not understood and may be skipped.
    Unknown {
        /// The message's id.
        id: u8,
        /// Bytes that follow.
        len: u32,
    },
}

/// A message's head as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    bytes: [u8; HEAD],
    len: u8,
}

impl Head {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// The longest head: `request`, `cancel` and `reject` with their length prefix.
const HEAD: usize = 17;

impl Message {
    /// Bytes of payload that follow the head.
    pub fn payload(&self) -> u32 {
        match *self {
            Message::Piece(block) => block.len,
            Message::Bitfield { len }
            | Message::Extended { len, .. }
            | Message::Unknown { len, .. } => len,
            _ => 0,
        }
    }

    /// Bytes of the head, with its length prefix: 4 to 17.
    pub fn head_len(&self) -> u32 {
        match self {
            Message::KeepAlive => 4,
            _ => fixed_len(self.id()).saturating_add(5),
        }
    }

    /// The head, with a length prefix that counts the payload to come.
    pub fn encode(&self) -> Head {
        // Whatever is shorter than four bytes stands at the front of the first word.
        let [first, second, third] = match *self {
            Message::Have(n) | Message::Suggest(n) | Message::AllowedFast(n) => [n, 0, 0],
            Message::Request(block) | Message::Cancel(block) | Message::Reject(block) => {
                [block.index, block.begin, block.len]
            }
            Message::Piece(block) => [block.index, block.begin, 0],
            Message::Port(port) => [u32::from(port) << 16, 0, 0],
            Message::Extended { id, .. } => [u32::from(id) << 24, 0, 0],
            _ => [0; 3],
        };
        let head_len = self.head_len();
        let prefix = head_len.saturating_sub(4).saturating_add(self.payload());
        let [a, b, c, d] = prefix.to_be_bytes();
        let [e, f, g, h] = first.to_be_bytes();
        let [i, j, k, l] = second.to_be_bytes();
        let [m, n, o, p] = third.to_be_bytes();
        Head {
            bytes: [a, b, c, d, self.id(), e, f, g, h, i, j, k, l, m, n, o, p],
            len: u8::try_from(head_len).unwrap_or(0),
        }
    }

    fn id(&self) -> u8 {
        match *self {
            Message::Choke => id::CHOKE,
            Message::Unchoke => id::UNCHOKE,
            Message::Interested => id::INTERESTED,
            Message::NotInterested => id::NOT_INTERESTED,
            Message::Have(_) => id::HAVE,
            Message::Bitfield { .. } => id::BITFIELD,
            Message::Request(_) => id::REQUEST,
            Message::Piece(_) => id::PIECE,
            Message::Cancel(_) => id::CANCEL,
            Message::Port(_) => id::PORT,
            Message::Suggest(_) => id::SUGGEST,
            Message::HaveAll => id::HAVE_ALL,
            Message::HaveNone => id::HAVE_NONE,
            Message::Reject(_) => id::REJECT,
            Message::AllowedFast(_) => id::ALLOWED_FAST,
            Message::Extended { .. } => id::EXTENDED,
            Message::Unknown { id, .. } => id,
            // It has none; what is written in its place is not sent.
            Message::KeepAlive => 0,
        }
    }

    /// Whether only peers that agreed on the Fast extension may send it (BEP 6).
    pub fn is_fast(&self) -> bool {
        matches!(
            self,
            Message::Suggest(_)
                | Message::HaveAll
                | Message::HaveNone
                | Message::Reject(_)
                | Message::AllowedFast(_)
        )
    }
}

/// What is wrong with the byte stream. The connection cannot go on.
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

fn is_known(id: u8) -> bool {
    matches!(id, id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST | id::EXTENDED)
}

/// Bytes between a message's id and its payload.
fn fixed_len(id: u8) -> u32 {
    match id {
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => 4,
        id::REQUEST | id::CANCEL | id::REJECT => 12,
        id::PIECE => 8,
        id::PORT => 2,
        id::EXTENDED => 1,
        _ => 0,
    }
}

fn u32_at(bytes: &[u8; HEAD], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

/// The ids of messages on the wire (BEP 3, 5, 6, 10).
mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const NOT_INTERESTED: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PORT: u8 = 9;
    pub(super) const SUGGEST: u8 = 13;
    pub(super) const HAVE_ALL: u8 = 14;
    pub(super) const HAVE_NONE: u8 = 15;
    pub(super) const REJECT: u8 = 16;
    pub(super) const ALLOWED_FAST: u8 = 17;
    pub(super) const EXTENDED: u8 = 20;
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
    fn handshake_both_ways() {
        let features = Features {
            fast: true,
            extended: true,
            dht: false,
        };
        let handshake = Handshake {
            features,
            info_hash: InfoHash([7; 20]),
            peer_id: [9; 20],
        };
        let mut bytes = handshake.encode();
        assert_eq!(bytes[..28], *b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04");
        assert_eq!(Handshake::decode(&bytes), Some(handshake));
        bytes[25] = 0xff; // Bits that mean nothing here are no reason to refuse.
        assert_eq!(Handshake::decode(&bytes), Some(handshake));
        bytes[1] = b'b';
        assert_eq!(Handshake::decode(&bytes), None);
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
