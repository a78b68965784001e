//! Torrents that nobody is connected to may sleep: what is known of them is written down, and a few bytes
//! in memory remain.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_disk::Content;

use super::ManagedTorrent;
use super::stage::Stage;
use crate::client::trackers;
use crate::net::engine::Engine;
use crate::session::fetch::{Download, DownloadStage};
use crate::session::notice::Notices;
use crate::storage::catalogue::{DormantTorrent, Mark};
use crate::storage::state::StateFolder;

impl ManagedTorrent {
    /// A torrent that the node knows as `id`, asleep, and that is to be woken.
    pub(crate) fn woken(
        number: usize,
        content: Arc<Content>,
        id: TorrentId,
        notices: Notices,
    ) -> ManagedTorrent {
        let mut woken = ManagedTorrent::new(number, content, Box::default(), None, notices);
        woken.dormant_as = Some(id);
        woken
    }

    /// The node's id of it, if it was asleep.
    pub(crate) fn dormant_as(&self) -> Option<TorrentId> {
        self.dormant_as
    }

    /// Whether the node knows it as this one, awake or not.
    pub(crate) fn is_known_as(&self, id: TorrentId) -> bool {
        self.dormant_as == Some(id) || self.id() == Some(id)
    }

    /// Notes whether somebody is connected.
    pub(crate) fn mind_use(&mut self, engine: &Engine, now: Instant) {
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

    /// When somebody was connected last, or when it began.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// The node's id of it, if it may sleep: all of it is there and verified, nobody is connected, and
    /// there is no goal that it is to reach.
    pub(crate) fn may_sleep(&self, engine: &Engine) -> Option<TorrentId> {
        let Stage::Serving(id) = self.stage else {
            return None;
        };
        let wants = |d: &Download| {
            let goal = &d.goal;
            d.is_open() || goal.no_seed || goal.time.is_some() || goal.ratio.is_some()
        };
        if self
            .download
            .as_ref()
            .is_some_and(|download| wants(download))
        {
            return None;
        }
        let stats = engine.node.torrent(id)?;
        let pieces = self.content.geometry().pieces();
        let whole = stats.have == pieces && stats.good == pieces && stats.readable;
        (whole && stats.conns == 0).then_some(id)
    }

    /// Since when it has been of no use, if it is: its files are away, or it is not whole and nothing moves. Peers
    /// that are connected and give nothing are waited for longer, `patience`.
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

    /// What it takes to wake it again.
    pub(crate) fn sleeper(
        &self,
        path: &Path,
        data: Option<&Path>,
        mark: Mark,
    ) -> Result<DormantTorrent, String> {
        let (torrent, metainfo) = self.named_in();
        let tiers = trackers::tiers(torrent, metainfo)?;
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

    /// Ends, while the node goes on to know it: trackers are told, and whoever names it wakes it.
    pub(crate) fn sleep(mut self, engine: &mut Engine, state: &StateFolder, id: TorrentId) {
        self.save(engine, state);
        engine.sleep(id);
        engine.forget_files(&self.content);
    }
}
