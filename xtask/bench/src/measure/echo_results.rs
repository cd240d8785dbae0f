//! What comes out of `bench echo`: the figures of each server, the ratios between them, a table, charts.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use xtask_bench_options::{Server as Name, name};

use crate::measure::machine::Machine;
use crate::measure::{median, ndjson, table_line};
use crate::output::{Failure, create_folder, say, write_file};
use crate::plot::bars::{self, Bar, figure};
use crate::process::Census;
use crate::programs::{Linking, Missing};
use crate::servers::compared::Row;

/// Names and widths.
const COLUMNS: [(&str, usize); 15] = [
    ("", 16),
    ("build", 8),
    ("sandbox", 9),
    ("connections/s", 15),
    ("processor", 11),
    ("p50", 8),
    ("p99", 8),
    ("messages/s", 12),
    ("p50", 7),
    ("p99", 7),
    ("bulk MiB/s", 12),
    ("KiB/connection", 16),
    ("zombies", 9),
    ("fds", 5),
    ("procs", 6),
];

/// Everything that is known of the servers.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) missing: Vec<Missing>,
    /// Those that are here.
    pub(crate) servers: Vec<Measured>,
}

/// One server, and what was measured of it.
pub(crate) struct Measured {
    pub(crate) server: Name,
    pub(crate) row: Row,
    pub(crate) program: PathBuf,
    pub(crate) figures: Figures,
}

/// What was measured of one server. The names are those of `--json`.
#[derive(Default, Serialize)]
pub(crate) struct Figures {
    /// As seen in the process.
    #[serde(rename = "build")]
    pub(crate) linking: Option<Linking>,
    pub(crate) connections_per_s: Samples,
    pub(crate) connection_processor_us: Samples,
    pub(crate) session_p50_us: Samples,
    pub(crate) session_p99_us: Samples,
    pub(crate) messages_per_s: Samples,
    pub(crate) round_trip_p50_us: Samples,
    pub(crate) round_trip_p99_us: Samples,
    pub(crate) bulk_mib_per_s: Samples,
    pub(crate) idle_connection_kib: Samples,
    pub(crate) bytes_compared: u64,
    pub(crate) bytes_wrong: u64,
    /// The most that was left after any turn.
    zombies: usize,
    descriptors_left: usize,
    processes_left: usize,
    failures: Vec<Trouble>,
}

/// A value for each round. In `--json` and the table, their median.
#[derive(Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn median(&self) -> Option<f64> {
        Some(median(&self.0)).filter(|value| value.is_finite())
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.median().serialize(serializer)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.median().map_or("-".to_owned(), figure))
    }
}

/// Something that cannot be measured; it is not tried again.
#[derive(Serialize)]
struct Trouble {
    measure: &'static str,
    why: String,
}

impl Figures {
    /// Measures it, unless that has failed before.
    pub(crate) fn attempt(
        &mut self,
        measure: &'static str,
        act: impl FnOnce(&mut Self) -> Result<(), String>,
    ) {
        if self.failures.iter().any(|failure| failure.measure == measure) {
            return;
        }
        if let Err(why) = act(self) {
            say(&format!("{measure}: {why}"));
            self.failures.push(Trouble { measure, why });
        }
    }

    pub(crate) fn count_what_is_left(&mut self, before: Census, after: Census) {
        let more = |before: usize, after: usize| after.saturating_sub(before);
        self.zombies = self.zombies.max(after.zombies);
        self.descriptors_left =
            more(before.descriptors, after.descriptors).max(self.descriptors_left);
        self.processes_left = more(before.processes, after.processes).max(self.processes_left);
    }
}

/// A ratio, and its bound.
struct Target {
    of: Name,
    to: Name,
    measure: &'static str,
    samples: fn(&Figures) -> &Samples,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

const TARGETS: &[Target] = &[
    connections(Name::ForkStaticSandboxOff, Name::CFork, 0.95),
    connections(Name::ForkStatic, Name::CFork, 0.70),
    connections(Name::TemplateStatic, Name::CFork, 0.85),
    connections(Name::ForkSandboxOff, Name::CFork, 0.80),
    connections(Name::Fork, Name::CFork, 0.60),
    connections(Name::Fork, Name::Socat, 1.6),
    connections(Name::Template, Name::Tcpserver, 4.0),
    connections(Name::Prefork, Name::Go, 1.3),
    connections(Name::Thread, Name::Go, 1.0),
    connections(Name::Multiplex, Name::CEpoll, 0.95),
    Target {
        of: Name::Multiplex,
        to: Name::CEpoll,
        measure: "messages/s",
        samples: |figures| &figures.messages_per_s,
        wanted: Wanted::AtLeast(0.95),
    },
    memory(Name::Fork, Name::CFork, 1.3),
    memory(Name::ForkStatic, Name::CFork, 1.3),
    memory(Name::Template, Name::CFork, 1.3),
    memory(Name::TemplateStatic, Name::CFork, 1.3),
];

const fn connections(of: Name, to: Name, at_least: f64) -> Target {
    Target {
        of,
        to,
        measure: "connections/s",
        samples: |figures| &figures.connections_per_s,
        wanted: Wanted::AtLeast(at_least),
    }
}

const fn memory(of: Name, to: Name, at_most: f64) -> Target {
    Target {
        of,
        to,
        measure: "KiB/connection",
        samples: |figures| &figures.idle_connection_kib,
        wanted: Wanted::AtMost(at_most),
    }
}

/// What `--json` prints of a server.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "echo")]
struct EchoLine<'a> {
    server: String,
    name: &'static str,
    sandbox: &'static str,
    command: String,
    #[serde(flatten)]
    figures: &'a Figures,
}

/// What `--json` prints of a ratio: the median of those in the rounds.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "ratio")]
struct Ratio {
    #[serde(serialize_with = "by_name")]
    of: Name,
    #[serde(serialize_with = "by_name")]
    to: Name,
    measure: &'static str,
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    reached: bool,
}

fn by_name<S: Serializer>(server: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    name(*server).serialize(serializer)
}

impl Results {
    /// Those of [`TARGETS`] for which both servers are here.
    fn ratios(&self) -> Vec<Ratio> {
        let figures = |server: Name| {
            let measured = self.servers.iter().find(|it| it.server == server);
            measured.map(|measured| &measured.figures)
        };
        let ratio = |target: &Target| {
            let of = (target.samples)(figures(target.of)?);
            let to = (target.samples)(figures(target.to)?);
            // Of the same round: what slows down both does not change the ratio.
            let ratios = of.0.iter().zip(&to.0).map(|(of, to)| of / to);
            let ratio = Samples(ratios.collect()).median()?;
            let (at_least, at_most) = match target.wanted {
                Wanted::AtLeast(value) => (Some(value), None),
                Wanted::AtMost(value) => (None, Some(value)),
            };
            Some(Ratio {
                of: target.of,
                to: target.to,
                measure: target.measure,
                ratio,
                at_least,
                at_most,
                reached: at_least.is_none_or(|value| ratio >= value)
                    && at_most.is_none_or(|value| ratio <= value),
            })
        };
        TARGETS.iter().filter_map(ratio).collect()
    }

    pub(crate) fn json(&self) -> String {
        let mut lines = vec![serde_json::to_string(&self.machine)];
        lines.extend(self.missing.iter().map(serde_json::to_string));
        lines.extend(self.servers.iter().map(|measured| {
            serde_json::to_string(&EchoLine {
                server: name(measured.server),
                name: measured.row.name,
                sandbox: measured.row.sandbox(),
                command: measured.row.command(),
                figures: &measured.figures,
            })
        }));
        lines.extend(self.ratios().iter().map(serde_json::to_string));
        ndjson(lines)
    }

    pub(crate) fn table(&self) -> String {
        let mut out = self.machine.line();
        out += "medians of the rounds; times in microseconds; processor: user and system time of all \
                processes of\nthe server, for a connection; memory: for an idle connection, PSS of all \
                processes, without the\nkernel's; left at the end of a turn: zombies, more descriptors \
                (fds), more processes\n\n";
        out += &table_line(COLUMNS, COLUMNS.map(|(name, _)| name));
        for Measured { row, figures, .. } in &self.servers {
            let linking = figures.linking.map_or("-".to_owned(), |linking| linking.to_string());
            let cells: [&dyn fmt::Display; 15] = [
                &row.name,
                &linking,
                &row.sandbox(),
                &figures.connections_per_s,
                &figures.connection_processor_us,
                &figures.session_p50_us,
                &figures.session_p99_us,
                &figures.messages_per_s,
                &figures.round_trip_p50_us,
                &figures.round_trip_p99_us,
                &figures.bulk_mib_per_s,
                &figures.idle_connection_kib,
                &figures.zombies,
                &figures.descriptors_left,
                &figures.processes_left,
            ];
            out += &table_line(COLUMNS, cells);
        }
        let ratios = self.ratios();
        if !ratios.is_empty() {
            out += "\nratios, each the median of those in the rounds, and their bounds\n\n";
        }
        for ratio in ratios {
            let name = |server| Row::of(server).full_name();
            let (of, to, measure) = (name(ratio.of), name(ratio.to), ratio.measure);
            let wanted = match (ratio.at_least, ratio.at_most) {
                (Some(value), _) => format!("at least {value:.2}"),
                (_, value) => format!("at most {:.2}", value.unwrap_or_default()),
            };
            let reached = if ratio.reached { "reached" } else { "MISSED" };
            let ratio = ratio.ratio;
            let _ = writeln!(out, "{of:32}{ratio:6.2} x {to:17}{measure:16}{wanted}: {reached}");
        }
        for Measured { row, figures, .. } in &self.servers {
            for Trouble { measure, why } in &figures.failures {
                let _ = writeln!(out, "\nFAILED: {}: {measure}: {why}", row.full_name());
            }
        }
        for missing in &self.missing {
            let _ = writeln!(out, "\n{missing}");
        }
        out
    }

    /// Draws the charts into this folder: ours as it ships, beside the rivals.
    pub(crate) fn draw(&self, folder: &Path) -> Result<(), Failure> {
        create_folder(folder)?;
        let draw =
            |file: &str, title: &str, unit, less_is_better, samples: fn(&Figures) -> &Samples| {
                let bar = |measured: &Measured| {
                    Some(Bar {
                        name: measured.row.name.to_owned(),
                        is_ours: measured.row.is_ours(),
                        value: samples(&measured.figures).median()?,
                    })
                };
                let shown = self.servers.iter().filter(|measured| measured.row.is_default());
                let bars: Vec<Bar> = shown.filter_map(bar).collect();
                let path = folder.join(file);
                let title = format!("Echo servers, ours in green: {title}");
                write_file(&path, &bars::draw(&title, unit, less_is_better, &bars))?;
                say(&format!("a chart is in {}", path.display()));
                Ok(())
            };
        draw("echo-connections.svg", "new connections per second", "", false, |figures| {
            &figures.connections_per_s
        })?;
        draw(
            "echo-ping-pong.svg",
            "messages per second, there and back, on 16 connections",
            "",
            false,
            |figures| &figures.messages_per_s,
        )?;
        draw(
            "echo-memory.svg",
            "memory for an idle connection (less is better)",
            "KiB",
            true,
            |figures| &figures.idle_connection_kib,
        )
    }

    /// A rival may fail; ours may not, and no server may send back other bytes.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let has_failed = |measured: &&Measured| {
            let Measured { row, figures, .. } = measured;
            figures.bytes_wrong > 0 || row.is_ours() && !figures.failures.is_empty()
        };
        let failed = self.servers.iter().filter(has_failed);
        let failed: Vec<_> = failed.map(|measured| measured.row.full_name()).collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::failed(format!("failed: {}", failed.join("; "))))
        }
    }
}
