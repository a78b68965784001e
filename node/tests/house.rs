//! The imports between the crate's files: each room imports only rooms below it.

mod imports;

use std::path::Path;

use imports::{Modules, circles, imports, long_files};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

fn modules() -> Modules {
    imports::modules(Path::new(SRC))
}

#[test]
fn no_file_imports_another_in_a_circle() {
    let modules = modules();
    assert!(modules.len() > 30 && modules.contains_key("download::requester"));
    let circles = circles(&modules);
    assert!(circles.is_empty(), "in circles: {circles:?}");
}

#[test]
fn rooms_name_only_those_below() {
    let modules = modules();
    let below = |above: &str, rooms: &[&str]| {
        for name in modules.keys().filter(|name| name.starts_with(above)) {
            for to in imports(name, &modules) {
                let room = rooms.iter().find(|&&room| to.starts_with(room));
                assert_eq!(room, None, "{name} names {to}");
            }
        }
    };
    below(
        "upload",
        &["download", "swarm", "discovery", "node", "commands"],
    );
    below(
        "download",
        &["upload", "swarm", "discovery", "node", "commands"],
    );
    below(
        "discovery",
        &["upload", "download", "swarm", "node", "commands"],
    );
    below("peer", &["swarm", "discovery", "node", "commands"]);
    below(
        "torrent",
        &["upload", "swarm", "discovery", "node", "commands"],
    );
    below("swarm", &["node", "commands"]);
}

#[test]
fn the_node_only_routes() {
    for (name, code) in modules() {
        let its = ["node", "commands"].contains(&name.as_str());
        assert!(
            its || !code.contains("Node<'m> {\n    "),
            "{name} has functions of the node"
        );
        assert!(
            its || !code.contains("impl Node<"),
            "{name} has functions of the node"
        );
    }
}

#[test]
fn files_are_short() {
    assert_eq!(long_files(Path::new(SRC)), []);
}

/// Circles that earlier versions of this test missed.
#[test]
fn a_circle_is_seen_however_it_is_written() {
    let folder = std::env::temp_dir().join(format!("everseed-house-{}", std::process::id()));
    for (name, parent, child, expected) in [
        ("none", "mod child;", "fn f() {}", false),
        ("a use", "mod child;\nuse child::F;", "use super::G;", true),
        (
            "a path without a use",
            "mod child;\nfn f(x: child::F) {}",
            "use super::G;",
            true,
        ),
        (
            "below a module of tests that is a file of its own",
            "mod child;\n#[cfg(test)]\nmod tests;\nuse child::F;",
            "use super::G;",
            true,
        ),
        (
            "below tests",
            "mod child;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\nuse child::F;",
            "use super::G;",
            true,
        ),
        (
            "in tests alone",
            "mod child;\n#[cfg(test)]\nmod tests {\n    use super::child::F;\n}\n",
            "use super::G;",
            false,
        ),
        (
            "in a doc",
            "mod child;\n/// See [`child::F`].\nfn f() {}",
            "use super::G;",
            false,
        ),
    ] {
        std::fs::create_dir_all(folder.join("parent")).unwrap();
        std::fs::write(folder.join("parent/mod.rs"), parent).unwrap();
        std::fs::write(folder.join("parent/child.rs"), child).unwrap();
        let circles = circles(&imports::modules(&folder));
        assert_eq!(!circles.is_empty(), expected, "{name}: {circles:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
