//! `cargo xtask list`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::demo::EXIT_OUTPUT;
use crate::scenarios::ALL;

pub(crate) fn run() -> ExitCode {
    let mut out = String::new();
    for scenario in ALL {
        let claims: Vec<_> = scenario.claims.iter().map(|claim| claim.id).collect();
        let _ = writeln!(
            out,
            "{}  ({}; {} s in the chapter)",
            scenario.name,
            claims.join(" "),
            scenario.seconds
        );
        let _ = writeln!(
            out,
            "    {}\n    by hand: {}",
            scenario.about, scenario.by_hand
        );
        if let Some(twin) = &scenario.twin {
            let _ = writeln!(out, "    twin: {}", twin.about);
        }
    }
    match io::stdout().write_all(out.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask: cannot write to stdout: {error}");
            ExitCode::from(EXIT_OUTPUT)
        }
    }
}
