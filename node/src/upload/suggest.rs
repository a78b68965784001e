//! Suggestions: which piece an origin suggests to a peer (BEP 6).

use crate::context::Context;
use crate::torrent::Bits;

/// Until a whole copy has gone out, the first seed suggests to each peer a piece that it suggested to no other (BEP 6).
/// So it sends no piece twice while others are missing. Peers still choose for themselves: they follow a suggestion only
/// if the piece is rare.
pub(crate) fn suggest(cx: &mut Context<'_>, slot: usize) {
    let conn = &cx.peers[slot];
    let Some(id) = conn.link.torrent.filter(|_| conn.link.features.fast) else {
        return;
    };
    let Some(torrent) = cx.torrents.get_mut(id) else {
        return;
    };
    let total = torrent.geometry.map_or(0, |g| g.total());
    let pieces = torrent.pieces();
    let origin = torrent.good == Bits::All && torrent.uploaded < total;
    if origin && torrent.suggest_next < pieces {
        cx.peers[slot].upload.to_suggest = Some(torrent.suggest_next);
        torrent.suggest_next += 1;
        cx.peers.make_ready(slot);
    }
}
