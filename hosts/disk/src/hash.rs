//! SHA-1 with the CPU's own instructions, where it has them.

use std::fmt;

use everseed_core::hash::{Digest, Sha1};
use sha1::Digest as _;

/// SHA-1 of the crate `sha1`, which detects SHA instructions at run time and has plain code for other CPUs.
#[derive(Clone, Default)]
pub struct Fast(sha1::Sha1);

impl Sha1 for Fast {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

impl fmt::Debug for Fast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fast(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::hash::Smol;
    use everseed_core::rng::Rng;

    #[test]
    fn agrees_with_the_portable_one() {
        let mut rng = Rng::new(1);
        for len in [0usize, 1, 55, 56, 63, 64, 65, 127, 128, 1000, 70_000] {
            let mut bytes = vec![0; len];
            rng.fill(&mut bytes);
            let (mut fast, mut smol) = (Fast::default(), Smol::default());
            for part in bytes.chunks(97) {
                fast.update(part);
            }
            smol.update(&bytes);
            assert_eq!(fast.finish(), smol.finish(), "{len} bytes");
        }
    }
}
