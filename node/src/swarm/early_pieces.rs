//! Bitfields and haves that come before the metadata, when the number of pieces is not known.
//!
//! A bitfield is kept as it comes, in the memory for bitfields, and looked at when the metadata is here. Whoever
//! said something that could not be kept is called again then: that costs a connection, and no memory.

use everseed_core::geometry::TorrentId;
use everseed_core::wire::Message;

use crate::parts::Parts;
use crate::peer::outbox::{Out, Stage};
use crate::peer::{Has, Payload, Reason};
use crate::swarm::Swarm;

impl Swarm<'_> {
    /// Takes a message about pieces; false if it is about something else.
    pub(crate) fn early_message(
        &mut self,
        on: &mut Parts<'_>,
        slot: usize,
        message: Message,
    ) -> bool {
        let Parts { cx, download, .. } = on;
        match message {
            Message::Bitfield { len } => {
                cx.peers[slot].download.unkept = !download.availability.keep_early(cx, slot, len);
                cx.peers[slot].link.payload = Payload::Bitfield { at: 0 };
            }
            Message::HaveAll | Message::HaveNone => {
                download.availability.forget_bits(cx, slot);
                cx.peers[slot].download.unkept = false;
                if message == Message::HaveAll {
                    cx.peers[slot].download.has = Has::All;
                }
            }
            Message::Have(piece) => download.availability.early_have(cx, slot, piece),
            Message::AllowedFast(piece) => {
                // Which of them there are is seen later.
                let _ = cx.peers[slot].download.allowed_fast.push(piece);
            }
            Message::Suggest(_) => {}
            _ => return false,
        }
        true
    }

    /// The metadata is here, and with it what the peers said gets a meaning.
    pub(crate) fn settle_early(&mut self, on: &mut Parts<'_>, id: TorrentId) {
        for slot in 0..on.cx.peers.len() {
            let conn = &mut on.cx.peers[slot];
            if conn.link.torrent != Some(id) || !conn.is_open() {
                continue;
            }
            // There is more to say now to those who were told that we have nothing.
            let outbox = &mut conn.link.outbox;
            if matches!(outbox.stage, Stage::Extended | Stage::Ready) {
                outbox.owes_extended = conn.link.features.extended && outbox.stage == Stage::Ready;
                outbox.haves_again_from = Some(0);
            }
            // The rest of what it is told would be another one now.
            let midway = matches!(outbox.current, Some(Out::Extended | Out::Metadata(_)));
            let pieces = on.cx.pieces_of(slot);
            let conn = &mut on.cx.peers[slot];
            conn.download.allowed_fast.retain(|&piece| piece < pieces);
            let halfway = matches!(conn.link.payload, Payload::Bitfield { .. })
                && conn.link.decoder.payload_left() > 0;
            let settled = match conn.download.unkept || halfway || midway {
                true => Err(Reason::Unkept),
                false => on.download.availability.settle_early(&mut on.cx, slot),
            };
            match settled {
                Ok(()) => on.cx.peers.make_ready(slot),
                Err(reason) => self.close(on, slot, reason),
            }
        }
    }
}
