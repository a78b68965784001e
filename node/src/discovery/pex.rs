//! PEX messages (BEP 11) while they are sent.
//!
//! Peers come and go, so a message is written once and kept until all of it is sent. There is room for
//! [`AT_A_TIME`] messages; other peers wait. A peer that does not read its message is closed after some time.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::pex::{self, MAX_PEERS, Peer};

use crate::peer::ConnId;

/// The least time between two messages to a peer (BEP 11).
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(60);

/// A message is ignored if it comes sooner than this after the last one of the same peer: a minute (BEP 11),
/// less some time for jitter.
pub(crate) const HEAR_EVERY: Duration = Duration::from_secs(55);

/// The number of messages that are sent at a time.
const AT_A_TIME: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outgoing {
    messages: [Message; AT_A_TIME],
    /// The slot of the connection whose turn is next.
    pub(crate) turn: usize,
}

#[derive(Debug)]
struct Message {
    to: Option<ConnId>,
    id: u8,
    bytes: heapless::Vec<u8, { pex::MAX_LEN }>,
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

    /// The message to a peer, and the id that the peer chose for it.
    pub(crate) fn to(&self, conn: ConnId) -> Option<(u8, &[u8])> {
        let its = |message: &&Message| message.to == Some(conn);
        let message = self.messages.iter().find(its)?;
        Some((message.id, &message.bytes))
    }

    pub(crate) fn has_room(&self) -> bool {
        self.messages.iter().any(|message| message.to.is_none())
    }

    /// Writes a message. It is kept until it was sent or its peer is gone.
    pub(crate) fn put(&mut self, to: ConnId, id: u8, added: &[Peer], dropped: &[SocketAddr]) {
        let free = |message: &&mut Message| message.to.is_none();
        if let Some(message) = self.messages.iter_mut().find(free) {
            // The message is not longer than this.
            let _ = message.bytes.resize_default(pex::MAX_LEN);
            let len = pex::write(added, dropped, &mut message.bytes).unwrap_or(0);
            message.bytes.truncate(len);
            (message.to, message.id) = (Some(to), id);
        }
    }

    /// The message to a peer was sent, or the peer is gone. Returns whether there was one, so that there is room for
    /// another.
    pub(crate) fn done(&mut self, conn: ConnId) -> bool {
        let its = |message: &&mut Message| message.to == Some(conn);
        let message = self.messages.iter_mut().find(its);
        message.map(|message| message.to = None).is_some()
    }
}

/// The peers of one message: those that came first, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct First {
    peers: heapless::Vec<(u32, Peer), MAX_PEERS>,
}

impl First {
    /// Adds a peer, if it is one of the first.
    pub(crate) fn take(&mut self, arrival: u32, peer: Peer) {
        let at = self.peers.partition_point(|&(other, _)| other < arrival);
        if self.peers.is_full() {
            if at == MAX_PEERS {
                return;
            }
            self.peers.pop();
        }
        // The line above made room.
        let _ = self.peers.insert(at, (arrival, peer));
    }

    /// The arrival of the last peer in the message, if there may be more.
    pub(crate) fn last(&self) -> Option<u32> {
        let (arrival, _) = self.peers.last().filter(|_| self.peers.is_full())?;
        Some(*arrival)
    }

    pub(crate) fn peers(&self) -> heapless::Vec<Peer, MAX_PEERS> {
        self.peers.iter().map(|&(_, peer)| peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::pex::Flags;

    const fn conn(slot: u16) -> ConnId {
        ConnId { slot, tenancy: 0 }
    }

    fn peer(port: u16) -> Peer {
        Peer {
            addr: ([192, 0, 2, 1], port).into(),
            flags: Flags::NONE,
        }
    }

    #[test]
    fn a_message_stays_until_it_was_sent() {
        let mut messages = Outgoing::new();
        for slot in 0..AT_A_TIME as u16 {
            assert!(messages.has_room());
            messages.put(conn(slot), 3, &[peer(1 + slot)], &[]);
        }
        assert!(!messages.has_room());
        // Without room no message is written.
        messages.put(conn(9), 3, &[peer(9)], &[]);
        assert!(messages.to(conn(9)).is_none());
        let (id, bytes) = messages.to(conn(1)).unwrap();
        let mut read = None;
        pex::read(bytes, |peer| read = Some(peer));
        assert_eq!((id, read), (3, Some(peer(2))));
        // A former connection of the slot has no message.
        let other = ConnId {
            slot: 1,
            tenancy: 1,
        };
        assert!(messages.to(other).is_none() && !messages.done(other));
        assert!(messages.done(conn(1)) && messages.has_room() && !messages.done(conn(1)));
    }

    #[test]
    fn the_first_to_come_are_told_of_first() {
        let mut first = First::default();
        let most = MAX_PEERS as u32;
        for arrival in (0..most - 1).rev() {
            first.take(10 + arrival, peer(arrival as u16 + 1));
        }
        assert_eq!(first.last(), None, "there is room for one more");
        // An earlier peer replaces the last one in the message. A later one changes nothing.
        first.take(1000, peer(1000));
        assert_eq!(first.last(), Some(1000));
        first.take(1001, peer(1001));
        first.take(5, peer(5));
        assert_eq!(first.last(), Some(10 + most - 2));
        assert_eq!(first.peers()[0], peer(5));
        assert_eq!(first.peers().len(), MAX_PEERS);
    }
}
