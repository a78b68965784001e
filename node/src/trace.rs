//! Traces: the calls of a node and its answers, recorded by a host and replayed by a simulator.
//!
//! A trace is a [`Head`] and then any number of [`Call`]s. Everything here is plain data with serde's data model;
//! hosts encode it with postcard. A node that is made from the same head and gets the same calls gives the same
//! answers, on any machine. The first answer that differs shows a bug.

use everseed_core::time::Instant;
use everseed_core::wire::PeerId;
use serde::{Deserialize, Serialize};

use crate::api::{Bodies, Identity, Limits};
pub use crate::input::{Input, Output};
use crate::memory::Sizes;
use crate::node::Node;

/// The version of the format; a trace is understood by the version that wrote it.
pub const VERSION: u16 = 10;

/// How the node was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head<'a> {
    /// [`VERSION`].
    pub version: u16,
    /// The memory that it was lent.
    pub sizes: Sizes,
    /// [`Identity::peer_id`].
    pub peer_id: PeerId,
    /// [`Identity::port`].
    pub port: u16,
    /// [`Identity::client`].
    pub client: &'a str,
    /// Its limits.
    pub limits: Limits,
    /// What decides everything that is left to chance.
    pub seed: u64,
}

impl<'a> Head<'a> {
    /// The head of a node that is made from these.
    pub fn new(sizes: Sizes, identity: &Identity, limits: Limits, seed: u64) -> Head<'a> {
        Head {
            version: VERSION,
            sizes,
            peer_id: identity.peer_id,
            port: identity.port,
            client: identity.client,
            limits,
            seed,
        }
    }
}

/// One recorded call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Call<'a> {
    /// When.
    pub at: Instant,
    /// What was told.
    #[serde(borrow)]
    pub input: Input<'a>,
    /// What the node answered.
    pub output: Output,
}

/// Replays recorded calls to a node.
#[derive(Debug)]
pub struct Player<'p, 'm> {
    /// The blocks that are away, by slot: as many as the node has.
    pub away: &'p mut [Option<&'m mut [u8]>],
    /// What is to be sent is put there: as long as the longest that was recorded.
    pub buffer: &'p mut [u8],
}

impl<'m> Player<'_, 'm> {
    /// Makes one recorded call, and answers with its output.
    pub fn play(&mut self, node: &mut Node<'m>, now: Instant, input: &Input<'_>) -> Output {
        match *input {
            Input::RecvSpace(id) => Output::Len(len(node.recv_space(id).map_or(0, |s| s.len()))),
            Input::Received(id, bytes) => {
                let space = node.recv_space(id).unwrap_or_default();
                let len = bytes.len().min(space.len());
                space[..len].copy_from_slice(&bytes[..len]);
                node.received(now, id, len);
                Output::Done
            }
            Input::Transmit(id, room) => {
                let room = self.buffer.len().min(room as usize);
                let mut bodies = Bodies::new();
                Output::Len(len(node.transmit(
                    now,
                    id,
                    &mut self.buffer[..room],
                    &mut bodies,
                )))
            }
            Input::TakeBlock(block) => {
                let taken = node.take_block(block);
                let there = taken.is_some();
                if let Some(place) = self.away.get_mut(usize::from(block.slot)) {
                    *place = taken.or(place.take());
                }
                Output::Accepted(there)
            }
            Input::Written(block, result) => {
                let place = self.away.get_mut(usize::from(block.slot));
                if let Some(bytes) = place.and_then(Option::take) {
                    node.written(block, bytes, result);
                }
                Output::Done
            }
            Input::PollDatagram(room) => {
                let room = self.buffer.len().min(room as usize);
                let sent = node.poll_datagram(now, &mut self.buffer[..room]);
                Output::Datagram(sent.map(|(to, sent)| (to, len(sent))))
            }
            input => node.input(now, input),
        }
    }
}

/// A length as traces have it.
pub fn len(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
