//! Magnet links (BEP 9) as they are printed.

use everseed_core::hash::InfoHash;
use everseed_core::magnet::{Parameters, write};

/// The magnet link of a torrent: info-hash, name, trackers, and one peer, `HOST:PORT`.
pub fn magnet<'a>(
    info_hash: InfoHash,
    name: &str,
    trackers: impl IntoIterator<Item = &'a str>,
    peer: Option<&str>,
) -> String {
    let mut link = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut link, info_hash, &Parameters { name, peer }, trackers);
    link
}
