//! The numbers of a session, and the status line made of them.

use everseed_node::Stats;

use crate::text::{percent, size};

/// The numbers of a session.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Torrents that are served, that are being checked, and whose files are away.
    pub(crate) serving: usize,
    pub(crate) checking: usize,
    pub(crate) away: usize,
    /// Torrents that are asleep.
    pub(crate) asleep: usize,
    /// Items that are paused, awake or asleep; the latter are among those asleep, too.
    pub(crate) paused: usize,
    /// Torrents whose missing files are searched for elsewhere, after a check.
    pub(crate) searching: usize,
    /// Sleeping torrents that are being opened because somebody wants them.
    pub(crate) waking: usize,
    /// Bytes checked and all bytes, of the torrents that are being checked.
    pub(crate) checked: (u64, u64),
    pub(crate) node: Stats,
    /// Bytes sent in all runs, and bytes of content.
    pub(crate) uploaded: u64,
    pub(crate) content: u64,
    /// Bytes that are here and bytes that are wanted, while something is downloaded.
    pub(crate) download: Option<(u64, u64)>,
    /// The number of torrents that are being downloaded.
    pub(crate) downloading: usize,
    /// What a download lacks that no peer has.
    pub(crate) stuck: Option<String>,
    /// Whether we can be reached from outside; `None` if we are not meant to be.
    pub(crate) reachable: Option<&'static str>,
    /// The status of a torrent whose metadata is being fetched, shown alone.
    pub(crate) unknown: Option<String>,
}

impl Numbers {
    /// The status line, with the present upload and download in bytes per second.
    pub(crate) fn line(&self, (up, down): (u64, u64)) -> String {
        match self.download {
            Some(progress) if self.checking == 0 => {
                let line = fetching(self, progress, down, up);
                // Torrents beside the downloads are counted, too.
                match self.serving + self.away + self.asleep > self.downloading {
                    true => format!("{} | {line}", torrents(self)),
                    false => line,
                }
            }
            _ if self.unknown.is_some() => self.unknown.clone().unwrap_or_default(),
            _ => describe(self, up),
        }
    }
}

/// The numbers of torrents and of peers.
pub(crate) fn in_short(numbers: &Numbers) -> String {
    let Numbers { node, .. } = numbers;
    let peers = if node.peers == 1 { "peer" } else { "peers" };
    let torrents = torrents(numbers);
    let reachable = match numbers.reachable {
        Some(reachable) => format!("; reachable: {reachable}"),
        None => String::new(),
    };
    format!(
        "{torrents}; {} {peers}, {} served{reachable}",
        node.peers, node.unchoked
    )
}

fn torrents(numbers: &Numbers) -> String {
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
    if numbers.searching > 0 {
        line += &format!(
            ", missing files of {} being searched for",
            numbers.searching
        );
    }
    if numbers.away > 0 {
        line += &format!(", {} without their files", numbers.away);
    }
    if numbers.asleep > 0 {
        line += &format!(", {} asleep", numbers.asleep);
    }
    if numbers.paused > 0 {
        line += &format!(", {} paused", numbers.paused);
    }
    if numbers.waking > 0 {
        line += &format!(", {} being woken", numbers.waking);
    }
    line
}

fn describe(numbers: &Numbers, rate: u64) -> String {
    let Numbers { node, .. } = numbers;
    let mut line = torrents(numbers);
    let (sent, rate) = (size(numbers.uploaded), size(rate));
    let turned_away = match node.turned_away {
        0 => String::new(),
        n => format!(", {n} turned away"),
    };
    line += &format!(
        " | {} {}, {} served{turned_away} | {rate}/s | {sent} sent, ratio {}",
        node.peers,
        if node.peers == 1 { "peer" } else { "peers" },
        node.unchoked,
        ratio(numbers.uploaded, numbers.content),
    );
    if let Some(reachable) = numbers.reachable {
        line += &format!(" | reachable: {reachable}");
    }
    line
}

/// The status line while something is downloaded.
fn fetching(numbers: &Numbers, (here, wanted): (u64, u64), down: u64, up: u64) -> String {
    if let Some(stuck) = &numbers.stuck {
        return format!("{} of {} | {stuck}", percent(here, wanted), size(wanted));
    }
    let node = &numbers.node;
    let peers = if node.peers == 1 { "peer" } else { "peers" };
    let eta = match (wanted - here).checked_div(down) {
        Some(seconds) => duration(seconds),
        None => "unknown".to_owned(),
    };
    format!(
        "{} of {} | {}/s down, {}/s up | {} {peers} | ETA {eta}",
        percent(here, wanted),
        size(wanted),
        size(down),
        size(up),
        node.peers,
    )
}

/// A time in words, in its two largest units.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The upload ratio, with two decimals.
fn ratio(uploaded: u64, content: u64) -> String {
    let hundredths = u128::from(uploaded) * 100 / u128::from(content.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut numbers = Numbers {
            serving: 1,
            checking: 0,
            searching: 0,
            waking: 0,
            away: 0,
            asleep: 0,
            paused: 0,
            checked: (0, 0),
            node: Stats {
                peers: 12,
                interested: 9,
                unchoked: 8,
                uploaded: 0,
                downloaded: 0,
                turned_away: 0,
            },
            uploaded: 3 << 30,
            content: 2 << 30,
            download: None,
            downloading: 0,
            stuck: None,
            reachable: None,
            unknown: None,
        };
        assert_eq!(
            describe(&numbers, 1 << 20),
            "1 torrent | 12 peers, 8 served | 1.00 MiB/s | 3.00 GiB sent, ratio 1.50"
        );
        assert_eq!(in_short(&numbers), "1 torrent; 12 peers, 8 served");
        (numbers.serving, numbers.checking, numbers.away) = (0, 2, 1);
        (numbers.checked, numbers.asleep) = ((1, 3), 9000);
        (numbers.searching, numbers.waking, numbers.paused) = (1, 3, 4);
        numbers.node.turned_away = 7;
        assert_eq!(
            describe(&numbers, 0),
            "0 torrents, 2 being checked (33.3%), missing files of 1 being searched for, 1 without their files, \
             9000 asleep, 4 paused, 3 being woken | 12 peers, 8 served, 7 turned away | 0 B/s | 3.00 GiB sent, ratio 1.50"
        );
        assert_eq!(ratio(1, 0), "1.00");
        assert_eq!(
            fetching(&numbers, (1 << 29, 1 << 30), 1 << 20, 0),
            "50.0% of 1.00 GiB | 1.00 MiB/s down, 0 B/s up | 12 peers | ETA 8 min 32 s"
        );
        // The same line in every command: what is seeded beside a download is told, too.
        (numbers.download, numbers.downloading) = (Some((1 << 29, 1 << 30)), 1);
        (numbers.checking, numbers.serving, numbers.asleep) = (0, 3, 7);
        (numbers.searching, numbers.waking, numbers.paused) = (0, 0, 0);
        assert_eq!(
            numbers.line((0, 1 << 20)),
            "3 torrents, 1 without their files, 7 asleep | 50.0% of 1.00 GiB | 1.00 MiB/s down, 0 B/s up | 12 peers \
             | ETA 8 min 32 s"
        );
        (numbers.serving, numbers.away, numbers.asleep) = (1, 0, 0);
        assert_eq!(
            numbers.line((0, 1 << 20)),
            "50.0% of 1.00 GiB | 1.00 MiB/s down, 0 B/s up | 12 peers | ETA 8 min 32 s"
        );
        numbers.stuck = Some("1 piece is missing".to_owned());
        assert_eq!(
            fetching(&numbers, (1 << 29, 1 << 30), 0, 0),
            "50.0% of 1.00 GiB | 1 piece is missing"
        );
    }
}
