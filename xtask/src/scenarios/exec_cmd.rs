//! The three `exec.Cmd` programs.

use crate::evidence::check;
use crate::model::clock::Clock;
use crate::model::event::Stream;
use crate::model::failure::Failure;
use crate::scenarios::{Claim, Control, Scenario, words};
use crate::worker::Worker;

const OVER: &str = "the command has ended";

/// The commands that are run one after the other, and the pictures of them.
const WAYS: [(&str, &str); 3] = [
    (
        "command whose output goes nowhere",
        "it runs, its output goes nowhere",
    ),
    (
        "command with one pipe",
        "it runs, both of its streams go into one pipe",
    ),
    (
        "command with two pipes",
        "it runs, each of its streams goes into a pipe",
    ),
];

pub(super) const THREE_WAYS: Scenario = Scenario {
    name: "exec-cmd",
    about: "A command is run without its output, with both streams in one, and with each apart.",
    by_hand: "cargo run -p exec-cmd",
    program: "exec-cmd",
    args: |clock| [words(&["--"]), talkative(clock)].concat(),
    seconds: 15.0,
    act: look_at_each,
    claims: &[Claim {
        id: "C16",
        says: "three ways: nothing arrives; or the lines in the order of writing, as both streams \
               share a pipe; or each stream by itself",
        judge: |run| {
            let parent = run.parent()?;
            for (role, moment) in WAYS {
                let row = run.row(moment, run.role(role)?)?;
                check(row.is_alive() && row.ppid == parent.pid, || {
                    format!("the {role} was {}", row.stat)
                })?;
            }
            run.lines_are(&[
                "combined out:",
                "out 1",
                "err 1",
                "out 2",
                "err 2",
                "",
                "out:",
                "out 1",
                "out 2",
                "",
                "err:",
                "err 1",
                "err 2",
                "",
            ])?;
            let err = run.lines_of(Stream::Stderr);
            check(err.is_empty(), || format!("on stderr were {err:?}"))?;
            run.nothing_listed(OVER)
        },
    }],
    control: Some(Control {
        about: "one way only",
        program: "exec-cmd",
        args: |clock| [words(&["combined", "--"]), talkative(clock)].concat(),
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
    act: |worker| {
        let parent = worker.start()?;
        worker.until_gone(parent)?;
        worker.snapshot(OVER, &[parent])
    },
    claims: &[Claim {
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
            run.nothing_listed(OVER)?;
            let said = run.lines_of(Stream::Stderr);
            check(
                said.iter()
                    .any(|line| line.ends_with("failed with exit status: 2")),
                || format!("{said:?}"),
            )
        },
    }],
    control: Some(Control {
        about: "with a shell",
        program: "exec-cmd",
        args: |_| words(&["separate", "--", "sh", "-c", "ls /etc/host*"]),
        refutes: &["C17"],
    }),
};

/// A command that writes to both streams in turn, and then lives long enough to be seen.
fn talkative(clock: Clock) -> Vec<String> {
    let seconds = clock.at_most(4.0).seconds(5.0);
    let script =
        format!("echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2; sleep {seconds}; :");
    words(&["sh", "-c", &script])
}

fn look_at_each(worker: &mut Worker) -> Result<(), Failure> {
    let parent = worker.start()?;
    let mut everybody = vec![parent];
    for (role, moment) in WAYS {
        let command = worker.child_of(parent, role)?;
        worker.snapshot(moment, &[parent, command])?;
        worker.until_gone(command)?;
        everybody.push(command);
    }
    worker.until_gone(parent)?;
    worker.snapshot(OVER, &everybody)
}
