//! What a learner has at a terminal: `demo --pause`, `demo --predict` and `watch`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
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
use test_support::{number, stat, state, wait_until_within};

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
        Self::of_reader("C", args)
    }

    fn of_reader(locale: &str, args: &[&str]) -> Self {
        let run = Run::new();
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = run.command("setsid"); // Ctrl-C goes to whose terminal it is
        command
            .args(["--ctty", "--wait", XTASK])
            .args(args)
            .env("TERM", "xterm")
            .env("LC_ALL", locale);
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
        let unseen = self.until_one_is_shown(&[text]);
        let (between, _) = unseen.split_once(text).unwrap();
        self.seen += between.len() + text.len();
        between.to_owned()
    }

    /// Waits until one of these is there. Returns what has not been looked at yet.
    #[track_caller]
    fn until_one_is_shown(&mut self, texts: &[&str]) -> String {
        let look = || {
            self.look();
            self.screen[self.seen..].to_owned()
        };
        let is_shown = |unseen: &String| texts.iter().any(|text| unseen.contains(text));
        wait_until_within(LIMIT, &format!("one of {texts:?} is on the screen"), look, is_shown)
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

    /// Waits for a question.
    #[track_caller]
    fn question(&mut self) -> Question {
        let shown = self.until_shown(ASKS);
        let shown = shown.replace("\x1b[1m", "").replace("\x1b[0m", "");
        let lines: Vec<&str> = shown.lines().collect();
        let is_choice = |line: &&str| line.starts_with("     A  ");
        let first = lines.iter().rposition(is_choice).unwrap();
        let choices = lines[first..].iter().filter_map(|line| line.trim().split_once("  "));
        let own = |(letter, text): (&str, &str)| (letter.to_owned(), text.to_owned());
        let asks = lines[first - 1].trim().to_owned();
        Question { asks, choices: choices.map(own).collect() }
    }

    /// Answers as /proc says, where all is as in the snapshot, but that live processes are stopped now.
    #[track_caller]
    fn answers_rightly(&mut self, question: &Question) {
        let Question { asks, choices } = question;
        let pid = asks.split(' ').find_map(|word| word.parse().ok()).map(Pid::from_raw);
        let right = match pid {
            // The programs have printed commands for these.
            None => {
                let look = |line: &str| {
                    Some(line.split_once(" look: ps ")?.1.split_once(" -p ")?.1.to_owned())
                };
                let pids: Vec<String> = self.screen.lines().filter_map(look).collect();
                let pids = pids.iter().flat_map(|pids| pids.trim().split(','));
                let zombies = pids.filter(|pid| state(number(pid, "")) == Some('Z'));
                zombies.count().to_string()
            }
            Some(pid) if asks.contains("PPID") => format!("{} ", stat(pid).unwrap().parent),
            Some(pid) => match state(pid) {
                None => "nothing: ",
                Some('Z') => "Z: ",
                Some(_) => "S or R: ",
            }
            .to_owned(),
        };
        let is_right =
            |text: &str| text == right || right.ends_with(' ') && text.starts_with(&right);
        let mut choices = choices.iter().filter(|(_, text)| is_right(text));
        let (letter, _) = choices.next().unwrap_or_else(|| panic!("no {right:?} in {question:?}"));
        self.types(&format!("{letter}\n"));
        self.until_shown(&format!("{letter}  Right: "));
    }

    /// The process that the screen names like this.
    fn process(&self, before: &str) -> Pid {
        let (_, rest) = self.screen.rsplit_once(before).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        number(&digits, "")
    }
}

#[derive(Debug)]
struct Question {
    asks: String,
    /// A letter, and what it stands for.
    choices: Vec<(String, String)>,
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
const ASKS: &str = "Your answer (q quits): ";

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

const SCORE: &str = " answers were right.";

/// Answers all questions of this scenario. Returns them, each on a line.
fn answer_all_rightly(scenario: &str) -> String {
    let mut all = String::new();
    let mut terminal = Terminal::with(&["demo", scenario, "--predict", "--speed", "20"]);
    let mut count = 0;
    while terminal.until_one_is_shown(&[ASKS, SCORE]).contains(ASKS) {
        let question = terminal.question();
        let words = format!("{question:?}");
        assert!(!words.contains("zombie of"), "its role is the answer: {words}");
        let differ: BTreeSet<_> = question.choices.iter().map(|(_, text)| text).collect();
        assert!(question.choices.len() >= 3 && differ.len() == question.choices.len());
        all += &format!("{scenario}: {}\n", question.asks);
        terminal.answers_rightly(&question);
        count += 1;
    }
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    assert_has(&terminal.screen, &[&format!("{count} of {count}{SCORE}")]);
    assert!(!terminal.screen.contains(STOPS));
    all
}

#[test]
fn what_proc_says_is_the_right_answer() {
    // Side by side, as they sleep most of the time.
    let all: String = thread::scope(|scope| {
        let scenarios = ["zombie", "orphan", "remove-zombie", "late-handler"];
        let answering = scenarios.map(|scenario| scope.spawn(|| answer_all_rightly(scenario)));
        answering.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let kinds = [
        "zombie: How many zombies does ps show?",
        "zombie: What does ps show for ",
        "remove-zombie: How many zombies does ps show?",
        "orphan: Which process is the parent (PPID) of ",
        "orphan: What does ps show for ",
    ];
    assert_has(&all, &kinds);
}

#[test]
fn each_answer_has_its_reason_in_both_languages() {
    let text = fs::read_to_string("src/view/question.md").unwrap();
    let sections: BTreeMap<&str, Vec<&str>> = text
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .map(|(name, lines)| (name, lines.trim().lines().collect()))
        .collect();
    for state in "STZ-".chars() {
        for name in "STZ-".chars().map(|answer| format!("{answer} for {state}")) {
            assert!(sections.contains_key(name.as_str()), "{name}");
        }
    }
    for (name, lines) in sections {
        let [english, chinese] = lines[..] else { panic!("{name}: {lines:?}") };
        let is_han = |c: char| ('\u{4e00}'..'\u{a000}').contains(&c);
        assert!(!english.contains(is_han) && chinese.contains(is_han), "{name}: {lines:?}");
        let places = |line: &str| -> BTreeSet<String> {
            let places = line.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
            places.map(str::to_owned).collect()
        };
        assert_eq!(places(english), places(chinese), "{name}");
    }
}

#[test]
fn a_wrong_answer_is_explained_with_the_claim_behind_it() {
    let mut terminal = Terminal::with(&["demo", "zombie", "--predict", "--speed", "20"]);
    terminal.question();
    terminal.types("what?\n");
    terminal.until_shown("Please answer with one of the letters, or q.");
    let question = terminal.question(); // once more
    assert_eq!(question.choices[0], ("A".to_owned(), "0".to_owned()), "{question:?}");
    terminal.types("a\n");
    let shown = terminal.until_shown("More: cargo xtask explain C24");
    let parts = [
        "A  No: each process that has ended and was not reaped keeps a row of its own.",
        "B  Right: that is how many have ended and were not reaped.",
        "C24: a process that has ended and is not reaped is a zombie.",
    ];
    assert_has(&shown, &parts);
    terminal.question();
    terminal.types("q\n");
    assert_eq!(terminal.until_ended().code(), Some(130));
    assert_has(&terminal.screen, &["0 of 1 answers were right."]);
}

#[test]
fn a_chinese_reader_is_asked_in_chinese() {
    let args = ["demo", "zombie", "--predict", "--speed", "20"];
    let mut terminal = Terminal::of_reader("zh_CN.UTF-8", &args);
    let prompt = "你的答案（q 退出）： ";
    assert_has(&terminal.until_shown(prompt), &["快照 1", "ps 显示几个僵尸进程？"]);
    terminal.types("a\n");
    assert_has(&terminal.until_shown(prompt), &["不对：", "cargo xtask explain C24"]);
    terminal.types("q\n");
    assert_eq!(terminal.until_ended().code(), Some(130));
    assert_has(&terminal.screen, &["1 题答对 0 题。"]);
}

/// Before the first question, nothing on the screen may answer it.
#[test]
fn what_is_asked_has_not_been_shown() {
    let mut terminal = Terminal::with(&["demo", "zombie", "--predict", "--pause"]);
    let mut question = terminal.question();
    let title = "the child has ended, its parent sleeps";
    for answer in ["(Z)", "STAT", title] {
        assert!(!terminal.screen.contains(answer), "{}", terminal.screen);
    }
    terminal.answers_rightly(&question);
    while terminal.until_one_is_shown(&[ASKS, STOPS]).contains(ASKS) {
        assert!(!terminal.screen.contains("STAT"), "{}", terminal.screen);
        question = terminal.question();
        terminal.answers_rightly(&question);
    }
    let shown = terminal.until_shown(STOPS);
    assert_has(&shown, &["<defunct>", title]);
    terminal.types("\x04"); // the end of input: it does not stop any more
    assert!(terminal.until_ended().success(), "{}", terminal.screen);
    assert_has(&terminal.screen, &["3 of 3 answers were right."]);
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
        for (key, answers) in [("\x03", false), ("q\n", true)] {
            let mut terminal = Terminal::with(&["demo", "zombie", option]);
            let has_answered = option == "--predict" && answers;
            if has_answered {
                let question = terminal.question();
                terminal.answers_rightly(&question);
            }
            terminal.until_shown(if option == "--pause" { STOPS } else { ASKS });
            terminal.types(key);
            let code = terminal.until_ended().code();
            assert_eq!(code, Some(130), "{}", terminal.screen);
            let shown = "interrupted; 0 processes left";
            assert!(terminal.screen.contains(shown), "{}", terminal.screen);
            let score = "1 of 1 answers were right.";
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
