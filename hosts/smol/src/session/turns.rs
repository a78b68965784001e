//! Turns of torrents in watched folders: idle ones give their place to others that wait for one. A torrent is idle if
//! its files are away, or if it is incomplete and nothing moves.

use std::time::{Duration, Instant};

use super::item::ItemStage;
use super::library::Library;
use super::torrents::Torrents;
use crate::net::engine::Engine;
use crate::text::escape;

/// The shortest turn: long enough to hear from trackers and to call some peers.
pub(super) const TURN: Duration = Duration::from_secs(30);

/// The time for which connected peers that send nothing are waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// The torrent that gives up its place: the one that has been idle for the longest, if that is at least a turn. Each
/// is given by its number and the time since which it has been idle.
fn who_gives_way<T: Ord + Copy>(
    idle: impl Iterator<Item = (Instant, T)>,
    now: Instant,
) -> Option<T> {
    let longest = idle.min()?;
    (now.saturating_duration_since(longest.0) >= TURN).then_some(longest.1)
}

impl Library {
    /// Takes the place of an idle torrent. False if there is none. The idle one waits for another turn, behind those
    /// that had none.
    pub(super) fn take_place_of_idle(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
    ) -> bool {
        let (items, now) = (&self.items, Instant::now());
        let is_of_folder = |number| {
            let its = |m: &&super::item::LibraryItem| m.stage == ItemStage::Running(number);
            items.iter().find(its).is_some_and(|m| m.folder.is_some())
        };
        let idle = torrents.awake.iter().filter_map(|torrent| {
            let since = torrent.idle_since(engine, now, PATIENCE)?;
            is_of_folder(torrent.number()).then(|| (since, torrent.number()))
        });
        let Some(number) = who_gives_way(idle, now) else {
            return false;
        };
        let Some(managed) = self.item_of(number) else {
            return false;
        };
        let shown = escape(managed.item.path.as_os_str().as_encoded_bytes());
        log::info!("{shown}: it gives its place to one that waits, and has another turn later");
        managed.stage = ItemStage::Waiting(now + 2 * TURN);
        torrents.drop_torrent(engine, number);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_gives_way_after_its_turn() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        type Idle<'a> = &'a [(u64, usize)];
        let cases: [(Idle<'_>, u64, Option<usize>); 6] = [
            (&[], 1000, None),
            (&[(0, 7)], 29, None),
            (&[(0, 7)], 30, Some(7)),
            (&[(30, 1), (0, 7), (31, 2)], 40, Some(7)),
            (&[(30, 1), (31, 2)], 59, None),
            (&[(30, 1), (31, 2)], 200, Some(1)),
        ];
        for (idle, now, expected) in cases {
            let all = idle.iter().map(|&(since, number)| (at(since), number));
            assert_eq!(who_gives_way(all, at(now)), expected, "{idle:?} at {now}");
        }
    }

    #[test]
    fn each_has_its_turn() {
        // Five that nobody needs and two places: in ten turns each was there.
        let (start, mut waits, mut there) = (Instant::now(), vec![2, 3, 4], Vec::new());
        let mut seen = [0; 5];
        let mut now = start;
        there.extend([(now, 0), (now, 1)]);
        for _ in 0..10 {
            now += TURN;
            let gone = who_gives_way(there.iter().copied(), now).unwrap();
            there.retain(|&(_, number)| number != gone);
            let next = waits.remove(0);
            waits.push(gone);
            there.push((now, next));
            seen[next] += 1;
        }
        assert!(seen.iter().all(|&turns| turns >= 2), "{seen:?}");
    }
}
