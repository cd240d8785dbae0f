//! How much faster than in the chapter the programs sleep.

#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) speed: f64,
}

impl Default for Clock {
    /// The demo's speed unless `--speed` or `--real-time` is given.
    fn default() -> Self {
        Self { speed: 10.0 }
    }
}

impl Clock {
    /// The words of a command line as for a shell, with its times scaled: `5s` is a time of the chapter and
    /// becomes `0.5` at speed 10. `5s+` is rounded up to whole seconds, as alarm(2) has no others.
    pub(crate) fn words(self, line: &str) -> Vec<String> {
        let words = shlex::split(line).unwrap_or_default();
        let scaled = |part| self.scaled(part);
        words.iter().map(|word| word.split(' ').map(scaled).collect::<Vec<_>>().join(" ")).collect()
    }

    fn scaled(self, word: &str) -> String {
        let (time, end) = match word.strip_suffix(';') {
            Some(time) => (time, ";"), // in a script for a shell
            None => (word, ""),
        };
        let seconds = |time: &str| Some(time.strip_suffix('s')?.parse::<f64>().ok()? / self.speed);
        let whole = time.strip_suffix('+').and_then(seconds).map(f64::ceil);
        match whole.or_else(|| seconds(time)) {
            // A third of a second is to be read, too, where the command is printed.
            Some(seconds) => format!("{}{end}", (seconds * 1000.0).round() / 1000.0),
            None => word.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_line_are_scaled_and_nothing_else() {
        let words =
            Clock { speed: 4.0 }.words("sh -c 'echo 5 a; sleep 5s; :' --sleep 10s --alarm 2s+ 0s");
        let expected =
            ["sh", "-c", "echo 5 a; sleep 1.25; :", "--sleep", "2.5", "--alarm", "1", "0"];
        assert_eq!(words, expected);
    }
}
