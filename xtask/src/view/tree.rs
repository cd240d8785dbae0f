//! The processes of one run while it goes on: as a tree, and each change of it as a line. Made from
//! the run's events alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::event::{Event, What};
use crate::model::process::{Stat, State};
use crate::view::output::{MARK, styled};
use crate::view::text;

#[derive(Default)]
pub(crate) struct Tree {
    /// The worker.
    root: i32,
    /// What /proc last said of each process that is there.
    present: BTreeMap<i32, Stat>,
    /// Also of those that are gone.
    names: BTreeMap<i32, String>,
    roles: BTreeMap<i32, String>,
}

impl Tree {
    /// Takes the event in. Returns the line for it, if it is worth one.
    pub(crate) fn take(&mut self, event: &Event) -> Option<String> {
        let line = match &event.what {
            What::Worker { process } => {
                self.root = process.pid;
                format!(
                    "{} is the scenario's own process: it starts the programs, and adopts orphans",
                    process.pid
                )
            }
            What::Found { process, role } => {
                self.roles.insert(process.pid, role.clone());
                return None;
            }
            What::State { raw } => self.changed(raw)?,
            What::Gone { process } => {
                self.present.remove(&process.pid);
                format!("{}: gone", self.call(process.pid))
            }
            what => text::line(what)?,
        };
        Some(format!("{:7.3}  {line}", event.t))
    }

    /// What is new about a process that has changed.
    fn changed(&mut self, now: &Stat) -> Option<String> {
        let pid = now.process.pid;
        let old = self.present.insert(pid, now.clone());
        let old = old.filter(|old| old.process == now.process);
        self.names.insert(pid, now.name.clone());
        let (state, parent) = (now.state(), now.ppid);
        let mut news = Vec::new();
        match &old {
            None => news.push(format!("started by {parent}")),
            Some(old) => {
                if old.name != now.name {
                    news.push(format!("its name was {:?}", old.name));
                }
                if old.ppid != parent {
                    news.push(format!("adopted by {parent}"));
                }
            }
        }
        if old.map_or(State::Alive, |old| old.state()) != state {
            news.push(match state {
                State::Zombie => styled(MARK, word(state)),
                _ => word(state).to_owned(),
            });
        }
        (!news.is_empty()).then(|| format!("{}: {}", self.call(pid), news.join(", ")))
    }

    /// A process by its number, its name, quoted, as it may be "zombie", and its role.
    pub(crate) fn call(&self, pid: i32) -> String {
        format!("{pid}{}", self.name_and_role(pid))
    }

    /// The same without its role.
    pub(crate) fn name(&self, pid: i32) -> String {
        let name = self.names.get(&pid);
        name.map_or(pid.to_string(), |name| format!("{pid} {name:?}"))
    }

    fn name_and_role(&self, pid: i32) -> String {
        let mut call = String::new();
        if let Some(name) = self.names.get(&pid) {
            let _ = write!(call, " {name:?}");
        }
        if let Some(role) = self.roles.get(&pid) {
            let _ = write!(call, " ({role})");
        }
        call
    }

    /// A line for each process, below its parent, of at most so many columns, and in at most so many
    /// lines.
    pub(crate) fn draw(&self, (columns, height): (usize, usize)) -> String {
        let mut lines = vec![(false, format!("{} xtask-worker", self.root))];
        self.draw_children(self.root, "", &mut lines);
        let more = lines.len().saturating_sub(height.saturating_sub(2)); // for what is written above
        if more > 0 {
            lines.truncate(lines.len() - more);
            lines.push((false, format!("… and {more} more")));
        }
        let fitted = lines.iter().map(|(is_zombie, line)| {
            let line: String = line.chars().take(columns).collect();
            match is_zombie {
                true => styled(MARK, line),
                false => line,
            }
        });
        fitted.collect::<Vec<_>>().join("\n")
    }

    /// Adds a line for each, and whether it is a zombie.
    fn draw_children(&self, parent: i32, before: &str, lines: &mut Vec<(bool, String)>) {
        let of_parent = self.present.iter().filter(|(_, it)| it.ppid == parent);
        let mut children = of_parent.peekable();
        while let Some((&pid, stat)) = children.next() {
            let (branch, below) = match children.peek() {
                Some(_) => ("├─ ", "│  "),
                None => ("└─ ", "   "),
            };
            // The state first, so that it is seen also where there are few columns.
            let (state, rest) = (word(stat.state()), self.name_and_role(pid));
            lines.push((stat.is_zombie(), format!("{before}{branch}{pid} {state}{rest}")));
            self.draw_children(pid, &format!("{before}{below}"), lines);
        }
    }
}

/// A state as letters and word. A run does not record each time that a process falls asleep or wakes
/// up, so the two are one here.
fn word(state: State) -> &'static str {
    match state {
        State::Zombie => "zombie (Z)",
        State::Stopped => "stopped (T)",
        State::Alive => "lives (S or R)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Process;

    fn taken(tree: &mut Tree, what: What) -> Option<String> {
        let line = tree.take(&Event::new("zombie", 1.0, what))?;
        Some(anstream::adapter::strip_str(&line).to_string())
    }

    fn process(pid: i32) -> Process {
        Process::new(pid, 100)
    }

    fn state(pid: i32, state: char, ppid: i32) -> What {
        let raw = format!(
            "{pid} (zombie) {state} {ppid} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 100 \
             0 0 0 1 1 0 0 0 0 0 0"
        );
        let raw = Stat::try_from(raw).unwrap();
        What::State { raw }
    }

    #[test]
    fn each_is_below_its_parent_and_changes_have_lines() {
        let mut tree = Tree::default();
        let process_7 = process(7);
        taken(&mut tree, What::Worker { process: process_7 });
        let line = taken(&mut tree, state(10, 'S', 7)).unwrap();
        assert_eq!(line, "  1.000  10 \"zombie\": started by 7");
        taken(&mut tree, state(11, 'S', 10));
        taken(&mut tree, state(12, 'S', 7));
        let found = What::Found { process: process(11), role: "child".to_owned() };
        taken(&mut tree, found);
        let line = taken(&mut tree, state(11, 'Z', 10)).unwrap();
        assert_eq!(line, "  1.000  11 \"zombie\" (child): zombie (Z)");
        let plain = |size| anstream::adapter::strip_str(&tree.draw(size)).to_string();
        assert_eq!(
            plain((80, 24)),
            "7 xtask-worker\n\
             ├─ 10 lives (S or R) \"zombie\"\n\
             │  └─ 11 zombie (Z) \"zombie\" (child)\n\
             └─ 12 lives (S or R) \"zombie\""
        );
        assert_eq!(plain((8, 4)), "7 xtask-\n├─ 10 li\n… and 2 ");

        let gone = What::Gone { process: process(10) };
        taken(&mut tree, gone);
        let line = taken(&mut tree, state(11, 'Z', 7)).unwrap();
        assert_eq!(line, "  1.000  11 \"zombie\" (child): adopted by 7");
        assert!(taken(&mut tree, state(11, 'Z', 7)).is_none());
    }
}
