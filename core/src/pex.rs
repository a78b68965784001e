//! PEX, peer exchange (BEP 11, `ut_pex`): messages with the addresses of peers that came and left.
//!
//! A message is a dictionary in an extended message: peers that were added since the last one, with a byte of
//! flags each, and peers that left. At most [`MAX_PEERS`] of those that were added are read or written, and nothing of a
//! message is held but them. A message that breaks off counts as far as it goes.

use core::fmt::Write as _;
use core::net::SocketAddr;

use embedded_io::Read;

use crate::bencode::{Error, Reader, Type};
use crate::text::Bytes;
use crate::tracker::{CompactPeers, Family, write_compact};

/// The id of these messages when peers send them to us (BEP 10). Our extended handshake names it.
pub const OUR_ID: u8 = 2;

/// Added peers that are read of a message, or written into one: both families together, at most.
pub const MAX_PEERS: usize = 50;

/// The byte of flags that comes with an added peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// Nothing.
    pub const NONE: Flags = Flags(0);
    /// The peer prefers encrypted connections.
    pub const ENCRYPTION: Flags = Flags(0x01);
    /// The peer has everything, or downloads no more.
    pub const SEED: Flags = Flags(0x02);
    /// The sender called the peer, and it answered.
    pub const REACHABLE: Flags = Flags(0x10);

    /// These, and those of the others if they hold.
    #[must_use]
    pub const fn with(self, others: Flags, hold: bool) -> Flags {
        match hold {
            true => Flags(self.0 | others.0),
            false => self,
        }
    }

    /// Whether all of the others are among them.
    pub const fn has(self, others: Flags) -> bool {
        self.0 & others.0 == others.0
    }
}

/// An added peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Where it can be called.
    pub addr: SocketAddr,
    /// The flags that the sender told.
    pub flags: Flags,
}

/// Reads a message, and hands out the peers that were added, at most [`MAX_PEERS`]. A message that is cut off or malformed
/// counts up to the fault.
pub fn read(message: impl Read, mut on_added: impl FnMut(Peer)) {
    let mut lists = Lists::EMPTY;
    // What was read before an error is as good as ever.
    let _ = lists.read(message);
    let [mut v4, mut v6] = [lists.v4.peers(Family::V4), lists.v6.peers(Family::V6)];
    for _ in 0..MAX_PEERS {
        // One of each family by turns, so that no list is all.
        let next = v4.next().or_else(|| v6.next());
        let Some(peer) = next else { return };
        on_added(peer);
        core::mem::swap(&mut v4, &mut v6);
    }
}

/// As much of the lists of a message as counts.
struct Lists {
    v4: List<{ MAX_PEERS * 6 }>,
    v6: List<{ MAX_PEERS * 18 }>,
}

struct List<const N: usize> {
    addrs: [u8; N],
    addrs_len: usize,
    flags: [u8; MAX_PEERS],
    flags_len: usize,
}

/// The peers of a list, with their flags.
struct Walk<'a>(CompactPeers<'a>, core::slice::Iter<'a, u8>);

impl Iterator for Walk<'_> {
    type Item = Peer;

    fn next(&mut self) -> Option<Peer> {
        let addr = self.0.next()?;
        let flags = Flags(self.1.next().copied().unwrap_or(0));
        Some(Peer { addr, flags })
    }
}

impl<const N: usize> List<N> {
    const EMPTY: List<N> = List {
        addrs: [0; N],
        addrs_len: 0,
        flags: [0; MAX_PEERS],
        flags_len: 0,
    };

    fn peers(&self, family: Family) -> Walk<'_> {
        let addrs = self.addrs.get(..self.addrs_len).unwrap_or_default();
        let flags = self.flags.get(..self.flags_len).unwrap_or_default();
        Walk(CompactPeers::new(addrs, family), flags.iter())
    }
}

impl Lists {
    const EMPTY: Lists = Lists {
        v4: List::EMPTY,
        v6: List::EMPTY,
    };

    fn read<R: Read>(&mut self, message: R) -> Result<(), Error<R::Error>> {
        let mut reader: Reader<_> = Reader::new(message);
        // Longer than any key that is known, so that none is taken for the start of another.
        let mut key_room = [0; 16];
        reader.dict()?;
        while let Some(key) = reader.key(&mut key_room)? {
            let (room, len): (&mut [u8], &mut usize) = match (key, reader.peek()?) {
                (b"added", Type::String) => (&mut self.v4.addrs, &mut self.v4.addrs_len),
                (b"added.f", Type::String) => (&mut self.v4.flags, &mut self.v4.flags_len),
                (b"added6", Type::String) => (&mut self.v6.addrs, &mut self.v6.addrs_len),
                (b"added6.f", Type::String) => (&mut self.v6.flags, &mut self.v6.flags_len),
                _ => continue,
            };
            *len = 0;
            *len = reader.string_start(room)?.len();
        }
        Ok(())
    }
}

/// The longest message that [`write()`] makes of [`MAX_PEERS`] peers that were added and as many that left.
pub const MAX_LEN: usize = MAX_PEERS * (18 + 1 + 18) + 96;

/// Writes a message; answers with its length in bytes, or `None` when `out` has no room.
pub fn write(added: &[Peer], dropped: &[SocketAddr], out: &mut [u8]) -> Option<usize> {
    let mut out = Bytes::new(out);
    out.put(b"d")?;
    let families = [(Family::V4, ""), (Family::V6, "6")];
    for (family, name) in families {
        let of = || added.iter().filter(|peer| is(family, peer.addr));
        let count = of().count();
        if count == 0 {
            continue;
        }
        let key = name.len().saturating_add(5);
        let bytes = count.saturating_mul(family.compact_len());
        write!(out, "{key}:added{name}{bytes}:").ok()?;
        of().try_for_each(|peer| out.put(write_compact(peer.addr, &mut [0; 18])))?;
        write!(out, "{}:added{name}.f{count}:", key.saturating_add(2)).ok()?;
        of().try_for_each(|peer| out.put(&[peer.flags.0]))?;
    }
    for (family, name) in families {
        let of = || dropped.iter().filter(|addr| is(family, **addr));
        let count = of().count();
        if count == 0 {
            continue;
        }
        let key = name.len().saturating_add(7);
        let bytes = count.saturating_mul(family.compact_len());
        write!(out, "{key}:dropped{name}{bytes}:").ok()?;
        of().try_for_each(|addr| out.put(write_compact(*addr, &mut [0; 18])))?;
    }
    out.put(b"e")?;
    Some(out.len())
}

fn is(family: Family, addr: SocketAddr) -> bool {
    Family::of(addr.ip()) == family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::vec::Vec;

    fn taken(message: &[u8]) -> Vec<Peer> {
        let mut peers = Vec::new();
        read(message, |peer| peers.push(peer));
        peers
    }

    fn peer(n: u16, v6: bool) -> Peer {
        let [high, low] = n.to_be_bytes();
        let addr = match v6 {
            false => SocketAddr::from(([10, 0, high, low], 6881)),
            true => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 6881)),
        };
        let flags = Flags::NONE
            .with(Flags::SEED, n.is_multiple_of(2))
            .with(Flags::REACHABLE, n.is_multiple_of(3))
            .with(Flags::ENCRYPTION, n.is_multiple_of(5));
        Peer { addr, flags }
    }

    #[test]
    fn as_it_is_written() {
        let mut out = [0; MAX_LEN];
        let added = [peer(1, false), peer(6, true)];
        let len = write(&added, &[peer(2, false).addr, peer(2, true).addr], &mut out).unwrap();
        let expected: &[&[u8]] = &[
            b"d5:added6:\x0a\0\0\x01\x1a\xe17:added.f1:\0",
            b"6:added618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x06\x1a\xe18:added6.f1:\x12",
            b"7:dropped6:\x0a\0\0\x02\x1a\xe1",
            b"8:dropped618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x1a\xe1e",
        ];
        assert_eq!(out[..len], expected.concat());
        assert_eq!(taken(&out[..len]), added);
        for short in 0..len {
            assert_eq!(
                write(
                    &added,
                    &[peer(2, false).addr, peer(2, true).addr],
                    &mut out[..short]
                ),
                None
            );
        }
        let len = write(&[], &[], &mut out).unwrap();
        assert_eq!(&out[..len], b"de");
    }

    #[test]
    fn the_longest_has_room() {
        let mut out = [0; MAX_LEN];
        let peers: Vec<Peer> = (0..MAX_PEERS as u16).map(|n| peer(n, true)).collect();
        let gone: Vec<SocketAddr> = peers.iter().map(|peer| peer.addr).collect();
        let len = write(&peers, &gone, &mut out).unwrap();
        assert!(len > MAX_LEN - 96);
        assert_eq!(taken(&out[..len]), peers);
    }

    /// Whatever is written is read, in the order of each family.
    #[test]
    fn both_ways() {
        let mut rng = Rng::new(11);
        for _ in 0..500 {
            let many = |rng: &mut Rng, most: u32| -> Vec<Peer> {
                let count = rng.below(most + 1);
                let mut one = |_| peer(rng.bits32() as u16, rng.below(2) == 0);
                (0..count).map(&mut one).collect()
            };
            let added = many(&mut rng, MAX_PEERS as u32);
            let gone: Vec<SocketAddr> = many(&mut rng, 16).iter().map(|peer| peer.addr).collect();
            let mut out = [0; MAX_LEN];
            let len = write(&added, &gone, &mut out).unwrap();
            let read = taken(&out[..len]);
            for v6 in [false, true] {
                let of = |peers: &[Peer]| -> Vec<Peer> {
                    let its = |peer: &&Peer| peer.addr.is_ipv6() == v6;
                    peers.iter().filter(its).copied().collect()
                };
                assert_eq!(of(&read), of(&added));
            }
        }
    }

    #[test]
    fn nonsense() {
        let one = peer(1, false);
        let plain = Peer {
            flags: Flags::NONE,
            ..one
        };
        let table: [(&[u8], &[Peer]); 13] = [
            (b"", &[]),
            (b"de", &[]),
            (b"le", &[]),
            (b"i5e", &[]),
            (b"d5:addedi7e7:dropped2:xxe", &[]),
            (b"d5:added5:\x0a\0\0\x01\x1ae", &[]),
            (b"d5:added6:\x0a\0\0\x01\x1a\xe1e", &[plain]),
            // It breaks off.
            (b"d5:added6:\x0a\0\0\x01\x1a\xe17:added.f", &[plain]),
            (b"d5:added7:\x0a\0\0\x01\x1a\xe1", &[]),
            // Flags without end, and flags of another type.
            (
                b"d5:added6:\x0a\0\0\x01\x1a\xe17:added.f3:\0\x01\x02e",
                &[plain],
            ),
            (b"d5:added6:\x0a\0\0\x01\x1a\xe17:added.fi3ee", &[plain]),
            // The last of two counts.
            (
                b"d5:added6:\x0a\0\0\x02\x1a\xe15:added6:\x0a\0\0\x01\x1a\xe1e",
                &[plain],
            ),
            (b"d5:added99999999999:", &[]),
        ];
        for (message, expected) in table {
            assert_eq!(taken(message), expected, "{message:?}");
        }
        // A thousand of each family: so many are taken, and something of both.
        let mut long = b"d5:added6000:".to_vec();
        (0..1000).for_each(|n| long.extend(write_compact(peer(n, false).addr, &mut [0; 18])));
        long.extend(b"6:added618000:");
        (0..1000).for_each(|n| long.extend(write_compact(peer(n, true).addr, &mut [0; 18])));
        long.extend(b"e");
        let peers = taken(&long);
        let v6 = peers.iter().filter(|peer| peer.addr.is_ipv6()).count();
        assert_eq!((peers.len(), v6), (MAX_PEERS, MAX_PEERS / 2));
        // As much of it as there is.
        assert_eq!(taken(&long[..2048]).len(), MAX_PEERS);
    }

    #[test]
    fn damage_never_panics() {
        let mut out = [0; MAX_LEN];
        let peers: Vec<Peer> = (0..9).map(|n| peer(n, n % 2 == 0)).collect();
        let len = write(&peers, &[peers[0].addr], &mut out).unwrap();
        let mut rng = Rng::new(12);
        for _ in 0..20_000 {
            let mut bytes = out;
            for _ in 0..rng.below(5) {
                bytes[rng.below(len as u32) as usize] = rng.bits32() as u8;
            }
            let end = rng.below(len as u32 + 1) as usize;
            assert!(taken(&bytes[..end]).len() <= MAX_PEERS);
        }
    }
}
