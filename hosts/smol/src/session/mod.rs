//! `everseed seed`, `get` and `run`: files, folders and torrents, served until somebody says stop, and
//! downloaded first if need be.

mod announcing;
mod asleep;
mod claims;
mod content;
mod fetch;
mod fetching;
pub(crate) mod foresee;
mod index;
mod kept;
mod listening;
mod loader;
mod network;
mod reach;
mod reload;
mod renewal;
mod scan;
mod scout;
mod service;
mod signals;
mod sources;
mod status;
mod systemd;
mod torrent;
mod trouble;
mod turns;
mod unknown;
mod watch;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_core::rng::Rng;
use everseed_core::wire::PeerId;
use everseed_disk::{Content, check};
use everseed_node::{Event, Identity, Limits, PeerSource, Publicity};
use rustix::process::{Resource, getrlimit, setrlimit};

use self::announcing::Failing;
use self::fetch::{DISK_FULL, Download, UNFINISHED};
use self::listening::Listening;
use self::reach::Reach;
use self::service::Service;
use self::signals::Signals;
pub(crate) use self::signals::outlive_long_files;
use self::sources::{Source, Sources, is_given};
use self::status::{Numbers, Status};
use self::torrent::ManagedTorrent;
use self::unknown::{Awaited, Unknown};
use crate::alarm::Alarm;
use crate::client::trackers;
use crate::failure::Failure;
use crate::logging::flood;
use crate::memory::Plan;
use crate::net::engine::{Engine, News};
use crate::options::get::Fetch;
use crate::options::run::{Config, RunArgs};
use crate::options::seed::{Check, SeedArgs};
use crate::slow::Slow;
use crate::storage::catalogue::Catalogue;
use crate::storage::mount_guard::{Found, Place};
use crate::storage::state::State;
use crate::storage::worker::Done;
use crate::text::{Output, escape, size};
use crate::trace::Traced;
use crate::url::Url;
use crate::web::clients::Clients;
use crate::web::tracker::{Table, serve};

/// Seeds until it is told to stop, and downloads first what `get` says.
pub fn run(mut args: SeedArgs, get: Option<&Fetch>) -> Result<ExitCode, Failure> {
    let state = State::open(&args.state).map_err(|error| Failure::Failed(error.to_string()))?;
    let refused = |(text, code): fetch::Refusal| Failure::Code(text, code);
    let mut listening = Listening::new(&args);
    // Links name the port of what is made here, and routers forward one that was chosen.
    let may_move = get.is_some() && args.public_address.is_none();
    let insisted = listening.insist(may_move);
    insisted.map_err(Failure::Failed)?;
    let mut original = None;
    if let Some(get) = get {
        let kept = fetch::torrent(&state, &args.paths[0], &listening.way()).map_err(refused)?;
        let Some(kept) = kept else {
            return Session::get_unknown(args, state, listening, get);
        };
        let given = std::mem::replace(&mut args.paths, vec![kept]);
        original = given.into_iter().next().filter(|path| path.is_file());
        args.data = Some(get.out.clone());
    }
    let original = original.and_then(|path| std::path::absolute(path).ok());
    let mut session = Session::open(args, state, listening, get, original.as_deref())?;
    session.run().map_err(broken)
}

/// Seeds and downloads what a configuration file says.
pub(crate) fn service(args: &RunArgs, config: Config) -> Result<ExitCode, Failure> {
    let mut session = service::open(args, config)?;
    let code = session.run().map_err(broken)?;
    if session.again {
        drop(session);
        return Err(reload::start_again());
    }
    Ok(code)
}

fn broken(error: io::Error) -> Failure {
    Failure::Failed(format!("the event loop failed: {error}"))
}

impl Session {
    /// Everything that is named, ready to run.
    fn open(
        mut args: SeedArgs,
        state: State,
        listening: Listening,
        get: Option<&Fetch>,
        original: Option<&Path>,
    ) -> Result<Session, Failure> {
        let first = listening.local();
        let own_tracker = Reach::new(&args, first.port()).tracker(first);
        let sources = Sources {
            state: &state,
            asked: true,
            original,
            data: args.data.as_deref(),
            files: &args.files,
            within: None,
            links: args.links,
            make: &args.make,
            own_tracker: &own_tracker,
        };
        let paths = std::mem::take(&mut args.paths);
        let mut opened: Vec<(usize, Source)> = Vec::with_capacity(paths.len());
        let mut order: Vec<usize> = (0..paths.len()).collect();
        // What torrents describe has to be known before any is made.
        order.sort_by_key(|&number| !is_given(&paths[number]));
        for number in order {
            let path = &paths[number];
            let source = sources.open(path);
            let source = source.map_err(|trouble| Failure::Failed(trouble.text()))?;
            let hash = |s: &Source| s.content.metainfo().info_hash;
            if opened.iter().any(|(_, other)| hash(other) == hash(&source)) {
                let shown = escape(path.as_os_str().as_encoded_bytes()).to_string();
                log::warn!("{shown}: the same torrent was named before, so this one is left out");
            } else {
                opened.push((number, source));
            }
        }
        opened.sort_by_key(|&(number, _)| number);
        let opened: Vec<Source> = opened.into_iter().map(|(_, source)| source).collect();
        state.described().sync();
        state.described().rest();
        let mut download = None;
        if let Some(get) = get {
            download = Some(begin_download(&state, &opened[0].content, get)?);
        }
        say_if_few(&args);
        let mut plan = plan(&args);
        for source in &opened {
            let geometry = &source.content.metainfo().geometry;
            plan.add(geometry, source.tiers.len());
            if download.is_some() {
                plan.add_download(geometry);
            }
        }
        let plan = plan
            .fit(args.memory)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let down = get.and_then(|get| get.down);
        let session = Session::new(&args, state, listening, plan, down);
        let mut session = session.map_err(Failure::Failed)?;
        session.introduce(&opened).map_err(Failure::Failed)?;
        session.open_listeners();
        let engine = Rc::clone(&session.engine);
        for source in opened {
            session.add(&mut engine.borrow_mut(), source, download.take());
        }
        session.slow.turn();
        Ok(session)
    }

    /// Prints what others need to know.
    fn introduce(&mut self, sources: &[Source]) -> Result<(), String> {
        let (links, mut out) = (self.links(), Output::new());
        let mut any = false;
        for source in sources {
            any |= reach::introduce(source, &links, &mut out)?;
        }
        let done = out.finish();
        done.map_err(|error| format!("standard output: {error}"))?;
        if any {
            self.say_where();
        }
        Ok(())
    }

    /// Begins with a torrent; answers with its number.
    fn add(&mut self, engine: &mut Engine, source: Source, download: Option<Download>) -> usize {
        self.track(&source.content);
        let number = self.number();
        let torrent = ManagedTorrent::new(number, source.content, source.tiers, download);
        self.start(engine, torrent, (source.fresh, source.found));
        number
    }

    /// Begins with one that the node knows, asleep; answers with its number.
    fn wake(&mut self, engine: &mut Engine, source: Source, id: TorrentId) -> usize {
        self.track(&source.content);
        let number = self.number();
        let torrent = ManagedTorrent::woken(number, source.content, id);
        self.start(engine, torrent, (source.fresh, source.found));
        number
    }

    fn start(
        &mut self,
        engine: &mut Engine,
        mut torrent: ManagedTorrent,
        prints: (Option<u64>, Option<u64>),
    ) {
        if self.calm {
            torrent.stay_calm();
        }
        torrent.start(engine, &self.state, self.check, prints);
        self.torrents.push(torrent);
    }

    fn number(&mut self) -> usize {
        self.next_number += 1;
        self.next_number
    }

    /// Has the built-in tracker answer for a torrent; if it has no room, it does once somebody asks. Peers of a
    /// private one come from its own trackers alone (BEP 27), so this has to be one of them.
    fn track(&self, content: &Content) {
        let metainfo = content.metainfo();
        let (mut tracker, mut named) = (self.tracker.borrow_mut(), false);
        let look = |_, url: &str| {
            tracker.learn(url);
            named |= url == self.own_tracker;
            ControlFlow::Continue(())
        };
        let read = trackers::each_used(content.read_torrent_file(), metainfo, look);
        if metainfo.private && (read.is_err() || !named) {
            return;
        }
        let info_hash = metainfo.info_hash;
        if tracker.add(info_hash).is_err() {
            log::warn!("the built-in tracker has no room for {info_hash} now");
        }
    }

    /// Is done with a torrent, whose data stays.
    fn drop_torrent(&mut self, engine: &mut Engine, number: usize) {
        let at = self.torrents.iter().position(|t| t.number() == number);
        if let Some(at) = at {
            let torrent = self.torrents.remove(at);
            self.tracker.borrow_mut().remove(torrent.info_hash());
            if let Some(id) = torrent.id() {
                self.catalogue.borrow_mut().remove(id);
            }
            torrent.end(engine, &self.state);
            // The next turn carries out what follows.
            self.alarm.ring();
        }
    }
}

/// What `get` does before anything is asked for.
fn begin_download(state: &State, content: &Content, get: &Fetch) -> Result<Download, Failure> {
    let refused = |(text, code): fetch::Refusal| Failure::Code(text, code);
    let mut plan = fetch::plan(state, content, get).map_err(refused)?;
    let root = content.root();
    let before = state.place(content.metainfo().info_hash, &root);
    // A disk that is not mounted is waited for; any other trouble is better told at once.
    if let Found::There(_) = Place::look(&root, before.as_ref())
        && check::is_nothing_there(content)
    {
        let nothing = vec![0; content.geometry().bitfield_len() as usize];
        fetch::prepare(content, &mut plan, nothing, false).map_err(|error| {
            let code = if error.is_no_space() { DISK_FULL } else { 1 };
            Failure::Code(error.to_string(), code)
        })?;
    }
    Ok(plan)
}

/// What the node needs before there are torrents.
fn plan(args: &SeedArgs) -> Plan {
    Plan {
        peers: usize::from(afford(args.max_peers)),
        slots: usize::from(args.slots.unwrap_or(AUTOMATIC_SLOTS)),
        ..Plan::default()
    }
}

/// What the node may use; of downloads nothing is said.
fn limits(args: &SeedArgs, plan: &Plan) -> Limits {
    let most_slots = u16::try_from(plan.slots).unwrap_or(u16::MAX);
    Limits {
        slots: args.slots.map(|slots| slots.min(most_slots)),
        most_slots,
        peers: args.max_peers,
        upload_bps: args.up,
        download_bps: None,
    }
}

/// By what peers of public torrents are found.
fn publicity(args: &SeedArgs) -> Publicity {
    let mut publicity = Publicity::NONE;
    if args.pex {
        publicity = publicity.with_pex();
    }
    if args.lsd {
        publicity = publicity.with_lsd();
    }
    publicity
}

fn say_listening(addr: SocketAddr) {
    let mut out = Output::new();
    out.line(format_args!("listening: {addr}"));
    let _ = out.finish();
}

/// Everything that runs.
struct Session {
    state: Arc<State>,
    alarm: Arc<Alarm>,
    signals: Signals,
    engine: Rc<RefCell<Engine>>,
    slow: Slow,
    torrents: Vec<ManagedTorrent>,
    tracker: Rc<RefCell<Table>>,
    own_tracker: String,
    reach: Reach,
    listening: Listening,
    /// Trackers that the owner named.
    named_trackers: Vec<String>,
    /// Whether torrent files are given to whoever asks.
    share_torrent: bool,
    /// Trackers that do not answer.
    failing: Rc<RefCell<Failing>>,
    /// HTTP connections that are being served.
    web: Clients,
    status: Status,
    next_save: Instant,
    /// When files that nobody uses are looked for.
    next_close: Instant,
    /// When the built-in tracker's peers are called next.
    next_peers: Instant,
    next_number: usize,
    check: Check,
    /// How long trackers have to hear the farewell.
    farewell: Duration,
    /// What `run` adds.
    service: Option<Service>,
    /// Whether files that nobody reads are left alone, as a service does.
    calm: bool,
    /// Torrents that are asleep.
    catalogue: Rc<RefCell<Catalogue>>,
    /// Those of them that are wanted, and peers of them that are known.
    wakes: Vec<(TorrentId, Vec<SocketAddr>)>,
    /// Whether some torrent was checked, so that it may sleep now.
    checked: bool,
    /// Whether to begin anew after the end, as the configuration asks for it.
    again: bool,
    /// Torrents whose metadata is fetched.
    unknown: Vec<Unknown>,
    /// What `get` does when that is here.
    awaited: Option<Box<Awaited>>,
    /// Why `get` cannot go on with it.
    failed: Option<Failure>,
}

impl Session {
    fn new(
        args: &SeedArgs,
        state: State,
        listening: Listening,
        plan: Plan,
        download_bps: Option<u64>,
    ) -> Result<Session, String> {
        let local = listening.local();
        let reach = Reach::new(args, local.port());
        let own_tracker = reach.tracker(local);
        let identity = Identity {
            peer_id: peer_id(),
            port: reach.told_port(),
            client: concat!("everseed ", env!("CARGO_PKG_VERSION")),
        };
        let mut out = Output::new();
        out.line(format_args!(
            "memory: {} at most: {plan}",
            size(args.memory)
        ));
        let _ = out.finish();
        let limits = Limits {
            download_bps,
            ..limits(args, &plan)
        };
        // Some of those that are asleep have peers too.
        let mut tracker = Table::new(2 * plan.torrents, TRACKED_PEERS, reach.port(), random());
        tracker.set_names(hosts(&args.make.trackers.concat(), &own_tracker));
        let catalogue = Catalogue::new(state.catalogue_file(), plan.names());
        let failed = |error: io::Error| format!("cannot start: {error}");
        let trace = args.trace.as_deref();
        let node =
            Traced::new(plan.lend(), identity, limits, random(), trace).map_err(|error| {
                let path = trace.unwrap_or(Path::new(""));
                format!("{}: {error}; see --trace", path.display())
            })?;
        let alarm = Alarm::new().map_err(failed)?;
        let slow = Slow::new(alarm.clone()).map_err(failed)?;
        let (signals, woken) = Signals::new().map_err(failed)?;
        let mut engine =
            Engine::new(node, &plan, args.send, alarm.clone(), woken).map_err(failed)?;
        engine.publicity = publicity(args);
        Ok(Session {
            state: Arc::new(state),
            alarm,
            signals,
            engine: Rc::new(RefCell::new(engine)),
            slow,
            torrents: Vec::with_capacity(plan.torrents),
            tracker: Rc::new(RefCell::new(tracker)),
            own_tracker,
            reach,
            listening,
            named_trackers: args.make.trackers.concat(),
            share_torrent: args.share_torrent,
            failing: Rc::default(),
            web: Clients::new(plan.web),
            status: Status::new(args.quiet),
            next_save: Instant::now() + SAVE,
            next_close: Instant::now(),
            next_peers: Instant::now(),
            next_number: 0,
            check: args.check,
            farewell: FAREWELL,
            service: None,
            calm: false,
            catalogue: Rc::new(RefCell::new(catalogue)),
            wakes: Vec::new(),
            checked: false,
            again: false,
            unknown: Vec::new(),
            awaited: None,
            failed: None,
        })
    }

    /// Runs until a signal asks to stop.
    fn run(&mut self) -> io::Result<ExitCode> {
        self.slow.turn();
        let goes_on = |s: &Session| !s.again && s.failed.is_none() && !s.goal_reached();
        while self.turn(CHORES)? == 0 && goes_on(self) {}
        self.status.finish();
        let code = self.farewell();
        flood::tell(true);
        code
    }

    /// One round of everything, which waits no longer than `limit`; answers with the number of
    /// signals that came.
    fn turn(&mut self, limit: Duration) -> io::Result<u32> {
        let patience = self.status.patience().unwrap_or(limit).min(limit);
        let soon = self.tracker.borrow().has_uncalled();
        let patience = match soon || self.torrents.iter().any(ManagedTorrent::is_downloading) {
            true => patience.min(PEERS),
            false => patience,
        };
        let patience = match &self.service {
            Some(service) => service.patience(patience),
            None => patience,
        };
        let engine = Rc::clone(&self.engine);
        let mut engine = engine.borrow_mut();
        let patience = match engine.worker.has_open_files() {
            true => patience.min(CLOSE),
            false => patience,
        };
        engine.turn(patience)?;
        let News {
            signals,
            rung,
            web,
            unreadable,
            unread,
            unwritable,
            done,
            announces,
            udp_outcomes,
            wakes,
            fetched,
            unspooled,
        } = std::mem::take(&mut engine.news);
        let known = self.mind_unknown(&mut engine, &fetched, unspooled);
        if !known.is_empty() {
            self.begin_known(&mut engine, &known);
        }
        self.wakes.extend(wakes);
        for (id, error) in unreadable {
            if let Some(torrent) = self.torrents.iter_mut().find(|t| t.id() == Some(id)) {
                torrent.unreadable(&error);
            }
        }
        for (id, fault) in unread {
            if let Some(torrent) = self.torrents.iter_mut().find(|t| t.id() == Some(id)) {
                torrent.unread(&fault);
            }
        }
        for (id, fault) in unwritable {
            if let Some(torrent) = self.torrents.iter_mut().find(|t| t.id() == Some(id)) {
                torrent.unwritable(&mut engine, &fault);
            }
        }
        for done in done {
            self.checked |= matches!(done, Done::Checked(..));
            let number = match &done {
                Done::Checked(number, _) | Done::Looked(number, _) => Some(*number),
                Done::Synced(number, _) | Done::Tried(number, _) => Some(*number),
                _ => None,
            };
            if let Some(number) = number
                && let Some(torrent) = self.torrents.iter_mut().find(|t| t.number() == number)
            {
                torrent.done(&mut engine, &self.state, done);
            }
        }
        self.chores(&mut engine);
        if let Some(mut service) = self.service.take() {
            service.mind(self, &mut engine);
            self.service = Some(service);
        }
        drop(engine);
        let woken = rung || !web.is_empty() || !announces.is_empty();
        web.into_iter()
            .for_each(|(stream, addr)| self.welcome(stream, addr));
        announces.into_iter().for_each(|task| self.announce(task));
        udp_outcomes
            .into_iter()
            .for_each(|outcome| self.announced_by_udp(outcome));
        if woken {
            self.slow.turn();
        }
        // A signal may also be one to read the configuration.
        Ok(if signals > 0 { self.signals.stops() } else { 0 })
    }
}

/// What a turn leads to.
impl Session {
    /// Whether `get` has nothing more to do.
    fn goal_reached(&self) -> bool {
        if self.service.is_some() {
            return false;
        }
        let engine = self.engine.borrow();
        let enough = |torrent: &ManagedTorrent| torrent.is_enough(&engine) == Some(true);
        !self.torrents.is_empty() && self.torrents.iter().all(enough)
    }

    fn chores(&mut self, engine: &mut Engine) {
        flood::tell(false);
        let now = Instant::now();
        self.look_up(now);
        self.mind_listening(engine, now);
        for torrent in &mut self.torrents {
            torrent.look(engine, now);
            torrent.try_again(engine, now);
            torrent.mind_use(engine, now);
            let mut tracker = self.tracker.borrow_mut();
            tracker.set_complete(torrent.info_hash(), !torrent.is_downloading());
            if torrent.mind_download(engine, now)
                && let Some(id) = torrent.id()
            {
                for peer in torrent.named_peers(id) {
                    engine.tell(Event::Peer(id, peer, PeerSource::User));
                }
            }
        }
        if now >= self.next_peers {
            self.next_peers = now + PEERS;
            self.call_peers(engine);
            for torrent in &mut self.torrents {
                torrent.mind_stuck(engine, now);
            }
        }
        if now >= self.next_close {
            self.next_close = now + CLOSE;
            engine.worker.close_unused();
        }
        if now >= self.next_save {
            self.next_save = now + SAVE;
            for torrent in &mut self.torrents {
                if self.signals.asked() {
                    break;
                }
                torrent.save(engine, &self.state);
            }
        }
        let unknown = self.say_unknown(engine);
        let torrents = &self.torrents;
        self.status.show(|| Numbers {
            unknown,
            ..numbers(engine, torrents)
        });
    }

    /// Calls who asks the built-in tracker for peers: it may be unable to call us, or slow to, as some
    /// clients wait for minutes after a try over UDP.
    fn call_peers(&mut self, engine: &mut Engine) {
        let now = engine.now();
        let (torrents, wakes) = (&self.torrents, &mut self.wakes);
        self.tracker
            .borrow_mut()
            .call(now, |info_hash, peer, complete| {
                let Some(id) = engine.node.find(info_hash) else {
                    return false;
                };
                let its = |torrent: &&ManagedTorrent| torrent.is_known_as(id);
                let torrent = torrents.iter().find(its);
                let needs = torrent.is_some_and(ManagedTorrent::is_downloading);
                if complete && !needs {
                    return true;
                }
                if engine.node.is_asleep(id) {
                    wakes.push((id, vec![peer]));
                } else {
                    engine.tell(Event::Peer(id, peer, PeerSource::Tracker));
                }
                true
            });
    }

    /// Serves a connection that speaks HTTP.
    fn welcome(&mut self, stream: TcpStream, from: SocketAddr) {
        let Ok(stream) = smol::Async::new(stream) else {
            return;
        };
        let table = Rc::clone(&self.tracker);
        let engine = Rc::clone(&self.engine);
        let (catalogue, state) = (Rc::clone(&self.catalogue), Arc::clone(&self.state));
        let (own_tracker, share_torrent) = (self.own_tracker.clone(), self.share_torrent);
        let task = self.slow.begin(async move {
            let now = || engine.borrow().now();
            // Those that are awake are in the table.
            let ours = |info_hash| {
                let id = engine.borrow().node.find(info_hash);
                id.is_some_and(|id| catalogue.borrow().is_tracked(id, &own_tracker))
            };
            let shared = |info_hash| {
                let id = engine
                    .borrow()
                    .node
                    .find(info_hash)
                    .filter(|_| share_torrent)?;
                let awake = engine.borrow().torrent_file(id);
                awake.or_else(|| catalogue.borrow().torrent_file(id, &state))
            };
            if let Err(error) = serve(stream, &table, &now, &ours, &shared).await {
                log::debug!("{from}: {error}");
            }
        });
        self.web.admit(from.ip(), task);
    }

    /// Keeps the state, lets everybody go and tells the trackers, within a time that is
    /// set; nothing new is begun. Another signal ends it at once.
    fn farewell(&mut self) -> io::Result<ExitCode> {
        log::info!("it stops");
        // What its threads are in the middle of ends with the process.
        let service = self.service.take();
        let is_service = service.is_some();
        if let Some(service) = service.filter(|_| !self.again) {
            service.manager.stopping();
        }
        let engine = Rc::clone(&self.engine);
        for torrent in self.torrents.iter_mut().filter(|t| !t.is_downloading()) {
            torrent.save_in_haste(&engine.borrow(), &self.state);
        }
        self.state.sync();
        engine.borrow_mut().stop();
        let begin = Instant::now();
        self.next_save = begin + SAVE;
        while !self.engine.borrow().is_at_rest() {
            let left = self.farewell.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            if self.turn(left)? > 0 && begin.elapsed() > SAME_SIGNAL {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        // Its last blocks had to be written first.
        let engine = engine.borrow();
        for torrent in self.torrents.iter_mut().filter(|t| t.is_downloading()) {
            torrent.save(&engine, &self.state);
        }
        if is_service {
            // A service is never complete, so that being stopped is no failure.
            return Ok(ExitCode::SUCCESS);
        }
        self.torrents.iter().for_each(|t| t.say_unfinished(&engine));
        if !self.unknown.is_empty() {
            return Ok(ExitCode::from(UNFINISHED));
        }
        let code = self.torrents.iter().find_map(|t| t.exit_code(&engine));
        Ok(code.map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}

fn numbers(engine: &Engine, torrents: &[ManagedTorrent]) -> Numbers {
    let mut numbers = Numbers {
        serving: 0,
        checking: 0,
        away: 0,
        checked: (0, 0),
        asleep: engine.node.known() - engine.node.torrents().count(),
        node: engine.node.stats(),
        uploaded: 0,
        content: 0,
        download: None,
        stuck: None,
        unknown: None,
    };
    for torrent in torrents {
        let total = torrent.content.geometry().total();
        if let Some(done) = torrent.checked() {
            numbers.checking += 1;
            numbers.checked.0 += done;
            numbers.checked.1 += total;
        } else if torrent.is_away() {
            numbers.away += 1;
        } else {
            numbers.serving += 1;
        }
        numbers.content = numbers.content.saturating_add(total);
        let stats = torrent.id().and_then(|id| engine.node.torrent(id));
        if stats.is_some() && torrent.is_downloading() {
            let wanted = torrent.wanted_len();
            let left = torrent.left(engine);
            numbers.download = Some((wanted.saturating_sub(left), wanted));
            numbers.stuck = torrent.stuck().map(str::to_owned);
        }
        let uploaded = stats.map_or(0, |stats| stats.uploaded);
        numbers.uploaded = numbers.uploaded.saturating_add(uploaded);
    }
    numbers
}

/// The names by which the built-in tracker may be called.
fn hosts(named: &[String], own_tracker: &str) -> Vec<String> {
    let urls = named.iter().map(String::as_str).chain([own_tracker]);
    let hosts = urls.filter_map(|url| Some(Url::parse(url).ok()?.host.to_owned()));
    hosts.collect()
}

/// Says if there are to be fewer peers than were asked for.
fn say_if_few(args: &SeedArgs) {
    let (peers, afforded) = (args.max_peers, afford(args.max_peers));
    if afforded < peers {
        let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        log::warn!(
            "this process may open {current} files, so it takes {afforded} peers and not {peers}; \
             raise `ulimit -n` for more"
        );
    }
}

/// How many of the wanted peers this process may have descriptors for, after asking for more.
fn afford(peers: u16) -> u16 {
    let wanted = u64::from(peers) + DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return peers;
    }
    // Under a very low limit files and trackers make do with half of it.
    let others = DESCRIPTORS.min(current / 2);
    u16::try_from(current - others).map_or(peers, |n| n.clamp(1, peers))
}

/// A number that nobody can guess.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // It cannot fail for so few bytes once the system is up; before that, time has to do.
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if read.is_err() {
        let since = crate::clock::time_of_day();
        return Rng::new((since.as_secs() << 30) | u64::from(since.subsec_nanos())).bits();
    }
    u64::from_ne_bytes(bytes)
}

/// A new one for each run (BEP 20): the client's code, its version, and chance.
fn peer_id() -> PeerId {
    let mut id = *b"-EV0100-............";
    let mut rng = Rng::new(random());
    for byte in &mut id[8..] {
        let letter = ALPHABET.get(rng.below(62) as usize);
        *byte = letter.copied().unwrap_or(b'-');
    }
    id
}

const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The longest time without a look at the chores: short, so that a disk that is mounted again is
/// served again within half a minute.
const CHORES: Duration = Duration::from_secs(10);

/// Slots that there is memory for when their number follows the capacity.
const AUTOMATIC_SLOTS: u16 = 16;

/// How often peers of the built-in tracker are called.
const PEERS: Duration = Duration::from_secs(2);

/// How often it is looked, while files are open, for those that nobody used since the last look. They are closed.
const CLOSE: Duration = Duration::from_secs(5);

/// How often the state is kept while it changes.
const SAVE: Duration = Duration::from_secs(600);

/// How long trackers have to hear the farewell.
const FAREWELL: Duration = Duration::from_secs(5);

/// One press of Ctrl-C may arrive twice: from the terminal, and passed on by `sudo` or `timeout`.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Peers that the built-in tracker knows of at most, all torrents together.
const TRACKED_PEERS: usize = 2000;

/// Descriptors besides those of peers: files, listeners, the tracker's clients, announces.
const DESCRIPTORS: u64 = 128;

/// The exit code when a second signal came.
const INTERRUPTED: u8 = 130;
