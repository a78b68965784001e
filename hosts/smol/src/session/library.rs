//! The library: all items of a session with their stages. Items come and go while it runs. `reload` changes its
//! configuration, and `network` handles a network that is late, absent or changed.
//!
//! Invariant: an item is stopped only if its folder was looked at and it was not there. If the folder itself is away,
//! its items stay.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everseed_core::hash::InfoHash;
use tz::TimeZone;

use super::command::Commands;
use super::fetch::{UNFINISHED, worse};
use super::index::is_torrent;
use super::item::{ItemStage, LibraryItem, Waking, fewest_turns};
use super::listening::Listening;
use super::load::{LoadRequest, LoadSettings, Purpose, Ticket};
use super::loader::Loader;
use super::network::Network;
use super::notice::Notice;
use super::scans::Scans;
use super::scout::Scout;
use super::sleeper_command::SleeperCommands;
use super::torrent::ManagedTorrent;
use super::torrents::Torrents;
use super::watch::Watch;

use crate::async_tasks::Spawner;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::net::memory::Plan;
use crate::net::way::Way;
use crate::options::run::{Config, Item};
use crate::secrets::mask_urls;
use crate::storage::dormant::Mark;
use crate::storage::worker::TorrentNumber;

/// All items of a session, awake or not.
pub(super) struct Library {
    /// Whether this is a service, which goes on whatever happens: see [`Attendance`](super::Attendance).
    pub(super) is_service: bool,
    pub(super) config: Config,
    pub(super) items: Vec<LibraryItem>,
    pub(super) watches: Vec<Watch>,
    pub(super) scout: Scout,
    pub(super) scans: Scans,
    /// The logged reason why content waits.
    pub(super) said_why_content_waits: String,
    /// The number of descriptions added in this run when content was last compared with them.
    pub(super) described: u64,
    /// Sleeping torrents that are being opened.
    pub(super) waking: Vec<Waking>,
    /// The most torrents that are known, awake and asleep.
    pub(super) most_known: usize,
    pub(super) loader: Loader,
    /// What is being done to sleeping torrents.
    pub(super) sleepers: SleeperCommands,
    /// The begin of this session.
    pub(super) begun: Instant,
    /// The sender of commands for what is found in watched folders.
    pub(super) commands: Commands,
    /// Starts work that writes to the disk or waits for it.
    pub(super) spawner: Spawner,
    pub(super) next_poll: Instant,
    /// The next removal of unneeded state.
    pub(super) next_prune: Instant,
    /// Until this time callers wait, because known torrents are still being opened.
    starting: Option<Instant>,
    /// The memory plan.
    pub(super) room: Plan,
    /// Whether named items need more memory than was known at the start.
    pub(super) outgrown: bool,
    network: Network,
    /// The present limits up and down, in bytes per second.
    pub(super) rates: (Option<u64>, Option<u64>),
    /// The time zone of rates by hour, once it was needed.
    pub(super) zone: Option<TimeZone>,
}

impl Library {
    /// A library without items.
    pub(super) fn new(
        config: Config,
        room: Plan,
        torrents: &Torrents,
        loader: Loader,
        way_out: &Way,
        spawner: Spawner,
        commands: Commands,
    ) -> Library {
        Library {
            is_service: false,
            items: Vec::new(),
            watches: Vec::new(),
            scout: Scout::new(torrents.state.clone(), torrents.alarm.clone()),
            scans: Scans::default(),
            said_why_content_waits: String::new(),
            described: 0,
            waking: Vec::new(),
            most_known: room.torrents + room.asleep,
            loader,
            sleepers: SleeperCommands::new(),
            begun: Instant::now(),
            commands,
            spawner,
            next_poll: Instant::now(),
            next_prune: Instant::now() + PRUNE_AFTER,
            starting: None,
            room,
            outgrown: false,
            network: Network::new(way_out),
            rates: (config.seed.up, config.down),
            zone: None,
            config,
        }
    }

    /// Hears the loader and the scout; called once a turn. Loaded torrents are started; what came to the watched folders
    /// and left them is sent as commands. Returns whether there was any news.
    pub(super) fn take_reports(&mut self, torrents: &mut Torrents, engine: &mut Engine) -> bool {
        let mut any = std::mem::take(&mut torrents.checked);
        while !torrents.signals.asked()
            && let Some(loaded) = self.loader.next()
        {
            self.loaded(torrents, engine, loaded);
            any = true;
        }
        self.wake_wanted(torrents, engine);
        self.end_what_is_enough(torrents, engine);
        any | self.take_scout_reports(torrents, engine)
    }

    /// Handles everything that is due; called once a turn, after [`take_reports`](Self::take_reports) and the commands. Work
    /// that may take long stops when a signal asks to stop, and leaves its state as it was.
    pub(super) fn run_due(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        listening: &Listening,
        any: bool,
    ) {
        let now = Instant::now();
        self.remake_changed(torrents, engine);
        self.settle(now);
        if self.is_service {
            self.look_at_torrent_files(torrents, engine, now);
        }
        if any {
            self.begin(torrents, engine, now);
            self.verify_sleepers(torrents, engine);
        }
        if self.takes_more(engine) {
            self.next_poll = now;
        }
        if now >= self.next_poll {
            self.poll(torrents, engine, listening, now);
        }
        self.accept_callers(engine, now);
    }

    /// Handles what is due every ten seconds.
    fn poll(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        listening: &Listening,
        now: Instant,
    ) {
        self.next_poll = now + POLL;
        let items = &self.items;
        let wanted = |given: &Path| {
            let its = |i: &LibraryItem| i.item.path == given && i.stage != ItemStage::Paused;
            items.iter().any(its)
        };
        torrents.unknown.keep(engine, wanted);
        self.apply_rates(engine);
        self.back_to_sleep(torrents, engine);
        let changes = listening.changes;
        if self.network.has_changed(&engine.way_out, changes, now) {
            self.renew(torrents, engine, listening);
        }
        self.scan(torrents, engine);
        if self.is_service {
            self.look_for_goals(torrents, now);
            self.prune(torrents, now);
        }
        self.begin(torrents, engine, now);
        self.verify_sleepers(torrents, engine);
        // After many items it keeps room for as many again.
        self.items.shrink_to(self.most_awake());
    }

    /// Does not wait for its threads any longer.
    pub(super) fn give_up(&self) {
        self.scout.give_up();
    }

    /// The time for which it may be left alone, at most `limit`.
    pub(super) fn patience(&self, limit: Duration) -> Duration {
        let settled = self.items.iter().filter_map(|managed| match managed.stage {
            ItemStage::Settling(at) if !managed.looking => Some(at),
            ItemStage::Running(_) if !managed.looking && managed.is_found_content() => {
                Some(managed.next_look)
            }
            _ => None,
        });
        let now = Instant::now();
        let times = settled.chain(self.starting).chain([self.next_poll]);
        times.fold(limit, |limit, at| {
            limit.min(at.saturating_duration_since(now))
        })
    }

    /// Accepts callers once all known torrents are open. Earlier, peers and clients of the built-in tracker would be
    /// told that a torrent is unknown.
    fn accept_callers(&mut self, engine: &mut Engine, now: Instant) {
        let Some(until) = self.starting else { return };
        let unsure = |LibraryItem { item, stage, .. }: &LibraryItem| match stage {
            ItemStage::Found | ItemStage::Probing(_) => true,
            // Items in other stages are being made, or fetched from a server.
            ItemStage::Ready | ItemStage::Loading(_) => {
                is_torrent(&item.path) && item.path.is_absolute()
            }
            _ => false,
        };
        let unread = self.scans.is_running() && self.watches.iter().any(|watch| !watch.is_read());
        if now >= until || !unread && !self.items.iter().any(unsure) {
            self.starting = None;
            engine.pause_listening(None);
        }
    }

    /// Lets callers wait until known torrents are open, because they would be told that those are unknown.
    pub(super) fn keep_callers_waiting(&mut self, engine: &mut Engine) {
        self.starting = Some(Instant::now() + STARTING);
        engine.pause_listening(Some(STARTING));
    }

    /// The most torrents that are awake. Those that are named one by one never sleep.
    pub(super) fn most_awake(&self) -> usize {
        let named = self.items.iter().filter(|item| item.folder.is_none());
        let most = usize::from(self.config.torrents) + named.count();
        most.min(self.room.torrents)
    }

    /// Has the loader open the items that are ready.
    fn begin(&mut self, torrents: &Torrents, engine: &Engine, now: Instant) {
        let content_waits = self.content_waits();
        let count = |of: fn(&ItemStage) -> bool| self.items.iter().filter(|m| of(&m.stage)).count();
        let mut loading = count(|stage| matches!(stage, ItemStage::Loading(_)));
        let mut probing = count(|stage| matches!(stage, ItemStage::Probing(_)));
        let stays = |t: &&ManagedTorrent| t.may_sleep(engine).is_none();
        let places = self
            .most_awake()
            .saturating_sub(torrents.awake.iter().filter(stays).count());
        let given = self
            .idle(torrents, engine, now)
            .filter(|(until, _)| *until <= now);
        let for_queue = places + given.count();
        let turns = fewest_turns(&self.items);
        let checking = torrents.awake.iter().any(|t| t.checked().is_some());
        for managed in &mut self.items {
            // A torrent may sleep after its check, so its place will be free.
            if checking && loading + probing >= places || torrents.signals.asked() {
                return;
            }
            let purpose = match managed.stage {
                ItemStage::Found if probing < LOADING_MAX => Purpose::Probe,
                _ if loading >= LOADING_MAX => continue,
                ItemStage::Ready => managed.purpose(),
                ItemStage::Waiting(again) if again <= now => managed.purpose(),
                ItemStage::Queued(_) if loading >= for_queue || managed.turns > turns => continue,
                ItemStage::Queued(again) if again <= now => managed.purpose(),
                ItemStage::Behind(hash) if !torrents.hold(engine, hash) => managed.purpose(),
                _ => continue,
            };
            let fresh = managed.complete_at >= self.scans.reported();
            if managed.is_found_content() && (content_waits || fresh) {
                continue;
            }
            let own_tracker = &torrents.reach.own_tracker;
            let settings = LoadSettings::new(&self.config.seed, own_tracker, &engine.way_out);
            let ticket = self.loader.ask(managed.load_request(purpose, settings));
            if let Purpose::Probe = purpose {
                probing += 1;
                managed.stage = ItemStage::Probing(ticket);
            } else {
                loading += 1;
                managed.stage = ItemStage::Loading(ticket);
            }
        }
    }

    /// Has the loader open a sleeping item whose mark was `mark`. Returns its ticket.
    pub(super) fn open_again(&mut self, torrents: &Torrents, item: Item, mark: Mark) -> Ticket {
        let own_tracker = &torrents.reach.own_tracker;
        // The torrent is here already, so nothing is fetched.
        let way = Way::default();
        self.loader.ask(LoadRequest {
            folder: item.path.parent().map(Path::to_owned),
            item,
            purpose: Purpose::Wake(mark),
            settings: LoadSettings::new(&self.config.seed, own_tracker, &way),
        })
    }

    /// The metadata of these magnet links is here: they are loaded at once.
    pub(super) fn fetched(&mut self, done: &[(PathBuf, InfoHash)]) {
        let its = |managed: &&mut LibraryItem| {
            // An item that is loading was looked for before the metadata came.
            use ItemStage::{Loading, Queued, Waiting};
            let waits = matches!(managed.stage, Waiting(_) | Queued(_) | Loading(_));
            waits && done.iter().any(|(given, _)| *given == managed.item.path)
        };
        for managed in self.items.iter_mut().filter(its) {
            let hash = done.iter().find(|(given, _)| *given == managed.item.path);
            managed.info_hash = hash.map(|(_, info_hash)| *info_hash);
            managed.stage = ItemStage::Ready;
        }
    }

    /// Stops downloads that were seeded enough.
    fn end_what_is_enough(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        if self.is_all_done(torrents, engine) {
            // The session ends with them.
            return;
        }
        let enough = |t: &&ManagedTorrent| t.is_enough(engine) == Some(true);
        let enough: Vec<(TorrentNumber, Option<u8>)> = torrents
            .awake
            .iter()
            .filter(enough)
            .map(|torrent| (torrent.number(), torrent.exit_code(engine)))
            .collect();
        for (number, code) in enough {
            if let Some(managed) = self.item_of(number) {
                if code.is_none() {
                    let path = managed.item.path.display().to_string();
                    log::warn!(target: EVENT, "{}: it has reached its goal", mask_urls(&path));
                }
                let torrent = torrents.awake.get(number);
                if let Some(torrent) = torrent.filter(|_| code.is_some()) {
                    torrent.say_unfinished(engine);
                }
                stop(torrents, engine, managed);
                managed.stage = ItemStage::Ended(code.unwrap_or(0));
            }
        }
    }

    /// The item of the torrent with this number.
    pub(super) fn item_of(&mut self, number: TorrentNumber) -> Option<&mut LibraryItem> {
        let mut items = self.items.iter_mut();
        items.find(|managed| managed.stage == ItemStage::Running(number))
    }

    /// Whether nothing is left to do for a session that then ends.
    pub(super) fn is_all_done(&self, torrents: &Torrents, engine: &Engine) -> bool {
        let is_enough = |number| {
            let torrent = torrents.awake.get(number);
            torrent.and_then(|torrent| torrent.is_enough(engine)) == Some(true)
        };
        !self.is_service
            && !self.items.is_empty()
            && self.items.iter().all(|managed| match managed.stage {
                ItemStage::Ended(_) => true,
                ItemStage::Running(number) => is_enough(number),
                _ => false,
            })
    }

    /// The exit code if the session ends now: the worst one.
    pub(super) fn exit_code(&self, torrents: &Torrents, engine: &Engine) -> u8 {
        let codes = self.items.iter().map(|managed| match managed.stage {
            ItemStage::Ended(code) => code,
            ItemStage::Running(number) => {
                let torrent = torrents.awake.get(number);
                torrent.and_then(|t| t.exit_code(engine)).unwrap_or(0)
            }
            _ if managed.item.fetch.is_some() => UNFINISHED,
            _ => 0,
        });
        codes.fold(0, worse)
    }
}

pub(super) fn stop(torrents: &mut Torrents, engine: &mut Engine, managed: &LibraryItem) {
    if let ItemStage::Running(number) = managed.stage {
        if let Some(torrent) = torrents.awake.get(number) {
            torrents
                .notices
                .tell(Notice::Stopped(torrent.content.name().as_bytes()));
            torrents.state.parted_with(torrent.info_hash());
        }
        torrents.drop_torrent(engine, number);
    }
}

/// The interval at which folders and the network are looked at: 360 times an hour, from memory.
pub(super) const POLL: Duration = Duration::from_secs(10);

/// The time after a start at which unneeded state is first removed.
const PRUNE_AFTER: Duration = Duration::from_secs(20);

/// The longest time for which callers wait at a start.
pub(super) const STARTING: Duration = Duration::from_secs(5);

/// The most items that are opened at a time.
const LOADING_MAX: usize = 16;
