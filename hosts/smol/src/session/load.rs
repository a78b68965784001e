//! Opening of one item, on a thread of the loader.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use everseed_core::hash::InfoHash;
use everseed_core::metainfo::Metainfo;
use everseed_disk::make::Options;
use everseed_disk::{Content, Links, check, identify_torrent, read_regular, resolve};

use super::download::{self, Download};
use super::fetch::{self, DISK_FULL};
use super::index::{is_link, is_torrent};
use super::notice::Notices;
use super::opener::{OpenedTorrent, Renewed, TorrentOpener};
use super::trouble::Trouble;
use super::watch::settle_mark;
use crate::net::way::Way;
use crate::options::get::Fetch;
use crate::options::run::Item;
use crate::options::seed::SeedArgs;
use crate::storage::dormant::Mark;
use crate::storage::mount_guard::{MountId, MountState};
use crate::storage::state::StateFolder;
use crate::storage::worker::fingerprint;

/// The number of a request to the loader, which comes back with the result.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Ticket(u64);

impl Ticket {
    /// The ticket after this one.
    pub(super) fn next(self) -> Ticket {
        Ticket(self.0 + 1)
    }
}

/// A request to open an item.
#[derive(Debug)]
pub(super) struct LoadRequest {
    pub(super) item: Item,
    /// The watched folder in which it was found; `None` if its owner named it.
    pub(super) folder: Option<PathBuf>,
    pub(super) purpose: Purpose,
    pub(super) settings: LoadSettings,
}

/// Why an item is opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To be seeded at once if it was seeded before and has not changed; otherwise it is not opened.
    Probe,
    /// To be seeded. With the mark `bad` it could not be used, and is not read again.
    Seed { bad: Option<Mark> },
    /// For a command that ends with it: a failure is returned, and nothing is waited for. If `offline`, servers are not
    /// asked, and what is not here is [`Trouble::Unknown`].
    Once { offline: bool },
    /// To be woken: somebody waits for it. It must have this mark, or it has changed.
    Wake(Mark),
    /// It is seeded as this torrent, and was overwritten: its new contents are read.
    Renew(InfoHash),
}

/// The session's settings at the time of a request.
#[derive(Debug)]
pub(super) struct LoadSettings {
    /// Which links are followed.
    links: Links,
    /// Options of torrents that are made.
    pub(super) make: Options,
    pub(super) own_tracker: String,
    /// The way of calls to servers.
    way: Way,
}

impl LoadSettings {
    pub(super) fn new(args: &SeedArgs, own_tracker: &str, way: &Way) -> LoadSettings {
        LoadSettings {
            links: args.links,
            make: args.make.clone(),
            own_tracker: own_tracker.to_owned(),
            way: way.clone(),
        }
    }
}

impl LoadRequest {
    /// Whether it sleeps and a peer waits for it.
    pub(super) fn is_wake_up(&self) -> bool {
        matches!(self.purpose, Purpose::Wake(_))
    }

    /// Whether only a torrent that is known is asked for.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self.purpose, Purpose::Probe)
    }

    fn is_once(&self) -> bool {
        matches!(self.purpose, Purpose::Once { .. })
    }
}

/// The result of a request.
pub(super) enum LoadResult {
    /// Only a known torrent was asked for, and it is not known.
    NotKnown,
    /// The file was overwritten with the same torrent.
    Renewed(Renewed),
    Opened(LoadOutcome),
}

pub(super) type LoadOutcome = Result<(OpenedTorrent, Option<Box<Download>>), Trouble>;

/// What it takes to open an item.
pub(super) struct LoadContext<'a> {
    pub(super) state: &'a StateFolder,
    pub(super) notices: &'a Notices,
    /// Held while a download begins. The same torrent may be named twice, and its files are made once.
    pub(super) begins: &'a Mutex<()>,
    /// Called in the middle of hashing, with the bytes still to hash and the next time at which something is due.
    pub(super) between: &'a dyn Fn(u64, &Cell<Instant>),
}

/// Whether the content of a torrent file is unknown, although everything was done to find out.
pub(super) fn is_in_doubt(
    loading: &LoadContext<'_>,
    request: &LoadRequest,
    result: &LoadResult,
) -> bool {
    let path = &request.item.path;
    if !is_torrent(path) || !path.is_absolute() {
        return false;
    }
    match result {
        LoadResult::Renewed(_) | LoadResult::Opened(Ok(_)) => false,
        LoadResult::NotKnown => true,
        LoadResult::Opened(Err(_)) => match opener(loading, request, None).claim(path) {
            Ok(known) => !known,
            Err(error) => {
                log::error!("{error}");
                true
            }
        },
    }
}

pub(super) fn opener<'a>(
    loading: &'a LoadContext<'a>,
    request: &'a LoadRequest,
    original: Option<&'a Path>,
) -> TorrentOpener<'a> {
    TorrentOpener {
        state: loading.state,
        asked: request.folder.is_none(),
        original,
        data: match &request.item.fetch {
            Some(fetch) => Some(&fetch.out),
            None => request.item.data.as_deref(),
        },
        incomplete: (request.item.fetch.as_ref()).and_then(|fetch| fetch.incomplete.as_deref()),
        files: &request.item.files,
        within: request.folder.as_deref(),
        links: request.settings.links,
        make: &request.settings.make,
        own_tracker: &request.settings.own_tracker,
        notices: loading.notices,
        between: None,
    }
}

pub(super) fn load(
    loading: &LoadContext<'_>,
    request: &LoadRequest,
    now: Option<Mark>,
) -> LoadResult {
    match request.purpose {
        // The earlier message about it still holds.
        Purpose::Seed { bad } if bad.is_some() && bad == now => {
            return LoadResult::Opened(Err(Trouble::Bad(String::new())));
        }
        Purpose::Renew(running) => {
            match opener(loading, request, None).renewed(&request.item.path, running) {
                Ok(Some(renewed)) => return LoadResult::Renewed(renewed),
                // It is another torrent.
                Ok(None) => {}
                Err(trouble) => return LoadResult::Opened(Err(trouble)),
            }
        }
        _ => {}
    }
    if !request.is_once()
        && let Err(reason) = is_there(&request.item, loading.state)
    {
        return LoadResult::Opened(Err(Trouble::Away(reason)));
    }
    if !request.is_probe() {
        return LoadResult::Opened(open(loading, request));
    }
    match opener(loading, request, None).known(&request.item.path) {
        None => LoadResult::NotKnown,
        Some(opened) => LoadResult::Opened(opened.map(|opened| (looked_at(opened), None))),
    }
}

/// A folder of very many files is looked at here, not on the session's thread.
fn looked_at(mut source: OpenedTorrent) -> OpenedTorrent {
    source.found = fingerprint(&source.content).ok();
    source
}

pub(super) fn open(loading: &LoadContext<'_>, request: &LoadRequest) -> LoadOutcome {
    let Item { path, fetch, .. } = &request.item;
    if let Purpose::Wake(before) = request.purpose
        && let Some(opened) = as_before(loading, request, before)?
    {
        return Ok((looked_at(opened), None));
    }
    if let (Some(_), Some(folder)) = (fetch, &request.folder) {
        resolve(folder, path, request.settings.links).map_err(|error| error.to_string())?;
    }
    let link = match is_link(path) && path.is_absolute() {
        true => Some(read_link(path)?),
        false => None,
    };
    let kept = match fetch.is_some() || link.is_some() {
        true => Some(kept_copy(loading, request, link.as_deref())?),
        false => None,
    };
    // The original, if this is our copy of a file.
    let original = kept.as_ref().and(Some(path.as_path()));
    let original = original.filter(|path| path.is_absolute() || path.is_file());
    let original = original.map(std::path::absolute).and_then(Result::ok);
    let next = Cell::new(Instant::now());
    let between = |left| (loading.between)(left, &next);
    let mut opener = opener(loading, request, original.as_deref());
    if kept.is_some() {
        opener.within = None;
    }
    opener.between = Some(&between);
    let opened = opener.open(kept.as_ref().unwrap_or(path))?;
    let Some(fetch) = fetch else {
        let opened = match request.is_once() {
            true => opened,
            false => looked_at(opened),
        };
        return Ok((opened, None));
    };
    if request.is_once() {
        let one = loading.begins.lock();
        let begun = begin_download(loading.state, &opened.content, fetch);
        drop(one);
        let begun = begun.map_err(|(text, code)| Trouble::Refused(text, code))?;
        return Ok((opened, Some(Box::new(begun))));
    }
    let opened = looked_at(opened);
    let mut fetch = (**fetch).clone();
    if let Some(link) = &link {
        let shown = path.display();
        let heeded = fetch.take_link(link);
        heeded.map_err(|error| Trouble::Bad(format!("{shown}: {error}")))?;
    }
    let plan = download::plan(loading.state, &opened.content, &fetch);
    let mut plan = plan.map_err(|(text, _)| text)?;
    // The folder may belong to an unmounted disk.
    plan.make_out = false;
    Ok((opened, Some(Box::new(plan))))
}

/// Whether a sleeping item is as it was: `None` if so. A torrent file that changes just now is opened from its copy, and
/// loaded when it has settled.
fn as_before(
    loading: &LoadContext<'_>,
    request: &LoadRequest,
    before: Mark,
) -> Result<Option<OpenedTorrent>, Trouble> {
    let path = &request.item.path;
    let now = settle_mark(path, || false);
    if now == Some(before) {
        return Ok(None);
    }
    if is_torrent(path)
        && let Some(opened) = opener(loading, request, None).as_before(path)
    {
        return opened.map(Some);
    }
    let changed = format!("{}: it has changed", path.display());
    Err(match now {
        Some(_) => Trouble::Changed(changed),
        None => changed.into(),
    })
}

/// Our copy of a download's torrent file, which is made if need be; `link` is the magnet link in the item's file.
fn kept_copy(
    loading: &LoadContext<'_>,
    request: &LoadRequest,
    link: Option<&str>,
) -> Result<PathBuf, Trouble> {
    let given = link.map_or(request.item.path.as_path(), Path::new);
    let is_offline = matches!(request.purpose, Purpose::Once { offline: true });
    let kept = match is_offline && fetch::is_remote(given) {
        true => fetch::kept(loading.state, given),
        false => fetch::torrent(loading.state, given, &request.settings.way)
            .map_err(|refusal| refused(request, refusal))?,
    };
    kept.ok_or_else(|| Trouble::Unknown(given.to_string_lossy().into_owned()))
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
fn refused(request: &LoadRequest, (text, code): fetch::Refusal) -> Trouble {
    if request.is_once() {
        return Trouble::Refused(text, code);
    }
    match request.item.path.is_absolute() && fetch::is_of_the_file(code) {
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
    let read = || -> Option<Metainfo> { identify_torrent(path).ok() };
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
