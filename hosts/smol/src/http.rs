//! A small HTTP/1.1 client: one GET, one bounded answer, for announces to trackers and for torrents.
//!
//! [`get`] resolves the name, connects by the address family that is asked for, follows redirects
//! and reads the body, within the times and the size of [`Limits`]. It keeps no connection and no
//! cookie, asks for no compression, and sends nothing but what a tracker needs.
//!
//! A URL with a user name or password is refused, as is a redirect from https to http: both would
//! send secrets where their owner may not expect them. So is an address inside this network, unless
//! [`Caller`] allows it: that is looked at on every hop, after the name was resolved.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use smol::Async;
use smol::future::FutureExt as _;
use smol::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};

pub use crate::scope::Caller;
use crate::secrets::mask;
use crate::socket;
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
    /// The body, free of transfer encoding.
    pub body: Vec<u8>,
    /// The address that it came from.
    pub from: IpAddr,
}

/// Why there is no answer, and from which host.
#[derive(Debug)]
pub struct HttpError {
    /// The host as the URL names it; the URL itself if it names none.
    pub host: String,
    /// What happened.
    pub fault: HttpFault,
}

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
    /// No address of the name could be connected to; this is the last one's error.
    Connect(io::Error),
    /// TLS failed, or this build has none.
    Tls(io::Error),
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

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", mask(&self.host), self.fault)
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpFault::Url(error) => write!(f, "{error}"),
            HttpFault::Resolve(error) => write!(f, "cannot find the address: {error}"),
            HttpFault::NoAddress => f.write_str("the name has no address that can be used here"),
            HttpFault::Connect(error) => write!(f, "cannot connect: {error}"),
            HttpFault::Tls(error) => write!(f, "no secure connection: {error}"),
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
                 hosts outside redirect to nothing; if it is your tracker, name it with --tracker URL"
            ),
        }
    }
}

impl std::error::Error for HttpError {}

/// Asks for `url`, which `caller` named, calling from this address of ours (an unspecified one stands for all of its
/// family), or from any.
///
/// # Errors
/// See [`HttpFault`]. An answer with a status of failure is an answer.
pub async fn get(
    url: &str,
    caller: Caller,
    from: Option<IpAddr>,
    limits: &Limits,
) -> Result<Response, HttpError> {
    let mut body = Vec::new();
    let mut keep = |bytes: &[u8]| {
        body.extend_from_slice(bytes);
        Ok(())
    };
    let (status, from) = get_to(url, caller, from, limits, &mut keep).await?;
    Ok(Response { status, body, from })
}

/// The same, but the body goes to `sink` as it comes. Answers with the status and the address that it came from.
///
/// # Errors
/// Likewise, and [`HttpFault::Unkept`] if `sink` fails. What `sink` has then is a part of some answer.
pub async fn get_to(
    url: &str,
    caller: Caller,
    from: Option<IpAddr>,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<(u16, IpAddr), HttpError> {
    let mut host = url.to_owned();
    let work = async {
        let mut url = url.to_owned();
        let mut before = None;
        for _ in 0..=MAX_REDIRECTS {
            let parsed = Url::parse(&url).map_err(HttpFault::Url)?;
            parsed.host.clone_into(&mut host);
            let (tcp, ip) = connect(&parsed, (caller, before), from, limits).await?;
            match request(&parsed, tcp, limits, sink).await? {
                Step::Done(status) => return Ok((status, ip)),
                Step::Redirect(to) => url = follow(&parsed, &to)?,
            }
            before = Some(ip);
        }
        Err(HttpFault::Redirects)
    };
    let slow = async {
        smol::Timer::after(limits.total).await;
        Err(HttpFault::Slow)
    };
    let result = work.or(slow).await;
    result.map_err(|fault| HttpError { host, fault })
}

/// What takes a body, a part at a time.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// What one request came to.
enum Step {
    Done(u16),
    Redirect(String),
}

/// The URL that a redirect leads to, which may be absolute or relative to where we were.
fn follow(from: &Url<'_>, to: &str) -> Result<String, HttpFault> {
    let scheme = match from.scheme {
        Scheme::Https => "https",
        _ => "http",
    };
    let authority = from.authority();
    let url = if to.contains("://") {
        to.to_owned()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else {
        let path = from.target.split('?').next().unwrap_or("");
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        format!("{scheme}://{authority}{folder}{to}")
    };
    match Url::parse(&url).map_err(HttpFault::Url)?.scheme {
        Scheme::Udp => Err(HttpFault::Url(UrlError::Scheme)),
        Scheme::Http if from.scheme == Scheme::Https => Err(HttpFault::Downgrade),
        _ => Ok(url),
    }
}

async fn request(
    url: &Url<'_>,
    tcp: Async<TcpStream>,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<Step, HttpFault> {
    match url.scheme {
        Scheme::Http => exchange(tcp, url, limits, sink).await,
        Scheme::Https => {
            let stream = tls::connect(url.host, tcp).await.map_err(HttpFault::Tls)?;
            exchange(stream, url, limits, sink).await
        }
        Scheme::Udp => Err(HttpFault::Url(UrlError::Scheme)),
    }
}

/// Connects to an address of the host that may be called; answers with it.
async fn connect(
    url: &Url<'_>,
    (caller, before): (Caller, Option<IpAddr>),
    from: Option<IpAddr>,
    limits: &Limits,
) -> Result<(Async<TcpStream>, IpAddr), HttpFault> {
    let all = url.resolve().await.map_err(HttpFault::Resolve)?;
    let wanted = |addr: &SocketAddr| from.is_none_or(|ip| ip.is_ipv4() == addr.is_ipv4());
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
        match dial(addr, from, limits).or(slow).await {
            Ok(stream) => return Ok((stream, addr.ip())),
            Err(error) => last = HttpFault::Connect(error),
        }
    }
    Err(last)
}

async fn dial(
    addr: SocketAddr,
    from: Option<IpAddr>,
    limits: &Limits,
) -> io::Result<Async<TcpStream>> {
    // Little for a tracker's answer, and more for what is long.
    let held = (limits.body / 2).clamp(LEAST_HELD, HELD);
    let tune = |socket: &_| socket::hold_evenly(socket, held);
    let stream = Async::new(socket::dial(addr, from, tune)?)?;
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
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<Step, HttpFault> {
    let request = head(url);
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(HttpFault::Broken)?;
    stream.flush().await.map_err(HttpFault::Broken)?;
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
    };
    match head.body {
        BodyLen::Chunked => body.pass_chunks().await?,
        BodyLen::Known(len) => body.pass(len).await?,
        BodyLen::UntilEnd => body.pass_all().await?,
    }
    Ok(Step::Done(head.status))
}

/// The head of a request. HTTP/1.1 demands `Host`; the other lines say what we cannot do.
fn head(url: &Url<'_>) -> String {
    use std::fmt::Write as _;
    let mut head = String::from("GET ");
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
         Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
        url.authority(),
        env!("CARGO_PKG_VERSION"),
    );
    head
}

/// What the head of an answer says about the rest.
struct Head {
    status: u16,
    location: Option<String>,
    body: BodyLen,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyLen {
    Chunked,
    Known(u64),
    UntilEnd,
}

impl Head {
    /// Reads a head, past those of the kind 1xx that come before it.
    async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Head, HttpFault> {
        let mut bytes = Vec::new();
        for _ in 0..MAX_INTERIM {
            bytes.clear();
            while !bytes.ends_with(b"\r\n\r\n") && !bytes.ends_with(b"\n\n") {
                let room = MAX_HEAD - bytes.len();
                let mut limited = (&mut *reader).take(room as u64);
                match limited.read_until(b'\n', &mut bytes).await {
                    // The end of the stream, or of our patience.
                    Ok(0) => return Err(HttpFault::NotHttp),
                    Ok(_) => {}
                    Err(error) => return Err(HttpFault::Broken(error)),
                }
            }
            let head = Head::parse(&bytes).ok_or(HttpFault::NotHttp)?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
        Err(HttpFault::NotHttp)
    }

    fn parse(bytes: &[u8]) -> Option<Head> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        if !response.parse(bytes).ok()?.is_complete() {
            return None;
        }
        let mut head = Head {
            status: response.code?,
            location: None,
            body: BodyLen::UntilEnd,
        };
        for header in response.headers {
            let value = str::from_utf8(header.value).unwrap_or("").trim();
            if header.name.eq_ignore_ascii_case("location") {
                head.location = Some(value.to_owned());
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return None;
                }
                head.body = BodyLen::Chunked;
            } else if header.name.eq_ignore_ascii_case("content-length")
                && head.body != BodyLen::Chunked
            {
                head.body = BodyLen::Known(value.parse().ok()?);
            }
        }
        if matches!(head.status, 204 | 304) {
            head.body = BodyLen::Known(0);
        }
        Some(head)
    }
}

/// A body on its way to a sink.
struct Body<'a, R> {
    reader: R,
    /// Bytes that may come still.
    room: usize,
    sink: Sink<'a>,
}

impl<R: AsyncBufRead + Unpin> Body<'_, R> {
    /// Passes on so many bytes, which must come.
    async fn pass(&mut self, len: u64) -> Result<(), HttpFault> {
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        if left > self.room {
            return Err(HttpFault::TooLong);
        }
        while left > 0 {
            match self.pass_some(left).await? {
                0 => return Err(HttpFault::Broken(io::ErrorKind::UnexpectedEof.into())),
                passed => left -= passed,
            }
        }
        Ok(())
    }

    /// Passes on what comes until the end.
    async fn pass_all(&mut self) -> Result<(), HttpFault> {
        loop {
            match self.pass_some(usize::MAX).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // Many servers end TLS without a farewell; whether the body is whole, its reader sees.
                Err(HttpFault::Broken(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes on a body in chunks (RFC 9112, section 7.1); the trailer is left unread.
    async fn pass_chunks(&mut self) -> Result<(), HttpFault> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut self.reader).take(MAX_CHUNK_LINE);
            let read = limited.read_until(b'\n', &mut line).await;
            read.map_err(HttpFault::Broken)?;
            let Ok(httparse::Status::Complete((_, len))) = httparse::parse_chunk_size(&line) else {
                return Err(HttpFault::NotHttp);
            };
            if len == 0 {
                return Ok(());
            }
            self.pass(len).await?;
            let mut end = [0; 2];
            let read = self.reader.read_exact(&mut end).await;
            read.map_err(HttpFault::Broken)?;
            if end != *b"\r\n" {
                return Err(HttpFault::NotHttp);
            }
        }
    }

    /// Passes on what is there, at most so many bytes; 0 is the end.
    async fn pass_some(&mut self, most: usize) -> Result<usize, HttpFault> {
        let bytes = self.reader.fill_buf().await.map_err(HttpFault::Broken)?;
        let bytes = &bytes[..bytes.len().min(most)];
        let len = bytes.len();
        self.room = self.room.checked_sub(len).ok_or(HttpFault::TooLong)?;
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

/// Bytes and lines of a head.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Heads of the kind 1xx before the real one.
const MAX_INTERIM: usize = 4;

/// Bytes of the line that begins a chunk.
const MAX_CHUNK_LINE: u64 = 256;

#[cfg(feature = "tls")]
mod tls {
    //! TLS by rustls with ring; trusted are Mozilla's roots.

    use std::io;
    use std::net::TcpStream;
    use std::sync::{Arc, OnceLock};

    use futures_rustls::TlsConnector;
    use futures_rustls::client::TlsStream;
    use futures_rustls::rustls::crypto::ring;
    use futures_rustls::rustls::pki_types::UnixTime;
    use futures_rustls::rustls::time_provider::TimeProvider;
    use futures_rustls::rustls::{ClientConfig, RootCertStore};
    use smol::Async;

    use crate::clock::time_of_day;

    pub(super) async fn connect(
        host: &str,
        tcp: Async<TcpStream>,
    ) -> io::Result<TlsStream<Async<TcpStream>>> {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = match CONFIG.get() {
            Some(config) => config.clone(),
            None => CONFIG.get_or_init(|| config().into()).clone(),
        };
        let name = host.to_owned().try_into().map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, tcp).await
    }

    fn config() -> ClientConfig {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        ClientConfig::builder_with_details(ring::default_provider().into(), Arc::new(OurClock))
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// Which certificates are valid depends on the time.
    #[derive(Debug)]
    struct OurClock;

    impl TimeProvider for OurClock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(time_of_day()))
        }
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    //! In place of TLS.

    use std::io;
    use std::net::TcpStream;

    use smol::Async;

    pub(super) async fn connect(
        _host: &str,
        _tcp: Async<TcpStream>,
    ) -> io::Result<Async<TcpStream>> {
        let reason =
            "this build has no TLS; build it with the feature `tls`, or use an http tracker";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }
}

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
            ("http://a/", "http://me@a/", None),
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
        let head = head(&url);
        assert!(head.starts_with("GET /?a=%C3%A9 HTTP/1.1\r\nHost: [::1]:8080\r\n"));
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"));
    }
}
