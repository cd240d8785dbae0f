//! Reads the imports of `src`, and fails if files import each other in a circle, or if a file imports
//! one of a later group of `lib.rs`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// For each file, such as `sys/wait`, the files that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports();
    for file in imports.keys() {
        if let Some(circle) = find_circle(&imports, &mut vec![file]) {
            panic!("a circle of imports: {}", circle.join(" -> "));
        }
    }
}

#[test]
fn no_file_imports_one_of_a_later_group() {
    let groups = groups();
    let group_of = |file: &str| {
        let module = file.split('/').next().unwrap();
        let group = groups.iter().position(|group| group.contains(module));
        group.unwrap_or_else(|| panic!("{module} is in no group of lib.rs"))
    };
    let imports = imports();
    for (file, imported) in imports.iter().filter(|(file, _)| *file != "lib") {
        for other in imported {
            assert!(
                group_of(other) <= group_of(file),
                "{file} imports {other}, which lib.rs has in a later group"
            );
        }
    }
}

/// Otherwise the tests above could pass because they find nothing.
#[test]
fn each_kind_of_import_is_found() {
    let imports = imports();
    for (file, imported) in [
        ("spawn", "command"),         // crate::{Command}, which lib.rs exports
        ("spawn", "prepare_spawn"),   // crate::prepare_spawn::{…}
        ("child_setup", "inherited"), // crate::{inherited}, a module
        ("control", "sys/mod"),       // crate::sys::{self}
        ("poll", "sys/errno"),        // crate::sys::{…}, which sys/mod.rs exports
        ("sys/wait", "sys/errno"),    // super::errno
        ("sys/mod", "sys/wait"),      // an export
        ("sys/wait", "usage"),        // crate::usage, from a folder
    ] {
        let found = &imports[file];
        assert!(found.contains(imported), "{file} imports {imported}: {found:?}");
    }
}

/// Follows imports from the last file of `path`; returns the circle if that leads back into `path`.
fn find_circle<'a>(imports: &'a Imports, path: &mut Vec<&'a str>) -> Option<Vec<&'a str>> {
    for next in &imports[*path.last()?] {
        let start = path.iter().position(|file| file == next);
        path.push(next);
        match start {
            Some(start) => return Some(path.split_off(start)),
            None => {
                if let Some(circle) = find_circle(imports, path) {
                    return Some(circle);
                }
            }
        }
        path.pop();
    }
    None
}

/// The modules of `lib.rs`, in groups that blank lines separate.
fn groups() -> Vec<BTreeSet<String>> {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let module = |line: &str| {
        let name = line.trim_start_matches("pub ").strip_prefix("mod ")?;
        Some(name.trim_end_matches(';').to_owned())
    };
    lib.split("\n\n").map(|group| group.lines().filter_map(module).collect()).collect()
}

fn imports() -> Imports {
    let mut sources = BTreeMap::new();
    read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    let crates = Crate::new(&sources);
    let imported = |(file, text): (&String, &String)| {
        let mut found = crates.imported_by(file, text);
        found.remove(file);
        (file.clone(), found)
    };
    sources.iter().map(imported).collect()
}

/// Reads every file, without its comments and its unit tests.
fn read_folder(folder: &Path, prefix: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            read_folder(&path, &format!("{name}/"), sources);
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        sources.insert(name, code.collect::<Vec<_>>().join("\n"));
    }
}

struct Crate<'a> {
    files: BTreeSet<&'a str>,
    /// What a file exports from others: the files, by the name of the item.
    exports: BTreeMap<(&'a str, String), String>,
}

impl<'a> Crate<'a> {
    fn new(sources: &'a BTreeMap<String, String>) -> Self {
        let mut crates =
            Crate { files: sources.keys().map(String::as_str).collect(), exports: BTreeMap::new() };
        for (file, text) in sources {
            for path in exports(text) {
                let item = path.last().unwrap().clone();
                let path = [folder_of(file), path].concat();
                let from = crates.file_of(&path);
                crates.exports.insert((file.as_str(), item), from);
            }
        }
        crates
    }

    fn imported_by(&self, file: &str, text: &str) -> BTreeSet<String> {
        let exported = self.exports.iter().filter(|((by, _), _)| *by == file);
        let mut found: BTreeSet<_> = exported.map(|(_, from)| from.clone()).collect();
        for (keyword, start) in [("crate::", Vec::new()), ("super::", folder_of(file))] {
            for (at, _) in text.match_indices(keyword) {
                let mut rest = &text[at + keyword.len()..];
                for path in paths(&mut rest, &start) {
                    found.insert(self.file_of(&path));
                }
            }
        }
        found
    }

    /// The file that has the item with this path, from the root of the crate.
    fn file_of(&self, path: &[String]) -> String {
        for length in (0..=path.len()).rev() {
            let module = path[..length].join("/");
            let root = match length {
                0 => "lib".to_owned(),
                _ => format!("{module}/mod"),
            };
            if self.files.contains(module.as_str()) {
                return module;
            }
            if self.files.contains(root.as_str()) {
                let exported = path.get(length).map(|item| (root.as_str(), item.clone()));
                let from = exported.and_then(|(by, item)| {
                    let mut exports = self.exports.iter();
                    exports.find(|((known, name), _)| *known == by && *name == item)
                });
                return from.map_or(root.clone(), |(_, from)| from.clone());
            }
        }
        unreachable!("lib.rs is there")
    }
}

/// The folder of a file as a path of modules: `["sys"]` of `sys/wait`.
fn folder_of(file: &str) -> Vec<String> {
    let mut path: Vec<_> = file.split('/').map(str::to_owned).collect();
    path.pop();
    path
}

/// The paths in `pub use …;` and `pub(crate) use …;`.
fn exports(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for keyword in ["pub use ", "pub(crate) use "] {
        for (at, _) in text.match_indices(keyword) {
            found.extend(paths(&mut &text[at + keyword.len()..], &[]));
        }
    }
    found
}

/// Splits what follows `crate::`, such as `sys::{self, WaitTarget}`, into one path for each item.
fn paths(rest: &mut &str, start: &[String]) -> Vec<Vec<String>> {
    *rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        *rest = inner;
        let mut found = Vec::new();
        loop {
            *rest = rest.trim_start_matches([',', ' ', '\n']);
            if let Some(after) = rest.strip_prefix('}') {
                *rest = after;
                return found;
            }
            found.extend(paths(rest, start));
        }
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    assert!(end > 0, "no path at {:?}", rest.lines().next());
    let mut path = start.to_vec();
    if &rest[..end] != "self" {
        path.push(rest[..end].to_owned());
    }
    *rest = &rest[end..];
    match rest.strip_prefix("::") {
        Some(after) => {
            *rest = after;
            paths(rest, &path)
        }
        None => vec![path],
    }
}
