//! Checks of a torrent's files: piece hashes, and fingerprints that save hashing.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use everseed_core::bits;
use everseed_core::geometry::PieceIndex;
use everseed_core::hash::{Digest, Sha1};
use everseed_core::metainfo::FileKind;

use crate::cache::FileCache;
use crate::checkpoint::{self, Checkpoint, Marks};
use crate::content::Content;
use crate::error::ReadError;
use crate::fault::{Extent, Unread};
use crate::find;
use crate::hash::Fast;

pub use crate::fingerprint::{fingerprint, first_fingerprint};

/// Bytes that a check reads at a time. System calls are few at this size, and a chunk stays in the CPU's cache
/// between reading and hashing.
pub const CHUNK: usize = 128 * 1024;

/// Whether a piece has the hash that the torrent says. Missing or too short data gives `false`, not an error.
///
/// `scratch` must not be empty; [`CHUNK`] bytes serve well.
pub fn verify_piece(
    content: &Content,
    files: &FileCache,
    piece: PieceIndex,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let hash = content.piece_hash(&content.open_torrent()?, piece)?;
    absent_is_bad(verify(
        content,
        files,
        hash,
        piece,
        PieceStart::default(),
        scratch,
    ))
}

/// The hash of the beginning of a piece that is being written. Bytes that arrive in order are hashed at once and need
/// not be read back.
#[derive(Clone, Debug, Default)]
pub struct PieceStart {
    sha1: Fast,
    /// Number of bytes that were hashed.
    len: u64,
}

impl PieceStart {
    /// The number of bytes of the piece that were hashed.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte was hashed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hashes the bytes that follow those hashed so far.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.len += bytes.len() as u64;
    }
}

/// Verifies a piece as [`verify_piece`] does, but reads only what was not hashed while it was written. While content
/// is written, missing data is an error: the peers that sent the piece are not to blame.
pub fn finish_piece(
    content: &Content,
    files: &FileCache,
    piece: PieceIndex,
    begun: PieceStart,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let hash = content.piece_hash(&content.open_torrent()?, piece)?;
    verify(content, files, hash, piece, begun, scratch)
}

/// Checks every piece. Returns one bit for each (in the order of [`bits`]), or `None` if `progress` stopped the
/// check.
///
/// After each piece `progress` gets the number of bytes checked so far. A piece that cannot be read counts as bad,
/// and is given to `unread`. An error means that it concerns the whole content, or that none of the content can be
/// read.
///
/// The check opens files of its own, apart from those being served. What a download has not written yet is a hole in
/// its file and is not read, so an unfinished download is checked quickly. The rest is read from the disk, because
/// memory may hold writes that the disk did not take.
///
/// Files with bad pieces are then searched for elsewhere, see [`find::search`].
pub fn check(
    content: &Content,
    mut progress: impl FnMut(u64) -> ControlFlow<()>,
    mut unread: impl FnMut(Unread),
) -> Result<Option<Vec<u8>>, ReadError> {
    let mut check = Check::new(content);
    let mut scratch = vec![0; CHUNK];
    while check.left(content) > 0 {
        if let Some(fault) = check.step(content, &mut scratch)? {
            unread(fault);
        }
        if progress(check.done()).is_break() {
            return Ok(None);
        }
    }
    let done = check.done();
    check.finish(content, &mut || progress(done).is_continue())
}

/// A check that is done piece by piece, so that other work can be done in between.
///
/// Call [`step`](Self::step) until nothing is [`left`](Self::left), always with the same content. Between steps,
/// [`pause`](Self::pause) frees everything except the bits of the good pieces.
#[derive(Debug)]
pub struct Check {
    good: Vec<u8>,
    /// Pieces of which it is known whether they are good.
    checked: Vec<u8>,
    /// Before it there is nothing to do.
    next: u32,
    done: u64,
    failed: u32,
    zeros: Zeros,
    open: Option<OpenFiles>,
    /// What the files were when it began, if that can be kept.
    files: Option<Arc<Marks>>,
    ended: Arc<Mutex<bool>>,
}

/// The files that a check has open.
#[derive(Debug)]
pub struct OpenFiles {
    files: FileCache,
    torrent: File,
}

impl Check {
    /// Begins at the first piece.
    pub fn new(content: &Content) -> Check {
        content.held().begin_check();
        let nothing = vec![0; content.geometry().bitfield_len() as usize];
        Check {
            good: nothing.clone(),
            checked: nothing,
            next: 0,
            done: 0,
            failed: 0,
            zeros: Zeros::default(),
            open: None,
            files: None,
            ended: Arc::default(),
        }
    }

    /// Without the pieces that were checked before, as far as that was [kept](Checkpoint::save) and their files have
    /// not changed.
    pub fn resume(content: &Content) -> Check {
        let mut check = Check::new(content);
        check.files = checkpoint::marks(content).ok().map(Arc::new);
        let before = check.files.clone();
        if let Some(before) = before.and_then(|files| Checkpoint::load(content, files)) {
            let geometry = content.geometry();
            let pieces = (0..geometry.pieces()).filter(|&index| bits::get(&before.checked, index));
            let sizes =
                pieces.filter_map(|index| Some(geometry.piece_size(geometry.piece(index)?)));
            check.done = sizes.map(u64::from).sum();
            (check.checked, check.good) = (before.checked, before.good);
        }
        check
    }

    /// How far it came, to be written down. What could not be read is not in it, as it is to be told anew.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        Some(Checkpoint {
            files: self.files.clone()?,
            checked: self.checked.clone(),
            good: self.good.clone(),
            ended: Arc::clone(&self.ended),
        })
    }

    /// The check will not go on: no checkpoint of it is written from now on. What a later check finds counts.
    pub fn give_up(&self) {
        checkpoint::give_up(&self.ended);
    }

    /// Bytes that were checked so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Bytes that are still to be checked.
    pub fn left(&self, content: &Content) -> u64 {
        content.geometry().total().saturating_sub(self.done)
    }

    /// Gives away the check's open files. Dropping them closes them, which may wait for the disk.
    pub fn pause(&mut self) -> Option<OpenFiles> {
        self.open.take()
    }

    /// Searches elsewhere for files with bad pieces, see [`find::search`]. Returns one bit for each piece in
    /// the order of [`bits`], or `None` if `go_on`, which is asked again and again during the search, said no.
    pub fn finish(
        mut self,
        content: &Content,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let geometry = content.geometry();
        if bits::count(&self.good) == geometry.pieces() {
            checkpoint::end(content, &self.ended);
            return Ok(Some(self.good));
        }
        let mut stopped = false;
        let mut go_on = || {
            stopped = stopped || !go_on();
            !stopped
        };
        let found = find::search(content, Some(&self.good), &mut go_on)?;
        let files = FileCache::sequential(2, content.is_growing());
        let mut scratch = vec![0; CHUNK];
        for index in found.into_iter().flatten() {
            if bits::get(&self.good, index) || !go_on() {
                continue;
            }
            if let Some(piece) = geometry.piece(index)
                && verify_piece(content, &files, piece, &mut scratch).unwrap_or(false)
            {
                bits::set(&mut self.good, index);
            }
        }
        if stopped {
            return Ok(None);
        }
        checkpoint::end(content, &self.ended);
        Ok(Some(self.good))
    }

    /// Checks one piece, and returns what could not be read of it. An error ends the check.
    ///
    /// `scratch` must not be empty; [`CHUNK`] bytes serve well.
    pub fn step(
        &mut self,
        content: &Content,
        scratch: &mut [u8],
    ) -> Result<Option<Unread>, ReadError> {
        let geometry = content.geometry();
        while bits::get(&self.checked, self.next) {
            self.next += 1;
        }
        let Some(piece) = geometry.piece(self.next) else {
            return Ok(None);
        };
        let OpenFiles { files, torrent } = match &mut self.open {
            Some(open) => open,
            none => none.insert(OpenFiles {
                files: FileCache::sequential(2, content.is_growing()),
                torrent: content.open_torrent()?,
            }),
        };
        let (start, size) = (geometry.piece_offset(piece), geometry.piece_size(piece));
        let hash = content.piece_hash(torrent, piece)?;
        let mut is_absent = false;
        let is_good = match is_hole(content, files, start, size.into()) {
            Ok(true) => Ok(hash == self.zeros.hash(size, scratch)),
            Ok(false) => {
                let begun = PieceStart::default();
                let verified = verify(content, files, hash, piece, begun, scratch);
                is_absent = matches!(&verified, Err(error) if error.is_absence());
                absent_is_bad(verified)
            }
            Err(error) => Err(error),
        };
        self.next += 1;
        self.done += u64::from(size);
        let error = match is_good {
            Ok(is_good) => {
                // What is absent, perhaps with its disk, is looked at again by the next check.
                if !is_absent {
                    bits::set(&mut self.checked, piece.get());
                }
                if is_good {
                    bits::set(&mut self.good, piece.get());
                }
                return Ok(None);
            }
            Err(error) => error,
        };
        let fault = Unread::judge(content, piece.get(), error);
        self.failed += 1;
        if fault.extent == Extent::Disk || self.failed == geometry.pieces() {
            return Err(fault.error);
        }
        if fault.extent == Extent::Change {
            // The changed file is opened anew, so that what is there now is checked. The seeder checks it again soon.
            content.close_files(files);
        }
        Ok(Some(fault))
    }
}

fn is_hole(content: &Content, files: &FileCache, at: u64, len: u64) -> Result<bool, ReadError> {
    match content.is_hole(files, at, len) {
        Err(error) if error.is_absence() => Ok(false),
        other => other,
    }
}

/// The hash of a piece of zeros, which a torrent may well have.
#[derive(Debug, Default)]
struct Zeros {
    known: Option<(u32, Digest)>,
}

impl Zeros {
    fn hash(&mut self, size: u32, scratch: &mut [u8]) -> Digest {
        if let Some((known, hash)) = self.known
            && known == size
        {
            return hash;
        }
        scratch.fill(0);
        let mut sha1 = Fast::default();
        let mut left = size as usize;
        while left > 0 {
            let len = left.min(scratch.len());
            sha1.update(&scratch[..len]);
            left -= len;
        }
        let hash = sha1.finish();
        self.known = Some((size, hash));
        hash
    }
}

/// Fails if none of the files is there, and names the first one. Then the disk is not mounted or the folder is wrong,
/// and what was verified before stays valid.
pub fn reachable(content: &Content) -> Result<(), ReadError> {
    let path = content.root();
    let is_away = path.symlink_metadata().is_err() && content.layout().placed.is_empty();
    if is_away || content.is_bare() {
        return Err(ReadError::Missing { path });
    }
    let mut link = None;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind != FileKind::Data || entry.len == 0 {
            continue;
        }
        match content.probe(&entry) {
            Ok(()) | Err(ReadError::Short { .. }) => return Ok(()),
            Err(error @ ReadError::Leaves { .. }) => link = link.or(Some(error)),
            // This says nothing about the file.
            Err(error) if error.is_shortage() => return Err(error),
            Err(_) => {}
        }
    }
    Err(link.unwrap_or(ReadError::Missing { path }))
}

/// The first file that is not read because a link leads out of the folder, and the number of such files.
pub fn links_out(content: &Content) -> Result<Option<(ReadError, u32)>, ReadError> {
    let mut first = None;
    let mut count = 0;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if let Err(error @ ReadError::Leaves { .. }) = content.probe(&entry) {
            count += 1;
            first = first.or(Some(error));
        }
    }
    Ok(first.map(|first| (first, count)))
}

/// Whether none of the files exists.
pub fn is_nothing_there(content: &Content) -> bool {
    let is_bare = content.is_bare();
    let mut entries = content.entries().into_iter().flatten().flatten();
    let is_there =
        |entry: &crate::Entry| entry.kind == FileKind::Data && content.probe(entry).is_ok();
    is_bare || !entries.any(|entry| is_there(&entry))
}

/// The pieces whose files are long enough to hold them; their bytes are not read. `None` means all pieces.
pub fn present(content: &Content) -> Result<Option<Vec<u8>>, ReadError> {
    let geometry = content.geometry();
    let mut bitfield: Option<Vec<u8>> = None;
    let is_bare = content.is_bare();
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind != FileKind::Data {
            continue;
        }
        // A file that cannot be looked at counts as missing.
        let there = (!is_bare).then(|| content.stat(&entry)).flatten();
        let size = there.map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
        if size.is_some_and(|size| size >= entry.len) {
            continue;
        }
        if size.is_none()
            && !is_bare
            && let Err(error) = content.probe(&entry)
            && error.is_shortage()
        {
            return Err(error);
        }
        let bitfield = bitfield.get_or_insert_with(|| {
            let mut all = vec![0; geometry.bitfield_len() as usize];
            (0..geometry.pieces()).for_each(|index| _ = bits::set(&mut all, index));
            all
        });
        for index in entry.pieces_from(geometry, size.unwrap_or(0)) {
            bits::clear(bitfield, index);
        }
    }
    Ok(bitfield)
}

fn absent_is_bad(verified: Result<bool, ReadError>) -> Result<bool, ReadError> {
    match verified {
        Err(error) if error.is_absence() => Ok(false),
        other => other,
    }
}

fn verify(
    content: &Content,
    files: &FileCache,
    expected: Digest,
    piece: PieceIndex,
    mut begun: PieceStart,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let geometry = content.geometry();
    let start = geometry.piece_offset(piece);
    let end = start + u64::from(geometry.piece_size(piece));
    let mut offset = start + begun.len;
    while offset < end {
        let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let room = room.min(scratch.len());
        let chunk = &mut scratch[..room];
        match content.read(files, offset, chunk) {
            Ok(()) => {}
            Err(error) if error.is_absence() && !content.is_growing() => return Ok(false),
            Err(error) => return Err(error),
        }
        begun.update(chunk);
        offset += chunk.len() as u64;
    }
    Ok(begun.sha1.finish() == expected)
}
