//! [`Parts`] of a node below its swarm: the context, and three subsystems that know nothing of each other.

use everseed_core::pool::Pool;
use everseed_core::rng::Rng;
use everseed_core::sums::Secret;
use everseed_core::time::Instant;

use crate::api::Limits;
use crate::context::Context;
use crate::discovery::Discovery;
use crate::discovery::announcer::Announcer;
use crate::discovery::candidates::Candidates;
use crate::discovery::dht::{Dht, Mode};
use crate::discovery::lsd::Lsd;
use crate::discovery::seeker::Seeker;
use crate::discovery::udp_trackers::UdpTrackers;
use crate::discovery::utp::Utp;
use crate::download::Download;
use crate::download::availability::Availability;
use crate::download::pending_blocks::{self, PendingBlocks};
use crate::download::pieces_in_progress::PiecesInProgress;
use crate::memory::Memory;
use crate::peer::Peers;
use crate::rate::Bucket;
use crate::torrent::Torrents;
use crate::torrent::registry::Registry;
use crate::upload::Upload;
use crate::wake::Wakes;

/// See the module.
#[derive(Debug)]
pub(crate) struct Parts<'m> {
    pub(crate) cx: Context<'m>,
    pub(crate) upload: Upload<'m>,
    pub(crate) download: Download<'m>,
    pub(crate) discovery: Discovery<'m>,
}

impl<'m> Parts<'m> {
    /// The parts, made in `memory`; and the scratch that is in it, too. `seed` decides all that is left to chance.
    pub(crate) fn new(memory: Memory<'m>, limits: &Limits, seed: u64) -> (Parts<'m>, &'m mut [u8]) {
        let mut chance = Rng::new(seed.rotate_left(32));
        let secret = Secret::new(chance.bits(), chance.bits());
        // Nobody may tell from the chance that others see what was drawn for this.
        let hidden = Rng::new(seed.rotate_left(17) ^ 0x6468_7400).bits();
        let dht = Dht::new(Instant::ZERO, memory.dht, Mode::Off, [true; 2], hidden);
        let registry = Registry::new(memory.registry);
        let parts = Parts {
            cx: Context {
                now: Instant::ZERO,
                rng: Rng::new(seed),
                peers: Peers::new(memory.conns),
                torrents: Torrents::new(registry, memory.torrents, memory.bits),
                wakes: Wakes::default(),
            },
            upload: Upload::new(memory.requests, memory.ranks, limits),
            download: Download {
                blocks: Pool::new(memory.blocks),
                pending: PendingBlocks::new(memory.pending),
                writes: pending_blocks::PendingList::EMPTY,
                in_progress: PiecesInProgress::new(memory.in_progress, memory.in_progress_bits),
                availability: Availability {
                    bytes: memory.peer_bitfields,
                    counts: memory.counts,
                },
                secret,
                active_sources: 0,
                rate: Bucket::new(limits.download_bps),
                downloaded: 0,
                none_slow_until: Instant::ZERO,
            },
            discovery: Discovery {
                candidates: Candidates::new(memory.candidates),
                announcer: Announcer::new(memory.tiers),
                udp: UdpTrackers::new(memory.udp_announces),
                lsd: Lsd::new(Rng::new(!seed.rotate_left(16)).bits32()),
                seeker: Seeker::new(dht, memory.turns),
                utp: Utp::default(),
                key: Rng::new(!seed).bits32(),
            },
        };
        (parts, memory.scratch)
    }
}

/// Small parts for the tests of a subsystem.
#[cfg(test)]
pub(crate) mod small {
    extern crate std;

    use core::mem::MaybeUninit;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    use everseed_core::geometry::{BLOCK, BlockRef, Geometry, PieceIndex, TorrentId};
    use everseed_core::hash::InfoHash;

    use super::*;
    use crate::api::Have;
    use crate::memory::{Lender, Sizes};
    use crate::peer::LinkState;

    pub(crate) struct Heap;

    impl Lender<'static> for Heap {
        fn filled<T: Clone + 'static>(&mut self, value: T, len: usize) -> &'static mut [T] {
            vec![value; len].leak()
        }

        fn made<T: 'static>(
            &mut self,
            len: usize,
            mut make: impl FnMut() -> T,
        ) -> &'static mut [T] {
            Vec::leak((0..len).map(|_| make()).collect())
        }

        fn room<T: 'static>(&mut self, len: usize) -> &'static mut [MaybeUninit<T>] {
            Box::leak(Box::new_uninit_slice(len))
        }
    }

    /// What may be used: two peers are served.
    pub(crate) const LIMITS: Limits = Limits {
        slots: Some(2),
        most_slots: 2,
        peers: 8,
        upload_bps: None,
        download_bps: None,
    };

    /// The first block of a piece.
    pub(crate) fn first_block(index: u32) -> BlockRef {
        BlockRef {
            index,
            begin: 0,
            len: BLOCK,
        }
    }

    /// Parts with a torrent of eight pieces of two blocks, and room for eight peers, 20 requests and 6 blocks.
    pub(crate) fn parts(have: Have<'_>) -> (Parts<'static>, TorrentId) {
        parts_of(have, 8)
    }

    /// The same, with room for so many peers.
    pub(crate) fn parts_of(have: Have<'_>, conns: u32) -> (Parts<'static>, TorrentId) {
        let sizes = Sizes {
            conns,
            requests: 20,
            blocks: 6,
            in_progress: 4,
            in_progress_bits: 4 * 4,
            peer_bitfields: 8,
            counts: 8,
            registry: 1,
            torrents: 1,
            bits: 8,
            tiers: 1,
            udp_announces: 0,
            dht: 0,
            candidates: 8,
            scratch: 512,
        };
        let (mut parts, _) = Parts::new(Memory::lend(&sizes, &mut Heap), &LIMITS, 1);
        parts.cx.now = Instant::from_secs(1000);
        let torrents = &mut parts.cx.torrents;
        let id = torrents.add(InfoHash([7; 20]), geometry(), have).unwrap();
        if have == Have::Nothing {
            assert!(torrents.reserve_begun(id) && torrents.set_wanted(id, None));
            let torrent = torrents.get_mut(id).unwrap();
            (torrent.downloads, torrent.missing) = (true, 8);
            assert!(
                parts
                    .download
                    .availability
                    .reserve_counts(&mut parts.cx, id)
            );
        }
        (parts, id)
    }

    /// Eight pieces of two blocks.
    pub(crate) fn geometry() -> Geometry {
        Geometry::new(16 * u64::from(BLOCK), 2 * u64::from(BLOCK)).unwrap()
    }

    /// A piece of that torrent.
    pub(crate) fn piece(index: u32) -> PieceIndex {
        geometry().piece(index).unwrap()
    }

    /// Parts with a torrent of which only the info-hash is known.
    pub(crate) fn unknown() -> (Parts<'static>, TorrentId) {
        let (mut parts, known) = parts(Have::All);
        let (now, torrents) = (parts.cx.now, &mut parts.cx.torrents);
        torrents.remove(known);
        let id = torrents.add_unknown(now, InfoHash([9; 20])).unwrap();
        (parts, id)
    }

    /// A peer that has shaken hands; `fast` for the Fast extension.
    pub(crate) fn peer(cx: &mut Context<'_>, id: TorrentId, fast: bool) -> usize {
        let slot = cx.peers.vacant().unwrap();
        let ip = [10, 0, 0, u8::try_from(slot).unwrap()];
        cx.peers.open(cx.now, slot, (ip, 6881).into(), true);
        cx.peers[slot].link.torrent = Some(id);
        if let Some(torrent) = cx.torrents.get_mut(id) {
            torrent.conns += 1;
        }
        cx.peers[slot].link.features.fast = fast;
        cx.peers.set_state(slot, LinkState::Open);
        slot
    }
}
