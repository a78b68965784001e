//! Bloom filters that count the peers of a torrent without naming them (BEP 33).

use core::fmt;
use core::net::IpAddr;

use crate::hash::{Sha1, Smol};

/// A set of addresses. Only its size can be estimated.
#[derive(Clone, PartialEq, Eq)]
pub struct Bloom([u8; Bloom::BYTES]);

impl Bloom {
    /// Bytes on the wire.
    pub const BYTES: usize = 256;

    /// Nobody.
    pub const EMPTY: Bloom = Bloom([0; Bloom::BYTES]);

    /// Adds an address: two bits, by the SHA-1 of its bytes.
    pub fn insert(&mut self, ip: IpAddr) {
        let mut sha1 = Smol::default();
        match ip {
            IpAddr::V4(ip) => sha1.update(&ip.octets()),
            IpAddr::V6(ip) => sha1.update(&ip.octets()),
        }
        let [a, b, c, d, ..] = sha1.finish();
        for index in [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])] {
            let index = index % 2048;
            if let Some(byte) = self.0.get_mut(usize::from(index / 8)) {
                *byte |= 1 << (index % 8);
            }
        }
    }

    /// As it goes over the wire.
    pub const fn bytes(&self) -> &[u8; Bloom::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Bloom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits: u32 = self.0.iter().map(|byte| byte.count_ones()).sum();
        write!(f, "Bloom({bits} bits)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn bep_33_vector() {
        let mut bloom = Bloom::EMPTY;
        for last in 0..=255 {
            bloom.insert(Ipv4Addr::new(192, 0, 2, last).into());
        }
        for last in 0..=0x3e7 {
            bloom.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into());
        }
        let expected = "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAEFE5EEDB1\
            FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B7FF3B8FDFCDE1AFB\
            8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24FD8DC7ADFFD8FFFDFDDFFF7A4\
            BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3FA1FC77BFE07FFF905B7B7FFC7FEFEFF\
            E0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA\
            6FFEBA7FFF47A91EB1BFBB53E8ABFB5762ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB\
            737FFFFBFD9F6AEFFEEE76B6FD8F72EF";
        assert_eq!(expected.len(), 512);
        for (at, byte) in bloom.bytes().iter().enumerate() {
            let told = u8::from_str_radix(&expected[2 * at..2 * at + 2], 16).unwrap();
            assert_eq!(*byte, told, "byte {at}");
        }
    }
}
