//! The kernel's messages of FUSE: their codes, fields and layout.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

/// A request of the kernel.
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) node: u64,
    pub(super) code: u32,
    pub(super) thread: u32,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The names in the request: that of the file it is about, and a second one.
    pub(super) fn names(&self, code: u32) -> (OsString, OsString) {
        let from = match code {
            LOOKUP | UNLINK | RMDIR | SYMLINK => 0,
            MKDIR | RENAME => 8,
            RENAME2 | CREATE => 16,
            _ => return Default::default(),
        };
        let names = self.body.get(from..).unwrap_or_default();
        let mut names = names.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let mut next = || OsString::from_vec(names.next().unwrap_or_default());
        (next(), next())
    }
}

/// What a call is answered: its bytes, or an error.
pub(super) type Answer = Result<Vec<u8>, Errno>;

pub(super) fn attributes(there: &Metadata) -> Vec<u8> {
    let ns = |ns: i64| u32::try_from(ns).unwrap_or(0);
    let long = [
        0,
        0,
        there.ino(),
        there.size(),
        there.blocks(),
        there.atime().cast_unsigned(),
        there.mtime().cast_unsigned(),
        there.ctime().cast_unsigned(),
    ];
    let short = [
        ns(there.atime_nsec()),
        ns(there.mtime_nsec()),
        ns(there.ctime_nsec()),
        there.mode(),
        u32::try_from(there.nlink()).unwrap_or(1),
        there.uid(),
        there.gid(),
        0,
        4096,
        0,
    ];
    let [long, short] = [
        long.map(u64::to_ne_bytes).concat(),
        short.map(u32::to_ne_bytes).concat(),
    ];
    [long, short].concat()
}

pub(super) fn opened(number: u64) -> Vec<u8> {
    [number, 0].map(u64::to_ne_bytes).concat()
}

pub(super) fn init() -> Vec<u8> {
    let mut words = vec![7_u32, 31, 64 * 1024, BIG_WRITES | ATOMIC_TRUNCATE, 0];
    words.extend([MOST_WRITTEN, 1]);
    words.resize(16, 0);
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

pub(super) fn reply(device: &File, number: u64, answer: Answer) {
    let (error, bytes) = match answer {
        Ok(bytes) => (0, bytes),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let len = u32::try_from(16 + bytes.len()).unwrap_or(u32::MAX);
    let head = [&len.to_ne_bytes()[..], &error.to_ne_bytes()].concat();
    let whole = [&head[..], &number.to_ne_bytes(), &bytes].concat();
    // The caller may be gone.
    let _ = { device }.write(&whole);
}

/// The fields of a message, in the kernel's byte order.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn u32(self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).expect("a whole message");
        u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).expect("a whole message");
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    }
}

/// The name of a call that is recorded and may wait. Closing a file never waits.
pub(super) fn name_of(code: u32) -> Option<&'static str> {
    Some(match code {
        LOOKUP => "lookup",
        GETATTR => "getattr",
        SETATTR => "setattr",
        READLINK => "readlink",
        SYMLINK => "symlink",
        MKDIR => "mkdir",
        UNLINK => "unlink",
        RMDIR => "rmdir",
        RENAME | RENAME2 => "rename",
        OPEN => "open",
        READ => "read",
        WRITE => "write",
        STATFS => "statfs",
        FSYNC => "fsync",
        FLUSH => "flush",
        OPENDIR => "opendir",
        READDIR => "readdir",
        FSYNCDIR => "fsyncdir",
        CREATE => "create",
        FALLOCATE => "fallocate",
        _ => return None,
    })
}

/// Length of a request's head in bytes.
pub(super) const HEAD: usize = 40;

/// The most bytes of one write.
pub(super) const MOST_WRITTEN: u32 = 128 * 1024;

const BIG_WRITES: u32 = 1 << 5;
const ATOMIC_TRUNCATE: u32 = 1 << 3;

pub(super) const LOOKUP: u32 = 1;
pub(super) const FORGET: u32 = 2;
pub(super) const GETATTR: u32 = 3;
pub(super) const SETATTR: u32 = 4;
pub(super) const READLINK: u32 = 5;
pub(super) const SYMLINK: u32 = 6;
pub(super) const MKDIR: u32 = 9;
pub(super) const UNLINK: u32 = 10;
pub(super) const RMDIR: u32 = 11;
pub(super) const RENAME: u32 = 12;
pub(super) const OPEN: u32 = 14;
pub(super) const READ: u32 = 15;
pub(super) const WRITE: u32 = 16;
pub(super) const STATFS: u32 = 17;
pub(super) const RELEASE: u32 = 18;
pub(super) const FSYNC: u32 = 20;
pub(super) const FLUSH: u32 = 25;
pub(super) const INIT: u32 = 26;
pub(super) const OPENDIR: u32 = 27;
pub(super) const READDIR: u32 = 28;
pub(super) const RELEASEDIR: u32 = 29;
pub(super) const FSYNCDIR: u32 = 30;
pub(super) const CREATE: u32 = 35;
pub(super) const INTERRUPT: u32 = 36;
pub(super) const BATCH_FORGET: u32 = 42;
pub(super) const FALLOCATE: u32 = 43;
pub(super) const RENAME2: u32 = 45;
