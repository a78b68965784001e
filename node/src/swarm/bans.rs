//! Bans: the origins that sent bad pieces. Each is refused for some time.
//!
//! An origin is an IPv4 address or an IPv6 /64, as ports and peer ids cost nothing. It is banned at
//! [`BANNED_AT`] strikes, for [`BAN`]. A strike is taken away for [`CREDIT`] good pieces with blocks from it, and all
//! strikes after [`BAN`] without a new one. When the table is full, a new origin replaces one that is not banned; if all
//! are banned, one of these. Of several it replaces the one whose last strike is the oldest.

use core::time::Duration;

use everseed_core::time::Instant;

/// The number of strikes at which an origin is banned.
pub(crate) const BANNED_AT: u8 = 4;

/// How long a ban lasts, and how long strikes are remembered.
const BAN: Duration = Duration::from_secs(3600);

/// The number of good pieces for which a strike is taken away.
const CREDIT: u8 = 16;

/// The number of origins that are remembered.
const PLACES: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Charge {
    origin: u64,
    strikes: u8,
    /// The number of good pieces since a strike was taken away.
    good: u8,
    /// The time of its last strike.
    at: Instant,
}

/// The table, in the order of the last strikes.
#[derive(Debug)]
pub(crate) struct Bans {
    charges: heapless::Vec<Charge, PLACES>,
}

impl Bans {
    pub(crate) const fn new() -> Bans {
        Bans {
            charges: heapless::Vec::new(),
        }
    }

    /// Gives an origin a strike. Returns whether it is banned now.
    pub(crate) fn charge(&mut self, now: Instant, origin: u64, strikes: u8) -> bool {
        self.charges.retain(|c| now - c.at < BAN);
        let known = self.charges.iter().position(|c| c.origin == origin);
        let before = known.map_or(0, |at| self.charges.remove(at).strikes);
        if self.charges.is_full() {
            let harmless = |c: &Charge| c.strikes < BANNED_AT;
            let place = self.charges.iter().position(harmless).unwrap_or(0);
            self.charges.remove(place);
        }
        let strikes = before.saturating_add(strikes);
        let charge = Charge {
            origin,
            strikes,
            good: 0,
            at: now,
        };
        // The lines above made room.
        let _ = self.charges.push(charge);
        strikes >= BANNED_AT
    }

    /// Notes that a good piece has blocks from an origin.
    pub(crate) fn credit(&mut self, origin: u64) {
        let known = self.charges.iter_mut().find(|c| c.origin == origin);
        if let Some(charge) = known {
            charge.good += 1;
            if charge.good >= CREDIT {
                charge.good = 0;
                self.acquit(origin, 1);
            }
        }
    }

    /// Takes strikes away.
    pub(crate) fn acquit(&mut self, origin: u64, strikes: u8) {
        let known = self.charges.iter().position(|c| c.origin == origin);
        if let Some(at) = known {
            let charge = &mut self.charges[at];
            charge.strikes = charge.strikes.saturating_sub(strikes);
            if charge.strikes == 0 {
                self.charges.remove(at);
            }
        }
    }

    pub(crate) fn is_banned(&self, now: Instant, origin: u64) -> bool {
        let banned = |c: &Charge| c.strikes >= BANNED_AT && now - c.at < BAN;
        let mut all = self.charges.iter();
        all.any(|c| c.origin == origin && banned(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(1000);

    #[test]
    fn repeated_proof_bans_for_a_time() {
        let mut bans = Bans::new();
        assert!(!bans.charge(NOW, 7, 2) && !bans.is_banned(NOW, 7));
        assert!(bans.charge(NOW, 7, 2) && bans.is_banned(NOW, 7));
        assert!(!bans.charge(NOW, 8, 2));
        let end = NOW + BAN;
        let just_before = Instant::from_micros(end.as_micros() - 1);
        assert!(bans.is_banned(just_before, 7) && !bans.is_banned(end, 7));
        assert!(!bans.charge(end, 8, 2), "what is long ago is forgotten");
    }

    #[test]
    fn good_pieces_are_credit() {
        let mut bans = Bans::new();
        bans.charge(NOW, 7, 2);
        (0..CREDIT).for_each(|_| bans.credit(7));
        assert!(!bans.charge(NOW, 7, 2));
        (0..4 * CREDIT).for_each(|_| bans.credit(7));
        assert!(!bans.charge(NOW, 7, 2) && bans.charge(NOW, 7, 2));
        bans.acquit(7, 2);
        assert!(!bans.is_banned(NOW, 7));
    }

    #[test]
    fn banned_ones_are_forgotten_last() {
        let mut bans = Bans::new();
        bans.charge(NOW, 1, 9);
        for origin in 2..200 {
            bans.charge(NOW, origin, 1);
        }
        assert!(bans.is_banned(NOW, 1));
        assert_eq!(bans.charges.len(), PLACES);
    }
}
