//! Messages while a torrent is made.

use std::io;
use std::path::Path;

use everseed_core::metainfo::MAX_PATH;
use everseed_disk::Skipped;
use everseed_disk::make::Report;

use crate::text::{ProgressLine, escape, say};

/// Prints the skipped files and the progress of hashing.
#[derive(Default)]
pub(crate) struct Making {
    progress: Option<ProgressLine>,
    not_included: u64,
}

impl Making {
    /// Prints one report.
    pub(crate) fn report(&mut self, report: Report<'_>) {
        match report {
            // Who chooses files by `--include` knows that the others are left out.
            Report::Skipped(_, Skipped::NotIncluded) => self.not_included += 1,
            Report::Skipped(path, why) => say(format_args!("{}", skipped(path, why))),
            Report::Hashed { done, total } => self
                .progress
                .get_or_insert_with(|| ProgressLine::new("hashed", total))
                .update(done),
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        not_included(self.not_included);
    }
}

/// Prints the number of files that match no pattern of `--include`.
pub(crate) fn not_included(count: u64) {
    match count {
        0 => {}
        n => say(format_args!("left out, no --include fits: {n} files")),
    }
}

/// The message about a file that is not part of a torrent.
pub(crate) fn skipped(path: &Path, why: Skipped) -> String {
    let path = escape(path.as_os_str().as_encoded_bytes());
    match why {
        Skipped::Symlink => {
            format!("left out, a link that leads out of the folder (see --links): {path}")
        }
        Skipped::FolderLink => format!("left out, a link to a folder: {path}"),
        Skipped::Special => format!("left out, no regular file: {path}"),
        Skipped::State => format!("left out, the state of everseed: {path}"),
        Skipped::Configuration => format!("left out, the configuration of everseed: {path}"),
        Skipped::Output => format!("left out, the torrent itself: {path}"),
        Skipped::Excluded => format!("left out, excluded: {path}"),
        Skipped::NotIncluded => format!("left out, no --include fits: {path}"),
        Skipped::Unwanted => {
            format!("left out, as nobody wants such a file (--all takes it): {path}")
        }
        Skipped::NotUtf8 => {
            format!(
                "left out, its name is not UTF-8, so others could not read it; rename it: {path}"
            )
        }
        Skipped::TooLong => {
            format!("left out, its path is longer than {MAX_PATH} bytes; shorten it: {path}")
        }
        Skipped::Unreadable(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            format!("left out, it cannot be read ({error}): {path}")
        }
    }
}
