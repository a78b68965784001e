//! A download until it is complete and durable: the choice of its files, the room for them, and its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_core::bits;
use everseed_core::geometry::TorrentId;
use everseed_core::metainfo::{FileKind, Metainfo};
use everseed_disk::{
    Content, Entry, ReadError, WriteError, fits,
    owner::{self, Differing},
    read_entries, room, unfinished, write,
};
use everseed_node::{Order, TorrentStats};

use crate::net::engine::Good;
use crate::options::get::Fetch;
use crate::session::torrent::stagnation::Stagnation;
use crate::storage::state::StateFolder;
use crate::storage::worker::Progress;
use crate::text::{escape, size};

use super::fetch::Refusal;

/// How far a download has come.
#[derive(Debug)]
pub(crate) enum DownloadStage {
    /// The owner's files are not known yet, and no file was made.
    Begins,
    /// It cannot begin, and ends with this exit code.
    Refused(u8),
    /// Its files are made, and missing pieces are requested.
    Fetching,
    /// The complete content is being synced.
    Syncing,
    /// All pieces that can be written and read are durable, and that was said.
    Partly,
    /// It is being moved to its final place; with the progress.
    Moving(Arc<Progress>),
    /// It is complete, durable and in its final place, since this time.
    Done(Instant),
}

/// The sync of a download that goes on, one at a time.
#[derive(Debug)]
pub(crate) enum Settling {
    /// None, or that of the complete content: [`DownloadStage::Syncing`].
    No,
    /// This was good before the sync, and will be durable after it.
    Yes(TorrentStats, Good),
    /// Whatever it makes durable may be gone since.
    InVain,
}

/// A download that is incomplete, or was when everseed started.
#[derive(Debug)]
pub(crate) struct Download {
    /// How to download, and when it is enough.
    pub(crate) goal: Fetch,
    /// The path of the record of our files.
    record: PathBuf,
    /// The wanted pieces; `None` means all.
    pub(crate) wanted: Option<Vec<u8>>,
    /// Pieces that cannot be downloaded, because they would be written into the owner's files.
    pub(crate) kept: Option<Vec<u8>>,
    pub(crate) stage: DownloadStage,
    /// Why it could not begin at the last try.
    pub(crate) last_message: String,
    pub(crate) order: Order,
    /// Whether its output folder may be made.
    pub(crate) make_out: bool,
    /// The time of the next try to write.
    pub(crate) retry: Option<Instant>,
    /// Whether the last write failed for lack of space.
    pub(crate) full: bool,
    /// Whether it was moved to its final place, if it had to be.
    pub(crate) moved: bool,
    /// Whether a sync failed, so that everything written has to be read again before it counts.
    pub(crate) doubt: bool,
    /// The pause before that.
    pub(crate) pause: Duration,
    /// Whether pieces are left out because they could not be read or written.
    pub(crate) narrowed: bool,
    /// The node's id that was told of the peers that the user named.
    pub(crate) told: Option<TorrentId>,
    /// Whether no peer has what is missing.
    pub(crate) stuck: Stagnation,
    /// The sync of what there is so far.
    pub(crate) settling: Settling,
    /// The seeding time before this run, and the time that was last recorded.
    pub(crate) seeded: (Duration, Duration),
}

impl Download {
    /// The seeding time in all runs.
    pub(crate) fn seeded(&self) -> Option<Duration> {
        match self.stage {
            DownloadStage::Done(since) => Some(self.seeded.0 + since.elapsed()),
            _ => None,
        }
    }

    /// Whether its files are still written.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.stage, DownloadStage::Done(_))
    }

    /// Whether the owner's files were found and the missing ones made.
    pub(crate) fn is_prepared(&self) -> bool {
        !matches!(
            self.stage,
            DownloadStage::Begins | DownloadStage::Refused(_)
        )
    }

    /// The exit code with which it ends before it has begun.
    pub(crate) fn refused(&self) -> Option<u8> {
        match self.stage {
            DownloadStage::Refused(code) => Some(code),
            _ => None,
        }
    }

    /// The path of the record of our files.
    pub(crate) fn record(&self) -> &Path {
        &self.record
    }

    /// The pieces that are wanted and can be downloaded; `None` means all.
    pub(crate) fn obtainable(&self, pieces: u32) -> Option<Vec<u8>> {
        let Some(kept) = &self.kept else {
            return self.wanted.clone();
        };
        let wanted = |piece| self.wanted.as_ref().is_none_or(|w| bits::get(w, piece));
        let mut set = vec![0; kept.len()];
        (0..pieces)
            .filter(|&piece| wanted(piece) && !bits::get(kept, piece))
            .for_each(|piece| _ = bits::set(&mut set, piece));
        Some(set)
    }
}

/// Finds the wanted pieces. Nothing is made yet.
pub(crate) fn plan(
    state: &StateFolder,
    content: &Content,
    fetch: &Fetch,
) -> Result<Download, Refusal> {
    let failed = |error: &dyn std::fmt::Display| (error.to_string(), 1);
    if fetch.out.is_file() {
        let shown = escape(fetch.out.as_os_str().as_encoded_bytes()).to_string();
        return Err((format!("--out {shown}: that is a file; give a folder"), 1));
    }
    if let Some(incomplete) = fetch.incomplete.as_ref().filter(|path| path.is_file()) {
        let shown = escape(incomplete.as_os_str().as_encoded_bytes()).to_string();
        return Err((
            format!("--incomplete {shown}: that is a file; give a folder"),
            1,
        ));
    }
    content.set_access(fetch.access);
    for path in unfinished::find(content).map_err(|error| failed(&error))? {
        let shown = escape(path.as_os_str().as_encoded_bytes()).to_string();
        log::info!("{shown}: an unfinished file of another client; its good pieces are used");
    }
    let mut wanted = None;
    let mut used = vec![false; fetch.only.len()];
    if !fetch.only.is_empty() {
        let geometry = content.geometry();
        let mut set = vec![0; geometry.bitfield_len() as usize];
        for (number, entry) in (1..).zip(content.entries().map_err(|e| failed(&e))?) {
            let entry = entry.map_err(|e| failed(&e))?;
            if chosen(&fetch.only, number, &entry, &mut used) {
                entry
                    .pieces(geometry)
                    .for_each(|piece| _ = bits::set(&mut set, piece));
            }
        }
        if let Some(unused) = used.iter().position(|used| !used) {
            return Err((format!("--{}", says_no_file(&fetch.only[unused])), 2));
        }
        wanted = Some(set);
    }
    let order = match fetch.sequential {
        true => Order::Sequential,
        false => Order::Rarest,
    };
    Ok(Download {
        goal: fetch.clone(),
        record: state.download_file(content.metainfo().info_hash),
        wanted,
        kept: None,
        stage: DownloadStage::Begins,
        last_message: String::new(),
        order,
        make_out: true,
        retry: None,
        full: false,
        moved: fetch.incomplete.is_none(),
        doubt: false,
        pause: RETRY,
        narrowed: false,
        told: None,
        stuck: Stagnation::default(),
        settling: Settling::No,
        seeded: (Duration::ZERO, Duration::ZERO),
    })
}

/// Makes the output folder, unless it may be on an unmounted disk.
pub(crate) fn make_folder(content: &Content, download: &Download) -> Result<(), WriteError> {
    let fetch = &download.goal;
    for folder in [Some(&fetch.out), fetch.incomplete.as_ref()]
        .into_iter()
        .flatten()
    {
        if download.make_out {
            write::make_named(content, folder)?;
        } else if !folder.is_dir() {
            let path = folder.clone();
            return Err(WriteError::Place(ReadError::Missing { path }));
        }
    }
    write::make_folder(content)
}

/// The result of looking at the existing files.
pub(crate) enum Verdict {
    /// Everything that is missing can be written.
    Begin,
    /// These files are the owner's and are not overwritten.
    Keep(Differing),
    /// What is known of the pieces may be older than the files: they have to be checked first.
    Check,
}

/// Finds the owner's files, and makes the missing ones; `good` are the pieces that are there, as was checked just now or
/// as a record says.
pub(crate) fn prepare(
    content: &Content,
    download: &mut Download,
    good: Vec<u8>,
    is_checked: bool,
    keep_on: bool,
) -> Result<Verdict, WriteError> {
    let pieces = content.geometry().pieces();
    let lacks = |piece| !bits::get(&good, piece);
    let wanted = download.wanted.as_ref();
    let is_whole = !(0..pieces).any(|p| lacks(p) && wanted.is_none_or(|w| bits::get(w, p)));
    make_folder(content, download)?;
    if !is_whole {
        measure(content, download, &good, keep_on)?;
    }
    let mut verdict = Verdict::Begin;
    if is_whole {
        let _ = std::fs::remove_file(&download.record);
    } else {
        let noted = content.write_only_own(&download.record, good.clone());
        noted.map_err(|error| WriteError::Record {
            path: download.record.clone(),
            error,
        })?;
        owner::note_complete(content).map_err(WriteError::Place)?;
        let wanted = wanted_files(&download.goal);
        let differing = owner::differing(content, &good, wanted).map_err(WriteError::Place)?;
        match differing {
            Some(differing) if differing.contradicts && !is_checked => return Ok(Verdict::Check),
            Some(differing) if download.goal.overwrite && differing.count > 0 => {
                let left = owner::leave_copies(content, &differing).map_err(WriteError::Place)?;
                if left {
                    return Ok(Verdict::Check);
                }
                owner::overwrite(content, &differing)?;
            }
            Some(differing) => verdict = Verdict::Keep(differing),
            None => {}
        }
    }
    if let Verdict::Keep(differing) = &verdict
        && differing.count > 0
        && !keep_on
    {
        return Ok(verdict);
    }
    let prepared = write::prepare(content, wanted_files(&download.goal));
    say_refused(content);
    prepared?;
    if download.goal.full && !is_whole {
        write::reserve(content, wanted_files(&download.goal))?;
    }
    download.stage = DownloadStage::Fetching;
    Ok(verdict)
}

/// Logs the names that the disk refused.
fn say_refused(content: &Content) {
    if let Some((count, own, made)) = content.take_refused() {
        let [own, made] =
            [own, made].map(|path| escape(path.as_os_str().as_encoded_bytes()).to_string());
        let more = match count {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        log::warn!("{own}: its disk refuses that name, so it is called {made}{more}");
    }
}

/// Messages about the entries of `only` that match no file of the torrent.
pub(super) fn not_held(torrent: &Path, metainfo: &Metainfo, only: &[String]) -> Vec<String> {
    let mut used = vec![false; only.len()];
    let entries = match read_entries(torrent, metainfo) {
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    for (number, entry) in (1..).zip(entries) {
        match entry {
            Ok(entry) => _ = chosen(only, number, &entry, &mut used),
            Err(error) => return vec![error.to_string()],
        }
    }
    let unused = only.iter().zip(used).filter(|(_, used)| !used);
    unused.map(|(wish, _)| says_no_file(wish)).collect()
}

fn says_no_file(wish: &str) -> String {
    let shown = escape(wish);
    format!("only {shown}: the torrent holds no such file; `everseed show` lists them")
}

/// Reports beforehand what will not fit. A file that is too long is left out while there are others; a service goes
/// on even without any.
fn measure(
    content: &Content,
    download: &Download,
    good: &[u8],
    keep_on: bool,
) -> Result<(), WriteError> {
    let room = room::measure(content, good, wanted_files(&download.goal))?;
    let fetch = &download.goal;
    if fetch.incomplete.is_some()
        && let Some((all, free)) = room::elsewhere(content, &fetch.out, wanted_files(fetch))?
        && all > free
    {
        say_no_room(content, all, free, &fetch.out);
    }
    if let Some((path, len)) = room.too_long.filter(|_| !keep_on) {
        let len = Some(len);
        return Err(WriteError::TooLong { path, len });
    }
    if room.needed > room.free {
        say_no_room(
            content,
            room.needed,
            room.free,
            fetch.incomplete.as_ref().unwrap_or(&fetch.out),
        );
    }
    Ok(())
}

fn say_no_room(content: &Content, needed: u64, free: u64, folder: &Path) {
    log::warn!(
        "{}: {} are still to be written, and only {} are free in {}; it waits when the disk is full: make room",
        escape(content.name()),
        size(needed),
        size(free),
        escape(folder.as_os_str().as_encoded_bytes())
    );
}

/// Answers for each file, in their order, whether it is wanted.
fn wanted_files(fetch: &Fetch) -> impl FnMut(&Entry) -> bool {
    let mut used = vec![false; fetch.only.len()];
    let mut number = 0;
    move |entry| {
        number += 1;
        fetch.only.is_empty() || chosen(&fetch.only, number, entry, &mut used)
    }
}

/// Whether a file is wanted by number, path or pattern.
fn chosen(only: &[String], number: u64, entry: &Entry, used: &mut [bool]) -> bool {
    if entry.kind != FileKind::Data {
        return false;
    }
    let path = entry.path.to_string_lossy();
    let name = entry.path.file_name().map(|name| name.to_string_lossy());
    let mut any = false;
    for (wish, used) in only.iter().zip(used) {
        let hit = wish.parse() == Ok(number)
            || fits(wish, &path)
            || name.as_ref().is_some_and(|name| fits(wish, name));
        *used |= hit;
        any |= hit;
    }
    any
}

/// The first pause before a failed step is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(10);
