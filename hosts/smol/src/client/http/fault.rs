//! The faults of an HTTP request.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::net::proxy::{Proxy, ProxyFault};
use crate::secrets::mask_urls;
use crate::text::escape;
use crate::url::UrlError;

/// Why an HTTP request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpFault {
    /// The URL cannot be used.
    Url(UrlError),
    /// The name could not be resolved.
    Resolve(io::Error),
    /// The name has no address of the wanted family.
    NoAddress,
    /// The interface that all calls go out by has no address.
    Shut,
    /// No address of the name accepted the connection; this is the last one's error.
    Connect(io::Error),
    /// TLS failed, or this build has none.
    Tls(io::Error),
    /// The proxy made no connection; the text names the proxy.
    Proxy(String, ProxyFault),
    /// The connection broke.
    Broken(io::Error),
    /// The request took longer than allowed.
    Slow,
    /// The answer is not HTTP.
    NotHttp,
    /// The body is longer than allowed.
    TooLong,
    /// The body could not be stored.
    Unkept(io::Error),
    /// There were too many redirects.
    Redirects,
    /// A redirect led to this magnet link.
    Magnet(String),
    /// A redirect led from https to http.
    Downgrade,
    /// A redirect or name led to this address inside our network, and its origin may not send us there.
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
            HttpFault::Magnet(link) => write!(
                f,
                "it is a magnet link, to be given to get itself: {}",
                escape(&mask_urls(link))
            ),
            HttpFault::Downgrade => f.write_str("refused a redirect from https to http"),
            HttpFault::Inside(ip) => write!(
                f,
                "{ip} is inside this network: torrents may call it only at paths like /announce, and \
                 hosts outside may not redirect there; if it is your tracker, name it to seed or run: --tracker URL"
            ),
        }
    }
}

impl HttpFault {
    pub(super) fn proxy(proxy: &Proxy, fault: ProxyFault) -> HttpFault {
        HttpFault::Proxy(proxy.to_string(), fault)
    }
}
