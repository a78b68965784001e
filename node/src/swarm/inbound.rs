//! Received messages: one function for each.
//!
//! Every function answers with the reason to hang up, if there is one; the caller acts on it.

// What is counted here was read into the scratch, which is far below 4 GiB.
#![allow(clippy::cast_possible_truncation)]

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::bits;
use everseed_core::extension;
use everseed_core::geometry::{BLOCK, TorrentId};
use everseed_core::metadata;
use everseed_core::pex;
use everseed_core::wire::{Handshake, Item, Message, PROTOCOL, PeerId};

use crate::discovery::candidates::{Fate, STEADY};
use crate::memory::ids::NONE;
use crate::parts::Parts;
use crate::peer::{LinkState, Payload, Reason};
use crate::swarm::Swarm;
use crate::swarm::stash::Stash;
use crate::torrent;
use crate::wake::Wake;

type Verdict = Result<(), Reason>;

impl Swarm<'_> {
    /// How many bytes may be read from a connection so that everything that they can ask for has a
    /// place; 0 is back-pressure.
    pub(crate) fn readable(&mut self, on: &mut Parts<'_>, slot: usize) -> usize {
        let conn = &on.cx.peers[slot];
        // Peers that only upload to us are read in large chunks.
        let may_request = conn.upload.interested || conn.download.pending.len == 0;
        match conn.link.state {
            LinkState::Greeting => Handshake::LEN - usize::from(conn.link.handshake_len),
            LinkState::Open if may_request && (conn.upload.unchoked || conn.link.features.fast) => {
                let held = conn.link.decoder.held();
                let payload = conn.link.decoder.payload_left() as usize;
                match self.quota(on, slot) {
                    0 => 0,
                    // No request is shorter than this, so no more than `quota` can be in it.
                    quota => payload + REQUEST * usize::from(quota) - held,
                }
            }
            // Its requests are ignored, or answered if there is room, so they need no place.
            LinkState::Open => usize::MAX,
            _ => 0,
        }
    }

    fn quota(&mut self, on: &mut Parts<'_>, slot: usize) -> u16 {
        let slots = on.upload.slots;
        let quota = on
            .upload
            .queue
            .quota(&on.cx.peers[slot].upload.requests, slots);
        if quota > 0 || on.cx.peers[slot].upload.requests.len() > 0 {
            return quota;
        }
        // The pool is used up. Of those who were choked and do not read their rejects, the one that
        // holds most of it leaves, so that nobody waits for a place without an end.
        let holds = |slot: usize| on.cx.peers[slot].upload.requests.len();
        let choked = |&slot: &usize| !on.cx.peers[slot].upload.unchoked && holds(slot) > 0;
        let hog = (0..on.cx.peers.len())
            .filter(choked)
            .max_by_key(|&s| holds(s));
        match hog {
            Some(hog) => self.close(on, hog, Reason::Stalled),
            // Those who are served hold it all: `poll` comes back when some of it is free.
            None => on.cx.wakes.add(Wake::ReadAtQueueRoom),
        }
        on.upload
            .queue
            .quota(&on.cx.peers[slot].upload.requests, slots)
    }

    /// Whether the next bytes are read into their block, as the scratch is shorter than that.
    pub(crate) fn reads_in_place(&self, on: &Parts<'_>, slot: usize) -> bool {
        let conn = &on.cx.peers[slot];
        conn.download.receiving != NONE
            && conn.link.payload == Payload::Block
            && self.scratch.len() < BLOCK as usize
    }

    /// Takes bytes of a handshake.
    pub(crate) fn handshake_bytes(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        bytes: &[u8],
    ) -> Verdict {
        let conn = &mut on.cx.peers[slot];
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
        let handshake = Handshake::decode(&conn.link.handshake).ok_or(Reason::NotBitTorrent)?;
        self.handshake_complete(on, slot, handshake)
    }

    /// The peer's handshake is complete.
    fn handshake_complete(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        handshake: Handshake,
    ) -> Verdict {
        if handshake.peer_id == self.identity.peer_id {
            return Err(Reason::Ourselves);
        }
        let id = on
            .cx
            .torrents
            .find(handshake.info_hash)
            .ok_or(Reason::UnknownTorrent)?;
        let expected = on.cx.peers[slot].link.torrent;
        if expected.is_some_and(|expected| expected != id) {
            return Err(Reason::UnknownTorrent);
        }
        if on.cx.torrents.is_asleep(id) {
            on.cx.peers[slot].link.torrent = Some(id);
            on.cx.peers.set_state(slot, LinkState::Wake);
            return Ok(());
        }
        let open = |t: &&mut torrent::Torrent| t.state == torrent::TorrentState::Active;
        let twin = on.cx.peers.iter().position(|c| {
            c.is_open() && c.link.torrent == Some(id) && c.link.peer_id == handshake.peer_id
        });
        if let Some(twin) = twin {
            let gives_way = self.gives_way(on, twin, slot, handshake.peer_id);
            let (stays, goes) = if gives_way {
                (slot, twin)
            } else {
                (twin, slot)
            };
            self.take_over_from_twin(on, stays, goes);
            if !gives_way {
                return Err(Reason::Duplicate);
            }
            self.close(on, twin, Reason::Duplicate);
        }
        self.mark_crossed(on, slot, id);
        let Some(torrent) = on.cx.torrents.get_mut(id).filter(open) else {
            return Err(Reason::UnknownTorrent);
        };
        if expected.is_none() {
            torrent.conns += 1;
        }
        let second = torrent.info_hashes.second;
        let dht = handshake.features.dht && on.discovery.seeker.is_told(&on.cx, id);
        let tells_port = dht && on.discovery.seeker.tells_port();
        let port = self.port_for(on.cx.peers[slot].link.addr);
        let conn = &mut on.cx.peers[slot];
        conn.link.torrent = Some(id);
        // Who calls names one of two, and is answered by the same; whom we call is told the first.
        conn.link.by_second_hash = conn.link.incoming && second == Some(handshake.info_hash);
        conn.link.peer_id = handshake.peer_id;
        conn.link.features = handshake.features.and(FEATURES);
        conn.link.features.dht = dht;
        conn.link.outbox.owes_port = tells_port && port != 0;
        conn.link.last_sent_at = on.cx.now;
        on.cx.peers.set_state(slot, LinkState::Open);
        self.add_to_pex(on, slot);
        let conn = &on.cx.peers[slot];
        log::debug!("{}: connected, {}", conn.link.addr, handshake.info_hash);
        Ok(())
    }

    /// Our calls of whoever has just called us may be cut off for that.
    fn mark_crossed(&self, on: &mut Parts<'_>, slot: usize, id: TorrentId) {
        let link = &on.cx.peers[slot].link;
        let (incoming, ip) = (link.incoming, link.addr.ip().to_canonical());
        for other in 0..on.cx.peers.len() {
            let conn = &mut on.cx.peers[other];
            let underway = conn.is_live() && !conn.is_open() && !conn.link.incoming;
            let its = conn.link.torrent == Some(id) && conn.link.addr.ip().to_canonical() == ip;
            conn.link.crossed |= incoming && underway && its;
        }
    }

    /// Completes the handshakes of the peers that waited for a torrent, which is awake now.
    pub(crate) fn open_waiting(&mut self, on: &mut Parts<'_>, id: TorrentId) {
        for slot in 0..on.cx.peers.len() {
            let conn = &mut on.cx.peers[slot];
            if conn.link.torrent != Some(id)
                || !matches!(conn.link.state, LinkState::Wake | LinkState::Waking)
            {
                continue;
            }
            conn.link.torrent = None;
            let handshake = Handshake::decode(&conn.link.handshake).ok_or(Reason::NotBitTorrent);
            match handshake.and_then(|handshake| self.handshake_complete(on, slot, handshake)) {
                Ok(()) => on.cx.peers.make_ready(slot),
                Err(reason) => self.close(on, slot, reason),
            }
        }
    }

    /// Whether an open connection, the twin, gives way to a new one of the same peer. Only its own address
    /// is believed, as peer ids are no secret.
    fn gives_way(&self, on: &Parts<'_>, twin: usize, slot: usize, peer: PeerId) -> bool {
        let (old, new) = (&on.cx.peers[twin], &on.cx.peers[slot]);
        if old.link.addr.ip() != new.link.addr.ip() {
            return false;
        }
        // One that has been silent may be dead, and its peer come back.
        let silent = on.cx.now - old.link.last_received_at >= TWIN_SILENCE;
        // Both called at the same moment: both keep the call of the one with the greater id, as they
        // would otherwise each hang up on the other.
        let crossed =
            old.link.incoming != new.link.incoming && on.cx.now - old.link.opened_at < CROSSED;
        let ours_stays = self.identity.peer_id > peer;
        silent || (crossed && new.link.incoming != ours_stays)
    }

    /// Takes bytes of messages.
    pub(crate) fn messages(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        mut bytes: &[u8],
    ) -> Verdict {
        loop {
            // A copy of 24 bytes, so that the handlers may use the connection.
            let mut decoder = on.cx.peers[slot].link.decoder.clone();
            let before = bytes.len();
            let item = decoder.next(&mut bytes).map_err(Reason::Wire)?;
            let conn = &mut on.cx.peers[slot];
            conn.link.decoder = decoder;
            let content = match conn.link.payload {
                _ if !matches!(item, Some(Item::Payload { .. })) => false,
                Payload::Block | Payload::Unrequested => true,
                // What follows the dictionary is.
                Payload::MetadataHead => before - bytes.len() > metadata::HEAD_MAX,
                _ => false,
            };
            if !content {
                conn.link.talked += (before - bytes.len()) as u64;
            }
            match item {
                None => return self.sends_enough(on, slot),
                Some(Item::Message(message)) => self.message(on, slot, message)?,
                Some(Item::Payload { bytes, last }) => self.payload(on, slot, bytes, last)?,
            }
        }
    }

    /// Limits the bytes that come besides blocks, in proportion to the torrent's size, to the blocks that were sent
    /// either way, and to the time. A peer beyond the limit is closed.
    fn sends_enough(&self, on: &Parts<'_>, slot: usize) -> Verdict {
        let conn = &on.cx.peers[slot];
        let of_pieces = match on.cx.lacks_metadata(slot) {
            // Of so many as any torrent may have that is worth it.
            true => TALK_UNKNOWN,
            false => u64::from(on.cx.pieces_of(slot)) * TALK_PER_PIECE,
        };
        let of_blocks = (conn.upload.uploaded + conn.download.downloaded) / 16;
        let of_time = (on.cx.now - conn.link.opened_at).as_secs() * TALK_PER_SECOND;
        match conn.link.talked > TALK + of_pieces + of_blocks + of_time {
            true => Err(Reason::Talk),
            false => Ok(()),
        }
    }

    fn message(&mut self, on: &mut Parts<'_>, slot: usize, message: Message) -> Verdict {
        if message.is_fast() && !on.cx.peers[slot].link.features.fast {
            return Err(Reason::BadMessage);
        }
        on.cx.peers[slot].link.payload = Payload::Skip;
        if on.cx.lacks_metadata(slot) && self.early_message(on, slot, message) {
            return Ok(());
        }
        match message {
            Message::Interested => self.interested(on, slot, true),
            Message::NotInterested => self.interested(on, slot, false),
            Message::Have(index) => self.have(on, slot, index),
            Message::Bitfield { len } => self.bitfield(on, slot, len),
            Message::HaveAll => self.have_all(on, slot),
            Message::HaveNone => self.have_none(on, slot),
            Message::Request(block) => on.upload.request(&mut on.cx, slot, block),
            Message::Cancel(block) => on.upload.cancel(&mut on.cx, slot, block),
            Message::Extended { id, len } if on.cx.peers[slot].link.features.extended => {
                let block = id == metadata::OUR_ID
                    && len > 0
                    && on.download.metadata_begins(&mut on.cx, slot);
                if !block {
                    on.cx.peers[slot].link.payload = Payload::Extended { id, at: 0 };
                }
                Ok(())
            }
            Message::Choke => on.download.choked_us(&mut on.cx, slot),
            Message::Unchoke => on.download.unchoked_us(&mut on.cx, slot),
            Message::Piece(block) => on.download.piece(&mut on.cx, slot, block),
            Message::Reject(block) => on.download.rejected(&mut on.cx, slot, block),
            Message::Suggest(piece) => on.download.suggested(&mut on.cx, slot, piece),
            Message::AllowedFast(piece) => on.download.allowed(&mut on.cx, slot, piece),
            Message::Port(port) if on.cx.peers[slot].link.features.dht => {
                let node = SocketAddr::new(on.cx.peers[slot].link.addr.ip(), port);
                on.discovery.seeker.dht.hint(on.cx.now, node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn payload(&mut self, on: &mut Parts<'_>, slot: usize, bytes: &[u8], last: bool) -> Verdict {
        match on.cx.peers[slot].link.payload {
            Payload::Skip | Payload::Unrequested => Ok(()),
            Payload::Block => {
                on.download.block_bytes(&mut on.cx, slot, bytes);
                Ok(())
            }
            Payload::MetadataHead => {
                let request = on.download.metadata_bytes(&mut on.cx, slot, bytes, last)?;
                if let Some(piece) = request {
                    on.upload.metadata_request(&mut on.cx, slot, piece);
                }
                Ok(())
            }
            Payload::Bitfield { at } if on.cx.lacks_metadata(slot) => {
                on.download.availability.early_bits(&on.cx, slot, at, bytes);
                let at = at.saturating_add(bytes.len() as u32);
                on.cx.peers[slot].link.payload = Payload::Bitfield { at };
                Ok(())
            }
            Payload::Bitfield { at } => self.bitfield_bytes(on, slot, at, bytes, last),
            Payload::Extended { id, at } => self.extended_bytes(on, slot, id, at, bytes, last),
        }
    }

    /// Takes bytes of an extended message. Most come in one piece and are parsed where they are. The
    /// pieces of one other at a time are put together; further ones are passed over meanwhile, as
    /// too long ones are, for nothing in them is needed to go on.
    fn extended_bytes(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        id: u8,
        at: u32,
        bytes: &[u8],
        last: bool,
    ) -> Verdict {
        on.cx.peers[slot].link.payload = Payload::Extended {
            id,
            at: at.saturating_add(bytes.len() as u32),
        };
        if at == 0 && last {
            return self.extended(on, slot, id, bytes);
        }
        let owner = on.cx.peers.id(slot);
        if at == 0 && !self.stash.is_held(|conn| on.cx.peers.slot(conn).is_some()) {
            self.stash = Stash::of(owner);
        }
        if self.stash.owner != Some(owner) {
            return Ok(());
        }
        let whole = self.stash.bytes.extend_from_slice(bytes).is_ok();
        if last || !whole {
            let stash = core::mem::take(&mut self.stash);
            // Of peers that it tells of, the first ones count.
            if whole || id == pex::OUR_ID {
                return self.extended(on, slot, id, &stash.bytes);
            }
        }
        Ok(())
    }

    fn interested(&mut self, on: &mut Parts<'_>, slot: usize, interested: bool) -> Verdict {
        let conn = &mut on.cx.peers[slot];
        if conn.upload.interested == interested {
            return Ok(());
        }
        conn.upload.interested = interested;
        conn.upload.choke_changed_at = on.cx.now;
        if !interested && conn.upload.unchoked {
            on.upload.choke(&mut on.cx, slot);
        }
        // Who is served next is seen to when the whole read was taken, however often it changed its
        // mind in it.
        on.cx.wakes.add(Wake::FillSlots);
        self.both_seeds(on, slot)
    }

    fn have(&mut self, on: &mut Parts<'_>, slot: usize, index: u32) -> Verdict {
        let pieces = on.cx.pieces_of(slot);
        if index >= pieces {
            return Err(Reason::BadMessage);
        }
        let conn = &mut on.cx.peers[slot];
        conn.download.have_count = conn.download.have_count.saturating_add(1).min(pieces);
        on.download.availability.peer_has(&mut on.cx, slot, index);
        if !on.cx.peers[slot].download.interested
            && on.cx.peers[slot]
                .link
                .torrent
                .is_some_and(|id| on.cx.torrents.is_missing(id, index))
        {
            on.cx.peers[slot].download.interested = true;
            on.download.count_active_sources(&mut on.cx);
        }
        self.both_seeds(on, slot)
    }

    /// A bitfield has the torrent's size (BEP 3). It should come first, if at all, but aria2 sends
    /// another one where it would have to send very many haves: the last one counts.
    fn bitfield(&mut self, on: &mut Parts<'_>, slot: usize, len: u32) -> Verdict {
        on.cx.peers[slot].download.have_count = 0;
        on.download.availability.forget_bits(&mut on.cx, slot);
        let torrent = on.cx.torrent_of(slot).and_then(|t| t.geometry);
        if torrent.map(|g| g.bitfield_len()) != Some(len) {
            return Err(Reason::BadBitfield);
        }
        on.cx.peers[slot].link.payload = Payload::Bitfield { at: 0 };
        Ok(())
    }

    /// A bitfield is only counted: a seed needs to know no more. Spare bits at its end say nothing: some
    /// programs set them (BEP 3 wants the peer dropped, which helps nobody).
    fn bitfield_bytes(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        at: u32,
        bytes: &[u8],
        last: bool,
    ) -> Verdict {
        let pieces = on.cx.pieces_of(slot);
        let (whole, end) = match bytes.split_last() {
            Some((&end, whole)) if last => (whole, Some(end)),
            _ => (bytes, None),
        };
        let then = at + whole.len() as u32;
        self.count_bits(on, slot, at, whole);
        if let Some(end) = end {
            self.count_bits(on, slot, then, &[bits::without_spare(end, pieces)]);
        }
        on.cx.peers[slot].link.payload = Payload::Bitfield { at: then };
        if !last {
            return Ok(());
        }
        if on.cx.peers[slot].download.have_count >= pieces {
            on.download.availability.peer_has_all(&mut on.cx, slot);
        }
        on.download.update_interest(&mut on.cx, slot);
        self.both_seeds(on, slot)
    }

    fn count_bits(&mut self, on: &mut Parts<'_>, slot: usize, at: u32, bytes: &[u8]) {
        on.download
            .availability
            .peer_has_bits(&mut on.cx, slot, at, bytes);
        let pieces = on.cx.pieces_of(slot);
        let conn = &mut on.cx.peers[slot];
        conn.download.have_count = conn
            .download
            .have_count
            .saturating_add(bits::count(bytes))
            .min(pieces);
    }

    fn have_all(&mut self, on: &mut Parts<'_>, slot: usize) -> Verdict {
        on.cx.peers[slot].download.have_count = on.cx.pieces_of(slot);
        on.download.availability.peer_has_all(&mut on.cx, slot);
        on.download.update_interest(&mut on.cx, slot);
        self.both_seeds(on, slot)
    }

    fn have_none(&mut self, on: &mut Parts<'_>, slot: usize) -> Verdict {
        on.cx.peers[slot].download.have_count = 0;
        on.download.availability.forget_bits(&mut on.cx, slot);
        on.download.update_interest(&mut on.cx, slot);
        Ok(())
    }

    /// Two who need nothing part: the other is a seed, or downloads no more (BEP 21). A seed that is
    /// still interested counted a piece twice.
    pub(crate) fn both_seeds(&self, on: &Parts<'_>, slot: usize) -> Verdict {
        let conn = &on.cx.peers[slot];
        let seed = conn.extensions.upload_only || conn.download.have_count >= on.cx.pieces_of(slot);
        let torrent = conn.link.torrent;
        let done = torrent.is_none_or(|id| on.cx.torrents.needs_nothing(id));
        if seed && done && !conn.upload.interested {
            Err(Reason::BothSeeds)
        } else {
            Ok(())
        }
    }

    /// Takes a whole extended message (BEP 10). One that cannot be read is no reason to part.
    fn extended(&mut self, on: &mut Parts<'_>, slot: usize, id: u8, bytes: &[u8]) -> Verdict {
        match id {
            0 => {
                if let Ok(told) = extension::PeerHandshake::decode(bytes) {
                    on.cx.peers[slot].extensions.upload_only = told.upload_only;
                    on.cx.peers[slot].download.reqq =
                        told.reqq.unwrap_or(on.cx.peers[slot].download.reqq).max(1);
                    on.cx.peers[slot].extensions.ut_metadata = told.ut_metadata.unwrap_or(0);
                    on.cx.peers[slot].extensions.metadata_size = told.metadata_size.unwrap_or(0);
                    on.cx.peers[slot].extensions.ut_pex = told.ut_pex.unwrap_or(0);
                    on.cx.peers[slot].extensions.encryption = told.encryption;
                    on.cx.peers[slot].link.listen_port = told.port.unwrap_or(0);
                    self.add_to_pex(on, slot);
                    on.cx.wakes.add(Wake::TellPeers);
                }
            }
            metadata::OUR_ID => {
                if let Ok((metadata::Message::Request { piece }, _)) = metadata::decode(bytes) {
                    on.upload.metadata_request(&mut on.cx, slot, piece);
                }
            }
            pex::OUR_ID => self.pex_received(on, slot, bytes),
            _ => {}
        }
        self.both_seeds(on, slot)
    }

    /// How a connection's end counts when the peer may be called again.
    pub(crate) fn fate(&self, on: &Parts<'_>, slot: usize, reason: Reason) -> Fate {
        let conn = &on.cx.peers[slot];
        match reason {
            Reason::BothSeeds if on.cx.torrent_of(slot).is_some_and(|t| t.narrowed) => Fate::Rests,
            Reason::Ourselves | Reason::BothSeeds | Reason::UnknownTorrent => Fate::Useless,
            Reason::NotBitTorrent | Reason::Wire(_) | Reason::BadBitfield => Fate::Stumbled,
            Reason::BadMessage | Reason::BadRequest | Reason::Unasked => Fate::Stumbled,
            Reason::Talk => Fate::Stumbled,
            // While it is banned it is not called.
            Reason::BadPieces => Fate::Failed,
            _ if !conn.is_open() && conn.link.crossed => Fate::Crossed,
            _ if !conn.is_open() => Fate::Failed,
            Reason::Unkept => Fate::Good { steady: false },
            // We wanted to be rid of it.
            Reason::Crowded | Reason::Stalled => Fate::Ended,
            _ if conn.download.downloaded + conn.upload.uploaded > 0
                || conn.download.interested =>
            {
                let lasted = on.cx.now - conn.link.opened_at >= STEADY;
                Fate::Good {
                    steady: lasted || conn.download.downloaded >= MUCH,
                }
            }
            _ if conn.link.crossed => Fate::Crossed,
            _ => Fate::Ended,
        }
    }
}

/// The extensions that this node supports.
pub(crate) const FEATURES: everseed_core::wire::Features = everseed_core::wire::Features {
    fast: true,
    extended: true,
    dht: false,
};

/// A connection over which so many bytes came was worth its call, however short it was.
const MUCH: u64 = 256 * 1024;

/// A connection that was silent for so long gives way to another one of the same peer.
const TWIN_SILENCE: Duration = Duration::from_secs(30);

/// Calls that began within this time may have crossed.
const CROSSED: Duration = Duration::from_secs(10);

/// Bytes besides blocks that everybody may send, and as many for each piece (a have takes 9) and second.
const TALK: u64 = 64 * 1024;
const TALK_PER_PIECE: u64 = 32;
const TALK_PER_SECOND: u64 = 64;

/// The same while nobody knows how many pieces there are: a bitfield of four million.
const TALK_UNKNOWN: u64 = 512 * 1024;

/// Bytes of a request on the wire.
const REQUEST: usize = 17;

#[cfg(test)]
mod tests;
