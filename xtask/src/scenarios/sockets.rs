//! What a forked copy shares: one connection, of which it has a descriptor of its own.

use crate::evidence::{Check, Evidence, check};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;
use crate::probe::need::LOOPBACK;
use crate::scenarios::ledger::{C45, C46};
use crate::scenarios::steps::BOTH_ENDED;
use crate::scenarios::{Scenario, control};
use crate::worker::Worker;

pub(super) const ALL: &[Scenario] = &[ONE_CLOSE_TOO_FEW, SHUTDOWN];

const BOTH: Text =
    text("parent and child have the connection open", "父进程和子进程都开着这个连接");

const CHILD_ENDED: &str = "The child has ended, and its copy is closed.";
const PARENT_CLOSED: &str = "The parent has closed its copy, too.";
const IN_VAIN: &str = "The client has waited for the end, in vain.";
const SEEN: &str = "The client has seen the end.";

const ONE_CLOSE_TOO_FEW: Scenario = Scenario {
    name: "one-close-too-few",
    command: "one-close-too-few --sleep 15s",
    seconds: 30.0,
    max_speed: 7.5,
    needs: &[LOOPBACK],
    act: until_the_end,
    shows: &[(C45, |e| {
        child_has_a_copy(e)?;
        client_sees(e, &[CHILD_ENDED, IN_VAIN, PARENT_CLOSED, SEEN])
    })],
    ..control("one-close-too-few --sleep 15s --close")
};

const SHUTDOWN: Scenario = Scenario {
    name: "shutdown",
    command: "one-close-too-few --sleep 15s --shutdown",
    seconds: 15.0,
    max_speed: 7.5,
    needs: &[LOOPBACK],
    act: until_the_end,
    shows: &[(C46, |e| {
        child_has_a_copy(e)?;
        client_sees(e, &[CHILD_ENDED, SEEN, PARENT_CLOSED, SEEN])
    })],
    ..control("one-close-too-few --sleep 15s")
};

fn until_the_end(w: &mut Worker) -> Result<(), Failure> {
    let parent = w.start()?;
    let child = w.process_in_line("Child's pid: ", "child")?;
    w.line("Child's descriptor: ")?;
    w.snapshot(BOTH)?;
    w.read_descriptors(&[parent, child]);
    w.line("End parent process.")?;
    w.snapshot_when_gone(parent, BOTH_ENDED)
}

fn child_has_a_copy(e: Evidence<'_>) -> Check {
    e.at(BOTH).live_child("child", "parent")?;
    e.prints("Child's descriptor: ", e.line("Parent's descriptor: ")?)?;
    e.at(BOTH_ENDED).nothing_listed()
}

fn client_sees(e: Evidence<'_>, expected: &[&str]) -> Check {
    let lines = e.lines().into_iter();
    let lines = lines.skip_while(|line| *line != CHILD_ENDED);
    let lines: Vec<&str> = lines.take_while(|line| *line != "End parent process.").collect();
    check!(lines == expected, "{lines:?}")
}
