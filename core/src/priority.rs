//! Canonical peer priority (BEP 40): which of two addresses is preferred when there is no room for both.
//!
//! Both ends of a connection compute the same number, so a full peer and its caller agree on who gives way. Nobody
//! can choose an address that everybody prefers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::crc32c::crc32c;

/// The priority of a connection between two addresses, the same from both ends; the greater one is preferred. BEP 40
/// defines none for addresses of two families: they get one from a hash that both ends compute alike.
pub fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (IpAddr::V4(ip), IpAddr::V4(other)) if ip != other => {
            let mask = mask_v4(ip, other);
            sorted((ip & mask).octets(), (other & mask).octets())
        }
        (IpAddr::V6(ip), IpAddr::V6(other)) if ip != other => {
            let mask = mask_v6(ip, other);
            sorted((ip & mask).octets(), (other & mask).octets())
        }
        (IpAddr::V4(ip), IpAddr::V6(other)) | (IpAddr::V6(other), IpAddr::V4(ip)) => {
            crc32c(ip.octets().into_iter().chain(other.octets()))
        }
        // Two at one address are told apart by their ports.
        _ => sorted(a.port().to_be_bytes(), b.port().to_be_bytes()),
    }
}

/// The more two addresses have in common, the more of them counts.
fn mask_v4(a: Ipv4Addr, b: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(match (a.to_bits() ^ b.to_bits()).leading_zeros() {
        24.. => u32::MAX,
        16.. => 0xffff_ff55,
        _ => 0xffff_5555,
    })
}

fn mask_v6(a: Ipv6Addr, b: Ipv6Addr) -> Ipv6Addr {
    let common = (a.to_bits() ^ b.to_bits()).leading_zeros() / 8;
    // All bits of the bytes that are the same and of one more, at least of the first six; every other one of the rest.
    let whole = match common {
        0..=5 => 6,
        common => common.saturating_add(1).min(16),
    };
    let rest = u128::MAX.checked_shr(whole.saturating_mul(8)).unwrap_or(0);
    Ipv6Addr::from_bits(!rest | (EVERY_OTHER & rest))
}

const EVERY_OTHER: u128 = u128::from_be_bytes([0x55; 16]);

fn sorted<const N: usize>(a: [u8; N], b: [u8; N]) -> u32 {
    crc32c(a.min(b).into_iter().chain(a.max(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn of(a: &str, b: &str) -> u32 {
        priority(a.parse().unwrap(), b.parse().unwrap())
    }

    #[test]
    fn vectors_of_the_bep() {
        let ours = "123.213.32.10:6881";
        assert_eq!(of(ours, "98.76.54.32:7000"), 0xec2d_7224);
        assert_eq!(of(ours, "123.213.32.234:7000"), 0x9956_8189);
        // By hand: 7bd52000 + 7bd52155 of the same /16, and the ports of the same address.
        let of_bytes = |bytes: &[u8]| crc32c(bytes.iter().copied());
        let near = of_bytes(&[0x7b, 0xd5, 0x20, 0, 0x7b, 0xd5, 0x21, 0x55]);
        assert_eq!(of(ours, "123.213.33.255:7000"), near);
        assert_eq!(
            of(ours, "123.213.32.10:7000"),
            of_bytes(&[0x1a, 0xe1, 0x1b, 0x58])
        );
    }

    #[test]
    fn masks() {
        for (a, b, mask) in [
            (
                "2001:db8::",
                "2002:db8::",
                "ffff:ffff:ffff:5555:5555:5555:5555:5555",
            ),
            (
                "2001:db8:1::",
                "2001:db8:2::",
                "ffff:ffff:ffff:5555:5555:5555:5555:5555",
            ),
            (
                "2001:db8::",
                "2001:db8:0:100::",
                "ffff:ffff:ffff:ff55:5555:5555:5555:5555",
            ),
            (
                "2001:db8::",
                "2001:db8:0:1::",
                "ffff:ffff:ffff:ffff:5555:5555:5555:5555",
            ),
            (
                "2001:db8::",
                "2001:db8::1",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
        ] {
            let (a, b): (Ipv6Addr, Ipv6Addr) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(mask_v6(a, b), mask.parse::<Ipv6Addr>().unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn both_ends_agree() {
        let mut rng = Rng::new(40);
        for _ in 0..2000 {
            let mut addr = |like: Option<IpAddr>| {
                let bits = u128::from(rng.bits()) << 64 | u128::from(rng.bits());
                let shared = rng.below(17) * 8;
                let ip = match (rng.below(2), like) {
                    (0, Some(IpAddr::V4(ip))) => {
                        let low = u32::MAX.checked_shr(shared).unwrap_or(0);
                        IpAddr::from(Ipv4Addr::from_bits(ip.to_bits() ^ (bits as u32 & low)))
                    }
                    (0, Some(IpAddr::V6(ip))) => {
                        let low = u128::MAX.checked_shr(shared).unwrap_or(0);
                        IpAddr::from(Ipv6Addr::from_bits(ip.to_bits() ^ (bits & low)))
                    }
                    (0, None) => Ipv4Addr::from_bits(bits as u32).into(),
                    _ => Ipv6Addr::from_bits(bits).into(),
                };
                SocketAddr::new(ip, rng.bits32() as u16)
            };
            let a = addr(None);
            let b = addr(Some(a.ip()));
            assert_eq!(priority(a, b), priority(b, a), "{a} {b}");
            // An address in another dress is the same.
            if let (IpAddr::V4(ip), IpAddr::V4(_)) = (a.ip(), b.ip()) {
                let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), a.port());
                assert_eq!(priority(mapped, b), priority(a, b));
            }
        }
    }
}
