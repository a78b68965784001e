//! Pieces that cannot be read and files that cannot be written: each file is named once, the rest goes on,
//! and what failed is tried again after a minute, then after pauses twice as long each time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_disk::fault::{Extent, Unread};
use everseed_node::{Event, Wanted};

use super::{ManagedTorrent, Phase};
use crate::net::engine::Engine;
use crate::storage::worker::{Task, Unwritten};

/// What failed of one torrent.
#[derive(Default)]
pub(super) struct Faults {
    /// Files that were named, by a hash of their path.
    named: Vec<u64>,
    /// Where files begin, or go on, that take no writes.
    unwritable: Vec<u64>,
    /// What failed since the last try.
    failed: u32,
    /// The next try, and the pause before it.
    again: Option<(Instant, Duration)>,
}

/// What is to be said of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Naming {
    First,
    /// It is one too many to be named.
    More,
    /// It was named, or others were said not to be.
    Known,
}

impl Faults {
    /// Notes that something failed.
    fn note(&mut self, path: &Path, now: Instant) -> Naming {
        self.failed = self.failed.saturating_add(1);
        self.again.get_or_insert((now + FIRST, FIRST));
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let hash = hasher.finish();
        if self.named.contains(&hash) || self.named.len() > NAMED {
            return Naming::Known;
        }
        self.named.push(hash);
        match self.named.len() > NAMED {
            true => Naming::More,
            false => Naming::First,
        }
    }

    /// Has everything tried once in an hour, as something failed before this run.
    pub(super) fn presume(&mut self, now: Instant) {
        self.failed = 1;
        self.again = Some((now + HOUR, HOUR));
    }

    /// Whether it is time to try again. What did not fail the last time is forgotten.
    fn is_due(&mut self, now: Instant, longest: Duration) -> bool {
        let Some((_, pause)) = self.again.filter(|&(at, _)| at <= now) else {
            return false;
        };
        if self.failed == 0 {
            *self = Faults::default();
            return false;
        }
        let pause = (pause * 2).min(longest);
        (self.failed, self.again) = (0, Some((now + pause, pause)));
        true
    }
}

impl ManagedTorrent {
    /// A piece could not be read, while others can.
    pub(crate) fn unread(&mut self, fault: &Unread) {
        let now = Instant::now();
        let gone = fault.error.is_absence() && !self.is_downloading();
        if gone || fault.extent == Extent::Change {
            // The look says what is missing.
            return self.look_soon(!gone);
        }
        if fault.extent == Extent::Piece {
            self.narrowed();
            // That it is missing is said here.
            self.said = self.said.saturating_sub(1);
            self.name_unread(fault, now);
        }
    }

    /// Names the file of a piece that could not be read, unless that was done.
    pub(super) fn name_unread(&mut self, fault: &Unread, now: Instant) {
        match self.faults.note(fault.error.path(), now) {
            Naming::First => log::error!(
                "{}: {fault}: it is not served, the others are; tried again in a minute, then less and \
                 less often",
                self.name()
            ),
            Naming::More => log::error!("{}: more files than these cannot be read", self.name()),
            Naming::Known => log::debug!("{}: {fault}", self.name()),
        }
    }

    /// A file takes no writes: the node asks for nothing of it any more.
    pub(super) fn leave_file_out(&mut self, fault: &Unwritten, first: u32) {
        let now = Instant::now();
        let error = &fault.error;
        let geometry = self.content.geometry();
        let at = geometry
            .piece(first)
            .map_or(0, |p| geometry.piece_offset(p));
        self.narrowed();
        match self.faults.note(error.path().unwrap_or(Path::new("")), now) {
            Naming::First => log::error!(
                "{}: {error}; this file is left out and the rest is downloaded; tried again in a minute, \
                 then less and less often",
                self.name()
            ),
            Naming::More => log::error!("{}: more files than these cannot be written", self.name()),
            Naming::Known => return log::debug!("{}: {error}", self.name()),
        }
        self.faults.unwritable.push(at);
    }

    fn narrowed(&mut self) {
        if let Some(download) = &mut self.download {
            download.narrowed = true;
        }
    }

    /// Tries again what failed, if that is due.
    pub(crate) fn try_again(&mut self, engine: &mut Engine, now: Instant) {
        let Phase::Serving(id) = self.phase else {
            return;
        };
        let downloads = self.is_downloading();
        if !self.faults.is_due(now, if downloads { HOUR } else { DAY }) {
            return;
        }
        if !downloads {
            return engine.tell(Event::Recheck(id));
        }
        let offsets = self.faults.unwritable.clone();
        if offsets.is_empty() {
            return self.want_all(engine);
        }
        let content = Arc::clone(&self.content);
        engine.worker.ask(Task::Try(content, self.number, offsets));
    }

    /// Whether some file that took no writes does now.
    pub(super) fn tried(&mut self, engine: &mut Engine, writable: bool) {
        match writable {
            true => self.want_all(engine),
            // As if it had been asked for.
            false => self.faults.failed = self.faults.failed.saturating_add(1),
        }
    }

    /// What was left out of a download is wanted again.
    fn want_all(&mut self, engine: &mut Engine) {
        let (Phase::Serving(id), Some(download)) = (self.phase, &mut self.download) else {
            return;
        };
        if !download.is_open() {
            return;
        }
        let obtainable = download.obtainable(self.content.geometry().pieces());
        let wanted = match &obtainable {
            None => Wanted::All,
            Some(bits) => Wanted::Some(bits),
        };
        (download.narrowed, download.partly) = (false, false);
        self.faults.unwritable.clear();
        let now = engine.now();
        let again = engine.node.download(now, id, wanted, download.order);
        if let Err(error) = again {
            log::error!("{}: {error}", self.name());
        }
    }
}

/// Files that are named.
const NAMED: usize = 16;

/// The pause before the first try.
const FIRST: Duration = Duration::from_secs(60);

/// The longest one in a download, and the longest one.
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_named_once() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        for round in 0..3 {
            for file in 0..NAMED {
                let path = format!("file {file}");
                let naming = faults.note(Path::new(&path), now);
                let expected = [Naming::First, Naming::Known][usize::from(round > 0)];
                assert_eq!(naming, expected, "{path}");
            }
        }
        assert_eq!(faults.note(Path::new("another"), now), Naming::More);
        assert_eq!(faults.note(Path::new("and one"), now), Naming::Known);
    }

    #[test]
    fn tried_less_and_less_often_until_nothing_fails() {
        let (mut faults, mut now) = (Faults::default(), Instant::now());
        assert!(!faults.is_due(now, DAY) && faults.again.is_none());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            faults.note(Path::new("file"), now);
            let pause = Duration::from_secs(60 * minutes);
            assert!(!faults.is_due(now + pause - Duration::from_secs(1), HOUR));
            now += pause;
            assert!(faults.is_due(now, HOUR), "{minutes} minutes");
        }
        now += HOUR;
        assert!(!faults.is_due(now, HOUR) && faults.again.is_none());
    }
}
