//! A connection between two nodes: bytes on their way, in two directions.
//!
//! A message's head is real bytes; of a block only its mark is, and the rest is a length.

use std::collections::VecDeque;

use everseed_core::geometry::BLOCK;
use everseed_node::{Bodies, ConnId};

use crate::storage::{MARK, content};

/// Bytes in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// These.
    Bytes(VecDeque<u8>),
    /// So many that nobody looks at.
    Filler(usize),
}

/// A queue of bytes.
#[derive(Clone, Debug, Default)]
pub struct Pipe {
    runs: VecDeque<Run>,
    len: usize,
}

impl Pipe {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the first `len` bytes of what a node gave out, with the bodies in its gaps. What is
    /// `corrupt` has no right mark.
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

    /// Reads into `space` as a socket would; answers with the number of bytes.
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

/// One side of a connection.
#[derive(Clone, Debug)]
pub struct End {
    /// The host that it is at.
    pub host: usize,
    /// What the node there calls it.
    pub conn: ConnId,
    /// Whether the node there still holds it.
    pub open: bool,
    /// Sent by it, in its socket's buffer.
    pub out: Pipe,
    /// Arrived at it, not read yet.
    pub into: Pipe,
    /// Whether the node has said that there is something to send, and was not asked for all of it.
    pub wants_to_send: bool,
    /// Whether it stands in its host's row for the upload.
    pub queued: bool,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Who dialled, and who was dialled.
    pub ends: [End; 2],
    /// Microseconds from one end to the other.
    pub latency: u64,
}
