//! The picker chooses which piece to begin: plain functions over slices.
//!
//! The rarest piece first keeps every piece available, and a random one among equals keeps peers from asking for the
//! same. Until there is something to trade, any piece will do, and a random one is had sooner than a rare one. A scan
//! is bounded: a window of 32,768 pieces from a random place on is looked at, and the next one if there is nothing in
//! it.

use everseed_core::bits;
use everseed_core::rng::Rng;

/// Pieces that are looked at before the best of them is taken.
const WINDOW: u32 = 32_768;

/// A set of pieces, as somebody else holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Set<'a> {
    /// No piece.
    None,
    /// Every piece.
    All,
    /// The pieces whose bit is set, in wire order.
    Some(&'a [u8]),
}

impl Set<'_> {
    /// Whether the piece is in it.
    pub(crate) fn contains(&self, piece: u32) -> bool {
        match self {
            Set::None => false,
            Set::All => true,
            Set::Some(bits) => bits::get(bits, piece),
        }
    }

    /// Bits of the 8 pieces from `8 * byte` on.
    fn byte(&self, byte: usize) -> u8 {
        match self {
            Set::None => 0,
            Set::All => 0xff,
            Set::Some(bits) => bits.get(byte).copied().unwrap_or(0),
        }
    }
}

/// The sets of pieces among which one is picked, for one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// Number of pieces.
    pub pieces: u32,
    /// Pieces that are to be downloaded.
    pub wanted: Set<'a>,
    /// Pieces that are here.
    pub had: Set<'a>,
    /// Pieces in progress.
    pub begun: Set<'a>,
    /// Pieces that the peer has.
    pub has: Set<'a>,
    /// How many peers that are no seeds have each piece.
    pub counts: &'a [u16],
    /// How to choose.
    pub rule: Rule,
}

/// How to choose among the pieces that a peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Any.
    Random,
    /// The one that fewest peers have.
    Rarest,
    /// The first.
    First,
}

impl Choice<'_> {
    /// The piece to begin.
    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<u32> {
        if self.rule == Rule::First {
            return self.open(0, self.pieces).next();
        }
        let mut from = rng.below(self.pieces);
        let mut left = self.pieces;
        while left > 0 {
            let len = left.min(WINDOW);
            // It may go on at the beginning.
            let end = (from + len).min(self.pieces);
            let rest = len - (end - from);
            let found = self.best(self.open(from, end).chain(self.open(0, rest)), rng);
            if found.is_some() {
                return found;
            }
            left -= len;
            from = if rest > 0 { rest } else { end % self.pieces };
        }
        None
    }

    /// Whether the peer has anything that is wanted, not here and not begun.
    pub(crate) fn any(&self) -> bool {
        self.open(0, self.pieces).next().is_some()
    }

    /// The best of these pieces; each of equals is as likely as the others.
    fn best(&self, pieces: impl Iterator<Item = u32>, rng: &mut Rng) -> Option<u32> {
        let (mut best, mut count, mut equals) = (None, u16::MAX, 0);
        for piece in pieces {
            let here = match self.rule {
                Rule::Rarest => self.counts.get(piece as usize).copied().unwrap_or(0),
                _ => 0,
            };
            if here > count {
                continue;
            }
            if here < count || best.is_none() {
                (best, count, equals) = (Some(piece), here, 1);
                continue;
            }
            equals += 1;
            if rng.below(equals) == 0 {
                best = Some(piece);
            }
        }
        best
    }

    /// Pieces of a range that the peer has, that are wanted, not here and not begun.
    fn open(&self, from: u32, to: u32) -> impl Iterator<Item = u32> {
        let bytes = from / 8..to.div_ceil(8);
        bytes
            .flat_map(move |byte| {
                let at = byte as usize;
                let closed = self.had.byte(at) | self.begun.byte(at);
                let bits = self.has.byte(at) & self.wanted.byte(at) & !closed;
                let first = if bits == 0 { 8 } else { 0 };
                (first..8).filter_map(move |bit: u32| {
                    (bits & (0x80 >> bit) != 0).then_some(byte * 8 + bit)
                })
            })
            .filter(move |&piece| piece >= from && piece < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Choice<'static> = Choice {
        pieces: 12,
        wanted: Set::All,
        had: Set::None,
        begun: Set::None,
        has: Set::All,
        counts: &[3, 1, 2, 1, 5, 5, 5, 5, 5, 5, 5, 5],
        rule: Rule::Rarest,
    };

    fn picks(choice: Choice<'_>, begun: &[u32]) -> u32 {
        let mut bytes = [0; 2];
        for &piece in begun {
            bits::set(&mut bytes, piece);
        }
        let choice = Choice {
            begun: Set::Some(&bytes),
            ..choice
        };
        let mut rng = Rng::new(3);
        let mut seen = 0;
        for _ in 0..500 {
            if let Some(piece) = choice.pick(&mut rng) {
                seen |= 1 << piece;
            }
        }
        seen
    }

    #[test]
    fn what_is_picked() {
        let bits = |pieces: &[u32]| pieces.iter().fold(0, |set, piece| set | 1 << piece);
        let random = Choice {
            rule: Rule::Random,
            ..ALL
        };
        let first = Choice {
            rule: Rule::First,
            ..ALL
        };
        let table = [
            (ALL, &[][..], bits(&[1, 3])),
            (ALL, &[1, 3], bits(&[2])),
            (random, &[], 0xfff),
            (first, &[], bits(&[0])),
            (first, &[0, 1], bits(&[2])),
            (
                Choice {
                    had: Set::Some(&[0b0101_0000, 0]),
                    ..ALL
                },
                &[],
                bits(&[2]),
            ),
            (
                Choice {
                    wanted: Set::Some(&[0b1000_0000, 0b0001_1111]),
                    ..ALL
                },
                &[],
                bits(&[0]),
            ),
            (
                Choice {
                    has: Set::Some(&[0, 0b0001_1111]),
                    ..ALL
                },
                &[],
                bits(&[11]),
            ),
            (
                Choice {
                    has: Set::None,
                    ..ALL
                },
                &[],
                0,
            ),
        ];
        for (case, (choice, begun, expected)) in table.into_iter().enumerate() {
            assert_eq!(picks(choice, begun), expected, "case {case}");
        }
    }

    /// A window that holds nothing is not the end.
    #[test]
    fn the_only_piece_of_a_huge_torrent_is_found() {
        extern crate std;
        let pieces = 200_000;
        let mut has = std::vec![0; pieces as usize / 8];
        bits::set(&mut has, 100_000);
        let choice = Choice {
            pieces,
            has: Set::Some(&has),
            counts: &[],
            ..ALL
        };
        for seed in 0..20 {
            let found = choice.pick(&mut Rng::new(seed));
            assert_eq!(found, Some(100_000));
        }
        assert!(choice.any());
    }
}
