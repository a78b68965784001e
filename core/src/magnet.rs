//! Magnet links (BEP 9, BEP 53), which name a torrent by its info-hash.
//!
//! [`Magnet::parse`] checks a link once and keeps nothing but a reference to it; trackers, peers and the
//! rest are found in it as they are asked for, and decoded one by one. [`write`](fn@write) is the way back.
//!
//! Parameters come in any order, any number of times, with keys in either case and perhaps numbered (`tr.1`).
//! `&amp;` separates them too, as links are copied out of web pages. Unknown parameters are skipped. Values are not
//! checked here: whoever asks for them meets a tracker that is no URL, or a peer without a port.

use core::fmt;
use core::iter::from_fn;
use core::ops::RangeInclusive;

use crate::hash::InfoHash;

/// The longest link that is read, in bytes.
pub const MAX_LINK: usize = 32 * 1024;

/// A link that names one torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Magnet<'a> {
    /// The torrent's name among peers and trackers.
    pub info_hash: InfoHash,
    /// Whether the link names the torrent by its version 2 hash too (BEP 52), which is not used.
    pub also_version_2: bool,
    parameters: &'a str,
}

/// Why a text is no link that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MagnetError {
    /// The text does not begin with `magnet:?`.
    NotMagnet,
    /// The link is longer than [`MAX_LINK`].
    TooLong,
    /// The link has no `xt=urn:btih:`.
    NoInfoHash,
    /// What follows `urn:btih:` is neither 40 hexadecimal digits nor 32 of base 32.
    BadInfoHash,
    /// The link names two torrents.
    Several,
    /// The link names a torrent of version 2 only (BEP 52).
    Version2,
}

impl fmt::Display for MagnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MagnetError::NotMagnet => "not a magnet link: it does not begin with magnet:?",
            MagnetError::TooLong => "the magnet link is longer than 32 KiB",
            MagnetError::NoInfoHash => {
                "the magnet link names no torrent: it has no xt=urn:btih: with an info-hash"
            }
            MagnetError::BadInfoHash => {
                "the magnet link's info-hash (after urn:btih:) should be 40 hexadecimal digits, \
                 or 32 letters and digits of base 32: it may be cut off"
            }
            MagnetError::Several => "the magnet link names several torrents: give one link for each",
            MagnetError::Version2 => {
                "the magnet link names a torrent of version 2 only (urn:btmh:), which is not supported"
            }
        })
    }
}

impl<'a> Magnet<'a> {
    /// Reads a link; spaces around it are passed over.
    pub fn parse(link: &'a str) -> Result<Magnet<'a>, MagnetError> {
        let link = link.trim();
        if link.len() > MAX_LINK {
            return Err(MagnetError::TooLong);
        }
        let parameters = without_prefix(link, "magnet:?").ok_or(MagnetError::NotMagnet)?;
        let (mut found, mut version_2) = (None, false);
        for topic in values(parameters, "xt") {
            let mut room = [0; TOPIC];
            // One that is longer than any info-hash may be is of another kind, or broken.
            let topic = topic.decode(&mut room).unwrap_or_default();
            let topic = core::str::from_utf8(topic).unwrap_or_default();
            version_2 |= without_prefix(topic, "urn:btmh:").is_some();
            let Some(hash) = without_prefix(topic, "urn:btih:") else {
                continue;
            };
            let hash = info_hash(hash.as_bytes()).ok_or(MagnetError::BadInfoHash)?;
            if found.is_some_and(|found| found != hash) {
                return Err(MagnetError::Several);
            }
            found = Some(hash);
        }
        match found {
            Some(info_hash) => Ok(Magnet {
                info_hash,
                also_version_2: version_2,
                parameters,
            }),
            None if version_2 => Err(MagnetError::Version2),
            None => Err(MagnetError::NoInfoHash),
        }
    }

    /// The name that the link gives the torrent (`dn`); the real name is in the metadata.
    pub fn name(&self) -> Option<Value<'a>> {
        let value = values(self.parameters, "dn").next()?;
        // Web forms write spaces so, and it is only shown.
        Some(Value {
            plus: true,
            ..value
        })
    }

    /// URLs of trackers (`tr`), each a tier of its own.
    pub fn trackers(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        values(self.parameters, "tr")
    }

    /// URLs of web seeds (`ws`, BEP 19).
    pub fn web_seeds(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        values(self.parameters, "ws")
    }

    /// Peers (`x.pe`): `HOST:PORT`, an IPv6 address in brackets.
    pub fn peers(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        values(self.parameters, "x.pe")
    }

    /// The files that are to be downloaded (`so`, BEP 53), by number from 0, if the link says so. What is no
    /// number or range in the list is passed over.
    pub fn files(&self) -> Option<impl Iterator<Item = RangeInclusive<u32>> + use<'a>> {
        let list = values(self.parameters, "so").next()?.raw;
        Some(list.split(',').filter_map(range))
    }
}

/// A number, or two with `-` between them.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// The value of a parameter, still percent-encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value<'a> {
    raw: &'a str,
    /// Whether `+` is a space.
    plus: bool,
}

impl<'a> Value<'a> {
    /// The decoded bytes; they may be no UTF-8. What follows a `%` and is no number stays as it is.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + use<'a> {
        let (mut rest, plus) = (self.raw.as_bytes(), self.plus);
        from_fn(move || {
            if let [b'%', high, low, after @ ..] = rest
                && let Some(byte) = hex(*high, *low)
            {
                rest = after;
                return Some(byte);
            }
            let (&byte, after) = rest.split_first()?;
            rest = after;
            Some(if plus && byte == b'+' { b' ' } else { byte })
        })
    }

    /// The decoded bytes in `room`; `None` if there are more.
    pub fn decode<'b>(&self, room: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut len = 0_usize;
        for byte in self.bytes() {
            *room.get_mut(len)? = byte;
            len = len.checked_add(1)?;
        }
        room.get(..len)
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let (high, low) = (
        char::from(high).to_digit(16)?,
        char::from(low).to_digit(16)?,
    );
    u8::try_from((high << 4) | low).ok()
}

/// The rest of a text after a prefix in either case.
fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The values of all parameters of a key, numbered or not, but for empty ones.
fn values<'a>(parameters: &'a str, key: &'static str) -> impl Iterator<Item = Value<'a>> + use<'a> {
    parameters.split('&').filter_map(move |pair| {
        let pair = without_prefix(pair, "amp;").unwrap_or(pair);
        let (name, raw) = pair.split_once('=')?;
        let rest = without_prefix(name, key)?;
        let number = rest.strip_prefix('.').unwrap_or(rest);
        let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let its = rest.is_empty() || numbered && rest.len() > number.len();
        (its && !raw.is_empty()).then_some(Value { raw, plus: false })
    })
}

/// An info-hash in hexadecimal digits or in base 32 (RFC 4648), in either case.
fn info_hash(text: &[u8]) -> Option<InfoHash> {
    if text.len() != 32 {
        return InfoHash::from_hex(text);
    }
    let mut hash = [0; 20];
    for (bytes, digits) in hash.chunks_mut(5).zip(text.chunks(8)) {
        let mut bits = 0_u64;
        for digit in digits {
            bits = (bits << 5) | u64::from(base32(*digit)?);
        }
        let [_, _, _, five @ ..] = bits.to_be_bytes();
        bytes.copy_from_slice(&five);
    }
    Some(InfoHash(hash))
}

fn base32(digit: u8) -> Option<u8> {
    match digit.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => letter.checked_sub(b'A'),
        number @ b'2'..=b'7' => number.checked_sub(b'2')?.checked_add(26),
        _ => None,
    }
}

/// The longest `xt` of an info-hash, with its prefix.
const TOPIC: usize = 128;

/// The parts of a link besides the info-hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parameters<'a> {
    /// The name for the torrent; none if empty.
    pub name: &'a str,
    /// Where a peer is, `HOST:PORT`.
    pub peer: Option<&'a str>,
}

/// Writes the link of a torrent.
pub fn write<'a, W: fmt::Write>(
    out: &mut W,
    info_hash: InfoHash,
    parameters: &Parameters<'_>,
    trackers: impl IntoIterator<Item = &'a str>,
) -> fmt::Result {
    write!(out, "magnet:?xt=urn:btih:{info_hash}")?;
    if !parameters.name.is_empty() {
        out.write_str("&dn=")?;
        encode(out, parameters.name)?;
    }
    for tracker in trackers {
        out.write_str("&tr=")?;
        encode(out, tracker)?;
    }
    match parameters.peer {
        // Clients take it as it stands.
        Some(peer) => write!(out, "&x.pe={peer}"),
        None => Ok(()),
    }
}

/// Appends `text` with everything percent-encoded that RFC 3986 does not call unreserved.
fn encode<W: fmt::Write>(out: &mut W, text: &str) -> fmt::Result {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.write_char(char::from(byte))?;
        } else {
            write!(out, "%{byte:02X}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

    fn text(value: Value<'_>) -> String {
        String::from_utf8_lossy(&value.bytes().collect::<Vec<u8>>()).into_owned()
    }

    fn all<'a>(values: impl Iterator<Item = Value<'a>>) -> Vec<String> {
        values.map(text).collect()
    }

    #[test]
    fn everything_that_is_known() {
        let link = format!(
            " MAGNET:?tr=http%3A%2F%2Ft%2Fa%3Fx%3D1%26y&dn=a+b%20c%2B&xt=urn:btih:{HEX}&TR.1=udp://u:80&amp;tr=\
             &x.pe=[::1]:7&x.pe=host:8&so=0,2,4-6,x,9-7,-&ws=http://w/f%20g&xl=5&kt=no&tr.x=no&trr=no\n"
        );
        let magnet = Magnet::parse(&link).unwrap();
        assert_eq!(
            magnet.info_hash,
            InfoHash::from_hex(HEX.as_bytes()).unwrap()
        );
        assert_eq!(text(magnet.name().unwrap()), "a b c+");
        assert_eq!(all(magnet.trackers()), ["http://t/a?x=1&y", "udp://u:80"]);
        assert_eq!(all(magnet.peers()), ["[::1]:7", "host:8"]);
        assert_eq!(all(magnet.web_seeds()), ["http://w/f g"]);
        let files: Vec<_> = magnet.files().unwrap().collect();
        assert_eq!(files, [0..=0, 2..=2, 4..=6]);
        assert!(!magnet.also_version_2);
    }

    #[test]
    fn info_hashes() {
        let base32 = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";
        let version_2 = format!("urn:btmh:1220{}", "ab".repeat(32));
        let good = [
            format!("xt=urn:btih:{HEX}"),
            format!("xt=URN:BTIH:{}", HEX.to_uppercase()),
            format!("xt=urn:btih:{base32}"),
            format!("xt=urn:btih:{}", base32.to_lowercase()),
            format!("dn=x&xt.1=urn%3Abtih%3A{HEX}"),
            format!("xt=urn:btih:{HEX}&xt=urn:btih:{base32}"),
            format!("xt=urn:sha1:{base32}&xt={version_2}&xt=urn:btih:{HEX}"),
        ];
        for parameters in good {
            let link = format!("magnet:?{parameters}");
            let magnet = Magnet::parse(&link).unwrap();
            assert_eq!(format!("{}", magnet.info_hash), HEX, "{link}");
            assert_eq!(magnet.also_version_2, link.contains("btmh"), "{link}");
            assert!(magnet.name().is_none_or(|name| text(name) == "x"));
            assert_eq!(magnet.trackers().count(), 0);
            assert!(magnet.files().is_none());
        }
    }

    #[test]
    fn nonsense() {
        let version_2 = format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32));
        let other = "0".repeat(40);
        let several = format!("magnet:?xt=urn:btih:{HEX}&xt=urn:btih:{other}");
        let cut = format!("magnet:?xt=urn:btih:{}", &HEX[1..]);
        let long = format!("magnet:?xt=urn:btih:{HEX}{}", "&tr=x".repeat(MAX_LINK));
        let huge = format!("magnet:?xt=urn:btih:{}", "a".repeat(300));
        let strange = format!("magnet:?xt=urn:btih:{}", "\u{e9}".repeat(20));
        let table = [
            ("", MagnetError::NotMagnet),
            ("magnet:", MagnetError::NotMagnet),
            ("http://x/?xt=urn:btih:", MagnetError::NotMagnet),
            ("m\u{e9}gnet:?xt", MagnetError::NotMagnet),
            ("magnet:?", MagnetError::NoInfoHash),
            ("magnet:?xt", MagnetError::NoInfoHash),
            ("magnet:?xt=", MagnetError::NoInfoHash),
            ("magnet:?=urn:btih:", MagnetError::NoInfoHash),
            ("magnet:?xt=urn:sha1:x&dn=%", MagnetError::NoInfoHash),
            ("magnet:?xt=urn:btih:", MagnetError::BadInfoHash),
            ("magnet:?xt=urn:btih:1", MagnetError::BadInfoHash),
            ("magnet:?xt=urn:btih:%zz%4", MagnetError::BadInfoHash),
            (&cut, MagnetError::BadInfoHash),
            (&strange, MagnetError::BadInfoHash),
            (&huge, MagnetError::NoInfoHash),
            (&several, MagnetError::Several),
            (&version_2, MagnetError::Version2),
            (&long, MagnetError::TooLong),
        ];
        for (link, error) in table {
            assert_eq!(Magnet::parse(link), Err(error), "{link:.100}");
            assert!(!format!("{error}").is_empty());
        }
    }

    #[test]
    fn values_as_they_come() {
        let table = [
            ("%", "%"),
            ("%4", "%4"),
            ("%4g%41", "%4gA"),
            ("a+b", "a+b"),
            ("%ff", "\u{fffd}"),
            ("%00%0A", "\0\n"),
        ];
        for (raw, decoded) in table {
            let link = format!("magnet:?xt=urn:btih:{HEX}&tr={raw}");
            let magnet = Magnet::parse(&link).unwrap();
            assert_eq!(all(magnet.trackers()), [decoded], "{raw}");
        }
        let value = Value {
            raw: "a%20b",
            plus: false,
        };
        assert_eq!(value.decode(&mut [0; 3]), Some(&b"a b"[..]));
        assert_eq!(value.decode(&mut [0; 2]), None);
    }

    #[test]
    fn everything_odd_is_encoded() {
        let mut link = String::new();
        let parameters = Parameters {
            name: "a b&\u{e9}\n",
            peer: Some("[2001:db8::1]:7"),
        };
        let trackers = ["http://t:80/announce?x=1"];
        write(&mut link, InfoHash([0xab; 20]), &parameters, trackers).unwrap();
        let hash = "ab".repeat(20);
        let expected = format!(
            "magnet:?xt=urn:btih:{hash}&dn=a%20b%26%C3%A9%0A&tr=http%3A%2F%2Ft%3A80%2Fannounce%3Fx%3D1&x.pe=[2001:db8::1]:7"
        );
        assert_eq!(link, expected);
    }

    /// What was written is read, whatever the names are; and what is damaged never panics.
    #[test]
    fn both_ways_by_chance() {
        let mut rng = Rng::new(9);
        for round in 0..3000 {
            let mut word = || -> String {
                let len = 1 + rng.below(12);
                let letter = |_| char::from_u32(rng.below(0x2ff)).unwrap();
                (0..len).map(letter).collect()
            };
            let (name, trackers) = (word(), [word(), word()]);
            let hash = InfoHash([rng.below(256) as u8; 20]);
            let parameters = Parameters {
                name: &name,
                peer: (round % 2 == 0).then_some("1.2.3.4:5"),
            };
            let mut link = String::new();
            let urls = trackers.iter().map(String::as_str);
            write(&mut link, hash, &parameters, urls).unwrap();
            let magnet = Magnet::parse(&link).unwrap();
            assert_eq!(magnet.info_hash, hash);
            assert_eq!(text(magnet.name().unwrap()), name);
            assert_eq!(all(magnet.trackers()), trackers);
            assert_eq!(magnet.peers().count(), usize::from(round % 2 == 0));
            let mut damaged = link.into_bytes();
            for _ in 0..rng.below(4) {
                let at = rng.below(damaged.len() as u32) as usize;
                damaged[at] = rng.below(128) as u8;
            }
            if let Ok(Ok(magnet)) = core::str::from_utf8(&damaged).map(Magnet::parse) {
                let all = magnet.trackers().chain(magnet.peers()).chain(magnet.name());
                all.for_each(|value| value.bytes().for_each(drop));
                magnet.files().into_iter().flatten().for_each(drop);
            }
        }
    }
}
