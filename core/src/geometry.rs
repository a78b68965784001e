//! Pieces, blocks and spans: the only index arithmetic in the project (BEP 3).
//!
//! Numbers from outside become a [`PieceIndex`] or a [`Span`] here, once, and are in range from then on.

use serde::{Deserialize, Serialize};

/// The size of a block in bytes: what one `request` asks for. BEP 3 lets implementations close
/// connections that ask for more.
pub const BLOCK: u32 = 16 * 1024;

/// The longest piece: 512 MiB.
pub const MAX_PIECE: u32 = 512 * 1024 * 1024;

/// The largest torrent: 2^50 bytes, one pebibyte. It keeps every sum of offsets far from overflow.
pub const MAX_TOTAL: u64 = 1 << 50;

/// The index of a piece that exists in the torrent it was made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The bare number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A torrent's slot in the node and the tenancy that it was given for; a stale id matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct TorrentId {
    /// Index of the slot.
    pub slot: u16,
    /// How often the slot had been let before.
    pub tenancy: u16,
}

/// A range of a torrent's content, files laid end to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The torrent.
    pub torrent: TorrentId,
    /// Bytes from the start of its content.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// A block as a `request`, `piece`, `cancel` or `reject` names it, still unchecked (BEP 3, BEP 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRef {
    /// Piece index as sent.
    pub index: u32,
    /// Bytes from the start of the piece.
    pub begin: u32,
    /// Bytes.
    pub len: u32,
}

/// How a torrent's content is cut.
///
/// Invariants: `1 <= piece_len <= MAX_PIECE`, `1 <= total <= MAX_TOTAL`, and the number of pieces
/// fits in `u32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "(u64, u32)", into = "(u64, u32)")]
pub struct Geometry {
    total: u64,
    piece_len: u32,
}

impl From<Geometry> for (u64, u32) {
    fn from(geometry: Geometry) -> (u64, u32) {
        (geometry.total, geometry.piece_len)
    }
}

impl TryFrom<(u64, u32)> for Geometry {
    type Error = GeometryError;

    fn try_from((total, piece_len): (u64, u32)) -> Result<Geometry, GeometryError> {
        Geometry::new(total, piece_len.into())
    }
}

/// Why two numbers are no [`Geometry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GeometryError {
    /// The piece length is 0 or above [`MAX_PIECE`].
    PieceLength,
    /// The content is empty or above [`MAX_TOTAL`].
    Total,
    /// There are more pieces than the peer wire can number.
    TooManyPieces,
}

impl core::fmt::Display for GeometryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            GeometryError::PieceLength => "its piece length is zero or above 512 MiB",
            GeometryError::Total => "its content is empty or larger than a pebibyte",
            GeometryError::TooManyPieces => "it has too many pieces",
        })
    }
}

impl Geometry {
    /// Content of `total` bytes in pieces of `piece_len` bytes, the last one shorter.
    pub fn new(total: u64, piece_len: u64) -> Result<Geometry, GeometryError> {
        let piece_len = u32::try_from(piece_len).map_err(|_| GeometryError::PieceLength)?;
        if piece_len == 0 || piece_len > MAX_PIECE {
            return Err(GeometryError::PieceLength);
        }
        if total == 0 || total > MAX_TOTAL {
            return Err(GeometryError::Total);
        }
        u32::try_from(total.div_ceil(u64::from(piece_len)))
            .map_err(|_| GeometryError::TooManyPieces)?;
        Ok(Geometry { total, piece_len })
    }

    /// Bytes of content.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of every piece but the last.
    pub const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// Number of pieces.
    #[allow(clippy::cast_possible_truncation)] // `new` checked it.
    pub const fn pieces(&self) -> u32 {
        self.total.div_ceil(self.piece_len as u64) as u32
    }

    /// The piece of this number, if there is one.
    pub const fn piece(&self, index: u32) -> Option<PieceIndex> {
        if index < self.pieces() {
            Some(PieceIndex(index))
        } else {
            None
        }
    }

    /// Every piece in order.
    pub fn all_pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.pieces()).map(PieceIndex)
    }

    /// Where a piece starts, in bytes from the start of the content.
    pub const fn piece_offset(&self, piece: PieceIndex) -> u64 {
        (piece.0 as u64).saturating_mul(self.piece_len as u64)
    }

    /// Bytes of this piece: [`piece_len`](Self::piece_len), or less for the last.
    #[allow(clippy::cast_possible_truncation)] // The smaller of the two is a u32.
    pub const fn piece_size(&self, piece: PieceIndex) -> u32 {
        let rest = self.total.saturating_sub(self.piece_offset(piece));
        if rest < self.piece_len as u64 {
            rest as u32
        } else {
            self.piece_len
        }
    }

    /// The piece that holds the byte at `offset`, if the content reaches that far.
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        if offset >= self.total {
            return None;
        }
        let index = offset.checked_div(u64::from(self.piece_len))?;
        self.piece(u32::try_from(index).ok()?)
    }

    /// Checks a block against the content: where it starts, and the piece it lies in.
    ///
    /// `None` when the piece does not exist, the block is empty or it reaches past the piece's end.
    pub fn locate(&self, block: BlockRef) -> Option<(PieceIndex, u64)> {
        let piece = self.piece(block.index)?;
        let end = block.begin.checked_add(block.len)?;
        if block.len == 0 || end > self.piece_size(piece) {
            return None;
        }
        Some((
            piece,
            self.piece_offset(piece)
                .checked_add(u64::from(block.begin))?,
        ))
    }

    /// Bytes of a bitfield with one bit per piece (BEP 3).
    pub const fn bitfield_len(&self) -> u32 {
        self.pieces().div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_has_no_shape() {
        let cases = [
            (1, 0, GeometryError::PieceLength),
            (1, u64::from(MAX_PIECE) + 1, GeometryError::PieceLength),
            (1, u64::MAX, GeometryError::PieceLength),
            (0, 1, GeometryError::Total),
            (MAX_TOTAL + 1, 1 << 20, GeometryError::Total),
            (1 << 33, 1, GeometryError::TooManyPieces),
        ];
        for (total, piece_len, error) in cases {
            assert_eq!(
                Geometry::new(total, piece_len),
                Err(error),
                "{total} {piece_len}"
            );
        }
    }

    #[test]
    fn last_piece_is_short() {
        let g = Geometry::new(100, 32).unwrap();
        assert_eq!(g.pieces(), 4);
        assert_eq!(g.bitfield_len(), 1);
        let sizes = [32, 32, 32, 4];
        for (piece, size) in g.all_pieces().zip(sizes) {
            assert_eq!(g.piece_size(piece), size);
        }
        assert_eq!(g.piece(4), None);
        assert_eq!(g.piece_at(99).map(PieceIndex::get), Some(3));
        assert_eq!(g.piece_at(100), None);
        let exact = Geometry::new(64, 32).unwrap();
        assert_eq!(exact.pieces(), 2);
        assert_eq!(exact.piece_size(exact.piece(1).unwrap()), 32);
    }

    #[test]
    fn locates_only_what_exists() {
        let g = Geometry::new(100, 32).unwrap();
        let at = |index, begin, len| {
            g.locate(BlockRef { index, begin, len })
                .map(|(piece, offset)| (piece.get(), offset))
        };
        assert_eq!(at(0, 0, 32), Some((0, 0)));
        assert_eq!(at(1, 30, 2), Some((1, 62)));
        assert_eq!(at(3, 0, 4), Some((3, 96)));
        for (index, begin, len) in [
            (3, 0, 5),
            (4, 0, 1),
            (0, 0, 0),
            (0, 32, 1),
            (0, 1, 32),
            (0, u32::MAX, 2),
            (u32::MAX, 0, 1),
        ] {
            assert_eq!(at(index, begin, len), None, "{index} {begin} {len}");
        }
    }

    #[test]
    fn a_pebibyte_in_the_largest_pieces() {
        let g = Geometry::new(MAX_TOTAL, u64::from(MAX_PIECE)).unwrap();
        assert_eq!(g.pieces(), 1 << 21);
        let last = g.piece(g.pieces() - 1).unwrap();
        assert_eq!(
            g.piece_offset(last) + u64::from(g.piece_size(last)),
            MAX_TOTAL
        );
    }
}
