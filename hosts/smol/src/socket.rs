//! TCP sockets as the engine wants them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The most bytes that the kernel may hold unsent for one peer. Without this limit a peer that stops reading
/// pins megabytes; with less, a fast one waits for us.
pub(crate) const UNSENT: u32 = 128 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;

/// A listening socket. An IPv6 one serves IPv6 alone, so that both families can share a port.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted daemon gets its port back at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that is being connected, from a given address of ours or from whichever the system
/// chooses; it becomes writable when the outcome is known.
pub(crate) fn dial(addr: SocketAddr, from: Option<IpAddr>, unsent: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = from.filter(|ip| !ip.is_unspecified()) {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    let stream = TcpStream::from(socket);
    tune(&stream, unsent);
    Ok(stream)
}

/// Sets what every peer's socket has. A kernel that refuses costs memory or time, nothing else.
pub(crate) fn tune(stream: &TcpStream, unsent: u32) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_notsent_lowat(unsent);
}

/// Whether an error means that descriptors or memory ran out, which passes when peers leave.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortage = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    shortage
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
