//! Who gave bad pieces: origins that are charged, and those that are banned.
//!
//! An origin is an IPv4 address or an IPv6 /64, as ports and peer ids cost nothing. When the table is
//! full, a new one takes the place of the one that was charged longest ago, those that are not banned
//! first.

/// Strikes at which an origin is banned: a piece that came from it alone is 2, one that came from
/// several is 1 for each of them.
const BANNED_AT: u8 = 4;

/// Origins that are remembered.
const PLACES: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Charge {
    origin: u64,
    strikes: u8,
    /// The number of the charge that came last.
    at: u32,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Bans {
    charges: heapless::Vec<Charge, PLACES>,
    count: u32,
}

impl Bans {
    pub(crate) const fn new() -> Bans {
        Bans {
            charges: heapless::Vec::new(),
            count: 0,
        }
    }

    /// Charges an origin; answers whether it is banned.
    pub(crate) fn charge(&mut self, origin: u64, strikes: u8) -> bool {
        self.count = self.count.wrapping_add(1);
        let at = self.count;
        let known = self.charges.iter_mut().find(|c| c.origin == origin);
        if let Some(charge) = known {
            charge.strikes = charge.strikes.saturating_add(strikes);
            charge.at = at;
            return charge.strikes >= BANNED_AT;
        }
        let new = Charge {
            origin,
            strikes,
            at,
        };
        if let Err(new) = self.charges.push(new) {
            let oldest = |c: &&mut Charge| (c.strikes >= BANNED_AT, c.at);
            if let Some(place) = self.charges.iter_mut().min_by_key(oldest) {
                *place = new;
            }
        }
        strikes >= BANNED_AT
    }

    pub(crate) fn is_banned(&self, origin: u64) -> bool {
        let mut all = self.charges.iter();
        all.any(|c| c.origin == origin && c.strikes >= BANNED_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_proof_bans() {
        let mut bans = Bans::new();
        assert!(!bans.charge(7, 2) && !bans.is_banned(7));
        assert!(bans.charge(7, 2) && bans.is_banned(7));
        assert!(!bans.charge(8, 1) && !bans.charge(8, 2));
        assert!(bans.charge(8, 1));
    }

    #[test]
    fn banned_ones_are_forgotten_last() {
        let mut bans = Bans::new();
        bans.charge(1, 9);
        for origin in 2..200 {
            bans.charge(origin, 1);
        }
        assert!(bans.is_banned(1));
    }
}
