//! A small HTTP/1.1 client for announces and torrent files: one GET, one answer of bounded length.
//!
//! [`get`] looks up the name, connects by the wanted address family, follows redirects and reads the body, within the
//! times and the length of [`Limits`]. It keeps no connection and no cookie, and sends only what a tracker needs.
//! User name and password of the URL are sent to that host alone (RFC 7617).
//!
//! Errors in what the client does not need are ignored: malformed header lines, a `Content-Length` that is wrong,
//! compression that was not requested. The reader of a body finds out whether it is complete.
//!
//! A redirect from https to http is refused, because it would send secrets unencrypted. So is an address inside this
//! network, unless [`Caller`] allows it. That is checked on every hop, after the name was looked up.

mod body;
mod fault;
mod head;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "http/no_tls.rs"]
mod tls;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use everseed_disk::unpack::{Packing, UnpackError, unpack};
use smol::Async;
use smol::future::FutureExt as _;
use smol::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use self::body::{Body, Sink};
pub use self::fault::HttpFault;
use self::head::{BodyLen, Head};
use crate::net::proxy::{LOGIN_STATUS, Proxy, ProxyFault};
pub use crate::net::scope::Caller;
use crate::net::scope::Scope;
use crate::net::socket;
use crate::net::way::Way;
use crate::secrets::mask;
use crate::url::{Scheme, Url, UrlError};

/// Limits on a request's time and an answer's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Time to connect to one address, without TLS.
    pub connect: Duration,
    /// Time for everything, redirects included.
    pub total: Duration,
    /// Length of the body in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// 15 seconds, a minute, and 64 KiB, which hold more than 3,000 peers.
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(15),
            total: Duration::from_secs(60),
            body: 64 * 1024,
        }
    }
}

/// A server's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code; never a redirect that could be followed.
    pub status: u16,
    /// The time for which the server does not want to be asked, if it named one.
    pub retry_after: Option<Duration>,
    /// The body, unpacked.
    pub body: Vec<u8>,
    /// The server's address; `None` by way of a proxy, which alone knows it.
    pub from: Option<IpAddr>,
}

/// A failed request: the host and the cause.
#[derive(Debug)]
pub struct HttpError {
    /// The host as the URL names it; the whole URL if it names none.
    pub host: String,
    /// The cause.
    pub fault: HttpFault,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", mask(&self.host), self.fault)
    }
}

impl std::error::Error for HttpError {}

/// Gets `url`, which `caller` named, from the addresses or by the proxy of `way`. A body that is longer than allowed is
/// cut off, packed and unpacked.
///
/// # Errors
/// See [`HttpFault`]. An answer with an error status is still an answer.
pub async fn get(
    url: &str,
    caller: Caller,
    way: &Way,
    limits: &Limits,
) -> Result<Response, HttpError> {
    let mut body = Vec::new();
    let mut keep = |bytes: &[u8]| {
        body.extend_from_slice(bytes);
        Ok(())
    };
    let head = get_part(url, caller, way, limits, &mut keep).await?;
    let mut named = head.packing;
    for _ in 0..MAX_PACKINGS {
        // Some servers name another compression than they applied, or apply one twice.
        let packing = Packing::shown_by(&body).or(named.take().map(|_| Packing::Deflate));
        match packing.and_then(|packing| unpacked(packing, &body, limits.body)) {
            Some(unpacked) => body = unpacked,
            // Or none.
            None => break,
        }
    }
    Ok(Response {
        status: head.status,
        retry_after: head.retry_after,
        body,
        from: head.from,
    })
}

/// At most the first `limit` bytes; `None` if the body is not packed.
fn unpacked(packing: Packing, body: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut keep = |bytes: &[u8]| {
        let room = limit - out.len();
        out.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match bytes.len() <= room {
            true => Ok(()),
            false => Err(io::ErrorKind::FileTooLarge.into()),
        }
    };
    match unpack(packing, body, u64::MAX, &mut keep) {
        Ok(()) | Err(UnpackError::Unkept(_)) => Some(out).filter(|out| !out.is_empty()),
        Err(_) => None,
    }
}

/// The head of an answer whose body went to a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// The status code; never a redirect that could be followed.
    pub status: u16,
    /// The server's address; `None` by way of a proxy, which alone knows it.
    pub from: Option<IpAddr>,
    /// The host that answered.
    pub host: String,
    /// The body's compression, if the head names one.
    pub packing: Option<Packing>,
    /// The time for which the server does not want to be asked, if it named one.
    pub retry_after: Option<Duration>,
    /// Whether the sink got only the first part of a body that is longer than allowed.
    is_cut: bool,
}

/// Gets `url` as [`get`] does, but passes the body to `sink` as it comes, without unpacking it.
///
/// # Errors
/// As for [`get`], and [`HttpFault::Unkept`] if `sink` fails. The sink then has a part of the body.
pub async fn get_to(
    url: &str,
    caller: Caller,
    way: &Way,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<ResponseHead, HttpError> {
    let head = get_part(url, caller, way, limits, sink).await?;
    if head.is_cut {
        let (host, fault) = (head.host, HttpFault::TooLong);
        return Err(HttpError { host, fault });
    }
    Ok(head)
}

async fn get_part(
    url: &str,
    caller: Caller,
    way: &Way,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<ResponseHead, HttpError> {
    let mut host = url.to_owned();
    let work = async {
        let mut url = url.to_owned();
        let mut before = None;
        for _ in 0..=MAX_REDIRECTS {
            let parsed = Url::parse(&url).map_err(HttpFault::Url)?;
            parsed.host.clone_into(&mut host);
            let (tcp, ip) = connect(&parsed, (caller, before), way, limits).await?;
            match request(&parsed, tcp, way.proxy(), limits, sink).await? {
                Step::Done(head, is_cut) => return Ok((head, is_cut, ip)),
                Step::Redirect(to) => url = follow(&parsed, &to)?,
            }
            before = Some(ip.map_or(Scope::Public, Scope::of));
        }
        Err(HttpFault::Redirects)
    };
    let slow = async {
        smol::Timer::after(limits.total).await;
        Err(HttpFault::Slow)
    };
    match work.or(slow).await {
        Ok((head, is_cut, from)) => Ok(ResponseHead {
            status: head.status,
            from,
            host,
            packing: head.packing,
            retry_after: head.retry_after,
            is_cut,
        }),
        Err(fault) => Err(HttpError { host, fault }),
    }
}

/// Sends a complete request to the server at `addr`, and returns the status and body of its answer. Redirects are not
/// followed.
pub(crate) async fn ask(
    addr: SocketAddr,
    request: &[u8],
    way: &Way,
    limits: &Limits,
) -> Result<(u16, Vec<u8>), HttpFault> {
    let mut body = Vec::new();
    let mut keep = |bytes: &[u8]| {
        body.extend_from_slice(bytes);
        Ok(())
    };
    let work = async {
        let dialled = dial(addr, way, limits).await;
        let mut stream = dialled.map_err(HttpFault::Connect)?;
        let sent = stream.write_all(request).await;
        sent.map_err(HttpFault::Broken)?;
        match answer(stream, limits, &mut keep).await? {
            Step::Done(_, true) => Err(HttpFault::TooLong),
            Step::Done(head, false) => Ok(head.status),
            Step::Redirect(_) => Err(HttpFault::Redirects),
        }
    };
    let slow = async {
        smol::Timer::after(limits.total).await;
        Err(HttpFault::Slow)
    };
    let status = work.or(slow).await?;
    Ok((status, body))
}

/// The outcome of one request.
enum Step {
    /// With whether the body was cut off because it is longer than allowed.
    Done(Head, bool),
    Redirect(String),
}

/// The URL of a redirect, which may be absolute or relative to the previous URL. User name and password are kept only
/// for the same host.
fn follow(from: &Url<'_>, to: &str) -> Result<String, HttpFault> {
    let scheme = match from.scheme {
        Scheme::Https => "https",
        _ => "http",
    };
    let authority = from.authority();
    let path = from.target.split('?').next().unwrap_or("");
    let url = if to.contains("://") && !to.starts_with(['/', '?']) {
        to.to_owned()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.starts_with('?') {
        format!("{scheme}://{authority}{path}{to}")
    } else {
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        format!("{scheme}://{authority}{folder}{to}")
    };
    if to
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
    {
        return Err(HttpFault::Magnet(to.to_owned()));
    }
    let parsed = Url::parse(&url).map_err(HttpFault::Url)?;
    let same = (parsed.scheme, parsed.host, parsed.port) == (from.scheme, from.host, from.port);
    match (parsed.scheme, from.user) {
        (Scheme::Udp, _) => Err(HttpFault::Url(UrlError::Scheme)),
        (Scheme::Http, _) if from.scheme == Scheme::Https => Err(HttpFault::Downgrade),
        (_, Some(user)) if same && parsed.user.is_none() => {
            Ok(format!("{scheme}://{user}@{authority}{}", parsed.target))
        }
        _ => Ok(url),
    }
}

async fn request(
    url: &Url<'_>,
    tcp: Async<TcpStream>,
    proxy: Option<&Proxy>,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<Step, HttpFault> {
    match url.scheme {
        Scheme::Http => {
            let passes_on = proxy.filter(|proxy| proxy.takes_requests());
            let step = exchange(tcp, url, passes_on, limits, sink).await?;
            match (passes_on, &step) {
                (Some(proxy), Step::Done(head, _)) if head.status == LOGIN_STATUS => {
                    Err(HttpFault::proxy(proxy, ProxyFault::Login))
                }
                _ => Ok(step),
            }
        }
        Scheme::Https => {
            let stream = tls::connect(url.host, tcp).await.map_err(HttpFault::Tls)?;
            exchange(stream, url, None, limits, sink).await
        }
        Scheme::Udp => Err(HttpFault::Url(UrlError::Scheme)),
    }
}

/// Connects to the first reachable address of the host that may be called, and returns it with the stream.
async fn connect(
    url: &Url<'_>,
    (caller, before): (Caller, Option<Scope>),
    way: &Way,
    limits: &Limits,
) -> Result<(Async<TcpStream>, Option<IpAddr>), HttpFault> {
    if way.is_shut() {
        return Err(HttpFault::Shut);
    }
    if let Some(proxy) = way.proxy() {
        return connect_through(proxy, url, (caller, before), way, limits).await;
    }
    let all = url.resolve().await.map_err(HttpFault::Resolve)?;
    let wanted = |addr: &SocketAddr| way.to(addr.ip()).is_some();
    let mut last = HttpFault::NoAddress;
    for addr in all.into_iter().filter(wanted).take(MAX_ADDRESSES) {
        if !caller.may_call(url.target, addr.ip(), before) {
            last = HttpFault::Inside(addr.ip());
            continue;
        }
        let slow = async {
            smol::Timer::after(limits.connect).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        match dial(addr, way, limits).or(slow).await {
            Ok(stream) => return Ok((stream, Some(addr.ip()))),
            Err(error) => last = HttpFault::Connect(error),
        }
    }
    Err(last)
}

/// Connects by way of a proxy, which gets the host's name.
async fn connect_through(
    proxy: &Proxy,
    url: &Url<'_>,
    (caller, before): (Caller, Option<Scope>),
    way: &Way,
    limits: &Limits,
) -> Result<(Async<TcpStream>, Option<IpAddr>), HttpFault> {
    let failed = |fault| HttpFault::proxy(proxy, fault);
    let there = url.host.parse::<IpAddr>().ok();
    let mut last = ProxyFault::NoAddress;
    for addr in proxy
        .resolve()
        .await
        .map_err(failed)?
        .into_iter()
        .take(MAX_ADDRESSES)
    {
        if !caller.may_call_through(addr.ip(), url.host, url.target, before) {
            return Err(HttpFault::Inside(there.unwrap_or(addr.ip())));
        }
        let way = way.to_proxy(addr.ip());
        if way.to(addr.ip()).is_none() {
            continue;
        }
        let slow = async {
            smol::Timer::after(limits.connect).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        match dial(addr, &way, limits).or(slow).await {
            Ok(mut stream) => {
                if url.scheme == Scheme::Https || !proxy.takes_requests() {
                    let connected = proxy.connect(&mut stream, url.host, url.port).await;
                    connected.map_err(failed)?;
                }
                return Ok((stream, there));
            }
            Err(error) => last = ProxyFault::Connect(error),
        }
    }
    Err(failed(last))
}

async fn dial(addr: SocketAddr, way: &Way, limits: &Limits) -> io::Result<Async<TcpStream>> {
    // A small buffer for a tracker's answer, a larger one for long bodies.
    let held = (limits.body / 2).clamp(LEAST_HELD, HELD);
    let tune = |socket: &_| socket::hold_evenly(socket, held);
    let stream = Async::new(socket::dial(addr, way, tune)?)?;
    stream.writable().await?;
    match stream.get_ref().take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Sends the request and reads the answer.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    url: &Url<'_>,
    proxy: Option<&Proxy>,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<Step, HttpFault> {
    let request = request_head(url, proxy);
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(HttpFault::Broken)?;
    stream.flush().await.map_err(HttpFault::Broken)?;
    answer(stream, limits, sink).await
}

/// Reads the answer.
async fn answer(
    stream: impl AsyncRead + Unpin,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<Step, HttpFault> {
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut head = Head::read(&mut reader).await?;
    if (300..400).contains(&head.status)
        && let Some(to) = head.location.take()
    {
        return Ok(Step::Redirect(to));
    }
    let mut body = Body {
        reader,
        room: limits.body,
        sink,
        came: false,
        is_cut: false,
    };
    let passed = match head.body {
        BodyLen::Chunked => body.pass_chunks().await,
        BodyLen::Known(len) => body.pass(len).await.map(|_| ()),
        BodyLen::UntilEnd => body.pass(u64::MAX).await.map(|_| ()),
    };
    match passed {
        // Many servers end TLS without a close_notify, or reset the connection after the answer.
        Err(HttpFault::Broken(error)) if body.came && is_end(&error) => {}
        passed => passed?,
    }
    Ok(Step::Done(head, body.is_cut))
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | UnexpectedEof)
}

/// The head of a request; a proxy that passes it on gets the whole URL. HTTP/1.1 demands `Host`; the other lines say
/// what this client cannot do.
fn request_head(url: &Url<'_>, proxy: Option<&Proxy>) -> String {
    use std::fmt::Write as _;
    let mut head = String::from("GET ");
    if proxy.is_some() {
        head += &format!("http://{}", url.authority());
    }
    if !url.target.starts_with('/') {
        head.push('/');
    }
    for c in url.target.bytes() {
        match c.is_ascii_graphic() {
            true => head.push(char::from(c)),
            false => {
                let _ = write!(head, "%{c:02X}");
            }
        }
    }
    let _ = write!(
        head,
        " HTTP/1.1\r\nHost: {}\r\nUser-Agent: everseed/{}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\n",
        url.authority(),
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(user) = url.basic() {
        let _ = write!(head, "Authorization: Basic {user}\r\n");
    }
    head += &proxy.map_or(String::new(), Proxy::authorization);
    head.push_str("\r\n");
    head
}

/// The most compressions of one body, one upon the other.
const MAX_PACKINGS: usize = 2;

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Bytes that the kernel may hold for a connection, from least to most.
const LEAST_HELD: usize = 16 * 1024;
const HELD: usize = 256 * 1024;

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_browsers_would_go() {
        let table = [
            ("http://a/x/y?z", "/b", Some("http://a/b")),
            ("http://a:81/x/y?z/w", "b", Some("http://a:81/x/b")),
            ("http://[::1]:81", "b", Some("http://[::1]:81/b")),
            ("http://a/", "https://b/", Some("https://b/")),
            ("https://a/", "//b/c", Some("https://b/c")),
            ("https://a/", "http://a/", None),
            ("http://a/", "udp://a:1/", None),
            ("http://a/", "http://me@a/", Some("http://me@a/")),
            ("http://a/x/y?z", "?w", Some("http://a/x/y?w")),
            (
                "http://a/x?z",
                "/y?to=http://b/",
                Some("http://a/y?to=http://b/"),
            ),
            // Who we are is told to that host alone.
            ("http://me:pw@a/x/y", "z", Some("http://me:pw@a/x/z")),
            (
                "http://me:pw@a:81/",
                "http://a:81/b",
                Some("http://me:pw@a:81/b"),
            ),
            ("http://me:pw@a/", "//b/c", Some("http://b/c")),
            ("http://me:pw@a/", "http://a:81/", Some("http://a:81/")),
            ("http://me:pw@a/", "https://a/", Some("https://a/")),
            ("http://a/", "file:///etc/passwd", None),
            ("http://a/", "magnet:?xt=urn:btih:0", None),
        ];
        for (from, to, expected) in table {
            let from = Url::parse(from).unwrap();
            assert_eq!(follow(&from, to).ok().as_deref(), expected, "{to}");
        }
    }

    #[test]
    fn heads() {
        let url = Url::parse("http://[::1]:8080?a=\u{e9}").unwrap();
        let head = request_head(&url, None);
        assert!(head.starts_with("GET /?a=%C3%A9 HTTP/1.1\r\nHost: [::1]:8080\r\n"));
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"));
        let url = Url::parse("http://t/a b?c d").unwrap();
        assert!(request_head(&url, None).starts_with("GET /a%20b?c%20d HTTP/1.1\r\n"));
        let head = request_head(&Url::parse("http://user:pw@t/a").unwrap(), None);
        assert!(head.starts_with("GET /a HTTP/1.1\r\nHost: t\r\n"));
        assert!(head.ends_with("\r\nAuthorization: Basic dXNlcjpwdw==\r\n\r\n"));
    }
}
