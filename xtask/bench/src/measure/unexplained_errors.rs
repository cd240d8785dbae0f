//! Finds the errors of sessions that no killed worker explains.

use std::time::{Duration, Instant};

use crate::load::clients::Broken;

/// A process may go on for a moment after SIGKILL was sent, and take one more client.
const DIES_WITHIN: Duration = Duration::from_secs(1);

/// How many sessions a worker has at a time.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Serves {
    One,
    All,
}

/// Returns the errors that none of the kills explains.
///
/// A worker that serves one client explains one error. An error may have several kills to choose
/// from, so we go by time and give each kill the error whose session ended first: the others may
/// still be explained by a later kill. This way as many errors as possible are explained.
pub(crate) fn unexplained_errors(
    broken: Vec<Broken>,
    kills: &[Instant],
    serves: Serves,
) -> Vec<Broken> {
    let is_explained =
        |broken: &Broken, kill: Instant| broken.began <= kill + DIES_WITHIN && kill <= broken.ended;
    let mut left = broken;
    left.sort_by_key(|broken| broken.ended);
    for &kill in kills {
        match serves {
            Serves::All => left.retain(|broken| !is_explained(broken, kill)),
            Serves::One => {
                let first = left.iter().position(|broken| is_explained(broken, kill));
                first.map(|index| left.remove(index));
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of sessions with these beginnings and ends, and kills, in seconds.
    fn left(sessions: &[(u64, u64)], kills: &[u64], serves: Serves) -> Vec<String> {
        let start = Instant::now();
        let at = |seconds: &u64| start + Duration::from_secs(*seconds);
        let broken = sessions.iter().map(|(began, ended)| Broken {
            began: at(began),
            ended: at(ended),
            sentence: format!("{began}-{ended}"),
        });
        let kills: Vec<_> = kills.iter().map(at).collect();
        let left = unexplained_errors(broken.collect(), &kills, serves);
        left.into_iter().map(|broken| broken.sentence).collect()
    }

    #[test]
    fn only_a_kill_during_the_session_explains_its_error() {
        for serves in [Serves::One, Serves::All] {
            assert_eq!(left(&[(10, 20)], &[15], serves), [""; 0]);
            assert_eq!(left(&[(10, 20)], &[5, 25], serves), ["10-20"]);
            assert_eq!(left(&[(10, 20)], &[], serves), ["10-20"]);
        }
    }

    #[test]
    fn a_worker_with_one_client_explains_one_error() {
        let sessions = [(10, 20), (11, 19)];
        assert_eq!(left(&sessions, &[15], Serves::One), ["10-20"]);
        assert_eq!(left(&sessions, &[15], Serves::All), [""; 0]);
        assert_eq!(left(&sessions, &[15, 16], Serves::One), [""; 0]);
    }

    #[test]
    fn the_session_that_ends_first_goes_first() {
        // The first kill could explain either, the second one only the longer.
        let sessions = [(1, 30), (1, 10)];
        assert_eq!(left(&sessions, &[5, 20], Serves::One), [""; 0]);
    }
}
