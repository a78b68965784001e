//! Tools of the swarm tests: everseed, real clients and hostile peers on one machine.
//!
//! | module | contents |
//! |---|---|
//! | [`net`] | a network for one test, which nothing leaves |
//! | [`far`] | a distant machine |
//! | [`process`] | child processes that cannot outlive their test |
//! | [`dir`] | folders that are removed after their test |
//! | [`disk`] | a disk whose power can be cut |
//! | [`slow`] | a disk that can be made to wait |
//! | [`content`] | files to seed, and comparison of downloads |
//! | [`seeder`] | the `everseed` under test |
//! | [`service`] | `everseed run` |
//! | [`watched`] | thousands of torrents for a watched folder |
//! | [`archive`] | the initial files of a kernel |
//! | [`client`] | Transmission, aria2, libtorrent and rTorrent |
//! | [`defaults`] | clients with their default settings |
//! | [`way`] | clients that find peers in one way only |
//! | [`tracker`] | opentracker |
//! | [`dial`], [`leecher`], [`download`] | many peers that cost next to nothing |
//! | [`uplink`] | peers of mixed speed that share an uplink |
//! | [`usage`] | CPU time and memory of a program |
//! | [`peer`] | a peer of our own, for what no client does |
//! | [`http`] | HTTP requests of tests |
//!
//! This library knows BitTorrent only as far as [`peer`] needs it, and shares no code with everseed: no mistake can
//! be made on both sides.

#![allow(clippy::missing_panics_doc)] // A tool that cannot do its work fails the test.

pub mod archive;
pub mod client;
pub mod content;
pub mod defaults;
pub mod dial;
pub mod dir;
pub mod disk;
pub mod download;
pub mod far;
pub mod http;
pub mod leecher;
pub mod net;
pub mod peer;
pub mod process;
pub mod seeder;
pub mod service;
pub mod slow;
pub mod tracker;
pub mod uplink;
pub mod usage;
pub mod watched;
pub mod way;

use std::time::{Duration, Instant};

/// The time limit of anything that should not take long; generous, so that a slow machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Asks `ready` again and again until it has an answer; panics with `what` after `timeout`.
pub fn wait<T>(what: &str, timeout: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(
            start.elapsed() < timeout,
            "waited {} s for {what}",
            timeout.as_secs()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
