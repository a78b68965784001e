//! [`NodeId`]: the id of a DHT node, its distance to others, and which ids an address may have (BEP 42).

use core::fmt;
use core::net::IpAddr;

use crate::crc32c::crc32c;
use crate::hash::{Digest, InfoHash};
use crate::rng::Rng;

/// The id of a node, or an info-hash as a point in the same space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub Digest);

impl NodeId {
    /// How far apart two ids are (BEP 5): distances compare as numbers do.
    pub fn distance(self, other: NodeId) -> Digest {
        let mut distance = self.0;
        for (byte, other) in distance.iter_mut().zip(other.0) {
            *byte ^= other;
        }
        distance
    }

    /// Bits that two ids have in common from the first on, 0 to 160.
    pub fn shared_bits(self, other: NodeId) -> u32 {
        let mut shared = 0u32;
        for byte in self.distance(other) {
            shared = shared.saturating_add(byte.leading_zeros());
            if byte != 0 {
                break;
            }
        }
        shared
    }

    /// Any id.
    pub fn random(rng: &mut Rng) -> NodeId {
        let mut id = [0; 20];
        rng.fill(&mut id);
        NodeId(id)
    }

    /// An id that a node at this address may have (BEP 42).
    pub fn of(ip: IpAddr, rng: &mut Rng) -> NodeId {
        let NodeId(mut id) = NodeId::random(rng);
        let seed = id.last().copied().unwrap_or(0);
        for (byte, (bound, mask)) in id.iter_mut().zip(prefix(ip, seed).into_iter().zip(BOUND)) {
            *byte = (bound & mask) | (*byte & !mask);
        }
        NodeId(id)
    }

    /// Whether a node at this address may have this id (BEP 42). One in a private network may have any.
    pub fn fits(self, ip: IpAddr) -> bool {
        if is_local(ip) {
            return true;
        }
        let seed = self.0.last().copied().unwrap_or(0);
        let bytes = self.0.into_iter().zip(prefix(ip, seed)).zip(BOUND);
        bytes.into_iter().all(|((a, b), mask)| (a ^ b) & mask == 0)
    }
}

/// Whether an address is one of a private network or of this machine, where ids need not fit (BEP 42).
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// Which of the first bits of an id its node's address decides: 21.
const BOUND: [u8; 3] = [0xff, 0xff, 0xf8];

/// The first bytes of the ids that an address may have, by the last byte of the id.
fn prefix(ip: IpAddr, seed: u8) -> [u8; 3] {
    let r = seed & 7;
    let crc = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let bits = u32::from(ip) & 0x030f_3fff | u32::from(r) << 29;
            crc32c(bits.to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]) & 0x0103_070f_1f3f_7fff;
            crc32c((high | u64::from(r) << 61).to_be_bytes())
        }
    };
    let [first, second, third, _] = crc.to_be_bytes();
    [first, second, third]
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> NodeId {
        NodeId(hash.0)
    }
}

impl From<NodeId> for InfoHash {
    fn from(id: NodeId) -> InfoHash {
        InfoHash(id.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&InfoHash(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bep_42_vectors() {
        let table = [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
        ];
        for (ip, seed, first) in table {
            let ip: IpAddr = ip.parse().unwrap();
            let mut id = [0x55; 20];
            id[..3].copy_from_slice(&first);
            id[19] = seed;
            assert!(NodeId(id).fits(ip), "{ip}");
            // Twenty-one bits are bound, by the first three of the last byte.
            for (byte, flip, still) in [(2, 8, false), (2, 4, true), (19, 1, false), (19, 8, true)]
            {
                let mut other = id;
                other[byte] ^= flip;
                assert_eq!(NodeId(other).fits(ip), still, "{ip} {byte} {flip}");
            }
        }
    }

    #[test]
    fn ids_are_made_to_fit() {
        let mut rng = Rng::new(1);
        for ip in ["203.0.113.9", "2001:db8:1:2::3", "::ffff:203.0.113.9"] {
            let ip: IpAddr = ip.parse().unwrap();
            for _ in 0..100 {
                let id = NodeId::of(ip, &mut rng);
                assert!(id.fits(ip), "{ip}");
            }
        }
        let nowhere = NodeId([0; 20]);
        for ip in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(nowhere.fits(ip.parse().unwrap()), "{ip}");
        }
        assert!(!nowhere.fits("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn distances() {
        let id = |first, last| {
            let mut id = [0; 20];
            (id[0], id[19]) = (first, last);
            NodeId(id)
        };
        let table = [
            (id(0, 0), id(0, 0), 160),
            (id(0, 0), id(0, 1), 159),
            (id(0, 0), id(0x80, 0), 0),
            (id(0x80, 0), id(0x90, 9), 3),
        ];
        for (a, b, shared) in table {
            assert_eq!((a.shared_bits(b), b.shared_bits(a)), (shared, shared));
        }
        assert!(id(0, 0).distance(id(0, 9)) < id(0, 0).distance(id(1, 0)));
    }
}
