//! Torrents sleep until a peer names them.

#![allow(missing_docs)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HASH, Setup, World};
use everseed_core::geometry::{BLOCK, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::tracker::{AnnounceEvent, Intervals};
use everseed_core::wire::Message;
use everseed_node::{AddError, Event, Have, PACKET_MAX, PeerSource, Reason};

const OTHER: InfoHash = InfoHash([8; 20]);

fn world() -> World {
    World::new(&Setup::default(), Have::All)
}

/// A peer that names a torrent in its handshake, and sends `interested` without waiting for an answer.
fn caller(world: &mut World, info_hash: InfoHash) -> usize {
    let peer = world.connect().unwrap();
    world.peers[peer].greet(info_hash, true);
    world.peers[peer].say(&[Message::Interested]);
    world.settle();
    peer
}

fn wake(world: &mut World, id: TorrentId, uploaded: u64) -> Result<(), AddError> {
    let (now, geometry) = (world.now, world.geometry);
    let woken = world.node.wake(now, id, geometry, Have::All, uploaded);
    world.settle();
    woken
}

#[test]
fn whoever_names_it_wakes_it_and_is_served() {
    let mut world = world();
    let id = world.node.know(OTHER).unwrap();
    assert!(world.node.is_asleep(id) && world.node.find(OTHER) == Some(id));
    let peers = [caller(&mut world, OTHER), caller(&mut world, OTHER)];
    assert_eq!(world.asked_for, [id, id]);
    for peer in peers {
        assert!(world.peers[peer].open && world.peers[peer].handshake.is_none());
    }
    world.pass(Duration::from_secs(10));
    wake(&mut world, id, 0).unwrap();
    assert!(!world.node.is_asleep(id));
    assert_eq!(world.node.torrent(id).unwrap().conns, 2);
    for peer in peers {
        let hello = world.peers[peer].handshake.as_ref().expect("an answer");
        assert_eq!(hello.info_hash, OTHER);
        world.peers[peer].ask(0, 8);
        world.settle();
        assert_eq!(world.peers[peer].received, 8 * u64::from(BLOCK));
    }
    assert_eq!(world.asked_for.len(), 2, "asked once for each");
}

#[test]
fn one_that_cannot_be_woken_lets_its_callers_go() {
    let mut world = world();
    let id = world.node.know(OTHER).unwrap();
    let peer = caller(&mut world, OTHER);
    world.node.sleep(id);
    world.settle();
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::Asleep);
    // The host does not answer the request to wake it.
    let peer = caller(&mut world, OTHER);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::Asleep);
    // A torrent is woken after its only peer has left.
    let peer = caller(&mut world, OTHER);
    let event = Event::Closed(world.peers[peer].id);
    world.node.event(world.now, event);
    world.settle();
    wake(&mut world, id, 0).unwrap();
    assert_eq!(world.node.torrent(id).unwrap().conns, 0);
}

#[test]
fn trackers_hear_of_it_as_if_it_were_awake() {
    let mut world = world();
    let (now, id) = (world.now, world.torrent);
    world.node.announce(now, id, 0, 1).unwrap();
    let peer = world.leecher(true);
    world.peers[peer].ask(0, 8);
    world.settle();
    world.node.sleep(id);
    world.settle();
    assert_eq!(world.closed[&world.peers[peer].addr], Reason::Asleep);
    assert_eq!(world.node.torrent(id), None);
    let job = world.announces.remove(0);
    let sent = 8 * u64::from(BLOCK);
    let report = world.node.report(&job);
    assert_eq!((report.info_hash, report.left), (HASH, 0));
    assert_eq!(report.uploaded, sent);
    let told = Intervals::told(Some(60), None);
    let event = Event::Announced(job.id, told);
    world.node.event(world.now, event);
    world.pass(Duration::from_secs(70));
    let job = world.announces.remove(0);
    assert_eq!((job.torrent, job.event), (id, AnnounceEvent::None));
    // Trackers do not get the bytes that earlier runs uploaded.
    wake(&mut world, id, 1 << 30).unwrap();
    assert_eq!(world.node.report(&job).uploaded, sent);
    // Peers that a tracker names for a sleeping torrent are not called.
    world.node.sleep(id);
    let addr = "192.0.2.1:6881".parse().unwrap();
    world
        .node
        .event(world.now, Event::Peer(id, addr, PeerSource::Tracker));
    world.pass(Duration::from_secs(10));
    assert!(world.dialled.is_empty());
}

/// A UDP tracker names leechers of a sleeping torrent. It is woken, because they may not be able to call us.
#[test]
fn a_udp_tracker_wakes_it() {
    let mut world = world();
    let now = world.now;
    let tracker: SocketAddr = "192.0.2.80:6969".parse().unwrap();
    for (hash, leechers, peers, woken) in [
        (10, 1, &[192, 0, 2, 1, 0, 80][..], true),
        (11, 0, &[192, 0, 2, 1, 0, 80], false),
        (12, 1, &[], false),
    ] {
        let id = world.node.know(InfoHash([hash; 20])).unwrap();
        world.node.announce(now, id, 0, 1).unwrap();
        world.pass(Duration::from_secs(1));
        let job = world.announces.remove(0);
        let addrs = [Some(tracker), None];
        let begun = world
            .node
            .announce_by_udp(world.now, job, addrs, "", hash.into());
        assert!(begun);
        let mut packet = [0; PACKET_MAX];
        while let Some((to, len)) = world.node.poll_datagram(world.now, &mut packet) {
            let request = &packet[..len];
            let answer = match request[11] {
                0 => [&request[8..16], &[9; 8]].concat(),
                _ => {
                    assert_eq!(request[16..36], [hash; 20]);
                    let numbers = [0, 0, 7, 8, 0, 0, 0, leechers, 0, 0, 0, 2];
                    [&request[8..16], &numbers, peers].concat()
                }
            };
            world.node.datagram(world.now, to, &answer);
        }
        world.settle();
        let outcome = world.node.udp_outcome(job.id).unwrap();
        assert!(outcome.result.is_ok());
        assert_eq!(
            std::mem::take(&mut world.asked_for).contains(&id),
            woken,
            "{hash}"
        );
        assert!(world.dialled.is_empty());
        wake(&mut world, id, 0).unwrap();
        assert_eq!(!world.dialled.is_empty(), woken, "{hash}");
        world.dialled.clear();
        world.node.sleep(id);
        world.settle();
    }
}

#[test]
fn at_a_stop_only_trackers_of_what_is_awake_are_told() {
    let mut world = world();
    let (now, awake) = (world.now, world.torrent);
    let told = Intervals::told(Some(1800), None);
    let asleep: Vec<_> = (10..13)
        .map(|n| world.node.know(InfoHash([n; 20])).unwrap())
        .collect();
    for id in asleep.iter().chain([&awake]) {
        world.node.announce(now, *id, 0, 1).unwrap();
    }
    world.pass(Duration::from_secs(1));
    // The announce of the last one is still under way, and the stop does not wait for it.
    for job in std::mem::take(&mut world.announces) {
        if job.torrent != asleep[2] {
            world.node.event(world.now, Event::Announced(job.id, told));
        }
    }
    world.node.stop(world.now);
    world.settle();
    let last: Vec<_> = world
        .announces
        .iter()
        .map(|job| (job.torrent, job.event))
        .collect();
    assert_eq!(last, [(awake, AnnounceEvent::Stopped)]);
    let last = world.announces[0].id;
    world.node.event(world.now, Event::Announced(last, told));
    assert!(world.node.is_stopped());
}

#[test]
fn awake_there_are_no_more_than_slots() {
    let mut world = world();
    let ids: Vec<_> = (10..14)
        .map(|n| world.node.know(InfoHash([n; 20])).unwrap())
        .collect();
    for id in &ids[..3] {
        wake(&mut world, *id, 0).unwrap();
    }
    assert_eq!(wake(&mut world, ids[3], 0), Err(AddError::Torrents));
    assert!(world.node.is_asleep(ids[3]));
    assert_eq!(wake(&mut world, ids[2], 0), Err(AddError::Duplicate));
    world.node.sleep(ids[0]);
    wake(&mut world, ids[3], 0).unwrap();
    assert_eq!((world.node.known(), world.node.torrents().count()), (5, 4));
    let now = world.now;
    world.node.remove(now, ids[0]);
    assert_eq!(wake(&mut world, ids[0], 0), Err(AddError::Duplicate));
    assert_eq!(world.node.find(InfoHash([10; 20])), None);
}
