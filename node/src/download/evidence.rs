//! Evidence: who sent which part of a piece, so that the peer that spoils it is found out, and nobody else.
//!
//! The first copy of a piece comes from whoever has it. If it is bad that proves nothing against any of
//! several, so each further copy comes from one origin alone, until one is good. Then every
//! block is known: an origin that gave anything else is proven guilty. One that gave the same is not to blame: perhaps
//! our own disk spoiled it.
//!
//! Only sums are kept: one for each origin over the blocks that it gave, and one over the same blocks of the copy that
//! is fetched. They are made from the first bad piece of a torrent on; before that, nobody is suspected.

use everseed_core::sums::Sum;

/// Origins that are told apart in a first copy. If there are more, those who came last are taken together,
/// and none of them is charged.
const SENDERS: usize = 4;

/// Bad copies of one origin each that are remembered; of more, the latest.
const COPIES: usize = 2;

/// The senders and sums of the copies of a piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// The senders of the first copy.
    senders: [Sender; SENDERS],
    /// Whether the last of them stands for several.
    crowd: bool,
    /// Whether there are sums of the first copy.
    summed: bool,
    /// Whether the first copy was bad, so that each further one comes from one origin.
    pub(crate) alone: bool,
    /// The sender of the copy that is fetched, if it is not the first copy.
    pub(crate) sole: Option<u64>,
    /// Whole copies of one origin that were bad.
    copies: [Option<Copy>; COPIES],
}

#[derive(Clone, Copy, Debug)]
struct Sender {
    origin: Option<u64>,
    /// The sum of what it gave of the first copy.
    sent: Sum,
    /// The sum of the same blocks of the copy that is fetched now.
    anew: Sum,
}

#[derive(Clone, Copy, Debug)]
struct Copy {
    origin: u64,
    sum: Sum,
    /// The strikes for it.
    strikes: u8,
}

/// Strikes for a whole copy that was bad, and for the same again: that may be our own disk.
const STRIKES: u8 = 2;
const STRIKES_AGAIN: u8 = 1;

/// What a good copy proves about the sender of a bad one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It gave some block of a first copy otherwise than it should be, which is worth so many strikes.
    Proven(u64, u8),
    /// It was charged with so many strikes for a whole copy, and had given what it should.
    Acquitted(u64, u8),
}

impl Evidence {
    pub(crate) const NONE: Evidence = Evidence {
        senders: [Sender {
            origin: None,
            sent: Sum::NONE,
            anew: Sum::NONE,
        }; SENDERS],
        crowd: false,
        summed: false,
        alone: false,
        sole: None,
        copies: [None; COPIES],
    };

    /// Nothing yet of a piece; `summed` is whether to make sums of its first copy.
    pub(crate) fn new(summed: bool) -> Evidence {
        Evidence {
            summed,
            ..Evidence::NONE
        }
    }

    /// Whether the sum of each block is wanted.
    pub(crate) fn wants_sums(&self) -> bool {
        self.summed || self.alone
    }

    /// An origin gives a block of the first copy; answers with its number among the senders.
    pub(crate) fn sender(&mut self, origin: u64) -> usize {
        let known = |sender: &Sender| sender.origin.is_none_or(|known| known == origin);
        let at = self.senders.iter().position(known);
        self.crowd |= at.is_none();
        let at = at.unwrap_or(SENDERS - 1);
        self.senders[at].origin = Some(origin);
        at
    }

    /// Adds a block that came: of the first copy from this sender, of a later one in place of what it gave.
    pub(crate) fn add(&mut self, sender: usize, sum: Sum) {
        let sender = &mut self.senders[sender % SENDERS];
        let total = match self.alone {
            true => &mut sender.anew,
            false => &mut sender.sent,
        };
        *total = total.plus(sum);
    }

    /// Nothing has come of a copy that another origin gives alone.
    pub(crate) fn restart(&mut self, origin: u64) {
        self.sole = Some(origin);
        for sender in &mut self.senders {
            sender.anew = Sum::NONE;
        }
    }

    /// A copy was bad. If one origin gave all of it, and its sum is known, that is the answer, and what it is
    /// to be charged with.
    pub(crate) fn bad(&mut self) -> Option<(u64, u8)> {
        let copy = match (self.alone, self.only_sender()) {
            (true, _) => self.sole.map(|origin| (origin, self.total())),
            (false, Some(sender)) if self.summed => sender.origin.map(|o| (o, sender.sent)),
            _ => None,
        };
        if !self.alone && (!self.summed || self.only_sender().is_some()) {
            // There is nobody to compare with, or it is compared as a whole.
            self.senders = Evidence::NONE.senders;
            self.summed = false;
        }
        self.alone = true;
        for sender in &mut self.senders {
            sender.anew = Sum::NONE;
        }
        self.sole = None;
        copy.map(|(origin, sum)| (origin, self.keep(origin, sum)))
    }

    /// Remembers a bad copy; answers with the strikes that it is worth.
    fn keep(&mut self, origin: u64, sum: Sum) -> u8 {
        let mut all = self.copies.iter_mut().flatten();
        let same = all.find(|copy| (copy.origin, copy.sum) == (origin, sum));
        if let Some(same) = same {
            same.strikes = same.strikes.saturating_add(STRIKES_AGAIN);
            return STRIKES_AGAIN;
        }
        self.copies.rotate_right(1);
        self.copies[0] = Some(Copy {
            origin,
            sum,
            strikes: STRIKES,
        });
        STRIKES
    }

    /// Whether this origin gave a whole copy that was bad.
    pub(crate) fn failed(&self, origin: u64) -> bool {
        let mut all = self.copies.iter().flatten();
        all.any(|copy| copy.origin == origin)
    }

    /// The copy that was fetched is good: what that says about those who gave the bad ones.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = Verdict> + use<> {
        let total = self.total();
        let copies = self.copies.into_iter().flatten();
        let same = copies.filter(move |copy| copy.sum == total);
        let acquitted = same.map(|copy| Verdict::Acquitted(copy.origin, copy.strikes));
        let told_apart = SENDERS - usize::from(self.crowd);
        let compared = if self.alone && self.summed {
            told_apart
        } else {
            0
        };
        let guilty = self.senders.into_iter().take(compared);
        let guilty = guilty.filter(|sender| sender.sent != sender.anew);
        let guilty = guilty.filter_map(|sender| sender.origin);
        let proven = guilty.map(|origin| Verdict::Proven(origin, STRIKES));
        proven.chain(acquitted)
    }

    /// The senders of the copy that was fetched.
    pub(crate) fn sources(&self) -> impl Iterator<Item = u64> + use<> {
        let first = if self.alone { 0 } else { SENDERS };
        let senders = self.senders.into_iter().take(first);
        senders.filter_map(|g| g.origin).chain(self.sole)
    }

    /// The sender of the first copy, if there was only one.
    fn only_sender(&self) -> Option<Sender> {
        let several = self.senders[1].origin.is_some();
        (!several).then_some(self.senders[0])
    }

    /// The sum of the copy that was fetched after the first.
    fn total(&self) -> Sum {
        let all = self.senders.iter().map(|sender| sender.anew);
        all.fold(Sum::NONE, Sum::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::sums::Secret;

    extern crate std;
    use std::vec::Vec;

    const SECRET: Secret = Secret::new(0x0123_4567_89ab, 0xba98_7654_3210);

    /// A piece whose block `n` is `[n; 4]`, in the making.
    struct Piece {
        evidence: Evidence,
        /// Which sender gave each block of the first copy.
        senders: Vec<usize>,
    }

    impl Piece {
        fn new() -> Piece {
            Piece {
                evidence: Evidence::new(true),
                senders: Vec::new(),
            }
        }

        /// A copy: who gave each block, and whether it is as it should be.
        fn copy(&mut self, blocks: &[(u64, bool)]) {
            if self.evidence.alone {
                self.evidence.restart(blocks[0].0);
            }
            for (n, &(origin, good)) in (0..).zip(blocks) {
                let at = n as usize;
                if !self.evidence.alone {
                    self.senders.push(self.evidence.sender(origin));
                }
                let byte = if good { n as u8 } else { 0xff };
                let sum = SECRET.of(n, &[byte; 4]);
                self.evidence.add(self.senders[at], sum);
            }
        }

        fn verdicts(&self) -> Vec<Verdict> {
            self.evidence.verdicts().collect()
        }
    }

    use Verdict::{Acquitted, Proven};

    #[test]
    fn who_spoiled_one_block_of_many() {
        let mut piece = Piece::new();
        piece.copy(&[(1, true), (2, true), (3, false), (1, true)]);
        assert_eq!(piece.evidence.bad(), None, "nobody sent all of it");
        piece.copy(&[(1, true); 4]);
        assert_eq!(piece.verdicts(), [Proven(3, STRIKES)]);
        assert_eq!(piece.evidence.sources().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn whose_whole_copy_was_bad() {
        let mut piece = Piece::new();
        piece.copy(&[(1, true), (2, false)]);
        assert_eq!(piece.evidence.bad(), None);
        piece.copy(&[(2, true), (2, false)]);
        assert_eq!(piece.evidence.bad(), Some((2, STRIKES)));
        assert!(piece.evidence.failed(2) && !piece.evidence.failed(1));
        // Half a copy of another origin does not count.
        piece.evidence.restart(2);
        piece.evidence.add(0, SECRET.of(0, &[9; 4]));
        piece.copy(&[(1, true); 2]);
        assert_eq!(piece.verdicts(), [Proven(2, STRIKES)]);
    }

    /// What was good when it came was spoiled here.
    #[test]
    fn our_own_disk() {
        let mut piece = Piece::new();
        piece.copy(&[(1, true); 3]);
        assert_eq!(piece.evidence.bad(), Some((1, STRIKES)));
        piece.copy(&[(2, true); 3]);
        assert_eq!(piece.evidence.bad(), Some((2, STRIKES)));
        piece.copy(&[(2, true); 3]);
        assert_eq!(piece.evidence.bad(), Some((2, STRIKES_AGAIN)));
        piece.copy(&[(1, true); 3]);
        assert_eq!(piece.verdicts(), [Acquitted(2, 3), Acquitted(1, 2)]);
    }

    /// Before the first bad piece no sums are made, and nobody is charged for it.
    #[test]
    fn the_first_bad_piece() {
        let mut piece = Piece::new();
        piece.evidence = Evidence::new(false);
        assert!(!piece.evidence.wants_sums());
        piece.senders = std::vec![piece.evidence.sender(1), piece.evidence.sender(2)];
        assert_eq!(piece.evidence.bad(), None);
        assert!(piece.evidence.wants_sums());
        piece.copy(&[(1, false); 2]);
        assert_eq!(piece.evidence.bad(), Some((1, STRIKES)));
        piece.copy(&[(3, true); 2]);
        assert_eq!(piece.verdicts(), []);
    }

    #[test]
    fn too_many_to_tell_apart() {
        let mut piece = Piece::new();
        let table = [
            (1, true),
            (2, false),
            (3, true),
            (4, false),
            (5, false),
            (2, true),
        ];
        piece.copy(&table);
        assert_eq!(piece.evidence.bad(), None);
        piece.copy(&[(1, true); 6]);
        assert_eq!(piece.verdicts(), [Proven(2, STRIKES)]);
    }
}
