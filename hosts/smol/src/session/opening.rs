//! The start of a session.
//!
//! Items that a person named are opened before memory is shared out and before anybody is accepted. So no more memory
//! is taken than they need, and trouble is reported at once. A service opens its torrents while others are served
//! already.

use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use everseed_core::geometry::Geometry;
use everseed_core::hash::InfoHash;
use everseed_core::magnet::Magnet;

use super::command::{Command, commands};
use super::download::Download;
use super::fetch::{is_magnet, worse};
use super::front::Front;
use super::hangup::Hangup;
use super::item::ItemStage;
use super::listening::Listening;
use super::load::{LoadRequest, LoadSettings, Purpose};
use super::notice::Notice;
use super::opener::{OpenedTorrent, is_given};
use super::reach::Reach;
use super::room::{fit, plan, room, say_if_few};
use super::systemd::Manager;
use super::trouble::Trouble;
use super::unknown::MOST;
use super::{Base, Session};
use crate::failure::Failure;
use crate::net::memory::Plan;
use crate::options::run::{Config, Item, RunArgs};
use crate::options::seed::usual_state;
use crate::storage::mount_guard::is_in_ram;
use crate::storage::state::StateFolder;
use crate::text::{escape, size};

/// A named item and its state before anybody is accepted.
struct Named {
    item: Item,
    came: Came,
}

enum Came {
    Opened(OpenedTorrent, Option<Box<Download>>),
    /// Its torrent or metadata has to be fetched.
    Unknown,
    /// It cannot be downloaded; the exit code.
    Failed(u8),
}

impl Session {
    /// A session with everything that a person named, ready to run; or the exit code if none of it can be done.
    pub(super) fn open(config: Config, front: Front) -> Result<Result<Box<Session>, u8>, Failure> {
        let failed = Failure::Failed;
        let args = &config.seed;
        let state = StateFolder::open(&args.state).map_err(Failure::failed)?;
        say_if_in_ram(state.folder());
        let mut listening = Listening::new(args, front.notices.clone());
        // Links to torrents made here name the port, and routers forward a chosen one.
        let gets = config.items.iter().any(|item| item.fetch.is_some());
        let may_move = gets && args.public_address.is_none();
        listening.insist(may_move).map_err(failed)?;
        let base = Base::new(state, front).map_err(failed)?;
        let named = open_all(&config, &base, &listening)?;
        let codes = named.iter().map(|named| match named.came {
            Came::Failed(code) => code,
            _ => 0,
        });
        if named.iter().all(|n| matches!(n.came, Came::Failed(_))) {
            return Ok(Err(codes.fold(0, worse)));
        }
        say_if_few(args);
        let lent = share_out(&config, &named)?;
        let session = Session::new(config.clone(), base, listening, lent);
        let mut session = session.map_err(failed)?;
        let opened = named.iter().filter_map(|named| match &named.came {
            _ if session.torrents.is_paused(&named.item.path) => None,
            Came::Opened(source, download) => Some((source, download.is_some())),
            _ => None,
        });
        let opened: Vec<_> = opened.collect();
        session
            .torrents
            .introduce(opened.into_iter())
            .map_err(failed)?;
        session.open_listeners();
        for named in named {
            session.begin_with(named);
        }
        session.tasks.turn();
        Ok(Ok(session))
    }

    /// Starts an item that was opened, or leaves it to the first turn.
    fn begin_with(&mut self, named: Named) {
        let engine = Rc::clone(&self.engine);
        let engine = &mut engine.borrow_mut();
        self.execute(engine, Command::add(named.item.clone()));
        let mut items = self.library.items.iter_mut();
        let Some(managed) = items.find(|managed| managed.item == named.item) else {
            return;
        };
        managed.once = named.item.fetch.is_some();
        match named.came {
            _ if managed.stage == ItemStage::Paused => {}
            Came::Opened(source, download) => {
                managed.info_hash = Some(source.content.metainfo().info_hash);
                let number = self.torrents.add(engine, source, download, String::new());
                managed.stage = ItemStage::Running(number);
            }
            Came::Unknown => managed.stage = ItemStage::Ready,
            Came::Failed(code) => managed.stage = ItemStage::Ended(code),
        }
    }

    /// A service: listens and reports that it is ready, before it opens its torrents.
    pub(super) fn open_service(
        args: RunArgs,
        config: Config,
        front: Front,
    ) -> Result<Box<Session>, Failure> {
        let failed = Failure::Failed;
        let state = StateFolder::open_lasting(&config.seed.state, config.state_in_ram);
        let state = state.map_err(Failure::failed)?;
        let mut listening = Listening::new(&config.seed, front.notices.clone());
        listening.take();
        say_if_few(&config.seed);
        let room = room(&config).map_err(Failure::failed)?;
        let base = Base::new(state, front).map_err(failed)?;
        let session = Session::new(config.clone(), base, listening, room);
        let mut session = session.map_err(failed)?;
        session.torrents.leaves_idle_files = true;
        session.library.is_service = true;
        session.open_listeners();
        let engine = Rc::clone(&session.engine);
        let engine = &mut engine.borrow_mut();
        session.library.keep_callers_waiting(engine);
        let reload = session.signals.take_reload();
        reload.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
        session.hangup = Some(Hangup::new(
            args,
            session.commands.clone(),
            Arc::clone(&session.torrents.alarm),
            session.tasks.spawner(),
        ));
        for command in commands(&config.without_items(), &config) {
            session.execute(engine, command);
        }
        session.library.load_catalogue(&session.torrents, engine);
        session.manager = Manager::of_this_process();
        session.manager.ready();
        Ok(session)
    }
}

/// Warns if the state lies in memory because nobody has chosen a place for it.
fn say_if_in_ram(state: &Path) {
    let is_usual = usual_state().is_some_and(|usual| usual == state);
    if is_usual && File::open(state).is_ok_and(|folder| is_in_ram(&folder)) {
        log::warn!(
            "{}: this state is in memory (tmpfs), so a reboot forgets what was verified and which downloads are \
             unfinished; keep it on flash or disk with --state DIR",
            state.display()
        );
    }
}

/// Opens all named items, each torrent once.
fn open_all(config: &Config, base: &Base, listening: &Listening) -> Result<Vec<Named>, Failure> {
    let mut named: Vec<(usize, Named)> = Vec::with_capacity(config.items.len());
    let mut order: Vec<usize> = (0..config.items.len()).collect();
    // Content that torrents describe must be known before torrents are made.
    order.sort_by_key(|&number| {
        let item = &config.items[number];
        item.fetch.is_none() && !is_given(&item.path)
    });
    for number in order {
        let item = &config.items[number];
        let came = open_one(config, base, listening, item)?;
        let item = item.clone();
        let new = Named { item, came };
        if new.info_hash().is_some()
            && named
                .iter()
                .any(|(_, other)| other.info_hash() == new.info_hash())
        {
            let item = &new.item;
            let shown = escape(item.path.as_os_str().as_encoded_bytes()).to_string();
            log::warn!("{shown}: the same torrent was named before, so this one is left out");
            continue;
        }
        named.push((number, new));
    }
    named.sort_by_key(|&(number, _)| number);
    let described = base.state.described();
    described.sync();
    described.rest();
    Ok(named.into_iter().map(|(_, named)| named).collect())
}

impl Named {
    /// The info-hash, if it is known.
    fn info_hash(&self) -> Option<InfoHash> {
        match &self.came {
            Came::Opened(source, _) => Some(source.content.metainfo().info_hash),
            Came::Unknown => Some(link(&self.item.path)?.info_hash),
            Came::Failed(_) => None,
        }
    }
}

/// Opens one item. If it cannot be seeded, everything fails; if a download cannot begin, the others go on.
fn open_one(
    config: &Config,
    base: &Base,
    listening: &Listening,
    item: &Item,
) -> Result<Came, Failure> {
    let own_tracker = Reach::new(&config.seed, listening.local()).own_tracker;
    let request = LoadRequest {
        item: item.clone(),
        folder: None,
        // A server that does not answer must not delay other downloads.
        purpose: Purpose::Once {
            offline: config.items.len() > 1,
        },
        settings: LoadSettings::new(&config.seed, &own_tracker, &listening.way()),
    };
    match base.loader.open_now(&request) {
        Ok((source, download)) => Ok(Came::Opened(source, download)),
        Err(Trouble::Unknown(_)) => Ok(Came::Unknown),
        Err(trouble) if item.fetch.is_none() => Err(Failure::Failed(trouble.text())),
        Err(trouble) => {
            let code = trouble.exit_code();
            base.front.notices.tell(Notice::Failed(&trouble.text()));
            Ok(Came::Failed(code))
        }
    }
}

/// Shares out the memory. Opened torrents are counted; unknown ones are presumed to be large; some room is left for
/// torrents that are added later.
fn share_out(config: &Config, named: &[Named]) -> Result<Plan, Failure> {
    let args = &config.seed;
    let mut exact = plan(args);
    let mut links = Vec::new();
    for Named { item, came } in named {
        match came {
            Came::Opened(source, download) => {
                let geometry = &source.content.metainfo().geometry;
                exact.add(geometry, source.tiers.len());
                if download.is_some() {
                    exact.add_download(geometry);
                }
            }
            Came::Unknown => links.push(tiers(&item.path)),
            Came::Failed(_) => {}
        }
    }
    if links.is_empty() {
        return fit(exact, args.memory).map_err(Failure::failed);
    }
    let lent = GUESSES.iter().find_map(|&(pieces, piece_len)| {
        let guess = Geometry::new(pieces * piece_len, piece_len).ok()?;
        let mut plan = exact;
        for &tiers in &links {
            plan.add(&guess, tiers);
            plan.add_download(&guess);
        }
        fit(plan, args.memory).ok()
    });
    lent.ok_or_else(|| {
        let memory = size(args.memory);
        Failure::Failed(format!("--memory {memory} is too little to fetch metadata"))
    })
}

/// The number of tiers of trackers of an item that is not known yet.
fn tiers(given: &Path) -> usize {
    link(given).map_or(SOME, |magnet| magnet.trackers().count().min(MOST))
}

fn link(given: &Path) -> Option<Magnet<'_>> {
    let link = given.to_str().filter(|link| is_magnet(link))?;
    Magnet::parse(link).ok()
}

/// The tiers that a .torrent is presumed to have before it is fetched.
const SOME: usize = 8;

/// Pieces, and the length of each, for which there is room before a torrent is known; the first pair that fits
/// counts. If it turns out too small, `get` starts anew with what the torrent takes.
const GUESSES: [(u64, u64); 4] = [
    (32 * 1024, 16 << 20),
    (8 * 1024, 8 << 20),
    (2 * 1024, 4 << 20),
    (256, 1 << 20),
];
