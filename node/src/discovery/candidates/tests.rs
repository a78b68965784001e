//! Whom there is a place for, and who is called.

use super::*;
use everseed_core::rng::Rng;

extern crate std;
use std::boxed::Box;
use std::vec::Vec;

const T: TorrentId = TorrentId {
    slot: 0,
    tenancy: 0,
};
const NOW: Instant = Instant::from_secs(1);

fn table(places: usize) -> Candidates<'static> {
    let lent: Vec<Option<&'static mut Candidate>> = (0..places).map(|_| None).collect();
    let room = Box::leak(Box::new_uninit_slice(places));
    Candidates::new(LazyTable::new(room, lent.leak()))
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
}

fn named(addr: SocketAddr, source: PeerSource, by: Option<u64>) -> Named {
    Named {
        torrent: T,
        addr,
        source,
        by,
    }
}

fn told(port: u16) -> Named {
    named(addr(port), PeerSource::Tracker, None)
}

impl Candidates<'_> {
    fn of(&self, source: PeerSource) -> usize {
        let its = |c: &&Candidate| c.entry.is_some() && c.source == source;
        self.slots.iter().filter(its).count()
    }

    fn has(&self, addr: SocketAddr) -> bool {
        self.slots.iter().any(|c| c.entry == Some((T, addr)))
    }
}

#[test]
fn retries_later_and_gives_up() {
    let mut candidates = table(2);
    let mut now = NOW;
    candidates.add(now, told(1));
    candidates.add(now, told(1));
    let mut calls = 0;
    while let Some(due) = candidates.deadline() {
        now = due;
        let (slot, _, to) = candidates.take(now).unwrap();
        assert_eq!(to, addr(1));
        assert_eq!(candidates.take(now), None);
        candidates.done(now, slot, Fate::Failed, Need::Seeds);
        calls += 1;
    }
    assert_eq!(calls, STRANGER_CALLS);
    assert!(now > Instant::from_secs(600));
}

/// The seconds after which the only address is called in vain, as long as it is known or for so many calls.
fn waits(fates: &[Fate], need: Need, most: usize) -> Vec<u64> {
    let mut candidates = table(8);
    candidates.add(NOW, told(1));
    let (mut now, mut waits) = (NOW, Vec::new());
    while let Some(due) = candidates.deadline().filter(|_| waits.len() < most) {
        waits.push((due - now).as_secs());
        now = due;
        let (slot, ..) = candidates.take(now).unwrap();
        let fate = fates[(waits.len() - 1).min(fates.len() - 1)];
        candidates.done(now, slot, fate, need);
    }
    waits
}

/// With nobody else to ask a stranger is called within seconds, and to a minute; otherwise it waits for minutes.
#[test]
fn the_only_one_is_called_soon() {
    use Fate::{Crossed, Ended, Failed, Stumbled};
    use Need::{HasNobody, IsServed, Seeds};
    let soon = [0, 1, 2, 4, 8, 16, 32, 60, 60];
    let slow = [0, 60, 120, 240, 480];
    for (fates, need, expected, calls) in [
        (&[Failed][..], HasNobody, &soon[..], 63),
        (&[Ended], HasNobody, &soon, 200),
        (&[Crossed, Ended], HasNobody, &[0, 2, 2, 4, 8], 200),
        (&[Stumbled], HasNobody, &soon, 63),
        (&[Stumbled], IsServed, &[0], 1),
        (&[Stumbled], Seeds, &[0], 1),
        (&[Failed], IsServed, &slow, 64),
        (&[Failed], Seeds, &slow, 5),
        (&[Ended], IsServed, &slow, 200),
        (&[Crossed, Failed], IsServed, &[0, 2, 120, 240, 480], 64),
    ] {
        let waits = waits(fates, need, 200);
        assert_eq!(waits[..expected.len()], *expected, "{fates:?} {need:?}");
        assert_eq!(waits.len(), calls, "{fates:?} {need:?}");
    }
}

/// Whom the user named is called for ever, whatever it says.
#[test]
fn who_is_named_may_stumble() {
    for need in [Need::HasNobody, Need::IsServed, Need::Seeds] {
        let mut candidates = table(8);
        candidates.add(NOW, named(addr(1), PeerSource::User, None));
        let mut now = NOW;
        for _ in 0..300 {
            let due = candidates.deadline().expect("it is called again");
            assert!(due - now <= LONGEST_RECALL, "{need:?}");
            now = due;
            let (slot, ..) = candidates.take(now).unwrap();
            candidates.done(now, slot, Fate::Stumbled, need);
        }
    }
}

/// Of many that cannot be reached none is called so often; when few are left, those that waited long do no more.
#[test]
fn few_are_called_soon() {
    for count in [4, 5] {
        let mut candidates = table(8);
        (1..=count).for_each(|port| candidates.add(NOW, told(port)));
        let mut now = NOW;
        while now < NOW + Duration::from_secs(70) {
            while let Some((slot, ..)) = candidates.take(now) {
                candidates.done(now, slot, Fate::Failed, Need::HasNobody);
            }
            now = now + Duration::from_secs(1);
        }
        let next = candidates.deadline().unwrap() - now;
        assert_eq!(next > LONGEST_RECALL, count == 5, "{count}: {next:?}");
    }
    let mut candidates = table(8);
    (1..3).for_each(|port| candidates.add(NOW, told(port)));
    let [(one, ..), (two, ..)] = [NOW; 2].map(|now| candidates.take(now).unwrap());
    for need in [Need::IsServed; 4] {
        candidates.done(NOW, one, Fate::Ended, need);
    }
    candidates.done(NOW, two, Fate::Failed, Need::HasNobody);
    let waits = [one, two].map(|slot| candidates.slots[slot.into()].retry_at - NOW);
    assert_eq!(waits, [LONGEST_RECALL, Duration::from_secs(1)]);
}

/// Whatever comes and goes: of few that are known none is forgotten before 64 calls in vain, the one that the user
/// named never, and as soon as nobody serves us they wait a minute at most.
#[test]
fn the_only_ones_outlast_whoever_comes_and_goes() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut candidates = table(8);
        let count = 1 + rng.below(3) as u16;
        for port in 1..=count {
            candidates.add(NOW, told(port));
        }
        candidates.add(NOW, named(addr(9), PeerSource::User, None));
        let mut in_vain = [0; 10];
        let (mut now, mut is_served) = (NOW, false);
        for _ in 0..1000 {
            now = now + Duration::from_secs(rng.below(100).into());
            // Somebody who is not in the table comes or goes.
            if rng.below(20) == 0 {
                is_served = !is_served;
                if !is_served {
                    candidates.left_alone(now, T);
                }
            }
            let need = match is_served {
                true => Need::IsServed,
                false => Need::HasNobody,
            };
            if let Some((slot, _, to)) = candidates.take(now) {
                let fate = [Fate::Failed, Fate::Failed, Fate::Ended, Fate::Crossed];
                candidates.done(now, slot, fate[rng.below(4) as usize], need);
                in_vain[usize::from(to.port())] += 1;
            }
            assert!(candidates.has(addr(9)), "seed {seed}");
            for port in
                (1..=count).filter(|&port| in_vain[usize::from(port)] + 1 < GOOD_CALLS.into())
            {
                assert!(candidates.has(addr(port)), "seed {seed}: {in_vain:?}");
            }
            let waits = candidates.slots.iter().filter(|c| c.entry.is_some());
            let longest = waits.map(|c| c.retry_at).max().unwrap();
            assert!(is_served || longest <= now + LONGEST_RECALL, "seed {seed}");
        }
    }
}

#[test]
fn a_full_table_prefers_the_unknown_to_the_failed() {
    let mut candidates = table(2);
    candidates.add(NOW, told(1));
    candidates.add(NOW, told(2));
    let (slot, _, first) = candidates.take(NOW).unwrap();
    candidates.done(NOW, slot, Fate::Failed, Need::IsServed);
    candidates.add(NOW, told(4));
    let mut seen = heapless::Vec::<SocketAddr, 4>::new();
    while let Some((_, _, to)) = candidates.take(NOW) {
        seen.push(to).unwrap();
    }
    assert!(!seen.contains(&first) && seen.contains(&addr(4)) && seen.len() == 2);
    candidates.add(NOW, told(5));
    candidates.forget(T);
    assert_eq!(candidates.deadline(), None);
}

#[test]
fn impossible_addresses_are_not_kept() {
    let mut candidates = table(2);
    for text in [
        "192.0.2.1:0",
        "0.0.0.0:6881",
        "224.0.0.1:6881",
        "[ff02::1]:6881",
        "[::]:6881",
    ] {
        candidates.add(NOW, named(text.parse().unwrap(), PeerSource::Tracker, None));
    }
    assert_eq!(candidates.deadline(), None);
}

/// Whoever comes first, in a full table every source has its share, if it named as many; and one peer never has
/// more than a quarter.
#[test]
fn no_source_fills_the_table() {
    use PeerSource::{Dht, Lsd, Pex, Tracker};
    for first in [Tracker, Dht, Pex, Lsd] {
        let mut candidates = table(64);
        let mut port = 0;
        for source in [first, Tracker, Dht, Pex, Lsd] {
            for peer in 0..500 {
                port += 1;
                candidates.add(NOW, named(addr(port), source, Some(peer % 100)));
            }
        }
        for (source, share) in [(Tracker, 32), (Dht, 16), (Pex, 16), (Lsd, 8)] {
            let has = candidates.of(source);
            // What is left over goes round: the shares of all are more than the table.
            assert!(has + 8 >= share, "{first:?}: {source:?} has {has}");
            assert!(has <= share.max(8) + 8, "{first:?}: {source:?} has {has}");
        }
    }
    let mut candidates = table(64);
    for port in 1..500 {
        candidates.add(NOW, named(addr(port), Pex, Some(7)));
    }
    assert_eq!(candidates.of(Pex), 16, "one peer");
    for port in 501..1000 {
        candidates.add(NOW, named(addr(port), Pex, Some(8)));
    }
    assert_eq!(candidates.of(Pex), 32, "two of them");
}

/// Addresses that cannot be reached and those that are banned give way to those that another peer names.
#[test]
fn who_is_banned_holds_no_place() {
    for fate in [Fate::Failed, Fate::Banned] {
        let mut candidates = table(64);
        for port in 1..=16 {
            candidates.add(NOW, named(addr(port), PeerSource::Pex, Some(7)));
        }
        while let Some((slot, ..)) = candidates.take(NOW) {
            candidates.done(NOW, slot, fate, Need::Seeds);
        }
        for port in 17..=64 {
            candidates.add(NOW, told(port));
        }
        for port in 101..=116 {
            candidates.add(NOW, named(addr(port), PeerSource::Pex, Some(8)));
        }
        let left = (1..=16).filter(|&port| candidates.has(addr(port)));
        assert_eq!(left.count(), 0, "{fate:?}");
        assert!(
            (101..=116).all(|port| candidates.has(addr(port))),
            "{fate:?}"
        );
    }
}

#[test]
fn who_is_named_by_somebody_better_counts_as_his() {
    let mut candidates = table(8);
    for port in 1..5 {
        candidates.add(NOW, named(addr(port), PeerSource::Pex, Some(port.into())));
    }
    candidates.add(NOW, told(2));
    candidates.add(NOW, named(addr(3), PeerSource::User, None));
    let of = |source| candidates.of(source);
    assert_eq!(
        (
            of(PeerSource::Pex),
            of(PeerSource::Tracker),
            of(PeerSource::User)
        ),
        (2, 1, 1)
    );
    candidates.add(NOW, named(addr(2), PeerSource::Pex, Some(9)));
    assert_eq!(candidates.of(PeerSource::Tracker), 1, "for good");
}

/// Those that the user named, and those that were good, stay; others give way by their priority.
#[test]
fn who_keeps_the_place() {
    let mut candidates = table(4);
    candidates.set_ours("123.213.32.10:6881".parse().unwrap());
    candidates.add(NOW, named(addr(1), PeerSource::User, None));
    candidates.add(NOW, named(addr(2), PeerSource::Caller, None));
    let mut best: Vec<(u32, SocketAddr)> = Vec::new();
    for n in 0..100 {
        let addr = SocketAddr::from(([n, 20, 30, 40], 6881));
        candidates.add(NOW, named(addr, PeerSource::Tracker, None));
        best.push((candidates.priority(addr), addr));
    }
    best.sort_unstable();
    assert!(candidates.has(addr(1)) && candidates.has(addr(2)));
    assert!(candidates.has(best[99].1) && candidates.has(best[98].1));
    // The user's word weighs more than anybody's, and strangers go before those that were good.
    for port in 10..12 {
        candidates.add(NOW, named(addr(port), PeerSource::User, None));
    }
    assert!(candidates.has(addr(2)) && candidates.of(PeerSource::User) == 3);
    // Of those that are due it is the best one that is called first.
    let mut candidates = table(100);
    candidates.set_ours("123.213.32.10:6881".parse().unwrap());
    for &(_, addr) in &best {
        candidates.add(NOW, named(addr, PeerSource::Tracker, None));
    }
    for &(_, expected) in best.iter().rev() {
        let (_, _, addr) = candidates.take(NOW).unwrap();
        assert_eq!(addr, expected);
    }
}

/// Whatever is named, called and ends: nothing that is in use is lost, and the table holds what it says.
#[test]
fn whatever_is_named() {
    use PeerSource::{Caller, Dht, Lsd, Magnet, Pex, Tracker, User};
    let sources = [Tracker, Caller, Dht, Lsd, Pex, Magnet, User];
    let mut rng = Rng::new(9);
    for _ in 0..50 {
        let places = 1 + rng.below(40) as usize;
        let mut candidates = table(places);
        let mut now = NOW;
        let (mut used, mut users) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            match rng.below(5) {
                0 => used.extend(candidates.take(now).map(|(slot, _, addr)| (slot, addr))),
                1 if !used.is_empty() => {
                    let at = rng.below(used.len() as u32) as usize;
                    let (slot, _) = used.swap_remove(at);
                    let fates = [
                        Fate::Failed,
                        Fate::Ended,
                        Fate::Crossed,
                        Fate::Good { steady: true },
                        Fate::Later,
                    ];
                    let fate = fates[rng.below(5) as usize];
                    let needs = [Need::Seeds, Need::IsServed, Need::HasNobody];
                    candidates.done(now, slot, fate, needs[rng.below(3) as usize]);
                }
                2 => now = now + Duration::from_secs(rng.below(100).into()),
                _ => {
                    let of = if users.len() < 3 { 7 } else { 6 };
                    let source = sources[rng.below(of) as usize];
                    let addr = SocketAddr::from(([rng.bits32() as u8, 1, 1, 1], 7));
                    let by = (source == Pex).then(|| rng.below(3).into());
                    candidates.add(now, named(addr, source, by));
                    if source == User && candidates.has(addr) {
                        users.push(addr);
                    }
                }
            }
            for &(slot, addr) in &used {
                assert_eq!(candidates.slots[slot.into()].entry, Some((T, addr)));
            }
            assert!(users.iter().all(|&addr| candidates.has(addr)));
            for by in 0..3 {
                let its = |c: &&Candidate| c.entry.is_some() && c.by == Some(short(by));
                let has = candidates.slots.iter().filter(its).count();
                assert!(has <= (places / 4).max(1), "{has} of {places}");
            }
            let next = candidates
                .slots
                .iter()
                .filter(|c| c.entry.is_some() && !c.in_use);
            assert_eq!(candidates.next, next.map(|c| c.retry_at).min());
        }
    }
}
