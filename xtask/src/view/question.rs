//! Questions about what `ps` shows in a snapshot, made from the events up to it. Their numbers are those of
//! the run, so that each run asks others.

use std::collections::BTreeSet;

use crate::model::bilingual::Language;
use crate::model::event::{Event, Snapshot, What};
use crate::model::markdown::section;
use crate::model::process::{Process, State};
use crate::probe::ps::{self, Row};
use crate::scenarios::Scenario;
use crate::scenarios::ledger::{C24, C29, Claim};
use crate::view::tree::Tree;

/// More for one snapshot would be tiresome.
const AT_ONCE: usize = 3;

const INIT: i32 = 1;

/// As [`letter`] has them.
const STATES: &str = "STZ-";

pub(crate) struct Question {
    pub(crate) asks: String,
    /// In an order that gives nothing away.
    pub(crate) choices: Vec<Choice>,
    /// What the right answer follows from.
    pub(crate) claim: &'static Claim,
    /// Whether it is about a zombie, or about what has changed.
    pub(crate) is_hard: bool,
}

pub(crate) struct Choice {
    /// `A` is the first.
    pub(crate) letter: char,
    pub(crate) says: String,
    pub(crate) is_right: bool,
    /// That it is right or wrong, and why.
    pub(crate) verdict: String,
}

/// Asks about the last of these events, if that is a snapshot: how many zombies there are, the states of
/// processes, and a parent. The right answer to one must not give the next away.
pub(crate) fn about(scenario: &Scenario, events: &[Event], language: Language) -> Vec<Question> {
    let (mut tree, mut first, mut worker, mut snapshots) =
        (Tree::default(), Vec::new(), 0, Vec::new());
    for event in events {
        tree.take(event);
        match &event.what {
            What::Worker { process } => worker = process.pid,
            What::State { raw } if first.iter().all(|(it, _)| *it != raw.process) => {
                first.push((raw.process, raw.ppid));
            }
            What::Snapshot(snapshot) => snapshots.push(snapshot),
            _ => {}
        }
    }
    let (Some(What::Snapshot(now)), Some((_, before))) =
        (events.last().map(|event| &event.what), snapshots.split_last())
    else {
        return Vec::new();
    };
    let first_pid = now.pids.first().map_or(0, |pid| pid.unsigned_abs() as usize);
    let chance = first_pid.wrapping_add(events.len()); // another in each run
    let quiz = Quiz { scenario, language, tree, first, worker, now, before, chance };
    let (zombies, parent) = (quiz.zombies(), quiz.parent());
    let room = AT_ONCE - zombies.iter().len() - parent.iter().len();
    zombies.into_iter().chain(quiz.states(room)).chain(parent).collect()
}

struct Quiz<'a> {
    scenario: &'a Scenario,
    language: Language,
    tree: Tree,
    /// The first parent of each process.
    first: Vec<(Process, i32)>,
    worker: i32,
    now: &'a Snapshot,
    before: &'a [&'a Snapshot],
    chance: usize,
}

impl Quiz<'_> {
    /// Only where there is one, or was.
    fn zombies(&self) -> Option<Question> {
        let right = zombies(self.now);
        let is_hard = right > 0 || self.before.iter().any(|snapshot| zombies(snapshot) > 0);
        let numbers = few(right, [0, self.now.pids.len(), 1, right + 1, 2]);
        let choices = numbers.into_iter().map(|number| {
            let because = match number {
                0 if right == 0 => "none",
                _ if number == right => "exact",
                _ if number > right => "too many",
                _ => "too few",
            };
            self.choice(number.to_string(), number == right, because)
        });
        is_hard.then(|| self.question("zombies?", 0, choices.collect(), is_hard))
    }

    /// One for each state that processes have come to since the snapshot before, or have.
    fn states(&self, room: usize) -> Vec<Question> {
        let before = |pid: i32| self.before.last().filter(|last| last.pids.contains(&pid));
        let is_new =
            |pid: i32| before(pid).is_none_or(|it| letter(it, pid) != letter(self.now, pid));
        let (new, old): (Vec<i32>, Vec<i32>) = self.now.pids.iter().partition(|pid| is_new(**pid));
        let pids = if new.is_empty() { old } else { new };
        let in_state =
            |state: char| self.any(pids.iter().filter(|pid| letter(self.now, **pid) == state));
        let mut asked: Vec<&i32> = STATES.chars().filter_map(in_state).collect();
        let count = asked.len().max(1);
        asked.rotate_left(self.chance % count);
        asked.into_iter().take(room).map(|pid| self.state(*pid)).collect()
    }

    fn state(&self, pid: i32) -> Question {
        let right = letter(self.now, pid);
        let choices = STATES.chars().map(|state| {
            let says = say(&state.to_string(), self.language).to_owned();
            self.choice(says, state == right, &format!("{state} for {right}"))
        });
        let is_hard = right != 'S' || zombies(self.now) > 0;
        self.question("state?", pid, choices.collect(), is_hard)
    }

    /// About a child of a program whose parent no snapshot has shown: one that was adopted, if there is any.
    fn parent(&self) -> Option<Question> {
        let rows = ps::rows(&self.now.text);
        let first = |row: &Row| {
            let known = self.first.iter().rfind(|(process, _)| process.pid == row.pid);
            known.map_or(self.worker, |(_, parent)| *parent)
        };
        let is_known = |row: &Row| {
            let mut shown = self.before.iter().filter_map(|it| ps::row(&it.text, row.pid));
            shown.any(|it| it.ppid == row.ppid)
        };
        let children = rows.iter().filter(|row| first(row) != self.worker && !is_known(row));
        let adopted = children.clone().filter(|row| row.ppid != first(row));
        let row = self.any(adopted).or_else(|| self.any(children))?;
        let (right, former) = (row.ppid, first(row));
        let others = self.now.pids.iter().copied().filter(|pid| *pid != row.pid);
        let pids = few(right, [self.worker, former, INIT].into_iter().chain(others));
        let choices = pids.into_iter().map(|pid| {
            let (says, wrong) = match pid {
                INIT => ("1 (init)".to_owned(), "init"),
                _ if pid == self.worker => (format!("{pid} (worker)"), "worker"),
                _ if pid == former => (self.tree.name(pid), "former parent"),
                _ => (self.tree.name(pid), "other"),
            };
            let right_because = if right == former { "parent" } else { "adopter" };
            self.choice(says, pid == right, if pid == right { right_because } else { wrong })
        });
        let is_hard = right != former || row.is_zombie();
        Some(self.question("parent?", row.pid, choices.collect(), is_hard))
    }

    fn choice(&self, says: String, is_right: bool, because: &str) -> Choice {
        let verdict = say(if is_right { "right" } else { "wrong" }, self.language);
        let verdict = verdict.replace("{because}", say(because, self.language));
        Choice { letter: '?', says, is_right, verdict }
    }

    /// `pid` is whom it is about. It has its name: a role, such as "zombie 1", would be the answer.
    fn question(&self, kind: &str, pid: i32, choices: Vec<Choice>, is_hard: bool) -> Question {
        let choices = ('A'..).zip(choices).map(|(letter, it)| Choice { letter, ..it }).collect();
        let (general, words) = match kind {
            "parent?" => (C29, &["adopt"][..]),
            _ => (C24, &["zombie", "stopped", "reaps", "reaping"][..]),
        };
        // The scenario's own claim, if it has one on the subject.
        let is_on_it = |claim: &&Claim| words.iter().any(|word| claim.here.en.contains(word));
        let claim = self.scenario.claims().find(is_on_it).unwrap_or(general);
        let asks = say(kind, self.language).replace("{name}", &self.tree.name(pid));
        Question { asks, choices, claim, is_hard }
    }

    fn any<T>(&self, all: impl Iterator<Item = T> + Clone) -> Option<T> {
        let count = all.clone().count().max(1);
        all.skip(self.chance % count).next()
    }
}

/// Four at most, in order, among them the right one.
fn few<T: Ord>(right: T, others: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut few = BTreeSet::from([right]);
    for other in others {
        if few.len() < 4 {
            few.insert(other);
        }
    }
    few
}

/// What question.md has below this heading, in this language.
pub(crate) fn say(name: &str, language: Language) -> &'static str {
    let lines = section(include_str!("question.md"), 2, name).and_then(|it| it.split_once('\n'));
    match (lines, language) {
        (Some((english, _)), Language::English) => english,
        (Some((_, chinese)), Language::Chinese) => chinese,
        (None, _) => "?", // a test looks for it
    }
}

fn zombies(snapshot: &Snapshot) -> usize {
    ps::rows(&snapshot.text).iter().filter(|row| row.is_zombie()).count()
}

/// The state that the snapshot shows; `-` if it does not list the process.
pub(crate) fn letter(snapshot: &Snapshot, pid: i32) -> char {
    match ps::row(&snapshot.text, pid).map(|row| row.state()) {
        Some(State::Alive) => 'S',
        Some(State::Stopped) => 'T',
        Some(State::Zombie) => 'Z',
        None => '-',
    }
}
