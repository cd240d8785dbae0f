//! What a forked copy shares: one connection, of which it has a descriptor of its own.

use crate::evidence::{Check, Evidence, check};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::scenarios::{Claim, Control, Scenario, times, words};
use crate::worker::Worker;

const BOTH: &str = "parent and child hold the connection";
const ENDED: &str = "both have ended";

const CHILD_ENDED: &str = "The child has ended, and its copy is closed.";
const PARENT_CLOSED: &str = "The parent has closed its copy, too.";
const IN_VAIN: &str = "The client has waited for the end, in vain.";
const SEEN: &str = "The client has seen the end.";

pub(super) const ONE_CLOSE_TOO_FEW: Scenario = Scenario {
    name: "one-close-too-few",
    about: "A server forks for its client, and forgets to close its own copy of the connection.",
    by_hand: "cargo run -p echo-server --example one-close-too-few",
    program: "one-close-too-few",
    args: sleeps,
    seconds: 30.0,
    act: until_the_end,
    claims: &[Claim {
        id: "C45",
        says: "fork copies the descriptor, with its number, and not the connection: that ends when \
               the last copy is closed",
        judge: |run| {
            holds_a_copy(run)?;
            client_sees(run, &[CHILD_ENDED, IN_VAIN, PARENT_CLOSED, SEEN])
        },
    }],
    control: Some(Control {
        about: "a parent that closes its copy at once",
        program: "one-close-too-few",
        args: |clock| [sleeps(clock), words(&["--close"])].concat(),
        refutes: &["C45"],
    }),
};

pub(super) const SHUTDOWN: Scenario = Scenario {
    name: "shutdown",
    about: "The same, but the child shuts the connection down for writing.",
    by_hand: "cargo run -p echo-server --example one-close-too-few -- --shutdown",
    program: "one-close-too-few",
    args: |clock| [sleeps(clock), words(&["--shutdown"])].concat(),
    seconds: 15.0,
    act: until_the_end,
    claims: &[Claim {
        id: "C46",
        says: "closing one copy does not end the connection; shutting it down for writing does, \
               whoever else has a copy",
        judge: |run| {
            holds_a_copy(run)?;
            client_sees(run, &[CHILD_ENDED, SEEN, PARENT_CLOSED, SEEN])
        },
    }],
    control: Some(Control {
        about: "a child that just closes its copy",
        program: "one-close-too-few",
        args: sleeps,
        refutes: &["C46"],
    }),
};

fn sleeps(clock: Clock) -> Vec<String> {
    times(clock, &[("--sleep", 15.0)])
}

fn until_the_end(worker: &mut Worker) -> Result<(), Failure> {
    let parent = worker.start()?;
    let child = worker.process_in_line("Child's pid: ", "child")?;
    worker.line("Child's descriptor: ")?;
    worker.snapshot(BOTH, &[parent, child])?;
    worker.line("End parent process.")?;
    worker.until_gone(parent)?;
    worker.snapshot(ENDED, &[parent, child])
}

fn holds_a_copy(run: &Evidence<'_>) -> Check {
    let (parent, child) = (run.parent()?, run.role("child")?);
    let row = run.row(BOTH, child)?;
    check(row.is_alive() && row.ppid == parent.pid, || {
        format!("the child was {} with parent {}", row.stat, row.ppid)
    })?;
    let number = |whose| {
        let lines = run.lines();
        let mut numbers = lines.iter().filter_map(|line| line.strip_prefix(whose));
        numbers.next().unwrap_or("none").to_owned()
    };
    let numbers = ["Parent's descriptor: ", "Child's descriptor: "].map(number);
    check(numbers[0] == numbers[1], || {
        format!("the descriptors were {numbers:?}")
    })?;
    run.nothing_listed(ENDED)
}

fn client_sees(run: &Evidence<'_>, expected: &[&str]) -> Check {
    let lines = run.lines();
    let lines = lines.iter().skip_while(|line| **line != CHILD_ENDED);
    let lines: Vec<&str> = lines
        .take_while(|line| **line != "End parent process.")
        .copied()
        .collect();
    check(lines == expected, || format!("{lines:?}"))
}
