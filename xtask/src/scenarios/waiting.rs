//! Ways to reap a child and to do something else meanwhile.

use std::time::Duration;

use crate::evidence::{Check, Evidence, check};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, times, words};
use crate::worker::Worker;

/// The parent and child of each way.
const WAYS: [(&str, &str); 3] = [
    ("goroutine-wait", "child of the one with a thread"),
    ("try-wait", "child of the one that asks"),
    ("pidfd", "child of the one that polls"),
];

const BEFORE: &str = "three parents go on, their children live";
const AFTER: &str = "the children have ended";

pub(super) const THREE_WAYS: Scenario = Scenario {
    name: "three-ways",
    about: "A thread that waits, a loop that asks, a pidfd in poll: three parents that go on.",
    by_hand: "cargo run -p goroutine-wait, and the same with --example try-wait, --example pidfd",
    program: "goroutine-wait",
    args: thread_waits,
    seconds: 21.0,
    act: look_at_all_three,
    claims: &[Claim {
        id: "C41",
        says: "reaping beside other work takes a thread that blocks in wait (the l in Sl), or none: \
               asking again and again, or a pidfd in poll",
        judge: all_three_reap,
    }],
    control: Some(Control {
        about: "without the waiting thread",
        program: "goroutine-wait",
        args: |clock| [thread_waits(clock), words(&["--no-wait"])].concat(),
        refutes: &["C41"],
    }),
};

fn thread_waits(clock: Clock) -> Vec<String> {
    let times_of = [
        ("--parent-sleep", 0.0),
        ("--child-sleep", 20.0),
        ("--parent-work", 600.0), // longer than the story, which ends it,
    ];
    times(clock, &times_of)
}

fn look_at_all_three(worker: &mut Worker) -> Result<(), Failure> {
    let clock = worker.clock();
    let asks = times(clock, &[("--child-sleep", 20.0), ("--every", 3.0)]);
    let polls = times(clock, &[("--child-sleep", 20.0)]);
    let parents = [
        worker.start()?,
        worker.start_program("try-wait", &asks)?,
        worker.start_program("pidfd", &polls)?,
    ];
    let mut children = Vec::new();
    for (parent, (_, role)) in parents.into_iter().zip(WAYS) {
        children.push(worker.child_of(parent, role)?);
    }
    let everybody = [&parents[..], &children[..]].concat();
    worker.give_time(Duration::from_millis(500), |_| {
        procfs::stat(parents[0].pid).is_some_and(|stat| stat.threads > 1)
    })?;
    worker.snapshot(BEFORE, &everybody)?;
    worker.until_ended(children[0])?;
    // Not the same for the others: who asks may have asked just before the end, and be far from asking
    // again.
    worker.until("both others have told the status", |worker| {
        worker.lines("Child ended with ").len() == 2
    })?;
    worker.snapshot(AFTER, &everybody)
}

fn all_three_reap(run: &Evidence<'_>) -> Check {
    for (program, role) in WAYS {
        let child = run.role(role)?;
        let row = run.row(BEFORE, child)?;
        let rows = run.rows(BEFORE)?;
        let parent = rows.iter().find(|parent| parent.pid == row.ppid);
        let parent = parent.ok_or_else(|| format!("ps did not list the parent {program}"))?;
        let has_threads = parent.stat.contains('l');
        check(
            row.is_alive() && parent.is_alive() && has_threads == (program == "goroutine-wait"),
            || format!("{program} was {}, its child {}", parent.stat, row.stat),
        )?;
        run.not_listed(AFTER, child)?;
    }
    let with_thread = run.row(AFTER, run.parent()?)?;
    check(with_thread.is_alive(), || {
        format!("the parent with the thread was {}", with_thread.stat)
    })?;
    let told = "Child ended with exit status: 24";
    let told = run.lines().iter().filter(|line| **line == told).count();
    check(told == 2, || {
        format!("{told} of the two others told the child's status")
    })
}

const BETWEEN: &str = "the child lives, its parent does something else between two questions";
const TOLD: &str = "the parent has been told of the end";

pub(super) const TRY_WAIT: Scenario = Scenario {
    name: "try-wait",
    about: "Every 3 seconds a parent asks whether its child, of 15 seconds, has ended.",
    by_hand: "cargo run -p goroutine-wait --example try-wait",
    program: "try-wait",
    args: |clock| {
        let times_of = [("--child-sleep", 15.0), ("--every", 3.0)];
        times(clock.at_most(5.0), &times_of)
    },
    seconds: 18.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_that_says_its_pid()?;
        worker.snapshot(BETWEEN, &[parent, child])?;
        worker.line("Child ended with ")?;
        worker.until_gone(parent)?;
        worker.snapshot(TOLD, &[parent, child])
    },
    claims: &[Claim {
        id: "C47",
        says: "the loop runs five times (six, if the child's end is a moment late for the fifth \
               question), for nothing; a pidfd in poll tells once, at once (the control)",
        judge: asks_five_times,
    }],
    control: Some(Control {
        about: "a pidfd in poll",
        program: "pidfd",
        args: |clock| times(clock, &[("--child-sleep", 15.0)]),
        refutes: &["C47"],
    }),
};

fn asks_five_times(run: &Evidence<'_>) -> Check {
    let child = run.row(BETWEEN, run.role("child")?)?;
    check(child.is_alive(), || format!("the child was {}", child.stat))?;
    let lines = run.lines();
    let sleeps = lines.iter().filter(|line| line.starts_with("sleep "));
    let sleeps = sleeps.count();
    // A machine that is busy can make the parent late, too, and so save it a question.
    check((4..=6).contains(&sleeps), || {
        format!("it slept {sleeps} times between its questions")
    })?;
    check(lines.contains(&"Child ended with exit status: 24"), || {
        format!("{lines:?}")
    })?;
    run.nothing_listed(TOLD)
}
