//! The file that names a torrent's trackers, which can be read on any thread.

use std::path::Path;
use std::sync::Arc;

use everseed_core::metainfo::Metainfo;
use everseed_disk::Content;

use crate::client::trackers;
use crate::session::opener::Renewed;

/// The file that names a torrent's trackers.
pub(crate) struct TrackerFile {
    pub(super) content: Arc<Content>,
    /// Its new contents, if it was overwritten.
    pub(super) renewed: Option<Arc<Renewed>>,
}

impl TrackerFile {
    fn parts(&self) -> (&Path, &Metainfo) {
        match &self.renewed {
            Some(renewed) => (&renewed.file, &renewed.metainfo),
            None => (self.content.read_torrent_file(), self.content.metainfo()),
        }
    }

    /// The trackers by tier.
    pub(super) fn tiers(&self) -> Result<Vec<Vec<String>>, String> {
        let (file, metainfo) = self.parts();
        trackers::tiers(file, metainfo)
    }

    /// The URL of one of them, by tier and number.
    pub(crate) fn tracker_url(&self, at: (u8, u8), spare: &trackers::Spare) -> Option<String> {
        let (file, metainfo) = self.parts();
        let url = trackers::url(file, metainfo, at, spare);
        if url.is_none() {
            let shown = self.content.torrent_file().display();
            log::warn!("{shown}: the tracker's URL cannot be read");
        }
        url
    }
}
