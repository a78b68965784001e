//! Received messages, without a node.

extern crate std;

use std::vec::Vec;

use everseed_core::time::Instant;

use super::*;
use crate::api::{Have, Identity};
use crate::parts::small::{LIMITS, parts, peer};

fn swarm() -> Swarm<'static> {
    let identity = Identity {
        peer_id: *b"-ES0100-mmmmmmmmmmmm",
        port: 6881,
        client: "test",
    };
    Swarm::new(std::vec![0; 512].leak(), identity, LIMITS)
}

/// A message as it is on the wire.
fn bytes(message: &Message, payload: &[u8]) -> Vec<u8> {
    [message.encode().bytes(), payload].concat()
}

/// A torrent of eight pieces is downloaded: which messages are a reason to hang up.
#[test]
fn a_message_that_cannot_be_meant_ends_the_connection() {
    let bitfield = |len| Message::Bitfield { len };
    let cases: [(Message, &[u8], bool, Verdict); 10] = [
        (Message::Have(7), &[], true, Ok(())),
        (Message::Have(8), &[], true, Err(Reason::BadMessage)),
        (Message::Suggest(8), &[], true, Err(Reason::BadMessage)),
        (Message::AllowedFast(7), &[], true, Ok(())),
        (Message::HaveAll, &[], true, Ok(())),
        (Message::HaveAll, &[], false, Err(Reason::BadMessage)),
        (bitfield(1), &[0xff], true, Ok(())),
        (bitfield(0), &[], true, Err(Reason::BadBitfield)),
        (bitfield(2), &[0xff, 0], true, Err(Reason::BadBitfield)),
        (Message::Extended { id: 99, len: 1 }, &[0], true, Ok(())),
    ];
    for (message, payload, fast, expected) in cases {
        let (mut parts, id) = parts(Have::Nothing);
        let slot = peer(&mut parts.cx, id, fast);
        let taken = swarm().messages(&mut parts, slot, &bytes(&message, payload));
        assert_eq!(taken, expected, "{message:?}, fast {fast}");
    }
}

/// However its bytes are cut, the last bitfield counts, and a piece that is told twice counts no more than all.
#[test]
fn what_a_peer_has_is_counted() {
    let bitfield = |bits| bytes(&Message::Bitfield { len: 1 }, &[bits]);
    let have = |piece| bytes(&Message::Have(piece), &[]);
    let (all, none) = (
        bytes(&Message::HaveAll, &[]),
        bytes(&Message::HaveNone, &[]),
    );
    for (messages, count, interesting) in [
        (std::vec![bitfield(0)], 0, false),
        (std::vec![bitfield(0b1100_0000)], 2, true),
        (std::vec![bitfield(0b1100_0000), bitfield(0b1)], 1, true),
        (std::vec![bitfield(0), have(3)], 1, true),
        (std::vec![all.clone(), have(3)], 8, true),
        (std::vec![all, none], 0, false),
    ] {
        let whole = messages.concat();
        for cut in 0..=whole.len() {
            let (mut parts, id) = parts(Have::Nothing);
            let slot = peer(&mut parts.cx, id, true);
            let mut swarm = swarm();
            for part in [&whole[..cut], &whole[cut..]] {
                assert_eq!(swarm.messages(&mut parts, slot, part), Ok(()));
            }
            let download = &parts.cx.peers[slot].download;
            assert_eq!(
                (download.have_count, download.interested),
                (count, interesting),
                "{whole:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn whoever_talks_and_sends_no_blocks_leaves() {
    // Seconds since it came, bytes of blocks that were sent either way, and the bytes that it may say besides.
    for (seconds, blocks, allowed) in [
        (0, 0, TALK + 8 * TALK_PER_PIECE),
        (100, 0, TALK + 8 * TALK_PER_PIECE + 100 * TALK_PER_SECOND),
        (0, 1 << 20, TALK + 8 * TALK_PER_PIECE + (1 << 16)),
    ] {
        for (more, expected) in [(0, Ok(())), (1, Err(Reason::Talk))] {
            let (mut parts, id) = parts(Have::Nothing);
            let slot = peer(&mut parts.cx, id, true);
            parts.cx.now = parts.cx.now + Duration::from_secs(seconds);
            let conn = &mut parts.cx.peers[slot];
            conn.download.downloaded = blocks;
            conn.link.talked = allowed + more;
            assert_eq!(swarm().sends_enough(&parts, slot), expected, "{seconds}");
        }
    }
}

#[test]
fn of_two_connections_of_a_peer_one_stays() {
    let (lower, higher) = (*b"-ES0100-aaaaaaaaaaaa", *b"-ES0100-zzzzzzzzzzzz");
    // Whether both are of one address, whether we called by the old one and by the new one, seconds since the old one
    // began and was last heard, the peer's id: whether the old one gives way.
    for (same, called_old, called_new, age, silent, id, expected) in [
        (true, false, false, 100, 29, lower, false),
        (true, false, false, 100, 30, lower, true),
        // Its id is no secret, so anybody may say that it is this peer.
        (false, false, false, 100, 30, lower, false),
        // Calls that crossed: that of the greater id stays.
        (true, true, false, 9, 0, lower, false),
        (true, true, false, 9, 0, higher, true),
        (true, false, true, 9, 0, lower, true),
        (true, false, true, 9, 0, higher, false),
        (true, false, true, 10, 0, lower, false),
    ] {
        let (mut parts, torrent) = parts(Have::All);
        let [old, new] = [(); 2].map(|()| peer(&mut parts.cx, torrent, true));
        let now = parts.cx.now;
        let ago = |seconds: u64| Instant::from_micros(now.as_micros() - seconds * 1_000_000);
        let addr = parts.cx.peers[old].link.addr;
        let link = &mut parts.cx.peers[old].link;
        (link.opened_at, link.last_received_at) = (ago(age), ago(silent));
        link.incoming = !called_old;
        let link = &mut parts.cx.peers[new].link;
        link.incoming = !called_new;
        if same {
            link.addr.set_ip(addr.ip());
        }
        let gives_way = swarm().gives_way(&parts, old, new, id);
        let id = std::string::String::from_utf8_lossy(&id).into_owned();
        assert_eq!(
            gives_way, expected,
            "{same} {called_old} {age} {silent} {id}"
        );
    }
}

#[test]
fn how_a_connection_ended_decides_whether_its_peer_is_called_again() {
    // Why it ended, whether blocks were exchanged, seconds that it lasted.
    let cases = [
        (Reason::BothSeeds, true, 9, Fate::Useless),
        (Reason::BadMessage, true, 9, Fate::Stumbled),
        (Reason::Talk, true, 9, Fate::Stumbled),
        (Reason::BadPieces, true, 9, Fate::Failed),
        (Reason::Crowded, true, 9, Fate::Ended),
        (Reason::Gone, false, 9, Fate::Ended),
        (Reason::Gone, true, 9, Fate::Good { steady: false }),
        (
            Reason::Gone,
            true,
            STEADY.as_secs(),
            Fate::Good { steady: true },
        ),
    ];
    for (reason, blocks, lasted, expected) in cases {
        let (mut parts, id) = parts(Have::All);
        let slot = peer(&mut parts.cx, id, true);
        parts.cx.peers[slot].upload.uploaded = u64::from(blocks);
        parts.cx.now = parts.cx.now + Duration::from_secs(lasted);
        let fate = swarm().fate(&parts, slot, reason);
        assert_eq!(fate, expected, "{reason:?} {blocks} {lasted}");
    }
    for (downloaded, steady) in [(MUCH - 1, false), (MUCH, true)] {
        let (mut parts, id) = parts(Have::All);
        let slot = peer(&mut parts.cx, id, true);
        parts.cx.peers[slot].download.downloaded = downloaded;
        let fate = swarm().fate(&parts, slot, Reason::Gone);
        assert_eq!(fate, Fate::Good { steady }, "{downloaded}");
    }
}
