//! Requests that wait to be served: one pool for all connections, a list for each.
//!
//! A slot is 16 bytes, so a few thousand requests cost less than one peer's socket buffers. Whoever
//! is slow to read fills only its share, see `RequestQueue::quota`.

use crate::memory::ids::NONE;
use everseed_core::geometry::BlockRef;

/// A lent slot for one queued request, of zeros while it is unused. They are plain numbers because a
/// host has zeros from its system without touching them: a slot that is never used takes no memory.
pub(crate) type Request = [u32; 4];

/// A request as it stands in a slot.
#[derive(Clone, Copy)]
struct QueuedRequest {
    block: BlockRef,
    kind: ReplyKind,
    next: u16,
}

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReplyKind {
    /// The block.
    Piece,
    /// A reject of the block (BEP 6).
    Reject,
    /// The piece of `info` that is the block's index (BEP 9).
    Metadata,
}

impl QueuedRequest {
    fn pack(self) -> Request {
        let BlockRef { index, begin, len } = self.block;
        [
            index,
            begin,
            len,
            (self.kind as u32) << 16 | u32::from(self.next),
        ]
    }

    fn unpack([index, begin, len, rest]: Request) -> QueuedRequest {
        QueuedRequest {
            block: BlockRef { index, begin, len },
            kind: match rest >> 16 {
                0 => ReplyKind::Piece,
                1 => ReplyKind::Reject,
                _ => ReplyKind::Metadata,
            },
            next: (rest & 0xffff) as u16,
        }
    }
}

/// The requests of one connection, oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestList {
    head: u16,
    tail: u16,
    len: u16,
}

impl RequestList {
    pub(crate) const EMPTY: RequestList = RequestList {
        head: NONE,
        tail: NONE,
        len: 0,
    };

    pub(crate) fn len(&self) -> u16 {
        self.len
    }

    /// Where the list begins, for [`RequestQueue::at`].
    pub(crate) fn front(&self) -> u16 {
        self.head
    }
}

/// How many requests of one peer are kept here: enough for 100 Mbit/s over 300 ms.
pub(crate) const MAX_PER_PEER: u16 = 250;

/// How many requests a peer may leave unanswered, as it is told (BEP 10). What is more than
/// [`MAX_PER_PEER`] waits unread in the socket, 17 bytes each. Transmission 3.00 asks for so many
/// once a second and then waits, so 250 would be 4 MB/s at most for it.
pub(crate) const REQQ: u16 = 2000;

/// All slots.
///
/// Invariant: the lengths of all lists and `free` add up to `slots.len()`.
#[derive(Debug)]
pub(crate) struct RequestQueue<'m> {
    slots: &'m mut [Request],
    /// The first slot that was never used; those before it that are free are a list.
    unused: u16,
    vacant: u16,
    free: u16,
}

impl<'m> RequestQueue<'m> {
    pub(crate) fn new(slots: &'m mut [Request]) -> RequestQueue<'m> {
        let len = slots.len().min(usize::from(NONE));
        let (slots, _) = slots.split_at_mut(len);
        RequestQueue {
            slots,
            unused: 0,
            vacant: NONE,
            #[allow(clippy::cast_possible_truncation)] // At most `NONE`, as cut above.
            free: len as u16,
        }
    }

    /// How many more requests the owner of `list` may queue now. All of them together are up to [`MAX_PER_PEER`]
    /// while half of the pool is free, then an equal share of half the pool. `slots` is the number of upload slots.
    pub(crate) fn quota(&self, list: &RequestList, slots: u16) -> u16 {
        #[allow(clippy::cast_possible_truncation)] // Cut to `NONE` in `new`.
        let half = (self.slots.len() / 2) as u16;
        let cap = if self.free >= half {
            MAX_PER_PEER
        } else {
            (half / slots.max(1)).clamp(MIN_SHARE, MAX_PER_PEER)
        };
        cap.saturating_sub(list.len).min(self.free)
    }

    /// All slots.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slots that are free.
    pub(crate) fn free(&self) -> usize {
        usize::from(self.free)
    }

    /// Whether a request could be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.free > 0
    }

    /// Appends a request; false when no slot is left.
    pub(crate) fn push(
        &mut self,
        list: &mut RequestList,
        block: BlockRef,
        kind: ReplyKind,
    ) -> bool {
        if self.free == 0 {
            return false;
        }
        self.free -= 1;
        let slot = match self.get(self.vacant) {
            Some(free) => core::mem::replace(&mut self.vacant, free.next),
            None => {
                self.unused += 1;
                self.unused - 1
            }
        };
        let entry = QueuedRequest {
            block,
            kind,
            next: NONE,
        };
        self.change(slot, |request| *request = entry);
        if !self.change(list.tail, |tail| tail.next = slot) {
            list.head = slot;
        }
        list.tail = slot;
        list.len += 1;
        true
    }

    /// Takes the oldest request.
    pub(crate) fn pop(&mut self, list: &mut RequestList) {
        let slot = list.head;
        let Some(request) = self.get(slot) else {
            return;
        };
        list.head = request.next;
        list.len -= 1;
        if list.head == NONE {
            list.tail = NONE;
        }
        self.put_back(slot);
    }

    /// The request at `slot` and the slot of the one after it.
    pub(crate) fn at(&self, slot: u16) -> Option<(BlockRef, ReplyKind, u16)> {
        let QueuedRequest { block, kind, next } = self.get(slot)?;
        Some((block, kind, next))
    }

    /// Takes the oldest request that names `block` out of the list.
    pub(crate) fn remove(&mut self, list: &mut RequestList, block: BlockRef) -> bool {
        let mut before = NONE;
        let mut slot = list.head;
        while let Some((found, kind, next)) = self.at(slot) {
            if found == block && kind != ReplyKind::Metadata {
                if !self.change(before, |request| request.next = next) {
                    list.head = next;
                }
                if next == NONE {
                    list.tail = before;
                }
                list.len -= 1;
                self.put_back(slot);
                return true;
            }
            (before, slot) = (slot, next);
        }
        false
    }

    /// Turns requests into rejects (BEP 6): those that name `block`, or all.
    pub(crate) fn reject(&mut self, list: &RequestList, block: Option<BlockRef>) -> bool {
        let mut slot = list.head;
        let mut found = false;
        while let Some((named, kind, next)) = self.at(slot) {
            if block.is_none_or(|block| block == named) && kind != ReplyKind::Metadata {
                self.change(slot, |request| request.kind = ReplyKind::Reject);
                found = true;
            }
            slot = next;
        }
        found
    }

    /// Turns the requests for one piece into rejects.
    pub(crate) fn reject_piece(&mut self, list: &RequestList, piece: u32) {
        let mut slot = list.head;
        while let Some((block, kind, next)) = self.at(slot) {
            if kind == ReplyKind::Piece && block.index == piece {
                self.change(slot, |request| request.kind = ReplyKind::Reject);
            }
            slot = next;
        }
    }

    /// Gives all of a list's slots back.
    pub(crate) fn clear(&mut self, list: &mut RequestList) {
        while list.len > 0 {
            self.pop(list);
        }
    }

    fn put_back(&mut self, slot: u16) {
        let vacant = self.vacant;
        if self.change(slot, |request| request.next = vacant) {
            self.vacant = slot;
            self.free += 1;
        }
    }

    fn get(&self, slot: u16) -> Option<QueuedRequest> {
        self.slots
            .get(usize::from(slot))
            .copied()
            .map(QueuedRequest::unpack)
    }

    /// Changes what is in a slot; false if there is none of that number.
    fn change(&mut self, slot: u16, change: impl FnOnce(&mut QueuedRequest)) -> bool {
        let Some(request) = self.slots.get_mut(usize::from(slot)) else {
            return false;
        };
        let mut entry = QueuedRequest::unpack(*request);
        change(&mut entry);
        *request = entry.pack();
        true
    }
}

/// What a peer can queue even when the pool is nearly used up, as long as there is a slot.
const MIN_SHARE: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::small::first_block;

    fn indices(queue: &RequestQueue<'_>, list: &RequestList) -> heapless::Vec<(u32, bool), 16> {
        let mut out = heapless::Vec::new();
        let mut slot = list.front();
        while let Some((block, kind, next)) = queue.at(slot) {
            out.push((block.index, kind == ReplyKind::Reject)).unwrap();
            slot = next;
        }
        assert_eq!(out.len(), usize::from(list.len()));
        out
    }

    #[test]
    fn order_removal_and_conservation() {
        let mut slots = [[0; 4]; 8];
        let mut queue = RequestQueue::new(&mut slots);
        let (mut a, mut b) = (RequestList::EMPTY, RequestList::EMPTY);
        for i in 0..4 {
            assert!(queue.push(&mut a, first_block(i), ReplyKind::Piece));
            assert!(queue.push(&mut b, first_block(10 + i), ReplyKind::Piece));
        }
        assert!(!queue.push(&mut a, first_block(9), ReplyKind::Piece));
        assert!(queue.remove(&mut a, first_block(3)));
        assert!(queue.remove(&mut a, first_block(0)));
        assert!(!queue.remove(&mut a, first_block(0)));
        assert!(queue.push(&mut a, first_block(4), ReplyKind::Piece));
        assert!(queue.reject(&a, Some(first_block(2))));
        assert_eq!(indices(&queue, &a), [(1, false), (2, true), (4, false)]);
        queue.reject_piece(&b, 13);
        queue.pop(&mut b);
        assert_eq!(indices(&queue, &b), [(11, false), (12, false), (13, true)]);
        queue.clear(&mut b);
        queue.pop(&mut b);
        assert_eq!(queue.free, 5);
        queue.clear(&mut a);
        assert_eq!((queue.free, a.front()), (8, NONE));
    }

    #[test]
    fn a_greedy_peer_leaves_room_for_the_others() {
        let mut slots = [[0; 4]; 1000];
        let mut queue = RequestQueue::new(&mut slots);
        let mut lists = [RequestList::EMPTY; 16];
        assert_eq!(queue.quota(&lists[0], 16), MAX_PER_PEER);
        for list in &mut lists[..4] {
            while queue.quota(list, 16) > 0 {
                assert!(queue.push(list, first_block(0), ReplyKind::Piece));
            }
        }
        for list in &mut lists[4..] {
            let quota = queue.quota(list, 16);
            assert!(quota >= 31, "{quota}");
            for _ in 0..quota {
                assert!(queue.push(list, first_block(0), ReplyKind::Piece));
            }
        }
    }
}
