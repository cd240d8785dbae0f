//! The three `exec.Cmd` programs.

use super::{Claim, Clock, Scenario, Twin, words};
use crate::event::Stream;
use crate::record::{Judgement, Record, check};
use crate::stage::{Stage, Stop};

const RUNNING: &str = "the command runs, and its parent waits for it";
const OVER: &str = "the command has ended";

pub(super) const RUN: Scenario = Scenario {
    name: "exec-run",
    about: "A command is run, and its output goes nowhere.",
    by_hand: "cargo run -p exec-cmd -- run",
    program: "exec-cmd",
    args: |clock| talkative("run", clock),
    seconds: 5.0,
    act: run_and_look,
    claims: &[Claim {
        id: "C16",
        says: "run without output: both streams of the command go to the null device",
        judge: |run| {
            runs_and_ends(run)?;
            let (out, err) = (run.lines(), run.lines_of(Stream::Stderr));
            check(out.is_empty() && err.is_empty(), || {
                format!("it printed {out:?} and {err:?}")
            })
        },
    }],
    twin: Some(Twin {
        about: "with the output captured",
        program: "exec-cmd",
        args: |clock| talkative("combined", clock),
        refutes: &["C16"],
    }),
};

pub(super) const COMBINED: Scenario = Scenario {
    name: "exec-combined",
    about: "A command is run, and both of its output streams are captured in one.",
    by_hand: "cargo run -p exec-cmd -- combined",
    program: "exec-cmd",
    args: |clock| talkative("combined", clock),
    seconds: 5.0,
    act: run_and_look,
    claims: &[Claim {
        id: "C16",
        says: "combined: the lines of both streams in the order of writing, as they share a pipe",
        judge: |run| {
            runs_and_ends(run)?;
            run.lines_are(&["combined out:", "out 1", "err 1", "out 2", "err 2", ""])
        },
    }],
    twin: Some(Twin {
        about: "with a pipe for each stream",
        program: "exec-cmd",
        args: |clock| talkative("separate", clock),
        refutes: &["C16"],
    }),
};

pub(super) const SEPARATE: Scenario = Scenario {
    name: "exec-separate",
    about: "A command is run, its output streams are captured apart, and no shell expands its *.",
    by_hand: "cargo run -p exec-cmd -- separate",
    program: "exec-cmd",
    args: |_| words(&["separate", "--", "ls", "/etc/host*"]),
    seconds: 0.0,
    act: |stage| {
        let parent = stage.start()?;
        stage.until_gone(parent)?;
        stage.look(OVER, &[parent])
    },
    claims: &[
        Claim {
            id: "C16",
            says: "separate: each stream by itself",
            judge: |run| {
                let lines = run.lines();
                let headings = ["out:", "err:"].map(|heading| lines.contains(&heading));
                check(headings == [true, true], || format!("{lines:?}"))?;
                run.nothing_listed(OVER)
            },
        },
        Claim {
            id: "C17",
            says: "no shell expands the *: the command gets it as it is, fails with exit status 2, \
                   and says so on stderr",
            judge: |run| {
                let lines = run.lines();
                let err = lines.iter().position(|line| *line == "err:").unwrap_or(0);
                let (out, err) = lines.split_at(err);
                check(
                    out == ["out:", ""] && err.iter().any(|line| line.contains("/etc/host*")),
                    || format!("stdout {out:?}, stderr {err:?}"),
                )?;
                let said = run.lines_of(Stream::Stderr);
                check(
                    said.iter()
                        .any(|line| line.ends_with("failed with exit status: 2")),
                    || format!("{said:?}"),
                )
            },
        },
    ],
    twin: Some(Twin {
        about: "with a shell",
        program: "exec-cmd",
        args: |_| words(&["separate", "--", "sh", "-c", "ls /etc/host*"]),
        refutes: &["C17"],
    }),
};

/// A command that writes to both streams in turn, and then lives long enough to be seen.
fn talkative(way: &str, clock: Clock) -> Vec<String> {
    let seconds = clock.at_most(4.0).seconds(5.0);
    let script =
        format!("echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2; sleep {seconds}; :");
    words(&[way, "--", "sh", "-c", &script])
}

fn run_and_look(stage: &mut Stage) -> Result<(), Stop> {
    let parent = stage.start()?;
    let command = stage.child_of(parent, "command")?;
    stage.look(RUNNING, &[parent, command])?;
    stage.until_gone(parent)?;
    stage.look(OVER, &[parent, command])
}

fn runs_and_ends(run: &Record<'_>) -> Judgement {
    let (parent, command) = (
        run.row(RUNNING, run.parent()?)?,
        run.row(RUNNING, run.role("command")?)?,
    );
    check(
        parent.is_alive() && command.is_alive() && command.ppid == parent.pid,
        || {
            format!(
                "the parent was {}, the command {}",
                parent.stat, command.stat
            )
        },
    )?;
    run.nothing_listed(OVER)
}
