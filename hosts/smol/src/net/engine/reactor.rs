//! The node on real sockets and files: what happens in one turn, without an allocation per block.
//!
//! The [`Reactor`] tells the node about ready sockets and carries out the node's actions. Its turns are taken by a thread
//! of its own that waits for sockets and for nothing else. Work that waits for a disk (cold reads, hashing, closing
//! files) goes to the [`Worker`]. Rare and slow work is reported to the session. All others reach the reactor through
//! the engine.
//!
//! Invariants: `peers[i]` holds the socket of the connection in the node's slot `i`, under the node's id for it. A
//! peer that waits for the worker sends nothing.

mod connections;
mod datagrams;
mod lending;
mod report;
mod sending;
mod shares;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everseed_core::geometry::{Span, TorrentId};
use everseed_core::pool::BlockId;
use everseed_core::time::Instant;
use everseed_disk::fault::{Extent, Unread};
use everseed_disk::{Content, FileCache, ReadError};
use everseed_node::discovery::dht::Mode;
use everseed_node::{Action, Bodies, BodySource, ConnId, Event, Have, StorageError};

pub(crate) use self::report::{Announce, FileReports, TurnReport};
use self::shares::{Lending, Loan};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::descriptors;
use crate::net::Sending;
use crate::net::epoll::{Epoll, Waiter, Watched};
use crate::net::lsd::Nearby;
use crate::net::memory::Plan;
use crate::net::socket::Held;
use crate::net::udp::Udp;
use crate::net::way::Way;
use crate::storage::contents::Contents;
use crate::storage::spool::Spool;
use crate::storage::worker::{Block, Done, Task, Unwritten, Worker};
use crate::trace::Traced;

/// The node, its sockets and its files.
pub(super) struct Reactor {
    pub(super) node: Traced,
    pub(super) clock: Clock,
    pub(super) epoll: Epoll,
    /// An entry is empty after its listener has gone, until a new one takes it.
    listeners: Vec<Option<Listener>>,
    /// The addresses from which trackers and peers are called. They stay when the listeners go.
    way_out: Way,
    /// Local service discovery, if it is on.
    nearby: Option<Nearby>,
    /// Whether the DHT is used, and how.
    dht: Mode,
    udp: Udp,
    peers: Vec<Option<Peer>>,
    /// Peers that may have more to read, but had their share of this turn.
    unread: VecDeque<ConnId>,
    /// The send buffer, used for one peer at a time.
    buffer: Box<[u8]>,
    bodies: Bodies,
    way: Sending,
    contents: Contents,
    /// Files that receive metadata which is being fetched.
    pub(super) spools: Vec<(TorrentId, Arc<Spool>)>,
    pub(super) files: Arc<FileCache>,
    pub(super) worker: Arc<Worker>,
    alarm: Arc<Alarm>,
    /// Whether the node may have more actions right away.
    pub(super) busy: bool,
    held: Held,
    lending: Lending,
    /// The most HTTP clients accepted in one turn.
    web_at_once: usize,
    /// The time at which paused listeners accept again.
    listen_at: Option<Instant>,
    /// Reports for the session.
    pub(super) report: TurnReport,
    /// Whether the session has to be told of something that is no report: a finished handshake, a complete torrent.
    tells: bool,
    /// Whether all peers were gone after the stop, at the last look.
    rests: bool,
}

struct Listener {
    socket: TcpListener,
    paused: bool,
}

struct Peer {
    id: ConnId,
    stream: TcpStream,
    addr: SocketAddr,
    /// The connection is being made by us.
    dialling: bool,
    /// The peer called us and has sent nothing yet.
    fresh: bool,
    /// Whether its handshake was finished at the last read.
    open: bool,
    readable: bool,
    /// Whether it is in [`Reactor::unread`].
    queued: bool,
    writable: bool,
    /// Nothing will follow after the bytes that can be read now.
    ended: bool,
    disk: Disk,
    loan: Loan,
}

/// What a peer's reads wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    /// Nothing: blocks are read from the page cache when they are sent.
    Ready,
    /// The worker, which reads for this peer.
    Waits,
}

/// Bytes that the worker has just read for a peer.
struct Warm<'a> {
    source: BodySource,
    offset: u64,
    bytes: &'a [u8],
}

impl Reactor {
    /// A reactor without listeners and torrents. `alarm` is rung when the worker has finished something.
    pub(super) fn new(
        node: Traced,
        plan: &Plan,
        way: Sending,
        alarm: Arc<Alarm>,
    ) -> io::Result<Reactor> {
        let epoll = Epoll::new()?;
        epoll.add(&*alarm, Watched::Alarm)?;
        let files = Arc::new(FileCache::new(descriptors::open_files().0));
        let (theirs, blocks) = (Arc::clone(&files), node.blocks());
        let (max_peers, held) = (plan.peers, plan.held());
        let worker = Worker::start(Arc::clone(&alarm), theirs, max_peers, blocks)?;
        Ok(Reactor {
            node,
            clock: Clock::new(),
            epoll,
            listeners: Vec::new(),
            way_out: Way::default(),
            nearby: None,
            dht: Mode::Off,
            udp: Udp::default(),
            peers: Vec::with_capacity(max_peers),
            unread: VecDeque::with_capacity(max_peers),
            buffer: vec![0; plan.buffer].into_boxed_slice(),
            bodies: Bodies::new(),
            way,
            contents: Contents::default(),
            spools: Vec::new(),
            worker: Arc::new(worker),
            files,
            alarm,
            busy: true,
            held,
            lending: Lending::new(plan.places, plan.lent, max_peers, plan.each_peer()),
            web_at_once: plan.web,
            listen_at: None,
            report: TurnReport::default(),
            tells: false,
            rests: false,
        })
    }

    /// Accepts peers at this listener from now on. Returns the listener's number.
    pub(super) fn listen(&mut self, socket: TcpListener) -> io::Result<u16> {
        let count = 1 + self.listeners.iter().flatten().count();
        self.share_callers(count);
        self.held.listen(&socket, count)?;
        let free = self.listeners.iter().position(Option::is_none);
        let place = free.unwrap_or(self.listeners.len());
        let number = u16::try_from(place).map_err(io::Error::other)?;
        self.epoll.add(&socket, Watched::Listener(number))?;
        if free.is_none() {
            self.listeners.push(None);
        }
        let paused = self.listen_at.is_some();
        if paused {
            self.epoll.pause(&socket, Watched::Listener(number), true)?;
        }
        self.listeners[place] = Some(Listener { socket, paused });
        Ok(number)
    }

    /// Stops listening at the listener of this number.
    pub(super) fn listen_no_longer(&mut self, number: u16) {
        if let Some(place) = self.listeners.get_mut(usize::from(number)) {
            *place = None;
        }
        self.share_callers(self.listeners.iter().flatten().count());
    }

    /// Gives each of `count` listeners an equal share of the callers that may wait.
    fn share_callers(&self, count: usize) {
        for listener in self.listeners.iter().flatten() {
            if let Err(error) = self.held.share(&listener.socket, count) {
                log::debug!("a listener has too many callers: {error}");
            }
        }
    }

    /// Sets the content of a torrent, and returns the former one.
    pub(super) fn attach(
        &mut self,
        torrent: TorrentId,
        content: Arc<Content>,
    ) -> Option<Arc<Content>> {
        self.worker.ask(Task::StandBack);
        // Peers may have waited for it.
        self.busy = true;
        self.contents.put(torrent, content)
    }

    /// Puts a torrent to sleep; if it sleeps, disconnects the peers that wait for it. Returns its content.
    pub(super) fn sleep(&mut self, torrent: TorrentId) -> Option<Arc<Content>> {
        self.node.sleep(self.clock.now(), torrent);
        self.busy = true;
        self.contents.remove(torrent)
    }

    /// Removes a torrent, and returns its content and the spool of its metadata.
    pub(super) fn remove(
        &mut self,
        torrent: TorrentId,
    ) -> (Option<Arc<Content>>, Option<Arc<Spool>>) {
        self.node.remove(self.clock.now(), torrent);
        self.busy = true;
        (self.contents.remove(torrent), self.fetch_no_longer(torrent))
    }

    /// Tells the node an event; its actions are carried out in the next turn.
    pub(super) fn tell(&mut self, now: Instant, event: Event<'_>) {
        if let Event::Restored(torrent, _) | Event::Changed(torrent, _) = event {
            self.worker.forget_pieces(torrent);
        }
        self.node.event(now, event);
        self.busy = true;
    }

    /// Whether all peers are gone and every received block is written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.node.is_stopped() && self.node.blocks_free() == self.node.blocks()
    }

    /// Whether the node serves a torrent: it does not after an error with its files.
    pub(super) fn is_readable(&self, torrent: TorrentId) -> bool {
        self.node.torrent(torrent).is_some_and(|t| t.readable)
    }

    /// The path of an awake torrent's file.
    pub(super) fn torrent_file(&self, id: TorrentId) -> Option<PathBuf> {
        self.content(id)
            .map(|content| content.read_torrent_file().to_owned())
    }

    /// Handles the ready sockets, then carries out the node's actions.
    pub(super) fn turn(&mut self, waiter: &Waiter, ready: usize) {
        let now = self.clock.now();
        for index in 0..ready {
            let ready = waiter.ready(index);
            match ready.source {
                Watched::Peer(id) => self.ready(now, id, ready),
                Watched::Listener(number) => self.accept(now, number),
                Watched::Alarm => self.rung(now),
                // Signals are the session's.
                Watched::Signal => {}
                Watched::Datagrams(family) => self.receive_datagrams(now, family),
                Watched::Nearby => self.hear_nearby(now),
            }
        }
        for _ in 0..self.unread.len() {
            if let Some(id) = self.unread.pop_front() {
                if let Some(peer) = find(&mut self.peers, id) {
                    peer.queued = false;
                }
                self.read(now, id);
            }
        }
        if self.node.deadline().is_some_and(|at| at <= now) {
            self.node.tick(now);
        }
        if self.listen_at.is_some_and(|at| at <= now) {
            self.resume_listening();
        }
        if self.lending.look_at.is_some_and(|at| at <= now) {
            self.look(now);
        }
        self.act(now);
        self.send_datagrams(now);
    }

    /// Disconnects all peers.
    pub(super) fn stop(&mut self) {
        let now = self.clock.now();
        self.node.stop(now);
        self.listeners.clear();
        self.act(now);
        self.send_datagrams(now);
    }

    /// The time until the next turn is due; `None` if only a socket can bring one.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.busy || !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let own = self.listen_at.into_iter().chain(self.lending.look_at);
        let due = self.node.deadline().into_iter().chain(own).min();
        due.map(|at| at.since(self.clock.now()))
    }

    /// Whether there are reports for the session.
    pub(super) fn has_news(&mut self) -> bool {
        let at_rest = self.is_at_rest();
        let ended = at_rest && !std::mem::replace(&mut self.rests, at_rest);
        std::mem::take(&mut self.tells) || ended || self.report.is_any()
    }

    /// Carries out the node's actions, at most so many in one turn that sockets are heard too.
    fn act(&mut self, now: Instant) {
        for _ in 0..ACTIONS_PER_TURN {
            match self.node.poll(now) {
                None => {
                    self.busy = false;
                    return;
                }
                Some(Action::Transmit { conn }) => self.send(now, conn),
                Some(Action::Receive { conn }) => self.read(now, conn),
                Some(Action::Connect { conn, addr }) => self.dial(now, conn, addr),
                Some(Action::Close { conn, reason, .. }) => self.close(now, conn, reason),
                Some(Action::Wake { torrent }) => self.report.wakes.push((torrent, Vec::new())),
                Some(Action::Verify {
                    torrent,
                    piece,
                    fresh,
                }) => {
                    if let Some(spool) = self.spool(torrent) {
                        let size = self.node.metadata(torrent).map_or(0, |m| m.size);
                        self.worker.ask(Task::Finish(spool, torrent, piece, size));
                    } else if let Some(content) = self.content(torrent) {
                        let content = Arc::clone(content);
                        self.worker.ask(match fresh {
                            true => Task::VerifyFresh(content, torrent, piece),
                            false => Task::Verify(content, torrent, piece),
                        });
                    }
                }
                Some(Action::Write { block, span }) => self.write(now, block, span),
                Some(Action::Fetched { torrent, .. }) => self.report.fetched.push(torrent),
                Some(Action::SendLsd) => {
                    if let Some(nearby) = &self.nearby {
                        nearby.send(|family, port, out| self.node.lsd_packet(family, port, out));
                    }
                }
                Some(Action::Announce(job)) => {
                    let report = self.node.report(&job);
                    self.report.announces.push(Announce { job, report });
                }
                Some(Action::FindDhtNodes) => self.report.finds_nodes = true,
                Some(Action::UdpAnnounced { id }) => {
                    self.report.udp_outcomes.extend(self.node.udp_outcome(id));
                }
            }
        }
        self.busy = true;
    }

    /// Gives a block to the worker to be written.
    fn write(&mut self, now: Instant, id: BlockId, span: Span) {
        let Some(bytes) = self.node.take_block(now, id) else {
            return;
        };
        if let Some(spool) = self.spool(span.torrent) {
            return self.worker.ask(Task::Spool(spool, id, span, bytes));
        }
        match self.content(span.torrent) {
            Some(content) => {
                let content = Arc::clone(content);
                self.worker.ask(Task::Write(Block {
                    content,
                    id,
                    span,
                    bytes,
                }));
            }
            // The torrent is gone, and with it the place of the block.
            None => self.node.written(now, id, bytes, Err(StorageError::Failed)),
        }
    }

    /// The file that receives a torrent's metadata while that is fetched.
    fn spool(&self, torrent: TorrentId) -> Option<Arc<Spool>> {
        let (_, spool) = self.spools.iter().find(|(id, _)| *id == torrent)?;
        Some(Arc::clone(spool))
    }

    /// Stops fetching a torrent's metadata, and returns its file.
    pub(super) fn fetch_no_longer(&mut self, torrent: TorrentId) -> Option<Arc<Spool>> {
        let at = self.spools.iter().position(|(id, _)| *id == torrent)?;
        Some(self.spools.swap_remove(at).1)
    }

    fn content(&self, torrent: TorrentId) -> Option<&Arc<Content>> {
        self.contents.get(torrent)
    }

    fn rung(&mut self, now: Instant) {
        self.alarm.silence();
        while let Some(done) = self.worker.done() {
            match done {
                Done::Warmed(id, source, offset, Ok(bytes)) => {
                    if let Some(peer) = find(&mut self.peers, id) {
                        peer.disk = Disk::Ready;
                        let warm = Warm {
                            source,
                            offset,
                            bytes: &bytes,
                        };
                        self.send_warm(now, id, Some(&warm));
                    }
                    self.worker.give_back(bytes);
                }
                Done::Warmed(id, _, _, Err((torrent, fault))) => {
                    if let Some(peer) = find(&mut self.peers, id) {
                        peer.disk = Disk::Ready;
                    }
                    if fault.extent == Extent::Change {
                        // The pieces are verified again, which opens the files anew.
                        self.changed(now, torrent);
                    }
                    self.unread(now, torrent, fault);
                    // The other bytes that it waits for may be readable.
                    self.send(now, id);
                }
                Done::Verified(torrent, piece, Ok(good)) => {
                    // The torrent reports the number of bad pieces itself.
                    if !good && let Some(content) = self.content(torrent) {
                        let (root, piece) = (content.root(), piece.get());
                        log::debug!("{}: piece {piece} is damaged", root.display());
                    }
                    self.node.event(now, Event::Verified(torrent, piece, good));
                    self.tells |= good && self.node.is_complete(torrent);
                }
                // After a change the next check of the torrent verifies the piece again, at that check's pace.
                Done::Verified(torrent, _, Err(fault)) => self.unread(now, torrent, fault),
                Done::Wrote(block, bytes, Ok(())) => self.node.written(now, block, bytes, Ok(())),
                Done::Wrote(block, bytes, Err((torrent, fault))) => {
                    self.unwritten(now, block, bytes, torrent, fault);
                }
                Done::Spooled(_, block, bytes, Ok(())) => {
                    self.node.written(now, block, bytes, Ok(()));
                }
                Done::Spooled(torrent, block, bytes, Err(error)) => {
                    self.node
                        .written(now, block, bytes, Err(StorageError::Failed));
                    self.report.unspooled.push((torrent, error));
                }
                Done::Finished(torrent, piece, Ok(good)) => {
                    self.node.event(now, Event::Verified(torrent, piece, good));
                }
                Done::Finished(torrent, piece, Err(error)) => {
                    self.node.event(now, Event::Unread(torrent, piece));
                    self.report.unspooled.push((torrent, error));
                }
                Done::Torrent(number, outcome) => self.report.files.done.push((number, outcome)),
            }
        }
    }

    fn unwritten(
        &mut self,
        now: Instant,
        block: BlockId,
        bytes: &'static mut [u8],
        torrent: TorrentId,
        fault: Unwritten,
    ) {
        if let Some(pieces) = &fault.pieces {
            let (first, end) = (pieces.start, pieces.end);
            let reason = StorageError::Pieces { first, end };
            self.node.written(now, block, bytes, Err(reason));
            return self.report.files.unwritable(torrent, fault);
        }
        let reason = match fault.error.is_no_space() {
            true => StorageError::Full,
            false => StorageError::Failed,
        };
        // One report is enough: other failed writes of the same moment add nothing.
        let refused = self.node.torrent(torrent).and_then(|t| t.refused);
        self.node
            .written(now, block, bytes, Err(refused.unwrap_or(reason)));
        if refused.is_none() {
            self.report.files.unwritable(torrent, fault);
        }
    }

    /// A torrent's files were written to after they were opened: nothing of them is sent before they are verified
    /// again.
    fn changed(&mut self, now: Instant, torrent: TorrentId) {
        if let Some(content) = self.content(torrent) {
            content.forget_files(&self.files);
            self.worker.close_forgotten();
            self.tell(now, Event::Changed(torrent, Have::Unverified));
        }
    }

    /// Handles a failed read, which may concern more than one piece.
    fn unread(&mut self, now: Instant, torrent: TorrentId, fault: Unread) {
        let piece = self.content(torrent).map(|content| content.geometry());
        let piece = piece.and_then(|geometry| geometry.piece(fault.piece));
        match (fault.extent, piece) {
            (Extent::Piece, Some(piece)) => {
                self.node.event(now, Event::Unread(torrent, piece));
                self.busy = true;
                self.report.files.unread(torrent, fault);
            }
            (Extent::Change, _) => self.report.files.unread(torrent, fault),
            _ => self.unreadable(now, torrent, fault.error),
        }
    }

    fn unreadable(&mut self, now: Instant, torrent: TorrentId, error: ReadError) {
        // One report is enough, though many peers may have met the same error.
        if self.is_readable(torrent) {
            self.node.event(now, Event::Unreadable(torrent));
            self.report.files.unreadable.push((torrent, error));
        }
    }
}

/// The peer with this id, if it is still connected.
fn find(peers: &mut [Option<Peer>], id: ConnId) -> Option<&mut Peer> {
    let peer = peers.get_mut(usize::from(id.slot))?.as_mut()?;
    (peer.id == id).then_some(peer)
}

/// The pause of listeners when file descriptors or memory run out.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// The most that one turn does of each kind before it looks at the sockets again.
const ACTIONS_PER_TURN: usize = 64;
const ACCEPTS_PER_TURN: usize = 32;
const READS_PER_TURN: usize = 4;
