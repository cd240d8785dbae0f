//! The order of the library's modules: each imports only from those above it, so there is no circle.

use std::fs;
use std::path::Path;

#[test]
fn a_module_imports_only_from_those_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    list(&src, &["crate"], "lib.rs", &mut files);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"crate::server::pool"), "few modules: {names:?}");
    let mut wrong = Vec::new();
    for (place, (name, text)) in files.iter().enumerate() {
        for path in imports(name, text) {
            let is_above = |other: &str| path == other || path.starts_with(&format!("{other}::"));
            // The last one that fits: `crate::log::nonblocking`, and not `crate::log`.
            let found = (0..names.len())
                .filter(|at| is_above(names[*at]))
                .max_by_key(|at| names[*at].len());
            if found.is_none_or(|found| found >= place) {
                wrong.push(format!("{name} uses {path}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0], "each must stand above in {names:?}");
}

/// Adds this file's modules in the order of their `mod` lines, and after them the file itself.
fn list(folder: &Path, path: &[&str], file: &str, files: &mut Vec<(String, String)>) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    for line in text.lines() {
        let Some((_, name)) = line.strip_suffix(';').and_then(|it| it.split_once("mod ")) else {
            continue;
        };
        let path = [path, &[name]].concat();
        let inner = folder.join(name);
        if inner.is_dir() {
            list(&inner, &path, "mod.rs", files);
        } else {
            list(folder, &path, &format!("{name}.rs"), files);
        }
    }
    files.push((path.join("::"), text));
}

/// The paths from `crate` or `super` in a module, outside of comments.
fn imports(module: &str, text: &str) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let code = text.lines().filter(|line| !line.trim().starts_with("//"));
    let words =
        code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)));
    words
        .filter(|word| word.starts_with("crate::") || word.starts_with("super::"))
        .map(|word| word.replace("super::", &format!("{parent}::")))
        .map(|word| word.trim_end_matches(':').to_owned())
        .collect()
}
