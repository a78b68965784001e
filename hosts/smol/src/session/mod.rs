//! The torrents that are shared, and what happens to them: `everseed seed`, `get` and `run`.
//!
//! A `Session` owns its parts side by side: `Torrents`, those that are awake and asleep; the `Library` of a
//! service, what is to be shared and how far each of it has come; where it listens; what is shown. A part is told what
//! it needs of the others, and names none that is above it.
//!
//! | file | what is in it |
//! |---|---|
//! | `opening`, `fetching` | how a session begins, and `get` with a magnet link |
//! | `turn`, `farewell` | one round of everything, and the end |
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
mod farewell;
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
mod turn;
mod turns;
mod unknown;
mod watch;

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_node::{Identity, Limits};

use self::announcing::Failing;
use self::dht::Neighbours;
pub use self::front::Front;
use self::identity::{peer_id, random};
use self::library::Library;
use self::listening::Listening;
use self::network::say_ours;
pub use self::notice::{Introduction, LeftOut, Notice, Notices};
pub use self::numbers::Numbers;
use self::port_map::PortMap;
use self::reach::{Reach, hosts};
use self::room::{limits, publicity};
use self::signals::Signals;
pub(crate) use self::signals::outlive_long_files;
use self::torrents::Torrents;
use self::unknown::{Awaited, Unknowns};
use crate::alarm::Alarm;
use crate::async_tasks::AsyncTasks;
use crate::failure::Failure;
use crate::memory::Plan;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::options::run::{Config, RunArgs};
use crate::options::seed::SeedArgs;
use crate::storage::catalogue::Catalogue;
use crate::storage::state::StateFolder;
use crate::trace::Traced;
use crate::web::clients::Clients;
use crate::web::tracker::PeerTable;

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
}

/// How often the state is kept while it changes.
const SAVE: Duration = Duration::from_secs(600);

/// How long trackers have to hear the farewell.
const FAREWELL: Duration = Duration::from_secs(5);

/// Peers that the built-in tracker knows of at most, all torrents together.
const TRACKED_PEERS: usize = 2000;
