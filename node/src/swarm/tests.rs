//! Connections, without a node.

extern crate std;

use core::time::Duration;

use everseed_core::geometry::{BLOCK, BlockRef};

use crate::api::{Have, Identity};
use crate::discovery::candidates::{Fate, Named, Need, PeerSource};
use crate::parts::Parts;
use crate::parts::small::{LIMITS, parts, peer};
use crate::peer::outbox::Stage;
use crate::peer::{Conn, LinkState, Reason, origin};
use crate::swarm::Swarm;
use crate::swarm::bans::BANNED_AT;
use crate::swarm::outbound::Cursor;
use crate::upload::request_queue::ReplyKind;
use crate::wake::Wake;

/// A swarm without connections.
pub(super) fn swarm() -> Swarm<'static> {
    let identity = Identity {
        peer_id: *b"-ES0100-aaaaaaaaaaaa",
        port: 6881,
        client: "test",
    };
    Swarm::new(std::vec![0; 512].leak(), identity, LIMITS)
}

#[test]
fn two_who_need_nothing_part() {
    // What we have, what the peer has of eight pieces, whether it is interested, whether it says that it only uploads.
    let cases = [
        (Have::All, 8, false, false, Err(Reason::BothSeeds)),
        (Have::All, 7, false, false, Ok(())),
        (Have::All, 7, false, true, Err(Reason::BothSeeds)),
        (Have::All, 8, true, false, Ok(())),
        (Have::Nothing, 8, false, false, Ok(())),
        (Have::Nothing, 8, false, true, Ok(())),
    ];
    for (have, pieces, interested, upload_only, expected) in cases {
        let (mut parts, id) = parts(have);
        let slot = peer(&mut parts.cx, id, true);
        let conn = &mut parts.cx.peers[slot];
        conn.download.have_count = pieces;
        conn.upload.interested = interested;
        conn.extensions.upload_only = upload_only;
        assert_eq!(
            swarm().both_seeds(&parts, slot),
            expected,
            "{have:?} {pieces} {interested}"
        );
    }
}

#[test]
fn a_close_gives_everything_back() {
    let (mut parts, id) = parts(Have::Nothing);
    let slot = peer(&mut parts.cx, id, true);
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    download.availability.peer_has_bits(cx, slot, 0, &[0xff]);
    download.update_interest(cx, slot);
    download.unchoked_us(cx, slot).unwrap();
    download.request_blocks(cx, slot);
    assert!(download.blocks.free() < 6);
    parts.cx.peers[slot].upload.unchoked = true;
    swarm().close(&mut parts, slot, Reason::Gone);
    assert!(parts.cx.wakes.take(Wake::FillSlots) && parts.cx.wakes.take(Wake::Request));
    assert_eq!(parts.download.blocks.free(), 6);
    assert_eq!(parts.download.availability.counts, [0; 8]);
    assert_eq!(parts.cx.torrents.get(id).unwrap().conns, 0);
    assert_eq!(
        parts.cx.peers[slot].link.state,
        LinkState::Closing(Reason::Gone)
    );
    // Twice is as good as once.
    swarm().close(&mut parts, slot, Reason::Idle);
    assert_eq!(
        parts.cx.peers[slot].link.state,
        LinkState::Closing(Reason::Gone)
    );
}

#[test]
fn who_says_nothing_leaves_in_time() {
    let (mut parts, _) = parts(Have::All);
    let mut swarm = swarm();
    let from = ([10, 0, 0, 1], 5000).into();
    let caller = swarm.accept(&mut parts, from).unwrap();
    let slot = parts.cx.peers.slot(caller).unwrap();
    for (seconds, stays) in [(9, true), (10, true), (11, false)] {
        let (now, started) = (parts.cx.now, parts.cx.peers[slot].link.opened_at);
        parts.cx.now = started + Duration::from_secs(seconds);
        assert!(parts.cx.now >= now);
        swarm.sweep(&mut parts);
        assert_eq!(parts.cx.peers[slot].is_live(), stays, "after {seconds} s");
    }
}

#[test]
fn a_candidate_is_called_once() {
    let (mut parts, id) = parts(Have::Nothing);
    let mut swarm = swarm();
    let now = parts.cx.now;
    let named = |port: u16, source| Named {
        torrent: id,
        addr: ([10, 0, 0, 9], port).into(),
        source,
        by: None,
    };
    let candidates = &mut parts.discovery.candidates;
    candidates.add(now, named(6881, PeerSource::Tracker));
    assert!(swarm.dial(&mut parts).is_some());
    assert_eq!(parts.cx.peers.dialling, 1);
    assert!(swarm.dial(&mut parts).is_none(), "it is called already");
    // We go on without calls when we stop.
    swarm.stopping = true;
    let candidates = &mut parts.discovery.candidates;
    candidates.add(now, named(6882, PeerSource::User));
    assert!(swarm.dial(&mut parts).is_none());
}

/// Who served us stays connected, and has nothing more for us: whoever else is known does not wait for minutes.
#[test]
fn who_has_nothing_more_delays_no_other() {
    for has_more in [true, false] {
        let (mut parts, id) = parts(Have::Nothing);
        let mut swarm = swarm();
        let slot = peer(&mut parts.cx, id, true);
        let (download, cx) = (&mut parts.download, &mut parts.cx);
        download.availability.peer_has_bits(cx, slot, 0, &[0x80]);
        download.update_interest(cx, slot);
        assert!(cx.peers[slot].download.interested);
        let (candidates, mut now) = (&mut parts.discovery.candidates, cx.now);
        let named = Named {
            torrent: id,
            addr: ([10, 0, 0, 9], 6881).into(),
            source: PeerSource::Tracker,
            by: None,
        };
        candidates.add(now, named);
        for _ in 0..4 {
            now = candidates.deadline().unwrap();
            let (at, ..) = candidates.take(now).unwrap();
            candidates.done(now, at, Fate::Failed, Need::IsServed);
        }
        cx.now = now;
        cx.peers[slot].link.last_received_at = now;
        if !has_more {
            download.availability.forget_bits(cx, slot);
            download.update_interest(cx, slot);
        }
        swarm.sweep(&mut parts);
        let wait = parts.discovery.candidates.deadline().unwrap() - now;
        let most = Duration::from_secs(if has_more { 480 } else { 60 });
        assert_eq!(wait, most, "has more: {has_more}");
    }
}

/// The only source is banned, be it for what our own disk spoiled. When the ban ends it is called.
#[test]
fn who_is_banned_is_called_when_the_ban_ends() {
    for source in [PeerSource::User, PeerSource::Tracker, PeerSource::Caller] {
        let (mut parts, id) = parts(Have::Nothing);
        let mut swarm = swarm();
        let (addr, begin) = (([10, 0, 0, 9], 6881).into(), parts.cx.now);
        let named = Named {
            torrent: id,
            addr,
            source,
            by: None,
        };
        parts.discovery.candidates.add(begin, named);
        assert!(swarm.bans.charge(begin, origin(addr), BANNED_AT));
        let called_after = loop {
            let due = parts.discovery.candidates.deadline();
            parts.cx.now = due.expect("it is not forgotten").max(parts.cx.now);
            if swarm.dial(&mut parts).is_some() {
                break (parts.cx.now - begin).as_secs();
            }
        };
        assert!(
            (3600..=3660).contains(&called_after),
            "{source:?}: {called_after} s"
        );
    }
}

#[test]
fn the_lowest_priority_gives_way() {
    type Change = fn(&mut Conn);
    // What is so of the peer of the lowest priority, and whether it leaves for a newcomer of a higher one.
    let cases: [(&str, Change, bool); 6] = [
        ("nothing", |_| (), true),
        ("served", |conn| conn.upload.unchoked = true, false),
        (
            "it serves us",
            |conn| (conn.download.unchoked, conn.download.interested) = (true, true),
            false,
        ),
        (
            "it would serve us",
            |conn| conn.download.unchoked = true,
            true,
        ),
        (
            "it is new",
            |conn| conn.link.opened_at = conn.link.opened_at + Duration::from_secs(1),
            false,
        ),
        (
            "the user named it",
            |conn| conn.link.candidate = Some(0),
            false,
        ),
    ];
    for (name, change, leaves) in cases {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        let candidates = &mut parts.discovery.candidates;
        let named = Named {
            torrent: id,
            addr: ([10, 9, 9, 9], 1).into(),
            source: PeerSource::User,
            by: None,
        };
        candidates.add(parts.cx.now, named);
        for slot in 0..8 {
            assert_eq!(peer(&mut parts.cx, id, true), slot);
            let conn = &mut parts.cx.peers[slot];
            conn.link.addr = ([60 + slot as u8, 1, 2, 3], 6881).into();
            conn.upload.interested = true;
        }
        parts.cx.now = parts.cx.now + Duration::from_secs(60);
        for conn in parts.cx.peers.iter_mut().filter(|c| c.link.addr.is_ipv4()) {
            conn.upload.choke_changed_at = parts.cx.now;
        }
        let (high, low) = {
            let candidates = &mut parts.discovery.candidates;
            candidates.set_ours("203.0.113.7:6881".parse().unwrap());
            let mut all: std::vec::Vec<_> = (1..200u8)
                .map(|n| ([n, 200, 2, 3], 50_000).into())
                .collect();
            all.sort_unstable_by_key(|&addr| candidates.priority(addr));
            (all[198], all[0])
        };
        let lowest = (0..8).min_by_key(|&slot| {
            let addr = parts.cx.peers[slot].link.addr;
            parts.discovery.candidates.priority(addr)
        });
        let lowest = lowest.unwrap();
        // The others are served, so that it is about this one.
        for slot in (0..8).filter(|&slot| slot != lowest) {
            parts.cx.peers[slot].upload.unchoked = true;
        }
        change(&mut parts.cx.peers[lowest]);
        assert_eq!(swarm.least_useful(&mut parts, low), None, "{name}");
        let leaver = swarm.least_useful(&mut parts, high);
        assert_eq!(leaver, leaves.then_some(lowest), "{name}");
        // By the other family it is not known where we are reached.
        let other = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(swarm.least_useful(&mut parts, other), None, "{name}");
    }
}

/// The messages that a peer is sent, in order.
fn messages(parts: &mut Parts<'static>, slot: usize) -> std::vec::Vec<std::string::String> {
    let swarm = swarm();
    let view = swarm.view(parts, slot);
    let mut cursor = Cursor::new(view.conn);
    let mut names = std::vec::Vec::new();
    while let Some(out) = cursor.peek(&view) {
        let name = std::format!("{out:?}");
        names.push(name.split(['(', ' ']).next().unwrap().into());
        let len = view.len(out);
        assert!(cursor.advance(&view, out, len, len));
    }
    names
}

#[test]
fn a_peer_is_greeted_by_what_we_have() {
    for (have, fast, expected) in [
        (Have::All, true, ["Handshake", "HaveAll"]),
        (Have::All, false, ["Handshake", "Bitfield"]),
        (Have::Nothing, true, ["Handshake", "HaveNone"]),
        (Have::Nothing, false, ["Handshake", "Bitfield"]),
        (Have::Some(&[0x80]), true, ["Handshake", "Bitfield"]),
    ] {
        let (mut parts, id) = parts(have);
        let slot = peer(&mut parts.cx, id, fast);
        assert_eq!(
            messages(&mut parts, slot),
            expected,
            "{have:?}, fast {fast}"
        );
    }
}

#[test]
fn what_is_short_goes_before_blocks() {
    let (mut parts, id) = parts(Have::All);
    let slot = peer(&mut parts.cx, id, true);
    let block = |index| BlockRef {
        index,
        begin: 0,
        len: BLOCK,
    };
    let conn = &mut parts.cx.peers[slot];
    conn.link.outbox.stage = Stage::Ready;
    conn.link.outbox.owes_choke = true;
    conn.link.outbox.owes_extended = true;
    conn.link.outbox.owes_port = true;
    conn.link.outbox.keep_alive = true;
    conn.upload.unchoked = true;
    conn.upload.to_suggest = Some(3);
    conn.download.interested = true;
    conn.download.cancels.push(block(2)).unwrap();
    let (queue, requests) = (&mut parts.upload.queue, &mut conn.upload.requests);
    queue.push(requests, block(0), ReplyKind::Piece);
    queue.push(requests, block(1), ReplyKind::Reject);
    let expected = [
        "Choke",
        "Unchoke",
        "Extended",
        "Port",
        "Interested",
        "Cancel",
        "Suggest",
        "Piece",
        "Reject",
        "KeepAlive",
    ];
    assert_eq!(messages(&mut parts, slot), expected);
}
