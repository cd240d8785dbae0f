//! What a service manager is told (sd_notify(3)). Without one, nobody is told anything.

use sd_notify::NotifyState;

use crate::log::log;

pub(crate) fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        log(format_args!("cannot tell the service manager: {error}"));
    }
}
