//! What a process is: its number.

use crate::evidence::check;
use crate::model::bilingual::{Text, text};
use crate::probe::need::NAMESPACES;
use crate::scenarios::ledger::C44;
use crate::scenarios::steps::ENDED;
use crate::scenarios::{Scenario, control};

pub(super) const ALL: &[Scenario] = &[PID_NAMESPACE];

const COUNTED: Text = text("the children have printed their numbers", "子进程都打印了自己的进程号");

const PID_NAMESPACE: Scenario = Scenario {
    name: "pid-namespace",
    command: "pid-namespace --sleep 20s",
    seconds: 20.0,
    needs: &[NAMESPACES],
    act: |w| {
        let parent = w.start()?;
        w.until_lines(3, "Child outside: ")?;
        for line in w.lines("Child outside: ") {
            if let Some((outside, inside)) = numbers(&line) {
                w.found(outside, &format!("child {inside}"));
            }
        }
        w.snapshot(COUNTED)?;
        w.line("End parent process.")?;
        w.snapshot_when_gone(parent, ENDED)
    },
    shows: &[(C44, |e| {
        let lines = e.lines();
        let children: Vec<(i32, i32)> = lines.iter().filter_map(|line| numbers(line)).collect();
        let inside: Vec<i32> = children.iter().map(|(_, inside)| *inside).collect();
        check!(inside == [1, 2, 3], "the children had the numbers {inside:?}")?;
        let limit: i32 = e.line("Numbers are below: ")?.parse().unwrap_or(0);
        e.at(COUNTED).live_children(3, "parent")?.count(
            4,
            "live processes below the limit",
            |row| row.is_alive() && row.pid < limit,
        )?;
        e.at(ENDED).nothing_listed()
    })],
    ..control("pid-namespace --sleep 20s --outside")
};

/// From `Child outside: 4711, to itself: 2`.
fn numbers(line: &str) -> Option<(i32, i32)> {
    let numbers = line.strip_prefix("Child outside: ")?;
    let (outside, inside) = numbers.split_once(", to itself: ")?;
    Some((outside.parse().ok()?, inside.parse().ok()?))
}
