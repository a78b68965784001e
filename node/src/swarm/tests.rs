//! Connections, without a node.

extern crate std;

use core::time::Duration;

use crate::api::{Have, Identity};
use crate::discovery::candidates::{Named, PeerSource};
use crate::parts::small::{LIMITS, parts, peer};
use crate::peer::{Reason, State};
use crate::swarm::Swarm;
use crate::wake::Wake;

fn swarm() -> Swarm<'static> {
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
    parts.cx.torrents.get_mut(id).unwrap().conns += 1;
    let (download, cx) = (&mut parts.download, &mut parts.cx);
    download.availability.peer_has_bits(cx, slot, 0, &[0xff]);
    download.review(cx, slot);
    download.unchoked_us(cx, slot).unwrap();
    download.ask(cx, slot);
    assert!(download.blocks.free() < 6);
    parts.cx.peers[slot].upload.unchoked = true;
    swarm().close(&mut parts, slot, Reason::Gone);
    assert!(parts.cx.wakes.take(Wake::FillSlots) && parts.cx.wakes.take(Wake::Request));
    assert_eq!(parts.download.blocks.free(), 6);
    assert_eq!(parts.download.availability.counts, [0; 8]);
    assert_eq!(parts.cx.torrents.get(id).unwrap().conns, 0);
    assert_eq!(
        parts.cx.peers[slot].link.state,
        State::Closing(Reason::Gone)
    );
    // Twice is as good as once.
    swarm().close(&mut parts, slot, Reason::Idle);
    assert_eq!(
        parts.cx.peers[slot].link.state,
        State::Closing(Reason::Gone)
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
