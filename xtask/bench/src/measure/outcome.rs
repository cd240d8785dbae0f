//! What came of one turn of `soak` or `rolling`, and whether it held.

use serde::Serialize;

use crate::measure::ndjson;
use crate::output::{Failure, print};
use crate::process::kill_and_reap_all;

/// What came of one turn; also a line of `--json`.
pub(crate) trait Outcome: Serialize {
    /// Names what had its turn.
    fn name(&self) -> &str;

    fn held(&self) -> bool;

    /// Returns its row of the table, with what went wrong below it.
    fn text(&self) -> String;
}

/// Runs the turns one after the other, and prints what came of each. No process survives its turn.
///
/// # Errors
///
/// A failure that names all turns that did not hold.
pub(crate) fn run_turns<T, O: Outcome>(
    turns: impl IntoIterator<Item = T>,
    run: impl Fn(T) -> O,
    heading: &str,
    is_json: bool,
    seed: u64,
) -> Result<(), Failure> {
    if !is_json {
        print(heading)?;
    }
    let mut failed = Vec::new();
    for turn in turns {
        let outcome = run(turn);
        kill_and_reap_all();
        print(&match is_json {
            true => ndjson([serde_json::to_string(&outcome)]),
            false => outcome.text(),
        })?;
        if !outcome.held() {
            failed.push(outcome.name().to_owned());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let failed = failed.join(", ");
    Err(Failure::failed(format!("failed: {failed}; again with --seed {seed}")))
}
