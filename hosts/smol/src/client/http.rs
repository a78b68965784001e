//! A small HTTP/1.1 client: one GET, one bounded answer, for announces to trackers and for torrents.
//!
//! [`get`] resolves the name, connects by the address family that is asked for, follows redirects
//! and reads the body, within the times and the size of [`Limits`]. It keeps no connection and no
//! cookie and sends nothing but what a tracker needs. A user name and password in the URL are sent as such
//! (RFC 7617), to that host alone.
//!
//! What is not needed spoils no answer: lines of the head that are not to the letter, a length that is not the
//! body's, compression that nobody asked for. Whether a body is whole, its reader sees.
//!
//! A redirect from https to http is refused: it would send secrets where their owner may not expect them. So is
//! an address inside this network, unless [`Caller`] allows it: that is looked at on every hop, after the name
//! was resolved.

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
use smol::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};

pub use self::fault::HttpFault;
use self::head::{BodyLen, Head};
use crate::net::proxy::{LOGIN_STATUS, Proxy, ProxyFault};
pub use crate::net::scope::Caller;
use crate::net::scope::Scope;
use crate::net::socket;
use crate::net::way::Way;
use crate::secrets::mask;
use crate::url::{Scheme, Url, UrlError};

/// How long a request may take and how much it may bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For a connection to one address, TLS not included.
    pub connect: Duration,
    /// For everything, redirects included.
    pub total: Duration,
    /// Bytes of the body.
    pub body: usize,
}

impl Default for Limits {
    /// A quarter of a minute, a minute, and 64 KiB: more than 3,000 peers.
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(15),
            total: Duration::from_secs(60),
            body: 64 * 1024,
        }
    }
}

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code, no redirect that could be followed.
    pub status: u16,
    /// The body, free of encodings.
    pub body: Vec<u8>,
    /// The address that it came from; where a name leads is known to a proxy alone.
    pub from: Option<IpAddr>,
}

/// Why there is no answer, and from which host.
#[derive(Debug)]
pub struct HttpError {
    /// The host as the URL names it; the URL itself if it names none.
    pub host: String,
    /// What happened.
    pub fault: HttpFault,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", mask(&self.host), self.fault)
    }
}

impl std::error::Error for HttpError {}

/// Asks for `url`, which `caller` named, the way that is to be gone.
///
/// # Errors
/// See [`HttpFault`]. An answer with a status of failure is an answer.
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
    let answer = get_to(url, caller, way, limits, &mut keep).await?;
    let Answer { status, from, .. } = answer;
    let packing = answer.packing.or(Packing::shown_by(&body));
    let body = match packing.map(|packing| unpacked(packing, &body, limits.body)) {
        Some(Ok(body)) => body,
        Some(Err(UnpackError::TooLong)) => {
            let (host, fault) = (answer.host, HttpFault::TooLong);
            return Err(HttpError { host, fault });
        }
        // Some servers name a compression that they did not apply.
        _ => body,
    };
    Ok(Response { status, body, from })
}

fn unpacked(packing: Packing, body: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    let mut keep = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    unpack(packing, body, limit as u64, &mut keep)?;
    Ok(out)
}

/// How an answer began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code, no redirect that could be followed.
    pub status: u16,
    /// The address that it came from; where a name leads is known to a proxy alone.
    pub from: Option<IpAddr>,
    /// The host that sent it.
    pub host: String,
    /// How the body is packed, as far as the head tells.
    pub packing: Option<Packing>,
}

/// The same, but the body goes to `sink` as it comes, packed if the server packs it.
///
/// # Errors
/// Likewise, and [`HttpFault::Unkept`] if `sink` fails. What `sink` has then is a part of some answer.
pub async fn get_to(
    url: &str,
    caller: Caller,
    way: &Way,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<Answer, HttpError> {
    let mut host = url.to_owned();
    let work = async {
        let mut url = url.to_owned();
        let mut before = None;
        for _ in 0..=MAX_REDIRECTS {
            let parsed = Url::parse(&url).map_err(HttpFault::Url)?;
            parsed.host.clone_into(&mut host);
            let (tcp, ip) = connect(&parsed, (caller, before), way, limits).await?;
            match request(&parsed, tcp, way.proxy(), limits, sink).await? {
                Step::Done(status, packing) => return Ok((status, packing, ip)),
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
        Ok((status, packing, from)) => Ok(Answer {
            status,
            from,
            host,
            packing,
        }),
        Err(fault) => Err(HttpError { host, fault }),
    }
}

/// Sends a whole request to a server at `addr`, and answers with the status and body of what comes back. No redirect
/// is followed.
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
            Step::Done(status, _) => Ok(status),
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

/// What takes a body, a part at a time.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// What one request came to.
enum Step {
    Done(u16, Option<Packing>),
    Redirect(String),
}

/// The URL that a redirect leads to, which may be absolute or relative to where we were. Who we are is told again
/// to the same host only.
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
                (Some(proxy), Step::Done(LOGIN_STATUS, _)) => {
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

/// Connects to an address of the host that may be called; answers with it.
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

/// The same by way of a proxy, which is given the name.
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
    // Little for a tracker's answer, and more for what is long.
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
    let head = Head::read(&mut reader).await?;
    if matches!(head.status, 301 | 302 | 303 | 307 | 308)
        && let Some(to) = head.location
    {
        return Ok(Step::Redirect(to));
    }
    let mut body = Body {
        reader,
        room: limits.body,
        sink,
        came: false,
    };
    let passed = match head.body {
        BodyLen::Chunked => body.pass_chunks().await,
        BodyLen::Known(len) => body.pass(len).await.map(|_| ()),
        BodyLen::UntilEnd => body.pass(u64::MAX).await.map(|_| ()),
    };
    match passed {
        // Many servers end TLS without a farewell, and reset what they did not read all of.
        Err(HttpFault::Broken(error)) if body.came && is_end(&error) => {}
        passed => passed?,
    }
    Ok(Step::Done(head.status, head.packing))
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | UnexpectedEof)
}

/// The head of a request, or of one to a proxy that passes it on, which takes the whole URL. HTTP/1.1 demands `Host`; the other lines say what we cannot do.
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
        match c.is_ascii() {
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

/// The length at the start of a chunk's line; what follows a semicolon or a space is an extension.
fn chunk_len(line: &[u8]) -> Option<u64> {
    let text = str::from_utf8(line).ok()?.trim();
    let digits = text.split([';', ' ', '\t']).next()?;
    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| hex)
}

/// A body on its way to a sink.
struct Body<'a, R> {
    reader: R,
    /// Bytes that may come still.
    room: usize,
    sink: Sink<'a>,
    /// Whether any byte has come.
    came: bool,
}

impl<R: AsyncBufRead + Unpin> Body<'_, R> {
    /// Passes on so many bytes; answers whether the stream went on so long.
    async fn pass(&mut self, len: u64) -> Result<bool, HttpFault> {
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        while left > 0 {
            match self.pass_some(left).await? {
                0 => return Ok(false),
                passed => left -= passed,
            }
        }
        Ok(true)
    }

    /// Passes on a body in chunks (RFC 9112, section 7.1); the trailer is left unread.
    async fn pass_chunks(&mut self) -> Result<(), HttpFault> {
        loop {
            let line = self.line().await?;
            if line.is_empty() && self.came {
                return Ok(());
            }
            let len = chunk_len(&line).ok_or(HttpFault::NotHttp)?;
            if len == 0 || !self.pass(len).await? {
                return Ok(());
            }
            let end = self.line().await?;
            if !end.trim_ascii().is_empty() {
                return Err(HttpFault::NotHttp);
            }
        }
    }

    /// A line with its end; empty at the end of the stream.
    async fn line(&mut self) -> Result<Vec<u8>, HttpFault> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_CHUNK_LINE);
        let read = limited.read_until(b'\n', &mut line).await;
        read.map_err(HttpFault::Broken)?;
        Ok(line)
    }

    /// Passes on what is there, at most so many bytes; 0 is the end.
    async fn pass_some(&mut self, most: usize) -> Result<usize, HttpFault> {
        let bytes = self.reader.fill_buf().await.map_err(HttpFault::Broken)?;
        let bytes = &bytes[..bytes.len().min(most)];
        let len = bytes.len();
        self.room = self.room.checked_sub(len).ok_or(HttpFault::TooLong)?;
        self.came |= len > 0;
        (self.sink)(bytes).map_err(HttpFault::Unkept)?;
        self.reader.consume(len);
        Ok(len)
    }
}

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Bytes that the kernel may hold for a connection.
const LEAST_HELD: usize = 16 * 1024;
const HELD: usize = 256 * 1024;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Bytes of the line that begins a chunk.
const MAX_CHUNK_LINE: u64 = 256;

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
        let head = request_head(&Url::parse("http://user:pw@t/a").unwrap(), None);
        assert!(head.starts_with("GET /a HTTP/1.1\r\nHost: t\r\n"));
        assert!(head.ends_with("\r\nAuthorization: Basic dXNlcjpwdw==\r\n\r\n"));
    }
}
