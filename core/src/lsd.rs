//! LSD, local service discovery (BEP 14): multicast packets that name the torrents of their sender.
//!
//! A packet looks like an HTTP request. It names the port on which its sender accepts peers, and any number of
//! info-hashes. Senders receive their own packets too, and recognize them by a cookie.

use core::fmt::Write as _;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::hash::InfoHash;
use crate::text::Bytes;
use crate::tracker::Family;

/// The multicast group of packets by IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// See [`GROUP_V4`].
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The UDP port of both groups.
pub const PORT: u16 = 6771;

/// The longest packet that is written, in bytes: short enough that no local network fragments it.
pub const PACKET_MAX: usize = 1400;

/// A `BT-SEARCH` packet.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The port on which its sender accepts peers, not 0.
    pub port: u16,
    /// By this the sender recognizes its own packets; empty if there is none.
    pub cookie: &'a [u8],
    packet: &'a [u8],
}

impl<'a> Search<'a> {
    /// Reads a packet; `None` if it is of another kind, or names no port.
    pub fn read(packet: &'a [u8]) -> Option<Search<'a>> {
        let (first, _) = split_line(packet);
        let version = first.strip_prefix(FIRST)?;
        if !version.starts_with(b"1.") {
            return None;
        }
        let mut search = Search {
            port: 0,
            cookie: b"",
            packet,
        };
        for (name, value) in search.headers() {
            if name.eq_ignore_ascii_case(b"port") {
                search.port = number(value)?;
            } else if name.eq_ignore_ascii_case(b"cookie") {
                search.cookie = value;
            }
        }
        (search.port > 0).then_some(search)
    }

    /// The torrents that it names, at most [`INFO_HASHES_MAX`]. Values that are no info-hash are skipped.
    pub fn info_hashes(self) -> impl Iterator<Item = InfoHash> + 'a {
        let named = |(name, _): &(&[u8], _)| name.eq_ignore_ascii_case(b"infohash");
        let named = self.headers().filter(named);
        named
            .filter_map(|(_, value)| InfoHash::from_hex(value))
            .take(INFO_HASHES_MAX)
    }

    /// The names and values of the headers.
    fn headers(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (_, mut rest) = split_line(self.packet);
        core::iter::from_fn(move || {
            loop {
                let (line, after) = split_line(rest);
                rest = after;
                if line.is_empty() {
                    return None;
                }
                let mut parts = line.splitn(2, |&b| b == b':');
                if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                    return Some((name.trim_ascii(), value.trim_ascii()));
                }
            }
        })
    }
}

/// The most info-hashes that are read from a packet.
pub const INFO_HASHES_MAX: usize = 64;

/// The most torrents that are written into a packet.
pub const PER_PACKET: usize = 25;

/// Writes a packet for the group of a family. It names at most [`PER_PACKET`] torrents, the `port` on which we accept
/// peers, and the `cookie` by which we recognize our own packets.
///
/// Returns its length in bytes, at most [`PACKET_MAX`], or `None` if it does not fit in `out`.
pub fn write(
    family: Family,
    port: u16,
    cookie: u32,
    torrents: &[InfoHash],
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Bytes::new(out);
    out.put(b"BT-SEARCH * HTTP/1.1\r\nHost: ")?;
    match family {
        Family::V4 => write!(out, "{GROUP_V4}:{PORT}").ok()?,
        Family::V6 => write!(out, "[{GROUP_V6}]:{PORT}").ok()?,
    }
    write!(out, "\r\nPort: {port}\r\n").ok()?;
    for info_hash in torrents.iter().take(PER_PACKET) {
        write!(out, "Infohash: {info_hash}\r\n").ok()?;
    }
    write!(out, "cookie: {cookie:08x}\r\n\r\n\r\n").ok()?;
    Some(out.len())
}

/// Splits text after its first line. Returns the line without its end, and the rest.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |&b| b == b'\n');
    let line = parts.next().unwrap_or_default();
    (
        line.strip_suffix(b"\r").unwrap_or(line),
        parts.next().unwrap_or_default(),
    )
}

fn number(text: &[u8]) -> Option<u16> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

const FIRST: &[u8] = b"BT-SEARCH * HTTP/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    fn hash(n: u8) -> InfoHash {
        InfoHash([n; 20])
    }

    fn heard(packet: &[u8]) -> Option<(u16, Vec<u8>, Vec<InfoHash>)> {
        let search = Search::read(packet)?;
        let hashes = search.info_hashes().collect();
        Some((search.port, search.cookie.to_vec(), hashes))
    }

    #[test]
    fn as_it_is_written() {
        let mut out = [0; PACKET_MAX];
        let len = write(Family::V4, 6881, 0xab, &[hash(0xc0)], &mut out).unwrap();
        let text = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
            Infohash: c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0\r\ncookie: 000000ab\r\n\r\n\r\n";
        assert_eq!(core::str::from_utf8(&out[..len]), Ok(text));
        for short in 0..len {
            assert_eq!(
                write(Family::V4, 6881, 0xab, &[hash(0xc0)], &mut out[..short]),
                None
            );
        }
        let many = [hash(1); PER_PACKET + 1];
        for family in [Family::V4, Family::V6] {
            let len = write(family, u16::MAX, u32::MAX, &many, &mut out).unwrap();
            let (port, cookie, hashes) = heard(&out[..len]).unwrap();
            assert_eq!((port, &cookie[..]), (u16::MAX, &b"ffffffff"[..]));
            assert_eq!(hashes, [hash(1); PER_PACKET]);
            assert!(len + 52 > PACKET_MAX, "one more would not fit");
        }
        let host = b"Host: [ff15::efc0:988f]:6771\r\n";
        assert!(out.windows(host.len()).any(|part| part == host));
    }

    #[test]
    fn as_others_write_it() {
        let hex = "c0C0c0C0c0C0c0C0c0C0c0C0c0C0c0C0c0C0c0C0";
        let two = Some((7, Vec::new(), Vec::from([hash(0xc0), hash(0xc0)])));
        let none = |port| Some((port, Vec::new(), Vec::new()));
        let with = |rest: &str| std::format!("BT-SEARCH * HTTP/1.1\r\n{rest}\r\n\r\n");
        for (packet, expected) in [
            (
                with(&std::format!(
                    "Host: x\r\nPort: 7\r\nInfohash: {hex}\r\nInfohash: {hex}"
                )),
                two.clone(),
            ),
            // Names in any case, lines that end in one byte, no blanks.
            (
                std::format!("BT-SEARCH * HTTP/1.0\ninfohash:{hex}\nPORT:7\nINFOHASH:  {hex} \n"),
                two,
            ),
            (
                with("Port: 7\r\ncookie: a b"),
                Some((7, b"a b".to_vec(), Vec::new())),
            ),
            (with("Port: 7\r\nInfohash: c0c0"), none(7)),
            (with(&std::format!("Port: 7\r\nInfohash: {hex}0")), none(7)),
            (with("Port: 7\r\nno colon\r\n: :\r\n:"), none(7)),
            // Text after an empty line is ignored.
            (
                with(&std::format!("Port: 7\r\n\r\nInfohash: {hex}")),
                none(7),
            ),
            (with("Port: 0"), None),
            (with("Port: 65536"), None),
            (with("Port: -1"), None),
            (with("Port: x"), None),
            (with("Host: x"), None),
            ("BT-SEARCH * HTTP/2\r\nPort: 7\r\n".into(), None),
            ("NOTIFY * HTTP/1.1\r\nPort: 7\r\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(heard(packet.as_bytes()), expected, "{packet:?}");
        }
        let many = std::format!(
            "BT-SEARCH * HTTP/1.1\nPort: 7\n{}",
            std::format!("Infohash: {hex}\n").repeat(1000)
        );
        assert_eq!(heard(many.as_bytes()).unwrap().2.len(), INFO_HASHES_MAX);
    }

    #[test]
    fn damage_never_panics() {
        let mut out = [0; PACKET_MAX];
        let len = write(Family::V6, 1, 2, &[hash(3), hash(4)], &mut out).unwrap();
        let mut rng = Rng::new(14);
        for _ in 0..20_000 {
            let mut bytes = out;
            for _ in 0..rng.below(5) {
                bytes[rng.below(len as u32) as usize] = rng.bits32() as u8;
            }
            let end = rng.below(len as u32 + 1) as usize;
            let _ = heard(&bytes[..end]);
        }
    }
}
