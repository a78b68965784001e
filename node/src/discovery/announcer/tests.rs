use super::*;

extern crate std;
use std::vec::Vec;

const T: TorrentId = TorrentId {
    slot: 3,
    tenancy: 1,
};

const HALF_HOUR: u64 = 1800;

fn told() -> Intervals {
    Intervals::told(Some(HALF_HOUR as i64), None)
}

/// An announcer, its time and its chance.
struct World<'m> {
    announcer: Announcer<'m>,
    now: Instant,
    rng: Rng,
    /// Whether the torrent is downloaded, and whether nobody is connected who has what is missing.
    downloads: bool,
    lone: bool,
}

impl<'m> World<'m> {
    fn new(slots: &'m mut [TierSlot], tiers: &[u8]) -> World<'m> {
        let mut announcer = Announcer::new(slots);
        let (now, mut rng) = (Instant::from_secs(100), Rng::new(12));
        for (tier, &trackers) in tiers.iter().enumerate() {
            let tier = tier as u8;
            announcer.add(now, T, tier, trackers, &mut rng).unwrap();
        }
        World {
            announcer,
            now,
            rng,
            downloads: false,
            lone: false,
        }
    }

    /// Waits for the next job; how long that took, in whole seconds, and the job.
    fn next(&mut self) -> (u64, Job) {
        let before = self.now;
        loop {
            if let Some(job) = self.announcer.poll(self.now, |_| self.lone) {
                return ((self.now - before).as_secs(), job);
            }
            let deadline = self.announcer.deadline().expect("something is due");
            assert!(deadline > self.now, "a deadline that makes busy");
            self.now = deadline;
        }
    }

    fn answer(&mut self, job: Job) {
        let now = self.now;
        let downloads = |_| self.downloads;
        let rng = &mut self.rng;
        self.announcer.answered(now, job.id, told(), downloads, rng);
    }

    fn fail(&mut self, job: Job, retry_in: Option<Duration>) {
        self.announcer
            .failed(self.now, job.id, retry_in, &mut self.rng);
    }
}

#[test]
fn started_then_regular_then_stopped() {
    let mut slots = [TierSlot::EMPTY; 2];
    let mut world = World::new(&mut slots, &[1]);
    let (wait, job) = world.next();
    assert_eq!((wait, job.event), (0, AnnounceEvent::Started));
    assert_eq!(world.announcer.poll(world.now, |_| false), None);
    assert_eq!(world.announcer.deadline(), None);
    world.answer(job);
    for _ in 0..50 {
        let (wait, job) = world.next();
        assert_eq!(job.event, AnnounceEvent::None);
        assert!((1620..=1980).contains(&wait), "{wait}");
        world.answer(job);
    }
    world.announcer.stop(world.now, |_| true);
    assert!(!world.announcer.is_idle());
    let (wait, job) = world.next();
    assert_eq!((wait, job.event), (0, AnnounceEvent::Stopped));
    world.answer(job);
    assert!(world.announcer.is_idle());
    assert_eq!(world.announcer.poll(world.now, |_| false), None);
    assert_eq!(world.announcer.deadline(), None);
}

/// A download that has nobody does not wait for half an hour until its tracker knows somebody.
#[test]
fn a_lone_download_is_announced_before_the_interval_ends() {
    let mut slots = [TierSlot::EMPTY; 1];
    let mut world = World::new(&mut slots, &[1]);
    (world.downloads, world.lone) = (true, true);
    // Whether it has nobody when the time comes, and the seconds until it is announced.
    let half_hour = 1620..=1980;
    let table = [
        (true, 0..=0),
        (true, 60..=119),
        (true, 120..=179),
        (true, 240..=299),
        (true, 480..=539),
        (true, 960..=1019),
        (true, half_hour.clone()),
        (false, half_hour.clone()),
        (true, 60..=119),
        (false, half_hour.clone()),
    ];
    for (round, (lone, expected)) in table.into_iter().enumerate() {
        world.lone = lone;
        let (wait, job) = world.next();
        assert!(expected.contains(&wait), "{round}: {wait}");
        world.answer(job);
    }
    // Its peers leave: at once when the least interval is over, and not before.
    let (mut early, mut rounds) = (0, 0);
    for after in [0, 100, 400] {
        let told = world.now;
        world.lone = false;
        while world.now < told + Duration::from_secs(after) {
            world.now = world.now + Duration::from_secs(20);
            assert_eq!(world.announcer.poll(world.now, |_| false), None);
        }
        world.lone = true;
        world.announcer.left_alone(world.now, T);
        let (wait, job) = world.next();
        let since = (world.now - told).as_secs();
        assert!(since >= 60, "{after}: {since} s after the last");
        (early, rounds) = (early + u32::from(wait < 300), rounds + 1);
        world.answer(job);
    }
    assert_eq!((early, rounds), (3, 3));
}

/// Whoever comes and goes has a tracker asked no more often than a download that has nobody: the waits double until a
/// whole interval is over. A tracker that fails between two answers does not change that.
#[test]
fn who_comes_and_goes_does_not_begin_the_waits_anew() {
    for (period, late, fails) in [
        (15, 0, false),
        (15, 20, false),
        (15, 0, true),
        (50, 3, false),
        (70, 0, true),
        (200, 0, false),
    ] {
        let mut slots = [TierSlot::EMPTY; 2];
        let mut world = World::new(&mut slots, &[1, 1]);
        world.downloads = true;
        let mut jobs = Vec::new();
        let (mut answers, mut turn) = (0, 0);
        for second in 0..7200 {
            world.now = world.now + Duration::from_secs(1);
            let was_lone = std::mem::replace(&mut world.lone, second / period % 2 == 0);
            if world.lone && !was_lone {
                world.announcer.left_alone(world.now, T);
            }
            while let Some(job) = world.announcer.poll(world.now, |_| world.lone) {
                jobs.push((second + late, job));
            }
            while let Some(at) = jobs.iter().position(|&(due, _)| due <= second) {
                let (_, job) = jobs.swap_remove(at);
                if job.tier == 1 {
                    world.answer(job);
                    continue;
                }
                turn += 1;
                if fails && turn % 2 == 0 {
                    world.fail(job, None);
                } else {
                    world.answer(job);
                    answers += 1;
                }
            }
        }
        let row = (period, late, fails);
        assert!((7..=15).contains(&answers), "{row:?}: {answers} answers");
    }
}

#[test]
fn jitter_keeps_above_the_trackers_minimum() {
    let mut slots = [TierSlot::EMPTY; 1];
    let mut world = World::new(&mut slots, &[1]);
    let strict = Intervals::told(Some(1800), Some(1790));
    for round in 0..50 {
        let (wait, job) = world.next();
        assert!(round == 0 || (1790..=1980).contains(&wait), "{wait}");
        let now = world.now;
        world
            .announcer
            .answered(now, job.id, strict, |_| true, &mut world.rng);
    }
}

#[test]
fn failures_back_off_and_never_give_up() {
    let mut slots = [TierSlot::EMPTY; 1];
    let mut world = World::new(&mut slots, &[1]);
    let expected = [0, 15, 30, 60, 120, 240, 480, 960, 1800, 1800];
    for about in expected.into_iter().chain([1800; 300]) {
        let (wait, job) = world.next();
        let (least, most): (u64, u64) = (about * 9 / 10, about * 11 / 10);
        assert!((least.saturating_sub(1)..=most).contains(&wait), "{wait}");
        assert_eq!(job.event, AnnounceEvent::Started);
        world.fail(job, None);
    }
    let (_, job) = world.next();
    world.answer(job);
    let (wait, job) = world.next();
    assert!(wait >= 1620 && job.event == AnnounceEvent::None);
    world.fail(job, None);
    let (wait, job) = world.next();
    assert!((13..=17).contains(&wait), "the back-off began anew");
    assert_eq!(job.event, AnnounceEvent::None, "it still knows us");
}

#[test]
fn a_tracker_may_ask_to_be_left_alone() {
    let table = [
        (0, 13..=17),
        (600, 600..=600),
        (86_400, 86_400..=86_400),
        (u64::MAX / 2, 86_400..=86_400),
    ];
    for (asked, kept) in table {
        let mut slots = [TierSlot::EMPTY; 1];
        let mut world = World::new(&mut slots, &[1]);
        let (_, job) = world.next();
        world.fail(job, Some(Duration::from_secs(asked)));
        let (wait, job) = world.next();
        assert!(kept.contains(&wait), "{asked}: {wait}");
        // Who asks for little is not called again and again for ever.
        world.fail(job, Some(Duration::from_secs(20)));
        assert!((27..=33).contains(&world.next().0));
    }
}

#[test]
fn a_tier_turns_to_the_tracker_that_works() {
    let mut slots = [TierSlot::EMPTY; 1];
    let mut world = World::new(&mut slots, &[3]);
    let (_, first) = world.next();
    world.fail(first, None);
    let (wait, second) = world.next();
    assert_eq!(
        (wait, second.tracker, second.event),
        (0, (first.tracker + 1) % 3, AnnounceEvent::Started)
    );
    world.answer(second);
    let (_, again) = world.next();
    assert_eq!(
        (again.tracker, again.event),
        (second.tracker, AnnounceEvent::None)
    );
    // Now all fail: the round starts at the one that worked, and the next one does again.
    world.fail(again, None);
    for step in 1..3 {
        let (wait, job) = world.next();
        assert_eq!((wait, job.tracker), (0, (second.tracker + step) % 3));
        assert_eq!(job.event, AnnounceEvent::Started);
        world.fail(job, None);
    }
    let (wait, job) = world.next();
    assert!(wait >= 13 && job.tracker == second.tracker);
    assert_eq!(job.event, AnnounceEvent::None);
    world.fail(job, None);
    let (_, third) = world.next();
    assert_ne!(third.tracker, second.tracker);
    world.announcer.stop(world.now, |_| true);
    world.fail(third, None);
    let (_, farewell) = world.next();
    assert_eq!(
        (farewell.tracker, farewell.event),
        (second.tracker, AnnounceEvent::Stopped),
        "farewell goes to who knows us"
    );
}

#[test]
fn the_first_tracker_of_a_tier_is_chance() {
    let mut slots = [TierSlot::EMPTY; 100];
    let mut world = World::new(&mut slots, &[4; 100]);
    let mut seen = [0; 4];
    for _ in 0..100 {
        let (_, job) = world.next();
        seen[usize::from(job.tracker)] += 1;
        world.answer(job);
    }
    assert!(seen.iter().all(|&count| count > 10), "{seen:?}");
}

#[test]
fn tiers_do_not_wait_for_each_other() {
    let mut slots = [TierSlot::EMPTY; 3];
    let mut world = World::new(&mut slots, &[1, 0, 2]);
    let (_, dead) = world.next();
    let (wait, live) = world.next();
    assert_eq!((wait, dead.tier, live.tier), (0, 0, 2));
    world.answer(live);
    world.fail(dead, None);
    let [dead, live, _] = &world.announcer.slots else {
        panic!()
    };
    assert!(dead.next_at < live.next_at);
}

#[test]
fn completed_is_told_once() {
    let mut slots = [TierSlot::EMPTY; 1];
    let mut world = World::new(&mut slots, &[1]);
    let (_, job) = world.next();
    world.announcer.completed(world.now, T);
    world.answer(job);
    let (wait, job) = world.next();
    assert_eq!((wait, job.event), (0, AnnounceEvent::Completed));
    world.fail(job, None);
    let (wait, job) = world.next();
    assert!(wait >= 13 && job.event == AnnounceEvent::Completed);
    world.answer(job);
    let (wait, job) = world.next();
    assert!(wait >= 1620 && job.event == AnnounceEvent::None);
    world.answer(job);
    world.announcer.completed(world.now, T);
    let (wait, job) = world.next();
    assert_eq!((wait, job.event), (0, AnnounceEvent::Completed));
}

#[test]
fn leaving_is_told_to_those_who_know_us_only() {
    let mut slots = [TierSlot::EMPTY; 4];
    let mut world = World::new(&mut slots, &[1, 1, 1, 1]);
    let jobs: Vec<Job> = (0..4).map(|_| world.next().1).collect();
    world.answer(jobs[0]);
    world.fail(jobs[1], None);
    world.announcer.remove(world.now, T);
    assert!(world.announcer.holds(T));
    let (_, farewell) = world.next();
    assert_eq!((farewell.tier, farewell.event), (0, AnnounceEvent::Stopped));
    assert_eq!(world.announcer.poll(world.now, |_| false), None);
    // Two are under way still: one comes to know us, the other does not.
    world.answer(jobs[2]);
    world.fail(jobs[3], None);
    let (_, late) = world.next();
    assert_eq!((late.tier, late.event), (2, AnnounceEvent::Stopped));
    world.fail(farewell, None);
    world.answer(late);
    assert!(!world.announcer.holds(T) && world.announcer.is_idle());
    // The slots are good for another start.
    let now = world.now;
    for tier in 0..4 {
        let torrent = TorrentId {
            slot: 0,
            tenancy: 9,
        };
        let added = world.announcer.add(now, torrent, tier, 1, &mut world.rng);
        assert_eq!(added, Ok(()));
    }
    assert_eq!(world.announcer.add(now, T, 0, 1, &mut world.rng), Err(Full));
    assert_eq!(world.next().1.event, AnnounceEvent::Started);
}

#[test]
fn stale_answers_change_nothing() {
    let mut slots = [TierSlot::EMPTY; 1];
    let mut world = World::new(&mut slots, &[1]);
    let (_, old) = world.next();
    world.answer(old);
    let next_at = world.announcer.slots[0].next_at;
    world.fail(old, None);
    world.answer(old);
    assert_eq!(world.announcer.slots[0].next_at, next_at);
    let (_, new) = world.next();
    world.fail(old, None);
    world.answer(Job {
        id: AnnounceId {
            slot: 77,
            tenancy: 0,
        },
        ..new
    });
    assert!(world.announcer.slots[0].in_flight.is_some());
    world.answer(new);
    assert_eq!(world.announcer.slots[0].in_flight, None);
}

#[test]
fn a_new_address_is_told_to_all() {
    let mut slots = [TierSlot::EMPTY; 2];
    let mut world = World::new(&mut slots, &[1, 1]);
    let (_, first) = world.next();
    world.answer(first);
    let (_, flying) = world.next();
    world.announcer.renew(world.now);
    let (_, again) = world.next();
    assert_eq!((again.tier, again.event), (0, AnnounceEvent::Started));
    // Nobody can say which address the one under way told.
    world.answer(flying);
    world.answer(again);
    let (wait, regular) = world.next();
    assert!(wait >= 1620 && regular.event == AnnounceEvent::None);
}

#[test]
fn nobody_starves_when_the_pace_is_too_slow() {
    const MANY: usize = 3000;
    let mut slots = std::vec![TierSlot::EMPTY; MANY];
    let mut world = World::new(&mut slots, &[1; 0]);
    for slot in 0..MANY as u16 {
        let torrent = TorrentId { slot, tenancy: 0 };
        let added = world
            .announcer
            .add(world.now, torrent, 0, 1, &mut world.rng);
        added.unwrap();
    }
    let mut told = std::vec![0; MANY];
    for _ in 0..2 * MANY {
        let (_, job) = world.next();
        told[usize::from(job.torrent.slot)] += 1;
        // A tracker that wants to hear of each every 12 s, in which there is time for 1200.
        let soon = Intervals::told(Some(12), None);
        let now = world.now;
        world
            .announcer
            .answered(now, job.id, soon, |_| false, &mut world.rng);
    }
    assert!(
        told.iter().all(|&times| (1..=3).contains(&times)),
        "{told:?}"
    );
}

#[test]
fn many_start_spread_and_few_at_a_time() {
    const MANY: usize = 1200;
    let mut slots = std::vec![TierSlot::EMPTY; MANY];
    let mut world = World::new(&mut slots, &[1; 0]);
    let start = world.now;
    for slot in 0..MANY as u16 {
        let torrent = TorrentId { slot, tenancy: 0 };
        let added = world.announcer.add(start, torrent, 0, 1, &mut world.rng);
        added.unwrap();
    }
    let first: Vec<Job> = (0..MAX_IN_FLIGHT).map(|_| world.next().1).collect();
    assert_eq!(world.announcer.poll(world.now + PACE, |_| false), None);
    assert_eq!(world.announcer.deadline(), None, "only an answer helps");
    // Farewells have places of their own.
    world.answer(first[0]);
    world.announcer.remove(world.now, first[0].torrent);
    assert_eq!(world.next().1.event, AnnounceEvent::Stopped);
    for job in &first[1..] {
        world.answer(*job);
    }
    for _ in first.len()..MANY {
        let (_, job) = world.next();
        assert_eq!(job.event, AnnounceEvent::Started);
        world.answer(job);
    }
    let took = world.now - start;
    assert_eq!(took, PACE * (MANY as u32 - 1));
}
