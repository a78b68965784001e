//! A connection between two nodes, with the bytes that are on their way in both directions.
//!
//! The head of a message is real bytes. Of a block only its mark is real bytes, the rest is only a length.

use std::collections::VecDeque;

use everseed_core::geometry::BLOCK;
use everseed_node::{Bodies, ConnId};

use crate::storage::{MARK, content};

/// A part of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// Real bytes.
    Bytes(VecDeque<u8>),
    /// This many bytes of which only the number counts.
    Filler(usize),
}

/// A queue of bytes.
#[derive(Clone, Debug, Default)]
pub struct Pipe {
    runs: VecDeque<Run>,
    len: usize,
}

impl Pipe {
    /// The number of bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the first `len` bytes of a node's output, with the blocks in its gaps. With `corrupt`, blocks get a
    /// wrong mark.
    pub fn fill(&mut self, buf: &[u8], bodies: &Bodies, len: usize, corrupt: bool) {
        let mut at = 0;
        for body in bodies {
            let start = body.at.min(len);
            self.bytes(buf[at..start].iter().copied());
            let end = (body.at + body.span.len as usize).min(len);
            let mut offset = body.span.offset;
            let mut left = end.saturating_sub(start);
            while left > 0 {
                let into = offset % u64::from(BLOCK);
                let run = if into < MARK {
                    let run = left.min(usize::try_from(MARK - into).unwrap_or(1));
                    let mark = (offset..)
                        .take(run)
                        .map(|at| content(at) ^ u8::from(corrupt));
                    self.bytes(mark);
                    run
                } else {
                    let rest = usize::try_from(u64::from(BLOCK) - into).unwrap_or(1);
                    let run = left.min(rest);
                    self.filler(run);
                    run
                };
                offset += run as u64;
                left -= run;
            }
            at = end.max(start);
        }
        self.bytes(buf[at.min(len)..len].iter().copied());
    }

    fn bytes(&mut self, bytes: impl Iterator<Item = u8>) {
        if !matches!(self.runs.back(), Some(Run::Bytes(_))) {
            self.runs.push_back(Run::Bytes(VecDeque::new()));
        }
        if let Some(Run::Bytes(run)) = self.runs.back_mut() {
            let before = run.len();
            run.extend(bytes);
            self.len += run.len() - before;
            if run.is_empty() {
                self.runs.pop_back();
            }
        }
    }

    fn filler(&mut self, len: usize) {
        self.len += len;
        match self.runs.back_mut() {
            Some(Run::Filler(run)) => *run += len,
            _ => self.runs.push_back(Run::Filler(len)),
        }
    }

    /// Moves up to `len` bytes from the front of this pipe to the end of another.
    pub fn pass(&mut self, to: &mut Pipe, mut len: usize) {
        while len > 0 {
            let Some(run) = self.runs.front_mut() else {
                return;
            };
            let moved = match run {
                Run::Bytes(bytes) => {
                    let moved = bytes.len().min(len);
                    to.bytes(bytes.drain(..moved));
                    moved
                }
                Run::Filler(left) => {
                    let moved = (*left).min(len);
                    *left -= moved;
                    to.filler(moved);
                    moved
                }
            };
            self.len -= moved;
            len -= moved;
            self.drop_empty();
        }
    }

    /// Reads into `space` as from a socket. Returns the number of bytes.
    pub fn read(&mut self, space: &mut [u8]) -> usize {
        let mut done = 0;
        while done < space.len() {
            let Some(run) = self.runs.front_mut() else {
                break;
            };
            let room = space.len() - done;
            let moved = match run {
                Run::Bytes(bytes) => {
                    let moved = bytes.len().min(room);
                    for (to, from) in space[done..].iter_mut().zip(bytes.drain(..moved)) {
                        *to = from;
                    }
                    moved
                }
                Run::Filler(left) => {
                    let moved = (*left).min(room);
                    *left -= moved;
                    space[done..done + moved].fill(0);
                    moved
                }
            };
            done += moved;
            self.len -= moved;
            self.drop_empty();
        }
        done
    }

    fn drop_empty(&mut self) {
        let empty = |run: &Run| match run {
            Run::Bytes(bytes) => bytes.is_empty(),
            Run::Filler(len) => *len == 0,
        };
        while self.runs.front().is_some_and(empty) {
            self.runs.pop_front();
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct End {
    /// The host of this end.
    pub host: usize,
    /// The number of the connection in that host's node.
    pub conn: ConnId,
    /// Whether that node still has the connection.
    pub open: bool,
    /// The send buffer of its socket.
    pub out: Pipe,
    /// Bytes that arrived and were not read yet.
    pub into: Pipe,
    /// Whether the node has more to send than was taken from it.
    pub wants_to_send: bool,
    /// Whether it waits in the queue for its host's upload.
    pub queued: bool,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// The end that dialled, and the end that was dialled.
    pub ends: [End; 2],
    /// The latency in microseconds.
    pub latency: u64,
}
