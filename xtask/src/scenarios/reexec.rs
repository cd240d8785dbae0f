//! Docker's fork: a program that starts itself again, to run another of its functions.

use crate::evidence::{Check, Evidence, check};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;
use crate::scenarios::ledger::{C14, C18, C19, C20, C21, C22, C23};
use crate::scenarios::steps::BOTH_ENDED;
use crate::scenarios::{NO_CONTROL, Scenario, control};
use crate::worker::Worker;

pub(super) const ALL: &[Scenario] = &[FORK, FAILING_CHILD, EXTRA_DESCRIPTORS, SELF_EXE];

const LIVES: Text = text("the child lives", "子进程还活着");
const GONE: Text = text("the program has ended", "程序已结束");
const NO_SUCH_FILE: &str = "No such file or directory (os error 2)";

const FORK: Scenario = Scenario {
    name: "fork",
    command: "fork",
    act: |w| {
        let parent = w.start()?;
        w.line("main exit")?;
        w.snapshot_when_gone(parent, GONE)
    },
    shows: &[
        (C19, |e| lines_begin(e, &["init ", "main ", "init "])),
        (C20, |e| e.prints_each("init start, os.Args = ", &["[fork]", "[childProcess]"])),
        (C22, |e| {
            let order = ["init start", "main start", "init start", "childProcess", "main exit"];
            lines_begin(e, &order)?;
            let count = e.lines().len();
            check!(count == order.len(), "{count} lines were printed")?;
            e.at(GONE).nothing_listed()
        }),
    ],
    ..NO_CONTROL
};

/// The first lines begin like these.
fn lines_begin(e: Evidence<'_>, beginnings: &[&str]) -> Check {
    let lines = e.lines();
    let mut pairs = lines.iter().zip(beginnings);
    let is_so = pairs.all(|(line, start)| line.starts_with(start));
    check!(is_so && lines.len() >= beginnings.len(), "the lines were {lines:?}")
}

/// Looks at the child that prints its number and then waits, and lets it go on.
fn look_at_child(w: &mut Worker) -> Result<(), Failure> {
    w.give_folder()?;
    let parent = w.start_with_stdin()?;
    let child = w.child()?;
    w.line("Press Enter")?;
    w.read_all(&[parent, child], &["exe", "cmdline", "fd"]);
    w.snapshot(LIVES)?;
    w.finish(parent, BOTH_ENDED)
}

const FAILING_CHILD: Scenario = Scenario {
    name: "failing-child",
    command: "failing-child",
    act: look_at_child,
    shows: &[
        (C18, |e| {
            let as_command = e.line("As a command: ")?;
            // Denied, if we may not look into one of the folders that are searched.
            let expected = [NO_SUCH_FILE, "Permission denied (os error 13)"];
            check!(expected.contains(&as_command), "{as_command}")?;
            e.reads_as("child", "parent", &["exe"])?;
            e.reads("child", "cmdline", |args| args.lines().next() == Some("childProcess"))
        }),
        (C21, |e| {
            e.prints("Re-executed: ", "exit status: 1")?;
            e.at(BOTH_ENDED).nothing_listed()
        }),
    ],
    control_keeps: &[C18],
    ..control("failing-child --exit-0")
};

const EXTRA_DESCRIPTORS: Scenario = Scenario {
    name: "extra-descriptors",
    command: "extra-descriptors",
    act: |w| {
        let parent = w.start_with_stdin()?;
        let child = w.child()?;
        // Before that, the child is still on its way to becoming the command, or its loader has the
        // libraries open.
        w.until("the child is cat, and reads", |w| {
            w.stat(child).is_some_and(|stat| stat.name == "cat" && stat.is_asleep())
        })?;
        w.read_descriptors(&[parent, child]);
        w.snapshot(LIVES)?;
        w.finish(parent, BOTH_ENDED)
    },
    shows: &[(C14, |e| {
        e.reads("parent", "fd", |numbers| numbers.split(' ').any(|it| it == "7"))?;
        e.reads("child", "fd", |numbers| numbers == "0 1 2 3")?;
        e.reads("child", "fd/3", |file| file == "/etc/passwd")?;
        e.at(BOTH_ENDED).nothing_listed()
    })],
    ..control("extra-descriptors --std")
};

const SELF_EXE: Scenario = Scenario {
    name: "self-exe",
    command: "self-exe",
    act: look_at_child,
    shows: &[(C23, |e| {
        let found = "exit status: 0";
        e.prints("Renamed, by path: ", NO_SUCH_FILE)?;
        e.prints("Renamed, by name: ", found)?;
        e.prints("Deleted, by path: ", NO_SUCH_FILE)?;
        e.prints("Deleted, by name: ", NO_SUCH_FILE)?;
        e.prints("Deleted, by /proc/self/exe: ", found)?;
        e.reads("child", "exe", |exe| exe.ends_with(" (deleted)"))?;
        e.at(BOTH_ENDED).nothing_listed()
    })],
    ..control("self-exe --keep")
};
