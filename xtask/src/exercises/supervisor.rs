//! The last exercise: a small supervisor.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::check;
use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;

const WORKER_KILLED: Text = text("one of three workers was killed", "三个 worker 中的一个被杀死");
const TERMINATED: Text =
    text("the supervisor got SIGTERM, and had time to end", "监督进程收到 SIGTERM，并有时间结束");
const TIME_TO_ACT: Duration = Duration::from_secs(2);

pub(super) const SUPERVISOR: Exercise = exercise!(
    "supervisor",
    section 12,
    |w| {
        let supervisor = w.start()?;
        w.until_lines(3, "Worker: ")?;
        let Some(&second) = w.children(supervisor, "worker")?.get(1) else {
            return Err(Failure::Missed("the supervisor has three children".to_owned()));
        };
        w.signal(second, Signal::SIGKILL);
        w.until_ended(second)?;
        w.give_time(TIME_TO_ACT, |w| w.lines("Worker: ").len() > 3)?;
        let new = w.lines("Worker: ").get(3).and_then(|line| line.split_once(' ')?.1.parse().ok());
        new.map(|pid| w.found(pid, "new worker"));
        w.snapshot(WORKER_KILLED)?;
        w.signal(supervisor, Signal::SIGTERM);
        w.give_time(TIME_TO_ACT, |w| w.is_gone(supervisor))?;
        w.snapshot(TERMINATED)
    },
    ("not-reaped", WORKER_KILLED, "worker 2", |e| e.at(WORKER_KILLED).gone("worker 2").map(drop)),
    ("no-respawn", WORKER_KILLED, "parent", |e| {
        e.at(WORKER_KILLED).live_child("new worker", "parent").map(drop)
    }),
    ("never-ends", TERMINATED, "parent", |e| e.at(TERMINATED).gone("parent").map(drop)),
    ("dies-of-sigterm", TERMINATED, "parent", |e| e.succeeds("parent")),
    ("leaves-workers", TERMINATED, "worker 1", |e| match e.reaped("worker 1") {
        Ok(_) => Err("worker 1 was reaped by the process that adopts orphans".to_owned()),
        Err(_) => e.at(TERMINATED).gone("worker 1").map(drop),
    }),
    ("kills-workers", TERMINATED, "worker 1", |e| {
        let finished = e.lines_with("Finished: ").len();
        check!(finished == 3, "{finished} of 3 workers have finished")
    }),
);
