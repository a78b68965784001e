//! The figures, their titles and everseed's goals.

use crate::clients::Client;
use crate::{far, fetch, uplink};

/// A measured number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Figure {
    CrowdCpu,
    OneCpu,
    CrowdRate,
    OneRate,
    CrowdFair,
    /// Far peers; the index of the case.
    Far(u8),
    /// A download from a far seeder; the index of the case.
    Fetch(u8),
    /// A shared slow uplink; the index of the case.
    Uplink(u8, Share),
    First,
    Idle0,
    Idle50,
    Idle1000,
    CrowdPeak,
    CrowdTcp,
    CrowdLeft,
    IdleLeft,
    Cpu0,
    Cpu50,
    Hash,
    Ready,
    Torrents,
    Watched100,
    Watched10000,
    Pieces,
    Size,
}

/// A figure of a shared slow uplink.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Share {
    /// Fairness among equal leechers.
    Fair,
    /// Seconds that a newcomer waits.
    Newcomer,
    /// The share of the rate that is used.
    Used,
    /// The most bytes at once, in seconds of the rate.
    Burst,
}

impl Share {
    const ALL: [Share; 4] = [Share::Fair, Share::Newcomer, Share::Used, Share::Burst];
}

/// A goal of everseed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Goal {
    /// No goal.
    Open,
    AtMost(f64),
    AtLeast(f64),
    Within(f64, f64),
    /// At most so many times the value of these clients in the same run.
    AtMostTimes(&'static [(f64, Client)]),
    /// At least so many times the value of these clients in the same run.
    AtLeastTimes(&'static [(f64, Client)]),
    /// The same for the client with the least value.
    AtLeastTimesLeast(&'static [(f64, Client)]),
}

impl Figure {
    /// All figures without far machines and slow lines.
    const NEAR: [Figure; 22] = [
        Figure::CrowdCpu,
        Figure::OneCpu,
        Figure::CrowdRate,
        Figure::OneRate,
        Figure::CrowdFair,
        Figure::First,
        Figure::Idle0,
        Figure::Idle50,
        Figure::Idle1000,
        Figure::CrowdPeak,
        Figure::CrowdTcp,
        Figure::CrowdLeft,
        Figure::IdleLeft,
        Figure::Cpu0,
        Figure::Cpu50,
        Figure::Hash,
        Figure::Ready,
        Figure::Torrents,
        Figure::Watched100,
        Figure::Watched10000,
        Figure::Pieces,
        Figure::Size,
    ];

    pub(crate) fn all() -> impl Iterator<Item = Figure> {
        let far = (0..).zip(far::CASES).map(|(number, _)| Figure::Far(number));
        let uplink = (0..).zip(uplink::CASES).flat_map(|(number, _)| {
            let one = move |what| Figure::Uplink(number, what);
            Share::ALL.into_iter().map(one)
        });
        let fetch = (0..).zip(fetch::CASES);
        let fetch = fetch.map(|(number, _)| Figure::Fetch(number));
        let distant = far.chain(fetch).chain(uplink);
        Figure::NEAR.into_iter().chain(distant)
    }

    /// The figure's title with its unit.
    pub(crate) fn title(self) -> String {
        let title = match self {
            Figure::CrowdCpu => "50 peers: CPU s per GiB",
            Figure::OneCpu => "1 peer: CPU s per GiB",
            Figure::CrowdRate => "50 peers: MB/s",
            Figure::OneRate => "1 peer: MB/s",
            Figure::Far(number) => far::CASES[usize::from(number)].title,
            Figure::Fetch(number) => fetch::CASES[usize::from(number)].title,
            Figure::Uplink(number, what) => {
                let what = match what {
                    Share::Fair => "fairness among equals (Jain)",
                    Share::Newcomer => "connect to a newcomer's first block, s",
                    Share::Used => "share of the rate that is used",
                    Share::Burst => "most at once, in seconds of the rate",
                };
                return format!("{}: {what}", uplink::CASES[usize::from(number)].title);
            }
            Figure::CrowdFair => "50 peers: fairness (Jain)",
            Figure::First => "connect to first block, ms",
            Figure::Idle0 => "no peers: MiB",
            Figure::Idle50 => "50 idle peers: MiB",
            Figure::Idle1000 => "1,000 idle peers: MiB",
            Figure::CrowdPeak => "50 peers downloading: most MiB",
            Figure::CrowdTcp => "kernel's TCP memory then: most MiB",
            Figure::CrowdLeft => "left by them: MiB",
            Figure::IdleLeft => "left by 1,000 idle peers: MiB",
            Figure::Cpu0 => "no peers: CPU ms per s",
            Figure::Cpu50 => "50 idle peers: CPU ms per s",
            Figure::Hash => "checking: CPU s per GiB",
            Figure::Ready => "start to ready, 64 MiB: s",
            Figure::Torrents => "100 torrents more: MiB",
            Figure::Watched100 => "100 more in a watched folder: MiB",
            Figure::Watched10000 => "10,000 more in a watched folder: MiB",
            Figure::Pieces => "65,536 pieces: KiB more",
            Figure::Size => "program and libraries: MiB",
        };
        title.to_owned()
    }

    pub(crate) fn goal(self) -> Goal {
        const CPU: Goal = Goal::AtMostTimes(&[(1.1, Client::Floor), (0.55, Client::Rtorrent)]);
        const FAR: Goal =
            Goal::AtLeastTimesLeast(&[(0.95, Client::Libtorrent), (0.95, Client::Floor)]);
        match self {
            Figure::CrowdCpu | Figure::OneCpu => CPU,
            Figure::CrowdRate => Goal::AtLeastTimes(&[(1.3, Client::Rtorrent)]),
            Figure::OneRate => Goal::Open,
            Figure::Far(_) => FAR,
            Figure::Fetch(_) => Goal::AtLeastTimes(&[(1.0, Client::Libtorrent)]),
            Figure::Uplink(_, Share::Fair) => Goal::AtLeast(0.95),
            Figure::Uplink(_, Share::Newcomer | Share::Burst) => Goal::AtMost(1.0),
            Figure::Uplink(number, Share::Used) => {
                match uplink::CASES[usize::from(number)].by_limit {
                    true => Goal::Within(0.97, 1.03),
                    false => Goal::Open,
                }
            }
            Figure::CrowdFair => Goal::AtLeast(0.99),
            Figure::First => Goal::AtMost(5.0),
            Figure::Idle0 => Goal::AtMost(1.2),
            Figure::Idle50 => Goal::AtMost(1.5),
            Figure::Idle1000 => Goal::AtMost(4.0),
            Figure::CrowdPeak => Goal::AtMost(1.8),
            Figure::CrowdTcp => Goal::AtMost(4.0),
            Figure::CrowdLeft | Figure::IdleLeft => Goal::AtMost(0.0),
            Figure::Cpu0 => Goal::AtMost(0.02),
            Figure::Cpu50 => Goal::AtMost(0.05),
            Figure::Hash => Goal::AtMost(0.62),
            Figure::Ready => Goal::AtMost(0.06),
            Figure::Torrents | Figure::Watched100 => Goal::AtMost(0.1),
            Figure::Watched10000 => Goal::AtMost(1.0),
            Figure::Pieces => Goal::AtMost(64.0),
            // With TLS; 1.0 without.
            Figure::Size => Goal::AtMost(2.0),
        }
    }

    /// Whether more is better.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(
            self,
            Figure::CrowdRate
                | Figure::OneRate
                | Figure::CrowdFair
                | Figure::Far(_)
                | Figure::Fetch(_)
        )
    }
}
