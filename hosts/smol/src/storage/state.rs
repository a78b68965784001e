//! The state folder, which outlives a run.
//!
//! ```text
//! lock                 held while a daemon uses the folder
//! HASH.torrent         torrents that were made here
//! HASH.resume          the pieces that were verified, and the bytes that were sent
//! HASH.index           the offset of each file, of a torrent of many files
//! HASH.place           the disk of its content
//! HASH.target          the disk of the folder that it is moved to when it is complete
//! HASH.check           the progress of a check that was stopped
//! HASH.files           those of its files that lie elsewhere than it says
//! HASH.download        files of a download that are ours to write, see `everseed_disk::Ours`
//! catalogue            the torrents that are asleep
//! made/PATHHASH        the torrent that was made of a path
//! given/PATHHASH.*     copies of the .torrent files that are seeded, see `session::kept`
//! paused               the items that are paused, see `storage::paused`
//! dht                  DHT nodes that were known
//! described            content of every torrent that was ever seen
//! ```
//!
//! Each of these may be damaged, or not be a file at all. It is read only if it is a regular file of a possible
//! length, and otherwise renamed to `NAME.damaged`.
//!
//! The state of torrents that are gone is removed some time later, see `prune`.
//!
//! Only its owner may read it (0700 and 0600), because it holds trackers' passkeys.
//!
//! Only `described` is precious: without the rest, or a damaged part of it, files are verified again. So the first
//! record of a torrent whose content existed is not synced: if the power fails within seconds, the files are verified
//! once more.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use everseed_core::hash::{InfoHash, Sha1, Smol};
use everseed_core::resume::{ENCODED_BASE, Record};
use everseed_disk::{RegularError, read_regular};
use rustix::fs::{FlockOperation, OFlags};

use crate::clock::file_time;
use crate::storage::aside::set_aside;
use crate::storage::closed::tighten;
use crate::storage::described::Described;
use crate::storage::mount_guard::{MountId, MountState, is_in_ram};

/// The state folder, locked by this process.
#[derive(Debug)]
pub(crate) struct StateFolder {
    folder: PathBuf,
    described: Described,
    _lock: File,
}

/// Why the state folder cannot be used.
#[derive(Debug)]
pub(crate) enum StateError {
    /// Another process uses it.
    InUse(PathBuf),
    /// It cannot be made or written.
    Io(PathBuf, io::Error),
    /// It lies in memory, and would be gone after a reboot.
    InRam(PathBuf),
    /// Its disk is not mounted: the folder and the mount point.
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

impl StateFolder {
    /// Locks the folder, and makes it if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<StateFolder, StateError> {
        for part in ["made", "given"] {
            let part = folder.join(part);
            let mut builder = fs::DirBuilder::new();
            let built = builder.recursive(true).mode(0o700).create(&part);
            built.map_err(|error| StateError::Io(part, error))?;
        }
        let path = folder.join("lock");
        let lock = lock_file(&path).map_err(|error| StateError::Io(path.clone(), error))?;
        if let Err(error) = tighten(folder) {
            log::warn!(
                "{}: others may look into this folder, where passkeys may be: {error}; give the state a \
                 folder of its own with --state DIR, or chmod it to 700",
                folder.display()
            );
        }
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::AGAIN) => Err(StateError::InUse(folder.to_owned())),
            // The file system has no locks; the manual warns of that.
            _ => Ok(StateFolder {
                folder: folder.to_owned(),
                described: Described::new(folder.join("described")),
                _lock: lock,
            }),
        }
    }

    /// Opens the state of a service, which has to survive a reboot unless `in_ram` allows that it does not.
    pub(crate) fn open_lasting(folder: &Path, in_ram: bool) -> Result<StateFolder, StateError> {
        if let MountState::NotMounted(mount) = MountId::look(folder, None) {
            return Err(StateError::NotMounted(folder.to_owned(), mount));
        }
        let there = folder.ancestors().find_map(|path| File::open(path).ok());
        if !in_ram && there.is_some_and(|folder| is_in_ram(&folder)) {
            return Err(StateError::InRam(folder.to_owned()));
        }
        StateFolder::open(folder)
    }

    /// The mount of a torrent's content when it was last at `path`.
    pub(crate) fn place(&self, info_hash: InfoHash, path: &Path) -> Option<MountId> {
        let file = self.place_file(info_hash);
        let bytes = read(&file, PLACE_MAX)?;
        if !MountId::is_whole(&bytes) {
            set_aside(&file, "it is damaged");
            return None;
        }
        MountId::decode(&bytes, path)
    }

    /// Remembers the mount of a torrent's content; `in_haste` without waiting for the disk.
    pub(crate) fn remember_place(
        &self,
        info_hash: InfoHash,
        path: &Path,
        place: &MountId,
        in_haste: bool,
    ) -> io::Result<()> {
        let bytes = place.encode(path);
        put(&self.place_file(info_hash), &bytes, in_haste)
    }

    /// The file that holds the mount of a torrent's content.
    pub(crate) fn place_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.place"))
    }

    /// The mount of the folder that a complete torrent is moved to, as it was when the download began.
    pub(crate) fn target(&self, info_hash: InfoHash, folder: &Path) -> Option<MountId> {
        let bytes = read(&self.target_file(info_hash), PLACE_MAX)?;
        MountId::decode(&bytes, folder).filter(|_| MountId::is_whole(&bytes))
    }

    /// Remembers the mount of the folder that a complete torrent is moved to.
    pub(crate) fn remember_target(&self, info_hash: InfoHash, folder: &Path) -> io::Result<()> {
        let bytes = MountId::of(folder).encode(folder);
        put(&self.target_file(info_hash), &bytes, false)
    }

    fn target_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.target"))
    }

    /// The record of content that torrents describe.
    pub(crate) fn described(&self) -> &Described {
        &self.described
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a torrent file that was made here.
    pub(crate) fn torrent_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.torrent"))
    }

    /// The path of the catalogue of sleeping torrents.
    pub(crate) fn catalogue_file(&self) -> PathBuf {
        self.folder.join("catalogue")
    }

    /// The torrent file that was made of `content`, if it still exists.
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

    /// The resume record of a torrent with this many pieces, if it exists and is undamaged.
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

    /// Syncs what was saved in haste, as far as syncing the folder does that.
    pub(crate) fn sync(&self) {
        // A file system that cannot sync folders is left as it is.
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

    /// The time for which a complete download was seeded, in all runs.
    pub(crate) fn seeded(&self, info_hash: InfoHash) -> Duration {
        let bytes = read(&self.seeded_file(info_hash), 20).unwrap_or_default();
        let text = std::str::from_utf8(&bytes).ok();
        let seconds = text.and_then(|text| text.trim().parse().ok());
        Duration::from_secs(seconds.unwrap_or(0))
    }

    /// That time for a torrent that sleeps: it counts since it was recorded, but at most while this process runs.
    pub(crate) fn seeded_asleep(&self, info_hash: InfoHash, uptime: Duration) -> Duration {
        let recorded = fs::metadata(self.seeded_file(info_hash)).and_then(|file| file.modified());
        let since = match recorded {
            Ok(at) => file_time().duration_since(at).unwrap_or_default(),
            Err(_) => uptime,
        };
        self.seeded(info_hash) + since.min(uptime)
    }

    /// The bytes that a torrent sent, as its resume record says.
    pub(crate) fn uploaded(&self, info_hash: InfoHash) -> u64 {
        let bytes = read(&self.resume_file(info_hash), RESUME_MAX).unwrap_or_default();
        Record::decode(&bytes).map_or(0, |record| record.uploaded)
    }

    /// Remembers the time for which a complete download was seeded.
    pub(crate) fn remember_seeded(
        &self,
        info_hash: InfoHash,
        time: Duration,
        in_haste: bool,
    ) -> io::Result<()> {
        let text = format!("{}\n", time.as_secs());
        put(&self.seeded_file(info_hash), text.as_bytes(), in_haste)
    }

    fn seeded_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.seeded"))
    }

    /// The path of the record of a download's own files.
    pub(crate) fn download_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.download"))
    }

    /// Notes that a torrent is no longer seeded: from now on its state is kept for some time.
    pub(crate) fn parted_with(&self, info_hash: InfoHash) {
        let file = open_for_times(&self.resume_file(info_hash));
        // Without the new time its files are verified once more if it comes back.
        let _ = file.and_then(|file| file.set_modified(file_time()));
    }

    fn resume_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(format!("{info_hash}.resume"))
    }

    fn made_file(&self, content: &Path) -> PathBuf {
        self.folder.join("made").join(hash_of(content))
    }

    /// The path of our copy of the .torrent at `path`.
    pub(crate) fn given_file(&self, path: &Path) -> PathBuf {
        let name = format!("{}.torrent", hash_of(path));
        self.folder.join("given").join(name)
    }

    /// The path of the copy of what was written over that .torrent while it was in use.
    pub(crate) fn renewed_file(&self, path: &Path) -> PathBuf {
        self.given_file(path).with_extension("renewed")
    }
}

fn hash_of(path: &Path) -> String {
    let mut sha1 = Smol::default();
    sha1.update(path.as_os_str().as_bytes());
    InfoHash(sha1.finish()).to_string()
}

/// Opens the lock file, and makes it if it is missing. Opening never waits for the other end of a FIFO.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
    options.custom_flags(nonblocking.cast_signed());
    let file = match options.open(path) {
        // A worn card is read-only some day. What is known is seeded all the same.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            log::warn!("{}: {error}; nothing is kept there", path.display());
            options.write(false).create(false).read(true).open(path)?
        }
        opened => opened?,
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file; remove it")),
    }
}

/// Opens something that may not be a regular file, without waiting.
fn open_for_times(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = File::options();
    options.write(true).custom_flags(flags.cast_signed());
    options.open(path)
}

fn put(path: &Path, bytes: &[u8], in_haste: bool) -> io::Result<()> {
    match in_haste {
        true => everseed_disk::replace_soon(path, |out| out.write_all(bytes)),
        false => everseed_disk::replace(path, |out| out.write_all(bytes)),
    }
}

/// Reads a file of the state of at most `most` bytes. One that cannot be read counts as missing.
pub(crate) fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
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

/// The longest file that names a mount, in bytes: two paths and a number.
const PLACE_MAX: u64 = 2 * 4096 + 32;

/// The longest resume record in bytes, of a torrent of 32 million pieces.
const RESUME_MAX: u64 = 4 << 20;

/// The longest file that holds an info-hash, in bytes.
const HEX_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::resume::Verified;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

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
        let state = StateFolder::open(&folder.0).unwrap();
        assert!(matches!(
            StateFolder::open(&folder.0),
            Err(StateError::InUse(_))
        ));
        drop(state);
        assert!(StateFolder::open(&folder.0).is_ok());
    }

    /// A new one is closed, one of 0.1.0 is closed at the start, and what is not ours is left as it is.
    #[test]
    fn only_its_owner_reads_it() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let folder = Folder::new("closed");
        let state = StateFolder::open(&folder.0).unwrap();
        let info_hash = InfoHash([0xab; 20]);
        state.remember(Path::new("/x"), info_hash).unwrap();
        put(&state.torrent_file(info_hash), b"", true).unwrap();
        let files = [state.torrent_file(info_hash), folder.0.join("lock")];
        let folders = [folder.0.clone(), folder.0.join("made")];
        drop(state);
        let is_closed = || {
            let files = files.iter().all(|path| mode(path) == 0o600);
            files && folders.iter().all(|path| mode(path) == 0o700)
        };
        assert!(is_closed());
        let open = |path: &PathBuf, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        let open_all = || {
            files.iter().for_each(|path| open(path, 0o644).unwrap());
            folders.iter().for_each(|path| open(path, 0o755).unwrap());
        };
        open_all();
        drop(StateFolder::open(&folder.0).unwrap());
        assert!(is_closed());
        open_all();
        let other = folder.0.join("letters.txt");
        fs::write(&other, b"").unwrap();
        open(&other, 0o644).unwrap();
        drop(StateFolder::open(&folder.0).unwrap());
        assert_eq!((mode(&folder.0), mode(&other)), (0o755, 0o644));
        assert!(files.iter().all(|path| mode(path) == 0o600));
        fs::remove_file(&other).unwrap();
        open(&folder.0, 0o1777).unwrap();
        drop(StateFolder::open(&folder.0).unwrap());
        assert_eq!(
            mode(&folder.0),
            0o1777,
            "a folder like /tmp stays everybody's"
        );
    }

    #[test]
    fn what_is_parted_with_is_kept_from_then() {
        let folder = Folder::new("parted");
        let state = StateFolder::open(&folder.0).unwrap();
        let info_hash = InfoHash([0xab; 20]);
        let file = state.resume_file(info_hash);
        // It need not be there.
        state.parted_with(info_hash);
        fs::write(&file, b"x").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let resume = File::options().write(true).open(&file).unwrap();
        resume.set_modified(long_ago).unwrap();
        state.parted_with(info_hash);
        let now = fs::metadata(&file).unwrap().modified().unwrap();
        assert!(now.duration_since(long_ago).unwrap().as_secs() > 0);
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn remembers() {
        let folder = Folder::new("state");
        let state = StateFolder::open(&folder.0).unwrap();
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
    fn for_how_long_it_was_seeded_is_kept() {
        let folder = Folder::new("seeded");
        let state = StateFolder::open(&folder.0).unwrap();
        let hash = InfoHash([3; 20]);
        assert_eq!(state.seeded(hash), Duration::ZERO);
        state
            .remember_seeded(hash, Duration::from_millis(90_400), false)
            .unwrap();
        assert_eq!(state.seeded(hash), Duration::from_secs(90));
        for nonsense in ["", "-1", "1e9", "99999999999999999999999", "\u{0}"] {
            fs::write(state.seeded_file(hash), nonsense).unwrap();
            assert_eq!(state.seeded(hash), Duration::ZERO, "{nonsense:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = Folder::new("damaged");
        let state = StateFolder::open(&folder.0).unwrap();
        let info_hash = InfoHash([0xab; 20]);
        let content = Path::new("/srv/film.mkv");
        let place = MountId::of(content);
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
            let said = StateFolder::open(&folder.0).unwrap_err().to_string();
            assert!(said.contains("lock: "), "{said}");
        }
    }
}
