//! Unfinished files of other clients, which carry a suffix until they are complete.
//!
//! They belong to that client, or to the owner. Their good pieces are used; they are written only after the owner
//! allowed it. Then each gets its own name when it is complete.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use everseed_core::metainfo::FileKind;
use rustix::io::Errno;

use crate::content::Content;
use crate::entry::Entry;
use crate::error::ReadError;
use crate::ours::{Mark, Note, Ours};
use crate::placed::Place;
use crate::rename::rename_new;

/// Suffixes of Transmission and KTorrent, qBittorrent, uTorrent, BitTorrent, BitComet and Vuze.
const SUFFIXES: [&str; 6] = [".part", ".!qB", ".!ut", ".!bt", ".bc!", ".az!"];

/// Takes such a file for each missing file of the torrent, and returns their paths.
pub fn find(content: &Content) -> Result<Vec<PathBuf>, ReadError> {
    let layout = content.layout();
    let named = layout.named();
    let mut found = Vec::new();
    if content.is_bare() {
        return Ok(found);
    }
    let mut changed = false;
    for (number, entry) in (1..).zip(content.entries()?) {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind != FileKind::Data || entry.len == 0 {
            continue;
        }
        if let Some(place) = layout.placed.get(&entry.path) {
            let is_there = named.stat_file(&place.path).is_ok();
            if place.by_owner || !is_unfinished(content, &entry, &place.path) {
                continue;
            }
            if is_there {
                found.push(layout.whole(&place.path));
                continue;
            }
            layout.placed.remove(&entry.path);
            changed = true;
        }
        let usual = content.place_of(&entry);
        if !(named.stat_file(&usual)).is_err_and(|failure| failure.is_no_such_name()) {
            continue;
        }
        let Some(path) = beside(content, &entry, &usual).next() else {
            continue;
        };
        found.push(layout.whole(&path));
        let place = Place {
            number,
            path,
            by_owner: false,
        };
        changed |= layout.placed.set(&entry.path, place);
    }
    if changed {
        content.remember_places();
    }
    Ok(found)
}

/// The unfinished files of other clients that may be this one, whose usual place is given.
pub(crate) fn beside(
    content: &Content,
    entry: &Entry,
    usual: &Path,
) -> impl Iterator<Item = PathBuf> {
    let named = content.layout().named();
    with_suffixes(usual).filter(move |path| {
        let stat = named.stat_file(path);
        stat.is_ok_and(|stat| u64::try_from(stat.st_size).is_ok_and(|len| len <= entry.len))
    })
}

/// Gives the complete ones that are ours by now their own names.
pub fn finish(content: &Content) -> Result<(), ReadError> {
    let ours = content.ours();
    let Some(ours) = ours.filter(|_| !content.layout().placed.is_empty()) else {
        return Ok(());
    };
    let mut renamed = false;
    let done = finish_each(content, &ours, &mut renamed);
    // Also if that came to its end in the middle.
    if renamed {
        content.remember_places();
    }
    done
}

fn finish_each(content: &Content, ours: &Ours, renamed: &mut bool) -> Result<(), ReadError> {
    let layout = content.layout();
    let mut next = 0;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.len == 0 {
            continue;
        }
        let number = next;
        next += 1;
        let Some(place) = layout.placed.get(&entry.path) else {
            continue;
        };
        let (Note::Complete(mark) | Note::Syncing(mark)) = ours.note(number) else {
            continue;
        };
        if place.by_owner || !is_unfinished(content, &entry, &place.path) {
            continue;
        }
        let own = layout.relative(&entry.path).into_owned();
        match rename(content, &place.path, &own, mark) {
            Ok(()) => {
                layout.placed.remove(&entry.path);
                *renamed = true;
            }
            Err(error) => log::warn!(
                "{}: {error}: it is complete and keeps that name",
                layout.whole(&place.path).display()
            ),
        }
    }
    Ok(())
}

/// Whether a file lies in its own folder under a name that another client gives it until it is complete. That client
/// may also spell the name otherwise.
pub(crate) fn is_unfinished(content: &Content, entry: &Entry, place: &Path) -> bool {
    let own = content.layout().relative(&entry.path);
    let name = place.file_name().unwrap_or_default().as_encoded_bytes();
    let mut suffixes = SUFFIXES.iter();
    place.parent() == own.parent() && suffixes.any(|end| name.ends_with(end.as_bytes()))
}

fn with_suffixes(path: &Path) -> impl Iterator<Item = PathBuf> {
    SUFFIXES.iter().map(move |suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Renames a file, if it still has this mark and nothing has the new name.
fn rename(content: &Content, from: &Path, to: &Path, mark: Mark) -> Result<(), Errno> {
    let named = content.layout().named();
    let (file, _) = named.find_file(from).map_err(|_| Errno::NOENT)?;
    if !mark.fits(Mark::of(&file)) {
        return Err(Errno::STALE);
    }
    let folder = from.parent().unwrap_or(Path::new(""));
    let folder = named.open_folder(folder).map_err(|_| Errno::NOENT)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let (old, new) = (name(from), name(to));
    rename_new(&folder, &old, &folder, &new)?;
    // If a power cut undoes the rename, the file is found again under its old name.
    let _ = rustix::fs::fsync(&folder);
    Ok(())
}
