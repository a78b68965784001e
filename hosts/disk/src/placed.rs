//! The record of files that lie elsewhere than the torrent says.
//!
//! Invariant: a place is a relative path beneath the folder that the owner named, and is opened like any other path.
//! So nothing written into the record leads out of that folder. At most [`MOST`] places are kept, because each takes
//! memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::regular::read_regular;
use crate::replace::replace;

/// The actual place of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The file's number in the torrent, from 1 on; 0 is the torrent's file or folder itself.
    pub(crate) number: u64,
    /// Its path beneath the folder that the owner named.
    pub(crate) path: PathBuf,
    /// Whether the owner named the place; otherwise a search found it.
    pub(crate) by_owner: bool,
}

/// Places of one torrent's files by their paths in the torrent; the empty path stands for the whole content.
#[derive(Debug, Default)]
pub(crate) struct Placed(RwLock<BTreeMap<PathBuf, Place>>);

/// The most files of one torrent that may lie elsewhere.
pub(crate) const MOST: usize = 10_000;

impl Placed {
    pub(crate) fn get(&self, name: &Path) -> Option<Place> {
        self.read().get(name).cloned()
    }

    /// Sets the place of a file. Returns whether there was room for it.
    pub(crate) fn set(&self, name: &Path, place: Place) -> bool {
        let mut places = self.write();
        let room = places.len() < MOST || places.contains_key(name);
        if room {
            places.insert(name.to_owned(), place);
        }
        room
    }

    /// Sets the place of a file if there is room, or removes it.
    pub(crate) fn put(&self, name: &Path, place: Option<Place>) {
        match place {
            Some(place) => _ = self.set(name, place),
            None => self.remove(name),
        }
    }

    pub(crate) fn remove(&self, name: &Path) {
        self.write().remove(name);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Whether the owner named the places of some files.
    pub(crate) fn has_named_files(&self) -> bool {
        let places = self.read();
        places
            .values()
            .any(|place| place.number > 0 && place.by_owner)
    }

    /// The same places for content that was called `before` and is now called `now`.
    pub(crate) fn moved(&self, before: &Path, now: &Path) -> Placed {
        let here = self.read();
        let places = here.iter().map(|(name, place)| {
            let path = match place.path.strip_prefix(before) {
                Ok(rest) if rest.as_os_str().is_empty() => now.to_owned(),
                Ok(rest) => now.join(rest),
                Err(_) => place.path.clone(),
            };
            let place = Place {
                path,
                ..place.clone()
            };
            (name.clone(), place)
        });
        Placed(RwLock::new(places.collect()))
    }

    /// Adds `between` to the front of every place: the named folder is now one further up, and `between` is the path
    /// down from it.
    pub(crate) fn prefix(&self, between: &Path) {
        for place in self.write().values_mut() {
            place.path = between.join(&place.path);
        }
    }

    /// Saves all places; they lie in `folder`.
    pub(crate) fn save(&self, record: &Path, folder: &Path) -> io::Result<()> {
        let places = self.read();
        if places.is_empty() {
            return match std::fs::remove_file(record) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        replace(record, |out| {
            out.write_all(HEAD)?;
            out.write_all(folder.as_os_str().as_bytes())?;
            out.write_all(b"\0")?;
            for place in places.values() {
                let sign = if place.by_owner { '=' } else { '~' };
                write!(out, "{}{sign}", place.number)?;
                out.write_all(place.path.as_os_str().as_bytes())?;
                out.write_all(b"\0")?;
            }
            Ok(())
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PathBuf, Place>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PathBuf, Place>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads the record for files in `folder`. If it cannot be read it counts as missing, and the files are searched for
/// again.
pub(crate) fn load(record: &Path, folder: &Path) -> Vec<Place> {
    let bytes = read_regular(record, RECORD_MAX).unwrap_or_default();
    let Some(rest) = bytes.strip_prefix(HEAD) else {
        return Vec::new();
    };
    let mut fields = rest.split(|&byte| byte == 0);
    let before = fields.next().map_or(Path::new(""), path_of);
    let places = fields.filter_map(|field| {
        let mut place = parse(field)?;
        // The files lie in another folder of the same file system, or that file system is mounted elsewhere now.
        if before != folder
            && let Ok(path) = before.join(&place.path).strip_prefix(folder)
        {
            place.path = path.to_owned();
        }
        Some(place)
    });
    places.take(MOST).collect()
}

fn parse(field: &[u8]) -> Option<Place> {
    let at = field.iter().position(|byte| matches!(byte, b'=' | b'~'))?;
    let (number, rest) = field.split_at(at);
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    let (sign, path) = rest.split_first()?;
    (!path.is_empty()).then(|| Place {
        number,
        path: path_of(path).to_owned(),
        by_owner: *sign == b'=',
    })
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The first bytes of a record.
const HEAD: &[u8] = b"everseed files 1\0";

/// The longest record in bytes.
const RECORD_MAX: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs;

    #[test]
    fn written_and_read() {
        let scratch = Scratch::new("placed");
        let record = scratch.path().join("x.files");
        let placed = Placed::default();
        let place = |number, path: &[u8], by_owner| Place {
            number,
            path: path_of(path).to_owned(),
            by_owner,
        };
        let all = [
            place(2, b"d/\xff\n=~", false),
            place(17, b"other/a=b", true),
        ];
        placed.set(Path::new("a"), all[0].clone());
        placed.set(Path::new("b"), all[1].clone());
        placed.save(&record, Path::new("/srv/x")).unwrap();
        assert_eq!(load(&record, Path::new("/srv/x")), all);
        assert_eq!(load(&record, Path::new("/elsewhere")), all);
        assert_eq!(
            load(&record, Path::new("/srv"))[1].path,
            Path::new("x/other/a=b")
        );
        placed.remove(Path::new("a"));
        placed.remove(Path::new("b"));
        placed.save(&record, Path::new("/srv/x")).unwrap();
        assert!(!record.exists());
    }

    #[test]
    fn damaged() {
        let scratch = Scratch::new("placed-damaged");
        let record = scratch.path().join("x.files");
        for bytes in [
            &b""[..],
            b"everseed files 1",
            b"everseed files 1\0",
            b"everseed files 1\0/f\0x\0=\0=a\x005=\0-1=a\x0099999999999999999999=a\0",
            b"everseed files 2\0/f\x001=a\0",
        ] {
            fs::write(&record, bytes).unwrap();
            assert_eq!(load(&record, Path::new("/f")), [], "{bytes:?}");
        }
    }
}
