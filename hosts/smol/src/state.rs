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
//! Nothing in it is precious: without it, or with a damaged part of it, files are verified again. So what is
//! first known of a torrent whose content was there is left to the kernel to write: should the power go
//! within seconds, it is as if it had gone before.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use everseed_core::hash::{InfoHash, Sha1, Smol};
use everseed_core::resume::Record;
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
        let lock = File::create(&path).map_err(|error| StateError::Io(path.clone(), error))?;
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
        Place::decode(&fs::read(self.place_file(info_hash)).ok()?, path)
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
        let text = fs::read(self.made_file(content)).ok()?;
        let info_hash = InfoHash::from_hex(text.trim_ascii())?;
        let torrent = self.torrent_file(info_hash);
        torrent.is_file().then_some(torrent)
    }

    /// Remembers which torrent was made of `content`.
    pub(crate) fn remember(&self, content: &Path, info_hash: InfoHash) -> io::Result<()> {
        everseed_disk::replace(&self.made_file(content), |out| writeln!(out, "{info_hash}"))
    }

    /// The bytes of a torrent's resume record, if there is one.
    pub(crate) fn resume(&self, info_hash: InfoHash) -> Option<Vec<u8>> {
        let file = File::open(self.resume_file(info_hash)).ok()?;
        let len = file.metadata().ok()?.len();
        if len > RESUME_MAX {
            return None;
        }
        fs::read(self.resume_file(info_hash)).ok()
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

fn put(path: &Path, bytes: &[u8], in_haste: bool) -> io::Result<()> {
    match in_haste {
        true => everseed_disk::replace_soon(path, |out| out.write_all(bytes)),
        false => everseed_disk::replace(path, |out| out.write_all(bytes)),
    }
}

/// No resume record is longer, in bytes: a bit for each of 2^32 pieces would be half of it.
const RESUME_MAX: u64 = 1 << 30;

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

        assert_eq!(state.resume(info_hash), None);
        let record = Record {
            info_hash,
            uploaded: 5,
            fingerprint: 6,
            verified: Verified::Some(&[0xf0]),
        };
        state.save(&record, false).unwrap();
        let bytes = state.resume(info_hash).unwrap();
        assert_eq!(Record::decode(&bytes), Ok(record));
    }
}
