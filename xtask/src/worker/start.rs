//! Starts programs.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use crate::model::event::{Stream, What};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::procfs;
use crate::worker::pipe::Pipe;
use crate::worker::{Worker, identify};

impl Worker {
    /// Starts the program of the scenario, or of its control.
    pub(crate) fn start(&mut self) -> Result<Process, Failure> {
        self.spawn(self.clock.words(&self.command), |_| {})
    }

    /// The same for a program that waits for Enter: see [`Worker::press_enter`].
    pub(crate) fn start_with_stdin(&mut self) -> Result<Process, Failure> {
        self.start_program_with_stdin(&self.command.clone())
    }

    /// Starts another program.
    pub(crate) fn start_program(&mut self, line: &str) -> Result<Process, Failure> {
        self.spawn(self.clock.words(line), |_| {})
    }

    pub(crate) fn start_program_with_stdin(&mut self, line: &str) -> Result<Process, Failure> {
        self.spawn(self.clock.words(line), |command| {
            command.stdin(Stdio::piped());
        })
    }

    /// Starts the program of the scenario with one more argument, to be fed through its stdin. What it
    /// writes to stdout is thrown away.
    pub(crate) fn start_fed(&mut self, last: &str) -> Result<Process, Failure> {
        let mut words = self.clock.words(&self.command);
        words.push(last.to_owned());
        self.spawn(words, |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::null());
        })
    }

    /// Presses Enter for a program that waits for it. That fails if the program has ended, which the
    /// next condition will notice.
    pub(crate) fn press_enter(&mut self, process: Process) {
        if let Some(stdin) = self.stdins.get_mut(&process.pid) {
            let _ = stdin.write_all(b"\n");
        }
    }

    /// The write end of the program's stdin. Dropped, it ends the input.
    pub(crate) fn take_stdin(&mut self, process: Process) -> Option<ChildStdin> {
        self.stdins.remove(&process.pid)
    }

    pub(crate) fn put_stdin(&mut self, process: Process, stdin: ChildStdin) {
        self.stdins.insert(process.pid, stdin);
    }

    /// Gives the programs a folder for their files, as TMPDIR: one in which a copy of a program can be
    /// run.
    pub(crate) fn give_folder(&mut self) -> Result<(), Failure> {
        let folder = env::temp_dir().join(format!("xtask-worker-{}", procfs::own_pid()));
        // Closed to others, as programs in it are run.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        self.folder = made.is_ok().then_some(folder.clone());
        made.and_then(|()| run_copy_in(&folder)).map_err(|error| {
            Failure::Missing(format!(
                "no copy of a program can be run in {}: {error}; TMPDIR takes another folder",
                folder.display()
            ))
        })
    }

    fn spawn(
        &mut self,
        words: Vec<String>,
        adapt: impl FnOnce(&mut Command),
    ) -> Result<Process, Failure> {
        let (program, args) = words.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
        let path = self.programs.get(program);
        let path = path.ok_or_else(|| Failure::Failed(format!("there is no program {program}")))?;
        let mut command = Command::new(path);
        command
            .arg0(program) // not the path, which would fill the snapshot
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0); // a job of its own, as from a shell
        if let Some(folder) = &self.folder {
            command.env("TMPDIR", folder);
        }
        adapt(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| Failure::Failed(format!("cannot start {program}: {error}")))?;
        let pid = child.id() as i32;
        // Only `reap` waits for it, so its entry is there, whatever it has done since.
        let process = identify(pid, procfs::look(pid)?);
        self.add(process);
        let command = shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default();
        self.log.record(What::Start { process, command });
        if let Some(stdout) = child.stdout.take() {
            self.pipes.push((process, Stream::Stdout, Pipe::new(stdout.into())?));
        }
        if let Some(stderr) = child.stderr.take() {
            self.pipes.push((process, Stream::Stderr, Pipe::new(stderr.into())?));
        }
        if let Some(stdin) = child.stdin.take() {
            self.stdins.insert(pid, stdin);
        }
        Ok(process)
    }
}

/// Runs a copy of ourselves, to find a full disk, or one from which nothing is executed, before the
/// programs do. We are larger than what they copy.
fn run_copy_in(folder: &Path) -> io::Result<()> {
    let copy = folder.join("copy");
    fs::copy("/proc/self/exe", &copy)?;
    let ran = Command::new(&copy).arg("--version").output().map(drop);
    fs::remove_file(&copy)?;
    ran
}
