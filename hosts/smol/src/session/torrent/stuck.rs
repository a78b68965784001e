//! Detection of a download whose missing pieces no peer has, which is reported once.

use std::time::{Duration, Instant};

use super::ManagedTorrent;
use super::stagnation::describe;
use crate::net::engine::Engine;
use crate::text::{escape, percent};

impl ManagedTorrent {
    /// Checks whether any peer has the missing pieces; reports once if none has them for some time.
    pub(crate) fn report_stuck(&mut self, engine: &Engine, now: Instant) {
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

    /// The text in the status line about a download whose missing pieces no peer has.
    pub(crate) fn stuck(&self) -> Option<&str> {
        self.download.as_ref()?.stuck.says.as_deref()
    }

    /// The file of a piece, or the first of its files.
    fn file_of(&self, piece: u32) -> String {
        let geometry = self.content.geometry();
        let entries = self.content.entries().into_iter().flatten().flatten();
        let mut its = entries.filter(|entry| entry.pieces(geometry).contains(&piece));
        its.next().map_or_else(String::new, |entry| {
            escape(entry.path.as_os_str().as_encoded_bytes()).to_string()
        })
    }
}

/// A newly connected peer needs some time to say what it has.
const PATIENCE: Duration = Duration::from_secs(20);
