//! The files of a folder, in the order in which a torrent lists them.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A regular file found beneath the folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Relative to the folder.
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) len: u64,
    /// When it was changed last, where the file system tells.
    pub(crate) modified: Option<SystemTime>,
}

/// Why something in the folder is not part of the torrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Skipped {
    /// A symbolic link: it may point anywhere, and a torrent cannot tell what to.
    Symlink,
    /// A device, socket or FIFO.
    Special,
    /// The torrent file that is being written.
    Output,
}

/// Every regular file beneath `folder`, hidden ones too, sorted component by component by their bytes,
/// so that the same folder gives the same list on every machine.
///
/// `skip` is told the full path of what is left out. `output` is left out if it lies in the folder.
pub(crate) fn walk(
    folder: &Path,
    output: Option<&Path>,
    skip: &mut dyn FnMut(&Path, Skipped),
) -> Result<Vec<Found>, (PathBuf, io::Error)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        let here = folder.join(&relative);
        let entries = fs::read_dir(&here).map_err(|error| (here.clone(), error))?;
        for entry in entries {
            let entry = entry.map_err(|error| (here.clone(), error))?;
            let full = entry.path();
            let metadata = entry.metadata().map_err(|error| (full.clone(), error))?;
            let path = relative.join(entry.file_name());
            if metadata.is_dir() {
                folders.push(path);
            } else if let Some(why) = leave_out(&full, &metadata, output) {
                skip(&full, why);
            } else {
                found.push(Found {
                    path,
                    len: metadata.len(),
                    modified: metadata.modified().ok(),
                });
            }
        }
    }
    // `Path` compares component by component, and each by its bytes.
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn leave_out(path: &Path, metadata: &Metadata, output: Option<&Path>) -> Option<Skipped> {
    let kind: FileType = metadata.file_type();
    if kind.is_symlink() {
        Some(Skipped::Symlink)
    } else if !kind.is_file() {
        Some(Skipped::Special)
    } else if output == Some(path) {
        Some(Skipped::Output)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::os::unix::fs::symlink;

    #[test]
    fn sorted_and_without_links() {
        let scratch = Scratch::new("walk");
        let root = scratch.path();
        for (path, len) in [
            ("b/x", 1),
            ("b!", 2),
            ("b/.hidden", 3),
            ("a/z/deep", 4),
            ("a/empty", 0),
            ("B", 5),
            ("é", 6),
            ("out.torrent", 7),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; len]).unwrap();
        }
        symlink("/", root.join("b/everything")).unwrap();
        symlink("b/x", root.join("link")).unwrap();
        let mut skipped = Vec::new();
        let output = root.join("out.torrent");
        let found = walk(root, Some(&output), &mut |path, why| {
            skipped.push((path.to_owned(), why));
        });
        let found = found.unwrap();
        let names: Vec<_> = found.iter().map(|f| f.path.to_str().unwrap()).collect();
        // A folder's files stand together: "b/x" before "b!", although '!' is less than '/'.
        let sorted = ["B", "a/empty", "a/z/deep", "b/.hidden", "b/x", "b!", "é"];
        assert_eq!(names, sorted);
        assert_eq!(found[2].len, 4);
        skipped.sort();
        let expected = [
            (root.join("b/everything"), Skipped::Symlink),
            (root.join("link"), Skipped::Symlink),
            (output, Skipped::Output),
        ];
        assert_eq!(skipped, expected);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let scratch = Scratch::new("walk-missing");
        let missing = scratch.path().join("missing");
        let (path, error) = walk(&missing, None, &mut |_, _| {}).unwrap_err();
        assert_eq!((path, error.kind()), (missing, io::ErrorKind::NotFound));
    }
}
