//! The torrent file of a download, which is copied, unpacked or fetched from a server; and the exit codes of downloads.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everseed_core::hash::InfoHash;
use everseed_core::magnet::Magnet;
use everseed_core::metainfo::MetainfoError;
use everseed_disk::unpack::{Packing, UnpackError};
use everseed_disk::{OpenError, TORRENT_MAX, TorrentError, open_torrent, read_torrent, replace};

use crate::client::http::{self, Caller, HttpError, HttpFault, ResponseHead};
use crate::failure::{FAILURE, USAGE};
use crate::net::way::Way;
use crate::secrets::mask_urls;
use crate::session::kept::{packing_of, unpack_file};
use crate::storage::state::StateFolder;
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
        if let Some(packing) = packing_of(&fresh).or(packing) {
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

/// The longest time to fetch a torrent file.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
