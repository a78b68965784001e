//! Who is told of a torrent that sleeps: trackers, the DHT and whoever asks, or nobody while it is paused or when it has
//! reached its goal.

use everseed_core::geometry::TorrentId;
use everseed_node::Publicity;

use super::torrents::Torrents;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::storage::dormant::DormantTorrent;
use crate::text::escape;

impl Torrents {
    /// Whether it sleeps, and is not what was woken and is away.
    pub(super) fn is_asleep(&self, engine: &Engine, id: TorrentId) -> bool {
        engine.node.is_asleep(id)
            && self.catalogue.borrow().holds(id.slot)
            && self.awake.known_as(id).is_none()
    }

    /// Has the node announce a torrent that sleeps; answers how many tiers of its trackers there was no room for.
    pub(super) fn announce_sleeper(
        &self,
        engine: &Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) -> usize {
        let mut left_out = 0;
        for (tier, trackers) in (0..=u8::MAX).zip(sleeper.tiers_or(&self.named_trackers)) {
            let learn = |url: &String| self.tracker.borrow_mut().learn(url);
            trackers.iter().for_each(learn);
            let trackers = u8::try_from(trackers.len()).unwrap_or(u8::MAX);
            left_out += usize::from(engine.node.announce(id, tier, trackers).is_err());
        }
        left_out
    }

    /// Nobody is told of it and nobody wakes it from now on. Returns false if it was so before.
    pub(super) fn pause_sleeper(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) -> bool {
        if !self.catalogue.borrow_mut().pause(id, true) {
            return false;
        }
        self.set_paused(&sleeper.path(), true);
        self.silence(engine, id, sleeper);
        true
    }

    /// It goes on. Returns false if it was not paused.
    pub(super) fn resume_sleeper(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) -> bool {
        if !self.catalogue.borrow_mut().pause(id, false) {
            return false;
        }
        self.set_paused(&sleeper.path(), false);
        self.announce_again(engine, id, sleeper);
        true
    }

    /// It has reached its goal: nobody is told of it from now on.
    pub(super) fn end_sleeper(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) {
        if self.catalogue.borrow_mut().end(id, true) {
            let path = sleeper.path();
            let shown = escape(path.as_os_str().as_encoded_bytes());
            log::warn!(target: EVENT, "{shown}: it has reached its goal");
            self.silence(engine, id, sleeper);
        }
    }

    /// Its goal was changed, and it has not reached the new one.
    pub(super) fn go_on_after_goal(
        &mut self,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) {
        if self.catalogue.borrow_mut().end(id, false) {
            self.announce_again(engine, id, sleeper);
        }
    }

    /// Nobody is told of it.
    fn silence(&mut self, engine: &mut Engine, id: TorrentId, sleeper: &DormantTorrent) {
        if sleeper.is_public() {
            engine.node.publish(id, Publicity::NONE);
        }
        engine.node.forget_trackers(id);
        self.tracker.borrow_mut().remove(sleeper.info_hash());
        // Who waits for it is let go.
        engine.sleep(id);
    }

    /// Others are told of it again, unless it is paused or has reached its goal.
    fn announce_again(&mut self, engine: &mut Engine, id: TorrentId, sleeper: &DormantTorrent) {
        if self.catalogue.borrow().why_silent(id).is_some() {
            return;
        }
        engine.node.publish(id, publicity(engine, sleeper));
        let left_out = self.announce_sleeper(engine, id, sleeper);
        if left_out > 0 {
            let path = sleeper.path();
            let shown = escape(path.as_os_str().as_encoded_bytes());
            log::error!(
                "{shown}: no room to announce to {left_out} of its tiers of trackers; raise memory ="
            );
        }
    }
}

/// By what peers of a torrent that sleeps may be found.
pub(super) fn publicity(engine: &Engine, sleeper: &DormantTorrent) -> Publicity {
    match sleeper.is_public() {
        true => engine.publicity,
        false => Publicity::PRIVATE,
    }
}
