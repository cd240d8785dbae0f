//! What remains of a process that has ended: its entry, its number, its status; and for how long.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, times, words};
use crate::worker::{Worker, start::press_enter};

const ENDED: &str = "all have ended";

const LIMIT: usize = 6;
const FULL: &str = "the user has as many processes as the limit allows, most of them zombies";

pub(super) const RESOURCES: Scenario = Scenario {
    name: "resources",
    about: "A user who may have 6 processes has 5 zombies.",
    by_hand: "cargo run -p zombie --example resources, and the same with -- --wait",
    program: "resources",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let (program, stdin) = worker.start_with_stdin()?;
        let parent = worker.process_in_line("My pid is: ", "parent")?;
        worker.line("Press Enter")?;
        let zombies = children(worker, parent, "zombie")?;
        for process in [&[parent], &zombies[..]].concat() {
            worker.read(process, "exe", &[]);
            worker.read(process, "fd", &[]);
            worker.read(process, "status", &["State:", "VmRSS:"]);
        }
        worker.snapshot(FULL, &[&[parent], &zombies[..]].concat())?;
        press_enter(&stdin);
        worker.until_gone(program)?;
        worker.snapshot(ENDED, &[program, parent])
    },
    claims: &[Claim {
        id: "C25",
        says: "a zombie has no memory and no files any more; but it counts as a process of its \
               user: with a limit of 6 and 5 zombies no other can be started, until they are waited \
               for",
        judge: count_as_processes,
    }],
    control: Some(Control {
        about: "with a wait for each child",
        program: "resources",
        args: |_| words(&["--wait"]),
        refutes: &["C25"],
    }),
};

/// The children there are, with numbers in their roles.
fn children(worker: &mut Worker, parent: Process, role: &str) -> Result<Vec<Process>, Failure> {
    let pids = (1..).zip(procfs::children(parent.pid)?);
    Ok(pids
        .map(|(number, pid)| worker.found(pid, &format!("{role} {number}")))
        .collect())
}

fn count_as_processes(run: &Evidence<'_>) -> Check {
    let parent = run.role("parent")?;
    let rows = run.rows(FULL)?;
    let zombies = rows
        .iter()
        .filter(|row| row.ppid == parent.pid && row.is_zombie());
    let zombies = zombies.count();
    check(zombies == LIMIT - 1, || {
        format!("there were {zombies} zombies")
    })?;
    let refused = run.line("Refused: ")?;
    check(refused.contains("os error 11"), || refused.to_owned())?; // EAGAIN
    check(run.reading(parent, "status")?.contains("VmRSS:"), || {
        "the parent had no memory".to_owned()
    })?;
    for number in 1..LIMIT {
        let zombie = run.role(&format!("zombie {number}"))?;
        let status = run.reading(zombie, "status")?;
        check(!status.contains("VmRSS:"), || {
            format!("a zombie with memory: {status}")
        })?;
        // Only root may look into a folder that belongs to nobody any more.
        let files = run.reading(zombie, "fd").unwrap_or_default();
        let exe = run.reading(zombie, "exe");
        check(files.is_empty() && exe.is_err(), || {
            format!("a zombie with files: {files}, {exe:?}")
        })?;
    }
    let once_more = run.line("After the wait, one more: ")?;
    check(once_more == "exit status: 0", || once_more.to_owned())?;
    run.nothing_listed(ENDED)
}

/// Who ends how, what is then in the last field of /proc/PID/stat, and what wait tells.
const CAUSES: [(&str, i32, &str); 3] = [
    ("exits", 3 << 8, "exit status: 3"),
    ("aborts", Signal::SIGABRT as i32, "signal: 6 (SIGABRT)"),
    ("isKilled", Signal::SIGKILL as i32, "signal: 9 (SIGKILL)"),
];
const UNREAD: &str = "the children have ended, nobody has asked how";
const READ: &str = "the parent has been told how";

pub(super) const CAUSES_OF_END: Scenario = Scenario {
    name: "causes",
    about: "Three children end: by exit, by a fatal error, by a signal.",
    by_hand: "cargo run -p zombie --example causes, and cat /proc/N/stat",
    program: "causes",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let (parent, stdin) = worker.start_with_stdin()?;
        let mut everybody = vec![parent];
        for (entry, ..) in CAUSES {
            everybody.push(worker.process_in_line(&format!("{entry}: "), entry)?);
        }
        worker.line("Press Enter")?;
        read_all(worker, &everybody[1..]);
        worker.snapshot(UNREAD, &everybody)?;
        press_enter(&stdin);
        worker.until("the parent waits for Enter again", |worker| {
            worker.lines("Press Enter").len() == 2
        })?;
        read_all(worker, &everybody[1..]);
        worker.snapshot(READ, &everybody)?;
        press_enter(&stdin);
        worker.until_gone(parent)
    },
    claims: &[
        Claim {
            id: "C26",
            says: "exit, a fatal error, a signal that kills: whatever the cause, a zombie",
            judge: |run| {
                for (entry, ..) in CAUSES {
                    let row = run.row(UNREAD, run.role(entry)?)?;
                    check(row.is_zombie(), || format!("{entry} was {}", row.stat))?;
                }
                Ok(())
            },
        },
        Claim {
            id: "C27",
            says: "the status is in the zombie's entry (the last field of /proc/PID/stat); when it \
                   has been read, entry and process are gone",
            judge: status_is_kept,
        },
    ],
    control: Some(Control {
        about: "with a wait at once",
        program: "causes",
        args: |_| words(&["--wait"]),
        refutes: &["C26", "C27"],
    }),
};

fn read_all(worker: &mut Worker, processes: &[Process]) {
    for process in processes {
        worker.read(*process, "stat", &[""]);
    }
}

fn status_is_kept(run: &Evidence<'_>) -> Check {
    for (entry, in_entry, told) in CAUSES {
        let process = run.role(entry)?;
        let [Ok(before), Err(_)] = run.readings(process, "stat")[..] else {
            return Err(format!("{entry}: {:?}", run.readings(process, "stat")));
        };
        let last = before.rsplit(' ').next();
        check(last == Some(&in_entry.to_string()), || {
            format!("{entry}: the last field was {last:?}")
        })?;
        let status = run.line(&format!("{entry}, status read: "))?;
        check(status == told, || format!("{entry}: {status}"))?;
        let exists = run.line(&format!("{entry}, exists: "))?;
        check(exists == "false", || format!("{entry} could be signalled"))?;
        run.not_listed(READ, process)?;
    }
    let parent = run.row(READ, run.parent()?)?;
    check(parent.is_alive(), || {
        format!("the parent was {}", parent.stat)
    })
}

const ORPHANS: &str = "two adopters have an orphan each";
const ORPHANS_ENDED: &str = "the orphans have ended";
const SWEPT: &str = "the adopter that looks from time to time has looked";

pub(super) const INIT_WAITS: Scenario = Scenario {
    name: "init-waits",
    about: "Orphans end: of an adopter that is told, and of one that looks from time to time.",
    by_hand: "cargo run -p zombie --example init-waits, and the same with -- --every 20",
    program: "init-waits",
    args: |_| words(&[]),
    seconds: 20.0,
    act: two_adopters,
    claims: &[Claim {
        id: "C31",
        says: "ordinary inits wait as soon as SIGCHLD tells them; with others, that look from time \
               to time, a zombie stays until they do",
        judge: sooner_or_later,
    }],
    control: Some(Control {
        about: "two that look from time to time",
        program: "init-waits",
        args: every_20_seconds,
        refutes: &["C31"],
    }),
};

/// As long as ps may take on a busy machine, and more.
fn every_20_seconds(clock: Clock) -> Vec<String> {
    times(clock.at_most(5.0), &[("--every", 20.0)])
}

fn two_adopters(worker: &mut Worker) -> Result<(), Failure> {
    let sweeps = every_20_seconds(worker.clock());
    let (told, stdin_of_told) = worker.start_with_stdin()?;
    let first = worker.process_in_line(&format!("Orphan of {}: ", told.pid), "orphan 1")?;
    let (sweeper, stdin_of_sweeper) = worker.start_program_with_stdin("init-waits", &sweeps)?;
    worker.found(sweeper.pid, "sweeper");
    let second = worker.process_in_line(&format!("Orphan of {}: ", sweeper.pid), "orphan 2")?;
    let everybody = [told, first, sweeper, second];
    worker.until("the orphans have been adopted", |_| {
        let parent = |orphan: Process| procfs::stat(orphan.pid).map(|stat| stat.ppid);
        parent(first) == Some(told.pid) && parent(second) == Some(sweeper.pid)
    })?;
    worker.line(&format!("Looked by: {}", sweeper.pid))?;
    worker.snapshot(ORPHANS, &everybody)?;

    // From one look to the next there is time for the picture. In the control both look, the one a
    // little before the other: had only the other looked, the one might still have to, in time.
    let looks = |worker: &Worker, adopter: Process| {
        let line = format!("Looked by: {}", adopter.pid);
        worker.lines(&line).len()
    };
    let so_far = [told, sweeper].map(|adopter| (adopter, looks(worker, adopter)));
    let lookers = so_far.iter().filter(|(_, so_far)| *so_far > 0);
    worker.until("who looks from time to time has looked", |worker| {
        lookers
            .clone()
            .all(|&(adopter, so_far)| looks(worker, adopter) > so_far)
    })?;
    press_enter(&stdin_of_told);
    press_enter(&stdin_of_sweeper);
    worker.until_ended(first)?;
    worker.until("the second orphan has ended", |worker| {
        worker.has_ended(second)
    })?;
    worker.snapshot(ORPHANS_ENDED, &everybody)?;
    worker.until_gone(second)?;
    worker.snapshot(SWEPT, &everybody)
}

fn sooner_or_later(run: &Evidence<'_>) -> Check {
    let sweeper = run.role("sweeper")?;
    let (first, second) = (run.role("orphan 1")?, run.role("orphan 2")?);
    for (orphan, adopter) in [(first, run.parent()?), (second, sweeper)] {
        let row = run.row(ORPHANS, orphan)?;
        check(row.is_alive() && row.ppid == adopter.pid, || {
            format!(
                "orphan {} was {} with parent {}",
                row.pid, row.stat, row.ppid
            )
        })?;
    }
    run.not_listed(ORPHANS_ENDED, first)?;
    let zombie = run.row(ORPHANS_ENDED, second)?;
    check(zombie.is_zombie() && zombie.ppid == sweeper.pid, || {
        format!("the sweeper's orphan was {}", zombie.stat)
    })?;
    run.not_listed(SWEPT, second)
}

const TAKEN: &str = "the number of the zombie is taken";
const USED_AGAIN: &str = "the zombie has been waited for, and its number used again";

pub(super) const PID_REUSE: Scenario = Scenario {
    name: "pid-reuse",
    about: "Numbers are given to processes, beginning with that of a zombie.",
    by_hand: "cargo run -p zombie --example pid-reuse, as root",
    program: "pid-reuse",
    args: |_| words(&[]),
    seconds: 1.0,
    act: |worker| {
        let (outside, stdin) = worker.start_with_stdin()?;
        worker.line("Ended: ")?;
        let init = worker.child_of(outside, "init")?;
        look_at_numbers(worker, init, TAKEN)?;
        press_enter(&stdin);
        worker.line("Waited for: ")?;
        look_at_numbers(worker, init, USED_AGAIN)?;
        press_enter(&stdin);
        worker.until_gone(outside)?;
        worker.snapshot(ENDED, &[outside, init])
    },
    claims: &[Claim {
        id: "C35",
        says: "as long as there is a zombie, its number is skipped; once it has been waited for, \
               another process gets it, with another start time",
        judge: skipped_and_used_again,
    }],
    control: Some(Control {
        about: "with a wait for the child at once",
        program: "pid-reuse",
        args: |_| words(&["--wait"]),
        refutes: &["C35"],
    }),
};

/// In a status file, the line NSpid has the number that we know a process by, and its own.
fn look_at_numbers(worker: &mut Worker, init: Process, moment: &str) -> Result<(), Failure> {
    let children = children(worker, init, moment)?;
    for child in &children {
        worker.read(*child, "status", &["State:", "NSpid:"]);
    }
    // A start time has steps of 10 ms: the next process is to have another one.
    worker.give_time(Duration::from_millis(50), |_| false)?;
    worker.snapshot(moment, &[&[init], &children[..]].concat())
}

fn skipped_and_used_again(run: &Evidence<'_>) -> Check {
    let zombie = run.role(&format!("{TAKEN} 1"))?;
    let row = run.row(TAKEN, zombie)?;
    check(row.is_zombie(), || {
        format!("the first child was {}", row.stat)
    })?;
    let next = run.role(&format!("{TAKEN} 2"))?;
    let (number, next_number) = (own_number(run, zombie)?, own_number(run, next)?);
    check(next_number.checked_sub(1) == Some(number), || {
        format!("after {number}, which was taken, came {next_number}")
    })?;
    run.not_listed(USED_AGAIN, zombie)?;
    let again = run.role(&format!("{USED_AGAIN} 2"))?;
    let again_number = own_number(run, again)?;
    check(
        again_number == number && again.start_time > zombie.start_time,
        || {
            format!(
                "after the wait for {number} came {again_number}, started at {}",
                again.start_time
            )
        },
    )?;
    run.nothing_listed(ENDED)
}

fn own_number(run: &Evidence<'_>, process: Process) -> Result<u32, String> {
    let status = run.reading(process, "status")?;
    let number = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let number = number.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok());
    number.ok_or_else(|| format!("no number in {status:?}"))
}
