//! The place of a torrent's content on disk.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use everseed_core::metainfo::{Metainfo, Name};

use crate::beneath::{Links, Root};
use crate::error::OpenError;
use crate::fitting::fitting;
use crate::placed::Placed;

/// The folder that the owner named, which no path of the torrent leaves, and the content's place in it.
#[derive(Debug)]
pub(crate) struct Layout {
    folder: Box<Path>,
    /// Path of the torrent's file or folder in the named folder; empty if it is the named folder itself.
    top: Box<Path>,
    /// The substitute for `top`, if the file system refused that name.
    fitting: OnceLock<Box<Path>>,
    /// The number of components of `top` that the torrent may name.
    names: usize,
    single: bool,
    links: Links,
    /// Files that lie elsewhere beneath the folder than the torrent says.
    pub(crate) placed: Placed,
}

impl Layout {
    /// Finds the content, see [`Content::open`](crate::Content::open). `first` gives the path of the torrent's first
    /// file that is not empty, and is called only in doubt. `names` are the names that the content may have, the one
    /// that it gets first.
    pub(crate) fn find(
        metainfo: &Metainfo,
        names: &[Name],
        data: &Path,
        first: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<Layout, OpenError> {
        let usual = names.first().map_or("_", Name::as_str);
        let others = names
            .iter()
            .skip(1)
            .map(|name| PathBuf::from(name.as_str()));
        let all = Some(PathBuf::from(usual)).into_iter().chain(others);
        let mut all = all.chain(fitting(Path::new(usual)));
        let there = all.find(|name| fs::symlink_metadata(data.join(name)).is_ok());
        if there.is_none() && is_content(metainfo, usual, data, first) {
            return Layout::at(metainfo, data);
        }
        let name = there.unwrap_or_else(|| PathBuf::from(usual));
        if fs::metadata(data).is_ok_and(|there| !there.is_dir()) {
            let path = data.to_owned();
            return Err(OpenError::NotAFolder { path });
        }
        let mut layout = Layout::new(metainfo, data, &name);
        layout.names = 1;
        Ok(layout)
    }

    /// The layout of content at exactly this path. A link is followed, because a person named it.
    pub(crate) fn at(metainfo: &Metainfo, content: &Path) -> Result<Layout, OpenError> {
        let content = fs::canonicalize(content).unwrap_or_else(|_| content.to_owned());
        let layout = match (content.parent(), content.file_name()) {
            (Some(folder), Some(name)) if metainfo.single => {
                // The parent of a bare name is the empty path, which the system does not accept as a folder.
                let here = folder.as_os_str().is_empty();
                let folder = if here { Path::new(".") } else { folder };
                Layout::new(metainfo, folder, Path::new(name))
            }
            _ => Layout::new(metainfo, &content, Path::new("")),
        };
        layout.fits()?;
        Ok(layout)
    }

    fn new(metainfo: &Metainfo, folder: &Path, top: &Path) -> Layout {
        Layout {
            folder: folder.into(),
            top: top.into(),
            fitting: OnceLock::new(),
            names: 0,
            single: metainfo.single,
            links: Links::Beneath,
            placed: Placed::default(),
        }
    }

    /// The layout of the same content in another folder, under the name `top`.
    pub(crate) fn in_folder(&self, folder: &Path, top: &OsStr) -> Layout {
        let placed = self.placed.moved(self.top(), Path::new(top));
        Layout {
            folder: folder.into(),
            top: Path::new(top).into(),
            fitting: OnceLock::new(),
            names: 0,
            single: self.single,
            links: self.links,
            placed,
        }
    }

    /// Sets which links are followed beneath the folder.
    pub(crate) fn follow(&mut self, links: Links) {
        self.links = links;
    }

    /// Lets paths leave the content's folder for other places in `folder`, if the content lies in that.
    pub(crate) fn keep_within(&mut self, folder: &Path) {
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        if let Ok(top) = self.root().strip_prefix(&folder) {
            if let Ok(between) = self.folder.strip_prefix(&folder) {
                self.placed.prefix(between);
            }
            (self.top, self.folder) = (top.into(), folder.into());
        }
    }

    /// The folder that the owner named.
    pub(crate) fn named(&self) -> Root<'_> {
        let (folder, links) = (&*self.folder, self.links);
        Root { folder, links }
    }

    /// The folder that has to be there before a file is made: the content's own, relative to the named folder.
    pub(crate) fn base(&self) -> &Path {
        match self.single {
            true => self.top().parent().unwrap_or(Path::new("")),
            false => self.top(),
        }
    }

    /// The folder that holds all files.
    pub(crate) fn folder(&self) -> PathBuf {
        match self.base() {
            base if base.as_os_str().is_empty() => self.folder.to_path_buf(),
            base => self.folder.join(base),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        match self.top().as_os_str().is_empty() {
            true => self.folder.to_path_buf(),
            false => self.folder.join(self.top()),
        }
    }

    /// The folder in which the content lies, and the path of the content in it.
    pub(crate) fn place(&self) -> (&Path, &Path) {
        (&self.folder, self.top())
    }

    fn top(&self) -> &Path {
        self.fitting.get().unwrap_or(&self.top)
    }

    /// The substitute names of the content, for a file system that refuses its own. Empty if the owner named it.
    pub(crate) fn fitting_tops(&self) -> Vec<PathBuf> {
        match (self.names, self.top.file_name()) {
            (1, Some(name)) => fitting(Path::new(name))
                .map(|name| self.top.with_file_name(name))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Records that the content's name is `top` from now on, because its own was refused.
    pub(crate) fn set_top(&self, top: &Path) {
        let _ = self.fitting.set(top.into());
    }

    /// Renames the content, whatever the torrent calls it.
    pub(crate) fn rename(&mut self, name: &OsStr) {
        self.top = self.top().with_file_name(name).into();
        (self.fitting, self.names) = (OnceLock::new(), 0);
    }

    pub(crate) fn is_single(&self) -> bool {
        self.single
    }

    /// The path, beneath the [`named`](Layout::named) folder, of the torrent's `path`.
    pub(crate) fn relative<'a>(&'a self, path: &'a Path) -> Cow<'a, Path> {
        if self.single {
            Cow::Borrowed(self.top())
        } else if self.top().as_os_str().is_empty() {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(self.top().join(path))
        }
    }

    /// The full path of what lies at `relative` beneath the named folder.
    pub(crate) fn whole(&self, relative: &Path) -> PathBuf {
        self.folder.join(relative)
    }

    /// Refuses a file where the torrent has a folder, and a folder where it has a file; a missing one passes.
    pub(crate) fn fits(&self) -> Result<(), OpenError> {
        let path = self.root();
        match fs::metadata(&path) {
            Ok(there) if self.single && !there.is_file() => Err(OpenError::NotAFile { path }),
            Ok(there) if !self.single && !there.is_dir() => Err(OpenError::NotAFolder { path }),
            _ => Ok(()),
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
