//! The floor: a seeder of one file that does only what every seeder has to do. It sends a handshake, and answers each
//! request with the message's head and the file's bytes (`sendfile`), which a cork keeps in one packet. It has no
//! choking and no tracker, and trusts every peer. It is a yardstick, not a program for use.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

use everseed_tests::peer::{BITFIELD, InfoHash, PIECE, REQUEST, handshake, message};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::net::SendFlags;
use rustix::net::sockopt::{set_tcp_cork, set_tcp_nodelay};

use crate::data::Torrent;

/// The first word of its command line.
pub(crate) const COMMAND: &str = "floor";

/// The command line of the floor: this program with another first word.
pub(crate) fn command(torrent: &Torrent, data: &Path, listen: SocketAddr) -> Vec<String> {
    let this = std::env::current_exe().expect("the path of this program");
    vec![
        this.display().to_string(),
        COMMAND.to_owned(),
        listen.to_string(),
        torrent.hash.to_string(),
        torrent.piece_len.to_string(),
        data.join(&torrent.name).display().to_string(),
    ]
}

pub(crate) fn run(words: &[String]) -> ExitCode {
    let [listen, hash, piece_len, path] = words else {
        return ExitCode::from(2);
    };
    let piece_len: u64 = piece_len.parse().expect("a length");
    let file = File::open(path).expect("a file to seed");
    let len = file.metadata().expect("a length").len();
    let pieces = usize::try_from(len.div_ceil(piece_len)).expect("a number of pieces");
    let mut bits = vec![0xff_u8; pieces.div_ceil(8)];
    if let (Some(last), spare @ 1..) = (bits.last_mut(), pieces.div_ceil(8) * 8 - pieces) {
        *last <<= spare;
    }
    let mut hello = handshake(InfoHash::parse(hash), false);
    hello.extend(message(BITFIELD, &bits));
    hello.extend(message(UNCHOKE, &[]));
    let floor = Floor {
        file,
        piece_len,
        hello,
        poll: epoll::create(CreateFlags::CLOEXEC).expect("epoll"),
    };
    let listener = TcpListener::bind(listen).expect("a free address");
    floor.serve(&listener).expect("a working epoll");
    ExitCode::SUCCESS
}

struct Floor {
    file: File,
    piece_len: u64,
    hello: Vec<u8>,
    poll: OwnedFd,
}

struct Peer {
    stream: TcpStream,
    greeted: bool,
    /// Bytes that arrived and are no whole message yet.
    heard: Vec<u8>,
    /// Index, begin and length.
    requests: VecDeque<[u32; 3]>,
    /// Bytes sent of the answer to the first request.
    sent: u64,
    corked: bool,
    waits: bool,
}

impl Floor {
    fn serve(&self, listener: &TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        epoll::add(&self.poll, listener, LISTENER, EventFlags::IN)?;
        let mut peers: Vec<Option<Peer>> = Vec::new();
        let nothing = Event {
            flags: EventFlags::empty(),
            data: LISTENER,
        };
        let mut events = [nothing; 64];
        loop {
            let ready = epoll::wait(&self.poll, &mut events[..], None)?;
            for event in &events[..ready] {
                let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let Some(place) = peers.get_mut(number) else {
                    while let Ok((stream, _)) = listener.accept() {
                        let number = EventData::new_u64(peers.len() as u64);
                        peers.push(Some(self.greet(stream, number)?));
                    }
                    continue;
                };
                let Some(peer) = place else { continue };
                let ended = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
                let flags = event.flags;
                let heard = match flags.intersects(ended) {
                    true => peer.hear(&self.hello),
                    false => Ok(()),
                };
                if heard.and_then(|()| self.answer(number, peer)).is_err() {
                    *place = None;
                }
            }
        }
    }

    fn greet(&self, stream: TcpStream, number: EventData) -> io::Result<Peer> {
        stream.set_nonblocking(true)?;
        set_tcp_nodelay(&stream, true)?;
        epoll::add(&self.poll, &stream, number, EventFlags::IN)?;
        Ok(Peer {
            stream,
            greeted: false,
            heard: Vec::with_capacity(HEARD),
            requests: VecDeque::new(),
            sent: 0,
            corked: false,
            waits: false,
        })
    }

    /// Sends until there is nothing to send or the socket is full.
    fn answer(&self, number: usize, peer: &mut Peer) -> io::Result<()> {
        peer.cork(!peer.requests.is_empty())?;
        let full = loop {
            let Some(&request) = peer.requests.front() else {
                break false;
            };
            match self.send(peer, request) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) => return Err(error),
            }
        };
        if !full {
            peer.cork(false)?;
        }
        if full != peer.waits {
            peer.waits = full;
            let also = if full {
                EventFlags::OUT
            } else {
                EventFlags::empty()
            };
            let number = EventData::new_u64(number as u64);
            epoll::modify(&self.poll, &peer.stream, number, EventFlags::IN | also)?;
        }
        Ok(())
    }

    /// Sends a part of an answer.
    fn send(&self, peer: &mut Peer, [index, begin, len]: [u32; 3]) -> io::Result<()> {
        if let Ok(sent @ ..HEAD) = usize::try_from(peer.sent) {
            let mut head = [0; HEAD];
            head[..4].copy_from_slice(&(len + 9).to_be_bytes());
            head[4] = PIECE;
            head[5..9].copy_from_slice(&index.to_be_bytes());
            head[9..].copy_from_slice(&begin.to_be_bytes());
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            peer.sent += rustix::net::send(&peer.stream, &head[sent..], flags)? as u64;
        } else {
            let sent = peer.sent - HEAD as u64;
            let mut at = u64::from(index) * self.piece_len + u64::from(begin) + sent;
            let left = usize::try_from(u64::from(len) - sent).unwrap_or(0);
            let now = rustix::fs::sendfile(&peer.stream, &self.file, Some(&mut at), left)?;
            if now == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            peer.sent += now as u64;
            if now == left {
                peer.sent = 0;
                peer.requests.pop_front();
            }
        }
        Ok(())
    }
}

impl Peer {
    /// Reads and decodes what arrived. The end of the connection is an error.
    fn hear(&mut self, hello: &[u8]) -> io::Result<()> {
        let mut bytes = [0; HEARD];
        let len = self.stream.read(&mut bytes)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.heard.extend_from_slice(&bytes[..len]);
        let mut rest = &self.heard[..];
        if !self.greeted {
            let Some((_, after)) = rest.split_at_checked(HANDSHAKE) else {
                return Ok(());
            };
            rest = after;
            self.greeted = true;
            self.stream.write_all(hello)?;
        }
        while let Some((word, after)) = rest.split_first_chunk() {
            let Some((body, after)) = after.split_at_checked(u32::from_be_bytes(*word) as usize)
            else {
                break;
            };
            if let [REQUEST, words @ ..] = body {
                let mut words = words
                    .as_chunks()
                    .0
                    .iter()
                    .map(|word| u32::from_be_bytes(*word));
                let request = [(); 3].map(|()| words.next().unwrap_or(0));
                self.requests.push_back(request);
            }
            rest = after;
        }
        let done = self.heard.len() - rest.len();
        self.heard.drain(..done);
        Ok(())
    }

    fn cork(&mut self, corked: bool) -> io::Result<()> {
        if self.corked != corked {
            set_tcp_cork(&self.stream, corked)?;
            self.corked = corked;
        }
        Ok(())
    }
}

const LISTENER: EventData = EventData::new_u64(u64::MAX);
const HANDSHAKE: usize = 68;
const UNCHOKE: u8 = 1;
/// Bytes of a piece message before its block.
const HEAD: usize = 13;
/// Bytes that are read at a time.
const HEARD: usize = 4096;
