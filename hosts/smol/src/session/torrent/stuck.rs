//! A download that nobody has anything for: what is missing is said, once.

use std::time::{Duration, Instant};

use everseed_node::Stuck;

use super::ManagedTorrent;
use crate::net::engine::Engine;
use crate::text::{escape, percent};

/// Since when nobody has what a download lacks, and what was said about it.
#[derive(Debug, Default)]
pub(crate) struct Stagnation {
    since: Option<Instant>,
    /// The pieces that are missing, by their number and the first of them, and the file of that.
    named: Option<((u32, u32), String)>,
    /// What the status line says while it lasts.
    says: Option<String>,
}

impl ManagedTorrent {
    /// Looks whether anybody has what a download lacks; says so once if nobody does for some time.
    pub(crate) fn mind_stuck(&mut self, engine: &Engine, now: Instant) {
        let id = self.id().filter(|_| self.is_downloading());
        let stuck = id.and_then(|id| engine.node.stuck(id));
        let Some(download) = &mut self.download else {
            return;
        };
        let Some(stuck) = stuck else {
            (download.stuck.since, download.stuck.says) = (None, None);
            return;
        };
        let since = *download.stuck.since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE {
            return;
        }
        let which = (stuck.pieces, stuck.first.get());
        let named = download.stuck.named.take();
        let known = named.filter(|(before, _)| *before == which);
        let fresh = known.is_none();
        let file = known.map_or_else(|| self.file_of(which.1), |(_, file)| file);
        let text = describe(&stuck, &file);
        if fresh {
            let wanted = self.wanted_len();
            let left = self.left(engine);
            let share = percent(wanted.saturating_sub(left), wanted);
            log::warn!("{}: {share}: {text}; it waits for others", self.name());
        }
        if let Some(download) = &mut self.download {
            download.stuck.named = Some((which, file));
            download.stuck.says = Some(text);
        }
    }

    /// What the status line says about a download that nobody has anything for.
    pub(crate) fn stuck(&self) -> Option<&str> {
        self.download.as_ref()?.stuck.says.as_deref()
    }

    /// The file that a piece belongs to, or the first of them.
    fn file_of(&self, piece: u32) -> String {
        let geometry = self.content.geometry();
        let entries = self.content.entries().into_iter().flatten().flatten();
        let mut its = entries.filter(|entry| entry.pieces(geometry).contains(&piece));
        its.next().map_or_else(String::new, |entry| {
            escape(entry.path.as_os_str().as_encoded_bytes()).to_string()
        })
    }
}

fn describe(stuck: &Stuck, file: &str) -> String {
    let missing = match stuck.pieces {
        1 => format!("1 piece is missing (file {file})"),
        n => format!("{n} pieces are missing (the first in file {file})"),
    };
    match stuck.peers {
        0 => format!("{missing}, and nobody is connected who has any of it"),
        1 => format!("{missing}, the 1 connected peer has none of it"),
        n => format!("{missing}, none of the {n} connected peers has any of it"),
    }
}

/// Who has just connected needs some time to say what it has.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::geometry::Geometry;

    #[test]
    fn what_is_said() {
        let first = Geometry::new(10, 2).unwrap().piece(3).unwrap();
        let table = [
            (
                1,
                3,
                "1 piece is missing (file a/b), none of the 3 connected peers has any of it",
            ),
            (
                1,
                1,
                "1 piece is missing (file a/b), the 1 connected peer has none of it",
            ),
            (
                2,
                0,
                "2 pieces are missing (the first in file a/b), and nobody is connected who has any of it",
            ),
        ];
        for (pieces, peers, text) in table {
            let stuck = Stuck {
                pieces,
                first,
                peers,
            };
            assert_eq!(describe(&stuck, "a/b"), text);
        }
    }
}
