//! [`Progress`]: a download never stands still for minutes while somebody has what it lacks.

use crate::router::Nat;
use crate::world::World;

/// What a download had when it was last seen to go on, and when that was, in microseconds of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    downloaded: u64,
    at: u64,
}

impl Progress {
    /// Of a download that begins.
    pub(super) fn new(at: u64) -> Progress {
        Progress { downloaded: 0, at }
    }
}

/// How long a download may stand still. Several announces and all waits before calls fit in.
const PATIENCE: u64 = 300_000_000;

/// How often hosts are looked at.
const PERIOD: u64 = 30_000_000;

impl World {
    /// Fails if a download has stood still for [`PATIENCE`] while a seed could be called and a tracker names it.
    pub(super) fn assert_progress(&mut self) {
        if self.now < self.progress_due {
            return;
        }
        self.progress_due = self.now + PERIOD;
        for host in 0..self.hosts.len() {
            let this = &self.hosts[host];
            let downloaded = this.node.torrent(this.torrent).map_or(0, |t| t.downloaded);
            let goes_on = downloaded != this.progress.downloaded;
            if goes_on || !self.could_go_on(host) {
                let at = self.now;
                self.hosts[host].progress = Progress { downloaded, at };
            }
            let stands = self.now - self.hosts[host].progress.at;
            let (seed, seconds) = (self.seed, stands / 1_000_000);
            assert!(
                stands < PATIENCE,
                "seed {seed}: host {host} has got nothing for {seconds} s, though others have what it lacks"
            );
        }
    }

    /// Whether a host lacks something that it could get.
    fn could_go_on(&self, host: usize) -> bool {
        let this = &self.hosts[host];
        let lacks = this.alive && this.finished.is_none() && this.storage.room.is_none();
        let sources = || self.hosts.iter().enumerate().filter(|&(n, _)| n != host);
        lacks
            && !this.profile.free_rider
            && (self.has_tracker && self.tracker_runs)
            && sources().any(|(n, other)| {
                let honest = !other.profile.free_rider && other.profile.lies == 0;
                let open = other.alive && other.profile.nat == Nat::Open;
                other.finished.is_some() && honest && open && !self.apart(host, n)
            })
    }
}
