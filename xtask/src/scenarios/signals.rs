//! Signals, which the Go edition left out: what they do to a sleep, what a handler cannot do, and SIGCHLD.

use nix::sys::signal::Signal;

use crate::evidence::check;
use crate::model::bilingual::{Text, text};
use crate::model::process::State;
use crate::scenarios::ledger::{C32, C33, C34, C37, C43, C48};
use crate::scenarios::{Scenario, control, steps};

pub(super) const ALL: &[Scenario] =
    &[SIGNAL, HANDLER_LIMITS, SIGCHLD, REMOVE_ZOMBIE, IGNORE_SIGCHLD, LATE_HANDLER];

const SLEEPS: Text = text("the program sleeps", "程序在睡眠");
const ENDED: Text = text("the program has ended", "程序已结束");

const SIGNAL: Scenario = Scenario {
    name: "signal",
    command: "signal --alarm 2s+",
    seconds: 4.0,
    act: |w| {
        let program = w.start()?;
        w.line("wait...")?;
        w.until("it sleeps", |w| w.is_asleep(program))?;
        w.snapshot_in_passing(SLEEPS)?;
        w.signal(program, Signal::SIGINT);
        w.line("CTRL+C pressed")?;
        w.snapshot_when_gone(program, ENDED)
    },
    shows: &[(C48, |e| {
        e.signal_accepted("program")?;
        e.at(SLEEPS).alive("program")?;
        let left = e.lines_with("left of the sleep: ");
        check!(left.len() == 3 && !left.contains(&"0 s"), "left of the sleeps was {left:?}")?;
        let count = |line| e.lines().iter().filter(|it| **it == line).count();
        let handled = (count("CTRL+C pressed"), count("Time out!"));
        check!(handled == (1, 2), "Ctrl-C and alarms came {handled:?} times")?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("signal --std --alarm 2s+ --sleep 1")
};

const HANDLER_LIMITS: Scenario = Scenario {
    name: "handler-limits",
    command: "handler-limits --wait 10s --signalfd",
    act: |w| w.run_to_end(ENDED),
    shows: &[(C43, |e| {
        e.prints_only(&[
            "Sent: 10, noted: 1",
            "The signal has come. Now we wait.",
            "The signal has ended the wait.",
        ])?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("handler-limits --wait 10s")
};

const STOPPED: Text = text("the child has been sent SIGSTOP", "已向子进程发送 SIGSTOP");
const KILLED: Text = text(
    "the child has been sent SIGCONT, and then SIGKILL",
    "已向子进程发送 SIGCONT，然后 SIGKILL",
);

const SIGCHLD: Scenario = Scenario {
    name: "sigchld",
    command: "sigchld",
    act: |w| {
        let (parent, child) = w.start_with_child()?;
        w.signal(child, Signal::SIGSTOP);
        w.until("the child is stopped", |w| w.state(child) == Some(State::Stopped))?;
        // Or the next signal would merge with this one.
        w.give_a_moment(|w| w.lines("SIGCHLD: ").len() == 1)?;
        w.snapshot(STOPPED)?;
        w.signal(child, Signal::SIGCONT);
        w.until("the child goes on", |w| w.state(child) != Some(State::Stopped))?;
        w.give_a_moment(|w| w.lines("SIGCHLD: ").len() == 2)?;
        w.signal(child, Signal::SIGKILL);
        w.snapshot_when_gone(parent, KILLED)
    },
    shows: &[(C32, |e| {
        e.at(STOPPED).stopped("child")?;
        let child = e.process("child")?.pid;
        let learned = ["was stopped", "goes on", "was ended by a signal"];
        e.prints_each(&format!("SIGCHLD: process {child} "), &learned)?;
        e.prints("By default nothing happened when a child ended.", "")?;
        e.prints("Its status was kept: ", "exit status: 0")?;
        e.at(KILLED).nothing_listed()
    })],
    ..control("sigchld --no-child-stop")
};

const HELD_BACK: Text =
    text("all children have ended, SIGCHLD is held back", "子进程都已结束，SIGCHLD 被挡住");
const HANDLED: Text = text("SIGCHLD has come", "SIGCHLD 已到达");

/// The lines of the pending and the blocked signals.
const PENDING: [&str; 3] = ["SigPnd:", "ShdPnd:", "SigBlk:"];

const REMOVE_ZOMBIE: Scenario = Scenario {
    name: "remove-zombie",
    command: "remove-zombie --sleep 20s --children {10}",
    seconds: 40.0,
    act: |w| {
        let parent = w.start()?;
        w.line("Children that have ended: ")?;
        w.children(parent, "child")?;
        w.read(parent, "status", &PENDING);
        w.snapshot(HELD_BACK)?;
        w.line("Removed: ")?;
        w.read(parent, "status", &PENDING);
        w.snapshot(HANDLED)?;
        w.until_parent_ends(parent)
    },
    shows: &[(C33, |e| {
        e.at(HELD_BACK).zombies(e.number("Children that have ended: ")?)?;
        e.prints("Signals that came: ", "1")?;
        e.at(HANDLED).zombies(0)?.alive("parent").map(drop)
    })],
    ..control("remove-zombie --sleep 20s --children {10} --once")
};

const IGNORED: Text = text(
    "two children have ended, one before SIGCHLD was ignored, one since",
    "两个子进程已结束，一个在忽略 SIGCHLD 之前，一个在之后",
);
const BLOCKED: Text = text(
    "the parent waits for any child, the last one lives",
    "父进程等待任意子进程，最后一个还活着",
);

const IGNORE_SIGCHLD: Scenario = Scenario {
    name: "ignore-sigchld",
    command: "ignore-sigchld --parent-sleep 20s",
    seconds: 40.0,
    max_speed: 5.0,
    act: |w| {
        let parent = w.start()?;
        w.process_in_line("Ended before, pid: ", "zombie from before")?;
        let since = w.process_in_line("Ended since, pid: ", "child that ended since")?;
        w.process_in_line("Lives on, pid: ", "child that lives on")?;
        w.line("SigIgn:")?;
        w.until_ended(since)?;
        w.snapshot(IGNORED)?;
        w.line("wait: ")?;
        w.until("the parent sleeps", |w| w.is_asleep(parent))?;
        w.snapshot(BLOCKED)?;
        w.snapshot_when_gone(parent, steps::ENDED)
    },
    shows: &[(C34, |e| {
        e.at(IGNORED).gone("child that ended since")?.zombie("zombie from before")?;
        e.at(BLOCKED).alive("parent")?.alive("child that lives on")?.gone("zombie from before")?;
        let first = format!("Exited(Pid({}), 0)", e.process("zombie from before")?.pid);
        e.prints_each("wait: ", &[&first, "there is no child"])?;
        let executed = e.line("SigIgn:")?;
        check!(ignores_sigchld(executed), "the executed program ignores {executed}, not SIGCHLD")?;
        e.at(steps::ENDED).nothing_listed()
    })],
    ..control("ignore-sigchld --parent-sleep 20s --default")
};

/// Parses the mask of /proc/PID/status, in which the lowest bit is signal 1.
fn ignores_sigchld(mask: &str) -> bool {
    let mask = u64::from_str_radix(mask.trim(), 16);
    mask.is_ok_and(|mask| mask >> (Signal::SIGCHLD as i32 - 1) & 1 == 1)
}

const LATE: &str = "zombie of the late handler";
const OF_DEFAULT: &str = "zombie of the default";
const OF_IGNORER: &str = "zombie of the ignorer";
const BEFORE: Text = text("three parents have a zombie each", "三个父进程各有一个僵尸");
const AFTER: Text = text("the parents have been sent SIGCHLD", "已向三个父进程发送 SIGCHLD");

const LATE_HANDLER: Scenario = Scenario {
    name: "late-handler",
    command: "late-handler --parent-sleep 600s --action reap", // longer than the scenario
    seconds: 1.0,
    act: |w| {
        let parents = [
            w.start()?,
            w.start_program("late-handler --parent-sleep 600s --action default")?,
            w.start_program("late-handler --parent-sleep 600s --action ignore")?,
        ];
        let mut zombies = Vec::new();
        for (parent, role) in parents.into_iter().zip([LATE, OF_DEFAULT, OF_IGNORER]) {
            w.line(&format!("My pid is: {}", parent.pid))?;
            zombies.push(w.child_of(parent, role)?);
        }
        w.snapshot(BEFORE)?;
        for parent in parents {
            w.signal(parent, Signal::SIGCHLD);
        }
        w.give_a_moment(|w| w.is_gone(zombies[0]))?;
        // And for the others, which never go.
        w.give_a_moment(|w| zombies.iter().all(|zombie| w.is_gone(*zombie)))?;
        w.snapshot(AFTER)
    },
    shows: &[(C37, |e| {
        e.at(BEFORE).zombies(3)?;
        e.at(AFTER).gone(LATE)?;
        for role in [OF_DEFAULT, OF_IGNORER] {
            let parent = e.at(BEFORE).row(role)?.ppid;
            e.at(AFTER).zombie(role)?.is(role, "with its parent", |row| row.ppid == parent)?;
        }
        e.signal_accepted("parent")
    })],
    ..control("late-handler --parent-sleep 600s --action default")
};
