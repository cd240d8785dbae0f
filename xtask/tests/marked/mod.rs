//! A run whose processes carry a mark, so that what is left of it can be found, and is ended also
//! when a test fails.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use test_support::wait_until_within;

/// Inherited by every process of the run.
const NAME: &str = "XTASK_TEST";

/// As the README says of a killed xtask.
const CLEARED_UP_WITHIN: Duration = Duration::from_secs(2);

/// The mark, and a folder of its own.
pub(crate) struct Marked {
    mark: String,
    /// Removed when the processes have been killed.
    #[allow(dead_code, reason = "soak writes no files")]
    pub(crate) folder: TempDir,
}

impl Marked {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let folder = TempDir::new().unwrap();
        Self { mark, folder }
    }

    /// To start `program`, which carries the mark, and nothing that its user may have said about
    /// colours.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env(NAME, &self.mark);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    /// The same for a line of shell, with a terminal of its own.
    #[allow(
        dead_code,
        reason = "not all take a terminal, and practice keeps its own"
    )]
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
        let mark = format!("{NAME}={}", self.mark).into_bytes();
        let is_marked = |pid: &i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|vars| vars.split(|byte| *byte == 0).any(|var| var == mark))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_marked).collect()
    }

    #[allow(dead_code, reason = "bench has other limits")]
    #[track_caller]
    pub(crate) fn assert_nothing_is_left(&self) {
        wait_until_within(
            CLEARED_UP_WITHIN,
            "no process is left",
            || self.processes(),
            Vec::is_empty,
        );
    }

    pub(crate) fn kill(&self) {
        for pid in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// For a shell: the project may lie in a folder with spaces in its name.
#[allow(dead_code, reason = "only some have a shell in between")]
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.kill();
    }
}
