//! The HTTP answers of a tracker, written for the built-in one: what [`http`](super::http) reads.
//!
//! The dictionaries are few and fixed, so they are written out here with their keys in order; each
//! function answers with the length in bytes, or `None` when `out` has no room.

use core::fmt::Write as _;

use crate::hash::InfoHash;
use crate::text::Bytes;
use crate::tracker::Scrape;

/// The answer to an announce (BEP 3), with peers in compact form (BEP 23, BEP 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announced<'a> {
    /// Numbers about the torrent.
    pub numbers: Scrape,
    /// Seconds until the next announce.
    pub interval_s: u32,
    /// Seconds below which no announce is wanted.
    pub min_interval_s: u32,
    /// Compact IPv4 peers.
    pub peers: &'a [u8],
    /// Compact IPv6 peers.
    pub peers6: &'a [u8],
}

/// Bytes of an [`Announced`] besides its peers, at most.
pub const ANNOUNCED_BASE: usize = 200;

impl Announced<'_> {
    /// Writes the answer.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Bytes::new(out);
        let Scrape {
            complete,
            downloaded,
            incomplete,
        } = self.numbers;
        write!(
            out,
            "d8:completei{complete}e10:downloadedi{downloaded}e10:incompletei{incomplete}e\
             8:intervali{}e12:min intervali{}e5:peers{}:",
            self.interval_s,
            self.min_interval_s,
            self.peers.len(),
        )
        .ok()?;
        out.put(self.peers)?;
        if !self.peers6.is_empty() {
            write!(out, "6:peers6{}:", self.peers6.len()).ok()?;
            out.put(self.peers6)?;
        }
        out.put(b"e")?;
        Some(out.len())
    }
}

/// Writes a refusal.
pub fn encode_failure(reason: &str, out: &mut [u8]) -> Option<usize> {
    let mut out = Bytes::new(out);
    write!(out, "d14:failure reason{}:{reason}e", reason.len()).ok()?;
    Some(out.len())
}

/// Writes the answer to a scrape (BEP 48). The torrents are to come in the order of their hashes; those
/// for which there is no more room are left out.
pub fn encode_scrape(
    files: impl IntoIterator<Item = (InfoHash, Scrape)>,
    out: &mut [u8],
) -> Option<usize> {
    // Held back for the end.
    let room = out.len().checked_sub(END.len())?;
    let mut written = Bytes::new(out.get_mut(..room)?);
    written.put(b"d5:filesd")?;
    let mut len = written.len();
    for (info_hash, numbers) in files {
        if encode_file(&mut written, info_hash, numbers).is_none() {
            break;
        }
        len = written.len();
    }
    out.get_mut(len..)?
        .first_chunk_mut()
        .map(|end| *end = *END)?;
    len.checked_add(END.len())
}

const END: &[u8; 2] = b"ee";

fn encode_file(out: &mut Bytes<'_>, info_hash: InfoHash, numbers: Scrape) -> Option<()> {
    let Scrape {
        complete,
        downloaded,
        incomplete,
    } = numbers;
    out.put(b"20:")?;
    out.put(&info_hash.0)?;
    write!(
        out,
        "d8:completei{complete}e10:downloadedi{downloaded}e10:incompletei{incomplete}ee"
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Scrape = Scrape {
        complete: 1,
        downloaded: 2,
        incomplete: 3,
    };

    #[test]
    fn announce() {
        let table: [(&[u8], &[u8], &str); 2] = [
            (b"abcdef", b"", "5:peers6:abcdefe"),
            (
                b"",
                b"012345678901234567",
                "5:peers0:6:peers618:012345678901234567e",
            ),
        ];
        for (peers, peers6, tail) in table {
            let reply = Announced {
                numbers: NUMBERS,
                interval_s: 120,
                min_interval_s: 60,
                peers,
                peers6,
            };
            let mut out = [0; 400];
            let len = reply.encode(&mut out).unwrap();
            let text = core::str::from_utf8(&out[..len]).unwrap();
            let head = "d8:completei1e10:downloadedi2e10:incompletei3e\
                8:intervali120e12:min intervali60e";
            assert_eq!(text.strip_prefix(head), Some(tail));
            for short in 0..len {
                assert_eq!(reply.encode(&mut out[..short]), None);
            }
        }
    }

    #[test]
    fn the_base_is_enough() {
        let most = Scrape {
            complete: u32::MAX,
            downloaded: u32::MAX,
            incomplete: u32::MAX,
        };
        let reply = Announced {
            numbers: most,
            interval_s: u32::MAX,
            min_interval_s: u32::MAX,
            peers: &[0; 6000],
            peers6: &[0; 18_000],
        };
        let mut out = [0; ANNOUNCED_BASE + 24_000];
        assert!(reply.encode(&mut out).is_some());
    }

    #[test]
    fn failure() {
        let mut out = [0; 40];
        let len = encode_failure("no", &mut out).unwrap();
        assert_eq!(&out[..len], b"d14:failure reason2:noe");
        assert_eq!(encode_failure("no", &mut out[..len - 1]), None);
    }

    #[test]
    fn scrape_leaves_out_what_has_no_room() {
        let files = [
            (InfoHash([b'a'; 20]), NUMBERS),
            (InfoHash([b'b'; 20]), NUMBERS),
        ];
        let file = 23 + "d8:completei1e10:downloadedi2e10:incompletei3ee".len();
        let mut out = [0; 400];
        for (room, count) in [(400, 2), (11 + 2 * file, 2), (10 + 2 * file, 1), (11, 0)] {
            let len = encode_scrape(files, &mut out[..room]).unwrap();
            assert_eq!(len, 11 + count * file);
            assert!(out[..len].ends_with(b"ee"));
        }
        assert_eq!(encode_scrape(files, &mut out[..10]), None);
    }
}
