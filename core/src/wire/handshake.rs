//! [`Handshake`]: the first message of both sides of a connection (BEP 3).

use crate::hash::InfoHash;

/// A peer id (BEP 3, BEP 20): 20 bytes of the client's choice.
pub type PeerId = [u8; 20];

/// The first message of both sides (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// The extensions that the sender supports.
    pub features: Features,
    /// The torrent that this connection is about.
    pub info_hash: InfoHash,
    /// The peer id of the sender.
    pub peer_id: PeerId,
}

/// The reserved bits of a handshake that are understood here; all others are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Fast extension: have-all, have-none, reject (BEP 6).
    pub fast: bool,
    /// Extension protocol: extended messages (BEP 10).
    pub extended: bool,
    /// DHT: the `port` message (BEP 5).
    pub dht: bool,
}

impl Features {
    /// The extensions that both sides support.
    pub fn and(self, other: Features) -> Features {
        Features {
            fast: self.fast && other.fast,
            extended: self.extended && other.extended,
            dht: self.dht && other.dht,
        }
    }
}

impl Handshake {
    /// Bytes on the wire.
    pub const LEN: usize = 68;

    /// Reads a handshake; `None` when it is no BitTorrent handshake.
    pub fn decode(bytes: &[u8; Handshake::LEN]) -> Option<Handshake> {
        let (protocol, rest) = bytes.split_first_chunk::<20>()?;
        let (reserved, rest) = rest.split_first_chunk::<8>()?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        if protocol != PROTOCOL {
            return None;
        }
        let [.., extended, _, last] = *reserved;
        let features = Features {
            fast: last & FAST != 0,
            extended: extended & EXTENDED != 0,
            dht: last & DHT != 0,
        };
        let peer_id = *rest.first_chunk::<20>()?;
        Some(Handshake {
            features,
            info_hash: InfoHash(*info_hash),
            peer_id,
        })
    }

    /// Writes a handshake.
    pub fn encode(&self) -> [u8; Handshake::LEN] {
        let bit = |on: bool, mask: u8| if on { mask } else { 0 };
        let extended = bit(self.features.extended, EXTENDED);
        let last = bit(self.features.fast, FAST) | bit(self.features.dht, DHT);
        let reserved = [0, 0, 0, 0, 0, extended, 0, last];
        let fields = PROTOCOL
            .iter()
            .chain(&reserved)
            .chain(&self.info_hash.0)
            .chain(&self.peer_id);
        let mut bytes = [0; Handshake::LEN];
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = *from;
        }
        bytes
    }
}

/// Every handshake starts with this: the length of the name, then the name (BEP 3).
pub const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

const EXTENDED: u8 = 0x10;
const FAST: u8 = 0x04;
const DHT: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_both_ways() {
        let features = Features {
            fast: true,
            extended: true,
            dht: false,
        };
        let handshake = Handshake {
            features,
            info_hash: InfoHash([7; 20]),
            peer_id: [9; 20],
        };
        let mut bytes = handshake.encode();
        assert_eq!(bytes[..28], *b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04");
        assert_eq!(Handshake::decode(&bytes), Some(handshake));
        bytes[25] = 0xff; // Bits that mean nothing here are no reason to refuse.
        assert_eq!(Handshake::decode(&bytes), Some(handshake));
        bytes[1] = b'b';
        assert_eq!(Handshake::decode(&bytes), None);
    }
}
