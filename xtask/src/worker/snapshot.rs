//! Takes snapshots of processes, reads what /proc says of one, and sends signals.

use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::model::event::What;
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::{procfs, ps};
use crate::worker::Worker;
use crate::worker::freeze::Freeze;
use crate::worker::wait::TICK;

impl Worker {
    /// Takes a snapshot of these processes. A run that pauses does so here.
    pub(crate) fn snapshot(&mut self, title: &str, processes: &[Process]) -> Result<(), Failure> {
        self.take(title, processes, self.pauses.is_some())?;
        self.pause()
    }

    /// The same where the run cannot pause: an alarm that comes meanwhile would change it.
    pub(crate) fn snapshot_in_passing(
        &mut self,
        title: &str,
        processes: &[Process],
    ) -> Result<(), Failure> {
        self.take(title, processes, false)
    }

    fn take(&mut self, title: &str, processes: &[Process], frozen: bool) -> Result<(), Failure> {
        let pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
        self.observe()?;
        let ps::Snapshot {
            command,
            text,
            exit_code,
        } = ps::snapshot(&pids)?;
        self.log.record(What::Snapshot {
            title: title.to_owned(),
            pids,
            frozen,
            command,
            text,
            exit_code,
        });
        Ok(())
    }

    /// Keeps the live processes stopped until the run is told to go on.
    fn pause(&mut self) -> Result<(), Failure> {
        let Some(pauses) = &mut self.pauses else {
            return Ok(());
        };
        *pauses += 1;
        let pauses = *pauses;
        let began = Instant::now();
        let freeze = Freeze::begin(&procfs::descendants(procfs::own_pid())?);
        while self.log.resumes() < pauses {
            self.tick()?; // somebody may kill one of them meanwhile, from another terminal
            thread::sleep(TICK);
        }
        freeze.end();
        self.deadline += began.elapsed();
        Ok(())
    }

    /// Reads what a link, a folder or a file in /proc says of a process; of a file, the lines that
    /// begin like one of these.
    pub(crate) fn read(&mut self, process: Process, place: &str, beginnings: &[&str]) {
        let path = format!("/proc/{}/{place}", process.pid);
        let read = match self.state(process) {
            Some(_) => procfs::read(&path, beginnings),
            None => Err(Errno::ESRCH.into()),
        };
        let error = read.as_ref().err().map(ToString::to_string);
        self.log.record(What::Proc {
            process,
            path,
            text: read.unwrap_or_default(),
            error,
        });
    }

    /// Sends a signal to a process of this run.
    pub(crate) fn signal(&mut self, process: Process, signal: Signal) {
        // No descendant of ours can be replaced by a stranger here: either we reap it, or it is a
        // zombie that the scenario is about, whose parent does not reap it.
        let error = match procfs::look(process.pid) {
            Ok(Some(stat)) if stat.process == process => kill(Pid::from_raw(process.pid), signal)
                .err()
                .map(|error| error.to_string()),
            Ok(_) => Some(Errno::ESRCH.to_string()),
            Err(error) => Some(error.to_string()), // it may be another by now
        };
        self.log.record(What::Signal {
            process,
            signal: signal.to_string(),
            error,
        });
    }
}
