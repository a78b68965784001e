//! Opening of one item, on a thread of the loader.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use everseed_core::hash::InfoHash;
use everseed_core::metainfo::Metainfo;
use everseed_disk::make::Options;
use everseed_disk::{Content, Links, check, read_regular, read_torrent, resolve};

use super::download::{self, Download};
use super::fetch::{self, DISK_FULL};
use super::index::{is_link, is_torrent};
use super::item::LibraryItem;
use super::notice::Notices;
use super::opener::{OpenedTorrent, Renewed, TorrentOpener};
use super::torrents::Torrents;
use super::trouble::Trouble;
use super::watch::settle_mark;
use crate::net::engine::Engine;
use crate::net::way::Way;
use crate::options::get::Fetch;
use crate::options::run::{Config, Item};
use crate::storage::dormant::Mark;
use crate::storage::mount_guard::{MountId, MountState};
use crate::storage::state::StateFolder;

/// A request to open an item.
#[derive(Debug)]
pub(super) struct LoadRequest {
    /// The ticket that comes back with the outcome.
    pub(super) ticket: u64,
    pub(super) item: Item,
    /// The watched folder in which it was found.
    pub(super) folder: Option<PathBuf>,
    /// Which links are followed.
    pub(super) links: Links,
    /// Whether it is opened only once: a failure is returned, and nothing is waited for.
    pub(super) once: bool,
    /// Whether servers are not asked. What is not here is then [`Trouble::Unknown`].
    pub(super) offline: bool,
    /// Whether to open it only if it was seeded before and has not changed.
    pub(super) known: bool,
    /// Whether the owner named it; otherwise it was found in a watched folder.
    pub(super) asked: bool,
    /// The mark that it must have, if it was asleep. Otherwise it has changed.
    pub(super) mark: Option<Mark>,
    /// The torrent that is seeded, if its file was overwritten.
    pub(super) running: Option<InfoHash>,
    /// The mark with which it could not be used. With the same mark it is not read again.
    pub(super) bad: Option<Mark>,
    /// Options of torrents that are made.
    pub(super) make: Options,
    pub(super) own_tracker: String,
    /// The way of calls to servers.
    pub(super) way: Way,
}

impl LoadRequest {
    /// The request for an item in its present state.
    pub(super) fn new(
        ticket: u64,
        managed: &LibraryItem,
        config: &Config,
        torrents: &Torrents,
        engine: &Engine,
    ) -> LoadRequest {
        LoadRequest {
            ticket,
            item: managed.item.clone(),
            folder: managed.folder.clone(),
            links: config.seed.links,
            once: false,
            offline: false,
            known: false,
            asked: managed.folder.is_none(),
            mark: None,
            running: None,
            bad: None,
            make: config.seed.make.clone(),
            own_tracker: torrents.reach.own_tracker.clone(),
            way: engine.way_out.clone(),
        }
    }

    /// Whether it is asleep and a peer waits for it.
    pub(super) fn is_wake_up(&self) -> bool {
        self.mark.is_some()
    }
}

pub(super) type LoadOutcome = Result<(OpenedTorrent, Option<Download>), Trouble>;

/// What it takes to open an item.
pub(super) struct Loading<'a> {
    pub(super) state: &'a StateFolder,
    pub(super) notices: &'a Notices,
    /// Held while a download begins. The same torrent may be named twice, and its files are made once.
    pub(super) begins: &'a Mutex<()>,
    /// Called in the middle of hashing, with the bytes still to hash and the next time at which something is due.
    pub(super) between: &'a dyn Fn(u64, &Cell<Instant>),
}

/// Whether the content of a torrent file is unknown, although everything was done to find out.
pub(super) fn is_in_doubt(
    loading: &Loading<'_>,
    order: &LoadRequest,
    outcome: Option<&LoadOutcome>,
) -> bool {
    let path = &order.item.path;
    if !is_torrent(path) || !path.is_absolute() {
        return false;
    }
    match outcome {
        Some(Ok(_)) => false,
        None => true,
        Some(Err(_)) => match opener(loading, order, None).claim(path) {
            Ok(known) => !known,
            Err(error) => {
                log::error!("{error}");
                true
            }
        },
    }
}

pub(super) fn opener<'a>(
    loading: &'a Loading<'a>,
    order: &'a LoadRequest,
    original: Option<&'a Path>,
) -> TorrentOpener<'a> {
    TorrentOpener {
        state: loading.state,
        asked: order.asked,
        original,
        data: match &order.item.fetch {
            Some(fetch) => Some(&fetch.out),
            None => order.item.data.as_deref(),
        },
        incomplete: (order.item.fetch.as_ref()).and_then(|fetch| fetch.incomplete.as_deref()),
        files: &order.item.files,
        within: order.folder.as_deref(),
        links: order.links,
        make: &order.make,
        own_tracker: &order.own_tracker,
        notices: loading.notices,
        between: None,
    }
}

/// The present contents of a seeded torrent's file; `None` if it is another torrent.
pub(super) fn renew(
    loading: &Loading<'_>,
    order: &LoadRequest,
) -> Result<Option<Renewed>, Trouble> {
    match order.running {
        Some(running) => opener(loading, order, None).renewed(&order.item.path, running),
        None => Ok(None),
    }
}

pub(super) fn open(loading: &Loading<'_>, order: &LoadRequest) -> Option<LoadOutcome> {
    if !order.once
        && let Err(reason) = is_there(&order.item, loading.state)
    {
        return Some(Err(Trouble::Away(reason)));
    }
    if !order.known {
        return Some(open_any(loading, order));
    }
    let source = opener(loading, order, None).known(&order.item.path)?;
    Some(source.map(|source| (looked_at(source), None)))
}

/// A folder of very many files is looked at here, not on the session's thread.
fn looked_at(mut source: OpenedTorrent) -> OpenedTorrent {
    source.found = check::fingerprint(&source.content).ok();
    source
}

pub(super) fn open_any(loading: &Loading<'_>, order: &LoadRequest) -> LoadOutcome {
    let Item { path, fetch, .. } = &order.item;
    if let Some(before) = order.mark {
        let now = settle_mark(path, || false);
        // A torrent file that changes just now is loaded when it has settled.
        if now != Some(before)
            && is_torrent(path)
            && let Some(source) = opener(loading, order, None).as_before(path)
        {
            return Ok((looked_at(source?), None));
        }
        let changed = format!("{}: it has changed", path.display());
        match now {
            Some(mark) if mark == before => {}
            Some(_) => return Err(Trouble::Changed(changed)),
            None => return Err(changed.into()),
        }
    }
    if let (Some(_), Some(folder)) = (fetch, &order.folder) {
        resolve(folder, path, order.links).map_err(|error| error.to_string())?;
    }
    let link = match is_link(path) && path.is_absolute() {
        true => Some(read_link(path)?),
        false => None,
    };
    let given = link.as_ref().map_or(path.as_path(), Path::new);
    let kept = match fetch.is_some() || link.is_some() {
        true if order.offline && fetch::is_remote(given) => {
            let unknown = || Trouble::Unknown(given.to_string_lossy().into_owned());
            Some(fetch::kept(loading.state, given).ok_or_else(unknown)?)
        }
        true => {
            let kept = fetch::torrent(loading.state, given, &order.way);
            let kept = kept.map_err(|refusal| refused(order, refusal))?;
            let unknown = || Trouble::Unknown(given.to_string_lossy().into_owned());
            Some(kept.ok_or_else(unknown)?)
        }
        false => None,
    };
    // The original, if this is our copy of a file.
    let original = kept.as_ref().and(Some(path.as_path()));
    let original = original.filter(|path| path.is_absolute() || path.is_file());
    let original = original.map(std::path::absolute).and_then(Result::ok);
    let original = original.as_deref();
    let next = Cell::new(Instant::now());
    let between = |left| (loading.between)(left, &next);
    let mut opener = opener(loading, order, original);
    if kept.is_some() {
        opener.within = None;
    }
    opener.between = Some(&between);
    let mut source = opener.open(kept.as_ref().unwrap_or(path))?;
    if !order.once {
        source = looked_at(source);
    }
    let download = match fetch {
        Some(fetch) if order.once => {
            let one = loading.begins.lock();
            let begun = begin_download(loading.state, &source.content, fetch);
            drop(one);
            Some(begun.map_err(|(text, code)| Trouble::Refused(text, code))?)
        }
        Some(fetch) => {
            let mut fetch = (**fetch).clone();
            if let Some(link) = &link {
                let shown = path.display();
                let heeded = fetch.take_link(link);
                heeded.map_err(|error| Trouble::Bad(format!("{shown}: {error}")))?;
            }
            let mut plan =
                download::plan(loading.state, &source.content, &fetch).map_err(|(text, _)| text)?;
            // The folder may belong to an unmounted disk.
            plan.make_out = false;
            Some(plan)
        }
        None => None,
    };
    Ok((source, download))
}

/// The magnet link in a file that holds only that.
fn read_link(path: &Path) -> Result<String, Trouble> {
    let shown = path.display();
    let bytes = read_regular(path, LINK_MAX).map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    // Some editors begin every file with a byte order mark.
    let link = text.trim_start_matches('\u{feff}').trim();
    match fetch::is_magnet(link) && !link.contains(char::is_whitespace) {
        true => Ok(link.to_owned()),
        false => Err(Trouble::Bad(format!(
            "{shown}: that is not one magnet link; write magnet:?xt=urn:btih:… and nothing else into it"
        ))),
    }
}

/// The longest file with a magnet link, in bytes.
const LINK_MAX: u64 = 64 * 1024;

/// A local file that cannot be used stays so until it is changed; a server may answer differently another time.
fn refused(order: &LoadRequest, (text, code): fetch::Refusal) -> Trouble {
    if order.once {
        return Trouble::Refused(text, code);
    }
    match order.item.path.is_absolute() && fetch::is_of_the_file(code) {
        true => Trouble::Bad(text),
        false => Trouble::Failed(text),
    }
}

/// The beginning of a download, done here because it may wait for a disk.
fn begin_download(
    state: &StateFolder,
    content: &Content,
    fetch: &Fetch,
) -> Result<Download, fetch::Refusal> {
    let mut plan = download::plan(state, content, fetch)?;
    let root = content.root();
    let before = state.place(content.metainfo().info_hash, &root);
    // An unmounted disk is waited for; other trouble is better reported at once.
    if let MountState::There(_) = MountId::look(&root, before.as_ref())
        && check::is_nothing_there(content)
    {
        let nothing = vec![0; content.geometry().bitfield_len() as usize];
        download::prepare(content, &mut plan, nothing, true, false).map_err(|error| {
            let code = if error.is_no_space() { DISK_FULL } else { 1 };
            (error.to_string(), code)
        })?;
    }
    Ok(plan)
}

/// Whether the disks that an item needs are mounted, so that it can be looked for.
pub(super) fn is_there(item: &Item, state: &StateFolder) -> Result<(), String> {
    let path = &item.path;
    let remote = item.fetch.is_some() && !path.is_absolute();
    let data = match &item.fetch {
        Some(fetch) => Some(&fetch.out),
        None => item.data.as_ref(),
    };
    let apart = (item.fetch.as_ref()).and_then(|fetch| fetch.incomplete.as_ref());
    let read = || -> Option<Metainfo> { read_torrent(path).ok() };
    let metainfo = match is_torrent(path) && !remote {
        true => read(),
        false => None,
    };
    let lay = |at: Option<&PathBuf>| {
        metainfo
            .as_ref()
            .and_then(|m| state.place(m.info_hash, at?))
    };
    let (before, apart_before) = (lay(data), lay(apart));
    let here = (!remote).then_some(path);
    for (place, before) in here
        .map(|place| (place, None))
        .into_iter()
        .chain(data.map(|place| (place, before.as_ref())))
        .chain(apart.map(|place| (place, apart_before.as_ref())))
    {
        let shown = place.display();
        match MountId::look(place, before) {
            MountState::There(_) => {}
            MountState::NotMounted(mount) => {
                return Err(format!("{shown}: {} is not mounted", mount.display()));
            }
            MountState::Another(mount) => {
                return Err(format!(
                    "{shown}: another disk is mounted at {}",
                    mount.display()
                ));
            }
        }
    }
    let folders = data.into_iter().chain(apart);
    match folders.into_iter().find(|folder| !folder.exists()) {
        Some(folder) => Err(format!(
            "{}: it is not there, and not made, as it may be on a disk that is not mounted",
            folder.display()
        )),
        None => Ok(()),
    }
}
