//! A peer of our own, for what no client does: it sends what a test tells it to send.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

/// The SHA-1 of a torrent's info dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// Parses 40 hexadecimal digits.
    pub fn parse(hex: &str) -> InfoHash {
        let mut hash = [0; 20];
        assert_eq!(hex.len(), 40, "an info-hash: {hex}");
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            let digits = hex.get(at..at + 2).unwrap_or("");
            *byte = u8::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{hex}: {e}"));
        }
        InfoHash(hash)
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A received message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Requests will not be served any more.
    Choke,
    /// Requests will be served.
    Unchoke,
    /// The pieces that the peer has, most significant bit first.
    Bitfield(Vec<u8>),
    /// The peer has all pieces (BEP 6).
    HaveAll,
    /// The peer has no piece (BEP 6).
    HaveNone,
    /// A block.
    Piece {
        /// The piece's index.
        index: u32,
        /// Offset in the piece.
        begin: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A request that will not be served (BEP 6): index, begin, length.
    Reject(u32, u32, u32),
    /// A message of an extension (BEP 10): its number and payload.
    Extended(Vec<u8>),
    /// Any other message, by its id; keep-alives are skipped.
    Other(u8),
}

/// A connection to everseed.
#[derive(Debug)]
pub struct Peer {
    /// The socket, for sending bytes that are not a message.
    pub stream: TcpStream,
}

impl Peer {
    /// Connects, and sends nothing yet.
    pub fn connect(addr: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&addr, READ_TIMEOUT);
        let stream = stream.unwrap_or_else(|e| panic!("{addr}: {e}"));
        stream
            .set_read_timeout(Some(READ_TIMEOUT))
            .expect("timeout");
        stream
            .set_write_timeout(Some(READ_TIMEOUT))
            .expect("timeout");
        stream.set_nodelay(true).expect("a socket option");
        Peer { stream }
    }

    /// Connects and exchanges handshakes, with the Fast extension (BEP 6) or without it.
    pub fn greet(addr: SocketAddr, hash: InfoHash, fast: bool) -> Peer {
        let mut peer = Peer::connect(addr);
        peer.send(&handshake(hash, fast));
        let mut answer = [0; 68];
        let read = peer.stream.read_exact(&mut answer);
        read.unwrap_or_else(|e| panic!("{addr} answered no handshake: {e}"));
        assert_eq!(answer[..20], *PROTOCOL, "the handshake's magic");
        assert_eq!(answer[28..48], hash.0, "the handshake's info-hash");
        peer
    }

    /// As [`greet`](Peer::greet), then sends interested and waits until it is unchoked.
    pub fn unchoked(addr: SocketAddr, hash: InfoHash, fast: bool) -> Peer {
        let mut peer = Peer::greet(addr, hash, fast);
        peer.send(&message(INTERESTED, &[]));
        while peer.expect("unchoke") != Message::Unchoke {}
        peer
    }

    /// Sends bytes. It is no failure if the other side has hung up, as it may on nonsense.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Requests a block.
    pub fn request(&mut self, index: u32, begin: u32, len: u32) {
        self.send(&request(index, begin, len));
    }

    /// Requests a block, and waits for it. Skips other messages.
    pub fn block(&mut self, index: u32, begin: u32, len: u32) {
        self.request(index, begin, len);
        let requested = |message: &Message| match message {
            Message::Piece {
                index: of,
                begin: at,
                ..
            } => (*of, *at) == (index, begin),
            _ => false,
        };
        while !requested(&self.expect("a block")) {}
    }

    /// Reads these pieces, each of which is one block of 16 KiB.
    pub fn pieces(&mut self, pieces: Range<u32>) {
        for piece in pieces {
            self.block(piece, 0, 1 << 14);
        }
    }

    /// The next message; an error if the other side hung up.
    pub fn read(&mut self) -> io::Result<Message> {
        loop {
            let mut word = [0; 4];
            self.stream.read_exact(&mut word)?;
            let len = u32::from_be_bytes(word) as usize;
            assert!(len <= 1 << 20, "everseed sent a message of {len} bytes");
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload)?;
            if let Some((id, payload)) = payload.split_first() {
                return Ok(decode(*id, payload));
            }
        }
    }

    /// The next message, which has to come; `what` names it in the panic.
    pub fn expect(&mut self, what: &str) -> Message {
        let next = self.read();
        next.unwrap_or_else(|e| panic!("everseed did not send what was expected ({what}): {e}"))
    }

    /// Reads until everseed hangs up, which it has to do; panics if content comes before.
    pub fn expect_end(&mut self, why: &str) {
        loop {
            match self.read() {
                Ok(Message::Piece { index, begin, .. }) => {
                    panic!("everseed sent block {index}:{begin} in spite of {why}")
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock) => {
                    panic!("everseed did not hang up after {why}")
                }
                Err(_) => return,
            }
        }
    }
}

/// A handshake (BEP 3) with a new peer id.
pub fn handshake(hash: InfoHash, fast: bool) -> Vec<u8> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let reserved = [0, 0, 0, 0, 0, 0, 0, if fast { 4 } else { 0 }];
    let id = format!("-TT0000-{number:012}");
    [&PROTOCOL[..], &reserved, &hash.0, id.as_bytes()].concat()
}

/// A message with its length in front.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len() + 1).expect("a short message");
    [&len.to_be_bytes()[..], &[id], payload].concat()
}

/// A request.
pub fn request(index: u32, begin: u32, len: u32) -> Vec<u8> {
    message(REQUEST, &[index, begin, len].map(u32::to_be_bytes).concat())
}

/// The handshake's first bytes.
pub const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Message ids (BEP 3, BEP 6).
pub const INTERESTED: u8 = 2;
/// The id of the message about one piece that a peer has.
pub const HAVE: u8 = 4;
/// The id of the message about all pieces that a peer has.
pub const BITFIELD: u8 = 5;
/// The id of a request for a block.
pub const REQUEST: u8 = 6;
/// The id of a message with a block.
pub const PIECE: u8 = 7;

/// The longest wait for an answer, longer than all of everseed's own timeouts for what is done here.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

fn decode(id: u8, payload: &[u8]) -> Message {
    let word = |at: usize| {
        let bytes = payload.get(at * 4..at * 4 + 4).expect("a whole message");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    };
    match id {
        0 => Message::Choke,
        1 => Message::Unchoke,
        BITFIELD => Message::Bitfield(payload.to_vec()),
        PIECE => Message::Piece {
            index: word(0),
            begin: word(1),
            bytes: payload[8..].to_vec(),
        },
        14 => Message::HaveAll,
        15 => Message::HaveNone,
        16 => Message::Reject(word(0), word(1), word(2)),
        20 => Message::Extended(payload.to_vec()),
        id => Message::Other(id),
    }
}
