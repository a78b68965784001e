//! TCP sockets with the engine's options: buffers, listening and dialling.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::net::sockopt;
use crate::net::way::Way;

/// Limits on the kernel's memory for peers. They bound what a peer pins there by not reading, or by sending faster
/// than it is read. Every socket begins with little; peers that are served, or that send us blocks, get more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Bytes of incoming blocks, for all peers together; 0 if nothing is downloaded.
    blocks: usize,
    /// Callers that may wait to be accepted, at all addresses together.
    waiting: usize,
}

/// The parts of a served peer's bytes in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Portion {
    /// The send buffer: bytes that are sent and not acknowledged, with the kernel's overhead. When they reach this,
    /// the kernel takes no more.
    sent: usize,
    /// The part of the send buffer that is not sent yet. The less of it there is, the sooner a new request is
    /// answered, because these bytes are first in line.
    unsent: usize,
    /// The most bytes that the kernel may hold of what was sent, with the overshoot of one write.
    all: usize,
    /// The receive buffer: bytes that came and were not read, with the kernel's overhead.
    pub(crate) received: usize,
}

impl Portion {
    /// The receive buffer gets a quarter of `bytes`, at most [`RECEIVED`], which holds hundreds of requests.
    ///
    /// Of the rest as much as possible is written at a time, because long writes cost less. While it has any room,
    /// the kernel takes a write in parts of at most 62 KiB, so it holds at most its limit and one part. An eighth is
    /// left for the kernel's overhead, because it does not know in how many packets the bytes will leave; of a large
    /// share as much as the longest write.
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

    /// Whether the kernel may refuse more while it holds `held` bytes, of which `unsent` are not sent. Before that
    /// point it does not signal that it takes more either.
    pub(crate) fn is_low(self, held: usize, unsent: usize) -> bool {
        3 * held > 2 * self.sent || 2 * unsent >= self.unsent
    }

    /// The bytes that the kernel then takes in one piece: a block at least, so that a write is tried.
    pub(crate) fn room(self, held: usize, unsent: usize) -> usize {
        let free = self.sent.saturating_sub(held);
        let free = free.min(self.unsent.saturating_sub(unsent));
        let taken = free.div_ceil(PART) * PART;
        taken.min(self.all.saturating_sub(held)).max(BLOCK)
    }
}

impl Held {
    /// Limits with which all peers that send us blocks share `blocks` bytes.
    pub(crate) fn new(waiting: usize, blocks: usize) -> Held {
        Held { blocks, waiting }
    }

    /// Makes a bound socket listen, as one of `of` listeners. A caller may send much before it is accepted, and the
    /// buffers of the listener are those of its callers until then.
    pub(crate) fn listen(&self, socket: &TcpListener, of: usize) -> io::Result<()> {
        self.begin(socket, UNACCEPTED);
        let _ = SockRef::from(socket).set_tcp_mss(SEGMENT);
        self.share(socket, of)
    }

    /// Sets a listener's share of waiting callers again, when the number of listeners changes.
    pub(crate) fn share(&self, socket: &TcpListener, of: usize) -> io::Result<()> {
        let share = (self.waiting / of.max(1)).max(1);
        SockRef::from(socket).listen(i32::try_from(share).unwrap_or(i32::MAX))
    }

    /// Sets the small buffers of a socket that is not connected yet: `received` bytes for what comes.
    pub(crate) fn begin(&self, socket: &impl AsFd, received: usize) {
        sockopt::set_sent(socket, 0);
        sockopt::set_received(socket, received);
        if self.blocks > 0 {
            // The limit of its window's growth is set when it is connected.
            sockopt::unlock_received(socket);
        }
    }

    /// Sets the buffers of a connected socket: `received` bytes for what comes.
    pub(crate) fn tune(&self, socket: &impl AsFd, received: usize) {
        if self.blocks > 0 {
            sockopt::set_received(socket, received);
        }
        let _ = SockRef::from(socket).set_tcp_nodelay(true);
    }

    /// Sets the buffers of a served peer. They may be smaller than before: what the kernel holds stays until the peer
    /// takes it.
    pub(crate) fn serve(&self, socket: &impl AsFd, portion: Portion) {
        sockopt::set_sent(socket, portion.sent);
        let unsent = u32::try_from(portion.unsent).unwrap_or(u32::MAX);
        let _ = SockRef::from(socket).set_tcp_notsent_lowat(unsent);
    }

    /// Sets the small buffers again. What the kernel holds stays until the peer takes it.
    pub(crate) fn serve_no_longer(&self, socket: &impl AsFd) {
        sockopt::set_sent(socket, 0);
    }

    /// Bytes that the kernel may hold of incoming blocks, for all peers together.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes that the kernel may need for this many blocks from one peer: it adds as much again. Numbers are rounded
    /// up to a power of two, so that it changes seldom.
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

/// The most unsent bytes in the kernel for one peer. With less, a fast peer waits for us, because one part beyond
/// this is taken at a time.
const UNSENT: usize = 200 * 1024;

/// The most unread bytes in the kernel of a peer that we request nothing from.
const RECEIVED: usize = 16 * 1024;

/// A block with its head, and the most blocks of one write: as many as [`Bodies`](everseed_node::Bodies) can name.
pub(crate) const BLOCK: usize = 16 * 1024 + 13;
pub(crate) const WRITTEN: usize = 16;

/// Bytes of a part in which the kernel takes a write.
const PART: usize = 62 * 1024;

/// The longest segment in bytes. On loopback it may be 64 KiB. That would be all that is on its way to a peer with a
/// small buffer, and a lone segment is acknowledged 40 ms late.
const SEGMENT: u32 = 32_000;

/// Bytes that the kernel may hold for a caller that is not accepted yet, and received bytes of an unserved peer: a
/// handshake and a few messages.
pub(crate) const UNACCEPTED: usize = 4 * 1024;

/// The most sent bytes that the kernel holds for an unserved peer: the smallest buffer that it allows, and one more
/// write with its overhead.
pub(crate) const UNSERVED: usize = 8 * 1024;

/// The most bytes of one write to an unserved peer.
pub(crate) const UNSERVED_WRITTEN: usize = 2 * 1024;

/// The most bytes in the kernel of blocks from one peer; we request no more at a time.
const RECEIVED_MOST: usize = 8 * 1024 * 1024;

/// A socket that is bound but accepts no connection before [`Held::listen`]. An IPv6 socket serves IPv6 alone, so
/// that both families can share a port.
///
/// With an interface it serves only callers by that.
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

/// A socket that is being connected by this way; it becomes writable when the outcome is known.
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

/// Limits the kernel to `bytes` for a connection to someone who is no peer, half for each direction.
pub(crate) fn hold_evenly(socket: &impl AsFd, bytes: usize) {
    sockopt::set_sent(socket, bytes / 2);
    sockopt::set_received(socket, bytes / 2);
}

/// Whether an error means that file descriptors or memory ran out, which passes when peers leave.
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
            held.tune(&accepted, UNACCEPTED);
            let begin = |socket: &Socket| held.begin(socket, UNACCEPTED);
            let dialled = dial(addr, &Way::default(), begin).unwrap();
            held.tune(&dialled, UNACCEPTED);
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
