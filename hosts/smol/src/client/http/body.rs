//! The body of an HTTP answer (RFC 9112, sections 6 and 7), passed to a sink as it comes, as much as there is room for.

use std::io;

use smol::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::fault::HttpFault;

/// The receiver of a body, called with one part at a time.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// A body that is being passed to a sink.
pub(super) struct Body<'a, R> {
    pub(super) reader: R,
    /// The number of bytes that the body may still have.
    pub(super) room: usize,
    pub(super) sink: Sink<'a>,
    /// Whether any byte of the body has come.
    pub(super) came: bool,
    /// Whether more came than there is room for.
    pub(super) is_cut: bool,
}

impl<R: AsyncBufRead + Unpin> Body<'_, R> {
    /// Passes on `len` bytes. Returns whether the stream had that many.
    pub(super) async fn pass(&mut self, len: u64) -> Result<bool, HttpFault> {
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        while left > 0 {
            match self.pass_some(left).await? {
                0 => return Ok(false),
                passed => left -= passed,
            }
        }
        Ok(true)
    }

    /// Passes on a chunked body (RFC 9112, section 7.1); the trailer is not read.
    pub(super) async fn pass_chunks(&mut self) -> Result<(), HttpFault> {
        loop {
            let line = self.line().await?;
            if line.is_empty() && self.came {
                return Ok(());
            }
            let len = chunk_len(&line).ok_or(HttpFault::NotHttp)?;
            if len == 0 || !self.pass(len).await? {
                return Ok(());
            }
            let end = self.line().await?;
            if !end.trim_ascii().is_empty() {
                return Err(HttpFault::NotHttp);
            }
        }
    }

    /// Reads a line with its line end; empty at the end of the stream.
    async fn line(&mut self) -> Result<Vec<u8>, HttpFault> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_CHUNK_LINE);
        let read = limited.read_until(b'\n', &mut line).await;
        read.map_err(HttpFault::Broken)?;
        Ok(line)
    }

    /// Passes on the bytes that are there, at most `most`; 0 is the end of the stream, or of the room.
    async fn pass_some(&mut self, most: usize) -> Result<usize, HttpFault> {
        let bytes = self.reader.fill_buf().await.map_err(HttpFault::Broken)?;
        self.is_cut |= self.room == 0 && !bytes.is_empty();
        let len = bytes.len().min(most).min(self.room);
        let bytes = &bytes[..len];
        self.room -= len;
        self.came |= len > 0;
        (self.sink)(bytes).map_err(HttpFault::Unkept)?;
        self.reader.consume(len);
        Ok(len)
    }
}

/// The length at the start of a chunk's line. An extension may follow after a semicolon or a space.
fn chunk_len(line: &[u8]) -> Option<u64> {
    let text = str::from_utf8(line).ok()?.trim();
    let digits = text.split([';', ' ', '\t']).next()?;
    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| hex)
}

/// The longest line that begins a chunk, in bytes.
const MAX_CHUNK_LINE: u64 = 256;
