//! The decoder: a [`Message`] from a datagram.

use core::net::SocketAddr;

use embedded_io::ErrorType;

use super::{
    Bloom, Blooms, Body, Message, NodeId, Query, Response, Samples, TOKEN_MAX, TRANSACTION_MAX,
    Want,
};
use crate::bencode::{Error, Reader, Type};
use crate::tracker::{CompactPeers, Family};

/// A datagram makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It is not bencoded, or no dictionary.
    NotBencoded,
    /// It does not say what it is, or lacks what its kind must have.
    Incomplete,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let fields = Fields::read(bytes).map_err(|_| Malformed::NotBencoded)?;
        fields.message().ok_or(Malformed::Incomplete)
    }
}

/// What was found in a datagram, in whatever order.
#[derive(Default)]
struct Fields<'a> {
    kind: &'a [u8],
    transaction: Option<&'a [u8]>,
    version: &'a [u8],
    read_only: bool,
    observed: Option<SocketAddr>,
    method: &'a [u8],
    arguments: Arguments<'a>,
    values: Option<Returned<'a>>,
    error: (i64, &'a [u8]),
}

/// The arguments of a query.
#[derive(Default)]
struct Arguments<'a> {
    id: Option<NodeId>,
    target: Option<NodeId>,
    info_hash: Option<NodeId>,
    want: Want,
    token: Option<&'a [u8]>,
    port: Option<u16>,
    implied_port: bool,
    seed: bool,
    noseed: bool,
    scrape: bool,
}

/// What an answer returns.
#[derive(Default)]
struct Returned<'a> {
    id: Option<NodeId>,
    token: Option<&'a [u8]>,
    nodes: &'a [u8],
    nodes6: &'a [u8],
    values: &'a [u8],
    seeds: Option<&'a [u8; Bloom::BYTES]>,
    peers: Option<&'a [u8; Bloom::BYTES]>,
    samples: Option<&'a [u8]>,
    known: u32,
    interval_s: u32,
}

type Fault = Error<<&'static [u8] as ErrorType>::Error>;

/// A reader that knows where it is in the datagram.
struct Cursor<'a> {
    bytes: &'a [u8],
    reader: Reader<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Fields<'a>, Fault> {
        let mut fields = Fields::default();
        let mut source = Cursor {
            bytes,
            reader: Reader::new(bytes),
        };
        let mut room = KEY;
        source.reader.dict()?;
        while let Some(key) = source.reader.key(&mut room)? {
            match (key, source.reader.peek()?) {
                (b"y", Type::String) if fields.kind.is_empty() => fields.kind = source.string()?,
                (b"t", Type::String) if fields.transaction.is_none() => {
                    fields.transaction = Some(source.string()?);
                }
                (b"q", Type::String) if fields.method.is_empty() => {
                    fields.method = source.string()?;
                }
                (b"v", Type::String) => fields.version = source.string()?,
                (b"ip", Type::String) => fields.observed = observed(source.string()?),
                (b"ro", Type::Integer) => {
                    fields.read_only = source.reader.integer_clamped()? != 0;
                }
                (b"a", Type::Dict) if fields.arguments.id.is_none() => {
                    fields.arguments = Arguments::read(&mut source)?;
                }
                (b"r", Type::Dict) if fields.values.is_none() => {
                    fields.values = Some(Returned::read(&mut source)?);
                }
                (b"e", Type::List) => fields.error = source.error()?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn message(self) -> Option<Message<'a>> {
        let body = match self.kind {
            b"q" => self.arguments.query(self.method)?,
            b"r" => Body::Response(self.values?.response()?),
            b"e" => Body::Error {
                code: self.error.0,
                reason: self.error.1,
            },
            _ => return None,
        };
        Some(Message {
            transaction: self
                .transaction
                .filter(|transaction| transaction.len() <= TRANSACTION_MAX)?,
            version: self.version,
            read_only: self.read_only,
            observed: self.observed,
            body,
        })
    }
}

impl<'a> Arguments<'a> {
    fn read(source: &mut Cursor<'a>) -> Result<Arguments<'a>, Fault> {
        let mut found = Arguments::default();
        let mut room = KEY;
        source.reader.dict()?;
        while let Some(key) = source.reader.key(&mut room)? {
            match (key, source.reader.peek()?) {
                (b"id", Type::String) => found.id = found.id.or(id(source.string()?)),
                (b"target", Type::String) => found.target = found.target.or(id(source.string()?)),
                (b"info_hash", Type::String) => {
                    found.info_hash = found.info_hash.or(id(source.string()?));
                }
                (b"token", Type::String) if found.token.is_none() => {
                    found.token = Some(source.string()?);
                }
                (b"want", Type::List) => found.want = source.want()?,
                (b"port", Type::Integer) => {
                    found.port = u16::try_from(source.reader.integer_clamped()?).ok();
                }
                (b"implied_port", Type::Integer) => found.implied_port = source.flag()?,
                (b"seed", Type::Integer) => found.seed = source.flag()?,
                (b"noseed", Type::Integer) => found.noseed = source.flag()?,
                (b"scrape", Type::Integer) => found.scrape = source.flag()?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// The query of this name. If an argument is missing, there is none.
    fn query(self, method: &[u8]) -> Option<Body<'a>> {
        let want = self.want;
        let query = match method {
            b"ping" => Query::Ping,
            b"find_node" => Query::FindNode {
                target: self.target?,
                want,
            },
            b"get_peers" => Query::GetPeers {
                info_hash: self.info_hash?,
                want,
                noseed: self.noseed,
                scrape: self.scrape,
            },
            b"announce_peer" => Query::AnnouncePeer {
                info_hash: self.info_hash?,
                port: match self.implied_port {
                    true => self.port.unwrap_or(0),
                    false => self.port.filter(|&port| port > 0)?,
                },
                implied_port: self.implied_port,
                token: self.token.filter(|token| token.len() <= TOKEN_MAX)?,
                seed: self.seed,
            },
            b"sample_infohashes" => Query::SampleInfohashes {
                target: self.target?,
                want,
            },
            _ => match self.target.or(self.info_hash) {
                Some(target) => Query::FindNode { target, want },
                None => Query::Unknown,
            },
        };
        Some(Body::Query(self.id?, query))
    }
}

impl<'a> Returned<'a> {
    fn read(source: &mut Cursor<'a>) -> Result<Returned<'a>, Fault> {
        let mut found = Returned::default();
        let mut room = KEY;
        source.reader.dict()?;
        while let Some(key) = source.reader.key(&mut room)? {
            match (key, source.reader.peek()?) {
                (b"id", Type::String) => found.id = found.id.or(id(source.string()?)),
                (b"token", Type::String) if found.token.is_none() => {
                    let token = source.string()?;
                    found.token = Some(token).filter(|token| token.len() <= TOKEN_MAX);
                }
                (b"nodes", Type::String) => found.nodes = source.string()?,
                (b"nodes6", Type::String) => found.nodes6 = source.string()?,
                (b"values", Type::List) => found.values = source.strings()?,
                (b"BFsd", Type::String) => found.seeds = source.string()?.try_into().ok(),
                (b"BFpe", Type::String) => found.peers = source.string()?.try_into().ok(),
                (b"samples", Type::String) => found.samples = Some(source.string()?),
                (b"num", Type::Integer) => found.known = source.count()?,
                (b"interval", Type::Integer) => found.interval_s = source.count()?,
                _ => {}
            }
        }
        Ok(found)
    }

    fn response(self) -> Option<Response<'a>> {
        let blooms = self.seeds.zip(self.peers);
        Some(Response {
            id: self.id?,
            token: self.token,
            nodes: Nodes::v4(self.nodes),
            nodes6: Nodes::v6(self.nodes6),
            values: Values::new(self.values),
            blooms: blooms.map(|(seeds, peers)| Blooms { seeds, peers }),
            samples: self.samples.map(|info_hashes| Samples {
                interval_s: self.interval_s,
                known: self.known,
                info_hashes: info_hashes.as_chunks::<20>().0.as_flattened(),
            }),
        })
    }
}

impl<'a> Cursor<'a> {
    /// Where the reader is.
    fn at(&self) -> usize {
        usize::try_from(self.reader.offset()).unwrap_or(usize::MAX)
    }

    /// The byte string that comes next, where it stands in the datagram.
    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(self.reader.string_len()?).unwrap_or(usize::MAX);
        let start = self.at();
        // What ends too soon is told by whatever is read next.
        let end = start.saturating_add(len);
        Ok(self.bytes.get(start..end).unwrap_or_default())
    }

    /// The items of a list, as they are written.
    fn strings(&mut self) -> Result<&'a [u8], Fault> {
        self.reader.list()?;
        let (start, mut end) = (self.at(), self.at());
        while self.reader.more()? {
            self.reader.skip()?;
            end = self.at();
        }
        Ok(self.bytes.get(start..end).unwrap_or_default())
    }

    fn want(&mut self) -> Result<Want, Fault> {
        let mut want = Want::default();
        self.reader.list()?;
        while self.reader.more()? {
            match self.reader.peek()? {
                Type::String => match self.string()? {
                    b"n4" => want.v4 = true,
                    b"n6" => want.v6 = true,
                    _ => {}
                },
                _ => self.reader.skip()?,
            }
        }
        Ok(want)
    }

    /// A number and words, as far as they are there.
    fn error(&mut self) -> Result<(i64, &'a [u8]), Fault> {
        let mut error = (0, &[][..]);
        self.reader.list()?;
        while self.reader.more()? {
            match self.reader.peek()? {
                Type::Integer => error.0 = self.reader.integer_clamped()?,
                Type::String => error.1 = self.string()?,
                _ => self.reader.skip()?,
            }
        }
        Ok(error)
    }

    fn flag(&mut self) -> Result<bool, Fault> {
        Ok(self.reader.integer_clamped()? != 0)
    }

    fn count(&mut self) -> Result<u32, Fault> {
        let count = self.reader.integer_clamped()?.max(0);
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

fn id(bytes: &[u8]) -> Option<NodeId> {
    bytes.try_into().ok().map(NodeId)
}

fn observed(bytes: &[u8]) -> Option<SocketAddr> {
    address(bytes).filter(|addr| !addr.ip().is_unspecified())
}

/// One compact address, of the family that its length tells.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let families = [Family::V4, Family::V6];
    let family = families
        .into_iter()
        .find(|f| f.compact_len() == bytes.len());
    CompactPeers::new(bytes, family?).next()
}

/// Room for a key: longer than any that is known, so that none is taken for the start of another.
const KEY: [u8; 16] = [0; 16];

/// Nodes, each an id and a compact address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nodes<'a> {
    bytes: &'a [u8],
    v6: bool,
}

impl<'a> Nodes<'a> {
    /// Nodes of 26 bytes each (BEP 5).
    pub const fn v4(bytes: &'a [u8]) -> Nodes<'a> {
        Nodes { bytes, v6: false }
    }

    /// Nodes of 38 bytes each (BEP 32).
    pub const fn v6(bytes: &'a [u8]) -> Nodes<'a> {
        Nodes { bytes, v6: true }
    }

    /// As they are on the wire.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl Iterator for Nodes<'_> {
    type Item = (NodeId, SocketAddr);

    /// A rest that is no whole node is left out.
    fn next(&mut self) -> Option<(NodeId, SocketAddr)> {
        let len = if self.v6 { 18 } else { 6 };
        let (node, rest) = self.bytes.split_first_chunk::<20>()?;
        let (addr, rest) = rest.split_at_checked(len)?;
        self.bytes = rest;
        Some((NodeId(*node), address(addr)?))
    }
}

/// Peers, each a byte string of a compact address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Values<'a> {
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    /// The items of a bencoded list.
    pub const fn new(bytes: &'a [u8]) -> Values<'a> {
        Values { bytes }
    }

    /// As they are on the wire.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let colon = self.bytes.iter().take(6).position(|&byte| byte == b':')?;
        let (digits, rest) = self.bytes.split_at_checked(colon)?;
        let len = digits.iter().try_fold(0usize, |len, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            len.checked_mul(10)?.checked_add(digit as usize)
        })?;
        let (_, rest) = rest.split_first()?;
        let (string, rest) = rest.split_at_checked(len)?;
        self.bytes = rest;
        Some(string)
    }
}

impl Iterator for Values<'_> {
    type Item = SocketAddr;

    /// Strings of another length are passed over; what is no string ends the list.
    fn next(&mut self) -> Option<SocketAddr> {
        loop {
            if let Some(peer) = address(self.string()?) {
                return Some(peer);
            }
        }
    }
}
