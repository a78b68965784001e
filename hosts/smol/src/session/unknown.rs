//! Torrents of which only a magnet link is here: their metadata is fetched from peers, then they go on as any other.

use std::path::PathBuf;
use std::time::Instant;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::magnet::{Magnet, Value};
use everseed_core::metadata::METADATA_MAX;
use everseed_core::text::printable;
use everseed_node::MetadataStats;

use crate::memory::Plan;
use crate::options::get::Fetch;
use crate::options::seed::SeedArgs;
use crate::text::size;

/// What `get` needs when the metadata is here.
pub(super) struct Awaited {
    pub(super) args: SeedArgs,
    pub(super) get: Fetch,
    /// The memory that was lent.
    pub(super) lent: Plan,
}

/// One whose metadata is fetched.
pub(super) struct Unknown {
    /// The link, as it was given.
    pub(super) given: PathBuf,
    pub(super) info_hash: InfoHash,
    pub(super) id: TorrentId,
    pub(super) name: String,
    pub(super) trackers: Vec<String>,
    /// What was said of it last, and when something new may be.
    pub(super) said: String,
    pub(super) say_at: Instant,
    /// When writing is tried again that failed.
    pub(super) retry: Option<Instant>,
}

/// What the metadata of a torrent waits for, in words.
pub(super) fn waits_for(stats: &MetadataStats) -> String {
    let peers = match stats.peers {
        0 => return "metadata: no peer yet".to_owned(),
        1 => "1 peer".to_owned(),
        n => format!("{n} peers"),
    };
    if stats.refused.is_some() {
        return "metadata: it cannot be written".to_owned();
    }
    if stats.size > 0 && stats.offers > 0 {
        let all = stats.size.div_ceil(16 * 1024);
        let here = all.saturating_sub(stats.missing);
        let bad = match stats.bad_copies {
            0 => String::new(),
            1 => ", 1 copy was wrong".to_owned(),
            n => format!(", {n} copies were wrong"),
        };
        return format!("metadata: {here} of {all} blocks, {peers}{bad}");
    }
    match stats.too_large {
        0 => format!("metadata: {peers}, none has the metadata yet"),
        told => format!(
            "metadata: {peers}; it is said to be of {}, and at most {} are fetched, less with little memory",
            size(told.into()),
            size(METADATA_MAX.into())
        ),
    }
}

/// What to call the torrent before its name is known.
pub(super) fn name(magnet: &Magnet<'_>) -> String {
    let told: Vec<u8> = magnet.name().into_iter().flat_map(|n| n.bytes()).collect();
    match told.is_empty() {
        true => magnet.info_hash.to_string(),
        false => printable::<200>(&told).as_str().to_owned(),
    }
}

/// Those values that are text, and no longer than a URL may be.
pub(super) fn urls<'a>(values: impl Iterator<Item = Value<'a>>) -> Vec<String> {
    let text = |value: Value<'_>| String::from_utf8(value.bytes().collect()).ok();
    let fits = |url: &String| url.len() <= everseed_core::metainfo::MAX_URL;
    let mut all = Vec::new();
    for url in values.filter_map(text).filter(fits) {
        if !all.contains(&url) && all.len() < MOST {
            all.push(url);
        }
    }
    all
}

/// Trackers, peers and web seeds of a link that are used, of each.
pub(super) const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_waits_for() {
        let none = MetadataStats::default();
        let table = [
            (none, "metadata: no peer yet"),
            (
                MetadataStats { peers: 12, ..none },
                "metadata: 12 peers, none has the metadata yet",
            ),
            (
                MetadataStats {
                    peers: 2,
                    offers: 1,
                    size: 40_000,
                    missing: 1,
                    bad_copies: 1,
                    ..none
                },
                "metadata: 2 of 3 blocks, 2 peers, 1 copy was wrong",
            ),
            (
                MetadataStats {
                    peers: 1,
                    offers: 1,
                    too_large: 40 << 20,
                    ..none
                },
                "metadata: 1 peer; it is said to be of 40.0 MiB, and at most 30.0 MiB are fetched, less with little \
                 memory",
            ),
        ];
        for (stats, words) in table {
            assert_eq!(waits_for(&stats), words);
        }
    }
}
