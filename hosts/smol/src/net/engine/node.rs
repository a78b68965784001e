//! The engine's node as the session calls it: each call happens between two turns of the reactor.
//!
//! Each answer is of that moment. So questions whose answers must fit together are one call. Each change happens at the
//! time of that moment, too: a time that the caller read earlier would make time go back in the node.

use std::net::SocketAddr;
use std::sync::Arc;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_node::discovery::announcer::Full;
use everseed_node::input::{Input, Output};
use everseed_node::{
    AddError, Have, Limits, MetadataStats, Order, Publicity, Stats, Stuck, TorrentStats, Wanted,
};

use super::shared::Shared;
use crate::trace::Traced;

/// A handle to the node.
pub(crate) struct SharedNode(Arc<Shared>);

/// The good pieces of a torrent.
#[derive(Debug)]
pub(crate) enum Good {
    All,
    /// One bit for each piece, in wire order.
    Some(Vec<u8>),
}

impl Good {
    /// The same as the node's type.
    pub(crate) fn have(&self) -> Have<'_> {
        match self {
            Good::All => Have::All,
            Good::Some(bits) if bits.is_empty() => Have::Nothing,
            Good::Some(bits) => Have::Some(bits),
        }
    }
}

/// Calls that change the node.
impl SharedNode {
    pub(super) fn new(shared: Arc<Shared>) -> SharedNode {
        SharedNode(shared)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Traced, Instant) -> T) -> T {
        self.0.change(|reactor| {
            let now = reactor.clock.now();
            change(&mut reactor.node, now)
        })
    }

    pub(crate) fn input(&self, input: Input<'_>) -> Output {
        self.change(|node, now| node.input(now, input))
    }

    /// Takes in a torrent that is asleep, whose peers may be found by this.
    pub(crate) fn know(
        &self,
        info_hash: InfoHash,
        publicity: Publicity,
    ) -> Result<TorrentId, AddError> {
        self.change(|node, now| {
            let id = node.know(now, info_hash)?;
            node.publish(now, id, publicity);
            Ok(id)
        })
    }

    pub(crate) fn download(
        &self,
        id: TorrentId,
        wanted: Wanted<'_>,
        order: Order,
    ) -> Result<(), AddError> {
        self.change(|node, now| node.download(now, id, wanted, order))
    }

    pub(crate) fn announce(&self, id: TorrentId, tier: u8, trackers: u8) -> Result<(), Full> {
        self.change(|node, now| node.announce(now, id, tier, trackers))
    }

    pub(crate) fn announce_anew(&self) {
        self.change(|node, now| node.announce_anew(now));
    }

    /// Sets other limits, but for the most peers that are served at a time: that follows the memory.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.change(|node, now| {
            let most_slots = node.limits().most_slots;
            node.set_limits(
                now,
                Limits {
                    most_slots,
                    ..limits
                },
            );
        });
    }

    pub(crate) fn forget_trackers(&self, id: TorrentId) {
        self.change(|node, now| node.forget_trackers(now, id));
    }

    /// Says by what peers of a torrent that sleeps may be found from now on.
    pub(crate) fn publish(&self, id: TorrentId, publicity: Publicity) {
        self.change(|node, now| node.publish(now, id, publicity));
    }

    pub(crate) fn reached_at(&self, addr: SocketAddr) {
        self.change(|node, now| node.reached_at(now, addr));
    }

    pub(crate) fn remove(&self, id: TorrentId) {
        self.change(|node, now| node.remove(now, id));
    }
}

/// Calls that only read.
impl SharedNode {
    fn ask<T>(&self, question: impl FnOnce(&Traced) -> T) -> T {
        self.0.ask(|reactor| question(&reactor.node))
    }

    pub(crate) fn find(&self, info_hash: InfoHash) -> Option<TorrentId> {
        self.ask(|node| node.find(info_hash))
    }

    pub(crate) fn is_asleep(&self, id: TorrentId) -> bool {
        self.ask(|node| node.is_asleep(id))
    }

    pub(crate) fn is_complete(&self, id: TorrentId) -> bool {
        self.ask(|node| node.is_complete(id))
    }

    /// The number of torrents, awake and asleep.
    pub(crate) fn known(&self) -> usize {
        self.ask(|node| node.known())
    }

    /// The number of torrents that are awake.
    pub(crate) fn awake(&self) -> usize {
        self.ask(|node| node.torrents().count())
    }

    pub(crate) fn torrent(&self, id: TorrentId) -> Option<TorrentStats> {
        self.ask(|node| node.torrent(id))
    }

    pub(crate) fn good(&self, id: TorrentId) -> Good {
        self.ask(|node| good(node, id))
    }

    /// A torrent's numbers and its good pieces, of the same moment.
    pub(crate) fn progress(&self, id: TorrentId) -> Option<(TorrentStats, Good)> {
        self.ask(|node| Some((node.torrent(id)?, good(node, id))))
    }

    pub(crate) fn metadata(&self, id: TorrentId) -> Option<MetadataStats> {
        self.ask(|node| node.metadata(id))
    }

    pub(crate) fn stuck(&self, id: TorrentId) -> Option<Stuck> {
        self.ask(|node| node.stuck(id))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.ask(|node| node.stats())
    }

    pub(crate) fn keep_dht(&self, out: &mut [u8]) -> Option<usize> {
        self.ask(|node| node.keep_dht(out))
    }
}

fn good(node: &Traced, id: TorrentId) -> Good {
    match node.good(id) {
        Have::All => Good::All,
        Have::Some(bits) => Good::Some(bits.to_owned()),
        _ => Good::Some(Vec::new()),
    }
}
