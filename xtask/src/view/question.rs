//! Questions about what `ps` shows in a snapshot, made from the events up to it. Their numbers are those of
//! the run, so that each run asks others.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::model::bilingual::Language;
use crate::model::event::{Event, Snapshot, What};
use crate::model::markdown::section;
use crate::model::process::State;
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
    let Some((Event { what: What::Snapshot(now), .. }, earlier)) = events.split_last() else {
        return Vec::new();
    };
    let (mut tree, mut before) = (Tree::default(), Vec::new());
    for event in earlier {
        tree.take(event);
        if let What::Snapshot(snapshot) = &event.what {
            before.push(snapshot);
        }
    }
    let first_pid = now.pids.first().map_or(0, |pid| pid.unsigned_abs() as usize);
    let chance = first_pid.wrapping_add(events.len()); // another in each run
    let quiz = Quiz { scenario, language, now, before, tree, chance };
    let (zombies, parent) = (quiz.zombies(), quiz.parent());
    let room = AT_ONCE - zombies.iter().len() - parent.iter().len();
    zombies.into_iter().chain(quiz.states(room)).chain(parent).collect()
}

/// A choice: its text, whether it is right, and the heading of the reason.
type Word = (String, bool, String);

struct Quiz<'a> {
    scenario: &'a Scenario,
    language: Language,
    now: &'a Snapshot,
    before: Vec<&'a Snapshot>,
    tree: Tree,
    chance: usize,
}

impl Quiz<'_> {
    /// Only where there is one, or was.
    fn zombies(&self) -> Option<Question> {
        let right = zombies(self.now);
        let is_hard = right > 0 || self.before.iter().any(|snapshot| zombies(snapshot) > 0);
        let numbers = BTreeSet::from([right, 0, 1, self.now.pids.len().max(2)]);
        let choices = numbers.into_iter().map(|number| {
            let because = match number.cmp(&right) {
                Ordering::Less => "too few",
                Ordering::Equal => "exact",
                Ordering::Greater => "too many",
            };
            (number.to_string(), number == right, because.to_owned())
        });
        is_hard.then(|| self.question("zombies?", 0, choices.collect(), is_hard))
    }

    /// One for each state that processes have, but first for those that have come to it just now.
    fn states(&self, room: usize) -> Vec<Question> {
        let mut pids = self.now.pids.clone();
        pids.rotate_left(self.chance % self.now.pids.len().max(1));
        let before = |pid: i32| self.before.last().map(|snapshot| letter(snapshot, pid));
        pids.sort_by_key(|pid| before(*pid) == Some(letter(self.now, *pid)));
        let mut asked = BTreeSet::new();
        pids.retain(|pid| asked.insert(letter(self.now, *pid)));
        let question = |pid: i32| {
            let right = letter(self.now, pid);
            let choices = STATES.chars().map(|state| {
                let says = say(&state.to_string(), self.language).to_owned();
                (says, state == right, format!("{state} for {right}"))
            });
            let is_hard = right != 'S' || zombies(self.now) > 0;
            self.question("state?", pid, choices.collect(), is_hard)
        };
        pids.into_iter().take(room).map(question).collect()
    }

    /// About a child of a program whose parent no snapshot has shown: one that was adopted, if there is any.
    fn parent(&self) -> Option<Question> {
        let worker = self.tree.root;
        let first = |row: &Row| self.tree.born_of.get(&row.pid).copied().unwrap_or(worker);
        let mut rows = ps::rows(&self.now.text);
        rows.retain(|row| {
            let mut shown = self.before.iter().filter_map(|it| ps::row(&it.text, row.pid));
            first(row) != worker && shown.all(|it| it.ppid != row.ppid)
        });
        let adopted = rows.iter().find(|row| row.ppid != first(row));
        let row = adopted.or(rows.get(self.chance % rows.len().max(1)))?;
        let (right, former) = (row.ppid, first(row));
        let why = if right == former { "parent" } else { "adopter" };
        let pids = BTreeSet::from([right, former, worker, INIT]);
        let choices = pids.into_iter().map(|pid| {
            let (says, wrong) = match pid {
                INIT => ("1 (init)".to_owned(), "init"),
                _ if pid == worker => (format!("{pid} (worker)"), "worker"),
                _ => (self.tree.name(pid), "former parent"),
            };
            let because = if pid == right { why } else { wrong };
            (says, pid == right, because.to_owned())
        });
        let is_hard = right != former || row.is_zombie();
        Some(self.question("parent?", row.pid, choices.collect(), is_hard))
    }

    /// `pid` is whom it is about, by name: a role, such as "zombie 1", would be the answer.
    fn question(&self, kind: &str, pid: i32, all: Vec<Word>, is_hard: bool) -> Question {
        let choice = |(letter, (says, is_right, because)): (char, Word)| {
            let verdict = say(if is_right { "right" } else { "wrong" }, self.language);
            let verdict = verdict.replace("{because}", say(&because, self.language));
            Choice { letter, says, is_right, verdict }
        };
        let (general, words) = match kind {
            "parent?" => (C29, &["adopt"][..]),
            _ => (C24, &["zombie", "stopped", "reaps", "reaping"][..]),
        };
        // The scenario's own claim, if it has one on the subject.
        let is_on_it = |claim: &&Claim| words.iter().any(|word| claim.here().en.contains(word));
        let claim = self.scenario.claims().find(is_on_it).unwrap_or(general);
        let asks = say(kind, self.language).replace("{name}", &self.tree.name(pid));
        Question { asks, choices: ('A'..).zip(all).map(choice).collect(), claim, is_hard }
    }
}

/// What question.md has below this heading, in this language.
pub(crate) fn say(name: &str, language: Language) -> &'static str {
    let lines = section(include_str!("question.md"), 2, name).and_then(|it| it.split_once('\n'));
    match (lines, language) {
        (Some((english, _)), Language::English) => english,
        (Some((_, chinese)), Language::Chinese) => chinese,
        (None, _) => "?", // a test looks for what is missing
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
