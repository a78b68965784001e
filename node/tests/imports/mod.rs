//! Which module of a crate names which, read from the text of its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The code of each module, without comments and tests, by the module's path.
pub(crate) type Modules = BTreeMap<String, String>;

/// Every module of the crate whose sources are in `src`.
pub(crate) fn modules(src: &Path) -> Modules {
    let (mut folders, mut modules) = (vec![src.to_owned()], Modules::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let inside = path.strip_prefix(src).unwrap().with_extension("");
                let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
                let name = parts.join("::");
                let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let tests = ["#[cfg(test)]\nmod", "#[cfg(test)]\n#[allow"];
                let end = tests.iter().filter_map(|tests| text.find(tests)).min();
                let text = &text[..end.unwrap_or(text.len())];
                let code = text.lines().filter(|line| !line.trim().starts_with("//"));
                modules.insert(name, code.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    modules
}

/// The modules that a module names: by `crate::`, `super::` or `self::`, or by the name of a child in a `use`.
pub(crate) fn imports(name: &str, modules: &Modules) -> BTreeSet<String> {
    let code = &modules[name];
    let mut found = BTreeSet::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            // `super::super::` is read at its first word.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
                continue;
            }
            for path in named(&code[at..]) {
                found.extend(resolve(name, &path, modules));
            }
        }
    }
    for line in code.lines().map(str::trim_start) {
        let child = line
            .split_once("use ")
            .filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        for path in child.into_iter().flat_map(|(_, path)| named(path)) {
            let first = path.split("::").next().unwrap_or_default();
            let child = match name {
                "lib" => first.to_owned(),
                _ => format!("{name}::{first}"),
            };
            if modules.contains_key(&child) {
                found.extend(resolve(name, &format!("self::{path}"), modules));
            }
        }
    }
    found
}

/// The paths at the start of `text`: one, or each of a list in braces.
fn named(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let (base, rest) = text.split_at(end.unwrap_or(text.len()));
    let Some(list) = rest.strip_prefix('{') else {
        return vec![base.trim_end_matches(':').to_owned()];
    };
    let (mut depth, mut items, mut item) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    items.push(item);
    let items = items.iter().map(|item| item.trim());
    let items = items.filter(|item| !item.is_empty());
    items
        .flat_map(|item| named(&format!("{base}{item} ")))
        .collect()
}

/// The module that `path`, as it is written in the module `name`, is in, unless that is the module itself.
fn resolve(name: &str, path: &str, modules: &Modules) -> Option<String> {
    let mut at: Vec<&str> = name.split("::").filter(|_| name != "lib").collect();
    for word in path.split("::") {
        match word {
            "crate" => at.clear(),
            "self" => {}
            "super" => _ = at.pop(),
            word => at.push(word),
        }
    }
    let mut lengths = (1..=at.len()).rev();
    let module = lengths.find_map(|len| {
        let module = at[..len].join("::");
        modules.contains_key(&module).then_some(module)
    })?;
    (module != name).then_some(module)
}

/// The modules that import themselves by way of others.
pub(crate) fn circles(modules: &Modules) -> BTreeSet<String> {
    let arrows: BTreeMap<_, _> = modules
        .keys()
        .map(|name| (name, imports(name, modules)))
        .collect();
    let names = modules.keys().filter(|name| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*name]);
        while let Some(at) = next.pop() {
            next.extend(arrows[at].iter().filter(|to| seen.insert(*to)));
        }
        seen.contains(name)
    });
    names.cloned().collect()
}
