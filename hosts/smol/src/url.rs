//! Trackers' URLs (RFC 3986, as far as trackers need it).
//!
//! A [`Url`] is a view of a text that was checked: its parts can stand in a request's head without breaking it, spaces aside.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use everseed_core::tracker::http::percent_decode;

/// The parts of a URL that a request needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Url<'a> {
    /// The part before `://`.
    pub scheme: Scheme,
    /// User name and password as they stand, percent-encoded, without the `@`; only for HTTP.
    pub user: Option<&'a str>,
    /// A host name, or an address without brackets.
    pub host: &'a str,
    /// The port; if none is given, the scheme's own.
    pub port: u16,
    /// Path and query as they stand; may be empty, and have spaces, which people type.
    pub target: &'a str,
}

/// The protocol of a tracker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// UDP (BEP 15).
    Udp,
}

/// Why a URL cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UrlError {
    /// It does not begin with `http://`, `https://` or `udp://`.
    Scheme,
    /// It has a user name or password, which UDP cannot send.
    UserInfo,
    /// Its host is missing or malformed.
    Host,
    /// Its port is not a number from 1 to 65535.
    Port,
    /// It has a character that a URL cannot have.
    Character,
    /// It is too long for a request.
    Length,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "the URL begins with neither http://, https:// nor udp://",
            UrlError::UserInfo => "a UDP tracker takes no user name or password",
            UrlError::Host => "the URL has no host, or a strange one",
            UrlError::Port => "the URL has a strange port",
            UrlError::Character => "the URL holds a character that has no place there",
            UrlError::Length => "the URL is too long",
        })
    }
}

impl<'a> Url<'a> {
    /// Parses a tracker's URL (RFC 3986, as far as trackers need it).
    pub fn parse(url: &'a str) -> Result<Url<'a>, UrlError> {
        if url.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            // No standard names one; other clients take that of the tracker's pages.
            "udp" => (Scheme::Udp, 80),
            _ => return Err(UrlError::Scheme),
        };
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (user, authority) = match authority.rsplit_once('@') {
            Some(_) if scheme == Scheme::Udp => return Err(UrlError::UserInfo),
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = split_port(authority)?;
        let port = match port {
            "" => default_port,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| UrlError::Port)?
            }
            _ => return Err(UrlError::Port),
        };
        if port == 0 {
            return Err(UrlError::Port);
        }
        Ok(Url {
            scheme,
            user,
            host,
            port,
            target,
        })
    }

    /// Looks up the host's addresses with the system's resolver.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        smol::net::resolve((self.host, self.port)).await
    }

    /// The credentials for a head (RFC 7617): user name and password in base 64.
    pub(crate) fn basic(&self) -> Option<String> {
        let user = self.user.filter(|user| !user.is_empty())?;
        let mut bytes = percent_decoded(user);
        if !user.contains(':') {
            bytes.push(b':');
        }
        Some(base64(&bytes))
    }

    /// The host for a head, with the port if that is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.to_owned(),
        };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Decodes a part of a URL other than the query; badly encoded text is returned as it is.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut room = vec![0; text.len() + 1];
    // A plus sign stands for itself here.
    let plain = text.replace('+', "%2B");
    let len = percent_decode(plain.as_bytes(), &mut room).map(<[u8]>::len);
    match len {
        Some(len) => room[..len].to_vec(),
        None => text.as_bytes().to_vec(),
    }
}

/// Base 64 (RFC 4648).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n > three.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

/// Splits host and port; the port may be empty. An IPv6 address has brackets.
fn split_port(authority: &str) -> Result<(&str, &str), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(UrlError::Host);
        }
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if port.is_empty() => Ok((host, "")),
            None => Err(UrlError::Port),
        };
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
        return Err(UrlError::Host);
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |scheme, host, port, target| {
            Ok(Url {
                scheme,
                user: None,
                host,
                port,
                target,
            })
        };
        use Scheme::{Http, Https, Udp};
        let table = [
            ("http://t.example", url(Http, "t.example", 80, "")),
            ("HTTPS://t/a?b", url(Https, "t", 443, "/a?b")),
            ("http://t:6969/a#x", url(Http, "t", 6969, "/a")),
            ("http://t?a/b", url(Http, "t", 80, "?a/b")),
            ("http://t:/a", url(Http, "t", 80, "/a")),
            ("http://[::1]/a", url(Http, "::1", 80, "/a")),
            ("udp://[2001:db8::1]:80", url(Udp, "2001:db8::1", 80, "")),
            ("udp://127.0.0.1:1/a", url(Udp, "127.0.0.1", 1, "/a")),
            ("udp://t/a", url(Udp, "t", 80, "/a")),
            ("udp://[::1]", url(Udp, "::1", 80, "")),
            ("udp://t:0/a", Err(UrlError::Port)),
            ("http://t:0/", Err(UrlError::Port)),
            ("http://t:65536/", Err(UrlError::Port)),
            ("http://t:+80/", Err(UrlError::Port)),
            ("http://[::1]80/", Err(UrlError::Port)),
            ("udp://me:pw@t:1/", Err(UrlError::UserInfo)),
            ("http://me:pw@/", Err(UrlError::Host)),
            ("http://[::1/", Err(UrlError::Host)),
            ("http://[t]/", Err(UrlError::Host)),
            ("http:///a", Err(UrlError::Host)),
            ("http://t\u{e9}/", Err(UrlError::Host)),
            ("http://t/a b?c d", url(Http, "t", 80, "/a b?c d")),
            ("http://t t/a", Err(UrlError::Host)),
            ("http://t: 80/a", Err(UrlError::Port)),
            ("h ttp://t/a", Err(UrlError::Scheme)),
            ("http://t/a\tb", Err(UrlError::Character)),
            ("http://t/\r\nHost: x", Err(UrlError::Character)),
            ("ftp://t/", Err(UrlError::Scheme)),
            ("t/announce", Err(UrlError::Scheme)),
            ("", Err(UrlError::Scheme)),
        ];
        for (text, expected) in table {
            assert_eq!(Url::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn users() {
        for (text, host, basic) in [
            ("http://t/", "t", None),
            ("http://@t/", "t", None),
            ("http://user:pw@t/a@b", "t", Some("dXNlcjpwdw==")),
            ("http://user@t:81?a", "t", Some("dXNlcjo=")),
            ("https://a:b@c@[::1]/", "::1", Some("YTpiQGM=")),
            ("http://a%3Ab:c+d%20@t/", "t", Some("YTpiOmMrZCA=")),
            ("http://a%3:b@t/", "t", Some("YSUzOmI=")),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host, url.basic().as_deref()), (host, basic), "{text}");
        }
    }
}
