//! The processes of one run while it goes on: as a tree, and each change of it as a line. Made from
//! the run's events alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::event::{Event, Process, What};
use crate::output::{MARK, styled};
use crate::report;

#[derive(Default)]
pub(crate) struct Tree {
    /// The scenario's own process.
    root: i32,
    /// Those that have an entry in the process table.
    present: BTreeMap<i32, Node>,
    /// What those are called that have one or had one.
    names: BTreeMap<i32, String>,
    roles: BTreeMap<i32, String>,
}

struct Node {
    process: Process,
    parent: i32,
    state: char,
}

impl Tree {
    /// Takes the event in. Returns what a reader is told of it.
    pub(crate) fn take(&mut self, event: &Event) -> Option<String> {
        let told = match &event.what {
            What::Stage { adopter } => {
                self.root = adopter.pid;
                format!(
                    "{} is the scenario's own process: it starts the programs, and adopts orphans",
                    adopter.pid
                )
            }
            What::Found { process, role } => {
                self.roles.insert(process.pid, role.clone());
                return None;
            }
            What::State {
                process,
                state,
                ppid,
                name,
                ..
            } => self.changed(*process, *state, *ppid, name)?,
            What::Gone { process } => {
                self.present.remove(&process.pid);
                format!("{}: gone", self.call(process.pid))
            }
            what => report::line(what)?,
        };
        Some(format!("{:7.3}  {told}", event.t))
    }

    /// Of a process that has changed, only what is new is told.
    fn changed(
        &mut self,
        process: Process,
        state: char,
        parent: i32,
        name: &str,
    ) -> Option<String> {
        let new = Node {
            process,
            parent,
            state,
        };
        let old = self.present.insert(process.pid, new);
        let old = old.filter(|old| old.process == process);
        let old_name = self.names.insert(process.pid, name.to_owned());
        let mut told = Vec::new();
        match old {
            None => {
                told.push(format!("started by {parent}"));
                if word(state) != word('S') {
                    told.push(shown(state));
                }
            }
            Some(old) => {
                if let Some(old_name) = old_name.filter(|old_name| old_name != name) {
                    told.push(format!("its name was {old_name:?}"));
                }
                if old.parent != parent {
                    told.push(format!("adopted by {parent}"));
                }
                if word(old.state) != word(state) {
                    told.push(shown(state));
                }
            }
        }
        let call = self.call(process.pid);
        (!told.is_empty()).then(|| format!("{call}: {}", told.join(", ")))
    }

    /// A process by its number, its name, quoted, for it may be "zombie", and its part.
    pub(crate) fn call(&self, pid: i32) -> String {
        format!("{pid}{}", self.name_and_part(pid))
    }

    fn name_and_part(&self, pid: i32) -> String {
        let mut call = String::new();
        if let Some(name) = self.names.get(&pid) {
            let _ = write!(call, " {name:?}");
        }
        if let Some(role) = self.roles.get(&pid) {
            let _ = write!(call, " ({role})");
        }
        call
    }

    /// A line a process, each below its parent, of at most so many columns, and in at most so many
    /// lines.
    pub(crate) fn picture(&self, (columns, height): (usize, usize)) -> String {
        let mut lines = vec![(false, format!("{} xtask-stage", self.root))];
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
        let of_parent = self.present.iter().filter(|(_, it)| it.parent == parent);
        let mut children = of_parent.peekable();
        while let Some((&pid, node)) = children.next() {
            let (branch, below) = match children.peek() {
                Some(_) => ("├─ ", "│  "),
                None => ("└─ ", "   "),
            };
            // The state first, which is not to be lost where there are few columns.
            let (state, rest) = (word(node.state), self.name_and_part(pid));
            lines.push((
                node.state == 'Z',
                format!("{before}{branch}{pid} {state}{rest}"),
            ));
            self.draw_children(pid, &format!("{before}{below}"), lines);
        }
    }
}

fn shown(state: char) -> String {
    match state {
        'Z' => styled(MARK, word(state)),
        _ => word(state).to_owned(),
    }
}

/// A state as letter and word. A run does not write down each time that a process falls asleep or
/// wakes, so the two are one here.
fn word(state: char) -> &'static str {
    match state {
        'Z' | 'X' => "zombie (Z)",
        'T' | 't' => "stopped (T)",
        _ => "lives (S or R)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(tree: &mut Tree, what: What) -> Option<String> {
        let scenario = "zombie".to_owned();
        let event = Event {
            scenario,
            t: 1.0,
            source: what.source(),
            what,
        };
        let told = tree.take(&event)?;
        Some(anstream::adapter::strip_str(&told).to_string())
    }

    fn process(pid: i32) -> Process {
        Process {
            pid,
            start_time: 100,
        }
    }

    fn state(pid: i32, state: char, ppid: i32) -> What {
        What::State {
            process: process(pid),
            state,
            ppid,
            name: "zombie".to_owned(),
            raw: String::new(),
        }
    }

    #[test]
    fn each_is_below_its_parent_and_changes_are_told() {
        let mut tree = Tree::default();
        taken(
            &mut tree,
            What::Stage {
                adopter: process(7),
            },
        );
        let told = taken(&mut tree, state(10, 'S', 7)).unwrap();
        assert_eq!(told, "  1.000  10 \"zombie\": started by 7");
        taken(&mut tree, state(11, 'S', 10));
        taken(&mut tree, state(12, 'S', 7));
        let found = What::Found {
            process: process(11),
            role: "child".to_owned(),
        };
        taken(&mut tree, found);
        let told = taken(&mut tree, state(11, 'Z', 10)).unwrap();
        assert_eq!(told, "  1.000  11 \"zombie\" (child): zombie (Z)");
        let plain = |size| anstream::adapter::strip_str(&tree.picture(size)).to_string();
        assert_eq!(
            plain((80, 24)),
            "7 xtask-stage\n\
             ├─ 10 lives (S or R) \"zombie\"\n\
             │  └─ 11 zombie (Z) \"zombie\" (child)\n\
             └─ 12 lives (S or R) \"zombie\""
        );
        assert_eq!(plain((8, 4)), "7 xtask-\n├─ 10 li\n… and 2 ");

        let gone = What::Gone {
            process: process(10),
        };
        taken(&mut tree, gone);
        let told = taken(&mut tree, state(11, 'Z', 7)).unwrap();
        assert_eq!(told, "  1.000  11 \"zombie\" (child): adopted by 7");
        assert!(taken(&mut tree, state(11, 'Z', 7)).is_none());
    }
}
