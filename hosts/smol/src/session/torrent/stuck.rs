//! A download that nobody has anything for: what is missing is said, once.

use std::time::{Duration, Instant};

use super::ManagedTorrent;
use super::stagnation::describe;
use crate::net::engine::Engine;
use crate::text::{escape, percent};

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

/// Who has just connected needs some time to say what it has.
const PATIENCE: Duration = Duration::from_secs(20);
