//! Queries over the events of one run.

use crate::model::event::{Event, SKIPPED, Stream, What};
use crate::model::process::Process;
use crate::probe::ps::{self, Row};

/// Whether a claim held, or why not.
pub(crate) type Check = Result<(), String>;

/// The events of one run.
pub(crate) struct Evidence<'a>(pub(crate) &'a [Event]);

impl Evidence<'_> {
    /// The first program that was started.
    pub(crate) fn parent(&self) -> Result<Process, String> {
        let start = self.0.iter().find_map(|event| match event.what {
            What::Start { process, .. } => Some(process),
            _ => None,
        });
        start.ok_or_else(|| "no program was started".to_owned())
    }

    pub(crate) fn role(&self, name: &str) -> Result<Process, String> {
        let found = self.0.iter().find_map(|event| match &event.what {
            What::Found { process, role } if role == name => Some(*process),
            _ => None,
        });
        found.ok_or_else(|| format!("the {name} was not found"))
    }

    pub(crate) fn adopter(&self) -> Result<i32, String> {
        let adopter = self.0.iter().find_map(|event| match event.what {
            What::Worker { process } => Some(process.pid),
            _ => None,
        });
        adopter.ok_or_else(|| "the run has not begun".to_owned())
    }

    /// The lines on stdout, in order.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.lines_of(Stream::Stdout)
    }

    pub(crate) fn lines_of(&self, wanted: Stream) -> Vec<&str> {
        let lines = self.0.iter().filter_map(|event| match &event.what {
            What::Line { stream, text, .. } if *stream == wanted => Some(text.as_str()),
            _ => None,
        });
        lines.collect()
    }

    fn snapshot(&self, wanted: &str) -> Result<(&str, Option<i32>), String> {
        let snapshot = self.0.iter().find_map(|event| match &event.what {
            What::Snapshot {
                title,
                text,
                exit_code,
                ..
            } if title == wanted => Some((text.as_str(), *exit_code)),
            _ => None,
        });
        snapshot.ok_or_else(|| {
            let reason = self.interruption().unwrap_or_default();
            format!("there is no snapshot when {wanted:?}{reason}")
        })
    }

    pub(crate) fn rows(&self, title: &str) -> Result<Vec<Row>, String> {
        Ok(ps::rows(self.snapshot(title)?.0))
    }

    /// The row of a process in that snapshot.
    pub(crate) fn row(&self, title: &str, process: Process) -> Result<Row, String> {
        let row = ps::row(self.snapshot(title)?.0, process.pid);
        row.ok_or_else(|| format!("ps did not list process {} when {title}", process.pid))
    }

    /// Checks that `ps` did not list the process.
    pub(crate) fn not_listed(&self, title: &str, process: Process) -> Check {
        let row = ps::row(self.snapshot(title)?.0, process.pid);
        let listed = |row: Row| format!("process {} was still {} when {title}", row.pid, row.stat);
        row.map_or(Ok(()), |row| Err(listed(row)))
    }

    /// The proof of "gone": nothing listed, and 1 as the exit code of `ps`.
    pub(crate) fn nothing_listed(&self, title: &str) -> Check {
        let (text, exit_code) = self.snapshot(title)?;
        check(ps::rows(text).is_empty() && exit_code == Some(1), || {
            format!("ps still listed something when {title}")
        })
    }

    /// Why the run ended early.
    fn interruption(&self) -> Option<String> {
        self.0.iter().find_map(|event| match &event.what {
            What::Missed { condition } => Some(format!(": it never came true that {condition}")),
            What::Failed { why } => Some(format!(": {why}")),
            _ => None,
        })
    }

    /// Why this run proves nothing, if the worker failed, or ended too early.
    pub(crate) fn broke_down(&self) -> Option<String> {
        let failed = self.0.iter().find_map(|event| match &event.what {
            What::Failed { why } => Some(why.clone()),
            _ => None,
        });
        let ended = matches!(
            self.0.last(),
            Some(Event {
                what: What::End { .. },
                ..
            })
        );
        failed.or_else(|| (!ended).then(|| "the run broke off".to_owned()))
    }

    /// Why the run could not take place, if the worker or a program has found that this machine lacks
    /// what the run requires.
    pub(crate) fn skipped(&self) -> Option<String> {
        let by_worker = self.0.iter().find_map(|event| match &event.what {
            What::Skipped { why } => Some(why.clone()),
            _ => None,
        });
        by_worker.or_else(|| self.skipped_by_program())
    }

    fn skipped_by_program(&self) -> Option<String> {
        let is_so =
            |event: &Event| matches!(&event.what, What::Reaped { status, .. } if status == SKIPPED);
        let reason = self.lines_of(Stream::Stderr).last().copied();
        self.0
            .iter()
            .any(is_so)
            .then(|| reason.unwrap_or("no reason was given").to_owned())
    }

    /// What was read of a process in this place of /proc, each time; the error, if that failed.
    pub(crate) fn readings(&self, of: Process, place: &str) -> Vec<Result<&str, &str>> {
        let wanted = format!("/proc/{}/{place}", of.pid);
        let readings = self.0.iter().filter_map(|event| match &event.what {
            What::Proc {
                process,
                path,
                text,
                error,
            } if *process == of && *path == wanted => {
                Some(error.as_deref().map_or(Ok(text.as_str()), Err))
            }
            _ => None,
        });
        readings.collect()
    }

    /// What was first read of a process in this place of /proc.
    pub(crate) fn reading(&self, of: Process, place: &str) -> Result<&str, String> {
        let path = format!("/proc/{}/{place}", of.pid);
        match self.readings(of, place).first() {
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) => Err(format!("{path} cannot be read: {error}")),
            None => {
                let reason = self.interruption().unwrap_or_default();
                Err(format!("{path} was not read{reason}"))
            }
        }
    }

    /// What a line on stdout says that begins like this.
    pub(crate) fn line(&self, beginning: &str) -> Result<&str, String> {
        let lines = self.lines();
        let mut rests = lines.iter().filter_map(|line| line.strip_prefix(beginning));
        rests
            .next()
            .ok_or_else(|| format!("no line {beginning:?} was printed"))
    }

    /// The status that the worker, as parent or adopter, got for this process.
    pub(crate) fn reaped(&self, process: Process) -> Result<&str, String> {
        let status = self.0.iter().find_map(|event| match &event.what {
            What::Reaped {
                process: reaped,
                status,
            } if reaped.pid == process.pid => Some(status.as_str()),
            _ => None,
        });
        status.ok_or_else(|| format!("process {} was never reaped by its adopter", process.pid))
    }

    /// Checks that the call that sent the signal succeeded.
    pub(crate) fn signal_was_accepted(&self, to: Process) -> Check {
        let error = self.0.iter().find_map(|event| match &event.what {
            What::Signal { process, error, .. } if *process == to => Some(error),
            _ => None,
        });
        match error {
            Some(None) => Ok(()),
            Some(Some(error)) => Err(format!("the call that sent the signal failed: {error}")),
            None => Err("no signal was sent".to_owned()),
        }
    }

    /// How many clients saw this.
    pub(crate) fn clients_that_saw(&self, wanted: &str) -> usize {
        let saw = |event: &&Event| matches!(&event.what, What::Client { saw, .. } if saw == wanted);
        self.0.iter().filter(saw).count()
    }

    /// Checks that the lines, with the number of a process replaced by N, are these, in this order.
    pub(crate) fn lines_are(&self, expected: &[&str]) -> Check {
        let lines: Vec<String> = self.lines().into_iter().map(without_pid).collect();
        check(lines == expected, || {
            format!("printed {lines:?}, not {expected:?}")
        })
    }
}

fn without_pid(line: &str) -> String {
    match line.split_once(": ") {
        Some((text, pid)) if pid.parse::<i32>().is_ok() => format!("{text}: N"),
        _ => line.to_owned(),
    }
}

pub(crate) fn check(holds: bool, why_not: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(why_not()) }
}
