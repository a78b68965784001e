//! [`Response`]: a tracker's answer to an announce (BEP 3, 7, 23, 31), read as a stream.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use embedded_io::Read;

use crate::bencode::{Error, ErrorKind, Reader, Type};
use crate::tracker::{CompactPeers, Family, Intervals, Text, words};

/// A peer that a tracker names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer<'a> {
    /// By its address.
    At(SocketAddr),
    /// By a name that has to be resolved, at most 253 letters, digits, dots, hyphens and underscores; and its
    /// port.
    Named(&'a str, u16),
}

/// The answer of a tracker to an announce, without its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The time until the next announce.
    pub intervals: Intervals,
    /// The number of complete peers, if the tracker tells it.
    pub complete: Option<u32>,
    /// The number of downloading peers, if the tracker tells it.
    pub incomplete: Option<u32>,
    /// The text to send back with the next announce. It is empty if the tracker gave none, or one of more than 64
    /// bytes.
    pub tracker_id: heapless::Vec<u8, 64>,
    /// A text for the people who use the tracker.
    pub warning: Option<Text>,
}

/// Why a tracker's answer is no success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResponseError {
    /// It is no bencoded dictionary, or is cut off, perhaps as the stream failed.
    Malformed,
    /// The tracker refuses.
    Refused {
        /// In its words.
        reason: Text,
        /// For how long it does not want to be asked: what it says of that (BEP 31), else its least interval.
        /// [`Duration::MAX`] is for ever.
        retry_in: Option<Duration>,
    },
}

impl<E> From<Error<E>> for ResponseError {
    fn from(_: Error<E>) -> ResponseError {
        ResponseError::Malformed
    }
}

impl Response {
    /// Reads the body of an answer, which may be a slice or still on its way. Peers are handed to `on_peer` in the
    /// order in which they come. They may be compact (BEP 23, BEP 7), or dictionaries with an address or a name (BEP
    /// 3). Some may be handed over before an error is met.
    ///
    /// Unknown keys, and values of a wrong type, are passed over, and so is what stands before and after the
    /// dictionary. A number that does not fit becomes the nearest that does. An answer that ends too soon counts if it
    /// names a peer.
    pub fn read(
        body: impl Read,
        on_peer: &mut dyn FnMut(Peer<'_>),
    ) -> Result<Response, ResponseError> {
        let mut fields = Fields::default();
        let mut reader: Reader<_> = Reader::new(body);
        reader.pass_preamble()?;
        reader.dict()?;
        let mut any = false;
        let read = fields.read_all(&mut reader, &mut |peer| {
            any = true;
            on_peer(peer);
        });
        match read {
            Err(error) if any && matches!(error.kind, ErrorKind::Truncated) => {}
            read => read?,
        }
        if let Some(reason) = fields.failure {
            let min_interval = fields.min_interval.map(|s| u64::try_from(s).unwrap_or(0));
            let retry_in = fields.retry_in.or(min_interval.map(Duration::from_secs));
            return Err(ResponseError::Refused { reason, retry_in });
        }
        Ok(Response {
            intervals: Intervals::told(fields.interval, fields.min_interval),
            complete: fields.complete,
            incomplete: fields.incomplete,
            tracker_id: fields.tracker_id,
            warning: fields.warning,
        })
    }
}

/// What was read of an answer so far.
#[derive(Default)]
struct Fields {
    failure: Option<Text>,
    retry_in: Option<Duration>,
    interval: Option<i64>,
    min_interval: Option<i64>,
    complete: Option<u32>,
    incomplete: Option<u32>,
    tracker_id: heapless::Vec<u8, 64>,
    warning: Option<Text>,
}

impl Fields {
    fn read_all<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        on_peer: &mut dyn FnMut(Peer<'_>),
    ) -> Result<(), Error<R::Error>> {
        // Longer than any key that is known, so that none is taken for the start of another.
        let mut room = [0; 32];
        while let Some(key) = reader.key(&mut room)? {
            self.read(key, reader, on_peer)?;
        }
        Ok(())
    }

    /// Takes the value of a key; what is not read here, the reader passes over.
    fn read<R: Read>(
        &mut self,
        key: &[u8],
        reader: &mut Reader<R>,
        on_peer: &mut dyn FnMut(Peer<'_>),
    ) -> Result<(), Error<R::Error>> {
        let mut room = [0; 128];
        match (key, reader.peek()?) {
            // An empty one is no failure: some scripts have all keys in each answer.
            (b"failure reason", Type::String) => {
                let reason = words(reader.string_start(&mut room)?);
                self.failure = (!reason.is_empty()).then_some(reason);
            }
            (b"warning message", Type::String) => {
                let warning = words(reader.string_start(&mut room)?);
                self.warning = (!warning.is_empty()).then_some(warning);
            }
            // BEP 31: minutes, or the word "never".
            (b"retry in", Type::Integer) => {
                self.retry_in = Some(minutes(reader.integer_clamped()?));
            }
            (b"retry in", Type::String) => {
                self.retry_in = match words(reader.string_start(&mut room)?).as_str() {
                    "never" => Some(Duration::MAX),
                    // Some scripts have all values as text.
                    text => text.parse().ok().map(minutes),
                };
            }
            (b"interval", Type::Integer) => self.interval = Some(reader.integer_clamped()?),
            (b"min interval", Type::Integer) => self.min_interval = Some(reader.integer_clamped()?),
            (b"complete", Type::Integer) => self.complete = count(reader.integer_clamped()?),
            (b"incomplete", Type::Integer) => self.incomplete = count(reader.integer_clamped()?),
            (b"tracker id", Type::String) => {
                let id = reader.string_start(&mut room)?;
                self.tracker_id = heapless::Vec::from_slice(id).unwrap_or_default();
            }
            (b"peers", Type::String) => compact(reader, Family::V4, on_peer)?,
            (b"peers6", Type::String) => compact(reader, Family::V6, on_peer)?,
            (b"peers" | b"peers6", Type::List) => listed(reader, on_peer)?,
            _ => {}
        }
        Ok(())
    }
}

fn minutes(told: i64) -> Duration {
    Duration::from_secs(u64::try_from(told).unwrap_or(0).saturating_mul(60))
}

fn count(told: i64) -> Option<u32> {
    u32::try_from(told).ok()
}

fn compact<R: Read>(
    reader: &mut Reader<R>,
    family: Family,
    on_peer: &mut dyn FnMut(Peer<'_>),
) -> Result<(), Error<R::Error>> {
    reader.string_len()?;
    // The bytes come in whatever parts they arrived; one peer is collected at a time.
    let mut peer = heapless::Vec::<u8, 18>::new();
    while let Some(bytes) = reader.chunk()? {
        for &byte in bytes {
            let _ = peer.push(byte);
            if peer.len() == family.compact_len() {
                CompactPeers::new(&peer, family).for_each(|peer| on_peer(Peer::At(peer)));
                peer.clear();
            }
        }
    }
    Ok(())
}

fn listed<R: Read>(
    reader: &mut Reader<R>,
    on_peer: &mut dyn FnMut(Peer<'_>),
) -> Result<(), Error<R::Error>> {
    reader.list()?;
    while reader.more()? {
        match reader.peek()? {
            Type::Dict => peer(reader, on_peer)?,
            _ => reader.skip()?,
        }
    }
    Ok(())
}

/// A peer as a dictionary.
fn peer<R: Read>(
    reader: &mut Reader<R>,
    on_peer: &mut dyn FnMut(Peer<'_>),
) -> Result<(), Error<R::Error>> {
    let mut port = None;
    let (mut key_room, mut port_room, mut room) = ([0; 8], [0; PORT], [0; NAME + 1]);
    let mut len = 0;
    reader.dict()?;
    while let Some(key) = reader.key(&mut key_room)? {
        match (key, reader.peek()?) {
            (b"ip", Type::String) => len = reader.string_start(&mut room)?.len(),
            (b"port", Type::Integer) => port = u16::try_from(reader.integer_clamped()?).ok(),
            // Some scripts have all values as text, and IPv6 addresses in the brackets of a URL.
            (b"port", Type::String) => {
                let text = reader.string_start(&mut port_room)?;
                // One that fills the room may go on behind it.
                let text = core::str::from_utf8(text).ok().filter(|t| t.len() < PORT);
                port = text.and_then(|text| text.trim().parse().ok());
            }
            _ => {}
        }
    }
    let host = room.get(..len).unwrap_or_default().trim_ascii();
    let within = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]"));
    let host = within.unwrap_or(host);
    if let (Ok(host), Some(port)) = (core::str::from_utf8(host), port) {
        if let Ok(ip) = host.parse::<IpAddr>() {
            on_peer(Peer::At((ip, port).into()));
        } else if is_name(host) {
            on_peer(Peer::Named(host, port));
        }
    }
    Ok(())
}

/// More letters than a port has, with some white space.
const PORT: usize = 16;

/// The longest name of a host, in bytes.
const NAME: usize = 253;

fn is_name(host: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let letter = |b: u8| b.is_ascii_alphabetic();
    host.len() <= NAME && host.bytes().all(plain) && host.bytes().any(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::string::{String, ToString as _};
    use std::vec::Vec;

    fn read(body: &[u8]) -> Result<(Response, Vec<String>), ResponseError> {
        let mut peers = Vec::new();
        let response = Response::read(body, &mut |peer| {
            peers.push(match peer {
                Peer::At(addr) => addr.to_string(),
                Peer::Named(name, port) => std::format!("{name} {port}"),
            });
        })?;
        Ok((response, peers))
    }

    #[test]
    fn answers() {
        let compact = b"d8:completei5e10:incompletei7e8:intervali900e12:min intervali300e\
            5:peers12:\xc0\0\x02\x01\x1a\xe1\xc0\0\x02\x02\0\x50\
            6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x51\
            10:tracker id2:id15:warning message4:slow1:zlleee";
        let (response, peers) = read(compact).unwrap();
        assert_eq!(response.intervals, Intervals::told(Some(900), Some(300)));
        assert_eq!((response.complete, response.incomplete), (Some(5), Some(7)));
        assert_eq!(response.tracker_id, b"id");
        assert_eq!(response.warning.as_deref(), Some("slow"));
        let all = ["192.0.2.1:6881", "192.0.2.2:80", "[2001:db8::1]:81"];
        assert_eq!(peers, all);
        let listed = b"d8:intervali900e5:peersl\
            d2:ip9:192.0.2.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
            d2:ip11:2001:db8::14:porti81ee\
            d2:ip9:localhost4:porti1ee\
            d2:ip9:192.0.2.14:porti65536ee\
            d4:porti1ee3:abci4elledeeee\n";
        let (_, peers) = read(listed).unwrap();
        assert_eq!(peers, ["192.0.2.1:6881", "[2001:db8::1]:81", "localhost 1"]);
    }

    /// What programs in use write, and what is not needed, spoils no answer.
    #[test]
    fn answers_that_are_not_to_the_letter() {
        let one = b"5:peers6:\xc0\0\x02\x01\x1a\xe1";
        let named = |host: &str| {
            let text = std::format!("5:peersld2:ip{}:{host}4:porti7eee", host.len());
            text.into_bytes()
        };
        let long = "a".repeat(254);
        type Case<'a> = (&'a [u8], &'a [u8], &'a [u8], usize);
        let table: [Case<'_>; 24] = [
            (b"d", one, b"e", 1),
            // Cut off behind a peer, within another one, or within what follows.
            (b"d", one, b"", 1),
            (
                b"d5:peers4000:",
                b"\xc0\0\x02\x01\x1a\xe1",
                b"\xc0\0\x02",
                1,
            ),
            (b"d", b"5:peersld2:ip7:1.2.3.44:porti7ee", b"d2:ip7:1.2", 1),
            (b"d", one, b"6:peers6180:\x20\x01", 1),
            (b"d14:failure reason0:", one, b"e", 1),
            (b"d", b"5:peersld2:ip7:1.2.3.44:port4:6881ee", b"e", 1),
            (b"d", b"5:peersld2:ip9: 1.2.3.4 4:port5: 6881ee", b"e", 1),
            (b"d", b"5:peersld2:ip5:[::1]4:porti7eee", b"e", 1),
            (b"d", b"5:peersld2:ip7:1.2.3.44:port5:70000ee", b"e", 0),
            (
                b"d",
                b"5:peersld2:ip7:1.2.3.44:port17:00000000000006881ee",
                b"e",
                0,
            ),
            (b"\xef\xbb\xbfd", one, b"e\r\n", 1),
            (b"\r\n d", one, b"e<!-- page -->", 1),
            (b"d8:intervali99999999999999999999e", one, b"e", 1),
            (b"d8:intervali-99999999999999999999e", one, b"e", 1),
            (b"d8:intervali0900e", one, b"e", 1),
            (
                b"d8:completei-0e",
                one,
                b"10:incompletei18446744073709551615ee",
                1,
            ),
            (b"d12:min intervald1:al1:bee", one, b"e", 1),
            (b"d", &named("seed.example.org"), b"e", 1),
            (b"d", &named("1.2.3"), b"e", 0),
            (b"d", &named("a/b"), b"e", 0),
            (b"d", &named(&long[1..]), b"e", 1),
            (b"d", &named(&long), b"e", 0),
            // The port before the address, and addresses that are none.
            (
                b"d",
                b"5:peersld4:porti5e2:ip1:aed4:porti5e2:ip0:ee",
                b"e",
                1,
            ),
        ];
        for (head, peers, tail, count) in table {
            let body = [head, peers, tail].concat();
            let text = String::from_utf8_lossy(&body).into_owned();
            let (response, peers) = read(&body).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(peers.len(), count, "{text}");
            let interval = response.intervals.interval_s();
            assert!(
                [900, 1800, Intervals::MAX_INTERVAL_S].contains(&interval),
                "{text}"
            );
        }
    }

    #[test]
    fn little_is_enough_and_wrong_types_are_passed_over() {
        let none = Response {
            intervals: Intervals::told(None, None),
            complete: None,
            incomplete: None,
            tracker_id: heapless::Vec::new(),
            warning: None,
        };
        let table: [&[u8]; 4] = [
            b"de",
            b"d8:interval2:155:peersi7e6:peers6de15:warning messagelee",
            b"d8:completei-1e10:incompletei99999999999e10:tracker idi1ee",
            b"d14:failure reasoni1e8:retry in4:soone",
        ];
        for body in table {
            assert_eq!(read(body), Ok((none.clone(), Vec::new())));
        }
        let long = [&b"d10:tracker id100:"[..], &[b'x'; 100], b"e"].concat();
        assert_eq!(read(&long), Ok((none, Vec::new())));
    }

    #[test]
    fn refusals() {
        let table: [(&[u8], Option<Duration>); 10] = [
            (
                b"d14:failure reason2:no8:retry in2:10e",
                Some(Duration::from_secs(600)),
            ),
            (b"d14:failure reason2:noe", None),
            (
                b"d14:failure reason2:no8:intervali1800e12:min intervali300ee",
                Some(Duration::from_secs(300)),
            ),
            (
                b"d14:failure reason2:no12:min intervali300e8:retry ini10ee",
                Some(Duration::from_secs(600)),
            ),
            (
                b"d14:failure reason2:no12:min intervali-300ee",
                Some(Duration::ZERO),
            ),
            (
                b"d14:failure reason2:no8:intervali1800e12:min interval3:300e",
                None,
            ),
            (
                b"d14:failure reason2:no8:retry ini10ee",
                Some(Duration::from_secs(600)),
            ),
            (
                b"d14:failure reason2:no8:retry in5:nevere",
                Some(Duration::MAX),
            ),
            (
                b"d14:failure reason2:no8:retry ini-1ee",
                Some(Duration::ZERO),
            ),
            (b"d14:failure reason2:no8:retry inlee", None),
        ];
        for (body, retry_in) in table {
            let reason = Text::try_from("no").unwrap();
            let refused = Err(ResponseError::Refused { reason, retry_in });
            assert_eq!(read(body), refused);
        }
    }

    #[test]
    fn nonsense_is_malformed() {
        let deep = [b"d1:x".to_vec(), std::vec![b'l'; 100_000]].concat();
        let table: [&[u8]; 9] = [
            b"",
            b"<html>",
            b"i1e",
            b"le",
            b"d",
            b"d8:interval",
            b"di1ei2ee",
            b"d1:xi0-1eeX",
            &deep,
        ];
        for body in table {
            let text = String::from_utf8_lossy(&body[..body.len().min(20)]);
            assert_eq!(read(body), Err(ResponseError::Malformed), "{text}");
        }
    }

    #[test]
    fn damage_never_panics() {
        let good = b"d8:completei5e8:intervali900e5:peersld2:ip9:192.0.2.14:porti6881eee\
            6:peers618:aaaaaaaaaaaaaaaaaa14:failure reason2:no8:retry ini10ee";
        let mut rng = Rng::new(23);
        for _ in 0..30_000 {
            let mut body = good.to_vec();
            for _ in 0..rng.below(4) {
                let at = rng.below(body.len() as u32) as usize;
                body[at] = b"0123456789:ilde-x"[rng.below(17) as usize];
            }
            body.truncate(rng.below(2 * body.len() as u32) as usize);
            if let Ok((_, peers)) = read(&body) {
                assert!(peers.len() < body.len() / 6);
            }
        }
    }

    #[test]
    fn reads_what_the_built_in_tracker_writes() {
        let reply = crate::tracker::reply::Announced {
            numbers: crate::tracker::Scrape {
                complete: 1,
                downloaded: 2,
                incomplete: 3,
            },
            interval_s: 120,
            min_interval_s: 60,
            peers: &[192, 0, 2, 1, 0, 80],
            peers6: &[0; 18],
        };
        let mut out = [0; 300];
        let len = reply.encode(&mut out).unwrap();
        let (response, peers) = read(&out[..len]).unwrap();
        assert_eq!(response.intervals, Intervals::told(Some(120), Some(60)));
        assert_eq!((response.complete, response.incomplete), (Some(1), Some(3)));
        assert_eq!(peers, ["192.0.2.1:80", "[::]:0"]);
    }
}
