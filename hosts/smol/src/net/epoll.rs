//! Epoll with the engine's own names for sockets.
//!
//! Peers are watched edge-triggered and registered once. So a block costs its read and its send and no other system
//! call; the engine remembers the edges. The alarm is edge-triggered too, because each ring is an edge. All others
//! are level-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use everseed_core::tracker::Family;
use everseed_node::ConnId;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// The source of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watched {
    /// A connection to a peer.
    Peer(ConnId),
    /// The listener with this number.
    Listener(u16),
    /// The UDP socket of a family.
    Datagrams(Family),
    /// A socket of local service discovery.
    Nearby,
    /// Another thread rang the alarm.
    Alarm,
    /// The process was asked to stop.
    Signal,
}

/// An event: which source is ready for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) source: Watched,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Nothing will follow after the bytes that can be read now.
    pub(crate) ended: bool,
}

/// The set of watched sockets.
#[derive(Clone)]
pub(crate) struct Epoll {
    fd: Arc<OwnedFd>,
}

/// The waiting side of a set; others may change the set meanwhile.
pub(crate) struct Waiter {
    fd: Arc<OwnedFd>,
    events: Vec<Event>,
    ready: usize,
}

impl Epoll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Epoll> {
        let fd = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        Ok(Epoll { fd })
    }

    /// A waiter for the sockets of this set.
    pub(crate) fn waiter(&self) -> Waiter {
        let nothing = Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        Waiter {
            fd: Arc::clone(&self.fd),
            events: vec![nothing; AT_ONCE],
            ready: 0,
        }
    }

    /// Watches a socket until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, source: Watched) -> io::Result<()> {
        let flags = match source {
            Watched::Peer(_) => {
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
            }
            Watched::Alarm => EventFlags::IN | EventFlags::ET,
            _ => EventFlags::IN,
        };
        Ok(epoll::add(&self.fd, socket, pack(source), flags)?)
    }

    /// Pauses or resumes watching a listener.
    pub(crate) fn pause(&self, socket: impl AsFd, source: Watched, pause: bool) -> io::Result<()> {
        let flags = if pause {
            EventFlags::empty()
        } else {
            EventFlags::IN
        };
        Ok(epoll::modify(&self.fd, socket, pack(source), flags)?)
    }

    /// Stops watching a socket that stays open.
    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, socket)?)
    }
}

impl Waiter {
    /// Waits until something is ready or `timeout` is over; `None` waits without end. Returns the number of events
    /// for [`ready`](Self::ready).
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        self.ready = match epoll::wait(&self.fd, &mut self.events[..], timeout.as_ref()) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(self.ready)
    }

    /// One of the events that the last [`wait`](Self::wait) found.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let event = self.events[..self.ready][index];
        // The next read or write returns the error or hang-up.
        let ended = EventFlags::ERR | EventFlags::HUP;
        let flags = event.flags;
        Ready {
            source: unpack(event.data),
            readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | ended),
            writable: flags.intersects(EventFlags::OUT | ended),
            ended: flags.intersects(EventFlags::RDHUP | ended),
        }
    }
}

/// The most events that one wait takes from the kernel.
const AT_ONCE: usize = 64;

fn pack(source: Watched) -> EventData {
    let (kind, value) = match source {
        Watched::Peer(id) => (0, u64::from(id.tenancy) << 16 | u64::from(id.slot)),
        Watched::Listener(number) => (1, u64::from(number)),
        Watched::Alarm => (2, 0),
        Watched::Signal => (3, 0),
        Watched::Datagrams(Family::V4) => (4, 0),
        Watched::Datagrams(Family::V6) => (5, 0),
        Watched::Nearby => (6, 0),
    };
    EventData::new_u64(kind << 32 | value)
}

#[allow(clippy::cast_possible_truncation)] // The fields that `pack` put side by side.
fn unpack(data: EventData) -> Watched {
    let value = data.u64();
    match value >> 32 {
        0 => Watched::Peer(ConnId {
            slot: value as u16,
            tenancy: (value >> 16) as u16,
        }),
        1 => Watched::Listener(value as u16),
        2 => Watched::Alarm,
        4 => Watched::Datagrams(Family::V4),
        5 => Watched::Datagrams(Family::V6),
        6 => Watched::Nearby,
        _ => Watched::Signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_kernel() {
        let peer = ConnId {
            slot: 0xfffe,
            tenancy: 0xabcd,
        };
        for source in [
            Watched::Peer(peer),
            Watched::Listener(7),
            Watched::Alarm,
            Watched::Signal,
            Watched::Datagrams(Family::V4),
            Watched::Datagrams(Family::V6),
            Watched::Nearby,
        ] {
            assert_eq!(unpack(pack(source)), source);
        }
    }
}
