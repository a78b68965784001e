//! SHA-1 behind one trait, and the two kinds of hash that BEP 3 names: of a piece and of `info`.
//!
//! [`Smol`] is always there. A host with a faster implementation (CPU instructions, a peripheral)
//! implements [`Sha1`] for it; nothing else changes.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A running SHA-1.
pub trait Sha1: Default {
    /// Appends `bytes` to what is hashed.
    fn update(&mut self, bytes: &[u8]);
    /// The digest of everything appended.
    fn finish(self) -> Digest;
}

/// A SHA-1 digest: of one piece, or of a whole `info` dictionary.
pub type Digest = [u8; 20];

/// The portable implementation, by the crate `sha1_smol`.
#[derive(Default, Clone)]
pub struct Smol(sha1_smol::Sha1);

impl Sha1 for Smol {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.digest().bytes()
    }
}

impl fmt::Debug for Smol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Smol(..)")
    }
}

/// The name of a torrent: the SHA-1 of the raw bytes of its `info` dictionary (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InfoHash(pub Digest);

impl InfoHash {
    /// Reads 40 hexadecimal digits of either case.
    pub fn from_hex(text: &[u8]) -> Option<InfoHash> {
        let mut bytes = [0; 20];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            let high = char::from(high).to_digit(16)?;
            let low = char::from(low).to_digit(16)?;
            *byte = u8::try_from((high << 4) | low).ok()?;
        }
        Some(InfoHash(bytes))
    }
}

impl fmt::Display for InfoHash {
    /// 40 lower-case hexadecimal digits, as magnet links carry them (BEP 9).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::string::ToString;

    #[test]
    fn fips_180_vector() {
        let mut sha1 = Smol::default();
        sha1.update(b"a");
        sha1.update(b"bc");
        let hash = InfoHash(sha1.finish());
        assert_eq!(hash.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn hex_round_trip_and_refusals() {
        let text = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let hash = InfoHash::from_hex(text.as_bytes()).unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(
            InfoHash::from_hex(text.to_uppercase().as_bytes()),
            Some(hash)
        );
        for bad in [
            "",
            &text[1..],
            &text[2..],
            "g9993e364706816aba3e25717850c26c9cd0d89d",
        ] {
            assert_eq!(InfoHash::from_hex(bad.as_bytes()), None, "{bad}");
        }
    }
}
