//! A search for files that lie elsewhere than the torrent says: other clients spell names in other ways, and people
//! rename and move files.
//!
//! A file is recognized by its size, then by the hashes of its pieces, whatever its name. The name only decides which
//! of several candidates is tried first. So no table of spellings is needed, and no file is taken that the torrent
//! does not have. The search looks at `LOOKED` names at most, keeps `CANDIDATES` of them, and ends when the caller
//! says so.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::iter;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use everseed_core::bits;
use everseed_core::metainfo::FileKind;
use rustix::fs::{Dir, FileType};

use crate::cache::FileCache;
use crate::check::{CHUNK, verify_piece};
use crate::content::Content;
use crate::entry::Entry;
use crate::error::ReadError;
use crate::placed::{MOST, Place};
use crate::relocate;
use crate::unfinished;

/// A file that is not at its expected place.
struct Lost {
    number: u64,
    entry: Entry,
    /// The place where an earlier search found it, and where it is no more.
    before: Option<Place>,
    found: bool,
}

/// Searches for files that are missing or too short. If `good` pieces are given, it also searches for files with bad
/// pieces. For one that has good pieces too, another file is taken only if it has all of them and more; besides
/// unfinished files of other clients beside it, `BETTER` files of exactly its size are tried. Returns the pieces
/// whose files are others now. `go_on` is asked again and again during the search.
///
/// Found places are remembered. Files that a download writes are not searched for.
pub fn search(
    content: &Content,
    good: Option<&[u8]>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Range<u32>>, ReadError> {
    if content.is_growing() {
        return Ok(Vec::new());
    }
    let damaged = damaged_files(content, good)?;
    let (mut lost, more) = lost_files(content, good)?;
    if lost.is_empty() && damaged.is_empty() {
        return Ok(Vec::new());
    }
    let entries = lost.iter().map(|lost| &lost.entry);
    let entries = entries.chain(damaged.iter().map(|(_, entry)| entry));
    let candidates = walk(content, entries.map(|entry| entry.len).collect(), go_on);
    // Nothing is there before a download begins, and there is nothing to say.
    if more && !candidates.is_empty() {
        log::warn!(
            "{}: more than {MOST} files are missing; the others are not searched for elsewhere",
            content.name()
        );
    }
    let mut by_len: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, (_, len)) in candidates.iter().enumerate() {
        by_len.entry(*len).or_default().push(at);
    }
    let used = vec![false; candidates.len()];
    let mut finder = Finder {
        content,
        candidates,
        by_len,
        used,
        untried: false,
        scratch: vec![0; CHUNK],
    };
    for lost in &mut lost {
        finder.alone(lost, go_on)?;
    }
    finder.together(&mut lost, go_on)?;
    let left = lost.iter().filter(|lost| !lost.found).count();
    if finder.untried && left > 0 {
        log::warn!(
            "{}: {left} files are missing, and there are more files of their sizes than are tried; name one by --file",
            content.name()
        );
    }
    let placed = &content.layout().placed;
    let mut pieces = Vec::new();
    let mut changed = false;
    let mut found = HashSet::new();
    for lost in lost {
        let name = &lost.entry.path;
        match lost.before {
            // The file may come back to its former place.
            Some(before) if !lost.found => _ = placed.set(name, before),
            before => changed |= placed.get(name) != before,
        }
        if lost.found {
            found.insert(lost.number);
            pieces.push(lost.entry.pieces(content.geometry()));
        }
    }
    for (number, entry) in damaged {
        if !found.contains(&number) && finder.better(number, &entry, good, go_on)? {
            changed = true;
            pieces.push(entry.pieces(content.geometry()));
        }
    }
    if changed {
        content.remember_places();
    }
    Ok(pieces)
}

/// The first [`MOST`] files that are there and have bad pieces, with their numbers.
fn damaged_files(content: &Content, good: Option<&[u8]>) -> Result<Vec<(u64, Entry)>, ReadError> {
    let mut damaged = Vec::new();
    let Some(good) = good.filter(|_| !content.is_bare()) else {
        return Ok(damaged);
    };
    let placed = &content.layout().placed;
    for (number, entry) in (1..).zip(content.entries()?) {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        let mut pieces = entry.pieces(content.geometry());
        if entry.kind != FileKind::Data || pieces.all(|piece| bits::get(good, piece)) {
            continue;
        }
        let is_there = matches!(content.probe(&entry), Ok(()) | Err(ReadError::Short { .. }));
        if is_there && placed.get(&entry.path).is_none_or(|place| !place.by_owner) {
            damaged.push((number, entry));
        }
        if damaged.len() == MOST {
            break;
        }
    }
    Ok(damaged)
}

/// The first [`MOST`] of them, and whether there are more.
fn lost_files(content: &Content, good: Option<&[u8]>) -> Result<(Vec<Lost>, bool), ReadError> {
    let placed = &content.layout().placed;
    let mut lost = Vec::new();
    let is_bare = content.is_bare();
    for (number, entry) in (1..).zip(content.entries()?) {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind != FileKind::Data || entry.len == 0 {
            continue;
        }
        let before = placed.get(&entry.path);
        let any_good = |good: &[u8]| {
            let mut pieces = entry.pieces(content.geometry());
            pieces.any(|piece| bits::get(good, piece))
        };
        let is_bad =
            is_bare || content.probe(&entry).is_err() || good.is_some_and(|good| !any_good(good));
        if !is_bad || before.as_ref().is_some_and(|before| before.by_owner) {
            continue;
        }
        if lost.len() == MOST {
            return Ok((lost, true));
        }
        placed.remove(&entry.path);
        lost.push(Lost {
            number,
            entry,
            before,
            found: false,
        });
    }
    Ok((lost, false))
}

/// Lists regular files beneath the folder that have one of these sizes. The torrent's own folder comes first.
fn walk(
    content: &Content,
    sizes: HashSet<u64>,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<(PathBuf, u64)> {
    let layout = content.layout();
    let (root, base) = (layout.named(), layout.base());
    let mut folders = VecDeque::from([PathBuf::new()]);
    if !base.as_os_str().is_empty() {
        folders.push_front(base.to_owned());
    }
    let mut found = Vec::new();
    let mut looked = 0;
    let mut is_base = true;
    while let Some(folder) = folders.pop_front() {
        // The torrent's own folder is met a second time.
        if !std::mem::take(&mut is_base) && !folder.as_os_str().is_empty() && folder == base {
            continue;
        }
        let opened = root.open_folder(&folder).map(Dir::read_from);
        let Ok(Ok(entries)) = opened else { continue };
        let mut inner = VecDeque::new();
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            looked += 1;
            if looked > LOOKED || found.len() == CANDIDATES || !go_on() {
                log::warn!(
                    "{}: there are more files than are looked at in search of those that are missing; \
                     name one by --file",
                    content.name()
                );
                return found;
            }
            let path = folder.join(name);
            match entry.file_type() {
                // A folder whose content is being moved to its final place.
                FileType::Directory if relocate::is_passing(name) => {}
                FileType::Directory => inner.push_back(path),
                FileType::RegularFile | FileType::Symlink | FileType::Unknown => {
                    let Ok(stat) = root.stat_file(&path) else {
                        // Some file systems do not tell an entry's type.
                        if entry.file_type() == FileType::Unknown {
                            inner.push_back(path);
                        }
                        continue;
                    };
                    let len = u64::try_from(stat.st_size).unwrap_or(0);
                    if sizes.contains(&len) {
                        found.push((path, len));
                    }
                }
                _ => {}
            }
        }
        // Depth first within the torrent's own folder, so that all of it comes before the rest.
        if folder.starts_with(base) {
            inner
                .into_iter()
                .rev()
                .for_each(|path| folders.push_front(path));
        } else {
            folders.append(&mut inner);
        }
    }
    found
}

struct Finder<'a> {
    content: &'a Content,
    /// Paths beneath the named folder, with their sizes.
    candidates: Vec<(PathBuf, u64)>,
    by_len: HashMap<u64, Vec<usize>>,
    /// Which candidates were taken for a file.
    used: Vec<bool>,
    /// Whether some candidates were not tried because there were too many.
    untried: bool,
    scratch: Vec<u8>,
}

impl Finder<'_> {
    /// Finds a file that has at least one piece to itself.
    fn alone(&mut self, lost: &mut Lost, go_on: &mut dyn FnMut() -> bool) -> Result<(), ReadError> {
        let pieces = own_pieces(self.content, &lost.entry);
        if pieces.is_empty() {
            return Ok(());
        }
        let middle = pieces.start + (pieces.end - pieces.start) / 2;
        let samples = [pieces.start, middle, pieces.end - 1];
        for candidate in self.ranked(&lost.entry, RANKED) {
            if !go_on() {
                break;
            }
            if !self.place(lost, candidate) {
                break;
            }
            let mut all = true;
            for piece in samples {
                all = all && self.is_good(piece)?;
            }
            if all {
                self.used[candidate] = true;
                lost.found = true;
                return Ok(());
            }
        }
        self.content.layout().placed.remove(&lost.entry.path);
        Ok(())
    }

    /// Finds another file that has all good pieces of a damaged one, and more: an unfinished file of another client
    /// beside it, or one of exactly its size.
    ///
    /// Pieces may be sent meanwhile. So a file is tried only if it is the same in all of the good ones.
    fn better(
        &mut self,
        number: u64,
        entry: &Entry,
        good: Option<&[u8]>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, ReadError> {
        let good = good.unwrap_or_default();
        let content = self.content;
        let placed = &content.layout().placed;
        let (before, now) = (placed.get(&entry.path), content.place_of(entry));
        let usual = content.layout().relative(&entry.path).into_owned();
        // Files of its size were tried already if it has no good piece.
        let mut pieces = entry.pieces(content.geometry());
        let any_good = pieces.any(|piece| bits::get(good, piece));
        let ranked = match any_good {
            true => self.ranked(entry, BETTER).into_iter(),
            false => Vec::new().into_iter(),
        };
        let ranked: Vec<_> = ranked.map(|at| self.candidates[at].0.clone()).collect();
        let beside = unfinished::beside(content, entry, &usual);
        for path in iter::once(usual.clone()).chain(beside).chain(ranked) {
            if path == now || !go_on() || !has_all(content, entry, good, [&now, &path], go_on) {
                continue;
            }
            let place = (path != usual).then_some(Place {
                number,
                path,
                by_owner: false,
            });
            placed.put(&entry.path, place);
            for piece in entry.pieces(content.geometry()) {
                if !bits::get(good, piece) && go_on() && self.is_good(piece)? {
                    return Ok(true);
                }
            }
            placed.put(&entry.path, before.clone());
        }
        Ok(false)
    }

    /// Finds files that share all their pieces with others, which may be lost too.
    fn together(
        &mut self,
        lost: &mut [Lost],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), ReadError> {
        let geometry = self.content.geometry();
        for at in 0..lost.len() {
            if lost[at].found {
                continue;
            }
            let pieces = lost[at].entry.pieces(geometry);
            for piece in [pieces.start, pieces.end.saturating_sub(1)] {
                let within = |other: &Lost| other.entry.pieces(geometry).contains(&piece);
                let from = lost[..at].iter().rposition(|other| !within(other));
                let from = from.map_or(0, |before| before + 1);
                let len = lost[at..].iter().take_while(|other| within(other)).count();
                let members = &mut lost[from..at + len];
                if self.try_together(members, piece, go_on)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tries candidates for all lost files of one piece at once, the likeliest first.
    fn try_together(
        &mut self,
        members: &mut [Lost],
        piece: u32,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, ReadError> {
        let mut open: Vec<&mut Lost> = members.iter_mut().filter(|lost| !lost.found).collect();
        let mut choices: Vec<Vec<usize>> = Vec::new();
        let mut first = Vec::new();
        for lost in &open {
            let mut ranked = self.ranked(&lost.entry, TOGETHER);
            // Two files of the torrent are seldom one file on disk.
            if let Some(free) = ranked.iter().position(|choice| !first.contains(choice)) {
                ranked.swap(0, free);
            }
            let Some(&best) = ranked.first() else {
                return Ok(false);
            };
            first.push(best);
            choices.push(ranked);
        }
        let mut turn = vec![0; choices.len()];
        let mut good = false;
        for trial in 1..=TRIALS {
            let mut placed = go_on();
            for ((lost, choices), &turn) in open.iter().zip(&choices).zip(&turn) {
                placed = placed && self.place(lost, choices[turn]);
            }
            if !placed {
                break;
            }
            good = self.is_good(piece)?;
            if good || !next(&mut turn, &choices) {
                break;
            }
            self.untried |= trial == TRIALS;
        }
        for ((lost, choices), turn) in open.iter_mut().zip(choices).zip(turn) {
            if good {
                lost.found = true;
                self.used[choices[turn]] = true;
            } else {
                self.content.layout().placed.remove(&lost.entry.path);
            }
        }
        Ok(good)
    }

    /// Candidates of the right size, the likeliest first.
    fn ranked(&mut self, entry: &Entry, most: usize) -> Vec<usize> {
        let empty = Vec::new();
        let all = self.by_len.get(&entry.len).unwrap_or(&empty);
        let own = self.content.place_of(entry);
        let rank = |&at: &usize| {
            let likeness = likeness(&own, &self.candidates[at].0);
            (self.used[at], std::cmp::Reverse(likeness), at)
        };
        let mut ranked = all.clone();
        ranked.sort_by_cached_key(rank);
        self.untried |= ranked.len() > most;
        ranked.truncate(most);
        ranked
    }

    /// Takes a candidate for a file. Returns whether there was room to remember its place.
    fn place(&self, lost: &Lost, candidate: usize) -> bool {
        let layout = self.content.layout();
        let (name, path) = (&lost.entry.path, &self.candidates[candidate].0);
        layout.placed.remove(name);
        if self.content.place_of(&lost.entry) == *path {
            return true;
        }
        let place = Place {
            number: lost.number,
            path: path.clone(),
            by_owner: false,
        };
        layout.placed.set(name, place)
    }

    fn is_good(&mut self, piece: u32) -> Result<bool, ReadError> {
        let Some(piece) = self.content.geometry().piece(piece) else {
            return Ok(false);
        };
        // The cache is new each time, because another candidate's file may have been open under this offset.
        let files = FileCache::new(2);
        match verify_piece(self.content, &files, piece, &mut self.scratch) {
            Err(error @ ReadError::Torrent { .. }) => Err(error),
            // A piece that cannot be read is not good.
            verified => Ok(verified.unwrap_or(false)),
        }
    }
}

/// The pieces that hold bytes of this file alone.
fn own_pieces(content: &Content, entry: &Entry) -> Range<u32> {
    let geometry = content.geometry();
    let mut pieces = entry.pieces(geometry);
    let end = entry.start + entry.len;
    let outside = |piece| {
        geometry.piece(piece).is_none_or(|piece| {
            let start = geometry.piece_offset(piece);
            start < entry.start || start + u64::from(geometry.piece_size(piece)) > end
        })
    };
    if !pieces.is_empty() && outside(pieces.start) {
        pieces.start += 1;
    }
    if !pieces.is_empty() && outside(pieces.end - 1) {
        pieces.end -= 1;
    }
    pieces
}

/// Whether the second of two files holds the same as the first in all good pieces, and is another file.
fn has_all(
    content: &Content,
    entry: &Entry,
    good: &[u8],
    paths: [&Path; 2],
    go_on: &mut dyn FnMut() -> bool,
) -> bool {
    let (geometry, named) = (content.geometry(), content.layout().named());
    let [Ok((one, one_is)), Ok((other, other_is))] = paths.map(|path| named.open_file(path)) else {
        return false;
    };
    let files = [File::from(one), File::from(other)];
    let end = entry.start + entry.len;
    let [mut bytes, mut others] = [(); 2].map(|()| vec![0; CHUNK]);
    let mut same = |mut at: u64, end: u64| {
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let (bytes, others) = (&mut bytes[..len], &mut others[..len]);
            let read = files[0].read_exact_at(bytes, at).is_ok();
            if !go_on() || !read || files[1].read_exact_at(others, at).is_err() || bytes != others {
                return false;
            }
            at += len as u64;
        }
        true
    };
    let mut pieces = entry.pieces(geometry).filter_map(|piece| {
        let piece = geometry.piece(piece).filter(|_| bits::get(good, piece))?;
        let start = geometry.piece_offset(piece);
        let stop = start + u64::from(geometry.piece_size(piece));
        Some((start.max(entry.start), stop.min(end)))
    });
    (one_is.st_dev, one_is.st_ino) != (other_is.st_dev, other_is.st_ino)
        && pieces.all(|(start, stop)| same(start - entry.start, stop - entry.start))
}

/// Advances to the next combination of choices; the first one turns fastest.
fn next(turn: &mut [usize], choices: &[Vec<usize>]) -> bool {
    for (turn, choices) in turn.iter_mut().zip(choices) {
        *turn += 1;
        if *turn < choices.len() {
            return true;
        }
        *turn = 0;
    }
    false
}

/// The similarity of two paths: equal bytes at the start and the end of their last names, and equal folders.
fn likeness(a: &Path, b: &Path) -> usize {
    let name = |path: &Path| path.file_name().unwrap_or_default().as_bytes().to_owned();
    let (x, y) = (name(a), name(b));
    let start = x.iter().zip(&y).take_while(|(x, y)| x == y).count();
    let (x, y) = (&x[start..], &y[start..]);
    let end = x.iter().rev().zip(y.iter().rev());
    let end = end.take_while(|(x, y)| x == y).count();
    let folders = |path: &Path| -> Vec<_> {
        let folder = path.parent().unwrap_or(Path::new(""));
        folder.iter().rev().map(OsStr::to_owned).collect()
    };
    let (p, q) = (folders(a), folders(b));
    let same = p.iter().zip(&q).filter(|(p, q)| p == q).count();
    start + end + 4 * same
}

/// The most names that one search looks at.
const LOOKED: usize = 100_000;

/// The most files of a wanted size that one search keeps.
const CANDIDATES: usize = 20_000;

/// The most candidates that are tried for one file.
const RANKED: usize = 1000;

/// The most candidates for a file that has good pieces, and bad ones.
const BETTER: usize = 16;

/// The most candidates for each of several files that are tried together.
const TOGETHER: usize = 8;

/// The most combinations that are tried for the files of one piece.
const TRIALS: usize = 256;
