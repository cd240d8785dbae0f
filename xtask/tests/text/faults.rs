//! That each fault is named: a pair of texts is written from a run, each fault is made by hand, and the
//! sentence is asserted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use test_support::TempDir;

use crate::page::pages;
use crate::support::assert_has;
use crate::{Fault, MEND, blocks, check, commands, recording};

/// The same in both languages, with the words of each.
const TEXT: &str = r##"# TITLE

OTHER

WORDS [a link](zombie/src/main.rs), [a section](SELF#a-section), and claim C24.

<!-- code zombie/src/main.rs fn main -->
```rust
```

<!-- prints zombie -->
```text
```

<!-- ps zombie 1 -->
```text
```

<!-- ps zombie control 1 -->
```text
```

<!-- transcript zombie -->
```text
```

<!-- picture zombie -->
![WORDS](zombie/zombie.svg)

## A section

```sh
cargo xtask list # WORDS
cargo run -p zombie -- --parent-sleep 1
cargo xtask demo zombie --speed 5
```

<!-- output cargo xtask explain C24 -->
```text
```
"##;

/// A folder with such texts, filled in, and the sources that they name.
fn texts() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::create_dir(folder.path().join("zombie")).unwrap();
    for name in ["zombie/Cargo.toml", "zombie/src"] {
        symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    for (name, other, link, words) in [
        ("README.md", "README.zh-CN.md", "简体中文", "Words with"),
        ("README.zh-CN.md", "README.md", "English", "文字，"),
    ] {
        let text = TEXT.replace("OTHER", &format!("[{link}]({other})")).replace("SELF", name);
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
    blocks::update(folder.path(), recording());
    assert_eq!(sentences(&folder), Vec::<String>::new());
    let run: Vec<_> = commands::run(folder.path(), &pages(folder.path()));
    assert!(run.is_empty(), "{}", run[0]);

    let written = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let zombie = recording().run("zombie").unwrap();
    let row = zombie.snapshots[0].last().unwrap();
    let parent = row.split_whitespace().nth(1).unwrap();
    let other_parent = row.replacen(&format!(" {parent} "), " 99 ", 1);
    let state = row.replace(" Z ", " S ");
    let drifted = [
        // A printed line, a row, a relation of two rows.
        (
            "README.md",
            "\nEnd child process.\n",
            "\nEnd the child.\n",
            "prints zombie",
            "End the child.",
        ),
        ("README.md", row, &state, "ps zombie 1", "S childProcess"),
        ("README.md", row, &other_parent, "ps zombie 1", "do not fit together"),
        ("README.md", "  End parent process.\n", "  End it.\n", "transcript zombie", "End it."),
        (
            "README.zh-CN.md",
            "-> ExitCode {\n",
            "-> u8 {\n",
            "code zombie/src/main.rs fn main",
            "-> u8 {",
        ),
        ("README.md", "text\nC24", "text\nC25", "output cargo xtask explain C24", "C25"),
        ("zombie/zombie.svg", ">parent (pid", ">uncle (pid", "picture zombie", "program"),
        ("zombie/zombie.svg", "<title>zombie<", "<title>wait<", "picture zombie", "zombie"),
    ];
    for (name, from, to, marker, part) in drifted {
        let whole = written(name);
        assert_has(&whole, &[from]);
        fs::write(folder.path().join(name), whole.replacen(from, to, 1)).unwrap();
        let sentences = sentences(&folder);
        let place = if name.ends_with(".svg") { "README.md:" } else { name };
        assert!(!sentences.is_empty(), "{to:?} is not found");
        assert_has(&sentences[0], &[place, &format!("<!-- {marker} -->: "), part, MEND]);
        blocks::update(folder.path(), recording());
        assert_eq!(written(name), whole);
    }

    for (name, from, to, parts) in [
        (
            "README.zh-CN.md",
            "## A section\n",
            "\n",
            &["README.zh-CN.md:", "heading 2", "README.md \"##\""][..],
        ),
        (
            "README.md",
            "## A section\n",
            "### A section\n",
            &["README.zh-CN.md:", "heading 2 is \"##\""],
        ),
        ("README.zh-CN.md", "```sh\n", "```text\n", &["block 6 is \"```text\""]),
        ("README.zh-CN.md", "<!-- ps zombie 1 -->", "<!-- ps zombie 2 -->", &["marker 3"]),
        ("README.zh-CN.md", "C24.", "C25.", &["only README.md names claim C24"]),
        (
            "README.zh-CN.md",
            "[a link](zombie/src/main.rs)",
            "a link",
            &["README.md \"link zombie/src/main.rs\" in line 5"],
        ),
        ("README.zh-CN.md", "C24.", "C24。汉,字", &["README.zh-CN.md:5: ',' is not full-width"]),
        ("README.zh-CN.md", "C24.", "C24。\n汉字。", &["README.zh-CN.md:6: a paragraph goes on"]),
        (
            "README.md",
            "(README.zh-CN.md)",
            "(README.md)",
            &["README.md:1: its first lines have no link"],
        ),
        (
            "README.md",
            "(zombie/src/main.rs)",
            "(zombie/main.rs)",
            &["README.md:5: the link zombie/main.rs is dead"],
        ),
        (
            "README.md",
            "#a-section",
            "#section",
            &["README.md:5: the link README.md#section is dead"],
        ),
        (
            "README.md",
            "[a link](zombie/src/main.rs)",
            "[a link][label]",
            &["README.md:5: nothing is called [label]"],
        ),
        (
            "README.md",
            "--parent-sleep 1",
            "--parents-sleep 1",
            &["`zombie` has no option --parents-sleep"],
        ),
        ("README.md", "demo zombie", "demo zombies", &["there is no scenario zombies"]),
        ("README.md", "-p zombie", "-p zombi", &["there is no package zombi"]),
        (
            "README.md",
            "-p zombie",
            "-p zombie --example orphans",
            &["zombie has no example orphans"],
        ),
        ("README.md", "xtask list", "xtask lists", &["there is no `xtask lists --help`"]),
        (
            "README.md",
            "<!-- prints zombie",
            "<!-- prints zombies",
            &["README.md:12: ", "there is no scenario \"zombies\""],
        ),
        (
            "README.md",
            "<!-- ps zombie 1",
            "<!-- ps zombie 3",
            &["zombie has no snapshot \"3\", but 1 to 2"],
        ),
        ("README.md", "fn main", "fn mainly", &["zombie/src/main.rs has no such lines: fn mainly"]),
        (
            "README.md",
            "(zombie/zombie.svg)",
            "(zombie/other.svg)",
            &["there is no picture zombie/other.svg"],
        ),
    ] {
        let whole = written(name);
        assert_has(&whole, &[from]);
        fs::write(folder.path().join(name), whole.replacen(from, to, 1)).unwrap();
        let sentences = sentences(&folder);
        let is_named = |sentence: &String| parts.iter().all(|part| sentence.contains(part));
        assert!(sentences.iter().any(is_named), "{to:?}: {parts:?} is not in {sentences:#?}");
        fs::write(folder.path().join(name), whole).unwrap();
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
