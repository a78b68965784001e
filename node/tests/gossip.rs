//! A node tells its peers of each other (PEX).

mod wired;

use std::time::Duration;

use everseed_node::{Have, Order, Publicity, Wanted};
use wired::Swarm;

const OPEN: Publicity = Publicity::NONE.with_pex();

/// A seed and three leechers that know only the seed. `publicity` has each node's value for the torrent.
fn star(publicity: [Publicity; 4]) -> Swarm {
    // The seed is slow, so that the downloads take a while.
    let mut swarm = Swarm::limited(4, 5, Some(40_000));
    swarm.seed(0);
    for n in 1..4 {
        swarm.download(n, Have::Nothing, Wanted::All, Order::Rarest);
    }
    for (n, publicity) in (0..).zip(publicity) {
        swarm.publish(n, publicity);
    }
    for n in 1..4 {
        swarm.connect(n, 0);
        swarm.run(Duration::from_millis(500));
    }
    swarm
}

#[test]
fn leechers_hear_of_each_other() {
    let mut swarm = star([OPEN; 4]);
    swarm.run(Duration::from_secs(3));
    assert_eq!(swarm.links(1, 2) + swarm.links(1, 3) + swarm.links(2, 3), 3);
    // The leechers complete, with blocks of the slow seed and of each other.
    swarm.run(Duration::from_secs(3600));
    (1..4).for_each(|n| swarm.assert_complete(n));
    swarm.assert_rest();
}

#[test]
fn nobody_hears_of_what_is_private() {
    for publicity in [
        [Publicity::PRIVATE; 4],
        [Publicity::NONE; 4],
        // Only the teller uses PEX, or only the listeners do.
        [OPEN, Publicity::NONE, Publicity::NONE, Publicity::NONE],
        [Publicity::NONE, OPEN, OPEN, OPEN],
    ] {
        let mut swarm = star(publicity);
        swarm.run(Duration::from_secs(150));
        for (a, b) in [(1, 2), (1, 3), (2, 3)] {
            assert_eq!(swarm.links(a, b), 0, "{publicity:?}");
        }
    }
}

/// A torrent turns out to be private. The node disconnects the peers that PEX named.
#[test]
fn what_turns_out_to_be_private() {
    let mut swarm = star([OPEN; 4]);
    swarm.run(Duration::from_secs(3));
    swarm.publish(1, Publicity::PRIVATE);
    // Others may still call the node, because it cannot know which peers its trackers named to them.
    for _ in 0..2 {
        swarm.run(Duration::from_secs(100));
        let calls = [0, 2, 3].map(|n| swarm.called(1, n));
        assert_eq!(calls, [0; 3]);
    }
}

/// A tracker is used no more. Peers that it named are disconnected if the torrent is private.
#[test]
fn another_tracker() {
    for (publicity, stays) in [(OPEN, 1), (Publicity::PRIVATE, 0)] {
        let mut swarm = star([publicity; 4]);
        assert_eq!(swarm.called(1, 0), 1);
        swarm.forget_trackers(1);
        swarm.run(Duration::from_secs(3));
        assert_eq!(swarm.called(1, 0), stays, "{publicity:?}");
    }
}
