//! `bench spawn`: measures the time from the spawn of a child that does nothing until it is reaped, by us
//! and by our rivals, from parents of several sizes.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use xtask_bench_options::BenchSpawn;

use crate::measure::machine::{Machine, meminfo_mib};
use crate::measure::{median, ndjson};
use crate::output::{Failure, create_folder, print, say, write_file};
use crate::plot::lines::{self, Line};
use crate::programs::{
    GET_C, GET_GO, GET_RUST, Linking, Missing, cargo_build, compile_c, compile_go, target_folder,
};

/// How much the parents hold, in MiB.
const SIZES: [usize; 3] = [1, 512, 4096];

/// What the plot shows as ours, and what it leaves out.
const OURS: [&str; 2] = ["reexec", "template"];
const LEFT_OUT: [&str; 7] = [
    "reexec, every setting",
    "template, every setting",
    "typed call",
    "job",
    "job of /bin/true",
    "template, job of /bin/true",
    "std Command of /bin/true",
];

/// The way that all are compared with: it has its turn right before each.
const REFERENCE: &str = "std";

/// Turns that each way gets, and children in each turn. Fewer where a child takes long.
const TURNS: usize = 15;
const CHILDREN: usize = 20;
const CHILDREN_BY_FORK: usize = 2;

/// A way to start a child.
#[derive(Clone, Copy)]
struct Way {
    /// What its program calls it.
    key: &'static str,
    name: &'static str,
    forks: bool,
}

impl Way {
    const fn without_fork(key: &'static str, name: &'static str) -> Self {
        let forks = false;
        Self { key, name, forks }
    }

    const fn with_fork(key: &'static str, name: &'static str) -> Self {
        let forks = true;
        Self { key, name, forks }
    }
}

const RUST: &[Way] = &[
    Way::without_fork("reexec", "reexec"),
    Way::without_fork("reexec-all", "reexec, every setting"),
    Way::without_fork("template", "template"),
    Way::without_fork("template-all", "template, every setting"),
    Way::without_fork("call", "typed call"),
    Way::without_fork("job", "job"),
    Way::without_fork("job-foreign", "job of /bin/true"),
    Way::without_fork("template-job-foreign", "template, job of /bin/true"),
    Way::without_fork(REFERENCE, "std Command"),
    Way::without_fork("std-foreign", "std Command of /bin/true"),
    Way::with_fork("std-uid", "std Command that has to fork"),
];

const C: &[Way] = &[
    Way::with_fork("fork-exec", "C fork + exec"),
    Way::without_fork("vfork-exec", "C vfork + exec"),
    Way::without_fork("posix-spawn", "C posix_spawn"),
];

const GO: &[Way] = &[Way::without_fork("run", "Go, as moby/sys reexec")];

/// A program that starts itself, in one or more ways.
struct Program {
    path: PathBuf,
    linking: &'static str,
    ways: &'static [Way],
}

/// What came out for one way and one size.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "spawn")]
struct Measured {
    way: &'static str,
    linking: &'static str,
    parent_mib: usize,
    median_us: f64,
    /// The median over the turns of the processor time for each child: the parent's, the child's, and
    /// that of a helper process.
    processor_us: f64,
    /// The median of what each turn took, divided by what the reference took right before.
    ratio_to_std: f64,
    children: usize,
}

/// How long a CPUID instruction takes. Under a hypervisor it is slow, and the start of a program
/// executes dozens: they can be most of the time of a spawn.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "cpuid")]
struct Cpuid {
    us: f64,
}

/// Everything that `--json` prints, a line each.
struct Results {
    machine: Machine,
    /// How long a CPUID instruction takes.
    cpuid: Option<Cpuid>,
    missing: Vec<Missing>,
    sizes: Vec<usize>,
    measured: Vec<Measured>,
}

/// Measures the spawns, draws the plot, and prints the results.
pub(crate) fn run(options: &BenchSpawn) -> Result<(), Failure> {
    let folder = target_folder().map_err(Failure::missing)?.join("bench");
    create_folder(&folder)?;
    let (programs, missing) = programs(&folder)?;
    let cpuid = Cpuid::measure(&programs);
    let sizes = sizes();
    let mut measured = Vec::new();
    for &size in &sizes {
        for program in &programs {
            say(&format!("{} MiB, {}, {}", size, program.ways[0].name, program.linking));
            measured.extend(measure(&programs[0], program, size).map_err(|error| {
                Failure::missing(format!("{} failed: {error}", program.path.display()))
            })?);
        }
    }
    let results = Results { machine: Machine::here(), cpuid, missing, sizes, measured };
    let svg = options.svg.clone();
    let svg = svg.unwrap_or_else(|| folder.join("spawn.svg"));
    write_file(&svg, &results.plot())?;
    say(&format!("the plot is in {}", svg.display()));
    print(&match options.json {
        true => results.json(),
        false => results.table(),
    })
}

/// Returns those of [`SIZES`] for which there is memory: two parents hold it at a time.
fn sizes() -> Vec<usize> {
    const FOR_OTHERS: usize = 1024;
    let largest = meminfo_mib("MemAvailable:").saturating_sub(FOR_OTHERS) / 2;
    let mut sizes: Vec<usize> = SIZES.iter().map(|size| (*size).min(largest).max(1)).collect();
    sizes.dedup();
    if sizes != SIZES {
        say(&format!("memory is short: parents hold {sizes:?} MiB instead of {SIZES:?}"));
    }
    sizes
}

/// Builds the programs: ours first, which must be there. Rivals may be missing.
fn programs(folder: &Path) -> Result<(Vec<Program>, Vec<Missing>), Failure> {
    let options = ["--features", "serde", "--example"];
    let rust = |linking| cargo_build("reexec", &options, "spawn-bench", linking, folder);
    let c = |name: &str, flags: &[&str]| {
        let path = folder.join(name);
        compile_c("spawn.c", &path, flags).map(|()| path)
    };
    let go = folder.join("spawn-go");
    let go = compile_go("spawn.go", &go).map(|()| go);
    let ours = Program {
        path: rust(Linking::Dynamic).map_err(Failure::missing)?,
        linking: "dynamic",
        ways: RUST,
    };
    let mut programs = vec![ours];
    let mut missing = Vec::new();
    for (what, built, linking, ways, how_to_get_it) in [
        ("Rust, static", rust(Linking::Static), "static", RUST, GET_RUST),
        ("C", c("spawn-c-dynamic", &[]), "dynamic", C, GET_C),
        ("C", c("spawn-c-static", &["-static"]), "static", C, GET_C),
        ("Go", go, "static", GO, GET_GO),
    ] {
        match built {
            Ok(path) => programs.push(Program { path, linking, ways }),
            Err(why) => missing.push(Missing { what: what.to_owned(), why, how_to_get_it }),
        }
    }
    Ok((programs, missing))
}

/// Lets the reference and the program's ways take turns.
fn measure(reference: &Program, program: &Program, size: usize) -> io::Result<Vec<Measured>> {
    let mut standard = Parent::start(reference, size)?;
    let mut parent = Parent::start(program, size)?;
    let mut times = vec![Vec::new(); program.ways.len()];
    let mut processor_times = vec![Vec::new(); program.ways.len()];
    let mut ratios = vec![Vec::new(); program.ways.len()];
    for _ in 0..TURNS {
        for (index, way) in program.ways.iter().enumerate() {
            let count = if way.forks { CHILDREN_BY_FORK } else { CHILDREN };
            let before = standard.spawn(REFERENCE, CHILDREN)?;
            let turn = parent.spawn(way.key, count)?;
            ratios[index].push(median(&turn.times) / median(&before.times));
            processor_times[index].push(turn.processor_time / count as f64);
            times[index].extend(turn.times);
        }
    }
    let measured = program.ways.iter().enumerate().map(|(index, way)| Measured {
        way: way.name,
        linking: program.linking,
        parent_mib: size,
        median_us: median(&times[index]) / 1000.0,
        processor_us: median(&processor_times[index]) / 1000.0,
        ratio_to_std: median(&ratios[index]),
        children: times[index].len(),
    });
    Ok(measured.collect())
}

impl Cpuid {
    /// Has a C program measure it; `None` if there is none, or if the processor has no such instruction.
    fn measure(programs: &[Program]) -> Option<Self> {
        let program = programs.iter().find(|program| program.ways[0].key == C[0].key)?;
        let output = Command::new(&program.path).arg("cpuid").output().ok()?;
        let nanoseconds: f64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
        Some(Self { us: nanoseconds / 1000.0 })
    }
}

/// What some children took, in nanoseconds.
struct Turn {
    /// From the spawn of each child until it was reaped.
    times: Vec<f64>,
    /// Of all processors, for all children.
    processor_time: f64,
}

/// A program that holds so much memory. It ends with its stdin, and so with us.
struct Parent {
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Parent {
    fn start(program: &Program, mib: usize) -> io::Result<Self> {
        let mut process = Command::new(&program.path)
            .arg(mib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let answers = process.stdout.take().map(BufReader::new);
        let answers = answers.ok_or_else(|| io::Error::other("it has no stdout"))?;
        Ok(Self { process, requests, answers })
    }

    /// Has it start so many children.
    fn spawn(&mut self, way: &str, count: usize) -> io::Result<Turn> {
        if let Some(requests) = &mut self.requests {
            writeln!(requests, "{way} {count}")?;
        }
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let mut times: Vec<f64> =
            answer.split_whitespace().filter_map(|time| time.parse().ok()).collect();
        match times.pop() {
            Some(processor_time) if times.len() == count => Ok(Turn { times, processor_time }),
            _ => Err(io::Error::other(format!("no answer to {way}"))),
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.process.wait();
    }
}

impl Results {
    fn json(&self) -> String {
        let mut lines = vec![serde_json::to_string(&self.machine)];
        lines.extend(self.cpuid.iter().map(serde_json::to_string));
        lines.extend(self.missing.iter().map(serde_json::to_string));
        lines.extend(self.measured.iter().map(serde_json::to_string));
        ndjson(lines)
    }

    /// Returns a row for each way and linking, in the order of measuring.
    fn rows(&self) -> Vec<(&'static str, &'static str)> {
        let mut rows = Vec::new();
        for measured in &self.measured {
            if !rows.contains(&(measured.way, measured.linking)) {
                rows.push((measured.way, measured.linking));
            }
        }
        rows
    }

    fn of(&self, row: (&str, &str)) -> Vec<&Measured> {
        self.measured.iter().filter(|measured| (measured.way, measured.linking) == row).collect()
    }

    fn table(&self) -> String {
        let mut out = self.machine.line();
        if let Some(Cpuid { us }) = self.cpuid {
            let _ = writeln!(out, "a CPUID instruction takes {us:.1} microseconds");
        }
        out += "microseconds from spawn to reaped / of processor time, medians; in brackets, the ratio \
                of the first to std Command\n\n";
        let _ = write!(out, "{:29} {:8}", "parent holds", "linking");
        for size in &self.sizes {
            let _ = write!(out, "{:>26}", format!("{size} MiB"));
        }
        out.push('\n');
        for row in self.rows() {
            let _ = write!(out, "{:29} {:8}", row.0, row.1);
            for measured in self.of(row) {
                let Measured { median_us, processor_us, ratio_to_std, .. } = measured;
                let figures = format!("{median_us:.0} / {processor_us:.0} ({ratio_to_std:.2})");
                let _ = write!(out, "{figures:>26}");
            }
            out.push('\n');
        }
        for missing in &self.missing {
            let _ = writeln!(out, "\n{missing}");
        }
        out
    }

    /// Draws the dynamic ones, and Go: static linking moves a line up or down, and changes nothing else.
    fn plot(&self) -> String {
        let rows = self.rows().into_iter().filter(|(name, linking)| {
            (*linking == "dynamic" || name.starts_with("Go")) && !LEFT_OUT.contains(name)
        });
        let lines: Vec<Line> = rows
            .map(|row| Line {
                name: row.0,
                is_ours: OURS.contains(&row.0),
                values: self.of(row).iter().map(|measured| measured.median_us).collect(),
            })
            .collect();
        let sizes: Vec<String> = self.sizes.iter().map(|size| format!("{size} MiB")).collect();
        lines::draw("Starting a child and reaping it, by the memory of the parent", &sizes, &lines)
    }
}
