//! The real `ps`: how it is called, and what it prints.
//!
//! Only the `ps` of procps will do: another one has other columns, and other words for the same. We do
//! not draw the table ourselves either: a claim about what `ps` shows could not be judged by it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::model::bilingual::{Text, text};
use crate::model::event::Snapshot;
use crate::model::process::State;
use crate::probe::procfs;

/// Wide enough for the arguments, and for `<defunct>`, whatever the terminal's width.
const WIDTH: &str = "132";
const COLUMNS: &str = "pid,ppid,pgid,sid,stat,wchan:20,comm,args";

/// More than enough, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// How long one that was killed may take to end.
const TIME_TO_END: Duration = Duration::from_secs(1);

/// Between two questions whether it has ended.
const TICK: Duration = Duration::from_millis(1);

/// Lists these processes; `title` is what has come true. With `-p`, and not `ps au` as in the chapter,
/// which shows only processes that have a terminal.
pub(crate) fn snapshot(title: Text, pids: Vec<i32>) -> io::Result<Snapshot> {
    let list: Vec<String> = pids.iter().map(i32::to_string).collect();
    let list = list.join(",");
    let command = format!("LC_ALL=C COLUMNS={WIDTH} ps -o {COLUMNS} -p {list}");
    let mut ps = Command::new("ps");
    ps.env("COLUMNS", WIDTH).args(["-o", COLUMNS, "-p", &list]);
    let output = output(&mut ps)?;
    let snapshot = Snapshot {
        title: title.en.to_owned(),
        title_zh: title.zh.to_owned(),
        pids,
        frozen: false,
        command,
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        exit_code: output.status.code(),
    };
    if !is_complete(&snapshot) {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no table was printed");
        let why = format!("`{}` ended with {}: {said}", snapshot.command, output.status);
        return Err(io::Error::other(why));
    }
    Ok(snapshot)
}

/// Whether `ps` has done what it was asked to: only then is a process that is not listed gone. It
/// always prints a heading, and its exit code is 1 if it lists nobody.
pub(crate) fn is_complete(snapshot: &Snapshot) -> bool {
    let is_headed = snapshot.text.trim_start().starts_with("PID ");
    is_headed && snapshot.exit_code == Some(i32::from(rows(&snapshot.text).is_empty()))
}

/// All that it prints, if it ends in time.
fn output(command: &mut Command) -> io::Result<Output> {
    let mut ps = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("ps cannot be run: {error}")))?;
    // It is read when it has ended: a table fits into a pipe, so `ps` need not wait for a reader.
    let Some(status) = wait_in_time(&mut ps, LIMIT)? else {
        // That it did not end matters more than whether it can be killed. If it cannot, it is a child
        // that has not ended, and is reported with the others at the end.
        let _ = ps.kill();
        let _ = wait_in_time(&mut ps, TIME_TO_END);
        return Err(io::Error::other("ps does not come to an end"));
    };
    Ok(Output {
        stdout: ps.stdout.take().map_or(Ok(Vec::new()), written)?,
        stderr: ps.stderr.take().map_or(Ok(Vec::new()), written)?,
        status,
    })
}

fn wait_in_time(ps: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        let status = ps.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(TICK);
    }
}

/// What is in the pipe. A process that `ps` has left behind may keep its other end open.
fn written(mut stream: impl Read + AsFd) -> io::Result<Vec<u8>> {
    fcntl(&stream, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(text),
    }
}

/// Whether there is a `ps` that can be called like this.
pub(crate) fn check() -> Result<(), String> {
    if !version()?.contains("procps") {
        return Err("this ps is not that of procps".to_owned());
    }
    let own = procfs::own_pid();
    match snapshot(text("", ""), vec![own]) {
        Ok(snapshot) if row(&snapshot.text, own).is_some() => Ok(()),
        Ok(snapshot) => Err(format!("this ps cannot do `{}`", snapshot.command)),
        Err(error) => Err(error.to_string()),
    }
}

/// Its version; empty, if it does not know the option.
pub(crate) fn version() -> Result<String, String> {
    let output = output(Command::new("ps").arg("--version"));
    let output = output.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) pid: i32,
    pub(crate) ppid: i32,
    pub(crate) stat: String,
    pub(crate) wchan: String,
    /// `comm` and `args`.
    pub(crate) rest: String,
}

impl Row {
    pub(crate) fn state(&self) -> State {
        State::from_letter(self.stat.chars().next().unwrap_or('?'))
    }

    pub(crate) fn is_zombie(&self) -> bool {
        self.state() == State::Zombie
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state() == State::Alive
    }
}

pub(crate) fn rows(text: &str) -> Vec<Row> {
    text.lines().filter_map(parse_row).collect()
}

pub(crate) fn row(text: &str, pid: i32) -> Option<Row> {
    rows(text).into_iter().find(|row| row.pid == pid)
}

/// The heading is not a row: its first word is not a number.
pub(crate) fn parse_row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    let pid = words.next()?.parse().ok()?;
    let ppid = words.next()?.parse().ok()?;
    let (_pgid, _sid) = (words.next()?, words.next()?);
    Some(Row {
        pid,
        ppid,
        stat: words.next()?.to_owned(),
        wchan: words.next()?.to_owned(),
        rest: words.collect::<Vec<_>>().join(" "),
    })
}
