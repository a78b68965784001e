//! [`Message`]: what peers say after the handshake (BEP 3, 5, 6, 10), and the bytes of its head.

use crate::geometry::BlockRef;
use crate::wire::id;
use crate::wire::id::fixed_len;

/// A message's head. Those with `len` are followed by so many bytes of payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A message without content, sent so that the connection is not closed as idle (BEP 3).
    KeepAlive,
    /// The sender serves no requests from now on (BEP 3).
    Choke,
    /// The sender serves requests from now on (BEP 3).
    Unchoke,
    /// The sender would request blocks if it were unchoked (BEP 3).
    Interested,
    /// The sender wants no block (BEP 3).
    NotInterested,
    /// The sender now has this piece (BEP 3).
    Have(u32),
    /// The pieces that the sender has, `len` bytes of [`bits`](crate::bits).
    Bitfield {
        /// Bytes that follow.
        len: u32,
    },
    /// The sender requests a block (BEP 3).
    Request(BlockRef),
    /// A block, of which `len` bytes follow (BEP 3).
    Piece(BlockRef),
    /// The sender takes a request back (BEP 3).
    Cancel(BlockRef),
    /// The sender's DHT node listens on this UDP port (BEP 5).
    Port(u16),
    /// The sender suggests to request this piece (BEP 6).
    Suggest(u32),
    /// The sender is a seed (BEP 6).
    HaveAll,
    /// The sender has nothing yet (BEP 6).
    HaveNone,
    /// The sender will not serve this request (BEP 6).
    Reject(BlockRef),
    /// The sender serves this piece even while it chokes the receiver (BEP 6).
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
pub(super) const HEAD: usize = 17;

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
