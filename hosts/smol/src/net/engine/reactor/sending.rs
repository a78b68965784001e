//! Sending blocks from files into peers' sockets, by way of our buffer or by `sendfile`.
//!
//! Measured from the page cache on loopback, on two x86-64 cores, to fifty peers in one thread, in CPU s per GiB
//! (medians of four runs):
//!
//! | who sends | on two cores | the peers on the same core |
//! |---|---|---|
//! | this node, copying | 0.33 (0.33 to 0.34) | 0.21 (0.20 to 0.22) |
//! | a program that calls `sendfile` for each block, without checks | 0.22 (0.20 to 0.28) | 0.20 (0.20 to 0.21) |
//! | this node with `sendfile` (three runs, less optimised) | 0.50 (0.48 to 0.50) | |
//!
//! So what is above the second program is not work, but the way from core to core. In samples copying into sockets
//! is 0.11 on two cores and 0.04 on one, copying out of the page cache 0.08 and 0.06, waking the peers' thread 0.04
//! and 0.004; our own code is 0.03, and all calls that only ask something 0.01. So copying is the default.
//!
//! On another machine of the same kind, where a cache line takes 38 ns from core to core, this node took 0.17 (0.14 to
//! 0.20, four runs) and the bench's floor, which calls `sendfile`, 0.22 (0.21 to 0.26). Tied to a core each, it took 0.18
//! to 0.21. So figures of two machines cannot be compared, and ties to a core were not kept.
//!
//! Neither the checks whether `sendfile` would wait nor the calls are what it costs here: without any check, and with
//! a head and a call for each block, it took 0.50 and 0.64 where copying took 0.27 and 0.31, and with
//! `--memory 128MiB` 0.47 (one or two runs, on a busy machine). A cheaper check would gain nothing.
//!
//! Less in the kernel costs more: with one part of 62 KiB for each of the fifty peers, which is 3.1 MiB, 0.46 to
//! 0.59; with two, 6.3 MiB, 0.35 to 0.37; with three, as it is, 9.4 MiB, 0.33 to 0.42. With two, a single peer took
//! 0.30 in place of 0.27.

use std::io::{self, IoSliceMut, Write};
use std::net::TcpStream;
use std::sync::Arc;

use everseed_core::geometry::Span;
use everseed_core::time::Instant;
use everseed_disk::FileCache;
use everseed_node::{Body, BodySource, ConnId, Event};
use rustix::net::sockopt;

use super::{Disk, Peer, Reactor, Warm, find};
use crate::net::Sending;
use crate::storage::contents::Contents;
use crate::storage::worker::Task;

/// The number of bytes that were sent, and what stopped the rest.
type Sent = (usize, io::Result<()>);

impl Reactor {
    pub(super) fn send(&mut self, now: Instant, id: ConnId) {
        self.send_warm(now, id, None);
    }

    /// As [`send`](Self::send), with the bytes that the worker has read for it, if any.
    pub(super) fn send_warm(&mut self, now: Instant, id: ConnId, warm: Option<&Warm<'_>>) {
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        if !peer.writable || peer.dialling || peer.disk == Disk::Waits {
            return;
        }
        let Some(room) = self.room(now, id) else {
            return;
        };
        let room = room.min(self.buffer.len());
        let buffer = &mut self.buffer[..room];
        let len = self.node.transmit(now, id, buffer, &mut self.bodies);
        // Neither the worker's bytes nor an `info` can be sent from a file.
        let in_files = |body: &Body| body.source == BodySource::Content;
        let way = match warm.is_none() && self.bodies.iter().all(in_files) {
            true => self.way,
            false => Sending::Copy,
        };
        let len = self.prepare(id, way, len, warm);
        if len == 0 {
            return self.return_unused(id);
        }
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        let (sent, stop) = match way {
            Sending::Copy => write(&peer.stream, &self.buffer[..len]),
            Sending::Sendfile if self.bodies.is_empty() => write(&peer.stream, &self.buffer[..len]),
            Sending::Sendfile => {
                // Corked, so that blocks share packets.
                let _ = sockopt::set_tcp_cork(&peer.stream, true);
                let sent = pass_on(
                    peer,
                    &self.contents,
                    &self.files,
                    &self.buffer[..len],
                    &self.bodies,
                );
                let _ = sockopt::set_tcp_cork(&peer.stream, false);
                sent
            }
        };
        if sent > 0 {
            peer.loan.wrote();
            self.node.transmitted(now, id, sent);
        }
        match stop.map_err(|error| error.kind()) {
            Ok(()) => {}
            Err(io::ErrorKind::WouldBlock) => {
                if let Some(peer) = find(&mut self.peers, id) {
                    peer.writable = false;
                }
                self.full(now, id);
            }
            // The next turn tries again, and finds out what happened to the file.
            Err(io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof) => {
                self.node.transmitted(now, id, 0)
            }
            Err(_) => self.node.event(now, Event::Closed(id)),
        }
    }

    /// Reads the bodies into the buffer's gaps, or checks that they can be sent without waiting. Returns how many of
    /// the `len` bytes can be sent.
    fn prepare(&mut self, id: ConnId, way: Sending, len: usize, warm: Option<&Warm<'_>>) -> usize {
        let mut next = 0;
        while let Some(first) = self.bodies.get(next).copied() {
            let run = run_length(&self.bodies[next..]);
            let Some(content) = self.contents.get(first.span.torrent) else {
                return first.before;
            };
            let bodies = &self.bodies[next..next + run];
            let begins =
                |warm: &&Warm<'_>| (warm.source, warm.offset) == (first.source, first.span.offset);
            let missing = if let Some(warm) = warm.filter(begins) {
                let copied = copy(warm.bytes, &mut self.buffer, bodies);
                match first_missing(bodies, copied as u64) {
                    // What follows may be in the page cache by now.
                    Some(read) if read > 0 => {
                        next += read;
                        continue;
                    }
                    missing => missing,
                }
            } else if first.source == BodySource::Info {
                Some(0)
            } else if way == Sending::Sendfile {
                let wanted = bodies.iter().map(|body| u64::from(body.span.len)).sum();
                let cached = content.cached(&self.files, first.span.offset, wanted);
                first_missing(bodies, cached)
            } else {
                let mut gaps = gaps(&mut self.buffer, bodies);
                let read = content.read_cached(&self.files, first.span.offset, &mut gaps);
                first_missing(bodies, read as u64)
            };
            if let Some(missing) = missing {
                return self.wait_for_disk(id, next + missing);
            }
            next += run;
        }
        len
    }

    /// Asks the worker to read the bodies from number `from` on. Those before it can be sent meanwhile.
    fn wait_for_disk(&mut self, id: ConnId, from: usize) -> usize {
        let bodies = &self.bodies[from..];
        let Some(first) = bodies.first().copied() else {
            return 0;
        };
        let run = &bodies[..run_length(bodies)];
        let len = run.iter().map(|body| body.span.len).sum();
        if let Some(content) = self.contents.get(first.span.torrent) {
            let span = Span { len, ..first.span };
            let task = Task::Warm(Arc::clone(content), id, first.source, span);
            self.worker.ask(task);
            if let Some(peer) = find(&mut self.peers, id) {
                peer.disk = Disk::Waits;
            }
        }
        first.before
    }
}

/// Sends bodies from their files, and the heads between them from the buffer.
fn pass_on(
    peer: &Peer,
    contents: &Contents,
    files: &FileCache,
    buffer: &[u8],
    bodies: &[Body],
) -> Sent {
    let mut sent = 0;
    for body in bodies.iter().filter(|body| body.at < buffer.len()) {
        let (head, stop) = write(&peer.stream, &buffer[sent..body.at]);
        sent += head;
        let content = contents.get(body.span.torrent);
        let Some(content) = content.filter(|_| stop.is_ok()) else {
            return (sent, stop);
        };
        let (span, socket) = (body.span, &peer.stream);
        let (took, stop) = content.send(files, socket, span.offset, span.len);
        sent += took;
        if stop.is_err() {
            return (sent, stop);
        }
    }
    let (rest, stop) = write(&peer.stream, &buffer[sent..]);
    (sent + rest, stop)
}

/// Sends the bytes. If not all were sent, the socket is full.
fn write(mut socket: &TcpStream, bytes: &[u8]) -> Sent {
    if bytes.is_empty() {
        return (0, Ok(()));
    }
    match socket.write(bytes) {
        Ok(sent) if sent < bytes.len() => (sent, Err(io::ErrorKind::WouldBlock.into())),
        Ok(sent) => (sent, Ok(())),
        Err(error) => (0, Err(error)),
    }
}

/// Copies bytes into the gaps as far as they reach. Returns how many were copied.
fn copy(mut bytes: &[u8], buffer: &mut [u8], bodies: &[Body]) -> usize {
    let all = bytes.len();
    for body in bodies {
        let gap = &mut buffer[body.at..body.at + body.span.len as usize];
        let (now, rest) = bytes.split_at(gap.len().min(bytes.len()));
        gap[..now.len()].copy_from_slice(now);
        bytes = rest;
    }
    all - bytes.len()
}

/// The number of leading bodies that are contiguous in the content.
fn run_length(bodies: &[Body]) -> usize {
    let joined = |pair: &[Body]| {
        let (a, b) = (pair[0].span, pair[1].span);
        pair[0].source == pair[1].source
            && a.torrent == b.torrent
            && a.offset + u64::from(a.len) == b.offset
    };
    let pairs = bodies.windows(2).take_while(|pair| joined(pair)).count();
    (pairs + 1).min(bodies.len())
}

/// The first body that is not complete with `read` bytes, counted from the first body's start.
fn first_missing(bodies: &[Body], read: u64) -> Option<usize> {
    let mut end = 0;
    bodies.iter().position(|body| {
        end += u64::from(body.span.len);
        read < end
    })
}

/// The gaps in `buffer` for the bodies.
fn gaps<'a>(buffer: &'a mut [u8], bodies: &[Body]) -> heapless::Vec<IoSliceMut<'a>, 16> {
    let mut gaps = heapless::Vec::new();
    let (mut rest, mut at) = (buffer, 0);
    for body in bodies {
        let (_, tail) = rest.split_at_mut(body.at - at);
        let (gap, tail) = tail.split_at_mut(body.span.len as usize);
        rest = tail;
        at = body.at + body.span.len as usize;
        // There is room: `Bodies` holds at most as many.
        let _ = gaps.push(IoSliceMut::new(gap));
    }
    gaps
}
