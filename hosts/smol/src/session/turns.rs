//! Turns of torrents in watched folders: idle ones give their place to others that wait for one. A torrent is idle if
//! its files are away, or if it is incomplete and nothing moves.
//!
//! Whoever gave up its place waits behind those that gave up theirs less often, so that each has its turn.

use std::time::{Duration, Instant};

use super::item::{ItemStage, LibraryItem};
use super::library::Library;
use super::torrents::Torrents;
use crate::net::engine::Engine;
use crate::storage::worker::TorrentNumber;
use crate::text::escape;

/// The shortest turn: long enough to hear from trackers and to call some peers.
pub(super) const TURN: Duration = Duration::from_secs(30);

/// The shortest turn of a torrent whose files are away. It only waits for its disk.
pub(super) const TURN_AWAY: Duration = Duration::from_secs(5);

/// The time for which connected peers that send nothing are waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// The torrent that gives up its place, if the turn of any is over: the one whose turn was over first.
fn who_gives_way<T: Ord + Copy>(
    idle: impl Iterator<Item = (Instant, T)>,
    now: Instant,
) -> Option<T> {
    let (until, first) = idle.min()?;
    (until <= now).then_some(first)
}

impl Library {
    /// The idle torrents of watched folders, each with the end of its turn.
    pub(super) fn idle(
        &self,
        torrents: &Torrents,
        engine: &Engine,
        now: Instant,
    ) -> impl Iterator<Item = (Instant, TorrentNumber)> {
        let of_folders = |number: TorrentNumber| {
            let its = |m: &&LibraryItem| m.stage == ItemStage::Running(number);
            let item = self.items.iter().find(its);
            item.is_some_and(|m| m.folder.is_some())
        };
        torrents.awake.iter().filter_map(move |torrent| {
            let since = torrent.idle_since(engine, now, PATIENCE)?;
            let turn = match torrent.is_away() {
                true => TURN_AWAY,
                false => TURN,
            };
            of_folders(torrent.number()).then(|| (since + turn, torrent.number()))
        })
    }

    /// Takes the place of an idle torrent. False if there is none.
    pub(super) fn take_place_of_idle(
        &mut self,
        torrents: &mut Torrents,
        engine: &mut Engine,
    ) -> bool {
        let now = Instant::now();
        let Some(number) = who_gives_way(self.idle(torrents, engine, now), now) else {
            return false;
        };
        let was_away = torrents
            .awake
            .get(number)
            .and_then(|torrent| torrent.why_away());
        let Some(managed) = self.item_of(number) else {
            return false;
        };
        let shown = escape(managed.item.path.as_os_str().as_encoded_bytes());
        log::info!("{shown}: it gives its place to one that waits, and has another turn later");
        managed.stage = ItemStage::Queued(now + 2 * TURN);
        managed.turns = managed.turns.saturating_add(1);
        managed.was_away = was_away.unwrap_or_default();
        torrents.drop_torrent(engine, number);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_turn_is_over_first_gives_way() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        type Idle<'a> = &'a [(u64, usize)];
        let cases: [(Idle<'_>, u64, Option<usize>); 6] = [
            (&[], 1000, None),
            (&[(30, 7)], 29, None),
            (&[(30, 7)], 30, Some(7)),
            (&[(60, 1), (30, 7), (61, 2)], 40, Some(7)),
            (&[(60, 1), (61, 2)], 59, None),
            (&[(60, 1), (61, 2)], 200, Some(1)),
        ];
        for (idle, now, expected) in cases {
            let all = idle.iter().map(|&(until, number)| (at(until), number));
            assert_eq!(who_gives_way(all, at(now)), expected, "{idle:?} at {now}");
        }
    }

    #[test]
    fn each_has_its_turn() {
        // Five that nobody needs and two places: in ten turns each was there.
        let (mut now, mut waits) = (Instant::now(), vec![2, 3, 4]);
        let mut there = vec![(now + TURN, 0), (now + TURN, 1)];
        let mut seen = [0; 5];
        for _ in 0..10 {
            now += TURN;
            let gone = who_gives_way(there.iter().copied(), now).unwrap();
            there.retain(|&(_, number)| number != gone);
            let next = waits.remove(0);
            waits.push(gone);
            there.push((now + TURN, next));
            seen[next] += 1;
        }
        assert!(seen.iter().all(|&turns| turns >= 2), "{seen:?}");
    }
}
