//! Writes man pages and shell completions of all commands, made from what `--help` prints:
//!
//! ```text
//! cargo run -p everseed --example pages -- FOLDER
//! ```
//!
//! FOLDER gets `everseed.1`, `everseed-COMMAND.1` for each command, and `everseed.bash`, `_everseed` (zsh) and
//! `everseed.fish`. The pages carry the day of `SOURCE_DATE_EPOCH`.

use std::fmt::Write;
use std::path::Path;

use everseed::cli::{COMMANDS, HELP};
use everseed::options::table::{CliOption, options};
use everseed::text::date;

#[allow(dead_code, reason = "tests take the functions alone")]
fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: pages FOLDER");
        std::process::exit(2);
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let day = epoch.and_then(|s| s.parse().ok()).map(date);
    let day = day.as_deref().and_then(|day| day.get(..10)).unwrap_or("");
    for (name, text) in files(day) {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// All files: their names and what is in them.
pub(crate) fn files(day: &str) -> Vec<(String, String)> {
    let pages = commands().map(|(command, help)| {
        let name = format!("everseed-{command}");
        (format!("{name}.1"), page(&name, help, day))
    });
    let mut files: Vec<(String, String)> = pages.collect();
    files.push(("everseed.1".to_owned(), page("everseed", HELP, day)));
    files.push(("everseed.bash".to_owned(), bash()));
    files.push(("_everseed".to_owned(), zsh()));
    files.push(("everseed.fish".to_owned(), fish()));
    files
}

/// All but `help`, which has no help of its own.
fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.iter().copied().filter(|(_, help)| *help != HELP)
}

/// What a command is for, as its help begins.
fn purpose(help: &'static str) -> &'static str {
    let first = help.lines().next().unwrap_or("");
    first
        .split_once(" - ")
        .map_or(first, |(_, purpose)| purpose)
}

// Man pages.

fn page(name: &str, help: &'static str, day: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH {} 1 \"{day}\" \"everseed {version}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase(),
        roff(name),
        roff(purpose(help))
    );
    let mut section = "NAME";
    let mut enter = |page: &mut String, next: &'static str| {
        let begins = section != next;
        section = next;
        match begins {
            true => writeln!(page, ".SH {next}"),
            false => writeln!(page, ".PP"),
        }
        .expect("text takes all");
    };
    // The first line is the name.
    let rest = help.split_once('\n').map_or("", |(_, rest)| rest);
    let mut described = false;
    for paragraph in rest.split("\n\n").map(|text| text.trim_matches('\n')) {
        let (first, below) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        if let Some(usage) = first.strip_prefix("Usage: ") {
            enter(&mut page, "SYNOPSIS");
            page += &format!(".B {}\n", roff(usage));
            described = true;
        } else if first == "Options:" {
            enter(&mut page, "OPTIONS");
            page += &option_list(help);
        } else if first == "Commands:" {
            enter(&mut page, "COMMANDS");
            for line in below.lines() {
                let (command, text) = line.trim().split_once("  ").unwrap_or((line, ""));
                page += &format!(".TP\n.B {}\n{}\n", roff(command), roff(text.trim()));
            }
        } else if first == "Examples:" {
            enter(&mut page, "EXAMPLES");
            page += &format!(".nf\n{}\n.fi\n", roff(below));
        } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            enter(&mut page, "EXIT STATUS");
            page += &format!("{}\n", roff(codes));
        } else if paragraph.starts_with("EVERSEED_") {
            enter(&mut page, "ENVIRONMENT");
            page += &format!("{}\n", roff(paragraph));
        } else if !paragraph.is_empty() {
            let notes = described && page.contains(".SH OPTIONS");
            enter(&mut page, if notes { "NOTES" } else { "DESCRIPTION" });
            page += &format!("{}\n", roff(paragraph));
        }
    }
    let mut others: Vec<String> = commands()
        .map(|(command, _)| format!("everseed-{command}"))
        .chain(["everseed".to_owned()])
        .filter(|other| other != name)
        .map(|other| format!(".BR {} (1)", roff(&other)))
        .collect();
    others.sort();
    page + ".SH SEE ALSO\n" + &others.join(",\n") + "\n"
}

fn option_list(help: &'static str) -> String {
    let mut list = String::new();
    let mut together = Vec::new();
    for option in options(help) {
        let letter = option.short.map_or(String::new(), |c| format!("-{c}, "));
        let name = format!("\\fB{}{}\\fR", roff(&letter), roff(option.name));
        together.push(match option.value {
            "" => name,
            value => format!("{name} \\fI{}\\fR", roff(value)),
        });
        if !option.text.is_empty() {
            let heads = std::mem::take(&mut together).join(", ");
            list += &format!(".TP\n{heads}\n{}\n", roff(&one_line(option.text)));
        }
    }
    list
}

/// Text as troff takes it for no command of its own.
fn roff(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '`' => out += "\\(ga",
            '^' => out += "\\(ha",
            '~' => out += "\\(ti",
            '.' if out.is_empty() || out.ends_with('\n') => out += "\\&.",
            c => out.push(c),
        }
    }
    out
}

// Completions.

/// What may follow an option.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Follows {
    Nothing,
    Folder,
    File,
    OneOf(Vec<&'static str>),
    /// Something that nobody can guess.
    Text,
}

pub(crate) fn follows(option: &CliOption) -> Follows {
    match option.value {
        "" => Follows::Nothing,
        "DIR" => Follows::Folder,
        "FILE" | "OUT" | "N=PATH" => Follows::File,
        "HOW" | "WHEN" | "WHICH" => Follows::OneOf(choices(option.text)),
        _ => Follows::Text,
    }
}

/// The words of `one or two, ...`, or of `one: this; two: that`.
fn choices(text: &'static str) -> Vec<&'static str> {
    let mut words = text.split([' ', '\n', ',']);
    if let (Some(one), Some("or"), Some(other)) = (words.next(), words.next(), words.next()) {
        return vec![one, other];
    }
    let parts = text.split(';').filter_map(|part| {
        let (word, _) = part.trim().split_once(':')?;
        (!word.contains(char::is_whitespace)).then_some(word)
    });
    parts.collect()
}

/// The options of a command, each with a text of one line.
fn told(help: &'static str) -> Vec<(CliOption, String)> {
    let all: Vec<CliOption> = options(help).collect();
    let make = COMMANDS.iter().find(|(command, _)| *command == "make");
    let told = all.iter().enumerate().map(|(at, option)| {
        let text = all[at..]
            .iter()
            .map(|o| o.text)
            .find(|text| !text.is_empty());
        let mut text = text.unwrap_or("");
        if let (true, Some((_, make))) = (text.contains("see everseed make"), make) {
            let same = options(make).find(|same| same.name == option.name);
            text = same.map_or(text, |same| same.text);
        }
        (*option, brief(text))
    });
    told.collect()
}

/// The beginning of a text, as far as it says something alone.
fn brief(text: &str) -> String {
    let line = one_line(text);
    let ends = ["; ", ". ", " (", ", as for"];
    let end = ends.iter().filter_map(|end| line.find(end)).min();
    line[..end.unwrap_or(line.len())]
        .trim_end_matches('.')
        .to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn repeats(option: &CliOption) -> bool {
    one_line(option.text).contains("repeat it")
}

/// `-o` and `--out`.
fn names(option: &CliOption) -> Vec<String> {
    let letter = option.short.map(|c| format!("-{c}"));
    letter.into_iter().chain([option.name.to_owned()]).collect()
}

fn bash() -> String {
    let mut values = String::new();
    let mut all = String::new();
    for (command, help) in commands() {
        let mut words = Vec::new();
        for option in options(help) {
            words.extend(names(&option));
            let before: Vec<String> = names(&option)
                .iter()
                .map(|name| format!("{command}:{name}"))
                .collect();
            let action = match follows(&option) {
                Follows::Nothing => continue,
                Follows::Folder => "_everseed_paths -d".to_owned(),
                Follows::File => "_everseed_paths -f".to_owned(),
                Follows::OneOf(choices) => format!("_everseed_words {}", choices.join(" ")),
                Follows::Text => "compopt +o default +o bashdefault".to_owned(),
            };
            values += &format!("    {}) {action}; return ;;\n", before.join(" | "));
        }
        all += &format!("    {command}) _everseed_words {} ;;\n", words.join(" "));
    }
    let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    let names = names.join(" ");
    format!(
        "# bash completion for everseed, made from its --help.
_everseed_words() {{
    mapfile -t COMPREPLY < <(compgen -W \"$*\" -- \"$cur\")
}}
_everseed_paths() {{
    mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$cur\")
    compopt -o filenames
}}
_everseed() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}}
    COMPREPLY=()
    # --option=value is three words here.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    if [[ $COMP_CWORD == 1 ]]; then
        _everseed_words {names} --help --version
        return
    fi
    case $command:$prev in
{values}    help:*) _everseed_words {names}; return ;;
    esac
    [[ $cur == -* ]] || return
    case $command in
{all}    esac
}}
complete -o default -o bashdefault -F _everseed everseed
"
    )
}

fn zsh() -> String {
    let quoted = |text: &str| text.replace('\'', "'\\''");
    let inside = |text: &str| quoted(&text.replace('\\', "\\\\").replace(':', "\\:"));
    let bracketed = |text: &str| inside(text).replace('[', "\\[").replace(']', "\\]");
    let mut described = String::new();
    let mut cases = String::new();
    for (command, help) in commands() {
        described += &format!("            '{command}:{}'\n", inside(purpose(help)));
        cases += &format!("    {command})\n        _arguments -s -S \\\n");
        for (option, text) in told(help) {
            let value = inside(option.value);
            let (end, action) = match follows(&option) {
                Follows::Nothing => ("", String::new()),
                Follows::Folder => ("=", format!(":{value}:_files -/")),
                Follows::File => ("=", format!(":{value}:_files")),
                Follows::OneOf(words) => ("=", format!(":{value}:({})", words.join(" "))),
                Follows::Text => ("=", format!(":{value}: ")),
            };
            let names = names(&option);
            let once = match repeats(&option) {
                true => "*".to_owned(),
                false => format!("({})", names.join(" ")),
            };
            for name in &names {
                let end = match (name.starts_with("--"), end) {
                    (false, "=") => "+",
                    (_, end) => end,
                };
                let text = bracketed(&text);
                cases += &format!("            '{once}{name}{end}[{text}]{action}' \\\n");
            }
        }
        cases += "            '*:file:_files'\n        ;;\n";
    }
    format!(
        "#compdef everseed
# zsh completion for everseed, made from its --help.
_everseed() {{
    local -a commands
    if (( CURRENT == 2 )) || [[ $words[2] == help ]]; then
        commands=(
{described}            'help:print the options of a command'
        )
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}    esac
}}
if [[ $funcstack[1] == _everseed ]]; then
    _everseed \"$@\"
else
    compdef _everseed everseed
fi
"
    )
}

fn fish() -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut out = "# fish completion for everseed, made from its --help.\n".to_owned();
    let first = "complete -c everseed -n __fish_use_subcommand";
    out += &format!("{first} -s h -l help -d 'print the commands'\n");
    out += &format!("{first} -s V -l version -d 'print the version'\n");
    out += &format!("{first} -x -a help -d 'print the options of a command'\n");
    let help_of = "complete -c everseed -n '__fish_seen_subcommand_from help' -x -a";
    for (command, help) in commands() {
        let purpose = quoted(purpose(help));
        out += &format!("{first} -x -a {command} -d '{purpose}'\n{help_of} {command}\n");
        for (option, text) in told(help) {
            let letter = option.short.map_or(String::new(), |c| format!(" -s {c}"));
            let action = match follows(&option) {
                Follows::Nothing => String::new(),
                Follows::Folder => " -x -a '(__fish_complete_directories)'".to_owned(),
                Follows::File => " -r -F".to_owned(),
                Follows::OneOf(words) => format!(" -x -a '{}'", words.join(" ")),
                Follows::Text => " -x".to_owned(),
            };
            out += &format!(
                "complete -c everseed -n '__fish_seen_subcommand_from {command}'{letter} -l {}{action} -d '{}'\n",
                option.name.trim_start_matches('-'),
                quoted(&text)
            );
        }
    }
    out
}
