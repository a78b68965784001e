//! Outcomes of the loader: torrents that were opened are started, or wait.

use std::time::Instant;

use everseed_core::hash::InfoHash;
use everseed_disk::Content;

use super::download::Download;
use super::index::is_link;
use super::item::{AWAY, ItemStage, LibraryItem, Renewing, wait};
use super::library::Library;
use super::load::{LoadOutcome, LoadResult, Ticket};
use super::loader::Loaded;
use super::notice::Notice;
use super::opener::OpenedTorrent;
use super::reach::introduction;
use super::room::plan;
use super::torrents::Torrents;
use super::trouble::Trouble;
use crate::net::engine::Engine;
use crate::net::memory::Plan;
use crate::secrets::mask_urls;
use crate::storage::worker::TorrentNumber;

impl Library {
    pub(super) fn loaded(&mut self, torrents: &mut Torrents, engine: &mut Engine, loaded: Loaded) {
        let Loaded {
            ticket,
            own_tracker,
            described,
            in_doubt,
            bad,
            link,
            result,
        } = loaded;
        self.stop_described(torrents, engine);
        let loads = |managed: &LibraryItem| managed.renewal.state == Renewing::Loads(ticket);
        if let Some(at) = self.items.iter().position(loads) {
            return self.renewed(torrents, engine, at, result);
        }
        if let Some(at) = self.waking.iter().position(|w| w.ticket == ticket) {
            let waking = self.waking.swap_remove(at);
            if let LoadResult::Opened(outcome) = result {
                self.opened_again(torrents, engine, waking, outcome);
            }
            return;
        }
        let mine = |managed: &&mut LibraryItem| {
            [ItemStage::Loading(ticket), ItemStage::Probing(ticket)].contains(&managed.stage)
        };
        // An item that was removed meanwhile is not started.
        let Some(managed) = self.items.iter_mut().find(mine) else {
            return;
        };
        managed.in_doubt = in_doubt;
        managed.bad = bad;
        if managed.folder.is_some() && link.is_some() {
            // It may have changed since its folder was read.
            managed.mark = link;
        }
        if managed.is_found_content() && described != torrents.state.described().added() {
            // Its torrent may have come since it was looked for.
            managed.stage = ItemStage::Found;
            return;
        }
        let LoadResult::Opened(outcome) = result else {
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
        ticket: Ticket,
        outcome: LoadOutcome,
    ) -> Option<TorrentNumber> {
        let mine = |managed: &LibraryItem| {
            [ItemStage::Loading(ticket), ItemStage::Probing(ticket)].contains(&managed.stage)
        };
        let opened = outcome.as_ref().ok().map(|(source, _)| &source.content);
        if let Some(content) = opened
            && torrents.hold(engine, content.metainfo().info_hash)
        {
            let at = self.items.iter().position(mine)?;
            let name = content.torrent_file().display().to_string();
            self.meet_twin(torrents, at, &name, content.metainfo().info_hash);
            return None;
        }
        let is_nameless = engine.node.known() >= self.most_known && !has_name(&outcome, engine);
        let room = match is_nameless {
            true => Err("no memory for the name of another torrent; raise memory ="),
            false => Ok(()),
        };
        // What cannot be opened takes no place from anybody.
        let has_place = outcome.is_ok() && self.make_room(torrents, engine);
        let at = self.items.iter().position(mine)?;
        let outgrows = |(source, download): &(OpenedTorrent, Option<Box<Download>>)| {
            self.outgrows(torrents, source, download.is_some())
        };
        let room = match outcome.as_ref().map(outgrows) {
            Ok(true) if self.items[at].once => {
                // Its size is known now, so the session starts anew with enough memory.
                self.outgrown = true;
                self.items[at].stage = ItemStage::Ready;
                return None;
            }
            Ok(true) if self.is_service => Err(
                "there is no memory for this download beside what is seeded; name it by [[get]], or raise memory =",
            ),
            Ok(true) => Err(
                "there is no memory for it; remove another one, or start again with it or with more --memory",
            ),
            _ => room,
        };
        let managed = &mut self.items[at];
        let started = outcome.and_then(|(source, mut download)| {
            managed.info_hash = Some(source.content.metainfo().info_hash);
            // The goal may have changed meanwhile. For a file with a link the loader knows what the link selects.
            if let (Some(download), Some(goal)) = (&mut download, &managed.item.fetch)
                && !is_link(&managed.item.path)
            {
                download.goal = (**goal).clone();
            }
            let shown = || mask_urls(&managed.item.path.display().to_string());
            room.map_err(|reason| Trouble::Full(format!("{}: {reason}", shown())))?;
            if !has_place {
                let reason = "all places for torrents are taken; raise torrents = for more";
                return Err(Trouble::NoPlace(format!("{}: {reason}", shown())));
            }
            if managed.turns == 0 {
                introduce(torrents, &source)?;
            }
            let reason = std::mem::take(&mut managed.was_away);
            Ok(torrents.add(engine, source, download, reason))
        });
        match started {
            Ok(number) => {
                managed.last_message.clear();
                managed.failures = 0;
                managed.stage = ItemStage::Running(number);
                managed.next_look = Instant::now() + managed.pause;
                if std::mem::take(&mut managed.verify)
                    && let Some(torrent) = torrents.awake.last_mut()
                {
                    torrent.verify(engine);
                }
                Some(number)
            }
            Err(trouble) => {
                self.not_started(torrents, engine, at, trouble);
                None
            }
        }
    }

    /// Handles an item that was not started: its metadata is fetched, it waits, or it is left out.
    fn not_started(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        at: usize,
        trouble: Trouble,
    ) {
        let managed = &mut self.items[at];
        match trouble {
            Trouble::Described(reason) => {
                log::info!("{reason}");
                managed.give_up_verifying(&torrents.notices, &reason);
                self.items.swap_remove(at);
            }
            Trouble::Unknown(link) => {
                let peers = managed.item.fetch.as_ref().map(|fetch| &fetch.peers);
                let peers = peers.map_or(&[][..], Vec::as_slice);
                match torrents
                    .unknown
                    .fetch(engine, &managed.item.path, &link, peers)
                {
                    Ok(()) => managed.stage = ItemStage::Waiting(Instant::now() + AWAY),
                    Err(Trouble::Twin(name, info_hash)) => {
                        self.meet_twin(torrents, at, &name, info_hash)
                    }
                    Err(trouble) => wait(managed, trouble, &torrents.notices),
                }
            }
            trouble => {
                // Metadata of a magnet link that cannot begin is no longer fetched.
                if let Some(id) = managed.info_hash.and_then(|hash| engine.node.find(hash))
                    && !engine.node.is_asleep(id)
                    && torrents.awake.known_as(id).is_none()
                {
                    engine.remove(id);
                }
                wait(managed, trouble, &torrents.notices);
            }
        }
    }

    /// Handles an item whose torrent is there already. In `seed` and `get` it is left out; in a service it takes the
    /// place of the other one when that goes.
    fn meet_twin(&mut self, torrents: &Torrents, at: usize, name: &str, info_hash: InfoHash) {
        let managed = &mut self.items[at];
        managed.give_up_verifying(&torrents.notices, "the same torrent is there already");
        if !self.is_service {
            log::warn!("{name}: the same torrent was named before, so this one is left out");
            self.items.remove(at);
            return;
        }
        let reason = format!("{name}: the same torrent is there already");
        if managed.last_message != reason {
            log::warn!("{reason}; this one takes its place when that one is removed");
            managed.last_message = reason;
        }
        managed.stage = ItemStage::Behind(info_hash);
    }

    /// Whether the memory is too small for all torrents together with the one that was opened now. In a service with
    /// downloads the plan counts torrents instead.
    fn outgrows(&self, torrents: &Torrents, source: &OpenedTorrent, downloads: bool) -> bool {
        // What was planned for a service without downloads has little room for one, or none.
        let is_unplanned = downloads && (self.room.modest || self.room.counts == 0);
        if self.is_service && !is_unplanned {
            return false;
        }
        let mut needed = match self.is_service {
            true => Plan::default(),
            false => plan(&self.config.seed),
        };
        let mut add = |content: &Content, tiers: usize, downloads: bool| {
            if !self.is_service {
                needed.add(&content.geometry(), tiers);
            }
            if downloads {
                needed.add_download(&content.geometry());
            }
        };
        for torrent in torrents.awake.iter() {
            add(&torrent.content, torrent.tiers(), torrent.is_download());
        }
        add(&source.content, source.tiers.len(), downloads);
        !self.room.has_room_for(&needed)
    }
}

/// Whether the node already knows the opened torrent by its info-hash.
fn has_name(outcome: &LoadOutcome, engine: &Engine) -> bool {
    let opened = outcome
        .as_ref()
        .map(|(source, _)| source.content.metainfo());
    opened.is_ok_and(|metainfo| engine.node.find(metainfo.info_hash).is_some())
}

/// Tells of a torrent that is started for the first time.
fn introduce(torrents: &mut Torrents, source: &OpenedTorrent) -> Result<(), Trouble> {
    let (introduction, only_ours) = introduction(source, &torrents.reach.links())?;
    torrents.notices.tell(Notice::Torrent(&introduction));
    if only_ours {
        torrents.reach.say_where(&torrents.notices);
    }
    Ok(())
}
