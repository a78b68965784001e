//! The node as the engine uses it, which can record everything that it is told: `--trace`.
//!
//! Every change of the node goes through [`Traced::input`]. The exceptions, which move bytes or happen for every
//! block, are recorded on their way. Questions go through `Deref`. So the node cannot be told anything that its trace
//! lacks.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use everseed_core::geometry::{Geometry, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use everseed_core::time::Instant;
use everseed_node::discovery::announcer::Full;
use everseed_node::trace::{Call, Head, Input, Output, len};
use everseed_node::{
    Action, AddError, Bodies, ConnId, Event, Have, Identity, Limits, Memory, Node, Order,
    Publicity, StorageError, Wanted,
};

/// A node and, if it is recorded, its trace file.
pub(crate) struct Traced {
    /// On the heap: whoever takes it on at the start would have a copy of some kilobytes on the stack, which nobody
    /// gives back.
    node: Box<Node<'static>>,
    tape: Option<Tape>,
    /// When it was told something last: time does not go back.
    told_at: Instant,
}

impl Deref for Traced {
    type Target = Node<'static>;

    fn deref(&self) -> &Node<'static> {
        &self.node
    }
}

impl Traced {
    /// A node, recorded in the file `to` if there is one.
    #[inline(never)] // The caller's stack would have room for a node, too, as long as it runs.
    pub(crate) fn new(
        memory: Memory<'static>,
        identity: Identity,
        limits: Limits,
        seed: u64,
        to: Option<&Path>,
    ) -> io::Result<Traced> {
        let head = Head::new(memory.sizes(), &identity, limits, seed);
        let tape = match to {
            None => None,
            Some(path) => Some(Tape::new(path, &head)?),
        };
        let node = Box::new(Node::new(memory, identity, limits, seed));
        Ok(Traced {
            node,
            tape,
            told_at: Instant::ZERO,
        })
    }

    /// Gives the node an input, and records it.
    pub(crate) fn input(&mut self, now: Instant, input: Input<'_>) -> Output {
        let output = self.node.input(now, input);
        self.note(now, || input, || output);
        output
    }

    pub(crate) fn add(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<TorrentId, AddError> {
        let input = Input::Add {
            info_hash,
            geometry,
            have,
            uploaded,
        };
        self.input(now, input).torrent()
    }

    pub(crate) fn add_unknown(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
    ) -> Result<TorrentId, AddError> {
        let answer = self.node.add_unknown(now, info_hash);
        let input = || Input::AddUnknown(info_hash);
        self.note(now, input, || Output::Torrent(answer));
        answer
    }

    pub(crate) fn know(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
    ) -> Result<TorrentId, AddError> {
        self.input(now, Input::Know(info_hash)).torrent()
    }

    pub(crate) fn wake(
        &mut self,
        now: Instant,
        id: TorrentId,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<(), AddError> {
        let input = Input::Wake {
            id,
            geometry,
            have,
            uploaded,
        };
        self.input(now, input).room()
    }

    pub(crate) fn download(
        &mut self,
        now: Instant,
        id: TorrentId,
        wanted: Wanted<'_>,
        order: Order,
    ) -> Result<(), AddError> {
        self.input(now, Input::Download(id, wanted, order)).room()
    }

    pub(crate) fn announce(
        &mut self,
        now: Instant,
        id: TorrentId,
        tier: u8,
        trackers: u8,
    ) -> Result<(), Full> {
        match self.input(now, Input::Announce(id, tier, trackers)) {
            Output::Accepted(true) => Ok(()),
            _ => Err(Full),
        }
    }

    pub(crate) fn sleep(&mut self, now: Instant, id: TorrentId) {
        self.input(now, Input::Sleep(id));
    }

    pub(crate) fn announce_anew(&mut self, now: Instant) {
        self.input(now, Input::AnnounceAnew);
    }

    pub(crate) fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.input(now, Input::SetLimits(limits));
    }

    pub(crate) fn offer_metadata(&mut self, now: Instant, id: TorrentId, len: u32) {
        self.input(now, Input::OfferMetadata(id, len));
    }

    pub(crate) fn forget_trackers(&mut self, now: Instant, id: TorrentId) {
        self.input(now, Input::ForgetTrackers(id));
    }

    pub(crate) fn publish(&mut self, now: Instant, id: TorrentId, publicity: Publicity) {
        self.input(now, Input::Publish(id, publicity));
    }

    pub(crate) fn lsd_received(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.input(now, Input::LsdReceived(from, packet));
    }

    pub(crate) fn renew_lsd(&mut self, now: Instant) {
        self.input(now, Input::RenewLsd);
    }

    pub(crate) fn reached_at(&mut self, now: Instant, addr: SocketAddr) {
        self.input(now, Input::ReachedAt(addr));
    }

    pub(crate) fn remove(&mut self, now: Instant, id: TorrentId) {
        self.input(now, Input::Remove(id));
    }

    pub(crate) fn stop(&mut self, now: Instant) {
        self.input(now, Input::Stop);
    }

    pub(crate) fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<ConnId> {
        match self.input(now, Input::Accept(from)) {
            Output::Conn(conn) => conn,
            _ => None,
        }
    }

    pub(crate) fn event(&mut self, now: Instant, event: Event<'_>) {
        self.input(now, Input::Event(event));
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        self.input(now, Input::Tick);
    }

    pub(crate) fn datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.input(now, Input::Datagram(from, packet));
    }

    pub(crate) fn recv_space(&mut self, now: Instant, id: ConnId) -> Option<&mut [u8]> {
        self.passes(now);
        if let Some(tape) = &mut self.tape {
            let room = self.node.recv_space(id).map_or(0, |space| space.len());
            tape.write(now, Input::RecvSpace(id), Output::Len(len(room)));
        }
        self.node.recv_space(id)
    }

    pub(crate) fn received(&mut self, now: Instant, id: ConnId, len: usize) {
        self.passes(now);
        if let Some(tape) = &mut self.tape {
            // The same call returns the same space, now with the bytes that were read into it.
            let space = self.node.recv_space(id).unwrap_or_default();
            let bytes = space.get(..len).unwrap_or_default();
            tape.write(now, Input::Received(id, bytes), Output::Done);
        }
        self.node.received(now, id, len);
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Option<Action> {
        let answer = self.node.poll(now);
        self.note(now, || Input::Poll, || Output::Action(answer));
        answer
    }

    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        id: ConnId,
        buf: &mut [u8],
        bodies: &mut Bodies,
    ) -> usize {
        let answer = self.node.transmit(now, id, buf, bodies);
        let room = len(buf.len());
        let output = || Output::Len(len(answer));
        self.note(now, || Input::Transmit(id, room), output);
        answer
    }

    pub(crate) fn transmitted(&mut self, now: Instant, id: ConnId, sent: usize) {
        self.node.transmitted(now, id, sent);
        let input = || Input::Transmitted(id, len(sent));
        self.note(now, input, || Output::Done);
    }

    pub(crate) fn take_block(&mut self, now: Instant, id: BlockId) -> Option<&'static mut [u8]> {
        let answer = self.node.take_block(id);
        let there = answer.is_some();
        self.note(now, || Input::TakeBlock(id), || Output::Accepted(there));
        answer
    }

    pub(crate) fn written(
        &mut self,
        now: Instant,
        id: BlockId,
        bytes: &'static mut [u8],
        result: Result<(), StorageError>,
    ) {
        self.node.written(id, bytes, result);
        self.note(now, || Input::Written(id, result), || Output::Done);
    }

    pub(crate) fn poll_datagram(
        &mut self,
        now: Instant,
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        let answer = self.node.poll_datagram(now, packet);
        let room = len(packet.len());
        let output = || Output::Datagram(answer.map(|(to, sent)| (to, len(sent))));
        // Recorded even without a datagram: the call lets time pass in the node, and drops nodes that are not worth
        // asking.
        self.note(now, || Input::PollDatagram(room), output);
        answer
    }

    fn note<'a>(
        &mut self,
        now: Instant,
        input: impl FnOnce() -> Input<'a>,
        output: impl FnOnce() -> Output,
    ) {
        self.passes(now);
        if let Some(tape) = &mut self.tape {
            tape.write(now, input(), output());
        }
    }

    /// It is told something at this time.
    fn passes(&mut self, now: Instant) {
        debug_assert!(self.told_at <= now, "{:?}, then {now:?}", self.told_at);
        self.told_at = now;
    }
}

/// A trace file, which is written until a write fails.
struct Tape {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    /// The buffer of an encoded entry.
    encoded: Vec<u8>,
}

impl Tape {
    fn new(path: &Path, head: &Head<'_>) -> io::Result<Tape> {
        // Only the owner may read it, because it holds what peers sent.
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut tape = Tape {
            path: path.to_owned(),
            file: Some(BufWriter::new(options.open(path)?)),
            encoded: vec![0; LONGEST_ENTRY],
        };
        tape.put(head)?;
        Ok(tape)
    }

    fn write(&mut self, at: Instant, input: Input<'_>, output: Output) {
        if let Err(error) = self.put(&Call { at, input, output }) {
            let path = self.path.display();
            log::warn!("{path}: {error}; the trace ends here");
            self.file = None;
        }
    }

    fn put<T: serde::Serialize>(&mut self, value: &T) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let encoded = postcard::to_slice(value, &mut self.encoded).map_err(io::Error::other)?;
        file.write_all(encoded)
    }
}

/// Bytes of the longest entry: one read from a socket, or the bitfield of a large torrent, and a little more.
const LONGEST_ENTRY: usize = 512 * 1024;
