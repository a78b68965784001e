//! What a person sees while everseed seeds: one live line on a terminal, plain lines elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

use everseed_node::Stats;

use crate::cli::text::{is_live, live_line, live_line_stands, percent, size};

/// The line, and when it is due.
pub(crate) struct Status {
    kind: Kind,
    next: Instant,
    /// What was uploaded when, for the rate.
    before: (Instant, u64),
    last: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Plain,
    Quiet,
}

/// What the line says.
pub(crate) struct Numbers {
    /// Torrents that are served, checked and away.
    pub(crate) serving: usize,
    pub(crate) checking: usize,
    pub(crate) away: usize,
    /// Bytes checked, and in all, of the torrents that are being checked.
    pub(crate) checked: (u64, u64),
    pub(crate) node: Stats,
    /// Bytes sent in all runs, and bytes of content.
    pub(crate) uploaded: u64,
    pub(crate) content: u64,
}

impl Status {
    pub(crate) fn new(quiet: bool) -> Status {
        let now = Instant::now();
        let kind = match quiet {
            true => Kind::Quiet,
            false if is_live(&std::io::stdout()) => Kind::Live,
            false => Kind::Plain,
        };
        Status {
            kind,
            next: now,
            before: (now, 0),
            last: String::new(),
        }
    }

    /// Time until the next line, if there is ever to be one.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let wait = self.next.saturating_duration_since(Instant::now());
        (self.kind != Kind::Quiet).then_some(wait)
    }

    /// Shows the line if it is due and says anything new.
    pub(crate) fn show(&mut self, numbers: impl FnOnce() -> Numbers) {
        let now = Instant::now();
        if self.kind == Kind::Quiet || now < self.next {
            return;
        }
        self.next = now
            + match self.kind {
                Kind::Live => LIVE,
                _ => PLAIN,
            };
        let numbers = numbers();
        let rate = self.rate(now, numbers.node.uploaded);
        let line = describe(&numbers, rate);
        let gone = self.kind == Kind::Live && !live_line_stands();
        if gone || line != self.last {
            self.print(&line);
            self.last = line;
        }
    }

    /// Leaves the live line behind, before other lines are printed.
    pub(crate) fn finish(&mut self) {
        if live_line_stands() {
            let _ = writeln!(std::io::stdout());
        }
    }

    fn rate(&mut self, now: Instant, uploaded: u64) -> u64 {
        let (then, before) = std::mem::replace(&mut self.before, (now, uploaded));
        let ms = u64::try_from((now - then).as_millis()).unwrap_or(u64::MAX);
        (uploaded - before) * 1000 / ms.max(1)
    }

    fn print(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that has gone away is no reason to stop seeding.
        if self.kind == Kind::Live {
            live_line(&mut out, line);
        } else {
            let _ = writeln!(out, "{line}");
        }
    }
}

fn describe(numbers: &Numbers, rate: u64) -> String {
    let Numbers { node, .. } = numbers;
    let mut line = match numbers.serving {
        1 => "1 torrent".to_owned(),
        n => format!("{n} torrents"),
    };
    if numbers.checking > 0 {
        let (done, total) = numbers.checked;
        line += &format!(
            ", {} being checked ({})",
            numbers.checking,
            percent(done, total)
        );
    }
    if numbers.away > 0 {
        line += &format!(", {} without their files", numbers.away);
    }
    let (sent, rate) = (size(numbers.uploaded), size(rate));
    line += &format!(
        " | {} {}, {} served | {rate}/s | {sent} sent, ratio {}",
        node.peers,
        if node.peers == 1 { "peer" } else { "peers" },
        node.unchoked,
        ratio(numbers.uploaded, numbers.content),
    );
    line
}

/// How often everything was sent, with two decimals.
fn ratio(uploaded: u64, content: u64) -> String {
    let hundredths = u128::from(uploaded) * 100 / u128::from(content.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

const LIVE: Duration = Duration::from_secs(1);
const PLAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut numbers = Numbers {
            serving: 1,
            checking: 0,
            away: 0,
            checked: (0, 0),
            node: Stats {
                peers: 12,
                interested: 9,
                unchoked: 8,
                uploaded: 0,
                downloaded: 0,
            },
            uploaded: 3 << 30,
            content: 2 << 30,
        };
        assert_eq!(
            describe(&numbers, 1 << 20),
            "1 torrent | 12 peers, 8 served | 1.00 MiB/s | 3.00 GiB sent, ratio 1.50"
        );
        (numbers.serving, numbers.checking, numbers.away) = (0, 2, 1);
        numbers.checked = (1, 3);
        assert_eq!(
            describe(&numbers, 0),
            "0 torrents, 2 being checked (33.3%), 1 without their files | 12 peers, 8 served \
             | 0 B/s | 3.00 GiB sent, ratio 1.50"
        );
        assert_eq!(ratio(1, 0), "1.00");
    }
}
