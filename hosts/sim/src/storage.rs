//! The storage of one node. It knows what every block should be.
//!
//! It keeps only a mark of each block. It can be full or slow, write wrong bytes, and lose what was not synced.

use everseed_core::geometry::{BLOCK, Geometry, PieceIndex, Span};

/// The length of a mark: the bytes at the start of a block, which are different for each block.
pub const MARK: u64 = 8;

/// The byte of the content at `offset`, which is in a mark.
pub fn content(offset: u64) -> u8 {
    let block = offset / u64::from(BLOCK);
    let mixed = (block + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[usize::try_from(offset % MARK).unwrap_or(0)]
}

/// The state of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    Missing,
    Good,
    Bad,
}

/// One node's disk.
#[derive(Clone, Debug)]
pub struct Storage {
    geometry: Geometry,
    blocks: Vec<Block>,
    /// The state of each block at the last sync.
    synced: Vec<Block>,
    /// The number of blocks that can still be written; `None` is no limit.
    pub room: Option<u32>,
    /// One write of this many puts wrong bytes on the disk; `None`: no write does.
    pub spoils: Option<u32>,
    /// Whether a write ever did so.
    pub spoilt: bool,
    /// The time to write a block or to verify a piece, in microseconds.
    pub slow: u64,
    writes: u32,
}

impl Storage {
    /// A disk without any block, or with all of them. Each piece is a whole number of blocks.
    pub fn new(geometry: Geometry, complete: bool) -> Storage {
        let count = geometry.total().div_ceil(u64::from(BLOCK));
        let block = if complete {
            Block::Good
        } else {
            Block::Missing
        };
        let blocks = vec![block; usize::try_from(count).unwrap_or(0)];
        Storage {
            geometry,
            synced: blocks.clone(),
            blocks,
            room: None,
            spoils: None,
            spoilt: false,
            slow: 0,
            writes: 0,
        }
    }

    /// Writes a block. Returns false if the disk is full.
    pub fn write(&mut self, span: Span, bytes: &[u8]) -> bool {
        match &mut self.room {
            Some(0) => return false,
            Some(room) => *room -= 1,
            None => {}
        }
        let mark = (span.offset..).zip(bytes).take(MARK as usize);
        self.writes += 1;
        let spoiled = self.spoils.is_some_and(|n| self.writes.is_multiple_of(n));
        self.spoilt |= spoiled;
        let good = !spoiled && mark.into_iter().all(|(at, &byte)| byte == content(at));
        if let Some(block) = self.blocks.get_mut(index(span.offset)) {
            *block = if good { Block::Good } else { Block::Bad };
        }
        true
    }

    /// Whether a piece has the right hash.
    pub fn verify(&self, piece: PieceIndex) -> bool {
        let start = self.geometry.piece_offset(piece);
        let end = start + u64::from(self.geometry.piece_size(piece));
        let blocks = (start..end).step_by(BLOCK as usize);
        blocks.into_iter().all(|at| self.is_good(at))
    }

    /// Whether the block at `offset` is what it should be.
    pub fn is_good(&self, offset: u64) -> bool {
        self.blocks.get(index(offset)) == Some(&Block::Good)
    }

    /// Syncs: all blocks survive a crash.
    pub fn sync(&mut self) {
        self.synced.clone_from(&self.blocks);
    }

    /// The power fails: blocks that were not synced are lost, or wrong with `spoil`.
    pub fn crash(&mut self, mut spoil: impl FnMut() -> bool) {
        for (now, durable) in self.blocks.iter_mut().zip(&self.synced) {
            if now != durable {
                *now = if spoil() { Block::Bad } else { *durable };
            }
        }
        self.sync();
    }

    /// A bit for each piece, in wire order: whether all of it is there, as a check at the start finds.
    pub fn check(&self) -> Vec<u8> {
        let mut bits = vec![0; self.geometry.bitfield_len() as usize];
        for piece in self.geometry.all_pieces().filter(|&p| self.verify(p)) {
            everseed_core::bits::set(&mut bits, piece.get());
        }
        bits
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset / u64::from(BLOCK)).unwrap_or(usize::MAX)
}
