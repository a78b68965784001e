//! Man pages and completions have every command and option of `--help`, and the programs that read them find no fault.

use std::path::PathBuf;
use std::process::{Command, Output};

use everseed::cli::{COMMANDS, HELP};
use everseed::options::table::{CliOption, options};

#[path = "../packages/pages.rs"]
mod pages;

use pages::{Follows, follows};

/// Every command and each of its options.
fn all() -> Vec<(&'static str, CliOption)> {
    let commands = COMMANDS.iter().filter(|(_, help)| *help != HELP);
    let all = commands.flat_map(|(command, help)| options(help).map(|option| (*command, option)));
    let all: Vec<_> = all.collect();
    assert!(all.len() > 80, "the tables are read");
    all
}

fn file(name: &str) -> String {
    let files = pages::files("2026-01-01");
    let file = files.into_iter().find(|(file, _)| file == name);
    file.unwrap_or_else(|| panic!("{name}")).1
}

#[test]
fn every_option_is_in_its_man_page() {
    for (command, option) in all() {
        let page = file(&format!("everseed-{command}.1"));
        let roff = |text: &str| text.replace('-', "\\-");
        let letter = option.short.map(|letter| format!("\\-{letter}, "));
        let head = format!(
            "\\fB{}{}\\fR",
            letter.unwrap_or_default(),
            roff(option.name)
        );
        assert!(page.contains(&head), "{command}: {head}");
        assert!(page.contains(option.value), "{command}: {head}");
    }
    let main = file("everseed.1");
    for (command, _) in COMMANDS {
        assert!(main.contains(&format!(".B {command}")), "{command}");
    }
}

#[test]
fn every_option_is_completed() {
    let (bash, zsh, fish) = (
        file("everseed.bash"),
        file("_everseed"),
        file("everseed.fish"),
    );
    for (command, option) in all() {
        let name = option.name;
        let words = bash.lines().find(|line| {
            let line = line.trim();
            line.starts_with(&format!("{command}) _everseed_words"))
        });
        let words: Vec<&str> = words.unwrap().split(' ').collect();
        assert!(words.contains(&name), "bash: {command} {name}");
        let case = zsh.split_once(&format!("    {command})\n")).unwrap().1;
        let case = case.split_once(";;").unwrap().0;
        let value = if option.value.is_empty() { "" } else { "=" };
        let spec = format!("{name}{value}[");
        assert!(case.contains(&spec), "zsh: {command} {name}");
        let seen = format!("__fish_seen_subcommand_from {command}'");
        let long = format!(" -l {} ", &name[2..]);
        let found = fish
            .lines()
            .find(|line| line.contains(&seen) && line.contains(&long));
        let found = found.unwrap_or_else(|| panic!("fish: {command} {name}"));
        if let Some(letter) = option.short {
            assert!(
                words.contains(&&*format!("-{letter}")),
                "bash: {command} -{letter}"
            );
            assert!(
                case.contains(&format!("-{letter}")),
                "zsh: {command} -{letter}"
            );
            assert!(
                found.contains(&format!(" -s {letter} ")),
                "fish: {command} -{letter}"
            );
        }
    }
}

/// If a help names a few words to choose from, these are completed.
#[test]
fn choices_are_completed() {
    for (command, option) in all() {
        if let Follows::OneOf(words) = follows(&option) {
            let few = (2..5).contains(&words.len());
            let plain = words
                .iter()
                .all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert!(few && plain, "{command} {}: {words:?}", option.name);
        }
    }
    let seed = COMMANDS.iter().find(|(command, _)| *command == "seed");
    let check = options(seed.unwrap().1).find(|option| option.name == "--check");
    assert_eq!(
        follows(&check.unwrap()),
        Follows::OneOf(vec!["first", "lazy"])
    );
}

/// Programs that read such files report no fault. Programs that are not installed are left out.
#[test]
fn their_readers_take_them() {
    let folder = Folder::new();
    let mut files = Vec::new();
    for (name, text) in pages::files("2026-01-01") {
        std::fs::write(folder.0.join(&name), text).unwrap();
        files.push(name);
    }
    let of = |ends: &str| -> Vec<&String> { files.iter().filter(|f| f.ends_with(ends)).collect() };
    for page in of(".1") {
        folder.quiet(&["groff", "-ww", "-man", "-Tutf8", "-z", page]);
        folder.quiet(&["mandoc", "-T", "lint", "-W", "warning", page]);
    }
    folder.quiet(&["shellcheck", "-s", "bash", "everseed.bash"]);
    folder.quiet(&["bash", "-n", "everseed.bash"]);
    folder.quiet(&["zsh", "-n", "_everseed"]);
    folder.quiet(&["fish", "-n", "everseed.fish"]);
    let ask = "source ./everseed.bash; COMP_WORDS=(everseed \"$@\"); COMP_CWORD=$#; \
               _everseed 2>/dev/null; echo \"${COMPREPLY[*]}\"";
    let cases: [(&[&str], &str); 6] = [
        (&["s"], "seed show"),
        (&["get", "--pre"], "--prealloc"),
        (&["get", "--prealloc", ""], "full sparse"),
        (&["get", "--prealloc", "=", "sp"], "sparse"),
        (&["help", "ch"], "check"),
        (&["run", "-c", "everseed.b"], "everseed.bash"),
    ];
    for (words, completed) in cases {
        let output = folder.run(&[&["bash", "-c", ask, "bash"], words].concat());
        let output = output.expect("bash is everywhere");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut found: Vec<&str> = text.split_whitespace().collect();
        found.sort_unstable();
        let found = found.join(" ");
        assert!(found.starts_with(completed), "{words:?}: {found}");
    }
    let ask = "source everseed.fish; complete -C 'everseed get --pre'; complete -C 'everseed seed --check '";
    if let Some(output) = folder.run(&["fish", "-c", ask]) {
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.lines().filter_map(|l| l.split('\t').next()).collect();
        assert_eq!(words, ["--prealloc", "first", "lazy"]);
    }
}

/// A folder for one test, removed at the test's end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("everseed-pages-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Runs a program in the folder; `None` if it is not installed.
    fn run(&self, command: &[&str]) -> Option<Output> {
        let mut program = Command::new(command[0]);
        program
            .args(&command[1..])
            .current_dir(&self.0)
            .env("HOME", &self.0);
        program.output().ok()
    }

    /// Asserts that a program succeeds and prints nothing.
    fn quiet(&self, command: &[&str]) {
        if let Some(output) = self.run(command) {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(
                output.status.success() && said.is_empty(),
                "{command:?}: {said}"
            );
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
