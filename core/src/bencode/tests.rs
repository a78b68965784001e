//! Both directions, and everything that can be wrong.

extern crate std;

use std::string::String;
use std::vec::Vec;

use super::{Error, ErrorKind, Reader, Type, Writer};
use crate::hash::{Sha1, Smol};
use crate::rng::Rng;

type Outcome<T> = Result<T, Error<core::convert::Infallible>>;

struct Sink(Vec<u8>);

impl embedded_io::ErrorType for Sink {
    type Error = core::convert::Infallible;
}

impl embedded_io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Reads any document, and writes it again in canonical form.
fn copy<R>(reader: &mut Reader<R>, out: &mut Writer<Sink>) -> Outcome<()>
where
    R: embedded_io::Read<Error = core::convert::Infallible>,
{
    match reader.peek()? {
        Type::Integer => out.integer(reader.integer()?).unwrap(),
        Type::String => {
            let len = reader.string_len()?;
            out.string_len(len).unwrap();
            while let Some(chunk) = reader.chunk()? {
                out.raw(chunk).unwrap();
            }
        }
        Type::List => {
            reader.list()?;
            out.list().unwrap();
            while reader.more()? {
                copy(reader, out)?;
            }
            out.end().unwrap();
        }
        Type::Dict => {
            reader.dict()?;
            out.raw(b"d").unwrap();
            let mut room = [0; 64];
            while let Some(key) = reader.key(&mut room)? {
                out.string(key).unwrap();
                copy(reader, out)?;
            }
            out.raw(b"e").unwrap();
        }
    }
    Ok(())
}

fn round(bytes: &[u8]) -> Outcome<Vec<u8>> {
    round_from(bytes)
}

fn round_from<R>(input: R) -> Outcome<Vec<u8>>
where
    R: embedded_io::Read<Error = core::convert::Infallible>,
{
    let mut reader = Reader::new(input);
    let mut out = Writer::new(Sink(Vec::new()));
    copy(&mut reader, &mut out)?;
    reader.finish()?;
    Ok(out.into_inner().0)
}

fn skip(bytes: &[u8]) -> Outcome<()> {
    let mut reader = Reader::new(bytes);
    reader.skip()?;
    reader.finish()
}

#[test]
fn what_is_written_is_what_was_read() {
    for text in [
        "i0e",
        "i-1e",
        "i9223372036854775807e",
        "i-9223372036854775808e",
        "0:",
        "4:spam",
        "le",
        "de",
        "l4:spami42ee",
        "d1:a1:b1:cd1:dlli1eeeee",
        // Unsorted and duplicate keys pass.
        "d1:b0:1:a0:1:a0:e",
    ] {
        let bytes = text.as_bytes();
        assert_eq!(round(bytes).as_deref(), Ok(bytes), "{text}");
        assert_eq!(skip(bytes), Ok(()), "{text}");
    }
    assert_eq!(skip(b"i99999999999999999999999e"), Ok(()));
    let long = std::format!("2000:{}", "x".repeat(2000));
    assert_eq!(round(long.as_bytes()).as_deref(), Ok(long.as_bytes()));
}

#[test]
fn every_mistake_has_its_name_and_place() {
    use ErrorKind::*;
    let deep = "l".repeat(129);
    let cases = [
        ("", Truncated, 0),
        ("i", Truncated, 1),
        ("i1", Truncated, 2),
        ("4:spa", Truncated, 5),
        ("4", Truncated, 1),
        ("l", Truncated, 1),
        ("d1:a", Truncated, 4),
        ("ie", EmptyNumber, 1),
        ("i-e", EmptyNumber, 2),
        ("i1x", UnexpectedByte(b'x'), 2),
        ("i+1e", UnexpectedByte(b'+'), 1),
        ("-1:a", UnexpectedByte(b'-'), 0),
        ("x", UnexpectedByte(b'x'), 0),
        ("e", UnexpectedByte(b'e'), 0),
        ("99999999999999999999:", NumberTooLarge, 18),
        ("di1ei2ee", KeyNotString, 1),
        ("d1:ae", MissingValue, 4),
        ("d1:al", Truncated, 5),
        (deep.as_str(), TooDeep, 128),
        ("i1ei2e", TrailingBytes, 3),
        ("le ", TrailingBytes, 2),
    ];
    for (text, kind, offset) in cases {
        let error = Error { kind, offset };
        assert_eq!(round(text.as_bytes()), Err(error), "{text}");
        assert_eq!(skip(text.as_bytes()), Err(error), "{text}, passed over");
    }
    // Such a number is an error only for a caller that reads it.
    for text in ["i9223372036854775808e", "i-9223372036854775809e"] {
        let large = round(text.as_bytes()).unwrap_err();
        assert_eq!(large.kind, NumberTooLarge, "{text}");
        assert_eq!(skip(text.as_bytes()), Ok(()), "{text}");
    }
    let (kind, offset) = (UnexpectedByte(b'x'), 20);
    assert_eq!(skip(b"i9223372036854775808x"), Err(Error { kind, offset }));
}

#[test]
fn numbers_that_are_not_to_the_letter() {
    for (text, same) in [
        ("i00e", "i0e"),
        ("i-0e", "i0e"),
        ("i0900e", "i900e"),
        ("i-007e", "i-7e"),
        ("i000000000000000000000000000005e", "i5e"),
        ("0004:spam", "4:spam"),
        ("00:", "0:"),
    ] {
        assert_eq!(round(text.as_bytes()).as_deref(), Ok(same.as_bytes()));
        assert_eq!(skip(text.as_bytes()), Ok(()), "{text}");
    }
    for (text, nearest) in [
        ("i-5e", -5),
        ("i9223372036854775807e", i64::MAX),
        ("i9223372036854775808e", i64::MAX),
        ("i99999999999999999999e", i64::MAX),
        ("i-9223372036854775809e", i64::MIN),
    ] {
        let mut reader: Reader<_> = Reader::new(text.as_bytes());
        assert_eq!(reader.integer_clamped(), Ok(nearest), "{text}");
        reader.finish().unwrap();
    }
    let mut reader: Reader<_> = Reader::new(&b"i--1e"[..]);
    assert!(reader.integer_clamped().is_err());
}

#[test]
fn a_preamble_is_passed_over() {
    for (text, len) in [("d", 0), ("\u{feff}d", 3), (" \r\n\td", 4)] {
        let mut reader: Reader<_> = Reader::new(text.as_bytes());
        reader.pass_preamble().unwrap();
        assert_eq!((reader.offset(), reader.peek()), (len, Ok(Type::Dict)));
    }
}

#[test]
fn a_number_that_does_not_fit_is_passed_over() {
    let mut reader = Reader::new(&b"d1:ai99999999999999999999e1:bi5ee"[..]);
    let mut room = [0; 2];
    reader.dict().unwrap();
    reader.key(&mut room).unwrap();
    assert_eq!(
        reader.integer().unwrap_err().kind,
        ErrorKind::NumberTooLarge
    );
    assert_eq!(reader.key(&mut room).unwrap(), Some(&b"b"[..]));
    assert_eq!(reader.integer(), Ok(5));
    assert_eq!(reader.key(&mut room), Ok(None));
    reader.finish().unwrap();
}

#[test]
fn the_writer_goes_as_deep_as_the_reader() {
    let mut out = Writer::new(Sink(Vec::new()));
    for _ in 0..super::DEPTH {
        out.dict().unwrap();
        out.key(b"k").unwrap();
    }
    out.integer(0).unwrap();
    for _ in 0..super::DEPTH {
        out.end().unwrap();
    }
    let bytes = out.into_inner().0;
    assert_eq!(skip(&bytes), Ok(()));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "out of order")]
fn the_writer_wants_keys_in_order() {
    let mut out = Writer::new(Sink(Vec::new()));
    out.dict().unwrap();
    out.key(b"b").unwrap();
    out.integer(0).unwrap();
    out.key(b"a").unwrap();
}

#[test]
fn types_and_room() {
    let mut room = [0; 3];
    let number = Reader::new(&b"1:a"[..]).integer().unwrap_err();
    let expected = Type::Integer;
    assert_eq!(
        (number.kind, number.offset),
        (ErrorKind::WrongType { expected }, 0)
    );
    let mut reader = Reader::new(&b"l4:spam3:egge"[..]);
    reader.list().unwrap();
    let long = reader.string(&mut room).unwrap_err();
    assert_eq!(
        (long.kind, long.offset),
        (ErrorKind::TooLong { room: 3 }, 1)
    );
    // The bytes that do not fit are skipped.
    assert_eq!(reader.string(&mut room).unwrap(), b"egg");
    assert_eq!(reader.more(), Ok(false));
    let mut reader = Reader::new(&b"4:spam"[..]);
    assert_eq!(reader.string_start(&mut room).unwrap(), b"spa");
    reader.finish().unwrap();
}

#[test]
fn values_that_nobody_reads_are_passed_over() {
    let mut reader = Reader::new(&b"d4:longd1:xli1eee1:yi5ee"[..]);
    let mut room = [0; 2];
    reader.dict().unwrap();
    assert_eq!(reader.key(&mut room).unwrap(), Some(&b"lo"[..]));
    assert_eq!(reader.key(&mut room).unwrap(), Some(&b"y"[..]));
    assert_eq!(reader.integer(), Ok(5));
    assert_eq!(reader.key(&mut room).unwrap(), None);
    reader.finish().unwrap();
}

/// A stream that gives one byte at a time.
struct Slow<'a>(&'a [u8]);

impl embedded_io::ErrorType for Slow<'_> {
    type Error = core::convert::Infallible;
}

impl embedded_io::Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let Some((&byte, rest)) = self.0.split_first() else {
            return Ok(0);
        };
        buf[0] = byte;
        self.0 = rest;
        Ok(1)
    }
}

#[test]
fn hashes_the_raw_bytes_of_a_value() {
    let info = std::format!("d1:z700:{}1:ai1ee", "q".repeat(700));
    let text = std::format!("d2:aa1:x4:info{info}2:zzi1ee");
    let mut sha1 = Smol::default();
    sha1.update(info.as_bytes());
    let expected = sha1.finish();
    let mut whole = Reader::new(text.as_bytes());
    assert_eq!(hash_of_info(&mut whole), expected);
    let mut slow = Reader::new(Slow(text.as_bytes()));
    assert_eq!(hash_of_info(&mut slow), expected);
}

fn hash_of_info<R: embedded_io::Read>(reader: &mut Reader<R>) -> [u8; 20]
where
    R::Error: core::fmt::Debug,
{
    let mut room = [0; 8];
    reader.dict().unwrap();
    while reader.key(&mut room).unwrap() != Some(b"info") {}
    reader.start_hash();
    reader.skip().unwrap();
    let hash = reader.finish_hash().unwrap();
    assert_eq!(reader.key(&mut room).unwrap(), Some(&b"zz"[..]));
    hash
}

#[test]
fn mutations_never_panic_and_skip_agrees() {
    let seed = b"d8:announce20:http://tracker.test/4:infod5:filesld6:lengthi3e4:pathl1:a1:beee\
        4:name4:test12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa7:privatei1eee";
    let mut rng = Rng::new(5);
    for _ in 0..30_000 {
        let mut bytes = Vec::from(&seed[..]);
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(u32::try_from(bytes.len()).unwrap()) as usize;
            match rng.below(4) {
                0 => bytes[at] = b"0123456789ilde:-"[rng.below(16) as usize],
                1 => bytes.truncate(at),
                2 => _ = bytes.remove(at),
                _ => bytes[at] = rng.bits32() as u8,
            }
            if bytes.is_empty() {
                break;
            }
        }
        let (copied, skipped) = (round(&bytes), skip(&bytes));
        assert_eq!(copied, round_from(Slow(&bytes)), "however it arrives");
        let numbers_only = matches!(
            copied,
            Err(Error {
                kind: ErrorKind::NumberTooLarge,
                ..
            })
        );
        if !numbers_only {
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(
                copied.as_ref().map(|_| ()),
                skipped.as_ref().map(|_| ()),
                "{text}"
            );
        }
        if let Ok(copied) = copied {
            assert_eq!(round(&copied).as_deref(), Ok(&copied[..]), "canonical");
            let zeros = copied.len() < bytes.len();
            assert!(copied == bytes || zeros, "only needless zeros are left out");
        }
    }
}
