//! Runs of xtask whose processes carry a mark, so that what is left of them can be found, and is ended
//! also when a test fails; and what the tests look at.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use test_support::{Stat, TempDir, wait_until_within};

pub(crate) const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Nobody's user and group, on every Linux.
pub(crate) const NOBODY: u32 = 65534;

/// Inherited by every process of the run.
const NAME: &str = "XTASK_TEST";

/// As the README says of a killed xtask.
const CLEARED_UP_WITHIN: Duration = Duration::from_secs(2);

/// A run of xtask whose processes carry a mark, which is the path of a folder of its own; in that are
/// the report and temporary files.
pub(crate) struct Run {
    folder: TempDir,
}

impl Run {
    pub(crate) fn new() -> Self {
        let run = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(run.temporary()).unwrap();
        for folder in [run.folder.path(), &run.temporary()] {
            // Nobody's, too; and what somebody has put there stays theirs.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).unwrap();
        }
        run
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.path("report")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    /// To start `program`, which carries the mark, and nothing that its user may have said about
    /// colours.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env(NAME, self.folder.path()).env("TMPDIR", self.temporary());
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// The same for a line of shell, with a terminal of its own.
    pub(crate) fn on_terminal(&self, line: &str) -> Command {
        let mut command = self.command("script");
        command
            .args(["--quiet", "--return", "--flush", "--command"])
            .args([line, "/dev/null"])
            .env("SHELL", "/bin/sh");
        command
    }

    /// Those that carry the mark, zombies aside: they have no environment any more.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        self.wanted_processes(|_| true)
    }

    /// Those of these with this name.
    pub(crate) fn processes_called(&self, name: &str) -> Vec<Pid> {
        self.wanted_processes(|stat| stat.name == name)
    }

    fn wanted_processes(&self, is_wanted: impl Fn(&Stat) -> bool) -> Vec<Pid> {
        let mark = format!("{NAME}={}", word(self.folder.path())).into_bytes();
        let carries_mark = |stat: &Stat| {
            fs::read(format!("/proc/{}/environ", stat.pid))
                .is_ok_and(|vars| vars.split(|byte| *byte == 0).any(|var| var == mark))
        };
        test_support::processes(|stat| is_wanted(stat) && carries_mark(stat))
    }

    #[track_caller]
    pub(crate) fn assert_no_process_is_left(&self) {
        let what = "no process is left";
        wait_until_within(CLEARED_UP_WITHIN, what, || self.processes(), Vec::is_empty);
    }

    /// Neither a process nor a temporary file.
    #[track_caller]
    pub(crate) fn assert_nothing_is_left(&self) {
        self.assert_no_process_is_left();
        let files: Vec<_> = fs::read_dir(self.temporary()).unwrap().collect();
        assert!(files.is_empty(), "left are {files:?}");
    }

    pub(crate) fn kill(&self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// A demo is reported to the folder of this run.
    pub(crate) fn xtask(&self, args: &[&str]) -> Command {
        let mut command = self.command(XTASK);
        command.args(args);
        if args[0] == "demo" && !args.contains(&"--recheck") {
            command.arg("--report").arg(self.report());
        }
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.xtask(args).output().unwrap()
    }

    /// A folder of all programs, with these scripts for a shell in the place of some of them.
    pub(crate) fn programs_with(&self, scripts: &[(&str, String)]) -> PathBuf {
        let folder = self.path("programs");
        fs::create_dir(&folder).unwrap();
        let is_replaced = |name: &str| scripts.iter().any(|(replaced, _)| *replaced == name);
        for entry in fs::read_dir(programs()).unwrap().flatten() {
            if !is_replaced(entry.file_name().to_str().unwrap()) {
                symlink(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        for (name, script) in scripts {
            put_script(&folder.join(name), script);
        }
        folder
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill();
    }
}

/// For a shell: the project may lie in a folder with spaces in its name.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A path as a word of a command line.
pub(crate) fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn put_script(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Where cargo has put all programs; in a folder within, the examples.
pub(crate) fn programs() -> &'static Path {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = Run::new().output(&["demo", "fork"]);
        stdout(&output, 0);
    });
    Path::new(XTASK).parent().unwrap()
}

/// Starts a demo, and waits until it prints the title of a snapshot: then the scenarios run. What it
/// prints later comes from the reader.
pub(crate) fn start_demo(command: &mut Command) -> (Child, BufReader<ChildStderr>, String) {
    start_until(command.stdout(Stdio::piped()), "ps: ")
}

/// Starts a program, and reads its stderr up to the line with this text.
pub(crate) fn start_until(
    command: &mut Command,
    text: &str,
) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut shown = String::new();
    while !shown.contains(text) {
        assert_ne!(stderr.read_line(&mut shown).unwrap(), 0, "{shown}");
    }
    (child, stderr, shown)
}

/// Not by `println!`, which is shown only if the test fails.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The values of this kind in NDJSON.
pub(crate) fn of_kind(ndjson: &[u8], kind: &str) -> Vec<Value> {
    let ndjson = text(ndjson);
    let values = ndjson.lines().map(|line| serde_json::from_str(line).unwrap());
    values.filter(|value: &Value| value["kind"] == kind).collect()
}

/// That `whole` has all of these parts.
#[track_caller]
pub(crate) fn assert_has(whole: &str, parts: &[&str]) {
    for part in parts {
        assert!(whole.contains(part), "{part:?} is not in {whole}");
    }
}

/// That it ended with this code. Returns what it printed on stdout.
#[track_caller]
pub(crate) fn stdout(output: &Output, code: i32) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    stdout
}

/// That it ended with this code, and one sentence with these parts.
#[track_caller]
pub(crate) fn assert_one_sentence(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let is_sentence = |line: &&str| line.starts_with("xtask: ");
    let sentences: Vec<_> = stderr.lines().filter(is_sentence).collect();
    assert_eq!(sentences.len(), 1, "{stderr}");
    assert_has(sentences[0], parts);
    assert!(!stderr.contains("panicked"), "{stderr}");
}
