//! What is requested from whom, without a node.

use super::*;
use crate::api::{Have, StorageError};
use crate::parts::Parts;
use crate::parts::small::{parts, peer, piece};
use crate::rate::Bucket;

#[test]
fn how_many_blocks_are_requested_at_a_time() {
    // Of six blocks: peers that share them, the requests that this one queues, its pipeline, whether it snubs us.
    for (sources, reqq, pipeline, snubbed, expected) in [
        (1, 250, 4, false, 4),
        (1, 250, 100, false, 6),
        (1, 3, 100, false, 3),
        (1, 0, 100, false, 1),
        (2, 250, 100, false, 3),
        (3, 250, 100, false, 2),
        (6, 250, 100, false, 2),
        (0, 250, 100, false, 6),
        (1, 250, 100, true, 1),
    ] {
        let (mut parts, id) = parts(Have::Nothing);
        let Parts { cx, download, .. } = &mut parts;
        let slot = peer(cx, id, true);
        download.active_sources = sources;
        let side = &mut cx.peers[slot].download;
        (side.reqq, side.pipeline, side.snubbed) = (reqq, pipeline, snubbed);
        let case = (sources, reqq, pipeline, snubbed);
        assert_eq!(download.pipeline(cx, slot), expected, "{case:?}");
    }
}

#[test]
fn when_we_are_interested() {
    // What the peer has, what we have, what is wanted, whether it is downloaded.
    for (theirs, ours, wanted, downloads, interested) in [
        (0b0000_0001, 0, 0xff, true, true),
        (0b0000_0001, 0b0000_0001, 0xff, true, false),
        (0b0000_0001, 0, 0b1111_1110, true, false),
        (0b0000_0011, 0b0000_0001, 0xff, true, true),
        (0, 0, 0xff, true, false),
        (0b0000_0001, 0, 0xff, false, false),
    ] {
        let (mut parts, id) = parts(Have::Nothing);
        let Parts { cx, download, .. } = &mut parts;
        let slot = peer(cx, id, true);
        for index in (0..8).filter(|index| ours & (0x80 >> index) != 0) {
            cx.torrents.verified(id, piece(index), true);
        }
        assert!(cx.torrents.set_wanted(id, Some(&[wanted])));
        cx.torrents.get_mut(id).unwrap().downloads = downloads;
        download.availability.peer_has_bits(cx, slot, 0, &[theirs]);
        cx.peers[slot].download.interested = !interested;
        while cx.peers.next_ready().is_some() {}
        download.update_interest(cx, slot);
        let case = (theirs, ours, wanted, downloads);
        assert_eq!(cx.peers[slot].download.interested, interested, "{case:x?}");
        assert_eq!(cx.peers.next_ready(), Some(slot), "it is told");
        download.update_interest(cx, slot);
        assert_eq!(cx.peers.next_ready(), None, "once");
    }
}

/// A seed that serves us.
fn seed(parts: &mut Parts<'static>, id: TorrentId) -> usize {
    let Parts { cx, download, .. } = parts;
    let slot = peer(cx, id, true);
    download.availability.peer_has_all(cx, slot);
    let side = &mut cx.peers[slot].download;
    (side.interested, side.unchoked) = (true, true);
    download.count_active_sources(cx);
    slot
}

#[test]
fn when_nothing_is_requested() {
    type Change = fn(&mut Parts<'_>, usize, TorrentId);
    let cases: [(&str, Change, u16); 7] = [
        ("all is well", |_, _, _| (), 4),
        (
            "it chokes us",
            |parts, slot, _| parts.cx.peers[slot].download.unchoked = false,
            0,
        ),
        (
            "we are not interested",
            |parts, slot, _| parts.cx.peers[slot].download.interested = false,
            0,
        ),
        (
            "it retracted too much",
            |parts, slot, _| parts.cx.peers[slot].download.retractions = RETRACTIONS_MAX,
            0,
        ),
        (
            "the disk is full",
            |parts, _, id| {
                let torrent = parts.cx.torrents.get_mut(id).unwrap();
                torrent.refused = Some(StorageError::Full);
            },
            0,
        ),
        (
            "the download limit is reached",
            |parts, _, _| {
                parts.download.rate = Bucket::new(Some(1000));
                parts.download.rate.take(parts.cx.now, 1_000_000);
            },
            0,
        ),
        (
            "it sends a piece even while it chokes us",
            |parts, slot, _| {
                let side = &mut parts.cx.peers[slot].download;
                side.unchoked = false;
                side.allowed_fast.push(3).unwrap();
            },
            2,
        ),
    ];
    for (name, change, requested) in cases {
        let (mut parts, id) = parts(Have::Nothing);
        let slot = seed(&mut parts, id);
        change(&mut parts, slot, id);
        let Parts { cx, download, .. } = &mut parts;
        download.request_blocks(cx, slot);
        assert_eq!(cx.peers[slot].download.pending.len, requested, "{name}");
    }
}

#[test]
fn the_pieces_that_are_begun() {
    // The order, the piece that is suggested, pieces that another peer has too: the first piece that is begun.
    for (order, suggested, others, expected) in [
        (Order::Sequential, None, 0, 0),
        (Order::Sequential, None, 0b1100_0000, 0),
        (Order::Rarest, Some(5), 0, 5),
        // Of a piece that others have, a suggestion is no order.
        (Order::Rarest, Some(5), 0b1110_1111, 3),
        (Order::Rarest, None, 0b1110_1111, 3),
    ] {
        let (mut parts, id) = parts(Have::Nothing);
        let slot = seed(&mut parts, id);
        let Parts { cx, download, .. } = &mut parts;
        cx.torrents.get_mut(id).unwrap().order = order;
        let other = peer(cx, id, true);
        download.availability.peer_has_bits(cx, other, 0, &[others]);
        cx.peers[slot].download.suggested = suggested;
        download.request_blocks(cx, slot);
        let first = cx.peers[slot].download.pending.head;
        let first = download.pending.get(first).unwrap();
        let begun = download.in_progress.get(first.partial).unwrap().piece;
        assert_eq!(begun, expected, "{order:?} {suggested:?} {others:b}");
    }
}

#[test]
fn the_idlest_piece_gives_way_to_a_peer_that_has_nothing_to_do() {
    let (mut parts, id) = parts(Have::Nothing);
    let Parts { cx, download, .. } = &mut parts;
    let [a, b] = [peer(cx, id, true), peer(cx, id, true)];
    for index in 0..4 {
        let begun = download.begin_piece(cx, a, id, piece(index), 2 * BLOCK, false);
        assert!(begun.is_some(), "{index}");
    }
    let first = download.in_progress.find(id, piece(0)).unwrap();
    download.reserve(cx, a, first, 0);
    let busy = download.begin_piece(cx, a, id, piece(4), 2 * BLOCK, false);
    assert_eq!(busy, None, "it has something to do");
    assert!(cx.wakes.take(Wake::RequestAtPieceEnd));
    let idle = download.begin_piece(cx, b, id, piece(4), 2 * BLOCK, false);
    assert!(idle.is_some() && download.in_progress.find(id, piece(0)).is_some());
    assert_eq!(download.in_progress.of(id).count(), 4);
}
