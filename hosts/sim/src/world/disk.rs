//! The disks of the hosts. A disk writes and verifies at once, or does one job after another if it is slow.

use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_core::pool::BlockId;
use everseed_core::time::Instant;
use everseed_node::{Event, StorageError};

use crate::world::{Happening, World};

/// A job of a disk.
pub(super) enum Chore {
    Write(BlockId, Span, &'static mut [u8]),
    Verify(TorrentId, PieceIndex),
}

impl World {
    /// Writes to a host's disk succeed again.
    pub fn writable(&mut self, host: usize) {
        let event = Event::Writable(self.hosts[host].torrent);
        self.tell(host, event);
    }

    /// Gives a job to a disk, which does it now or after the jobs before it.
    pub(super) fn ask_disk(&mut self, host: usize, chore: Chore) {
        let this = &mut self.hosts[host];
        let free = this.disk_free.max(self.now);
        if this.storage.slow == 0 && free == self.now {
            return self.done(host, chore);
        }
        this.disk_free = free + this.storage.slow;
        let (at, boots) = (this.disk_free, this.boots);
        self.at(at, Happening::Disk(host, boots, chore));
    }

    /// A job is done.
    pub(super) fn done(&mut self, host: usize, chore: Chore) {
        let now = Instant::from_micros(self.now);
        let (seed, this) = (self.seed, &mut self.hosts[host]);
        match chore {
            Chore::Write(block, span, bytes) => {
                let storage = this.metadata.as_mut().unwrap_or(&mut this.storage);
                let result = match storage.write(span, bytes) {
                    true => Ok(()),
                    false => Err(StorageError::Full),
                };
                this.node.written(block, bytes, result);
            }
            Chore::Verify(torrent, piece) => {
                let good = this
                    .metadata
                    .as_ref()
                    .unwrap_or(&this.storage)
                    .verify(piece);
                this.node.event(now, Event::Verified(torrent, piece, good));
                if this.metadata.is_none() && good {
                    this.reached.piece.get_or_insert(self.now);
                }
                let done = this.node.is_complete(torrent);
                if done && this.finished.is_none() {
                    this.finished = Some(self.now);
                    self.complete.push(host);
                    let whole = self.geometry.all_pieces().all(|p| this.storage.verify(p));
                    assert!(whole, "seed {seed}: host {host} is complete and is not");
                }
            }
        }
    }
}
