//! Tells systemd how a service is (sd_notify(3)): a datagram each, nothing when nobody asked.
//!
//! Invariant: whoever does not read what it is told holds up nobody. It is told that the service is alive by the loop
//! that serves, so that it hears nothing any more when that hangs.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::clock::monotonic;
use crate::text::number;

/// Who looks after this process, as its environment says.
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the service is alive, and when next.
    watchdog: Option<(Duration, Instant)>,
    /// What it was told last of what the service does.
    status: String,
}

impl Manager {
    /// Nobody looks after it.
    pub(crate) fn nobody() -> Manager {
        Manager {
            socket: None,
            watchdog: None,
            status: String::new(),
        }
    }

    pub(crate) fn of_this_process() -> Manager {
        let socket =
            open().map_err(|error| log::warn!("cannot speak to the service manager: {error}"));
        let env = |name| std::env::var(name).ok();
        let its = env("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let patience = env("WATCHDOG_USEC").filter(|_| its);
        Manager {
            socket: socket.ok().flatten(),
            watchdog: patience.and_then(|us| Some((interval(&us)?, Instant::now()))),
            status: String::new(),
        }
    }

    /// Whether anybody listens.
    pub(crate) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// The service is up, or has read its configuration.
    pub(crate) fn ready(&self) {
        self.tell("READY=1", true);
    }

    /// It reads its configuration.
    pub(crate) fn reloading(&self) {
        let us = monotonic().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"), true);
    }

    /// It is about to end.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1", true);
    }

    /// What it does, in a line.
    pub(crate) fn status(&mut self, text: String) {
        if text != self.status {
            self.tell(&format!("STATUS={text}"), false);
            self.status = text;
        }
    }

    /// The loop that serves goes round; answers whether that was due to be told, and tells it.
    pub(crate) fn alive(&mut self, now: Instant) -> bool {
        let Some((interval, next)) = &mut self.watchdog else {
            return false;
        };
        if now < *next {
            return false;
        }
        *next = now + *interval;
        self.tell("WATCHDOG=1", false);
        true
    }

    /// When that is to be told next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }

    /// What matters is waited for a moment if there is no room for it; the rest comes again.
    fn tell(&self, text: &str, matters: bool) {
        let Some((socket, addr)) = &self.socket else {
            return;
        };
        let sent = socket
            .set_nonblocking(!matters)
            .and_then(|()| socket.send_to_addr(text.as_bytes(), addr));
        match sent {
            Err(error) if matters => {
                log::warn!("the service manager was not told {text:?}: {error}");
            }
            Err(error) => log::debug!("the service manager was not told {text:?}: {error}"),
            Ok(_) => {}
        }
    }
}

fn open() -> io::Result<Option<(UnixDatagram, SocketAddr)>> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(None);
    };
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Some((socket, addr)))
}

/// How often a watchdog is told that waits for so many microseconds: twice in that time.
fn interval(us: &str) -> Option<Duration> {
    let us = number(us, 1, u64::MAX)?;
    Some(Duration::from_micros(us / 2).max(LEAST))
}

/// How long it is waited for a manager that does not read.
const PATIENCE: Duration = Duration::from_millis(500);

/// The least time between two signs of life: a shorter one would be nothing but work.
const LEAST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_told_in_time() {
        let start = Instant::now();
        let mut manager = Manager {
            socket: None,
            watchdog: interval("3000000").map(|every| (every, start)),
            status: String::new(),
        };
        for (ms, told) in [
            (0, true),
            (1, false),
            (1499, false),
            (1500, true),
            (1501, false),
            // The loop was slow.
            (9000, true),
            (9001, false),
            (10_500, true),
        ] {
            let now = start + Duration::from_millis(ms);
            assert_eq!(manager.alive(now), told, "{ms}");
            assert!(manager.next().is_some_and(|next| next > now));
        }
        manager.watchdog = None;
        assert!(!manager.alive(start) && manager.next().is_none());
        for (us, every) in [
            ("1", Some(LEAST)),
            ("0", None),
            ("", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(interval(us), every, "{us}");
        }
    }
}
