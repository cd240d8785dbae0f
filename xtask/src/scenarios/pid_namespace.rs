//! The numbers of processes.

use crate::evidence::{Check, Evidence, check};
use crate::model::failure::Failure;
use crate::scenarios::{Claim, Control, Scenario, times, words};
use crate::worker::Worker;

const CHILDREN: usize = 3;
const COUNTED: &str = "the children have said what number they have";
const ENDED: &str = "all have ended";

pub(super) const PID_NAMESPACE: Scenario = Scenario {
    name: "pid-namespace",
    about: "Three children in a PID namespace of their own say what number they have.",
    by_hand: "cargo run -p echo-server --example pid-namespace, as root",
    program: "pid-namespace",
    args: |clock| times(clock, &[("--sleep", 20.0)]),
    seconds: 20.0,
    act: look_from_outside,
    claims: &[Claim {
        id: "C44",
        says: "a process can be number 2, and 1: in each PID namespace they are counted from 1, up \
               to pid_max",
        judge: counted_from_one,
    }],
    control: Some(Control {
        about: "without the namespace",
        program: "pid-namespace",
        args: |clock| [times(clock, &[("--sleep", 20.0)]), words(&["--outside"])].concat(),
        refutes: &["C44"],
    }),
};

fn look_from_outside(worker: &mut Worker) -> Result<(), Failure> {
    let parent = worker.start()?;
    worker.until("all children have said their numbers", |worker| {
        worker.lines("Child outside: ").len() == CHILDREN
    })?;
    let mut everybody = vec![parent];
    for line in worker.lines("Child outside: ") {
        if let Some((outside, inside)) = numbers(&line) {
            everybody.push(worker.found(outside, &format!("child {inside}")));
        }
    }
    worker.snapshot(COUNTED, &everybody)?;
    worker.line("End parent process.")?;
    worker.until_gone(parent)?;
    worker.snapshot(ENDED, &everybody)
}

/// From `Child outside: 4711, to itself: 2`.
fn numbers(line: &str) -> Option<(i32, i32)> {
    let numbers = line.strip_prefix("Child outside: ")?;
    let (outside, inside) = numbers.split_once(", to itself: ")?;
    Some((outside.parse().ok()?, inside.parse().ok()?))
}

fn counted_from_one(run: &Evidence<'_>) -> Check {
    let lines = run.lines();
    let of_children: Vec<(i32, i32)> = lines.iter().filter_map(|line| numbers(line)).collect();
    let inside: Vec<i32> = of_children.iter().map(|(_, inside)| *inside).collect();
    check(inside == [1, 2, 3], || {
        format!("the children had the numbers {inside:?}")
    })?;
    let limit = lines
        .iter()
        .find_map(|line| line.strip_prefix("Numbers are below: "));
    let limit: i32 = limit.and_then(|limit| limit.parse().ok()).unwrap_or(0);
    let parent = run.parent()?;
    for row in run.rows(COUNTED)? {
        let is_child = of_children.iter().any(|(outside, _)| *outside == row.pid);
        check(
            row.is_alive() && row.pid < limit && (row.pid == parent.pid || is_child),
            || format!("process {} was {}, the limit is {limit}", row.pid, row.stat),
        )?;
    }
    run.nothing_listed(ENDED)
}
