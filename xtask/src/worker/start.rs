//! Starts programs, and records what they write.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;

use crate::model::event::{Stream, What};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::procfs;
use crate::worker::thread::start_thread;
use crate::worker::{Worker, identify};

impl Worker {
    /// Starts the program of the scenario, or of its control.
    pub(crate) fn start(&mut self) -> Result<Process, Failure> {
        let (program, args) = (self.program.clone(), self.args.clone());
        self.start_program(&program, &args)
    }

    /// The same with one more argument, and with the write end of its stdin. What it writes to stdout
    /// is thrown away.
    pub(crate) fn start_fed(&mut self, last: &str) -> Result<(Process, ChildStdin), Failure> {
        let args = [&self.args[..], &[last.to_owned()]].concat();
        let program = self.program.clone();
        let mut command = self.command(&program, &args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        with_stdin(&program, self.spawn(&program, &args, command)?)
    }

    /// Starts the program that waits for Enter, with the write end of its stdin.
    pub(crate) fn start_with_stdin(&mut self) -> Result<(Process, ChildStdin), Failure> {
        let (program, args) = (self.program.clone(), self.args.clone());
        self.start_program_with_stdin(&program, &args)
    }

    /// The same for another program.
    pub(crate) fn start_program_with_stdin(
        &mut self,
        program: &str,
        args: &[String],
    ) -> Result<(Process, ChildStdin), Failure> {
        let mut command = self.command(program, args)?;
        command.stdin(Stdio::piped());
        with_stdin(program, self.spawn(program, args, command)?)
    }

    /// Starts another program.
    pub(crate) fn start_program(
        &mut self,
        program: &str,
        args: &[String],
    ) -> Result<Process, Failure> {
        let command = self.command(program, args)?;
        self.spawn(program, args, command)
            .map(|(process, _)| process)
    }

    /// Gives the programs a folder for their files, as TMPDIR: one in which a copy of a program can be
    /// run.
    pub(crate) fn give_folder(&mut self) -> Result<(), Failure> {
        let folder = env::temp_dir().join(format!("xtask-worker-{}", procfs::own_pid()));
        // For nobody else: what is in it is run.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        self.folder = made.is_ok().then_some(folder.clone());
        made.and_then(|()| run_copy_in(&folder)).map_err(|error| {
            Failure::Missing(format!(
                "no copy of a program can be run in {}: {error}; TMPDIR takes another folder",
                folder.display()
            ))
        })
    }

    fn command(&self, program: &str, args: &[String]) -> Result<Command, Failure> {
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
        Ok(command)
    }

    fn spawn(
        &mut self,
        program: &str,
        args: &[String],
        mut command: Command,
    ) -> Result<(Process, Option<ChildStdin>), Failure> {
        let mut child = command
            .spawn()
            .map_err(|error| Failure::Failed(format!("cannot start {program}: {error}")))?;
        let pid = child.id() as i32;
        // Only `reap` waits for it, so its entry is there, whatever it has done since.
        let process = identify(pid, procfs::look(pid)?);
        self.log.record(What::Start {
            process,
            command: shell_words(program, args),
        });
        if let Some(stdout) = child.stdout.take() {
            self.record_lines(process, stdout, Stream::Stdout)?;
        }
        if let Some(stderr) = child.stderr.take() {
            self.record_lines(process, stderr, Stream::Stderr)?;
        }
        Ok((process, child.stdin.take()))
    }

    fn record_lines(
        &mut self,
        program: Process,
        source: impl Read + Send + 'static,
        stream: Stream,
    ) -> io::Result<()> {
        let log = Arc::clone(&self.log);
        self.readers.push(start_thread(move || {
            let mut lines = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches('\n').to_owned();
                log.record(What::Line {
                    program,
                    stream,
                    text,
                });
                line.clear();
            }
        })?);
        Ok(())
    }
}

fn with_stdin(
    program: &str,
    (process, stdin): (Process, Option<ChildStdin>),
) -> Result<(Process, ChildStdin), Failure> {
    match stdin {
        Some(stdin) => Ok((process, stdin)),
        None => Err(Failure::Failed(format!("{program} has no stdin"))),
    }
}

/// Finds out about a full disk, or one from which nothing is executed, before the programs do. This
/// file is larger than what they copy.
fn run_copy_in(folder: &Path) -> io::Result<()> {
    let copy = folder.join("copy");
    fs::copy("/proc/self/exe", &copy)?;
    let ran = Command::new(&copy).arg("--version").output().map(drop);
    fs::remove_file(&copy)?;
    ran
}

/// Presses Enter for a program that waits for it. That fails if the program has ended, which the next
/// condition will notice.
pub(crate) fn press_enter(mut stdin: &ChildStdin) {
    let _ = stdin.write_all(b"\n");
}

/// As one would type it.
fn shell_words(program: &str, args: &[String]) -> String {
    let quoted = args.iter().map(|arg| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:*".contains(c);
        if arg.chars().all(plain) && !arg.is_empty() {
            arg.clone()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    });
    let words = [program.to_owned()].into_iter().chain(quoted);
    words.collect::<Vec<_>>().join(" ")
}
