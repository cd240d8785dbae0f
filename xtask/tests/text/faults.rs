//! That each fault is named: a pair of texts is written from a run, each fault is made by hand, and the
//! sentence is asserted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use test_support::TempDir;

use crate::page::pages;
use crate::support::assert_has;
use crate::{Fault, blocks, check, commands, recording};

/// The same in both languages, with the words of each.
const TEXT: &str = include_str!("pair.txt");

/// File, text, what is written instead, and what the sentence says. `↵` is the end of a line. The update mends
/// those before the blank line.
const FAULTS: &str = include_str!("faults.txt");

/// A folder with such texts, and the sources that they name.
fn texts() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::create_dir(folder.path().join("zombie")).unwrap();
    for name in ["zombie/Cargo.toml", "zombie/src"] {
        symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    for (name, other, link, words, svg) in [
        ("README.md", "README.zh-CN.md", "简体中文", "Words with", ".svg"),
        ("README.zh-CN.md", "README.md", "English", "文字，", ".zh-CN.svg"),
    ] {
        let text = TEXT.replace("OTHER", &format!("[{link}]({other})")).replace("SELF", name);
        let text = text.replace(".svg", svg);
        fs::write(folder.path().join(name), text.replace("WORDS", words)).unwrap();
    }
    folder
}

fn sentences(folder: &TempDir) -> Vec<String> {
    check(folder.path(), &[recording()]).iter().map(Fault::to_string).collect()
}

#[test]
fn a_text_is_filled_in_and_each_fault_is_named() {
    let folder = texts();
    let empty = sentences(&folder);
    assert_eq!(empty.iter().filter(|it| it.contains("it is empty")).count(), 12, "{empty:#?}");
    blocks::update(folder.path(), recording(), |_| true);
    assert_eq!(sentences(&folder), Vec::<String>::new());
    let run: Vec<_> = commands::run(folder.path(), &pages(folder.path()));
    assert!(run.is_empty(), "{}", run[0]);

    // The zombie's row, up to the number of its parent.
    let zombie = recording().run("zombie").unwrap().snapshots[0].last().unwrap();
    let mut numbers = zombie.split_whitespace();
    let (child, parent) = (numbers.next().unwrap(), numbers.next().unwrap());
    let before = &zombie[..zombie.find(child).unwrap() + child.len()];
    let between = zombie[before.len()..].split(parent).next().unwrap();
    let table = FAULTS.replace("BEFORE", &format!("{before}{between}")).replace("PARENT", parent);
    let mended = table.split("\n\n").next().unwrap();
    for row in table.lines().filter(|row| !row.is_empty()) {
        let parts: Vec<String> = row.split(" | ").map(|part| part.replace('↵', "\n")).collect();
        let [name, from, to, says] = &parts[..] else { panic!("{row}") };
        let file = folder.path().join(name);
        let whole = fs::read_to_string(&file).unwrap();
        assert!(whole.contains(from), "{from:?} is not in {name}");
        fs::write(&file, whole.replacen(from, to, 1)).unwrap();
        let sentences = sentences(&folder);
        let is_named = sentences.iter().any(|sentence| sentence.contains(says));
        assert!(is_named, "{row}: instead, the sentences are {sentences:#?}");
        if mended.contains(row) {
            blocks::update(folder.path(), recording(), |_| true);
            assert!(fs::read_to_string(&file).unwrap() == whole, "{row}: not mended");
        }
        fs::write(&file, whole).unwrap();
    }
}

#[test]
fn a_command_that_fails_is_named() {
    let folder = texts();
    let command = "cargo run -p zombie -- --parent-sleep x";
    let text = format!("# Title\n\n```sh\n{command}\n```\n");
    fs::write(folder.path().join("README.md"), text).unwrap();
    let faults = commands::run(folder.path(), &pages(folder.path()));
    let sentence = faults.first().map(Fault::to_string).unwrap_or_default();
    assert_has(&sentence, &["README.md:4: ", command, "does not end with 0", "Exited"]);
}
