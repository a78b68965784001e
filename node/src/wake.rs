//! Wake-ups: what the functions of a subsystem want done once they have returned.
//!
//! Functions add to the [`Wakes`] of the context that they were given. A wake-up is taken out where its work is done:
//! by [`Node`](crate::Node) in `poll` and `tick`, or by a function of a subsystem that these call.

/// Work that is due at the next poll, or that waits for something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    /// Every peer is to be asked for more blocks.
    Request,
    /// An upload slot may be free: who waits for one is to be unchoked.
    FillSlots,
    /// All blocks of a piece may be written: it is to be verified.
    Verify,
    /// A torrent may have pieces to verify that nobody waits for.
    Recheck,
    /// A download may lack nothing more, as pieces were left out of it.
    EndDownloads,
    /// The metadata of a torrent may be here, of which the host is to be told.
    TellFetched,
    /// A peer may have to be told of others (BEP 11).
    TellPeers,
    /// [`Request`](Wake::Request) once blocks are free.
    RequestAtFreeBlocks,
    /// [`Request`](Wake::Request) once a piece in progress has ended, so that another can be begun.
    RequestAtPieceEnd,
    /// [`Request`](Wake::Request) once the download limit allows a block.
    RequestAtRate,
    /// All connections once the upload limit allows a block.
    SendAtRate,
    /// All connections that are not read, once the request queue has room.
    ReadAtQueueRoom,
}

/// A set of wake-ups.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Wakes(u16);

impl Wakes {
    /// Adds one.
    pub(crate) fn add(&mut self, wake: Wake) {
        self.0 |= bit(wake);
    }

    /// Adds one, if `wanted`.
    pub(crate) fn add_if(&mut self, wake: Wake, wanted: bool) {
        if wanted {
            self.add(wake);
        }
    }

    /// Whether it is in the set.
    pub(crate) fn has(self, wake: Wake) -> bool {
        self.0 & bit(wake) != 0
    }

    /// Takes one out of the set, and says whether it was in it.
    pub(crate) fn take(&mut self, wake: Wake) -> bool {
        let had = self.has(wake);
        self.0 &= !bit(wake);
        had
    }

    /// Replaces one wake-up by another, if it is in the set: what it waited for has come.
    pub(crate) fn turn(&mut self, waiting: Wake, due: Wake) {
        let waited = self.take(waiting);
        self.add_if(due, waited);
    }
}

const fn bit(wake: Wake) -> u16 {
    1 << wake as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_them() {
        let mut wakes = Wakes::default();
        wakes.add(Wake::Verify);
        wakes.add_if(Wake::ReadAtQueueRoom, true);
        wakes.add_if(Wake::Request, false);
        assert!(wakes.has(Wake::Verify) && wakes.has(Wake::ReadAtQueueRoom));
        assert!(wakes.take(Wake::Verify) && !wakes.take(Wake::Verify));
        wakes.turn(Wake::RequestAtRate, Wake::Request);
        assert!(!wakes.has(Wake::Request));
        wakes.add(Wake::RequestAtRate);
        wakes.turn(Wake::RequestAtRate, Wake::Request);
        assert!(wakes.take(Wake::Request) && !wakes.has(Wake::RequestAtRate));
        assert!(wakes.take(Wake::ReadAtQueueRoom));
        assert_eq!(wakes, Wakes::default());
    }
}
