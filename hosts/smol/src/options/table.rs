//! The options of a command, read from the text of its `--help`, which is their only table. Arguments are parsed by
//! it; the configuration file's keys, suggestions, man pages and completions come from it. So none of them can have
//! an option that the help lacks.
//!
//! ```text
//! Options:
//!   -o, --out DIR        what it does
//!       --private, --piece-size SIZE
//!                        what these do
//! ```
//!
//! Lines that begin with a dash name options, each with its value if it has one, separated by commas. The text
//! follows on the same line and on the lines below. A blank line ends the list.

/// One option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CliOption {
    /// Its letter, as in `-o`.
    pub short: Option<char>,
    /// Its name with dashes: `--out`.
    pub name: &'static str,
    /// The name of its value in the help; empty if it has none.
    pub value: &'static str,
    /// The text about it; empty if the next options share the text.
    pub text: &'static str,
}

/// Other names of options, as transmission-create has them.
const ALIASES: &[(&str, &str)] = &[("webseed", "web-seed"), ("piecesize", "piece-size")];

/// The command of a help text: `everseed get - ...`. The general help belongs to the command `help`.
pub fn command(help: &'static str) -> &'static str {
    match help.split(' ').nth(1) {
        None | Some("-") => "help",
        Some(command) => command,
    }
}

/// The options of a help text, in its order.
pub fn options(help: &'static str) -> OptionList {
    let list = help.split_once("\nOptions:\n").map_or("", |(_, list)| list);
    let list = list.split_once("\n\n").map_or(list, |(list, _)| list);
    OptionList { list, more: false }
}

/// The option with this name or alias, written without dashes.
pub(crate) fn by_name(help: &'static str, name: &str) -> Option<CliOption> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    options(help).find(|option| option.name.strip_prefix("--") == Some(name))
}

/// The option with this letter.
pub(crate) fn by_letter(help: &'static str, letter: char) -> Option<CliOption> {
    options(help).find(|option| option.short == Some(letter))
}

/// The iterator of [`options`].
#[derive(Clone, Debug)]
pub struct OptionList {
    list: &'static str,
    /// Whether another option follows on the same line.
    more: bool,
}

impl Iterator for OptionList {
    type Item = CliOption;

    fn next(&mut self) -> Option<CliOption> {
        while !self.more {
            let line = self.list.trim_start_matches(' ');
            if line.is_empty() {
                return None;
            }
            self.more = line.starts_with('-');
            self.list = match self.more {
                true => line,
                false => line.split_once('\n').map_or("", |(_, rest)| rest),
            };
        }
        let mut short = None;
        let rest = self.list;
        if let (Some((letter, long)), false) = (rest.split_once(", "), rest.starts_with("--")) {
            short = letter.chars().nth(1);
            self.list = long;
        }
        let name = self.word();
        let value = match self.list.strip_prefix(' ') {
            Some(rest) if !rest.starts_with([' ', '\n']) => {
                self.list = rest;
                self.word()
            }
            _ => "",
        };
        let text = match self.list.strip_prefix(',') {
            Some(rest) => {
                self.list = rest.trim_start();
                ""
            }
            None => {
                self.more = false;
                let text = self.list;
                let end = text.match_indices('\n').find(|(at, _)| {
                    let line = &text[at + 1..];
                    line.trim_start_matches(' ').starts_with('-')
                });
                let (text, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at + 1));
                self.list = rest;
                text.trim()
            }
        };
        Some(CliOption {
            short,
            name,
            value,
            text,
        })
    }
}

impl OptionList {
    /// Takes the text up to the next comma, space or end of line.
    fn word(&mut self) -> &'static str {
        let end = self.list.find([',', ' ', '\n']).unwrap_or(self.list.len());
        let (word, rest) = self.list.split_at(end);
        self.list = rest;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, COMMANDS};

    const TABLE: &str = "everseed try - an example\n\nUsage: try\n\nOptions:\n  \
        -o, --out DIR   where\n                  to\n      --flag      alone\n      \
        --listen IP|INTERFACE\n                  below\n      --a, -b, --bee TEXT,\n      \
        --c URL\n                  of all three\n  -h, --help      print this\n\n  --no option\n";

    #[test]
    fn read_from_help() {
        let read: Vec<_> = options(TABLE)
            .map(|o| (o.short, o.name, o.value, o.text))
            .collect();
        let expected = [
            (Some('o'), "--out", "DIR", "where\n                  to"),
            (None, "--flag", "", "alone"),
            (None, "--listen", "IP|INTERFACE", "below"),
            (None, "--a", "", ""),
            (Some('b'), "--bee", "TEXT", ""),
            (None, "--c", "URL", "of all three"),
            (Some('h'), "--help", "", "print this"),
        ];
        assert_eq!(read, expected);
        assert_eq!(command(TABLE), "try");
    }

    /// The help is in the form that is read here: nothing is said twice, and nothing is left over.
    #[test]
    fn every_help_has_the_form() {
        for (command, help) in COMMANDS {
            if *help == cli::HELP {
                continue;
            }
            assert_eq!(super::command(help), *command);
            let all: Vec<CliOption> = options(help).collect();
            for (number, option) in all.iter().enumerate() {
                let name = option.name.strip_prefix("--").unwrap();
                let plain = |c: char| c.is_ascii_lowercase() || c == '-';
                assert!(
                    name.len() > 1 && name.chars().all(plain),
                    "{command} {name}"
                );
                let value = |c: char| c.is_ascii_uppercase() || "[]:|=".contains(c);
                assert!(option.value.chars().all(value), "{command} {option:?}");
                let mut before = all[..number].iter();
                assert!(
                    before.all(|other| other.name != option.name
                        && (option.short.is_none() || other.short != option.short)),
                    "{command} {name} is there twice"
                );
            }
            assert!(
                all.iter()
                    .all(|o| !o.text.is_empty() || o != all.last().unwrap())
            );
            for last in ["--help", "--version"] {
                assert!(all.iter().any(|o| o.name == last), "{command} {last}");
            }
        }
    }
}
