//! TCP sockets as the engine wants them.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::net::sockopt;
use crate::net::way::Way;

/// How the kernel is told what it may hold for peers, which bounds what one that stops reading or is not read
/// pins there. Everybody begins with little; who is served, or serves us, gets more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Bytes of blocks that came from all who serve us; 0 if nothing is downloaded.
    blocks: usize,
    /// Callers that may wait to be accepted, at all addresses together.
    waiting: usize,
}

/// How the bytes are used that the kernel may hold for a peer that is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Portion {
    /// Bytes that were sent to it and are not acknowledged, with what the kernel needs to keep them, with which
    /// it takes nothing more.
    sent: usize,
    /// The part of it that waits to be sent, likewise. It is only ours: the less of it there is, the sooner a request
    /// is answered.
    unsent: usize,
    /// Bytes that were sent, however they came there.
    all: usize,
    /// Bytes that came from it and were not read, likewise.
    pub(crate) received: usize,
}

impl Portion {
    /// Of `bytes` a quarter, if that is not much, is for what is received, in which hundreds of requests have
    /// room.
    ///
    /// Of the rest as much as may be is written at a time, as long writes cost less. The kernel takes a write in
    /// parts of 62 KiB at most as long as it has any room, so that it holds at most what it was told and one part.
    /// An eighth is left for what it needs to keep them, as it does not know beforehand in how many packets they
    /// leave; of a large share as much as the longest write.
    pub(crate) fn of(bytes: usize) -> Portion {
        let received = (bytes / 4).min(RECEIVED);
        let rest = bytes - received;
        let beyond = (PART + rest / 8).min(rest * 3 / 5).min(WRITTEN * BLOCK);
        let sent = rest - beyond;
        Portion {
            sent,
            unsent: sent.min(UNSENT),
            all: rest - rest / 16,
            received,
        }
    }

    /// Whether the kernel may not take more when it holds so many bytes, of which so many are unsent: before that
    /// it says nothing of taking more either.
    pub(crate) fn is_low(self, held: usize, unsent: usize) -> bool {
        3 * held > 2 * self.sent || 2 * unsent >= self.unsent
    }

    /// Bytes that it takes whole then: a block at least, so that it is tried.
    pub(crate) fn room(self, held: usize, unsent: usize) -> usize {
        let free = self.sent.saturating_sub(held);
        let free = free.min(self.unsent.saturating_sub(unsent));
        let taken = free.div_ceil(PART) * PART;
        taken.min(self.all.saturating_sub(held)).max(BLOCK)
    }
}

impl Held {
    /// Those who serve us share `blocks` bytes.
    pub(crate) fn new(waiting: usize, blocks: usize) -> Held {
        Held { blocks, waiting }
    }

    /// Has a socket that is bound take connections, as one of so many. Who calls may send much before the call is
    /// accepted, and what the listener has is what the caller has until then.
    pub(crate) fn listen(&self, socket: &TcpListener, of: usize) -> io::Result<()> {
        self.begin(socket);
        let _ = SockRef::from(socket).set_tcp_mss(SEGMENT);
        self.share(socket, of)
    }

    /// The same for one that takes them already, when there are more or fewer.
    pub(crate) fn share(&self, socket: &TcpListener, of: usize) -> io::Result<()> {
        let share = (self.waiting / of.max(1)).max(1);
        SockRef::from(socket).listen(i32::try_from(share).unwrap_or(i32::MAX))
    }

    /// Sets what a socket has before it is connected: little.
    pub(crate) fn begin(&self, socket: &impl AsFd) {
        sockopt::set_sent(socket, 0);
        sockopt::set_received(socket, UNACCEPTED);
        if self.blocks > 0 {
            // How far its window can grow is settled when it is connected.
            sockopt::unlock_received(socket);
        }
    }

    /// Sets what a socket has that is connected.
    pub(crate) fn tune(&self, socket: &impl AsFd) {
        if self.blocks > 0 {
            sockopt::set_received(socket, UNACCEPTED);
        }
        let _ = SockRef::from(socket).set_tcp_nodelay(true);
    }

    /// Gives a peer that is served so much, which may be less than it had: what is there stays until the peer takes
    /// it.
    pub(crate) fn serve(&self, socket: &impl AsFd, portion: Portion) {
        sockopt::set_sent(socket, portion.sent);
        let unsent = u32::try_from(portion.unsent).unwrap_or(u32::MAX);
        let _ = SockRef::from(socket).set_tcp_notsent_lowat(unsent);
    }

    /// Takes that away again; what is there already stays until the peer takes it.
    pub(crate) fn serve_no_longer(&self, socket: &impl AsFd) {
        sockopt::set_sent(socket, 0);
    }

    /// Bytes that the kernel may hold of blocks, of all who send them together.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes that it may have to hold of so many blocks from one peer: it adds as much again. It is the same for
    /// numbers up to the next power of two, so that it changes seldom.
    pub(crate) fn for_blocks(&self, asked: u16) -> usize {
        match asked {
            0 => 0,
            asked => {
                (2 * BLOCK * usize::from(asked.checked_next_power_of_two().unwrap_or(u16::MAX)))
                    .min(RECEIVED_MOST)
            }
        }
    }
}

/// The most bytes that the kernel may hold unsent for one peer; with less, a fast one waits for us, as no more than
/// this and one part of it are taken at a time.
const UNSENT: usize = 200 * 1024;

/// The most bytes that the kernel may hold unread of a peer that nothing is downloaded from.
const RECEIVED: usize = 16 * 1024;

/// A block with its head, and the most of them that are written at a time: as many as
/// [`Bodies`](everseed_node::Bodies) can name.
pub(crate) const BLOCK: usize = 16 * 1024 + 13;
pub(crate) const WRITTEN: usize = 16;

/// Bytes that the kernel takes at a time.
const PART: usize = 62 * 1024;

/// The longest segment in bytes. On loopback one may have 64 KiB, which is all that there is on its way to a peer
/// if little may be held for it, and a lone one is acknowledged 40 ms late.
const SEGMENT: u32 = 32_000;

/// Bytes that the kernel may hold of a caller who was not accepted yet, and of everybody who is not served: a
/// greeting and some words.
pub(crate) const UNACCEPTED: usize = 4 * 1024;

/// Bytes that the kernel holds at most of what was sent to one who is not served: the least that it can be told,
/// with which it takes nothing more, and one write with what it needs to keep that.
pub(crate) const UNSERVED: usize = 8 * 1024;

/// Bytes that are written at a time to one who is not served.
pub(crate) const UNSERVED_WRITTEN: usize = 2 * 1024;

/// The most bytes that the kernel may hold of blocks from one peer; more is not asked for at a time.
const RECEIVED_MOST: usize = 8 * 1024 * 1024;

/// A socket that has its address and takes no connection before [`Held::listen`]. An IPv6 one serves IPv6
/// alone, so that both families can share a port.
///
/// With an interface it serves who comes by that alone.
pub(crate) fn bind(addr: SocketAddr, device: Option<&str>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted daemon gets its port back at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// A socket that is being connected, the way that is to be gone; it becomes writable when the outcome is known.
pub(crate) fn dial(
    addr: SocketAddr,
    way: &Way,
    tune: impl FnOnce(&Socket),
) -> io::Result<TcpStream> {
    let from = way.to(addr.ip()).ok_or(ErrorKind::NetworkUnreachable)?;
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let _ = socket.set_tcp_mss(SEGMENT);
    tune(&socket);
    if let Some(exit) = from {
        exit.tie_any(&socket)?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Has the kernel hold at most `bytes` for a connection that is no peer's, half of it for each way.
pub(crate) fn hold_evenly(socket: &impl AsFd, bytes: usize) {
    sockopt::set_sent(socket, bytes / 2);
    sockopt::set_received(socket, bytes / 2);
}

/// Whether an error means that descriptors or memory ran out, which passes when peers leave.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortage = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    shortage
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_holds_no_more() {
        for blocks in [0, 1 << 20] {
            let held = Held::new(1, blocks);
            let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
            let addr = listener.local_addr().unwrap();
            assert!(TcpStream::connect(addr).is_err());
            held.listen(&listener, 1).unwrap();
            listener.set_nonblocking(false).unwrap();
            let _caller = TcpStream::connect(addr).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let unaccepted = SockRef::from(&accepted).recv_buffer_size().unwrap();
            assert_eq!(unaccepted, UNACCEPTED);
            held.tune(&accepted);
            let dialled = dial(addr, &Way::default(), |socket| held.begin(socket)).unwrap();
            held.tune(&dialled);
            for stream in [&accepted, &dialled] {
                let socket = SockRef::from(stream);
                assert!(socket.send_buffer_size().unwrap() + UNSERVED_WRITTEN < UNSERVED);
                assert_eq!(socket.recv_buffer_size().unwrap(), UNACCEPTED);
                assert!(socket.tcp_mss().unwrap() <= SEGMENT);
                assert!(socket.tcp_nodelay().unwrap());
                for bytes in [96 << 10, 6 << 20, 64 << 10] {
                    let portion = Portion::of(bytes);
                    held.serve(stream, portion);
                    assert_eq!(socket.send_buffer_size().unwrap(), portion.sent / 2 * 2);
                    assert_eq!(socket.tcp_notsent_lowat().unwrap() as usize, portion.unsent);
                }
                held.serve_no_longer(stream);
                assert!(socket.send_buffer_size().unwrap() + UNSERVED_WRITTEN < UNSERVED);
            }
        }
    }

    /// What is written goes out whole, as a kernel takes it that holds anything: parts, which begin as long as there
    /// is room. Then there is no more than what may be.
    #[test]
    fn a_write_goes_out_whole() {
        for bytes in (48..7000).step_by(3).map(|kib| kib << 10) {
            let portion = Portion::of(bytes);
            for held in (0..portion.sent).step_by(5000) {
                for unsent in [0, held / 2, held].map(|unsent| unsent.min(portion.unsent - 1)) {
                    let room = portion.room(held, unsent);
                    let what = format!("{portion:?} {held} {unsent}: {room}");
                    let parts = (room - 1) / (62 << 10);
                    let last = parts * (62 << 10);
                    assert!(held + last < portion.sent, "{what}");
                    assert!(unsent + last < portion.unsent, "{what}");
                    let all = held + room + portion.received;
                    assert!(
                        all <= bytes || room == BLOCK && all <= bytes + BLOCK,
                        "{what}"
                    );
                    // When the kernel says that it takes more that is worth it.
                    let worth = (portion.room(0, 0) / 3).max(BLOCK);
                    assert!(portion.is_low(held, unsent) || room >= worth, "{what}");
                }
            }
            assert_eq!(portion.room(usize::MAX, usize::MAX), BLOCK);
        }
    }

    /// KiB that a peer may have, and blocks that are written to it at a time when all was taken.
    #[test]
    fn blocks_at_a_time() {
        for (kib, blocks) in [
            (48, 2),
            (64, 2),
            (100, 3),
            (128, 3),
            (200, 7),
            (240, 11),
            (300, 15),
            (512, 15),
        ] {
            let room = Portion::of(kib << 10).room(0, 0);
            assert_eq!(room / BLOCK, blocks, "{kib} KiB");
        }
    }

    /// What may come of blocks is never more than may be held of it.
    #[test]
    fn what_was_asked_for_has_room() {
        let held = Held::new(1, 1 << 20);
        for (asked, kib) in [
            (0, 0),
            (1, 32),
            (4, 128),
            (5, 256),
            (100, 4099),
            (250, 8192),
        ] {
            let room = held.for_blocks(asked);
            assert_eq!(room >> 10, kib, "{asked} blocks");
            assert!(room >= 2 * usize::from(asked) * 16 * 1024 || room == RECEIVED_MOST);
        }
        assert_eq!(held.for_blocks(u16::MAX), RECEIVED_MOST);
    }
}
