//! Our identity towards others: the peer id, and unguessable numbers.

use everseed_core::rng::Rng;
use everseed_core::wire::PeerId;

/// An unguessable number.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // This cannot fail for so few bytes once the system is up; before that, the time is used.
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if read.is_err() {
        let since = crate::clock::time_of_day();
        return Rng::new((since.as_secs() << 30) | u64::from(since.subsec_nanos())).bits();
    }
    u64::from_ne_bytes(bytes)
}

/// A new peer id for each run (BEP 20): the client's code, its version, and random letters.
pub(super) fn peer_id() -> PeerId {
    let mut id = *b"-EV0100-............";
    let mut rng = Rng::new(random());
    for byte in &mut id[8..] {
        let letter = ALPHABET.get(rng.below(62) as usize);
        *byte = letter.copied().unwrap_or(b'-');
    }
    id
}

const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
