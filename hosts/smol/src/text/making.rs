//! What a person is told while a torrent is made.

use std::io;
use std::path::Path;

use everseed_core::metainfo::MAX_PATH;
use everseed_disk::Skipped;
use everseed_disk::make::Report;

use crate::text::{Progress, escape, say};

/// Tells a person what is left out and how far the hashing is.
pub(crate) fn reporter() -> impl FnMut(Report<'_>) {
    let mut progress: Option<Progress> = None;
    let mut not_included = NotIncluded(0);
    move |report| match report {
        // Who names what is taken knows that the rest is not.
        Report::Skipped(_, Skipped::NotIncluded) => not_included.add(),
        Report::Skipped(path, why) => say(format_args!("{}", skipped(path, why))),
        Report::Hashed { done, total } => progress
            .get_or_insert_with(|| Progress::new("hashed", total))
            .update(done),
    }
}

/// How many files fit no pattern of `--include`.
struct NotIncluded(u64);

impl NotIncluded {
    fn add(&mut self) {
        self.0 += 1;
    }
}

impl Drop for NotIncluded {
    fn drop(&mut self) {
        match self.0 {
            0 => {}
            n => say(format_args!("left out, no --include fits: {n} files")),
        }
    }
}

fn skipped(path: &Path, why: Skipped) -> String {
    let path = escape(path.as_os_str().as_encoded_bytes());
    match why {
        Skipped::Symlink => {
            format!("left out, a link that leads out of the folder (see --links): {path}")
        }
        Skipped::FolderLink => format!("left out, a link to a folder: {path}"),
        Skipped::Special => format!("left out, no regular file: {path}"),
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
