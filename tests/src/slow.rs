//! A disk that can be made to wait: a folder, shown again through FUSE.
//!
//! Each call that reaches it is recorded with its thread, so a test sees which thread would have waited. It needs
//! root and `/dev/fuse`. Changes in the folder behind it are visible at once, and wait for nothing.

mod files;
mod fuse;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::dir::Dir;
use fuse::*;

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

/// The reason why a call is not answered at once.
#[derive(Clone, Copy)]
struct Wait {
    delay: Duration,
    /// Whether it waits to be released.
    holds: bool,
}

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
