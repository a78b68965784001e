//! What is to be shared and how far each of it has come: torrents come and go while it runs, another configuration is
//! taken (see `reload`), and the network may be late, leave or change (see `network`).
//!
//! Invariant: something is stopped only when its place was looked at and it was not in it; a folder
//! that is away takes nothing with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everseed_core::hash::InfoHash;
use everseed_disk::Content;
use tz::TimeZone;

use super::fetch::{Download, UNFINISHED, worse};
use super::index::{is_link, is_torrent};
use super::item::{AWAY, ItemStage, LibraryItem, Renewing, Waking, wait};
use super::listening::Listening;
use super::loader::{LoadOutcome, LoadRequest, Loaded, Loader};
use super::network::Network;
use super::notice::Notice;
use super::opener::OpenedTorrent;
use super::reach::introduction;
use super::room::plan;
use super::scout::Scout;
use super::torrent::ManagedTorrent;
use super::torrents::Torrents;
use super::trouble::Trouble;
use super::watch::Watch;

use crate::async_tasks::Spawner;
use crate::logging::flood::EVENT;
use crate::memory::Plan;
use crate::net::engine::Engine;
use crate::net::way::Way;
use crate::options::run::{Config, Item};
use crate::secrets::mask_urls;
use crate::storage::catalogue::Mark;

/// Everything that is looked after, awake or not.
pub(super) struct Library {
    /// Whether nobody looks at it, and it goes on whatever happens: see [`Attendance`](super::Attendance).
    pub(super) is_service: bool,
    pub(super) config: Config,
    pub(super) items: Vec<LibraryItem>,
    pub(super) watches: Vec<Watch>,
    pub(super) scout: Scout,
    /// Which watched folders these are, as they change.
    pub(super) survey: u64,
    /// Whether the scout looks at them.
    pub(super) surveying: bool,
    /// How often they began to, and how often that was heard.
    pub(super) surveys: (u64, u64),
    /// When they began to last, unless it was said that it takes long.
    pub(super) surveying_since: Option<Instant>,
    /// What `more` was then.
    pub(super) more_before: bool,
    /// Whether there is more in the folders than was taken in.
    pub(super) more: bool,
    /// Why that is not taken in, as it was said last.
    pub(super) full: String,
    /// Why content waits, as it was said last.
    pub(super) said_why_content_waits: String,
    /// How many descriptions had been added in this run when it was looked what they are of.
    pub(super) described: u64,
    /// Torrents that are asleep and being opened.
    pub(super) waking: Vec<Waking>,
    /// Torrents that are known at most, awake and asleep.
    pub(super) most_known: usize,
    pub(super) loader: Loader,
    /// Where what writes to the disk, or waits for it, is begun.
    pub(super) spawner: Spawner,
    pub(super) next_ticket: u64,
    pub(super) next_poll: Instant,
    /// When the state is looked through for what is not needed any more.
    pub(super) next_prune: Instant,
    /// Until when callers wait, as what is known is still being opened.
    starting: Option<Instant>,
    /// The memory that was lent.
    pub(super) room: Plan,
    /// Whether what was named takes more of it than could be known at the start.
    pub(super) outgrown: bool,
    network: Network,
    /// The limits up and down that hold, in bytes per second.
    pub(super) rates: (Option<u64>, Option<u64>),
    /// In which the hours of rates are, once that was asked for.
    pub(super) zone: Option<TimeZone>,
}

impl Library {
    /// Nothing is looked after yet.
    pub(super) fn new(
        config: Config,
        room: Plan,
        torrents: &Torrents,
        loader: Loader,
        way_out: &Way,
        spawner: Spawner,
    ) -> Library {
        Library {
            is_service: false,
            items: Vec::new(),
            watches: Vec::new(),
            scout: Scout::new(torrents.state.clone(), torrents.alarm.clone()),
            survey: 0,
            surveying: false,
            surveys: (0, 0),
            surveying_since: None,
            more_before: false,
            more: false,
            full: String::new(),
            said_why_content_waits: String::new(),
            described: 0,
            waking: Vec::new(),
            most_known: room.torrents + room.asleep,
            loader,
            spawner,
            next_ticket: 0,
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

    /// Looks after everything; called once a turn. Whatever may take long here gives up when a signal asks
    /// to stop, and what it would have come to is left as it was.
    pub(super) fn mind(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        listening: &Listening,
    ) {
        let mut any = std::mem::take(&mut torrents.checked);
        while !torrents.signals.asked()
            && let Some(loaded) = self.loader.next()
        {
            self.loaded(torrents, engine, loaded);
            any = true;
        }
        self.rouse(torrents, engine);
        self.end_what_is_enough(torrents, engine);
        let now = Instant::now();
        any |= self.hear(torrents, engine);
        self.mind_changed(torrents, engine);
        self.settle(now);
        if self.is_service {
            self.look_at_torrent_files(torrents, engine, now);
        }
        if any {
            self.begin(torrents, engine, now);
        }
        if self.takes_more(engine) {
            self.next_poll = now;
        }
        if now >= self.next_poll {
            self.poll(torrents, engine, listening, now);
        }
        self.let_in(engine, now);
    }

    /// What is looked at now and then.
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
        self.mind_rates(engine);
        self.put_away(torrents, engine);
        if self.network.has_changed(&engine.way_out, now) {
            self.renew(torrents, engine, listening);
        }
        self.scan(torrents, engine);
        if self.is_service {
            self.prune(torrents, now);
        }
        self.begin(torrents, engine, now);
        // After many came it has room for as many again.
        self.items.shrink_to(self.awake());
    }

    /// What its threads do is not waited for any more.
    pub(super) fn give_up(&self) {
        self.scout.give_up();
    }

    /// How long it may be left alone, at most `limit`.
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

    /// Takes callers from when all that is known is there: before, peers and the built-in tracker's clients would be
    /// told that it is not.
    fn let_in(&mut self, engine: &mut Engine, now: Instant) {
        let Some(until) = self.starting else { return };
        let unsure = |LibraryItem { item, stage, .. }: &LibraryItem| match stage {
            ItemStage::Found | ItemStage::Probing(_) => true,
            // Others are made, or asked for at a server.
            ItemStage::Ready | ItemStage::Loading(_) => {
                is_torrent(&item.path) && item.path.is_absolute()
            }
            _ => false,
        };
        let unread = self.surveying && self.watches.iter().any(|watch| !watch.is_read());
        if now >= until || !unread && !self.items.iter().any(unsure) {
            self.starting = None;
            engine.pause_listening(None);
        }
    }

    /// Callers wait until what is known is open, as otherwise they would be told that it is not.
    pub(super) fn keep_callers_waiting(&mut self, engine: &mut Engine) {
        self.starting = Some(Instant::now() + STARTING);
        engine.pause_listening(Some(STARTING));
    }

    /// Torrents that may be awake: those that are named one by one never sleep.
    pub(super) fn awake(&self) -> usize {
        let named = self.items.iter().filter(|item| item.folder.is_none());
        let most = usize::from(self.config.torrents) + named.count();
        most.min(self.room.torrents)
    }

    /// Has the loader open what is ready.
    fn begin(&mut self, torrents: &Torrents, engine: &Engine, now: Instant) {
        let content_waits = self.content_waits();
        let count = |of: fn(&ItemStage) -> bool| self.items.iter().filter(|m| of(&m.stage)).count();
        let mut loading = count(|stage| matches!(stage, ItemStage::Loading(_)));
        let mut probing = count(|stage| matches!(stage, ItemStage::Probing(_)));
        let stays = |t: &&ManagedTorrent| t.may_sleep(engine).is_none();
        let places = self
            .awake()
            .saturating_sub(torrents.managed.iter().filter(stays).count());
        let checking = torrents.managed.iter().any(|t| t.checked().is_some());
        for managed in &mut self.items {
            // One that is checked may sleep afterwards, so that there is a place to wait for.
            if checking && loading + probing >= places || torrents.signals.asked() {
                return;
            }
            let known = match managed.stage {
                ItemStage::Found if probing < LOADING_MAX => true,
                ItemStage::Ready if loading < LOADING_MAX => false,
                ItemStage::Waiting(again) if again <= now && loading < LOADING_MAX => false,
                _ => continue,
            };
            let fresh = managed.complete_at >= self.surveys.1;
            if managed.is_found_content() && (content_waits || fresh) {
                continue;
            }
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            if known {
                probing += 1;
                managed.stage = ItemStage::Probing(ticket);
            } else {
                loading += 1;
                managed.stage = ItemStage::Loading(ticket);
            }
            let request = LoadRequest {
                known,
                once: managed.once,
                bad: managed.bad,
                ..LoadRequest::new(ticket, managed, &self.config, torrents, engine)
            };
            self.loader.ask(request);
        }
    }

    /// Has the loader open something that was as `mark` says when it went to sleep; answers with its
    /// ticket.
    pub(super) fn open_again(&mut self, torrents: &Torrents, item: Item, mark: Mark) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.loader.ask(LoadRequest {
            ticket,
            folder: item.path.parent().map(Path::to_owned),
            links: self.config.seed.links,
            item,
            known: false,
            once: false,
            offline: false,
            asked: false,
            mark: Some(mark),
            make: self.config.seed.make.clone(),
            running: None,
            bad: None,
            own_tracker: torrents.reach.own_tracker.clone(),
            // What was awake is here.
            way: Way::default(),
        });
        ticket
    }

    fn loaded(&mut self, torrents: &mut Torrents, engine: &mut Engine, loaded: Loaded) {
        let Loaded {
            ticket,
            own_tracker,
            described,
            in_doubt,
            bad,
            renewed,
            outcome,
        } = loaded;
        self.stop_described(torrents, engine);
        let loads = |managed: &LibraryItem| managed.renewal.state == Renewing::Loads(ticket);
        if let Some(at) = self.items.iter().position(loads) {
            return self.renewed(torrents, engine, at, renewed, outcome);
        }
        if let Some(at) = self.waking.iter().position(|w| w.ticket == ticket) {
            let waking = self.waking.swap_remove(at);
            let outcome = outcome.unwrap_or_else(|| Err(String::new().into()));
            return self.opened_again(torrents, engine, waking, outcome);
        }
        let mine = |managed: &&mut LibraryItem| {
            [ItemStage::Loading(ticket), ItemStage::Probing(ticket)].contains(&managed.stage)
        };
        // What was removed meanwhile is not begun.
        let Some(managed) = self.items.iter_mut().find(mine) else {
            return;
        };
        managed.in_doubt = in_doubt;
        managed.bad = bad;
        if managed.is_found_content() && described != torrents.state.described().added() {
            // Its torrent may have come since it was looked for.
            managed.stage = ItemStage::Found;
            return;
        }
        let Some(outcome) = outcome else {
            return managed.is_new();
        };
        let started = self.start_loaded(torrents, engine, ticket, outcome);
        if own_tracker != torrents.reach.own_tracker
            && let Some(number) = started
        {
            self.link_anew(torrents, |managed| {
                managed.stage == ItemStage::Running(number)
            });
        }
    }

    pub(super) fn start_loaded(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        ticket: u64,
        outcome: LoadOutcome,
    ) -> Option<usize> {
        let mine = |managed: &LibraryItem| {
            [ItemStage::Loading(ticket), ItemStage::Probing(ticket)].contains(&managed.stage)
        };
        let room = match self.make_room(torrents, engine) {
            false => Err(
                "every place for a torrent is taken; it has its turn once another is of no use for half a minute; or raise torrents =",
            ),
            true if engine.node.known() >= self.most_known && !has_name(&outcome, engine) => {
                Err("no memory for the name of another torrent; raise memory =")
            }
            true => Ok(()),
        };
        let at = self.items.iter().position(mine)?;
        let outgrows = |(source, download): &(OpenedTorrent, Option<Download>)| {
            self.outgrows(torrents, source, download.is_some())
        };
        let room = match outcome.as_ref().map(outgrows) {
            Ok(true) if self.items[at].once => {
                // What it takes is known now, so that it begins anew with that.
                self.outgrown = true;
                self.items[at].stage = ItemStage::Ready;
                return None;
            }
            Ok(true) => Err("no memory for it; raise memory ="),
            _ => room,
        };
        let managed = &mut self.items[at];
        let started = outcome.and_then(|(source, mut download)| {
            managed.info_hash = Some(source.content.metainfo().info_hash);
            // It may have been asked for with another goal.
            // What a file's link says of it is known to the loader.
            if let (Some(download), Some(goal)) = (&mut download, &managed.item.fetch)
                && !is_link(&managed.item.path)
            {
                download.goal = (**goal).clone();
            }
            start(torrents, engine, source, download, room)
        });
        match started {
            Ok(number) => {
                managed.said.clear();
                managed.failures = 0;
                managed.stage = ItemStage::Running(number);
                managed.next_look = Instant::now() + managed.pause;
                Some(number)
            }
            Err(Trouble::Described(reason)) => {
                log::info!("{reason}");
                self.items.swap_remove(at);
                None
            }
            Err(Trouble::Unknown(link)) => {
                let peers = managed.item.fetch.as_ref().map(|fetch| &fetch.peers);
                let peers = peers.map_or(&[][..], Vec::as_slice);
                match torrents
                    .unknown
                    .fetch(engine, &managed.item.path, &link, peers)
                {
                    Ok(()) => managed.stage = ItemStage::Waiting(Instant::now() + AWAY),
                    Err(trouble) => wait(managed, trouble, &torrents.notices),
                }
                None
            }
            Err(trouble) => {
                // What came by a magnet link and cannot begin is not looked for any more.
                if let Some(id) = managed.info_hash.and_then(|hash| engine.node.find(hash))
                    && !engine.node.is_asleep(id)
                    && !torrents
                        .managed
                        .iter()
                        .any(|torrent| torrent.is_known_as(id))
                {
                    engine.remove(id);
                }
                wait(managed, trouble, &torrents.notices);
                None
            }
        }
    }

    /// Whether the memory that was lent is too little for all that was named together with what was opened now.
    fn outgrows(&self, torrents: &Torrents, source: &OpenedTorrent, downloads: bool) -> bool {
        if self.is_service {
            return false;
        }
        let mut needed = plan(&self.config.seed);
        let mut add = |content: &Content, tiers: usize, downloads: bool| {
            needed.add(&content.geometry(), tiers);
            if downloads {
                needed.add_download(&content.geometry());
            }
        };
        for torrent in &torrents.managed {
            add(&torrent.content, torrent.tiers(), torrent.is_download());
        }
        add(&source.content, source.tiers.len(), downloads);
        !self.room.has_room_for(&needed)
    }

    /// The metadata of magnet links is here: they are loaded at once.
    pub(super) fn fetched(&mut self, done: &[(PathBuf, InfoHash)]) {
        let its = |managed: &&mut LibraryItem| {
            // What is being loaded was looked for before the metadata was here.
            let waits = matches!(managed.stage, ItemStage::Waiting(_) | ItemStage::Loading(_));
            waits && done.iter().any(|(given, _)| *given == managed.item.path)
        };
        for managed in self.items.iter_mut().filter(its) {
            let hash = done.iter().find(|(given, _)| *given == managed.item.path);
            managed.info_hash = hash.map(|(_, info_hash)| *info_hash);
            managed.stage = ItemStage::Ready;
        }
    }

    /// Is done with what was downloaded and seeded enough.
    fn end_what_is_enough(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        if self.is_all_done(torrents, engine) {
            // The session ends with it.
            return;
        }
        let enough = |t: &&ManagedTorrent| t.is_enough(engine) == Some(true);
        let enough: Vec<(usize, Option<u8>)> = torrents
            .managed
            .iter()
            .filter(enough)
            .map(|torrent| (torrent.number(), torrent.exit_code(engine)))
            .collect();
        for (number, code) in enough {
            let running = |managed: &&mut LibraryItem| managed.stage == ItemStage::Running(number);
            if let Some(managed) = self.items.iter_mut().find(running) {
                if code.is_none() {
                    let path = managed.item.path.display().to_string();
                    log::warn!(target: EVENT, "{}: it has reached its goal", mask_urls(&path));
                }
                let torrent = torrents.managed.iter().find(|t| t.number() == number);
                if let Some(torrent) = torrent.filter(|_| code.is_some()) {
                    torrent.say_unfinished(engine);
                }
                stop(torrents, engine, managed);
                managed.stage = ItemStage::Ended(code.unwrap_or(0));
            }
        }
    }

    /// Whether nothing is left to do for a session that ends then.
    pub(super) fn is_all_done(&self, torrents: &Torrents, engine: &Engine) -> bool {
        let is_enough = |number: usize| {
            let mut managed = torrents.managed.iter();
            let torrent = managed.find(|torrent| torrent.number() == number);
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

    /// The exit code if it ends now: that of the worst.
    pub(super) fn exit_code(&self, torrents: &Torrents, engine: &Engine) -> u8 {
        let codes = self.items.iter().map(|managed| match managed.stage {
            ItemStage::Ended(code) => code,
            ItemStage::Running(number) => {
                let mut managed = torrents.managed.iter();
                let torrent = managed.find(|torrent| torrent.number() == number);
                torrent.and_then(|t| t.exit_code(engine)).unwrap_or(0)
            }
            _ if managed.item.fetch.is_some() => UNFINISHED,
            _ => 0,
        });
        codes.fold(0, worse)
    }
}

/// Whether the node knows what was opened by name already.
fn has_name(outcome: &LoadOutcome, engine: &Engine) -> bool {
    let opened = outcome
        .as_ref()
        .map(|(source, _)| source.content.metainfo());
    opened.is_ok_and(|metainfo| engine.node.find(metainfo.info_hash).is_some())
}

/// Begins with what was opened.
fn start(
    torrents: &mut Torrents,
    engine: &mut Engine,
    source: OpenedTorrent,
    download: Option<Download>,
    room: Result<(), &str>,
) -> Result<usize, Trouble> {
    let metainfo = source.content.metainfo();
    let shown = source.content.torrent_file().display().to_string();
    let mut managed = torrents.managed.iter();
    let twin = managed.any(|t| t.info_hash() == metainfo.info_hash);
    // One whose metadata was fetched goes on.
    let known = engine.node.find(metainfo.info_hash);
    if twin || known.is_some_and(|id| engine.node.metadata(id).is_none()) {
        return Err(format!("{shown}: the same torrent is there already").into());
    }
    room.map_err(|reason| Trouble::Full(format!("{shown}: {reason}")))?;
    let (introduction, only_ours) = introduction(&source, &torrents.reach.links())?;
    torrents.notices.tell(Notice::Torrent(&introduction));
    if only_ours {
        torrents.reach.say_where(&torrents.notices);
    }
    Ok(torrents.add(engine, source, download))
}

pub(super) fn stop(torrents: &mut Torrents, engine: &mut Engine, managed: &LibraryItem) {
    if let ItemStage::Running(number) = managed.stage {
        if let Some(torrent) = torrents.managed.iter().find(|t| t.number() == number) {
            torrents
                .notices
                .tell(Notice::Stopped(torrent.content.name().as_bytes()));
            torrents.state.parted_with(torrent.info_hash());
        }
        torrents.drop_torrent(engine, number);
    }
}

/// How often folders and the network are looked at: 360 times an hour, from memory.
pub(super) const POLL: Duration = Duration::from_secs(10);

/// How long watched folders may be looked at before that is said.
pub(super) const LONG_LOOK: Duration = Duration::from_secs(120);

/// How long after the start the state is first looked through for what is not needed any more.
const PRUNE_AFTER: Duration = Duration::from_secs(20);

/// How long callers wait for what is known at a start, at most.
pub(super) const STARTING: Duration = Duration::from_secs(5);

/// Things that are opened at a time.
const LOADING_MAX: usize = 16;
