//! `goroutine_wait.go`: a thread waits while the parent goes on, and the variant without it.

use std::time::Duration;

use crate::evidence::{Check, Evidence, check};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, times, words};
use crate::worker::Worker;

const BEFORE: &str = "the children sleep, their parents go on";
const AFTER: &str = "the children have ended, their parents go on";

/// A child for each parent: of the one with the thread that waits, and of the one without.
const CHILDREN: [&str; 2] = ["child that is waited for", "child that is not"];

pub(super) const WAIT: Scenario = Scenario {
    name: "goroutine-wait",
    about: "A thread waits for the child while the parent goes on; beside it, the same without.",
    by_hand: "cargo run -p goroutine-wait, and the same with -- --no-wait",
    program: "goroutine-wait",
    args: with_wait,
    seconds: 65.0,
    act: look_before_and_after,
    claims: &[Claim {
        id: "C42",
        says: "after the child's end, ps does not list it any more; without the wait, it lists a \
               zombie; and the parents live",
        judge: gone_or_zombie,
    }],
    control: Some(Control {
        about: "without the waiting thread in both",
        program: "goroutine-wait",
        args: without_wait,
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

fn look_before_and_after(worker: &mut Worker) -> Result<(), Failure> {
    let no_wait = without_wait(worker.clock());
    let parents = [
        worker.start()?,
        worker.start_program("goroutine-wait", &no_wait)?,
    ];
    let mut children = Vec::new();
    for (parent, role) in parents.into_iter().zip(CHILDREN) {
        children.push(worker.child_of(parent, role)?);
    }
    let everybody = [&parents[..], &children[..]].concat();
    let both = |line: &'static str| move |worker: &mut Worker| worker.lines(line).len() == 2;
    worker.until("both parents have slept", both("Parent end sleeping..."))?;
    worker.give_time(Duration::from_millis(500), |_| {
        procfs::stat(parents[0].pid).is_some_and(|stat| stat.threads > 1)
    })?;
    worker.snapshot(BEFORE, &everybody)?;
    worker.until("both children have ended", both("End child process."))?;
    for child in children {
        worker.until_ended(child)?;
    }
    worker.snapshot(AFTER, &everybody)?;
    for parent in parents {
        worker.until_gone(parent)?;
    }
    Ok(())
}

fn gone_or_zombie(run: &Evidence<'_>) -> Check {
    let [waited_for, forgotten] = CHILDREN;
    let (waited_for, forgotten) = (run.role(waited_for)?, run.role(forgotten)?);
    let parents: Vec<i32> = [run.row(BEFORE, waited_for)?, run.row(BEFORE, forgotten)?]
        .iter()
        .map(|child| child.ppid)
        .collect();
    for row in run.rows(BEFORE)? {
        check(row.is_alive(), || {
            format!("process {} was {}", row.pid, row.stat)
        })?;
    }
    run.not_listed(AFTER, waited_for)?;
    let zombie = run.row(AFTER, forgotten)?;
    check(zombie.is_zombie(), || {
        format!("the child was {}", zombie.stat)
    })?;
    let living = run.rows(AFTER)?;
    let living = living
        .iter()
        .filter(|row| row.is_alive() && parents.contains(&row.pid));
    check(living.count() == 2, || "a parent had ended".to_owned())
}
