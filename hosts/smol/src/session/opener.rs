//! The opener makes torrents with content of the paths that the owner named: torrent files are opened, others made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::hash::InfoHash;
use everseed_core::metainfo::Metainfo;
use everseed_disk::make::{self, MakeError, Options, Report};
use everseed_disk::relocate::apart;
use everseed_disk::{
    Choice, Content, Links, ReadError, Skipped, check, find, identify_torrent, read_torrent,
    resolve, unfinished,
};

use super::claims::{Claims, claims};
use super::index::is_torrent;
use super::kept;
use super::notice::{Notice, Notices};
use super::trouble::Trouble;
use crate::client::trackers;
use crate::storage::closed::close_to_others;
use crate::storage::described::Description;
use crate::storage::mount_guard::{MountId, MountState};
use crate::storage::state::StateFolder;
use crate::text::escape;

/// A torrent that can be seeded.
pub(crate) struct OpenedTorrent {
    pub(crate) content: Arc<Content>,
    /// The number of trackers in each tier: those that its file names, or the owner's if it is public and names none.
    pub(crate) tiers: Box<[u8]>,
    /// DHT nodes that its file names.
    pub(crate) nodes: Vec<String>,
    /// The files' fingerprint, if every piece was hashed just now.
    pub(crate) fresh: Option<u64>,
    /// The files' fingerprint at a look just before seeding.
    pub(crate) found: Option<u64>,
}

/// The new contents of a torrent file that was overwritten while its torrent is seeded.
pub(crate) struct Renewed {
    /// Our copy of the new file.
    pub(crate) file: PathBuf,
    pub(crate) metainfo: Metainfo,
    /// The number of trackers in each tier, as in [`OpenedTorrent`].
    pub(crate) tiers: Box<[u8]>,
    /// A digest of their URLs.
    pub(crate) trackers: u64,
}

/// A torrent file that is given, not made.
struct TorrentFile<'a> {
    /// As its owner named it.
    named: &'a Path,
    /// Without links.
    path: &'a Path,
    copy: &'a Path,
    metainfo: &'a Metainfo,
}

/// Searches for the files of a torrent if none is at its place. If some are missing, the check searches for them.
fn look_around(content: &Content) {
    let until = Instant::now() + SEARCH;
    if check::reachable(content).is_err()
        && content.is_search_due(true)
        && let Err(error) = find::search(content, None, &mut || Instant::now() < until)
            .and_then(|_| unfinished::find(content))
    {
        log::debug!("{}: {error}", content.name());
    }
}

/// The longest search.
const SEARCH: Duration = Duration::from_secs(30);

/// The settings with which paths are opened.
pub(crate) struct TorrentOpener<'a> {
    pub(crate) state: &'a StateFolder,
    /// Whether the owner named the path; otherwise it was found in a watched folder.
    pub(crate) asked: bool,
    /// The original .torrent, if the path is our copy of it.
    pub(crate) original: Option<&'a Path>,
    /// The folder of given torrents' data.
    pub(crate) data: Option<&'a Path>,
    /// The folder in which a download lies until it is complete.
    pub(crate) incomplete: Option<&'a Path>,
    /// Paths of a given torrent's files by number.
    pub(crate) files: &'a [(u64, PathBuf)],
    /// The watched folder that the path has to stay in.
    pub(crate) within: Option<&'a Path>,
    /// Which links are followed.
    pub(crate) links: Links,
    /// Options of torrents that are made; without trackers they get the built-in one.
    pub(crate) make: &'a Options,
    /// The built-in tracker's announce URL.
    pub(crate) own_tracker: &'a str,
    pub(crate) notices: &'a Notices,
    /// Called again and again while a torrent is made, with the bytes still to be hashed.
    pub(crate) between: Option<&'a dyn Fn(u64)>,
}

impl TorrentOpener<'_> {
    /// Opens or makes the torrent of `path`.
    pub(crate) fn open(&self, path: &Path) -> Result<OpenedTorrent, Trouble> {
        self.stays(path)?;
        match is_given(path) {
            true => self.given(path),
            false => self.made(path),
        }
    }

    /// Opens the torrent of `path` only if it was seeded before: a file or folder if it has not changed or is away, a
    /// torrent file if it is whole.
    pub(crate) fn known(&self, path: &Path) -> Option<Result<OpenedTorrent, Trouble>> {
        if let Err(error) = self.stays(path) {
            return Some(Err(error.into()));
        }
        if is_given(path) {
            let info_hash = identify_torrent(path).ok()?.info_hash;
            return self.state.knows(info_hash).then(|| self.given(path));
        }
        self.made_before(path).transpose()
    }

    /// Refuses a link that leads out of the watched folder. A missing file is reported elsewhere.
    fn stays(&self, path: &Path) -> Result<(), String> {
        match self.real(path) {
            Err(error @ ReadError::Leaves { .. }) => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// The path without links. Links that a person named are followed; those in a watched folder only if they stay in
    /// it.
    fn real(&self, path: &Path) -> Result<PathBuf, ReadError> {
        match self.within {
            Some(folder) => resolve(folder, path, self.links),
            None => path.canonicalize().map_err(|error| ReadError::Io {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// Opens a torrent file that the owner named.
    fn given(&self, path: &Path) -> Result<OpenedTorrent, Trouble> {
        let path = std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let data = self.data_of(&path)?;
        // The file will be opened again and again, but never again through a link.
        let named = path.clone();
        let path = self.real(&path).map_err(|error| error.to_string())?;
        let (copy, metainfo) = match self.original {
            Some(_) => (path.clone(), read(&path)?),
            None => kept::keep(self.state, &named, &path)?,
        };
        let file = TorrentFile {
            named: &named,
            path: &path,
            copy: &copy,
            metainfo: &metainfo,
        };
        self.opened(&file, &data)
    }

    /// Opens our copy of a torrent file as it was last seeded, because the file is being written.
    pub(crate) fn as_before(&self, path: &Path) -> Option<Result<OpenedTorrent, Trouble>> {
        let (copy, metainfo) = kept::kept(self.state, path)?;
        let data = self.data_of(path).ok()?;
        let file = TorrentFile {
            named: path,
            path,
            copy: &copy,
            metainfo: &metainfo,
        };
        Some(self.opened(&file, &data))
    }

    /// The new contents of the torrent file `path`, if it is still the torrent that is seeded.
    pub(crate) fn renewed(
        &self,
        path: &Path,
        running: InfoHash,
    ) -> Result<Option<Renewed>, Trouble> {
        let real = self.real(path).map_err(|error| error.to_string())?;
        let (file, metainfo) = kept::keep_beside(self.state, path, &real)?;
        if metainfo.info_hash != running {
            return Ok(None);
        }
        let tiers = trackers::counts(&file, &metainfo, &self.make.trackers)?;
        let trackers = trackers::sum(&trackers::tiers(&file, &metainfo)?);
        Ok(Some(Renewed {
            file,
            metainfo,
            tiers,
            trackers,
        }))
    }

    fn opened(&self, file: &TorrentFile<'_>, data: &Path) -> Result<OpenedTorrent, Trouble> {
        let mut content = self.laid(file, data)?;
        if let Some(incomplete) = self.incomplete {
            let incomplete = std::path::absolute(incomplete);
            let incomplete = incomplete.map_err(|e| format!("--incomplete: {e}"))?;
            let apart = apart(&incomplete, file.metainfo.info_hash);
            if self.lies_apart(&content, &apart) {
                content = self.laid(file, &apart)?;
            }
        }
        say_renamed(&content);
        look_around(&content);
        if check::reachable(&content).is_err() {
            content.fits().map_err(|error| error.to_string())?;
        }
        Ok(source(content, None, self.make)?)
    }

    /// Opens the content of a torrent file in a folder.
    fn laid(&self, file: &TorrentFile<'_>, data: &Path) -> Result<Content, Trouble> {
        let TorrentFile {
            named,
            path,
            copy,
            metainfo,
        } = *file;
        let folder = self.state.folder();
        let content = Content::open(copy, metainfo, data, folder).map_err(|e| e.to_string())?;
        self.describe(named, &data.join(content.name()), metainfo.private)?;
        self.describe(named, &content.root(), metainfo.private)?;
        let mut content = content.copied_from(path).follow(self.links);
        content.place_files(self.files).map_err(|number| {
            format!(
                "--file: {} has no file {number}; everseed show lists them",
                path.display()
            )
        })?;
        Ok(content)
    }

    /// Whether a download lies in the folder for incomplete ones; `content` is its final place. A download stays
    /// where it was begun. Content that was there before, or whose files were named one by one, stays too.
    fn lies_apart(&self, content: &Content, apart: &Path) -> bool {
        if content.has_named_files() {
            return false;
        }
        if apart.is_dir() {
            // If the power failed during the move, this may be the first of two copies.
            let is_whole = check::reachable(content).is_ok()
                && check::present(content).is_ok_and(|lacking| lacking.is_none());
            return !is_whole;
        }
        look_around(content);
        let root = content.root();
        let before = self.state.place(content.metainfo().info_hash, &root);
        let found = MountId::look(&root, before.as_ref());
        matches!(found, MountState::There(_)) && check::reachable(content).is_err()
    }

    /// The folder of a torrent file's data.
    fn data_of(&self, path: &Path) -> Result<PathBuf, String> {
        let beside = self.original.unwrap_or(path).parent();
        let beside = beside.unwrap_or(Path::new("/"));
        let data = std::path::absolute(self.data.unwrap_or(beside));
        data.map_err(|e| format!("--data: {e}"))
    }

    /// Records the content that an unusable torrent file claims. Returns whether its content is known.
    pub(crate) fn claim(&self, path: &Path) -> Result<bool, String> {
        let path = std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let data = self.data_of(&path)?;
        match claims(&path) {
            Claims::Nothing => Ok(true),
            Claims::Unknown => Ok(false),
            Claims::Names(names) => {
                for name in names {
                    if data.file_name() == Some(name.as_os_str()) {
                        self.describe(&path, &data, true)?;
                    }
                    self.describe(&path, &data.join(name), true)?;
                }
                Ok(true)
            }
        }
    }

    fn describe(&self, torrent: &Path, root: &Path, private: bool) -> Result<(), String> {
        let described = self.state.described();
        let torrent = self.original.unwrap_or(torrent);
        // By its own path, and by the target of its links.
        let real = root.canonicalize().ok();
        for root in [Some(root), real.as_deref()].into_iter().flatten() {
            let description = Description {
                root: root.to_owned(),
                torrent: torrent.to_owned(),
                private,
            };
            let Err(error) = described.add(&description) else {
                continue;
            };
            let file = self.state.folder().join("described");
            let (file, torrent) = (file.display(), torrent.display());
            if private {
                return Err(format!(
                    "{file}: {error}: {torrent} is not seeded, because it could not be recorded there \
                     that its content belongs to it; make room"
                ));
            }
            // At worst its content is shared once more, by a torrent of its own, when this one is gone.
            log::warn!(
                "{file}: {error}: it cannot be recorded there which content belongs to {torrent}; make room"
            );
        }
        Ok(())
    }

    /// Refuses content that belongs to a torrent: a torrent made of it would be another one, and public.
    fn may_make(&self, path: &Path) -> Result<(), Trouble> {
        let described = self.state.described();
        let shown = escape(path.as_os_str().as_encoded_bytes()).to_string();
        let link = described.find_link(path);
        if link.is_none() && !described.holds(path) {
            return match described.doubt().filter(|_| !self.asked) {
                Some(doubt) if self.state.made_of(path).is_none() => {
                    Err(Trouble::Failed(format!("{shown}: {doubt}")))
                }
                _ => Ok(()),
            };
        }
        let is_link = link.is_some();
        let found = link.or_else(|| described.find(path));
        let torrent = found
            .as_ref()
            .map_or(Path::new("a .torrent"), |found| &found.torrent);
        let torrent = escape(torrent.as_os_str().as_encoded_bytes()).to_string();
        match found {
            _ if !self.asked => {
                let why = format!(
                    "{shown} belongs to {torrent}, so it is not shared by itself unless it is named: [[seed]] path = \
                     \"{shown}\""
                );
                // Its own name does not show that it is described, so it stays an item.
                Err(match is_link {
                    true => Trouble::Failed(why),
                    false => Trouble::Described(why),
                })
            }
            // A torrent made of it would be private too.
            _ if self.make.private => Ok(()),
            Some(found) if found.private && found.is_there() => Err(Trouble::Failed(format!(
                "{shown} belongs to {torrent}, which is private, and a torrent that is made of it would be public; \
                 seed {torrent} itself, or remove it first"
            ))),
            Some(found) if found.private => {
                log::warn!(
                    "{shown} belonged to {torrent}, which was private and is gone; what is made of it now is public"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The torrent that was made of a file or folder, if it still fits.
    fn made_before(&self, path: &Path) -> Result<Option<OpenedTorrent>, Trouble> {
        self.may_make(path)?;
        if let Some(content) = self.away(path) {
            return Ok(Some(source(content, None, self.make)?));
        }
        let path = self.real(path).map_err(|error| error.to_string())?;
        let Some(torrent) = self.state.made_of(&path) else {
            return Ok(None);
        };
        let Some(content) = self.still_fits(&torrent, &path) else {
            return Ok(None);
        };
        self.retrack(&torrent, content.metainfo())?;
        let metainfo = read(&torrent)?;
        let content = self.open_at(&torrent, &metainfo, &path)?;
        Ok(Some(source(content, None, self.make)?))
    }

    /// The torrent of a file or folder: the one made before if it still fits, or a new one.
    fn made(&self, path: &Path) -> Result<OpenedTorrent, Trouble> {
        if let Some(before) = self.made_before(path)? {
            return Ok(before);
        }
        let path = self.real(path).map_err(|error| error.to_string())?;
        let before = self.state.made_of(&path);
        let torrent = self.make(&path)?;
        // A torrent of it may have come meanwhile.
        self.may_make(&path)?;
        let metainfo = read(&torrent)?;
        if let Some(before) = before.filter(|before| *before != torrent) {
            self.say_it_is_another(&path, &before);
        }
        let content = self.open_at(&torrent, &metainfo, &path)?;
        // It may take hours until other items are made and this one is served.
        let fresh = check::fingerprint(&content).ok();
        Ok(source(content, fresh, self.make)?)
    }

    /// The content that was shared from here before and is away now: everything, or all but an empty mount point. It
    /// is waited for, because the machine may start everseed before it mounts its disks.
    fn away(&self, path: &Path) -> Option<Content> {
        let path = match (path.canonicalize(), path.parent(), path.file_name()) {
            (Ok(path), _, _) if fs::read_dir(&path).ok()?.next().is_none() => path,
            (Ok(_), _, _) => return None,
            (Err(_), Some(folder), Some(name)) => {
                let folder = std::path::absolute(folder.join(".")).ok()?;
                folder.canonicalize().unwrap_or(folder).join(name)
            }
            _ => return None,
        };
        let torrent = self.state.made_of(&path)?;
        let metainfo = read(&torrent).ok()?;
        // A full disk is no reason to stop here.
        let _ = self.retrack(&torrent, &metainfo);
        let metainfo = read(&torrent).ok()?;
        self.open_at(&torrent, &metainfo, &path).ok()
    }

    /// Tells people with a link to the former content that it has changed.
    fn say_it_is_another(&self, path: &Path, before: &Path) {
        let former = before.file_stem().unwrap_or_default().as_encoded_bytes();
        self.notices.tell(Notice::Replaced { path, former });
    }

    /// The content of a torrent that was made before, unless files came, went or changed.
    fn still_fits(&self, torrent: &Path, path: &Path) -> Option<Content> {
        let metainfo = read(torrent).ok()?;
        let content = self.open_at(torrent, &metainfo, path).ok()?;
        let bytes = self
            .state
            .resume(metainfo.info_hash, metainfo.geometry.pieces())?;
        let record = everseed_core::resume::Record::decode(&bytes).ok()?;
        let is = |fingerprint| fingerprint == record.fingerprint;
        // Content that version 0.1.0 verified is verified again while it is seeded.
        let same = is(check::fingerprint(&content).ok()?)
            || check::first_fingerprint(&content).is_ok_and(is);
        (same && self.lists_same(path, &content)).then_some(content)
    }

    /// Whether a torrent made now would be the same one.
    fn lists_same(&self, path: &Path, content: &Content) -> bool {
        let mut options = self.options();
        if make::would_be_same(path, content, &options) {
            return true;
        }
        // Torrents of earlier versions include unwanted files. They stay as they are for those who have a link.
        let chosen = options.choice != Choice::default();
        options.choice.all = true;
        !chosen && make::would_be_same(path, content, &options)
    }

    fn open_at(&self, torrent: &Path, metainfo: &Metainfo, path: &Path) -> Result<Content, String> {
        let folder = self.state.folder();
        let content = Content::open_at(torrent, metainfo, path, folder);
        let content = content.map_err(|e| e.to_string())?.follow(self.links);
        Ok(match self.within {
            Some(folder) => content.within(folder),
            None => content,
        })
    }

    fn make(&self, path: &Path) -> Result<PathBuf, String> {
        let unnamed = self.state.folder().join("new.torrent");
        let mut not_included = 0;
        let made = make::make(
            path,
            &unnamed,
            &self.options(),
            &mut |report| match report {
                // Who chooses files by `--include` knows that the others are left out.
                Report::Skipped(_, Skipped::NotIncluded) => not_included += 1,
                Report::Skipped(path, why) => self.notices.tell(Notice::LeftOut(path, why)),
                Report::Hashed { done, total } => {
                    self.notices.tell(Notice::Hashed(done, total));
                    if let Some(between) = self.between {
                        between(total.saturating_sub(done));
                    }
                }
            },
        );
        self.notices.tell(Notice::HashingEnded);
        self.notices.tell(Notice::NotIncluded(not_included));
        made.map_err(|error| self.advise(&unnamed, &error))?;
        let info_hash = read(&unnamed)?.info_hash;
        let torrent = self.state.torrent_file(info_hash);
        let keep = || {
            close_to_others(&unnamed)?;
            std::fs::rename(&unnamed, &torrent)?;
            self.state.remember(path, info_hash)
        };
        keep().map_err(|error| {
            let path = torrent.clone();
            self.advise(&torrent, &MakeError::Io { path, error })
        })?;
        Ok(torrent)
    }

    /// Updates the fields of a made torrent beside its files.
    fn retrack(&self, torrent: &Path, metainfo: &Metainfo) -> Result<(), String> {
        let done = make::retrack(torrent, metainfo, &self.options());
        done.map_err(|error| self.advise(torrent, &error))
    }

    /// The message of a failed write, with advice if it is the state that cannot be written.
    fn advise(&self, written: &Path, error: &MakeError) -> String {
        match error {
            MakeError::Io { path, .. } if path == written => {
                format!("{error}; make room there or choose another place with --state DIR")
            }
            _ => error.to_string(),
        }
    }

    fn options(&self) -> Options {
        let mut options = match self.make.trackers.is_empty() {
            true => own_options(self.make, self.own_tracker),
            false => self.make.clone(),
        };
        options.links = self.links;
        options
    }
}

/// The options of a torrent with the built-in tracker, whose address may change.
pub(crate) fn own_options(make: &Options, own_tracker: &str) -> Options {
    Options {
        trackers: vec![vec![own_tracker.to_owned()]],
        roomy: true,
        ..make.clone()
    }
}

/// Whether a path is a torrent file, and not something to share.
pub(crate) fn is_given(path: &Path) -> bool {
    is_torrent(path) && !path.is_dir()
}

fn source(content: Content, fresh: Option<u64>, make: &Options) -> Result<OpenedTorrent, String> {
    let (file, metainfo) = (content.read_torrent_file(), content.metainfo());
    Ok(OpenedTorrent {
        tiers: trackers::counts(file, metainfo, &make.trackers)?,
        nodes: trackers::dht_nodes(content.read_torrent_file(), content.metainfo())?,
        content: Arc::new(content),
        fresh,
        found: None,
    })
}

fn read(torrent: &Path) -> Result<Metainfo, String> {
    read_torrent(torrent).map_err(|error| error.to_string())
}

/// Logs the names that could not be kept.
fn say_renamed(content: &Content) {
    if let Some((count, first)) = content.renamed() {
        let (name, first) = (
            escape(content.name()),
            escape(first.as_os_str().as_encoded_bytes()),
        );
        log::warn!(
            "{name}: {count} of its files have other names than in the torrent, because not every system can keep \
             those; the first is {first}, and `everseed show` marks them"
        );
    }
}
