//! Where a torrent's files lie.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use everseed_core::metainfo::Metainfo;

use crate::beneath::{Links, Root};
use crate::error::OpenError;

/// The folder that the owner named, which no path of the torrent leaves, and where in it the content is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    folder: Box<Path>,
    /// The torrent's file or folder; empty if it is the named folder itself.
    top: Box<Path>,
    single: bool,
    links: Links,
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
        Layout::new(metainfo, data, Path::new(name)).fits()
    }

    /// The content is exactly here. A link is followed, because a person named it.
    pub(crate) fn at(metainfo: &Metainfo, content: &Path) -> Result<Layout, OpenError> {
        let content = fs::canonicalize(content).unwrap_or_else(|_| content.to_owned());
        let layout = match (content.parent(), content.file_name()) {
            (Some(folder), Some(name)) if metainfo.single => {
                // The parent of a bare name is the empty path, which is no folder to the system.
                let here = folder.as_os_str().is_empty();
                let folder = if here { Path::new(".") } else { folder };
                Layout::new(metainfo, folder, Path::new(name))
            }
            _ => Layout::new(metainfo, &content, Path::new("")),
        };
        layout.fits()
    }

    fn new(metainfo: &Metainfo, folder: &Path, top: &Path) -> Layout {
        Layout {
            folder: folder.into(),
            top: top.into(),
            single: metainfo.single,
            links: Links::Beneath,
        }
    }

    /// Which links are followed beneath the folder.
    pub(crate) fn follow(&mut self, links: Links) {
        self.links = links;
    }

    /// No path leaves this folder, if the content lies in it.
    pub(crate) fn keep_within(&mut self, folder: &Path) {
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        if let Ok(top) = self.root().strip_prefix(&folder) {
            (self.top, self.folder) = (top.into(), folder.into());
        }
    }

    /// The folder that the owner named.
    pub(crate) fn named(&self) -> Root<'_> {
        let (folder, links) = (&*self.folder, self.links);
        Root { folder, links }
    }

    /// What has to be there before a file is made: the content's folder, in that which the owner named.
    pub(crate) fn base(&self) -> &Path {
        match self.single {
            true => self.top.parent().unwrap_or(Path::new("")),
            false => &self.top,
        }
    }

    /// The folder that all files are in.
    pub(crate) fn folder(&self) -> PathBuf {
        match self.base() {
            base if base.as_os_str().is_empty() => self.folder.to_path_buf(),
            base => self.folder.join(base),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        match self.top.as_os_str().is_empty() {
            true => self.folder.to_path_buf(),
            false => self.folder.join(&self.top),
        }
    }

    /// The path beneath the [`named`](Layout::named) folder of what the torrent calls `path`.
    pub(crate) fn relative<'a>(&'a self, path: &'a Path) -> Cow<'a, Path> {
        if self.single {
            Cow::Borrowed(&self.top)
        } else if self.top.as_os_str().is_empty() {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(self.top.join(path))
        }
    }

    /// The whole path of what the torrent calls `path`.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(self.relative(path))
    }

    /// Refuses a file for a folder and the reverse; what is not there at all fits.
    fn fits(self) -> Result<Layout, OpenError> {
        let path = self.root();
        match fs::metadata(&path) {
            Ok(there) if self.single && !there.is_file() => Err(OpenError::NotAFile { path }),
            Ok(there) if !self.single && !there.is_dir() => Err(OpenError::NotAFolder { path }),
            _ => Ok(self),
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
