//! [`Endpoint`]: an address and port in 18 bytes, of either family, as the tables of the DHT keep it.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use everseed_core::krpc::is_local;
use everseed_core::tracker::Family;

use crate::discovery::scope::Scope;

/// An address and a port; IPv4 is kept as IPv6 that stands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    ip: [u8; 16],
    port: u16,
}

impl Endpoint {
    pub(crate) const NONE: Endpoint = Endpoint {
        ip: [0; 16],
        port: 0,
    };

    pub(crate) fn addr(self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    pub(crate) fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical()
    }

    pub(crate) fn family(self) -> Family {
        Family::of(self.ip())
    }

    /// In a private network, or on this machine: there the rules against crowds do not count addresses.
    pub(crate) fn is_local(self) -> bool {
        is_local(self.ip())
    }

    /// Whether there can be a node or a peer at all.
    pub(crate) fn is_possible(self) -> bool {
        let ip = self.ip();
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0);
        self.port != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
    }

    /// Whether a node at this address is believed when it names `other`, and may be told of it, see
    /// [`Scope::may_name`](crate::discovery::scope::Scope::may_name).
    pub(crate) fn may_name(self, other: Endpoint) -> bool {
        Scope::of(self.ip()).may_name(other.ip())
    }

    /// Whether both are of one host; two ports of a local address are two.
    pub(crate) fn same_host(self, other: Endpoint) -> bool {
        self.ip == other.ip && (self.port == other.port || !self.is_local())
    }

    /// Whether both are of one /24 (IPv6: /64); in a private network, of one host.
    pub(crate) fn same_network(self, other: Endpoint) -> bool {
        match self.is_local() {
            true => self.same_host(other),
            false => self.network() == other.network(),
        }
    }

    /// The /24, or /64 of IPv6; in a private network the whole address.
    pub(crate) fn network(self) -> u64 {
        let [.., a, b, c, d] = self.ip;
        let (high, low) = self.ip.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        match (self.family(), self.is_local()) {
            (Family::V4, false) => number(&[1, a, b, c]),
            (Family::V4, true) => number(&[2, a, b, c, d]),
            (Family::V6, false) => number(high),
            (Family::V6, true) => number(low),
        }
    }

    /// The /16, or /32 of IPv6.
    pub(crate) fn wide_network(self) -> u32 {
        let [a, b, c, d, .., e, f, _, _] = self.ip;
        match self.family() {
            Family::V4 => u32::from_be_bytes([0, 0, e, f]),
            Family::V6 => u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// A short number for address and port.
    pub(crate) fn key(self) -> u32 {
        let port = self.port.to_be_bytes();
        hash(self.ip.iter().chain(&port))
    }

    /// A short number for whoever can use this address: itself, or of IPv6 the /64; in a private network, where
    /// many hosts share one, the whole address.
    pub(crate) fn source_key(self) -> u32 {
        match (self.family(), self.is_local()) {
            (Family::V6, false) => hash(self.ip.iter().take(8)),
            _ => hash(self.ip.iter()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Endpoint {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Endpoint {
            ip: ip.octets(),
            port: addr.port(),
        }
    }
}

/// FNV-1a of 32 bits.
fn hash<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The place of a family in arrays of two.
pub(crate) const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// Both, in the order of [`index`].
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn hosts_and_networks() {
        // Two addresses: are they of one host, of one network?
        let table = [
            ("203.0.113.1:1", "203.0.113.1:1", true, true),
            ("203.0.113.1:1", "203.0.113.1:2", true, true),
            ("203.0.113.1:1", "203.0.113.2:1", false, true),
            ("203.0.113.1:1", "203.0.114.1:1", false, false),
            ("10.0.0.1:1", "10.0.0.1:2", false, false),
            ("10.0.0.1:1", "10.0.0.2:1", false, false),
            ("[2001:db8::1]:1", "[2001:db8::1]:2", true, true),
            ("[2001:db8::1]:1", "[2001:db8::2:1]:2", false, true),
            ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false, false),
            ("[fd00::1]:1", "[fd00::2]:1", false, false),
            ("[::ffff:203.0.113.1]:1", "203.0.113.1:9", true, true),
        ];
        for (a, b, host, network) in table {
            let (a, b) = (at(a), at(b));
            assert_eq!(a.same_host(b), host, "{a:?} {b:?}");
            assert_eq!(a.same_network(b), network, "{a:?} {b:?}");
        }
        assert_eq!(
            at("[::ffff:192.0.2.1]:5").addr(),
            "192.0.2.1:5".parse().unwrap()
        );
        assert_ne!(at("10.0.0.1:1").network(), at("10.0.0.2:1").network());
        assert_eq!(
            at("198.51.100.1:1").wide_network(),
            at("198.51.7.1:1").wide_network()
        );
        assert_ne!(at("192.0.2.1:1").key(), at("192.0.2.1:2").key());
        for (a, b, same) in [
            ("192.0.2.1:1", "192.0.2.1:2", true),
            ("192.0.2.1:1", "192.0.2.2:1", false),
            ("[2001:db8::1]:1", "[2001:db8::2]:1", true),
            ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false),
            ("[fd00::1]:1", "[fd00::1]:2", true),
            ("[fd00::1]:1", "[fd00::2]:1", false),
        ] {
            let (a, b) = (at(a), at(b));
            assert_eq!(a.source_key() == b.source_key(), same, "{a:?} {b:?}");
        }
        for nobody in [
            "0.0.0.0:1",
            "0.1.2.3:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "192.0.2.1:0",
            "[::]:1",
            "[ff02::1]:1",
        ] {
            assert!(!at(nobody).is_possible(), "{nobody}");
        }
    }

    #[test]
    fn who_is_believed_about_whom() {
        let at = |text: &str| Endpoint::from(text.parse::<SocketAddr>().unwrap());
        for (by, other, believed) in [
            ("1.2.3.4:5", "5.6.7.8:9", true),
            ("1.2.3.4:5", "192.168.1.1:80", false),
            ("1.2.3.4:5", "100.64.0.1:80", false),
            ("1.2.3.4:5", "169.254.1.1:80", false),
            ("1.2.3.4:5", "127.0.0.1:80", false),
            ("192.168.1.5:5", "192.168.1.1:80", true),
            ("192.168.1.5:5", "1.2.3.4:80", true),
            // Our own machine is nobody else's to name.
            ("192.168.1.5:5", "127.0.0.1:80", false),
            ("127.0.0.1:5", "127.0.0.1:80", true),
            ("[2001:db8::1]:5", "[fd00::1]:80", false),
            ("[2001:db8::1]:5", "[::1]:80", false),
            // An IPv4 address of the house within an IPv6 one.
            ("[2001:db8::1]:5", "[64:ff9b::c0a8:101]:80", false),
            ("[2001:db8::1]:5", "[2002:c0a8:101::1]:80", false),
            ("[fd00::2]:5", "[fd00::1]:80", true),
        ] {
            assert_eq!(at(by).may_name(at(other)), believed, "{by} {other}");
        }
    }
}
