//! `goroutine_wait.go`: a thread waits while the parent goes on, and the variant without it.

use std::time::Duration;

use super::{Claim, Clock, Scenario, Twin, times, words};
use crate::procfs;
use crate::record::{Judgement, Record, check};
use crate::stage::{Stage, Stop};

const BEFORE: &str = "the child sleeps, its parent goes on";
const AFTER: &str = "the child has ended, its parent goes on";

pub(super) const WAIT: Scenario = Scenario {
    name: "goroutine-wait",
    about: "A thread waits for the child, and the parent goes on meanwhile.",
    by_hand: "cargo run -p goroutine-wait",
    program: "goroutine-wait",
    args: with_wait,
    seconds: 65.0,
    act: look_before_and_after,
    claims: &[Claim {
        id: "C42",
        says: "after the child's end, ps does not list it any more, while its parent lives",
        judge: |run| {
            lives(run, BEFORE)?;
            run.not_listed(AFTER, run.role("child")?)?;
            let parent = run.row(AFTER, run.parent()?)?;
            check(parent.is_alive(), || {
                format!("the parent was {}", parent.stat)
            })
        },
    }],
    twin: Some(Twin {
        about: "without the waiting thread",
        program: "goroutine-wait",
        args: without_wait,
        refutes: &["C42"],
    }),
};

pub(super) const NO_WAIT: Scenario = Scenario {
    name: "goroutine-wait-no-wait",
    about: "The same without the waiting thread: the child becomes a zombie.",
    by_hand: "cargo run -p goroutine-wait -- --no-wait",
    program: "goroutine-wait",
    args: without_wait,
    seconds: 65.0,
    act: look_before_and_after,
    claims: &[Claim {
        id: "C42",
        says: "without the wait, ps lists the child as a zombie after its end",
        judge: |run| {
            lives(run, BEFORE)?;
            let child = run.row(AFTER, run.role("child")?)?;
            check(child.is_zombie(), || {
                format!("the child was {}", child.stat)
            })
        },
    }],
    twin: Some(Twin {
        about: "with the waiting thread",
        program: "goroutine-wait",
        args: with_wait,
        refutes: &["C42"],
    }),
};

fn with_wait(clock: Clock) -> Vec<String> {
    times(
        clock,
        &[
            ("--parent-sleep", 5.0),
            ("--child-sleep", 30.0),
            ("--parent-work", 60.0),
        ],
    )
}

fn without_wait(clock: Clock) -> Vec<String> {
    [with_wait(clock), words(&["--no-wait"])].concat()
}

fn look_before_and_after(stage: &mut Stage) -> Result<(), Stop> {
    let parent = stage.start()?;
    let child = stage.child_that_says_its_pid()?;
    stage.line("Parent end sleeping...")?;
    stage.give_time(Duration::from_millis(500), |_| {
        procfs::stat(parent.pid).is_some_and(|stat| stat.threads > 1)
    })?;
    stage.look(BEFORE, &[parent, child])?;
    stage.line("End child process.")?;
    stage.until_ended(child)?;
    stage.look(AFTER, &[parent, child])?;
    stage.line("End parent process.")?;
    stage.until_gone(parent)
}

fn lives(run: &Record<'_>, moment: &str) -> Judgement {
    let child = run.row(moment, run.role("child")?)?;
    check(child.is_alive(), || {
        format!("the child was {} when {moment}", child.stat)
    })
}
