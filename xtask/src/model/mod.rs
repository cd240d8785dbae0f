//! What everything else is about: processes, the events of a run, how fast it runs, and failures.

pub(crate) mod bilingual;
pub(crate) mod clock;
pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod markdown;
pub(crate) mod process;
