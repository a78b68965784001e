//! One bit per piece, in the order of the wire: bit 7 of byte 0 is piece 0 (BEP 3).
//!
//! These are views of bytes that somebody else owns. A bit past the end reads as unset and is
//! ignored when written.

/// Whether bit `index` is set.
pub fn get(bits: &[u8], index: u32) -> bool {
    let (byte, mask) = place(index);
    bits.get(byte).is_some_and(|b| b & mask != 0)
}

/// Sets bit `index`; answers whether it was unset before.
pub fn set(bits: &mut [u8], index: u32) -> bool {
    let (byte, mask) = place(index);
    bits.get_mut(byte).is_some_and(|b| {
        let fresh = *b & mask == 0;
        *b |= mask;
        fresh
    })
}

/// Clears bit `index`; answers whether it was set before.
pub fn clear(bits: &mut [u8], index: u32) -> bool {
    let (byte, mask) = place(index);
    bits.get_mut(byte).is_some_and(|b| {
        let was = *b & mask != 0;
        *b &= !mask;
        was
    })
}

/// How many bits are set.
pub fn count(bits: &[u8]) -> u32 {
    bits.iter()
        .fold(0, |sum, b| sum.saturating_add(b.count_ones()))
}

/// The last byte of `len` bits without the spare ones, which some peers set although BEP 3 forbids it.
pub const fn without_spare(last: u8, len: u32) -> u8 {
    match len % 8 {
        0 => last,
        used => last & !(0xff >> used),
    }
}

/// Whether every bit from `len` on is unset, as BEP 3 demands of the spare bits at the end.
pub fn spare_clear(bits: &[u8], len: u32) -> bool {
    let (byte, mask) = place(len);
    let Some((&partial, rest)) = bits.get(byte..).and_then(<[u8]>::split_first) else {
        return true;
    };
    let spare = mask | mask.wrapping_sub(1);
    partial & spare == 0 && rest.iter().all(|&b| b == 0)
}

fn place(index: u32) -> (usize, u8) {
    ((index / 8) as usize, 0x80 >> (index % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_order() {
        let mut bits = [0u8; 2];
        assert!(set(&mut bits, 0));
        assert!(!set(&mut bits, 0));
        assert!(set(&mut bits, 9));
        assert_eq!(bits, [0x80, 0x40]);
        assert!(get(&bits, 9) && !get(&bits, 8));
        assert_eq!(count(&bits), 2);
        assert!(clear(&mut bits, 9) && !clear(&mut bits, 9));
    }

    #[test]
    fn past_the_end_is_unset() {
        let mut bits = [0xff];
        assert!(!get(&bits, 8));
        assert!(!set(&mut bits, 8));
        assert!(!clear(&mut bits, u32::MAX));
    }

    #[test]
    fn spare_bits_are_taken_away() {
        for (last, len, expected) in [
            (0xff, 8, 0xff),
            (0xff, 20, 0xf0),
            (0x0f, 20, 0),
            (0xff, 1, 0x80),
        ] {
            assert_eq!(without_spare(last, len), expected);
            assert!(spare_clear(
                &[expected],
                if len % 8 == 0 { 8 } else { len % 8 }
            ));
        }
    }

    #[test]
    fn spare_bits() {
        assert!(spare_clear(&[0xe0], 3));
        assert!(!spare_clear(&[0xf0], 3));
        assert!(spare_clear(&[0xff], 8));
        assert!(!spare_clear(&[0xff, 1], 8));
        assert!(spare_clear(&[], 0));
    }
}
