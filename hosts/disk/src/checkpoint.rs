//! The progress of a check on disk, so that a stopped check can go on: `HASH.check` beside the torrent's index.
//!
//! Invariant: what is written down is on the disk: content is synced first, so that a power cut makes nothing of it
//! wrong. It counts for pieces whose files are as they were when the check began, as their marks say: there is one for each
//! run of pieces, of all files that have bytes in it. What cannot be read is as if it were not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use everseed_core::bits;
use everseed_core::geometry::Geometry;
use everseed_core::hash::Sha1;
use everseed_core::metainfo::FileKind;

use crate::content::Content;
use crate::error::ReadError;
use crate::fingerprint::{self, Marker};
use crate::hash::Fast;
use crate::regular::read_regular;
use crate::replace::replace_soon;

/// What a check knows at a moment.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) files: Arc<Marks>,
    /// Pieces that were checked.
    pub(crate) checked: Vec<u8>,
    /// Those of them that are good.
    pub(crate) good: Vec<u8>,
    /// Whether the check has ended, so that nothing is to be kept.
    pub(crate) ended: Arc<Mutex<bool>>,
}

/// How the files of a torrent look.
#[derive(Debug)]
pub(crate) struct Marks {
    /// One for each run of pieces, of the files that have bytes in it.
    marks: Vec<u64>,
    /// A folder on each disk that some of them lie on.
    disks: Vec<(u64, PathBuf)>,
}

impl Checkpoint {
    /// What is written down of a torrent, but for files that look otherwise now.
    pub(crate) fn load(content: &Content, files: Arc<Marks>) -> Option<Checkpoint> {
        let marks = &files.marks;
        let geometry = content.geometry();
        let bits = geometry.bitfield_len() as usize;
        let len = HEAD.len() + 20 + 8 * marks.len() + 2 * bits + SUM;
        let bytes = read_regular(&path(content), len as u64).ok()?;
        let (body, sum) = bytes.split_at_checked(len - SUM)?;
        let rest = body.strip_prefix(HEAD)?;
        let rest = rest.strip_prefix(&content.metainfo().info_hash.0)?;
        let (before, rest) = rest.split_at_checked(8 * marks.len())?;
        let (checked, good) = rest.split_at_checked(bits)?;
        if sum != digest(body) {
            return None;
        }
        let (mut checked, mut good) = (checked.to_vec(), good.to_vec());
        let run = run_len(geometry);
        for (number, (before, now)) in (0..).zip(before.chunks_exact(8).zip(marks)) {
            if before != now.to_le_bytes() {
                for index in number * run..(number * run).saturating_add(run) {
                    bits::clear(&mut checked, index);
                    bits::clear(&mut good, index);
                }
            }
        }
        Some(Checkpoint {
            files,
            checked,
            good,
            ended: Arc::default(),
        })
    }

    /// Writes it down, once the content is durable, unless the check has ended by then. May wait for the disk for long.
    pub fn save(&self, content: &Content) -> io::Result<()> {
        for (device, folder) in &self.files.disks {
            let folder = File::open(folder)?;
            // The type of the field differs between architectures.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
            if rustix::fs::fstat(&folder)?.st_dev as u64 != *device {
                // It is not mounted any more.
                return Err(io::ErrorKind::NotFound.into());
            }
            if let Err(error) = rustix::fs::syncfs(folder) {
                // The kernel says so once: the next sync would seem to succeed.
                end(content, &self.ended);
                return Err(error.into());
            }
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Ok(());
        }
        let mut bytes = HEAD.to_vec();
        bytes.extend(content.metainfo().info_hash.0);
        bytes.extend(self.files.marks.iter().flat_map(|mark| mark.to_le_bytes()));
        bytes.extend(&self.checked);
        bytes.extend(&self.good);
        let sum = digest(&bytes);
        bytes.extend(sum);
        replace_soon(&path(content), |out| out.write_all(&bytes))
    }
}

/// Nothing more is written down of a check.
pub(crate) fn give_up(ended: &Mutex<bool>) {
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
}

/// Nothing is to be kept of a check any more, as it ends.
pub(crate) fn end(content: &Content, ended: &Mutex<bool>) {
    give_up(ended);
    let _ = fs::remove_file(path(content));
}

/// How the files of a torrent look now.
pub(crate) fn marks(content: &Content) -> Result<Marks, ReadError> {
    let geometry = content.geometry();
    let run = run_len(geometry);
    let count = geometry.pieces().div_ceil(run) as usize;
    let mut marks = Vec::with_capacity(count);
    let mut disks: Vec<(u64, PathBuf)> = Vec::new();
    let mut sha1 = Fast::default();
    let marker = Marker::of(content);
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        let pieces = entry.pieces(geometry);
        if entry.kind != FileKind::Data || pieces.is_empty() {
            continue;
        }
        let stat = content.stat(&entry);
        if let Some(stat) = &stat
            && !disks.iter().any(|(device, _)| *device == stat.st_dev)
        {
            let mut folder = fs::canonicalize(content.path_of(&entry)).unwrap_or_default();
            folder.pop();
            disks.push((stat.st_dev, folder));
        }
        for number in pieces.start / run..=(pieces.end - 1) / run {
            while marks.len() < number as usize {
                marks.push(fingerprint::short(std::mem::take(&mut sha1)));
            }
            marker.add(&mut sha1, stat.as_ref());
        }
    }
    while marks.len() < count {
        marks.push(fingerprint::short(std::mem::take(&mut sha1)));
    }
    Ok(Marks { marks, disks })
}

/// Pieces that have a mark together: of any torrent there are [`RUNS`] at most.
fn run_len(geometry: Geometry) -> u32 {
    geometry.pieces().div_ceil(RUNS).max(1)
}

fn path(content: &Content) -> PathBuf {
    content.record_file("check")
}

fn digest(bytes: &[u8]) -> [u8; SUM] {
    let mut sha1 = Fast::default();
    sha1.update(bytes);
    fingerprint::short(sha1).to_le_bytes()
}

/// So that a torrent of any size takes 8 KiB of marks.
const RUNS: u32 = 1024;

const HEAD: &[u8] = b"everseed check 2\0";
const SUM: usize = 8;
