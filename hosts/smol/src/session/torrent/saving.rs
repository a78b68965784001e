//! The resume record of a torrent: which pieces are good, and the bytes that were sent.

use std::sync::Arc;

use everseed_core::bits;
use everseed_core::resume::{Record, Verified};
use everseed_disk::WriteError;
use everseed_node::{Have, TorrentStats};

use super::{ManagedTorrent, Saved};
use crate::net::engine::{Engine, Good};
use crate::session::download::{DownloadStage, Settling};
use crate::storage::state::StateFolder;
use crate::storage::worker::{Task, settle};

impl ManagedTorrent {
    /// The contents of a record as [`save`](Self::save) would write them.
    pub(super) fn told_by(&self, record: &Record<'_>) -> Saved {
        Saved {
            uploaded: record.uploaded,
            good: match record.verified {
                Verified::Nothing => 0,
                Verified::All => self.content.geometry().pieces(),
                Verified::Some(bits) => bits::count(bits),
            },
            fingerprint: record.fingerprint,
        }
    }

    /// Writes the resume record, if it has changed. What there is of a download is synced by the worker first.
    pub(crate) fn save(&mut self, engine: &Engine, state: &StateFolder) {
        if !self.is_downloading() {
            return self.save_now(engine, state, false);
        }
        let Some((stats, good)) = self.progress(engine) else {
            return;
        };
        let Some(download) = &mut self.download else {
            return;
        };
        let is_syncing = matches!(download.stage, DownloadStage::Syncing)
            || !matches!(download.settling, Settling::No);
        if download.doubt || is_syncing {
            return;
        }
        download.settling = Settling::Yes(stats, good);
        self.note_sync(true);
        let task = Task::Settle(Arc::clone(&self.content), self.number);
        engine.worker.ask(task);
    }

    /// As [`save`](Self::save), and waits for the sync. The torrent ends then.
    pub(crate) fn save_and_wait(&mut self, engine: &Engine, state: &StateFolder) {
        self.save_now(engine, state, false);
    }

    /// As [`save`](Self::save) for what is complete, without waiting for the disk.
    pub(crate) fn save_in_haste(&mut self, engine: &Engine, state: &StateFolder) {
        self.save_now(engine, state, true);
    }

    fn save_now(&mut self, engine: &Engine, state: &StateFolder, in_haste: bool) {
        let Some(progress) = self.progress(engine) else {
            return;
        };
        if self.is_downloading() {
            if self.download.as_ref().is_some_and(|d| d.doubt) {
                return;
            }
            self.note_sync(true);
            let settled = settle(&self.content);
            if !self.takes_sync(settled) {
                return;
            }
        }
        self.record(state, &progress, in_haste);
    }

    /// The present state. Before a sync: that makes durable what was verified until then.
    fn progress(&self, engine: &Engine) -> Option<(TorrentStats, Good)> {
        engine.node.progress(self.stage.served()?)
    }

    /// What there was of the download is durable, or that failed.
    pub(super) fn settled(&mut self, state: &StateFolder, settled: Result<u64, WriteError>) {
        let Some(download) = &mut self.download else {
            return;
        };
        let settling = std::mem::replace(&mut download.settling, Settling::No);
        // A failure is told once, so it counts although nobody waits for this sync any more.
        let counts = settled.is_err() || matches!(settling, Settling::Yes(..));
        if counts
            && self.takes_sync(settled)
            && let Settling::Yes(stats, good) = settling
        {
            self.record(state, &(stats, good), false);
        }
    }

    /// Whatever a sync that is going on makes durable may be gone since. Another one begins after it.
    pub(super) fn forget_settling(&mut self) {
        let Some(download) = &mut self.download else {
            return;
        };
        let is_complete = matches!(download.stage, DownloadStage::Syncing);
        if is_complete {
            download.stage = DownloadStage::Fetching;
        }
        if is_complete || matches!(download.settling, Settling::Yes(..)) {
            download.settling = Settling::InVain;
        }
    }

    /// Takes the fingerprint of a sync. Returns whether it succeeded.
    fn takes_sync(&mut self, settled: Result<u64, WriteError>) -> bool {
        match settled {
            Ok(fingerprint) => {
                self.note_sync(false);
                self.fingerprint = fingerprint;
                true
            }
            Err(error) => {
                log::warn!(
                    "{}: {error}; what is there is checked before it counts",
                    self.name()
                );
                self.doubt_files();
                if let Some(download) = &mut self.download {
                    download.doubt = true;
                }
                false
            }
        }
    }

    /// Writes the record of this state, if it has changed.
    fn record(
        &mut self,
        state: &StateFolder,
        (stats, good): &(TorrentStats, Good),
        in_haste: bool,
    ) {
        self.save_seeded(state, in_haste);
        // While pieces wait to be verified, only the bytes sent are updated.
        let settled = stats.good == stats.have;
        let now = Saved {
            uploaded: stats.uploaded,
            good: stats.good,
            fingerprint: if settled { self.fingerprint } else { 0 },
        };
        if self.saved == Some(now) {
            return;
        }
        let record = Record {
            info_hash: self.info_hash(),
            uploaded: stats.uploaded,
            fingerprint: now.fingerprint,
            verified: match good.have() {
                _ if !settled => Verified::Nothing,
                Have::All => Verified::All,
                Have::Some(bits) => Verified::Some(bits),
                _ => Verified::Nothing,
            },
        };
        // The result of a first check could be found again.
        let first = self.saved.is_none() && self.download.is_none();
        match state.save(&record, in_haste || first) {
            Ok(()) => self.saved = Some(now),
            Err(error) => log::warn!(
                "{}: {error}: the state of {} is not kept, a restart will verify it again",
                state.folder().display(),
                self.name(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::rc::Rc;

    use everseed_core::hash::InfoHash;

    use super::*;
    use crate::options::get::Fetch;
    use crate::options::run::Config;
    use crate::options::seed::SeedArgs;
    use crate::session::Session;
    use crate::session::tests::{World, turns_until};
    use crate::storage::worker::{Look, Outcome, Progress};

    /// A download of the file `a`, of which two of four pieces are there.
    fn half(world: &World) -> (Box<Session>, InfoHash) {
        let hash = world.make(&["a"], &world.folder)[0];
        let fetch = Fetch {
            out: world.folder.join("out"),
            overwrite: true,
            ..Fetch::default()
        };
        fs::create_dir_all(&fetch.out).unwrap();
        fs::write(fetch.out.join("a"), [1; 2 * 16384]).unwrap();
        let args = SeedArgs {
            paths: vec![world.folder.join("a.torrent")],
            state: world.folder.join("other state"),
            ..world.config(&[]).seed
        };
        let opened = Session::open(Config::of_get(args, &fetch), world.front());
        let mut session = opened.unwrap().unwrap_or_else(|code| panic!("{code}"));
        world.hears(&mut session, &["downloading a"]);
        (session, hash)
    }

    fn recorded(session: &Session, hash: InfoHash) -> Option<Vec<u8>> {
        let bytes = session.torrents.state.resume(hash, 4)?;
        let record = Record::decode(&bytes).unwrap();
        Some(match record.verified {
            Verified::Some(bits) => bits.to_vec(),
            other => panic!("{other:?}"),
        })
    }

    /// What there is of a download is synced by another thread, and recorded when that is done: a turn waits for no disk.
    #[test]
    fn an_unfinished_download_is_recorded_after_its_sync() {
        let world = World::new("saving-recorded");
        let (mut session, hash) = half(&world);
        assert_eq!(recorded(&session, hash), None);
        turns_until(&mut session, |session| recorded(session, hash).is_some());
        assert_eq!(recorded(&session, hash), Some(vec![0b1100_0000]));
    }

    /// A check begins during a sync. If the sync fails then, writes are lost all the same; if not, nothing is complete
    /// before the check has ended.
    #[test]
    fn a_sync_during_which_a_check_begins() {
        let failed = || WriteError::Io {
            path: PathBuf::from("/srv"),
            error: std::io::ErrorKind::Other.into(),
        };
        let look = || Look {
            fingerprint: 1,
            present: None,
        };
        let syncing = || DownloadStage::Syncing;
        let moving = || DownloadStage::Moving(Arc::<Progress>::default());
        let fetching = || DownloadStage::Fetching;
        let world = World::new("saving-check");
        let (mut session, hash) = half(&world);
        turns_until(&mut session, |session| recorded(session, hash).is_some());
        let shared = Rc::clone(&session.engine);
        for (stage, outcome, doubts) in [
            (fetching(), Outcome::Settled(Err(failed())), true),
            (fetching(), Outcome::Settled(Ok(1)), false),
            (syncing(), Outcome::Synced(Err(failed())), true),
            (syncing(), Outcome::Synced(Ok(look())), false),
            (moving(), Outcome::Relocated(Ok(1)), false),
        ] {
            let case = format!("{stage:?}, {outcome:?}");
            let mut engine = shared.borrow_mut();
            let (torrents, state) = (&mut session.torrents.awake, &session.torrents.state);
            let torrent = torrents.iter_mut().next().unwrap();
            let progress = torrent.progress(&engine).unwrap();
            let download = torrent.download.as_mut().unwrap();
            if let Outcome::Settled(_) = outcome {
                download.settling = Settling::Yes(progress.0, progress.1);
            }
            (download.stage, download.doubt) = (stage, false);
            torrent.verify(&mut engine);
            torrent.done(&mut engine, state, outcome);
            let download = torrent.download.as_ref().unwrap();
            assert_eq!(download.doubt, doubts, "{case}");
            assert!(matches!(download.stage, DownloadStage::Fetching), "{case}");
            assert!(matches!(download.settling, Settling::No), "{case}");
            drop(engine);
            world.hears(&mut session, &["verified a (2, 4)", "downloading a"]);
        }
    }
}
