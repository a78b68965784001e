//! The imports between the crate's files: each room imports only rooms below it, and only `cli` prints.

#[path = "../../../node/tests/imports/mod.rs"]
mod imports;

use std::path::Path;

use imports::{Modules, circles, circles_of_rooms, imports, long_files};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

fn modules() -> Modules {
    imports::modules(Path::new(SRC))
}

#[test]
fn no_file_imports_another_in_a_circle() {
    let modules = modules();
    assert!(modules.len() > 50 && modules.contains_key("net::engine::reactor"));
    let circles = circles(&modules);
    assert!(circles.is_empty(), "in circles: {circles:?}");
}

/// A room, and the rooms above it, which it must not import.
const ABOVE: &[(&str, &[&str])] = &[
    ("net", &["cli", "session", "client", "web", "options"]),
    (
        "storage",
        &["cli", "session", "options", "net", "client", "web"],
    ),
    ("client", &["cli", "session", "options", "web"]),
    ("web", &["cli", "session", "options", "client"]),
    ("options", &["cli", "session", "client", "web"]),
    ("session", &["cli"]),
];

#[test]
fn rooms_name_only_those_below() {
    let modules = modules();
    let is_in = |module: &str, room: &str| module.split("::").next() == Some(room);
    let mut wrong = Vec::new();
    for (room, above) in ABOVE {
        for name in modules.keys().filter(|name| is_in(name, room)) {
            let to = imports(name, &modules);
            let to = to
                .iter()
                .filter(|to| above.iter().any(|room| is_in(to, room)));
            wrong.extend(to.map(|to| format!("{name} -> {to}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Of this crate and of all others.
#[test]
fn files_are_short() {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    for folder in [
        "core",
        "hosts/async-std",
        "hosts/disk",
        "hosts/heap",
        "hosts/sim",
        "hosts/smol",
        "node",
        "tests/bare",
        "tests/benches",
        "tests/guest",
        "tests/src",
        "tests/swarm",
    ] {
        assert_eq!(long_files(&Path::new(repository).join(folder)), []);
    }
}

/// All other rooms send notices or log.
#[test]
fn only_the_command_line_prints() {
    let prints = [
        "io::stdout",
        "io::stderr",
        "println!",
        "print!",
        "text::Output",
        "text::say",
        "printing::print",
    ];
    // Rooms that print for the command line, or that write the log.
    let may = ["cli", "text", "logging", "failure", "printing"];
    let mut wrong = Vec::new();
    for (name, code) in modules() {
        let room = name.split("::").next().unwrap_or_default();
        let found = prints.iter().filter(|print| code.contains(**print));
        wrong.extend(
            found
                .filter(|_| !may.contains(&room))
                .map(|p| format!("{name}: {p}")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_room_imports_another_in_a_circle() {
    let circles = circles_of_rooms(&modules());
    assert!(circles.is_empty(), "in circles: {circles:?}");
}
