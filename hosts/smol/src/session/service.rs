//! What `everseed run` adds to seeding: torrents come and go while it runs, another configuration is read (see
//! `reload`), and the network may be late, leave or change (see `network`).
//!
//! Invariant: something is stopped only when its place was looked at and it was not in it; a folder
//! that is away takes nothing with it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use everseed_core::geometry::Geometry;
use tz::TimeZone;

use super::asleep::Waking;
use super::fetch::Download;
use super::index::is_torrent;
use super::listening::{Listening, Said};
use super::loader::{Loaded, Loader, Order, Outcome};
use super::network::Network;
use super::reach::introduce;
use super::reload::Read;
use super::renewal::{Renewal, Renewing};
use super::scout::Scout;
use super::sources::Source;
use super::status::{Status, in_short};
use super::torrent::ManagedTorrent;
use super::trouble::Trouble;
use super::watch::Watch;
use super::{Session, numbers, plan, say_if_few};
use crate::failure::Failure;
use crate::memory::{Plan, TooSmall};
use crate::net::engine::Engine;
use crate::net::way::Way;
use crate::options::run::{Config, Item, RunArgs};
use crate::secrets::mask_urls;
use crate::session::systemd::Manager;
use crate::storage::catalogue::Mark;
use crate::storage::state::State;
use crate::text::{Output, is_live};

/// The service's own part.
pub(super) struct Service {
    pub(super) args: RunArgs,
    pub(super) config: Config,
    pub(super) items: Vec<Managed>,
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
    pub(super) next_ticket: u64,
    pub(super) next_poll: Instant,
    /// When the state is looked through for what is not needed any more.
    pub(super) next_prune: Instant,
    /// Until when callers wait, as what is known is still being opened.
    starting: Option<Instant>,
    /// The memory that was lent.
    pub(super) room: Plan,
    /// A configuration that was read and looked at.
    pub(super) read: Rc<Cell<Option<Read>>>,
    network: Network,
    pub(super) said: Said,
    pub(super) manager: Manager,
    /// The limits up and down that hold, in bytes per second.
    pub(super) rates: (Option<u64>, Option<u64>),
    /// In which the hours of rates are, once that was asked for.
    pub(super) zone: Option<TimeZone>,
}

/// Something that is seeded, or is to be.
pub(super) struct Managed {
    pub(super) item: Item,
    /// The watched folder that it is in.
    pub(super) folder: Option<PathBuf>,
    /// How it looked when it was opened or looked at last.
    pub(super) mark: Option<Mark>,
    /// What was said about it last.
    pub(super) said: String,
    /// How often in a row it could not be opened.
    pub(super) failures: u32,
    /// How it looked when it could not be used: it is not read again until it is another one.
    pub(super) bad: Option<Mark>,
    /// Whether it is a torrent file of which nobody knows yet what it describes.
    pub(super) in_doubt: bool,
    /// Whether the scout was asked how it looks.
    pub(super) looking: bool,
    /// How often the folders had begun to be looked at when it was complete: its torrent may have come since.
    pub(super) complete_at: u64,
    /// Of content in a watched folder that is served: when it is looked at whether it has changed, and the pause before.
    pub(super) next_look: Instant,
    pub(super) pause: Duration,
    /// How often it changed after it had been taken for complete.
    pub(super) changes: u32,
    pub(super) stage: Stage,
    /// Of the file of a torrent that is seeded.
    pub(super) renewal: Renewal,
}

impl Managed {
    /// Something that is to be seeded.
    pub(super) fn new(
        item: Item,
        folder: Option<PathBuf>,
        mark: Option<Mark>,
        stage: Stage,
    ) -> Managed {
        Managed {
            in_doubt: is_torrent(&item.path) && item.path.is_absolute(),
            item,
            folder,
            mark,
            said: String::new(),
            failures: 0,
            bad: None,
            looking: false,
            complete_at: 0,
            next_look: Instant::now(),
            pause: LONGEST_PAUSE,
            changes: 0,
            stage,
            renewal: Renewal::default(),
        }
    }
}

/// How far it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nobody knows whether it was seeded before.
    Found,
    /// The loader looks whether it was.
    Probing(u64),
    /// It may still be written, and is looked at again then.
    Settling(Instant),
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
pub(super) fn open(args: &RunArgs, config: Config) -> Result<Session, Failure> {
    let state = State::open_lasting(&config.seed.state, config.state_in_ram);
    let state = state.map_err(|error| Failure::Failed(error.to_string()))?;
    let mut listening = Listening::new(&config.seed);
    listening.take();
    say_if_few(&config.seed);
    let room = room(&config).map_err(|error| Failure::Failed(error.to_string()))?;
    let session = Session::new(&config.seed, state, listening, room, config.down);
    let mut session = session.map_err(Failure::Failed)?;
    session.calm = true;
    session.open_listeners();
    session.engine.borrow_mut().pause_listening(Some(STARTING));
    let reload = session.signals.take_reload();
    reload.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let mut service = Service {
        args: args.clone(),
        items: Vec::new(),
        watches: config.watch.iter().cloned().map(Watch::new).collect(),
        scout: Scout::new(session.state.clone(), session.alarm.clone()),
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
        loader: Loader::new(session.state.clone(), session.alarm.clone()),
        next_ticket: 0,
        next_poll: Instant::now(),
        next_prune: Instant::now() + PRUNE_AFTER,
        starting: Some(Instant::now() + STARTING),
        room,
        read: Rc::default(),
        network: Network::new(&session.engine.borrow().way_out),
        said: Said::default(),
        manager: Manager::of_this_process(),
        rates: (config.seed.up, config.down),
        zone: None,
        config,
    };
    service.name_items();
    service.load_catalogue(&mut session);
    session.farewell = FAREWELL;
    if !is_live(&std::io::stdout()) {
        // Numbers every ten seconds are no news for a log.
        session.status = Status::new(true);
    }
    service.manager.ready();
    session.service = Some(service);
    Ok(session)
}

/// How the memory of a service is shared out.
pub(super) fn room(config: &Config) -> Result<Plan, TooSmall> {
    let mut room = plan(&config.seed);
    plan_room(&mut room, config, awake(config) + SPARE);
    room.fit(config.seed.memory)
}

/// Memory for torrents that are not known yet.
pub(super) fn plan_room(room: &mut Plan, config: &Config, torrents: usize) {
    let most = config.seed.memory.saturating_mul(ASLEEP) / ASLEEP_IN;
    let most = usize::try_from(most).unwrap_or(MOST_KNOWN);
    room.asleep = most.min(MOST_KNOWN.saturating_sub(torrents));
    room.torrents += torrents;
    room.tiers += TIERS * torrents;
    room.bits += BITS * torrents;
    let downloads = config.download.is_some() || config.items.iter().any(|i| i.fetch.is_some());
    let most = Geometry::new(u64::from(PIECES) * LONG_PIECE, LONG_PIECE);
    if downloads && let Ok(most) = most {
        room.add_download(&most);
    }
}

/// Torrents that may be awake: those that are named one by one never sleep.
pub(super) fn awake(config: &Config) -> usize {
    usize::from(config.torrents) + config.items.len()
}

impl Service {
    /// Looks after everything; called once a turn. Whatever may take long here gives up when a signal asks
    /// to stop, and what it would have come to is left as it was.
    pub(super) fn mind(&mut self, session: &mut Session, engine: &mut Engine) {
        self.manager.alive(Instant::now());
        if session.signals.asked() {
            return;
        }
        if session.signals.reloads() {
            self.manager.reloading();
            self.read_config(session);
        }
        if let Some(read) = self.read.take() {
            self.reload(session, engine, read);
            // Who starts anew says so when it has.
            if !session.again {
                self.manager.ready();
            }
        }
        let mut any = std::mem::take(&mut session.checked);
        while !session.signals.asked()
            && let Some(loaded) = self.loader.next()
        {
            self.loaded(session, engine, loaded);
            any = true;
        }
        self.rouse(session, engine);
        self.end_what_is_enough(session, engine);
        let now = Instant::now();
        any |= self.hear(session, engine);
        self.mind_changed(session, engine);
        self.settle(now);
        self.look_at_torrent_files(session, engine, now);
        if any {
            self.begin(session, engine, now);
        }
        if self.takes_more(engine) {
            self.next_poll = now;
        }
        if now >= self.next_poll {
            self.poll(session, engine, now);
        }
        self.let_in(engine, now);
    }

    /// What is looked at now and then.
    fn poll(&mut self, session: &mut Session, engine: &mut Engine, now: Instant) {
        self.next_poll = now + POLL;
        session.keep_unknown(engine, |given| {
            self.items.iter().any(|i| i.item.path == given)
        });
        self.mind_rates(engine);
        if self.manager.is_there() {
            let numbers = numbers(engine, &session.torrents);
            self.manager.status(in_short(&numbers));
        }
        self.put_away(session, engine);
        if self.network.has_changed(&engine.way_out, now) {
            self.renew(session, engine);
        }
        self.scan(session, engine);
        self.prune(session, now);
        self.begin(session, engine, now);
        // After many came it has room for as many again.
        self.items.shrink_to(awake(&self.config));
    }

    /// How long it may be left alone, at most `limit`.
    pub(super) fn patience(&self, limit: Duration) -> Duration {
        let settled = self.items.iter().filter_map(|managed| match managed.stage {
            Stage::Settling(at) if !managed.looking => Some(at),
            Stage::Running(_) if !managed.looking && managed.is_found_content() => {
                Some(managed.next_look)
            }
            _ => None,
        });
        let now = Instant::now();
        let times = settled.chain(self.starting).chain([self.next_poll]);
        let times = times.chain(self.manager.next());
        times.fold(limit, |limit, at| {
            limit.min(at.saturating_duration_since(now))
        })
    }

    /// Takes callers from when all that is known is there: before, peers and the built-in tracker's clients would be
    /// told that it is not.
    fn let_in(&mut self, engine: &mut Engine, now: Instant) {
        let Some(until) = self.starting else { return };
        let unsure = |Managed { item, stage, .. }: &Managed| match stage {
            Stage::Found | Stage::Probing(_) => true,
            // Others are made, or asked for at a server.
            Stage::Ready | Stage::Loading(_) => is_torrent(&item.path) && item.path.is_absolute(),
            _ => false,
        };
        let unread = self.surveying && self.watches.iter().any(|watch| !watch.is_read());
        if now >= until || !unread && !self.items.iter().any(unsure) {
            self.starting = None;
            engine.pause_listening(None);
        }
    }

    /// Adds what the configuration names one by one.
    pub(super) fn name_items(&mut self) {
        for item in &self.config.items {
            if self.items.iter().any(|known| known.item == *item) {
                continue;
            }
            let stage = match item.fetch {
                Some(_) => Stage::Ready,
                None => Stage::Found,
            };
            self.items
                .push(Managed::new(item.clone(), None, None, stage));
        }
    }

    /// Has the loader open what is ready.
    fn begin(&mut self, session: &Session, engine: &Engine, now: Instant) {
        let content_waits = self.content_waits();
        let count = |of: fn(&Stage) -> bool| self.items.iter().filter(|m| of(&m.stage)).count();
        let mut loading = count(|stage| matches!(stage, Stage::Loading(_)));
        let mut probing = count(|stage| matches!(stage, Stage::Probing(_)));
        let stays = |t: &&ManagedTorrent| t.may_sleep(engine).is_none();
        let places =
            awake(&self.config).saturating_sub(session.torrents.iter().filter(stays).count());
        let checking = session.torrents.iter().any(|t| t.checked().is_some());
        for managed in &mut self.items {
            // One that is checked may sleep afterwards, so that there is a place to wait for.
            if checking && loading + probing >= places || session.signals.asked() {
                return;
            }
            let known = match managed.stage {
                Stage::Found if probing < LOADING_MAX => true,
                Stage::Ready if loading < LOADING_MAX => false,
                Stage::Waiting(again) if again <= now && loading < LOADING_MAX => false,
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
                managed.stage = Stage::Probing(ticket);
            } else {
                loading += 1;
                managed.stage = Stage::Loading(ticket);
            }
            self.loader.ask(Order {
                ticket,
                item: managed.item.clone(),
                folder: managed.folder.clone(),
                links: self.config.seed.links,
                known,
                asked: managed.folder.is_none(),
                mark: None,
                make: self.config.seed.make.clone(),
                running: None,
                bad: managed.bad,
                own_tracker: session.own_tracker.clone(),
                way: engine.way_out.clone(),
            });
        }
    }

    /// Has the loader open something that was as `mark` says when it went to sleep; answers with its
    /// ticket.
    pub(super) fn open_again(&mut self, session: &Session, item: Item, mark: Mark) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.loader.ask(Order {
            ticket,
            folder: item.path.parent().map(Path::to_owned),
            links: self.config.seed.links,
            item,
            known: false,
            asked: false,
            mark: Some(mark),
            make: self.config.seed.make.clone(),
            running: None,
            bad: None,
            own_tracker: session.own_tracker.clone(),
            // What was awake is here.
            way: Way::default(),
        });
        ticket
    }

    fn loaded(&mut self, session: &mut Session, engine: &mut Engine, loaded: Loaded) {
        let Loaded {
            ticket,
            own_tracker,
            described,
            in_doubt,
            bad,
            renewed,
            outcome,
        } = loaded;
        self.stop_described(session, engine);
        let loads = |managed: &Managed| managed.renewal.state == Renewing::Loads(ticket);
        if let Some(at) = self.items.iter().position(loads) {
            return self.renewed(session, engine, at, renewed, outcome);
        }
        if let Some(at) = self.waking.iter().position(|w| w.ticket == ticket) {
            let waking = self.waking.swap_remove(at);
            let outcome = outcome.unwrap_or_else(|| Err(String::new().into()));
            return self.opened_again(session, engine, waking, outcome);
        }
        let mine = |managed: &&mut Managed| {
            [Stage::Loading(ticket), Stage::Probing(ticket)].contains(&managed.stage)
        };
        // What was removed meanwhile is not begun.
        let Some(managed) = self.items.iter_mut().find(mine) else {
            return;
        };
        managed.in_doubt = in_doubt;
        managed.bad = bad;
        if managed.is_found_content() && described != session.state.described().added() {
            // Its torrent may have come since it was looked for.
            managed.stage = Stage::Found;
            return;
        }
        let Some(outcome) = outcome else {
            return managed.is_new();
        };
        let started = self.start_loaded(session, engine, ticket, outcome);
        if own_tracker != session.own_tracker
            && let Some(number) = started
        {
            self.link_anew(session, |managed| managed.stage == Stage::Running(number));
        }
    }

    pub(super) fn start_loaded(
        &mut self,
        session: &mut Session,
        engine: &mut Engine,
        ticket: u64,
        outcome: Outcome,
    ) -> Option<usize> {
        let mine = |managed: &Managed| {
            [Stage::Loading(ticket), Stage::Probing(ticket)].contains(&managed.stage)
        };
        let room = match self.make_room(session, engine) {
            false => Err(
                "every place for a torrent is taken; it has its turn once another is of no use for half a minute; or raise torrents =",
            ),
            true if engine.node.known() >= self.most_known => {
                Err("no memory for the name of another torrent; raise memory =")
            }
            true => Ok(()),
        };
        let at = self.items.iter().position(mine)?;
        let managed = &mut self.items[at];
        let started = outcome.and_then(|(source, mut download)| {
            // It may have been asked for with another goal.
            if let (Some(download), Some(goal)) = (&mut download, &managed.item.fetch) {
                download.goal = (**goal).clone();
            }
            start(session, engine, source, download, room)
        });
        match started {
            Ok(number) => {
                managed.said.clear();
                managed.failures = 0;
                managed.stage = Stage::Running(number);
                managed.next_look = Instant::now() + managed.pause;
                Some(number)
            }
            Err(Trouble::Described(reason)) => {
                log::info!("{reason}");
                self.items.swap_remove(at);
                None
            }
            Err(Trouble::Unknown(_)) => {
                match session.fetch_metadata(engine, &managed.item.path) {
                    Ok(()) => managed.stage = Stage::Waiting(Instant::now() + AWAY),
                    Err(trouble) => wait(managed, trouble),
                }
                None
            }
            Err(trouble) => {
                wait(managed, trouble);
                None
            }
        }
    }

    fn end_what_is_enough(&mut self, session: &mut Session, engine: &mut Engine) {
        let enough = |t: &&ManagedTorrent| t.is_enough(engine) == Some(true);
        let enough: Vec<usize> = session
            .torrents
            .iter()
            .filter(enough)
            .map(ManagedTorrent::number)
            .collect();
        for number in enough {
            let running = |managed: &&mut Managed| managed.stage == Stage::Running(number);
            if let Some(managed) = self.items.iter_mut().find(running) {
                let path = managed.item.path.display().to_string();
                log::warn!("{}: seeded enough", mask_urls(&path));
                stop(session, engine, managed);
                managed.stage = Stage::Done;
            }
        }
    }
}

impl Stage {
    /// Whether it is on its way to be seeded.
    pub(super) fn is_coming(&self) -> bool {
        use Stage::{Found, Loading, Probing, Ready, Settling};
        matches!(self, Found | Probing(_) | Settling(_) | Ready | Loading(_))
    }
}

/// Begins with what was opened.
fn start(
    session: &mut Session,
    engine: &mut Engine,
    source: Source,
    download: Option<Download>,
    room: Result<(), &str>,
) -> Result<usize, Trouble> {
    let metainfo = source.content.metainfo();
    let shown = source.content.torrent_file().display().to_string();
    let mut torrents = session.torrents.iter();
    let twin = torrents.any(|t| t.info_hash() == metainfo.info_hash);
    // One whose metadata was fetched goes on.
    let known = engine.node.find(metainfo.info_hash);
    if twin || known.is_some_and(|id| engine.node.metadata(id).is_none()) {
        return Err(format!("{shown}: the same torrent is there already").into());
    }
    room.map_err(|reason| Trouble::Full(format!("{shown}: {reason}")))?;
    let mut out = Output::new();
    let only_ours = introduce(&source, &session.links(), &mut out)?;
    let _ = out.finish();
    if only_ours {
        session.say_where();
    }
    Ok(session.add(engine, source, download))
}

pub(super) fn stop(session: &mut Session, engine: &mut Engine, managed: &Managed) {
    if let Stage::Running(number) = managed.stage {
        if let Some(torrent) = session.torrents.iter().find(|t| t.number() == number) {
            let mut out = Output::new();
            out.line(format_args!("stopped: {}", torrent.name()));
            let _ = out.finish();
            session.state.parted_with(torrent.info_hash());
        }
        session.drop_torrent(engine, number);
    }
}

/// Has something tried again: what may have changed itself soon, and what failed less and less often. A file that
/// cannot be used is then looked at, and read only if it is another one.
pub(super) fn wait(managed: &mut Managed, trouble: Trouble) {
    let failed = FAILED * (1 << managed.failures.min(6));
    let (pause, when) = match trouble {
        Trouble::Away(_) => (AWAY, format!("tried again every {} s", AWAY.as_secs())),
        Trouble::Full(_) => (AWAY, format!("tried again every {} s", AWAY.as_secs())),
        Trouble::Bad(_) => (failed, "tried again when it has changed".to_owned()),
        _ => (
            failed,
            format!("tried again in {} s, and then less often", failed.as_secs()),
        ),
    };
    if let Trouble::Bad(_) | Trouble::Failed(_) = trouble {
        managed.failures = managed.failures.saturating_add(1);
    }
    let reason = trouble.text();
    // It has no text if it is what was said already.
    if managed.said != reason && !reason.is_empty() {
        log::error!("{reason}; {when}");
        managed.said = reason;
    }
    managed.stage = Stage::Waiting(Instant::now() + pause);
}

/// How often folders and the network are looked at: 360 times an hour, from memory.
pub(super) const POLL: Duration = Duration::from_secs(10);

/// How long content in a watched folder that is served is left alone at most, before it is looked at whether it has
/// changed. What has just come is looked at after ten seconds, and then after pauses twice as long each time.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long watched folders may be looked at before that is said.
pub(super) const LONG_LOOK: Duration = Duration::from_secs(120);

/// How long after the start the state is first looked through for what is not needed any more.
const PRUNE_AFTER: Duration = Duration::from_secs(20);

/// How often what is on a disk that is away is tried again.
const AWAY: Duration = Duration::from_secs(10);

/// How soon what could not be opened is, the first time; an hour at last.
const FAILED: Duration = Duration::from_secs(60);

/// How long trackers have to hear the farewell; the rest of a second is for the state.
const FAREWELL: Duration = Duration::from_millis(600);

/// How long callers wait for what is known at a start, at most.
const STARTING: Duration = Duration::from_secs(5);

/// Things that are opened at a time.
const LOADING_MAX: usize = 16;

/// Torrents that may sleep in a budget of so many bytes; they take a twentieth of it.
const ASLEEP: u64 = 10_000;
const ASLEEP_IN: u64 = 16 << 20;

/// Torrents that can be told apart by 16 bits, and found fast.
pub(super) const MOST_KNOWN: usize = 58_000;

/// Places for what is named one by one later, so that it need not begin anew for each.
const SPARE: usize = 16;

/// Tiers of trackers for each torrent that there is room for.
const TIERS: usize = 2;

/// Bytes of bitfields for each: bits are needed only while a torrent is incomplete.
const BITS: usize = 1024;

/// Pieces of all downloads at a time, and the longest piece that is usual, in bytes.
const PIECES: u32 = 64 * 1024;
const LONG_PIECE: u64 = 16 << 20;
