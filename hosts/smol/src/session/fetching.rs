//! `get` with a magnet link: the metadata is fetched, then what it describes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use everseed_core::geometry::Geometry;
use everseed_core::hash::InfoHash;
use everseed_core::magnet::Magnet;
use everseed_node::{Event, PeerSource};

use super::front::Front;
use super::listening::Listening;
use super::opener::TorrentOpener;
use super::opening::begin_download;
use super::reload;
use super::room::{plan, say_if_few};
use super::unknown::{Awaited, MOST};
use super::{Session, broken};
use crate::failure::Failure;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::options::seed::SeedArgs;
use crate::storage::state::StateFolder;
use crate::text::size;

impl Session {
    /// Fetches the metadata of the link that `get` was given, then what it describes.
    pub(super) fn get_unknown(
        args: SeedArgs,
        state: StateFolder,
        listening: Listening,
        get: &Fetch,
        front: Front,
    ) -> Result<ExitCode, Failure> {
        say_if_few(&args);
        let given = args.paths[0].clone();
        let link = given.to_str().unwrap_or_default();
        let magnet = Magnet::parse(link).map_err(|error| Failure::Failed(error.to_string()))?;
        let tiers = magnet.trackers().count().min(MOST);
        let lent = GUESSES.iter().find_map(|&(pieces, piece_len)| {
            let guess = Geometry::new(pieces * piece_len, piece_len).ok()?;
            let mut plan = plan(&args);
            plan.add(&guess, tiers);
            plan.add_download(&guess);
            plan.fit(args.memory).ok()
        });
        let lent = lent.ok_or_else(|| {
            let memory = size(args.memory);
            Failure::Failed(format!("--memory {memory} is too little to fetch metadata"))
        })?;
        let session = Session::new(&args, state, listening, lent, get.down, front);
        let mut session = session.map_err(Failure::Failed)?;
        session.open_listeners();
        let engine = Rc::clone(&session.engine);
        let begun = session
            .torrents
            .unknown
            .fetch(&mut engine.borrow_mut(), &given);
        begun.map_err(|trouble| Failure::Failed(trouble.text()))?;
        for &peer in &get.peers {
            let mut engine = engine.borrow_mut();
            let id = session.torrents.unknown.all[0].id;
            engine.tell(Event::Peer(id, peer, PeerSource::User));
        }
        let get = get.clone();
        session.awaited = Some(Box::new(Awaited { args, get, lent }));
        let code = session.run().map_err(broken)?;
        if let Some(failure) = session.failed.take() {
            return Err(failure);
        }
        if session.again {
            drop((session, engine));
            return Err(reload::start_again());
        }
        Ok(code)
    }

    /// Goes on with what is known now.
    pub(super) fn begin_known(&mut self, engine: &mut Engine, known: &[(PathBuf, InfoHash)]) {
        if let Some(library) = &mut self.library {
            library.fetched(known);
            self.torrents.checked = true;
        }
        if let (Some(awaited), Some(&(_, info_hash))) = (self.awaited.take(), known.first())
            && let Err(failure) = self.begin_awaited(engine, *awaited, info_hash)
        {
            self.failed = Some(failure);
        }
    }

    /// The metadata that `get` waited for is here.
    fn begin_awaited(
        &mut self,
        engine: &mut Engine,
        awaited: Awaited,
        info_hash: InfoHash,
    ) -> Result<(), Failure> {
        let Awaited { args, get, lent } = awaited;
        let state = Arc::clone(&self.torrents.state);
        let sources = TorrentOpener {
            state: &state,
            asked: true,
            original: None,
            data: Some(&get.out),
            incomplete: get.incomplete.as_deref(),
            files: &args.files,
            within: None,
            links: args.links,
            make: &args.make,
            own_tracker: &self.torrents.reach.own_tracker,
            notices: &self.torrents.notices,
        };
        let source = sources.open(&state.torrent_file(info_hash));
        let source = source.map_err(|trouble| Failure::Failed(trouble.text()))?;
        state.described().sync();
        let download = begin_download(&state, &source.content, &get)?;
        let geometry = source.content.geometry();
        let mut needed = plan(&args);
        needed.add(&geometry, source.tiers.len());
        needed.add_download(&geometry);
        if !lent.has_room_for(&needed) {
            self.again = true;
            return Ok(());
        }
        let sources = [source];
        self.torrents.introduce(&sources).map_err(Failure::Failed)?;
        let [source] = sources;
        self.torrents.add(engine, source, Some(download));
        Ok(())
    }
}

/// Pieces and bytes of each that there is room for before it is known; of those that fit the first. If it turns out to
/// be too little, `get` begins anew with what it takes.
const GUESSES: [(u64, u64); 4] = [
    (32 * 1024, 16 << 20),
    (8 * 1024, 8 << 20),
    (2 * 1024, 4 << 20),
    (256, 1 << 20),
];
