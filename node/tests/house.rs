//! The house, drawn from the imports: arrows go down only.

mod imports;

use std::path::Path;

use imports::{Modules, circles, imports};

fn modules() -> Modules {
    imports::modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
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
        assert!(code.lines().count() <= 600, "{name} is too long");
    }
}
