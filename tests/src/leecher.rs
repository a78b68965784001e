//! A leecher that costs next to nothing, so that a measurement shows the seeder. One thread has many peers, which
//! read into one buffer, and drop the bytes or compare them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::dial::{dial, dial_from};
use crate::download::Download;

/// The task of all peers.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// The seeder's address.
    pub to: SocketAddr,
    /// The first peer's address; the others have the following ones. `None`: new addresses.
    pub from: Option<Ipv4Addr>,
    /// The number of peers.
    pub peers: usize,
    /// Time after the first bytes at which all peers stop.
    pub limit: Duration,
    /// The longest wait for the first bytes.
    pub patience: Duration,
    /// The expected content; `None`: bytes are not compared.
    pub check: Option<&'a [u8]>,
}

/// The result of all peers.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Time from the first bytes to the last.
    pub time: Duration,
    /// The result of each peer.
    pub peers: Vec<Share>,
}

/// The result of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Bytes of content.
    pub bytes: u64,
    /// Time from before its connection to its first block; `None` if none came.
    pub first: Option<Duration>,
    /// Time from the first bytes of any peer to its own last ones.
    pub time: Duration,
    /// Whether it received everything that it wanted.
    pub complete: bool,
    /// Blocks that were wrong or not requested.
    pub wrong: u64,
}

impl Outcome {
    /// Bytes of content that were received.
    pub fn bytes(&self) -> u64 {
        self.peers.iter().map(|peer| peer.bytes).sum()
    }

    /// MB per second.
    pub fn rate(&self) -> f64 {
        self.bytes() as f64 / self.time.as_secs_f64() / 1e6
    }

    /// Jain's index of the peers' rates: 1 if all are equal, 1/n if one of n has everything. Waiting time counts.
    pub fn fairness(&self) -> f64 {
        let rates = self.peers.iter().map(|peer| match peer.time {
            Duration::ZERO => 0.0,
            time => peer.bytes as f64 / time.as_secs_f64(),
        });
        let (sum, squares) = rates.fold((0.0, 0.0), |(s, q), rate| (s + rate, q + rate * rate));
        sum * sum / (squares * self.peers.len() as f64)
    }

    /// The longest wait of a peer for its first block; `None` if one got none.
    pub fn first(&self) -> Option<Duration> {
        let firsts: Option<Vec<_>> = self.peers.iter().map(|peer| peer.first).collect();
        firsts?.into_iter().max()
    }

    /// Whether all peers are complete.
    pub fn complete(&self) -> bool {
        self.peers.iter().all(|peer| peer.complete)
    }

    /// Blocks that were wrong.
    pub fn wrong(&self) -> u64 {
        self.peers.iter().map(|peer| peer.wrong).sum()
    }
}

/// Has the peers download until all are complete or the time is over; `download` makes the download of each.
pub fn leech(work: &Work<'_>, download: impl Fn(usize) -> Download) -> io::Result<Outcome> {
    let mut crowd = Crowd {
        poll: epoll::create(CreateFlags::CLOEXEC)?,
        peers: Vec::new(),
        buffer: vec![0; BUFFER],
        check: work.check,
    };
    let start = Instant::now();
    for (number, call) in call_all(work).into_iter().enumerate() {
        let (begun, stream) = call?;
        crowd.add(stream, download(number), [begun, start])?;
    }
    let mut events = [NOTHING; 256];
    while crowd.peers.iter().any(Peer::wants) {
        let first = crowd.first();
        let over = match first {
            Some(first) => first.elapsed() >= work.limit,
            None => start.elapsed() >= work.patience,
        };
        if over {
            break;
        }
        let ready = match epoll::wait(&crowd.poll, &mut events[..], Some(&TICK)) {
            Err(rustix::io::Errno::INTR) => 0,
            ready => ready?,
        };
        for event in &events[..ready] {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            crowd.read(number);
        }
        if ready == 0 {
            crowd.peers.iter_mut().for_each(Peer::nudge);
        }
    }
    Ok(crowd.outcome())
}

/// Connects the peers one after the other, or all at once where that takes long.
fn call_all(work: &Work<'_>) -> Vec<io::Result<(Instant, TcpStream)>> {
    let Some(first) = work.from else {
        let call = |_| Ok((Instant::now(), dial(work.to)?));
        return (0..work.peers).map(call).collect();
    };
    thread::scope(|scope| {
        let calls: Vec<_> = (first.to_bits()..)
            .take(work.peers)
            .map(|from| {
                let from = Ipv4Addr::from_bits(from);
                scope.spawn(move || Ok((Instant::now(), dial_from(from, work.to)?)))
            })
            .collect();
        let done = calls.into_iter().map(|call| call.join());
        done.map(|call| call.expect("a call without a panic"))
            .collect()
    })
}

struct Crowd<'a> {
    poll: rustix::fd::OwnedFd,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
    check: Option<&'a [u8]>,
}

struct Peer {
    /// `None` once the seeder has hung up.
    stream: Option<TcpStream>,
    download: Download,
    start: Instant,
    /// The time of its first bytes of content.
    begun: Option<Instant>,
    /// The time of its first whole block.
    first: Option<Instant>,
    last: Instant,
}

impl Crowd<'_> {
    /// Adds a peer whose call began at `called`; at `begun` all calls had begun.
    fn add(
        &mut self,
        stream: TcpStream,
        download: Download,
        [start, now]: [Instant; 2],
    ) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let number = EventData::new_u64(self.peers.len() as u64);
        epoll::add(&self.poll, &stream, number, EventFlags::IN)?;
        let mut peer = Peer {
            stream: Some(stream),
            download,
            start,
            begun: None,
            first: None,
            last: now,
        };
        peer.send();
        self.peers.push(peer);
        Ok(())
    }

    /// Reads and handles a peer's bytes.
    fn read(&mut self, number: usize) {
        let Some(peer) = self.peers.get_mut(number) else {
            return;
        };
        for _ in 0..AT_ONCE {
            let Some(stream) = &mut peer.stream else {
                return;
            };
            match stream.read(&mut self.buffer) {
                Ok(len) if len > 0 => {
                    peer.take(&self.buffer[..len], self.check);
                    if len < self.buffer.len() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                _ => peer.stream = None,
            }
        }
    }

    /// The time of the first content.
    fn first(&self) -> Option<Instant> {
        self.peers.iter().filter_map(|peer| peer.begun).min()
    }

    fn outcome(&self) -> Outcome {
        let Some(first) = self.first() else {
            let none = |_: &Peer| Share::default();
            let peers = self.peers.iter().map(none).collect();
            return Outcome {
                time: Duration::ZERO,
                peers,
            };
        };
        let now = Instant::now();
        let peers: Vec<_> = self
            .peers
            .iter()
            .map(|peer| peer.share(first, now))
            .collect();
        let time = peers.iter().map(|peer| peer.time).max();
        Outcome {
            time: time.unwrap_or_default(),
            peers,
        }
    }
}

impl Peer {
    fn wants(&self) -> bool {
        self.stream.is_some() && !self.download.is_complete()
    }

    fn take(&mut self, bytes: &[u8], check: Option<&[u8]>) {
        self.download.take(bytes, check);
        self.last = Instant::now();
        if self.begun.is_none() && self.download.bytes() > 0 {
            self.begun = Some(self.last);
        }
        if self.first.is_none() && self.download.has_block() {
            self.first = Some(self.last);
        }
        self.send();
    }

    /// Sends what is queued. The rest is tried again after the next received bytes; they will come, because the rest
    /// are requests.
    fn send(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let unsent = self.download.unsent();
        if unsent.is_empty() {
            return;
        }
        match stream.write(unsent) {
            Ok(len) => drop(unsent.drain(..len)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
    }

    /// Requests missing blocks again after a while, because some clients drop requests silently.
    fn nudge(&mut self) {
        if self.last.elapsed() > STALLED && self.wants() {
            self.download.ask_again();
            self.last = Instant::now();
        }
        self.send();
    }

    fn share(&self, first: Instant, now: Instant) -> Share {
        let complete = self.download.is_complete();
        let end = if complete { self.last } else { now };
        Share {
            bytes: self.download.bytes(),
            first: self.first.map(|first| first - self.start),
            time: end.saturating_duration_since(first),
            complete,
            wrong: self.download.wrong(),
        }
    }
}

const NOTHING: Event = Event {
    flags: EventFlags::empty(),
    data: EventData::new_u64(0),
};

const BUFFER: usize = 256 * 1024;

/// The number of reads of one peer's socket in its turn.
const AT_ONCE: usize = 4;

const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

const STALLED: Duration = Duration::from_secs(5);
