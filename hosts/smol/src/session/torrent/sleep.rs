//! Sleep of torrents without peers: their description is on disk, and a few bytes stay in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_disk::Content;

use super::ManagedTorrent;
use super::goal::{Goal, Woken};
use super::stage::Stage;
use crate::net::engine::Engine;
use crate::session::download::DownloadStage;
use crate::session::notice::Notices;
use crate::storage::dormant::{DormantTorrent, Mark};
use crate::storage::state::StateFolder;
use crate::storage::worker::TorrentNumber;

impl ManagedTorrent {
    /// A sleeping torrent that is to be woken; the node knows it as `id`.
    pub(crate) fn woken(
        number: TorrentNumber,
        content: Arc<Content>,
        id: TorrentId,
        notices: Notices,
    ) -> ManagedTorrent {
        let mut woken = ManagedTorrent::new(number, content, Box::default(), None, notices);
        woken.dormant_as = Some(id);
        woken
    }

    /// The node's id, if the torrent was asleep.
    pub(crate) fn dormant_as(&self) -> Option<TorrentId> {
        self.dormant_as
    }

    /// Whether the node knows it under this id, awake or not.
    pub(crate) fn is_known_as(&self, id: TorrentId) -> bool {
        self.dormant_as == Some(id) || self.id() == Some(id)
    }

    /// Notes whether a peer is connected.
    pub(crate) fn note_use(&mut self, engine: &Engine, now: Instant) {
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        let Some(stats) = stats else { return };
        if stats.conns > 0 {
            self.used = now;
        }
        let moved = stats.uploaded + stats.downloaded;
        if moved != self.moved.0 {
            self.moved = (moved, now);
        }
    }

    /// The last time at which a peer was connected, or its start.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// The node's id, if it may sleep: all of it is there and verified, and no peer is connected. A goal is looked at while
    /// it sleeps, too.
    pub(crate) fn may_sleep(&self, engine: &Engine) -> Option<TorrentId> {
        let Stage::Serving(id) = self.stage else {
            return None;
        };
        if self.is_downloading() {
            return None;
        }
        let stats = engine.node.torrent(id)?;
        let pieces = self.content.geometry().pieces();
        let whole = stats.have == pieces && stats.good == pieces && stats.readable;
        (whole && stats.conns == 0).then_some(id)
    }

    /// Why its files are away, as it was logged.
    pub(crate) fn why_away(&self) -> Option<String> {
        self.is_away().then(|| self.reason.clone())
    }

    /// The time since which it has been idle: its files are away, or it is incomplete and nothing moves. While
    /// connected peers send nothing, `patience` is waited.
    pub(crate) fn idle_since(
        &self,
        engine: &Engine,
        now: Instant,
        patience: Duration,
    ) -> Option<Instant> {
        let id = match self.stage {
            Stage::Away(_) => return Some(self.moved.1),
            Stage::Serving(id) | Stage::Downloading(id) => id,
            _ => return None,
        };
        let stats = engine.node.torrent(id)?;
        let whole = stats.have == self.content.geometry().pieces();
        let writes = self
            .download
            .as_ref()
            .is_some_and(|d| matches!(d.stage, DownloadStage::Syncing));
        let alone = stats.conns == 0 || now.saturating_duration_since(self.moved.1) >= patience;
        (alone && !whole && !writes).then_some(self.moved.1)
    }

    /// The description from which it can be woken.
    pub(crate) fn sleeper(
        &self,
        path: &Path,
        data: Option<&Path>,
        mark: Mark,
    ) -> Result<DormantTorrent, String> {
        let tiers = self.tracker_file().tiers()?;
        let root = self.content.root();
        Ok(DormantTorrent::new(
            self.info_hash(),
            path,
            data,
            &root,
            mark,
            tiers,
            self.content.metainfo().private,
        ))
    }

    /// Sets the goal of a torrent that was woken, which was `seeded` for this time until now.
    pub(crate) fn set_woken_goal(&mut self, goal: Option<Goal>, seeded: Duration) {
        self.woken = Some(Woken::new(goal, seeded));
    }

    /// Whether a torrent that was woken has reached its goal; `None` if it has none.
    pub(super) fn is_woken_enough(&self, engine: &Engine) -> Option<bool> {
        let woken = self.woken.as_ref()?;
        let stats = self.id().and_then(|id| engine.node.torrent(id))?;
        let total = self.content.geometry().total();
        let sent = || stats.uploaded;
        Some(woken.goal?.is_reached(woken.seeded(), sent, total))
    }

    /// Ends, while the node still knows it: trackers are told, and a peer that names it wakes it.
    pub(crate) fn sleep(mut self, engine: &mut Engine, state: &StateFolder, id: TorrentId) {
        self.save(engine, state);
        engine.sleep(id);
        engine.forget_files(&self.content);
    }
}
