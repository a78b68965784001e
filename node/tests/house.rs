//! The house, drawn from the imports: arrows go down only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the crate with the code of its file, without comments and tests.
fn modules() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut modules) = (vec![src.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let inside = path.strip_prefix(&src).unwrap().with_extension("");
                let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
                let name = parts.join("::");
                let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod").next().unwrap();
                let code = text.lines().filter(|line| !line.trim().starts_with("//"));
                modules.insert(name, code.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    modules
}

/// The modules that the code names by `crate::`, but for those that it is part of.
fn imports(code: &str, modules: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let base = path[..end.unwrap_or(path.len())].trim_end_matches(':');
        let list = end
            .and_then(|end| path[end..].strip_prefix('{'))
            .and_then(|rest| rest.split('}').next());
        let items = list.map_or(vec![""], |list| list.split(',').collect());
        for item in items {
            let mut path = format!("{base}::{}", item.trim());
            while !modules.contains_key(&path) {
                match path.rfind("::") {
                    Some(at) => path.truncate(at),
                    None => break,
                }
            }
            found.insert(path);
        }
    }
    found.retain(|module| modules.contains_key(module));
    found
}

#[test]
fn no_file_imports_another_in_a_circle() {
    let modules = modules();
    assert!(modules.len() > 30 && modules.contains_key("download::requester"));
    let arrows: BTreeMap<_, _> = modules
        .iter()
        .map(|(name, code)| (name.clone(), imports(code, &modules)))
        .collect();
    // Whoever imports nothing that is left is taken away, until nobody is: what stays is a circle.
    let mut left: BTreeSet<String> = modules.keys().cloned().collect();
    loop {
        let leaf = left.iter().find(|&name| {
            let inside = |to: &&String| *to != name && left.contains(*to);
            !arrows[name].iter().any(|to| inside(&to))
        });
        let Some(leaf) = leaf.cloned() else { break };
        left.remove(&leaf);
    }
    assert!(left.is_empty(), "in circles, or above one: {left:?}");
}

#[test]
fn rooms_name_only_those_below() {
    let modules = modules();
    let below = |above: &str, rooms: &[&str]| {
        for (name, code) in modules.iter().filter(|(name, _)| name.starts_with(above)) {
            for to in imports(code, &modules) {
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
