//! Signals: which came is a flag, that one came is a byte in a socket that wakes the engine.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level};

/// A limit on the length of files (`ulimit -f`) is an error of the write that exceeds it, and not the end
/// of the process.
pub(crate) fn outlive_long_files() {
    // A process that may take no signal is told by the kernel as before.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// What signals asked for.
#[derive(Debug)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    theirs: UnixStream,
}

impl Signals {
    /// Takes those that ask to stop; and the socket that becomes readable, a byte each.
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

    /// Takes the one that asks to read the configuration too.
    pub(super) fn take_reload(&self) -> io::Result<()> {
        self.take(SIGHUP, &self.reload)
    }

    /// The flag comes first: whoever is woken finds it.
    fn take(&self, signal: i32, raised: &Arc<AtomicBool>) -> io::Result<()> {
        flag::register(signal, Arc::clone(raised))?;
        low_level::pipe::register(signal, self.theirs.try_clone()?)?;
        Ok(())
    }

    /// How many asked to stop since the last call, as far as that can be told: 0 or 1.
    pub(super) fn stops(&self) -> u32 {
        u32::from(self.stop.swap(false, Ordering::Relaxed))
    }

    /// Whether one asked to stop that [`stops`](Self::stops) has not answered yet: what takes long is given up.
    pub(super) fn asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error if one did.
    pub(super) fn go_on(&self) -> io::Result<()> {
        match self.asked() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Whether one asked to read the configuration since the last call.
    pub(super) fn reloads(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}
