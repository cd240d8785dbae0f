//! The processes of one run while it goes on: as a tree, and each change of it as a line. Made from
//! the run's events alone.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use crate::model::bilingual::{COLON, COMMA, Language, Text, text};
use crate::model::event::{Event, What};
use crate::model::process::{Stat, State};
use crate::view::output::{MARK, styled};
use crate::view::text::line;
use crate::view::words;

#[derive(Default)]
pub(crate) struct Tree {
    language: Language,
    /// The worker.
    pub(super) root: i32,
    /// What /proc last said of each process that is there.
    present: BTreeMap<i32, Stat>,
    /// Also of those that are gone.
    names: BTreeMap<i32, String>,
    roles: BTreeMap<i32, String>,
    /// The first parent of each.
    pub(super) born_of: BTreeMap<i32, i32>,
}

impl Tree {
    pub(crate) fn in_language(language: Language) -> Self {
        Self { language, ..Self::default() }
    }

    /// Takes the event in. Returns the line for it with its time, if it is worth one.
    pub(crate) fn take(&mut self, event: &Event) -> Option<String> {
        self.line(event).map(|line| format!("{:7.3}  {line}", event.t))
    }

    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        let line = match &event.what {
            What::Worker { process } => {
                const WORKER: Text = text(
                    "{} is the scenario's own process: it starts the programs, and adopts orphans",
                    "{} 是场景自己的进程（worker）：启动程序，收养孤儿进程",
                );
                self.root = process.pid;
                self.say(WORKER, process.pid)
            }
            What::Found { process, role } => {
                self.roles.insert(process.pid, role.clone());
                return None;
            }
            What::State { raw } => self.changed(raw)?,
            What::Gone { process } => {
                self.present.remove(&process.pid);
                self.say(text("{}: gone", "{}：消失"), self.call(process.pid))
            }
            what => line(what, self.language)?,
        };
        Some(line)
    }

    /// The text with this value in it.
    fn say(&self, text: Text, value: impl Display) -> String {
        text.to(self.language).replace("{}", &value.to_string())
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
            None => {
                self.born_of.insert(pid, parent);
                news.push(self.say(text("started by {}", "由 {} 创建"), parent));
            }
            Some(old) => {
                if old.name != now.name {
                    let name = format!("{:?}", old.name);
                    news.push(self.say(text("its name was {}", "原名 {}"), name));
                }
                if old.ppid != parent {
                    news.push(self.say(text("adopted by {}", "被 {} 收养"), parent));
                }
            }
        }
        if old.map_or(State::Alive, |old| old.state()) != state {
            news.push(match state {
                State::Zombie => styled(MARK, self.word(state)),
                _ => self.word(state).to_owned(),
            });
        }
        (!news.is_empty()).then(|| {
            [self.call(pid), news.join(COMMA.to(self.language))].join(COLON.to(self.language))
        })
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
            let _ = write!(call, " ({})", words::to(self.language, role));
        }
        call
    }

    /// A line for each process, below its parent, of at most so many columns, and in at most so many
    /// lines.
    pub(crate) fn draw(&self, (columns, height): (usize, usize)) -> String {
        let mut lines = self.lines();
        let more = lines.len().saturating_sub(height.saturating_sub(2)); // for what is written above
        if more > 0 {
            lines.truncate(lines.len() - more);
            lines.push((false, self.say(text("… and {} more", "……还有 {} 个"), more)));
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

    /// A line for each process, below its parent, and whether it is a zombie.
    pub(super) fn lines(&self) -> Vec<(bool, String)> {
        let mut lines = vec![(false, format!("{} xtask-worker", self.root))];
        self.draw_children(self.root, "", &mut lines);
        lines
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
            let (state, rest) = (self.word(stat.state()), self.name_and_role(pid));
            lines.push((stat.is_zombie(), format!("{before}{branch}{pid} {state}{rest}")));
            self.draw_children(pid, &format!("{before}{below}"), lines);
        }
    }

    /// A state as letters and word. A run does not record each time that a process falls asleep or wakes
    /// up, so the two are one here.
    fn word(&self, state: State) -> &'static str {
        let word = match state {
            State::Zombie => text("zombie (Z)", "僵尸 (Z)"),
            State::Stopped => text("stopped (T)", "暂停 (T)"),
            State::Alive => text("lives (S or R)", "活着 (S 或 R)"),
        };
        word.to(self.language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Process;
    use crate::view::story::tests::state;

    #[test]
    fn each_is_below_its_parent_and_changes_have_lines() {
        let process = |pid| Process::new(pid, 100);
        let state = |pid, letter, ppid| state(process(pid), letter, ppid, 0);
        let mut tree = Tree::default();
        tree.take(&Event::new("", 0.0, What::Worker { process: process(7) }));
        let whats = [
            state(10, 'S', 7),
            state(11, 'S', 10),
            state(12, 'S', 7),
            What::Found { process: process(11), role: "child".to_owned() },
            state(11, 'Z', 10),
        ];
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        let lines = |tree: &mut Tree, whats: &[What]| {
            let events = whats.iter().map(|what| Event::new("", 1.0, what.clone()));
            events.filter_map(|event| Some(plain(&tree.take(&event)?))).collect::<Vec<_>>()
        };
        let expected = [
            "  1.000  10 \"name\": started by 7",
            "  1.000  11 \"name\": started by 10",
            "  1.000  12 \"name\": started by 7",
            "  1.000  11 \"name\" (child): zombie (Z)",
        ];
        assert_eq!(lines(&mut tree, &whats), expected);
        assert_eq!(
            plain(&tree.draw((80, 24))),
            "7 xtask-worker\n\
             ├─ 10 lives (S or R) \"name\"\n\
             │  └─ 11 zombie (Z) \"name\" (child)\n\
             └─ 12 lives (S or R) \"name\""
        );
        assert_eq!(plain(&tree.draw((8, 4))), "7 xtask-\n├─ 10 li\n… and 2 ");
        let whats = [What::Gone { process: process(10) }, state(11, 'Z', 7), state(11, 'Z', 7)];
        let expected = ["  1.000  10 \"name\": gone", "  1.000  11 \"name\" (child): adopted by 7"];
        assert_eq!(lines(&mut tree, &whats), expected);
    }
}
