//! The last exercise: a small supervisor.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::check;
use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;

const WORKER_KILLED: Text = text("one of three workers was killed", "三个 worker 中的一个被杀死");
const TERMINATED: Text = text(
    "two seconds have passed since SIGTERM, or the supervisor has ended",
    "SIGTERM 已过两秒，或者监督进程已结束",
);
const TIME_TO_ACT: Duration = Duration::from_secs(2);

pub(super) const SUPERVISOR: Exercise = exercise!(
    "supervisor",
    section 12,
    |w| {
        let supervisor = w.start()?;
        w.found(supervisor.pid, "supervisor");
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
        w.children(supervisor, "worker that is left")?;
        w.snapshot(TERMINATED)
    },
    ("not-reaped", WORKER_KILLED, "worker 2", |e| e.at(WORKER_KILLED).gone("worker 2").map(drop)),
    ("no-respawn", WORKER_KILLED, "supervisor", |e| {
        e.at(WORKER_KILLED).live_child("new worker", "supervisor").map(drop)
    }),
    ("never-ends", TERMINATED, "supervisor", |e| e.at(TERMINATED).gone("supervisor").map(drop)),
    ("dies-of-sigterm", TERMINATED, "supervisor", |e| e.succeeds("supervisor")),
    ("leaves-workers", TERMINATED, "worker 1", |e| match e.reaped("worker 1") {
        Ok(_) => Err("worker 1 was reaped by the process that adopts orphans".to_owned()),
        Err(_) => e.at(TERMINATED).gone("worker 1").map(drop),
    }),
    ("kills-workers", TERMINATED, "worker 1", |e| {
        let finished = e.lines_with("Finished: ").len();
        check!(finished == 3, "{finished} of 3 workers have finished")
    }),
);
