//! The head of an HTTP answer (RFC 9112), read as leniently as curl and browsers read it. Proxies and scripts write
//! heads by hand, and a line that is not needed for the body is ignored.

use std::time::Duration;

use everseed_disk::unpack::Packing;
use smol::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::fault::HttpFault;

/// The fields of an answer's head that this client uses.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: BodyLen,
    pub(super) packing: Option<Packing>,
    /// The time for which the server does not want to be asked. A date in place of seconds is ignored.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyLen {
    Chunked,
    Known(u64),
    UntilEnd,
}

impl Head {
    /// Reads a head, and skips interim answers (1xx) before it.
    pub(super) async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Head, HttpFault> {
        let mut bytes = Vec::new();
        for _ in 0..MAX_INTERIM {
            bytes.clear();
            while !bytes.ends_with(b"\n\r\n") && !bytes.ends_with(b"\n\n") {
                let room = MAX_HEAD - bytes.len();
                let mut limited = (&mut *reader).take(room as u64);
                match limited.read_until(b'\n', &mut bytes).await {
                    // The stream ended, or the head is too long.
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
        // A script's byte order mark may even stand before the head.
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let bytes = with_usual_status(bytes)?;
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let mut headers = vec![httparse::EMPTY_HEADER; lines];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = lenient().parse_response(&mut response, &bytes);
        if !parsed.ok()?.is_complete() {
            return None;
        }
        let mut head = Head {
            status: response.code?,
            location: None,
            body: BodyLen::UntilEnd,
            packing: None,
            retry_after: None,
        };
        for header in response.headers {
            let value = str::from_utf8(header.value).unwrap_or("").trim();
            let mut words = value.split(',').map(str::trim);
            match header.name.to_ascii_lowercase().as_str() {
                "location" if !header.value.is_empty() => {
                    head.location = Some(location(header.value));
                }
                "retry-after" => {
                    head.retry_after = value.parse().ok().map(Duration::from_secs);
                }
                "transfer-encoding" => {
                    for word in words {
                        match word.eq_ignore_ascii_case("chunked") {
                            true => head.body = BodyLen::Chunked,
                            false => head.packing = Packing::named(word).or(head.packing),
                        }
                    }
                }
                "content-encoding" => {
                    head.packing = words.find_map(Packing::named).or(head.packing);
                }
                // A malformed length is ignored.
                "content-length" if head.body != BodyLen::Chunked => {
                    if let Some(Ok(len)) = words.next().map(str::parse) {
                        head.body = BodyLen::Known(len);
                    }
                }
                _ => {}
            }
        }
        if matches!(head.status, 204 | 304) {
            head.body = BodyLen::Known(0);
        }
        Some(head)
    }
}

/// The head with a status line to the letter, whatever version it names and however its words are set apart, and
/// without NUL. `None` if it does not begin as HTTP does.
fn with_usual_status(bytes: &[u8]) -> Option<Vec<u8>> {
    let bytes = bytes.trim_ascii_start();
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    let mut words = line.split(u8::is_ascii_whitespace);
    let mut words = words.by_ref().filter(|word| !word.is_empty());
    let protocol = words.next().and_then(|word| word.get(..5))?;
    let code = words.next().filter(|word| word.len() == 3)?;
    if !protocol.eq_ignore_ascii_case(b"HTTP/") {
        return None;
    }
    let rest = rest.iter().map(|&byte| if byte == 0 { b' ' } else { byte });
    Some(
        [b"HTTP/1.1 ", code, b" \r"]
            .concat()
            .into_iter()
            .chain(rest)
            .collect(),
    )
}

/// The parser's options for heads that scripts and proxies wrote by hand.
fn lenient() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_space_before_first_header_name(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

/// The target of a redirect; bytes that a URL cannot have are percent-encoded.
fn location(value: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut url = String::with_capacity(value.len());
    for &byte in value.trim_ascii() {
        match byte {
            0x21..0x7f => url.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(url, "%{byte:02X}"),
        }
    }
    url
}

/// The most bytes of a head.
const MAX_HEAD: usize = 32 * 1024;

/// The most interim answers (1xx) before the final one.
const MAX_INTERIM: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_are_not_to_the_letter() {
        use BodyLen::{Chunked, Known, UntilEnd};
        let many = "X: y\r\n".repeat(2000);
        let table = [
            ("", UntilEnd, None),
            ("Content-Length : 5\r\n", Known(5), None),
            ("content-length:5,5\r\n", Known(5), None),
            ("Content-Length: -1\r\n", UntilEnd, None),
            ("Content-Length: 99999999999999999999\r\n", UntilEnd, None),
            ("X-A: a,\r\n\tb\r\nContent-Length: 5\r\n", Known(5), None),
            ("X-A: a,\r\n  b\r\nContent-Length: 5\r\n", Known(5), None),
            ("no colon at all\r\nContent-Length: 5\r\n", Known(5), None),
            ("X (y): z\nContent-Length: 5\n", Known(5), None),
            (" Content-Length: 5\r\n", Known(5), None),
            (
                "Transfer-Encoding: gzip, Chunked\r\n",
                Chunked,
                Some(Packing::Gzip),
            ),
            ("Transfer-Encoding: identity\r\n", UntilEnd, None),
            (
                "Content-Encoding: x-gzip\r\n",
                UntilEnd,
                Some(Packing::Gzip),
            ),
            (
                "Content-Encoding: DEFLATE\r\n",
                UntilEnd,
                Some(Packing::Deflate),
            ),
            ("Content-Encoding: br\r\n", UntilEnd, None),
            ("X\0Y: \0\x01\r\nContent-Length: 5\r\n", Known(5), None),
            (&many, UntilEnd, None),
        ];
        for (lines, body, packing) in table {
            for status in [
                "HTTP/1.1 200 OK",
                "HTTP/1.0  200  OK",
                "HTTP/1.1 200",
                "\u{feff}HTTP/1.1 200 OK",
                "http/1.1 200 ok",
                "HTTP/2 200",
                "HTTP/1.1\t200\tOK",
                "HTTP/1.1 200 \u{e9}",
                "\r\nHTTP/1.1 200 OK",
            ] {
                let text = format!("{status}\r\n{lines}\r\n");
                let head = Head::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
                assert_eq!(
                    (head.status, head.body, head.packing),
                    (200, body, packing),
                    "{text}"
                );
            }
        }
        let text = b"HTTP/1.1 302 Found\r\nLocation: /a b/\xe9?c=d e\r\n\r\n";
        let to = Head::parse(text).unwrap().location;
        assert_eq!(to.as_deref(), Some("/a%20b/%E9?c=d%20e"));
        for (said, kept) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("-1", None),
            ("soon", None),
        ] {
            let text = format!("HTTP/1.1 503 Busy\r\nRetry-After:{said}\r\n\r\n");
            let head = Head::parse(text.as_bytes()).unwrap();
            assert_eq!(head.retry_after, kept.map(Duration::from_secs), "{said}");
        }
        for other in [
            "d8:intervali1800ee",
            "HTTP/1.1",
            "HTTP/1.1 2000",
            "HTTP/1.1 2x0",
            "ICY 200",
            "\r\n",
        ] {
            assert!(
                Head::parse(format!("{other}\r\n\r\n").as_bytes()).is_none(),
                "{other}"
            );
        }
    }
}
