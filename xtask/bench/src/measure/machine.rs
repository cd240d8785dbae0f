//! The machine that the figures are from.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// What the figures were measured on.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "machine")]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_mib: usize,
    kernel: String,
    /// Whether a hypervisor runs it, so that some instructions are slow.
    is_virtual: bool,
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
            is_virtual: is_virtual(&cpu),
        }
    }

    /// The first line of a table.
    pub(crate) fn line(&self) -> String {
        let Machine { processor, processors, memory_mib, kernel, is_virtual } = self;
        let kind = if *is_virtual { "virtual" } else { "physical" };
        format!("{processor}, {processors} processors, {memory_mib} MiB, Linux {kernel}, {kind}\n")
    }
}

/// Whether this is a virtual machine: on x86 the processor has a flag for it, elsewhere the
/// hypervisor may show itself in /sys or in the device tree.
fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
        || ["/sys/hypervisor/type", "/proc/device-tree/hypervisor"]
            .iter()
            .any(|path| Path::new(path).exists())
}

/// Returns a figure in /proc/meminfo, or 0 if it is not there.
pub(crate) fn meminfo_mib(name: &str) -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}
