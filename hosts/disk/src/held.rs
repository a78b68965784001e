//! The folder of content that is being written, held open so that the kernel reports failed writes to it.
//!
//! The kernel carries a write out later. If it fails, the next sync says so, once to each handle that was open then,
//! and never to handles that are opened afterwards. So that one answer is kept: every sync fails until a check begins,
//! whichever thread heard it, and whether or not that thread still told anybody.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// The folder, and what its syncs said.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Opened before the first write.
    folder: Mutex<Option<Arc<File>>>,
    /// Held during a sync, which may take minutes.
    sync: Mutex<()>,
    /// The last error of a sync since a check began.
    lost: Mutex<Option<Errno>>,
}

impl Held {
    /// The folder at `path`, which is held open from now on.
    pub(crate) fn hold(&self, path: &Path) -> io::Result<Arc<File>> {
        if let Some(folder) = &*lock(&self.folder) {
            return Ok(Arc::clone(folder));
        }
        // Its disk may hang, and whoever closes the folder does not wait for that.
        let folder = Arc::new(File::open(path)?);
        Ok(Arc::clone(lock(&self.folder).get_or_insert(folder)))
    }

    /// Lets the folder go. It is closed at the end of a running sync.
    pub(crate) fn close(&self) {
        let folder = lock(&self.folder).take();
        drop(folder);
    }

    /// Calls `sync` with the folder. One sync waits for another: both cover the same writes, and only one hears of an
    /// error.
    pub(crate) fn sync(
        &self,
        path: &Path,
        sync: impl FnOnce(&File) -> Result<(), Errno>,
    ) -> io::Result<()> {
        let folder = self.hold(path)?;
        let _turn = lock(&self.sync);
        let synced = sync(&folder);
        let mut lost = lock(&self.lost);
        *lost = synced.err().or(*lost);
        lost.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether a sync has failed since a check began.
    pub(crate) fn has_lost(&self) -> bool {
        lock(&self.lost).is_some()
    }

    /// A check begins: it will tell what the syncs until now have lost. One that is running may still fail.
    pub(crate) fn begin_check(&self) {
        *lock(&self.lost) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const FOLDER: &str = "/";

    #[test]
    fn a_failure_counts_until_a_check_begins() {
        let held = Held::default();
        let sync = |result| held.sync(Path::new(FOLDER), |_| result);
        assert!(sync(Ok(())).is_ok() && !held.has_lost());
        for (result, told) in [
            (Err(Errno::IO), Errno::IO),
            (Ok(()), Errno::IO),
            (Err(Errno::NOSPC), Errno::NOSPC),
            (Ok(()), Errno::NOSPC),
        ] {
            let error = sync(result).expect_err("writes are lost");
            assert_eq!(Errno::from_io_error(&error), Some(told));
            held.close();
            assert!(held.has_lost());
        }
        held.begin_check();
        assert!(sync(Ok(())).is_ok() && !held.has_lost());
    }

    /// A sync takes long. Nobody else waits for it, apart from another sync, and it fails although a check has begun.
    #[test]
    fn a_sync_keeps_the_folder_from_nobody() {
        let held = Arc::new(Held::default());
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let spawn = |sync: Box<dyn FnOnce() -> Result<(), Errno> + Send>| {
            let held = Arc::clone(&held);
            thread::spawn(move || held.sync(Path::new(FOLDER), |_| sync()))
        };
        let first = spawn(Box::new(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
            Err(Errno::IO)
        }));
        begins.recv().unwrap();
        let second = spawn(Box::new(|| Ok(())));
        held.hold(Path::new(FOLDER)).unwrap();
        held.close();
        held.begin_check();
        assert!(!held.has_lost());
        end.send(()).unwrap();
        let told = [first, second].map(|sync| sync.join().unwrap().is_err());
        assert_eq!((told, held.has_lost()), ([true, true], true));
    }
}
