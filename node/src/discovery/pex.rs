//! Messages by which peers are told of others (BEP 11), while they are on their way.
//!
//! What a message says changes as peers come and go, so one that is to be sent is put together once. There is room for
//! [`AT_A_TIME`]; who else is due waits until one was sent. A peer that does not read its message holds that room until it
//! is let go for that.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::pex::{self, MOST, Peer};

use crate::peer::ConnId;

/// A peer is told once in so long at most (BEP 11).
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(60);

/// What a peer tells sooner than so long after it told us is passed over: a minute, and what its clock and the network
/// may make of that.
pub(crate) const HEAR_EVERY: Duration = Duration::from_secs(55);

/// Messages that are on their way at a time.
const AT_A_TIME: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outgoing {
    messages: [Message; AT_A_TIME],
    /// Who is looked at first.
    pub(crate) turn: usize,
}

#[derive(Debug)]
struct Message {
    to: Option<ConnId>,
    id: u8,
    bytes: heapless::Vec<u8, { pex::LONGEST }>,
}

impl Outgoing {
    pub(crate) const fn new() -> Outgoing {
        Outgoing {
            messages: [const {
                Message {
                    to: None,
                    id: 0,
                    bytes: heapless::Vec::new(),
                }
            }; AT_A_TIME],
            turn: 0,
        }
    }

    /// The message to a peer, and the id by which it wants it.
    pub(crate) fn to(&self, conn: ConnId) -> Option<(u8, &[u8])> {
        let its = |message: &&Message| message.to == Some(conn);
        let message = self.messages.iter().find(its)?;
        Some((message.id, &message.bytes))
    }

    pub(crate) fn has_room(&self) -> bool {
        self.messages.iter().any(|message| message.to.is_none())
    }

    /// Puts a message together; it stays until it was sent, or its peer is gone.
    pub(crate) fn put(&mut self, to: ConnId, id: u8, added: &[Peer], dropped: &[SocketAddr]) {
        let free = |message: &&mut Message| message.to.is_none();
        if let Some(message) = self.messages.iter_mut().find(free) {
            // What is written is no longer than this.
            let _ = message.bytes.resize_default(pex::LONGEST);
            let len = pex::write(added, dropped, &mut message.bytes).unwrap_or(0);
            message.bytes.truncate(len);
            (message.to, message.id) = (Some(to), id);
        }
    }

    /// The message to a peer was sent, or the peer is gone; says whether there was one, so that there is room for
    /// another.
    pub(crate) fn done(&mut self, conn: ConnId) -> bool {
        let its = |message: &&mut Message| message.to == Some(conn);
        let message = self.messages.iter_mut().find(its);
        message.map(|message| message.to = None).is_some()
    }
}

/// The first of the peers that came, in the order in which they came, as many as are told of at a time.
#[derive(Debug, Default)]
pub(crate) struct First {
    peers: heapless::Vec<(u32, Peer), MOST>,
}

impl First {
    /// Takes a peer, if it is among the first.
    pub(crate) fn take(&mut self, arrival: u32, peer: Peer) {
        let at = self.peers.partition_point(|&(other, _)| other < arrival);
        if self.peers.is_full() {
            if at == MOST {
                return;
            }
            self.peers.pop();
        }
        // A place was made.
        let _ = self.peers.insert(at, (arrival, peer));
    }

    /// The last arrival that there was room for, if there may be more.
    pub(crate) fn last(&self) -> Option<u32> {
        let (arrival, _) = self.peers.last().filter(|_| self.peers.is_full())?;
        Some(*arrival)
    }

    pub(crate) fn peers(&self) -> heapless::Vec<Peer, MOST> {
        self.peers.iter().map(|&(_, peer)| peer).collect()
    }
}
