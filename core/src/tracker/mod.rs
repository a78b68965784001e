//! The tracker protocols: requests of peers and answers of trackers, over HTTP and UDP.
//!
//! | module | what it is | source |
//! |---|---|---|
//! | [`http`] | the query of an announce and the answer to it | BEP 3, 7, 23, 31 |
//! | [`reply`] | what a tracker answers over HTTP | BEP 3, 7, 23, 48 |
//! | [`udp`] | packets of the UDP protocol | BEP 15, 41 |
//!
//! Peers in an answer are handed on one by one. None is collected here, so the memory that an answer needs does
//! not grow with it. When to announce is the business of the node's announcer;
//! names, sockets and TLS are the host's.

pub mod http;
pub mod reply;
pub mod udp;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::hash::InfoHash;
use crate::text::printable;
use crate::wire::PeerId;

/// Why an announce is made (BEP 3, `event`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum AnnounceEvent {
    /// An announce between the first and the last.
    #[default]
    None,
    /// The first announce.
    Started,
    /// The last piece has just arrived.
    Completed,
    /// The last announce.
    Stopped,
}

/// What a peer tells a tracker about itself and one torrent (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer id of the peer that reports.
    pub peer_id: PeerId,
    /// The TCP port on which it can be reached by IPv4; also told to a tracker whose family is not known.
    pub port: u16,
    /// The TCP port on which it can be reached by IPv6. It differs where a router forwards another port for IPv4.
    pub port_v6: u16,
    /// Bytes of content sent since `started`.
    pub uploaded: u64,
    /// Bytes of content received since `started`.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// A number known to this peer and the tracker only, by which the tracker knows the peer again
    /// when its address has changed.
    pub key: u32,
    /// How many peers are asked for; `stopped` asks for none whatever stands here.
    pub num_want: u16,
    /// Why the announce is made.
    pub event: AnnounceEvent,
}

impl Report {
    /// The report for a tracker that is called by an address of this family.
    pub fn by(&self, family: Family) -> Report {
        let port = match family {
            Family::V4 => self.port,
            Family::V6 => self.port_v6,
        };
        Report { port, ..*self }
    }

    fn num_want(&self) -> u16 {
        match self.event {
            AnnounceEvent::Stopped => 0,
            _ => self.num_want,
        }
    }
}

/// An address family; a tracker knows a dual-stack peer by one address of each (BEP 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address. An IPv6 address that stands for an IPv4 one counts as IPv6; see
    /// [`IpAddr::to_canonical`].
    pub const fn of(ip: IpAddr) -> Family {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bytes of a compact peer: the address and two bytes of port (BEP 23, BEP 7).
    pub const fn compact_len(self) -> usize {
        match self {
            Family::V4 => 6,
            Family::V6 => 18,
        }
    }
}

/// Writes a compact peer (BEP 23, BEP 7) into a buffer that has room for any; answers with the part
/// that is filled.
pub fn write_compact(peer: SocketAddr, out: &mut [u8; 18]) -> &[u8] {
    let [high, low] = peer.port().to_be_bytes();
    let len = Family::of(peer.ip()).compact_len();
    let mut put = |octets: &[u8]| {
        for (to, from) in out.iter_mut().zip(octets.iter().chain(&[high, low])) {
            *to = *from;
        }
    };
    match peer.ip() {
        IpAddr::V4(ip) => put(&ip.octets()),
        IpAddr::V6(ip) => put(&ip.octets()),
    }
    out.get(..len).unwrap_or_default()
}

/// Compact peers (BEP 23, BEP 7), one after the other. A rest that is no whole peer is left out.
#[derive(Clone, Copy, Debug)]
pub struct CompactPeers<'a> {
    bytes: &'a [u8],
    family: Family,
}

impl<'a> CompactPeers<'a> {
    /// The peers in `bytes`.
    pub const fn new(bytes: &'a [u8], family: Family) -> CompactPeers<'a> {
        CompactPeers { bytes, family }
    }
}

impl Iterator for CompactPeers<'_> {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let (peer, rest) = self.bytes.split_at_checked(self.family.compact_len())?;
        self.bytes = rest;
        let (ip, port) = peer.split_last_chunk::<2>()?;
        let ip = match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }
}

/// How long to wait between announces, in seconds.
///
/// A tracker may say anything. A missing interval counts as [`DEFAULT_INTERVAL_S`](Intervals::DEFAULT_INTERVAL_S), and
/// both numbers are clamped to [`MIN_INTERVAL_S`](Intervals::MIN_INTERVAL_S) and
/// [`MAX_INTERVAL_S`](Intervals::MAX_INTERVAL_S).
///
/// Invariant: `MIN_INTERVAL_S <= min_interval_s <= interval_s <= MAX_INTERVAL_S`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intervals {
    interval_s: u32,
    min_interval_s: u32,
}

impl Intervals {
    /// What is assumed of a tracker that names no interval: half an hour.
    pub const DEFAULT_INTERVAL_S: u32 = 1800;
    /// The shortest interval that is believed: a minute.
    pub const MIN_INTERVAL_S: u32 = 60;
    /// The longest interval that is believed: a day.
    pub const MAX_INTERVAL_S: u32 = 86_400;

    /// The intervals that are used, from the numbers that a tracker told in seconds. An interval that is shorter
    /// than the minimum that came with it is raised to that.
    pub fn told(interval: Option<i64>, min_interval: Option<i64>) -> Intervals {
        let sane = |told: i64| {
            let s = u32::try_from(told.max(0)).unwrap_or(u32::MAX);
            s.clamp(Self::MIN_INTERVAL_S, Self::MAX_INTERVAL_S)
        };
        let interval = interval.filter(|&s| s > 0);
        let interval_s = interval.map_or(Self::DEFAULT_INTERVAL_S, sane);
        let min_interval_s = min_interval.map_or(Self::MIN_INTERVAL_S, sane);
        Intervals {
            interval_s: interval_s.max(min_interval_s),
            min_interval_s,
        }
    }

    /// Seconds between regular announces.
    pub const fn interval_s(self) -> u32 {
        self.interval_s
    }

    /// The longer interval of two answers, and the longer minimum.
    #[must_use]
    pub fn longer(self, other: Intervals) -> Intervals {
        Intervals {
            interval_s: self.interval_s.max(other.interval_s),
            min_interval_s: self.min_interval_s.max(other.min_interval_s),
        }
    }

    /// Seconds below which the tracker does not want to be asked again.
    pub const fn min_interval_s(self) -> u32 {
        self.min_interval_s
    }
}

/// Numbers about a torrent (BEP 15, BEP 48).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrape {
    /// Peers that are complete.
    pub complete: u32,
    /// How often a peer became complete.
    pub downloaded: u32,
    /// Peers that are downloading.
    pub incomplete: u32,
}

/// A reason or warning in a tracker's words, fit to be [shown](crate::text::printable).
pub type Text = heapless::String<96>;

/// A tracker's words without what stands around them: line ends, zeros that end a text.
pub(crate) fn words(bytes: &[u8]) -> Text {
    let mut words = bytes;
    while let [b'\0' | b'\t'..=b'\r' | b' ', rest @ ..] = words {
        words = rest;
    }
    while let [rest @ .., b'\0' | b'\t'..=b'\r' | b' '] = words {
        words = rest;
    }
    printable(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn compact_both_ways() {
        let peers: [SocketAddr; 3] = [
            "192.0.2.7:6881".parse().unwrap(),
            "[2001:db8::9]:51413".parse().unwrap(),
            "255.255.255.255:65535".parse().unwrap(),
        ];
        for peer in peers {
            let mut room = [0; 18];
            let bytes = write_compact(peer, &mut room);
            let family = Family::of(peer.ip());
            assert_eq!(bytes.len(), family.compact_len());
            let back: Vec<_> = CompactPeers::new(bytes, family).collect();
            assert_eq!(back, [peer]);
        }
        let two_and_a_half = [1u8; 15];
        assert_eq!(CompactPeers::new(&two_and_a_half, Family::V4).count(), 2);
        assert_eq!(CompactPeers::new(&two_and_a_half, Family::V6).count(), 0);
    }

    #[test]
    fn what_stands_around_words_is_left_out() {
        for (bytes, expected) in [
            (
                &b"Connection ID missmatch.\0"[..],
                "Connection ID missmatch.",
            ),
            (b"\r\n not registered\r\n\0", "not registered"),
            (b"two\nlines", "two?lines"),
            (b" \0\n", ""),
            (b"", ""),
        ] {
            assert_eq!(words(bytes), expected);
        }
    }

    #[test]
    fn intervals_are_sane() {
        let table = [
            ((None, None), (1800, 60)),
            ((Some(0), Some(0)), (1800, 60)),
            ((Some(-5), Some(-5)), (1800, 60)),
            ((Some(1), None), (60, 60)),
            ((Some(900), Some(300)), (900, 300)),
            ((Some(300), Some(900)), (900, 900)),
            ((Some(i64::MAX), None), (86_400, 60)),
            ((None, Some(i64::MAX)), (86_400, 86_400)),
        ];
        for ((interval, min), expected) in table {
            let kept = Intervals::told(interval, min);
            assert_eq!(
                (kept.interval_s(), kept.min_interval_s()),
                expected,
                "{interval:?} {min:?}"
            );
        }
    }
}
