//! What outlives a run: the state folder.
//!
//! ```text
//! lock                 held while a daemon uses the folder
//! HASH.torrent         torrents that were made here
//! HASH.resume          which pieces were verified, and how much was sent
//! HASH.index           where the files of a torrent of many files begin
//! HASH.place           on which disk its content is
//! catalogue            the torrents that are asleep
//! made/PATHHASH        which torrent was made of a path
//! ```
//!
//! Each of them may be damaged, or be another thing than a file: it is read only if it is a regular file that
//! is no longer than it can be, and otherwise set aside, by the name of `NAME.damaged`.
//!
//! Nothing in it is precious: without it, or with a damaged part of it, files are verified again. So what is
//! first known of a torrent whose content was there is left to the kernel to write: should the power go
//! within seconds, it is as if it had gone before.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use everseed_core::hash::{InfoHash, Sha1, Smol};
use everseed_core::resume::{ENCODED_BASE, Record};
use everseed_disk::{RegularError, read_regular};
use rustix::fs::FlockOperation;

use crate::place::{Found, Place, is_in_ram};

/// The state folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    _lock: File,
}

/// Why the state folder cannot be used.
#[derive(Debug)]
pub(crate) enum StateError {
    /// Another process holds it.
    InUse(PathBuf),
    /// It cannot be made or written.
    Io(PathBuf, io::Error),
    /// It would be gone after a reboot.
    InRam(PathBuf),
    /// The disk that it is on is not mounted.
    NotMounted(PathBuf, PathBuf),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::InUse(folder) => write!(
                f,
                "{}: another everseed uses this state; stop it or give this one its own --state DIR",
                folder.display()
            ),
            StateError::Io(path, error) => {
                let path = path.display();
                write!(f, "{path}: {error}; choose another place with --state DIR")
            }
            StateError::InRam(path) => write!(
                f,
                "{}: this state would be in memory (tmpfs), so that after each reboot all data is \
                 verified again and unfinished downloads are forgotten; set state = to a folder on \
                 flash or disk, or state-in-ram = true to have it so",
                path.display()
            ),
            StateError::NotMounted(path, mount) => write!(
                f,
                "{}: {} is not mounted, and the state lies there; mount it",
                path.display(),
                mount.display()
            ),
        }
    }
}

impl State {
    /// Takes the folder, which is made if need be.
    pub(crate) fn open(folder: &Path) -> Result<State, StateError> {
        let made = folder.join("made");
        fs::create_dir_all(&made).map_err(|error| StateError::Io(made, error))?;
        let path = folder.join("lock");
        let lock = lock_file(&path).map_err(|error| StateError::Io(path.clone(), error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::AGAIN) => Err(StateError::InUse(folder.to_owned())),
            // A file system without locks: the warning in the manual has to do.
            _ => Ok(State {
                folder: folder.to_owned(),
                _lock: lock,
            }),
        }
    }

    /// The same for a service, whose state has to survive a reboot unless `in_ram` allows it not to.
    pub(crate) fn open_lasting(folder: &Path, in_ram: bool) -> Result<State, StateError> {
        if let Found::NotMounted(mount) = Place::look(folder, None) {
            return Err(StateError::NotMounted(folder.to_owned(), mount));
        }
        let there = folder.ancestors().find_map(|path| File::open(path).ok());
        if !in_ram && there.is_some_and(|folder| is_in_ram(&folder)) {
            return Err(StateError::InRam(folder.to_owned()));
        }
        State::open(folder)
    }

    /// On which disk a torrent's content was when it was at `path` last.
    pub(crate) fn place(&self, info_hash: InfoHash, path: &Path) -> Option<Place> {
        let file = self.place_file(info_hash);
        let bytes = read(&file, PLACE_MAX)?;
        if !Place::is_whole(&bytes) {
            set_aside(&file, "it is damaged");
            return None;
        }
        Place::decode(&bytes, path)
    }

    /// Remembers it; `in_haste` without waiting for the disk.
    pub(crate) fn remember_place(
        &self,
        info_hash: InfoHash,
        path: &Path,
        place: &Place,
        in_haste: bool,
    ) -> io::Result<()> {
        let bytes = place.encode(path);
        put(&self.place_file(info_hash), &bytes, in_haste)
    }

    /// Where it is remembered.
    pub(crate) fn place_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.place"))
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a torrent that was made here is kept.
    pub(crate) fn torrent_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.torrent"))
    }

    /// Where the torrents that are asleep are written down.
    pub(crate) fn catalogue_file(&self) -> PathBuf {
        self.folder.join("catalogue")
    }

    /// The torrent that was made of `content`, if it is still there.
    pub(crate) fn made_of(&self, content: &Path) -> Option<PathBuf> {
        let text = read(&self.made_file(content), HEX_MAX)?;
        let info_hash = InfoHash::from_hex(text.trim_ascii())?;
        let torrent = self.torrent_file(info_hash);
        torrent.is_file().then_some(torrent)
    }

    /// Remembers which torrent was made of `content`.
    pub(crate) fn remember(&self, content: &Path, info_hash: InfoHash) -> io::Result<()> {
        everseed_disk::replace(&self.made_file(content), |out| writeln!(out, "{info_hash}"))
    }

    /// The bytes of the resume record of a torrent of so many pieces, if there is one and it is whole.
    pub(crate) fn resume(&self, info_hash: InfoHash, pieces: u32) -> Option<Vec<u8>> {
        let file = self.resume_file(info_hash);
        let bytes = read(&file, ENCODED_BASE as u64 + u64::from(pieces.div_ceil(8)))?;
        match Record::decode(&bytes) {
            Ok(record) if record.info_hash == info_hash => Some(bytes),
            Ok(_) => {
                set_aside(&file, "it is of another torrent");
                None
            }
            Err(error) => {
                set_aside(&file, &error.to_string());
                None
            }
        }
    }

    /// Whether a torrent was seeded before.
    pub(crate) fn knows(&self, info_hash: InfoHash) -> bool {
        self.resume_file(info_hash).is_file()
    }

    /// Makes durable what was saved in haste, as far as one look at the folder does.
    pub(crate) fn sync(&self) {
        // A file system that cannot sync folders is let be.
        let _ = everseed_disk::sync_folder(&self.folder);
    }

    /// Replaces a torrent's resume record; `in_haste` without waiting for the disk.
    pub(crate) fn save(&self, record: &Record<'_>, in_haste: bool) -> io::Result<()> {
        let mut bytes = vec![0; record.encoded_len()];
        let len = record
            .encode(&mut bytes)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let path = self.resume_file(record.info_hash);
        put(&path, &bytes[..len], in_haste)
    }

    fn resume_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.resume"))
    }

    fn made_file(&self, content: &Path) -> PathBuf {
        let mut sha1 = Smol::default();
        sha1.update(content.as_os_str().as_bytes());
        let name = InfoHash(sha1.finish()).to_string();
        self.folder.join("made").join(name)
    }
}

/// Opens the file that is locked, which is made if need be. It is never waited for the other end of a FIFO.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
    options.custom_flags(nonblocking.cast_signed());
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file; remove it")),
    }
}

fn put(path: &Path, bytes: &[u8], in_haste: bool) -> io::Result<()> {
    match in_haste {
        true => everseed_disk::replace_soon(path, |out| out.write_all(bytes)),
        false => everseed_disk::replace(path, |out| out.write_all(bytes)),
    }
}

/// All bytes of a file of the state that can have `most` of them. What cannot be read is as if it were not there.
fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    match read_regular(path, most) {
        Ok(bytes) => Some(bytes),
        Err(RegularError::Io(error)) => {
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("{}: {error}", path.display());
            }
            None
        }
        Err(error) => {
            set_aside(path, &error.to_string());
            None
        }
    }
}

/// Gives what cannot be what it should be another name, so that it is not looked at again, and what it told is
/// found out anew.
pub(crate) fn set_aside(path: &Path, why: &str) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let shown = path.display();
    // What was set aside before may be in the way.
    let _ = fs::remove_file(&aside).or_else(|_| fs::remove_dir(&aside));
    match fs::rename(path, &aside) {
        Ok(()) => log::warn!(
            "{shown}: {why}; it is kept as {}, and what it told is found out anew",
            Path::new(&aside).display()
        ),
        Err(error) => log::warn!("{shown}: {why}; remove it ({error})"),
    }
}

/// No file that says on which disk something lies is longer, in bytes: two paths and a number.
const PLACE_MAX: u64 = 2 * 4096 + 32;

/// No file that holds an info-hash is.
const HEX_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::resume::Verified;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("everseed-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = Folder::new("lock");
        let state = State::open(&folder.0).unwrap();
        assert!(matches!(State::open(&folder.0), Err(StateError::InUse(_))));
        drop(state);
        assert!(State::open(&folder.0).is_ok());
    }

    #[test]
    fn remembers() {
        let folder = Folder::new("state");
        let state = State::open(&folder.0).unwrap();
        let info_hash = InfoHash([0xab; 20]);
        let content = Path::new("/srv/film.mkv");
        assert_eq!(state.made_of(content), None);
        state.remember(content, info_hash).unwrap();
        assert_eq!(
            state.made_of(content),
            None,
            "the torrent itself is missing"
        );
        fs::write(state.torrent_file(info_hash), b"").unwrap();
        assert_eq!(state.made_of(content), Some(state.torrent_file(info_hash)));
        assert_eq!(state.made_of(Path::new("/srv/film.mk")), None);

        assert_eq!(state.resume(info_hash, 8), None);
        let record = Record {
            info_hash,
            uploaded: 5,
            fingerprint: 6,
            verified: Verified::Some(&[0xf0]),
        };
        state.save(&record, false).unwrap();
        let bytes = state.resume(info_hash, 8).unwrap();
        assert_eq!(Record::decode(&bytes), Ok(record));
    }

    /// Whatever stands in the place of a file of the state, it is set aside, and a good one takes its place.
    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = Folder::new("damaged");
        let state = State::open(&folder.0).unwrap();
        let info_hash = InfoHash([0xab; 20]);
        let content = Path::new("/srv/film.mkv");
        let place = Place::of(content);
        let record = Record {
            info_hash,
            uploaded: 5,
            fingerprint: 6,
            verified: Verified::All,
        };
        type Put = fn(&Path);
        let things: [Put; 5] = [
            |path| {
                let file = File::create(path).unwrap();
                file.set_len(900 << 20).unwrap();
            },
            |path| {
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                let fifo = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, path, fifo, mode, 0).unwrap();
            },
            |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
            |path| fs::write(path, b"nonsense").unwrap(),
        ];
        for (number, put) in things.into_iter().enumerate() {
            let files = [
                state.resume_file(info_hash),
                state.place_file(info_hash),
                state.made_file(content),
            ];
            for file in &files {
                let _ = fs::remove_file(file);
                put(file);
            }
            assert_eq!(state.resume(info_hash, 8), None, "{number}");
            assert_eq!(state.place(info_hash, content), None, "{number}");
            assert_eq!(state.made_of(content), None, "{number}");
            assert!(!files[0].exists() && !files[1].exists(), "{number}");
            let aside = folder.0.join(format!("{info_hash}.resume.damaged"));
            assert!(aside.symlink_metadata().is_ok(), "{number}");
            state.save(&record, false).unwrap();
            state
                .remember_place(info_hash, content, &place, false)
                .unwrap();
            state.remember(content, info_hash).unwrap();
            assert!(state.resume(info_hash, 8).is_some(), "{number}");
            assert_eq!(state.place(info_hash, content), Some(place.clone()));
        }
        drop(state);
        let lock = folder.0.join("lock");
        for put in [things[1], things[3]] {
            let _ = fs::remove_file(&lock);
            put(&lock);
            let said = State::open(&folder.0).unwrap_err().to_string();
            assert!(said.contains("lock: "), "{said}");
        }
    }
}
