//! Packets of the UDP tracker protocol (BEP 15) with the URL option (BEP 41).
//!
//! A client first asks for a connection id, which shows the tracker that its address is not forged,
//! and then announces or scrapes with it. Retransmission, expiry and the matching of answers are the
//! business of the node's `udp_tracker`; here are only the bytes. An answer's peers have the family of
//! the socket it came through: nothing in the packet says which.

use crate::hash::InfoHash;
use crate::text::Bytes;
use crate::tracker::{AnnounceEvent, CompactPeers, Family, Report, Scrape, Text, words};

/// Room that is enough for every request that is built here: an announce with 510 bytes of URL, or
/// a scrape of 24 torrents.
pub const REQUEST_MAX: usize = 640;

/// A packet of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Asks for a connection id.
    Connect,
    /// Announces, and asks for peers.
    Announce {
        /// The connection id that the tracker gave.
        connection: u64,
        /// The report.
        report: &'a Report,
        /// Path and query of the tracker's URL (BEP 41); empty if there is none.
        url_data: &'a str,
    },
    /// Asks how many peers torrents have.
    Scrape {
        /// The connection id that the tracker gave.
        connection: u64,
        /// The torrents, at most 74 of them (BEP 15).
        info_hashes: &'a [InfoHash],
    },
}

impl Request<'_> {
    /// Writes the packet; answers with its length in bytes, or `None` when `out` has no room for it.
    pub fn encode(&self, transaction: u32, out: &mut [u8]) -> Option<usize> {
        let mut out = Bytes::new(out);
        match *self {
            Request::Connect => {
                out.put(&PROTOCOL.to_be_bytes())?;
                out.put(&CONNECT.to_be_bytes())?;
                out.put(&transaction.to_be_bytes())?;
            }
            Request::Announce {
                connection,
                report,
                url_data,
            } => {
                out.put(&connection.to_be_bytes())?;
                out.put(&ANNOUNCE.to_be_bytes())?;
                out.put(&transaction.to_be_bytes())?;
                announce(&mut out, report)?;
                for part in url_data.as_bytes().chunks(MAX_OPTION) {
                    out.put(&[URL_DATA, u8::try_from(part.len()).ok()?])?;
                    out.put(part)?;
                }
            }
            Request::Scrape {
                connection,
                info_hashes,
            } => {
                out.put(&connection.to_be_bytes())?;
                out.put(&SCRAPE.to_be_bytes())?;
                out.put(&transaction.to_be_bytes())?;
                for info_hash in info_hashes {
                    out.put(&info_hash.0)?;
                }
            }
        }
        Some(out.len())
    }
}

/// A packet of a tracker.
#[derive(Clone, Debug)]
pub enum Response<'a> {
    /// A connection id, good for a minute after it was received.
    Connect {
        /// The id.
        connection: u64,
    },
    /// The answer to a report.
    Announce {
        /// Seconds to wait before the next report.
        interval_s: u32,
        /// Peers that are downloading.
        leechers: u32,
        /// Peers that are complete.
        seeders: u32,
        /// Some of them.
        peers: CompactPeers<'a>,
    },
    /// Numbers about the torrents that were asked for, in their order.
    Scrape(Scrapes<'a>),
    /// The tracker refuses, and says why.
    Error(Text),
}

impl<'a> Response<'a> {
    /// Reads a packet: its transaction id, and what it says. `None` when it is no answer of a
    /// tracker; anybody may send anything to a UDP socket, so the caller goes on waiting.
    pub fn decode(packet: &'a [u8], family: Family) -> Option<(u32, Response<'a>)> {
        let (action, rest) = u32_front(packet)?;
        let (transaction, rest) = u32_front(rest)?;
        let response = match action {
            CONNECT => Response::Connect {
                connection: u64::from_be_bytes(*rest.first_chunk::<8>()?),
            },
            ANNOUNCE => {
                let (interval_s, rest) = u32_front(rest)?;
                let (leechers, rest) = u32_front(rest)?;
                let (seeders, rest) = u32_front(rest)?;
                Response::Announce {
                    interval_s,
                    leechers,
                    seeders,
                    peers: CompactPeers::new(rest, family),
                }
            }
            SCRAPE => Response::Scrape(Scrapes(rest)),
            ERROR => Response::Error(words(rest)),
            _ => return None,
        };
        Some((transaction, response))
    }
}

/// The numbers of a scrape's answer, one torrent after the other.
#[derive(Clone, Copy, Debug)]
pub struct Scrapes<'a>(&'a [u8]);

impl Iterator for Scrapes<'_> {
    type Item = Scrape;

    fn next(&mut self) -> Option<Scrape> {
        let (complete, rest) = u32_front(self.0)?;
        let (downloaded, rest) = u32_front(rest)?;
        let (incomplete, rest) = u32_front(rest)?;
        self.0 = rest;
        Some(Scrape {
            complete,
            downloaded,
            incomplete,
        })
    }
}

/// What stands in place of a connection id before there is one (BEP 15).
const PROTOCOL: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// The option that carries a part of the URL, and how much of it one option holds (BEP 41).
const URL_DATA: u8 = 2;
const MAX_OPTION: usize = 255;

/// An announce from the info-hash to the port. The address field is left zero: the tracker takes
/// the sender's.
fn announce(out: &mut Bytes<'_>, report: &Report) -> Option<()> {
    let event: u32 = match report.event {
        AnnounceEvent::None => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    };
    out.put(&report.info_hash.0)?;
    out.put(&report.peer_id)?;
    out.put(&report.downloaded.to_be_bytes())?;
    out.put(&report.left.to_be_bytes())?;
    out.put(&report.uploaded.to_be_bytes())?;
    out.put(&event.to_be_bytes())?;
    out.put(&[0; 4])?;
    out.put(&report.key.to_be_bytes())?;
    out.put(&u32::from(report.num_want()).to_be_bytes())?;
    out.put(&report.port.to_be_bytes())
}

fn u32_front(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (four, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*four), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::vec::Vec;

    const REPORT: Report = Report {
        port_v6: 0,
        info_hash: InfoHash([0xaa; 20]),
        peer_id: [0xbb; 20],
        port: 6881,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        key: 0x0102_0304,
        num_want: 50,
        event: AnnounceEvent::Started,
    };

    fn encode(request: Request<'_>) -> Vec<u8> {
        let mut out = [0; REQUEST_MAX];
        let len = request.encode(7, &mut out).unwrap();
        for short in 0..len {
            assert_eq!(request.encode(7, &mut out[..short]), None);
        }
        request.encode(7, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn connect() {
        let bytes = [
            0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 7,
        ];
        assert_eq!(encode(Request::Connect), bytes);
    }

    #[test]
    fn announce_fields_stand_where_bep_15_wants_them() {
        let announce = |report, url_data| Request::Announce {
            connection: 0x1122_3344_5566_7788,
            report,
            url_data,
        };
        let bytes = encode(announce(&REPORT, ""));
        assert_eq!(bytes.len(), 98);
        let table: [(usize, &[u8]); 12] = [
            (0, &[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]),
            (8, &[0, 0, 0, 1]),
            (12, &[0, 0, 0, 7]),
            (16, &[0xaa; 20]),
            (36, &[0xbb; 20]),
            (56, &[0, 0, 0, 0, 0, 0, 0, 1]),
            (64, &[0, 0, 0, 0, 0, 0, 0, 2]),
            (72, &[0, 0, 0, 0, 0, 0, 0, 3]),
            (80, &[0, 0, 0, 2, 0, 0, 0, 0]),
            (88, &[1, 2, 3, 4]),
            (92, &[0, 0, 0, 50]),
            (96, &[0x1a, 0xe1]),
        ];
        for (at, field) in table {
            assert_eq!(&bytes[at..at + field.len()], field, "at {at}");
        }
        let stopped = Report {
            event: AnnounceEvent::Stopped,
            ..REPORT
        };
        let bytes = encode(announce(&stopped, ""));
        assert_eq!(bytes[83], 3);
        assert_eq!(bytes[92..96], [0; 4], "who leaves wants no peers");
    }

    #[test]
    fn url_data_is_split_into_options() {
        let long = "/".repeat(300);
        let request = Request::Announce {
            connection: 1,
            report: &REPORT,
            url_data: &long,
        };
        let bytes = encode(request);
        assert_eq!(bytes[98..101], [2, 255, b'/']);
        assert_eq!(bytes[98 + 257..98 + 260], [2, 45, b'/']);
        assert_eq!(bytes.len(), 98 + 257 + 47);
        let too_long = "/".repeat(3000);
        let request = Request::Announce {
            connection: 1,
            report: &REPORT,
            url_data: &too_long,
        };
        assert_eq!(request.encode(7, &mut [0; REQUEST_MAX]), None);
    }

    #[test]
    fn scrape_both_ways() {
        let info_hashes = [InfoHash([1; 20]), InfoHash([2; 20])];
        let bytes = encode(Request::Scrape {
            connection: 1,
            info_hashes: &info_hashes,
        });
        assert_eq!(bytes.len(), 16 + 40);
        let mut answer = [0u8, 0, 0, 2, 0, 0, 0, 7].to_vec();
        for n in 1..=6u32 {
            answer.extend(n.to_be_bytes());
        }
        answer.push(0);
        let (_, response) = Response::decode(&answer, Family::V4).unwrap();
        let Response::Scrape(scrapes) = response else {
            panic!("{response:?}");
        };
        let numbers: Vec<_> = scrapes
            .map(|s| (s.complete, s.downloaded, s.incomplete))
            .collect();
        assert_eq!(numbers, [(1, 2, 3), (4, 5, 6)]);
    }

    #[test]
    fn answers() {
        let connect = [0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8];
        let answer = Response::decode(&connect, Family::V4).unwrap();
        assert!(
            matches!(
                answer,
                (
                    9,
                    Response::Connect {
                        connection: 0x0102_0304_0506_0708
                    }
                )
            ),
            "{answer:?}"
        );
        let mut announce = [0u8, 0, 0, 1, 0, 0, 0, 9].to_vec();
        for n in [1800u32, 4, 5] {
            announce.extend(n.to_be_bytes());
        }
        announce.extend([192, 0, 2, 1, 0, 80]);
        announce.extend([0x20; 18]);
        for (family, count) in [(Family::V4, 4), (Family::V6, 1)] {
            let (_, response) = Response::decode(&announce, family).unwrap();
            let Response::Announce {
                interval_s: 1800,
                leechers: 4,
                seeders: 5,
                peers,
            } = response
            else {
                panic!("{response:?}");
            };
            assert_eq!(peers.count(), count);
        }
        let error = b"\0\0\0\x03\0\0\0\x09no \x07such torrent";
        let (_, response) = Response::decode(error, Family::V4).unwrap();
        assert!(matches!(response, Response::Error(text) if text == "no ?such torrent"));
    }

    #[test]
    fn nonsense_is_none_or_harmless() {
        let mut rng = Rng::new(15);
        let mut packet = [0u8; 80];
        for _ in 0..20_000 {
            let len = rng.below(80) as usize;
            rng.fill(&mut packet[..len]);
            if len >= 4 && rng.below(4) != 0 {
                packet[..4].copy_from_slice(&rng.below(5).to_be_bytes());
            }
            let family = [Family::V4, Family::V6][rng.below(2) as usize];
            match Response::decode(&packet[..len], family) {
                Some((_, Response::Announce { peers, .. })) => assert!(peers.count() < 14),
                Some((_, Response::Scrape(scrapes))) => assert!(scrapes.count() < 7),
                Some((_, Response::Connect { .. } | Response::Error(_))) => {}
                None => assert!(len < 20 || packet[..4] != [0, 0, 0, 1]),
            }
        }
    }
}
