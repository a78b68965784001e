//! The audit: it checks the invariants of a node that must hold between any two calls.
//!
//! Simulators and tests call [`Node::audit`](crate::Node::audit) as often as they can afford; a host has no need to.

use everseed_core::bits;

use crate::download::pending_blocks::{BlockState, PendingBlock};
use crate::parts::Parts;
use crate::peer::Has;
use crate::peer::LinkState as Conn;
use crate::torrent::Bits;

/// See [`Node::audit`](crate::Node::audit).
pub(crate) fn audit(parts: &Parts<'_>) {
    parts.audit_conns();
    parts.audit_pending();
    parts.audit_pieces();
    parts.audit_torrents();
}

impl Parts<'_> {
    fn audit_conns(&self) {
        let count = |hit: &dyn Fn(&crate::peer::Conn) -> bool| {
            self.cx.peers.iter().filter(|conn| hit(conn)).count()
        };
        let (live, dialling) = (
            usize::from(self.cx.peers.live),
            usize::from(self.cx.peers.dialling),
        );
        assert_eq!(count(&|c| c.link.state != Conn::Free), live, "connections");
        let calls = |c: &crate::peer::Conn| matches!(c.link.state, Conn::Dial | Conn::Dialling);
        assert_eq!(count(&calls), dialling, "calls");
        let silent = count(&crate::peer::Conn::is_silent_caller);
        assert_eq!(
            silent,
            usize::from(self.cx.peers.handshaking),
            "silent callers"
        );
        let unchoked = count(&|c| c.upload.unchoked);
        assert!(
            unchoked <= usize::from(self.upload.slots),
            "{unchoked} are served"
        );
        let gives = count(&crate::peer::Conn::shares);
        assert_eq!(
            gives,
            usize::from(self.download.active_sources),
            "peers that give"
        );
        let queued = self
            .cx
            .peers
            .iter()
            .map(|c| usize::from(c.upload.requests.len()));
        let queued: usize = queued.sum();
        assert_eq!(
            queued + self.upload.queue.free(),
            self.upload.queue.len(),
            "requests"
        );
        for conn in self.cx.peers.iter().filter(|c| !c.is_live()) {
            let idle = conn.download.pending.len == 0
                && conn.upload.requests.len() == 0
                && !conn.upload.unchoked;
            assert!(
                idle && conn.download.has == Has::Nothing,
                "who is gone holds something"
            );
        }
    }

    /// Every block that is taken is on its way, in exactly one list.
    fn audit_pending(&self) {
        let in_use = self.download.pending.in_use().count();
        assert_eq!(
            self.download.blocks.len() - self.download.blocks.free(),
            in_use,
            "blocks"
        );
        let away = |f: &PendingBlock| matches!(f.state, BlockState::Writing | BlockState::Dropped);
        let mut listed = self
            .download
            .pending
            .in_use()
            .filter(|(_, f)| away(f))
            .count();
        let mut to_write = 0;
        let mut at = self.download.writes.head;
        while let Some(pending) = self.download.pending.get(at) {
            assert_eq!(
                pending.state,
                BlockState::Write,
                "the state of a block to write"
            );
            to_write += 1;
            at = pending.next;
        }
        listed += to_write;
        assert_eq!(
            to_write,
            usize::from(self.download.writes.len),
            "blocks to write"
        );
        for (slot, conn) in self.cx.peers.iter().enumerate() {
            let (mut len, mut unsent) = (0, false);
            let mut at = conn.download.pending.head;
            while let Some(pending) = self.download.pending.get(at) {
                assert_eq!(pending.source.peer(), Some(slot), "whose pending it is");
                unsent |= at == conn.download.pending.unsent;
                assert_eq!(
                    pending.state == BlockState::Reserved,
                    unsent,
                    "what is sent"
                );
                len += 1;
                at = pending.next;
            }
            assert_eq!(
                len,
                usize::from(conn.download.pending.len),
                "a peer's pending"
            );
            listed += len;
        }
        assert_eq!(listed, in_use, "pending in lists");
    }

    fn audit_pieces(&self) {
        for id in self.cx.torrents.ids() {
            for (slot, partial) in self.download.in_progress.of(id) {
                let its = |f: &(u16, &PendingBlock)| f.1.partial == slot;
                let pending = self.download.pending.in_use().filter(its).count();
                assert_eq!(pending, usize::from(partial.pending), "pending of a piece");
                self.download.in_progress.audit(slot);
                let begun = self.cx.torrents.get(id).map_or(Bits::None, |t| t.begun);
                let piece = self.cx.torrents.get(id).and_then(|t| t.geometry);
                let piece = piece.and_then(|g| g.piece(partial.piece));
                let begun = piece.is_some_and(|piece| self.cx.torrents.contains(begun, piece));
                assert!(begun, "a piece in progress has begun");
            }
            let torrent = self.cx.torrents.get(id);
            let begun = torrent.map_or(0, |t| self.cx.torrents.count(t.begun, t.pieces()));
            assert_eq!(
                begun as usize,
                self.download.in_progress.of(id).count(),
                "pieces begun"
            );
        }
    }

    fn audit_torrents(&self) {
        for id in self.cx.torrents.ids() {
            let Some(torrent) = self.cx.torrents.get(id) else {
                continue;
            };
            let conns = || self.cx.peers.iter().filter(|c| c.link.torrent == Some(id));
            assert_eq!(
                conns().count(),
                usize::from(torrent.conns),
                "a torrent's peers"
            );
            let Some(geometry) = torrent.geometry else {
                continue;
            };
            for piece in geometry.all_pieces() {
                let (had, good) = (torrent.have, torrent.good);
                let had = self.cx.torrents.contains(had, piece);
                let good = self.cx.torrents.contains(good, piece);
                assert!(had || !good, "a verified piece is here");
                let counts = torrent.counts.get(self.download.availability.counts);
                let Some(&count) = counts.get(piece.get() as usize) else {
                    continue;
                };
                let has = |c: &&crate::peer::Conn| match c.download.has {
                    Has::Some(range) => {
                        bits::get(range.get(self.download.availability.bytes), piece.get())
                    }
                    _ => false,
                };
                assert_eq!(conns().filter(has).count(), usize::from(count), "copies");
            }
            if torrent.downloads {
                let (missing, _) = self.cx.torrents.missing(torrent);
                assert_eq!(missing, torrent.missing, "missing pieces");
            }
        }
    }
}
