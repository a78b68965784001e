//! The node as the engine knows it, which can write down all that it is told: `--trace`.
//!
//! Every method of the node that changes it is here again under its name; the others come through
//! `Deref`. So nothing can be told to the node that is missing in its trace.

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
use everseed_node::trace::{Entry, Head, Input, Output, len};
use everseed_node::{
    Action, AddError, Bodies, ConnId, Event, Have, Identity, Job, Limits, Memory, Node, Order,
    Publicity, StorageError, Wanted,
};

/// A node and, if it is recorded, its tape.
pub(crate) struct Traced {
    node: Node<'static>,
    tape: Option<Tape>,
}

impl Deref for Traced {
    type Target = Node<'static>;

    fn deref(&self) -> &Node<'static> {
        &self.node
    }
}

impl Traced {
    /// A node whose life is written to the file `to`, if there is one to be.
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
        let node = Node::new(memory, identity, limits, seed);
        Ok(Traced { node, tape })
    }

    pub(crate) fn add(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<TorrentId, AddError> {
        let answer = self.node.add(info_hash, geometry, have, uploaded);
        let (total, piece_len) = (geometry.total(), geometry.piece_len());
        let input = || Input::Add {
            info_hash,
            total,
            piece_len,
            have,
            uploaded,
        };
        self.note(now, input, || Output::Torrent(answer));
        answer
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
        let answer = self.node.know(info_hash);
        self.note(now, || Input::Know(info_hash), || Output::Torrent(answer));
        answer
    }

    pub(crate) fn wake(
        &mut self,
        now: Instant,
        id: TorrentId,
        geometry: Geometry,
        have: Have<'_>,
        uploaded: u64,
    ) -> Result<(), AddError> {
        let answer = self.node.wake(now, id, geometry, have, uploaded);
        let (total, piece_len) = (geometry.total(), geometry.piece_len());
        let input = || Input::Wake {
            id,
            total,
            piece_len,
            have,
            uploaded,
        };
        self.note(now, input, || Output::Accepted(answer.is_ok()));
        answer
    }

    pub(crate) fn sleep(&mut self, now: Instant, id: TorrentId) {
        self.node.sleep(id);
        self.note(now, || Input::Sleep(id), || Output::Done);
    }

    pub(crate) fn announce_anew(&mut self, now: Instant) {
        self.node.announce_anew(now);
        self.note(now, || Input::AnnounceAnew, || Output::Done);
    }

    pub(crate) fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.node.set_limits(now, limits);
        self.note(now, || Input::SetLimits(limits), || Output::Done);
    }

    pub(crate) fn offer_metadata(&mut self, now: Instant, id: TorrentId, len: u32) {
        self.node.offer_metadata(id, len);
        self.note(now, || Input::OfferMetadata(id, len), || Output::Done);
    }

    pub(crate) fn download(
        &mut self,
        now: Instant,
        id: TorrentId,
        wanted: Wanted<'_>,
        order: Order,
    ) -> Result<(), AddError> {
        let answer = self.node.download(now, id, wanted, order);
        let output = || Output::Accepted(answer.is_ok());
        self.note(now, || Input::Download(id, wanted, order), output);
        answer
    }

    pub(crate) fn announce(
        &mut self,
        now: Instant,
        id: TorrentId,
        tier: u8,
        trackers: u8,
    ) -> Result<(), Full> {
        let answer = self.node.announce(now, id, tier, trackers);
        let output = || Output::Accepted(answer.is_ok());
        self.note(now, || Input::Announce(id, tier, trackers), output);
        answer
    }

    pub(crate) fn forget_trackers(&mut self, now: Instant, id: TorrentId) {
        self.node.forget_trackers(now, id);
        self.note(now, || Input::ForgetTrackers(id), || Output::Done);
    }

    pub(crate) fn publish(&mut self, now: Instant, id: TorrentId, publicity: Publicity) {
        self.node.publish(now, id, publicity);
        self.note(now, || Input::Publish(id, publicity), || Output::Done);
    }

    pub(crate) fn reached_at(&mut self, now: Instant, addr: SocketAddr) {
        self.node.reached_at(now, addr);
        self.note(now, || Input::ReachedAt(addr), || Output::Done);
    }

    pub(crate) fn remove(&mut self, now: Instant, id: TorrentId) {
        self.node.remove(now, id);
        self.note(now, || Input::Remove(id), || Output::Done);
    }

    pub(crate) fn stop(&mut self, now: Instant) {
        self.node.stop(now);
        self.note(now, || Input::Stop, || Output::Done);
    }

    pub(crate) fn accept(&mut self, now: Instant, from: SocketAddr) -> Option<ConnId> {
        let answer = self.node.accept(now, from);
        self.note(now, || Input::Accept(from), || Output::Conn(answer));
        answer
    }

    pub(crate) fn recv_space(&mut self, now: Instant, id: ConnId) -> Option<&mut [u8]> {
        if let Some(tape) = &mut self.tape {
            let room = self.node.recv_space(id).map_or(0, |space| space.len());
            tape.write(now, Input::RecvSpace(id), Output::Len(len(room)));
        }
        self.node.recv_space(id)
    }

    pub(crate) fn received(&mut self, now: Instant, id: ConnId, len: usize) {
        if let Some(tape) = &mut self.tape {
            // The same call gives the same room, with what was read into it.
            let space = self.node.recv_space(id).unwrap_or_default();
            let bytes = space.get(..len).unwrap_or_default();
            tape.write(now, Input::Received(id, bytes), Output::Done);
        }
        self.node.received(now, id, len);
    }

    pub(crate) fn event(&mut self, now: Instant, event: Event<'_>) {
        self.node.event(now, event);
        self.note(now, || Input::Event(event), || Output::Done);
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

    pub(crate) fn tick(&mut self, now: Instant) {
        self.node.tick(now);
        self.note(now, || Input::Tick, || Output::Done);
    }

    pub(crate) fn announce_by_udp(
        &mut self,
        now: Instant,
        job: Job,
        addrs: [Option<SocketAddr>; 2],
        url_data: &str,
        seed: u64,
    ) -> bool {
        let answer = self.node.announce_by_udp(now, job, addrs, url_data, seed);
        let input = || Input::AnnounceByUdp {
            job,
            addrs,
            url_data,
            seed,
        };
        self.note(now, input, || Output::Accepted(answer));
        answer
    }

    pub(crate) fn datagram(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.node.datagram(now, from, packet);
        self.note(now, || Input::Datagram(from, packet), || Output::Done);
    }

    pub(crate) fn poll_datagram(
        &mut self,
        now: Instant,
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        let answer = self.node.poll_datagram(now, packet);
        if answer.is_some() {
            let room = len(packet.len());
            let output = || Output::Datagram(answer.map(|(to, sent)| (to, len(sent))));
            self.note(now, || Input::PollDatagram(room), output);
        }
        answer
    }

    fn note<'a>(
        &mut self,
        now: Instant,
        input: impl FnOnce() -> Input<'a>,
        output: impl FnOnce() -> Output,
    ) {
        if let Some(tape) = &mut self.tape {
            tape.write(now, input(), output());
        }
    }
}

/// A file to which a trace goes, until that fails.
struct Tape {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    /// An entry as it goes there.
    encoded: Vec<u8>,
}

impl Tape {
    fn new(path: &Path, head: &Head<'_>) -> io::Result<Tape> {
        // What peers sent is nobody else's business.
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
        if let Err(error) = self.put(&Entry { at, input, output }) {
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

/// Bytes of the longest entry: what is read at a time, or a bitfield of a large torrent, and a little.
const LONGEST_ENTRY: usize = 512 * 1024;
