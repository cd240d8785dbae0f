//! Servers: started, watched, and ended.

pub(crate) mod compared;
pub(crate) mod control;
pub(crate) mod haproxy;
pub(crate) mod rolled;
pub(crate) mod soaked;
mod start;

use std::time::Duration;

/// How long a soak loads a server before the first rest, without kills and upgrades, so that the server has
/// what it needs. The control must not grow meanwhile: later rests are compared with the first.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
