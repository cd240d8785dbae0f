//! The ideas that are drawn, each from the events of its scenario. A run that broke off, or a recording
//! from before these things were read, gives none.

use std::fmt::Display;

use crate::evidence::Evidence;
use crate::model::bilingual::Language;
use crate::model::event::{Event, What};
use crate::probe::ps::{self, Row as PsRow};
use crate::view::idea::{Frame, Idea, LOST, Node, Object, PLAIN, POINT, Row};
use crate::view::text::printable;

/// A line for each text: its key, in English, in Chinese.
const TEXTS: &str = include_str!("ideas.txt");

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

/// The descriptors of a process: when they were read, and what each is.
type Table<'a> = (f64, Vec<(&'a str, &'a str)>);

fn target<'a>(table: &Table<'a>, number: &str) -> Option<&'a str> {
    table.1.iter().find(|row| row.0 == number).map(|row| row.1)
}

fn row(text: String, look: &'static str, to: Option<usize>) -> Row {
    Row { text, look, to }
}

impl<'a> Run<'a> {
    /// The text with this key, with these in the places of its `{}`.
    fn say(self, key: &str, values: &[&dyn Display]) -> String {
        let mut texts = TEXTS.lines().filter_map(|line| line.split_once(": "));
        let both = texts.find(|text| text.0 == key).and_then(|text| text.1.split_once(" | "));
        let (english, chinese) = both.unwrap_or_default();
        let text = if self.language == Language::English { english } else { chinese };
        let fill = |text: String, it: &&dyn Display| text.replacen("{}", &it.to_string(), 1);
        values.iter().fold(text.to_owned(), fill)
    }

    fn pid(self, who: &str) -> Option<i32> {
        Evidence(self.events).process(who).ok().map(|process| process.pid)
    }

    fn line(self, beginning: &str) -> Option<&'a str> {
        Evidence(self.events).line(beginning).ok()
    }

    fn time_of(self, is_it: impl Fn(&What) -> bool) -> Option<f64> {
        self.events.iter().find(|event| is_it(&event.what)).map(|event| event.t)
    }

    fn node(self, name: &str, pid: i32, rows: Vec<Row>) -> Node {
        Node { name: self.say(name, &[]), pid: format!("pid {pid}"), rows }
    }

    fn frame(self, title: &str, t: f64, sides: [Vec<Node>; 2], point: String) -> Frame {
        Frame { title: self.say(title, &[]), t, sides, objects: Vec::new(), point }
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
            } else if let Some(number) = place.strip_prefix("fd/")
                && let Some(table) = tables.last_mut()
            {
                table.1.push((number, text));
            }
        }
        tables
    }

    /// What net/tcp says of a process's sockets: local and remote address, state, inode.
    fn sockets(self, pid: i32) -> impl Iterator<Item = [&'a str; 4]> {
        self.readings_of(pid, "net/tcp").into_iter().filter_map(|(_, line)| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            Some([*words.get(1)?, *words.get(2)?, *words.get(3)?, *words.get(9)?])
        })
    }

    fn signals(self) -> Option<Idea> {
        let parent = self.pid("parent")?;
        let statuses = self.readings_of(parent, "status");
        let [(before, blocked), (after, unblocked)] = statuses[..] else { return None };
        has_sigchld(blocked, "SigBlk:").filter(|is_blocked| *is_blocked)?;
        let mut zombies = self.events.iter().filter_map(|event| match &event.what {
            What::Snapshot(it) => Some(ps::rows(&it.text).into_iter().filter(PsRow::is_zombie)),
            _ => None,
        });
        let ended: Vec<i32> = zombies.next()?.map(|row| row.pid).collect();
        let left: Vec<i32> = zombies.next()?.map(|row| row.pid).collect();
        let (came, removed) = (self.line("Signals that came: ")?, self.line("Removed: ")?);
        let children = |zombies: &[i32], to| {
            let rows = ended.iter().map(|pid| match zombies.contains(pid) {
                true => row(format!("Z {pid}"), PLAIN, to),
                false => row(self.say("reaped", &[pid]), LOST, None),
            });
            let (name, pid) = (&[&ended.len() as &dyn Display], &[&zombies.len() as &dyn Display]);
            let (name, pid) = (self.say("children", name), self.say("zombies", pid));
            vec![Node { name, pid, rows: rows.collect() }]
        };
        let flag = |status| {
            let is_pending = has_sigchld(status, "ShdPnd:")? || has_sigchld(status, "SigPnd:")?;
            let words = self.say(if is_pending { "pending" } else { "not-pending" }, &[]);
            Some(vec![Object::flag(is_pending, words)])
        };
        let (look, point) =
            if left.is_empty() { (PLAIN, "all-reaped") } else { (POINT, "not-all-reaped") };
        let blocks = vec![row(self.say("blocks", &[]), PLAIN, Some(0))];
        let received = vec![
            row(self.say("signals", &[&came]), POINT, Some(0)),
            row(self.say("removed", &[&removed]), look, None),
        ];
        let first = [children(&ended, Some(0)), vec![self.node("parent", parent, blocks)]];
        let second = [children(&left, None), vec![self.node("parent", parent, received)]];
        let one_flag = self.say("one-flag", &[&ended.len()]);
        let point = self.say(point, &[&came, &ended.len(), &removed]);
        let frames = vec![
            Frame { objects: flag(blocked)?, ..self.frame("held-back", before, first, one_flag) },
            Frame { objects: flag(unblocked)?, ..self.frame("come", after, second, point) },
        ];
        Some(Idea { frames, sources: self.say("signals-from", &[]) })
    }

    fn half_close(self) -> Option<Idea> {
        let (parent, child) = (self.pid("parent")?, self.pid("child")?);
        let (table, of_child) = (self.tables(parent), self.tables(child));
        let (table, of_child) = (table.first()?, of_child.first()?);
        let fd = self.line("Parent's descriptor: ")?;
        let socket = target(of_child, fd)?;
        let is_it = |it: &[&str; 4]| socket == format!("socket:[{}]", it[3]);
        let [local, remote, state, _] = self.sockets(child).find(is_it)?;
        let clients = self.sockets(parent).find(|it| it[0] == remote && it[1] == local)?[3];
        let clients = table.1.iter().find(|row| row.1 == format!("socket:[{clients}]"))?.0;
        let frame = |title: &str, t: f64, held: [bool; 2], is_ended: bool, point: &str| {
            let look = if point == "in-vain" { POINT } else { PLAIN };
            let rows = |is_held| match is_held {
                true => vec![row(self.say("fd", &[&fd]), look, Some(0))],
                false => vec![row(self.say("fd-closed", &[&fd]), LOST, None)],
            };
            let names = [("server", parent, held[0]), ("child", child, held[1])];
            let servers = names.map(|(name, pid, is_held)| self.node(name, pid, rows(is_held)));
            let client = vec![row(self.say("fd", &[&clients]), PLAIN, Some(0))];
            let pid = self.say("client-pid", &[&parent]);
            let client = vec![Node { pid, ..self.node("client", parent, client) }];
            let open = [!is_ended, held.contains(&true)]; // to the client, and to the server
            let open = open.map(|it| (self.say(if it { "open" } else { "ended" }, &[]), it));
            let objects = vec![Object::connection(open, self.say("connection", &[]))];
            let sides = [servers.into(), client];
            Frame { objects, ..self.frame(title, t, sides, self.say(point, &[&fd])) }
        };
        let (is_shut, in_parent) = (HAS_ENDED.contains(&state), target(table, fd) == Some(socket));
        let point = match (is_shut, in_parent) {
            (true, _) => "shut",
            (false, true) => "both-hold",
            (false, false) => "child-holds",
        };
        let printed =
            |line| self.time_of(|it| matches!(it, What::Line { text, .. } if text == line));
        let seen = printed("The client has seen the end.")?;
        let in_vain = printed("The client has waited for the end, in vain.");
        let closed = printed("The parent has closed its copy, too.");
        let ended = match (in_vain, closed) {
            (Some(t), _) => frame("child-ended", t, [true, false], false, "in-vain"),
            (None, Some(_)) => frame("child-ended", seen, [true, false], true, "all-the-same"),
            (None, None) => frame("child-ended", seen, [false, false], true, "no-copy"),
        };
        let mut frames = vec![frame("serves", table.0, [in_parent, true], is_shut, point), ended];
        if in_vain.is_some() {
            frames.push(frame("server-closes", seen, [false, false], true, "last-copy"));
        }
        Some(Idea { frames, sources: self.say("half-close-from", &[]) })
    }

    fn upgrade(self) -> Option<Idea> {
        let (old, new) = (self.pid("server")?, self.pid("new server")?);
        let (of_old, of_new) = (self.tables(old), self.tables(new));
        let (before, after, of_new) = (of_old.first()?, of_old.get(1)?, of_new.first()?);
        let [.., inode] = self.sockets(old).find(|it| it[2] == LISTENS)?;
        let node = |name, pid, table: &Table<'_>| {
            let it = table.1.iter().find(|row| row.1 == format!("socket:[{inode}]"));
            let row = match it {
                Some((fd, _)) => row(self.say("fd", &[fd]), POINT, Some(0)),
                None => row(self.say("none", &[]), LOST, None),
            };
            vec![self.node(name, pid, vec![row])]
        };
        let is_answer = |event: &&Event| matches!(&event.what, What::Client { saw, .. } if saw.starts_with("an answer"));
        let answers = self.events.iter().filter(is_answer).count();
        let point = self.say("new-holds", &[&answers]);
        let first = [node("old", old, before), Vec::new()];
        let second = [node("old", old, after), node("new", new, of_new)];
        let socket =
            || vec![Object::socket(&self.say("listener", &[]), self.say("socket", &[&inode]))];
        let frames = vec![
            self.frame("before", before.0, first, self.say("old-holds", &[])),
            self.frame("after", after.0, second, point),
        ];
        let frames = frames.into_iter().map(|frame| Frame { objects: socket(), ..frame });
        Some(Idea { frames: frames.collect(), sources: self.say("upgrade-from", &[]) })
    }

    fn threads(self) -> Option<Idea> {
        let (parent, copy) = (self.pid("parent")?, self.pid("copy")?);
        let (now, tasks) = *self.readings_of(parent, "task").first()?;
        let (_, of_copy) = *self.readings_of(copy, "task").first()?;
        let (main, other) = tasks.split_once(' ')?;
        let forked =
            self.time_of(|it| matches!(it, What::State { raw } if raw.process.pid == copy))?;
        let (locked, copys) = (self.line("Parent, locked: ")?, self.line("Copy, locked: ")?);
        let (locked, copys) = (locked == "true", copys == "true");
        let thread = |tid: &str, look, to| row(self.say("thread", &[&tid]), look, to);
        let parents = |holds: bool| {
            let (look, to) = if holds { (POINT, Some(0)) } else { (PLAIN, None) };
            let rows = vec![thread(main, PLAIN, None), thread(other, look, to)];
            vec![self.node("parent", parent, rows)]
        };
        let word = |it| self.say(if it { "locked" } else { "unlocked" }, &[]);
        let lock = |it, place: &str| Object::lock(it, self.say(place, &[&word(it)]));
        let lost = row(self.say("no-thread", &[&other]), LOST, copys.then_some(1));
        let rows = vec![thread(of_copy, PLAIN, None), lost];
        let second = [parents(locked), vec![self.node("copy", copy, rows)]];
        let points = if copys { ["holds", "for-ever"] } else { ["holds-not", "free"] };
        let [before, after] = points.map(|point| self.say(point, &[&other]));
        let first = self.frame("fork", forked, [parents(copys), Vec::new()], before);
        let second = self.frame("after-fork", now, second, after);
        let frames = vec![
            Frame { objects: vec![Object::lock(copys, word(copys))], ..first },
            Frame { objects: vec![lock(locked, "in-parent"), lock(copys, "in-copy")], ..second },
        ];
        Some(Idea { frames, sources: self.say("threads-from", &[]) })
    }

    fn descriptors(self) -> Option<Idea> {
        let (parent, child) = (self.pid("parent")?, self.pid("child")?);
        let (of_parent, of_child) = (self.tables(parent), self.tables(child));
        let (of_parent, of_child) = (of_parent.first()?, of_child.first()?);
        let stray = self.line("A stray descriptor: ")?;
        let point = match (target(of_child, stray), target(of_child, "3")) {
            (Some(_), _) => self.say("leaked", &[&stray]),
            (None, Some(file)) => self.say("given", &[&printable(file), &stray]),
            (None, None) => return None,
        };
        let all = of_parent.1.iter().chain(&of_child.1).map(|row| row.0);
        let mut numbers: Vec<&str> = all.collect();
        numbers.sort_by_key(|number| (number.len(), *number));
        numbers.dedup();
        let side = |name, pid, table| {
            let rows = numbers.iter().map(|number| {
                let here = target(table, number);
                let is_in_both =
                    here.is_some() && target(of_parent, number) == target(of_child, number);
                let is_point = *number == stray || *number == "3" && pid == child;
                let to = (pid == parent && is_in_both).then_some(0);
                match here {
                    Some(file) => row(
                        format!("{number}→{}", printable(file)),
                        if is_point { POINT } else { PLAIN },
                        to,
                    ),
                    None => row(self.say("not-open", &[number]), LOST, None),
                }
            });
            vec![self.node(name, pid, rows.collect())]
        };
        let sides = [side("parent", parent, of_parent), side("command", child, of_child)];
        let frames = vec![self.frame("tables", of_child.0, sides, point)];
        Some(Idea { frames, sources: self.say("descriptors-from", &[]) })
    }
}

/// Whether this set of signals has SIGCHLD.
fn has_sigchld(status: &str, set: &str) -> Option<bool> {
    let set = status.lines().find_map(|line| line.strip_prefix(set))?;
    Some(u64::from_str_radix(set.trim(), 16).ok()? & SIGCHLD != 0)
}
