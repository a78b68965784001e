//! Blocks are requested and received here, until the piece that they belong to is verified.
//!
//! | module | what it holds or decides |
//! |---|---|
//! | `requester` | which block is requested from which peer |
//! | `offers` | what peers say about serving us: choke, unchoke, the Fast extension |
//! | `receiver` | a block from its first byte until its piece is verified |
//! | `slow_peers` | blocks that do not come, and the peers that owe them |
//! | [`pending_blocks`] | blocks that were requested and are not written yet |
//! | [`pieces_in_progress`] | pieces of which some blocks are here |
//! | [`picker`] | which piece to begin |
//! | `availability` | which peer has which piece |
//! | `evidence` | who sent which block of a piece that turned out bad |

pub(crate) mod availability;
pub(crate) mod evidence;
pub(crate) mod offers;
pub(crate) mod pending_blocks;
pub(crate) mod picker;
pub(crate) mod pieces_in_progress;
pub(crate) mod receiver;
pub(crate) mod requester;
pub(crate) mod slow_peers;
