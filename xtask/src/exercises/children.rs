//! Exercises about parents and their children.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};
use crate::scenarios::steps::ENDED;

const CHILD_ENDED: Text =
    text("the child has ended, the parent works", "子进程已结束，父进程在工作");

pub(super) const NEVER_WAITS: Exercise = exercise!(
    "never-waits",
    section 5,
    |w| {
        let parent = w.start()?;
        let child = w.process_in_line("Child: ", "child")?;
        w.until_ended(child)?;
        w.snapshot(CHILD_ENDED)?;
        w.snapshot_when_gone(parent, ENDED)
    },
    ("parent-ends", CHILD_ENDED, "parent", |e| lives(e, "parent", 2.9)),
    ("killed", CHILD_ENDED, "child", |e| lives(e, "child", 0.25)),
    ("never-waits", CHILD_ENDED, "child", |e| match e.reaped("child") {
        Ok(_) => e.at(CHILD_ENDED).gone("child").map(drop),
        Err(_) => Ok(()),
    }),
    ("waits-too-late", CHILD_ENDED, "child", |e| e.at(CHILD_ENDED).gone("child").map(drop)),
);

/// Checks that the process lived for so many seconds at least.
fn lives(e: Evidence<'_>, who: &str, seconds: f64) -> Check {
    let lived = e.lifetime(who)?;
    check!(lived >= seconds, "the {who} lived for {lived:.1} s only")
}

const BOTH_COULD_END: Text =
    text("two seconds have passed, or both have ended", "已过两秒，或者两者都已结束");
const TIME_TO_END: Duration = Duration::from_secs(2);
/// What a pipe holds. A child that has written more has a reader.
const PIPE: u32 = 65_536;

pub(super) const WAITS_BEFORE_READING: Exercise = exercise!(
    "waits-before-reading",
    section 6,
    |w| {
        let parent = w.start()?;
        let child = w.process_in_line("Child: ", "child")?;
        w.give_time(TIME_TO_END, |w| w.is_gone(parent) && w.is_gone(child))?;
        w.read(child, "io", &["wchar"]);
        w.snapshot(BOTH_COULD_END)
    },
    ("asks-instead", BOTH_COULD_END, "parent", |e| {
        let Ok(table) = e.at(BOTH_COULD_END).alive("child") else { return Ok(()) };
        table.sleeps_in("parent", "wait")?;
        table.is("parent", "asleep", |row| row.stat.starts_with('S')).map(drop)
    }),
    ("reads-a-part", BOTH_COULD_END, "child", |e| {
        let written = e.reading("child", "io").unwrap_or_default();
        let bytes = written.trim_start_matches("wchar: ").parse().unwrap_or(0);
        check!(bytes <= PIPE, "the child has written {bytes} bytes, so somebody has read")
    }),
    ("waits-before-reading", BOTH_COULD_END, "child", |e| {
        e.at(BOTH_COULD_END).gone("child").map(drop)
    }),
    ("broken-pipe", BOTH_COULD_END, "parent", |e| {
        let status = e.line("Status: ")?;
        check!(!status.starts_with("signal"), "the child ended with {status}")
    }),
    ("lines-lost", BOTH_COULD_END, "parent", |e| {
        e.prints("Status: ", "exit status: 0")?;
        e.prints("Lines: ", "30000")
    }),
);

const SECOND_ENDED: Text =
    text("the second child has ended, the others live", "第二个子进程已结束，其余还活着");
const THIRD_ENDED: Text =
    text("the third child has ended, too, the first one lives", "第三个也已结束，第一个还活着");

pub(super) const WAITS_IN_LINE: Exercise = exercise!(
    "waits-in-line",
    section 7,
    |w| {
        let parent = w.start()?;
        let first = w.process_in_line("Child 1: ", "first child")?;
        let second = w.process_in_line("Child 2: ", "second child")?;
        let third = w.process_in_line("Child 3: ", "third child")?;
        for (child, title) in [(second, SECOND_ENDED), (third, THIRD_ENDED)] {
            w.signal(child, Signal::SIGTERM);
            w.until_ended(child)?;
            w.snapshot(title)?;
        }
        w.signal(first, Signal::SIGTERM);
        w.until_gone(parent)
    },
    ("one-thread", SECOND_ENDED, "second child", |e| {
        let Ok(table) = e.at(SECOND_ENDED).zombie("second child") else { return Ok(()) };
        table.is("parent", "a single thread", |row| !row.stat.contains('l')).map(drop)
    }),
    ("asks-too-rarely", SECOND_ENDED, "second child", |e| {
        let Ok(table) = e.at(SECOND_ENDED).zombie("second child") else { return Ok(()) };
        table.sleeps_in("parent", "wait").map(drop)
    }),
    ("waits-in-line", SECOND_ENDED, "second child", |e| {
        e.at(SECOND_ENDED).gone("second child").map(drop)
    }),
    ("another-order", THIRD_ENDED, "third child", |e| {
        e.at(THIRD_ENDED).gone("third child").map(drop)
    }),
    ("status-lost", THIRD_ENDED, "parent", |e| {
        ["Child 1 ended: ", "Child 2 ended: ", "Child 3 ended: "]
            .into_iter()
            .try_for_each(|line| e.prints(line, "signal: 15 (SIGTERM)"))
    }),
);

const BOTH_WORK: Text = text("parent and child work", "父进程和子进程都在工作");
const KILLED: Text = text("the parent was killed a second ago", "父进程被杀死，已过一秒");
const HALF_A_SECOND: Duration = Duration::from_millis(500);

pub(super) const OUTLIVES_PARENT: Exercise = exercise!(
    "outlives-parent",
    section 4,
    |w| {
        let parent = w.start()?;
        let child = w.process_in_line("Child: ", "child")?;
        w.give_time(HALF_A_SECOND, |w| w.has_ended(child))?;
        w.read(parent, "status", &["SigBlk"]);
        w.read(child, "status", &["voluntary"]);
        w.snapshot(BOTH_WORK)?;
        w.signal(parent, Signal::SIGKILL);
        w.until_gone(parent)?;
        w.give_a_moment(|w| w.is_gone(child))?;
        w.read(child, "status", &["voluntary"]);
        w.snapshot(KILLED)
    },
    ("no-child", BOTH_WORK, "child", |e| {
        let Ok(table) = e.at(BOTH_WORK).alive("child") else { return Ok(()) };
        table.child_of("child", "parent").map(drop)
    }),
    ("child-ends-early", BOTH_WORK, "child", |e| e.at(BOTH_WORK).alive("child").map(drop)),
    ("catches-signals", KILLED, "child", |e| {
        let Ok(_) = e.at(KILLED).alive("child") else { return Ok(()) };
        let wchan = e.at(BOTH_WORK).row("parent")?.wchan;
        check!(!wchan.contains("sig"), "the parent slept in {wchan}")?;
        e.reads("parent", "status", |blocked| blocked.ends_with("0000000000000000"))
    }),
    ("asks-for-one", KILLED, "child", |e| match e.readings("child", "status")?[..] {
        [Ok(before), Ok(after)] => check!(before == after, "{before}, then {after}"),
        _ => Ok(()),
    }),
    ("outlives-parent", KILLED, "child", |e| e.at(KILLED).gone("child").map(drop)),
);
