//! The loader opens and makes torrents on threads of its own, because hashing a disk may take hours.
//!
//! Each [`Lane`] has threads of its own. So opening waits neither for hashing nor for a server, and a torrent that a
//! peer waits for comes first. Four servers are asked at a time, as each may take long to answer. Hashing is
//! interleaved: in the middle of a long item, an item shorter than the rest of it is made. A thread ends when nothing is
//! left to do.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use everseed_core::hash::InfoHash;
use everseed_core::metainfo::Metainfo;
use everseed_disk::make::{self, Options};
use everseed_disk::{Content, Links, check, read_regular, read_torrent, resolve};

use super::fetch::{self, DISK_FULL, Download};
use super::index::{is_link, is_torrent, names_torrent};
use super::item::LibraryItem;
use super::notice::Notices;
use super::opener::{OpenedTorrent, Renewed, TorrentOpener, is_given};
use super::torrents::Torrents;
use super::trouble::Trouble;
use super::watch::settle_mark;
use crate::alarm::Alarm;
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
    fn is_wake_up(&self) -> bool {
        self.mark.is_some()
    }
}

/// The outcome of a request.
pub(super) struct Loaded {
    pub(super) ticket: u64,
    /// The built-in tracker's URL at the time of the request.
    pub(super) own_tracker: String,
    /// The number of descriptions added in this run when it was begun.
    pub(super) described: u64,
    /// Whether it is a torrent file whose content could not be determined.
    pub(super) in_doubt: bool,
    /// The item's mark, if it is [`Trouble::Bad`].
    pub(super) bad: Option<Mark>,
    /// The mark of the magnet link's file as it was read.
    pub(super) link: Option<Mark>,
    /// The new contents, if the file was overwritten with the same torrent.
    pub(super) renewed: Option<Renewed>,
    /// `None` if only a known torrent was requested and it is not known, or if it is `renewed`.
    pub(super) outcome: Option<LoadOutcome>,
}

pub(super) type LoadOutcome = Result<(OpenedTorrent, Option<Download>), Trouble>;

/// The loader's threads, as the session and the threads themselves see them.
#[derive(Clone)]
pub(super) struct Loader {
    state: Arc<StateFolder>,
    alarm: Arc<Alarm>,
    notices: Notices,
    shared: Arc<Mutex<Shared>>,
    /// Held while a download begins. The same torrent may be named twice, and its files are made once.
    begins: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Shared {
    lanes: [Lane; LANES],
    loaded: VecDeque<Loaded>,
}

/// A lane: its requests are carried out one after the other. One lane opens, one fetches from servers, one hashes.
#[derive(Default)]
struct Lane {
    orders: VecDeque<Queued>,
    /// The number of its threads.
    running: usize,
    /// The number of interrupted requests that wait for a shorter one.
    depth: usize,
}

struct Queued {
    order: LoadRequest,
    /// Bytes to hash for it, once they were counted.
    total: Option<u64>,
}

/// The interval of looks for a shorter request.
const LOOK: Duration = Duration::from_millis(100);

/// The most interrupted requests, each waiting for a shorter one.
const DEEPEST: usize = 4;

const LANES: usize = 3;
const OPENED: usize = 0;
const FETCHED: usize = 1;
const HASHED: usize = 2;

/// The most threads of each lane.
const THREADS: [usize; LANES] = [1, 4, 1];

impl Loader {
    pub(super) fn new(state: Arc<StateFolder>, alarm: Arc<Alarm>, notices: Notices) -> Loader {
        Loader {
            state,
            alarm,
            notices,
            shared: Arc::default(),
            begins: Arc::default(),
        }
    }

    /// Queues a request.
    pub(super) fn ask(&self, order: LoadRequest) {
        let lane = match &order.item {
            _ if order.known || order.running.is_some() || order.is_wake_up() => OPENED,
            Item {
                fetch: Some(_),
                path,
                ..
            } if fetch::is_remote(path) => FETCHED,
            Item { fetch: Some(_), .. } => OPENED,
            Item { path, .. } if is_torrent(path) => OPENED,
            Item { path, .. } if is_link(path) => FETCHED,
            _ => HASHED,
        };
        self.queue(lane, order);
    }

    /// The next outcome, if there is one.
    pub(super) fn next(&self) -> Option<Loaded> {
        lock(&self.shared).loaded.pop_front()
    }

    fn queue(&self, at: usize, order: LoadRequest) {
        let lane = &mut lock(&self.shared).lanes[at];
        let first = at == OPENED && order.is_wake_up();
        let queued = Queued { order, total: None };
        match first {
            true => {
                let wake_ups = lane.orders.iter();
                let behind = wake_ups.take_while(|q| q.order.is_wake_up()).count();
                lane.orders.insert(behind, queued);
            }
            false => lane.orders.push_back(queued),
        }
        if lane.running >= THREADS[at] {
            return;
        }
        let theirs = self.clone();
        let work = move || theirs.work(at);
        let started = thread::Builder::new().name("load".into()).spawn(work);
        match started {
            Ok(_) => lane.running += 1,
            // The next request tries again.
            Err(error) => log::error!("no thread to open torrents: {error}"),
        }
    }

    fn work(&self, at: usize) {
        loop {
            let order = {
                let lane = &mut lock(&self.shared).lanes[at];
                let Some(queued) = lane.orders.pop_front() else {
                    lane.running -= 1;
                    return;
                };
                queued.order
            };
            let Item { path, fetch, .. } = &order.item;
            if at == OPENED && !order.known && fetch.is_none() && !is_given(path) {
                // A folder with the name of a torrent file, or a sleeping item that has to be made anew.
                if !order.is_wake_up() || !self.is_still_known(&order) {
                    self.queue(HASHED, order);
                    continue;
                }
            }
            self.carry_out(order);
        }
    }

    fn carry_out(&self, order: LoadRequest) {
        let loaded = self.load(order);
        lock(&self.shared).loaded.push_back(loaded);
        self.alarm.ring();
    }

    /// Whether a sleeping item can be opened without hashing, or need not be opened at all.
    fn is_still_known(&self, order: &LoadRequest) -> bool {
        let path = &order.item.path;
        order.mark != settle_mark(path, || false)
            || is_there(&order.item, &self.state).is_err()
            || opener(self, order, None).known(path).is_some()
    }

    /// Called in the middle of hashing, with `left` bytes still to hash: makes a shorter waiting item, if that is
    /// due. Afterwards the long one goes on for at least an eighth of the time that took.
    fn between(&self, left: u64, next: &Cell<Instant>) {
        let begin = Instant::now();
        if begin < next.get() {
            return;
        }
        next.set(begin + LOOK);
        let Some(order) = self.shorter(left) else {
            return;
        };
        self.carry_out(order);
        lock(&self.shared).lanes[HASHED].depth -= 1;
        let now = Instant::now();
        next.set(now + (now - begin) / 8);
    }

    /// The shortest item that waits to be hashed, if it is shorter than `left`.
    fn shorter(&self, left: u64) -> Option<LoadRequest> {
        loop {
            let unknown = {
                let mut shared = lock(&self.shared);
                let lane = &mut shared.lanes[HASHED];
                if lane.depth == DEEPEST {
                    return None;
                }
                let unknown = lane.orders.iter().find(|queued| queued.total.is_none());
                match unknown {
                    Some(queued) => {
                        let order = &queued.order;
                        (order.ticket, order.item.path.clone(), order.make.clone())
                    }
                    None => {
                        let totals = lane.orders.iter().enumerate();
                        let shortest = totals.min_by_key(|(_, queued)| queued.total)?;
                        let (at, Queued { total, .. }) = shortest;
                        if total.is_none_or(|total| total >= left) {
                            return None;
                        }
                        lane.depth += 1;
                        return lane.orders.remove(at).map(|queued| queued.order);
                    }
                }
            };
            // The lock is not held while a disk is read.
            let (ticket, path, options) = unknown;
            let total = make::total(&path, &options).unwrap_or(u64::MAX);
            let lane = &mut lock(&self.shared).lanes[HASHED];
            let known = lane.orders.iter_mut().find(|q| q.order.ticket == ticket);
            if let Some(queued) = known {
                queued.total = Some(total);
            }
        }
    }

    /// Opens an item at once.
    pub(super) fn open_now(&self, order: &LoadRequest) -> LoadOutcome {
        open_any(self, order)
    }

    fn load(&self, order: LoadRequest) -> Loaded {
        let state = &*self.state;
        let described = state.described().added();
        let path = &order.item.path;
        let bad = names_torrent(path)
            .then(|| settle_mark(path, || false))
            .flatten();
        let mut renewed = None;
        let outcome = match order.bad.is_some() && order.bad == bad {
            // The earlier message about it still holds.
            true => Some(Err(Trouble::Bad(String::new()))),
            false => match renew(self, &order) {
                Ok(None) => open(self, &order),
                Ok(same) => {
                    renewed = same;
                    None
                }
                Err(trouble) => Some(Err(trouble)),
            },
        };
        Loaded {
            ticket: order.ticket,
            described,
            in_doubt: is_in_doubt(self, &order, outcome.as_ref()),
            link: bad.filter(|_| is_link(path)),
            bad: bad.filter(|_| matches!(outcome, Some(Err(Trouble::Bad(_))))),
            own_tracker: order.own_tracker,
            renewed,
            outcome,
        }
    }
}

/// Whether the content of a torrent file is unknown, although everything was done to find out.
fn is_in_doubt(loader: &Loader, order: &LoadRequest, outcome: Option<&LoadOutcome>) -> bool {
    let path = &order.item.path;
    if !is_torrent(path) || !path.is_absolute() {
        return false;
    }
    match outcome {
        Some(Ok(_)) => false,
        None => true,
        Some(Err(_)) => match opener(loader, order, None).claim(path) {
            Ok(known) => !known,
            Err(error) => {
                log::error!("{error}");
                true
            }
        },
    }
}

fn opener<'a>(
    loader: &'a Loader,
    order: &'a LoadRequest,
    original: Option<&'a Path>,
) -> TorrentOpener<'a> {
    TorrentOpener {
        state: &loader.state,
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
        notices: &loader.notices,
        between: None,
    }
}

/// The present contents of a seeded torrent's file; `None` if it is another torrent.
fn renew(loader: &Loader, order: &LoadRequest) -> Result<Option<Renewed>, Trouble> {
    match order.running {
        Some(running) => opener(loader, order, None).renewed(&order.item.path, running),
        None => Ok(None),
    }
}

fn open(loader: &Loader, order: &LoadRequest) -> Option<LoadOutcome> {
    if !order.once
        && let Err(reason) = is_there(&order.item, &loader.state)
    {
        return Some(Err(Trouble::Away(reason)));
    }
    if !order.known {
        return Some(open_any(loader, order));
    }
    let source = opener(loader, order, None).known(&order.item.path)?;
    Some(source.map(|source| (looked_at(source), None)))
}

/// A folder of very many files is looked at here, not on the session's thread.
fn looked_at(mut source: OpenedTorrent) -> OpenedTorrent {
    source.found = check::fingerprint(&source.content).ok();
    source
}

fn open_any(loader: &Loader, order: &LoadRequest) -> LoadOutcome {
    let Item { path, fetch, .. } = &order.item;
    if let Some(before) = order.mark {
        let now = settle_mark(path, || false);
        // A torrent file that changes just now is loaded when it has settled.
        if now != Some(before)
            && is_torrent(path)
            && let Some(source) = opener(loader, order, None).as_before(path)
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
            Some(fetch::kept(&loader.state, given).ok_or_else(unknown)?)
        }
        true => {
            let kept = fetch::torrent(&loader.state, given, &order.way);
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
    let between = |left| loader.between(left, &next);
    let mut opener = opener(loader, order, original);
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
            let one = loader.begins.lock();
            let begun = begin_download(&loader.state, &source.content, fetch);
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
                fetch::plan(&loader.state, &source.content, &fetch).map_err(|(text, _)| text)?;
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
    let link = text.trim();
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
    let mut plan = fetch::plan(state, content, fetch)?;
    let root = content.root();
    let before = state.place(content.metainfo().info_hash, &root);
    // An unmounted disk is waited for; other trouble is better reported at once.
    if let MountState::There(_) = MountId::look(&root, before.as_ref())
        && check::is_nothing_there(content)
    {
        let nothing = vec![0; content.geometry().bitfield_len() as usize];
        fetch::prepare(content, &mut plan, nothing, true, false).map_err(|error| {
            let code = if error.is_no_space() { DISK_FULL } else { 1 };
            (error.to_string(), code)
        })?;
    }
    Ok(plan)
}

/// Whether the disks that an item needs are mounted, so that it can be looked for.
fn is_there(item: &Item, state: &StateFolder) -> Result<(), String> {
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

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
