//! Bitfields and haves that come before the metadata, when the number of pieces is not known.
//!
//! A bitfield is kept as it comes, in the memory for bitfields, and read when the metadata is here. A peer whose
//! messages could not be kept is closed then and called again: that costs a connection, and no memory.

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

    /// The metadata is here: the bitfields and haves that peers sent before are counted.
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

#[cfg(test)]
mod tests {
    extern crate std;

    use everseed_core::geometry::{BLOCK, Geometry};

    use super::*;
    use crate::api::Have;
    use crate::parts::small::{peer, unknown};
    use crate::peer::LinkState;
    use crate::swarm::tests::swarm;

    #[test]
    fn messages_before_there_is_metadata() {
        // Whether it is about pieces, whether something was not kept, whether the peer is a seed.
        for (message, taken, unkept, seed) in [
            (Message::HaveAll, true, false, true),
            (Message::HaveNone, true, false, false),
            (Message::Bitfield { len: 2 }, true, false, false),
            (Message::Bitfield { len: 5 }, true, true, false),
            (Message::Have(3), true, true, false),
            (Message::Suggest(3), true, false, false),
            (Message::AllowedFast(3), true, false, false),
            (Message::Choke, false, false, false),
            (Message::Unchoke, false, false, false),
        ] {
            let (mut parts, id) = unknown();
            parts.download.availability.bytes = std::vec![0; 64].leak();
            let slot = peer(&mut parts.cx, id, true);
            let was = swarm().early_message(&mut parts, slot, message);
            assert_eq!(was, taken, "{message:?}");
            let side = &parts.cx.peers[slot].download;
            let is = (side.unkept, side.has == Has::All);
            assert_eq!(is, (unkept, seed), "{message:?}");
        }
    }

    #[test]
    fn what_was_said_early_gets_a_meaning() {
        type Said = fn(&mut Swarm<'_>, &mut Parts<'static>, usize);
        // What the peer said: pieces that it counts as having, or why it is closed.
        let cases: [(&str, Said, Result<u32, Reason>); 6] = [
            ("nothing", |_, _, _| (), Ok(0)),
            (
                "all",
                |swarm, parts, slot| {
                    swarm.early_message(parts, slot, Message::HaveAll);
                },
                Ok(8),
            ),
            (
                "three",
                |swarm, parts, slot| {
                    swarm.early_message(parts, slot, Message::Bitfield { len: 1 });
                    let Parts { cx, download, .. } = parts;
                    download.availability.early_bits(cx, slot, 0, &[0xe0]);
                },
                Ok(3),
            ),
            (
                "two and one more",
                |swarm, parts, slot| {
                    swarm.early_message(parts, slot, Message::Bitfield { len: 1 });
                    let Parts { cx, download, .. } = parts;
                    download.availability.early_bits(cx, slot, 0, &[0xc0]);
                    swarm.early_message(parts, slot, Message::Have(7));
                },
                Ok(3),
            ),
            (
                "a bitfield of another length",
                |swarm, parts, slot| {
                    swarm.early_message(parts, slot, Message::Bitfield { len: 2 });
                },
                Err(Reason::BadBitfield),
            ),
            (
                "what there was no memory for",
                |swarm, parts, slot| {
                    swarm.early_message(parts, slot, Message::Have(3));
                },
                Err(Reason::Unkept),
            ),
        ];
        for (name, said, expected) in cases {
            let (mut parts, id) = unknown();
            let mut swarm = swarm();
            parts.download.availability.bytes = std::vec![0; 64].leak();
            let slot = peer(&mut parts.cx, id, true);
            said(&mut swarm, &mut parts, slot);
            parts.cx.peers[slot].link.payload = Payload::Skip;
            let geometry = Geometry::new(16 * u64::from(BLOCK), 2 * u64::from(BLOCK)).unwrap();
            let torrents = &mut parts.cx.torrents;
            torrents.begin_content(id, geometry, Have::Nothing).unwrap();
            torrents.get_mut(id).unwrap().downloads = true;
            let Parts { cx, download, .. } = &mut parts;
            assert!(download.availability.reserve_counts(cx, id));
            swarm.settle_early(&mut parts, id);
            let conn = &parts.cx.peers[slot];
            match expected {
                Ok(count) => {
                    assert_eq!(conn.link.state, LinkState::Open, "{name}");
                    assert_eq!(conn.download.have_count, count, "{name}");
                    let counted: u16 = parts.download.availability.counts.iter().sum();
                    // Seeds are not counted.
                    assert_eq!(u32::from(counted), count % 8, "{name}");
                }
                Err(reason) => {
                    assert_eq!(conn.link.state, LinkState::Closing(reason), "{name}");
                }
            }
        }
    }
}
