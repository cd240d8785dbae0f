//! How to remove a zombie: wait for it; in a thread, while the parent goes on; or without one.

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::scenarios::ledger::{C40, C41, C42, C47, X1};
use crate::scenarios::steps::BOTH_ENDED;
use crate::scenarios::{Scenario, control};
use crate::worker::Worker;

pub(super) const ALL: &[Scenario] = &[WAIT, STOPPED_PARENT];
pub(super) const WITHOUT_BLOCKING: &[Scenario] = &[GOROUTINE_WAIT, THREE_WAYS, TRY_WAIT];

const BLOCKED: Text = text(
    "the parent has slept enough and waits, the child sleeps",
    "父进程睡完了，在等待；子进程还在睡",
);

const WAIT: Scenario = Scenario {
    name: "wait",
    command: "wait --parent-sleep 5s --child-sleep 10s",
    seconds: 10.0,
    max_speed: 4.0,
    act: |w| {
        let parent = w.start()?;
        w.child_of(parent, "child")?;
        w.line("Parent end sleeping...")?;
        w.until_settled(parent)?;
        w.snapshot(BLOCKED)?;
        w.line("End parent process.")?;
        w.snapshot_when_gone(parent, BOTH_ENDED)
    },
    shows: &[(C40, |e| {
        e.at(BLOCKED).alive("child")?.alive("parent")?.sleeps_in("parent", "wait")?;
        e.prints_only(&[
            "Parent start sleeping...",
            "Parent end sleeping...",
            "End child process.",
            "End parent process.",
        ])?;
        e.at(BOTH_ENDED).nothing_listed()
    })],
    ..control("goroutine-wait --parent-sleep 5s --child-sleep 10s --parent-work 2s --no-wait")
};

const STOPPED: Text = text(
    "the child has ended, the parent that waits for it is stopped",
    "子进程已结束，等待它的父进程被暂停",
);
const CONTINUED: Text = text("the parent goes on", "父进程继续运行");

const STOPPED_PARENT: Scenario = Scenario {
    name: "stopped-parent",
    command: "wait --parent-sleep 0s --child-sleep 10s",
    seconds: 10.0,
    max_speed: 5.0,
    act: |w| {
        let parent = w.start()?;
        let child = w.child_of(parent, "child")?;
        w.until_settled(parent)?;
        w.signal(parent, Signal::SIGSTOP);
        w.until_ended(child)?;
        w.snapshot(STOPPED)?;
        w.signal(parent, Signal::SIGCONT);
        w.give_a_moment(|w| w.is_gone(child))?;
        w.snapshot(CONTINUED)
    },
    shows: &[(X1, |e| {
        e.at(STOPPED).stopped("parent")?.zombie("child")?;
        e.at(CONTINUED).gone("child").map(drop)
    })],
    ..control("goroutine-wait --parent-sleep 0s --child-sleep 10s --parent-work 60s --no-wait")
};

const CHILDREN_SLEEP: Text =
    text("the children sleep, their parents go on", "子进程在睡，父进程继续干活");
const CHILDREN_ENDED: Text =
    text("the children have ended, their parents go on", "子进程已结束，父进程继续干活");

/// A child for each parent: of the one with the thread that waits, and of the one without.
const WAITED_FOR: &str = "child that is waited for";
const FORGOTTEN: &str = "child that is not";
const NO_WAIT: &str =
    "goroutine-wait --parent-sleep 5s --child-sleep 30s --parent-work 60s --no-wait";

const GOROUTINE_WAIT: Scenario = Scenario {
    name: "goroutine-wait",
    command: "goroutine-wait --parent-sleep 5s --child-sleep 30s --parent-work 60s",
    seconds: 65.0,
    act: |w| {
        let parents = [w.start()?, w.start_program(NO_WAIT)?];
        let children = [w.child_of(parents[0], WAITED_FOR)?, w.child_of(parents[1], FORGOTTEN)?];
        w.until_lines(2, "Parent end sleeping...")?;
        time_for_a_thread(w, parents[0])?;
        w.snapshot(CHILDREN_SLEEP)?;
        w.until_lines(2, "End child process.")?;
        for child in children {
            w.until_ended(child)?;
        }
        w.snapshot(CHILDREN_ENDED)?;
        w.until_all_gone(&parents)
    },
    shows: &[(C42, |e| {
        let before = e.at(CHILDREN_SLEEP);
        let of = [before.row(WAITED_FOR)?.ppid, before.row(FORGOTTEN)?.ppid];
        before.count(4, "live processes", |row| row.is_alive())?;
        e.at(CHILDREN_ENDED)
            .gone(WAITED_FOR)?
            .zombie(FORGOTTEN)?
            .count(2, "live parents", |row| row.is_alive() && of.contains(&row.pid))
            .map(drop)
    })],
    ..control(NO_WAIT)
};

/// A parent that waits in a thread has started it by then.
fn time_for_a_thread(w: &mut Worker, parent: Process) -> Result<(), Failure> {
    w.give_a_moment(|w| w.stat(parent).is_some_and(|stat| stat.threads > 1))
}

const THREE_GO_ON: Text =
    text("three parents go on, their children live", "三个父进程继续干活，子进程都活着");
const THREE_ENDED: Text = text("the children have ended", "子进程已结束");
const OF_THREAD: &str = "child of the one with a thread";
const OF_ASKER: &str = "child of the one that asks";
const OF_POLLER: &str = "child of the one that polls";

const THREE_WAYS: Scenario = Scenario {
    name: "three-ways",
    command: "goroutine-wait --parent-sleep 0s --child-sleep 20s --parent-work 600s", // until the end
    seconds: 21.0,
    act: |w| {
        let with_thread = w.start()?;
        let asks = w.start_program("try-wait --child-sleep 20s --every 3s")?;
        let polls = w.start_program("pidfd --child-sleep 20s")?;
        let child = w.child_of(with_thread, OF_THREAD)?;
        w.child_of(asks, OF_ASKER)?;
        w.child_of(polls, OF_POLLER)?;
        time_for_a_thread(w, with_thread)?;
        w.snapshot(THREE_GO_ON)?;
        w.until_ended(child)?;
        // Not the same for the others: the one that asks may have asked just before the end, and be far
        // from asking again.
        w.until_lines(2, "Child ended with ")?;
        w.snapshot(THREE_ENDED)
    },
    shows: &[(C41, |e| {
        three_parents_and_their_children(e)?;
        e.at(THREE_ENDED).gone(OF_THREAD)?.gone(OF_ASKER)?.gone(OF_POLLER)?.alive("parent")?;
        e.prints_each("Child ended with ", &["exit status: 24"; 2])
    })],
    ..control("goroutine-wait --parent-sleep 0s --child-sleep 20s --parent-work 600s --no-wait")
};

fn three_parents_and_their_children(e: Evidence<'_>) -> Check {
    let rows = e.at(THREE_GO_ON).rows()?;
    for (child, has_threads) in [(OF_THREAD, true), (OF_ASKER, false), (OF_POLLER, false)] {
        let ppid = e.at(THREE_GO_ON).alive(child)?.row(child)?.ppid;
        let parent = rows.iter().find(|row| row.pid == ppid);
        let parent = parent.ok_or_else(|| format!("ps did not list the parent of the {child}"))?;
        let is_so = parent.is_alive() && parent.stat.contains('l') == has_threads;
        check!(is_so, "the parent of the {child} was {}", parent.stat)?;
    }
    Ok(())
}

const BETWEEN: Text = text(
    "the child lives, its parent does something else between two questions",
    "子进程还活着，父进程在两次询问之间干别的",
);
const ANSWERED: Text = text("the parent has got the status", "父进程拿到了退出状态");

const TRY_WAIT: Scenario = Scenario {
    name: "try-wait",
    command: "try-wait --child-sleep 15s --every 3s",
    seconds: 18.0,
    max_speed: 5.0,
    act: |w| {
        let parent = w.start()?;
        w.child()?;
        w.snapshot(BETWEEN)?;
        w.line("Child ended with ")?;
        w.snapshot_when_gone(parent, ANSWERED)
    },
    shows: &[(C47, |e| {
        e.at(BETWEEN).alive("child")?;
        let sleeps = e.lines_with("sleep ").len();
        // A busy machine can make the parent late, too, and so save it a question.
        check!((4..=6).contains(&sleeps), "it slept {sleeps} times between its questions")?;
        e.prints("Child ended with ", "exit status: 24")?;
        e.at(ANSWERED).nothing_listed()
    })],
    ..control("pidfd --child-sleep 15s")
};
