//! Steps that several scenarios share.

use std::time::Duration;

use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::worker::Worker;

/// The title of a snapshot after the end.
pub(crate) const ENDED: Text = text("all have ended", "全部已结束");
pub(crate) const BOTH_ENDED: Text = text("both have ended", "两者都已结束");

/// Long enough for a process to act, if it acts at all; also on a busy machine.
const MOMENT: Duration = Duration::from_secs(1);

impl Worker {
    /// Starts the program of the scenario, and finds the child that it starts at once.
    pub(crate) fn start_with_child(&mut self) -> Result<(Process, Process), Failure> {
        Ok((self.start()?, self.child()?))
    }

    /// Runs the program of the scenario, and takes a snapshot when it is gone.
    pub(crate) fn run_to_end(&mut self, title: Text) -> Result<(), Failure> {
        let program = self.start()?;
        self.snapshot_when_gone(program, title)
    }

    /// Lets a program go on that waits for Enter, and takes a snapshot when it is gone.
    pub(crate) fn finish(&mut self, program: Process, title: Text) -> Result<(), Failure> {
        self.press_enter(program);
        self.snapshot_when_gone(program, title)
    }

    /// Waits until the parent has printed its last line, and is gone.
    pub(crate) fn until_parent_ends(&mut self, parent: Process) -> Result<(), Failure> {
        self.line("End parent process.")?;
        self.until_gone(parent)
    }

    pub(crate) fn until_all_gone(&mut self, processes: &[Process]) -> Result<(), Failure> {
        processes.iter().try_for_each(|process| self.until_gone(*process))
    }

    /// Gives processes a moment in which `is_true` can come true. Where it does not, the run shows that.
    pub(crate) fn give_a_moment(
        &mut self,
        is_true: impl FnMut(&mut Worker) -> bool,
    ) -> Result<(), Failure> {
        self.give_time(MOMENT, is_true)
    }

    /// Reads all of several places in /proc, such as `exe`, of each of these.
    pub(crate) fn read_all(&mut self, processes: &[Process], places: &[&str]) {
        for process in processes {
            for place in places {
                self.read(*process, place, &[""]);
            }
        }
    }

    /// Reads the table of descriptors of each of these, and of a socket what net/tcp says of it.
    pub(crate) fn read_descriptors(&mut self, processes: &[Process]) {
        for process in processes {
            for number in self.read(*process, "fd", &[]).split_ascii_whitespace() {
                let target = self.read(*process, &format!("fd/{number}"), &[]);
                if let Some(inode) = target.strip_prefix("socket:[") {
                    self.read(*process, "net/tcp", &[inode.trim_end_matches(']')]);
                }
            }
        }
    }
}
