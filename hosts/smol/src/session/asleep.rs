//! Sleeping torrents of watched folders, which take turns to be awake.
//!
//! When others need their places, torrents without peers go to sleep: first the one that has had none for the
//! longest. A sleeping torrent is woken when a peer names it, or when a tracker knows peers that download it. Some are
//! opened at a time; the others wait for their turn, and their peers with them. If all awake torrents have peers, peers
//! that name another one are disconnected, to come again later.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use everseed_core::geometry::TorrentId;
use everseed_node::{Event, PeerSource, Publicity};

use super::index::{is_torrent, names_torrent};
use super::item::{ItemStage, LibraryItem, Waking};
use super::library::{Library, POLL};
use super::load::LoadOutcome;
use super::notice::Notice;
use super::room::most_awake;
use super::scan;
use super::silence::publicity;
use super::torrent::ManagedTorrent;
use super::torrent::goal::Goal;
use super::torrents::Torrents;
use super::trouble::Trouble;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::net::memory::Plan;
use crate::options::run::Item;
use crate::storage::described::Description;
use crate::storage::dormant::DormantTorrent;
use crate::storage::worker::TorrentNumber;
use crate::text::escape;

impl Library {
    /// Loads the torrents that slept in the last run, so that they need not be opened. If every torrent fits in
    /// memory, no catalogue is kept.
    pub(super) fn load_catalogue(&mut self, torrents: &Torrents, engine: &mut Engine) {
        let mut catalogue = torrents.catalogue.borrow_mut();
        let (mut left_out, mut tiers_left_out) = (0_usize, 0_usize);
        let known = &*engine;
        let take = |sleeper: &DormantTorrent| {
            torrents.signals.go_on()?;
            let watched = |folder: &Path| self.watches.iter().any(|watch| watch.folder == folder);
            if !sleeper.path().parent().is_some_and(watched) {
                return Ok(None);
            }
            if let Some(id) = known.node.find(sleeper.info_hash()) {
                return Ok(Some(id));
            }
            let publicity = publicity(known, sleeper);
            let Ok(id) = known.node.know(sleeper.info_hash(), publicity) else {
                left_out += 1;
                return Ok(None);
            };
            tiers_left_out += torrents.announce_sleeper(known, id, sleeper);
            Ok(Some(id))
        };
        let drop = |info_hash| {
            let id = known.node.find(info_hash)?;
            known.node.remove(id);
            Some(id)
        };
        let path = torrents.state.catalogue_file();
        if let Err(error) = catalogue.load(take, drop) {
            if torrents.signals.asked() {
                return;
            }
            log::warn!("{}: {error}; all torrents are opened", path.display());
        }
        if left_out > 0 {
            log::error!("{left_out} torrents are left out; raise memory =");
        }
        if tiers_left_out > 0 {
            log::error!(
                "{tiers_left_out} tiers of trackers of torrents that sleep are not announced to; raise memory ="
            );
        }
        let count = catalogue.count();
        if count > most_awake(&self.config) {
            let mut paused = Vec::new();
            let read = catalogue.each(|_, sleeper| {
                torrents.signals.go_on()?;
                let id = engine.node.find(sleeper.info_hash());
                paused.extend(id.filter(|_| torrents.is_paused(&sleeper.path())));
                Ok(())
            });
            if let Err(error) = read {
                log::warn!("{}: {error}", path.display());
            }
            for id in paused {
                catalogue.pause(id, true);
                engine.node.publish(id, Publicity::NONE);
                engine.node.forget_trackers(id);
            }
            return torrents.notices.tell(Notice::Asleep(count));
        }
        let ids: Vec<_> = (0..catalogue.slots())
            .filter_map(|slot| catalogue.read(u16::try_from(slot).ok()?))
            .filter_map(|sleeper| engine.node.find(sleeper.info_hash()))
            .collect();
        for id in ids {
            engine.remove(id);
        }
        if let Err(error) = catalogue.clear() {
            log::warn!("{}: {error}", path.display());
        }
    }

    /// Has the loader open the sleeping torrents that are wanted.
    pub(super) fn wake_wanted(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let mut waiting = Waiting::new(&self.room);
        for (id, peers) in std::mem::take(&mut torrents.wakes) {
            if let Some(waking) = self.waking.iter_mut().find(|waking| waking.id == id) {
                let room = PEERS_MAX.saturating_sub(waking.peers.len());
                if peers.len() > room {
                    log::info!(
                        "{}: {PEERS_MAX} peers are known while it is woken: others have to be told of again",
                        escape(waking.path.as_os_str().as_encoded_bytes())
                    );
                }
                waking.peers.extend(peers.into_iter().take(room));
            } else if !engine.node.is_asleep(id) {
                tell(engine, id, peers);
            } else if torrents.awake.known_as(id).is_some() {
                // It is awake, and away.
            } else if self.waking.len() < WAKING_MAX {
                let peers = peers.into_iter().take(PEERS_MAX).collect();
                self.open(torrents, engine, id, peers, false);
            } else if !waiting.add(id, peers) {
                engine.sleep(id);
            }
        }
        waiting.say_if_full();
        torrents.wakes = waiting.wanted;
    }

    /// Has what sleeps opened, to be served or to `verify` it.
    pub(super) fn open(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        id: TorrentId,
        peers: Vec<SocketAddr>,
        verify: bool,
    ) -> WakeUp {
        if self.waking.len() >= WAKING_MAX {
            log::info!(
                "{WAKING_MAX} torrents are being woken: another one stays asleep until it is wanted again"
            );
            engine.sleep(id);
            return WakeUp::Later;
        }
        let Some(sleeper) = torrents.catalogue.borrow().read(id.slot) else {
            log::error!(
                "{}: a torrent that sleeps cannot be read in it, and stays asleep",
                torrents.state.catalogue_file().display()
            );
            engine.sleep(id);
            return WakeUp::Refused;
        };
        let silent = torrents.catalogue.borrow().why_silent(id);
        if let Some(why) = silent {
            engine.sleep(id);
            if verify {
                let path = &sleeper.path();
                torrents.notices.tell(Notice::NotVerified { path, why });
            }
            return WakeUp::Refused;
        }
        if !names_torrent(&sleeper.path()) && self.content_waits() {
            log::info!(
                "{}: it stays asleep until the torrents beside it are read, as it may be of one of them",
                escape(sleeper.path().as_os_str().as_encoded_bytes())
            );
            engine.sleep(id);
            return WakeUp::Later;
        }
        let (path, data) = (sleeper.path(), sleeper.data());
        let item = Item {
            path: path.clone(),
            data: data.clone(),
            files: Vec::new(),
            fetch: None,
        };
        let ticket = self.open_again(torrents, item, sleeper.mark);
        self.waking.push(Waking {
            ticket,
            id,
            path,
            data,
            mark: sleeper.mark,
            peers,
            verify,
        });
        WakeUp::Begun
    }

    /// Starts a sleeping torrent that was opened, if it has not changed.
    pub(super) fn opened_again(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        waking: Waking,
        outcome: LoadOutcome,
    ) {
        let (id, path) = (waking.id, waking.path);
        let give_up_verifying = |torrents: &Torrents, why: &str| {
            if waking.verify {
                let path = &path;
                torrents.notices.tell(Notice::NotVerified { path, why });
            }
        };
        let shown = escape(path.as_os_str().as_encoded_bytes()).to_string();
        let source = match outcome {
            Ok((source, _)) => source,
            Err(Trouble::Changed(reason)) => {
                log::warn!(target: EVENT, "{reason}; it is shared anew once it stays unchanged");
                give_up_verifying(torrents, &reason);
                return self.forget_opened(torrents, engine, id);
            }
            Err(reason) => {
                let reason = reason.text();
                log::info!("{reason}; it stays asleep");
                give_up_verifying(torrents, &reason);
                return engine.sleep(id);
            }
        };
        if engine.node.find(source.content.metainfo().info_hash) != Some(id) {
            log::warn!(target: EVENT, "{shown}: it is another torrent now");
            give_up_verifying(torrents, "it is another torrent now");
            return self.forget_opened(torrents, engine, id);
        }
        if !engine.node.is_asleep(id) {
            let torrent = torrents.awake.known_as_mut(id);
            if let Some(torrent) = torrent.filter(|_| waking.verify) {
                torrent.verify(engine);
            }
            return tell(engine, id, waking.peers);
        }
        let silent = torrents.catalogue.borrow().why_silent(id);
        if let Some(why) = silent {
            // It was paused meanwhile.
            give_up_verifying(torrents, why);
            return engine.sleep(id);
        }
        if !self.make_room(torrents, engine) {
            log::info!("{shown}: it stays asleep, as all that are awake have peers");
            if waking.verify {
                // Not at once: it would be opened again and again until somebody goes.
                self.sleepers.to_verify.push(id);
                self.sleepers.verify_after = Some(Instant::now() + POLL);
            }
            return engine.sleep(id);
        }
        let info_hash = source.content.metainfo().info_hash;
        let number = torrents.wake(engine, source, id);
        if let Some(torrent) = torrents.awake.last_mut() {
            let seeded = (torrents.state).seeded_asleep(info_hash, self.begun.elapsed());
            torrent.set_woken_goal(self.goal_of(&path), seeded);
        }
        let folder = path.parent().map(Path::to_owned);
        let mut item = scan::item(
            &self.config,
            folder.as_deref().unwrap_or(Path::new("")),
            path,
        );
        if let (Some(fetch), Some(data)) = (&mut item.fetch, &waking.data) {
            fetch.out.clone_from(data);
        }
        item.data = waking.data;
        let mut managed =
            LibraryItem::new(item, folder, Some(waking.mark), ItemStage::Running(number));
        managed.in_doubt = false;
        managed.info_hash = Some(info_hash);
        self.items.push(managed);
        tell(engine, id, waking.peers);
        if let Some(torrent) = torrents.awake.last_mut().filter(|_| waking.verify) {
            torrent.verify(engine);
        }
        self.back_to_sleep(torrents, engine);
    }

    /// Makes room for another awake torrent. False if every awake one has to stay awake.
    pub(super) fn make_room(&mut self, torrents: &mut Torrents, engine: &mut Engine) -> bool {
        if torrents.awake.len() < self.most_awake() {
            return true;
        }
        let mut idle: Vec<_> = torrents
            .awake
            .iter()
            .filter(|torrent| torrent.may_sleep(engine).is_some())
            .map(|torrent| (torrent.used(), torrent.number()))
            .collect();
        idle.sort_unstable();
        let mut idle = idle.into_iter();
        idle.any(|(_, number)| self.put_to_sleep(torrents, engine, number))
            || self.take_place_of_idle(torrents, engine)
    }

    fn put_to_sleep(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        number: TorrentNumber,
    ) -> bool {
        let running = |managed: &LibraryItem| managed.stage == ItemStage::Running(number);
        let Some(item) = self.items.iter().position(running) else {
            return false;
        };
        let Some(torrent) = torrents.awake.get(number) else {
            return false;
        };
        let managed = &self.items[item];
        let (Some(id), Some(mark), Some(_)) =
            (torrent.may_sleep(engine), managed.mark, &managed.folder)
        else {
            return false;
        };
        let Item {
            path, data, fetch, ..
        } = &managed.item;
        if let Some(fetch) = fetch
            && Goal::of(fetch) != self.goal_of(path)
        {
            // While it slept its folder's goal would count, and not its own.
            return false;
        }
        let data = fetch.as_ref().map(|fetch| &fetch.out).or(data.as_ref());
        let sleeper = torrent.sleeper(path, data.map(|data| data.as_path()), mark);
        let written = sleeper.and_then(|sleeper| {
            let added = torrents.catalogue.borrow_mut().add(id, &sleeper);
            added.map_err(|e| format!("{}: {e}", torrents.state.catalogue_file().display()))
        });
        if let Err(error) = written {
            log::error!("{error}; {} stays awake", torrent.name());
            return false;
        }
        log::info!("{}: asleep", torrent.name());
        self.items.swap_remove(item);
        if let Some(torrent) = torrents.awake.take(number) {
            torrent.sleep(engine, &torrents.state, id);
        }
        true
    }

    /// Puts torrents back to sleep that were woken and whose files turned out to be away.
    pub(super) fn back_to_sleep(&mut self, torrents: &mut Torrents, engine: &mut Engine) {
        let away = |torrent: &&ManagedTorrent| torrent.dormant_as().is_some() && torrent.is_away();
        let away: Vec<_> = torrents
            .awake
            .iter()
            .filter(away)
            .map(ManagedTorrent::number)
            .collect();
        for number in away {
            self.items
                .retain(|managed| managed.stage != ItemStage::Running(number));
            if let Some(torrent) = torrents.awake.take(number)
                && let Some(id) = torrent.dormant_as()
            {
                torrent.sleep(engine, &torrents.state, id);
            }
        }
    }

    /// Forgets a sleeping torrent that was opened and turned out to have changed.
    fn forget_opened(&mut self, torrents: &mut Torrents, engine: &mut Engine, id: TorrentId) {
        let sleeper = torrents.catalogue.borrow().read(id.slot);
        // If it was woken meanwhile, it is one of `items`, which are handled elsewhere.
        if let Some(sleeper) = sleeper.filter(|_| torrents.is_asleep(engine, id)) {
            self.forget(torrents, engine, id, &sleeper);
        }
    }

    /// Forgets a sleeping torrent that has changed or left its folder.
    pub(super) fn forget(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        id: TorrentId,
        sleeper: &DormantTorrent,
    ) {
        let path = sleeper.path();
        if is_torrent(&path) {
            // Earlier versions recorded no descriptions for their sleeping torrents.
            let description = Description {
                root: sleeper.root(),
                torrent: path.clone(),
                private: true,
            };
            let described = torrents.state.described();
            if !described.holds_real(&description.root)
                && let Err(error) = described.add(&description)
            {
                return log::error!(
                    "{}: {error}: it cannot be recorded that its content belongs to it, so it still sleeps; \
                     make room for the state",
                    path.display()
                );
            }
        }
        let shown = path.as_os_str().as_encoded_bytes();
        torrents.notices.tell(Notice::Stopped(shown));
        engine.remove(id);
        self.waking.retain(|waking| waking.id != id);
        self.sleepers.to_verify.retain(|&other| other != id);
        torrents.wakes.retain(|(other, _)| *other != id);
        torrents.state.parted_with(sleeper.info_hash());
        torrents.catalogue.borrow_mut().remove(id);
        torrents.tracker.borrow_mut().remove(sleeper.info_hash());
        // If it still exists, it counts as new.
        self.scans.more = true;
    }
}

/// What became of a wish to open a sleeping torrent.
pub(super) enum WakeUp {
    Begun,
    /// Not now, and it stays asleep.
    Later,
    /// Not at all, which was told.
    Refused,
}

/// Torrents that wait until others are awake, and peers of each. There is room for a number of them, and of peers of all
/// together. One beyond that stays asleep, and its peers are let go, until it is wanted again; a peer beyond that has to
/// be told of again.
struct Waiting {
    wanted: Vec<(TorrentId, Vec<SocketAddr>)>,
    most: usize,
    /// The number of peers that there is room for yet.
    room: usize,
    left_out: usize,
}

impl Waiting {
    fn new(plan: &Plan) -> Waiting {
        Waiting {
            wanted: Vec::new(),
            most: plan.wanted(),
            room: plan.wanted_peers(),
            left_out: 0,
        }
    }

    /// Has a torrent wait. False if there is no room.
    fn add(&mut self, id: TorrentId, mut peers: Vec<SocketAddr>) -> bool {
        let is_full = self.wanted.len() == self.most;
        let mut wanted = self.wanted.iter_mut();
        let known = wanted.find(|(other, _)| *other == id);
        if known.is_none() && is_full {
            self.left_out += 1;
            return false;
        }
        let has = known.as_ref().map_or(0, |(_, peers)| peers.len());
        peers.truncate(PEERS_MAX.saturating_sub(has).min(self.room));
        self.room -= peers.len();
        match known {
            Some((_, known)) => known.extend(peers),
            None => {
                peers.shrink_to_fit();
                self.wanted.push((id, peers));
            }
        }
        true
    }

    fn say_if_full(&self) {
        if self.left_out > 0 {
            log::info!(
                "{} torrents wait to be woken: {} others stay asleep until they are wanted again",
                self.most,
                self.left_out
            );
        }
    }
}

fn tell(engine: &mut Engine, id: TorrentId, peers: Vec<SocketAddr>) {
    for peer in peers {
        engine.tell(Event::Peer(id, peer, PeerSource::Tracker));
    }
}

/// The most torrents that are opened at a time because they are wanted; others wait for it.
const WAKING_MAX: usize = 16;

/// The most peers that are kept for a torrent while it is opened, or waits for that.
const PEERS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// However many are wanted, and by however many peers: what is kept of them is what the memory plan says.
    #[test]
    fn who_waits_has_a_place() {
        let wanted = Plan {
            peers: 100,
            slots: 8,
            asleep: 10_000,
            ..Plan::default()
        };
        for memory in [2 << 20, 4 << 20, 16 << 20] {
            let plan = wanted.fit(memory).unwrap();
            assert!((50..=1000).contains(&plan.wanted()), "{}", plan.wanted());
            let mut waiting = Waiting::new(&plan);
            let id = |slot| TorrentId { slot, tenancy: 0 };
            let peers = |n: u16| vec![SocketAddr::from(([127, 0, 0, 1], n)); 60];
            let mut refused = 0;
            for slot in 0..1200 {
                // Each is wanted twice; the second time takes no other place.
                let taken = [
                    waiting.add(id(slot), peers(1)),
                    waiting.add(id(slot), peers(2)),
                ];
                assert_eq!(taken[0], taken[1]);
                refused += usize::from(!taken[0]);
            }
            assert_eq!(refused, 1200 - plan.wanted());
            assert_eq!(waiting.left_out, 2 * refused);
            let kept = |(_, peers): &(TorrentId, Vec<SocketAddr>)| peers.len();
            assert!(waiting.wanted.iter().map(kept).max() <= Some(PEERS_MAX));
            let all: usize = waiting.wanted.iter().map(kept).sum();
            assert_eq!(all, plan.wanted_peers());
        }
    }
}
