//! The ideas that are drawn, each from the events of its scenario. A run that is not as its frames in
//! `ideas.txt`, because it broke off or is from before these things were read, has none.

use std::fmt::Display;

use crate::evidence::Evidence;
use crate::model::bilingual::Language;
use crate::model::event::{Event, What};
use crate::model::markdown::section;
use crate::probe::ps;
use crate::view::idea::{Frame, Idea};
use crate::view::text::printable;

/// The bit of SIGCHLD in a set of signals.
const SIGCHLD: u64 = 1 << 16;
/// What net/tcp calls a socket that listens, and one that has ended its direction: FIN-WAIT-1 and -2.
const LISTENS: &str = "0A";
const HAS_ENDED: [&str; 2] = ["04", "05"];

/// The idea of this run, if its scenario has one.
pub(super) fn of(events: &[Event], language: Language) -> Option<Idea> {
    let run = Run { events, language };
    match events.first()?.scenario.trim_end_matches("/control") {
        "remove-zombie" => run.signals(),
        "one-close-too-few" | "shutdown" => run.half_close(),
        "upgrade" => run.upgrade(),
        "fork-with-threads" => run.threads(),
        "extra-descriptors" => run.descriptors(),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Run<'a> {
    events: &'a [Event],
    language: Language,
}

/// Names in braces, and what stands for them.
type Values<'a> = &'a [(&'a str, &'a dyn Display)];

/// The descriptors of a process: when they were read, and what each is.
type Table<'a> = (f64, Vec<(&'a str, &'a str)>);

fn target<'a>(table: &Table<'a>, number: &str) -> Option<&'a str> {
    table.1.iter().find(|row| row.0 == number).map(|row| row.1)
}

impl<'a> Run<'a> {
    /// The text of this section, with a value for each name in braces: one of these, the pid of the process
    /// with this role, or the end of the line that begins so.
    fn say(self, name: &str, values: Values<'_>) -> Option<String> {
        let value = |name: &str| match values.iter().find(|value| value.0 == name) {
            Some((_, value)) => Some(value.to_string()),
            None => match self.pid(name) {
                Some(pid) => Some(pid.to_string()),
                None => Some(self.line(&format!("{name}: "))?.to_owned()),
            },
        };
        let mut said = String::new();
        for line in section(include_str!("ideas.txt"), 1, name)?.lines() {
            let (english, chinese) = line.split_once(" | ").unwrap_or((line, line));
            let mut rest = if self.language == Language::English { english } else { chinese };
            while let Some((before, (name, after))) =
                rest.split_once('{').and_then(|(before, it)| Some((before, it.split_once('}')?)))
            {
                said += &format!("{before}{}", value(name)?);
                rest = after;
            }
            said += &format!("{rest}\n");
        }
        Some(said.trim_end().to_owned())
    }

    fn frame(self, t: f64, name: &str, values: Values<'_>) -> Option<Frame> {
        Some(Frame::new(t, &self.say(name, values)?))
    }

    /// The first is the name of the sources.
    fn idea(self, name: &str, frames: Vec<Frame>) -> Option<Idea> {
        Some(Idea { frames, sources: self.say(&format!("{name} sources"), &[])? })
    }

    fn pid(self, who: &str) -> Option<i32> {
        Evidence(self.events).process(who).ok().map(|process| process.pid)
    }

    fn line(self, beginning: &str) -> Option<&'a str> {
        Evidence(self.events).line(beginning).ok()
    }

    /// What was read of a process: when, in which place of /proc, and what.
    fn readings(self, pid: i32) -> impl Iterator<Item = (f64, &'a str, &'a str)> {
        self.events.iter().filter_map(move |event| match &event.what {
            What::Proc { process, path, text, error: None } if process.pid == pid => {
                Some((event.t, path.splitn(4, '/').last()?, text.as_str()))
            }
            _ => None,
        })
    }

    fn readings_of(self, pid: i32, wanted: &str) -> Vec<(f64, &'a str)> {
        let readings = self.readings(pid).filter(|(_, place, _)| *place == wanted);
        readings.map(|(t, _, text)| (t, text)).collect()
    }

    fn tables(self, pid: i32) -> Vec<Table<'a>> {
        let mut tables: Vec<Table<'a>> = Vec::new();
        for (t, place, text) in self.readings(pid) {
            if place == "fd" {
                tables.push((t, Vec::new()));
            } else if let (Some(fd), Some(table)) = (place.strip_prefix("fd/"), tables.last_mut()) {
                table.1.push((fd, text));
            }
        }
        tables
    }

    /// What net/tcp says of a process's sockets: local and remote address, state, and the descriptor's
    /// target.
    fn sockets(self, pid: i32) -> impl Iterator<Item = (&'a str, &'a str, &'a str, String)> {
        self.readings_of(pid, "net/tcp").into_iter().filter_map(|(_, line)| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
            Some((local, remote, state, format!("socket:[{}]", words.nth(5)?)))
        })
    }

    fn signals(self) -> Option<Idea> {
        let statuses = self.readings_of(self.pid("parent")?, "status");
        let [(before, blocked), (after, unblocked)] = statuses[..] else { return None };
        let is_pending = |status| Some(has(status, "ShdPnd:")? || has(status, "SigPnd:")?);
        let is_so = has(blocked, "SigBlk:")? && is_pending(blocked)? && !is_pending(unblocked)?;
        let mut zombies = self.events.iter().filter_map(|event| match &event.what {
            What::Snapshot(it) => {
                let zombies = ps::rows(&it.text).into_iter().filter(ps::Row::is_zombie);
                Some(zombies.map(|row| row.pid).collect::<Vec<_>>())
            }
            _ => None,
        });
        let (ended, left) = (zombies.next()?, zombies.next()?);
        let row = |pid| match left.contains(pid) {
            true => Some(format!("- Z {pid}")),
            false => self.say("signals reaped", &[("pid", pid)]),
        };
        let lines: Vec<String> = ended.iter().map(|pid| format!("- Z {pid} >0")).collect();
        let rows =
            [lines.join("\n"), ended.iter().map(row).collect::<Option<Vec<_>>>()?.join("\n")];
        let point = self.say(if left.is_empty() { "signals all" } else { "signals one" }, &[])?;
        let (ended, left) = (ended.len(), left.len());
        let first: Values<'_> = &[("ended", &ended), ("rows", &rows[0])];
        let second: Values<'_> =
            &[("ended", &ended), ("left", &left), ("rows", &rows[1]), ("point", &point)];
        let first = self.frame(before, "signals blocked", first)?;
        let second = self.frame(after, "signals come", second)?;
        self.idea("signals", vec![first, second]).filter(|_| is_so)
    }

    fn half_close(self) -> Option<Idea> {
        let (parent, child) = (self.pid("parent")?, self.pid("child")?);
        let (table, of_child) = (self.tables(parent), self.tables(child));
        let (table, of_child) = (table.first()?, of_child.first()?);
        let fd = self.line("Parent's descriptor: ")?;
        let socket = target(of_child, fd)?;
        let (local, remote, state, _) = self.sockets(child).find(|it| it.3 == socket)?;
        let other_end = self.sockets(parent).find(|it| it.0 == remote && it.1 == local)?.3;
        let client = table.1.iter().find(|row| row.1 == other_end)?.0;
        let client: Values<'_> = &[("client", &client)];
        let printed = |line| {
            let mut lines = self
                .events
                .iter()
                .filter(|event| matches!(&event.what, What::Line { text, .. } if text == line));
            lines.next().map(|event| event.t)
        };
        let seen = printed("The client has seen the end.")?;
        let first = match (HAS_ENDED.contains(&state), target(table, fd) == Some(socket)) {
            (true, true) => "half-close shut",
            (false, true) => "half-close both-hold",
            (false, false) => "half-close child-holds",
            (true, false) => return None,
        };
        let mut frames = vec![self.frame(table.0, first, client)?];
        if let Some(t) = printed("The client has waited for the end, in vain.") {
            frames.push(self.frame(t, "half-close in-vain", client)?);
            frames.push(self.frame(seen, "half-close server-closed", client)?);
        } else if printed("The parent has closed its copy, too.").is_some() {
            frames.push(self.frame(seen, "half-close all-the-same", client)?);
        } else {
            frames.push(self.frame(seen, "half-close no-copy", client)?);
        }
        self.idea("half-close", frames)
    }

    fn upgrade(self) -> Option<Idea> {
        let (old, new) = (self.pid("server")?, self.pid("new server")?);
        let (of_old, of_new) = (self.tables(old), self.tables(new));
        let listener = self.sockets(old).find(|it| it.2 == LISTENS)?.3;
        let inode = listener.trim_matches(|c: char| !c.is_ascii_digit());
        let fd = |table: &Table<'a>| Some(table.1.iter().find(|row| row.1 == listener)?.0);
        let [before, after] = &of_old[..] else { return None };
        let is_answer =
            |what: &What| matches!(what, What::Client { saw, .. } if saw.starts_with("an answer"));
        let answers = self.events.iter().filter(|event| is_answer(&event.what)).count();
        let (old_fd, new_fd) = (fd(before)?, fd(of_new.first()?)?);
        let first =
            self.frame(before.0, "upgrade before", &[("fd", &old_fd), ("inode", &inode)])?;
        let second = [("fd", &new_fd as &dyn Display), ("inode", &inode), ("answers", &answers)];
        let second = self.frame(after.0, "upgrade after", &second)?;
        self.idea("upgrade", vec![first, second]).filter(|_| fd(after).is_none())
    }

    fn threads(self) -> Option<Idea> {
        let (parent, copy) = (self.pid("parent")?, self.pid("copy")?);
        let (now, tasks) = *self.readings_of(parent, "task").first()?;
        let is_alone = self.readings_of(copy, "task").first()?.1 == copy.to_string();
        let other = tasks.split_once(' ')?.1;
        let is_birth =
            |event: &&Event| matches!(&event.what, What::State { raw } if raw.process.pid == copy);
        let forked = self.events.iter().find(is_birth)?.t;
        let is_unlocked = self.line("Parent, locked: ")? == "false";
        let lock = if self.line("Copy, locked: ")? == "true" { "locked" } else { "unlocked" };
        let first = self.frame(forked, &format!("threads fork {lock}"), &[("other", &other)])?;
        let second = self.frame(now, &format!("threads copy {lock}"), &[("other", &other)])?;
        self.idea("threads", vec![first, second]).filter(|_| is_alone && is_unlocked)
    }

    fn descriptors(self) -> Option<Idea> {
        let (of_parent, of_child) =
            (self.tables(self.pid("parent")?), self.tables(self.pid("child")?));
        let (of_parent, of_child) = (of_parent.first()?, of_child.first()?);
        let stray = self.line("A stray descriptor: ")?;
        let mut all: Vec<&str> = of_parent.1.iter().chain(&of_child.1).map(|row| row.0).collect();
        all.sort_by_key(|fd| (fd.len(), *fd));
        all.dedup();
        let rows = |table: &Table<'a>, other: &Table<'a>, given: &str| {
            let rows = all.iter().map(|fd| match target(table, fd) {
                None => self.say("descriptors none", &[("fd", fd)]),
                Some(file) => {
                    let look = if [stray, given].contains(fd) { "!" } else { "-" };
                    let to = if target(other, fd) == Some(file) { " >0" } else { "" };
                    Some(format!("{look} {fd}→{}{to}", printable(file)))
                }
            });
            Some(rows.collect::<Option<Vec<_>>>()?.join("\n"))
        };
        let (left, right) = (rows(of_parent, of_child, "")?, rows(of_child, of_parent, "3")?);
        let point = match (target(of_child, stray), target(of_child, "3")) {
            (Some(_), _) => self.say("descriptors leaked", &[]),
            (None, file) => self.say("descriptors given", &[("file", &printable(file?))]),
        };
        let point = point?;
        let values = [("left", &left as &dyn Display), ("right", &right), ("point", &point)];
        self.idea("descriptors", vec![self.frame(of_child.0, "descriptors", &values)?])
    }
}

/// Whether this set of signals has SIGCHLD.
fn has(status: &str, set: &str) -> Option<bool> {
    let set = status.lines().find_map(|line| line.strip_prefix(set))?;
    Some(u64::from_str_radix(set.trim(), 16).ok()? & SIGCHLD != 0)
}
