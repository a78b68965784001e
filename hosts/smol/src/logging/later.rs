//! Writes the lines of the log, and keeps those of threads that may not wait.
//!
//! Writing a line waits for whoever reads the log: a terminal may be stopped, a pipe full. The serving thread, and anybody
//! who holds the reactor, must not wait for that. They hold a [`Busy`], and their lines are kept here until another thread
//! writes them. At most [`MOST`] bytes are kept; further lines are counted.

use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::text::clear_live_line;

/// The lines that are not written yet.
static KEPT: Mutex<Kept> = Mutex::new(Kept {
    lines: String::new(),
    left_out: 0,
});

/// Whether there are any.
static IS_ANY: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// How many [`Busy`] this thread holds.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Kept {
    lines: String,
    left_out: u64,
}

/// Keeps its thread from writing lines as long as it lives.
#[derive(Debug)]
pub(crate) struct Busy(());

impl Busy {
    /// Lines of this thread are kept from now on.
    pub(crate) fn begin() -> Busy {
        DEPTH.set(DEPTH.get() + 1);
        Busy(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        write_kept();
    }
}

/// Whether lines are kept.
pub(crate) fn is_any() -> bool {
    IS_ANY.load(Ordering::Relaxed)
}

/// Whether this thread may not write.
pub(super) fn is_busy() -> bool {
    DEPTH.get() > 0
}

/// Keeps a line for another thread to write.
pub(super) fn keep(line: &str) {
    let mut kept = lock();
    match kept.lines.len() + line.len() <= MOST {
        true => kept.lines += line,
        false => kept.left_out += 1,
    }
    IS_ANY.store(true, Ordering::Relaxed);
}

/// Takes the kept lines, and the number of those that there was no room for.
pub(super) fn take() -> (String, u64) {
    let mut kept = lock();
    IS_ANY.store(false, Ordering::Relaxed);
    (
        std::mem::take(&mut kept.lines),
        std::mem::take(&mut kept.left_out),
    )
}

/// Writes the lines of threads that may not wait, unless this thread may not wait either.
pub(crate) fn write_kept() {
    if !is_any() || is_busy() {
        return;
    }
    let (lines, left_out) = take();
    write(&lines);
    if left_out > 0 {
        write(&format!(
            "{left_out} more lines were said while nobody read these\n"
        ));
    }
}

/// Writes lines to standard error, and ignores errors.
pub(super) fn write(lines: &str) {
    clear_live_line(&mut std::io::stdout());
    let _ = std::io::stderr().write_all(lines.as_bytes());
}

fn lock() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes of lines that are kept.
const MOST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the kept lines are the whole process's.
    #[test]
    fn who_is_busy_writes_nothing_and_keeps_no_more_than_there_is_room_for() {
        assert!(!is_busy());
        let busy = Busy::begin();
        {
            let _more = Busy::begin();
        }
        assert!(is_busy());
        let line = format!("{}\n", "x".repeat(99));
        (0..1000).for_each(|_| keep(&line));
        assert!(is_any());
        let (lines, left_out) = take();
        assert_eq!(lines.len() / 100, MOST / 100);
        assert!(lines.lines().all(|kept| kept == line.trim_end()));
        assert_eq!(lines.len() as u64 / 100 + left_out, 1000);
        assert!(!is_any() && take() == (String::new(), 0));
        drop(busy);
        assert!(!is_busy());
    }
}
