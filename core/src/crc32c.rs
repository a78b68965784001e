//! CRC-32C, the checksum of addresses in BEP 40 and BEP 42.

/// The CRC-32C (Castagnoli) of some bytes. It uses no table, because there are only few.
pub(crate) fn crc32c(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= POLYNOMIAL;
            }
        }
    }
    !crc
}

/// The polynomial, its lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // The check value of the catalogue of CRCs, and a vector of RFC 3720, B.4.
        assert_eq!(crc32c(*b"123456789"), 0xe306_9283);
        assert_eq!(crc32c([0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(*b"1234"), 0xf63a_f4ee);
        assert_eq!(crc32c([]), 0);
    }
}
