//! What a command is, what it has, and what comes of it: `exec.Cmd` beside Rust's `Command`.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, words};
use crate::worker::{Worker, start::press_enter};

const HELD: &str = "the children live";
const ENDED: &str = "all have ended";

pub(super) const REUSE: Scenario = Scenario {
    name: "reuse",
    about: "One command is started twice.",
    by_hand: "cargo run -p exec-cmd --example reuse",
    program: "reuse",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let (parent, stdin) = worker.start_with_stdin()?;
        let children = children_in_lines(worker)?;
        let everybody = [&[parent], &children[..]].concat();
        worker.snapshot(HELD, &everybody)?;
        press_enter(&stdin);
        worker.until_gone(parent)?;
        worker.snapshot(ENDED, &everybody)
    },
    claims: &[Claim {
        id: "C7",
        says: "Go's Cmd can be used once; Rust's Command is a description, and starts as many \
               processes as one likes",
        judge: |run| {
            let parent = run.parent()?;
            for role in ["child 1", "child 2"] {
                let row = run.row(HELD, run.role(role)?)?;
                check(row.is_alive() && row.ppid == parent.pid, || {
                    format!("{role} was {} with parent {}", row.stat, row.ppid)
                })?;
            }
            run.nothing_listed(ENDED)
        },
    }],
    control: Some(Control {
        about: "started once",
        program: "reuse",
        args: |_| words(&["--once"]),
        refutes: &["C7"],
    }),
};

/// All that the program has started when it waits for Enter.
fn children_in_lines(worker: &mut Worker) -> Result<Vec<Process>, Failure> {
    worker.line("Press Enter")?;
    let pids = worker.lines("Child: ");
    let pids = pids
        .iter()
        .filter_map(|line| line.split(": ").nth(1)?.parse().ok());
    let roles = (1..).map(|number| format!("child {number}"));
    Ok(pids
        .zip(roles)
        .map(|(pid, role)| worker.found(pid, &role))
        .collect())
}

pub(super) const PATH_AND_ARGS: Scenario = Scenario {
    name: "path-and-args",
    about: "The same relative path in two directories; and a first argument that is no path.",
    by_hand: "cargo run -p exec-cmd --example path-and-args, and ls -l /proc/N/exe",
    program: "path-and-args",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        worker.give_folder()?;
        let (parent, stdin) = worker.start_with_stdin()?;
        let children = children_in_lines(worker)?;
        for child in &children {
            worker.read(*child, "exe", &[]);
            worker.read(*child, "cmdline", &[""]);
        }
        let everybody = [&[parent], &children[..]].concat();
        worker.snapshot(HELD, &everybody)?;
        press_enter(&stdin);
        worker.until_gone(parent)?;
        worker.snapshot(ENDED, &everybody)
    },
    claims: &[
        Claim {
            id: "C8",
            says: "./program is the file of that name in the command's directory, not in ours: on \
                   Linux; Rust leaves it open",
            judge: |run| {
                for (role, end) in [("child 1", "/one/program"), ("child 2", "/two/program")] {
                    let exe = run.reading(run.role(role)?, "exe")?;
                    check(exe.ends_with(end), || format!("{role} executed {exe}"))?;
                }
                run.nothing_listed(ENDED)
            },
        },
        Claim {
            id: "C9",
            says: "without arguments the first one is the path; but it is free text, and what is \
                   executed is another matter",
            judge: |run| {
                for (role, arguments) in [
                    ("child 1", "./program\nchild"),
                    ("child 2", "any text\nchild"),
                ] {
                    let child = run.role(role)?;
                    let cmdline = run.reading(child, "cmdline")?;
                    check(cmdline == arguments, || {
                        format!("the arguments of {role} were {cmdline:?}")
                    })?;
                    let exe = run.reading(child, "exe")?;
                    check(exe.ends_with("/program"), || {
                        format!("{role} executed {exe}")
                    })?;
                }
                Ok(())
            },
        },
    ],
    control: Some(Control {
        about: "both in one directory, under the name of the path",
        program: "path-and-args",
        args: |_| words(&["--same"]),
        refutes: &["C8", "C9"],
    }),
};

const STREAMS: [&str; 3] = ["fd/0", "fd/1", "fd/2"];
const SPAWNED: &str = "the child of spawn reads its parent's stdin";
const CAPTURED: &str = "the child of output sleeps";

pub(super) const INHERITED: Scenario = Scenario {
    name: "inherited",
    about: "Commands for which nothing is set: one is spawned, one is run for its output.",
    by_hand: "cargo run -p exec-cmd --example inherited, and ls -l /proc/N/fd /proc/N/cwd",
    program: "inherited",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        worker.give_folder()?; // for a variable that we know
        let (parent, stdin) = worker.start_with_stdin()?;
        let spawned = worker.process_in_line("My pid is: ", "child of spawn")?;
        for process in [parent, spawned] {
            worker.read(process, "environ", &["TMPDIR="]);
            worker.read(process, "cwd", &[]);
            read_streams(worker, process);
        }
        worker.snapshot(SPAWNED, &[parent, spawned])?;
        drop(stdin);
        worker.line("The next one")?;
        let captured = worker.child_of(parent, "child of output")?;
        read_streams(worker, captured);
        worker.snapshot(CAPTURED, &[parent, captured])?;
        worker.signal(captured, Signal::SIGTERM);
        worker.until_gone(parent)?;
        worker.snapshot(ENDED, &[parent, spawned, captured])
    },
    claims: &[
        Claim {
            id: "C10",
            says: "a command has its parent's environment and directory",
            judge: |run| {
                let (parent, child) = (run.parent()?, run.role("child of spawn")?);
                let variable = run.reading(child, "environ")?;
                check(variable.starts_with("TMPDIR="), || {
                    "TMPDIR was missing".to_owned()
                })?;
                same_readings(run, parent, child, &["environ", "cwd"])?;
                run.nothing_listed(ENDED)
            },
        },
        Claim {
            id: "C11",
            says: "Go gives it the null device as stdin; Rust does that only in output(), else it \
                   has its parent's",
            judge: |run| {
                let (parent, child) = (run.parent()?, run.role("child of spawn")?);
                same_readings(run, parent, child, &STREAMS[..1])?;
                let stdin = run.reading(run.role("child of output")?, STREAMS[0])?;
                check(stdin == "/dev/null", || {
                    format!("stdin of output() was {stdin}")
                })
            },
        },
        Claim {
            id: "C13",
            says: "Go gives it the null device as stdout and stderr; in Rust, it has its parent's, \
                   and by output() a pipe for each",
            judge: |run| {
                let (parent, child) = (run.parent()?, run.role("child of spawn")?);
                same_readings(run, parent, child, &STREAMS[1..])?;
                let captured = run.role("child of output")?;
                let (out, err) = (
                    run.reading(captured, STREAMS[1])?,
                    run.reading(captured, STREAMS[2])?,
                );
                let pipes = out.starts_with("pipe:") && err.starts_with("pipe:");
                let own = run.reading(parent, STREAMS[1])?;
                check(pipes && out != err && out != own, || {
                    format!("the streams of output() were {out} and {err}")
                })
            },
        },
    ],
    control: Some(Control {
        about: "a cleared environment, another directory, and other streams",
        program: "inherited",
        args: |_| words(&["--nothing"]),
        refutes: &["C10", "C11", "C13"],
    }),
};

fn read_streams(worker: &mut Worker, process: Process) {
    for stream in STREAMS {
        worker.read(process, stream, &[]);
    }
}

fn same_readings(run: &Evidence<'_>, one: Process, other: Process, places: &[&str]) -> Check {
    for place in places {
        let readings = (run.reading(one, place)?, run.reading(other, place)?);
        check(readings.0 == readings.1, || {
            format!(
                "{place} was {} in the parent, {} in the child",
                readings.0, readings.1
            )
        })?;
    }
    Ok(())
}

const BLOCKED: &str = "the command has ended, its parent still waits for its output";

pub(super) const GRANDCHILD: Scenario = Scenario {
    name: "grandchild-holds-pipe",
    about: "A command ends, and leaves behind a process that holds the pipe of its output.",
    by_hand: "cargo run -p exec-cmd --example grandchild-holds-pipe",
    program: "grandchild-holds-pipe",
    args: |_| words(&[]),
    seconds: 1.0,
    act: |worker| {
        let parent = worker.start()?;
        let grandchild = worker.process_in_line("Grandchild: ", "grandchild")?;
        worker.line("Reading to the end")?;
        // One that does not have to wait has ended by then.
        worker.give_time(Duration::from_millis(500), |worker| {
            worker.state(parent).is_none()
        })?;
        worker.read(grandchild, "fd/1", &[]);
        worker.snapshot(BLOCKED, &[parent, grandchild])?;
        worker.signal(grandchild, Signal::SIGTERM);
        worker.until_gone(parent)?;
        worker.until_gone(grandchild)?;
        worker.snapshot(ENDED, &[parent, grandchild])
    },
    claims: &[Claim {
        id: "C12",
        says: "the status is there at once, but the output has no end as long as anybody has the \
               pipe; Go's Wait, which waits for both, can so wait for ever",
        judge: |run| {
            let (parent, grandchild) = (run.parent()?, run.role("grandchild")?);
            let row = run.row(BLOCKED, parent)?;
            check(row.is_alive(), || format!("the parent was {}", row.stat))?;
            let row = run.row(BLOCKED, grandchild)?;
            check(row.is_alive() && row.ppid == run.adopter()?, || {
                format!("the grandchild was {} with parent {}", row.stat, row.ppid)
            })?;
            let stdout = run.reading(grandchild, "fd/1")?;
            check(stdout.starts_with("pipe:"), || {
                format!("the grandchild's stdout was {stdout}")
            })?;
            let lines = run.lines();
            let expected = [
                "The command has ended: exit status: 0",
                "Reading to the end of its output...",
                "The output has ended.",
            ];
            check(lines.get(1..) == Some(&expected), || format!("{lines:?}"))?;
            run.nothing_listed(ENDED)
        },
    }],
    control: Some(Control {
        about: "a grandchild with another stdout",
        program: "grandchild-holds-pipe",
        args: |_| words(&["--closed"]),
        refutes: &["C12"],
    }),
};

pub(super) const STATUS: Scenario = Scenario {
    name: "status",
    about: "Three children, and what their parent knows of their ends, before and after.",
    by_hand: "cargo run -p exec-cmd --example status",
    program: "status",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let (parent, stdin) = worker.start_with_stdin()?;
        worker.line("Press Enter")?;
        let children: Vec<Process> = (1..)
            .zip(procfs::children(parent.pid)?)
            .map(|(number, pid)| worker.found(pid, &format!("child {number}")))
            .collect();
        let everybody = [&[parent], &children[..]].concat();
        worker.snapshot(HELD, &everybody)?;
        press_enter(&stdin);
        worker.until_gone(parent)?;
        worker.snapshot(ENDED, &everybody)
    },
    claims: &[Claim {
        id: "C15",
        says: "before the end there is no status; afterwards exit codes and signals are told apart, \
               of a code the lowest 8 bits, and it can be asked for again",
        judge: |run| {
            let parent = run.parent()?;
            let rows = run.rows(HELD)?;
            let children = rows
                .iter()
                .filter(|row| row.ppid == parent.pid && row.is_alive());
            check(children.count() == 3, || format!("{rows:?}"))?;
            for (end, status) in [
                ("exit 7", "exit status: 7"),
                ("kill -9 $$", "signal: 9 (SIGKILL)"),
                ("exit 300", "exit status: 44"),
            ] {
                for (moment, expected) in [
                    ("Before", "None"),
                    ("After", status),
                    ("Once more, after", status),
                ] {
                    let told = run.line(&format!("{moment} {end}: "))?;
                    check(told == expected, || format!("{moment} {end}: {told}"))?;
                }
            }
            run.nothing_listed(ENDED)
        },
    }],
    control: None,
};
