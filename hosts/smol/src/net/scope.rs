//! How far an address reaches, and who may send us there.
//!
//! A router or NAS stands inside its owner's network, and strangers name addresses to it: in torrents, as
//! trackers, by redirects, as peers. An address that means something else inside than outside is believed
//! only from somebody who is as far inside: whoever names an address is at one of the same [`Scope`] or
//! a nearer one. Trackers: see [`Caller::may_call`]; peers: see [`Scope::may_name`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches, the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Scope {
    /// This machine.
    Loopback,
    /// The network that this machine is attached to.
    Link,
    /// The house, the company or the provider behind its NAT.
    Private,
    /// Everybody.
    Public,
    /// No single machine can be meant.
    Nowhere,
}

impl Scope {
    /// How far `ip` reaches (RFC 6890). An IPv4 address within an IPv6 one counts as what it is.
    pub(crate) fn of(ip: IpAddr) -> Scope {
        match ip {
            IpAddr::V4(ip) => Scope::of_v4(ip),
            IpAddr::V6(ip) => match within(ip) {
                Some(ip) => Scope::of_v4(ip),
                None => Scope::of_v6(ip),
            },
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Scope {
        match ip.octets() {
            // To connect to 0.0.0.0 is to connect to this machine.
            [0, 0, 0, 0] | [127, ..] => Scope::Loopback,
            [169, 254, ..] => Scope::Link,
            [10, ..] | [192, 168, ..] | [172, 16..32, ..] => Scope::Private,
            // The provider's side of a NAT, protocols' own addresses, benchmarks.
            [100, 64..128, ..] | [192, 0, 0, _] | [198, 18..20, ..] => Scope::Private,
            [0 | 224..=255, ..] => Scope::Nowhere,
            _ => Scope::Public,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Scope {
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Scope::Loopback,
            [0xfe80..0xfec0, ..] => Scope::Link,
            [0xfc00..0xfe00 | 0xfec0..0xff00, ..] => Scope::Private,
            [0xff00..=0xffff, ..] => Scope::Nowhere,
            _ => Scope::Public,
        }
    }

    /// Whether somebody at an address of this scope is believed when it names a peer at `ip`.
    pub(crate) fn may_name(self, ip: IpAddr) -> bool {
        let scope = Scope::of(ip);
        self <= scope && scope != Scope::Nowhere
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped and compatible ones, those of NAT64 (RFC 6052) and 6to4.
fn within(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0, 0, 0, 0, 0, 0] if g > 0 => v4(g, h),
        [0x2002, ..] => v4(b, c),
        _ => None,
    }
}

/// Who sends us to a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// The owner named it, on the command line or in the configuration.
    Owner,
    /// A torrent names it.
    Torrent,
}

impl Caller {
    /// Whether `ip` may be called, to which the host of a URL leads whose path is `path`. `before` is how far
    /// whoever redirected us there is, if anybody did.
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

    /// The same if a proxy at `proxy` calls it: where a name leads is known to the proxy alone. One that is inside may
    /// lead us inside, where nothing but trackers is called, and whoever redirects is a stranger.
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

    /// The same for a UDP tracker. Nothing of its URL is sent before it has answered as one, so that any path of
    /// plain words may be a tracker's.
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

/// Whether a path is one that trackers have: `/announce`, with a passkey or two plain folders before it, or a
/// passkey behind. Nothing else in a house is asked to do something by that.
fn is_trackers(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or("");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        use Scope::{Link, Loopback, Nowhere, Private, Public};
        for (ip, scope) in [
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("0.0.0.0", Loopback),
            ("::", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:0.0.0.0", Loopback),
            ("::127.0.0.1", Loopback),
            ("64:ff9b::7f00:1", Loopback),
            ("2002:7f00:1::1", Loopback),
            ("169.254.1.1", Link),
            ("fe80::1", Link),
            ("febf::1", Link),
            ("::ffff:169.254.0.1", Link),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("172.32.0.1", Public),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("100.127.255.255", Private),
            ("100.128.0.1", Public),
            ("198.18.0.1", Private),
            ("192.0.0.1", Private),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fec0::1", Private),
            ("64:ff9b::c0a8:101", Private),
            ("2002:c0a8:101::1", Private),
            ("::ffff:10.0.0.1", Private),
            ("8.8.8.8", Public),
            ("203.0.113.1", Public),
            ("2001:db8::1", Public),
            ("::ffff:8.8.8.8", Public),
            ("0.0.0.1", Nowhere),
            ("224.0.0.1", Nowhere),
            ("239.255.255.250", Nowhere),
            ("240.0.0.1", Nowhere),
            ("255.255.255.255", Nowhere),
            ("::ffff:224.0.0.1", Nowhere),
            ("ff02::1", Nowhere),
        ] {
            assert_eq!(Scope::of(ip.parse().unwrap()), scope, "{ip}");
        }
    }

    const OF_EACH: [&str; 5] = [
        "127.0.0.1",
        "169.254.1.1",
        "192.168.1.1",
        "8.8.8.8",
        "224.0.0.1",
    ];

    #[test]
    fn peers_step_by_step() {
        for (namer, may) in OF_EACH.iter().zip([
            [true, true, true, true, false],
            [false, true, true, true, false],
            [false, false, true, true, false],
            [false, false, false, true, false],
            [false, false, false, false, false],
        ]) {
            let namer = Scope::of(namer.parse().unwrap());
            let named = OF_EACH.map(|ip| namer.may_name(ip.parse().unwrap()));
            assert_eq!(named, may, "{namer:?}");
        }
    }

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
            "#/announce",
            "/a\\b/announce",
        ] {
            assert!(!is_trackers(path), "{path}");
        }
    }
}
