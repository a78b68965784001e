//! Downloads: the source of the torrent, the choice of its files, and a download's state until it is complete and
//! durable.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everseed_core::bits;
use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::magnet::Magnet;
use everseed_core::metainfo::{FileKind, Metainfo, MetainfoError};
use everseed_disk::unpack::{Packing, UnpackError};
use everseed_disk::{
    Content, Entry, OpenError, ReadError, TORRENT_MAX, TorrentError, WriteError, fits,
    open_torrent,
    owner::{self, Differing},
    read_entries, read_torrent, replace, room, unfinished, write,
};
use everseed_node::Order;

use crate::client::http::{self, Caller, HttpError, HttpFault, ResponseHead};
use crate::failure::{FAILURE, USAGE};
use crate::net::way::Way;
use crate::options::get::Fetch;
use crate::secrets::mask_urls;
use crate::session::kept::{packing_of, unpack_file};
use crate::session::torrent::stagnation::Stagnation;
use crate::storage::state::StateFolder;
use crate::storage::worker::Progress;
use crate::text::{escape, size};

/// Why a download does not begin: the message and the exit code.
pub(crate) type Refusal = (String, u8);

/// aria2's exit codes for a file that is not bencoded, and for a bad torrent.
const NOT_BENCODED: u8 = 25;
const BAD_TORRENT: u8 = 26;
/// aria2's exit code for a full disk.
pub(crate) const DISK_FULL: u8 = 9;
/// aria2's exit code for unfinished downloads.
pub(crate) const UNFINISHED: u8 = 7;
/// aria2's exit code for data with the wrong hash.
pub(crate) const CHECKSUM: u8 = 32;

/// The worse one of two exit codes.
pub(super) fn worse(a: u8, b: u8) -> u8 {
    let rank = |code| WORST_FIRST.iter().position(|&worst| worst == code);
    let badness = |code| rank(code).map_or(0, |rank| WORST_FIRST.len() - rank);
    if badness(b) > badness(a) { b } else { a }
}

/// The exit codes of failed downloads, the worst first.
const WORST_FIRST: [u8; 7] = [
    FAILURE,
    USAGE,
    NOT_BENCODED,
    BAD_TORRENT,
    CHECKSUM,
    DISK_FULL,
    UNFINISHED,
];

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
    pub(crate) said: String,
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

/// The torrent file of a download: a copy in the state, so that the original may go. `None` for a magnet link whose
/// metadata is not here yet.
pub(crate) fn torrent(
    state: &StateFolder,
    given: &Path,
    way: &Way,
) -> Result<Option<PathBuf>, Refusal> {
    let before = || state.made_of(&key(given));
    if let Some(link) = given.to_str().filter(|text| is_magnet(text)) {
        let magnet = Magnet::parse(link).map_err(|error| (error.to_string(), 1))?;
        let file = state.torrent_file(magnet.info_hash);
        // Its metadata may be here already from another source.
        let kept = before().or(Some(file)).filter(|file| file.is_file());
        return Ok(kept);
    }
    match copy(state, given, way) {
        Ok(info_hash) => {
            // Without this note a start needs the original.
            let _ = state.remember(&key(given), info_hash);
            Ok(Some(state.torrent_file(info_hash)))
        }
        Err((text, code)) => {
            // A file that is there and is no torrent is worse than an absent file or server.
            let away = code == FAILURE || given.is_absolute() && !given.exists();
            let Some(kept) = before().filter(|_| away) else {
                return Err((text, code));
            };
            log::warn!("{text}; it goes on with the copy that it has");
            Ok(Some(kept))
        }
    }
}

/// Whether a path is really the URL of a .torrent.
pub(super) fn is_remote(given: &Path) -> bool {
    let text = given.to_str().unwrap_or_default();
    text.starts_with("http://") || text.starts_with("https://")
}

/// The copy of a .torrent that was fetched earlier.
pub(super) fn kept(state: &StateFolder, given: &Path) -> Option<PathBuf> {
    state.made_of(&key(given)).filter(|file| file.is_file())
}

/// Whether a text is meant as a magnet link.
pub(crate) fn is_magnet(text: &str) -> bool {
    let start = text.get(..MAGNET.len()).unwrap_or_default();
    start.eq_ignore_ascii_case(MAGNET)
}

const MAGNET: &str = "magnet:";

/// The key of the copy in the state; no shared content has such a path.
pub(super) fn key(given: &Path) -> PathBuf {
    let text = given.to_string_lossy();
    if let Ok(magnet) = Magnet::parse(&text) {
        // A link may be longer than any path.
        return Path::new("get").join(magnet.info_hash.to_string());
    }
    Path::new("get").join(text.trim_start_matches('/'))
}

fn copy(state: &StateFolder, given: &Path, way: &Way) -> Result<InfoHash, Refusal> {
    let text = given.to_str().unwrap_or_default();
    // The text may be a URL with a passkey.
    let shown = escape(&mask_urls(text)).to_string();
    let remote = is_remote(given);
    if !remote && text.contains("://") && !given.exists() {
        let text = format!("{shown}: only http and https addresses can be fetched");
        return Err((text, 1));
    }
    if given.is_dir() {
        let text = format!("{shown} is a folder; give the .torrent file or its URL");
        return Err((text, 1));
    }
    // Others are fetched at the same time.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = state.folder().join(format!(".everseed-fetched-{number}"));
    let unkept = |error| {
        let place = state.folder().display().to_string();
        (
            format!("{place}: {error}; choose another place with --state DIR"),
            1,
        )
    };
    if remote {
        let (mut refusal, mut packing) = (None, None);
        let kept = replace(&fresh, |out| {
            packing = download(text, &shown, way, out).map_err(|(told, error)| {
                refusal = told;
                error
            })?;
            Ok(())
        });
        match (kept, refusal) {
            (Err(_), Some(refusal)) => return Err((refusal, 1)),
            (kept, _) => kept.map_err(unkept)?,
        }
        if let Some(packing) = packing.or(packing_of(&fresh)) {
            match unpack_file(packing, &fresh, &fresh) {
                // Some servers name a compression that they did not apply.
                Err(UnpackError::Damaged) | Ok(()) => {}
                Err(UnpackError::Unkept(error)) => return Err(unkept(error)),
                Err(error) => return Err((format!("{shown}: {error}"), 1)),
            }
        }
    } else if let Some(packing) = packing_of(given) {
        unpack_file(packing, given, &fresh).map_err(|error| match error {
            UnpackError::Unkept(error) => unkept(error),
            error => (format!("{shown}: {error}"), BAD_TORRENT),
        })?;
    } else {
        // Only a torrent is copied.
        let refused = |error: &OpenError| (told(error, &shown), code(error));
        read_torrent(given).map_err(|error| refused(&error))?;
        let file = open_torrent(given).map_err(|error| (format!("{shown}: {error}"), 1))?;
        let mut file = file.take(TORRENT_MAX);
        replace(&fresh, |out| std::io::copy(&mut file, out).map(|_| ())).map_err(unkept)?;
    }
    let read = read_torrent(&fresh);
    let info_hash = match read {
        Ok(metainfo) => metainfo.info_hash,
        Err(error) => {
            let _ = std::fs::remove_file(&fresh);
            return Err((told(&error, &shown), code(&error)));
        }
    };
    let kept = state.torrent_file(info_hash);
    std::fs::rename(&fresh, &kept).map_err(unkept)?;
    Ok(info_hash)
}

/// Downloads `url` to `out`, and returns the compression that the server names. The error is the message, unless
/// `out` failed.
fn download(
    url: &str,
    shown: &str,
    way: &Way,
    out: &mut dyn Write,
) -> Result<Option<Packing>, (Option<String>, io::Error)> {
    let limits = http::Limits {
        total: FETCH_TIMEOUT,
        body: usize::try_from(TORRENT_MAX).unwrap_or(usize::MAX),
        ..http::Limits::default()
    };
    let mut sink = |bytes: &[u8]| out.write_all(bytes);
    let answer = http::get_to(url, Caller::Owner, way, &limits, &mut sink);
    let failed = |text| (Some(text), io::ErrorKind::Other.into());
    match smol::block_on(answer) {
        Ok(answer) if answer.status == 200 => Ok(answer.packing),
        Ok(ResponseHead { status, .. }) => {
            Err(failed(format!("{shown}: the server answers {status}")))
        }
        Err(HttpError { fault, host }) => Err(match fault {
            HttpFault::Unkept(error) => (None, error),
            HttpFault::TooLong => failed(format!(
                "{shown}: what the server sends is longer than a torrent may be, {}",
                size(TORRENT_MAX)
            )),
            // Before a host is known, the error names the whole URL, as the message does.
            fault if host == url => failed(format!("{shown}: {fault}")),
            fault => failed(format!("{shown}: {}", HttpError { host, fault })),
        }),
    }
}

/// The error, worded about the torrent that the user named.
fn told(error: &OpenError, shown: &str) -> String {
    match error {
        OpenError::Torrent { error, .. } => format!("{shown}: {error}"),
        error => error.to_string(),
    }
}

/// Whether this exit code means that the torrent file cannot be used, however often it is read.
pub(crate) fn is_of_the_file(code: u8) -> bool {
    code == NOT_BENCODED || code == BAD_TORRENT
}

fn code(error: &OpenError) -> u8 {
    match error {
        OpenError::Torrent { error, .. } if error.is_of_the_disk() => 1,
        OpenError::Torrent {
            error: TorrentError::Bad(MetainfoError::Bencode(_)),
            ..
        } => NOT_BENCODED,
        OpenError::Torrent {
            error: TorrentError::Io(_),
            ..
        } => 1,
        OpenError::Torrent { .. } => BAD_TORRENT,
        _ => 1,
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
        said: String::new(),
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

/// The longest time to fetch a torrent file.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// The first pause before a failed step is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(10);
