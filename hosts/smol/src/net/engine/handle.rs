//! The engine, as everybody but its own thread knows it.
//!
//! The [`Reactor`] has a thread of its own from the session's first turn on. The session reaches it between two of its
//! turns, by the calls that are here, and hears of what happened from [`Engine::turn`].
//!
//! Invariant: nobody waits for anything while he holds the reactor, above all for no disk: what holds it is in this
//! file, and only computes. What is dropped, and may close files, is dropped afterwards.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::tracker::Family;
use everseed_disk::{Content, FileCache};
use everseed_node::discovery::dht::Mode;
use everseed_node::input::Input;
use everseed_node::{AddError, Event, Have, Job, Publicity};

use super::node::SharedNode;
use super::reactor::{Reactor, TurnReport};
use super::shared::Shared;
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::memory::Plan;
use crate::net::Sending;
use crate::net::epoll::{Epoll, Waiter, Watched};
use crate::net::listen::Listen;
use crate::net::scope::Scope;
use crate::net::way::Way;
use crate::storage::spool::Spool;
use crate::storage::worker::Worker;
use crate::trace::Traced;

/// The engine and its thread, which ends with it.
pub(crate) struct Engine {
    pub(crate) node: SharedNode,
    pub(crate) worker: Arc<Worker>,
    /// From where trackers and peers are called; that stays when the listeners go.
    pub(crate) way_out: Way,
    /// By what peers of public torrents are found.
    pub(crate) publicity: Publicity,
    /// How much it takes part in the distributed hash table.
    dht: Mode,
    /// Nodes of it that torrents name, and not by address.
    pub(crate) named_nodes: Vec<String>,
    /// What others have to look after.
    pub(crate) report: TurnReport,
    files: Arc<FileCache>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    clock: Clock,
    /// For the session: its alarm, and the signals.
    waiter: Waiter,
    alarm: Arc<Alarm>,
    signals: UnixStream,
}

impl Engine {
    /// An engine that listens nowhere and serves nothing yet. `bell` is rung when there is news, or something to do for
    /// whoever takes its turns. `signals` becomes readable, a byte each, when the process is asked to stop.
    pub(crate) fn new(
        node: Traced,
        plan: &Plan,
        way: Sending,
        bell: Arc<Alarm>,
        signals: UnixStream,
    ) -> io::Result<Engine> {
        let alarm = Alarm::new()?;
        let reactor = Reactor::new(node, plan, way, Arc::clone(&alarm))?;
        let epoll = Epoll::new()?;
        epoll.add(&*bell, Watched::Alarm)?;
        signals.set_nonblocking(true)?;
        epoll.add(&signals, Watched::Signal)?;
        let (clock, files) = (reactor.clock, Arc::clone(&reactor.files));
        let worker = Arc::clone(&reactor.worker);
        let shared = Arc::new(Shared {
            reactor: Mutex::new(reactor),
            next: Mutex::new(()),
            alarm,
            bell: Arc::clone(&bell),
            ends: AtomicBool::new(false),
            failed: Mutex::new(None),
        });
        Ok(Engine {
            node: SharedNode::new(Arc::clone(&shared)),
            worker,
            way_out: Way::default(),
            publicity: Publicity::NONE,
            dht: Mode::Off,
            named_nodes: Vec::new(),
            report: TurnReport::default(),
            files,
            shared,
            thread: None,
            clock,
            waiter: epoll.waiter(),
            alarm: bell,
            signals,
        })
    }

    /// Waits until there is news, at most `limit`, and takes it. Peers are served meanwhile, and until the next turn.
    pub(crate) fn turn(&mut self, limit: Duration) -> io::Result<()> {
        if self.thread.is_none() {
            self.thread = Some(self.begin()?);
        }
        let limit = match self.report.is_any() {
            true => Duration::ZERO,
            false => limit,
        };
        for index in 0..self.waiter.wait(Some(limit))? {
            match self.waiter.ready(index).source {
                Watched::Signal => self.signalled(),
                _ => self.report.rung = true,
            }
        }
        self.alarm.silence();
        let failed = self.shared.failed.lock();
        if let Some(error) = failed.unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let fresh = std::mem::take(&mut self.shared.lock().report);
        let before = std::mem::replace(&mut self.report, fresh);
        self.report.signals += before.signals;
        self.report.rung |= before.rung;
        // The session itself knows of others.
        self.report.wakes.extend(before.wakes);
        Ok(())
    }

    fn begin(&self) -> io::Result<JoinHandle<()>> {
        let epoll = self.shared.lock().epoll.clone();
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(THREAD.into());
        thread
            .stack_size(STACK)
            .spawn(move || shared.serve(epoll.waiter()))
    }

    fn signalled(&mut self) {
        let mut bytes = [0; 8];
        let read = self.signals.read(&mut bytes).unwrap_or(0);
        self.report.signals += u32::try_from(read).unwrap_or(0);
    }

    /// The time that the node lives in.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Tells the node something, and carries out what follows in the next turn.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        self.shared.change(|reactor| reactor.tell(event));
    }

    /// Takes the peers that come to this address from now on. Answers with its number.
    pub(crate) fn listen(&mut self, socket: TcpListener) -> io::Result<u16> {
        self.shared.change(|reactor| reactor.listen(socket))
    }

    /// Takes none any more at the address of this number.
    pub(crate) fn listen_no_longer(&mut self, number: u16) {
        self.shared
            .change(|reactor| reactor.listen_no_longer(number));
    }

    /// Leaves callers waiting for so long, or no longer.
    pub(crate) fn pause_listening(&mut self, pause: Option<Duration>) {
        self.shared.change(|reactor| reactor.pause_listening(pause));
    }

    /// Calls others the way that is given from now on, with datagrams from the `port` where peers of a family
    /// connect.
    pub(crate) fn go_by(&mut self, way: Way, port: impl Fn(Family) -> u16) {
        self.way_out = way.clone();
        self.shared.change(|reactor| reactor.go_by(way, port));
    }

    /// Looks for peers in the networks of the interfaces on which `wanted` has us listen, as they are now; we are
    /// reached there on `port`.
    pub(crate) fn follow_nearby(&mut self, wanted: &[Listen], port: u16) {
        if self.publicity.lsd() {
            self.shared
                .change(|reactor| reactor.follow_nearby(wanted, port));
        }
    }

    /// Takes part in the distributed hash table, by the families that there are sockets of: without any not at all. `kept`
    /// is who was known in the last run.
    pub(crate) fn join_dht(&mut self, mode: Mode, kept: &[u8]) {
        self.dht = mode;
        self.shared.change(|reactor| reactor.join_dht(mode, kept));
    }

    /// Takes nodes that a torrent names. They may be in the house, like UDP trackers: nothing that is sent there is of the
    /// torrent's choosing. What are names is only looked up when nobody else is known; of those the first
    /// [`NAMED_NODES`] are remembered.
    pub(crate) fn hear_of_nodes(&mut self, nodes: Vec<String>) {
        if self.dht == Mode::Off {
            return;
        }
        for node in nodes {
            match node.parse::<SocketAddr>() {
                Ok(addr) if Scope::of(addr.ip()) == Scope::Nowhere => {}
                Ok(addr) => {
                    self.node.input(self.clock.now(), Input::DhtNode(addr));
                }
                Err(_)
                    if self.named_nodes.len() < NAMED_NODES
                        && !self.named_nodes.contains(&node) =>
                {
                    self.named_nodes.push(node);
                }
                Err(_) => {}
            }
        }
    }

    /// Has the node make an announce by UDP; answers whether it does.
    pub(crate) fn announce_by_udp(
        &mut self,
        job: Job,
        addrs: [Option<SocketAddr>; 2],
        url_data: &str,
        seed: u64,
    ) -> bool {
        self.shared
            .change(|reactor| reactor.announce_by_udp(job, addrs, url_data, seed))
    }

    /// Says whether a torrent is private, which decides by what its peers may be found (BEP 27).
    pub(crate) fn publish(&mut self, torrent: TorrentId, private: bool) {
        let publicity = match private {
            true => Publicity::PRIVATE,
            false => self.publicity,
        };
        self.node.publish(self.now(), torrent, publicity);
    }

    /// Serves a torrent whose bytes are in `content`, which is new to the node or sleeps under the id `known`.
    pub(crate) fn add(
        &mut self,
        known: Option<TorrentId>,
        content: &Arc<Content>,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<TorrentId, AddError> {
        let now = self.now();
        let (hash, geometry) = (content.metainfo().info_hash, content.geometry());
        let content = Arc::clone(content);
        let (id, before) = self.shared.change(|reactor| {
            let node = &mut reactor.node;
            let id = match known {
                Some(id) => node.wake(now, id, geometry, have, uploaded).map(|()| id),
                None => node.add(now, hash, geometry, have, uploaded),
            }?;
            Ok((id, reactor.attach(id, content)))
        })?;
        drop(before);
        Ok(id)
    }

    /// Puts a torrent to sleep, or lets go of those who wait for one that is.
    pub(crate) fn sleep(&mut self, torrent: TorrentId) {
        let before = self.shared.change(|reactor| reactor.sleep(torrent));
        drop(before);
    }

    /// The node needs the bytes of a torrent no longer.
    pub(crate) fn detach(&mut self, torrent: TorrentId) {
        let before = self.shared.change(|reactor| reactor.detach(torrent));
        drop(before);
    }

    /// Fetches the metadata of a torrent, which goes there.
    pub(crate) fn fetch(
        &mut self,
        info_hash: InfoHash,
        spool: Spool,
    ) -> Result<TorrentId, AddError> {
        let now = self.now();
        let spool = Arc::new(spool);
        let theirs = Arc::clone(&spool);
        self.shared.change(|reactor| {
            let id = reactor.node.add_unknown(now, info_hash)?;
            reactor.spools.push((id, theirs));
            Ok(id)
        })
    }

    /// It is not fetched any more.
    pub(crate) fn fetch_no_longer(&mut self, torrent: TorrentId) {
        let before = self
            .shared
            .change(|reactor| reactor.fetch_no_longer(torrent));
        drop(before);
    }

    /// Has a torrent's files opened anew, so that what is there now is read.
    pub(crate) fn forget_files(&self, content: &Content) {
        content.forget_files(&self.files);
        self.worker.close_forgotten();
    }

    /// The torrent file of a torrent that is awake.
    pub(crate) fn torrent_file(&self, id: TorrentId) -> Option<PathBuf> {
        self.shared.ask(|reactor| reactor.torrent_file(id))
    }

    /// Whether the node serves a torrent, as nothing went wrong with its files.
    pub(crate) fn is_readable(&self, torrent: TorrentId) -> bool {
        self.shared.ask(|reactor| reactor.is_readable(torrent))
    }

    /// Whether everybody is gone and every block that came is written.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.shared.ask(|reactor| reactor.is_at_rest())
    }

    /// Lets everybody go.
    pub(crate) fn stop(&mut self) {
        self.shared.change(Reactor::stop);
    }
}

impl Drop for Engine {
    /// The thread waits for nothing but sockets, so that it is not waited for long.
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.alarm.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Names of nodes that torrents gave, at most.
const NAMED_NODES: usize = 16;

/// The thread's name, by which tests know it.
const THREAD: &str = "serve";

/// Bytes of its stack.
const STACK: usize = 256 * 1024;
