//! Tokens (BEP 5): an announce shows the token that its address was given, so that nobody announces another's address.
//!
//! A token is the first 8 bytes of the SHA-1 of a secret and the address, so none is kept. The secret is a new one
//! every [`LIFETIME`]; tokens by the one before are accepted.

use core::net::IpAddr;
use core::time::Duration;

use everseed_core::hash::{Digest, Sha1, Smol};
use everseed_core::time::Instant;

/// A token.
pub(crate) type Token = [u8; 8];

/// Numbers that a stranger cannot tell from others that it has seen: SHA-1 of a key and a count.
#[derive(Debug)]
pub(crate) struct Secrets {
    key: Digest,
    count: u64,
}

impl Secrets {
    pub(crate) fn new(seed: u64) -> Secrets {
        let mut sha1 = Smol::default();
        sha1.update(b"everseed dht");
        sha1.update(&seed.to_be_bytes());
        Secrets {
            key: sha1.finish(),
            count: 0,
        }
    }

    pub(crate) fn draw(&mut self) -> Digest {
        self.count += 1;
        let mut sha1 = Smol::default();
        sha1.update(&self.key);
        sha1.update(&self.count.to_be_bytes());
        sha1.finish()
    }

    /// 64 of the bits, as a seed.
    pub(crate) fn seed(&mut self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.draw();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tokens {
    secrets: Secrets,
    current: Digest,
    former: Digest,
    since: Instant,
}

impl Tokens {
    pub(crate) fn new(now: Instant, seed: u64) -> Tokens {
        let mut secrets = Secrets::new(seed);
        Tokens {
            current: secrets.draw(),
            former: secrets.draw(),
            secrets,
            since: now,
        }
    }

    /// The token for an address.
    pub(crate) fn give(&mut self, now: Instant, ip: IpAddr) -> Token {
        self.renew(now);
        token(&self.current, ip)
    }

    /// Whether a token was given to this address of late.
    pub(crate) fn accept(&mut self, now: Instant, ip: IpAddr, told: &[u8]) -> bool {
        self.renew(now);
        [&self.current, &self.former].iter().any(|secret| {
            let good = token(secret, ip);
            // All bytes are looked at, so that the time says nothing.
            let differs = good.iter().zip(told).fold(0, |all, (a, b)| all | (a ^ b));
            told.len() == good.len() && differs == 0
        })
    }

    fn renew(&mut self, now: Instant) {
        let age = now - self.since;
        if age < LIFETIME {
            return;
        }
        self.former = match age < 2 * LIFETIME {
            true => self.current,
            false => self.secrets.draw(),
        };
        self.current = self.secrets.draw();
        self.since = now;
    }
}

fn token(secret: &Digest, ip: IpAddr) -> Token {
    let mut sha1 = Smol::default();
    sha1.update(secret);
    match ip {
        IpAddr::V4(ip) => sha1.update(&ip.octets()),
        IpAddr::V6(ip) => sha1.update(&ip.octets()),
    }
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    [a, b, c, d, e, f, g, h]
}

/// How long a secret is used for new tokens, and after that accepted.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_one_address_and_some_minutes() {
        let start = Instant::from_secs(100);
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        // Seconds until it is shown, and whether it is accepted then.
        for (secs, accepted) in [
            (0, true),
            (299, true),
            (300, true),
            (599, true),
            (601, false),
            (100_000, false),
        ] {
            let mut tokens = Tokens::new(start, 1);
            let token = tokens.give(start, ip(1));
            let then = start + Duration::from_secs(secs);
            assert_eq!(tokens.accept(then, ip(1), &token), accepted, "{secs}");
        }
        // A rotation in between.
        let mut tokens = Tokens::new(start, 1);
        let token = tokens.give(start, ip(1));
        let at = |secs| start + Duration::from_secs(secs);
        assert_ne!(tokens.give(at(301), ip(1)), token);
        assert!(tokens.accept(at(301), ip(1), &token));
        assert!(tokens.accept(at(600), ip(1), &token));
        tokens.give(at(602), ip(1));
        assert!(!tokens.accept(at(602), ip(1), &token));
        // Another address, another node, nonsense.
        let mut tokens = Tokens::new(start, 1);
        let token = tokens.give(start, ip(1));
        assert!(!tokens.accept(start, ip(2), &token));
        assert!(!Tokens::new(start, 2).accept(start, ip(1), &token));
        for nonsense in [&token[..7], &[], &[token, token].concat()[..]] {
            assert!(!tokens.accept(start, ip(1), nonsense));
        }
    }
}
