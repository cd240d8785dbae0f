//! Exercises about parents and their children.

use crate::evidence::check;
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
    ("parent-ends", CHILD_ENDED, "parent", |e| e.at(CHILD_ENDED).alive("parent").map(drop)),
    ("killed", CHILD_ENDED, "child", |e| match e.reaped("child") {
        Ok(status) => check!(!status.starts_with("signal"), "the child ended with {status}"),
        Err(_) => Ok(()),
    }),
    ("never-waits", CHILD_ENDED, "child", |e| match e.reaped("child") {
        Ok(_) => e.at(CHILD_ENDED).gone("child").map(drop),
        Err(_) => Ok(()),
    }),
    ("waits-too-late", CHILD_ENDED, "child", |e| e.at(CHILD_ENDED).gone("child").map(drop)),
);
