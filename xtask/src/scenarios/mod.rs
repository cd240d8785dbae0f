//! The one list of scenarios, which everything else is made from.

mod commands;
mod descriptors;
mod echo_server;
mod exec_cmd;
mod fork;
mod goroutine_wait;
pub(crate) mod ledger;
mod pid_namespace;
mod plain_fork;
mod reexecution;
mod remains;
mod signals;
mod wait;
mod waiting;
mod zombie;

use crate::evidence::{Check, Evidence};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::worker::Worker;

/// In the order in which the chapter tells it.
pub(crate) const ALL: &[Scenario] = &[
    commands::REUSE,
    commands::PATH_AND_ARGS,
    commands::INHERITED,
    commands::GRANDCHILD,
    commands::STATUS,
    exec_cmd::THREE_WAYS,
    exec_cmd::SEPARATE,
    plain_fork::PLAIN_FORK,
    plain_fork::FORK_WITH_THREADS,
    plain_fork::SYSTEM_CALLS,
    fork::FORK,
    reexecution::FAILING_CHILD,
    reexecution::EXTRA_DESCRIPTORS,
    reexecution::SELF_EXE,
    zombie::ZOMBIE,
    remains::RESOURCES,
    remains::CAUSES_OF_END,
    zombie::KILL,
    zombie::KILL_PARENT,
    zombie::ORPHAN,
    remains::INIT_WAITS,
    remains::PID_REUSE,
    wait::WAIT,
    goroutine_wait::WAIT,
    waiting::THREE_WAYS,
    waiting::TRY_WAIT,
    pid_namespace::PID_NAMESPACE,
    signals::SIGNAL,
    signals::HANDLER_LIMITS,
    signals::SIGCHLD,
    signals::REMOVE_ZOMBIE,
    signals::IGNORE_SIGCHLD,
    signals::LATE_HANDLER,
    descriptors::ONE_CLOSE_TOO_FEW,
    descriptors::SHUTDOWN,
    echo_server::FIVE_CLIENTS,
    echo_server::PREFORK,
    echo_server::SPLIT,
];

/// A story, what it shows, and how one would notice if it did not.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) about: &'static str,
    /// How one runs the program by hand.
    pub(crate) by_hand: &'static str,
    pub(crate) program: &'static str,
    pub(crate) args: fn(Clock) -> Vec<String>,
    /// How long it takes with the chapter's own times.
    pub(crate) seconds: f64,
    /// What happens: what is started, waited for, looked at. Conditions only, no times.
    pub(crate) act: fn(&mut Worker) -> Result<(), Failure>,
    pub(crate) claims: &'static [Claim],
    pub(crate) control: Option<Control>,
}

/// A statement of the chapter, as far as this scenario shows it.
pub(crate) struct Claim {
    /// Whose number this is: see [`crate::scenarios::ledger`].
    pub(crate) id: &'static str,
    /// What holds on this machine, if it does.
    pub(crate) says: &'static str,
    /// Judges from the recorded events alone.
    pub(crate) judge: fn(&Evidence<'_>) -> Check,
}

/// The same story with a program that lacks what the claims are about. They must fail, or they
/// would hold whatever happens.
pub(crate) struct Control {
    /// What is different.
    pub(crate) about: &'static str,
    pub(crate) program: &'static str,
    pub(crate) args: fn(Clock) -> Vec<String>,
    /// The claims that must fail.
    pub(crate) refutes: &'static [&'static str],
}

pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// `--option value --option value …`, the values being times of the chapter.
fn times(clock: Clock, options: &[(&str, f64)]) -> Vec<String> {
    let options = options.iter();
    options
        .flat_map(|&(name, value)| [name.to_owned(), clock.seconds(value)])
        .collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::ledger;

    #[test]
    fn each_scenario_has_a_name_of_its_own_and_claims() {
        for (index, scenario) in ALL.iter().enumerate() {
            assert!(
                !scenario.claims.is_empty(),
                "{} claims nothing",
                scenario.name
            );
            assert!(ALL[..index].iter().all(|other| other.name != scenario.name));
        }
    }

    #[test]
    fn each_statement_is_judged_in_one_scenario() {
        let claims = ALL.iter().flat_map(|scenario| scenario.claims);
        let mut judged: Vec<&str> = claims.map(|claim| claim.id).collect();
        let mut stated: Vec<&str> = ledger::ALL.iter().map(|statement| statement.id).collect();
        judged.sort_unstable();
        stated.sort_unstable();
        assert_eq!(judged, stated);
    }

    #[test]
    fn a_control_refutes_claims_of_its_scenario() {
        for scenario in ALL {
            let Some(control) = &scenario.control else {
                continue;
            };
            assert!(
                !control.refutes.is_empty(),
                "the control of {} refutes nothing",
                scenario.name
            );
            for id in control.refutes {
                assert!(scenario.claims.iter().any(|claim| claim.id == *id), "{id}");
            }
        }
    }
}
