//! Prints, and keeps nobody waiting for good.
//!
//! Whoever reads what is printed may stop to do so: a terminal is stopped, a pipe is full, a disk hangs. So a session has
//! one thread that writes, [`start`]ed once, and a queue before it. Whoever prints waits until the text is written, so
//! that it knows of errors, but not longer than [`PATIENCE`]; then nobody waits any more until the queue is empty again.
//! The serving thread, and anybody who holds the reactor, must not wait at all: they hold a [`Busy`]. The queue holds
//! [`MOST`] bytes; further lines are counted, and their number is printed when the reader goes on.
//!
//! Commands that are no sessions have no such thread: they print themselves.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Where text is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Prints text.
///
/// # Errors
///
/// It could not be written. Of text that nobody reads, and so is still in the queue or left out, there is none.
pub(crate) fn print(stream: Stream, text: &str) -> io::Result<()> {
    PRINTER.print(stream, text, DEPTH.get() > 0)
}

/// Whether somebody waited in vain for text to be written, and it is not written yet.
pub(crate) fn is_stuck() -> bool {
    PRINTER.lock().stuck
}

/// Starts the thread that writes.
pub(crate) fn start() -> io::Result<()> {
    if std::mem::replace(&mut PRINTER.lock().has_thread, true) {
        return Ok(());
    }
    let thread = thread::Builder::new().name("print".into());
    let started = thread.stack_size(STACK).spawn(|| PRINTER.work(write));
    PRINTER.lock().has_thread = started.is_ok();
    started.map(drop)
}

/// Waits until all is written, but not longer than [`PATIENCE`]: the process ends.
pub(crate) fn finish() {
    let waits = |queue: &mut Queue| queue.has_thread && queue.written < queue.printed;
    let _ = (PRINTER.done).wait_timeout_while(PRINTER.lock(), PATIENCE, waits);
}

/// Keeps its thread from waiting for text to be written as long as it lives.
#[derive(Debug)]
pub(crate) struct Busy(());

impl Busy {
    /// Text of this thread goes into the queue from now on.
    pub(crate) fn begin() -> Busy {
        DEPTH.set(DEPTH.get() + 1);
        Busy(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

thread_local! {
    /// How many [`Busy`] this thread holds.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The process's, as its standard output is.
static PRINTER: Printer = Printer::new();

/// The queue, and those who wait for it.
struct Printer {
    queue: Mutex<Queue>,
    /// There is something to write.
    work: Condvar,
    /// Something was written.
    done: Condvar,
}

struct Queue {
    texts: VecDeque<(Stream, String)>,
    /// The bytes of these.
    bytes: usize,
    /// Lines that there was no room for.
    left_out: u64,
    /// How many texts came into the queue, and how many of them were written, in this order.
    printed: u64,
    written: u64,
    /// The last text that could not be written, and why.
    failed: Option<(u64, io::Error)>,
    stuck: bool,
    has_thread: bool,
}

impl Printer {
    const fn new() -> Printer {
        Printer {
            queue: Mutex::new(Queue {
                texts: VecDeque::new(),
                bytes: 0,
                left_out: 0,
                printed: 0,
                written: 0,
                failed: None,
                stuck: false,
                has_thread: false,
            }),
            work: Condvar::new(),
            done: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, stream: Stream, text: &str, is_busy: bool) -> io::Result<()> {
        let mut queue = self.lock();
        if !queue.has_thread {
            drop(queue);
            return match stream {
                Stream::Out => write_all(&mut io::stdout(), text),
                Stream::Err => write_all(&mut io::stderr(), text),
            };
        }
        // A text that is longer than the queue has it for itself.
        if queue.bytes > 0 && queue.bytes + text.len() > MOST {
            queue.left_out += text.matches('\n').count() as u64;
            return Ok(());
        }
        queue.texts.push_back((stream, text.to_owned()));
        queue.bytes += text.len();
        queue.printed += 1;
        let number = queue.printed;
        self.work.notify_one();
        if is_busy || queue.stuck {
            return Ok(());
        }
        let mut queue = self.wait(queue, number);
        match queue.failed.take_if(|(failed, _)| *failed == number) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits until so many texts are written, for a while.
    fn wait<'a>(&'a self, queue: MutexGuard<'a, Queue>, number: u64) -> MutexGuard<'a, Queue> {
        let waits = |queue: &mut Queue| queue.has_thread && queue.written < number;
        let waited = self.done.wait_timeout_while(queue, PATIENCE, waits);
        let (mut queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.stuck |= waited.timed_out();
        queue
    }

    /// The thread's loop.
    fn work(&self, write: impl Fn(Stream, &str) -> io::Result<()>) {
        let mut queue = self.lock();
        loop {
            let Some((stream, text)) = queue.texts.pop_front() else {
                let empty = |queue: &mut Queue| queue.texts.is_empty();
                let woken = self.work.wait_while(queue, empty);
                queue = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let outcome = write(stream, &text);
            queue = self.lock();
            queue.bytes -= text.len();
            queue.written += 1;
            if let Err(error) = outcome {
                queue.failed = Some((queue.written, error));
            }
            if queue.texts.is_empty() {
                queue.stuck = false;
                queue.texts.shrink_to(FEW);
                let left_out = std::mem::take(&mut queue.left_out);
                if left_out > 0 {
                    let count =
                        format!("{left_out} more lines were said while nobody read these\n");
                    queue.bytes += count.len();
                    queue.printed += 1;
                    queue.texts.push_back((Stream::Err, count));
                }
            }
            self.done.notify_all();
        }
    }
}

/// Writes text for a command that is no session.
fn write_all(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes text, without the locks of the standard library: who panics has to find them free.
fn write(stream: Stream, text: &str) -> io::Result<()> {
    let (out, err) = (io::stdout(), io::stderr());
    let fd: BorrowedFd<'_> = match stream {
        Stream::Out => out.as_fd(),
        Stream::Err => err.as_fd(),
    };
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => rest = rest.get(len..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Somebody else has made it so.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The most bytes that wait to be written.
const MOST: usize = 16 * 1024;

/// So many texts keep their places.
const FEW: usize = 16;

/// So long it is waited until text is written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread writes only.
const STACK: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that reads when it is told to, and hands out what it has read.
    fn reader() -> (&'static Printer, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let printer: &Printer = Box::leak(Box::new(Printer::new()));
        printer.lock().has_thread = true;
        let (go, goes) = mpsc::channel();
        let (read, reads) = mpsc::channel();
        let goes = Mutex::new(goes);
        thread::spawn(move || {
            printer.work(|_, text| {
                let _ = goes.lock().expect("a reader").recv();
                let _ = read.send(text.to_owned());
                match text.starts_with("bad") {
                    true => Err(io::ErrorKind::StorageFull.into()),
                    false => Ok(()),
                }
            });
        });
        (printer, go, reads)
    }

    #[test]
    fn nobody_waits_for_good_and_what_is_too_much_is_counted() {
        let (printer, go, reads) = reader();
        let line = format!("{}\n", "x".repeat(99));
        // The first waits until it has enough of it, the busy and all after it do not wait; nor is there an error.
        printer
            .print(Stream::Err, "busy\n", true)
            .expect("no error");
        assert!(!printer.lock().stuck);
        while !printer.lock().texts.is_empty() {
            thread::yield_now();
        }
        for _ in 0..1000 {
            printer.print(Stream::Err, &line, false).expect("no error");
        }
        let queue = printer.lock();
        assert!(queue.stuck && queue.bytes <= MOST);
        let (left_out, queued) = (queue.left_out, queue.texts.len());
        assert!(queue.bytes + line.len() > MOST && left_out + queued as u64 >= 1000);
        drop((queue, go));
        // The reader goes on: it gets all of the queue, then the count, and all is as before.
        let said: Vec<String> = reads.iter().take(queued + 2).collect();
        assert_eq!(said.iter().filter(|said| **said == line).count(), queued);
        let count = format!("{left_out} more lines were said while nobody read these\n");
        assert_eq!(said.last(), Some(&count));
        printer
            .print(Stream::Out, "again\n", false)
            .expect("no error");
        assert!(!printer.lock().stuck);
        assert_eq!(printer.lock().bytes, 0);
    }

    #[test]
    fn who_waits_is_told_of_its_own_error() {
        let (printer, go, reads) = reader();
        drop(go);
        let long = "y".repeat(3 * MOST);
        for (text, fails) in [
            ("good", false),
            ("bad", true),
            (&long, false),
            ("bad", true),
        ] {
            let outcome = printer.print(Stream::Out, text, false);
            assert_eq!(outcome.is_err(), fails, "{text}");
            assert_eq!(reads.recv().expect("it"), text);
        }
    }
}
