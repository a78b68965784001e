//! A torrent's trackers, read from its file when they are needed; and the owner's own for public torrents that name
//! none.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::Path;

use everseed_core::metainfo::Metainfo;
use everseed_disk::{Stream, reopen_torrent};

use crate::text::escape;

/// The torrent's trackers by tier.
pub(crate) fn tiers(path: &Path, metainfo: &Metainfo) -> Result<Vec<Vec<String>>, String> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    each_used(path, metainfo, |tier, url| {
        if tiers.len() <= tier {
            tiers.resize(tier + 1, Vec::new());
        }
        tiers[tier].push(url.to_owned());
        ControlFlow::Continue(())
    })?;
    Ok(tiers)
}

/// A digest of a list of trackers.
pub(crate) fn sum(tiers: &[Vec<String>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    tiers.hash(&mut hasher);
    hasher.finish()
}

/// The owner's trackers by tier, for public torrents that name none.
pub(crate) type Spare = [Vec<String>];

/// The number of trackers in each tier. Trackers beyond the first [`MOST`] are left out, which is logged.
pub(crate) fn counts(path: &Path, metainfo: &Metainfo, spare: &Spare) -> Result<Box<[u8]>, String> {
    let (mut counts, mut number): (Vec<u8>, usize) = (Vec::new(), 0);
    each_tracker(path, metainfo, |tier, _| {
        number += 1;
        if number <= MOST {
            if counts.len() <= tier {
                counts.resize(tier + 1, 0);
            }
            counts[tier] = counts[tier].saturating_add(1);
        }
        ControlFlow::Continue(())
    })?;
    if let Some(left_out) = number.checked_sub(MOST).filter(|&n| n > 0) {
        let path = escape(path.as_os_str().as_encoded_bytes());
        log::warn!(
            "{path}: it names {number} trackers; the first {MOST} are used and {left_out} left out"
        );
    }
    if number == 0 && !metainfo.private {
        let len = |tier: &Vec<String>| u8::try_from(tier.len()).unwrap_or(u8::MAX);
        counts = spare.iter().map(len).collect();
    }
    Ok(counts.into())
}

/// The URL of one tracker, by tier and number.
pub(crate) fn url(
    path: &Path,
    metainfo: &Metainfo,
    (tier, tracker): (u8, u8),
    spare: &Spare,
) -> Option<String> {
    let (mut found, mut before, mut any) = (None, 0, false);
    let wanted = usize::from(tier);
    let collect = |tier: usize, url: &str| {
        any = true;
        if tier == wanted {
            if before == usize::from(tracker) {
                found = Some(url.to_owned());
                return ControlFlow::Break(());
            }
            before += 1;
        }
        ControlFlow::Continue(())
    };
    each_used(path, metainfo, collect).ok()?;
    if !any && !metainfo.private {
        return one_of(spare, (tier, tracker));
    }
    found
}

/// One tracker of these tiers, by tier and number.
pub(crate) fn one_of(tiers: &Spare, (tier, tracker): (u8, u8)) -> Option<String> {
    let tier = tiers.get(usize::from(tier))?;
    tier.get(usize::from(tracker)).cloned()
}

/// Calls `each` with the first [`MOST`] trackers and their tiers.
pub(crate) fn each_used(
    path: &Path,
    metainfo: &Metainfo,
    mut each: impl FnMut(usize, &str) -> ControlFlow<()>,
) -> Result<(), String> {
    let mut number = 0;
    each_tracker(path, metainfo, |tier, url| {
        each(tier, url)?;
        number += 1;
        match number < MOST {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })
}

/// Calls `each` with every tracker and its tier. One that is in several tiers counts in the first alone: every tier is
/// announced to, and nobody wants to hear of a peer twice.
fn each_tracker(
    path: &Path,
    metainfo: &Metainfo,
    mut each: impl FnMut(usize, &str) -> ControlFlow<()>,
) -> Result<(), String> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let error = |error: &dyn std::fmt::Display| format!("{shown}: {error}");
    let file = reopen_torrent(path).map_err(|e| error(&e))?;
    let mut trackers = metainfo.trackers(Stream(file)).map_err(|e| error(&e))?;
    let mut known = HashSet::new();
    while let Some((tier, url)) = trackers.next().map_err(|e| error(&e))? {
        // More are not used anyway.
        if known.len() < MOST && !known.insert(url.to_owned()) {
            continue;
        }
        if each(usize::from(tier), url).is_break() {
            break;
        }
    }
    Ok(())
}

/// The first [`MOST_NODES`] DHT nodes that the torrent names, each `HOST:PORT`. Nodes of a private torrent are not
/// used (BEP 27).
pub(crate) fn dht_nodes(path: &Path, metainfo: &Metainfo) -> Result<Vec<String>, String> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let error = |error: &dyn std::fmt::Display| format!("{shown}: {error}");
    let mut found = Vec::new();
    if metainfo.private {
        return Ok(found);
    }
    let file = reopen_torrent(path).map_err(|e| error(&e))?;
    let mut nodes = metainfo.dht_nodes(Stream(file)).map_err(|e| error(&e))?;
    while found.len() < MOST_NODES
        && let Some((host, port)) = nodes.next().map_err(|e| error(&e))?
    {
        // An IPv6 address needs brackets before a port.
        found.push(match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
    }
    Ok(found)
}

/// The most DHT nodes of one torrent that are used.
const MOST_NODES: usize = 8;

/// The most trackers of one torrent that are used. Lists that are copied from torrent to torrent have some dozens.
pub(crate) const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_disk::read_torrent;

    #[test]
    fn more_than_are_used() {
        let url = |tier, n| format!("http://{tier}.test/{n}");
        let entry = |url: String| format!("{}:{url}", url.len());
        // Tiers of three; of the last that is used, one.
        let tier = |tier| {
            let urls = (0..3).map(|n| entry(url(tier, n)));
            format!("l{}e", urls.collect::<String>())
        };
        for (count, tiers_used, last) in [(2, 2, 3), (33, 33, 3), (34, 34, 1), (20_000, 34, 1)] {
            let list = (0..count).map(tier).collect::<String>();
            let info = format!(
                "d6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:{:20}e",
                ""
            );
            let torrent = format!("d13:announce-listl{list}e4:info{info}e");
            let name = format!("everseed-trackers-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, torrent).unwrap();
            let metainfo = read_torrent(&path).unwrap();
            let spare = [vec![url(77, 0)]];
            let counts = counts(&path, &metainfo, &spare).unwrap();
            let tiers = tiers(&path, &metainfo).unwrap();
            let lengths = tiers.iter().map(|tier| u8::try_from(tier.len()).unwrap());
            assert!(lengths.eq(counts.iter().copied()), "{count}");
            assert_eq!((counts.len(), counts.last()), (tiers_used, Some(&last)));
            let found = |tier, tracker| super::url(&path, &metainfo, (tier, tracker), &spare);
            assert_eq!(found(1, 2), Some(url(1, 2)));
            assert_eq!(found(33, 0), (count > 33).then(|| url(33, 0)));
            assert_eq!(found(33, 1), None);
            let names = |wanted: String| {
                let mut found = false;
                let look = |_, url: &str| {
                    found |= url == wanted;
                    ControlFlow::Continue(())
                };
                each_used(&path, &metainfo, look).unwrap();
                found
            };
            assert!(names(url(1, 1)));
            assert!(!names(url(40, 1)));
            std::fs::remove_file(&path).unwrap();
        }
    }

    /// A tracker that is in several tiers is used in the first.
    #[test]
    fn nobody_is_asked_twice() {
        let table: [(&str, &[&[&str]]); 4] = [
            ("l1:a1:b1:ael1:be", &[&["a", "b"]]),
            ("l1:ael1:ael1:be", &[&["a"], &[], &["b"]]),
            ("l1:ael1:b1:ael1:ce", &[&["a"], &["b"], &["c"]]),
            ("1:a1:a1:b", &[&["a"], &[], &["b"]]),
        ];
        for (n, (list, expected)) in table.into_iter().enumerate() {
            let info = format!(
                "d6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:{:20}e",
                ""
            );
            let name = format!("everseed-twice-{}-{n}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, format!("d13:announce-listl{list}e4:info{info}e")).unwrap();
            let metainfo = read_torrent(&path).unwrap();
            assert_eq!(tiers(&path, &metainfo).unwrap(), expected, "{list}");
            let counts = counts(&path, &metainfo, &[]).unwrap();
            let lengths = expected
                .iter()
                .map(|tier| u8::try_from(tier.len()).unwrap());
            assert!(lengths.eq(counts.iter().copied()), "{list}: {counts:?}");
            for (tier, urls) in (0..).zip(expected) {
                for (tracker, &expected) in (0..).zip(*urls) {
                    let url = super::url(&path, &metainfo, (tier, tracker), &[]);
                    assert_eq!(url.as_deref(), Some(expected), "{list}");
                }
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    /// The owner's trackers are for public torrents that name none.
    #[test]
    fn spare_trackers() {
        let spare = [
            vec!["http://a/".to_owned(), "http://b/".to_owned()],
            vec!["http://c/".to_owned()],
        ];
        let own = "8:announce9:http://d/";
        for (n, (announce, private, expected)) in [
            ("", "", &["http://a/", "http://b/", "http://c/"][..]),
            ("", "7:privatei1e", &[]),
            (own, "", &["http://d/"]),
            (own, "7:privatei1e", &["http://d/"]),
        ]
        .into_iter()
        .enumerate()
        {
            let info = format!(
                "d6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:{:20}{private}e",
                ""
            );
            let name = format!("everseed-spare-{}-{n}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, format!("d{announce}4:info{info}e")).unwrap();
            let metainfo = read_torrent(&path).unwrap();
            let counts = counts(&path, &metainfo, &spare).unwrap();
            let mut found = Vec::new();
            for (tier, &count) in (0..).zip(&counts) {
                let url = |tracker| super::url(&path, &metainfo, (tier, tracker), &spare).unwrap();
                found.extend((0..count).map(url));
            }
            assert_eq!(found, expected, "{n}");
            std::fs::remove_file(path).unwrap();
        }
    }
}
