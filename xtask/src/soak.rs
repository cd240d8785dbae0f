//! `cargo xtask soak`: the echo server under mixed load for minutes, while its workers are killed and
//! it is upgraded and resized; and what is lost or left.

mod blame;
mod chaos;
mod clients;
mod control;
mod servers;
mod session;

use std::fs;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::Serialize;

use self::blame::Serves;
use self::chaos::Chaos;
use self::clients::{Clients, Errors};
use self::servers::Servers;
use crate::bench::{Linking, built};
use crate::census;
use crate::cmd::soak::{Model, Soak};
use crate::guarded::{become_subreaper, say};
use crate::model::failure::Failure;
use crate::runner::programs;
use crate::worker::cleanup;

pub(crate) use self::control::serve as control;

/// The name of the entry of the control.
pub(crate) const CONTROL: &str = "xtask-soak-control";

/// The load lasts this long between two rests, or a fifth of the whole if that is shorter.
const PHASE: Duration = Duration::from_secs(20);

/// But not shorter than this.
const SHORTEST_PHASE: Duration = Duration::from_secs(1);

/// Load before the first rest, without kills and upgrades, so that the server has what it needs.
const WARM_UP: Duration = Duration::from_secs(1);

/// At a rest, the server has this long to become what it was at the first.
const RESTS_WITHIN: Duration = Duration::from_secs(15);

/// At TERM a server without sessions ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// As many sentences about each kind of fault are printed.
const SENTENCES: usize = 5;

/// Soaks what was asked for.
pub(crate) fn run(options: &Soak) -> Result<(), Failure> {
    become_subreaper()?;
    let folder = programs::target_folder().join("soak");
    fs::create_dir_all(&folder).map_err(|error| Failure::writing(folder.display(), &error))?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let subjects = subjects(options, &folder)?;
    say(&format!(
        "{} s for each of {} servers, --seed {seed}; logs are in {}",
        options.seconds,
        subjects.len(),
        folder.display()
    ));
    if !options.json {
        print(&Row::heading())?;
    }
    let mut failed = Vec::new();
    for subject in subjects {
        let row = soak(&subject, &folder, options.seconds, seed);
        let _ = cleanup::kill_and_reap_all(); // what is left after that is told of at the end
        if options.json {
            let line = serde_json::to_string(&row).map_err(io::Error::from);
            print(&(line.map_err(|error| Failure::writing("stdout", &error))? + "\n"))?;
        } else {
            print(&row.text())?;
        }
        if !row.held {
            failed.push(subject.name);
        }
    }
    match failed.as_slice() {
        [] => {
            say("Nothing was lost silently, nothing grew, and nothing was left.");
            Ok(())
        }
        failed => Err(Failure::Failed(format!(
            "failed: {}; again with --seed {seed}",
            failed.join(", ")
        ))),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes());
    let written = written.and_then(|()| stdout.flush());
    written.map_err(|error| Failure::writing("stdout", &error))
}

/// What is soaked.
struct Subject {
    name: String,
    /// `None` is the control.
    server: Option<(Model, PathBuf)>,
}

/// Builds the server, unless only the control is wanted.
fn subjects(options: &Soak, folder: &Path) -> Result<Vec<Subject>, Failure> {
    if options.control {
        let name = "control".to_owned();
        return Ok(vec![Subject { name, server: None }]);
    }
    let args = ["--release", "--package", "echo-server", "--bin"];
    let program =
        built(folder, &args, "echo-server", Linking::Dynamic).map_err(Failure::Missing)?;
    let models = match options.models.as_slice() {
        [] => Model::value_variants(),
        models => models,
    };
    let subject = |model: &Model| Subject {
        name: name(*model),
        server: Some((*model, program.clone())),
    };
    Ok(models.iter().map(subject).collect())
}

/// As on the command line.
fn name(model: Model) -> String {
    let value = model.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

/// Soaks one server, and says what came of it.
fn soak(subject: &Subject, folder: &Path, seconds: f64, seed: u64) -> Row {
    say(&format!("{}:", subject.name));
    let mut row = Row {
        server: subject.name.clone(),
        seed,
        ..Row::default()
    };
    let began = Instant::now();
    match Run::start(subject, folder, seed) {
        Ok(mut run) => {
            if let Err(why) = run.play(Duration::from_secs_f64(seconds)) {
                row.faults.push(why); // and the soak of this server ends here
            }
            run.fill(&mut row);
        }
        Err(why) => row.faults.push(why),
    }
    match servers::descendants() {
        Ok(left) => row.left_over = left.len(),
        Err(why) => row.faults.push(why),
    }
    row.seconds = began.elapsed().as_secs_f64();
    row.judge();
    row
}

/// One server under load.
struct Run {
    servers: Servers,
    clients: Clients,
    /// The control has none: it does not take the signals.
    chaos: Option<Chaos>,
    serves: Serves,
    /// At the first rest and the last.
    rests: Option<(Rest, Rest)>,
    /// Sentences about errors that no kill explains.
    unexplained: Vec<String>,
    faults: Vec<String>,
}

/// What there is of the server when it has no clients.
#[derive(Clone, Copy)]
struct Rest {
    /// All processes that descend from us.
    processes: usize,
    /// Of all of them.
    descriptors: usize,
    memory_kib: u64,
}

impl Run {
    fn start(subject: &Subject, folder: &Path, seed: u64) -> Result<Self, String> {
        let servers = match &subject.server {
            Some((model, program)) => {
                let log = folder.join(format!("{}.stderr", subject.name));
                Servers::start(program, &["0", "--model", &name(*model)], &log)?
            }
            None => start_control()?,
        };
        let clients = Clients::new(servers.address, seed);
        let model = subject.server.as_ref().map(|(model, _)| *model);
        Ok(Self {
            servers,
            clients: clients.map_err(|error| format!("cannot make an epoll: {error}"))?,
            chaos: model.map(|model| Chaos::new(model, seed)),
            serves: match model {
                Some(Model::Thread | Model::Multiplex) => Serves::All,
                _ => Serves::One,
            },
            rests: None,
            unexplained: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// Load and rest in turns, and then TERM. An error says why it could not go on.
    fn play(&mut self, length: Duration) -> Result<(), String> {
        self.load(WARM_UP, false)?;
        self.rest()?;
        let phase = (length / 5).clamp(SHORTEST_PHASE, PHASE);
        let mut left = length;
        while !left.is_zero() {
            let now = phase.min(left);
            self.load(now, true)?;
            self.rest()?;
            left -= now;
            self.say_how_far(length - left);
        }
        if !self.servers.current.signal(Signal::SIGTERM) {
            return Err("cannot send TERM to the server".to_owned());
        }
        self.servers.await_end(ENDS_WITHIN)
    }

    /// Sessions begin for this long, and then all of them end.
    fn load(&mut self, length: Duration, with_chaos: bool) -> Result<(), String> {
        let began = Instant::now();
        if let Some(chaos) = &mut self.chaos {
            chaos.begin();
        }
        loop {
            let may_begin = began.elapsed() < length;
            if !may_begin && self.clients.are_at_rest() {
                break;
            }
            if let Some(chaos) = self.chaos.as_mut().filter(|_| may_begin && with_chaos) {
                chaos.step(&mut self.servers)?;
            }
            self.look()?;
            let stepped = self.clients.step(may_begin);
            stepped.map_err(|error| format!("cannot watch a connection: {error}"))?;
        }
        self.explain_errors();
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        if self.servers.look()?
            && let Some(chaos) = &mut self.chaos
        {
            chaos.server_was_replaced();
        }
        Ok(())
    }

    fn explain_errors(&mut self) {
        let kills = self
            .chaos
            .as_mut()
            .map(|chaos| std::mem::take(&mut chaos.kills));
        let broken = std::mem::take(&mut self.clients.broken);
        let left = blame::unexplained(broken, &kills.unwrap_or_default(), self.serves);
        self.unexplained
            .extend(left.into_iter().map(|broken| broken.sentence));
    }

    /// Waits until the server is what it was at the first rest, and notes what it is.
    fn rest(&mut self) -> Result<(), String> {
        // Servers that were replaced end now, because no client has a session.
        while self.servers.is_upgrading() || !self.servers.old.is_empty() {
            self.pause()?; // which fails if it takes too long
        }
        let began = Instant::now();
        let mut last = None;
        loop {
            self.pause()?;
            let has_its_pool = match &mut self.chaos {
                Some(chaos) => chaos.restore_pool(&self.servers),
                None => true,
            };
            let now = (servers::descendants()?.len(), self.descriptors()?);
            let is_steady = last.replace(now) == Some(now);
            let is_as_first = self
                .rests
                .is_none_or(|(first, _)| (first.processes, first.descriptors) == now);
            let is_late = began.elapsed() > RESTS_WITHIN;
            if is_late || has_its_pool && is_steady && is_as_first {
                break;
            }
        }
        let (processes, descriptors) = last.unwrap_or_default();
        let rest = Rest {
            processes,
            descriptors,
            memory_kib: census::memory_kib(self.servers.current.pid)?,
        };
        let (first, _) = *self.rests.get_or_insert((rest, rest));
        self.rests = Some((first, rest));
        self.faults.extend(rest.growth_since(first));
        Ok(())
    }

    /// For longer than the shortest time between two looks.
    fn pause(&mut self) -> Result<(), String> {
        std::thread::sleep(Duration::from_millis(60));
        self.look()
    }

    /// Of all processes of the current server, which may end while we count.
    fn descriptors(&self) -> Result<usize, String> {
        let tree = census::tree(self.servers.current.pid)?;
        let counts = tree.into_iter().map(census::descriptors);
        Ok(counts.filter_map(Result::ok).sum())
    }

    fn say_how_far(&self, loaded: Duration) {
        let tally = &self.clients.tally;
        say(&format!(
            "  {:.0} s: {} sessions, {} errors, {} silent losses",
            loaded.as_secs_f64(),
            tally.sessions(),
            tally.errors.sum(),
            tally.losses.len()
        ));
    }

    /// What came of it.
    fn fill(self, row: &mut Row) {
        let tally = self.clients.tally;
        row.sessions = tally.sessions();
        row.complete = tally.complete;
        row.given_up = tally.given_up;
        row.bytes_compared = tally.bytes_compared;
        row.errors_unexplained = self.unexplained.len();
        row.silent_losses = tally.losses.len();
        row.wrong = tally.wrong.len();
        row.errors = tally.errors;
        if let Some(chaos) = self.chaos {
            row.kills = chaos.counts.kills;
            row.resizes = chaos.counts.resizes;
        }
        row.upgrades = self.servers.upgrades;
        row.zombies = self.servers.zombies_that_stayed;
        if let Some((first, last)) = self.rests {
            row.memory_first_kib = first.memory_kib;
            row.memory_last_kib = last.memory_kib;
        }
        row.faults.extend(some("silent loss", tally.losses));
        row.faults.extend(some("wrong bytes", tally.wrong));
        row.faults
            .extend(some("no kill explains", self.unexplained));
        row.faults.extend(self.faults);
        row.faults.extend(self.servers.faults);
    }
}

/// The first of these sentences.
fn some(what: &str, sentences: Vec<String>) -> Vec<String> {
    let first = sentences.into_iter().take(SENTENCES);
    first
        .map(|sentence| format!("{what}: {sentence}"))
        .collect()
}

fn start_control() -> Result<Servers, String> {
    let process = reexec::command(CONTROL)
        .stdout(reexec::Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // It is waited for by its number, as any server, and not by this handle.
    let process = ManuallyDrop::new(process);
    let stdout = process.take_stdout().ok_or("the control has no stdout")?;
    Servers::listening(process.id() as i32, stdout.into())
}

impl Rest {
    /// Sentences about what is not as it was, or much more than that.
    fn growth_since(&self, first: Rest) -> Vec<String> {
        let mut faults = Vec::new();
        for (what, now, then) in [
            ("processes", self.processes, first.processes),
            ("descriptors", self.descriptors, first.descriptors),
        ] {
            if now != then {
                faults.push(format!("at a rest: {now} {what}, at the first {then}"));
            }
        }
        let (now, then) = (self.memory_kib, first.memory_kib);
        if now > memory_bound(then) {
            faults.push(format!(
                "at a rest: {now} KiB of memory, at the first {then}"
            ));
        }
        faults
    }
}

/// A heap does not give everything back: so some more than at the first rest is no growth.
fn memory_bound(first_kib: u64) -> u64 {
    first_kib + first_kib / 2 + 2 * 1024
}

/// What came of one server, and a line of `--json`.
#[derive(Default, Serialize)]
#[serde(tag = "kind", rename = "soak")]
struct Row {
    server: String,
    seed: u64,
    seconds: f64,
    sessions: u64,
    /// All bytes came back, and then the end of the stream.
    complete: u64,
    bytes_compared: u64,
    errors: Errors,
    errors_unexplained: usize,
    given_up: u64,
    silent_losses: usize,
    wrong: usize,
    kills: u64,
    upgrades: u64,
    resizes: u64,
    memory_first_kib: u64,
    memory_last_kib: u64,
    zombies: u64,
    left_over: usize,
    /// Sentences; of each kind only the first few.
    faults: Vec<String>,
    held: bool,
}

impl Row {
    fn judge(&mut self) {
        if self.zombies > 0 {
            let sentence = format!("{} zombies stayed for longer than 1 s", self.zombies);
            self.faults.push(sentence);
        }
        if self.left_over > 0 {
            self.faults
                .push(format!("{} processes were left", self.left_over));
        }
        if self.complete == 0 {
            self.faults
                .push("not a single session was complete".to_owned());
        }
        self.held = self.faults.is_empty();
    }

    fn heading() -> String {
        "Sessions end complete, in an error, or given up by the client. Memory: PSS of all processes \
         at the first rest and the last.\n\n"
            .to_owned()
            + &columns([
                "", "sessions", "MiB", "errors", "given up", "losses", "wrong", "kills", "upgrades",
                "resizes", "KiB first", "last", "zombies", "left",
            ])
    }

    fn text(&self) -> String {
        let mib = self.bytes_compared >> 20;
        let numbers = [
            self.sessions,
            mib,
            self.errors.sum(),
            self.given_up,
            self.silent_losses as u64,
            self.wrong as u64,
            self.kills,
            self.upgrades,
            self.resizes,
            self.memory_first_kib,
            self.memory_last_kib,
            self.zombies,
            self.left_over as u64,
        ]
        .map(|number| number.to_string());
        let mut cells = [""; 14];
        cells[0] = &self.server;
        for (cell, number) in cells[1..].iter_mut().zip(&numbers) {
            *cell = number;
        }
        let mut out = columns(cells);
        if self.errors.sum() > 0 {
            out += &format!("  errors: {}\n", self.errors.by_kind());
        }
        for fault in &self.faults {
            out += &format!("  FAILED: {fault}\n");
        }
        out
    }
}

fn columns(cells: [&str; 14]) -> String {
    const WIDTHS: [usize; 14] = [9, 9, 7, 7, 9, 7, 6, 6, 9, 8, 10, 6, 8, 5];
    let mut line: String = cells
        .iter()
        .zip(WIDTHS)
        .enumerate()
        .map(|(index, (cell, width))| match index {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        })
        .collect();
    line.push('\n');
    line
}
