//! Tells whether this machine's network has changed, so that it is looked at only then.
//!
//! The kernel reports changed interfaces, addresses, routes and rules of routing in a netlink socket. Their contents are
//! not read. Where there is no such socket, everything counts as changed.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::sockopt;

/// What has changed since somebody looked last.
#[derive(Debug)]
pub(crate) struct Changes {
    reports: Option<OwnedFd>,
    /// Whether a change counts once more.
    again: bool,
}

impl Changes {
    /// Hears of what changes from now on.
    pub(crate) fn new() -> Changes {
        let reports = listen();
        if let Err(error) = &reports {
            log::debug!("the kernel does not report changes of the network: {error}");
        }
        Changes {
            reports: reports.ok(),
            again: false,
        }
    }

    /// Has the next call of [`take`](Self::take) tell of a change again, which nobody could look at.
    pub(crate) fn put_back(&mut self, changed: bool) {
        self.again |= changed;
    }

    /// Whether something may have changed since the last call.
    pub(crate) fn take(&mut self) -> bool {
        let Some(reports) = &self.reports else {
            return true;
        };
        let mut any = std::mem::take(&mut self.again);
        let mut report = [0; 16];
        for _ in 0..REPORTS {
            match recv(reports, &mut report, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return any,
                // Too many reports, of which some are lost, are a change too.
                _ => any = true,
            }
        }
        any
    }
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let reports = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    sockopt::set_received(&reports, RECEIVED);
    bind(&reports, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(reports)
}

/// The groups of reports, one bit each by their number less one: links, addresses, routes and rules of both families.
const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;

/// The receive buffer in bytes. Reports are counted as changes when they do not fit in.
const RECEIVED: usize = 4096;

/// The most reports that one call takes.
const REPORTS: usize = 100;
