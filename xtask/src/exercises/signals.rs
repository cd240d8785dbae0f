//! Exercises about SIGCHLD.

use nix::sys::signal::Signal;

use crate::evidence::{Evidence, check};
use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};
use crate::probe::ps::Row;

const TEN_ENDED: Text = text(
    "the ten children have ended, the parent has gone on working",
    "十个子进程已结束，父进程又工作了一会儿",
);

pub(super) const ONE_WAIT: Exercise = exercise!(
    "one-wait",
    section 8,
    |w| {
        let parent = w.start()?;
        let long_lived = w.process_in_line("Long-lived: ", "long-lived child")?;
        w.until_lines(10, "Child: ")?;
        w.signal(parent, Signal::SIGSTOP); // all have ended before it looks
        let lines = w.lines("Child: ").into_iter();
        let pids = lines.filter_map(|line| line.trim_start_matches("Child: ").parse().ok());
        let children: Vec<_> =
            (1..).zip(pids).map(|(number, pid)| w.found(pid, &format!("child {number}"))).collect();
        w.until("the ten have ended", |w| children.iter().all(|child| w.has_ended(*child)))?;
        w.signal(parent, Signal::SIGCONT);
        w.until_lines(3, "Work: ")?;
        w.read(long_lived, "stat", &[""]);
        w.snapshot(TEN_ENDED)?;
        w.until_gone(parent)
    },
    ("blocks", TEN_ENDED, "long-lived child", |e| {
        e.reads("long-lived child", "stat", |stat| !stat.contains(") Z "))
    }),
    ("one-wait", TEN_ENDED, "child 10", |e| {
        let zombies = e.at(TEN_ENDED).rows()?.iter().filter(|row| Row::is_zombie(row)).count();
        check!(zombies != 9, "one of the ten was reaped, {zombies} were left")
    }),
    ("one-each-round", TEN_ENDED, "child 10", |e| e.at(TEN_ENDED).zombies(0).map(drop)),
    ("ignores", TEN_ENDED, "parent", |e| {
        let statuses = e.lines_with("Ended: ").len();
        check!(statuses >= 10, "the parent printed {statuses} of 10 statuses")
    }),
);

const CHILD_ENDED: Text =
    text("the child has ended, the parent works", "子进程已结束，父进程在工作");

pub(super) const HANDLER_TOO_LATE: Exercise = exercise!(
    "handler-too-late",
    section 8,
    |w| {
        let parent = w.start()?;
        let child = w.process_in_line("Child: ", "child")?;
        w.until_ended(child)?;
        w.read(parent, "status", &["SigBlk:", "SigIgn:"]);
        w.snapshot(CHILD_ENDED)?;
        w.line("The work is done.")?;
        w.until_gone(parent)
    },
    ("ignores", CHILD_ENDED, "parent", |e| {
        check!(!sigchld_is_in(e, "SigIgn:")?, "the parent ignores SIGCHLD")
    }),
    ("not-blocked", CHILD_ENDED, "child", |e| {
        let is_reaped = e.at(CHILD_ENDED).gone("child").is_ok();
        check!(is_reaped || sigchld_is_in(e, "SigBlk:")?, "the parent does not block SIGCHLD")
    }),
    ("waits-too-late", CHILD_ENDED, "child", |e| match e.reaped("child") {
        Ok(_) => Ok(()), // by its adopter: the parent never waited
        Err(_) => e.at(CHILD_ENDED).gone("child").map(drop),
    }),
    ("handler-too-late", CHILD_ENDED, "child", |e| e.at(CHILD_ENDED).gone("child").map(drop)),
    ("ignores", CHILD_ENDED, "parent", |e| e.line("Ended: ").map(drop)),
);

/// Whether SIGCHLD is in this mask of the parent's, in which the lowest bit is signal 1.
fn sigchld_is_in(e: Evidence<'_>, mask: &str) -> Result<bool, String> {
    let status = e.reading("parent", "status")?;
    let bits = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap_or_default();
    let bits = u64::from_str_radix(bits.trim(), 16).map_err(|_| format!("{mask} in {status:?}"))?;
    Ok(bits >> (Signal::SIGCHLD as i32 - 1) & 1 == 1)
}
