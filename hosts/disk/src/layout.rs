//! Where a torrent's files lie.

use std::fs;
use std::path::{Path, PathBuf};

use everseed_core::metainfo::Metainfo;

use crate::error::OpenError;

/// The folder that no path of the torrent leaves, and for a torrent of one file its name in there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    folder: Box<Path>,
    only: Option<Box<Path>>,
}

impl Layout {
    /// See [`Content::open`](crate::Content::open). `first` is the path of the torrent's first file
    /// that is not empty, asked for only if there is doubt.
    pub(crate) fn find(
        metainfo: &Metainfo,
        name: &str,
        data: &Path,
        first: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<Layout, OpenError> {
        let inside = data.join(name);
        if fs::symlink_metadata(&inside).is_err() && is_content(metainfo, name, data, first) {
            return Layout::at(metainfo, data);
        }
        if fs::metadata(data).is_ok_and(|there| !there.is_dir()) {
            let path = data.to_owned();
            return Err(OpenError::NotAFolder { path });
        }
        let layout = if metainfo.single {
            Layout {
                folder: data.into(),
                only: Some(Path::new(name).into()),
            }
        } else {
            Layout {
                folder: inside.into(),
                only: None,
            }
        };
        layout.fits()
    }

    /// The content is exactly here. A link is followed, because a person named it.
    pub(crate) fn at(metainfo: &Metainfo, content: &Path) -> Result<Layout, OpenError> {
        let content = fs::canonicalize(content).unwrap_or_else(|_| content.to_owned());
        let layout = match (content.parent(), content.file_name()) {
            (Some(folder), Some(name)) if metainfo.single => {
                // The parent of a bare name is the empty path, which is no folder to the system.
                let here = folder.as_os_str().is_empty();
                Layout {
                    folder: if here { Path::new(".") } else { folder }.into(),
                    only: Some(Path::new(name).into()),
                }
            }
            _ => Layout {
                folder: content.into(),
                only: None,
            },
        };
        layout.fits()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn root(&self) -> PathBuf {
        match &self.only {
            Some(name) => self.folder.join(name),
            None => self.folder.to_path_buf(),
        }
    }

    /// The path beneath [`folder`](Layout::folder) of what the torrent calls `path`.
    pub(crate) fn relative<'a>(&'a self, path: &'a Path) -> &'a Path {
        self.only.as_deref().unwrap_or(path)
    }

    /// Refuses a file for a folder and the reverse; what is not there at all fits.
    fn fits(self) -> Result<Layout, OpenError> {
        let path = self.root();
        if self.only.is_some() {
            match fs::symlink_metadata(&path) {
                Ok(there) if !there.is_file() => Err(OpenError::NotAFile { path }),
                _ => Ok(self),
            }
        } else {
            match fs::metadata(&path) {
                Ok(there) if !there.is_dir() => Err(OpenError::NotAFolder { path }),
                _ => Ok(self),
            }
        }
    }
}

fn is_content(
    metainfo: &Metainfo,
    name: &str,
    data: &Path,
    first: impl FnOnce() -> Option<PathBuf>,
) -> bool {
    match fs::metadata(data) {
        Ok(there) if metainfo.single => there.is_file(),
        Ok(there) if there.is_dir() => {
            let named = data.file_name().is_some_and(|last| last == name);
            named || first().is_some_and(|first| data.join(first).is_file())
        }
        _ => false,
    }
}
