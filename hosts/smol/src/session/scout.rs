//! The scout: a thread that scans watched folders, because a disk may be slow or away and a folder large.
//!
//! A request carries what the session knew at that time. The session itself heeds what has changed since. The scout
//! handles one request after the other.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::thread;

use everseed_core::hash::InfoHash;
use everseed_disk::{Links, ReadError, resolve};

use super::index::{PathIndex, is_link, is_torrent};
use super::kept;
use super::watch::{Seen, Watch, look, look_at_link};
use crate::alarm::Alarm;
use crate::clock::file_time;
use crate::storage::catalogue::Catalogue;
use crate::storage::dormant::Mark;
use crate::storage::prune::KEPT;
use crate::storage::state::StateFolder;

/// A request to the scout.
pub(super) enum ScoutRequest {
    /// Scan all watched folders.
    Survey(Survey),
    /// Look at one item, in a watched folder or named.
    Look {
        folder: Option<PathBuf>,
        path: PathBuf,
        links: Links,
    },
    /// Remove the state of torrents that are neither in this catalogue nor in this list.
    Prune(Catalogue, Vec<InfoHash>),
}

/// The session's knowledge at the begin of a scan.
pub(super) struct Survey {
    /// A number that comes back with the report.
    pub(super) number: u64,
    pub(super) watches: Vec<Watch>,
    pub(super) links: Links,
    /// Whether folders are read that have not changed.
    pub(super) restless: bool,
    /// The paths of items.
    pub(super) items: Vec<KnownPath>,
    /// The sleeping torrents.
    pub(super) catalogue: Catalogue,
    /// The number of new torrent files and of other new items that may be added.
    pub(super) room: (usize, usize),
    /// The content of awake torrents, sorted.
    pub(super) roots: Vec<PathBuf>,
    /// Whether torrents of these folders are downloaded.
    pub(super) downloads: bool,
}

/// The path of an item in a watched folder.
pub(super) struct KnownPath {
    pub(super) path: PathBuf,
    /// Whether to look at its present state.
    pub(super) looks: bool,
    /// Its mark when it could not be used, if it waits to be mended.
    pub(super) bad: Option<Mark>,
}

/// A report.
pub(super) enum ScoutReport {
    Surveyed(u64, Vec<(Watch, Result<Option<FolderChanges>, String>)>),
    Seen(PathBuf, Option<Seen>),
    Pruned,
}

/// The changes in one folder, apart from sleeping torrents that are unchanged.
#[derive(Default)]
pub(super) struct FolderChanges {
    /// Items that are gone.
    pub(super) gone: Vec<PathBuf>,
    /// The present states of some items.
    pub(super) seen: Vec<(PathBuf, Option<Seen>)>,
    /// Some of the new paths, with their states.
    pub(super) new: Vec<(PathBuf, Option<Seen>)>,
    /// Whether there are more new paths.
    pub(super) more: bool,
    /// Sleeping torrents that are gone, have changed, or belong to another torrent.
    pub(super) missing: Vec<(u16, InfoHash)>,
    /// The number of paths that belong to torrents which are neither awake nor asleep, and one of these paths.
    pub(super) left_out: usize,
    pub(super) example: Option<PathBuf>,
}

/// A handle to the thread.
pub(super) struct Scout {
    orders: Option<mpsc::Sender<ScoutRequest>>,
    reports: mpsc::Receiver<ScoutReport>,
    tell: mpsc::Sender<ScoutReport>,
    stop: Arc<AtomicBool>,
    state: Arc<StateFolder>,
    alarm: Arc<Alarm>,
}

impl Scout {
    pub(super) fn new(state: Arc<StateFolder>, alarm: Arc<Alarm>) -> Scout {
        let (tell, reports) = mpsc::channel();
        Scout {
            orders: None,
            reports,
            tell,
            stop: Arc::default(),
            state,
            alarm,
        }
    }

    /// Sends a request. False if there is no thread for it, so that it has to be sent again.
    pub(super) fn ask(&mut self, order: ScoutRequest) -> bool {
        let orders = match &self.orders {
            Some(orders) => orders,
            None => match self.start() {
                Ok(orders) => self.orders.insert(orders),
                Err(error) => {
                    log::error!("no thread to look at the watched folders: {error}");
                    return false;
                }
            },
        };
        orders.send(order).is_ok()
    }

    /// Ends the present request early.
    pub(super) fn give_up(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The next report, if there is one.
    pub(super) fn next(&self) -> Option<ScoutReport> {
        self.reports.try_recv().ok()
    }

    fn start(&self) -> io::Result<mpsc::Sender<ScoutRequest>> {
        let (orders, theirs) = mpsc::channel();
        let (state, alarm) = (Arc::clone(&self.state), Arc::clone(&self.alarm));
        let (tell, stop) = (self.tell.clone(), Arc::clone(&self.stop));
        let work = move || {
            for order in theirs {
                let report = carry_out(order, &state, &stop);
                if stop.load(Ordering::Relaxed) || tell.send(report).is_err() {
                    return;
                }
                alarm.ring();
            }
        };
        let thread = thread::Builder::new().name("look".into());
        thread.stack_size(STACK).spawn(work)?;
        Ok(orders)
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn carry_out(order: ScoutRequest, state: &StateFolder, stop: &AtomicBool) -> ScoutReport {
    match order {
        ScoutRequest::Look {
            folder,
            path,
            links,
        } => {
            let seen = match &folder {
                Some(folder) => see(folder, &path, links, stop),
                None => look(&path, || stop.load(Ordering::Relaxed)),
            };
            ScoutReport::Seen(path, seen)
        }
        ScoutRequest::Prune(catalogue, awake) => {
            prune(state, &catalogue, awake);
            ScoutReport::Pruned
        }
        ScoutRequest::Survey(mut survey) => {
            let mut index = None;
            let mut found = Vec::new();
            for mut watch in std::mem::take(&mut survey.watches) {
                let looked = survey.look_into(&mut watch, &mut index, state, stop);
                found.push((watch, looked));
            }
            state.described().sync();
            if found.iter().all(|(_, looked)| matches!(looked, Ok(None))) {
                state.described().rest();
            }
            ScoutReport::Surveyed(survey.number, found)
        }
    }
}

/// Removes state that is gone for good.
fn prune(state: &StateFolder, catalogue: &Catalogue, mut known: Vec<InfoHash>) {
    let asleep = catalogue.each(|_, sleeper| {
        known.push(sleeper.info_hash());
        Ok(())
    });
    known.sort_unstable();
    let folder = state.folder().display();
    match asleep.and_then(|()| state.prune(&known, file_time())) {
        Ok(0) => {}
        Ok(files) => log::info!(
            "{folder}: {files} files were removed: their torrents have been gone for {} days",
            KEPT.as_secs() / 86_400
        ),
        Err(error) => log::warn!("{folder}: {error}: unneeded files stay in it"),
    }
}

/// The present state of a path. A link that leaves its folder is not followed.
fn see(folder: &Path, path: &Path, links: Links, stop: &AtomicBool) -> Option<Seen> {
    match resolve(folder, path, links) {
        Err(ReadError::Leaves { .. }) => look_at_link(path),
        _ => look(path, || stop.load(Ordering::Relaxed)),
    }
}

impl Survey {
    fn look_into(
        &mut self,
        watch: &mut Watch,
        index: &mut Option<PathIndex>,
        state: &StateFolder,
        stop: &AtomicBool,
    ) -> Result<Option<FolderChanges>, String> {
        let folder = watch.folder.clone();
        if !watch.is_due(self.restless, || self.any_mended(&folder, stop))? {
            return Ok(None);
        }
        let go_on = || match stop.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        };
        let unread = |error: io::Error| format!("{}: {error}", state.catalogue_file().display());
        let index = match index {
            Some(index) => index,
            None => index.insert(PathIndex::new(&self.catalogue, go_on).map_err(unread)?),
        };
        let mut found = self.read(watch, index, state, stop)?;
        // At the start torrent files need not be compared with their marks.
        let closely = watch.was_read();
        let describes = |root: &Path| state.described().holds_real(root);
        let missing = index.missing(&self.catalogue, describes, &watch.folder, closely, go_on);
        found.missing = missing.map_err(unread)?;
        Ok(Some(found))
    }

    /// Whether a file in this folder that could not be used has changed since.
    fn any_mended(&self, folder: &Path, stop: &AtomicBool) -> bool {
        self.items.iter().any(|known| {
            let bad = known.bad.filter(|_| known.path.parent() == Some(folder));
            bad.is_some_and(|bad| {
                see(folder, &known.path, self.links, stop).is_some_and(|(mark, _)| mark != bad)
            })
        })
    }

    /// Reads a folder. New paths are reported some at a time.
    fn read(
        &mut self,
        watch: &mut Watch,
        index: &mut PathIndex,
        state: &StateFolder,
        stop: &AtomicBool,
    ) -> Result<FolderChanges, String> {
        let folder = watch.folder.clone();
        let of_it = |known: &&KnownPath| known.path.parent() == Some(&folder);
        let items: Vec<&KnownPath> = self.items.iter().filter(of_it).collect();
        let paths: HashSet<&Path> = items.iter().map(|known| known.path.as_path()).collect();
        let mut there: HashSet<PathBuf> = HashSet::new();
        let (mut torrents, mut others) = (Vec::new(), Vec::new());
        let (room, room_for_others) = self.room;
        let mut more_torrents = false;
        let mut found = FolderChanges::default();
        watch.read(|path| {
            let asleep = index.see(&path);
            if paths.contains(path.as_path()) {
                there.insert(path);
            } else if asleep || index.is_content(&path) {
            } else if is_torrent(&path) || is_link(&path) && self.downloads {
                match torrents.len() < room {
                    true => torrents.push(path),
                    false => more_torrents = true,
                }
            } else if is_link(&path) {
                // A file of this kind is not content to share either.
                static SAID: Once = Once::new();
                let shown = path.display();
                SAID.call_once(|| {
                    log::warn!(
                        "{shown}: magnet links in watched folders are left alone, as nothing is downloaded there: \
                         download = true would do it; this is said once"
                    );
                });
            } else if state.described().holds(&path) {
                if self.roots.binary_search(&path).is_err() {
                    found.left_out += 1;
                    found.example = found.example.take().or(Some(path));
                }
            } else if others.len() < room_for_others {
                others.push(path);
            } else {
                found.more = true;
            }
            match stop.load(Ordering::Relaxed) {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => Ok(()),
            }
        })?;
        watch.has_more_torrents = more_torrents;
        found.more |= more_torrents;
        for known in items {
            if !there.contains(&known.path) {
                if is_torrent(&known.path) {
                    kept::forget(state, &known.path);
                }
                found.gone.push(known.path.clone());
            } else if known.looks {
                let seen = see(&folder, &known.path, self.links, stop);
                found.seen.push((known.path.clone(), seen));
            }
        }
        self.room = (room - torrents.len(), room_for_others - others.len());
        torrents.append(&mut others);
        torrents.sort();
        let links = self.links;
        let new = torrents.into_iter().map(|path| {
            let seen = see(&folder, &path, links, stop);
            (path, seen)
        });
        found.new = new.collect();
        Ok(found)
    }
}

/// Stack of the thread in bytes.
const STACK: usize = 256 * 1024;
