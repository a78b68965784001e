//! The paused items, which stay paused after a restart.
//!
//! The file `STATE/paused` has a line for each: 16 hexadecimal digits of the hash of its path, or of its link. It is
//! written whole, on another thread, a moment after a change.
//!
//! Invariant: if there is no room for another item, that one is paused until this process ends, and this is logged.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use everseed_core::hash::{Sha1, Smol};

use crate::storage::state::{StateFolder, read};

/// The paused items, each known by a hash of its path.
#[derive(Debug)]
pub(crate) struct PausedItems {
    file: PathBuf,
    hashes: BTreeSet<u64>,
    /// The most of them.
    room: usize,
    /// Whether the file has to be written, from this time on.
    stale: Option<Instant>,
    /// The outcome of a write that is going on.
    writing: Option<Receiver<io::Result<()>>>,
}

impl PausedItems {
    /// Those that were paused when the last run ended, `room` of them at most.
    pub(crate) fn load(state: &StateFolder, room: usize) -> PausedItems {
        let file = state.folder().join(NAME);
        let bytes = read(&file, (LINE * MOST) as u64).unwrap_or_default();
        let lines = bytes.split(|&byte| byte == b'\n');
        let hash = |line: &[u8]| u64::from_str_radix(std::str::from_utf8(line).ok()?, 16).ok();
        PausedItems {
            hashes: lines.filter_map(hash).take(room).collect(),
            file,
            room,
            stale: None,
            writing: None,
        }
    }

    /// Whether the item at this path is paused.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&hash(path))
    }

    /// Notes that the item at this path is paused, or no longer.
    pub(crate) fn set(&mut self, path: &Path, paused: bool) {
        let hash = hash(path);
        let changed = match paused {
            true if self.hashes.len() >= self.room && !self.hashes.contains(&hash) => {
                return log::error!(
                    "{}: {} items are paused, and there is no memory to remember another one after a restart; \
                     resume some, or raise memory =",
                    self.file.display(),
                    self.room
                );
            }
            true => self.hashes.insert(hash),
            false => self.hashes.remove(&hash),
        };
        if changed {
            self.stale.get_or_insert_with(Instant::now);
        }
    }

    /// The write that is due, to be carried out on another thread; one at a time.
    pub(crate) fn write_due(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        match self.writing.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return None,
            Some(Ok(outcome)) => self.written(outcome),
            _ => {}
        }
        self.writing = None;
        self.stale.take_if(|at| *at <= Instant::now())?;
        let (file, hashes) = (self.file.clone(), self.hashes.clone());
        let (tell, outcome) = channel();
        self.writing = Some(outcome);
        Some(move || drop(tell.send(write(&file, &hashes))))
    }

    /// Writes what has changed; called at the end. It waits a moment for a write that is going on.
    pub(crate) fn write_at_end(&mut self) {
        match self
            .writing
            .take()
            .map(|writing| writing.recv_timeout(PATIENCE))
        {
            // The disk does not answer.
            Some(Err(RecvTimeoutError::Timeout)) => return,
            Some(Ok(outcome)) => self.written(outcome),
            _ => {}
        }
        if self.stale.take().is_some() {
            let outcome = write(&self.file, &self.hashes);
            self.written(outcome);
        }
    }

    fn written(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            log::error!(
                "{}: {error}: which items are paused is not remembered; make room for the state; tried again in {} s",
                self.file.display(),
                AGAIN.as_secs()
            );
            self.stale = Some(Instant::now() + AGAIN);
        }
    }
}

fn write(file: &Path, hashes: &BTreeSet<u64>) -> io::Result<()> {
    everseed_disk::replace(file, |out| {
        let mut lines = hashes.iter();
        lines.try_for_each(|hash| writeln!(out, "{hash:016x}"))
    })
}

fn hash(path: &Path) -> u64 {
    let mut sha1 = Smol::default();
    sha1.update(path.as_os_str().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The file's name in the state folder.
pub(crate) const NAME: &str = "paused";

/// Bytes of a line.
const LINE: usize = 17;

/// The most lines that are read.
const MOST: usize = 1 << 16;

/// The time for which a disk that does not answer is waited for at the end.
const PATIENCE: Duration = Duration::from_millis(200);

/// The pause before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn state(name: &str) -> StateFolder {
        let name = format!("everseed-paused-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        StateFolder::open(&folder).unwrap()
    }

    #[test]
    fn it_outlives_a_run() {
        let state = state("lives");
        let (a, b, c) = (Path::new("/a"), Path::new("magnet:?xt=b"), Path::new("/c"));
        let mut paused = PausedItems::load(&state, 2);
        assert!(paused.write_due().is_none() && !paused.holds(a));
        paused.set(a, true);
        paused.set(b, true);
        // The third has no room, but does not push another one out.
        paused.set(c, true);
        paused.write_due().expect("a write")();
        assert!(paused.write_due().is_none());
        let told = |paused: &PausedItems| [a, b, c].map(|path| paused.holds(path));
        assert_eq!(told(&paused), [true, true, false]);
        let mut paused = PausedItems::load(&state, 2);
        assert_eq!(told(&paused), [true, true, false]);
        paused.set(a, false);
        paused.set(a, false);
        paused.write_at_end();
        assert_eq!(told(&PausedItems::load(&state, 2)), [false, true, false]);
        fs::remove_dir_all(state.folder()).unwrap();
    }

    /// What is damaged costs what it tells, and a write that fails is tried again.
    #[test]
    fn damaged_or_unwritable() {
        let state = state("damaged");
        let mut paused = PausedItems::load(&state, 9);
        paused.set(Path::new("/a"), true);
        paused.write_at_end();
        let file = state.folder().join(NAME);
        let mut bytes = fs::read(&file).unwrap();
        bytes.splice(0..0, *b"\xff\xff\n\nnone\n");
        fs::write(&file, bytes).unwrap();
        assert!(PausedItems::load(&state, 9).holds(Path::new("/a")));
        fs::remove_file(&file).unwrap();
        fs::create_dir_all(file.join("in the way")).unwrap();
        paused.set(Path::new("/b"), true);
        paused.write_due().expect("a write")();
        assert!(paused.write_due().is_none() && paused.stale.is_some());
        fs::remove_dir_all(state.folder()).unwrap();
    }
}
