//! The status line: one live line on a terminal, plain lines elsewhere.

use std::io;
use std::time::{Duration, Instant};

use everseed_node::Stats;

use crate::printing::{Stream, is_stuck, print};
use crate::session::Numbers;
use crate::text::{is_live, live_line, live_line_stands};

/// The interval of status lines for a person; `None` if there are none.
pub(crate) fn interval(quiet: bool) -> Option<Duration> {
    match quiet {
        true => None,
        false if is_live(&io::stdout()) => Some(LIVE),
        false => Some(PLAIN),
    }
}

/// The interval for a service. Its log gets none: numbers every ten seconds are not worth logging.
pub(crate) fn interval_of_service(quiet: bool) -> Option<Duration> {
    interval(quiet || !is_live(&io::stdout()))
}

/// The status line as it was last shown.
pub(crate) struct StatusLine {
    /// The time of the last line, and the bytes sent and received until then.
    before: (Instant, u64, u64),
    last: String,
}

impl StatusLine {
    pub(crate) fn new() -> StatusLine {
        StatusLine {
            before: (Instant::now(), 0, 0),
            last: String::new(),
        }
    }

    /// Shows the line if it differs from the last one.
    pub(crate) fn show(&mut self, numbers: &Numbers) {
        let rates = self.rates(Instant::now(), &numbers.node);
        let line = numbers.line(rates);
        let live = is_live(&io::stdout());
        let gone = live && !live_line_stands();
        // Numbers that would wait to be printed are old then.
        if !gone && line == self.last || is_stuck() {
            return;
        }
        // A reader that has gone away does not stop seeding.
        match live {
            true => live_line(Stream::Out, &line),
            false => drop(print(Stream::Out, &format!("{line}\n"))),
        }
        self.last = line;
    }

    /// Bytes per second since the last line: sent and received.
    fn rates(&mut self, now: Instant, node: &Stats) -> (u64, u64) {
        let fresh = (now, node.uploaded, node.downloaded);
        let (then, up, down) = std::mem::replace(&mut self.before, fresh);
        let ms = u64::try_from((now - then).as_millis()).unwrap_or(u64::MAX);
        let rate = |bytes: u64| bytes.saturating_mul(1000) / ms.max(1);
        (rate(node.uploaded - up), rate(node.downloaded - down))
    }
}

const LIVE: Duration = Duration::from_secs(1);
const PLAIN: Duration = Duration::from_secs(10);
