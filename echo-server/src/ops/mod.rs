//! What it takes to operate the server. The lesson does without.

pub(crate) mod service_manager;

pub(crate) mod sandbox;

pub(crate) mod upgrade;
