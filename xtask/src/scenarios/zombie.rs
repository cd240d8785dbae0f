//! `zombie.go`: children that end before their parent waits, and parents that end first.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::clock::Clock;
use crate::model::process::State;
use crate::scenarios::{Claim, Control, Scenario, times};

const DEAD: &str = "the child has ended, its parent sleeps";
const GONE: &str = "the parent has ended, too";

pub(super) const ZOMBIE: Scenario = Scenario {
    name: "zombie",
    about: "A child ends while its parent sleeps and does not wait for it.",
    by_hand: "cargo run -p zombie",
    program: "zombie",
    args: |clock| times(clock, &[("--parent-sleep", 30.0)]),
    seconds: 30.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_that_says_its_pid()?;
        worker.until_ended(child)?;
        worker.snapshot(DEAD, &[parent, child])?;
        worker.line("End parent process.")?;
        worker.until_gone(parent)?;
        worker.until_gone(child)?;
        worker.snapshot(GONE, &[parent, child])
    },
    claims: &[
        Claim {
            id: "C24",
            says: "a process that has ended and is not reaped is a zombie",
            judge: |run| {
                let child = run.row(DEAD, run.role("child")?)?;
                check(child.is_zombie(), || format!("the child is {}", child.stat))
            },
        },
        Claim {
            id: "C36",
            says: "ps shows it as Z, and as <defunct>",
            judge: |run| {
                let child = run.row(DEAD, run.role("child")?)?;
                check(
                    child.is_zombie() && child.rest.contains("<defunct>"),
                    || format!("ps shows {} {}", child.stat, child.rest),
                )
            },
        },
        Claim {
            id: "C39",
            says: "it stays as long as its parent sleeps, and goes because an adopter reaps it",
            judge: stays_until_adopted,
        },
    ],
    control: Some(Control {
        about: "a parent that waits",
        program: "goroutine-wait",
        args: waits_at_once,
        refutes: &["C24", "C36", "C39"],
    }),
};

/// A child that ends at once, and a parent that waits for it at once.
fn waits_at_once(clock: Clock) -> Vec<String> {
    let times_of = [
        ("--parent-sleep", 0.0),
        ("--child-sleep", 0.0),
        ("--parent-work", 5.0),
    ];
    times(clock, &times_of)
}

fn stays_until_adopted(run: &Evidence<'_>) -> Check {
    let (parent, child) = (run.parent()?, run.role("child")?);
    let picture = (run.row(DEAD, parent)?, run.row(DEAD, child)?);
    check(
        picture.0.is_alive() && picture.1.is_zombie() && picture.1.ppid == parent.pid,
        || {
            format!(
                "the parent was {}, the child {}",
                picture.0.stat, picture.1.stat
            )
        },
    )?;
    run.nothing_listed(GONE)?;
    run.reaped(child).map(drop)
}

/// Plenty for a process that lives to end, when it is killed, and to be reaped.
const A_MOMENT: Duration = Duration::from_millis(500);

const BEFORE_KILL: &str = "the child is to be killed";
const AFTER_KILL: &str = "the child has been sent SIGKILL";

pub(super) const KILL: Scenario = Scenario {
    name: "zombie-kill",
    about: "Somebody tries to kill a zombie.",
    by_hand: "cargo run -p zombie, and kill -9 with the pid that the child prints",
    program: "zombie",
    args: |clock| times(clock, &[("--parent-sleep", 20.0)]),
    seconds: 20.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_that_says_its_pid()?;
        worker.until_settled(child)?;
        worker.snapshot(BEFORE_KILL, &[parent, child])?;
        worker.signal(child, Signal::SIGKILL);
        worker.give_time(A_MOMENT, |worker| worker.state(child).is_none())?;
        worker.snapshot(AFTER_KILL, &[parent, child])?;
        worker.line("End parent process.")?;
        worker.until_gone(parent)
    },
    claims: &[Claim {
        id: "C28",
        says: "SIGKILL to a zombie is accepted, and changes nothing",
        judge: |run| {
            let child = run.role("child")?;
            run.signal_was_accepted(child)?;
            let (before, after) = (run.row(BEFORE_KILL, child)?, run.row(AFTER_KILL, child)?);
            check(
                before.stat == after.stat && before.ppid == after.ppid && after.is_zombie(),
                || format!("the child was {}, and then {}", before.stat, after.stat),
            )
        },
    }],
    control: Some(Control {
        about: "a child that lives",
        program: "goroutine-wait",
        args: |clock| {
            let times_of = [
                ("--parent-sleep", 0.0),
                ("--child-sleep", 30.0),
                ("--parent-work", 20.0),
            ];
            times(clock, &times_of)
        },
        refutes: &["C28"],
    }),
};

const KILLED: &str = "the parent has been killed, the adopter has not waited yet";
const REAPED: &str = "the adopter has waited";

pub(super) const KILL_PARENT: Scenario = Scenario {
    name: "zombie-parent-kill",
    about: "The parent of a zombie is killed; whoever adopts the zombie has to wait for it.",
    by_hand: "cargo run -p zombie, and kill -9 with the PPID that ps shows for the zombie",
    program: "zombie",
    args: |clock| times(clock, &[("--parent-sleep", 30.0)]),
    seconds: 2.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_that_says_its_pid()?;
        worker.until_ended(child)?;
        worker.snapshot(DEAD, &[parent, child])?;
        worker.stop_reaping();
        worker.signal(parent, Signal::SIGKILL);
        worker.until("the parent has ended", |worker| {
            worker.state(parent) == Some(State::Zombie)
        })?;
        worker.snapshot(KILLED, &[parent, child])?;
        worker.reap_again();
        worker.until_gone(child)?;
        worker.snapshot(REAPED, &[parent, child])
    },
    claims: &[Claim {
        id: "C38",
        says: "killing the parent hands the zombie to an adopter; it goes when that one waits",
        judge: |run| {
            let (parent, child) = (run.parent()?, run.role("child")?);
            let (before, between) = (run.row(DEAD, child)?, run.row(KILLED, child)?);
            let adopter = run.adopter()?;
            check(before.ppid == parent.pid && between.ppid == adopter, || {
                format!(
                    "the child's parent was {}, then {}",
                    before.ppid, between.ppid
                )
            })?;
            check(between.is_zombie(), || {
                format!("the adopted child was {}", between.stat)
            })?;
            run.nothing_listed(REAPED)?;
            run.reaped(child).map(drop)
        },
    }],
    control: Some(Control {
        about: "a parent that waits, so that there is nothing to hand over",
        program: "goroutine-wait",
        args: waits_at_once,
        refutes: &["C38"],
    }),
};

const BOTH: &str = "parent and child live";
const ADOPTED: &str = "the parent has ended, the child lives";
const ORPHAN_DEAD: &str = "the orphan has ended, its adopter has not waited yet";
const ORPHAN_GONE: &str = "the orphan's adopter has waited";

pub(super) const ORPHAN: Scenario = Scenario {
    name: "orphan",
    about: "The parent ends first; its child is adopted, lives on, and ends as a zombie, too.",
    by_hand: "cargo run -p zombie --example orphan",
    program: "orphan",
    args: |clock| {
        let times_of = [("--parent-sleep", 10.0), ("--child-sleep", 25.0)];
        times(clock.at_most(4.0), &times_of)
    },
    seconds: 25.0,
    act: |worker| {
        let parent = worker.start()?;
        let child = worker.child_that_says_its_pid()?;
        worker.snapshot(BOTH, &[parent, child])?;
        worker.until_gone(parent)?;
        worker.stop_reaping();
        worker.until_settled(child)?; // one that is tied to its parent has its signal by now
        worker.snapshot(ADOPTED, &[parent, child])?;
        worker.until("the orphan has ended", |worker| {
            worker.state(child) == Some(State::Zombie)
        })?;
        worker.snapshot(ORPHAN_DEAD, &[parent, child])?;
        worker.reap_again();
        worker.until_gone(child)?;
        worker.snapshot(ORPHAN_GONE, &[parent, child])
    },
    claims: &[
        Claim {
            id: "C29",
            says: "an orphan is adopted by its nearest living ancestor that is a subreaper \
                   (here the scenario's own process), not necessarily by init",
            judge: adopted_by_the_subreaper,
        },
        Claim {
            id: "C30",
            says: "an orphan runs on, and is a zombie from its end until its adopter waits",
            judge: |run| {
                let child = run.role("child")?;
                let (living, dead) = (run.row(ADOPTED, child)?, run.row(ORPHAN_DEAD, child)?);
                check(living.is_alive() && dead.is_zombie(), || {
                    format!("the orphan was {}, and then {}", living.stat, dead.stat)
                })?;
                run.nothing_listed(ORPHAN_GONE)
            },
        },
    ],
    control: Some(Control {
        about: "a child that is tied to its parent",
        program: "goroutine-wait",
        args: |clock| {
            let mut args = times(
                clock,
                &[
                    ("--parent-sleep", 0.0),
                    ("--child-sleep", 25.0),
                    ("--parent-work", 10.0),
                ],
            );
            args.push("--no-wait".to_owned());
            args
        },
        refutes: &["C29", "C30"],
    }),
};

fn adopted_by_the_subreaper(run: &Evidence<'_>) -> Check {
    let (parent, child, adopter) = (run.parent()?, run.role("child")?, run.adopter()?);
    let (before, after) = (run.row(BOTH, child)?, run.row(ADOPTED, child)?);
    check(
        before.ppid == parent.pid && after.ppid == adopter && after.is_alive(),
        || {
            format!(
                "the child was {} with parent {}, and then {} with parent {}",
                before.stat, before.ppid, after.stat, after.ppid
            )
        },
    )
}
