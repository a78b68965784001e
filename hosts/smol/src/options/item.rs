//! One entry of a configuration file: something to seed or to get.

use std::path::PathBuf;

use crate::options::get::Fetch;

/// One thing to seed or get.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// A file, folder, torrent file or magnet link, or the URL of a torrent file.
    pub path: PathBuf,
    /// The folder of a torrent's data; `None`: beside the torrent file.
    pub data: Option<PathBuf>,
    /// Paths of the torrent's files by number, see `--file`.
    pub files: Vec<(u64, PathBuf)>,
    /// How to download it; `None`: it is only seeded.
    pub fetch: Option<Box<Fetch>>,
}

impl Item {
    /// Whether two items are the same, apart from their goals.
    pub(crate) fn is_same(&self, other: &Item) -> bool {
        let what = |item: &Item| Item {
            fetch: item
                .fetch
                .as_ref()
                .map(|fetch| Box::new(fetch.without_goal())),
            ..item.clone()
        };
        what(self) == what(other)
    }
}
