//! Looks at a content's files: which are there, and how they were last seen.
//!
//! Invariant: files that are missing because their disk went during a look are an error, and not what was seen.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use everseed_core::geometry::PieceIndex;
use everseed_disk::{Content, FileCache, ReadError, WriteError, check, find, write};
use rustix::fs::{Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

use super::task::Look;

/// Keeps a content's disk from being ejected: until it is dropped, an unmount fails.
struct Held(Result<OwnedFd, Errno>);

impl Held {
    fn of(content: &Content) -> Held {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let (folder, top) = content.place();
        let folder = match open(folder, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(error) => return Held(Err(error)),
        };
        if top.as_os_str().is_empty() {
            return Held(Ok(folder));
        }
        let root = openat(&folder, top, flags, Mode::empty());
        Held(root.or(Ok(folder)))
    }

    /// Fails if the disk went, or came, in spite of that: it was pulled out, or was mounted again a moment later.
    fn stays(&self, content: &Content) -> Result<(), ReadError> {
        let path = || content.root();
        match (self.device(), Held::of(content).device()) {
            (Err(Errno::MFILE | Errno::NFILE), _) | (_, Err(Errno::MFILE | Errno::NFILE)) => {
                let error = Errno::MFILE.into();
                Err(ReadError::Io {
                    path: path(),
                    error,
                })
            }
            (before, now) if before.ok() == now.ok() => Ok(()),
            _ => Err(ReadError::Missing { path: path() }),
        }
    }

    /// The number of the device; its type differs between architectures.
    #[allow(clippy::useless_conversion)]
    fn device(&self) -> Result<u64, Errno> {
        let there = fstat(self.0.as_ref().map_err(|error| *error)?)?;
        Ok(there.st_dev.into())
    }

    /// As [`stays`](Self::stays), for whoever found files missing or changed: some file has to be there.
    fn proves(&self, content: &Content) -> Result<(), ReadError> {
        self.stays(content)?;
        check::reachable(content)
    }
}

pub(super) fn look(content: &Content) -> Result<Look, ReadError> {
    let looked = look_held(content, &Held::of(content));
    let missing = match &looked {
        Err(error) if error.is_shortage() => return looked,
        Ok(look) => look.present.is_some(),
        Err(_) => true,
    };
    if content.is_growing() || !content.is_search_due(missing) {
        return looked;
    }
    let until = Instant::now() + SEARCH;
    find::search(content, None, &mut || Instant::now() < until)?;
    look_held(content, &Held::of(content))
}

/// A look during which the disk stayed.
fn look_held(content: &Content, held: &Held) -> Result<Look, ReadError> {
    let look = seen(content)?;
    match look.present {
        // Every file was there, on whatever disk.
        None => held.stays(content)?,
        Some(_) => held.proves(content)?,
    }
    Ok(look)
}

/// Verifies a piece that was bad while its disk cannot be ejected, because a disk that is gone proves nothing.
pub(super) fn verify_again(
    content: &Content,
    files: &FileCache,
    piece: PieceIndex,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let held = Held::of(content);
    let good = check::verify_piece(content, files, piece, scratch)?;
    if !good {
        held.proves(content)?;
    }
    Ok(good)
}

/// A look that does not search for anything.
pub(super) fn seen(content: &Content) -> Result<Look, ReadError> {
    let fingerprint = check::fingerprint(content)?;
    let present = check::present(content)?;
    Ok(Look {
        fingerprint,
        present,
    })
}

/// The fingerprint of files that are there.
pub(crate) fn fingerprint(content: &Content) -> Result<u64, ReadError> {
    let held = Held::of(content);
    let fingerprint = check::fingerprint(content)?;
    held.proves(content)?;
    Ok(fingerprint)
}

/// Syncs what was written of a download, and takes the fingerprint that goes with it.
pub(crate) fn settle(content: &Content) -> Result<u64, WriteError> {
    write::sync(content)?;
    check::fingerprint(content).map_err(WriteError::Place)
}

/// The longest search for moved files: others wait for it.
const SEARCH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use everseed_disk::{make, read_torrent};

    use super::*;

    /// The torrent of the folder `at`, which holds two files.
    fn content(at: &Path, torrent: &Path) -> Content {
        fs::create_dir_all(at).unwrap();
        for name in ["a", "b"] {
            fs::write(at.join(name), [7; 100]).unwrap();
        }
        make::make(at, torrent, &make::Options::default(), &mut |_| {}).unwrap();
        let metainfo = read_torrent(torrent).unwrap();
        Content::open(
            torrent,
            &metainfo,
            at.parent().unwrap(),
            at.parent().unwrap(),
        )
        .unwrap()
    }

    /// The files vanish after they were found and before they are looked at, and are back when that is done.
    #[test]
    fn a_disk_that_goes_during_a_look_is_no_damage() {
        let base = std::env::temp_dir().join(format!("everseed-look-{}", std::process::id()));
        let (at, away) = (base.join("content"), base.join("away"));
        let content = content(&at, &base.join("torrent"));
        let before = look(&content).unwrap();
        assert!(before.present.is_none());
        let held = Held::of(&content);
        fs::rename(&at, &away).unwrap();
        assert!(look_held(&content, &held).is_err());
        assert!(held.proves(&content).is_err() && fingerprint(&content).is_err());
        fs::rename(&away, &at).unwrap();
        let after = look_held(&content, &held).unwrap();
        assert_eq!(after.fingerprint, before.fingerprint);
        // Where the disk was is another one now, with the same files.
        fs::rename(&at, &away).unwrap();
        symlink("/proc", &at).unwrap();
        let held = Held::of(&content);
        fs::remove_file(&at).unwrap();
        fs::rename(&away, &at).unwrap();
        assert!(look_held(&content, &held).is_err() && held.proves(&content).is_err());
        // A file that is gone alone is what was seen.
        fs::remove_file(at.join("a")).unwrap();
        let look = look_held(&content, &Held::of(&content)).unwrap();
        assert!(look.present.is_some() && look.fingerprint != before.fingerprint);
        fs::remove_dir_all(&base).unwrap();
    }
}
