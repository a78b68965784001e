//! Connections to a client, each from a new address: clients know peers by their address, and refuse one that returns
//! at once.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::peer::{BITFIELD, HAVE, INTERESTED, InfoHash, PROTOCOL, handshake, message};

/// Connects from an address that was not used before.
pub fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    dial_from(fresh_address(), to)
}

/// Connects from this address.
pub fn dial_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::V4(SocketAddrV4::new(from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects with a small receive buffer, nonblocking; from a new address if `own`, or from one that many share.
pub fn dial_narrow(to: SocketAddr, own: bool) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1);
    if own {
        rustix::net::bind(
            &socket,
            &SocketAddr::V4(SocketAddrV4::new(fresh_address(), 0)),
        )?;
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// 10.20.0.1 and following, without those that end in 0 or 255.
fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::from_bits(FIRST + number / 250 * 256 + number % 250 + 1)
}

const FIRST: u32 = Ipv4Addr::new(10, 20, 0, 0).to_bits();

/// Raises this process's limit of open sockets as far as the system allows.
pub fn allow_many_sockets() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).expect("a limit that may be raised");
}

/// Peers that send a handshake and then nothing, until they are dropped.
#[derive(Debug)]
pub struct Idle {
    streams: Vec<TcpStream>,
}

impl Idle {
    /// Connects this many peers. Those that are refused, or not accepted within a minute, do not count.
    pub fn greet(to: SocketAddr, hash: InfoHash, peers: usize) -> Idle {
        let end = Instant::now() + Duration::from_secs(60);
        let call = |_| {
            let mut stream = dial(to).ok()?;
            stream.write_all(&handshake(hash, false)).ok()?;
            Some(stream)
        };
        let in_time = (0..peers).take_while(|_| Instant::now() < end);
        let called: Vec<_> = in_time.filter_map(call).collect();
        let answered = |stream: &mut TcpStream| {
            let left = end.saturating_duration_since(Instant::now());
            let patience = left.clamp(Duration::from_millis(1), ANSWER);
            let mut answer = [0; 68];
            stream.set_read_timeout(Some(patience)).is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && answer[..20] == *PROTOCOL
        };
        let mut streams = called;
        streams.retain_mut(answered);
        Idle { streams }
    }

    /// HTTP clients that have fetched one page and keep their connection.
    pub fn browse(to: SocketAddr, path: &str, peers: usize) -> Idle {
        let call = |_| {
            let mut stream = dial(to).ok()?;
            stream.set_read_timeout(Some(ANSWER)).ok()?;
            let head = format!("HEAD /{path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            let answer = stream.read(&mut [0; 4096]).ok()?;
            (answer > 0).then_some(stream)
        };
        Idle {
            streams: (0..peers).filter_map(call).collect(),
        }
    }

    /// The number of peers that are still connected.
    pub fn connected(&self) -> usize {
        let connected = |stream: &&TcpStream| {
            let _ = stream.set_nonblocking(true);
            let mut bytes = [0; 64 * 1024];
            match (&mut &**stream).read(&mut bytes) {
                Ok(len) => len > 0,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        self.streams.iter().filter(connected).count()
    }
}

/// Waits until a seeder sends its handshake and says that it has all `pieces`. Returns the time since `start`, or
/// `None` if it took too long. Calls come from `from`, or from new addresses.
pub fn ready(
    from: Option<Ipv4Addr>,
    to: SocketAddr,
    hash: InfoHash,
    pieces: usize,
    start: Instant,
    limit: Duration,
) -> Option<Duration> {
    while start.elapsed() < limit {
        let called = match from {
            None => dial(to),
            Some(from) => dial_from(from, to),
        };
        if called.is_ok_and(|mut stream| has_all(&mut stream, hash, pieces)) {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    None
}

/// Whether the other side says that it has all pieces. Clients that look at newcomers now and then take their time
/// before the first message, and none before the next.
fn has_all(stream: &mut TcpStream, hash: InfoHash, pieces: usize) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut answer = [0; 68];
    let greeted = stream.write_all(&handshake(hash, false)).is_ok();
    if !greeted || stream.read_exact(&mut answer).is_err() {
        return false;
    }
    // Only now: aria2 hangs up on a peer that sends it together with the handshake.
    if stream.write_all(&message(INTERESTED, &[])).is_err() {
        return false;
    }
    let mut had = 0;
    while had < pieces {
        let Ok(message) = read_message(stream) else {
            return false;
        };
        match message.split_first() {
            Some((&BITFIELD, bits)) => {
                had = bits.iter().map(|byte| byte.count_ones() as usize).sum();
                let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
            }
            Some((&HAVE, _)) => had += 1,
            _ => {}
        }
    }
    true
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    let mut message = vec![0; u32::from_be_bytes(word).min(1 << 20) as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// The longest wait for the answer to a handshake.
const ANSWER: Duration = Duration::from_secs(10);
