//! The rule for addresses inside our network: URLs that strangers name may lead there only to trackers.
//!
//! The reach of an address is a [`Scope`], which the node defines.

use std::net::IpAddr;

pub(crate) use everseed_node::discovery::scope::Scope;

/// The origin of a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// The owner, on the command line or in the configuration.
    Owner,
    /// A torrent.
    Torrent,
}

impl Caller {
    /// Whether `ip`, to which the URL's host leads, may be called for `path`. `before` is the scope of the server
    /// that redirected us, if one did.
    pub(crate) fn may_call(self, path: &str, ip: IpAddr, before: Option<Scope>) -> bool {
        let scope = Scope::of(ip);
        match scope {
            Scope::Nowhere => return false,
            Scope::Public => return true,
            _ => {}
        }
        let step = before.is_none_or(|before| before <= scope);
        step && (self == Caller::Owner || is_trackers(path))
    }

    /// As [`may_call`](Self::may_call), for calls through the proxy at `proxy`, which alone knows where a name leads.
    /// A proxy inside our network may lead inside, so only tracker paths are called; a redirecting server counts as a
    /// stranger.
    pub(crate) fn may_call_through(
        self,
        proxy: IpAddr,
        host: &str,
        path: &str,
        before: Option<Scope>,
    ) -> bool {
        match host.parse::<IpAddr>() {
            Ok(ip) => self.may_call(path, ip, before),
            Err(_) if before.is_some() => Caller::Torrent.may_call(path, proxy, None),
            Err(_) => self.may_call(path, proxy, None),
        }
    }

    /// As [`may_call`](Self::may_call), for a UDP tracker. Nothing of its URL is sent before it has answered as a
    /// tracker, so any path of plain words is allowed.
    pub(crate) fn may_ask(self, path: &str, ip: IpAddr) -> bool {
        let words = path.strip_prefix('/').unwrap_or_default();
        let is_words = words.split('/').all(is_plain);
        self.may_call(path, ip, None) || (is_words && Scope::of(ip) != Scope::Nowhere)
    }
}

fn is_plain(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !part.is_empty() && part.bytes().all(allowed)
}

/// Whether a path is one of a tracker: `/announce`, with a passkey or two plain folders before it, or a passkey
/// behind it; or none, if the query is an announce with a passkey. A call of such a path makes no other device in a
/// home do something.
fn is_trackers(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if matches!(path, "" | "/") {
        return is_announce(query);
    }
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let plain = |part: &&str| is_plain(part);
    let parts: Vec<&str> = path.split('/').take(5).collect();
    let at = parts
        .iter()
        .position(|&part| part == "announce" || part == "announce.php");
    let Some(at) = at.filter(|&at| at <= 2 && parts.len() <= at + 2) else {
        return false;
    };
    parts[..at].iter().chain(&parts[at + 1..]).all(plain)
}

/// Whether a query has a passkey, and nothing beside but what an announce has. Each is checked: the torrent may say
/// some of them.
fn is_announce(query: &str) -> bool {
    let mut fields = query.split('&').map(|field| field.split_once('='));
    let has_passkey = fields.next().flatten().is_some_and(|(name, value)| {
        matches!(name, "passkey" | "authkey" | "torrent_pass") && is_plain(value)
    });
    // Each once: what everseed appends is not said by the torrent, too.
    let mut seen = [false; ANNOUNCES.len()];
    let mut is_field = |(name, value): (&str, &str)| {
        let Some(at) = ANNOUNCES.iter().position(|&known| known == name) else {
            return false;
        };
        let is_new = !std::mem::replace(&mut seen[at], true);
        let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        is_new
            && match name {
                "event" => matches!(value, "started" | "completed" | "stopped"),
                "info_hash" | "peer_id" | "trackerid" => true,
                "key" => value.len() <= 8 && value.bytes().all(|b| b.is_ascii_hexdigit()),
                _ => is_number,
            }
    };
    has_passkey && fields.all(|field| field.is_some_and(&mut is_field))
}

/// The fields of an announce (BEP 3, 7, 23), as everseed sends them.
const ANNOUNCES: [&str; 11] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "compact",
    "numwant",
    "key",
    "event",
    "trackerid",
];

#[cfg(test)]
mod tests {
    use super::*;

    const OF_EACH: [&str; 5] = [
        "127.0.0.1",
        "169.254.1.1",
        "192.168.1.1",
        "8.8.8.8",
        "224.0.0.1",
    ];

    #[test]
    fn trackers_in_the_house() {
        let (to, cgi, announce) = (OF_EACH, "/apply.cgi?action=Reboot", "/announce");
        let none = [false, false, false, true, false];
        let all = [true, true, true, true, false];
        use Caller::{Owner, Torrent};
        for (caller, path, before, may) in [
            (Torrent, cgi, None, none),
            (Torrent, announce, None, all),
            (Owner, cgi, None, all),
            (Owner, announce, None, all),
            // From a public host nothing leads inside, whoever named it.
            (Torrent, announce, Some("8.8.8.8"), none),
            (Owner, announce, Some("8.8.8.8"), none),
            (Owner, cgi, Some("8.8.8.8"), none),
            // Inside it is the same, step by step.
            (Torrent, cgi, Some("127.0.0.1"), none),
            (Torrent, announce, Some("127.0.0.1"), all),
            (
                Torrent,
                announce,
                Some("192.168.1.9"),
                [false, false, true, true, false],
            ),
            (
                Owner,
                cgi,
                Some("192.168.1.9"),
                [false, false, true, true, false],
            ),
        ] {
            let before = before.map(|ip: &str| Scope::of(ip.parse().unwrap()));
            let called = to.map(|ip| caller.may_call(path, ip.parse().unwrap(), before));
            assert_eq!(called, may, "{caller:?} {path} {before:?}");
        }
    }

    #[test]
    fn through_a_proxy() {
        let (cgi, announce, public) = ("/x.cgi", "/announce", Some(Scope::Public));
        use Caller::{Owner, Torrent};
        for (caller, proxy, host, path, before, may) in [
            // One outside leads to nothing in the house.
            (Torrent, "8.8.8.8", "t.example", cgi, None, true),
            (Torrent, "8.8.8.8", "192.168.1.1", cgi, None, false),
            (Torrent, "8.8.8.8", "192.168.1.1", announce, public, false),
            (Owner, "8.8.8.8", "t.example", cgi, public, true),
            // One inside may.
            (Torrent, "127.0.0.1", "t.example", cgi, None, false),
            (Torrent, "127.0.0.1", "t.example", announce, None, true),
            (Torrent, "127.0.0.1", "t.example", announce, public, true),
            (Torrent, "127.0.0.1", "8.8.8.8", cgi, None, true),
            (Owner, "127.0.0.1", "t.example", cgi, None, true),
            (Owner, "127.0.0.1", "t.example", cgi, public, false),
            (Owner, "127.0.0.1", "192.168.1.1", announce, public, false),
        ] {
            let called = caller.may_call_through(proxy.parse().unwrap(), host, path, before);
            assert_eq!(called, may, "{caller:?} {proxy} {host} {path} {before:?}");
        }
    }

    #[test]
    fn udp_trackers_have_any_plain_path() {
        let ask = |path, ip: &str| Caller::Torrent.may_ask(path, ip.parse().unwrap());
        for path in ["/announce", "/a", "/a/b_c", "/KEY/announce"] {
            assert!(ask(path, "127.0.0.1") && ask(path, "192.168.1.1"), "{path}");
            assert!(!ask(path, "255.255.255.255"), "{path}");
        }
        for path in ["", "/", "/x.cgi", "/a?b", "/a//b", "a"] {
            assert!(!ask(path, "127.0.0.1") && ask(path, "1.1.1.1"), "{path}");
        }
    }

    #[test]
    fn paths_of_trackers() {
        for path in [
            "/announce",
            "/announce?passkey=0123",
            "/announce.php?pid=1",
            "/0123456789abcdef/announce",
            "/announce/0123456789abcdef",
            "/tracker/announce",
            "/a/0123456789abcdef/announce",
            "/announce/x?y=/z",
            "?passkey=0123",
            "/?passkey=0123",
            "?torrent_pass=k&info_hash=%01&peer_id=-ES&port=1&uploaded=0&downloaded=0&left=0&compact=1\
                &numwant=9&key=1&event=started&trackerid=x",
        ] {
            assert!(is_trackers(path), "{path}");
        }
        for path in [
            "",
            "/",
            "announce",
            "/announce/",
            "/announcement",
            "/Announce",
            "/apply.cgi?/announce",
            "/apply.cgi/announce",
            "/cgi-bin/luci/x/announce",
            "/announce/../apply.cgi",
            "/announce/%2e%2e",
            "/announce;/apply",
            "/announce/a/b",
            "//announce",
            "/..%2fannounce",
            "?/announce",
            "?",
            "/?passkey=",
            "?passkey",
            "?passkey=../x",
            "?passkey=a%20b",
            "?passkey=a&action=reboot",
            "?passkey=a&info_hash=%01&cmd=x",
            "?passkey=a&key=POWER",
            "?passkey=a&event=reboot",
            "?passkey=a&port=80&port=6881",
            "?passkey=a&left=",
            "?passkey=a&",
            "?action=reboot&passkey=a",
            "?info_hash=%01&passkey=a",
            "/index.php?passkey=a",
            "//?passkey=a",
            "#/announce",
            "?passkey=a#",
            "#?passkey=a",
            "/a\\b/announce",
        ] {
            assert!(!is_trackers(path), "{path}");
        }
    }
}
