//! `wait.go`: the parent blocks until its child has ended.

use crate::evidence::{Check, Evidence, check};
use crate::scenarios::{Claim, Control, Scenario, times, words};

const BLOCKED: &str = "the parent has slept enough and waits, the child sleeps";
const BOTH_GONE: &str = "both have ended";

pub(super) const WAIT: Scenario = Scenario {
    name: "wait",
    about: "The parent sleeps 5 seconds, then blocks until its child has slept 10.",
    by_hand: "cargo run -p wait",
    program: "wait",
    args: |clock| {
        let times_of = [("--parent-sleep", 5.0), ("--child-sleep", 10.0)];
        times(clock.at_most(4.0), &times_of)
    },
    seconds: 10.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_of(parent, "child")?;
        worker.line("Parent end sleeping...")?;
        worker.until_settled(parent)?;
        worker.snapshot(BLOCKED, &[parent, child])?;
        worker.line("End parent process.")?;
        worker.until_gone(parent)?;
        worker.snapshot(BOTH_GONE, &[parent, child])
    },
    claims: &[Claim {
        id: "C40",
        says: "wait blocks until the child has ended, and reaps it: the times overlap, the \
               longest counts",
        judge: blocks_until_the_end,
    }],
    control: Some(Control {
        about: "a parent that does not wait",
        program: "goroutine-wait",
        args: |clock| {
            let times_of = [
                ("--parent-sleep", 5.0),
                ("--child-sleep", 10.0),
                ("--parent-work", 2.0),
            ];
            [times(clock, &times_of), words(&["--no-wait"])].concat()
        },
        refutes: &["C40"],
    }),
};

fn blocks_until_the_end(run: &Evidence<'_>) -> Check {
    let (parent, child) = (run.parent()?, run.role("child")?);
    let (parent, child) = (run.row(BLOCKED, parent)?, run.row(BLOCKED, child)?);
    check(parent.is_alive() && child.is_alive(), || {
        format!("the parent was {}, the child {}", parent.stat, child.stat)
    })?;
    // A kernel that does not tell shows `-`; one that does, the function that waits for a child.
    check(parent.wchan == "-" || parent.wchan.contains("wait"), || {
        format!("the parent was sleeping in {}", parent.wchan)
    })?;
    run.lines_are(&[
        "Parent start sleeping...",
        "Parent end sleeping...",
        "End child process.",
        "End parent process.",
    ])?;
    run.nothing_listed(BOTH_GONE)
}
