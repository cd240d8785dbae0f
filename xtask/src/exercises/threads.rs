//! An exercise about fork and threads.

use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};

const WORKS: Text = text("the thread works", "线程在工作");

pub(super) const FORKS_WITH_THREADS: Exercise = exercise!(
    "forks-with-threads",
    section 3,
    |w| {
        let parent = w.start()?;
        w.give_a_moment(|w| {
            let has_threads = w.stat(parent).is_none_or(|stat| stat.threads > 1);
            has_threads && !w.lines("Child: ").is_empty() || w.has_ended(parent)
        })?;
        if !w.lines("Child: ").is_empty() {
            w.process_in_line("Child: ", "child")?;
        }
        w.snapshot(WORKS)?;
        w.until_gone(parent)
    },
    ("forks-with-threads", WORKS, "parent", |e| e.line("Child: ").map(drop)),
    ("one-after-the-other", WORKS, "parent", |e| {
        let beside = e.at(WORKS).live_child("child", "parent")?;
        beside.is("parent", "a process with threads", |row| row.stat.contains('l')).map(drop)
    }),
    ("work-cut-off", WORKS, "parent", |e| e.line("The work is done.").map(drop)),
    ("thread-in-both", WORKS, "child", |e| {
        e.at(WORKS).is("child", "a process with one thread", |row| !row.stat.contains('l')).map(drop)
    }),
    ("value-lost", WORKS, "child", |e| e.prints("Child's value: ", "2")),
);
