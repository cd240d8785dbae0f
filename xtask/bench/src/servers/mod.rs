//! Servers: started, watched, and ended.

pub(crate) mod compared;
pub(crate) mod control;
pub(crate) mod soaked;
mod start;
