//! Fork itself, what it is about, and what becomes of it where there are threads.

use crate::evidence::{Check, Evidence, check};
use crate::model::failure::Failure;
use crate::scenarios::{Claim, Control, Scenario, words};
use crate::worker::{Worker, start::press_enter};

const FORKED: &str = "the forked child lives";
const EXECUTED: &str = "the child that was executed lives";
const ENDED: &str = "all have ended";

pub(super) const PLAIN_FORK: Scenario = Scenario {
    name: "plain-fork",
    about: "A variable is changed; then a child is forked, another one executed.",
    by_hand: "cargo run -p reexec --example plain-fork",
    program: "plain-fork",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let (parent, stdin) = worker.start_with_stdin()?;
        let forked = worker.process_in_line("Forked, my pid is: ", "forked child")?;
        worker.snapshot(FORKED, &[parent, forked])?;
        press_enter(&stdin);
        let executed = worker.process_in_line("Executed, my pid is: ", "executed child")?;
        worker.snapshot(EXECUTED, &[parent, executed])?;
        press_enter(&stdin);
        worker.until_gone(parent)?;
        worker.snapshot(ENDED, &[parent, forked, executed])
    },
    claims: &[
        Claim {
            id: "C3",
            says: "Go has none. Rust has one that is unsafe, and here one that is not: two processes \
                   go on from it, and with a second thread it is refused",
            judge: |run| {
                let parent = run.parent()?;
                let (ours, copy) = (
                    run.row(FORKED, parent)?,
                    run.row(FORKED, run.role("forked child")?)?,
                );
                check(
                    copy.is_alive() && copy.ppid == parent.pid && copy.rest == ours.rest,
                    || format!("ps showed {copy:?}"),
                )?;
                let refused = run.line("Refused: ")?;
                check(refused.contains("2 threads"), || refused.to_owned())?;
                run.nothing_listed(ENDED)
            },
        },
        Claim {
            id: "C6",
            says: "a forked child goes on where its parent was, and sees the variable as it was \
                   changed; one that is executed begins anew, and does not",
            judge: |run| {
                let row = run.row(EXECUTED, run.role("executed child")?)?;
                check(row.rest.contains("childProcess"), || {
                    format!("ps showed {row:?}")
                })?;
                let values = (
                    run.line("Forked, the value is ")?,
                    run.line("Executed, the value is ")?,
                );
                check(values == ("2", "1"), || {
                    format!(
                        "the value was {} where forked, {} where executed",
                        values.0, values.1
                    )
                })
            },
        },
    ],
    control: Some(Control {
        about: "without the change, and without the second thread",
        program: "plain-fork",
        args: |_| words(&["--no-change"]),
        refutes: &["C3", "C6"],
    }),
};

const COPIED: &str = "a program with two threads has forked, and the copy is held before exec";

pub(super) const FORK_WITH_THREADS: Scenario = Scenario {
    name: "fork-with-threads",
    about: "A program forks while its other thread has a lock, which is then unlocked.",
    by_hand: "cargo run -p reexec --example fork-with-threads, where there is strace",
    program: "fork-with-threads",
    args: |_| words(&[]),
    seconds: 0.0,
    act: look_at_copy,
    claims: &[Claim {
        id: "C4",
        says: "the copy has one thread, the one that forked; the lock of the other stays locked in \
               it, as nobody is left who could unlock it",
        judge: stays_locked,
    }],
    control: Some(Control {
        about: "with the lock not taken",
        program: "fork-with-threads",
        args: |_| words(&["--unlocked"]),
        refutes: &["C4"],
    }),
};

fn look_at_copy(worker: &mut Worker) -> Result<(), Failure> {
    let (tracer, stdin) = worker.start_with_stdin()?;
    let parent = worker.process_in_line("Parent: ", "parent")?;
    let copy = worker.process_in_line("Copy: ", "copy")?;
    worker.line("Both can be looked at.")?;
    for process in [parent, copy] {
        worker.read(process, "status", &["Threads:", "TracerPid:"]);
        worker.read(process, "cmdline", &[""]);
    }
    worker.snapshot(COPIED, &[parent, copy])?;
    press_enter(&stdin);
    for process in [tracer, parent, copy] {
        worker.until_gone(process)?;
    }
    worker.snapshot(ENDED, &[tracer, parent, copy])
}

fn stays_locked(run: &Evidence<'_>) -> Check {
    let (parent, copy) = (run.role("parent")?, run.role("copy")?);
    let row = run.row(COPIED, copy)?;
    check(row.ppid == parent.pid && !row.is_zombie(), || {
        format!("the copy was {} with parent {}", row.stat, row.ppid)
    })?;
    let programs = (
        run.reading(parent, "cmdline")?,
        run.reading(copy, "cmdline")?,
    );
    check(programs.0 == programs.1, || {
        format!("the copy was {:?} already", programs.1)
    })?;
    for (process, threads) in [(parent, "Threads:\t2"), (copy, "Threads:\t1")] {
        let status = run.reading(process, "status")?;
        check(status.lines().any(|line| line == threads), || {
            format!("process {}: {status}", process.pid)
        })?;
    }
    let locked = (run.line("Parent, locked: ")?, run.line("Copy, locked: ")?);
    check(locked == ("false", "true"), || {
        format!(
            "locked in the parent: {}, in the copy: {}",
            locked.0, locked.1
        )
    })?;
    run.nothing_listed(ENDED)
}

pub(super) const SYSTEM_CALLS: Scenario = Scenario {
    name: "system-calls",
    about: "Processes are started in three ways, and strace tells the system calls.",
    by_hand: "cargo run -p reexec --example system-calls, where there is strace",
    program: "system-calls",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let program = worker.start()?;
        worker.until_gone(program)?;
        worker.snapshot(ENDED, &[program])
    },
    claims: &[Claim {
        id: "C5",
        says: "three layers over one mechanism: a clone that borrows its parent's memory, and \
               execve; and a fork in between, as soon as something is to be done before execve",
        judge: |run| {
            for way in ["command", "reexec"] {
                let calls = calls(run, way);
                let borrows =
                    |call: &str| call.contains("clone") && call.contains("CLONE_VM|CLONE_VFORK");
                check(calls.iter().any(|call| borrows(call)), || {
                    format!("{way}: {calls:?}")
                })?;
            }
            let forked = calls(run, "user");
            check(
                forked.iter().any(|call| call.contains("clone"))
                    && !forked.iter().any(|call| call.contains("CLONE_VM")),
                || format!("user: {forked:?}"),
            )?;
            for way in ["command", "reexec", "user"] {
                let executed = calls(run, way).iter().any(|call| call.contains("execve("));
                check(executed, || format!("{way}: no execve"))?;
            }
            run.nothing_listed(ENDED)
        },
    }],
    control: Some(Control {
        about: "with a user to become, each time",
        program: "system-calls",
        args: |_| words(&["--fork"]),
        refutes: &["C5"],
    }),
};

fn calls<'a>(run: &'a Evidence<'_>, way: &str) -> Vec<&'a str> {
    let lines = run.lines();
    let calls = lines
        .iter()
        .filter_map(|line| line.strip_prefix(way)?.strip_prefix(": "));
    calls.collect()
}
