//! Decompression of gzip and deflate, which servers and people use for torrents and answers (RFC 1950, 1951, 1952).
//!
//! The caller bounds the output, which passes through a buffer. So 50 KB of memory are enough, whatever the input
//! claims. Checksums are not compared: the formats that are unpacked here show by themselves whether they are whole,
//! and a torrent's content is hashed anyway.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// A format of compression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 alone, as some servers understand the word.
    Deflate,
}

impl Packing {
    /// The format that the first two bytes show. No torrent and no tracker's answer begins as gzip does.
    pub fn shown_by(start: &[u8]) -> Option<Packing> {
        start.starts_with(&GZIP).then_some(Packing::Gzip)
    }

    /// The format that a server names: `gzip`, `x-gzip` or `deflate`.
    pub fn named(name: &str) -> Option<Packing> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Packing::Gzip),
            "deflate" => Some(Packing::Deflate),
            _ => None,
        }
    }
}

/// Why something could not be unpacked.
#[derive(Debug)]
#[non_exhaustive]
pub enum UnpackError {
    /// The input could not be read.
    Read(io::Error),
    /// The input is not in the format that it claims.
    Damaged,
    /// The output is longer than allowed.
    TooLong,
    /// The output could not be written.
    Unkept(io::Error),
}

/// Unpacks `from` into `sink`, at most `limit` bytes. Input that ends too soon gives the output so far.
pub fn unpack(
    packing: Packing,
    from: impl Read,
    limit: u64,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), UnpackError> {
    let mut from = Unpacked::new(packing, from)?;
    let mut out = [0; BUFFER];
    let mut room = limit;
    loop {
        let written = from.step(&mut out)?;
        if written == 0 {
            return Ok(());
        }
        room = room
            .checked_sub(written as u64)
            .ok_or(UnpackError::TooLong)?;
        sink(&out[..written]).map_err(UnpackError::Unkept)?;
    }
}

/// The unpacked bytes of packed ones, as they are read. Input that ends too soon ends these too.
pub(crate) struct Unpacked<R> {
    from: BufReader<R>,
    packing: Packing,
    format: DataFormat,
    state: Box<InflateState>,
    /// The number of parts that were begun.
    parts: usize,
    is_end: bool,
}

impl<R: Read> Unpacked<R> {
    pub(crate) fn new(packing: Packing, from: R) -> Result<Unpacked<R>, UnpackError> {
        let mut from = BufReader::with_capacity(BUFFER, from);
        let format = match packing {
            Packing::Gzip => {
                pass_head(&mut from)?;
                DataFormat::Raw
            }
            Packing::Deflate => match from.fill_buf().map_err(UnpackError::Read)? {
                [first, second, ..] if is_zlib(*first, *second) => DataFormat::Zlib,
                _ => DataFormat::Raw,
            },
        };
        Ok(Unpacked {
            from,
            packing,
            format,
            state: InflateState::new_boxed(format),
            parts: 1,
            is_end: false,
        })
    }

    /// The number of bytes written to `out`; zero at the end.
    fn step(&mut self, out: &mut [u8]) -> Result<usize, UnpackError> {
        while !self.is_end {
            let input = self.from.fill_buf().map_err(UnpackError::Read)?;
            let is_end = input.is_empty();
            let step = inflate(&mut self.state, input, out, MZFlush::None);
            self.from.consume(step.bytes_consumed);
            let written = step.bytes_written;
            match step.status {
                Ok(MZStatus::StreamEnd) => self.end_part()?,
                Ok(_) | Err(MZError::Buf) if step.bytes_consumed > 0 || written > 0 => {}
                Ok(_) | Err(MZError::Buf) if is_end => self.is_end = true,
                _ => return Err(UnpackError::Damaged),
            }
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }

    /// Goes to the next part, if there is one.
    fn end_part(&mut self) -> Result<(), UnpackError> {
        if self.packing != Packing::Gzip || !next_part(&mut self.from)? {
            self.is_end = true;
            return Ok(());
        }
        if self.parts == MOST_PARTS {
            return Err(UnpackError::Damaged);
        }
        self.parts += 1;
        self.state = InflateState::new_boxed(self.format);
        Ok(())
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match out.is_empty() {
            true => Ok(0),
            false => Ok(self.step(out)?),
        }
    }
}

/// Whether these bytes begin a stream of RFC 1950.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31)
}

/// Goes to the next of several parts, which were packed one by one (RFC 1952, 2.2); answers whether there is one.
/// Whatever else stands behind a part is passed over.
fn next_part(from: &mut impl BufRead) -> Result<bool, UnpackError> {
    // What ends a part, and how the next one begins.
    let mut between = [0; 8 + GZIP.len()];
    let passed = read(from, &mut between)
        .and_then(|()| pass_head(&mut Read::chain(&between[8..], &mut *from)));
    match passed {
        Ok(()) => Ok(true),
        Err(UnpackError::Damaged) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Skips the head of a gzip file, with its optional name, comment and other fields.
fn pass_head(from: &mut impl BufRead) -> Result<(), UnpackError> {
    let mut head = [0; 10];
    read(from, &mut head)?;
    let flags = head[3];
    if !head.starts_with(&GZIP) || head[2] != DEFLATED {
        return Err(UnpackError::Damaged);
    }
    if flags & EXTRA != 0 {
        let mut len = [0; 2];
        read(from, &mut len)?;
        let extra = from.take(u16::from_le_bytes(len).into());
        pass(extra)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            while byte(from)? != 0 {}
        }
    }
    if flags & HEAD_CRC != 0 {
        read(from, &mut [0; 2])?;
    }
    Ok(())
}

fn byte(from: &mut impl BufRead) -> Result<u8, UnpackError> {
    let mut byte = [0];
    read(from, &mut byte)?;
    Ok(byte[0])
}

fn read(from: &mut impl BufRead, room: &mut [u8]) -> Result<(), UnpackError> {
    from.read_exact(room).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => UnpackError::Damaged,
        _ => UnpackError::Read(error),
    })
}

fn pass(mut from: impl Read) -> Result<(), UnpackError> {
    let passed = io::copy(&mut from, &mut io::sink());
    passed.map(|_| ()).map_err(UnpackError::Read)
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnpackError::Read(error) | UnpackError::Unkept(error) => error.fmt(f),
            UnpackError::Damaged => f.write_str("it is compressed, and damaged"),
            UnpackError::TooLong => f.write_str("it is compressed, and holds too much"),
        }
    }
}

impl std::error::Error for UnpackError {}

impl From<UnpackError> for io::Error {
    fn from(error: UnpackError) -> io::Error {
        match error {
            UnpackError::Read(error) | UnpackError::Unkept(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const DEFLATED: u8 = 8;

/// Flags of a gzip head.
const HEAD_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// The most parts of a gzip file: each costs its own start, however short it is.
const MOST_PARTS: usize = 1024;

/// Bytes that are unpacked at a time.
const BUFFER: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::rng::Rng;
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    /// Gives few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(room.len()).min(self.1);
            room[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn unpacked(packing: Packing, bytes: &[u8], limit: u64) -> Result<Vec<u8>, UnpackError> {
        let mut out = Vec::new();
        let mut keep = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        unpack(packing, Slow(bytes, 7), limit, &mut keep)?;
        Ok(out)
    }

    fn gzip(flags: u8, more: &[u8], data: &[u8]) -> Vec<u8> {
        let head = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        [&head, more, &compress_to_vec(data, 6), &[0; 8]].concat()
    }

    #[test]
    fn every_packing() {
        let mut rng = Rng::new(1952);
        let mut noise = vec![0; 30_000];
        rng.fill(&mut noise);
        for data in [&b""[..], b"d8:intervali1800ee", &[b'x'; 100_000], &noise] {
            let all = data.len() as u64;
            for (packing, packed) in [
                (Packing::Gzip, gzip(0, b"", data)),
                (
                    Packing::Gzip,
                    gzip(0x1f, b"\x03\0abcname\0comment\0cc", data),
                ),
                (Packing::Deflate, compress_to_vec_zlib(data, 6)),
                (Packing::Deflate, compress_to_vec(data, 6)),
            ] {
                assert_eq!(unpacked(packing, &packed, all).unwrap(), data);
                let trailing = [&packed[..], b"\n<!-- page -->"].concat();
                assert_eq!(unpacked(packing, &trailing, all).unwrap(), data);
                if let Some(less) = all.checked_sub(1) {
                    let too_long = unpacked(packing, &packed, less);
                    assert!(matches!(too_long, Err(UnpackError::TooLong)));
                }
            }
        }
    }

    /// Parts that were packed one by one are one file.
    #[test]
    fn several_parts() {
        let part = |text: &[u8]| gzip(0, b"", text);
        let named = gzip(0x08, b"name\0", b"vali1800ee");
        let packed = [part(b"d8:inter"), part(b""), named].concat();
        for behind in [
            &b""[..],
            &[0; 600],
            b"\x1f\x8b",
            b"\x1f\x8b\x08\x04",
            b"<!-- page -->",
        ] {
            let all = [&packed[..], behind].concat();
            let whole = unpacked(Packing::Gzip, &all, 18).unwrap();
            assert_eq!(whole, b"d8:intervali1800ee", "{behind:?}");
        }
        let too_long = unpacked(Packing::Gzip, &packed, 17);
        assert!(matches!(too_long, Err(UnpackError::TooLong)));
        let many = |count| unpacked(Packing::Gzip, &part(b"").repeat(count), 9);
        assert!(many(MOST_PARTS).is_ok());
        assert!(matches!(many(MOST_PARTS + 1), Err(UnpackError::Damaged)));
    }

    #[test]
    fn a_bomb_is_stopped_early() {
        let bomb = gzip(0, b"", &vec![0; 50_000_000]);
        let mut kept = 0;
        let mut keep = |bytes: &[u8]| {
            kept += bytes.len();
            Ok(())
        };
        let refused = unpack(Packing::Gzip, &bomb[..], 65_536, &mut keep);
        assert!(matches!(refused, Err(UnpackError::TooLong)) && kept <= 65_536);
    }

    #[test]
    fn damage_is_told_and_ends() {
        let good = gzip(0x08, b"name\0", b"d8:intervali1800e5:peers0:e");
        assert!(matches!(
            unpacked(Packing::Gzip, b"", 9),
            Err(UnpackError::Damaged)
        ));
        assert!(matches!(
            unpacked(Packing::Gzip, b"d1:a0:e", 9),
            Err(UnpackError::Damaged)
        ));
        let mut rng = Rng::new(8);
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..rng.below(3) {
                let at = rng.below(u32::try_from(bytes.len()).unwrap()) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            bytes.truncate(rng.below(2 * u32::try_from(good.len()).unwrap()) as usize);
            for packing in [Packing::Gzip, Packing::Deflate] {
                if let Ok(out) = unpacked(packing, &bytes, 1000) {
                    assert!(out.len() <= 1000);
                }
            }
        }
    }
}
