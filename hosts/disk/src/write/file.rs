//! Opening a file of the content for writing, if it is ours, and making it if it is missing.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::access::{self, Access};
use crate::beneath::{OpenFailure, Root};
use crate::content::Content;
use crate::lengthen;
use crate::ours::{Mark, Note, Ours};
use crate::write::error::WriteError;

/// Checks that the content's folder exists, and is on the device where it should be.
fn on_its_disk(content: &Content) -> Result<(), WriteError> {
    let layout = content.layout();
    let folder = layout.named().stat(layout.base());
    let folder = folder.map_err(|failure| WriteError::open(content.folder(), failure))?;
    // The type of the field differs between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let now = folder.st_dev as u64;
    match content.device() {
        Some(device) if device != now => Err(WriteError::NotMounted {
            path: content.folder(),
        }),
        _ => Ok(()),
    }
}

/// Opens a file for writing, and makes it and its folders if they are missing. A short file is made longer. `path` is
/// beneath the folder that the owner named.
pub(super) fn create(
    content: &Content,
    number: u64,
    path: &Path,
    len: u64,
) -> Result<OwnedFd, WriteError> {
    let (file, stat) = open(content, number, path)?;
    let mut now = size(&stat);
    while now < len {
        now = longer(content, path, &file, now, len)?;
    }
    Ok(file)
}

pub(super) fn longer(
    content: &Content,
    path: &Path,
    file: &OwnedFd,
    now: u64,
    len: u64,
) -> Result<u64, WriteError> {
    let longer = lengthen::lengthen(file, now, len);
    longer.map_err(|error| match error {
        Errno::FBIG => WriteError::TooLong {
            path: content.layout().whole(path),
            len: Some(len),
        },
        error => WriteError::of(content.layout().whole(path), error.into()),
    })
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Opens a file for writing, whatever its length.
pub(super) fn open(
    content: &Content,
    number: u64,
    path: &Path,
) -> Result<(OwnedFd, Stat), WriteError> {
    on_its_disk(content)?;
    match content.ours() {
        None => open_or_make(content, path),
        Some(ours) => {
            let opened = open_ours(content, &ours, number, path)?;
            opened.ok_or_else(|| WriteError::Owners {
                path: content.layout().whole(path),
            })
        }
    }
}

/// Opens a file that is ours. A file that holds nothing becomes ours; `None` if the file holds something.
fn open_ours(
    content: &Content,
    ours: &Ours,
    number: u64,
    path: &Path,
) -> Result<Option<(OwnedFd, Stat)>, WriteError> {
    let layout = content.layout();
    let is_ours =
        |file: &OwnedFd| matches!(ours.note(number), Note::Ours(mark) if mark.fits(Mark::of(file)));
    let is_free = |stat: &Stat| stat.st_size == 0 && stat.st_nlink == 1;
    match layout.named().find_file(path) {
        Ok((file, stat)) if !is_ours(&file) && !is_free(&stat) => return Ok(None),
        // Its disk may have been unmounted since: the file would be made below the mount point.
        Err(failure) if failure.is_no_such_name() && ours.note(number) != Note::Owners => {
            return Err(WriteError::open(layout.whole(path), failure));
        }
        _ => {}
    }
    let (file, stat) = open_or_make(content, path)?;
    if !is_ours(&file) {
        // Somebody may have written something into it since.
        if !is_free(&stat) {
            return Ok(None);
        }
        note(ours, number, Mark::of(&file))?;
        sync_record(ours)?;
    }
    Ok(Some((file, stat)))
}

/// Makes a file ours, whatever it holds.
pub(crate) fn take(
    content: &Content,
    ours: &Ours,
    number: u64,
    path: &Path,
) -> Result<(), WriteError> {
    let (file, stat) = open_or_make(content, path)?;
    if stat.st_nlink != 1 {
        let path = content.layout().whole(path);
        return Err(WriteError::Linked { path });
    }
    note(ours, number, Mark::of(&file))
}

pub(super) fn note(ours: &Ours, number: u64, mark: Mark) -> Result<(), WriteError> {
    let noted = ours.put(number, Note::Ours(mark));
    noted.map_err(|error| WriteError::record(ours, error))
}

/// Makes the notes of our files durable, before anything is written into them.
pub(crate) fn sync_record(ours: &Ours) -> Result<(), WriteError> {
    ours.sync().map_err(|error| WriteError::record(ours, error))
}

fn open_or_make(content: &Content, path: &Path) -> Result<(OwnedFd, Stat), WriteError> {
    let layout = content.layout();
    match layout.named().open_to_write(path) {
        Err(failure) if failure.is_no_such_name() => {}
        opened => {
            return opened
                .map_err(|failure| WriteError::open(content.layout().whole(path), failure));
        }
    }
    // A dangling link is in the way.
    let in_the_way = || WriteError::NotAFile {
        path: content.layout().whole(path),
    };
    make(content, path)?.ok_or_else(in_the_way)
}

/// Makes a file and its folders; `None` if something has its name already. If the file system refuses the name, the
/// file gets a substitute.
pub(super) fn make(content: &Content, path: &Path) -> Result<Option<(OwnedFd, Stat)>, WriteError> {
    let (named, access) = (content.layout().named(), content.access());
    let failure = match make_at(named, path, access) {
        Ok(made) => return Ok(made),
        Err(failure) => failure,
    };
    let fits = || content.make_fitting(path, |place| make_at(named, place, access).ok().flatten());
    // Some file systems report a name that they refuse as missing, though its folder exists.
    let made = failure.is_no_such_name().then(fits).flatten();
    made.map(Some)
        .ok_or_else(|| WriteError::open(content.layout().whole(path), failure))
}

fn make_at(
    named: Root<'_>,
    path: &Path,
    access: Access,
) -> Result<Option<(OwnedFd, Stat)>, OpenFailure> {
    let folder = named.make_folder(path.parent().unwrap_or(Path::new("")), access)?;
    match Root::make_file(&folder, path.file_name().unwrap_or_default()) {
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error.into()),
        Ok((file, stat)) => {
            access.give(&file, access::FILE)?;
            Ok(Some((file, stat)))
        }
    }
}
