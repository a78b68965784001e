//! The record of a download's own files: those that everseed made itself and has not completed. Only they are
//! written.
//!
//! Every other file at a path of the torrent is the owner's, and is read but never written: a file that was there
//! before, one that was changed after it was completed, one that somebody put in the place of ours.
//!
//! The record is a small file of the state, `HASH.download`. Its head names the torrent; four bytes follow for each
//! file that holds at least one byte. They are zero unless everseed made the file and it is incomplete. Then they
//! hold a mark of the file, which tells it from another file in its place.
//!
//! The order of steps makes a crash at each moment safe:
//! - A file is made empty; a note of it is made durable; only then does it get its length and its bytes. Anybody may
//!   take an empty file, because nothing is lost with it.
//! - When its last piece is verified, a file is noted as complete at once. That is enough if the process is killed. A
//!   power cut may also take the end of the file. So until the next sync the note is valid only while the machine
//!   stays up: the record holds the id of the boot.
//! - The record is removed when the torrent is opened and no piece is missing. Without a record, all files are the
//!   owner's.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use everseed_core::bits;
use everseed_core::geometry::{Geometry, PieceIndex};
use everseed_core::hash::{InfoHash, Sha1};
use rustix::fs::{AtFlags, OFlags, Stat, StatxFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::hash::Fast;
use crate::regular::open_in_place;
use crate::replace::replace;

/// The record of one download.
#[derive(Debug)]
pub struct Ours {
    path: PathBuf,
    file: File,
    files: u64,
    /// Pieces that are good; they tell when a file is complete.
    good: Mutex<Vec<u8>>,
}

/// The record's note about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// The file is the owner's, or does not exist.
    Owners,
    /// We made the file, and may write it.
    Ours(Mark),
    /// All of the file is good, but it may not be on the disk yet.
    Complete(Mark),
    /// All of the file is good, and the running sync will bring it to the disk.
    Syncing(Mark),
}

/// A mark that tells a file from another one of the same name; 0 where the file system offers none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark(u32);

impl Ours {
    /// Opens the record at `path` for a torrent with this many files that hold a byte, or begins a new one. `good`
    /// are the pieces that are there.
    pub fn open(
        path: &Path,
        info_hash: InfoHash,
        content: &Path,
        files: u64,
        good: Vec<u8>,
    ) -> io::Result<Ours> {
        let head = Head {
            info_hash,
            place: place(content),
            boot: boot(),
            files,
        };
        if let Some(before) = Head::read(path, files)
            && before.boot != head.boot
            && (Head {
                boot: head.boot,
                ..before
            }) == head
        {
            // A file that was complete but not synced may have lost its end.
            let ours = Ours::writable(path, files, good)?;
            ours.turn(|note| match note {
                Note::Complete(mark) | Note::Syncing(mark) => Note::Ours(mark),
                note => note,
            })?;
            ours.file.sync_data()?;
            ours.file.write_all_at(&head.encode(), 0)?;
            ours.file.sync_data()?;
            return Ok(ours);
        }
        if Head::read(path, files) != Some(head) {
            replace(path, |out| {
                io::Write::write_all(out, &head.encode())?;
                out.get_ref().set_len(HEAD as u64 + 4 * files)
            })?;
        }
        Ours::writable(path, files, good)
    }

    fn writable(path: &Path, files: u64, good: Vec<u8>) -> io::Result<Ours> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
        Ok(Ours {
            path: path.to_owned(),
            file: file.into(),
            files,
            good: Mutex::new(good),
        })
    }

    /// The path of the record.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The note about the file of this number. An unreadable note counts as the owner's.
    pub(crate) fn note(&self, number: u64) -> Note {
        let mut word = [0; 4];
        match self.file.read_exact_at(&mut word, at(number)) {
            Ok(()) if number < self.files => Note::decode(word),
            _ => Note::Owners,
        }
    }

    /// Sets the note about a file; durable after [`sync`](Self::sync).
    pub(crate) fn put(&self, number: u64, note: Note) -> io::Result<()> {
        // The lock keeps this out of a change to many notes.
        let _good = self.good();
        self.file.write_all_at(&note.encode(), at(number))
    }

    /// Makes all notes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Notes that a piece is good. Returns whether that is new.
    pub(crate) fn is_news(&self, piece: PieceIndex) -> bool {
        let mut good = self.good();
        let news = !bits::get(&good, piece.get());
        bits::set(&mut good, piece.get());
        news
    }

    /// Whether all pieces that hold these bytes are good.
    pub(crate) fn is_good(&self, geometry: Geometry, start: u64, len: u64) -> bool {
        let number = |offset| geometry.piece_at(offset).map(PieceIndex::get);
        let last = (start + len).checked_sub(1).and_then(number);
        let (Some(first), Some(last)) = (number(start), last) else {
            return false;
        };
        let good = self.good();
        (first..=last).all(|piece| bits::get(&good, piece))
    }

    /// Notes that a sync begins, which will make the complete files durable.
    pub fn begin_sync(&self) -> io::Result<()> {
        self.turn(|note| match note {
            Note::Complete(mark) => Note::Syncing(mark),
            note => note,
        })
    }

    /// Notes that the sync has ended: the files that it covered are the owner's now.
    pub fn synced(&self) -> io::Result<()> {
        self.turn(|note| match note {
            Note::Syncing(_) => Note::Owners,
            note => note,
        })?;
        self.sync()
    }

    /// Notes that writes since the last sync may be lost: files that it would have covered count as incomplete again.
    pub fn doubt(&self) -> io::Result<()> {
        self.turn(|note| match note {
            Note::Complete(mark) | Note::Syncing(mark) => Note::Ours(mark),
            note => note,
        })?;
        self.good().fill(0);
        self.sync()
    }

    /// Notes that the content was moved to another folder, where its files have other marks.
    pub(crate) fn moved(
        &self,
        content: &Path,
        mut mark: impl FnMut(u64) -> Option<Mark>,
    ) -> io::Result<()> {
        let Some(head) = Head::read(&self.path, self.files) else {
            return Ok(());
        };
        for number in 0..self.files {
            if let Note::Ours(_) = self.note(number) {
                let note = mark(number).map_or(Note::Owners, Note::Ours);
                self.put(number, note)?;
            }
        }
        self.file.sync_data()?;
        let place = place(content);
        self.file
            .write_all_at(&Head { place, ..head }.encode(), 0)?;
        self.file.sync_data()
    }

    fn turn(&self, mut change: impl FnMut(Note) -> Note) -> io::Result<()> {
        let _good = self.good();
        let mut page = [0; 4 * 1024];
        let mut number = 0;
        while number < self.files {
            let left = usize::try_from(4 * (self.files - number)).unwrap_or(usize::MAX);
            let page = &mut page[..left.min(4 * 1024)];
            self.file.read_exact_at(page, at(number))?;
            let (words, _) = page.as_chunks_mut::<4>();
            let mut changed = false;
            for word in words.iter_mut() {
                let before = *word;
                *word = change(Note::decode(before)).encode();
                changed |= *word != before;
            }
            if changed {
                self.file.write_all_at(page, at(number))?;
            }
            number += page.len() as u64 / 4;
        }
        Ok(())
    }

    fn good(&self) -> MutexGuard<'_, Vec<u8>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Note {
    fn encode(self) -> [u8; 4] {
        let word = match self {
            Note::Owners => 0,
            Note::Ours(Mark(mark)) => mark << 2 | OURS,
            Note::Complete(Mark(mark)) => mark << 2 | COMPLETE,
            Note::Syncing(Mark(mark)) => mark << 2 | SYNCING,
        };
        word.to_le_bytes()
    }

    fn decode(word: [u8; 4]) -> Note {
        let word = u32::from_le_bytes(word);
        let mark = Mark(word >> 2);
        match word & 3 {
            OURS => Note::Ours(mark),
            COMPLETE => Note::Complete(mark),
            SYNCING => Note::Syncing(mark),
            _ => Note::Owners,
        }
    }
}

const OURS: u32 = 1;
const SYNCING: u32 = 2;
const COMPLETE: u32 = 3;

impl Mark {
    /// The mark of an open file, from its creation time and its inode.
    pub(crate) fn of(file: &OwnedFd) -> Mark {
        let kind = rustix::fs::fstatfs(file);
        // The type of the field differs between architectures.
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation
        )]
        let kind = kind.map_or(0, |stat| stat.f_type as u32);
        if FORGETFUL.contains(&kind) {
            return Mark(0);
        }
        let wanted = StatxFlags::BTIME | StatxFlags::INO;
        let mut sha1 = Fast::default();
        match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted) {
            Ok(found) => {
                sha1.update(&found.stx_ino.to_le_bytes());
                if found.stx_mask & StatxFlags::BTIME.bits() != 0 {
                    sha1.update(&found.stx_btime.tv_sec.to_le_bytes());
                    sha1.update(&found.stx_btime.tv_nsec.to_le_bytes());
                }
            }
            Err(_) => {
                let inode = rustix::fs::fstat(file).map_or(0, |stat: Stat| stat.st_ino);
                sha1.update(&inode.to_le_bytes());
            }
        }
        let [a, b, c, d, ..] = sha1.finish();
        // Never 0, which matches any mark.
        Mark((u32::from_le_bytes([a, b, c, d]) >> 2).max(1))
    }

    /// Whether two marks may be those of the same file.
    pub(crate) fn fits(self, other: Mark) -> bool {
        self == other || self.0 == 0 || other.0 == 0
    }
}

/// Magic numbers of file systems on which neither inode nor creation time is sure to last: FAT, exFAT, FUSE, SMB.
const FORGETFUL: [u32; 6] = [
    0x4d44,
    0x2011_bab0,
    0x6573_5546,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    info_hash: InfoHash,
    /// A digest of the content's place.
    place: u64,
    /// A digest of the boot in which complete files were noted.
    boot: u64,
    files: u64,
}

impl Head {
    fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let parts: [&[u8]; 5] = [
            &MAGIC,
            &self.info_hash.0,
            &self.place.to_le_bytes(),
            &self.boot.to_le_bytes(),
            &self.files.to_le_bytes(),
        ];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (now, later) = rest.split_at_mut(part.len());
            now.copy_from_slice(part);
            rest = later;
        }
        let sum = digest(&bytes[..HEAD - 8]);
        bytes[HEAD - 8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn read(path: &Path, files: u64) -> Option<Head> {
        let len = HEAD as u64 + 4 * files;
        let file = open_in_place(path, len).ok()?;
        let mut bytes = [0; HEAD];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let mut hash = [0; 20];
        hash.copy_from_slice(&bytes[8..28]);
        let head = Head {
            info_hash: InfoHash(hash),
            place: number(28),
            boot: number(36),
            files: number(44),
        };
        let whole = file.metadata().ok()?.len() == len;
        (whole && head.encode() == bytes && head.files == files).then_some(head)
    }
}

/// The last byte is the version.
const MAGIC: [u8; 8] = *b"\x93evrown\x01";

/// Magic, info-hash, place, boot, number of files, and a checksum of them.
const HEAD: usize = 8 + 20 + 8 + 8 + 8 + 8;

/// Offset of a file's note in the record.
fn at(number: u64) -> u64 {
    HEAD as u64 + 4 * number
}

/// A digest of the content's place, which has to exist.
fn place(content: &Path) -> u64 {
    let real = content
        .canonicalize()
        .or_else(|_| std::path::absolute(content));
    let real = real.unwrap_or_else(|_| content.to_owned());
    digest(real.as_os_str().as_encoded_bytes())
}

fn boot() -> u64 {
    // Without a boot id every start counts as one after a power cut.
    match std::fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(id) => digest(&id),
        Err(_) => {
            // std's clock panics after January 2038 on some 32-bit machines.
            let now = clock_gettime(ClockId::Realtime);
            digest(format!("{} {}", now.tv_sec, now.tv_nsec).as_bytes())
        }
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut sha1 = Fast::default();
    sha1.update(bytes);
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const HASH: InfoHash = InfoHash([7; 20]);

    fn open(scratch: &Scratch, files: u64) -> Ours {
        let path = scratch.path().join("x.download");
        Ours::open(&path, HASH, scratch.path(), files, vec![0; 8]).unwrap()
    }

    #[test]
    fn notes_are_kept() {
        let scratch = Scratch::new("ours");
        for files in [1, 1023, 1024, 1025, 5000] {
            let ours = open(&scratch, files);
            let last = files - 1;
            assert_eq!(ours.note(last), Note::Owners);
            ours.put(last, Note::Ours(Mark(5))).unwrap();
            ours.put(0, Note::Complete(Mark(9))).unwrap();
            // Past the last one there is nothing.
            assert_eq!(ours.note(files), Note::Owners);
            let again = open(&scratch, files);
            assert_eq!(again.note(0), Note::Complete(Mark(9)));
            again.begin_sync().unwrap();
            if last > 0 {
                again.put(last, Note::Complete(Mark(5))).unwrap();
            }
            again.synced().unwrap();
            assert_eq!(again.note(0), Note::Owners);
            if last > 0 {
                let kept = open(&scratch, files).note(last);
                assert_eq!(kept, Note::Complete(Mark(5)), "{files}");
            }
            std::fs::remove_file(scratch.path().join("x.download")).unwrap();
        }
    }

    #[test]
    fn what_is_complete_counts_until_the_power_goes() {
        let scratch = Scratch::new("ours-boot");
        let ours = open(&scratch, 2);
        ours.put(0, Note::Complete(Mark(9))).unwrap();
        ours.put(1, Note::Ours(Mark(8))).unwrap();
        let path = scratch.path().join("x.download");
        let head = Head::read(&path, 2).unwrap();
        let before = Head { boot: 1, ..head };
        ours.file.write_all_at(&before.encode(), 0).unwrap();
        let ours = open(&scratch, 2);
        assert_eq!(ours.note(0), Note::Ours(Mark(9)));
        assert_eq!(ours.note(1), Note::Ours(Mark(8)));
        assert_eq!(Head::read(&path, 2), Some(head));
        ours.put(0, Note::Complete(Mark(9))).unwrap();
        ours.doubt().unwrap();
        assert_eq!(open(&scratch, 2).note(0), Note::Ours(Mark(9)));
    }

    #[test]
    fn a_record_of_something_else_says_nothing() {
        let scratch = Scratch::new("ours-other");
        let path = scratch.path().join("x.download");
        let put = || {
            let ours = open(&scratch, 3);
            ours.put(1, Note::Ours(Mark(3))).unwrap();
        };
        let elsewhere = scratch.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        for (hash, place, files) in [
            (InfoHash([8; 20]), scratch.path(), 3),
            (HASH, &*elsewhere, 3),
            (HASH, scratch.path(), 4),
            (HASH, scratch.path(), 2),
        ] {
            put();
            let ours = Ours::open(&path, hash, place, files, Vec::new()).unwrap();
            assert_eq!(ours.note(1), Note::Owners);
        }
        let mut rng = everseed_core::rng::Rng::new(5);
        for _ in 0..300 {
            put();
            let mut bytes = std::fs::read(&path).unwrap();
            let head = u32::try_from(HEAD).unwrap();
            let flipped = rng.below(head) as usize;
            bytes[flipped] ^= 1 << rng.below(8);
            if rng.below(4) == 0 {
                bytes.truncate(flipped);
            }
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(open(&scratch, 3).note(1), Note::Owners, "byte {flipped}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn another_file_has_another_mark() {
        let scratch = Scratch::new("ours-mark");
        let path = scratch.path().join("file");
        let mark = || Mark::of(&std::fs::File::open(&path).unwrap().into());
        std::fs::write(&path, b"1").unwrap();
        let first = mark();
        std::fs::write(&path, b"22").unwrap();
        assert_eq!(mark(), first);
        if first != Mark(0) {
            // Made while the first is there: one made in the same moment after it may have its inode.
            let other = scratch.path().join("other");
            std::fs::write(&other, b"1").unwrap();
            std::fs::rename(&other, &path).unwrap();
            assert!(!mark().fits(first));
        }
        assert!(Mark(0).fits(first) && first.fits(Mark(0)));
    }
}
