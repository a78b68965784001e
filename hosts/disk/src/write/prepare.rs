//! Making the content's folder and its missing files, before anything is downloaded.

use std::path::Path;

use everseed_core::metainfo::FileKind;

use crate::content::Content;
use crate::entry::Entry;
use crate::lengthen;
use crate::ours::{Mark, Note};
use crate::write::error::WriteError;
use crate::write::file::{make, note, open, sync_record};

/// Makes a folder that the owner named, and its missing parents.
pub fn make_named(content: &Content, folder: &Path) -> Result<(), WriteError> {
    let made = content.access().make_folder(folder);
    made.map_err(|error| WriteError::of(folder.to_owned(), error))
}

/// Makes the content's folder.
pub fn make_folder(content: &Content) -> Result<(), WriteError> {
    let layout = content.layout();
    let named = layout.named();
    make_named(content, named.folder)?;
    let access = content.access();
    let failure = match named.make_folder(layout.base(), access) {
        Ok(_) => return Ok(()),
        Err(failure) => failure,
    };
    let own = layout.base().to_owned();
    let tops = layout.fitting_tops().into_iter();
    let mut tops = tops.filter(|_| failure.is_no_such_name() && !layout.is_single());
    let made = tops.find(|top| named.make_folder(top, access).is_ok());
    let made = made.ok_or_else(|| WriteError::open(content.folder(), failure))?;
    layout.set_top(&made);
    content.note_refused(&own, &made);
    Ok(())
}

/// Makes the missing files for which `wanted` holds, and notes that they are ours. If one cannot be made, its first
/// write reports that.
///
/// A file stays empty until its note is durable, and has one byte from then on, so that nobody takes it for a free
/// one. A file that appears between the two looks here is somebody else's. On a file system that ignores case it is
/// another file of this torrent.
pub fn prepare(
    content: &Content,
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<(), WriteError> {
    make_folder(content)?;
    let ours = content.ours();
    let layout = content.layout();
    let named = layout.named();
    let mut missing = Vec::new();
    let is_bare = content.is_bare();
    each(content, |_, entry| {
        let is_missing = || match named.find_file(&content.place_of(entry)) {
            Err(failure) => failure.is_no_such_name(),
            Ok(_) => false,
        };
        let is_wanted = wanted(entry) && entry.kind == FileKind::Data;
        missing.push(is_wanted && (is_bare || is_missing()));
        Ok(())
    })?;
    let mut missing = missing.into_iter();
    each(content, |number, entry| {
        // Without a record a file is made when it is first written.
        if missing.next() != Some(true) || number.is_some() && ours.is_none() {
            return Ok(());
        }
        let made = make(content, &content.place_to_make(entry));
        let (Some(number), Some(ours), Ok(Some((file, _)))) = (number, &ours, &made) else {
            return match made {
                Err(error) if !error.is_of_file() => Err(error),
                _ => Ok(()),
            };
        };
        note(ours, number, Mark::of(file))
    })?;
    let Some(ours) = ours else {
        return Ok(());
    };
    sync_record(&ours)?;
    each(content, |number, entry| {
        if let Some(Note::Ours(mark)) = number.map(|number| ours.note(number))
            && let Ok((file, stat)) = named.open_to_write(&content.place_of(entry))
            && stat.st_size == 0
            && mark.fits(Mark::of(&file))
        {
            let longer = lengthen::begin(&file);
            longer.map_err(|error| WriteError::of(content.path_of(entry), error.into()))?;
        }
        Ok(())
    })
}

/// Calls `act` for each file, with the file's number if it holds a byte.
fn each(
    content: &Content,
    mut act: impl FnMut(Option<u64>, &Entry) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let mut next = 0;
    for entry in content.entries().map_err(WriteError::Place)? {
        let entry = entry.map_err(|e| WriteError::Place(content.torrent_error(e)))?;
        let number = (entry.len > 0).then_some(next);
        next += u64::from(entry.len > 0);
        act(number, &entry)?;
    }
    Ok(())
}

/// Reserves the disk space of our files for which `wanted` holds, where that takes no time.
pub fn reserve(
    content: &Content,
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<(), WriteError> {
    each(content, |number, entry| {
        let wanted = wanted(entry) && entry.kind == FileKind::Data;
        let Some(number) = number.filter(|_| wanted) else {
            return Ok(());
        };
        let place = content.place_of(entry);
        let (file, _) = match open(content, number, &place) {
            Err(error) if error.is_of_file() => return Ok(()),
            opened => opened?,
        };
        let taken = lengthen::take(&file, entry.len);
        taken.map_err(|error| WriteError::of(content.path_of(entry), error.into()))
    })
}
