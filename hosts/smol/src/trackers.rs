//! The trackers that a torrent file names, read from it when they are needed.

use std::path::Path;

use everseed_core::metainfo::Metainfo;
use everseed_disk::{Stream, open_torrent};

/// The tiers of trackers.
pub(crate) fn tiers(path: &Path, metainfo: &Metainfo) -> Result<Vec<Vec<String>>, String> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    each_tracker(path, metainfo, |tier, url| {
        if tiers.len() <= tier {
            tiers.resize(tier + 1, Vec::new());
        }
        tiers[tier].push(url.to_owned());
    })?;
    Ok(tiers)
}

/// How many trackers each tier has.
pub(crate) fn counts(path: &Path, metainfo: &Metainfo) -> Result<Box<[u8]>, String> {
    let mut counts: Vec<u8> = Vec::new();
    each_tracker(path, metainfo, |tier, _| {
        if counts.len() <= tier {
            counts.resize(tier + 1, 0);
        }
        counts[tier] = counts[tier].saturating_add(1);
    })?;
    Ok(counts.into())
}

/// The URL of one tracker of one tier.
pub(crate) fn url(path: &Path, metainfo: &Metainfo, tier: u8, tracker: u8) -> Option<String> {
    let (mut found, mut before) = (None, 0);
    let wanted = usize::from(tier);
    let collect = |tier: usize, url: &str| {
        if tier == wanted {
            if before == usize::from(tracker) {
                found = Some(url.to_owned());
            }
            before += 1;
        }
    };
    each_tracker(path, metainfo, collect).ok()?;
    found
}

/// Whether a torrent names this tracker.
pub(crate) fn names(path: &Path, metainfo: &Metainfo, tracker: &str) -> bool {
    let mut found = false;
    let read = each_tracker(path, metainfo, |_, url| found |= url == tracker);
    read.is_ok() && found
}

fn each_tracker(
    path: &Path,
    metainfo: &Metainfo,
    mut each: impl FnMut(usize, &str),
) -> Result<(), String> {
    let error = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = open_torrent(path).map_err(|e| error(&e))?;
    let mut trackers = metainfo.trackers(Stream(file)).map_err(|e| error(&e))?;
    while let Some((tier, url)) = trackers.next().map_err(|e| error(&e))? {
        each(usize::from(tier), url);
    }
    Ok(())
}
