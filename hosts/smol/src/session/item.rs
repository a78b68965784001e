//! The items of a session, named by the owner or found in a watched folder, with the stage of each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;

use super::index::{is_torrent, names_torrent};
use super::load::{LoadRequest, LoadSettings, Purpose, Ticket};
use super::notice::{Notice, Notices};
use super::trouble::Trouble;
use super::watch::Seen;
use crate::options::run::Item;
use crate::storage::dormant::Mark;
use crate::storage::worker::TorrentNumber;

/// An item that is seeded, or will be.
pub(super) struct LibraryItem {
    pub(super) item: Item,
    /// The watched folder in which it was found.
    pub(super) folder: Option<PathBuf>,
    /// Its mark when it was last opened or looked at.
    pub(super) mark: Option<Mark>,
    /// The last message about it.
    pub(super) last_message: String,
    /// How often it gave its place to another item, and why its files were away then.
    pub(super) turns: u32,
    pub(super) was_away: String,
    /// The number of failed attempts in a row to open it.
    pub(super) failures: u32,
    /// Its mark when it could not be used. It is read again only when that has changed.
    pub(super) bad: Option<Mark>,
    /// Whether it is a torrent file whose content could not be determined yet.
    pub(super) in_doubt: bool,
    /// Whether the scout was asked for its mark.
    pub(super) looking: bool,
    /// The number of scans begun when it was complete: its torrent may have come since.
    pub(super) complete_at: u64,
    /// For served content of a watched folder: the next look whether it has changed, and the pause before that.
    pub(super) next_look: Instant,
    pub(super) pause: Duration,
    /// The number of changes after it had been taken for complete.
    pub(super) changes: u32,
    pub(super) stage: ItemStage,
    /// Its info-hash, once it was opened.
    pub(super) info_hash: Option<InfoHash>,
    /// Whether it is opened only once, because the command that named it ends with it. A failure is then not tried
    /// again.
    pub(super) once: bool,
    /// Whether it is verified as soon as it runs.
    pub(super) verify: bool,
    /// The state of a torrent file that may be overwritten while it is seeded.
    pub(super) renewal: Renewal,
}

impl LibraryItem {
    /// A new item.
    pub(super) fn new(
        item: Item,
        folder: Option<PathBuf>,
        mark: Option<Mark>,
        stage: ItemStage,
    ) -> LibraryItem {
        LibraryItem {
            in_doubt: is_torrent(&item.path) && item.path.is_absolute(),
            item,
            folder,
            mark,
            last_message: String::new(),
            turns: 0,
            was_away: String::new(),
            failures: 0,
            bad: None,
            looking: false,
            complete_at: 0,
            next_look: Instant::now(),
            pause: LONGEST_PAUSE,
            changes: 0,
            stage,
            info_hash: None,
            once: false,
            verify: false,
            renewal: Renewal::default(),
        }
    }
}

/// The stage of an item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ItemStage {
    /// It was found, and may have been seeded before.
    Found,
    /// The loader looks whether it was seeded before.
    Probing(Ticket),
    /// It may still be being written; this is the time of the next look.
    Settling(Instant),
    /// It can be opened.
    Ready,
    /// The loader is opening it, under this ticket.
    Loading(Ticket),
    /// It is the torrent of this number.
    Running(TorrentNumber),
    /// It cannot be opened for the reason that was logged; this is the time of the next try.
    Waiting(Instant),
    /// It waits for a place, behind those that gave up theirs less often; this is the time of the next try.
    Queued(Instant),
    /// The torrent of this hash is there already, for another item; when that one goes, this takes its place.
    Behind(InfoHash),
    /// It is paused: nothing is sent or requested.
    Paused,
    /// It was seeded enough, or failed for good, with this exit code.
    Ended(u8),
}

impl ItemStage {
    /// Whether it is on its way to be seeded.
    pub(super) fn is_coming(&self) -> bool {
        use ItemStage::{Found, Loading, Probing, Ready, Settling};
        matches!(self, Found | Probing(_) | Settling(_) | Ready | Loading(_))
    }
}

impl LibraryItem {
    /// Whether it is content that was found in a watched folder and not named.
    pub(super) fn is_found_content(&self) -> bool {
        self.folder.is_some() && !names_torrent(&self.item.path)
    }

    /// Why it is opened, when it can be.
    pub(super) fn purpose(&self) -> Purpose {
        match self.once {
            true => Purpose::Once { offline: false },
            false => Purpose::Seed { bad: self.bad },
        }
    }

    /// The request to open it for this purpose.
    pub(super) fn load_request(&self, purpose: Purpose, settings: LoadSettings) -> LoadRequest {
        LoadRequest {
            item: self.item.clone(),
            folder: self.folder.clone(),
            purpose,
            settings,
        }
    }

    /// Tells whoever asked for it to be verified that it is not.
    pub(super) fn give_up_verifying(&mut self, notices: &Notices, why: &str) {
        if std::mem::take(&mut self.verify) {
            let path = &self.item.path;
            notices.tell(Notice::NotVerified { path, why });
        }
    }

    /// Whether it is a torrent file whose content is not known.
    pub(super) fn may_describe(&self) -> bool {
        self.in_doubt && !matches!(self.stage, ItemStage::Ended(_))
    }
}

/// What is known of a torrent file that may be overwritten.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Its last state.
    pub(super) seen: Option<Seen>,
    /// The time of the next look.
    pub(super) next_look: Instant,
    pub(super) state: Renewing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewing {
    /// It is the file that was loaded, or one that cannot be loaded.
    Not,
    /// It has changed, and is opened at this time.
    Settles(Instant),
    /// The loader is reading it, under this ticket.
    Loads(Ticket),
}

impl Default for Renewal {
    fn default() -> Renewal {
        Renewal {
            seen: None,
            next_look: Instant::now(),
            state: Renewing::Not,
        }
    }
}

/// A sleeping torrent that is being opened.
pub(super) struct Waking {
    pub(super) ticket: Ticket,
    pub(super) id: TorrentId,
    pub(super) path: PathBuf,
    pub(super) data: Option<PathBuf>,
    pub(super) mark: Mark,
    /// Peers that a tracker named.
    pub(super) peers: Vec<SocketAddr>,
    /// Whether it is verified when it is there.
    pub(super) verify: bool,
}

/// Schedules the next try: soon for what may have changed itself, ever more seldom for what failed. A file that
/// cannot be used is looked at then, and read only if it has changed.
pub(super) fn wait(managed: &mut LibraryItem, trouble: Trouble, notices: &Notices) {
    if managed.once {
        let code = trouble.exit_code();
        let reason = trouble.text();
        managed.give_up_verifying(notices, &reason);
        notices.tell(Notice::Failed(&reason));
        managed.stage = ItemStage::Ended(code);
        return;
    }
    let failed = FAILED * (1 << managed.failures.min(6));
    let (pause, when) = match trouble {
        Trouble::Away(_) => (AWAY, format!("tried again every {} s", AWAY.as_secs())),
        Trouble::Full(_) => (AWAY, format!("tried again every {} s", AWAY.as_secs())),
        Trouble::NoPlace(_) => (
            AWAY,
            "it gets one when another torrent is idle for half a minute".to_owned(),
        ),
        Trouble::Bad(_) => (failed, "tried again when it has changed".to_owned()),
        _ => (
            failed,
            format!("tried again in {} s, and then less often", failed.as_secs()),
        ),
    };
    if let Trouble::Bad(_) | Trouble::Failed(_) = trouble {
        managed.failures = managed.failures.saturating_add(1);
    }
    let is_queued = matches!(trouble, Trouble::NoPlace(_));
    let is_full = is_queued || matches!(trouble, Trouble::Full(_));
    let reason = trouble.text();
    // A reason that was logged already has no text.
    if managed.last_message != reason && !reason.is_empty() {
        match is_full {
            true => notices.tell(Notice::NoRoom(&format!("{reason}; {when}"))),
            false => log::error!("{reason}; {when}"),
        }
        managed.last_message = reason;
    }
    let message = managed.last_message.clone();
    managed.give_up_verifying(notices, &message);
    let again = Instant::now() + pause;
    managed.stage = match is_queued {
        true => ItemStage::Queued(again),
        false => ItemStage::Waiting(again),
    };
}

/// How often those that wait for a place gave up theirs, at least. Those that did so more often wait for them.
pub(super) fn fewest_turns(items: &[LibraryItem]) -> u32 {
    let queued = items
        .iter()
        .filter(|item| matches!(item.stage, ItemStage::Queued(_)));
    queued.map(|item| item.turns).min().unwrap_or(0)
}

/// The longest pause between two looks at served content of a watched folder. New content is looked at after ten
/// seconds, then after pauses that double.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The interval of tries while a disk is away.
pub(super) const AWAY: Duration = Duration::from_secs(10);

/// The first pause after a failure; the longest is an hour.
const FAILED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_had_fewer_turns_come_first() {
        let now = Instant::now();
        let item = |stage, turns| {
            let item = Item {
                path: "x.torrent".into(),
                data: None,
                files: Vec::new(),
                fetch: None,
            };
            let item = LibraryItem::new(item, None, None, stage);
            LibraryItem { turns, ..item }
        };
        let queued = |turns| item(ItemStage::Queued(now), turns);
        for (items, expected) in [
            (vec![], 0),
            (vec![queued(3)], 3),
            (vec![queued(3), queued(2)], 2),
            // One that waits for something else keeps nobody waiting.
            (vec![item(ItemStage::Waiting(now), 0), queued(2)], 2),
        ] {
            assert_eq!(fewest_turns(&items), expected, "{} items", items.len());
        }
    }
}
