//! The node on real sockets and files: one thread, one loop, no allocation per block.
//!
//! The [`Reactor`] tells the node what is ready, and carries out its actions. It lives on a thread of its own, which
//! waits for sockets and for nothing else: what would wait for a disk (cold reads, hashing, closing) goes to the
//! [`Worker`], what is rare and slow is news for the session. Everybody else reaches it through the engine.
//!
//! Invariants: `peers[i]` holds the socket of the connection in the node's slot `i`, under the id
//! that the node gave it; a peer that waits for the worker sends nothing.

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
use everseed_node::{Action, Bodies, ConnId, Event, Have, Source, StorageError};

pub(crate) use self::report::{Announce, TurnReport};
use self::shares::{Lending, Loan};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::memory::Plan;
use crate::net::Sending;
use crate::net::epoll::{Epoll, Waiter, Watched};
use crate::net::lsd::Nearby;
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
    /// A place stays empty when its listener has gone, until there is another one.
    listeners: Vec<Option<Listener>>,
    /// From where trackers and peers are called; that stays when the listeners go.
    way_out: Way,
    /// Peers in the networks here, if they are looked for.
    nearby: Option<Nearby>,
    /// How much it takes part in the distributed hash table.
    dht: Mode,
    udp: Udp,
    peers: Vec<Option<Peer>>,
    /// Peers that may have more to read, but have had their share of this turn.
    unread: VecDeque<ConnId>,
    /// What is sent is put together here, for one peer at a time.
    buffer: Box<[u8]>,
    bodies: Bodies,
    way: Sending,
    contents: Contents,
    /// Where metadata goes that is fetched.
    pub(super) spools: Vec<(TorrentId, Arc<Spool>)>,
    pub(super) files: Arc<FileCache>,
    pub(super) worker: Arc<Worker>,
    alarm: Arc<Alarm>,
    /// Whether the node may have more to do right away.
    pub(super) busy: bool,
    held: Held,
    lending: Lending,
    /// HTTP clients that are taken in one turn.
    web_at_once: usize,
    /// When listeners that had to pause go on.
    listen_at: Option<Instant>,
    /// What others have to look after.
    pub(super) report: TurnReport,
    /// Whether the session is to hear of something that is no news by itself: a finished handshake, a complete torrent.
    tells: bool,
    /// Whether everybody was gone after the end, when that was looked at last.
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
    /// It is being dialled.
    dialling: bool,
    /// It called us and has said nothing yet.
    fresh: bool,
    /// Whether its handshake was finished when something came last.
    open: bool,
    readable: bool,
    /// Whether it is among [`Reactor::unread`].
    queued: bool,
    writable: bool,
    /// Nothing will come after what can be read now.
    ended: bool,
    disk: Disk,
    loan: Loan,
}

/// How a peer stands with the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    /// Blocks are read from the page cache as they are sent.
    Ready,
    /// The worker reads for it.
    Waits,
}

/// What the worker has just read for a peer.
struct Warm<'a> {
    source: Source,
    offset: u64,
    bytes: &'a [u8],
}

impl Reactor {
    /// One that listens nowhere and serves nothing yet. `alarm` is rung when it has to look what the worker did.
    pub(super) fn new(
        node: Traced,
        plan: &Plan,
        way: Sending,
        alarm: Arc<Alarm>,
    ) -> io::Result<Reactor> {
        let epoll = Epoll::new()?;
        epoll.add(&*alarm, Watched::Alarm)?;
        let files = Arc::new(FileCache::new(OPEN_FILES));
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

    /// Takes the peers that come to this address from now on. Answers with its number.
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
        let paused = false;
        self.listeners[place] = Some(Listener { socket, paused });
        Ok(number)
    }

    /// Takes none any more at the address of this number.
    pub(super) fn listen_no_longer(&mut self, number: u16) {
        if let Some(place) = self.listeners.get_mut(usize::from(number)) {
            *place = None;
        }
        self.share_callers(self.listeners.iter().flatten().count());
    }

    /// Lets as many callers wait at each address as are its share of so many.
    fn share_callers(&self, count: usize) {
        for listener in self.listeners.iter().flatten() {
            if let Err(error) = self.held.share(&listener.socket, count) {
                log::debug!("a listener has too many callers: {error}");
            }
        }
    }

    /// Where the bytes of a torrent are; answers with where they were.
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

    /// Puts a torrent to sleep, or lets go of those who wait for one that is; answers with where its bytes were.
    pub(super) fn sleep(&mut self, torrent: TorrentId) -> Option<Arc<Content>> {
        self.node.sleep(self.clock.now(), torrent);
        self.busy = true;
        self.contents.remove(torrent)
    }

    /// The node needs the bytes of a torrent no longer; answers with where they were.
    pub(super) fn detach(&mut self, torrent: TorrentId) -> Option<Arc<Content>> {
        self.contents.remove(torrent)
    }

    /// Tells the node something, and carries out what follows in the next turn.
    pub(super) fn tell(&mut self, event: Event<'_>) {
        if let Event::Restored(torrent, _) | Event::Changed(torrent, _) = event {
            self.worker.forget_pieces(torrent);
        }
        self.node.event(self.clock.now(), event);
        self.busy = true;
    }

    /// Whether everybody is gone and every block that came is written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.node.is_stopped() && self.node.blocks_free() == self.node.blocks()
    }

    /// Whether the node serves a torrent, as nothing went wrong with its files.
    pub(super) fn is_readable(&self, torrent: TorrentId) -> bool {
        self.node.torrent(torrent).is_some_and(|t| t.readable)
    }

    /// The torrent file of a torrent that is awake.
    pub(super) fn torrent_file(&self, id: TorrentId) -> Option<PathBuf> {
        self.content(id)
            .map(|content| content.read_torrent_file().to_owned())
    }

    /// Does what follows from what is ready.
    pub(super) fn turn(&mut self, waiter: &Waiter, ready: usize) {
        let now = self.clock.now();
        for index in 0..ready {
            let ready = waiter.ready(index);
            match ready.source {
                Watched::Peer(id) => self.ready(now, id, ready),
                Watched::Listener(number) => self.accept(now, number),
                Watched::Alarm => self.rung(now),
                // The session's.
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

    /// Lets everybody go.
    pub(super) fn stop(&mut self) {
        let now = self.clock.now();
        self.node.stop(now);
        self.listeners.clear();
        self.act(now);
        self.send_datagrams(now);
    }

    /// How long it may wait for the next turn; `None` is without end.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.busy || !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let own = self.listen_at.into_iter().chain(self.lending.look_at);
        let due = self.node.deadline().into_iter().chain(own).min();
        due.map(|at| at.since(self.clock.now()))
    }

    /// Whether there is something that the session is to look at now.
    pub(super) fn has_news(&mut self) -> bool {
        let at_rest = self.is_at_rest();
        let ended = at_rest && !std::mem::replace(&mut self.rests, at_rest);
        std::mem::take(&mut self.tells) || ended || self.report.is_any()
    }

    /// Carries out what the node wants, as much as is fair to those who want to be heard.
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
                Some(Action::TellNearby) => {
                    if let Some(nearby) = &self.nearby {
                        nearby.send(|family, port, out| self.node.nearby_packet(family, port, out));
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

    /// Has a block written.
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
            // Nobody knows where it belongs.
            None => self.node.written(now, id, bytes, Err(StorageError::Failed)),
        }
    }

    /// Where the metadata of a torrent goes, while that is fetched.
    fn spool(&self, torrent: TorrentId) -> Option<Arc<Spool>> {
        let (_, spool) = self.spools.iter().find(|(id, _)| *id == torrent)?;
        Some(Arc::clone(spool))
    }

    /// It is not fetched any more; answers with where it went.
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
                        // What waits is verified, which opens the file anew.
                        self.changed(torrent);
                    }
                    self.unread(now, torrent, fault);
                    // What else it waits for may be had.
                    self.send(now, id);
                }
                Done::Verified(torrent, piece, Ok(good)) => {
                    // Their number is told by whoever looks after the torrent.
                    if !good && let Some(content) = self.content(torrent) {
                        let (root, piece) = (content.root(), piece.get());
                        log::debug!("{}: piece {piece} is damaged", root.display());
                    }
                    self.node.event(now, Event::Verified(torrent, piece, good));
                    self.tells |= good && self.node.is_complete(torrent);
                }
                // After a change the next look has it verified again, which paces that.
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
                other => self.report.done.push(other),
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
            return self.report.unwritable(torrent, fault);
        }
        let reason = match fault.error.is_no_space() {
            true => StorageError::Full,
            false => StorageError::Failed,
        };
        // One report is enough: those that came with it say nothing more.
        let refused = self.node.torrent(torrent).and_then(|t| t.refused);
        self.node
            .written(now, block, bytes, Err(refused.unwrap_or(reason)));
        if refused.is_none() {
            self.report.unwritable(torrent, fault);
        }
    }

    /// A torrent's files were written to since they were opened: nothing is sent before it was verified again.
    fn changed(&mut self, torrent: TorrentId) {
        if let Some(content) = self.content(torrent) {
            content.forget_files(&self.files);
            self.worker.close_forgotten();
            self.tell(Event::Changed(torrent, Have::Unverified));
        }
    }

    /// A piece could not be read, or more than that.
    fn unread(&mut self, now: Instant, torrent: TorrentId, fault: Unread) {
        let piece = self.content(torrent).map(|content| content.geometry());
        let piece = piece.and_then(|geometry| geometry.piece(fault.piece));
        match (fault.extent, piece) {
            (Extent::Piece, Some(piece)) => {
                self.node.event(now, Event::Unread(torrent, piece));
                self.busy = true;
                self.report.unread(torrent, fault);
            }
            (Extent::Change, _) => self.report.unread(torrent, fault),
            _ => self.unreadable(now, torrent, fault.error),
        }
    }

    fn unreadable(&mut self, now: Instant, torrent: TorrentId, error: ReadError) {
        // One report is enough, though many peers may have met the same error.
        if self.is_readable(torrent) {
            self.node.event(now, Event::Unreadable(torrent));
            self.report.unreadable.push((torrent, error));
        }
    }
}

/// The peer of this id, if it is still there.
fn find(peers: &mut [Option<Peer>], id: ConnId) -> Option<&mut Peer> {
    let peer = peers.get_mut(usize::from(id.slot))?.as_mut()?;
    (peer.id == id).then_some(peer)
}

/// How long listeners pause when descriptors or memory run out.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Files that are kept open at a time.
const OPEN_FILES: usize = 32;

/// What one turn does at most of each kind before it looks at the sockets anew.
const ACTIONS_PER_TURN: usize = 64;
const ACCEPTS_PER_TURN: usize = 32;
const READS_PER_TURN: usize = 4;
