//! The engine's thread and those who call it: who waits for whom is arranged by the locks themselves, so that nothing
//! is left to luck.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, TryLockError};
use std::thread;
use std::time::{Duration, Instant as Moment};

use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_disk::make::{self, Options};
use everseed_disk::{Content, read_torrent};
use everseed_node::{Bodies, ConnId, Have, Identity, Limits, Publicity};

use super::Engine;
use super::shared::Shared;
use crate::alarm::Alarm;
use crate::net::Sending;
use crate::net::memory::Plan;
use crate::trace::Traced;

/// An engine that listens nowhere.
pub(super) fn engine() -> Engine {
    let plan = Plan {
        peers: 8,
        slots: 4,
        torrents: 4,
        ..Plan::default()
    };
    let plan = plan.fit(4 << 20).unwrap();
    let identity = Identity {
        peer_id: [1; 20],
        port: 0,
        client: "",
    };
    let limits = Limits {
        slots: None,
        most_slots: 4,
        peers: 8,
        upload_bps: None,
        download_bps: None,
    };
    let node = Traced::new(plan.lend(), identity, limits, 1, None).unwrap();
    let (_, signals) = UnixStream::pair().unwrap();
    Engine::new(node, &plan, Sending::Copy, Alarm::new().unwrap(), signals).unwrap()
}

/// Waits until somebody waits for the reactor, which is held.
fn somebody_waits(shared: &Shared) {
    until(|| matches!(shared.next.try_lock(), Err(TryLockError::WouldBlock)));
}

fn until(mut done: impl FnMut() -> bool) {
    let end = Moment::now() + Duration::from_secs(60);
    while !done() {
        assert!(Moment::now() < end, "it takes too long");
        thread::yield_now();
    }
}

/// The end is asked for while the thread is about to take a turn, in which it silences the alarm that would have told it.
#[test]
fn the_end_is_heard_in_the_middle_of_a_turn() {
    let mut engine = engine();
    engine.turn(Duration::ZERO).unwrap();
    let shared = &engine.shared;
    until(|| shared.ask(|reactor| !reactor.busy));
    let reactor = shared.lock();
    shared.alarm.ring();
    somebody_waits(shared);
    shared.ends.store(true, Ordering::Release);
    shared.alarm.ring();
    drop(reactor);
    let thread = engine.thread.as_ref().unwrap();
    until(|| thread.is_finished());
}

/// A turn comes first while somebody waits to change the node: he does so at a later time.
#[test]
fn time_does_not_go_back_for_who_has_waited() {
    let engine = engine();
    let shared = &engine.shared;
    thread::scope(|scope| {
        let mut reactor = shared.lock();
        scope.spawn(|| engine.node.announce_anew());
        somebody_waits(shared);
        let now = reactor.clock.now();
        reactor.node.tick(now);
    });
}

/// A peer that waits for a torrent is told of its metadata as soon as it is awake, and of a private one's never.
#[test]
fn who_waits_for_a_torrent_is_told_of_its_metadata() {
    for private in [false, true] {
        let mut engine = engine();
        let content = content(private);
        let hash = content.metainfo().info_hash;
        let publicity = match private {
            true => Publicity::PRIVATE,
            false => Publicity::NONE,
        };
        let id = engine.node.know(hash, publicity).unwrap();
        let peer = {
            let (reactor, from) = (&mut *engine.shared.lock(), "10.0.0.1:1".parse().unwrap());
            let (node, now) = (&mut reactor.node, reactor.clock.now());
            let peer = node.accept(now, from).unwrap();
            says(node, now, peer, &hello(hash));
            while node.poll(now).is_some() {}
            peer
        };
        engine.add(Some(id), &content, Have::All, 0).unwrap();
        let (reactor, mut said) = (&mut *engine.shared.lock(), vec![0; 4096]);
        let (node, now) = (&mut reactor.node, reactor.clock.now());
        while node.poll(now).is_some() {}
        let len = node.transmit(now, peer, &mut said, &mut Bodies::new());
        let said = String::from_utf8_lossy(&said[..len]).into_owned();
        assert!(said.contains("ut_pex") || said.contains("1:v"), "{said:?}");
        assert_eq!(said.contains("13:metadata_size"), !private, "{said:?}");
    }
}

/// The handshake of a peer that knows extensions.
pub(super) fn hello(hash: InfoHash) -> [u8; 68] {
    let mut hello = [b'.'; 68];
    hello[..28].copy_from_slice(b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\0");
    hello[28..48].copy_from_slice(&hash.0);
    hello
}

/// A peer says something.
pub(super) fn says(node: &mut Traced, now: Instant, peer: ConnId, bytes: &[u8]) {
    node.recv_space(now, peer).unwrap()[..bytes.len()].copy_from_slice(bytes);
    node.received(now, peer, bytes.len());
}

/// A torrent of one file, which is not there any more.
pub(super) fn content(private: bool) -> Arc<Content> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = format!("everseed-engine-{number}-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    fs::create_dir_all(&folder).unwrap();
    let (file, torrent) = (folder.join("a"), folder.join("a.torrent"));
    fs::write(&file, [1; 20_000]).unwrap();
    let options = Options {
        private,
        ..Options::default()
    };
    make::make(&file, &torrent, &options, &mut |_| {}).unwrap();
    let metainfo = read_torrent(&torrent).unwrap();
    let content = Content::open_at(&torrent, &metainfo, &file, &folder).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    Arc::new(content)
}
