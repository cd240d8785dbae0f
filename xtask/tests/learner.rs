//! What a learner has at the terminal beside the demo itself.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::fs;
use std::process::Command;

use support::{assert_has, stdout, text};
use test_support::TempDir;

fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(support::XTASK);
    command.args(args).env_remove("CLICOLOR_FORCE");
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
            "shown by: orphan. ",
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
fn a_claim_that_there_is_not_is_refused_with_those_that_there_are() {
    let output = xtask(&["explain", "C99"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("'C99'") && stderr.contains("C24, "), "{stderr}");
}

#[test]
fn the_list_tells_of_durations_and_needs() {
    let list = printed(&mut xtask(&["list"]));
    assert!(list.contains("zombie  (30 s in the chapter, at least 3 s in the demo)\n"), "{list}");
    let needs = |what| list.matches(what).count();
    assert_eq!(needs("needs: user and PID namespaces"), 2, "{list}");
    assert_eq!(needs("needs: strace"), 2, "{list}");
    assert_eq!(needs("needs: the loopback network"), 6, "{list}");
    assert!(list.lines().all(|line| line.len() <= 80), "{list}");
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
