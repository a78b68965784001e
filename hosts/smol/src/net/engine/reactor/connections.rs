//! Connections to peers: accepting, dialling, reading and closing.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use everseed_core::time::Instant;
use everseed_node::{ConnId, Event, Reason};

use super::shares::{LOOK, Loan};
use super::{ACCEPTS_PER_TURN, Disk, LISTEN_AGAIN, Peer, READS_PER_TURN, Reactor, find};
use crate::net::epoll::{Ready, Watched};
use crate::net::scope::Scope;
use crate::net::socket::{self, UNACCEPTED};

impl Reactor {
    pub(super) fn accept(&mut self, now: Instant, number: u16) {
        for _ in 0..ACCEPTS_PER_TURN {
            let room = self.lending.has_room();
            if self.lending.short {
                self.lending.look_soon(now);
            }
            let listener = self.listeners.get_mut(usize::from(number));
            let Some(listener) = listener.and_then(Option::as_mut) else {
                return;
            };
            if listener.paused {
                return;
            }
            if !room {
                // Nobody is accepted until others have taken what they were sent.
                return self.pause_listening(Some(LOOK));
            }
            match listener.socket.accept() {
                Ok((stream, addr)) => self.welcome(now, stream, addr),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if socket::is_shortage(&error) => {
                    log::warn!("no new connections for some seconds: {error}");
                    return self.pause_listening(Some(LISTEN_AGAIN));
                }
                // That connection ended before it was accepted.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    /// Accepts nobody for at least this long, or accepts again.
    pub(crate) fn pause_listening(&mut self, pause: Option<Duration>) {
        let Some(pause) = pause else {
            return self.resume_listening();
        };
        // A longer pause goes on.
        self.listen_at = self.listen_at.max(Some(self.clock.now() + pause));
        for (number, listener) in (0..).zip(&mut self.listeners) {
            let Some(listener) = listener else { continue };
            listener.paused = true;
            let _ = (self.epoll).pause(&listener.socket, Watched::Listener(number), true);
        }
    }

    pub(super) fn resume_listening(&mut self) {
        self.listen_at = None;
        for (number, listener) in (0..).zip(&mut self.listeners) {
            let Some(listener) = listener else { continue };
            if std::mem::take(&mut listener.paused) {
                let source = Watched::Listener(number);
                let _ = self.epoll.pause(&listener.socket, source, false);
            }
        }
    }

    pub(super) fn welcome(&mut self, now: Instant, stream: TcpStream, addr: SocketAddr) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        self.held.tune(&stream, UNACCEPTED);
        if Scope::of(addr.ip()) == Scope::Public {
            self.report.caller = Some(addr.ip());
        }
        let id = self.node.accept(now, addr).or_else(|| {
            // A free slot may only have to be cleared of the peer that left.
            self.act(now);
            self.node.accept(now, addr)
        });
        if let Some(id) = id {
            self.hold(now, id, stream, addr, false);
        }
    }

    pub(super) fn dial(&mut self, now: Instant, id: ConnId, addr: SocketAddr) {
        if !self.lending.has_room() {
            log::debug!("{addr}: is not called before others have taken what they were sent");
            self.lending.look_soon(now);
            return self.node.event(now, Event::Closed(id));
        }
        let (held, blocks) = (self.held, self.room_to_begin());
        let unread = blocks.max(UNACCEPTED);
        match socket::dial(addr, &self.way_out, |socket| held.begin(socket, unread)) {
            Ok(stream) => {
                self.hold(now, id, stream, addr, true);
                if let Some(peer) = find(&mut self.peers, id) {
                    (peer.loan.blocks, peer.loan.unread) = (blocks, unread);
                }
            }
            Err(error) => {
                log::debug!("{addr}: {error}");
                self.node.event(now, Event::Closed(id));
            }
        }
    }

    pub(super) fn hold(
        &mut self,
        now: Instant,
        id: ConnId,
        stream: TcpStream,
        addr: SocketAddr,
        dialling: bool,
    ) {
        if let Err(error) = self.epoll.add(&stream, Watched::Peer(id)) {
            log::warn!("{addr}: cannot be watched: {error}");
            self.node.event(now, Event::Closed(id));
            return;
        }
        let slot = usize::from(id.slot);
        // The node takes the first free slot, so memory of slots that were never needed is never touched.
        if slot >= self.peers.len() {
            self.peers.resize_with(slot + 1, || None);
        }
        self.lending.come(self.peers.len());
        self.fit_slots(now);
        self.peers[slot] = Some(Peer {
            id,
            stream,
            addr,
            dialling,
            fresh: !dialling,
            open: false,
            readable: false,
            queued: false,
            writable: false,
            ended: false,
            disk: Disk::Ready,
            loan: Loan::NEW,
        });
    }

    pub(super) fn close(&mut self, now: Instant, id: ConnId, reason: Reason) {
        if let Some(peer) = find(&mut self.peers, id) {
            if peer.disk == Disk::Waits {
                self.worker.forget(id);
            }
            if let Some(peer) = self.peers[usize::from(id.slot)].take() {
                self.take_back(now, &peer, Some(reason));
            }
            if self.peers.iter().all(Option::is_none) {
                // The kernel gets the buffer's pages back until somebody is served again. The new buffer fits where
                // the old one was.
                let len = std::mem::take(&mut self.buffer).len();
                self.buffer = vec![0; len].into_boxed_slice();
            }
        }
    }

    pub(super) fn ready(&mut self, now: Instant, id: ConnId, ready: Ready) {
        let Some(peer) = find(&mut self.peers, id) else {
            return;
        };
        peer.readable |= ready.readable;
        peer.writable |= ready.writable;
        peer.ended |= ready.ended;
        if peer.dialling && !self.dialled(now, id) {
            return;
        }
        if ready.readable {
            self.read(now, id);
        }
        if ready.writable {
            self.send(now, id);
        }
    }

    /// Finishes a dialled connection. Returns whether it is connected.
    pub(super) fn dialled(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(peer) = find(&mut self.peers, id) else {
            return false;
        };
        if !peer.writable {
            return false;
        }
        match peer.stream.take_error() {
            Ok(None) if !peer.ended => {
                peer.dialling = false;
                self.held.tune(&peer.stream, peer.loan.unread);
                self.node.event(now, Event::Connected(id));
                true
            }
            _ => {
                self.node.event(now, Event::Closed(id));
                false
            }
        }
    }

    /// Whether a caller speaks HTTP, which its first byte tells: it then goes to the built-in tracker.
    pub(super) fn is_web(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(peer) = find(&mut self.peers, id) else {
            return false;
        };
        let mut first = [0];
        if !std::mem::take(&mut peer.fresh) || !matches!(peer.stream.peek(&mut first), Ok(1)) {
            return false;
        }
        if !first[0].is_ascii_uppercase() {
            return false;
        }
        self.node.event(now, Event::Closed(id));
        let Some(peer) = self.peers[usize::from(id.slot)].take() else {
            return true;
        };
        self.take_back(now, &peer, None);
        let watched = self.epoll.remove(&peer.stream);
        if watched.is_ok() && self.report.web.len() < self.web_at_once {
            self.report.web.push((peer.stream, peer.addr));
        }
        true
    }

    pub(super) fn read(&mut self, now: Instant, id: ConnId) {
        let fresh = find(&mut self.peers, id).is_some_and(|peer| peer.fresh);
        if fresh && self.is_web(now, id) {
            return;
        }
        for _ in 0..READS_PER_TURN {
            let Some(peer) = find(&mut self.peers, id).filter(|peer| peer.readable) else {
                return;
            };
            let Some(space) = self.node.recv_space(now, id) else {
                // `Action::Receive` comes when there is room.
                return;
            };
            let room = space.len();
            match peer.stream.read(space) {
                Ok(0) => {
                    self.node.event(now, Event::Closed(id));
                    return;
                }
                Ok(len) => {
                    // After a short read the kernel's buffer is empty, and an edge will tell of more.
                    peer.readable = len == room || peer.ended;
                    self.node.received(now, id, len);
                    // The session checks the torrent's files before the new peer is served.
                    if !peer.open && self.node.is_open(id) {
                        (peer.open, self.tells) = (true, true);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => peer.readable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        self.node.event(now, Event::Closed(id));
                        return;
                    }
                },
            }
        }
        if let Some(peer) = find(&mut self.peers, id)
            && peer.readable
            && !std::mem::replace(&mut peer.queued, true)
        {
            self.unread.push_back(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::engine::tests;

    /// A short pause does not end a longer one, and a listener that is added during a pause is paused too.
    #[test]
    fn the_longer_pause_counts() {
        let engine = tests::engine();
        let reactor = &mut *engine.shared.lock();
        let listener = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        reactor.listen(listener()).unwrap();
        reactor.pause_listening(Some(LISTEN_AGAIN));
        let until = reactor.listen_at;
        reactor.pause_listening(Some(LOOK));
        assert!(until.is_some() && reactor.listen_at == until);
        reactor.listen(listener()).unwrap();
        assert!(reactor.listeners.iter().flatten().all(|l| l.paused));
        reactor.pause_listening(None);
        assert!(!reactor.listeners.iter().flatten().any(|l| l.paused));
        assert_eq!(reactor.listen_at, None);
    }
}
