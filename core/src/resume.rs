//! The resume record: what the last run knew about a torrent's files.
//!
//! The record only saves work. One that is damaged, cut off, of a later version or about other files means "verify
//! again": every error of [`Record::decode`] has that answer. Left to the host: to write one only when what it claims
//! is durable, and to replace the old one as a whole.
//!
//! The layout: a magic (4 bytes), a version (1), the length of the body (4, little-endian), then the body in
//! postcard's encoding. The last 8 bytes are the first of the SHA-1 of everything before.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::{InfoHash, Sha1, Smol};

/// The content of a resume file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Bytes of content sent in all runs together.
    pub uploaded: u64,
    /// A digest of the files' sizes and times of change, by the host. If it is not what the files
    /// have now, `verified` is worth nothing.
    pub fingerprint: u64,
    /// Pieces that had the right hash.
    pub verified: Verified<'a>,
}

/// Which pieces of a torrent were verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verified<'a> {
    /// None.
    Nothing,
    /// Every one.
    All,
    /// The pieces whose bit is set, in the order of [`bits`](crate::bits). The length is not checked
    /// here: it must be that of the torrent.
    Some(&'a [u8]),
}

/// Why a record cannot be used. The files are to be verified again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResumeError {
    /// The bytes are no resume record.
    Foreign,
    /// The record was written by a later version.
    Version(u8),
    /// The record is cut off, or too long.
    Length,
    /// The bytes have changed since the record was written.
    Checksum,
    /// The body is not what the version says.
    Body,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResumeError::Foreign => f.write_str("it is no resume record"),
            ResumeError::Version(version) => {
                write!(f, "it is a resume record of version {version}, a later one")
            }
            ResumeError::Length => f.write_str("it is cut off or too long"),
            ResumeError::Checksum | ResumeError::Body => f.write_str("it is damaged"),
        }
    }
}

/// The buffer is too short for the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

impl<'a> Record<'a> {
    /// Bytes of the encoded record; a buffer of [`ENCODED_BASE`] plus the bitfield's length always
    /// has room.
    pub fn encoded_len(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        let body = postcard::serialize_with_flavor(&Body::from(self), size);
        body.unwrap_or(0)
            .saturating_add(HEAD)
            .saturating_add(CHECKSUM)
    }

    /// Writes the record to the front of `out`; answers with its length in bytes.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let room = out.get_mut(HEAD..).ok_or(NoRoom)?;
        let body = postcard::to_slice(&Body::from(self), room).map_err(|_| NoRoom)?;
        let len = u32::try_from(body.len()).map_err(|_| NoRoom)?;
        let end = body.len().checked_add(HEAD).ok_or(NoRoom)?;
        let head = MAGIC.iter().chain(&[VERSION]).copied();
        for (to, from) in out.iter_mut().zip(head.chain(len.to_le_bytes())) {
            *to = from;
        }
        let (bytes, rest) = out.split_at_mut_checked(end).ok_or(NoRoom)?;
        let checksum = checksum(bytes);
        let place = rest.get_mut(..CHECKSUM).ok_or(NoRoom)?;
        place.copy_from_slice(&checksum);
        end.checked_add(CHECKSUM).ok_or(NoRoom)
    }

    /// Reads a record that is all of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, ResumeError> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(ResumeError::Foreign)?;
        if *magic != MAGIC {
            return Err(ResumeError::Foreign);
        }
        let (&version, rest) = rest.split_first().ok_or(ResumeError::Length)?;
        if version != VERSION {
            return Err(ResumeError::Version(version));
        }
        let (len, rest) = rest.split_first_chunk().ok_or(ResumeError::Length)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| ResumeError::Length)?;
        let (body, told) = rest.split_last_chunk().ok_or(ResumeError::Length)?;
        if body.len() != len {
            return Err(ResumeError::Length);
        }
        let covered = bytes.split_last_chunk::<CHECKSUM>();
        if covered.is_none_or(|(covered, _)| checksum(covered) != *told) {
            return Err(ResumeError::Checksum);
        }
        match postcard::take_from_bytes::<Body<'a>>(body) {
            Ok((body, [])) => Ok(body.into()),
            _ => Err(ResumeError::Body),
        }
    }
}

/// The most bytes of a record besides its bitfield.
pub const ENCODED_BASE: usize = HEAD + 20 + 10 + 10 + 1 + 5 + CHECKSUM;

/// Letters of `everseed resume` after a byte that begins no text.
const MAGIC: [u8; 4] = *b"\x93evr";

const VERSION: u8 = 1;

/// Magic, version and length.
const HEAD: usize = 4 + 1 + 4;

/// Bytes of the SHA-1 that are kept: enough against accidents, and nobody attacks their own file.
const CHECKSUM: usize = 8;

/// The record as postcard sees it.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    info_hash: [u8; 20],
    uploaded: u64,
    fingerprint: u64,
    #[serde(borrow)]
    verified: Verified<'a>,
}

impl<'a> From<&Record<'a>> for Body<'a> {
    fn from(record: &Record<'a>) -> Body<'a> {
        Body {
            info_hash: record.info_hash.0,
            uploaded: record.uploaded,
            fingerprint: record.fingerprint,
            verified: record.verified,
        }
    }
}

impl<'a> From<Body<'a>> for Record<'a> {
    fn from(body: Body<'a>) -> Record<'a> {
        Record {
            info_hash: InfoHash(body.info_hash),
            uploaded: body.uploaded,
            fingerprint: body.fingerprint,
            verified: body.verified,
        }
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sha1 = Smol::default();
    sha1.update(bytes);
    let digest = sha1.finish();
    *digest.first_chunk().unwrap_or(&[0; CHECKSUM])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::vec::Vec;

    fn table() -> [Record<'static>; 4] {
        let record = Record {
            info_hash: InfoHash([7; 20]),
            uploaded: 0,
            fingerprint: 0,
            verified: Verified::Nothing,
        };
        [
            record,
            Record {
                uploaded: u64::MAX,
                fingerprint: u64::MAX,
                verified: Verified::All,
                ..record
            },
            Record {
                uploaded: 300,
                verified: Verified::Some(&[]),
                ..record
            },
            Record {
                uploaded: u64::MAX,
                fingerprint: u64::MAX,
                verified: Verified::Some(&[0xa5; 1000]),
                ..record
            },
        ]
    }

    fn encode(record: &Record<'_>) -> Vec<u8> {
        let mut out = std::vec![0; record.encoded_len()];
        assert_eq!(record.encode(&mut out), Ok(out.len()));
        out
    }

    #[test]
    fn round_trip_in_exactly_the_room_it_needs() {
        for record in table() {
            let mut bytes = encode(&record);
            assert_eq!(Record::decode(&bytes), Ok(record));
            let bits = match record.verified {
                Verified::Some(bits) => bits.len(),
                _ => 0,
            };
            assert!(bytes.len() <= ENCODED_BASE + bits);
            let len = bytes.len();
            for short in [0, 1, HEAD, len - CHECKSUM, len - 1] {
                assert_eq!(record.encode(&mut bytes[..short]), Err(NoRoom));
            }
        }
    }

    #[test]
    fn the_first_versions_bytes_stay_readable() {
        let bytes = [
            &b"\x93evr\x01\x1a\0\0\0"[..],
            &[7; 20],
            &[0xac, 0x02, 0x05, 0x02, 0x01, 0x80],
            &[0xbd, 0x53, 0xf9, 0x02, 0x84, 0x81, 0xfe, 0x03],
        ]
        .concat();
        let record = Record {
            info_hash: InfoHash([7; 20]),
            uploaded: 300,
            fingerprint: 5,
            verified: Verified::Some(&[0x80]),
        };
        assert_eq!(encode(&record), bytes);
        assert_eq!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = encode(&table()[3]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let table = [
            (Vec::new(), ResumeError::Foreign),
            (b"\x93ev".to_vec(), ResumeError::Foreign),
            (b"d8:announce".to_vec(), ResumeError::Foreign),
            (MAGIC.to_vec(), ResumeError::Length),
            (with(4, 2), ResumeError::Version(2)),
            (with(5, 0), ResumeError::Length),
            (with(8, 0xff), ResumeError::Length),
            (with(HEAD, 9), ResumeError::Checksum),
            (with(good.len() - 1, 0), ResumeError::Checksum),
            (good[..good.len() - 1].to_vec(), ResumeError::Length),
            ([&good[..], &[0]].concat(), ResumeError::Length),
        ];
        for (bytes, error) in table {
            assert_eq!(Record::decode(&bytes), Err(error));
        }
    }

    /// A body that makes no sense under a checksum that is right.
    #[test]
    fn a_foreign_body_is_an_error() {
        let mut rng = Rng::new(5);
        for _ in 0..5000 {
            let mut body = [0; 64];
            let body = &mut body[..rng.below(64) as usize];
            rng.fill(body);
            let mut bytes = MAGIC.to_vec();
            bytes.push(VERSION);
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(body);
            bytes.extend(checksum(&bytes));
            match Record::decode(&bytes) {
                Ok(record) => assert!(record.encoded_len() <= bytes.len()),
                Err(error) => assert_eq!(error, ResumeError::Body),
            }
        }
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let mut rng = Rng::new(4);
        for record in table() {
            let good = encode(&record);
            for _ in 0..2000 {
                let mut bytes = good.clone();
                for _ in 0..=rng.below(3) {
                    let at = rng.below(bytes.len() as u32) as usize;
                    bytes[at] ^= 1 << rng.below(8);
                }
                if rng.below(4) == 0 {
                    bytes.truncate(rng.below(bytes.len() as u32) as usize);
                }
                assert!(Record::decode(&bytes).is_err() || bytes == good);
            }
        }
    }
}
