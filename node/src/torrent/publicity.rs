//! [`Publicity`]: by which means peers of a torrent may be found.

use serde::{Deserialize, Serialize};

/// The means by which peers of a torrent may be found, besides those that the host names: none, unless the host says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Publicity(u8);

impl Publicity {
    /// Nobody is told of the torrent, and its peers are whom the host names.
    pub const NONE: Publicity = Publicity(0);

    /// It is private (BEP 27): its trackers alone name its peers, whoever else the host hears of.
    pub const PRIVATE: Publicity = Publicity(PRIVATE);

    /// It is looked for and announced in the DHT too (BEP 5).
    #[must_use]
    pub const fn with_dht(self) -> Publicity {
        self.with(DHT)
    }

    /// Its peers tell each other of peers (BEP 11).
    #[must_use]
    pub const fn with_pex(self) -> Publicity {
        self.with(PEX)
    }

    /// It is asked for and announced in the network that this machine is in (BEP 14).
    #[must_use]
    pub const fn with_lsd(self) -> Publicity {
        self.with(LSD)
    }

    /// Whether only its trackers name its peers.
    pub const fn is_private(self) -> bool {
        self.0 & PRIVATE != 0
    }

    /// Whether the DHT may know it.
    pub const fn dht(self) -> bool {
        self.0 & DHT != 0
    }

    /// Whether its peers hear of each other.
    pub const fn pex(self) -> bool {
        self.0 & PEX != 0
    }

    /// Whether its network may know it.
    pub const fn lsd(self) -> bool {
        self.0 & LSD != 0
    }

    /// What is private stays so.
    const fn with(self, way: u8) -> Publicity {
        match self.is_private() {
            true => self,
            false => Publicity(self.0 | way),
        }
    }
}

const PRIVATE: u8 = 1;
const DHT: u8 = 2;
const PEX: u8 = 4;
const LSD: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_stays_so() {
        let open = Publicity::NONE.with_dht().with_pex().with_lsd();
        assert!(open.dht() && open.pex() && open.lsd() && !open.is_private());
        let private = Publicity::PRIVATE.with_dht().with_pex().with_lsd();
        assert_eq!(private, Publicity::PRIVATE);
        assert!(!private.dht() && !private.pex() && !private.lsd());
        assert_eq!(Publicity::default(), Publicity::NONE);
    }
}
