//! Zombies: children that end before their parent waits, parents that end first, and what remains of a
//! process that has ended.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Evidence, check};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::need::{NAMESPACES, OTHER_USERS};
use crate::scenarios::ledger::{C24, C25, C26, C27, C28, C29, C30, C31, C35, C36, C38, C39};
use crate::scenarios::steps::ENDED;
use crate::scenarios::{Scenario, control};
use crate::worker::Worker;

pub(super) const ALL: &[Scenario] =
    &[ZOMBIE, RESOURCES, CAUSES_OF_END, KILL, KILL_PARENT, ORPHAN, INIT_WAITS, PID_REUSE];

/// A child that ends at once, and a parent that waits for it at once.
const WAITS_AT_ONCE: &str = "goroutine-wait --parent-sleep 0s --child-sleep 0s --parent-work 5s";

const DEAD: Text = text("the child has ended, its parent sleeps", "子进程已结束，父进程还在睡");
const GONE: Text = text("the parent has ended, too", "父进程也已结束");

const ZOMBIE: Scenario = Scenario {
    name: "zombie",
    command: "zombie --parent-sleep 30s",
    seconds: 30.0,
    act: |w| {
        let (parent, child) = w.start_with_child()?;
        w.until_ended(child)?;
        w.snapshot(DEAD)?;
        w.until_parent_ends(parent)?;
        w.snapshot_when_gone(child, GONE)
    },
    shows: &[
        (C24, |e| e.at(DEAD).zombie("child").map(drop)),
        (C36, |e| e.at(DEAD).zombie("child")?.shows("child", "<defunct>").map(drop)),
        (C39, |e| {
            e.at(DEAD).alive("parent")?.zombie("child")?.child_of("child", "parent")?;
            e.at(GONE).nothing_listed()?;
            e.reaped("child").map(drop)
        }),
    ],
    ..control(WAITS_AT_ONCE)
};

const BEFORE_KILL: Text = text("the child is to be killed", "子进程即将收到 SIGKILL");
const AFTER_KILL: Text = text("the child has been sent SIGKILL", "已向子进程发送 SIGKILL");

const KILL: Scenario = Scenario {
    name: "zombie-kill",
    command: "zombie --parent-sleep 20s",
    seconds: 20.0,
    max_speed: 5.0,
    act: |w| {
        let (parent, child) = w.start_with_child()?;
        w.until_settled(child)?;
        w.snapshot(BEFORE_KILL)?;
        w.signal(child, Signal::SIGKILL);
        w.give_a_moment(|w| w.is_gone(child))?;
        w.snapshot(AFTER_KILL)?;
        w.until_parent_ends(parent)
    },
    shows: &[(C28, |e| {
        e.signal_accepted("child")?;
        for title in [AFTER_KILL, BEFORE_KILL] {
            e.at(title).zombie("child")?.child_of("child", "parent")?;
        }
        Ok(())
    })],
    ..control("goroutine-wait --parent-sleep 0s --child-sleep 30s --parent-work 20s")
};

const KILLED: Text = text(
    "the parent has been killed, the adopter has not waited yet",
    "父进程已被杀死，收养者还没有等待",
);
const REAPED: Text = text("the adopter has waited", "收养者已经等待");

const KILL_PARENT: Scenario = Scenario {
    name: "zombie-parent-kill",
    command: "zombie --parent-sleep 30s",
    seconds: 2.0,
    act: |w| {
        let (parent, child) = w.start_with_child()?;
        w.until_ended(child)?;
        w.snapshot(DEAD)?;
        w.stop_reaping();
        w.signal(parent, Signal::SIGKILL);
        w.until_zombie(parent)?;
        w.snapshot(KILLED)?;
        w.reap_again();
        w.snapshot_when_gone(child, REAPED)
    },
    shows: &[(C38, |e| {
        e.at(DEAD).child_of("child", "parent")?;
        e.at(KILLED).adopted("child")?.zombie("child")?;
        e.at(REAPED).nothing_listed()?;
        e.reaped("child").map(drop)
    })],
    ..control(WAITS_AT_ONCE)
};

const BOTH: Text = text("parent and child live", "父进程和子进程都活着");
const ADOPTED: Text = text("the parent has ended, the child lives", "父进程已结束，子进程还活着");
const ORPHAN_DEAD: Text =
    text("the orphan has ended, its adopter has not waited yet", "孤儿已结束，收养者还没有等待");
const ORPHAN_GONE: Text = text("the orphan's adopter has waited", "孤儿的收养者已经等待");

const ORPHAN: Scenario = Scenario {
    name: "orphan",
    command: "orphan --parent-sleep 10s --child-sleep 25s",
    seconds: 25.0,
    max_speed: 4.0,
    act: |w| {
        let (parent, child) = w.start_with_child()?;
        w.snapshot(BOTH)?;
        w.until_gone(parent)?;
        w.stop_reaping();
        w.until_settled(child)?; // one that ends with its parent has its signal by now
        w.snapshot(ADOPTED)?;
        w.until_zombie(child)?;
        w.snapshot(ORPHAN_DEAD)?;
        w.reap_again();
        w.snapshot_when_gone(child, ORPHAN_GONE)
    },
    shows: &[
        (C29, |e| {
            e.at(BOTH).child_of("child", "parent")?;
            e.at(ADOPTED).alive("child")?.adopted("child").map(drop)
        }),
        (C30, |e| {
            e.at(ADOPTED).alive("child")?;
            e.at(ORPHAN_DEAD).zombie("child")?;
            e.at(ORPHAN_GONE).nothing_listed()
        }),
    ],
    ..control("goroutine-wait --parent-sleep 0s --child-sleep 25s --parent-work 10s --no-wait")
};

const FULL: Text = text(
    "the user has as many processes as the limit allows, most of them zombies",
    "这个用户的进程数已到上限，其中大多是僵尸",
);

const RESOURCES: Scenario = Scenario {
    name: "resources",
    command: "resources --limit {6}",
    needs: &[OTHER_USERS],
    act: |w| {
        let program = w.start_with_stdin()?;
        let parent = w.process_in_line("My pid is: ", "parent")?;
        w.line("Press Enter")?;
        let zombies = w.children(parent, "zombie")?;
        for process in [&[parent], &zombies[..]].concat() {
            w.read_all(&[process], &["exe", "fd"]);
            w.read(process, "status", &["State:", "VmRSS:"]);
        }
        w.snapshot(FULL)?;
        w.finish(program, ENDED)
    },
    shows: &[(C25, |e| {
        let zombies = e.number("Limit: ")?.saturating_sub(1); // and the parent
        e.at(FULL).zombies(zombies)?;
        let refused = e.line("Refused: ")?;
        check!(refused.contains("os error 11"), "{refused}")?; // EAGAIN
        e.reads("parent", "status", |status| status.contains("VmRSS:"))?;
        for zombie in (1..=zombies).map(|number| format!("zombie {number}")) {
            e.at(FULL).child_of(&zombie, "parent")?;
            e.reads(&zombie, "status", |status| !status.contains("VmRSS:"))?;
            // Only root may look into a folder that belongs to nobody any more.
            let files = e.reading(&zombie, "fd").unwrap_or_default();
            let exe = e.reading(&zombie, "exe");
            check!(files.is_empty() && exe.is_err(), "a zombie with files: {files}, {exe:?}")?;
        }
        e.prints("After the wait, one more: ", "exit status: 0")?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("resources --limit {6} --wait")
};

/// How each child ends, what is then in the last field of /proc/PID/stat, and the status that wait gives.
const CAUSES: [(&str, i32, &str); 3] = [
    ("exits", 3 << 8, "exit status: 3"),
    ("aborts", Signal::SIGABRT as i32, "signal: 6 (SIGABRT)"),
    ("isKilled", Signal::SIGKILL as i32, "signal: 9 (SIGKILL)"),
];
const UNREAD: Text = text(
    "the children have ended, nobody has asked how",
    "子进程已结束，还没有谁问过它们的退出状态",
);
const READ: Text = text("the parent has read how", "父进程已读取退出状态");

const CAUSES_OF_END: Scenario = Scenario {
    name: "causes",
    command: "causes",
    act: |w| {
        let parent = w.start_with_stdin()?;
        let mut children = Vec::new();
        for (entry, ..) in CAUSES {
            children.push(w.process_in_line(&format!("{entry}: "), entry)?);
        }
        for (waits, title) in [(1, UNREAD), (2, READ)] {
            w.until_lines(waits, "Press Enter")?;
            w.read_all(&children, &["stat"]);
            w.snapshot(title)?;
            w.press_enter(parent);
        }
        w.until_gone(parent)
    },
    shows: &[
        (C26, |e| {
            for (entry, ..) in CAUSES {
                e.at(UNREAD).zombie(entry)?;
            }
            Ok(())
        }),
        (C27, |e| {
            for (entry, last_field, status) in CAUSES {
                let readings = e.readings(entry, "stat")?;
                let kept = matches!(readings[..], [Ok(before), Err(_)]
                    if before.ends_with(&format!(" {last_field}")));
                check!(kept, "{entry}: {readings:?}")?;
                e.prints(&format!("{entry}, status read: "), status)?;
                e.prints(&format!("{entry}, exists: "), "false")?;
                e.at(READ).gone(entry)?;
            }
            e.at(READ).alive("parent").map(drop)
        }),
    ],
    ..control("causes --wait")
};

const ORPHANS: Text = text("two adopters have an orphan each", "两个收养者各有一个孤儿");
const ORPHANS_ENDED: Text = text("the orphans have ended", "孤儿都已结束");
const SWEPT: Text =
    text("the adopter that looks from time to time has looked", "隔一段时间看一次的收养者已看过");
/// As long as ps may take on a busy machine, and more.
const SWEEPER: &str = "init-waits --every 20s";

const INIT_WAITS: Scenario = Scenario {
    name: "init-waits",
    command: "init-waits",
    seconds: 20.0,
    max_speed: 5.0,
    act: |w| {
        let prompt = w.start_with_stdin()?;
        let first = w.process_in_line(&format!("Orphan of {}: ", prompt.pid), "orphan 1")?;
        let sweeper = w.start_program_with_stdin(SWEEPER)?;
        w.found(sweeper.pid, "sweeper");
        let second = w.process_in_line(&format!("Orphan of {}: ", sweeper.pid), "orphan 2")?;
        w.until("the orphans have been adopted", |w| {
            let parents = [first, second].map(|orphan| w.stat(orphan).map(|stat| stat.ppid));
            parents == [Some(prompt.pid), Some(sweeper.pid)]
        })?;
        w.line(&format!("Looked by: {}", sweeper.pid))?;
        w.snapshot(ORPHANS)?;
        until_sweepers_look_again(w, &[prompt, sweeper])?;
        w.press_enter(prompt);
        w.press_enter(sweeper);
        w.until_ended(first)?;
        w.until("the second orphan has ended", |w| w.has_ended(second))?;
        w.snapshot(ORPHANS_ENDED)?;
        w.snapshot_when_gone(second, SWEPT)
    },
    shows: &[(C31, |e| {
        e.at(ORPHANS).live_child("orphan 1", "parent")?.live_child("orphan 2", "sweeper")?;
        e.at(ORPHANS_ENDED)
            .gone("orphan 1")?
            .zombie("orphan 2")?
            .child_of("orphan 2", "sweeper")?;
        e.at(SWEPT).gone("orphan 2").map(drop)
    })],
    ..control(SWEEPER)
};

/// From one look to the next there is time for a snapshot. In the control both adopters look, the one a
/// little before the other: had only the other looked, the one might still have to, in time.
fn until_sweepers_look_again(w: &mut Worker, adopters: &[Process]) -> Result<(), Failure> {
    let looks =
        |w: &Worker, adopter: &Process| w.lines(&format!("Looked by: {}", adopter.pid)).len();
    let so_far: Vec<usize> = adopters.iter().map(|adopter| looks(w, adopter)).collect();
    w.until("the adopters that look from time to time have looked", |w| {
        let mut both = adopters.iter().zip(&so_far);
        both.all(|(adopter, so_far)| *so_far == 0 || looks(w, adopter) > *so_far)
    })
}

const TAKEN: Text = text("the number of the zombie is taken", "僵尸的进程号被占用");
const USED_AGAIN: Text = text(
    "the zombie has been waited for, and its number used again",
    "僵尸已被等待，它的进程号又被使用",
);

const PID_REUSE: Scenario = Scenario {
    name: "pid-reuse",
    command: "pid-reuse",
    seconds: 1.0,
    needs: &[NAMESPACES],
    act: |w| {
        let outside = w.start_with_stdin()?;
        w.line("Ended: ")?;
        let init = w.child_of(outside, "init")?;
        read_numbers(w, init, "early child")?;
        w.snapshot(TAKEN)?;
        w.press_enter(outside);
        w.line("Waited for: ")?;
        read_numbers(w, init, "late child")?;
        w.snapshot(USED_AGAIN)?;
        w.finish(outside, ENDED)
    },
    shows: &[(C35, |e| {
        let [zombie, next, again] = ["early child 1", "early child 2", "late child 2"];
        e.at(TAKEN).zombie(zombie)?;
        let (number, next_number) = (own_number(e, zombie)?, own_number(e, next)?);
        let is_next = next_number.checked_sub(1) == Some(number);
        check!(is_next, "after {number}, which was taken, came {next_number}")?;
        e.at(USED_AGAIN).gone(zombie)?;
        let again_number = own_number(e, again)?;
        let is_later = e.process(again)?.start_time > e.process(zombie)?.start_time;
        check!(
            again_number == number && is_later,
            "after the wait for {number} came {again_number}, later: {is_later}"
        )?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("pid-reuse --wait")
};

/// In a status file, the line NSpid has the number that we know a process by, and its own.
fn read_numbers(w: &mut Worker, init: Process, role: &str) -> Result<(), Failure> {
    for child in w.children(init, role)? {
        w.read(child, "status", &["State:", "NSpid:"]);
    }
    // A start time has steps of 10 ms: the next process is to have another one.
    w.give_time(Duration::from_millis(50), |_| false)
}

fn own_number(e: Evidence<'_>, who: &str) -> Result<u32, String> {
    let status = e.reading(who, "status")?;
    let number = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let number = number.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok());
    number.ok_or_else(|| format!("no number in {status:?}"))
}
