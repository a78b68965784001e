//! The place of each file of a content: as the torrent says, under another spelling, or elsewhere.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use everseed_core::metainfo::Spelling;

use super::Content;
use crate::beneath::OpenFailure;
use crate::entry::Entry;
use crate::fitting::{fits_everywhere, fitting};
use crate::placed::{self, Place};

impl Content {
    /// Whether a glance tells that none of its files is there: its folder is missing or empty, and no file was found
    /// elsewhere. That saves looking for each of very many files under all of its names.
    pub(crate) fn is_bare(&self) -> bool {
        let layout = self.layout();
        if layout.is_single() || !layout.placed.is_empty() {
            return false;
        }
        match layout.named().open_folder(layout.base()) {
            Ok(folder) => is_empty(&folder).unwrap_or(false),
            Err(failure) => failure.is_no_such_name(),
        }
    }

    /// The place at which a missing file is made.
    pub(crate) fn place_to_make(&self, entry: &Entry) -> PathBuf {
        let place = self.layout().placed.get(&entry.path);
        let usual = || self.layout().relative(&entry.path).into_owned();
        place.map_or_else(usual, |place| place.path)
    }

    /// The path of a file beneath the folder that the owner named: where it was found, or else the torrent's path. If
    /// it is only there under one of its other [`places`](Content::places), the path is that one.
    pub(crate) fn place_of(&self, entry: &Entry) -> PathBuf {
        if let Some(place) = self.layout().placed.get(&entry.path) {
            return place.path;
        }
        let usual = self.layout().relative(&entry.path).into_owned();
        if entry.exact && fits_everywhere(&entry.path) {
            return usual;
        }
        let named = self.layout().named();
        match named.stat_file(&usual) {
            Err(failure) if failure.is_no_such_name() => {}
            _ => return usual,
        }
        let mut others = self.places(entry).into_iter();
        let there = others.find(|place| {
            !matches!(
                named.stat_file(place),
                Err(OpenFailure::Missing | OpenFailure::Os(_))
            )
        });
        there.unwrap_or(usual)
    }

    /// Other paths that a file may have beneath the folder that the owner named, in the order in which they are
    /// tried: other programs' spellings of its name, then the names that we give it where the file system refuses its
    /// own.
    pub(super) fn places(&self, entry: &Entry) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if self.layout().is_single() {
            return paths;
        }
        match self.renames.of(entry.position) {
            Some(rename) if rename.differs => {
                // Another file differs from it in case only, and the file system may open that one.
                let plain = self.spelled(entry, Spelling::Fixed).into_iter();
                let named = self.layout().named();
                paths.extend(plain.filter(|path| named.has_name(&self.layout().relative(path))));
            }
            Some(_) => {}
            None if entry.exact => {}
            None => {
                let others = self.spellings.iter().copied();
                paths.extend(others.filter_map(|spelling| self.spelled(entry, spelling)));
            }
        }
        paths.extend(fitting(&entry.path));
        let place = |path: PathBuf| self.layout().relative(&path).into_owned();
        paths.into_iter().map(place).collect()
    }

    pub(super) fn spelled(&self, entry: &Entry, spelling: Spelling) -> Option<PathBuf> {
        let torrent = self.open_torrent().ok()?;
        entry.spelled(torrent, &self.metainfo, spelling)
    }

    /// Tries the fitting names in turn for a file whose own name was refused, until one is accepted.
    pub(crate) fn make_fitting<T>(
        &self,
        relative: &Path,
        mut make: impl FnMut(&Path) -> Option<T>,
    ) -> Option<T> {
        if self.layout().is_single() {
            return self.layout().fitting_tops().into_iter().find_map(|top| {
                let made = make(&top)?;
                self.layout().set_top(&top);
                self.note_refused(relative, &top);
                Some(made)
            });
        }
        let base = self.layout().base();
        let within = relative.strip_prefix(base).unwrap_or(relative);
        fitting(within).find_map(|path| {
            let place = base.join(path);
            let made = make(&place)?;
            self.note_refused(relative, &place);
            Some(made)
        })
    }

    pub(crate) fn note_refused(&self, relative: &Path, made: &Path) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.0 += 1;
        let whole = |path: &Path| self.layout().whole(path);
        refused
            .1
            .get_or_insert_with(|| (whole(relative), whole(made)));
    }

    /// The number of files, since the last call, that the file system refused to make under their own name. With it
    /// come the first one's refused path and its actual path.
    pub fn take_refused(&self) -> Option<(u64, PathBuf, PathBuf)> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, first) = std::mem::take(&mut *refused);
        first.map(|(own, made)| (count, own, made))
    }

    /// Loads the record of files that lie elsewhere.
    pub(super) fn recall_places(&mut self) {
        let mut places = placed::load(&self.places, self.layout.named().folder);
        places.sort_unstable_by_key(|place| place.number);
        let mut places = places.into_iter().peekable();
        if let Some(place) = places.next_if(|place| place.number == 0)
            && let Some(name) = place.path.file_name()
        {
            self.layout.rename(name);
            self.layout.placed.set(Path::new(""), place);
        }
        if places.peek().is_none() {
            return;
        }
        for (number, entry) in (1..).zip(self.entries().into_iter().flatten().flatten()) {
            while let Some(place) = places.next_if(|place| place.number <= number) {
                if place.number == number {
                    self.layout.placed.set(&entry.path, place);
                }
            }
        }
    }

    /// The path of the torrent's record of this kind.
    pub(crate) fn record_file(&self, kind: &str) -> PathBuf {
        self.places.with_extension(kind)
    }

    /// The folder of the torrents' records.
    pub(crate) fn records(&self) -> &Path {
        self.places.parent().unwrap_or(Path::new(""))
    }

    /// Saves the record of files that lie elsewhere than the torrent says.
    pub(crate) fn remember_places(&self) {
        let folder = self.layout().named().folder;
        if let Err(error) = self.layout().placed.save(&self.places, folder) {
            log::warn!(
                "{}: {error}: where files of {} were found is not remembered, and they are searched for again",
                self.places.display(),
                self.name
            );
        }
    }

    /// Sets the paths of these files, by number from 1 on, beneath the content's folder; number 0 renames the content
    /// itself. The record keeps that. An error is the number of a file that the torrent does not have, or for which
    /// there is no room.
    pub fn place_files(&mut self, files: &[(u64, PathBuf)]) -> Result<(), u64> {
        let mut left: Vec<_> = files.iter().collect();
        let renamed = left.iter().rfind(|(number, _)| *number == 0);
        if let Some((_, name)) = renamed {
            let place = Place {
                number: 0,
                path: name.clone(),
                by_owner: true,
            };
            self.layout.rename(name.as_os_str());
            self.layout.placed.set(Path::new(""), place);
            left.retain(|(number, _)| *number != 0);
        }
        for (number, entry) in (1..).zip(self.entries().into_iter().flatten().flatten()) {
            // The last path for a number counts.
            let Some((_, path)) = left.iter().rfind(|(wanted, _)| *wanted == number) else {
                continue;
            };
            let place = Place {
                number,
                path: path.clone(),
                by_owner: true,
            };
            if !self.layout.placed.set(&entry.path, place) {
                return Err(number);
            }
            left.retain(|(wanted, _)| *wanted != number);
        }
        if let Some((number, _)) = left.first() {
            return Err(*number);
        }
        if !files.is_empty() {
            self.remember_places();
        }
        Ok(())
    }

    /// The path of a file beneath the named folder, if it lies elsewhere than the torrent says.
    pub fn found_at(&self, entry: &Entry) -> Option<PathBuf> {
        let place = self.layout().placed.get(&entry.path);
        place.map(|place| place.path)
    }

    /// Whether the owner named the paths of some files.
    pub fn has_named_files(&self) -> bool {
        self.layout().placed.has_named_files()
    }

    /// Whether to search for missing files now. The first search is due at once, later ones ever more seldom as long
    /// as files are `missing`.
    pub fn is_search_due(&self, missing: bool) -> bool {
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        searched.is_due(missing)
    }
}

fn is_empty(folder: &OwnedFd) -> rustix::io::Result<bool> {
    for name in rustix::fs::Dir::read_from(folder)? {
        if !matches!(name?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
