//! [`Scope`]: in which network an address has a meaning, and who may name it as a peer's address.
//!
//! A router or NAS stands inside its owner's network, and strangers name addresses to it. An address that means
//! something else inside than outside is believed only from somebody who is as far inside: in the same [`Scope`] or a
//! nearer one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network in which an address has a meaning, the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// The network that this machine is attached to.
    Link,
    /// The network of the house, the company or the provider behind a NAT.
    Private,
    /// The Internet.
    Public,
    /// None: it is not the address of a single machine.
    Nowhere,
}

impl Scope {
    /// The scope of `ip` (RFC 6890). An IPv4 address in an IPv6 one has the scope of the IPv4 address.
    pub fn of(ip: IpAddr) -> Scope {
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
            // A connection to 0.0.0.0 reaches this machine.
            [0, 0, 0, 0] | [127, ..] => Scope::Loopback,
            [169, 254, ..] => Scope::Link,
            [10, ..] | [192, 168, ..] | [172, 16..32, ..] => Scope::Private,
            // The provider's side of a NAT, addresses of protocols, benchmarks.
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
    pub fn may_name(self, ip: IpAddr) -> bool {
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
}
