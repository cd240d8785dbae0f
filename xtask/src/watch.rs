//! `cargo xtask watch`: the processes of a run as they come, change and go.

use std::process::ExitCode;

use crate::company::{Company, Happening};
use crate::event::What;
use crate::options::Watch;
use crate::outcome::{Failure, cannot_write, clear_up, conclude};
use crate::output::{BOLD, Output, styled};
use crate::scenarios;
use crate::tree::Tree;

/// Runs what was asked for. Returns the exit code.
pub(crate) fn run(options: &Watch) -> ExitCode {
    let output = Output::picture(options.color);
    let result = perform(options, &output);
    output.finish();
    conclude(result)
}

/// Whether the story came to its end, and nothing is left of it.
fn perform(options: &Watch, output: &Output) -> Result<bool, Failure> {
    let Some(scenario) = scenarios::find(&options.scenario) else {
        return Ok(false); // which the options have ruled out
    };
    let title = match &scenario.twin {
        Some(twin) if options.twin => format!("{} The twin: {}.", scenario.about, twin.about),
        None if options.twin => {
            let name = scenario.name;
            return Err(Failure::Missing(format!("{name} has no twin")));
        }
        _ => scenario.about.to_owned(),
    };
    let mut company = Company::assemble(options.pace.clock(), options.programs.as_deref())?;
    let title = format!("{}. {title}\n", styled(BOLD, scenario.name));
    output.text(&title).map_err(cannot_write)?;
    let mut tree = Tree::default();
    let events = company.play_alone(scenario, options.twin, false, |happening| {
        // In the twin it is not what a moment is called: that is what must not come true there.
        if let Happening::Event(event) = happening
            && let Some(line) = tree.take(event)
            && !(options.twin && matches!(event.what, What::Snapshot { .. }))
        {
            output.text(&(line + "\n")).map_err(cannot_write)?;
        }
        output.status(tree.picture(output.status_size()));
        Ok(false)
    })?;
    output.finish();
    let left = clear_up();
    let any = |is_it: fn(&What) -> bool| events.iter().any(|event| is_it(&event.what));
    let missed = any(|what| matches!(what, What::Missed { .. }));
    let failed = any(|what| matches!(what, What::Failed { .. }));
    let as_it_must_be = match missed && options.twin {
        true => "What did not come true is what the twin lacks. ",
        false => "",
    };
    output
        .text(&format!("Over. {as_it_must_be}{left} processes left.\n"))
        .map_err(cannot_write)?;
    Ok(left == 0 && !failed && (!missed || options.twin))
}
