//! What `everseed run` adds to seeding: torrents come and go while it runs, the configuration is read
//! anew, and the network may be late, leave or change.
//!
//! Invariant: something is stopped only when its place was looked at and it was not in it; a folder
//! that is away takes nothing with it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use everseed_core::geometry::Geometry;
use everseed_core::metainfo::Metainfo;
use everseed_disk::read_torrent;
use log::Level;

use super::fetch::Download;
use super::loader::{Loaded, Loader, Order};
use super::sources::Source;
use super::status::Status;
use super::torrents::Seeded;
use super::watch::{Mark, Watch, settle_mark};
use super::{Seed, introduce_one, plan, tracker_at};
use crate::address::{outgoing, reachable};
use crate::cli::Failure;
use crate::cli::run::{Config, Item, RunArgs};
use crate::cli::text::{Output, is_live};
use crate::engine::Engine;
use crate::memory::Plan;
use crate::notify::notify;
use crate::place::{Found, Place};
use crate::socket;
use crate::state::State;

/// The service's own part.
pub(super) struct Service {
    args: RunArgs,
    config: Config,
    items: Vec<Managed>,
    watches: Vec<Watch>,
    loader: Loader,
    next_ticket: u64,
    next_poll: Instant,
    /// Addresses on which it could not listen yet, and why.
    unheard: Vec<(SocketAddr, String)>,
    listening: usize,
    network: Network,
}

/// Something that is seeded, or is to be.
struct Managed {
    item: Item,
    /// The watched folder that it is in.
    folder: Option<PathBuf>,
    /// How it looked when it was opened or looked at last.
    mark: Option<Mark>,
    /// What was said about it last.
    said: String,
    stage: Stage,
}

/// How far it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// It may still be written.
    Settling,
    /// It can be opened.
    Ready,
    /// The loader has it.
    Loading(u64),
    /// It is the torrent of this number.
    Running(usize),
    /// It cannot be opened for the reason that was said.
    Waiting(Instant),
    /// It was downloaded and seeded enough.
    Done,
}

/// Starts the service: listens, says that it is ready, and has yet to open its torrents.
pub(super) fn open(args: &RunArgs, config: Config) -> Result<Seed, Failure> {
    let state = State::open_lasting(&config.seed.state, config.state_in_ram);
    let state = state.map_err(|error| Failure::Failed(error.to_string()))?;
    let mut listeners = Vec::new();
    let mut unheard = Vec::new();
    for &addr in &config.seed.listen {
        match socket::listen(addr) {
            Ok(listener) => listeners.push(listener),
            Err(error) => unheard.push((addr, error)),
        }
    }
    let locals: Vec<SocketAddr> = listeners.iter().flat_map(|l| l.local_addr().ok()).collect();
    let first = locals.first().copied().unwrap_or(config.seed.listen[0]);
    let mut room = plan(&config.seed);
    make_room(&mut room, &config);
    let own_tracker = tracker_at(reachable(first));
    let seed = Seed::new(
        &config.seed,
        state,
        own_tracker,
        first.port(),
        room,
        config.down,
    );
    let mut seed = seed.map_err(Failure::Failed)?;
    for listener in listeners {
        let listening = seed.engine.borrow_mut().listen(listener);
        listening.map_err(|error| Failure::Failed(error.to_string()))?;
    }
    let reload = seed.signals.take_reload();
    reload.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let mut service = Service {
        args: args.clone(),
        items: Vec::new(),
        watches: config.watch.iter().cloned().map(Watch::new).collect(),
        loader: Loader::new(seed.state.clone(), seed.alarm.clone()),
        next_ticket: 0,
        next_poll: Instant::now(),
        unheard: Vec::new(),
        listening: locals.len(),
        network: Network::new(),
        config,
    };
    service.name_items();
    let mut out = Output::new();
    for local in &locals {
        out.line(format_args!("listening: {local}"));
    }
    let _ = out.finish();
    for (addr, error) in unheard {
        // A machine without IPv6 is no trouble unless IPv6 was asked for.
        let taken = error.kind() == std::io::ErrorKind::AddrInUse;
        if service.config.seed.listen_default && !taken && addr.is_ipv6() {
            log::info!("cannot listen on {addr}: {error}");
            continue;
        }
        service.unheard.push((addr, String::new()));
        service.say_unheard(addr, &error.to_string());
    }
    seed.farewell = FAREWELL;
    if !is_live(&std::io::stdout()) {
        // Numbers every ten seconds are no news for a log.
        seed.status = Status::new(true);
    }
    seed.service = Some(service);
    notify("READY=1");
    Ok(seed)
}

/// Starts this program anew in its own place, with what it was started with. Returns if that fails.
pub(super) fn start_again() -> Failure {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    // A binary that was replaced meanwhile is at its former path; one that was removed runs on.
    let shown = program.to_string_lossy().into_owned();
    let program = match shown.strip_suffix(" (deleted)") {
        Some(path) if Path::new(path).is_file() => PathBuf::from(path),
        Some(_) => PathBuf::from("/proc/self/exe"),
        None => program,
    };
    let error = Command::new(&program).arg0(name).args(args).exec();
    Failure::Failed(format!("{}: {error}", program.display()))
}

/// Memory for torrents that are not known yet.
fn make_room(room: &mut Plan, config: &Config) {
    let torrents = usize::from(config.torrents);
    room.torrents += torrents;
    room.tiers += TIERS * torrents;
    room.bits += BITS * torrents;
    let downloads = config.download.is_some() || config.items.iter().any(|i| i.fetch.is_some());
    let most = Geometry::new(u64::from(PIECES) * LONG_PIECE, LONG_PIECE);
    if downloads && let Ok(most) = most {
        room.add_download(&most);
    }
}

impl Service {
    /// Looks after everything; called once a turn.
    pub(super) fn mind(&mut self, seed: &mut Seed, engine: &mut Engine) {
        if seed.signals.reloads() {
            self.reload(seed, engine);
        }
        while let Some(loaded) = self.loader.next() {
            self.loaded(seed, engine, loaded);
        }
        self.end_what_is_enough(seed, engine);
        let now = Instant::now();
        if now < self.next_poll {
            return;
        }
        self.next_poll = now + POLL;
        self.listen_again(engine);
        if self.network.has_changed(now) {
            self.reopen(seed, engine);
        }
        self.scan(seed, engine);
        self.begin(seed, now);
    }

    /// Adds what the configuration names one by one.
    fn name_items(&mut self) {
        for item in &self.config.items {
            if self.items.iter().any(|known| known.item == *item) {
                continue;
            }
            self.items.push(Managed {
                item: item.clone(),
                folder: None,
                mark: None,
                said: String::new(),
                stage: Stage::Ready,
            });
        }
    }

    fn reload(&mut self, seed: &mut Seed, engine: &mut Engine) {
        let config = match Config::read(&self.args) {
            Ok(config) => config,
            Err(error) => {
                return log::error!("{error}; it goes on with the configuration as it was");
            }
        };
        let same_but_items = Config {
            watch: self.config.watch.clone(),
            items: self.config.items.clone(),
            ..config.clone()
        };
        if same_but_items != self.config {
            log::warn!("the configuration has changed, so it starts anew with it");
            seed.again = true;
            return;
        }
        log::warn!("the configuration was read");
        self.config = config;
        let wanted = &self.config;
        let (kept, gone) = std::mem::take(&mut self.items)
            .into_iter()
            .partition(|managed| match &managed.folder {
                Some(folder) => wanted.watch.contains(folder),
                None => wanted.items.contains(&managed.item),
            });
        self.items = kept;
        for managed in gone {
            stop(seed, engine, &managed);
        }
        self.watches = self.config.watch.iter().cloned().map(Watch::new).collect();
        self.name_items();
        self.next_poll = Instant::now();
    }

    /// Takes in what appeared in the watched folders, and lets go of what is there no longer.
    fn scan(&mut self, seed: &mut Seed, engine: &mut Engine) {
        for watch in &mut self.watches {
            let of_it = |managed: &&Managed| managed.folder.as_ref() == Some(&watch.folder);
            let mut mine = self.items.iter().filter(of_it);
            let restless = mine.any(|managed| managed.stage == Stage::Settling);
            let folder = watch.folder.clone();
            let found = match watch.look(restless) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    if watch.said != error {
                        log::error!("{error}");
                        watch.said = error;
                    }
                    continue;
                }
            };
            watch.said.clear();
            let found_set: HashSet<&PathBuf> = found.iter().collect();
            let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.items)
                .into_iter()
                .partition(|managed| {
                    managed.folder.as_ref() != Some(&folder)
                        || found_set.contains(&managed.item.path)
                });
            self.items = kept;
            for managed in gone {
                stop(seed, engine, &managed);
            }
            for path in found {
                take_in(&mut self.items, &self.config, &folder, path, seed, engine);
            }
        }
    }

    /// Has the loader open what is ready.
    fn begin(&mut self, seed: &Seed, now: Instant) {
        let is_busy = |managed: &Managed| {
            let busy = matches!(
                managed.stage,
                Stage::Settling | Stage::Ready | Stage::Loading(_)
            );
            busy && is_torrent(&managed.item.path) && managed.folder.is_some()
        };
        // What a torrent describes is no torrent of its own.
        let torrents_come = self.items.iter().any(is_busy);
        for managed in &mut self.items {
            match managed.stage {
                Stage::Ready => {}
                Stage::Waiting(again) if again <= now => {}
                _ => continue,
            }
            let path = &managed.item.path;
            let watched = managed.folder.is_some() && !is_torrent(path);
            let real = |path: &Path| path.canonicalize().ok();
            let described = || {
                let mut roots = seed.torrents.iter().map(|t| t.content.root());
                roots.any(|root| real(&root) == real(path))
            };
            if watched && (torrents_come || described()) {
                continue;
            }
            if let Err(reason) = is_there(&managed.item, &seed.state) {
                wait(managed, reason, AWAY);
                continue;
            }
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            managed.stage = Stage::Loading(ticket);
            self.loader.ask(Order {
                ticket,
                item: managed.item.clone(),
                trackers: self.config.seed.trackers.clone(),
                own_tracker: seed.own_tracker.clone(),
            });
        }
    }

    fn loaded(&mut self, seed: &mut Seed, engine: &mut Engine, loaded: Loaded) {
        let Loaded { ticket, outcome } = loaded;
        let mine = |managed: &&mut Managed| managed.stage == Stage::Loading(ticket);
        // What was removed meanwhile is not begun.
        let Some(managed) = self.items.iter_mut().find(mine) else {
            return;
        };
        match outcome.and_then(|(source, download)| start(seed, engine, source, download)) {
            Ok(number) => {
                managed.said.clear();
                managed.stage = Stage::Running(number);
            }
            Err(reason) => wait(managed, reason, FAILED),
        }
    }

    fn end_what_is_enough(&mut self, seed: &mut Seed, engine: &mut Engine) {
        let enough = |t: &&Seeded| t.is_enough(engine) == Some(true);
        let enough: Vec<usize> = seed
            .torrents
            .iter()
            .filter(enough)
            .map(Seeded::number)
            .collect();
        for number in enough {
            let running = |managed: &&mut Managed| managed.stage == Stage::Running(number);
            if let Some(managed) = self.items.iter_mut().find(running) {
                log::warn!("{}: seeded enough", managed.item.path.display());
                stop(seed, engine, managed);
                managed.stage = Stage::Done;
            }
        }
    }

    fn listen_again(&mut self, engine: &mut Engine) {
        for (addr, _) in std::mem::take(&mut self.unheard) {
            let heard = socket::listen(addr).and_then(|listener| {
                let local = listener.local_addr()?;
                engine.listen(listener)?;
                Ok(local)
            });
            match heard {
                Ok(local) => {
                    self.listening += 1;
                    log::warn!("{local}: it listens now");
                    let mut out = Output::new();
                    out.line(format_args!("listening: {local}"));
                    let _ = out.finish();
                }
                Err(error) => {
                    self.unheard.push((addr, String::new()));
                    log::debug!("cannot listen on {addr}: {error}");
                }
            }
        }
    }

    fn say_unheard(&mut self, addr: SocketAddr, error: &str) {
        let level = match self.listening {
            0 => Level::Error,
            _ => Level::Warn,
        };
        log::log!(
            level,
            "cannot listen on {addr}: {error}; tried again every {} s, or choose another with listen =",
            POLL.as_secs()
        );
    }

    /// Opens all torrents anew, so that trackers hear of our new address, and links name it.
    fn reopen(&mut self, seed: &mut Seed, engine: &mut Engine) {
        let port = seed.own_tracker.rsplit_once(':');
        let port = port.and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        let listen = self.config.seed.listen[0];
        let addr = SocketAddr::new(listen.ip(), port.unwrap_or(listen.port()));
        seed.own_tracker = tracker_at(reachable(addr));
        log::warn!("the network is there with another address; all trackers are told");
        for managed in &mut self.items {
            if let Stage::Running(_) = managed.stage {
                stop(seed, engine, managed);
                managed.stage = Stage::Ready;
            }
        }
    }
}

/// Looks at something in a watched folder.
fn take_in(
    items: &mut Vec<Managed>,
    config: &Config,
    folder: &Path,
    path: PathBuf,
    seed: &mut Seed,
    engine: &mut Engine,
) {
    let known = |managed: &&mut Managed| managed.item.path == path;
    let Some(managed) = items.iter_mut().find(known) else {
        let mark = settle_mark(&path);
        let fetch = config.download.clone().filter(|_| is_torrent(&path));
        let fetch = fetch.map(|mut fetch| {
            if fetch.out.as_os_str().is_empty() {
                let beside = config.seed.data.as_deref().unwrap_or(folder);
                fetch.out = beside.to_owned();
            }
            fetch
        });
        let data = config.seed.data.clone();
        return items.push(Managed {
            item: Item { path, data, fetch },
            folder: Some(folder.to_owned()),
            mark,
            said: String::new(),
            stage: Stage::Settling,
        });
    };
    if managed.folder.is_none() {
        return;
    }
    // What is served looks after itself, but for a torrent file that was replaced.
    let looks = match managed.stage {
        Stage::Settling | Stage::Waiting(_) => true,
        Stage::Running(_) | Stage::Done => is_torrent(&managed.item.path),
        _ => false,
    };
    if !looks {
        return;
    }
    let mark = settle_mark(&managed.item.path);
    let same = mark == managed.mark;
    managed.mark = mark;
    match managed.stage {
        Stage::Settling if same => managed.stage = Stage::Ready,
        Stage::Settling => {}
        _ if same => {}
        _ => {
            stop(seed, engine, managed);
            managed.stage = Stage::Settling;
        }
    }
}

/// Begins with what was opened.
fn start(
    seed: &mut Seed,
    engine: &mut Engine,
    source: Source,
    download: Option<Download>,
) -> Result<usize, String> {
    let metainfo = source.content.metainfo();
    let shown = source.content.torrent_file().display().to_string();
    if seed
        .torrents
        .iter()
        .any(|t| t.info_hash == metainfo.info_hash)
    {
        return Err(format!("{shown}: the same torrent is there already"));
    }
    let mut out = Output::new();
    introduce_one(&source, &mut out);
    let _ = out.finish();
    let full = || format!("{shown}: no room for another torrent; raise torrents =");
    seed.add(engine, source, download).ok_or_else(full)
}

fn stop(seed: &mut Seed, engine: &mut Engine, managed: &Managed) {
    if let Stage::Running(number) = managed.stage {
        if let Some(torrent) = seed.torrents.iter().find(|t| t.number() == number) {
            let mut out = Output::new();
            out.line(format_args!("stopped: {}", torrent.name));
            let _ = out.finish();
        }
        seed.drop_torrent(engine, number);
    }
}

fn wait(managed: &mut Managed, reason: String, pause: Duration) {
    if managed.said != reason {
        log::error!("{reason}; tried again every {} s", pause.as_secs());
        managed.said = reason;
    }
    managed.stage = Stage::Waiting(Instant::now() + pause);
}

/// Whether what is to be opened can be looked for, as the disks that it needs are there.
fn is_there(item: &Item, state: &State) -> Result<(), String> {
    let path = &item.path;
    let remote = item.fetch.is_some() && !path.is_absolute();
    let data = match &item.fetch {
        Some(fetch) => Some(&fetch.out),
        None => item.data.as_ref(),
    };
    let metainfo = || -> Option<Metainfo> { read_torrent(path).ok() };
    let before = match is_torrent(path) && !remote {
        true => metainfo().and_then(|m| state.place(m.info_hash)),
        false => None,
    };
    let here = (!remote).then_some(path);
    for (place, before) in here
        .map(|place| (place, None))
        .into_iter()
        .chain(data.map(|place| (place, before.as_ref())))
    {
        let shown = place.display();
        match Place::look(place, before) {
            Found::There(_) => {}
            Found::NotMounted(mount) => {
                return Err(format!("{shown}: {} is not mounted", mount.display()));
            }
            Found::Another(mount) => {
                return Err(format!(
                    "{shown}: another disk is mounted at {}",
                    mount.display()
                ));
            }
        }
    }
    match data {
        Some(data) if !data.exists() => Err(format!(
            "{}: it is not there, and not made, as it may be on a disk that is not mounted",
            data.display()
        )),
        _ => Ok(()),
    }
}

fn is_torrent(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("torrent")
}

/// Under which addresses this machine reaches the world.
struct Network {
    known: [Option<IpAddr>; 2],
    /// Since when each is gone.
    gone: [Option<Instant>; 2],
}

impl Network {
    fn new() -> Network {
        let known = [outgoing(true), outgoing(false)];
        let gone = known.map(|ip| ip.is_none().then(Instant::now));
        Network { known, gone }
    }

    fn has_changed(&mut self, now: Instant) -> bool {
        self.is_news([outgoing(true), outgoing(false)], now)
    }

    /// Whether there is another address, or one again that was gone for long. That one is gone is no
    /// news: it may come back before anybody notices.
    fn is_news(&mut self, ips: [Option<IpAddr>; 2], now: Instant) -> bool {
        let mut news = false;
        for (at, ip) in ips.into_iter().enumerate() {
            match (ip, self.gone[at]) {
                (None, None) => self.gone[at] = Some(now),
                (None, Some(_)) => {}
                (Some(_), since) => {
                    let long = since.is_some_and(|since| now - since >= LONG_GONE);
                    news |= self.known[at] != ip || long;
                    (self.known[at], self.gone[at]) = (ip, None);
                }
            }
        }
        news
    }
}

/// How often folders, listeners and the network are looked at: 360 times an hour, from memory.
const POLL: Duration = Duration::from_secs(10);

/// How often what is on a disk that is away is tried again.
const AWAY: Duration = Duration::from_secs(10);

/// How often what could not be opened is.
const FAILED: Duration = Duration::from_secs(60);

/// After so long without a network trackers may have forgotten us, and have long pauses behind them.
const LONG_GONE: Duration = Duration::from_secs(60);

/// How long trackers have to hear the farewell; the rest of a second is for the state.
const FAREWELL: Duration = Duration::from_millis(600);

/// Tiers of trackers for each torrent that there is room for.
const TIERS: usize = 2;

/// Bytes of bitfields for each: bits are needed only while a torrent is incomplete.
const BITS: usize = 1024;

/// Pieces of all downloads at a time, and the longest piece that is usual, in bytes.
const PIECES: u32 = 64 * 1024;
const LONG_PIECE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_changes() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let ip = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let mut network = Network {
            known: [ip(1), None],
            gone: [None, Some(start)],
        };
        for (s, v4, news) in [
            (0, ip(1), false),
            // Away for a moment.
            (10, None, false),
            (20, ip(1), false),
            // Away for long.
            (30, None, false),
            (80, None, false),
            (90, ip(1), true),
            (100, ip(1), false),
            // Another one.
            (110, ip(2), true),
            (120, ip(2), false),
        ] {
            assert_eq!(network.is_news([v4, None], at(s)), news, "{s}");
        }
        // IPv6 came late.
        assert!(network.is_news([ip(2), Some(IpAddr::from([1; 16]))], at(130)));
    }
}
