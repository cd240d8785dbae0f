//! What becomes of the zombies of a story, in words.

use super::{Arrow, Kind, STAGE, Story, seconds};

/// What became of a zombie.
#[derive(PartialEq, Eq)]
struct Fate {
    /// The number of the moment in which `ps` saw it first.
    moment: usize,
    /// The step in which it was sent a signal, and the moment in which it was a zombie still.
    signal: Option<(usize, usize)>,
    /// Steps.
    adopted: Option<usize>,
    end: Option<usize>,
    /// The lane of who waited for it.
    reaper: Option<usize>,
}

impl Story {
    /// The life of the zombies that `ps` was there to see: when they became that, and what removed
    /// them. Those with the same fate are told of together.
    pub(in crate::report) fn zombies(&self) -> Vec<String> {
        let mut fates: Vec<(Fate, Vec<usize>)> = Vec::new();
        let mut lanes: Vec<usize> = (0..self.lanes.len()).collect();
        lanes.sort_by_key(|lane| self.lanes[*lane].zombie_from());
        for lane in lanes {
            let Some(fate) = self.fate(lane) else {
                continue;
            };
            match fates.iter_mut().find(|(known, _)| *known == fate) {
                Some((_, lanes)) => lanes.push(lane),
                None => fates.push((fate, vec![lane])),
            }
        }
        let fates = fates.iter();
        fates
            .map(|(fate, lanes)| self.zombies_life(fate, lanes))
            .collect()
    }

    /// The number of the moment in which `ps` was there to see this zombie first.
    pub(in crate::report) fn moment_of_zombie(&self, number: usize) -> Option<usize> {
        let lane = &self.lanes[number];
        let to = lane.end.unwrap_or(self.steps.len());
        let steps = self.steps.get(lane.zombie_from()?..to)?;
        steps.iter().find_map(|step| step.moment)
    }

    fn fate(&self, number: usize) -> Option<Fate> {
        let moment = self.moment_of_zombie(number)?;
        let lane = &self.lanes[number];
        let from = lane.zombie_from()?;
        let to = lane.end.unwrap_or(self.steps.len());
        let is_adoption = |arrow: &Arrow| arrow.kind == Kind::Adoption && arrow.from == number;
        let adopted = (from..to).find(|step| self.steps[*step].arrows.iter().any(is_adoption));
        let is_signal = |arrow: &Arrow| arrow.kind == Kind::Signal && arrow.to == number;
        let signal = (from..to).find(|step| self.steps[*step].arrows.iter().any(is_signal));
        let seen_after = |signal: usize| {
            let moment = self.steps[signal..to].iter().find_map(|step| step.moment)?;
            Some((signal, moment))
        };
        let waits = |arrow: &&Arrow| arrow.kind == Kind::Wait && arrow.to == number;
        let waiter = |end: usize| self.steps[end].arrows.iter().find(waits);
        let reaper = lane.end.and_then(waiter).map(|arrow| arrow.from);
        Some(Fate {
            moment,
            signal: signal.and_then(seen_after),
            adopted,
            end: lane.end,
            reaper,
        })
    }

    fn zombies_life(&self, fate: &Fate, lanes: &[usize]) -> String {
        let time = |step: usize| seconds(self.steps[step].t);
        let from = lanes
            .iter()
            .filter_map(|lane| self.lanes[*lane].zombie_from());
        let from = time(from.max().unwrap_or(0));
        let (mut words, it) = match lanes {
            [one] => {
                let (role, pid) = (self.role(*one), self.lanes[*one].process.pid);
                let words = format!("Process {pid} ({role}) ends at {from} and is then a zombie");
                (words, "it")
            }
            _ => {
                let roles: Vec<&str> = lanes.iter().map(|lane| self.role(*lane)).collect();
                let (count, roles) = (lanes.len(), roles.join(", "));
                let words = format!(
                    "{count} processes ({roles}) have ended by {from} and are then zombies"
                );
                (words, "them")
            }
        };
        words += &format!(
            ": nobody has waited for {it}. See moment\u{a0}{}.",
            fate.moment
        );
        if let Some((step, moment)) = fate.signal {
            let (signal, time) = (&self.steps[step].word, time(step));
            let what = match lanes {
                [_] => "a zombie",
                _ => "zombies",
            };
            words += &format!(
                " {signal} ({time}) changes nothing: still {what} at moment\u{a0}{moment}."
            );
        }
        if let Some(step) = fate.adopted {
            let time = time(step);
            words += &format!(" When the parent has ended, the stage adopts {it} ({time}).");
        }
        let is_at_once = |end| fate.adopted.is_some_and(|step| time(step) == time(end));
        words += &match (fate.reaper, fate.end) {
            (Some(STAGE), Some(end)) if is_at_once(end) => {
                format!(" At once the stage waits for {it}, and that removes {it}.")
            }
            (Some(reaper), Some(end)) => {
                let who = if reaper == STAGE { "stage" } else { "parent" };
                let time = time(end);
                format!(" Then the {who} waits for {it} ({time}), and that removes {it}.")
            }
            (None, Some(end)) => {
                let time = time(end);
                let verb = if lanes.len() == 1 {
                    "it is"
                } else {
                    "they are"
                };
                format!(" No wait was seen; by {time} {verb} gone.")
            }
            (_, None) => format!(" Nobody waits for {it} in this run."),
        };
        words
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CHILD, PARENT, look, state, story};
    use crate::event::What;

    #[test]
    fn a_zombie_that_ps_saw_is_told_of_in_words() {
        let zombie = || state(CHILD, 'Z', PARENT.pid, 0);
        let begin = "Process 4711 (child) ends at 4.000 s and is then a zombie: nobody has waited \
                     for it. See moment\u{a0}1. ";
        let told = |rest: Vec<What>| story(rest, 0).zombies();
        let waited = told(vec![zombie(), look(), What::Gone { process: CHILD }]);
        assert_eq!(
            waited,
            [format!(
                "{begin}Then the parent waits for it (6.000 s), and that removes it."
            )]
        );
        let left = told(vec![zombie(), look()]);
        assert_eq!(left, [format!("{begin}Nobody waits for it in this run.")]);
        assert!(told(vec![look(), zombie()]).is_empty());
    }

    #[test]
    fn a_signal_to_a_zombie_is_told_of_with_what_ps_saw_afterwards() {
        let kill = What::Signal {
            process: CHILD,
            signal: "SIGKILL".to_owned(),
            error: None,
        };
        let zombie = state(CHILD, 'Z', PARENT.pid, 0);
        let told = |rest: Vec<What>| story(rest, 0).zombies().concat();
        let seen = told(vec![zombie.clone(), look(), kill.clone(), look()]);
        let sentence = "SIGKILL (6.000 s) changes nothing: still a zombie at moment\u{a0}2.";
        assert!(seen.contains(sentence), "{seen}");
        let unseen = told(vec![zombie, look(), kill]);
        assert!(!unseen.contains("SIGKILL"), "nobody looked: {unseen}");
    }
}
