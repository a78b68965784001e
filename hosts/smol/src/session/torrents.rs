//! A session's torrents, awake and asleep, with the built-in tracker and our addresses that others are told.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_disk::Content;
use everseed_node::{Event, Job, PeerSource};

use super::awake::AwakeTorrents;
use super::download::Download;
use super::fetch::is_remote;
use super::notice::{Notice, Notices};
use super::numbers::Numbers;
use super::opener::OpenedTorrent;
use super::reach::{self, Reach};
use super::signals::Signals;
use super::torrent::ManagedTorrent;
use super::unknown::Unknowns;
use crate::alarm::Alarm;
use crate::client::trackers::{self, Spare, one_of};
use crate::net::engine::{Engine, FileReports};
use crate::options::seed::CheckMode;
use crate::storage::catalogue::Catalogue;
use crate::storage::dormant::DormantTorrent;
use crate::storage::paused::PausedItems;
use crate::storage::state::StateFolder;
use crate::storage::worker::{Outcome, TorrentNumber};
use crate::web::tracker::PeerTable;

/// All torrents, and the folder of their state.
pub(super) struct Torrents {
    pub(super) state: Arc<StateFolder>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) notices: Notices,
    pub(super) signals: Rc<Signals>,
    /// Torrents that are awake.
    pub(super) awake: AwakeTorrents,
    /// Torrents that are asleep.
    pub(super) catalogue: Rc<RefCell<Catalogue>>,
    /// Items that are paused, awake or asleep.
    pub(super) paused: PausedItems,
    /// Sleeping torrents that are wanted, and known peers of them.
    pub(super) wakes: Vec<(TorrentId, Vec<SocketAddr>)>,
    /// Torrents whose metadata is being fetched.
    pub(super) unknown: Unknowns,
    pub(super) tracker: Rc<RefCell<PeerTable>>,
    pub(super) reach: Reach,
    /// Trackers that the owner named, by tier: for torrents made here, and for public ones that name none.
    pub(super) named_trackers: Arc<Vec<Vec<String>>>,
    pub(super) check: CheckMode,
    /// Whether files that nobody reads are left alone, as a service does.
    pub(super) leaves_idle_files: bool,
    /// Whether a torrent's check has ended, so that it may sleep now.
    pub(super) checked: bool,
    pub(super) last_number: TorrentNumber,
}

impl Torrents {
    /// Gives a notice with each torrent's links. If they cannot be printed, sharing fails, because nobody could come; a
    /// download goes on.
    pub(super) fn introduce<'a>(
        &mut self,
        sources: impl Iterator<Item = (&'a OpenedTorrent, bool)>,
    ) -> Result<(), String> {
        let links = self.reach.links();
        let mut any = false;
        for (source, is_download) in sources {
            let (introduction, only_ours) = reach::introduction(source, &links)?;
            let told = self.notices.insist(Notice::Torrent(&introduction));
            if !is_download {
                told.map_err(|error| format!("standard output: {error}"))?;
            }
            any |= only_ours;
        }
        if any {
            self.reach.say_where(&self.notices);
        }
        Ok(())
    }

    /// Starts a torrent; returns its number. If its files are away for the reason `was_away`, that was logged before.
    pub(super) fn add(
        &mut self,
        engine: &mut Engine,
        source: OpenedTorrent,
        download: Option<Box<Download>>,
        was_away: String,
    ) -> TorrentNumber {
        self.track(&source.content);
        let number = self.number();
        engine.hear_of_nodes(source.nodes);
        let mut torrent = ManagedTorrent::new(
            number,
            source.content,
            source.tiers,
            download,
            self.notices.clone(),
        );
        torrent.reason = was_away;
        self.start(engine, torrent, (source.fresh, source.found));
        number
    }

    /// Starts a torrent that the node knows as sleeping; returns its number.
    pub(super) fn wake(
        &mut self,
        engine: &mut Engine,
        source: OpenedTorrent,
        id: TorrentId,
    ) -> TorrentNumber {
        self.track(&source.content);
        let number = self.number();
        let torrent = ManagedTorrent::woken(number, source.content, id, self.notices.clone());
        self.start(engine, torrent, (source.fresh, source.found));
        number
    }

    fn start(
        &mut self,
        engine: &mut Engine,
        mut torrent: ManagedTorrent,
        prints: (Option<u64>, Option<u64>),
    ) {
        if self.leaves_idle_files {
            torrent.leave_idle_files();
        }
        torrent.start(engine, &self.state, self.check, prints);
        self.awake.add(torrent);
    }

    fn number(&mut self) -> TorrentNumber {
        self.last_number = self.last_number.next();
        self.last_number
    }

    /// Adds a torrent to the built-in tracker; if there is no room, it is added when somebody asks for it. A private
    /// torrent's peers come only from its own trackers (BEP 27), so the built-in one has to be among these.
    fn track(&self, content: &Content) {
        let metainfo = content.metainfo();
        let (mut tracker, mut named) = (self.tracker.borrow_mut(), false);
        let look = |_, url: &str| {
            tracker.learn(url);
            named |= url == self.reach.own_tracker;
            ControlFlow::Continue(())
        };
        let read = trackers::each_used(content.read_torrent_file(), metainfo, look);
        if metainfo.private && (read.is_err() || !named) {
            return;
        }
        let info_hash = metainfo.info_hash;
        if tracker.add(info_hash).is_err() {
            log::warn!("the built-in tracker has no room for {info_hash} now");
        }
    }

    /// Handles what the reactor and the worker found out about torrents' files.
    pub(super) fn hear_of_files(&mut self, engine: &mut Engine, reports: FileReports) {
        for (id, error) in reports.unreadable {
            if let Some(torrent) = self.awake.added_as(id) {
                torrent.unreadable(&error);
            }
        }
        for (id, fault) in reports.unread {
            if let Some(torrent) = self.awake.added_as(id) {
                torrent.unread(engine, &fault);
            }
        }
        for (id, fault) in reports.unwritable {
            if let Some(torrent) = self.awake.added_as(id) {
                torrent.unwritable(engine, &fault);
            }
        }
        for (number, outcome) in reports.done {
            self.checked |= matches!(outcome, Outcome::Checked(_));
            if let Some(torrent) = self.awake.get_mut(number) {
                torrent.done(engine, &self.state, outcome);
            }
        }
    }

    /// Handles what is due for each torrent that is awake.
    pub(super) fn run_due(&mut self, engine: &mut Engine, now: Instant) {
        for torrent in self.awake.iter_mut() {
            torrent.look(engine, now);
            torrent.try_again(engine, now);
            torrent.note_use(engine, now);
            let mut tracker = self.tracker.borrow_mut();
            tracker.set_complete(torrent.info_hash(), !torrent.is_downloading());
            if torrent.run_download(engine, now)
                && let Some(id) = torrent.id()
            {
                for peer in torrent.named_peers(id) {
                    engine.tell(Event::Peer(id, peer, PeerSource::User));
                }
            }
        }
    }

    /// Stops a torrent and forgets it; its data stays.
    pub(super) fn drop_torrent(&mut self, engine: &mut Engine, number: TorrentNumber) {
        if let Some(torrent) = self.awake.take(number) {
            self.tracker.borrow_mut().remove(torrent.info_hash());
            if let Some(id) = torrent.id() {
                self.catalogue.borrow_mut().remove(id);
            }
            torrent.end(engine, &self.state);
            // The next turn carries out the consequences.
            self.alarm.ring();
        }
    }

    /// Whether a torrent is there already. One whose metadata was fetched goes on with its peers.
    pub(super) fn hold(&self, engine: &Engine, info_hash: InfoHash) -> bool {
        let known = engine.node.find(info_hash);
        let mut awake = self.awake.iter();
        awake.any(|torrent| torrent.info_hash() == info_hash)
            || known.is_some_and(|id| engine.node.metadata(id).is_none())
    }

    /// Whether the item at this path, or of this link, is paused.
    pub(super) fn is_paused(&self, path: &Path) -> bool {
        self.paused.holds(&named(path))
    }

    /// Remembers that the item at this path, or of this link, is paused, or no longer.
    pub(super) fn set_paused(&mut self, path: &Path, paused: bool) {
        self.paused.set(&named(path), paused);
    }

    /// What finds the URL of an announce's tracker, unless that cannot be read or its disk is not mounted. It is called on
    /// another thread, as it may have to wait for a disk.
    pub(super) fn tracker_url(&self, job: &Job) -> FindUrl {
        let (at, spare) = ((job.tier, job.tracker), Arc::clone(&self.named_trackers));
        if let Some(torrent) = self.awake.iter().find(|t| t.id() == Some(job.torrent)) {
            let file = torrent.tracker_file();
            return Box::new(move || file.tracker_url(at, &spare));
        }
        let unknown = self.unknown.tracker_url(job);
        let line = self.catalogue.borrow().line(job.torrent.slot);
        let state = Arc::clone(&self.state);
        Box::new(move || unknown.or_else(|| tracker_url(&line?.read()?, &state, at, &spare)))
    }
}

/// What finds a tracker's URL.
type FindUrl = Box<dyn FnOnce() -> Option<String> + Send>;

/// How an item is named whichever folder a command is given in.
fn named(path: &Path) -> Cow<'_, Path> {
    match path.is_absolute() || is_remote(path) {
        true => Cow::Borrowed(path),
        false => std::path::absolute(path).map_or(Cow::Borrowed(path), Cow::Owned),
    }
}

/// The URL of a sleeping torrent's tracker, unless its disk is not mounted. The disk is not looked at: it may hang.
fn tracker_url(
    sleeper: &DormantTorrent,
    state: &StateFolder,
    at: (u8, u8),
    spare: &Spare,
) -> Option<String> {
    let root = sleeper.root();
    let place = state.place(sleeper.info_hash(), &root);
    if let Some(away) = place.filter(|place| !place.is_mounted()) {
        let (root, mount) = (root.display(), away.mount.display());
        log::info!("{root}: not announced, as {mount} is away");
        return None;
    }
    one_of(sleeper.tiers_or(spare), at)
}

pub(super) fn numbers(engine: &Engine, torrents: &[ManagedTorrent]) -> Numbers {
    let mut numbers = Numbers {
        serving: 0,
        checking: 0,
        searching: 0,
        waking: 0,
        away: 0,
        checked: (0, 0),
        asleep: engine.node.known() - engine.node.awake(),
        paused: 0,
        node: engine.node.stats(),
        uploaded: 0,
        content: 0,
        download: None,
        downloading: 0,
        stuck: None,
        reachable: None,
        unknown: None,
    };
    for torrent in torrents {
        let total = torrent.content.geometry().total();
        if let Some(done) = torrent.checked() {
            // All pieces were hashed, and what is missing of its files may lie elsewhere.
            let searches = done > total;
            numbers.searching += usize::from(searches);
            numbers.checking += usize::from(!searches);
            numbers.checked.0 += done.min(total);
            numbers.checked.1 += total;
        } else if torrent.is_away() {
            numbers.away += 1;
        } else {
            numbers.serving += 1;
        }
        numbers.content = numbers.content.saturating_add(total);
        let stats = torrent.id().and_then(|id| engine.node.torrent(id));
        if stats.is_some() && torrent.is_downloading() {
            numbers.downloading += 1;
            let wanted = torrent.wanted_len();
            let left = torrent.left(engine);
            // With several downloads, what they lack is shown only if all of them are stuck.
            let stuck = torrent.stuck().map(str::to_owned);
            let first = numbers.download.is_none();
            numbers.stuck = stuck.filter(|_| first || numbers.stuck.is_some());
            let (here, all) = numbers.download.unwrap_or((0, 0));
            numbers.download = Some((here + wanted.saturating_sub(left), all + wanted));
        }
        let uploaded = stats.map_or(0, |stats| stats.uploaded);
        numbers.uploaded = numbers.uploaded.saturating_add(uploaded);
    }
    numbers
}
