//! How a session begins: with what is named on the command line, opened before anybody is let in, or with a
//! configuration file, whose torrents are opened while others are served.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use everseed_disk::{Content, check};

use super::Session;
use super::fetch::{self, DISK_FULL, Download};
use super::front::Front;
use super::library::{Library, STARTING};
use super::listening::Listening;
use super::opener::{OpenedTorrent, TorrentOpener, is_given};
use super::reach::Reach;
use super::room::{plan, room, say_if_few};
use crate::failure::Failure;
use crate::options::get::Fetch;
use crate::options::run::{Config, RunArgs};
use crate::options::seed::SeedArgs;
use crate::storage::mount_guard::{MountId, MountState};
use crate::storage::state::StateFolder;
use crate::text::escape;

impl Session {
    /// Everything that is named, ready to run.
    pub(super) fn open(
        mut args: SeedArgs,
        state: StateFolder,
        listening: Listening,
        get: Option<&Fetch>,
        original: Option<&Path>,
        front: Front,
    ) -> Result<Session, Failure> {
        let first = listening.local();
        let own_tracker = Reach::new(&args, first).own_tracker;
        let sources = TorrentOpener {
            state: &state,
            asked: true,
            original,
            data: args.data.as_deref(),
            incomplete: get.and_then(|get| get.incomplete.as_deref()),
            files: &args.files,
            within: None,
            links: args.links,
            make: &args.make,
            own_tracker: &own_tracker,
            notices: &front.notices,
        };
        let paths = std::mem::take(&mut args.paths);
        let mut opened: Vec<(usize, OpenedTorrent)> = Vec::with_capacity(paths.len());
        let mut order: Vec<usize> = (0..paths.len()).collect();
        // What torrents describe has to be known before any is made.
        order.sort_by_key(|&number| !is_given(&paths[number]));
        for number in order {
            let path = &paths[number];
            let source = sources.open(path);
            let source = source.map_err(|trouble| Failure::Failed(trouble.text()))?;
            let hash = |s: &OpenedTorrent| s.content.metainfo().info_hash;
            if opened.iter().any(|(_, other)| hash(other) == hash(&source)) {
                let shown = escape(path.as_os_str().as_encoded_bytes()).to_string();
                log::warn!("{shown}: the same torrent was named before, so this one is left out");
            } else {
                opened.push((number, source));
            }
        }
        opened.sort_by_key(|&(number, _)| number);
        let opened: Vec<OpenedTorrent> = opened.into_iter().map(|(_, source)| source).collect();
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
        let session = Session::new(&args, state, listening, plan, down, front);
        let mut session = session.map_err(Failure::Failed)?;
        let introduced = session.torrents.introduce(&opened);
        introduced.map_err(Failure::Failed)?;
        session.open_listeners();
        let engine = Rc::clone(&session.engine);
        for source in opened {
            let engine = &mut engine.borrow_mut();
            session.torrents.add(engine, source, download.take());
        }
        session.tasks.turn();
        Ok(session)
    }

    /// Starts the service: listens, says that it is ready, and has yet to open its torrents.
    pub(super) fn open_service(
        args: &RunArgs,
        config: Config,
        front: Front,
    ) -> Result<Session, Failure> {
        let state = StateFolder::open_lasting(&config.seed.state, config.state_in_ram);
        let state = state.map_err(|error| Failure::Failed(error.to_string()))?;
        let mut listening = Listening::new(&config.seed, front.notices.clone());
        listening.take();
        say_if_few(&config.seed);
        let room = room(&config).map_err(|error| Failure::Failed(error.to_string()))?;
        let session = Session::new(&config.seed, state, listening, room, config.down, front);
        let mut session = session.map_err(Failure::Failed)?;
        session.torrents.calm = true;
        session.open_listeners();
        let engine = Rc::clone(&session.engine);
        let mut engine = engine.borrow_mut();
        engine.pause_listening(Some(STARTING));
        let reload = session.signals.take_reload();
        reload.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
        let (torrents, way, spawner) = (
            &mut session.torrents,
            &engine.way_out,
            session.tasks.spawner(),
        );
        let mut library = Library::new(args.clone(), config, room, torrents, way, spawner);
        library.name_items();
        library.load_catalogue(torrents, &mut engine);
        session.farewell = FAREWELL;
        library.manager.ready();
        session.library = Some(library);
        drop(engine);
        Ok(session)
    }
}

/// What `get` does before anything is asked for.
pub(super) fn begin_download(
    state: &StateFolder,
    content: &Content,
    get: &Fetch,
) -> Result<Download, Failure> {
    let refused = |(text, code): fetch::Refusal| Failure::Code(text, code);
    let mut plan = fetch::plan(state, content, get).map_err(refused)?;
    let root = content.root();
    let before = state.place(content.metainfo().info_hash, &root);
    // A disk that is not mounted is waited for; any other trouble is better told at once.
    if let MountState::There(_) = MountId::look(&root, before.as_ref())
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

/// How long trackers of a service have to hear the farewell; the rest of a second is for the state.
const FAREWELL: Duration = Duration::from_millis(600);
