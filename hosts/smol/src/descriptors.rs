//! File descriptors: how many this process may have, and who gets them.
//!
//! A low limit makes everything smaller: fewer peers, fewer files that stay open. What is always open, and what is
//! opened for a moment, comes first, so that no torrent is taken for absent because its file could not be opened.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The number of the wanted peers for which this process may have descriptors, after it asked for more.
pub(crate) fn peers(wanted: u16) -> u16 {
    let all = u64::from(wanted) + OTHERS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < all) {
        limit.current = Some(limit.maximum.map_or(all, |most| most.min(all)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
    peers_of(wanted, current())
}

/// The most files that stay open for reading, and for writing.
pub(crate) fn open_files() -> (usize, usize) {
    open_files_of(current())
}

/// Descriptors that this process may have.
pub(crate) fn current() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether they are so few that files are to be closed when the last ones are used up.
pub(crate) fn are_few() -> bool {
    current() < 2 * OTHERS
}

/// Waits for a moment until some descriptors are free; calls `close` if there are none.
pub(crate) fn wait_for_some(mut close: impl FnMut()) {
    for _ in 0..TRIES {
        // What opens a file also opens its folder and its torrent. A pair takes two.
        let pairs = [(); 2].map(|()| UnixStream::pair());
        if pairs.iter().all(Result::is_ok) {
            return;
        }
        drop(pairs);
        close();
        thread::sleep(PAUSE);
    }
}

fn peers_of(wanted: u16, current: u64) -> u16 {
    let others = OTHERS.min(FIXED + current.saturating_sub(FIXED) / 2);
    u16::try_from(current.saturating_sub(others)).map_or(wanted, |n| n.clamp(1, wanted))
}

fn open_files_of(current: u64) -> (usize, usize) {
    let spare = usize::try_from(current.saturating_sub(FIXED) / 6).unwrap_or(usize::MAX);
    (spare.clamp(1, READ), spare.clamp(1, WRITTEN))
}

/// Descriptors for other uses than peers, where there are enough: files, listeners, HTTP clients, announces.
const OTHERS: u64 = 128;

/// Those of them that are always needed.
const FIXED: u64 = 34;

/// The most files that stay open for reading, and for writing.
const READ: usize = 32;
const WRITTEN: usize = 8;

/// Tries until some are free, and the pause between them: a second in all.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_shared_out() {
        // The limit, peers of 100 and of 500 wanted, files open for reading and writing.
        let table = [
            (10, (1, 1), (1, 1)),
            (40, (3, 3), (1, 1)),
            (64, (15, 15), (5, 5)),
            (128, (47, 47), (15, 8)),
            (256, (100, 128), (32, 8)),
            (1024, (100, 500), (32, 8)),
            (u64::MAX, (100, 500), (32, 8)),
        ];
        for (limit, peers, files) in table {
            let found = (peers_of(100, limit), peers_of(500, limit));
            assert_eq!((found, open_files_of(limit)), (peers, files), "{limit}");
        }
    }
}
