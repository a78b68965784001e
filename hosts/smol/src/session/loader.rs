//! Opens and makes torrents for a service beside the thread that serves, as hashing a disk takes hours.
//!
//! There is a thread for each [`Lane`], so that what is only opened waits for no disk to be hashed and for no
//! server to answer, and what somebody asked for who wants to be served comes first. What is hashed is interleaved:
//! in the middle of something long what is shorter than its rest is made. A thread ends when there is nothing left to do.

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
use crate::storage::catalogue::Mark;
use crate::storage::mount_guard::{MountId, MountState};
use crate::storage::state::StateFolder;

/// What is to be opened.
#[derive(Debug)]
pub(super) struct LoadRequest {
    /// Given back with the outcome.
    pub(super) ticket: u64,
    pub(super) item: Item,
    /// The watched folder that it is in.
    pub(super) folder: Option<PathBuf>,
    /// Which links are followed.
    pub(super) links: Links,
    /// Whether it is opened this once: what cannot be begun is told, and nothing is waited for.
    pub(super) once: bool,
    /// Whether servers are not asked: what is not here is [`Trouble::Unknown`].
    pub(super) offline: bool,
    /// Whether to open it only if it was seeded before and has not changed.
    pub(super) known: bool,
    /// Whether the owner named it, and it is not just something in a watched folder.
    pub(super) asked: bool,
    /// How it must look, if it was asleep: otherwise it is something else now.
    pub(super) mark: Option<Mark>,
    /// The torrent that it is seeded as, if it was written over meanwhile.
    pub(super) running: Option<InfoHash>,
    /// How it looked when it could not be used: if it is the same still it is not read again.
    pub(super) bad: Option<Mark>,
    /// For torrents that are made.
    pub(super) make: Options,
    pub(super) own_tracker: String,
    /// For what is fetched.
    pub(super) way: Way,
}

impl LoadRequest {
    /// For something that is looked after, as it is now.
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

    /// Whether it is asleep and somebody wants to be served.
    fn is_wake_up(&self) -> bool {
        self.mark.is_some()
    }
}

/// What became of it.
pub(super) struct Loaded {
    pub(super) ticket: u64,
    /// What the built-in tracker was when it was asked for.
    pub(super) own_tracker: String,
    /// How many descriptions had been added in this run when it was begun.
    pub(super) described: u64,
    /// Whether it is a torrent file of which nobody knows what it describes.
    pub(super) in_doubt: bool,
    /// How it looked, if it is [`Trouble::Bad`].
    pub(super) bad: Option<Mark>,
    /// If it was written over and is the same torrent still.
    pub(super) renewed: Option<Renewed>,
    /// `None` if only what is known was asked for, and it is not, or it is `renewed`.
    pub(super) outcome: Option<LoadOutcome>,
}

pub(super) type LoadOutcome = Result<(OpenedTorrent, Option<Download>), Trouble>;

/// The threads, as the session sees them and as they see it.
#[derive(Clone)]
pub(super) struct Loader {
    state: Arc<StateFolder>,
    alarm: Arc<Alarm>,
    notices: Notices,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    lanes: [Lane; LANES],
    loaded: VecDeque<Loaded>,
}

/// What is done in one after the other: what is only opened, what has to be fetched from a server, what is
/// hashed.
#[derive(Default)]
struct Lane {
    orders: VecDeque<Queued>,
    running: bool,
    /// How many of what it does wait in the middle for another.
    depth: usize,
}

struct Queued {
    order: LoadRequest,
    /// Bytes that are to be hashed for it, once that was looked at.
    total: Option<u64>,
}

/// How often it is looked whether something shorter waits.
const LOOK: Duration = Duration::from_millis(100);

/// How many wait at most in the middle, each for one that is shorter.
const DEEPEST: usize = 4;

const LANES: usize = 3;
const OPENED: usize = 0;
const FETCHED: usize = 1;
const HASHED: usize = 2;

impl Loader {
    pub(super) fn new(state: Arc<StateFolder>, alarm: Arc<Alarm>, notices: Notices) -> Loader {
        Loader {
            state,
            alarm,
            notices,
            shared: Arc::default(),
        }
    }

    /// Has something opened.
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
        if lane.running {
            return;
        }
        let theirs = self.clone();
        let work = move || theirs.work(at);
        let started = thread::Builder::new().name("load".into()).spawn(work);
        match started {
            Ok(_) => lane.running = true,
            // The next order tries again.
            Err(error) => log::error!("no thread to open torrents: {error}"),
        }
    }

    fn work(&self, at: usize) {
        loop {
            let order = {
                let lane = &mut lock(&self.shared).lanes[at];
                let Some(queued) = lane.orders.pop_front() else {
                    lane.running = false;
                    return;
                };
                queued.order
            };
            let Item { path, fetch, .. } = &order.item;
            if at == OPENED && !order.known && fetch.is_none() && !is_given(path) {
                // A folder of such a name, or what has to be made anew though it slept.
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

    /// Whether what slept can be opened without being hashed, or needs not be opened at all.
    fn is_still_known(&self, order: &LoadRequest) -> bool {
        let path = &order.item.path;
        order.mark != settle_mark(path, || false)
            || is_there(&order.item, &self.state).is_err()
            || opener(self, order, None).known(path).is_some()
    }

    /// In the middle of something of which so many bytes are left to be hashed: makes what is shorter and waits,
    /// if that is due. Then the former goes on for an eighth of the time that took at least.
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

    /// The shortest that waits to be hashed, if it is shorter than `left`.
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
            // The lock is not held while a disk is looked at.
            let (ticket, path, options) = unknown;
            let total = make::total(&path, &options).unwrap_or(u64::MAX);
            let lane = &mut lock(&self.shared).lanes[HASHED];
            let known = lane.orders.iter_mut().find(|q| q.order.ticket == ticket);
            if let Some(queued) = known {
                queued.total = Some(total);
            }
        }
    }

    /// Opens something at once.
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
            // What was said about it holds.
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
            bad: bad.filter(|_| matches!(outcome, Some(Err(Trouble::Bad(_))))),
            own_tracker: order.own_tracker,
            renewed,
            outcome,
        }
    }
}

/// Whether nobody knows what a torrent file describes, though everything was done to find out.
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

/// What a torrent file that is seeded says now, unless it is of another torrent.
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

/// A folder of very many files is looked at here and not beside those who are served.
fn looked_at(mut source: OpenedTorrent) -> OpenedTorrent {
    source.found = check::fingerprint(&source.content).ok();
    source
}

fn open_any(loader: &Loader, order: &LoadRequest) -> LoadOutcome {
    let Item { path, fetch, .. } = &order.item;
    if let Some(before) = order.mark {
        let now = settle_mark(path, || false);
        // What a torrent file is now is heeded when it stays so.
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
    // Where it is a copy of something that is somewhere.
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
            let begun = begin_download(&loader.state, &source.content, fetch);
            Some(begun.map_err(|(text, code)| Trouble::Refused(text, code))?)
        }
        Some(fetch) => {
            let mut fetch = (**fetch).clone();
            if let Some(link) = &link {
                let shown = path.display();
                let heeded = fetch.heed(link);
                heeded.map_err(|error| Trouble::Bad(format!("{shown}: {error}")))?;
            }
            let mut plan =
                fetch::plan(&loader.state, &source.content, &fetch).map_err(|(text, _)| text)?;
            // It may be a disk that is not mounted.
            plan.make_out = false;
            Some(plan)
        }
        None => None,
    };
    Ok((source, download))
}

/// The magnet link in a file, which holds that and no more.
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

/// The longest magnet link in a file, in bytes.
const LINK_MAX: u64 = 64 * 1024;

/// A local file that cannot be used stays so until it is changed; a server may answer otherwise another time.
fn refused(order: &LoadRequest, (text, code): fetch::Refusal) -> Trouble {
    if order.once {
        return Trouble::Refused(text, code);
    }
    match order.item.path.is_absolute() && fetch::is_of_the_file(code) {
        true => Trouble::Bad(text),
        false => Trouble::Failed(text),
    }
}

/// What a download does before anything is asked for, where nobody waits for anything.
fn begin_download(
    state: &StateFolder,
    content: &Content,
    fetch: &Fetch,
) -> Result<Download, fetch::Refusal> {
    let mut plan = fetch::plan(state, content, fetch)?;
    let root = content.root();
    let before = state.place(content.metainfo().info_hash, &root);
    // A disk that is not mounted is waited for; any other trouble is better told at once.
    if let MountState::There(_) = MountId::look(&root, before.as_ref())
        && check::is_nothing_there(content)
    {
        let nothing = vec![0; content.geometry().bitfield_len() as usize];
        fetch::prepare(content, &mut plan, nothing, false).map_err(|error| {
            let code = if error.is_no_space() { DISK_FULL } else { 1 };
            (error.to_string(), code)
        })?;
    }
    Ok(plan)
}

/// Whether what is to be opened can be looked for, as the disks that it needs are there.
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
