//! What several scenarios do.

use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::worker::Worker;

/// The title of a snapshot after the end.
pub(super) const ENDED: &str = "all have ended";
pub(super) const BOTH_ENDED: &str = "both have ended";

impl Worker {
    /// Starts the program of the scenario, and finds the child that it starts at once.
    pub(super) fn start_with_child(&mut self) -> Result<(Process, Process), Failure> {
        Ok((self.start()?, self.child()?))
    }

    /// Runs the program of the scenario, and takes a snapshot when it is gone.
    pub(super) fn run_to_end(&mut self, title: &str) -> Result<(), Failure> {
        let program = self.start()?;
        self.snapshot_when_gone(program, title)
    }

    /// Lets a program go on that waits for Enter, and takes a snapshot when it is gone.
    pub(super) fn finish(&mut self, program: Process, title: &str) -> Result<(), Failure> {
        self.press_enter(program);
        self.snapshot_when_gone(program, title)
    }

    /// Waits until the parent has printed its last line, and is gone.
    pub(super) fn until_parent_ends(&mut self, parent: Process) -> Result<(), Failure> {
        self.line("End parent process.")?;
        self.until_gone(parent)
    }

    /// Reads all of several places in /proc, such as `exe`, of each of these.
    pub(super) fn read_all(&mut self, processes: &[Process], places: &[&str]) {
        for process in processes {
            for place in places {
                self.read(*process, place, &[""]);
            }
        }
    }
}
