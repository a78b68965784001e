//! Texts for people: sizes, times, progress, and text that strangers chose.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

use crate::printing::{Stream, print};

/// Text that a stranger chose, for display. Control characters, bytes that are not UTF-8 and marks that reorder a
/// line are shown as escapes, so that it cannot control the terminal.
pub fn escape(text: &(impl AsRef<[u8]> + ?Sized)) -> Escaped<'_> {
    Escaped(text.as_ref())
}

/// The displayable result of [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || reorders(c) {
                    write!(f, "{}", c.escape_unicode())?;
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character is invisible or changes the direction in which a line is shown.
fn reorders(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{061c}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Parses a number in `least..=most`.
pub fn number<T: FromStr + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
    // `parse` accepts a leading plus sign; this function does not.
    let number = text.parse().ok().filter(|_| !text.starts_with('+'))?;
    (least <= number && number <= most).then_some(number)
}

/// A number of bytes with a unit: `512 B`, `1.50 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scale = 1024_u64;
    // The unit changes a little early, so that no number rounds up to 1024.
    while bytes / 1000 >= scale && unit + 1 < UNITS.len() {
        unit += 1;
        scale <<= 10;
    }
    let hundredths = u128::from(bytes) * 100 / u128::from(scale);
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    let name = UNITS[unit];
    match whole {
        0..10 => format!("{whole}.{rest:02} {name}"),
        10..100 => format!("{whole}.{} {name}", rest / 10),
        _ => format!("{whole} {name}"),
    }
}

/// A share in percent; `100%` only for all of it.
pub fn percent(part: u64, whole: u64) -> String {
    if part >= whole {
        return "100%".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A time in its two largest units: `8 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`.
pub fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// A time in seconds since 1970, as `2026-11-24 02:33:52 UTC`; the bare number outside the years 1970 to 9999.
pub fn date(time: i64) -> String {
    // 9999-12-31 23:59:59.
    let Some(s) = u64::try_from(time).ok().filter(|&s| s < 253_402_300_800) else {
        return time.to_string();
    };
    let (mut day, s) = (s / 86400, s % 86400);
    let mut year = 1970;
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (s / 3600, s % 3600 / 60, s % 60);
    let day = day + 1;
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

/// Standard output for results. A reader that has gone away is not an error: `everseed show x | head` ends quietly.
#[derive(Debug)]
pub struct Output {
    out: io::StdoutLock<'static>,
    error: Option<io::Error>,
}

impl Output {
    /// Locks standard output.
    pub fn new() -> Output {
        Output {
            out: io::stdout().lock(),
            error: None,
        }
    }

    /// Prints a line.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{line}").err();
        }
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) {
        if self.error.is_none() {
            self.error = self.out.write_all(text.as_bytes()).err();
        }
    }

    /// Whether the reader has gone away, so that printing more is useless.
    pub fn closed(&self) -> bool {
        self.error.is_some()
    }

    /// Flushes the output. An error means that a reader is there and did not get everything.
    pub fn finish(mut self) -> io::Result<()> {
        let error = self.error.take().or_else(|| self.out.flush().err());
        match error {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

impl Default for Output {
    fn default() -> Output {
        Output::new()
    }
}

/// Whether a live line is on the terminal.
static LIVE_LINE: AtomicBool = AtomicBool::new(false);

/// Writes a live line over the previous one. It is cut to the terminal's width, because a wrapped line could not be
/// overwritten.
pub fn live_line(stream: Stream, line: &str) {
    let size = match stream {
        Stream::Out => tcgetwinsize(io::stdout()),
        Stream::Err => tcgetwinsize(io::stderr()),
    };
    let cut = cut(line, size.map_or(0, |size| usize::from(size.ws_col)));
    LIVE_LINE.store(true, Ordering::Relaxed);
    let _ = print(stream, &format!("\r\x1b[K{cut}"));
}

/// The part of a line that fits on a terminal of `columns`, one column left free; 0 columns means no limit.
fn cut(line: &str, columns: usize) -> &str {
    let end = columns
        .checked_sub(1)
        .and_then(|last| line.char_indices().nth(last));
    end.map_or(line, |(end, _)| &line[..end])
}

/// Whether a live line is on the terminal and nothing was printed after it.
pub fn live_line_stands() -> bool {
    LIVE_LINE.load(Ordering::Relaxed)
}

/// Removes the live line, so that another line starts on a clean one.
pub fn clear_live_line(stream: Stream) {
    if LIVE_LINE.swap(false, Ordering::Relaxed) {
        let _ = print(stream, "\r\x1b[K");
    }
}

/// Prints a line for people on standard error; errors are ignored.
pub fn say(line: fmt::Arguments<'_>) {
    clear_live_line(Stream::Out);
    let _ = print(Stream::Err, &format!("{line}\n"));
}

/// Whether lines on this stream can be overwritten: it is a terminal that can do so.
pub fn is_live(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The progress of a long job: a live line on a terminal, a plain line now and then elsewhere.
#[derive(Debug)]
pub struct ProgressLine {
    what: &'static str,
    total: u64,
    live: bool,
    started: Instant,
    next: Instant,
    /// How often somebody looked for files after that.
    looks: u64,
}

/// The live line changes at most five times a second.
const LIVE: Duration = Duration::from_millis(200);
/// The interval of plain lines.
const PLAIN: Duration = Duration::from_secs(10);

impl ProgressLine {
    /// A job on `total` bytes; `what` is the verb before the numbers.
    pub fn new(what: &'static str, total: u64) -> ProgressLine {
        let now = Instant::now();
        let live = is_live(&io::stderr());
        ProgressLine {
            what,
            total,
            live,
            started: now,
            next: now + if live { LIVE } else { PLAIN },
            looks: 0,
        }
    }

    /// Shows that `done` bytes of the job are done.
    pub fn update(&mut self, done: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let line = self.describe(done, now - self.started);
        self.show(now, &line);
    }

    /// Shows that it is done and that missing files are searched for, after each look.
    pub fn searching(&mut self) {
        self.looks += 1;
        let now = Instant::now();
        if now >= self.next {
            let line = format!("missing files are searched for: {} looks", self.looks);
            self.show(now, &line);
        }
    }

    fn show(&mut self, now: Instant, line: &str) {
        if self.live {
            self.next = now + LIVE;
            live_line(Stream::Err, line);
        } else {
            self.next = now + PLAIN;
            let _ = print(Stream::Err, &format!("{line}\n"));
        }
    }

    fn describe(&self, done: u64, elapsed: Duration) -> String {
        let ProgressLine { what, total, .. } = *self;
        let micros = elapsed.as_micros().max(1);
        let rate = u64::try_from(u128::from(done) * 1_000_000 / micros).unwrap_or(u64::MAX);
        let rest = total.saturating_sub(done);
        let left = Duration::from_secs(rest / rate.max(1));
        let (percent, of, rate) = (percent(done, total), size(total), size(rate));
        let left = duration(left);
        format!("{what} {percent} of {of}, {rate}/s, {left} left")
    }
}

impl Drop for ProgressLine {
    /// Removes the live line, so that results start on a clean one.
    fn drop(&mut self) {
        clear_live_line(Stream::Err);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_reach_no_terminal() {
        let cases: [(&[u8], &str); 6] = [
            ("Grüße 日本.iso".as_bytes(), "Grüße 日本.iso"),
            (b"\x1b[2J\x07", r"\u{1b}[2J\u{7}"),
            (b"a\r\nb\tc", r"a\u{d}\u{a}b\u{9}c"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            (b"bad\xff\xc3", r"bad\xff\xc3"),
            ("evil\u{202e}gpj.exe".as_bytes(), r"evil\u{202e}gpj.exe"),
        ];
        for (text, shown) in cases {
            assert_eq!(escape(text).to_string(), shown);
        }
    }

    #[test]
    fn cut_to_the_terminal() {
        assert_eq!(["grün 1", "grün", ""], [0, 5, 1].map(|n| cut("grün 1", n)));
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1023 * 1024, "0.99 MiB"),
            (999 * 1024, "999 KiB"),
            (1 << 30, "1.00 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(size(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn dates() {
        for (time, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (253_402_300_800, "253402300800"),
            (-1, "-1"),
            (i64::MIN, "-9223372036854775808"),
        ] {
            assert_eq!(date(time), shown);
        }
    }

    #[test]
    fn shares_and_times() {
        assert_eq!(percent(0, 0), "100%");
        assert_eq!(percent(999_999, 1_000_000), "99.9%");
        assert_eq!(percent(1, 1), "100%");
        assert_eq!(percent(1 << 49, 1 << 50), "50.0%");
        let cases = [
            (0, "0 s"),
            (200, "3 min 20 s"),
            (7500, "2 h 5 min"),
            (349_200, "4 d 1 h"),
        ];
        for (s, shown) in cases {
            assert_eq!(duration(Duration::from_secs(s)), shown);
        }
    }
}
