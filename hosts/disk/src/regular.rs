//! Opening a file by its path, where somebody may have put a FIFO, a device or a link.
//!
//! Invariant: nothing here waits for the other end of a FIFO, opens a device, or reads more bytes than the caller
//! allows.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Why a file was not opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegularError {
    /// The operating system's error.
    Io(io::Error),
    /// A folder, a FIFO, a socket or a device.
    NotAFile,
    /// Longer than such a file may be.
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The longest that it may be, in bytes.
        most: u64,
    },
}

/// Opens a regular file of at most `most` bytes for reading. Links are followed, because a person named the path.
pub fn open_regular(path: &Path, most: u64) -> Result<File, RegularError> {
    // Checked before it is opened, because opening has effects on some devices.
    if !fs::metadata(path)?.is_file() {
        return Err(RegularError::NotAFile);
    }
    open(path, most, OFlags::empty())
}

/// Opens a file that was no link when it was listed. If it is a link by now, it is refused.
pub fn open_in_place(path: &Path, most: u64) -> Result<File, RegularError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(RegularError::NotAFile);
    }
    open(path, most, OFlags::NOFOLLOW)
}

fn open(path: &Path, most: u64, flags: OFlags) -> Result<File, RegularError> {
    // Another file may have taken its place. `NONBLOCK` keeps a FIFO from being waited for, and does nothing for
    // files.
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?;
    let file = File::from(file);
    let there = file.metadata()?;
    if !there.is_file() {
        return Err(RegularError::NotAFile);
    }
    let len = there.len();
    match len > most {
        true => Err(RegularError::TooLong { len, most }),
        false => Ok(file),
    }
}

/// Reads a regular file of at most `most` bytes, which must not be a link.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>, RegularError> {
    let file = open_in_place(path, most)?;
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let len = bytes.len() as u64;
    match len > most {
        true => Err(RegularError::TooLong { len, most }),
        false => Ok(bytes),
    }
}

impl From<io::Error> for RegularError {
    fn from(error: io::Error) -> RegularError {
        RegularError::Io(error)
    }
}

impl fmt::Display for RegularError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegularError::Io(error) => error.fmt(f),
            RegularError::NotAFile => f.write_str("it is no regular file"),
            RegularError::TooLong { len, most } => {
                write!(f, "it has {len} bytes, and can have {most} at most")
            }
        }
    }
}

impl std::error::Error for RegularError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use rustix::fs::{CWD, FileType, mknodat};

    #[test]
    fn regular_files_of_a_length_that_can_be() {
        let scratch = Scratch::new("regular");
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("five"), b"12345").unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, at("fifo"), FileType::Fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::os::unix::fs::symlink("five", at("link")).unwrap();
        let huge = File::create(at("huge")).unwrap();
        huge.set_len(1 << 40).unwrap();
        for (name, most, expected) in [
            ("five", 5, "12345"),
            ("link", 5, "it is no regular file"),
            ("five", 4, "it has 5 bytes, and can have 4 at most"),
            ("fifo", 5, "it is no regular file"),
            ("zero", 5, "it is no regular file"),
            (".", 5, "it is no regular file"),
            (
                "huge",
                1 << 20,
                "it has 1099511627776 bytes, and can have 1048576 at most",
            ),
            ("none", 5, "No such file or directory (os error 2)"),
        ] {
            let read = match read_regular(&at(name), most) {
                Ok(bytes) => String::from_utf8(bytes).unwrap(),
                Err(error) => error.to_string(),
            };
            assert_eq!(read, expected, "{name}");
            let followed = open_regular(&at(name), most).is_ok();
            assert_eq!(followed, expected == "12345" || name == "link", "{name}");
        }
    }
}
