//! Received requests for blocks (BEP 3, BEP 6) and for pieces of the metadata (BEP 9).

use everseed_core::geometry::BlockRef;
use everseed_core::metadata;

use crate::context::Context;
use crate::peer::Reason;
use crate::upload::Upload;
use crate::upload::request_queue::{MAX_PER_PEER, ReplyKind};
use crate::upload::suggest::suggest;

type Verdict = Result<(), Reason>;

impl Upload<'_> {
    /// Takes a request.
    pub(crate) fn request(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        block: BlockRef,
    ) -> Verdict {
        let Some(torrent) = cx.torrent_of(slot) else {
            return Err(Reason::BadRequest);
        };
        let content = torrent.geometry.filter(|_| !torrent.lacks_metadata());
        let located = content.and_then(|g| g.locate(block));
        let Some((piece, _)) = located.filter(|_| block.len <= everseed_core::geometry::BLOCK)
        else {
            return Err(Reason::BadRequest);
        };
        let had = cx.torrents.contains(torrent.have, piece);
        let conn = &mut cx.peers[slot];
        let reject = !conn.upload.unchoked || !had;
        if reject && !conn.link.features.fast {
            // Requests that crossed our choke are dropped without a word (BEP 3).
            return if conn.upload.unchoked {
                Err(Reason::MissingPiece)
            } else {
                Ok(())
            };
        }
        if conn.upload.requests.len() == 0 {
            (conn.link.last_sent_at, conn.upload.offered_at) = (cx.now, None);
        }
        let hinted = conn.upload.last_suggested == Some(block.index);
        let again = conn.upload.recent_pieces.contains(&block.index);
        // Of those who are interested, `readable` let in no more than fit; others have themselves to
        // blame for what is not answered.
        if !conn.upload.interested && conn.upload.requests.len() >= MAX_PER_PEER {
            return Ok(());
        }
        let kind = if reject {
            ReplyKind::Reject
        } else {
            ReplyKind::Piece
        };
        self.queue.push(&mut conn.upload.requests, block, kind);
        if again {
            self.suspect(cx, slot, piece);
        }
        if hinted {
            suggest(cx, slot);
        }
        Ok(())
    }

    /// Takes a request back; under Fast it is still answered, by a reject (BEP 6).
    pub(crate) fn cancel(&mut self, cx: &mut Context<'_>, slot: usize, block: BlockRef) -> Verdict {
        let conn = &mut cx.peers[slot];
        if conn.link.features.fast {
            self.queue.reject(&conn.upload.requests, Some(block));
        } else {
            self.queue.remove(&mut conn.upload.requests, block);
        }
        Ok(())
    }

    /// A request for a piece of `info` (BEP 9). Who asks for all of it again and again is ignored
    /// after the fourth time.
    pub(crate) fn metadata_request(&mut self, cx: &mut Context<'_>, slot: usize, piece: u32) {
        let len = cx.torrent_of(slot).and_then(|t| t.metadata_len);
        let conn = &mut cx.peers[slot];
        let pieces = len.unwrap_or(0).div_ceil(metadata::METADATA_PIECE);
        if conn.extensions.ut_metadata == 0
            || conn.extensions.metadata_requests >= pieces.saturating_add(1) * 4
        {
            return;
        }
        conn.extensions.metadata_requests += 1;
        let block = BlockRef {
            index: piece,
            begin: 0,
            len: 0,
        };
        // If the pool is used up it is ignored too: who needs `info` asks again.
        self.queue
            .push(&mut conn.upload.requests, block, ReplyKind::Metadata);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::api::Have;
    use crate::parts::small::{first_block, parts, peer};
    use crate::upload::request_queue::RequestQueue;

    #[test]
    fn a_request_that_is_cancelled() {
        // Whether the peer speaks Fast, the piece that it cancels: the requests that are left, and how they are answered.
        for (fast, index, left) in [
            (
                true,
                0,
                &[(0, ReplyKind::Reject), (1, ReplyKind::Piece)][..],
            ),
            (false, 0, &[(1, ReplyKind::Piece)][..]),
            (true, 5, &[(0, ReplyKind::Piece), (1, ReplyKind::Piece)][..]),
            (
                false,
                5,
                &[(0, ReplyKind::Piece), (1, ReplyKind::Piece)][..],
            ),
        ] {
            let (mut parts, id) = parts(Have::All);
            let (upload, cx) = (&mut parts.upload, &mut parts.cx);
            let slot = peer(cx, id, fast);
            cx.peers[slot].upload.unchoked = true;
            for index in 0..2 {
                assert_eq!(upload.request(cx, slot, first_block(index)), Ok(()));
            }
            assert_eq!(upload.cancel(cx, slot, first_block(index)), Ok(()));
            let list = &mut cx.peers[slot].upload.requests;
            for &(index, kind) in left {
                let queued = upload.queue.at(list.front());
                let queued = queued.map(|(block, kind, _)| (block.index, kind));
                assert_eq!(queued, Some((index, kind)), "fast {fast}");
                upload.queue.pop(list);
            }
            assert_eq!(list.len(), 0, "fast {fast}");
        }
    }

    #[test]
    fn whoever_is_not_interested_has_few_requests_queued() {
        for (interested, queued) in [(true, 400), (false, MAX_PER_PEER)] {
            let (mut parts, id) = parts(Have::All);
            let (upload, cx) = (&mut parts.upload, &mut parts.cx);
            upload.queue = RequestQueue::new(std::vec![[0; 4]; 500].leak());
            let slot = peer(cx, id, true);
            let side = &mut cx.peers[slot].upload;
            (side.unchoked, side.interested) = (true, interested);
            for n in 0..400 {
                assert_eq!(upload.request(cx, slot, first_block(n % 8)), Ok(()));
            }
            assert_eq!(cx.peers[slot].upload.requests.len(), queued);
        }
    }
}
