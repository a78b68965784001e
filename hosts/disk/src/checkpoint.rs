//! The progress of a check on disk, so that a stopped check can go on: `HASH.check` beside the torrent's index.
//!
//! Invariant: a checkpoint is valid as long as the files' fingerprint is what it was when the check began. One that
//! cannot be read counts as missing.

use std::io::{self, Write};
use std::path::PathBuf;

use everseed_core::hash::Sha1;

use crate::content::Content;
use crate::hash::Fast;
use crate::regular::read_regular;
use crate::replace::replace_soon;

/// The progress: all pieces before `next` were checked, and the good ones of them have a bit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) fingerprint: u64,
    pub(crate) next: u32,
    pub(crate) good: Vec<u8>,
}

impl Checkpoint {
    pub(crate) fn load(content: &Content, fingerprint: u64) -> Option<Checkpoint> {
        let geometry = content.geometry();
        let bits = geometry.bitfield_len() as usize;
        let len = HEAD.len() + 20 + 12 + bits + SUM;
        let bytes = read_regular(&path(content), len as u64).ok()?;
        let (body, sum) = bytes.split_at_checked(len - SUM)?;
        let rest = body.strip_prefix(HEAD)?;
        let rest = rest.strip_prefix(&content.metainfo().info_hash.0)?;
        let (mark, rest) = rest.split_first_chunk()?;
        let (next, good) = rest.split_first_chunk()?;
        let next = u32::from_le_bytes(*next);
        let fits = u64::from_le_bytes(*mark) == fingerprint && next <= geometry.pieces();
        (fits && sum == digest(body)).then(|| Checkpoint {
            fingerprint,
            next,
            good: good.to_vec(),
        })
    }

    pub(crate) fn save(&self, content: &Content) -> io::Result<()> {
        let mut bytes = HEAD.to_vec();
        bytes.extend(content.metainfo().info_hash.0);
        bytes.extend(self.fingerprint.to_le_bytes());
        bytes.extend(self.next.to_le_bytes());
        bytes.extend(&self.good);
        let sum = digest(&bytes);
        bytes.extend(sum);
        replace_soon(&path(content), |out| out.write_all(&bytes))
    }

    pub(crate) fn remove(content: &Content) {
        let _ = std::fs::remove_file(path(content));
    }
}

fn path(content: &Content) -> PathBuf {
    content.record_file("check")
}

fn digest(bytes: &[u8]) -> [u8; SUM] {
    let mut sha1 = Fast::default();
    sha1.update(bytes);
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    [a, b, c, d, e, f, g, h]
}

const HEAD: &[u8] = b"everseed check 1\0";
const SUM: usize = 8;
