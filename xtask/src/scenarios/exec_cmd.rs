//! `exec.Cmd`: what a command is, what it has, and what comes of it, beside Rust's `Command`.

use nix::sys::signal::Signal;

use crate::evidence::check;
use crate::model::bilingual::{Text, text};
use crate::model::event::Stream;
use crate::model::failure::Failure;
use crate::scenarios::ledger::{C7, C8, C9, C10, C11, C12, C13, C15, C16, C17};
use crate::scenarios::steps::ENDED;
use crate::scenarios::{NO_CONTROL, Scenario, control};
use crate::worker::Worker;

pub(super) const ALL: &[Scenario] =
    &[REUSE, PATH_AND_ARGS, INHERITED, GRANDCHILD, STATUS, THREE_WAYS, SEPARATE];

const LIVE: Text = text("the children live", "子进程都活着");

/// Looks at all children that the program has started when it waits for Enter, and at these places in
/// /proc.
fn look_at_children(w: &mut Worker, places: &[&str]) -> Result<(), Failure> {
    let parent = w.start_with_stdin()?;
    w.line("Press Enter")?;
    let children = w.children(parent, "child")?;
    w.read_all(&children, places);
    w.snapshot(LIVE)?;
    w.finish(parent, ENDED)
}

const REUSE: Scenario = Scenario {
    name: "reuse",
    command: "reuse",
    act: |w| look_at_children(w, &[]),
    shows: &[(C7, |e| {
        e.at(LIVE).live_child("child 1", "parent")?.live_child("child 2", "parent")?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("reuse --once")
};

const PATH_AND_ARGS: Scenario = Scenario {
    name: "path-and-args",
    command: "path-and-args",
    act: |w| {
        w.give_folder()?;
        look_at_children(w, &["exe", "cmdline"])
    },
    shows: &[
        (C8, |e| {
            e.reads("child 1", "exe", |exe| exe.ends_with("/one/program"))?;
            e.reads("child 2", "exe", |exe| exe.ends_with("/two/program"))?;
            e.at(ENDED).nothing_listed()
        }),
        (C9, |e| {
            e.reads("child 1", "cmdline", |args| args == "./program\nchild")?;
            e.reads("child 2", "cmdline", |args| args == "any text\nchild")?;
            e.reads("child 1", "exe", |exe| exe.ends_with("/program"))?;
            e.reads("child 2", "exe", |exe| exe.ends_with("/program"))
        }),
    ],
    ..control("path-and-args --same")
};

const STREAMS: [&str; 3] = ["fd/0", "fd/1", "fd/2"];
const SPAWNED: Text =
    text("the child of spawn reads its parent's stdin", "spawn 启动的子进程读取父进程的 stdin");
const CAPTURED: Text = text("the child of output sleeps", "output 启动的子进程在睡眠");

const INHERITED: Scenario = Scenario {
    name: "inherited",
    command: "inherited",
    act: |w| {
        w.give_folder()?; // for a variable that we know
        let parent = w.start_with_stdin()?;
        let spawned = w.process_in_line("My pid is: ", "child of spawn")?;
        for process in [parent, spawned] {
            w.read(process, "environ", &["TMPDIR="]);
        }
        w.read_all(&[parent, spawned], &["cwd"]);
        w.read_all(&[parent, spawned], &STREAMS);
        w.snapshot(SPAWNED)?;
        drop(w.take_stdin(parent));
        w.line("The next one")?;
        let captured = w.child_of(parent, "child of output")?;
        w.read_all(&[captured], &STREAMS);
        w.snapshot(CAPTURED)?;
        w.signal(captured, Signal::SIGTERM);
        w.snapshot_when_gone(parent, ENDED)
    },
    shows: &[
        (C10, |e| {
            e.reads("child of spawn", "environ", |it| it.starts_with("TMPDIR="))?;
            e.reads_as("child of spawn", "parent", &["environ", "cwd"])?;
            e.at(ENDED).nothing_listed()
        }),
        (C11, |e| {
            e.reads_as("child of spawn", "parent", &STREAMS[..1])?;
            e.reads("child of output", STREAMS[0], |stdin| stdin == "/dev/null")
        }),
        (C13, |e| {
            e.reads_as("child of spawn", "parent", &STREAMS[1..])?;
            let [_, out, err] = STREAMS.map(|stream| e.reading("child of output", stream));
            let (out, err) = (out?, err?);
            let pipes = out.starts_with("pipe:") && err.starts_with("pipe:");
            let own = e.reading("parent", STREAMS[1])?;
            let are_new = pipes && out != err && out != own;
            check!(are_new, "the streams of output() were {out} and {err}")
        }),
    ],
    ..control("inherited --nothing")
};

const BLOCKED: Text = text(
    "the command has ended, its parent still waits for its output",
    "命令已结束，父进程还在等它的输出",
);

const GRANDCHILD: Scenario = Scenario {
    name: "grandchild-holds-pipe",
    command: "grandchild-holds-pipe",
    seconds: 1.0,
    act: |w| {
        let parent = w.start()?;
        let grandchild = w.process_in_line("Grandchild: ", "grandchild")?;
        w.line("Reading to the end")?;
        // A parent that does not have to wait has ended by then.
        w.give_a_moment(|w| w.is_gone(parent))?;
        w.read(grandchild, "fd/1", &[]);
        w.snapshot(BLOCKED)?;
        w.signal(grandchild, Signal::SIGTERM);
        w.until_gone(parent)?;
        w.snapshot_when_gone(grandchild, ENDED)
    },
    shows: &[(C12, |e| {
        e.at(BLOCKED).alive("parent")?.alive("grandchild")?.adopted("grandchild")?;
        e.reads("grandchild", "fd/1", |stdout| stdout.starts_with("pipe:"))?;
        e.prints_only(&[
            "Grandchild: N",
            "The command has ended: exit status: 0",
            "Reading to the end of its output...",
            "The output has ended.",
        ])?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("grandchild-holds-pipe --closed")
};

const STATUS: Scenario = Scenario {
    name: "status",
    command: "status",
    act: |w| look_at_children(w, &[]),
    shows: &[(C15, |e| {
        e.at(LIVE).live_children(3, "parent")?;
        for (end, status) in [
            ("exit 7", "exit status: 7"),
            ("kill -9 $$", "signal: 9 (SIGKILL)"),
            ("exit 300", "exit status: 44"),
        ] {
            e.prints(&format!("Before {end}: "), "None")?;
            e.prints(&format!("After {end}: "), status)?;
            e.prints(&format!("Once more, after {end}: "), status)?;
        }
        e.at(ENDED).nothing_listed()
    })],
    ..NO_CONTROL
};

/// The commands that are run one after the other, and the snapshots of them.
const WAYS: [(&str, Text); 3] = [
    (
        "command whose output goes nowhere",
        text("it runs, its output goes nowhere", "它在运行，输出无处可去"),
    ),
    (
        "command with one pipe",
        text("it runs, both of its streams go into one pipe", "它在运行，两个流进入同一个管道"),
    ),
    (
        "command with two pipes",
        text("it runs, each of its streams goes into a pipe", "它在运行，两个流各进入一个管道"),
    ),
];

const THREE_WAYS: Scenario = Scenario {
    name: "exec-cmd",
    // It writes to both streams in turn, and then lives long enough to be seen.
    command: "exec-cmd -- sh -c 'echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2; sleep 5s; :'",
    seconds: 15.0,
    max_speed: 3.0,
    act: |w| {
        let parent = w.start()?;
        for (role, title) in WAYS {
            let command = w.child_of(parent, role)?;
            w.snapshot(title)?;
            w.until_gone(command)?;
        }
        w.snapshot_when_gone(parent, ENDED)
    },
    shows: &[(C16, |e| {
        for (role, title) in WAYS {
            e.at(title).live_child(role, "parent")?;
        }
        let combined = ["combined out:", "out 1", "err 1", "out 2", "err 2", ""];
        let apart = ["out:", "out 1", "out 2", "", "err:", "err 1", "err 2", ""];
        e.prints_only(&[&combined[..], &apart].concat())?;
        // The program's own lines are there, and none of the commands'.
        let err = e.lines_of(Stream::Stderr);
        let are_ours = err.iter().all(|line| line.starts_with("exec-cmd: "));
        check!(are_ours, "on stderr were {err:?}")?;
        e.at(ENDED).nothing_listed()
    })],
    ..control(
        "exec-cmd combined -- sh -c 'echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2; sleep 5s; :'",
    )
};

const SEPARATE: Scenario = Scenario {
    name: "exec-separate",
    command: "exec-cmd separate -- ls /etc/host*",
    act: |w| w.run_to_end(ENDED),
    shows: &[(C17, |e| {
        let lines = e.lines();
        let err = lines.iter().position(|line| *line == "err:").unwrap_or(0);
        let (out, err) = lines.split_at(err);
        let complains = err.iter().any(|line| line.contains("/etc/host*"));
        check!(out == ["out:", ""] && complains, "stdout {out:?}, stderr {err:?}")?;
        e.at(ENDED).nothing_listed()?;
        let said = e.lines_of(Stream::Stderr);
        let failed = said.iter().any(|line| line.ends_with("failed with exit status: 2"));
        check!(failed, "{said:?}")
    })],
    ..control("exec-cmd separate -- sh -c 'ls /etc/host*'")
};
