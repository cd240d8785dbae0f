//! What a learner has at the terminal beside the demo itself.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{assert_has, stdout, text};
use test_support::TempDir;

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(support::XTASK);
    command.args(args).env_remove("CLICOLOR_FORCE").env("LC_ALL", "C");
    command
}

/// What it prints, if it succeeds.
#[track_caller]
fn printed(command: &mut Command) -> String {
    stdout(&command.output().unwrap(), 0)
}

#[test]
fn a_claim_is_explained() {
    let shown = printed(&mut xtask(&["explain", "C29"]));
    assert_has(
        &shown,
        &[
            "C29  imprecise\n",
            "the chapter says: ",
            "here: ",
            "shown by: orphan: ",
            "run: cargo xtask demo orphan\n",
            "by hand: cargo run -p zombie --example orphan\n",
            "read: zombie/examples/orphan.rs",
        ],
    );
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    let two = printed(&mut xtask(&["explain", "c29", "C30"]));
    assert!(two.starts_with(&shown) && two.contains("\n\nC30  wrong\n"));
    let all = printed(&mut xtask(&["explain", "all"]));
    assert!(all.contains(&shown));
}

#[test]
fn what_no_text_has_is_refused_with_what_is_spelt_alike() {
    for (topic, hint) in
        [("C50", "there is C5, "), ("zombi-kill", "zombie-kill"), ("gopher", "list")]
    {
        for command in ["explain", "list"] {
            let output = xtask(&[command, topic]).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            let stderr = text(&output.stderr);
            assert!(stderr.contains(&format!("{topic:?}")) && stderr.contains(hint), "{stderr}");
        }
    }
}

#[test]
fn a_scenario_is_explained_with_durations_needs_and_control() {
    let shown = printed(&mut xtask(&["explain", "pid-namespace"]));
    assert_has(
        &shown,
        &[
            "pid-namespace  (20 s in the chapter, at least 2 s in the demo)\n",
            "needs: user and PID namespaces",
            "C44: ",
            "so that C44 must fail",
            "run: cargo xtask demo pid-namespace\n",
            "the text: zombie/README.md, section 5\n",
        ],
    );
    let shown = printed(&mut xtask(&["explain", "pid-namespace", "--lang", "zh"]));
    let parts = ["需要：用户命名空间", "C44 必须不成立", "正文：zombie/README.zh-CN.md，第 5 节\n"];
    assert_has(&shown, &parts);
}

#[test]
fn a_word_finds_claims_and_scenarios_in_either_language() {
    for word in ["orphan", "ORPHAN", "孤儿"] {
        let shown = printed(&mut xtask(&["explain", word]));
        match word == "orphan" {
            true => assert_has(&shown, &["orphan  (25 s", "C30: "]), // the scenario of that name
            false => {
                assert_has(&shown, &["\nC30  an orphan runs on", "\ninit-waits  Two orphans end"])
            }
        }
        let list = printed(&mut xtask(&["list", word]));
        assert!(
            list.contains("orphan  The parent ends first") && !list.contains("\nwait  "),
            "{list}"
        );
    }
    // The title of a section counts for its scenarios.
    assert_has(
        &printed(&mut xtask(&["list", "half-close"])),
        &["one-close-too-few  ", "shutdown  "],
    );
}

/// The names of all scenarios.
fn scenarios() -> Vec<String> {
    let list = printed(&mut xtask(&["list"]));
    let names = list.lines().flat_map(|line| line.rsplit(": ").next().unwrap().split(','));
    let names = names.map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty() && !name.contains([' ', '`', '.'])).collect()
}

/// What follows this label in an explanation, each time.
fn parts<'a>(explanation: &'a str, label: &str) -> Vec<&'a str> {
    let begin = format!("  {label}: ");
    explanation.lines().filter_map(|line| line.strip_prefix(&begin)).collect()
}

#[test]
fn each_claim_is_numbered_in_order_and_shown_and_its_code_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let shown = printed(&mut xtask(&["explain", "all"])).replace("\n    ", " ");
    let mut numbers = Vec::new();
    for claim in shown.split("\n\n") {
        let id = claim.split(' ').next().unwrap();
        numbers.push(id.to_owned());
        assert!(!parts(claim, "shown by").is_empty(), "no scenario shows {id}: see `shows`");
        // No program in Go runs here, so nothing about it has been shown.
        for here in parts(claim, "here").into_iter().filter(|here| here.contains("Go")) {
            let is_so =
                here.starts_with("in Go, by its documentation, ") && here.contains("; here");
            assert!(is_so, "{id}: {here}");
        }
        let code = parts(claim, "read");
        assert!(!code.is_empty(), "{id} has no code to read");
        for code in code {
            let (path, function) = code.split_once(": ").unwrap();
            let text = fs::read_to_string(root.join(path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            let heads = ["(", "<"].map(|next| format!("fn {function}{next}"));
            assert!(heads.iter().any(|head| text.contains(head)), "{id}: {code}");
        }
    }
    let beyond = numbers.iter().filter(|id| id.starts_with('X')).count();
    let of_chapter = (1..=numbers.len() - beyond).map(|number| format!("C{number}"));
    let beyond = (1..=beyond).map(|number| format!("X{number}"));
    assert_eq!(numbers, of_chapter.chain(beyond).collect::<Vec<_>>());
}

#[test]
fn each_scenario_has_a_name_of_its_own_and_claims_and_its_text_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let scenarios = scenarios();
    for scenario in &scenarios {
        let namesakes = scenarios.iter().filter(|other| *other == scenario).count();
        assert_eq!(namesakes, 1, "there are {namesakes} scenarios {scenario:?}");
        let shown = printed(&mut xtask(&["explain", scenario]));
        let number =
            |line: &str| line.split(':').next().unwrap().trim().get(1..)?.parse::<u32>().ok();
        assert!(shown.lines().any(|line| number(line).is_some()), "{scenario} shows no claim");
        let words: Vec<&str> = shown.split_whitespace().collect();
        let is_about_none = words.join(" ").contains("so that must fail");
        assert!(!is_about_none, "the control of {scenario} is about no claim");
        let place = *parts(&shown, "the text").first().unwrap_or_else(|| panic!("{shown}"));
        let (path, number) = place.split_once(", section ").unwrap();
        for path in [path, &path.replace(".md", ".zh-CN.md")] {
            let text = fs::read_to_string(root.join(path)).unwrap();
            let has_it = text.contains(&format!("\n## {number} "));
            assert!(has_it, "{path} has no section {number}, which {scenario} belongs to");
        }
    }
}

/// How many columns a line takes: a Han character, or punctuation beside it, takes two.
fn columns(line: &str) -> usize {
    line.chars().map(|c| if c >= '\u{2e80}' { 2 } else { 1 }).sum()
}

#[test]
fn each_answer_fits_a_screen_in_both_languages() {
    let names = scenarios();
    let claims: Vec<String> = (1..=49).map(|number| format!("C{number}")).collect();
    let claims =
        claims.iter().map(String::as_str).chain(["X1", "zombies", "process", "wait for", "进程"]);
    let topics: Vec<&str> = names.iter().map(String::as_str).chain(claims).collect();
    assert!(topics.len() > 90, "{topics:?}");
    for language in ["en", "zh"] {
        let mut answers = vec![printed(&mut xtask(&["list", "--lang", language]))];
        for topic in &topics {
            answers.push(printed(&mut xtask(&["explain", "--lang", language, topic])));
        }
        for answer in answers {
            let widest = answer.lines().map(columns).max().unwrap();
            assert!(answer.lines().count() < 24 && widest <= 80, "{answer}");
        }
    }
}

#[test]
fn the_language_is_the_readers() {
    let (english, chinese) = ("here: ", "这里：");
    for (variables, option, expected) in [
        (&[][..], &[][..], english),
        (&[("LANG", "zh_CN.UTF-8")], &[], chinese),
        (&[("LANG", "zh_CN.UTF-8"), ("LC_MESSAGES", "en_US.UTF-8")], &[], english),
        (&[("LC_MESSAGES", "en_US.UTF-8"), ("LC_ALL", "zh_TW")], &[], chinese),
        (&[("LC_ALL", ""), ("LANG", "zh_CN.UTF-8")], &[], chinese),
        (&[("LC_ALL", "fr_FR.UTF-8"), ("LANG", "zh_CN.UTF-8")], &[], english),
        (&[("LC_ALL", "C")], &["--lang", "zh-CN"], chinese),
        (&[("LC_ALL", "zh_CN.UTF-8")], &["--lang", "en"], english),
    ] {
        let mut command = xtask(&["explain", "C24"]);
        for name in ["LC_ALL", "LC_MESSAGES", "LANG"] {
            command.env_remove(name);
        }
        command.args(option).envs(variables.iter().copied());
        let shown = printed(&mut command);
        assert!(shown.contains(expected), "{variables:?} {option:?}: {shown}");
    }
    let refused = xtask(&["explain", "C24", "--lang", "fr"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn bash_completes_scenarios_and_claims() {
    let completed = |words: &[&str]| {
        let script = printed(&mut xtask(&["completions", "bash"]));
        let [command, before, last] = words else { panic!("three words") };
        let ask = format!(
            "{script}\nCOMP_WORDS=({command} {before} {last}); COMP_CWORD=2
             _xtask {command} {last} {before}; echo \"${{COMPREPLY[@]}}\""
        );
        printed(Command::new("bash").args(["-c", &ask]))
    };
    assert_eq!(completed(&["xtask", "demo", "zombie-"]), "zombie-kill zombie-parent-kill\n");
    assert_eq!(completed(&["xtask", "explain", "C29"]), "C29\n");
}

#[test]
fn the_doctor_finds_what_the_demo_takes() {
    let found = printed(&mut xtask(&["doctor"]));
    for name in ["Linux 5.4 or later: ", "/proc", "ps: ", "cargo: ", "rustc: "] {
        assert!(found.contains(&format!("found    {name}")), "{found}");
    }
    assert!(found.contains("missing  a terminal"), "{found}");
    assert!(found.ends_with("\nThe demo can run.\n"), "{found}");
    assert!(found.lines().all(|line| line.len() <= 80), "{found}");
}

#[test]
fn the_doctor_says_what_is_missing_and_how_to_get_it() {
    let output = xtask(&["doctor"]).env("PATH", "/nowhere").output().unwrap();
    let shown = stdout(&output, 77);
    assert_has(&shown, &["missing  ps: ps cannot be run", "apt-get install procps\n"]);
    assert!(shown.ends_with("The demo cannot run: missing ps.\n"), "{shown}");
}

/// A folder in which a package manager seems to be stands before those of this machine.
#[test]
fn what_is_missing_is_got_as_the_distribution_gets_it() {
    for (manager, [ps, compiler]) in [
        ("apt-get", ["apt-get install procps\n", "apt-get install gcc libc6-dev\n"]),
        ("dnf", ["dnf install procps-ng\n", "dnf install gcc glibc-devel\n"]),
        ("apk", ["apk add procps\n", "apk add gcc musl-dev\n"]),
        ("pacman", ["pacman -S procps-ng\n", "pacman -S gcc\n"]),
    ] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(manager), "").unwrap();
        let output = xtask(&["doctor"]).env("PATH", folder.path()).output();
        let shown = text(&output.unwrap().stdout).replace("\n         ", " ");
        assert_has(&shown, &[ps, compiler]);
    }
}
