//! The torrents that are shared, and what happens to them: `everseed seed`, `get` and `run`.
//!
//! A `Session` owns its parts side by side: `Torrents`, those that are awake and asleep; the `Library` of a
//! service, what is to be shared and how far each of it has come; where it listens; what is shown. A part is told what
//! it needs of the others, and names none that is above it.
//!
//! | file | what is in it |
//! |---|---|
//! | `opening`, `fetching` | how a session begins, and `get` with a magnet link |
//! | `torrents`, `torrent` | all torrents, and one from its first check to its end |
//! | `library`, `item` | what a service looks after; `reload`, `scan`, `asleep`, `turns`, `renewal`, `content` and `links` change it |
//! | `loader`, `opener`, `kept`, `claims`, `fetch` | from a path to a torrent, on threads of their own |
//! | `watch`, `scout`, `index` | watched folders, on a thread of their own |
//! | `listening`, `network`, `reach` | where we listen, and what others are told of it |

mod announcing;
mod asleep;
mod claims;
mod content;
mod dht;
mod fetch;
mod fetching;
pub(crate) mod foresee;
mod front;
mod identity;
mod index;
mod item;
mod kept;
mod library;
mod links;
mod listening;
mod loader;
mod network;
mod notice;
mod numbers;
mod opener;
mod opening;
mod port_map;
mod reach;
mod reload;
mod renewal;
mod room;
mod scan;
mod scout;
mod signals;
mod systemd;
mod torrent;
mod torrents;
mod trouble;
mod turns;
mod unknown;
mod watch;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_node::{Event, Identity, Limits, PeerSource};

use self::announcing::Failing;
use self::dht::Neighbours;
use self::fetch::UNFINISHED;
pub use self::front::Front;
use self::identity::{peer_id, random};
use self::library::{Library, Reloaded};
use self::listening::Listening;
use self::network::say_ours;
pub use self::notice::{Introduction, LeftOut, Notice, Notices};
pub use self::numbers::Numbers;
use self::port_map::PortMap;
use self::reach::{Reach, hosts};
use self::room::{limits, publicity};
use self::signals::Signals;
pub(crate) use self::signals::outlive_long_files;
use self::torrent::ManagedTorrent;
use self::torrents::{Torrents, numbers};
use self::unknown::{Awaited, Unknowns};
use crate::alarm::Alarm;
use crate::async_tasks::AsyncTasks;
use crate::failure::Failure;
use crate::logging::flood;
use crate::memory::Plan;
use crate::net::engine::{Engine, TurnReport};
use crate::options::get::Fetch;
use crate::options::run::{Config, RunArgs};
use crate::options::seed::SeedArgs;
use crate::storage::catalogue::Catalogue;
use crate::storage::state::StateFolder;
use crate::storage::worker::Done;
use crate::trace::Traced;
use crate::web::clients::Clients;
use crate::web::tracker::{PeerTable, serve};

/// Seeds until it is told to stop, and downloads first what `get` says.
pub fn run(mut args: SeedArgs, get: Option<&Fetch>, front: Front) -> Result<ExitCode, Failure> {
    let state =
        StateFolder::open(&args.state).map_err(|error| Failure::Failed(error.to_string()))?;
    let refused = |(text, code): fetch::Refusal| Failure::Code(text, code);
    let mut listening = Listening::new(&args, front.notices.clone());
    // Links name the port of what is made here, and routers forward one that was chosen.
    let may_move = get.is_some() && args.public_address.is_none();
    let insisted = listening.insist(may_move);
    insisted.map_err(Failure::Failed)?;
    let mut original = None;
    if let Some(get) = get {
        let kept = fetch::torrent(&state, &args.paths[0], &listening.way()).map_err(refused)?;
        let Some(kept) = kept else {
            return Session::get_unknown(args, state, listening, get, front);
        };
        let given = std::mem::replace(&mut args.paths, vec![kept]);
        original = given.into_iter().next().filter(|path| path.is_file());
        args.data = Some(get.out.clone());
    }
    let original = original.and_then(|path| std::path::absolute(path).ok());
    let mut session = Session::open(args, state, listening, get, original.as_deref(), front)?;
    session.run().map_err(broken)
}

/// Seeds and downloads what a configuration file says.
pub(crate) fn service(args: &RunArgs, config: Config, front: Front) -> Result<ExitCode, Failure> {
    let mut session = Session::open_service(args, config, front)?;
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

/// Everything that runs.
struct Session {
    signals: Rc<Signals>,
    engine: Rc<RefCell<Engine>>,
    tasks: AsyncTasks,
    torrents: Torrents,
    /// What `run` adds.
    library: Option<Library>,
    listening: Listening,
    port_map: PortMap,
    neighbours: Neighbours,
    /// Trackers that do not answer.
    failing: Rc<RefCell<Failing>>,
    /// HTTP connections that are being served.
    web: Clients,
    /// How often a notice says how everything stands.
    numbers: Option<Duration>,
    interval: fn(bool) -> Option<Duration>,
    next_numbers: Instant,
    next_save: Instant,
    /// When files that nobody uses are looked for.
    next_close: Instant,
    /// When the built-in tracker's peers are called next.
    next_peers: Instant,
    /// How long trackers have to hear the farewell.
    farewell: Duration,
    /// Whether to begin anew after the end, as the configuration asks for it.
    again: bool,
    /// What `get` does when that is here.
    awaited: Option<Box<Awaited>>,
    /// Why `get` cannot go on with it.
    failed: Option<Failure>,
}

impl Session {
    fn new(
        args: &SeedArgs,
        state: StateFolder,
        listening: Listening,
        plan: Plan,
        download_bps: Option<u64>,
        front: Front,
    ) -> Result<Session, String> {
        let local = listening.local();
        let reach = Reach::new(args, local);
        let identity = Identity {
            peer_id: peer_id(),
            port: reach.told_port(),
            client: concat!("everseed ", env!("CARGO_PKG_VERSION")),
        };
        let notices = front.notices;
        notices.tell(Notice::Memory {
            most: args.memory,
            plan: &plan.to_string(),
        });
        let limits = Limits {
            download_bps,
            ..limits(args, &plan)
        };
        // Some of those that are asleep have peers too.
        let mut tracker = PeerTable::new(2 * plan.torrents, TRACKED_PEERS, reach.port(), random());
        tracker.set_names(hosts(&args.make.trackers.concat(), &reach.own_tracker));
        let catalogue = Catalogue::new(state.catalogue_file(), plan.names());
        let failed = |error: io::Error| format!("cannot start: {error}");
        let trace = args.trace.as_deref();
        let node =
            Traced::new(plan.lend(), identity, limits, random(), trace).map_err(|error| {
                let path = trace.unwrap_or(Path::new(""));
                format!("{}: {error}; see --trace", path.display())
            })?;
        let alarm = Alarm::new().map_err(failed)?;
        let tasks = AsyncTasks::new(alarm.clone()).map_err(failed)?;
        let (signals, woken) = Signals::new().map_err(failed)?;
        let mut engine =
            Engine::new(node, &plan, args.send, alarm.clone(), woken).map_err(failed)?;
        engine.publicity = publicity(args);
        let (signals, state) = (Rc::new(signals), Arc::new(state));
        let engine = Rc::new(RefCell::new(engine));
        let unknown = Unknowns::new(Arc::clone(&state), Rc::clone(&engine), tasks.spawner());
        let torrents = Torrents {
            state,
            alarm,
            notices,
            signals: Rc::clone(&signals),
            managed: Vec::with_capacity(plan.torrents),
            catalogue: Rc::new(RefCell::new(catalogue)),
            wakes: Vec::new(),
            unknown,
            tracker: Rc::new(RefCell::new(tracker)),
            reach,
            named_trackers: args.make.trackers.concat(),
            check: args.check,
            calm: false,
            checked: false,
            next_number: 0,
        };
        Ok(Session {
            signals,
            engine,
            tasks,
            torrents,
            library: None,
            listening,
            port_map: PortMap::new(args),
            neighbours: Neighbours::new(args),
            failing: Rc::default(),
            web: Clients::new(plan.web),
            interval: front.numbers,
            numbers: (front.numbers)(args.quiet),
            next_numbers: Instant::now(),
            next_save: Instant::now() + SAVE,
            next_close: Instant::now(),
            next_peers: Instant::now(),
            farewell: FAREWELL,
            again: false,
            awaited: None,
            failed: None,
        })
    }

    /// Lets peers in at all addresses that were taken.
    fn open_listeners(&mut self) {
        let mut engine = self.engine.borrow_mut();
        self.listening.open_first(&mut engine);
        self.neighbours.begin(&mut engine, &self.torrents.state);
        say_ours(&mut engine, self.torrents.reach.told_port());
    }

    /// Runs until a signal asks to stop.
    fn run(&mut self) -> io::Result<ExitCode> {
        self.tasks.turn();
        let goes_on = |s: &Session| !s.again && s.failed.is_none() && !s.goal_reached();
        while self.turn(CHORES)? == 0 && goes_on(self) {}
        self.torrents.notices.tell(Notice::Ending);
        let code = self.farewell();
        flood::tell(true);
        code
    }

    /// One round of everything, which waits no longer than `limit`; answers with the number of
    /// signals that came.
    fn turn(&mut self, limit: Duration) -> io::Result<u32> {
        let until = self.next_numbers.saturating_duration_since(Instant::now());
        let patience = self.numbers.map_or(limit, |_| until.min(limit));
        let soon = self.torrents.tracker.borrow().has_uncalled();
        let patience = match soon
            || self
                .torrents
                .managed
                .iter()
                .any(ManagedTorrent::is_downloading)
        {
            true => patience.min(PEERS),
            false => patience,
        };
        let patience = match &self.library {
            Some(library) => library.patience(patience),
            None => patience,
        };
        let engine = Rc::clone(&self.engine);
        let mut engine = engine.borrow_mut();
        let patience = match engine.worker.has_open_files() {
            true => patience.min(CLOSE),
            false => patience,
        };
        engine.turn(patience)?;
        let TurnReport {
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
            caller,
            finds_nodes,
        } = std::mem::take(&mut engine.report);
        let unknown = &mut self.torrents.unknown;
        let known = unknown.mind(&mut engine, &fetched, unspooled);
        if !known.is_empty() {
            self.begin_known(&mut engine, &known);
        }
        self.torrents.wakes.extend(wakes);
        for (id, error) in unreadable {
            if let Some(torrent) = self
                .torrents
                .managed
                .iter_mut()
                .find(|t| t.id() == Some(id))
            {
                torrent.unreadable(&error);
            }
        }
        for (id, fault) in unread {
            if let Some(torrent) = self
                .torrents
                .managed
                .iter_mut()
                .find(|t| t.id() == Some(id))
            {
                torrent.unread(&fault);
            }
        }
        for (id, fault) in unwritable {
            if let Some(torrent) = self
                .torrents
                .managed
                .iter_mut()
                .find(|t| t.id() == Some(id))
            {
                torrent.unwritable(&mut engine, &fault);
            }
        }
        for done in done {
            self.torrents.checked |= matches!(done, Done::Checked(..));
            let number = match &done {
                Done::Checked(number, _) | Done::Looked(number, _) => Some(*number),
                Done::Synced(number, _) | Done::Tried(number, _) => Some(*number),
                _ => None,
            };
            if let Some(number) = number
                && let Some(torrent) = self
                    .torrents
                    .managed
                    .iter_mut()
                    .find(|t| t.number() == number)
            {
                torrent.done(&mut engine, &self.torrents.state, done);
            }
        }
        let (torrents, listening) = (&mut self.torrents, &self.listening);
        self.port_map
            .mind(&mut engine, torrents, listening, &self.tasks, caller);
        let (shared, state) = (&self.engine, &self.torrents.state);
        self.neighbours
            .mind(&mut engine, shared, state, &self.tasks, finds_nodes);
        self.chores(&mut engine);
        let library = self.library.as_mut();
        match library.and_then(|l| l.mind(&mut self.torrents, &mut engine, &self.listening)) {
            Some(Reloaded::Again) => self.again = true,
            Some(Reloaded::Taken) => self.begin_status(),
            None => {}
        }
        drop(engine);
        let woken = rung || !web.is_empty() || !announces.is_empty();
        web.into_iter()
            .for_each(|(stream, addr)| self.welcome(stream, addr));
        for task in announces {
            let (engine, failing) = (&self.engine, &self.failing);
            announcing::carry_out(task, &self.torrents, engine, failing, &self.tasks);
        }
        for outcome in udp_outcomes {
            announcing::announced_by_udp(&mut self.failing.borrow_mut(), outcome);
        }
        if woken {
            self.tasks.turn();
        }
        // A signal may also be one to read the configuration.
        Ok(if signals > 0 { self.signals.stops() } else { 0 })
    }
}

/// What a turn leads to.
impl Session {
    /// Another configuration may want the numbers to be shown, or not.
    fn begin_status(&mut self) {
        if let Some(library) = &self.library {
            self.numbers = (self.interval)(library.config.seed.quiet);
        }
    }

    /// Whether `get` has nothing more to do.
    fn goal_reached(&self) -> bool {
        if self.library.is_some() {
            return false;
        }
        let engine = self.engine.borrow();
        let enough = |torrent: &ManagedTorrent| torrent.is_enough(&engine) == Some(true);
        !self.torrents.managed.is_empty() && self.torrents.managed.iter().all(enough)
    }

    fn chores(&mut self, engine: &mut Engine) {
        flood::tell(false);
        let now = Instant::now();
        let reach = &mut self.torrents.reach;
        reach.look_up(now, &self.torrents.tracker, &self.tasks);
        // A service looks after that itself.
        if self.listening.look_after(engine, now) && self.library.is_none() {
            let now = engine.now();
            engine.node.announce_anew(now);
        }
        for torrent in &mut self.torrents.managed {
            torrent.look(engine, now);
            torrent.try_again(engine, now);
            torrent.mind_use(engine, now);
            let mut tracker = self.torrents.tracker.borrow_mut();
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
            for torrent in &mut self.torrents.managed {
                torrent.mind_stuck(engine, now);
            }
        }
        if now >= self.next_close {
            self.next_close = now + CLOSE;
            engine.worker.close_unused();
        }
        if now >= self.next_save {
            self.next_save = now + SAVE;
            for torrent in &mut self.torrents.managed {
                if self.signals.asked() {
                    break;
                }
                torrent.save(engine, &self.torrents.state);
            }
        }
        let unknown = self.torrents.unknown.say(engine, self.library.is_some());
        let (torrents, reachable) = (&self.torrents.managed, self.port_map.reachable());
        self.torrents.reach.reachable = reachable;
        if let Some(interval) = self.numbers.filter(|_| now >= self.next_numbers) {
            self.next_numbers = now + interval;
            let numbers = Numbers {
                unknown,
                reachable,
                ..numbers(engine, torrents)
            };
            self.torrents.notices.tell(Notice::Numbers(&numbers));
        }
    }

    /// Calls who asks the built-in tracker for peers: it may be unable to call us, or slow to, as some
    /// clients wait for minutes after a try over UDP.
    fn call_peers(&mut self, engine: &mut Engine) {
        let now = engine.now();
        let (torrents, wakes) = (&self.torrents.managed, &mut self.torrents.wakes);
        self.torrents
            .tracker
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
        let table = Rc::clone(&self.torrents.tracker);
        let engine = Rc::clone(&self.engine);
        let (catalogue, state) = (
            Rc::clone(&self.torrents.catalogue),
            Arc::clone(&self.torrents.state),
        );
        let (own_tracker, share_torrent) = (
            self.torrents.reach.own_tracker.clone(),
            self.torrents.reach.share_torrent,
        );
        let task = self.tasks.begin(async move {
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
        let library = self.library.take();
        let is_service = library.is_some();
        if let Some(library) = library.filter(|_| !self.again) {
            library.manager.stopping();
        }
        let engine = Rc::clone(&self.engine);
        for torrent in self
            .torrents
            .managed
            .iter_mut()
            .filter(|t| !t.is_downloading())
        {
            torrent.save_in_haste(&engine.borrow(), &self.torrents.state);
        }
        let state = &self.torrents.state;
        self.neighbours.keep(&engine.borrow(), state);
        state.sync();
        engine.borrow_mut().stop();
        self.port_map.stop();
        // The routers' tasks hear of it.
        self.torrents.alarm.ring();
        let begin = Instant::now();
        self.next_save = begin + SAVE;
        loop {
            let router = match self.port_map.is_done() {
                true => Duration::ZERO,
                false => ROUTER.saturating_sub(begin.elapsed()),
            };
            let at_rest = self.engine.borrow().is_at_rest();
            let left = match at_rest {
                true => router,
                false => self.farewell.saturating_sub(begin.elapsed()),
            };
            if left.is_zero() {
                break;
            }
            if self.turn(left)? > 0 && begin.elapsed() > SAME_SIGNAL {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        // Its last blocks had to be written first.
        let engine = engine.borrow();
        for torrent in self
            .torrents
            .managed
            .iter_mut()
            .filter(|t| t.is_downloading())
        {
            torrent.save(&engine, &self.torrents.state);
        }
        if is_service {
            // A service is never complete, so that being stopped is no failure.
            return Ok(ExitCode::SUCCESS);
        }
        self.torrents
            .managed
            .iter()
            .for_each(|t| t.say_unfinished(&engine));
        if !self.torrents.unknown.all.is_empty() {
            return Ok(ExitCode::from(UNFINISHED));
        }
        let code = self
            .torrents
            .managed
            .iter()
            .find_map(|t| t.exit_code(&engine));
        Ok(code.map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}

/// The longest time without a look at the chores: short, so that a disk that is mounted again is
/// served again within half a minute.
const CHORES: Duration = Duration::from_secs(10);

/// How often peers of the built-in tracker are called.
const PEERS: Duration = Duration::from_secs(2);

/// How often it is looked, while files are open, for those that nobody used since the last look. They are closed.
const CLOSE: Duration = Duration::from_secs(5);

/// How often the state is kept while it changes.
const SAVE: Duration = Duration::from_secs(600);

/// How long trackers have to hear the farewell.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a router has to hear that it need not forward our port any more.
const ROUTER: Duration = Duration::from_millis(900);

/// One press of Ctrl-C may arrive twice: from the terminal, and passed on by `sudo` or `timeout`.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Peers that the built-in tracker knows of at most, all torrents together.
const TRACKED_PEERS: usize = 2000;

/// The exit code when a second signal came.
const INTERRUPTED: u8 = 130;
