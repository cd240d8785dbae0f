//! That each module of xtask and of xtask-bench imports only modules that stand before it, and that there
//! is no circle between files.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The programs. Their `main.rs` declare the layers from the bottom up: a reader who knows a layer need not
/// know those after it.
const PROGRAMS: [&str; 2] = ["src", "bench/src"];

/// A module's path, such as `view::text`, and the modules that its file imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn each_module_imports_only_what_stands_before_it() {
    for folder in PROGRAMS {
        let layers = layers(folder);
        assert!(layers.len() > 7, "{layers:?}");
        for (module, imported) in imports(folder) {
            let layer = layer_of(&module, &layers);
            for other in imported {
                assert!(
                    layer_of(&other, &layers) <= layer,
                    "{folder}: {module} imports {other}, which stands above it; the layers, from the \
                     bottom up, are {layers:?}: move what both need down, or hand it over as an argument"
                );
            }
        }
    }
}

#[test]
fn there_is_no_circle_between_files() {
    for folder in PROGRAMS {
        let imports = imports(folder);
        for start in imports.keys() {
            if let Some(circle) = way_back(&imports, start) {
                let circle = circle.join(" -> ");
                panic!("{folder}: these files import each other in a circle: {circle}");
            }
        }
    }
}

/// The way from a module through its imports back to itself.
fn way_back(imports: &Imports, start: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![start.to_owned()]];
    while let Some(way) = ways.pop() {
        for next in &imports[way.last().unwrap()] {
            let longer = [&way[..], std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

fn layers(folder: &str) -> Vec<String> {
    let main = fs::read_to_string(Path::new(folder).join("main.rs")).unwrap();
    let modules = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    modules.chain(["main"]).map(str::to_owned).collect()
}

fn layer_of(module: &str, layers: &[String]) -> usize {
    let layer = module.split("::").next().unwrap();
    let layer = layers.iter().position(|known| *known == layer);
    layer.unwrap_or_else(|| panic!("{module} is in none of the layers {layers:?}"))
}

fn imports(folder: &str) -> Imports {
    let mut sources = BTreeMap::new();
    let folder = Path::new(folder);
    read(folder, folder, &mut sources);
    let modules: Vec<String> = sources.keys().cloned().collect();
    let of_file = |(module, source): (&String, &String)| {
        let paths = paths(source);
        let imported = paths.filter_map(|path| file_of(&path, &modules));
        (module.clone(), imported.filter(|it| it != module).collect())
    };
    sources.iter().map(of_file).collect()
}

fn read(root: &Path, folder: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, sources);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let module = path.strip_prefix(root).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace('/', "::");
            let module = module.trim_end_matches("::mod").to_owned();
            sources.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The paths that begin with `crate::`, those in braces each for itself. Paths with `super::` would
/// not be seen, and are used for tests only.
fn paths(source: &str) -> impl Iterator<Item = String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join(" ");
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let path = &rest[..end];
        match rest[end..].strip_prefix('{') {
            Some(list) if path.is_empty() || path.ends_with("::") => {
                let list = list.split_once(";").unwrap().0.replace(['{', '}'], ",");
                paths.extend(list.split(',').map(|name| format!("{path}{}", name.trim())));
            }
            _ => paths.push(path.to_owned()),
        }
    }
    let no_super = !code.replace("use super::*", "").contains("super::");
    assert!(no_super, "write crate:: instead of super::, so that layers are seen");
    paths.into_iter()
}

/// The module whose file this path is in: the longest that it begins with.
fn file_of(path: &str, modules: &[String]) -> Option<String> {
    let is_in = |module: &&String| {
        let rest = path.strip_prefix(module.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    modules.iter().filter(is_in).max_by_key(|it| it.len()).cloned()
}
