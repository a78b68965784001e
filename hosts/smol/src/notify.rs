//! Tells systemd how a service is (sd_notify(3)): one datagram, nothing when nobody asked.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `text`, like `READY=1`, to the socket that the environment names, if it does.
pub(crate) fn notify(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let send = |addr| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &addr);
    if let Err(error) = addr.and_then(send) {
        log::warn!("the service manager was not told {text}: {error}");
    }
}
