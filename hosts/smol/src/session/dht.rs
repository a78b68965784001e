//! The DHT's nodes: lookups of their host names, and the file `STATE/dht`, which keeps known nodes from one run to
//! the next.
//!
//! Invariant: no name is looked up with a proxy, while calls are tied to an interface, or while only this machine can
//! reach us.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use everseed_disk::{read_regular, replace_soon};
use everseed_node::discovery::dht::{KEPT_MAX, Mode};
use everseed_node::trace::Input;

use crate::async_tasks::AsyncTasks;
use crate::net::engine::Engine;
use crate::options::seed::SeedArgs;
use crate::storage::state::StateFolder;

/// The nodes that the DHT begins with.
pub(super) struct Neighbours {
    mode: Mode,
    /// Nodes that the owner named.
    names: Vec<String>,
    next_keep: Instant,
    kept: Vec<u8>,
    /// Whether it was logged that no node was found.
    logged: Rc<Cell<bool>>,
}

impl Neighbours {
    pub(super) fn new(args: &SeedArgs) -> Neighbours {
        Neighbours {
            mode: args.dht,
            names: args.dht_nodes.clone(),
            next_keep: Instant::now() + KEEP,
            kept: Vec::new(),
            logged: Rc::default(),
        }
    }

    /// Adds the nodes that the last run knew, and those that the owner named by address.
    pub(super) fn begin(&mut self, engine: &mut Engine, state: &StateFolder) {
        if self.mode == Mode::Off {
            return;
        }
        if engine.way_out.proxy().is_some() {
            log::warn!(
                "the DHT uses UDP, which does not go through the proxy: it is off, as with --dht off"
            );
        }
        self.kept = read_regular(&file(state), KEPT_MAX as u64).unwrap_or_default();
        engine.join_dht(self.mode, &self.kept);
        for addr in self.names.iter().filter_map(|name| name.parse().ok()) {
            tell(engine, addr);
        }
    }

    /// Looks names up if no known node answers, and saves the known nodes now and then. `beyond` tells whether more
    /// than this machine can reach us.
    pub(super) fn run_due(
        &mut self,
        engine: &mut Engine,
        shared: &Rc<RefCell<Engine>>,
        state: &StateFolder,
        tasks: &AsyncTasks,
        finds: bool,
        beyond: bool,
    ) {
        if self.mode == Mode::Off {
            return;
        }
        let (finds, names, way) = (finds && beyond, &self.names, &engine.way_out);
        if finds && way.is_tied() && !self.logged.replace(true) {
            log::warn!(
                "no node of the DHT is known, and names are not looked up while calls leave by one interface only: \
                 give an address, --dht-node IP:PORT"
            );
        }
        if finds && way.proxy().is_none() && !way.is_tied() {
            let usual = USUAL.iter().copied().filter(|_| names.is_empty());
            let of_torrents = engine.named_nodes.iter();
            let named = names.iter().chain(of_torrents).map(String::as_str);
            let all = named.chain(usual);
            for name in all.map(str::to_owned) {
                let (shared, said) = (Rc::clone(shared), Rc::clone(&self.logged));
                tasks.spawn(async move {
                    match smol::net::resolve(name.as_str()).await {
                        Ok(found) => {
                            let mut engine = shared.borrow_mut();
                            found
                                .iter()
                                .take(EACH)
                                .for_each(|&addr| tell(&mut engine, addr));
                        }
                        Err(error) if !said.replace(true) => log::warn!(
                            "{name}: {error}; no DHT node is known yet, so the DHT finds no peers. It is tried again; \
                             --dht-node HOST:PORT names another one"
                        ),
                        Err(error) => log::debug!("{name}: {error}"),
                    }
                });
            }
        }
        if Instant::now() >= self.next_keep {
            self.next_keep = Instant::now() + KEEP;
            self.keep(engine, state);
        }
    }

    /// Saves the known nodes, if they have changed.
    pub(super) fn keep(&mut self, engine: &Engine, state: &StateFolder) {
        let mut out = vec![0; KEPT_MAX];
        let len = engine.node.keep_dht(&mut out);
        let Some(len) = len.filter(|_| self.mode != Mode::Off) else {
            return;
        };
        out.truncate(len);
        if out == self.kept {
            return;
        }
        match replace_soon(&file(state), |to| to.write_all(&out)) {
            Ok(()) => self.kept = out,
            Err(error) => log::debug!("{}: {error}", file(state).display()),
        }
    }
}

fn tell(engine: &mut Engine, addr: SocketAddr) {
    engine.node.input(Input::DhtNode(addr));
}

fn file(state: &StateFolder) -> PathBuf {
    state.folder().join("dht")
}

/// Nodes of several operators, for whoever knows no others.
const USUAL: [&str; 3] = [
    "dht.libtorrent.org:25401",
    "dht.transmissionbt.com:6881",
    "router.bittorrent.com:6881",
];

/// The most addresses that are taken of a name.
const EACH: usize = 4;

/// The interval at which known nodes are saved.
const KEEP: Duration = Duration::from_secs(3600);
