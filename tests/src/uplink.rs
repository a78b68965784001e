//! Peers of mixed speed that share an uplink, and the record of the bytes that each of them got, with times.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::dial::{dial, dial_from};
use crate::download::{Download, Wish};

/// The speed at which a peer reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// As fast as bytes come.
    Full,
    /// At this many bytes per second.
    Bps(u64),
    /// It requests everything, and reads nothing after its first block.
    Stops,
}

/// A peer.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// The time of its call, since the start.
    pub calls: Duration,
    /// The speed at which it reads.
    pub pace: Pace,
}

/// A seeder, and what all peers request from it.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// The seeder's address.
    pub to: SocketAddr,
    /// The first peer's address; the others have the following ones. `None`: new addresses.
    pub from: Option<Ipv4Addr>,
    /// The request of each peer; each begins at another block.
    pub wish: Wish,
    /// The duration, since the start.
    pub time: Duration,
}

/// The bytes that one peer got.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The time of its call, since the start.
    pub called: Duration,
    /// The time of its first whole block.
    pub first: Option<Duration>,
    /// Bytes of content, each with the time at which they were read.
    pub came: Vec<(Duration, u64)>,
    /// Whether the seeder hung up.
    pub hung_up: bool,
}

impl Taken {
    /// Bytes that came after `from` and not after `to`.
    pub fn between(&self, from: Duration, to: Duration) -> u64 {
        let within = |(at, _): &&(Duration, u64)| from < *at && *at <= to;
        self.came.iter().filter(within).map(|(_, len)| len).sum()
    }
}

impl Party {
    /// Has all peers download. Returns the bytes of each, in their order.
    pub fn hold(&self, guests: &[Guest]) -> Vec<Taken> {
        let start = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(guests)
                .map(|(number, guest)| scope.spawn(move || self.attend(start, number, *guest)))
                .collect();
            let done = threads.into_iter().map(|thread| thread.join());
            done.map(|taken| taken.expect("a peer without a panic"))
                .collect()
        })
    }

    fn attend(&self, start: Instant, number: u32, guest: Guest) -> Taken {
        thread::sleep(guest.calls.saturating_sub(start.elapsed()));
        let mut taken = Taken {
            called: start.elapsed(),
            ..Taken::default()
        };
        let from = u64::from(number) * FAR_APART % self.wish.blocks;
        let mut download = Download::from_peer(Wish { from, ..self.wish });
        let Some(mut stream) = self.call(number, guest) else {
            return taken;
        };
        let mut buffer = vec![0; PART];
        let begun = Instant::now();
        while start.elapsed() < self.time && !taken.hung_up && !send(&mut stream, &mut download) {
            match guest.pace {
                Pace::Stops if taken.first.is_some() => {
                    thread::sleep(TICK);
                    continue;
                }
                Pace::Bps(bps) => {
                    let due = Duration::from_secs_f64(download.bytes() as f64 / bps as f64);
                    let wait = due.saturating_sub(begun.elapsed());
                    if !wait.is_zero() {
                        thread::sleep(wait.min(TICK));
                        continue;
                    }
                }
                _ => {}
            }
            let before = download.bytes();
            match stream.read(&mut buffer) {
                Ok(0) => taken.hung_up = true,
                Ok(len) => download.take(&buffer[..len], None),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => taken.hung_up = true,
            }
            let now = start.elapsed();
            if download.bytes() > before {
                taken.came.push((now, download.bytes() - before));
            }
            if taken.first.is_none() && download.has_block() {
                taken.first = Some(now);
            }
        }
        taken
    }

    fn call(&self, number: u32, guest: Guest) -> Option<TcpStream> {
        let stream = match self.from {
            None => dial(self.to),
            Some(first) => dial_from(Ipv4Addr::from_bits(first.to_bits() + number), self.to),
        };
        let stream = stream.ok()?;
        if guest.pace != Pace::Full {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&stream, NARROW);
        }
        stream.set_read_timeout(Some(TICK)).ok()?;
        Some(stream)
    }
}

/// Sends what is queued. Returns whether the other side has hung up.
fn send(stream: &mut TcpStream, download: &mut Download) -> bool {
    let unsent = std::mem::take(download.unsent());
    stream.write_all(&unsent).is_err()
}

/// Jain's index of some numbers: 1 if all are the same, 1/n if one of n has everything.
pub fn jain(numbers: &[u64]) -> f64 {
    let sum: f64 = numbers.iter().map(|n| *n as f64).sum();
    let squares: f64 = numbers.iter().map(|n| (*n as f64).powi(2)).sum();
    sum * sum / (squares * numbers.len() as f64)
}

/// The burst: the most bytes by which all peers together were ever ahead of `bps`, counted from any earlier time.
/// That is what a limit of this rate lets through at once.
pub fn burst(all: &[Taken], bps: u64) -> f64 {
    let mut came: Vec<_> = all.iter().flat_map(|taken| &taken.came).collect();
    came.sort();
    let (mut level, mut most, mut before) = (0.0_f64, 0.0_f64, Duration::ZERO);
    for (at, len) in came {
        let passed = (*at - before).as_secs_f64() * bps as f64;
        level = (level - passed).max(0.0) + *len as f64;
        (most, before) = (most.max(level), *at);
    }
    most
}

/// Number of blocks between the first blocks of two peers.
const FAR_APART: u64 = 61;

const PART: usize = 64 * 1024;

/// The receive buffer of a slow peer, in bytes.
const NARROW: usize = 32 * 1024;

const TICK: Duration = Duration::from_millis(20);
