//! Takes snapshots of processes, reads what /proc says of one, and sends signals.

use std::io;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::model::bilingual::Text;
use crate::model::event::{Snapshot, What};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::{procfs, ps};
use crate::worker::{Worker, freeze};

impl Worker {
    /// Takes a snapshot of the processes of this run. A run that pauses does so here.
    pub(crate) fn snapshot(&mut self, title: Text) -> Result<(), Failure> {
        self.take(title, self.pauses)?;
        self.pause()
    }

    /// The same when this process is gone.
    pub(crate) fn snapshot_when_gone(
        &mut self,
        process: Process,
        title: Text,
    ) -> Result<(), Failure> {
        self.until_gone(process)?;
        self.snapshot(title)
    }

    /// The same where the run cannot pause: an alarm that comes meanwhile would change it.
    pub(crate) fn snapshot_in_passing(&mut self, title: Text) -> Result<(), Failure> {
        self.take(title, false)
    }

    fn take(&mut self, title: Text, frozen: bool) -> Result<(), Failure> {
        let began = Instant::now();
        self.observe()?;
        let mut snapshot = snapshot_of(&self.processes, title)?;
        snapshot.frozen = frozen;
        self.record_if_late(began);
        self.log.record(What::Snapshot(snapshot));
        Ok(())
    }

    /// Keeps the live processes stopped until the order to go on.
    fn pause(&mut self) -> Result<(), Failure> {
        if !self.pauses {
            return Ok(());
        }
        let orders_before = self.resumes;
        let began = Instant::now();
        let stopped = freeze::stop(&procfs::descendants(procfs::own_pid())?);
        while self.resumes == orders_before {
            self.tick()?; // somebody may kill one of them meanwhile, from another terminal
            self.wait_for_news();
        }
        freeze::resume(stopped);
        let paused = began.elapsed();
        self.deadline += paused;
        let seconds = paused.as_secs_f64();
        self.log.record(What::Resumed { seconds });
        Ok(())
    }

    /// Reads and returns what a link, a folder or a file in /proc says of a process; of a file, the lines
    /// that begin like one of these, or have it as a word. An error is recorded, and the text empty.
    pub(crate) fn read(&mut self, process: Process, place: &str, beginnings: &[&str]) -> String {
        let path = format!("/proc/{}/{place}", process.pid);
        let read = match self.state(process) {
            Some(_) => procfs::read(&path, beginnings),
            None => Err(Errno::ESRCH.into()),
        };
        let error = read.as_ref().err().map(ToString::to_string);
        let text = read.unwrap_or_default();
        self.log.record(What::Proc { process, path, text: text.clone(), error });
        text
    }

    /// Sends a signal to a process of this run.
    pub(crate) fn signal(&mut self, process: Process, signal: Signal) {
        // No descendant of ours can be replaced by a stranger here: either we reap it, or it is a
        // zombie that the scenario is about, whose parent does not reap it.
        let error = match procfs::look(process.pid) {
            Ok(Some(stat)) if stat.process == process => {
                kill(Pid::from_raw(process.pid), signal).err().map(|error| error.to_string())
            }
            Ok(_) => Some(Errno::ESRCH.to_string()),
            Err(error) => Some(error.to_string()), // it may be another by now
        };
        self.log.record(What::Signal { process, signal: signal.to_string(), error });
    }
}

/// Greater than the number of any process.
const NOBODY: i32 = i32::MAX;

/// Asks `ps` for these processes, but not by a number that is another's by now: its table has no start
/// times, which tell them apart. A number can become another's while `ps` runs; then we ask again.
fn snapshot_of(processes: &[Process], title: Text) -> io::Result<Snapshot> {
    let mut pids = own_numbers(processes)?;
    loop {
        let snapshot = ps::snapshot(title, pids)?;
        pids = own_numbers(processes)?;
        if pids == snapshot.pids {
            return Ok(snapshot);
        }
    }
}

/// The numbers of these processes, in which `NOBODY` replaces one that is another's by now.
fn own_numbers(processes: &[Process]) -> io::Result<Vec<i32>> {
    let number = |process: &Process| {
        let now = procfs::look(process.pid)?;
        let is_other = now.is_some_and(|now| now.process != *process);
        Ok(if is_other { NOBODY } else { process.pid })
    };
    processes.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bilingual::text;

    #[test]
    fn a_number_that_is_another_process_by_now_is_not_listed() {
        let own = procfs::stat(procfs::own_pid()).unwrap().process;
        let before = Process::new(own.pid, own.start_time - 1);
        let snapshot = snapshot_of(&[before], text("it is gone", "")).unwrap();
        assert!(ps::rows(&snapshot.text).is_empty() && snapshot.exit_code == Some(1));
        let snapshot = snapshot_of(&[before, own], text("it is gone", "")).unwrap();
        assert_eq!(snapshot.pids, [NOBODY, own.pid]);
        assert_eq!(ps::rows(&snapshot.text).len(), 1);
    }
}
