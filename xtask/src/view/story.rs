//! A run as its timeline needs it: which processes were there when and in which state, and what
//! happened between them, in steps.

use crate::model::bilingual::{Language, text};
use crate::model::event::{Event, What};
use crate::model::process::{Process, Stat, State};
use crate::view::text::printable;
use crate::view::words;

/// If the same happens to several processes within this time, that is one step.
const TOGETHER: f64 = 0.05;

/// The kernel cuts the names of processes at this length.
const NAME: usize = 15;

/// The end of a child whose parent ignores SIGCHLD.
const NO_WAIT: &str = "no wait";

/// The role of a process that was never seen to execute a program.
const COPY: &str = "copy of its parent";

/// The lane of the worker: the process that starts the programs.
pub(super) const WORKER: usize = 0;

#[derive(Default)]
pub(super) struct Story {
    /// In the order in which they came; the first is the worker.
    pub(super) lanes: Vec<Lane>,
    pub(super) steps: Vec<Step>,
    /// The lines that were written so far, each with the program that wrote it.
    lines: Vec<(Process, String)>,
    /// When /proc said of a process that it ignores SIGCHLD.
    ignoring: Vec<(f64, Process)>,
    /// The processes for which no exec is shown.
    without_exec: Vec<Process>,
}

/// The life of one process.
#[derive(Default)]
pub(super) struct Lane {
    process: Process,
    born_of: usize,
    /// Its last parent: an orphan is adopted.
    parent: usize,
    pub(super) role: Option<String>,
    pub(super) name: String,
    /// What it was, and from which step on. Nothing, if it was gone before it was seen.
    pub(super) states: Vec<(State, usize)>,
    /// The steps in which it became another program.
    pub(super) execs: Vec<usize>,
    /// The step from which on it is known to ignore SIGCHLD.
    pub(super) ignores: Option<usize>,
    /// The step in which it was gone.
    pub(super) end: Option<usize>,
    /// What /proc last said of it.
    last: Option<Stat>,
}

#[derive(Default)]
pub(super) struct Step {
    pub(super) t: f64,
    /// What happened, in a word.
    pub(super) word: String,
    pub(super) times: usize,
    /// The number of the snapshot, if it is one.
    pub(super) snapshot: Option<usize>,
    pub(super) arrows: Vec<Arrow>,
}

#[derive(Clone, Copy)]
pub(super) struct Arrow {
    /// Its class in the style: `spawn`, `signal`, `exit` (the kernel signals the parent), `wait` or
    /// `adoption`.
    pub(super) class: &'static str,
    /// Lanes.
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Story {
    pub(super) fn new(events: &[Event]) -> Self {
        let uneven = Self::with(events, Vec::new()).seen_in_some_only();
        Self::with(events, uneven)
    }

    fn with(events: &[Event], without_exec: Vec<Process>) -> Self {
        let ignoring = |event: &Event| match &event.what {
            What::State { raw } if raw.ignores_sigchld => Some((event.t, raw.process)),
            _ => None,
        };
        let ignoring = events.iter().filter_map(ignoring).collect();
        let mut story = Self { ignoring, without_exec, ..Self::default() };
        // A recording that does not begin with its worker has no lane for what the worker does.
        let is_before = |event: &&Event| !matches!(event.what, What::Worker { .. });
        for event in events.iter().skip_while(is_before) {
            story.take(event.t, &event.what);
        }
        story
    }

    /// Children that we saw executing a program, while we missed that for others that are like them.
    fn seen_in_some_only(&self) -> Vec<Process> {
        let is_missed_in_another = |seen: &&Lane| {
            let is_like = |it: &&Lane| it.born_of == seen.born_of && it.name == seen.name;
            self.lanes.iter().filter(is_like).any(|it| it.execs.is_empty())
        };
        let children = self.lanes.iter().filter(|it| it.born_of != WORKER);
        let seen = children.filter(|it| !it.execs.is_empty());
        seen.filter(is_missed_in_another).map(|lane| lane.process).collect()
    }

    fn take(&mut self, t: f64, what: &What) {
        if !matches!(what, What::State { .. }) {
            self.mark_who_ignores(t);
        }
        match what {
            What::Worker { process } => {
                let step = self.step(t, "");
                self.come(*process, WORKER, step);
            }
            What::Start { process, command } => {
                let step = self.step(t, "start");
                let lane = self.come(*process, WORKER, step);
                let program = command.split(' ').next().unwrap_or_default();
                self.lanes[lane].name = printable(program);
                self.arrow(step, "spawn", WORKER, lane);
            }
            What::Found { process, role } => {
                if let Some(lane) = self.found(t, *process) {
                    self.lanes[lane].role = Some(printable(role));
                }
            }
            What::Line { program, text, .. } => self.lines.push((*program, text.clone())),
            What::State { raw } => self.state(t, raw),
            What::Gone { process } => self.gone(t, *process),
            What::Reaped { process, .. } => {
                if let Some(lane) = self.present(process.pid) {
                    self.end(t, lane, "wait", Some(WORKER));
                }
            }
            What::Signal { process, signal, error } => {
                let refused = if error.is_some() { ", refused" } else { "" };
                let step = self.step(t, &format!("{}{refused}", printable(signal)));
                if let Some(lane) = self.present(process.pid) {
                    self.arrow(step, "signal", WORKER, lane);
                }
            }
            What::Snapshot(_) => {
                let before = self.steps.iter().filter(|step| step.snapshot.is_some()).count();
                let step = self.new_step(t, "");
                self.steps[step].snapshot = Some(before + 1);
            }
            What::End { .. } => {
                self.new_step(t, "");
            }
            _ => {} // nothing that a process does
        }
    }

    /// A process that the worker has found. If it was gone by then, only its number is known, and which
    /// program has written that.
    fn found(&mut self, t: f64, process: Process) -> Option<usize> {
        let pid = process.pid;
        let is_gone = process.start_time == 0;
        let known = self.lane(|lane| lane.process == process || is_gone && lane.process.pid == pid);
        if known.is_some() || !is_gone {
            return known;
        }
        let ending = format!(" {pid}");
        let writes = |(_, line): &&(Process, String)| line.ends_with(&ending);
        let (writer, _) = self.lines.iter().rev().find(writes)?;
        let parent = self.lane(|lane| lane.process == *writer)?;
        let step = self.step(t, "gone, unseen");
        let lane = self.come(process, parent, step);
        self.lanes[lane].states.clear();
        self.lanes[lane].end = Some(step);
        Some(lane)
    }

    /// Must be called after all states of the same look at /proc: a zombie in it was one before.
    fn mark_who_ignores(&mut self, t: f64) {
        for number in 0..self.lanes.len() {
            let lane = &self.lanes[number];
            let says_so = lane.last.as_ref().is_some_and(|last| last.ignores_sigchld);
            let is_alive = !lane.is_zombie() && lane.end.is_none();
            // A child may have inherited that, which is not worth a step.
            if says_so && is_alive && lane.born_of == WORKER && lane.ignores.is_none() {
                let step = self.step(t, "ignores SIGCHLD");
                self.lanes[number].ignores = Some(step);
            }
        }
    }

    /// Takes in what has changed in a process.
    fn state(&mut self, t: f64, stat: &Stat) {
        let parent = self.present(stat.ppid);
        let known = self.lane(|lane| lane.process == stat.process);
        let lane = known.unwrap_or_else(|| self.spawned(t, stat, parent.unwrap_or(WORKER)));
        let last = self.lanes[lane].last.replace(stat.clone());
        // A process that has executed /proc/self/exe is called `exe` until it names itself.
        if stat.name != "exe" {
            self.lanes[lane].name = self.whole_name(lane, printable(&stat.name));
        }
        if let Some(last) = last {
            if last.ppid != stat.ppid {
                let step = self.step(t, "adopted");
                self.arrow(step, "adoption", lane, parent.unwrap_or(WORKER));
                self.lanes[lane].parent = parent.unwrap_or(WORKER);
            }
            if self.has_execed(&last, stat) {
                let step = self.step(t, "exec");
                self.lanes[lane].execs.push(step);
            }
        }
        let now = stat.state();
        let before = self.lanes[lane].states.last().map(|state| state.0);
        if before == Some(now) {
            return;
        }
        let step = match now {
            State::Zombie => {
                let step = self.step(t, "exit");
                self.arrow(step, "exit", lane, self.lanes[lane].parent);
                step
            }
            State::Stopped => self.step(t, "stopped"),
            State::Alive => self.step(t, "goes on"),
        };
        self.lanes[lane].states.push((now, step));
    }

    /// The whole of a name that the kernel has cut, if it is that of a program that was started.
    fn whole_name(&self, lane: usize, name: String) -> String {
        let lane = &self.lanes[lane];
        let known = [&lane.name, &self.lanes[lane.born_of].name];
        let is_whole = |known: &&&String| name.len() == NAME && known.starts_with(&name);
        known.iter().find(is_whole).map_or(name, |whole| (**whole).clone())
    }

    /// Whether to show that this process has become another program. After `execve` the stack begins
    /// elsewhere; a process that merely has another name keeps it, and so does the copy of its parent
    /// that a process is at first. One that has ended has none.
    fn has_execed(&self, before: &Stat, now: &Stat) -> bool {
        let has_other_stack = before.stack != 0 && now.stack != 0 && before.stack != now.stack;
        has_other_stack && !self.without_exec.contains(&now.process)
    }

    fn spawned(&mut self, t: f64, stat: &Stat, parent: usize) -> usize {
        let other = self.lanes[parent].last.as_ref();
        let execed = other.is_some_and(|parent| self.has_execed(parent, stat));
        let step = self.step(t, if execed { "spawn, exec" } else { "spawn" });
        let lane = self.come(stat.process, parent, step);
        if execed {
            self.lanes[lane].execs.push(step);
        }
        self.arrow(step, "spawn", parent, lane);
        lane
    }

    /// A process that the worker reaps has an event for that before this one; so another process has
    /// reaped this one.
    fn gone(&mut self, t: f64, process: Process) {
        let Some(lane) = self.present(process.pid) else {
            return;
        };
        let parent = self.lanes[lane].parent;
        let (word, by) = if parent == WORKER {
            ("cleared up", None)
        } else if self.lanes[parent].end.is_some() {
            ("gone", None)
        } else if !self.lanes[lane].is_zombie() && self.ignores_by(t, parent) {
            (NO_WAIT, None)
        } else {
            ("wait", Some(parent))
        };
        self.end(t, lane, word, by);
    }

    /// Whether this process ignores SIGCHLD, so that nobody has to wait for its children. The worker may
    /// find that a child is gone before it looks at the parent, so the same look counts.
    fn ignores_by(&self, t: f64, lane: usize) -> bool {
        let Lane { process, last, .. } = &self.lanes[lane];
        let now = last.as_ref().is_some_and(|last| last.ignores_sigchld);
        let is_same_look =
            |(when, who): &(f64, Process)| who == process && (t..t + TOGETHER).contains(when);
        now || self.ignoring.iter().any(is_same_look)
    }

    fn end(&mut self, t: f64, lane: usize, word: &str, by: Option<usize>) {
        // If it was a zombie, it was that between two looks.
        let unseen = !self.lanes[lane].is_zombie() && !matches!(word, "cleared up" | "gone");
        let words = if unseen { format!("exit, {word}") } else { word.to_owned() };
        let step = self.step(t, &words);
        if unseen && word != NO_WAIT {
            self.arrow(step, "exit", lane, self.lanes[lane].parent);
        }
        if let Some(by) = by {
            self.arrow(step, "wait", by, lane);
        }
        self.lanes[lane].end = Some(step);
    }

    fn lane(&self, is_it: impl Fn(&Lane) -> bool) -> Option<usize> {
        self.lanes.iter().rposition(is_it)
    }

    /// The lane of the process that has this number now.
    fn present(&self, pid: i32) -> Option<usize> {
        self.lane(|lane| lane.process.pid == pid && lane.end.is_none())
    }

    fn come(&mut self, process: Process, parent: usize, step: usize) -> usize {
        self.lanes.push(Lane {
            process,
            born_of: parent,
            parent,
            states: vec![(State::Alive, step)],
            ..Lane::default()
        });
        self.lanes.len() - 1
    }

    /// The step of this event: the last one, if the same happened there just now.
    fn step(&mut self, t: f64, word: &str) -> usize {
        if let Some(last) = self.steps.last_mut()
            && last.snapshot.is_none()
            && last.word == word
            && t - last.t < TOGETHER
        {
            last.times += 1;
            return self.steps.len() - 1;
        }
        self.new_step(t, word)
    }

    fn new_step(&mut self, t: f64, word: &str) -> usize {
        self.steps.push(Step { t, word: word.to_owned(), times: 1, ..Step::default() });
        self.steps.len() - 1
    }

    fn arrow(&mut self, step: usize, class: &'static str, from: usize, to: usize) {
        self.steps[step].arrows.push(Arrow { class, from, to });
    }

    /// Whether a snapshot shows this process as a zombie.
    pub(super) fn is_zombie_in_snapshot(&self, number: usize) -> bool {
        let lane = &self.lanes[number];
        let to = lane.end.unwrap_or(self.steps.len());
        let zombie = lane.states.iter().find(|(state, _)| *state == State::Zombie);
        let steps = zombie.and_then(|(_, from)| self.steps.get(*from..to));
        steps.is_some_and(|steps| steps.iter().any(|step| step.snapshot.is_some()))
    }

    /// Names the process: in full, and as short as it has to be where there is less room.
    pub(super) fn labels(&self, number: usize, language: Language) -> [String; 3] {
        let lane = &self.lanes[number];
        let role = self.role(number);
        let more = if number == WORKER {
            text(": starts, signals, adopts", "：启动、发信号、收养").to(language).to_owned()
        } else if lane.states.is_empty() {
            text(": gone before it was seen", "：没看到就已消失").to(language).to_owned()
        } else if *role == lane.name || role == COPY || lane.name.is_empty() {
            String::new()
        } else {
            let called = match lane.born_of == WORKER {
                true => text(" runs “", "，运行「"),
                false => text(", called “", "，名为「"),
            };
            let end = text("”", "」");
            format!("{}{}{}", called.to(language), lane.name, end.to(language))
        };
        let pid = format!("pid {}", lane.process.pid);
        let who = format!("{} ({pid})", words::to(language, role));
        [format!("{who}{more}"), who, pid]
    }

    /// Its role, or what else is known of it.
    fn role(&self, number: usize) -> &str {
        let lane = &self.lanes[number];
        let is_parent = self.lanes.iter().any(|other| other.born_of == number);
        let is_like_parent = lane.name == self.lanes[lane.born_of].name;
        match &lane.role {
            _ if number == WORKER => "worker",
            Some(role) => role,
            None if lane.born_of == WORKER && is_parent => "parent",
            None if lane.born_of == WORKER => "program",
            None if is_like_parent && lane.execs.is_empty() => COPY,
            None if is_like_parent || lane.name.is_empty() => "child",
            None => &lane.name,
        }
    }

    /// The lanes as they are drawn, from this one on: each child below its first parent.
    pub(super) fn order(&self, from: usize) -> Vec<usize> {
        let is_child = |child: &usize| self.lanes[*child].born_of == from;
        let children = (from + 1..self.lanes.len()).filter(is_child);
        let first = (from < self.lanes.len()).then_some(from);
        first.into_iter().chain(children.flat_map(|child| self.order(child))).collect()
    }
}

impl Lane {
    fn is_zombie(&self) -> bool {
        let last = self.states.last();
        last.is_some_and(|(state, _)| *state == State::Zombie)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn state(process: Process, state: char, ppid: i32, ignored: u64) -> What {
        let Process { pid, start_time } = process;
        let stack = if state == 'Z' { 0 } else { pid };
        let raw = format!(
            "{pid} (name) {state} {ppid} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 {start_time} \
             0 0 0 1 1 {stack} 0 0 0 0 {ignored}"
        );
        What::State { raw: Stat::try_from(raw).unwrap() }
    }
}
