//! The life of a torrent: it is opened or made, checked, served, its files vanish and come back.
//!
//! Invariants: a piece is served only if it was verified, in this run or in an earlier one whose resume record still
//! has the files' fingerprint. A torrent whose files are away is offered to nobody.

mod damage;
mod download;
mod faults;
pub(crate) mod goal;
mod look;
mod owners;
mod relocating;
mod saving;
mod sleep;
mod stage;
pub(crate) mod stagnation;
mod stuck;
mod tracker_file;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everseed_core::bits;
use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::resume::{Record, Verified};
use everseed_disk::{Content, ReadError, check};
use everseed_node::{Event, Have};

use self::faults::Faults;
use self::goal::Woken;
use self::stage::Stage;
use self::tracker_file::TrackerFile;
use super::download::{Download, DownloadStage};
use super::notice::{Notice, Notices};
use super::opener::Renewed;
use crate::client::trackers;
use crate::net::engine::Engine;
use crate::options::seed::CheckMode;
use crate::storage::mount_guard::{MountId, MountState, device};
use crate::storage::state::StateFolder;
use crate::storage::worker::{GIVEN_UP, Outcome, Progress, Task, TorrentNumber, fingerprint};
use crate::text::{Escaped, escape};

/// A torrent that is awake.
pub(crate) struct ManagedTorrent {
    pub(crate) content: Arc<Content>,
    /// Its number among the session's torrents.
    number: TorrentNumber,
    notices: Notices,
    /// The number of trackers in each tier.
    tiers: Box<[u8]>,
    /// The new contents of its file, if that was overwritten since it was loaded.
    renewed: Option<Arc<Renewed>>,
    /// When its pieces are verified.
    when: CheckMode,
    stage: Stage,
    /// The files' fingerprint at the last look.
    fingerprint: u64,
    /// The contents of the resume record; it is written only if they have changed.
    saved: Option<Saved>,
    /// Whether that record tells which pieces are good, instead of a check.
    by_record: bool,
    /// Bytes sent in earlier runs.
    before: u64,
    /// The number of good pieces when missing ones were last reported.
    reported: u32,
    /// Why its files were last said to be away.
    pub(super) reason: String,
    next_look: Instant,
    looking: bool,
    /// The time of the last look at the files.
    looked_at: Instant,
    /// Whether somebody wrote to them since.
    touched: bool,
    /// Whether the files were found to differ from what was verified.
    has_changed: bool,
    /// Files that could not be read or written.
    faults: Faults,
    /// Whether somebody asked for the check that is running.
    asked_to_verify: bool,
    /// Whether files that nobody reads are left alone, so that their disk may sleep.
    leaves_idle: bool,
    /// Until this time they are left alone.
    asleep_until: Instant,
    /// Its download, unfinished or complete.
    download: Option<Box<Download>>,
    /// What a torrent that was woken has of a download.
    woken: Option<Woken>,
    /// The node's id, if the torrent was asleep when it was added; its trackers are then set already.
    dormant_as: Option<TorrentId>,
    /// The last time at which a peer was connected.
    used: Instant,
    /// Bytes sent and received, and the last time at which this number changed.
    moved: (u64, Instant),
}

/// The contents of a resume record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Saved {
    uploaded: u64,
    good: u32,
    fingerprint: u64,
}

impl ManagedTorrent {
    /// A torrent that is not started yet.
    pub(crate) fn new(
        number: TorrentNumber,
        content: Arc<Content>,
        tiers: Box<[u8]>,
        download: Option<Box<Download>>,
        notices: Notices,
    ) -> ManagedTorrent {
        content.set_growing(download.is_some());
        ManagedTorrent {
            content,
            number,
            notices,
            tiers,
            renewed: None,
            when: CheckMode::First,
            stage: Stage::Away(None),
            fingerprint: 0,
            saved: None,
            by_record: false,
            before: 0,
            reported: 0,
            reason: String::new(),
            next_look: Instant::now(),
            looking: false,
            looked_at: Instant::now(),
            touched: false,
            has_changed: false,
            faults: Faults::default(),
            asked_to_verify: false,
            leaves_idle: false,
            asleep_until: Instant::now(),
            download,
            woken: None,
            dormant_as: None,
            used: Instant::now(),
            moved: (0, Instant::now()),
        }
    }

    /// The node's id, once the torrent was added to it.
    pub(crate) fn id(&self) -> Option<TorrentId> {
        self.stage.id()
    }

    /// Its name, escaped for display.
    pub(crate) fn name(&self) -> Escaped<'_> {
        escape(self.content.name())
    }

    pub(crate) fn info_hash(&self) -> InfoHash {
        self.content.metainfo().info_hash
    }

    /// The file that names its trackers.
    pub(crate) fn tracker_file(&self) -> TrackerFile {
        TrackerFile {
            content: Arc::clone(&self.content),
            renewed: self.renewed.clone(),
        }
    }

    /// Announces to the trackers that its file names now. Returns whether they have changed.
    pub(crate) fn take_trackers(&mut self, engine: &mut Engine, renewed: Renewed) -> bool {
        let before = match &self.renewed {
            Some(renewed) => Some(renewed.trackers),
            None => {
                let tiers = self.tracker_file().tiers();
                tiers.ok().map(|tiers| trackers::sum(&tiers))
            }
        };
        let same = before == Some(renewed.trackers);
        self.tiers.clone_from(&renewed.tiers);
        self.renewed = Some(Arc::new(renewed));
        if same {
            return false;
        }
        if let Some(id) = self.id() {
            engine.node.forget_trackers(id);
            self.announce(engine, id);
        }
        true
    }

    /// The number of its tiers of trackers.
    pub(crate) fn tiers(&self) -> usize {
        self.tiers.len()
    }

    /// Whether it is or was a download.
    pub(crate) fn is_download(&self) -> bool {
        self.download.is_some()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.stage.is_away()
    }

    /// Bytes that a running check has done.
    pub(crate) fn checked(&self) -> Option<u64> {
        self.stage.checked()
    }

    /// Starts it: serves what the last run verified, or has the files checked. A new torrent needs no check while its
    /// files have the fingerprint `fresh`. `found` is their fingerprint at a look a moment ago, if there was one.
    pub(crate) fn start(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        when: CheckMode,
        (fresh, found): (Option<u64>, Option<u64>),
    ) {
        self.when = when;
        if let Err(error) = self.in_place(state) {
            self.leave(None, &error);
        } else if fresh.is_some() || self.is_downloading() {
            self.begin(engine, state, fresh, found);
        } else if let Err(error) = check::reachable(&self.content) {
            // It is not checked, because the result would replace the record by nothing.
            self.leave(None, &error);
        } else {
            self.begin(engine, state, None, found);
        }
    }

    /// Leaves files that nobody reads alone, apart from one look an hour.
    pub(crate) fn leave_idle_files(&mut self) {
        self.leaves_idle = true;
    }

    /// Whether files were found to have changed, reported once.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Its number among the session's torrents, which is never given again.
    pub(crate) fn number(&self) -> TorrentNumber {
        self.number
    }

    /// Ends: its record is saved, and the node forgets it.
    pub(crate) fn end(mut self, engine: &mut Engine, state: &StateFolder) {
        self.save_and_wait(engine, state);
        let stage = self.download.as_ref().map(|download| &download.stage);
        if let Some(DownloadStage::Moving(progress)) = stage {
            progress.store(GIVEN_UP, Ordering::Relaxed);
        }
        self.give_up_verifying(&"it was stopped before its check ended");
        self.stage.give_up();
        if let Some(id) = self.id() {
            engine.remove(id);
        }
        engine.forget_files(&self.content);
    }

    /// Whether the disk of its content is mounted. If not, nothing is looked at, made or written, because that would
    /// be on the disk below the mount point.
    fn in_place(&self, state: &StateFolder) -> Result<(), ReadError> {
        let path = self.content.root();
        match MountId::look(&path, state.place(self.info_hash(), &path).as_ref()) {
            MountState::There(_) => Ok(()),
            MountState::NotMounted(mount) | MountState::Another(mount) => {
                Err(ReadError::NotMounted { path, mount })
            }
        }
    }

    /// Remembers the disk of its content, and lets nothing be written to another one.
    fn keep_place(&self, state: &StateFolder) {
        let root = self.content.root();
        let now = MountId::of(&root);
        if state.place(self.info_hash(), &root).as_ref() != Some(&now)
            && let Err(error) =
                state.remember_place(self.info_hash(), &root, &now, !self.is_downloading())
        {
            let path = state.place_file(self.info_hash());
            log::warn!(
                "{}: {error}: its disk cannot be recorded, so an unmounted disk may be taken for an empty one; make room",
                path.display()
            );
        }
        self.keep_target(state);
        if self.is_downloading()
            && let Some(device) = device(&self.content.folder())
        {
            self.content.stay_on_device(device);
        }
    }

    fn begin(
        &mut self,
        engine: &mut Engine,
        state: &StateFolder,
        fresh: Option<u64>,
        found: Option<u64>,
    ) {
        self.keep_place(state);
        let found = found.filter(|_| !self.is_downloading());
        let found = found.map_or_else(
            || match fresh.is_some() || self.is_downloading() {
                true => check::fingerprint(&self.content),
                false => fingerprint(&self.content),
            },
            Ok,
        );
        self.fingerprint = match found {
            Ok(fingerprint) => fingerprint,
            Err(error) => return self.leave(None, &error),
        };
        let pieces = self.content.geometry().pieces();
        let bytes = state.resume(self.info_hash(), pieces).unwrap_or_default();
        let record = Record::decode(&bytes).ok();
        self.before = record.as_ref().map_or(0, |r| r.uploaded);
        if fresh == Some(self.fingerprint) {
            self.join(engine, state, Have::All);
            return self.save(engine, state);
        }
        match record.filter(|record| self.fits(record)) {
            Some(record) if record.fingerprint == self.fingerprint => {
                self.saved = Some(self.told_by(&record));
                self.by_record = true;
                self.join(engine, state, have(record.verified));
                if !self.is_downloading() && !self.is_whole(engine) {
                    self.faults.presume(Instant::now());
                }
            }
            Some(record) if self.is_of_first(&record) => self.join_first(engine, state, &record),
            _ if self.is_downloading() && self.is_empty() => {
                self.join(engine, state, Have::Nothing)
            }
            // A download must know its good files first: all others are the owner's.
            _ if self.when == CheckMode::Lazy && !self.is_downloading() => {
                self.join_unverified(engine, state)
            }
            _ => self.check(engine, None),
        }
    }

    fn fits(&self, record: &Record<'_>) -> bool {
        let len = self.content.geometry().bitfield_len() as usize;
        match record.verified {
            Verified::Some(bits) => bits.len() == len,
            _ => true,
        }
    }

    /// Whether a record was written by version 0.1.0, and still fits sizes and times.
    fn is_of_first(&self, record: &Record<'_>) -> bool {
        !self.is_downloading()
            && check::first_fingerprint(&self.content)
                .is_ok_and(|first| first == record.fingerprint)
    }

    /// Serves what version 0.1.0 verified after verifying it again: pieces at once when they are requested, the
    /// others when there is time. That version did not notice changes whose time was set back.
    fn join_first(&mut self, engine: &mut Engine, state: &StateFolder, record: &Record<'_>) {
        self.join(
            engine,
            state,
            match record.verified {
                Verified::Nothing => Have::Nothing,
                Verified::All => Have::Unverified,
                Verified::Some(bits) => Have::Presumed(bits),
            },
        );
        if let Some(id) = self.stage.served() {
            engine.tell(Event::Recheck(id));
        }
    }

    /// Whether all pieces are good.
    fn is_whole(&self, engine: &Engine) -> bool {
        let stats = self.id().and_then(|id| engine.node.torrent(id));
        stats.is_some_and(|stats| stats.have == self.content.geometry().pieces())
    }

    /// Has all pieces hashed; `served_as` is the node's id, if the node knows the torrent.
    fn check(&mut self, engine: &mut Engine, served_as: Option<TorrentId>) {
        self.by_record = false;
        self.forget_settling();
        let progress = Arc::<Progress>::default();
        self.stage = Stage::Checking {
            progress: Arc::clone(&progress),
            served_as,
        };
        let content = Arc::clone(&self.content);
        engine
            .worker
            .ask(Task::Check(content, self.number, progress));
    }

    fn join_unverified(&mut self, engine: &mut Engine, state: &StateFolder) {
        match check::present(&self.content) {
            Ok(None) => self.join(engine, state, Have::Unverified),
            Ok(Some(bits)) => self.join(engine, state, Have::Presumed(&bits)),
            Err(error) => self.leave(None, &error),
        }
    }

    /// The node serves it from now on.
    fn serve(&mut self, id: TorrentId) {
        self.stage = match self.is_downloading() {
            true => Stage::Downloading(id),
            false => Stage::Serving(id),
        };
    }

    /// Adds the torrent to the node.
    fn join(&mut self, engine: &mut Engine, state: &StateFolder, have: Have<'_>) {
        match engine.add(self.dormant_as, &self.content, have, self.before) {
            Ok(id) => {
                self.serve(id);
                if self.dormant_as.is_some() {
                    log::info!("{}: awake", self.name());
                    return self.say_what_is_missing(engine, id);
                }
                self.announce(engine, id);
                if self.is_downloading() {
                    return self.begin_download(engine, state, id);
                }
                self.notices.tell(Notice::Seeding(self.content.name()));
                self.say_what_is_missing(engine, id);
            }
            Err(error) => {
                log::error!("{}: {error}", self.name());
                self.stage = Stage::Away(None);
            }
        }
    }

    fn announce(&self, engine: &mut Engine, id: TorrentId) {
        let tiers = (0..=u8::MAX).zip(&*self.tiers);
        let refused = |&(tier, &trackers): &(u8, &u8)| {
            let told = engine.node.announce(id, tier, trackers);
            told.is_err()
        };
        let left_out = tiers.filter(refused).count();
        if left_out > 0 {
            let (name, all) = (self.name(), self.tiers.len());
            log::error!(
                "{name}: no room to announce to {left_out} of its {all} tiers of trackers; raise torrents ="
            );
        }
    }

    fn say_what_is_missing(&mut self, engine: &Engine, id: TorrentId) {
        let Some(stats) = engine.node.torrent(id) else {
            return;
        };
        let pieces = self.content.geometry().pieces();
        let missing = pieces - stats.have;
        self.reported = stats.have;
        if missing > 0 {
            if let Ok(Some((first, count))) = check::links_out(&self.content) {
                let more = match count {
                    1 => String::new(),
                    _ => format!(" (and {} more)", count - 1),
                };
                log::warn!("{}: {first}{more}", self.name());
            }
            self.notices.tell(Notice::Missing {
                name: self.content.name(),
                pieces: (missing, pieces),
                torrent: self.content.torrent_file(),
                root: &self.content.root(),
            });
        }
    }

    /// Handles a result of the worker.
    pub(crate) fn done(&mut self, engine: &mut Engine, state: &StateFolder, done: Outcome) {
        match done {
            Outcome::Checked(Ok((bits, unread))) if self.stage.is_checking() => {
                let served_as = self.stage.id();
                // Files that vanished meanwhile made good pieces look bad.
                if !self.is_downloading()
                    && let Err(error) = check::reachable(&self.content)
                {
                    return self.leave(None, &error);
                }
                if let Some(download) = &mut self.download {
                    // Whatever could not be read or written is tried anew. A sync may have failed during the check.
                    download.doubt = self.content.has_lost_writes();
                    download.narrowed = false;
                    self.faults.unwritable.clear();
                }
                let now = Instant::now();
                unread.iter().for_each(|fault| self.name_unread(fault, now));
                let good = bits::count(&bits);
                self.tell_verified(good);
                let found = match good == self.content.geometry().pieces() {
                    // This takes no memory of the node.
                    true => Have::All,
                    false => Have::Some(&bits),
                };
                if let Some(id) = served_as.filter(|_| self.download.is_none()) {
                    engine.tell(Event::Restored(id, found));
                    self.serve(id);
                    self.say_what_is_missing(engine, id);
                    return self.save(engine, state);
                }
                if let Some(id) = served_as {
                    // Announced like a new torrent, so that trackers soon name peers in place of those that left.
                    let stats = engine.node.torrent(id);
                    self.before = stats.map_or(self.before, |stats| stats.uploaded);
                    engine.remove(id);
                    return self.join(engine, state, found);
                }
                self.join(engine, state, found);
                self.save(engine, state);
            }
            Outcome::Checked(Err(error)) if self.stage.is_checking() => {
                let served_as = self.stage.id();
                if let Some(id) = served_as {
                    engine.tell(Event::Unreadable(id));
                }
                self.leave(served_as, &error);
            }
            // Nobody wants the result any more.
            Outcome::Checked(_) => {}
            Outcome::Tried(writable) => self.tried(engine, writable),
            Outcome::Settled(settled) => self.settled(state, settled),
            Outcome::Synced(synced) => self.synced(engine, state, synced),
            Outcome::Relocated(relocated) => self.relocated(engine, state, relocated),
            Outcome::Looked(look) => {
                self.looking = false;
                self.looked(engine, state, look);
            }
        }
    }
}

fn have(verified: Verified<'_>) -> Have<'_> {
    match verified {
        Verified::Nothing => Have::Nothing,
        Verified::All => Have::All,
        Verified::Some(bits) => Have::Some(bits),
    }
}

/// The interval of looks for files that are away.
pub(super) const AWAY: Duration = Duration::from_secs(10);

/// The pause between looks at files that somebody writes to.
const SOON: Duration = Duration::from_secs(1);

/// The interval of looks whether served files have changed.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// That interval while no peer is connected, if calm. When a peer connects, the files are looked at first.
pub(super) const ASLEEP: Duration = Duration::from_secs(3600);
