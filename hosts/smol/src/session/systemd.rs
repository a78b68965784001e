//! Reports to systemd (sd_notify(3)): one datagram each, and none if nobody asked for them.
//!
//! Invariant: a manager that does not read its reports delays nobody. The session's own loop sends the signs of life,
//! so a hanging loop sends none.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::clock::monotonic;
use crate::text::number;

/// The service manager, as the environment of this process names it.
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The interval of signs of life that it wants, and the time of the next one.
    watchdog: Option<(Duration, Instant)>,
    /// The status that it was last told.
    status: String,
}

impl Manager {
    /// No service manager.
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

    /// Whether there is a service manager.
    pub(crate) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Reports that the service is up, or has reloaded its configuration.
    pub(crate) fn ready(&self) {
        self.tell("READY=1", true);
    }

    /// Reports that it is reloading its configuration.
    pub(crate) fn reloading(&self) {
        let us = monotonic().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"), true);
    }

    /// Reports that it is stopping.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1", true);
    }

    /// Reports the status, in one line.
    pub(crate) fn status(&mut self, text: String) {
        if text != self.status {
            self.tell(&format!("STATUS={text}"), false);
            self.status = text;
        }
    }

    /// Sends a sign of life if one is due. Returns whether one was due.
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

    /// The time of the next sign of life.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }

    /// Sends a report. If there is no room, one that `matters` waits a moment; another one is repeated later anyway.
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

/// The interval for a watchdog of this many microseconds: half of it.
fn interval(us: &str) -> Option<Duration> {
    let us = number(us, 1, u64::MAX)?;
    Some(Duration::from_micros(us / 2).max(LEAST))
}

/// The longest wait for a manager that does not read.
const PATIENCE: Duration = Duration::from_millis(500);

/// The shortest interval of signs of life: a shorter one would only cost work.
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
