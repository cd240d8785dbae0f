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
    /// A time of the chapter, as an argument.
    pub(crate) fn seconds(self, chapters: f64) -> String {
        (chapters / self.speed).to_string()
    }

    /// Limits the speed, for a state that is short already with the chapter's times, and in which
    /// `ps` has to run while a busy machine does other things.
    pub(crate) fn at_most(self, speed: f64) -> Self {
        Self {
            speed: self.speed.min(speed),
        }
    }
}
