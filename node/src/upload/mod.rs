//! The upload side: requests of peers wait in a queue; the choker and the rate limit decide which are served next.

pub(crate) mod choker;
pub(crate) mod choking;
pub(crate) mod request_queue;
pub(crate) mod requests;
pub(crate) mod slots;
pub(crate) mod speed;
pub(crate) mod suggest;
pub(crate) mod suspicion;

#[cfg(test)]
mod tests;

use everseed_core::geometry::{PieceIndex, TorrentId};
use everseed_core::time::Instant;

use crate::api::Limits;
use crate::rate::Bucket;
use crate::upload::request_queue::{Request, RequestQueue};
use crate::upload::speed::Speed;

/// See the module.
#[derive(Debug)]
pub(crate) struct Upload<'m> {
    pub(crate) queue: RequestQueue<'m>,
    /// Scratch of the choker.
    pub(crate) ranks: &'m mut [u16],
    /// How much may be sent.
    pub(crate) rate: Bucket,
    /// Peers that are served at a time.
    pub(crate) slots: u16,
    /// Bytes of blocks that were sent, and how fast they go out.
    pub(crate) uploaded: u64,
    pub(crate) speed: Speed,
    /// When the next choking round is, and how many there were.
    pub(crate) next_round: Instant,
    pub(crate) rounds: u32,
    /// When to see whether a newcomer that waits can have a slot.
    pub(crate) next_turn: Option<Instant>,
    /// The connection to which content was sent last.
    pub(crate) last_served: u16,
    /// The piece that a peer seems to find damaged, and when the next one may be looked at.
    pub(crate) suspect: Option<(TorrentId, PieceIndex)>,
    pub(crate) next_suspicion: Instant,
}

impl<'m> Upload<'m> {
    pub(crate) fn new(
        requests: &'m mut [Request],
        ranks: &'m mut [u16],
        limits: &Limits,
    ) -> Upload<'m> {
        let mut upload = Upload {
            queue: RequestQueue::new(requests),
            ranks,
            rate: Bucket::new(limits.upload_bps),
            slots: 1,
            uploaded: 0,
            speed: Speed::UNKNOWN,
            next_round: Instant::ZERO,
            rounds: 0,
            next_turn: None,
            last_served: 0,
            suspect: None,
            next_suspicion: Instant::ZERO,
        };
        upload.slots = upload.suitable_slots(limits);
        upload
    }
}
