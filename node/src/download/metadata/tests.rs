//! Metadata from peers, without a node.

extern crate std;

use std::format;
use std::vec;

use everseed_core::hash::InfoHash;

use super::*;
use crate::api::Have;
use crate::parts::Parts;
use crate::parts::small::{parts, peer};

/// A torrent of which only the info-hash is known, and peers that hand out metadata of these sizes.
fn unknown<const N: usize>(sizes: [u32; N]) -> (Parts<'static>, TorrentId, [usize; N]) {
    let (mut parts, known) = parts(Have::All);
    parts.cx.torrents.remove(known);
    let added = parts
        .cx
        .torrents
        .add_unknown(parts.cx.now, InfoHash([9; 20]));
    let id = added.expect("a torrent");
    let slots = sizes.map(|size| {
        let slot = peer(&mut parts.cx, id, true);
        let extensions = &mut parts.cx.peers[slot].extensions;
        (extensions.ut_metadata, extensions.metadata_size) = (3, size);
        slot
    });
    (parts, id, slots)
}

fn tried(parts: &Parts<'_>, id: TorrentId) -> Option<u32> {
    let torrent = parts.cx.torrents.get(id)?;
    torrent.metadata_piece().map(|(_, size)| size)
}

fn asked(parts: &Parts<'_>, slot: usize) -> u16 {
    parts.cx.peers[slot].download.pending.len
}

#[test]
fn the_first_size_is_tried_until_it_takes_too_long() {
    // Two come later and tell another size. Seconds until one of them is asked; the size that is tried then.
    for (seconds, expected) in [(0, 20_000), (29, 20_000), (30, 30_000)] {
        let (mut parts, id, [first, second, third]) = unknown([20_000, 0, 0]);
        let (download, cx) = (&mut parts.download, &mut parts.cx);
        download.request_metadata(cx, first, id);
        for slot in [second, third] {
            cx.peers[slot].extensions.metadata_size = 30_000;
        }
        cx.now = cx.now + Duration::from_secs(seconds);
        download.request_metadata(cx, second, id);
        assert_eq!(tried(&parts, id), Some(expected), "{seconds}");
        assert_eq!(asked(&parts, first) > 0, expected == 20_000, "{seconds}");
        assert_eq!(asked(&parts, second) > 0, expected == 30_000, "{seconds}");
    }
}

#[test]
fn a_size_that_cannot_be_is_not_tried() {
    for size in [0, METADATA_MAX + 1, u32::MAX] {
        let (mut parts, id, [slot]) = unknown([size]);
        parts.download.request_metadata(&mut parts.cx, slot, id);
        assert_eq!(
            (tried(&parts, id), asked(&parts, slot)),
            (None, 0),
            "{size}"
        );
    }
}

/// Two blocks are requested of a peer. What it says then, in two parts, wherever it is cut.
#[test]
fn whoever_rejects_or_contradicts_itself_is_not_asked_for_a_while() {
    let block = |head: &str, len: usize| [head.as_bytes(), &vec![7; len]].concat();
    // The message; what is answered; the blocks that are awaited then; whether the peer is on hold, and is believed.
    let cases = [
        (
            "a request",
            block("d8:msg_typei0e5:piecei5ee", 0),
            Some(5),
            2,
            false,
            true,
        ),
        (
            "a reject",
            block("d8:msg_typei2e5:piecei0ee", 0),
            None,
            0,
            true,
            true,
        ),
        ("nonsense", block("le", 0), None, 0, true, false),
        (
            "another size",
            block("d8:msg_typei1e5:piecei1e10:total_sizei9ee", 3616),
            None,
            0,
            true,
            false,
        ),
        (
            "another length",
            block("d8:msg_typei1e5:piecei1ee", 3615),
            None,
            0,
            true,
            false,
        ),
        (
            "a block",
            block("d8:msg_typei1e5:piecei1e10:total_sizei20000ee", 3616),
            None,
            1,
            false,
            true,
        ),
    ];
    for (name, message, answer, awaited, holds, believed) in cases {
        for cut in [0, 1, 20, 40].map(|cut: usize| cut.min(message.len() - 1)) {
            let (mut parts, id, [slot]) = unknown([20_000]);
            let (download, cx) = (&mut parts.download, &mut parts.cx);
            download.request_metadata(cx, slot, id);
            assert_eq!(cx.peers[slot].download.pending.len, 2);
            let first = cx.peers[slot].download.pending.head;
            let second = download.pending.get(first).unwrap().next;
            for at in [first, second] {
                download.pending.get_mut(at).unwrap().state = BlockState::Requested;
            }
            assert!(download.metadata_begins(cx, slot), "{name}");
            let mut said = None;
            for (part, last) in [(&message[..cut], false), (&message[cut..], true)] {
                if cx.peers[slot].link.payload == Payload::MetadataHead {
                    said = download.metadata_bytes(cx, slot, part, last).unwrap();
                }
            }
            let what = format!("{name}, cut at {cut}");
            assert_eq!(said, answer, "{what}");
            assert_eq!(cx.peers[slot].download.pending.len, awaited, "{what}");
            let extensions = &cx.peers[slot].extensions;
            assert_eq!(extensions.metadata_hold > cx.now, holds, "{what}");
            assert_eq!(extensions.metadata_size > 0, believed, "{what}");
        }
    }
}

/// Before anything was tried, the size that most peers tell comes first; of equally many, the smallest.
#[test]
fn the_size_that_most_peers_tell_comes_first() {
    for (sizes, expected) in [
        ([20_000, 30_000, 30_000], 30_000),
        ([20_000, 30_000, 40_000], 20_000),
        ([40_000, 30_000, METADATA_MAX + 1], 30_000),
    ] {
        let (mut parts, id, [first, ..]) = unknown(sizes);
        parts.download.request_metadata(&mut parts.cx, first, id);
        assert_eq!(tried(&parts, id), Some(expected), "{sizes:?}");
    }
}
