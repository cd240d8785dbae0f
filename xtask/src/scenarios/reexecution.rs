//! What a program that starts itself again can do, and has to mind.

use crate::evidence::{Check, Evidence, check};
use crate::model::failure::Failure;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, words};
use crate::worker::{Worker, start::press_enter};

const HELD: &str = "the child lives";
const ENDED: &str = "both have ended";
const NO_SUCH_FILE: &str = "No such file or directory (os error 2)";

/// Looks at the child that says its number and then waits, and lets it go on.
fn look_at_child(worker: &mut Worker) -> Result<(), Failure> {
    worker.give_folder()?;
    let (parent, stdin) = worker.start_with_stdin()?;
    let child = worker.child_that_says_its_pid()?;
    worker.line("Press Enter")?;
    for process in [parent, child] {
        worker.read(process, "exe", &[]);
        worker.read(process, "cmdline", &[""]);
        worker.read(process, "fd", &[]);
    }
    worker.snapshot(HELD, &[parent, child])?;
    press_enter(&stdin);
    worker.until_gone(parent)?;
    worker.snapshot(ENDED, &[parent, child])
}

pub(super) const FAILING_CHILD: Scenario = Scenario {
    name: "failing-child",
    about: "A function is run in a process of its own, and fails.",
    by_hand: "cargo run -p reexec --example failing-child, and the same with -- --exit-0",
    program: "failing-child",
    args: |_| words(&[]),
    seconds: 0.0,
    act: look_at_child,
    claims: &[
        Claim {
            id: "C18",
            says: "a function's name is no program; in the program itself, executed once more, it \
                   can be chosen",
            judge: |run| {
                let as_command = run.line("As a command: ")?;
                // Denied, if one of the folders that are searched is not for us to look into.
                let expected = [NO_SUCH_FILE, "Permission denied (os error 13)"];
                check(expected.contains(&as_command), || as_command.to_owned())?;
                let (parent, child) = (run.parent()?, run.role("child")?);
                let files = (run.reading(parent, "exe")?, run.reading(child, "exe")?);
                check(files.0 == files.1, || format!("{files:?}"))?;
                let name = run.reading(child, "cmdline")?.lines().next();
                check(name == Some("childProcess"), || format!("{name:?}"))
            },
        },
        Claim {
            id: "C21",
            says: "it is a new program, not a fork; and it exits with what the function says: with 0 \
                   whatever happens, as in the chapter, nobody would know that it has failed",
            judge: |run| {
                let status = run.line("Re-executed: ")?;
                check(status == "exit status: 1", || {
                    format!("the function failed, and the child's status was {status}")
                })?;
                run.nothing_listed(ENDED)
            },
        },
    ],
    control: Some(Control {
        about: "exit(0) after the function, whatever it returned",
        program: "failing-child",
        args: |_| words(&["--exit-0"]),
        refutes: &["C21"],
    }),
};

pub(super) const EXTRA_DESCRIPTORS: Scenario = Scenario {
    name: "extra-descriptors",
    about: "A command is given a file as descriptor 3; another one is open by accident.",
    by_hand: "cargo run -p reexec --example extra-descriptors, and ls -l /proc/N/fd",
    program: "extra-descriptors",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let (parent, stdin) = worker.start_with_stdin()?;
        let child = worker.child_that_says_its_pid()?;
        // Before that, the child is still on its way to becoming the command, or its loader has
        // the libraries open.
        worker.until("the child is cat, and reads", |_| {
            procfs::stat(child.pid).is_some_and(|stat| stat.name == "cat" && stat.state == 'S')
        })?;
        worker.read(parent, "fd", &[]);
        worker.read(child, "fd", &[]);
        worker.read(child, "fd/3", &[]);
        worker.snapshot(HELD, &[parent, child])?;
        press_enter(&stdin);
        worker.until_gone(parent)?;
        worker.snapshot(ENDED, &[parent, child])
    },
    claims: &[Claim {
        id: "C14",
        says: "the file is descriptor 3, and there are no others, though its parent has more: in \
               Rust that has to be brought about, as descriptors are closed by exec",
        judge: |run| {
            let (parent, child) = (run.parent()?, run.role("child")?);
            let (ours, its) = (run.reading(parent, "fd")?, run.reading(child, "fd")?);
            check(ours.split(' ').any(|number| number == "7"), || {
                format!("the parent had {ours}")
            })?;
            check(its == "0 1 2 3", || format!("the command had {its}"))?;
            let file = run.reading(child, "fd/3")?;
            check(file == "/etc/passwd", || format!("descriptor 3 was {file}"))?;
            run.nothing_listed(ENDED)
        },
    }],
    control: Some(Control {
        about: "std's Command, which has nothing of the kind",
        program: "extra-descriptors",
        args: |_| words(&["--std"]),
        refutes: &["C14"],
    }),
};

pub(super) const SELF_EXE: Scenario = Scenario {
    name: "self-exe",
    about: "A program's file is renamed, and then deleted, while it runs and starts itself again.",
    by_hand: "cargo run -p reexec --example self-exe, and the same with -- --keep",
    program: "self-exe",
    args: |_| words(&[]),
    seconds: 0.0,
    act: look_at_child,
    claims: &[Claim {
        id: "C23",
        says: "the path leads nowhere once the file is renamed, the name once it is deleted; the \
               kernel's link /proc/self/exe still leads to it",
        judge: finds_itself,
    }],
    control: Some(Control {
        about: "with the file left alone",
        program: "self-exe",
        args: |_| words(&["--keep"]),
        refutes: &["C23"],
    }),
};

fn finds_itself(run: &Evidence<'_>) -> Check {
    let found = "exit status: 0";
    for (way, expected) in [
        ("Renamed, by path: ", NO_SUCH_FILE),
        ("Renamed, by name: ", found),
        ("Deleted, by path: ", NO_SUCH_FILE),
        ("Deleted, by name: ", NO_SUCH_FILE),
        ("Deleted, by /proc/self/exe: ", found),
    ] {
        let result = run.line(way)?;
        check(result == expected, || format!("{way}{result}"))?;
    }
    let exe = run.reading(run.role("child")?, "exe")?;
    check(exe.ends_with(" (deleted)"), || {
        format!("the child executed {exe}")
    })?;
    run.nothing_listed(ENDED)
}
