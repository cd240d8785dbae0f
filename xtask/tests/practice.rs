//! What a learner has at a terminal: `demo --pause`, `demo --predict` and `watch`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use support::{Run, XTASK, assert_has, assert_one_sentence, stdout, text};
use test_support::{number, state, wait_until_within};

/// Plenty, also on a busy machine that first has to build the programs.
const LIMIT: Duration = Duration::from_secs(120);

/// Somebody at a terminal, in whose foreground xtask runs.
struct Terminal {
    run: Run,
    master: File,
    slave: OwnedFd,
    /// As it was before.
    mode: Termios,
    xtask: Child,
    /// All that has been shown.
    screen: String,
    /// How much of that has been looked at.
    seen: usize,
}

impl Terminal {
    fn with(args: &[&str]) -> Self {
        let run = Run::new();
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = run.command("setsid"); // Ctrl-C goes to whose terminal it is
        command.args(["--ctty", "--wait", XTASK]).args(args).env("TERM", "xterm");
        if args[0] == "demo" {
            command.arg("--report").arg(run.report());
        }
        let xtask = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self {
            run,
            master: pty.master.into(),
            mode: tcgetattr(&pty.slave).unwrap(),
            slave: pty.slave,
            xtask,
            screen: String::new(),
            seen: 0,
        }
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn look(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = self.master.read(&mut bytes) {
            self.screen += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    /// Waits until this is on the screen, below all that has been waited for before. Returns what is
    /// between.
    #[track_caller]
    fn until_shown(&mut self, text: &str) -> String {
        let look = || {
            self.look();
            self.screen[self.seen..].to_owned()
        };
        let what = format!("{text:?} is on the screen");
        let unseen = wait_until_within(LIMIT, &what, look, |unseen| unseen.contains(text));
        let (between, _) = unseen.split_once(text).unwrap();
        self.seen += between.len() + text.len();
        between.to_owned()
    }

    /// Waits for the end of xtask, after which all is as it was before.
    #[track_caller]
    fn until_ended(&mut self) -> ExitStatus {
        let look = || {
            self.look(); // or it could not write any more
            self.xtask.try_wait().unwrap()
        };
        let status = wait_until_within(LIMIT, "the end of xtask", look, Option::is_some).unwrap();
        self.look();
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.mode);
        let cursor = |order| self.screen.rfind(order);
        assert!(cursor("\x1b[?25l") <= cursor("\x1b[?25h"), "{}", self.screen);
        self.run.assert_no_process_is_left();
        status
    }

    /// The process that the screen names like this.
    fn process(&self, before: &str) -> Pid {
        let (_, rest) = self.screen.rsplit_once(before).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        number(&digits, "")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.run.kill();
        let _ = self.xtask.wait();
    }
}

#[track_caller]
fn assert_stopped(pid: Pid) {
    wait_until_within(LIMIT, "T", || state(pid), |state| *state == Some('T'));
}

const STOPS: &str = "Enter goes on, q quits.";
const ASKS: &str = "- nothing, q quits: ";

#[test]
fn a_pause_lasts_until_enter() {
    let mut terminal = Terminal::with(&["demo", "zombie", "--pause", "--speed", "20"]);
    let shown = terminal.until_shown(STOPS);
    assert!(shown.contains("Snapshot 1: the child has ended, its parent sleeps"));
    let parent = terminal.process("zombie --parent-sleep 1.5\x1b[0m \x1b[2m(pid ");
    let child = terminal.process("My pid is: ");
    let commands = [
        format!("ps -o pid,ppid,stat,comm -p {parent},{child}"),
        format!("kill -KILL {child};"),
        format!("ls -l /proc/{parent}/fd"),
    ];
    assert_has(&shown, &commands.each_ref().map(String::as_str));
    assert_stopped(parent);
    thread::sleep(Duration::from_secs(2)); // longer than the parent would have slept
    assert_eq!((state(parent), state(child)), (Some('T'), Some('Z')));

    terminal.types("\n");
    let shown = terminal.until_shown(STOPS);
    assert!(shown.contains("End parent process."), "{shown}");
    assert!(shown.contains("Snapshot 2: the parent has ended, too"));
    assert!(!shown.contains("stopped (T)"), "{shown}");
    terminal.types("\n");
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    assert!(terminal.screen.contains("All 3 claims held."));
}

/// The sleeps of parent and child end while both are stopped, so the child cannot be seen to live on as an
/// orphan. That says nothing about the claim.
#[test]
fn a_pause_that_is_longer_than_a_sleep_makes_no_verdict() {
    let mut terminal = Terminal::with(&["demo", "orphan", "--pause", "--speed", "20"]);
    terminal.until_shown(STOPS);
    thread::sleep(Duration::from_secs(7)); // longer than both
    terminal.types("\x04"); // the end of input: it pauses no more
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    assert_has(&terminal.screen, &["skipped \x1b[0m C29: paused for ", "try it without --pause"]);
}

#[test]
fn predictions_are_asked_for_and_counted() {
    let mut terminal = Terminal::with(&["demo", "zombie", "--predict", "--speed", "20"]);
    for (answer, verdict) in [
        ("s", "Right"),
        ("s", ": it has ended, and its parent, "),
        ("what?", "Please answer S, T, Z, - or q."), // once more
        ("z", ": it has ended and was reaped"),
        ("-", "Right"),
    ] {
        let shown = terminal.until_shown(ASKS);
        assert!(!shown.contains("<defunct>") || terminal.screen.contains("Right"));
        terminal.types(&format!("{answer}\n"));
        terminal.until_shown(verdict);
    }
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    assert!(terminal.screen.contains("You predicted 2 of 4 states."));
    assert!(!terminal.screen.contains(STOPS));
}

/// Before the first question, nothing on the screen may answer it.
#[test]
fn what_is_asked_has_not_been_shown() {
    let mut terminal = Terminal::with(&["demo", "zombie", "--predict", "--pause"]);
    let shown = terminal.until_shown(ASKS);
    let title = "the child has ended, its parent sleeps";
    for answer in ["(Z)", "STAT", title] {
        assert!(!shown.contains(answer), "{shown}");
    }
    terminal.types("s\nz\n");
    let shown = terminal.until_shown(STOPS);
    assert_has(&shown, &["<defunct>", title]);
    terminal.types("\x04"); // the end of input: it does not stop any more
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    assert!(terminal.screen.contains("You predicted 2 of 2 states."));
}

/// The first processes of this snapshot are three parents that live, and one of the others is a zombie.
#[test]
fn each_state_that_is_shown_is_asked_for() {
    let mut terminal = Terminal::with(&["demo", "late-handler", "--predict"]);
    let mut name = terminal.until_shown(ASKS);
    while !name.contains("\"childProcess\"") {
        terminal.types("s\n");
        name = terminal.until_shown(ASKS);
    }
    assert!(!name.contains("zombie of"), "its role is the answer: {name}");
    terminal.types("z\n");
    terminal.until_shown(" (zombie of");
    terminal.types("q\n");
    assert_eq!(terminal.until_ended().code(), Some(130));
}

#[test]
fn what_proc_says_does_not_answer_a_question() {
    if !nix::unistd::geteuid().is_root() {
        support::skip("the scenario is another user's");
        return;
    }
    let mut terminal = Terminal::with(&["demo", "resources", "--predict"]);
    let shown = terminal.until_shown(ASKS);
    assert!(shown.contains("Press Enter") && !shown.contains("/proc/"), "{shown}");
    terminal.types("q\n");
    assert_eq!(terminal.until_ended().code(), Some(130));
}

#[test]
fn without_a_terminal_there_is_no_practice() {
    for option in ["--pause", "--predict"] {
        let output = Run::new().output(&["demo", "zombie", option]);
        assert_one_sentence(&output, 77, &["need a terminal"]);
        assert!(text(&output.stderr).lines().count() == 1 && output.stdout.is_empty());
    }
}

#[test]
fn a_user_who_quits_leaves_nothing() {
    for option in ["--pause", "--predict"] {
        for (key, answer) in [("\x03", ""), ("q\n", "s\n")] {
            let mut terminal = Terminal::with(&["demo", "zombie", option]);
            let prompt = if option == "--pause" { STOPS } else { ASKS };
            terminal.until_shown(prompt);
            let has_answered = option == "--predict" && !answer.is_empty();
            if has_answered {
                terminal.types(answer);
                terminal.until_shown(prompt);
            }
            terminal.types(key);
            let code = terminal.until_ended().code();
            assert_eq!(code, Some(130), "{}", terminal.screen);
            let shown = "interrupted; 0 processes left";
            assert!(terminal.screen.contains(shown), "{}", terminal.screen);
            let score = "You predicted 1 of 1 states.";
            assert_eq!(terminal.screen.contains(score), has_answered);
        }
    }
}

/// A stopped process could not end by itself.
#[test]
fn killed_in_a_pause_it_leaves_nothing() {
    let mut terminal = Terminal::with(&["demo", "zombie", "--pause"]);
    terminal.until_shown(STOPS);
    let parent = terminal.process("zombie --parent-sleep 3\x1b[0m \x1b[2m(pid ");
    assert_stopped(parent);
    let xtask = terminal.run.processes_called("xtask")[0];
    kill(xtask, Signal::SIGKILL).unwrap();
    assert!(!terminal.until_ended().success());
}

#[test]
fn a_run_is_watched_as_a_tree() {
    let mut terminal = Terminal::with(&["watch", "zombie", "--speed", "20"]);
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    let parts = [
        ". A child ends while its parent sleeps",
        "└─ ",
        "zombie (Z) \"childProcess\" (child)", // in the tree
        ": adopted by ",
        "Over. 0 processes left.",
        "\x1b[2A", // drawn over
    ];
    assert_has(&terminal.screen, &parts);
}

#[test]
fn without_a_terminal_a_run_is_lines() {
    let shown = stdout(&Run::new().output(&["watch", "zombie", "--speed", "20"]), 0);
    assert!(!shown.contains('\x1b') && !shown.contains("└─"), "{shown}");
    let (_, child) = shown.split_once("My pid is: ").unwrap();
    let child = child.lines().next().unwrap();
    let of_child: Vec<&str> =
        shown.lines().filter(|line| line.contains(&format!("  {child} "))).collect();
    for part in [": started by ", "zombie (Z)", ": adopted by ", ": gone"] {
        let is_told = of_child.iter().any(|line| line.contains(part));
        assert!(is_told, "{part:?} is not in {of_child:#?}");
    }
    assert!(shown.ends_with("Over. 0 processes left.\n"), "{shown}");
}

#[test]
fn ctrl_c_while_one_watches_leaves_nothing() {
    let mut terminal = Terminal::with(&["watch", "zombie", "--real-time"]);
    terminal.until_shown("zombie (Z)");
    terminal.types("\x03");
    assert_eq!(terminal.until_ended().code(), Some(130), "{}", terminal.screen);
    assert!(terminal.screen.contains("interrupted; 0 processes left"));
}
