//! Magnet links (BEP 9): a torrent's name for people who have no torrent file.

use std::fmt::Write;

use everseed_core::hash::InfoHash;

/// The link for a torrent: its info-hash, its name, and where peers are found: at trackers, and one that is known,
/// `HOST:PORT`.
pub fn magnet<'a>(
    info_hash: InfoHash,
    name: &str,
    trackers: impl IntoIterator<Item = &'a str>,
    peer: Option<&str>,
) -> String {
    let mut link = format!("magnet:?xt=urn:btih:{info_hash}&dn=");
    encode(&mut link, name);
    for tracker in trackers {
        link.push_str("&tr=");
        encode(&mut link, tracker);
    }
    if let Some(peer) = peer {
        // Clients take it as it stands.
        link.push_str("&x.pe=");
        link.push_str(peer);
    }
    link
}

/// Appends `text` with everything percent-encoded that RFC 3986 does not call unreserved.
fn encode(link: &mut String, text: &str) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            link.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(link, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_odd_is_encoded() {
        let link = magnet(
            InfoHash([0xab; 20]),
            "a b&é\n",
            ["http://t:80/announce?x=1"],
            Some("[2001:db8::1]:7"),
        );
        let hash = "ab".repeat(20);
        let expected = format!(
            "magnet:?xt=urn:btih:{hash}&dn=a%20b%26%C3%A9%0A&tr=http%3A%2F%2Ft%3A80%2Fannounce%3Fx%3D1&x.pe=[2001:db8::1]:7"
        );
        assert_eq!(link, expected);
    }
}
