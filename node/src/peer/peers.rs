//! [`Peers`]: all connections, and the list of those that are ready for an action of the host.
//!
//! Invariants: `live` slots are not free, and `dialling` of them are being called; a connection is in the ready
//! list exactly if its `ready` is set.

use core::net::SocketAddr;
use core::ops::{Index, IndexMut};

use everseed_core::time::Instant;

use crate::memory::ids::NONE;
use crate::memory::lazy_table::LazyTable;
use crate::peer::conn::{Conn, ConnId, origin};
use crate::peer::link::LinkState;

/// See the module.
#[derive(Debug)]
pub(crate) struct Peers<'m> {
    conns: LazyTable<'m, Conn>,
    first_ready: u16,
    last_ready: u16,
    /// Slots that are not free.
    pub(crate) live: u16,
    /// Those of them whose peer is being called.
    pub(crate) dialling: u16,
    /// Those of them that called us and have not finished their handshake.
    pub(crate) handshaking: u16,
}

impl<'m> Peers<'m> {
    pub(crate) fn new(conns: LazyTable<'m, Conn>) -> Peers<'m> {
        Peers {
            conns,
            first_ready: NONE,
            last_ready: NONE,
            live: 0,
            dialling: 0,
            handshaking: 0,
        }
    }

    /// Slots that were ever used.
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Slots that there can be.
    pub(crate) fn capacity(&self) -> usize {
        self.conns.capacity()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.conns.iter_mut()
    }

    /// The slot of a connection that is still there.
    pub(crate) fn slot(&self, id: ConnId) -> Option<usize> {
        let slot = usize::from(id.slot);
        let conn = self.conns.get(slot)?;
        (conn.is_live() && conn.tenancy == id.tenancy).then_some(slot)
    }

    #[allow(clippy::cast_possible_truncation)] // There are at most `u16::MAX` slots.
    pub(crate) fn id(&self, slot: usize) -> ConnId {
        ConnId {
            slot: slot as u16,
            tenancy: self.conns[slot].tenancy,
        }
    }

    /// The first slot that is free.
    pub(crate) fn vacant(&mut self) -> Option<usize> {
        let free = self.iter().position(|c| c.link.state == LinkState::Free);
        free.or_else(|| self.conns.push(Conn::EMPTY))
    }

    /// Puts connections of some kind into `ranks`, those from one address side by side, and says how many
    /// there are.
    pub(crate) fn line_up(&self, ranks: &mut [u16], of_kind: fn(&Conn) -> bool) -> usize {
        let slots = (0..).zip(self.iter()).filter(|(_, conn)| of_kind(conn));
        let mut len = 0;
        for (place, (slot, _)) in ranks.iter_mut().zip(slots) {
            *place = slot;
            len += 1;
        }
        ranks[..len].sort_unstable_by_key(|&slot| origin(self[usize::from(slot)].link.addr));
        len
    }

    /// Puts a connection into the list that `poll` works off.
    pub(crate) fn make_ready(&mut self, slot: usize) {
        if core::mem::replace(&mut self.conns[slot].link.ready, true) {
            return;
        }
        self.conns[slot].link.next_ready = NONE;
        let here = self.id(slot).slot;
        match self.conns.get_mut(usize::from(self.last_ready)) {
            Some(last) => last.link.next_ready = here,
            None => self.first_ready = here,
        }
        self.last_ready = here;
    }

    /// Makes all ready, beginning behind the one that had its turn last, so that a tight rate limit goes round.
    pub(crate) fn make_all_ready(&mut self, last: u16) {
        let len = self.len();
        let first = usize::from(last) + 1;
        for slot in (first..len).chain(0..first.min(len)) {
            if self.conns[slot].is_live() {
                self.make_ready(slot);
            }
        }
    }

    /// Makes those ready that are not read, as the request queue was full.
    pub(crate) fn make_unread_ready(&mut self) {
        for slot in 0..self.len() {
            if self.conns[slot].upload.queue_full && self.conns[slot].is_live() {
                self.make_ready(slot);
            }
        }
    }

    /// Takes the first connection off the ready list.
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        let slot = usize::from(self.first_ready);
        let conn = self.conns.get_mut(slot)?;
        conn.link.ready = false;
        self.first_ready = conn.link.next_ready;
        if self.first_ready == NONE {
            self.last_ready = NONE;
        }
        Some(slot)
    }

    /// Begins a connection in a free slot: the peer called us, or is to be called.
    pub(crate) fn open(&mut self, now: Instant, slot: usize, addr: SocketAddr, incoming: bool) {
        let tenancy = self.conns[slot].tenancy;
        self.conns[slot] = Conn::new(now, tenancy, addr, incoming);
        self.live += 1;
        self.count(slot, true);
    }

    /// A connection goes on to another state.
    pub(crate) fn set_state(&mut self, slot: usize, state: LinkState) {
        self.count(slot, false);
        self.conns[slot].link.state = state;
        self.count(slot, true);
    }

    fn count(&mut self, slot: usize, is: bool) {
        let conn = &self.conns[slot];
        let dialling = matches!(conn.link.state, LinkState::Dial | LinkState::Dialling);
        let counts = [
            (&mut self.dialling, dialling),
            (&mut self.handshaking, conn.is_silent_caller()),
        ];
        for (count, counts) in counts {
            match is {
                true => *count += u16::from(counts),
                false => *count -= u16::from(counts),
            }
        }
    }

    /// Frees a slot for the next tenancy.
    pub(crate) fn free(&mut self, slot: usize) {
        let old = &self.conns[slot];
        let (ready, next_ready) = (old.link.ready, old.link.next_ready);
        let tenancy = old.tenancy.wrapping_add(1);
        let conn = &mut self.conns[slot];
        *conn = Conn {
            tenancy,
            ..Conn::EMPTY
        };
        (conn.link.ready, conn.link.next_ready) = (ready, next_ready);
        self.live -= 1;
    }
}

impl Index<usize> for Peers<'_> {
    type Output = Conn;

    fn index(&self, slot: usize) -> &Conn {
        &self.conns[slot]
    }
}

impl IndexMut<usize> for Peers<'_> {
    fn index_mut(&mut self, slot: usize) -> &mut Conn {
        &mut self.conns[slot]
    }
}
