//! Changing to another configuration while the session runs.
//!
//! Invariant: the present configuration is left only for one that can be carried out. Limits and items change while
//! peers stay connected. For keys that are fixed at a start (memory, state, addresses) the program starts anew in
//! place, which disconnects all.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use everseed_node::Limits;

use super::command::SessionLimits;
use super::item::{ItemStage, LibraryItem};
use super::library::Library;
use super::room::limits;
use super::room::{most_awake, plan_room, room};
use super::torrents::Torrents;
use crate::clock::time_of_day;
use crate::failure::Failure;
use crate::net::engine::Engine;
use crate::net::memory::Plan;
use crate::options::get::Fetch;
use crate::options::rates::{self, Moment};
use crate::options::run::Config;
use crate::options::seed::SeedArgs;
use crate::text::size;

impl Library {
    /// Whether the session can change to another configuration in place: only keys that can change differ, and the
    /// memory is enough.
    pub(super) fn takes(&self, config: &Config) -> bool {
        let now = &self.config;
        let what = |config: &Config| config.download.as_ref().map(Fetch::without_goal);
        let fixed = Config {
            seed: SeedArgs {
                up: now.seed.up,
                slots: now.seed.slots,
                max_peers: now.seed.max_peers,
                check: now.seed.check,
                quiet: now.seed.quiet,
                log: now.seed.log,
                ..config.seed.clone()
            },
            down: now.down,
            rates: now.rates.clone(),
            download: now.download.clone(),
            watch: now.watch.clone(),
            items: now.items.clone(),
            ..config.clone()
        };
        let mut needed = Plan::default();
        let named = self.items.iter().filter(|item| item.folder.is_none());
        let added = named.count().saturating_sub(now.items.len());
        let torrents = match config.watch.is_empty() {
            true => config.items.len(),
            false => most_awake(config),
        };
        let torrents = torrents + added;
        plan_room(&mut needed, config, torrents);
        // Limits below the fixed ones are chosen later.
        let limits = |config: &Config| (config.seed.slots, config.seed.max_peers);
        let more = limits(config) != limits(now)
            && room(config)
                .is_ok_and(|room| room.slots > self.room.slots || room.peers > self.room.peers);
        // A service counts torrents; others count each torrent's size, and find out whether it fits when it is
        // opened.
        let room = !self.is_service || self.room.has_room_for(&needed) && !more;
        fixed == *now && what(config) == what(now) && room
    }
}

/// Rates by the hour.
impl Library {
    /// The present upload and download limits.
    fn rates_now(&mut self) -> (Option<u64>, Option<u64>) {
        let usual = (self.config.seed.up, self.config.down);
        if self.config.rates.is_empty() {
            return usual;
        }
        let zone = self.zone.get_or_insert_with(rates::zone);
        let moment = Moment::new(time_of_day(), zone);
        rates::at(&self.config.rates, moment, usual)
    }

    /// Applies other limits when their hours begin or end. No peer is disconnected.
    pub(super) fn apply_rates(&mut self, engine: &mut Engine) {
        let rates = self.rates_now();
        if rates == self.rates {
            return;
        }
        self.rates = rates;
        self.limit(engine);
        let shown = |rate: Option<u64>| match rate {
            Some(rate) => format!("at most {}/s", size(rate)),
            None => "without a limit".to_owned(),
        };
        let (up, down) = (shown(rates.0), shown(rates.1));
        log::info!("limits from now on: up {up}, down {down}");
    }

    /// Applies other limits from now on.
    pub(super) fn set_limits(&mut self, engine: &mut Engine, limits: SessionLimits) {
        limits.hold_in(&mut self.config);
        self.zone = None;
        self.apply_rates(engine);
        self.limit(engine);
    }

    fn limit(&self, engine: &mut Engine) {
        let limits = Limits {
            upload_bps: self.rates.0,
            download_bps: self.rates.1,
            ..limits(&self.config.seed, &self.room)
        };
        engine.node.set_limits(limits);
    }
}

impl LibraryItem {
    /// Sets another goal, or calls other peers for the item.
    pub(super) fn set_goal(&mut self, torrents: &mut Torrents, goal: &Fetch) {
        let Some(fetch) = &mut self.item.fetch else {
            return;
        };
        let goal = Fetch {
            out: fetch.out.clone(),
            ..goal.clone()
        };
        if **fetch == goal {
            return;
        }
        **fetch = goal;
        match self.stage {
            ItemStage::Running(number) => {
                if let Some(torrent) = torrents.awake.get_mut(number) {
                    torrent.set_goal(fetch);
                }
            }
            // The upload may not be enough any more.
            ItemStage::Ended(_) => self.stage = ItemStage::Ready,
            _ => {}
        }
    }
}

/// Replaces this process by a new one with the same arguments. Returns only if that fails.
pub(super) fn start_again() -> Failure {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let program = match program() {
        Ok(program) => program,
        Err(error) => return Failure::Failed(error),
    };
    let error = Command::new(&program).arg0(name).args(args).exec();
    Failure::Failed(format!("{}: {error}", program.display()))
}

/// The path of the program, if it can be started. A program that was replaced is at its former path; one that was
/// removed cannot be started again, so the process goes on.
pub(super) fn program() -> Result<PathBuf, String> {
    let program = std::env::current_exe().unwrap_or_default();
    let shown = program.to_string_lossy().into_owned();
    let program = match shown.strip_suffix(" (deleted)") {
        Some(path) if Path::new(path).is_file() => PathBuf::from(path),
        Some(_) => PathBuf::from("/proc/self/exe"),
        None => program,
    };
    let usable = rustix::fs::access(&program, rustix::fs::Access::EXEC_OK);
    match usable {
        Ok(()) => Ok(program),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}
