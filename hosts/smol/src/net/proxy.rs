//! Calls to trackers through a proxy: SOCKS version 5 (RFC 1928, RFC 1929), or HTTP (RFC 9110, section 9.3.6).
//!
//! The proxy gets host names, not addresses, so no resolver here learns them. Peers and UDP trackers are never called
//! through it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::url::{Url, base64, percent_decoded};

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyProtocol,
    /// A host name, or an address without brackets.
    host: String,
    port: u16,
    /// User name and password.
    login: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ProxyProtocol {
    Socks,
    Http,
}

/// Why there is no connection through a proxy.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyFault {
    /// The proxy's name could not be resolved.
    Resolve(io::Error),
    /// The proxy has no address of a family that we can call.
    NoAddress,
    /// The proxy could not be connected to.
    Connect(io::Error),
    /// The connection to the proxy broke.
    Broken(io::Error),
    /// The proxy wants a user name and password, or other ones.
    Login,
    /// The proxy refused or failed to connect us; its reason.
    Refused(&'static str),
    /// The proxy refused with this HTTP status.
    Status(u16),
    /// The proxy's answer does not follow its protocol.
    Nonsense,
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyFault::Resolve(error) => write!(f, "cannot find its address: {error}"),
            ProxyFault::NoAddress => f.write_str("it has no address that can be called from here"),
            ProxyFault::Connect(error) => write!(f, "cannot connect to it: {error}"),
            ProxyFault::Broken(error) => write!(f, "the connection to it broke: {error}"),
            ProxyFault::Login => f.write_str("it wants a user name and password, or others"),
            ProxyFault::Refused(why) => write!(f, "it says: {why}"),
            ProxyFault::Status(status) => write!(f, "it answers with HTTP {status}"),
            ProxyFault::Nonsense => f.write_str("it is not the kind of proxy that was named"),
        }
    }
}

/// The proxy's address; user name and password are never shown.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {self}", self.kind)
    }
}

impl Proxy {
    /// Parses `socks5://[USER:PASSWORD@]HOST:PORT` or `http://…`. `socks5h` is the same as `socks5`.
    pub fn parse(text: &str) -> Option<Proxy> {
        let (scheme, rest) = text.split_once("://")?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => ProxyProtocol::Socks,
            "http" => ProxyProtocol::Http,
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (_, port) = rest.rsplit_once(':')?;
        let plain = format!("http://{rest}");
        let url = Url::parse(&plain).ok()?;
        // Proxies have no usual port, so one must be given; a path makes no sense.
        if port.parse() != Ok(url.port) || !url.target.is_empty() {
            return None;
        }
        let login = url.user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (percent_decoded(name), percent_decoded(password))
        });
        let short = |text: &[u8]| text.len() <= LOGIN_MAX;
        let fits = |(name, password): &(Vec<u8>, Vec<u8>)| short(name) && short(password);
        if !login.as_ref().is_none_or(fits) {
            return None;
        }
        Some(Proxy {
            kind,
            host: url.host.to_owned(),
            port: url.port,
            login,
        })
    }

    /// The proxy's addresses, from the system's resolver.
    pub(crate) async fn resolve(&self) -> Result<Vec<SocketAddr>, ProxyFault> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = smol::net::resolve((self.host.as_str(), self.port)).await;
        found.map_err(ProxyFault::Resolve)
    }

    /// Whether plain HTTP requests are sent to the proxy itself, which passes them on.
    pub(crate) fn takes_requests(&self) -> bool {
        self.kind == ProxyProtocol::Http
    }

    /// The header line with user name and password; empty without them.
    pub(crate) fn authorization(&self) -> String {
        let Some((name, password)) = &self.login else {
            return String::new();
        };
        let login = base64(&[name, &b":"[..], password].concat());
        format!("Proxy-Authorization: Basic {login}\r\n")
    }

    /// Asks the proxy at the other end of `stream` to connect it to a host.
    pub(crate) async fn connect(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), ProxyFault> {
        match self.kind {
            ProxyProtocol::Socks => self.connect_by_socks(stream, host, port).await,
            ProxyProtocol::Http => self.connect_by_http(stream, host, port).await,
        }
    }

    async fn connect_by_socks(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), ProxyFault> {
        let hello: &[u8] = match self.login {
            Some(_) => &[5, 2, NO_LOGIN, LOGIN],
            None => &[5, 1, NO_LOGIN],
        };
        say(stream, hello).await?;
        match (hear(stream).await?, &self.login) {
            ([5, NO_LOGIN], _) => {}
            ([5, LOGIN], Some((name, password))) => {
                let mut words = vec![1];
                for word in [name, password] {
                    // The lengths were checked before.
                    words.push(u8::try_from(word.len()).unwrap_or(u8::MAX));
                    words.extend(word);
                }
                say(stream, &words).await?;
                let [_, status] = hear(stream).await?;
                if status != 0 {
                    return Err(ProxyFault::Login);
                }
            }
            ([5, LOGIN | 0xff], _) => return Err(ProxyFault::Login),
            _ => return Err(ProxyFault::Nonsense),
        }
        let mut request = vec![5, 1, 0];
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => {
                request.push(1);
                request.extend(ip.octets());
            }
            Ok(IpAddr::V6(ip)) => {
                request.push(4);
                request.extend(ip.octets());
            }
            Err(_) => {
                let len = u8::try_from(host.len());
                request.extend([3, len.map_err(|_| ProxyFault::Refused(LONG_NAME))?]);
                request.extend(host.bytes());
            }
        }
        request.extend(port.to_be_bytes());
        say(stream, &request).await?;
        let [version, reply, _, kind] = hear(stream).await?;
        if version != 5 {
            return Err(ProxyFault::Nonsense);
        }
        if reply != 0 {
            let why = REPLIES.get(usize::from(reply) - 1);
            return Err(ProxyFault::Refused(why.unwrap_or(&"it failed")));
        }
        // The reply names the proxy's own address, which nobody needs.
        let len = match kind {
            1 => 4,
            4 => 16,
            3 => usize::from(hear::<1>(stream).await?[0]),
            _ => return Err(ProxyFault::Nonsense),
        };
        let mut address = [0; 255 + 2];
        hear_all(stream, &mut address[..len + 2]).await
    }

    async fn connect_by_http(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), ProxyFault> {
        let target = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let login = self.authorization();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
        say(stream, head.as_bytes()).await?;
        // Not a byte more is read: what follows belongs to the connection's user.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n\r\n") && !answer.ends_with(b"\n\n") {
            if answer.len() == HEAD_MAX {
                return Err(ProxyFault::Nonsense);
            }
            answer.extend(hear::<1>(stream).await?);
        }
        let line = String::from_utf8_lossy(&answer);
        let mut words = line.split_ascii_whitespace();
        let http = words.next().is_some_and(|word| word.starts_with("HTTP/"));
        let status = words.next().and_then(|word| word.parse().ok());
        match status.filter(|_| http) {
            Some(200..300) => Ok(()),
            Some(LOGIN_STATUS) => Err(ProxyFault::Login),
            Some(status) => Err(ProxyFault::Status(status)),
            None => Err(ProxyFault::Nonsense),
        }
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), ProxyFault> {
    stream.write_all(bytes).await.map_err(ProxyFault::Broken)?;
    stream.flush().await.map_err(ProxyFault::Broken)
}

async fn hear<const N: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; N], ProxyFault> {
    let mut bytes = [0; N];
    hear_all(stream, &mut bytes).await?;
    Ok(bytes)
}

async fn hear_all(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut [u8],
) -> Result<(), ProxyFault> {
    stream.read_exact(bytes).await.map_err(|error| {
        // A proxy of another kind hangs up on a request that it does not understand.
        match error.kind() {
            ErrorKind::UnexpectedEof => ProxyFault::Nonsense,
            _ => ProxyFault::Broken(error),
        }
    })
}

/// The HTTP status by which a proxy asks for user name and password.
pub(crate) const LOGIN_STATUS: u16 = 407;

/// Methods of authentication (RFC 1928, section 3): none, and user name with password.
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;

/// The longest user name or password in bytes (RFC 1929).
const LOGIN_MAX: usize = 255;

/// The longest answer of a proxy to CONNECT, in bytes.
const HEAD_MAX: usize = 8 * 1024;

const LONG_NAME: &str = "the host's name is too long";

/// Meanings of the replies from 1 on (RFC 1928, section 6).
const REPLIES: [&str; 8] = [
    "it failed",
    "its rules do not allow that",
    "the network cannot be reached",
    "the host cannot be reached",
    "the host refused the connection",
    "it took too long",
    "it does not know how to connect",
    "it does not take such addresses",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let login = |name: &str, password: &str| Some((name.into(), password.into()));
        for (text, shown, is) in [
            ("socks5://127.0.0.1:9050", "Socks 127.0.0.1:9050", None),
            ("socks5h://p.example:1080/", "Socks p.example:1080", None),
            ("http://[::1]:8080", "Http [::1]:8080", None),
            ("HTTP://a:b@p:80", "Http p:80", login("a", "b")),
            ("socks5://a%3A:b%40c@p:1", "Socks p:1", login("a:", "b@c")),
            ("socks5://a@p:1", "Socks p:1", login("a", "")),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!((format!("{proxy:?}"), proxy.login), (shown.to_owned(), is));
        }
        let long = format!("socks5://{}:b@p:1", "a".repeat(256));
        for bad in [
            "",
            "p:1",
            "socks5://p",
            "http://p",
            "https://p:1",
            "socks4://p:1",
            "socks5://p:0",
            "socks5://p:65536",
            "socks5://p:+1",
            "http://p:1/path",
            "http://p:1?q",
            "socks5://p :1",
            "socks5://:1",
            &long,
        ] {
            assert_eq!(Proxy::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_we_are_is_said_in_base_64() {
        let proxy = |text| Proxy::parse(text).unwrap().authorization();
        assert_eq!(proxy("http://p:1"), "");
        let said = "Proxy-Authorization: Basic dXNlcjpwdw==\r\n";
        assert_eq!(proxy("http://user:pw@p:1"), said);
    }
}
