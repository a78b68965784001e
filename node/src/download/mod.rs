//! The download side: it requests blocks and receives them, until the piece that they belong to is verified.
//!
//! | module | what it holds or decides |
//! |---|---|
//! | `requester` | which block is requested from which peer |
//! | `offers` | what peers say about serving us: choke, unchoke, the Fast extension |
//! | `receiver` | a block from its first byte until its piece is verified |
//! | `metadata` | the metadata of torrents of which only the info-hash is known |
//! | `slow_peers` | blocks that do not come, and the peers that owe them |
//! | [`pending_blocks`] | blocks that were requested and are not written yet |
//! | [`pieces_in_progress`] | pieces of which some blocks are here |
//! | [`picker`] | which piece to begin |
//! | `availability` | which peer has which piece |
//! | `evidence` | who sent which block of a piece that turned out bad |

pub(crate) mod availability;
pub(crate) mod evidence;
pub(crate) mod metadata;
pub(crate) mod offers;
pub(crate) mod pending_blocks;
pub(crate) mod picker;
pub(crate) mod pieces_in_progress;
pub(crate) mod receiver;
pub(crate) mod requester;
pub(crate) mod slow_peers;

#[cfg(test)]
mod tests;

use everseed_core::pool::Pool;
use everseed_core::sums::Secret;
use everseed_core::time::Instant;

use crate::download::availability::Availability;
use crate::download::pending_blocks::PendingBlocks;
use crate::download::pieces_in_progress::PiecesInProgress;
use crate::rate::Bucket;

/// See the module.
#[derive(Debug)]
pub(crate) struct Download<'m> {
    /// The memory of blocks from their request until they are written.
    pub(crate) blocks: Pool<'m>,
    pub(crate) pending: PendingBlocks<'m>,
    /// Blocks that the host is to write.
    pub(crate) writes: pending_blocks::PendingList,
    pub(crate) in_progress: PiecesInProgress<'m>,
    pub(crate) availability: Availability<'m>,
    /// The key of the sums by which copies of a block are compared.
    pub(crate) secret: Secret,
    /// Peers among whom the blocks are shared out: those that serve us and are neither slow nor snub us.
    pub(crate) active_sources: u16,
    /// How much may be requested.
    pub(crate) rate: Bucket,
    /// Bytes of blocks that came.
    pub(crate) downloaded: u64,
    /// Until when no slow peer is looked for that holds blocks.
    pub(crate) none_slow_until: Instant,
}
