//! The memory plan before there are torrents, and the node's limits.

use everseed_core::geometry::Geometry;
use everseed_node::discovery::dht::Mode;
use everseed_node::{Limits, Publicity};

use crate::descriptors;
use crate::net::memory::{Plan, TooSmall};
use crate::options::run::Config;
use crate::options::seed::SeedArgs;

/// The plan before there are torrents.
pub(super) fn plan(args: &SeedArgs) -> Plan {
    Plan {
        peers: usize::from(descriptors::peers(args.max_peers)),
        slots: usize::from(args.slots.unwrap_or(AUTOMATIC_SLOTS)),
        dht: args.dht != Mode::Off,
        lsd: args.lsd,
        ..Plan::default()
    }
}

/// The node's limits, without those of downloads.
pub(super) fn limits(args: &SeedArgs, plan: &Plan) -> Limits {
    Limits {
        slots: args.slots,
        most_slots: u16::try_from(plan.slots).unwrap_or(u16::MAX),
        peers: args.max_peers,
        upload_bps: args.up,
        download_bps: None,
    }
}

/// The ways to find peers of public torrents.
pub(super) fn publicity(args: &SeedArgs) -> Publicity {
    let mut publicity = Publicity::NONE;
    if args.pex {
        publicity = publicity.with_pex();
    }
    if args.lsd {
        publicity = publicity.with_lsd();
    }
    if args.dht != Mode::Off {
        publicity = publicity.with_dht();
    }
    publicity
}

/// The memory plan of a service.
pub(super) fn room(config: &Config) -> Result<Plan, TooSmall> {
    let mut room = plan(&config.seed);
    plan_room(&mut room, config, most_awake(config) + SPARE);
    let least = room.fit(config.seed.memory)?;
    let with = with_download(room)
        .and_then(|room| room.fit(config.seed.memory).ok())
        .filter(|with| takes_little(&room, &least, with));
    Ok(with.unwrap_or(least))
}

/// A plan in which a download may be added to what is only seeded; `None` if something is downloaded anyway.
fn with_download(plan: Plan) -> Option<Plan> {
    let usual = Geometry::new(u64::from(SPARE_PIECES) * LONG_PIECE, LONG_PIECE);
    let mut with = plan;
    with.modest = true;
    with.add_download(&usual.ok()?);
    (plan.counts == 0).then_some(with)
}

/// Whether the plan `with` room for what may come takes little of what the plan `least` has: no peer and no slot of those
/// that are `wanted`, or a sixteenth of them where there is no memory for all of them anyway; and a sixteenth of the
/// memory for served peers.
fn takes_little(wanted: &Plan, least: &Plan, with: &Plan) -> bool {
    let keeps =
        |wanted: usize, had: usize, has: usize| has == had || had < wanted && has * 16 >= had * 15;
    keeps(wanted.peers, least.peers, with.peers)
        && keeps(wanted.slots, least.slots, with.slots)
        && (!with.modest || with.lent * 16 >= least.lent * 15)
        && with.asleep * 16 >= least.asleep * 15
}

/// Adds memory for torrents that are not known yet.
pub(super) fn plan_room(room: &mut Plan, config: &Config, torrents: usize) {
    let most = config.seed.memory.saturating_mul(ASLEEP) / ASLEEP_IN;
    let most = usize::try_from(most).unwrap_or(MOST_KNOWN);
    room.asleep = most.min(MOST_KNOWN.saturating_sub(torrents));
    room.torrents += torrents;
    room.tiers += TIERS * torrents;
    room.bits += BITS * torrents;
    let downloads = config.download.is_some() || config.items.iter().any(|i| i.fetch.is_some());
    let most = Geometry::new(u64::from(PIECES) * LONG_PIECE, LONG_PIECE);
    if downloads && let Ok(most) = most {
        room.add_download(&most);
    }
}

/// Shares out the memory of what a person named, and room for what is added while it runs: [`SPARE`] torrents more or, if
/// there is less memory, fewer, and none below [`LEAST_FOR_SPARE`] bytes. What was named comes first, see
/// [`takes_little`]. Where nothing is downloaded there is room for a small download, if that takes little.
pub(super) fn fit(named: Plan, memory: u64) -> Result<Plan, TooSmall> {
    let least = named.fit(memory)?;
    if memory < LEAST_FOR_SPARE {
        return Ok(least);
    }
    let with = |torrents: usize| {
        let mut plan = named;
        plan.torrents += torrents;
        plan.tiers += TIERS * torrents;
        plan.bits += BITS * torrents;
        let usual = Geometry::new(u64::from(SPARE_PIECES) * LONG_PIECE, LONG_PIECE);
        if let Ok(usual) = usual
            && plan.counts > 0
        {
            plan.add_download(&usual);
        }
        plan
    };
    let spare = [SPARE, SPARE / 4, 1].into_iter();
    let mut plans =
        spare.flat_map(|torrents| [with_download(with(torrents)), Some(with(torrents))]);
    let fits = |plan: Plan| {
        plan.fit(memory)
            .ok()
            .filter(|with| takes_little(&named, &least, with))
    };
    Ok(plans.find_map(|plan| fits(plan?)).unwrap_or(least))
}

/// The most torrents that are awake. Those that are named one by one never sleep.
pub(super) fn most_awake(config: &Config) -> usize {
    usize::from(config.torrents) + config.items.len()
}

/// Logs if fewer peers are possible than were asked for.
pub(super) fn say_if_few(args: &SeedArgs) {
    let (peers, afforded) = (args.max_peers, descriptors::peers(args.max_peers));
    if afforded < peers {
        let current = descriptors::current();
        log::warn!(
            "this process may open {current} files, so it takes {afforded} peers and not {peers}; \
             raise `ulimit -n` for more"
        );
    }
}

/// The most sleeping torrents for a budget of this many bytes; they take a twentieth of it.
const ASLEEP: u64 = 10_000;
const ASLEEP_IN: u64 = 16 << 20;

/// The most torrents that 16 bits can number, with room to be found quickly.
pub(super) const MOST_KNOWN: usize = 58_000;

/// Places for items that are named later, so that not each of them needs a new start.
const SPARE: usize = 16;

/// With less memory there is room for nothing but what was named.
const LEAST_FOR_SPARE: u64 = 4 << 20;

/// Pieces of downloads that are added to others, all together, while these go on.
const SPARE_PIECES: u32 = 8 * 1024;

/// Tiers of trackers that each torrent is presumed to have.
const TIERS: usize = 2;

/// Bytes of bitfields that each torrent is presumed to have: only incomplete torrents need bits.
const BITS: usize = 1024;

/// The presumed pieces of all downloads, and the longest usual piece in bytes.
const PIECES: u32 = 64 * 1024;
const LONG_PIECE: u64 = 16 << 20;

/// The most upload slots for which there is memory, if their number follows the capacity.
const AUTOMATIC_SLOTS: u16 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for later torrents costs nothing that was named: the same budgets do, and nobody is parted with for it.
    #[test]
    fn what_was_named_comes_first() {
        let geometry = Geometry::new(1 << 30, 1 << 20).unwrap();
        for downloads in [false, true] {
            let mut named = Plan {
                peers: 200,
                slots: 50,
                ..Plan::default()
            };
            named.add(&geometry, 1);
            if downloads {
                named.add_download(&geometry);
            }
            let mut most = 0;
            for memory in (1..400).map(|n| n * 100_000) {
                let (alone, with) = (named.fit(memory), fit(named, memory));
                let (Ok(alone), Ok(with)) = (alone, with) else {
                    assert_eq!(alone.is_err(), with.is_err(), "{memory}");
                    continue;
                };
                let spare = with.torrents - alone.torrents;
                assert!([0, 1, 4, 16].contains(&spare), "{memory}: {spare}");
                assert!(spare == 0 || memory >= 4 << 20, "{memory}");
                assert!(with.peers * 16 >= alone.peers * 15, "{memory}");
                assert!(with.slots * 16 >= alone.slots * 15, "{memory}");
                assert!(alone.peers < 200 || with.peers == 200, "{memory}");
                assert!(with.has_room_for(&named), "{memory}");
                assert!(
                    !with.modest || with.lent * 16 >= alone.lent * 15,
                    "{memory}"
                );
                assert!(with.blocks > 0 || memory < 14 << 20, "{memory}");
                most = most.max(spare);
            }
            assert_eq!(most, 16);
        }
        // The usual budget has room for all of them.
        assert_eq!(
            fit(
                Plan {
                    peers: 100,
                    ..Plan::default()
                },
                16 << 20
            )
            .unwrap()
            .torrents,
            16
        );
    }
}
