//! What peers send: one function per message.
//!
//! Every function answers with the reason to hang up, if there is one; the caller acts on it.

// What is counted here was read into the scratch, which is far below 4 GiB.
#![allow(clippy::cast_possible_truncation)]

use core::time::Duration;

use everseed_core::bits;
use everseed_core::extension;
use everseed_core::geometry::{BLOCK, TorrentId};
use everseed_core::metadata;
use everseed_core::time::Instant;
use everseed_core::wire::{Handshake, Item, Message, PROTOCOL, PeerId};

use crate::Node;
use crate::discovery::candidates::{Fate, STEADY};
use crate::memory::ids::NONE;
use crate::peer::{ConnId, Payload, Reason, State};
use crate::torrent;

type Verdict = Result<(), Reason>;

impl Node<'_> {
    /// How many bytes may be read from a connection so that everything that they can ask for has a
    /// place; 0 is back-pressure.
    pub(crate) fn readable(&mut self, slot: usize) -> usize {
        let conn = &self.peers[slot];
        // Who sends us blocks and wants nothing is read in long strides.
        let may_ask = conn.upload.interested || conn.download.pending.len == 0;
        match conn.link.state {
            State::Greeting => Handshake::LEN - usize::from(conn.link.handshake_len),
            State::Open if may_ask && (conn.upload.unchoked || conn.link.features.fast) => {
                let held = conn.link.decoder.held();
                let payload = conn.link.decoder.payload_left() as usize;
                match self.quota(slot) {
                    0 => 0,
                    // No request is shorter than this, so no more than `quota` can be in it.
                    quota => payload + REQUEST * usize::from(quota) - held,
                }
            }
            // Its requests are ignored, or answered if there is room, so they need no place.
            State::Open => usize::MAX,
            _ => 0,
        }
    }

    fn quota(&mut self, slot: usize) -> u16 {
        let slots = self.upload.slots;
        let quota = self
            .upload
            .queue
            .quota(&self.peers[slot].upload.requests, slots);
        if quota > 0 || self.peers[slot].upload.requests.len() > 0 {
            return quota;
        }
        // The pool is used up. Of those who were choked and do not read their rejects, the one that
        // holds most of it leaves, so that nobody waits for a place without an end.
        let holds = |slot: usize| self.peers[slot].upload.requests.len();
        let choked = |&slot: &usize| !self.peers[slot].upload.unchoked && holds(slot) > 0;
        let hog = (0..self.peers.len())
            .filter(choked)
            .max_by_key(|&s| holds(s));
        match hog {
            Some(hog) => self.close(hog, Reason::Stalled),
            // Those who are served hold it all: `poll` comes back when some of it is free.
            None => self.upload.waits_for_queue = true,
        }
        self.upload
            .queue
            .quota(&self.peers[slot].upload.requests, slots)
    }

    /// Whether the next bytes are read into their block, as the scratch is shorter than that.
    pub(crate) fn reads_in_place(&self, slot: usize) -> bool {
        self.peers[slot].download.receiving != NONE && self.swarm.scratch.len() < BLOCK as usize
    }

    /// Takes bytes of a handshake.
    pub(crate) fn hello(&mut self, now: Instant, slot: usize, bytes: &[u8]) -> Verdict {
        let conn = &mut self.peers[slot];
        let have = usize::from(conn.link.handshake_len);
        let Some(free) = conn.link.handshake.get_mut(have..have + bytes.len()) else {
            return Err(Reason::NotBitTorrent);
        };
        free.copy_from_slice(bytes);
        conn.link.handshake_len += bytes.len() as u8;
        let have = usize::from(conn.link.handshake_len);
        let known = have.min(PROTOCOL.len());
        if conn.link.handshake[..known] != PROTOCOL[..known] {
            return Err(Reason::NotBitTorrent);
        }
        if have < Handshake::LEN {
            return Ok(());
        }
        let hello = Handshake::decode(&conn.link.handshake).ok_or(Reason::NotBitTorrent)?;
        self.greeted(now, slot, hello)
    }

    /// The peer's handshake is complete.
    fn greeted(&mut self, now: Instant, slot: usize, hello: Handshake) -> Verdict {
        if hello.peer_id == self.identity.peer_id {
            return Err(Reason::Ourselves);
        }
        let id = self
            .torrents
            .find(hello.info_hash)
            .ok_or(Reason::UnknownTorrent)?;
        let expected = self.peers[slot].link.torrent;
        if expected.is_some_and(|expected| expected != id) {
            return Err(Reason::UnknownTorrent);
        }
        if self.is_asleep(id) {
            self.peers[slot].link.torrent = Some(id);
            self.peers.set_state(slot, State::Wake);
            return Ok(());
        }
        let open = |t: &&mut torrent::Torrent| t.state == torrent::State::Active;
        let twin = self.peers.iter().position(|c| {
            c.is_open() && c.link.torrent == Some(id) && c.link.peer_id == hello.peer_id
        });
        if let Some(twin) = twin {
            let gives_way = self.gives_way(now, twin, slot, hello.peer_id);
            let (stays, goes) = if gives_way {
                (slot, twin)
            } else {
                (twin, slot)
            };
            self.inherit(stays, goes);
            if !gives_way {
                return Err(Reason::Duplicate);
            }
            self.close(twin, Reason::Duplicate);
        }
        let Some(torrent) = self.torrents.get_mut(id).filter(open) else {
            return Err(Reason::UnknownTorrent);
        };
        if expected.is_none() {
            torrent.conns += 1;
        }
        let conn = &mut self.peers[slot];
        conn.link.torrent = Some(id);
        conn.link.peer_id = hello.peer_id;
        conn.link.features = hello.features.and(FEATURES);
        conn.link.last_sent_at = now;
        self.peers.set_state(slot, State::Open);
        let conn = &self.peers[slot];
        log::debug!("{}: connected, {}", conn.link.addr, hello.info_hash);
        Ok(())
    }

    /// Goes on with those who waited for a torrent that is awake now.
    pub(crate) fn let_in(&mut self, now: Instant, id: TorrentId) {
        for slot in 0..self.peers.len() {
            let conn = &mut self.peers[slot];
            if conn.link.torrent != Some(id)
                || !matches!(conn.link.state, State::Wake | State::Waking)
            {
                continue;
            }
            conn.link.torrent = None;
            let hello = Handshake::decode(&conn.link.handshake).ok_or(Reason::NotBitTorrent);
            match hello.and_then(|hello| self.greeted(now, slot, hello)) {
                Ok(()) => self.peers.make_ready(slot),
                Err(reason) => self.close(slot, reason),
            }
        }
    }

    /// Whether an open connection, the twin, gives way to a new one of the same peer. Only its own address
    /// is believed, as peer ids are no secret.
    fn gives_way(&self, now: Instant, twin: usize, slot: usize, peer: PeerId) -> bool {
        let (old, new) = (&self.peers[twin], &self.peers[slot]);
        if old.link.addr.ip() != new.link.addr.ip() {
            return false;
        }
        // One that has been silent may be dead, and its peer come back.
        let silent = now - old.link.last_received_at >= TWIN_SILENCE;
        // Both called at the same moment: both keep the call of the one with the greater id, as they
        // would otherwise each hang up on the other.
        let crossed = old.link.incoming != new.link.incoming && now - old.link.opened_at < CROSSED;
        let ours_stays = self.identity.peer_id > peer;
        silent || (crossed && new.link.incoming != ours_stays)
    }

    /// Takes bytes of messages.
    pub(crate) fn messages(&mut self, now: Instant, slot: usize, mut bytes: &[u8]) -> Verdict {
        loop {
            // A copy of 24 bytes, so that the handlers may use the whole node.
            let mut decoder = self.peers[slot].link.decoder.clone();
            let before = bytes.len();
            let item = decoder.next(&mut bytes).map_err(Reason::Wire)?;
            let conn = &mut self.peers[slot];
            conn.link.decoder = decoder;
            let block = matches!(conn.link.payload, Payload::Block | Payload::Unasked);
            if !block || !matches!(item, Some(Item::Payload { .. })) {
                conn.link.talked += (before - bytes.len()) as u64;
            }
            match item {
                None => return self.talks_enough(now, slot),
                Some(Item::Message(message)) => self.message(now, slot, message)?,
                Some(Item::Payload { bytes, last }) => self.payload(slot, bytes, last)?,
            }
        }
    }

    /// Lets go of who talks without end: what comes besides blocks has to be in some proportion to the
    /// torrent's size, to the blocks that were sent either way, and to the time.
    fn talks_enough(&self, now: Instant, slot: usize) -> Verdict {
        let conn = &self.peers[slot];
        let of_pieces = u64::from(self.pieces_of(slot)) * TALK_PER_PIECE;
        let of_blocks = (conn.upload.uploaded + conn.download.downloaded) / 16;
        let of_time = (now - conn.link.opened_at).as_secs() * TALK_PER_SECOND;
        match conn.link.talked > TALK + of_pieces + of_blocks + of_time {
            true => Err(Reason::Talk),
            false => Ok(()),
        }
    }

    fn message(&mut self, now: Instant, slot: usize, message: Message) -> Verdict {
        if message.is_fast() && !self.peers[slot].link.features.fast {
            return Err(Reason::BadMessage);
        }
        self.peers[slot].link.payload = Payload::Skip;
        match message {
            Message::Interested => self.interested(now, slot, true),
            Message::NotInterested => self.interested(now, slot, false),
            Message::Have(index) => self.have(slot, index),
            Message::Bitfield { len } => self.bitfield(slot, len),
            Message::HaveAll => self.have_all(slot),
            Message::HaveNone => self.have_none(slot),
            Message::Request(block) => self.with_upload(|u, cx| u.request(cx, slot, block)),
            Message::Cancel(block) => self.with_upload(|u, cx| u.cancel(cx, slot, block)),
            Message::Extended { id, .. } if self.peers[slot].link.features.extended => {
                self.peers[slot].link.payload = Payload::Extended { id, at: 0 };
                Ok(())
            }
            Message::Choke => self.with_download(|d, cx| d.choked_us(cx, slot)),
            Message::Unchoke => self.with_download(|d, cx| d.unchoked_us(cx, slot)),
            Message::Piece(block) => self.with_download(|d, cx| d.piece(cx, slot, block)),
            Message::Reject(block) => self.with_download(|d, cx| d.rejected(cx, slot, block)),
            Message::Suggest(piece) => self.with_download(|d, cx| d.suggested(cx, slot, piece)),
            Message::AllowedFast(piece) => self.with_download(|d, cx| d.allowed(cx, slot, piece)),
            // The rest concerns the DHT.
            _ => Ok(()),
        }
    }

    fn payload(&mut self, slot: usize, bytes: &[u8], last: bool) -> Verdict {
        match self.peers[slot].link.payload {
            Payload::Skip | Payload::Unasked => Ok(()),
            Payload::Block => {
                self.with_download(|d, cx| d.block_bytes(cx, slot, bytes));
                Ok(())
            }
            Payload::Bitfield { at } => self.bitfield_bytes(slot, at, bytes, last),
            Payload::Extended { id, at } => self.extended_bytes(slot, id, at, bytes, last),
        }
    }

    /// Takes bytes of an extended message. Most come in one piece and are parsed where they are. The
    /// pieces of one other at a time are put together; further ones are passed over meanwhile, as
    /// too long ones are, for nothing in them is needed to go on.
    fn extended_bytes(
        &mut self,
        slot: usize,
        id: u8,
        at: u32,
        bytes: &[u8],
        last: bool,
    ) -> Verdict {
        self.peers[slot].link.payload = Payload::Extended {
            id,
            at: at.saturating_add(bytes.len() as u32),
        };
        if at == 0 && last {
            return self.extended(slot, id, bytes);
        }
        let owner = self.peers.id(slot);
        if at == 0
            && !self
                .swarm
                .stash
                .is_held(|conn| self.peers.slot(conn).is_some())
        {
            self.swarm.stash = Stash::of(owner);
        }
        if self.swarm.stash.owner != Some(owner) {
            return Ok(());
        }
        let whole = self.swarm.stash.bytes.extend_from_slice(bytes).is_ok();
        if last || !whole {
            let stash = core::mem::take(&mut self.swarm.stash);
            if whole {
                return self.extended(slot, id, &stash.bytes);
            }
        }
        Ok(())
    }

    fn interested(&mut self, now: Instant, slot: usize, interested: bool) -> Verdict {
        let conn = &mut self.peers[slot];
        if conn.upload.interested == interested {
            return Ok(());
        }
        conn.upload.interested = interested;
        conn.upload.choke_changed_at = now;
        if !interested && conn.upload.unchoked {
            self.with_upload(|u, cx| u.choke(cx, slot));
        }
        // Who is served next is seen to when the whole read was taken, however often it changed its
        // mind in it.
        self.upload.slot_freed = true;
        self.both_seeds(slot)
    }

    fn have(&mut self, slot: usize, index: u32) -> Verdict {
        let pieces = self.pieces_of(slot);
        if index >= pieces {
            return Err(Reason::BadMessage);
        }
        let conn = &mut self.peers[slot];
        conn.download.have_count = conn.download.have_count.saturating_add(1).min(pieces);
        self.with_download(|d, cx| d.peer_has(cx, slot, index));
        if !self.peers[slot].download.interested
            && self.peers[slot]
                .link
                .torrent
                .is_some_and(|id| self.torrents.is_missing(id, index))
        {
            self.peers[slot].download.interested = true;
            self.with_download(|d, cx| d.count_active_sources(cx));
        }
        self.both_seeds(slot)
    }

    /// A bitfield has the torrent's size (BEP 3). It should come first, if at all, but aria2 sends
    /// another one where it would have to send very many haves: the last one counts.
    fn bitfield(&mut self, slot: usize, len: u32) -> Verdict {
        self.peers[slot].download.have_count = 0;
        self.with_download(|d, cx| d.forget_bits(cx, slot));
        let torrent = self.torrent_of(slot).and_then(|t| t.geometry);
        if torrent.map(|g| g.bitfield_len()) != Some(len) {
            return Err(Reason::BadBitfield);
        }
        self.peers[slot].link.payload = Payload::Bitfield { at: 0 };
        Ok(())
    }

    /// A bitfield is only counted: a seed needs to know no more. Spare bits at its end say nothing: some
    /// programs set them (BEP 3 wants the peer dropped, which helps nobody).
    fn bitfield_bytes(&mut self, slot: usize, at: u32, bytes: &[u8], last: bool) -> Verdict {
        let pieces = self.pieces_of(slot);
        let (whole, end) = match bytes.split_last() {
            Some((&end, whole)) if last => (whole, Some(end)),
            _ => (bytes, None),
        };
        let then = at + whole.len() as u32;
        self.count_bits(slot, at, whole);
        if let Some(end) = end {
            self.count_bits(slot, then, &[bits::without_spare(end, pieces)]);
        }
        self.peers[slot].link.payload = Payload::Bitfield { at: then };
        if !last {
            return Ok(());
        }
        if self.peers[slot].download.have_count >= pieces {
            self.with_download(|d, cx| d.peer_has_all(cx, slot));
        }
        self.with_download(|d, cx| d.review(cx, slot));
        self.both_seeds(slot)
    }

    fn count_bits(&mut self, slot: usize, at: u32, bytes: &[u8]) {
        self.with_download(|d, cx| d.peer_has_bits(cx, slot, at, bytes));
        let pieces = self.pieces_of(slot);
        let conn = &mut self.peers[slot];
        conn.download.have_count = conn
            .download
            .have_count
            .saturating_add(bits::count(bytes))
            .min(pieces);
    }

    fn have_all(&mut self, slot: usize) -> Verdict {
        self.peers[slot].download.have_count = self.pieces_of(slot);
        self.with_download(|d, cx| d.peer_has_all(cx, slot));
        self.with_download(|d, cx| d.review(cx, slot));
        self.both_seeds(slot)
    }

    fn have_none(&mut self, slot: usize) -> Verdict {
        self.peers[slot].download.have_count = 0;
        self.with_download(|d, cx| d.forget_bits(cx, slot));
        self.with_download(|d, cx| d.review(cx, slot));
        Ok(())
    }

    /// Two who need nothing part: the other is a seed, or downloads no more (BEP 21). A seed that is
    /// still interested counted a piece twice.
    pub(crate) fn both_seeds(&self, slot: usize) -> Verdict {
        let conn = &self.peers[slot];
        let seed = conn.extensions.upload_only || conn.download.have_count >= self.pieces_of(slot);
        let done = conn
            .link
            .torrent
            .is_none_or(|id| !self.torrents.is_downloading(id));
        if seed && done && !conn.upload.interested {
            Err(Reason::BothSeeds)
        } else {
            Ok(())
        }
    }

    /// Takes a whole extended message (BEP 10). One that cannot be read is no reason to part.
    fn extended(&mut self, slot: usize, id: u8, bytes: &[u8]) -> Verdict {
        match id {
            0 => {
                if let Ok(hello) = extension::Handshake::decode(bytes) {
                    self.peers[slot].extensions.upload_only = hello.upload_only;
                    self.peers[slot].download.reqq =
                        hello.reqq.unwrap_or(self.peers[slot].download.reqq).max(1);
                    self.peers[slot].extensions.ut_metadata = hello.ut_metadata.unwrap_or(0);
                    self.peers[slot].link.listen_port = hello.port.unwrap_or(0);
                }
            }
            metadata::OUR_ID => {
                if let Some(piece) = metadata::decode_request(bytes) {
                    self.with_upload(|u, cx| u.metadata_request(cx, slot, piece));
                }
            }
            _ => {}
        }
        self.both_seeds(slot)
    }

    /// What a connection's end means for calling the peer again.
    pub(crate) fn fate(&self, slot: usize, reason: Reason) -> Fate {
        let conn = &self.peers[slot];
        match reason {
            Reason::BothSeeds if self.torrent_of(slot).is_some_and(|t| t.narrowed) => Fate::Rests,
            Reason::Ourselves | Reason::BothSeeds | Reason::UnknownTorrent => Fate::Useless,
            Reason::NotBitTorrent | Reason::Wire(_) | Reason::BadBitfield => Fate::Useless,
            Reason::BadMessage | Reason::BadRequest | Reason::Unasked => Fate::Useless,
            Reason::Talk => Fate::Useless,
            // While it is banned it is not called.
            Reason::BadPieces => Fate::Failed,
            _ if !conn.is_open() => Fate::Failed,
            // We wanted to be rid of it.
            Reason::Crowded | Reason::Stalled => Fate::Ended,
            _ if conn.download.downloaded + conn.upload.uploaded > 0
                || conn.download.interested =>
            {
                Fate::Good {
                    steady: self.now - conn.link.opened_at >= STEADY,
                }
            }
            _ => Fate::Ended,
        }
    }
}

/// What is spoken here.
pub(crate) const FEATURES: everseed_core::wire::Features = everseed_core::wire::Features {
    fast: true,
    extended: true,
    dht: false,
};

/// A connection that was silent for so long gives way to another one of the same peer.
const TWIN_SILENCE: Duration = Duration::from_secs(30);

/// Calls that began within this time may have crossed.
const CROSSED: Duration = Duration::from_secs(10);

/// Bytes besides blocks that everybody may send, and as many for each piece (a have takes 9) and second.
const TALK: u64 = 64 * 1024;
const TALK_PER_PIECE: u64 = 32;
const TALK_PER_SECOND: u64 = 64;

/// Bytes of a request on the wire.
const REQUEST: usize = 17;

/// An extended message that comes in pieces, of one connection at a time.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    owner: Option<ConnId>,
    bytes: heapless::Vec<u8, 1024>,
}

impl Stash {
    fn of(owner: ConnId) -> Stash {
        Stash {
            owner: Some(owner),
            ..Stash::default()
        }
    }

    /// Whether the connection that it is for is still there.
    fn is_held(&self, is_there: impl Fn(ConnId) -> bool) -> bool {
        self.owner.is_some_and(is_there)
    }
}
