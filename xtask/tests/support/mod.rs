//! Runs of xtask whose processes carry a mark, so that what is left of them can be found, and is ended
//! also when a test fails; and what the tests look at.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub(crate) const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Nobody's user and group, on every Linux.
pub(crate) const NOBODY: u32 = 65534;

/// Inherited by every process of the run.
const NAME: &str = "XTASK_TEST";

/// As the README says of a killed xtask.
const CLEARED_UP_WITHIN: Duration = Duration::from_secs(2);

/// A temporary folder that is removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xtask-test-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap(); // nobody else's, who could put programs there
        Self(folder)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The mark, which is the path of a folder of its own.
pub(crate) struct Marked {
    pub(crate) folder: Folder,
}

impl Marked {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        Self { folder }
    }

    /// To start `program`, which carries the mark, and nothing that its user may have said about
    /// colours.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env(NAME, self.folder.path());
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
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
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = format!("{NAME}={}", self.folder.path()).into_bytes();
        let is_marked = |pid: &i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|vars| vars.split(|byte| *byte == 0).any(|var| var == mark))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_marked).collect()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_is_left(&self) {
        let deadline = Instant::now() + CLEARED_UP_WITHIN;
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "left are {:?}", self.processes());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&self) {
        for pid in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[track_caller]
pub(crate) fn until(condition: &str, limit: Duration, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {condition}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// For a shell: the project may lie in a folder with spaces in its name.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A run of xtask with a mark, and folders of its own for the report and for temporary files.
pub(crate) struct Run {
    pub(crate) marked: Marked,
}

impl Run {
    pub(crate) fn new() -> Self {
        let marked = Marked::new();
        let run = Self { marked };
        fs::create_dir(run.temporary()).unwrap();
        for folder in [&*run.marked.folder, &run.temporary()] {
            // Nobody's, too; and what somebody has put there stays theirs.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).unwrap();
        }
        run
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.marked.folder.join("report")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.marked.folder.join("tmp")
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.marked.command(program);
        command.env("TMPDIR", self.temporary()).stdin(Stdio::null());
        command
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
        let folder = self.marked.folder.join("programs");
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

    /// Neither a process nor a temporary file.
    #[track_caller]
    pub(crate) fn assert_nothing_is_left(&self) {
        self.marked.assert_nothing_is_left();
        let files: Vec<_> = fs::read_dir(self.temporary()).unwrap().collect();
        assert!(files.is_empty(), "left are {files:?}");
    }
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
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    });
    Path::new(XTASK).parent().unwrap()
}

/// Starts a demo, and waits until it prints the title of a snapshot: then the scenarios run. What it
/// prints later comes from the reader.
pub(crate) fn start_demo(command: &mut Command) -> (Child, BufReader<ChildStderr>, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("ps: ") {
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
