//! `cargo xtask list`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::demo::EXIT_OUTPUT;
use crate::scenarios::{ALL, Scenario};

pub(crate) fn run() -> ExitCode {
    let mut out = String::new();
    for scenario in ALL {
        let Scenario {
            name,
            about,
            by_hand,
            seconds,
            claims,
            twin,
            ..
        } = scenario;
        let _ = writeln!(out, "{name}  ({seconds} s in the chapter)");
        let _ = writeln!(out, "    {about}\n    by hand: {by_hand}");
        for claim in *claims {
            let _ = writeln!(out, "    {}: {}", claim.id, claim.says);
        }
        if let Some(twin) = twin {
            let _ = writeln!(
                out,
                "    twin: {}, so that {} must fail",
                twin.about,
                twin.refutes.join(", ")
            );
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
