//! How to create a process: fork itself, and what becomes of it where there are threads.

use crate::evidence::check;
use crate::model::bilingual::{Text, text};
use crate::probe::need::STRACE;
use crate::scenarios::ledger::{C3, C4, C5, C6};
use crate::scenarios::steps::ENDED;
use crate::scenarios::{Scenario, control};

pub(super) const ALL: &[Scenario] = &[PLAIN_FORK, FORK_WITH_THREADS, SYSTEM_CALLS];

const FORKED: Text = text("the forked child lives", "fork 出来的子进程还活着");
const EXECUTED: Text = text("the child that was executed lives", "用 exec 执行的子进程还活着");

const PLAIN_FORK: Scenario = Scenario {
    name: "plain-fork",
    command: "plain-fork",
    act: |w| {
        let parent = w.start_with_stdin()?;
        w.process_in_line("Forked, my pid is: ", "forked child")?;
        w.snapshot(FORKED)?;
        w.press_enter(parent);
        w.process_in_line("Executed, my pid is: ", "executed child")?;
        w.snapshot(EXECUTED)?;
        w.finish(parent, ENDED)
    },
    shows: &[
        (C3, |e| {
            let parent = e.at(FORKED).row("parent")?;
            e.at(FORKED).live_child("forked child", "parent")?.is(
                "forked child",
                "a copy of its parent",
                |row| row.rest == parent.rest,
            )?;
            let refused = e.line("Refused: ")?;
            check!(refused.contains("2 threads"), "{refused}")?;
            e.at(ENDED).nothing_listed()
        }),
        (C6, |e| {
            e.at(EXECUTED).shows("executed child", "childProcess")?;
            e.prints("Forked, the value is ", "2")?;
            e.prints("Executed, the value is ", "1")
        }),
    ],
    ..control("plain-fork --no-change")
};

const COPIED: Text = text(
    "a program with two threads has forked, and the copy is held before exec",
    "有两个线程的程序已 fork，副本停在 exec 之前",
);

const FORK_WITH_THREADS: Scenario = Scenario {
    name: "fork-with-threads",
    command: "fork-with-threads",
    needs: &[STRACE],
    act: |w| {
        let tracer = w.start_with_stdin()?;
        let parent = w.process_in_line("Parent: ", "parent")?;
        let copy = w.process_in_line("Copy: ", "copy")?;
        w.line("Both can be looked at.")?;
        for process in [parent, copy] {
            w.read(process, "status", &["Threads:", "TracerPid:"]);
        }
        w.read_all(&[parent, copy], &["cmdline", "task"]);
        w.snapshot(COPIED)?;
        w.press_enter(tracer);
        w.until_all_gone(&[tracer, parent, copy])?;
        w.snapshot(ENDED)
    },
    shows: &[(C4, |e| {
        e.at(COPIED).child_of("copy", "parent")?.is("copy", "there", |row| !row.is_zombie())?;
        e.reads_as("copy", "parent", &["cmdline"])?;
        let has = |threads| move |status: &str| status.lines().any(|line| line == threads);
        e.reads("parent", "status", has("Threads:\t2"))?;
        e.reads("copy", "status", has("Threads:\t1"))?;
        e.prints("Parent, locked: ", "false")?;
        e.prints("Copy, locked: ", "true")?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("fork-with-threads --unlocked")
};

const SYSTEM_CALLS: Scenario = Scenario {
    name: "system-calls",
    command: "system-calls",
    needs: &[STRACE],
    act: |w| w.run_to_end(ENDED),
    shows: &[(C5, |e| {
        for (way, flags, are_set) in [
            ("command", "CLONE_VM|CLONE_VFORK", true),
            ("reexec", "CLONE_VM|CLONE_VFORK", true),
            ("user", "CLONE_VM", false),
        ] {
            let calls = e.lines_with(&format!("{way}: "));
            let any = |part| calls.iter().any(|call| call.contains(part));
            let is_so = any("clone") && any(flags) == are_set && any("execve(");
            check!(is_so, "{way}: {calls:?}")?;
        }
        e.at(ENDED).nothing_listed()
    })],
    ..control("system-calls --fork")
};
