//! The machine that the figures are from.

use std::fs;

use serde::Serialize;

/// What the figures were measured on.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "machine")]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_mib: usize,
    kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or("unknown".to_owned(), |(_, model)| model.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: meminfo_mib("MemTotal:"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    /// The first line of a table.
    pub(crate) fn line(&self) -> String {
        let Machine { processor, processors, memory_mib, kernel } = self;
        format!("{processor}, {processors} processors, {memory_mib} MiB, Linux {kernel}\n")
    }
}

/// Returns a figure in /proc/meminfo, or 0 if it is not there.
pub(crate) fn meminfo_mib(name: &str) -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}
