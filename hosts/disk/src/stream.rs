//! Readers and writers of std behind the traits that core's parsers take.

use std::io;

use embedded_io::{ErrorType, Read, Seek, SeekFrom, Write};

/// A reader or writer of std with the traits of `embedded_io`. Calls interrupted by signals are repeated.
#[derive(Clone, Copy, Debug)]
pub struct Stream<T>(pub T);

impl<T> ErrorType for Stream<T> {
    type Error = io::Error;
}

impl<T: io::Read> Read for Stream<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        retried(|| self.0.read(buf))
    }
}

impl<T: io::Seek> Seek for Stream<T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to.into())
    }
}

impl<T: io::Write> Write for Stream<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match retried(|| self.0.write(buf)) {
            // An empty write is not an error to the trait.
            Ok(0) if !buf.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            done => done,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
