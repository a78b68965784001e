//! What commands do to torrents that sleep.
//!
//! One that is paused stays asleep whoever names it, and nobody is told of it; it is that until it is resumed, changes
//! or this process ends. One that is to be verified is woken when there is a place for it, one after the other.

use std::path::PathBuf;
use std::time::Instant;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_node::Publicity;

use super::command::Which;
use super::library::Library;
use super::torrents::Torrents;
use crate::net::engine::Engine;
use crate::storage::catalogue::DormantTorrent;
use crate::text::escape;

impl Torrents {
    /// What sleeps and is meant. What was woken is one of those that are awake.
    pub(super) fn sleepers(&self, engine: &Engine, which: &Which) -> Vec<(TorrentId, InfoHash)> {
        let catalogue = self.catalogue.borrow();
        let mut meant = Vec::new();
        let mut take = |info_hash: InfoHash| {
            let id = engine.node.find(info_hash);
            let id = id.filter(|&id| self.is_asleep(engine, id));
            meant.extend(id.map(|id| (id, info_hash)));
        };
        let is_meant = |sleeper: &DormantTorrent| match which {
            Which::All => true,
            Which::Path(path) => sleeper.path() == *path,
            Which::Folder(folder) => sleeper.path().parent() == Some(folder),
            _ => false,
        };
        match which {
            Which::Torrent(info_hash) => take(*info_hash),
            // What is named one by one never sleeps; and of what is gone it is said which it is.
            Which::Item(_) | Which::Gone(_) => {}
            Which::All | Which::Path(_) | Which::Folder(_) => {
                let read = catalogue.each(|_, sleeper| {
                    if is_meant(sleeper) {
                        take(sleeper.info_hash());
                    }
                    Ok(())
                });
                if let Err(error) = read {
                    log::error!("the catalogue cannot be read: {error}");
                }
            }
        }
        meant
    }

    /// Whether it sleeps, and is not what was woken and is away.
    pub(super) fn is_asleep(&self, engine: &Engine, id: TorrentId) -> bool {
        engine.node.is_asleep(id)
            && self.catalogue.borrow().read(id.slot).is_some()
            && !self.managed.iter().any(|torrent| torrent.is_known_as(id))
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

    /// Nobody is told of it and nobody wakes it from now on; answers with its path, unless it was so before.
    pub(super) fn pause_sleeper(&mut self, engine: &mut Engine, id: TorrentId) -> Option<PathBuf> {
        let sleeper = self.catalogue.borrow().read(id.slot)?;
        if !self.catalogue.borrow_mut().pause(id, true) {
            return None;
        }
        if sleeper.is_public() {
            engine.node.publish(id, Publicity::NONE);
        }
        engine.node.forget_trackers(id);
        self.tracker.borrow_mut().remove(sleeper.info_hash());
        // Who waits for it is let go.
        engine.sleep(id);
        Some(sleeper.path())
    }

    /// It goes on; answers with its path, unless it was not paused.
    pub(super) fn resume_sleeper(&mut self, engine: &mut Engine, id: TorrentId) -> Option<PathBuf> {
        let sleeper = self.catalogue.borrow().read(id.slot)?;
        if !self.catalogue.borrow_mut().pause(id, false) {
            return None;
        }
        let path = sleeper.path();
        engine.node.publish(id, publicity(engine, &sleeper));
        let left_out = self.announce_sleeper(engine, id, &sleeper);
        if left_out > 0 {
            let shown = escape(path.as_os_str().as_encoded_bytes());
            log::error!(
                "{shown}: no room to announce to {left_out} of its tiers of trackers; raise memory ="
            );
        }
        Some(path)
    }
}

/// By what peers of a torrent that sleeps may be found.
pub(super) fn publicity(engine: &Engine, sleeper: &DormantTorrent) -> Publicity {
    match sleeper.is_public() {
        true => engine.publicity,
        false => Publicity::PRIVATE,
    }
}

impl Library {
    /// Has one of those that are to be verified woken, unless one is.
    pub(super) fn verify_sleepers(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let busy = |torrents: &Torrents| torrents.managed.iter().any(|t| t.checked().is_some());
        let waits = self.verify_after.is_some_and(|at| Instant::now() < at);
        if waits || self.waking.iter().any(|waking| waking.verify) || busy(torrents) {
            return;
        }
        self.verify_after = None;
        while let Some(id) = self.to_verify.pop() {
            if let Some(waking) = self.waking.iter_mut().find(|waking| waking.id == id) {
                waking.verify = true;
                return;
            }
            if let Some(torrent) = torrents.managed.iter_mut().find(|t| t.is_known_as(id)) {
                // It was woken meanwhile.
                torrent.verify(engine);
                return;
            }
            if !torrents.is_asleep(engine, id) || torrents.catalogue.borrow().is_paused(id) {
                continue;
            }
            if !self.open(torrents, engine, id, Vec::new(), true) {
                self.to_verify.push(id);
            }
            return;
        }
    }
}
