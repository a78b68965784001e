//! Messages to send, in order. None is queued: the next one is derived from the state of the connection.
//!
//! `Outbox` remembers what was said and how much of the current message is on its way. A message that has begun is
//! finished as it began, whatever changes meanwhile. Only a block waits whose piece is not known to be good any more,
//! until that was verified. All others are derived anew each time.

// Buffers and messages are far below 4 GiB.
#![allow(clippy::cast_possible_truncation)]

use everseed_core::extension::{Metadata, OUR_HANDSHAKE_MAX, OurHandshake};
use everseed_core::geometry::{BLOCK, BlockRef, PieceIndex, Span};
use everseed_core::metadata::{
    METADATA_PIECE, REPLY_MAX, REQUEST_MAX, Reply, encode_request, piece_len,
};
use everseed_core::time::Instant;
use everseed_core::wire::{Handshake, Message};

use crate::api::{Bodies, Body, BodySource};
use crate::broken::broken;
use crate::download::pending_blocks::PendingBlocks;
use crate::download::pieces_in_progress::PiecesInProgress;
use crate::download::receiver::next_set;
use crate::memory::ids::NONE;
use crate::peer::outbox::{Out, Outbox, Stage};
use crate::peer::{Conn, LinkState};
use crate::swarm::have_log::HaveLog;
use crate::torrent::{Bits, Torrent, Torrents};
use crate::upload::request_queue::{ReplyKind, RequestQueue};

/// The state that decides about a connection's next message.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) conn: &'a Conn,
    pub(crate) torrent: Option<&'a Torrent>,
    pub(crate) torrents: &'a Torrents<'a>,
    pub(crate) queue: &'a RequestQueue<'a>,
    pub(crate) pending: &'a PendingBlocks<'a>,
    pub(crate) in_progress: &'a PiecesInProgress<'a>,
    pub(crate) have_log: &'a HaveLog,
    pub(crate) pex: Option<(u8, &'a [u8])>,
    pub(crate) greeting: Greeting<'a>,
}

/// The handshakes, which tell a peer about this node.
#[derive(Clone, Copy)]
pub(crate) struct Greeting<'a> {
    pub(crate) handshake: Handshake,
    /// The extended handshake (BEP 10), but for the size of `info`.
    pub(crate) extended: OurHandshake<'a>,
}

/// A walk along the messages that are due, starting with the unfinished one.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    outbox: Outbox,
    /// The first request that was not looked at.
    front: u16,
    /// The first block to ask for that was not looked at, and the first request to take back.
    ask: u16,
    cancel: usize,
    hint: Option<u32>,
    /// Whether it was told of peers.
    told_peers: bool,
}

impl Cursor {
    pub(crate) fn new(conn: &Conn) -> Cursor {
        Cursor {
            outbox: conn.link.outbox,
            front: conn.upload.requests.front(),
            ask: conn.download.pending.unsent,
            cancel: 0,
            hint: conn.upload.to_suggest,
            told_peers: false,
        }
    }

    /// The message to send next.
    pub(crate) fn peek(&self, view: &View<'_>) -> Option<Out> {
        if let Some(out) = self.outbox.current {
            return match out {
                Out::Piece(block) => view.is_good(block).then_some(out),
                _ => Some(out),
            };
        }
        let conn = view.conn;
        match (self.outbox.stage, conn.link.state) {
            // Who was dialled names the torrent first; the answer follows (BEP 3).
            (Stage::Handshake, LinkState::Greeting) if !conn.link.incoming => Some(Out::Handshake),
            (Stage::Handshake, LinkState::Open) => Some(Out::Handshake),
            // Without Fast nothing can be said of pieces that nobody has counted.
            (Stage::Pieces, LinkState::Open)
                if view.lacks_metadata() && !conn.link.features.fast =>
            {
                conn.link.features.extended.then_some(Out::Extended)
            }
            (Stage::Pieces, LinkState::Open) => Some(view.pieces()),
            (Stage::Extended, LinkState::Open) => Some(Out::Extended),
            (Stage::Ready, LinkState::Open) => self.next(view),
            _ => None,
        }
    }

    fn next(&self, view: &View<'_>) -> Option<Out> {
        if self.outbox.owes_choke {
            return Some(Out::Choke);
        }
        if view.conn.upload.unchoked && !self.outbox.told_unchoked {
            return Some(Out::Unchoke);
        }
        if self.outbox.owes_extended {
            return Some(Out::Extended);
        }
        if self.outbox.owes_port {
            return Some(Out::Port);
        }
        if let Some(out) = self.next_of_download(view) {
            return Some(out);
        }
        if view.pex.is_some() && !self.told_peers {
            return Some(Out::Peers);
        }
        if let Some((block, kind, _)) = view.queue.at(self.front) {
            return match kind {
                ReplyKind::Reject => Some(Out::Reject(block)),
                ReplyKind::Metadata => Some(Out::Metadata(block.index)),
                ReplyKind::Piece => view.is_good(block).then_some(Out::Piece(block)),
            };
        }
        self.outbox.keep_alive.then_some(Out::KeepAlive)
    }

    /// The next message of the download side, and the next `have`: they are short, and go before blocks.
    fn next_of_download(&self, view: &View<'_>) -> Option<Out> {
        let conn = view.conn;
        if conn.download.interested != self.outbox.told_interested {
            return Some(if conn.download.interested {
                Out::Interested
            } else {
                Out::NotInterested
            });
        }
        if let Some(block) = conn.download.cancels.get(self.cancel) {
            return Some(Out::Cancel(*block));
        }
        if let Some(piece) = self.hint {
            return Some(Out::Suggest(piece));
        }
        if let Some(block) = view.request_at(self.ask) {
            return Some(match view.lacks_metadata() {
                true => Out::MetadataRequest(block.begin / BLOCK),
                false => Out::Request(block),
            });
        }
        self.next_have(view).map(|(_, piece)| Out::Have(piece))
    }

    /// The next piece that the peer has not been told of, with what it is told after it.
    fn next_have(&self, view: &View<'_>) -> Option<((u32, Option<u32>), u32)> {
        let id = view.conn.link.torrent?;
        let told = self.outbox.have_log_at;
        let walk = if view.have_log.lost(told) {
            Some(0)
        } else {
            self.outbox.haves_again_from
        };
        if let Some(from) = walk {
            // What comes up during the walk is told after it.
            let told = if view.have_log.lost(told) {
                view.have_log.count
            } else {
                told
            };
            if let Some(piece) = view.next_had(from) {
                return Some(((told, Some(piece + 1)), piece));
            }
            let (at, piece) = view.have_log.next(id, told)?;
            return Some(((at.wrapping_add(1), None), piece));
        }
        let (at, piece) = view.have_log.next(id, told)?;
        Some(((at.wrapping_add(1), None), piece))
    }

    /// The piece that must be verified before anything else can be sent.
    pub(crate) fn awaits(&self, view: &View<'_>) -> Option<PieceIndex> {
        if self.outbox.stage != Stage::Ready || self.peek(view).is_some() {
            return None;
        }
        if let Some(Out::Piece(block)) = self.outbox.current {
            return view.geometry_piece(block);
        }
        let (block, kind, _) = view.queue.at(self.front)?;
        if kind != ReplyKind::Piece || view.is_good(block) {
            None
        } else {
            view.geometry_piece(block)
        }
    }

    /// Bytes of the current message that are gone.
    pub(crate) fn done(&self) -> u32 {
        self.outbox.done
    }

    /// Notes that `len` more bytes of `out` are gone, of `total`; answers whether it is finished.
    pub(crate) fn advance(&mut self, view: &View<'_>, out: Out, len: u32, total: u32) -> bool {
        let fresh = self.outbox.current.is_none();
        self.outbox.done += len;
        if fresh {
            self.sent(view, out);
        }
        let finished = self.outbox.done >= total;
        self.outbox.current = if finished { None } else { Some(out) };
        if finished {
            self.outbox.done = 0;
        }
        finished
    }

    /// Changes the outbox as `out` begins to be sent.
    fn sent(&mut self, view: &View<'_>, out: Out) {
        if matches!(out, Out::HaveAll | Out::HaveNone | Out::Bitfield) {
            self.outbox.have_log_at = view.have_log.count;
        }
        match out {
            Out::Handshake => self.outbox.stage = Stage::Pieces,
            Out::HaveAll | Out::HaveNone | Out::Bitfield if view.conn.link.features.extended => {
                self.outbox.stage = Stage::Extended;
            }
            Out::HaveAll | Out::HaveNone | Out::Bitfield => self.outbox.stage = Stage::Ready,
            Out::Extended => {
                (self.outbox.stage, self.outbox.owes_extended) = (Stage::Ready, false);
            }
            Out::Choke => (self.outbox.told_unchoked, self.outbox.owes_choke) = (false, false),
            Out::Unchoke => self.outbox.told_unchoked = true,
            Out::Interested => self.outbox.told_interested = true,
            Out::NotInterested => self.outbox.told_interested = false,
            Out::Cancel(_) => self.cancel += 1,
            Out::Suggest(_) => self.hint = None,
            Out::Request(_) | Out::MetadataRequest(_) => self.ask = view.pending.next(self.ask),
            Out::Have(_) => {
                if let Some(((told, walk), _)) = self.next_have(view) {
                    (self.outbox.have_log_at, self.outbox.haves_again_from) = (told, walk);
                }
            }
            Out::Reject(_) | Out::Piece(_) | Out::Metadata(_) => {
                self.front = view.queue.at(self.front).map_or(NONE, |(_, _, next)| next);
            }
            Out::Peers => self.told_peers = true,
            Out::Port => self.outbox.owes_port = false,
            Out::KeepAlive => self.outbox.keep_alive = false,
        }
    }

    /// The outbox as it is after the walk.
    pub(crate) fn outbox(&self) -> Outbox {
        self.outbox
    }
}

impl View<'_> {
    fn geometry_piece(&self, block: BlockRef) -> Option<PieceIndex> {
        self.torrent?.geometry?.piece(block.index)
    }

    fn is_good(&self, block: BlockRef) -> bool {
        let Some(torrent) = self.torrent else {
            return false;
        };
        self.geometry_piece(block)
            .is_some_and(|piece| self.torrents.contains(torrent.good, piece))
    }

    fn lacks_metadata(&self) -> bool {
        self.torrent.is_some_and(|t| t.lacks_metadata())
    }

    /// How the peer is told what we have (BEP 3, BEP 6).
    fn pieces(&self) -> Out {
        match self.torrent.map_or(Bits::None, |t| t.have) {
            Bits::All if self.conn.link.features.fast => Out::HaveAll,
            Bits::None if self.conn.link.features.fast => Out::HaveNone,
            _ => Out::Bitfield,
        }
    }

    /// The head of a message; the handshake has none.
    fn head(&self, out: Out) -> Message {
        match out {
            Out::HaveAll => Message::HaveAll,
            Out::HaveNone => Message::HaveNone,
            Out::Bitfield => Message::Bitfield {
                len: self.bitfield_len(),
            },
            Out::Extended => Message::Extended {
                id: 0,
                len: self.extended_handshake().len() as u32,
            },
            Out::MetadataRequest(piece) => Message::Extended {
                id: self.conn.extensions.ut_metadata,
                len: metadata_request(piece).len() as u32,
            },
            Out::Metadata(piece) => {
                let (dict, data) = (self.reply(piece).len() as u32, self.metadata_len(piece));
                Message::Extended {
                    id: self.conn.extensions.ut_metadata,
                    len: dict + data.unwrap_or(0),
                }
            }
            Out::Peers => {
                let (id, bytes) = self.peers();
                Message::Extended {
                    id,
                    len: bytes.len() as u32,
                }
            }
            Out::Port => Message::Port(self.greeting.extended.port),
            Out::Choke => Message::Choke,
            Out::Interested => Message::Interested,
            Out::NotInterested => Message::NotInterested,
            Out::Have(piece) => Message::Have(piece),
            Out::Request(block) => Message::Request(block),
            Out::Cancel(block) => Message::Cancel(block),
            Out::Suggest(piece) => Message::Suggest(piece),
            Out::Unchoke => Message::Unchoke,
            Out::Reject(block) => Message::Reject(block),
            Out::Piece(block) => Message::Piece(block),
            Out::KeepAlive | Out::Handshake => Message::KeepAlive,
        }
    }

    /// The message that tells of peers, and the id by which it is wanted.
    fn peers(&self) -> (u8, &[u8]) {
        debug_assert!(self.pex.is_some(), "a message about peers until it is sent");
        self.pex.unwrap_or_default()
    }

    /// The block of a request that is to be sent.
    fn request_at(&self, at: u16) -> Option<BlockRef> {
        let pending = self.pending.get(at)?;
        Some(BlockRef {
            index: self.in_progress.get(pending.partial)?.piece,
            begin: pending.index * BLOCK,
            len: pending.len,
        })
    }

    /// The first piece from `from` on that is here.
    fn next_had(&self, from: u32) -> Option<u32> {
        let torrent = self.torrent?;
        match torrent.have {
            Bits::None => None,
            Bits::All => (from < torrent.pieces()).then_some(from),
            mixed => next_set(self.torrents.bytes(mixed), from, torrent.pieces()),
        }
    }

    fn bitfield_len(&self) -> u32 {
        self.torrent
            .and_then(|t| t.geometry)
            .map_or(0, |g| g.bitfield_len())
    }

    /// The payload of the extended handshake.
    fn extended_handshake(&self) -> heapless::Vec<u8, OUR_HANDSHAKE_MAX> {
        let mut payload = heapless::Vec::new();
        // What is encoded is no longer than this.
        let _ = payload.resize_default(OUR_HANDSHAKE_MAX);
        let ours = OurHandshake {
            metadata: self.metadata(),
            ..self.greeting.extended
        };
        let len = ours.encode(&mut payload).unwrap_or(0);
        payload.truncate(len);
        payload
    }

    /// The part of our extended handshake about `info`.
    fn metadata(&self) -> Metadata {
        match self.torrent.and_then(|t| t.metadata_len) {
            Some(len) => Metadata::Offered(len),
            None if self.lacks_metadata() => Metadata::Wanted,
            None => Metadata::Silent,
        }
    }

    /// The dictionary before a piece of `info`.
    fn reply(&self, piece: u32) -> heapless::Vec<u8, REPLY_MAX> {
        let total_size = self.torrent.and_then(|t| t.metadata_len);
        let reply = match (total_size, self.metadata_len(piece)) {
            (Some(total_size), Some(_)) => Reply::Data { piece, total_size },
            _ => Reply::Reject { piece },
        };
        let mut payload = heapless::Vec::new();
        // What is encoded is no longer than this.
        let _ = payload.resize_default(REPLY_MAX);
        let len = reply.encode(&mut payload).unwrap_or(0);
        payload.truncate(len);
        payload
    }

    /// Bytes of a piece of `info`, if there is one of that number.
    fn metadata_len(&self, piece: u32) -> Option<u32> {
        piece_len(self.torrent?.metadata_len?, piece)
    }

    /// The length of a message in bytes.
    pub(crate) fn len(&self, out: Out) -> u32 {
        match out {
            Out::Handshake => Handshake::LEN as u32,
            // Asked several times for each block.
            Out::Piece(block) => PIECE_HEAD + block.len,
            _ => {
                let head = self.head(out);
                head.head_len() + head.payload()
            }
        }
    }

    /// Bytes of a message before its body.
    pub(crate) fn head_len(&self, out: Out) -> u32 {
        match out {
            Out::Piece(_) => PIECE_HEAD,
            Out::Metadata(piece) => self.len(out) - self.metadata_len(piece).unwrap_or(0),
            _ => self.len(out),
        }
    }

    /// Writes a message from byte `from` on, as much as fits; a block's own bytes are left out.
    pub(crate) fn write(&self, out: Out, from: u32, buf: &mut [u8]) -> usize {
        let mut skip = from as usize;
        let mut filled = 0;
        let mut put = |bytes: &[u8]| {
            let rest = bytes.get(skip..).unwrap_or(&[]);
            skip = skip.saturating_sub(bytes.len());
            let free = buf.len() - filled;
            let len = rest.len().min(free);
            buf[filled..filled + len].copy_from_slice(&rest[..len]);
            filled += len;
        };
        match out {
            Out::Handshake => put(&self.greeting.handshake.encode()),
            Out::Extended => {
                put(self.head(out).encode().bytes());
                put(&self.extended_handshake());
            }
            Out::MetadataRequest(piece) => {
                put(self.head(out).encode().bytes());
                put(&metadata_request(piece));
            }
            Out::Metadata(piece) => {
                put(self.head(out).encode().bytes());
                put(&self.reply(piece));
            }
            Out::Peers => {
                put(self.head(out).encode().bytes());
                put(self.peers().1);
            }
            Out::Bitfield => {
                put(self.head(out).encode().bytes());
                self.put_bitfield(&mut put);
            }
            _ => put(self.head(out).encode().bytes()),
        }
        filled
    }

    fn put_bitfield(&self, put: &mut dyn FnMut(&[u8])) {
        let len = self.bitfield_len();
        let Some(torrent) = self.torrent else {
            return broken("a torrent of which to send a bitfield");
        };
        match torrent.have {
            Bits::Mixed { .. } => put(self.torrents.bytes(torrent.have)),
            Bits::None => (0..len).for_each(|_| put(&[0])),
            Bits::All => {
                let spare = (8 - torrent.pieces() % 8) % 8;
                (1..len).for_each(|_| put(&[0xff]));
                put(&[0xff << spare]);
            }
        }
    }

    /// Where the bytes are that follow a message's head.
    fn body(&self, out: Out) -> Option<(BodySource, Span)> {
        let torrent = self.conn.link.torrent?;
        match out {
            Out::Piece(block) => {
                let (_, offset) = self.torrent?.geometry?.locate(block)?;
                let len = block.len;
                Some((
                    BodySource::Content,
                    Span {
                        torrent,
                        offset,
                        len,
                    },
                ))
            }
            Out::Metadata(piece) => {
                let len = self.metadata_len(piece)?;
                let offset = u64::from(piece) * u64::from(METADATA_PIECE);
                Some((
                    BodySource::Info,
                    Span {
                        torrent,
                        offset,
                        len,
                    },
                ))
            }
            _ => None,
        }
    }
}

/// The dictionary that asks for a piece of `info`.
fn metadata_request(piece: u32) -> heapless::Vec<u8, REQUEST_MAX> {
    let mut payload = heapless::Vec::new();
    // What is encoded is no longer than this.
    let _ = payload.resize_default(REQUEST_MAX);
    let len = encode_request(piece, &mut payload).unwrap_or(0);
    payload.truncate(len);
    payload
}

/// Bytes of a `piece` message before the block.
pub(crate) const PIECE_HEAD: u32 = 13;

/// Fills `buf` with what is due for a connection: see [`Node::transmit`](crate::Node::transmit).
/// At most `budget` bytes are bodies. The second answer says whether the budget cut it short.
pub(crate) fn fill(
    view: &View<'_>,
    budget: u64,
    buf: &mut [u8],
    bodies: &mut Bodies,
) -> (usize, bool) {
    bodies.clear();
    let mut budget = u32::try_from(budget).unwrap_or(u32::MAX);
    let mut cursor = Cursor::new(view.conn);
    let mut filled = 0;
    while let Some(out) = cursor.peek(view) {
        let (start, done, total) = (filled, cursor.done(), view.len(out));
        let head = view.head_len(out);
        let mut wrote = 0;
        if done < head {
            if budget == 0 && view.body(out).is_some() {
                return (filled, true);
            }
            wrote = view.write(out, done, &mut buf[filled..]);
            filled += wrote;
        }
        let at = done + wrote as u32;
        if at >= head
            && let Some((source, span)) = view.body(out)
        {
            let free = (buf.len() - filled).min(budget as usize) as u32;
            let skip = at - head;
            let len = (span.len - skip).min(free);
            let body = Body {
                source,
                at: filled,
                before: start,
                span: Span {
                    offset: span.offset + u64::from(skip),
                    len,
                    ..span
                },
            };
            if len == 0 || bodies.push(body).is_err() {
                // Without its body the head that was just written would be half a message.
                return (start, budget == 0);
            }
            filled += len as usize;
            wrote += len as usize;
            budget -= len;
        }
        if wrote == 0 || !cursor.advance(view, out, wrote as u32, total) {
            return (filled, budget == 0);
        }
    }
    (filled, false)
}

/// When keep-alives are due: BEP 3 lets peers hang up after two minutes of silence.
pub(crate) fn keep_alive_due(conn: &Conn, now: Instant) -> bool {
    conn.is_open() && now.since(conn.link.last_sent_at).as_secs() >= 100
}
