//! Serving peers, without a node.

extern crate std;

use core::time::Duration;

use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::time::Instant;

use crate::api::{Have, Limits};
use crate::parts::small::{LIMITS, parts, peer};
use crate::peer::Reason;
use crate::peer::outbox::Out;
use crate::upload::suggest::suggest;
use crate::wake::Wake;

fn block(index: u32, begin: u32, len: u32) -> BlockRef {
    BlockRef { index, begin, len }
}

#[test]
fn which_requests_are_taken() {
    // Piece 0 is here, and no other.
    type Case = (bool, bool, BlockRef, Result<(), Reason>, u16);
    let cases: [Case; 8] = [
        (true, true, block(0, 0, BLOCK), Ok(()), 1),
        (false, true, block(0, BLOCK, BLOCK), Ok(()), 1),
        // Choked: a reject under Fast, else nothing.
        (true, false, block(0, 0, BLOCK), Ok(()), 1),
        (false, false, block(0, 0, BLOCK), Ok(()), 0),
        (true, true, block(1, 0, BLOCK), Ok(()), 1),
        (
            false,
            true,
            block(1, 0, BLOCK),
            Err(Reason::MissingPiece),
            0,
        ),
        (true, true, block(8, 0, BLOCK), Err(Reason::BadRequest), 0),
        (
            true,
            true,
            block(0, 0, BLOCK + 1),
            Err(Reason::BadRequest),
            0,
        ),
    ];
    for (fast, unchoked, block, expected, queued) in cases {
        let (mut parts, id) = parts(Have::Some(&[0x80]));
        let slot = peer(&mut parts.cx, id, fast);
        parts.cx.peers[slot].upload.unchoked = unchoked;
        let verdict = parts.upload.request(&mut parts.cx, slot, block);
        assert_eq!(
            verdict, expected,
            "{block:?}, fast {fast}, unchoked {unchoked}"
        );
        let count = parts.cx.peers[slot].upload.requests.len();
        assert_eq!(count, queued, "{block:?}, fast {fast}, unchoked {unchoked}");
    }
}

/// As many as were asked for, or suit the capacity, and no more than the host has memory for.
#[test]
fn the_number_of_slots() {
    let (parts, _) = parts(Have::All);
    // Slots that were asked for, that there is memory for, and the upload limit.
    for (slots, most_slots, upload_bps, expected) in [
        (None, 100, None, 8),
        (None, 4, None, 4),
        (None, 100, Some(1_000_000), 30),
        (Some(50), 100, Some(1_000_000), 50),
        (Some(50), 45, None, 45),
        (Some(50), 0, None, 1),
    ] {
        let limits = Limits {
            slots,
            most_slots,
            upload_bps,
            ..LIMITS
        };
        let slots = parts.upload.suitable_slots(&limits);
        assert_eq!(slots, expected, "{limits:?}");
    }
}

#[test]
fn slots_are_given_in_turn() {
    let (mut parts, id) = parts(Have::All);
    let (upload, cx) = (&mut parts.upload, &mut parts.cx);
    let slots: [usize; 5] = core::array::from_fn(|_| peer(cx, id, true));
    for &slot in &slots {
        cx.peers[slot].upload.interested = true;
    }
    let served = |cx: &crate::context::Context<'_>| {
        let unchoked = slots.iter().filter(|&&slot| cx.peers[slot].upload.unchoked);
        unchoked.copied().collect::<std::vec::Vec<_>>()
    };
    upload.choking_round(cx, &LIMITS, false);
    let first = served(cx);
    assert_eq!(first.len(), 2);
    // One that wants nothing any more makes room for another, at once.
    cx.peers[first[0]].upload.interested = false;
    upload.choke(cx, first[0]);
    upload.fill_slots(cx, &LIMITS);
    let then = served(cx);
    assert!(
        then.len() == 2 && !then.contains(&first[0]),
        "{first:?}, {then:?}"
    );
    // Before ten seconds have passed there is no other round.
    upload.choking_round_if_due(cx, &LIMITS);
    let rounds = upload.rounds;
    upload.choking_round_if_due(cx, &LIMITS);
    assert_eq!(upload.rounds, rounds);
}

/// Whose slot a newcomer takes over.
#[test]
fn who_makes_room_for_a_newcomer() {
    // Two that are served, the second in an optimistic slot: the seconds for which each has been, and those since it took
    // a block. Who is choked.
    type Served = (u64, Option<u64>);
    let cases: [(Served, Served, Option<usize>); 11] = [
        // Each has its turn of a second, if it got something.
        ((60, Some(0)), (1, Some(0)), Some(1)),
        ((60, Some(0)), (0, Some(0)), None),
        ((60, Some(0)), (1, None), None),
        ((60, Some(0)), (3, None), None),
        ((60, Some(0)), (4, None), Some(1)),
        // Who hardly uses its slot gives it up before who uses the optimistic one.
        ((60, None), (1, Some(0)), Some(0)),
        ((60, Some(4)), (1, Some(0)), Some(0)),
        ((60, Some(3)), (1, Some(0)), Some(1)),
        ((4, None), (0, Some(0)), Some(0)),
        // It is waited for until that is known.
        ((3, None), (1, Some(0)), None),
        ((3, None), (3, None), None),
    ];
    for (by_speed, optimistic, expected) in cases {
        let (mut parts, id) = parts(Have::All);
        let (upload, cx) = (&mut parts.upload, &mut parts.cx);
        let slots: [usize; 3] = core::array::from_fn(|_| peer(cx, id, true));
        let now = cx.now;
        let ago = |s| Instant::from_micros(now.as_micros() - s * 1_000_000);
        for &slot in &slots {
            cx.peers[slot].upload.interested = true;
        }
        (upload.slots, upload.next_turn) = (2, Some(now));
        for (slot, (since, took)) in slots.into_iter().zip([by_speed, optimistic]) {
            upload.unchoke(cx, slot);
            // It waits for more.
            cx.peers[slot].link.outbox.current = Some(Out::Unchoke);
            let side = &mut cx.peers[slot].upload;
            side.choke_changed_at = Instant::from_micros(ago(since).as_micros() - 1);
            if let Some(took) = took {
                // What it took left room for more, as a host writes to slow peers seldom.
                side.add_uploaded(ago(took), u64::from(BLOCK));
                side.offered_at = Some(ago(took));
            }
        }
        cx.peers[slots[1]].upload.optimistic = true;
        upload.give_turns_if_due(cx);
        let served = slots.map(|slot| cx.peers[slot].upload.unchoked);
        let case = (by_speed, optimistic);
        let choked = [0, 1].into_iter().find(|&at| !served[at]);
        assert_eq!(choked, expected, "{case:?}");
        assert_eq!(served[2], expected.is_some(), "{case:?}");
        let optimistic = slots.map(|slot| cx.peers[slot].upload.optimistic);
        let newcomer = expected.is_some();
        assert_eq!(optimistic, [false, !newcomer, newcomer], "{case:?}");
        // It is looked at again in a second, as long as a newcomer waits.
        let again = expected.is_none().then_some(now + Duration::from_secs(1));
        upload.next_turn = None;
        upload.fill_slots(cx, &LIMITS);
        assert_eq!(upload.next_turn, again, "{case:?}");
    }
}

/// Seven take a block each and then read nothing, or request nothing at all; two are served at a time. Who comes after
/// them waits for a turn of each two, not of each one, whether there is an upload limit or not.
#[test]
fn who_does_not_read_holds_up_no_newcomer() {
    for (throttled, asks, most) in [(false, true, 6), (true, true, 6), (true, false, 12)] {
        let (mut parts, id) = parts(Have::All);
        let (upload, cx) = (&mut parts.upload, &mut parts.cx);
        let slots: [usize; 8] = core::array::from_fn(|_| peer(cx, id, true));
        for &slot in &slots {
            cx.peers[slot].upload.interested = true;
            cx.peers[slot].upload.choke_changed_at = cx.now;
            cx.now = Instant::from_micros(cx.now.as_micros() + 1);
        }
        cx.wakes.add_if(Wake::SendAtRate, throttled);
        upload.fill_slots(cx, &LIMITS);
        let mut seconds = 0;
        while !cx.peers[slots[7]].upload.unchoked {
            for &slot in &slots[..7] {
                let (now, side) = (cx.now, &mut cx.peers[slot].upload);
                if asks && side.unchoked && side.uploaded == 0 {
                    side.add_uploaded(now, u64::from(BLOCK));
                    side.offered_at = Some(now);
                    cx.peers[slot].link.outbox.current = Some(Out::Unchoke);
                }
            }
            cx.now = cx.now + Duration::from_secs(1);
            upload.give_turns_if_due(cx);
            seconds += 1;
        }
        assert!(seconds <= most, "{seconds} s, {throttled} {asks}");
    }
}

#[test]
fn a_piece_that_is_asked_for_again_is_looked_at() {
    let (mut parts, id) = parts(Have::All);
    let (upload, cx) = (&mut parts.upload, &mut parts.cx);
    let slot = peer(cx, id, true);
    cx.peers[slot].upload.unchoked = true;
    upload.block_sent(cx, slot, block(3, BLOCK, BLOCK));
    assert_eq!(upload.suspect, None);
    upload.request(cx, slot, block(3, 0, BLOCK)).unwrap();
    let suspect = upload
        .suspect
        .map(|(torrent, piece)| (torrent, piece.get()));
    assert_eq!(suspect, Some((id, 3)));
}

#[test]
fn each_piece_is_suggested_once() {
    // What we have, whether the peer speaks Fast, bytes that went out before: what two peers are suggested.
    let all = 16 * u64::from(BLOCK);
    for (have, fast, uploaded, expected) in [
        (Have::All, true, 0, [Some(0), Some(1)]),
        (Have::All, false, 0, [None, None]),
        (Have::All, true, all, [None, None]),
        (Have::Some(&[0x80]), true, 0, [None, None]),
    ] {
        let (mut parts, id) = parts(have);
        let cx = &mut parts.cx;
        cx.torrents.get_mut(id).unwrap().uploaded = uploaded;
        let suggested = [0, 1].map(|_| {
            let slot = peer(cx, id, fast);
            suggest(cx, slot);
            cx.peers[slot].upload.to_suggest
        });
        assert_eq!(suggested, expected, "{have:?} {fast} {uploaded}");
    }
}

#[test]
fn who_hangs_up_soon_suspects_the_last_piece() {
    // Seconds between a piece's last block and the end, whether the piece is good: whether it is verified again.
    for (seconds, have, suspected) in [
        (10, Have::All, true),
        (11, Have::All, false),
        (0, Have::Some(&[0x80]), false),
    ] {
        let (mut parts, id) = parts(have);
        let (upload, cx) = (&mut parts.upload, &mut parts.cx);
        let slot = peer(cx, id, true);
        // The first block of a piece is no end of it.
        upload.block_sent(cx, slot, block(2, 0, BLOCK));
        upload.suspect_last_piece(cx, slot);
        assert_eq!(upload.suspect, None);
        upload.block_sent(cx, slot, block(3, BLOCK, BLOCK));
        cx.now = cx.now + Duration::from_secs(seconds);
        upload.suspect_last_piece(cx, slot);
        assert_eq!(upload.suspect.is_some(), suspected, "{seconds} {have:?}");
    }
}

#[test]
fn metadata_is_handed_out_four_times() {
    // The id by which the peer wants it, bytes of it: requests that are taken of a hundred.
    for (id_told, len, taken) in [
        (3, Some(40_000), 16),
        (3, Some(1), 8),
        (3, None, 4),
        (0, Some(1), 0),
    ] {
        let (mut parts, id) = parts(Have::All);
        let (upload, cx) = (&mut parts.upload, &mut parts.cx);
        cx.torrents.get_mut(id).unwrap().metadata_len = len;
        let slot = peer(cx, id, true);
        cx.peers[slot].extensions.ut_metadata = id_told;
        for _ in 0..100 {
            upload.metadata_request(cx, slot, 0);
        }
        assert_eq!(
            cx.peers[slot].upload.requests.len(),
            taken,
            "{id_told} {len:?}"
        );
    }
}
