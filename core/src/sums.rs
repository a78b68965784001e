//! Sums of blocks, by which two copies of a piece are compared without keeping either.
//!
//! A sum is a polynomial over the block's words in a secret point, modulo the prime 2^61 - 1. It is multiplied by a
//! secret weight to the power of the block's number. Sums add up: equal totals of the same blocks mean equal bytes.
//! Without the secret, a false match takes 2^48 tries.

/// The secret key of sums: only sums of one key can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    point: u64,
    weight: u64,
}

/// The sum of some blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum(u64);

impl Secret {
    /// The secret that two random numbers make.
    pub const fn new(point: u64, weight: u64) -> Secret {
        Secret {
            point: point % PRIME,
            weight: weight % PRIME,
        }
    }

    /// The sum of the block that has this number in its piece.
    pub fn of(&self, number: u32, block: &[u8]) -> Sum {
        let mut sum = 0;
        for word in block.chunks(4) {
            // A short word at the end is as good as one with zeros: the length is known.
            let mut bytes = [0; 4];
            for (to, from) in bytes.iter_mut().zip(word) {
                *to = *from;
            }
            sum = times(plus(sum, u64::from(u32::from_le_bytes(bytes))), self.point);
        }
        let (mut weight, mut square) = (self.weight, self.weight);
        let mut left = number;
        while left > 0 {
            if left & 1 == 1 {
                weight = times(weight, square);
            }
            square = times(square, square);
            left >>= 1;
        }
        Sum(times(sum, weight))
    }
}

impl Sum {
    /// The sum of no block.
    pub const NONE: Sum = Sum(0);

    /// The sum of these blocks and those.
    #[must_use]
    pub fn plus(self, other: Sum) -> Sum {
        Sum(plus(self.0, other.0))
    }
}

const PRIME: u64 = (1 << 61) - 1;

/// Both are below the prime.
fn plus(a: u64, b: u64) -> u64 {
    reduced(a.wrapping_add(b))
}

fn times(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    let (low, high) = (product & u128::from(PRIME), product >> 61);
    // Each is at most the prime.
    let both = u64::try_from(low.wrapping_add(high)).unwrap_or(0);
    reduced(both)
}

/// A number below twice the prime, modulo the prime.
fn reduced(n: u64) -> u64 {
    if n >= PRIME { n.wrapping_sub(PRIME) } else { n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::vec;

    #[test]
    fn sums_tell_what_differs() {
        let mut rng = Rng::new(5);
        for _ in 0..200 {
            let secret = Secret::new(rng.bits(), rng.bits());
            let mut block = vec![0; rng.below(300) as usize + 1];
            rng.fill(&mut block);
            let number = rng.below(2000);
            let sum = secret.of(number, &block);
            assert_eq!(sum, secret.of(number, &block));
            assert_ne!(sum, secret.of(number + 1, &block));
            let at = rng.below(u32::try_from(block.len()).unwrap()) as usize;
            block[at] ^= 1 << rng.below(8);
            assert_ne!(sum, secret.of(number, &block), "byte {at}");
        }
    }

    /// What is added to one block and taken from another does not cancel out.
    #[test]
    fn changes_do_not_cancel_out() {
        let secret = Secret::new(0x1234_5678_9abc, 0xfedc_ba98_7654_3210);
        let sum = |blocks: [&[u8]; 2]| secret.of(3, blocks[0]).plus(secret.of(4, blocks[1]));
        let good = sum([b"\x05\0\0\0", b"\x05\0\0\0"]);
        assert_eq!(
            good,
            secret
                .of(4, b"\x05\0\0\0")
                .plus(secret.of(3, b"\x05\0\0\0"))
        );
        for bad in [
            sum([b"\x06\0\0\0", b"\x04\0\0\0"]),
            sum([b"\x05\0\0\0\x01", b"\x05\0\0\0"]),
            sum([b"\0\0\0\0", b"\x0a\0\0\0"]),
        ] {
            assert_ne!(good, bad);
        }
    }

    #[test]
    fn arithmetic() {
        let top = PRIME - 1;
        assert_eq!((plus(top, 1), plus(top, 2), times(top, top)), (0, 1, 1));
        assert_eq!(times(1 << 60, 2), 1, "2^61 is 1");
        assert_eq!(times(0, top), 0);
    }
}
