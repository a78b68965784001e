//! Signals: a flag says which one came, and a byte in a socket wakes the session.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level};

/// Makes a write beyond the limit on file lengths (`ulimit -f`) an error of that write, instead of the end of the
/// process.
pub(crate) fn outlive_long_files() {
    // If the handler cannot be installed, the kernel ends the process as before.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// The flags that signals set.
#[derive(Debug)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    theirs: UnixStream,
}

impl Signals {
    /// Installs handlers for the signals that ask to stop. Returns also the socket that becomes readable, one byte
    /// for each signal.
    pub(super) fn new() -> io::Result<(Signals, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let signals = Signals {
            stop: Arc::default(),
            reload: Arc::default(),
            theirs,
        };
        for signal in [SIGINT, SIGTERM] {
            signals.take(signal, &signals.stop)?;
        }
        Ok((signals, ours))
    }

    /// Installs the handler for the signal that asks to reload the configuration.
    pub(super) fn take_reload(&self) -> io::Result<()> {
        self.take(SIGHUP, &self.reload)
    }

    /// Installs a handler. The flag is set before the byte is sent, so whoever is woken sees it.
    fn take(&self, signal: i32, raised: &Arc<AtomicBool>) -> io::Result<()> {
        flag::register(signal, Arc::clone(raised))?;
        low_level::pipe::register(signal, self.theirs.try_clone()?)?;
        Ok(())
    }

    /// Number of stop signals since the last call, as far as it can be told: 0 or 1.
    pub(super) fn stops(&self) -> u32 {
        u32::from(self.stop.swap(false, Ordering::Relaxed))
    }

    /// Whether a stop signal came that [`stops`](Self::stops) has not returned yet. Long work then ends early.
    pub(super) fn asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error if a stop signal came.
    pub(super) fn go_on(&self) -> io::Result<()> {
        match self.asked() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Whether a reload signal came since the last call.
    pub(super) fn reloads(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}
