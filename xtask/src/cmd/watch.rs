//! `cargo xtask watch`: the processes of a run as they come, change and go.

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cmd::{Running, clear_up};
use crate::model::event::{Event, What};
use crate::model::failure::Failure;
use crate::runner::RunEvent;
use crate::scenarios::{self, Scenario};
use crate::view::output::{self, BOLD, Output, styled};
use crate::view::tree::Tree;

/// Run a scenario, and show its processes as they come, change and go
///
/// Prints a line for each change; on a terminal, it draws the tree of processes below, over and over
/// again. Zombies are marked.
///
/// Exit codes: 0 the run came to its end (that of a control need not), 1 it did not, and those of
/// demo.
#[derive(Args)]
pub(crate) struct Watch {
    /// Which scenario; `cargo xtask list` describes them
    #[arg(value_parser = PossibleValuesParser::new(scenarios::all().map(|scenario| scenario.name)))]
    pub(crate) scenario: String,

    /// Run its control instead: a run in which the claims must fail
    #[arg(long)]
    pub(crate) control: bool,

    #[command(flatten)]
    pub(crate) running: Running,
}

/// Returns whether the run came to its end, and nothing is left of it.
pub(crate) fn run(options: &Watch) -> Result<bool, Failure> {
    output::choose_color(options.running.color);
    let output = Output::tree();
    let result = watch(options, &output);
    output.finish();
    result
}

fn watch(options: &Watch, output: &Output) -> Result<bool, Failure> {
    let Some(scenario) = scenarios::find(&options.scenario) else {
        return Ok(false); // clap does not accept any other name
    };
    let about = about(scenario, options.control)?;
    let runner = options.running.runner()?;
    output.text(&format!("{}. {about}\n", styled(BOLD, scenario.name)))?;
    let mut tree = Tree::default();
    let events = runner.run_alone(scenario, options.control, false, None, &mut |event| {
        // In the control, the title of a snapshot is what must not come true.
        if let RunEvent::Event(event) = event
            && let Some(line) = tree.take(event)
            && !(options.control && matches!(event.what, What::Snapshot(_)))
        {
            output.text(&(line + "\n"))?;
        }
        output.status(tree.draw(output.status_size()));
        Ok(false)
    })?;
    output.finish();
    let left = clear_up();
    let any = |is_it: fn(&Event) -> bool| events.iter().any(is_it);
    let missed = any(|event| matches!(event.what, What::Missed { .. }));
    let failed = any(|event| matches!(event.what, What::Failed { .. }));
    let as_expected = match missed && options.control {
        true => "A condition did not come true, because this is the control. ",
        false => "",
    };
    output.text(&format!("Over. {as_expected}{left} processes left.\n"))?;
    Ok(left == 0 && !failed && (!missed || options.control))
}

fn about(scenario: &Scenario, control: bool) -> Result<String, Failure> {
    let (name, without) = (scenario.name, scenario.without());
    match scenario.has_control() {
        _ if !control => Ok(scenario.about().to_string()),
        true => Ok(format!("{} The control: {without}.", scenario.about())),
        false => Err(Failure::Missing(format!("{name} has no control"))),
    }
}
