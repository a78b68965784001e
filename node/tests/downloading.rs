//! Nodes download from each other in virtual time.

mod wired;

use std::time::Duration;

use everseed_node::{Have, Order, StorageError, Wanted};
use wired::Swarm;

#[test]
fn one_downloads_from_a_seed() {
    let mut swarm = Swarm::new(2);
    swarm.seed(0);
    swarm.download(1, Have::Nothing, Wanted::All, Order::Rarest);
    swarm.connect(1, 0);
    swarm.run(Duration::from_secs(60));
    swarm.assert_complete(1);
    swarm.assert_rest();
}

/// Two nodes call each other at the same time. One of the two connections stays.
#[test]
fn calls_that_cross() {
    for seed in 0..20 {
        let mut swarm = Swarm::with_seed(2, seed);
        let (even, odd) = ([0xaa, 0xaa, 0xa0], [0x55, 0x55, 0x50]);
        swarm.download(0, Have::Some(&even), Wanted::All, Order::Rarest);
        swarm.download(1, Have::Some(&odd), Wanted::All, Order::Rarest);
        swarm.connect(0, 1);
        swarm.connect(1, 0);
        swarm.run(Duration::from_secs(20));
        swarm.assert_complete(0);
        swarm.assert_complete(1);
        swarm.assert_rest();
    }
}

#[test]
fn halves_complete_each_other() {
    let mut swarm = Swarm::new(2);
    let (even, odd) = ([0xaa, 0xaa, 0xa0], [0x55, 0x55, 0x50]);
    swarm.download(0, Have::Some(&even), Wanted::All, Order::Rarest);
    swarm.download(1, Have::Some(&odd), Wanted::All, Order::Sequential);
    swarm.connect(0, 1);
    swarm.run(Duration::from_secs(120));
    swarm.assert_complete(0);
    swarm.assert_complete(1);
    swarm.assert_rest();
}

#[test]
fn a_swarm_of_eight_from_one_seed() {
    for seed in 0..8 {
        let mut swarm = Swarm::with_seed(9, seed);
        swarm.seed(0);
        for node in 1..9 {
            swarm.download(node, Have::Nothing, Wanted::All, Order::Rarest);
        }
        for node in 1..9 {
            for other in 0..node {
                swarm.connect(node, other);
            }
        }
        swarm.run(Duration::from_secs(600));
        (1..9).for_each(|node| swarm.assert_complete(node));
        swarm.assert_rest();
    }
}

#[test]
fn only_what_is_wanted() {
    let mut swarm = Swarm::new(2);
    swarm.seed(0);
    let wanted = [0x18, 0, 0x10];
    swarm.download(1, Have::Nothing, Wanted::Some(&wanted), Order::Rarest);
    swarm.connect(1, 0);
    swarm.run(Duration::from_secs(60));
    assert_eq!(swarm.pieces(1), [3, 4, 19]);
    assert_eq!(swarm.stats(1).left, 0);
    swarm.assert_rest();
}

#[test]
fn a_full_disk_pauses_and_goes_on() {
    let mut swarm = Swarm::new(2);
    swarm.seed(0);
    swarm.download(1, Have::Nothing, Wanted::All, Order::Rarest);
    swarm.nodes[1].room = Some(20);
    swarm.connect(1, 0);
    swarm.run(Duration::from_secs(60));
    assert_eq!(swarm.stats(1).refused, Some(StorageError::Full));
    assert!(swarm.pieces(1).len() < 20);
    swarm.nodes[1].room = None;
    swarm.writable(1);
    swarm.run(Duration::from_secs(60));
    swarm.assert_complete(1);
    swarm.assert_rest();
}

/// A download of about 960 kB at 32 kB/s takes about half a minute.
#[test]
fn no_faster_than_the_limit() {
    let mut swarm = Swarm::limited(2, 1, Some(32_000));
    swarm.seed(0);
    swarm.download(1, Have::Nothing, Wanted::All, Order::Rarest);
    swarm.connect(1, 0);
    swarm.run(Duration::from_secs(25));
    let left = swarm.stats(1).left;
    assert!(
        left > 0 && swarm.stats(1).downloaded > 700_000,
        "{left} bytes to come after 25 s"
    );
    swarm.run(Duration::from_secs(10));
    swarm.assert_complete(1);
    swarm.assert_rest();
}

/// One of two seeds sends bad blocks. It is banned, and the download completes.
#[test]
fn a_corrupt_seed_is_banned() {
    for seed in 0..10 {
        let mut swarm = Swarm::with_seed(3, seed);
        swarm.seed(0);
        swarm.seed(1);
        swarm.nodes[1].corrupt = true;
        swarm.download(2, Have::Nothing, Wanted::All, Order::Rarest);
        swarm.connect(2, 0);
        swarm.connect(2, 1);
        swarm.run(Duration::from_secs(600));
        swarm.assert_complete(2);
        assert!(swarm.stats(2).bad_pieces > 0);
        swarm.assert_rest();
    }
}

/// As many pieces are in progress as the memory has room for. When one is done, the next begins at once, not at the
/// next tick after some seconds.
#[test]
fn small_pieces_do_not_wait() {
    let mut swarm = Swarm::new(2);
    swarm.seed(0);
    swarm.download(1, Have::Nothing, Wanted::All, Order::Rarest);
    swarm.nodes[1].slow_disk = true;
    swarm.connect(1, 0);
    swarm.run(Duration::from_secs(1));
    swarm.assert_complete(1);
}

/// Connections break at random and are made again. All downloads complete.
#[test]
fn broken_connections() {
    for seed in 0..30 {
        let mut swarm = Swarm::with_seed(4, seed);
        swarm.seed(0);
        for node in 1..4 {
            swarm.download(node, Have::Nothing, Wanted::All, Order::Rarest);
        }
        for _ in 0..40 {
            for (a, b) in [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2)] {
                if swarm.chance(2) {
                    swarm.connect(a, b);
                }
            }
            swarm.steps(30);
            swarm.break_some();
        }
        for (a, b) in [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2)] {
            swarm.connect(a, b);
        }
        swarm.run(Duration::from_secs(600));
        (1..4).for_each(|node| swarm.assert_complete(node));
        swarm.assert_rest();
    }
}

/// A torrent that is removed at any moment of its download leaves nothing behind.
#[test]
fn removed_in_the_middle() {
    for steps in 1..60 {
        let mut swarm = Swarm::new(2);
        swarm.seed(0);
        swarm.download(1, Have::Nothing, Wanted::All, Order::Rarest);
        swarm.nodes[1].slow_disk = true;
        swarm.connect(1, 0);
        swarm.steps(steps);
        swarm.remove(1);
        swarm.run(Duration::from_secs(10));
        swarm.assert_rest();
    }
}

/// Five nodes have only the info-hash. They get the metadata from the seed and from each other.
#[test]
fn a_swarm_that_begins_with_magnet_links() {
    for seed in 0..20 {
        let mut swarm = Swarm::with_seed(6, seed);
        swarm.seed(0);
        for node in 1..6 {
            swarm.magnet(node);
        }
        for node in 1..6 {
            swarm.connect(node, node - 1);
            if seed % 2 == 0 {
                swarm.connect(node, 0);
            }
        }
        swarm.run(Duration::from_secs(300));
        for node in 1..6 {
            assert!(swarm.knows(node), "seed {seed}, node {node}");
            swarm.assert_complete(node);
        }
        swarm.assert_rest();
    }
}

/// One of three seeds sends wrong metadata and bad blocks.
#[test]
fn metadata_among_liars() {
    for seed in 0..20_u8 {
        let mut swarm = Swarm::with_seed(4, u64::from(seed));
        for node in 0..3 {
            swarm.seed(node);
        }
        let liar = [0, 1, 2]
            .into_iter()
            .cycle()
            .nth(usize::from(seed))
            .unwrap();
        swarm.nodes[liar].corrupt = true;
        swarm.magnet(3);
        for node in 0..3 {
            swarm.connect(3, node);
        }
        swarm.run(Duration::from_secs(300));
        assert!(swarm.knows(3), "seed {seed}");
        swarm.assert_complete(3);
        swarm.assert_rest();
    }
}
