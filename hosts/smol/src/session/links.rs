//! Changes of our own address, of which trackers are told, and which links and torrents made here name.

use std::net::SocketAddr;
use std::sync::Arc;

use everseed_disk::make::Options;
use everseed_disk::{Content, make};

use super::index::names_torrent;
use super::item::{ItemStage, LibraryItem};
use super::library::Library;
use super::listening::Listening;
use super::network::say_ours;
use super::notice::{Notice, Notices};
use super::opener::{OpenedTorrent, own_options};
use super::reach::{OwnAddresses, hosts, introduction};
use super::torrents::Torrents;
use crate::async_tasks::AsyncTasks;
use crate::client::trackers;
use crate::net::engine::Engine;

impl Library {
    /// Our address has changed: tells trackers, and updates links and torrents that were made here.
    pub(super) fn renew(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        listening: &Listening,
    ) {
        let addr = SocketAddr::new(listening.local().ip(), torrents.reach.port());
        let own_tracker = torrents.reach.tracker(addr);
        log::warn!("the network is there with another address; all trackers are told");
        engine.node.announce_anew();
        say_ours(engine, &torrents.reach);
        if torrents.reach.own_tracker == own_tracker {
            return;
        }
        let names = hosts(&torrents.named_trackers.concat(), &own_tracker);
        torrents.tracker.borrow_mut().set_names(names);
        let former = std::mem::replace(&mut torrents.reach.own_tracker, own_tracker);
        torrents.reach.leave(former);
        self.link_anew(torrents, |_| true);
        torrents.reach.say_where_again(&torrents.notices);
    }

    /// Updates the links of seeded items to our present address.
    pub(super) fn link_anew(&self, torrents: &Torrents, which: impl Fn(&LibraryItem) -> bool) {
        let (links, notices) = (torrents.reach.links(), torrents.notices.clone());
        let make = self.config.seed.make.clone();
        let named = !make.trackers.is_empty();
        let mut linked = Vec::new();
        for managed in self.items.iter().filter(|managed| which(managed)) {
            let (LibraryItem { item, .. }, ItemStage::Running(number)) = (managed, &managed.stage)
            else {
                continue;
            };
            let made = item.fetch.is_none() && !names_torrent(&item.path) && !named;
            let torrent = torrents.awake.get(*number);
            linked.extend(torrent.map(|torrent| (Arc::clone(&torrent.content), made)));
        }
        // It writes to the disk.
        self.spawner.spawn(smol::unblock(move || {
            for (content, made) in linked {
                if let Err(error) = link_anew(content, made, &make, &links, &notices) {
                    log::error!("{error}; its links name our former address");
                }
            }
        }));
    }
}

/// A router forwards callers to us, or does not any longer: links that lead only to us name the address outside
/// (`x.pe`).
pub(super) fn link_outside(torrents: &Torrents, tasks: &AsyncTasks) {
    let (links, notices) = (torrents.reach.links(), torrents.notices.clone());
    let contents = torrents.awake.iter().map(|t| Arc::clone(&t.content));
    let contents: Vec<Arc<Content>> = contents.collect();
    // It reads from the disk.
    tasks.spawn(smol::unblock(move || {
        for content in contents {
            if let Err(error) = link_anew(content, false, &Options::default(), &links, &notices) {
                log::error!("{error}; its links do not name our address outside");
            }
        }
    }));
}

/// Announces the new links of a torrent whose only tracker is the built-in one. If the torrent was `made` here, its
/// file is updated first.
fn link_anew(
    content: Arc<Content>,
    made: bool,
    options: &make::Options,
    links: &OwnAddresses,
    notices: &Notices,
) -> Result<(), String> {
    let own_tracker = &links.own_tracker;
    let (torrent, metainfo) = (content.torrent_file(), content.metainfo());
    let options = own_options(options, own_tracker);
    if made && make::stays_put(metainfo, &options) {
        make::retrack(torrent, metainfo, &options).map_err(|error| error.to_string())?;
    }
    let tiers = trackers::tiers(torrent, metainfo)?;
    if metainfo.private || tiers.iter().flatten().any(|url| url != own_tracker) {
        return Ok(());
    }
    let source = OpenedTorrent {
        content,
        tiers: Box::default(),
        nodes: Vec::new(),
        fresh: None,
        found: None,
    };
    let (introduction, _) = introduction(&source, links)?;
    notices.tell(Notice::Torrent(&introduction));
    Ok(())
}
