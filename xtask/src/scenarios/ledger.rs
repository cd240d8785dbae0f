//! The ledger: what the chapter states, whether that is right, and the code to read.

use serde::Serialize;

/// Whether a statement of the chapter is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ruling {
    Right,
    /// Right as far as it goes, or only under conditions that it does not name.
    Imprecise,
    Wrong,
}

/// A statement of the chapter.
pub(crate) struct Statement {
    /// They are numbered in the chapter's order.
    pub(crate) id: &'static str,
    /// What the chapter says, in our own words.
    pub(crate) says: &'static str,
    pub(crate) ruling: Ruling,
    /// What to read: "path: function".
    pub(crate) code: &'static [&'static str],
}

/// The statement with this number.
pub(crate) fn find(id: &str) -> Option<&'static Statement> {
    ALL.iter().find(|statement| statement.id == id)
}

pub(crate) const ALL: &[Statement] = &[
    Statement {
        id: "C1",
        says: "A server that serves all of its clients at once satisfies them better on average, as \
               most of the time goes into the network and not into computing.",
        ruling: Ruling::Right,
        code: &["echo-server/src/server/accept_loop.rs: start"],
    },
    Statement {
        id: "C2",
        says: "There are three models of such servers: many processes, multiplexing, and as many \
               threads as clients.",
        ruling: Ruling::Imprecise,
        code: &[
            "echo-server/src/worker/prefork.rs: serve",
            "echo-server/src/run.rs: choose_dispatch",
        ],
    },
    Statement {
        id: "C3",
        says: "The language hides processes and threads, and offers no plain fork.",
        ruling: Ruling::Right,
        code: &[
            "reexec/examples/plain-fork.rs: parent",
            "reexec/src/fork.rs: fork",
        ],
    },
    Statement {
        id: "C4",
        says: "A raw fork in a program with several threads ends in chaos.",
        ruling: Ruling::Right,
        code: &[
            "reexec/examples/fork-with-threads.rs: lock_and_look",
            "reexec/src/threads.rs: require_one",
        ],
    },
    Statement {
        id: "C5",
        says: "A process can be started in three ways only: ForkExec, StartProcess and exec.Cmd.",
        ruling: Ruling::Imprecise,
        code: &[
            "reexec/examples/system-calls.rs: start",
            "reexec/src/spawn.rs: spawn",
        ],
    },
    Statement {
        id: "C6",
        says: "With those, one program cannot go two ways by what fork has returned, as it does in C.",
        ruling: Ruling::Right,
        code: &["reexec/examples/plain-fork.rs: parent"],
    },
    Statement {
        id: "C7",
        says: "A command can be used once: not again after Run, Output or CombinedOutput.",
        ruling: Ruling::Right,
        code: &[
            "exec-cmd/examples/reuse.rs: start",
            "reexec/src/spawn.rs: spawn",
        ],
    },
    Statement {
        id: "C8",
        says: "The path is all that a command must have; if it is relative, it counts from the \
               command's working directory.",
        ruling: Ruling::Right,
        code: &["exec-cmd/examples/path-and-args.rs: start"],
    },
    Statement {
        id: "C9",
        says: "The first argument is the command; without arguments, that is its path.",
        ruling: Ruling::Right,
        code: &["exec-cmd/examples/path-and-args.rs: start"],
    },
    Statement {
        id: "C10",
        says: "A command for which no environment or directory is set has those of its parent.",
        ruling: Ruling::Right,
        code: &["exec-cmd/examples/inherited.rs: parent"],
    },
    Statement {
        id: "C11",
        says: "A command for which no stdin is set reads from the null device.",
        ruling: Ruling::Right,
        code: &[
            "exec-cmd/examples/inherited.rs: parent",
            "exec-cmd/src/main.rs: run",
        ],
    },
    Statement {
        id: "C12",
        says: "If a stream of the command is no file, a goroutine copies it, and Wait waits for that, \
               too.",
        ruling: Ruling::Right,
        code: &["exec-cmd/examples/grandchild-holds-pipe.rs: parent"],
    },
    Statement {
        id: "C13",
        says: "Without stdout and stderr, a command writes to the null device; if both are the same \
               writer, one goroutine at a time writes to it.",
        ruling: Ruling::Right,
        code: &[
            "exec-cmd/examples/inherited.rs: parent",
            "exec-cmd/src/main.rs: combined",
        ],
    },
    Statement {
        id: "C14",
        says: "Files beyond the three streams arrive in the command as descriptors 3, 4 and so on.",
        ruling: Ruling::Right,
        code: &[
            "reexec/examples/extra-descriptors.rs: become_cat",
            "reexec/src/inherited.rs: inherited_fd",
        ],
    },
    Statement {
        id: "C15",
        says: "A started process is there once, and its state is known only after Wait.",
        ruling: Ruling::Right,
        code: &["exec-cmd/examples/status.rs: parent"],
    },
    Statement {
        id: "C16",
        says: "A command is run in three ways: without its output, with both streams in one, and with \
               each apart.",
        ruling: Ruling::Right,
        code: &[
            "exec-cmd/src/main.rs: run",
            "exec-cmd/src/main.rs: combined",
            "exec-cmd/src/main.rs: separate",
        ],
    },
    Statement {
        id: "C17",
        says: "The third example lists the files of /var/log whose names end with .log.",
        ruling: Ruling::Wrong,
        code: &["exec-cmd/src/main.rs: separate"],
    },
    Statement {
        id: "C18",
        says: "exec.Cmd by itself cannot run a function of one's choice in a new process.",
        ruling: Ruling::Right,
        code: &[
            "reexec/examples/failing-child.rs: parent",
            "reexec/src/entry.rs: register",
        ],
    },
    Statement {
        id: "C19",
        says: "init functions run before main, in the parent and in the child.",
        ruling: Ruling::Right,
        code: &["reexec/examples/fork.rs: init"],
    },
    Statement {
        id: "C20",
        says: "At the first start, argv[0] is the program; in the child, the name that was registered.",
        ruling: Ruling::Right,
        code: &["reexec/examples/fork.rs: parent"],
    },
    Statement {
        id: "C21",
        says: "Init returns true in the child, which then exits with 0: that gives what fork and \
               another function would.",
        ruling: Ruling::Imprecise,
        code: &[
            "reexec/examples/failing-child.rs: main",
            "reexec/src/entry.rs: init",
        ],
    },
    Statement {
        id: "C22",
        says: "The lines come in the order init, main, init of the child, child, exit.",
        ruling: Ruling::Right,
        code: &["reexec/examples/fork.rs: parent"],
    },
    Statement {
        id: "C23",
        says: "The program finds its own file again, by the path that it was started with.",
        ruling: Ruling::Imprecise,
        code: &[
            "reexec/examples/self-exe.rs: copy",
            "reexec/src/program.rs: self_exe",
        ],
    },
    Statement {
        id: "C24",
        says: "A process that has ended, and that its parent has not waited for, is a zombie.",
        ruling: Ruling::Right,
        code: &["zombie/src/main.rs: parent"],
    },
    Statement {
        id: "C25",
        says: "Zombies take up important resources of the system.",
        ruling: Ruling::Imprecise,
        code: &["zombie/examples/resources.rs: fill_up"],
    },
    Statement {
        id: "C26",
        says: "A process ends by a call of exit, by a fatal error, or by a signal that kills it.",
        ruling: Ruling::Right,
        code: &["zombie/examples/causes.rs: parent"],
    },
    Statement {
        id: "C27",
        says: "Its entry stays so that the parent can read the status, and goes when it is read.",
        ruling: Ruling::Right,
        code: &[
            "zombie/examples/causes.rs: parent",
            "wait/src/main.rs: parent",
        ],
    },
    Statement {
        id: "C28",
        says: "kill has no effect on a zombie.",
        ruling: Ruling::Right,
        code: &["zombie/src/main.rs: parent"],
    },
    Statement {
        id: "C29",
        says: "If the parent ends first, init adopts the child, and waits for it.",
        ruling: Ruling::Imprecise,
        code: &[
            "zombie/examples/orphan.rs: parent",
            "xtask/src/worker/wait.rs: reap",
        ],
    },
    Statement {
        id: "C30",
        says: "An orphan runs on, and will not become a zombie.",
        ruling: Ruling::Wrong,
        code: &[
            "zombie/examples/orphan.rs: child_process",
            "xtask/src/worker/mod.rs: stop_reaping",
        ],
    },
    Statement {
        id: "C31",
        says: "init waits from time to time, and so removes the zombies that it has adopted.",
        ruling: Ruling::Imprecise,
        code: &[
            "zombie/examples/init-waits.rs: adopter",
            "zombie/examples/init-waits.rs: wait_for_all",
        ],
    },
    Statement {
        id: "C32",
        says: "When a child ends, its parent is sent SIGCHLD, which by default is ignored.",
        ruling: Ruling::Right,
        code: &[
            "echo-server/examples/sigchld.rs: told",
            "echo-server/examples/sigchld.rs: by_default",
        ],
    },
    Statement {
        id: "C33",
        says: "Parents usually wait in the handler of that signal.",
        ruling: Ruling::Imprecise,
        code: &["echo-server/examples/remove-zombie.rs: remove_zombies"],
    },
    Statement {
        id: "C34",
        says: "If a parent ignores SIGCHLD, or says SA_NOCLDWAIT, its children vanish and their \
               statuses are lost.",
        ruling: Ruling::Right,
        code: &["echo-server/examples/ignore-sigchld.rs: parent"],
    },
    Statement {
        id: "C35",
        says: "Once a zombie is waited for, its entry and its number can be used again; until then no \
               other process gets the number.",
        ruling: Ruling::Right,
        code: &["zombie/examples/pid-reuse.rs: skip_and_use_again"],
    },
    Statement {
        id: "C36",
        says: "ps shows a zombie as Z.",
        ruling: Ruling::Right,
        code: &["xtask/src/probe/ps.rs: snapshot"],
    },
    Statement {
        id: "C37",
        says: "A zombie is removed by sending SIGCHLD to its parent by hand.",
        ruling: Ruling::Wrong,
        code: &["echo-server/examples/late-handler.rs: parent"],
    },
    Statement {
        id: "C38",
        says: "If that does not help, kill the parent: init takes over.",
        ruling: Ruling::Right,
        code: &[
            "zombie/src/main.rs: parent",
            "xtask/src/worker/wait.rs: reap",
        ],
    },
    Statement {
        id: "C39",
        says: "The child is a zombie for 30 seconds, as ps au shows; then both vanish.",
        ruling: Ruling::Imprecise,
        code: &[
            "zombie/src/main.rs: parent",
            "xtask/src/probe/ps.rs: snapshot",
        ],
    },
    Statement {
        id: "C40",
        says: "Wait blocks until the command has ended: the parent sleeps 5 seconds, the child 10, and \
               the last line comes after 10.",
        ruling: Ruling::Right,
        code: &["wait/src/main.rs: parent"],
    },
    Statement {
        id: "C41",
        says: "To reap without blocking takes a goroutine.",
        ruling: Ruling::Imprecise,
        code: &[
            "goroutine-wait/src/main.rs: wait",
            "goroutine-wait/examples/try-wait.rs: parent",
            "goroutine-wait/examples/pidfd.rs: parent",
        ],
    },
    Statement {
        id: "C42",
        says: "After the child's end ps shows nothing of it; and a zombie, if the lines with Wait are \
               taken out.",
        ruling: Ruling::Right,
        code: &["goroutine-wait/src/main.rs: parent"],
    },
    Statement {
        id: "C43",
        says: "Signals, a concurrent server and split input and output are hard in this language, and \
               are left out.",
        ruling: Ruling::Imprecise,
        code: &["echo-server/examples/handler-limits.rs: look_and_wait"],
    },
    Statement {
        id: "C44",
        says: "The numbers of processes are integers above 2.",
        ruling: Ruling::Wrong,
        code: &["echo-server/examples/pid-namespace.rs: enter_namespace"],
    },
    Statement {
        id: "C45",
        says: "fork copies descriptors, with their numbers, but not sockets; a socket goes when all of \
               its descriptors are closed.",
        ruling: Ruling::Right,
        code: &["echo-server/examples/one-close-too-few.rs: serve"],
    },
    Statement {
        id: "C46",
        says: "One close is not enough to end a connection that a forked process has, too; shutdown is.",
        ruling: Ruling::Right,
        code: &["echo-server/examples/one-close-too-few.rs: child_process"],
    },
    Statement {
        id: "C47",
        says: "A loop that asks with WNOHANG and sleeps 3 seconds runs five times for a child of 15.",
        ruling: Ruling::Right,
        code: &["goroutine-wait/examples/try-wait.rs: parent"],
    },
    Statement {
        id: "C48",
        says: "A signal ends a sleep early, and it is not resumed.",
        ruling: Ruling::Right,
        code: &["echo-server/examples/signal.rs: three_sleeps"],
    },
    Statement {
        id: "C49",
        says: "A client that splits input and output over two processes can send without waiting for \
               what comes back.",
        ruling: Ruling::Right,
        code: &["echo-server/src/bin/echo-client/split.rs: run"],
    },
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_of_the_49_statements_is_there_once_in_order() {
        let numbers: Vec<String> = ALL
            .iter()
            .map(|statement| statement.id.to_owned())
            .collect();
        let expected: Vec<String> = (1..=49).map(|number| format!("C{number}")).collect();
        assert_eq!(numbers, expected);
        assert!(ALL.iter().all(|statement| !statement.code.is_empty()));
    }

    #[test]
    fn the_code_to_read_exists() {
        for code in ALL.iter().flat_map(|statement| statement.code) {
            let (path, function) = code.split_once(": ").unwrap();
            let text = fs::read_to_string(Path::new("..").join(path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            let heads = ["(", "<"].map(|next| format!("fn {function}{next}"));
            assert!(heads.iter().any(|head| text.contains(head)), "{code}");
        }
    }
}
