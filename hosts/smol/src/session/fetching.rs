//! Metadata of magnet links: begun, kept, and gone on with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use everseed_core::geometry::{Geometry, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::magnet::Magnet;
use everseed_node::{Event, Job, PeerSource};

use super::listening::Listening;
use super::service::{Managed, Service, Stage};
use super::sources::Sources;
use super::trouble::Trouble;
use super::unknown::{Awaited, MOST, Unknown, name, urls, waits_for};
use super::{Session, begin_download, fetch, plan, reload, say_if_few};
use crate::failure::Failure;
use crate::net::engine::Engine;
use crate::options::get::Fetch;
use crate::options::seed::SeedArgs;
use crate::storage::spool::Spool;
use crate::storage::state::State;
use crate::text::{escape, size};

impl Session {
    /// Fetches the metadata of the link that `get` was given, then what it describes.
    pub(super) fn get_unknown(
        args: SeedArgs,
        state: State,
        listening: Listening,
        get: &Fetch,
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
        let session = Session::new(&args, state, listening, lent, get.down);
        let mut session = session.map_err(Failure::Failed)?;
        session.open_listeners();
        let engine = Rc::clone(&session.engine);
        let begun = session.fetch_metadata(&mut engine.borrow_mut(), &given);
        begun.map_err(|trouble| Failure::Failed(trouble.text()))?;
        for &peer in &get.peers {
            let mut engine = engine.borrow_mut();
            let id = session.unknown[0].id;
            engine.tell(Event::Peer(id, peer, PeerSource::User));
        }
        let get = get.clone();
        session.awaited = Some(Box::new(Awaited { args, get, lent }));
        let code = session.run().map_err(super::broken)?;
        if let Some(failure) = session.failed.take() {
            return Err(failure);
        }
        if session.again {
            drop((session, engine));
            return Err(reload::start_again());
        }
        Ok(code)
    }

    /// Begins to fetch the metadata of a link, unless that has begun.
    pub(super) fn fetch_metadata(
        &mut self,
        engine: &mut Engine,
        given: &Path,
    ) -> Result<(), Trouble> {
        if self.unknown.iter().any(|u| u.given == given) {
            return Ok(());
        }
        let link = given.to_str().unwrap_or_default();
        let magnet = Magnet::parse(link).map_err(|error| Trouble::Bad(error.to_string()))?;
        let info_hash = magnet.info_hash;
        let name = name(&magnet);
        if engine.node.find(info_hash).is_some() {
            return Err(Trouble::Failed(format!(
                "{name}: the same torrent is there already"
            )));
        }
        let trackers = urls(magnet.trackers());
        let torrent = self.state.torrent_file(info_hash);
        let spool = Spool::create(info_hash, torrent, &trackers, &urls(magnet.web_seeds()));
        let spool = spool.map_err(|error| {
            let folder = self.state.folder().display().to_string();
            Trouble::Failed(format!("{folder}: {error}; its metadata cannot be kept"))
        })?;
        let now = engine.now();
        let id = engine.node.add_unknown(now, info_hash);
        let id = id.map_err(|error| Trouble::Full(format!("{name}: {error}")))?;
        if magnet.also_version_2 {
            log::info!("{name}: it has a hash of version 2 too, which is not used");
        }
        engine.fetch(id, spool);
        engine.publish(id, false);
        for (tier, _) in (0..=u8::MAX).zip(&trackers) {
            if engine.node.announce(now, id, tier, 1).is_err() {
                log::warn!("{name}: no room to announce to all of its trackers");
                break;
            }
        }
        self.call_named(engine, id, &magnet);
        log::info!("{name}: its metadata is fetched");
        self.unknown.push(Unknown {
            given: given.to_owned(),
            info_hash,
            id,
            name,
            trackers,
            said: String::new(),
            say_at: Instant::now(),
            retry: None,
        });
        Ok(())
    }

    /// Has the peers called that the link names.
    fn call_named(&mut self, engine: &mut Engine, id: TorrentId, magnet: &Magnet<'_>) {
        for peer in urls(magnet.peers()) {
            if let Ok(addr) = peer.parse() {
                engine.tell(Event::Peer(id, addr, PeerSource::Magnet));
                continue;
            }
            // With a proxy it is the proxy that looks up names.
            if engine.way_out.proxy().is_some() || engine.way_out.is_tied() {
                log::info!("{}: a peer's name is not looked up", escape(&peer));
                continue;
            }
            let shared = Rc::clone(&self.engine);
            self.slow.spawn(async move {
                let found = smol::net::resolve(peer.as_str()).await;
                let mut engine = shared.borrow_mut();
                for addr in found.into_iter().flatten().take(NAMED) {
                    engine.tell(Event::Peer(id, addr, PeerSource::Magnet));
                }
            });
        }
    }

    /// Goes on with what is known now.
    pub(super) fn begin_known(&mut self, engine: &mut Engine, known: &[(PathBuf, InfoHash)]) {
        if let Some(service) = &mut self.service {
            service.fetched(known);
            self.checked = true;
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
        let state = std::sync::Arc::clone(&self.state);
        let sources = Sources {
            state: &state,
            asked: true,
            original: None,
            data: Some(&get.out),
            files: &args.files,
            within: None,
            links: args.links,
            make: &args.make,
            own_tracker: &self.own_tracker,
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
        self.introduce(&sources).map_err(Failure::Failed)?;
        let [source] = sources;
        self.add(engine, source, Some(download));
        Ok(())
    }

    /// The tracker of an announce for such a torrent.
    pub(super) fn unknown_tracker(&self, job: &Job) -> Option<String> {
        let unknown = self.unknown.iter().find(|u| u.id == job.torrent)?;
        unknown.trackers.get(usize::from(job.tier)).cloned()
    }

    /// What became of their metadata. Answers with the links of those whose torrent file is here now.
    pub(super) fn mind_unknown(
        &mut self,
        engine: &mut Engine,
        fetched: &[TorrentId],
        failed: Vec<(TorrentId, std::io::Error)>,
    ) -> Vec<(PathBuf, InfoHash)> {
        let now = Instant::now();
        for (id, error) in failed {
            let Some(unknown) = self.unknown.iter_mut().find(|u| u.id == id) else {
                continue;
            };
            if unknown.retry.is_none() {
                let folder = self.state.folder().display().to_string();
                let name = &unknown.name;
                log::error!(
                    "{name}: its metadata cannot be kept in {folder}: {error}; it is tried again"
                );
            }
            unknown.retry = Some(now + RETRY);
        }
        for unknown in &mut self.unknown {
            if unknown.retry.take_if(|at| *at <= now).is_some() {
                engine.tell(Event::Writable(unknown.id));
            }
        }
        let mut done = Vec::new();
        for id in fetched {
            let Some(at) = self.unknown.iter().position(|u| u.id == *id) else {
                continue;
            };
            let unknown = self.unknown.remove(at);
            engine.fetch_no_longer(unknown.id);
            let now = engine.now();
            // They are told anew of what it turns out to be.
            engine.node.forget_trackers(now, unknown.id);
            log::info!("{}: its metadata is here", unknown.name);
            // Without it a start fetches it again.
            let _ = self
                .state
                .remember(&fetch::key(&unknown.given), unknown.info_hash);
            done.push((unknown.given, unknown.info_hash));
        }
        // A torrent file of one of them may have come by another way.
        self.unknown.retain(|unknown| {
            let waits = engine.node.metadata(unknown.id).is_some();
            if !waits {
                engine.fetch_no_longer(unknown.id);
            }
            waits
        });
        done
    }

    /// Parts with those whose links are not wanted any more.
    pub(super) fn keep_unknown(&mut self, engine: &mut Engine, wanted: impl Fn(&Path) -> bool) {
        self.unknown.retain(|unknown| {
            let stays = wanted(&unknown.given);
            if !stays {
                let now = engine.now();
                engine.fetch_no_longer(unknown.id);
                engine.node.remove(now, unknown.id);
            }
            stays
        });
    }

    /// What is to be said of the first of them, in place of its progress.
    pub(super) fn say_unknown(&mut self, engine: &Engine) -> Option<String> {
        let is_service = self.service.is_some();
        let now = Instant::now();
        let mut line = None;
        for unknown in &mut self.unknown {
            let Some(stats) = engine.node.metadata(unknown.id) else {
                continue;
            };
            let told = format!("{}: {}", unknown.name, waits_for(&stats));
            if is_service && told != unknown.said && now >= unknown.say_at {
                log::info!("{told}");
                (unknown.said, unknown.say_at) = (told.clone(), now + SAY);
            }
            line = line.or(Some(told));
        }
        line.filter(|_| !is_service)
    }
}

impl Service {
    /// The metadata of magnet links is here: they are loaded at once.
    pub(super) fn fetched(&mut self, done: &[(PathBuf, InfoHash)]) {
        let its = |managed: &&mut Managed| {
            let waits = matches!(managed.stage, Stage::Waiting(_));
            waits && done.iter().any(|(given, _)| *given == managed.item.path)
        };
        for managed in self.items.iter_mut().filter(its) {
            managed.stage = Stage::Ready;
        }
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

/// Addresses of one name that are called.
const NAMED: usize = 4;

/// How often something new is said of one.
const SAY: Duration = Duration::from_secs(60);

/// When writing is tried again.
const RETRY: Duration = Duration::from_secs(10);
