//! Signals: what they do to a sleep, what a handler cannot do, and SIGCHLD.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::model::process::State;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, times, words};
use crate::worker::Worker;

/// Plenty for a process to notice something, where it does.
const A_MOMENT: Duration = Duration::from_secs(1);

const SLEEPS: &str = "the program sleeps";
const ENDED: &str = "the program has ended";

pub(super) const SIGNAL: Scenario = Scenario {
    name: "signal",
    about: "Ctrl-C, and twice an alarm, in sleeps of 100 seconds.",
    by_hand: "cargo run -p echo-server --example signal",
    program: "signal",
    args: |clock| words(&["--alarm", &whole_seconds(clock, 2.0)]),
    seconds: 4.0,
    act: |worker| {
        let program = worker.start()?;
        worker.line("wait...")?;
        worker.until("it sleeps", |worker| worker.is_asleep(program))?;
        worker.snapshot_in_passing(SLEEPS, &[program])?;
        worker.signal(program, Signal::SIGINT);
        worker.line("CTRL+C pressed")?;
        worker.until_gone(program)?;
        worker.snapshot(ENDED, &[program])
    },
    claims: &[Claim {
        id: "C48",
        says: "a signal that is handled ends sleep(3) early, and it is not resumed; thread::sleep of \
               Rust's std is (the control)",
        judge: ends_sleeps_early,
    }],
    control: Some(Control {
        about: "by thread::sleep, a second each",
        program: "signal",
        args: |clock| {
            let alarm = whole_seconds(clock, 2.0);
            words(&["--std", "--alarm", &alarm, "--sleep", "1"])
        },
        refutes: &["C48"],
    }),
};

/// alarm(2) knows no others, and none less than 1.
fn whole_seconds(clock: Clock, chapters: f64) -> String {
    (chapters / clock.speed).ceil().to_string()
}

fn ends_sleeps_early(run: &Evidence<'_>) -> Check {
    let program = run.parent()?;
    run.signal_was_accepted(program)?;
    let row = run.row(SLEEPS, program)?;
    check(row.is_alive(), || format!("the program was {}", row.stat))?;
    let lines = run.lines();
    let left = lines
        .iter()
        .filter_map(|line| line.strip_prefix("left of the sleep: "));
    let left: Vec<&str> = left.collect();
    check(left.len() == 3 && !left.contains(&"0 s"), || {
        format!("left of the sleeps was {left:?}")
    })?;
    let count = |wanted| lines.iter().filter(|line| **line == wanted).count();
    let handled = (count("CTRL+C pressed"), count("Time out!"));
    check(handled == (1, 2), || format!("{lines:?}"))?;
    run.nothing_listed(ENDED)
}

pub(super) const HANDLER_LIMITS: Scenario = Scenario {
    name: "handler-limits",
    about: "Ten signals merge; and one comes between the look at a note and the wait.",
    by_hand: "cargo run -p echo-server --example handler-limits, and the same with -- --signalfd",
    program: "handler-limits",
    args: |clock| [times(clock, &[("--wait", 10.0)]), words(&["--signalfd"])].concat(),
    seconds: 0.0,
    act: |worker| {
        let program = worker.start()?;
        worker.until_gone(program)?;
        worker.snapshot(ENDED, &[program])
    },
    claims: &[Claim {
        id: "C43",
        says: "signals, left out by the chapter as hard: they merge, so count nothing by them; and \
               one that comes just before a wait ends it, if the wait is for signals, too",
        judge: |run| {
            let lines = run.lines();
            let expected = [
                "Sent: 10, noted: 1",
                "The signal has come. Now we wait.",
                "The signal has ended the wait.",
            ];
            check(lines == expected, || format!("{lines:?}"))?;
            run.nothing_listed(ENDED)
        },
    }],
    control: Some(Control {
        about: "a handler that notes the signal, and a wait for something else",
        program: "handler-limits",
        args: |clock| times(clock, &[("--wait", 10.0)]),
        refutes: &["C43"],
    }),
};

const STOPPED: &str = "the child has been sent SIGSTOP";
const KILLED: &str = "the child has been sent SIGCONT, and then SIGKILL";

pub(super) const SIGCHLD: Scenario = Scenario {
    name: "sigchld",
    about: "A child is stopped, goes on, and is killed; its parent is told of all that.",
    by_hand: "cargo run -p echo-server --example sigchld, and kill -STOP, -CONT, -KILL with the \
              pid that the child prints",
    program: "sigchld",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_that_says_its_pid()?;
        worker.signal(child, Signal::SIGSTOP);
        worker.until("the child is stopped", |worker| {
            worker.state(child) == Some(State::Stopped)
        })?;
        give_time_to_be_told(worker, 1)?;
        worker.snapshot(STOPPED, &[parent, child])?;
        worker.signal(child, Signal::SIGCONT);
        worker.until("the child goes on", |worker| {
            worker.state(child) != Some(State::Stopped)
        })?;
        give_time_to_be_told(worker, 2)?;
        worker.signal(child, Signal::SIGKILL);
        worker.until_gone(parent)?;
        worker.snapshot(KILLED, &[parent, child])
    },
    claims: &[Claim {
        id: "C32",
        says: "SIGCHLD comes when a child ends, and when it is stopped or goes on (unless \
               SA_NOCLDSTOP: the control); by default it does nothing, and the status is kept",
        judge: told_of_everything,
    }],
    control: Some(Control {
        about: "with SA_NOCLDSTOP",
        program: "sigchld",
        args: |_| words(&["--no-child-stop"]),
        refutes: &["C32"],
    }),
};

/// Or the next signal would merge with this one.
fn give_time_to_be_told(worker: &mut Worker, times: usize) -> Result<(), Failure> {
    worker
        .give_time(A_MOMENT, |worker| worker.lines("SIGCHLD: ").len() == times)
        .map(drop)
}

fn told_of_everything(run: &Evidence<'_>) -> Check {
    let child = run.role("child")?;
    let row = run.row(STOPPED, child)?;
    check(row.stat.starts_with('T'), || {
        format!("the child was {}", row.stat)
    })?;
    let whose = format!("SIGCHLD: process {} ", child.pid);
    let lines = run.lines();
    let told: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(&whose))
        .collect();
    check(
        told == ["was stopped", "goes on", "was ended by a signal"],
        || format!("the parent was told: {told:?}"),
    )?;
    let by_default = [
        "By default nothing happened when a child ended.",
        "Its status was kept: exit status: 0",
    ];
    check(lines.starts_with(&by_default), || format!("{lines:?}"))?;
    run.nothing_listed(KILLED)
}

const CHILDREN: usize = 10;
const HELD_BACK: &str = "ten children have ended, SIGCHLD is held back";
const HANDLED: &str = "SIGCHLD has come";

pub(super) const REMOVE_ZOMBIE: Scenario = Scenario {
    name: "remove-zombie",
    about: "Ten children end while SIGCHLD is held back; then it comes, once.",
    by_hand: "cargo run -p echo-server --example remove-zombie, and the same with -- --once",
    program: "remove-zombie",
    args: |clock| times(clock, &[("--sleep", 20.0)]),
    seconds: 40.0,
    act: |worker| {
        let parent = worker.start()?;
        worker.line("Children that have ended: ")?;
        let children: Vec<Process> = (1..)
            .zip(procfs::children(parent.pid)?)
            .map(|(number, pid)| worker.found(pid, &format!("child {number}")))
            .collect();
        let everybody = [&[parent], &children[..]].concat();
        worker.snapshot(HELD_BACK, &everybody)?;
        worker.line("Removed: ")?;
        worker.snapshot(HANDLED, &everybody)?;
        worker.line("End parent process.")?;
        worker.until_gone(parent)
    },
    claims: &[Claim {
        id: "C33",
        says: "a parent that waits on SIGCHLD has to go on until no zombie is left: the signals of \
               ten children merge into one, and one wait leaves nine of them",
        judge: one_signal_removes_all,
    }],
    control: Some(Control {
        about: "one wait for each signal, as in the chapter",
        program: "remove-zombie",
        args: |clock| [times(clock, &[("--sleep", 20.0)]), words(&["--once"])].concat(),
        refutes: &["C33"],
    }),
};

fn one_signal_removes_all(run: &Evidence<'_>) -> Check {
    let parent = run.parent()?;
    let before = run.rows(HELD_BACK)?;
    let zombies = before.iter().filter(|row| row.is_zombie()).count();
    check(zombies == CHILDREN, || {
        format!("{zombies} zombies were there")
    })?;
    let lines = run.lines();
    let signals = lines
        .iter()
        .find_map(|line| line.strip_prefix("Signals that came: "));
    check(signals == Some("1"), || {
        format!("the signals that came: {signals:?}")
    })?;
    let after = run.rows(HANDLED)?;
    let zombies = after.iter().filter(|row| row.is_zombie()).count();
    check(zombies == 0, || format!("{zombies} zombies were left"))?;
    check(run.row(HANDLED, parent)?.is_alive(), || {
        "the parent had ended".to_owned()
    })
}

const IGNORED: &str = "two children have ended, one before SIGCHLD was ignored, one since";
const BLOCKED: &str = "the parent waits for any child, the last one lives";
const ALL_GONE: &str = "all have ended";

pub(super) const IGNORE_SIGCHLD: Scenario = Scenario {
    name: "ignore-sigchld",
    about: "A parent ignores SIGCHLD: children leave no zombies, and no statuses.",
    by_hand: "cargo run -p echo-server --example ignore-sigchld, and the same with \
              -- --no-child-wait",
    program: "ignore-sigchld",
    args: |clock| times(clock.at_most(5.0), &[("--parent-sleep", 20.0)]),
    seconds: 40.0,
    act: |worker| {
        let parent = worker.start()?;
        let before = worker.process_in_line("Ended before, pid: ", "zombie from before")?;
        let since = worker.process_in_line("Ended since, pid: ", "child that ended since")?;
        let last = worker.process_in_line("Lives on, pid: ", "child that lives on")?;
        let everybody = [parent, before, since, last];
        worker.line("SigIgn:")?;
        worker.until_ended(since)?;
        worker.snapshot(IGNORED, &everybody)?;
        worker.line("wait: ")?;
        worker.until("the parent sleeps", |worker| worker.is_asleep(parent))?;
        worker.snapshot(BLOCKED, &everybody)?;
        worker.until_gone(parent)?;
        worker.snapshot(ALL_GONE, &everybody)
    },
    claims: &[Claim {
        id: "C34",
        says: "if SIGCHLD is ignored, children leave no zombie and no status, and wait blocks until \
               all have ended, and fails; a zombie from before stays; a program that is executed \
               ignores it, too",
        judge: statuses_are_lost,
    }],
    control: Some(Control {
        about: "with SIGCHLD at default",
        program: "ignore-sigchld",
        args: |clock| {
            [
                times(clock, &[("--parent-sleep", 20.0)]),
                words(&["--default"]),
            ]
            .concat()
        },
        refutes: &["C34"],
    }),
};

fn statuses_are_lost(run: &Evidence<'_>) -> Check {
    let (parent, before) = (run.parent()?, run.role("zombie from before")?);
    let (since, last) = (
        run.role("child that ended since")?,
        run.role("child that lives on")?,
    );
    run.not_listed(IGNORED, since)?;
    let zombie = run.row(IGNORED, before)?;
    check(zombie.is_zombie(), || {
        format!("the zombie from before was {}", zombie.stat)
    })?;
    let (waiting, living) = (run.row(BLOCKED, parent)?, run.row(BLOCKED, last)?);
    check(waiting.is_alive() && living.is_alive(), || {
        format!("the parent was {}, its child {}", waiting.stat, living.stat)
    })?;
    run.not_listed(BLOCKED, before)?;
    let lines = run.lines();
    let waits = lines.iter().filter_map(|line| line.strip_prefix("wait: "));
    let waits: Vec<&str> = waits.collect();
    let first = format!("Exited(Pid({}), 0)", before.pid);
    check(waits == [&first, "there is no child"], || {
        format!("wait returned {waits:?}")
    })?;
    check(lines.iter().any(|line| ignores_sigchld(line)), || {
        "the program that was executed does not ignore SIGCHLD".to_owned()
    })?;
    run.nothing_listed(ALL_GONE)
}

/// In a line of /proc/PID/status, a mask in which the lowest bit is signal 1.
fn ignores_sigchld(line: &str) -> bool {
    let mask = line.strip_prefix("SigIgn:").map(str::trim);
    let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.is_some_and(|mask| mask >> (Signal::SIGCHLD as i32 - 1) & 1 == 1)
}

/// What the three parents do about SIGCHLD, and what their zombies are called.
const ACTIONS: [(&str, &str); 3] = [
    ("reap", "zombie of the late handler"),
    ("default", "zombie of the default"),
    ("ignore", "zombie of the ignorer"),
];
const BY_HAND_BEFORE: &str = "three parents have a zombie each";
const BY_HAND_AFTER: &str = "the parents have been sent SIGCHLD";

pub(super) const LATE_HANDLER: Scenario = Scenario {
    name: "late-handler",
    about: "Somebody sends SIGCHLD to the parents of zombies by hand.",
    by_hand: "cargo run -p echo-server --example late-handler, and kill -CHLD with the pid that it \
              prints; the same with -- --action default, -- --action ignore",
    program: "late-handler",
    args: |clock| with_action(clock, "reap"),
    seconds: 1.0,
    act: send_by_hand,
    claims: &[Claim {
        id: "C37",
        says: "SIGCHLD sent by hand does nothing if its parent leaves it at default or ignores it; \
               the zombie goes only if the parent waits on it, and began to when it was too late",
        judge: helps_the_late_handler_only,
    }],
    control: Some(Control {
        about: "no handler at all",
        program: "late-handler",
        args: |clock| with_action(clock, "default"),
        refutes: &["C37"],
    }),
};

fn with_action(clock: Clock, action: &str) -> Vec<String> {
    let times = times(clock, &[("--parent-sleep", 600.0)]); // longer than the story
    [times, words(&["--action", action])].concat()
}

fn send_by_hand(worker: &mut Worker) -> Result<(), Failure> {
    let clock = worker.clock();
    let parents = [
        worker.start()?,
        worker.start_program("late-handler", &with_action(clock, "default"))?,
        worker.start_program("late-handler", &with_action(clock, "ignore"))?,
    ];
    let mut zombies = Vec::new();
    for (parent, (_, role)) in parents.into_iter().zip(ACTIONS) {
        worker.line(&format!("My pid is: {}", parent.pid))?;
        let zombie = procfs::children(parent.pid)?;
        let zombie = *zombie
            .first()
            .ok_or_else(|| Failure::Missed(format!("there is a {role}")))?;
        zombies.push(worker.found(zombie, role));
    }
    let everybody = [&parents[..], &zombies[..]].concat();
    worker.snapshot(BY_HAND_BEFORE, &everybody)?;
    for parent in parents {
        worker.signal(parent, Signal::SIGCHLD);
    }
    worker.give_time(A_MOMENT, |worker| worker.state(zombies[0]).is_none())?;
    // And for the others, whose turn never comes.
    worker.give_time(A_MOMENT / 4, |worker| {
        zombies.iter().all(|zombie| worker.state(*zombie).is_none())
    })?;
    worker.snapshot(BY_HAND_AFTER, &everybody)
}

fn helps_the_late_handler_only(run: &Evidence<'_>) -> Check {
    for (action, role) in ACTIONS {
        let zombie = run.role(role)?;
        let before = run.row(BY_HAND_BEFORE, zombie)?;
        check(before.is_zombie(), || {
            format!("the {role} was {}", before.stat)
        })?;
        if action == "reap" {
            run.not_listed(BY_HAND_AFTER, zombie)?;
            continue;
        }
        let after = run.row(BY_HAND_AFTER, zombie)?;
        check(after.is_zombie() && after.ppid == before.ppid, || {
            format!("the {role} was {} afterwards", after.stat)
        })?;
    }
    run.signal_was_accepted(run.parent()?)
}
