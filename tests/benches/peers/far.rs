//! Serving peers that are far away: what of the way to them is used.

use std::time::Duration;

use everseed_tests::far::{Far, Way};

use crate::args::Row;
use crate::bench::Bench;
use crate::clients::Client;
use crate::figures::Figure;
use crate::serving::Load;

/// Peers behind a line that they share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) title: &'static str,
    peers: usize,
    round_trip_ms: u64,
    rate_mbps: u64,
    loss_ppm: u32,
}

/// All that is measured; a [`Figure`] has its number here. How much waits before the line is what is on its way
/// when it is full.
pub(crate) const CASES: [Case; 12] = [
    case("30 ms, 500 Mbit/s: Mbit/s to 1 peer", 1, 30, 500, 0),
    case("the same to 8 peers", 8, 30, 500, 0),
    case("the same with 0.1 % loss, to 1 peer", 1, 30, 500, 1000),
    case("the same to 8 peers with loss", 8, 30, 500, 1000),
    case("100 ms, 200 Mbit/s: Mbit/s to 1 peer", 1, 100, 200, 0),
    case("the same to 8 peers", 8, 100, 200, 0),
    case("the same with 0.1 % loss, to 1 peer", 1, 100, 200, 1000),
    case("the same to 8 peers with loss", 8, 100, 200, 1000),
    case("250 ms, 100 Mbit/s: Mbit/s to 1 peer", 1, 250, 100, 0),
    case("the same to 8 peers", 8, 250, 100, 0),
    case("the same with 0.1 % loss, to 1 peer", 1, 250, 100, 1000),
    case("the same to 8 peers with loss", 8, 250, 100, 1000),
];

const fn case(
    title: &'static str,
    peers: usize,
    round_trip_ms: u64,
    rate_mbps: u64,
    loss_ppm: u32,
) -> Case {
    Case {
        title,
        peers,
        round_trip_ms,
        rate_mbps,
        loss_ppm,
    }
}

/// All cases, one after the other. The floor is the plain TCP sender among them, as nothing is set of its
/// sockets; who is not asked to be measured here by name is left out unless people seed with it.
pub(crate) fn far(bench: &mut Bench, client: Client) -> Result<(), String> {
    if !matches!(
        client,
        Client::Everseed | Client::Floor | Client::Libtorrent | Client::Aria2
    ) {
        return Ok(());
    }
    let size = bench.args.size;
    let set = bench.random(size.pick(64, 64, 2) << 20);
    let result = bench
        .start(client, Row::Far, &set.torrents, &set)
        .and_then(|started| {
            bench.settle(1);
            for (number, case) in (0..).zip(CASES).take(size.pick(12, 12, 2)) {
                let round_trip = Duration::from_millis(case.round_trip_ms);
                let way = Way::new(round_trip, case.rate_mbps * 1_000_000).losing(case.loss_ppm);
                let far = Far::new(&bench.net, way);
                // As with the others: what the system defaults to may be one that not all have.
                far.use_congestion_control(&bench.net, "cubic");
                let load = Load {
                    peers: case.peers,
                    depth: DEPTH,
                    // Without an end: blocks come again.
                    blocks: size.pick(1 << 20, 1 << 20, 64),
                    far: Some((&far, Duration::from_secs(size.pick(10, 6, 60)))),
                };
                let (outcome, _) = load.run(bench, client, &started, &set)?;
                bench.add(Figure::Far(number), client, outcome.rate() * 8.0);
            }
            Ok(())
        });
    bench.keep(set);
    result
}

/// Requests that each peer has on their way: more than all lines hold, and no more than anybody allows.
const DEPTH: usize = 250;
