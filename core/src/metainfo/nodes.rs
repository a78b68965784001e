//! Nodes of the distributed hash table that a torrent names, one at a time (BEP 5, "Torrent file extensions").
//!
//! Entries without a host and a port are skipped. So are those with a host longer than a host name can be.

use embedded_io::{Read, Seek};

use super::urls::usable;
use super::{Metainfo, RereadError, value_at};
use crate::bencode::{Reader, Type};

/// A cursor over the nodes of a torrent.
#[derive(Debug)]
pub struct DhtNodes<R> {
    /// `None` when there are none, or no more.
    reader: Option<Reader<R>>,
    host: [u8; MAX_HOST],
}

impl<R: Read + Seek> DhtNodes<R> {
    pub(super) fn new(
        metainfo: &Metainfo,
        torrent: R,
    ) -> Result<DhtNodes<R>, RereadError<R::Error>> {
        let at = metainfo.nodes_at;
        let mut reader = at.map(|at| value_at(torrent, at.get())).transpose()?;
        if let Some(reader) = &mut reader {
            reader.list()?;
        }
        let host = [0; MAX_HOST];
        Ok(DhtNodes { reader, host })
    }

    /// The next node, its host and its port, or `None` after the last.
    #[allow(clippy::should_implement_trait)] // It lends the host, which `Iterator` cannot.
    pub fn next(&mut self) -> Result<Option<(&str, u16)>, RereadError<R::Error>> {
        let (place, port) = loop {
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            if !reader.more()? {
                self.reader = None;
                continue;
            }
            if reader.peek()? != Type::List {
                reader.skip()?;
                continue;
            }
            reader.list()?;
            let (mut host, mut port) = (None, 0);
            for field in 0_usize.. {
                if !reader.more()? {
                    break;
                }
                match field {
                    0 => host = usable(reader, &mut self.host)?,
                    1 if reader.peek()? == Type::Integer => {
                        port = u16::try_from(reader.integer_clamped()?).unwrap_or(0);
                    }
                    _ => reader.skip()?,
                }
            }
            if let (Some(place), 1..) = (host, port) {
                break (place, port);
            }
        };
        let host = self.host.get(place).unwrap_or_default();
        Ok(Some((str::from_utf8(host).unwrap_or_default(), port)))
    }
}

/// The longest name of a host, in bytes.
const MAX_HOST: usize = 255;
