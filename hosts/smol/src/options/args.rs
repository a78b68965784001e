//! Parsing of arguments, shared by all commands.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, PathBuf};

use everseed_disk::Links;
use lexopt::{Arg, Parser};

use crate::options::table::{self, options};
use crate::secrets::mask_urls;
use crate::text::escape;
pub use crate::text::number;

/// Why a command does not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Help or version was asked for: print this text on standard output and succeed.
    Print(&'static str),
    /// The arguments are invalid: print this text, which names the help that tells more; exit code 2.
    Usage(String),
}

/// The text of `--version`.
pub const VERSION: &str = concat!("everseed ", env!("CARGO_PKG_VERSION"), "\n");

/// One argument. It borrows nothing from the parser, so that the parser can be asked for its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Argument {
    /// An option by its long name, also if its letter was given: `--listen`.
    Option(&'static str),
    /// Any other argument.
    Value(OsString),
}

/// Returns the next argument. The options are those in the help text, and the two that every command has.
pub fn next(parser: &mut Parser, help: &'static str) -> Result<Option<Argument>, Stop> {
    match parser.next().map_err(usage)? {
        None => Ok(None),
        Some(Arg::Short('h') | Arg::Long("help")) => Err(Stop::Print(help)),
        Some(Arg::Short('V') | Arg::Long("version")) => Err(Stop::Print(VERSION)),
        Some(Arg::Short(letter)) => match table::by_letter(help, letter) {
            Some(option) => Ok(Some(Argument::Option(option.name))),
            None => Err(unknown(help, &format!("-{letter}"))),
        },
        Some(Arg::Long(name)) => match table::by_name(help, name) {
            Some(option) => Ok(Some(Argument::Option(option.name))),
            None => Err(unknown(help, &format!("--{name}"))),
        },
        Some(Arg::Value(value)) => Ok(Some(Argument::Value(value))),
    }
}

/// Returns the next option of a command that takes one path. The path may stand anywhere, and goes into `path`.
pub fn next_option(
    parser: &mut Parser,
    help: &'static str,
    path: &mut Option<PathBuf>,
) -> Result<Option<&'static str>, Stop> {
    while let Some(given) = next(parser, help)? {
        match given {
            Argument::Option(name) => return Ok(Some(name)),
            Argument::Value(value) if path.is_none() => *path = Some(self::path(value)?),
            Argument::Value(value) => return Err(surplus(table::command(help), &value)),
        }
    }
    Ok(None)
}

/// The value of an option.
pub fn value(parser: &mut Parser) -> Result<OsString, Stop> {
    parser.value().map_err(usage)
}

/// The value of an option, as text.
pub fn text(parser: &mut Parser, option: &str) -> Result<String, Stop> {
    let value = value(parser)?;
    value.into_string().map_err(|value| {
        let shown = escape(value.as_encoded_bytes());
        Stop::Usage(format!("{option}: \"{shown}\" is not UTF-8"))
    })
}

/// The value of `--file`: a file's number, from 1 on, and its path beneath the content's folder.
pub fn placed(parser: &mut Parser) -> Result<(u64, PathBuf), Stop> {
    let value = value(parser)?;
    read_placed(&value).ok_or_else(|| {
        let shown = escape(value.as_encoded_bytes());
        Stop::Usage(format!(
            "--file: \"{shown}\" is not N=PATH, a number of everseed show and a path beneath the folder of the data"
        ))
    })
}

/// The value of `--rename`, in the form of [`placed`]: number 0 stands for the whole content.
pub fn renamed(parser: &mut Parser) -> Result<(u64, PathBuf), Stop> {
    let value = value(parser)?;
    let path = PathBuf::from(&value);
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == value => Ok((0, path)),
        _ => {
            let shown = escape(value.as_encoded_bytes());
            let text = format!("--rename: \"{shown}\" is not a name without a folder before it");
            Err(Stop::Usage(text))
        }
    }
}

/// Parses `N=PATH`.
pub fn read_placed(value: &OsStr) -> Option<(u64, PathBuf)> {
    let bytes = value.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=')?;
    let number = number(std::str::from_utf8(&bytes[..at]).ok()?, 1, u64::MAX)?;
    let path = PathBuf::from(OsStr::from_bytes(&bytes[at + 1..]));
    let is_plain = |part| matches!(part, Component::Normal(_));
    let stays = path.components().all(is_plain) && !path.as_os_str().is_empty();
    stays.then_some((number, path))
}

/// The value of an option that is on or off.
pub fn switch(parser: &mut Parser, name: &str) -> Result<bool, Stop> {
    word(parser, name, &[("on", true), ("off", false)])
}

/// A host, by name or address, with a port.
pub fn host_port(parser: &mut Parser, name: &str) -> Result<String, Stop> {
    let read = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let named = !host.is_empty() && !host.contains(char::is_whitespace);
        (named && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| text.to_owned())
    };
    parsed(
        parser,
        name,
        "a host and a port like dht.example.org:6881",
        read,
    )
}

/// The value of `--links`.
pub fn links(parser: &mut Parser, name: &str) -> Result<Links, Stop> {
    let words = [("beneath", Links::Beneath), ("follow", Links::Follow)];
    word(parser, name, &words)
}

/// The value of an option that is one of these words; each stands for something.
pub fn word<T: Copy>(parser: &mut Parser, name: &str, words: &[(&str, T)]) -> Result<T, Stop> {
    let mut what = String::new();
    for (number, (word, _)) in words.iter().enumerate() {
        what += match words.len() - number {
            _ if number == 0 => "",
            1 => " or ",
            _ => ", ",
        };
        what += word;
    }
    let read = |text: &str| {
        let meant = words.iter().find(|(word, _)| *word == text);
        meant.map(|(_, meaning)| *meaning)
    };
    parsed(parser, name, &what, read)
}

/// The value of an option, parsed by `read`; `what` says what it should have been.
pub fn parsed<T>(
    parser: &mut Parser,
    option: &str,
    what: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Stop> {
    let text = text(parser, option)?;
    read(&text).ok_or_else(|| {
        // The value may be a URL with a passkey, and this text goes to a service's log.
        let masked = mask_urls(&text);
        let shown = escape(&masked);
        Stop::Usage(format!("{option}: \"{shown}\" is not {what}"))
    })
}

/// A number such as `1.5`, in thousandths.
pub fn thousandths(text: &str) -> Option<u64> {
    scaled(text, 1000)
}

/// Bytes or bytes per second: `500k`, `2M`, `1.5MiB/s`, `250000`. `k`, `M` and `G` are powers of 1000,
/// `Ki`, `Mi` and `Gi` powers of 1024; a `B` and a `/s` may follow.
pub fn rate(text: &str) -> Option<u64> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (text, base) = match text.strip_suffix(['i', 'I']) {
        Some(text) => (text, 1024_u64),
        None => (text, 1000),
    };
    let power = match text.chars().last()? {
        'k' | 'K' => 1,
        'm' | 'M' => 2,
        'g' | 'G' => 3,
        _ => 0,
    };
    if power == 0 && base == 1024 {
        return None;
    }
    let digits = if power == 0 {
        text
    } else {
        text.get(..text.len() - 1)?
    };
    scaled(digits, base.pow(power)).filter(|bytes| *bytes > 0)
}

/// A piece length in bytes: a bare number is KiB, as in transmission-create; `k` and `M` (or `KiB`,
/// `MiB`) are powers of 1024. A power of two from 16 KiB to 512 MiB.
pub fn piece_len(text: &str) -> Option<u32> {
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let text = text.strip_suffix(['i', 'I']).unwrap_or(text);
    let (digits, unit) = match text.chars().last()? {
        'k' | 'K' => (text.get(..text.len() - 1)?, 1 << 10),
        'm' | 'M' => (text.get(..text.len() - 1)?, 1 << 20),
        _ => (text, 1 << 10),
    };
    let len: u32 = number(digits, 1, u32::MAX)?.checked_mul(unit)?;
    (len.is_power_of_two() && (16 << 10..=512 << 20).contains(&len)).then_some(len)
}

/// The error for an unknown option, with the nearest known one.
pub fn unknown(help: &'static str, option: &str) -> Stop {
    let shown = escape(option);
    let command = table::command(help);
    let known: Vec<&str> = options(help).map(|option| option.name).collect();
    Stop::Usage(match nearest(option, &known) {
        Some(near) => format!("{command} has no option {shown}; did you mean {near}?"),
        None => format!("{command} has no option {shown}"),
    })
}

/// The error for a superfluous argument.
pub fn surplus(command: &str, value: &OsStr) -> Stop {
    let shown = escape(value.as_encoded_bytes());
    Stop::Usage(format!("{command} has no use for \"{shown}\""))
}

/// The one of `known` that is nearest to what was typed, if one is near enough.
pub fn nearest<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = (typed.chars().count() / 3).min(3);
    known
        .iter()
        .map(|known| (distance(typed, known), *known))
        .filter(|&(distance, known)| distance <= allowed || is_start(typed, known))
        .min()
        .map(|(_, known)| known)
}

/// The error for a missing argument.
pub fn missing(command: &str, what: &str) -> Stop {
    Stop::Usage(format!("{command} needs {what}"))
}

/// The value of an option, as a path.
pub fn path_of(parser: &mut Parser, option: &str) -> Result<PathBuf, Stop> {
    match value(parser)? {
        empty if empty.is_empty() => Err(Stop::Usage(format!("{option}: the path is empty"))),
        path => Ok(path.into()),
    }
}

/// A path: anything but empty.
pub fn path(value: OsString) -> Result<PathBuf, Stop> {
    if value == OsStr::new("") {
        return Err(Stop::Usage("an empty path names nothing".to_owned()));
    }
    Ok(value.into())
}

fn usage(error: lexopt::Error) -> Stop {
    let text = match error {
        lexopt::Error::MissingValue { option } => match option {
            Some(option) => format!("{option} needs a value"),
            None => "a value is missing".to_owned(),
        },
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        other => other.to_string(),
    };
    Stop::Usage(escape(&text).to_string())
}

/// A umask in octal digits. It may not take the owner's own permissions away.
pub(crate) fn umask(text: &str) -> Option<u32> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    let mask = u32::from_str_radix(text, 8).ok().filter(|_| digits)?;
    (mask <= 0o077).then_some(mask)
}

/// The number of a group, given by name or number, if this process may give files to it.
pub(crate) fn group(text: &str) -> Result<u32, Stop> {
    let groups = std::fs::read("/etc/group").unwrap_or_default();
    let Some(number) = group_number(&groups, text) else {
        return Err(Stop::Usage(format!(
            "--group: there is no group {text:?} in /etc/group; make it, or give its number"
        )));
    };
    let is_number = |group: &rustix::process::Gid| group.as_raw() == number;
    let of_ours = rustix::process::getgroups().unwrap_or_default();
    let may = rustix::process::geteuid().is_root()
        || is_number(&rustix::process::getegid())
        || of_ours.iter().any(is_number);
    match may {
        true => Ok(number),
        false => Err(Stop::Usage(format!(
            "--group: the user of everseed is not in the group {text:?}, so it may give no files to it; add it there \
             (usermod -aG), and start everseed anew"
        ))),
    }
}

fn group_number(groups: &[u8], text: &str) -> Option<u32> {
    let of_name = groups.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let is_it = fields.next() == Some(text.as_bytes()) && !text.is_empty();
        let number = std::str::from_utf8(fields.nth(1)?).ok();
        number.filter(|_| is_it)?.parse().ok()
    });
    // The highest number means "no change", and belongs to no group.
    of_name.or_else(|| number(text, 0, u32::MAX - 1))
}

/// `digits`, with at most a few decimals, times `unit`.
fn scaled(digits: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = number(whole, 0, u64::MAX)?;
    if !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let decimals = decimals.get(..decimals.len().min(6))?;
    let part = decimals.parse().unwrap_or(0_u64);
    let places = 10_u64.pow(u32::try_from(decimals.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(part * unit / places)
}

fn is_start(typed: &str, known: &str) -> bool {
    typed.len() >= 4 && known.starts_with(typed)
}

/// The edit distance: letters to change, add, drop or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let good = [
            ("1", 1),
            ("250000", 250_000),
            ("500k", 500_000),
            ("500K", 500_000),
            ("2M", 2_000_000),
            ("2MB/s", 2_000_000),
            ("1.5MiB/s", 1_572_864),
            ("0.5k", 500),
            ("64Ki", 65_536),
            ("1G", 1_000_000_000),
            ("100/s", 100),
            ("1.0009k", 1000),
            ("1.000000999999M", 1_000_000),
            ("1.M", 1_000_000),
        ];
        for (text, bytes) in good {
            assert_eq!(rate(text), Some(bytes), "{text}");
        }
        for bad in [
            "",
            "0",
            "k",
            "-1",
            "+1",
            "1x",
            "1.5.5M",
            "i",
            "1i",
            "M1",
            "1e6",
            "0.0k",
            ".",
            "1 M",
            "99999999999999999999",
            "99999999999G",
            "é",
            "½M",
        ] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn piece_lengths() {
        let good = [
            ("16", 16 << 10),
            ("256k", 256 << 10),
            ("256KiB", 256 << 10),
            ("4M", 4 << 20),
            ("4MiB", 4 << 20),
            ("512M", 512 << 20),
        ];
        for (text, bytes) in good {
            assert_eq!(piece_len(text), Some(bytes), "{text}");
        }
        for bad in ["", "0", "8", "24", "1024M", "16384x", "4294967296M", "é"] {
            assert_eq!(piece_len(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_may_write() {
        for (text, mask) in [
            ("002", Some(2)),
            ("022", Some(0o22)),
            ("0077", Some(0o77)),
            ("0", Some(0)),
            ("700", None),
            ("0o22", None),
            ("+22", None),
            ("008", None),
            ("00022", None),
            ("", None),
        ] {
            assert_eq!(umask(text), mask, "{text}");
        }
        let groups = b"root:x:0:\nmedia:x:1003:anna,otto\n1003:x:7:\nbroken\nodd:x:many:\n";
        for (text, number) in [
            ("media", Some(1003)),
            ("1003", Some(7)),
            ("1004", Some(1004)),
            ("4294967295", None),
            ("broken", None),
            ("odd", None),
            ("med", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(group_number(groups, text), number, "{text}");
        }
    }

    #[test]
    fn suggestions() {
        let known = [
            "--listen",
            "--state",
            "--slots",
            "--max-peers",
            "--up",
            "-t",
        ];
        let cases = [
            ("--lisen", Some("--listen")),
            ("--slot", Some("--slots")),
            ("--stats", Some("--state")),
            ("--max", Some("--max-peers")),
            ("--pu", Some("--up")),
            ("--nonsense", None),
            ("-x", None),
        ];
        for (typed, near) in cases {
            assert_eq!(nearest(typed, &known), near, "{typed}");
        }
    }

    const TRY: &str =
        "everseed show - x\n\nOptions:\n  -s, --slots N  many\n  -h, --help     this\n";

    #[test]
    fn complaints_name_the_option() {
        let says = |text: &str| Stop::Usage(text.to_owned());
        assert_eq!(
            unknown(TRY, "--hlep"),
            says("show has no option --hlep; did you mean --help?")
        );
        assert_eq!(unknown(TRY, "-\x1b"), says(r"show has no option -\u{1b}"));
        assert_eq!(
            surplus("show", OsStr::new("two")),
            says("show has no use for \"two\"")
        );
        let mut parser = Parser::from_args(["--slots", "many"]);
        let slots = Argument::Option("--slots");
        assert_eq!(next(&mut parser, TRY), Ok(Some(slots.clone())));
        let few = |text: &str| number(text, 1_u16, 9);
        assert_eq!(
            parsed(&mut parser, "--slots", "a number from 1 to 9", few),
            Err(says("--slots: \"many\" is not a number from 1 to 9"))
        );
        assert_eq!(next(&mut parser, TRY), Ok(None));
        // By its letter it is the same option.
        let mut parser = Parser::from_args(["-s3", "-x"]);
        assert_eq!(next(&mut parser, TRY), Ok(Some(slots)));
        assert_eq!(value(&mut parser), Ok("3".into()));
        let stop = says("show has no option -x");
        assert_eq!(next(&mut parser, TRY), Err(stop));
        for (args, stop) in [
            (["-h"], Stop::Print(TRY)),
            (["--version"], Stop::Print(VERSION)),
        ] {
            assert_eq!(next(&mut Parser::from_args(args), TRY), Err(stop));
        }
    }
}
