//! `cargo xtask completions bash`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use clap_complete::Shell;

use crate::model::failure::Failure;
use crate::view::output;

/// The command that is completed. For `cargo xtask`, shells ask cargo, which does not know our options.
const NAME: &str = "xtask";

/// Accepts the shells for which the script has been tried.
pub(crate) fn shells() -> impl TypedValueParser<Value = Shell> {
    PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse())
}

/// Prints the script for our options.
pub(crate) fn run(shell: Shell, mut options: Command) -> Result<bool, Failure> {
    let mut out = match shell {
        Shell::Fish => format!("function {NAME}\n    cargo xtask $argv\nend\n\n"),
        _ => format!("{NAME}() {{ cargo xtask \"$@\"; }}\n\n"),
    }
    .into_bytes();
    clap_complete::generate(shell, &mut options, NAME, &mut out);
    let mut script = String::from_utf8_lossy(&out).into_owned();
    if let Shell::Zsh = shell {
        // The first line is only for a file in $fpath.
        script = script.replace("#compdef xtask\n", "");
    }
    if let Shell::Fish = shell {
        script += &positional_for_fish(&options);
    }
    output::print(&script).map(|()| true)
}

/// Completes positional arguments, which clap leaves out for fish.
fn positional_for_fish(options: &Command) -> String {
    let mut out = String::new();
    for command in options.get_subcommands() {
        let values = command.get_positionals().flat_map(Arg::get_possible_values);
        let values: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
        if !values.is_empty() {
            let (command, values) = (command.get_name(), values.join(" "));
            out += &format!(
                "complete -c {NAME} -n '__fish_seen_subcommand_from {command}' -f -a '{values}'\n"
            );
        }
    }
    out
}
