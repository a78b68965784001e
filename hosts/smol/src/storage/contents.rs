//! The content of each awake torrent, by the node's id.

use std::sync::Arc;

use everseed_core::geometry::TorrentId;
use everseed_disk::Content;

/// Sorted by the slot of the id; a slot holds one torrent at a time.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    all: Vec<(TorrentId, Arc<Content>)>,
}

impl Contents {
    pub(crate) fn get(&self, id: TorrentId) -> Option<&Arc<Content>> {
        let (there, content) = &self.all[self.find(id).ok()?];
        (*there == id).then_some(content)
    }

    /// Sets a torrent's content, and returns what was in its slot.
    pub(crate) fn put(&mut self, id: TorrentId, content: Arc<Content>) -> Option<Arc<Content>> {
        match self.find(id) {
            Ok(at) => Some(std::mem::replace(&mut self.all[at], (id, content)).1),
            Err(at) => {
                self.all.insert(at, (id, content));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, id: TorrentId) -> Option<Arc<Content>> {
        let at = self.find(id).ok()?;
        (self.all[at].0 == id).then(|| self.all.remove(at).1)
    }

    fn find(&self, id: TorrentId) -> Result<usize, usize> {
        self.all.binary_search_by_key(&id.slot, |(id, _)| id.slot)
    }
}
