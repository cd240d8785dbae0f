//! The ledger: every claim, once. What the chapter states, whether that is right, what holds instead or
//! more exactly, and the code to read. The scenarios name the claims that they show.

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

impl Ruling {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Ruling::Right => "right",
            Ruling::Imprecise => "imprecise",
            Ruling::Wrong => "wrong",
        }
    }
}

pub(crate) struct Claim {
    /// C1, C2, … are the chapter's, in its order; X1, X2, … go beyond it.
    pub(crate) id: &'static str,
    /// What the chapter says, in our own words.
    pub(crate) chapter: Option<Statement>,
    /// What holds on this machine, if the scenarios that show it succeed.
    pub(crate) here: &'static str,
    /// What to read: "path: function".
    pub(crate) code: &'static [&'static str],
}

impl Claim {
    pub(crate) fn is_wrong(&self) -> bool {
        let ruling = self.chapter.as_ref().map(|statement| statement.ruling);
        ruling == Some(Ruling::Wrong)
    }
}

pub(crate) struct Statement {
    pub(crate) says: &'static str,
    pub(crate) ruling: Ruling,
}

/// The claim with this number.
pub(crate) fn find(id: &str) -> Option<&'static Claim> {
    ALL.iter().find(|claim| claim.id == id).copied()
}

/// Makes a constant for each claim, and `ALL` of them. A claim of the chapter is its number, its ruling,
/// what the chapter says, what holds here, and the code to read; one beyond it has no ruling, and nothing
/// that the chapter says.
macro_rules! ledger {
    ($($id:ident $($ruling:ident $says:literal)? => $here:literal [$($code:literal),*])*) => {
        $(pub(crate) const $id: &Claim = &Claim {
            id: stringify!($id),
            chapter: ledger!(@chapter $($ruling $says)?),
            here: $here,
            code: &[$($code),*],
        };)*
        pub(crate) const ALL: &[&Claim] = &[$($id),*];
    };
    (@chapter) => { None };
    (@chapter $ruling:ident $says:literal) => {
        Some(Statement { says: $says, ruling: Ruling::$ruling })
    };
}

ledger! {
    C1 Right
        "A server that serves all of its clients at once satisfies them better on average, as most \
         of the time goes into the network and not into computing."
        => "a process for each client serves all of them at once, and none is left afterwards"
        ["echo-server/examples/echo-mpserv.rs: serve",
         "echo-server/src/server/accept_loop.rs: start"]
    C2 Imprecise
        "There are three models of such servers: many processes, multiplexing, and as many threads \
         as clients."
        => "there are more than the three models: a pool of 4 processes serves 20 clients, each in \
         its turn"
        ["echo-server/src/worker/prefork.rs: serve", "echo-server/src/run.rs: choose_dispatch"]
    C3 Right
        "The language hides processes and threads, and offers no plain fork."
        => "in Go, by its documentation, there is none; here there is one: two processes go on \
         from it, and with a second thread it is refused"
        ["reexec/examples/plain-fork.rs: parent", "reexec/src/fork.rs: fork"]
    C4 Right
        "A raw fork in a program with several threads ends in chaos."
        => "the copy has only the thread that forked; the lock of the other thread stays locked \
         there, because no thread is left to unlock it"
        ["reexec/examples/fork-with-threads.rs: lock_and_look",
         "reexec/src/threads.rs: require_one"]
    C5 Imprecise
        "A process can be started in three ways only: ForkExec, StartProcess and exec.Cmd."
        => "three layers over one mechanism: a clone that borrows its parent's memory, and execve; \
         if something must be done before execve, the clone becomes a fork"
        ["reexec/examples/system-calls.rs: start", "reexec/src/spawn.rs: spawn"]
    C6 Right
        "With those, a program cannot branch on the return value of fork, as it does in C."
        => "a forked child goes on where its parent was, and sees the changed variable; an \
         executed child begins anew, and does not see the change"
        ["reexec/examples/plain-fork.rs: parent"]
    C7 Right
        "A command can be used once: not again after Run, Output or CombinedOutput."
        => "in Go, by its documentation, a Cmd can be used once; here, in Rust, a Command is a \
         description, and starts one process after another"
        ["exec-cmd/examples/reuse.rs: start", "reexec/src/spawn.rs: spawn"]
    C8 Right
        "The path is all that a command must have; if it is relative, it counts from the command's \
         working directory."
        => "./program is the file of that name in the command's directory, not in ours: here, on \
         Linux; Rust's documentation leaves it open"
        ["exec-cmd/examples/path-and-args.rs: start"]
    C9 Right
        "The first argument is the command; without arguments, that is its path."
        => "without arguments, the first argument is the path; but it is free text, and does not \
         decide which file is executed"
        ["exec-cmd/examples/path-and-args.rs: start"]
    C10 Right
        "A command for which no environment or directory is set has those of its parent."
        => "a command has its parent's environment and directory"
        ["exec-cmd/examples/inherited.rs: parent"]
    C11 Right
        "A command for which no stdin is set reads from the null device."
        => "in Go, by its documentation, it has the null device as stdin; here, in Rust, only by \
         output(), else it has its parent's"
        ["exec-cmd/examples/inherited.rs: parent", "exec-cmd/src/main.rs: run"]
    C12 Right
        "If a stream of the command is no file, a goroutine copies it, and Wait waits for that, \
         too."
        => "in Go, by its documentation, Wait waits for both; here the status is there at once, \
         but the output has no end as long as anybody has the pipe"
        ["exec-cmd/examples/grandchild-holds-pipe.rs: parent"]
    C13 Right
        "Without stdout and stderr, a command writes to the null device; if both are the same \
         writer, one goroutine at a time writes to it."
        => "in Go, by its documentation, it has the null device as stdout and stderr; here, in \
         Rust, it has its parent's, and by output() a pipe for each"
        ["exec-cmd/examples/inherited.rs: parent", "exec-cmd/src/main.rs: combined"]
    C14 Right
        "Files beyond the three streams arrive in the command as descriptors 3, 4 and so on."
        => "the file is descriptor 3, and there are no others, though its parent has more; in Rust \
         the program must arrange that, because exec closes descriptors"
        ["reexec/examples/extra-descriptors.rs: become_cat",
         "reexec/src/inherited.rs: inherited_fd"]
    C15 Right
        "A started process is there once, and its state is known only after Wait."
        => "before the end there is no status; afterwards it distinguishes exit codes from \
         signals, has the lowest 8 bits of a code, and can be asked for again"
        ["exec-cmd/examples/status.rs: parent"]
    C16 Right
        "A command is run in three ways: without its output, with both streams in one, and with \
         each apart."
        => "three ways: nothing arrives; or the lines in the order of writing, as both streams \
         share a pipe; or each stream by itself"
        ["exec-cmd/src/main.rs: run",
         "exec-cmd/src/main.rs: combined",
         "exec-cmd/src/main.rs: separate"]
    C17 Wrong
        "The third example lists the files of /var/log whose names end with .log."
        => "no shell expands the *: the command gets it as it is, fails with exit status 2, and \
         says so on stderr"
        ["exec-cmd/src/main.rs: separate"]
    C18 Right
        "exec.Cmd by itself cannot run a function of one's choice in a new process."
        => "a function's name is no program; but a program that executes itself again can choose \
         the function"
        ["reexec/examples/failing-child.rs: parent", "reexec/src/entry.rs: register"]
    C19 Right
        "init functions run before main, in the parent and in the child."
        => "init comes before main, in both processes"
        ["reexec/examples/fork.rs: init"]
    C20 Right
        "At the first start, argv[0] is the program; in the child, the name that was registered."
        => "argv[0] is the program in the first start, the entry's name in the child"
        ["reexec/examples/fork.rs: parent"]
    C21 Imprecise
        "Init returns true in the child, which then exits with 0: the effect is that of fork and \
         another function."
        => "the child is a new program, not a fork; it exits with the function's result, because a \
         child that always exits with 0, as in the chapter, hides its failures"
        ["reexec/examples/failing-child.rs: main", "reexec/src/entry.rs: init"]
    C22 Right
        "The lines come in the order init, main, init of the child, child, exit."
        => "the order is init, main, init of the child, the child, exit, for the parent waits"
        ["reexec/examples/fork.rs: parent"]
    C23 Imprecise
        "The program finds its own file again, by the path that it was started with."
        => "the path leads nowhere once the file is renamed, the name once it is deleted; the \
         kernel's link /proc/self/exe still leads to it"
        ["reexec/examples/self-exe.rs: copy", "reexec/src/program.rs: self_exe"]
    C24 Right
        "A process that has ended, and that its parent has not waited for, is a zombie."
        => "a process that has ended and is not reaped is a zombie"
        ["zombie/src/main.rs: parent"]
    C25 Imprecise
        "Zombies take up important resources of the system."
        => "a zombie has no memory and no files any more; but it counts as a process of its user: \
         with a limit of 6 and 5 zombies no other can be started, until they are waited for"
        ["zombie/examples/resources.rs: fill_up"]
    C26 Right
        "A process ends by a call of exit, by a fatal error, or by a signal that kills it."
        => "after an exit, a fatal error or a signal that kills, the process is a zombie"
        ["zombie/examples/causes.rs: parent"]
    C27 Right
        "Its entry stays so that the parent can read the status, and goes when it is read."
        => "the status is in the zombie's entry (the last field of /proc/PID/stat); when it has \
         been read, entry and process are gone"
        ["zombie/examples/causes.rs: parent", "wait/src/main.rs: parent"]
    C28 Right
        "kill has no effect on a zombie."
        => "SIGKILL to a zombie is accepted, and changes nothing"
        ["zombie/src/main.rs: parent"]
    C29 Imprecise
        "If the parent ends first, init adopts the child, and waits for it."
        => "an orphan is adopted by its nearest living ancestor that is a subreaper (here the \
         scenario's own process), not necessarily by init"
        ["zombie/examples/orphan.rs: parent", "xtask/src/worker/wait.rs: reap"]
    C30 Wrong
        "An orphan runs on, and will not become a zombie."
        => "an orphan runs on, and is a zombie from its end until its adopter waits"
        ["zombie/examples/orphan.rs: child_process", "xtask/src/worker/mod.rs: stop_reaping"]
    C31 Imprecise
        "init waits from time to time, and so removes the zombies that it has adopted."
        => "an adopter that waits on SIGCHLD reaps a dead orphan at once; an adopter that looks \
         from time to time leaves a zombie until it looks"
        ["zombie/examples/init-waits.rs: adopter",
         "zombie/examples/init-waits.rs: wait_for_all"]
    C32 Right
        "When a child ends, its parent is sent SIGCHLD, which by default is ignored."
        => "the kernel sends SIGCHLD when a child ends, and when it is stopped or goes on (unless \
         SA_NOCLDSTOP: the control); by default the signal does nothing, and the status is kept"
        ["goroutine-wait/examples/sigchld.rs: told", "goroutine-wait/examples/sigchld.rs: by_default"]
    C33 Imprecise
        "Parents usually wait in the handler of that signal."
        => "a parent that waits on SIGCHLD must repeat the wait until no zombie is left: the \
         signals of ten children merge into one, and a single wait leaves nine zombies"
        ["goroutine-wait/examples/remove-zombie.rs: remove_zombies"]
    C34 Right
        "If a parent ignores SIGCHLD, or says SA_NOCLDWAIT, its children vanish and their statuses \
         are lost."
        => "if SIGCHLD is ignored, children leave no zombie and no status, and wait blocks until \
         all have ended, and fails; a zombie from before stays; an executed program ignores \
         SIGCHLD, too"
        ["goroutine-wait/examples/ignore-sigchld.rs: parent"]
    C35 Right
        "Once a zombie is waited for, its entry and its number can be used again; until then no \
         other process gets the number."
        => "as long as there is a zombie, its number is skipped; once it has been waited for, \
         another process gets it, with another start time"
        ["zombie/examples/pid-reuse.rs: skip_and_use_again"]
    C36 Right
        "ps shows a zombie as Z."
        => "ps shows it as Z, and as <defunct>"
        ["xtask/src/probe/ps.rs: snapshot"]
    C37 Wrong
        "A zombie is removed by sending SIGCHLD to its parent by hand."
        => "SIGCHLD sent by hand does nothing if the parent leaves it at default or ignores it; \
         the zombie goes only if the parent waits on SIGCHLD, and installed its handler too late \
         for the first one"
        ["goroutine-wait/examples/late-handler.rs: parent"]
    C38 Right
        "If that does not help, kill the parent: init takes over."
        => "when the parent is killed, an adopter gets the zombie, which goes when the adopter \
         waits"
        ["zombie/src/main.rs: parent", "xtask/src/worker/wait.rs: reap"]
    C39 Imprecise
        "The child is a zombie for 30 seconds, as ps au shows; then both vanish."
        => "it stays as long as its parent sleeps, and goes because an adopter reaps it"
        ["zombie/src/main.rs: parent", "xtask/src/probe/ps.rs: snapshot"]
    C40 Right
        "Wait blocks until the command has ended: the parent sleeps 5 seconds, the child 10, and \
         the last line comes after 10."
        => "wait blocks until the child has ended, and reaps it: the times overlap, the longest \
         counts"
        ["wait/src/main.rs: parent"]
    C41 Imprecise
        "To reap without blocking takes a goroutine."
        => "reaping beside other work takes a thread that blocks in wait (the l in Sl), or no \
         thread: a loop that asks again and again, or a pidfd in poll"
        ["goroutine-wait/src/main.rs: wait",
         "goroutine-wait/examples/try-wait.rs: parent",
         "goroutine-wait/examples/pidfd.rs: parent"]
    C42 Right
        "After the child's end ps shows nothing of it; and a zombie, if the lines with Wait are \
         taken out."
        => "after the child's end, ps does not list it any more; without the wait, it lists a \
         zombie; and the parents live"
        ["goroutine-wait/src/main.rs: parent"]
    C43 Imprecise
        "Signals, a concurrent server and split input and output are hard in this language, and \
         are left out."
        => "signals, which the chapter leaves out as hard, merge, so nothing can be counted by \
         them; a signal that comes just before a wait ends it, if the wait is for signals, too"
        ["goroutine-wait/examples/handler-limits.rs: look_and_wait"]
    C44 Wrong
        "The numbers of processes are integers above 2."
        => "a process can be number 2, and 1: each PID namespace counts its processes from 1, up \
         to pid_max"
        ["zombie/examples/pid-namespace.rs: enter_namespace"]
    C45 Right
        "fork copies descriptors, with their numbers, but not sockets; a socket goes when all of \
         its descriptors are closed."
        => "fork copies the descriptor, with its number, and not the connection, which ends when \
         the last copy is closed"
        ["echo-server/examples/one-close-too-few.rs: serve"]
    C46 Right
        "One close is not enough to end a connection that a forked process also has; shutdown is \
         enough."
        => "closing one copy does not end the connection; shutting it down for writing does, also \
         if other processes have a copy"
        ["echo-server/examples/one-close-too-few.rs: child_process"]
    C47 Right
        "A loop that asks with WNOHANG and sleeps 3 seconds runs five times for a child of 15."
        => "the loop runs five times (six, if the child's end is a moment late for the fifth \
         question), for nothing; a pidfd in poll tells once, at once (the control)"
        ["goroutine-wait/examples/try-wait.rs: parent"]
    C48 Right
        "A signal ends a sleep early, and it is not resumed."
        => "a handled signal ends sleep(3) early, and the sleep is not resumed; Rust's \
         thread::sleep is resumed (the control)"
        ["goroutine-wait/examples/signal.rs: three_sleeps"]
    C49 Right
        "A client that splits input and output over two processes can send without waiting for the \
         answer."
        => "a client whose sending and receiving are two processes need not wait for the answer \
         before it goes on sending: 64 MiB come back"
        ["echo-server/src/bin/echo-client/split.rs: run"]
    X1 => "a stopped parent reaps nothing: its child is a zombie until the parent goes on, also if \
         the parent is in wait"
        ["wait/src/main.rs: parent"]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_claims_of_each_series_are_numbered_in_order() {
        let mut last = BTreeMap::new();
        for claim in ALL {
            let (series, number) = claim.id.split_at(1);
            assert_eq!(series == "C", claim.chapter.is_some(), "{}", claim.id);
            let number: u32 = number.parse().unwrap();
            let before = last.insert(series, number).unwrap_or(0);
            assert_eq!(number, before + 1, "{} comes after {series}{before}", claim.id);
            assert!(!claim.code.is_empty(), "{} has no code to read", claim.id);
        }
    }

    /// No program in Go runs here, so nothing about it has been shown.
    #[test]
    fn what_go_does_is_said_to_be_from_its_documentation() {
        for claim in ALL.iter().filter(|claim| claim.here.contains("Go")) {
            let (source, shown) = ("in Go, by its documentation, ", "; here");
            let is_so = claim.here.starts_with(source) && claim.here.contains(shown);
            assert!(is_so, "{}: {}", claim.id, claim.here);
        }
    }

    #[test]
    fn the_code_to_read_exists() {
        for code in ALL.iter().flat_map(|claim| claim.code) {
            let (path, function) = code.split_once(": ").unwrap();
            let text = fs::read_to_string(Path::new("..").join(path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            let heads = ["(", "<"].map(|next| format!("fn {function}{next}"));
            assert!(heads.iter().any(|head| text.contains(head)), "{code}");
        }
    }
}
