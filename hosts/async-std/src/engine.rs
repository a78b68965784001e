//! The engine: moves bytes between the node, the sockets and the files; the crate's doc says how.
//!
//! Invariants: `peers[i]` is the connection in the node's slot `i`, under the node's id. A task that waits for the
//! node has left its waker there, under the same lock under which it found nothing to do.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_std::io::{Read, Write};
use async_std::net::TcpStream;
use async_std::{future, task};
use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_core::time::Instant;
use everseed_disk::fault::{Extent, Unread};
use everseed_disk::{Content, FileCache, ReadError, check};
use everseed_node::{Action, Bodies, ConnId, Event, Have, Node, PeerSource, Stats};

use crate::memory;

/// The node, and the torrent's content.
#[derive(Debug)]
pub(crate) struct Engine {
    state: Mutex<State>,
    torrent: TorrentId,
    content: Content,
    files: FileCache,
    start: std::time::Instant,
}

#[derive(Debug)]
struct State {
    node: Node<'static>,
    peers: Vec<Option<Peer>>,
    /// The send buffer, used for one peer at a time.
    buffer: Box<[u8]>,
    bodies: Bodies,
    /// The waker of [`Seeder::run`](crate::Seeder::run).
    runner: Option<Waker>,
    /// The node's deadline when the runner was last woken for it.
    deadline: Option<Instant>,
    failure: Option<ReadError>,
}

#[derive(Debug)]
struct Peer {
    id: ConnId,
    /// `None` while the connection is being made.
    stream: Option<TcpStream>,
    reader: Option<Waker>,
    /// Set only while there is nothing to send: a task that waits for a full socket is woken by the socket.
    writer: Option<Waker>,
}

/// Bytes of content that had to be read from the disk.
#[derive(Debug, Default)]
struct Block {
    offset: u64,
    bytes: Vec<u8>,
}

/// The outcome of sending.
enum Sent {
    Some,
    /// These bytes have to be read first.
    Cold(Span),
    /// The connection is gone.
    Gone,
}

impl Engine {
    pub(crate) fn new(content: Content, have: Have<'_>, port: u16) -> io::Result<Engine> {
        let mut node = memory::node(&content, port);
        let info_hash = content.metainfo().info_hash;
        let torrent = node
            .add(info_hash, content.geometry(), have, 0)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Engine {
            state: Mutex::new(State {
                node,
                peers: (0..memory::PEERS).map(|_| None).collect(),
                buffer: vec![0; BUFFER].into_boxed_slice(),
                bodies: Bodies::new(),
                runner: None,
                deadline: None,
                failure: None,
            }),
            torrent,
            content,
            files: FileCache::new(OPEN_FILES),
            start: std::time::Instant::now(),
        })
    }

    /// The node's present time.
    pub(crate) fn now(&self) -> Instant {
        let us = self.start.elapsed().as_micros();
        Instant::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().node.deadline()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().node.stats()
    }

    /// Names a peer, which the runner calls.
    pub(crate) fn call(&self, addr: SocketAddr) {
        let mut state = self.lock();
        state.node.event(
            self.now(),
            Event::Peer(self.torrent, addr, PeerSource::Tracker),
        );
        wake(&mut state.runner);
    }

    pub(crate) fn tick(self: &Arc<Self>) {
        self.with_node(Node::tick);
    }

    pub(crate) fn stop(self: &Arc<Self>) {
        self.with_node(Node::stop);
        self.lock().runner = None;
    }

    /// Takes a connection that a peer made.
    pub(crate) fn welcome(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr) {
        let mut state = self.lock();
        let now = self.now();
        if let Some(id) = state.node.accept(now, addr) {
            state.peers[usize::from(id.slot)] = Some(Peer::new(id));
            self.begin(&mut state, id, stream);
        }
        self.act(&mut state, now);
    }

    /// The error of reading the content, as soon as there is one.
    pub(crate) fn poll_failure(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<ReadError> {
        let mut state = self.lock();
        state.runner = Some(cx.waker().clone());
        self.act(&mut state, self.now());
        state.failure.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_node(self: &Arc<Self>, tell: impl FnOnce(&mut Node<'static>, Instant)) {
        let mut state = self.lock();
        let now = self.now();
        tell(&mut state.node, now);
        self.act(&mut state, now);
    }

    /// Carries out the node's actions.
    fn act(self: &Arc<Self>, state: &mut State, now: Instant) {
        while let Some(action) = state.node.poll(now) {
            match action {
                Action::Transmit { conn } => state.peer(conn).map_or((), |p| wake(&mut p.writer)),
                Action::Receive { conn } => state.peer(conn).map_or((), |p| wake(&mut p.reader)),
                Action::Close { conn, .. } => state.close(conn),
                Action::Connect { conn, addr } => {
                    state.peers[usize::from(conn.slot)] = Some(Peer::new(conn));
                    task::spawn(Arc::clone(self).dial(conn, addr));
                }
                Action::Verify { piece, .. } => {
                    let engine = Arc::clone(self);
                    task::spawn_blocking(move || engine.verify(piece));
                }
                // There are no trackers to announce to, nothing sleeps, and nothing is downloaded.
                Action::Announce(_) | Action::SendLsd => {}
                Action::UdpAnnounced { .. } | Action::FindDhtNodes => {}
                Action::Wake { .. } | Action::Write { .. } => {}
                // Every torrent here is known.
                Action::Fetched { .. } => {}
            }
        }
        let deadline = state.node.deadline();
        if std::mem::replace(&mut state.deadline, deadline) != deadline {
            wake(&mut state.runner);
        }
    }

    async fn dial(self: Arc<Self>, id: ConnId, addr: SocketAddr) {
        let dialled = future::timeout(DIAL_TIMEOUT, TcpStream::connect(addr)).await;
        let mut state = self.lock();
        let now = self.now();
        match dialled {
            Ok(Ok(stream)) if state.peer(id).is_some() => {
                state.node.event(now, Event::Connected(id));
                self.begin(&mut state, id, stream);
            }
            _ => state.node.event(now, Event::Closed(id)),
        }
        self.act(&mut state, now);
    }

    /// Starts the tasks of a connection.
    fn begin(self: &Arc<Self>, state: &mut State, id: ConnId, stream: TcpStream) {
        // A kernel that refuses costs time and nothing else.
        let _ = stream.set_nodelay(true);
        if let Some(peer) = state.peer(id) {
            peer.stream = Some(stream.clone());
            task::spawn(Arc::clone(self).hear(id, stream.clone()));
            task::spawn(Arc::clone(self).serve(id, stream));
        }
    }

    fn verify(self: &Arc<Self>, piece: PieceIndex) {
        let mut scratch = vec![0; check::CHUNK];
        match check::verify_piece(&self.content, &self.files, piece, &mut scratch) {
            Ok(good) => {
                if !good {
                    log::warn!("piece {} is damaged and is not served", piece.get());
                }
                let event = Event::Verified(self.torrent, piece, good);
                self.with_node(|node, now| node.event(now, event));
            }
            Err(error) => {
                let fault = Unread::judge(&self.content, piece.get(), error);
                match fault.extent {
                    Extent::Piece => {
                        log::warn!("{fault}: it is not served, the others are");
                        let event = Event::Unread(self.torrent, piece);
                        self.with_node(|node, now| node.event(now, event));
                    }
                    _ => self.fail(fault.error),
                }
            }
        }
    }

    fn fail(self: &Arc<Self>, error: ReadError) {
        let event = Event::Unreadable(self.torrent);
        self.with_node(|node, now| node.event(now, event));
        let mut state = self.lock();
        state.failure.get_or_insert(error);
        wake(&mut state.runner);
    }
}

/// Bytes in and out.
impl Engine {
    async fn hear(self: Arc<Self>, id: ConnId, stream: TcpStream) {
        while poll_fn(|cx| self.poll_receive(cx, id, &stream)).await {
            // A peer that never stops sending must give others a turn.
            task::yield_now().await;
        }
    }

    /// Reads once; false when the connection has ended.
    fn poll_receive(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        id: ConnId,
        mut stream: &TcpStream,
    ) -> Poll<bool> {
        let mut guard = self.lock();
        let (state, now) = (&mut *guard, self.now());
        let Some(peer) = state.peer(id) else {
            return Poll::Ready(false);
        };
        peer.reader = Some(cx.waker().clone());
        let read = match state.node.recv_space(id) {
            Some(space) => Pin::new(&mut stream).poll_read(cx, space),
            // `Action::Receive` comes when there is room, perhaps at once.
            None => Poll::Pending,
        };
        match read {
            Poll::Pending => {}
            Poll::Ready(Ok(len)) if len > 0 => state.node.received(now, id, len),
            Poll::Ready(_) => state.node.event(now, Event::Closed(id)),
        }
        self.act(state, now);
        read.map(|_| true)
    }

    async fn serve(self: Arc<Self>, id: ConnId, stream: TcpStream) {
        let mut block = Block::default();
        loop {
            match poll_fn(|cx| self.poll_send(cx, id, &stream, &block)).await {
                Sent::Some => task::yield_now().await,
                Sent::Cold(span) => {
                    let engine = Arc::clone(&self);
                    block = task::spawn_blocking(move || engine.read(span)).await;
                }
                Sent::Gone => return,
            }
        }
    }

    /// Sends once. After a full socket nothing is kept: the rest is put together again next time.
    fn poll_send(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        id: ConnId,
        mut stream: &TcpStream,
        block: &Block,
    ) -> Poll<Sent> {
        let mut guard = self.lock();
        let (state, now) = (&mut *guard, self.now());
        if state.peer(id).is_none() {
            return Poll::Ready(Sent::Gone);
        }
        let due = state
            .node
            .transmit(now, id, &mut state.buffer, &mut state.bodies);
        let (len, cold) = self.fill(&mut state.buffer, &state.bodies, due, block);
        if len == 0 {
            if let Some(span) = cold {
                return Poll::Ready(Sent::Cold(span));
            }
            if let Some(peer) = state.peer(id) {
                peer.writer = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut stream).poll_write(cx, &state.buffer[..len])) {
            Ok(sent) => state.node.transmitted(now, id, sent),
            Err(_) => state.node.event(now, Event::Closed(id)),
        }
        self.act(state, now);
        Poll::Ready(Sent::Some)
    }

    /// Copies the bodies into the buffer's gaps, from `block` or the page cache. Returns how many of the `len` bytes
    /// can be sent, and what has to be read before the rest.
    fn fill(
        &self,
        buffer: &mut [u8],
        bodies: &Bodies,
        len: usize,
        block: &Block,
    ) -> (usize, Option<Span>) {
        for body in bodies {
            let gap = &mut buffer[body.at..][..body.span.len as usize];
            let offset = body.span.offset;
            if let Some(bytes) = block.part(offset, gap.len()) {
                gap.copy_from_slice(bytes);
                continue;
            }
            let mut gaps = [IoSliceMut::new(gap)];
            let read = self.content.read_cached(&self.files, offset, &mut gaps);
            if read < body.span.len as usize {
                return (body.before, Some(body.span));
            }
        }
        (len, None)
    }

    /// Reads content, and waits for the disk.
    fn read(self: &Arc<Self>, span: Span) -> Block {
        let mut bytes = vec![0; span.len as usize];
        match self.content.read(&self.files, span.offset, &mut bytes) {
            Ok(()) => Block {
                offset: span.offset,
                bytes,
            },
            Err(error) => {
                self.fail(error);
                Block::default()
            }
        }
    }
}

impl State {
    /// The peer with this id, if it is still connected.
    fn peer(&mut self, id: ConnId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(usize::from(id.slot))?.as_mut()?;
        (peer.id == id).then_some(peer)
    }

    /// Closes a connection: its tasks wake up and find it gone.
    fn close(&mut self, id: ConnId) {
        let Some(peer) = self.peer(id) else { return };
        if let Some(stream) = &peer.stream {
            // It fails if the peer has closed it first.
            let _ = stream.shutdown(Shutdown::Both);
        }
        wake(&mut peer.reader);
        wake(&mut peer.writer);
        self.peers[usize::from(id.slot)] = None;
    }
}

impl Peer {
    fn new(id: ConnId) -> Peer {
        Peer {
            id,
            stream: None,
            reader: None,
            writer: None,
        }
    }
}

impl Block {
    /// `len` bytes of content from `offset` on, if this block has them.
    fn part(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(at..)?.get(..len)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Bytes of the send buffer: four blocks with their heads.
const BUFFER: usize = 4 * (16 * 1024 + 13);

/// The most files that are kept open.
const OPEN_FILES: usize = 16;

/// The time that the operating system may take to connect; the node gives up after the same time.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
