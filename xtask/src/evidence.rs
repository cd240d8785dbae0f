//! Queries over the events of one run, and expectations that say what they have found instead.

use std::collections::BTreeSet;

use crate::model::bilingual::Text;
use crate::model::event::{self, Event, SKIPPED, Stream, What};
use crate::model::process::{Process, Stat, State};
use crate::probe::ps::{self, Row};

/// Whether a claim held, or why not.
pub(crate) type Check = Result<(), String>;

/// The `Check` of a condition, and what to say if it is false, as for `format!`.
macro_rules! check {
    ($holds:expr, $($why_not:tt)+) => {
        if $holds { Ok(()) } else { Err(format!($($why_not)+)) }
    };
}

pub(crate) use check;

/// What was read in /proc, or the error.
type Reading<'a> = Result<&'a str, &'a str>;

/// Names for the program that was started first, besides the role it may have been given.
const FIRST: [&str; 3] = ["parent", "program", "server"];

/// The events of one run.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a>(pub(crate) &'a [Event]);

/// Iterates over what is in the events that match.
macro_rules! matching {
    ($evidence:expr, $what:pat $(if $is_wanted:expr)? => $value:expr) => {
        $evidence.0.iter().filter_map(|event| match &event.what {
            $what $(if $is_wanted)? => Some($value),
            _ => None,
        })
    };
}

impl<'a> Evidence<'a> {
    /// The process with this role.
    pub(crate) fn process(self, who: &str) -> Result<Process, String> {
        let found =
            matching!(self, What::Found { process, role } if role == who => *process).next();
        let mut started =
            matching!(self, What::Start { process, .. } if FIRST.contains(&who) => *process);
        found
            .or_else(|| started.next())
            .ok_or_else(|| format!("the {who} was not found{}", self.interruption()))
    }

    /// The worker, which adopts orphans.
    fn adopter(self) -> Result<i32, String> {
        let adopter = matching!(self, What::Worker { process } => process.pid).next();
        adopter.ok_or_else(|| "the run has not begun".to_owned())
    }

    /// The lines on stdout, in order.
    pub(crate) fn lines(self) -> Vec<&'a str> {
        self.lines_of(Stream::Stdout)
    }

    pub(crate) fn lines_of(self, wanted: Stream) -> Vec<&'a str> {
        matching!(self, What::Line { stream, text, .. } if *stream == wanted => text.as_str())
            .collect()
    }

    /// The lines on stdout that begin like this, without the beginning.
    pub(crate) fn lines_with(self, beginning: &str) -> Vec<&'a str> {
        let lines = self.lines().into_iter();
        lines.filter_map(|line| line.strip_prefix(beginning)).collect()
    }

    /// The first of these.
    pub(crate) fn line(self, beginning: &str) -> Result<&'a str, String> {
        let first = self.lines_with(beginning).first().copied();
        first.ok_or_else(|| format!("no line {beginning:?} was printed"))
    }

    /// The number at the end of that line.
    pub(crate) fn number(self, beginning: &str) -> Result<usize, String> {
        let end = self.line(beginning)?;
        end.parse().map_err(|_| format!("{beginning}{end} does not end with a number"))
    }

    /// Checks that the first line that begins like this ends with `expected`.
    pub(crate) fn prints(self, beginning: &str, expected: &str) -> Check {
        let line = self.line(beginning)?;
        check!(line == expected, "{beginning}{line}, instead of {expected}")
    }

    /// Checks that these are the ends of all lines that begin like this, in this order.
    pub(crate) fn prints_each(self, beginning: &str, expected: &[&str]) -> Check {
        let ends = self.lines_with(beginning);
        check!(ends == expected, "{beginning}{ends:?}, instead of {expected:?}")
    }

    /// Checks that the lines, with the number of a process replaced by N, are these, in this order.
    pub(crate) fn prints_only(self, expected: &[&str]) -> Check {
        let lines: Vec<String> = self.lines().into_iter().map(without_pid).collect();
        check!(lines == expected, "printed {lines:?}, not {expected:?}")
    }

    /// What was read of a process in this place of /proc, each time; the error, if that failed.
    pub(crate) fn readings(self, who: &str, place: &str) -> Result<Vec<Reading<'a>>, String> {
        let of = self.process(who)?;
        let wanted = format!("/proc/{}/{place}", of.pid);
        let readings = matching!(self, What::Proc { process, path, text, error }
            if *process == of && *path == wanted => error.as_deref().map_or(Ok(text.as_str()), Err));
        Ok(readings.collect())
    }

    /// The first of these.
    pub(crate) fn reading(self, who: &str, place: &str) -> Result<&'a str, String> {
        match self.readings(who, place)?.first() {
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) => Err(format!("{place} of the {who} cannot be read: {error}")),
            None => {
                let why = self.interruption();
                Err(format!("{place} of the {who} was not read{why}"))
            }
        }
    }

    /// Checks the first of these.
    pub(crate) fn reads(self, who: &str, place: &str, is_so: impl Fn(&str) -> bool) -> Check {
        let reading = self.reading(who, place)?;
        check!(is_so(reading), "{place} of the {who} was {reading:?}")
    }

    /// Checks that the same was read of `who` as of another process, in each of these places.
    pub(crate) fn reads_as(self, who: &str, other: &str, places: &[&str]) -> Check {
        places.iter().try_for_each(|place| {
            let expected = self.reading(other, place)?;
            let found = self.reading(who, place)?;
            check!(found == expected, "{place} was {expected} in the {other}, {found} in the {who}")
        })
    }

    /// Where the stack of a process began when it last changed; `None` if that was not to be read.
    pub(crate) fn stack(self, who: &str) -> Result<Option<u64>, String> {
        let of = self.process(who)?;
        let is_it = |raw: &Stat| raw.process == of && raw.stack != 0;
        Ok(matching!(self, What::State { raw } if is_it(raw) => raw.stack).next_back())
    }

    /// Checks that the worker, as parent or adopter, has waited for the process. Returns the status.
    pub(crate) fn reaped(self, who: &str) -> Result<&'a str, String> {
        let wanted = self.process(who)?;
        let unknown = Process::new(wanted.pid, 0); // it was gone before its start time was read
        let mut statuses = matching!(self, What::Reaped { process, status }
            if *process == wanted || wanted == unknown && process.pid == wanted.pid
                => status.as_str());
        let status = statuses.next();
        status.ok_or_else(|| format!("the {who} was never reaped by its adopter"))
    }

    /// Checks that the program, a child of the worker, has ended with exit status 0.
    pub(crate) fn succeeds(self, who: &str) -> Check {
        let status = self.reaped(who)?;
        check!(status == "exit status: 0", "the {who} ended with {status}")
    }

    /// Checks that the call that sent the signal succeeded.
    pub(crate) fn signal_accepted(self, who: &str) -> Check {
        let to = self.process(who)?;
        match matching!(self, What::Signal { process, error, .. } if *process == to => error).next()
        {
            Some(None) => Ok(()),
            Some(Some(error)) => Err(format!("the call that sent the signal failed: {error}")),
            None => Err("no signal was sent".to_owned()),
        }
    }

    /// Checks that so many clients saw this.
    pub(crate) fn clients_saw(self, expected: usize, wanted: &str) -> Check {
        let count = matching!(self, What::Client { saw, .. } if saw == wanted => ()).count();
        check!(count == expected, "{count} clients saw {wanted}, not {expected}")
    }

    /// What was recorded before this snapshot.
    pub(crate) fn before(self, title: Text) -> Self {
        let is_it =
            |event: &Event| matches!(&event.what, What::Snapshot(it) if it.title == title.en);
        Evidence(self.0.split(is_it).next().unwrap_or_default())
    }

    /// The snapshot with this title.
    pub(crate) fn at(self, title: Text) -> Snapshot<'a> {
        let evidence = self;
        Snapshot { evidence, title: title.en }
    }

    /// For how many seconds the process lived, up to its end or that of the run.
    pub(crate) fn lifetime(self, who: &str) -> Result<f64, String> {
        let process = self.process(who)?;
        let of_it = self.0.iter().filter(|event| event.what.process() == Some(process));
        let is_end = |event: &&Event| match &event.what {
            What::State { raw } => raw.is_zombie(),
            what => matches!(what, What::Gone { .. }),
        };
        let Some(begin) = of_it.clone().next() else {
            return Ok(0.0); // it was gone before anybody could look
        };
        let end = of_it.into_iter().find(is_end).or(self.0.last());
        Ok(end.map_or(0.0, |event| event.t - begin.t))
    }

    /// The condition that did not come true, if the run was given up for that.
    pub(crate) fn missed(self) -> Option<&'a str> {
        matching!(self, What::Missed { condition } => condition.as_str()).next()
    }

    /// Whether all processes had ended when the run was given up.
    pub(crate) fn nothing_lives(self) -> bool {
        let mut alive = BTreeSet::new();
        let is_missed = |event: &Event| matches!(event.what, What::Missed { .. });
        for event in self.0.split(is_missed).next().unwrap_or_default() {
            match &event.what {
                What::State { raw } if !raw.is_zombie() => drop(alive.insert(raw.process.pid)),
                What::State { raw: Stat { process, .. } } | What::Gone { process } => {
                    alive.remove(&process.pid);
                }
                _ => {}
            }
        }
        alive.is_empty()
    }

    /// Why the run ended early, if it did.
    fn interruption(self) -> String {
        let failed = || matching!(self, What::Failed { why } => format!(": {why}")).next();
        let missed =
            self.missed().map(|condition| format!(": it never came true that {condition}"));
        missed.or_else(failed).unwrap_or_default()
    }

    /// For how many seconds its processes were stopped in pauses, if they were.
    pub(crate) fn paused(self) -> Option<f64> {
        let pauses = matching!(self, What::Resumed { seconds } => *seconds);
        pauses.reduce(|one, other| one + other)
    }

    /// That a look came too late, if one did, and how the next run can be better. A run that broke down
    /// has a better reason.
    pub(crate) fn late(self) -> Option<String> {
        let mut late = matching!(self, What::Late { seconds, speed } => (*seconds, *speed));
        let (seconds, speed) = late.next_back().filter(|_| self.broke_down().is_none())?;
        let slower = ((speed * 8.0).floor() / 10.0).max(0.1);
        Some(format!("too slow at this speed: a look took {seconds:.1} s; try --speed {slower}"))
    }

    /// Why this run proves nothing, if the worker failed, or ended too early.
    pub(crate) fn broke_down(self) -> Option<String> {
        let failed = matching!(self, What::Failed { why } => why.clone()).next();
        let last = self.0.last().map(|event| &event.what);
        let ended = matches!(last, Some(What::End { .. }));
        failed.or_else(|| (!ended).then(|| "the run broke off".to_owned()))
    }

    /// Why the run could not take place, if the worker or a program has found that this machine lacks
    /// what the run requires.
    pub(crate) fn skipped(self) -> Option<String> {
        let by_worker = matching!(self, What::Skipped { why } => why.clone()).next();
        let by_program = || {
            matching!(self, What::Reaped { status, .. } if status == SKIPPED => ()).next()?;
            let reason = self.lines_of(Stream::Stderr).last().copied();
            Some(reason.unwrap_or("no reason was given").to_owned())
        };
        by_worker.or_else(by_program)
    }
}

/// A snapshot, to be checked. Each expectation returns it again, for the next one.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot<'a> {
    evidence: Evidence<'a>,
    title: &'a str,
}

/// The snapshot, if it is as expected; or why not.
type Expected<'a> = Result<Snapshot<'a>, String>;

impl<'a> Snapshot<'a> {
    fn table(self) -> Result<&'a event::Snapshot, String> {
        let mut tables =
            matching!(self.evidence, What::Snapshot(it) if it.title == self.title => it);
        tables.next().ok_or_else(|| {
            let why = self.evidence.interruption();
            format!("there is no snapshot when {}{why}", self.title)
        })
    }

    pub(crate) fn rows(self) -> Result<Vec<Row>, String> {
        Ok(ps::rows(&self.table()?.text))
    }

    pub(crate) fn row(self, who: &str) -> Result<Row, String> {
        let pid = self.evidence.process(who)?.pid;
        let row = self.rows()?.into_iter().find(|row| row.pid == pid);
        row.ok_or_else(|| format!("ps did not list the {who}, process {pid}, when {}", self.title))
    }

    /// Checks the row of a process; `what` is what it should be.
    pub(crate) fn is(self, who: &str, what: &str, is_so: impl Fn(&Row) -> bool) -> Expected<'a> {
        let row = self.row(who)?;
        let Row { pid, ppid, stat, wchan, rest } = &row;
        let shown = format!("{pid} {ppid} {stat} {wchan} {rest}");
        check!(is_so(&row), "the {who} was not {what} when {}: {shown}", self.title)?;
        Ok(self)
    }

    pub(crate) fn alive(self, who: &str) -> Expected<'a> {
        self.is(who, "alive", Row::is_alive)
    }

    pub(crate) fn zombie(self, who: &str) -> Expected<'a> {
        self.is(who, "a zombie", Row::is_zombie)
    }

    pub(crate) fn stopped(self, who: &str) -> Expected<'a> {
        self.is(who, "stopped", |row| row.state() == State::Stopped)
    }

    pub(crate) fn child_of(self, who: &str, parent: &str) -> Expected<'a> {
        let ppid = self.evidence.process(parent)?.pid;
        self.is(who, &format!("a child of the {parent}, process {ppid},"), |row| row.ppid == ppid)
    }

    pub(crate) fn live_child(self, who: &str, parent: &str) -> Expected<'a> {
        self.alive(who)?.child_of(who, parent)
    }

    pub(crate) fn adopted(self, who: &str) -> Expected<'a> {
        let ppid = self.evidence.adopter()?;
        self.is(who, "adopted by the scenario's own process", |row| row.ppid == ppid)
    }

    /// Checks the function of the kernel that the process sleeps in. A kernel that hides it shows `-`.
    pub(crate) fn sleeps_in(self, who: &str, part: &str) -> Expected<'a> {
        let is_so = |row: &Row| row.wchan == "-" || row.wchan.contains(part);
        self.is(who, &format!("sleeping in {part}"), is_so)
    }

    /// Checks a part of the name or the arguments.
    pub(crate) fn shows(self, who: &str, part: &str) -> Expected<'a> {
        self.is(who, &format!("shown as {part}"), |row| row.rest.contains(part))
    }

    /// Checks that `ps` did not list the process.
    pub(crate) fn gone(self, who: &str) -> Expected<'a> {
        let pid = self.evidence.process(who)?.pid;
        match self.rows()?.iter().find(|row| row.pid == pid) {
            None => Ok(self),
            Some(row) => Err(format!("the {who} was still {} when {}", row.stat, self.title)),
        }
    }

    /// Checks how many of the processes that are listed are so.
    pub(crate) fn count(
        self,
        expected: usize,
        what: &str,
        is_so: impl Fn(&Row) -> bool,
    ) -> Expected<'a> {
        let count = self.rows()?.iter().filter(|row| is_so(row)).count();
        check!(
            count == expected,
            "there were {count} {what}, not {expected}, when {}",
            self.title
        )?;
        Ok(self)
    }

    pub(crate) fn zombies(self, expected: usize) -> Expected<'a> {
        self.count(expected, "zombies", Row::is_zombie)
    }

    pub(crate) fn live_children(self, expected: usize, parent: &str) -> Expected<'a> {
        let ppid = self.evidence.process(parent)?.pid;
        let what = format!("live children of the {parent}");
        self.count(expected, &what, |row| row.ppid == ppid && row.is_alive())
    }

    /// Checks that no process was listed: the proof that all are gone, with exit code 1 of `ps`.
    pub(crate) fn nothing_listed(self) -> Check {
        let table = self.table()?;
        check!(
            self.rows()?.is_empty() && table.exit_code == Some(1),
            "ps still listed something when {}",
            self.title
        )
    }
}

fn without_pid(line: &str) -> String {
    match line.split_once(": ") {
        Some((text, pid)) if pid.parse::<i32>().is_ok() => format!("{text}: N"),
        _ => line.to_owned(),
    }
}
