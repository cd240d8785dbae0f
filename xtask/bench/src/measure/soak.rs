//! `soak`: the echo server under mixed load for minutes, while its workers are killed and it is upgraded
//! and resized; and what is lost or left.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::Signal;
use xtask_bench_options::{Model, Soak, name};

use crate::load::clients::{Clients, SOAK};
use crate::measure::chaos::Chaos;
use crate::measure::outcome::run_turns;
use crate::measure::soak_result::{SoakResult, heading};
use crate::measure::unexplained_errors::{Serves, unexplained_errors};
use crate::output::{Failure, create_folder, say};
use crate::process::{Census, descendants, memory_kib, tree};
use crate::programs::{Linking, cargo_build, target_folder};
use crate::servers::WARM_UP;
use crate::servers::soaked::{LOOK_EVERY, Servers};

/// The load lasts this long between two rests, or a fifth of the whole if that is shorter.
const PHASE: Duration = Duration::from_secs(20);

/// But not shorter than this.
const SHORTEST_PHASE: Duration = Duration::from_secs(1);

/// At a rest, the server has this long to become what it was at the first.
const RESTS_WITHIN: Duration = Duration::from_secs(15);

/// At TERM a server without sessions ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How many sentences about each kind of fault are printed.
const SENTENCES: usize = 5;

/// Soaks the servers one after the other, and prints what came of each.
pub(crate) fn run(options: &Soak) -> Result<(), Failure> {
    let folder = target_folder().map_err(Failure::missing)?.join("soak");
    create_folder(&folder)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let subjects = subjects(options, &folder).map_err(Failure::missing)?;
    say(&format!(
        "{} s for each of {} servers, --seed {seed}; logs are in {}",
        options.seconds,
        subjects.len(),
        folder.display()
    ));
    let run = |subject: Subject| soak(&subject, &folder, options.seconds, seed);
    run_turns(subjects, run, &heading(), options.json, seed)?;
    say("Nothing was lost silently, nothing grew, and nothing was left.");
    Ok(())
}

/// A server to soak.
struct Subject {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    /// `None` for the control.
    model: Option<Model>,
}

/// Builds the server, unless only the control is wanted. An error is a sentence.
fn subjects(options: &Soak, folder: &Path) -> Result<Vec<Subject>, String> {
    if let Some(fault) = options.control {
        let program = env::current_exe()
            .map_err(|error| format!("cannot find the file of this program: {error}"))?;
        return Ok(vec![Subject {
            name: "control".to_owned(),
            program,
            args: vec!["control".to_owned(), name(fault)],
            model: None,
        }]);
    }
    let server = "echo-server";
    let program = cargo_build(server, &["--bin"], server, Linking::Dynamic, folder)?;
    let models = match options.models.as_slice() {
        [] => Model::value_variants(),
        models => models,
    };
    let subject = |model: &Model| Subject {
        name: name(*model),
        program: program.clone(),
        args: vec!["0".to_owned(), "--model".to_owned(), name(*model)],
        model: Some(*model),
    };
    Ok(models.iter().map(subject).collect())
}

/// Soaks one server.
fn soak(subject: &Subject, folder: &Path, seconds: f64, seed: u64) -> SoakResult {
    say(&format!("{}:", subject.name));
    let mut result = SoakResult { server: subject.name.clone(), seed, ..SoakResult::default() };
    let began = Instant::now();
    match Run::start(subject, folder, seed) {
        Ok(mut run) => {
            if let Err(why) = run.load_and_rest(Duration::from_secs_f64(seconds)) {
                result.faults.push(why); // and the soak of this server ends here
            }
            run.fill(&mut result);
        }
        Err(why) => result.faults.push(why),
    }
    result.left_over = descendants().len();
    result.seconds = began.elapsed().as_secs_f64();
    result.judge();
    result
}

/// One server under load.
struct Run {
    servers: Servers,
    clients: Clients,
    /// The control has none: it does not handle the signals.
    chaos: Option<Chaos>,
    serves: Serves,
    /// At the first rest and the last.
    rests: Option<(Rest, Rest)>,
    /// Sentences about errors that no kill explains.
    unexplained: Vec<String>,
    faults: Vec<String>,
}

/// What there is when the server has no clients.
#[derive(Clone, Copy)]
struct Rest {
    /// Of all processes that descend from us.
    census: Census,
    /// Of the server.
    memory_kib: u64,
}

impl Run {
    fn start(subject: &Subject, folder: &Path, seed: u64) -> Result<Self, String> {
        let log = folder.join(format!("{}.stderr", subject.name));
        let args: Vec<&str> = subject.args.iter().map(String::as_str).collect();
        let servers = Servers::start(&subject.program, &args, &log)?;
        let clients = Clients::new(servers.address, SOAK, seed);
        Ok(Self {
            servers,
            clients: clients.map_err(|error| format!("cannot make an epoll: {error}"))?,
            chaos: subject.model.map(|model| Chaos::new(model, seed)),
            serves: match subject.model {
                Some(Model::Thread | Model::Multiplex) => Serves::All,
                _ => Serves::One,
            },
            rests: None,
            unexplained: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// Loads the server and lets it rest in turns, and then sends TERM. An error says why it could not go on.
    fn load_and_rest(&mut self, length: Duration) -> Result<(), String> {
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
                chaos.step(&mut self.servers);
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
            chaos.on_upgrade();
        }
        Ok(())
    }

    fn explain_errors(&mut self) {
        let kills = match &mut self.chaos {
            Some(chaos) => std::mem::take(&mut chaos.kills),
            None => Vec::new(),
        };
        let broken = std::mem::take(&mut self.clients.broken);
        let left = unexplained_errors(broken, &kills, self.serves);
        self.unexplained.extend(left.into_iter().map(|broken| broken.sentence));
    }

    /// Waits until the server is what it was at the first rest, and notes what it is.
    fn rest(&mut self) -> Result<(), String> {
        // Servers that were replaced end now, because no client has a session.
        while self.servers.is_upgrading() || !self.servers.old.is_empty() {
            self.pause()?; // which fails if it takes too long
        }
        let began = Instant::now();
        let mut last = None;
        let census = loop {
            self.pause()?;
            let has_its_pool = match &mut self.chaos {
                Some(chaos) => chaos.restore_pool(&self.servers),
                None => true,
            };
            let now = Census::of(&descendants());
            let is_steady = last.replace(now) == Some(now);
            let is_as_first = self.rests.is_none_or(|(first, _)| first.census == now);
            let is_late = began.elapsed() > RESTS_WITHIN;
            if is_late || has_its_pool && is_steady && is_as_first {
                break now;
            }
        };
        let rest = Rest { census, memory_kib: memory_kib(&tree(self.servers.current.pid))? };
        let (first, _) = *self.rests.get_or_insert((rest, rest));
        self.rests = Some((first, rest));
        self.faults.extend(rest.growth_since(first));
        Ok(())
    }

    /// Waits until the servers can be looked at again, and does so.
    fn pause(&mut self) -> Result<(), String> {
        thread::sleep(LOOK_EVERY);
        self.look()
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

    /// Adds what came of it.
    fn fill(self, result: &mut SoakResult) {
        let tally = self.clients.tally;
        result.sessions = tally.sessions();
        result.complete = tally.complete;
        result.given_up = tally.given_up;
        result.bytes_compared = tally.bytes_compared;
        result.errors_unexplained = self.unexplained.len();
        result.silent_losses = tally.losses.len();
        result.wrong = tally.wrong.len();
        result.errors = tally.errors;
        if let Some(chaos) = self.chaos {
            result.kills = chaos.counts.kills;
            result.resizes = chaos.counts.resizes;
        }
        result.upgrades = self.servers.upgrades;
        result.zombies = self.servers.zombies_that_stayed;
        if let Some((first, last)) = self.rests {
            result.memory_first_kib = first.memory_kib;
            result.memory_last_kib = last.memory_kib;
        }
        result.faults.extend(some("silent loss", tally.losses));
        result.faults.extend(some("wrong bytes", tally.wrong));
        result.faults.extend(some("no kill explains", self.unexplained));
        result.faults.extend(self.faults);
        result.faults.extend(self.servers.faults);
    }
}

/// Returns the first of these sentences.
pub(super) fn some(what: &str, sentences: Vec<String>) -> Vec<String> {
    let first = sentences.into_iter().take(SENTENCES);
    first.map(|sentence| format!("{what}: {sentence}")).collect()
}

impl Rest {
    /// Returns sentences about what is not as it was, or for memory: much more.
    fn growth_since(&self, first: Rest) -> Vec<String> {
        let mut faults = Vec::new();
        for (what, now, then) in [
            ("processes", self.census.processes, first.census.processes),
            ("descriptors", self.census.descriptors, first.census.descriptors),
        ] {
            if now != then {
                faults.push(format!("at a rest: {now} {what}, at the first {then}"));
            }
        }
        let (now, then) = (self.memory_kib, first.memory_kib);
        if now > memory_bound(then) {
            faults.push(format!("at a rest: {now} KiB of memory, at the first {then}"));
        }
        faults
    }
}

/// A heap does not give everything back: so some more than at the first rest is no growth.
fn memory_bound(first_kib: u64) -> u64 {
    first_kib + first_kib / 2 + 2 * 1024
}
