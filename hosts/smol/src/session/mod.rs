//! The session: the torrents of `everseed seed`, `get` and `run`, and all that is done with them.
//!
//! A `Session` owns its parts side by side: `Torrents`, the awake and sleeping torrents; the `Library`, all items
//! with their stages; the addresses to listen on; and the front end. A part is told what it needs of the others, and
//! names none that is above it.
//!
//! | file | contents |
//! |---|---|
//! | `opening` | the start of a session |
//! | `command`, `notice`, `front`; `execute`, `hangup` | commands and notices; what each command does; SIGHUP |
//! | `turn`, `farewell` | one turn of the session, and its end |
//! | `torrents`, `awake`, `torrent` | all torrents; those that are awake; one of these from its first check to its end |
//! | `library`, `item` | the items; `reload`, `scan`, `asleep`, `sleepers`, `sleeper_command`, `silence`, `turns`, `renewal`, `content` and `links` change them |
//! | `loader`, `load`, `opener`, `kept`, `claims`, `fetch`, `download`, `loaded` | from a path to a torrent, on threads of their own |
//! | `scans`, `watch`, `scout`, `index` | watched folders, scanned on a thread of their own |
//! | `announcing`, `lookups` | announces to trackers |
//! | `listening`, `network`, `reach` | the addresses that we listen on, and those that others are told |

mod announcing;
mod asleep;
mod awake;
mod claims;
mod command;
mod content;
mod dht;
mod download;
mod execute;
mod farewell;
mod fetch;
pub(crate) mod foresee;
mod front;
mod hangup;
mod identity;
mod index;
mod item;
mod kept;
mod library;
mod links;
mod listening;
mod load;
mod loaded;
mod loader;
mod lookups;
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
mod scans;
mod scout;
mod signals;
mod silence;
mod sleeper_command;
mod sleepers;
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

use everseed_core::tracker::Family;
use everseed_node::{Identity, Limits};

use self::announcing::Failing;
use self::awake::AwakeTorrents;
pub use self::command::{
    Addition, Command, Commands, Found, Gone, MOST_WAITING, SessionLimits, Which,
};
use self::dht::Neighbours;
pub use self::front::Front;
use self::hangup::Hangup;
use self::identity::{peer_id, random};
use self::library::Library;
use self::listening::Listening;
use self::loader::Loader;
use self::network::say_ours;
pub use self::notice::{Introduction, LeftOut, Notice, Notices};
pub use self::numbers::Numbers;
use self::port_map::PortMap;
use self::reach::{Reach, hosts};
use self::room::{limits, publicity};
use self::signals::Signals;
pub(crate) use self::signals::outlive_long_files;
use self::systemd::Manager;
use self::torrents::Torrents;
use self::unknown::Unknowns;
use crate::alarm::Alarm;
use crate::allocator;
use crate::async_tasks::AsyncTasks;
use crate::failure::Failure;
use crate::net::engine::Engine;
use crate::net::memory::Plan;
use crate::options::run::{Config, RunArgs};
use crate::storage::catalogue::Catalogue;
use crate::storage::paused::PausedItems;
use crate::storage::state::StateFolder;
use crate::storage::worker::TorrentNumber;
use crate::trace::Traced;
use crate::web::clients::Clients;
use crate::web::tracker::PeerTable;

/// How a session is attended, which decides when it ends and what it does about trouble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attendance {
    /// A person started it for some items. An item that cannot be opened is reported at once and ends the session, or
    /// its download. The session ends when all downloads are done.
    Attended,
    /// Nobody attends. What is away, late or damaged is waited for; .torrent files are watched; disks may sleep; the
    /// state is kept small; SIGHUP reads the configuration again; and the service manager is told the status.
    Service(RunArgs),
}

/// Runs a session with this configuration, until it is told to stop or everything is done.
pub fn run(config: Config, attendance: Attendance, front: Front) -> Result<ExitCode, Failure> {
    let mut session = match attendance {
        Attendance::Service(args) => Session::open_service(args, config, front)?,
        Attendance::Attended => match Session::open(config, front)? {
            Ok(session) => session,
            Err(code) => return Ok(ExitCode::from(code)),
        },
    };
    allocator::settle();
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

/// The parts that exist before a session has torrents.
struct Base {
    state: Arc<StateFolder>,
    alarm: Arc<Alarm>,
    loader: Loader,
    front: Front,
}

impl Base {
    fn new(state: StateFolder, front: Front) -> Result<Base, String> {
        let state = Arc::new(state);
        let alarm = Alarm::new().map_err(cannot_start)?;
        let loader = Loader::new(
            Arc::clone(&state),
            Arc::clone(&alarm),
            front.notices.clone(),
        );
        Ok(Base {
            state,
            alarm,
            loader,
            front,
        })
    }
}

fn cannot_start(error: io::Error) -> String {
    format!("cannot start: {error}")
}

/// A running session; in a box, because each move would leave its size on the stack.
struct Session {
    signals: Rc<Signals>,
    engine: Rc<RefCell<Engine>>,
    tasks: AsyncTasks,
    torrents: Torrents,
    /// All items with their stages.
    library: Library,
    commands: Commands,
    /// The reader of the configuration, for a service.
    hangup: Option<Hangup>,
    manager: Manager,
    listening: Listening,
    port_map: PortMap,
    neighbours: Neighbours,
    /// Trackers that do not answer.
    failing: Rc<RefCell<Failing>>,
    /// HTTP connections that are being served.
    web: Clients,
    /// The interval of notices with the numbers, if there are any.
    numbers: Option<Duration>,
    interval: fn(bool) -> Option<Duration>,
    next_numbers: Instant,
    /// The next time at which the service manager is told the status.
    next_word: Instant,
    next_save: Instant,
    /// The next time at which unused files are closed.
    next_close: Instant,
    /// The next time at which peers of the built-in tracker are called.
    next_peers: Instant,
    /// Whether the program starts anew after the end, because the configuration needs that.
    again: bool,
    /// Whether a command asked to stop.
    stopped: bool,
    /// Whether the session is stopping, so that nothing is begun.
    ending: bool,
}

impl Session {
    fn new(
        config: Config,
        base: Base,
        listening: Listening,
        plan: Plan,
    ) -> Result<Box<Session>, String> {
        let Base {
            state,
            alarm,
            loader,
            front,
        } = base;
        let args = &config.seed;
        let local = listening.local();
        let reach = Reach::new(args, local);
        let identity = Identity {
            peer_id: peer_id(),
            port: reach.told_port(Family::V4),
            client: concat!("everseed ", env!("CARGO_PKG_VERSION")),
        };
        let notices = front.notices;
        notices.tell(Notice::Memory {
            most: args.memory,
            plan: &plan.to_string(),
        });
        let limits = Limits {
            download_bps: config.down,
            ..limits(args, &plan)
        };
        // Some sleeping torrents have peers too.
        let mut tracker = PeerTable::new(2 * plan.torrents, TRACKED_PEERS, reach.port(), random());
        tracker.set_names(hosts(&args.make.trackers.concat(), &reach.own_tracker));
        let catalogue = Catalogue::new(state.catalogue_file(), plan.names());
        let trace = args.trace.as_deref();
        let node =
            Traced::new(plan.lend(), identity, limits, random(), trace).map_err(|error| {
                let path = trace.unwrap_or(Path::new(""));
                format!("{}: {error}; see --trace", path.display())
            })?;
        let tasks = AsyncTasks::new(alarm.clone()).map_err(cannot_start)?;
        let (signals, woken) = Signals::new().map_err(cannot_start)?;
        let mut engine =
            Engine::new(node, &plan, args.send, alarm.clone(), woken).map_err(cannot_start)?;
        engine.publicity = publicity(args);
        let signals = Rc::new(signals);
        let engine = Rc::new(RefCell::new(engine));
        let named_trackers = args.make.trackers.concat();
        let unknown = Unknowns::new(
            Arc::clone(&state),
            Rc::clone(&engine),
            tasks.spawner(),
            named_trackers,
        );
        let torrents = Torrents {
            paused: PausedItems::load(&state, plan.names()),
            state,
            alarm,
            notices,
            signals: Rc::clone(&signals),
            awake: AwakeTorrents::with_room(plan.torrents),
            catalogue: Rc::new(RefCell::new(catalogue)),
            wakes: Vec::new(),
            unknown,
            tracker: Rc::new(RefCell::new(tracker)),
            reach,
            named_trackers: Arc::new(args.make.trackers.clone()),
            check: args.check,
            leaves_idle_files: false,
            checked: false,
            last_number: TorrentNumber::default(),
        };
        let way = engine.borrow().way_out.clone();
        let spawner = tasks.spawner();
        let commands = front.commands;
        commands.wake_by(Arc::clone(&torrents.alarm));
        let (port_map, neighbours) = (PortMap::new(args), Neighbours::new(args));
        let numbers = (front.numbers)(args.quiet);
        Ok(Box::new(Session {
            signals,
            engine,
            tasks,
            library: Library::new(
                config,
                plan,
                &torrents,
                loader,
                &way,
                spawner,
                commands.clone(),
            ),
            torrents,
            commands,
            hangup: None,
            manager: Manager::nobody(),
            listening,
            port_map,
            neighbours,
            failing: Rc::default(),
            web: Clients::new(plan.web),
            interval: front.numbers,
            numbers,
            next_numbers: Instant::now(),
            next_word: Instant::now(),
            next_save: Instant::now() + SAVE,
            next_close: Instant::now(),
            next_peers: Instant::now(),
            again: false,
            stopped: false,
            ending: false,
        }))
    }

    /// Accepts peers at all bound addresses.
    fn open_listeners(&mut self) {
        let mut engine = self.engine.borrow_mut();
        self.listening.open_first(&mut engine);
        self.neighbours.begin(&mut engine, &self.torrents.state);
        say_ours(&mut engine, &self.torrents.reach);
    }
}

/// The interval at which changed state is saved.
const SAVE: Duration = Duration::from_secs(600);

/// The most peers that the built-in tracker knows, of all torrents together.
const TRACKED_PEERS: usize = 2000;

#[cfg(test)]
mod tests;
