//! [`Reader`] takes a bencoded document from a stream or a slice, one value at a time.

use core::fmt;

use embedded_io::Read;
use heapless::Vec;

use crate::hash::{Digest, Sha1, Smol};

/// Reads one bencoded document from `R`, which may be a stream or a slice.
///
/// Values are read in order: [`peek`](Self::peek) tells the type of the next one. A value is then read by its type, or
/// passed over by [`skip`](Self::skip), which holds nothing of it in memory.
///
/// - A dictionary: [`dict`](Self::dict), then [`key`](Self::key) and the key's value, until `key`
///   returns `None`.
/// - A list: [`list`](Self::list), then values while [`more`](Self::more) is true.
/// - A byte string: [`string`](Self::string) for a short one; or [`string_len`](Self::string_len)
///   and [`chunk`](Self::chunk)s until there are none.
/// - At the end: [`finish`](Self::finish).
///
/// Numbers need not be canonical, as programs in use write `i007e` or `i-0e`. Only the bytes as they stand are
/// hashed, so no document has two meanings.
///
/// Bytes can be hashed while they are read: see [`start_hash`](Self::start_hash).
///
/// Invariants: `mark <= at <= end <= BUFFER`; at most [`DEPTH`] containers are `open`; `rest` bytes of the current
/// byte string were not taken yet.
#[derive(Debug)]
pub struct Reader<R, H = Smol> {
    input: R,
    buffer: [u8; BUFFER],
    at: usize,
    end: usize,
    /// The offset in the buffer of the first byte that is not hashed yet.
    mark: usize,
    /// The offset of `buffer[0]` in the document.
    before: u64,
    hash: Option<H>,
    open: Vec<Open, DEPTH>,
    rest: u64,
}

/// A container that is not finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    List,
    /// A dictionary whose next item is a key.
    Key,
    /// A dictionary whose next item is a value.
    Value,
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// An integer.
    Integer,
    /// A byte string.
    String,
    /// A list.
    List,
    /// A dictionary.
    Dict,
}

/// The fault of a document, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error<E> {
    /// The kind of the fault.
    pub kind: ErrorKind<E>,
    /// The offset in the document.
    pub offset: u64,
}

/// The kinds of faults; `E` is the stream's own error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind<E> {
    /// The stream failed.
    Io(E),
    /// The document ends too soon.
    Truncated,
    /// This byte is not allowed here.
    UnexpectedByte(u8),
    /// A number without digits.
    EmptyNumber,
    /// A number that does not fit in 64 bits, or a length that is too large.
    NumberTooLarge,
    /// More than [`DEPTH`] containers in one another.
    TooDeep,
    /// A key that is no byte string.
    KeyNotString,
    /// A dictionary ends after a key.
    MissingValue,
    /// A value of another type than the caller wants.
    WrongType {
        /// The type that was asked for.
        expected: Type,
    },
    /// A byte string longer than there is room for.
    TooLong {
        /// The length of the room in bytes.
        room: u32,
    },
    /// There are bytes after the document.
    TrailingBytes,
}

/// The most containers in one another.
///
/// libtorrent allows 100, so there may be torrents with as many.
pub const DEPTH: usize = 128;

const BUFFER: usize = 512;

type Result<T, R> = core::result::Result<T, Error<<R as embedded_io::ErrorType>::Error>>;

impl<R: Read> Reader<R> {
    /// A reader at the start of a document.
    pub fn new(input: R) -> Reader<R> {
        Reader::hashing(input)
    }
}

impl<R: Read, H: Sha1> Reader<R, H> {
    /// A reader at the start of a document, with another SHA-1 for [`start_hash`](Self::start_hash).
    pub fn hashing(input: R) -> Reader<R, H> {
        Reader {
            input,
            buffer: [0; BUFFER],
            at: 0,
            end: 0,
            mark: 0,
            before: 0,
            hash: None,
            open: Vec::new(),
            rest: 0,
        }
    }

    /// A reader whose first byte is at `offset` in the document. Errors and offsets count from the document's start.
    pub fn resumed(input: R, offset: u64) -> Reader<R, H> {
        Reader {
            before: offset,
            ..Reader::hashing(input)
        }
    }

    /// The offset of the next byte in the document.
    pub fn offset(&self) -> u64 {
        self.before.saturating_add(self.at as u64)
    }

    /// Skips a byte order mark and white space before a document. Some scripts on the web write them.
    pub fn pass_preamble(&mut self) -> Result<(), R> {
        while matches!(
            self.peek_byte()?,
            0xef | 0xbb | 0xbf | b' ' | b'\t' | b'\r' | b'\n'
        ) {
            self.take_byte()?;
        }
        Ok(())
    }

    /// Hashes every byte from here on.
    pub fn start_hash(&mut self) {
        self.mark = self.at;
        self.hash = Some(H::default());
    }

    /// The hash of the bytes since [`start_hash`](Self::start_hash).
    pub fn finish_hash(&mut self) -> Option<Digest> {
        self.flush_hash();
        self.hash.take().map(H::finish)
    }

    /// The type of the next value.
    pub fn peek(&mut self) -> Result<Type, R> {
        self.settle()?;
        match self.peek_byte()? {
            b'i' => Ok(Type::Integer),
            b'0'..=b'9' => Ok(Type::String),
            b'l' => Ok(Type::List),
            b'd' => Ok(Type::Dict),
            b'e' if self.open.last() == Some(&Open::Value) => self.fail(ErrorKind::MissingValue),
            other => self.fail(ErrorKind::UnexpectedByte(other)),
        }
    }

    /// Reads a number. One that does not fit is an error, but it is skipped, so the caller may go on.
    pub fn integer(&mut self) -> Result<i64, R> {
        self.number()?.1
    }

    /// Reads a number. One that does not fit becomes the nearest that does.
    pub fn integer_clamped(&mut self) -> Result<i64, R> {
        let (negative, value) = self.number()?;
        Ok(value.unwrap_or(if negative { i64::MIN } else { i64::MAX }))
    }

    /// Begins a byte string. Returns its length in bytes. The bytes are then read by
    /// [`chunk`](Self::chunk), or skipped when the next value is read.
    pub fn string_len(&mut self) -> Result<u64, R> {
        self.expect(Type::String)?;
        self.begin_string()?;
        self.done_value();
        Ok(self.rest)
    }

    /// Returns the next bytes of the byte string, as many as are in the buffer, or `None` at its end.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, R> {
        if self.rest == 0 {
            return Ok(None);
        }
        if self.at == self.end {
            self.fill()?;
        }
        let room = self.end.saturating_sub(self.at);
        let len = usize::try_from(self.rest).unwrap_or(room).min(room);
        let start = self.at;
        self.at = start.saturating_add(len);
        self.rest = self.rest.saturating_sub(len as u64);
        Ok(self.buffer.get(start..self.at))
    }

    /// Reads a byte string into `room`.
    pub fn string<'b>(&mut self, room: &'b mut [u8]) -> Result<&'b [u8], R> {
        let offset = self.offset();
        let len = self.string_len()?;
        let space = u32::try_from(room.len()).unwrap_or(u32::MAX);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let room = room.get_mut(..len).ok_or(Error {
            kind: ErrorKind::TooLong { room: space },
            offset,
        })?;
        self.copy(room)?;
        Ok(room)
    }

    /// Reads the start of a byte string, as much as fits in `room`. The rest is skipped.
    pub fn string_start<'b>(&mut self, room: &'b mut [u8]) -> Result<&'b [u8], R> {
        let len = self.string_len()?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(room.len());
        let room = room.get_mut(..len).unwrap_or_default();
        self.copy(room)?;
        Ok(room)
    }

    /// Reads the start of a byte string, and of one that is longer than `room` its last `last` bytes too, at
    /// the end of `room`. The bytes between them are skipped.
    pub fn string_ends<'b>(&mut self, room: &'b mut [u8], last: usize) -> Result<&'b [u8], R> {
        let len = self.string_len()?;
        let most = room.len();
        if usize::try_from(len).is_ok_and(|len| len <= most) {
            let len = usize::try_from(len).unwrap_or(most);
            let room = room.get_mut(..len).unwrap_or_default();
            self.copy(room)?;
            return Ok(room);
        }
        let (start, end) = room.split_at_mut(most.saturating_sub(last));
        self.copy(start)?;
        while self.rest > end.len() as u64 {
            let surplus = self.rest.saturating_sub(end.len() as u64);
            let room = self.end.saturating_sub(self.at);
            let pass = usize::try_from(surplus).unwrap_or(room).min(room);
            self.at = self.at.saturating_add(pass);
            self.rest = self.rest.saturating_sub(pass as u64);
            if self.at == self.end && self.rest > 0 {
                self.fill()?;
            }
        }
        self.copy(end)?;
        Ok(room)
    }

    /// Begins a list.
    pub fn list(&mut self) -> Result<(), R> {
        self.expect(Type::List)?;
        self.enter(Open::List)
    }

    /// Whether the list has another value. If not, the list is done.
    pub fn more(&mut self) -> Result<bool, R> {
        self.settle()?;
        if self.peek_byte()? != b'e' {
            return Ok(true);
        }
        self.leave()?;
        Ok(false)
    }

    /// Begins a dictionary.
    pub fn dict(&mut self) -> Result<(), R> {
        self.expect(Type::Dict)?;
        self.enter(Open::Key)
    }

    /// The next key of the dictionary; `None` if there is no more, and the dictionary is done. A value that was
    /// not read is skipped. Of a key longer than `room` only the start is read: choose `room` longer
    /// than every key that you know.
    pub fn key<'b>(&mut self, room: &'b mut [u8]) -> Result<Option<&'b [u8]>, R> {
        self.settle()?;
        if self.open.last() == Some(&Open::Value) {
            self.skip()?;
        }
        match self.peek_byte()? {
            b'e' => {
                self.leave()?;
                return Ok(None);
            }
            b'0'..=b'9' => {}
            b'i' | b'l' | b'd' => return self.fail(ErrorKind::KeyNotString),
            other => return self.fail(ErrorKind::UnexpectedByte(other)),
        }
        self.begin_string()?;
        if let Some(open) = self.open.last_mut() {
            *open = Open::Value;
        }
        let len = usize::try_from(self.rest).unwrap_or(usize::MAX);
        let room = room.get_mut(..len.min(room.len())).unwrap_or_default();
        self.copy(room)?;
        self.settle()?;
        Ok(Some(room))
    }

    /// Skips a value of any kind.
    pub fn skip(&mut self) -> Result<(), R> {
        let depth = self.open.len();
        self.skip_one()?;
        while self.open.len() > depth {
            match self.open.last().copied() {
                Some(Open::Key) => _ = self.key(&mut [])?,
                Some(Open::List) if !self.more()? => {}
                _ => self.skip_one()?,
            }
        }
        self.settle()
    }

    /// Ends the document: an error if anything follows it.
    pub fn finish(&mut self) -> Result<(), R> {
        self.settle()?;
        if self.at == self.end && !self.refill()? {
            return Ok(());
        }
        self.fail(ErrorKind::TrailingBytes)
    }

    fn skip_one(&mut self) -> Result<(), R> {
        match self.peek()? {
            Type::Integer => self.integer_clamped().map(|_| ()),
            Type::String => self.string_len().map(|_| ()),
            Type::List => self.list(),
            Type::Dict => self.dict(),
        }
    }

    /// Reads a number. Returns whether it has a minus sign, and its value, or the reason why it does not fit.
    fn number(&mut self) -> Result<(bool, Result<i64, R>), R> {
        self.expect(Type::Integer)?;
        self.take_byte()?;
        let negative = self.peek_byte()? == b'-';
        if negative {
            self.take_byte()?;
        }
        let start = self.offset();
        let most = if negative {
            i64::MIN.unsigned_abs()
        } else {
            i64::MAX.unsigned_abs()
        };
        let magnitude = match self.digits(b'e', most) {
            Err(error) if matches!(error.kind, ErrorKind::NumberTooLarge) => {
                self.pass_digits()?;
                return Ok((negative, Err(error)));
            }
            other => other?,
        };
        self.done_value();
        let value = if negative {
            0i64.checked_sub_unsigned(magnitude)
        } else {
            i64::try_from(magnitude).ok()
        };
        let too_large = Error {
            kind: ErrorKind::NumberTooLarge,
            offset: start,
        };
        Ok((negative, value.ok_or(too_large)))
    }

    fn expect(&mut self, expected: Type) -> Result<(), R> {
        if self.peek()? == expected {
            return Ok(());
        }
        self.fail(ErrorKind::WrongType { expected })
    }

    /// Reads digits up to and with `last`. Stops inside a number when it becomes larger than `most`.
    fn digits(&mut self, last: u8, most: u64) -> Result<u64, R> {
        let mut value = 0u64;
        let mut count = 0u32;
        loop {
            let digit = match self.peek_byte()? {
                byte @ b'0'..=b'9' => u64::from(byte.wrapping_sub(b'0')),
                byte if byte == last && count > 0 => {
                    self.take_byte()?;
                    return Ok(value);
                }
                byte if byte == last => return self.fail(ErrorKind::EmptyNumber),
                byte => return self.fail(ErrorKind::UnexpectedByte(byte)),
            };
            let next = value.checked_mul(10).and_then(|v| v.checked_add(digit));
            match next.filter(|&value| value <= most) {
                Some(next) => value = next,
                None => return self.fail(ErrorKind::NumberTooLarge),
            }
            count = count.saturating_add(1);
            self.take_byte()?;
        }
    }

    fn begin_string(&mut self) -> Result<(), R> {
        self.rest = self.digits(b':', i64::MAX.unsigned_abs())?;
        Ok(())
    }

    /// Skips the rest of a number that is too large.
    fn pass_digits(&mut self) -> Result<(), R> {
        while self.peek_byte()?.is_ascii_digit() {
            self.take_byte()?;
        }
        match self.peek_byte()? {
            b'e' => self.take_byte()?,
            other => return self.fail(ErrorKind::UnexpectedByte(other)),
        };
        self.done_value();
        Ok(())
    }

    fn enter(&mut self, open: Open) -> Result<(), R> {
        if self.open.is_full() {
            return self.fail(ErrorKind::TooDeep);
        }
        self.take_byte()?;
        self.done_value();
        // There is room: it was checked above.
        let _ = self.open.push(open);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), R> {
        self.take_byte()?;
        self.open.pop();
        Ok(())
    }

    /// Notes that a value was read or begun. In a dictionary, a key comes next.
    fn done_value(&mut self) {
        if let Some(open @ Open::Value) = self.open.last_mut() {
            *open = Open::Key;
        }
    }

    /// Skips the rest of a byte string.
    fn settle(&mut self) -> Result<(), R> {
        while self.chunk()?.is_some() {}
        Ok(())
    }

    fn copy(&mut self, mut room: &mut [u8]) -> Result<(), R> {
        while !room.is_empty() {
            if self.at == self.end {
                self.fill()?;
            }
            let held = self.buffer.get(self.at..self.end).unwrap_or_default();
            let len = held.len().min(room.len());
            let (now, later) = room.split_at_mut_checked(len).unwrap_or_default();
            for (to, from) in now.iter_mut().zip(held) {
                *to = *from;
            }
            self.at = self.at.saturating_add(len);
            self.rest = self.rest.saturating_sub(len as u64);
            room = later;
        }
        Ok(())
    }

    fn peek_byte(&mut self) -> Result<u8, R> {
        if self.at == self.end {
            self.fill()?;
        }
        match self.buffer.get(self.at) {
            Some(&byte) => Ok(byte),
            None => self.fail(ErrorKind::Truncated),
        }
    }

    fn take_byte(&mut self) -> Result<u8, R> {
        let byte = self.peek_byte()?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    fn fill(&mut self) -> Result<(), R> {
        if self.refill()? {
            return Ok(());
        }
        self.fail(ErrorKind::Truncated)
    }

    /// Reads the next bytes into the empty buffer; false when there are none.
    fn refill(&mut self) -> Result<bool, R> {
        self.flush_hash();
        self.before = self.before.saturating_add(self.end as u64);
        (self.at, self.end, self.mark) = (0, 0, 0);
        match self.input.read(&mut self.buffer) {
            Ok(len) => {
                self.end = len.min(BUFFER);
                Ok(len > 0)
            }
            Err(error) => self.fail(ErrorKind::Io(error)),
        }
    }

    fn flush_hash(&mut self) {
        if let (Some(hash), Some(bytes)) = (&mut self.hash, self.buffer.get(self.mark..self.at)) {
            hash.update(bytes);
        }
        self.mark = self.at;
    }

    fn fail<T>(&self, kind: ErrorKind<R::Error>) -> Result<T, R> {
        let offset = self.offset();
        Err(Error { kind, offset })
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Io(error) => return write!(f, "{error} at byte {}", self.offset),
            ErrorKind::Truncated => f.write_str("it ends too soon"),
            ErrorKind::UnexpectedByte(byte) => write!(f, "byte {byte:#04x} makes no sense"),
            ErrorKind::EmptyNumber => f.write_str("a number has no digits"),
            ErrorKind::NumberTooLarge => f.write_str("a number is too large"),
            ErrorKind::TooDeep => f.write_str("it is nested too deeply"),
            ErrorKind::KeyNotString => f.write_str("a key is no string"),
            ErrorKind::MissingValue => f.write_str("a key has no value"),
            ErrorKind::WrongType { expected } => write!(f, "{expected} was expected"),
            ErrorKind::TooLong { room } => write!(f, "a string is longer than {room} bytes"),
            ErrorKind::TrailingBytes => f.write_str("something follows its end"),
        }?;
        write!(f, " (at byte {})", self.offset)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Integer => "a number",
            Type::String => "a string",
            Type::List => "a list",
            Type::Dict => "a dictionary",
        })
    }
}
