//! The substitute for TLS in builds without it.

use std::io;
use std::net::TcpStream;

use smol::Async;

pub(super) async fn connect(_host: &str, _tcp: Async<TcpStream>) -> io::Result<Async<TcpStream>> {
    let reason = "this build has no TLS; build it with the feature `tls`, or use an http tracker";
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}
