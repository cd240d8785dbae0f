//! Tells a service manager about the server (sd_notify(3)).

use sd_notify::NotifyState;

use crate::log::log;

/// Tells the news. Without a service manager, does nothing.
pub(crate) fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        log(format_args!("cannot tell the service manager: {error}"));
    }
}
