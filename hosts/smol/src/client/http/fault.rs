//! What can go wrong with a request.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::net::proxy::{Proxy, ProxyFault};
use crate::url::UrlError;

/// What can go wrong with a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpFault {
    /// The URL cannot be used.
    Url(UrlError),
    /// The name could not be resolved.
    Resolve(io::Error),
    /// The name has no address of the family that was asked for.
    NoAddress,
    /// The interface that everybody is called by has no address.
    Shut,
    /// No address of the name could be connected to; this is the last one's error.
    Connect(io::Error),
    /// TLS failed, or this build has none.
    Tls(io::Error),
    /// There is no connection by way of the proxy; which one it is comes first.
    Proxy(String, ProxyFault),
    /// The connection broke.
    Broken(io::Error),
    /// It took longer than allowed.
    Slow,
    /// What came is not HTTP.
    NotHttp,
    /// The body is longer than allowed.
    TooLong,
    /// What came could not be kept.
    Unkept(io::Error),
    /// There was one redirect after the other.
    Redirects,
    /// It wanted to send us from https to http.
    Downgrade,
    /// This address is inside, and nobody who may sent us there.
    Inside(IpAddr),
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpFault::Url(error) => write!(f, "{error}"),
            HttpFault::Resolve(error) => write!(f, "cannot find the address: {error}"),
            HttpFault::NoAddress => f.write_str("the name has no address that can be used here"),
            HttpFault::Shut => f.write_str("the interface to call by has no address now"),
            HttpFault::Connect(error) => write!(f, "cannot connect: {error}"),
            HttpFault::Tls(error) => write!(f, "no secure connection: {error}"),
            HttpFault::Proxy(proxy, fault) => write!(f, "the proxy {proxy}: {fault}"),
            HttpFault::Broken(error) => write!(f, "the connection broke: {error}"),
            HttpFault::Slow => f.write_str("no complete answer in time"),
            HttpFault::NotHttp => f.write_str("the answer is not HTTP"),
            HttpFault::TooLong => f.write_str("the answer is too long"),
            HttpFault::Unkept(error) => write!(f, "cannot keep the answer: {error}"),
            HttpFault::Redirects => f.write_str("redirected too often"),
            HttpFault::Downgrade => f.write_str("refused a redirect from https to http"),
            HttpFault::Inside(ip) => write!(
                f,
                "{ip} is inside this network, where torrents may name only paths like /announce, and \
                 hosts outside redirect to nothing; if it is your tracker, name it to seed or run: --tracker URL"
            ),
        }
    }
}

impl HttpFault {
    pub(super) fn proxy(proxy: &Proxy, fault: ProxyFault) -> HttpFault {
        HttpFault::Proxy(proxy.to_string(), fault)
    }
}
