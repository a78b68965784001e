//! [`Peer`]: a scripted peer at the other end of a connection.

use std::net::SocketAddr;

use everseed_core::geometry::{BLOCK, BlockRef, Geometry};
use everseed_core::hash::InfoHash;
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message, PeerId};
use everseed_node::ConnId;

use super::{PIECE, content};

/// A scripted peer at the other end of a connection.
pub struct Peer {
    pub id: ConnId,
    pub addr: SocketAddr,
    pub open: bool,
    /// Whether it reads the bytes that arrive.
    pub reads: bool,
    /// Bytes that the peer has written and the node has not read.
    pub inbox: Vec<u8>,
    /// Whether the node had no room for these bytes, and has not asked for more since.
    pub held_back: bool,
    pub received: u64,
    pub unchoked: bool,
    pub messages: Vec<Message>,
    pub handshake: Option<Handshake>,
    hello: Vec<u8>,
    decoder: Decoder,
    piece: Option<(BlockRef, u64)>,
    /// Requests of the node that it has neither answered nor rejected.
    pub asked: Vec<BlockRef>,
    /// Requests that the node cancelled.
    pub cancelled: Vec<BlockRef>,
    /// Payloads of extended messages.
    pub extended: Vec<Vec<u8>>,
}

impl Peer {
    pub fn new(id: ConnId, addr: SocketAddr) -> Peer {
        Peer {
            id,
            addr,
            open: true,
            reads: true,
            inbox: Vec::new(),
            held_back: false,
            received: 0,
            unchoked: false,
            messages: Vec::new(),
            handshake: None,
            hello: Vec::new(),
            decoder: Decoder::new(),
            piece: None,
            asked: Vec::new(),
            cancelled: Vec::new(),
            extended: Vec::new(),
        }
    }

    pub fn greet(&mut self, info_hash: InfoHash, fast: bool) {
        let mut peer_id = *b"-XX0000-000000000000";
        peer_id[8..10].copy_from_slice(&self.id.slot.to_be_bytes());
        peer_id[10..12].copy_from_slice(&self.id.tenancy.to_be_bytes());
        self.greet_as(info_hash, fast, peer_id);
    }

    pub fn greet_as(&mut self, info_hash: InfoHash, fast: bool, peer_id: PeerId) {
        let features = Features {
            fast,
            extended: true,
            dht: false,
        };
        let hello = Handshake {
            features,
            info_hash,
            peer_id,
        };
        self.inbox.extend(hello.encode());
    }

    pub fn say(&mut self, messages: &[Message]) {
        for message in messages {
            self.inbox.extend(message.encode().bytes());
        }
    }

    /// Sends an extended message.
    pub fn extended(&mut self, id: u8, payload: &[u8]) {
        let len = payload.len() as u32;
        self.say(&[Message::Extended { id, len }]);
        self.inbox.extend(payload);
    }

    /// Takes the first request for metadata that it has not answered.
    pub fn info_request(&mut self) -> Option<u32> {
        let asked = |payload: &Vec<u8>| match everseed_core::metadata::decode(payload) {
            Ok((everseed_core::metadata::Message::Request { piece }, _)) => Some(piece),
            _ => None,
        };
        let at = self.extended.iter().position(|p| asked(p).is_some())?;
        asked(&self.extended.remove(at))
    }

    /// Sends a piece of metadata.
    pub fn send_info(&mut self, piece: u32, size: u32, info: &[u8]) {
        let start = (piece * BLOCK) as usize;
        let end = info.len().min(start + BLOCK as usize);
        let mut payload =
            format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{size}ee").into_bytes();
        payload.extend(&info[start..end]);
        self.extended(1, &payload);
    }

    /// Rejects a request for metadata.
    pub fn refuse_info(&mut self, piece: u32) {
        let payload = format!("d8:msg_typei2e5:piecei{piece}ee");
        self.extended(1, payload.as_bytes());
    }

    /// Sends the first requested block; false if there is no request.
    pub fn give(&mut self) -> bool {
        let asked = !self.asked.is_empty();
        if asked {
            let block = self.asked.remove(0);
            self.send(block);
        }
        asked
    }

    /// Sends a block.
    pub fn send(&mut self, block: BlockRef) {
        self.say(&[Message::Piece(block)]);
        let start = u64::from(block.index) * u64::from(PIECE) + u64::from(block.begin);
        let bytes = (start..start + u64::from(block.len)).map(content);
        self.inbox.extend(bytes);
    }

    /// Sends wrong bytes for the first requested block.
    pub fn lie(&mut self) -> Option<BlockRef> {
        let asked = (!self.asked.is_empty()).then(|| self.asked.remove(0))?;
        self.say(&[Message::Piece(asked)]);
        let len = self.inbox.len() + asked.len as usize;
        self.inbox.resize(len, 0);
        Some(asked)
    }

    /// Rejects all requests.
    pub fn refuse(&mut self) {
        for block in std::mem::take(&mut self.asked) {
            self.say(&[Message::Reject(block)]);
        }
    }

    /// The number of requests that it got.
    pub fn requests(&self) -> usize {
        let request = |m: &&Message| matches!(m, Message::Request(_));
        self.messages.iter().filter(request).count()
    }

    /// Requests `count` blocks from number `first` on. After the last block it begins again with the first.
    pub fn ask(&mut self, first: u32, count: u32) {
        for block in (first..first + count).map(|n| n % 72) {
            self.say(&[Message::Request(BlockRef {
                index: block / 4,
                begin: block % 4 * BLOCK,
                len: BLOCK,
            })]);
        }
    }

    pub fn pieces(&self) -> usize {
        let piece = |m: &&Message| matches!(m, Message::Piece(_));
        self.messages.iter().filter(piece).count()
    }

    pub fn rejects(&self) -> usize {
        let reject = |m: &&Message| matches!(m, Message::Reject(_));
        self.messages.iter().filter(reject).count()
    }

    /// Reads what the node sent, and compares every byte of content.
    pub fn take(&mut self, mut bytes: &[u8], geometry: &Geometry) {
        if self.handshake.is_none() {
            let len = bytes.len().min(Handshake::LEN - self.hello.len());
            self.hello.extend(&bytes[..len]);
            bytes = &bytes[len..];
            if let Ok(hello) = self.hello.as_slice().try_into() {
                self.handshake = Handshake::decode(hello);
                assert!(self.handshake.is_some());
            }
        }
        while let Some(item) = self.decoder.next(&mut bytes).expect("well-formed") {
            match item {
                Item::Message(message) => {
                    match message {
                        Message::Unchoke => self.unchoked = true,
                        Message::Choke => self.unchoked = false,
                        Message::Piece(block) => {
                            let (_, offset) = geometry.locate(block).expect("a block that exists");
                            self.piece = Some((block, offset));
                        }
                        Message::Extended { .. } => self.extended.push(Vec::new()),
                        Message::Request(block) => self.asked.push(block),
                        Message::Cancel(block) => {
                            self.asked.retain(|asked| *asked != block);
                            self.cancelled.push(block);
                        }
                        _ => {}
                    }
                    self.messages.push(message);
                }
                Item::Payload { bytes, .. } => {
                    if let Some(Message::Extended { .. }) = self.messages.last() {
                        self.extended.last_mut().unwrap().extend(bytes);
                        continue;
                    }
                    if let Some((_, offset)) = &mut self.piece {
                        assert!(bytes.iter().zip(*offset..).all(|(&b, at)| b == content(at)));
                        *offset += bytes.len() as u64;
                        self.received += bytes.len() as u64;
                    }
                }
            }
        }
    }
}
