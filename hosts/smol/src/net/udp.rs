//! The UDP sockets: one for each family, on the port where peers connect.
//!
//! Invariant: datagrams leave by the [`Way`] of all calls. With a proxy no datagrams are sent.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

use everseed_core::tracker::Family;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use socket2::{Domain, Socket, Type};

use super::sockopt;
use super::way::{Exit, Way};

/// The UDP sockets; they never block.
#[derive(Debug)]
pub struct Udp {
    sockets: [Option<Bound>; 2],
    /// Whether they talk to many hosts: the nodes of the DHT.
    many: bool,
    packet: Box<[u8]>,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    exit: Exit,
    /// The wanted port.
    port: u16,
}

/// Something that a UDP socket received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// A datagram and its sender.
    From(SocketAddr, &'a [u8]),
    /// A report that a datagram to this address did not arrive.
    Unreachable(SocketAddr),
}

impl Default for Udp {
    fn default() -> Udp {
        Udp {
            sockets: [None, None],
            many: false,
            packet: vec![0; PACKET].into_boxed_slice(),
        }
    }
}

impl Udp {
    /// Opens a socket for each family that calls may use, and closes the others. `port` gives the port where peers of
    /// a family connect; if another program has it, any free one is used. Returns the families whose socket is new.
    pub fn follow(&mut self, way: &Way, port: impl Fn(Family) -> u16) -> Vec<Family> {
        let mut new = Vec::new();
        for family in [Family::V4, Family::V6] {
            let exit = way.exit(family).filter(|_| way.proxy().is_none());
            let bound = &mut self.sockets[index(family)];
            let Some(exit) = exit else {
                *bound = None;
                continue;
            };
            let port = port(family);
            if matches!(bound, Some(b) if b.exit == *exit && b.port == port) {
                continue;
            }
            // The former socket may have the same port.
            *bound = None;
            let opened = open(exit, port).or_else(|error| {
                log::info!("UDP port {port}: {error}; another one is used");
                open(exit, 0)
            });
            match opened {
                Ok(socket) => {
                    new.push(family);
                    limit(&socket, self.many);
                    let exit = exit.clone();
                    *bound = Some(Bound { socket, exit, port });
                }
                Err(error) => log::warn!("{}: no UDP socket: {error}", exit.ip()),
            }
        }
        new
    }

    /// Enlarges the buffers, because many hosts will be talked to.
    pub fn talk_to_many(&mut self) {
        self.many = true;
        let sockets = self.sockets.iter().flatten();
        sockets.for_each(|bound| limit(&bound.socket, true));
    }

    /// The socket of a family, to be watched.
    pub fn socket(&self, family: Family) -> Option<&UdpSocket> {
        let bound = self.sockets[index(family)].as_ref()?;
        Some(&bound.socket)
    }

    /// Whether there is a socket, for each family.
    pub fn families(&self) -> [bool; 2] {
        self.sockets.each_ref().map(Option::is_some)
    }

    /// Sends a datagram. It may be lost without an error.
    pub fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        let socket = self.socket(Family::of(to.ip()));
        let socket = socket.ok_or(ErrorKind::NetworkUnreachable)?;
        // The error may be that of an earlier datagram, which the error queue reports too; then nothing was sent.
        let sent = socket.send_to(packet, to);
        match sent.or_else(|_| socket.send_to(packet, to)) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Receives from the socket of a family. Bytes of a datagram beyond the buffer's length are lost.
    pub fn receive(&mut self, family: Family) -> Option<Received<'_>> {
        let Bound { socket, .. } = self.sockets[index(family)].as_ref()?;
        if let Some(addr) = unreachable(socket) {
            return Some(Received::Unreachable(addr));
        }
        for _ in 0..ERRORS {
            match socket.recv_from(&mut self.packet) {
                Ok((len, from)) => return Some(Received::From(from, &self.packet[..len])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // The error is reported once, and its cause is in the error queue.
                Err(_) => {}
            }
        }
        None
    }
}

/// Sets the limits of a socket's buffers.
fn limit(socket: &UdpSocket, many: bool) {
    let (received, sent) = match many {
        true => (RECEIVED_OF_MANY, SENT_TO_MANY),
        false => (RECEIVED, SENT),
    };
    sockopt::set_received(socket, received);
    sockopt::set_sent(socket, sent);
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn open(exit: &Exit, port: u16) -> io::Result<UdpSocket> {
    let addr = SocketAddr::new(exit.ip(), port);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    sockopt::tell_unreachable(&socket, addr.is_ipv6());
    exit.tie(&socket, port)?;
    Ok(socket.into())
}

/// The target of an undelivered datagram, if the kernel knows of one.
fn unreachable(socket: &UdpSocket) -> Option<SocketAddr> {
    // The error queue also returns the datagram's first bytes, which are not used.
    let mut start = [0; 64];
    loop {
        let mut slices = [IoSliceMut::new(&mut start)];
        let mut none = RecvAncillaryBuffer::default();
        match recvmsg(socket, &mut slices, &mut none, RecvFlags::ERRQUEUE) {
            Ok(received) => match received.address.map(SocketAddr::try_from) {
                Some(Ok(addr)) => return Some(addr),
                _ => continue,
            },
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// The longest datagram that is read: a tracker's 200 IPv6 peers and a little more.
const PACKET: usize = 4096;

/// The most errors of a socket that one call skips.
const ERRORS: usize = 8;

/// Buffers for unread and unsent bytes that are enough for a few trackers, which are asked one after the other.
const RECEIVED: usize = 10 * 1024;
const SENT: usize = 4608;

/// Buffers for the DHT, whose nodes are asked eight at a time.
const RECEIVED_OF_MANY: usize = 13 * 1024;
const SENT_TO_MANY: usize = 7 * 1024;

/// Bytes that both sockets may take, with the DHT (`many`) or without.
pub(crate) const fn held(many: bool) -> usize {
    match many {
        true => 2 * (RECEIVED_OF_MANY + SENT_TO_MANY) + PACKET,
        false => 2 * (RECEIVED + SENT) + PACKET,
    }
}
