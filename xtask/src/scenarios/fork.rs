//! `fork/main.go`: a program that starts itself again, to run another function.

use crate::evidence::check;
use crate::scenarios::{Claim, Scenario, words};

const GONE: &str = "the program has ended";

pub(super) const FORK: Scenario = Scenario {
    name: "fork",
    about: "A program starts itself again, to run another of its functions.",
    by_hand: "cargo run -p reexec --example fork",
    program: "fork",
    args: |_| words(&[]),
    seconds: 0.0,
    act: |worker| {
        let parent = worker.start()?;
        worker.line("main exit")?;
        worker.until_gone(parent)?;
        worker.snapshot(GONE, &[parent])
    },
    claims: &[
        Claim {
            id: "C19",
            says: "init comes before main, in both processes",
            judge: |run| {
                let [init, main, childs_init, ..] = run.lines()[..] else {
                    return Err("too few lines were printed".to_owned());
                };
                let order = [init, main, childs_init].map(|line| line.split(' ').next());
                check(order == [Some("init"), Some("main"), Some("init")], || {
                    format!("{order:?}")
                })
            },
        },
        Claim {
            id: "C20",
            says: "argv[0] is the program in the first start, the entry's name in the child",
            judge: |run| {
                let [init, _, childs_init, ..] = run.lines()[..] else {
                    return Err("too few lines were printed".to_owned());
                };
                let arguments = [init, childs_init].map(|line| line.split_once("os.Args = "));
                let arguments = arguments.map(|split| split.unwrap_or_default().1);
                check(arguments == ["[fork]", "[childProcess]"], || {
                    format!("{arguments:?}")
                })
            },
        },
        Claim {
            id: "C22",
            says: "the order is init, main, init of the child, the child, exit, for the parent waits",
            judge: |run| {
                let beginnings = [
                    "init start",
                    "main start",
                    "init start",
                    "childProcess",
                    "main exit",
                ];
                let lines = run.lines();
                let same = lines.len() == beginnings.len()
                    && lines
                        .iter()
                        .zip(beginnings)
                        .all(|(line, start)| line.starts_with(start));
                check(same, || format!("{lines:?}"))?;
                run.nothing_listed(GONE)
            },
        },
    ],
    control: None,
};
