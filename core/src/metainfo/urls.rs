//! Trackers and web seeds, one at a time.
//!
//! White space, NUL and a byte order mark around a URL are cut off: torrents that were typed by hand have them. Of
//! several lines in one place the first is taken. A URL is skipped that is empty, longer than [`MAX_URL`] bytes or no
//! UTF-8. So is one with a control character, which could end a line of an HTTP request.

use core::ops::Range;

use embedded_io::{Read, Seek};

use super::{Metainfo, RereadError, value_at};
use crate::bencode::{Error, Reader, Type};
use crate::hash::Sha1;

/// The longest URL that is used, in bytes, with the white space around it.
pub const MAX_URL: usize = 2048;

/// A cursor over the trackers of a torrent (BEP 12).
#[derive(Debug)]
pub struct Trackers<R> {
    /// `None` when there are none, or no more.
    reader: Option<Reader<R>>,
    place: Level,
    /// The number of the next tier, and whether the current one has had a URL.
    tier: u16,
    used: bool,
    url: [u8; MAX_URL],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    /// At a single URL.
    One,
    /// In the list of tiers.
    Tiers,
    /// In a tier, at this depth of lists in it.
    Tier(u8),
}

impl<R: Read + Seek> Trackers<R> {
    pub(super) fn new(
        metainfo: &Metainfo,
        torrent: R,
    ) -> Result<Trackers<R>, RereadError<R::Error>> {
        let at = metainfo.announce_list_at.or(metainfo.announce_at);
        let mut reader = at.map(|at| value_at(torrent, at.get())).transpose()?;
        let mut place = Level::One;
        if let Some(reader) = &mut reader
            && reader.peek()? == Type::List
        {
            reader.list()?;
            place = Level::Tiers;
        }
        Ok(Trackers {
            reader,
            place,
            tier: 0,
            used: false,
            url: [0; MAX_URL],
        })
    }

    /// The next tracker and the tier that it is in, from 0 on without gaps; `None` after the last.
    #[allow(clippy::should_implement_trait)] // It lends the URL, which `Iterator` cannot.
    pub fn next(&mut self) -> Result<Option<(u16, &str)>, RereadError<R::Error>> {
        let place = loop {
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            match self.place {
                Level::One => {
                    let found = usable(reader, &mut self.url)?;
                    self.reader = None;
                    match found {
                        Some(place) => break place,
                        None => return Ok(None),
                    }
                }
                Level::Tiers if !reader.more()? => self.reader = None,
                Level::Tiers => match reader.peek()? {
                    Type::List => {
                        reader.list()?;
                        self.place = Level::Tier(0);
                    }
                    // Some torrents list trackers without tiers. Then each tracker is a tier of its own.
                    Type::String => {
                        if let Some(place) = usable(reader, &mut self.url)? {
                            self.used = true;
                            break place;
                        }
                    }
                    _ => reader.skip()?,
                },
                Level::Tier(depth) if reader.more()? => {
                    if reader.peek()? == Type::List && depth < u8::MAX {
                        reader.list()?;
                        self.place = Level::Tier(depth.saturating_add(1));
                    } else if let Some(place) = usable(reader, &mut self.url)? {
                        self.used = true;
                        break place;
                    }
                }
                Level::Tier(0) => {
                    self.place = Level::Tiers;
                    self.close_tier();
                }
                Level::Tier(depth) => self.place = Level::Tier(depth.saturating_sub(1)),
            }
        };
        let tier = self.tier;
        if self.place == Level::Tiers {
            self.close_tier();
        }
        let url = self.url.get(place).unwrap_or_default();
        Ok(Some((tier, str::from_utf8(url).unwrap_or_default())))
    }

    fn close_tier(&mut self) {
        self.tier = self.tier.saturating_add(u16::from(self.used));
        self.used = false;
    }
}

/// A cursor over the web seeds of a torrent (BEP 19).
#[derive(Debug)]
pub struct WebSeeds<R> {
    reader: Option<Reader<R>>,
    list: bool,
    url: [u8; MAX_URL],
}

impl<R: Read + Seek> WebSeeds<R> {
    pub(super) fn new(
        metainfo: &Metainfo,
        torrent: R,
    ) -> Result<WebSeeds<R>, RereadError<R::Error>> {
        let at = metainfo.url_list_at;
        let mut reader = at.map(|at| value_at(torrent, at.get())).transpose()?;
        let mut list = false;
        if let Some(reader) = &mut reader
            && reader.peek()? == Type::List
        {
            reader.list()?;
            list = true;
        }
        Ok(WebSeeds {
            reader,
            list,
            url: [0; MAX_URL],
        })
    }

    /// The next web seed, or `None` after the last.
    #[allow(clippy::should_implement_trait)] // It lends the URL, which `Iterator` cannot.
    pub fn next(&mut self) -> Result<Option<&str>, RereadError<R::Error>> {
        let place = loop {
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            if self.list && !reader.more()? {
                self.reader = None;
                continue;
            }
            let found = usable(reader, &mut self.url)?;
            if !self.list {
                self.reader = None;
            }
            if let Some(place) = found {
                break place;
            }
        };
        let url = self.url.get(place).unwrap_or_default();
        Ok(Some(str::from_utf8(url).unwrap_or_default()))
    }
}

/// Reads a value into `room`. Returns its range there if it is a URL that can be used.
pub(super) fn usable<R: Read, H: Sha1>(
    reader: &mut Reader<R, H>,
    room: &mut [u8],
) -> Result<Option<Range<usize>>, Error<R::Error>> {
    if reader.peek()? != Type::String {
        reader.skip()?;
        return Ok(None);
    }
    reader.string_len()?;
    let mut taken = 0usize;
    while let Some(chunk) = reader.chunk()? {
        let end = taken.saturating_add(chunk.len());
        if let Some(place) = room.get_mut(taken..end) {
            place.copy_from_slice(chunk);
        }
        taken = end;
    }
    let text = room.get(..taken).and_then(|url| str::from_utf8(url).ok());
    Ok(text.and_then(url_within))
}

/// The range of the URL in `text`, if there is one.
fn url_within(text: &str) -> Option<Range<usize>> {
    let around = |c: char| c.is_ascii_whitespace() || matches!(c, '\0' | '\u{feff}');
    let rest = text.trim_start_matches(around);
    let start = text.len().checked_sub(rest.len())?;
    let url = rest.split(['\r', '\n']).next()?.trim_end_matches(around);
    let good = !url.is_empty() && !url.contains(char::is_control);
    good.then_some(start..start.checked_add(url.len())?)
}
