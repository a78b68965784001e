//! Changes of a torrent file (overwritten, replaced or truncated) while its torrent is seeded.
//!
//! Invariant: the loaded torrent goes on, from its copy in the state, until the file has not changed for a while and
//! is a torrent. If it is the same torrent, only its trackers are updated. Another torrent takes the place of the
//! former.

use std::time::{Duration, Instant};

use super::index::is_torrent;
use super::item::{ItemStage, LibraryItem, Renewing};
use super::library::{Library, POLL, stop};
use super::load::{LoadResult, LoadSettings, Purpose};
use super::scan::{SETTLED, age};
use super::scout;
use super::torrents::Torrents;
use super::trouble::Trouble;
use super::watch::Seen;
use crate::logging::flood::EVENT;
use crate::net::engine::Engine;
use crate::text::escape;

impl Library {
    /// Has the files of seeded torrents looked at. Overwriting a file does not change its folder, so a scan does not
    /// see it.
    pub(super) fn look_at_torrent_files(
        &mut self,
        torrents: &Torrents,
        engine: &Engine,
        now: Instant,
    ) {
        let links = self.config.seed.links;
        for managed in &mut self.items {
            let ItemStage::Running(number) = managed.stage else {
                continue;
            };
            let path = &managed.item.path;
            if !is_torrent(path) || !path.is_absolute() {
                continue;
            }
            if now >= managed.renewal.next_look && !managed.looking {
                managed.renewal.next_look = now + POLL;
                managed.looking = self.scout.ask(scout::ScoutRequest::Look {
                    folder: managed.folder.clone(),
                    path: path.clone(),
                    links,
                });
            }
            let torrent = torrents.awake.get(number);
            if let (Renewing::Settles(at), Some(torrent)) = (managed.renewal.state, torrent)
                && at <= now
            {
                let own_tracker = &torrents.reach.own_tracker;
                let settings = LoadSettings::new(&self.config.seed, own_tracker, &engine.way_out);
                let purpose = Purpose::Renew(torrent.info_hash());
                let ticket = self.loader.ask(managed.load_request(purpose, settings));
                managed.renewal.state = Renewing::Loads(ticket);
            }
        }
    }

    /// Handles the new contents of an overwritten file.
    pub(super) fn renewed(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
        at: usize,
        result: LoadResult,
    ) {
        let managed = &mut self.items[at];
        let Renewing::Loads(ticket) = managed.renewal.state else {
            return;
        };
        managed.renewal.state = Renewing::Not;
        let ItemStage::Running(number) = managed.stage else {
            return;
        };
        let shown = escape(managed.item.path.as_os_str().as_encoded_bytes()).to_string();
        match result {
            LoadResult::Renewed(renewed) => {
                if let Some(torrent) = torrents.awake.get_mut(number)
                    && torrent.take_trackers(engine, renewed)
                {
                    log::warn!(target: EVENT, "{shown}: it names other trackers now, which are asked from now on");
                }
            }
            LoadResult::Opened(outcome @ Ok(_)) => {
                log::warn!(target: EVENT, "{shown}: it is another torrent now");
                stop(torrents, engine, managed);
                managed.stage = ItemStage::Loading(ticket);
                self.start_loaded(torrents, engine, ticket, outcome);
            }
            LoadResult::Opened(Err(trouble)) => {
                if !matches!(trouble, Trouble::Bad(_)) {
                    managed.renewal.state = Renewing::Settles(Instant::now() + AGAIN);
                }
                let reason = trouble.text();
                if managed.last_message != reason {
                    log::error!("{reason}; what was loaded of it goes on");
                    managed.last_message = reason;
                }
            }
            LoadResult::NotKnown => {}
        }
    }
}

impl LibraryItem {
    /// Takes the present state of a seeded torrent's file. If the file is missing, the loaded torrent goes on.
    pub(super) fn saw_torrent_file(&mut self, seen: Option<Seen>) {
        let Some((mark, changed)) = seen else {
            return;
        };
        let renewal = &mut self.renewal;
        let first = renewal.seen.is_none();
        if renewal.seen == seen {
            return;
        }
        renewal.seen = seen;
        if first && self.mark.is_none_or(|before| before == mark) {
            self.mark = Some(mark);
            return;
        }
        self.mark = Some(mark);
        let still = SETTLED.saturating_sub(age(changed));
        renewal.state = Renewing::Settles(Instant::now() + still);
    }
}

/// The pause before an unreadable file is read again.
const AGAIN: Duration = Duration::from_secs(60);
