//! Requesting blocks, without a node.

use core::time::Duration;

use everseed_core::geometry::{BLOCK, BlockRef, TorrentId};

use crate::api::Have;
use crate::download::pending_blocks::{BlockState, PendingBlock};
use crate::download::receiver::next_set;
use crate::memory::ids::NONE;
use crate::parts::Parts;
use crate::parts::small::{parts, peer};
use crate::peer::{Reason, origin};
use crate::wake::{Wake, Wakes};

#[test]
fn blocks_are_requested_while_there_is_memory() {
    let (mut parts, id) = parts(Have::Nothing);
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    let seed = peer(cx, id, true);
    // A peer that offers nothing is asked for nothing.
    download.request_blocks(cx, seed);
    assert_eq!(download.blocks.free(), 6);
    download.availability.peer_has_all(cx, seed);
    download.update_interest(cx, seed);
    assert!(cx.peers[seed].download.interested);
    download.request_blocks(cx, seed);
    assert_eq!(cx.peers[seed].download.pending.len, 0, "it chokes us");
    download.unchoked_us(cx, seed).unwrap();
    download.request_blocks(cx, seed);
    // Four to begin with, then two are left for another.
    assert_eq!(
        (cx.peers[seed].download.pending.len, download.blocks.free()),
        (4, 2)
    );
    let other = peer(cx, id, true);
    download.availability.peer_has_all(cx, other);
    download.update_interest(cx, other);
    download.unchoked_us(cx, other).unwrap();
    download.request_blocks(cx, other);
    assert_eq!(
        (cx.peers[other].download.pending.len, download.blocks.free()),
        (2, 0)
    );
    assert!(cx.wakes.has(Wake::RequestAtFreeBlocks));
}

#[test]
fn a_choke_gives_blocks_back() {
    for fast in [true, false] {
        let (mut parts, id) = parts(Have::Nothing);
        let (download, cx) = (&mut parts.download, &mut parts.cx);
        let slot = peer(cx, id, fast);
        download.availability.peer_has_all(cx, slot);
        download.update_interest(cx, slot);
        download.unchoked_us(cx, slot).unwrap();
        download.request_blocks(cx, slot);
        download.choked_us(cx, slot).unwrap();
        // None of them was sent yet, so under Fast none will be answered either.
        assert_eq!(download.blocks.free(), 6, "fast {fast}");
        assert_eq!(cx.peers[slot].download.pending.len, 0, "fast {fast}");
        assert!(cx.wakes.has(Wake::Request), "others are asked");
    }
}

#[test]
fn what_does_not_exist_is_not_offered() {
    let (mut parts, id) = parts(Have::Nothing);
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    let slot = peer(cx, id, true);
    for (piece, expected) in [(0, Ok(())), (7, Ok(())), (8, Err(Reason::BadMessage))] {
        assert_eq!(download.allowed(cx, slot, piece), expected, "{piece}");
        assert_eq!(download.suggested(cx, slot, piece), expected, "{piece}");
    }
    assert_eq!(cx.peers[slot].download.allowed_fast, [0, 7]);
    // A reject of what was never requested changes nothing.
    let block = BlockRef {
        index: 0,
        begin: 0,
        len: BLOCK,
    };
    assert_eq!(download.rejected(cx, slot, block), Ok(()));
    assert_eq!(download.blocks.free(), 6);
}

#[test]
fn the_rarest_piece_comes_first_and_counts_follow() {
    let (mut parts, id) = parts(Have::Nothing);
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    let (a, b) = (peer(cx, id, true), peer(cx, id, true));
    download
        .availability
        .peer_has_bits(cx, a, 0, &[0b1100_0001]);
    download
        .availability
        .peer_has_bits(cx, b, 0, &[0b1000_0001]);
    let counts = |d: &super::Download<'_>| {
        [
            d.availability.counts[0],
            d.availability.counts[1],
            d.availability.counts[7],
        ]
    };
    assert_eq!(counts(download), [2, 1, 2]);
    download.availability.peer_has(cx, b, 1);
    assert_eq!(counts(download), [2, 2, 2]);
    download.availability.forget_bits(cx, a);
    assert_eq!(counts(download), [1, 1, 1]);
    download.availability.peer_has_all(cx, b);
    assert_eq!(counts(download), [0, 0, 0], "seeds are not counted");
}

#[test]
fn what_is_woken() {
    type Step = fn(&mut super::Download<'_>, &mut crate::context::Context<'_>, usize);
    // What is done to a peer that was asked for four of six blocks, and whether others are to be asked for more then.
    let cases: [(&str, Step, bool); 6] = [
        ("nothing", |_, _, _| (), false),
        (
            "a choke",
            |download, cx, slot| download.choked_us(cx, slot).unwrap(),
            true,
        ),
        (
            "a review in time",
            |download, cx, slot| download.sweep_pending(cx, slot, Duration::from_secs(5)),
            false,
        ),
        (
            "one request taken back, with blocks left",
            |download, cx, slot| {
                let at = cx.peers[slot].download.pending.head;
                download.cancel_pending(cx, slot, at);
            },
            false,
        ),
        (
            "one request taken back that others wait for",
            |download, cx, slot| {
                cx.wakes.add(Wake::RequestAtFreeBlocks);
                let at = cx.peers[slot].download.pending.head;
                download.cancel_pending(cx, slot, at);
            },
            true,
        ),
        (
            "a piece ended that others wait for",
            |download, cx, slot| {
                cx.wakes.add(Wake::RequestAtPieceEnd);
                let at = cx.peers[slot].download.pending.head;
                let partial = download.pending.get(at).unwrap().partial;
                download.give_up(cx, partial);
            },
            true,
        ),
    ];
    for (name, step, woken) in cases {
        let (mut parts, id) = parts(Have::Nothing);
        let (download, cx) = (&mut parts.download, &mut parts.cx);
        let slot = peer(cx, id, false);
        download.availability.peer_has_all(cx, slot);
        download.update_interest(cx, slot);
        download.unchoked_us(cx, slot).unwrap();
        download.request_blocks(cx, slot);
        assert_eq!(
            (cx.peers[slot].download.pending.len, cx.wakes),
            (4, Wakes::default())
        );
        step(download, cx, slot);
        assert_eq!(cx.wakes.take(Wake::Request), woken, "{name}");
        assert_eq!(cx.wakes, Wakes::default(), "{name}");
    }
}

/// A peer that was asked for four blocks, and the requests are sent.
pub(super) fn requested_from(parts: &mut Parts<'static>, id: TorrentId) -> usize {
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    let slot = peer(cx, id, true);
    download.availability.peer_has_all(cx, slot);
    download.update_interest(cx, slot);
    download.unchoked_us(cx, slot).unwrap();
    download.request_blocks(cx, slot);
    let mut at = cx.peers[slot].download.pending.head;
    while let Some(pending) = download.pending.get_mut(at) {
        pending.state = BlockState::Requested;
        at = pending.next;
    }
    cx.peers[slot].download.pending.unsent = NONE;
    assert_eq!(cx.peers[slot].download.pending.len, 4);
    slot
}

#[test]
fn retractions_are_counted_until_the_sweep() {
    let (mut parts, id) = parts(Have::Nothing);
    let slot = requested_from(&mut parts, id);
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    for counted in 1..=4 {
        let at = cx.peers[slot].download.pending.head;
        let pending = *download.pending.get(at).unwrap();
        let block = download.block_ref(cx, &pending).unwrap();
        download.rejected(cx, slot, block).unwrap();
        assert_eq!(cx.peers[slot].download.retractions, counted);
        // The same again retracts nothing.
        download.rejected(cx, slot, block).unwrap();
        assert_eq!(cx.peers[slot].download.retractions, counted);
    }
    download.choked_us(cx, slot).unwrap();
    assert_eq!(cx.peers[slot].download.retractions, 8);
    download.sweep_pending(cx, slot, Duration::from_secs(5));
    assert_eq!(cx.peers[slot].download.retractions, 0);
}

#[test]
fn who_sends_no_block_is_slow_and_then_snubs_us() {
    // Seconds since the last block: whether the peer is slow, whether it snubs us, and its pending blocks.
    for (seconds, slow, snubbed, pending) in [
        (19, false, false, 4),
        (20, true, false, 4),
        (59, true, false, 4),
        (60, false, true, 1),
    ] {
        let (mut parts, id) = parts(Have::Nothing);
        let slot = requested_from(&mut parts, id);
        let (download, cx) = (&mut parts.download, &mut parts.cx);
        cx.now = cx.now + Duration::from_secs(seconds);
        download.sweep_pending(cx, slot, Duration::from_secs(5));
        let side = &cx.peers[slot].download;
        let is = (side.slow, side.snubbed, side.pending.len);
        assert_eq!(is, (slow, snubbed, pending), "{seconds} s");
    }
}

/// A piece that was bad comes from one peer alone. If that one snubs us, whoever comes later has it, though there is
/// nothing by which that peer could have shown that it is faster.
#[test]
fn who_snubs_us_keeps_no_piece_from_others() {
    let (mut parts, id) = parts(Have::Nothing);
    let holder = requested_from(&mut parts, id);
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    let at = cx.peers[holder].download.pending.head;
    let partial = download.pending.get(at).unwrap().partial;
    let piece = download.in_progress.get_mut(partial).unwrap();
    piece.evidence.alone = true;
    (piece.exclusive, piece.evidence.sole) = (
        Some(cx.peers.id(holder)),
        Some(origin(cx.peers[holder].link.addr)),
    );
    let holds = |parts: &Parts<'_>, slot: usize| {
        let its = |pending: &PendingBlock| pending.partial == partial;
        let list = &parts.cx.peers[slot].download.pending;
        parts.download.pending.find(list, its).is_some()
    };
    let period = Duration::from_secs(5);
    cx.now = cx.now + Duration::from_secs(60);
    download.sweep_pending(cx, holder, period);
    assert!(holds(&parts, holder), "there is nobody else");
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    let other = peer(cx, id, true);
    download.availability.peer_has_all(cx, other);
    download.update_interest(cx, other);
    download.unchoked_us(cx, other).unwrap();
    cx.now = cx.now + period;
    download.sweep_pending(cx, holder, period);
    download.request_blocks(cx, other);
    assert!(holds(&parts, other) && !holds(&parts, holder));
}

#[test]
fn the_next_piece_of_a_set() {
    for (bits, from, expected) in [
        ([0x80, 0x01], 0, Some(0)),
        ([0x80, 0x01], 1, None),
        ([0x80, 0x40], 1, Some(9)),
        ([0x00, 0x00], 0, None),
    ] {
        assert_eq!(next_set(&bits, from, 12), expected, "{bits:?} {from}");
    }
}
