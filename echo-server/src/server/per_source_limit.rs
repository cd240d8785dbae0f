//! Counts the clients of each address, for `--max-per-source`.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::log::log_session;

/// How many clients of each address are being served. Without a limit, nothing is counted.
pub(crate) struct PerSourceLimit {
    max: Option<usize>,
    counts: HashMap<IpAddr, usize>,
}

impl PerSourceLimit {
    pub(crate) fn new(max: Option<usize>) -> Self {
        Self { max, counts: HashMap::new() }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.max.is_some()
    }

    /// Whether another client of this address is one too many. `elsewhere` is how many others serve.
    pub(crate) fn is_full(&self, source: IpAddr, elsewhere: usize) -> bool {
        let count = || elsewhere + self.counts.get(&source).copied().unwrap_or(0);
        self.max.is_some_and(|max| count() >= max)
    }

    pub(crate) fn add(&mut self, source: IpAddr) {
        if self.is_limited() {
            *self.counts.entry(source).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, source: IpAddr) {
        if let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
    }
}

/// Logs that a client is disconnected because its address has enough.
pub(crate) fn log_refusal(source: IpAddr) {
    log_session(format_args!("{source} refused: too many of its clients"));
}
