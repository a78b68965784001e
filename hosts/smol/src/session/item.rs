//! What a session was asked to share, one by one or by a watched folder, and how far it has come.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;

use super::index::{is_torrent, names_torrent};
use super::notice::{Notice, Notices};
use super::trouble::Trouble;
use super::watch::Seen;
use crate::options::run::Item;
use crate::storage::catalogue::Mark;

/// Something that is seeded, or is to be.
pub(super) struct LibraryItem {
    pub(super) item: Item,
    /// The watched folder that it is in.
    pub(super) folder: Option<PathBuf>,
    /// How it looked when it was opened or looked at last.
    pub(super) mark: Option<Mark>,
    /// What was said about it last.
    pub(super) said: String,
    /// How often in a row it could not be opened.
    pub(super) failures: u32,
    /// How it looked when it could not be used: it is not read again until it is another one.
    pub(super) bad: Option<Mark>,
    /// Whether it is a torrent file of which nobody knows yet what it describes.
    pub(super) in_doubt: bool,
    /// Whether the scout was asked how it looks.
    pub(super) looking: bool,
    /// How often the folders had begun to be looked at when it was complete: its torrent may have come since.
    pub(super) complete_at: u64,
    /// Of content in a watched folder that is served: when it is looked at whether it has changed, and the pause before.
    pub(super) next_look: Instant,
    pub(super) pause: Duration,
    /// How often it changed after it had been taken for complete.
    pub(super) changes: u32,
    pub(super) stage: ItemStage,
    /// Its torrent, once it was opened.
    pub(super) info_hash: Option<InfoHash>,
    /// Whether it is opened once, as the command that named it ends with it: what fails then is not tried again.
    pub(super) once: bool,
    /// Of the file of a torrent that is seeded.
    pub(super) renewal: Renewal,
}

impl LibraryItem {
    /// Something that is to be seeded.
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
            said: String::new(),
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
            renewal: Renewal::default(),
        }
    }
}

/// How far it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ItemStage {
    /// Nobody knows whether it was seeded before.
    Found,
    /// The loader looks whether it was.
    Probing(u64),
    /// It may still be written, and is looked at again then.
    Settling(Instant),
    /// It can be opened.
    Ready,
    /// The loader has it.
    Loading(u64),
    /// It is the torrent of this number.
    Running(usize),
    /// It cannot be opened for the reason that was said.
    Waiting(Instant),
    /// Nothing is sent or asked for until it is resumed.
    Paused,
    /// It was downloaded and seeded enough, or it failed for good: with this exit code.
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
    /// Whether it is a file or folder that nobody named.
    pub(super) fn is_found_content(&self) -> bool {
        self.folder.is_some() && !names_torrent(&self.item.path)
    }

    /// Whether it is a torrent file that may describe anything.
    pub(super) fn may_describe(&self) -> bool {
        self.in_doubt && !matches!(self.stage, ItemStage::Ended(_))
    }
}

/// How far it is known what the file is now.
#[derive(Debug)]
pub(super) struct Renewal {
    /// How the file looked last.
    pub(super) seen: Option<Seen>,
    /// When it is looked at next.
    pub(super) next_look: Instant,
    pub(super) state: Renewing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewing {
    /// It is what was loaded, or nothing that can be.
    Not,
    /// It has changed, and is opened at this time.
    Settles(Instant),
    /// The loader has it.
    Loads(u64),
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

/// A torrent that is asleep and being opened.
pub(super) struct Waking {
    pub(super) ticket: u64,
    pub(super) id: TorrentId,
    pub(super) path: PathBuf,
    pub(super) data: Option<PathBuf>,
    pub(super) mark: Mark,
    /// Peers that a tracker knows of.
    pub(super) peers: Vec<SocketAddr>,
}

/// Has something tried again: what may have changed itself soon, and what failed less and less often. A file that
/// cannot be used is then looked at, and read only if it is another one.
pub(super) fn wait(managed: &mut LibraryItem, trouble: Trouble, notices: &Notices) {
    if managed.once {
        let code = trouble.exit_code();
        notices.tell(Notice::Failed(&trouble.text()));
        managed.stage = ItemStage::Ended(code);
        return;
    }
    let failed = FAILED * (1 << managed.failures.min(6));
    let (pause, when) = match trouble {
        Trouble::Away(_) => (AWAY, format!("tried again every {} s", AWAY.as_secs())),
        Trouble::Full(_) => (AWAY, format!("tried again every {} s", AWAY.as_secs())),
        Trouble::Bad(_) => (failed, "tried again when it has changed".to_owned()),
        _ => (
            failed,
            format!("tried again in {} s, and then less often", failed.as_secs()),
        ),
    };
    if let Trouble::Bad(_) | Trouble::Failed(_) = trouble {
        managed.failures = managed.failures.saturating_add(1);
    }
    let reason = trouble.text();
    // It has no text if it is what was said already.
    if managed.said != reason && !reason.is_empty() {
        log::error!("{reason}; {when}");
        managed.said = reason;
    }
    managed.stage = ItemStage::Waiting(Instant::now() + pause);
}

/// How long content in a watched folder that is served is left alone at most, before it is looked at whether it has
/// changed. What has just come is looked at after ten seconds, and then after pauses twice as long each time.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How often what is on a disk that is away is tried again.
pub(super) const AWAY: Duration = Duration::from_secs(10);

/// How soon what could not be opened is, the first time; an hour at last.
const FAILED: Duration = Duration::from_secs(60);
