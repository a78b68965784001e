//! A leecher's side of one download, without a socket: bytes in, bytes out. It takes content from a BitTorrent peer
//! or from a web server.

use std::collections::VecDeque;

use crate::peer::{INTERESTED, InfoHash, PIECE, handshake, message, request};

/// A download of some of a file's blocks.
#[derive(Debug)]
pub struct Download {
    how: How,
    /// Bytes of content that were received.
    bytes: u64,
    /// Bytes of content that are wanted.
    wanted: u64,
    wrong: u64,
    unsent: Vec<u8>,
}

/// The blocks that a peer requests, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The torrent.
    pub hash: InfoHash,
    /// Length of a piece in bytes, a multiple of the block.
    pub piece_len: u32,
    /// Number of blocks of 16 KiB in the file.
    pub blocks: u64,
    /// The first block that is requested. The others follow in order; after the last block comes the first.
    pub from: u64,
    /// Number of blocks that are requested.
    pub wanted: u64,
    /// Number of requests on their way at a time.
    pub depth: usize,
}

#[derive(Debug)]
enum How {
    Peer(Talk),
    Web(Page),
}

impl Download {
    /// From a BitTorrent peer.
    pub fn from_peer(wish: Wish) -> Download {
        Download {
            how: How::Peer(Talk::new(wish)),
            bytes: 0,
            wanted: wish.wanted * BLOCK,
            wrong: 0,
            unsent: handshake(wish.hash, false),
        }
    }

    /// A file of `len` bytes from a web server.
    pub fn from_web(path: &str, len: u64) -> Download {
        Download {
            how: How::Web(Page::default()),
            bytes: 0,
            wanted: len,
            wrong: 0,
            unsent: format!("GET /{path} HTTP/1.1\r\nHost: here\r\n\r\n").into_bytes(),
        }
    }

    /// Takes received bytes, and compares them with the whole content `all` if that is known.
    pub fn take(&mut self, bytes: &[u8], all: Option<&[u8]>) {
        let Download {
            bytes: got, wrong, ..
        } = self;
        let mut content = |at: u64, bytes: &[u8]| {
            *got += bytes.len() as u64;
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let same = |all: &[u8]| all.get(at..at + bytes.len()) == Some(bytes);
            *wrong += u64::from(!all.is_none_or(same));
        };
        match &mut self.how {
            How::Web(page) => page.take(bytes, &mut content),
            How::Peer(talk) => {
                let greeted = talk.greeted;
                talk.take(bytes, &mut content);
                // Not earlier: aria2 hangs up on a peer that sends it together with the handshake.
                if talk.greeted && !greeted {
                    self.unsent.extend(message(INTERESTED, &[]));
                }
                talk.ask(&mut self.unsent);
            }
        }
    }

    /// Requests again everything that was not received.
    pub fn ask_again(&mut self) {
        if let How::Peer(talk) = &mut self.how {
            talk.again.extend(talk.asked.drain(..));
            talk.ask(&mut self.unsent);
        }
    }

    /// Bytes of content that were received.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a whole block was received.
    pub fn has_block(&self) -> bool {
        match &self.how {
            How::Peer(talk) => talk.whole > 0,
            How::Web(_) => self.bytes >= BLOCK,
        }
    }

    /// Whether everything that was wanted was received.
    pub fn is_complete(&self) -> bool {
        self.bytes >= self.wanted
    }

    /// Wrong parts of blocks, and blocks that were not requested.
    pub fn wrong(&self) -> u64 {
        let unasked = match &self.how {
            How::Peer(talk) => talk.unasked,
            How::Web(_) => 0,
        };
        self.wrong + unasked
    }

    /// Bytes to send; the sender removes what it has sent.
    pub fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }
}

/// A conversation with a peer (BEP 3).
#[derive(Debug)]
struct Talk {
    wish: Wish,
    /// A handshake, or the head of a message, as far as it was received.
    head: Vec<u8>,
    greeted: bool,
    /// Bytes of the message that are still to come.
    left: u64,
    /// The block's offset in the file, if the message is a block.
    block: Option<u64>,
    unchoked: bool,
    /// Number of blocks that were requested for the first time.
    fresh: u64,
    again: Vec<u64>,
    asked: VecDeque<u64>,
    whole: u64,
    unasked: u64,
}

impl Talk {
    fn new(wish: Wish) -> Talk {
        Talk {
            wish,
            head: Vec::with_capacity(HANDSHAKE),
            greeted: false,
            left: 0,
            block: None,
            unchoked: false,
            fresh: wish.wanted,
            again: Vec::new(),
            asked: VecDeque::with_capacity(wish.depth),
            whole: 0,
            unasked: 0,
        }
    }

    fn take(&mut self, mut bytes: &[u8], content: &mut dyn FnMut(u64, &[u8])) {
        while !bytes.is_empty() {
            let needed = self.needed();
            let wanted = if self.left > 0 {
                usize::try_from(self.left).unwrap_or(usize::MAX)
            } else {
                needed - self.head.len()
            };
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.left > 0 {
                self.body(now, content);
            } else {
                self.head.extend_from_slice(now);
                if self.head.len() == self.needed() {
                    self.headed();
                }
            }
        }
    }

    /// The length of a head, as far as it is known.
    fn needed(&self) -> usize {
        match (self.greeted, &self.head[..]) {
            (false, _) => HANDSHAKE,
            (true, [0, 0, 0, 0]) => 4,
            (true, [_, _, _, _, PIECE, ..]) => 13,
            (true, [_, _, _, _, ..]) => 5,
            (true, _) => 4,
        }
    }

    fn body(&mut self, bytes: &[u8], content: &mut dyn FnMut(u64, &[u8])) {
        let len = bytes.len() as u64;
        self.left -= len;
        if let Some(at) = &mut self.block {
            content(*at, bytes);
            *at += len;
            self.whole += u64::from(self.left == 0);
        }
    }

    /// Handles a complete head.
    fn headed(&mut self) {
        if !self.greeted {
            self.greeted = true;
        } else {
            let word = |at: usize| {
                let bytes = self.head.get(at..at + 4).and_then(|b| b.try_into().ok());
                u64::from(bytes.map_or(0, u32::from_be_bytes))
            };
            let (len, index, begin) = (word(0), word(5), word(9));
            self.left = (len + 4).saturating_sub(self.head.len() as u64);
            self.block = None;
            match self.head.get(4) {
                Some(&CHOKE) => {
                    self.unchoked = false;
                    self.again.extend(self.asked.drain(..));
                }
                Some(&UNCHOKE) => self.unchoked = true,
                Some(&PIECE) => {
                    let at = index * u64::from(self.wish.piece_len) + begin;
                    self.block = Some(at);
                    let number = self.asked.iter().position(|asked| asked * BLOCK == at);
                    self.unasked += u64::from(number.and_then(|n| self.asked.remove(n)).is_none());
                }
                _ => {}
            }
        }
        self.head.clear();
    }

    /// Requests more blocks, a quarter of the pipeline at a time.
    fn ask(&mut self, unsent: &mut Vec<u8>) {
        let depth = self.wish.depth;
        if !self.unchoked || self.asked.len() > depth - depth.div_ceil(4) {
            return;
        }
        while self.asked.len() < depth {
            let Some(block) = self.again.pop().or_else(|| self.next()) else {
                return;
            };
            self.asked.push_back(block);
            let (piece, at) = (u64::from(self.wish.piece_len), block * BLOCK);
            let [index, begin, len] = [at / piece, at % piece, BLOCK]
                .map(|number| u32::try_from(number).expect("a torrent that BEP 3 can tell of"));
            unsent.extend(request(index, begin, len));
        }
    }

    fn next(&mut self) -> Option<u64> {
        self.fresh = self.fresh.checked_sub(1)?;
        let number = self.wish.wanted - self.fresh - 1;
        Some((self.wish.from + number) % self.wish.blocks)
    }
}

/// A web server's answer.
#[derive(Debug, Default)]
struct Page {
    head: Vec<u8>,
    in_body: bool,
    at: u64,
}

impl Page {
    fn take(&mut self, mut bytes: &[u8], content: &mut dyn FnMut(u64, &[u8])) {
        while !self.in_body {
            let Some((first, rest)) = bytes.split_first() else {
                return;
            };
            self.head.push(*first);
            bytes = rest;
            self.in_body = self.head.ends_with(b"\r\n\r\n");
        }
        if !bytes.is_empty() {
            content(self.at, bytes);
            self.at += bytes.len() as u64;
        }
    }
}

/// Length of a block in bytes. In what is leeched here, a file's last block is whole too.
pub const BLOCK: u64 = 16 * 1024;

const HANDSHAKE: usize = 68;
const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
