//! Serving far peers: how much of the line to them is used.

use std::time::Duration;

use everseed_tests::far::{Far, Way};

use crate::args::Row;
use crate::bench::Bench;
use crate::clients::Client;
use crate::figures::Figure;
use crate::serving::Load;

/// Peers that share a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) title: &'static str,
    peers: usize,
    round_trip_ms: u64,
    rate_mbps: u64,
    loss_ppm: u32,
}

/// The cases; a [`Figure`] holds an index into them. The queue before a line is as long as what is on its way when the
/// line is full.
pub(crate) const CASES: [Case; 12] = [
    case("30 ms, 500 Mbit/s, 1 peer: Mbit/s", 1, 30, 500, 0),
    case("30 ms, 500 Mbit/s, 8 peers: Mbit/s", 8, 30, 500, 0),
    case(
        "30 ms, 500 Mbit/s, 0.1 % loss, 1 peer: Mbit/s",
        1,
        30,
        500,
        1000,
    ),
    case(
        "30 ms, 500 Mbit/s, 0.1 % loss, 8 peers: Mbit/s",
        8,
        30,
        500,
        1000,
    ),
    case("100 ms, 200 Mbit/s, 1 peer: Mbit/s", 1, 100, 200, 0),
    case("100 ms, 200 Mbit/s, 8 peers: Mbit/s", 8, 100, 200, 0),
    case(
        "100 ms, 200 Mbit/s, 0.1 % loss, 1 peer: Mbit/s",
        1,
        100,
        200,
        1000,
    ),
    case(
        "100 ms, 200 Mbit/s, 0.1 % loss, 8 peers: Mbit/s",
        8,
        100,
        200,
        1000,
    ),
    case("250 ms, 100 Mbit/s, 1 peer: Mbit/s", 1, 250, 100, 0),
    case("250 ms, 100 Mbit/s, 8 peers: Mbit/s", 8, 250, 100, 0),
    case(
        "250 ms, 100 Mbit/s, 0.1 % loss, 1 peer: Mbit/s",
        1,
        250,
        100,
        1000,
    ),
    case(
        "250 ms, 100 Mbit/s, 0.1 % loss, 8 peers: Mbit/s",
        8,
        250,
        100,
        1000,
    ),
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

impl Case {
    /// Makes the line and the far machine behind it.
    fn lay(&self, bench: &Bench) -> Far {
        let round_trip = Duration::from_millis(self.round_trip_ms);
        let way =
            Way::new(round_trip, self.rate_mbps * 1_000_000).losing(self.loss_ppm, bench.round);
        let far = Far::new(&bench.net, way);
        // Named, because the system's default may differ between machines.
        far.use_congestion_control(&bench.net, &bench.args.congestion);
        far
    }
}

/// Measures all cases, one after the other. The floor is a plain TCP sender with default socket options. Other clients
/// are left out, because each takes minutes.
pub(crate) fn far(bench: &mut Bench, client: Client) -> Result<(), String> {
    if !matches!(
        client,
        Client::Everseed | Client::Floor | Client::Libtorrent | Client::Aria2
    ) {
        return Ok(());
    }
    let size = bench.args.size;
    let set = bench.random(size.pick(64, 64, 2) << 20);
    let cases = (0..).zip(CASES).take(size.pick(12, 12, 2));
    let wanted: Vec<_> = cases
        .filter(|(_, case)| bench.args.wants(case.title))
        .collect();
    let result = (wanted.into_iter()).try_for_each(|(number, case)| {
        // The line is made before the client starts, because libtorrent listens anew when an interface appears.
        let far = case.lay(bench);
        let started = bench.start_near(Some(&far), client, Row::Far, &set.torrents, &set)?;
        let load = Load {
            peers: case.peers,
            depth: DEPTH,
            // More than the content has: blocks are requested again.
            blocks: size.pick(1 << 20, 1 << 20, 64),
            far: Some((&far, Duration::from_secs(size.pick(10, 6, 60)))),
        };
        let (outcome, _) = load.run(bench, client, &started, &set)?;
        bench.add(Figure::Far(number), client, outcome.rate() * 8.0);
        Ok(())
    });
    bench.keep(set);
    result
}

/// Requests that each peer has on their way: more than any line holds, and no more than the clients allow.
const DEPTH: usize = 250;
