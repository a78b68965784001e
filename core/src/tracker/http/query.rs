//! The query of an announce (BEP 3), and the percent encoding that it is written in.

use core::fmt::{self, Write};

use crate::tracker::{AnnounceEvent, Report};

/// Writes the URL of an announce: the tracker's own with the report as its query (BEP 3), peers
/// asked for in the compact form (BEP 23).
///
/// A query that the URL already has is kept in front, a fragment is dropped. `tracker_id` is what the
/// tracker's last answer gave, or empty. Fails only if `out` does.
pub fn write_url(
    out: &mut dyn Write,
    url: &str,
    report: &Report,
    tracker_id: &[u8],
) -> fmt::Result {
    let (url, _fragment) = url.split_once('#').unwrap_or((url, ""));
    let joint = match url.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    write!(out, "{url}{joint}info_hash=")?;
    percent_encode(out, &report.info_hash.0)?;
    out.write_str("&peer_id=")?;
    percent_encode(out, &report.peer_id)?;
    write!(
        out,
        "&port={}&uploaded={}&downloaded={}&left={}&compact=1&numwant={}&key={:08x}",
        report.port,
        report.uploaded,
        report.downloaded,
        report.left,
        report.num_want(),
        report.key,
    )?;
    out.write_str(match report.event {
        AnnounceEvent::None => "",
        AnnounceEvent::Started => "&event=started",
        AnnounceEvent::Completed => "&event=completed",
        AnnounceEvent::Stopped => "&event=stopped",
    })?;
    if !tracker_id.is_empty() {
        out.write_str("&trackerid=")?;
        percent_encode(out, tracker_id)?;
    }
    Ok(())
}

/// Writes bytes so that they may stand in a query: what RFC 3986 does not reserve as it is, the
/// rest as `%xx`.
pub fn percent_encode(out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    for &byte in bytes {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                out.write_char(char::from(byte))?;
            }
            _ => write!(out, "%{byte:02X}")?,
        }
    }
    Ok(())
}

/// Reads a value of a query into `out`, `%xx` and `+` undone; answers with the bytes filled. `None`
/// when an escape is broken or `out` is too short.
pub fn percent_decode<'a>(text: &[u8], out: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut text = text.iter();
    let mut len = 0usize;
    while let Some(&byte) = text.next() {
        let mut digit = || char::from(*text.next()?).to_digit(16);
        let byte = match byte {
            b'%' => u8::try_from((digit()? << 4) | digit()?).ok()?,
            b'+' => b' ',
            _ => byte,
        };
        *out.get_mut(len)? = byte;
        len = len.checked_add(1)?;
    }
    out.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::InfoHash;
    use crate::rng::Rng;

    extern crate std;
    use std::string::String;

    const REPORT: Report = Report {
        port_v6: 0,
        info_hash: InfoHash(*b"\x00\x01az09-._~\xff /?&=%+#!"),
        peer_id: *b"-ES0001-abcdefghijkl",
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        key: 0xbeef,
        num_want: 80,
        event: AnnounceEvent::Started,
    };

    const QUERY: &str = "info_hash=%00%01az09-._~%FF%20%2F%3F%26%3D%25%2B%23%21\
        &peer_id=-ES0001-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3&compact=1";

    fn url(base: &str, report: &Report, tracker_id: &[u8]) -> String {
        let mut out = String::new();
        write_url(&mut out, base, report, tracker_id).unwrap();
        out
    }

    #[test]
    fn the_query_joins_what_is_there() {
        let table = [
            ("http://t/announce", "http://t/announce?"),
            ("http://t/announce?", "http://t/announce?"),
            ("http://t/a?passkey=1", "http://t/a?passkey=1&"),
            ("http://t/a?passkey=1&", "http://t/a?passkey=1&"),
            ("http://t/a#top", "http://t/a?"),
            ("http://t/a?x#top", "http://t/a?x&"),
        ];
        for (base, head) in table {
            let expected =
                std::format!("{head}{QUERY}&numwant=80&key=0000beef&event=started&trackerid=a%20b");
            assert_eq!(url(base, &REPORT, b"a b"), expected);
        }
    }

    #[test]
    fn events() {
        let table = [
            (AnnounceEvent::None, "&numwant=80&key=0000beef"),
            (
                AnnounceEvent::Started,
                "&numwant=80&key=0000beef&event=started",
            ),
            (
                AnnounceEvent::Completed,
                "&numwant=80&key=0000beef&event=completed",
            ),
            (
                AnnounceEvent::Stopped,
                "&numwant=0&key=0000beef&event=stopped",
            ),
        ];
        for (event, tail) in table {
            let url = url("http://t/", &Report { event, ..REPORT }, b"");
            assert_eq!(url, std::format!("http://t/?{QUERY}{tail}"));
        }
    }

    #[test]
    fn percent_both_ways() {
        let mut rng = Rng::new(3986);
        for _ in 0..2000 {
            let mut bytes = [0; 20];
            rng.fill(&mut bytes);
            let mut text = String::new();
            percent_encode(&mut text, &bytes).unwrap();
            let mut back = [0; 20];
            assert_eq!(percent_decode(text.as_bytes(), &mut back), Some(&bytes[..]));
            let cut = &text.as_bytes()[..rng.below(text.len() as u32) as usize];
            if let Some(front) = percent_decode(cut, &mut back) {
                assert!(bytes.starts_with(front));
            }
        }
        let mut out = [0; 4];
        for bad in ["%", "%4", "%4g", "%%41", "abcde"] {
            assert_eq!(percent_decode(bad.as_bytes(), &mut out), None, "{bad}");
        }
        assert_eq!(percent_decode(b"a+%2b", &mut out), Some(&b"a +"[..]));
    }
}
