//! [`DownloadSide`] of a connection: what the peer has, what we requested from it, what it sends.

use core::time::Duration;

use everseed_core::geometry::{BLOCK, BlockRef};
use everseed_core::time::Instant;

use crate::download::pending_blocks;
use crate::memory::ids::NONE;
use crate::memory::ranges::LentRange;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct DownloadSide {
    /// How many pieces the peer has.
    pub(crate) have_count: u32,
    /// Which pieces it has, while the torrent is downloaded.
    pub(crate) has: Has,
    /// Whether it said of its pieces what could not be kept, as it is not known yet how many there are.
    pub(crate) unkept: bool,
    /// Whether it has what we want; the outbox knows what it was told.
    pub(crate) interested: bool,
    /// Whether it serves us.
    pub(crate) unchoked: bool,
    /// Blocks that were requested from it.
    pub(crate) pending: pending_blocks::PendingList,
    /// The pending block that it is sending.
    pub(crate) receiving: u16,
    /// The piece in progress that was requested from it last.
    pub(crate) last_partial: u16,
    /// How many blocks to request at a time.
    pub(crate) pipeline: u16,
    /// How many requests it keeps (BEP 10).
    pub(crate) reqq: u16,
    /// Blocks that may come though we do not wait for them any more.
    pub(crate) excused: u16,
    /// Bytes of blocks that came unrequested.
    pub(crate) unrequested: u32,
    /// Requests to cancel.
    pub(crate) cancels: heapless::Vec<BlockRef, CANCELS>,
    /// Pieces that it serves though it chokes us, and one that it suggests (BEP 6).
    pub(crate) allowed_fast: heapless::Vec<u32, ALLOWED_FAST>,
    pub(crate) suggested: Option<u32>,
    /// Bytes of blocks that came from it, how many at the last choking rounds, and at the last sweep.
    pub(crate) downloaded: u64,
    pub(crate) downloaded_before: [u64; 2],
    pub(crate) downloaded_swept: u64,
    /// Whether it has not sent for a minute what was requested (BEP 3, anti-snubbing).
    pub(crate) snubbed: bool,
    /// Whether it is so slow that it has no share of the blocks.
    pub(crate) slow: bool,
    /// Whether something was requested and no block came since.
    pub(crate) owes: bool,
    /// Good pieces that its address had a share in.
    pub(crate) good_pieces: u32,
    /// How often it took back what it had offered, see `offers`.
    pub(crate) retractions: u8,
    /// When a block came from it last, or when something was requested after a pause.
    pub(crate) last_block_at: Instant,
}

/// The pieces that a peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Has {
    /// Nothing that is remembered.
    Nothing,
    /// All.
    All,
    /// The bits of this range.
    Some(LentRange),
}

/// Requests to cancel that are remembered. Blocks that were requested beyond this count may still arrive.
const CANCELS: usize = 4;

/// Pieces allowed fast that are remembered.
const ALLOWED_FAST: usize = 8;

/// Blocks that are requested at once, to begin with and at least.
pub(crate) const PIPELINE_MIN: u16 = 4;

/// A pipeline holds as many blocks as the peer sends in this time. It is long enough once blocks take so long to come.
pub(crate) const PIPELINE_TIME: Duration = Duration::from_secs(2);

/// How many requests a peer keeps that does not say so.
const REQQ_UNTOLD: u16 = 250;

impl DownloadSide {
    pub(crate) const EMPTY: DownloadSide = DownloadSide {
        have_count: 0,
        has: Has::Nothing,
        unkept: false,
        interested: false,
        unchoked: false,
        pending: pending_blocks::PendingList::EMPTY,
        receiving: NONE,
        last_partial: NONE,
        pipeline: PIPELINE_MIN,
        reqq: REQQ_UNTOLD,
        excused: 0,
        unrequested: 0,
        cancels: heapless::Vec::new(),
        allowed_fast: heapless::Vec::new(),
        suggested: None,
        downloaded: 0,
        downloaded_before: [0; 2],
        downloaded_swept: 0,
        snubbed: false,
        slow: false,
        owes: false,
        good_pieces: 0,
        retractions: 0,
        last_block_at: Instant::ZERO,
    };

    /// Whether it may be asked for its share of the blocks.
    pub(crate) fn shares(&self) -> bool {
        self.unchoked && self.interested && !self.snubbed && !self.slow
    }

    /// Lengthens the pipeline as a block arrived, so long after its request. TCP may double the bytes under way in each
    /// round trip. If the pipeline grew by one for each block, the sender would wait for requests: so it grows by two
    /// while it is short. If less than half of it is used it does not grow, as nothing is learned then.
    pub(crate) fn lengthen_pipeline(&mut self, took: Duration) {
        let more = match took {
            _ if self.pending.len < self.pipeline / 2 => 0,
            _ if 2 * took < PIPELINE_TIME => 2,
            _ => u16::from(took < PIPELINE_TIME),
        };
        self.pipeline = self.pipeline.saturating_add(more);
    }

    /// Shortens the pipeline to what the peer sent of late: `came` bytes in `period`. It is left alone while the oldest
    /// request is younger than [`PIPELINE_TIME`], as `period` then reaches back to before it began.
    pub(crate) fn shorten_pipeline(
        &mut self,
        came: u64,
        period: Duration,
        oldest: Option<Duration>,
    ) {
        if oldest.is_some_and(|oldest| oldest < PIPELINE_TIME) {
            return;
        }
        let blocks = PIPELINE_TIME.as_secs() * came / u64::from(BLOCK) / period.as_secs().max(1);
        let most = u16::try_from(blocks).unwrap_or(u16::MAX);
        self.pipeline = self.pipeline.min(most.saturating_add(PIPELINE_MIN));
    }

    /// Bytes of blocks that came from it in the last two choking rounds.
    pub(crate) fn recent(&self) -> u64 {
        self.downloaded - self.downloaded_before[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pending blocks and how long each takes, and the pipeline after one, two and eight of them.
    #[test]
    fn a_pipeline_grows_while_its_blocks_come_soon() {
        for (pending, took_ms, expected) in [
            (4, 100, [6, 8, 10]),
            (8, 100, [6, 8, 18]),
            (250, 100, [6, 8, 20]),
            (250, 999, [6, 8, 20]),
            (250, 1_000, [5, 6, 12]),
            (250, 1_999, [5, 6, 12]),
            (250, 2_000, [4, 4, 4]),
            (1, 100, [4, 4, 4]),
            (2, 100, [6, 6, 6]),
        ] {
            let mut side = DownloadSide::EMPTY;
            side.pending.len = pending;
            let mut lengths = heapless::Vec::<u16, 8>::new();
            for _ in 0..8 {
                side.lengthen_pipeline(Duration::from_millis(took_ms));
                lengths.push(side.pipeline).unwrap();
            }
            let is = [lengths[0], lengths[1], lengths[7]];
            assert_eq!(is, expected, "{pending} pending, {took_ms} ms");
        }
    }

    /// What is sent at a time in the rounds of a TCP connection, which double, is never waited for.
    #[test]
    fn requests_are_ahead_of_slow_start() {
        let mut side = DownloadSide::EMPTY;
        // Bytes: requested, sent, and sent in the last round.
        let block = u64::from(BLOCK);
        let (mut requested, mut sent, mut round) = (0, 0, 10 * 1448);
        for _ in 0..9 {
            // As in `request_blocks`, there may be a quarter less than there should be.
            let least = u64::from(side.pipeline - side.pipeline.div_ceil(4)) * block;
            requested = requested.max(sent / block * block + least);
            assert!(requested >= sent + round, "{sent} sent, {round} at a time");
            side.pending.len = side.pipeline;
            for _ in sent / block..(sent + round) / block {
                side.lengthen_pipeline(Duration::from_millis(100));
                side.pending.len = side.pipeline;
            }
            (sent, round) = (sent + round, 2 * round);
        }
        assert!(round > 250 * block, "{round}");
    }

    #[test]
    fn a_pipeline_is_cut_to_what_came() {
        let seconds = Duration::from_secs;
        for (pipeline, came, oldest, expected) in [
            // Idle, or sending for longer.
            (250, 0, None, PIPELINE_MIN),
            (250, 100, None, 44),
            (20, 100, None, 20),
            (250, 100, Some(seconds(2)), 44),
            (250, 0, Some(seconds(9)), PIPELINE_MIN),
            // Blocks come soon.
            (250, 100, Some(seconds(1)), 250),
        ] {
            let mut side = DownloadSide {
                pipeline,
                ..DownloadSide::EMPTY
            };
            side.shorten_pipeline(came * u64::from(BLOCK), seconds(5), oldest);
            assert_eq!(side.pipeline, expected, "{pipeline} {came} {oldest:?}");
        }
    }
}
