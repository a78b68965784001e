//! The engine as the session holds it.
//!
//! From the session's first turn on the [`Reactor`] runs on a thread of its own. The session calls it between two of
//! its turns through the methods here, and [`Engine::turn`] brings its reports.
//!
//! Invariant: nobody who holds the reactor waits for anything, least of all a disk. All code that locks it is in this
//! folder, and makes no system calls but those for sockets. Values whose drop may close files are dropped after the
//! lock, and lines of the log are written then.

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
use crate::net::Sending;
use crate::net::epoll::{Epoll, Waiter, Watched};
use crate::net::listen::Listen;
use crate::net::lsd;
use crate::net::memory::Plan;
use crate::net::scope::Scope;
use crate::net::way::Way;
use crate::storage::spool::Spool;
use crate::storage::worker::Worker;
use crate::trace::Traced;

/// The engine; dropping it ends its thread.
pub(crate) struct Engine {
    pub(crate) node: SharedNode,
    pub(crate) worker: Arc<Worker>,
    /// The addresses from which trackers and peers are called. They stay when the listeners go.
    pub(crate) way_out: Way,
    /// The ways to find peers of public torrents.
    pub(crate) publicity: Publicity,
    /// Whether the DHT is used, and how.
    dht: Mode,
    /// DHT nodes that torrents name by host name.
    pub(crate) named_nodes: Vec<String>,
    /// Reports of the reactor that the session has to look at.
    pub(crate) report: TurnReport,
    files: Arc<FileCache>,
    pub(super) shared: Arc<Shared>,
    pub(super) thread: Option<JoinHandle<()>>,
    clock: Clock,
    /// Waits for the session's alarm and for signals.
    waiter: Waiter,
    alarm: Arc<Alarm>,
    signals: UnixStream,
}

impl Engine {
    /// An engine without listeners and torrents. `bell` is rung when there are reports, or when tasks of the session
    /// can go on. `signals` becomes readable when the process is asked to stop, one byte for each signal.
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

    /// Waits at most `limit` until there are reports, and takes them. Peers are served meanwhile, and until the next
    /// turn.
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
        // Wakes that were not looked at yet stay; the session knows about everything else.
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

    /// The node's present time.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Tells the node an event; its actions are carried out in the reactor's next turn.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        self.shared
            .change(|reactor| reactor.tell(reactor.clock.now(), event));
    }

    /// Accepts peers at this listener from now on. Returns the listener's number.
    pub(crate) fn listen(&mut self, socket: TcpListener) -> io::Result<u16> {
        self.shared.change(|reactor| reactor.listen(socket))
    }

    /// Stops listening at the listener of this number.
    pub(crate) fn listen_no_longer(&mut self, number: u16) {
        self.shared
            .change(|reactor| reactor.listen_no_longer(number));
    }

    /// Accepts nobody for this long, or accepts again.
    pub(crate) fn pause_listening(&mut self, pause: Option<Duration>) {
        self.shared.change(|reactor| reactor.pause_listening(pause));
    }

    /// Calls others by this way from now on. `port` gives, for each family, the port where peers connect; datagrams
    /// leave from the same one.
    pub(crate) fn go_by(&mut self, way: Way, port: impl Fn(Family) -> u16) {
        self.way_out = way.clone();
        self.shared
            .perhaps_change(|reactor| reactor.go_by(way, port));
    }

    /// Uses local service discovery on the present interfaces among those that `wanted` listens on. Peers reach us
    /// there on `port`. Returns false if it has to be tried again.
    pub(crate) fn follow_nearby(&mut self, wanted: &[Listen], port: u16) -> bool {
        if !self.publicity.lsd() {
            return true;
        }
        // The kernel may keep whoever asks waiting, so it is asked before the reactor is locked.
        match lsd::links() {
            Ok(links) => (self.shared).change(|reactor| reactor.follow_nearby(links, wanted, port)),
            Err(error) => {
                log::debug!("the interfaces cannot be listed: {error}");
                false
            }
        }
    }

    /// Joins the DHT for the families that have a UDP socket, or for none. `kept` are the nodes known in the last
    /// run.
    pub(crate) fn join_dht(&mut self, mode: Mode, kept: &[u8]) {
        self.dht = mode;
        self.shared.change(|reactor| reactor.join_dht(mode, kept));
    }

    /// Takes DHT nodes that a torrent names. They may have private addresses, like UDP trackers, because a torrent
    /// does not choose what is sent to them. Host names are looked up only while no other node is known; the first
    /// [`NAMED_NODES`] are kept.
    pub(crate) fn hear_of_nodes(&mut self, nodes: Vec<String>) {
        if self.dht == Mode::Off {
            return;
        }
        for node in nodes {
            match node.parse::<SocketAddr>() {
                Ok(addr) if Scope::of(addr.ip()) == Scope::Nowhere => {}
                Ok(addr) => {
                    self.node.input(Input::DhtNode(addr));
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

    /// Starts an announce by UDP in the node. Returns whether it could.
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

    /// Adds a torrent whose bytes are in `content`. It is new to the node, or sleeps under the id `known`. Whether it is
    /// private decides how its peers may be found, and a private torrent's metadata is given to nobody (BEP 27). All of
    /// this is one change, because peers may wait for the torrent and are answered at once.
    pub(crate) fn add(
        &mut self,
        known: Option<TorrentId>,
        content: &Arc<Content>,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<TorrentId, AddError> {
        let (metainfo, geometry) = (content.metainfo(), content.geometry());
        let (hash, info) = (metainfo.info_hash, metainfo.info_range());
        let (publicity, offered) = match metainfo.private {
            true => (Publicity::PRIVATE, None),
            false => (self.publicity, u32::try_from(info.end - info.start).ok()),
        };
        let content = Arc::clone(content);
        let (id, before) = self.shared.change(|reactor| {
            let (node, now) = (&mut reactor.node, reactor.clock.now());
            let id = match known {
                Some(id) => node.wake(now, id, geometry, have, uploaded).map(|()| id),
                None => node.add(now, hash, geometry, have, uploaded),
            }?;
            node.publish(now, id, publicity);
            if let Some(len) = offered {
                node.offer_metadata(now, id, len);
            }
            Ok((id, reactor.attach(id, content)))
        })?;
        drop(before);
        Ok(id)
    }

    /// Puts a torrent to sleep. If it sleeps already, the peers that wait for it are disconnected.
    pub(crate) fn sleep(&mut self, torrent: TorrentId) {
        let before = self.shared.change(|reactor| reactor.sleep(torrent));
        drop(before);
    }

    /// Removes a torrent for good, whether it is served, sleeps, or its metadata is fetched.
    pub(crate) fn remove(&mut self, torrent: TorrentId) {
        let before = self.shared.change(|reactor| reactor.remove(torrent));
        drop(before);
    }

    /// Fetches the metadata of a torrent into `spool`. The torrent counts as public until its metadata is known.
    pub(crate) fn fetch(
        &mut self,
        info_hash: InfoHash,
        spool: Spool,
    ) -> Result<TorrentId, AddError> {
        let (spool, publicity) = (Arc::new(spool), self.publicity);
        let theirs = Arc::clone(&spool);
        self.shared.change(|reactor| {
            let now = reactor.clock.now();
            let id = reactor.node.add_unknown(now, info_hash)?;
            reactor.node.publish(now, id, publicity);
            reactor.spools.push((id, theirs));
            Ok(id)
        })
    }

    /// Stops fetching a torrent's metadata.
    pub(crate) fn fetch_no_longer(&mut self, torrent: TorrentId) {
        let before = self
            .shared
            .change(|reactor| reactor.fetch_no_longer(torrent));
        drop(before);
    }

    /// Closes a torrent's files, so that the next read opens them anew.
    pub(crate) fn forget_files(&self, content: &Content) {
        content.forget_files(&self.files);
        self.worker.close_forgotten();
    }

    /// The path of an awake torrent's file.
    pub(crate) fn torrent_file(&self, id: TorrentId) -> Option<PathBuf> {
        self.shared.ask(|reactor| reactor.torrent_file(id))
    }

    /// Whether the node serves a torrent: it does not after an error with its files.
    pub(crate) fn is_readable(&self, torrent: TorrentId) -> bool {
        self.shared.ask(|reactor| reactor.is_readable(torrent))
    }

    /// Whether all peers are gone and every received block is written.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.shared.ask(|reactor| reactor.is_at_rest())
    }

    /// Disconnects all peers.
    pub(crate) fn stop(&mut self) {
        self.shared.change(Reactor::stop);
    }
}

impl Drop for Engine {
    /// The thread waits for sockets only, so joining it takes no long time.
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.alarm.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The most host names of DHT nodes that are kept.
const NAMED_NODES: usize = 16;

/// The thread's name; tests know it by that.
const THREAD: &str = "serve";

/// Stack of the thread in bytes.
const STACK: usize = 256 * 1024;
