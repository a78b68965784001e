//! A disk that can be made to wait: a folder, shown again through FUSE.
//!
//! Each call that reaches it is recorded with its thread, so a test sees which thread would have waited. It needs
//! root and `/dev/fuse`. Changes in the folder behind it are visible at once, and wait for nothing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::dir::Dir;

/// A mounted disk, unmounted when dropped.
#[derive(Debug)]
pub struct SlowDisk {
    at: PathBuf,
    shared: Arc<Shared>,
    _dir: Dir,
}

/// A call that reached the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The id of the calling thread; a process's id is that of its first thread.
    pub thread: u32,
    /// The name of the call.
    pub what: &'static str,
    /// The file or folder, beneath the mount point.
    pub path: PathBuf,
}

#[derive(Debug)]
struct Shared {
    behind: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    open: HashMap<u64, File>,
    next_open: u64,
    calls: Vec<Call>,
    /// The calls that wait, if any: all, or those with this name on paths that begin like this.
    holds: Option<Held>,
    /// The number of waiting calls.
    held: usize,
    /// Calls of this name on paths that begin like this fail.
    fails: Option<(&'static str, PathBuf, Errno)>,
    /// The longest random delay of a call.
    longest: Duration,
    chance: u64,
}

/// Calls that wait: all, or those with this name on paths that begin like this.
type Held = Option<(&'static str, PathBuf)>;

impl SlowDisk {
    /// An empty disk, which delays nobody yet.
    pub fn new() -> SlowDisk {
        let dir = Dir::new("slow");
        let (behind, at) = (dir.sub("behind"), dir.sub("mounted"));
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.unwrap_or_else(|e| panic!("/dev/fuse: {e}"));
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other\0",
            device.as_raw_fd()
        );
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).expect("a C string");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let mounted = mount("everseed-tests", &at, "fuse", flags, Some(options));
        mounted.unwrap_or_else(|e| panic!("mounting at {}: {e}", at.display()));
        let shared = Arc::new(Shared {
            behind,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        shared.lock().nodes.push(PathBuf::new());
        let theirs = Arc::clone(&shared);
        thread::spawn(move || theirs.serve(&Arc::new(device)));
        SlowDisk {
            at,
            shared,
            _dir: dir,
        }
    }

    /// Its mount point.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The folder that it shows.
    pub fn behind(&self) -> &Path {
        &self.shared.behind
    }

    /// Makes every call wait until [`release`](Self::release).
    pub fn hold(&self) {
        self.shared.lock().holds = Some(None);
    }

    /// Makes calls of this name on paths that begin like this wait until [`release`](Self::release).
    pub fn hold_at(&self, what: &'static str, path: impl AsRef<Path>) {
        self.shared.lock().holds = Some(Some((what, path.as_ref().to_owned())));
    }

    /// Lets waiting and later calls go on.
    pub fn release(&self) {
        self.shared.lock().holds = None;
        self.shared.changed.notify_all();
    }

    /// Makes calls of this name on paths that begin like this fail from now on.
    pub fn fail_at(&self, what: &'static str, path: impl AsRef<Path>, error: Errno) {
        self.shared.lock().fails = Some((what, path.as_ref().to_owned(), error));
    }

    /// Lets no call fail any more.
    pub fn heal(&self) {
        self.shared.lock().fails = None;
    }

    /// The number of waiting calls.
    pub fn held(&self) -> usize {
        self.shared.lock().held
    }

    /// Delays every call by a random time, at most `longest`.
    pub fn delay(&self, longest: Duration, seed: u64) {
        let mut state = self.shared.lock();
        (state.longest, state.chance) = (longest, seed);
    }

    /// The calls since this was last called.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.lock().calls)
    }
}

impl Default for SlowDisk {
    fn default() -> SlowDisk {
        SlowDisk::new()
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.release();
        self.delay(Duration::ZERO, 0);
        // A lazy unmount, because a failed test may still have files open there.
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

/// A request of the kernel.
struct Request {
    number: u64,
    node: u64,
    code: u32,
    thread: u32,
    body: Vec<u8>,
}

/// The reason why a call is not answered at once.
#[derive(Clone, Copy)]
struct Wait {
    delay: Duration,
    /// Whether it waits to be released.
    holds: bool,
}

type Answer = Result<Vec<u8>, Errno>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: Arc<Shared>, device: &Arc<File>) {
        let mut bytes = vec![0; MOST_WRITTEN as usize + 64 * 1024];
        loop {
            let len = match (&**device).read(&mut bytes) {
                Ok(len) => len,
                // The request was given up before it was read.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The disk was unmounted.
                Err(_) => return,
            };
            let head = Fields(&bytes[..len]);
            let request = Request {
                code: head.u32(4),
                number: head.u64(8),
                node: head.u64(16),
                thread: head.u32(32),
                body: bytes[HEAD..len].to_vec(),
            };
            match (request.code, name_of(request.code)) {
                (FORGET | BATCH_FORGET | INTERRUPT, _) => continue,
                (_, Some(what)) => {
                    let (mine, device) = (Arc::clone(&self), Arc::clone(device));
                    let (waits, fails) = self.note(&request, what);
                    let answer = move || {
                        mine.wait(waits);
                        let answered = fails.map_or_else(|| mine.answer(&request), Err);
                        reply(&device, request.number, answered);
                    };
                    match waits {
                        None => answer(),
                        Some(_) => drop(thread::spawn(answer)),
                    }
                }
                (INIT, None) => reply(device, request.number, Ok(init())),
                (RELEASE | RELEASEDIR, None) => {
                    self.lock().open.remove(&Fields(&request.body).u64(0));
                    reply(device, request.number, Ok(Vec::new()));
                }
                _ => reply(device, request.number, Err(Errno::NOSYS)),
            }
        }
    }

    /// Records a call. Returns whether it waits, for how long, and whether it fails.
    fn note(&self, request: &Request, what: &'static str) -> (Option<Wait>, Option<Errno>) {
        let mut state = self.lock();
        let mut path = state.path(request.node).unwrap_or_default();
        if let CREATE | LOOKUP | MKDIR | UNLINK | RMDIR | RENAME | RENAME2 = request.code {
            path = path.join(request.names(request.code).0);
        }
        let thread = request.thread;
        let is_at = |call: &'static str, at: &Path| {
            let path = path.as_os_str().as_bytes();
            what == call && path.starts_with(at.as_os_str().as_bytes())
        };
        let holds = match &state.holds {
            None => false,
            Some(None) => true,
            Some(Some((held, at))) => is_at(held, at),
        };
        let fails = state.fails.as_ref();
        let fails = fails.and_then(|(call, at, error)| is_at(call, at).then_some(*error));
        state.calls.push(Call { thread, what, path });
        state.chance = state
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let part = u32::try_from(state.chance >> 48).unwrap_or(0);
        let delay = state.longest * part / (1 << 16);
        let waits = (holds || !delay.is_zero()).then_some(Wait { delay, holds });
        (waits, fails)
    }

    fn wait(&self, wait: Option<Wait>) {
        let Some(Wait { delay, holds }) = wait else {
            return;
        };
        thread::sleep(delay);
        if !holds {
            return;
        }
        let mut state = self.lock();
        state.held += 1;
        while state.holds.is_some() {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.held -= 1;
    }

    fn answer(&self, request: &Request) -> Answer {
        let body = Fields(&request.body);
        let relative = self.lock().path(request.node).ok_or(Errno::STALE)?;
        let path = self.behind.join(&relative);
        let (name, other) = request.names(request.code);
        match request.code {
            LOOKUP => self.entry(&relative.join(name)),
            GETATTR => Ok(attributes(&fs::symlink_metadata(&path).map_err(errno)?)),
            SETATTR => set(&path, body),
            READLINK => Ok(fs::read_link(&path)
                .map_err(errno)?
                .into_os_string()
                .into_vec()),
            SYMLINK => {
                symlink(other, path.join(&name)).map_err(errno)?;
                self.entry(&relative.join(name))
            }
            MKDIR => {
                fs::create_dir(path.join(&name)).map_err(errno)?;
                self.entry(&relative.join(name))
            }
            UNLINK | RMDIR => {
                let gone = path.join(&name);
                let removed = match request.code {
                    UNLINK => fs::remove_file(gone),
                    _ => fs::remove_dir(gone),
                };
                removed.map_err(errno)?;
                self.lock().numbers.remove(&relative.join(name));
                Ok(Vec::new())
            }
            RENAME | RENAME2 => self.rename(&relative.join(name), request, &other),
            OPEN => self.open(request, &relative),
            CREATE => self.open(request, &relative.join(name)),
            OPENDIR => Ok(opened(0)),
            READ => {
                let mut bytes = vec![0; body.u32(16) as usize];
                let file = self.file(body.u64(0))?;
                let read = file.read_at(&mut bytes, body.u64(8)).map_err(errno)?;
                bytes.truncate(read);
                Ok(bytes)
            }
            WRITE => {
                let file = self.file(body.u64(0))?;
                let bytes = &request.body[40..];
                file.write_all_at(bytes, body.u64(8)).map_err(errno)?;
                Ok([body.u32(16), 0].map(u32::to_ne_bytes).concat())
            }
            FALLOCATE => {
                let file = self.file(body.u64(0))?;
                let end = body.u64(8) + body.u64(16);
                if body.u32(24) != 0 {
                    return Err(Errno::OPNOTSUPP);
                }
                let len = file.metadata().map_err(errno)?.len();
                file.set_len(len.max(end)).map_err(errno)?;
                Ok(Vec::new())
            }
            STATFS => {
                let blocks = [1_u64 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19];
                let rest = [4096_u32, 255, 4096, 0, 0, 0, 0, 0, 0, 0];
                let [blocks, rest] = [
                    blocks.map(u64::to_ne_bytes).concat(),
                    rest.map(u32::to_ne_bytes).concat(),
                ];
                Ok([blocks, rest].concat())
            }
            READDIR => list(&path, body),
            FLUSH | FSYNC | FSYNCDIR => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn entry(&self, relative: &Path) -> Answer {
        let there = fs::symlink_metadata(self.behind.join(relative)).map_err(errno)?;
        let node = self.lock().number(relative);
        // The kernel caches nothing, so each look comes here.
        let head = [node, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        Ok([&head[..], &attributes(&there)[16..]].concat())
    }

    fn open(&self, request: &Request, relative: &Path) -> Answer {
        let body = Fields(&request.body);
        let flags = body.u32(0).cast_signed();
        let (read, write) = match flags & 3 {
            1 => (false, true),
            2 => (true, true),
            _ => (true, false),
        };
        let mut options = File::options();
        options.read(read).write(write);
        let creates = request.code == CREATE;
        if creates {
            options.read(true).write(true).create(true);
            options.create_new(flags & 0o200 != 0).mode(body.u32(4));
        }
        let file = options.open(self.behind.join(relative)).map_err(errno)?;
        if flags & 0o1000 != 0 {
            file.set_len(0).map_err(errno)?;
        }
        let number = {
            let mut state = self.lock();
            state.next_open += 1;
            let number = state.next_open;
            state.open.insert(number, file);
            number
        };
        let opened = opened(number);
        match creates {
            true => Ok([self.entry(relative)?, opened].concat()),
            false => Ok(opened),
        }
    }

    fn file(&self, number: u64) -> Result<File, Errno> {
        let state = self.lock();
        let file = state.open.get(&number).ok_or(Errno::BADF)?;
        file.try_clone().map_err(errno)
    }

    fn rename(&self, from: &Path, request: &Request, name: &OsStr) -> Answer {
        let body = Fields(&request.body);
        // Many file systems do not know the flag that keeps an existing file.
        if request.code == RENAME2 && body.u32(8) != 0 {
            return Err(Errno::INVAL);
        }
        let folder = self.lock().path(body.u64(0)).ok_or(Errno::STALE)?;
        let to = folder.join(name);
        let [old, new] = [from, &to].map(|path| self.behind.join(path));
        fs::rename(old, new).map_err(errno)?;
        self.lock().moved(from, &to);
        Ok(Vec::new())
    }
}

impl State {
    fn path(&self, node: u64) -> Option<PathBuf> {
        let at = usize::try_from(node.checked_sub(1)?).ok()?;
        self.nodes.get(at).cloned()
    }

    fn number(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.nodes.push(path.to_owned());
        let number = self.nodes.len() as u64;
        self.numbers.insert(path.to_owned(), number);
        number
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        self.numbers.remove(to);
        for (number, path) in (1..).zip(&mut self.nodes) {
            if let Ok(rest) = path.strip_prefix(from)
                && self.numbers.get(path) == Some(&number)
            {
                self.numbers.remove(path);
                *path = match rest.as_os_str().is_empty() {
                    true => to.to_owned(),
                    false => to.join(rest),
                };
                self.numbers.insert(path.clone(), number);
            }
        }
    }
}

impl Request {
    /// The names in the request: that of the file it is about, and a second one.
    fn names(&self, code: u32) -> (OsString, OsString) {
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

fn set(path: &Path, body: Fields<'_>) -> Answer {
    let valid = body.u32(0);
    if valid & 1 != 0 {
        let mode = Permissions::from_mode(body.u32(68));
        fs::set_permissions(path, mode).map_err(errno)?;
    }
    if valid & 8 != 0 {
        let file = File::options().write(true).open(path).map_err(errno)?;
        file.set_len(body.u64(16)).map_err(errno)?;
    }
    if valid & 0x20 != 0 {
        let time = Duration::new(body.u64(40), body.u32(60));
        let time = match valid & 0x100 {
            0 => std::time::UNIX_EPOCH + time,
            _ => std::time::SystemTime::now(),
        };
        let file = File::options().write(true).open(path).map_err(errno)?;
        file.set_modified(time).map_err(errno)?;
    }
    Ok(attributes(&fs::symlink_metadata(path).map_err(errno)?))
}

fn list(path: &Path, body: Fields<'_>) -> Answer {
    let (from, room) = (body.u64(8), body.u32(16) as usize);
    let mut names: Vec<OsString> = vec![".".into(), "..".into()];
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(errno)? {
        found.push(entry.map_err(errno)?.file_name());
    }
    found.sort();
    names.extend(found);
    let mut bytes = Vec::new();
    let skipped = usize::try_from(from).unwrap_or(usize::MAX);
    for (at, name) in (1_u64..).zip(&names).skip(skipped) {
        let len = name.len();
        if bytes.len() + (24 + len).next_multiple_of(8) > room {
            break;
        }
        let mode = fs::symlink_metadata(path.join(name)).map_or(0, |there| there.mode());
        bytes.extend(at.to_ne_bytes());
        bytes.extend(at.to_ne_bytes());
        bytes.extend(u32::try_from(len).unwrap_or(0).to_ne_bytes());
        bytes.extend((mode >> 12).to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    Ok(bytes)
}

fn attributes(there: &Metadata) -> Vec<u8> {
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

fn opened(number: u64) -> Vec<u8> {
    [number, 0].map(u64::to_ne_bytes).concat()
}

fn init() -> Vec<u8> {
    let mut words = vec![7_u32, 31, 64 * 1024, BIG_WRITES | ATOMIC_TRUNCATE, 0];
    words.extend([MOST_WRITTEN, 1]);
    words.resize(16, 0);
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn reply(device: &File, number: u64, answer: Answer) {
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

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// The fields of a message, in the kernel's byte order.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).expect("a whole message");
        u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
    }

    fn u64(self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).expect("a whole message");
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    }
}

/// The name of a call that is recorded and may wait. Closing a file never waits.
fn name_of(code: u32) -> Option<&'static str> {
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
const HEAD: usize = 40;

/// The most bytes of one write.
const MOST_WRITTEN: u32 = 128 * 1024;

const BIG_WRITES: u32 = 1 << 5;
const ATOMIC_TRUNCATE: u32 = 1 << 3;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const FSYNCDIR: u32 = 30;
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const FALLOCATE: u32 = 43;
const RENAME2: u32 = 45;
