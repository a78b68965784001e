//! Rules for the built-in tracker's callers: which requests are refused, and how often one may announce.
//!
//! A web page can make a browser at home send a GET to any address. The page cannot read the answer, but an announce
//! has had its effect by then. A page can also make its own name lead to us (DNS rebinding). So requests of browsers
//! are refused, and requests for a host name that a stranger may own. No answer has a CORS header.

use std::net::IpAddr;
use std::time::Duration;

use everseed_core::time::Instant;
use httparse::Header;

/// The reason to refuse a request, if there is one. `names` are our own host names.
pub(super) fn refusal(headers: &[Header<'_>], names: &[&[String]]) -> Option<&'static str> {
    if headers.iter().any(is_browsers) {
        return Some(NO_BROWSERS);
    }
    let mut hosts = headers
        .iter()
        .filter(|h| h.name.eq_ignore_ascii_case("host"));
    let stranger = hosts.any(|host| !str::from_utf8(host.value).is_ok_and(|h| is_ours(h, names)));
    stranger.then_some(NOT_OUR_NAME)
}

/// The origin of a request: an IPv4 address, or the /64 in which an IPv6 host chooses its address.
pub(super) fn origin(ip: IpAddr) -> [u8; 8] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            // Multicast in IPv6, which is no peer's address.
            [0xff, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

/// Whether browsers send this header and BitTorrent clients do not. The last ones are for an image in a page that
/// hides its own address: browsers send them whatever the page wants.
fn is_browsers(header: &Header<'_>) -> bool {
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    let begins = |text: &[u8], with: &[u8]| {
        text.get(..with.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(with))
    };
    is("origin")
        || is("referer")
        || is("cookie")
        || is("accept-language")
        || is("upgrade-insecure-requests")
        || begins(header.name.as_bytes(), b"sec-")
        || is("user-agent") && begins(header.value, b"mozilla/")
}

/// Whether a `Host` is an address, a name that only this network or the owner can give, or one of ours.
fn is_ours(host: &str, names: &[&[String]]) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest
            .split(']')
            .next()
            .is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or("").trim_end_matches('.');
    if name.parse::<IpAddr>().is_ok()
        || names
            .iter()
            .copied()
            .flatten()
            .any(|n| n.eq_ignore_ascii_case(name))
    {
        return true;
    }
    // RFC 6761, 6762, 8375, and the name that ICANN reserves for private use. Nobody can own a name without a dot.
    let local = [".localhost", ".local", ".home.arpa", ".internal"];
    let name = name.to_ascii_lowercase();
    !name.is_empty() && (!name.contains('.') || local.iter().any(|end| name.ends_with(end)))
}

/// The announce rate of each origin. If there are too many origins, the one that has been silent longest is
/// forgotten.
#[derive(Debug)]
pub(super) struct AnnounceRates {
    origins: Vec<Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    origin: [u8; 8],
    /// The time at which its whole budget is free again.
    free_at: Instant,
}

impl AnnounceRates {
    pub(super) fn new() -> AnnounceRates {
        AnnounceRates {
            origins: Vec::new(),
        }
    }

    /// Whether another announce of this address is answered: [`AT_ONCE`] are at once, and then one every [`EVERY`].
    pub(super) fn admit(&mut self, now: Instant, from: IpAddr) -> bool {
        let origin = origin(from);
        let known = self.origins.iter().position(|rate| rate.origin == origin);
        let free_at = known.map_or(now, |at| self.origins.remove(at).free_at.max(now));
        let admitted = free_at - now <= EVERY * AT_ONCE;
        if self.origins.len() == ORIGINS {
            self.origins.remove(0);
        }
        self.origins.push(Rate {
            origin,
            free_at: if admitted { free_at + EVERY } else { free_at },
        });
        admitted
    }
}

/// Announces of one origin that are answered at once: a few times as many as it may have peers here.
const AT_ONCE: u32 = 256;

/// The average time between further announces.
const EVERY: Duration = Duration::from_millis(250);

/// The most origins whose rate is remembered.
const ORIGINS: usize = 256;

const NO_BROWSERS: &str = "This is for BitTorrent clients. Browsers are refused, as any web page could \
    use them to announce.\n";

const NOT_OUR_NAME: &str = "This is not a name of this tracker. Use its address, or start it with \
    --public-address NAME.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_and_strange_names() {
        let names = ["seed.example.org".to_owned()];
        let refused = |name: &str, value: &str| {
            let value = value.as_bytes();
            refusal(&[Header { name, value }], &[&names]).is_some()
        };
        for (name, value, expected) in [
            ("Origin", "null", true),
            ("ORIGIN", "https://evil.example", true),
            ("referer", "", true),
            ("Sec-Fetch-Mode", "no-cors", true),
            ("sec-ch-ua", "x", true),
            ("Accept-Language", "de", true),
            ("User-Agent", "Mozilla/5.0 (X11)", true),
            ("user-agent", "mozilla/5.0", true),
            ("User-Agent", "Transmission/3.00", false),
            ("User-Agent", "qBittorrent/4.5 libtorrent", false),
            ("Secret", "x", false),
            ("Accept", "*/*", false),
            ("Host", "192.0.2.1", false),
            ("Host", "192.0.2.1:6881", false),
            ("Host", "[2001:db8::1]:6881", false),
            ("Host", "[evil.example]:6881", true),
            ("Host", "localhost:6881", false),
            ("Host", "nas", false),
            ("Host", "nas.local:6881", false),
            ("Host", "Seed.Example.org.:6881", false),
            ("Host", "evil.example:6881", true),
            ("Host", "local", false),
            ("Host", "evil.example.local.evil", true),
            ("Host", "192.0.2.1.evil.example", true),
            ("Host", "", true),
            ("Host", "evil.example, localhost", true),
        ] {
            assert_eq!(refused(name, value), expected, "{name}: {value}");
        }
        assert_eq!(refusal(&[], &[]), None, "HTTP/1.0 needs no Host");
        let host = |value| Header {
            name: "Host",
            value,
        };
        assert!(refusal(&[host(b"nas"), host(b"evil.example")], &[]).is_some());
        assert!(refusal(&[host(b"\xff")], &[]).is_some());
    }

    #[test]
    fn a_rate_for_each_origin() {
        let mut rates = AnnounceRates::new();
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut now = Instant::from_secs(5);
        let answered =
            |rates: &mut AnnounceRates, now| (0..1000).filter(|_| rates.admit(now, ip(1))).count();
        assert_eq!(answered(&mut rates, now), AT_ONCE as usize + 1);
        assert!(rates.admit(now, ip(2)));
        now = now + 10 * EVERY;
        assert_eq!(answered(&mut rates, now), 10);
        now = now + Duration::from_secs(3600);
        assert_eq!(answered(&mut rates, now), AT_ONCE as usize + 1);
        for n in 0..10_000_u32 {
            let [_, _, a, b] = n.to_be_bytes();
            rates.admit(now, IpAddr::from([10, 0, a, b]));
        }
        assert_eq!(rates.origins.len(), ORIGINS);
    }
}
