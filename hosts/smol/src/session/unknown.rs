//! Torrents known only by a magnet link: their metadata is fetched from peers, then they are like any other torrent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::magnet::{Magnet, Value};
use everseed_core::metadata::METADATA_MAX;
use everseed_core::text::printable;
use everseed_node::{Event, Job, MetadataStats, PeerSource};

use super::fetch;
use super::trouble::Trouble;
use crate::async_tasks::Spawner;
use crate::net::engine::Engine;
use crate::storage::spool::Spool;
use crate::storage::state::StateFolder;
use crate::text::{escape, size};

/// A torrent whose metadata is being fetched.
pub(super) struct Unknown {
    /// The link that was given, or the file that holds it.
    pub(super) given: PathBuf,
    link: String,
    pub(super) info_hash: InfoHash,
    pub(super) id: TorrentId,
    name: String,
    trackers: Vec<String>,
    /// The last message about it, and the earliest time of a new one.
    last_message: String,
    say_at: Instant,
    /// The next try of a failed write.
    retry: Option<Instant>,
}

/// All torrents whose metadata is being fetched.
pub(super) struct Unknowns {
    pub(super) all: Vec<Unknown>,
    state: Arc<StateFolder>,
    /// The engine, for lookups that end later.
    engine: Rc<RefCell<Engine>>,
    spawner: Spawner,
    /// The owner's trackers, for links that name none.
    named_trackers: Vec<String>,
}

impl Unknowns {
    pub(super) fn new(
        state: Arc<StateFolder>,
        engine: Rc<RefCell<Engine>>,
        spawner: Spawner,
        named_trackers: Vec<String>,
    ) -> Unknowns {
        Unknowns {
            all: Vec::new(),
            state,
            engine,
            spawner,
            named_trackers,
        }
    }

    /// Starts to fetch the metadata of a link, unless that has begun. Another link that was `given` before is given
    /// up. The peers that the owner `named` are called too.
    pub(super) fn fetch(
        &mut self,
        engine: &mut Engine,
        given: &Path,
        link: &str,
        named: &[SocketAddr],
    ) -> Result<(), Trouble> {
        if self.all.iter().any(|u| u.given == given && u.link == link) {
            return Ok(());
        }
        self.keep(engine, |other| other != given);
        let magnet = Magnet::parse(link).map_err(|error| Trouble::Bad(error.to_string()))?;
        let info_hash = magnet.info_hash;
        let name = name(&magnet);
        if engine.node.find(info_hash).is_some() {
            return Err(Trouble::Twin(name, info_hash));
        }
        let mut trackers = urls(magnet.trackers());
        let torrent = self.state.torrent_file(info_hash);
        let spool = Spool::create(info_hash, torrent, &trackers, &urls(magnet.web_seeds()));
        let spool = spool.map_err(|error| {
            let folder = self.state.folder().display().to_string();
            Trouble::Failed(format!("{folder}: {error}; its metadata cannot be kept"))
        })?;
        // The torrent may turn out to be private, and then has only its own trackers.
        if trackers.is_empty() {
            trackers.clone_from(&self.named_trackers);
        }
        let id = engine.fetch(info_hash, spool);
        let id = id.map_err(|error| Trouble::Full(format!("{name}: {error}")))?;
        if magnet.also_version_2 {
            log::info!("{name}: it has a hash of version 2 too, which is not used");
        }
        for (tier, _) in (0..=u8::MAX).zip(&trackers) {
            if engine.node.announce(id, tier, 1).is_err() {
                log::warn!("{name}: no room to announce to all of its trackers");
                break;
            }
        }
        self.call_named(engine, id, &magnet);
        for &peer in named {
            engine.tell(Event::Peer(id, peer, PeerSource::User));
        }
        if trackers.is_empty() && !engine.publicity.dht() {
            log::warn!(
                "{name}: the link names no tracker and the DHT is off, so its peers have to be in the local network, or \
                 named by --peer"
            );
        }
        log::info!("{name}: its metadata is fetched");
        self.all.push(Unknown {
            given: given.to_owned(),
            link: link.to_owned(),
            info_hash,
            id,
            name,
            trackers,
            last_message: String::new(),
            say_at: Instant::now(),
            retry: None,
        });
        Ok(())
    }

    /// Calls the peers that a link names, wherever they are. A link counts as its owner's word, because links made at
    /// home name addresses at home. Each peer gets a handshake, in which only the info-hash is of the link's
    /// choosing.
    fn call_named(&mut self, engine: &mut Engine, id: TorrentId, magnet: &Magnet<'_>) {
        for peer in urls(magnet.peers()) {
            if let Ok(addr) = peer.parse() {
                engine.tell(Event::Peer(id, addr, PeerSource::Magnet));
                continue;
            }
            // With a proxy, only the proxy looks names up.
            if engine.way_out.proxy().is_some() || engine.way_out.is_tied() {
                log::info!("{}: a peer's name is not looked up", escape(&peer));
                continue;
            }
            let shared = Rc::clone(&self.engine);
            self.spawner.spawn(async move {
                let found = smol::net::resolve(peer.as_str()).await;
                let mut engine = shared.borrow_mut();
                for addr in found.into_iter().flatten().take(NAMED) {
                    engine.tell(Event::Peer(id, addr, PeerSource::Magnet));
                }
            });
        }
    }

    /// The tracker of an announce for such a torrent.
    pub(super) fn tracker_url(&self, job: &Job) -> Option<String> {
        let unknown = self.all.iter().find(|u| u.id == job.torrent)?;
        unknown.trackers.get(usize::from(job.tier)).cloned()
    }

    /// Handles fetched metadata. Returns the links whose torrent file is here now.
    pub(super) fn handle_fetched(
        &mut self,
        engine: &mut Engine,
        fetched: &[TorrentId],
        failed: Vec<(TorrentId, std::io::Error)>,
    ) -> Vec<(PathBuf, InfoHash)> {
        let now = Instant::now();
        for (id, error) in failed {
            let Some(unknown) = self.all.iter_mut().find(|u| u.id == id) else {
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
        for unknown in &mut self.all {
            if unknown.retry.take_if(|at| *at <= now).is_some() {
                engine.tell(Event::Writable(unknown.id));
            }
        }
        let mut done = Vec::new();
        for id in fetched {
            let Some(at) = self.all.iter().position(|u| u.id == *id) else {
                continue;
            };
            let unknown = self.all.remove(at);
            engine.fetch_no_longer(unknown.id);
            // The node gets the torrent's own trackers when its torrent file is loaded.
            engine.node.forget_trackers(unknown.id);
            log::info!("{}: its metadata is here", unknown.name);
            // Without this note a start fetches it again.
            let _ = self
                .state
                .remember(&fetch::key(Path::new(&unknown.link)), unknown.info_hash);
            done.push((unknown.given, unknown.info_hash));
        }
        // A torrent file of one of them may have come from another source.
        self.all.retain(|unknown| {
            let waits = engine.node.metadata(unknown.id).is_some();
            if !waits {
                engine.fetch_no_longer(unknown.id);
            }
            waits
        });
        done
    }

    /// Gives up the links that are not wanted any more.
    pub(super) fn keep(&mut self, engine: &mut Engine, wanted: impl Fn(&Path) -> bool) {
        self.all.retain(|unknown| {
            let stays = wanted(&unknown.given);
            if !stays {
                engine.remove(unknown.id);
            }
            stays
        });
    }

    /// The status of the first of them, shown in place of its progress.
    pub(super) fn say(&mut self, engine: &Engine, is_service: bool) -> Option<String> {
        let now = Instant::now();
        let mut line = None;
        for unknown in &mut self.all {
            if is_service && now < unknown.say_at {
                continue;
            }
            let Some(stats) = engine.node.metadata(unknown.id) else {
                continue;
            };
            let told = format!("{}: {}", unknown.name, waits_for(&stats));
            if is_service {
                unknown.say_at = now + SAY;
                if told != unknown.last_message {
                    log::info!("{told}");
                    unknown.last_message.clone_from(&told);
                }
            }
            line = line.or(Some(told));
        }
        line.filter(|_| !is_service)
    }
}

/// What the metadata of a torrent waits for, in words.
fn waits_for(stats: &MetadataStats) -> String {
    let peers = match stats.peers {
        0 => return "metadata: no peer yet".to_owned(),
        1 => "1 peer".to_owned(),
        n => format!("{n} peers"),
    };
    if stats.refused.is_some() {
        return "metadata: it cannot be written".to_owned();
    }
    if stats.size > 0 && stats.offers > 0 {
        let all = stats.size.div_ceil(16 * 1024);
        let here = all.saturating_sub(stats.missing);
        let bad = match stats.bad_copies {
            0 => String::new(),
            1 => ", 1 copy was wrong".to_owned(),
            n => format!(", {n} copies were wrong"),
        };
        return format!("metadata: {here} of {all} blocks, {peers}{bad}");
    }
    match stats.too_large {
        0 => format!("metadata: {peers}, none has the metadata yet"),
        told => format!(
            "metadata: {peers}; it is said to be of {}, and at most {} are fetched, less with little memory",
            size(told.into()),
            size(METADATA_MAX.into())
        ),
    }
}

/// A name for the torrent before its own is known.
fn name(magnet: &Magnet<'_>) -> String {
    let told: Vec<u8> = magnet.name().into_iter().flat_map(|n| n.bytes()).collect();
    match told.is_empty() {
        true => magnet.info_hash.to_string(),
        false => printable::<200>(&told).as_str().to_owned(),
    }
}

/// The values that are text, and no longer than a URL may be.
fn urls<'a>(values: impl Iterator<Item = Value<'a>>) -> Vec<String> {
    let text = |value: Value<'_>| String::from_utf8(value.bytes().collect()).ok();
    let fits = |url: &String| url.len() <= everseed_core::metainfo::MAX_URL;
    let mut all = Vec::new();
    for url in values.filter_map(text).filter(fits) {
        if !all.contains(&url) && all.len() < MOST {
            all.push(url);
        }
    }
    all
}

/// The most trackers, peers and web seeds of a link that are used, of each kind.
pub(super) const MOST: usize = 64;

/// The most addresses of one name that are called.
const NAMED: usize = 4;

/// The interval of messages about one torrent.
const SAY: Duration = Duration::from_secs(60);

/// The pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_waits_for() {
        let none = MetadataStats::default();
        let table = [
            (none, "metadata: no peer yet"),
            (
                MetadataStats { peers: 12, ..none },
                "metadata: 12 peers, none has the metadata yet",
            ),
            (
                MetadataStats {
                    peers: 2,
                    offers: 1,
                    size: 40_000,
                    missing: 1,
                    bad_copies: 1,
                    ..none
                },
                "metadata: 2 of 3 blocks, 2 peers, 1 copy was wrong",
            ),
            (
                MetadataStats {
                    peers: 1,
                    offers: 1,
                    too_large: 40 << 20,
                    ..none
                },
                "metadata: 1 peer; it is said to be of 40.0 MiB, and at most 30.0 MiB are fetched, less with little \
                 memory",
            ),
        ];
        for (stats, words) in table {
            assert_eq!(waits_for(&stats), words);
        }
    }
}
