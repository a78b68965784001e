//! [`Scratch`]: the buffers of the worker, and the hashes of pieces that are being written.

use std::thread::JoinHandle;

use everseed_core::geometry::{PieceIndex, TorrentId};
use everseed_disk::check::PieceStart;

use super::task::Block;

/// Buffers that the thread uses again and again.
pub(super) struct Scratch {
    pub(super) bytes: Vec<u8>,
    /// Pieces whose first blocks were hashed while they were written, the latest last.
    pub(super) begun: Vec<(TorrentId, PieceIndex, PieceStart)>,
    pub(super) batch: Vec<Block>,
    /// Writes down how far a check has come.
    pub(super) keeper: Option<JoinHandle<()>>,
}

impl Scratch {
    /// Hashes a written block, if the blocks before it in its piece were hashed too.
    pub(super) fn hash(&mut self, block: &Block) {
        let geometry = block.content.geometry();
        let Some(piece) = geometry.piece_at(block.span.offset) else {
            return;
        };
        let at = block.span.offset - geometry.piece_offset(piece);
        let same = |(torrent, other, _): &&mut (TorrentId, PieceIndex, PieceStart)| {
            *torrent == block.span.torrent && *other == piece
        };
        let known = self.begun.iter_mut().find(same);
        match known {
            // The piece begins again: it was bad, or given up.
            Some((_, _, begun)) if at == 0 => *begun = PieceStart::default(),
            Some((_, _, begun)) if begun.len() == at => {}
            None if at == 0 => {
                if self.begun.len() == BEGUN {
                    self.begun.remove(0);
                }
                self.begun
                    .push((block.span.torrent, piece, PieceStart::default()));
            }
            _ => return,
        }
        let known = self.begun.iter_mut().find(same);
        if let Some((_, _, begun)) = known {
            begun.update(block.bytes());
        }
    }

    /// The partial hash of a piece.
    pub(super) fn take(&mut self, torrent: TorrentId, piece: PieceIndex) -> PieceStart {
        let same = |(t, p, _): &(TorrentId, PieceIndex, PieceStart)| *t == torrent && *p == piece;
        match self.begun.iter().position(same) {
            Some(index) => self.begun.remove(index).2,
            None => PieceStart::default(),
        }
    }
}

/// The most pieces that are hashed while they are written. Others are read back.
pub(super) const BEGUN: usize = 32;
