//! Reads from the text of a crate's files which modules each module imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The code of each module, without comments and tests, by the module's path.
pub(crate) type Modules = BTreeMap<String, String>;

/// Every module of the crate whose sources are in `src`.
pub(crate) fn modules(src: &Path) -> Modules {
    let mut modules = Modules::new();
    for path in files(src) {
        let inside = path.strip_prefix(src).unwrap().with_extension("");
        let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        let name = parts.join("::");
        let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
        let text = without_tests(&fs::read_to_string(&path).unwrap());
        let code = text.lines().filter(|line| !line.trim().starts_with("//"));
        modules.insert(name, code.collect::<Vec<_>>().join("\n"));
    }
    modules
}

fn files(src: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![src.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|ext| ext == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files
}

/// A file's text without its `mod tests { .. }`. Tests in a file of their own count as a module.
fn without_tests(text: &str) -> String {
    let (mut kept, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            kept += line;
            kept += "\n";
            continue;
        }
        let item = lines.find(|line| !line.starts_with("#["));
        if item.is_some_and(|item| item.ends_with('{')) {
            let _end = lines.find(|&line| line == "}");
        }
    }
    kept
}

/// The modules that a module names, by `crate::`, `super::`, `self::` or the name of a child.
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
    let children = format!("{name}::");
    for child in modules.keys() {
        let child = match name {
            "lib" => Some(child.as_str()),
            _ => child.strip_prefix(&children),
        };
        if let Some(child) = child.filter(|child| !child.contains("::")) {
            for (at, _) in code.match_indices(&format!("{child}::")) {
                if code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
                    continue;
                }
                for path in named(&code[at..]) {
                    found.extend(resolve(name, &format!("self::{path}"), modules));
                }
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

/// The module that `path` leads to, as written in the module `name`. `None` if it is that module itself.
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

/// The modules that import themselves through others.
pub(crate) fn circles(modules: &Modules) -> BTreeSet<String> {
    let arrows = modules.keys().map(|name| {
        let to = imports(name, modules);
        (name.clone(), to)
    });
    circles_of(&arrows.collect())
}

/// The rooms that import themselves through others. A room is a folder or file at the top of the sources.
#[allow(dead_code)] // Not every crate has such rooms.
pub(crate) fn circles_of_rooms(modules: &Modules) -> BTreeSet<String> {
    let room = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    let mut arrows = Arrows::new();
    for name in modules.keys().filter(|name| *name != "lib") {
        let to = imports(name, modules);
        let to = to.iter().map(|to| room(to)).filter(|to| *to != room(name));
        arrows.entry(room(name)).or_default().extend(to);
    }
    circles_of(&arrows)
}

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn circles_of(arrows: &Arrows) -> BTreeSet<String> {
    let names = arrows.keys().filter(|name| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*name]);
        while let Some(at) = next.pop() {
            next.extend(arrows[at].iter().filter(|to| seen.insert(*to)));
        }
        seen.contains(*name)
    });
    names.cloned().collect()
}

/// The files with more than 600 lines, tests included, with their number of lines.
pub(crate) fn long_files(src: &Path) -> Vec<(PathBuf, usize)> {
    let lines = |path: PathBuf| {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        (path.strip_prefix(src).unwrap().to_owned(), lines)
    };
    let files = files(src).into_iter().map(lines);
    files.filter(|&(_, lines)| lines > 600).collect()
}
