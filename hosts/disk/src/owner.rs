//! The owner's files in a download: files that exist already and that we must not write, see `ours`.
//!
//! Those that hold what the torrent says count as downloaded. This module finds the others, and the pieces that
//! cannot be downloaded because of them.

use std::path::PathBuf;

use everseed_core::bits;
use everseed_core::geometry::PieceIndex;
use everseed_core::metainfo::FileKind;

use crate::content::Content;
use crate::entry::Entry;
use crate::error::ReadError;
use crate::ours::{Mark, Note, Ours};
use crate::unfinished::is_unfinished;
use crate::write::{self, WriteError};

/// The owner's files whose content is not the torrent's.
#[derive(Debug)]
pub struct Differing {
    /// The first few of them.
    pub files: Vec<PathBuf>,
    /// The number of them.
    pub count: usize,
    /// Pieces that would have to be written into them, one bit each.
    pub pieces: Vec<u8>,
    /// Files that are also another file of the torrent, as on a file system that ignores case. That is no mistake of
    /// the owner's.
    pub twins: Vec<PathBuf>,
    /// Whether one of them is noted as complete in this run of the machine, so that `good` may be older than the file.
    pub contradicts: bool,
    /// Numbers and inodes of all files that differ.
    numbers: Vec<(u64, Inode)>,
}

/// The device and the number of an inode.
type Inode = (u64, u64);

/// What may be done with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// It may be written: there is nothing to lose, or it is ours.
    Open,
    /// It is the owner's.
    Kept,
    /// It is the owner's, and a piece that lies in it alone is bad.
    Bad,
    /// It is padding.
    Zeros,
}

/// Finds the owner's wanted files whose content is not the torrent's; `good` are the pieces that are there.
///
/// A bad piece that lies in several files is charged to those that have other bad pieces. If none has, it is charged
/// to all of them, unless one is still to be written.
pub fn differing(
    content: &Content,
    good: &[u8],
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<Option<Differing>, ReadError> {
    if content.is_bare() {
        return Ok(None);
    }
    let geometry = content.geometry();
    let no_pieces = || vec![0; geometry.bitfield_len() as usize];
    let (mut open, mut blamed, mut pieces) = (no_pieces(), no_pieces(), no_pieces());
    let mut states = Vec::new();
    let is_bad = |piece: u32| !bits::get(good, piece);
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.len == 0 {
            continue;
        }
        let mut state = look(content, states.len() as u64, &entry).0;
        let range = entry.pieces(geometry);
        if state == Ownership::Open {
            range
                .clone()
                .for_each(|piece| _ = bits::set(&mut open, piece));
        } else if state == Ownership::Kept
            && range
                .clone()
                .any(|p| is_bad(p) && is_inside(content, &entry, p))
        {
            state = Ownership::Bad;
            range.for_each(|piece| _ = bits::set(&mut blamed, piece));
        }
        states.push(state);
    }
    let (mut numbers, mut number, mut contradicts) = (Vec::new(), 0, false);
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        let wanted = wanted(&entry);
        if entry.len == 0 {
            continue;
        }
        let state = states.get(number).copied().unwrap_or(Ownership::Open);
        number += 1;
        let range = entry.pieces(geometry);
        let guilty = |p: u32| is_bad(p) && !bits::get(&open, p) && !bits::get(&blamed, p);
        let differs = match state {
            Ownership::Bad => true,
            Ownership::Kept => range.clone().any(guilty),
            Ownership::Open | Ownership::Zeros => false,
        };
        if !(wanted && differs) {
            continue;
        }
        for piece in range.filter(|&p| is_bad(p) && !bits::get(&open, p)) {
            bits::set(&mut pieces, piece);
        }
        let number = number as u64 - 1;
        let note = content.ours().map(|ours| ours.note(number));
        contradicts |= matches!(note, Some(Note::Complete(_) | Note::Syncing(_)));
        numbers.push((number, look(content, number, &entry).1));
    }
    if numbers.is_empty() {
        return Ok(None);
    }
    let mut found = Differing {
        files: Vec::new(),
        count: 0,
        pieces,
        twins: Vec::new(),
        contradicts,
        numbers,
    };
    found.name(content)?;
    Ok(Some(found))
}

impl Differing {
    /// Fills in the files' paths, and moves those that are also another file to `twins`.
    fn name(&mut self, content: &Content) -> Result<(), ReadError> {
        let mut inodes: Vec<Inode> = self.numbers.iter().map(|&(_, inode)| inode).collect();
        inodes.sort_unstable();
        let mut seen = vec![0_u8; inodes.len()];
        let each = |act: &mut dyn FnMut(u64, &Entry, Inode)| {
            let mut number = 0;
            for entry in content.entries()? {
                let entry = entry.map_err(|error| content.torrent_error(error))?;
                if entry.len > 0 {
                    act(number, &entry, look(content, number, &entry).1);
                    number += 1;
                }
            }
            Ok(())
        };
        each(&mut |_, _, inode| {
            if let Ok(at) = inodes.binary_search(&inode) {
                seen[at] = seen[at].saturating_add(1);
            }
        })?;
        let is_twin = |inode: &Inode| inodes.binary_search(inode).is_ok_and(|at| seen[at] > 1);
        let (files, twins) = (&mut self.files, &mut self.twins);
        let numbers = &self.numbers;
        each(&mut |number, entry, inode| {
            if numbers.binary_search_by_key(&number, |&(n, _)| n).is_ok() {
                let list = if is_twin(&inode) {
                    &mut *twins
                } else {
                    &mut *files
                };
                if list.len() < NAMED {
                    list.push(content.path_of(entry));
                }
            }
        })?;
        self.numbers.retain(|(_, inode)| !is_twin(inode));
        self.count = self.numbers.len();
        Ok(())
    }
}

/// Forgets where a search found such of these files as are copies elsewhere, which may be a backup or belong to another
/// torrent. Returns whether there were any: then the pieces have to be checked again, and the files lie at their own
/// places. An unfinished file of another client beside a file's place is no copy, nor is one that the owner named.
pub fn leave_copies(content: &Content, differing: &Differing) -> Result<bool, ReadError> {
    let layout = content.layout();
    let mut left = false;
    let mut number = 0;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.len == 0 {
            continue;
        }
        let numbers = &differing.numbers;
        let differs = numbers.binary_search_by_key(&number, |&(n, _)| n).is_ok();
        number += 1;
        let place = layout.placed.get(&entry.path).filter(|_| differs);
        let is_copy = place.is_some_and(|place| {
            // A single file may lie in a folder of its own name.
            let is_within = place.path.starts_with(layout.relative(&entry.path));
            !place.by_owner && !is_within && !is_unfinished(content, &entry, &place.path)
        });
        if is_copy {
            layout.placed.remove(&entry.path);
            left = true;
        }
    }
    if left {
        content.remember_places();
    }
    Ok(left)
}

/// Makes these files ours, because the owner wants them to be overwritten.
pub fn overwrite(content: &Content, differing: &Differing) -> Result<(), WriteError> {
    let Some(ours) = content.ours() else {
        return Ok(());
    };
    let mut numbers = differing
        .numbers
        .iter()
        .map(|&(number, _)| number)
        .peekable();
    let mut number = 0;
    for entry in content.entries().map_err(WriteError::Place)? {
        let entry = entry.map_err(|e| WriteError::Place(content.torrent_error(e)))?;
        if entry.len == 0 {
            continue;
        }
        if numbers.next_if_eq(&number).is_some() {
            write::take(content, &ours, number, &content.place_of(&entry))?;
        }
        number += 1;
    }
    write::sync_record(&ours)
}

/// Notes which files are complete when a download begins.
pub fn note_complete(content: &Content) -> Result<(), ReadError> {
    let Some(ours) = content.ours() else {
        return Ok(());
    };
    let mut number = 0;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.len > 0 {
            content.note_complete(&ours, number, entry.start, entry.len);
            number += 1;
        }
    }
    Ok(())
}

/// Whether a piece lies in this file alone.
fn is_inside(content: &Content, entry: &Entry, piece: u32) -> bool {
    let geometry = content.geometry();
    let Some(piece) = geometry.piece(piece) else {
        return false;
    };
    let start = geometry.piece_offset(piece);
    let end = start + u64::from(geometry.piece_size(piece));
    entry.start <= start && end <= entry.start + entry.len
}

fn look(content: &Content, number: u64, entry: &Entry) -> (Ownership, Inode) {
    if entry.kind != FileKind::Data {
        return (Ownership::Zeros, (0, 0));
    }
    let layout = content.layout();
    // An obstacle at the file's path is found when the file is written.
    let Ok((file, stat)) = layout.named().find_file(&content.place_of(entry)) else {
        return (Ownership::Open, (0, 0));
    };
    // The types of these fields differ between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let inode = (stat.st_dev as u64, stat.st_ino as u64);
    let note = content
        .ours()
        .map_or(Note::Owners, |ours| ours.note(number));
    let state = match note {
        Note::Ours(mark) if mark.fits(Mark::of(&file)) => Ownership::Open,
        _ if stat.st_size == 0 && stat.st_nlink == 1 => Ownership::Open,
        _ => Ownership::Kept,
    };
    (state, inode)
}

/// The most files that are named.
const NAMED: usize = 8;

impl Content {
    /// Whether all files of a piece may be written.
    pub fn writes_all_of(&self, piece: PieceIndex) -> bool {
        let Some(ours) = self.ours() else {
            return true;
        };
        let is_ours = |record: &crate::index::Record| {
            record.zeros || matches!(ours.note(record.number), Note::Ours(_))
        };
        self.records_of(piece, |record| is_ours(&record))
    }

    /// A piece is good: files that are now complete become the owner's. Returns whether there are any; close the
    /// content's files then.
    pub fn completed(&self, piece: PieceIndex) -> bool {
        let Some(ours) = self.ours().filter(|ours| ours.is_news(piece)) else {
            return false;
        };
        let mut any = false;
        self.records_of(piece, |record| {
            any |= self.note_complete(&ours, record.number, record.start, record.len);
            true
        });
        any
    }

    fn note_complete(&self, ours: &Ours, number: u64, start: u64, len: u64) -> bool {
        let Note::Ours(mark) = ours.note(number) else {
            return false;
        };
        // If the note fails, the file stays writable longer than it should.
        ours.is_good(self.geometry(), start, len) && ours.put(number, Note::Complete(mark)).is_ok()
    }

    /// An error that names the owner's file, if this piece reaches into a file that is not ours.
    pub fn owners_piece(&self, piece: PieceIndex) -> Option<ReadError> {
        if self.writes_all_of(piece) {
            return None;
        }
        let ours = self.ours()?;
        let mut path = self.root();
        self.records_of(piece, |record| {
            let is_ours = record.zeros || matches!(ours.note(record.number), Note::Ours(_));
            if !is_ours {
                path = self.path_holding(record.start);
            }
            is_ours
        });
        Some(ReadError::Owners { path })
    }

    /// Whether `holds` is true for all files of a piece.
    fn records_of(
        &self,
        piece: PieceIndex,
        mut holds: impl FnMut(crate::index::Record) -> bool,
    ) -> bool {
        let geometry = self.geometry();
        let mut at = geometry.piece_offset(piece);
        let end = at + u64::from(geometry.piece_size(piece));
        while at < end {
            let Ok(record) = self.record(at) else {
                return false;
            };
            if !holds(record) {
                return false;
            }
            at = record.start + record.len;
        }
        true
    }
}
