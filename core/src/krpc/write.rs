//! The encoder: a [`Message`] into a datagram.

use core::net::SocketAddr;

use embedded_io::{SliceWriteError, Write};

use super::{Body, Message, NodeId, Query, Response, Want};
use crate::bencode::Writer;
use crate::tracker::write_compact;

impl Message<'_> {
    /// Writes the datagram; answers with its length in bytes, or `None` when `out` has no room.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let room = out.len();
        let mut writer = Writer::new(out);
        self.write(&mut writer).ok()?;
        room.checked_sub(writer.into_inner().len())
    }

    fn write(&self, out: &mut Out<'_>) -> Result {
        out.dict()?;
        match &self.body {
            Body::Query(id, query) => {
                out.key(b"a")?;
                query.write_arguments(*id, out)?;
            }
            Body::Error { code, reason } => {
                out.key(b"e")?;
                out.list()?;
                out.integer(*code)?;
                out.string(reason)?;
                out.end()?;
            }
            Body::Response(_) => {}
        }
        if let Some(observed) = self.observed {
            out.key(b"ip")?;
            out.string(write_compact(observed, &mut [0; 18]))?;
        }
        match &self.body {
            Body::Query(_, query) => string(out, b"q", query.method())?,
            Body::Response(response) => {
                out.key(b"r")?;
                response.write(out)?;
            }
            Body::Error { .. } => {}
        }
        flag(out, b"ro", self.read_only)?;
        string(out, b"t", self.transaction)?;
        if !self.version.is_empty() {
            string(out, b"v", self.version)?;
        }
        let kind: &[u8] = match self.body {
            Body::Query(..) => b"q",
            Body::Response(_) => b"r",
            Body::Error { .. } => b"e",
        };
        string(out, b"y", kind)?;
        out.end()
    }
}

impl Query<'_> {
    fn method(&self) -> &'static [u8] {
        match self {
            Query::Ping => b"ping",
            Query::FindNode { .. } => b"find_node",
            Query::GetPeers { .. } => b"get_peers",
            Query::AnnouncePeer { .. } => b"announce_peer",
            Query::SampleInfohashes { .. } => b"sample_infohashes",
            Query::Unknown => b"unknown",
        }
    }

    fn write_arguments(&self, id: NodeId, out: &mut Out<'_>) -> Result {
        out.dict()?;
        string(out, b"id", &id.0)?;
        match self {
            Query::Ping | Query::Unknown => {}
            Query::FindNode { target, want } | Query::SampleInfohashes { target, want } => {
                string(out, b"target", &target.0)?;
                want.write(out)?;
            }
            Query::GetPeers {
                info_hash,
                want,
                noseed,
                scrape,
            } => {
                string(out, b"info_hash", &info_hash.0)?;
                flag(out, b"noseed", *noseed)?;
                flag(out, b"scrape", *scrape)?;
                want.write(out)?;
            }
            Query::AnnouncePeer {
                info_hash,
                port,
                implied_port,
                token,
                seed,
            } => {
                flag(out, b"implied_port", *implied_port)?;
                string(out, b"info_hash", &info_hash.0)?;
                number(out, b"port", u32::from(*port))?;
                flag(out, b"seed", *seed)?;
                string(out, b"token", token)?;
            }
        }
        out.end()
    }
}

impl Want {
    fn write(self, out: &mut Out<'_>) -> Result {
        if self == Want::default() {
            return Ok(());
        }
        out.key(b"want")?;
        out.list()?;
        if self.v4 {
            out.string(b"n4")?;
        }
        if self.v6 {
            out.string(b"n6")?;
        }
        out.end()
    }
}

impl Response<'_> {
    fn write(&self, out: &mut Out<'_>) -> Result {
        out.dict()?;
        if let Some(blooms) = self.blooms {
            string(out, b"BFpe", blooms.peers)?;
            string(out, b"BFsd", blooms.seeds)?;
        }
        string(out, b"id", &self.id.0)?;
        if let Some(samples) = self.samples {
            number(out, b"interval", samples.interval_s)?;
        }
        for (key, nodes) in [(&b"nodes"[..], self.nodes), (b"nodes6", self.nodes6)] {
            if !nodes.bytes().is_empty() {
                string(out, key, nodes.bytes())?;
            }
        }
        if let Some(samples) = self.samples {
            number(out, b"num", samples.known)?;
            string(out, b"samples", samples.info_hashes)?;
        }
        if let Some(token) = self.token {
            string(out, b"token", token)?;
        }
        if !self.values.bytes().is_empty() {
            out.key(b"values")?;
            out.list()?;
            out.raw(self.values.bytes())?;
            out.end()?;
        }
        out.end()
    }
}

type Out<'a> = Writer<&'a mut [u8]>;
type Result = core::result::Result<(), SliceWriteError>;

fn string(out: &mut Out<'_>, key: &[u8], value: &[u8]) -> Result {
    out.key(key)?;
    out.string(value)
}

fn number(out: &mut Out<'_>, key: &[u8], value: u32) -> Result {
    out.key(key)?;
    out.integer(value.into())
}

/// A flag is left out if it is not set.
fn flag(out: &mut Out<'_>, key: &[u8], set: bool) -> Result {
    match set {
        true => number(out, key, 1),
        false => Ok(()),
    }
}

/// Appends a node to those in `out`, whose first `len` bytes are used; answers how many are used then, or `None`
/// when there is no room. Nodes of both families must not be mixed.
pub fn put_node(id: NodeId, addr: SocketAddr, out: &mut [u8], len: usize) -> Option<usize> {
    let mut compact = [0; 18];
    let compact = write_compact(addr, &mut compact);
    let mut rest = out.get_mut(len..)?;
    rest.write_all(&id.0).ok()?;
    rest.write_all(compact).ok()?;
    len.checked_add(20)?.checked_add(compact.len())
}

/// Appends a peer to those in `out`, whose first `len` bytes are used; answers how many are used then, or `None`
/// when there is no room.
pub fn put_value(addr: SocketAddr, out: &mut [u8], len: usize) -> Option<usize> {
    let mut compact = [0; 18];
    let compact = write_compact(addr, &mut compact);
    let room = out.len();
    let rest = out.get_mut(len..)?;
    let mut writer = Writer::new(rest);
    writer.string(compact).ok()?;
    room.checked_sub(writer.into_inner().len())
}
